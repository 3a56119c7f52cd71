"""Distances between images and their nearest neighbours, in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from uldnum._util.typing import Array

__all__ = ["blocks", "nearest", "rounding"]

# Largest number of distances in a block.
BLOCK = 2**23


def blocks(x: Array, y: Array) -> Iterator[tuple[slice, Array]]:
    """Yield ranges of rows of x and their squared distances from all y, arrays of shape (rows, len(y)).

    Distances that are zero within rounding errors are exactly zero.
    """
    rows = max(1, BLOCK // len(y))
    centre = y.mean(axis=0)
    x, y = x - centre, y - centre
    squares, tiny = np.einsum("if,if->i", y, y), rounding(x, y)
    for first in range(0, len(x), rows):
        part = x[first : first + rows]
        distances = part @ (-2 * y.T)
        distances += squares
        distances += np.einsum("if,if->i", part, part)[:, None]
        distances[distances <= tiny] = 0
        yield slice(first, first + len(part)), distances


def rounding(x: Array, y: Array) -> float:
    """Return a bound of the rounding errors of the squared distances between x and y, which may be moved together."""
    largest = max(float(np.max(np.sum((z - y.mean(axis=0)) ** 2, axis=1))) for z in (x, y))
    return 8 * (x.shape[1] + 4) * float(np.finfo(float).eps) * largest


def nearest(x: Array, y: Array) -> Array:
    """Return the squared distance of each x from the nearest y, shape (len(x),)."""
    return np.concatenate([distances.min(axis=1) for _, distances in blocks(x, y)])

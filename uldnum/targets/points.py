"""Draws from mixtures, compiled."""

from __future__ import annotations

import numpy as np

from uldnum._util.typing import Array
from uldnum.jit.compiling import compiled

__all__ = ["mixture_points"]

# At least so many cells for each component has the table that says where to look for the component of a point.
GUIDE = 4


def mixture_points(weights: Array, means: Array, factors: Array, u: Array, z: Array) -> Array:
    """Return the points of a mixture that uniform and normal numbers stand for, float64, shape (n, d).

    Component k has u between the sums of the weights before it and up to it. A table says where to begin to look (Chen
    & Asau 1974): a binary search among random numbers mispredicts its branches, and takes longer than all the rest.

    Parameters
    ----------
    weights, means : arrays, shapes (K,) and (K, d)
        Of the components.
    factors : array, shape (K, d, 1) or (K, d, d)
        Their standard deviations, or Cholesky factors of their covariances.
    u, z : arrays, shapes (n,) and (n, d)
        Uniform numbers below 1, and normal ones.
    """
    sums, cells = np.cumsum(weights)[:-1], GUIDE << len(weights).bit_length()  # a power of two: u times it is exact
    x, guide = np.empty((len(u), means.shape[1])), np.searchsorted(sums, np.arange(cells) / cells)
    place(x, sums, guide, means, factors, u, z)
    return x


@compiled
def place(x, sums, guide, means, factors, u, z):  # type: ignore[no-untyped-def]
    """Fill x with the points."""
    n, d = x.shape
    columns = factors.shape[2]
    for i in range(n):
        k = guide[int(u[i] * len(guide))]
        while k < len(sums) and sums[k] < u[i]:
            k += 1
        for a in range(d):
            x[i, a] = means[k, a]
            for q in range(columns):
                x[i, a] += factors[k, a, q] * z[i, q if columns > 1 else a]

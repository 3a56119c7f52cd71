"""Checks of the arguments of image metrics, and their division into chains and batches of chains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from uldnum._util.arguments import numbers, reals
from uldnum._util.typing import Array
from uldnum.diagnostics.jackknife import BATCHES, Bias

__all__ = [
    "batches_of",
    "by_chain",
    "checked_classes",
    "checked_features",
    "evenly_spaced",
    "held_out_part",
    "with_floor",
]


def checked_features(name: str, value: Any, width: int | None = None) -> Array:
    """Return features of at least two images as float64, shape (n, f), or raise.

    ``width`` is the number f of features of the other images.
    """
    found = reals(name, value)
    if found.ndim != 2 or len(found) < 2 or not found.shape[1]:
        raise ValueError(f"{name}: must have shape (images, features) with at least 2 images, got {found.shape}")
    if width is not None and found.shape[1] != width:
        raise ValueError(f"{name}: must have {width} features, as many as the other images, got {found.shape[1]}")
    wrong = int(np.sum(~np.isfinite(found).all(axis=1)))
    if wrong:
        raise ValueError(f"{name}: must be finite, got NaN or infinite features of {wrong} of {len(found)} images")
    return np.asarray(found, dtype=float)


def checked_classes(name: str, value: Any) -> Array:
    """Return the classes of at least two images as non-negative integers, shape (n,), or raise."""
    return checked_integers(name, value, "class")


def checked_integers(name: str, value: Any, what: str) -> Array:
    """Return non-negative integers of at least two images, shape (n,), or raise."""
    found = numbers(name, value)
    if found.ndim != 1 or len(found) < 2:
        raise ValueError(f"{name}: must hold a {what} for each of at least 2 images, got shape {found.shape}")
    whole = found.astype(np.int64)
    if np.any(whole != found) or np.any(whole < 0):
        raise ValueError(f"{name}: must be non-negative integers")
    return whole


def by_chain(values: Array, chains: Any) -> Array:
    """Return values of images grouped by chain, (n, ...) -> (chains, images of a chain, ...), or raise.

    ``chains`` holds the number of the chain of each image. None stands for independent images. The order of the chains
    is random but fixed, because a data set may be sorted or periodic, and subsets and batches are taken in this order.
    """
    if chains is None:
        return shuffled(values)[:, None]
    owner = checked_integers("chains", chains, "chain")
    if len(owner) != len(values):
        raise ValueError(f"chains: must have one entry for each of the {len(values)} images, got {len(owner)}")
    sizes = np.unique(owner, return_counts=True)[1]
    if np.any(sizes != sizes[0]):
        raise ValueError(
            f"chains: must have the same number of images in every chain, got {sizes.min()} to {sizes.max()} images"
        )
    if len(sizes) < 2:
        raise ValueError("chains: must contain at least 2 chains, from which errors are estimated, got 1")
    return shuffled(values[np.argsort(owner, kind="stable")].reshape(len(sizes), sizes[0], *values.shape[1:]))


def shuffled(values: Array) -> Array:
    """Return the rows in a fixed random order."""
    return values[np.random.default_rng(0).permutation(len(values))]


def batches_of(*chains: int, most: int = BATCHES) -> int:
    """Return the number of batches into which sets with the given numbers of chains are divided.

    Chain c of a set belongs to batch c modulo this number.
    """
    return min(most, *chains)


def evenly_spaced(values: Array, number: int) -> Array:
    """Return a given number of evenly spaced rows."""
    return values[np.arange(number) * len(values) // number]


def held_out_part(values: Array, number: int) -> Array:
    """Return a given number of held-out images, grouped as independent chains, or raise if there are fewer."""
    if len(values) < number:
        raise ValueError(
            f"held_out: must have at least {number} images, as many as the samples that are compared, got {len(values)}"
        )
    return by_chain(values, None)[:number]


def with_floor(measure: Callable[[Array], tuple[Any, Any]], samples: Array, held_out: Array | None) -> Bias:
    """Return a metric of samples as a `Bias` whose floor is the metric of held-out images, or NaN without them.

    ``measure`` maps images grouped by chain to the value and its standard error.
    """
    value, error = measure(samples)
    floor = np.nan if held_out is None else measure(held_out)[0]
    return Bias(np.asarray(value), np.asarray(error), np.asarray(floor))

"""Errors of nonlinear statistics: the delete-one-batch jackknife over independent batches of chains."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from uldnum.typing import Array

__all__ = ["BATCHES", "Bias", "jackknife", "noise_of_halves", "split"]


# Chains are left out, and halved, in so many batches at most.
BATCHES = 32


class Bias(NamedTuple):
    """A bias, its standard error, and its noise floor: what the same statistic shows without any bias."""

    value: Array
    error: Array
    floor: Array


def jackknife(statistic: Callable[[Array], Array], batches: int) -> tuple[Array, Array]:
    """Return a statistic of all batches and its standard error.

    Parameters
    ----------
    statistic : callable
        ``statistic(weights)`` with weights 0 or 1 of shape (batches,): the statistic of the batches of weight 1.
    batches : int
        Number B of independent batches; with one the error is NaN.

    Notes
    -----
    ``error^2 = (B - 1)/B sum_b (T_b - mean T)^2`` with T_b the statistic without batch b (Efron & Stein 1981).
    """
    everything = np.asarray(statistic(np.ones(batches)))
    if batches < 2:
        return everything, np.full_like(everything, np.nan, dtype=float)
    without = np.array([statistic(1.0 - np.eye(batches)[b]) for b in range(batches)])
    spread = ((without - without.mean(axis=0)) ** 2).sum(axis=0)
    return everything, np.sqrt((batches - 1) / batches * spread)


def noise_of_halves(statistic: Callable[[Array, Array], Array], batches: int) -> Array:
    """Root mean square of ``statistic(half, other half)`` over 16 ways to halve the batches.

    Half the difference of two halves of independent batches has the noise of the mean of all of them, and no bias. The
    halves are weights 0 or 1 of shape (batches,); with one batch the answer is NaN.
    """
    if batches < 2:
        return np.full_like(np.asarray(statistic(np.ones(1), np.ones(1))), np.nan, dtype=float)
    rng = np.random.default_rng(0)
    halves = [rng.permutation(np.arange(batches) % 2).astype(float) for _ in range(16)]
    return np.sqrt(np.mean([np.asarray(statistic(half, 1 - half)) ** 2 for half in halves], axis=0))


def split(x: Array, batches: int) -> list[Array]:
    """Split samples of shape (chains, d) or (draws, chains, d) into batches of chains, shape (n, d) each."""
    chains_first = np.moveaxis(x, -2, 0)
    parts = np.array_split(chains_first, min(batches, len(chains_first)))
    return [part.reshape(-1, x.shape[-1]) for part in parts]

"""Distances between samples of a run and its target: sliced Wasserstein, kernels, mode weights.

Each takes samples ``x`` of shape (chains, d), such as the final states of a run, or (draws, chains, d), such as its
trace. Chains are independent, so errors come from batches of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from uldnum.diagnostics.jackknife import Bias, jackknife, split
from uldnum.targets import GaussianMixture, VectorTarget
from uldnum.typing import Array

__all__ = ["kernel_stein_discrepancy", "maximum_mean_discrepancy", "mode_weights", "sliced_wasserstein_2"]

BATCHES = 32
DIRECTIONS = 64

# A noise floor is the root mean square over this many sets of exact draws in the place of x.
REPEATS = 4


def sliced_wasserstein_2(x: Array, target: VectorTarget, *, seed: int = 0) -> Bias:
    """Sliced Wasserstein-2 distance to as many exact draws, root mean square over 64 random directions.

    Along each direction it is the root mean square difference of quantiles (Bonneel et al. 2015). The floor is that of
    exact draws in the place of x.

    Parameters
    ----------
    x : array, shape (chains, d) or (draws, chains, d)
    target : GaussianMixture or UserTarget
        With a sampler.
    seed : int
        Seed of the draws and of the directions.
    """
    directions = np.random.default_rng(seed).normal(size=(x.shape[-1], DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)

    def distance(parts: list[Array], draws: list[Array]) -> Array:
        ordered, exact = (np.sort(np.concatenate(side) @ directions, axis=0) for side in (parts, draws))
        return np.sqrt(np.mean((ordered - exact) ** 2))

    batches = split(x, BATCHES)
    n, ends = sizes_of(batches)
    draws = np.split(target.sample(n, seed, n), ends)
    # Leaving out a batch leaves out its draws, whose noise is part of the error.
    value, error = jackknife(lambda w: distance(chosen(batches, w), chosen(draws, w)), len(batches))
    return Bias(value, error, noise_floor(lambda other: distance([other], draws), target, n, seed))


def maximum_mean_discrepancy(x: Array, target: VectorTarget, *, seed: int = 0) -> Bias:
    """Squared maximum mean discrepancy to as many exact draws y, Gaussian kernel ``exp(-|x - y|^2/(2 l^2))``.

    Without self-pairs (Gretton et al. 2012, eq. 3), so its mean without bias is 0 and it may be negative; l^2 is the
    trace of the target's covariance. The floor is that of exact draws in the place of x.

    Parameters
    ----------
    x : array, shape (chains, d) or (draws, chains, d)
        The cost grows as the square of the number of samples.
    target : GaussianMixture or UserTarget
        With a sampler and a standard deviation.
    seed : int
        Seed of the draws.
    """
    width = 2 * np.sum(np.asarray(target.standard_deviation) ** 2)

    def kernel(a: Array, b: Array) -> Array:
        square = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1) - 2 * a @ b.T
        return np.exp(-np.maximum(square, 0) / width)

    def squared(batches: list[Array], draws: list[Array]) -> tuple[Array, Array]:
        xx, xy, yy = (
            pair_sums(kernel, batches, batches),
            pair_sums(kernel, batches, draws),
            pair_sums(kernel, draws, draws),
        )
        sizes = np.array([len(batch) for batch in batches], dtype=float)

        def statistic(weights: Array) -> Array:
            n = weights @ sizes
            same = (weights @ (xx + yy) @ weights - 2 * n) / (n * (n - 1))  # k(x, x) = 1 on the diagonal
            return np.asarray(same - 2 * (weights @ xy @ weights) / n**2)

        return jackknife(statistic, len(batches))

    batches = split(x, BATCHES)
    n, ends = sizes_of(batches)
    draws = np.split(target.sample(n, seed, n), ends)
    value, error = squared(batches, draws)
    return Bias(value, error, noise_floor(lambda other: squared(np.split(other, ends), draws)[0], target, n, seed))


def kernel_stein_discrepancy(x: Array, target: VectorTarget) -> Bias:
    """Squared kernelised Stein discrepancy from the score alone, for targets without a sampler.

    Inverse multiquadric kernel ``(1 + |x - y|^2/l^2)^(-1/2)`` (Gorham & Mackey 2017), without self-pairs, so its mean
    without bias is 0 and it may be negative; l^2 is the trace of the samples' covariance. The floor is its standard
    error without bias, from the mean square of the Stein kernel.

    Parameters
    ----------
    x : array, shape (chains, d) or (draws, chains, d)
        The cost grows as the square of the number of samples.
    target : object
        With ``score(x)``.
    """
    batches = split(x, BATCHES)
    everyone = np.concatenate(batches)
    d, width = x.shape[-1], float(everyone.var(axis=0).sum())

    def stein(a: Array, b: Array) -> Array:
        xa, sa, xb, sb = a[:, :d], a[:, d:], b[:, :d], b[:, d:]
        square = np.maximum(np.sum(xa**2, axis=1)[:, None] + np.sum(xb**2, axis=1) - 2 * xa @ xb.T, 0)
        base = 1 + square / width
        # With g = x - y: grad_x k = slope g, grad_y k = -slope g, div_x grad_y k = -d slope - curve |g|^2.
        slope, curve = -(base**-1.5) / width, 3 * base**-2.5 / width**2
        along = np.sum(sa * xa, axis=1)[:, None] - sa @ xb.T + np.sum(sb * xb, axis=1) - xa @ sb.T  # (s_x - s_y).g
        return base**-0.5 * (sa @ sb.T) - slope * (along + d) - curve * square

    with_scores = [np.concatenate([batch, target.score(batch)], axis=1) for batch in batches]
    sums = pair_sums(stein, with_scores, with_scores)
    alone = np.array([np.trace(stein(batch, batch)) for batch in with_scores])
    sizes = np.array([len(batch) for batch in batches], dtype=float)

    def statistic(weights: Array) -> Array:
        n = weights @ sizes
        return np.asarray((weights @ sums @ weights - weights @ alone) / (n * (n - 1)))

    value, error = jackknife(statistic, len(batches))
    n = sizes.sum()
    squares = pair_sums(lambda a, b: stein(a, b) ** 2, with_scores, with_scores).sum()
    return Bias(value, error, np.sqrt(2 * squares) / n**2)


def mode_weights(x: Array, target: GaussianMixture, *, seed: int = 0) -> Bias:
    """Total variation of the mode weights: ``1/2 sum_j |E[r_j(x)] - w_j|`` with the responsibilities r_j of the modes.

    The responsibilities average to the weights exactly when x has the target's law. The floor is that of as many exact
    draws.

    Parameters
    ----------
    x : array, shape (chains, d) or (draws, chains, d)
    target : GaussianMixture
    seed : int
        Seed of the draws.
    """
    batches = split(x, BATCHES)
    n, _ = sizes_of(batches)

    def distance(shares: Array) -> Array:
        return np.abs(shares - target.weights).sum() / 2

    sums = np.array([target.responsibilities(batch).sum(axis=0) for batch in batches])
    sizes = np.array([len(batch) for batch in batches], dtype=float)
    value, error = jackknife(lambda weights: distance(weights @ sums / (weights @ sizes)), len(batches))
    floor = noise_floor(lambda draws: distance(target.responsibilities(draws).mean(axis=0)), target, n, seed)
    return Bias(value, error, floor)


def noise_floor(statistic: Callable[[Array], Array], target: VectorTarget, n: int, seed: int) -> Array:
    """Root mean square of a statistic over sets of n exact draws, none of which are initial states 0 ... 2 n - 1."""
    values = [statistic(target.sample(n, seed, n * (2 + repeat))) for repeat in range(REPEATS)]
    return np.sqrt(np.mean(np.square(values), axis=0))


def sizes_of(batches: list[Array]) -> tuple[int, Array]:
    """Return the number of samples in all batches, and where to split as many others alike."""
    ends = np.cumsum([len(batch) for batch in batches])
    return int(ends[-1]), ends[:-1]


def chosen(batches: list[Array], weights: Array) -> list[Array]:
    """Return the batches of weight 1."""
    return [batch for batch, weight in zip(batches, weights, strict=True) if weight]


def pair_sums(kernel: Callable[[Array, Array], Array], a: list[Array], b: list[Array]) -> Array:
    """Return the sums of a kernel over all pairs of each two batches, shape (len(a), len(b))."""
    return np.array([[kernel(left, right).sum() for right in b] for left in a])

"""Distances between samples of a run and its target: sliced Wasserstein, kernels, mode weights.

Each takes samples ``x`` of shape (chains, d), such as the final states of a run at one step size, or (draws, chains,
d), such as its trace. Chains are independent, so errors come from batches of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import hadamard

from uldnum._util.arguments import whole_number
from uldnum._util.typing import Array
from uldnum.diagnostics.arguments import matching, modes_of, positions, scored
from uldnum.diagnostics.jackknife import BATCHES, Bias, euclidean_norm, other_norm, split, squared_norm
from uldnum.targets import Target, lacking

__all__ = ["kernel_stein_discrepancy", "maximum_mean_discrepancy", "mode_weights", "sliced_wasserstein_2"]

DIRECTIONS = 64

# Exact draws have a key of their own, so that they are never the initial states of a run with the same seed.
REFERENCE = 1 << 63


def sliced_wasserstein_2(x: Array, target: Target | str, *, seed: int = 0) -> Bias:
    """Sliced Wasserstein-2 distance to as many exact draws: root mean square over directions.

    Along each direction it is the root mean square difference of quantiles (Bonneel et al. 2015). The directions are
    random orthonormal frames, at least 64 in all (one where d is 1), fixed by the seed: the distance is that over these
    directions. Error
    and floor include the noise of the draws. They follow from the difference of quantiles in halves of the batches of
    chains, in balanced halvings (McCarthy 1969), since the jackknife fails for quantiles.

    Parameters
    ----------
    x : array, shape (chains, d) or (draws, chains, d)
        At least two chains.
    target : str, GaussianMixture, UserTarget or another Target
        With a sampler.
    seed : int
        Seed of the draws and of the directions, from 0 to 2^64 - 1.

    Returns
    -------
    Bias
        Numbers in units of x; NaN if a position is. The value is not negative, and of exact draws of the order of the
        floor. Error and floor as in `euclidean_norm`; of two chains the error is NaN.

    Raises
    ------
    ValueError
        If x has another shape, another d than the target, or fewer than two chains, or the target no sampler.
    """
    x, target = checked(x, target)
    seed = whole_number("seed", seed, 0, 2**64 - 1)
    batches = split(x, 2 ** int(np.log2(min(BATCHES, x.shape[-2]))))
    draws = reference(target, np.array([len(batch) for batch in batches]), seed)
    d, halvings = x.shape[-1], hadamard(len(batches))[1:]
    frames = np.random.default_rng(seed).normal(size=(-(-DIRECTIONS // d) if d > 1 else 1, d, d))
    directions = np.concatenate(list(np.linalg.qr(frames).Q), axis=1).T
    square, projections, products = np.zeros(()), np.zeros(len(halvings)), np.zeros((len(halvings),) * 2)
    for direction in directions:
        gap, deviations = quantile_gaps(
            [one @ direction for one in batches], [one @ direction for one in draws], halvings
        )
        square += gap @ gap
        projections += deviations @ gap
        products += deviations @ deviations.T
    each = len(directions) * len(gap)
    return euclidean_norm(
        square / each, projections / each / np.sqrt(len(halvings)), products / each / len(halvings), len(batches)
    )


def quantile_gaps(one: list[Array], other: list[Array], halvings: Array) -> tuple[Array, Array]:
    """Return differences of the quantiles of two samples in batches, and half of what they differ in halves of them.

    A half of the batches of one sample goes with the half of the other. Shapes (n,) and (halvings, n).
    """
    n = sum(map(len, one))
    levels = (np.arange(n) + 0.5) / n

    def gaps(weights: Array) -> Array:
        left, right = (np.sort(np.concatenate(chosen(side, weights))) for side in (one, other))
        return np.interp(levels, (np.arange(len(left)) + 0.5) / len(left), left - right)

    return gaps(np.ones(len(one))), np.array([(gaps(row > 0) - gaps(row < 0)) / 2 for row in halvings])


def maximum_mean_discrepancy(x: Array, target: Target | str, *, seed: int = 0) -> Bias:
    """Squared maximum mean discrepancy to as many exact draws y, Gaussian kernel ``k = exp(-|x - y|^2/(2 l^2))``.

    ``E k(x, x') + E k(y, y') - 2 E k(x, y)`` (Gretton et al. 2012, eq. 3), without pairs within a batch of chains,
    which the autocorrelation of a trace would bias: its mean without bias is 0, and it may be negative. l^2 is the
    trace of the target's covariance. Error and floor as in `u_statistic`.

    Parameters
    ----------
    x : array, shape (chains, d) or (draws, chains, d)
        At least two chains, three for an error. The cost grows as the square of the number of samples.
    target : str, GaussianMixture, UserTarget or another Target
        With a sampler and a standard deviation.
    seed : int
        Seed of the draws, from 0 to 2^64 - 1.

    Returns
    -------
    Bias
        Numbers without unit; NaN if a position is.

    Raises
    ------
    ValueError
        If x has another shape, another d than the target, or fewer than two chains, or the target no sampler or no
        known standard deviation.
    """
    x, target = checked(x, target)
    seed = whole_number("seed", seed, 0, 2**64 - 1)
    width = 2 * np.sum(np.asarray(target.standard_deviation) ** 2)
    if not np.isfinite(width):
        raise lacking(target, "its standard deviation", "standard_deviation")

    def kernel(a: Array, b: Array) -> Array:
        square = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1) - 2 * a @ b.T
        return np.exp(-np.maximum(square, 0) / width)

    batches, sizes = batches_of(x)
    draws = reference(target, sizes, seed)
    crossed = pair_sums(kernel, batches, draws)
    sums = pair_sums(kernel, batches, batches) + pair_sums(kernel, draws, draws) - crossed - crossed.T
    return u_statistic(sums, sizes)


def kernel_stein_discrepancy(x: Array, target: Any) -> Bias:
    """Squared kernelised Stein discrepancy from the score alone, for targets without a sampler.

    The mean over pairs of ``k s_x.s_y + s_x.grad_y k + s_y.grad_x k + div_x grad_y k``, s_x the score at x, with the
    inverse multiquadric kernel ``k = (1 + |x - y|^2/l^2)^(-1/2)`` (Gorham & Mackey 2017), without pairs within a batch
    of chains: its mean without bias is 0, and it may be negative. l^2 is the trace of the samples' covariance. Error
    and floor as in `u_statistic`.

    Parameters
    ----------
    x : array, shape (chains, d) or (draws, chains, d)
        At least two chains, three for an error. The cost grows as the square of the number of samples.
    target : str, GaussianMixture, UserTarget, or any object with ``score(x)``, (n, d) -> (n, d)
        What is sampled.

    Returns
    -------
    Bias
        Numbers in units of 1/x^2; NaN if a position is.

    Raises
    ------
    ValueError
        If x has another shape or fewer than two chains.
    """
    x = positions(x)
    target = scored(target, x.shape[-1:])
    batches, sizes = batches_of(x)
    d, width = x.shape[-1], float(np.concatenate(batches).var(axis=0).sum())

    if width == 0:
        raise ValueError("x: must not be the same in all chains, whose variance is the scale of the kernel")

    def stein(a: Array, b: Array) -> Array:
        xa, sa, xb, sb = a[:, :d], a[:, d:], b[:, :d], b[:, d:]
        square = np.maximum(np.sum(xa**2, axis=1)[:, None] + np.sum(xb**2, axis=1) - 2 * xa @ xb.T, 0)
        base = 1 + square / width
        # With g = x - y: grad_x k = slope g, grad_y k = -slope g, div_x grad_y k = -d slope - curve |g|^2.
        slope, curve = -(base**-1.5) / width, 3 * base**-2.5 / width**2
        along = np.sum(sa * xa, axis=1)[:, None] - sa @ xb.T + np.sum(sb * xb, axis=1) - xa @ sb.T  # (s_x - s_y).g
        return base**-0.5 * (sa @ sb.T) - slope * (along + d) - curve * square

    with_scores = [np.concatenate([batch, target.score(batch)], axis=1) for batch in batches]
    return u_statistic(pair_sums(stein, with_scores, with_scores), sizes)


def u_statistic(sums: Array, sizes: Array) -> Bias:
    """Mean of a kernel over the pairs of samples from different batches, S_bc being its sums over batches b and c.

    Kernels are scalar products of embeddings, so this is the squared norm of a mean less its noise. Error and floor
    are the standard errors with and without bias of `squared_norm`; both include the correlation within batches. Where
    the value is below sqrt(2) floors, the bias is not resolved and the error is the floor.
    """
    batches, shares = len(sizes), sizes / sizes.sum()
    pairs = 1 - shares @ shares
    value = (np.sum(sums) - np.trace(sums)) / sizes.sum() ** 2 / pairs
    # Weighted by its share, a batch has these products with another and with the mean, and these about the mean.
    products = sums / sizes.sum() ** 2
    with_mean = products.sum(axis=1)
    square = with_mean.sum()
    about = products - np.outer(shares, with_mean) - np.outer(with_mean, shares) + np.outer(shares, shares) * square
    unbiased = batches / (batches - 1)
    projections = np.sqrt(unbiased) * (with_mean - shares * square)
    variance, without_bias = squared_norm(projections, unbiased * about, batches)
    floor = np.sqrt(without_bias)
    return Bias(value, np.where(value < np.sqrt(2) * floor, floor, np.sqrt(variance)), floor)


def mode_weights(x: Array, target: Target | str) -> Bias:
    """Total variation of the mode weights: ``1/2 sum_j |E[r_j(x)] - w_j|`` with the responsibilities r_j of the modes.

    The responsibilities average to the weights exactly when x has the target's law. The floor is that of a run with the
    same autocorrelation and no bias.

    Parameters
    ----------
    x : array, shape (chains, d) or (draws, chains, d)
        At least two chains.
    target : str, GaussianMixture or another Target
        With modes; those of a mixture are its components.

    Returns
    -------
    Bias
        Numbers between 0 and 1; NaN if a position is. Error and floor as in `other_norm`, from batches of chains.

    Raises
    ------
    ValueError
        If x has another shape, another d than the target, or fewer than two chains, or the target knows no modes.
    """
    x = positions(x)
    modes = modes_of(target, x.shape[-1:])
    batches, sizes = batches_of(x)
    sums = np.array([modes.responsibilities(batch).sum(axis=0) for batch in batches])

    shares = sums.sum(axis=0) / sizes.sum()
    return other_norm(
        lambda gaps: np.abs(gaps).sum(axis=-1) / 2,
        shares - modes.weights,
        (sums - sizes[:, None] * shares) / sizes.sum(),
    )


def checked(x: Any, target: Target | str) -> tuple[Array, Target]:
    """Return samples and the target that they are compared with, or raise if they do not go together."""
    found = positions(x)
    return found, matching(target, found.shape[-1:])


def batches_of(x: Array) -> tuple[list[Array], Array]:
    """Return batches of chains, and their sizes."""
    batches = split(x, BATCHES)
    return batches, np.array([len(batch) for batch in batches], dtype=float)


def reference(target: Target, sizes: Array, seed: int, first: int = 0) -> list[Array]:
    """Return as many exact draws, from number ``first`` on, in batches of the same sizes."""
    if target.draws is None:
        raise lacking(target, "exact draws", "draws")
    draws = target.draws(int(sizes.sum()), seed ^ REFERENCE, first)
    return np.split(draws, np.cumsum(sizes)[:-1].astype(int))


def chosen(batches: list[Array], weights: Array) -> list[Array]:
    """Return the batches of weight 1."""
    return [batch for batch, weight in zip(batches, weights, strict=True) if weight]


def pair_sums(kernel: Callable[[Array, Array], Array], a: list[Array], b: list[Array]) -> Array:
    """Return the sums of a kernel over all pairs of each two batches, shape (len(a), len(b))."""
    every, firsts = np.concatenate(b), np.cumsum([0, *map(len, b[:-1])])
    return np.array([np.add.reduceat(kernel(left, every).sum(axis=0), firsts) for left in a])

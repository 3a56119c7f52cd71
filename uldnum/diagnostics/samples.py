"""Distances between samples of a run and its target: sliced Wasserstein, kernels, mode weights.

Each takes samples ``x`` of shape (chains, d), such as the final states of a run at one step size, or (draws, chains,
d), such as its trace. Chains are independent, so errors come from batches of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from uldnum.arguments import whole_number
from uldnum.diagnostics.arguments import matching, mixture_of, positions, scored
from uldnum.diagnostics.jackknife import BATCHES, Bias, jackknife, noise_of_halves, split
from uldnum.targets import GaussianMixture, VectorTarget
from uldnum.typing import Array

__all__ = ["kernel_stein_discrepancy", "maximum_mean_discrepancy", "mode_weights", "sliced_wasserstein_2"]

DIRECTIONS = 64

# Exact draws have a key of their own, so that they are never the initial states of a run with the same seed.
REFERENCE = 1 << 63


def sliced_wasserstein_2(x: Array, target: VectorTarget | str, *, seed: int = 0) -> Bias:
    """Sliced Wasserstein-2 distance to as many exact draws: root mean square over directions.

    Along each direction it is the root mean square difference of quantiles (Bonneel et al. 2015). The directions are
    random orthonormal frames, at least 64 in all, fixed by the seed: the distance is that over these directions. The
    floor adds the noise of the run (half the distance of two halves of its batches) and that of the draws.

    Parameters
    ----------
    x : array, shape (chains, d) or (draws, chains, d)
        At least two chains.
    target : str, GaussianMixture or UserTarget
        With a sampler.
    seed : int
        Seed of the draws and of the directions, from 0 to 2^64 - 1.

    Returns
    -------
    Bias
        Numbers in units of x; NaN if a position is. The value is not negative, and of exact draws of the order of the
        floor. The error is the jackknife's over batches of chains.

    Raises
    ------
    ValueError
        If x has another shape, another d than the target, or fewer than two chains, or the target no sampler.
    """
    x, target = checked(x, target)
    seed = whole_number("seed", seed, 0, 2**64 - 1)
    batches, sizes = batches_of(x)
    d = x.shape[-1]
    frames = np.random.default_rng(seed).normal(size=(-(-DIRECTIONS // d), d, d))
    directions = np.concatenate(list(np.linalg.qr(frames).Q), axis=1)

    def distance(parts: list[Array], draws: list[Array]) -> Array:
        one, other = np.concatenate(parts), np.concatenate(draws)
        n = min(len(one), len(other))
        ordered, exact = (np.sort(side[:n] @ directions, axis=0) for side in (one, other))
        return np.sqrt(np.mean((ordered - exact) ** 2))

    draws, others = (reference(target, sizes, seed, first) for first in (0, int(sizes.sum())))
    # Leaving out a batch leaves out its draws, whose noise is part of the error.
    value, error = jackknife(lambda w: distance(chosen(batches, w), chosen(draws, w)), len(batches))
    of_run = noise_of_halves(lambda w, v: distance(chosen(batches, w), chosen(batches, v)) / 2, len(batches))
    of_draws = distance(draws, others) / np.sqrt(2)
    return Bias(value, error, np.hypot(of_run, of_draws))


def maximum_mean_discrepancy(x: Array, target: VectorTarget | str, *, seed: int = 0) -> Bias:
    """Squared maximum mean discrepancy to as many exact draws y, Gaussian kernel ``k = exp(-|x - y|^2/(2 l^2))``.

    ``E k(x, x') + E k(y, y') - 2 E k(x, y)`` (Gretton et al. 2012, eq. 3), without pairs within a batch of chains,
    which the autocorrelation of a trace would bias: its mean without bias is 0, and it may be negative. l^2 is the
    trace of the target's covariance. Error and floor as in `u_statistic`.

    Parameters
    ----------
    x : array, shape (chains, d) or (draws, chains, d)
        At least two chains, three for an error. The cost grows as the square of the number of samples.
    target : str, GaussianMixture or UserTarget
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
        raise ValueError(f"target: {target.name!r} does not know its standard deviation; give it to UserTarget")

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

    The error is the jackknife's. The floor is the standard error without bias, when the kernel has mean 0 given either
    sample: ``sqrt(2 sum_{b != c} S_bc^2)`` over the number of pairs. Both know of the correlation within batches.
    """
    apart = sums - np.diag(np.diag(sums))

    def pairs(weights: Array) -> Array:
        return (weights @ sizes) ** 2 - weights @ sizes**2

    value, error = jackknife(lambda weights: np.asarray(weights @ apart @ weights / pairs(weights)), len(sizes))
    return Bias(value, error, np.sqrt(2 * np.sum(apart**2)) / pairs(np.ones(len(sizes))))


def mode_weights(x: Array, target: GaussianMixture | str) -> Bias:
    """Total variation of the mode weights: ``1/2 sum_j |E[r_j(x)] - w_j|`` with the responsibilities r_j of the modes.

    The responsibilities average to the weights exactly when x has the target's law. The floor is that of a run with the
    same autocorrelation and no bias (see `noise_of_halves`).

    Parameters
    ----------
    x : array, shape (chains, d) or (draws, chains, d)
        At least two chains.
    target : str or GaussianMixture
        Its components are the modes.

    Returns
    -------
    Bias
        Numbers between 0 and 1; NaN if a position is. The error is the jackknife's over batches of chains.

    Raises
    ------
    ValueError
        If x has another shape, another d than the target, or fewer than two chains, or the target is no mixture.
    """
    x = positions(x)
    mixture = mixture_of(target, x.shape[-1:])
    batches, sizes = batches_of(x)
    sums = np.array([mixture.responsibilities(batch).sum(axis=0) for batch in batches])

    def shares(weights: Array) -> Array:
        return weights @ sums / (weights @ sizes)

    value, error = jackknife(lambda weights: np.abs(shares(weights) - mixture.weights).sum() / 2, len(batches))
    floor = noise_of_halves(lambda one, other: np.abs(shares(one) - shares(other)).sum() / 4, len(batches))
    return Bias(value, error, floor)


def checked(x: Any, target: VectorTarget | str) -> tuple[Array, VectorTarget]:
    """Return samples and the target that they are compared with, or raise if they do not go together."""
    found = positions(x)
    return found, matching(target, found.shape[-1:])


def batches_of(x: Array) -> tuple[list[Array], Array]:
    """Return batches of chains, and their sizes."""
    batches = split(x, BATCHES)
    return batches, np.array([len(batch) for batch in batches], dtype=float)


def reference(target: VectorTarget, sizes: Array, seed: int, first: int = 0) -> list[Array]:
    """Return as many exact draws, from number ``first`` on, in batches of the same sizes."""
    draws = target.sample(int(sizes.sum()), seed ^ REFERENCE, first)
    return np.split(draws, np.cumsum(sizes)[:-1].astype(int))


def chosen(batches: list[Array], weights: Array) -> list[Array]:
    """Return the batches of weight 1."""
    return [batch for batch, weight in zip(batches, weights, strict=True) if weight]


def pair_sums(kernel: Callable[[Array, Array], Array], a: list[Array], b: list[Array]) -> Array:
    """Return the sums of a kernel over all pairs of each two batches, shape (len(a), len(b))."""
    return np.array([[kernel(left, right).sum() for right in b] for left in a])

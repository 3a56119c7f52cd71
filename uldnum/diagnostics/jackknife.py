"""Standard errors and noise floors of statistics of independent batches of chains.

A standard error is the standard deviation of the statistic over repetitions of the run. The jackknife estimates it for
statistics that are smooth functions of means. Distances are not smooth where they vanish: they are norms or squared
norms of a mean vector m (of gaps between distribution functions, quantiles, mode weights, moments, or embeddings of a
kernel), and the jackknife overstates their errors there by factors of 1.4 to 1.7. Their errors are those of the norm of
a normally distributed vector whose covariance C is that of m, estimated from the batches: in closed form for Euclidean
norms (`euclidean_norm`, `squared_norm`), by random multipliers for others (`other_norm`).

The mean of that normal vector, the bias, is known only through m. Errors are therefore on average up to 0.1 of
themselves (of squared norms 0.2) too large at the floor, and up to 0.2 too small where the bias is one to three times
the noise. The largest deviations are those of a single degree of freedom.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from uldnum._util.typing import Array

__all__ = [
    "BATCHES",
    "Bias",
    "euclidean_norm",
    "jackknife",
    "other_norm",
    "split",
    "squared_norm",
]


# Errors are estimated from at most this many batches of chains.
BATCHES = 32

# Number of draws of the random multipliers; each is used with both signs.
MULTIPLIERS = 128


class Bias(NamedTuple):
    """A measured bias, its standard error and its noise floor.

    ``error`` is the standard deviation of ``value`` over independent repetitions of the run. ``floor`` is the root mean
    square of ``value`` in a run of the same length and autocorrelation without bias. A norm is not negative, so a value
    near the floor overestimates the true bias: ``value +- 2 error`` covers the truth where the value is well above
    the floor, and the mean of the value over repetitions everywhere.
    """

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


def squared_norm(projections: Array, products: Array, samples: int) -> tuple[Array, Array]:
    """Estimate the variance of ``|m|^2 - tr C`` for a normal vector m, and what remains of it without bias.

    The variance is ``4 mu^T C mu + 2 tr C^2`` for m of mean mu and covariance C; of a U-statistic of degree 2 these are
    the two terms of Hoeffding's decomposition (1948). ``m^T C m - tr C^2`` estimates the first without bias and is
    replaced by 0 where it is negative; the jackknife, which has m in place of mu, counts the second term twice (Efron &
    Stein 1981). ``tr C^2`` is estimated without bias as by Bai & Saranadasa (1996, eq. 3.5).

    Parameters
    ----------
    projections : array, shape (..., n)
        Scalar products of m with deviations v_i, whose sum of outer products ``sum_i v_i v_i^T`` estimates C.
    products : array, shape (..., k, k)
        Scalar products of the deviations, or the matrix C itself: traces of powers are the same.
    samples : int
        Number n of independent samples with n - 1 degrees of freedom. With fewer than three both results are NaN.
    """
    trace = np.trace(products, axis1=-2, axis2=-1)
    if samples < 3:
        return np.full_like(trace, np.nan), np.full_like(trace, np.nan)
    surplus = np.sum(products**2, axis=(-2, -1)) - trace**2 / (samples - 1)
    second = np.maximum(surplus, 0) * (samples - 1) ** 2 / ((samples + 1) * (samples - 2))
    first = np.maximum(np.sum(projections**2, axis=-1) - second, 0)
    return 4 * first + 2 * second, 2 * second


def euclidean_norm(square: Array, projections: Array, products: Array, samples: int) -> Bias:
    """Return the norm ``|m|`` of a normal vector with its error and floor ``sqrt(tr C)``; arguments as `squared_norm`.

    The distribution of ``|m|^2`` is approximated by a gamma distribution of mean M and variance V (Satterthwaite 1946),
    M being estimated by ``|m|^2`` but at least ``tr C``. With its shape ``k = M^2/V``, the variance of the norm is
    ``M (1 - (Gamma(k + 1/2)/Gamma(k))^2/k)``. Without bias this is exact for one degree of freedom, where the norm is a
    folded normal variable; far above the floor it is ``V/(4 M)``, the delta method.
    """
    variance, _ = squared_norm(projections, products, samples)
    floor = np.trace(products, axis1=-2, axis2=-1)
    mean = np.maximum(square, floor)
    with np.errstate(divide="ignore", invalid="ignore"):
        shape = mean**2 / variance
        lost = 1 - np.exp(2 * (gammaln(shape + 0.5) - gammaln(shape)) - np.log(shape))
    # For large k the difference cancels; its expansion is 1/(4 k).
    error = np.sqrt(np.where(shape < 1e4, mean * lost, variance / (4 * mean)))
    return Bias(np.sqrt(square), error, np.sqrt(floor))


def other_norm(norm: Callable[[Array], Array], mean: Array, deviations: Array,
               summary: Callable[[Array], Array] = np.asarray) -> Bias:  # fmt: skip
    """Return a norm of a mean with its error and floor, by normal random multipliers of its deviations.

    With standard normal g, ``n = sqrt(B/(B - 1)) sum_b g_b v_b`` has the covariance of the mean (the multiplier
    bootstrap: van der Vaart & Wellner 1996, sec. 2.9). The floor is the root mean square of the norm of n. The error is
    the standard deviation of the norm of ``c + n`` with ``c = mean sqrt(1 - (floor/value)^2)``, or 0 where the value is
    below the floor: the noise in the mean is subtracted in squares. Multipliers are fixed and come as g and -g, and
    the covariance of n is exact.

    The part of the norms that is even in g is of second order in n, so that its covariances go as products of two
    covariances of n, of which B batches overestimate the sum of squares by ``(tr C)^2/(B - 1)``, also between
    independent norms. This is subtracted, ``tr C`` and ``tr C^2`` being those of `squared_norm` for each norm.

    Parameters
    ----------
    norm : callable
        Norm along the last axis, (..., d, n) -> (..., d), or (..., n) -> (...).
    mean : array, shape (d, n) or (n,)
    deviations : array, shape (B, *mean.shape)
        Deviations v_b of the B independent batches, which add to 0: the mean less what it were without deviation of b.
    summary : callable, optional
        Linear function of the d norms, such as their mean.
    """
    batches = len(deviations)
    alone = norm(mean)
    value = np.asarray(summary(alone))
    if batches < 2:
        return Bias(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    # In parts, so that the draws of many axes need not be in memory at once.
    parts = np.array_split(multipliers(batches) * np.sqrt(batches / (batches - 1)), 16)

    def norms(centre: Array, sign: float) -> Array:
        return np.concatenate([norm(centre + sign * np.tensordot(part, deviations, 1)) for part in parts])

    def summarised(each: Array) -> Array:
        return np.array([summary(one) for one in each])

    noise = norms(np.zeros_like(mean), 1.0)
    level = np.sqrt(np.mean(noise**2, axis=0))
    share = np.divide(level, alone, out=np.ones_like(level), where=alone > level)
    centre = mean * np.sqrt(1 - share**2)[..., None]
    plus, minus = norms(centre, 1.0), norms(centre, -1.0)
    odd, even = (plus - minus) / 2, (plus + minus) / 2
    by_chance = np.asarray(summary(even.std(axis=0) * inflation(deviations))) ** 2
    variance = np.mean(summarised(odd) ** 2, axis=0) + np.maximum(summarised(even).var(axis=0) - by_chance, 0)
    return Bias(value, np.sqrt(variance), np.sqrt(np.mean(summarised(noise) ** 2, axis=0)))


def inflation(deviations: Array) -> Array:
    """Return the root of ``(tr C)^2/(B - 1)`` over the plain estimate of ``tr C^2``, for each of d norms."""
    batches = np.moveaxis(deviations, 0, -2)
    products = batches @ batches.swapaxes(-2, -1)
    trace, length = np.trace(products, axis1=-2, axis2=-1), np.sqrt(np.sum(products**2, axis=(-2, -1)))
    return np.divide(trace, length, out=np.zeros_like(trace), where=length > 0) / np.sqrt(len(deviations) - 1)


@cache
def multipliers(batches: int) -> Array:
    """Return fixed normal multipliers, shape (MULTIPLIERS, batches), of second moments 1 exactly."""
    normals = np.random.default_rng(0).normal(size=(MULTIPLIERS, batches))
    return np.linalg.qr(normals).Q * np.sqrt(MULTIPLIERS)


def split(x: Array, batches: int) -> list[Array]:
    """Split samples of shape (chains, d) or (draws, chains, d) into batches of chains, shape (n, d) each."""
    chains_first = np.moveaxis(x, -2, 0)
    parts = np.array_split(chains_first, min(batches, len(chains_first)))
    return [part.reshape(-1, x.shape[-1]) for part in parts]

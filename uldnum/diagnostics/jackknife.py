"""Standard errors and noise floors of statistics of independent batches of chains.

A standard error is the standard deviation of a statistic over repetitions of the run. The jackknife estimates it for
smooth functions of means.

Distances are not smooth at zero. Each is a norm or squared norm of a mean vector m, which holds differences of
distribution functions, quantiles, mode weights, moments or kernel embeddings. Near zero, the jackknife overestimates
their errors by factors of 1.4 to 1.7. Instead, m is modelled as a normal vector whose covariance C is estimated from
the batches. The standard deviation of its norm has a closed form for Euclidean norms (`euclidean_norm`, `squared_norm`)
and is computed with random multipliers for other norms (`other_norm`).

The mean of that normal vector, which is the bias, can only be estimated by m. The errors are therefore not exact. At
the floor, they are on average too large by up to 10% (20% for squared norms). Where the bias is one to three times the
noise, they are too small by up to 20%. The deviations are largest for a single degree of freedom.
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
    "SEEN",
    "Bias",
    "contributions",
    "euclidean_norm",
    "jackknife",
    "other_norm",
    "split",
    "squared_norm",
    "squared_trace",
]


# Largest number of batches of chains from which errors are estimated.
BATCHES = 32

# A bias is resolved if its magnitude is larger than this number of noise floors.
SEEN = 4.0

# Number of draws of the random multipliers. Each is used with both signs.
MULTIPLIERS = 128


class Bias(NamedTuple):
    """Measured bias or distance with its standard error and noise floor.

    Attributes
    ----------
    value : float or array
        Measured bias or distance.
    error : float or array
        Estimated standard deviation of ``value`` over independent repetitions of the run.
    floor : float or array
        Root mean square of ``value`` for an unbiased run of the same length and autocorrelation.

    Notes
    -----
    A norm is not negative, so a value near the floor overestimates the true bias. The interval ``value +- 2 error``
    covers the true bias only if the value is well above the floor. It always covers the mean of ``value`` over
    repetitions of the run.

    Examples
    --------
    >>> import numpy as np
    >>> import uldnum
    >>> x = np.random.default_rng(0).normal(size=(1000, 1))
    >>> bias = uldnum.diagnostics.wasserstein_1(x, "gaussian")
    >>> bool(bias.value < 4 * bias.floor)
    True
    """

    value: Array
    error: Array
    floor: Array


def jackknife(statistic: Callable[[Array], Array], batches: int) -> tuple[Array, Array]:
    """Return a statistic of all batches and its jackknife standard error.

    Parameters
    ----------
    statistic : callable
        ``statistic(weights)`` returns the statistic of the batches whose weight is 1. The weights are an array of zeros
        and ones of shape (batches,).
    batches : int
        Number B of independent batches.

    Returns
    -------
    value, error : arrays
        Statistic of all batches, and its standard error; the error is NaN for a single batch.

    Notes
    -----
    ``error^2 = (B - 1)/B sum_b (T_b - mean T)^2``, where T_b is the statistic without batch b (Efron & Stein 1981).
    """
    everything = np.asarray(statistic(np.ones(batches)))
    if batches < 2:
        return everything, np.full_like(everything, np.nan, dtype=float)
    without = np.array([statistic(1.0 - np.eye(batches)[b]) for b in range(batches)])
    spread = ((without - without.mean(axis=0)) ** 2).sum(axis=0)
    return everything, np.sqrt((batches - 1) / batches * spread)


def squared_norm(projections: Array, second: Array) -> tuple[Array, Array]:
    """Return the variance of ``|m|^2 - tr C`` for a normal vector m, and the variance that it has without bias.

    Parameters
    ----------
    projections : array, shape (..., n)
        Scalar products of m with the deviations v_i, where ``sum_i v_i v_i^T`` is the estimate of C.
    second : array, shape (...)
        Unbiased estimate of ``tr C^2``, such as that of `squared_trace`.

    Returns
    -------
    variance, without_bias : arrays, shape (...)

    Notes
    -----
    If m has mean mu and covariance C, the variance is ``4 mu^T C mu + 2 tr C^2``. Without bias, only the second term
    remains. For a U-statistic of degree 2, the terms are those of Hoeffding's decomposition (1948).

    ``m^T C m - tr C^2`` is an unbiased estimate of ``mu^T C mu``; negative estimates are replaced by 0. The jackknife
    uses m in place of mu and therefore counts the second term twice (Efron & Stein 1981).
    """
    first = np.maximum(np.sum(projections**2, axis=-1) - second, 0)
    return 4 * first + 2 * second, 2 * second


def squared_trace(products: Array, samples: int) -> Array:
    """Return an unbiased estimate of ``tr C^2`` for the covariance C of a mean.

    Parameters
    ----------
    products : array, shape (..., k, k)
        Scalar products ``v_i . v_j`` of the deviations, where ``sum_i v_i v_i^T`` is the estimate of C. This estimate
        may be given instead, because the traces of the powers of both matrices are equal.
    samples : int
        Number n of independent samples, which have n - 1 degrees of freedom.

    Returns
    -------
    array, shape (...)
        Not negative; NaN for fewer than three samples.

    Notes
    -----
    The estimate is that of Bai & Saranadasa (1996, eq. 3.5).
    """
    trace = np.trace(products, axis1=-2, axis2=-1)
    if samples < 3:
        return np.full_like(trace, np.nan)
    surplus = np.sum(products**2, axis=(-2, -1)) - trace**2 / (samples - 1)
    return np.asarray(np.maximum(surplus, 0) * (samples - 1) ** 2 / ((samples + 1) * (samples - 2)))


def euclidean_norm(square: Array, projections: Array, products: Array, samples: int) -> Bias:
    """Return the Euclidean norm ``|m|`` of a normal vector as a `Bias`, with floor ``sqrt(tr C)``.

    Parameters
    ----------
    square : array, shape (...)
        Squared norm ``|m|^2``.
    projections : array, shape (..., n)
        Argument of `squared_norm`.
    products, samples
        Arguments of `squared_trace`.

    Notes
    -----
    ``|m|^2`` is approximated by a gamma variable with mean M and variance V (Satterthwaite 1946). M is estimated by the
    larger of ``|m|^2`` and ``tr C``. With the shape parameter ``k = M^2/V``, the variance of the norm is
    ``M (1 - (Gamma(k + 1/2)/Gamma(k))^2/k)``. For one degree of freedom without bias this is exact, because the norm is
    then the absolute value of a normal variable. Far above the floor it tends to ``V/(4 M)``, the delta method.
    """
    variance, _ = squared_norm(projections, squared_trace(products, samples))
    floor = np.trace(products, axis1=-2, axis2=-1)
    mean = np.maximum(square, floor)
    with np.errstate(divide="ignore", invalid="ignore"):
        shape = mean**2 / variance
        lost = 1 - np.exp(2 * (gammaln(shape + 0.5) - gammaln(shape)) - np.log(shape))
    # For large k the difference loses its digits by cancellation; its expansion is 1/(4 k).
    error = np.sqrt(np.where(shape < 1e4, mean * lost, variance / (4 * mean)))
    return Bias(np.sqrt(square), error, np.sqrt(floor))


def other_norm(norm: Callable[[Array], Array], mean: Array, deviations: Array,
               summary: Callable[[Array], Array] = np.asarray, with_excess: bool = False) -> Bias:  # fmt: skip
    """Return any norm of a mean vector as a `Bias`, using normal random multipliers.

    Parameters
    ----------
    norm : callable
        Norm along the last axis, (..., d, n) -> (..., d) or (..., n) -> (...).
    mean : array, shape (d, n) or (n,)
        Mean vectors m.
    deviations : array, shape (B, *mean.shape)
        Contributions v_b of the B independent batches to the deviation of the mean. They add up to 0.
    summary : callable, optional
        Linear function of the d norms, such as their mean.
    with_excess : bool, default False
        Whether the error contains the amount by which noise raises the mean of the norm, for norms that are maxima.

    Notes
    -----
    With standard normal g, ``n = sqrt(B/(B - 1)) sum_b g_b v_b`` has the covariance of the mean (multiplier bootstrap,
    van der Vaart & Wellner 1996, sec. 2.9). The multipliers are fixed numbers. They are used as g and -g, and their
    sample covariance is exactly the identity.

    The floor is the root mean square of the norm of n. The error is the standard deviation of the norm of ``c + n``,
    where ``c = m sqrt(1 - (floor/value)^2)``, or 0 if the value is below the floor. The factor removes the noise from
    the squared norm of m.

    The part of a norm that is even in g is of second order in n. The covariance of the even parts of two norms is
    therefore a sum of squares of covariances of n. The estimate of this sum from B batches is too large by
    ``(tr C_1) (tr C_2)/(B - 1)``, where C_1 and C_2 are the covariances of the two vectors, even if these are
    independent. This excess is subtracted; see `inflation`.

    Let mu be the mean of m. The maximum of several nearly equal components of m is larger than the maximum of the
    components of mu, by an amount in proportion to the noise. As m already contains noise, the mean of ``|m + n|``
    exceeds ``|mu|`` by sqrt(2) times this amount, which is therefore estimated by
    ``(E |m + n| - |m|)/(sqrt(2) - 1)``. ``with_excess`` adds its square to the variance. The error is then the root
    mean square deviation from the true norm. For values below two floors, which may have no bias, it is at least the
    floor. For a single maximum the excess is overestimated, and the error is too large by up to 40%.
    """
    batches = len(deviations)
    alone = norm(mean)
    value = np.asarray(summary(alone))[()]  # a scalar instead of an array without axes
    if batches < 2:
        return Bias(value, value * np.nan, value * np.nan)
    # Process the multipliers in parts, which bounds the memory for many axes.
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
    if with_excess:
        doubled = summarised((norms(mean, 1.0) + norms(mean, -1.0)) / 2).mean(axis=0)
        variance = variance + (np.maximum(doubled - value, 0) / (np.sqrt(2) - 1)) ** 2
    error, floor = np.sqrt(variance), np.sqrt(np.mean(summarised(noise) ** 2, axis=0))
    return Bias(value, np.where(with_excess & (value < 2 * floor), np.maximum(error, floor), error)[()], floor)


def inflation(deviations: Array) -> Array:
    """Return ``tr C/sqrt((B - 1) tr C^2)`` for each of d norms, with the biased estimate of ``tr C^2``."""
    batches = np.moveaxis(deviations, 0, -2)
    products = batches @ batches.swapaxes(-2, -1)
    trace, length = np.trace(products, axis1=-2, axis2=-1), np.sqrt(np.sum(products**2, axis=(-2, -1)))
    return np.divide(trace, length, out=np.zeros_like(trace), where=length > 0) / np.sqrt(len(deviations) - 1)


@cache
def multipliers(batches: int) -> Array:
    """Return fixed normal multipliers, shape (MULTIPLIERS, batches), whose second-moment matrix is the identity."""
    normals = np.random.default_rng(0).normal(size=(MULTIPLIERS, batches))
    return np.linalg.qr(normals).Q * np.sqrt(MULTIPLIERS)


def contributions(values: Array, batches: int) -> Array:
    """Return the contributions of batches to the deviation of a mean, (..., n, d) -> (..., B, d); they add up to 0.

    The values along the axis of length n are independent. `np.array_split` divides them into the batches.
    """
    n = values.shape[-2]
    sizes = np.full(batches, n // batches)
    sizes[: n % batches] += 1
    sums = np.add.reduceat(values, np.cumsum(sizes) - sizes, axis=-2)
    return np.asarray(sums / n - sizes[:, None] / n * values.mean(axis=-2, keepdims=True))


def split(x: Array, batches: int) -> list[Array]:
    """Split samples of shape (chains, d) or (draws, chains, d) into batches of chains, shape (n, d) each."""
    chains_first = np.moveaxis(x, -2, 0)
    parts = np.array_split(chains_first, min(batches, len(chains_first)))
    return [part.reshape(-1, x.shape[-1]) for part in parts]

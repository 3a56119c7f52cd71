"""Frechet distance between the features of two sets of images, with streamed moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import hadamard

from uldnum._util.arguments import flag, numbers
from uldnum._util.typing import Array
from uldnum.diagnostics.images.arrays import batches_of, by_chain, checked_features, held_out_part, with_floor
from uldnum.diagnostics.jackknife import Bias, squared_norm, squared_trace

__all__ = ["Moments", "frechet_between", "frechet_distance"]

# Largest number of batches. Memory and time grow in proportion, because each batch has a covariance matrix.
BATCHES = 16


@dataclass(frozen=True)
class Moments:
    """Count, mean and covariance of features, in float64.

    The moments of the union of two sets are their sum, so a set can be processed in parts.

    Attributes
    ----------
    count : int
        Number of images.
    mean : array, shape (f,)
        Mean of the features.
    scatter : array, shape (f, f)
        Sum of the outer products of the deviations from the mean.

    Notes
    -----
    Sums are merged with the formula of Chan, Golub & LeVeque (1983, eq. 2.1), which does not subtract large numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from uldnum.diagnostics import Moments
    >>> x = np.random.default_rng(0).normal(size=(100, 3))
    >>> both = Moments.of(x[:40]) + Moments.of(x[40:])
    >>> both.count, bool(np.allclose(both.covariance, np.cov(x.T)))
    (100, True)
    """

    count: int
    mean: Array
    scatter: Array

    @classmethod
    def of(cls, features: Any) -> Moments:
        """Return the moments of features, shape (n, f), or raise as `frechet_distance` does."""
        return moments_of(checked_features("features", features))

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        gap = other.mean - self.mean
        return Moments(
            count,
            self.mean + gap * (other.count / count),
            self.scatter + other.scatter + np.outer(gap, gap) * (self.count * other.count / count),
        )

    @property
    def covariance(self) -> Array:
        """Unbiased covariance, shape (f, f)."""
        return self.scatter / (self.count - 1)


def moments_of(features: Array) -> Moments:
    """Return the moments of one or more images, shape (n, f)."""
    mean = features.mean(axis=0)
    centred = features - mean
    return Moments(len(features), mean, centred.T @ centred)


def frechet_between(mean1: Any, cov1: Any, mean2: Any, cov2: Any) -> float:
    r"""Return the Frechet distance between two Gaussian distributions, which is a squared length.

    Parameters
    ----------
    mean1, mean2 : array_like, shape (f,)
        Means.
    cov1, cov2 : array_like, shape (f, f)
        Covariances. They may be singular.

    Returns
    -------
    float
        Not negative, in squared units of the features.

    Raises
    ------
    ValueError
        If the shapes differ or a number is not finite.

    Notes
    -----
    The distance is the squared Wasserstein-2 distance (Dowson & Landau 1982, eq. 4; Heusel et al. 2017, eq. 6):

    .. math:: |m_1 - m_2|^2 + \mathrm{tr}(C_1 + C_2 - 2 (C_1^{1/2} C_2 C_1^{1/2})^{1/2})

    The last trace is the sum of the singular values of ``S1^T S2``, where ``C = S S^T`` with S from the
    eigendecomposition of C. Its rounding error is of the order of that of tr C, also for singular covariances.

    Examples
    --------
    >>> from uldnum.diagnostics import frechet_between
    >>> round(frechet_between([0.0, 0.0], [[1.0, 0.0], [0.0, 4.0]], [3.0, 0.0], [[1.0, 0.0], [0.0, 1.0]]), 12)
    10.0
    """
    given = {"mean1": mean1, "cov1": cov1, "mean2": mean2, "cov2": cov2}
    m1, c1, m2, c2 = (numbers(name, value) for name, value in given.items())
    for name, mean, covariance in (("1", m1, c1), ("2", m2, c2)):
        if m1.ndim != 1 or mean.shape != m1.shape or covariance.shape != 2 * m1.shape:
            raise ValueError(
                f"mean{name}, cov{name}: must have shapes (f,) and (f, f) with the same f for both distributions, "
                f"got {mean.shape} and {covariance.shape}"
            )
    return distance(m1, c1, m2, c2)


def distance(m1: Array, c1: Array, m2: Array, c2: Array) -> float:
    """Return `frechet_between` of arrays."""
    common = np.linalg.svd(factor(c1).T @ factor(c2), compute_uv=False).sum()
    return max(float(np.sum((m1 - m2) ** 2) + np.trace(c1) + np.trace(c2) - 2 * common), 0.0)


def factor(covariance: Array) -> Array:
    """Return S with ``covariance = S S^T``, whose columns are scaled eigenvectors."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0))


def frechet_distance(
    samples: Any, reference: Any, *, chains: Any = None, extrapolate: bool = True, held_out: Any = None
) -> Bias:
    """Return the Frechet distance between the features of samples and of reference images.

    Parameters
    ----------
    samples : array_like, shape (n, f)
        Features of n images.
    reference : array_like, shape (m, f), or Moments
        Features of m independent reference images, or the exact moments of the reference distribution, which have no
        sampling error.
    chains : array_like of int, shape (n,), optional
        Number of the chain of each sample. All chains have the same number of images. The default stands for
        independent images.
    extrapolate : bool, default True
        Whether the distance is extrapolated to an infinite number of images. If not, it contains a bias in proportion
        to 1/n and 1/m.
    held_out : array_like, shape (l, f), optional
        Features of independent held-out images, which give the floor.

    Returns
    -------
    Bias
        Scalars in squared units of the features. The floor is the distance of the held-out images, extrapolated in the
        same way or with n images, and NaN without held-out images. The extrapolated distance may be negative. The error
        is NaN for fewer than four chains.

    Raises
    ------
    ValueError
        If an array has another shape or a NaN, if chains are of unequal length, or if a set has fewer than f + 1
        images (2 f + 2 for the extrapolation), because its covariance is then singular.

    Notes
    -----
    See `frechet_between` for the distance. The number is the FID of Heusel et al. (2017) only if the features are those
    of the Inception network. Its bias is about ``b/n`` (Chong & Forsyth 2020, sec. 3), where b depends on the
    samples. Distances at finite n must therefore not be compared. The extrapolated distance is given by the line
    through the distances of all images and of halves of both sets, as a function of 1/n. The halves consist of whole
    chains. The average over balanced half-samples (McCarthy 1969) adds almost no noise. A bias of second order in f/n
    remains.

    The error includes the noise of samples and reference images; `Moments` of the reference are exact. Chains and
    reference images are divided into up to 16 batches. The deviations of the moments of the batches give the linear
    part of the error by the derivative of the distance, ``I - T`` with respect to a covariance, where T is the optimal
    transport map (Bhatia, Jain & Lim 2019). The quadratic part, which dominates near zero, follows from the metric of
    the distance at the mean covariance, in whose eigenbasis the distance is ``1/2 sum_ij D_ij^2/(l_i + l_j)`` for a
    small difference D of the covariances. `uldnum.diagnostics.jackknife.squared_norm` combines both. The memory is that
    of 32 covariance matrices.

    Examples
    --------
    >>> import numpy as np
    >>> from uldnum.diagnostics import frechet_distance
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(1000, 4)) + 0.5, rng.normal(size=(2000, 4))
    >>> distance = frechet_distance(x, y)
    >>> bool(abs(distance.value - 1) < 3 * distance.error)
    True
    """
    x = checked_features("samples", samples)
    extrapolate = flag("extrapolate", extrapolate)
    enough("samples", x, extrapolate)
    real = checked_reference(reference, x.shape[1], extrapolate)
    grouped, others = by_chain(x, chains), None
    if held_out is not None:
        z = checked_features("held_out", held_out, x.shape[1])
        enough("held_out", z, extrapolate)
        others = by_chain(z, None) if extrapolate else held_out_part(z, len(x))
    return with_floor(lambda part: measured(part, real, extrapolate), grouped, others)


def checked_reference(reference: Any, width: int, extrapolate: bool) -> Array | Moments:
    """Return features of the reference as independent chains, shape (m, 1, f), or its exact moments, or raise."""
    if not isinstance(reference, Moments):
        y = checked_features("reference", reference, width)
        enough("reference", y, extrapolate)
        return by_chain(y, None)
    if reference.mean.shape != (width,):
        raise ValueError(
            f"reference: must have {width} features, as the samples, got moments of shape {reference.mean.shape}"
        )
    if not np.isfinite(reference.mean).all() or not np.isfinite(reference.covariance).all():
        raise ValueError("reference: must have finite moments, got NaN or infinity")
    return reference


def enough(name: str, features: Array, extrapolate: bool) -> None:
    """Raise if there are too few images for a covariance, or for those of halves."""
    least = (features.shape[1] + 1) * (2 if extrapolate else 1)
    if len(features) < least:
        what = "twice the number of features plus 2, for the extrapolation" if extrapolate else "one more than features"
        raise ValueError(f"{name}: must have at least {least} images ({what}), got {len(features)}")


def measured(x: Array, y: Array | Moments, extrapolate: bool) -> tuple[float, float]:
    """Return the distance between features grouped by chain, (chains, images, f), and its standard error."""
    sizes = [len(x)] if isinstance(y, Moments) else [len(x), len(y)]
    batches = 2 ** int(np.log2(batches_of(*sizes, most=BATCHES)))
    one = batch_moments(x, batches)
    other = y if isinstance(y, Moments) else batch_moments(y, batches)
    total = sum_of(one), sum_of(other)
    value = between(*total)
    error = standard_error(value, one, other)
    if not extrapolate:
        return value, error
    halves = [half for row in hadamard(batches)[1:] for half in (row > 0, row < 0)]
    parts = [(sum_of(one, half), sum_of(other, half)) for half in halves]
    distances = np.mean([between(*part) for part in parts])
    inverse = np.mean([total[0].count / part[0].count for part in parts])
    return float((inverse * value - distances) / (inverse - 1)), error


def batch_moments(x: Array, batches: int) -> list[Moments]:
    """Return the moments of batches of chains."""
    return [moments_of(x[b::batches].reshape(-1, x.shape[-1])) for b in range(batches)]


def sum_of(parts: list[Moments] | Moments, chosen: Array | None = None) -> Moments:
    """Return the moments of the union of all batches, or of those that are chosen. Exact moments remain the same."""
    if isinstance(parts, Moments):
        return parts
    used = parts if chosen is None else [parts[b] for b in np.flatnonzero(chosen)]
    total = used[0]
    for part in used[1:]:
        total = total + part
    return total


def between(one: Moments, other: Moments) -> float:
    """Return the distance between two sets of moments."""
    return distance(one.mean, one.covariance, other.mean, other.covariance)


def standard_error(value: float, one: list[Moments], other: list[Moments] | Moments) -> float:
    """Return the standard error of the distance between two sets of batches; see `frechet_distance`."""
    batches = len(one)
    first, second = sum_of(one), sum_of(other)
    factors = factor(first.covariance), factor(second.covariance)
    left, lengths, right = np.linalg.svd(factors[0].T @ factors[1])
    inverse = np.zeros_like(lengths)
    np.divide(1, lengths, out=inverse, where=lengths > lengths[0] * len(lengths) * np.finfo(float).eps)
    # Transport maps from the second distribution to the first and back; I - map is the derivative of the distance.
    to_first, to_second = ((f @ u * inverse) @ (f @ u).T for f, u in zip(factors, (left, right.T), strict=True))
    gap = first.mean - second.mean
    spread, axes = np.linalg.eigh((first.covariance + second.covariance) / 2)
    sums = spread[:, None] + spread
    weights = np.zeros_like(sums)
    np.divide(0.5, sums, out=weights, where=sums > spread[-1] * len(spread) * np.finfo(float).eps)
    linear, vectors = np.zeros(batches), []
    for b in range(batches):
        mean1, cov1 = deviation(one, b, first)
        mean2, cov2 = deviation(other, b, second)
        linear[b] = 2 * gap @ (mean1 - mean2) + np.trace(cov1) + np.trace(cov2)
        linear[b] -= np.sum(to_second * cov1) + np.sum(to_first * cov2)
        rotated = axes.T @ (cov1 - cov2) @ axes
        vectors.append(np.concatenate([mean1 - mean2, np.ravel(rotated * np.sqrt(weights))]))
    deviations = np.array(vectors)
    unbiased = batches / (batches - 1)
    products = deviations @ deviations.T * unbiased
    variance, without_bias = squared_norm(linear / 2 * np.sqrt(unbiased), squared_trace(products, batches))
    resolved = value - np.trace(products) > np.sqrt(2 * without_bias)
    return float(np.sqrt(variance if resolved else without_bias))


def deviation(parts: list[Moments] | Moments, b: int, total: Moments) -> tuple[Array, Array]:
    """Return the contributions of batch b to the deviations of the mean and of the covariance; 0 for exact moments."""
    if isinstance(parts, Moments):
        return np.zeros_like(total.mean), np.zeros_like(total.scatter)
    batch = parts[b]
    share, gap = batch.count / total.count, batch.mean - total.mean
    second = batch.scatter / total.count + share * np.outer(gap, gap)
    return share * gap, second - share * total.scatter / total.count

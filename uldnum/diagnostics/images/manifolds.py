"""Precision, recall, density and coverage of images, from the distances between nearest neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import hadamard

from uldnum._util.arguments import whole_number
from uldnum._util.typing import Array
from uldnum.diagnostics.images.arrays import (
    batches_of,
    by_chain,
    checked_features,
    evenly_spaced,
    held_out_part,
    with_floor,
)
from uldnum.diagnostics.images.neighbours import blocks, nearest, rounding
from uldnum.diagnostics.jackknife import Bias

__all__ = ["K", "N", "coverage", "density", "precision", "recall"]

# Number of neighbours and of images, unless stated, and largest number of batches.
K, N, BATCHES = 5, 1000, 16


def precision(
    samples: Any, reference: Any, *, k: int = K, n: int = N, chains: Any = None, held_out: Any = None
) -> Bias:
    """Return the fraction of samples that are similar to reference images.

    Parameters
    ----------
    samples : array_like, shape (s, f)
        Features of s >= n images. Of more than n, a fixed subset is used.
    reference : array_like, shape (m, f)
        Features of m >= n independent reference images, used like the samples.
    k : int, default 5
        Number of nearest neighbours, less than n/2.
    n : int, default 1000
        Number of samples and of reference images that are compared. The value depends on k and n.
    chains : array_like of int, shape (s,), optional
        Number of the chain of each sample. All chains have the same number of images. The default stands for
        independent images.
    held_out : array_like, shape (l, f), optional
        Features of l >= n independent held-out images, of which n give the floor.

    Returns
    -------
    Bias
        Scalars between 0 and 1. The floor is the value of n held-out images, and NaN without them.

    Raises
    ------
    ValueError
        If an array has another shape or a NaN, if k is not less than n/2, if a set has fewer than n images, or if
        chains are of unequal length.

    Notes
    -----
    The value is the fraction of samples that lie in at least one of the balls around the reference images (Kynkaanniemi
    et al. 2019, eq. 1 and 2). The radius of a ball is the distance from its centre to the k-th nearest other reference
    image. Balls contain their boundary, and distances that are equal within rounding errors are equal.

    The error includes the noise of samples and reference images. It follows from the differences between the values of
    two halves of both sets, for balanced divisions of up to 16 batches of chains and of reference images into halves
    (McCarthy 1969), because the variance is in proportion to 1/n. The jackknife is not used, because it overestimates
    the errors of statistics of nearest neighbours, by factors of up to 2. The intervals cover the expectation of the
    value at this n, not its limit. Compare only numbers with equal k and n, and compare them with the floor. The cost
    grows as n^2.

    Examples
    --------
    >>> import numpy as np
    >>> from uldnum.diagnostics import precision
    >>> rng = np.random.default_rng(0)
    >>> real, narrow = rng.normal(size=(500, 2)), 0.1 * rng.normal(size=(500, 2))
    >>> bool(precision(narrow, real, k=3, n=500).value > 0.95)
    True
    """
    return of_points(share_inside, samples, reference, k, n, chains, held_out)


def recall(samples: Any, reference: Any, *, k: int = K, n: int = N, chains: Any = None, held_out: Any = None) -> Bias:
    """Return the fraction of reference images that are similar to samples.

    Parameters
    ----------
    samples, reference, k, n, chains, held_out
        As `precision`.

    Returns
    -------
    Bias
        As `precision`.

    Raises
    ------
    ValueError
        As `precision`.

    Notes
    -----
    The value is the `precision` with samples and reference images interchanged (Kynkaanniemi et al. 2019, eq. 2): the
    fraction of reference images in at least one of the balls around the samples. Samples far from all others have large
    balls, which raise the recall (Naeem et al. 2020, sec. 2.2); see `coverage`.

    Examples
    --------
    >>> import numpy as np
    >>> from uldnum.diagnostics import recall
    >>> rng = np.random.default_rng(0)
    >>> real, narrow = rng.normal(size=(500, 2)), 0.1 * rng.normal(size=(500, 2))
    >>> bool(recall(narrow, real, k=3, n=500).value < 0.1)
    True
    """
    return of_points(lambda x, y, k: share_inside(y, x, k), samples, reference, k, n, chains, held_out)


def density(samples: Any, reference: Any, *, k: int = K, n: int = N, chains: Any = None, held_out: Any = None) -> Bias:
    """Return the mean number of reference balls that contain a sample, divided by k.

    Parameters
    ----------
    samples, reference, k, n, chains, held_out
        As `precision`.

    Returns
    -------
    Bias
        Non-negative scalars, about 1 if samples and reference images have the same distribution.

    Raises
    ------
    ValueError
        As `precision`.

    Notes
    -----
    See Naeem et al. (2020, eq. 4); the balls are those of `precision`. A reference image far from all others has a
    large ball that is counted once, which makes the density less sensitive to outliers than the precision.

    Examples
    --------
    >>> import numpy as np
    >>> from uldnum.diagnostics import density
    >>> x, y = np.random.default_rng(0).normal(size=(2, 500, 2))
    >>> bool(abs(density(x, y, n=500).value - 1) < 0.15)
    True
    """
    return of_points(mean_inside, samples, reference, k, n, chains, held_out)


def coverage(samples: Any, reference: Any, *, k: int = K, n: int = N, chains: Any = None, held_out: Any = None) -> Bias:
    """Return the fraction of reference images that have a sample in their neighbourhood.

    Parameters
    ----------
    samples, reference, k, n, chains, held_out
        As `precision`.

    Returns
    -------
    Bias
        As `precision`.

    Raises
    ------
    ValueError
        As `precision`.

    Notes
    -----
    The value is the fraction of reference balls, those of `precision`, that contain at least one sample (Naeem et al.
    2020, eq. 5). If samples and reference images are n independent draws each from one distribution, its expectation is
    ``1 - (n - 1) ... (n - k)/((2 n - 1) ... (2 n - k))`` (Naeem et al. 2020, eq. 9), about ``1 - 2^-k``.

    Examples
    --------
    >>> import numpy as np
    >>> from uldnum.diagnostics import coverage
    >>> x, y = np.random.default_rng(0).normal(size=(2, 500, 2))
    >>> bool(abs(coverage(x, y, n=500).value - 0.97) < 0.03)
    True
    """
    return of_points(share_reached, samples, reference, k, n, chains, held_out)


# A statistic maps (samples, reference, k) to its value.
Statistic = Callable[[Array, Array, int], float]


def of_points(statistic: Statistic, samples: Any, reference: Any, k: int, n: int, chains: Any, held_out: Any) -> Bias:
    """Return a statistic of n samples and n reference images, and the value of n held-out images."""
    x = checked_features("samples", samples)
    y = checked_features("reference", reference, x.shape[1])
    n = whole_number("n", n, 4, 2**31)
    k = whole_number("k", k, 1, n // 2 - 1)
    for name, features in (("samples", x), ("reference", y)):
        if len(features) < n:
            raise ValueError(f"{name}: must have at least n = {n} images, got {len(features)}")
    grouped, others = by_chain(x, chains), None
    if held_out is not None:
        others = held_out_part(checked_features("held_out", held_out, x.shape[1]), n)
    real = by_chain(y, None)[:n, 0]

    def measured(part: Array) -> tuple[float, float]:
        owner = evenly_spaced(np.repeat(np.arange(len(part)), part.shape[1]), n)
        chain = np.unique(owner, return_inverse=True)[1]
        chosen = evenly_spaced(part.reshape(-1, x.shape[1]), n)
        return statistic(chosen, real, k), half_sample_error(statistic, chosen, chain, real, k)

    return with_floor(measured, grouped, others)


def half_sample_error(statistic: Statistic, x: Array, chain: Array, y: Array, k: int) -> float:
    """Return the standard error of a statistic of samples x of the given chains and independent images y.

    It is NaN if a half has at most k images.
    """
    batches = 2 ** int(np.log2(batches_of(int(chain.max()) + 1, len(y), most=BATCHES)))
    squares = []
    for side in hadamard(batches)[1:]:
        of_x, of_y = side[chain % batches], side[np.arange(len(y)) % batches]
        halves = [(x[of_x == sign], y[of_y == sign]) for sign in (1, -1)]
        if min(len(part) for half in halves for part in half) <= k:
            return float("nan")
        gap = statistic(*halves[0], k) - statistic(*halves[1], k)
        squares.append(gap**2 / sum(len(x) / len(half[0]) for half in halves))
    return float(np.sqrt(np.mean(squares)))


def balls(centres: Array, k: int) -> Array:
    """Return the squared distance of each centre from its k-th nearest other centre, shape (n,)."""
    squared = np.empty(len(centres))
    for rows, distances in blocks(centres, centres):
        distances[np.arange(len(distances)), np.arange(rows.start, rows.stop)] = np.inf
        squared[rows] = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return squared


def inside(points: Array, centres: Array, k: int) -> Array:
    """Return the number of balls around the centres that contain each point, shape (n,)."""
    squared, total = balls(centres, k) + rounding(points, centres), np.zeros(len(points), dtype=int)
    for rows, distances in blocks(centres, points):
        total += np.sum(distances <= squared[rows, None], axis=0)
    return total


def share_inside(points: Array, centres: Array, k: int) -> float:
    """Return the fraction of points in at least one ball."""
    return float(np.mean(inside(points, centres, k) > 0))


def mean_inside(points: Array, centres: Array, k: int) -> float:
    """Return the mean number of balls that contain a point, divided by k."""
    return float(np.mean(inside(points, centres, k)) / k)


def share_reached(points: Array, centres: Array, k: int) -> float:
    """Return the fraction of balls that contain at least one point."""
    return float(np.mean(nearest(centres, points) <= balls(centres, k) + rounding(points, centres)))

"""Precision, recall, density and coverage of images, from the distances between nearest neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

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
from uldnum.diagnostics.images.neighbours import blocks, rounding
from uldnum.diagnostics.jackknife import Bias, jackknife_error

__all__ = ["K", "N", "coverage", "density", "precision", "recall"]

# Number of neighbours and of images, unless stated.
K, N = 5, 1000


class Points(NamedTuple):
    """n images with the number of the batch of each.

    Attributes
    ----------
    features : array, shape (n, f)
    batch : array of int, shape (n,)
        From 0 to B - 1.
    """

    features: Array
    batch: Array


class Balls(NamedTuple):
    """Balls around n images whose squared radius is the squared distance from the k-th nearest other image.

    Attributes
    ----------
    squared : array, shape (n,)
        Squared radii.
    without : array, shape (B, n)
        Squared radii without the images of each batch.
    """

    squared: Array
    without: Array


def precision(
    samples: Any, reference: Any, *, k: int = K, n: int = N, chains: Any = None, held_out: Any = None
) -> Bias:
    """Return the fraction of samples that are similar to reference images.

    Parameters
    ----------
    samples : array_like, shape (s, f)
        Features of s >= n images. Of more than n, an evenly spaced subset is used.
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

    The error is the jackknife error over up to 32 batches of chains and reference images. The intervals cover the
    expectation of the value at this n, not its limit. Compare numbers with equal k and n only, and with the floor.

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


# A statistic maps (samples, reference, k) to its value and to its values without each batch, shape (B,).
Statistic = Callable[[Points, Points, int], tuple[float, Array]]


def of_points(statistic: Statistic, samples: Any, reference: Any, k: int, n: int, chains: Any, held_out: Any) -> Bias:
    """Return a statistic of n samples and n reference images, and the value of n held-out images."""
    x = checked_features("samples", samples)
    y = checked_features("reference", reference, x.shape[1])
    n = whole_number("n", n, 4, 2**31)
    k = whole_number("k", k, 1, n // 2 - 1)
    for name, features in (("samples", x), ("reference", y)):
        if len(features) < n:
            raise ValueError(f"{name}: must have at least n = {n} images, got {len(features)}")

    def measured(grouped: Array) -> tuple[float, Array]:
        owner = evenly_spaced(np.repeat(np.arange(len(grouped)), grouped.shape[1]), n)
        chain = np.unique(owner, return_inverse=True)[1]
        batches = batches_of(int(chain.max()) + 1, n)
        chosen = Points(evenly_spaced(grouped.reshape(-1, x.shape[1]), n), chain % batches)
        value, without = statistic(chosen, Points(evenly_spaced(y, n), np.arange(n) % batches), k)
        return value, jackknife_error(without)

    grouped, others = by_chain(x, chains), None
    if held_out is not None:
        others = held_out_part(checked_features("held_out", held_out, x.shape[1]), n)
    return with_floor(measured, grouped, others)


def balls(points: Points, k: int) -> Balls:
    """Return the balls around images, with all images and without those of each batch."""
    x, batch = points
    n, batches = len(x), int(batch.max()) + 1
    known = min(n - 1, k + int(np.bincount(batch).max()))  # as many neighbours contain k from other batches
    squared, without = np.empty(n), np.empty((batches, n))
    for rows, distances in blocks(x, x):
        here = np.arange(len(distances))
        distances[here, np.arange(rows.start, rows.stop)] = np.inf
        order = np.argpartition(distances, known - 1, axis=1)[:, :known]
        near = np.take_along_axis(distances, order, axis=1)
        ranks = np.argsort(near, axis=1)
        near, owner = np.take_along_axis(near, ranks, axis=1), batch[np.take_along_axis(order, ranks, axis=1)]
        squared[rows] = near[:, k - 1]
        without[:, rows] = near[:, k - 1]
        for b in owner[:, :k].T:  # other batches leave the radius as it is
            last = np.argmax(np.cumsum(owner != b[:, None], axis=1) == k, axis=1)
            without[b, rows.start + here] = near[here, last]
    slack = rounding(x, x)
    return Balls(squared + slack, without + slack)


def inside(points: Points, centres: Points, k: int) -> tuple[Array, Array]:
    """Return the number of balls around the centres that contain each point.

    The first result, of shape (n,), is that of all balls. The second, of shape (B, n), is that without the centres of
    each batch.
    """
    each = balls(centres, k)
    widest = each.without.max(axis=0)
    batches, n = len(each.without), len(points.features)
    own, grown = np.zeros(batches * n, dtype=int), np.zeros(batches * n, dtype=int)
    for rows, distances in blocks(centres.features, points.features):
        centre, point = np.nonzero(distances <= widest[rows, None])
        squared = distances[centre, point]
        centre += rows.start
        within = squared <= each.squared[centre]
        own += np.bincount(centres.batch[centre[within]] * n + point[within], minlength=batches * n)
        centre, point, squared = centre[~within], point[~within], squared[~within]
        for b in range(batches):
            new = point[(squared <= each.without[b, centre]) & (centres.batch[centre] != b)]
            grown += np.bincount(b * n + new, minlength=batches * n)
    inside_own = own.reshape(batches, n)
    total = inside_own.sum(axis=0)
    return total, total - inside_own + grown.reshape(batches, n)


def share_inside(points: Points, centres: Points, k: int) -> tuple[float, Array]:
    """Return the fraction of points in at least one ball, and without each batch."""
    total, without = inside(points, centres, k)
    return float(np.mean(total > 0)), kept_mean(without > 0, points.batch)


def mean_inside(points: Points, centres: Points, k: int) -> tuple[float, Array]:
    """Return the mean number of balls that contain a point, divided by k, and without each batch."""
    total, without = inside(points, centres, k)
    return float(np.mean(total) / k), kept_mean(without, points.batch) / k


def share_reached(points: Points, centres: Points, k: int) -> tuple[float, Array]:
    """Return the fraction of balls that contain at least one point, and without each batch."""
    each = balls(centres, k)
    batches, n = each.without.shape
    closest = np.full((batches, n), np.inf)
    for rows, distances in blocks(centres.features, points.features):
        for b in range(batches):
            closest[b, rows] = distances[:, points.batch == b].min(axis=1)
    first, second = np.partition(closest, 1, axis=0)[:2]
    others = np.where(np.arange(batches)[:, None] == closest.argmin(axis=0), second, first)
    return float(np.mean(first <= each.squared)), kept_mean(others <= each.without, centres.batch)


def kept_mean(values: Array, batch: Array) -> Array:
    """Return the means of values without each batch over the images of the other batches, (B, n) -> (B,)."""
    kept = np.arange(len(values))[:, None] != batch
    return np.asarray((values * kept).sum(axis=1) / kept.sum(axis=1))

"""Distances between samples and their nearest training images, which show memorisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from uldnum._util.typing import Array
from uldnum.diagnostics.images.arrays import by_chain, checked_features
from uldnum.diagnostics.images.neighbours import nearest, rounding
from uldnum.diagnostics.jackknife import Bias

__all__ = ["nearest_training"]


def nearest_training(samples: Any, training: Any, held_out: Any, *, chains: Any = None) -> Bias:
    """Return the probability that a sample is closer to the training images than a held-out image is.

    Parameters
    ----------
    samples : array_like, shape (n, f)
        Features, or pixels, of n images.
    training : array_like, shape (t, f)
        Features of the training images.
    held_out : array_like, shape (m, f)
        Features of m independent images that are not in the training set.
    chains : array_like of int, shape (n,), optional
        Number of the chain of each sample. All chains have the same number of images. The default stands for
        independent images.

    Returns
    -------
    Bias
        Scalars between 0 and 1. The floor is 0.5, the value of other held-out images. Values near 1 show that the
        samples are copies of training images.

    Raises
    ------
    ValueError
        If an array has another shape or a NaN, or if chains are of unequal length.

    Notes
    -----
    The value is ``P(d(x) < d(z)) + P(d(x) = d(z))/2`` over all pairs of a sample x and a held-out image z, where d is
    the distance from the nearest training image. Distances that are equal within rounding errors are equal. The value
    is the statistic of Mann & Whitney (1947), which Meehan, Chaudhuri & Dasgupta (2020, sec. 3) use as a test of data
    copying. The error is that of DeLong, DeLong & Clarke-Pearson (1988) with the means of chains. The training images
    are considered as fixed. Values above 0.5 have other causes, too: blurred images are closer to training images, and
    held-out images of other origin are further away.

    Examples
    --------
    >>> import numpy as np
    >>> from uldnum.diagnostics import nearest_training
    >>> training, held_out = np.random.default_rng(0).normal(size=(2, 300, 8))
    >>> float(nearest_training(training[:100], training, held_out).value)
    1.0
    """
    x = checked_features("samples", samples)
    y = checked_features("training", training, x.shape[1])
    z = checked_features("held_out", held_out, x.shape[1])
    grouped = by_chain(x, chains)
    mine, theirs = nearest(grouped.reshape(x.shape), y), nearest(z, y)
    tie = max(rounding(x, y), rounding(z, y))
    further = 1 - ranks(mine, theirs, tie)  # for each sample, the fraction of held-out images that are further away
    closer = ranks(theirs, mine, tie)
    by_chains = further.reshape(grouped.shape[:2]).mean(axis=1)
    variance = mean_variance(by_chains) + mean_variance(closer)
    return Bias(further.mean(), np.sqrt(variance), np.asarray(0.5))


def ranks(values: Array, others: Array, tie: float) -> Array:
    """Return, for each value, the fraction of others that are smaller, where those within ``tie`` count half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, values - tie, "left") + np.searchsorted(ordered, values + tie, "right")
    return below / (2 * len(others))


def mean_variance(values: Array) -> Array:
    """Return the variance of the mean of independent values."""
    return np.asarray(np.var(values, ddof=1) / len(values))

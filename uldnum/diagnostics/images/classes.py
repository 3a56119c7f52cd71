"""Distribution of the classes of images."""

from __future__ import annotations

from typing import Any

import numpy as np

from uldnum._util.typing import Array
from uldnum.diagnostics.images.arrays import batches_of, by_chain, checked_classes, held_out_part, with_floor
from uldnum.diagnostics.jackknife import Bias, jackknife, other_norm

__all__ = ["class_distribution", "effective_classes"]


def class_distribution(labels: Any, reference_labels: Any, *, chains: Any = None, held_out_labels: Any = None) -> Bias:
    """Return the total variation distance between the classes of samples and of reference images.

    Parameters
    ----------
    labels : array_like of int, shape (n,)
        Class of each of n images.
    reference_labels : array_like of int, shape (m,)
        Class of each of m independent reference images.
    chains : array_like of int, shape (n,), optional
        Number of the chain of each sample. All chains have the same number of images. The default stands for
        independent images.
    held_out_labels : array_like of int, shape (l,), optional
        Class of each of l >= n independent held-out images, of which n give the floor.

    Returns
    -------
    Bias
        Scalars between 0 and 1. The floor is the distance of n held-out images, and NaN without them.

    Raises
    ------
    ValueError
        If a class is not a non-negative integer, if chains are of unequal length, or if there are fewer than n held-out
        images.

    Notes
    -----
    The distance is ``1/2 sum_j |p_j - q_j|``, where p_j and q_j are the shares of class j. It is biased upwards by
    noise. The error includes the noise of samples and reference images and follows from up to 32 batches of chains, as
    in `uldnum.diagnostics.jackknife.other_norm`.

    Examples
    --------
    >>> from uldnum.diagnostics import class_distribution
    >>> float(class_distribution([0, 0, 0, 1], [0, 1, 0, 1]).value)
    0.25
    """
    mine, theirs = checked_classes("labels", labels), checked_classes("reference_labels", reference_labels)
    others, real = held_out_classes(held_out_labels, len(mine)), by_chain(theirs, None)
    return with_floor(lambda part: total_variation(part, real)[:2], by_chain(mine, chains), others)


def held_out_classes(labels: Any, number: int) -> Array | None:
    """Return a given number of classes of held-out images, grouped as independent chains, or None without them."""
    return None if labels is None else held_out_part(checked_classes("held_out_labels", labels), number)


def total_variation(x: Array, y: Array) -> Bias:
    """Return the total variation distance between classes grouped by chain, (chains, images)."""
    batches = batches_of(len(x), len(y))
    known = int(max(x.max(), y.max())) + 1
    one, other = counted(x, known, batches), counted(y, known, batches)
    shares = [part.sum(axis=0) / part.sum() for part in (one, other)]
    deviations = [(p - p.sum(axis=1, keepdims=True) * q) / p.sum() for p, q in zip((one, other), shares, strict=True)]
    return other_norm(lambda gaps: np.abs(gaps).sum(axis=-1) / 2, shares[0] - shares[1], deviations[0] - deviations[1])


def counted(x: Array, known: int, batches: int) -> Array:
    """Return the number of images of each class in each batch of chains, shape (batches, classes)."""
    return np.array([np.bincount(x[b::batches].ravel(), minlength=known) for b in range(batches)])


def effective_classes(labels: Any, *, chains: Any = None, held_out_labels: Any = None) -> Bias:
    """Return the effective number of classes of images, the exponential of the entropy of their distribution.

    Parameters
    ----------
    labels : array_like of int, shape (n,)
        Class of each of n images.
    chains : array_like of int, shape (n,), optional
        Number of the chain of each sample. All chains have the same number of images. The default stands for
        independent images.
    held_out_labels : array_like of int, shape (l,), optional
        Class of each of l >= n independent held-out images, of which n give the floor.

    Returns
    -------
    Bias
        Scalars from 1 to the number of classes. The floor is the number of n held-out images, and NaN without them.

    Raises
    ------
    ValueError
        As `class_distribution`.

    Notes
    -----
    The number is ``exp(-sum_j p_j log p_j)`` (Hill 1973, order 1), where p_j is the share of class j. For n independent
    images of c classes, it is too small by about a fraction ``(c - 1)/(2 n)``. The error is the jackknife error over up
    to 32 batches of chains; it covers the expectation at n.

    Examples
    --------
    >>> from uldnum.diagnostics import effective_classes
    >>> round(float(effective_classes([0, 1, 2, 3]).value), 12)
    4.0
    """
    mine = checked_classes("labels", labels)
    return with_floor(hill_number, by_chain(mine, chains), held_out_classes(held_out_labels, len(mine)))


def hill_number(x: Array) -> tuple[Array, Array]:
    """Return the effective number of classes grouped by chain, (chains, images), and its standard error."""
    batches = batches_of(len(x))
    counts = counted(x, int(x.max()) + 1, batches)

    def number(weights: Array) -> Array:
        shares = weights @ counts / np.sum(weights @ counts)
        used = shares[shares > 0]
        return np.asarray(np.exp(-np.sum(used * np.log(used))))

    return jackknife(number, batches)

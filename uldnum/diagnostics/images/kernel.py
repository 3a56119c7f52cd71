"""Kernel distance between the features of two sets of images."""

from __future__ import annotations

from typing import Any

import numpy as np

from uldnum._util.typing import Array
from uldnum.diagnostics.images.arrays import batches_of, by_chain, checked_features, with_floor
from uldnum.diagnostics.jackknife import Bias
from uldnum.diagnostics.samples import own_sums, pair_sums, sizes_of, u_statistic

__all__ = ["kernel_distance"]

# Largest number of reference or held-out images, and approximate number of images in one call of `kernel` by
# `different_chains`.
PAIRED, ROWS = 10_000, 2**10


def kernel_distance(samples: Any, reference: Any, *, chains: Any = None, held_out: Any = None) -> Bias:
    r"""Return the kernel distance between the features of samples and of reference images.

    Parameters
    ----------
    samples : array_like, shape (n, f)
        Features of n images. The cost grows as n^2.
    reference : array_like, shape (m, f)
        Features of m independent reference images. Of more than 10,000, a fixed random subset is used.
    chains : array_like of int, shape (n,), optional
        Index of the chain of each sample. All chains must have the same number of images. By default, the images are
        independent.
    held_out : array_like, shape (l, f), optional
        Features of independent held-out images, from which the floor is computed. Of more than 10,000, a fixed random
        subset is used.

    Returns
    -------
    Bias
        Scalars in units that depend on the features. The estimate is unbiased and may therefore be negative. The
        floor is the distance of the held-out images, or NaN without them. The error is NaN for fewer than three chains.

    Raises
    ------
    ValueError
        If an array has another shape or a NaN, or if chains are of unequal length.

    Notes
    -----
    The distance is the unbiased estimate of the squared maximum mean discrepancy (Binkowski et al. 2018, eq. 4):

    .. math:: E k(x, x') + E k(y, y') - 2 E k(x, y), \qquad k(x, y) = (x \cdot y/f + 1)^3

    It is the KID of that paper if the features are those of the Inception network. The mean over pairs of samples x and
    x' omits pairs from the same chain, because these are correlated. The error includes the noise of samples and
    reference images. It follows from up to 32 batches of chains and of reference images, as in
    `uldnum.diagnostics.samples.u_statistic`.

    Examples
    --------
    The distance between N(m, I) and N(0, I) is ``3 |m|^2/f`` plus terms of higher order in ``|m|^2/f`` and ``1/f``.

    >>> import numpy as np
    >>> from uldnum.diagnostics import kernel_distance
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(1000, 4)) + 0.5, rng.normal(size=(1000, 4))
    >>> distance = kernel_distance(x, y)
    >>> bool(distance.value > 5 * distance.error)
    True
    """
    x = checked_features("samples", samples)
    y = checked_features("reference", reference, x.shape[1])
    grouped, real, others = by_chain(x, chains), at_most(y), None
    if held_out is not None:
        others = at_most(checked_features("held_out", held_out, x.shape[1]))
    return with_floor(lambda part: measured(part, real), grouped, others)


def at_most(features: Array) -> Array:
    """Return the features of at most PAIRED independent images, each as a chain of one image."""
    return by_chain(features, None)[:PAIRED]


def kernel(a: Array, b: Array) -> Array:
    """Return the matrix of the kernel between features, (..., n, f) and (..., m, f) -> (..., n, m)."""
    base = a @ b.swapaxes(-2, -1)
    base /= a.shape[-1]
    base += 1
    cube = base * base
    cube *= base
    return cube


def measured(x: Array, y: Array) -> tuple[float, float]:
    """Return the distance between features grouped by chain, (chains, images, f), and its standard error."""
    batches = batches_of(len(x), len(y))
    one, other = ([part[b::batches].reshape(-1, part.shape[-1]) for b in range(batches)] for part in (x, y))
    within, beside, across = own_sums(kernel, one), own_sums(kernel, other), pair_sums(kernel, one, other)
    value = different_chains(x, within) + different_chains(y, beside) - 2 * across.sum() / x[..., 0].size / len(y)
    # The difference of a batch is the mean embedding of its samples minus that of its reference images. ``products``
    # holds the scalar products of the differences of all pairs of batches. The weight of a batch is its share of the
    # samples.
    n, m = sizes_of(one), sizes_of(other)
    mixed = across / np.outer(n, m)
    products = within / np.outer(n, n) + beside / np.outer(m, m) - mixed - mixed.T
    shares = n / n.sum()
    return float(value), float(u_statistic(products * np.outer(shares, shares), shares).error)


def different_chains(x: Array, sums: Array) -> float:
    """Return the mean of the kernel over pairs from different chains; ``sums`` are its sums over pairs of batches."""
    same = sum(kernel(part, part).sum() for part in np.array_split(x, -(-len(x) * x.shape[1] // ROWS)))
    return float((sums.sum() - same) / (x[..., 0].size ** 2 * (1 - 1 / len(x))))

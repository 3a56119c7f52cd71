"""Gaussian mixtures as the kernels read them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from uldnum.dense import product, total
from uldnum.elementary import log2
from uldnum.typing import Array

__all__ = ["MixtureData", "factors_of", "mixture_data"]


class MixtureData(NamedTuple):
    """A mixture as the kernels read it; of one at several noise levels, arrays have a leading axis over them.

    Up to a factor common to all, component j has the weight ``2^log2_weights exp(-precisions |z|^2/2)`` at y, with
    z = R (y - mu), and the force ``-precisions R^T z``. Where R is a multiple of the identity, ``precisions`` holds its
    square and R, now 1, has no columns; else ``precisions`` is 1. A diagonal R is stored as one column, any other as
    the lower triangle that it is.
    """

    log2_weights: Array  # (K,), log2(w_j det(Sigma_j)^(-1/2)): a power of 2 costs less than one of e
    precisions: Array  # (K,)
    roots: Array  # (K, d, columns), R
    shifts: Array  # (K, d), -R mu

    @property
    def scratch(self) -> int:
        """Values that the score needs besides its result: a log weight for each component, z where R is a matrix."""
        K, d, columns = self.roots.shape[-3:]
        return K * (d + 1) if columns > 1 else K

    @property
    def terms(self) -> int:
        """Terms of a score: coordinates of all components, or entries of their matrices."""
        K, d, columns = self.roots.shape[-3:]
        return int(K * d * max(1, columns))


def factors_of(variances: Array, covariances: Array | None) -> Array:
    """Return lower Cholesky factors of covariances, or standard deviations as a column."""
    if covariances is None:
        return np.sqrt(variances)[..., None]
    from uldnum.kernels.factors import cholesky  # Numba is imported where matrices are factored, no sooner

    return cholesky(covariances)


def mixture_data(
    weights: Array, means: Array, variances: Array, covariances: Array | None, isotropic: bool, dtype: np.dtype[Any]
) -> MixtureData:
    """Return mixtures, whose axes may come before those of the components, as the kernels read them.

    Parameters
    ----------
    weights, means, variances : arrays, shapes (K,), (..., K, d) and (..., K, d)
        Of the components.
    covariances : array, shape (..., K, d, d), or None
        None where the axes of each component are independent.
    isotropic : bool
        Whether each component has one variance for all axes.
    dtype : dtype
        Type of the result.

    Raises
    ------
    ValueError
        If the type cannot hold the mixture.
    """
    precisions = np.ones(means.shape[:-1])
    if isotropic:
        precisions, roots, shifts = 1 / variances[..., 0], np.empty((*means.shape, 0)), means
        log2_volumes = -0.5 * means.shape[-1] * log2(precisions)
    else:
        factors = factors_of(variances, covariances)
        if covariances is None:
            roots, scales = 1 / factors, factors[..., 0]
            shifts = roots[..., 0] * means
        else:
            from uldnum.kernels.factors import inverse

            roots, scales = inverse(factors), np.diagonal(factors, 0, -2, -1)
            shifts = product(roots, means[..., None])[..., 0]
        log2_volumes = total(log2(scales))
    log2_weights = log2(weights) - log2_volumes
    parts = log2_weights, precisions, roots, -shifts
    with np.errstate(over="ignore"):
        cast = [np.ascontiguousarray(part, dtype=dtype) for part in parts]
    if not all(np.isfinite(part).all() for part in cast):
        raise ValueError(f"dtype: {dtype} cannot hold the precisions and means of this mixture; take float64")
    return MixtureData(*cast)

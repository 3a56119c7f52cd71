"""Conversion of Gaussian mixtures to the layout of the kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from uldnum._util.typing import Array
from uldnum.arithmetic.dense import product, total
from uldnum.arithmetic.elementary import log2
from uldnum.kernels.source.mixture import MixtureData

__all__ = ["factors_of", "mixture_data"]


def factors_of(variances: Array, covariances: Array | None) -> Array:
    """Return the lower Cholesky factors, shape (..., K, d, d), or standard deviations, shape (..., K, d, 1)."""
    if covariances is None:
        return np.sqrt(variances)[..., None]
    from uldnum.targets.factors import cholesky  # imported late, as it imports Numba

    return cholesky(covariances)


def mixture_data(
    weights: Array, means: Array, variances: Array, covariances: Array | None, isotropic: bool, equal: bool,
    dtype: np.dtype[Any],
) -> MixtureData:  # fmt: skip
    """Return one mixture, or an array of mixtures with common weights, in the layout of the kernels.

    Parameters
    ----------
    weights : array, shape (K,)
        Weights of the components.
    means, variances : arrays, shape (..., K, d)
        Means and variances of the components. The leading axes are those of the array of mixtures.
    covariances : array, shape (..., K, d, d), or None
        Covariances of the components; None if the coordinates of each component are independent.
    isotropic : bool
        Whether each component has one variance for all coordinates.
    equal : bool
        Whether all components have the same variance for all coordinates.
    dtype : dtype
        Floating-point type of the result.

    Returns
    -------
    MixtureData
        Parameters of the mixture.

    Raises
    ------
    ValueError
        If a parameter of the mixture is not finite in this type.
    """
    precisions = np.ones((*means.shape[:-2], 1))
    if isotropic:
        precisions, roots, shifts = 1 / variances[..., 0], np.empty((*means.shape, 0)), means
        log2_volumes = -0.5 * means.shape[-1] * log2(precisions)
        precisions = precisions[..., :1] if equal else precisions
    else:
        factors = factors_of(variances, covariances)
        if covariances is None:
            roots, scales = 1 / factors, factors[..., 0]
            shifts = roots[..., 0] * means
        else:
            from uldnum.targets.factors import inverse

            roots, scales = inverse(factors), np.diagonal(factors, 0, -2, -1)
            shifts = product(roots, means[..., None])[..., 0]
        log2_volumes = total(log2(scales))
    log2_weights = log2(weights) - log2_volumes
    parts = log2_weights, precisions, roots, -shifts
    with np.errstate(over="ignore"):
        cast = [np.ascontiguousarray(part, dtype=dtype) for part in parts]
    if not all(np.isfinite(part).all() for part in cast):
        raise ValueError(f"dtype: the precisions and means of this mixture overflow in {dtype}; use float64")
    return MixtureData(*cast)

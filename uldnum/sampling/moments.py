"""Means and covariances over chains and steps, with standard errors from the variance between chains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uldnum._util.typing import Array

__all__ = ["Moments", "standard_error"]


@dataclass(frozen=True, eq=False)
class Moments:
    """First and second moments of each chain, averaged over its recorded steps.

    Chains are independent, but the steps of one chain are not. Standard errors are therefore the standard deviation
    between chains divided by the square root of their number; with one chain they are NaN.

    Parameters
    ----------
    centre : float64 array, shape (d,)
        Fixed centre of the moments, which avoids cancellation.
    first : float64 array, shape (..., chains, d)
        Average of ``x - centre`` over the steps of each chain.
    second : float64 array, shape (..., chains, d (d + 1)/2)
        Average of ``(x - centre)_i (x - centre)_j`` for i >= j: the lower triangle, row by row.
    """

    centre: Array
    first: Array
    second: Array

    @property
    def pairs(self) -> tuple[Array, Array]:
        """Row and column indices of the lower triangle."""
        row, column = np.tril_indices(len(self.centre))
        return row, column

    def matrix(self, triangle: Array) -> Array:
        """Return the symmetric matrix with a given lower triangle, (..., d (d + 1)/2) -> (..., d, d)."""
        d = len(self.centre)
        row, column = self.pairs
        full = np.empty((*triangle.shape[:-1], d, d))
        full[..., row, column] = full[..., column, row] = triangle
        return full

    @property
    def mean(self) -> Array:
        """Mean, shape (..., d)."""
        return self.centre + self.first.mean(axis=-2)

    @property
    def mean_error(self) -> Array:
        """Standard error of `mean`."""
        return standard_error(self.first, axis=-2)

    @property
    def covariance(self) -> Array:
        """Covariance, shape (..., d, d)."""
        row, column = self.pairs
        m = self.first.mean(axis=-2)
        return self.matrix(self.second.mean(axis=-2) - m[..., row] * m[..., column])

    @property
    def covariance_error(self) -> Array:
        """Standard error of `covariance`, to first order in the error of the mean."""
        row, column = self.pairs
        m = self.first.mean(axis=-2, keepdims=True)
        influence = self.second - m[..., row] * self.first[..., column] - self.first[..., row] * m[..., column]
        return self.matrix(standard_error(influence, axis=-2))

    @property
    def chain_mean(self) -> Array:
        """Mean of x_i over the steps of each chain, shape (..., chains, d)."""
        return self.centre + self.first

    @property
    def chain_square(self) -> Array:
        """Mean of x_i^2 over the steps of each chain, shape (..., chains, d)."""
        row, column = self.pairs
        return self.second[..., row == column] + self.centre * (2 * self.first + self.centre)


def standard_error(values: Array, axis: int) -> Array:
    """Return the standard error of the mean of independent values along an axis; NaN for a single value."""
    n = values.shape[axis]
    if n == 1:
        return np.full_like(values.sum(axis=axis), np.nan)
    return values.std(axis=axis, ddof=1) / np.sqrt(n)

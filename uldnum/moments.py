"""Streaming moments: means and covariances over chains and steps, with standard errors from the chains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uldnum.typing import Array

__all__ = ["Moments"]


@dataclass(frozen=True, eq=False)
class Moments:
    """First and second moments of each chain, over its recorded steps, about a fixed centre.

    Chains are independent, steps of one chain are not: an error is the standard deviation over chains divided by the
    root of their number. With one chain it is NaN.

    Parameters
    ----------
    centre : float64 array, shape (d,)
    first : float64 array, shape (..., chains, d)
        Average of x - centre over the steps of each chain.
    second : float64 array, shape (..., chains, d, d)
        Average of its products.
    """

    centre: Array
    first: Array
    second: Array

    @classmethod
    def from_sums(cls, centre: Array, sums: Array, squares: Array, count: int) -> Moments:
        """Return moments from the sums that executors keep: of x - centre, and of the lower triangle of its products.

        Parameters
        ----------
        sums : array, shape (..., chains, d)
        squares : array, shape (..., chains, d (d + 1)/2)
        count : int
            Number of recorded steps; if 0, all is NaN.
        """
        d = len(centre)
        row, column = np.tril_indices(d)
        second = np.empty((*sums.shape, d))
        scale = 1 / count if count else np.nan
        second[..., row, column] = second[..., column, row] = squares * scale
        return cls(centre, sums * scale, second)

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
        m = self.first.mean(axis=-2)
        return self.second.mean(axis=-3) - m[..., :, None] * m[..., None, :]

    @property
    def covariance_error(self) -> Array:
        """Standard error of `covariance`, to first order in the error of the mean."""
        m = self.first.mean(axis=-2, keepdims=True)
        influence = (
            self.second - m[..., :, None] * self.first[..., None, :] - self.first[..., :, None] * m[..., None, :]
        )
        return standard_error(influence, axis=-3)

    @property
    def chain_mean(self) -> Array:
        """E[x_i] within each chain, shape (..., chains, d)."""
        return self.centre + self.first

    @property
    def chain_square(self) -> Array:
        """E[x_i^2] within each chain, shape (..., chains, d)."""
        return np.diagonal(self.second, axis1=-2, axis2=-1) + self.centre * (2 * self.first + self.centre)


def standard_error(values: Array, axis: int) -> Array:
    """Return the standard error of the mean of independent values along an axis; NaN if there is only one."""
    n = values.shape[axis]
    if n == 1:
        return np.full_like(values.sum(axis=axis), np.nan)
    return values.std(axis=axis, ddof=1) / np.sqrt(n)

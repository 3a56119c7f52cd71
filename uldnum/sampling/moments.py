"""Means and covariances over chains and steps, with standard errors from the variance between chains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from uldnum._util.typing import Array

__all__ = ["Moments", "NotRecordedError", "standard_error"]


class NotRecordedError(ValueError, AttributeError):
    """Error for a property that a run did not record. As it is an AttributeError, `hasattr` returns False."""


@dataclass(frozen=True, eq=False)
class Moments:
    """First and second moments of x, or of (x, p), of each chain, averaged over the accumulated steps.

    Chains are independent, but the steps of one chain are not. Standard errors are therefore the standard deviation
    between chains divided by the square root of their number; with one chain they are NaN.

    Parameters
    ----------
    centre : float64 array, shape (d,)
        Fixed centre of the moments, which avoids cancellation.
    sums : float64 array, shape (..., chains, d)
        Sums of ``x - centre`` over the steps of each chain.
    products : float64 array, shape (..., chains, pairs)
        Sums over the same steps. With pairs = d, they are sums of ``(x - centre)_i^2``. With pairs = d (d + 1)/2, they
        are sums of ``(x - centre)_i (x - centre)_j`` for i >= j, the lower triangle, row by row. With pairs = 0, there
        are none.
    weight : float or float64 array, shape (..., 1, 1), default 1.0
        Factor of all sums: the reciprocal of the number of accumulated steps, or NaN if a chain diverged.
    records : tuple of two str, default ("variance", "covariance")
        Values of the argument ``record`` of `uldnum.sample`. If the variances or the covariances are missing, the error
        message suggests the first or the second value.

    Raises
    ------
    NotRecordedError
        If a property is read for which the products are missing.
    """

    centre: Array
    sums: Array
    products: Array
    weight: float | Array = 1.0
    records: tuple[str, str] = ("variance", "covariance")

    @property
    def has_covariance(self) -> bool:
        """Whether the products are those of a covariance."""
        return self.products.shape[-1] == len(self.pairs[0])

    def leading(self, d: int) -> Moments:
        """Return the moments of the first d coordinates."""
        products = self.products[..., : d * (d + 1) // 2 if self.has_covariance else d]
        return replace(self, centre=self.centre[:d], sums=self.sums[..., :d], products=products)

    def mapped(self, linear: Callable[[Array], Array], diagonal: bool) -> Moments:
        """Return the moments of L z for moments of z, where L maps the centre to itself.

        ``linear`` applies L to the last axis of an array, and ``diagonal`` states whether L is diagonal. If it is not,
        only the covariance of z gives the variances of L z.
        """
        row, column = self.pairs
        if self.has_covariance:
            products = linear(linear(self.matrix(self.products)).swapaxes(-1, -2))[..., row, column]
        elif diagonal:
            products = self.products * linear(np.ones(len(self.centre)))[: self.products.shape[-1]] ** 2
        else:
            return replace(
                self, sums=linear(self.sums), products=self.products[..., :0], records=(self.records[1],) * 2
            )
        return replace(self, sums=linear(self.sums), products=products)

    @cached_property
    def first(self) -> Array:
        """Average of ``x - centre`` over the steps of each chain, shape (..., chains, d)."""
        return self.sums * self.weight

    @cached_property
    def second(self) -> Array:
        """Averages of the products over the steps of each chain, shape (..., chains, pairs)."""
        return self.products * self.weight

    @property
    def square(self) -> Array:
        """Average of ``(x - centre)^2`` over the steps of each chain, shape (..., chains, d)."""
        row, column = self.pairs
        if self.has_covariance:
            return self.second[..., row == column]
        if not self.products.shape[-1]:
            raise NotRecordedError(f"the run recorded no second moments; pass record='{self.records[0]}' to sample()")
        return self.second

    @property
    def triangle(self) -> Array:
        """Averages of ``(x - centre)_i (x - centre)_j`` for i >= j, shape (..., chains, d (d + 1)/2)."""
        if not self.has_covariance:
            raise NotRecordedError(f"the run recorded no covariance; pass record='{self.records[1]}' to sample()")
        return self.second

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
    def variance(self) -> Array:
        """Variance of each coordinate, shape (..., d)."""
        return self.square.mean(axis=-2) - self.first.mean(axis=-2) ** 2

    @property
    def variance_error(self) -> Array:
        """Standard error of `variance`, to first order in the error of the mean."""
        m = self.first.mean(axis=-2, keepdims=True)
        return standard_error(self.square - 2 * m * self.first, axis=-2)

    @property
    def covariance(self) -> Array:
        """Covariance, shape (..., d, d)."""
        row, column = self.pairs
        m = self.first.mean(axis=-2)
        return self.matrix(self.triangle.mean(axis=-2) - m[..., row] * m[..., column])

    @property
    def covariance_error(self) -> Array:
        """Standard error of `covariance`, to first order in the error of the mean."""
        row, column = self.pairs
        m = self.first.mean(axis=-2, keepdims=True)
        influence = self.triangle - m[..., row] * self.first[..., column] - self.first[..., row] * m[..., column]
        return self.matrix(standard_error(influence, axis=-2))

    @property
    def chain_mean(self) -> Array:
        """Mean of x_i over the steps of each chain, shape (..., chains, d)."""
        return self.centre + self.first

    @property
    def chain_square(self) -> Array:
        """Mean of x_i^2 over the steps of each chain, shape (..., chains, d)."""
        return self.square + self.centre * (2 * self.first + self.centre)


def standard_error(values: Array, axis: int) -> Array:
    """Return the standard error of the mean of independent values along an axis; NaN for a single value."""
    n = values.shape[axis]
    if n == 1:
        return np.full_like(values.sum(axis=axis), np.nan)
    return values.std(axis=axis, ddof=1) / np.sqrt(n)

"""Cholesky factors and their inverses, compiled: the same bits on any processor, unlike those of LAPACK.

Every entry is a sum that is built term by term, in the order of the index of summation; the innermost loops run over
entries, so that they can be vectorised without a change of that order.
"""

from __future__ import annotations

import numpy as np

from uldnum.kernels.blocks import compiled
from uldnum.typing import Array

__all__ = ["cholesky", "inverse", "least_eigenvalues", "positive_definite"]


def cholesky(covariances: Array) -> Array:
    """Return the lower Cholesky factors of positive definite matrices, shape (..., d, d)."""
    factors, _ = factorised(covariances)
    return factors


def positive_definite(covariances: Array) -> Array:
    """Whether matrices of shape (..., d, d) are positive definite to rounding, shape (...)."""
    _, pivots = factorised(covariances)
    return pivots > covariances.shape[-1] * np.finfo(float).eps / 2


def factorised(covariances: Array) -> tuple[Array, Array]:
    """Return Cholesky factors, and the least pivot of each matrix, in units of the diagonal entry in its place.

    Where that is not positive, the factor is not finished.
    """
    rows = np.array(covariances, dtype=float, order="C").reshape(-1, *covariances.shape[-2:])
    pivots = np.empty(len(rows))
    factorise(rows, pivots)
    return rows.reshape(covariances.shape), pivots.reshape(covariances.shape[:-2])


def inverse(factors: Array) -> Array:
    """Return the inverses of lower triangular matrices, shape (..., d, d)."""
    lower = np.ascontiguousarray(factors).reshape(-1, *factors.shape[-2:])
    result = np.zeros(lower.shape)
    invert(lower, result)
    return result.reshape(factors.shape)


def least_eigenvalues(matrices: Array) -> Array:
    """Return the least eigenvalues of symmetric matrices, shape (n, d, d) -> (n,), right to rounding of the largest.

    By bisection: a matrix is positive definite if its Cholesky factorisation finds positive pivots.
    """
    size = np.abs(matrices).max(axis=(1, 2)) * matrices.shape[-1]
    low, high = -size, np.diagonal(matrices, 0, 1, 2).min(axis=1)
    for _ in range(60):
        middle = low + (high - low) / 2
        _, pivots = factorised(matrices - middle[:, None, None] * np.eye(matrices.shape[-1]))
        low, high = np.where(pivots > 0, middle, low), np.where(pivots > 0, high, middle)
    return low


@compiled
def factorise(a, pivots):  # type: ignore[no-untyped-def]
    """Turn symmetric matrices into their lower Cholesky factors; stop at a pivot that is not positive."""
    d = a.shape[1]
    scale = np.empty(d)
    for c in range(a.shape[0]):
        # On and above the diagonal, the first rows hold the transposed factor, the others what is left to factor.
        u, pivots[c] = a[c], np.inf
        for i in range(d):
            scale[i] = u[i, i]
        for k in range(d):
            if not u[k, k] > 0:
                pivots[c] = 0
                break
            pivots[c] = min(pivots[c], u[k, k] / scale[k])
            root = np.sqrt(u[k, k])
            for j in range(k, d):
                u[k, j] /= root
            for i in range(k + 1, d):
                weight = u[k, i]
                for j in range(i, d):
                    u[i, j] -= weight * u[k, j]
        for i in range(d):
            for j in range(i):
                u[i, j], u[j, i] = u[j, i], 0


@compiled
def invert(lower, result):  # type: ignore[no-untyped-def]
    """Fill the result, which is 0, with the inverses of lower triangular matrices, row by row."""
    for c in range(lower.shape[0]):
        rows, x = lower[c], result[c]
        for i in range(rows.shape[0]):
            for k in range(i):
                weight = rows[i, k]
                for j in range(k + 1):
                    x[i, j] -= weight * x[k, j]
            for j in range(i):
                x[i, j] /= rows[i, i]
            x[i, i] = 1 / rows[i, i]

"""Cholesky factors and their inverses, compiled: the same bits on any processor, unlike those of LAPACK.

Every entry is a sum that is built term by term, in the order of the index of summation; the innermost loops run over
entries, so that they can be vectorised without a change of that order.
"""

from __future__ import annotations

import numpy as np

from uldnum._util.typing import Array
from uldnum.jit.compiling import compiled

__all__ = ["cholesky", "inverse", "least_eigenvalues", "positive_definite"]


def cholesky(covariances: Array) -> Array:
    """Return the lower Cholesky factors of positive definite matrices, shape (..., d, d)."""
    factors, _ = factorised(covariances)
    return factors


def positive_definite(covariances: Array) -> Array:
    """Whether matrices of shape (..., d, d) are positive definite beyond the rounding of their factorisation.

    A singular matrix would pass by chance: the diagonal is lowered by what rounding may add to it.
    """
    d = covariances.shape[-1]
    _, positive = factorised(covariances * (1 - d * np.finfo(float).eps * np.eye(d)))
    return positive


def factorised(covariances: Array) -> tuple[Array, Array]:
    """Return Cholesky factors, and whether all pivots of a matrix were positive; if not, its factor is not finished."""
    factors = np.array(covariances, dtype=float, order="C")
    positive = np.zeros(covariances.shape[:-2], dtype=bool)
    factorise(factors.reshape(-1, *covariances.shape[-2:]), positive.reshape(-1))
    return factors, positive


def inverse(factors: Array) -> Array:
    """Return the inverses of lower triangular matrices, shape (..., d, d)."""
    result = np.zeros(factors.shape)
    invert(np.ascontiguousarray(factors).reshape(-1, *factors.shape[-2:]), result.reshape(-1, *factors.shape[-2:]))
    return result


def least_eigenvalues(matrices: Array) -> Array:
    """Return the least eigenvalues of symmetric matrices, shape (n, d, d) -> (n,), right to rounding of the largest.

    By bisection: a matrix is positive definite if its Cholesky factorisation finds positive pivots.
    """
    d = matrices.shape[-1]
    low, high = -d * np.abs(matrices).max(axis=(1, 2)), np.diagonal(matrices, 0, 1, 2).min(axis=1)
    for _ in range(60):
        middle = low + (high - low) / 2
        _, positive = factorised(matrices - middle[:, None, None] * np.eye(d))
        low, high = np.where(positive, middle, low), np.where(positive, high, middle)
    return low


@compiled
def factorise(a, positive):  # type: ignore[no-untyped-def]
    """Turn symmetric matrices into their lower Cholesky factors; stop at a pivot that is not positive."""
    d = a.shape[1]
    for c in range(a.shape[0]):
        # On and above the diagonal, the first rows hold the transposed factor, the others what is left to factor.
        u, positive[c] = a[c], True
        for k in range(d):
            if not u[k, k] > 0:
                positive[c] = False
                break
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

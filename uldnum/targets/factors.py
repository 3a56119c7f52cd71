"""Compiled Cholesky factorisation, inverses and smallest eigenvalues, with the same bits on every processor.

LAPACK sums in an order that depends on the processor. Here, every entry is a sum in the order of the summation index.
The innermost loops run over entries, so vectorisation does not change that order.
"""

from __future__ import annotations

import numpy as np

from uldnum._util.typing import Array
from uldnum.jit.compiling import compiled

__all__ = ["cholesky", "inverse", "least_eigenvalues", "positive_definite"]


def cholesky(covariances: Array) -> Array:
    """Return the lower Cholesky factors of positive definite matrices, (..., d, d) -> (..., d, d)."""
    factors, _ = factorised(covariances)
    return factors


def positive_definite(covariances: Array) -> Array:
    """Return whether matrices are numerically positive definite, (..., d, d) -> (...).

    Rounding errors could let a singular matrix pass. Therefore the diagonal is first reduced by a bound on the rounding
    error of the factorisation.
    """
    d = covariances.shape[-1]
    _, positive = factorised(covariances * (1 - d * np.finfo(float).eps * np.eye(d)))
    return positive


def factorised(covariances: Array) -> tuple[Array, Array]:
    """Return the Cholesky factors, and whether all pivots are positive; a factor is only valid if they are."""
    factors = np.array(covariances, dtype=float, order="C")
    positive = np.zeros(covariances.shape[:-2], dtype=bool)
    factorise(factors.reshape(-1, *covariances.shape[-2:]), positive.reshape(-1))
    return factors, positive


def inverse(factors: Array) -> Array:
    """Return the inverses of lower triangular matrices, (..., d, d) -> (..., d, d)."""
    result = np.zeros(factors.shape)
    invert(np.ascontiguousarray(factors).reshape(-1, *factors.shape[-2:]), result.reshape(-1, *factors.shape[-2:]))
    return result


def least_eigenvalues(matrices: Array) -> Array:
    """Return the smallest eigenvalues of symmetric matrices, (n, d, d) -> (n,).

    The method is bisection: ``matrix - shift * identity`` is positive definite, which its Cholesky factorisation shows,
    if and only if the shift is below the smallest eigenvalue. The absolute error is of the order of the rounding error
    of the largest eigenvalue.
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
    """Replace symmetric matrices by their lower Cholesky factors; stop at the first pivot that is not positive."""
    d = a.shape[1]
    for c in range(a.shape[0]):
        # On and above the diagonal, rows before k hold the transposed factor, and the other rows the Schur complement.
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
    """Write the inverses of lower triangular matrices to ``result``, which is zero on entry, row by row."""
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

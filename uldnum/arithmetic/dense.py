"""Small dense linear algebra with a fixed order of operations, so that float64 results do not depend on the processor.

BLAS, LAPACK and `numpy.einsum` sum in an order that depends on the processor. The functions below add one term at a
time by NumPy's elementwise operations. Functions for larger matrices are compiled (`uldnum.targets.factors`).
"""

from __future__ import annotations

from functools import reduce

import numpy as np

from uldnum._util.typing import Array

__all__ = ["product", "total"]


def product(a: Array, b: Array) -> Array:
    """Return the matrix products of arrays of shapes (..., i, k) and (..., k, j)."""
    if a.shape[-1] == 0:
        return np.zeros((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]))
    return reduce(np.add, (a[..., :, q, None] * b[..., q, None, :] for q in range(a.shape[-1])))


def total(a: Array, axis: int = -1) -> Array:
    """Return the sum over an axis, added from the first entry to the last."""
    if a.shape[axis] == 0:
        return np.zeros(np.delete(a.shape, axis))
    return np.asarray(np.add.accumulate(a, axis=axis).take(-1, axis=axis))

"""Numbers of fifty digits, in NumPy arrays of objects: the recipes run on them as they stand.

A NumPy function of an array of objects calls the method of that name of each, so mpmath's numbers get the few methods
that recipes use.
"""

from __future__ import annotations

from functools import cache, partialmethod
from typing import Any

import numpy as np

from uldnum.extras import require
from uldnum.typing import Array

__all__ = ["lift", "solve"]

DIGITS = 50


@cache
def context() -> Any:
    """Return a context of mpmath of our own, whose numbers have NumPy's elementary functions as methods."""
    context = require("mpmath", "precise").MPContext()
    context.dps = DIGITS
    for name in ("exp", "expm1", "log", "sqrt", "tanh"):
        setattr(context.mpf, name, partialmethod(apply, getattr(context, name)))
    return context


def apply(x: Any, function: Any) -> Any:
    """Return the function of a number."""
    return function(x)


def lift(values: Array) -> Array:
    """Return float64 numbers as numbers of fifty digits."""
    return np.asarray(np.vectorize(context().mpf, otypes=[object])(values))


def solve(systems: Array, right: Array) -> Array:
    """Solve linear systems, shape (..., n, n), for one column each, shape (..., n, 1)."""
    matrix, lu_solve = context().matrix, context().lu_solve
    solution = np.empty(right.shape, object)
    for index in np.ndindex(right.shape[:-2]):
        x = lu_solve(matrix(systems[index].tolist()), matrix(right[index].tolist()))
        solution[index] = np.array([[x[i]] for i in range(len(x))], object)
    return solution

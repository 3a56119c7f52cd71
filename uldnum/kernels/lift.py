"""A user's score, written for the numbers of one chain, run on vectors of chains.

Numba types ``score(x, out, *args)`` again with rows of vectors in the place of arrays (`vectors.Row`); the functions
below are what it may call on them. What depends on the order of numbers, a branch above all, does not type: then the
score is called chain by chain.
"""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import overload, overload_attribute

from uldnum.kernels.lanes import core, jit
from uldnum.kernels.vectors import Row, Vector, length, numbers, sqrt, user_row, where

__all__ = ["chain_by_chain", "fault_on_vectors", "on_vectors"]


# Not strict: Numba would compare the annotations, too.
defined = partial(overload, strict=False)


def functions(kind: Vector) -> Any:
    """Return the elementary functions on vectors of a type."""
    return core(np.dtype(str(kind.number)), kind.lanes).functions


def lifted(names: tuple[Any, ...], make: Callable[[Vector], Any]) -> None:
    """Define functions of one argument on vectors."""
    for name in names:

        def definition(x: Any) -> Any:
            return make(x) if isinstance(x, Vector) and x.real else None

        defined(name)(definition)


def exp_of(kind: Vector) -> Any:
    """Exponential; the largest one there is for anything larger, which is escape enough."""
    exp, most = functions(kind).exp, 709.0 if kind.number == types.float64 else 88.0
    return lambda x: exp(where(x > most, most, x))


def log_of(kind: Vector) -> Any:
    """Logarithm; -inf at 0, NaN below."""
    log = functions(kind).log
    return lambda x: where(x > 0.0, log(x), where(x == 0.0, x - np.inf, x * np.nan))


def sin_of(kind: Vector) -> Any:
    """Sine."""
    cos_sin = functions(kind).cos_sin_of
    return lambda x: cos_sin(x)[1]


def cos_of(kind: Vector) -> Any:
    """Cosine."""
    cos_sin = functions(kind).cos_sin_of
    return lambda x: cos_sin(x)[0]


def tanh_of(kind: Vector) -> Any:
    """Hyperbolic tangent."""
    tanh = functions(kind).tanh
    return lambda x: tanh(x)


lifted((math.exp, np.exp), exp_of)
lifted((math.log, np.log), log_of)
lifted((math.sin, np.sin), sin_of)
lifted((math.cos, np.cos), cos_of)
lifted((math.tanh, np.tanh), tanh_of)
lifted((math.sqrt, np.sqrt), lambda kind: lambda x: sqrt(x))
lifted((builtins.abs, math.fabs, np.abs), lambda kind: lambda x: where(x < 0.0, -x, x))


def either(a: Any, b: Any) -> bool:
    """Whether one of two arguments is a vector, and the other one too or a number."""
    kinds = (Vector, types.Number)
    return isinstance(a, kinds) and isinstance(b, kinds) and (isinstance(a, Vector) or isinstance(b, Vector))


@defined(builtins.max)
@defined(np.maximum)
def larger(a: Any, b: Any) -> Any:
    """Return the larger of two."""
    return (lambda a, b: where(a > b, a, b)) if either(a, b) else None


@defined(builtins.min)
@defined(np.minimum)
def smaller(a: Any, b: Any) -> Any:
    """Return the smaller of two."""
    return (lambda a, b: where(a < b, a, b)) if either(a, b) else None


@defined(np.where)
def choice(condition: Any, yes: Any, no: Any) -> Any:
    """Choose lane by lane."""
    return (lambda condition, yes, no: where(condition, yes, no)) if isinstance(condition, Vector) else None


@defined(operator.pow)
def power(x: Any, n: Any) -> Any:
    """Whole powers, by multiplication."""
    if not (isinstance(x, Vector) and isinstance(n, types.Integer)):
        return None

    def multiplied(x, n):  # type: ignore[no-untyped-def]
        result = 0.0 * x + 1.0
        for _ in range(builtins.abs(n)):
            result = result * x
        return 1.0 / result if n < 0 else result

    return multiplied


@defined(len)
def length_of(x: Any) -> Any:
    """Return the dimension."""
    return (lambda x: length(x)) if isinstance(x, Row) else None


overload_attribute(Row, "size")(lambda x: lambda x: length(x))
overload_attribute(Row, "shape")(lambda x: lambda x: (length(x),))


def on_vectors(user_score: Any) -> Any:
    """Return the score for the kernel, all lanes at once."""

    @jit
    def score(s, q, y, target, d):  # type: ignore[no-untyped-def]
        user_score(user_row(y, d), user_row(s, d), *target)

    return score


def chain_by_chain(user_score: Any, lanes: int) -> Any:
    """Return the score for the kernel, one lane after the other; the scratch holds two rows of numbers."""

    @jit
    def score(s, q, y, target, d):  # type: ignore[no-untyped-def]
        at, to = numba.carray(numbers(y), (d, lanes)), numba.carray(numbers(s), (d, lanes))
        rows = numba.carray(numbers(q), (2, d))
        for c in range(lanes):
            for i in range(d):
                rows[0, i] = at[i, c]
            user_score(rows[0], rows[1], *target)
            for i in range(d):
                to[i, c] = rows[1, i]

    return score


def fault_on_vectors(user_score: Any, dtype: np.dtype[Any], lanes: int, arguments: tuple[Any, ...]) -> str:
    """Return why a score does not run on vectors, in a line; nothing if it does."""
    row = Row(numba.from_dtype(dtype), lanes)
    try:
        user_score.compile((row, row, *(numba.typeof(argument) for argument in arguments)))
    except Exception as error:  # Numba raises a class of its own for each fault of a function
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return lines[1] if len(lines) > 1 and lines[0].startswith("Failed in") else lines[0]
    return ""

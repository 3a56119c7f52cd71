"""A user's score, written for the numbers of one chain, run on vectors of chains.

Numba types ``score(x, out, *args)`` again with rows of vectors in the place of arrays (`values.Row`); the functions
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

from uldnum.jit.compiling import jit
from uldnum.jit.values import Row, length, numbers, user_row
from uldnum.jit.vectors import Vector, sqrt, where
from uldnum.kernels.numba.binding import core

__all__ = ["lift"]


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
    """Exponential, between e^-708 and e^709 (float32: e^-87 and e^88)."""
    exp, most = functions(kind).exp, 709.0 if kind.number == types.float64 else 88.0
    return lambda x: exp(where(x > most, most, x))


def log_of(kind: Vector) -> Any:
    """Logarithm; -inf at 0, NaN below."""
    log = functions(kind).log
    return lambda x: where((x > 0.0) & (x < np.inf), log(x), where(x < 0.0, x * np.nan, where(x == 0.0, x - np.inf, x)))


def turning(which: int) -> Callable[[Vector], Any]:
    """Return the cosine (0) or sine (1); NaN beyond 1e5 (float32: 1e3), where the reduction loses its digits."""

    def make(kind: Vector) -> Any:
        cos_sin, far = functions(kind).cos_sin_of, 1e5 if kind.number == types.float64 else 1e3
        return lambda x: where((x < far) & (x > -far), cos_sin(x)[which], x * np.nan)

    return make


def tanh_of(kind: Vector) -> Any:
    """Hyperbolic tangent."""
    tanh = functions(kind).tanh
    return lambda x: tanh(x)


lifted((math.exp, np.exp), exp_of)
lifted((math.log, np.log), log_of)
lifted((math.cos, np.cos), turning(0))
lifted((math.sin, np.sin), turning(1))
lifted((math.tanh, np.tanh), tanh_of)
lifted((math.sqrt, np.sqrt), lambda kind: lambda x: sqrt(x))
lifted((builtins.abs, math.fabs, np.abs), lambda kind: lambda x: where(x < 0.0, -x, x))


def either(a: Any, b: Any) -> bool:
    """Whether one of two arguments is a vector, and the other one too or a number."""
    kinds = (Vector, types.Number)
    return isinstance(a, kinds) and isinstance(b, kinds) and (isinstance(a, Vector) or isinstance(b, Vector))


@defined(builtins.max)
def larger(a: Any, b: Any) -> Any:
    """Return the larger of two, the first if one is not a number: like Python's."""
    return (lambda a, b: where(b > a, b, a)) if either(a, b) else None


@defined(builtins.min)
def smaller(a: Any, b: Any) -> Any:
    """Return the smaller of two, the first if one is not a number: like Python's."""
    return (lambda a, b: where(b < a, b, a)) if either(a, b) else None


@defined(np.maximum)
def maximum(a: Any, b: Any) -> Any:
    """Return the larger of two, NaN if one is not a number: like NumPy's."""
    return (lambda a, b: where((a > b) | (a != a), a, b)) if either(a, b) else None


@defined(np.minimum)
def minimum(a: Any, b: Any) -> Any:
    """Return the smaller of two, NaN if one is not a number: like NumPy's."""
    return (lambda a, b: where((a < b) | (a != a), a, b)) if either(a, b) else None


@defined(np.where)
def choice(condition: Any, yes: Any, no: Any) -> Any:
    """Choose lane by lane."""
    return (lambda condition, yes, no: where(condition, yes, no)) if isinstance(condition, Vector) else None


@defined(operator.pow)
@defined(operator.ipow)
def power(x: Any, n: Any) -> Any:
    """Whole powers, by multiplication."""
    if not (isinstance(x, Vector) and x.real and isinstance(n, types.Integer)):
        return None
    one = np.dtype(str(x.number)).type(1)

    def multiplied(x, n):  # type: ignore[no-untyped-def]
        result = where(x == x, one, x)
        for _ in range(builtins.abs(n)):
            result = result * x
        return one / result if n < 0 else result

    return multiplied


@defined(len)
def length_of(x: Any) -> Any:
    """Return the dimension."""
    return (lambda x: length(x)) if isinstance(x, Row) else None


overload_attribute(Row, "size")(lambda x: lambda x: length(x))
overload_attribute(Row, "shape")(lambda x: lambda x: (length(x),))


def on_vectors(user_score: Any) -> Any:
    """Return the score for the kernel, all lanes at once."""
    to_read, to_write = user_row(False), user_row(True)

    @jit
    def score(s, q, y, target, d):  # type: ignore[no-untyped-def]
        user_score(to_read(y, d), to_write(s, d), *target)

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


def lift(user_score: Any, dtype: np.dtype[Any], lanes: int, arguments: tuple[Any, ...]) -> tuple[Any, str]:
    """Return a user's score for the kernel, and why it does not run on vectors, in a line; nothing if it does.

    Arguments are given by their Numba types. The score is compiled anew, without the user's options and cache: those
    know nothing of vectors.
    """
    score = jit(user_score.py_func, forceinline=False)
    to_read, to_write = (Row(numba.from_dtype(dtype), lanes, writable) for writable in (False, True))
    try:
        score.compile((to_read, to_write, *arguments))
    except Exception as error:  # Numba raises a class of its own for each fault of a function
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        return chain_by_chain(score, lanes), lines[lines[0].startswith("Failed in") and len(lines) > 1]
    return on_vectors(score), ""

"""Compilation of a user's score, which is written for one chain, on vectors of chains.

Numba compiles ``score(x, out, *args)`` again with rows of vectors (`values.Row`) in place of arrays. The functions
below are those that a score may call on vectors. A score whose control flow depends on x, for example by a branch, does
not compile on vectors. It is then called chain by chain.
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


# By default, Numba requires the annotations of an overload to match.
defined = partial(overload, strict=False)


def functions(kind: Vector) -> Any:
    """Return the elementary functions on vectors of a type."""
    return core(np.dtype(str(kind.number)), kind.lanes).functions


def lifted(names: tuple[Any, ...], make: Callable[[Vector], Any]) -> None:
    """Define functions of one argument on vectors of reals."""
    for name in names:

        def definition(x: Any) -> Any:
            return make(x) if isinstance(x, Vector) and x.real else None

        defined(name)(definition)


def exp_of(kind: Vector) -> Any:
    """Return exp; arguments are clipped to [-708, 709] (float32: [-87, 88])."""
    exp, most = functions(kind).exp, 709.0 if kind.number == types.float64 else 88.0
    return lambda x: exp(where(x > most, most, x))


def log_of(kind: Vector) -> Any:
    """Return log, which is -inf at 0 and NaN below 0."""
    log = functions(kind).log
    return lambda x: where((x > 0.0) & (x < np.inf), log(x), where(x < 0.0, x * np.nan, where(x == 0.0, x - np.inf, x)))


def turning(which: int) -> Callable[[Vector], Any]:
    """Return cos (which = 0) or sin (1), which is NaN for |x| >= 1e5 (float32: 1e3), where it would be inaccurate."""

    def make(kind: Vector) -> Any:
        cos_sin, far = functions(kind).cos_sin_of, 1e5 if kind.number == types.float64 else 1e3
        return lambda x: where((x < far) & (x > -far), cos_sin(x)[which], x * np.nan)

    return make


def tanh_of(kind: Vector) -> Any:
    """Return tanh."""
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
    """Return whether both arguments are vectors, or one is a vector and the other a number."""
    kinds = (Vector, types.Number)
    return isinstance(a, kinds) and isinstance(b, kinds) and (isinstance(a, Vector) or isinstance(b, Vector))


def of_two(name: Any, pick: Callable[..., Any]) -> None:
    """Define a function of two arguments, of which at least one is a vector."""

    def definition(a: Any, b: Any) -> Any:
        return pick if either(a, b) else None

    defined(name)(definition)


of_two(builtins.max, lambda a, b: where(b > a, b, a))  # the first argument if either is NaN, as in Python
of_two(builtins.min, lambda a, b: where(b < a, b, a))
of_two(np.maximum, lambda a, b: where((a > b) | (a != a), a, b))  # NaN if either is NaN, as in NumPy
of_two(np.minimum, lambda a, b: where((a < b) | (a != a), a, b))


@defined(np.where)
def choice(condition: Any, yes: Any, no: Any) -> Any:
    """Select lane by lane."""
    return (lambda condition, yes, no: where(condition, yes, no)) if isinstance(condition, Vector) else None


@defined(operator.pow)
@defined(operator.ipow)
def power(x: Any, n: Any) -> Any:
    """Return an integer power by repeated multiplication."""
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
    """Return the dimension d."""
    return (lambda x: length(x)) if isinstance(x, Row) else None


overload_attribute(Row, "size")(lambda x: lambda x: length(x))
overload_attribute(Row, "shape")(lambda x: lambda x: (length(x),))


def on_vectors(user_score: Any) -> Any:
    """Return the score function of the kernel for a user's score that accepts vectors."""
    to_read, to_write = user_row(False), user_row(True)

    @jit
    def score(s, q, y, target, d):  # type: ignore[no-untyped-def]
        user_score(to_read(y, d), to_write(s, d), *target)

    return score


def chain_by_chain(user_score: Any, lanes: int) -> Any:
    """Return the score function of the kernel that calls a user's score for each lane; q holds two rows of scalars."""

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
    """Return the score function of the kernel for a user's score, and why it does not run on vectors.

    The reason is one line of Numba's error message, or an empty string. Arguments are given by their Numba types. The
    score is compiled again without the user's options and cache, which do not apply to vectors.
    """
    score = jit(user_score.py_func, forceinline=False)
    to_read, to_write = (Row(numba.from_dtype(dtype), lanes, writable) for writable in (False, True))
    try:
        score.compile((to_read, to_write, *arguments))
    except Exception as error:  # Numba raises many classes of errors
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        return chain_by_chain(score, lanes), lines[lines[0].startswith("Failed in") and len(lines) > 1]
    return on_vectors(score), ""

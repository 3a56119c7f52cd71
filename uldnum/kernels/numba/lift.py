"""Compilation of a user's score and log density, which are written for one chain, on vectors of chains.

Numba compiles ``score(x, out, *args)`` and ``log_density(x, *args)`` again with rows of vectors (`values.Row`) in place
of arrays. The functions below are those that they may call on vectors. A function whose control flow depends on x, for
example by a branch, does not compile on vectors. It is then called chain by chain.
"""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Callable
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import overload, overload_attribute

from uldnum.jit.compiling import jit, reason
from uldnum.jit.values import Row, length, local, numbers, user_row
from uldnum.jit.vectors import Vector, convert, where
from uldnum.kernels.numba.binding import core, ops
from uldnum.kernels.source.functions import make_total_functions

__all__ = ["lift", "lift_density"]


# By default, Numba requires the annotations of an overload to match.
defined = partial(overload, strict=False)


@cache
def functions(kind: Vector) -> SimpleNamespace:
    """Return the elementary functions on vectors of a type."""
    dtype = np.dtype(str(kind.number))
    return make_total_functions(ops(dtype, kind.lanes), core(dtype, kind.lanes).functions)


def lifted(name: str, *keys: Any) -> None:
    """Define functions of one argument on vectors of reals."""

    def definition(x: Any) -> Any:
        if not (isinstance(x, Vector) and x.real):
            return None
        function = getattr(functions(x), name)
        return lambda x: function(x)

    for key in keys:
        defined(key)(definition)


for name in ("exp", "log", "cos", "sin", "tanh", "sqrt"):
    lifted(name, getattr(math, name), getattr(np, name))
lifted("absolute", builtins.abs, math.fabs, np.abs)


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


def as_doubles(kind: Any) -> Any:
    """Return a function (value, like) that converts the result of a user's function, of a given type, to float64.

    A number is copied into every lane of a vector that has the lanes of ``like``. Other results, such as None, are
    returned as they are.
    """
    if isinstance(kind, Vector) and kind.real:
        to_double = convert(types.float64)
        return jit(lambda value, like: to_double(value))
    if isinstance(kind, types.Number):
        return jit(lambda value, like: where(like == like, float(value), float(value)))
    return jit(lambda value, like: value)


def score_on_vectors(user_score: Any, kind: Any) -> Any:
    """Return the score function of the kernel for a user's score that accepts vectors and returns a given type."""
    to_read, to_write, doubles = user_row(False), user_row(True), as_doubles(kind)

    @jit
    def score(s, q, y, target, d):  # type: ignore[no-untyped-def]
        return doubles(user_score(to_read(y, d), to_write(s, d), *target), y[0])

    return score


def score_chain_by_chain(user_score: Any, lanes: int, returns: bool) -> Any:
    """Return the score function of the kernel that calls a user's score for each lane; q holds two rows of scalars.

    If ``returns``, the user's score returns a number for each lane.
    """
    memory = local(types.float64, lanes, 1)

    @jit
    def score(s, q, y, target, d):  # type: ignore[no-untyped-def]
        at, to = numba.carray(numbers(y), (d, lanes)), numba.carray(numbers(s), (d, lanes))
        rows, found = numba.carray(numbers(q), (2, d)), memory(1)
        results = numba.carray(numbers(found), (lanes,))
        for c in range(lanes):
            for i in range(d):
                rows[0, i] = at[i, c]
            value = user_score(rows[0], rows[1], *target)
            if returns:
                results[c] = value
            for i in range(d):
                to[i, c] = rows[1, i]
        return found[0] if returns else None

    return score


def density_on_vectors(user_density: Any, kind: Any) -> Any:
    """Return the log density of the kernel for a user's function that accepts vectors and returns a given type."""
    to_read, doubles = user_row(False, True), as_doubles(kind)

    @jit
    def log_density(q, y, target, d):  # type: ignore[no-untyped-def]
        return doubles(user_density(to_read(y, d), *target), y[0])

    return log_density


def density_chain_by_chain(user_density: Any, lanes: int) -> Any:
    """Return the log density of the kernel that calls a user's function for each lane."""
    memory = local(types.float64, lanes, 1)

    @jit
    def log_density(q, y, target, d):  # type: ignore[no-untyped-def]
        at, found, row = numba.carray(numbers(y), (d, lanes)), memory(1), np.empty(d)
        results = numba.carray(numbers(found), (lanes,))
        for c in range(lanes):
            for i in range(d):
                row[i] = at[i, c]
            results[c] = user_density(row, *target)
        return found[0]

    return log_density


def compiled_on_vectors(function: Any, arguments: tuple[Any, ...]) -> tuple[Any, str]:
    """Compile a function on arguments of given types. Return the type of its result, or None and the reason why not."""
    try:
        function.compile(arguments)
    except Exception as error:  # Numba raises many classes of errors
        return None, reason(error)
    return function.nopython_signatures[-1].return_type, ""


def lift(
    user_score: Any, dtype: np.dtype[Any], lanes: int, arguments: tuple[Any, ...], returns: bool = False
) -> tuple[Any, str]:
    """Return the score function of the kernel for a user's score, and why it does not run on vectors.

    The reason is one line of Numba's error message, or an empty string. Arguments are given by their Numba types. The
    score is compiled again without the user's options and cache, which do not apply to vectors. If ``returns``, the
    user's score also returns the log density, and so does the result.
    """
    score = jit(user_score.py_func, forceinline=False)
    to_read, to_write = (Row(numba.from_dtype(dtype), lanes, writable) for writable in (False, True))
    kind, fault = compiled_on_vectors(score, (to_read, to_write, *arguments))
    return score_chain_by_chain(score, lanes, returns) if fault else score_on_vectors(score, kind), fault


def lift_density(user_density: Any, dtype: np.dtype[Any], lanes: int, arguments: tuple[Any, ...]) -> tuple[Any, str]:
    """Return the log density of the kernel, in float64, for a user's log density; see `lift`."""
    density = jit(user_density.py_func, forceinline=False)
    kind, fault = compiled_on_vectors(density, (Row(numba.from_dtype(dtype), lanes, False, True), *arguments))
    return density_chain_by_chain(density, lanes) if fault else density_on_vectors(density, kind), fault

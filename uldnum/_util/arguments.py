"""Checks of arguments: each returns the converted value, or raises a ValueError that names the argument.

Integers and reals are numbers. Booleans, complex numbers, dates and strings are refused, although NumPy would convert
some of them to numbers.
"""

from __future__ import annotations

import math
import numbers as kinds
import operator
import os
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from uldnum._util.typing import Array, ArrayLike

__all__ = [
    "answer_of",
    "broadcast",
    "converted",
    "file_path",
    "flag",
    "function",
    "interval",
    "non_negative",
    "number",
    "number_between",
    "numbers",
    "positive",
    "positive_number",
    "reals",
    "result_of",
    "shown",
    "step_size",
    "title",
    "whole_number",
]

# Largest number of characters of a value in an error message.
SHOWN = 200


def shown(value: Any) -> str:
    """Return a short representation of any value for an error message, without ever raising an exception."""
    try:
        short = reprlib.Repr()
        short.maxstring = short.maxother = SHOWN
        text = repr(value) if isinstance(value, np.generic) else short.repr(value)
    except Exception:  # an integer with too many digits for str, or an object whose __repr__ raises
        text = f"a value of type {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."


def numbers(name: str, value: ArrayLike | None) -> Array:
    """Return a copy of ``value`` as float64, or raise if it is not an array of finite numbers."""
    array = converted(name, value).copy()
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name}: must be finite")
    return array


def number(name: str, value: Any, wanted: str = "a number") -> float:
    """Return ``value`` as a float, or raise if it is not a scalar number.

    ``wanted`` describes valid values in the error message.
    """
    found = np.asarray(reals(name, value, wanted), dtype=float)
    if found.ndim:
        raise ValueError(f"{name}: must be {wanted}, got shape {found.shape}")
    return float(found)


def positive(name: str, value: ArrayLike | None) -> Array:
    """Return ``value`` as float64, or raise if it has an entry that is not a positive, finite number."""
    array = converted(name, value)
    if not (np.all(np.isfinite(array)) and np.all(array > 0)):
        raise ValueError(f"{name}: must be positive and finite, got {shown(array.tolist())}")
    return array


def converted(name: str, value: ArrayLike | None) -> Array:
    """Return ``value`` as a float64 array, or raise if it has an entry that is not a number."""
    return np.asarray(reals(name, value), dtype=float)


def reals(name: str, value: ArrayLike | None, wanted: str = "a number or an array of numbers") -> Array:
    """Return ``value`` as an array, float32 if it is float32 and float64 otherwise, or raise if it is not numeric.

    ``wanted`` describes valid values in the error message.
    """
    if is_masked(value):
        raise ValueError(f"{name}: must have no masked entries, got {shown(value)}")
    try:
        given = np.asarray(value)
    except Exception:  # ragged lists, and array-like objects that raise any exception
        given = np.asarray(None)
    if given.dtype.kind == "O" and given.size and all(map(is_real, given.flat)):  # fractions, and integers of any size
        try:
            return given.astype(float)
        except OverflowError:
            raise ValueError(f"{name}: must be a number in the range of float64, got {shown(value)}") from None
    if given.dtype.kind in "iuf":
        with np.errstate(over="ignore"):  # a long double out of the range of float64 becomes infinite
            return given if given.dtype == np.float32 else np.asarray(given, dtype=float)
    raise ValueError(f"{name}: must be {wanted}, got {shown(value)}")


def is_masked(value: Any) -> bool:
    """Return whether an array, or an array in a sequence, has masked entries. NumPy would use the masked values."""
    parts = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(part, np.ma.MaskedArray) and np.ma.is_masked(part) for part in parts)


def is_real(value: Any) -> bool:
    """Return whether a Python object is an integer or a real number."""
    return isinstance(value, kinds.Real) and not isinstance(value, bool | np.bool)


def positive_number(name: str, value: Any) -> float:
    """Return ``value`` as a float, or raise if it is not a positive, finite scalar."""
    found = number(name, value)
    if not 0 < found < math.inf:
        raise ValueError(f"{name}: must be positive and finite, got {found:g}")
    return found


def non_negative(name: str, value: Any) -> float:
    """Return ``value`` as a float, or raise if it is not a non-negative, finite scalar."""
    found = number(name, value)
    if not 0 <= found < math.inf:
        raise ValueError(f"{name}: must be finite and non-negative, got {found:g}")
    return found


def number_between(name: str, value: Any, least: float, most: float) -> float:
    """Return ``value`` as a float, or raise if it is not a scalar number from ``least`` to ``most``."""
    found = number(name, value)
    if not least <= found <= most:
        raise ValueError(f"{name}: must be between {least:g} and {most:g}, got {found:g}")
    return found


def whole_number(name: str, value: Any, least: int, most: int) -> int:
    """Return ``value`` as an int, or raise if it is not an integer from ``least`` to ``most``."""
    try:
        whole = None if isinstance(value, bool | np.bool) or is_masked(value) else operator.index(value)
    except Exception:  # arrays with several entries raise a TypeError, other objects may raise any exception
        whole = None
    if whole is None:
        raise ValueError(f"{name}: must be an integer, got {shown(value)}")
    if not least <= whole <= most:
        raise ValueError(f"{name}: must be at least {least} and at most {most}, got {shown(whole)}")
    return whole


def interval(name: str, value: Any) -> tuple[float, float]:
    """Return the ends of an interval as floats, or raise if they are not two finite numbers in ascending order."""
    ends = reals(name, value)
    if ends.shape != (2,) or not -np.inf < ends[0] < ends[1] < np.inf:
        raise ValueError(f"{name}: must be two finite numbers, the smaller first, got {shown(value)}")
    return float(ends[0]), float(ends[1])


def flag(name: str, value: Any) -> bool:
    """Return ``value`` as a bool, or raise if it is neither True nor False."""
    if not isinstance(value, bool | np.bool):
        raise ValueError(f"{name}: must be True or False, got {shown(value)}")
    return bool(value)


def title(name: str, value: Any) -> bool | str:
    """Return the option of a progress bar, or raise if it is neither a bool nor a printable label."""
    if isinstance(value, str) and value.isprintable():
        return value[:SHOWN]
    if isinstance(value, str):
        raise ValueError(f"{name}: must be printable, got {shown(value)}")
    return flag(name, value)


def function(name: str, value: Any) -> Callable[..., Any]:
    """Return ``value``, or raise if it is not callable."""
    if not callable(value):
        raise ValueError(f"{name}: must be a function, got {shown(value)}")
    return value


def answer_of(name: str, given: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of a user-defined function, or raise an error that names the argument if the call fails."""
    call = function(name, given)
    try:
        return call(*arguments)
    except Exception as error:  # a user-defined function may raise any exception
        raise ValueError(f"{name}: the function failed with {type(error).__name__}: {shown(str(error))}") from error


def result_of(name: str, given: Callable[..., Any], *arguments: Any) -> Array:
    """Return the result of a user-defined function as float64, or raise if the call or the conversion fails."""
    answer = answer_of(name, given, *arguments)
    if isinstance(answer, np.ndarray) and answer.dtype == bool:  # an indicator function
        answer = answer.astype(float)
    return converted(f"{name}: the result of the function", answer)


def file_path(name: str, value: Any) -> Path:
    """Return ``value`` as a path, or raise if it is not a valid path; the file need not exist."""
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError(f"{name}: must be a path, got {shown(value)}")
    try:
        os.stat(value)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except (OSError, ValueError) as error:  # the path is too long, has a loop of links, or an invalid character
        raise ValueError(f"{name}: must be a valid path, got {shown(str(value))}: {error.args[-1]}") from None
    return Path(value)


def step_size(h: ArrayLike | None, delta: ArrayLike | None) -> Array:
    """Return the step size h from either h or delta = h^2/2."""
    if (h is None) == (delta is None):
        raise ValueError(
            "h, delta: exactly one must be given; delta = h^2/2 is the time step of overdamped Langevin dynamics"
        )
    if h is not None:
        return positive("h", h)
    return np.sqrt(2 * positive("delta", delta))


def broadcast(**arrays: Array) -> tuple[Array, ...]:
    """Broadcast arrays to a common shape, or raise if that is impossible; the keywords name the arguments."""
    try:
        return np.broadcast_arrays(*arrays.values())
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"{', '.join(arrays)}: must have shapes that broadcast, got {shapes}") from None

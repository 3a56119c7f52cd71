"""Checks of arguments: each returns what is meant, or raises a ValueError that names the argument and the fault."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from uldnum.typing import Array, ArrayLike

__all__ = ["converted", "number", "numbers", "positive", "positive_number", "step_size", "whole_number"]


def numbers(name: str, value: ArrayLike | None) -> Array:
    """Return a copy of ``value`` as float64, or raise if it is not an array of finite numbers."""
    array = converted(name, value).copy()
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name}: must be finite")
    return array


def number(name: str, value: Any) -> float:
    """Return ``value`` as a float, or raise if it is not one number."""
    found = converted(name, value)
    if found.ndim:
        raise ValueError(f"{name}: must be a number, got shape {found.shape}")
    return float(found)


def positive(name: str, value: ArrayLike | None) -> Array:
    """Return ``value`` as float64, or raise if any of it is not a positive, finite number."""
    array = converted(name, value)
    if not (np.all(np.isfinite(array)) and np.all(array > 0)):
        raise ValueError(f"{name}: must be positive and finite, got {array.tolist()}")
    return array


def converted(name: str, value: ArrayLike | None) -> Array:
    """Return ``value`` as float64, or raise if it is not made of numbers."""
    try:
        if value is not None:  # which NumPy takes for a number that is none
            return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{name}: must be a number or an array of numbers, got {value!r}")


def positive_number(name: str, value: Any) -> float:
    """Return ``value`` as a float, or raise if it is not one positive, finite number."""
    return number(name, positive(name, value))


def whole_number(name: str, value: Any, least: int, most: int) -> int:
    """Return value as an int, or raise unless it is an integer between ``least`` and ``most``."""
    try:
        whole = operator.index(value)
    except TypeError:
        raise ValueError(f"{name}: must be an integer, got {value!r}") from None
    if not least <= whole <= most:
        raise ValueError(f"{name}: must be at least {least} and at most {most}, got {whole}")
    return whole


def step_size(h: ArrayLike | None, delta: ArrayLike | None) -> Array:
    """Return the step size h, given either h or delta = h^2/2."""
    if (h is None) == (delta is None):
        raise ValueError("h, delta: give exactly one of them; delta = h^2/2 is the same step in overdamped units")
    if h is not None:
        return positive("h", h)
    return np.sqrt(2 * positive("delta", delta))

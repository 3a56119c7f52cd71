r"""Spacings: the times of the default noise levels of a network, as its scheduler chooses them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from uldnum._util.arguments import shown
from uldnum._util.names import unknown
from uldnum._util.typing import Array
from uldnum.arithmetic.elementary import exp
from uldnum.plans.schedules import Schedule, shifted_times

__all__ = ["SPACINGS", "times_of"]


def even(count: int, times: Schedule, shape: tuple[int, ...]) -> Array:
    """Return evenly spaced times. An end of the schedule with sigma = 0 is replaced by a time end/1000 away from it."""
    low, high = (edge if times.ratio(edge) > 0 else abs(edge - times.end / 1000) for edge in (0.0, times.end))
    first, last = (low, high) if times.ratio(low) > times.ratio(high) else (high, low)
    return np.linspace(first, last, count)


def shifted(count: int, times: Schedule, shape: tuple[int, ...], shift: float = 1.0, last: float = 1e-3,
            terminal: float | None = None) -> Array:  # fmt: skip
    """Return the times of levels of flow matching, whose sigma is evenly spaced from 1 to ``last`` before the shift.

    With ``terminal``, the values of 1 - sigma are scaled such that the last sigma is ``terminal``.
    """
    if not (0 < shift < math.inf and 0 < last < 1):
        raise ValueError(f"needs a positive shift and 0 < last < 1, got {shift} and {last}")
    sigma = shifted_times(count, shift, 1.0, last)
    if terminal is not None and count > 1:
        sigma = 1 - (1 - sigma) * (1 - terminal) / (1 - sigma[-1])
    with np.errstate(divide="ignore"):
        found: Array = times.time(sigma / (1 - sigma))
    return found


def dynamic(count: int, times: Schedule, shape: tuple[int, ...], patch: int = 2, base_shift: float = 0.5,
            max_shift: float = 1.15, base_length: float = 256, max_length: float = 4096, exponential: bool = True,
            last: float = 1e-3, terminal: float | None = None) -> Array:  # fmt: skip
    """Return the times of `shifted`, with a shift that depends on the number L of patches of an image.

    The shift is mu or, if ``exponential`` is true, e^mu, where mu is linear in L: ``base_shift`` at ``base_length`` and
    ``max_shift`` at ``max_length`` (Esser et al. 2024, sec. 5.3.2).
    """
    length = (shape[-2] // patch) * (shape[-1] // patch)
    mu = base_shift + (max_shift - base_shift) * (length - base_length) / (max_length - base_length)
    return shifted(count, times, shape, float(exp(mu)) if exponential else mu, last, terminal)


SPACINGS: dict[str, Callable[..., Array]] = {"even": even, "shifted": shifted, "dynamic": dynamic}


def times_of(described: Mapping[str, Any], count: int, times: Schedule, shape: tuple[int, ...]) -> Array:
    """Return the times of ``count`` noise levels, the noisiest first.

    Parameters
    ----------
    described : mapping
        The key ``kind``, with a name in `SPACINGS`, and the arguments of that function by name. An empty mapping stands
        for "even".
    count : int
        Number of levels.
    times : Schedule
        Map between the time and the noise level.
    shape : tuple of int
        Shape of an image.

    Returns
    -------
    float64 array, shape (count,)

    Raises
    ------
    ValueError
        If there is no such kind, or an argument is unknown or out of range.
    """
    given = dict(described)
    kind = str(given.pop("kind", "even"))
    if kind not in SPACINGS:
        raise unknown("spacing", kind, SPACINGS, f"The kinds are {', '.join(SPACINGS)}")
    try:
        with np.errstate(all="raise", divide="ignore"):
            found = SPACINGS[kind](count, times, shape, **given)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"spacing: {kind!r} cannot be built from {shown(given)}: {error}") from None
    if not np.all((found >= 0) & (found <= times.end)):
        raise ValueError(f"spacing: {kind!r} with {shown(given)} must lie in the schedule, got {shown(found.tolist())}")
    return found

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


def even(count: int, times: Schedule, shape: tuple[int, ...], span: tuple[float, float]) -> Array:
    """Return evenly spaced times of noise levels sigma/alpha in ``span``.

    An end of the schedule with sigma = 0 is replaced by a time end/1000 away from it.
    """

    def inside(edge: float, inward: Callable[[Any], Any]) -> float:
        """Return the time at an end of the schedule, or the first one from there on that is in the span."""
        length = times.end - times.start
        if times.ratio(edge) == 0:
            edge = times.start + abs(edge - times.start - length / 1000)
        ratio = float(times.ratio(edge))
        bounded = min(max(ratio, span[0]), span[1])
        if bounded == ratio:
            return edge
        found = float(times.time(bounded))
        return found if times.steps is None else float(times.steps[times.on_steps(found, inward)])

    low, high = inside(times.start, np.ceil), inside(times.end, np.floor)
    first, last = (low, high) if times.ratio(low) > times.ratio(high) else (high, low)
    return np.linspace(first, last, count)


def linspace(count: int, times: Schedule, shape: tuple[int, ...], span: tuple[float, float]) -> Array:
    """Return integers nearest to evenly spaced times from T - 1 to 0, for a schedule of T timesteps."""
    return np.rint(np.linspace(0, times.end, count))[::-1]


def leading(count: int, times: Schedule, shape: tuple[int, ...], span: tuple[float, float], offset: int = 0) -> Array:
    """Return the multiples of T // count from 0 on, plus an offset."""
    if count > times.end + 1:
        raise ValueError(f"needs at most {times.end + 1:g} levels, got {count}")
    return np.arange(count)[::-1] * float((times.end + 1) // count) + offset


def trailing(count: int, times: Schedule, shape: tuple[int, ...], span: tuple[float, float]) -> Array:
    """Return integers nearest to T, T - T/count, T - 2 T/count ..., minus 1."""
    return np.rint((times.end + 1) * (1 - np.arange(count) / count)) - 1


def shifted(
    count: int,
    times: Schedule,
    shape: tuple[int, ...],
    span: tuple[float, float],
    shift: float = 1.0,
    last: float = 1e-3,
    terminal: float | None = None,
) -> Array:
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


def dynamic(
    count: int,
    times: Schedule,
    shape: tuple[int, ...],
    span: tuple[float, float],
    patch: int = 2,
    base_shift: float = 0.5,
    max_shift: float = 1.15,
    base_length: float = 256,
    max_length: float = 4096,
    exponential: bool = True,
    last: float = 1e-3,
    terminal: float | None = None,
) -> Array:
    """Return the times of `shifted`, with a shift that depends on the number L of patches of an image.

    The shift is mu or, if ``exponential`` is true, e^mu, where mu is linear in L: ``base_shift`` at ``base_length`` and
    ``max_shift`` at ``max_length`` (Esser et al. 2024, sec. 5.3.2).
    """
    length = (shape[-2] // patch) * (shape[-1] // patch)
    mu = base_shift + (max_shift - base_shift) * (length - base_length) / (max_length - base_length)
    return shifted(count, times, shape, span, float(exp(mu)) if exponential else mu, last, terminal)


# The spacings of the paper by Lin et al. 2024, table 2, have its names.
SPACINGS: dict[str, Callable[..., Array]] = {
    "even": even,
    "linspace": linspace,
    "leading": leading,
    "trailing": trailing,
    "shifted": shifted,
    "dynamic": dynamic,
}


def times_of(
    described: Mapping[str, Any], count: int, times: Schedule, shape: tuple[int, ...], span: tuple[float, float]
) -> Array:
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
    span : (float, float)
        Smallest and largest sigma/alpha of the spacing "even".

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
            found = SPACINGS[kind](count, times, shape, span, **given)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"spacing: {kind!r} cannot be built from {shown(given)}: {error}") from None
    if not np.all((found >= 0) & (found <= times.end)):
        raise ValueError(f"spacing: {kind!r} with {shown(given)} must lie in the schedule, got {shown(found.tolist())}")
    return found

r"""Spacings: the times of the default noise levels of a network, as its scheduler chooses them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from uldnum._util.arguments import shown
from uldnum._util.names import unknown
from uldnum._util.typing import Array
from uldnum.arithmetic.elementary import exp
from uldnum.plans.schedules import Schedule, flow, schedule, shifted_times

__all__ = ["SPACINGS", "times_of"]


class Setting(NamedTuple):
    """What a spacing depends on.

    Attributes
    ----------
    times : Schedule
        Map between the time and the noise level.
    shape : tuple of int
        Shape of an image.
    span : (float, float)
        Smallest and largest sigma/alpha of the spacing "even".
    """

    times: Schedule
    shape: tuple[int, ...]
    span: tuple[float, float]

    @property
    def timesteps(self) -> int:
        """Number T of timesteps, which must be 0, 1 ... T - 1, of increasing noise."""
        steps, limits = self.times.steps, (self.times.ratio(self.times.start), self.times.ratio(self.times.end))
        if steps is None or not np.array_equal(steps, np.arange(len(steps))) or limits[0] > limits[1]:
            raise ValueError("needs a schedule with timesteps 0, 1, 2 ... of increasing noise")
        return len(steps)


def even(count: int, setting: Setting) -> Array:
    """Return evenly spaced times of noise levels sigma/alpha in the span.

    An end of the schedule with sigma = 0 is replaced by a time end/1000 away from it.
    """
    times, span = setting.times, setting.span

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


def linspace(count: int, setting: Setting, rounded: bool = True, omit_last: bool = False) -> Array:
    """Return evenly spaced times from T - 1 to 0, for a schedule of T timesteps, or the nearest integers.

    With ``omit_last`` there is one more level, and the last one, at 0, is omitted.
    """
    found = np.linspace(0, setting.timesteps - 1, count + omit_last)[::-1][:count]
    return np.rint(found) if rounded else found


def leading(count: int, setting: Setting, offset: int = 0, omit_last: bool = False) -> Array:
    """Return the multiples of T // count from 0 on, plus an offset.

    With ``omit_last`` there is one more level, and the last one, at the offset, is omitted.
    """
    number = count + omit_last
    if number > setting.timesteps:
        raise ValueError(f"needs at most {setting.timesteps - omit_last} levels, got {count}")
    return np.arange(number)[::-1][:count] * float(setting.timesteps // number) + offset


def trailing(count: int, setting: Setting) -> Array:
    """Return integers nearest to T, T - T/count, T - 2 T/count ..., minus 1."""
    return np.rint(setting.timesteps * (1 - np.arange(count) / count)) - 1


def shifted(
    count: int,
    setting: Setting,
    shift: float = 1.0,
    first: float = 1.0,
    last: float = 1e-3,
    terminal: float | None = None,
    omit_last: bool = False,
) -> Array:
    """Return the times of levels of flow matching.

    Before the shift, sigma is evenly spaced from ``first`` to ``last``. With ``omit_last`` there is one more level, and
    the last one is omitted. With ``terminal``, the values of 1 - sigma are scaled such that the last sigma is
    ``terminal``.
    """
    if not (0 < shift < math.inf and 0 <= last < first <= 1 and (omit_last or last > 0)):
        raise ValueError(f"needs a positive shift and 0 < last < first <= 1, got {shift}, {last} and {first}")
    sigma = shifted_times(count + omit_last, shift, first, last)[:count]
    if terminal is not None and count > 1:
        sigma = 1 - (1 - sigma) * (1 - terminal) / (1 - sigma[-1])
    with np.errstate(divide="ignore"):
        found: Array = setting.times.time(sigma / (1 - sigma))
    return found


def dynamic(
    count: int,
    setting: Setting,
    patch: int = 2,
    base_shift: float = 0.5,
    max_shift: float = 1.15,
    base_length: float = 256,
    max_length: float = 4096,
    exponential: bool = True,
    first: float = 1.0,
    last: float = 1e-3,
    terminal: float | None = None,
    omit_last: bool = False,
) -> Array:
    """Return the times of `shifted`, with a shift that depends on the number L of patches of an image.

    The shift is mu or, if ``exponential`` is true, e^mu, where mu is linear in L: ``base_shift`` at ``base_length`` and
    ``max_shift`` at ``max_length`` (Esser et al. 2024, sec. 5.3.2). An array with two axes is a sequence of patches.
    """
    if len(setting.shape) < 2:
        raise ValueError(f"needs images or sequences of patches, got the shape {setting.shape}")
    height, width = setting.shape[-2:]
    length = height if len(setting.shape) == 2 else (height // patch) * (width // patch)
    mu = base_shift + (max_shift - base_shift) * (length - base_length) / (max_length - base_length)
    return shifted(count, setting, float(exp(mu)) if exponential else mu, first, last, terminal, omit_last)


def warped(values: Array, kind: str) -> Array:
    """Return noise levels between the first and the last of given ones, with the spacing of a schedule."""
    if kind not in ("karras", "geometric"):
        raise ValueError(f"warp must be karras or geometric, got {shown(kind)}")
    if len(values) == 1:
        return values
    found: Array = schedule({"kind": kind, "first": values[0], "last": values[-1]}).ratio(
        np.linspace(0, 1, len(values))
    )
    return np.clip(found, values[-1], values[0])


# Spacings of flow matching. The others are those of discrete timesteps.
FLOW: dict[str, Callable[..., Array]] = {"shifted": shifted, "dynamic": dynamic}

# The spacings of the paper by Lin et al. 2024, table 2, have its names.
SPACINGS: dict[str, Callable[..., Array]] = {
    "even": even,
    "linspace": linspace,
    "leading": leading,
    "trailing": trailing,
    **FLOW,
}


def times_of(
    described: Mapping[str, Any], count: int, times: Schedule, shape: tuple[int, ...], span: tuple[float, float]
) -> Array:
    """Return the times of ``count`` noise levels, the noisiest first.

    Parameters
    ----------
    described : mapping
        The key ``kind``, with a name in `SPACINGS`, and the arguments of that function by name. An empty mapping stands
        for "even". With the key ``warp``, "karras" or "geometric", only the first and the last level are those of the
        kind. The levels in between have the spacing of that schedule, in sigma for flow matching and in sigma/alpha
        otherwise.
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
    kind, warp = str(given.pop("kind", "even")), given.pop("warp", None)
    if kind not in SPACINGS:
        raise unknown("spacing", kind, SPACINGS, f"The kinds are {', '.join(SPACINGS)}")
    try:
        with np.errstate(all="raise", divide="ignore"):
            found = SPACINGS[kind](count, Setting(times, shape, span), **given)
            if warp:
                levels = times.ratio(found)
                if kind in FLOW:
                    sigma = warped(flow().time(levels), warp)
                    found = times.time(sigma / (1 - sigma))
                else:
                    found = times.time(warped(levels, warp))
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"spacing: {kind!r} cannot be built from {shown(given)}: {error}") from None
    if not np.all((found >= 0) & (found <= times.end)):
        raise ValueError(f"spacing: {kind!r} with {shown(given)} must lie in the schedule, got {shown(found.tolist())}")
    return found

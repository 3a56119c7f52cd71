r"""Noise schedules, which map the time t of a network to its noise level.

The noise level of z = alpha x + sigma eps is the ratio :math:`r = \sigma/\alpha`, which does not depend on the scale of
z. For a discrete schedule, t is the index of a timestep, from 0 to T - 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from uldnum._util.arguments import numbers, shown, whole_number
from uldnum._util.names import unknown
from uldnum._util.typing import Array, ArrayLike
from uldnum.arithmetic.elementary import cos, exp, expm1, hypot, interp, log, log1p, power

__all__ = ["SCHEDULES", "Schedule", "preserved", "schedule", "shifted_times"]


@dataclass(frozen=True)
class Schedule:
    """A monotone map between the time t of a network and the noise level sigma/alpha.

    Attributes
    ----------
    ratio : callable
        Function from t to sigma/alpha, for numbers and arrays.
    time : callable
        Inverse function, from sigma/alpha to t, for numbers and arrays.
    end : float
        Largest t; the smallest is 0.
    discrete : bool, default False
        Whether the network was trained only at integer t. `ratio` and `time` interpolate between integers.
    """

    ratio: Callable[[Any], Any]
    time: Callable[[Any], Any]
    end: float
    discrete: bool = False

    @property
    def limits(self) -> tuple[float, float]:
        """Smallest and largest noise level sigma/alpha. The largest one may be infinite, with alpha = 0."""
        low, high = sorted((float(self.ratio(0.0)), float(self.ratio(self.end))))
        return low, high


def preserved(ratio: ArrayLike) -> tuple[Any, Any]:
    """Return alpha and sigma with alpha^2 + sigma^2 = 1 for given noise levels sigma/alpha, which may be infinite."""
    length = hypot(1, ratio)
    with np.errstate(invalid="ignore"):
        return 1 / length, np.where(np.isinf(ratio), 1.0, np.divide(ratio, length))[()]


def between(first: float, last: float, end: float, warp: Callable[[Any], Any], back: Callable[[Any], Any],
            discrete: bool) -> Schedule:  # fmt: skip
    """Return a schedule from ``first`` to ``last`` with ``warp(ratio)`` linear in t; ``back`` inverts ``warp``."""
    if not (0 < first < math.inf and 0 < last < math.inf) or first == last:
        raise ValueError(f"schedule: first and last must be different positive noise levels, got {first} and {last}")
    a, b = warp(first), warp(last)
    return Schedule(
        lambda t: back(a + t / end * (b - a)), lambda ratio: end * (warp(ratio) - a) / (b - a), end, discrete
    )  # fmt: skip


def table(alphas_cumprod: ArrayLike) -> Schedule:
    r"""Return the discrete schedule with the given :math:`\bar\alpha_t = \alpha_t^2` (Ho et al. 2020), t = 0 ... T - 1.

    Between timesteps the logarithm of the noise level is interpolated linearly. The last number may be 0, so that alpha
    is 0. Between the last two timesteps alpha/sigma is then interpolated linearly.
    """
    kept = numbers("alphas_cumprod", alphas_cumprod)
    if kept.ndim != 1 or len(kept) < 2 or not np.all((kept >= 0) & (kept < 1)) or not np.all(np.diff(kept) < 0):
        raise ValueError("schedule: alphas_cumprod must be at least 2 decreasing numbers between 0 and 1")
    if kept[-1] == 0:
        if len(kept) < 3:
            raise ValueError("schedule: alphas_cumprod must be at least 3 numbers if the last one is 0")
        return extended(table(kept[:-1]))
    logarithms, steps = log((1 - kept) / kept) / 2, np.arange(len(kept))
    return Schedule(
        lambda t: exp(interp(t, steps, logarithms)),
        lambda ratio: interp(log(ratio), logarithms, steps),
        len(kept) - 1.0,
        discrete=True,
    )


def extended(schedule: Schedule) -> Schedule:
    """Return a schedule with one more timestep, at alpha = 0. In between, alpha/sigma is interpolated linearly."""
    end, largest = schedule.end, schedule.ratio(schedule.end)

    def ratio(t: Any) -> Any:
        with np.errstate(divide="ignore"):
            return np.divide(schedule.ratio(t), np.clip(end + 1 - np.asarray(t), 0, 1))

    return Schedule(ratio, lambda r: schedule.time(r) + 1 - np.minimum(largest / r, 1), end + 1, discrete=True)


def of_betas(betas: Array, zero_terminal_snr: bool = False) -> Schedule:
    r"""Return the discrete schedule of given betas: :math:`\bar\alpha_t = \prod_{i \le t} (1 - \beta_i)`.

    With ``zero_terminal_snr``, alpha is shifted and scaled such that its last value is 0 and the first one is kept (Lin
    et al. 2024, Algorithm 1).
    """
    kept = np.cumprod(1 - betas)
    if zero_terminal_snr:
        alpha = np.sqrt(kept)
        kept = np.square((alpha - alpha[-1]) * (alpha[0] / (alpha[0] - alpha[-1])))
    return table(kept)


def linear(beta_start: float, beta_end: float, timesteps: int, zero_terminal_snr: bool = False) -> Schedule:
    """Return the schedule of betas that grow linearly (DDPM: Ho et al. 2020, sec. 4)."""
    return of_betas(np.linspace(beta_start, beta_end, timesteps), zero_terminal_snr)


def scaled_linear(beta_start: float, beta_end: float, timesteps: int, zero_terminal_snr: bool = False) -> Schedule:
    """Return the schedule of betas whose square roots grow linearly (Rombach et al. 2022)."""
    roots = np.linspace(math.sqrt(beta_start), math.sqrt(beta_end), timesteps)
    return of_betas(np.square(roots), zero_terminal_snr)


def vp_sde(beta_start: float, beta_end: float, end: float = 1.0) -> Schedule:
    r"""Return the schedule of the SDE with rate :math:`\beta(t) = \beta_0 + t (\beta_1 - \beta_0)`.

    It is variance-preserving, with :math:`\log \alpha(t) = -\tfrac12 \int_0^t \beta` (Song et al. 2021, eq. 32).
    """
    growth = beta_end - beta_start

    def ratio(t: Any) -> Any:
        return np.sqrt(expm1(beta_start * t + growth * np.square(t) / 2))

    def time(ratio: Any) -> Any:
        integral = log1p(np.square(ratio))
        return 2 * integral / (beta_start + np.sqrt(beta_start * beta_start + 2 * growth * integral))

    return Schedule(ratio, time, end)


def cosine(timesteps: int, max_beta: float = 0.999, shift: float = 0.008, zero_terminal_snr: bool = False) -> Schedule:
    r"""Return the discrete schedule of :math:`\bar\alpha(t) = \cos^2(\frac{t/T + s}{1 + s} \frac\pi2)`.

    T is the number of timesteps. The betas are bounded by ``max_beta`` (Nichol & Dhariwal 2021, eq. 17).
    """
    kept = np.square(cos((np.arange(timesteps + 1) / timesteps + shift) / (1 + shift) * np.pi / 2))
    return of_betas(np.minimum(1 - kept[1:] / kept[:-1], max_beta), zero_terminal_snr)


def betas(values: ArrayLike, zero_terminal_snr: bool = False) -> Schedule:
    """Return the schedule of given betas, one per timestep."""
    return of_betas(numbers("betas", values), zero_terminal_snr)


def geometric(first: float, last: float, timesteps: int | None = None) -> Schedule:
    """Return the schedule of noise levels in geometric progression (Song & Ermon 2019).

    t runs from 0 to 1, or to ``timesteps - 1`` if the schedule is discrete.
    """
    end = 1.0 if timesteps is None else timesteps - 1.0
    return between(first, last, end, log, exp, timesteps is not None)


def karras(first: float, last: float, rho: float = 7.0, timesteps: int | None = None) -> Schedule:
    """Return the schedule of noise levels r that are evenly spaced in r^(1/rho) (Karras et al. 2022, eq. 5).

    t runs from 0 to 1, or to ``timesteps - 1`` if the schedule is discrete.
    """
    end = 1.0 if timesteps is None else timesteps - 1.0
    return between(first, last, end, lambda r: power(r, 1 / rho), lambda r: power(r, rho), timesteps is not None)


def flow(reverse: bool = False) -> Schedule:
    """Return the schedule of flow matching, sigma = t and alpha = 1 - t for t from 0 to 1 (Lipman et al. 2023).

    With ``reverse``, time runs from noise to data: sigma = 1 - t.
    """

    def ratio(t: Any) -> Any:
        rest = np.subtract(1, t)
        with np.errstate(divide="ignore"):
            return np.divide(rest, t) if reverse else np.divide(t, rest)

    def time(ratio: Any) -> Any:
        with np.errstate(divide="ignore"):
            return 1 / (1 + (np.asarray(ratio) if reverse else np.divide(1, ratio)))

    return Schedule(ratio, time, 1.0)


def shifted_times(count: int, shift: float, first: float, last: float) -> Array:
    """Return s t/(1 + (s - 1) t) for evenly spaced t and the shift s (Esser et al. 2024, eq. 23).

    The result is sigma of levels of flow matching. A shift above 1 moves them to more noise.
    """
    t = np.linspace(first, last, count)
    return t / (t + (1 - t) / shift)  # exactly 1 at t = 1


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "linear": linear,
    "scaled-linear": scaled_linear,
    "cosine": cosine,
    "vp-sde": vp_sde,
    "geometric": geometric,
    "karras": karras,
    "flow": flow,
    "betas": betas,
    "alphas-cumprod": table,
}


def schedule(described: Mapping[str, Any]) -> Schedule:
    """Return the schedule with a given description, as in the card of a network.

    Parameters
    ----------
    described : mapping
        The key ``kind``, with a name in `SCHEDULES`, and the arguments of that function by name.

    Returns
    -------
    Schedule
        The schedule.

    Raises
    ------
    ValueError
        If there is no such kind, or its arguments are missing, unknown or out of range.

    Examples
    --------
    >>> found = schedule({"kind": "vp-sde", "beta_start": 0.1, "beta_end": 20.0})
    >>> round(float(found.ratio(1.0)), 2)
    152.17
    """
    given = dict(described)
    kind = str(given.pop("kind", "none"))
    if kind not in SCHEDULES:
        raise unknown("schedule", kind, SCHEDULES, f"The kinds are {', '.join(SCHEDULES)}")
    try:
        if "timesteps" in given:
            given["timesteps"] = whole_number("timesteps", given["timesteps"], 2, 2**20)
        with np.errstate(all="ignore"):  # overflow shows in the limits, which are checked below
            found = SCHEDULES[kind](**given)
            limits = found.limits
            latest = found.time(limits[1])  # not finite if the largest noise level overflows
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"schedule: {kind!r} cannot be built from {shown(given)}: {error}") from None
    if not (0 <= limits[0] < limits[1] and np.isfinite(latest)):
        raise ValueError(
            f"schedule: the noise levels of {kind!r} must be non-negative and increasing, and must not overflow, "
            f"got {limits[0]:g} to {limits[1]:g} from {shown(given)}"
        )
    return found

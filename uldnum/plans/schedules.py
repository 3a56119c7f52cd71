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

from uldnum._util.arguments import numbers, positive_number, reals, shown, whole_number
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
        Largest t.
    steps : float64 array, optional
        Increasing times of the levels at which a network was trained, if it was trained at finitely many. `ratio` and
        `time` interpolate between them.
    start : float, default 0.0
        Smallest t.
    """

    ratio: Callable[[Any], Any]
    time: Callable[[Any], Any]
    end: float
    steps: Array | None = None
    start: float = 0.0

    @property
    def limits(self) -> tuple[float, float]:
        """Smallest and largest noise level sigma/alpha. The largest one may be infinite, with alpha = 0."""
        low, high = sorted((float(self.ratio(self.start)), float(self.ratio(self.end))))
        return low, high

    @property
    def discrete(self) -> bool:
        """Whether the network was trained only at integer t."""
        return self.steps is not None and np.array_equal(self.steps, np.rint(self.steps))

    def on_steps(self, t: ArrayLike, rounding: Callable[[Any], Any] = np.rint) -> Any:
        """Return the indices of the steps nearest to given times, or of the next ones in the direction of rounding.

        They are integers. If there are no steps, the times are returned.
        """
        if self.steps is None:
            return t
        return rounding(interp(t, self.steps, np.arange(len(self.steps)))).astype(int)


def preserved(ratio: ArrayLike) -> tuple[Any, Any]:
    """Return alpha and sigma with alpha^2 + sigma^2 = 1 for given noise levels sigma/alpha, which may be infinite."""
    length = hypot(1, ratio)
    with np.errstate(invalid="ignore"):
        return 1 / length, np.where(np.isinf(ratio), 1.0, np.divide(ratio, length))[()]


def between(
    first: float, last: float, timesteps: int | None, warp: Callable[[Any], Any], back: Callable[[Any], Any]
) -> Schedule:
    """Return a schedule from ``first`` to ``last`` with ``warp(ratio)`` linear in t; ``back`` inverts ``warp``.

    t runs from 0 to 1, or to ``timesteps - 1`` if the schedule is discrete.
    """
    end = 1.0 if timesteps is None else timesteps - 1.0
    if not (0 < first < math.inf and 0 < last < math.inf) or first == last:
        raise ValueError(f"schedule: first and last must be different positive noise levels, got {first} and {last}")
    a, b = warp(first), warp(last)
    return Schedule(
        lambda t: back(a + t / end * (b - a)), lambda ratio: end * (warp(ratio) - a) / (b - a), end, counted(timesteps)
    )


def counted(timesteps: int | None) -> Array | None:
    """Return the integer times 0, 1, ... of a discrete schedule, or None without a number of timesteps."""
    return None if timesteps is None else np.arange(float(timesteps))


def interpolated(t: Array, logarithms: Array, steps: Array) -> Schedule:
    """Return the schedule whose log(sigma/alpha) is linear between given values, which increase or decrease in t."""
    order = 1 if logarithms[-1] > logarithms[0] else -1
    return Schedule(
        lambda at: exp(interp(at, t, logarithms)),
        lambda ratio: interp(log(ratio), logarithms[::order], t[::order]),
        float(t[-1]),
        steps,
        float(t[0]),
    )


def extended(near: Schedule, far: float) -> Schedule:
    """Return a schedule with one more time, ``far``, at alpha = 0. In between, alpha/sigma is interpolated linearly."""
    edge = near.end if far > near.end else near.start
    largest, gap = near.ratio(edge), far - edge

    def ratio(t: Any) -> Any:
        with np.errstate(divide="ignore"):
            return np.divide(near.ratio(t), np.minimum(np.abs(far - np.asarray(t)) / abs(gap), 1))

    def time(r: Any) -> Any:
        return near.time(r) + gap - gap * np.minimum(largest / r, 1)

    return Schedule(ratio, time, max(far, near.end), near.steps, min(far, near.start))


def alphas_cumprod(alphas_cumprod: ArrayLike) -> Schedule:
    r"""Return the discrete schedule with the given :math:`\bar\alpha_t = \alpha_t^2` (Ho et al. 2020), t = 0 ... T - 1.

    Between timesteps the logarithm of the noise level is interpolated linearly. The last number may be 0, so that alpha
    is 0. Between the last two timesteps alpha/sigma is then interpolated linearly.
    """
    kept = numbers("alphas_cumprod", alphas_cumprod)
    if kept.ndim != 1 or len(kept) < 2 or not np.all((kept >= 0) & (kept < 1)) or not np.all(np.diff(kept) < 0):
        raise ValueError("schedule: alphas_cumprod must be at least 2 decreasing numbers between 0 and 1")
    with np.errstate(divide="ignore"):
        return tabulated(np.arange(float(len(kept))), log((1 - kept) / kept) / 2, "alphas_cumprod")


def tabulated(t: Array, logarithms: Array, name: str) -> Schedule:
    """Return the schedule of a table of log(sigma/alpha) at increasing times.

    An entry with sigma = 0 is a step, but no noise level. An entry with alpha = 0 extends the schedule.
    """
    known = np.isfinite(logarithms)
    if np.count_nonzero(known) < 2:
        raise ValueError(f"schedule: {name} must be at least 2 levels with positive alpha and sigma")
    found = interpolated(t[known], logarithms[known], t)
    far = t[logarithms == np.inf]
    return extended(found, float(far[0])) if far.size else found


def table(ratio: ArrayLike, t: ArrayLike | None = None) -> Schedule:
    """Return the schedule of a table of noise levels sigma/alpha, which increase or decrease.

    ``t`` are the times of the levels, by default 0, 1, 2 ... Between them the logarithm of the noise level is
    interpolated linearly. A level may be 0 or, with alpha = 0, infinite.
    """
    levels = reals("ratio", ratio).astype(float)
    times = np.arange(float(levels.size)) if t is None else numbers("t", t)
    if levels.ndim != 1 or levels.shape != times.shape or len(levels) < 2:
        raise ValueError(
            f"ratio and t must be lists of the same length, at least 2, got shapes {levels.shape} and {times.shape}"
        )
    if not np.all(np.diff(times) > 0):
        raise ValueError("t must increase")
    with np.errstate(invalid="ignore"):
        changes = np.diff(levels)
    if not (np.all(levels >= 0) and (np.all(changes > 0) or np.all(changes < 0))):
        raise ValueError("ratio must be non-negative, and must increase or decrease")
    with np.errstate(divide="ignore"):
        return tabulated(times, log(levels), "ratio")


def functions(
    sigma: Callable[[float], Any],
    alpha: Callable[[float], Any] = lambda t: 1.0,
    end: float = 1.0,
    timesteps: int | None = None,
) -> Schedule:
    """Return the schedule of two Python functions of t, with z = alpha(t) x + sigma(t) eps.

    t runs from 0 to ``end``, or over the integers to ``timesteps - 1`` if the schedule is discrete. The noise level
    must increase or decrease in t. Its inverse is found by bisection.
    """
    last = positive_number("end", end) if timesteps is None else timesteps - 1.0

    def at(t: Any) -> Any:
        values = [[float(part(float(one))) for part in (sigma, alpha)] for one in np.ravel(t)]
        with np.errstate(divide="ignore"):
            ratio = np.divide(*np.reshape(values, (-1, 2)).T)
        return ratio.reshape(np.shape(t))[()]

    known = at(np.linspace(0, last, 101))
    changes = np.diff(known)
    if not (np.all(known >= 0) and (np.all(changes > 0) or np.all(changes < 0))):
        raise ValueError("sigma(t)/alpha(t) must be non-negative, and must increase or decrease")
    rising = changes[0] > 0

    def time(ratio: Any) -> Any:
        low = np.zeros(np.shape(ratio))
        high = low + last
        for _ in range(64):
            middle = (low + high) / 2
            below = (at(middle) < ratio) == rising
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return high[()]

    return Schedule(at, time, last, counted(timesteps))


def of_betas(betas: Array, zero_terminal_snr: bool = False) -> Schedule:
    r"""Return the discrete schedule of given betas: :math:`\bar\alpha_t = \prod_{i \le t} (1 - \beta_i)`.

    With ``zero_terminal_snr``, alpha is shifted and scaled such that its last value is 0 and the first one is kept (Lin
    et al. 2024, Algorithm 1).
    """
    kept = np.cumprod(1 - betas)
    if zero_terminal_snr:
        alpha = np.sqrt(kept)
        kept = np.square((alpha - alpha[-1]) * (alpha[0] / (alpha[0] - alpha[-1])))
    return alphas_cumprod(kept)


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


def sub_vp(beta_start: float, beta_end: float, end: float = 1.0) -> Schedule:
    r"""Return the schedule of the sub-VP SDE with rate :math:`\beta(t) = \beta_0 + t (\beta_1 - \beta_0)`.

    Here :math:`\alpha = e^{-B/2}` and :math:`\sigma = 1 - e^{-B}` with :math:`B = \int_0^t \beta` (Song et al. 2021,
    eq. 29), so that :math:`\sigma/\alpha = 2 \sinh(B/2)`.
    """
    growth = beta_end - beta_start

    def ratio(t: Any) -> Any:
        half = (beta_start * t + growth * np.square(t) / 2) / 2
        return expm1(half) - expm1(-half)

    def time(ratio: Any) -> Any:
        integral = 2 * log1p(ratio / 2 + np.square(ratio) / (2 * (2 + hypot(ratio, 2))))
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
    return between(first, last, timesteps, log, exp)


def karras(first: float, last: float, rho: float = 7.0, timesteps: int | None = None) -> Schedule:
    """Return the schedule of noise levels r that are evenly spaced in r^(1/rho) (Karras et al. 2022, eq. 5).

    t runs from 0 to 1, or to ``timesteps - 1`` if the schedule is discrete.
    """
    return between(first, last, timesteps, lambda r: power(r, 1 / rho), lambda r: power(r, rho))


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
    "sub-vp": sub_vp,
    "geometric": geometric,
    "karras": karras,
    "flow": flow,
    "betas": betas,
    "alphas-cumprod": alphas_cumprod,
    "table": table,
    "functions": functions,
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

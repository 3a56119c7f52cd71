r"""Noise schedules: which noise level a network calls t.

A noise level is the ratio :math:`r = \sigma/\alpha` of z = alpha x + sigma eps: whatever z is multiplied with, r stays.
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

__all__ = ["SCHEDULES", "Schedule", "preserved", "schedule"]


@dataclass(frozen=True)
class Schedule:
    """A monotone map between a network's t and the noise level.

    Attributes
    ----------
    ratio : callable
        t -> sigma/alpha, of numbers or arrays.
    time : callable
        sigma/alpha -> t, of numbers or arrays.
    end : float
        t runs from 0 to here.
    discrete : bool
        Whether the network was trained at whole t only; `ratio` and `time` interpolate between them.
    """

    ratio: Callable[[Any], Any]
    time: Callable[[Any], Any]
    end: float
    discrete: bool = False

    @property
    def limits(self) -> tuple[float, float]:
        """Smallest and largest noise level."""
        low, high = sorted((float(self.ratio(0.0)), float(self.ratio(self.end))))
        return low, high


def preserved(ratio: ArrayLike) -> tuple[Any, Any]:
    """Return alpha and sigma of the levels sigma/alpha that preserve variance: alpha^2 + sigma^2 = 1."""
    length = hypot(1, ratio)
    return 1 / length, ratio / length


def between(first: float, last: float, end: float, warp: Callable[[Any], Any], back: Callable[[Any], Any],
            discrete: bool) -> Schedule:  # fmt: skip
    """Noise levels from first to last that are evenly spaced after ``warp``, whose inverse is ``back``."""
    if not (0 < first < math.inf and 0 < last < math.inf) or first == last:
        raise ValueError(f"schedule: first and last must be different positive noise levels, got {first} and {last}")
    a, b = warp(first), warp(last)
    return Schedule(
        lambda t: back(a + t / end * (b - a)), lambda ratio: end * (warp(ratio) - a) / (b - a), end, discrete
    )  # fmt: skip


def table(alphas_cumprod: ArrayLike) -> Schedule:
    r"""Discrete steps of which :math:`\alpha_t^2 = \bar\alpha_t` is given (Ho et al. 2020), t = 0 ... T - 1.

    Between whole t the logarithm of the noise level is interpolated.
    """
    kept = numbers("alphas_cumprod", alphas_cumprod)
    if kept.ndim != 1 or len(kept) < 2 or not np.all((kept > 0) & (kept < 1)) or not np.all(np.diff(kept) < 0):
        raise ValueError("schedule: alphas_cumprod must fall from below 1 to above 0, and hold two numbers at least")
    logarithms, steps = log((1 - kept) / kept) / 2, np.arange(len(kept))
    return Schedule(
        lambda t: exp(interp(t, steps, logarithms)),
        lambda ratio: interp(log(ratio), logarithms, steps),
        len(kept) - 1.0,
        discrete=True,
    )


def of_betas(betas: Array) -> Schedule:
    r"""Discrete steps :math:`\bar\alpha_t = \prod (1 - \beta)`."""
    return table(np.cumprod(1 - betas))


def linear(beta_start: float, beta_end: float, timesteps: int) -> Schedule:
    """Betas that grow linearly (DDPM: Ho et al. 2020, sec. 4)."""
    return of_betas(np.linspace(beta_start, beta_end, timesteps))


def scaled_linear(beta_start: float, beta_end: float, timesteps: int) -> Schedule:
    """Betas whose square roots grow linearly (Rombach et al. 2022)."""
    return of_betas(np.square(np.linspace(math.sqrt(beta_start), math.sqrt(beta_end), timesteps)))


def vp_sde(beta_start: float, beta_end: float, end: float = 1.0) -> Schedule:
    r"""The SDE of rate :math:`\beta(t) = \beta_0 + t (\beta_1 - \beta_0)` (Song et al. 2021, eq. 32).

    Its log alpha is :math:`-\tfrac12 \int_0^t \beta`.
    """
    growth = beta_end - beta_start

    def ratio(t: Any) -> Any:
        return np.sqrt(expm1(beta_start * t + growth * np.square(t) / 2))

    def time(ratio: Any) -> Any:
        integral = log1p(np.square(ratio))
        return 2 * integral / (beta_start + np.sqrt(beta_start * beta_start + 2 * growth * integral))

    return Schedule(ratio, time, end)


def cosine(timesteps: int, max_beta: float = 0.999, shift: float = 0.008) -> Schedule:
    r"""Betas of :math:`\bar\alpha(t) = \cos^2(\frac{t/T + s}{1 + s} \frac\pi2)`, clipped.

    Nichol & Dhariwal 2021, eq. 17.
    """
    kept = np.square(cos((np.arange(timesteps + 1) / timesteps + shift) / (1 + shift) * np.pi / 2))
    return of_betas(np.minimum(1 - kept[1:] / kept[:-1], max_beta))


def betas(values: ArrayLike) -> Schedule:
    """Given betas, one for each step."""
    return of_betas(numbers("betas", values))


def geometric(first: float, last: float, timesteps: int | None = None) -> Schedule:
    """A geometric sequence of noise levels, from t = 0 to 1, or to timesteps - 1 (Song & Ermon 2019)."""
    end = 1.0 if timesteps is None else timesteps - 1.0
    return between(first, last, end, log, exp, timesteps is not None)


def karras(first: float, last: float, rho: float = 7.0, timesteps: int | None = None) -> Schedule:
    """Noise levels evenly spaced in their rho-th root, from t = 0 to 1, or to timesteps - 1.

    Karras et al. 2022, eq. 5.
    """
    end = 1.0 if timesteps is None else timesteps - 1.0
    return between(first, last, end, lambda r: power(r, 1 / rho), lambda r: power(r, rho), timesteps is not None)


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "linear": linear,
    "scaled-linear": scaled_linear,
    "cosine": cosine,
    "vp-sde": vp_sde,
    "geometric": geometric,
    "karras": karras,
    "betas": betas,
    "alphas-cumprod": table,
}


def schedule(described: Mapping[str, Any]) -> Schedule:
    """Return a schedule from its description: ``kind``, a name in `SCHEDULES`, and what that one takes.

    Raises
    ------
    ValueError
        If there is no such kind, or it takes other numbers.
    """
    given = dict(described)
    kind = str(given.pop("kind", "none"))
    if kind not in SCHEDULES:
        raise unknown("schedule", kind, SCHEDULES, f"Known are {', '.join(SCHEDULES)}")
    try:
        if "timesteps" in given:
            given["timesteps"] = whole_number("timesteps", given["timesteps"], 2, 2**20)
        with np.errstate(all="ignore"):  # the limits tell whether a number left the finite range
            found = SCHEDULES[kind](**given)
            limits = found.limits
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"schedule: {kind!r} cannot be made of {shown(given)}: {error}") from None
    if not 0 <= limits[0] < limits[1] < math.inf:
        raise ValueError(f"schedule: {kind!r} of {shown(given)} runs from {limits[0]:g} to {limits[1]:g}")
    return found

"""Sequences of noise levels, from the most noise to the least.

At a level data x are seen as ``z = alpha x + sigma eps``. Variance exploding (VE) sequences have ``alpha = 1``,
variance preserving (VP) ones ``alpha^2 + sigma^2 = 1``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from uldnum import schedules
from uldnum.arguments import positive, positive_number, whole_number
from uldnum.names import unknown
from uldnum.schedules import Schedule, preserved
from uldnum.typing import Array, ArrayLike

__all__ = ["Levels", "cosine", "geometric", "given", "karras", "linear", "parse"]


@dataclass(frozen=True, eq=False)
class Levels:
    """Noise levels, the noisiest first.

    Parameters
    ----------
    alpha, sigma : float64 arrays, shape (L,)
        Of ``z = alpha x + sigma eps``.

    Raises
    ------
    ValueError
        If there is no level, a number is not positive, or sigma/alpha does not fall from level to level.
    """

    alpha: Array
    sigma: Array

    def __post_init__(self) -> None:
        for name in ("alpha", "sigma"):
            object.__setattr__(self, name, positive(name, getattr(self, name)).copy())
        if self.sigma.ndim != 1 or self.alpha.shape != self.sigma.shape or not self.sigma.size:
            raise ValueError(f"sigma: must have shape (L,), as alpha, got {self.sigma.shape} and {self.alpha.shape}")
        if not np.all(np.diff(self.ratio) < 0):
            raise ValueError("sigma: sigma/alpha must fall from level to level")

    def __len__(self) -> int:
        return len(self.sigma)

    @property
    def ratio(self) -> Array:
        """Noise to signal, sigma/alpha."""
        return self.sigma / self.alpha

    def below(self, sigma_max: float) -> Levels:
        """Return the levels with sigma up to ``sigma_max``: the reduced sets of Jain & Poole."""
        kept = self.sigma <= positive_number("sigma_max", sigma_max) * (1 + 1e-12)
        if not kept.any():
            raise ValueError(f"sigma_max: no level is below {sigma_max:g}, the least is {self.sigma[-1]:g}")
        return Levels(self.alpha[kept], self.sigma[kept])


def given(sigma: ArrayLike, alpha: ArrayLike = 1.0) -> Levels:
    """Return levels from arrays, shape (L,); alpha may be one number."""
    noise, scale = positive("sigma", sigma), positive("alpha", alpha)
    return Levels(np.broadcast_to(scale, noise.shape) if scale.ndim == 0 else scale, noise)


def geometric(first: float, last: float, count: int) -> Levels:
    """VE levels with one ratio from each to the next (Song & Ermon 2019, sec. 4.2)."""
    return given(spaced(schedules.geometric, first, last, count))


def karras(first: float, last: float, count: int, rho: float = 7.0) -> Levels:
    """VE levels evenly spaced in their rho-th root (Karras et al. 2022, eq. 5)."""
    return given(spaced(partial(schedules.karras, rho=positive_number("rho", rho)), first, last, count))


def linear(count: int, beta_start: float = 0.1, beta_end: float = 20.0, last: float = 1e-3) -> Levels:
    """VP levels of the SDE whose rate grows linearly, from t = 1 to ``last`` (Song et al. 2021, eq. 32)."""
    low, high = positive_number("beta_start", beta_start), positive_number("beta_end", beta_end)
    end = positive_number("last", last)
    if not (end < 1 and low + high < 1000):
        raise ValueError(
            f"last, beta_start, beta_end: must be below 1, and 1000 together, got {last}, {low} and {high}"
        )
    return preserving(schedules.linear(low, high), count, end)


def cosine(count: int, timesteps: int = 1000, max_beta: float = 0.999) -> Levels:
    """VP levels of the cosine schedule, from its last timestep to its first (Nichol & Dhariwal 2021, eq. 17)."""
    steps, beta = whole_number("timesteps", timesteps, 2, 2**20), positive_number("max_beta", max_beta)
    if beta >= 1:
        raise ValueError(f"max_beta: must be below 1, got {beta}")
    return preserving(schedules.cosine(steps, beta), count, 0.0)


def spaced(family: Callable[[float, float], Schedule], first: float, last: float, count: int) -> Array:
    """Noise levels of a family from first to last; of one, the first."""
    first, last = positive_number("first", first), positive_number("last", last)
    number = whole_number("count", count, 1, 2**20)
    if number == 1:
        return np.array([first])
    try:
        schedule = family(first, last)
        return np.array([schedule.ratio(t) for t in np.linspace(0, schedule.end, number)])
    except ArithmeticError as error:
        raise ValueError(f"first, last: levels between {first:g} and {last:g} leave the numbers: {error}") from None


def preserving(schedule: Schedule, count: int, last: float) -> Levels:
    """VP levels at evenly spaced t, from the end to ``last``."""
    times = np.linspace(schedule.end, last, whole_number("count", count, 1, 2**20))
    ratio = np.array([schedule.ratio(t) for t in times])
    return Levels(*preserved(ratio))


FAMILIES: dict[str, Callable[..., Levels]] = {
    "geometric": geometric,
    "karras": karras,
    "linear": linear,
    "cosine": cosine,
}


def parse(text: str) -> Levels:
    """Return levels as the command line writes them: a name and its numbers, such as ``geometric:50:0.01:232``."""
    name, *numbers = str(text).split(":")
    if name not in FAMILIES:
        raise unknown(
            "levels", name, FAMILIES, "Write geometric:FIRST:LAST:COUNT, karras:..., linear:COUNT or cosine:COUNT"
        )
    try:
        values = [int(number) if number.isdigit() else float(number) for number in numbers]
        inspect.signature(FAMILIES[name]).bind(*values)
    except (TypeError, ValueError):
        raise ValueError(f"levels: {text!r}: {name} takes other numbers, such as geometric:50:0.01:232") from None
    return FAMILIES[name](*values)

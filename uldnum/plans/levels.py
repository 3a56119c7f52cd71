"""Sequences of noise levels, from the most noise to the least.

At a level data x are seen as ``z = alpha x + sigma eps``. Variance exploding (VE) sequences have ``alpha = 1``,
variance preserving (VP) ones ``alpha^2 + sigma^2 = 1``.

Names mean the same here and in the cards of networks (`uldnum.plans.schedules`), and what they mean in diffusers:
`linear`, `scaled_linear` and `cosine` are discrete betas; the SDE whose rate grows linearly is `vp_sde`.

Each family warns where its noisiest level has sigma/alpha below 1: plans start there from noise, which keeps little of
the data only if sigma/alpha is large. Levels that are low on purpose come from `given` or `Levels.below`.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from uldnum._util.arguments import positive, positive_number, shown, whole_number
from uldnum._util.names import unknown
from uldnum._util.typing import Array, ArrayLike
from uldnum.plans import schedules
from uldnum.plans.schedules import Schedule, preserved

__all__ = ["Levels", "cosine", "geometric", "given", "karras", "linear", "parse", "scaled_linear", "vp_sde"]


# Of which squares are numbers.
LARGEST = 1e150


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
        If there is no level, a number is not positive or above 1e150, or sigma/alpha does not fall from level to level.
    """

    alpha: Array
    sigma: Array

    def __post_init__(self) -> None:
        for name in ("alpha", "sigma"):
            numbers = positive(name, getattr(self, name)).copy()
            if numbers.max(initial=0) > LARGEST:
                raise ValueError(f"{name}: must be at most {LARGEST:g}, got {numbers.max():g}")
            numbers.flags.writeable = False
            object.__setattr__(self, name, numbers)
        if self.sigma.ndim != 1 or self.alpha.shape != self.sigma.shape or not self.sigma.size:
            raise ValueError(f"sigma: must have shape (L,), as alpha, got {self.sigma.shape} and {self.alpha.shape}")
        with np.errstate(over="ignore", under="ignore"):
            ratio = self.ratio
        if not np.all((ratio > 1 / LARGEST) & (ratio < LARGEST)):
            raise ValueError(f"alpha, sigma: sigma/alpha must be between {1 / LARGEST:g} and {LARGEST:g}")
        if not np.all(np.diff(ratio) < 0):
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
    """Return given levels.

    Parameters
    ----------
    sigma : array, shape (L,)
        Noise of ``z = alpha x + sigma eps``.
    alpha : float or array of shape (L,)
        Scale of the data; 1 for VE levels.

    Returns
    -------
    Levels
        In float64, as given.

    Raises
    ------
    ValueError
        If there is no level, a number is not positive and finite, the shapes differ, or sigma/alpha does not fall from
        level to level.
    """
    noise, scale = positive("sigma", sigma), positive("alpha", alpha)
    return Levels(np.broadcast_to(scale, noise.shape) if scale.ndim == 0 else scale, noise)


def geometric(first: float, last: float, count: int) -> Levels:
    """VE levels with one ratio from each to the next (Song & Ermon 2019, sec. 4.1).

    ``sigma_i = first (last/first)^(i/(count - 1))`` for i = 0 ... count - 1.

    Parameters
    ----------
    first : float
        Sigma of the first level, the largest.
    last : float
        Sigma of the last level, below ``first``.
    count : int
        Number of levels, both ends included, at most 2^20. Of one level sigma is ``first``.

    Returns
    -------
    Levels
        Arrays of shape (count,), alpha = 1.

    Raises
    ------
    ValueError
        If first or last is not a positive, finite number, count is not an integer from 1 to 2^20, or sigma does not
        fall from level to level: last is not below first, or so near that float64 does not tell the levels apart.
    """
    return noisy("geometric levels", spaced(schedules.geometric, first, last, count))


def karras(first: float, last: float, count: int, rho: float = 7.0) -> Levels:
    """VE levels evenly spaced in their rho-th root (Karras et al. 2022, eq. 5).

    ``sigma_i = (first^(1/rho) + i/(count - 1) (last^(1/rho) - first^(1/rho)))^rho`` for i = 0 ... count - 1. The noise
    of 0 with which the paper ends is no level.

    Parameters
    ----------
    first : float
        Sigma of the first level, the largest.
    last : float
        Sigma of the last level, below ``first``.
    count : int
        Number of levels, both ends included, at most 2^20. Of one level sigma is ``first``.
    rho : float
        The larger, the more levels have little noise: 1 spaces them evenly, infinity would be `geometric`.

    Returns
    -------
    Levels
        Arrays of shape (count,), alpha = 1.

    Raises
    ------
    ValueError
        If first, last or rho is not a positive, finite number, count is not an integer from 1 to 2^20, sigma does not
        fall from level to level, or a power leaves the numbers.
    """
    family = partial(schedules.karras, rho=positive_number("rho", rho))
    return noisy("karras levels", spaced(family, first, last, count))


def linear(count: int, beta_start: float = 1e-4, beta_end: float = 0.02, timesteps: int = 1000) -> Levels:
    """VP levels of betas that grow linearly, from the last timestep to the first (DDPM: Ho et al. 2020, sec. 4).

    ``alpha^2`` is the product of ``1 - beta`` up to a timestep, and ``sigma^2 = 1 - alpha^2``; betas are evenly spaced.
    Levels are placed as those of `cosine`.

    Parameters
    ----------
    count : int
        Number of levels, both ends included, at most 2^20. Of one level the timestep is the last.
    beta_start, beta_end : float
        Beta of the first and of the last timestep, below 1. Their sum over timesteps sets the noise of the last one.
    timesteps : int
        Number T of timesteps of the schedule, from 2 to 2^20.

    Returns
    -------
    Levels
        Arrays of shape (count,).

    Raises
    ------
    ValueError
        If an argument is out of its range, or count or timesteps is not an integer.
    """
    return noisy("levels of linear betas", of_betas(schedules.linear, count, beta_start, beta_end, timesteps))


def scaled_linear(count: int, beta_start: float = 0.00085, beta_end: float = 0.012, timesteps: int = 1000) -> Levels:
    """VP levels of betas whose square roots grow linearly, from the last timestep to the first (Rombach et al. 2022).

    ``alpha^2`` is the product of ``1 - beta`` up to a timestep, and ``sigma^2 = 1 - alpha^2``; roots of the betas are
    evenly spaced. Levels are placed as those of `cosine`.

    Parameters
    ----------
    count : int
        Number of levels, both ends included, at most 2^20. Of one level the timestep is the last.
    beta_start, beta_end : float
        Beta of the first and of the last timestep, below 1. Their sum over timesteps sets the noise of the last one.
    timesteps : int
        Number T of timesteps of the schedule, from 2 to 2^20.

    Returns
    -------
    Levels
        Arrays of shape (count,).

    Raises
    ------
    ValueError
        If an argument is out of its range, or count or timesteps is not an integer.
    """
    found = of_betas(schedules.scaled_linear, count, beta_start, beta_end, timesteps)
    return noisy("levels of scaled-linear betas", found)


def vp_sde(count: int, beta_start: float = 0.1, beta_end: float = 20.0, last: float = 1e-3) -> Levels:
    """VP levels of the SDE whose rate grows linearly, from t = 1 to ``last`` (Song et al. 2021, eq. 32).

    At ``count`` evenly spaced times, ``alpha(t) = exp(-1/2 int_0^t beta)`` with the rate ``beta(t) = beta_start +
    t (beta_end - beta_start)``, and ``sigma^2 = 1 - alpha^2``.

    Parameters
    ----------
    count : int
        Number of levels, both ends included, at most 2^20. Of one level t is 1.
    beta_start, beta_end : float
        The rate at t = 0 and at t = 1, below 1000 together; not the betas of `linear`, which are a thousandth of it.
    last : float
        Time t (not sigma) of the last level, above 0 and below 1.

    Returns
    -------
    Levels
        Arrays of shape (count,).

    Raises
    ------
    ValueError
        If a number is not positive, finite and in its range, count is not an integer from 1 to 2^20, or last is so near
        1 that float64 does not tell the levels apart.
    """
    low, high = positive_number("beta_start", beta_start), positive_number("beta_end", beta_end)
    end = positive_number("last", last)
    if end >= 1:
        raise ValueError(f"last: must be below 1, got {end}")
    if low + high >= 1000:
        raise ValueError(f"beta_start, beta_end: their sum must be below 1000, got {low} and {high}")
    rates = f"levels of an SDE with rates from {low:g} to {high:g} (betas of timesteps belong to linear)"
    return noisy(rates, preserving(schedules.vp_sde(low, high), count, end))


def cosine(count: int, timesteps: int = 1000, max_beta: float = 0.999) -> Levels:
    """VP levels of the cosine schedule, from its last timestep to its first (Nichol & Dhariwal 2021, eq. 17).

    ``alpha^2`` is the product of ``1 - beta`` up to a timestep, and ``sigma^2 = 1 - alpha^2``. Levels are at ``count``
    evenly spaced places from timestep ``timesteps - 1`` to 0; between timesteps log(sigma/alpha) is interpolated.

    Parameters
    ----------
    count : int
        Number of levels, both ends included, at most 2^20. Of one level the timestep is the last.
    timesteps : int
        Number T of timesteps of the schedule, from 2 to 2^20.
    max_beta : float
        No beta is larger than this; above 1e-16 and below 1.

    Returns
    -------
    Levels
        Arrays of shape (count,).

    Raises
    ------
    ValueError
        If an argument is out of its range, or count or timesteps is not an integer.
    """
    steps, beta = whole_number("timesteps", timesteps, 2, 2**20), positive_number("max_beta", max_beta)
    if not 1e-16 < beta < 1:
        raise ValueError(f"max_beta: must be above 1e-16 and below 1, got {beta}")
    return noisy("levels of cosine betas", preserving(schedules.cosine(steps, beta), count, 0.0))


def spaced(family: Callable[[float, float], Schedule], first: float, last: float, count: int) -> Levels:
    """Noise levels of a family from first to last; of one, the first."""
    first, last = positive_number("first", first), positive_number("last", last)
    number = whole_number("count", count, 1, 2**20)
    try:
        if number == 1:
            return given(np.array([first]))
        with np.errstate(all="ignore"):
            schedule = family(first, last)
            inner = schedule.ratio(np.linspace(0, schedule.end, number)[1:-1])
        return given(np.array([first, *inner, last]))
    except ValueError as error:
        raise ValueError(f"first, last, count: {number} levels from {first:g} to {last:g}: {error}") from None


def of_betas(
    family: Callable[[float, float, int], Schedule], count: int, beta_start: float, beta_end: float, timesteps: int
) -> Levels:
    """VP levels of a family of betas between two."""
    low, high = positive_number("beta_start", beta_start), positive_number("beta_end", beta_end)
    if max(low, high) >= 1:
        raise ValueError(
            f"beta_start, beta_end: must be below 1, got {low} and {high}; the rates of an SDE are those of vp_sde"
        )
    return preserving(family(low, high, whole_number("timesteps", timesteps, 2, 2**20)), count, 0.0)


def preserving(schedule: Schedule, count: int, last: float) -> Levels:
    """VP levels at evenly spaced t, from the end to ``last``."""
    times = np.linspace(schedule.end, last, whole_number("count", count, 1, 2**20))
    try:
        return Levels(*preserved(schedule.ratio(times)))
    except ValueError as error:
        raise ValueError(f"count: {count} levels from t = {schedule.end:g} to {last:g}: {error}") from None


def noisy(what: str, levels: Levels) -> Levels:
    """Return the levels of a family, with a warning where the noisiest has less noise than signal."""
    if levels.ratio[0] < 1:
        warnings.warn(
            f"levels: the noisiest of these {what} has sigma/alpha = {levels.ratio[0]:.4g}, below 1, which is little "
            "noise to start a plan from; levels that are low on purpose come from given() or below()",
            stacklevel=3,
        )
    return levels


FAMILIES: dict[str, Callable[..., Levels]] = {
    "geometric": geometric,
    "karras": karras,
    "linear": linear,
    "scaled-linear": scaled_linear,
    "cosine": cosine,
    "vp-sde": vp_sde,
}


def parse(text: str) -> Levels:
    """Return levels as the command line writes them: a name and its numbers, such as ``geometric:50:0.01:232``.

    Parameters
    ----------
    text : str
        The name of a family, in lower case, and its arguments in their order, each behind a colon:
        ``geometric:FIRST:LAST:COUNT``, ``karras:FIRST:LAST:COUNT:RHO``,
        ``linear:COUNT:BETA_START:BETA_END:TIMESTEPS``, ``scaled-linear`` with the same arguments,
        ``cosine:COUNT:TIMESTEPS:MAX_BETA``, ``vp-sde:COUNT:BETA_START:BETA_END:LAST``. What has a default may be left
        out, from the end. Numbers of levels and of timesteps are digits alone.

    Returns
    -------
    Levels
        Those of the function of that name.

    Raises
    ------
    ValueError
        If there is no such name (the message offers the nearest), it takes other numbers, or one is out of its range.
    """
    name, *numbers = map(str.strip, text.split(":")) if isinstance(text, str) else [""]
    if name not in FAMILIES:
        raise unknown(
            "levels",
            name or text,
            FAMILIES,
            "Write geometric:FIRST:LAST:COUNT, karras:..., or COUNT behind linear, scaled-linear, cosine or vp-sde",
        )
    signature = inspect.signature(FAMILIES[name])
    try:
        values = [int(number) if number.isdigit() else float(number) for number in numbers]
        signature.bind(*values)
    except (TypeError, ValueError):
        wanted = [part.name.upper() for part in signature.parameters.values() if part.default is part.empty]
        raise ValueError(f"levels: {shown(text)}: write {':'.join([name, *wanted])} with numbers") from None
    return FAMILIES[name](*values)

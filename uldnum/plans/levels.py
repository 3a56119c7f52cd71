"""Sequences of noise levels, in order of decreasing noise.

At a noise level, data x become ``z = alpha x + sigma eps`` with standard normal eps. Variance-exploding (VE) levels
have ``alpha = 1``, variance-preserving (VP) levels have ``alpha^2 + sigma^2 = 1``, and levels of flow matching have
``alpha + sigma = 1``.

A family is a function that returns levels from a few numbers, such as `geometric`. The cards of networks use the names
of the families with the same meaning for their schedules (`uldnum.plans.schedules`). `linear`, `scaled_linear` and
`cosine` are schedules of discrete betas, which diffusers calls ``linear``, ``scaled_linear`` and ``squaredcos_cap_v2``.
`vp_sde` is the SDE whose rate beta(t) grows linearly in time.

Each family warns if its noisiest level has sigma/alpha below 1. On a network, a plan starts from Gaussian noise at that
level, which is a good approximation only if sigma/alpha is large. `given` and `Levels.below` do not warn.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from uldnum._util.arguments import numbers, positive, positive_number, shown, whole_number
from uldnum._util.names import unknown
from uldnum._util.parsing import whole
from uldnum._util.summary import Described, Summary, counted
from uldnum._util.typing import Array, ArrayLike
from uldnum.plans import schedules
from uldnum.plans.schedules import Schedule, preserved, shifted_times
from uldnum.schemes.predictors import NoiseLevel

__all__ = ["Levels", "cosine", "flow", "geometric", "given", "karras", "linear", "parse", "scaled_linear", "vp_sde"]


# Largest alpha and sigma. Their squares are finite in float64.
LARGEST = 1e150


@dataclass(frozen=True, eq=False, repr=False)
class Levels(Described):
    """Noise levels in order of decreasing noise.

    Parameters
    ----------
    alpha, sigma : float64 arrays, shape (L,)
        Scale of the data and standard deviation of the noise in ``z = alpha x + sigma eps``.

    Raises
    ------
    ValueError
        If there is no level, if a number is not positive or exceeds 1e150, or if sigma/alpha does not decrease from
        level to level. The first of several levels may have alpha = 0.

    Examples
    --------
    >>> import uldnum
    >>> uldnum.levels.geometric(10.0, 0.1, 5)
    5 noise levels, sigma from 10 to 0.1, alpha = 1
    """

    alpha: Array
    sigma: Array

    def __post_init__(self) -> None:
        for name, values in (("alpha", scales("alpha", self.alpha)), ("sigma", positive("sigma", self.sigma).copy())):
            if values.max(initial=0) > LARGEST:
                raise ValueError(f"{name}: must be at most {LARGEST:g}, got {values.max():g}")
            values.flags.writeable = False
            object.__setattr__(self, name, values)
        if self.sigma.ndim != 1 or self.alpha.shape != self.sigma.shape or not self.sigma.size:
            raise ValueError(f"sigma: must have shape (L,), like alpha, got {self.sigma.shape} and {self.alpha.shape}")
        with np.errstate(over="ignore", under="ignore"):
            ratio = self.ratio
        if not np.all((ratio > 1 / LARGEST) & ((ratio < LARGEST) | (self.alpha == 0))):
            raise ValueError(f"alpha, sigma: sigma/alpha must be between {1 / LARGEST:g} and {LARGEST:g}")
        if not np.all(ratio[1:] < ratio[:-1]):
            raise ValueError("sigma: sigma/alpha must decrease from level to level")

    def __len__(self) -> int:
        return len(self.sigma)

    @property
    def summary(self) -> Summary:
        """Number and range of the levels."""
        ranges = (
            f"{name} from {values[0]:.4g} to {values[-1]:.4g}" if np.ptp(values) else f"{name} = {values[0]:.4g}"
            for name, values in (("sigma", self.sigma), ("alpha", self.alpha))
        )
        return Summary(f"{counted(len(self), 'noise level')}, {', '.join(ranges)}", [], [])

    @property
    def ratio(self) -> Array:
        """Noise-to-signal ratio sigma/alpha, float64, shape (L,). It is infinite at alpha = 0."""
        ratio: Array = NoiseLevel(self.alpha, self.sigma).r
        return ratio

    def below(self, sigma_max: float) -> Levels:
        """Return the levels with sigma at most ``sigma_max``, as in the reduced sets of Jain & Poole 2022.

        Parameters
        ----------
        sigma_max : float
            Largest sigma to keep. A relative excess of 1e-12 is permitted for rounding.

        Returns
        -------
        Levels
            The remaining levels.

        Raises
        ------
        ValueError
            If sigma_max is not positive and finite, or no level remains.

        Examples
        --------
        >>> import uldnum
        >>> uldnum.levels.geometric(10.0, 0.1, 3).below(1.0).sigma.round(4).tolist()
        [1.0, 0.1]
        """
        kept = self.sigma <= positive_number("sigma_max", sigma_max) * (1 + 1e-12)
        if not kept.any():
            raise ValueError(f"sigma_max: must be at least the smallest sigma, {self.sigma[-1]:g}, got {sigma_max:g}")
        return Levels(self.alpha[kept], self.sigma[kept])


def scales(name: str, value: ArrayLike) -> Array:
    """Return a float64 copy of positive, finite numbers, of which the first of several may be 0."""
    found = numbers(name, value)
    if not (np.all(found.ravel()[1:] > 0) and np.all(found >= 0) and (found.size > 1 or np.all(found > 0))):
        raise ValueError(
            f"{name}: must be positive and finite, or 0 at the first of several levels, got {shown(found.tolist())}"
        )
    return found


def given(sigma: ArrayLike, alpha: ArrayLike = 1.0) -> Levels:
    """Return noise levels with the given values.

    Parameters
    ----------
    sigma : array, shape (L,)
        Standard deviation of the noise in ``z = alpha x + sigma eps``.
    alpha : float or array of shape (L,), default 1.0
        Scale of the data. VE levels have alpha = 1. The first of several levels may have alpha = 0 (pure noise).

    Returns
    -------
    Levels
        Float64 arrays of shape (L,).

    Raises
    ------
    ValueError
        If there is no level, a number is not positive and finite, the shapes differ, or sigma/alpha does not decrease
        from level to level.

    Examples
    --------
    >>> import uldnum
    >>> uldnum.levels.given([10.0, 1.0, 0.1])
    3 noise levels, sigma from 10 to 0.1, alpha = 1
    """
    noise, scale = positive("sigma", sigma), scales("alpha", alpha)
    return Levels(np.broadcast_to(scale, noise.shape) if scale.ndim == 0 else scale, noise)


def geometric(first: float, last: float, count: int) -> Levels:
    """Return VE levels in geometric progression.

    ``sigma_i = first (last/first)^(i/(count - 1))`` for i = 0 ... count - 1, and alpha = 1.

    Parameters
    ----------
    first : float
        Sigma of the first level, the largest.
    last : float
        Sigma of the last level, smaller than ``first``.
    count : int
        Number of levels, both ends included, from 1 to 2^20. A single level has sigma = ``first``.

    Returns
    -------
    Levels
        Float64 arrays of shape (count,).

    Raises
    ------
    ValueError
        If first or last is not positive and finite, count is not an integer from 1 to 2^20, or sigma does not decrease
        from level to level. Sigma does not decrease if last is not smaller than first, or is so close to it that
        neighbouring levels are equal in float64.

    Warns
    -----
    UserWarning
        If ``first`` is below 1.

    References
    ----------
    Song & Ermon 2019, sec. 4.1.

    Examples
    --------
    >>> import uldnum
    >>> uldnum.levels.geometric(10.0, 0.1, 3).sigma.round(4).tolist()
    [10.0, 1.0, 0.1]
    """
    return noisy("geometric levels", spaced(schedules.geometric, first, last, count))


def karras(first: float, last: float, count: int, rho: float = 7.0) -> Levels:
    """Return VE levels that are evenly spaced in sigma^(1/rho).

    ``sigma_i = (first^(1/rho) + i/(count - 1) (last^(1/rho) - first^(1/rho)))^rho`` for i = 0 ... count - 1, and
    alpha = 1. The sequence in the paper ends with another level, sigma = 0. It is not included here, and the denoising
    step at the end of a plan replaces it.

    Parameters
    ----------
    first : float
        Sigma of the first level, the largest.
    last : float
        Sigma of the last level, smaller than ``first``.
    count : int
        Number of levels, both ends included, from 1 to 2^20. A single level has sigma = ``first``.
    rho : float, default 7.0
        Exponent. rho = 1 spaces sigma evenly. A larger rho moves levels to smaller sigma; in the limit of infinite rho
        the levels are those of `geometric`.

    Returns
    -------
    Levels
        Float64 arrays of shape (count,).

    Raises
    ------
    ValueError
        If first, last or rho is not positive and finite, count is not an integer from 1 to 2^20, sigma does not
        decrease from level to level, or a power is not finite.

    Warns
    -----
    UserWarning
        If ``first`` is below 1.

    References
    ----------
    Karras, Aittala, Aila & Laine 2022, eq. 5.

    Examples
    --------
    >>> import uldnum
    >>> uldnum.levels.karras(80.0, 0.002, 4).sigma.round(3).tolist()
    [80.0, 9.723, 0.47, 0.002]
    """
    family = partial(schedules.karras, rho=positive_number("rho", rho))
    return noisy("karras levels", spaced(family, first, last, count))


def linear(count: int, beta_start: float = 1e-4, beta_end: float = 0.02, timesteps: int = 1000) -> Levels:
    """Return VP levels of the linear beta schedule of DDPM, from the last timestep to the first.

    The betas are evenly spaced. ``alpha^2`` is the product of ``1 - beta`` up to a timestep, and
    ``sigma^2 = 1 - alpha^2``. The levels are at ``count`` evenly spaced times from ``timesteps - 1`` to 0. Between
    timesteps, log(sigma/alpha) is interpolated linearly.

    Parameters
    ----------
    count : int
        Number of levels, both ends included, from 1 to 2^20. A single level is at the last timestep.
    beta_start, beta_end : float, default 1e-4 and 0.02
        Beta of the first and of the last timestep, between 0 and 1. With more timesteps, the same betas give a
        noisier last timestep.
    timesteps : int, default 1000
        Number of timesteps of the schedule, from 2 to 2^20.

    Returns
    -------
    Levels
        Float64 arrays of shape (count,).

    Raises
    ------
    ValueError
        If an argument is out of range, or count or timesteps is not an integer.

    Warns
    -----
    UserWarning
        If sigma/alpha of the first level is below 1.

    References
    ----------
    Ho, Jain & Abbeel 2020, sec. 4.

    Examples
    --------
    >>> import uldnum
    >>> uldnum.levels.linear(3).sigma.round(4).tolist()
    [1.0, 0.9601, 0.01]
    """
    return noisy("levels of linear betas", of_betas(schedules.linear, count, beta_start, beta_end, timesteps))


def scaled_linear(count: int, beta_start: float = 0.00085, beta_end: float = 0.012, timesteps: int = 1000) -> Levels:
    """Return VP levels of the scaled linear beta schedule of latent diffusion, from the last timestep to the first.

    The square roots of the betas are evenly spaced. ``alpha^2`` is the product of ``1 - beta`` up to a timestep, and
    ``sigma^2 = 1 - alpha^2``. The levels are at ``count`` evenly spaced times from ``timesteps - 1`` to 0. Between
    timesteps, log(sigma/alpha) is interpolated linearly.

    Parameters
    ----------
    count : int
        Number of levels, both ends included, from 1 to 2^20. A single level is at the last timestep.
    beta_start, beta_end : float, default 0.00085 and 0.012
        Beta of the first and of the last timestep, between 0 and 1. With more timesteps, the same betas give a
        noisier last timestep.
    timesteps : int, default 1000
        Number of timesteps of the schedule, from 2 to 2^20.

    Returns
    -------
    Levels
        Float64 arrays of shape (count,).

    Raises
    ------
    ValueError
        If an argument is out of range, or count or timesteps is not an integer.

    Warns
    -----
    UserWarning
        If sigma/alpha of the first level is below 1.

    References
    ----------
    Rombach et al. 2022.

    Examples
    --------
    >>> import uldnum
    >>> uldnum.levels.scaled_linear(3).sigma.round(4).tolist()
    [0.9977, 0.8503, 0.0292]
    """
    found = of_betas(schedules.scaled_linear, count, beta_start, beta_end, timesteps)
    return noisy("levels of scaled-linear betas", found)


def vp_sde(count: int, beta_start: float = 0.1, beta_end: float = 20.0, last: float = 1e-3) -> Levels:
    """Return VP levels of the SDE whose rate beta(t) grows linearly, from t = 1 to t = ``last``.

    The levels are at ``count`` evenly spaced times, with ``alpha(t) = exp(-1/2 int_0^t beta)``,
    ``sigma^2 = 1 - alpha^2`` and the rate ``beta(t) = beta_start + t (beta_end - beta_start)``.

    Parameters
    ----------
    count : int
        Number of levels, both ends included, from 1 to 2^20. A single level is at t = 1.
    beta_start, beta_end : float, default 0.1 and 20.0
        Rate at t = 0 and at t = 1. Their sum must be below 1000. With 1000 timesteps, the betas of `linear` are smaller
        than these rates by a factor of 1000.
    last : float, default 1e-3
        Time t (not sigma) of the last level, between 0 and 1.

    Returns
    -------
    Levels
        Float64 arrays of shape (count,).

    Raises
    ------
    ValueError
        If a number is not positive, not finite or out of range, count is not an integer from 1 to 2^20, or last is so
        close to 1 that neighbouring levels are equal in float64.

    Warns
    -----
    UserWarning
        If sigma/alpha of the first level is below 1.

    References
    ----------
    Song, Sohl-Dickstein, Kingma, Kumar, Ermon & Poole 2021, eq. 32.

    Examples
    --------
    >>> import uldnum
    >>> uldnum.levels.vp_sde(3).sigma.round(4).tolist()
    [1.0, 0.9599, 0.0105]
    """
    low, high = positive_number("beta_start", beta_start), positive_number("beta_end", beta_end)
    end = positive_number("last", last)
    if end >= 1:
        raise ValueError(f"last: must be below 1, got {end}")
    if low + high >= 1000:
        raise ValueError(f"beta_start, beta_end: their sum must be below 1000, got {low} and {high}")
    rates = f"levels of an SDE with rates from {low:g} to {high:g} (use linear for the betas of discrete timesteps)"
    return noisy(rates, preserving(schedules.vp_sde(low, high), count, end))


def cosine(count: int, timesteps: int = 1000, max_beta: float = 0.999) -> Levels:
    """Return VP levels of the cosine schedule, from the last timestep to the first.

    With T timesteps, ``beta_t = 1 - f(t/T)/f((t - 1)/T)`` for t = 1 ... T, at most ``max_beta``, where
    ``f(u) = cos^2((u + 0.008)/1.008 pi/2)``. ``alpha^2`` is the product of ``1 - beta`` up to a timestep, and
    ``sigma^2 = 1 - alpha^2``. The levels are at ``count`` evenly spaced times from the last timestep to the first.
    Between timesteps, log(sigma/alpha) is interpolated linearly.

    Parameters
    ----------
    count : int
        Number of levels, both ends included, from 1 to 2^20. A single level is at the last timestep.
    timesteps : int, default 1000
        Number T of timesteps of the schedule, from 2 to 2^20.
    max_beta : float, default 0.999
        Upper bound of the betas, above 1e-16 and below 1.

    Returns
    -------
    Levels
        Float64 arrays of shape (count,).

    Raises
    ------
    ValueError
        If an argument is out of range, or count or timesteps is not an integer.

    Warns
    -----
    UserWarning
        If sigma/alpha of the first level is below 1.

    References
    ----------
    Nichol & Dhariwal 2021, eq. 17.

    Examples
    --------
    >>> import uldnum
    >>> uldnum.levels.cosine(3).sigma.round(4).tolist()
    [1.0, 0.712, 0.0064]
    """
    steps, beta = whole_number("timesteps", timesteps, 2, 2**20), positive_number("max_beta", max_beta)
    if not 1e-16 < beta < 1:
        raise ValueError(f"max_beta: must be above 1e-16 and below 1, got {beta}")
    return noisy("levels of cosine betas", preserving(schedules.cosine(steps, beta), count, 0.0))


def flow(count: int, shift: float = 1.0, first: float = 1.0, last: float = 1e-3) -> Levels:
    """Return levels of flow matching, sigma = t and alpha = 1 - t, from t = ``first`` to t = ``last`` before the shift.

    ``sigma_i = s t_i/(1 + (s - 1) t_i)`` with the shift s and evenly spaced t_i.

    Parameters
    ----------
    count : int
        Number of levels, both ends included, from 2 to 2^20.
    shift : float, default 1.0
        The shift s. If it is larger than 1, more levels are at large sigma.
    first, last : float, default 1.0 and 1e-3
        First and last t, with 0 < last < first <= 1. At t = 1, alpha is 0 (pure noise), where only networks that
        predict the velocity, the image or v, and a `DataMixture`, know the denoised image.

    Returns
    -------
    Levels
        Float64 arrays of shape (count,).

    Raises
    ------
    ValueError
        If an argument is out of range.

    Warns
    -----
    UserWarning
        If sigma/alpha of the first level is below 1.

    References
    ----------
    Lipman, Chen, Ben-Hamu, Nickel & Le 2023; Esser et al. 2024, eq. 23 (the shift).

    Examples
    --------
    >>> import uldnum
    >>> uldnum.levels.flow(3, shift=3.0, last=0.2).sigma.round(4).tolist()
    [1.0, 0.8182, 0.4286]
    """
    start, end = positive_number("first", first), positive_number("last", last)
    if not end < start <= 1:
        raise ValueError(f"first, last: must satisfy 0 < last < first <= 1, got {first} and {last}")
    sigma = shifted_times(whole_number("count", count, 2, 2**20), positive_number("shift", shift), start, end)
    return noisy("levels of flow matching", Levels(1 - sigma, sigma))


def spaced(family: Callable[[float, float], Schedule], first: float, last: float, count: int) -> Levels:
    """Return VE levels of a family from ``first`` to ``last``. A single level has sigma = ``first``."""
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
    """Return VP levels of a schedule of betas from ``beta_start`` to ``beta_end``."""
    low, high = positive_number("beta_start", beta_start), positive_number("beta_end", beta_end)
    if max(low, high) >= 1:
        raise ValueError(
            f"beta_start, beta_end: must be below 1, got {low} and {high}; for the rates of an SDE use vp_sde"
        )
    return preserving(family(low, high, whole_number("timesteps", timesteps, 2, 2**20)), count, 0.0)


def preserving(schedule: Schedule, count: int, last: float) -> Levels:
    """Return VP levels at ``count`` evenly spaced times t, from the end of the schedule to ``last``."""
    times = np.linspace(schedule.end, last, whole_number("count", count, 1, 2**20))
    try:
        return Levels(*preserved(schedule.ratio(times)))
    except ValueError as error:
        raise ValueError(f"count: {count} levels from t = {schedule.end:g} to {last:g}: {error}") from None


def noisy(what: str, levels: Levels) -> Levels:
    """Return the levels unchanged, after a warning if the noisiest level has sigma/alpha below 1."""
    if levels.ratio[0] < 1:
        warnings.warn(
            f"levels: the noisiest of these {what} has sigma/alpha = {levels.ratio[0]:.4g}, below 1, which is too "
            "little noise to start a plan from noise; if this is intended, use given() or below()",
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
    "flow": flow,
}


def number_of(text: str) -> float:
    """Return the number that a text denotes: an int if it is a whole number, otherwise a float."""
    try:
        return whole(text)
    except ValueError:
        return float(text)


def parse(text: str) -> Levels:
    """Return levels from their notation on the command line, such as ``geometric:50:0.01:232``.

    Parameters
    ----------
    text : str
        Name of a family, in lower case, followed by its arguments in order, each after a colon:
        ``geometric:FIRST:LAST:COUNT``, ``karras:FIRST:LAST:COUNT:RHO``,
        ``linear:COUNT:BETA_START:BETA_END:TIMESTEPS``, ``scaled-linear:COUNT:BETA_START:BETA_END:TIMESTEPS``,
        ``cosine:COUNT:TIMESTEPS:MAX_BETA``, ``vp-sde:COUNT:BETA_START:BETA_END:LAST`` or
        ``flow:COUNT:SHIFT:FIRST:LAST``. Trailing arguments with a default may be omitted. COUNT and TIMESTEPS are whole
        numbers, such as 1000 or 1e3.

    Returns
    -------
    Levels
        Result of the function of that name.

    Raises
    ------
    ValueError
        If there is no such family (the message suggests a similar name), the number of arguments is wrong, or an
        argument is out of range.

    Examples
    --------
    >>> import uldnum
    >>> uldnum.levels.parse("geometric:10:0.1:3").sigma.round(4).tolist()
    [10.0, 1.0, 0.1]
    """
    name, *numbers = map(str.strip, text.split(":")) if isinstance(text, str) else [""]
    if name not in FAMILIES:
        raise unknown(
            "levels",
            name or text,
            FAMILIES,
            "Write geometric:FIRST:LAST:COUNT, karras:FIRST:LAST:COUNT, linear:COUNT, scaled-linear:COUNT, "
            "cosine:COUNT, vp-sde:COUNT or flow:COUNT",
        )
    signature = inspect.signature(FAMILIES[name])
    try:
        values = [number_of(text) for text in numbers]
        signature.bind(*values)
    except (TypeError, ValueError):
        wanted = [part.name.upper() for part in signature.parameters.values() if part.default is part.empty]
        raise ValueError(f"levels: must be {':'.join([name, *wanted])} with numbers, got {shown(text)}") from None
    return FAMILIES[name](*values)

"""Targets whose expectations are those of reference samples, or those of another temperature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from uldnum._util.names import digest
from uldnum._util.typing import Array
from uldnum.diagnostics.arguments import checked_run, matching
from uldnum.diagnostics.reference import Reference
from uldnum.exact.density import TargetDensity, tabulate
from uldnum.kernels.initial import initial_uniform
from uldnum.sampling.run import Run
from uldnum.targets import GaussianMixture, Modes, Target, lacking
from uldnum.targets.mass import Mass

__all__ = ["Referenced", "against", "at_temperature", "target_of", "with_draws"]

# Seed of exact draws that serve as a reference. It differs from the default seed of runs.
EXACT_DRAWS = 1 << 63


def of_part(part: str, name: str) -> Any:
    """Return a property whose value is the attribute ``name`` of the attribute ``part`` of the object."""
    return property(lambda self: getattr(getattr(self, part), name), doc=f"`{name}` of `{part}`.")


@dataclass(frozen=True, eq=False, repr=False)
class Restated(Target):
    """A target with the score, units and modes of a wrapped target, but with other expectations and draws.

    Parameters
    ----------
    inner : Target
        The wrapped target.
    temperature_of_expectations : float, default 1.0
        Temperature for which expectations and draws hold.
    """

    inner: Target
    temperature_of_expectations: float = field(default=1.0, kw_only=True)

    name, shape, like = (of_part("inner", name) for name in ("name", "shape", "like"))
    kernel_data, compiled_score, compiled_log_density, log_density, log_density_in_float64 = (
        of_part("inner", name)
        for name in ("kernel_data", "compiled_score", "compiled_log_density", "log_density", "log_density_in_float64")
    )
    time_unit, dtype = (of_part("inner", name) for name in ("time_unit", "dtype"))
    largest_precision, precision, modes = (
        of_part("inner", name) for name in ("largest_precision", "precision", "modes")
    )

    def of_chains(self, first: int, count: int) -> Restated:
        """Return the target of some of the chains of a run."""
        inner = self.inner.of_chains(first, count)
        return self if inner is self.inner else replace(self, inner=inner)

    def score(self, x: Any) -> Any:
        """Return the score of the wrapped target."""
        return self.inner.score(x)

    def score_and_log_density(self, x: Any) -> tuple[Any, Array]:
        """Return the score and the log density of the wrapped target."""
        return self.inner.score_and_log_density(x)

    def score_arguments(self, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Return the arguments of the compiled functions."""
        return self.inner.score_arguments(dtype)

    def check_dtype(self, dtype: np.dtype[Any]) -> None:
        """Raise if the score cannot be computed in the given dtype."""
        self.inner.check_dtype(dtype)

    def transformed(self, mass: Mass) -> Target:
        """Return the wrapped target in the coordinates in which a mass is 1."""
        return self.inner.transformed(mass)


@dataclass(frozen=True, eq=False, repr=False)
class Referenced(Restated):
    """A target whose expectations are those of reference samples, whether or not the target provides its own.

    Parameters
    ----------
    samples : Reference
        The reference.
    """

    samples: Reference

    def __post_init__(self) -> None:
        if not np.all(self.reference.standard_deviation > 0):
            raise ValueError("reference: must have a positive variance in every coordinate")

    @property
    def reference(self) -> Reference:
        """The reference."""
        return self.samples

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the target and of the samples."""
        return f"{self.inner.fingerprint}-{self.reference.fingerprint}"

    @property
    def mean(self) -> Array:
        """Mean of the reference."""
        return self.reference.mean

    @property
    def standard_deviation(self) -> Array:
        """Standard deviation of the reference."""
        return self.reference.standard_deviation

    def moment(self, order: int) -> Array:
        """Return the raw moments of a given order of the reference, shape ``shape``."""
        return np.asarray((self.reference.samples.astype(float) ** order).mean(axis=(0, 1)))

    def cdf(self, x: Any) -> Array:
        """Return the empirical cumulative distribution functions of the reference, (n, d) -> (n, d)."""
        every = np.sort(np.concatenate(self.reference.batches(1)), axis=0)
        points = np.reshape(np.asarray(x), (-1, every.shape[1]))
        ranks = [np.searchsorted(axis, at, side="right") for axis, at in zip(every.T, points.T, strict=True)]
        return np.array(ranks).T / len(every)

    def draws(self, n: int, seed: int = 0, first: int = 0) -> Array:
        """Return samples of the reference in a random order; none is repeated before all have been returned.

        Chains that start from the same sample are not independent.
        """
        order = np.argsort(initial_uniform(len(self.reference), seed, 0), kind="stable")
        chosen = order[(first + np.arange(n)) % len(order)]
        return self.reference.samples.reshape(-1, *self.shape)[chosen].astype(float)


@dataclass(frozen=True)
class TabulatedLaw:
    """Expectations and draws of a one-dimensional distribution, by quadrature and inversion of its table.

    Attributes
    ----------
    table : TargetDensity
        Density and cdf.
    """

    table: TargetDensity

    def expectation(self, function: Callable[[Array], Array]) -> Array:
        """Return the mean of a function of positions, (n, 1) -> (n, k), shape (k,)."""
        values = function(self.table.x[:, None])
        return np.array([self.table.integral(column * self.table.density) for column in values.T])

    @property
    def mean(self) -> Array:
        """Mean, shape (1,)."""
        return np.array([self.table.mean])

    @property
    def standard_deviation(self) -> Array:
        """Standard deviation, shape (1,)."""
        return np.array([self.table.deviation])

    def moment(self, order: int) -> Array:
        """Return the raw moment of a given order, shape (1,)."""
        return self.expectation(lambda x: x**order)

    def cdf(self, x: Any) -> Array:
        """Return the cumulative distribution function, (n, 1) -> (n, 1)."""
        return np.interp(np.reshape(np.asarray(x, dtype=float), (-1, 1)), self.table.x, self.table.cdf)

    def draws(self, n: int, seed: int = 0, first: int = 0) -> Array:
        """Return independent draws, shape (n, 1)."""
        return np.interp(initial_uniform(n, seed, first)[:, None], self.table.cdf, self.table.x)


@dataclass(frozen=True, eq=False, repr=False)
class Tempered(Restated):
    """A target with the expectations and draws of ``density^(1/T)`` at a temperature T.

    Parameters
    ----------
    law : GaussianMixture or TabulatedLaw
        The distribution at temperature T.
    """

    law: GaussianMixture | TabulatedLaw

    mean, standard_deviation = (of_part("law", name) for name in ("mean", "standard_deviation"))
    moment, cdf, draws = (of_part("law", name) for name in ("moment", "cdf", "draws"))

    @cached_property
    def modes(self) -> Modes | None:
        """The modes of the wrapped target, with their weights at temperature T."""
        modes = self.inner.modes
        if modes is None or len(modes.weights) == 1:
            return modes
        return modes._replace(weights=self.law.expectation(modes.responsibilities))  # type: ignore[union-attr]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the target and of the temperature."""
        return f"{self.inner.fingerprint}-{digest(np.array(self.temperature_of_expectations))}"


# Names of references that are made by runs.
MADE: dict[str, Callable[..., Reference]] = {"long": Reference.long, "metropolised": Reference.metropolised}


def against(target: Target, reference: Any, temperature: float | None = None) -> Target:
    """Return a target with the expectations of a reference, or with those of its own density at a temperature.

    At temperature T, the expectations are those of ``density^(1/T)``. If T differs from the temperature for which the
    expectations of the target hold, they are known only on Gaussians and in one dimension. On other targets a
    ValueError is raised unless there is a reference. By default, T is the temperature for which the expectations of the
    target hold.
    """
    temperature = target.temperature_of_expectations if temperature is None else temperature
    if isinstance(reference, str) and reference in MADE:
        reference = MADE[reference](target, temperature=temperature)
    if reference is not None:
        samples = Reference.of(reference, target.shape)
        if samples.temperature not in (None, temperature):
            raise ValueError(
                f"reference: must be samples at the temperature {temperature:g} of what is measured, got a run at "
                f"temperature {samples.temperature:g}"
            )
        return Referenced(target, samples, temperature_of_expectations=temperature)
    return at_temperature(target, temperature, "; pass reference='long', or samples at that temperature")


def at_temperature(target: Target, temperature: float, remedy: str = "") -> Target:
    """Return a target with the expectations of its own density at a temperature, or raise, as `against` does.

    The error message ends with ``remedy``.
    """
    if temperature == target.temperature_of_expectations:
        return target
    if target.precision is not None:
        return Tempered(target, heated(target, temperature), temperature_of_expectations=temperature)
    if target.shape != (1,):
        raise ValueError(
            f"temperature: at {temperature:g}, expectations and draws are known on Gaussians and in one dimension, but "
            f"not for {target.name!r}{remedy}"
        )
    return Tempered(target, TabulatedLaw(tabulate(target, temperature)), temperature_of_expectations=temperature)


def target_of(run: Run, target: Target | str, reference: Any) -> Target:
    """Return the target that a run is measured against, at the temperature of the run, or raise if shapes differ."""
    return against(matching(target, checked_run(run).settings.shape), reference, run.settings.temperature)


def heated(target: Target, temperature: float) -> GaussianMixture:
    """Return a Gaussian with a covariance that is ``temperature`` times as large."""
    precision = np.asarray(target.precision)
    if precision.ndim == 1:
        return GaussianMixture([1.0], [target.mean], [temperature / precision])
    return GaussianMixture([1.0], [target.mean], covariances=[temperature * np.linalg.inv(precision)])


@lru_cache(1)  # all points of a study have one target
def with_draws(target: Target) -> Target:
    """Return a target with a reference, from which expectations of observables are estimated.

    A target that has a reference is returned unchanged. Otherwise exact draws of the target are the reference.
    """
    if target.reference is not None:
        return target
    if target.draws is None:
        raise lacking(target, "the expectation of observables, which needs draws or reference=samples", "draws")
    return against(target, lambda n, seed: target.sample(n, seed ^ EXACT_DRAWS))

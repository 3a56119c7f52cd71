"""Exact values of the metrics of a study, computed from the exact stationary distribution of a scheme."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from uldnum._util.typing import Array
from uldnum.diagnostics.bias import deviation, known_moment
from uldnum.diagnostics.expectations import at_temperature
from uldnum.diagnostics.metrics import RELAXATION_TIME, TIMES, StationaryLaw, study_metric
from uldnum.exact import ConvergenceError, GaussianLaw, TransferOperator, UnstableError, transfer_operator
from uldnum.exact._gaussian import Spectrum, log1p_gap, stationary_law
from uldnum.schemes.catalogue import Integrator
from uldnum.targets import Target
from uldnum.targets.mixture import erf

__all__ = ["answers_of", "exact_answers", "has_exact_law", "is_gaussian", "unbiased"]

# If the variances of scheme and target differ by less than this fraction, their difference is computed with fifty
# digits, because float64 loses too many digits to cancellation.
CANCELLED = 1e-9


def is_gaussian(target: Target) -> bool:
    """Return whether a target is a single Gaussian, for which linear algebra gives every answer."""
    return target.precision is not None


def has_exact_law(target: Target) -> bool:
    """Return whether the stationary distribution of a scheme on this target can be computed without sampling."""
    return target.shape == (1,) or is_gaussian(target)


def exact_answers(
    scheme: Integrator, target: Target, h: float, friction: float, tolerance: float, metrics: Sequence[str],
    times: bool, mass: Any = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the exact value of each metric and, if ``times`` is true, of each of `TIMES` and of the relaxation time.

    Unknown values are NaN. All values are NaN where the scheme is unstable or the stationary distribution could not be
    computed; in the second case ``fault`` holds the reason.
    """
    fault, law = "", None
    if not is_gaussian(target) and scheme.rows > 2:
        fault = (
            f"no exact bias: the state of {scheme.name} has {scheme.rows} rows; exact values on {target.name!r} need "
            "at most 2"
        )
        return answers_of(None, metrics, times, fault)
    try:
        law = (
            GaussianMarginals.of(scheme, target, h, friction, mass)
            if is_gaussian(target)
            else OneDimensionalLaw.of(scheme, target, h, friction, tolerance, mass)
        )
    except UnstableError:
        pass
    except ConvergenceError as error:
        fault = f"no exact bias: {error}"
    return answers_of(law, metrics, times, fault)


def answers_of(
    law: StationaryLaw | None, metrics: Sequence[str], times: bool = False, fault: str = ""
) -> dict[str, Any]:
    """Return the exact values that `exact_answers` describes, given the stationary distribution; NaN if it is None."""
    return {
        "bias": {name: float(exact_value(study_metric(name).exact, law)) for name in metrics},
        "signed": {
            name: np.atleast_1d(exact_value(study_metric(name).exact_signed, law)).tolist()
            for name in metrics
            if study_metric(name).exact_signed is not None
        },
        "time": {name: float(exact_value(metric.exact, law if times else None)) for name, metric in TIMES.items()},
        RELAXATION_TIME.name: float(exact_value(RELAXATION_TIME.exact, law if times else None)),
        "fault": fault,
    }


def unbiased(metrics: Sequence[str], size: int) -> dict[str, Any]:
    """Return the exact values of a scheme with Metropolis tests in ``size`` dimensions: no bias, and unknown times."""
    nothing = answers_of(None, metrics)
    signed = {name: [0.0] * size for name in nothing["signed"]}
    return nothing | {"bias": dict.fromkeys(nothing["bias"], 0.0), "signed": signed}


def exact_value(exact: Callable[[StationaryLaw], Any] | None, law: StationaryLaw | None) -> Any:
    """Return the value of a function of a stationary distribution, or NaN if the value is unknown or not resolved."""
    if law is not None and exact is not None:
        with suppress(ConvergenceError):
            return exact(law)
    return np.nan


@dataclass(frozen=True)
class GaussianMarginals:
    """Stationary distribution of a scheme on a Gaussian target: a Gaussian with the mean of the target.

    Attributes
    ----------
    target : Target
        The target at the temperature of the scheme.
    found : GaussianLaw
        The exact stationary distribution.
    mean : array, shape (d,)
        Mean of the target and of the stationary distribution.
    variance : array, shape (d,)
        Variances of the target along the axes.
    bias : array, shape (d,)
        Variances of the stationary distribution minus those of the target.
    """

    target: Target
    found: GaussianLaw
    mean: Array
    variance: Array
    bias: Array

    @property
    def law(self) -> Array:
        """Variances of the stationary distribution along the axes, shape (d,)."""
        return self.variance + self.bias

    @classmethod
    def of(cls, scheme: Integrator, target: Target, h: float, friction: float, mass: Any = None) -> GaussianMarginals:
        """Return the stationary distribution of a scheme. A bias below the rounding of the variance is set to 0."""
        precision, known = np.asarray(target.precision), at_temperature(target, scheme.temperature)
        spectrum, at = Spectrum.of(precision, mass), (np.asarray(h), np.asarray(friction))
        found = stationary_law(scheme, *at, spectrum)
        if np.any(np.abs(found.bias) * spectrum.values < CANCELLED * scheme.temperature):
            with suppress(ValueError):  # the recipe of a user-defined integrator may not support fifty digits
                found = stationary_law(scheme, *at, spectrum, precise=True)
        (bias,) = spectrum.per_coordinate(found.position_bias)
        variance = scheme.temperature * (1 / precision if precision.ndim < 2 else np.diag(np.linalg.inv(precision)))
        bias = np.where(variance + bias == variance, 0.0, bias)
        return cls(known, found, np.asarray(target.mean), variance, bias)

    @property
    def log_ratio(self) -> Array:
        """Logarithms of the ratios of the standard deviations to those of the target, shape (d,)."""
        return np.asarray(np.log1p(self.bias / self.variance) / 2)

    def moment_error(self, order: int) -> Array:
        """Return ``E[x_i^order]`` of the stationary distribution minus that of the target, shape (d,).

        ``E[x^n] = sum_k C(n, 2k) (2k - 1)!! m^(n - 2k) v^k`` for mean m and variance v. The difference is taken term by
        term, with ``a^k - b^k = (a - b) sum_i a^i b^(k-1-i)``, to avoid cancellation.
        """
        error = 0 * self.bias
        for k in range(1, order // 2 + 1):
            weight = math.comb(order, 2 * k) * math.prod(range(1, 2 * k, 2))
            powers = sum(self.law**i * self.variance ** (k - 1 - i) for i in range(k))
            error = error + weight * self.mean ** (order - 2 * k) * self.bias * powers
        return error

    @property
    def wasserstein_1(self) -> float:
        """Mean over axes of the Wasserstein-1 distance of the marginals, in standard deviations of the target."""
        return float(np.mean(np.abs(np.expm1(self.log_ratio))) * np.sqrt(2 / np.pi))

    @property
    def kolmogorov(self) -> float:
        """Mean over axes of the Kolmogorov distance of the marginals."""
        return float(np.mean(normal_kolmogorov(self.log_ratio)))

    @property
    def total_variation(self) -> float:
        """Mean over axes of the total variation distance of the marginals, by symmetry twice `kolmogorov`."""
        return 2 * self.kolmogorov

    @property
    def kl(self) -> float:
        """Mean over axes of the Kullback-Leibler divergence of the marginals from those of the target."""
        return float(np.mean(log1p_gap(self.bias / self.variance)) / 2)

    @property
    def virial(self) -> float:
        """``E[-(x - E[x]).s(x)]/d - 1`` at the temperature of the scheme."""
        return float(self.found.position_excess.mean())

    @property
    def kinetic_excess(self) -> float:
        """Kinetic temperature divided by the temperature of the scheme, minus 1; NaN without momenta."""
        return float(self.found.kinetic_temperature) / self.found.temperature - 1

    def autocorrelation_time(self, power: int) -> float:
        """Return the autocorrelation time of ``x_i^power``, power 1 or 2, on the slowest axis.

        ``x^2 = (x - m)^2 + 2 m (x - m) + m^2``. The first two terms have the variances 2 v^2 and 4 m^2 v and are
        uncorrelated at every lag. The time of x^2 is therefore the average of their times with these weights.
        """
        linear = self.found.autocorrelation_time("x")
        if power == 1:
            return float(np.max(linear))
        square = self.found.autocorrelation_time("x^2")
        share = 2 * self.mean**2 / (self.law + 2 * self.mean**2)
        return float(np.max(share * linear + (1 - share) * square))

    @property
    def relaxation_time(self) -> float:
        """Score evaluations in which the slowest mode decays by a factor e."""
        return float(self.found.relaxation_time)


def normal_kolmogorov(log: Array) -> Array:
    """Return the Kolmogorov distance of N(0, 1) and N(0, exp(2 log)); the cdfs differ most where densities cross."""
    other = np.where(log == 0, 1.0, log)
    crossing = np.where(log == 0, 1.0, np.sqrt(2 * other / -np.expm1(-2 * other)))
    return 0.5 * np.abs(erf(crossing / np.sqrt(2)) - erf(crossing / np.exp(log) / np.sqrt(2)))


@dataclass(frozen=True)
class OneDimensionalLaw:
    """Stationary distribution of a scheme on a one-dimensional target, from the transfer operator.

    Attributes
    ----------
    target : Target
        The target at the temperature of the scheme.
    found : TransferOperator
        The exact stationary distribution.
    """

    target: Target
    found: TransferOperator

    @classmethod
    def of(
        cls, scheme: Integrator, target: Target, h: float, friction: float, tolerance: float, mass: Any = None
    ) -> OneDimensionalLaw:
        """Return the stationary distribution of a scheme, or raise a ConvergenceError."""
        known = at_temperature(target, scheme.temperature)
        return cls(known, transfer_operator(scheme, target, h, friction=friction, tolerance=tolerance, mass=mass))

    def moment_error(self, order: int) -> Array:
        """Return ``E[x^order]`` of the stationary distribution minus that of the target, shape (1,)."""
        return self.found.expectation(lambda x: x**order) - known_moment(self.target, order)

    @property
    def wasserstein_1(self) -> float:
        """Wasserstein-1 distance in standard deviations of the target."""
        first, second = (known_moment(self.target, order) for order in (1, 2))
        return self.found.wasserstein_1 / float(deviation(self.target, first, second)[0])

    @property
    def kolmogorov(self) -> float:
        """Kolmogorov distance to the target."""
        return self.found.kolmogorov

    @property
    def total_variation(self) -> float:
        """Total variation distance to the target."""
        return self.found.total_variation

    @property
    def kl(self) -> float:
        """Kullback-Leibler divergence from the target."""
        return self.found.kl

    @property
    def virial(self) -> float:
        """``E[-(x - E[x]) s(x)] - 1`` at the temperature of the scheme."""
        score, mean = self.found.problem.score, self.found.law.mean
        return self.found.expectation(lambda x: -(x - mean) * score(x)) / self.found.target.temperature - 1

    @property
    def kinetic_excess(self) -> float:
        """Kinetic temperature divided by the temperature of the scheme, minus 1; NaN without momenta."""
        if self.found.mass is None:
            return math.nan
        return self.found.phase_space.kinetic_temperature / self.found.target.temperature - 1

    @cached_property
    def times(self) -> Array:
        """Autocorrelation times of x and x^2, which are computed together; NaN where a time is not resolved."""
        with suppress(ConvergenceError):
            return self.found.autocorrelation_times([lambda x: x, lambda x: x**2])
        return np.full(2, np.nan)

    def autocorrelation_time(self, power: int) -> float:
        """Return the time of ``x^power``, power 1 or 2; NaN if it is not resolved."""
        return float(self.times[power - 1])

    @property
    def relaxation_time(self) -> float:
        """Score evaluations in which the slowest mode decays by a factor e."""
        return self.found.relaxation_time

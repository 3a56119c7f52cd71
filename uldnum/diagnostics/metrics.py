"""Registry of metrics: name, label, unit, estimator and, where known, exact value of each.

To add a metric, add an entry to `METRICS`. Studies, their tables and figures, advice, relaxation and the keys of stored
points read the registry. Worker processes that compute points must also add the entry.

>>> from uldnum.diagnostics.metrics import METRICS
>>> METRICS["mean"].title
'mean (standard deviations of x)'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from uldnum._util.names import unknown
from uldnum._util.typing import Array
from uldnum.diagnostics.arguments import stored_positions
from uldnum.diagnostics.bias import (
    Observable,
    deviation,
    known_moment,
    mean_bias,
    observable_bias,
    second_moment_bias,
    signed_bias,
)
from uldnum.diagnostics.histograms import kl, kolmogorov, total_variation, wasserstein_1
from uldnum.diagnostics.jackknife import Bias
from uldnum.diagnostics.mixing import Estimate, chain_mean_times, hopping_rate
from uldnum.diagnostics.momenta import kinetic_temperature_bias
from uldnum.diagnostics.samples import (
    kernel_stein_discrepancy,
    maximum_mean_discrepancy,
    mode_weights,
    sliced_wasserstein_2,
    virial,
)
from uldnum.sampling.run import Run
from uldnum.targets import Target

__all__ = [
    "COST",
    "HOPS",
    "METRICS",
    "RELAXATION_TIME",
    "TIMES",
    "Metric",
    "StationaryLaw",
    "measured",
    "observable_metrics",
    "study_metric",
    "study_metrics",
]

EVALUATIONS = "score evaluations"


class StationaryLaw(Protocol):
    """Quantities of the exact stationary distribution and dynamics of an integrator, which metrics use."""

    @property
    def target(self) -> Target:
        """Target of the integrator."""

    def moment_error(self, order: int) -> Array:
        """Return ``E[x_i^order]`` of the stationary distribution minus that of the target, shape (d,)."""

    @property
    def wasserstein_1(self) -> float:
        """Mean over axes of the Wasserstein-1 distance of the marginals, in standard deviations of the target."""

    @property
    def kolmogorov(self) -> float:
        """Mean over axes of the Kolmogorov distance of the marginals."""

    @property
    def total_variation(self) -> float:
        """Mean over axes of the total variation distance of the marginals."""

    @property
    def kl(self) -> float:
        """Mean over axes of the Kullback-Leibler divergence of the marginals from those of the target."""

    @property
    def virial(self) -> float:
        """``E[-(x - E[x]).s(x)]/d - 1`` for the score s at the temperature of the integrator."""

    @property
    def kinetic_excess(self) -> float:
        """Kinetic temperature divided by the temperature of the integrator, minus 1; NaN without momenta."""

    def autocorrelation_time(self, power: int) -> float:
        """Return the integrated autocorrelation time of ``x_i^power`` in score evaluations, on the slowest axis."""

    @property
    def relaxation_time(self) -> float:
        """Number of score evaluations in which the slowest mode decays by a factor e."""


@dataclass(frozen=True)
class Metric:
    """Scalar measure of the quality of a run or an integrator.

    Attributes
    ----------
    name : str
        Name in datasets and arguments.
    label : str
        Description, for labels of tables and figures.
    unit : str
        Unit in words; empty for a dimensionless metric.
    of_run : callable, optional
        ``of_run(run, target)`` returns the metric of a run with a single step size, as a `Bias` or an `Estimate`.
        Studies measure the metrics that have it.
    of_positions : callable, optional
        ``of_positions(x, target)`` returns the metric of positions of independent chains, shape (chains, *shape) or
        (draws, chains, *shape). `uldnum.diagnostics.relaxation` measures the metrics that have it, and so do studies
        with reference samples.
    of_samples : callable, optional
        As ``of_positions``, for a metric whose cost grows as the square of the number of positions. Only studies with
        reference samples measure it.
    signed : callable, optional
        ``signed(run, target)`` returns the signed biases of which the metric is the root mean square, as an `Estimate`
        of arrays of shape (k,).
    exact : callable, optional
        ``exact(law)`` returns the exact metric of the stationary distribution of an integrator. Without it the exact
        value is unknown.
    exact_signed : callable, optional
        ``exact_signed(law)`` returns the exact values that ``signed`` estimates, shape (k,). Distances have none.
    known : callable, optional
        ``known(target)`` returns whether the target provides the data that the metric needs. If not, studies leave the
        metric out. The default returns True.
    needs : str, optional
        Description of the data that ``known`` requires, for messages.
    momenta : bool, default False
        Whether the metric is one of the momenta. It is NaN for integrators without momenta, and studies without any
        integrator with momenta do not have it.
    """

    name: str
    label: str
    unit: str = ""
    of_run: Callable[[Run, Any], Bias | Estimate] | None = None
    of_positions: Callable[[Array, Any], Bias] | None = None
    of_samples: Callable[[Array, Any], Bias] | None = None
    signed: Callable[[Run, Any], Estimate] | None = None
    exact: Callable[[StationaryLaw], Any] | None = None
    exact_signed: Callable[[StationaryLaw], Any] | None = None
    known: Callable[[Target], bool] = lambda target: True
    needs: str = ""
    momenta: bool = False

    @property
    def title(self) -> str:
        """Label and unit, for an axis of a figure."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def modules(self) -> set[str]:
        """Names of the modules that define the functions of the metric."""
        parts = (
            self.of_run, self.of_positions, self.of_samples, self.signed, self.exact, self.exact_signed, self.known,
        )  # fmt: skip
        return {part.__module__ for part in parts if part is not None}

    def attributes(self, what: str = "") -> dict[str, str]:
        """Return the attributes of a dataset variable; ``what`` is a prefix of the label."""
        return {"units": self.unit or "1", "long_name": what + self.label}


def root_mean_square(errors: Array) -> Any:
    """Return the root mean square over axes."""
    return np.sqrt(np.mean(errors**2))


def moment_bias(order: int, over_axes: Callable[[Array], Any] = root_mean_square) -> Callable[[StationaryLaw], Any]:
    """Return a function that computes the exact bias of E[x_i^order], normalised as in `mean_bias`.

    ``over_axes`` is applied to the signed biases of the axes, shape (d,).
    """

    def exact(law: StationaryLaw) -> Any:
        mean, square = (known_moment(law.target, power) for power in (order, 2 * order))
        return over_axes(law.moment_error(order) / deviation(law.target, mean, square))

    return exact


def mean_wasserstein_1(x: Run | Array, target: Target) -> Bias:
    """Return the mean of `wasserstein_1` over axes, in standard deviations of the target."""
    scale = np.ravel(target.standard_deviation)
    return wasserstein_1(counted_positions(x), target, lambda distances: mean_over_axes(distances / scale))


def mean_kolmogorov(x: Run | Array, target: Target) -> Bias:
    """Return the mean of `kolmogorov` over axes."""
    return kolmogorov(counted_positions(x), target, mean_over_axes)


def mean_total_variation(x: Run | Array, target: Target) -> Bias:
    """Return the mean of `total_variation` over axes."""
    return total_variation(counted_positions(x), target, mean_over_axes)


def mean_kl(x: Run | Array, target: Target) -> Bias:
    """Return `kl`, the mean over axes."""
    return kl(counted_positions(x), target)


def mean_over_axes(distances: Array) -> Any:
    """Return the mean; `numpy.mean` takes several times as long on short arrays, and is called hundreds of times."""
    return distances.sum() / distances.size


def counted_positions(x: Run | Array) -> Run | Array:
    """Return the stored positions of a run on images, which has no histograms; otherwise x itself."""
    return stored_positions(x) if isinstance(x, Run) and len(x.settings.shape) > 1 else x


def signed_mean(run: Run, target: Target) -> Estimate:
    """Return the signed bias of x."""
    return signed_bias(run, target, "x")


def signed_second_moment(run: Run, target: Target) -> Estimate:
    """Return the signed bias of x^2."""
    return signed_bias(run, target, "x^2")


def slowest_time(observable: str) -> Callable[[Run, Target], Estimate]:
    """Return a function that computes the longest autocorrelation time over all axes.

    The maximum of many equal times is biased upwards. The time is NaN if the run does not record the observable, such
    as x^2 of images.
    """

    def of_run(run: Run, target: Target) -> Estimate:
        times = chain_mean_times(run)
        if observable not in times:
            return Estimate(*np.full(2, np.nan))
        value, error = times[observable]
        axis = int(np.argmax(value))
        return Estimate(value[axis], error[axis])

    return of_run


def knows_moments(target: Target) -> bool:
    """Return whether the moments of a target are known."""
    return target.moment is not None


def knows_marginals(target: Target) -> bool:
    """Return whether the cdf of a target, and the standard deviation that scales its histograms, are known."""
    return target.cdf is not None and bool(np.all(np.isfinite(target.standard_deviation)))


def knows_expectations(target: Target) -> bool:
    """Return whether moments or the cdf of a target are known.

    The virial theorem needs only the score and the kinetic temperature nothing, but they do not replace the metrics
    that need them.
    """
    return knows_moments(target) or knows_marginals(target)


def knows_draws(target: Target) -> bool:
    """Return whether a target has exact draws."""
    return target.draws is not None


def has_modes(target: Target) -> bool:
    """Return whether a target has several known modes."""
    return target.modes is not None and len(target.modes.weights) > 1


def knows_mode_weights(target: Target) -> bool:
    """Return whether the weights of several modes are known at the temperature of the expectations.

    Those of the target hold at temperature 1 only, and reference samples do not supply others.
    """
    return has_modes(target) and (target.reference is None or target.temperature_of_expectations == 1)


def by_name(*metrics: Metric) -> dict[str, Metric]:
    """Return a dictionary of metrics by name."""
    return {metric.name: metric for metric in metrics}


# Distances between a distribution and the target.
METRICS = by_name(
    Metric(
        "second_moment",
        "second moment",
        "standard deviations of x²",
        of_run=second_moment_bias,
        signed=signed_second_moment,
        exact=moment_bias(2),
        exact_signed=moment_bias(2, np.ravel),
        known=knows_moments,
        needs="moments ('moment')",
    ),
    Metric(
        "mean",
        "mean",
        "standard deviations of x",
        of_run=mean_bias,
        signed=signed_mean,
        exact=moment_bias(1),
        exact_signed=moment_bias(1, np.ravel),
        known=knows_moments,
        needs="moments ('moment')",
    ),
    Metric(
        "wasserstein_1",
        "Wasserstein-1 distance",
        "standard deviations of x",
        of_run=mean_wasserstein_1,
        of_positions=mean_wasserstein_1,
        exact=lambda law: law.wasserstein_1,
        known=knows_marginals,
        needs="a cdf ('cdf')",
    ),
    Metric(
        "kolmogorov",
        "Kolmogorov distance",
        of_run=mean_kolmogorov,
        of_positions=mean_kolmogorov,
        exact=lambda law: law.kolmogorov,
        known=knows_marginals,
        needs="a cdf ('cdf')",
    ),
    Metric(
        "total_variation",
        "total variation distance",
        of_run=mean_total_variation,
        exact=lambda law: law.total_variation,
        known=knows_marginals,
        needs="a cdf ('cdf')",
    ),
    Metric(
        "kl",
        "Kullback-Leibler divergence",
        "nats",
        of_run=mean_kl,
        exact=lambda law: law.kl,
        known=knows_marginals,
        needs="a cdf ('cdf')",
    ),
    Metric(
        "virial",
        "error of the virial theorem",
        of_run=virial,
        exact=lambda law: abs(law.virial),
        known=knows_expectations,
        needs="moments ('moment')",
    ),
    Metric(
        "kinetic_temperature",
        "error of the kinetic temperature",
        of_run=kinetic_temperature_bias,
        exact=lambda law: abs(law.kinetic_excess),
        known=knows_expectations,
        needs="moments ('moment')",
        momenta=True,
    ),
    Metric(
        "sliced_wasserstein_2",
        "sliced Wasserstein-2 distance",
        "units of x",
        of_positions=sliced_wasserstein_2,
        known=knows_draws,
        needs="exact draws ('draws')",
    ),
    Metric(
        "maximum_mean_discrepancy",
        "squared maximum mean discrepancy",
        of_samples=maximum_mean_discrepancy,
        known=knows_draws,
        needs="exact draws ('draws')",
    ),
    Metric(
        "kernel_stein_discrepancy",
        "squared kernel Stein discrepancy",
        "1/(units of x)²",
        of_samples=kernel_stein_discrepancy,
    ),
    Metric(
        "mode_weights",
        "total variation of mode weights",
        of_positions=mode_weights,
        known=knows_mode_weights,
        needs="several modes ('modes')",
    ),
)

# Autocorrelation times of observables, on the slowest axis.
TIMES = by_name(
    Metric(
        "x",
        "autocorrelation time of x",
        EVALUATIONS,
        of_run=slowest_time("x"),
        exact=lambda law: law.autocorrelation_time(1),
    ),
    Metric(
        "x^2",
        "autocorrelation time of x²",
        EVALUATIONS,
        of_run=slowest_time("x^2"),
        exact=lambda law: law.autocorrelation_time(2),
    ),
)

# Cost of an independent sample: the largest of `TIMES`.
COST = Metric("cost", "score evaluations for an independent sample", EVALUATIONS)

RELAXATION_TIME = Metric(
    "relaxation_time",
    "time in which the slowest mode decays by e",
    EVALUATIONS,
    exact=lambda law: law.relaxation_time,
)

# Rate of hops in a run that recorded every step.
HOPS = Metric(
    "hops",
    "hops between modes",
    "1/score evaluations",
    of_run=lambda run, target: hopping_rate(run.recorded, target, nfe=run.nfe // run.state.step),
    known=has_modes,
)


def study_metrics(target: Target | None = None) -> tuple[str, ...]:
    """Return the names of the distances that studies measure, or of those that they measure on a target.

    With reference samples, they include the distances between samples.
    """
    if target is None:
        return tuple(name for name, metric in METRICS.items() if metric.of_run is not None)
    return tuple(
        name
        for name, metric in METRICS.items()
        if (metric.of_run is not None or target.reference is not None) and metric.known(target)
    )


def study_metric(name: str) -> Metric:
    """Return the distance of a given name that studies measure, or raise; the message suggests other names."""
    if not isinstance(name, str) or name not in METRICS:
        raise unknown("metric", name, METRICS, f"Known are {', '.join(METRICS)}")
    return METRICS[name]


def measured(metric: Metric, run: Run, target: Target) -> Bias | Estimate | None:
    """Return a metric of a run with a single step size; None if studies do not measure it, NaN if chains diverged."""
    if metric.of_run is not None:
        return metric.of_run(run, target)
    measure = metric.of_positions or metric.of_samples
    if measure is None:
        return None
    return Bias(*np.full(3, np.nan)) if run.diverged else measure(stored_positions(run), target)


def observable_metrics(observables: Mapping[str, Observable]) -> tuple[Metric, ...]:
    """Return two metrics for each function f of x: the biases of the means of f and of f^2."""

    def metric(name: str, function: Observable) -> Metric:
        return Metric(
            name,
            f"mean of {name}",
            f"standard deviations of {name}",
            of_run=lambda run, target: observable_bias(run, target, function),
            signed=lambda run, target: signed_bias(run, target, function),
        )

    def square(function: Observable) -> Observable:
        return lambda x: np.square(function(x))

    pairs = ((name, function) for name, function in observables.items())
    return tuple(made for name, f in pairs for made in (metric(name, f), metric(f"{name}^2", square(f))))

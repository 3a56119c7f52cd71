"""The grid of schemes, frictions and step sizes of a study: its checks, its values and its labels."""

from __future__ import annotations

import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from uldnum._util.arguments import positive, shown, step_size
from uldnum._util.typing import Array
from uldnum.arithmetic.elementary import geomspace
from uldnum.diagnostics.expectations import against
from uldnum.diagnostics.jackknife import SEEN
from uldnum.diagnostics.long_run import scale_at
from uldnum.diagnostics.metrics import (
    COST,
    HOPS,
    METRICS,
    RELAXATION_TIME,
    TIMES,
    observable_metrics,
    study_metric,
    study_metrics,
)
from uldnum.exact.transfer import check_tolerance
from uldnum.sampling.backends import choose_backend
from uldnum.schemes.catalogue import Integrator, conditions
from uldnum.schemes.catalogue import integrator as find_integrator
from uldnum.studies._sweep import collected
from uldnum.studies.configuration import (
    LEAST_SECONDS,
    Configuration,
    MeasuringConfiguration,
    SamplingConfiguration,
)
from uldnum.studies.exact import answers_of, has_exact_law, is_gaussian, unbiased
from uldnum.studies.points import Exact, Sampled, has_moments_and_cdf
from uldnum.targets import Target, find_target, lacking, vector_target
from uldnum.targets.mass import Mass, known_covariance
from uldnum.version import VERSION

__all__ = ["AXES", "StepGrid", "narrowest", "place_of", "with_cost", "without_law"]

AXES = ("integrator", "friction", "h")

# A measured time is resolved if the run was at least this many times as long. Otherwise the time is a lower bound.
RESOLVED = 20

# Number of draws from which the scale of a target is estimated.
DRAWS = 1024


@dataclass(frozen=True)
class StepGrid:
    """Schemes, frictions and step sizes on a target, whose combinations are the points of a study.

    Attributes
    ----------
    target : Target
        The target, for exact answers.
    schemes, frictions, h
        Integrators, frictions and step sizes.
    known : Target
        The target for sampling. Its expectations are those of the reference, if there is one, or those at the
        temperature of the schemes.
    mass : Mass or None
        Mass of the coordinates; None if it is 1.
    """

    target: Target
    schemes: list[Integrator]
    frictions: Array
    h: Array
    known: Target
    mass: Mass | None

    @classmethod
    def of(cls, study: Configuration, bias: bool = True) -> StepGrid:
        """Return the grid of a study, or raise if an argument is invalid.

        If ``bias`` is true, the target must provide the data of at least one metric. If step sizes or frictions are
        None, they have their defaults, which are in units of the narrowest scale of the target in the coordinates in
        which the mass is 1.
        """
        h, delta, friction = study.h, study.delta, study.friction
        target, reference = find_target(study.target), getattr(study, "reference", None)
        if not isinstance(study, SamplingConfiguration):
            check_exact_law(target)
        schemes = schemes_of(study)
        temperature = schemes[0].temperature
        given = reference is not None or temperature != 1
        known = against(target, reference, temperature) if given or bias else vector_target(target)
        if bias and not study_metrics(known):
            raise wanting(target, "its moments and cdf", "moment", "cdf")
        if not np.all(np.isfinite(known.standard_deviation)):
            raise wanting(target, "its standard deviation", "standard_deviation")
        mass = Mass.of(study.mass, target.shape, known_covariance(target) if isinstance(study.mass, str) else None)
        schemes[0].check_errors(target.shape)
        if mass is not None:
            mass.noise(schemes[0].score_noise)
        # That of the target is preferred, because a standard deviation at another temperature limits no step size.
        width = narrowest(target if np.all(np.isfinite(target.standard_deviation)) else known, mass) / target.time_unit
        if h is None and delta is None:
            h = geomspace(0.1, 1.6, 12) * width
        frictions = positive("friction", np.array(study.usual_frictions) / width if friction is None else friction)
        return cls(
            target,
            schemes,
            several("friction", frictions),
            several("h" if delta is None else "delta", step_size(h, delta)),
            known,
            mass,
        )

    @property
    def setting(self) -> Any:
        """The mass as a number or as nested tuples."""
        return 1.0 if self.mass is None else self.mass.setting

    def check(self, study: SamplingConfiguration) -> None:
        """Raise if the chains of the study cannot be run."""
        most = max(scheme.nfe_per_step for scheme in self.schemes)
        if study.nfe < most:
            raise ValueError(f"nfe: must be at least {most}, the score evaluations of one step, got {study.nfe}")
        self.backend(study)
        if self.known.draws is None:
            raise wanting(self.target, "exact draws, which chains start from", "draws")
        if study.exact is True and not self.has_exact_values:
            raise ValueError(
                f"exact: no exact values on {self.target.name!r}; the target must be Gaussian or one-dimensional, and "
                "must have moments and a cdf"
            )

    @property
    def size(self) -> int:
        """Number of coordinates of a sample."""
        return math.prod(self.target.shape)

    def backend(self, study: SamplingConfiguration) -> str:
        """Return the name of the backend that runs the chains of the study, or raise if it cannot."""
        kind = np.dtype(self.known.dtype)
        names = [choose_backend(self.known, study.backend, kind, scheme.metropolised) for scheme in self.schemes]
        return names[0]

    @property
    def has_exact_values(self) -> bool:
        """Whether exact values can be computed on the target."""
        return has_exact_law(self.target) and has_moments_and_cdf(self.target)

    def measured(self, study: SamplingConfiguration, with_times: bool = True) -> xr.Dataset:
        """Run chains at every point, then compute the exact values, and return both.

        Exact values are NaN for the metrics that only sampling measures.
        """
        self.check(study)
        if isinstance(study, MeasuringConfiguration) and left_out(self.known):
            warnings.warn(left_out(self.known), stacklevel=level_outside())
        begun = time.monotonic()
        sampled = self.sampled(study, with_times)
        seconds = math.inf if study.exact is True else 0.0
        if study.exact == "auto":
            seconds = study.exact_seconds or max(LEAST_SECONDS, time.monotonic() - begun)
        exact = self.exact(study, with_times, seconds)
        same = {name: sampled[name].values for name in ("metric", "moment", "axis")}
        return exact.reindex(same).merge(sampled, combine_attrs="no_conflicts")

    def sampled(self, study: SamplingConfiguration, hopping: bool) -> xr.Dataset:
        """Run chains at every point and return the measured values, with the hops between modes if they are counted."""
        given = study.nfe, study.burn_in, study.chains, study.seed, study.backend
        metrics, observables = study_metrics(self.known), getattr(study, "observables", {})
        measures = [*map(study_metric, metrics), *observable_metrics(observables)]
        tasks = [
            Sampled(
                self.known, scheme, float(h), float(gamma), *given,
                metrics=metrics, observables=observables, hopping=hopping, mass=self.setting,
            )
            for scheme, gamma, h in product(self.schemes, self.frictions, self.h)
        ]  # fmt: skip
        results = swept(tasks, study, f"sampling {self.target.name}")
        found = [results[task.key] for task in tasks]
        biases, times = (self.stacked([one[name] for one in found]) for name in ("bias", "time"))
        biases = biases.reshape(*biases.shape[:3], len(measures), 3)  # also if there are no metrics
        hops = self.shaped([one[HOPS.name] for one in found])
        moments = [metric.name for metric in measures if metric.signed is not None]
        signed = self.shaped([padded([one["signed"][name] for name in moments], (2,), self.size) for one in found])
        components = (*AXES, "moment", "axis")
        units, metric, observable = {"units": "1"}, (*AXES, "metric"), (*AXES, "observable")
        evaluations = {"units": COST.unit}
        data: dict[str, Any] = {
            "bias": (metric, biases[..., 0], units | {"long_name": "bias"}),
            "error": (metric, biases[..., 1], units | {"long_name": "standard error of the bias"}),
            "floor": (metric, biases[..., 2], units | {"long_name": "bias that an unbiased run would show"}),
            "bias_resolved": (metric, np.abs(biases[..., 0]) > SEEN * biases[..., 2], {
                "long_name": f"whether the bias is larger than {SEEN:g} noise floors",
            }),
            "signed_bias": (components, signed[..., 0, :], units | {
                "long_name": "bias with its sign, in standard deviations of the observable",
            }),
            "signed_error": (components, signed[..., 1, :], units | {
                "long_name": "standard error of the bias with its sign",
            }),
            "time": (observable, times[..., 0], evaluations | {"long_name": "autocorrelation time, slowest axis"}),
            "time_error": (observable, times[..., 1], evaluations | {"long_name": "standard error of the time"}),
            "resolved": (observable, times[..., 0] * RESOLVED <= study.nfe, {
                "long_name": f"whether the run lasted {RESOLVED} autocorrelation times; if not, time is a lower bound",
            }),
            "settled": (AXES, ~np.any(times[..., 0] > study.burn_in, axis=-1), {
                "long_name": "whether the burn-in was as long as the autocorrelation time; if not, bias is too small",
            }),
            HOPS.name: (AXES, hops[..., 0], HOPS.attributes()),
            f"{HOPS.name}_error": (AXES, hops[..., 1], HOPS.attributes("standard error of ")),
            "diverged": (AXES, self.shaped([one["diverged"] for one in found]), {
                "units": "1", "long_name": "chains that diverged",
            }),
            "unstable": (AXES, self.shaped([one["unstable"] for one in found]), {
                "long_name": "whether h is known to be at or above the stability limit (no stationary distribution)",
            }),
            "nfe": (AXES, self.shaped([one["nfe"] for one in found]), {
                "units": "score evaluations", "long_name": "score evaluations per chain, burn-in included",
            }),
        }  # fmt: skip
        names = {
            "metric": [metric.name for metric in measures], "moment": moments, "axis": np.arange(signed.shape[-1]),
        }  # fmt: skip
        dataset = self.dataset(data, names, nfe_recorded=study.nfe, nfe_burn_in=study.burn_in)
        self.warn_of_divergence(dataset)
        reference = "" if self.known.reference is None else repr(self.known.reference)
        return dataset.assign_attrs(
            chains=study.chains, seed=study.seed, backend=self.backend(study), reference=reference,
            left_out=left_out(self.known),
        )  # fmt: skip

    def exact(self, study: Configuration, with_times: bool = True, seconds: float = math.inf) -> xr.Dataset:
        """Return the exact values at every point; NaN where they are unknown or not computed within ``seconds``."""
        tolerance = check_tolerance(study.tolerance)
        tasks = [
            Exact(self.target, scheme, float(h), float(gamma), tolerance, with_times, mass=self.setting)
            for scheme, gamma, h in product(self.schemes, self.frictions, self.h)
        ]
        missing, found = 0, [answers_of(None, study_metrics())] * len(tasks)
        tested = [task for task in tasks if task.scheme.metropolised]
        if (self.has_exact_values or tested) and seconds:
            places = {h: coarse_to_fine(i) for i, h in enumerate(np.sort(self.h).tolist())}
            own = [task for task in tasks if self.has_exact_values and not task.scheme.metropolised]
            known = {task.key: unbiased(study_metrics(), self.size) for task in tested}
            known |= swept(
                own, study, f"exact values on {self.target.name}", seconds,
                lambda task: (task.remembers, places[task.h]),
            )  # fmt: skip
            missing = len({task.key for task in own} - set(known))
            found = [known.get(task.key, nothing) for task, nothing in zip(tasks, found, strict=True)]
            self.warn_of_unknown(found, missing, seconds)
        biases, times = (self.stacked([one[name] for one in found]) for name in ("bias", "time"))
        moments = [name for name in study_metrics() if METRICS[name].exact_signed is not None]
        signed = self.shaped([padded([one["signed"][name] for name in moments], (), self.size) for one in found])
        slowest = self.shaped([one[RELAXATION_TIME.name] for one in found])
        data: dict[str, Any] = {
            "exact": ((*AXES, "metric"), biases, {"units": "1", "long_name": "exact bias of the scheme"}),
            "exact_signed": ((*AXES, "moment", "axis"), signed, {
                "units": "1", "long_name": "exact bias with its sign, in standard deviations of the observable",
            }),
            "exact_time": ((*AXES, "observable"), times, {
                "units": COST.unit, "long_name": "exact autocorrelation time, slowest axis",
            }),
            RELAXATION_TIME.name: (AXES, slowest, RELAXATION_TIME.attributes("exact ")),
        }  # fmt: skip
        exact_to = 0.0 if is_gaussian(self.target) else tolerance
        names = {"metric": list(study_metrics()), "moment": moments, "axis": np.arange(signed.shape[-1])}
        return self.dataset(data, names, tolerance=tolerance, exact_to=exact_to, exact_left_out=missing)

    def warn_of_unknown(self, found: Sequence[dict[str, Any]], missing: int, seconds: float) -> None:
        """Warn once for each reason why exact values were not resolved, and once if exact values were left out."""
        for fault in dict.fromkeys(one["fault"] for one in found if one["fault"]):
            warnings.warn(fault, stacklevel=level_outside())
        if missing:
            warnings.warn(
                f"exact: {seconds:.2g} s were not enough for the exact values at {missing} of {len(found)} points, "
                "which are NaN; exact=True computes all of them",
                stacklevel=level_outside(),
            )

    def shaped(self, values: Sequence[Any]) -> Array:
        """Reshape the values of all points, a flat sequence, to the axes of the grid."""
        array = np.array(values)
        return array.reshape(len(self.schemes), len(self.frictions), len(self.h), *array.shape[1:])

    def stacked(self, values: Sequence[dict[str, Any]]) -> Array:
        """Return dictionaries of values by metric, one for each point, as an array over the grid and the metrics."""
        return self.shaped([list(one.values()) for one in values])

    def dataset(self, data: dict[str, Any], names: dict[str, Any], **attributes: Any) -> xr.Dataset:
        """Return labelled data with the coordinates of the grid and attributes that describe the target.

        Metrics of momenta are left out if no scheme has momenta.
        """
        coordinates = {
            "integrator": [scheme.name for scheme in self.schemes],
            "friction": ("friction", self.frictions, {"long_name": "friction", "units": "1/time"}),
            "h": ("h", self.h, {"long_name": "step size", "units": "time"}),
            "observable": list(TIMES),
        } | names
        common = {name: getattr(self.schemes[0], name) for name in ("temperature", "score_noise")}
        common["mass"] = json.dumps(self.setting) if np.ndim(self.setting) else self.setting
        found = xr.Dataset(data, coordinates, {"uldnum": VERSION} | describe(self.target) | common | attributes)
        momenta = [name for name in names["metric"] if name in METRICS and METRICS[name].momenta]
        return found if any(scheme.momenta for scheme in self.schemes) else found.drop_sel(metric=momenta)

    def warn_of_divergence(self, study: xr.Dataset) -> None:
        """Warn, for each scheme, of the step sizes at which chains diverged and of those at which it is unstable."""
        diverged = study.diverged > 0
        for where, fault in (
            (diverged, "diverged at {}; its statistics there are NaN"),
            (study.unstable & ~diverged, "has not diverged yet at {}, but has no stationary distribution there, and "
             "its statistics depend on the number of steps"),
        ):  # fmt: skip
            for name in study.integrator.values:
                sizes = study.h.values[where.sel(integrator=name).any("friction").values]
                if len(sizes):
                    at = "h = " + ", ".join(f"{h:.4g}" for h in sizes)
                    warnings.warn(f"{name} {fault.format(at)}", stacklevel=level_outside())


def check_exact_law(target: Target) -> None:
    """Raise if the exact bias of schemes on a target cannot be computed."""
    if not has_moments_and_cdf(target):
        raise lacking(target, "its moments and cdf", "moment", "cdf")
    if not has_exact_law(target):
        raise ValueError(f"target: no exact answer on {target.name!r}, which is neither Gaussian nor one-dimensional")


def schemes_of(study: Configuration) -> list[Integrator]:
    """Return the integrators of a study with its temperature and score noise, or raise."""
    integrators, given = study.integrators, {"temperature": study.temperature, "score_noise": study.score_noise}
    if not isinstance(integrators, str | Integrator | Sequence) or isinstance(integrators, bytes | bytearray):
        raise ValueError(f"integrators: must be a name, an Integrator, or several of them, got {shown(integrators)}")
    named = [integrators] if isinstance(integrators, str | Integrator) else integrators
    schemes = [find_integrator(name).at(**given) for name in named]
    names = [scheme.name for scheme in schemes]
    if not schemes or len(set(names)) < len(names):
        raise ValueError(f"integrators: must name at least one integrator, and each only once, got {names}")
    for name in given:
        found = [getattr(scheme, name) for scheme in schemes]
        if len(set(found)) > 1:
            raise ValueError(f"integrators: must all have the same {name}, got {found}")
    return schemes


def level_outside() -> int:
    """Return the ``stacklevel`` with which a warning of the caller names the first line outside this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("uldnum."):
        frame, level = frame.f_back, level + 1
    return level


def left_out(known: Target) -> str:
    """Return a sentence on metrics that cannot be measured and what would supply them; empty if there are none."""
    missing = [METRICS[name] for name in study_metrics() if not METRICS[name].known(known)]
    if not missing:
        return ""
    names, needs = (", ".join(dict.fromkeys(parts)) for parts in (
        (metric.name for metric in missing), (metric.needs for metric in missing if metric.needs)
    ))  # fmt: skip
    return f"{names}: left out, because {known.name!r} lacks {needs or 'what they need'}; pass reference=samples"


def wanting(target: Target, what: str, *abilities: str) -> ValueError:
    """Return the error for a target that lacks abilities which reference samples would replace."""
    how = "samples of the target, or reference='long'" if target.draws is None else "target.sample"
    if target.draws is None and target.log_density is not None:
        how += ", or reference='metropolised'"
    return ValueError(f"{lacking(target, what, *abilities)}, or pass reference={how}")


def padded(parts: Sequence[Any], before: tuple[int, ...], least: int) -> Array:
    """Return arrays of shape (*before, k) with different k as one array, with NaN after the end of the shorter ones.

    The last axis has at least ``least`` entries.
    """
    found = np.full((len(parts), *before, max([least, *(np.shape(part)[-1] for part in parts)])), np.nan)
    for row, part in zip(found, parts, strict=True):
        row[..., : np.shape(part)[-1]] = part
    return found


def without_law(study: xr.Dataset) -> xr.DataArray:
    """Return where statistics do not describe a stationary distribution: chains diverged or the scheme is unstable."""
    diverged = study.diverged > 0
    return diverged | study.unstable if "unstable" in study else diverged  # early files have no "unstable"


def swept(
    tasks: list[Sampled] | list[Exact], study: Configuration, title: str, seconds: float = math.inf,
    rank: Callable[[Any], Any] = lambda task: 0,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Return the results of points by key, computed and stored as the study prescribes."""
    return collected(tasks, study.store, study.executor, study.progress and title, seconds=seconds, rank=rank)


def coarse_to_fine(place: int) -> float:
    """Return the rank of a place 0, 1, 2, ... in an order that goes from widely spaced to closely spaced places.

    The order starts with 0. Multiples of the largest power of 2 follow, then the other multiples of half that power,
    and so on.
    """
    return -(place & -place) if place else -math.inf


def with_cost(study: xr.Dataset) -> xr.Dataset:
    """Add the cost of an independent sample, the longer of the times of x and x^2; NaN if one of them is unknown."""
    slow = study.time.fillna(np.inf).argmax("observable")
    cost, error = (part.isel(observable=slow).drop_vars("observable") for part in (study.time, study.time_error))
    exact = study.exact_time.max("observable", skipna=False)
    return study.assign(
        cost=cost.assign_attrs(COST.attributes()),
        cost_error=error.assign_attrs(units=COST.unit, long_name="standard error of the cost"),
        cost_resolved=study.resolved.all("observable"),
        exact_cost=exact.assign_attrs(units=COST.unit, long_name="exact cost of an independent sample"),
    )


def narrowest(target: Target, mass: Mass | None = None) -> float:
    """Return the smallest standard deviation of a target at temperature 1, or of the components if it is a mixture.

    For another target with draws, it is that of a Gaussian whose scores are as large: two narrow wells that are far
    apart are narrow. With a mass, it is that in the coordinates in which the mass is 1, or the upper bound `Mass.scale`
    of their standard deviation.
    """
    precision = (target if mass is None else target.transformed(mass)).largest_precision
    if precision is not None:
        return 1 / math.sqrt(precision)
    if mass is None and target.draws is not None and target.temperature_of_expectations == 1:
        width = scale_at(target, target.sample(DRAWS), 1.0) * target.time_unit
        return float(f"{width:.2g}")  # the same number on all processors
    deviations = target.standard_deviation if mass is None else mass.scale(target)[1]
    return float(np.min(deviations)) / math.sqrt(target.temperature_of_expectations)


def several(name: str, values: Array) -> Array:
    """Return one or more distinct numbers as an array of shape (n,), or raise."""
    values = np.atleast_1d(values)
    if values.ndim > 1 or not values.size or len(np.unique(values)) < values.size:
        raise ValueError(f"{name}: must be one or more distinct numbers, got {shown(values.tolist())}")
    return values


def place_of(study: xr.Dataset) -> str:
    """Return the target of a study with temperature, score noise and mass, for titles."""
    a = study.attrs  # early files state none of these
    mass = a.get("mass", 1.0)
    mass = json.loads(mass) if isinstance(mass, str) else mass
    return str(a["target"]) + conditions(a.get("temperature", 1.0), a.get("score_noise", 0.0), mass)


def describe(target: Target) -> dict[str, str]:
    """Return attributes of a dataset that describe the target."""
    attributes = {"target": target.name, "target_fingerprint": target.fingerprint}
    if target.components is not None:
        shape = "variances" if target.components.covariances is None else "covariances"
        parameters = {part: getattr(target.components, part).tolist() for part in ("weights", "means", shape)}
        attributes["target_parameters"] = json.dumps(parameters)
    return attributes

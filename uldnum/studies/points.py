"""Points of a study: measured and exact values for one scheme at one step size and friction."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from uldnum._util.arguments import result_of
from uldnum._util.names import digest
from uldnum._util.sources import digest_of_sources
from uldnum.diagnostics.histograms import BINS
from uldnum.diagnostics.jackknife import Bias
from uldnum.diagnostics.metrics import (
    HOPS,
    TIMES,
    Metric,
    measured,
    observable_metrics,
    study_metric,
    study_metrics,
)
from uldnum.exact.stability import unstable
from uldnum.kernels.source.core import hashed_parts, lay_out
from uldnum.sampling._sample import largest_precision, sample
from uldnum.sampling.launch import quiet
from uldnum.sampling.run import Run
from uldnum.schemes.catalogue import Integrator
from uldnum.studies.exact import exact_answers, is_gaussian
from uldnum.targets import Target
from uldnum.targets.mass import Mass
from uldnum.version import VERSION

__all__ = ["Exact", "Sampled", "has_moments_and_cdf"]

# Chains and steps of the short run in which hops between modes are counted. All its steps are recorded.
HOPPING_CHAINS, HOPPING_STEPS = 128, 1024

# Largest number of positions of each chain that are stored for a comparison with reference samples, and largest number
# of coordinates of all these positions.
DRAWS, COORDINATES = 32, 2**25

# Hash of the sources that determine a result, computed when this process started. Stored results of other sources are
# not reused.
CODE = [digest_of_sources(__name__)]

# Names of the metrics of this package that studies without a reference measure.
METRICS_HERE = study_metrics()


def has_moments_and_cdf(target: Target) -> bool:
    """Return whether a target has the moments and the cdf that a bias is measured against."""
    return target.moment is not None and target.cdf is not None


def code_of(metrics: tuple[str, ...]) -> list[str]:
    """Return the names of metrics and a hash of their sources; empty for `METRICS_HERE`, which `CODE` covers."""
    if metrics == METRICS_HERE:
        return []
    modules = set().union(*(study_metric(name).modules for name in metrics))
    return [*metrics, digest_of_sources(*modules)]


@dataclass(frozen=True, eq=False)
class Point:
    """One scheme on one target at one step size, friction and mass, as a task of `uldnum.studies.sweep`."""

    target: Target
    scheme: Integrator
    h: float
    friction: float
    metrics: tuple[str, ...] = field(default_factory=study_metrics, kw_only=True)
    mass: Any = field(default=1.0, kw_only=True)

    @property
    def additional(self) -> list[Any]:
        """Further data that the result depends on."""
        return []

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters by name. The key depends on the coefficients of the scheme instead of on its name."""
        apart = ("target", "scheme", "observables")
        own = {name.name: getattr(self, name.name) for name in fields(self) if name.name not in apart}
        return {"kind": type(self).__name__, "target": self.target.name, "integrator": self.scheme.name} | own

    @cached_property
    def key(self) -> str:
        """Hash of everything that the result depends on."""
        tables = lay_out([self.scheme.stages(np.array([self.h]), friction=self.friction)], np.dtype(float))
        # The tables contain the friction if the scheme uses it. The result of other schemes does not depend on it.
        own = {
            name: value
            for name, value in self.parameters.items()
            if name not in ("target", "integrator", "friction", "mass", "metrics")
        }
        scheme = [digest(*hashed_parts(tables)), self.scheme.start_deviation]
        if self.scheme.errors:  # the tables do not contain them
            scheme.append(self.scheme.errors)
        if self.scheme.temperature != 1:  # biases are measured at the temperature of the scheme
            scheme.append(self.scheme.temperature)
        if self.mass != 1:
            scheme.append({"mass": self.mass})
        whole = [VERSION, CODE + code_of(self.metrics), fingerprint(self.target), scheme, own, *self.additional]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, eq=False)
class Sampled(Point):
    """Measured values of a run whose chains start from draws of the target.

    Attributes
    ----------
    observables : dict of str to callable
        Functions of positions whose biases are measured, too.
    hopping : bool
        Whether hops between modes are counted, too, which needs a run of its own.
    nfe, burn_in : int
        Recorded score evaluations per chain, and unrecorded ones before them.
    chains, seed, backend
        As in `uldnum.sample`.
    """

    nfe: int
    burn_in: int
    chains: int
    seed: int
    backend: str | None
    observables: Mapping[str, Callable[..., Any]] = field(default_factory=dict, kw_only=True)
    hopping: bool = field(default=True, kw_only=True)

    @property
    def additional(self) -> list[Any]:
        """Names, sources and values of the observables."""
        at = self.target.sample(16) if self.observables else None
        return [[name, source_of(f), digest(result_of("observables", f, at))] for name, f in self.observables.items()]

    @property
    def measures(self) -> tuple[Metric, ...]:
        """All metrics of the point."""
        return *map(study_metric, self.metrics), *observable_metrics(self.observables)

    @property
    def stride(self) -> int | None:
        """Number of steps between two stored positions, or None if no metric needs them."""
        if self.target.reference is None and not self.observables:
            return None
        draws = min(DRAWS, max(1, COORDINATES // (self.chains * math.prod(self.target.shape))))
        return -(-(self.nfe // self.scheme.nfe_per_step) // draws)

    def result(self) -> dict[str, Any]:
        """Run the chains and return the measured values."""
        per_step = self.scheme.nfe_per_step
        momenta = self.scheme.momenta and any(metric.momenta for metric in self.measures)
        record = "phase-space-variance" if momenta else "variance"
        recorded = {"record": record, "record_every": 1, "bins": BINS} if len(self.target.shape) == 1 else {}
        run = self.run(self.nfe // per_step, self.burn_in // per_step, self.chains, thin=self.stride, **recorded)
        return {
            "bias": {metric.name: sampled(metric, run, self.target) for metric in self.measures},
            "signed": {
                metric.name: np.array(metric.signed(run, self.target)).tolist()
                for metric in self.measures
                if metric.signed is not None
            },
            "time": {name: sampled(metric, run, self.target) for name, metric in TIMES.items()},
            HOPS.name: self.hops(),
            "diverged": int(run.diverged),
            "unstable": self.unstable,
            "nfe": run.nfe,
        }

    @property
    def unstable(self) -> bool:
        """Whether the scheme has no stationary distribution: on a Gaussian, at or above the limit of stability."""
        mass = Mass.of(self.mass, self.target.shape)
        known = self.target if mass is None else self.target.transformed(mass)
        precision = largest_precision(known) if is_gaussian(self.target) else None
        return precision is not None and bool(unstable(self.scheme, np.array([self.h]), precision, self.friction)[0])

    def run(self, steps: int, burn_in: int, chains: int, **options: Any) -> Run:
        """Run chains without warnings of divergence; the study counts diverged chains and warns once for all points."""
        with quiet():
            return sample(
                self.target, self.scheme, h=self.h, friction=self.friction, mass=self.mass, steps=steps,
                burn_in=burn_in, chains=chains, seed=self.seed, backend=self.backend, progress=False, **options,
            )  # fmt: skip

    def hops(self) -> list[float]:
        """Return the rate of hops and its error; NaN if they are not counted, or if chains diverged."""
        if not (self.hopping and HOPS.known(self.target)):
            return [np.nan, np.nan]
        burn_in = self.burn_in // self.scheme.nfe_per_step
        run = self.run(HOPPING_STEPS, burn_in, min(self.chains, HOPPING_CHAINS), thin=1)
        return [np.nan, np.nan] if run.diverged else sampled(HOPS, run, self.target)


@dataclass(frozen=True, eq=False)
class Exact(Point):
    """Exact values of a scheme, computed without sampling.

    Attributes
    ----------
    tolerance : float
        As in `uldnum.exact.transfer_operator`.
    times : bool
        Whether autocorrelation times are computed, too, which takes longer.
    """

    tolerance: float
    times: bool

    @property
    def remembers(self) -> bool:
        """Whether the scheme remembers more than the position from step to step, so that exact values take longer."""
        stages = self.scheme.stages(self.h, friction=self.friction).stages
        last = stages[-1].map
        carried = np.eye(self.scheme.rows) + last.dA
        return len(stages) > 1 or bool(last.b[1:].any() or carried[1:].any())

    def result(self) -> dict[str, Any]:
        """Compute the exact values."""
        return exact_answers(
            self.scheme, self.target, self.h, self.friction, self.tolerance, self.metrics, self.times, self.mass
        )


def sampled(metric: Metric, run: Run, target: Target) -> list[float]:
    """Return value, error and noise floor of a metric of a run; NaN if the target lacks what the metric needs."""
    found = measured(metric, run, target) if metric.known(target) else None
    return [np.nan] * len(Bias._fields) if found is None else [float(part) for part in found]


def source_of(function: Callable[..., Any]) -> str:
    """Return the source text of a function; empty if it is not available."""
    with suppress(OSError, TypeError):
        return inspect.getsource(function)
    return ""


@lru_cache(16)  # all points of a study have one target
def fingerprint(target: Target) -> list[Any]:
    """Return data that identify a target: fingerprint, draws, and the quantities that biases are measured against.

    A mixture and a target with a reference are identified by their fingerprints alone.
    """
    if target.components is not None or target.reference is not None:
        return [target.fingerprint]
    known = [] if target.draws is None else [target.sample(8)]
    scale = np.where(np.isfinite(target.standard_deviation), target.standard_deviation, 1.0)  # infinite if unknown
    at = np.asarray(target.mean) + scale * np.linspace(-2, 2, 5)[:, None]
    if target.moment is not None and target.cdf is not None:
        known += [target.cdf(at), *(target.moment(order) for order in (1, 2, 4))]
    if target.log_density is not None:
        known.append(target.log_density(at))
    return [target.fingerprint, digest(*known)]

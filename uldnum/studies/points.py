"""Points of a study: what is measured, and what is exact, of one scheme at one step size and friction."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from uldnum._util.interrupt import interruptible
from uldnum._util.names import digest
from uldnum._util.sources import digest_of_sources
from uldnum.diagnostics.histograms import BINS
from uldnum.diagnostics.jackknife import Bias
from uldnum.diagnostics.metrics import HOPS, TIMES, Metric, study_metric, study_metrics
from uldnum.exact.stability import unstable
from uldnum.kernels.source.core import lay_out
from uldnum.sampling._sample import largest_precision, sample
from uldnum.sampling.run import Run
from uldnum.schemes.catalogue import Integrator
from uldnum.studies.exact import exact_answers, is_gaussian
from uldnum.targets import Target
from uldnum.version import VERSION

__all__ = ["Exact", "Sampled", "knows_bias"]

# The chains and steps of the short run in which hops between modes are counted, all of them recorded.
HOPPING_CHAINS, HOPPING_STEPS = 128, 1024

# Hash of the sources that make a result, as they were when this process began: points of other code are other points.
CODE = [digest_of_sources(__name__)]

# The metrics of the package.
METRICS_HERE = study_metrics()


def knows_bias(target: Target) -> bool:
    """Whether a target knows what a bias is measured against: its moments and its cdf."""
    return target.moment is not None and target.cdf is not None


def code_of(metrics: tuple[str, ...]) -> list[str]:
    """Return metrics other than those of the package, whose code is in `CODE`, with a hash of their sources."""
    if metrics == METRICS_HERE:
        return []
    modules = set().union(*(study_metric(name).modules for name in metrics))
    return [*metrics, digest_of_sources(*modules)]


@dataclass(frozen=True, eq=False)
class Point:
    """One scheme on one target at one step size and friction."""

    target: Target
    scheme: Integrator
    h: float
    friction: float
    metrics: tuple[str, ...] = field(default_factory=study_metrics, kw_only=True)

    @property
    def parameters(self) -> dict[str, Any]:
        """What it is, in words and numbers; the result depends on the coefficients, not on what they are called."""
        own = {name.name: getattr(self, name.name) for name in fields(self) if name.name not in ("target", "scheme")}
        return {"kind": type(self).__name__, "target": self.target.name, "integrator": self.scheme.name} | own

    @cached_property
    def key(self) -> str:
        """Hash of everything that the result depends on."""
        tables = lay_out([self.scheme.stages(np.array([self.h]), friction=self.friction)], np.dtype(float))
        # A scheme without friction is the same at any.
        own = {
            name: value
            for name, value in self.parameters.items()
            if name not in ("target", "integrator", "friction", "metrics")
        }
        scheme = [digest(*map(np.asarray, tables[:-1])), self.scheme.memory]
        whole = [VERSION, CODE + code_of(self.metrics), fingerprint(self.target), scheme, own]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, eq=False)
class Sampled(Point):
    """What a run of chains shows, from exact draws of the target.

    Attributes
    ----------
    nfe, burn_in : int
        Recorded score evaluations per chain, and those before them.
    chains, seed, backend
        As for `uldnum.sample`.
    """

    nfe: int
    burn_in: int
    chains: int
    seed: int
    backend: str | None

    def result(self) -> dict[str, Any]:
        """Run the chains and measure."""
        per_step = self.scheme.nfe_per_step
        run = self.run(self.nfe // per_step, self.burn_in // per_step, self.chains, bins=BINS)
        return {
            "bias": {name: sampled(study_metric(name), run, self.target) for name in self.metrics},
            "time": {name: sampled(metric, run, self.target) for name, metric in TIMES.items()},
            HOPS.name: self.hops(),
            "diverged": int(run.diverged),
            "unstable": self.unstable,
            "nfe": run.nfe,
        }

    @property
    def unstable(self) -> bool:
        """Whether the scheme is known to have no stationary law: on one Gaussian, at or above its stability limit."""
        precision = largest_precision(self.target) if is_gaussian(self.target) else None
        return precision is not None and bool(unstable(self.scheme, np.array([self.h]), precision, self.friction)[0])

    def run(self, steps: int, burn_in: int, chains: int, **options: Any) -> Run:
        """Run chains; what diverged, or will, is in the result, and the study warns of it."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* diverged")
            warnings.filterwarnings("ignore", "stopped after")
            with interruptible() as stopped:
                run = sample(
                    self.target, self.scheme, h=self.h, friction=self.friction, steps=steps, burn_in=burn_in,
                    chains=chains, seed=self.seed, backend=self.backend, progress=False, **options,
                )  # fmt: skip
        if stopped():  # also if the run was complete by then: there are others
            raise KeyboardInterrupt
        return run

    def hops(self) -> list[float]:
        """Rate of hops between modes, and its error; NaN where fewer than two are known, or where chains diverged."""
        if not HOPS.known(self.target):
            return [np.nan, np.nan]
        burn_in = self.burn_in // self.scheme.nfe_per_step
        run = self.run(HOPPING_STEPS, burn_in, min(self.chains, HOPPING_CHAINS), thin=1)
        return [np.nan, np.nan] if run.diverged else sampled(HOPS, run, self.target)


@dataclass(frozen=True, eq=False)
class Exact(Point):
    """What is known of a scheme without sampling.

    Attributes
    ----------
    tolerance : float
        As for `uldnum.exact.transfer_operator`.
    times : bool
        Whether times are wanted, too, which take longer.
    """

    tolerance: float
    times: bool

    def result(self) -> dict[str, Any]:
        """Compute it."""
        return exact_answers(self.scheme, self.target, self.h, self.friction, self.tolerance, self.metrics, self.times)


def sampled(metric: Metric, run: Run, target: Target) -> list[float]:
    """Return a metric of a run, with its error and perhaps its floor; NaN where the target does not know enough."""
    if metric.of_run is None or not metric.known(target):
        return [np.nan] * len(Bias._fields)
    return [float(part) for part in metric.of_run(run, target)]


@lru_cache(16)  # all points of a study have one target
def fingerprint(target: Target) -> list[Any]:
    """Return what tells one target from another: the density, its draws, and what biases are measured against.

    Of a mixture the parameters in its fingerprint determine all of it.
    """
    if target.components is not None:
        return [target.fingerprint]
    known = [] if target.draws is None else [target.sample(8)]
    at = np.asarray(target.mean) + np.asarray(target.standard_deviation) * np.linspace(-2, 2, 5)[:, None]
    if target.moment is not None and target.cdf is not None:
        known += [target.cdf(at), *(target.moment(order) for order in (1, 2, 4))]
    if target.log_density is not None:
        known.append(target.log_density(at))
    return [target.fingerprint, digest(*known)]

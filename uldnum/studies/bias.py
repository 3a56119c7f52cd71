"""The bias study: how wrong is the stationary law of each integrator as its step grows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr

from uldnum import exact
from uldnum.diagnostics.bias import METRICS
from uldnum.integrators import Integrator, step_size
from uldnum.integrators import integrator as find_integrator
from uldnum.sampling import Run, sample, whole_number
from uldnum.targets import GaussianMixture, VectorTarget
from uldnum.targets import target as find_target
from uldnum.targets.mixture import erf
from uldnum.typing import Array, ArrayLike

__all__ = ["bias"]

# Bins of the histograms: at 8 standard deviations to either side, 32 in each standard deviation.
BINS = 512


def bias(
    target: VectorTarget | str,
    integrators: str | Integrator | Sequence[str | Integrator],
    h: ArrayLike | None = None,
    *,
    delta: ArrayLike | None = None,
    friction: float = 1.0,
    nfe: int = 5_000,
    burn_in: int = 1_000,
    chains: int = 1024,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Measure the bias of integrators at several step sizes, at an equal number of score evaluations.

    Runs start from exact draws of the target. All step sizes of an integrator share their random numbers.

    Parameters
    ----------
    target : str, GaussianMixture or UserTarget
        What is sampled; it must know its moments and its cdf.
    integrators : str, Integrator, or sequence of them
        The schemes, all different.
    h : array, shape (H,)
        Step sizes, all different.
    delta : array, shape (H,)
        The step sizes as ``h^2/2`` instead.
    friction : float
        Friction.
    nfe : int
        Recorded score evaluations per chain.
    burn_in : int
        Score evaluations before them, not recorded.
    chains : int
        Independent chains for each integrator and step size, at least 2.
    seed : int
        64-bit key.
    progress : bool
        Show progress in a terminal.

    Returns
    -------
    xarray.Dataset
        Dimensions integrator, h and metric. ``bias`` of the metrics second_moment and mean is the root mean square over
        axes, in standard deviations of what is averaged; wasserstein_1 (in standard deviations of the axis) and
        kolmogorov are averages over axes of the distance of the marginal. ``error`` is its standard error, ``floor``
        what an unbiased run would show, ``exact`` the scheme's own bias where it is known (Gaussian targets),
        ``diverged`` the number of chains that diverged. Attributes hold every parameter.

    Raises
    ------
    ValueError
        If an argument is out of range or unknown; all are checked before the first run.
    """
    target = find_target(target) if isinstance(target, str) else target
    if not isinstance(target, VectorTarget):
        raise ValueError(f"target: must be a name, a GaussianMixture or a UserTarget, got {target!r}")
    if target.moment is None or target.cdf is None:
        raise ValueError(f"target: {target.name!r} does not know its moments and cdf; give UserTarget these functions")
    if not np.all(np.isfinite(target.standard_deviation)):
        raise ValueError(f"target: {target.name!r} does not know its standard deviation; give it to UserTarget")
    named = [integrators] if isinstance(integrators, str | Integrator) else integrators
    schemes = [find_integrator(name) for name in named]
    names = [scheme.name for scheme in schemes]
    if not schemes or len(set(names)) < len(names):
        raise ValueError(f"integrators: name at least one, and each once; got {names}")
    steps = np.atleast_1d(step_size(h, delta))
    if steps.ndim > 1 or not steps.size or len(np.unique(steps)) < steps.size:
        raise ValueError(f"h: must be one or several different step sizes, got {steps.tolist()}")
    chains = whole_number("chains", chains, 2, 2**32)  # errors come from the spread of chains
    nfe = whole_number("nfe", nfe, max(scheme.nfe_per_step for scheme in schemes), 2**48)
    burn_in = whole_number("burn_in", burn_in, 0, 2**48)
    known = np.stack([exact_bias(scheme, target, steps, friction) for scheme in schemes])

    runs = []
    for number, scheme in enumerate(schemes, start=1):
        run = sample(
            target, scheme, h=steps, friction=friction, steps=nfe // scheme.nfe_per_step,
            burn_in=burn_in // scheme.nfe_per_step, chains=chains, seed=seed, bins=BINS,
            progress=progress and f"{scheme.name} ({number} of {len(schemes)})",
        )  # fmt: skip
        if not run.complete:
            raise KeyboardInterrupt
        runs.append(run)
    measured = np.array([measure(run, target) for run in runs])  # integrator, metric, (value, error, floor), h
    dims = ("integrator", "h", "metric")
    unit = {"units": "1"}
    data: dict[str, Any] = {
        name: (dims, np.moveaxis(measured[:, :, i], 1, -1), unit | {"long_name": meaning})
        for i, (name, meaning) in enumerate(
            [
                ("bias", "bias"),
                ("error", "standard error of the bias"),
                ("floor", "bias that an unbiased run would show"),
            ]
        )
    }
    data["exact"] = (dims, known, unit | {"long_name": "exact bias of the scheme"})
    data["diverged"] = (dims[:2], np.stack([run.diverged for run in runs]), {"long_name": "chains that diverged"})
    data["nfe"] = (dims[:1], np.array([run.nfe for run in runs]), {"long_name": "score evaluations per chain"})
    coordinates = {
        "integrator": names,
        "h": ("h", steps, {"long_name": "step size", "units": "time"}),
        "metric": list(METRICS),
    }
    parameters = {"friction": friction, "nfe_recorded": nfe, "nfe_burn_in": burn_in, "chains": chains, "seed": seed}
    return xr.Dataset(data, coordinates, {"study": "bias", "uldnum": version("uldnum")} | describe(target) | parameters)


def measure(run: Run, target: VectorTarget) -> Array:
    """Return value, error and floor of every metric at every step size, shape (metrics, 3, H)."""
    return np.array([metric(run, target) for metric in METRICS.values()])


def exact_bias(scheme: Integrator, target: VectorTarget, h: Array, friction: float) -> Array:
    """Return the scheme's exact bias, shape (H, metrics), NaN where it is not known.

    On a Gaussian the stationary law of every scheme is Gaussian, with the right mean and another variance.
    """
    if not isinstance(target, GaussianMixture) or len(target.weights) > 1 or target.covariances is not None:
        return np.full((len(h), len(METRICS)), np.nan)
    variance = target.variances[0]
    law = exact.gaussian(scheme, h[:, None], precision=1 / variance, friction=friction)
    ratio = np.sqrt(law.position_covariance / variance)  # of standard deviations, per step size and axis
    gap = (law.position_covariance - variance) / np.sqrt(target.moment(4) - target.moment(2) ** 2)
    known = {
        "second_moment": np.sqrt(np.mean(gap**2, axis=-1)),
        "mean": np.mean(0 * ratio, axis=-1),
        "wasserstein_1": np.mean(np.abs(ratio - 1), axis=-1) * np.sqrt(2 / np.pi),
        "kolmogorov": np.mean(normal_kolmogorov(ratio), axis=-1),
    }
    return np.stack([known[metric] for metric in METRICS], axis=-1)


def normal_kolmogorov(ratio: Array) -> Array:
    """Kolmogorov distance of N(0, 1) and N(0, ratio^2): the gap of their cdfs where their densities cross."""
    log = np.log(ratio)
    other = np.where(log == 0, 1.0, log)
    crossing = np.where(log == 0, 1.0, np.sqrt(2 * other / -np.expm1(-2 * other)))
    return 0.5 * np.abs(erf(crossing / np.sqrt(2)) - erf(crossing / ratio / np.sqrt(2)))


def describe(target: VectorTarget) -> dict[str, str]:
    """Return the target as attributes of a dataset."""
    attributes = {"target": target.name, "target_fingerprint": target.fingerprint}
    if isinstance(target, GaussianMixture):
        shape = "variances" if target.covariances is None else "covariances"
        parameters = {part: getattr(target, part).tolist() for part in ("weights", "means", shape)}
        attributes["target_parameters"] = json.dumps(parameters)
    return attributes

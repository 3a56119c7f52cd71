"""The bias study: how wrong is the stationary law of each integrator as its step grows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from uldnum.diagnostics.bias import METRICS
from uldnum.exact.transfer import check_tolerance
from uldnum.integrators import Integrator, positive, step_size, whole_number
from uldnum.integrators import integrator as find_integrator
from uldnum.sampling import Run, sample
from uldnum.studies.exact import exact_metrics, has_exact_law
from uldnum.targets import GaussianMixture, VectorTarget, vector_target
from uldnum.typing import Array, ArrayLike

__all__ = ["bias", "exact_bias"]

DIMENSIONS = ("integrator", "h", "metric")

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
    tolerance: float = 1e-5,
    backend: str | None = None,
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
    tolerance : float
        Of the exact bias, as for `uldnum.exact.transfer_operator`.
    backend : str, optional
        Where to sample, as for `uldnum.sample`.
    progress : bool
        Show progress in a terminal.

    Returns
    -------
    xarray.Dataset
        Dimensions integrator, h and metric. ``bias`` of the metrics second_moment and mean is the root mean square over
        axes, in standard deviations of what is averaged; wasserstein_1 (in standard deviations of the axis) and
        kolmogorov are averages over axes of the distance of the marginal. ``error`` is its standard error, ``floor``
        what an unbiased run would show, ``exact`` the scheme's own bias where it is known (on Gaussians, and in one
        dimension), ``diverged`` the number of chains that diverged. Attributes hold every parameter.

    Raises
    ------
    ValueError
        If an argument is out of range or unknown; all are checked before the first run.
    """
    target, schemes, steps = checked(target, integrators, h, delta)
    chains = whole_number("chains", chains, 2, 2**32)  # errors come from the spread of chains
    nfe = whole_number("nfe", nfe, max(scheme.nfe_per_step for scheme in schemes), 2**48)
    burn_in = whole_number("burn_in", burn_in, 0, 2**48)
    study = known(target, schemes, steps, friction, tolerance, progress)

    runs = []
    for number, scheme in enumerate(schemes, start=1):
        run = sample(
            target, scheme, h=steps, friction=friction, steps=nfe // scheme.nfe_per_step,
            burn_in=burn_in // scheme.nfe_per_step, chains=chains, seed=seed, bins=BINS,
            backend=backend, progress=progress and f"{scheme.name} ({number} of {len(schemes)})",
        )  # fmt: skip
        if not run.complete:
            raise KeyboardInterrupt
        runs.append(run)
    measured = np.array([measure(run, target) for run in runs])  # integrator, metric, (value, error, floor), h
    sampled: dict[str, Any] = {
        name: (DIMENSIONS, np.moveaxis(measured[:, :, i], 1, -1), {"units": "1", "long_name": meaning})
        for i, (name, meaning) in enumerate(
            [
                ("bias", "bias"),
                ("error", "standard error of the bias"),
                ("floor", "bias that an unbiased run would show"),
            ]
        )
    }
    diverged, evaluations = np.stack([run.diverged for run in runs]), np.array([run.nfe for run in runs])
    sampled["diverged"] = (DIMENSIONS[:2], diverged, {"long_name": "chains that diverged"})
    sampled["nfe"] = (DIMENSIONS[:1], evaluations, {"long_name": "score evaluations per chain"})
    return study.assign(sampled).assign_attrs(nfe_recorded=nfe, nfe_burn_in=burn_in, chains=chains, seed=seed)


def exact_bias(
    target: VectorTarget | str,
    integrators: str | Integrator | Sequence[str | Integrator],
    h: ArrayLike | None = None,
    *,
    delta: ArrayLike | None = None,
    friction: float = 1.0,
    tolerance: float = 1e-5,
    progress: bool = True,
) -> xr.Dataset:
    """Compute the bias of integrators at several step sizes, without sampling.

    Parameters
    ----------
    target : str, GaussianMixture or UserTarget
        A Gaussian in any dimension, or any target in one.
    integrators, h, delta, friction, tolerance, progress
        As for `bias`.

    Returns
    -------
    xarray.Dataset
        The variable ``exact`` of `bias`.

    Raises
    ------
    ValueError
        If an argument is out of range or unknown, or there is no exact answer for this target.
    """
    target, schemes, steps = checked(target, integrators, h, delta)
    if not has_exact_law(target):
        raise ValueError(
            f"target: no exact answer on {target.name!r}: only on Gaussians, and on targets in one dimension"
        )
    return known(target, schemes, steps, friction, tolerance, progress)


def checked(
    target: VectorTarget | str,
    integrators: str | Integrator | Sequence[str | Integrator],
    h: ArrayLike | None,
    delta: ArrayLike | None,
) -> tuple[VectorTarget, list[Integrator], Array]:
    """Return target, schemes and step sizes of a study, or raise."""
    target = vector_target(target)
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
    return target, schemes, steps


def known(
    target: VectorTarget, schemes: list[Integrator], h: Array, friction: float, tolerance: float, progress: bool
) -> xr.Dataset:
    """Return a study with the exact bias of every scheme, NaN where it is not known, and without sampled points."""
    positive("friction", friction)
    check_tolerance(tolerance)
    values = np.full((len(schemes), len(h), len(METRICS)), np.nan)
    if has_exact_law(target):
        points = [(i, j) for i in range(len(schemes)) for j in range(len(h))]
        for i, j in tqdm(points, "exact bias", disable=None if progress else True):
            values[i, j] = exact_metrics(schemes[i], target, h[j], friction, tolerance)
    coordinates = {
        "integrator": [scheme.name for scheme in schemes],
        "h": ("h", h, {"long_name": "step size", "units": "time"}),
        "metric": list(METRICS),
    }
    exact = {"exact": (DIMENSIONS, values, {"units": "1", "long_name": "exact bias of the scheme"})}
    attributes = {"study": "bias", "uldnum": version("uldnum")} | describe(target) | {"friction": friction}
    return xr.Dataset(exact, coordinates, attributes | {"tolerance": tolerance})


def measure(run: Run, target: VectorTarget) -> Array:
    """Return value, error and floor of every metric at every step size, shape (metrics, 3, H)."""
    return np.array([metric(run, target) for metric in METRICS.values()])


def describe(target: VectorTarget) -> dict[str, str]:
    """Return the target as attributes of a dataset."""
    attributes = {"target": target.name, "target_fingerprint": target.fingerprint}
    if isinstance(target, GaussianMixture):
        shape = "variances" if target.covariances is None else "covariances"
        parameters = {part: getattr(target, part).tolist() for part in ("weights", "means", shape)}
        attributes["target_parameters"] = json.dumps(parameters)
    return attributes

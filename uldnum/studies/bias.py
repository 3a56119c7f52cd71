"""The bias study: how wrong is the stationary law of each integrator as its step grows."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path

import xarray as xr

from uldnum.arguments import positive_number
from uldnum.studies.common import Budget, Grid, Integrators, Place
from uldnum.studies.exact import has_exact_law
from uldnum.targets import VectorTarget
from uldnum.typing import ArrayLike

__all__ = ["bias", "exact_bias"]


def bias(
    target: VectorTarget | str,
    integrators: Integrators,
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
    store: str | Path | None = None,
    executor: Executor | None = None,
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
        Step sizes, all different. Default: 12, from 0.1 to 1.6 of the target's narrowest standard deviations.
    delta : array, shape (H,)
        The step sizes as ``h^2/2`` instead.
    friction : float
        Friction.
    nfe : int
        Recorded score evaluations per chain.
    burn_in : int
        Score evaluations before them, not recorded.
    chains : int
        Independent chains for each integrator and step size, at least 8.
    seed : int
        64-bit key.
    tolerance : float
        Of the exact bias, as for `uldnum.exact.transfer_operator`.
    backend : str, optional
        Where to sample, as for `uldnum.sample`.
    store, executor : optional
        Where points are kept, so that a study that was stopped goes on, and where they are computed, as for
        `uldnum.studies.sweep`.
    progress : bool
        Show progress in a terminal.

    Returns
    -------
    xarray.Dataset
        Dimensions integrator, h and metric. ``bias`` of the metrics second_moment and mean is the root mean square over
        axes, in standard deviations of what is averaged; wasserstein_1 (in standard deviations of the axis) and
        kolmogorov are averages over axes of the distance of the marginal. ``error`` is its standard error, ``floor``
        what an unbiased run would show, ``exact`` the scheme's own bias where it is known (on Gaussians, and in one
        dimension), ``diverged`` the number of chains that diverged. Chains start from exact draws: where ``settled`` is
        false, the burn-in was shorter than the autocorrelation time, and some of the bias is missing. Attributes hold
        every parameter.

    Raises
    ------
    ValueError
        If an argument is out of range or unknown; all are checked before the first run.

    Warns
    -----
    UserWarning
        If chains diverged.
    """
    grid = Grid.of(target, integrators, h, delta, positive_number("friction", friction))
    place = Place(store, executor, progress)
    budget = Budget(nfe, burn_in, chains, seed, backend)
    grid.check(budget)
    study = grid.exact(tolerance, place, times=False)[["exact"]]
    sampled = grid.sampled(budget, place)[["bias", "error", "floor", "settled", "diverged", "nfe"]]
    return flat(study.merge(sampled, combine_attrs="no_conflicts"))


def exact_bias(
    target: VectorTarget | str,
    integrators: Integrators,
    h: ArrayLike | None = None,
    *,
    delta: ArrayLike | None = None,
    friction: float = 1.0,
    tolerance: float = 1e-5,
    store: str | Path | None = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Compute the bias of integrators at several step sizes, without sampling.

    Parameters
    ----------
    target : str, GaussianMixture or UserTarget
        A Gaussian in any dimension, or any target in one.
    integrators, h, delta, friction, tolerance, store, executor, progress
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
    grid = Grid.of(target, integrators, h, delta, positive_number("friction", friction))
    if not has_exact_law(grid.target):
        raise ValueError(
            f"target: no exact answer on {grid.target.name!r}: only on Gaussians, and on targets in one dimension"
        )
    return flat(grid.exact(tolerance, Place(store, executor, progress), times=False)[["exact"]])


def flat(study: xr.Dataset) -> xr.Dataset:
    """Return a study of one friction without an axis for it."""
    found = study.isel(friction=0, drop=True).drop_vars("observable", errors="ignore")
    if "nfe" in found:
        found["nfe"] = found.nfe.isel(h=0)
    return found.assign_attrs(study="bias", friction=float(study.friction[0]))

"""The mixing study: how many score evaluations is an independent sample of each integrator worth."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path

import xarray as xr

from uldnum.studies.common import Budget, Grid, Integrators, Place, with_cost
from uldnum.targets import VectorTarget
from uldnum.typing import ArrayLike

__all__ = ["mixing"]

MEASURED = ["time", "time_error", "resolved", "hops", "hops_error", "diverged", "nfe"]


def mixing(
    target: VectorTarget | str,
    integrators: Integrators,
    h: ArrayLike | None = None,
    *,
    delta: ArrayLike | None = None,
    friction: ArrayLike | None = None,
    nfe: int = 5_000,
    burn_in: int = 1_000,
    chains: int = 1024,
    seed: int = 0,
    tolerance: float = 1e-4,
    backend: str | None = None,
    store: str | Path | None = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Measure how fast integrators mix, at several step sizes and frictions.

    Parameters
    ----------
    target : str, GaussianMixture or UserTarget
        What is sampled; it must know its standard deviation.
    h, delta : array, shape (H,)
        As for `bias`. Default: 12 step sizes, from 0.1 to 1.6 of the target's narrowest standard deviations.
    friction : float or array, shape (F,)
        Frictions, all different; what an overdamped scheme does is the same at all of them. Default: 0.5, 1 and 2,
        over that standard deviation.
    integrators, nfe, burn_in, chains, seed, tolerance, backend, store, executor, progress
        As for `bias`.

    Returns
    -------
    xarray.Dataset
        Dimensions integrator, friction, h and observable (x and x^2). ``time`` is the integrated autocorrelation time
        in score evaluations, on the axis where it is longest, from the variance of the chains' means
        (`uldnum.diagnostics.chain_mean_times`); ``time_error`` its standard error; where not ``resolved`` the run
        lasted less than 20 of these times, which are lower bounds then. ``cost`` is the longer of the two times, the
        score evaluations for an independent sample, with ``cost_error`` and ``cost_resolved``. ``hops`` is the rate of
        hops between the modes of a mixture. ``exact_time``, ``exact_cost`` and ``relaxation_time``, that in which the
        slowest mode decays by e, are there where they are known: on Gaussians, and in one dimension.

    Raises
    ------
    ValueError
        If an argument is out of range or unknown; all are checked before the first run.

    Warns
    -----
    UserWarning
        If chains diverged.
    """
    grid, place = Grid.of(target, integrators, h, delta, friction, bias=False), Place(store, executor, progress)
    budget = Budget(nfe, burn_in, chains, seed, backend)
    grid.check(budget)
    known = grid.exact(tolerance, place)[["exact_time", "relaxation_time"]]
    study = known.merge(grid.sampled(budget, place)[MEASURED], combine_attrs="no_conflicts")
    return with_cost(study).drop_vars("metric", errors="ignore").assign_attrs(study="mixing")

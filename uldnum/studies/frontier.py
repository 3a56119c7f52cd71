"""The frontier: which integrator, friction and step size reach a bias at the least cost."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from uldnum.diagnostics.bias import METRICS
from uldnum.integrators import positive
from uldnum.names import unknown
from uldnum.studies.common import Budget, Grid, Integrators, Place
from uldnum.targets import VectorTarget
from uldnum.typing import ArrayLike

__all__ = ["Advice", "advise", "frontier"]

# A sampled bias counts as below a bound when so many standard errors more are.
ERRORS = 2.0


def frontier(
    target: VectorTarget | str,
    integrators: Integrators,
    h: ArrayLike | None = None,
    *,
    delta: ArrayLike | None = None,
    friction: ArrayLike | None = None,
    nfe: int = 5_000,
    burn_in: int = 1_000,
    chains: int = 4096,
    seed: int = 0,
    tolerance: float = 1e-4,
    backend: str | None = None,
    store: str | Path | None = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Measure bias and cost of an independent sample as step size and friction vary.

    Parameters
    ----------
    target, integrators, h, delta, friction, nfe, burn_in, chains, seed, tolerance, backend, store, executor, progress
        As for `mixing`; the target must know its moments and its cdf.

    Returns
    -------
    xarray.Dataset
        The variables of `bias` and of `mixing`, and ``cost``: score evaluations for an independent sample, the longer
        of the times of x and x^2, ``cost_error`` and ``cost_resolved``; ``exact_cost`` where it is known. `advise`
        picks the best point of it for a bound on the bias.

    Raises
    ------
    ValueError
        If an argument is out of range or unknown; all are checked before the first run.

    Warns
    -----
    UserWarning
        If chains diverged.
    """
    grid, place = Grid.of(target, integrators, h, delta, friction), Place(store, executor, progress)
    budget = Budget(nfe, burn_in, chains, seed, backend)
    study = grid.exact(tolerance, place).merge(grid.sampled(budget, place), combine_attrs="no_conflicts")
    slow = study.time.fillna(-1).argmax("observable")
    units = {"units": "score evaluations"}
    costs = {
        "cost": study.time.isel(observable=slow).drop_vars("observable").assign_attrs(
            units, long_name="score evaluations for an independent sample"
        ),
        "cost_error": study.time_error.isel(observable=slow).drop_vars("observable").assign_attrs(
            units, long_name="standard error of the cost"
        ),
        "cost_resolved": study.resolved.all("observable"),
        "exact_cost": study.exact_time.max("observable", skipna=False).assign_attrs(
            units, long_name="exact cost of an independent sample"
        ),
    }  # fmt: skip
    return study.assign(costs).assign_attrs(study="frontier")


@dataclass(frozen=True)
class Advice:
    """The best point of a frontier for a bound on the bias.

    Attributes
    ----------
    integrator : str
        Its name.
    friction, h : float
        Where it is best; the friction is None if any serves.
    bias, bias_error : float
        Its bias, exact (error 0) where that is known.
    cost, cost_error : float
        Score evaluations for an independent sample.
    rivals : tuple of str
        Other integrators whose best point costs the same within 2 standard errors.
    text : str
        All this in words.
    """

    integrator: str
    friction: float | None
    h: float
    bias: float
    bias_error: float
    cost: float
    cost_error: float
    rivals: tuple[str, ...]
    text: str


def advise(study: xr.Dataset, max_bias: float, *, metric: str = "second_moment") -> Advice:
    """Return the cheapest point of a frontier whose bias is below a bound.

    Where a bias is exact it is compared itself, elsewhere with 2 standard errors (or noise floors, whichever is larger)
    more. Points whose cost is no more than a lower bound are left out.

    Parameters
    ----------
    study : xarray.Dataset
        From `frontier`.
    max_bias : float
        The bound, in the units of the metric.
    metric : str
        Which of the study's metrics: second_moment, mean, wasserstein_1 or kolmogorov.

    Raises
    ------
    ValueError
        If no point qualifies; the message says what would help.
    """
    bound = float(positive("max_bias", max_bias))
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS, f"Known are {', '.join(METRICS)}")
    one = study.sel(metric=metric)
    known = one.exact.notnull()
    error = np.maximum(one.error, one.floor)
    bias = one.exact.where(known, one.bias)
    most = one.exact.where(known, one.bias + ERRORS * error)
    cost, cost_error = (
        study[name].where(study.exact_cost.isnull(), other)
        for name, other in (("cost", study.exact_cost), ("cost_error", 0.0))
    )
    resolved = (study.cost_resolved | study.exact_cost.notnull()) & (study.diverged == 0) & cost.notnull()
    fit = (most <= bound) & resolved
    if not bool(fit.any()):
        raise ValueError(why_none(most, resolved, bound))
    best = cost.where(fit).stack(point=("integrator", "friction", "h"))
    name, gamma, h = best.idxmin("point").item()
    at = {"integrator": name, "friction": gamma, "h": h}
    others = cost.where(fit).min(("friction", "h"))
    spread = 2 * np.hypot(float(cost_error.sel(at)), cost_error.where(fit).max(("friction", "h")))
    close = (others <= cost.sel(at) + spread) & (others.integrator != name)
    rivals = tuple(map(str, others.integrator.values[close.values]))
    # What a scheme without friction does is the same at all of them.
    same = bool((cost.sel(integrator=name, h=h) == cost.sel(at)).all()) and study.sizes["friction"] > 1
    friction = None if same else float(gamma)
    found = [float(part.sel(at)) for part in (bias, error.where(~known, 0.0), cost, cost_error)]
    text = words(study, name, friction, float(h), bound, metric, found, rivals)
    bias_, bias_error, cost_, price_error = found
    return Advice(name, friction, float(h), bias_, bias_error, cost_, price_error, rivals, text)


def why_none(most: xr.DataArray, resolved: xr.DataArray, bound: float) -> str:
    """Say why no point qualifies."""
    if not bool(resolved.any()):
        return "nfe: no chain forgot where it was: every time is a lower bound; record more evaluations (nfe)"
    least = float(most.where(resolved).min())
    return (
        f"max_bias: no point was shown to have a bias below {bound:g}; the least is {least:.3g}, errors included: take "
        "smaller steps, or more chains or evaluations (nfe), which lower the noise"
    )


def words(
    study: xr.Dataset, name: str, friction: float | None, h: float, bound: float, metric: str, numbers: list[float],
    rivals: tuple[str, ...],
) -> str:  # fmt: skip
    """Return advice in words."""
    bias, bias_error, cost, cost_error = numbers
    at = f"h = {h:.4g}" + ("" if friction is None else f" and friction {friction:g}")
    how = "exact" if bias_error == 0 else f"± {bias_error:.1g}"
    price = f"{cost:.3g} score evaluations" + (" (exact)" if cost_error == 0 else f" (± {cost_error:.2g})")
    text = (
        f"For a bias of {metric} below {bound:g} on {study.attrs['target']} take {name} at {at}: "
        f"its bias is {bias:.2g} ({how}), and an independent sample costs {price}."
    )
    if rivals:
        text += f" {', '.join(rivals)} cost{'s' if len(rivals) == 1 else ''} the same within 2 standard errors."
    grid = study.h.values
    if h == grid.max():
        text += " It is the largest step of the study: larger ones may be cheaper still."
    return text

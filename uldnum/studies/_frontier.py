"""The frontier: which integrator, friction and step size reach a bias at the least cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from uldnum._util.arguments import positive_number
from uldnum.diagnostics.metrics import study_metric
from uldnum.studies.common import AXES, StepGrid, with_cost, without_law
from uldnum.studies.configuration import FrontierConfiguration, configured_by

__all__ = ["Advice", "advise", "frontier"]

# A sampled bias counts as below a bound when so many standard errors more are.
ERRORS = 2.0


@configured_by(FrontierConfiguration)
def frontier(study: FrontierConfiguration) -> xr.Dataset:
    """Measure bias and cost of an independent sample as step size and friction vary.

    Returns
    -------
    xarray.Dataset
        The variables of `bias` and of `mixing`. `advise` picks the best point for a bound on the bias.

    Raises
    ------
    ValueError
        If an argument is out of range or unknown; all are checked before the first run.

    Warns
    -----
    UserWarning
        As for `bias`.
    """
    grid = StepGrid.of(study)
    grid.check(study)
    found = grid.exact(study).merge(grid.sampled(study), combine_attrs="no_conflicts")
    return with_cost(found).assign_attrs(study="frontier")


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
        Its bias, exact where that is known; the error is then the tolerance of the study, 0 on Gaussians.
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

    A bias that is exact is compared with the study's tolerance added to it (0 on Gaussians), any other with 2 standard
    errors (or noise floors, whichever is larger). Points whose cost is no more than a lower bound, and those at which
    chains diverged or the scheme is unstable, are left out.

    Parameters
    ----------
    study : xarray.Dataset
        From `frontier`, whole: with the dimensions integrator, friction and h.
    max_bias : float
        The bound, positive, in the units of the metric.
    metric : str
        Name of one of the study's metrics, ``study.metric``.

    Returns
    -------
    Advice
        The point, its bias and cost with their errors, and the integrators that cost the same.

    Raises
    ------
    ValueError
        If no point qualifies; the message says what would help. If the bound is not a positive, finite number, there is
        no such metric, or the study is none of a frontier.
    """
    bound = positive_number("max_bias", max_bias)
    study_metric(metric)
    if not isinstance(study, xr.Dataset) or study.attrs.get("study") != "frontier" or set(AXES) - set(study.cost.dims):
        raise ValueError("study: must be a whole dataset of studies.frontier")
    one = of_metric(study, metric)
    known = one.exact.notnull()
    # What is exact has a tolerance: the law that itself, times a hundred of it (`TransferOperator`).
    slack, most = study.attrs["exact_to"], at_most(one)
    bias, error = one.exact.where(known, one.bias), np.maximum(one.error, one.floor)
    cost = study.cost.where(study.exact_cost.isnull(), study.exact_cost)
    cost_error = study.cost_error.where(study.exact_cost.isnull(), 100 * slack * study.exact_cost)
    resolved = (study.cost_resolved | study.exact_cost.notnull()) & ~without_law(study) & cost.notnull()
    fit = (most <= bound) & resolved
    if not bool(fit.any()):
        raise ValueError(why_none(study, one, most, resolved, bound))
    # The best point of every integrator that has one, cheapest first.
    rows = [cost.where(fit).sel(integrator=name) for name in cost.integrator.values]
    best = sorted((cheapest(row) for row in rows if row.notnull().any()), key=lambda at: float(cost.sel(at)))
    at, others = best[0], best[1:]
    name, gamma, h = at["integrator"], at["friction"], at["h"]
    rivals = tuple(
        other["integrator"]
        for other in others
        if cost.sel(other) - cost.sel(at) <= ERRORS * np.hypot(cost_error.sel(other), cost_error.sel(at))
    )
    # What a scheme without friction does is the same at all of them.
    same = bool((cost.sel(integrator=name, h=h) == cost.sel(at)).all()) and study.sizes["friction"] > 1
    friction = None if same else float(gamma)
    found = [float(part.sel(at)) for part in (bias, error.where(~known, slack), cost, cost_error)]
    sure = bool(known.sel(at)), bool(study.exact_cost.notnull().sel(at))
    text = words(study, name, friction, float(h), bound, metric, found, sure, rivals)
    bias_, bias_error, cost_, price_error = found
    return Advice(name, friction, float(h), bias_, bias_error, cost_, price_error, rivals, text)


def of_metric(study: xr.Dataset, metric: str) -> xr.Dataset:
    """Return the part of a study of one metric, or raise if it has none, as studies that were stored before others."""
    if metric not in study.metric.values:
        raise ValueError(f"metric: the study does not have {metric!r}; it has {', '.join(study.metric.values)}")
    return study.sel(metric=metric)


def at_most(one: xr.Dataset) -> xr.DataArray:
    """Return what the bias in one metric is at most, but for chance."""
    sampled = one.bias + ERRORS * np.maximum(one.error, one.floor)
    return (one.exact + one.attrs["exact_to"]).where(one.exact.notnull(), sampled)


def cheapest(cost: xr.DataArray) -> dict[str, Any]:
    """Return where the cost of an integrator is least."""
    gamma, h = np.unravel_index(np.nanargmin(cost.values), cost.shape)
    return {"integrator": str(cost.integrator.values), "friction": cost.friction.values[gamma], "h": cost.h.values[h]}


def why_none(study: xr.Dataset, one: xr.Dataset, most: xr.DataArray, resolved: xr.DataArray, bound: float) -> str:
    """Say why no point qualifies."""
    if bool((study.diverged > 0).all()):
        return "h: chains diverged at every point; take smaller steps"
    if bool(without_law(study).all()):
        return "h: no scheme has a stationary law at any of the step sizes; take smaller ones"
    if not bool(resolved.any()):
        return "nfe: no chain forgot where it was: every time is a lower bound; record more evaluations (nfe)"
    if bool(((one.exact <= bound) & resolved).any()):
        slack = study.attrs["exact_to"]
        return f"tolerance: biases are below {bound:g}, but not by {slack:g}, to which they are exact; lower it"
    least = float(most.where(resolved).min())
    return (
        f"max_bias: no point was shown to have a bias below {bound:g}; the least is {least:.3g}, errors included: take "
        "smaller steps, or more chains or evaluations (nfe), which lower the noise"
    )


def words(
    study: xr.Dataset, name: str, friction: float | None, h: float, bound: float, metric: str, numbers: list[float],
    sure: tuple[bool, bool], rivals: tuple[str, ...],
) -> str:  # fmt: skip
    """Return advice in words."""
    bias, bias_error, cost, cost_error = numbers
    at = f"h = {h:.4g}" + ("" if friction is None else f" and friction {friction:g}")
    how, price = (
        ("exact" if exact else "sampled") + (f", ± {error:.1g}" if error else "")
        for exact, error in zip(sure, (bias_error, cost_error), strict=True)
    )
    text = (
        f"For a bias of {metric} below {bound:g} on {study.attrs['target']} take {name} at {at}: "
        f"its bias is {bias:.2g} ({how}), and an independent sample costs {cost:.3g} score evaluations ({price})."
    )
    if rivals:
        text += f" {', '.join(rivals)} cost{'s' if len(rivals) == 1 else ''} the same within 2 standard errors."
    grid = study.h.values
    if h == grid.max():
        text += " It is the largest step of the study: larger ones may be cheaper still."
    return text

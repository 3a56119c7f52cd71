"""The frontier study: the integrator, friction and step size with the least cost for a given bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from uldnum._util.arguments import positive_number
from uldnum.diagnostics.metrics import study_metric
from uldnum.studies.common import AXES, RESOLVED, StepGrid, place_of, with_cost, without_law
from uldnum.studies.configuration import FrontierConfiguration, configured_by

__all__ = ["Advice", "advise", "frontier"]

# Number of standard errors that are added to a sampled bias before it is compared with a bound.
ERRORS = 2.0


@configured_by(FrontierConfiguration)
def frontier(study: FrontierConfiguration) -> xr.Dataset:
    """Measure the bias and the cost of an independent sample as functions of step size and friction.

    Chains start from exact draws of the target, or from the samples given as ``reference``. All step sizes and
    frictions of an integrator use the same random numbers.

    Returns
    -------
    xarray.Dataset
        The variables of `bias` and of `mixing`, with the dimensions ``integrator``, ``friction``, ``h``, ``metric`` and
        ``observable``. The flag ``resolved`` of `bias` is named ``bias_resolved`` here. `advise` returns the cheapest
        point for a bound on the bias.

    Raises
    ------
    ValueError
        If an argument is out of range or unknown. All arguments are checked before the first run.

    Warns
    -----
    UserWarning
        If metrics are left out, if chains diverged or the scheme has no stationary distribution at some step sizes, or
        if an exact answer could not be resolved to the tolerance.

    See Also
    --------
    advise : Cheapest point of a frontier for a bound on the bias.

    Examples
    --------
    >>> from uldnum import studies
    >>> found = studies.frontier("gaussian", ["ULA", "OBABO"], [0.25, 0.5], friction=1.0, nfe=50, burn_in=20,
    ...                          chains=16, backend="array")
    >>> found.cost.dims, found.bias.dims
    (('integrator', 'friction', 'h'), ('integrator', 'friction', 'h', 'metric'))
    """
    grid = StepGrid.of(study)
    return with_cost(grid.measured(study)).assign_attrs(study="frontier")


@dataclass(frozen=True)
class Advice:
    """The cheapest point of a frontier for a bound on the bias.

    Attributes
    ----------
    integrator : str
        Name of the integrator.
    friction : float or None
        Friction in units of 1/time; None if the cost does not depend on it.
    h : float
        Step size in units of time.
    bias, bias_error : float
        Bias at this point and its error. The bias is exact where the exact bias is known; its error is then the
        tolerance of the study, or 0 on Gaussians.
    cost, cost_error : float
        Score evaluations for an independent sample, and their error.
    rivals : tuple of str
        Other integrators whose cheapest point has the same cost within 2 standard errors.
    text : str
        The advice as a sentence.

    See Also
    --------
    advise : Function that returns this object.

    Examples
    --------
    >>> from uldnum import studies
    >>> found = studies.frontier("gaussian", ["ULA", "OBABO"], [0.25, 0.5], friction=1.0, nfe=50, burn_in=20,
    ...                          chains=16, backend="array")
    >>> advice = studies.advise(found, max_bias=0.05)
    >>> advice.integrator, advice.h
    ('OBABO', 0.5)
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

    A point with an exact bias qualifies if the sum of the bias and the tolerance of the study (0 on Gaussians) is below
    the bound. A point with a measured bias qualifies if the sum of the bias and 2 standard errors (or 2 noise floors,
    if these are larger) is below the bound. Points whose cost is only a lower bound, at which chains diverged, or at
    which the scheme is unstable, are excluded.

    Parameters
    ----------
    study : xarray.Dataset
        Complete dataset returned by `frontier`, with the dimensions ``integrator``, ``friction`` and ``h``.
    max_bias : float
        Bound on the bias, positive, in the units of the metric.
    metric : str, default "second_moment"
        Name of one of the metrics of the study, that is of ``study.metric``.

    Returns
    -------
    Advice
        The point, its bias and cost with their errors, and the integrators that have the same cost.

    Raises
    ------
    ValueError
        If no point qualifies; the message says what to change. Also if the bound is not a positive, finite number, if
        the metric is unknown, or if the dataset was not returned by `frontier`.

    Examples
    --------
    On N(0, 1) ULA and OBABO have the same bias. With friction, OBABO needs fewer evaluations for an independent sample:

    >>> from uldnum import studies
    >>> found = studies.frontier("gaussian", ["ULA", "OBABO"], [0.25, 0.5], friction=1.0, nfe=50, burn_in=20,
    ...                          chains=16, backend="array")
    >>> best = studies.advise(found, max_bias=0.05)
    >>> best.integrator, best.friction, best.h
    ('OBABO', 1.0, 0.5)
    """
    bound = positive_number("max_bias", max_bias)
    if not isinstance(study, xr.Dataset) or study.attrs.get("study") != "frontier" or set(AXES) - set(study.cost.dims):
        raise ValueError("study: must be a complete dataset returned by studies.frontier")
    one = of_metric(study, metric)
    known = one.exact.notnull()
    # The error of an exact bias is taken to be the tolerance of the study, and the relative error of an exact
    # autocorrelation time a hundred times the tolerance (see `TransferOperator.autocorrelation_time`).
    slack, most = study.attrs["exact_to"], at_most(one)
    bias, error = one.exact.where(known, one.bias), np.maximum(one.error, one.floor)
    cost = study.cost.where(study.exact_cost.isnull(), study.exact_cost)
    cost_error = study.cost_error.where(study.exact_cost.isnull(), 100 * slack * study.exact_cost)
    resolved = (study.cost_resolved | study.exact_cost.notnull()) & ~without_law(study) & cost.notnull()
    fit = (most <= bound) & resolved
    if not bool(fit.any()):
        raise ValueError(reason_for_none(study, one, most, resolved, bound))
    # The cheapest point of every integrator that has one, in order of cost.
    rows = [cost.where(fit).sel(integrator=name) for name in cost.integrator.values]
    best = sorted((cheapest(row) for row in rows if row.notnull().any()), key=lambda at: float(cost.sel(at)))
    at, others = best[0], best[1:]
    name, gamma, h = at["integrator"], at["friction"], at["h"]
    rivals = tuple(
        other["integrator"]
        for other in others
        if cost.sel(other) - cost.sel(at) <= ERRORS * np.hypot(cost_error.sel(other), cost_error.sel(at))
    )
    # The cost of a scheme without friction is the same at every friction.
    same = bool((cost.sel(integrator=name, h=h) == cost.sel(at)).all()) and study.sizes["friction"] > 1
    friction = None if same else float(gamma)
    found = [float(part.sel(at)) for part in (bias, error.where(~known, slack), cost, cost_error)]
    sure = bool(known.sel(at)), bool(study.exact_cost.notnull().sel(at))
    text = sentence(study, name, friction, float(h), bound, metric, found, sure, rivals)
    sooner = one.h < h
    least = (bias - ERRORS * error.where(~known, slack)).sel(integrator=name, friction=gamma)
    if bool((least.where(sooner) > most.sel(at)).any()):
        text += " The bias is larger at some smaller step sizes: it may be small there only because errors cancel."
    bias_, bias_error, cost_, price_error = found
    return Advice(name, friction, float(h), bias_, bias_error, cost_, price_error, rivals, text)


def of_metric(study: xr.Dataset, metric: str) -> xr.Dataset:
    """Return the part of a study that belongs to a metric.

    Raise a ValueError if the study does not contain the metric. A stored study may be older than a metric.
    """
    if metric not in study.metric.values:
        study_metric(metric)
        raise ValueError(f"metric: the study does not have {metric!r}; it has {', '.join(study.metric.values)}")
    return study.sel(metric=metric)


def at_most(one: xr.Dataset) -> xr.DataArray:
    """Return an upper bound of the bias in one metric.

    It is the exact bias plus the tolerance, or the measured bias plus 2 standard errors or 2 noise floors, whichever
    are larger.
    """
    sampled = one.bias + ERRORS * np.maximum(one.error, one.floor)
    return (one.exact + one.attrs["exact_to"]).where(one.exact.notnull(), sampled)


def cheapest(cost: xr.DataArray) -> dict[str, Any]:
    """Return the coordinates at which the cost of an integrator is least."""
    gamma, h = np.unravel_index(np.nanargmin(cost.values), cost.shape)
    return {"integrator": str(cost.integrator.values), "friction": cost.friction.values[gamma], "h": cost.h.values[h]}


def reason_for_none(
    study: xr.Dataset, one: xr.Dataset, most: xr.DataArray, resolved: xr.DataArray, bound: float
) -> str:
    """Return the reason why no point qualifies, and the remedy."""
    if bool((study.diverged > 0).all()):
        return "h: chains diverged at every point; take smaller steps"
    if bool(without_law(study).all()):
        return "h: no scheme has a stationary distribution at any of the step sizes; take smaller steps"
    if not bool(resolved.any()):
        return (
            f"nfe: every run is shorter than {RESOLVED} autocorrelation times; all costs are lower bounds; increase nfe"
        )
    if bool(((one.exact <= bound) & resolved).any()):
        slack = study.attrs["exact_to"]
        return f"tolerance: biases are below {bound:g}, but not by {slack:g}, the accuracy of exact biases; lower it"
    least = float(most.where(resolved).min())
    return (
        f"max_bias: no point was shown to have a bias below {bound:g}; the least is {least:.3g}, errors included: take "
        "smaller steps, or more chains or evaluations (nfe), which lower the noise"
    )


def sentence(
    study: xr.Dataset, name: str, friction: float | None, h: float, bound: float, metric: str, numbers: list[float],
    sure: tuple[bool, bool], rivals: tuple[str, ...],
) -> str:  # fmt: skip
    """Return the advice in words."""
    bias, bias_error, cost, cost_error = numbers
    at = f"h = {h:.4g}" + ("" if friction is None else f" and friction {friction:g}")
    how, price = (
        ("exact" if exact else "sampled") + (f", ± {error:.1g}" if error else "")
        for exact, error in zip(sure, (bias_error, cost_error), strict=True)
    )
    text = (
        f"To keep the bias of {metric} below {bound:g} on {place_of(study)}, use {name} at {at}: "
        f"its bias is {bias:.2g} ({how}), and an independent sample costs {cost:.3g} score evaluations ({price})."
    )
    if rivals:
        text += f" {', '.join(rivals)} cost{'s' if len(rivals) == 1 else ''} the same within 2 standard errors."
    grid = study.h.values
    if h == grid.max():
        text += " This is the largest step size of the study; larger ones may be cheaper."
    return text

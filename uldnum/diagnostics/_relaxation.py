"""Convergence from the initial state: distances between an ensemble of chains and its target as functions of time."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from uldnum.diagnostics.arguments import checked_run
from uldnum.diagnostics.expectations import target_of
from uldnum.diagnostics.jackknife import Bias
from uldnum.diagnostics.metrics import METRICS
from uldnum.sampling.run import Run
from uldnum.targets import Target

__all__ = ["relaxation"]


def relaxation(run: Run, target: Target | str, *, reference: Any = None) -> xr.Dataset:
    """Measure the distances between the chains of a run and the target at every stored step.

    Use it on a run that starts away from equilibrium, such as ``uldnum.sample(..., x0=..., burn_in=0, thin=...)`` with
    all chains in one mode.

    Parameters
    ----------
    run : Run
        Run with a trace (``thin``), a single step size and many chains.
    target : str, GaussianMixture, UserTarget or another Target
        Target, or its name. It determines which distances are measured:

        * ``wasserstein_1`` and ``kolmogorov`` need its cdf and standard deviation.
        * ``sliced_wasserstein_2`` needs exact draws.
        * ``mode_weights`` needs at least two known modes.
    reference : array, Run, str, Path, callable or Reference, optional
        Samples that supply the cdf, the standard deviation and the draws, as in `Reference.of`.

    Returns
    -------
    xarray.Dataset
        Variables ``value``, ``error`` and ``floor``, as in `uldnum.diagnostics.Bias`, with dimensions ``distance`` and
        ``nfe``, the number of score evaluations since the start of the run. ``wasserstein_1`` (in standard deviations
        of the target) and ``kolmogorov`` are means over axes.

    Raises
    ------
    ValueError
        If the run has no trace or several step sizes, if its samples have another shape than those of the target, or if
        the target does not provide the data for any of the distances.

    See Also
    --------
    uldnum.diagnostics.time_below : Time after which a distance stays below a bound.

    Examples
    --------
    >>> import uldnum
    >>> normal = uldnum.GaussianMixture(weights=[1.0], means=[[0.0]], variances=[1.0])
    >>> options = dict(h=0.5, steps=40, chains=500, thin=10, x0=[[3.0]] * 500, backend="array")
    >>> distances = uldnum.diagnostics.relaxation(uldnum.sample(normal, "ula", **options), normal)
    >>> distances.nfe.values.tolist()
    [10, 20, 30, 40]
    >>> distances.value.sel(distance="wasserstein_1").values.round(1).tolist()
    [0.8, 0.2, 0.1, 0.1]
    """
    checked_run(run).check_one_step_size()
    trace, target = run.recorded, target_of(run, target, reference)
    measures = {
        name: metric.of_positions for name, metric in METRICS.items() if metric.of_positions and metric.known(target)
    }
    if not measures:
        raise ValueError(
            f"target: {target.name!r} has no cdf, exact draws or modes; define one of 'cdf', 'draws' and 'modes', or "
            "pass reference=samples"
        )
    found = np.array([[measure(x, target) for x in trace] for measure in measures.values()])
    settings = run.settings
    steps = settings.burn_in + (settings.thin or 0) * np.arange(1, len(trace) + 1)
    data = {name: (("distance", "nfe"), found[..., i], {"units": "1"}) for i, name in enumerate(Bias._fields)}
    per_step, first = divmod(run.nfe, run.state.step)  # some schemes need an additional evaluation at the start
    nfe = ("nfe", first + per_step * steps, {"long_name": "score evaluations", "units": "1"})
    attributes = {"target": target.name, "integrator": settings.integrator, "h": settings.h[0]}
    attributes |= {"friction": settings.friction, "chains": settings.chains, "seed": settings.seed}
    return xr.Dataset(data, {"distance": list(measures), "nfe": nfe}, attributes)

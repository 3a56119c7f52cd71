"""The way to the target: distances of an ensemble of chains against time, from where they started."""

from __future__ import annotations

import numpy as np
import xarray as xr

from uldnum.diagnostics.arguments import checked_run, matching
from uldnum.diagnostics.jackknife import Bias
from uldnum.diagnostics.metrics import METRICS
from uldnum.sampling.run import Run
from uldnum.targets import Target

__all__ = ["relaxation"]


def relaxation(run: Run, target: Target | str) -> xr.Dataset:
    """Measure how far the chains of a run are from the target, after every recorded position.

    Start them where you like, ``uldnum.sample(..., x0=..., burn_in=0, thin=...)``: all in one mode, say.

    Parameters
    ----------
    run : Run
        At one step size, of many chains, with a trace (``thin``).
    target : str, GaussianMixture, UserTarget or another Target
        Distances that it does not know enough for are left out: wasserstein_1 and kolmogorov need its cdf and its
        standard deviation, sliced_wasserstein_2 exact draws, mode_weights several modes.

    Returns
    -------
    xarray.Dataset
        Dimensions distance and nfe (score evaluations since the start of the run); ``value``, ``error`` and ``floor``
        as in `uldnum.diagnostics.Bias`. wasserstein_1 (in standard deviations) and kolmogorov are means over axes.
        `time_below` turns a row into the time to reach a distance.

    Raises
    ------
    ValueError
        If the run kept no trace, or holds several step sizes, its samples have another shape than the target's, or the
        target knows enough for none of the distances.
    """
    checked_run(run).check_one_step_size()
    trace, target = run.recorded, matching(target, run.settings.shape)
    measures = {
        name: metric.of_positions for name, metric in METRICS.items() if metric.of_positions and metric.known(target)
    }
    if not measures:
        raise ValueError(f"target: {target.name!r} knows no distance; define its 'cdf', its 'draws' or its 'modes'")
    found = np.array([[measure(x, target) for x in trace] for measure in measures.values()])
    settings = run.settings
    steps = settings.burn_in + (settings.thin or 0) * np.arange(1, len(trace) + 1)
    data = {name: (("distance", "nfe"), found[..., i], {"units": "1"}) for i, name in enumerate(Bias._fields)}
    per_step, first = divmod(run.nfe, run.state.step)  # some schemes take one more to begin
    nfe = ("nfe", first + per_step * steps, {"long_name": "score evaluations", "units": "1"})
    attributes = {"target": target.name, "integrator": settings.integrator, "h": settings.h[0]}
    attributes |= {"friction": settings.friction, "chains": settings.chains, "seed": settings.seed}
    return xr.Dataset(data, {"distance": list(measures), "nfe": nfe}, attributes)

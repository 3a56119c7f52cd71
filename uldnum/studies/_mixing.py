"""The mixing study: how many score evaluations is an independent sample of each integrator worth."""

from __future__ import annotations

import xarray as xr

from uldnum.studies.common import StepGrid, with_cost
from uldnum.studies.configuration import SamplingConfiguration, configured_by

__all__ = ["mixing"]

MEASURED = ["time", "time_error", "resolved", "hops", "hops_error", "diverged", "unstable", "nfe"]


@configured_by(SamplingConfiguration)
def mixing(study: SamplingConfiguration) -> xr.Dataset:
    """Measure how fast integrators mix, at several step sizes and frictions.

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
        As for `bias`.
    """
    grid = StepGrid.of(study, bias=False)
    grid.check(study)
    exact = grid.exact(study)[["exact_time", "relaxation_time"]]
    found = exact.merge(grid.sampled(study)[MEASURED], combine_attrs="no_conflicts")
    return with_cost(found).drop_vars("metric", errors="ignore").assign_attrs(study="mixing")

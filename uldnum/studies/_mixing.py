"""The mixing study: cost of an independent sample as a function of step size and friction."""

from __future__ import annotations

import xarray as xr

from uldnum.studies.common import StepGrid, with_cost
from uldnum.studies.configuration import SamplingConfiguration, configured_by

__all__ = ["mixing"]

MEASURED = ["time", "time_error", "resolved", "hops", "hops_error", "diverged", "unstable", "nfe"]
EXACT = ["exact_time", "relaxation_time"]


@configured_by(SamplingConfiguration)
def mixing(study: SamplingConfiguration) -> xr.Dataset:
    """Measure the autocorrelation times of integrators at several step sizes and frictions.

    Chains start from exact draws of the target, or from samples of the reference.

    Returns
    -------
    xarray.Dataset
        Dimensions ``integrator``, ``friction``, ``h`` and ``observable`` ("x" and "x^2"), and these variables:

        * ``time``: integrated autocorrelation time in score evaluations, on the axis where it is longest. It is
          estimated from the variance of the means of chains (`uldnum.diagnostics.chain_mean_times`).
        * ``time_error``: standard error of the time.
        * ``resolved``: whether the run was at least 20 times as long as this time. If it was not, the time is a lower
          bound.
        * ``cost``: score evaluations for an independent sample, which is the longer of the times of x and x^2.
          ``cost_error`` is its standard error, and ``cost_resolved`` states whether both times are resolved.
        * ``hops``: rate of hops between the modes of a mixture, with the standard error ``hops_error``.
        * ``exact_time``, ``exact_cost``: exact times and costs, on Gaussians and in one dimension. They are NaN
          elsewhere, and at points that were left out because of the arguments ``exact`` and ``exact_seconds``.
        * ``relaxation_time``: exact number of score evaluations in which the slowest mode decays by a factor e, on
          Gaussians and in one dimension; NaN elsewhere.
        * ``diverged``, ``unstable`` and ``nfe``: as in `bias`.

        The attributes of the dataset hold all parameters of the study.

    Raises
    ------
    ValueError
        If an argument is out of range or unknown. All arguments are checked before the first run.

    Warns
    -----
    UserWarning
        If chains diverged or the scheme has no stationary distribution at some step sizes, or if an exact answer could
        not be resolved to the tolerance.

    See Also
    --------
    frontier : Bias and cost together.

    References
    ----------
    A. D. Sokal 1997, Monte Carlo methods in statistical mechanics: foundations and new algorithms, in Functional
    Integration, Springer.

    Examples
    --------
    On N(0, 1) the autocorrelation time of x is ``(2 - delta)/delta`` score evaluations with ULA, here 15 and 3:

    >>> from uldnum import studies
    >>> found = studies.mixing("gaussian", "ULA", [0.5, 1.0], friction=1.0, nfe=100, burn_in=50, chains=16,
    ...                        backend="array")
    >>> found.exact_cost.values.round(2).tolist()
    [[[15.0, 3.0]]]
    """
    grid = StepGrid.of(study, bias=False)
    return (
        with_cost(grid.measured(study)[EXACT + MEASURED])
        .drop_vars(["metric", "moment", "axis"], errors="ignore")
        .assign_attrs(study="mixing")
    )

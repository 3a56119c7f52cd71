"""The bias study: how wrong is the stationary law of each integrator as its step grows."""

from __future__ import annotations

import xarray as xr

from uldnum.studies.common import StepGrid
from uldnum.studies.configuration import BiasConfiguration, ExactBiasConfiguration, configured_by
from uldnum.studies.exact import has_exact_law

__all__ = ["bias", "exact_bias"]


@configured_by(BiasConfiguration)
def bias(study: BiasConfiguration) -> xr.Dataset:
    """Measure the bias of integrators at several step sizes, at an equal number of score evaluations.

    Runs start from exact draws of the target. All step sizes of an integrator share their random numbers.

    Returns
    -------
    xarray.Dataset
        Dimensions integrator, h and metric. ``bias`` of the metrics second_moment and mean is the root mean square over
        axes, in standard deviations of what is averaged; wasserstein_1 (in standard deviations of the axis) and
        kolmogorov are averages over axes of the distance of the marginal. ``error`` is its standard error, ``floor``
        what an unbiased run would show, ``exact`` the scheme's own bias where it is known (on Gaussians, and in one
        dimension), ``diverged`` the number of chains that diverged. Where ``unstable``, which is known on Gaussians,
        the scheme has no stationary law, and statistics depend on the number of steps. Chains start from exact draws:
        where ``settled`` is false, the burn-in was shorter than the autocorrelation time, and some of the bias is
        missing. Attributes hold every parameter.

    Raises
    ------
    ValueError
        If an argument is out of range or unknown; all are checked before the first run.

    Warns
    -----
    UserWarning
        If chains diverged, or the scheme has no stationary law at a step size; the message names the step sizes.
    """
    grid = StepGrid.of(study)
    grid.check(study)
    exact = grid.exact(study, with_times=False)[["exact"]]
    sampled = grid.sampled(study)[["bias", "error", "floor", "settled", "diverged", "unstable", "nfe"]]
    return flat(exact.merge(sampled, combine_attrs="no_conflicts"))


@configured_by(ExactBiasConfiguration)
def exact_bias(study: ExactBiasConfiguration) -> xr.Dataset:
    """Compute the bias of integrators at several step sizes, without sampling.

    Returns
    -------
    xarray.Dataset
        The variable ``exact`` of `bias`.

    Raises
    ------
    ValueError
        If an argument is out of range or unknown, or there is no exact answer for this target.
    """
    grid = StepGrid.of(study)
    if not has_exact_law(grid.target):
        raise ValueError(
            f"target: no exact answer on {grid.target.name!r}: only on Gaussians, and on targets in one dimension"
        )
    return flat(grid.exact(study, with_times=False)[["exact"]])


def flat(study: xr.Dataset) -> xr.Dataset:
    """Return a study of one friction without an axis for it."""
    found = study.isel(friction=0, drop=True).drop_vars("observable", errors="ignore")
    if "nfe" in found:
        found["nfe"] = found.nfe.isel(h=0)
    return found.assign_attrs(study="bias", friction=float(study.friction[0]))

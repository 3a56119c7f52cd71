"""The bias study: bias of the stationary distribution of integrators as a function of the step size."""

from __future__ import annotations

import xarray as xr

from uldnum.studies.common import StepGrid
from uldnum.studies.configuration import BiasConfiguration, ExactBiasConfiguration, configured_by

__all__ = ["bias", "exact_bias"]

EXACT = ["exact", "exact_signed"]
MEASURED = [
    *EXACT, "bias", "error", "floor", "bias_resolved", "signed_bias", "signed_error", "settled", "diverged", "unstable",
    "nfe",
]  # fmt: skip


@configured_by(BiasConfiguration)
def bias(study: BiasConfiguration) -> xr.Dataset:
    """Measure the bias of integrators at several step sizes, at an equal number of score evaluations.

    Chains start from exact draws of the target, or from samples of the reference. All step sizes of an integrator use
    the same random numbers.

    Returns
    -------
    xarray.Dataset
        Dimensions ``integrator``, ``friction`` (if there are several), ``h`` and ``metric``, and these variables:

        * ``bias``: measured bias. For ``second_moment`` and ``mean`` it is the root mean square over axes of the error
          of the averages of x^2 and of x, in standard deviations of x^2 and of x. For ``wasserstein_1`` (in standard
          deviations of the axis), ``kolmogorov``, ``total_variation`` and ``kl`` (in nats) it is the mean over axes of
          the distance or divergence of the marginal. ``virial`` is the error of ``E[-(x - E[x]).s(x)] = d`` at the
          stored positions, or at the final ones. ``kinetic_temperature`` is the error of the kinetic temperature
          divided by the temperature. It is NaN for integrators without momenta, and there is no such metric if no
          integrator has momenta. With a reference there are also ``sliced_wasserstein_2``,
          ``maximum_mean_discrepancy``, ``kernel_stein_discrepancy`` and, if the target has modes, ``mode_weights``, as
          in `uldnum.diagnostics`; they use 32 positions of each chain. Metrics that cannot be measured are left out,
          with a warning.
        * ``error``: standard error of the bias.
        * ``floor``: expected value of ``bias`` for a run without bias, due to statistical noise. With a reference,
          error and floor include its noise.
        * ``resolved``: whether the magnitude of the bias is larger than 4 times the floor.
        * ``signed_bias``, ``signed_error``: bias with its sign, and its standard error, in standard deviations of the
          observable; positive if the average is too large. Their dimensions are ``moment`` (the metrics that are root
          mean squares: ``second_moment``, ``mean`` and the observables) and ``axis`` (coordinates, or components of an
          observable; NaN beyond the last one; images are flattened).
        * ``exact``: exact bias of the scheme, on Gaussians and in one dimension. It is NaN elsewhere, and at points
          that were left out because of the arguments ``exact`` and ``exact_seconds``.
        * ``exact_signed``: exact value of ``signed_bias``, with the same dimensions; NaN where ``exact`` is, and for
          observables.
        * ``settled``: whether the burn-in was at least as long as the autocorrelation times. If it was not, the
          measured bias is too small, because chains start without bias.
        * ``diverged``: number of chains that diverged.
        * ``unstable``: whether the scheme is known to have no stationary distribution (on a Gaussian, at or above the
          limit of stability). If so, the statistics depend on the number of steps.
        * ``nfe``: score evaluations per chain, burn-in included.

        The attributes of the dataset hold all parameters of the study, a description of the reference (``reference``),
        and the metrics that were left out, with the reason (``left_out``).

    Raises
    ------
    ValueError
        If an argument is out of range or unknown. All arguments are checked before the first run.

    Warns
    -----
    UserWarning
        If metrics are left out, or if chains diverged or the scheme has no stationary distribution at some step sizes.
        The message names them.

    See Also
    --------
    exact_bias : The exact bias only, without sampling.
    frontier : Bias and cost at several frictions.

    Examples
    --------
    >>> from uldnum import studies
    >>> found = studies.bias("gaussian", "OBABO", h=[0.5, 1.0], nfe=100, burn_in=20, chains=16, backend="array")
    >>> found.bias.dims, found.sizes["h"]
    (('integrator', 'h', 'metric'), 2)
    """
    grid = StepGrid.of(study)
    return flat(grid.measured(study, with_times=False)[MEASURED]).rename(bias_resolved="resolved")


@configured_by(ExactBiasConfiguration)
def exact_bias(study: ExactBiasConfiguration) -> xr.Dataset:
    """Compute the exact bias of integrators at several step sizes, without sampling.

    Returns
    -------
    xarray.Dataset
        The variable ``exact`` with the dimensions ``integrator``, ``friction`` (if there are several), ``h`` and
        ``metric``, and the variable ``exact_signed`` with ``moment`` and ``axis`` in place of ``metric``, as in `bias`.
        They are NaN where the scheme is unstable and where the answer could not be resolved to the tolerance.

    Raises
    ------
    ValueError
        If an argument is out of range or unknown, or if the target is neither Gaussian nor one-dimensional.

    Warns
    -----
    UserWarning
        If an answer could not be resolved to the tolerance.

    See Also
    --------
    uldnum.exact.gaussian, uldnum.exact.transfer_operator : Methods that compute the stationary distribution.

    Examples
    --------
    On a Gaussian, BAOAB samples x without bias. The variance of x is too large by a factor ``1/(1 - h^2/4)`` with
    OBABO, and the standard deviation of x^2 is sqrt(2):

    >>> from uldnum import studies
    >>> found = studies.exact_bias("gaussian", ["BAOAB", "OBABO"], h=[0.5, 1.0])
    >>> found.exact.sel(metric="second_moment", integrator="BAOAB").values.tolist()
    [0.0, 0.0]
    >>> found.exact.sel(metric="second_moment", integrator="OBABO").values.round(4).tolist()
    [0.0471, 0.2357]
    """
    return flat(StepGrid.of(study).exact(study, with_times=False)[EXACT])


def flat(study: xr.Dataset) -> xr.Dataset:
    """Return a study of biases, without the dimension ``friction`` if it has a single friction."""
    found = study.drop_vars("observable", errors="ignore").assign_attrs(study="bias", friction=study.friction.values)
    if "nfe" in found:
        found["nfe"] = found.nfe.isel(friction=0, h=0, drop=True)
    if len(found.friction) > 1:
        return found
    return found.isel(friction=0, drop=True).assign_attrs(friction=float(study.friction[0]))

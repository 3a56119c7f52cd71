"""Kinetic temperature of the momenta of a run, and its error."""

from __future__ import annotations

from typing import Any

import numpy as np

from uldnum._util.typing import Array
from uldnum.diagnostics.arguments import checked_run
from uldnum.diagnostics.bias import Truth, rms_bias
from uldnum.diagnostics.jackknife import Bias
from uldnum.diagnostics.mixing import Estimate
from uldnum.sampling.moments import standard_error
from uldnum.sampling.run import Run
from uldnum.targets.mass import Mass

__all__ = ["kinetic_temperature", "kinetic_temperature_bias"]


def kinetic_temperature(run: Any) -> Estimate:
    """Return the kinetic temperature ``E[p.M^-1 p]/d`` of the chains of a run.

    Parameters
    ----------
    run : Run
        Run of an integrator with momenta, with one or several step sizes.

    Returns
    -------
    Estimate
        The temperature with its standard error, scalars, or arrays of shape (H,) for several step sizes. They are NaN
        where a chain diverged. The error is NaN for a single chain.

    Raises
    ------
    ValueError
        If the second row of the integrator does not hold momenta.

    Notes
    -----
    If the run recorded its momenta, the average is over chains and recorded steps, and the result is
    `Run.kinetic_temperature`. Otherwise it is the average over chains at the end of the last step, and its relative
    error on Gaussians is about ``sqrt(2/(d chains))``. `Integrator.at_half_step` returns the integrator with the
    momenta of the half step.

    Examples
    --------
    On N(0, 1) at h = 1, the momenta of BAOAB have the variance 3/4 at the end of a step, and 1 at the half step:

    >>> import uldnum
    >>> baoab = uldnum.integrator("BAOAB")
    >>> options = {"h": 1.0, "steps": 100, "burn_in": 20, "chains": 2000, "record": "phase-space-variance"}
    >>> for scheme, exact in ((baoab, 0.75), (baoab.at_half_step(), 1.0)):
    ...     run = uldnum.sample("gaussian", scheme, backend="array", **options)
    ...     found = uldnum.diagnostics.kinetic_temperature(run)
    ...     print(bool(abs(found.value - exact) < 4 * found.error))
    True
    True
    """
    settings = checked_run(run).settings
    if not settings.momenta:
        raise ValueError(f"run: must be one of an integrator with momenta, got {settings.integrator!r}")
    own = temperatures(run)
    return Estimate(own.mean(axis=-1), standard_error(own, axis=-1))


def temperatures(run: Run) -> Array:
    """Return the kinetic temperature of each chain, shape (chains,) or (H, chains), as in `kinetic_temperature`."""
    if run.records_momenta:
        return run.kinetic_temperatures
    settings, p = run.settings, run.state.phase_space[:, :, 1].astype(float)
    mass = Mass.of(settings.mass, settings.shape)
    with np.errstate(all="ignore"):  # the momenta of diverged chains may overflow
        own = np.mean(np.square(p if mass is None else mass.forces(p)), axis=-1)
        own[np.atleast_1d(run.diverged) > 0] = np.nan
    return run.each(own)


def kinetic_temperature_bias(run: Run, target: Any) -> Bias:
    """Return the error ``|T_kinetic/T - 1|`` of the kinetic temperature of a run at the temperature T.

    The run has a single step size. All parts are NaN if the integrator has no momenta, or if a chain diverged.
    """
    if not run.settings.momenta or run.diverged:
        return Bias(*np.full(3, np.nan))
    return rms_bias(temperatures(run)[:, None] / run.settings.temperature, Truth(np.ones(1), np.ones(1)))

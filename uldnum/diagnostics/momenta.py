"""Kinetic temperature of the momenta of a run."""

from __future__ import annotations

from typing import Any

import numpy as np

from uldnum.diagnostics.arguments import checked_run
from uldnum.diagnostics.mixing import Estimate
from uldnum.sampling.moments import standard_error
from uldnum.targets.mass import Mass

__all__ = ["kinetic_temperature"]


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
    if run.records_momenta:
        return Estimate(run.kinetic_temperature, run.kinetic_temperature_error)
    p, mass = run.state.phase_space[:, :, 1].astype(float), Mass.of(settings.mass, settings.shape)
    with np.errstate(all="ignore"):  # the momenta of diverged chains may overflow
        own = np.mean(np.square(p if mass is None else mass.forces(p)), axis=-1)
        own[np.atleast_1d(run.diverged) > 0] = np.nan
    return Estimate(run.each(own.mean(axis=1)), run.each(standard_error(own, axis=1)))

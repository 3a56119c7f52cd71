"""Bias of the moments of a run, with standard error and noise floor.

The bias of an observable f is the root mean square, over the axes i, of the error of its mean in units of its standard
deviation: ``b^2 = mean_i (E[f(x_i)]_run - E[f(x_i)])^2 / Var[f(x_i)]``, as in Robnik & Seljak, MicroCanonicalHMC.
"""

from __future__ import annotations

import numpy as np

from uldnum._util.arguments import result_of
from uldnum._util.typing import Array
from uldnum.diagnostics.arguments import checked_run, matching
from uldnum.diagnostics.jackknife import Bias, euclidean_norm
from uldnum.sampling.run import Run
from uldnum.targets import Target, lacking

__all__ = ["deviation", "known_moment", "mean_bias", "rms_bias", "second_moment_bias"]


def rms_bias(values: Array, exact: Array, scale: Array) -> Bias:
    """Return the root mean square over axes of ``(E[values] - exact)/scale``.

    Parameters
    ----------
    values : array, shape (..., chains, d)
        Independent estimates, one per chain.
    exact : array, shape (d,)
        Exact expectation.
    scale : array, shape (d,)
        Unit of the bias on each axis.

    Returns
    -------
    Bias
        Arrays of shape (...).
    """
    chains, d = values.shape[-2:]
    gaps = (values - exact) / (scale * np.sqrt(d))
    mean = gaps.mean(axis=-2)
    deviations = (gaps - mean[..., None, :]) / np.sqrt(chains * (chains - 1)) if chains > 1 else gaps * np.nan
    projections = (deviations @ mean[..., None])[..., 0]
    across = deviations.swapaxes(-2, -1)
    products = across @ deviations if d < chains else deviations @ across
    return euclidean_norm(np.sum(mean**2, axis=-1), projections, products, chains)


def mean_bias(run: Run, target: Target | str) -> Bias:
    """Return the bias of E[x_i] in standard deviations of x_i.

    Parameters
    ----------
    run : Run
        Run of `uldnum.sample` on vectors, with one or several step sizes.
    target : str, GaussianMixture, UserTarget or another Target
        Target with known moments of orders 1 and 2, or its name.

    Returns
    -------
    Bias
        Dimensionless; scalars, or arrays of shape (H,) for several step sizes. The value is not negative. All parts are
        NaN where a chain diverged. The error is NaN for fewer than three chains, the floor for a single chain.

    Raises
    ------
    ValueError
        If the moments of the target are unknown, if its samples have another shape than those of the run, or if the run
        has no moments (runs on images and runs of plans).

    Notes
    -----
    The value b is the root mean square over the axes i::

        b^2 = mean_i (E[x_i]_run - E[x_i])^2 / Var[x_i].

    The floor is the root mean square of the standard errors of the axes, which is the root mean square of b for an
    unbiased run. The error is that of `uldnum.diagnostics.jackknife.euclidean_norm`.

    Examples
    --------
    >>> import uldnum
    >>> normal = uldnum.GaussianMixture(weights=[1.0], means=[[0.0]], variances=[1.0])
    >>> run = uldnum.sample(normal, "BAOAB", h=1.0, steps=100, burn_in=20, chains=2000, backend="array")
    >>> bias = uldnum.diagnostics.mean_bias(run, normal)
    >>> bool(bias.value < 4 * bias.floor)
    True
    """
    target = matching(target, checked_run(run).settings.shape)
    first, second = known_moment(target, 1), known_moment(target, 2)
    return rms_bias(run.moments.chain_mean, first, deviation(target, first, second))


def second_moment_bias(run: Run, target: Target | str) -> Bias:
    """Return the bias of E[x_i^2] in standard deviations of x_i^2.

    Parameters
    ----------
    run : Run
        Run of `uldnum.sample` on vectors, with one or several step sizes.
    target : str, GaussianMixture, UserTarget or another Target
        Target with known moments of orders 2 and 4, or its name.

    Returns
    -------
    Bias
        Dimensionless; scalars, or arrays of shape (H,) for several step sizes. The value is not negative. All parts are
        NaN where a chain diverged. The error is NaN for fewer than three chains, the floor for a single chain.

    Raises
    ------
    ValueError
        If the moments of the target are unknown, if its samples have another shape than those of the run, or if the run
        has no moments (runs on images and runs of plans).

    Notes
    -----
    The value b is the root mean square over the axes i, with moments about 0::

        b^2 = mean_i (E[x_i^2]_run - E[x_i^2])^2 / Var[x_i^2].

    Error and floor are those of `mean_bias`. On N(0, 1), ULA has ``b = 1/sqrt(2) (1/(1 - delta/2) - 1)``.

    Examples
    --------
    For delta = 0.5 the bias of ULA is 0.236:

    >>> import uldnum
    >>> normal = uldnum.GaussianMixture(weights=[1.0], means=[[0.0]], variances=[1.0])
    >>> run = uldnum.sample(normal, "ula", delta=0.5, steps=100, burn_in=20, chains=2000, backend="array")
    >>> bias = uldnum.diagnostics.second_moment_bias(run, normal)
    >>> bool(abs(bias.value - 0.236) < 4 * bias.error)
    True
    """
    target = matching(target, checked_run(run).settings.shape)
    second, fourth = known_moment(target, 2), known_moment(target, 4)
    return rms_bias(run.moments.chain_square, second, deviation(target, second, fourth))


def deviation(target: Target, mean: Array, square: Array) -> Array:
    """Return the standard deviation of an observable from its mean and mean square, or raise if it is not positive."""
    variance = square - mean**2
    if not np.all(variance > 0):
        raise ValueError(f"target: the moments of {target.name!r} must give positive variances, got {variance}")
    return np.sqrt(variance)


def known_moment(target: Target, order: int) -> Array:
    """Return E[x_i^order] of a target, or raise if it is unknown."""
    if target.moment is None:
        raise lacking(target, "its moments", "moment")
    found = result_of("target: moment", target.moment, order)
    if found.shape != target.shape or not np.all(np.isfinite(found)):
        raise ValueError(f"target: moment({order}) of {target.name!r} must be finite and have shape {target.shape}")
    return found

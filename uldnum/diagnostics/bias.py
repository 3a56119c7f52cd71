"""Bias of a run, with its standard error and its noise floor.

A bias is the root mean square, over axes, of the error of an expectation in units of the standard deviation of what is
averaged (as in Robnik & Seljak, MicroCanonicalHMC: ``b^2 = mean_i (E[x_i^2]_run - E[x_i^2])^2 / Var[x_i^2]``).
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
    """Root mean square over axes of ``(E[values] - exact)/scale``.

    Parameters
    ----------
    values : array, shape (..., chains, d)
        One independent estimate for each chain.
    exact, scale : arrays, shape (d,)
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
    """Bias of E[x_i], in standard deviations of x_i.

    ``b^2 = mean_i (E[x_i]_run - E[x_i])^2 / Var[x_i]``, over the axes i.

    Parameters
    ----------
    run : Run
        From `uldnum.sample`, on vectors; one step size or several.
    target : str, GaussianMixture, UserTarget or another Target
        With its moments of orders 1 and 2.

    Returns
    -------
    Bias
        Numbers without unit, or arrays of shape (H,) for several step sizes. The value is not negative; the error is
        that of `uldnum.diagnostics.jackknife.euclidean_norm`; the floor is the root mean square of the axes' standard
        errors, which is that of the value of an unbiased run. NaN where chains diverged; with one chain error and floor
        are NaN, with two the error.

    Raises
    ------
    ValueError
        If the target does not know its moments, or its samples have another shape than the run's; or the run keeps no
        moments, as of images and plans.
    """
    target = matching(target, checked_run(run).settings.shape)
    first, second = known_moment(target, 1), known_moment(target, 2)
    return rms_bias(run.moments.chain_mean, first, deviation(target, first, second))


def second_moment_bias(run: Run, target: Target | str) -> Bias:
    """Bias of E[x_i^2], in standard deviations of x_i^2.

    ``b^2 = mean_i (E[x_i^2]_run - E[x_i^2])^2 / Var[x_i^2]``, over the axes i; about 0, not about the mean.

    Parameters
    ----------
    run : Run
        From `uldnum.sample`, on vectors; one step size or several.
    target : str, GaussianMixture, UserTarget or another Target
        With its moments of orders 2 and 4.

    Returns
    -------
    Bias
        As of `mean_bias`.

    Raises
    ------
    ValueError
        If the target does not know its moments, or its samples have another shape than the run's; or the run keeps no
        moments, as of images and plans.
    """
    target = matching(target, checked_run(run).settings.shape)
    second, fourth = known_moment(target, 2), known_moment(target, 4)
    return rms_bias(run.moments.chain_square, second, deviation(target, second, fourth))


def deviation(target: Target, mean: Array, square: Array) -> Array:
    """Return the standard deviation of something from the means of it and of its square, or raise."""
    variance = square - mean**2
    if not np.all(variance > 0):
        raise ValueError(f"target: the moments of {target.name!r} belong to no law: one has a variance of {variance}")
    return np.sqrt(variance)


def known_moment(target: Target, order: int) -> Array:
    """Return E[x_i^order], or say that the target does not know it."""
    if target.moment is None:
        raise lacking(target, "its moments", "moment")
    found = result_of("target: moment", target.moment, order)
    if found.shape != target.shape or not np.all(np.isfinite(found)):
        raise ValueError(f"target: moment({order}) of {target.name!r} must be finite and have shape {target.shape}")
    return found

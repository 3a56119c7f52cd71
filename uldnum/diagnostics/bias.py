"""Bias of a run, with its standard error and its noise floor.

A bias is the root mean square, over axes, of the error of an expectation in units of the standard deviation of what is
averaged (as in Robnik & Seljak, MicroCanonicalHMC: ``b^2 = mean_i (E[x_i^2]_run - E[x_i^2])^2 / Var[x_i^2]``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from uldnum.moments import Moments, standard_error
from uldnum.targets import GaussianMixture
from uldnum.typing import Array

__all__ = ["METRICS", "Bias", "mean_bias", "rms_bias", "second_moment_bias"]


class Bias(NamedTuple):
    """A bias, its standard error, and its noise floor: the root mean square that an unbiased run would show."""

    value: Array
    error: Array
    floor: Array


def rms_bias(values: Array, exact: Array, scale: Array) -> Bias:
    """Root mean square over axes of ``(E[values] - exact)/scale``.

    Parameters
    ----------
    values : array, shape (..., chains, d)
        One independent estimate for each chain.
    exact, scale : arrays, shape (d,)
    """
    gaps = (values - exact) / scale
    mean = gaps.mean(axis=-2)
    value = np.sqrt(np.mean(mean**2, axis=-1))
    # To first order value moves with each chain by the projection of its gap on the direction of the bias.
    projected = (gaps * mean[..., None, :]).mean(axis=-1) / value[..., None]
    floor = np.sqrt(np.mean(standard_error(gaps, axis=-2) ** 2, axis=-1))
    return Bias(value, standard_error(projected, axis=-1), floor)


def mean_bias(moments: Moments, target: GaussianMixture) -> Bias:
    """Bias of E[x_i], in standard deviations of x_i."""
    return rms_bias(moments.chain_mean, target.mean, target.standard_deviation)


def second_moment_bias(moments: Moments, target: GaussianMixture) -> Bias:
    """Bias of E[x_i^2], in standard deviations of x_i^2."""
    second = target.moment(2)
    return rms_bias(moments.chain_square, second, np.sqrt(target.moment(4) - second**2))


METRICS = {"mean": mean_bias, "second_moment": second_moment_bias}

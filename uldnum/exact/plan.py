"""The exact law of a run through noise levels, on Gaussian data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from uldnum.exact.linear import linear_step
from uldnum.integrators import Integrator, positive, step_size, whole_number
from uldnum.integrators import integrator as find_integrator
from uldnum.targets.mixture import numbers
from uldnum.typing import Array, ArrayLike

__all__ = ["Leg", "PlanLaw", "plan"]


class Leg(NamedTuple):
    """A number of time steps at one noise level.

    Attributes
    ----------
    integrator : str or Integrator
        The integrator; all legs of a plan keep the same number of rows.
    h : float
        Step size, absolute.
    steps : int
        Number of time steps, at least 1.
    alpha, sigma : float
        Noise level: data z0 is seen as ``alpha z0 + sigma eps``.
    friction : float
        Friction, absolute.
    """

    integrator: str | Integrator
    h: float
    steps: int
    alpha: float = 1.0
    sigma: float = 0.0
    friction: float = 1.0


class PlanLaw(NamedTuple):
    """Gaussian law of the state (x, p) after every leg.

    Attributes
    ----------
    mean : array, shape (legs, ..., k)
        Mean.
    covariance : array, shape (legs, ..., k, k)
        Covariance.
    """

    mean: Array
    covariance: Array


def plan(
    legs: Sequence[Leg],
    *,
    data_mean: ArrayLike = 0.0,
    data_variance: ArrayLike = 1.0,
    start_mean: ArrayLike = 0.0,
    start_variance: ArrayLike = 1.0,
) -> PlanLaw:
    """Return the exact law of (x, p) after every leg of a plan, on data N(data_mean, data_variance).

    At level (alpha, sigma) the target is N(alpha data_mean, alpha^2 data_variance + sigma^2). Between legs the chain
    closes with the old tables and opens with the new ones, each with the score of its own level; (x, p) stays.

    Parameters
    ----------
    legs : sequence of Leg
        The plan.
    data_mean, data_variance : float or array
        The data; arrays are independent coordinates.
    start_mean, start_variance : float or array
        Law of x at the start; the memory starts as in a run, centred with the integrator's standard deviation.

    Returns
    -------
    PlanLaw
        Arrays whose middle axes are those of the coordinates.

    Raises
    ------
    ValueError
        If there is no leg, a number is out of range, or legs keep different numbers of rows.
    """
    schemes = [find_integrator(leg.integrator) for leg in legs]
    if len({scheme.rows for scheme in schemes}) != 1:
        raise ValueError(f"legs: need at least one, all with the same number of rows; got {[s.name for s in schemes]}")
    for leg in legs:
        whole_number("legs: steps", leg.steps, 1, 2**48)
        if not (np.isfinite(leg.alpha) and leg.sigma >= 0 and 0 < leg.alpha**2 + leg.sigma**2 < np.inf):
            raise ValueError(f"legs: alpha and sigma must be finite, sigma not negative, and not both 0, got {leg}")
        if step_size(leg.h, None).ndim:
            raise ValueError(f"legs: h must be a number, got {leg}")
    variances = positive("data_variance", data_variance), positive("start_variance", start_variance)
    centres = numbers("data_mean", data_mean), numbers("start_mean", start_mean)
    try:
        data_mean, start_mean, data_variance, start_variance = np.broadcast_arrays(*centres, *variances)
    except ValueError:
        raise ValueError(
            "data_mean, data_variance, start_mean, start_variance: their shapes do not broadcast"
        ) from None

    k = schemes[0].rows
    mean = np.zeros((*data_mean.shape, k + 1))  # the last row is always 1, and carries the centre of the target
    mean[..., 0], mean[..., k] = start_mean, 1
    covariance = np.zeros((*mean.shape, k + 1))
    covariance[..., 0, 0] = start_variance
    covariance[..., range(1, k), range(1, k)] = schemes[0].memory ** 2
    means, covariances = [], []
    for scheme, leg in zip(schemes, legs, strict=True):
        step = scheme.stages(np.full(data_mean.shape, leg.h), friction=leg.friction)
        precision = 1 / (leg.alpha**2 * data_variance + leg.sigma**2)
        run = linear_step(step, precision, leg.alpha * data_mean).run(leg.steps)
        mean, covariance = mean + (run.D @ mean[..., None])[..., 0], run.push(covariance)
        means.append(mean[..., :k])
        covariances.append(covariance[..., :k, :k])
    return PlanLaw(np.stack(means), np.stack(covariances))

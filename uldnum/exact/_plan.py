"""The exact law of a run through noise levels, on Gaussian data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from uldnum._util.arguments import broadcast, numbers, shown
from uldnum._util.typing import Array, ArrayLike
from uldnum.exact.linear import linear_step
from uldnum.plans._plan import Plan

__all__ = ["PlanLaw", "plan"]


class PlanLaw(NamedTuple):
    """Gaussian law of what every phase hands over: the state (x, p); between shared boundaries what lies between steps.

    Attributes
    ----------
    mean : array, shape (phases, ..., k)
        Mean.
    covariance : array, shape (phases, ..., k, k)
        Covariance.
    """

    mean: Array
    covariance: Array


@np.errstate(over="ignore", invalid="ignore")  # what grows beyond float64 is infinite or NaN
def plan(
    run: Plan,
    *,
    data_mean: ArrayLike = 0.0,
    data_variance: ArrayLike = 1.0,
    start_mean: ArrayLike = 0.0,
    start_variance: ArrayLike = 1.0,
) -> PlanLaw:
    """Return the exact law after every phase of a plan, on data N(data_mean, data_variance).

    At level (alpha, sigma) the target is N(alpha data_mean, alpha^2 data_variance + sigma^2). Every phase is an affine
    map with Gaussian noise; what it hands over is the whole state (x, p), or with shared boundaries, where the plan is
    not ``on_step``, what the recurrence remembers, but for the last.

    Parameters
    ----------
    run : Plan
        From `uldnum.plan`.
    data_mean, data_variance : float or array
        The data; arrays are independent coordinates.
    start_mean, start_variance : float or array
        Law of x at the start; the memory starts as in a run, centred with the plan's standard deviations.

    Returns
    -------
    PlanLaw
        Arrays whose middle axes are those of the coordinates.

    Raises
    ------
    ValueError
        If a number is out of range, or the shapes do not fit each other, or step sizes follow the score.
    """
    if not isinstance(run, Plan):
        raise ValueError(f"run: must come from uldnum.plan, got {shown(run)}")
    variances = numbers("data_variance", data_variance), numbers("start_variance", start_variance)
    for name, variance in zip(("data_variance", "start_variance"), variances, strict=True):
        if np.any(variance < 0):
            raise ValueError(f"{name}: must not be negative, got {shown(variance.tolist())}")
    data_mean, data_variance, start_mean, start_variance = broadcast(
        data_mean=numbers("data_mean", data_mean),
        data_variance=variances[0],
        start_mean=numbers("start_mean", start_mean),
        start_variance=variances[1],
    )
    shape, k = data_mean.shape, run.rows
    mean = np.zeros((data_mean.size, k + 1))  # the last row is always 1, and carries the centre of the target
    mean[:, 0], mean[:, k] = start_mean.ravel(), 1
    covariance = np.zeros((*mean.shape, k + 1))
    covariance[:, 0, 0] = start_variance.ravel()
    covariance[:, range(1, k), range(1, k)] = run.memory**2
    means, covariances = [], []
    if run.adaptive:
        raise ValueError("run: step sizes that depend on the score and the noise leave no Gaussian law")
    for phase in run.phases:
        precision = 1 / (phase.alpha**2 * data_variance.ravel() + phase.sigma**2)
        taken = linear_step(phase.step, precision, phase.alpha * data_mean.ravel()).run(phase.count)
        mean, covariance = mean + (taken.D @ mean[..., None])[..., 0], taken.push(covariance)
        means.append(mean[:, :k].reshape(*shape, k))
        covariances.append(covariance[:, :k, :k].reshape(*shape, k, k))
    return PlanLaw(np.stack(means), np.stack(covariances))

"""The exact distribution of a chain after every noise level of a plan, on Gaussian data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from uldnum._util.arguments import broadcast, numbers, shown
from uldnum._util.summary import Summary, counted, entries, selected
from uldnum._util.typing import Array, ArrayLike
from uldnum.exact.linear import linear_step
from uldnum.plans._plan import Plan

__all__ = ["PlanLaw", "plan"]


class PlanLaw(NamedTuple):
    """The Gaussian distribution of the state at the end of every phase of a plan.

    The state at the end of a phase is (x, p) if the plan is ``on_step``. In a plan with shared boundaries a phase ends
    between two time steps, and its state is the memory u of the recurrence; only the last phase ends with (x, p).

    Attributes
    ----------
    mean : float64 array, shape (phases, ..., k)
        Mean of the k rows of the state.
    covariance : float64 array, shape (phases, ..., k, k)
        Covariance of the k rows of the state.

    See Also
    --------
    plan : Function that returns this object.
    """

    mean: Array
    covariance: Array

    @property
    def summary(self) -> Summary:
        """Mean and standard deviation of x after some of the phases, for the first coordinates."""
        chosen = selected(len(self.mean))
        moments = zip(self.mean[chosen, ..., 0], self.covariance[chosen, ..., 0, 0], strict=True)
        rows = [
            [str(i + 1), entries(mean.ravel()), entries(np.sqrt(variance).ravel())]
            for i, (mean, variance) in zip(chosen, moments, strict=True)
        ]
        title = f"Law of x after {counted(len(self.mean), 'phase')} of a plan"
        return Summary(title, ["phase", "mean", "standard deviation"], rows)

    def __repr__(self) -> str:
        return str(self.summary)

    def _repr_html_(self) -> str:
        return self.summary.html


@np.errstate(over="ignore", invalid="ignore")  # values beyond the range of float64 become infinite or NaN
def plan(
    run: Plan,
    *,
    data_mean: ArrayLike = 0.0,
    data_variance: ArrayLike = 1.0,
    start_mean: ArrayLike = 0.0,
    start_variance: ArrayLike = 1.0,
) -> PlanLaw:
    """Return the exact distribution after every phase of a plan, on data N(data_mean, data_variance).

    At the noise level (alpha, sigma) the target is ``N(alpha data_mean, alpha^2 data_variance + sigma^2)``. Its score
    is affine, so every phase is an affine map with Gaussian noise.

    Parameters
    ----------
    run : Plan
        Plan returned by `uldnum.plan` or `uldnum.preset`.
    data_mean : float or array, default 0.0
        Mean of the data. The elements of an array are independent coordinates.
    data_variance : float or array, default 1.0
        Variance of the data, at least 0.
    start_mean : float or array, default 0.0
        Mean of x at the start.
    start_variance : float or array, default 1.0
        Variance of x at the start, at least 0. The other rows of the memory start as in a run: with mean 0 and the
        standard deviations that the plan prescribes.

    Returns
    -------
    PlanLaw
        Mean and covariance of the state at the end of every phase. The first axis is that of the phases; the axes of
        the broadcast arguments follow.

    Raises
    ------
    ValueError
        If ``run`` is not a plan, if its step sizes depend on the score, if a variance is negative, if a number is not
        finite, or if the shapes do not broadcast.

    Examples
    --------
    A run of DDIM starts at the noise level sigma = 50 and ends with a standard deviation close to that of the data,
    0.5:

    >>> import uldnum
    >>> from uldnum import exact
    >>> plan = uldnum.plan("ddim", uldnum.levels.geometric(50.0, 0.01, 200))
    >>> law = exact.plan(plan, data_variance=0.25, start_variance=50.0**2)
    >>> round(float(law.covariance[-1, 0, 0]) ** 0.5, 3)
    0.495
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
    mean = np.zeros((data_mean.size, k + 1))  # the last row is always 1 and multiplies the centre of the target
    mean[:, 0], mean[:, k] = start_mean.ravel(), 1
    covariance = np.zeros((*mean.shape, k + 1))
    covariance[:, 0, 0] = start_variance.ravel()
    covariance[:, range(1, k), range(1, k)] = run.memory**2
    means, covariances = [], []
    if run.adaptive:
        raise ValueError("run: must have step sizes that do not depend on the score, got a plan with the snr rule")

    for phase in run.phases:
        precision = 1 / (phase.alpha**2 * data_variance.ravel() + phase.sigma**2)
        taken = linear_step(phase.step, precision, phase.alpha * data_mean.ravel()).run(phase.count)
        mean, covariance = mean + (taken.D @ mean[..., None])[..., 0], taken.push(covariance)
        means.append(mean[:, :k].reshape(*shape, k))
        covariances.append(covariance[:, :k, :k].reshape(*shape, k, k))
    return PlanLaw(np.stack(means), np.stack(covariances))

"""The exact distribution of a chain after every noise level of a plan, on Gaussian data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from uldnum._util.arguments import broadcast, numbers, shown
from uldnum._util.summary import Summary, counted, entries, selected, shown_of
from uldnum._util.typing import Array, ArrayLike
from uldnum.exact.linear import linear_step
from uldnum.plans._plan import Plan
from uldnum.targets import level_of

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

    Examples
    --------
    On data N(0, 1), one step of DDIM from sigma = 3 to sigma = 1 multiplies z by 0.1 + 0.3, and N(0, 10) becomes
    N(0, 1.6):

    >>> import uldnum
    >>> plan = uldnum.plan("ddim", uldnum.levels.given([3.0, 1.0]), denoise=False)
    >>> law = uldnum.exact.plan(plan, start_variance=10.0)
    >>> round(float(law.covariance[-1, 0, 0]), 12)
    1.6
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
        title = f"Distribution of x after {counted(len(self.mean), 'phase')} of a plan"
        title += shown_of(len(rows), len(self.mean), "phase")
        return Summary(title, ["phase", "mean", "standard deviation"], rows)

    def __repr__(self) -> str:
        return str(self.summary)

    def _repr_html_(self) -> str:
        return self.summary.html


@np.errstate(over="ignore", invalid="ignore")  # values beyond the range of float64 become infinite or NaN
def plan(
    run: Plan,
    *,
    data: Any = None,
    data_mean: ArrayLike = 0.0,
    data_variance: ArrayLike = 1.0,
    start_mean: ArrayLike = 0.0,
    start_variance: ArrayLike = 1.0,
) -> PlanLaw:
    """Return the exact distribution after every phase of a plan, on data N(data_mean, data_variance).

    At the noise level (alpha, sigma) the target is ``N(alpha data_mean, alpha^2 data_variance + sigma^2)``, or that of
    ``data``. Its score is affine, so every phase is an affine map with Gaussian noise.

    Parameters
    ----------
    run : Plan
        Plan returned by `uldnum.plan` or `uldnum.preset`.
    data : Law, or object with a method ``noised(alpha, sigma)``, optional
        Data as in `uldnum.anneal`, instead of ``data_mean`` and ``data_variance``. At every level of the plan, the
        noised distribution must be a Gaussian with independent coordinates: a target with a `precision` of shape (d,).
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
        finite, if the shapes do not broadcast, or if ``data`` is given with ``data_mean`` or ``data_variance``, or is
        not Gaussian with independent coordinates.

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

    The same with the score of ``N(0, 0.2)`` instead of ``N(0, 0.25)`` at every level, such as that of a model:

    >>> def noised(alpha, sigma):
    ...     return uldnum.GaussianMixture([1.0], [[0.0]], [0.2 * alpha**2 + sigma**2])
    >>> model = uldnum.UserTarget(lambda x: -5 * x, dimension=1, noised=noised)
    >>> law = exact.plan(plan, data=model, start_variance=50.0**2)
    >>> round(float(law.covariance[-1, 0, 0, 0]) ** 0.5, 3)
    0.442
    """
    if not isinstance(run, Plan):
        raise ValueError(f"run: must come from uldnum.plan, got {shown(run)}")
    variances = numbers("data_variance", data_variance), numbers("start_variance", start_variance)
    for name, variance in zip(("data_variance", "start_variance"), variances, strict=True):
        if np.any(variance < 0):
            raise ValueError(f"{name}: must not be negative, got {shown(variance.tolist())}")
    centre = numbers("data_mean", data_mean)
    if data is None:
        targets = [gaussian_level(phase.alpha, phase.sigma, centre, variances[0]) for phase in run.phases]
    elif np.any(centre != 0) or np.any(variances[0] != 1):
        raise ValueError("data: must not be given together with data_mean or data_variance")
    else:
        targets = [known_level(data, phase.alpha, phase.sigma) for phase in run.phases]
    *_, start_mean, start_variance = broadcast(
        data_mean=targets[0][0],
        data_variance=targets[0][1],
        start_mean=numbers("start_mean", start_mean),
        start_variance=variances[1],
    )
    shape, k = start_mean.shape, run.rows
    mean = np.zeros((start_mean.size, k + 1))  # the last row is always 1 and multiplies the centre of the target
    mean[:, 0], mean[:, k] = start_mean.ravel(), 1
    covariance = np.zeros((*mean.shape, k + 1))
    covariance[:, 0, 0] = start_variance.ravel()
    covariance[:, range(1, k), range(1, k)] = run.memory**2
    means, covariances = [], []
    if run.adaptive:
        raise ValueError("run: must have step sizes that do not depend on the score, got a plan with the snr rule")

    for phase, target in zip(run.phases, targets, strict=True):
        centre, precision = (np.broadcast_to(part, shape).ravel() for part in target)
        taken = linear_step(phase.answered(None), precision, centre).run(phase.count)
        mean, covariance = mean + (taken.D @ mean[..., None])[..., 0], taken.push(covariance)
        means.append(mean[:, :k].reshape(*shape, k))
        covariances.append(covariance[:, :k, :k].reshape(*shape, k, k))
    return PlanLaw(np.stack(means), np.stack(covariances))


def gaussian_level(alpha: float, sigma: float, mean: Array, variance: Array) -> tuple[Array, Array]:
    """Return the mean and the precision of N(mean, variance) at a noise level."""
    return alpha * mean, 1 / (alpha**2 * variance + sigma**2)


def known_level(data: Any, alpha: float, sigma: float) -> tuple[Array, Array]:
    """Return the mean and the precision, shape (d,) each, of a distribution at a noise level, or raise."""
    level = level_of(data, alpha, sigma)
    if level.precision is None or np.ndim(level.precision) != 1:
        raise ValueError(
            "data: must be Gaussian with independent coordinates at every level, such as a GaussianMixture of one "
            f"component, got {shown(level)} at alpha = {alpha:g}, sigma = {sigma:g}"
        )
    return np.asarray(level.mean), np.asarray(level.precision)

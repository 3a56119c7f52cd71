"""The exact law of any integrator on a one-dimensional target, through its transfer operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.interpolate import BSpline, make_interp_spline

from uldnum.exact.density import TargetDensity, tabulate
from uldnum.exact.grid import DEGREE
from uldnum.exact.stationary import Problem
from uldnum.integrators import Integrator, positive, step_size
from uldnum.integrators import integrator as find_integrator
from uldnum.targets.mixture import GaussianMixture
from uldnum.targets.user import UserTarget
from uldnum.typing import Array, ArrayLike

__all__ = ["TransferOperator", "transfer_operator"]


@dataclass(frozen=True)
class TransferOperator:
    """The stationary law of x at the end of a time step, and the leading eigenvalues of one step.

    Attributes
    ----------
    nodes, weights : arrays, shape (n,)
        ``sum_i weights_i f(nodes_i)`` is the expectation of f.
    eigenvalues : complex array, shape (m,)
        Those of largest modulus, up to six, the first 1; what two grids do not agree on is left out.
    nfe_per_step : int
        Score evaluations per time step.
    resolution : (int, int)
        Nodes in position and memory.
    change : float
        By how much the last refinement changed mean, variance or an eigenvalue, in units of the target's deviation.
    target : TargetDensity
        The target.
    """

    nodes: Array
    weights: Array
    eigenvalues: Array
    nfe_per_step: int
    resolution: tuple[int, int]
    change: float
    target: TargetDensity

    def expectation(self, f: Callable[[Array], Array]) -> float:
        """Return the expectation of a smooth function, an array function of x; `cdf` serves for indicators."""
        return float(self.weights @ f(self.nodes))

    @cached_property
    def curve(self) -> BSpline:
        """The density as a spline."""
        return make_interp_spline(self.nodes, self.weights / (self.nodes[1] - self.nodes[0]), k=DEGREE)

    def density(self, x: ArrayLike) -> Array:
        """Marginal density of x."""
        x = np.asarray(x, dtype=float)
        inside = (x >= self.nodes[0]) & (x <= self.nodes[-1])
        return np.where(inside, self.curve(np.clip(x, self.nodes[0], self.nodes[-1])), 0.0)

    def cdf(self, x: ArrayLike) -> Array:
        """Cumulative distribution function of x."""
        return np.asarray(self.curve.antiderivative()(np.clip(x, self.nodes[0], self.nodes[-1])))

    @property
    def wasserstein_1(self) -> float:
        """Wasserstein-1 distance to the target, ``int |F - F_target| dx``."""
        return self.target.integral(np.abs(self.cdf(self.target.x) - self.target.cdf))

    @property
    def kolmogorov(self) -> float:
        """Kolmogorov distance to the target, ``max |F - F_target|``."""
        return float(np.abs(self.cdf(self.target.x) - self.target.cdf).max())

    @property
    def total_variation(self) -> float:
        """Total variation distance to the target, ``1/2 int |rho - rho_target| dx``."""
        return self.target.integral(np.abs(self.density(self.target.x) - self.target.density)) / 2

    @property
    def spectral_gap(self) -> float:
        """1 minus the modulus of the second eigenvalue of one time step; NaN where none was resolved."""
        return float(1 - np.abs(self.eigenvalues[1])) if len(self.eigenvalues) > 1 else np.nan

    @property
    def relaxation_time(self) -> float:
        """Score evaluations in which the slowest mode decays by e."""
        return float(-self.nfe_per_step / np.log1p(-self.spectral_gap))


def transfer_operator(
    integrator: str | Integrator,
    target: GaussianMixture | UserTarget,
    h: float | None = None,
    *,
    delta: float | None = None,
    friction: float = 1.0,
    tolerance: float = 1e-6,
) -> TransferOperator:
    """Return the exact stationary law, and the mixing, of an integrator on a one-dimensional target.

    The grid is refined, in position and in memory, until that changes mean, variance and second eigenvalue by less than
    the tolerance, and widened until what lies beyond it does not count.

    Parameters
    ----------
    integrator : str or Integrator
        The integrator, of one or two rows.
    target : GaussianMixture or UserTarget
        In one dimension; a UserTarget must know its mean and standard deviation.
    h : float
        Step size.
    delta : float
        The step size as ``h^2/2`` instead.
    friction : float
        Friction.
    tolerance : float
        Accuracy, in standard deviations of the target (for the variance, their square); at least 1e-9.

    Returns
    -------
    TransferOperator
        Expectations, density, distances to the target, and eigenvalues.

    Raises
    ------
    ValueError
        If an argument is out of range or unknown.
    ConvergenceError
        If the tolerance cannot be reached; where the scheme is unstable there is no stationary law to be found.
    """
    scheme = find_integrator(integrator)
    size, gamma = step_size(h, delta), positive("friction", friction)
    if size.ndim or gamma.ndim:
        raise ValueError("h, friction: must be numbers; call once for each of several")
    if not 1e-9 <= tolerance < 1:
        raise ValueError(f"tolerance: must lie between 1e-9 and 1, got {tolerance!r}")
    if target.shape != (1,):
        raise ValueError(f"target: must be one-dimensional, {target.name!r} has {target.shape[0]} dimensions")
    if scheme.rows > 2:
        raise ValueError(f"integrator: {scheme.name!r} keeps {scheme.rows} rows, at most two can be resolved")
    step = scheme.stages(size, friction=gamma)
    if not any(np.any(stage.map.C) for stage in step.stages):
        raise ValueError(f"integrator: {scheme.name!r} has no noise, hence no stationary law of its own")
    title, density = f"{scheme.name} at h = {size:g} on {target.name!r}", tabulate(target)

    def score(y: Array) -> Array:
        return target.score(y[:, None])[:, 0]

    law, change = Problem(title, step, score, density, tolerance).resolved()
    resolution = law.grid.x.n, law.grid.memory.n
    return TransferOperator(
        law.grid.x.nodes, law.weights, law.eigenvalues, scheme.nfe_per_step, resolution, change, density
    )

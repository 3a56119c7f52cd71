"""The exact law of any integrator on a one-dimensional target, through its transfer operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from uldnum._util.arguments import converted, function, number, positive, result_of, step_size
from uldnum._util.typing import Array, ArrayLike
from uldnum.exact import poisson
from uldnum.exact.density import TargetDensity, tabulate
from uldnum.exact.stationary import Budget, Problem, Solution
from uldnum.schemes.catalogue import Integrator
from uldnum.schemes.catalogue import integrator as find_integrator
from uldnum.targets import Target, vector_target

__all__ = ["TransferOperator", "transfer_operator"]


@dataclass(frozen=True)
class TransferOperator:
    """The stationary law of x at the end of a time step, and the leading eigenvalues of one step.

    Attributes
    ----------
    law : Solution
        The law, and eigenvalues, on the finest grid.
    target : TargetDensity
        The target.
    nfe_per_step : int
        Score evaluations per time step.
    change : float
        By how much the last refinement of an axis of the grid changed what the tolerance bounds.
    problem : Problem
        The scheme on the target.
    """

    law: Solution = field(repr=False)
    target: TargetDensity = field(repr=False)
    nfe_per_step: int
    change: float
    problem: Problem = field(repr=False)

    @property
    def resolution(self) -> tuple[int, int]:
        """Nodes in position and memory."""
        return self.law.grid.x.n, self.law.grid.memory.n

    @property
    def eigenvalues(self) -> Array:
        """Eigenvalues of one time step, the largest first: 1 and up to five more.

        Those that differ between the last two grids by more than a hundredth of 1 - lambda are left out. The list ends
        before an eigenvalue that only the first grid resolved, so that none before its end is missing.
        """
        return self.law.eigenvalues

    def expectation(self, f: Callable[[Array], Array]) -> float:
        """Return the expectation of an array function of x that is smooth at the spacing of the grid; or use `cdf`."""
        values = result_of("f", f, self.law.grid.x.nodes)
        if values.shape not in ((), self.law.weights.shape):
            raise ValueError(f"f: must return the shape of its argument, {self.law.weights.shape}, got {values.shape}")
        return float(self.law.weights @ np.broadcast_to(values, self.law.weights.shape))

    def density(self, x: ArrayLike) -> Array:
        """Marginal density of x; 0 beyond the interval of the grid, where the tolerance's share of the law may be."""
        return self.law.density(converted("x", x))

    def cdf(self, x: ArrayLike) -> Array:
        """Cumulative distribution function of x."""
        return self.law.cdf(converted("x", x))

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
        return self.law.gap

    @property
    def relaxation_time(self) -> float:
        """Score evaluations in which the slowest mode decays by e."""
        return float(-self.nfe_per_step / np.log1p(-self.spectral_gap))

    def autocorrelation_time(self, f: Callable[[Array], Array]) -> float:
        """Integrated autocorrelation time ``1 + 2 sum_{n>=1} rho(n)`` of f(x_n) in equilibrium.

        N score evaluations are worth N/time independent draws, for the average of f over the positions x_n that are
        read at the ends of time steps. The sum over all lags n is exact, from one linear system.

        Parameters
        ----------
        f : callable
            A smooth array function of x, (n,) -> (n,).

        Returns
        -------
        float
            In score evaluations. The grid is refined until that changes the time by less than a hundred times the
            tolerance, relative to the time or to one time step, whichever is more; functions that grow, as ``x^2``
            does, also feel the interval's ends, which hold a share of the law of the order of the tolerance.

        Raises
        ------
        ValueError
            If f is constant, or not finite, where the law is.
        ConvergenceError
            If that cannot be reached, as for steps near the stability limit, with little friction.
        """
        function("f", f)
        problem = replace(self.problem, budget=Budget())
        return self.nfe_per_step * poisson.autocorrelation_time(problem, self.law.grid, f)


def check_tolerance(tolerance: Any) -> float:
    """Return the tolerance of an exact answer, or raise."""
    found = number("tolerance", tolerance)
    if not 1e-9 <= found < 1:
        raise ValueError(f"tolerance: must be a number between 1e-9 and 1, got {found:g}")
    return found


def transfer_operator(
    integrator: str | Integrator,
    target: Target | str,
    h: float | None = None,
    *,
    delta: float | None = None,
    friction: float = 1.0,
    tolerance: float = 1e-6,
) -> TransferOperator:
    """Return the exact stationary law, and the mixing, of an integrator on a one-dimensional target.

    The grid is refined, in position and in memory, until that changes mean, variance, cdf and second eigenvalue by less
    than the tolerance, and widened until what lies beyond it does not count.

    The position is confined to an interval: a step that leads out of it ends near its end, and likewise for the memory.
    The interval starts as the set where the target's density exceeds ``exp(-r^2/2)`` of its maximum, with ``r = 0.5 +
    sqrt(-2 ln(tolerance))``, 5.8 at 1e-6, times the ratio of standard deviations where the scheme's law on a Gaussian
    is wider than the target. An end moves out until the nodes next to it hold less than a fiftieth of the tolerance, or
    of the gap if that is smaller. ``law.grid.x.low`` and ``law.grid.x.high`` of the result are the ends. Where the
    score grows faster than linearly, an explicit scheme diverges from far out and has no stationary law on the whole
    line. What is returned is then the stationary law of the confined chain, which is the law that chains keep until
    they diverge.

    Parameters
    ----------
    integrator : str or Integrator
        The integrator, of one or two rows.
    target : str, GaussianMixture, UserTarget or another Target
        In one dimension; it must know its mean and standard deviation.
    h : float
        Step size.
    delta : float
        The step size as ``h^2/2`` instead.
    friction : float
        Friction.
    tolerance : float
        Accuracy of mean and variance, in units of the target's standard deviation, of the cdf and of the second
        eigenvalue, and relative accuracy of the spectral gap; at least 1e-9.

    Returns
    -------
    TransferOperator
        Expectations, density, distances to the target, and eigenvalues.

    Raises
    ------
    ValueError
        If an argument is out of range or unknown.
    ConvergenceError
        If the tolerance cannot be reached with the nodes and operations that some seconds allow; where the scheme is
        unstable there is no stationary law.
    """
    scheme = find_integrator(integrator)
    size, gamma = step_size(h, delta), positive("friction", friction)
    if size.ndim or gamma.ndim:
        raise ValueError("h, friction: must be numbers; call once for each of several")
    tolerance = check_tolerance(tolerance)
    target = vector_target(target)
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

    problem = Problem(title, step, score, density, tolerance)
    law, change = problem.resolved()
    return TransferOperator(law, density, scheme.nfe_per_step, change, problem)

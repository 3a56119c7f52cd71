"""Stationary distribution of a scheme on a one-dimensional target, on grids that are refined until it converges.

**Equations.** On a grid (`uldnum.exact.grid`) the transfer operator of one time step is a matrix P that acts on values
at the nodes. The stationary distribution has the weights w with ``w^T P = w^T`` and ``sum(w) = 1``. The other leading
eigenvalues of P are the factors by which the slowest modes decay in one time step.

**Position in the time step.** The grid describes the state just before a noise acts: that of the stage before the last
one, or, for a scheme with one stage, that of the previous time step. The time step is a product of operators
(`uldnum.exact.grid.Push`), each of which starts with the noise of one stage and ends before the next noise. The
distribution of x at the end of the time step follows from the noise and the map ``close`` (`Problem.read`).

**First grid.** The interval of x contains the distribution that the scheme has on each Gaussian component of the
target, up to a probability of the order of the tolerance. The nodes resolve the variance of the target and, if this
needs few nodes, the score.

**Widening.** Each grid is widened until the outermost nodes have a probability below ``0.02 min(tolerance, gap)``.

**Refinement.** Let d be the change of the results when the nodes of one axis are refined. The number of nodes of this
axis grows by the factor ``1 + 0.1 log10(d/tolerance)``, clipped to [1.12, 1.4], until d is below the tolerance. The
axes of the memory (row 1 of u, such as the momentum) and of the position are refined in turn. Since the error decreases
fast, d is close to the error before the last refinement and bounds the error after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from scipy.interpolate import BSpline

from uldnum._util.deadline import check_deadline
from uldnum._util.typing import Array
from uldnum.exact.density import TargetDensity
from uldnum.exact.grid import Axis, Grid, Noise, Push
from uldnum.exact.linear import LinearStep, linear_step
from uldnum.exact.resolvent import Stationary, TimeStep
from uldnum.schemes.stage import Stage, Step

__all__ = ["ConvergenceError", "Problem", "Solution", "UnstableError", "split"]

# Number of eigenvalues that are reported.
LEADING = 6
# Tolerance of the second eigenvalue on each grid, as a fraction of the tolerance of the problem.
RESOLUTION = 0.01
# Two eigenvalues are the same if they differ by less than this fraction of |1 - lambda|. SAME applies to two
# consecutive grids, ALIKE to the first grid and any other grid.
SAME, ALIKE = 0.01, 0.1
# Smallest numbers of nodes of the first grid in x and in memory, and the largest number of nodes in x up to which the
# first grid is refined to resolve the score.
LEAST, LEAST_MEMORY, MOST_FOR_SCORE = 24, 18, 60
# Widths of the regions with denser nodes: RIDGE sqrt(temperature/slope of the score) on a ridge, and BULK standard
# deviations around the mean of the target. MORE_ON_RIDGE and MORE_IN_BULK are the additional density of nodes at the
# centre of a region, as a multiple of the density in the tails.
RIDGE, BULK = 2.2, 1.5
MORE_ON_RIDGE, MORE_IN_BULK = 1.5, 2.5
# The number of nodes of an axis grows by the factor 1 + GROWTH log10(error/tolerance), clipped to [SLOWEST, FASTEST].
GROWTH, SLOWEST, FASTEST = 0.1, 1.12, 1.4
# Nodes of p at the end of a time step, per standard deviation on the narrowest component.
P_NODES = 4.0
# Margin of a grid, in standard deviations, beyond the point where a normal density equals the tolerance.
MARGIN = 0.5
# Largest probability of the outermost nodes, as a fraction of the tolerance or of the gap, whichever is smaller. A gap
# below LEAST_GAP is a rounding error.
OUTERMOST, LEAST_GAP = 0.02, 1e-15
# Largest ratio of the standard deviations of scheme and target on a Gaussian; wider grids have too many nodes.
WIDEST = 30
# An end moves by WIDER times the length for each decade by which the probability of the outermost nodes exceeds its
# limit, for at most DECADES decades. A grid is widened at most WIDENINGS times.
WIDER, DECADES, WIDENINGS = 0.05, 3, 10
# Largest number of nodes of a grid, and of one of its axes.
MOST_NODES, MOST_ON_AXIS = 20_000, 1_000
# Largest number of floating-point operations of one call. They take about ten seconds.
MOST_WORK = 1.8e11
# Largest number of nodes of the grid on which the eigenvalues of largest modulus are computed.
MOST_DENSE = 1_000


class ConvergenceError(RuntimeError):
    """An exact answer cannot be computed to the requested tolerance.

    Examples
    --------
    >>> import uldnum
    >>> try:
    ...     uldnum.exact.transfer_operator("ULA", "gaussian", h=2.5, tolerance=1e-3)
    ... except uldnum.exact.ConvergenceError as error:
    ...     print(type(error).__name__)
    UnstableError
    """


class UnstableError(ConvergenceError):
    """A scheme is unstable on a target and has no stationary distribution.

    Examples
    --------
    >>> import uldnum
    >>> try:
    ...     uldnum.exact.transfer_operator("ULA", "gaussian", h=2.5, tolerance=1e-3)
    ... except uldnum.exact.UnstableError:
    ...     print("no stationary distribution")
    no stationary distribution
    """


@dataclass(frozen=True)
class Solution:
    """Stationary distribution of x at the end of a time step, and leading eigenvalues of the time step, on one grid.

    Attributes
    ----------
    grid : Grid
        The grid.
    weights : array, shape (n,)
        Probabilities of the nodes in x.
    state_weights : array, shape (n, k)
        Probabilities of the nodes of the grid, before the noise of the stage that precedes the last one.
    eigenvalues : complex array, shape (m,)
        Eigenvalues of one time step in descending order of modulus. The first one is 1.
    """

    grid: Grid
    weights: Array
    state_weights: Array
    eigenvalues: Array

    @property
    def gap(self) -> float:
        """Spectral gap, 1 minus the modulus of the second eigenvalue; NaN if there is only one eigenvalue."""
        return float(1 - np.abs(self.eigenvalues[1])) if len(self.eigenvalues) > 1 else np.nan

    @property
    def mean(self) -> float:
        """Mean of x."""
        return float(self.weights @ self.grid.x.nodes)

    @property
    def variance(self) -> float:
        """Variance of x."""
        return float(self.weights @ (self.grid.x.nodes - self.mean) ** 2)

    @cached_property
    def curve(self) -> BSpline:
        """Density per node as a spline of the fractional node index, normalised to the integral 1.

        The weights alone are not normalised in this sense, because the integral contains only half of the weights at
        the ends.
        """
        curve = self.grid.x.curve(self.weights)
        return BSpline(curve.t, curve.c / curve.integrate(0, self.grid.x.n - 1), curve.k)

    def density(self, x: Array) -> Array:
        """Return the density of x at points x; it is 0 outside the interval of the grid."""
        axis = self.grid.x
        return np.where((x >= axis.low) & (x <= axis.high), self.curve(axis.place(x)) * axis.density(x), 0.0)

    def cdf(self, x: Array) -> Array:
        """Return the cumulative distribution function of x at points x."""
        integral = self.curve.antiderivative()
        return np.asarray(integral(self.grid.x.place(x)) - integral(0.0))

    def confirmed(self, coarse: Solution) -> Solution:
        """Return the solution with only those eigenvalues that a coarser grid also has, at most `LEADING` of them.

        Eigenvalues that are artefacts of one grid differ from grid to grid.
        """
        return replace(
            self, eigenvalues=self.eigenvalues[contained(self.eigenvalues, coarse.eigenvalues, SAME)][:LEADING]
        )

    def change(self, coarse: Solution, unit: float) -> float:
        """Return the largest difference from a coarser solution in mean, variance, cdf, second eigenvalue and gap.

        Parameters
        ----------
        coarse : Solution
            Solution on a coarser grid.
        unit : float
            Unit of length. The differences of mean and variance are in this unit and its square.

        Returns
        -------
        float
            Maximum of the differences. That of the gap is relative to the gap.
        """
        x = self.grid.x.nodes
        moments = abs(self.mean - coarse.mean) / unit, abs(self.variance - coarse.variance) / unit**2
        rates = [0.0]
        if len(self.eigenvalues) > 1:
            moved = np.abs(coarse.eigenvalues - self.eigenvalues[1]).min()
            # If the modes of the target hardly mix, their weights depend on the ratio of small transition rates, so
            # that small errors of these rates matter. The relative change of the gap measures them.
            rates += [moved, moved / self.gap if self.gap > 0 else np.inf]
        return max(*moments, *rates, float(np.abs(self.cdf(x) - coarse.cdf(x)).max()))


@dataclass
class Budget:
    """Number of operations that one call may use on all grids together.

    Attributes
    ----------
    left : float
        Remaining number of floating-point operations.
    """

    left: float = MOST_WORK

    def spend(self, operations: float) -> bool:
        """Subtract operations if at least this number remains. Return whether they were subtracted.

        An error is raised if the deadline of the computation has passed.
        """
        check_deadline()
        affordable = operations <= self.left
        if affordable:
            self.left -= operations
        return affordable


@dataclass(frozen=True)
class Problem:
    """A scheme on a one-dimensional target whose stationary distribution is to be resolved to a tolerance.

    Attributes
    ----------
    title : str
        Name of the problem in error messages.
    step : Step
        Tables of the scheme.
    score : callable
        Score at positions, (n,) -> (n,).
    target : TargetDensity
        Tabulated density and cdf of the target.
    tolerance : float
        Accuracy of mean and variance (in units of the target's standard deviation and variance), of the cdf and of the
        second eigenvalue, and relative accuracy of the spectral gap.
    budget : Budget
        Number of operations that may be used.
    """

    title: str
    step: Step
    score: Callable[[Array], Array]
    target: TargetDensity
    tolerance: float
    budget: Budget = field(default_factory=Budget, compare=False)

    def resolved(self) -> tuple[Solution, float]:
        """Refine the grid until a refinement changes the solution by less than the tolerance.

        The axes are refined in turn, and each grid is widened until the probability outside it is negligible. The
        change at a refinement approximates the error before it, and bounds the smaller error after it.

        Returns
        -------
        Solution
            Solution on the last grid, with the eigenvalues that the last two grids have in common.
        float
            Change at the last refinement of an axis, the maximum over both axes.

        Raises
        ------
        ConvergenceError
            If the grid would need too many nodes or operations, or if widening does not end.
        """
        first = self.first_grid
        self.check_nodes(round(SLOWEST * first.nodes))
        law = confirmed = self.confined(first)
        axes = [name for name in ("memory", "x") if getattr(first, name).n > 1]
        changes = dict.fromkeys(axes, np.inf)
        while max(changes.values()) > self.tolerance:
            for name in axes:
                if changes[name] > self.tolerance:
                    coarse, law = law, self.confined(grown(law.grid, name, changes[name] / self.tolerance))
                    confirmed = law.confirmed(coarse)
                    changes[name] = law.change(coarse, self.target.deviation)
        return confirmed, max(changes.values())

    def confined(self, grid: Grid) -> Solution:
        """Widen a grid until the probability outside it is negligible, and return the solution on it."""
        for _ in range(WIDENINGS):
            stationary = self.stationary(grid)
            state = stationary.law.reshape(grid.shape)
            x = self.read(state, grid)
            # The grid also contains the sheared position before the noise, which may be wider than x.
            outer = np.maximum(x, state.sum(axis=1)), state.sum(axis=0)
            wide = widened(grid, outer, OUTERMOST * self.tolerance)
            if wide == grid:  # only then are the eigenvalues needed
                law = Solution(grid, x, state, self.eigenvalues(stationary))
                wide = widened(grid, outer, OUTERMOST * float(np.clip(law.gap, LEAST_GAP, self.tolerance)))
                if wide == grid:
                    return law
            grid = wide
        raise ConvergenceError(
            f"{self.title}: the stationary distribution is not confined to [{grid.x.low:.3g}, {grid.x.high:.3g}]; "
            "the scheme is unstable or close to its stability limit"
        )

    # ------------------------------------------------------------------------------------------------------ first grid

    @cached_property
    def linear(self) -> LinearStep:
        """The scheme as linear maps on each Gaussian component of the target."""
        return linear_step(self.step, self.target.curvatures)

    @cached_property
    def covariance(self) -> Array:
        """Stationary covariance of u before the last stage on each Gaussian component, shape (components, k, k)."""
        return self.linear.cycle.stationary()

    @cached_property
    def first_grid(self) -> Grid:
        """Grid that contains the distribution of the scheme on each Gaussian, with few nodes that resolve the target.

        The nodes also resolve the score roughly, unless this needs more than `MOST_FOR_SCORE` nodes in x. The score may
        vary faster than the density.
        """
        deviations = self.target.deviations
        if not np.isfinite(self.covariance[np.argmax(deviations)]).all():
            if self.target.gaussian_tails:
                raise UnstableError(f"{self.title}: unstable in the tails of the target; use a smaller step")
            raise ConvergenceError(
                f"{self.title}: unstable on a Gaussian with the target's standard_deviation; "
                "use a smaller step, or correct standard_deviation"
            )
        ratio = np.sqrt(np.nanmax(self.linear.read.push(self.covariance)[:, 0, 0] / deviations**2))
        if ratio > WIDEST:
            raise ConvergenceError(
                f"{self.title}: the stationary distribution is about {ratio:.2g} times as wide as the target, and "
                f"must be at most {WIDEST} times as wide; use a smaller step or less noise"
            )
        x = Axis(*self.target.interval(self.reach * float(np.clip(ratio, 0.5, 3))), LEAST)
        x = self.resolving(x)
        memory = self.memory(x)
        return Grid(self.resolving(self.nonuniform(x)) if memory.n > 1 else x, memory)

    def resolving(self, x: Axis) -> Axis:
        """Refine an axis until its nodes resolve the variance of the target and, roughly, the score."""
        while not self.target.resolved_by(x.nodes, x.density(x.nodes)) or (
            x.n < MOST_FOR_SCORE and not self.resolves_score(x)
        ):
            x = replace(x, n=int(1.25 * x.n))
        return x

    def nonuniform(self, x: Axis) -> Axis:
        """Return an axis with the smallest spacing of ``x`` and with fewer nodes where they matter less.

        The nodes are densest on ridges, where the slope of the score has a positive maximum. Trajectories separate
        there, so eigenfunctions of the transfer operator vary fast. The nodes are least dense in the tails. They stay
        equidistant if the independent noise of the position is wider than the spacing and the memory also has noise.
        The noise of the position smooths functions, so denser nodes are not needed, and its quadrature on stretched
        nodes would be expensive.
        """
        slopes = np.gradient(self.score(x.nodes), x.nodes)
        inner = slopes[1:-1]
        ridges = np.flatnonzero((inner > slopes[:-2]) & (inner >= slopes[2:]) & (inner > 0)) + 1
        widths = RIDGE * np.sqrt(self.target.temperature / slopes[ridges])
        centres = [(float(x.nodes[i]), float(w), MORE_ON_RIDGE) for i, w in zip(ridges, widths, strict=True)]
        centres.append((self.target.mean, BULK * self.target.deviation, MORE_IN_BULK))
        axis = replace(x, centres=tuple(centres))
        most = float(axis.density(axis.nodes).max())
        if any(noise.independent > x.spacing and noise.shared[1:].any() for noise, _ in self.parts):
            return x
        return replace(axis, n=max(LEAST, int(np.ceil(x.n / (most * x.spacing)))))

    def resolves_score(self, x: Axis) -> bool:
        """Return whether splines approximate the score halfway between nodes to 1% of its maximum."""
        between, scores = (x.nodes[1:] + x.nodes[:-1]) / 2, self.score(x.nodes)
        return bool(np.abs(x.curve(scores)(x.place(between)) - self.score(between)).max() < 0.01 * np.abs(scores).max())

    @property
    def reach(self) -> float:
        """Half-width of a grid in standard deviations.

        A normal density relative to its maximum equals the tolerance at ``sqrt(-2 ln(tolerance))`` standard deviations.
        The grid extends beyond this by a margin.
        """
        return float(np.sqrt(-2 * np.log(self.tolerance))) + MARGIN

    def memory(self, x: Axis) -> Axis:
        """Return the axis for the memory before the noise of the stage that precedes the last one.

        It has a single node if the memory after a time step does not depend on the state before it.
        """
        noise, _ = self.parts[0]
        variance = self.covariance[:, -1, -1]
        if len(self.parts) == 1:
            last = self.step.stages[-1].map
            if self.step.rows == 1 or not (last.b[1] or (np.eye(2) + last.dA)[1].any()):
                return Axis(0.0, 0.0, 1)
            variance = variance - noise.shared[1] ** 2  # the grid describes the memory before this noise
        return self.memory_axis(x, variance)

    def memory_axis(self, x: Axis, variance: Array) -> Axis:
        """Return an axis for a memory with the given variance on each Gaussian, shape (components,).

        The axis contains `reach` standard deviations of the memory. It also contains the sum of the kicks of one time
        step, from memory 0 and with the largest score in the interval of x. If no noise acts on the memory, it contains
        the geometric series of the kicks of all time steps.
        """
        maps = [stage.map for stage in self.step.stages]
        kicks = sum(abs(float(map.b[1])) for map in maps)
        if not any(map.C[1].any() for map in maps):
            kicks /= 1 - abs(float(np.prod([1 + map.dA[1, 1] for map in maps])))
        end = max(self.reach * float(np.sqrt(np.nanmax(variance))), kicks * float(np.abs(self.score(x.nodes)).max()))
        return Axis(-end, end, LEAST_MEMORY)

    # -------------------------------------------------------------------------------------------------------- solution

    def eigenvalues(self, stationary: Stationary) -> Array:
        """Return the leading eigenvalues of a time step in descending order of modulus."""
        values = np.concatenate([[1.0], stationary.eigenvalues(RESOLUTION * self.tolerance)])
        return self.completed(values, stationary.step)

    def stationary(self, grid: Grid) -> Stationary:
        """Return the factorised linear system of one grid with its stationary distribution."""
        step = self.time_step(grid)
        self.spend(step.work + sum(push.work for push in step.pushes), grid)
        # The pinned node is near the mode of the target, where its probability is not negligible.
        peak = np.argmax(np.interp(grid.x.nodes, self.target.x, self.target.density))
        return Stationary(step, (int(peak), grid.memory.n // 2))

    def check_nodes(self, nodes: int) -> None:
        """Raise a ConvergenceError if a grid with this number of nodes exceeds the limit."""
        if nodes > MOST_NODES:
            raise self.unresolved(f"more than {MOST_NODES} nodes")

    def spend(self, operations: float, grid: Grid) -> None:
        """Subtract operations on a grid from the budget, or raise a ConvergenceError if fewer remain."""
        if not self.budget.spend(operations):
            grids = f"of which {operations:.2g} on a grid of {grid.x.n} x {grid.memory.n} nodes"
            raise self.unresolved(f"more than {MOST_WORK:g} operations, {grids}")

    def unresolved(self, effort: str) -> ConvergenceError:
        """Return the error for a tolerance that would require more than the allowed effort."""
        return ConvergenceError(
            f"{self.title}: not resolved to {self.tolerance:g}; this would require {effort}; "
            "use a looser tolerance, another step size or more friction"
        )

    def completed(self, values: Array, step: TimeStep) -> Array:
        """Return eigenvalues in descending order of modulus, given those that are nearest 1.

        Some eigenvalues of large modulus, for example near -1, may not be among those nearest 1. The `candidates` are
        therefore tested in order of modulus. A missing candidate is computed if it may be the second largest
        eigenvalue. Otherwise only the eigenvalues of larger modulus than the missing one are returned.
        """
        for value in self.candidates[self.candidates.imag >= 0]:
            if not contained(np.array([value]), values, ALIKE).any():
                second = np.abs(values[1:]).max(initial=0)
                if 1 - np.abs(value) < (1 + ALIKE) * (1 - second):
                    self.spend(4 * step.work, step.grid)  # complex arithmetic costs 4 times as much
                    near = step.nearest(value, RESOLUTION * self.tolerance)[:2]
                    values = np.concatenate([values, near, near.conj()])
                else:
                    values = values[np.abs(values) > np.abs(value)]
        return values[np.argsort(-np.abs(values), kind="stable")]

    @cached_property
    def candidates(self) -> Array:
        """Eigenvalues of largest modulus, without the eigenvalue 1, on the first grid.

        If the first grid has more than `MOST_DENSE` nodes, a coarser one replaces it.
        """
        grid = self.first_grid
        most = MOST_DENSE // grid.memory.n
        return self.time_step(replace(grid, x=replace(grid.x, n=min(grid.x.n, most)))).largest(LEADING - 1)

    @cached_property
    def parts(self) -> list[tuple[Noise, list[Stage]]]:
        """Operators of a time step. Each consists of a noise and the stages up to the next noise.

        The time step starts before the noise of the stage that precedes the last stage.
        """
        stages = self.step.stages
        order = [stages[-1], *stages[:-1]]
        parts: list[tuple[Noise, list[Stage]]] = []
        for j, stage in enumerate(order):
            noise = order[j - 1].map.compressed().C
            if parts and not noise.any():
                parts[-1][1].append(stage)
            else:
                parts.append((split(noise), [stage]))
        return parts

    def time_step(self, grid: Grid) -> TimeStep:
        """Return the transfer operator of one time step on a grid."""
        self.check_nodes(grid.nodes)
        if max(grid.shape) > MOST_ON_AXIS:
            raise self.unresolved(f"more than {MOST_ON_AXIS} nodes on an axis")
        pushes = []
        for (noise, stages), (following, _) in zip(self.parts, self.parts[1:] + self.parts[:1], strict=True):
            pushes.append(Push(grid, grid, noise, stages, self.score, following))
        return TimeStep(pushes)

    def read(self, weights: Array, grid: Grid) -> Array:
        """Return the weights of x at the end of a time step.

        Parameters
        ----------
        weights : array, shape (n, k)
            Weights of the stationary distribution on the grid, before the noise of the stage that precedes the last.
        grid : Grid
            The grid.
        """
        ending = Noise(np.zeros(self.step.rows), float(np.linalg.norm(self.step.close.C[0])))
        return self.reading(grid, Grid(grid.x, Axis(0.0, 0.0, 1)), ending).law(weights)[:, 0]

    def read_phase_space(self, law: Solution) -> tuple[Grid, Array, float]:
        """Return the distribution of (x, p) at the end of a time step.

        Let a be the shear of the noise of ``close``. The result is the distribution of (x - a p, p), because the noise
        that x and p share then changes only p.

        Without noise of the position in ``close``, each node of the grid becomes a line in the plane of x and p. The
        nodes are then interpolated to half their distance, so that the density is not that of a comb of lines.

        Returns
        -------
        grid : Grid
            Grid of x - a p and p.
        weights : array, shape (n, k)
            Probabilities of its nodes.
        shear : float
            The number a.

        Raises
        ------
        ConvergenceError
            If the momentum would need too many nodes.
        """
        ending, x = split(self.step.close.compressed().C), law.grid.x
        variance = self.linear.read.push(self.covariance)[:, 1, 1]
        # Between the components of a mixture, the momenta are not narrower than those of the Langevin equation.
        p = self.memory_axis(x, np.maximum(variance, self.target.temperature))
        nodes = np.ceil(P_NODES * (p.high - p.low) / np.sqrt(np.nanmin(variance)))
        p, margin = replace(p, n=max(law.grid.memory.n, int(nodes))), abs(ending.shear) * p.high
        if p.n > MOST_ON_AXIS:
            raise self.unresolved(f"more than {MOST_ON_AXIS} nodes for the momentum")
        onto = replace(x, low=x.low - margin, high=x.high + margin, n=int(np.ceil(x.n + 2 * margin / x.spacing)))
        finer = 1 if ending.independent > x.spacing / 2 else 2
        fine = replace(x, n=finer * (x.n - 1) + 1)
        state = x.curve(law.state_weights)(x.place(fine.nodes))
        weights = self.reading(replace(law.grid, x=fine), Grid(onto, p), ending).law(state / state.sum())
        if ending.shared[1:].any():
            first, values = p.window(p.nodes, abs(float(ending.shared[1])))
            weights = weights @ values @ p.interpolation[first : first + values.shape[1]]
        return Grid(onto, p), weights, ending.shear

    def reading(self, grid: Grid, onto: Grid, ending: Noise) -> Push:
        """Return the operator from the state of the grid to (x, p) at the end of the time step, before its noise."""
        last = Stage(self.step.stages[-1].G, self.step.close)
        return Push(grid, onto, self.parts[0][0], [last], self.score, ending)


def split(noise: Array) -> Noise:
    """Return the noise of a stage as a `Noise`, given its coefficients of shape (k, m).

    The coefficients are those of a map from `uldnum.schemes.stage.Affine.compressed`, in which at most one normal acts
    on the memory.
    """
    shared = noise[1:].any(axis=0)
    return Noise(noise[:, shared].sum(axis=1), float(np.linalg.norm(noise[0, ~shared])))


def contained(values: Array, among: Array, tolerance: float) -> Array:
    """Return whether each eigenvalue equals one of ``among``, up to a difference relative to ``|1 - lambda|``."""
    return np.abs(values[:, None] - among).min(axis=1) <= tolerance * np.abs(1 - values) + 1e-12


def wider(axis: Axis, weights: Array, threshold: float) -> Axis:
    """Return an axis that is wider at each end where the weights of the outermost nodes exceed a threshold.

    The added length is proportional to the number of decades by which the weights exceed it. The smallest of the
    outermost three weights is compared, because the weights of a rough distribution oscillate between negative and
    positive values.
    """
    if axis.n == 1:
        return axis
    outermost = np.array([weights[:3].min(), weights[-3:].min()])
    decades = np.ceil(np.log10(np.maximum(outermost / threshold, 1))).clip(max=DECADES)
    left, right = (WIDER * decades).tolist()
    length = axis.high - axis.low
    n = int(axis.n * (1 + left + right))
    return replace(axis, low=axis.low - left * length, high=axis.high + right * length, n=n)


def widened(grid: Grid, weights: tuple[Array, Array], threshold: float) -> Grid:
    """Return a grid on wider axes where the weights of the outermost nodes exceed a threshold, as in `wider`."""
    return Grid(*(wider(axis, w, threshold) for axis, w in zip((grid.x, grid.memory), weights, strict=True)))


def grown(grid: Grid, name: str, excess: float) -> Grid:
    """Return a grid with more nodes on the axis ``name``, whose error is ``excess`` times the tolerance."""
    growth = np.clip(1 + GROWTH * np.log10(excess), SLOWEST, FASTEST)
    axis = getattr(grid, name)
    return replace(grid, **{name: replace(axis, n=int(np.ceil(growth * axis.n)))})

"""The stationary distribution of a scheme on a one-dimensional target, on grids that are refined until it converges.

The distribution of a chain changes from step to step by a linear operator. On a grid (`uldnum.exact.grid`) the operator
is a matrix P. The left eigenvector of P for the eigenvalue 1 contains the weights of the stationary distribution. The
other leading eigenvalues are the rates at which the slowest modes decay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from scipy.interpolate import BSpline

from uldnum._util.typing import Array
from uldnum.exact.density import TargetDensity
from uldnum.exact.grid import Axis, Grid, Noise, Push
from uldnum.exact.linear import LinearStep, linear_step
from uldnum.exact.resolvent import Stationary, TimeStep
from uldnum.schemes.stage import Stage, Step

__all__ = ["ConvergenceError", "Problem", "Solution", "UnstableError", "split"]

# Number of eigenvalues that are reported.
LEADING = 6
# The second eigenvalue is computed on each grid to this part of the tolerance.
RESOLUTION = 0.01
# Two eigenvalues are the same if 1 - lambda differs by less than this fraction: on two consecutive grids, and on the
# first grid and another one.
SAME, ALIKE = 0.01, 0.1
# Smallest numbers of nodes of the first grid in x and in memory, and the largest in x that the score alone can require.
LEAST, LEAST_MEMORY, MANY = 24, 18, 60
# Widths within which nodes are denser: of ridges in inverse roots of the slope of the score, and of the whole target in
# standard deviations. In the middle they are denser by these multiples of the density in the tails.
RIDGE, BULK = 2.2, 1.5
MORE_ON_RIDGE, MORE_IN_BULK = 1.5, 2.5
# An axis grows by this share for each decade by which its error exceeds the tolerance, within two limits.
GROWTH, SLOWEST, FASTEST = 0.1, 1.12, 1.4
# Margin of a grid, in standard deviations, beyond the point where a normal density falls below the tolerance.
MARGIN = 0.5
# Largest probability of the outermost nodes, as a fraction of the tolerance or of the gap if that is smaller. A gap
# below the second number is rounding.
OUTERMOST, LEAST_GAP = 0.02, 1e-15
# An end moves by this fraction of the length for each decade by which the probability of its nodes is too large. The
# other numbers are the largest number of decades, and how often a grid is widened at most.
WIDER, DECADES, WIDENINGS = 0.05, 3, 10
# Largest number of nodes of a grid, and of one of its axes.
MOST_NODES, MOST_ON_AXIS = 20_000, 1_000
# Largest number of operations of one call, which take about ten seconds.
MOST_WORK = 1.8e11
# Largest number of nodes of a grid on which the largest eigenvalues are computed.
MOST_DENSE = 1_000


class ConvergenceError(RuntimeError):
    """An exact answer could not be computed to the requested tolerance."""


class UnstableError(ConvergenceError):
    """The scheme is unstable on the target and has no stationary distribution."""


@dataclass(frozen=True)
class Solution:
    """The stationary distribution of x at the end of a step and the leading eigenvalues, on one grid.

    Attributes
    ----------
    grid : Grid
        The grid.
    weights : array, shape (n,)
        Probabilities of the nodes in x.
    memory_weights : array, shape (k,)
        Probabilities of the nodes in memory, before the last noise of a step.
    eigenvalues : complex array, shape (m,)
        Eigenvalues of one time step, in descending order of modulus.
    """

    grid: Grid
    weights: Array
    memory_weights: Array
    eigenvalues: Array

    @property
    def gap(self) -> float:
        """1 minus the modulus of the second eigenvalue of one time step; NaN where none was found."""
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
        """The density as a spline of `Axis.place`, with an integral of 1 whatever the nodes at the ends hold."""
        curve = self.grid.x.curve(self.weights)
        return BSpline(curve.t, curve.c / curve.integrate(0, self.grid.x.n - 1), curve.k)

    def density(self, x: Array) -> Array:
        """Density of x: none beyond the interval."""
        axis = self.grid.x
        return np.where((x >= axis.low) & (x <= axis.high), self.curve(axis.place(x)) * axis.density(x), 0.0)

    def cdf(self, x: Array) -> Array:
        """Cumulative distribution function of x."""
        integral = self.curve.antiderivative()
        return np.asarray(integral(self.grid.x.place(x)) - integral(0.0))

    def confirmed(self, coarse: Solution) -> Solution:
        """Keep the eigenvalues that a coarser grid has, too: those that are artefacts of a grid come and go."""
        return replace(self, eigenvalues=self.eigenvalues[found(self.eigenvalues, coarse.eigenvalues, SAME)][:LEADING])

    def change(self, coarse: Solution, unit: float) -> float:
        """By how much a coarser solution differed, at most: in mean, variance, cdf, second eigenvalue and gap.

        Lengths are in a unit, the gap is relative.
        """
        x = self.grid.x.nodes
        moments = abs(self.mean - coarse.mean) / unit, abs(self.variance - coarse.variance) / unit**2
        rates = [0.0]
        if len(self.eigenvalues) > 1:
            moved = np.abs(coarse.eigenvalues - self.eigenvalues[1]).min()
            # Where hardly anything passes between modes, an error in what does decides their weights.
            rates += [moved, moved / self.gap if self.gap > 0 else np.inf]
        return max(*moments, *rates, float(np.abs(self.cdf(x) - coarse.cdf(x)).max()))


@dataclass
class Budget:
    """The number of operations that one call may use on all grids together.

    Attributes
    ----------
    left : float
        Remaining number of floating-point operations.
    """

    left: float = MOST_WORK

    def spend(self, operations: float) -> bool:
        """Spend operations if as many are left, and return whether they were."""
        affordable = operations <= self.left
        if affordable:
            self.left -= operations
        return affordable


@dataclass(frozen=True)
class Problem:
    """A scheme on a one-dimensional target, whose stationary distribution is resolved to a tolerance.

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
        Accuracy of mean and variance (in units of the target's standard deviation), of the cdf and of the second
        eigenvalue.
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
        """Refine the grid until that changes nothing, and widen it until what lies beyond does not count.

        The axes are refined in turn, each until that changes nothing beyond the tolerance. The change is about the
        error before the last refinement, so more than the error after it.

        Returns
        -------
        Solution
            On the last grid.
        float
            By how much the last refinement of an axis changed it.
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
        """Widen a grid until the probability beyond it is negligible, and return the solution."""
        for _ in range(WIDENINGS):
            law = self.solve(grid)
            threshold = OUTERMOST * float(np.clip(law.gap, LEAST_GAP, self.tolerance))
            grid = Grid(wider(grid.x, law.weights, threshold), wider(grid.memory, law.memory_weights, threshold))
            if grid == law.grid:
                return law
        raise ConvergenceError(
            f"{self.title}: its law is not confined to [{grid.x.low:.3g}, {grid.x.high:.3g}]; "
            "the scheme is unstable, or nearly so"
        )

    # ------------------------------------------------------------------------------------------------------ first grid

    @cached_property
    def linear(self) -> LinearStep:
        """The scheme on each of the Gaussians that the target consists of."""
        return linear_step(self.step, 1 / self.target.deviations**2)

    @cached_property
    def before(self) -> Array:
        """Covariance of u before the last stage on each Gaussian, shape (n, k, k)."""
        return self.linear.cycle.stationary()

    @cached_property
    def first_grid(self) -> Grid:
        """An interval that contains the distribution on each Gaussian, with as few nodes as resolve the target.

        The nodes also resolve the score roughly, unless this needs more than `MANY` nodes. The score may vary faster
        than the density.
        """
        deviations = self.target.deviations
        if not np.isfinite(self.before[np.argmax(deviations)]).all():
            if self.target.gaussian_tails:
                raise UnstableError(f"{self.title}: unstable in the tails, so there is no stationary distribution")
            raise ConvergenceError(f"{self.title}: unstable on a Gaussian of the target's standard_deviation")
        wider = np.sqrt(np.nanmax(self.linear.read.push(self.before)[:, 0, 0] / deviations**2))
        x = Axis(*self.target.interval(self.reach * float(np.clip(wider, 0.5, 3))), LEAST)
        x = self.resolving(x)
        memory = self.memory(x)
        return Grid(self.resolving(self.denser(x)) if memory.n > 1 else x, memory)

    def resolving(self, x: Axis) -> Axis:
        """Return an axis with as many more nodes as it takes to see the target, and to resolve the score roughly."""
        while not self.target.seen(x.nodes, x.density(x.nodes)) or (x.n < MANY and not self.follows(x)):
            x = replace(x, n=int(1.25 * x.n))
        return x

    def denser(self, x: Axis) -> Axis:
        """Return an axis with nodes that are no closer than those of another, but fewer where they count less.

        They count most where the score rises, as on a ridge between modes: trajectories part there, so that functions
        vary fast. They count least in the tails. Nodes stay equidistant where noise of the position alone spans a
        spacing: it smooths functions, and its quadrature would take long for each point of a memory with noise.
        """
        slopes = np.gradient(self.score(x.nodes), x.nodes)
        inner = slopes[1:-1]
        ridges = np.flatnonzero((inner > slopes[:-2]) & (inner >= slopes[2:]) & (inner > 0)) + 1
        centres = [(float(x.nodes[i]), RIDGE / float(np.sqrt(slopes[i])), MORE_ON_RIDGE) for i in ridges]
        centres.append((self.target.mean, BULK * self.target.deviation, MORE_IN_BULK))
        axis = replace(x, centres=tuple(centres))
        most = float(axis.density(axis.nodes).max())
        if any(noise.alone > x.spacing and noise.shared[1:].any() for noise, _ in self.parts):
            return x
        return replace(axis, n=max(LEAST, int(np.ceil(x.n / (most * x.spacing)))))

    def follows(self, x: Axis) -> bool:
        """Return whether splines on an axis approximate the score between nodes to a hundredth of its maximum."""
        between, scores = (x.nodes[1:] + x.nodes[:-1]) / 2, self.score(x.nodes)
        return bool(np.abs(x.curve(scores)(x.place(between)) - self.score(between)).max() < 0.01 * np.abs(scores).max())

    @property
    def reach(self) -> float:
        """Standard deviations that a grid spans, to where a normal density falls below the tolerance, plus a margin."""
        return float(np.sqrt(-2 * np.log(self.tolerance))) + MARGIN

    def memory(self, x: Axis) -> Axis:
        """Return an axis for the memory before the last noise of a step."""
        noise, _ = self.parts[0]
        variance = self.before[:, -1, -1]
        if len(self.parts) == 1:
            last = self.step.stages[-1].map
            if self.step.rows == 1 or not (last.b[1] or (np.eye(2) + last.dA)[1].any()):
                return Axis(0.0, 0.0, 1)
            variance = variance - noise.shared[1] ** 2
        return self.memory_axis(x, variance)

    def memory_axis(self, x: Axis, variance: Array) -> Axis:
        """Return an axis for a memory with the given variance on each Gaussian.

        The axis contains the values that noise leads to, and those that the kicks of one step lead to from rest
        anywhere in the interval of x. If the memory has no noise, the axis contains the sum of many kicks.
        """
        maps = [stage.map for stage in self.step.stages]
        kicks = sum(abs(float(map.b[1])) for map in maps)
        if not any(map.C[1].any() for map in maps):
            kicks /= 1 - abs(float(np.prod([1 + map.dA[1, 1] for map in maps])))
        end = max(self.reach * float(np.sqrt(np.nanmax(variance))), kicks * float(np.abs(self.score(x.nodes)).max()))
        return Axis(-end, end, LEAST_MEMORY)

    # -------------------------------------------------------------------------------------------------------- solution

    def solve(self, grid: Grid) -> Solution:
        """Find the stationary distribution and the leading eigenvalues on one grid."""
        found = self.stationary(grid)
        values = np.concatenate([[1.0], found.eigenvalues(RESOLUTION * self.tolerance)])
        return Solution(grid, *self.read(found.law, grid), self.completed(values, found.step))

    def stationary(self, grid: Grid) -> Stationary:
        """Return the stationary distribution on one grid."""
        step = self.time_step(grid)
        self.spend(step.work + sum(push.work for push in step.pushes), grid)
        peak = np.argmax(np.interp(grid.x.nodes, self.target.x, self.target.density))
        return Stationary(step, (int(peak), grid.memory.n // 2))

    def check_nodes(self, nodes: int) -> None:
        """Raise an error if a grid with this number of nodes would take too long."""
        if nodes > MOST_NODES:
            raise self.unresolved(f"more than {MOST_NODES} nodes")

    def spend(self, operations: float, grid: Grid) -> None:
        """Take a number of operations on a grid from the budget, or raise an error if fewer are left."""
        if not self.budget.spend(operations):
            grids = f"{operations:.2g} of them on a grid of {grid.x.n} x {grid.memory.n} nodes"
            raise self.unresolved(f"more than {MOST_WORK:g} operations, {grids}")

    def unresolved(self, effort: str) -> ConvergenceError:
        """Return the error that says what it would take."""
        return ConvergenceError(
            f"{self.title}: not resolved to {self.tolerance:g}, that would take {effort}; "
            "a looser tolerance, another step or more friction may help"
        )

    def completed(self, values: Array, step: TimeStep) -> Array:
        """Complete eigenvalues near 1 to leading ones, the largest first.

        One of the candidates that is not among them is computed if it may be the second largest. If it is smaller, the
        list ends before it.
        """
        for value in self.candidates[self.candidates.imag >= 0]:
            if not found(np.array([value]), values, ALIKE).any():
                second = np.abs(values[1:]).max(initial=0)
                if 1 - np.abs(value) < (1 + ALIKE) * (1 - second):
                    self.spend(4 * step.work, step.grid)  # in complex numbers
                    near = step.nearest(value, RESOLUTION * self.tolerance)[:2]
                    values = np.concatenate([values, near, near.conj()])
                else:
                    values = values[np.abs(values) > np.abs(value)]
        return values[np.argsort(-np.abs(values), kind="stable")]

    @cached_property
    def candidates(self) -> Array:
        """The largest eigenvalues but 1 on the first grid, or on a coarser one if it has many nodes."""
        grid = self.first_grid
        most = MOST_DENSE // grid.memory.n
        return self.time_step(replace(grid, x=replace(grid.x, n=min(grid.x.n, most)))).largest(LEADING - 1)

    @cached_property
    def parts(self) -> list[tuple[Noise, list[Stage]]]:
        """A time step, from the last noise before the state is read: noise, and the stages up to the next noise."""
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
        """Return the operator of one time step on a grid."""
        self.check_nodes(grid.nodes)
        if max(grid.shape) > MOST_ON_AXIS:
            raise self.unresolved(f"more than {MOST_ON_AXIS} nodes on an axis")
        pushes = []
        for (noise, stages), (following, _) in zip(self.parts, self.parts[1:] + self.parts[:1], strict=True):
            pushes.append(Push(grid, grid, noise, stages, self.score, following))
        return TimeStep(pushes)

    def read(self, law: Array, grid: Grid) -> tuple[Array, Array]:
        """Return the weights of x at the end of a step, and those of the memory on the grid."""
        close, line = self.step.close, Grid(grid.x, Axis(0.0, 0.0, 1))
        noise, _ = self.parts[0]
        last = Stage(self.step.stages[-1].G, close)
        weights = law.reshape(grid.x.n, -1)
        ending = Noise(np.zeros(self.step.rows), float(np.linalg.norm(close.C[0])))
        reading = Push(grid, line, noise, [last], self.score, ending)
        return reading.law(weights)[:, 0], weights.sum(axis=0)


def split(noise: Array) -> Noise:
    """Split noise, shape (k, m), into one normal that the memory shares, and the rest.

    ``noise`` is a result of `uldnum.schemes.stage.Affine.compressed`, so the memory has at most one normal.
    """
    shared = noise[1:].any(axis=0)
    return Noise(noise[:, shared].sum(axis=1), float(np.linalg.norm(noise[0, ~shared])))


def found(values: Array, among: Array, tolerance: float) -> Array:
    """Return whether each eigenvalue is among others, up to a relative difference of 1 - lambda."""
    return np.abs(values[:, None] - among).min(axis=1) <= tolerance * np.abs(1 - values) + 1e-12


def wider(axis: Axis, weights: Array, threshold: float) -> Axis:
    """Widen an axis at each end where the weights of the outermost nodes exceed a threshold.

    The length that is added grows with the excess. The smallest weight of three nodes is used, because the weights of
    a distribution that is not smooth oscillate between negative and positive values.
    """
    if axis.n == 1:
        return axis
    held = np.array([weights[:3].min(), weights[-3:].min()])
    decades = np.ceil(np.log10(np.maximum(held / threshold, 1))).clip(max=DECADES)
    left, right = (WIDER * decades).tolist()
    length = axis.high - axis.low
    n = int(axis.n * (1 + left + right))
    return replace(axis, low=axis.low - left * length, high=axis.high + right * length, n=n)


def grown(grid: Grid, name: str, excess: float) -> Grid:
    """Return a grid with more nodes on one axis, whose error is ``excess`` times the tolerance."""
    growth = np.clip(1 + GROWTH * np.log10(excess), SLOWEST, FASTEST)
    axis = getattr(grid, name)
    return replace(grid, **{name: replace(axis, n=int(np.ceil(growth * axis.n)))})

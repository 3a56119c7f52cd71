"""The stationary law of a scheme on a one-dimensional target, found on grids that are refined until it stands.

The law of a chain moves from step to step under a linear operator. On a grid (`uldnum.exact.grid`) it is a product of
sparse matrices; its leading left eigenvector holds the weights of the stationary law, and the other leading eigenvalues
say how fast anything else is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import TypeVar

import numpy as np
from scipy.interpolate import BSpline, make_interp_spline
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs

from uldnum.exact.density import TargetDensity
from uldnum.exact.grid import DEGREE, Axis, Grid, Memory, Push, TooMuchWork
from uldnum.exact.linear import LinearStep, linear_step
from uldnum.schemes.stage import Stage, Step
from uldnum.typing import Array

__all__ = ["ConvergenceError", "Problem", "Solution", "UnstableError"]

# Eigenvalues that are computed, the dimension of the Krylov space, and how close those of two grids are if the same.
LEADING, KRYLOV, SAME = 6, 40, 0.01
# Positions at first, and by how much both axes grow.
LEAST, GROWTH = 40, 1.25
# By how much an end of the interval is moved, in lengths, and how often at most.
WIDER, WIDENINGS = 0.1, 6


Part = TypeVar("Part", Axis, Memory)


class ConvergenceError(RuntimeError):
    """An exact answer could not be had to the tolerance asked for."""


class UnstableError(ConvergenceError):
    """The scheme is unstable: it has no stationary law."""


@dataclass(frozen=True)
class Solution:
    """What is found on one grid: the marginal law of x at the end of a step, and eigenvalues.

    Attributes
    ----------
    grid : Grid
        The grid.
    weights : array, shape (n,)
        Of the nodes in x.
    eigenvalues : complex array, shape (m,)
        Of one time step, the largest first.
    """

    grid: Grid
    weights: Array
    eigenvalues: Array

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
        """The density as a spline on the interval, where its integral is 1 whatever the nodes at the ends hold."""
        x = self.grid.x
        curve = make_interp_spline(x.nodes, self.weights / x.spacing, k=DEGREE)
        return BSpline(curve.t, curve.c / curve.integrate(x.low, x.high), DEGREE)

    def density(self, x: Array) -> Array:
        """Density of x: none beyond the interval."""
        low, high = self.grid.x.low, self.grid.x.high
        return np.where((x >= low) & (x <= high), self.curve(np.clip(x, low, high)), 0.0)

    def cdf(self, x: Array) -> Array:
        """Cumulative distribution function of x."""
        return np.asarray(self.curve.antiderivative()(np.clip(x, self.grid.x.low, self.grid.x.high)))

    def confirmed(self, coarse: Solution) -> Solution:
        """Keep the eigenvalues that a coarser grid has, too: those that are artefacts of a grid come and go."""
        distance = np.abs(self.eigenvalues[:, None] - coarse.eigenvalues).min(axis=1)
        return replace(self, eigenvalues=self.eigenvalues[distance < SAME])

    def change(self, coarse: Solution, unit: float) -> tuple[float, float]:
        """By how much a coarser solution differed: mean, variance, second eigenvalue and gap; the cdf.

        Lengths are in a unit, the gap is relative. The first is infinite where this is no law.
        """
        if not len(self.eigenvalues) or abs(self.eigenvalues[0] - 1) > 1e-6:
            return np.inf, np.inf
        x = self.grid.x.nodes
        moments = abs(self.mean - coarse.mean) / unit, abs(self.variance - coarse.variance) / unit**2
        rates = [0.0]
        if len(self.eigenvalues) > 1:
            moved = np.abs(coarse.eigenvalues - self.eigenvalues[1]).min()
            gap = 1 - np.abs(self.eigenvalues[1])
            # Where hardly anything passes between modes, an error in what does decides their weights.
            rates += [moved, moved / gap if gap > 0 else np.inf]
        return max(*moments, *rates), float(np.abs(self.cdf(x) - coarse.cdf(x)).max())


@dataclass(frozen=True)
class Problem:
    """A scheme on a one-dimensional target, to be resolved to a tolerance.

    Attributes
    ----------
    title : str
        What errors call it.
    step : Step
        The scheme's tables.
    score : callable
        Score at positions, (n,) -> (n,).
    target : TargetDensity
        The target.
    tolerance : float
        Of mean, variance (in units of the target's standard deviation), cdf and second eigenvalue.
    """

    title: str
    step: Step
    score: Callable[[Array], Array]
    target: TargetDensity
    tolerance: float

    def resolved(self) -> tuple[Solution, float]:
        """Refine the grid until that changes nothing, and widen it until what lies beyond does not count.

        Returns
        -------
        Solution
            The finest.
        float
            By how much the last refinement changed it.
        """
        grid = self.first_grid()
        for _ in range(WIDENINGS):
            law, change = self.refined(grid)
            x = self.widened(law)
            if x == law.grid.x:
                return law, change
            memory = self.memory(x)
            grid = Grid(x, replace(memory, n=max(memory.n, law.grid.memory.n)))
        raise ConvergenceError(
            f"{self.title}: its law is not confined to [{grid.x.low:.3g}, {grid.x.high:.3g}]; "
            "the scheme is unstable, or nearly so"
        )

    def refined(self, grid: Grid) -> tuple[Solution, float]:
        """Refine a grid until that changes nothing beyond the tolerance; return the last change, too."""
        law = coarse = self.solve(grid)
        change, blur = np.inf, np.inf
        while max(change, blur) > self.tolerance:
            memory = grown(law.grid.memory) if change > self.tolerance else law.grid.memory
            coarse, law = law, self.solve(Grid(grown(law.grid.x), memory))
            change, blur = law.confirmed(coarse).change(coarse, self.target.deviation)
        return law.confirmed(coarse), max(change, blur)

    def widened(self, law: Solution) -> Axis:
        """Widen the interval at the ends where the outermost nodes hold more than the tolerance."""
        x = law.grid.x
        left, right = (WIDER * (np.abs(end).sum() > self.tolerance) for end in (law.weights[:4], law.weights[-4:]))
        length = x.high - x.low
        return Axis(x.low - left * length, x.high + right * length, int(x.n * (1 + left + right)))

    # ------------------------------------------------------------------------------------------------------ first grid

    @cached_property
    def linear(self) -> LinearStep:
        """The scheme on each of the Gaussians that the target consists of."""
        return linear_step(self.step, 1 / self.target.deviations**2)

    @cached_property
    def before(self) -> Array:
        """Covariance of u before the last stage on each Gaussian, shape (n, k, k)."""
        return self.linear.cycle.stationary()

    def first_grid(self) -> Grid:
        """Return an interval that holds the law on each Gaussian, with the fewest nodes that see the target in it."""
        deviations = self.target.deviations
        if not np.isfinite(self.before[np.argmax(deviations)]).all():
            if self.target.gaussian_tails:
                raise UnstableError(f"{self.title}: unstable in the tails, so there is no stationary law")
            raise ConvergenceError(f"{self.title}: unstable on a Gaussian of the target's standard_deviation")
        wider = np.sqrt(np.nanmax(self.linear.read.push(self.before)[:, 0, 0] / deviations**2))
        x = Axis(*self.target.interval((self.reach + 1) * float(np.clip(wider, 0.5, 3))), LEAST)
        while not self.target.seen(x.nodes):
            x = grown(x)
        return Grid(x, self.memory(x))

    @property
    def reach(self) -> float:
        """Standard deviations beyond which a normal density is below the tolerance."""
        return float(np.sqrt(-2 * np.log(self.tolerance)))

    def memory(self, x: Axis) -> Memory:
        """Return nodes for the memory, so many that they reach as many standard deviations away as x does."""
        if self.step.rows == 1:
            return Memory(1.0, 1)
        deviation, scale = (float(np.sqrt(np.nanmax(self.before[:, j, j]))) for j in (0, 1))
        if not any(np.any(stage.map.C[1]) for stage in self.step.stages):
            scale *= self.stiffening(x)
        farthest = max(x.high - self.target.centres.max(), self.target.centres.min() - x.low)
        outermost = max(self.reach, farthest / deviation)  # of n nodes: about 2 sqrt(n)
        return Memory(scale, 6 + int(outermost**2 / 4))

    def stiffening(self, x: Axis) -> float:
        """How much stronger the score is at the ends of x than on the Gaussians; at least 1.

        A memory that no noise reaches follows the score wherever the chain may be.
        """
        ends = np.array([x.low, x.high])
        distance = np.abs(ends[:, None] - self.target.centres).min(axis=1)
        return float(max(1.0, (np.abs(self.score(ends)) * self.target.deviations.max() ** 2 / distance).max()))

    # -------------------------------------------------------------------------------------------------------- solution

    def solve(self, grid: Grid) -> Solution:
        """Find the stationary law on one grid."""
        try:
            law, values = self.leading(grid, grid.nodes)
        except TooMuchWork as error:
            raise ConvergenceError(
                f"{self.title}: not resolved to {self.tolerance:g}, that would take {error}; a looser tolerance, "
                "another step or more friction may help"
            ) from None
        return Solution(grid, self.read(law / law.sum(), grid), values[np.argsort(-np.abs(values))])

    def leading(self, grid: Grid, nodes: int) -> tuple[Array, Array]:
        """Return the left eigenvector of a time step for the eigenvalue nearest 1, and the leading eigenvalues."""
        step = [push for noise, stages in self.parts for push in self.pushes(noise, stages, grid, grid)]
        operator = LinearOperator((nodes, nodes), matvec=lambda law: through(step, law), dtype=float)
        start = np.random.default_rng(0).random(nodes)  # the same each time, and of no symmetry, which would last
        try:
            values, vectors = eigs(operator, LEADING, ncv=min(KRYLOV, nodes - 1), v0=start, tol=1e-4 * self.tolerance)
        except ArpackNoConvergence:
            raise ConvergenceError(f"{self.title}: too many eigenvalues near 1; take a larger step") from None
        return vectors[:, np.argmin(np.abs(values - 1))].real, values

    @cached_property
    def parts(self) -> list[tuple[Array, list[Stage]]]:
        """A time step, from where the state is read: noise, and the stages up to the next noise."""
        stages = self.step.stages
        order = [stages[-1], *stages[:-1]]
        parts: list[tuple[Array, list[Stage]]] = []
        for j, stage in enumerate(order):
            noise = order[j - 1].map.C
            if parts and not noise.any():
                parts[-1][1].append(stage)
            else:
                parts.append((noise, [stage]))
        return parts

    def pushes(self, noise: Array, stages: Sequence[Stage], grid: Grid, onto: Grid) -> list[Push]:
        """Return the normals of a noise one after the other, the last of them (or none) with the maps that follow."""
        last, *others = [*noise.T] or [np.zeros(self.step.rows)]
        alone = [Push(grid, grid, column, [], self.score) for column in others]
        return [*alone, Push(grid, onto, last, stages, self.score)]

    def read(self, law: Array, grid: Grid) -> Array:
        """Return the weights of x at the end of a step: ``close``, for which one normal is enough."""
        close, line = self.step.close, Grid(grid.x, Memory(1.0, 1))
        noise, _ = self.parts[0]
        maps = self.pushes(noise, [Stage(self.step.stages[-1].G, close)], grid, line)
        jitter = Push(line, line, np.linalg.norm(close.C[:1], axis=1), [], self.score)
        return through([*maps, jitter], law)


def through(pushes: Sequence[Push], law: Array) -> Array:
    """Send weights through several maps in turn."""
    return reduce(lambda weights, push: push(weights), pushes, law)


def grown(axis: Part) -> Part:
    """Return an axis with more nodes; a memory that is not there stays so."""
    return axis if axis.n == 1 else replace(axis, n=int(GROWTH * axis.n))

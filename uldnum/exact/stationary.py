"""The stationary law of a scheme on a one-dimensional target, found on grids that are refined until it stands.

The law of a chain moves from step to step under a linear operator. On a grid (`uldnum.exact.grid`) it is a matrix P;
its left eigenvector for the eigenvalue 1 holds the weights of the stationary law, and the other leading eigenvalues say
how fast anything else is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import numpy as np
from scipy.interpolate import BSpline
from scipy.linalg import lu_factor, lu_solve
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs

from uldnum.exact.density import TargetDensity
from uldnum.exact.grid import Axis, Grid, TooMuchWork, blur, push
from uldnum.exact.linear import LinearStep, linear_step
from uldnum.schemes.stage import Stage, Step
from uldnum.typing import Array

__all__ = ["ConvergenceError", "Problem", "Solution", "UnstableError"]

# Eigenvalues that are reported, and those that are computed near 1.
LEADING, NEAR = 6, 12
# Relative difference of 1 - lambda up to which eigenvalues are the same, of two grids and of the first and another.
SAME, ALIKE = 0.01, 0.1
# Nodes of an axis at first, at least and where only the score asks for more, and by how much both axes grow.
LEAST, MANY, GROWTH = 24, 60, 1.25
# By how much an end of an interval is moved, in lengths, and how often at most; the share of the tolerance that its
# outermost node may hold.
WIDER, WIDENINGS, OUTERMOST = 0.1, 10, 0.1


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
    memory_weights : array, shape (k,)
        Of the nodes of the memory, before the last noise of a step.
    eigenvalues : complex array, shape (m,)
        Of one time step, the largest first.
    """

    grid: Grid
    weights: Array
    memory_weights: Array
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
        curve = x.curve(self.weights / x.spacing)
        return BSpline(curve.t, curve.c / curve.integrate(x.low, x.high), curve.k)

    def density(self, x: Array) -> Array:
        """Density of x: none beyond the interval."""
        low, high = self.grid.x.low, self.grid.x.high
        return np.where((x >= low) & (x <= high), self.curve(np.clip(x, low, high)), 0.0)

    def cdf(self, x: Array) -> Array:
        """Cumulative distribution function of x."""
        low, high = self.grid.x.low, self.grid.x.high
        integral = self.curve.antiderivative()
        return np.asarray(integral(np.clip(x, low, high)) - integral(low))

    def confirmed(self, coarse: Solution) -> Solution:
        """Keep the eigenvalues that a coarser grid has, too: those that are artefacts of a grid come and go."""
        return replace(self, eigenvalues=self.eigenvalues[found(self.eigenvalues, coarse.eigenvalues, SAME)][:LEADING])

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
        law = self.solve(self.first_grid())
        confirmed, change, widenings, memory_too = law, np.inf, 0, True
        while True:
            threshold = OUTERMOST * max(change, self.tolerance)
            x = widened(law.grid.x, law.weights, threshold)
            memory = widened(law.grid.memory, law.memory_weights, threshold)
            wider = Grid(x, memory) != law.grid
            if change <= self.tolerance and not wider:
                return confirmed, change
            widenings += wider
            if widenings > WIDENINGS:
                raise ConvergenceError(
                    f"{self.title}: its law is not confined to [{x.low:.3g}, {x.high:.3g}]; "
                    "the scheme is unstable, or nearly so"
                )
            coarse, law = law, self.solve(Grid(grown(x), grown(memory) if memory_too else memory))
            confirmed = law.confirmed(coarse)
            moved, blurred = confirmed.change(coarse, self.target.deviation)
            change, memory_too = max(moved, blurred), moved > self.tolerance

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
        """Return an interval that holds the law on each Gaussian, with the fewest nodes that see the target in it.

        They also resolve the score, roughly, unless that takes many: it may vary faster than the density.
        """
        deviations = self.target.deviations
        if not np.isfinite(self.before[np.argmax(deviations)]).all():
            if self.target.gaussian_tails:
                raise UnstableError(f"{self.title}: unstable in the tails, so there is no stationary law")
            raise ConvergenceError(f"{self.title}: unstable on a Gaussian of the target's standard_deviation")
        wider = np.sqrt(np.nanmax(self.linear.read.push(self.before)[:, 0, 0] / deviations**2))
        x = Axis(*self.target.interval(self.reach * float(np.clip(wider, 0.5, 3))), LEAST)
        while not self.target.seen(x.nodes) or (x.n < MANY and not self.follows(x)):
            x = grown(x)
        return Grid(x, self.memory(x))

    def follows(self, x: Axis) -> bool:
        """Whether splines on an axis are right about the score between nodes, to a hundredth of its maximum."""
        between, scores = (x.nodes[1:] + x.nodes[:-1]) / 2, self.score(x.nodes)
        return bool(np.abs(x.curve(scores)(between) - self.score(between)).max() < 0.01 * np.abs(scores).max())

    @property
    def reach(self) -> float:
        """Standard deviations that a grid spans to either side: a normal density falls below the tolerance, and one."""
        return float(np.sqrt(-2 * np.log(self.tolerance))) + 1

    def memory(self, x: Axis) -> Axis:
        """Return an axis for the memory before the last noise of a step."""
        noise, _ = self.parts[0]
        variance = self.before[:, -1, -1]
        if len(self.parts) == 1:
            last = self.step.stages[-1].map
            if self.step.rows == 1 or not (last.b[1] or (np.eye(2) + last.dA)[1].any()):
                return Axis(0.0, 0.0, 1)
            variance = variance - np.sum(noise[1] ** 2)
        return self.memory_axis(x, variance)

    def memory_axis(self, x: Axis, variance: Array) -> Axis:
        """Return an axis for a memory of this variance on each Gaussian.

        It holds what noise reaches, and what one step's kicks add from rest anywhere in the interval of x.
        """
        kicks = sum(abs(float(stage.map.b[1])) for stage in self.step.stages)
        end = max(self.reach * float(np.sqrt(np.nanmax(variance))), kicks * float(np.abs(self.score(x.nodes)).max()))
        return Axis(-end, end, 3 * LEAST // 4)

    # -------------------------------------------------------------------------------------------------------- solution

    def solve(self, grid: Grid) -> Solution:
        """Find the stationary law and leading eigenvalues on one grid."""
        try:
            matrix = self.matrix(grid)
        except TooMuchWork as error:
            raise ConvergenceError(
                f"{self.title}: not resolved to {self.tolerance:g}, that would take {error}; a looser tolerance, "
                "another step or more friction may help"
            ) from None
        law, values = stationary(matrix, 1e-3 * self.tolerance)
        return Solution(grid, *self.read(law, grid), self.completed(values, matrix))

    def completed(self, values: Array, matrix: Array) -> Array:
        """Complete eigenvalues near 1 to leading ones, the largest first.

        One of the candidates that is not among them is computed if it may be the second largest. If it is smaller, the
        list ends before it.
        """
        for value in self.candidates[self.candidates.imag >= 0]:
            if not found(np.array([value]), values, ALIKE).any():
                second = np.sort(np.abs(values))[-2]
                if 1 - np.abs(value) < (1 + ALIKE) * (1 - second):
                    near = nearest(matrix, value, 1e-3 * self.tolerance)
                    values = np.concatenate([values, near, near.conj()])
                else:
                    values = values[np.abs(values) > np.abs(value)]
        return values[np.argsort(-np.abs(values), kind="stable")]

    @cached_property
    def candidates(self) -> Array:
        """The largest eigenvalues but 1 on the first grid."""
        return leading(self.matrix(self.first_grid()))

    @cached_property
    def parts(self) -> list[tuple[Array, list[Stage]]]:
        """A time step, from the last noise before the state is read: noise, and the stages up to the next noise."""
        stages = self.step.stages
        order = [stages[-1], *stages[:-1]]
        parts: list[tuple[Array, list[Stage]]] = []
        for j, stage in enumerate(order):
            noise = order[j - 1].map.compressed().C
            if parts and not noise.any():
                parts[-1][1].append(stage)
            else:
                parts.append((noise, [stage]))
        return parts

    def matrix(self, grid: Grid) -> Array:
        """Return the matrix of one time step."""
        return reduce(np.matmul, [push(grid, grid, noise, stages, self.score) for noise, stages in self.parts])

    def read(self, law: Array, grid: Grid) -> tuple[Array, Array]:
        """Return the weights of x at the end of a step, and of the memory where the law is that of the grid."""
        close, line = self.step.close, Grid(grid.x, Axis(0.0, 0.0, 1))
        noise, _ = self.parts[0]
        reading = push(grid, line, noise, [Stage(self.step.stages[-1].G, close)], self.score)
        weights = law @ reading @ blur(grid.x, float(np.linalg.norm(close.C[0])))
        return weights, law.reshape(grid.x.n, -1).sum(axis=0)


def stationary(matrix: Array, tolerance: float) -> tuple[Array, Array]:
    """Return the stationary law, and the eigenvalues of a time step that are nearest 1, with 1 itself.

    The tolerance is relative, of 1 - lambda. With the uniform law g, and all eigenvalues but 1 as they are,
    ``M = 1 - P + 10 g`` is regular, and ``pi M = 10 g``.
    """
    nodes = len(matrix)
    system = -matrix
    diagonal = np.einsum("ii->i", system)
    diagonal -= system.sum(axis=1)  # 1, but for rounding
    system += 10 / nodes
    factors = lu_factor(system, overwrite_a=True, check_finite=False)
    law = lu_solve(factors, np.full(nodes, 10 / nodes), trans=1, check_finite=False)
    return law / law.sum(), np.concatenate([[1.0], 1 - 1 / dominant(factors, min(NEAR, nodes - 2), float, tolerance)])


def nearest(matrix: Array, shift: complex, tolerance: float) -> Array:
    """Return the two eigenvalues nearest a shift."""
    factors = lu_factor(matrix - shift * np.eye(len(matrix)), overwrite_a=True, check_finite=False)
    return shift + 1 / dominant(factors, 2, complex, tolerance)


def dominant(factors: tuple[Array, Array], count: int, dtype: type, tolerance: float) -> Array:
    """Return the eigenvalues of largest modulus of the inverse of a matrix, given its LU factors."""
    nodes = len(factors[1])
    inverse = LinearOperator((nodes, nodes), lambda v: lu_solve(factors, v, check_finite=False), dtype=dtype)
    start = np.random.default_rng(0).random(nodes)  # the same each time, and of no symmetry, which would last
    return eigs(inverse, count, v0=start.astype(dtype), tol=tolerance, return_eigenvectors=False)


def leading(matrix: Array) -> Array:
    """Return the eigenvalues of largest modulus, without the one nearest 1.

    Of a power of the matrix, so high that few count, so that the iteration converges however small a step; those of
    the matrix itself follow from its projection on the eigenvectors.
    """
    power, count = matrix, min(NEAR, len(matrix) - 2)
    while count < np.trace(power) < np.inf:
        power = power @ power
    start = np.random.default_rng(0).random(len(matrix))
    try:
        _, vectors = eigs(power, count, v0=start, tol=1e-6)
    except ArpackNoConvergence as error:
        vectors = error.eigenvectors
    values = np.linalg.eigvals(np.linalg.lstsq(vectors, matrix @ vectors)[0])
    others = np.delete(values, np.argmin(np.abs(values - 1)))
    return others[np.argsort(-np.abs(others))][: LEADING - 1]


def found(values: Array, among: Array, tolerance: float) -> Array:
    """Whether each eigenvalue is among others, up to a relative difference of 1 - lambda."""
    return np.abs(values[:, None] - among).min(axis=1) <= tolerance * np.abs(1 - values) + 1e-12


def widened(axis: Axis, weights: Array, threshold: float) -> Axis:
    """Widen an axis at the ends where the outermost node holds more than a threshold."""
    left, right = (WIDER * float(abs(end) > threshold and axis.n > 1) for end in (weights[0], weights[-1]))
    length = axis.high - axis.low
    return Axis(axis.low - left * length, axis.high + right * length, int(axis.n * (1 + left + right)))


def grown(axis: Axis) -> Axis:
    """Return an axis with more nodes; a memory that is not there stays so."""
    return axis if axis.n == 1 else replace(axis, n=int(GROWTH * axis.n))

"""Functions of (position, memory) on a grid, and stages as matrices that act on them.

A stage is used through what it does to test functions, ``(P f)(u) = E f(u')``: these are as smooth as the target's
score however small the step or degenerate the noise, so the grid need not resolve the noise. In position and in memory
they are splines that interpolate at equidistant nodes. Points beyond an interval are moved to its end. P then keeps
constants, and does not amplify functions beyond what interpolation does, however far a stage throws a chain.

The splines are of high degree. A wave number k below that of the grid, ``pi/spacing``, is then interpolated with an
error of about ``2 (k spacing/2 pi)^12``, and eigenvalues converge almost as with trigonometric functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from scipy.interpolate import BSpline

from uldnum.schemes.stage import Stage
from uldnum.typing import Array

__all__ = ["Axis", "Grid", "TooMuchWork", "blur", "push"]

DEGREE = 11
# Nodes beyond either end, into which a function is continued by reflection.
GHOSTS = 30
# Values that are held at a time while a matrix is built, and nodes of a grid at most: matrices are dense.
CHUNK, MOST = 2_000_000, 6_000
# Up to how many spacings a standard deviation of noise is integrated by Gauss-Hermite quadrature.
NARROW = 1.5


class TooMuchWork(Exception):  # noqa: N818, it is no error until nothing cheaper is left to try
    """A grid would take longer than anyone should wait; says how much it would take."""


@dataclass(frozen=True)
class Axis:
    """Splines that interpolate at n equidistant nodes on an interval; beyond it they have the value at the end.

    One node stands for functions that are constant.
    """

    low: float
    high: float
    n: int

    @cached_property
    def nodes(self) -> Array:
        """The nodes, shape (n,)."""
        return np.linspace(self.low, self.high, self.n) if self.n > 1 else np.array([(self.low + self.high) / 2])

    @property
    def spacing(self) -> float:
        """Distance of the nodes."""
        return (self.high - self.low) / (self.n - 1) if self.n > 1 else np.inf

    @cached_property
    def knots(self) -> Array:
        """Knots of the splines, not-a-knot at the outermost of the nodes beyond the ends."""
        nodes, omitted = self.extended, DEGREE // 2 + 1
        return np.concatenate([[nodes[0]] * (DEGREE + 1), nodes[omitted:-omitted], [nodes[-1]] * (DEGREE + 1)])

    @property
    def extended(self) -> Array:
        """The nodes, and those beyond the ends."""
        return self.low + self.spacing * np.arange(-GHOSTS, self.n + GHOSTS)

    @cached_property
    def coefficients(self) -> Array:
        """Matrix from values at the nodes to coefficients of the splines.

        Beyond an end e with value f(e), a function is continued by ``2 f(e) - f(2 e - x)``. Splines that stopped at the
        ends, or had a kink there, would amplify or ring.
        """
        values = np.zeros((self.n + 2 * GHOSTS, self.n))
        values[GHOSTS:-GHOSTS] = np.eye(self.n)
        beyond = np.arange(1, GHOSTS + 1)
        mirrored = np.minimum(beyond, self.n - 1)
        for side, inside in ((values, mirrored), (values[::-1, ::-1], mirrored)):
            side[GHOSTS - beyond, 0] += 2
            side[GHOSTS - beyond, inside] -= 1
        return np.linalg.solve(BSpline.design_matrix(self.extended, self.knots, DEGREE).toarray(), values)

    def weights(self, x: Array) -> Array:
        """Return weights of the nodes that interpolate at points x, shape (..., n)."""
        if self.n == 1:
            return np.ones((*x.shape, 1))
        design = BSpline.design_matrix(np.clip(x.ravel(), self.low, self.high), self.knots, DEGREE)
        return (design @ self.coefficients).reshape(*x.shape, self.n)

    def curve(self, values: Array) -> BSpline:
        """Return the spline with these values at the nodes, to be used on the interval."""
        return BSpline(self.knots, self.coefficients @ values, DEGREE)


@dataclass(frozen=True)
class Grid:
    """The tensor grid of an axis for positions and one for the memory."""

    x: Axis
    memory: Axis

    @property
    def nodes(self) -> int:
        """How many nodes it has; raises `TooMuchWork` if they are too many."""
        if self.x.n * self.memory.n > MOST:
            raise TooMuchWork(f"more than {MOST} nodes")
        return self.x.n * self.memory.n

    @cached_property
    def points(self) -> Array:
        """Its nodes, shape (x.n * memory.n, 2)."""
        return np.array(list(product(self.x.nodes, self.memory.nodes)))

    def rule(self, reach: Array) -> tuple[Array, Array]:
        """Return nodes and weights of a quadrature for a normal that reaches so far in (x, memory).

        Gauss-Hermite is best where the noise spans few splines. Where it spans many, splines need the trapezoidal rule,
        with nodes closer than theirs: what it does not resolve of them it would take for slow functions.
        """
        spans = max(abs(reach[0]) / self.x.spacing, abs(reach[-1]) / self.memory.spacing if len(reach) > 1 else 0)
        if spans == 0:
            return np.zeros(1), np.ones(1)
        if spans < NARROW:
            nodes, weights = hermegauss(int(16 + 8 * spans**2))
        else:
            nodes = np.linspace(-8, 8, int(20 * spans))
            weights = np.exp(-(nodes**2) / 2)
        return nodes, weights / weights.sum()


def push(grid: Grid, onto: Grid, noise: Array, stages: Sequence[Stage], score: Callable[[Array], Array]) -> Array:
    """Return the matrix of noise and then maps with scores, from values on one grid to expectations on another.

    Entry (i, j) is the weight of node j of ``onto`` in ``E f(u')`` at node i of ``grid``. The noise comes first: in
    schemes that add it to the momentum it then reaches the position, too, and the fast modes of the grid are damped as
    the scheme damps them.

    Parameters
    ----------
    grid, onto : Grid
        Where the state is before and after.
    noise : array, shape (k, m)
        Weights of the normals; as `uldnum.schemes.stage.Affine.compressed` returns them, so that all but the first are
        of the position alone.
    stages : sequence of Stage
        The maps, one-dimensional tables with one or two rows; their own noise is left out.
    score : callable
        Score at positions, (n,) -> (n,).
    """
    line = noise[:, 0] if noise.shape[1] else np.zeros(len(noise))
    reaches = [line]
    for stage in stages:
        reaches.append(reaches[-1] + stage.map.dA @ reaches[-1])
    normals, weights = onto.rule(np.abs(reaches).max(axis=0))
    matrix = np.empty((grid.nodes, onto.nodes))
    size = max(1, CHUNK // (len(normals) * (onto.x.n + onto.memory.n)))
    for start in range(0, len(matrix), size):
        u = grid.points[start : start + size, None, : len(line)] + normals[:, None] * line  # (nodes, normals, k)
        for stage in stages:
            y = u @ stage.G
            u = u + (u @ stage.map.dA.T + score(y.ravel()).reshape(y.shape)[..., None] * stage.map.b)
        block = (onto.x.weights(u[..., 0]) * weights[:, None]).swapaxes(1, 2) @ onto.memory.weights(u[..., -1])
        matrix[start : start + size] = block.reshape(len(u), -1)
    for column in noise.T[1:]:
        matrix = (blur(grid.x, column[0]) @ matrix.reshape(grid.x.n, -1)).reshape(matrix.shape)
    return matrix


def blur(axis: Axis, deviation: float) -> Array:
    """Return the matrix of noise of this standard deviation in the position."""
    line = Grid(axis, Axis(0.0, 0.0, 1))
    return push(line, line, np.array([[deviation]]), (), np.zeros_like)

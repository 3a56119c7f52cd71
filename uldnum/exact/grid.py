"""Functions of position and memory on a grid, and stages of a time step as matrices that act on them.

A stage acts on test functions by ``(P f)(u) = E f(u')``. These functions are as smooth as the score of the target,
however small the step or degenerate the noise, so the grid need not resolve the noise. In position and in memory they
are splines that interpolate at equidistant nodes. Points outside the interval of an axis are moved to its end. P then
preserves constants and is bounded, however far a stage moves a chain.

The splines have a high degree. A wave number k below that of the grid, ``pi/spacing``, is interpolated with an error of
about ``2 (k spacing/2 pi)^12``, so eigenvalues converge almost as fast as with trigonometric functions.

Let B be the matrix from the coefficients of splines to their values at the nodes, and A the matrix from coefficients to
expectations after a stage. Then ``P = A B^-1``. Both matrices are banded if a stage moves the position by only a few
nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.polynomial.chebyshev import chebvander
from numpy.polynomial.hermite_e import hermegauss
from scipy.interpolate import BSpline

from uldnum._util.typing import Array
from uldnum.schemes.stage import Stage

__all__ = ["Axis", "Grid", "Push", "quadrature"]

# Degree of the splines, and of the polynomials for splines that noise has smoothed.
DEGREE, SMOOTHED = 11, 20
# Up to how many spacings a standard deviation of noise is integrated by Gauss-Hermite quadrature.
NARROW = 1.5
# The time that the value of a spline takes, in floating-point operations of dense matrices.
VALUE = 400


@dataclass(frozen=True)
class Axis:
    """Splines that interpolate at n equidistant nodes on an interval and are constant outside it.

    At an end e, splines are continued by ``2 f(e) - f(2 e - x)``, so that the number of splines equals the number of
    nodes. Splines that simply stopped at the ends would amplify errors. A single node represents constant functions.

    Attributes
    ----------
    low, high : float
        Ends of the interval.
    n : int
        Number of nodes.
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

    def window(self, x: Array, noise: float = 0.0) -> tuple[int, Array]:
        """Return the number of the first spline that is used at points x, and values of it and of those that follow.

        Values have shape ``(*x.shape, width)``, the width being common to all points. They are expectations at
        ``x + noise xi`` of splines that are continued beyond the ends.
        """
        if self.n == 1:
            return 0, np.ones((*x.shape, 1))
        polynomials = pieces(noise / self.spacing, self.n - 1)
        degree, ghosts = len(polynomials) - 1, polynomials.shape[1] // 2 - 1
        t = np.clip((x - self.low) / self.spacing, 0, self.n - 1)
        cell = np.minimum(t.astype(int), self.n - 2)
        first, stop = int(cell.min()), int(cell.max()) + 2 * ghosts + 2  # counted from the outermost ghost
        left, right = first < ghosts, stop > self.n + ghosts
        if left:
            first, stop = 0, max(stop, 2 * ghosts + 1)
        if right:
            first, stop = min(first, self.n - 1), self.n + 2 * ghosts
        values = np.zeros((*x.shape, stop - first))
        places = (cell - first)[..., None] + np.arange(2 * ghosts + 2)
        np.put_along_axis(values, places, chebvander(2 * (t - cell) - 1, degree) @ polynomials, axis=-1)
        if left:
            values = reflected(values, ghosts)
        if right:
            values = reflected(values[..., ::-1], ghosts)[..., ::-1]
        return max(first - ghosts, 0), values

    def values(self, x: Array) -> Array:
        """Return values of all splines at points x, shape (..., n)."""
        first, some = self.window(x)
        values = np.zeros((*x.shape, self.n))
        values[..., first : first + some.shape[-1]] = some
        return values

    @cached_property
    def collocation(self) -> Array:
        """Values of the splines at the nodes, shape (n, n)."""
        return self.values(self.nodes)

    def curve(self, values: Array) -> BSpline:
        """Return the spline with these values at the nodes, to be used on the interval."""
        inner = np.linalg.solve(self.collocation, values)
        ghosts = np.arange(1, DEGREE // 2 + 1)
        coefficients = np.concatenate([2 * inner[0] - inner[ghosts[::-1]], inner, 2 * inner[-1] - inner[-1 - ghosts]])
        knots = self.low + self.spacing * (np.arange(len(coefficients) + DEGREE + 1) - DEGREE)
        return BSpline(knots, coefficients, DEGREE)


def reflected(values: Array, ghosts: int) -> Array:
    """Express the first splines, which are beyond an end, by those within."""
    inner, beyond = values[..., ghosts:].copy(), values[..., ghosts - 1 :: -1]
    inner[..., 0] += 2 * beyond.sum(axis=-1)
    inner[..., 1 : ghosts + 1] -= beyond
    return inner


@lru_cache
def pieces(spread: float, most: int) -> Array:
    """Return the splines between two nodes as Chebyshev coefficients, shape (degree + 1, splines).

    The splines are smoothed by noise with a standard deviation of ``spread`` spacings. They extend at most ``most``
    nodes beyond the two.
    """
    spline = BSpline.basis_element(np.arange(DEGREE + 2), extrapolate=False)
    reach = DEGREE // 2 + int(np.ceil(8 * spread))
    normals, weights = quadrature(spread)

    def smoothed(t: Array) -> Array:
        offsets = (t[:, None] + 2 + DEGREE) / 2 - np.arange(-reach, reach + 2)
        return np.nan_to_num(spline(offsets[..., None] + spread * normals)) @ weights

    degree = SMOOTHED if spread else DEGREE
    nodes = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    polynomials = np.linalg.solve(chebvander(nodes, degree), smoothed(nodes))
    beyond = max(reach - most, 0)
    kept = polynomials[:, beyond : polynomials.shape[1] - beyond]
    kept[:, 0] += polynomials[:, :beyond].sum(axis=1)
    kept[:, -1] += polynomials[:, polynomials.shape[1] - beyond :].sum(axis=1)
    return kept


@dataclass(frozen=True)
class Grid:
    """The tensor grid of an axis for the position and an axis for the memory.

    Attributes
    ----------
    x, memory : Axis
        Axes of position and memory.
    """

    x: Axis
    memory: Axis

    @property
    def shape(self) -> tuple[int, int]:
        """Nodes along either axis."""
        return self.x.n, self.memory.n

    @property
    def nodes(self) -> int:
        """How many nodes it has."""
        return self.x.n * self.memory.n

    def points(self, rows: int) -> Array:
        """Its nodes, shape (x.n, memory.n, rows)."""
        return np.stack(np.meshgrid(self.x.nodes, self.memory.nodes, indexing="ij"), axis=-1)[..., :rows]

    def coefficients(self, values: Array) -> Array:
        """Return coefficients of splines with these values at the nodes, both of shape (x.n, memory.n)."""
        return np.linalg.solve(self.memory.collocation, np.linalg.solve(self.x.collocation, values).T).T

    def weights(self, functional: Array) -> Array:
        """Turn a functional on the splines into weights of the nodes, both of shape (x.n, memory.n)."""
        return np.linalg.solve(self.memory.collocation.T, np.linalg.solve(self.x.collocation.T, functional).T).T


def quadrature(spans: float) -> tuple[Array, Array]:
    """Return nodes and weights of a quadrature for a standard normal that spans ``spans`` spacings of splines.

    Gauss-Hermite quadrature is best where the noise spans few splines. Where it spans many, the trapezoidal rule with
    nodes closer than those of the splines is needed: a coarser rule would alias fast splines to slow functions.
    """
    if spans == 0:
        return np.zeros(1), np.ones(1)
    if spans < NARROW:
        nodes, weights = hermegauss(int(6 + 10 * spans + 6 * spans**2))
    else:
        nodes = np.linspace(-8, 8, int(20 * spans))
        weights = np.exp(-(nodes**2) / 2)
    return nodes, weights / weights.sum()


class Push:
    """The matrix A of noise followed by maps, from splines on one grid to expectations at the nodes of another.

    The noise comes first: in schemes that add it to the momentum it then also reaches the position, and the fast modes
    of the grid are damped as the scheme damps them. A second noise, of the position only, may come last.

    Parameters
    ----------
    grid, onto : Grid
        Grids of the state before and after.
    noise : array, shape (k,)
        Coefficients of the normal in each row.
    stages : sequence of Stage
        The maps, as one-dimensional tables with one or two rows. The noise of these tables is ignored.
    score : callable
        Score at positions, (n,) -> (n,).
    jitter : float, default 0.0
        Standard deviation of the second noise.

    Attributes
    ----------
    rows : list of (int, array of shape (grid.memory.n, width, onto.memory.n))
        For each node in x, the index of the first spline in x with a nonzero entry, and the entries of this spline and
        of those that follow.
    work : float
        Cost of the construction, in equivalent floating-point operations of dense matrices.
    """

    def __init__(
        self,
        grid: Grid,
        onto: Grid,
        noise: Array,
        stages: Sequence[Stage],
        score: Callable[[Array], Array],
        jitter: float = 0.0,
    ) -> None:
        self.grid, self.onto = grid, onto
        # Derivative of u by a normal after each stage, linearised at each node. The quadrature must resolve the splines
        # where the derivative is largest.
        slopes = np.gradient(score(grid.x.nodes), grid.x.spacing)
        reaches = [np.tile(noise, (grid.x.n, 1))]
        for stage in stages:
            kicks = (slopes * (reaches[-1] @ stage.G))[:, None] * stage.map.b
            reaches.append(reaches[-1] + (reaches[-1] @ stage.map.dA.T + kicks))
        # The scores of all stages depend on the position. The memory matters only after the last stage.
        along_x = max(float(np.abs(reach[:, 0]).max()) for reach in reaches)
        spans = max(along_x / onto.x.spacing, float(np.abs(reaches[-1][:, -1]).max()) / onto.memory.spacing)
        normals, weights = quadrature(spans)
        u = grid.points(len(noise))[:, :, None] + normals[:, None] * noise  # (x, memory, normals, k)
        for stage in stages:
            y = u @ stage.G
            u = u + (u @ stage.map.dA.T + score(y.ravel()).reshape(y.shape)[..., None] * stage.map.b)
        self.rows: list[tuple[int, Array]] = []
        self.work = 0.0
        for row in u:
            first, values = onto.x.window(row[..., 0], jitter)  # (memory, normals, width)
            self.work += values.size * (VALUE + 2 * onto.memory.n)
            weighted = (values * weights[:, None]).swapaxes(1, 2)
            self.rows.append((first, weighted @ onto.memory.values(row[..., -1])))

    def law(self, weights: Array) -> Array:
        """Return the weights of the distribution after the stage."""
        functional = np.zeros((self.onto.x.n, self.onto.memory.n))
        for (first, row), some in zip(self.rows, weights, strict=True):
            functional[first : first + row.shape[1]] += np.tensordot(some, row, 1)
        return self.onto.weights(functional)

    def expectation(self, values: Array) -> Array:
        """Return expectations, at the nodes before the stage, of a function with these values at the nodes after it."""
        coefficients = self.onto.coefficients(values)
        parts = [np.tensordot(row, coefficients[first : first + row.shape[1]], 2) for first, row in self.rows]
        return np.stack(parts)

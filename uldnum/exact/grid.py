"""Functions of position and memory on a grid, and stages of a time step as matrices that act on them.

A stage is used through what it does to test functions, ``(P f)(u) = E f(u')``: these are as smooth as the target's
score however small the step or degenerate the noise, so the grid need not resolve the noise. In position and in memory
they are splines that interpolate at nodes, in a coordinate in which these are equidistant. Points beyond an interval
are moved to its end. P then keeps constants, and is bounded however far a stage throws a chain.

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

__all__ = ["Axis", "Grid", "Noise", "Push", "quadrature"]

# Degree of the splines, and of the polynomials for splines that noise has smoothed.
DEGREE, SMOOTHED = 11, 20
# Nodes that are not equidistant are interpolated in so many times as many points, and improved by Newton's method.
FINE, NEWTON = 20, 4
# Up to how many spacings a standard deviation of noise is integrated by Gauss-Hermite quadrature.
NARROW = 1.5
# Standard deviations of noise that quadrature reaches, and the distance of its nodes in spacings of splines.
SPREAD, CLOSE = 8, 0.8
# Rates at which a noise spreads are at least this in its standard deviations, and rounded up to powers of this number.
SLOW, STEP = 0.1, 1.2
# The time that a product of two splines takes, in floating-point operations of dense matrices.
PRODUCT = 40


@dataclass(frozen=True)
class Axis:
    """Splines that interpolate at n nodes on an interval; beyond it they have the value at the end.

    Nodes are equidistant in ``x + sum_k a_k w_k tanh((x - c_k)/w_k)``, in which functions are splines: around a centre
    c, over a width w, they are ``1 + a`` times as dense as far away from all centres.

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
    centres: tuple[tuple[float, float, float], ...] = ()

    @cached_property
    def nodes(self) -> Array:
        """The nodes, shape (n,)."""
        if self.n == 1:
            return np.array([(self.low + self.high) / 2])
        x = np.linspace(self.low, self.high, self.n)
        if self.centres:
            many = np.linspace(self.low, self.high, FINE * self.n)
            x[1:-1] = np.interp(np.arange(1, self.n - 1), self.place(many), many)
            for _ in range(NEWTON):
                x[1:-1] -= (self.place(x[1:-1]) - np.arange(1, self.n - 1)) / self.density(x[1:-1])
        return x

    @property
    def spacing(self) -> float:
        """Distance of the nodes, on average."""
        return (self.high - self.low) / (self.n - 1) if self.n > 1 else np.inf

    def stretched(self, x: Array) -> Array:
        """Return the coordinate in which nodes are equidistant."""
        return x + sum(a * w * np.tanh((x - c) / w) for c, w, a in self.centres)

    @cached_property
    def scale(self) -> tuple[float, float]:
        """The stretched coordinate of the first node, and how many nodes there are in a unit of it."""
        low, high = self.stretched(np.array([self.low, self.high])).tolist()
        return low, (self.n - 1) / (high - low)

    def density(self, x: Array) -> Array:
        """Return how many nodes there are in a unit of length at points x."""
        more = sum(a * (1 - np.tanh((x - c) / w) ** 2) for c, w, a in self.centres)
        return self.scale[1] * (np.ones_like(x) + more)

    def place(self, x: Array) -> Array:
        """Return points as numbers of nodes, fractions included; points beyond the ends are moved there."""
        if self.n == 1:
            return np.zeros_like(x)
        low, dense = self.scale
        return (dense * (self.stretched(x) - low)).clip(0, self.n - 1)

    def window(self, x: Array, noise: float = 0.0) -> tuple[int, Array]:
        """Return the number of the first spline that is used at points x, and values of it and of those that follow.

        Values have shape ``(*x.shape, width)``, the width being common to all points. They are expectations at
        ``x + noise xi``, of splines that are continued beyond the ends if the nodes are equidistant.
        """
        if self.n == 1:
            return 0, np.ones((*x.shape, 1))
        if noise and self.centres:
            normals, weights = quadrature(noise * float(self.density(self.nodes).max()))
            first, values = self.window(x[..., None] + noise * normals)
            return first, weights @ values
        polynomials = pieces(noise / self.spacing, self.n - 1)
        degree, ghosts = len(polynomials) - 1, polynomials.shape[1] // 2 - 1
        t = self.place(x)
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

    @cached_property
    def interpolation(self) -> Array:
        """Matrix from the values of a spline at the nodes to its coefficients, shape (n, n)."""
        return np.linalg.inv(self.collocation)

    def curve(self, values: Array) -> BSpline:
        """Return the spline with these values at the nodes, as a function of `place`."""
        inner = self.interpolation @ values
        ghosts = np.arange(1, DEGREE // 2 + 1)
        coefficients = np.concatenate([2 * inner[0] - inner[ghosts[::-1]], inner, 2 * inner[-1] - inner[-1 - ghosts]])
        return BSpline(np.arange(len(coefficients) + DEGREE + 1.0) - DEGREE, coefficients, DEGREE)


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
        return self.x.interpolation @ values @ self.memory.interpolation.T

    def weights(self, functional: Array) -> Array:
        """Turn a functional on the splines into weights of the nodes, both of shape (x.n, memory.n)."""
        return self.x.interpolation.T @ functional @ self.memory.interpolation


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
        nodes = np.linspace(-SPREAD, SPREAD, int(2 * SPREAD * spans / CLOSE))
        weights = np.exp(-(nodes**2) / 2)
    return nodes, weights / weights.sum()


def averaging(axis: Axis, noise: float, rate: float) -> tuple[Array, Array]:
    """Return points, and the matrix from the values of a function there to its averages over noise at each node.

    The function varies like splines of which the points pass so many per unit. The same points serve all nodes, unless
    a few for each of them are fewer.
    """
    if not noise:
        return axis.nodes, np.eye(axis.n)
    low, high = axis.low - SPREAD * noise, axis.high + SPREAD * noise
    points = np.linspace(low, high, int((high - low) * max(rate / CLOSE, 2 / noise)) + 2)
    normals, weights = quadrature(noise * rate)
    if axis.n * len(normals) < len(points):
        return np.add.outer(axis.nodes, noise * normals).ravel(), np.kron(np.eye(axis.n), weights)
    averages = np.exp(-(((points - axis.nodes[:, None]) / noise) ** 2) / 2)
    return points, averages / averages.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Noise:
    """The noise of a stage.

    Attributes
    ----------
    shared : array, shape (k,)
        Weights of one normal in the rows of u, which the memory shares.
    alone : float
        Standard deviation of the rest, all of which is in the position.
    """

    shared: Array
    alone: float = 0.0

    @property
    def shear(self) -> float:
        """By how much the position moves with the memory."""
        return float(self.shared[0] / self.shared[-1]) if self.shared[1:].any() else 0.0


class Push:
    """The matrix A of noise followed by maps, from splines on one grid to expectations at the nodes of another.

    The noise comes first: in schemes that add it to the momentum it then reaches the position, too, and the fast modes
    of the grid are damped as the scheme damps them. The part of the following noise that is of the position alone comes
    last.

    Positions on a grid are ``x - a p``, a being the shear of the noise that comes next. That noise then changes the
    memory alone, to some ``q = p + noise``, and what follows is a function of q for each node in x, whatever p was. It
    is tabulated once.

    Parameters
    ----------
    grid, onto : Grid
        Where the state is before and after.
    noise : Noise
        The noise, of which the shared part is yet to come.
    stages : sequence of Stage
        The maps, as one-dimensional tables with one or two rows. The noise of these tables is ignored.
    score : callable
        Score at positions, (n,) -> (n,).
    following : Noise, optional
        The noise that comes after the maps.

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
        noise: Noise,
        stages: Sequence[Stage],
        score: Callable[[Array], Array],
        following: Noise | None = None,
    ) -> None:
        self.grid, self.onto = grid, onto
        self.noise, self.stages, self.score = noise, stages, score
        self.following = following or Noise(np.zeros(len(noise.shared)))
        self.rows: list[tuple[int, Array]] = []
        self.work = 0.0
        powers = np.ceil(np.log(self.rates()) / np.log(STEP))
        averages: dict[float, Array] = {}
        ends: dict[int, Array] = {}
        for power in np.unique(powers):
            memory, averages[power] = averaging(grid.memory, self.spread, STEP**power)
            alike = np.flatnonzero(powers == power)
            ends.update(zip(alike.tolist(), self.path(grid.x.nodes[alike], memory)[-1], strict=True))
        for i, power in enumerate(powers):
            u, weights = ends.pop(i), averages[power]
            first, along_x = onto.x.window(u[:, 0], self.following.alone)  # (memory, width)
            products = along_x[:, :, None] * onto.memory.values(u[:, -1])[:, None, :]
            self.work += products.size * PRODUCT
            if self.spread:
                self.work += 2 * products.size * grid.memory.n
                products = (weights @ products.reshape(len(u), -1)).reshape(grid.memory.n, *products.shape[1:])
            self.rows.append((first, products))

    @property
    def spread(self) -> float:
        """Standard deviation of the noise of the memory."""
        return abs(float(self.noise.shared[1:].sum()))

    def path(self, x: Array, memory: Array) -> list[Array]:
        """Return u wherever the score is evaluated and at the end, (x, memory, k), given the memory after the noise.

        Before the end, u is the position alone.
        """
        u = np.stack(np.meshgrid(x, memory, indexing="ij"), axis=-1)[..., : len(self.noise.shared)]
        u[..., 0] += self.noise.shear * memory
        path = []
        for stage in self.stages:
            y = u @ stage.G
            path.append(y[..., None])
            u = u + (u @ stage.map.dA.T + self.score(y.ravel()).reshape(y.shape)[..., None] * stage.map.b)
        u[..., 0] -= self.following.shear * u[..., -1]
        return [*path, u]

    def rates(self) -> Array:
        """Return for each node in x how many spacings of splines one unit of the memory spans at most on the way.

        Of the memory only what arrives matters; the position matters, too, where a score is evaluated.
        """
        axis = self.grid.memory
        if not self.spread:
            return np.ones(self.grid.x.n)
        step = (max(axis.spacing, self.spread / 4) if axis.n > 1 else self.spread / 4) / 2
        memory = np.arange(axis.low - SPREAD * self.spread, axis.high + SPREAD * self.spread + step, step)
        path = self.path(self.grid.x.nodes, memory)
        tracks = [(u[..., 0], self.onto.x) for u in path] + [(path[-1][..., -1], self.onto.memory)]
        rates = [np.abs(np.diff(axis.place(some))).max(axis=1) for some, axis in tracks]
        return np.maximum(np.max(rates, axis=0) / step, SLOW / self.spread)

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

"""Spline spaces on grids of position and memory, and the matrices of transfer operators between them.

**Operator.** A transfer operator P acts on test functions f of the state ``u = (x, p)`` of a chain,

    (P f)(u) = E[f(u') | u],

where u' is the state after the noise and the maps that the operator represents. If the scheme has two rows, p is the
second one. The functions P f are as smooth as the score of the target, however small the step is and however degenerate
the noise is. The grid therefore does not have to resolve the noise, as a discretisation of densities would.

**Spline space.** Functions of x and of p are splines of degree 11 that interpolate at the nodes of an `Axis`. The nodes
are equidistant in a stretched coordinate. A function with a wave number k below ``pi/spacing`` is interpolated with a
relative error of about ``2 (k spacing/(2 pi))^12``, so eigenvalues converge almost as fast as with trigonometric
functions. Functions on a `Grid` are tensor products of the splines of two axes. A point outside the interval of an axis
is moved to the nearer end. P therefore maps constants to themselves and is bounded, however far a stage moves a chain.

**Collocation.** Let ``phi_j`` be the splines and ``u_i`` the nodes of a grid. The matrices

    B_ij = phi_j(u_i),    A_ij = E[phi_j(u') | u_i]

map the coefficients of a spline f to the values f(u_i) and to the expectations (P f)(u_i). On values at the nodes the
operator is therefore the matrix ``P = A B^-1``. With the nodes sorted by x, both matrices are banded if a stage moves
the position by only a few nodes.

**Sheared positions.** One normal xi usually drives both rows, ``x + s_x xi`` and ``p + s_p xi``. Let ``a = s_x/s_p`` be
the shear of this noise. The noise does not change ``x - a p``. The first coordinate of a grid is therefore ``x - a p``
instead of x, where a is the shear of the noise that acts next. That noise changes only the memory, to
``q = p + s_p xi``, and the state before the next noise is a deterministic function of ``(x - a p, q)``.

**Order of noise and maps.** A `Push` applies noise first and maps second. In schemes that add noise to the momentum,
the noise then also reaches the position within the same operator, and the operator damps the fast modes of the grid as
the scheme does.
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

# Degree of the splines.
DEGREE = 11
# Degree of the polynomials that approximate splines averaged over noise.
SMOOTHED = 20
# The positions of the nodes are first interpolated in a table with FINE points per node. NEWTON iterations of Newton's
# method then refine them.
FINE, NEWTON = 20, 4
# Gauss-Hermite quadrature is used if the standard deviation of the noise is below this number of spline spacings.
# Otherwise the trapezoidal rule is used.
NARROW = 1.5
# Largest node of the trapezoidal rule, in standard deviations of the noise.
SPREAD = 8
# Distance between the nodes of the trapezoidal rule, in spline spacings.
CLOSE = 0.8
# Lower bound of the rates of a path (`Push.rates`), per standard deviation of the noise.
SLOW = 0.1
# Rates are rounded up to powers of STEP. Nodes with the same power share their quadrature points.
STEP = 1.2
# Largest number of points at which splines are evaluated together.
TOGETHER = 2**13
# Cost of the product of two spline values, in equivalent floating-point operations of dense matrix products.
PRODUCT = 40


@dataclass(frozen=True)
class Axis:
    """Splines that interpolate at n nodes on an interval, and are constant outside it.

    The nodes are equidistant in the stretched coordinate

        s(x) = x + sum_k a_k w_k tanh((x - c_k)/w_k).

    The density of the nodes at a centre ``c_k`` is ``1 + a_k`` times their density far away from all centres. It
    decreases over a distance of about the width ``w_k``. Functions are splines in s with equidistant knots.

    Splines that are centred outside the interval, called ghosts, are nonzero near its ends. Their coefficients follow
    from the odd continuation ``f(e + t) = 2 f(e) - f(e - t)`` in s at an end e, so the number of free coefficients
    equals the number of nodes. Without the ghosts, interpolation would amplify errors near the ends. An axis with a
    single node represents constant functions.

    Attributes
    ----------
    low, high : float
        Ends of the interval.
    n : int
        Number of nodes.
    centres : tuple of (float, float, float)
        Centre c, width w and amplitude a of each region with denser nodes. Without any, the nodes are equidistant in x.
    """

    low: float
    high: float
    n: int
    centres: tuple[tuple[float, float, float], ...] = ()

    @cached_property
    def nodes(self) -> Array:
        """Positions of the nodes in ascending order, shape (n,)."""
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
        """Mean distance between adjacent nodes; infinite if there is only one node."""
        return (self.high - self.low) / (self.n - 1) if self.n > 1 else np.inf

    def stretched(self, x: Array) -> Array:
        """Return the stretched coordinate s(x), in which the nodes are equidistant."""
        return x + sum(a * w * np.tanh((x - c) / w) for c, w, a in self.centres)

    @cached_property
    def scale(self) -> tuple[float, float]:
        """Stretched coordinate of the first node, and number of nodes per unit of the stretched coordinate."""
        low, high = self.stretched(np.array([self.low, self.high])).tolist()
        return low, (self.n - 1) / (high - low)

    def density(self, x: Array) -> Array:
        """Return the number of nodes per unit of x at points x."""
        more = sum(a * (1 - np.tanh((x - c) / w) ** 2) for c, w, a in self.centres)
        return self.scale[1] * (np.ones_like(x) + more)

    def place(self, x: Array) -> Array:
        """Return fractional node indices of points x, from 0 to n - 1; points outside are moved to the ends."""
        if self.n == 1:
            return np.zeros_like(x)
        low, dense = self.scale
        return (dense * (self.stretched(x.clip(self.low, self.high)) - low)).clip(0, self.n - 1)

    def window(self, x: Array, noise: float = 0.0) -> tuple[int, Array]:
        """Return the values at points x of a contiguous range of splines that contains all nonzero ones.

        Parameters
        ----------
        x : array
            Points, moved to the ends of the interval if they are outside it.
        noise : float, default 0.0
            Standard deviation of Gaussian noise that is added to the points.

        Returns
        -------
        first : int
            Index of the first spline of the range.
        values : array, shape (*x.shape, width)
            ``E phi_{first + j}(x + noise xi)``, with the same range for all points. If the nodes are equidistant, the
            splines are continued beyond the ends for ``x + noise xi``; otherwise these points are moved to the ends.
        """
        return self.windows(x[None], noise)[0]

    def windows(self, x: Array, noise: float = 0.0) -> list[tuple[int, Array]]:
        """Return `window` of each row of points, in much less time than by separate calls; x has the shape (n, ...)."""
        if self.n == 1:
            return [(0, np.ones((*row.shape, 1))) for row in x]
        if noise and self.centres:
            normals, weights = quadrature(noise * float(self.density(self.nodes).max()))
            return [(first, weights @ values) for first, values in self.windows(x[..., None] + noise * normals)]
        polynomials = pieces(noise / self.spacing, self.n - 1)
        t = self.place(x)
        cells = np.minimum(t.astype(int), self.n - 2)
        entries = chebvander(2 * (t - cells) - 1, len(polynomials) - 1) @ polynomials
        return [self.assembled(cell, entry) for cell, entry in zip(cells, entries, strict=True)]

    def assembled(self, cells: Array, entries: Array) -> tuple[int, Array]:
        """Return the result of `window`, given the cells of points and the values of nonzero splines there."""
        ghosts = entries.shape[-1] // 2 - 1
        # The indices first and stop count the ghosts at the lower end; `reflected` removes them.
        first, stop = int(cells.min()), int(cells.max()) + 2 * ghosts + 2  # counted from the first ghost
        left, right = first < ghosts, stop > self.n + ghosts
        if left:
            first, stop = 0, max(stop, 2 * ghosts + 1)
        if right:
            first, stop = min(first, self.n - 1), self.n + 2 * ghosts
        values = np.zeros((*cells.shape, stop - first))
        starts = np.arange(0, values.size, stop - first) + (cells - first).ravel()
        values.ravel()[starts[:, None] + np.arange(2 * ghosts + 2)] = entries.reshape(len(starts), -1)
        if left:
            values = reflected(values, ghosts)
        if right:
            values = reflected(values[..., ::-1], ghosts)[..., ::-1]
        return max(first - ghosts, 0), values

    def values(self, x: Array) -> Array:
        """Return the values of all splines at points x, shape (*x.shape, n)."""
        first, entries = self.window(x)
        values = np.zeros((*x.shape, self.n))
        values[..., first : first + entries.shape[-1]] = entries
        return values

    @cached_property
    def collocation(self) -> Array:
        """Values of the splines at the nodes, the matrix B of one axis, shape (n, n)."""
        return self.values(self.nodes)

    @cached_property
    def interpolation(self) -> Array:
        """Matrix from values at the nodes to coefficients of splines, ``B^-1``, shape (n, n)."""
        return np.linalg.inv(self.collocation)

    def curve(self, values: Array) -> BSpline:
        """Return the spline with the given values at the nodes, as a function of the fractional node index."""
        inner = self.interpolation @ values
        ghosts = np.arange(1, DEGREE // 2 + 1)
        coefficients = np.concatenate([2 * inner[0] - inner[ghosts[::-1]], inner, 2 * inner[-1] - inner[-1 - ghosts]])
        return BSpline(np.arange(len(coefficients) + DEGREE + 1.0) - DEGREE, coefficients, DEGREE)


def reflected(values: Array, ghosts: int) -> Array:
    """Return values of the splines inside an interval, given values that include splines beyond its lower end.

    The coefficients beyond the end are ``c_{-j} = 2 c_0 - c_j`` for j = 1, ..., ``ghosts``. The values of the splines
    beyond the end are therefore added to those of the splines inside with the weights 2 and -1. The argument is
    overwritten.
    """
    inner, beyond = values[..., ghosts:], values[..., ghosts - 1 :: -1]
    inner[..., 0] += 2 * beyond.sum(axis=-1)
    inner[..., 1 : ghosts + 1] -= beyond
    return inner


@lru_cache
def pieces(spread: float, most: int) -> Array:
    """Return the polynomials between two adjacent nodes of all splines that are nonzero there.

    The splines may be averaged over Gaussian noise. They are then nonzero farther away, and each polynomial is an
    approximation of a smooth function.

    Parameters
    ----------
    spread : float
        Standard deviation of the noise in spacings.
    most : int
        Largest distance of the centre of a spline from the two nodes, in spacings. The splines that are farther away
        are added to the outermost spline on the same side.

    Returns
    -------
    array, shape (degree + 1, splines)
        Chebyshev coefficients on the interval between the nodes. The splines are sorted by their centres.
    """
    spline = BSpline.basis_element(np.arange(DEGREE + 2), extrapolate=False)
    reach = DEGREE // 2 + int(np.ceil(8 * spread))

    def smoothed(t: Array) -> Array:
        offsets = (t[:, None] + 2 + DEGREE) / 2 - np.arange(-reach, reach + 2)
        if spread < NARROW:
            normals, weights = quadrature(spread)
            return np.nan_to_num(spline(offsets[..., None] + spread * normals)) @ weights
        # The trapezoidal rule on the support of the spline, with a step that divides the spacing of the nodes.
        points = np.linspace(0, DEGREE + 1, (DEGREE + 1) * int(np.ceil(1 / CLOSE)) + 1)
        density = np.exp(-(((points - offsets[..., None]) / spread) ** 2) / 2) / (np.sqrt(2 * np.pi) * spread)
        return density @ (spline(points) * points[1])

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
    """Tensor-product grid of an axis for the position and an axis for the memory.

    Attributes
    ----------
    x, memory : Axis
        Axes of the sheared position and of the memory. Schemes with one row have a memory axis with a single node.
    """

    x: Axis
    memory: Axis

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of nodes in position and in memory."""
        return self.x.n, self.memory.n

    @property
    def nodes(self) -> int:
        """Total number of nodes."""
        return self.x.n * self.memory.n

    def points(self, rows: int) -> Array:
        """Return the first ``rows`` coordinates of the nodes, shape (x.n, memory.n, rows)."""
        return np.stack(np.meshgrid(self.x.nodes, self.memory.nodes, indexing="ij"), axis=-1)[..., :rows]

    def coefficients(self, values: Array) -> Array:
        """Return the coefficients of the spline with the given values at the nodes, both of the shape of the grid."""
        return self.x.interpolation @ values @ self.memory.interpolation.T

    def weights(self, functional: Array) -> Array:
        """Return weights of the nodes that represent a linear functional of splines; both have the shape of the grid.

        The functional is given by its values on the splines of the basis. The sum of a function at the nodes with the
        weights equals the functional of the spline that interpolates the function.
        """
        return self.x.interpolation.T @ functional @ self.memory.interpolation


def quadrature(spans: float) -> tuple[Array, Array]:
    """Return nodes and normalised weights for expectations over a standard normal.

    Gauss-Hermite quadrature needs the fewest nodes if the noise spans few spacings. If it spans many spacings, the
    trapezoidal rule is used with nodes closer than those of the splines, because a coarser rule would alias fast
    splines to slow functions.

    Parameters
    ----------
    spans : float
        Standard deviation of the noise in spacings of the splines that are averaged.
    """
    if spans == 0:
        return np.zeros(1), np.ones(1)
    if spans < NARROW:
        nodes, weights = hermite(int(6 + 10 * spans + 6 * spans**2))
    else:
        nodes = np.linspace(-SPREAD, SPREAD, int(2 * SPREAD * spans / CLOSE))
        weights = np.exp(-(nodes**2) / 2)
    return nodes, weights / weights.sum()


@lru_cache
def hermite(count: int) -> tuple[Array, Array]:
    """Return the nodes and weights of Gauss-Hermite quadrature."""
    return hermegauss(count)


def averaging(axis: Axis, noise: float, rate: float) -> tuple[Array, Array]:
    """Return points and a matrix that averages functions of the memory over noise.

    The matrix maps the values of a function f at the points to ``E f(p + noise xi)`` at each node p of the axis. All
    nodes share the points of a trapezoidal rule, unless a separate quadrature rule for each node needs fewer points in
    total.

    Parameters
    ----------
    axis : Axis
        Axis of the memory.
    noise : float
        Standard deviation of the noise.
    rate : float
        Largest number of spline spacings that the argument of f moves while the memory changes by one unit. It
        determines how close the points have to be.

    Returns
    -------
    points : array, shape (m,)
        Values of the memory.
    averages : array, shape (axis.n, m)
        Weights of the points for each node; each row has the sum 1.
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
    """Gaussian noise of a stage, split into a part that both rows share and a part of the position.

    Attributes
    ----------
    shared : array, shape (k,)
        Coefficients of the normal that acts on the memory, one for each row of u.
    independent : float
        Standard deviation of the independent remainder, which acts only on the position.
    """

    shared: Array
    independent: float = 0.0

    @property
    def shear(self) -> float:
        """Displacement of the position per displacement of the memory, ``s_x/s_p``; 0 without shared noise."""
        return float(self.shared[0] / self.shared[-1]) if self.shared[1:].any() else 0.0


class Push:
    """Matrix A of noise followed by maps, from splines on one grid to expectations at the nodes of another grid.

    The operator applies, in this order:

    1. the shared part of ``noise``, which changes only the memory, because the position is sheared;
    2. the maps of ``stages`` with their scores;
    3. the independent part of ``following``, which acts only on the position.

    The independent part of ``noise`` belongs to the preceding operator, and the shared part of ``following`` to the
    next one. For each node in the sheared position, the state after the maps is a function of the memory q after the
    noise. The values of the splines at this state are tabulated once for all nodes in memory, and are then averaged
    over q by `averaging`.

    Parameters
    ----------
    grid, onto : Grid
        Grids of the states before and after the operator.
    noise : Noise
        Noise whose shared part is applied first.
    stages : sequence of Stage
        Maps as one-dimensional tables with one or two rows. The noise of these tables is ignored.
    score : callable
        Score at positions, (n,) -> (n,).
    following : Noise, optional
        Noise after the maps. Its shear defines the sheared position on ``onto``.

    Attributes
    ----------
    rows : list of (int, array of shape (grid.memory.n, width, onto.memory.n))
        Rows of A for each node in x: the index of the first spline in x that has a nonzero entry, and the entries of
        ``width`` consecutive splines in x and of all splines in memory.
    work : float
        Cost of the construction, in equivalent floating-point operations of dense matrix products.
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
        self.work = 0.0
        powers = np.ceil(np.log(self.rates()) / np.log(STEP))
        rows: dict[int, tuple[int, Array]] = {}
        for power in np.unique(powers):
            memory, averages = averaging(grid.memory, self.spread, STEP**power)
            group = np.flatnonzero(powers == power)
            for part in np.array_split(group, -(-len(group) * len(memory) // TOGETHER)):
                u = self.path(grid.x.nodes[part], memory)[-1]
                along_x = onto.x.windows(u[..., 0], self.following.independent)
                along_memory = onto.memory.values(u[..., -1])
                for i, (first, x), p in zip(part.tolist(), along_x, along_memory, strict=True):
                    rows[i] = first, self.averaged(x[:, :, None] * p[:, None, :], averages)
        self.rows = [rows[i] for i in range(grid.x.n)]

    def averaged(self, products: Array, averages: Array) -> Array:
        """Return products of splines averaged over the noise of the memory, (m, ...) -> (grid.memory.n, ...)."""
        self.work += products.size * PRODUCT
        if not self.spread:
            return products
        self.work += 2 * products.size * len(averages)
        return (averages @ products.reshape(len(products), -1)).reshape(len(averages), *products.shape[1:])

    @property
    def spread(self) -> float:
        """Standard deviation of the noise of the memory."""
        return abs(float(self.noise.shared[1:].sum()))

    def path(self, x: Array, memory: Array) -> list[Array]:
        """Return the points of the score evaluations and the final state, given x and the memory after the noise.

        Parameters
        ----------
        x, memory : array
            Sheared positions, and values q of the memory after the noise.

        Returns
        -------
        list of array
            For each stage, the point at which it evaluates the score, shape (x, memory, 1). The last entry is the
            sheared state u after all maps, shape (x, memory, k).
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
        """Return, for each node in x, the largest number of spline spacings that the path moves per unit of the memory.

        The path includes the position at every score evaluation, because the score varies between the nodes. The memory
        counts only at the end, because the score does not depend on it.
        """
        axis = self.grid.memory
        if not self.spread:
            return np.ones(self.grid.x.n)
        step = (max(axis.spacing, self.spread / 4) if axis.n > 1 else self.spread / 4) / 2
        memory = np.arange(axis.low - SPREAD * self.spread, axis.high + SPREAD * self.spread + step, step)
        path = self.path(self.grid.x.nodes, memory)
        tracks = [(u[..., 0], self.onto.x) for u in path] + [(path[-1][..., -1], self.onto.memory)]
        rates = [np.abs(np.diff(axis.place(track))).max(axis=1) for track, axis in tracks]
        return np.maximum(np.max(rates, axis=0) / step, SLOW / self.spread)

    def law(self, weights: Array) -> Array:
        """Return weights of the distribution after the operator, given weights of the distribution before it.

        The returned weights have the shape of the grid ``onto``, and the given weights have that of ``grid``.
        """
        functional = np.zeros((self.onto.x.n, self.onto.memory.n))
        for (first, row), weight in zip(self.rows, weights, strict=True):
            functional[first : first + row.shape[1]] += np.tensordot(weight, row, 1)
        return self.onto.weights(functional)

    def expectation(self, values: Array) -> Array:
        """Return the function ``P f`` at the nodes of ``grid``, given values of f at the nodes of ``onto``."""
        coefficients = self.onto.coefficients(values)
        parts = [np.tensordot(row, coefficients[first : first + row.shape[1]], 2) for first, row in self.rows]
        return np.stack(parts)

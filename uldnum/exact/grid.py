"""Functions of (position, memory) on a grid, and stages as sparse matrices that act on them.

A stage is used through what it does to test functions, ``(P f)(u) = E f(u')``: these are as smooth as the target's
score however small the step or degenerate the noise, so the grid need not resolve the noise. In the position they are
splines on an interval, constant beyond it; in the memory, polynomials of a Gaussian variable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import product
from typing import Any

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from scipy.interpolate import BSpline
from scipy.sparse import csr_array, vstack
from scipy.sparse.linalg import splu

from uldnum.schemes.stage import Stage
from uldnum.typing import Array

__all__ = ["DEGREE", "Axis", "Grid", "Memory", "Push", "TooMuchWork"]

DEGREE = 7
# Nodes beyond either end, where a function has its value at the end: a disturbance falls by 0.54 from node to node.
GHOSTS = 24
# Points that are mapped at a time, and the most values of splines and nodes of a grid at all: some seconds.
CHUNK, WORK, MOST = 50_000, 10**9, 8_000


class TooMuchWork(Exception):  # noqa: N818, it is no error until nothing cheaper is left to try
    """A grid would take longer than anyone should wait; says how much it would take."""


@dataclass(frozen=True)
class Axis:
    """Splines that interpolate at n nodes at equal distances on an interval, and are constant beyond it."""

    low: float
    high: float
    n: int

    @cached_property
    def nodes(self) -> Array:
        """The nodes, shape (n,)."""
        return np.linspace(self.low, self.high, self.n)

    @property
    def spacing(self) -> float:
        """Distance of the nodes."""
        return (self.high - self.low) / (self.n - 1)

    @cached_property
    def extended(self) -> tuple[Array, Array]:
        """Nodes and knots that reach beyond the ends: were they to stop there, interpolation would amplify."""
        nodes = self.low + self.spacing * np.arange(-GHOSTS, self.n + GHOSTS)
        omitted = DEGREE // 2 + 1  # "not a knot"
        ends = [[end] * (DEGREE + 1) for end in nodes[[0, -1]]]
        return nodes, np.concatenate([ends[0], nodes[omitted:-omitted], ends[1]])

    def splines(self, x: Array) -> tuple[Array, Array]:
        """Return the splines that do not vanish at points x: the number of the first, and values, (..., degree + 1)."""
        design = BSpline.design_matrix(np.clip(x.ravel(), self.low, self.high), self.extended[1], DEGREE)
        shape = (*x.shape, DEGREE + 1)
        return design.indices.reshape(shape)[..., 0], design.data.reshape(shape)

    def windows(self, x: Array) -> tuple[Array, Array]:
        """Return, for points x of shape (rows, points), the splines that the points of each row reach.

        Returns
        -------
        int array, shape (rows, width)
            The splines.
        float array, shape (rows, points, width)
            Their values.
        """
        first, values = self.splines(x)
        start = first.min(axis=1)
        width = int((first.max(axis=1) - start).max()) + DEGREE + 1
        start = np.minimum(start, self.functions - width)
        window = np.zeros((*x.shape, width))
        np.put_along_axis(window, (first - start[:, None])[..., None] + np.arange(DEGREE + 1), values, axis=2)
        return start[:, None] + np.arange(width), window

    @property
    def functions(self) -> int:
        """Number of splines."""
        return self.n + 2 * GHOSTS

    @cached_property
    def collocation(self) -> Any:
        """Factors of the matrix from coefficients of splines to values at the nodes, transposed."""
        nodes, knots = self.extended
        return splu(BSpline.design_matrix(nodes, knots, DEGREE).T.tocsc())

    def onto_nodes(self, functional: Array) -> Array:
        """Turn a functional on the splines, shape (functions, ...), into weights at the nodes."""
        weights = self.collocation.solve(functional)
        weights[GHOSTS] += weights[:GHOSTS].sum(axis=0)
        weights[-GHOSTS - 1] += weights[-GHOSTS:].sum(axis=0)
        return weights[GHOSTS:-GHOSTS]


@dataclass(frozen=True)
class Memory:
    """Polynomials of the memory that interpolate at n Gauss-Hermite nodes.

    Parameters
    ----------
    scale : float
        Standard deviation of the memory, roughly.
    n : int
        Number of nodes; 1 for a scheme that has no memory.
    """

    scale: float
    n: int

    @cached_property
    def rule(self) -> tuple[Array, Array]:
        """Nodes and weights of the quadrature for a standard normal."""
        nodes, weights = hermegauss(self.n)
        return nodes, weights / weights.sum()

    @property
    def nodes(self) -> Array:
        """The nodes, shape (n,)."""
        return self.scale * self.rule[0]

    def basis(self, z: Array) -> Array:
        """Orthonormal Hermite polynomials, shape (..., n), by their recurrence."""
        values = [np.ones_like(z), z]
        for n in range(1, self.n - 1):
            values.append((z * values[n] - np.sqrt(n) * values[n - 1]) / np.sqrt(n + 1))
        return np.stack(values[: self.n], axis=-1)

    def windows(self, x: Array) -> tuple[Array, Array]:
        """As `Axis.windows`: all polynomials that are 1 at one node and 0 at the others."""
        nodes, weights = self.rule
        values = self.basis(x / self.scale) @ (self.basis(nodes).T * weights)
        return np.broadcast_to(np.arange(self.n), (len(x), self.n)), values


@dataclass(frozen=True)
class Grid:
    """The tensor grid of an axis for positions and one for the memory."""

    x: Axis
    memory: Memory

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

    def rule(self, *reaches: Array) -> tuple[Array, Array]:
        """Return nodes and weights of a quadrature for a normal that reaches so far in (x, memory).

        Gauss-Hermite is best for polynomials, so for the memory, and where the noise of x spans few splines. Where it
        spans many, splines need the trapezoidal rule, with nodes closer than theirs: what it does not resolve of them
        it would take for slow functions.
        """
        spans = max(abs(reach[0]) for reach in reaches) / self.x.spacing
        degree = self.memory.n / 2 if any(np.any(reach[1:] != 0) for reach in reaches) else 0
        if spans < 2.5:
            nodes, weights = hermegauss(int(6 + degree + 4 * spans**2))
        else:
            nodes = np.linspace(-8, 8, int(20 * spans))
            weights = np.exp(-(nodes**2) / 2)
        return nodes, weights / weights.sum()


class Push:
    """What one normal and then maps with scores do to weights on the nodes of a grid.

    Weights w stand for the law whose expectations are ``sum_i w_i f(u_i)``; those of the law after the map are exact
    for every f in the space of the grid that it is mapped to. The noise comes first: in schemes that add it to the
    momentum it then reaches the position, too, and the fast modes of the grid are damped as the scheme damps them.

    Parameters
    ----------
    grid, onto : Grid
        Where the law is before and after.
    noise : array, shape (k,)
        Weights of the normal.
    stages : sequence of Stage
        The maps, one-dimensional tables with one or two rows; their own noise is left out.
    score : callable
        Score at positions, (n,) -> (n,).

    Raises
    ------
    MemoryError
        If it would take too much work.
    """

    def __init__(
        self, grid: Grid, onto: Grid, noise: Array, stages: Sequence[Stage], score: Callable[[Array], Array]
    ) -> None:
        self.onto = onto
        normals, weights = onto.rule(noise, reduce(lambda reach, stage: reach + stage.map.dA @ reach, stages, noise))
        blocks = []
        for some in np.array_split(grid.points[:, : len(noise)], 1 + len(grid.points) * len(normals) // CHUNK):
            u = some[:, None, :] + normals[:, None] * noise  # (nodes, quadrature, k)
            for stage in stages:
                y = u @ stage.G
                s = score(y.ravel()).reshape(y.shape)
                u = u + (u @ stage.map.dA.T + s[..., None] * stage.map.b)
            x, x_values = onto.x.windows(u[..., 0])
            if len(grid.points) * len(normals) * x.shape[1] > WORK:
                raise TooMuchWork(f"a grid of {len(grid.points)} nodes under noise that reaches {x.shape[1]} of them")
            memory, memory_values = onto.memory.windows(u[..., -1])
            block = (x_values * weights[:, None]).swapaxes(1, 2) @ memory_values  # (nodes, width of x, of memory)
            columns = x[:, :, None] * onto.memory.n + memory[:, None, :]
            rows = np.arange(len(u) + 1) * block[0].size
            shape = len(u), onto.x.functions * onto.memory.n
            blocks.append(csr_array((block.ravel(), columns.ravel(), rows), shape=shape))
        self.transposed = vstack(blocks, format="csr").T.tocsr()

    def __call__(self, weights: Array) -> Array:
        """Return the weights after the map."""
        return self.onto.x.onto_nodes((self.transposed @ weights).reshape(-1, self.onto.memory.n)).ravel()

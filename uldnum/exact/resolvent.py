"""Linear systems and eigenvalues of one time step on a grid.

Let A be the matrix of a `uldnum.exact.grid.Push` and B the values of the splines at the nodes. The operator of a time
step is ``P = A B^-1``, and all results follow from solutions of linear systems ``(z B - A) c = v``. A step moves a
chain over few nodes in x, so the matrix is banded if the nodes are sorted by x.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
from scipy.linalg import lu_factor, lu_solve
from scipy.sparse.linalg import ArpackNoConvergence, eigs

from uldnum._util.typing import Array
from uldnum.exact.grid import DEGREE, Grid, Push

__all__ = ["Stationary", "TimeStep"]

# Approximate number of rows in a block of a banded matrix.
BLOCK = 250
# Number of eigenvalues that are computed at a time.
LEADING = 8
# Vectors in a block of a Krylov space, and the largest dimension of the space.
VECTORS, DIMENSION = 4, 100
# An eigenvalue counts as found if its relative residual is below this.
ROUGHLY = 1e-3


@dataclass(frozen=True)
class Block:
    """A block of rows of a banded matrix after elimination.

    Attributes
    ----------
    left, right : int
        First column of the block, and the column after the last one.
    start, stop : int
        First column of the diagonal block, and the column after the last one.
    lower : array, shape (stop - start, start - left)
        Entries to the left of the diagonal block.
    diagonal : (array, array)
        LU factors of the diagonal block, with pivots.
    upper : array, shape (stop - start, right - stop)
        Inverse of the diagonal block times the entries to the right of it.
    """

    left: int
    start: int
    stop: int
    right: int
    lower: Array
    diagonal: tuple[Array, Array]
    upper: Array


class Factors:
    """Factors of a banded matrix, from block elimination with pivoting within the diagonal blocks.

    Parameters
    ----------
    blocks : iterable of (int, array)
        Blocks of rows in order, each with its first column and its entries, which are overwritten. The diagonal block
        starts at the column that equals the number of the first row. Neither the first nor the last column decreases
        from block to block.
    """

    def __init__(self, blocks: Iterable[tuple[int, Array]]) -> None:
        self.blocks: list[Block] = []
        start = 0
        for left, entries in blocks:
            for above in self.blocks:
                if above.start >= left:
                    multipliers = entries[:, above.start - left : above.stop - left]
                    entries[:, above.stop - left : above.right - left] -= multipliers @ above.upper
            stop = start + len(entries)
            lower, diagonal, upper = np.split(entries, [start - left, stop - left], axis=1)
            factors = lu_factor(diagonal, check_finite=False)
            upper = lu_solve(factors, upper, check_finite=False)
            self.blocks.append(Block(left, start, stop, left + entries.shape[1], lower, factors, upper))
            start = stop

    def solve(self, right: Array) -> Array:
        """Solve the system for a right-hand side, or several as columns."""
        x = right.copy()
        for block in self.blocks:
            rows = slice(block.start, block.stop)
            known = x[rows] - block.lower @ x[block.left : block.start]
            x[rows] = lu_solve(block.diagonal, known, check_finite=False)
        for block in reversed(self.blocks):
            x[block.start : block.stop] -= block.upper @ x[block.stop : block.right]
        return x

    def solve_transposed(self, right: Array) -> Array:
        """Solve the system with the transposed matrix."""
        x = right.copy()
        for block in self.blocks:
            x[block.stop : block.right] -= block.upper.T @ x[block.start : block.stop]
        for block in reversed(self.blocks):
            rows = slice(block.start, block.stop)
            x[rows] = lu_solve(block.diagonal, x[rows], trans=1, check_finite=False)
            x[block.left : block.start] -= block.lower.T @ x[rows]
        return x


class TimeStep:
    """The operator of one time step, from functions on a grid to functions on the same grid.

    Parameters
    ----------
    pushes : list of Push
        Parts of the time step, in order.
    """

    def __init__(self, pushes: list[Push]) -> None:
        self.pushes, self.grid = pushes, pushes[0].grid
        self.values = self.grid.x.collocation, self.grid.memory.collocation
        self.rows = pushes[0].rows
        if len(pushes) > 1:
            values = np.kron(*self.values)
            matrices = [matrix_of(push.rows, self.grid) for push in pushes]
            product = reduce(lambda before, after: before @ np.linalg.solve(values, after), matrices)
            self.rows = [(0, row) for row in product.reshape(*self.grid.shape, *self.grid.shape)]

    @cached_property
    def blocks(self) -> list[tuple[int, int, int, int]]:
        """Blocks of the banded matrix, as `Block` has them, in nodes of x."""
        n, size = self.grid.x.n, max(1, BLOCK // self.grid.memory.n)
        used = np.array([(first, first + row.shape[1]) for first, row in self.rows])
        splines = np.arange(n) - DEGREE // 2, np.arange(n) + DEGREE // 2 + 1
        left = np.minimum.accumulate(np.minimum(used[:, 0], splines[0].clip(0))[::-1])[::-1] // size * size
        right = np.maximum.accumulate(np.maximum(used[:, 1], splines[1].clip(max=n)))
        starts = np.arange(0, n, size)
        stops = np.minimum(starts + size, n)
        columns = (left[starts], starts, stops, right[stops - 1])
        return list(zip(*(column.tolist() for column in columns), strict=True))

    @property
    def work(self) -> float:
        """Floating-point operations that `factors` takes, roughly."""
        left, start, stop, right = np.array(self.blocks, float).T * self.grid.memory.n
        return float(np.sum(2 * (stop - start) * (stop - left) * (right - start)))

    def factors(self, z: complex, pinned: tuple[int, int] | None = None) -> Factors:
        """Return factors of ``z B - A``, with the row of B at a pinned node added to it."""
        return Factors(self.entries(z, pinned))

    def entries(self, z: complex, pinned: tuple[int, int] | None) -> Iterable[tuple[int, Array]]:
        """Yield the blocks of rows of the matrix."""
        memory, (x_values, memory_values) = self.grid.memory.n, self.values
        for left, start, stop, right in self.blocks:
            entries = z * x_values[start:stop, None, left:right, None] * memory_values[:, None, :]
            for row, (first, some) in zip(entries, self.rows[start:stop], strict=True):
                row[:, first - left : first - left + some.shape[1]] -= some
            if pinned and start <= pinned[0] < stop:
                i, j = pinned
                entries[i - start, j] += np.multiply.outer(x_values[i, left:right], memory_values[j])
            yield left * memory, entries.reshape((stop - start) * memory, -1)

    def at_nodes(self, coefficients: Array) -> Array:
        """Return values at the nodes of splines with such coefficients, arrays of shape (nodes, ...)."""
        x_values, memory_values = self.values
        along_memory = memory_values @ coefficients.reshape(*self.grid.shape, -1)
        return np.tensordot(x_values, along_memory, 1).reshape(coefficients.shape)

    def nearest(self, z: complex, tolerance: float) -> Array:
        """Return the eigenvalues nearest z, the largest to a tolerance relative to its distance."""
        factors = self.factors(z)
        return dominant(lambda v: self.at_nodes(factors.solve(v + 0j)), self.grid.nodes, z, tolerance)

    def largest(self, count: int) -> Array:
        """Return the eigenvalues of largest modulus, without the one nearest 1.

        The eigenvectors are computed from a power of the matrix that has few large eigenvalues. The iteration therefore
        converges for any step size. The eigenvalues of the matrix follow from its projection on the eigenvectors.
        """
        n, values = self.grid.nodes, np.kron(*self.values)
        matrix = np.linalg.solve(values.T, matrix_of(self.rows, self.grid).T).T
        power, several = matrix, min(2 * count, n - 2)
        while several < np.trace(power) < 2 * n:
            power = power @ power
        start = np.random.default_rng(0).random(n)
        try:
            _, vectors = eigs(power, several, v0=start, tol=1e-6)
        except ArpackNoConvergence as error:
            vectors = error.eigenvectors
        found = np.linalg.eigvals(np.linalg.lstsq(vectors, matrix @ vectors)[0])
        others = np.delete(found, np.argmin(np.abs(found - 1)))
        return others[np.argsort(-np.abs(others))][:count]


def matrix_of(rows: list[tuple[int, Array]], onto: Grid) -> Array:
    """Return the matrix of which these are the rows, as `Push` has them."""
    matrix = np.zeros((len(rows), len(rows[0][1]), *onto.shape))
    for whole, (first, row) in zip(matrix, rows, strict=True):
        whole[:, first : first + row.shape[1]] = row
    return matrix.reshape(-1, onto.nodes)


class Stationary:
    """The stationary distribution of a time step, and sums over all later steps.

    ``B - A`` is singular: its null vectors are the constants and the stationary distribution. It becomes regular when
    the row of B at one node is added to it, which makes the solution vanish at that node.

    Parameters
    ----------
    step : TimeStep
        The time step.
    pinned : (int, int)
        Indices of the node, which must have a weight that is not negligible.
    """

    def __init__(self, step: TimeStep, pinned: tuple[int, int]) -> None:
        self.step, self.factors = step, step.factors(1.0, pinned)
        functional = np.multiply.outer(step.values[0][pinned[0]], step.values[1][pinned[1]])
        weights = self.factors.solve_transposed(functional.ravel())
        self.law = weights / weights.sum()

    def summed(self, values: Array) -> Array:
        """Return ``sum_{n>=0} P^n (f - E f)`` at the nodes, shape (nodes, ...), with mean 0."""
        total = self.step.at_nodes(self.factors.solve(values - self.law @ values))
        return total - self.law @ total

    def eigenvalues(self, tolerance: float) -> Array:
        """Return the eigenvalues nearest 1 without it, the largest to a tolerance relative to its distance from 1."""
        return dominant(self.summed, self.step.grid.nodes, 1.0, tolerance)


def dominant(inverse: Callable[[Array], Array], nodes: int, z: complex, tolerance: float) -> Array:
    """Return eigenvalues of P nearest z, the largest of them to a tolerance relative to its distance, others roughly.

    They are those of ``(z - P)^-1`` projected on a block Krylov space.

    Parameters
    ----------
    inverse : callable
        The application of ``(z - P)^-1``, (nodes, vectors) -> (nodes, vectors).
    nodes : int
        Number of nodes.
    z : complex
        The shift.
    tolerance : float
        The tolerance.
    """
    # The same vectors each time, and of no symmetry, which would last.
    new = np.random.default_rng(0).normal(size=(nodes, min(VECTORS, nodes)))
    basis, images = np.zeros((nodes, 0)), np.zeros((nodes, 0))
    while True:
        for _ in range(2):
            new = np.linalg.qr(new - basis @ (basis.conj().T @ new))[0]
        basis, images = np.hstack([basis, new]), np.hstack([images, inverse(new)])
        values, vectors = np.linalg.eig(basis.conj().T @ images)
        order = np.argsort(-np.abs(values))[:LEADING]
        values, vectors = values[order], vectors[:, order]
        residuals = np.linalg.norm(images @ vectors - basis @ (vectors * values), axis=0) / np.abs(values)
        found = z - 1 / values
        done = residuals[np.argmax(np.abs(found))] < tolerance and residuals.max() < ROUGHLY
        if done or basis.shape[1] > min(DIMENSION, nodes - 2 * VECTORS):
            return found[residuals < ROUGHLY]
        new = images[:, -new.shape[1] :]

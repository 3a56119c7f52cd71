"""Linear systems and eigenvalues of the transfer operator of one time step.

Let A be the matrix of the time step and B the matrix of the splines at the nodes (`uldnum.exact.grid`). The operator is
``P = A B^-1``, and its resolvent is applied by solving a linear system,

    (z - P)^-1 v = B c,    (z B - A) c = v.

A time step moves a chain over only a few nodes in x, so the matrix ``z B - A`` is banded if the nodes are sorted by x.
Stationary distributions, sums over all later steps and eigenvalues near z follow from a few such solutions.
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
# Number of eigenvalues that one Krylov iteration returns at most.
LEADING = 8
# Number of vectors in a block of a Krylov space, and largest dimension of the space.
VECTORS, DIMENSION = 4, 100
# Largest relative residual of an eigenvalue that is returned.
ROUGHLY = 1e-3


@dataclass(frozen=True)
class Block:
    """Block of rows of a banded matrix after elimination.

    Attributes
    ----------
    left, right : int
        First column of the block, and the column after its last one.
    start, stop : int
        First column of the diagonal block, and the column after its last one.
    lower : array, shape (stop - start, start - left)
        Entries to the left of the diagonal block.
    diagonal : (array, array)
        LU factors of the diagonal block, and its pivots.
    upper : array, shape (stop - start, right - stop)
        Inverse of the diagonal block times the entries to its right.
    """

    left: int
    start: int
    stop: int
    right: int
    lower: Array
    diagonal: tuple[Array, Array]
    upper: Array


class Factors:
    """Factors of a banded matrix from block elimination, with pivoting only within the diagonal blocks.

    Parameters
    ----------
    blocks : iterable of (int, array)
        Blocks of consecutive rows. Each has the index of its first column and its entries, which are overwritten. The
        diagonal block of a block starts at the column whose index is that of its first row. Neither the first nor the
        last column decreases from one block to the next.
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
        """Return the solution for a right-hand side, or for several as columns."""
        x = right.copy()
        for block in self.blocks:
            rows = slice(block.start, block.stop)
            reduced = x[rows] - block.lower @ x[block.left : block.start]
            x[rows] = lu_solve(block.diagonal, reduced, check_finite=False)
        for block in reversed(self.blocks):
            x[block.start : block.stop] -= block.upper @ x[block.stop : block.right]
        return x

    def solve_transposed(self, right: Array) -> Array:
        """Return the solution of the system with the transposed matrix."""
        x = right.copy()
        for block in self.blocks:
            x[block.stop : block.right] -= block.upper.T @ x[block.start : block.stop]
        for block in reversed(self.blocks):
            rows = slice(block.start, block.stop)
            x[rows] = lu_solve(block.diagonal, x[rows], trans=1, check_finite=False)
            x[block.left : block.start] -= block.lower.T @ x[rows]
        return x


class TimeStep:
    """Transfer operator of one time step on a grid.

    Parameters
    ----------
    pushes : list of Push
        Factors of the operator in the order in which a chain passes through them. All have the same grid.
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
        """Columns ``(left, start, stop, right)`` of each `Block` of the matrix, as indices of nodes in x."""
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
        """Approximate number of floating-point operations of `factors`."""
        left, start, stop, right = np.array(self.blocks, float).T * self.grid.memory.n
        return float(np.sum(2 * (stop - start) * (stop - left) * (right - start)))

    def factors(self, z: complex, pinned: tuple[int, int] | None = None) -> Factors:
        """Return factors of ``z B - A``. If a node is pinned, its row of B is added to its row of the matrix."""
        return Factors(self.entries(z, pinned))

    def entries(self, z: complex, pinned: tuple[int, int] | None) -> Iterable[tuple[int, Array]]:
        """Yield the first column and the entries of each block of rows of the matrix that `factors` factorises."""
        memory, (x_values, memory_values) = self.grid.memory.n, self.values
        for left, start, stop, right in self.blocks:
            entries = z * x_values[start:stop, None, left:right, None] * memory_values[:, None, :]
            for row, (first, matrix) in zip(entries, self.rows[start:stop], strict=True):
                row[:, first - left : first - left + matrix.shape[1]] -= matrix
            if pinned and start <= pinned[0] < stop:
                i, j = pinned
                entries[i - start, j] += np.multiply.outer(x_values[i, left:right], memory_values[j])
            yield left * memory, entries.reshape((stop - start) * memory, -1)

    def at_nodes(self, coefficients: Array) -> Array:
        """Return values of splines at the nodes, given their coefficients; both have the shape (nodes, ...)."""
        x_values, memory_values = self.values
        along_memory = memory_values @ coefficients.reshape(*self.grid.shape, -1)
        return np.tensordot(x_values, along_memory, 1).reshape(coefficients.shape)

    def nearest(self, z: complex, tolerance: float) -> Array:
        """Return the eigenvalues nearest z.

        The one of largest modulus has an error below the tolerance times its distance from z.
        """
        factors = self.factors(z)
        return dominant(lambda v: self.at_nodes(factors.solve(v + 0j)), self.grid.nodes, z, tolerance)

    def largest(self, count: int) -> Array:
        """Return the ``count`` eigenvalues of largest modulus, without the one nearest 1.

        The eigenvectors are those of a power of the matrix in which few eigenvalues are not negligible, so the
        iteration converges quickly for any step size. The eigenvalues are those of the matrix projected on the
        eigenvectors.
        """
        n, values = self.grid.nodes, np.kron(*self.values)
        matrix = np.linalg.solve(values.T, matrix_of(self.rows, self.grid).T).T
        power, wanted = matrix, min(2 * count, n - 2)
        while wanted < np.trace(power) < 2 * n:
            power = power @ power
        start = np.random.default_rng(0).random(n)
        try:
            _, vectors = eigs(power, wanted, v0=start, tol=1e-6)
        except ArpackNoConvergence as error:
            vectors = error.eigenvectors
        eigenvalues = np.linalg.eigvals(np.linalg.lstsq(vectors, matrix @ vectors)[0])
        others = np.delete(eigenvalues, np.argmin(np.abs(eigenvalues - 1)))
        return others[np.argsort(-np.abs(others))][:count]


def matrix_of(rows: list[tuple[int, Array]], onto: Grid) -> Array:
    """Return a dense matrix, given its rows in the format of `Push.rows` and the grid of its columns."""
    matrix = np.zeros((len(rows), len(rows[0][1]), *onto.shape))
    for dense, (first, row) in zip(matrix, rows, strict=True):
        dense[:, first : first + row.shape[1]] = row
    return matrix.reshape(-1, onto.nodes)


class Stationary:
    """Stationary distribution of a time step, and sums over all later time steps.

    The matrix ``B - A`` is singular. Its right null vector contains the coefficients of a constant function, and its
    left null vector contains the weights of the stationary distribution. The matrix becomes regular when the row of B
    at one node is added to its row at that node. For a right-hand side with stationary mean 0, the solution then
    vanishes at that node.

    Parameters
    ----------
    step : TimeStep
        The time step.
    pinned : (int, int)
        Indices of the node in x and in memory. Its stationary probability must not be negligible.

    Attributes
    ----------
    law : array, shape (nodes,)
        Weights of the stationary distribution.
    """

    def __init__(self, step: TimeStep, pinned: tuple[int, int]) -> None:
        self.step, self.factors = step, step.factors(1.0, pinned)
        functional = np.multiply.outer(step.values[0][pinned[0]], step.values[1][pinned[1]])
        weights = self.factors.solve_transposed(functional.ravel())
        self.law = weights / weights.sum()

    def summed(self, values: Array) -> Array:
        """Return ``sum_{n>=0} P^n (f - E f)``, given the values of f at the nodes, shape (nodes, ...)."""
        total = self.step.at_nodes(self.factors.solve(values - self.law @ values))
        return total - self.law @ total

    def eigenvalues(self, tolerance: float) -> Array:
        """Return the eigenvalues nearest 1, without the eigenvalue 1.

        The one of largest modulus has an error below the tolerance times its distance from 1.
        """
        return dominant(self.summed, self.step.grid.nodes, 1.0, tolerance)


def dominant(inverse: Callable[[Array], Array], nodes: int, z: complex, tolerance: float) -> Array:
    """Return the eigenvalues of P nearest z.

    They follow from the eigenvalues of ``(z - P)^-1`` projected on a block Krylov space. The error of the eigenvalue of
    largest modulus is below the tolerance times its distance from z; the relative errors of the others are below
    `ROUGHLY`.

    Parameters
    ----------
    inverse : callable
        Function that applies ``(z - P)^-1`` to vectors, (nodes, vectors) -> (nodes, vectors).
    nodes : int
        Number of nodes.
    z : complex
        Shift.
    tolerance : float
        Tolerance of the residual of the eigenvalue of largest modulus, relative to the eigenvalue of the inverse.
    """
    # The seed is fixed, so results are reproducible. Random vectors have no symmetry; a Krylov space from symmetric
    # vectors would contain no antisymmetric eigenvectors.
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
        eigenvalues = z - 1 / values
        done = residuals[np.argmax(np.abs(eigenvalues))] < tolerance and residuals.max() < ROUGHLY
        if done or basis.shape[1] > min(DIMENSION, nodes - 2 * VECTORS):
            return eigenvalues[residuals < ROUGHLY]
        new = images[:, -new.shape[1] :]

"""Integrated autocorrelation times on grids: sums over all lags, as solutions of Poisson's equation.

In terms of u, the memory between two score evaluations, a reading shares its normals with the stage that follows. The
states (x, p) at the ends of time steps are a simpler Markov chain: ``open`` leads out of one, ``close`` into the next,
each with normals of its own. With its transfer operator P, which acts on weights, its stationary law pi, and f read off
x alone, the covariances at lags n = 0, 1, ... add up to

    sum_n Cov(f(x_0), f(x_n)) = nu f,  where  nu (1 - P) = (f - pi f) pi.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce

import numpy as np
from scipy.linalg import lu_factor, lu_solve

from uldnum.arguments import result_of
from uldnum.exact.grid import Axis, Grid, TooMuchWork, push
from uldnum.exact.stationary import GROWTH, ConvergenceError, Problem, grown
from uldnum.schemes.stage import Stage, first_row
from uldnum.typing import Array

__all__ = ["autocorrelation_time"]

# Tolerances to which a time is known: a sum over many steps, it is more sensitive than the law. And how often the grid
# of the law is refined for it at most: where that does not settle it, f jumps, or modes of the grid are unstable.
LOOSER, REFINEMENTS = 100, 6


def autocorrelation_time(problem: Problem, grid: Grid, f: Callable[[Array], Array]) -> float:
    """Return ``1 + 2 sum_{n>=1} rho(n)``, in time steps, on a grid so fine that refinement does not change it.

    Parameters
    ----------
    problem : Problem
        The scheme on its target.
    grid : Grid
        One that resolves the stationary law.
    f : callable
        Function of positions, (n,) -> (n,).

    Raises
    ------
    ConvergenceError
        If a hundred times the tolerance cannot be reached.
    """
    grid = Grid(coarser(grid.x), coarser(momenta(problem, grid)))
    time = np.inf
    try:
        for _ in range(REFINEMENTS + 2):
            coarse, time = time, time_on(problem, grid, f)
            if abs(time - coarse) < LOOSER * problem.tolerance * max(1, time):
                return time
            grid = Grid(grown(grid.x), grown(grid.memory))
        raise TooMuchWork(f"more than {REFINEMENTS} refinements")
    except TooMuchWork as error:
        raise ConvergenceError(
            f"{problem.title}: the autocorrelation time is not resolved to {LOOSER * problem.tolerance:g}, that would "
            f"take {error}; a looser tolerance, a smoother function, a smaller step or more friction may help"
        ) from None


def momenta(problem: Problem, grid: Grid) -> Axis:
    """Return an axis for the second row at the end of a time step, as fine as that of a grid or finer."""
    if problem.step.rows == 1:
        return grid.memory
    axis = problem.memory_axis(grid.x, problem.linear.read.push(problem.before)[:, 1, 1])
    return replace(axis, n=max(axis.n, grid.memory.n))


def coarser(axis: Axis) -> Axis:
    """Return the axis that grows to this one."""
    return axis if axis.n == 1 else replace(axis, n=int(axis.n / GROWTH))


def time_on(problem: Problem, grid: Grid, f: Callable[[Array], Array]) -> float:
    """Return the time, in steps, on one grid."""
    nodes = grid.nodes
    values = result_of("f", f, grid.x.nodes)
    if values.shape not in ((), (grid.x.n,)):
        raise ValueError(f"f: must return the shape of its argument, {(grid.x.n,)}, got {values.shape}")
    values = np.repeat(np.broadcast_to(values, grid.x.n), grid.memory.n)
    if not np.isfinite(values).all() or values.min() == values.max():
        raise ValueError("f: must be finite and not constant where the law is")
    # 1 - P, made regular: a law in proportion to the sum, which P keeps, moves its eigenvalue 0 to 1.
    factors = lu_factor(np.eye(nodes) - cycle(problem, grid) + 1 / nodes, overwrite_a=True, check_finite=False)

    def solved(right: Array) -> Array:
        """Return the weights of which the remainder is ``right``."""
        return lu_solve(factors, right, trans=1, check_finite=False)

    law = solved(np.full(nodes, 1 / nodes))
    deviation = (values - law @ values) * law
    return float(2 * (solved(deviation) @ values) / (deviation @ values) - 1)


def cycle(problem: Problem, grid: Grid) -> Array:
    """Return the matrix that leads from the state at the end of a time step to that at the end of the next."""
    step, last = problem.step, problem.step.stages[-1]
    noise, maps, matrices = np.zeros((step.rows, 0)), [], []
    for stage in (Stage(first_row(step.open.b), step.open), *step.stages[:-1], Stage(last.G, step.close)):
        maps.append(stage)
        if stage.map.C.any():
            matrices.append(push(grid, grid, noise, maps, problem.score))
            noise, maps = stage.map.compressed().C, []
    return reduce(np.matmul, [*matrices, push(grid, grid, noise, maps, problem.score)])

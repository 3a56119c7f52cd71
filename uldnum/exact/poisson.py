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

import numpy as np
from scipy.sparse.linalg import LinearOperator, gmres

from uldnum.arguments import result_of
from uldnum.exact.grid import Grid, Push, TooMuchWork
from uldnum.exact.stationary import GROWTH, ConvergenceError, Problem, grown, through
from uldnum.schemes.stage import Stage, first_row
from uldnum.typing import Array

__all__ = ["autocorrelation_time"]

# Relative residual of a linear system, in tolerances; the dimension of its Krylov space, and how often one is built.
RESIDUAL, KRYLOV, RESTARTS = 0.01, 100, 5
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
    memory = grid.memory if grid.memory.n == 1 else replace(grid.memory, n=int(grid.memory.n / GROWTH))
    try:
        time = time_on(problem, Grid(replace(grid.x, n=int(grid.x.n / GROWTH)), memory), f)
        for _ in range(REFINEMENTS):
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


def time_on(problem: Problem, grid: Grid, f: Callable[[Array], Array]) -> float:
    """Return the time, in steps, on one grid."""
    nodes = grid.nodes
    values = result_of("f", f, grid.x.nodes)
    if values.shape not in ((), (grid.x.n,)):
        raise ValueError(f"f: must return the shape of its argument, {(grid.x.n,)}, got {values.shape}")
    values = np.repeat(np.broadcast_to(values, grid.x.n), grid.memory.n)
    if not np.isfinite(values).all() or values.min() == values.max():
        raise ValueError("f: must be finite and not constant where the law is")
    step, target = cycle(problem, grid), problem.target
    guess = np.outer(np.interp(grid.x.nodes, target.x, target.density), grid.memory.rule[1]).ravel()
    guess /= guess.sum()

    def remainder(weights: Array) -> Array:
        """Apply 1 - P, made regular: a law in proportion to the sum, which P keeps, moves its eigenvalue 0 to 1."""
        return weights - through(step, weights) + weights.sum() * guess

    operator = LinearOperator((nodes, nodes), matvec=remainder, dtype=float)

    def solved(right: Array) -> Array:
        """Return the weights of which the remainder is ``right``."""
        solution, unfinished = gmres(
            operator, right, rtol=RESIDUAL * problem.tolerance, restart=KRYLOV, maxiter=RESTARTS
        )
        if unfinished:
            raise TooMuchWork(f"more than {KRYLOV * RESTARTS} iterations")
        return solution

    law = solved(guess)
    deviation = (values - law @ values) * law
    return float(2 * (solved(deviation) @ values) / (deviation @ values) - 1)


def cycle(problem: Problem, grid: Grid) -> list[Push]:
    """Return maps of weights that lead from the state at the end of a time step to that at the end of the next."""
    step, last = problem.step, problem.step.stages[-1]
    noise, maps, pushes = np.zeros((step.rows, 0)), [], []
    for stage in (Stage(first_row(step.open.b), step.open), *step.stages[:-1], Stage(last.G, step.close)):
        maps.append(stage)
        if stage.map.C.any():
            pushes += problem.pushes(noise, maps, grid, grid)
            noise, maps = stage.map.compressed().C, []
    return pushes + problem.pushes(noise, maps, grid, grid)

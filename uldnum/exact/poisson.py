"""Integrated autocorrelation times on grids, as solutions of Poisson's equation.

The memory u between two score evaluations is a Markov chain, but a reading of (x, p) shares its normals with the stage
that follows. The states (x, p) at the ends of time steps are a simpler Markov chain: ``open`` starts from one state and
``close`` ends at the next, each with its own normals. The distribution of these states, weighted by ``f(x) - E f``, is
propagated to the next reading, and to the point of the time step at which the grid of the stationary distribution
applies. From there the sum over all later readings is the solution g of

    g = r + P g,

where r is the expectation of ``f(x) - E f`` at the next reading and P is the operator of a time step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from uldnum._util.arguments import result_of
from uldnum._util.typing import Array
from uldnum.exact.grid import Axis, Grid, Noise, Push
from uldnum.exact.stationary import ConvergenceError, Problem, split
from uldnum.schemes.stage import Stage, first_row

__all__ = ["autocorrelation_time"]

# Tolerance of a time divided by that of the distribution: a sum over many steps is more sensitive.
LOOSER = 100
# Largest number of refinements of the grid, and their factor. If they do not suffice, f may jump.
REFINEMENTS, GROWTH = 4, 1.2


def autocorrelation_time(problem: Problem, grid: Grid, f: Callable[[Array], Array]) -> float:
    """Return the autocorrelation time ``1 + 2 sum_{n>=1} rho(n)`` in time steps, on a grid that resolves it.

    Parameters
    ----------
    problem : Problem
        The scheme on its target.
    grid : Grid
        A grid that resolves the stationary distribution.
    f : callable
        Function of positions, (n,) -> (n,).

    Returns
    -------
    float
        Time in time steps.

    Raises
    ------
    ValueError
        If f is not finite or is constant on the interval.
    ConvergenceError
        If an accuracy of a hundred times the tolerance cannot be reached.
    """
    grid, time = scaled(grid, 1 / GROWTH), np.inf
    for _ in range(REFINEMENTS + 2):
        coarse, time = time, time_on(problem, grid, f)
        if abs(time - coarse) < LOOSER * problem.tolerance * max(1, time):
            return time
        grid = scaled(grid, GROWTH)
    raise ConvergenceError(
        f"{problem.title}: the autocorrelation time is not resolved to {LOOSER * problem.tolerance:g} after "
        f"{REFINEMENTS} refinements; a smoother function, a looser tolerance, a smaller step or more friction may help"
    )


def scaled(grid: Grid, factor: float) -> Grid:
    """Return a grid with ``factor`` times as many nodes on each axis that has more than one."""
    x, memory = (axis if axis.n == 1 else replace(axis, n=round(factor * axis.n)) for axis in (grid.x, grid.memory))
    return Grid(x, memory)


def time_on(problem: Problem, grid: Grid, f: Callable[[Array], Array]) -> float:
    """Return the time, in steps, on one grid."""
    values = result_of("f", f, grid.x.nodes)
    if values.shape not in ((), (grid.x.n,)):
        raise ValueError(f"f: must return the shape of its argument, {(grid.x.n,)}, got {values.shape}")
    values = np.broadcast_to(values, grid.x.n)
    if not np.isfinite(values).all() or values.min() == values.max():
        raise ValueError("f: must be finite and not constant where the law is")
    found, step, score = problem.stationary(grid), problem.step, problem.score
    line, ends = Grid(grid.x, Axis(0.0, 0.0, 1)), Grid(grid.x, momenta(problem, grid))
    closing = Stage(step.stages[-1].G, step.close)
    reading, none = split(step.close.compressed().C), np.zeros(step.rows)
    ending = Noise(none, float(np.linalg.norm(step.close.C[0])))

    # The law at the end of a step, weighted by f - E f, and the sum over readings from the grid of the law on.
    noise = problem.parts[0][0]
    before_reading = Push(grid, ends, noise, [closing], score, reading)
    law = Push(ends, ends, reading, [], score).law(before_reading.law(found.law.reshape(grid.shape)))
    mean, weights = law.sum(axis=1) @ values, law.sum(axis=1)
    values = values - mean
    read = Push(grid, line, noise, [closing], score, ending).expectation(values[:, None])
    later = found.summed(read.ravel())

    # From there to the next score evaluation of a last stage.
    law, noise, maps = law * values[:, None], Noise(none), []
    for stage in (Stage(first_row(step.open.b), step.open), *step.stages[:-1]):
        maps.append(stage)
        if stage.map.C.any():
            following = split(stage.map.compressed().C)
            law = Push(ends, ends, noise, maps, score, following).law(law)
            noise, maps = following, []
    next_reading = Push(ends, line, noise, [*maps, closing], score, ending).law(law)[:, 0] @ values
    parts = problem.parts
    law = Push(ends, grid, noise, [*maps, *parts[0][1]], score, parts[1 % len(parts)][0]).law(law)
    for push in found.step.pushes[1:]:
        law = push.law(law)
    return float(1 + 2 * (next_reading + law.ravel() @ later) / (weights @ values**2))


def momenta(problem: Problem, grid: Grid) -> Axis:
    """Return an axis for the second row at the end of a time step, with as many nodes as the finest of a grid."""
    if problem.step.rows == 1:
        return grid.memory
    axis = problem.memory_axis(grid.x, problem.linear.read.push(problem.before)[:, 1, 1])
    return replace(axis, n=max(grid.shape))

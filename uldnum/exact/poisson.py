"""Integrated autocorrelation times on grids, as solutions of Poisson's equation.

The integrated autocorrelation time of a function f, in time steps, is

    tau = 1 + 2 sum_{n>=1} rho(n),    rho(n) = Cov(f(x_0), f(x_n)) / Var f(x_0),

where x_n is the position at the end of time step n in equilibrium. The state ``(x, p)`` at the end of a time step is
called the *reading*. The states ``u`` before score evaluations are a Markov chain, but a reading uses the normals of
the last stage, which also determine the next u. The readings are a Markov chain of their own. One transition of this
chain applies the map ``open``, all stages but the last, and the map ``close``, each with independent normals.

The stationary distribution of ``(x, p)``, weighted with ``f(x) - E f``, is therefore propagated in two ways:

* to the next reading, which gives the term n = 1;
* to the point of the time step that the grid of the stationary distribution describes. The sum of all terms n >= 2 is
  the integral of g with this weighted distribution, where g is the solution of Poisson's equation

      g = r + P g.

  Here r is the expectation of ``f(x) - E f`` at the next reading, given the state on the grid, and P is the operator of
  one time step.

With score noise, ``close`` and ``open`` may share the error of one score. The readings are then not a Markov chain. In
all splitting words of this kind, ``close`` leaves x unchanged, so f is a function of the state u before the last stage.
The distribution of u, weighted with ``f(x) - E f``, is then propagated by whole stages, starting with the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np

from uldnum._util.arguments import result_of
from uldnum._util.typing import Array
from uldnum.exact.grid import Axis, Grid, Noise, Push
from uldnum.exact.stationary import ConvergenceError, Problem, split
from uldnum.schemes.stage import Stage, Step, first_row

__all__ = ["autocorrelation_times"]

# Tolerance of a time divided by that of the distribution. A sum over many steps is more sensitive to errors.
LOOSER = 100
# Largest number of refinements of the grid, and the factor by which each of them increases the number of nodes of an
# axis. More refinements are needed only if f is not smooth.
REFINEMENTS, GROWTH = 4, 1.2


def autocorrelation_times(problem: Problem, grid: Grid, functions: Sequence[Callable[[Array], Array]]) -> Array:
    """Return the autocorrelation times ``1 + 2 sum_{n>=1} rho(n)`` of functions, in time steps.

    The grid is refined until each time changes by less than a hundred times the tolerance of the problem, relative to
    the time or to one time step, whichever is longer.

    Parameters
    ----------
    problem : Problem
        The scheme on its target.
    grid : Grid
        A grid that resolves the stationary distribution.
    functions : sequence of callable
        Functions of positions, (n,) -> (n,).

    Returns
    -------
    array, shape (functions,)
        Times in time steps. A time is NaN if it is not resolved and another one is.

    Raises
    ------
    ValueError
        If a function is not finite or is constant at the nodes of the grid.
    ConvergenceError
        If no time is resolved after `REFINEMENTS` refinements.
    """
    grid, times, resolved = scaled(grid, 1 / GROWTH), np.full(len(functions), np.inf), np.full(len(functions), np.nan)
    limit = LOOSER * problem.tolerance
    fault = ConvergenceError(
        f"{problem.title}: the autocorrelation time is not resolved to {limit:g} after {REFINEMENTS} refinements; "
        "use a smoother function, a looser tolerance, a smaller step or more friction"
    )
    for _ in range(REFINEMENTS + 2):
        try:
            coarse, times = times, times_on(problem, grid, functions)
        except ConvergenceError as error:
            fault = error
            break
        converged = np.abs(times - coarse) < limit * np.maximum(1, times)
        resolved = np.where(np.isnan(resolved) & converged, times, resolved)
        if not np.isnan(resolved).any():
            return resolved
        grid = scaled(grid, GROWTH)
    if np.isnan(resolved).all():
        raise fault
    return resolved


def scaled(grid: Grid, factor: float) -> Grid:
    """Return a grid with ``factor`` times as many nodes on each axis that has more than one node."""
    x, memory = (axis if axis.n == 1 else replace(axis, n=round(factor * axis.n)) for axis in (grid.x, grid.memory))
    return Grid(x, memory)


def times_on(problem: Problem, grid: Grid, functions: Sequence[Callable[[Array], Array]]) -> Array:
    """Return the autocorrelation times of functions on one grid, in time steps."""
    observables = [observed(f, grid.x.nodes) for f in functions]
    stationary, step, score = problem.stationary(grid), problem.step, problem.score
    shared = shares_an_error(step)
    positions, phase_space = Grid(grid.x, Axis(0.0, 0.0, 1)), Grid(grid.x, momenta(problem, grid, shared))
    closing = Stage(step.stages[-1].G, step.close)
    reading, zero = split(step.close.compressed().C), np.zeros(step.rows)
    ending = Noise(zero, float(np.linalg.norm(step.close.C[0])))

    # `law` is the distribution of (x, p) at the end of a time step, or that of u before the last stage.
    noise = problem.parts[0][0]
    on_nodes = stationary.law.reshape(grid.shape)
    if shared:
        law, first = Push(grid, phase_space, noise, [], score).law(on_nodes), step.stages[-1]
    else:
        before_reading = Push(grid, phase_space, noise, [closing], score, reading)
        law = Push(phase_space, phase_space, reading, [], score).law(before_reading.law(on_nodes))
        first = Stage(first_row(step.open.b), step.open)
    weights = law.sum(axis=1)
    read = Push(grid, positions, noise, [closing], score, ending)

    # `onwards` propagates to the last noise before the last stage of the next time step.
    onwards, noise, maps = [], Noise(zero), []
    for stage in (first, *step.stages[:-1]):
        maps.append(stage)
        if stage.map.C.any():
            following = split(stage.map.compressed().C)
            onwards.append(Push(phase_space, phase_space, noise, maps, score, following))
            noise, maps = following, []
    next_reading = Push(phase_space, positions, noise, [*maps, closing], score, ending)
    parts = problem.parts
    to_grid = Push(phase_space, grid, noise, [*maps, *parts[0][1]], score, parts[1 % len(parts)][0])

    def time(values: Array) -> float:
        values = values - weights @ values
        # `later` is g, the sum over all readings that follow a state on the grid.
        later = stationary.summed(read.expectation(values[:, None]).ravel())
        weighted = reduce(lambda one, push: push.law(one), onwards, law * values[:, None])
        soon = next_reading.law(weighted)[:, 0] @ values
        on_grid = reduce(lambda one, push: push.law(one), [to_grid, *stationary.step.pushes[1:]], weighted)
        return float(1 + 2 * (soon + on_grid.ravel() @ later) / (weights @ values**2))

    return np.array([time(values) for values in observables])


def observed(f: Callable[[Array], Array], x: Array) -> Array:
    """Return the values of a function at positions, shape (n,), or raise if they are not finite or are constant."""
    values = result_of("f", f, x)
    if values.shape not in ((), x.shape):
        raise ValueError(f"f: must return the shape of its argument, {x.shape}, got {values.shape}")
    values = np.broadcast_to(values, x.shape)
    if not np.isfinite(values).all() or values.min() == values.max():
        raise ValueError(
            f"f: must be finite and not constant on the grid, got values from {values.min()} to {values.max()}"
        )
    return values


def shares_an_error(step: Step) -> bool:
    """Return whether ``close`` and ``open`` share the error of a score: their noise is not independent.

    Raise a ConvergenceError if ``close`` also moves x.
    """
    apart, whole = step.close.then(step.open).C, step.stages[-1].map.C
    if np.allclose(apart @ apart.T, whole @ whole.T, rtol=1e-9, atol=1e-12 * np.abs(whole @ whole.T).max()):
        return False
    if any(part[0].any() for part in (step.close.dA, step.close.b, step.close.C)):
        raise ConvergenceError(
            "autocorrelation times are not computed with score noise if the end of a step moves x and shares its score "
            "with the start of the next step"
        )
    return True


def momenta(problem: Problem, grid: Grid, shared: bool) -> Axis:
    """Return an axis for the second row at the end of a time step or, if ``shared``, of u before the last stage.

    It has as many nodes as the axis of ``grid`` with the most nodes.
    """
    if problem.step.rows == 1:
        return grid.memory
    covariance = problem.covariance if shared else problem.linear.read.push(problem.covariance)
    axis = problem.memory_axis(grid.x, covariance[:, 1, 1])
    return replace(axis, n=max(grid.shape))

"""Time steps with a Metropolis test: propose a state by the stages of the step, and accept or reject it.

The state (x, p) has the energy ``H = p^2/2 - log density(x)``, and the density is that of the target to the power 1/T,
where T is the temperature. A step applies ``open`` to the momentum, runs the stages, accepts the new state with
probability ``min(1, exp(-dH/T))``, and applies ``close``. If the new state is rejected, the chain returns to the state
after ``open``, with the momentum reversed; without the reversal, the target would not be invariant (Horowitz 1991). A
chain carries the score and the log density at its position from step to step, so a step of one leapfrog needs one score
evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from uldnum.kernels.source.functions import Ops

__all__ = ["make_metropolis"]


def make_metropolis(
    ops: Ops, core: SimpleNamespace, evaluate: Callable[..., Any], move: Callable[..., Any]
) -> SimpleNamespace:
    """Return the functions ``enter`` and ``take`` of `make_chain` for steps with a Metropolis test.

    Parameters
    ----------
    ops, core, move
        As in `make_chain`.
    evaluate : callable
        ``evaluate(s, q, y, target, d, needed)`` writes the score at y to s, and returns the log density at y, up to a
        constant, in float64. If ``needed`` is false, any number may be returned instead.
    """
    row, tail, where, as_double = ops.row, ops.tail, ops.where, ops.as_double
    copy, kinetic_change = core.copy, core.kinetic_change
    NOTHING, LEAST = 0.0, -np.inf

    @ops.jit
    def enter(chain, scratch, target, t, d, k, stream):  # type: ignore[no-untyped-def]
        """Evaluate the score and the log density at x. Return the number of score evaluations."""
        copy(chain.u, chain.phase_space, d, k)
        carried = chain.carried
        carried.log_density[0] = evaluate(carried.score, scratch.q, row(chain.u, 0), target, d, True)
        return 1

    @ops.inline
    def take(chain, scratch, target, t, d, k, xi, eta, rows, wanted, recorded):  # type: ignore[no-untyped-def]
        """Take a time step; eta[0] is the logarithm of a uniform number. Count an accepted step if ``recorded``."""
        u, s, carried = chain.u, scratch.s, chain.carried
        closing = len(t.normals) - 1
        opening, last_stage = closing - 1, closing - 2
        move(u, carried.score, xi, t, opening, d)  # open and close multiply the score by 0, so it must be finite
        # The state before the proposal is stored in place of the last (x, p), which this step replaces if it is wanted.
        before = chain.phase_space
        copy(before, u, d, k)
        move(u, carried.score, xi, t, 0, d)
        log_density = carried.log_density[0]
        for j in range(1, last_stage + 1):
            log_density = evaluate(s, scratch.q, row(u, 0), target, d, j == last_stage)
            move(u, s, xi, t, j, d)
        change = (carried.log_density[0] - log_density) + kinetic_change(row(u, 1), row(before, 1), d)
        # The comparisons are false if the change of the energy is NaN or infinite.
        accepted = (as_double(eta[0]) * t.temperature + change <= NOTHING) & (change > LEAST)
        for i in range(d):
            u[0, i] = where(accepted, u[0, i], before[0, i])
            u[1, i] = where(accepted, u[1, i], -before[1, i])
            carried.score[i] = where(accepted, s[i], carried.score[i])
        carried.log_density[0] = where(accepted, log_density, carried.log_density[0])
        if recorded:
            carried.accepted[0] = where(accepted, carried.accepted[0] + 1, carried.accepted[0])
        move(u, carried.score, tail(xi, d * t.offset[closing]), t, closing, d)
        if wanted:
            copy(before, u, d, k)

    return SimpleNamespace(enter=enter, take=take)

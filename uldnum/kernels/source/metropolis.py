"""Time steps with a Metropolis test: propose a state by the stages of the step, and accept or reject it.

The state (x, p) has the energy ``H = p^2/2 - log density(x)``, and the density is that of the target to the power 1/T,
where T is the temperature. All stages of a step but the last one propose a new state, which is accepted with
probability ``min(1, exp(-dH/T))``. If it is rejected, the chain returns to the state before the proposal, with the
momentum reversed; without the reversal, the target would not be invariant (Horowitz 1991). The last stage then
refreshes the momentum, and the step ends inside this stage. A chain carries the score and the log density at its
position from step to step, so a step of one leapfrog needs one score evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from uldnum.kernels.source.core import DYNAMICS
from uldnum.kernels.source.functions import Ops

__all__ = ["make_metropolis"]


def make_metropolis(
    ops: Ops, core: SimpleNamespace, draw: Callable[..., Any], read: Callable[..., Any], evaluate: Callable[..., Any]
) -> SimpleNamespace:
    """Return the functions ``enter`` and ``take`` of `make_chain` for steps with a Metropolis test.

    Parameters
    ----------
    ops, core, draw, read
        As in `make_chain`.
    evaluate : callable
        ``evaluate(s, q, y, target, d, needed)`` writes the score at y to s, and returns the log density at y, up to a
        constant, in float64. If ``needed`` is false, any number may be returned instead.
    """
    row, where, as_double = ops.row, ops.where, ops.as_double
    affine, kicked, refreshed, kinetic_change = core.affine, core.kicked, core.refreshed, core.kinetic_change
    NOTHING, LEAST = 0.0, -np.inf

    @ops.jit
    def enter(chain, scratch, target, t, d, k, stream):  # type: ignore[no-untyped-def]
        """Evaluate the score and the log density at x, and open the recurrence. Return the number of evaluations."""
        opening, carried = len(t.normals) - 2, chain.carried
        carried.log_density[0] = evaluate(carried.score, scratch.q, row(chain.phase_space, 0), target, d, True)
        xi = draw(scratch.xi, 0, d * t.normals[opening], DYNAMICS, stream)
        read(chain.u, chain.phase_space, carried.score, xi, xi, t, opening, d, k)
        return 1

    @ops.inline
    def take(chain, scratch, target, t, d, k, xi, eta, log_u, rows, wanted, recorded):  # type: ignore[no-untyped-def]
        """Take a time step; log_u[0] is the logarithm of a uniform number. Count an accepted step if ``recorded``."""
        u, s, carried = chain.u, scratch.s, chain.carried
        closing = len(t.normals) - 1
        last_stage = closing - 2
        # The proposal is stored in place of the last (x, p), which this step replaces if it is wanted.
        proposal = chain.phase_space
        affine(proposal, u, carried.score, xi, xi, t, 0, d, 2, 2, 0, 0)
        log_density = carried.log_density[0]
        for j in range(1, last_stage):
            last = j == last_stage - 1
            log_density = evaluate(s, scratch.q, row(proposal, 0), target, d, last)
            if last:
                for i in range(d):
                    proposal[1, i] = kicked(row(proposal, 1), s, t, j, i)
            else:
                affine(proposal, proposal, s, xi, xi, t, j, d, 2, 2, 0, 0)
        change = (carried.log_density[0] - log_density) + kinetic_change(row(proposal, 1), row(u, 1), d)
        # The comparisons are false if the change of the energy is NaN or infinite.
        accepted = (as_double(log_u[0]) * t.temperature + change <= NOTHING) & (change > LEAST)
        for i in range(d):
            proposal[0, i] = where(accepted, proposal[0, i], u[0, i])
            proposal[1, i] = where(accepted, proposal[1, i], -u[1, i])
            carried.score[i] = where(accepted, s[i], carried.score[i])
            u[0, i] = proposal[0, i]
            u[1, i] = refreshed(row(proposal, 1), xi, t, last_stage, i)
        carried.log_density[0] = where(accepted, log_density, carried.log_density[0])
        if recorded:
            carried.accepted[0] = where(accepted, carried.accepted[0] + 1, carried.accepted[0])
        if rows > 1:  # the map multiplies the score by 0, so it must be finite
            read(proposal, proposal, carried.score, xi, eta, t, closing, d, rows)

    return SimpleNamespace(enter=enter, take=take)

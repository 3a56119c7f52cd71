"""Reference implementation of one time step on NumPy arrays, for readers and for tests.

The functions `apply`, `enter`, `advance` and `tested` define what every executor computes. States have shape
(..., k, d), with k rows of d coordinates; row 0 is the position. Normals have shape (..., m, d).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from uldnum._util.typing import Array
from uldnum.schemes.stage import Affine, Step

__all__ = ["advance", "apply", "energy", "enter", "reversed_momentum", "tested"]

Score = Callable[[Array], Array]
LogDensity = Callable[[Array], Array]


def apply(map: Affine, u: Array, s: Array, xi: Array) -> Array:
    """Return ``u + (dA u + b s + C xi)``, the image of u under an affine map at a fixed score s."""
    return u + (map.dA @ u + map.b[:, None] * s[..., None, :] + map.C @ xi)


def enter(table: Step, state: Array, score: Score, xi: Array) -> Array:
    """Return the rows u before the first stage, given the state (x, p)."""
    s = score(state[..., 0, :]) if table.open_uses_score else np.zeros_like(state[..., 0, :])
    return apply(table.open, state, s, xi)


def advance(table: Step, u: Array, score: Score, xi: Array, eta: Array) -> tuple[Array, Array]:
    """Take one time step. Return the next rows u, and the state (x, p) at the end of the step.

    ``xi`` holds the normals of all stages in order. ``eta`` holds the additional normals of the map ``close``.

    Examples
    --------
    A step of BAOAB from (x, p) = (1, 0) on a standard Gaussian, with all normals set to zero:

    >>> import numpy as np
    >>> import uldnum
    >>> from uldnum.kernels.reference import advance, enter
    >>> table = uldnum.integrator("BAOAB").stages(np.array(0.5), friction=1.0)
    >>> u = enter(table, np.array([[1.0], [0.0]]), lambda x: -x, xi=np.zeros((1, 1)))
    >>> u, state = advance(table, u, lambda x: -x, xi=np.zeros((1, 1)), eta=np.zeros((0, 1)))
    >>> state.ravel().round(6).tolist()
    [0.899592, -0.376531]
    """
    for stage in table.stages:
        here, xi = xi[..., : stage.map.normals, :], xi[..., stage.map.normals :, :]
        s = score(np.einsum("k,...kd->...d", stage.G, u))
        last, u = u, apply(stage.map, u, s, here)
    return u, apply(table.close, last, s, np.concatenate([here, eta], axis=-2))


def energy(state: Array, log_density: LogDensity) -> Array:
    """Return the energy ``p^2/2 - log density(x)`` of states (x, p), shape (...)."""
    kinetic: Array = np.square(state[..., 1, :]).sum(axis=-1) / 2
    return kinetic - log_density(state[..., 0, :])


def reversed_momentum(state: Array) -> Array:
    """Return the states (x, -p)."""
    return state * np.array([[1.0], [-1.0]])


def tested(
    table: Step, u: Array, score: Score, log_density: LogDensity, xi: Array, eta: Array, log_uniform: Array
) -> tuple[Array, Array, Array]:
    """Take one time step with a Metropolis test. Return the results of `advance`, and whether it was accepted.

    ``log_uniform`` holds the logarithm of a uniform number, shape (...).

    Examples
    --------
    A leapfrog step of size 1 from (x, p) = (1, 0) on a standard Gaussian changes the energy from 1/2 to 13/32:

    >>> import numpy as np
    >>> import uldnum
    >>> from uldnum.kernels.reference import tested
    >>> table = uldnum.integrator("mala").stages(np.array(1.0))
    >>> xi, eta, log_density = np.zeros((1, 1)), np.zeros((0, 1)), lambda x: -np.square(x).sum(axis=-1) / 2
    >>> u = np.array([[1.0], [0.0]])
    >>> u, state, accepted = tested(table, u, lambda x: -x, log_density, xi, eta, np.log(0.9))
    >>> state.ravel().tolist(), bool(accepted)
    ([0.5, -0.75], True)
    """
    proposed, nothing = u, np.zeros_like(u[..., 0, :])
    for stage in table.proposal:
        proposed = apply(stage.map, proposed, score(proposed[..., 0, :]), xi[..., :0, :])
    change = energy(proposed, log_density) - energy(u, log_density)
    accepted = np.isfinite(change) & (table.temperature * log_uniform <= -change)
    after = np.where(accepted[..., None, None], proposed, reversed_momentum(u))
    state = apply(table.close, after, nothing, np.concatenate([xi, eta], axis=-2))
    return apply(table.stages[-1].map, after, nothing, xi), state, accepted

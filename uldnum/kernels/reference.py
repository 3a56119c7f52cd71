"""One time step of any table on NumPy arrays, as the formulas have it: for readers and for tests.

Every executor computes what `apply`, `enter` and `advance` compute. States have shape (..., k, d): k rows of d
coordinates, row 0 the position. Normals have shape (..., m, d).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from uldnum._util.typing import Array
from uldnum.schemes.stage import Affine, Step

__all__ = ["advance", "apply", "enter"]

Score = Callable[[Array], Array]


def apply(map: Affine, u: Array, s: Array, xi: Array) -> Array:
    """Return ``u + (dA u + b s + C xi)``."""
    return u + (map.dA @ u + map.b[:, None] * s[..., None, :] + map.C @ xi)


def enter(table: Step, state: Array, score: Score, xi: Array) -> Array:
    """Open the recurrence: u from (x, p)."""
    s = score(state[..., 0, :]) if table.open_uses_score else np.zeros_like(state[..., 0, :])
    return apply(table.open, state, s, xi)


def advance(table: Step, u: Array, score: Score, xi: Array, eta: Array) -> tuple[Array, Array]:
    """Take a time step: from u to the next u, and to the state (x, p) at the end of the step.

    ``xi`` are the normals of all stages in order, ``eta`` those that only the reading needs.
    """
    for stage in table.stages:
        here, xi = xi[..., : stage.map.normals, :], xi[..., stage.map.normals :, :]
        s = score(np.einsum("k,...kd->...d", stage.G, u))
        last, u = u, apply(stage.map, u, s, here)
    return u, apply(table.close, last, s, np.concatenate([here, eta], axis=-2))

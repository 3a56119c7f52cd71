"""Reference implementation of one time step on NumPy arrays, for readers and for tests.

The functions `apply`, `enter` and `advance` define what every executor computes. States have shape (..., k, d), with k
rows of d coordinates; row 0 is the position. Normals have shape (..., m, d).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from uldnum._util.typing import Array
from uldnum.schemes.stage import Affine, Step

__all__ = ["advance", "apply", "enter"]

Score = Callable[[Array], Array]


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

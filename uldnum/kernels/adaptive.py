"""Steps whose sizes follow the score: taken one by one, with NumPy's arrays, outside the compiled loops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from uldnum.adaptive import Adaptive
from uldnum.dense import product
from uldnum.kernels import State
from uldnum.kernels.core import DYNAMICS, NEVER, Watch
from uldnum.kernels.drawing import chain_normals
from uldnum.schemes.stage import Affine
from uldnum.typing import Array

__all__ = ["take_adaptive_steps"]

# A step that moves nothing.
TINY = 1e-30


def take_adaptive_steps(
    target: Any, rule: Adaptive, count: int, state: State, seed: int, first_chain: int, watch: Watch
) -> Iterator[None]:
    """Go on to step ``count`` of a group of chains, in place, with NumPy's arrays; yields after every step.

    (x, p) is on the step: a scheme that opens with a score does so with the one that closed the step before. Where that
    was taken earlier, by a run that was stopped, it is evaluated again and not counted again.
    """
    _, n, _, d = state.xp.shape
    kind = state.xp.dtype
    known = rule.scheme.unit
    opens, place = known.open_uses_score, known.stages[0].G
    drawn = known.open.normals if opens else known.stages[0].map.normals
    closing = known.close.normals if opens else 0

    def score(y: Array, counted: int = 1) -> Array:
        state.nfe[...] += counted
        return np.asarray(target.score(y.reshape(n, *target.shape).astype(kind)), float).reshape(n, d)

    def at(number: int, some: int) -> Array:
        """Normals of all chains, shape (n, some, d)."""
        values = chain_normals(d * number, d * some, first_chain, n, DYNAMICS, seed, np.dtype(float))
        return values.reshape(n, d, some).transpose(0, 2, 1)

    u = state.xp[0].astype(float)
    s = score(u[:, 0], counted=int(not state.step)) if opens else np.zeros((n, d))
    for step in range(state.step, count):
        first = step * (drawn + closing)
        xi = at(first, drawn)
        if not opens:
            s = score(product(place[None], u)[:, 0])
        with np.errstate(all="ignore"):
            h = rule.size(xi, s)
        # Where there is no score, or it is no number, the chain stays, or is found outside.
        tables = rule.scheme.stages(np.where((h > 0) & (h < np.inf), h, TINY), friction=rule.friction)
        if opens:
            u = applied(tables.open, u, s, xi)
            s = score(u[:, 0])
            u = applied(tables.close, u, s, at(first + drawn, closing))
        else:
            u = applied(tables.stages[0].map, u, s, xi)
        outside = ((u[:, 0] < watch.least) | (u[:, 0] > watch.most) | ~np.isfinite(u[:, 0])).any(axis=1)
        state.left[0] = np.where(outside & (state.left[0] == NEVER), step + 1, state.left[0])
        state.xp[0], state.step = u, step + 1
        u = state.xp[0].astype(float)
        state.u[0] = u
        yield


def applied(map: Affine, u: Array, s: Array, xi: Array) -> Array:
    """u + (dA u + b s + C xi), for a table of each chain: u (n, k, d), s (n, d), xi (n, m, d)."""
    return u + (product(map.dA, u) + map.b[..., None] * s[:, None] + product(map.C, xi))

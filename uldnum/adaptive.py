r"""Step sizes that follow the score, of each chain its own.

Song et al. 2021, Algorithm 5, choose :math:`\delta_n = 2 \alpha_i (r |\xi| / |s|)^2` from the normals of the step and
the score before it, r being a signal-to-noise ratio (0.16 for CIFAR-10, VE) and :math:`\alpha_i` 1 (VE) or
:math:`1 - \beta_i` (VP). The recipe of an integrator is evaluated at every step with an array of step sizes, outside
the compiled loops. The step depends on the normals that it multiplies, so that the chain samples nothing that is known:
in few dimensions the fault is large (a standard Gaussian in 8 dimensions gets a variance of 1.6), in many it is not
seen, because the norm of the normals hardly varies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from uldnum.integrators import Integrator
from uldnum.kernels import State
from uldnum.kernels.array import chain_numbers, normals
from uldnum.kernels.core import DYNAMICS, NEVER, Watch
from uldnum.stage import Affine, Step
from uldnum.typing import Array

__all__ = ["FEWEST", "Adaptive", "take_adaptive_steps"]

# Dimensions below which a step that depends on its own normals visibly changes the law.
FEWEST = 64

# A step that moves nothing.
TINY = 1e-30


@dataclass(frozen=True)
class Adaptive:
    """A rule for step sizes.

    Attributes
    ----------
    scheme : Integrator
        It evaluates the score once a step, at the end of the step.
    friction : float
        Friction, absolute.
    snr : float
        The signal-to-noise ratio r.
    scale : float
        alpha_i.
    coupled : bool
        Take the means of both norms over all chains, as the original code does: a chain's result then depends on the
        others.
    """

    scheme: Integrator
    friction: float
    snr: float
    scale: float
    coupled: bool

    def __post_init__(self) -> None:
        step = self.scheme.stages(1.0)
        if len(step.stages) != 1 or not (step.open_uses_score or unmarked(step)):
            raise ValueError(
                f"snr: {self.scheme.name} does not evaluate the score once a step and at its end, as ula, baoab-limit, "
                "BAOAB or OBABO do"
            )

    def size(self, xi: Array, s: Array) -> Array:
        """Step size of each chain, from the normals (n, m, d) of the step and the score (n, d)."""
        noise = np.sqrt((xi**2).sum(axis=(1, 2)) / max(1, xi.shape[1]))
        signal = np.sqrt((s**2).sum(axis=1))
        if self.coupled:
            noise, signal = np.full_like(noise, noise.mean()), np.full_like(signal, signal.mean())
        return 2 * self.snr * np.sqrt(self.scale) * noise / signal  # h = (2 delta)^(1/2)


def unmarked(step: Step) -> bool:
    """Whether a step begins and ends where its only stage does."""
    whole = step.stages[0].map
    return all(np.array_equal(a, b) for a, b in ((step.close.b, whole.b), (step.close.C, whole.C)))


def take_adaptive_steps(
    target: Any, rule: Adaptive, count: int, state: State, seed: int, first_chain: int, watch: Watch
) -> Iterator[None]:
    """Go on to step ``count`` of a group of chains, in place, with NumPy's arrays; yields after every step.

    (x, p) is on the step: a scheme that opens with a score does so with the one that closed the step before. Where that
    was taken earlier, by a run that was stopped, it is evaluated again and not counted again.
    """
    _, n, _, d = state.xp.shape
    kind, chains = state.xp.dtype, chain_numbers(first_chain, n)
    known = rule.scheme.stages(1.0)
    opens, place = known.open_uses_score, known.stages[0].G
    drawn = known.open.normals if opens else known.stages[0].map.normals
    closing = known.close.normals if opens else 0

    def score(y: Array, counted: int = 1) -> Array:
        state.nfe[...] += counted
        return np.asarray(target.score(y.reshape(n, *target.shape).astype(kind)), float).reshape(n, d)

    def at(number: int, some: int) -> Array:
        """Normals of all chains, shape (n, some, d)."""
        values = normals(d * number, d * some, chains, DYNAMICS, seed, np.dtype(float))
        return values.reshape(d, some, n).transpose(2, 1, 0)

    u = state.xp[0].astype(float)
    s = score(u[:, 0], counted=int(not state.step)) if opens else np.zeros((n, d))
    for step in range(state.step, count):
        first = step * (drawn + closing)
        xi = at(first, drawn)
        if not opens:
            s = score(np.einsum("r,nrd->nd", place, u))
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
    return u + (map.dA @ u + map.b[..., None] * s[:, None] + map.C @ xi)

"""Langevin dynamics with proportional, integral and derivative gains of the score (PIDLD), as coefficient tables.

The step is ``x' = x + delta (k_p s + k_i I + k_d (s - s_last)) + sqrt(2 delta) xi``. Here s is the score at x, I is the
mean of all scores so far, and s_last is the score of the step before (Chen, Shu, Ding, Li & Zhang 2025, PID-controlled
Langevin dynamics for faster sampling of generative models, Algorithm 1). The coefficients depend on the number of past
steps, so the method is a plan and not an integrator.

The published versions differ. This module follows the code of the paper for images: both gains decay in every step,
the mean runs over all steps of all levels, and the difference in the first step is s itself. In the paper, only the
integral gain decays. In the code for points, the mean is over a window of 150 steps of one level, and the first
difference at a level is zero.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from uldnum._util.arguments import shown
from uldnum._util.names import split_name
from uldnum._util.typing import Array
from uldnum.schemes.stage import Affine, Step, first_row, table

__all__ = ["PIDLD", "SOURCE", "Gains", "gains_of", "pid"]

PIDLD = "pidld"
SOURCE = "Chen, Shu, Ding, Li & Zhang 2025, PID-controlled Langevin dynamics (PIDLD), Algorithm 1"


class Gains(NamedTuple):
    """Gains of a step of PIDLD.

    Attributes
    ----------
    proportional, integral, derivative : float
        Gains k_p, k_i and k_d.
    integral_decay, derivative_decay : float, default 1.0
        Factors by which each step multiplies k_i and k_d.
    """

    proportional: float
    integral: float
    derivative: float
    integral_decay: float = 1.0
    derivative_decay: float = 1.0

    def decayed(self) -> Gains:
        """Return the gains of the next step."""
        return self._replace(
            integral=self.integral * self.integral_decay, derivative=self.derivative * self.derivative_decay
        )


def gains_of(name: str) -> Gains:
    """Return the gains in a name such as ``pidld(2,0.5,4.5)`` or ``pidld(2,0.5,4.5,0.99,1)``, or raise."""
    wanted = (
        f"method: {PIDLD} needs three to five numbers, {PIDLD}(k_p,k_i,k_d[,decay of k_i[,decay of k_d]]), "
        f"with k_p > 0, k_i >= 0, k_d >= 0 and decays from 0 to 1, got {shown(name)}"
    )
    try:
        numbers = [float(part) for part in (split_name(name)[1] or "").split(",")]
    except ValueError:
        raise ValueError(wanted) from None
    if not 3 <= len(numbers) <= 5:
        raise ValueError(wanted)
    gains = Gains(*numbers)
    if not (np.all(np.isfinite(gains)) and gains[0] > 0 and min(gains) >= 0 and max(gains[3:]) <= 1):
        raise ValueError(wanted)
    return gains


def pid(h: Array, gains: Gains, past: float) -> Step:
    """Return the step of PIDLD with ``delta = h^2/2`` after a number of past steps.

    Row 1 holds the mean of the past scores, and row 2 the last score. An infinite number of past steps stands for a
    mean at its limit, which is zero. On N(0, 1/lambda), the gains k_p and k_d then sample with the temperature 1/k_p in
    the limit of small steps, for every k_d.
    """
    delta = np.square(h) / 2
    share = 1 / (past + 1)
    kept = 0.0 if share == 0 else past * share
    k_p, k_i, k_d, *_ = gains
    map = Affine(
        table(h, [[0, delta * k_i * kept, -delta * k_d], [0, kept - 1, 0], [0, 0, -1]]),
        table(h, [delta * (k_p + k_i * share + k_d), share, 1]),
        table(h, [[h], [0], [0]]),
    )
    return Step.on_step(first_row(map.b), map)

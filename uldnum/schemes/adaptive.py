r"""Step sizes that follow the score, of each chain its own.

Song et al. 2021, Algorithm 5, choose :math:`\delta_n = 2 \alpha_i (r |\xi| / |s|)^2` from the normals of the step and
the score before it, r being a signal-to-noise ratio (0.16 for CIFAR-10, VE) and :math:`\alpha_i` 1 (VE) or
:math:`1 - \beta_i` (VP). The recipe of an integrator is evaluated at every step with an array of step sizes, outside
the compiled loops. The step depends on the normals that it multiplies, so that the chain samples nothing that is known:
in few dimensions the fault is large (a standard Gaussian in 8 dimensions gets a variance of 1.6), in many it is not
seen, because the norm of the normals hardly varies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uldnum._util.typing import Array
from uldnum.arithmetic.dense import total
from uldnum.schemes.catalogue import Integrator
from uldnum.schemes.stage import Step

__all__ = ["FEWEST", "Adaptive"]

# Dimensions below which a step that depends on its own normals visibly changes the law.
FEWEST = 64


@dataclass(frozen=True)
class Adaptive:
    """A rule for step sizes.

    Attributes
    ----------
    scheme : Integrator
        It evaluates the score once a step, at the position where one step ends and the next begins.
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
        step = self.scheme.unit
        if len(step.stages) != 1 or not (step.open_uses_score or unmarked(step)):
            raise ValueError(
                f"snr: {self.scheme.name} does not evaluate the score once a step, where it begins or ends, as ula, "
                "baoab-limit, BAOAB or OBABO do"
            )

    def size(self, xi: Array, s: Array) -> Array:
        """Step size of each chain, from the normals (n, m, d) of the step and the score (n, d)."""
        noise = np.sqrt(total(np.square(xi).reshape(len(xi), -1)) / max(1, xi.shape[1]))
        signal = np.sqrt(total(np.square(s)))
        if self.coupled:
            noise, signal = (np.full_like(norms, total(norms) / len(norms)) for norms in (noise, signal))
        return 2 * self.snr * np.sqrt(self.scale) * noise / signal  # h = (2 delta)^(1/2)


def unmarked(step: Step) -> bool:
    """Whether a step begins and ends where its only stage does."""
    whole = step.stages[0].map
    return all(np.array_equal(a, b) for a, b in ((step.close.b, whole.b), (step.close.C, whole.C)))

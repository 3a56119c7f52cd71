r"""Adaptive step sizes, chosen for each chain from the norms of its score and of its normals.

Song et al. 2021, Algorithm 5, choose :math:`\delta_n = 2 \alpha_i (r |\xi| / |s|)^2`. Here :math:`\xi` are the normals
of the step, s is the score before the step, and r is a signal-to-noise ratio. At noise level i, :math:`\alpha_i` is 1
for variance-exploding (VE) levels and :math:`1 - \beta_i` for variance-preserving (VP) levels. Song et al. use r = 0.16
for VE levels on CIFAR-10. The recipe of the integrator is evaluated in every step with an array of step sizes, outside
the compiled loops.

The step size depends on the normals that it multiplies, so the stationary distribution is not known. In few dimensions
its bias is large: the variance of ULA with r = 0.16 on a standard Gaussian target in 8 dimensions is 1.6 instead of 1.
In many dimensions this dependence adds little to the bias, because the norm of the normals hardly varies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uldnum._util.typing import Array
from uldnum.arithmetic.dense import total
from uldnum.schemes.catalogue import Integrator

__all__ = ["FEWEST", "Adaptive"]

# Number of dimensions below which the dependence of the step size on the normals visibly biases the distribution.
FEWEST = 64


@dataclass(frozen=True)
class Adaptive:
    """Rule that chooses the step size of each chain in every step.

    Attributes
    ----------
    scheme : Integrator
        Integrator that evaluates the score once per step, at the position where one step ends and the next one starts.
    friction : float
        Friction, in units of 1/time.
    snr : float
        Signal-to-noise ratio r.
    scale : float
        Factor alpha_i of the rule: 1 for VE levels, 1 - beta_i for VP levels.
    coupled : bool
        Whether both norms are averaged over all chains, as in the original code. The result of a chain then depends on
        all other chains.
    """

    scheme: Integrator
    friction: float
    snr: float
    scale: float
    coupled: bool

    def __post_init__(self) -> None:
        step = self.scheme.unit
        if len(step.stages) != 1 or not (step.open_uses_score or step.ends_with_stage):
            raise ValueError(
                f"snr: the integrator must evaluate the score once per step, where the step starts or ends, got "
                f"{self.scheme.name}; use for example ula, baoab-limit, BAOAB or OBABO"
            )

    def size(self, normals: Array, score: Array, count: int) -> Array:
        """Return the step size of each chain, shape (n,).

        ``normals`` and ``score`` are the sums of squares of the normals and of the score of each chain. A step has
        ``count`` normals per coordinate.
        """
        noise, signal = np.sqrt(normals / max(1, count)), np.sqrt(score)
        if self.coupled:
            noise, signal = (np.full_like(norms, total(norms) / len(norms)) for norms in (noise, signal))
        return 2 * self.snr * np.sqrt(self.scale) * noise / signal  # h = (2 delta)^(1/2)

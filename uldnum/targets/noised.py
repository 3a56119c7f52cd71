"""Images at a noise level: what networks and data sets have in common as targets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from uldnum._util.typing import Array
from uldnum.kernels.initial import initial_normals
from uldnum.targets.protocol import Target

__all__ = ["NoisedImages"]


@dataclass(frozen=True, eq=False, repr=False)
class NoisedImages(Target):
    """The law of ``z = alpha x + sigma eps`` for images x, as a target of `uldnum.sample`.

    Step sizes are in units of sigma, frictions in units of 1/sigma.

    Attributes
    ----------
    name : str
        What it is called in output.
    fingerprint : str
        Hash of what the score is computed from.
    shape : (int, int, int)
        Channels, height and width of one image.
    alpha, sigma : float
        Scale of the image in z, and the noise level.
    """

    name: str
    fingerprint: str = field()  # without a default
    shape: tuple[int, ...]
    alpha: float
    sigma: float

    def denoise(self, x: Array) -> Array:
        """Mean of the image given z (Tweedie's formula): ``(z + sigma^2 s(z))/alpha``."""
        return (x + self.sigma * self.sigma * self.score(x)) / self.alpha

    @property
    def time_unit(self) -> float:
        """Unit of the step size: sigma."""
        return self.sigma

    @property
    def dtype(self) -> str:
        """Floating-point type of a run, unless another is asked for: that of networks."""
        return "float32"

    def sample(self, n: int, seed: int = 0, first: int = 0) -> Array:
        """Initial states: exact draws, or else Gaussian, with the mean and the standard deviation of each pixel."""
        if self.draws is not None:
            return self.draws(n, seed, first)
        return np.asarray(self.mean + self.standard_deviation * self.noise(n, seed, first))

    def noise(self, n: int, seed: int, first: int) -> Array:
        """Initial normals of chains, shape (n, *shape)."""
        return initial_normals(n, seed, first, 0, math.prod(self.shape)).reshape(n, *self.shape)

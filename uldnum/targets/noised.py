"""Base class of targets that are distributions of noised images."""

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
    """The distribution of ``z = alpha x + sigma eps`` for images x, as a target of `uldnum.sample`.

    Networks and data sets at a noise level derive from this class. Step sizes are in units of sigma, and frictions in
    units of 1/sigma.

    Attributes
    ----------
    name : str
        Name in output and in stored results.
    fingerprint : str
        Hash of the data that determine the score.
    shape : tuple of (int, int, int)
        Channels, height and width of one image.
    alpha : float
        Scale of the image in z.
    sigma : float
        Standard deviation of the noise in z.
    """

    name: str
    fingerprint: str = field()  # field() hides the property of the base class, which would become the default
    shape: tuple[int, ...]
    alpha: float
    sigma: float

    def denoise(self, x: Array) -> Array:
        """Return the mean of the image given z, ``(z + sigma^2 s(z))/alpha`` (Tweedie's formula).

        Parameters
        ----------
        x : array, shape (n, channels, height, width)
            Noised images z.

        Returns
        -------
        array, shape (n, channels, height, width)
            Denoised images.
        """
        return (x + self.sigma * self.sigma * self.score(x)) / self.alpha

    @property
    def time_unit(self) -> float:
        """Unit of the step size, which is sigma."""
        return self.sigma

    @property
    def dtype(self) -> str:
        """Default floating-point type of a run, which is float32, the type of networks."""
        return "float32"

    def sample(self, n: int, seed: int = 0, first: int = 0) -> Array:
        """Return initial states of chains.

        They are exact draws if the target has `draws`. Otherwise they are Gaussian, with the mean and standard
        deviation of each pixel.

        Parameters
        ----------
        n : int
            Number of chains.
        seed : int, default 0
            Seed of the random numbers.
        first : int, default 0
            Index of the first chain.

        Returns
        -------
        float64 array, shape (n, channels, height, width)
            Initial states of chains first ... first + n - 1. State i depends only on (seed, i).
        """
        if self.draws is not None:
            return self.draws(n, seed, first)
        return np.asarray(self.mean + self.standard_deviation * self.noise(n, seed, first))

    def noise(self, n: int, seed: int, first: int) -> Array:
        """Return the initial normals of chains first ... first + n - 1, shape (n, *shape)."""
        return initial_normals(n, seed, first, 0, math.prod(self.shape)).reshape(n, *self.shape)

"""Base class of targets that are distributions of noised images."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from uldnum._util.typing import Array
from uldnum.kernels.initial import initial_normals
from uldnum.schemes.form import Form
from uldnum.targets.protocol import Target

__all__ = ["NoisedImages", "combined"]


def combined(pair: tuple[float, float], x: Any, answer: Any) -> Any:
    """Return ``a x + b answer`` for a pair (a, b) of coefficients, without operations on zeros and ones."""
    a, b = pair
    found = answer if b == 1 else b * answer
    return found + a * x if a else found


@dataclass(frozen=True, eq=False, repr=False)
class NoisedImages(Target):
    """The distribution of ``z = alpha x + sigma eps`` for images x, as a target of `uldnum.sample`.

    Networks and data sets at a noise level derive from this class. Step sizes are in units of sigma, and frictions in
    units of 1/sigma.

    Attributes
    ----------
    name : str
        Name in output and in stored results.
    shape : tuple of int
        Shape of one image: channels, height and width, or (d,) for vectors.
    alpha : float
        Scale of the image in z.
    sigma : float
        Standard deviation of the noise in z.
    """

    name: str
    shape: tuple[int, ...]
    alpha: float
    sigma: float

    @property
    @abstractmethod
    def form(self) -> Form:
        """Affine maps from z and `answer` to the denoised image, the noise and the score."""

    @abstractmethod
    def answer(self, x: Any) -> Any:
        """Return the values N of the `form` at z, (n, *shape) -> (n, *shape)."""

    def images(self, x: Any) -> Any:
        """Return x as an array that `answer` accepts. Default: x itself."""
        return x

    def score(self, x: Any) -> Any:
        """Return the gradient of the log density of z.

        Parameters
        ----------
        x : array, shape (n, *shape)
            Values of z.

        Returns
        -------
        array, shape (n, *shape)
            The score, in the widest of the types of x and of the answer.
        """
        x = self.images(x)
        return combined(self.form.score, x, self.answer(x))

    def denoise(self, x: Any) -> Any:
        """Return the mean of the image given z (Tweedie's formula).

        Parameters
        ----------
        x : array, shape (n, *shape)
            Noised images z.

        Returns
        -------
        array, shape (n, *shape)
            Denoised images.
        """
        x = self.images(x)
        return combined(self.form.image, x, self.answer(x))

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
        float64 array, shape (n, *shape)
            Initial states of chains first ... first + n - 1. State i depends only on (seed, i).
        """
        if self.draws is not None:
            return self.draws(n, seed, first)
        return np.asarray(self.mean + self.standard_deviation * self.noise(n, seed, first))

    def noise(self, n: int, seed: int, first: int) -> Array:
        """Return the initial normals of chains first ... first + n - 1, shape (n, *shape)."""
        return initial_normals(n, seed, first, 0, math.prod(self.shape)).reshape(n, *self.shape)

"""Empirical distribution of a set of images, without noise and with Gaussian noise. The noised score is exact."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from uldnum._util.arguments import non_negative, numbers, positive_number
from uldnum._util.arraylib import Space, host
from uldnum._util.names import checked_name
from uldnum._util.typing import Array, ArrayLike
from uldnum.arithmetic.elementary import hypot
from uldnum.kernels.initial import initial_uniform
from uldnum.schemes.form import Form
from uldnum.targets.noised import NoisedImages
from uldnum.targets.protocol import Display, Law

__all__ = ["DataLevel", "DataMixture"]

# Number of data images per matrix product.
BLOCK = 8192

# Largest magnitude of a pixel, for which squared distances are finite in float32.
LARGEST = 1e15


class DataMixture(Law):
    r"""The empirical distribution of N images, with equal probabilities.

    `at` returns the distribution of z = alpha x + sigma eps as a target for `uldnum.sample`. `uldnum.anneal` accepts
    the `DataMixture` itself.

    Parameters
    ----------
    images : array, shape (N, channels, height, width)
        The images x_1 ... x_N. They are stored in float32. An array of another library, such as CuPy, stays in that
        library and on its device.
    name : str, default "data"
        Name in output and in stored results.

    Raises
    ------
    ValueError
        If the shape is wrong, there are no images, or a value is not finite or exceeds 1e15 in magnitude.

    Notes
    -----
    With noise, the distribution is a mixture of N Gaussians with variance sigma^2 and means alpha x_i. Its denoiser is

    .. math:: E[x \mid z] = \sum_i w_i x_i, \qquad w_i \propto \exp(-|z - \alpha x_i|^2 / 2 \sigma^2).

    It has the smallest mean squared error over these images of all denoisers, and hence of all networks trained on them
    (Karras et al. 2022, app. B.3).

    Squared distances are computed by matrix products in float32. The exponents have errors of about 1e-7 |x|^2/sigma^2,
    which is less than 0.01 for 28 x 28 pixels in [-1, 1] and sigma > 0.1.

    References
    ----------
    Karras, Aittala, Aila & Laine 2022, app. B.3.

    Examples
    --------
    >>> import numpy as np
    >>> import uldnum
    >>> data = uldnum.targets.DataMixture(np.array([[[[1.0]]], [[[-1.0]]]]))
    >>> level = data.at(sigma=1.0)
    >>> round(float(level.denoise(np.array([[[[0.5]]]])).item()), 3)  # tanh(0.5)
    0.462
    """

    name: str
    shape: tuple[int, ...]

    def __init__(self, images: ArrayLike, name: str = "data") -> None:
        self.space = Space.of(images if hasattr(images, "__dlpack__") and not isinstance(images, type) else None)
        given = numbers("images", host(images))
        if given.ndim != 4 or not given.size:
            raise ValueError(f"images: must have shape (N, channels, height, width), got {given.shape}")
        if np.abs(given).max() > LARGEST:
            raise ValueError(f"images: must be at most {LARGEST:g} in magnitude, got {np.abs(given).max():g}")
        self.name, self.shape = checked_name("name", name), given.shape[1:]
        flat = given.reshape(len(given), -1).astype(np.float32)
        # Centred images have smaller norms, so matrix products of them are more accurate.
        self.mean, self.deviation = flat.mean(axis=0, dtype=float), flat.std(axis=0, dtype=float)
        centred = (flat - self.mean).astype(np.float32)
        self.rows = self.space.array(centred)
        lengths = np.einsum("nd,nd->n", centred, centred, dtype=float)
        self.lengths = self.space.array(lengths.astype(np.float32))

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def digest(self) -> str:
        """SHA-256 hash of the images, as a hexadecimal string."""
        return hashlib.sha256(self.mean.tobytes() + host(self.rows).tobytes()).hexdigest()

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """Smallest and largest value of the images."""
        rows = host(self.rows)
        return float((rows.min(axis=0) + self.mean).min()), float((rows.max(axis=0) + self.mean).max())

    @property
    def display(self) -> Display:
        """How images are drawn: in grey, between their smallest and their largest value."""
        return Display(self.extremes)

    def at(self, sigma: float, alpha: float = 1.0) -> DataLevel:
        """Return the distribution of z = alpha x + sigma eps as a target for `uldnum.sample`.

        Parameters
        ----------
        sigma : float
            Standard deviation of the noise, positive.
        alpha : float, default 1.0
            Scale of the images, not negative.

        Returns
        -------
        DataLevel
            The target. Its step sizes are in units of sigma.

        Raises
        ------
        ValueError
            If sigma is not positive and finite, or alpha is negative or not finite.
        """
        s, a = positive_number("sigma", sigma), non_negative("alpha", alpha)
        return DataLevel(f"{self.name} at sigma {s:.4g}", self.shape, a, s, self)

    def noised(self, alpha: float, sigma: float) -> DataLevel:
        """Return the distribution of z = alpha x + sigma eps, as `at` does, with the arguments of `Law.noised`."""
        return self.at(sigma, alpha)


@dataclass(frozen=True, eq=False, repr=False)
class DataLevel(NoisedImages):
    """The distribution of z = alpha x + sigma eps, where x is an image of a `DataMixture`.

    `DataMixture.at` returns it.

    Attributes
    ----------
    data : DataMixture
        Distribution of the images.

    Examples
    --------
    >>> import numpy as np
    >>> import uldnum
    >>> level = uldnum.targets.DataMixture(np.zeros((1, 1, 1, 1))).at(2.0)
    >>> level.score(np.full((1, 1, 1, 1), 2.0)).item()
    -0.5
    """

    data: DataMixture

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the images and of the noise level."""
        text = f"{self.data.digest} {self.sigma!r} {self.alpha!r}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def like(self) -> Any:
        """Example array of the library of the images, or None if it is NumPy."""
        return self.data.rows if self.data.space.foreign else None

    @property
    def mean(self) -> Array:
        """Mean of z, float64, shape (channels, height, width)."""
        return self.alpha * self.data.mean.reshape(self.shape)

    @property
    def standard_deviation(self) -> Array:
        """Standard deviation of each pixel of z, float64, shape (channels, height, width)."""
        return hypot(self.alpha * self.data.deviation, self.sigma).reshape(self.shape)

    @property
    def form(self) -> Form:
        """The form of an answer that is the denoised image."""
        return Form.of_image(self.alpha, self.sigma)

    def answer(self, x: Any) -> Any:
        """Return the exact mean of the image given z, with the shape of ``x``, computed in float32.

        Parameters
        ----------
        x : array, shape (n, channels, height, width)
            Noised images z.

        Returns
        -------
        array, shape (n, channels, height, width)
            Denoised images.
        """
        xp, data = self.data.space.namespace, self.data
        cast = data.space.cast
        middle = data.space.array(data.mean.astype(np.float32))
        z = cast(xp.reshape(x, (len(x), -1)), np.dtype(np.float32)) - self.alpha * middle
        # One pass over the data. Partial sums are relative to the largest term so far, so no exponential overflows.
        total, sums = 0.0, 0.0
        top = xp.full_like(z[:, :1], -math.inf)
        for first in range(0, len(data), BLOCK):
            rows, lengths = data.rows[first : first + BLOCK, :], data.lengths[first : first + BLOCK]
            # Without the term -|z|^2/(2 sigma^2), which is common to all images.
            logs = (self.alpha / self.sigma**2) * (z @ rows.T - 0.5 * self.alpha * lengths)
            new = xp.maximum(top, xp.max(logs, axis=1, keepdims=True))
            shares, keep = xp.exp(logs - new), xp.exp(top - new)
            total = total * keep + xp.sum(shares, axis=1, keepdims=True)
            sums, top = sums * keep + shares @ rows, new
        return xp.reshape(sums / total + middle, x.shape)

    def draws(self, n: int, seed: int = 0, first: int = 0) -> Array:
        """Return exact draws: random images of the data, with noise.

        Parameters
        ----------
        n : int
            Number of draws.
        seed : int, default 0
            Seed of the random numbers.
        first : int, default 0
            Index of the first draw.

        Returns
        -------
        float64 array, shape (n, channels, height, width)
            Draws first ... first + n - 1. Draw i depends only on (seed, i).
        """
        chosen = np.minimum((initial_uniform(n, seed, first) * len(self.data)).astype(int), len(self.data) - 1)
        images = (host(self.data.rows)[chosen] + self.data.mean).reshape(n, *self.shape)
        return self.alpha * images + self.sigma * self.noise(n, seed, first)

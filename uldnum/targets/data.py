"""The law of a set of images, and of what noise makes of it: a score on real images that is known exactly."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from uldnum._util.arguments import numbers, positive_number
from uldnum._util.arraylib import Space, host
from uldnum._util.names import checked_name
from uldnum._util.typing import Array, ArrayLike
from uldnum.arithmetic.elementary import hypot
from uldnum.kernels.initial import initial_uniform
from uldnum.targets.noised import NoisedImages
from uldnum.targets.protocol import Law

__all__ = ["DataLevel", "DataMixture"]

# Images of the data that are compared with at once.
BLOCK = 8192

# Values of images, at most: so that squared distances are finite in float32.
LARGEST = 1e15


class DataMixture(Law):
    r"""The empirical law of images x_1 ... x_N, each as likely as the others.

    Noised to z = alpha x + sigma eps it is a mixture of N Gaussians of variance sigma^2 about the images. Its denoiser

    .. math:: E[x \mid z] = \sum_i w_i x_i, \qquad w_i \propto \exp(-|z - \alpha x_i|^2 / 2 \sigma^2),

    is the best that any network trained on these images can be on average over them (Karras et al. 2022, app. B.3).

    Parameters
    ----------
    images : array, shape (N, channels, height, width)
        The images. It is kept in float32; an array of another library stays where it is.
    name : str
        What it is called in output.

    Notes
    -----
    Distances come from matrix products in float32: an exponent is uncertain by some 1e-7 of |x|^2/sigma^2, which is
    less than 0.01 for 28 x 28 pixels in [-1, 1] and sigma > 0.1.

    Raises
    ------
    ValueError
        If there are no images, or numbers among them are not finite.
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
        # About their mean they are shorter, and their products more accurate.
        self.mean, self.deviation = flat.mean(axis=0, dtype=float), flat.std(axis=0, dtype=float)
        centred = (flat - self.mean).astype(np.float32)
        self.rows = self.space.array(centred)
        lengths = np.einsum("nd,nd->n", centred, centred, dtype=float)
        self.lengths = self.space.array(lengths.astype(np.float32))

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def digest(self) -> str:
        """Hash of the images."""
        return hashlib.sha256(self.mean.tobytes() + host(self.rows).tobytes()).hexdigest()

    def at(self, sigma: float, alpha: float = 1.0) -> DataLevel:
        """Return the law of z = alpha x + sigma eps, a target for `uldnum.sample`."""
        s, a = positive_number("sigma", sigma), positive_number("alpha", alpha)
        fingerprint = hashlib.sha256(f"{self.digest} {s!r} {a!r}".encode()).hexdigest()[:16]
        return DataLevel(f"{self.name} at sigma {s:.4g}", fingerprint, self.shape, a, s, self)

    def noised(self, alpha: float, sigma: float) -> DataLevel:
        """Return the law of z = alpha x + sigma eps."""
        return self.at(sigma, alpha)


@dataclass(frozen=True, eq=False, repr=False)
class DataLevel(NoisedImages):
    """A `DataMixture` at a noise level."""

    data: DataMixture

    @property
    def like(self) -> Any:
        """One of the arrays that the score takes."""
        return self.data.rows if self.data.space.foreign else None

    @property
    def mean(self) -> Array:
        """Mean of z."""
        return self.alpha * self.data.mean.reshape(self.shape)

    @property
    def standard_deviation(self) -> Array:
        """Standard deviation of z."""
        return hypot(self.alpha * self.data.deviation, self.sigma).reshape(self.shape)

    def denoise(self, x: Any) -> Any:
        """Mean of the image given z, (n, *shape) -> (n, *shape), exactly."""
        xp, data = self.data.space.namespace, self.data
        cast = data.space.cast
        middle = data.space.array(data.mean.astype(np.float32))
        z = cast(xp.reshape(x, (len(x), -1)), np.dtype(np.float32)) - self.alpha * middle
        # One pass over the data: what is summed so far is kept in units of its largest term.
        total, sums = 0.0, 0.0
        top = xp.full_like(z[:, :1], -math.inf)
        for first in range(0, len(data), BLOCK):
            rows, lengths = data.rows[first : first + BLOCK, :], data.lengths[first : first + BLOCK]
            logs = (self.alpha / self.sigma**2) * (z @ rows.T - 0.5 * self.alpha * lengths)  # |z|^2 is common to all
            new = xp.maximum(top, xp.max(logs, axis=1, keepdims=True))
            shares, keep = xp.exp(logs - new), xp.exp(top - new)
            total = total * keep + xp.sum(shares, axis=1, keepdims=True)
            sums, top = sums * keep + shares @ rows, new
        return xp.reshape(sums / total + middle, x.shape)

    def score(self, x: Any) -> Any:
        """Gradient of the log density of z, (n, *shape) -> (n, *shape), in float32."""
        return (self.alpha * self.denoise(x) - x) / self.sigma**2

    def draws(self, n: int, seed: int = 0, first: int = 0) -> Array:
        """Exact draws: an image, and noise on it. Draw i depends on (seed, first + i) alone."""
        chosen = np.minimum((initial_uniform(n, seed, first) * len(self.data)).astype(int), len(self.data) - 1)
        images = (host(self.data.rows)[chosen] + self.data.mean).reshape(n, *self.shape)
        return self.alpha * images + self.sigma * self.noise(n, seed, first)

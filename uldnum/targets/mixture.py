"""Gaussian mixtures: targets whose score, moments and samples are known in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from uldnum.kernels import split_seed
from uldnum.kernels.array import core, normals
from uldnum.kernels.core import INITIAL
from uldnum.typing import Array, ArrayLike

__all__ = ["GaussianMixture", "MixtureData"]


class MixtureData(NamedTuple):
    """A mixture as the kernels read it. The log weights include each component's normalisation, up to (2 pi)^(d/2)."""

    log_weights: Array  # (K,)
    means: Array  # (K, d)
    precisions: Array  # (K, d)


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """The density ``sum_j w_j N(x; mu_j, diag(v_j))``.

    Parameters
    ----------
    weights : array, shape (K,)
        Positive, summing to 1.
    means : array, shape (K, d)
        Means of the components.
    variances : array, shape (K,) or (K, d)
        Variances of the components: one for all axes, or one per axis.
    name : str, optional
        What it is called in output.

    Raises
    ------
    ValueError
        If shapes do not match or values are out of range; the message names the argument.
    """

    weights: Array
    means: Array
    variances: Array
    name: str = "mixture"

    def __init__(self, weights: ArrayLike, means: ArrayLike, variances: ArrayLike, name: str = "mixture") -> None:
        w, mu, v = (np.array(a, dtype=float) for a in (weights, means, variances))
        if w.ndim != 1 or not len(w):
            raise ValueError(f"weights: must have shape (components,), got {w.shape}")
        if mu.ndim != 2 or len(mu) != len(w) or not mu.shape[1]:
            raise ValueError(f"means: must have shape (components, d) with {len(w)} components, got {mu.shape}")
        if v.shape not in ((len(w),), mu.shape):
            raise ValueError(f"variances: must have shape {(len(w),)} or {mu.shape}, got {v.shape}")
        for label, array in (("weights", w), ("means", mu), ("variances", v)):
            if not np.all(np.isfinite(array)):
                raise ValueError(f"{label}: must be finite")
        if np.any(w <= 0) or abs(w.sum() - 1) > 1e-9:
            raise ValueError(
                f"weights: must be positive and sum to 1; their sum is {w.sum():.12g}, the least {w.min():g}"
            )
        if np.any(v <= 0):
            raise ValueError(f"variances: must be positive, the least is {v.min():g}")
        v = np.broadcast_to(v[:, None], mu.shape) if v.ndim == 1 else v
        for label, value in (("weights", w), ("means", mu), ("variances", v), ("name", name)):
            object.__setattr__(self, label, value)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, (d,)."""
        return (self.means.shape[1],)

    @property
    def time_unit(self) -> float:
        """Unit in which step sizes are given: 1, they are absolute."""
        return 1.0

    @property
    def dtype(self) -> str:
        """Floating-point type of a run, unless another is asked for."""
        return "float64"

    # ------------------------------------------------------------------------------------------------------- density

    def kernel_data(self, dtype: np.dtype[Any]) -> MixtureData:
        """Return the mixture as the kernels read it, in a floating-point type."""
        log_weights = np.log(self.weights) - 0.5 * np.log(self.variances).sum(axis=1)
        parts = (log_weights, self.means, 1 / self.variances)
        return MixtureData(*(np.ascontiguousarray(part, dtype=dtype) for part in parts))

    def score(self, x: ArrayLike) -> Array:
        """Gradient of the log density.

        Parameters
        ----------
        x : array, shape (n, d)
            float32 is kept, anything else becomes float64.

        Returns
        -------
        array, shape (n, d)
        """
        y = self.points(x)
        s, q = np.empty_like(y), np.empty((len(self.weights), y.shape[1]), y.dtype)
        core(y.dtype).mixture_score(s, q, y, *self.kernel_data(y.dtype))
        return s.T

    def log_density(self, x: ArrayLike) -> Array:
        """Log density at x, shape (n, d) -> (n,)."""
        y = self.points(x)
        q = np.empty((len(self.weights), y.shape[1]), y.dtype)
        top = core(y.dtype).mixture_log_weights(q, y, *self.kernel_data(y.dtype))
        total: Array = top + np.log(np.exp(q - top).sum(axis=0)) - 0.5 * len(y) * np.log(2 * np.pi)
        return total.astype(y.dtype)

    def points(self, x: ArrayLike) -> Array:
        """Check points of shape (n, d) and return them with coordinates first, as the core reads them."""
        points = np.asarray(x)
        if points.ndim != 2 or points.shape[1:] != self.shape:
            raise ValueError(f"x: must have shape (n, {self.shape[0]}), got {points.shape}")
        return points.T.astype(np.float32 if points.dtype == np.float32 else np.float64)

    def noised(self, alpha: float, sigma: float) -> GaussianMixture:
        """Return the law of ``z = alpha x + sigma eps`` with eps ~ N(0, I)."""
        return GaussianMixture(
            self.weights,
            alpha * self.means,
            alpha**2 * self.variances + sigma**2,
            f"{self.name} at {alpha:g}, {sigma:g}",
        )

    # ------------------------------------------------------------------------------------------------------- moments

    def moment(self, order: int) -> Array:
        """Raw moment E[x_i^order] of each axis, shape (d,)."""
        below, now = np.zeros_like(self.means), np.ones_like(self.means)
        for n in range(order):  # E[x^(n+1)] = mu E[x^n] + n v E[x^(n-1)] for a Gaussian
            below, now = now, self.means * now + n * self.variances * below
        return self.weights @ now

    @cached_property
    def mean(self) -> Array:
        """Mean, shape (d,)."""
        return self.moment(1)

    @cached_property
    def covariance(self) -> Array:
        """Covariance, shape (d, d)."""
        gaps = self.means - self.mean
        return np.einsum("k,ki,kj->ij", self.weights, gaps, gaps) + np.diag(self.weights @ self.variances)

    @property
    def standard_deviation(self) -> Array:
        """Standard deviation of each axis, shape (d,)."""
        return np.sqrt(np.diag(self.covariance))

    # ------------------------------------------------------------------------------------------------------- samples

    def sample(self, n: int, seed: int = 0, first: int = 0) -> Array:
        """Exact, independent draws.

        Draw i depends on (seed, first + i) alone: it is the initial state of chain first + i of a run with that seed.
        Word 0 of the chain's stream of initial states picks the component, normals 4 ... 4 + d - 1 the point in it.

        Parameters
        ----------
        n : int
            How many.
        seed : int
            64-bit key.
        first : int
            Number of the first.

        Returns
        -------
        float64 array, shape (n, d)
        """
        double = np.dtype(float)
        chains = np.arange(first, first + n, dtype=np.uint64)
        word, *_ = core(double).words(np.uint64(0), chains, INITIAL, *split_seed(seed))
        edges = np.cumsum(self.weights)[:-1]
        component = np.searchsorted(edges, core(double).uniform(word), side="left")
        z = normals(4, self.shape[0], chains, INITIAL, seed, double).T
        return self.means[component] + np.sqrt(self.variances[component]) * z

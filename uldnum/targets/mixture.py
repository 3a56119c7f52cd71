"""Gaussian mixtures: targets whose score, moments and samples are known in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np

from uldnum._util.arguments import converted, non_negative, numbers, reals, shown, whole_number
from uldnum._util.extras import require
from uldnum._util.names import checked_name, digest
from uldnum._util.typing import Array, ArrayLike
from uldnum.arithmetic.dense import product, total
from uldnum.kernels.arrays.binding import core
from uldnum.kernels.initial import initial_normals, initial_uniform
from uldnum.kernels.source.mixture import MixtureData
from uldnum.targets.layout import factors_of, mixture_data
from uldnum.targets.protocol import Components, Modes, Target

__all__ = ["GaussianMixture"]

# Largest means and standard deviations, whose fourth powers, which biases are made of, are finite.
LARGEST = 1e75

# Smallest variance, whose inverse is finite, and largest.
VARIANCES = 1e-300, 1e150

# Shapes of covariances that can be fitted.
KINDS = ("full", "diag", "spherical")


@dataclass(frozen=True, eq=False, init=False, repr=False)
class GaussianMixture(Target):
    """The density ``sum_j w_j N(x; mu_j, Sigma_j)``.

    Parameters
    ----------
    weights : array, shape (K,)
        Positive, summing to 1.
    means : array, shape (K, d)
        Means of the components.
    variances : array, shape (K,) or (K, d)
        Variances of the components: one for all axes, or one per axis.
    covariances : array, shape (K, d, d)
        Full covariances instead; symmetric and positive definite.
    name : str, optional
        What it is called in output.

    Attributes
    ----------
    weights, means : float64 arrays
        As given.
    variances : float64 array, shape (K, d)
        Variance of each axis in each component.
    covariances : float64 array, shape (K, d, d), or None
        None where the components' axes are independent.
    isotropic : bool
        Whether each component has one variance for all axes; with noise it is what it was without.

    Raises
    ------
    ValueError
        If shapes do not match or values are out of range; the message names the argument.
    """

    weights: Array
    means: Array
    variances: Array
    covariances: Array | None
    isotropic: bool
    name: str

    def __init__(
        self,
        weights: ArrayLike,
        means: ArrayLike,
        variances: ArrayLike | None = None,
        *,
        covariances: ArrayLike | None = None,
        name: str = "mixture",
    ) -> None:
        name = checked_name("name", name)
        w, mu = numbers("weights", weights), numbers("means", means)
        if np.abs(mu).max(initial=0) > LARGEST:
            raise ValueError(f"means: must be at most {LARGEST:g} in magnitude, got {np.abs(mu).max():g}")
        if w.ndim != 1 or not len(w):
            raise ValueError(f"weights: must have shape (components,), got {w.shape}")
        if mu.ndim != 2 or len(mu) != len(w) or not mu.shape[1]:
            raise ValueError(f"means: must have shape (components, d) with {len(w)} components, got {mu.shape}")
        if np.any(w <= 0) or abs(total(w) - 1) > 1e-9:
            raise ValueError(f"weights: must be positive and sum to 1; sum {total(w):.12g}, least {w.min():g}")
        if (variances is None) == (covariances is None):
            raise ValueError("variances, covariances: give exactly one of them")
        full = None if covariances is None else check_covariances(numbers("covariances", covariances), mu)
        v = check_variances(numbers("variances", variances), mu) if full is None else np.diagonal(full, 0, 1, 2)
        one = full is None and bool(np.all(v == v[:, :1]))
        parts = {"weights": w, "means": mu, "variances": v, "covariances": full, "isotropic": one, "name": name}
        for label, value in parts.items():
            object.__setattr__(self, label, value)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, (d,)."""
        return (self.means.shape[1],)

    @property
    def largest_precision(self) -> float:
        """Largest eigenvalue of a component's inverse covariance: what limits the step size."""
        return float(1 / least_variances(self.variances, self.covariances).min())

    @property
    def components(self) -> Components:
        """The components."""
        return Components(self.weights, self.means, self.variances, self.covariances)

    @property
    def modes(self) -> Modes:
        """The components."""
        return Modes(self.weights, self.responsibilities)

    @cached_property
    def precision(self) -> Array | None:
        """Precision of a mixture of one component: shape (d,), or (d, d) where its axes depend on each other."""
        if len(self.weights) > 1:
            return None
        if self.covariances is None:
            return fixed(1 / self.variances[0])
        from uldnum.targets.factors import inverse

        (root,) = inverse(self.factors)
        return fixed(product(root.T, root))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the density: what a saved run was run on."""
        return digest(self.weights, self.means, self.variances if self.covariances is None else self.covariances)

    @classmethod
    def fit(cls, data: ArrayLike, components: int, *, kind: str = "full", seed: int = 0) -> GaussianMixture:
        """Fit a mixture to data by expectation maximisation (scikit-learn's ``GaussianMixture``).

        Parameters
        ----------
        data : array, shape (n, d)
            The points.
        components : int
            Number K of components.
        kind : "full", "diag" or "spherical"
            Shape of the components' covariances.
        seed : int
            Seed of the initialisation.

        Raises
        ------
        MissingExtraError
            If the extra ``fit`` is not installed.
        ValueError
            If an argument is out of range.
        """
        learn = require("sklearn.mixture", "fit")
        points, components = numbers("data", data), whole_number("components", components, 1, 2**20)
        if points.ndim != 2 or len(points) < max(2, components) or not points.shape[1]:
            raise ValueError(f"data: must have shape (n, d) with n >= {max(2, components)} points, got {points.shape}")
        if not isinstance(kind, str) or kind not in KINDS:
            raise ValueError(f"kind: must be 'full', 'diag' or 'spherical', got {shown(kind)}")
        seed = whole_number("seed", seed, 0, 2**32 - 1)
        fitted = learn.GaussianMixture(components, covariance_type=kind, random_state=seed).fit(points)
        shape = {"covariances" if kind == "full" else "variances": fitted.covariances_}
        return cls(fitted.weights_ / fitted.weights_.sum(), fitted.means_, **shape, name=f"fit of {components}")

    # ------------------------------------------------------------------------------------------------------- density

    @cached_property
    def factors(self) -> Array:
        """Lower Cholesky factors of the covariances, shape (K, d, d), or the standard deviations, shape (K, d, 1)."""
        return factors_of(self.variances, self.covariances)

    def kernel_data(self, dtype: np.dtype[Any]) -> MixtureData:
        """Return the mixture as the kernels read it, in a floating-point type."""
        return mixture_data(self.weights, self.means, self.variances, self.covariances, self.isotropic, dtype)

    def kernel_levels(self, alpha: Array, sigma: Array, dtype: np.dtype[Any]) -> MixtureData:
        """Return the mixture at noise levels, alpha and sigma of shape (levels,), as the kernels read it."""
        return mixture_data(self.weights, *self.noised_parts(alpha, sigma), self.isotropic, dtype)

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
        data = self.kernel_data(y.dtype)
        s, q = np.empty_like(y), np.empty((data.scratch, y.shape[1]), y.dtype)
        core(y.dtype).mixture_score(s, q, y, data, len(y), data.roots.shape[2])
        return s.T

    def log_density(self, x: ArrayLike) -> Array:
        """Log density at x, shape (n, d) -> (n,)."""
        y, q, top = self.log_shares(x)
        constant = 0.5 * len(y) * np.log(2 * np.pi)
        return np.asarray(top + np.log(np.exp(q - top).sum(axis=0)) - constant, y.dtype)

    def responsibilities(self, x: ArrayLike) -> Array:
        """Probability of each component given x, shape (n, d) -> (n, K)."""
        _, q, top = self.log_shares(x)
        shares = np.exp(q - top)
        return (shares / shares.sum(axis=0)).T

    def log_shares(self, x: ArrayLike) -> tuple[Array, Array, Array]:
        """Return the points, the log share of each component in the density there, and the largest of them."""
        y = self.points(x)
        data = self.kernel_data(y.dtype)
        q = np.empty((data.scratch, y.shape[1]), y.dtype)
        top = core(y.dtype).mixture_log2_weights(q, y, data, len(y), data.roots.shape[2])
        one_bit = y.dtype.type(np.log(2))
        return y, q[: len(self.weights)] * one_bit, top * one_bit

    def points(self, x: ArrayLike) -> Array:
        """Check points of shape (n, d) and return them with coordinates first, as the core reads them."""
        points = reals("x", x)
        if points.ndim != 2 or points.shape[1:] != self.shape:
            raise ValueError(f"x: must have shape (n, {self.shape[0]}), got {points.shape}")
        return points.T.astype(points.dtype)

    def cdf(self, x: ArrayLike) -> Array:
        """Cumulative distribution function of each axis at x, shape (n,) or (n, d) -> (n, d); a number is one of n."""
        points = np.atleast_1d(converted("x", x))
        points = points[:, None] if points.ndim == 1 else points
        if points.ndim != 2 or points.shape[1] not in (1, *self.shape):
            raise ValueError(f"x: must have shape (n,) or (n, {self.shape[0]}), got {points.shape}")
        z = (points[:, None] - self.means) / np.sqrt(2 * self.variances)  # n, component, axis
        return np.einsum("k,nkd->nd", self.weights, 0.5 * (1 + erf(z)))

    def noised(self, alpha: float, sigma: float) -> GaussianMixture:
        """Return the law of ``z = alpha x + sigma eps`` with eps ~ N(0, I), also a mixture."""
        alpha, sigma = non_negative("alpha", alpha), non_negative("sigma", sigma)
        if not 0 < max(alpha, sigma) <= LARGEST:
            raise ValueError(f"alpha, sigma: must be at most {LARGEST:g}, and not both 0, got {alpha:g} and {sigma:g}")
        means, variances, full = self.noised_parts(alpha, sigma)
        level = GaussianMixture(self.weights, means, None if full is not None else variances, covariances=full)
        object.__setattr__(level, "name", f"{self.name} at alpha {alpha:g}, sigma {sigma:g}")
        # Variances that differ may round to the same with noise: which formula is right must not hang on that.
        object.__setattr__(level, "isotropic", self.isotropic)
        return level

    def noised_parts(self, alpha: ArrayLike, sigma: ArrayLike) -> tuple[Array, Array, Array | None]:
        """Return means, variances and covariances at noise levels, whose axes come first."""
        a, s = (np.asarray(level, dtype=float)[..., None, None] for level in (alpha, sigma))
        means, variances = a * self.means, np.square(a) * self.variances + np.square(s)
        if self.covariances is None:
            return means, variances, None
        noise = np.square(s[..., None]) * np.eye(self.shape[0])
        return means, variances, np.square(a[..., None]) * self.covariances + noise

    # ------------------------------------------------------------------------------------------------------- moments

    def moment(self, order: int) -> Array:
        """Raw moment E[x_i^order] of each axis, shape (d,), of order 0 to 1000, where float64 can hold it."""
        below, now = np.zeros_like(self.means), np.ones_like(self.means)
        with np.errstate(over="ignore", invalid="ignore"):
            # E[x^(n+1)] = mu E[x^n] + n v E[x^(n-1)] for a Gaussian
            for n in range(whole_number("order", order, 0, 1000)):
                below, now = now, self.means * now + n * self.variances * below
            found = total(self.weights[:, None] * now, axis=0)
        if not np.all(np.isfinite(found)):
            raise ValueError(f"order: the moment of order {order} of {self.name!r} exceeds the range of float64")
        return found

    @cached_property
    def mean(self) -> Array:
        """Mean, shape (d,)."""
        return fixed(self.moment(1))

    @cached_property
    def covariance(self) -> Array:
        """Covariance, shape (d, d)."""
        gaps = self.means - self.mean
        within = map(np.diag, self.variances) if self.covariances is None else self.covariances
        parts = zip(self.weights, gaps, within, strict=True)
        return fixed(reduce(np.add, (w * (np.multiply.outer(gap, gap) + own) for w, gap, own in parts)))

    @cached_property
    def standard_deviation(self) -> Array:
        """Standard deviation of each axis, shape (d,)."""
        return fixed(np.sqrt(np.diag(self.covariance)))

    # ------------------------------------------------------------------------------------------------------- samples

    def draws(self, n: int, seed: int = 0, first: int = 0) -> Array:
        """Exact, independent draws.

        Draw i depends on (seed, first + i) alone: it is the initial state of chain first + i of a run with that seed.
        The chain's initial uniform number picks the component, its first d initial normals the point in it.

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
        from uldnum.targets.points import mixture_points

        u, z = initial_uniform(n, seed, first), initial_normals(n, seed, first, 0, self.shape[0])
        return mixture_points(self.weights, self.means, self.factors, u, z)


def fixed(array: Array) -> Array:
    """Return an array that is kept, and so must not be written to."""
    array.flags.writeable = False
    return array


erf = np.vectorize(math.erf, otypes=[float])


def least_variances(variances: Array, covariances: Array | None) -> Array:
    """Return the least variance of each component along any direction."""
    if covariances is None:
        return variances.min(axis=-1)
    from uldnum.targets.factors import least_eigenvalues

    return least_eigenvalues(covariances)


def check_variances(v: Array, means: Array) -> Array:
    """Return variances of shape (K, d), or raise."""
    if v.shape not in (means.shape[:1], means.shape):
        raise ValueError(f"variances: must have shape {means.shape[:1]} or {means.shape}, got {v.shape}")
    check_range("variances", v)
    return np.broadcast_to(v[:, None], means.shape) if v.ndim == 1 else v


def check_range(name: str, variances: Array, where: str = "") -> None:
    """Raise unless variances are positive and in range."""
    if np.any(variances <= 0):
        raise ValueError(f"{name}: must be positive, the least is {variances.min():g}{where}")
    least, most = VARIANCES
    if np.any((variances < least) | (variances > most)):
        raise ValueError(
            f"{name}: must be between {least:g} and {most:g}, got {variances.min():g} to {variances.max():g}{where}"
        )


def check_covariances(covariances: Array, means: Array) -> Array:
    """Return covariances of shape (K, d, d), or raise."""
    shape = (*means.shape, means.shape[1])
    if covariances.shape != shape:
        raise ValueError(f"covariances: must have shape {shape}, got {covariances.shape}")
    check_range("covariances", np.diagonal(covariances, 0, 1, 2), "; those of the axes are on the diagonal")
    transposed = covariances.swapaxes(1, 2)
    scale = np.sqrt(np.abs(np.diagonal(covariances, 0, 1, 2)))
    if np.any(np.abs(covariances - transposed) > 1e-10 * scale[:, :, None] * scale[:, None, :]):
        raise ValueError("covariances: must be symmetric")
    covariances = (covariances + transposed) / 2
    from uldnum.targets.factors import least_eigenvalues, positive_definite

    bad = np.flatnonzero(~positive_definite(covariances))
    if bad.size:
        (least,) = least_eigenvalues(covariances[bad[:1]])
        raise ValueError(f"covariances: component {bad[0]} is not positive definite, its least eigenvalue is {least:g}")
    return covariances

"""Gaussian mixtures, whose score, density, moments and exact draws have closed forms.

The density is ``sum_j w_j N(x; mu_j, Sigma_j)``. With the responsibilities ``r_j(x) = w_j N(x; mu_j, Sigma_j) / sum_i
w_i N(x; mu_i, Sigma_i)``, the score is ``sum_j r_j(x) Sigma_j^{-1} (mu_j - x)``. With Gaussian noise, ``z = alpha x +
sigma eps``, a mixture remains a mixture, with means ``alpha mu_j`` and covariances ``alpha^2 Sigma_j + sigma^2 I``.
"""

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
from uldnum.targets.mass import Mass
from uldnum.targets.protocol import Components, Modes, Target

__all__ = ["GaussianMixture"]

# Largest means and standard deviations. Their fourth powers, which the diagnostics use, are finite.
LARGEST = 1e75

# Smallest and largest variance. The inverse of the smallest one is finite.
VARIANCES = 1e-300, 1e150

# Forms of covariances that `GaussianMixture.fit` supports.
KINDS = ("full", "diag", "spherical")


@dataclass(frozen=True, eq=False, init=False, repr=False)
class GaussianMixture(Target):
    """A mixture of Gaussians with density ``sum_j w_j N(x; mu_j, Sigma_j)``.

    Give exactly one of ``variances`` and ``covariances``.

    Parameters
    ----------
    weights : array, shape (K,)
        Weights w_j of the components, which are positive and sum to 1.
    means : array, shape (K, d)
        Means mu_j of the components.
    variances : array, shape (K,) or (K, d), optional
        Variances of the components: one for all coordinates, or one per coordinate.
    covariances : array, shape (K, d, d), optional
        Full covariances Sigma_j of the components, which are symmetric and positive definite.
    name : str, default "mixture"
        Name in output and in stored results.

    Attributes
    ----------
    weights : float64 array, shape (K,)
        Weights of the components.
    means : float64 array, shape (K, d)
        Means of the components.
    variances : float64 array, shape (K, d)
        Variances of the coordinates in each component.
    covariances : float64 array, shape (K, d, d), or None
        Covariances of the components, or None if the coordinates of each component are independent.
    isotropic : bool
        Whether each component has one variance for all coordinates. `noised` preserves this attribute.
    equal : bool
        Whether all components have the same variance for all coordinates. `noised` preserves this attribute.
    name : str
        Name of the mixture.

    Raises
    ------
    ValueError
        If shapes do not match or values are out of range. The message names the argument.

    Examples
    --------
    >>> import uldnum
    >>> target = uldnum.GaussianMixture(weights=[0.7, 0.3], means=[[1.5], [-1.5]], variances=[1.0, 1.0])
    >>> target.mean.round(2).tolist(), target.covariance.round(2).tolist()
    ([0.6], [[2.89]])
    >>> target.score([[0.0]]).round(2).tolist()
    [[0.6]]
    >>> target.noised(alpha=0.6, sigma=0.8).variances.round(2).tolist()
    [[1.0], [1.0]]
    """

    weights: Array
    means: Array
    variances: Array
    covariances: Array | None
    isotropic: bool
    equal: bool
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
            raise ValueError(
                f"weights: must be positive and sum to 1, got a sum of {total(w):.12g} and a minimum of {w.min():g}"
            )
        if (variances is None) == (covariances is None):
            raise ValueError("variances, covariances: give exactly one of them")
        full = None if covariances is None else check_covariances(numbers("covariances", covariances), mu)
        v = check_variances(numbers("variances", variances), mu) if full is None else np.diagonal(full, 0, 1, 2)
        one = full is None and bool(np.all(v == v[:, :1]))
        kind = {"isotropic": one, "equal": one and bool(np.all(v == v[0]))}
        parts = {"weights": w, "means": mu, "variances": v, "covariances": full, **kind, "name": name}
        for label, value in parts.items():
            object.__setattr__(self, label, value)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, (d,)."""
        return (self.means.shape[1],)

    @property
    def largest_precision(self) -> float:
        """Largest eigenvalue of the inverse covariance of a component, which limits the step size."""
        return float(1 / least_variances(self.variances, self.covariances).min())

    @property
    def components(self) -> Components:
        """Weights, means and covariances of the components."""
        return Components(self.weights, self.means, self.variances, self.covariances)

    @property
    def modes(self) -> Modes:
        """The components as modes: their weights and responsibilities."""
        return Modes(self.weights, self.responsibilities)

    @cached_property
    def precision(self) -> Array | None:
        """Precision of a mixture with one component, else None.

        It has shape (d,) if the coordinates are independent, and shape (d, d) for a full covariance.
        """
        if len(self.weights) > 1:
            return None
        if self.covariances is None:
            return fixed(1 / self.variances[0])
        from uldnum.targets.factors import inverse

        (root,) = inverse(self.factors)
        return fixed(product(root.T, root))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the density, which identifies the target of a stored run."""
        return digest(self.weights, self.means, self.variances if self.covariances is None else self.covariances)

    @classmethod
    def fit(cls, data: ArrayLike, components: int, *, kind: str = "full", seed: int = 0) -> GaussianMixture:
        """Fit a mixture to data by expectation maximisation, with ``sklearn.mixture.GaussianMixture``.

        Parameters
        ----------
        data : array, shape (n, d)
            Data points, with n at least 2 and at least ``components``.
        components : int
            Number K of components, from 1 to 2^20.
        kind : {"full", "diag", "spherical"}, default "full"
            Form of the covariances: full matrices, one variance per coordinate, or one variance per component.
        seed : int, default 0
            Seed of the initialisation, from 0 to 2^32 - 1.

        Returns
        -------
        GaussianMixture
            The fitted mixture.

        Raises
        ------
        MissingExtraError
            If the extra ``fit`` (scikit-learn) is not installed.
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
        """Return the parameters of the mixture in the layout of the kernels, with the given dtype."""
        if dtype not in self.layouts:
            parts = self.weights, self.means, self.variances, self.covariances, self.isotropic, self.equal
            self.layouts[dtype] = mixture_data(*parts, dtype)
        return self.layouts[dtype]

    @cached_property
    def layouts(self) -> dict[np.dtype[Any], MixtureData]:
        """Results of `kernel_data`."""
        return {}

    def kernel_levels(self, alpha: Array, sigma: Array, dtype: np.dtype[Any]) -> MixtureData:
        """Return the mixture at noise levels in the layout of the kernels; alpha and sigma have shape (L,)."""
        return mixture_data(self.weights, *self.noised_parts(alpha, sigma), self.isotropic, self.equal, dtype)

    def score(self, x: ArrayLike) -> Array:
        """Return the gradient of the log density.

        Parameters
        ----------
        x : array, shape (n, d)
            Positions. Float32 arrays are used as they are; all other types are converted to float64.

        Returns
        -------
        array, shape (n, d)
            Score at x, float32 or float64.

        Raises
        ------
        ValueError
            If x does not have the shape (n, d).
        """
        y = self.points(x)
        data = self.kernel_data(y.dtype)
        s, q = np.empty_like(y), np.empty((data.scratch, y.shape[1]), y.dtype)
        core(y.dtype).mixture_score(s, q, y, data, len(y), data.roots.shape[2], data.apart)
        return s.T

    def log_density(self, x: ArrayLike) -> Array:
        """Return the normalised log density.

        Parameters
        ----------
        x : array, shape (n, d)
            Positions.

        Returns
        -------
        array, shape (n,)
            Log density at x, float32 if x is float32, else float64.

        Raises
        ------
        ValueError
            If x does not have the shape (n, d).
        """
        y, q, top = self.log_shares(x)
        constant = 0.5 * len(y) * np.log(2 * np.pi)
        return np.asarray(top + np.log(np.exp(q - top).sum(axis=0)) - constant, y.dtype)

    def responsibilities(self, x: ArrayLike) -> Array:
        """Return the probability of each component given x, ``w_j N(x; mu_j, Sigma_j) / density(x)``.

        Parameters
        ----------
        x : array, shape (n, d)
            Positions.

        Returns
        -------
        array, shape (n, K)
            Probabilities, which sum to 1 over the last axis.

        Raises
        ------
        ValueError
            If x does not have the shape (n, d).
        """
        _, q, top = self.log_shares(x)
        shares = np.exp(q - top)
        return (shares / shares.sum(axis=0)).T

    def log_shares(self, x: ArrayLike) -> tuple[Array, Array, Array]:
        """Return the points, the log densities of the weighted components up to a constant, and their maximum."""
        y = self.points(x)
        data = self.kernel_data(y.dtype)
        q = np.empty((data.scratch, y.shape[1]), y.dtype)
        top = core(y.dtype).mixture_log2_weights(q, y, data, len(y), data.roots.shape[2], data.apart)
        one_bit = y.dtype.type(np.log(2))
        return y, q[: len(self.weights)] * one_bit, top * one_bit

    def points(self, x: ArrayLike) -> Array:
        """Check points of shape (n, d) and return them as an array of shape (d, n) for the kernels."""
        points = reals("x", x)
        if points.ndim != 2 or points.shape[1:] != self.shape:
            raise ValueError(f"x: must have shape (n, {self.shape[0]}), got {points.shape}")
        return points.T.astype(points.dtype)

    def cdf(self, x: ArrayLike) -> Array:
        """Return the marginal cumulative distribution functions.

        Parameters
        ----------
        x : float or array, shape (n,) or (n, d)
            Values. With shape (n,), all coordinates have the same values. A number is an array with n = 1.

        Returns
        -------
        float64 array, shape (n, d)
            Probability that each coordinate is at most x.

        Raises
        ------
        ValueError
            If x has neither shape.
        """
        points = np.atleast_1d(converted("x", x))
        points = points[:, None] if points.ndim == 1 else points
        if points.ndim != 2 or points.shape[1] not in (1, *self.shape):
            raise ValueError(f"x: must have shape (n,) or (n, {self.shape[0]}), got {points.shape}")
        z = (points[:, None] - self.means) / np.sqrt(2 * self.variances)  # n, component, axis
        return np.einsum("k,nkd->nd", self.weights, 0.5 * (1 + erf(z)))

    def noised(self, alpha: float, sigma: float) -> GaussianMixture:
        """Return the distribution of ``z = alpha x + sigma eps`` with eps ~ N(0, I), which is also a mixture.

        Parameters
        ----------
        alpha : float
            Scale of x, not negative.
        sigma : float
            Standard deviation of the noise, not negative. alpha and sigma are not both 0.

        Returns
        -------
        GaussianMixture
            Mixture with means ``alpha mu_j`` and covariances ``alpha^2 Sigma_j + sigma^2 I``.

        Raises
        ------
        ValueError
            If alpha or sigma is negative or exceeds 1e75, or both are 0.
        """
        alpha, sigma = non_negative("alpha", alpha), non_negative("sigma", sigma)
        if not 0 < max(alpha, sigma) <= LARGEST:
            raise ValueError(f"alpha, sigma: must be at most {LARGEST:g}, and not both 0, got {alpha:g} and {sigma:g}")
        means, variances, full = self.noised_parts(alpha, sigma)
        level = GaussianMixture(self.weights, means, None if full is not None else variances, covariances=full)
        object.__setattr__(level, "name", f"{self.name} at alpha {alpha:g}, sigma {sigma:g}")
        # With noise, different variances may round to one number. The choice of the kernel must not depend on that.
        object.__setattr__(level, "isotropic", self.isotropic)
        object.__setattr__(level, "equal", self.equal)
        return level

    def noised_parts(self, alpha: ArrayLike, sigma: ArrayLike) -> tuple[Array, Array, Array | None]:
        """Return means, variances and covariances at noise levels. The results have the axes of the levels in front."""
        a, s = (np.asarray(level, dtype=float)[..., None, None] for level in (alpha, sigma))
        means, variances = a * self.means, np.square(a) * self.variances + np.square(s)
        if self.covariances is None:
            return means, variances, None
        noise = np.square(s[..., None]) * np.eye(self.shape[0])
        return means, variances, np.square(a[..., None]) * self.covariances + noise

    def transformed(self, mass: Mass) -> GaussianMixture:
        """Return the distribution of ``y = F^-1 x``, where the mass defines F.

        It is a mixture with means ``F^-1 mu_j`` and covariances ``F^-1 Sigma_j F^-T``. If F is diagonal, independent
        coordinates remain independent.
        """
        means, F = mass.inward(self.means), mass.inverse
        if self.covariances is None and F.shape[1] == 1:
            return GaussianMixture(self.weights, means, self.variances * np.square(F[:, 0]), name=self.name)
        full = self.variances[..., None] * np.eye(self.shape[0]) if self.covariances is None else self.covariances
        full = F * full * F[:, 0] if F.shape[1] == 1 else product(product(F, full), F.T)
        return GaussianMixture(self.weights, means, covariances=full, name=self.name)

    # ------------------------------------------------------------------------------------------------------- moments

    def moment(self, order: int) -> Array:
        """Return the raw moment E[x_i^order] of each coordinate.

        Parameters
        ----------
        order : int
            Order of the moment, from 0 to 1000.

        Returns
        -------
        float64 array, shape (d,)
            Moment of each coordinate.

        Raises
        ------
        ValueError
            If the order is out of range, or the moment exceeds the range of float64.
        """
        below, now = np.zeros_like(self.means), np.ones_like(self.means)
        with np.errstate(over="ignore", invalid="ignore"):
            # For a Gaussian, E[x^(n+1)] = mu E[x^n] + n v E[x^(n-1)].
            for n in range(whole_number("order", order, 0, 1000)):
                below, now = now, self.means * now + n * self.variances * below
            found = total(self.weights[:, None] * now, axis=0)
        if not np.all(np.isfinite(found)):
            raise ValueError(f"order: the moment of order {order} of {self.name!r} exceeds the range of float64")
        return found

    @cached_property
    def mean(self) -> Array:
        """Mean, float64, shape (d,)."""
        return fixed(self.moment(1))

    @cached_property
    def covariance(self) -> Array:
        """Covariance, float64, shape (d, d)."""
        gaps = self.means - self.mean
        within = map(np.diag, self.variances) if self.covariances is None else self.covariances
        parts = zip(self.weights, gaps, within, strict=True)
        return fixed(reduce(np.add, (w * (np.multiply.outer(gap, gap) + own) for w, gap, own in parts)))

    @cached_property
    def standard_deviation(self) -> Array:
        """Standard deviation of each coordinate, float64, shape (d,)."""
        return fixed(np.sqrt(np.diag(self.covariance)))

    # ------------------------------------------------------------------------------------------------------- samples

    def draws(self, n: int, seed: int = 0, first: int = 0) -> Array:
        """Return exact independent draws.

        Parameters
        ----------
        n : int
            Number of draws.
        seed : int, default 0
            64-bit key of the random numbers.
        first : int, default 0
            Index of the first draw.

        Returns
        -------
        float64 array, shape (n, d)
            Draws first ... first + n - 1.

        Notes
        -----
        Draw i depends only on (seed, i). It is the initial state of chain i of a run with that seed. The initial
        uniform number of the chain selects the component, and its first d initial normals determine the point.

        Examples
        --------
        >>> import uldnum
        >>> target = uldnum.target("bimodal-1d")
        >>> all(target.draws(2, seed=1, first=3) == target.draws(5, seed=1)[3:])
        True
        """
        from uldnum.targets.points import mixture_points

        u, z = initial_uniform(n, seed, first), initial_normals(n, seed, first, 0, self.shape[0])
        return mixture_points(self.weights, self.means, self.factors, u, z)


def fixed(array: Array) -> Array:
    """Make an array read-only, because it is cached, and return it."""
    array.flags.writeable = False
    return array


erf = np.vectorize(math.erf, otypes=[float])


def least_variances(variances: Array, covariances: Array | None) -> Array:
    """Return the smallest variance of each component over all directions."""
    if covariances is None:
        return variances.min(axis=-1)
    from uldnum.targets.factors import least_eigenvalues

    return least_eigenvalues(covariances)


def check_variances(v: Array, means: Array) -> Array:
    """Return variances with shape (K, d), or raise ValueError."""
    if v.shape not in (means.shape[:1], means.shape):
        raise ValueError(f"variances: must have shape {means.shape[:1]} or {means.shape}, got {v.shape}")
    check_range("variances", v)
    return np.broadcast_to(v[:, None], means.shape) if v.ndim == 1 else v


def check_range(name: str, variances: Array, where: str = "") -> None:
    """Raise ValueError unless variances are positive and in range."""
    if np.any(variances <= 0):
        raise ValueError(f"{name}: must be positive, got a smallest variance of {variances.min():g}{where}")
    least, most = VARIANCES
    if np.any((variances < least) | (variances > most)):
        raise ValueError(
            f"{name}: must be between {least:g} and {most:g}, got {variances.min():g} to {variances.max():g}{where}"
        )


def check_covariances(covariances: Array, means: Array) -> Array:
    """Return covariances with shape (K, d, d), exactly symmetric, or raise ValueError."""
    shape = (*means.shape, means.shape[1])
    if covariances.shape != shape:
        raise ValueError(f"covariances: must have shape {shape}, got {covariances.shape}")
    check_range("covariances", np.diagonal(covariances, 0, 1, 2), " on the diagonal")
    transposed = covariances.swapaxes(1, 2)
    scale = np.sqrt(np.abs(np.diagonal(covariances, 0, 1, 2)))
    if np.any(np.abs(covariances - transposed) > 1e-10 * scale[:, :, None] * scale[:, None, :]):
        raise ValueError("covariances: must be symmetric")
    covariances = (covariances + transposed) / 2
    from uldnum.targets.factors import least_eigenvalues, positive_definite

    bad = np.flatnonzero(~positive_definite(covariances))
    if bad.size:
        (least,) = least_eigenvalues(covariances[bad[:1]])
        raise ValueError(
            f"covariances: component {bad[0]} is not positive definite; its smallest eigenvalue is {least:g}"
        )
    return covariances

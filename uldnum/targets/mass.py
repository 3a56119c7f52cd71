"""Masses of the coordinates, as a change of coordinates.

The Langevin equation with mass M is ``dx = M^-1 p dt, dp = s(x) dt - gamma p dt + sqrt(2 gamma T) M^(1/2) dW``. With
``M^-1 = F F^T``, the coordinates ``y = F^-1 x`` and their momenta ``F^T p`` obey the equation with unit mass, for the
target with the score ``F^T s(F y)``. A run with a mass is therefore a run with unit mass on this target.

F is diagonal if M is a number or a vector. Otherwise it is lower triangular, so that F y is computed in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from uldnum._util.arguments import numbers, shown
from uldnum._util.typing import Array
from uldnum.arithmetic.dense import product
from uldnum.targets.protocol import Target

__all__ = ["ESTIMATED", "MATRIX_UP_TO", "Mass", "known_covariance"]

# Value of the argument ``mass`` that stands for the inverse covariance of the target.
ESTIMATED = "inverse-covariance"

# Largest dimension in which a mass may be a matrix, which a run stores in its settings.
MATRIX_UP_TO = 512

WANTED = f'mass: must be a number, a vector, a matrix or "{ESTIMATED}"'


@dataclass(frozen=True, eq=False)
class Mass:
    """A mass M of d coordinates, and the factor F of its inverse, ``M^-1 = F F^T``.

    Attributes
    ----------
    value : float64 array, shape (), (d,) or (d, d)
        The mass: one for all coordinates, one for each coordinate, or a matrix.
    factor : float64 array, shape (d, 1) or (d, d)
        F, as its diagonal or as a lower triangular matrix.
    """

    value: Array
    factor: Array

    @classmethod
    def of(cls, mass: Any, shape: tuple[int, ...], covariance: Array | None = None) -> Mass | None:
        """Return a mass for samples of a shape, or raise. The result is None for unit mass.

        Parameters
        ----------
        mass : float, array_like, "inverse-covariance" or None
            The argument of the user.
        shape : tuple of int
            Shape of a sample.
        covariance : array, shape (d, d) or (d,), optional
            Covariance of the target, or its diagonal if the coordinates are independent. It is needed for
            "inverse-covariance".
        """
        if mass is None:
            return None
        if isinstance(mass, str):
            if mass != ESTIMATED:
                raise ValueError(f"{WANTED}, got {shown(mass)}")
            check_shape(shape)
            if covariance is None:
                raise ValueError(f'mass: the covariance of the target is not known; "{ESTIMATED}" needs it')
            mass = inverse_of(covariance)
        value = numbers("mass", mass)
        if value.ndim == 0 and value == 1:
            return None
        check_shape(shape)
        (d,) = shape
        if value.shape not in ((), (d,), (d, d)):
            raise ValueError(f"{WANTED} of shape {(d,)} or {(d, d)}, got shape {value.shape}")
        if value.ndim < 2:
            if not np.all(value > 0) or not np.all(np.isfinite(1 / value)):
                raise ValueError(f"mass: must be positive, got {shown(value.tolist())}")
            return cls(value, np.broadcast_to(1 / np.sqrt(value), d)[:, None].copy())
        if d > MATRIX_UP_TO:
            raise ValueError(too_large(d))
        return cls(value, factor_of_inverse(value))

    @cached_property
    def inverse(self) -> Array:
        """Inverse of F, in the form of `factor`."""
        if self.factor.shape[1] == 1:
            return 1 / self.factor
        from uldnum.targets.factors import inverse

        return inverse(self.factor)

    @property
    def setting(self) -> Any:
        """The mass as a number or as nested tuples, which JSON stores without loss."""
        return nested(self.value.tolist())

    def outward(self, y: Array) -> Array:
        """Return the positions x = F y of coordinates y, shape (..., d)."""
        return applied(self.factor, y)

    def inward(self, x: Array) -> Array:
        """Return the coordinates y = F^-1 x of positions x, shape (..., d)."""
        return applied(self.inverse, x)

    def momenta(self, p: Array) -> Array:
        """Return the momenta F^-T p of x, given those of y, shape (..., d)."""
        return applied(self.inverse, p, transposed=True)

    def forces(self, s: Array) -> Array:
        """Return the scores or momenta F^T s of y, given those of x, shape (..., d)."""
        return applied(self.factor, s, transposed=True)

    def noise(self, tau: float | tuple[float, ...]) -> Array:
        """Return the score noise of each coordinate y, given that of x.

        Raise if M is a matrix, because the errors of the coordinates y are then dependent.
        """
        if np.any(tau) and self.factor.shape[1] > 1:
            raise ValueError("score_noise: must be 0 if the mass is a matrix")
        return np.asarray(tau * self.factor[:, 0])

    def scale(self, target: Target) -> tuple[Array, Array]:
        """Return the mean and the standard deviations of the coordinates y, shape (d,).

        If M is a matrix and the covariance of the target is unknown, the standard deviations are upper bounds, the sums
        ``sum_i |F^-1_ji| sigma_i`` over the standard deviations of x.
        """
        mean, own = (np.ravel(part).astype(float) for part in (target.mean, target.standard_deviation))
        centre = self.inward(mean)
        if self.factor.shape[1] == 1:
            return centre, own * self.inverse[:, 0]
        if target.covariance is None:
            parts = np.abs(self.inverse)
            with np.errstate(invalid="ignore"):
                return centre, np.where(parts > 0, parts * own, 0.0).sum(axis=1)
        covariance = product(product(self.inverse, target.covariance), self.inverse.T)
        return centre, np.sqrt(np.diagonal(covariance))


def applied(matrix: Array, x: Array, transposed: bool = False) -> Array:
    """Return the product of a matrix or of its transpose with vectors of shape (..., d).

    A diagonal matrix is given as a column.
    """
    x = np.asarray(x, float)
    if matrix.shape[1] == 1:
        return x * matrix[:, 0]
    flat = product(x.reshape(-1, len(matrix)), matrix if transposed else matrix.T)
    return flat.reshape(x.shape)


def factor_of_inverse(value: Array) -> Array:
    """Return the lower triangular F with ``M^-1 = F F^T``, or raise if M is not symmetric and positive definite.

    Let J reverse the order of the coordinates, and let C be the Cholesky factor of J M J. Then ``F = J C^-T J``.
    """
    from uldnum.targets.factors import cholesky, inverse, least_eigenvalues, positive_definite

    scale = np.sqrt(np.abs(np.diagonal(value)))
    if np.any(np.abs(value - value.T) > 1e-10 * np.outer(scale, scale)):
        raise ValueError("mass: the matrix must be symmetric")
    even = (value + value.T) / 2
    if not positive_definite(even):
        raise ValueError(
            "mass: the matrix must be positive definite, got a smallest eigenvalue of "
            f"{least_eigenvalues(even[None])[0]:g}"
        )
    return np.ascontiguousarray(inverse(cholesky(even[::-1, ::-1])).T[::-1, ::-1])


def inverse_of(covariance: Array) -> Array:
    """Return the inverse of a covariance, as a vector if the coordinates are independent."""
    if covariance.ndim == 1:
        return 1 / covariance
    if len(covariance) > MATRIX_UP_TO:
        raise ValueError(too_large(len(covariance)))
    factor = factor_of_inverse(covariance)
    return product(factor, factor.T)


def known_covariance(target: Target) -> Array | None:
    """Return the covariance of a target, shape (d, d), or (d,) if it is diagonal; None if it is unknown."""
    check_shape(target.shape)
    if target.precision is not None and target.precision.ndim == 1:
        return 1 / target.precision
    if target.shape == (1,) and target.moment is not None:
        return np.asarray(target.moment(2) - np.square(target.moment(1)))
    if target.shape[0] > MATRIX_UP_TO:
        raise ValueError(too_large(target.shape[0]))
    if target.covariance is None:
        return None
    variances = np.diagonal(target.covariance)
    return variances if np.array_equal(target.covariance, np.diag(variances)) else target.covariance


def check_shape(shape: tuple[int, ...]) -> None:
    """Raise if samples of a shape cannot have a mass."""
    if len(shape) != 1:
        raise ValueError(
            f"mass: needs samples of shape (d,), got {shape}; for a mass m of all pixels, use the step size h/sqrt(m) "
            "and multiply the friction by sqrt(m)"
        )


def too_large(d: int) -> str:
    """Return the error for a matrix in too many dimensions."""
    return (
        f"mass: a matrix is stored with the run and needs at most {MATRIX_UP_TO} dimensions, got {d}; pass a vector, "
        "such as 1/variance"
    )


def nested(value: Any) -> Any:
    """Return nested lists as nested tuples."""
    return tuple(map(nested, value)) if isinstance(value, list) else value

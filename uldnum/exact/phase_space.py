"""Stationary distribution of position and momentum at the end of a time step, on a one-dimensional target."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from uldnum._util.arguments import broadcast, converted, result_of
from uldnum._util.typing import Array, ArrayLike
from uldnum.exact.density import TargetDensity, relative_entropy
from uldnum.exact.grid import Axis, Grid

__all__ = ["PhaseSpaceLaw"]

# Points of the integrals of distances per node of the grid, on each axis; largest number of points of a density that
# are evaluated together.
FINER, TOGETHER = 8, 2**14


@dataclass(frozen=True)
class PhaseSpaceLaw:
    """Stationary distribution of (x, p) at the end of a time step, from `TransferOperator.phase_space`.

    Attributes
    ----------
    grid : Grid
        Grid of ``x - shear q`` and q, where q is the momentum in units of sqrt(mass).
    weights : array, shape (n, k)
        Probabilities of the nodes.
    shear : float
        Shear of the grid.
    mass : float
        Mass of x.
    target : TargetDensity
        Tabulated density of the target at the temperature T of the integrator.

    See Also
    --------
    transfer_operator : Function that returns the distribution of x, whose attribute ``phase_space`` is this object.

    Notes
    -----
    Distances are those from the stationary distribution of the Langevin equation: the target for x, and independent
    momenta with the distribution N(0, T mass). Expectations and divergences have errors of the order of the tolerance,
    but the tolerance is not checked for them.

    Examples
    --------
    The momenta of OBABO have the variance 1 on a Gaussian, but not on a mixture of two:

    >>> from uldnum import exact
    >>> law = exact.transfer_operator("OBABO", "bimodal-1d", h=1.0).phase_space
    >>> round(law.kinetic_temperature, 4), round(law.kl, 4)
    (1.01, 0.0158)
    """

    grid: Grid
    weights: Array
    shear: float
    mass: float
    target: TargetDensity

    def expectation(self, f: Callable[[Array, Array], Array]) -> float:
        """Return the expectation of a function of x and p.

        Parameters
        ----------
        f : callable
            Array function of x and p, which are arrays of the same shape. It must be smooth on the scale of the
            distance between the nodes of the grid.

        Returns
        -------
        float
            The expectation.

        Raises
        ------
        ValueError
            If f is not a function, or if it does not return an array with the shape of its arguments.
        """
        u = self.grid.points(2)
        x, p = u[..., 0] + self.shear * u[..., 1], math.sqrt(self.mass) * u[..., 1]
        values = result_of("f", f, x, p)
        if values.shape not in ((), x.shape):
            raise ValueError(f"f: must return the shape of its arguments, {x.shape}, got {values.shape}")
        return float((self.weights * values).sum())

    def density(self, x: ArrayLike, p: ArrayLike) -> Array:
        """Return the joint density of x and p.

        Parameters
        ----------
        x, p : float or array
            Positions and momenta, which broadcast against each other.

        Returns
        -------
        float64 array
            Density in units of 1/(x p), with the broadcast shape. It is 0 outside the grid, where the probability is of
            the order of the tolerance.
        """
        x, p = broadcast(x=converted("x", x), p=converted("p", p))
        with np.errstate(over="ignore", invalid="ignore"):  # the density of infinite coordinates is 0
            q = p / math.sqrt(self.mass)
            points = np.stack([np.ravel(x - self.shear * q), np.ravel(q)])
        starts = range(0, points.shape[1], TOGETHER)
        parts = [self.at(*points[:, start : start + TOGETHER]) for start in starts]
        return np.concatenate([np.empty(0), *parts]).reshape(x.shape) / math.sqrt(self.mass)

    def at(self, x: Array, q: Array) -> Array:
        """Return the density of the coordinates of the grid at points, arrays of shape (n,)."""
        grid = self.grid
        inside = (grid.x.low <= x) & (x <= grid.x.high) & (grid.memory.low <= q) & (q <= grid.memory.high)
        found = np.zeros(x.shape)
        if inside.any():
            along_x, along_q = along(grid.x, x[inside]), along(grid.memory, q[inside])
            found[inside] = ((along_x @ self.coefficients) * along_q).sum(axis=1)
        return found

    @cached_property
    def coefficients(self) -> Array:
        """Coefficients of the density per node as a spline."""
        return self.grid.coefficients(self.weights)

    @property
    def momentum_variance(self) -> float:
        """Variance of p."""
        mean = self.expectation(lambda x, p: p)
        return self.expectation(lambda x, p: (p - mean) ** 2)

    @property
    def kinetic_temperature(self) -> float:
        """Kinetic temperature ``E[p^2]/mass``; its exact value is the temperature of the integrator."""
        return self.expectation(lambda x, p: p**2) / self.mass

    @property
    def kl(self) -> float:
        """Kullback-Leibler divergence from the distribution of the Langevin equation, in nats."""
        return self.distance(relative_entropy)

    @property
    def total_variation(self) -> float:
        """Total variation distance to the distribution of the Langevin equation."""
        return self.distance(lambda density, log_target: np.abs(density - np.exp(log_target))) / 2

    def distance(self, integrand: Callable[[Array, Array], Array]) -> float:
        """Return the integral of a function of the density and of the log density of the Langevin equation.

        The function must return the second density where the first one is 0, as it is outside the grid.
        """
        x, q = (replace(axis, n=FINER * (axis.n - 1) + 1) for axis in (self.grid.x, self.grid.memory))
        along_x, along_q = along(self.grid.x, x.nodes), along(self.grid.memory, q.nodes)
        cells = 1 / np.multiply.outer(x.density(x.nodes), q.density(q.nodes))
        positions = np.add.outer(x.nodes, self.shear * q.nodes).clip(self.target.x[0], self.target.x[-1])
        T = self.target.temperature
        log_target = self.target.log_curve(positions) - q.nodes**2 / (2 * T) - math.log(2 * math.pi * T) / 2
        inside = integrand(along_x @ self.coefficients @ along_q.T, log_target)
        return float((cells * inside).sum() + 1 - (cells * np.exp(log_target)).sum())


def along(axis: Axis, points: Array) -> Array:
    """Return the splines of an axis as densities at points, (n,) -> (n, nodes), for coefficients per node."""
    return axis.values(points) * axis.density(points)[:, None]

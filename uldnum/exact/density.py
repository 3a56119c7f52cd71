"""Tables of the density and the cdf of one-dimensional targets, on nodes that extend far into the tails."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.interpolate import BSpline, make_interp_spline

from uldnum._util.typing import Array
from uldnum.targets import Target, lacking

__all__ = ["TargetDensity", "relative_entropy", "tabulate"]

# Extent of the table beyond the outermost means in standard deviations, number of nodes per standard deviation of the
# narrowest component, and largest number of nodes.
REACH, DENSE, MOST = 24, 200, 5_000_000

# Largest density at the ends of the table, relative to its maximum. It is checked at temperatures other than 1 only.
OUTSIDE = 1e-12


@dataclass(frozen=True)
class TargetDensity:
    """Tabulated density and cdf of a one-dimensional target.

    Attributes
    ----------
    x : array, shape (n,)
        Equidistant nodes.
    log_density, cdf : array, shape (n,)
        Normalised log density and cumulative distribution function of the target at the nodes.
    centres, deviations : array, shape (components,)
        Means and standard deviations of the components of a Gaussian mixture, or mean and standard deviation of any
        other target, all at the temperature.
    temperature : float
        Temperature T; the density is proportional to that of the target to the power 1/T.
    gaussian_tails : bool
        Whether the target is a Gaussian mixture.
    """

    x: Array
    log_density: Array
    cdf: Array
    centres: Array
    deviations: Array
    temperature: float
    gaussian_tails: bool

    @property
    def curvatures(self) -> Array:
        """Negative slope of the score of each component: its inverse variance at temperature 1, shape (components,)."""
        return self.temperature / self.deviations**2

    @cached_property
    def density(self) -> Array:
        """Density at the nodes, shape (n,)."""
        return np.exp(self.log_density)

    def integral(self, values: Array) -> float:
        """Return the integral of a function, given its values at the nodes."""
        return float(np.trapezoid(values, self.x))

    @property
    def mean(self) -> float:
        """Mean of the target."""
        return self.integral(self.x * self.density)

    @property
    def deviation(self) -> float:
        """Standard deviation of the target."""
        return float(np.sqrt(self.integral((self.x - self.mean) ** 2 * self.density)))

    @cached_property
    def log_curve(self) -> BSpline:
        """Log density as a cubic spline of x, within the table."""
        return make_interp_spline(self.x, self.log_density, k=3)

    def interval(self, reach: float) -> tuple[float, float]:
        """Return the ends of the interval where the density exceeds ``exp(-reach^2/2)`` times its maximum.

        On a Gaussian target the interval extends ``reach`` standard deviations to either side of the mean. If the
        density exceeds this value on several intervals, the result contains all of them.
        """
        above = self.x[self.log_density > self.log_density.max() - reach**2 / 2]
        return float(above[0]), float(above[-1])

    def resolved_by(self, nodes: Array, nodes_per_unit: Array) -> bool:
        """Return whether the trapezoidal rule on given nodes is accurate enough for the variance of the target.

        The rule must give the integral of ``(x - mean)^2`` times the density, from the first to the last node, with a
        relative error below 0.1%.

        Parameters
        ----------
        nodes : array
            Nodes in ascending order.
        nodes_per_unit : array
            Number of nodes per unit of length at each node.
        """
        coarse = np.interp(nodes, self.x, self.density) * (nodes - self.mean) ** 2 / nodes_per_unit
        fine = self.density * (self.x - self.mean) ** 2 * ((self.x >= nodes[0]) & (self.x <= nodes[-1]))
        return abs(float(np.trapezoid(coarse)) / self.integral(fine) - 1) < 1e-3


def relative_entropy(density: Array, log_target: Array) -> Array:
    """Return ``rho log(rho/pi) - rho + pi`` at points, given rho and log pi; the integral is the divergence of rho.

    It is never negative. Small negative values of rho, which are numerical errors, count as 0.
    """
    some = density > 0
    log = np.log(np.where(some, density, 1.0)) - log_target
    return np.where(some, density * (log - 1), 0.0) + np.exp(log_target)


def scales(target: Target) -> tuple[Array, Array]:
    """Return means and standard deviations of the components of a Gaussian mixture.

    For any other target, return its mean and standard deviation as arrays of one entry.
    """
    if target.components is not None:
        return target.components.means[:, 0], np.sqrt(target.components.variances[:, 0])
    if not np.all(np.isfinite(target.standard_deviation)):
        raise lacking(target, "its standard deviation", "standard_deviation")
    return target.mean, target.standard_deviation


def tabulate(target: Target, temperature: float = 1.0) -> TargetDensity:
    """Return the table of a density that is proportional to the density of a target to the power 1/T.

    T is the temperature. If the target does not define a log density, its score is integrated. If the table does not
    contain the tails, which may be wide at high temperatures, a ValueError is raised.
    """
    centres, own = scales(target)
    deviations = np.sqrt(temperature) * own
    # A target that is not a mixture may have several modes, which do not approach each other at low temperatures.
    extent = REACH * (deviations if target.components is not None else np.maximum(own, deviations))
    low, high = (centres - extent).min(), (centres + extent).max()
    nodes = int(DENSE * (high - low) / deviations.min()) + 1
    if nodes > MOST:
        raise ValueError(
            f"target: must be resolved by a table of at most {MOST} nodes, got {nodes} nodes for {target.name!r}; "
            "use wider components"
        )
    x = np.linspace(low, high, nodes)
    if target.log_density is not None:
        log = np.asarray(target.log_density(x[:, None]))
    else:
        log = make_interp_spline(x, target.score(x[:, None])[:, 0], k=5).antiderivative()(x)
    log = (log - log.max()) / temperature
    if temperature != 1 and max(log[0], log[-1]) > np.log(OUTSIDE):
        raise ValueError(
            f"temperature: must be lower than {temperature:g} on {target.name!r}, whose tails are then wider than the "
            f"table from {low:.3g} to {high:.3g}"
        )
    log = log - np.log(np.trapezoid(np.exp(log), x))
    cdf = make_interp_spline(x, np.exp(log), k=5).antiderivative()(x)
    return TargetDensity(x, log, cdf, centres, deviations, temperature, target.components is not None)

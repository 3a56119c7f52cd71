"""Orders of convergence, measured without sampling."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from uldnum._util.typing import Array
from uldnum.exact._gaussian import propagator
from uldnum.exact.flow import overdamped_flow, underdamped_flow
from uldnum.exact.transfer import transfer_operator
from uldnum.schemes.catalogue import Integrator
from uldnum.schemes.catalogue import integrator as find_integrator
from uldnum.targets.presets import bimodal_1d

__all__ = ["Orders", "measured_orders"]

# The Gaussian on which the law is followed for the time of one.
PRECISION, FRICTION = 1.3, 0.9
# The step sizes of a slope are these and half of these.
WEAK_H, STATIONARY_H = 1 / 16, 0.1
# Tolerances of the stationary law: a smaller one takes up to ten times as long, and few biases need it.
TOLERANCES = (1e-6, 1e-7, 1e-8)


class Orders(NamedTuple):
    """Orders in powers of h.

    Attributes
    ----------
    weak : float
        Of the law after a fixed time.
    stationary : float
        Of the bias of the stationary law.
    """

    weak: float
    stationary: float


def measured_orders(integrator: str | Integrator) -> Orders:
    """Measure the orders of an integrator, as slopes between a step and its half.

    The weak order is that of the error of the law after the time of one on a Gaussian, from ``open`` to ``close``,
    against the Langevin equation that the scheme follows better, the underdamped or the overdamped one; 0 if it follows
    neither. The stationary order is that of the bias of E[x^2] on the mixture ``bimodal-1d``: on a Gaussian some
    schemes are exact.

    Parameters
    ----------
    integrator : str or Integrator
        The integrator.

    Raises
    ------
    ConvergenceError
        If its stationary law could not be resolved.
    """
    scheme = find_integrator(integrator)
    errors = [(underdamped_error(scheme, h), overdamped_error(scheme, h)) for h in (WEAK_H, WEAK_H / 2)]
    biases = [stationary_bias(scheme, h) for h in (STATIONARY_H, STATIONARY_H / 2)]
    return Orders(float(np.nanmax(slope(*np.array(errors)))), float(slope(*np.array(biases))))


def slope(coarse: Array, fine: Array) -> Array:
    """Exponent of an error between a step and its half."""
    return np.log2(coarse / fine)


def underdamped_error(scheme: Integrator, h: float) -> float:
    """Error of the law of (x, p) after the time of one; NaN for schemes without memory."""
    if scheme.rows == 1:
        return np.nan
    got = propagator(scheme, h, precision=PRECISION, friction=FRICTION, steps=round(1 / h))
    exact = underdamped_flow(1.0, PRECISION, FRICTION)
    return max(float(np.abs(a - b).max()) for a, b in zip(got, exact, strict=True))


def overdamped_error(scheme: Integrator, h: float) -> float:
    """Error of mean and variance of x after the time of one, from N(2, 3)."""
    M, Q = propagator(scheme, h, precision=PRECISION, friction=FRICTION, steps=round(2 / h**2))
    start = np.diag([3.0, scheme.memory**2][: scheme.rows])
    flow, noise = overdamped_flow(1.0, PRECISION)
    return max(abs(2 * (M[0, 0] - flow)), abs((M @ start @ M.T + Q)[0, 0] - (3 * flow**2 + noise)))


def stationary_bias(scheme: Integrator, h: float) -> float:
    """Bias of E[x^2] on the mixture, in magnitude: within a fiftieth of it, or to the last tolerance."""
    target, bias = bimodal_1d(), np.nan
    for tolerance in TOLERANCES:
        law = transfer_operator(scheme, target, h, friction=FRICTION, tolerance=tolerance)
        bias = abs(law.expectation(np.square) - target.moment(2)[0])
        if bias > 50 * tolerance:
            break
    return bias

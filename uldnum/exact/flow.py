"""The Langevin equations themselves, on a Gaussian: what integrators approximate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from uldnum._util.arguments import number, numbers, positive_number
from uldnum._util.typing import Array
from uldnum.exact.precise import Number, lift

__all__ = ["overdamped_flow", "underdamped_flow"]

# Of the fifty digits, doublings up to this time leave twenty.
LONGEST = 1e30


def underdamped_flow(t: float, precision: float = 1.0, friction: float = 1.0) -> tuple[Array, Array]:
    """Law after time t of ``dx = p dt, dp = -precision x dt - friction p dt + sqrt(2 friction) dW``.

    The series of a short time, which is then doubled: twice the time has ``M M`` and ``M Q M^T + Q``. The numbers have
    fifty digits, because the doublings amplify rounding.

    Parameters
    ----------
    t : float
        Time, not negative.
    precision : float
        Of the target N(0, 1/precision), positive.
    friction : float
        Friction, in units of 1/time, positive.

    Returns
    -------
    M, Q : float64 arrays, shape (2, 2)
        The state is Gaussian with mean ``M (x, p)`` and covariance Q; right to rounding.

    Raises
    ------
    ValueError
        If an argument is not one finite number, t is negative, precision or friction is not positive, or t is more than
        1e30 times 1/friction or 1/sqrt(precision).
    """
    t, precision, friction = time(t), positive_number("precision", precision), positive_number("friction", friction)
    if t * max(friction, math.sqrt(precision)) > LONGEST:
        raise ValueError(f"t: must be at most {LONGEST:g} times 1/friction and 1/sqrt(precision), got {t:g}")
    doublings = max(0, 8 + math.ceil(math.log2(t) + math.log2(max(friction, math.sqrt(precision))))) if t else 0
    short = Number(t) / 2**doublings
    drift, noise = lift(np.array([[0, 1], [-precision, -friction]])), lift(np.diag([0, 2 * friction]))
    M, Q, change, spread = lift(np.eye(2)), noise * 0, drift * short, noise * short
    for n in range(2, 22):
        M, Q = M + change, Q + spread
        change, spread = drift @ change * short / n, (drift @ spread + spread @ drift.T) * short / n
    for _ in range(doublings):
        M, Q = M @ M, M @ Q @ M.T + Q
    return M.astype(float), Q.astype(float)


def overdamped_flow(t: float, precision: float = 1.0) -> tuple[float, float]:
    """Law after time t of ``dx = -precision x dt + sqrt(2) dW``: Gaussian with mean ``M x`` and variance Q.

    ``M = e^(-precision t)``, ``Q = (1 - e^(-2 precision t))/precision``.

    Parameters
    ----------
    t : float
        Time, not negative, in units of overdamped time: a step h is ``delta = h^2/2`` of it.
    precision : float
        Of the target N(0, 1/precision), positive.

    Returns
    -------
    M, Q : float
        Right to rounding at any t.

    Raises
    ------
    ValueError
        If an argument is not one finite number, t is negative, or the precision is not positive.
    """
    t, precision = time(t), positive_number("precision", precision)
    return math.exp(-precision * t), -math.expm1(-2 * precision * t) / precision


def time(t: Any) -> float:
    """Return a time as a float, or raise unless it is one finite number and not negative."""
    value = number("t", numbers("t", t))
    if value < 0:
        raise ValueError(f"t: must not be negative, got {value:g}")
    return value

"""Exact solutions of the underdamped and overdamped Langevin equations on a Gaussian target."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from uldnum._util.arguments import number, numbers, positive_number
from uldnum._util.typing import Array
from uldnum.exact.precise import Number, lift

__all__ = ["overdamped_flow", "underdamped_flow"]

# Doublings up to this time leave twenty of the fifty digits.
LONGEST = 1e30


def underdamped_flow(t: float, precision: float = 1.0, friction: float = 1.0) -> tuple[Array, Array]:
    """Return the exact solution of underdamped Langevin dynamics on N(0, 1/precision) after a time t.

    The equations are ``dx = p dt`` and ``dp = -precision x dt - friction p dt + sqrt(2 friction) dW``. Given the state
    (x, p) at time 0, the state at time t is Gaussian with mean ``M (x, p)`` and covariance Q.

    Parameters
    ----------
    t : float
        Time, at least 0.
    precision : float, default 1.0
        Inverse variance of the target, positive.
    friction : float, default 1.0
        Friction in units of 1/time, positive.

    Returns
    -------
    M, Q : float64 arrays, shape (2, 2)
        Matrix of the mean and covariance of the state, correct to rounding.

    Raises
    ------
    ValueError
        If an argument is not a single finite number, if t is negative, if precision or friction is not positive, or if
        t is larger than 1e30 times 1/friction or 1e30 times 1/sqrt(precision).

    See Also
    --------
    propagator : The same for an integrator.

    Notes
    -----
    With the drift matrix ``A = [[0, 1], [-precision, -friction]]`` and the noise ``N = diag(0, 2 friction)``, M is
    ``exp(A t)`` and Q solves ``dQ/dt = A Q + Q A^T + N``. Both are computed as Taylor series of a short time, which is
    then doubled: a doubled time has ``M M`` and ``M Q M^T + Q``. The arithmetic has fifty digits because doublings
    amplify rounding errors.

    References
    ----------
    H. Risken 1989, The Fokker-Planck Equation: Methods of Solution and Applications, 2nd ed., Springer.

    Examples
    --------
    The underdamped oscillator with frequency 1 and friction 1:

    >>> from uldnum import exact
    >>> M, Q = exact.underdamped_flow(2.0)
    >>> M.round(4).tolist()
    [[0.1506, 0.4193], [-0.4193, -0.2687]]
    >>> Q.round(4).tolist()
    [[0.8015, 0.1758], [0.1758, 0.752]]
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
    """Return the exact solution of overdamped Langevin dynamics on N(0, 1/precision) after a time t.

    The equation is ``dx = -precision x dt + sqrt(2) dW``. Given x at time 0, the position at time t is Gaussian with
    mean ``M x`` and variance Q, where ``M = e^(-precision t)`` and ``Q = (1 - e^(-2 precision t))/precision``.

    Parameters
    ----------
    t : float
        Time of overdamped Langevin dynamics, at least 0. A step h of an integrator takes the time ``delta = h^2/2``.
    precision : float, default 1.0
        Inverse variance of the target, positive.

    Returns
    -------
    M, Q : float
        Factor of the mean and variance, correct to rounding at any t.

    Raises
    ------
    ValueError
        If an argument is not a single finite number, if t is negative, or if the precision is not positive.

    See Also
    --------
    propagator : The same for an integrator.

    Examples
    --------
    >>> from uldnum import exact
    >>> M, Q = exact.overdamped_flow(1.0)
    >>> round(M, 6), round(Q, 6)
    (0.367879, 0.864665)
    """
    t, precision = time(t), positive_number("precision", precision)
    return math.exp(-precision * t), -math.expm1(-2 * precision * t) / precision


def time(t: Any) -> float:
    """Return a time as a float, or raise unless it is a single finite number of at least 0."""
    value = number("t", numbers("t", t))
    if value < 0:
        raise ValueError(f"t: must not be negative, got {value:g}")
    return value

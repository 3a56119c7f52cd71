"""The Langevin equations themselves, on a Gaussian: what integrators approximate."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import expm

from uldnum.typing import Array

__all__ = ["overdamped_flow", "underdamped_flow"]


def underdamped_flow(t: float, precision: float = 1.0, friction: float = 1.0) -> tuple[Array, Array]:
    """Law after time t of ``dx = p dt, dp = -precision x dt - friction p dt + sqrt(2 friction) dW``.

    From one matrix exponential (Van Loan 1978, IEEE Trans. Autom. Control 23, 395, eq. 1.4). It also holds what grows
    as e^(friction t), so it is that of a short time, which is doubled: twice the time has ``M M`` and ``M Q M^T + Q``.

    Parameters
    ----------
    t : float
        Time, not negative.
    precision : float
        Of the target N(0, 1/precision).
    friction : float
        Friction, in units of 1/time.

    Returns
    -------
    M, Q : float64 arrays, shape (2, 2)
        The state is Gaussian with mean ``M (x, p)`` and covariance Q; right to rounding.
    """
    check_time(t)
    doublings = max(0, math.frexp(t * max(friction, math.sqrt(abs(precision))))[1])
    drift, noise = np.array([[0, 1], [-precision, -friction]]), np.diag([0, 2 * friction])
    block = expm(t / 2**doublings * np.block([[-drift, noise], [np.zeros((2, 2)), drift.T]]))
    M = block[2:, 2:].T
    Q = M @ block[:2, 2:]
    for _ in range(doublings):
        M, Q = M @ M, M @ Q @ M.T + Q
    return M, Q


def overdamped_flow(t: float, precision: float = 1.0) -> tuple[float, float]:
    """Law after time t of ``dx = -precision x dt + sqrt(2) dW``: Gaussian with mean ``M x`` and variance Q.

    ``M = e^(-precision t)``, ``Q = (1 - e^(-2 precision t))/precision``.

    Parameters
    ----------
    t : float
        Time, not negative, in units of overdamped time: a step h is ``delta = h^2/2`` of it.
    precision : float
        Of the target N(0, 1/precision); not 0.

    Returns
    -------
    M, Q : float
        Right to rounding at any t.
    """
    check_time(t)
    return float(np.exp(-precision * t)), float(-np.expm1(-2 * precision * t) / precision)


def check_time(t: float) -> None:
    """Raise if a time is negative: noise cannot be taken back."""
    if not t >= 0:
        raise ValueError(f"t: must not be negative, got {t}")

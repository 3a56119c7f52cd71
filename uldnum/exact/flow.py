"""The Langevin equations themselves, on a Gaussian: what integrators approximate."""

from __future__ import annotations

import numpy as np
from scipy.linalg import expm

from uldnum.typing import Array

__all__ = ["overdamped_flow", "underdamped_flow"]


def underdamped_flow(t: float, precision: float = 1.0, friction: float = 1.0) -> tuple[Array, Array]:
    """Law after time t of ``dx = p dt, dp = -precision x dt - friction p dt + sqrt(2 friction) dW``.

    From one matrix exponential (Van Loan 1978, IEEE Trans. Autom. Control 23, 395, eq. 1.4).

    Returns
    -------
    M, Q : arrays, shape (2, 2)
        The state is Gaussian with mean ``M (x, p)`` and covariance Q.
    """
    drift, noise = np.array([[0, 1], [-precision, -friction]]), np.diag([0, 2 * friction])
    block = expm(t * np.block([[-drift, noise], [np.zeros((2, 2)), drift.T]]))
    M = block[2:, 2:].T
    return M, M @ block[:2, 2:]


def overdamped_flow(t: float, precision: float = 1.0) -> tuple[float, float]:
    """Law after time t of ``dx = -precision x dt + sqrt(2) dW``: Gaussian with mean ``M x`` and variance Q.

    Returns
    -------
    M, Q : float
    """
    return float(np.exp(-precision * t)), float(-np.expm1(-2 * precision * t) / precision)

"""Independent references: what the package computes with stages, here letter by letter."""

import numpy as np
from scipy.linalg import solve_discrete_lyapunov

ZERO = np.zeros((2, 2))


def ou_flow(t, friction):
    """U for time t, its covariance as the textbook has it."""
    e, g = np.exp(-friction * t), friction
    xx = (2 * g * t - 3 + 4 * e - e**2) / g**2
    return np.array([[1, (1 - e) / g], [0, e]]), np.array([[xx, (1 - e) ** 2 / g], [(1 - e) ** 2 / g, 1 - e**2]])


def letter(name, t, precision, friction):
    """One letter on N(0, 1/precision), its score evaluated anew: the matrix and the noise covariance."""
    if name == "A":
        return np.array([[1, t], [0, 1]]), ZERO
    if name == "B":
        return np.array([[1, 0], [-t * precision, 1]]), ZERO
    if name == "O":
        c = np.exp(-friction * t)
        return np.diag([1, c]), np.diag([0, 1 - c**2])
    return ou_flow(t, friction)


def word_map(word, fractions, h, precision, friction):
    """One time step of a word, letter after letter."""
    M, Q = np.eye(2), ZERO
    for name, fraction in zip(word, fractions, strict=True):
        m, q = letter(name, fraction * h, precision, friction)
        M, Q = m @ M, m @ Q @ m.T + q
    return M, Q


def stationary(M, Q):
    return solve_discrete_lyapunov(M, Q)

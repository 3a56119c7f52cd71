"""Independent references for the exact answers of the package, computed from single letters instead of stages."""

import mpmath
import numpy as np
from scipy.linalg import solve_discrete_lyapunov

ZERO = np.zeros((2, 2))


def ou_flow(t, friction):
    """Return matrix and covariance of the letter U for a time t, from the textbook formula."""
    e, g = np.exp(-friction * t), friction
    xx = (2 * g * t - 3 + 4 * e - e**2) / g**2
    return np.array([[1, (1 - e) / g], [0, e]]), np.array([[xx, (1 - e) ** 2 / g], [(1 - e) ** 2 / g, 1 - e**2]])


def letter(name, t, precision, friction):
    """Return matrix and noise covariance of one letter on N(0, 1/precision), with its own score evaluation."""
    if name == "A":
        return np.array([[1, t], [0, 1]]), ZERO
    if name == "B":
        return np.array([[1, 0], [-t * precision, 1]]), ZERO
    if name == "O":
        c = np.exp(-friction * t)
        return np.diag([1, c]), np.diag([0, 1 - c**2])
    return ou_flow(t, friction)


def word_map(word, fractions, h, precision, friction):
    """Return matrix and noise covariance of one time step of a word, as a product of its letters."""
    M, Q = np.eye(2), ZERO
    for name, fraction in zip(word, fractions, strict=True):
        m, q = letter(name, fraction * h, precision, friction)
        M, Q = m @ M, m @ Q @ m.T + q
    return M, Q


def linear(step, rows, normals):
    """Return the matrices M, N of a linear recurrence ``step(u, xi) = M u + N xi``, applied to unit vectors."""
    M = [step(u, np.zeros(normals)) for u in np.eye(rows)]
    N = [step(np.zeros(rows), xi) for xi in np.eye(normals)]
    return np.array(M, float).T, np.array(N, float).T


def stationary(M, Q):
    return solve_discrete_lyapunov(M, Q)


def certified_limit(word, precision, friction, tolerance=1e-22):
    """Return the step size up to which interval arithmetic proves |trace| < 1 + det for a word with equal shares.

    The computation uses units of 1/sqrt(precision). On an interval with midpoint m a function lies in
    ``f(m) + f'(interval) (interval - m)``. Intervals are halved until this set is positive. The proof ends where they
    become shorter than ``tolerance`` times h. The determinant, exp(-friction h), is below 1 at every h.
    """
    iv = mpmath.iv
    iv.dps = 60
    shares = {name: iv.mpf(1) / word.count(name) for name in word}
    gamma = iv.mpf(friction) / iv.sqrt(iv.mpf(precision))

    def margins(z):
        """Return 1 + det - trace and 1 + det + trace, each with its derivative."""
        rows, slopes = [[iv.mpf(1), iv.mpf(0)], [iv.mpf(0), iv.mpf(1)]], [[iv.mpf(0)] * 2, [iv.mpf(0)] * 2]

        def shear(to, by, slope):
            source = 1 - to
            for j in (0, 1):
                rows[to][j] += by * rows[source][j]
                slopes[to][j] += slope * rows[source][j] + by * slopes[source][j]

        for name in word:
            share = shares[name]
            c = iv.exp(-gamma * share * z)
            if name == "B":
                shear(1, -share * z, -share)
            elif name == "A":
                shear(0, share * z, share)
            elif name == "U":
                shear(0, (1 - c) / gamma, share * c)
            if name in "OU":
                for j in (0, 1):
                    slopes[1][j] = c * slopes[1][j] - gamma * share * c * rows[1][j]
                    rows[1][j] = c * rows[1][j]
        det = iv.exp(-gamma * z)
        trace, slope = rows[0][0] + rows[1][1], slopes[0][0] + slopes[1][1]
        return (1 + det - trace, -gamma * det - slope), (1 + det + trace, -gamma * det + slope)

    low = iv.mpf(1e-3) * min(1, float(gamma.a), 1 / float(gamma.b))
    low = mpmath.mpf(low.a)
    ratio = mpmath.mpf(1) / 4
    with mpmath.workdps(60):
        while ratio > tolerance:
            high = low * (1 + ratio)
            middle, whole = iv.mpf((low + high) / 2), iv.mpf([low, high])
            values, slopes = margins(middle), margins(whole)
            if all((f[0] + df[1] * (whole - middle)).a > 0 for f, df in zip(values, slopes, strict=True)):
                low, ratio = high, min(2 * ratio, mpmath.mpf(1) / 4)
            else:
                ratio /= 2
        return float(low / mpmath.sqrt(mpmath.mpf(precision)))


def margins_of_words(word, friction, z, exp, expm1):
    """Return 1 + det - trace and 1 + det + trace of a word with equal shares at precision 1, letter by letter."""
    x, p = [1 + 0 * z, 0 * z], [0 * z, 1 + 0 * z]
    for name in word:
        t = z / word.count(name)
        if name == "A":
            x = [a + t * b for a, b in zip(x, p, strict=True)]
        elif name == "B":
            p = [b - t * a for a, b in zip(x, p, strict=True)]
        else:
            if name == "U":
                x = [a - expm1(-friction * t) / friction * b for a, b in zip(x, p, strict=True)]
            p = [exp(-friction * t) * b for b in p]
    det, trace = exp(-friction * z), x[0] + p[1]
    return 1 + det - trace, 1 + det + trace


def scanned_limit(word, precision, friction):
    """Return the first step size at which |trace| < 1 + det fails for a word with equal shares.

    The margins are scanned in float64 at step sizes 0.02% apart. Minima close to zero and limits are then located with
    sixty digits. Where e^(-friction h) underflows, 1 + det - trace may do so, too, and is assumed to be positive.
    """
    with mpmath.workdps(60):
        unit = 1 / mpmath.sqrt(mpmath.mpf(precision))
        gamma = mpmath.mpf(friction) * unit
        top = 1e3 * max(1, float(gamma))
        z = np.exp(np.concatenate([np.arange(-4, 4, 2e-4), np.arange(4, np.log(max(top, 60)), 1e-3)]))
        m = np.array(margins_of_words(word, float(gamma), z, np.exp, np.expm1))
        forgotten = (np.exp(-float(gamma) * z) < 1e-13) & (m[0] > -1e-9)
        m[0] = np.where(forgotten, np.maximum(m[0], 1e-12), m[0])
        beyond = np.flatnonzero((m < -1e-9).any(axis=0))
        end = beyond[0] if len(beyond) else len(z)
        left, middle, right = m[:, :-2], m[:, 1:-1], m[:, 2:]
        dips = (middle <= left) & (middle <= right) & (middle < 1e-4) & (np.maximum(left, right) > 1.1e-12)

        def sharp(h):
            return margins_of_words(word, gamma, h, mpmath.exp, mpmath.expm1)

        bracket = (z[end - 1], z[end]) if len(beyond) else None
        for i, which in sorted((i, which) for which, i in np.argwhere(dips) if i + 1 < end):
            lowest = golden_section(lambda h, which=which: sharp(h)[which], mpmath.mpf(z[i]), mpmath.mpf(z[i + 2]))
            if sharp(lowest)[which] < 1e-42:
                bracket = z[i], lowest
                break
        if bracket is None:
            return np.inf
        low, high = map(mpmath.mpf, bracket)
        assert min(sharp(low)) > 0
        while high - low > 1e-14 * high:
            half = (low + high) / 2
            low, high = (half, high) if min(sharp(half)) > 0 else (low, half)
        return float(low * unit)


def golden_section(f, a, b):
    """Return the minimum between a and b of a function with a single minimum there, to 26 digits."""
    ratio = (mpmath.sqrt(5) - 1) / 2
    c, d = b - ratio * (b - a), a + ratio * (b - a)
    f_c, f_d = f(c), f(d)
    while b - a > 1e-26 * b:
        if f_c < f_d:
            b, d, f_d = d, c, f_c
            c = b - ratio * (b - a)
            f_c = f(c)
        else:
            a, c, f_c = c, d, f_d
            d = a + ratio * (b - a)
            f_d = f(d)
    return c

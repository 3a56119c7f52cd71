"""Stochastic Runge-Kutta schemes against their recurrences in the literature, typed line by line, and their orders."""

import numpy as np
import pytest
from helpers.reference import linear, ou_flow, stationary
from mpmath import mp, mpf
from mpmath import tanh as exact_tanh

import uldnum
from uldnum import exact
from uldnum.exact.orders import quartic_bias
from uldnum.schemes.words import tanh_gap, tanh_second_gap

NORMAL = uldnum.GaussianMixture([1.0], [[0.0]], [1.0])

# Each recurrence has the arguments (x, p), the integrals w, H, K of the path over the step, the score, h and gamma.


def coefficients(h, c):
    """Return the functions a and b of a time, and the weights of H and K, as diffrax computes them directly."""
    al, beta = c * h, np.exp(-c * h)
    chh = 6 * (beta * (al + 2) + al - 2) / (al**2 * c)
    ckk = 60 * (beta * (al * (al + 6) + 12) - al * (al - 6) - 12) / (al**3 * c)
    return lambda t: (1 - np.exp(-c * t)) / c, lambda t: (np.exp(-c * t) + c * t - 1) / (c**2 * h), chh, ckk


def align(x, v, path, score, h, c):
    w, hh, _ = path
    (a, b, chh, _), rho = coefficients(h, c), np.sqrt(2 * c)
    y = x + a(h) * v + b(h) * h * score(x) + rho * (b(h) * w + chh * hh)
    force = (a(h) - b(h)) * score(x) + b(h) * score(y)
    return y, np.exp(-c * h) * v + force + rho * (a(h) / h * w - c * chh * hh)


def should(x, v, path, score, h, c):
    w, hh, kk = path
    (a, b, chh, ckk), rho = coefficients(h, c), np.sqrt(2 * c)
    v1 = v + rho * (hh + 6 * kk)
    x1 = x + a(h / 2) * v1 + b(h / 2) * (h * score(x) + rho * (w - 12 * kk))
    both = chh * hh + ckk * kk
    y = x + a(h) * v + h * b(h) * (score(x) + 2 * score(x1)) / 3 + rho * (b(h) * w + both)
    force = h * (np.exp(-c * h) / 6 * score(x) + 2 / 3 * np.exp(-c * h / 2) * score(x1) + score(y) / 6)
    return y, np.exp(-c * h) * v + force + rho * (a(h) / h * w - c * both)


def quicsort(x, v, path, score, h, c):
    w, hh, kk = path
    (a, b, *_), rho = coefficients(h, c), np.sqrt(2 * c)
    left, right = (3 - np.sqrt(3)) / 6 * h, (3 + np.sqrt(3)) / 6 * h
    tilde, rest = v + rho * (hh + 6 * kk), rho * (w - 12 * kk)
    x1 = x + a(left) * tilde + b(left) * rest
    f1 = h * score(x1)
    x2 = x + a(right) * tilde + b(right) * rest + a(h / 3) * f1
    f2 = h * score(x2)
    y = x + a(h) * tilde + b(h) * rest + (a(right) * f1 + a(left) * f2) / 2
    p = np.exp(-c * h) * tilde + (np.exp(-c * right) * f1 + np.exp(-c * left) * f2) / 2 + a(h) / h * rest
    return y, p - rho * (hh - 6 * kk)


def srk(x, p, path, score, h, c):
    """Li et al. 2019 with the step size eta = h^2/2 of the overdamped equation, which the path has in its time."""
    eta = h**2 / 2
    xi, other = path[0] / np.sqrt(eta), path[1] / np.sqrt(eta / 12)
    first = x + np.sqrt(2 * eta) * ((1 / 2 + 1 / np.sqrt(6)) * xi + other / np.sqrt(12))
    second = x + eta * score(x) + np.sqrt(2 * eta) * ((1 / 2 - 1 / np.sqrt(6)) * xi + other / np.sqrt(12))
    return x + eta / 2 * (score(first) + score(second)) + np.sqrt(2 * eta) * xi, 0 * p


def euler_maruyama(x, v, path, score, h, c):
    return x + h * v, v + h * score(x) - c * h * v + np.sqrt(2 * c) * path[0]


RECURRENCES = {
    "ALIGN": align,
    "ShOULD": should,
    "QUICSORT": quicsort,
    "SRK": srk,
    "euler-maruyama": euler_maruyama,
}


def time_of(name, h):
    """Return the time of a step of size h in the unit of the path."""
    return h**2 / 2 if name == "SRK" else h


def integrals(h, xi):
    """Return w, H and K of a path over a time h, from three standard normals."""
    return np.sqrt(h) * xi[0], np.sqrt(h / 12) * xi[1], np.sqrt(h / 720) * xi[2]


@pytest.mark.parametrize(("h", "gamma", "precision"), [(0.5, 1.0, 1.0), (0.9, 0.7, 2.5), (0.6, 3.0, 0.4)])
@pytest.mark.parametrize("name", ["ALIGN", "ShOULD", "QUICSORT", "SRK"])
def test_stationary_covariances_are_those_of_the_recurrences(name, h, gamma, precision):
    def step(u, xi):
        return RECURRENCES[name](*u, integrals(time_of(name, h), xi), lambda x: -precision * x, h, gamma)

    M, N = linear(step, 2, 3)
    law = exact.gaussian(name, h, friction=gamma, precision=precision)
    np.testing.assert_allclose(law.covariance[0, :2, :2], stationary(M, N @ N.T), atol=1e-12 * max(1, 1 / precision))
    assert np.all(np.abs(law.covariance[0, 2:]) < 1e-15)  # row 2, if there is one, is empty between steps


@pytest.mark.parametrize(
    ("name", "x", "p"),
    [
        ("ALIGN", 1.038736816, 0.979177835),
        ("ShOULD", 0.999902786, 0.998497942),
        ("QUICSORT", 0.999501755, 0.997423244),
    ],
)
def test_variances_at_half_a_unit(name, x, p):
    law = exact.gaussian(name, 0.5)
    assert (law.position_covariance, law.momentum_covariance) == pytest.approx((x, p), abs=1e-9)


# ------------------------------------------------------------------------------------------------------------- orders


def joined(first, second):
    """Return w, H and K of a path over an interval, from those over its halves."""
    (w, a, k), (v, b, m) = first, second
    return w + v, (a + b) / 2 + (w - v) / 4, (k + m) / 4 + (a - b) / 8


def pair(name, h):
    """Return a step of size h, in the time of the path, and two steps of half that size, on the same path."""
    size = np.sqrt(2 * h) if name == "SRK" else h
    half = np.sqrt(h) if name == "SRK" else h / 2

    def both(u, xi):
        first, second = integrals(h / 2, xi[:3]), integrals(h / 2, xi[3:])
        coarse = RECURRENCES[name](u[0], u[1], joined(first, second), lambda x: -x, size, 1.0)
        fine = RECURRENCES[name](u[2], u[3], first, lambda x: -x, half, 1.0)
        return *coarse, *RECURRENCES[name](*fine, second, lambda x: -x, half, 1.0)

    return linear(both, 4, 6)


def ubu_pair(name, h):
    """Return the same for UBU. The noise of a half step is that of two quarter steps, one after the other."""
    (F, Q), (G, _) = ou_flow(h / 4, 1.0), ou_flow(h / 2, 1.0)
    root = np.linalg.cholesky(Q)

    def kick(u, t):
        return np.array([u[0], u[1] - t * u[0]])

    def both(u, xi):
        parts = [root @ part for part in xi.reshape(4, 2)]
        coarse = kick(G @ u[:2] + F @ parts[0] + parts[1], h)
        coarse = G @ coarse + F @ parts[2] + parts[3]
        fine = u[2:]
        for before, after in (parts[:2], parts[2:]):
            fine = F @ kick(F @ fine + before, h / 2) + after
        return *coarse, *fine

    return linear(both, 4, 8)


def strong_error(make, name, h):
    """Return the root mean square difference of x and p at time 1, from the same start.

    The recursion is written for the difference and the fine state. Otherwise rounding would limit the result to 1e-8.
    """
    M, N = make(name, h)
    apart, whole = np.block([[np.eye(2), -np.eye(2)], [np.zeros((2, 2)), np.eye(2)]]), np.zeros((4, 4))
    M, N, mean = apart @ M @ np.linalg.inv(apart), apart @ N, np.array([0, 0, 1.0, 0.5])
    for _ in range(round(1 / h)):
        mean, whole = M @ mean, M @ whole @ M.T + N @ N.T
    return np.sqrt(np.trace((whole + np.outer(mean, mean))[:2, :2]))


@pytest.mark.parametrize(
    ("name", "order"),
    [("ALIGN", 2), ("ShOULD", 3), ("QUICSORT", 3), ("euler-maruyama", 1), ("UBU", 2), ("SRK", 2)],
)
def test_strong_orders(name, order):
    """On N(0, 1), in the time of the path; a step of SRK is h^2/2. On other targets SRK has the strong order 1.5."""
    make = ubu_pair if name == "UBU" else pair
    errors = [strong_error(make, name, h) for h in (1 / 16, 1 / 32)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


def test_joined_integrals_have_the_distribution_of_integrals():
    _, N = linear(lambda u, xi: joined(integrals(0.3, xi[:3]), integrals(0.3, xi[3:])), 1, 6)
    np.testing.assert_allclose(N @ N.T, np.diag([0.6, 0.6 / 12, 0.6 / 720]), atol=1e-15)


@pytest.mark.parametrize("name", ["ula", "OBABO", "UBU", "ABOBA", "mild(0.3)"])
def test_the_quartic_bias_is_a_derivative(name):
    """With one evaluation per step, it follows from the derivative of Var(x) with respect to the precision.

    To first order, epsilon x^4/4 acts as the precision 3 epsilon Var(y) at an evaluation at y, by Stein's lemma.
    """
    h, e = 0.3, 1e-5
    laws = [exact.gaussian(name, h, friction=0.9, precision=1.3 + shift) for shift in (-e, 0, e)]
    before, G = laws[1].step.cycle.stationary()[0], uldnum.integrator(name).stages(h, friction=0.9).stages[-1].G
    slope = (laws[2].position_covariance - laws[0].position_covariance) / (2 * e)
    derivative = 3 * (G @ before @ G) * slope + 3 / 1.3**3
    expected = max(abs(derivative), abs(laws[1].position_bias))
    assert quartic_bias(uldnum.integrator(name), h) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("word", ["OBABO", "UBU", "ABOBA"])
def test_the_quartic_bias_of_several_evaluations(word):
    """A word that repeats another one is that word with half of the step."""
    twice, once = uldnum.splitting(2 * word), uldnum.splitting(word)
    assert twice.nfe_per_step == 2
    assert quartic_bias(twice, 0.6) == pytest.approx(quartic_bias(once, 0.3), rel=1e-11)


# ------------------------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("z", [1e-8, 1e-3, 0.3, 0.999, 1.001, 2.0, 30.0])
def test_gaps_of_the_hyperbolic_tangent(z):
    with mp.workdps(60):
        t = exact_tanh(mpf(z))
        assert float(tanh_gap(np.array(z)) / (z - t) - 1) == pytest.approx(0, abs=2e-15)
        assert float(tanh_second_gap(np.array(z)) / ((mpf(z) ** 2 + 3) * t - 3 * mpf(z)) - 1) == pytest.approx(
            0, abs=3e-14
        )


@pytest.mark.parametrize("name", ["ALIGN", "ShOULD", "QUICSORT"])
def test_tables_of_small_steps_lose_no_digits(name):
    """Float64 equals fifty digits at h = 1e-6 to 1e-13, where the direct formula for the weight of K has no digit."""
    h = np.array([1e-6, 1e-3, 0.1])
    plain, precise = (exact.gaussian(name, h, precise=which).position_covariance for which in (False, True))
    np.testing.assert_allclose(plain, precise, rtol=1e-13)


@pytest.mark.parametrize("name", ["ALIGN", "ShOULD", "QUICSORT", "SRK"])
def test_sampled_variances_agree(name):
    """Var(x), and Var(p) if it is not zero, within 4 standard errors, 2.5%; false alarms once in 2000 times."""
    run = uldnum.sample(NORMAL, name, h=1.0, steps=25, chains=50_000, seed=3, backend="array", progress=False)
    law, rows = exact.gaussian(name, 1.0), run.state.phase_space[0, :, :2, 0]
    for row, variance in zip(rows.T, (law.position_covariance, law.momentum_covariance), strict=True):
        assert abs(np.mean(row**2) - variance) <= 4 * variance * np.sqrt(2 / len(row))


def test_studies_of_three_rows_have_no_exact_values_on_mixtures():
    """Values on a mixture are NaN, with a warning; those on a Gaussian are known."""
    grid = {"h": [0.5], "nfe": 200, "chains": 16, "backend": "array", "progress": False}
    told = "no exact bias: the state of QUICSORT has 3 rows; exact values on 'bimodal-1d' need at most 2"
    with pytest.warns(UserWarning, match=told):
        study = uldnum.studies.bias("bimodal-1d", ["QUICSORT"], **grid)
    assert np.isnan(study.exact).all()
    known = uldnum.studies.exact_bias("gaussian", ["QUICSORT"], h=[0.5])
    assert float(known.exact_signed.sel(moment="second_moment").squeeze()) == pytest.approx(-0.000352319, rel=1e-3)

"""Exact laws on Gaussians: closed forms, and orders as measured slopes."""

import numpy as np
import pytest
from reference import exact_flow

import uldnum
from uldnum.exact import gaussian, max_stable_h, propagator

PRECISION = np.array([0.1, 1.0, 10.0])[:, None]
H = np.array([0.02, 0.05, 0.1, 0.3, 0.5])
K = H**2 / 2 * PRECISION  # delta lambda
Q = H**2 / 4 * PRECISION  # h^2 lambda / 4
ONE = np.ones_like(K)


def mild_variance(k, beta):
    q = 1 - k
    top = 2 * (1 - beta * q * (1 - 2 * k) - beta**2 * q**2 + beta**3 * q**3)
    return top / ((1 - beta * q) * (2 - k + 2 * beta * q))


def noise_denoise_variance(kappa, eta):
    return kappa + eta * (1 - kappa) ** 2 / (2 - eta * kappa)


# scheme: Var(x) lambda, Var(p), Cov(x, p); None where the design's table has no entry
CLOSED_FORMS = {
    "BAOAB": (ONE, 1 - Q, 0),
    "ABOBA": (ONE, 1 / (1 - Q), 0),
    "OBABO": (1 / (1 - Q), ONE, 0),
    "OABAO": (1 - Q, ONE, 0),
    "BAOA": (ONE, ONE, H / 2),
    "ula": (1 / (1 - K / 2), None, None),
    "baoab-limit": (ONE, None, None),
    **{f"noise-denoise({eta})": (noise_denoise_variance(Q, eta), ONE, None) for eta in (0.5, 1, 1.5, 2)},
    **{f"mild({beta})": (mild_variance(K, beta), None, None) for beta in (0, 0.1, 0.5, 0.9)},
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_forms(name):
    law = gaussian(name, H, precision=PRECISION, friction=1.0)
    x, p, xp = CLOSED_FORMS[name]
    np.testing.assert_allclose(law.position_covariance * PRECISION, x, rtol=0, atol=1e-10)
    if p is not None:
        np.testing.assert_allclose(law.momentum_covariance, p, rtol=0, atol=1e-10)
    if xp is not None:
        np.testing.assert_allclose(law.cross_covariance, xp * ONE, rtol=0, atol=1e-10)


@pytest.mark.parametrize("h", [1e-3, 1e-4, 1e-5])
def test_the_bias_survives_small_steps(h):
    """M = I + D is held as D: in float64 the bias h^2/4 keeps its leading digits at h = 1e-4, where 1 + h^2/4 has 8."""
    for name, bias in (
        ("ula", h**2 / 4 / (1 - h**2 / 4)),
        ("OBABO", h**2 / 4 / (1 - h**2 / 4)),
        ("OABAO", -(h**2) / 4),
    ):
        got = gaussian(name, h).position_covariance - 1
        assert abs(got - bias) < 1e-12
    np.testing.assert_allclose(gaussian("BAOAB", h).position_covariance, 1, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:word. 'BAB' has neither")
def test_a_scheme_without_thermostat_has_no_law():
    assert np.isnan(gaussian("BAB", [0.1, 0.5, 1.0, 1.3, 1.9]).position_covariance).all()


def test_absurd_steps_are_unstable_not_errors():
    with np.errstate(all="ignore"):
        assert np.isnan(gaussian("BAOAB", [1e100, 1e200]).position_covariance).all()


@pytest.mark.parametrize(("name", "h"), [("ula", 2.0), ("BAOAB", 2.0), ("euler-maruyama", 1.0), ("UBU", None)])
def test_max_stable_h(name, h):
    limit = max_stable_h(name)
    if h is not None:
        assert limit == pytest.approx(h, rel=1e-10)
    assert np.isfinite(gaussian(name, limit * 0.9999).position_covariance)
    assert np.isnan(gaussian(name, limit * 1.0001).position_covariance)
    assert max_stable_h("ula", precision=[1.0, 100.0]) == pytest.approx(0.2)


@pytest.mark.parametrize(("name", "values"), [("UBU", [0.998334, 0.958591]), ("BUB", [1.000835, 1.022100])])
def test_exact_thermostat_words(name, values):
    np.testing.assert_allclose(gaussian(name, [0.1, 0.5]).position_covariance, values, rtol=0, atol=5e-7)


def test_noise_denoise_in_the_variable_of_the_paper():
    """The paper's x_i = x - sigma p at noise level sigma, data variance S: eta S^2/(2 S + (2 - eta) sigma^2)."""
    S, sigma = 0.7, 0.4
    for eta in (1.0, 2.0):
        law = gaussian(f"noise-denoise({eta})", 2 * sigma, precision=1 / (S + sigma**2))
        variance = law.position_covariance - 2 * sigma * law.cross_covariance + sigma**2 * law.momentum_covariance
        np.testing.assert_allclose(variance, eta * S**2 / (2 * S + (2 - eta) * sigma**2), rtol=1e-12)


def test_palindromes_share_their_spectrum():
    h, friction = 0.7, 1.3
    c = np.exp(-friction * h)
    radius = np.abs(np.roots([1, -(1 + c) * (1 - h**2 / 2), c])).max()
    for word in ("BAOAB", "ABOBA", "OBABO", "OABAO"):
        np.testing.assert_allclose(gaussian(word, h, friction=friction).spectral_radius, radius, rtol=1e-12)


def test_beyond_stability_the_law_is_nan():
    """The palindromes are stable for h^2 lambda < 4, ULA and baoab-limit for delta lambda < 2: the same h."""
    for name in ("BAOAB", "OBABO", "ula", "baoab-limit"):
        law = gaussian(name, [1.99, 2.01])
        assert law.spectral_radius[0] < 1 < law.spectral_radius[1]
        assert np.isfinite(law.position_covariance[0])
        assert np.isnan(law.position_covariance[1])


OVERDAMPED = ("ula", "baoab-limit")
KINETIC = [entry for entry in uldnum.integrators() if entry.order[0] is not None and entry.name not in OVERDAMPED]


def slope(error, at):
    """Order of error(h): the exponent between h = at and at/2."""
    return np.log2(error(at) / error(at / 2))


@pytest.mark.parametrize("entry", KINETIC, ids=lambda entry: entry.name)
def test_weak_order_on_the_step(entry):
    """Local error of the law h^(order + 1), global error h^order, as measured slopes; two-sided, so none is better.

    The run of n steps is open, n - 1 whole stages, close: what a sampler does.
    """
    weak = entry.order[0]

    def local(h):
        got, exact = propagator(entry.name, h, precision=1.3, friction=0.9), exact_flow(h, 1.3, 0.9)
        return max(np.abs(a - b).max() for a, b in zip(got, exact, strict=True))

    def over_a_time_of_one(h):
        got = propagator(entry.name, h, precision=1.3, friction=0.9, steps=round(1 / h))
        return max(np.abs(a - b).max() for a, b in zip(got, exact_flow(1.0, 1.3, 0.9), strict=True))

    assert slope(local, 1 / 32) == pytest.approx(weak + 1, abs=0.1)
    assert slope(over_a_time_of_one, 1 / 16) == pytest.approx(weak, abs=0.1)


@pytest.mark.parametrize("name", OVERDAMPED)
def test_weak_order_of_overdamped_schemes(name):
    """Order 1 in delta, so 2 in h, against the overdamped flow for the time of one (variance 1 at its start)."""

    def error(h):
        n = round(2 / h**2)
        M, Q = propagator(name, h, steps=n)
        start = np.array([2.0, 0.0])[: len(M)], np.diag([3.0, 1.0])[: len(M), : len(M)]
        mean, variance = (M @ start[0])[0], (M @ start[1] @ M.T + Q)[0, 0]
        return max(abs(mean - 2 * np.exp(-1)), abs(variance - (1 + 2 * np.exp(-2))))

    assert slope(error, 0.25) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("name", ["ula", "OBABO", "OABAO", "UBU", "BUB", "euler-maruyama", "exponential-euler"])
def test_stationary_order_where_a_gaussian_shows_it(name):
    """BAOAB, ABOBA and baoab-limit are exact on a Gaussian: their stationary order shows only on a mixture."""
    order = uldnum.integrator(name).order[1]
    assert slope(lambda h: abs(gaussian(name, h).position_covariance - 1), 1 / 32) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("name", ["mild(0.5)", "noise-denoise(1)"])
def test_stationary_order_zero(name):
    assert uldnum.integrator(name).order[1] == 0
    np.testing.assert_allclose(gaussian(name, 1e-3).position_covariance, 0.5, atol=1e-5)

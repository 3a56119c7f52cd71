"""Exact answers on Gaussians against closed forms, scans and interval arithmetic; stability limits, flows, orders."""

from pathlib import Path

import mpmath
import numpy as np
import pytest
from helpers.catalogue import CATALOGUE_AT_HALF
from helpers.reference import certified_limit, ou_flow, scanned_limit

import uldnum
from uldnum.exact import (
    gaussian,
    max_stable_h,
    overdamped_flow,
    propagator,
    underdamped_flow,
)
from uldnum.exact._gaussian import log1p_gap
from uldnum.exact.linear import linear_step
from uldnum.exact.precise import Number
from uldnum.schemes.stage import Affine, Step, first_row, table

PRECISION = np.array([0.1, 1.0, 10.0])
H = np.array([0.02, 0.05, 0.1, 0.3, 0.5])[:, None]
K = H**2 / 2 * PRECISION  # delta lambda
Q = H**2 / 4 * PRECISION  # h^2 lambda / 4
ONE = np.ones_like(K)


def mild_variance(k, beta):
    q = 1 - k
    top = 2 * (1 - beta * q * (1 - 2 * k) - beta**2 * q**2 + beta**3 * q**3)
    return top / ((1 - beta * q) * (2 - k + 2 * beta * q))


def noise_denoise_variance(kappa, eta):
    return kappa + eta * (1 - kappa) ** 2 / (2 - eta * kappa)


# scheme: Var(x) lambda, Var(p), Cov(x, p); None where no closed form is given
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
    law = gaussian(name, H[:, 0], precision=PRECISION, friction=1.0)
    x, p, xp = CLOSED_FORMS[name]
    np.testing.assert_allclose(law.position_covariance * PRECISION, x, rtol=0, atol=1e-12)
    np.testing.assert_allclose(law.position_bias * PRECISION, x - 1, rtol=0, atol=1e-12)
    if p is not None:
        np.testing.assert_allclose(law.momentum_covariance, p, rtol=0, atol=1e-12)
    if xp is not None:
        np.testing.assert_allclose(law.cross_covariance, xp * ONE, rtol=0, atol=1e-12)


# scheme: Kullback-Leibler divergences of x and of (x, p) at h = lambda = gamma = 1, computed with forty digits
DIVERGENCES = {
    "OBABO": (0.02282563, 0.02282563),
    "OABAO": (0.01884104, 0.01884104),
    "BAOAB": (0.0, 0.01884104),
    "ABOBA": (0.0, 0.02282563),
    "UBU": (0.00731691, 0.01074161),
    "BUB": (0.00265435, 0.01378245),
}


@pytest.mark.parametrize("name", DIVERGENCES)
def test_divergences_in_forty_digits(name):
    law = gaussian(name, 1.0)
    np.testing.assert_allclose((law.position_kl, law.phase_space_kl), DIVERGENCES[name], rtol=0, atol=5e-9)


def covariance(law):
    """Covariance of (x, p) on a Gaussian with a precision that is a number or a matrix."""
    x, xp, p = (
        np.atleast_2d(part) for part in (law.position_covariance, law.cross_covariance, law.momentum_covariance)
    )
    return np.block([[x, xp], [xp.T, p]])


def divergence(law, reference):
    """Kullback-Leibler divergence of N(0, law) from N(0, reference)."""
    ratio = np.linalg.solve(reference, law)
    return (np.trace(ratio) - len(law) - np.linalg.slogdet(ratio)[1]) / 2


@pytest.mark.parametrize("mass", [None, 3.0, [1.0, 4.0], [[2.0, 0.5], [0.5, 1.0]], "inverse-covariance"])
@pytest.mark.parametrize("name", ["UBU", "BAOA", "exponential-euler"])
def test_divergences_and_temperature_of_covariances(name, mass):
    """Against dense matrices of x and p, with a temperature and score noise or a mass matrix."""
    precision, temperature = np.array([[2.0, 0.5], [0.5, 1.0]]), 2.5
    noise = 0.0 if np.ndim(mass) or mass == "inverse-covariance" else 0.3
    law = gaussian(name, 0.6, precision=precision, temperature=temperature, mass=mass, score_noise=noise)
    M = np.asarray(precision if mass == "inverse-covariance" else 1.0 if mass is None else mass, float)
    M = M if M.ndim == 2 else np.diag(np.broadcast_to(M, 2))
    target, zero = temperature * np.linalg.inv(precision), np.zeros((2, 2))
    joint, wanted = covariance(law), np.block([[target, zero], [zero, temperature * M]])
    np.testing.assert_allclose(law.position_kl, divergence(joint[:2, :2], target), rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(law.phase_space_kl, divergence(joint, wanted), rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(law.kinetic_temperature, np.trace(np.linalg.solve(M, joint[2:, 2:])) / 2, rtol=1e-12)


def test_divergences_of_tiny_steps():
    """The divergence of N(0, 1 + mu) is mu^2/4 - mu^3/6 + ..., with mu = h^2/4 for OBABO."""
    h = np.array([1e-6, 1e-4, 1e-3])
    mu = h**2 / 4 / (1 - h**2 / 4)
    law = gaussian("OBABO", h, precise=True)
    np.testing.assert_allclose(law.position_kl, mu**2 / 4 - mu**3 / 6, rtol=1e-13)


@pytest.mark.parametrize("mu", [-0.999, -0.5000001, -0.4999999, -1e-3, 0.0, 1e-9, 0.4999999, 0.5000001, 1e6])
def test_the_gap_of_a_logarithm(mu):
    with mpmath.workdps(40):
        exact = mpmath.mpf(mu) - mpmath.log1p(mpmath.mpf(mu))
    assert log1p_gap(np.array(mu)) == pytest.approx(float(exact), rel=1e-15, abs=0)


@pytest.mark.parametrize("name", ["ula", "baoab-limit", "mild(0.5)"])
def test_schemes_without_momenta_have_no_kinetic_temperature(name):
    law = gaussian(name, [0.5, 1.0], precision=[1.0, 2.0])
    np.testing.assert_array_equal([law.kinetic_temperature, law.phase_space_kl], np.full((2, 2), np.nan))
    assert law.position_kl.shape == (2,)
    assert np.isfinite(law.position_kl).all()


@pytest.mark.parametrize("name", ["BAOAB", "OBABO", "ABOBA", "OABAO", "BABAOBAB"])
def test_half_steps(name):
    """Momenta at the half step: x of the scheme itself, and p = dx/t over the last A, by the linear maps of letters."""
    half = uldnum.integrator(name).at(temperature=2.0).at_half_step()
    assert half.name.endswith("A")
    own, read = (gaussian(scheme, 0.8, precision=1.3, temperature=2.0) for scheme in (name, half))
    assert read.position_covariance == pytest.approx(own.position_covariance, rel=1e-12)
    # From the end of the last A to the end of the step, B and O map (x, p) linearly.
    c, t = np.exp(-0.8 / name.count("O")), 0.8 / name.count("B")
    joint = covariance(read)
    for letter in name[name.rindex("A") + 1 :]:
        M = np.array([[1, 0], [-1.3 * t, 1]]) if letter == "B" else np.diag([1, c])
        joint = M @ joint @ M.T + np.diag([0, 2 * (1 - c**2) if letter == "O" else 0])
    np.testing.assert_allclose(joint, covariance(own), rtol=0, atol=1e-12)


def test_half_steps_of_fractions():
    whole = uldnum.splitting("OBABO", [0.25, 0.5, 1, 0.5, 0.75]).at_half_step()
    assert whole.name == "BOOBA[0.5,0.75,0.25,0.5,1]"
    assert uldnum.integrator("BAOA").at_half_step() == uldnum.integrator("BAOA")


@pytest.mark.parametrize("name", ["UBU", "ula", "euler-maruyama"])
def test_half_steps_of_words_only(name):
    with pytest.raises(ValueError, match="integrator: must be a splitting word with an A"):
        uldnum.integrator(name).at_half_step()


@pytest.mark.filterwarnings("ignore:.* has no stationary distribution")
@pytest.mark.parametrize("name", [*CATALOGUE_AT_HALF, "ABAOABA"])
@pytest.mark.parametrize("precision", [0.1, 1.0, 10.0])
def test_float64_against_fifty_digits(name, precision):
    """The matrix M = I + D is stored as D, so float64 loses nothing at small steps and beats the documented 1e-11."""
    h = np.geomspace(1e-6, 0.3, 12)
    plain, precise = (gaussian(name, h, precision=precision, precise=which) for which in (False, True))
    np.testing.assert_allclose(
        plain.position_bias * precision, precise.position_bias * precision, rtol=2e-15, atol=1e-14
    )


def test_the_bias_of_tiny_steps():
    """With fifty digits the bias, 1e-13 at h = 1e-6, is correct to all digits of float64."""
    h, precision = np.array([1e-6, 1e-4, 1e-2, 0.3]), 3.0
    k, q = h**2 / 2 * precision, h**2 / 4 * precision
    exact = {
        "ula": k / 2 / (1 - k / 2),
        "OBABO": q / (1 - q),
        "OABAO": -q,
        "mild(0.5)": mild_variance(k, 0.5) - 1,
        "noise-denoise(1.5)": noise_denoise_variance(q, 1.5) - 1,
    }
    for name, bias in exact.items():
        got = gaussian(name, h, precision=precision, precise=True).position_bias * precision
        np.testing.assert_allclose(got, bias, rtol=1e-12, atol=0)
    for name in ("BAOAB", "ABOBA", "baoab-limit", "BAOA"):
        assert np.abs(gaussian(name, h, precision=precision, precise=True).position_bias).max() < 1e-40
    # UBU: Var(x) = 1 - h^2/6 + O(h^3), BUB: 1 + h^2/12 + O(h^3), at precision and friction 1.
    np.testing.assert_allclose(gaussian("UBU", 1e-6, precise=True).position_bias, -1e-12 / 6, rtol=2e-6)
    np.testing.assert_allclose(gaussian("BUB", 1e-6, precise=True).position_bias, 1e-12 / 12, rtol=2e-6)


@pytest.mark.parametrize("x", [1e-300, 1e-20, -1e-9, -0.3, 3.0, -40.0, 700.0])
def test_functions_of_fifty_digits(x):
    with mpmath.workdps(70):
        for name in ("exp", "expm1", "tanh"):
            exact = getattr(mpmath, name)(mpmath.mpf(x))
            got = mpmath.mpf(str(getattr(Number(x), name)()))
            assert abs(got / exact - 1) < 1e-48
        for name in ("log", "sqrt"):
            exact = getattr(mpmath, name)(abs(mpmath.mpf(x)))
            assert abs(mpmath.mpf(str(getattr(Number(abs(x)), name)())) / exact - 1) < 1e-48


def test_fifty_digits_never_raise():
    """Overflow gives infinity, and undefined results are NaN."""
    assert float(Number(1e300).exp()) == np.inf
    assert float(Number(-1e300).exp()) == 0
    assert float(Number(1) / 0) == np.inf
    assert np.isnan(float(Number(0) / 0))
    assert not Number(np.nan) > 0
    assert not Number(np.nan) <= 0


TURN = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]


@pytest.mark.parametrize("name", ["OBABO", "ula", "mild(0.5)"])
def test_number_eigenvalues_and_matrix_agree(name):
    values = np.array([0.3, 1.0, 4.0])
    h = np.array([0.2, 0.6])
    each = [gaussian(name, h, precision=value, friction=0.8) for value in values]
    vector = gaussian(name, h, precision=values, friction=0.8)
    matrix = gaussian(name, h, precision=TURN @ np.diag(values) @ TURN.T, friction=0.8)
    for part in ("position_covariance", "position_bias", "momentum_covariance", "cross_covariance"):
        numbers = np.stack([getattr(law, part) for law in each], axis=-1)
        np.testing.assert_allclose(getattr(vector, part), numbers, rtol=1e-13)
        turned = np.einsum("ik,hk,jk->hij", TURN, numbers, TURN)
        np.testing.assert_allclose(getattr(matrix, part), turned, rtol=0, atol=1e-12)
    slowest = np.max([law.spectral_radius for law in each], axis=0)
    for law in (vector, matrix):
        np.testing.assert_allclose(law.spectral_radius, slowest, rtol=1e-13)
        np.testing.assert_allclose(law.relaxation_time, -1 / np.log(slowest), rtol=1e-12)


def test_friction_and_h_broadcast():
    law = gaussian("UBU", [[0.1], [0.5]], precision=[1.0, 2.0], friction=[0.5, 1.0, 2.0])
    assert law.position_covariance.shape == (2, 3, 2)
    alone = gaussian("UBU", 0.5, precision=2.0, friction=2.0)
    np.testing.assert_allclose(law.position_covariance[1, 2, 1], alone.position_covariance, rtol=1e-14)
    assert law.relaxation_time.shape == (2, 3)


def test_a_law_evaluates_the_recipe_once():
    calls, scheme = [], uldnum.integrator("BAOAB")

    def counted(h, friction):
        calls.append(h)
        return scheme.recipe(h, friction)

    law = gaussian(uldnum.Integrator("counted", counted), 0.5)
    assert (len(calls), law.nfe_per_step) == (1, 1)


def runs(name, most, h, precision, friction=1.0):
    """Return the matrix M of `propagator` for 1 ... most steps, each computed from the one before."""
    h, precision = np.float64(h), np.asarray(precision)
    step = linear_step(uldnum.integrator(name).stages(h, friction=friction), precision)
    enter, first, cycle, read = (
        np.eye(part.D.shape[-1]) + part.D for part in (step.enter, step.first, step.cycle, step.read)
    )
    M = [first @ enter]
    while len(M) < most:
        M.append(cycle @ M[-1])
    M = read @ np.array(M)
    for n in (1, 2, most):
        whole = propagator(name, h, precision=precision, friction=friction, steps=n)[0]
        np.testing.assert_allclose(M[n - 1], whole, rtol=1e-12, atol=1e-15)
    return M


@pytest.mark.parametrize("name", ["ula", "BAOAB", "BAOA", "OBABO", "OABAO", "UBU", "ABAOABA", "mild(0.5)"])
@pytest.mark.parametrize("precision", [0.7, 3.0])
def test_autocorrelation_time_is_the_sum_of_the_correlations(name, precision):
    """Times are sums of E[x_n x_0] of runs that start in equilibrium; the autocorrelation of x^2 is its square."""
    h, friction = 0.4, 0.8
    law = gaussian(name, h, precision=precision, friction=friction)
    k = uldnum.integrator(name).rows
    S = np.array([[law.position_covariance, law.cross_covariance], [law.cross_covariance, law.momentum_covariance]])
    rho = (runs(name, 599, h, precision, friction) @ S[:k, :k])[:, 0, 0] / S[0, 0]
    nfe = uldnum.integrator(name).nfe_per_step
    np.testing.assert_allclose(law.autocorrelation_time("x"), nfe * (1 + 2 * rho.sum()), rtol=1e-10)
    np.testing.assert_allclose(law.autocorrelation_time("x^2"), nfe * (1 + 2 * (rho**2).sum()), rtol=1e-10)


def test_autocorrelation_times_of_forms():
    """The autocorrelation of a coordinate is an average over eigenvectors, weighted by their shares of its variance."""
    values, h = np.array([0.3, 1.0, 4.0]), [0.3, 0.5]
    vector = gaussian("BAOAB", h, precision=values)
    matrix = gaussian("BAOAB", h, precision=TURN @ np.diag(values) @ TURN.T)
    np.testing.assert_allclose(
        vector.autocorrelation_time(),
        np.stack([gaussian("BAOAB", h, precision=v).autocorrelation_time() for v in values], axis=-1),
        rtol=1e-12,
    )
    for e in range(3):
        assert matrix.autocorrelation_time(TURN[:, e]) == pytest.approx(vector.autocorrelation_time()[:, e], rel=1e-9)
        form = np.outer(TURN[:, e], TURN[:, e])
        expected = vector.autocorrelation_time("x^2")[:, e]
        np.testing.assert_allclose(matrix.autocorrelation_time(form), expected, rtol=1e-9)
    share = TURN[1] ** 2 / values  # contribution of each eigenvector to Var(x_1)
    np.testing.assert_allclose(
        matrix.autocorrelation_time("x")[:, 1], vector.autocorrelation_time() @ share / share.sum(), rtol=1e-9
    )
    # The autocovariance of x_1^2 is twice the square of that of x_1, at every lag.
    rho = sum(s * runs("BAOAB", 499, 0.5, v)[:, 0, 0] for s, v in zip(share, values, strict=True))  # Cov(x, p) = 0
    np.testing.assert_allclose(
        matrix.autocorrelation_time("x^2")[1, 1], 1 + 2 * ((rho / share.sum()) ** 2).sum(), rtol=1e-9
    )
    mixed = np.outer(TURN[:, 0], TURN[:, 2])
    np.testing.assert_allclose(matrix.autocorrelation_time(mixed), matrix.autocorrelation_time(mixed.T), rtol=1e-9)


def test_relaxation_counts_evaluations():
    """ABAOABA has two evaluations per step; ULA at delta lambda = 1 relaxes in a single step, so its time is 0."""
    law = gaussian("ABAOABA", [0.1, 0.7])
    np.testing.assert_allclose(law.relaxation_time, -2 / np.log(law.spectral_radius), rtol=1e-10)
    assert gaussian("ula", delta=1.0).relaxation_time == 0


@pytest.mark.filterwarnings("ignore:.* has no stationary distribution")
def test_times_beyond_stability_are_nan():
    law = gaussian("BAOAB", [1.0, 2.1], precision=[0.5, 1.0])
    assert np.isnan(law.relaxation_time).tolist() == [False, True]
    assert np.isnan(law.autocorrelation_time([1.0, 0.0])).tolist() == [False, True]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"precision": [[1.0, 0.5], [0.4, 1.0]]}, "precision: the matrix must be finite and symmetric"),
        ({"precision": [[1.0, 2.0], [2.0, 1.0]]}, "precision: the matrix must be positive definite"),
        ({"precision": np.ones((3, 1))}, "precision: must be a number, a vector"),
        ({"precision": [1.0, -1.0]}, "precision: must be positive"),
        ({"precision": "stiff"}, "precision: must be a number"),
        ({"precision": []}, "precision: must not be empty"),
        ({"friction": 0.0}, "friction"),
        ({"h": -0.1}, "h"),
    ],
)
def test_bad_arguments_are_named(arguments, fault):
    with pytest.raises(ValueError, match=f"^{fault}"):
        gaussian("BAOAB", **({"h": 0.1} | arguments))


@pytest.mark.parametrize(
    "observable", ["p", [1.0, 2.0, 3.0], [[0.0, 1.0], [-1.0, 0.0]], [np.nan, 1.0], [[1.0], [2.0, 3.0]]]
)
def test_bad_observables_are_named(observable):
    with pytest.raises(ValueError, match=r"^observable"):
        gaussian("BAOAB", 0.1, precision=[1.0, 2.0]).autocorrelation_time(observable)


@pytest.mark.filterwarnings("ignore:word. 'BAB' has neither")
def test_a_scheme_without_thermostat_has_no_stationary_covariance():
    with pytest.warns(UserWarning, match=r"at h = 0.1, 0.5, 1 and 2 more .*: no step size is stable"):
        assert np.isnan(gaussian("BAB", [0.1, 0.5, 1.0, 1.3, 1.9]).position_covariance).all()


@pytest.mark.parametrize(
    ("h", "friction", "precision", "said"),
    [
        (
            2.1,
            1.0,
            1.0,
            "BAOAB has no stationary distribution at h = 2.1 and friction 1, .* is NaN: .* stable below h = 2 (max_",
        ),
        ([0.1, 0.9], 2.0, [1.0, 9.0], "at h = 0.9 and friction 2, .* stable below h = 0.666667 (max_stable_h)"),
        ([[1.0, 3.0]], [[1.0], [2.0]], 1.0, "at h = 3 and friction 1, .* stable below h = 2 (max_stable_h)"),
        (0.2, 1e-30, 300.0, "at h = 0.2 and friction 1e-30, .*: the scheme is unstable there"),
    ],
)
def test_an_unstable_step_is_reported_once_with_its_limit(h, friction, precision, said):
    """One warning, which points at the caller; the covariance stays NaN exactly where the scheme is unstable."""
    with pytest.warns(UserWarning, match=said.replace("(", r"\(").replace(")", r"\)")) as found:
        law = gaussian("BAOAB", h, friction=friction, precision=precision)
    assert [Path(one.filename) for one in found] == [Path(__file__)]
    unstable = law.spectral_radius >= 1
    assert unstable.any()
    np.testing.assert_array_equal(np.isnan(law.bias).any(axis=-1), unstable)


@pytest.mark.filterwarnings("ignore:.* has no stationary distribution")
def test_very_large_steps_are_unstable_not_errors():
    with np.errstate(all="ignore"):
        assert np.isnan(gaussian("BAOAB", [1e100, 1e200]).position_covariance).all()


@pytest.mark.filterwarnings("ignore:.* has no stationary distribution")
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
    """The paper's x_i = x - sigma p has the variance eta S^2/(2 S + (2 - eta) sigma^2) for data with variance S."""
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


@pytest.mark.filterwarnings("ignore:.* has no stationary distribution")
def test_beyond_stability_the_covariance_is_nan():
    """Palindromes are stable for h^2 lambda < 4, and ULA and baoab-limit for delta lambda < 2, which is the same h."""
    for name in ("BAOAB", "OBABO", "ula", "baoab-limit"):
        law = gaussian(name, [1.99, 2.01])
        assert law.spectral_radius[0] < 1 < law.spectral_radius[1]
        assert np.isfinite(law.position_covariance[0])
        assert np.isnan(law.position_covariance[1])


@pytest.mark.filterwarnings("ignore:.* has no stationary distribution")
def test_at_the_limit_the_covariance_is_nan():
    """At h = 2, where an eigenvalue is -1, rounding errors do not make the scheme appear stable."""
    for name in ("BAOAB", "OBABO", "ABOBA", "ula", "baoab-limit"):
        law = gaussian(name, 2.0)
        for value in (law.position_covariance, law.relaxation_time, law.autocorrelation_time(), *law.lags[0]):
            assert np.isnan(float(value))


@pytest.mark.parametrize("name", ["BAOAB", "OBABO", "ABOBA"])
def test_close_to_the_limit(name):
    """Closed forms and the slowest eigenvalue hold at h = 2 (1 - e), up to the last float64 below the limit."""
    h = 2 * (1 - np.array([1e-4, 1e-7, 1e-10, 1e-13, 2.0**-53]))
    gap = (2 - h) * (2 + h) / 4  # 1 - kappa, without cancellation
    law = gaussian(name, h)
    x, p = {"BAOAB": (1, gap), "OBABO": (1 / gap, 1), "ABOBA": (1, 1 / gap)}[name]
    for got, exact in ((law.position_covariance, x), (law.momentum_covariance, p)):
        np.testing.assert_allclose(got, exact * np.ones(5), rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(got[1:], (exact * np.ones(5))[1:], rtol=1e-14)
    c = np.exp(-h)
    times = law.relaxation_time
    np.testing.assert_allclose(times[1:] * gap[1:], ((1 - c) / (2 * (1 + c)))[1:], rtol=1e-6)
    precise = gaussian(name, h, precise=True)
    np.testing.assert_allclose(times, precise.relaxation_time, rtol=1e-10)
    for observable in ("x", "x^2"):
        np.testing.assert_allclose(
            law.autocorrelation_time(observable), precise.autocorrelation_time(observable), rtol=1e-10
        )


def test_very_low_friction():
    """Var(x) = 1, and the energy decays by e^(-friction h) per step, even where the friction is lost in float64."""
    friction = np.array([1e-3, 1e-8, 1e-13, 1e-18, 1e-30])
    law = gaussian("BAOAB", 1.2, friction=friction)
    np.testing.assert_allclose(law.position_covariance, 1, rtol=1e-11)
    np.testing.assert_allclose(law.relaxation_time, 2 / (1.2 * friction), rtol=1e-10)
    matrix = gaussian("OBABO", 0.5, friction=1e-12, precision=np.diag([1.0, 3.0]))
    q = 0.5**2 / 4 * np.array([1.0, 3.0])
    np.testing.assert_allclose(np.diag(matrix.position_covariance), 1 / np.array([1.0, 3.0]) / (1 - q), rtol=1e-11)
    assert np.all(matrix.autocorrelation_time("x^2") > 0)


def test_a_recipe_without_fifty_digits_warns_at_the_limit():
    """A user's recipe may need float64; where float64 cannot decide stability, the result is NaN with a warning."""

    def recipe(h, friction):
        return uldnum.integrator("BAOAB").recipe(np.arcsinh(np.sinh(h)), friction)

    scheme = uldnum.Integrator("mine", recipe)
    assert gaussian(scheme, 1.0).position_covariance == pytest.approx(1)
    assert max_stable_h(scheme) == pytest.approx(2, rel=1e-9)
    with pytest.warns(
        UserWarning, match=r"mine at h = 2, friction 1, precision 1: .* the limit of stability, h = 1.99999999"
    ):
        assert np.isnan(gaussian(scheme, 2.0).position_covariance)
    with pytest.raises(ValueError, match="precise: must be False for 'mine', whose recipe does not"):
        gaussian(scheme, 1.0, precise=True)


# Frictions in units of sqrt(precision), from values lost in float64 to values at which e^(-friction h) underflows.
FRICTIONS = [1e-16, 1e-12, 1e-5, 1.0, 1e5, 1e10]


@pytest.mark.parametrize("precision", [1e-8, 1e6])
@pytest.mark.parametrize("name", ["BAOAB", "OBABO", "OABAO", "baoab-limit", "ula"])
def test_the_limit_does_not_depend_on_friction(name, precision):
    for friction in FRICTIONS:
        limit = max_stable_h(name, precision=precision, friction=friction * precision**0.5)
        assert limit * precision**0.5 == pytest.approx(2, rel=1e-12)


def test_limits_in_closed_form():
    for friction in FRICTIONS:
        c = lambda h, friction=friction: np.exp(-friction * h)  # noqa: E731
        # Two leapfrogs and one thermostat: a margin is the product of two factors, and the limit is their first zero.
        limit = max_stable_h("ABAOABA", friction=friction)  # both vanish at h^2 = 8, where the margin touches zero
        assert limit == pytest.approx(8**0.5, rel=1e-12)
        limit = max_stable_h("BABAO", friction=friction)  # (2 - k) (1 - k + c) with k = h^2/4
        assert limit**2 / 4 == pytest.approx(1 + c(limit), rel=1e-11)
        # Two equal steps have the limit of one of them, beyond a resonance at which a margin is only (1 - c)^2/4.
        twice = max_stable_h("OBAOBA", friction=friction)
        assert twice / 2 == pytest.approx(max_stable_h("OBA", friction=friction), rel=1e-10)
        # M = [[1, h], [-h, 1 - friction h]]
        limit = max_stable_h("euler-maruyama", friction=friction)
        assert limit == pytest.approx(friction if friction < 2 else 4 / (friction + (friction**2 - 4) ** 0.5))


@pytest.mark.parametrize(
    "seed", [*range(15), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(15, 1000))]
)
def test_first_instability_of_random_words(seed):
    """Limits agree with a scan of the product of letters, with sixty digits where float64 cannot decide."""
    rng = np.random.default_rng(seed)
    letters = "UB" if seed % 4 == 0 else "ABO"
    word = "".join(rng.permutation(list(letters) + list(rng.choice(list(letters), size=rng.integers(0, 7)))))
    precision, friction = 10 ** rng.uniform(-8, 8), 10 ** rng.uniform(-12, 6)
    got = max_stable_h(word, precision=precision, friction=friction)
    assert got == pytest.approx(scanned_limit(word, precision, friction), rel=1e-11)


@pytest.mark.parametrize(("word", "friction"), [("OBAOBA", 1e-12), ("BABABAO", 1e-9), ("ABAOABA", 1e-12)])
def test_first_instability_is_certified(word, friction):
    """Interval arithmetic proves that no step below the limit is unstable, past resonances and up to a double zero."""
    assert max_stable_h(word, friction=friction) == pytest.approx(certified_limit(word, 1.0, friction), rel=1e-12)


@pytest.mark.parametrize("k", [1, 3])
def test_limits_of_other_numbers_of_rows(k):
    """A map 1 - h for k = 1, and a damped rotation with a decaying mode for k = 3, become unstable first at h = 2."""

    def recipe(h, friction):
        if k == 1:
            entries = [[-h]]
        else:
            # A rotation (1 - a^2, 2 a)/(1 + a^2) by the angle 2 arctan(a), times 1 - h^2 (2 - h)/9.
            size, a = 1 - h**2 * (2 - h) / 9, h / 4
            turn, lift = size * (1 - a**2) / (1 + a**2) - 1, size * 2 * a / (1 + a**2)
            entries = [[-(h**2) / 9, 0, 0], [0, turn, lift], [0, -lift, turn]]
        still = table(h, [0] * k)
        map = Affine(table(h, entries), still, table(h, [[h]] * k))
        return Step.on_step(first_row(still), map)

    assert max_stable_h(uldnum.Integrator("mine", recipe)) == pytest.approx(2, rel=1e-11)


@pytest.mark.filterwarnings("ignore:.* has no stationary distribution")
@pytest.mark.filterwarnings("ignore:word")
@pytest.mark.parametrize("word", ["BAB", "ABA", "BABAB"])
def test_without_noise_nothing_is_stable(word):
    """Rounding errors must not make some steps appear stable."""
    assert max_stable_h(word) == 0
    assert np.isnan(gaussian(word, np.geomspace(1e-3, 10, 300)).position_covariance).all()


def test_flows():
    """Flows agree with the closed form without force (the letter U) and preserve the equilibrium covariance."""
    M, Q = underdamped_flow(0.7, precision=1e-12, friction=1.3)
    for got, exact in zip((M, Q), ou_flow(0.7, 1.3), strict=True):
        np.testing.assert_allclose(got, exact, rtol=0, atol=1e-11)
    M, Q = underdamped_flow(0.7, precision=2.0, friction=1.3)
    S = np.diag([0.5, 1.0])
    np.testing.assert_allclose(M @ S @ M.T + Q, S, rtol=0, atol=1e-14)
    for t, friction in (
        (5.0, 10.0),
        (40.0, 1.0),
        (3.0, 0.01),
        (1e3, 5.0),
    ):  # also long after the initial state has decayed
        M, Q = underdamped_flow(t, precision=2.0, friction=friction)
        np.testing.assert_allclose(M @ S @ M.T + Q, S, rtol=0, atol=1e-12)
        assert np.abs(M).max() < 2 * np.exp(-0.3 * t * min(friction, 2 / friction))
    M, Q = overdamped_flow(0.7, precision=2.0)
    assert pytest.approx(np.exp(-1.4)) == M
    assert pytest.approx(0.5) == M * 0.5 * M + Q


@pytest.mark.parametrize(("t", "precision", "friction"), [(1e8, 1.0, 1e-12), (1e12, 1e-8, 1e6), (3.0, 1e6, 0.01)])
def test_long_flows(t, precision, friction):
    """Flows agree with the exponential of the drift matrix, from its eigenvalues in eighty digits."""
    with mpmath.workdps(80):
        rates, V = mpmath.eig(mpmath.matrix([[0, 1], [-mpmath.mpf(precision), -mpmath.mpf(friction)]]))
        M = (V * mpmath.diag([mpmath.exp(rate * t) for rate in rates]) * V**-1).apply(mpmath.re)
        S = mpmath.diag([1 / mpmath.mpf(precision), 1])
        exact = [np.array(part.tolist(), float) for part in (M, S - M * S * M.T)]
    for got, wanted in zip(underdamped_flow(t, precision, friction), exact, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"t": -0.1}, r"t: must not be negative, got -0\.1"),
        ({"t": np.nan}, "t: must be finite"),
        ({"t": [1.0, 2.0]}, "t: must be a number"),
        ({"t": None}, "t: must be a number"),
        ({"precision": 0.0}, "precision: must be positive"),
        ({"precision": "stiff"}, "precision: must be a number"),
        ({"precision": [1.0, 2.0]}, "precision: must be a number"),
    ],
)
@pytest.mark.parametrize("flow", [underdamped_flow, overdamped_flow])
def test_bad_arguments_of_flows(flow, arguments, fault):
    with pytest.raises(ValueError, match=f"^{fault}"):
        flow(**({"t": 1.0} | arguments))


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"friction": -1.0}, "friction: must be positive"),
        ({"friction": np.inf}, "friction: must be positive and finite"),
        ({"t": 1e40}, "t: must be at most 1e[+]30 times"),
    ],
)
def test_bad_arguments_of_the_underdamped_flow(arguments, fault):
    with pytest.raises(ValueError, match=f"^{fault}"):
        underdamped_flow(**({"t": 1.0} | arguments))


def test_shapes_that_do_not_broadcast_are_named():
    """The message names the arguments and their shapes instead of NumPy's operands."""
    h, friction = np.full(2, 0.1), np.ones(3)
    fault = r"^h, friction: must have shapes that broadcast, got h \(2,\), friction \(3,\)$"
    for call in (gaussian, uldnum.Integrator.stages):
        with pytest.raises(ValueError, match=fault):
            call("BAOAB" if call is gaussian else uldnum.integrator("BAOAB"), h, friction=friction)
    with pytest.raises(ValueError, match=r"^h, precision, friction: must have shapes that broadcast, got h \(2,\)"):
        propagator("BAOAB", h, precision=friction)


def test_a_diverged_run_on_a_narrow_gaussian_is_kept():
    """The warning names the limit, 2 standard deviations; computing the limit must not lose the run."""
    target = uldnum.GaussianMixture([1.0], [[0.0]], [1e-6])
    with pytest.warns(UserWarning, match=r"OBABO diverged at h = 0\.003 .* stable up to h = 0\.002 "):
        run = uldnum.sample(target, "OBABO", h=3e-3, steps=300, chains=4, backend="array")
    assert run.diverged == 4


@pytest.mark.filterwarnings("ignore:word:UserWarning")
def test_the_limit_on_a_wide_spectrum_is_that_of_the_largest_precision():
    """The limit for the first eigenvalue is below the smallest step size of the search for the second."""
    assert max_stable_h("BAOAB", precision=[1.0, 1e12]) == max_stable_h("BAOAB", precision=1e12)
    assert max_stable_h("BAB", precision=[1.0, 4.0]) == 0


def test_long_unstable_runs_overflow_without_warnings():
    M, Q = propagator("BAOAB", 3.0, steps=2**40)
    assert not np.isfinite(M).any()
    assert not np.isfinite(Q).any()


@pytest.mark.parametrize("name", ["BAOAB", "OBABO", "ABOBA", "OABAO", "UBU", "BUB", "BAOA"])
def test_local_error_in_all_entries(name):
    """The local error of M and Q, in x and p, is of the exact order weak + 1 in h."""
    weak = uldnum.integrator(name).order[0]

    def local(h):
        got, exact = propagator(name, h, precision=1.3, friction=0.9), underdamped_flow(h, 1.3, 0.9)
        return max(np.abs(a - b).max() for a, b in zip(got, exact, strict=True))

    assert np.log2(local(1 / 32) / local(1 / 64)) == pytest.approx(weak + 1, abs=0.1)


@pytest.mark.parametrize("name", ["mild(0.5)", "noise-denoise(1)"])
def test_stationary_order_zero(name):
    assert uldnum.integrator(name).order[1] == 0
    np.testing.assert_allclose(gaussian(name, 1e-3).position_covariance, 0.5, atol=1e-5)


@pytest.mark.parametrize("steps", [0, -1, 2.5, "3"])
def test_bad_numbers_of_steps_are_named(steps):
    with pytest.raises(ValueError, match=r"^steps: must be (an integer|at least 1)"):
        propagator("ula", 0.1, steps=steps)


def test_one_friction_at_a_time():
    with pytest.raises(ValueError, match=r"^friction: must be a number"):
        max_stable_h("UBU", friction=[1.0, 2.0])


def test_scales_that_fifty_digits_cannot_resolve_are_refused():
    for precision in (1e90, 1e-90):
        with pytest.raises(ValueError, match=r"precision, friction: friction/sqrt\(precision\) must be between"):
            uldnum.exact.max_stable_h("BAOAB", precision=precision)

"""Exact answers with a mass, in (x, p), against compositions of the letters with that mass."""

import numpy as np
import pytest
from helpers.reference import letter, stationary

import uldnum
from uldnum import exact

H, FRICTION, T = 0.6, 1.3, 2.5
WORDS = ("BAOAB", "ABOBA", "OBABO", "OABAO", "BAOA", "UBU", "BUB", "ABAOABA")
PRECISION = np.array([[1.0, 0.4], [0.4, 0.8]])
MATRIX = np.array([[2.0, 0.5], [0.5, 1.0]])  # its eigenvectors are rotated against those of the precision
MASSES = {"number": 4.0, "vector": [0.5, 3.0], "matrix": MATRIX, "inverse-covariance": "inverse-covariance"}


def full(value, d=2):
    """Return a number, a vector or a matrix as a matrix."""
    return np.asarray(value, float) if np.ndim(value) == 2 else np.diag(np.broadcast_to(np.asarray(value, float), d))


def step_with_mass(word, h, precision, friction, mass, temperature=1.0):
    """Return matrix and noise covariance of one step in (x, p), shape (4, 4), letter by letter.

    A is ``x += t M^-1 p``, and B is ``p -= t Lambda x``. The noise of p in O is ``sqrt(T (1 - c^2)) M^(1/2)``.
    """
    M, Q, eye = np.eye(4), np.zeros((4, 4)), np.eye(2)
    to_x, precision = np.linalg.inv(mass), full(precision)
    for name in word:
        m, q = letter(name, h / word.count(name), 1.0, friction)
        m = np.block([[m[0][0] * eye, m[0][1] * to_x], [m[1][0] * precision, m[1][1] * eye]])
        q = temperature * np.block([[q[0][0] * to_x, q[0][1] * eye], [q[1][0] * eye, q[1][1] * mass]])
        M, Q = m @ M, m @ Q @ m.T + q
    return M, Q


@pytest.mark.parametrize("mass", MASSES)
@pytest.mark.parametrize("precision", [PRECISION, [1.0, 0.3]], ids=["matrix", "eigenvalues"])
@pytest.mark.parametrize("word", WORDS)
def test_words_against_a_composition_of_their_letters(word, precision, mass):
    own = full(precision if mass == "inverse-covariance" else MASSES[mass])
    expected = stationary(*step_with_mass(word, H, precision, FRICTION, own, T))
    options = {"precision": precision, "friction": FRICTION, "temperature": T, "mass": MASSES[mass]}
    law = exact.gaussian(word, [0.1, H], **options)
    found = [law.position_covariance, law.momentum_covariance, law.cross_covariance]
    blocks = expected[:2, :2], expected[2:, 2:], expected[:2, 2:]
    for part, block in zip(found, blocks, strict=True):
        np.testing.assert_allclose(full(part[1]), block, rtol=1e-12, atol=1e-13)
    bias = expected[:2, :2] - T * np.linalg.inv(full(precision))
    np.testing.assert_allclose(full(law.position_bias[1]), bias, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("mass", MASSES)
def test_ula_is_preconditioned(mass):
    """``x' = x - delta M^-1 Lambda x + sqrt(2 delta) M^(-1/2) xi``."""
    own, delta = np.linalg.inv(full(PRECISION if mass == "inverse-covariance" else MASSES[mass])), H**2 / 2
    expected = stationary(np.eye(2) - delta * own @ PRECISION, 2 * delta * own)
    law = exact.gaussian("ula", H, precision=PRECISION, mass=MASSES[mass])
    np.testing.assert_allclose(law.position_covariance, expected, rtol=1e-13)
    assert np.isnan(law.momentum_covariance).all()


@pytest.mark.parametrize("mass", MASSES)
def test_autocorrelation_times(mass):
    """The geometric series of the map in (x, p), and of the squares of its terms for quadratic functions."""
    own = full(PRECISION if mass == "inverse-covariance" else MASSES[mass])
    M, Q = step_with_mass("BAOAB", H, PRECISION, FRICTION, own)
    S, w = stationary(M, Q), np.array([0.3, -1.0])
    law = exact.gaussian("BAOAB", H, precision=PRECISION, friction=FRICTION, mass=MASSES[mass])
    terms = [S]
    while abs(terms[-1]).max() > 1e-18:
        terms.append(M @ terms[-1])
    lags = np.array(terms)[:, :2, :2]
    of_one = {"x": np.diagonal(lags, axis1=1, axis2=2), "w": lags @ w @ w}
    for observable, power in (("x", 1), ("x^2", 2)):
        known = of_one["x"] ** power
        np.testing.assert_allclose(law.autocorrelation_time(observable), 2 * (known / known[0]).sum(0) - 1, rtol=1e-11)
    for observable, power in ((w, 1), (np.outer(w, w), 2)):
        known = of_one["w"] ** power
        np.testing.assert_allclose(law.autocorrelation_time(observable), 2 * (known / known[0]).sum() - 1, rtol=1e-11)
    radius = abs(np.linalg.eigvals(M)).max()
    np.testing.assert_allclose(law.spectral_radius, radius, rtol=1e-12)


def test_a_number_is_another_step_size_and_friction():
    """Mass m equals unit mass with h/sqrt(m) and sqrt(m) friction, also with a noisy score."""
    for precision in (1.7, [0.5, 1.7], PRECISION):
        given = {"precision": precision, "score_noise": 0.8}
        law = exact.gaussian("OBABO", h=H, friction=FRICTION, mass=3.0, **given)
        other = exact.gaussian("OBABO", h=H / 3**0.5, friction=3**0.5 * FRICTION, **given)
        np.testing.assert_allclose(law.position_covariance, other.position_covariance, rtol=1e-13)
        np.testing.assert_allclose(law.momentum_covariance, 3 * other.momentum_covariance, rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(law.cross_covariance, 3**0.5 * other.cross_covariance, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(law.autocorrelation_time("x^2"), other.autocorrelation_time("x^2"), rtol=1e-12)
    assert law.name == "OBABO with score noise 0.8 with mass 3"
    assert "with mass 3 on a Gaussian" in str(law)


def test_forms_of_one_coordinate():
    """A number, a vector and a matrix of one entry are the same mass, and results stay numbers."""
    laws = [exact.gaussian("UBU", H, precision=3.0, score_noise=0.8, mass=mass) for mass in (2.0, [2.0], [[2.0]])]
    for law in laws:
        assert law.position_covariance.shape == ()
        np.testing.assert_allclose(law.momentum_covariance, laws[0].momentum_covariance, rtol=1e-15)
        np.testing.assert_allclose(law.autocorrelation_time("x"), laws[0].autocorrelation_time("x"), rtol=1e-14)
        assert str(law)
    plain, one = (exact.gaussian("UBU", H, precision=[1.0, 3.0], mass=mass) for mass in (None, 1))
    np.testing.assert_array_equal(plain.covariance, one.covariance)
    assert plain.name == one.name


def test_rows_that_are_no_momenta_are_those_of_unit_mass():
    """The second row of mild is a stored normal, whose variance has no mass."""
    law = exact.gaussian("mild(0.5)", 0.3, precision=[1.0, 2.0], mass=[4.0, 0.25])
    other = exact.gaussian("mild(0.5)", 0.3, precision=[0.25, 8.0])
    np.testing.assert_allclose(law.momentum_covariance, other.momentum_covariance, rtol=1e-13)
    np.testing.assert_allclose(law.position_covariance, other.position_covariance * [0.25, 4.0], rtol=1e-13)


def test_limits_of_stability():
    """The inverse covariance makes every limit that of precision 1."""
    stiff = np.array([1.0, 1e4])
    assert exact.max_stable_h("BAOAB", precision=stiff) == pytest.approx(0.02)
    assert exact.max_stable_h("BAOAB", precision=stiff, mass="inverse-covariance") == pytest.approx(2.0)
    assert exact.max_stable_h("ula", precision=PRECISION, mass="inverse-covariance") == pytest.approx(2.0)
    limit = 2 / np.sqrt(np.linalg.eigvals(np.linalg.inv(MATRIX) @ PRECISION).max())
    assert exact.max_stable_h("OBABO", precision=PRECISION, mass=MATRIX) == pytest.approx(limit)
    with pytest.warns(UserWarning, match=r"stable below h = 2 \(max_stable_h\)"):
        exact.gaussian("BAOAB", 2.5, precision=stiff, mass=stiff)


def test_fifty_digits_know_the_mass():
    h, precision = np.array([1e-5, 0.2]), np.array([1.0, 5.0])
    law = exact.gaussian("OBABO", h, precision=precision, mass=[4.0, 0.5], precise=True)
    kappa = (h[:, None] ** 2 / 4) * precision / [4.0, 0.5]
    np.testing.assert_allclose(law.position_bias, kappa / (1 - kappa) / precision, rtol=1e-14)


@pytest.mark.parametrize("mass", [MATRIX, [0.5, 3.0]], ids=["matrix", "vector"])
def test_sampled_laws_agree(mass):
    """Each entry within 4 standard errors, once in 2,000 runs not; errors are below 0.02, unit mass is 0.1 off."""
    target = uldnum.GaussianMixture([1.0], [[0.0, 0.0]], covariances=[np.linalg.inv(PRECISION)])
    options = {"h": 1.2, "friction": 1.0, "mass": mass}
    given = {"steps": 400, "burn_in": 20, "chains": 1000, "seed": 5, "backend": "array", "progress": False}
    run = uldnum.sample(target, "OBABO", **given, **options)
    law = exact.gaussian("OBABO", precision=PRECISION, **options)
    assert np.all(abs(run.covariance - law.position_covariance) < 4 * run.covariance_error)
    assert np.all(run.covariance_error < 0.02)
    unit = exact.gaussian("OBABO", h=1.2, friction=1.0, precision=PRECISION)
    assert abs(unit.position_covariance - law.position_covariance).max() > 0.1
    p = np.cov(run.p.T)
    v = law.momentum_covariance
    error = np.sqrt((v**2 + np.outer(np.diag(v), np.diag(v))) / 1000)
    assert np.all(abs(p - v) < 4 * error)


# --------------------------------------------------------------------------------------------------- transfer operator


@pytest.mark.parametrize("name", ["ula", "BAOAB", "OBABO", "mild(0.5)"])
def test_transfer_operators_on_a_gaussian(name):
    options = {"h": 0.9, "friction": 0.8, "mass": 4.0, "temperature": 2.0, "score_noise": 0.3}
    found = exact.transfer_operator(name, "gaussian", tolerance=1e-4, **options)
    law = exact.gaussian(name, **options)
    np.testing.assert_allclose(found.expectation(np.square), law.position_covariance, rtol=3e-4)
    np.testing.assert_allclose(found.relaxation_time, law.relaxation_time, rtol=3e-4)
    assert found.problem.title.endswith(
        f"{name} at temperature 2 with score noise 0.3 with mass 4 at h = 0.9 on 'gaussian'"
    )


@pytest.mark.parametrize("name", ["ula", "BAOAB"])
def test_transfer_operators_in_other_coordinates(name):
    """The operator of ``y = 2 x`` with unit mass has the same eigenvalues, and its moments are those of 2 x."""
    bimodal, options = uldnum.target("bimodal-1d"), {"h": 0.9, "tolerance": 1e-3}
    scaled = uldnum.GaussianMixture(bimodal.weights, 2 * bimodal.means, 4 * bimodal.variances)
    found = exact.transfer_operator(name, bimodal, mass=4.0, **options)
    other = exact.transfer_operator(name, scaled, **options)
    assert found.resolution == other.resolution
    np.testing.assert_allclose(found.eigenvalues[:2], other.eigenvalues[:2], rtol=1e-9)
    np.testing.assert_allclose(2 * found.wasserstein_1, other.wasserstein_1, rtol=1e-7)
    for order in (1, 2):
        moments = [one.expectation(lambda x, order=order: x**order) for one in (found, other)]
        np.testing.assert_allclose(moments[0] * 2**order, moments[1], rtol=1e-9)
    smaller = exact.transfer_operator(name, bimodal, h=0.45, friction=2.0, tolerance=1e-3)
    np.testing.assert_allclose(found.cdf([-1.0, 0.5, 2.0]), smaller.cdf([-1.0, 0.5, 2.0]), atol=2e-3)


def test_a_recipe_with_its_own_friction():
    """A recipe that ignores the friction keeps it in the coordinate in which the mass is 1, as in runs."""
    known = uldnum.integrator("OBABO")
    fixed = uldnum.Integrator("fixed", lambda h, friction: known.recipe(h, 1.5 + 0 * friction), momenta=True)
    found = exact.transfer_operator(fixed, "gaussian", h=1.0, mass=9.0, tolerance=1e-4)
    law = exact.gaussian(fixed, h=1.0, mass=9.0)
    np.testing.assert_allclose(found.relaxation_time, law.relaxation_time, rtol=3e-4)


def test_the_inverse_variance_of_one_coordinate():
    well = uldnum.target("double-well")
    found, other = (
        exact.transfer_operator("ula", well, h=0.3, mass=mass, tolerance=1e-3)
        for mass in ("inverse-covariance", well.standard_deviation**-2)
    )
    np.testing.assert_allclose(found.relaxation_time, other.relaxation_time, rtol=1e-6)
    with pytest.raises(ValueError, match=r"^mass: the covariance of the target is not known"):
        exact.transfer_operator("ula", uldnum.UserTarget(lambda x: -x, 1), h=0.3, mass="inverse-covariance")


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("mass", "message"),
    [
        (0.0, "mass: must be positive"),
        ([1.0, 2.0, 3.0], "mass: must be a number, a vector, a matrix"),
        ([[1.0, 2.0], [2.0, 1.0]], "mass: the matrix must be positive definite"),
        ("covariance", "mass: must be a number"),
    ],
)
def test_refused_masses(mass, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        exact.gaussian("BAOAB", H, precision=PRECISION, mass=mass)


def test_refused_precisions_and_noise():
    with pytest.raises(ValueError, match=r"^precision: the matrix must be positive definite"):
        exact.gaussian("BAOAB", H, precision=[[1.0, 2.0], [2.0, 1.0]], mass="inverse-covariance")
    with pytest.raises(ValueError, match=r"^score_noise: with a precision matrix, must be one number"):
        exact.gaussian("BAOAB", H, precision=PRECISION, mass=[1.0, 2.0], score_noise=0.5)
    with pytest.raises(ValueError, match=r"^score_noise: must be 0 if the mass is a matrix"):
        exact.gaussian("BAOAB", H, precision=[1.0, 2.0], mass=[[1.0, 0.5], [0.5, 1.0]], score_noise=0.5)

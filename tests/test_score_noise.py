"""Score noise: every evaluation returns s + tau zeta, and maps that share an evaluation share its zeta."""

import sys
from functools import reduce

import numpy as np
import pytest
import xarray as xr
from helpers.catalogue import CATALOGUE
from helpers.reference import letter

import uldnum
from uldnum import exact, studies
from uldnum.cli import app
from uldnum.kernels.source.core import lay_out
from uldnum.schemes.form import Form
from uldnum.schemes.stage import Affine, Step, first_row, table
from uldnum.schemes.words import stage_starts

H, FRICTION, PRECISION, TAU = 0.7, 1.3, 1.7, 0.8
WORDS = ("BAOAB", "ABOBA", "OBABO", "OABAO", "BAOA", "UBU", "BUB", "ABAOABA", "BABOBAB", "BUUB")


def word_with_errors(word, h, precision, friction, tau, shared=True):
    """Return the stationary covariance of (x, p) at the end of a step of a word, composed letter by letter.

    The state is (x, p, e), where e is the error of the current score. A kick adds t (-precision x + e) to p. The letter
    before a new evaluation replaces e by a new draw. ``shared=False`` replaces it before every kick.
    """
    M, Q = np.eye(3), np.zeros((3, 3))
    for i, name in enumerate(word):
        if name == "B" and (not shared or i in stage_starts(word)):
            new = np.diag([1.0, 1.0, 0.0])
            M, Q = new @ M, new @ Q @ new + np.diag([0, 0, tau**2])
        m, q = np.eye(3), np.zeros((3, 3))
        t = h / word.count(name)
        m[:2, :2], q[:2, :2] = letter(name, t, precision, friction)
        m[1, 2] = t * (name == "B")
        M, Q = m @ M, m @ Q @ m.T + q
    n = 9
    solution = np.linalg.solve(np.eye(n) - np.kron(M, M), Q.ravel())
    return solution.reshape(3, 3)[:2, :2]


def ula_with_errors(h, precision, tau):
    """The closed form of ULA: (1 + delta tau^2/2)/(lambda (1 - delta lambda/2))."""
    delta = h**2 / 2
    return (1 + delta * tau**2 / 2) / (precision * (1 - delta * precision / 2))


# ---------------------------------------------------------------------------------------------------------- exact laws


@pytest.mark.parametrize(
    ("name", "half", "one"),
    [
        ("ula", (1.133333, np.nan), (1.666667, np.nan)),
        ("BAOAB", (1.272199, 1.146515), (1.721318, 1.195027)),
        ("UBU", (1.208844, None), (1.347548, None)),
    ],
)
def test_known_variances(name, half, one):
    law = exact.gaussian(name, [0.5, 1.0], score_noise=1.0)
    for i, (x, p) in enumerate((half, one)):
        assert law.position_covariance[i] == pytest.approx(x, abs=5e-7)
        if p is not None:
            assert law.momentum_covariance[i] == pytest.approx(p, abs=5e-7, nan_ok=True)


@pytest.mark.parametrize("precise", [False, True])
def test_closed_forms(precise):
    """BAOAB: Var(x) lambda = 1 + (delta tau^2/2) coth(gamma h/2)/(1 - kappa), with kappa = h^2 lambda/4."""
    given = {"precision": PRECISION, "friction": FRICTION, "score_noise": TAU, "precise": precise}
    ula, baoab = (exact.gaussian(name, H, **given) for name in ("ula", "BAOAB"))
    assert ula.position_covariance == pytest.approx(ula_with_errors(H, PRECISION, TAU), rel=1e-12)
    coth = 1 / np.tanh(FRICTION * H / 2)
    wanted = 1 + H**2 * TAU**2 / 4 * coth / (1 - H**2 * PRECISION / 4)
    assert baoab.position_covariance * PRECISION == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("word", WORDS)
def test_words_against_a_composition_of_their_letters(word):
    law = exact.gaussian(word, H, precision=PRECISION, friction=FRICTION, score_noise=TAU)
    known = word_with_errors(word, H, PRECISION, FRICTION, TAU)
    np.testing.assert_allclose(law.covariance[0], known, rtol=1e-12, atol=1e-14)


def test_kicks_that_share_an_evaluation_share_its_error():
    """With independent errors of the two half kicks, BAOAB would have the variances 1.136100 and 1.360659."""
    law = exact.gaussian("BAOAB", [0.5, 1.0], score_noise=1.0).position_covariance
    for h, right, wrong in ((0.5, law[0], 1.136100), (1.0, law[1], 1.360659)):
        assert word_with_errors("BAOAB", h, 1.0, 1.0, 1.0)[0, 0] == pytest.approx(right, rel=1e-12)
        assert word_with_errors("BAOAB", h, 1.0, 1.0, 1.0, shared=False)[0, 0] == pytest.approx(wrong, abs=5e-7)


def test_the_temperature_does_not_scale_the_errors():
    laws = [exact.gaussian("UBU", H, temperature=t, score_noise=s).covariance for t, s in ((1, 0), (1, TAU), (3, TAU))]
    plain, noisy, hot = laws
    np.testing.assert_allclose(hot - 3 * plain, noisy - plain, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(
        exact.gaussian("UBU", H, temperature=4.0, score_noise=2 * TAU).covariance, 4 * noisy, rtol=1e-12, atol=1e-14
    )  # fmt: skip


@pytest.mark.parametrize("name", [*CATALOGUE, "ABAOABA", "BABOBAB"])
def test_few_normals_and_the_same_joint_distribution(name):
    """The noise of open, stages and readout has the covariance of the exact step plus that of the errors."""
    plain = uldnum.integrator(name).stages(H, friction=FRICTION)
    step = plain.with_score_noise(np.array(TAU))
    k = step.rows
    for old, new in zip((*plain.stages[:-1], plain), (*step.stages[:-1], step), strict=True):
        a, b = (one.map if hasattr(one, "map") else one.open for one in (old, new))
        assert b.normals <= k
        np.testing.assert_allclose(b.C @ b.C.T, a.C @ a.C.T + TAU**2 * np.outer(a.b, a.b), atol=1e-14)
    assert step.stages[-1].map.normals <= k
    assert step.ends_with_stage == plain.ends_with_stage

    def together(one):
        m = one.stages[-1].map.C
        return np.concatenate([np.pad(m, ((0, 0), (0, one.readout_normals))), one.close.C])

    errors = np.concatenate([plain.stages[-1].map.b, plain.close.b])
    wanted = together(plain) @ together(plain).T + TAU**2 * np.outer(errors, errors)
    np.testing.assert_allclose(together(step) @ together(step).T, wanted, atol=1e-14)


def test_without_noise_the_tables_are_the_same_objects():
    step = uldnum.integrator("BAOAB").stages(H)
    assert step.with_score_noise(np.array(0.0)) is step


def test_schemes_of_users():
    def recipe(h, friction):
        map = Affine(table(h, [[0]]), table(h, [np.square(h) / 2]), table(h, [[h]]))
        return Step.on_step(first_row(map.b), map)

    mine = uldnum.Integrator("mine", recipe, score_noise=TAU)
    law = exact.gaussian(mine, H, precision=PRECISION)
    assert law.position_covariance == pytest.approx(ula_with_errors(H, PRECISION, TAU), rel=1e-12)


@pytest.mark.parametrize("name", ["ula", "BAOAB", "OABAO"])
def test_transfer_operators_on_a_gaussian(name):
    """Moments, mixing and autocorrelation times of the two exact methods agree."""
    given = {"friction": FRICTION, "score_noise": 1.0, "temperature": 1.5}
    law = exact.gaussian(name, H, **given)
    operator = exact.transfer_operator(name, "gaussian", H, tolerance=1e-4, **given)
    assert operator.expectation(np.square) == pytest.approx(float(law.position_covariance), abs=2e-4)
    assert operator.relaxation_time == pytest.approx(float(law.relaxation_time), rel=1e-3)
    times = operator.autocorrelation_times([lambda x: x, np.square])
    np.testing.assert_allclose(times, [law.autocorrelation_time(f) for f in ("x", "x^2")], atol=1e-2)


def test_noise_much_wider_than_the_target():
    """The errors move ULA by 7.5 standard deviations of N(0, 1) in a step. The spacing of the nodes is below 1."""
    found = exact.transfer_operator("ula", "gaussian", 0.5, score_noise=60.0, tolerance=1e-4)
    variance = exact.gaussian("ula", 0.5, score_noise=60.0).position_covariance
    assert found.expectation(np.square) == pytest.approx(float(variance), rel=1e-5)


def test_a_mixture_by_quadrature():
    """The law of ULA on a mixture is the fixed point of its Gaussian kernel, tabulated in the test."""
    x, h = np.linspace(-9, 9, 601), 0.8
    mean = x + h**2 / 2 * uldnum.target("bimodal-1d").score(x[:, None])[:, 0]
    kernel = np.exp(-(((x - mean[:, None]) / np.hypot(h, h**2 / 2 * TAU)) ** 2) / 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    law = reduce(lambda p, _: p @ kernel, range(400), np.full(601, 1 / 601))
    found = exact.transfer_operator("ula", "bimodal-1d", h, score_noise=TAU, tolerance=1e-6)
    assert found.expectation(np.square) == pytest.approx(law @ x**2, abs=2e-5)


def test_a_noisy_plan_shares_the_error_at_a_shared_boundary():
    """The law of a plan against a composition in which each evaluation has one error: e is part of the state."""
    levels, tau, h = uldnum.levels.geometric(2.0, 0.5, 3), 0.6, 0.5
    sigma = levels.sigma
    for boundary in ("own", "shared"):
        plan = uldnum.plan("BAOAB", levels, steps=2, h=h, score_noise=tau, boundary=boundary, denoise=False)
        law = exact.plan(plan, data_variance=0.3, start_variance=4.3).covariance[-1]
        covariance = np.diag([4.3, 1.0, 0.0])

        def apply(covariance, name, t, level):
            m, q = np.eye(3), np.zeros((3, 3))
            m[:2, :2], q[:2, :2] = letter(name, t, 1 / (0.3 + sigma[level] ** 2), 1 / sigma[level])
            m[1, 2] = t * (name == "B")
            return m @ covariance @ m.T + q

        def evaluated(covariance, level):
            new = np.diag([1.0, 1.0, 0.0])
            return new @ covariance @ new + np.diag([0, 0, (tau / sigma[level]) ** 2])

        covariance = evaluated(covariance, 0)
        for level in range(3):
            for step in range(2):
                t = h * sigma[level]
                covariance = apply(covariance, "B", t / 2, level)
                for name, share in (("A", t / 2), ("O", t), ("A", t / 2)):
                    covariance = apply(covariance, name, share, level)
                following = min(level + 1, 2) if boundary == "shared" and step == 1 else level
                covariance = evaluated(covariance, following)
                covariance = apply(covariance, "B", t / 2, following)
                if boundary == "own" and step == 1 and level < 2:
                    covariance = evaluated(covariance, level + 1)
        # with a shared boundary, friction and precision of the kick at the end are those of the next level
        np.testing.assert_allclose(law, covariance[:2, :2], rtol=1e-12, atol=1e-13)


def test_the_noise_of_a_plan_may_depend_on_the_level():
    levels = uldnum.levels.geometric(2.0, 0.5, 3)
    options = {"h": 0.5, "predictor": "ddim"}
    plain, noisy, other = (
        uldnum.plan("ula", levels, score_noise=noise, **options)
        for noise in (0.0, 0.4, lambda alpha, sigma: 0.4 * (sigma < 1.5) / alpha)
    )
    for i, (a, b, c) in enumerate(zip(plain.phases, noisy.phases, other.phases, strict=True)):
        (stage,), (own,), (part,) = (phase.step.stages for phase in (a, b, c))
        wanted = stage.map.C @ stage.map.C.swapaxes(1, 2) + (0.4 / a.sigma * stage.map.b[..., None]) ** 2
        np.testing.assert_allclose(own.map.C @ own.map.C.swapaxes(1, 2), wanted, rtol=1e-12)
        np.testing.assert_array_equal(part.map.C, own.map.C if a.sigma < 1.5 else stage.map.C)
        assert own.map.C.size, i  # predictors and the denoising step have noisy scores, too
    assert (plain.score_noise, noisy.score_noise, other.score_noise) == (0.0, 0.4, 0.4)
    assert uldnum.plan("heun", levels, score_noise=0.4).phases[0].step.stages[0].map.normals == 1
    with pytest.raises(ValueError, match=r"^score_noise: must be 0 with snr"):
        uldnum.plan("ula", levels, snr=0.2, score_noise=0.1)
    with pytest.raises(ValueError, match=r"^score_noise: must be between 0 and 1e\+50, got -2"):
        uldnum.plan("ula", levels, h=0.5, score_noise=lambda alpha, sigma: -sigma)


# -------------------------------------------------------------------------------------------------------------- chains


@pytest.mark.parametrize("backend", ["numba", "array"])
@pytest.mark.parametrize("name", ["BAOAB", "UBU"])
def test_sampled_laws_agree(name, backend):
    """Within 4 standard errors, once in 16,000 times not for each of 4 numbers.

    Standard errors are below 0.02. Independent errors of the half kicks of BAOAB would change Var(x) by 0.36.
    """
    options = {"h": 1.0, "steps": 400, "burn_in": 20, "chains": 600, "score_noise": 1.0, "backend": backend, "seed": 11}
    run, law = uldnum.sample("gaussian", name, **options), exact.gaussian(name, 1.0, score_noise=1.0)
    assert abs(run.covariance - law.position_covariance) < 4 * run.covariance_error
    assert run.covariance_error < 0.02


def test_momenta_and_positions_at_the_end_share_the_error():
    """Cov(x, p) at the end of steps of OABAO, where x and p depend on the same error, within 4 errors of 0.01."""
    options = {"h": 1.0, "steps": 1, "burn_in": 40, "chains": 30_000, "score_noise": 2.0, "backend": "array"}
    run = uldnum.sample("gaussian", "OABAO", **options)
    law, pairs = exact.gaussian("OABAO", 1.0, score_noise=2.0), run.x[:, 0] * run.p[:, 0]
    assert law.cross_covariance > 0.1
    assert abs(pairs.mean() - law.cross_covariance) < 4 * pairs.std() / len(pairs) ** 0.5
    assert abs((run.p**2).mean() - law.momentum_covariance) < 4 * (run.p**2).std() / len(pairs) ** 0.5


@pytest.mark.parametrize("name", ["BAOAB", "UBU", "ula"])
def test_one_step_has_the_law_of_the_propagator(name):
    """The matrix of its normals, from unit vectors, has the covariance of the propagator after one step."""

    def stepped(xi):
        given = {"h": H, "friction": FRICTION, "score": lambda x: -PRECISION * x, "score_noise": TAU, "xi": xi}
        x, p = uldnum.step(name, [0.0], None if name == "ula" else [0.0], **given)
        return x if p is None else np.concatenate([x, p])

    with pytest.raises(ValueError, match="needs normals of shape") as error:
        stepped(np.zeros((99, 1)))
    several = int(str(error.value).partition("shape (")[2].partition(",")[0])
    noise = np.stack([stepped(row[:, None]) for row in np.eye(several)], axis=1)
    _, Q = exact.propagator(name, H, precision=PRECISION, friction=FRICTION, score_noise=TAU)
    np.testing.assert_allclose(noise @ noise.T, Q, atol=1e-14)


def test_the_noise_of_a_network_is_in_units_of_its_noise_level():
    """On noised data at sigma = 0.5, h, friction and the noise of the score are in units of sigma and 1/sigma."""
    data = uldnum.targets.DataMixture(np.zeros((1, 1, 2, 2)))
    level = data.noised(1.0, 0.5)
    run = uldnum.sample(level, "UBU", h=0.8, steps=2, chains=3, score_noise=TAU)
    assert level.time_unit == 0.5
    absolute = uldnum.integrator("UBU").at(score_noise=TAU / 0.5).stages(np.array([0.8 * 0.5]), friction=1 / 0.5)
    np.testing.assert_array_equal(run.tables.C, lay_out([absolute], run.tables.C.dtype).C)


def test_resumed_runs_keep_their_bits(tmp_path):
    options = {"h": [0.3, 0.5], "chains": 5, "score_noise": TAU, "backend": "array"}
    whole, part = (uldnum.sample("gaussian", "UBU", steps=steps, **options) for steps in (9, 4))
    part.save(tmp_path / "part.nc")
    resumed = uldnum.sample("gaussian", "UBU", steps=9, resume=tmp_path / "part.nc", **options)
    np.testing.assert_array_equal(resumed.x, whole.x)
    np.testing.assert_array_equal(resumed.p, whole.p)
    np.testing.assert_array_equal(resumed.covariance, whole.covariance)
    assert xr.open_dataset(tmp_path / "part.nc").score_noise == TAU
    assert str(part).startswith("Run of UBU with score noise 0.8 on gaussian")
    with pytest.raises(ValueError, match=r"score_noise is 0\.0, was 0\.8"):
        uldnum.sample("gaussian", "UBU", steps=9, resume=part, **options | {"score_noise": None})


# ------------------------------------------------------------------------------------------- noise of each coordinate

TAUS, PRECISIONS = (0.0, 0.5, 2.0), (1.0, 1.7, 0.4)
THREE = uldnum.GaussianMixture([1.0], [[0.0, 0.0, 0.0]], variances=[1 / np.array(PRECISIONS)])


@pytest.mark.parametrize("precise", [False, True])
@pytest.mark.parametrize("word", WORDS)
def test_laws_of_coordinates_against_compositions_of_letters(word, precise):
    law = exact.gaussian(word, H, precision=PRECISIONS, friction=FRICTION, score_noise=TAUS, precise=precise)
    for own, precision, tau in zip(law.covariance, PRECISIONS, TAUS, strict=True):
        known = word_with_errors(word, H, precision, FRICTION, tau)
        np.testing.assert_allclose(own, known, rtol=1e-12, atol=1e-14)


def test_laws_of_coordinates_broadcast_and_scale_with_a_mass():
    """With masses m_i, coordinate i has the step h/sqrt(m_i) and the friction sqrt(m_i) friction."""
    h, friction, mass = np.array([[0.2], [0.6]]), np.array([0.5, 1.3]), np.array([1.0, 4.0, 0.5])
    law = exact.gaussian("UBU", h, precision=PRECISIONS, friction=friction, score_noise=TAUS, mass=mass)
    for i, m in enumerate(mass):
        alone = {"precision": PRECISIONS[i], "friction": friction * m**0.5, "score_noise": TAUS[i]}
        own = exact.gaussian("UBU", h / m**0.5, **alone)
        np.testing.assert_allclose(law.position_covariance[..., i], own.position_covariance, rtol=1e-12)
        np.testing.assert_allclose(law.momentum_covariance[..., i], m * own.momentum_covariance, rtol=1e-12)
    assert law.name == "UBU with a score noise vector with a mass vector"


@pytest.mark.parametrize("backend", ["numba", "array"])
@pytest.mark.parametrize(("name", "mass"), [("BAOAB", None), ("UBU", None), ("OABAO", (1.0, 4.0, 0.5))])
def test_sampled_laws_of_coordinates_agree(name, backend, mass):
    """Within 4 standard errors, once in 16,000 times not for each of 18 numbers.

    Without its noise, the variance of the third coordinate would be smaller by at least ten standard errors.
    """
    options = {"h": 0.7, "steps": 400, "burn_in": 40, "chains": 600, "score_noise": TAUS, "mass": mass, "seed": 11}
    run = uldnum.sample(THREE, name, backend=backend, **options)
    laws = [exact.gaussian(name, 0.7, precision=PRECISIONS, score_noise=tau, mass=mass) for tau in (TAUS, 0.0)]
    error = np.diagonal(run.covariance_error)
    wanted, without = (law.position_covariance for law in laws)
    assert np.all(np.abs(np.diagonal(run.covariance) - wanted) < 4 * error)
    assert wanted[2] - without[2] > 10 * error[2]


def test_chains_of_coordinates_have_the_same_law_on_both_backends_to_rounding():
    options = {"h": 0.3, "steps": 20, "chains": 7, "score_noise": TAUS, "temperature": 2.0}
    for name in ("UBU", "OABAO", "mild(0.38)"):
        one, other = (uldnum.sample(THREE, name, backend=backend, **options) for backend in ("numba", "array"))
        np.testing.assert_allclose(one.state.phase_space, other.state.phase_space, rtol=1e-5, atol=1e-6)


def test_equal_coordinates_are_one_number():
    options = {"h": 0.3, "steps": 5, "chains": 3, "backend": "array"}
    one, other = (uldnum.sample(THREE, "UBU", score_noise=tau, **options) for tau in (TAU, [TAU] * 3))
    assert one.settings == other.settings
    np.testing.assert_array_equal(one.state.phase_space, other.state.phase_space)
    laws = [exact.gaussian("UBU", H, precision=PRECISIONS, score_noise=tau).covariance for tau in (TAU, [TAU] * 3)]
    np.testing.assert_array_equal(*laws)


@pytest.mark.parametrize("name", ["BAOAB", "UBU", "ula"])
def test_one_step_of_coordinates_has_the_law_of_the_propagator(name):
    """As `test_one_step_has_the_law_of_the_propagator`, for coordinates with different errors."""

    def stepped(xi):
        zero, memory = np.zeros((len(xi), 3)), None if name == "ula" else np.zeros((len(xi), 3))
        given = {"h": H, "friction": FRICTION, "score": lambda x: -PRECISION * x, "score_noise": TAUS, "xi": xi}
        x, p = uldnum.step(name, zero, memory, **given)
        return np.stack([x] if p is None else [x, p])

    with pytest.raises(ValueError, match="needs normals of shape") as error:
        stepped(np.zeros((1, 99, 3)))
    several = int(str(error.value).partition("shape (1, ")[2].partition(",")[0])
    noise = stepped(np.repeat(np.eye(several)[..., None], 3, axis=2))
    for i, tau in enumerate(TAUS):
        _, Q = exact.propagator(name, H, precision=PRECISION, friction=FRICTION, score_noise=tau)
        np.testing.assert_allclose(noise[..., i] @ noise[..., i].T, Q, atol=1e-14)


def test_runs_with_noise_of_each_coordinate_are_stored(tmp_path):
    options = {"h": [0.3, 0.5], "chains": 5, "score_noise": TAUS, "backend": "array"}
    whole, part = (uldnum.sample(THREE, "UBU", steps=steps, **options) for steps in (9, 4))
    part.save(tmp_path / "part.nc")
    resumed = uldnum.sample(THREE, "UBU", steps=9, resume=tmp_path / "part.nc", **options)
    np.testing.assert_array_equal(resumed.p, whole.p)
    assert resumed.settings.score_noise == TAUS
    assert xr.open_dataset(tmp_path / "part.nc").score_noise.tolist() == list(TAUS)
    assert str(part).startswith("Run of UBU with a score noise vector on mixture")
    with pytest.raises(ValueError, match="standard deviations of the errors of the score differ"):
        uldnum.sample(THREE, "UBU", steps=9, resume=part, **options | {"score_noise": [0.0, 0.5, 1.0]})


def test_studies_accept_an_integrator_with_noise_of_each_coordinate(tmp_path):
    """Stored points of integrators that differ only in the noise of coordinates are different points."""
    taus = ([0.5, 0.5, 0.0], [2.0, 0.5, 0.0])
    schemes = [uldnum.integrator("ula").at(score_noise=tau) for tau in taus]
    options = {"friction": 1.0, "progress": False, "store": tmp_path}
    found = [studies.exact_bias(THREE, scheme, [0.5], **options) for scheme in schemes]
    assert [one.score_noise for one in found] == [tuple(tau) for tau in taus]
    one, other = (float(study.exact.sel(metric="second_moment").squeeze()) for study in found)
    assert other > 1.1 * one


def test_refused_vectors():
    vector = [0.5, 2.0]
    for call in (
        lambda: exact.gaussian("ula", H, precision=PRECISIONS, score_noise=vector),
        lambda: uldnum.sample(THREE, "ula", h=H, steps=1, chains=1, score_noise=vector),
        lambda: uldnum.step(
            "ula", np.zeros((1, 3)), h=H, score=np.negative, score_noise=vector, xi=np.zeros((1, 2, 3))
        ),
    ):
        with pytest.raises(ValueError, match=r"^score_noise: must be a number or have shape \(3,\), got shape \(2,\)"):
            call()
    for call in (
        lambda: exact.transfer_operator("ula", "bimodal-1d", 0.5, score_noise=vector),
        lambda: exact.propagator("ula", H, score_noise=vector),
        lambda: exact.gaussian("ula", H, precision=np.eye(2) + 0.5, score_noise=vector),
        lambda: exact.gaussian("ula", H, score_noise=[vector]),
        lambda: uldnum.sample(
            uldnum.targets.DataMixture(np.zeros((1, 1, 2, 2))).noised(1.0, 0.5), "ula", h=H, steps=1, score_noise=vector
        ),
    ):
        with pytest.raises(ValueError, match=r"^score_noise: "):
            call()


# ----------------------------------------------------------------------------------------------------------- interface


def test_studies_and_the_shell(monkeypatch, capsys, tmp_path):
    """The exact bias of ULA, in the shell and in Python, is that of the closed form."""
    bias = (ula_with_errors(0.5, 1.0, 1.0) - 1) / 2**0.5
    found = studies.exact_bias("gaussian", "ula", [0.5], score_noise=1.0, friction=1.0, progress=False)
    assert float(found.exact.sel(metric="second_moment").squeeze()) == pytest.approx(bias, rel=1e-12)
    arguments = "bias --exact-only --target gaussian --integrators ula --h 0.5 --score-noise 1 --out"
    monkeypatch.setattr(sys, "argv", ["uldnum", *arguments.split(), str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        app.main()
    assert not end.value.code
    assert "on gaussian with score noise 1, in" in capsys.readouterr().out
    stored = xr.load_dataset(tmp_path / "bias.nc")
    assert stored.score_noise == 1.0
    assert float(stored.exact.sel(metric="second_moment").squeeze()) == pytest.approx(bias, rel=1e-12)


@pytest.mark.parametrize(
    ("noise", "fault"),
    [
        (-1.0, r"between 0 and 1e\+50, got -1"), (np.nan, "between"), (np.inf, "between"), (1e155, "between"),
        ("loud", "(a number or one number|one number for all coordinates, or) .*, got 'loud'"),
        ([1.0, 2.0], r"(a number or have|one number for all coordinates, or) .*, got shape \(2,\)"),
    ],
)  # fmt: skip
def test_score_noise_is_a_number(noise, fault):
    with pytest.raises(ValueError, match=f"^score_noise: must be {fault}"):
        exact.gaussian("ula", h=1.0, score_noise=noise)
    levels = uldnum.levels.geometric(2.0, 0.5, 3)
    for given in (noise, lambda alpha, sigma: noise):
        with pytest.raises(ValueError, match=f"^score_noise: must be {fault}"):
            uldnum.plan("ula", levels, h=1.0, score_noise=given)


@pytest.mark.parametrize("precision", [1e-100, 1.0, 1e100])
@pytest.mark.parametrize("temperature", [1e-50, 1.0, 1e50])
@pytest.mark.parametrize("tau", [0.0, 1e50])
def test_the_largest_noise_and_temperatures_have_the_closed_form(precision, temperature, tau):
    """Beyond the limits, squares of the noise would overflow or be lost; see `test_score_noise_is_a_number`."""
    h = precision**-0.5
    law = exact.gaussian("ula", h=h, precision=precision, temperature=temperature, score_noise=tau)
    expected = (temperature + h**2 / 4 * tau**2) / (precision * (1 - h**2 / 4 * precision))
    np.testing.assert_allclose(law.position_covariance, expected, rtol=1e-12)


def test_stability_and_orders_do_not_depend_on_it():
    noisy = uldnum.integrator("BAOAB").at(score_noise=TAU)
    assert exact.max_stable_h(noisy) == exact.max_stable_h("BAOAB")
    assert "score_noise  0.8" in str(noisy)
    assert exact.measured_orders(uldnum.integrator("ula").at(score_noise=TAU)) == exact.measured_orders("ula")


def test_a_distribution_much_wider_than_the_target_is_refused():
    """A grid that contains it would need more memory than there is."""
    with pytest.raises(exact.ConvergenceError, match=r"about 2\.6e\+02 times as wide as the target"):
        exact.transfer_operator("ula", "bimodal-1d", 0.5, score_noise=1000.0)


class Answering(uldnum.targets.Target):
    """N(0, 1) in two dimensions at alpha = 0.6 and sigma = 0.8, with the noise 0.8 z as its answer."""

    name, shape = "answering", (2,)
    mean, standard_deviation = np.zeros(2), np.ones(2)
    form = Form.of((1 / 0.6, -0.8 / 0.6), (0.0, 1.0), 0.8)

    def score(self, x):
        return -x

    def answer(self, x):
        return 0.8 * x


def test_errors_of_coordinates_are_those_of_the_score_if_tables_are_in_terms_of_answers():
    """Chains equal those of a mixture, with the same random numbers. Errors of the answer would be larger by 1/4."""
    x0 = np.random.default_rng(1).normal(size=(5, 2))
    run, plain = (
        uldnum.sample(target, "UBU", h=0.5, steps=5, chains=5, x0=x0, score_noise=[0.3, 2.0], backend="array",
                      record=None, progress=False)
        for target in (Answering(), uldnum.GaussianMixture([1.0], [np.zeros(2)], [1.0]))
    )  # fmt: skip
    np.testing.assert_allclose(run.x, plain.x, rtol=0, atol=1e-13)

"""Plans: exact answers on Gaussian data, runs against maps with the same normals, counts of evaluations, and levels."""

from dataclasses import replace

import array_api_strict as strict
import numba
import numpy as np
import pytest
from helpers.networks import levels_of_betas, vp_linear
from helpers.normals import normals
from helpers.onnx_models import save_mixture
from helpers.plans import stop_and_go_on

import uldnum
from uldnum import levels
from uldnum.exact import plan as law_of
from uldnum.exact import propagator
from uldnum.kernels.initial import initial_normals
from uldnum.kernels.numba.executor import NumbaExecutor
from uldnum.kernels.source.core import DYNAMICS, READOUT, lay_out
from uldnum.networks.forms import form
from uldnum.plans import presets, schedules
from uldnum.sampling import launch
from uldnum.sampling._anneal import phase_seeds
from uldnum.sampling.lookup import find_data
from uldnum.schemes.adaptive import Adaptive
from uldnum.schemes.form import Form
from uldnum.schemes.predictors import PREDICTORS, Move, NoiseLevel, embedded

LEVELS = levels.geometric(5.0, 0.1, 6)
VP = levels.vp_sde(6, last=0.05)
DATA = {"data_mean": 1.5, "data_variance": 0.5}
MIXTURE = uldnum.GaussianMixture([1.0], [[1.5]], [0.5])

PLANS = {
    "ALD": lambda at: uldnum.plan("ula", at, steps=3, h=0.5),
    "MILD": lambda at: uldnum.plan("mild(0.3)", at, steps=2, eps=0.01),
    "MILD, rescaled": lambda at: uldnum.plan("mild(0.3)", at, steps=2, h=0.3, momentum="rescaled"),
    "BAOAB": lambda at: uldnum.plan("BAOAB", at, steps=3, h=0.5, friction=2.0),
    "BAOAB, shared": lambda at: uldnum.plan("BAOAB", at, steps=3, h=0.5, boundary="shared"),
    "three stages, shared": lambda at: uldnum.plan("BABAOABAB", at, steps=2, h=0.9, boundary="shared"),
    "OBABO, shared, refreshed": lambda at: uldnum.plan("OBABO", at, h=0.7, boundary="shared", momentum="refreshed"),
    "UBU, refreshed": lambda at: uldnum.plan("UBU", at, steps=2, h=0.6, momentum="refreshed"),
    "baoab-limit": lambda at: uldnum.plan("baoab-limit", at, steps=2, h=1.0, denoise=False),
    "predictor-corrector": lambda at: uldnum.plan("ula", at, h=0.3, predictor="reverse-diffusion"),
    "Heun and BAOAB": lambda at: uldnum.plan("BAOAB", at, h=0.3, steps=2, predictor="heun(0.1)"),
    **{
        name: lambda at, name=name: uldnum.plan(name, at)
        for name in ("ddim", "ddim(0.5)", "ancestral", "reverse-diffusion", "edm-euler(0.3)", "heun", "heun(0.2)",
                     "dpm-solver++")
    },
}  # fmt: skip


# ------------------------------------------------------------------------------------------------- exact distributions


def test_annealed_langevin_at_the_constants_of_ncsn():
    """On data of variance 0, v <- (1 - delta/sigma^2)^2 v + 2 delta in every step (eps = 6.2e-6, L = 232, T = 5)."""
    every = levels.geometric(50, 0.01, 232)
    run = uldnum.plan("ula", every, steps=5, eps=6.2e-6)
    law = law_of(run, data_variance=0.0, start_variance=every.sigma[0] ** 2)
    np.testing.assert_allclose(law.covariance[-2, 0, 0] / every.sigma[-1] ** 2, 1.1283, atol=5e-5)
    variance = every.sigma[0] ** 2
    for sigma, got in zip(every.sigma, law.covariance[:, 0, 0], strict=False):
        delta = 6.2e-6 * (sigma / 0.01) ** 2
        for _ in range(5):
            variance = (1 - delta / sigma**2) ** 2 * variance + 2 * delta
        np.testing.assert_allclose(got, variance, rtol=1e-12)
    one = uldnum.plan("ula", levels.given([1.0]), steps=5, h=np.sqrt(2 * 6.2e-2), denoise=False)
    ratio = (every.sigma[0] / every.sigma[1]) ** 2
    np.testing.assert_allclose(
        law_of(one, data_variance=0.0, start_variance=ratio).covariance[-1, 0, 0], 1.0555, atol=5e-5
    )


@pytest.mark.parametrize(("name", "friction"), [("BAOAB", 0.8), ("OBABO", 2.0), ("mild(0.5)", 1.0), ("ABAOABA", 1.0)])
def test_phases_equal_the_propagator_about_the_mean_of_their_level(name, friction):
    """Each phase has the distribution of the propagator of the integrator about alpha times the mean of the data."""
    run = uldnum.plan(name, VP, steps=3, h=0.4, friction=friction, denoise=False)
    law = law_of(run, **DATA, start_mean=-0.5, start_variance=2.0)
    mean, covariance = np.array([-0.5, 0.0]), np.diag([2.0, run.memory[0] ** 2])
    for alpha, sigma, got_mean, got in zip(VP.alpha, VP.sigma, law.mean, law.covariance, strict=True):
        precision = 1 / (alpha**2 * 0.5 + sigma**2)
        M, Q = propagator(name, 0.4 * sigma, precision=precision, friction=friction / sigma, steps=3)
        centre = np.array([alpha * 1.5, 0.0])
        mean, covariance = centre + M @ (mean - centre), M @ covariance @ M.T + Q
        np.testing.assert_allclose(got_mean, mean, rtol=0, atol=1e-12)
        np.testing.assert_allclose(got, covariance, rtol=0, atol=1e-12)


def factors(name, at, variance):
    """Factors by which the steps of a deterministic predictor multiply x, for data with mean 0."""
    law = law_of(uldnum.plan(name, at, denoise=False), data_variance=variance, start_variance=1.0)
    return np.sqrt(law.covariance[:, 0, 0] / np.concatenate([[1.0], law.covariance[:-1, 0, 0]]))


def test_ddim_multiplies_by_its_factor():
    """DDIM on data of variance S: (S + sigma sigma')/(S + sigma^2) for VE; for VP with ratios, times alpha'/alpha."""
    s, t = LEVELS.sigma[:-1], LEVELS.sigma[1:]
    np.testing.assert_allclose(factors("ddim", LEVELS, 0.7), (0.7 + s * t) / (0.7 + s**2), rtol=1e-13)
    np.testing.assert_allclose(factors("edm-euler", LEVELS, 0.7), (0.7 + s * t) / (0.7 + s**2), rtol=1e-13)
    r, q = VP.ratio[:-1], VP.ratio[1:]
    scale = VP.alpha[1:] / VP.alpha[:-1]
    np.testing.assert_allclose(factors("ddim", VP, 0.7), scale * (0.7 + r * q) / (0.7 + r**2), rtol=1e-13)


ANSWERS = {
    # What the network predicts: the row of DDIM's table in z and N, for a noise level (a, s) and the next one (b, t).
    "score": lambda a, s, b, t: (b / a, b * s**2 / a - s * t),
    "epsilon": lambda a, s, b, t: (b / a, t - b * s / a),
    "noise": lambda a, s, b, t: (b / a, t / s - b / a),
    "denoiser": lambda a, s, b, t: (t / s, b - t * a / s),
    "v": lambda a, s, b, t: (a * b + s * t, t * a - b * s),
    "edm": lambda a, s, b, t: (
        (a * b * 0.25 + s * t) / (s**2 + 0.25 * a**2), 0.5 * (s * b - a * t) / (s**2 + 0.25 * a**2) ** 0.5
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", ANSWERS)
def test_ddim_in_the_answer_of_a_network_has_closed_forms(what):
    at = LEVELS if what == "edm" else VP
    phases = uldnum.plan("ddim", at, denoise=False).phases
    for n, phase in enumerate(phases):
        a, s, b, t = at.alpha[n], at.sigma[n], at.alpha[n + 1], at.sigma[n + 1]
        map = phase.answered(form(what, a, s, 0.5)).close
        np.testing.assert_allclose([map.dA[0, 0, 0] + 1, map.b[0, 0]], ANSWERS[what](a, s, b, t), rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", [*PREDICTORS, "ddim(0.5)", "heun(0.2)"])
@pytest.mark.parametrize("what", [name for name in ANSWERS if name != "edm"])
def test_predictors_in_the_answer_of_a_network_equal_those_in_the_score(name, what):
    """Substituting the score for the answer in the tables gives the tables in the score, also with an error of it."""
    for plan in (uldnum.plan(name, VP), uldnum.plan(name, VP, score_noise=0.3)):
        for phase in plan.phases:
            answer = form(what, phase.alpha, phase.sigma, 0.5)
            ours, theirs = (phase.answered(one).stages[0].map for one in (answer, None))
            # N = (s - a z)/b, where the score is s = a z + b N.
            a, b = answer.score
            dA, score = ours.dA.copy(), ours.b / b
            dA[..., 0] -= a / b * ours.b
            room = 1e-13 * max(1, np.abs(ours.dA).max(), np.abs(theirs.dA).max())
            np.testing.assert_allclose(dA, theirs.dA, rtol=0, atol=room)
            np.testing.assert_allclose(score, theirs.b, rtol=0, atol=room)
            np.testing.assert_array_equal(ours.C, theirs.C)


@pytest.mark.parametrize(
    ("name", "order"), [("ddim", 1), ("edm-euler", 1), ("ddim(0.5)", 1), ("ancestral", 1), ("reverse-diffusion", 1),
                        ("heun", 2), ("dpm-solver++", 2)]
)  # fmt: skip
@pytest.mark.parametrize("family", ["VE", "VP"])
def test_predictors_converge_at_their_order(name, order, family):
    """The error of the final variance decreases with the number of levels at the order of the predictor."""

    def error(count):
        at = levels.geometric(20.0, 0.05, count) if family == "VE" else levels.vp_sde(count, last=0.01)
        start = at.alpha[0] ** 2 * 0.7 + at.sigma[0] ** 2
        law = law_of(uldnum.plan(name, at, denoise=False), data_variance=0.7, start_variance=start)
        return abs(law.covariance[-1, 0, 0] / (at.alpha[-1] ** 2 * 0.7 + at.sigma[-1] ** 2) - 1)

    slope = np.log2(error(400) / error(800))
    assert slope == pytest.approx(order, abs=0.15)


def test_ancestral_is_exact_for_data_without_variance():
    """For data of variance 0, DDIM with eta = 1 has the exact variance at every level."""
    for at in (LEVELS, VP):
        law = law_of(uldnum.plan("ancestral", at, denoise=False), data_variance=0.0, start_variance=at.sigma[0] ** 2)
        np.testing.assert_allclose(law.covariance[:, 0, 0], at.sigma[1:] ** 2, rtol=1e-12)


def letter_by_letter(momentum, boundary):
    """Covariance of (x, p) after two steps of OBABO at each of two levels, by a product over the letters."""
    sigmas, friction, h, law = (1.0, 0.4), 1.3, 0.6, np.diag([2.0, 1.0])
    # Each entry is a letter, its level, and the level of its score. With a shared boundary, the last B of the first
    # level has the score of the second level.
    letters = [(letter, level, level) for level in (0, 0, 1, 1) for letter in "OBABO"]
    if boundary == "shared":
        letters[8] = ("B", 0, 1)
    letters.insert(10, ("M", 0, 0))
    for letter, level, scored in letters:
        sigma, step, noise = sigmas[level], h * sigmas[level], 0.0
        if letter == "A":
            map = np.array([[1, step], [0, 1]])
        elif letter == "B":
            map = np.array([[1, 0], [-step / 2 / (0.5 + sigmas[scored] ** 2), 1]])
        elif letter == "O":
            c = np.exp(-friction / sigma * step / 2)
            map, noise = np.diag([1, c]), 1 - c**2
        else:
            map = np.diag([1, {"kept": 1, "rescaled": sigmas[1] / sigmas[0], "refreshed": 0}[momentum]])
            noise = float(momentum == "refreshed")
        law = map @ law @ map.T + np.diag([0, noise])
    return law


@pytest.mark.parametrize("momentum", ["kept", "rescaled", "refreshed"])
@pytest.mark.parametrize("boundary", ["own", "shared"])
def test_boundaries_letter_by_letter(momentum, boundary):
    run = uldnum.plan(
        "OBABO", levels.given([1.0, 0.4]), steps=2, h=0.6, friction=1.3, momentum=momentum, boundary=boundary,
        denoise=False,
    )  # fmt: skip
    law = law_of(run, data_variance=0.5, start_variance=2.0)
    np.testing.assert_allclose(law.covariance[-1], letter_by_letter(momentum, boundary), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("momentum", ["rescaled", "refreshed"])
def test_momentum_option_does_not_affect_the_memory_of_a_predictor(momentum):
    """ULA has no momenta, so the option does not change ULA with DPM-Solver++ between the levels."""
    usual, other = (
        law_of(uldnum.plan("ula", LEVELS, h=0.3, predictor="dpm-solver++", momentum=name), **DATA)
        for name in ("kept", momentum)
    )
    np.testing.assert_array_equal(usual.covariance, other.covariance)
    np.testing.assert_array_equal(usual.mean, other.mean)


@pytest.mark.parametrize(
    ("name", "levels_", "steps", "first", "last", "beta"),
    [
        # The numbers are delta at the first and at the last level, eps (sigma_1/sigma_L)^2 and eps.
        ("ald-cifar10", 232, 5, 6.2e-6 * 25e6, 6.2e-6, None), ("ald-celeba", 500, 5, 3.3e-6 * 81e6, 3.3e-6, None),
        ("mild-ncsn", 10, 50, 2e-5 * 1e4, 2e-5, 0.22), ("mild-cifar10", 232, 1, 6.2e-6 * 25e6, 6.2e-6, 0.38),
        ("mild-cifar10-5", 232, 5, 6.2e-6 * 25e6, 6.2e-6, 0.1), ("mild-celeba", 500, 1, 3.3e-6 * 81e6, 3.3e-6, 0.4),
    ],
)  # fmt: skip
def test_plans_of_the_literature(name, levels_, steps, first, last, beta):
    run = uldnum.preset(name)
    denoised = name != "mild-ncsn"
    assert (len(run.phases), run.steps) == (levels_ + denoised, levels_ * steps + denoised)
    for phase, delta in ((run.phases[0], first), (run.phases[levels_ - 1], last)):
        map = phase.step.stages[0].map
        np.testing.assert_allclose([map.b[0, 0], map.C[0, 0, 0] ** 2 / 2], delta, rtol=1e-9)
        if beta is not None:
            assert phase.step.stages[0].G[0].tolist() == [1, beta]
    assert run.x0 == ("target" if beta is None else "normal")
    if levels_ == 10:
        start = uldnum.anneal(MIXTURE, run, chains=3, seed=4, progress=False)
        same = uldnum.anneal(MIXTURE, run, chains=3, seed=4, x0=initial_normals(3, 4, 0, 0, 1), progress=False)
        np.testing.assert_array_equal(start.x, same.x)


@pytest.mark.parametrize("name", ["ula", "mild(0.38)", "BAOAB", "UBU", "OBABO", "exponential-euler"])
def test_tables_of_a_plan_equal_tables_of_single_levels(name):
    """Tables that are computed for all levels at once have the same bits as tables of each level separately."""
    at = levels.karras(50, 0.01, 7)
    scheme = uldnum.integrator(name)
    phases = uldnum.plan(name, at, h=0.4, friction=2.0, denoise=False).phases
    for phase, sigma in zip(phases, at.sigma, strict=True):
        alone = scheme.stages(np.array([0.4 * sigma]), friction=2.0 / sigma)
        got, expected = (lay_out([step], np.dtype(float)) for step in (phase.step, alone))
        for part, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(part, other)


def test_the_predictor_corrector_of_the_literature():
    """pc-cifar10 has 1000 levels from 50 to 0.01, one step of ULA with r = 0.16 at each, and a predictor in between."""
    run = uldnum.preset("pc-cifar10")
    correctors, predictors = run.phases[:-1:2], run.phases[1:-1:2]
    sigma = np.geomspace(50, 0.01, 1000)
    np.testing.assert_allclose([phase.sigma for phase in correctors], sigma, rtol=1e-12)
    assert {(phase.rule.snr, phase.rule.scale, phase.rule.coupled) for phase in correctors} == {(0.16, 1.0, False)}
    # x + (s^2 - s'^2) score + sqrt(s^2 - s'^2) z
    gaps = -np.diff(sigma**2)
    np.testing.assert_allclose([phase.step.stages[0].map.b[0, 0] for phase in predictors], gaps, rtol=1e-9)
    np.testing.assert_allclose([phase.step.stages[0].map.C[0, 0, 0] ** 2 for phase in predictors], gaps, rtol=1e-9)


def test_a_network_runs_at_any_scale(tmp_path):
    """A VP network equals the exact mixture on VE levels and with churn, where alpha^2 + sigma^2 is not 1."""
    mixture = uldnum.GaussianMixture([0.5, 0.5], np.random.default_rng(0).normal(size=(2, 12)), [0.1, 0.4])
    path = save_mixture(tmp_path / "net.onnx", mixture, (2, 2, 3), "epsilon", vp_linear)
    card = {"parameterisation": "epsilon", "scaling": "vp", "condition": "t", "condition_scale": 999.0}
    card |= {"schedule": {"kind": "vp-sde", "beta_start": 0.1, "beta_end": 20.0}, "data_range": (-4.0, 4.0)}
    net = uldnum.networks.Network(path, card)
    x0 = np.random.default_rng(1).normal(size=(3, 12))
    for name, at in (("heun(0.1)", levels.vp_sde(6, last=0.05).below(0.99)), ("ddim", levels.geometric(5.0, 0.1, 6)),
                     ("BAOAB", levels.geometric(5.0, 0.1, 6))):  # fmt: skip
        run = PLANS[name](at) if name != "heun(0.1)" else uldnum.plan(name, at)
        ours = uldnum.anneal(net, run, chains=3, x0=x0.reshape(3, 2, 2, 3), dtype="float64", progress=False)
        theirs = uldnum.anneal(mixture, run, chains=3, x0=x0, backend="array", progress=False)
        np.testing.assert_allclose(ours.x.reshape(3, 12), theirs.x, atol=2e-4)


def test_levels_of_a_network_follow_its_schedule(tmp_path):
    """The levels are at integer timesteps for discrete betas, and at continuous t for an SDE."""
    mixture = uldnum.GaussianMixture([1.0], [np.zeros(12)], [0.3])
    betas = np.linspace(1e-4, 0.02, 1000)
    kept = np.cumprod(1 - betas)
    path = save_mixture(tmp_path / "net.onnx", mixture, (2, 2, 3), "v", levels_of_betas(betas))
    steps = {"kind": "linear", "beta_start": 1e-4, "beta_end": 0.02, "timesteps": 1000}
    card = {"parameterisation": "v", "scaling": "vp", "condition": "timestep", "schedule": steps}
    net = uldnum.networks.Network(path, card)
    at = net.levels(4)
    np.testing.assert_allclose(at.alpha**2, kept[[999, 666, 333, 0]], rtol=1e-12)
    run = uldnum.anneal(net, uldnum.plan("ddim", at), chains=3, seed=1, progress=False)
    start = net.at(t=999).sample(3, seed=1).reshape(3, 12)
    exact = uldnum.anneal(mixture, uldnum.plan("ddim", at), chains=3, x0=start, dtype="float32", progress=False)
    np.testing.assert_allclose(run.x.reshape(3, 12), exact.x, atol=1e-4)
    with pytest.raises(ValueError, match="count: must be at most 1000, the number of timesteps, got 1001"):
        net.levels(1001)
    with pytest.raises(ValueError, match="levels: mnist has no schedule"):
        uldnum.networks.network().levels(3)
    continuous = card | {"condition": "t", "schedule": {"kind": "vp-sde", "beta_start": 0.1, "beta_end": 20.0}}
    t = np.array([1.0, 0.5005, 0.001])
    found = uldnum.networks.Network(path, continuous).levels(3)
    np.testing.assert_allclose(found.alpha, np.exp(-0.05 * t - 19.9 / 4 * t**2), rtol=1e-12)


# -------------------------------------------------------------------------------------------------------------- runs


def by_hand(run, x0, memory, chains, seed):
    """Return (x, p) of a plan in one dimension, map by map with the same normals, and the number of evaluations."""
    xp, evaluations = np.stack([x0, *memory]), 0
    for phase, key in zip(run.phases, phase_seeds(seed, len(run.phases)).tolist(), strict=True):
        step = phase.step
        target = MIXTURE.noised(phase.alpha, phase.sigma)

        def drawn(first, count, stream=DYNAMICS, key=key):
            return normals(first, count, np.arange(chains), stream, key, np.dtype(float))

        def applied(map, u, s, xi):
            return u + map.dA[0] @ u + np.outer(map.b[0], s) + map.C[0] @ xi

        def score(y, target=target):
            return target.score(y[:, None])[:, 0]

        s = score(xp[0]) if step.open_uses_score else np.zeros(chains)
        evaluations += step.open_uses_score
        u = applied(step.open, xp, s, drawn(0, step.open.normals))
        at, m = step.open.normals, step.stages[-1].map.normals
        for n in range(1, phase.count + 1):
            for stage in step.stages:
                s, xi = score(stage.G[0] @ u), drawn(at, stage.map.normals)
                evaluations, at = evaluations + 1, at + stage.map.normals
                before, u = u, applied(stage.map, u, s, xi)
            reading = drawn(n * step.readout_normals, step.readout_normals, READOUT)
            xp = applied(step.close, before, s, np.concatenate([xi[:m], reading]))
    return xp, evaluations


@pytest.mark.parametrize("family", ["VE", "VP"])
@pytest.mark.parametrize("name", PLANS)
def test_runs_equal_maps_with_the_same_normals(name, family):
    run = PLANS[name](LEVELS if family == "VE" else VP)
    x0 = np.linspace(-2, 3, 7)
    found = uldnum.anneal(MIXTURE, run, chains=7, seed=5, x0=x0[:, None], backend="array", progress=False)
    memory = run.memory[:, None] * initial_normals(7, 5, 0, 1, run.rows - 1).T
    xp, evaluations = by_hand(run, x0, memory, 7, 5)
    np.testing.assert_allclose(found.x[:, 0], xp[0], rtol=1e-10, atol=1e-10)
    assert found.nfe == evaluations


@pytest.mark.parametrize("name", PLANS)
def test_runs_have_their_exact_law(name):
    """Mean and variance of 40,000 chains at 4 standard errors; over 19 plans the false-fail rate is 1 in 400.

    An error of 3% in the variance, or of 0.02 standard deviations in the mean, is detected.
    """
    run = PLANS[name](LEVELS)
    alpha, sigma = run.start
    start = {"start_mean": alpha * 1.5, "start_variance": alpha**2 * 0.5 + sigma**2}
    law = law_of(run, **DATA, **start)
    mean, variance = law.mean[-1, 0], law.covariance[-1, 0, 0]
    x = uldnum.anneal(MIXTURE, run, chains=40_000, seed=3, progress=False).x[:, 0]
    assert abs(x.mean() - mean) < 4 * np.sqrt(variance / 40_000)
    assert abs(x.var() / variance - 1) < 4 * np.sqrt(2 / 40_000)


def test_evaluations_are_counted():
    """ALD has L T + 1 evaluations, BAOAB one more per level unless boundaries are shared, and Heun two per step."""
    counts = {
        "ALD": 6 * 3 + 1, "BAOAB": 6 * 4 + 1, "BAOAB, shared": 6 * 3 + 1 + 1, "three stages, shared": 6 * 2 * 3 + 1 + 1,
        "ddim": 5 + 1, "heun(0.2)": 2 * 5 + 1, "edm-euler(0.3)": 5 + 1, "predictor-corrector": 6 + 5 + 1,
    }  # fmt: skip
    for name, wanted in counts.items():
        assert uldnum.anneal(MIXTURE, PLANS[name](LEVELS), chains=3, progress=False).nfe == wanted, name


def test_executors_agree_on_plans():
    mixture = uldnum.target("ring-8")
    for name in ("BAOAB, shared", "heun(0.2)", "MILD", "Heun and BAOAB"):
        run = PLANS[name](LEVELS)
        ours, theirs = (
            uldnum.anneal(mixture, run, chains=5, seed=2, keep=run.on_step, backend=backend, progress=False)
            for backend in ("numba", "array")
        )
        if run.on_step:
            np.testing.assert_allclose(ours.trace, theirs.trace, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(ours.x, theirs.x, rtol=1e-10, atol=1e-12)
        split = uldnum.anneal(mixture, run, chains=2, first_chain=3, seed=2, progress=False)
        np.testing.assert_array_equal(split.x, ours.x[3:])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["Heun and BAOAB", "MILD", "three stages, shared"])
def test_many_levels_in_one_launch_equal_one_step_per_launch(monkeypatch, name, dtype):
    mixture, run = uldnum.target("gmm-40"), PLANS[name](LEVELS)
    together = uldnum.anneal(mixture, run, chains=1300, seed=2, threads=2, dtype=dtype, progress=False)
    monkeypatch.setattr(launch, "next_launch", lambda *_: 1)  # one launch per step
    monkeypatch.setattr(NumbaExecutor, "first_launch", lambda executor, state: 1)
    monkeypatch.setattr("uldnum.kernels.numba.executor.TILE", 1)
    apart = uldnum.anneal(mixture, run, chains=1300, seed=2, threads=1, dtype=dtype, progress=False)
    for part in ("phase_space", "u", "escape_step", "nfe"):
        np.testing.assert_array_equal(getattr(together.state, part), getattr(apart.state, part), part)


@pytest.mark.filterwarnings("ignore:ula diverged")
def test_the_step_of_divergence_is_that_of_the_plan():
    run = uldnum.plan("ula", levels.given([1.0, 0.9, 0.8]), steps=10, h=2.6)
    ours, theirs = (
        uldnum.anneal("ring-8", run, chains=20, backend=backend, progress=False).state.escape_step
        for backend in ("numba", "array")
    )
    assert 10 < ours.min() < 31
    np.testing.assert_array_equal(ours, theirs)


def test_a_plan_stopped_inside_a_level_resumes(monkeypatch, tmp_path):
    """A plan stopped at the third step of the second level resumes with the same bits.

    The cases are Numba, arrays and adaptive steps, in float32 and float64.
    """
    images = uldnum.targets.DataMixture(np.random.default_rng(0).uniform(-1, 1, size=(6, 1, 8, 8)))
    fixed, snr = {"h": 0.5}, {"snr": 0.16}
    for data, name, size, options in [
        (MIXTURE, "BAOAB", fixed, {"backend": "numba"}), (MIXTURE, "BAOAB", fixed, {"backend": "array"}),
        (MIXTURE, "UBU", fixed, {"dtype": "float32"}), (images, "BAOAB", snr, {"dtype": "float32"}),
        (images, "mild(0.3)", snr, {"dtype": "float64"}),
    ]:  # fmt: skip
        run = uldnum.plan(name, LEVELS, steps=5, **size)
        options |= {"chains": 3, "seed": 2}
        whole, stopped, longer = stop_and_go_on(monkeypatch, tmp_path / "run.nc", 9, data, run, **options)
        assert 5 < stopped.state.step < 10
        np.testing.assert_array_equal(longer.x, whole.x)
        assert longer.nfe == whole.nfe


@pytest.mark.parametrize("checks", range(1, 9))
def test_a_plan_stopped_anywhere_resumes(monkeypatch, tmp_path, checks):
    """The results are the same after a stop at any check, also while a level starts and before the first phase ends.

    The evaluation at the start of a level is counted once.
    """
    run = uldnum.plan("BAOAB", LEVELS, steps=2, h=0.5)
    common = {"chains": 3, "seed": 2, "keep": True, "backend": "array"}
    whole, _, longer = stop_and_go_on(monkeypatch, tmp_path / "run.nc", checks, MIXTURE, run, **common)
    np.testing.assert_array_equal(longer.trace, whole.trace)
    assert longer.nfe == whole.nfe


def test_a_stopped_plan_resumes_only_with_the_same_arguments(monkeypatch, tmp_path):
    run, common = PLANS["Heun and BAOAB"](LEVELS), {"chains": 4, "seed": 2}
    whole, _, longer = stop_and_go_on(monkeypatch, tmp_path / "run.nc", 2, MIXTURE, run, **common)
    np.testing.assert_array_equal(longer.x, whole.x)
    assert longer.nfe == whole.nfe
    stored = {"resume": tmp_path / "run.nc"} | common
    with pytest.raises(ValueError, match="the coefficients differ"):
        uldnum.anneal(MIXTURE, PLANS["ddim"](LEVELS), **stored)
    with pytest.raises(ValueError, match="x0 is 'normal', was 'target'"):
        uldnum.anneal(MIXTURE, run, **stored, x0="normal")
    with pytest.raises(ValueError, match="x0: must be omitted with resume"):
        uldnum.anneal(MIXTURE, run, **stored, x0=np.zeros((4, 1)))
    again = uldnum.anneal(MIXTURE, run, **stored, x0="target", progress=False)
    np.testing.assert_array_equal(again.x, whole.x)
    assert int(again.info["threads"]) > 0
    title, *table = repr(again).splitlines()
    assert title == (
        f"Run of {run.name} on {MIXTURE.name}: 4 chains, {run.steps} steps, {again.nfe} evaluations per chain, complete"
    )
    assert table[0].split("  ")[1:] == ["mean of the last positions", "diverged"]  # a plan has no step size
    error = again.x.std(ddof=1) / 2
    assert table[1].split() == [f"{again.x.mean():.2f}", "±", f"{error:.2f}", "0"]


def test_a_preset_is_not_a_method():
    with pytest.raises(ValueError, match=r"'mild-cifar10' is a preset plan; use uldnum.preset\('mild-cifar10'\)"):
        uldnum.plan("mild-cifar10", LEVELS)


def test_a_plan_from_the_end_of_a_run_has_other_normals():
    """ULA from the final states of ULA remains stationary. With common normals the variance would become 1.6.

    The variance of 20,000 chains is within 4 standard errors, 0.04, for all but 1 of 16,000 seeds.
    """
    mixture = uldnum.GaussianMixture([1.0], [[0.0]], [0.25])
    law = uldnum.exact.gaussian("ula", h=0.5, precision=1 / 1.25)
    first = uldnum.sample(mixture.noised(1.0, 1.0), "ula", h=0.5, steps=60, chains=20_000, seed=1, progress=False)
    plan = uldnum.plan("ula", levels.given([1.0]), h=0.5, steps=20, denoise=False)
    expected = float(law.position_covariance.squeeze())
    for start in (first, first.x):
        found = uldnum.anneal(mixture, plan, x0=start, chains=20_000, progress=False).x.var()
        assert abs(found - expected) < 4 * expected * np.sqrt(2 / 20_000)


def test_a_large_shift_between_levels_is_not_a_divergence():
    """For data far from the origin, VP levels shift the mean by more than 1000 standard deviations of the data."""
    far = uldnum.GaussianMixture([1.0], [[5000.0]], [1.0])
    for backend in ("numba", "array"):
        for last in (1e-3, 0.5):  # from 0.5, the final denoising shifts the mean by as much
            run = uldnum.plan("ddim", levels.vp_sde(10, last=last))
            found = uldnum.anneal(far, run, chains=9, backend=backend, progress=False)
            assert found.diverged == 0
            assert np.all(np.abs(found.x - 5000) < 10)


def test_levels_that_round_to_isotropic_have_the_same_results():
    """Results do not depend on which levels share a launch, even if variances round to one number at some levels."""
    mixture = uldnum.GaussianMixture([0.5, 0.5], [[1.0, 0.0], [-1.0, 0.3]], [[0.3, 0.1 + 0.2]] * 2)
    assert not mixture.isotropic
    assert not mixture.noised(1.0, 5.0).isotropic
    run = uldnum.plan("ula", levels.geometric(5.0, 0.01, 12), steps=2, h=0.5)
    together, apart = (
        uldnum.anneal(mixture, run, chains=50, seed=1, keep=keep, progress=False).x for keep in (False, True)
    )
    np.testing.assert_array_equal(together, apart)


def test_levels_are_read_only_copies():
    """A single level is the first one, and levels are copies that cannot be modified."""
    assert levels.geometric(1.0, 1.0, 1).sigma.tolist() == levels.karras(1.0, 0.5, 1).sigma.tolist() == [1.0]
    sigma = np.array([2.0, 1.0])
    kept = levels.given(sigma)
    sigma[0] = 9.0
    assert kept.sigma.tolist() == [2.0, 1.0]
    with pytest.raises(ValueError, match="read-only"):
        kept.sigma[0] = 9.0


def test_data_come_by_name_or_file(tmp_path):
    (tmp_path / "mine.toml").write_text("weights = [1.0]\nmeans = [[0.5]]\nvariances = [2.0]\n", encoding="utf-8")
    for name, called in (("Ring-8", "ring-8"), ("mnist", "mnist"), (tmp_path / "mine.toml", "mine")):
        assert find_data(name).name == called


@pytest.mark.parametrize("name", PLANS)
def test_the_law_of_several_coordinates_equals_each_law(name):
    run, each = PLANS[name](LEVELS), {"data_mean": [0.0, 1.5, -3.0], "data_variance": [0.0, 0.5, 2.0]}
    each["start_variance"] = [2.0, 0.0, 1.0]
    together = law_of(run, **each)
    for i in range(3):
        alone = law_of(run, **{key: values[i] for key, values in each.items()})
        np.testing.assert_allclose(together.mean[:, i], alone.mean, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(together.covariance[:, i], alone.covariance, rtol=1e-12, atol=1e-12)


def test_representations_are_short():
    title, header, *rows = repr(uldnum.preset("mild-cifar10")).splitlines()
    assert title == "Plan mild-cifar10: 233 phases, 233 steps, 8 of 233 phases shown"
    assert header.split("  ")[1] == "phase"
    assert [row.split() for row in (rows[0], rows[-1])] == [["1", "1", "50", "1", "1"], ["233", "1", "0.01", "1", "1"]]
    assert len(rows) == 8
    assert repr(uldnum.target("gmm-40")) == "GaussianMixture('gmm-40', shape=(2,))"
    network = uldnum.networks.network()
    assert repr(network) == "Network('mnist', shape=(1, 28, 28))"
    assert repr(network.at(0.5)) == "NetworkLevel('mnist at sigma 0.5', shape=(1, 28, 28))"


ADAPTIVE = ["ula", "baoab-limit", "BAOAB", "OBABO", "mild(0.3)"]


@pytest.mark.parametrize("name", ADAPTIVE)
def test_adaptive_steps_equal_steps_of_the_chosen_size(monkeypatch, name):
    """A plan with the step size that the rule chose for a chain reproduces the adaptive run of that chain."""
    images = np.random.default_rng(0).uniform(-1, 1, size=(6, 1, 8, 8))
    data, at = uldnum.targets.DataMixture(images), levels.given([0.8])
    sizes, usual = [], Adaptive.size

    def noted(*given):
        sizes.append(usual(*given))
        return sizes[-1]

    monkeypatch.setattr(Adaptive, "size", noted)
    common = {"seed": 3, "dtype": "float64", "progress": False}
    run = uldnum.anneal(data, uldnum.plan(name, at, snr=0.16, denoise=False, friction=2.0), chains=3, **common)
    h = sizes[0]  # a second size is computed from the score at the end
    assert np.ptp(h) > 0
    for c in range(3):
        alone = uldnum.plan(name, at, h=h[c] / 0.8, denoise=False, friction=2.0)
        fixed = uldnum.anneal(data, alone, chains=1, first_chain=c, **common)
        np.testing.assert_allclose(run.x[c], fixed.x[0], atol=2e-6)
        assert run.nfe == fixed.nfe


def test_adaptive_steps_follow_the_formula():
    rule = Adaptive(uldnum.integrator("ula"), 1.0, 0.16, 0.9, False)
    rng = np.random.default_rng(0)
    xi, s = rng.normal(size=(4, 1, 100)), rng.normal(size=(4, 100))
    delta = 2 * 0.9 * (0.16 * np.linalg.norm(xi[:, 0], axis=1) / np.linalg.norm(s, axis=1)) ** 2
    squares = np.square(xi).sum(axis=(1, 2)), np.square(s).sum(axis=1)
    np.testing.assert_allclose(rule.size(*squares, 1) ** 2 / 2, delta, rtol=1e-12)
    np.testing.assert_allclose(rule.size(*squares, 2), rule.size(*squares, 1) / 2**0.5, rtol=1e-12)
    coupled = replace(rule, coupled=True).size(*squares, 1)
    ratio = np.linalg.norm(xi[:, 0], axis=1).mean() / np.linalg.norm(s, axis=1).mean()
    np.testing.assert_allclose(coupled**2 / 2, 2 * 0.9 * (0.16 * ratio) ** 2, rtol=1e-12)


def test_adaptive_steps_in_few_dimensions_warn():
    """On a standard Gaussian in 8 dimensions the variance is 1.6 instead of 1 (2000 chains: +- 0.02)."""
    gaussian = uldnum.GaussianMixture([1.0], [np.zeros(8)], [0.75])
    at = levels.given([0.5])
    with pytest.warns(UserWarning, match="biases the samples in fewer than .* got 8"):
        run = uldnum.anneal(gaussian, uldnum.plan("ula", at, steps=300, snr=0.16, denoise=False), chains=2000)
    assert run.x.var() == pytest.approx(1.6, abs=0.1)
    with pytest.raises(ValueError, match="run: must have step sizes that do not depend"):
        law_of(uldnum.plan("ula", at, snr=0.16))


def test_plans_on_images_equal_plans_on_the_mixture():
    """A plan on a `DataMixture` ends at the same states as on the equal Gaussian mixture, with the same normals."""
    images = np.random.default_rng(0).uniform(-1, 1, size=(6, 1, 2, 2))
    flat = uldnum.GaussianMixture(np.full(6, 1 / 6), images.reshape(6, 4), np.full(6, 1e-300))
    data = uldnum.targets.DataMixture(images)
    x0 = np.random.default_rng(1).normal(size=(3, 1, 2, 2))
    for name in ("BAOAB", "heun", "dpm-solver++", "ancestral"):
        run = PLANS[name](levels.geometric(3.0, 0.3, 5))
        ours = uldnum.anneal(data, run, chains=3, x0=x0, dtype="float64", progress=False)
        theirs = uldnum.anneal(flat, run, chains=3, x0=x0.reshape(3, 4), backend="array", progress=False)
        np.testing.assert_allclose(ours.x.reshape(3, 4), theirs.x, atol=2e-4)


def test_plans_on_the_shipped_network():
    net = uldnum.networks.network()
    run = uldnum.anneal(net, uldnum.plan("heun", levels.karras(20.0, 0.02, 8)), chains=4, seed=0, progress=False)
    assert run.nfe == 15
    assert 0.04 < (run.x > 0.5).mean() < 0.25
    with pytest.raises(
        ValueError,
        match=r"got sigma = 22 \(level with sigma/alpha = 22\); the churn of heun\(0\.1\) raises",
    ):
        uldnum.anneal(net, uldnum.plan("heun(0.1)", levels.karras(20.0, 0.02, 8)), chains=4)
    with pytest.raises(ValueError, match=r"mnist was trained for sigma from 0\.02 to 20, got sigma = 0\.01"):
        uldnum.anneal(net, uldnum.plan("ddim", levels.geometric(10.0, 0.01, 6)), chains=4)


# ------------------------------------------------------------------------------------------------------------- levels


def test_levels():
    for family in (levels.geometric, levels.karras):
        assert family(50.0, 0.01, 232).sigma[[0, -1]].tolist() == [50.0, 0.01]
    ncsn = levels.geometric(1.0, 0.01, 10)
    np.testing.assert_allclose(ncsn.sigma, np.geomspace(1, 0.01, 10), rtol=1e-13)
    assert len(ncsn.below(0.1)) == 5
    edm = levels.karras(80.0, 0.002, 5)
    roots = np.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), 5)
    np.testing.assert_allclose(edm.sigma, roots**7, rtol=1e-12)
    for family in (levels.vp_sde(9), levels.linear(9), levels.scaled_linear(9), levels.cosine(9)):
        np.testing.assert_allclose(family.alpha**2 + family.sigma**2, 1, rtol=1e-14)
    t = np.linspace(1, 1e-3, 9)
    np.testing.assert_allclose(levels.vp_sde(9).alpha, np.exp(-0.05 * t - 19.9 / 4 * t**2), rtol=1e-12)
    np.testing.assert_array_equal(levels.given([2.0, 1.0]).alpha, 1.0)


def test_names_of_schedules_agree_in_levels_and_cards():
    """The betas of DDPM have the name of diffusers, and alpha^2 is the product of 1 - beta."""
    kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    roots = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    np.testing.assert_allclose(levels.linear(1000, 1e-4, 0.02).alpha ** 2, kept[::-1], rtol=1e-10)
    np.testing.assert_allclose(levels.scaled_linear(1000).alpha ** 2, roots[::-1], rtol=1e-10)
    numbers = {"beta_start": 0.001, "beta_end": 0.05}
    for name, extra in (("linear", {"timesteps": 400}), ("scaled-linear", {"timesteps": 400}), ("vp-sde", {})):
        given = numbers | extra if extra else {"beta_start": 0.1, "beta_end": 20.0}
        at = levels.parse(":".join([name, "3", *(str(number) for number in given.values())]))
        card = schedules.schedule({"kind": name} | given)
        assert at.ratio[0] == pytest.approx(card.ratio(card.end), rel=1e-12)
    with pytest.raises(ValueError, match=r"'linear' cannot be built from.*'timesteps'"):
        schedules.schedule({"kind": "linear", "beta_start": 0.1, "beta_end": 20.0})
    with pytest.raises(
        ValueError, match=r"beta_start, beta_end: must be below 1, got 0.1 and 20.0; for the rates of an SDE use vp_sde"
    ):
        levels.linear(6, 0.1, 20.0)


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (
            lambda: levels.vp_sde(1000, 1e-4, 0.02),
            r"levels of an SDE with rates from 0.0001 to 0.02 .* = 0.1005, below",
        ),
        (lambda: levels.linear(10, timesteps=20), "levels of linear betas"),
        (lambda: levels.scaled_linear(10, timesteps=20), "levels of scaled-linear betas"),
        (lambda: levels.cosine(10, max_beta=1e-4), "levels of cosine betas"),
        (lambda: levels.geometric(0.99, 0.1, 3), "geometric levels has sigma/alpha = 0.99, below 1"),
        (lambda: levels.karras(0.5, 0.1, 3), "karras levels"),
        (lambda: levels.parse("geometric:0.5:0.1:3"), "geometric levels"),
    ],
)
def test_levels_that_start_with_little_noise_warn(call, what):
    with pytest.warns(UserWarning, match=f"^levels: the noisiest of these {what}"):
        call()


def test_intended_low_levels_do_not_warn():
    """Levels with sigma/alpha of at least 1, subsets, given levels and presets do not warn (warnings are errors)."""
    levels.geometric(1.0, 0.01, 10).below(0.1)
    levels.karras(1.0, 0.01, 10)
    levels.given([0.1])
    for name in presets.PRESETS:
        uldnum.preset(name)


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (lambda: levels.given([1.0, 2.0]), "sigma: sigma/alpha must decrease"),
        (lambda: levels.given([]), "sigma: must have shape"),
        (lambda: levels.given([1.0, 0.0]), "sigma: must be positive"),
        (lambda: levels.geometric(1.0, 0.1, 0), "count: must be at least 1"),
        (lambda: LEVELS.below(0.01), "sigma_max: must be at least the smallest sigma, 0.1, got 0.01"),
        (lambda: uldnum.plan("ula", LEVELS), "h, eps, snr: give exactly one"),
        (lambda: uldnum.plan("UBU", LEVELS, snr=0.1), "snr: the integrator must evaluate .* got UBU"),
        (lambda: uldnum.plan("BAOAB", LEVELS, snr=0.1, boundary="shared"), "snr: needs boundary 'own'"),
        (lambda: uldnum.plan("ula", LEVELS, h=-1.0), "h: must be positive"),
        (lambda: uldnum.plan("ula", LEVELS, h=1.0, steps=0), "steps: must be at least 1"),
        (lambda: levels.geometric(1e200, 1.0, 3), r"sigma: must be at most 1e\+150, got 1e\+200"),
        (lambda: uldnum.plan("ddim", LEVELS, h=1.0), "^h: 'ddim' is a predictor"),
        (lambda: uldnum.plan("ddim", LEVELS, steps=2, momentum="refreshed"), "^steps, momentum: 'ddim' is a predictor"),
        (lambda: uldnum.plan("ula", [1.0, 0.5], h=1.0), "levels: must come from uldnum.levels"),
        (lambda: uldnum.plan("ula", LEVELS, h=[1.0, 2.0]), "h: must be a number"),
        (lambda: uldnum.plan("ula", LEVELS, h=1.0, friction=[1.0, 2.0]), "friction: must be a number"),
        (lambda: uldnum.preset("mild-cifar"), "nearest is 'mild-cifar10'"),
        (lambda: uldnum.preset(3), "plan: unknown name 3"),
        (lambda: uldnum.plan("ddmi", LEVELS), "method: unknown name 'ddmi'; the nearest is 'ddim'"),
        (lambda: uldnum.plan("mild-cifar", LEVELS), "method: unknown name 'mild-cifar'; the nearest is 'mild-cifar10'"),
        (lambda: uldnum.plan("ula", LEVELS, h=0.5, predictor=3), "predictor: must be a name, got 3"),
        (lambda: uldnum.plan("ula", LEVELS, h=0.5, coupled=True), "coupled: is an option of adaptive step sizes"),
        (lambda: uldnum.plan("ddim", LEVELS, coupled=True), "accepts only levels, score_noise, denoise and restarts"),
        (lambda: levels.geometric("five", 0.1, 6), "first: must be a number"),
        (lambda: levels.geometric([5.0, 4.0], 0.1, 6), "first: must be a number"),
        (lambda: levels.karras(80, 0.002, 5, 1e-3), "first, last, count: 5 levels from 80 to 0.002: "),
        (lambda: levels.cosine(10, 20.5), "timesteps: must be an integer"),
        (lambda: levels.parse(5), "levels: unknown name 5"),
        (lambda: law_of("ula"), "run: must come from uldnum.plan"),
        (lambda: levels.karras(80.0, 0.002, 5, 0.0), "rho: must be positive"),
        (lambda: levels.vp_sde(5, 20.0, 3000.0), "beta_start, beta_end: their sum must be below 1000"),
        (lambda: levels.vp_sde(5, last=1.0), "last: must be below 1"),
        (lambda: levels.given([1.0, 0.5], [1.0, 1.0, 1.0]), "sigma: must have shape"),
        (
            lambda: uldnum.anneal(MIXTURE, PLANS["BAOAB, shared"](LEVELS), chains=1, keep=True),
            "keep: must be False for a plan with shared",
        ),
        (lambda: uldnum.anneal(MIXTURE, PLANS["ddim"](LEVELS), chains=1, threads=-1), "threads: must be at least 1"),
        (lambda: uldnum.plan("ddim(2)", LEVELS), "eta: ddim needs 0 <= eta <= 1, got 2"),
        (lambda: uldnum.plan("ddim(x)", LEVELS), "'x' is not a number"),
        (lambda: uldnum.plan("ancestral(1)", LEVELS), "takes no parameter"),
        (lambda: uldnum.plan("ula", LEVELS, h=1.0, predictor="ddmi"), "nearest is 'ddim'"),
        (lambda: uldnum.plan("ula", LEVELS, h=1.0, momentum="lost"), "momentum: must be one of"),
        (lambda: uldnum.plan("ula", LEVELS, h=1.0, boundary="lost"), "boundary: must be one of"),
        (lambda: uldnum.plan("BAOAB", LEVELS, h=1.0, boundary="shared", predictor="ddim"), "boundary: must be 'own'"),
        (
            lambda: uldnum.plan("ddim", levels.given([1.0]), denoise=False),
            "levels: a predictor needs at least 2 levels",
        ),
        (lambda: uldnum.anneal(MIXTURE, "ddim", chains=1), "plan: must come from uldnum.plan"),
        (lambda: uldnum.anneal(3, PLANS["ddim"](LEVELS), chains=1), "data: must be a GaussianMixture"),
        (lambda: uldnum.anneal(MIXTURE, PLANS["ddim"](LEVELS), chains=0), "chains: must be at least 1"),
        (lambda: uldnum.anneal(MIXTURE, PLANS["ddim"](LEVELS), chains=1, x0="noise"), "x0: must be"),
        (lambda: law_of(PLANS["ddim"](LEVELS), data_variance=-1.0), "data_variance: must not be negative"),
        (lambda: law_of(PLANS["ddim"](LEVELS), data_mean=[1.0, 2.0], start_mean=[1.0] * 3), "data_mean, data_variance"),
    ],
)
def test_invalid_arguments_are_refused(call, fault):
    with pytest.raises(ValueError, match=fault):
        call()


def test_predictors_with_the_default_parameter_have_the_name_without_it():
    at = levels.geometric(5.0, 0.1, 4)
    assert [uldnum.plan(name, at).name for name in ("heun(0)", "heun", "heun(0.1)")] == ["heun", "heun", "heun(0.1)"]


def test_predictors_have_sources():
    assert all(entry.source for entry in PREDICTORS.values())


class Wide(uldnum.targets.Law):
    """N(0, 1) whose distribution with noise is ``made(variance)``."""

    name, shape = "wide", (1,)

    def __init__(self, made):
        self.made = made

    def noised(self, alpha, sigma):
        return self.made(alpha**2 + sigma**2)


def closure(variance):
    @numba.njit
    def score(x, out):
        out[0] = -x[0] / variance

    return uldnum.UserTarget(
        score, dimension=1, mean=[0.0], standard_deviation=[variance**0.5],
        sampler=lambda n, seed, first: np.zeros((n, 1)),
    )  # fmt: skip


@pytest.mark.parametrize(
    "made",
    [
        # Each score needs a kernel of its own; `test_user_targets` has a test of two scores with other kernels.
        pytest.param(closure, id="compiled scores", marks=pytest.mark.slow),
        pytest.param(lambda variance: uldnum.GaussianMixture([1.0], [[0.0]], [variance]), id="mixtures"),
    ],
)
def test_phases_with_separate_scores(made):
    """Both backends agree on levels with separate compiled scores, and on mixtures without `kernel_levels`."""
    plan = uldnum.plan("BAOAB", levels.given([2.0, 0.5]), steps=3, h=0.5)
    ours, theirs = (
        uldnum.anneal(Wide(made), plan, chains=3, x0=np.ones((3, 1)), backend=backend, progress=False).x
        for backend in ("numba", "array")
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_an_unknown_level_is_refused_before_any_work():
    called = []

    class Counted(uldnum.targets.Target):
        name, shape, fingerprint = "counted", (1,), "counted"  # the default fingerprint calls the score

        def score(self, x):
            called.append(len(x))
            return -x

    def made(variance):
        if variance < 1.1:
            raise ValueError("sigma: there is no such level")
        return Counted()

    plan = uldnum.plan("ula", levels.given([2.0, 1.0, 0.5, 0.1]), steps=2, h=0.5)
    with pytest.raises(ValueError, match="no such level"):
        uldnum.anneal(Wide(made), plan, chains=3, x0=np.zeros((3, 1)), progress=False)
    assert not called


@pytest.mark.parametrize("name", ["ula", "BAOAB", "OBABO", "mild(0.3)"])
def test_adaptive_steps_in_both_dtypes_and_on_other_arrays(name):
    """Float32 and arrays of another library agree with float64 NumPy arrays to rounding."""
    plan = uldnum.plan(name, levels.given([2.0, 1.0]), steps=3, snr=0.16, denoise=False)
    gaussian = uldnum.GaussianMixture([1.0], [np.zeros(64)], [1.0])
    start = np.random.default_rng(0).normal(size=(4, 64))
    options = {"chains": 4, "seed": 2, "x0": start, "progress": False}
    double, single = (uldnum.anneal(gaussian, plan, dtype=kind, **options) for kind in ("float64", "float32"))
    np.testing.assert_allclose(single.x, double.x, rtol=1e-4, atol=1e-4)
    foreign = uldnum.anneal(Foreign(), plan, **options)
    np.testing.assert_allclose(foreign.x, double.x, rtol=1e-10, atol=1e-10)
    assert foreign.nfe == double.nfe == single.nfe


def test_adaptive_steps_copy_one_number_of_each_chain_to_the_cpu(monkeypatch):
    """In a step, a library on a device sends the norms of the scores, and not the scores; a launch copies the state."""
    from uldnum.kernels.arrays import executor

    sizes, usual = [], executor.host
    monkeypatch.setattr(executor, "host", lambda values: sizes.append(values.size) or usual(values))
    monkeypatch.setattr(executor.ArrayExecutor, "first_launch", lambda *_: 30)
    plan = uldnum.plan("BAOAB", levels.given([1.0]), steps=30, snr=0.16, denoise=False)
    uldnum.anneal(Foreign(), plan, chains=4, seed=2, x0=np.ones((4, 64)), progress=False)
    assert sizes.count(4) == 30 + 1 + 1  # with the opening step, and the escape steps at the end
    assert sizes.count(4 * 64) == 4


def test_adaptive_steps_without_noise_stand_still():
    """Without noise the rule chooses steps of size 0."""
    with pytest.warns(UserWarning, match="no noise"):
        plan = uldnum.plan("BAB", levels.given([2.0, 1.0]), steps=3, snr=0.16, denoise=False)
    gaussian, start = uldnum.GaussianMixture([1.0], [np.zeros(64)], [1.0]), np.ones((4, 64))
    np.testing.assert_array_equal(uldnum.anneal(gaussian, plan, chains=4, x0=start, progress=False).x, start)


class Foreign(uldnum.targets.Law):
    """N(0, 1) in 64 dimensions, whose score accepts arrays of another library."""

    name, shape = "foreign", (64,)

    def noised(self, alpha, sigma):
        class Level(uldnum.targets.Target):
            name, shape, like = f"foreign at {sigma}", (64,), strict.zeros(1)
            standard_deviation = np.full(64, float(np.hypot(alpha, sigma)))

            def score(self, x):
                return -x / float(alpha**2 + sigma**2)

        return Level()


def test_the_step_after_the_end_of_a_phase_cannot_diverge():
    """The score is tiny at the end of the phase, so the next step, which is not taken, would be huge."""

    class Flat(uldnum.targets.Target):
        name, shape, fingerprint = "flat", (64,), "flat"  # the default fingerprint calls the score
        standard_deviation = np.ones(64)
        calls = 0

        def score(self, x):
            Flat.calls += 1
            return -x * (1e-12 if Flat.calls == 3 else 1.0)

    plan = uldnum.plan("BAOAB", levels.given([1.0]), steps=2, snr=0.16, denoise=False)
    run = uldnum.anneal(Wide64(Flat()), plan, chains=3, x0=np.ones((3, 64)), progress=False)
    assert Flat.calls == 3
    assert not run.diverged


class Wide64(uldnum.targets.Law):
    """A distribution that is the same target at every level."""

    name, shape = "wide", (64,)

    def __init__(self, level):
        self.level = level

    def noised(self, alpha, sigma):
        return self.level


@pytest.mark.parametrize("parts", [{}, {"image": [1, 0]}, {"noise": [0.7, 2.0]}, {"score": [0.4, 0.0]},
                                   {"image": [0.5, 2], "noise": [0.7, 0.0], "score": [0.4, 3.0]}])  # fmt: skip
def test_the_step_of_a_move_in_the_score_equals_its_combination(parts):
    """x0 = (z + s^2 score)/a and eps = -s score, whichever of data, noise and score a move contains."""
    a, s = 0.6, 0.8
    move = Move([[0.3, 0.1], [0.2, 0.9]], [0.5, 0.0], NoiseLevel(np.array([a]), np.array([s])), **parts)
    step, combination = embedded(move, 2)
    dA, b = combination.answered(Form.of((1 / a, s * s / a), (0.0, -s), s))
    np.testing.assert_allclose(step.stages[0].map.dA, dA, rtol=0, atol=1e-15)
    np.testing.assert_allclose(step.stages[0].map.b, b, rtol=0, atol=1e-15)

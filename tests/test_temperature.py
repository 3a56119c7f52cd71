"""Temperature: all noise is multiplied by its square root, and the stationary law is that of density^(1/T)."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from helpers.catalogue import CATALOGUE
from helpers.reference import stationary, word_map

import uldnum
from uldnum import exact, studies
from uldnum.cli import app
from uldnum.diagnostics.expectations import against
from uldnum.kernels.source.core import lay_out
from uldnum.studies.common import StepGrid
from uldnum.studies.configuration import BiasConfiguration

H, FRICTION, PRECISION, T = 0.7, 1.3, 1.7, 2.5
WORDS = ("BAOAB", "ABOBA", "OBABO", "OABAO", "BAOA", "UBU", "BUB", "ABAOABA", "OAB")
NORMAL = uldnum.GaussianMixture([1.0], [[0.0]], [1.0])


def double_well_moment(order, temperature):
    """E[x^order] of exp(-2 (x^2 - 1)^2/T), by the trapezoidal rule, which is exact to rounding for such a density."""
    x = np.linspace(-6, 6, 4001)
    density = np.exp(-2 * (x**2 - 1) ** 2 / temperature)
    return (x**order * density).sum() / density.sum()


# ---------------------------------------------------------------------------------------------------------- exact laws


@pytest.mark.parametrize("name", CATALOGUE)
def test_gaussian_laws_are_proportional_to_the_temperature(name):
    cold, hot = (exact.gaussian(name, [0.1, H], precision=PRECISION, friction=FRICTION, temperature=t) for t in (1, T))
    np.testing.assert_allclose(hot.covariance, T * cold.covariance, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(hot.position_bias, T * cold.position_bias, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(hot.growth, cold.growth)
    np.testing.assert_allclose(hot.autocorrelation_time("x^2"), cold.autocorrelation_time("x^2"), rtol=1e-12)
    M, Q = exact.propagator(name, H, precision=PRECISION, friction=FRICTION, steps=3)
    M_hot, Q_hot = exact.propagator(name, H, precision=PRECISION, friction=FRICTION, steps=3, temperature=T)
    np.testing.assert_array_equal(M_hot, M)
    np.testing.assert_allclose(Q_hot, T * Q, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_temperature_is_a_change_of_units(name):
    """A scheme at temperature T on a target is the scheme at 1 with h sqrt(T) and gamma/sqrt(T) on density^(1/T)."""
    root = T**0.5
    hot = exact.gaussian(name, H, precision=PRECISION, friction=FRICTION, temperature=T)
    other = exact.gaussian(name, H * root, precision=PRECISION / T, friction=FRICTION / root)
    units = np.array([1, root, 1])[: hot.covariance.shape[-1]]  # a third row is empty
    scaled = other.covariance * np.multiply.outer(units, units)
    if name.startswith("mild"):  # its second row is a displacement, not a momentum
        scaled = other.covariance
    np.testing.assert_allclose(hot.covariance, scaled, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("word", WORDS)
def test_words_against_a_composition_of_their_letters(word):
    M, Q = word_map(word, [1 / word.count(letter) for letter in word], H, PRECISION, FRICTION)
    law = exact.gaussian(word, H, precision=PRECISION, friction=FRICTION, temperature=T)
    np.testing.assert_allclose(law.covariance[0], stationary(M, T * Q), rtol=1e-12, atol=1e-14)


def test_fifty_digits_know_the_temperature():
    biases = [exact.gaussian("UBU", h=1e-6, temperature=t, precise=True).position_bias for t in (1, T)]
    assert biases[1] == pytest.approx(T * biases[0], rel=1e-14, abs=0)
    assert biases[0] == pytest.approx(-1e-12 / 12, rel=1.0)


def test_a_plan_scales_its_integrator_and_no_predictor():
    levels = uldnum.levels.geometric(5.0, 0.5, 4)
    options = {"h": 0.5, "predictor": "ancestral", "momentum": "refreshed"}
    cold, hot = (uldnum.plan("OBABO", levels, temperature=t, **options) for t in (1.0, 4.0))
    for one, other in zip(cold.phases, hot.phases, strict=True):
        langevin = one.step.open.C.size > 0
        for a, b in zip(lay_out([one.step], np.dtype(float)), lay_out([other.step], np.dtype(float)), strict=True):
            if not np.array_equal(a, b):
                assert langevin
                np.testing.assert_array_equal(b, 2 * a)
        assert langevin == (not np.array_equal(one.step.stages[0].map.C, other.step.stages[0].map.C))
    np.testing.assert_array_equal(hot.memory, 2 * cold.memory)
    assert (hot.temperature, str(hot)[:30]) == (4.0, "Plan ancestral with OBABO at t")
    one = uldnum.plan("UBU", levels, h=0.5, denoise=False)
    laws = exact.plan(one, start_variance=26.0).covariance
    hot = exact.plan(uldnum.plan("UBU", levels, h=0.5, denoise=False, temperature=T), start_variance=26.0 * T)
    np.testing.assert_allclose(hot.covariance, T * laws, rtol=1e-13)


@pytest.mark.parametrize(("name", "limit", "tolerance"), [("baoab-limit", 3e-6, 1e-6), ("BAOAB", 1e-3, 1e-4)])
def test_the_double_well_at_temperature_2(name, limit, tolerance):
    """At h = 0.05, E[x^2] is that of density^(1/2), 0.8327, to the bias of the scheme, and not 0.8521 as at 1."""
    law = exact.transfer_operator(name, "double-well", 0.05, temperature=2.0, tolerance=tolerance)
    known = double_well_moment(2, 2)
    assert law.target.integral(law.target.x**2 * law.target.density) == pytest.approx(known, rel=1e-12)
    assert law.expectation(np.square) == pytest.approx(known, abs=limit)
    assert law.wasserstein_1 < limit
    assert abs(known - double_well_moment(2, 1)) > 0.019


def test_transfer_operators_have_the_units_of_the_temperature():
    """At a large step, the law on a mixture equals that on a user's density^(1/2) with scaled step and friction."""
    root, mixture = 2**0.5, uldnum.target("bimodal-1d")
    known = against(mixture, None, 2.0)
    flat = uldnum.UserTarget(
        lambda x: mixture.score(x) / 2, dimension=1, log_density=lambda x: mixture.log_density(x) / 2,
        mean=known.mean, standard_deviation=known.standard_deviation, name="flat",
    )  # fmt: skip
    hot = exact.transfer_operator("BAOAB", mixture, 0.8, friction=FRICTION, temperature=2.0, tolerance=1e-5)
    other = exact.transfer_operator("BAOAB", flat, 0.8 * root, friction=FRICTION / root, tolerance=1e-5)
    for part in ("wasserstein_1", "total_variation", "spectral_gap"):
        assert getattr(hot, part) == pytest.approx(getattr(other, part), abs=3e-5)
    assert hot.expectation(np.square) == pytest.approx(other.expectation(np.square), abs=1e-4)
    assert abs(hot.expectation(np.square) - known.moment(2)) > 5e-3  # the step is large


# -------------------------------------------------------------------------------------------------------------- chains


@pytest.mark.parametrize("backend", ["numba", "array"])
@pytest.mark.parametrize("name", ["OBABO", "UBU", "ula"])
def test_chains_at_temperature_4_have_twice_the_numbers(name, backend):
    """On N(0, 1) a chain is linear in its start and its normals, and a factor of 2 is exact in floating point."""
    options = {"h": [0.3, 0.8], "steps": 9, "chains": 6, "thin": 4, "x0": np.zeros((6, 1)), "backend": backend}
    cold, hot = (uldnum.sample(NORMAL, name, temperature=t, **options) for t in (1.0, 4.0))
    np.testing.assert_array_equal(hot.x, 2 * cold.x)
    np.testing.assert_array_equal(hot.trace, 2 * cold.trace)
    if cold.p is not None:
        np.testing.assert_array_equal(hot.p, 2 * cold.p)


def test_a_sampled_law_agrees():
    """Within 4 standard errors, once in 8,000 times not; the error is 0.006, and an unscaled noise would give 1.6."""
    run = uldnum.sample("gaussian", "OBABO", h=1.0, steps=500, burn_in=20, chains=1000, temperature=3.0, seed=5)
    law = exact.gaussian("OBABO", h=1.0, temperature=3.0)
    assert abs(run.covariance - law.position_covariance) < 4 * run.covariance_error
    assert run.covariance_error < 0.02
    bias = uldnum.diagnostics.second_moment_bias(run, "gaussian")
    assert abs(bias.value - (1 / 3) / 2**0.5) < 4 * bias.error  # Var(x) = 4 instead of 3


@pytest.mark.parametrize("temperature", [1e-8, 1e8])
def test_correct_chains_do_not_diverge(temperature):
    """A chain diverges beyond 1000 standard deviations of the target or of density^(1/T), whichever is wider.

    At T = 1e8 positions are of the order 1e4, and at T = 1e-8 chains start 1e4 standard deviations away from the mean.
    """
    options = {"chains": 64, "backend": "array", "progress": False}
    hot = uldnum.sample(NORMAL, "ula", h=1.0, steps=50, temperature=temperature, **options)
    assert hot.diverged == 0
    plan = uldnum.plan("ula", uldnum.levels.geometric(1.0, 0.5, 2), h=1.0, steps=50, temperature=temperature)
    assert uldnum.anneal(NORMAL, plan, **options).diverged == 0
    assert uldnum.sample(NORMAL, "ula", h=1.0, steps=5, temperature=temperature, x0=hot, **options).diverged == 0


def test_the_start_is_limited_as_chains_are():
    far = {"x0": np.full((2, 1), 3000.0), "chains": 2, "steps": 1, "h": 0.1, "backend": "array", "progress": False}
    for mass in (None, 2.0):
        assert uldnum.sample(NORMAL, "ula", temperature=16.0, mass=mass, **far).diverged == 0
    for temperature in (0.01, 1.0, 8.0):
        with pytest.raises(ValueError, match="x0: must be finite and within 1000 standard deviations"):
            uldnum.sample(NORMAL, "ula", temperature=temperature, **far)


@pytest.mark.filterwarnings("ignore:word", "ignore:BAB")  # warnings of a scheme without noise
def test_momenta_of_another_temperature_are_scaled():
    """Leapfrog from the end of a run at T = 1: at T = 4, momenta are doubled before the first step."""
    h, options = 0.5, {"chains": 8, "backend": "array", "progress": False}
    run = uldnum.sample(NORMAL, "BAOAB", h=h, steps=3, seed=3, **options)
    for temperature, factor in ((1.0, 1.0), (4.0, 2.0), (0.25, 0.5)):
        moved = uldnum.sample(NORMAL, "BAB", h=h, steps=1, x0=run, temperature=temperature, **options)
        half = factor * run.p - h / 2 * run.x
        np.testing.assert_allclose(moved.x, run.x + h * half, rtol=1e-14, atol=1e-15)
        np.testing.assert_allclose(moved.p, half - h / 2 * moved.x, rtol=1e-14, atol=1e-15)


def test_a_step_has_scaled_noise():
    options = {"h": H, "friction": FRICTION, "score": lambda x: -x, "xi": [[0.4], [-1.1]]}
    cold, hot = (uldnum.step("OBABO", [0.0], [0.0], temperature=t, **options) for t in (1.0, 4.0))
    np.testing.assert_array_equal(hot, 2 * np.array(cold))


def test_a_resumed_run_keeps_its_temperature(tmp_path):
    options = {"h": 0.3, "chains": 5, "temperature": T, "backend": "array"}
    whole, part = (uldnum.sample("gaussian", "UBU", steps=steps, **options) for steps in (9, 4))
    part.save(tmp_path / "part.nc")
    resumed = uldnum.sample("gaussian", "UBU", steps=9, resume=tmp_path / "part.nc", **options)
    np.testing.assert_array_equal(resumed.x, whole.x)
    np.testing.assert_array_equal(resumed.p, whole.p)
    assert xr.open_dataset(tmp_path / "part.nc").temperature == T
    assert str(part).startswith("Run of UBU at temperature 2.5 on gaussian")
    with pytest.raises(ValueError, match=r"temperature is 1\.0, was 2\.5"):
        uldnum.sample("gaussian", "UBU", steps=9, resume=part, **options | {"temperature": 1.0})


def test_plans_keep_their_temperature(tmp_path):
    plan = uldnum.plan("BAOAB", uldnum.levels.geometric(2.0, 0.5, 3), h=0.5, temperature=T)
    run = uldnum.anneal("gaussian", plan, chains=4, backend="array")
    run.save(tmp_path / "run.nc")
    assert uldnum.Run.load(tmp_path / "run.nc").settings.temperature == T


# ------------------------------------------------------------------------------------------------- studies, diagnostics


def test_biases_on_a_gaussian_do_not_depend_on_the_temperature():
    """They are in units of the standard deviation of the target at that temperature."""
    options = {"h": [0.3, 0.9], "progress": False, "friction": 1.0}
    for target in ("gaussian", uldnum.GaussianMixture([1.0], [[0.0, 0.0]], covariances=[[[2.0, 0.5], [0.5, 1.0]]])):
        cold, hot = (studies.exact_bias(target, ["OBABO", "ula"], temperature=t, **options) for t in (1.0, T))
        np.testing.assert_allclose(hot.exact, cold.exact, rtol=1e-12, atol=1e-15)
        assert hot.temperature == T


def test_a_study_of_a_mixture_in_one_dimension():
    """Sampled biases agree with the exact ones within 4 errors; chains start from draws of density^(1/T)."""
    options = {"friction": 1.0, "chains": 256, "nfe": 400, "burn_in": 100, "exact": True, "backend": "array"}
    found = studies.bias("bimodal-1d", "ula", [1.2], temperature=T, progress=False, **options)
    value, error, known = found.signed_bias, found.signed_error, found.exact_signed
    assert (abs(value - known) < 4 * error).all()
    assert float(known.sel(moment="second_moment").squeeze()) > 4 * float(error.max())


def test_default_steps_do_not_depend_on_the_temperature():
    """The curvature of the score limits the step size, while the double well is as wide at low temperatures as at 1."""
    cold, warm, hot = (
        StepGrid.of(BiasConfiguration("double-well", ["ula"], temperature=t)) for t in (0.05, None, 9.0)
    )  # fmt: skip
    for grid in (cold, hot):
        np.testing.assert_array_equal(grid.h, warm.h)
        np.testing.assert_array_equal(grid.frictions, warm.frictions)


def test_other_targets_need_a_reference():
    known = r"^temperature: at 2, expectations and draws are known on Gaussians .* pass reference='long', or samples"
    for study in (studies.bias, studies.mixing):
        with pytest.raises(ValueError, match=known):
            study("ring-8", "ula", [0.2], temperature=2.0)
    with pytest.raises(ValueError, match=r"^target: no exact answer on 'ring-8'"):
        studies.exact_bias("ring-8", "ula", [0.2], temperature=2.0)
    hot = uldnum.sample("ring-8", "baoab-limit", h=0.2, steps=60, chains=64, temperature=2.0, backend="array")
    with pytest.raises(ValueError, match="pass reference='long', or samples"):
        uldnum.diagnostics.mean_bias(hot, "ring-8")
    bias = uldnum.diagnostics.mean_bias(hot, "ring-8", reference=hot)
    assert bias.value < 4 * bias.floor + 0.5
    options = {"friction": 1.0, "chains": 16, "nfe": 20, "burn_in": 0, "backend": "array", "progress": False}
    found = studies.bias("ring-8", "ula", [0.2], temperature=2.0, reference=hot, **options)
    assert {"kernel_stein_discrepancy", "sliced_wasserstein_2"} <= set(found.metric.values)
    assert "of a run of baoab-limit at temperature 2 on ring-8" in found.reference
    assert "mode_weights" not in found.metric  # the weights at this temperature are unknown
    assert np.isfinite(found.bias).all()


def test_expectations_at_a_temperature():
    """Moments, cdf, draws and mode weights of a mixture in one dimension against the trapezoidal rule."""
    mixture = uldnum.target("bimodal-1d")
    known = against(mixture, None, T)
    x = np.linspace(-15, 15, 6001)
    density = np.exp(mixture.log_density(x[:, None]) / T)
    density /= density.sum()
    for order in (1, 2, 4):
        np.testing.assert_allclose(known.moment(order), (x**order * density).sum(), rtol=1e-9)
    np.testing.assert_allclose(known.mean, known.moment(1))
    np.testing.assert_allclose(known.cdf([[0.0]]), density[x <= 0].sum(), atol=2e-3)
    np.testing.assert_allclose(known.modes.weights, mixture.responsibilities(x[:, None]).T @ density, rtol=1e-9)
    draws = known.sample(20_000, seed=1)  # errors: 0.016 of the mean
    assert abs(draws.mean() - known.mean) < 4 * known.standard_deviation / 20_000**0.5
    np.testing.assert_array_equal(known.sample(3, seed=1, first=5), draws[5:8])
    assert known.temperature_of_expectations == T
    assert against(known, None, T) is known


def test_tables_contain_all_modes_and_tails():
    """The modes at -1 and 1 are 34 sqrt(T) standard deviations from the mean; exponential tails are as wide as T."""
    known = against(uldnum.target("double-well"), None, 1e-3)
    np.testing.assert_allclose(known.moment(2), double_well_moment(2, 1e-3), rtol=1e-9)
    logistic = uldnum.UserTarget(lambda x: -np.tanh(x / 2), dimension=1, standard_deviation=[1.8138])
    np.testing.assert_allclose(against(logistic, None, 2.0).moment(2), np.pi**2, rtol=1e-6)
    with pytest.raises(ValueError, match=r"^temperature: must be lower than 30 on"):
        against(logistic, None, 30.0)


def test_histograms_extend_with_the_temperature():
    """At temperature 100, all draws of N(0, 100) are within 8 deviations, 42% of them beyond 8 of N(0, 1)."""
    options = {"h": 0.5, "steps": 4, "chains": 64, "bins": 64, "burn_in": 40, "backend": "array"}
    run = uldnum.sample(NORMAL, "baoab-limit", temperature=100.0, **options)
    np.testing.assert_allclose(run.edges[0, [0, -1]], [-80, 80])
    assert run.histogram[..., [0, -1]].sum() == 0
    tempered = uldnum.sample(against(NORMAL, None, 100.0), "baoab-limit", temperature=100.0, **options)
    np.testing.assert_array_equal(tempered.edges, run.edges)


def test_the_stein_discrepancy_uses_the_score_at_the_temperature():
    """N(0, 4) is the standard normal at temperature 4: the discrepancy of its draws from there is 0 within 4 floors."""
    draws = 2 * NORMAL.sample(2000, seed=2)
    hot = against(NORMAL, None, 4.0)
    found, wrong = (uldnum.diagnostics.kernel_stein_discrepancy(draws, target) for target in (hot, NORMAL))
    assert abs(found.value) < 4 * found.floor
    assert wrong.value > 20 * wrong.floor


# ----------------------------------------------------------------------------------------------------------- interface


def test_an_integrator_carries_its_temperature():
    hot = uldnum.integrator("BAOAB").at(temperature=T)
    assert (hot.name, hot.label, hot.temperature) == ("BAOAB", "BAOAB at temperature 2.5", T)
    assert hot.at() == hot
    assert hot.at(temperature=1.0) == replace(hot, temperature=1.0)
    np.testing.assert_array_equal(
        exact.gaussian(hot, h=H).covariance, exact.gaussian("BAOAB", h=H, temperature=T).covariance
    )
    assert "temperature  2.5" in str(hot)
    assert exact.measured_orders(uldnum.integrator("ula").at(temperature=T)) == exact.measured_orders("ula")


@pytest.mark.parametrize(
    ("temperature", "fault"),
    [
        (0, "between 1e-50 and 1e+50, got 0"), (-1.0, "between"), (np.nan, "between"), (1e300, "between"),
        (1e-300, "between"), ("hot", "a number, got 'hot'"), ([1.0, 2.0], r"a number, got shape (2,)"),
    ],
)  # fmt: skip
def test_a_temperature_is_a_positive_number(temperature, fault):
    for call in (
        exact.gaussian,
        exact.propagator,
        lambda *a, **b: uldnum.integrator("ula").at(temperature=temperature),
    ):
        with pytest.raises(ValueError, match=f"^temperature: must be {re.escape(fault)}"):
            call("ula", h=1.0, temperature=temperature)
    with pytest.raises(ValueError, match=r"^temperature: must be"):
        replace(uldnum.integrator("ula"), temperature=temperature)


def test_faults_of_plans_and_studies():
    levels = uldnum.levels.geometric(2.0, 0.5, 3)
    with pytest.raises(ValueError, match="temperature: 'heun' is a predictor"):
        uldnum.plan("heun", levels, temperature=2.0)
    mixed = [uldnum.integrator("ula"), uldnum.integrator("BAOAB").at(temperature=2.0)]
    with pytest.raises(ValueError, match="integrators: must all have the same temperature"):
        studies.exact_bias("gaussian", mixed, [0.5])


def test_the_shell_knows_the_temperature(monkeypatch, tmp_path):
    arguments = "bias --exact-only --target gaussian --integrators ula --h 0.5 --temperature 2 --out"
    monkeypatch.setattr(sys, "argv", ["uldnum", *arguments.split(), str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        app.main()
    assert not end.value.code
    assert xr.load_dataset(tmp_path / "bias.nc").temperature == 2.0


def test_a_reference_has_the_temperature_of_what_is_measured():
    target = uldnum.UserTarget(lambda x: -x, 1)
    run = uldnum.sample(target, "BAOAB", h=0.3, steps=20, chains=16, temperature=2.0, x0="normal", progress=False)
    assert against(target, run, 2.0).reference.temperature == 2.0
    with pytest.raises(ValueError, match=r"^reference: must be samples at the temperature 1 .*, got a run at"):
        against(target, run, 1.0)

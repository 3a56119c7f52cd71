"""Tests of the transfer operator: comparison with linear algebra, quadrature, simulations and other discretisations."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numba
import numpy as np
import pytest
from helpers.catalogue import CATALOGUE_AT_HALF
from scipy.stats import multivariate_normal, norm

import uldnum
from analysis import agreement
from uldnum._util.threads import controller, one_thread
from uldnum.exact import ConvergenceError, UnstableError, gaussian, max_stable_h, transfer_operator
from uldnum.exact.density import tabulate
from uldnum.exact.grid import DEGREE, Axis, Grid, Noise, Push, pieces
from uldnum.exact.resolvent import Factors
from uldnum.exact.stationary import MOST_WORK, Budget, Solution, wider
from uldnum.schemes.stage import Affine, Stage
from uldnum.targets import vector_target

BIMODAL = uldnum.target("bimodal-1d")
GAUSSIAN = uldnum.target("gaussian")
# Bias of E[x^2] on the mixture at these values of delta, computed by an independent quadrature.
DELTA = (0.05, 0.1, 0.2, 0.4, 0.8)
BIAS = {
    "ula": (0.01159, 0.02414, 0.05223, 0.12168, 0.33036),
    "baoab-limit": (-0.000107, -0.000398, -0.001362, -0.003872, -0.005202),
}


@pytest.mark.parametrize("name", BIAS)
def test_biases_by_quadrature(name):
    """The bias of E[x^2] equals that of an independent quadrature, to all its digits."""
    digits = 5 if name == "ula" else 6
    for delta, bias in zip(DELTA, BIAS[name], strict=True):
        law = transfer_operator(name, BIMODAL, delta=delta, tolerance=1e-7)
        assert round(law.expectation(np.square) - 3.25, digits) == bias


@pytest.mark.parametrize("spread", [0.0, 0.7, 1.4, 1.6, 10.0, 300.0])
def test_splines_averaged_over_noise_have_the_variance_of_both(spread):
    """The sums of splines at all nodes times 1, the distance and its square are exact moments of noise and spline."""
    values = pieces(spread, 10**4).sum(axis=0)  # at the right end, where all Chebyshev polynomials are 1
    distance = np.arange(len(values)) - len(values) // 2
    np.testing.assert_allclose([values.sum(), values @ distance], [1, 0], atol=1e-9)
    assert values @ distance**2 == pytest.approx(spread**2 + (DEGREE + 1) / 12, rel=1e-8)


def thorough(cases, quick):
    """Return the cases, all marked as slow except those in ``quick``."""
    return [case if case in quick else pytest.param(*case, marks=pytest.mark.slow) for case in cases]


ALIKE = ("ula", "baoab-limit", "BAOAB", "OBABO", "UBU", "mild(0.5)")


@pytest.mark.parametrize(
    ("name", "h", "mean", "variance"),
    thorough(
        [
            (name, h, mean, variance)
            for mean, variance in [(0.0, 1.0), (-3.0, 4.0)]
            for name, h in [(name, h) for h in (0.1, 0.5, 1.2) for name in ALIKE]
            + [("euler-maruyama", 0.1), ("BUB", 0.5)]
        ],
        quick=[(name, 1.2, -3.0, 4.0) for name in ALIKE]
        + [("BAOAB", 0.5, 0.0, 1.0), ("euler-maruyama", 0.1, 0.0, 1.0)],
    ),
)
def test_on_gaussians(name, h, mean, variance):
    """Moments and second eigenvalue agree with linear algebra to 1e-6, the cdf to 1e-5 and the density to 1e-4."""
    scale = np.sqrt(variance)
    target = uldnum.GaussianMixture([1.0], [[mean]], [variance])
    exact = gaussian(name, h * scale, precision=1 / variance, friction=1.3 / scale)
    law = transfer_operator(name, target, h * scale, friction=1.3 / scale)
    second = law.expectation(lambda x: (x - mean) ** 2)
    assert second == pytest.approx(exact.position_covariance, abs=1e-6 * variance)
    assert law.expectation(np.asarray) == pytest.approx(mean, abs=1e-6 * scale)
    assert abs(law.eigenvalues[1]) == pytest.approx(exact.spectral_radius, abs=1e-6)
    assert law.spectral_gap == pytest.approx(1 - exact.spectral_radius, abs=1e-6)
    assert law.relaxation_time == pytest.approx(exact.relaxation_time, rel=1e-4)
    x = mean + scale * np.linspace(-4, 4, 41)
    deviation = np.sqrt(exact.position_covariance)
    np.testing.assert_allclose(law.cdf(x), norm.cdf(x, mean, deviation), rtol=0, atol=1e-5)
    np.testing.assert_allclose(law.density(x) * scale, scale * norm.pdf(x, mean, deviation), rtol=0, atol=1e-4)
    assert law.wasserstein_1 == pytest.approx(abs(deviation - scale) * np.sqrt(2 / np.pi), abs=1e-5 * scale)


def test_distances_of_gaussians():
    """Distances between N(0, s^2) and N(0, 1) follow from the cdfs at the two points where the densities are equal."""
    law = transfer_operator("ula", GAUSSIAN, delta=0.5)
    s = np.sqrt(1 / (1 - 0.25))
    crossing = np.sqrt(2 * np.log(s) / (1 - 1 / s**2))
    gap = norm.cdf(crossing) - norm.cdf(crossing / s)
    assert law.kolmogorov == pytest.approx(gap, abs=1e-6)
    assert law.total_variation == pytest.approx(2 * gap, abs=1e-6)
    assert law.density([-100.0, 100.0, -1e308, 1e308]).tolist() == [0.0] * 4
    np.testing.assert_allclose(law.cdf([-100.0, 100.0]), [0, 1], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "friction", "share"),
    thorough(
        [
            (name, friction, share)
            for name in ("BAOAB", "OBABO", "ABOBA", "OABAO", "UBU", "BUB", "BAOA", "ABAOABA", "exponential-euler")
            for friction in (0.3, 1.0, 5.0)
            for share in (0.1, 0.5, 0.75)
        ],
        quick=[(name, 1.0, 0.5) for name in ("BAOAB", "OBABO", "UBU", "BUB")] + [("exponential-euler", 5.0, 0.1)],
    ),
)
def test_momenta_on_gaussians(name, friction, share):
    """Moments and divergences of (x, p) agree with linear algebra to 2e-6 and densities to 5e-6."""
    h = share * min(max_stable_h(name, friction=friction), 3.0)
    exact, law = gaussian(name, h, friction=friction), transfer_operator(name, GAUSSIAN, h, friction=friction)
    joint = law.phase_space
    assert law.kl == pytest.approx(exact.position_kl, abs=1e-6)
    assert joint.kl == pytest.approx(exact.phase_space_kl, abs=2e-6)
    assert joint.momentum_variance == pytest.approx(exact.momentum_covariance, abs=2e-6)
    assert joint.kinetic_temperature == pytest.approx(exact.kinetic_temperature, abs=2e-6)
    assert joint.expectation(lambda x, p: x * p) == pytest.approx(exact.cross_covariance, abs=2e-6)
    x, p = np.meshgrid(np.linspace(-4, 4, 21), np.linspace(-4, 4, 19))
    covariance = [
        [exact.position_covariance, exact.cross_covariance],
        [exact.cross_covariance, exact.momentum_covariance],
    ]
    wanted = multivariate_normal([0, 0], covariance).pdf(np.stack([x, p], axis=-1))
    np.testing.assert_allclose(joint.density(x, p), wanted, rtol=0, atol=5e-6)


def test_momenta_with_mass_and_temperature():
    exact, law = (
        f("BAOAB", h=1.5, mass=4.0, temperature=2.0) for f in (gaussian, partial(transfer_operator, target=GAUSSIAN))
    )
    joint = law.phase_space
    assert joint.kl == pytest.approx(exact.phase_space_kl, abs=1e-6)
    assert joint.momentum_variance == pytest.approx(exact.momentum_covariance, abs=1e-5)
    assert joint.kinetic_temperature == pytest.approx(exact.kinetic_temperature, abs=1e-6)
    wanted = norm.pdf(0.5, 0, exact.position_covariance**0.5) * norm.pdf(1.0, 0, exact.momentum_covariance**0.5)
    assert joint.density(0.5, 1.0) == pytest.approx(wanted, abs=1e-6)


def stepped(word, density, x, p, h, friction):
    """Densities on a grid after one step of a word. Flows of A and B are exact shifts of trigonometric polynomials."""
    score, (n, k) = BIMODAL.score(x[:, None])[:, 0], (len(x), len(p))
    waves = [2 * np.pi * np.fft.fftfreq(count, axis[1] - axis[0]) for count, axis in ((n, x), (k, p))]
    for letter in word:
        t = h / word.count(letter)
        if letter == "A":
            density = np.fft.ifft(np.fft.fft(density, axis=0) * np.exp(-1j * np.outer(waves[0], t * p)), axis=0).real
        elif letter == "B":
            density = np.fft.ifft(
                np.fft.fft(density, axis=1) * np.exp(-1j * np.outer(t * score, waves[1])), axis=1
            ).real
        else:
            c = np.exp(-friction * t)
            density = density @ norm.pdf(p, c * p[:, None], np.sqrt(1 - c**2)) * (p[1] - p[0])
    return density


@pytest.mark.parametrize("word", ["BAOAB", "OBABO"])
def test_joint_densities_by_quadrature(word):
    """The joint density on the mixture is that after one more step, in which flows act on a fine grid."""
    h, friction = 1.0, 1.3
    law = transfer_operator(word, BIMODAL, h, friction=friction)
    x, p = np.linspace(-10, 10, 300, endpoint=False), np.linspace(-9, 9, 256, endpoint=False)
    cell, density = (x[1] - x[0]) * (p[1] - p[0]), law.phase_space.density(x[:, None], p)
    np.testing.assert_allclose(stepped(word, density, x, p, h, friction), density, rtol=0, atol=2e-6)
    assert density.sum() * cell == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(density.sum(axis=1) * (p[1] - p[0]), law.density(x), rtol=0, atol=2e-6)
    assert (density * p**2).sum() * cell == pytest.approx(law.phase_space.momentum_variance, abs=1e-6)
    # Distances from the target with independent momenta, by the same quadrature.
    log = BIMODAL.log_density(x[:, None])[:, None] + norm.logpdf(p)
    some = density > 1e-12
    kl = (density[some] * (np.log(density[some]) - log[some])).sum() * cell
    assert law.phase_space.kl == pytest.approx(kl, abs=2e-6)
    total = np.abs(density - np.exp(log)).sum() * cell / 2
    assert law.phase_space.total_variation == pytest.approx(total, rel=2e-3)


def test_the_divergence_of_ula_by_quadrature():
    law = transfer_operator("ula", BIMODAL, delta=0.4, tolerance=1e-8)
    x = np.linspace(-12, 13, 4001)
    density, log = law.density(x), BIMODAL.log_density(x[:, None])
    some = density > 1e-12
    kl = np.trapezoid(np.where(some, density * (np.log(np.where(some, density, 1)) - log), 0), x)
    assert law.kl == pytest.approx(kl, rel=1e-6)


def test_schemes_without_momenta_have_no_joint_distribution():
    law = transfer_operator("baoab-limit", GAUSSIAN, 0.5, tolerance=1e-3)
    with pytest.raises(ValueError, match="integrator: must have momenta"):
        _ = law.phase_space


def test_momenta_that_need_too_many_nodes_are_refused(monkeypatch):
    law = transfer_operator("OBABO", GAUSSIAN, 0.5, tolerance=1e-2)
    monkeypatch.setattr("uldnum.exact.stationary.MOST_ON_AXIS", 20)
    with pytest.raises(ConvergenceError, match="this would require more than 20 nodes for the momentum"):
        _ = law.phase_space


def test_functions_of_momenta_have_their_shape():
    law = transfer_operator("OBABO", GAUSSIAN, 0.5, tolerance=1e-2).phase_space
    assert law.expectation(lambda x, p: 3.0) == pytest.approx(3.0)
    with pytest.raises(ValueError, match="f: must return the shape of its arguments"):
        law.expectation(lambda x, p: p[0])
    with pytest.raises(ValueError, match="x, p: must have shapes that broadcast"):
        law.density([0.0, 1.0], [0.0, 1.0, 2.0])
    far = law.density([100.0, 0.0, 1e308, np.nan, np.inf], [0.0, 100.0, -1e308, 0.0, np.inf])
    assert far.tolist() == [0.0] * 5
    assert law.density([], []).shape == (0,)


@pytest.mark.parametrize("delta", [pytest.param(0.1, marks=pytest.mark.slow), 0.8])
def test_against_the_density_of_ula_by_quadrature(delta):
    """Density, eigenvalues and times of ULA agree with those of its kernel N(x + delta s(x), 2 delta) on a grid."""
    x = np.linspace(-12, 12, 1201)
    centre = x + delta * BIMODAL.score(x[:, None])[:, 0]
    kernel = norm.pdf(x[:, None], centre, np.sqrt(2 * delta)) * (x[1] - x[0])
    values, vectors = np.linalg.eig(kernel)
    order = np.argsort(-np.abs(values))
    density = np.real(vectors[:, order[0]])
    density /= density.sum() * (x[1] - x[0])
    law = transfer_operator("ula", BIMODAL, delta=delta)
    np.testing.assert_allclose(law.density(x), density, rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.abs(law.eigenvalues[:3]), np.abs(values[order[:3]]), rtol=0, atol=1e-5)
    weights = density * (x[1] - x[0])
    for f in (np.asarray, np.tanh):
        deviation = f(x) - weights @ f(x)
        later = np.linalg.solve(np.eye(len(x)) - kernel.T + weights, deviation)  # sum over n of E[f(x_n) - E f | x_0]
        time = 2 * (weights * deviation) @ later / (weights @ deviation**2) - 1
        assert law.autocorrelation_time(f) == pytest.approx(time, rel=1e-5)


@pytest.mark.slow
def test_against_the_density_of_a_kinetic_scheme_by_simulation():
    """Exact moments agree with those of a run to 4.5 standard errors. The false-fail rate of 6 comparisons is 4e-5."""
    for name, h in (("BAOA", 0.8), ("exponential-euler", 0.4), ("ABAOABA", 1.0)):
        run = uldnum.sample(BIMODAL, name, h=h, friction=0.7, steps=400, burn_in=100, chains=4096, progress=False)
        law = transfer_operator(name, BIMODAL, h, friction=0.7)
        mean, second = run.moments.chain_mean[:, 0], run.moments.chain_square[:, 0]
        for sampled, exact in ((mean, law.expectation(np.asarray)), (second, law.expectation(np.square))):
            assert abs(sampled.mean() - exact) < 4.5 * sampled.std(ddof=1) / np.sqrt(len(sampled))


@pytest.mark.parametrize("name", ["BAOAB", pytest.param("mild(0.5)", marks=pytest.mark.slow)])
def test_the_tolerance_is_kept(name):
    """Results agree with a solution whose tolerance is a thousand times smaller."""
    h = 0.6
    fine = transfer_operator(name, BIMODAL, h, tolerance=1e-8)
    coarse = transfer_operator(name, BIMODAL, h, tolerance=1e-5)
    assert coarse.resolution < fine.resolution
    assert fine.change < 1e-8
    assert fine.change < coarse.change < 1e-5
    for f in (np.asarray, np.square):
        assert coarse.expectation(f) == pytest.approx(fine.expectation(f), abs=1e-5)
    assert coarse.wasserstein_1 == pytest.approx(fine.wasserstein_1, abs=1e-5)


def test_distances_keep_the_tolerance_where_the_grid_ends():
    """The distances do not count probability outside the interval over the whole table, which spans 24 deviations."""
    tolerance, well = 1e-4, uldnum.target("double-well")
    fine, coarse = (transfer_operator("baoab-limit", well, 0.02, tolerance=value) for value in (1e-7, tolerance))
    np.testing.assert_allclose(coarse.cdf([-1e6, 1e6]), [0, 1], atol=1e-14)
    assert coarse.density(coarse.target.x) @ np.gradient(coarse.target.x) == pytest.approx(1, abs=1e-6)
    assert abs(coarse.wasserstein_1 - fine.wasserstein_1) < tolerance / 10 * well.standard_deviation[0]


def test_units_do_not_matter():
    """Results have the right units: a target, a step size and 1/friction that are all 1000 times larger agree."""
    wide = uldnum.GaussianMixture([0.7, 0.3], [[1500.0], [-1500.0]], [1e6, 1e6])
    one, other = transfer_operator("UBU", BIMODAL, 0.4), transfer_operator("UBU", wide, 400.0, friction=1e-3)
    assert other.expectation(np.square) == pytest.approx(1e6 * one.expectation(np.square), rel=1e-9)
    assert other.relaxation_time == pytest.approx(one.relaxation_time, rel=1e-9)
    assert other.autocorrelation_time(np.square) == pytest.approx(one.autocorrelation_time(np.square), rel=1e-6)


def test_words_with_several_evaluations():
    """Variance and relaxation time of words with several evaluations per step agree with linear algebra."""
    law, exact = transfer_operator("ABAOABA", GAUSSIAN, 0.7), gaussian("ABAOABA", 0.7)
    assert law.expectation(np.square) == pytest.approx(exact.position_covariance, abs=1e-6)
    assert law.relaxation_time == pytest.approx(exact.relaxation_time, rel=1e-5)
    # The word is no palindrome, has unequal fractions and has noise in only one of three stages. Its variance therefore
    # depends on the point of the time step at which the position is read.
    lopsided = uldnum.splitting("ABABOABA", [0.1, 0.2, 0.4, 0.5, 1.0, 0.3, 0.3, 0.2])
    law, exact = transfer_operator(lopsided, GAUSSIAN, 0.9), gaussian(lopsided, 0.9)
    assert law.expectation(np.square) == pytest.approx(exact.position_covariance, abs=1e-6)
    assert law.relaxation_time == pytest.approx(exact.relaxation_time, rel=1e-5)
    assert abs(exact.position_bias) > 0.01


READ = (
    *("ula", "baoab-limit", "BAOAB", "OBABO", "ABOBA", "OABAO", "UBU", "BUB", "BAOA"),
    *("mild(0.5)", "noise-denoise(1)", "exponential-euler", "ABAOABA"),
)


@pytest.mark.parametrize(
    ("name", "h", "friction"),
    thorough(
        [(name, h, friction) for name in READ for h, friction in [(0.3, 0.8), (1.0, 2.0)]],
        quick=[(name, 1.0, 2.0) for name in ("ula", "baoab-limit", "BAOAB", "ABOBA", "UBU", "mild(0.5)")],
    ),
)
def test_autocorrelation_times_on_a_gaussian(name, h, friction):
    """Times agree with linear algebra, which includes the correlation between a reading and the next stage.

    A reading and the next stage share normals. With independent normals for the reading, the times at h = 0.3 would be
    2 % shorter for UBU and at least 7 % shorter for ABOBA and ula. BAOAB, OBABO, OABAO and BUB share no normals.
    """
    law, exact = transfer_operator(name, GAUSSIAN, h, friction=friction), gaussian(name, h, friction=friction)
    for f, observable in ((np.asarray, "x"), (np.square, "x^2")):
        assert law.autocorrelation_time(f) == pytest.approx(exact.autocorrelation_time(observable), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "h"), [("UBU", 1.0), ("mild(0.5)", 0.8)])
def test_autocorrelation_times_on_a_mixture_by_simulation(name, h):
    """The mean square error of averages over N steps agrees with Var(x) tau / N to 4 standard errors, over 8192 chains.

    The false-fail rate is 6e-5 for each scheme. A standard error is 1.6 %. The bias for finite N, about a relaxation
    time divided by N, is a tenth of that.
    """
    steps, law = 10_000, transfer_operator(name, BIMODAL, h)
    run = uldnum.sample(BIMODAL, name, h=h, steps=steps, burn_in=200, chains=8192, progress=False)
    mean = law.expectation(np.asarray)
    times = steps * (run.moments.chain_mean[:, 0] - mean) ** 2 / (law.expectation(np.square) - mean**2)
    error = times.std(ddof=1) / np.sqrt(len(times))
    assert abs(times.mean() - law.autocorrelation_time(np.asarray)) < 4 * error
    assert error < 0.017 * times.mean()


def test_autocorrelation_times_of_several_functions():
    """Each time equals that of its function alone, bit for bit, and is NaN if only this function is not resolved."""
    law = transfer_operator("ula", BIMODAL, 0.5)
    alone = [law.autocorrelation_time(f) for f in (np.asarray, np.square)]
    assert law.autocorrelation_times([np.asarray, np.square]).tolist() == alone
    times = law.autocorrelation_times([np.sign, np.square])
    assert np.isnan(times[0])
    assert times[1] == alone[1]


def test_exact_answers_use_one_thread_of_blas():
    """The limit holds while any thread is inside, and is lifted when the last one leaves."""

    def threads():
        return [library["num_threads"] for library in controller().info() if library["user_api"] == "blas"]

    with controller().limit(limits=2, user_api="blas"):
        assert set(threads()) == {2}
        with one_thread, ThreadPoolExecutor(1) as pool:
            with one_thread:
                assert set(threads()) == {1}
            pool.submit(transfer_operator, "ula", "bimodal-1d", 0.5, tolerance=1e-3).result()
            assert set(threads()) == {1}
        assert set(threads()) == {2}


def test_autocorrelation_times_are_refined_or_refused():
    """Times agree with those at a 100 times smaller tolerance. Discontinuous and constant functions raise an error."""
    fine, coarse = (transfer_operator("OBABO", BIMODAL, 0.8, tolerance=t) for t in (1e-7, 1e-5))
    for f in (np.asarray, np.square):
        assert coarse.autocorrelation_time(f) == pytest.approx(fine.autocorrelation_time(f), rel=1e-3)
    law = transfer_operator("ula", BIMODAL, 0.5)
    with pytest.raises(ConvergenceError, match=r"the autocorrelation time is not resolved to 0.0001"):
        law.autocorrelation_time(np.sign)
    for f in (np.ones_like, lambda x: 1.0, lambda x: x * np.nan):
        with pytest.raises(ValueError, match=r"^f: must be finite and not constant"):
            law.autocorrelation_time(f)


def test_separated_modes_and_a_narrow_one():
    """The weights of separated modes equal those of the mixture, and a narrow mode is resolved."""
    apart = uldnum.GaussianMixture([0.2, 0.8], [[-3.0], [3.0]], [0.5, 0.5])
    law = transfer_operator("baoab-limit", apart, 0.2)
    assert law.cdf(0.0) == pytest.approx(0.2, abs=1e-3)
    assert law.relaxation_time > 1e4
    narrow = uldnum.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.01, 1.0])
    law = transfer_operator("ula", narrow, 0.02)
    assert law.resolution[0] > 150
    assert law.expectation(np.square) == pytest.approx(narrow.moment(2)[0], abs=0.01)


@pytest.mark.parametrize(
    ("name", "temperature"), [("mild(0.5)", 0.5), ("mild(0.38)", 0.62), ("noise-denoise(1)", 0.5), ("BAOAB", 1.0)]
)
def test_small_steps_sample_at_a_temperature(name, temperature):
    """At small steps MILD samples pi^(1/T) with T = 1 - beta, and noise-denoise(eta) with T = eta/2, up to O(h^2)."""
    x = np.linspace(-10, 10, 4001)
    power = np.exp(BIMODAL.log_density(x[:, None]) / temperature)
    law = transfer_operator(name, BIMODAL, 0.03)
    np.testing.assert_allclose(law.density(x), power / np.trapezoid(power, x), rtol=0, atol=1e-3)


def test_user_targets():
    """A double well with only its score, which is then integrated, gives the same results as with its log density."""
    well = uldnum.target("double-well")

    @numba.njit
    def score(x, out):
        out[0] = -8 * x[0] * (x[0] * x[0] - 1)

    bare = uldnum.UserTarget(score, 1, mean=[0.0], standard_deviation=well.standard_deviation)
    one, other = transfer_operator("baoab-limit", well, 0.1), transfer_operator("baoab-limit", bare, 0.1)
    assert one.expectation(np.square) == pytest.approx(other.expectation(np.square), abs=1e-12)
    assert one.wasserstein_1 == pytest.approx(other.wasserstein_1, abs=1e-7)
    assert one.expectation(np.square) == pytest.approx(well.moment(2)[0], abs=1e-4)
    # The slowest mode is odd. A Krylov space that starts with an even function would not contain it.
    assert one.relaxation_time > 400
    np.testing.assert_allclose(one.expectation(np.asarray), 0, atol=1e-6)


def test_the_interval_grows_to_hold_the_distribution():
    """The interval contains the distribution of ULA at a large step, which is wider than the target, exp(-2 x^4)."""
    law = transfer_operator("ula", "double-well", 0.25, tolerance=1e-5).law
    assert law.grid.x.high > 2.2
    assert np.abs(law.weights[[0, -1]]).max() < 1e-6


@pytest.mark.parametrize(("name", "share"), [("UBU", 0.9), ("ABOBA", 0.8)])
def test_the_grid_contains_the_position_within_a_step(name, share):
    """Close to the stability limit, the position before the noise of a step is much wider than at its end."""
    h = share * max_stable_h(name)
    second = transfer_operator(name, GAUSSIAN, h).expectation(np.square)
    assert second == pytest.approx(gaussian(name, h).position_covariance, rel=0, abs=1e-6)


def test_eigenvalues_that_only_one_grid_has_are_omitted():
    """Only eigenvalues that two grids have in common remain. The change of the gap is relative to the gap."""
    x = Grid(Axis(-1.0, 1.0, 40), Axis(0.0, 0.0, 1))
    weights, memory = np.full(40, 1 / 40), np.ones(1)
    coarse = Solution(x, weights, memory, np.array([1.0, -0.97, 0.8, 0.3j]))
    fine = Solution(x, weights, memory, np.array([1.0, 0.93, 0.8005, -0.29j]))
    assert fine.confirmed(coarse).eigenvalues.tolist() == [1.0, 0.8005]
    assert fine.confirmed(coarse).change(coarse, unit=1.0) == pytest.approx(0.0005 / (1 - 0.8005))
    # The second eigenvalue must be resolved by both grids.
    assert fine.change(coarse, unit=1.0) == pytest.approx(1.0)


def test_an_axis_is_widened_where_its_end_has_probability():
    """An end moves by 5% of the length for each decade by which the smallest of three weights exceeds the threshold."""
    axis = Axis(0.0, 1.0, 21)
    weights = np.full(21, 1e-3)
    weights[:3], weights[-3:] = (1e-5, 2e-5, 5e-5), (-1e-4, 1e-3, -1e-4)
    assert wider(axis, weights, 1e-4) == axis
    assert wider(axis, weights, 2e-6) == Axis(-0.05, 1.0, 22)
    assert wider(axis, weights, 1e-7) == Axis(-0.1, 1.0, 23)


@pytest.mark.parametrize("centres", [(), ((0.0, 6.0, 2.5),)])
@pytest.mark.parametrize("noise", [0.0, 0.03, 0.2, 0.7])
def test_splines_reproduce_polynomials_and_their_averages(noise, centres):
    """Away from the ends, splines reproduce a cubic and its average E (x + s xi)^3 = x^3 + 3 s^2 x."""
    axis, x = Axis(-12.0, 12.0, 61, centres), np.linspace(-1.0, 1.0, 7)
    coefficients = np.linalg.solve(axis.collocation, axis.nodes**3)
    first, values = axis.window(x, noise)
    np.testing.assert_allclose(values.sum(axis=-1), 1, rtol=0, atol=1e-13)
    found = values @ coefficients[first : first + values.shape[-1]]
    np.testing.assert_allclose(found, x**3 + 3 * noise**2 * x, rtol=0, atol=1e-5)


def test_nodes_are_denser_around_centres():
    """An amplitude of 3 makes nodes 4 times as dense at a centre. Nodes have integer indices; points are clipped."""
    axis = Axis(-20.0, 30.0, 201, ((2.0, 1.5, 3.0),))
    np.testing.assert_allclose(axis.place(axis.nodes), np.arange(201), rtol=0, atol=1e-11)
    assert axis.nodes[[0, -1]].tolist() == [-20.0, 30.0]
    dense = axis.density(np.array([2.0, -20.0]))
    assert dense[0] == pytest.approx(4 * dense[1], rel=1e-9)
    assert axis.place(np.array([-21.0, 31.0])).tolist() == [0.0, 200.0]


@pytest.mark.parametrize("axis", [Axis(-3.0, 4.0, 31), Axis(-3.0, 4.0, 31, ((1.0, 2.0, 2.5),)), Axis(0.0, 0.0, 1)])
def test_rows_of_points_have_the_same_splines_together(axis):
    """The splines at many rows of points equal those of each row alone, within and near the ends of the interval."""
    rows = np.linspace(-4, 5, 7)[:, None] + np.array([0.0, 0.1, 0.4])
    for noise in (0.0, 0.1, 0.7):
        for row, (first, values) in zip(rows, axis.windows(rows, noise), strict=True):
            alone = axis.window(row, noise)
            assert first == alone[0]
            np.testing.assert_allclose(values, alone[1], rtol=0, atol=1e-14)


def test_noise_changes_only_the_memory_on_a_sheared_grid():
    """Second moments after noise and a drift are exact, between grids with different shears."""
    noise, a, h = Noise(np.array([0.2, 0.4])), 0.5, 0.3
    grid = Grid(Axis(-8.0, 8.0, 61), Axis(-5.0, 5.0, 41))
    drift = Stage(np.array([1.0, 0.0]), Affine(np.array([[0.0, h], [0.0, 0.0]]), np.zeros(2), np.zeros((2, 1))))
    push = Push(grid, grid, noise, [drift], lambda y: -y, Noise(np.array([0.4, 0.4])))
    x, p = grid.points(2)[25:36, 15:26].transpose(2, 0, 1)
    q = p**2 + 0.4**2
    moved = x + (a + h - 1.0) * p  # sheared position after the drift, at xi = 0
    second = moved**2 + (a + h - 1.0) ** 2 * 0.4**2
    for values, expected in (
        (grid.points(2)[..., 1] ** 2, q),
        (grid.points(2)[..., 0] ** 2, second),
    ):
        np.testing.assert_allclose(push.expectation(values)[25:36, 15:26], expected, rtol=0, atol=1e-4)


def test_banded_systems():
    """Solutions fulfil the dense systems, for blocks of different sizes and bandwidths."""
    rng = np.random.default_rng(1)
    edges, reach = [0, 3, 7, 8, 12, 17], [(0, 7), (0, 8), (3, 12), (3, 17), (8, 17)]
    matrix, blocks = np.zeros((17, 17)), []
    for start, stop, (left, right) in zip(edges[:-1], edges[1:], reach, strict=True):
        matrix[start:stop, left:right] = rng.normal(size=(stop - start, right - left))
        blocks.append((left, matrix[start:stop, left:right].copy()))
    factors, sides = Factors(blocks), rng.normal(size=(17, 2))
    np.testing.assert_allclose(matrix @ factors.solve(sides), sides, rtol=0, atol=1e-11)
    np.testing.assert_allclose(matrix.T @ factors.solve_transposed(sides), sides, rtol=0, atol=1e-11)


APART = uldnum.GaussianMixture([0.7, 0.3], [[0.0], [5.0]], [0.15, 0.15])


@pytest.mark.parametrize("name", ["ula", "baoab-limit"])
def test_weights_of_modes_that_hardly_mix_are_right(name):
    """A gap far below the tolerance is resolved. Otherwise errors of the grid would determine the weights."""
    law = transfer_operator(name, APART, 0.1, tolerance=1e-2)
    assert 0 < law.spectral_gap < 1e-9
    assert law.expectation(np.asarray) == pytest.approx(1.5, abs=0.05)


def test_unresolvable_problems_raise(monkeypatch):
    """Too many nodes, an unstable scheme and a wrong standard deviation raise errors with distinct messages."""
    narrow = uldnum.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [1e-4, 1.0])
    with monkeypatch.context() as patch:
        patch.setattr("uldnum.exact.stationary.MOST_NODES", 5000)  # the first grid has fewer nodes
        with pytest.raises(ConvergenceError, match=r"not resolved to 0\.01; this would require more than 5000 nodes"):
            transfer_operator("BAOAB", narrow, 0.01, tolerance=1e-2)
    with pytest.raises(UnstableError, match=r"ula at h = 2.1 on 'bimodal-1d': unstable in the tails"):
        transfer_operator("ula", BIMODAL, 2.1)
    mistaken = uldnum.UserTarget(lambda x: -x, 1, standard_deviation=[0.1])
    with pytest.raises(ConvergenceError, match=r"a Gaussian with the target's standard_deviation") as caught:
        transfer_operator("ula", mistaken, 0.5)
    assert not isinstance(caught.value, UnstableError)


@pytest.mark.parametrize("most", [2e10, pytest.param(MOST_WORK, marks=pytest.mark.slow)])
def test_a_call_has_a_budget(monkeypatch, most):
    """The budget covers all grids of a call together. At low friction, each grid is within it, but their sum is not."""
    budget = Budget(10.0)
    assert [budget.spend(6.0), budget.spend(5.0), budget.spend(4.0)] == [True, False, True]
    monkeypatch.setattr(Budget.__init__, "__defaults__", (most,))
    monkeypatch.setattr("uldnum.exact.stationary.MOST_WORK", most)
    with pytest.raises(ConvergenceError, match="not resolved to 1e-06; this would require more than") as error:
        transfer_operator("BAOAB", BIMODAL, 0.3, friction=0.003)
    total, last = re.search(r"more than (\S+) operations, of which (\S+) on a grid", str(error.value)).groups()
    assert float(last) < float(total) == most


@pytest.mark.slow
def test_problems_that_are_unresolvable_after_refinement_raise():
    """A kinetic scheme with a gap of 1e-10 and a discontinuous score raise errors.

    The ends of the grid affect such a gap although their probability is far below the tolerance. If the memory ended at
    3.2 standard deviations, the gap would be 3e-12 and the mean would be 1.13 instead of 1.50.
    """
    with pytest.raises(ConvergenceError, match=r"not resolved to 0\.01"):
        transfer_operator("BAOAB", APART, 0.1, tolerance=1e-2)
    laplace = uldnum.UserTarget(lambda x: -np.sign(x) * (np.abs(x) > 0), 1, standard_deviation=[1.0])
    with pytest.raises(ConvergenceError):
        transfer_operator("BAOAB", laplace, 0.3, tolerance=1e-8)


@pytest.mark.parametrize(
    ("name", "h", "bias", "gap"),
    thorough(
        [
            ("BAOAB", 0.1, -0.0005319, 0.011706),
            ("BAOA", 0.1, -0.0005319, 0.011706),
            ("ABOBA", 0.1, -0.0066685, 0.012515),
            ("ABOBA", 0.2, -0.029778, 0.02932),
        ],
        quick=[("BAOAB", 0.1, -0.0005319, 0.011706), ("ABOBA", 0.1, -0.0066685, 0.012515)],
    ),
)
def test_kinetic_schemes_on_a_double_well(name, h, bias, gap):
    """Bias and gap at friction 1 agree with a Galerkin method to the digits to which that method converged.

    The basis functions are products of the orthonormal polynomials of the target and those of the momentum.
    """
    law = transfer_operator(name, "double-well", h)
    found = law.expectation(np.square) - uldnum.target("double-well").moment(2)[0]
    assert found == pytest.approx(bias, rel=1e-4)
    assert law.spectral_gap == pytest.approx(gap, rel=1e-4)


SEPARATED = uldnum.GaussianMixture([0.3, 0.7], [[-2.0], [2.0]], [0.5, 0.5], name="separated")


def test_a_kinetic_scheme_on_separated_modes():
    """The gap agrees with Chebyshev collocation, which gives 0.0058845 to 0.0058847 with 220 to 300 nodes."""
    assert 0.0058845 < transfer_operator("BAOA", SEPARATED, 0.4, tolerance=1e-4).spectral_gap < 0.0058847


def test_noise_that_the_score_spreads_is_resolved():
    """OABAO is resolved on a ridge of curvature +14, where the kick makes the noise of a step 2.7 times as wide.

    A quadrature that resolves the noise only before the kick would give a distribution that is rough on the scale of
    the grid.
    """
    law = transfer_operator("OABAO", SEPARATED, np.sqrt(0.5), friction=10.0)
    assert law.resolution[0] < 80
    finer = law.law.grid.x.n + 7
    check = law.problem.confined(replace(law.law.grid, x=replace(law.law.grid.x, n=finer)))
    x = np.linspace(-5, 5, 101)
    np.testing.assert_allclose(law.cdf(x), check.cdf(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "BAOAB",
        "ula",
        "noise-denoise(0.5)",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("UBU", "mild(0.5)")),
    ],
)
def test_nine_digits_on_a_gaussian(name):
    """At a tolerance of 1e-8, variance and gap agree with linear algebra to 2e-9."""
    law, exact = transfer_operator(name, GAUSSIAN, 0.5, friction=1.3, tolerance=1e-8), gaussian(name, 0.5, friction=1.3)
    assert law.expectation(np.square) == pytest.approx(exact.position_covariance, abs=2e-9)
    assert law.spectral_gap == pytest.approx(1 - exact.spectral_radius, abs=2e-9)
    assert law.spectral_gap == pytest.approx(1 - abs(law.eigenvalues[1]))
    assert len(law.eigenvalues) <= 6


def resolved_twice(name, target, friction, share):
    """Return E[x^2] and the gap from the package, and both from a finer and wider grid.

    The step size is ``share`` times the stability limit of the largest curvature where the density exceeds 1e-12 of its
    maximum. The other grid has 30% more nodes on each axis, and each axis is longer by 5% at each end.
    """
    target = vector_target(target)
    table = tabulate(target)
    x = table.x[table.log_density > table.log_density.max() + np.log(1e-12)]
    curvature = -np.gradient(target.score(x[:, None])[:, 0], x).min()
    h = share * float(max_stable_h(name, precision=curvature, friction=friction))
    law = transfer_operator(name, target, h, friction=friction)
    other = Grid(finer(law.law.grid.x), finer(law.law.grid.memory))
    check = replace(law.problem, budget=Budget(np.inf)).confined(other)
    gap = 1 - abs(check.eigenvalues[1])
    return (law.expectation(np.square), law.spectral_gap), (check.weights @ check.grid.x.nodes**2, gap)


def finer(axis):
    """Return an axis that is longer by 5% at each end and has 30% more nodes."""
    if axis.n == 1:
        return axis
    margin = (axis.high - axis.low) / 20
    return replace(axis, low=axis.low - margin, high=axis.high + margin, n=int(1.3 * axis.n))


@pytest.mark.parametrize(
    ("name", "target", "friction", "share"),
    thorough(
        [
            ("BAOAB", "bimodal-1d", 0.3, 0.5),
            ("exponential-euler", "double-well", 10.0, 0.2),  # one kick exceeds the width of the memory in a well
            ("euler-maruyama", "bimodal-1d", 1.0, 0.2),
            ("mild(0.5)", "bimodal-1d", 1.0, 0.5),
        ],
        quick=[("BAOAB", "bimodal-1d", 0.3, 0.5), ("exponential-euler", "double-well", 10.0, 0.2)],
    ),
)
def test_some_of_the_catalogue_at_six_digits(name, target, friction, share):
    """A few cases of `test_the_catalogue_at_six_digits`, which are fast."""
    (second, gap), (other_second, other_gap) = resolved_twice(name, target, friction, share)
    assert second == pytest.approx(other_second, abs=1e-6)
    assert gap == pytest.approx(other_gap, rel=1e-6)


OVERDAMPED = ("ula", "baoab-limit", "noise-denoise(0.5)", "mild(0.5)")
STEMS = {name.split("(")[0] for name in agreement.INTEGRATORS}
CASES = [
    (name, friction)
    for name in CATALOGUE_AT_HALF
    if name.split("(")[0] in STEMS
    for friction in (0.3, 1.0, 3.0, 10.0)[: 1 if name in OVERDAMPED else 4]
]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("target", ["bimodal-1d", "double-well", SEPARATED], ids=["bimodal-1d", "double-well", "apart"])
@pytest.mark.parametrize(("name", "friction"), CASES)
def test_the_catalogue_at_six_digits(name, friction, target, share):
    """E[x^2] is accurate to 1e-6 and the gap to a relative 1e-6, within the budget of a call."""
    (second, gap), (other_second, other_gap) = resolved_twice(name, target, friction, share)
    assert second == pytest.approx(other_second, abs=1e-6)
    assert gap == pytest.approx(other_gap, rel=1e-6)


@pytest.mark.filterwarnings("ignore:word. 'BAB' has neither")
@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"target": uldnum.target("ring-8")}, "target: must be one-dimensional"),
        ({"h": [0.1, 0.2]}, "h, friction: must be numbers"),
        ({"h": -0.1}, "h: must be positive"),
        ({"delta": 0.1}, "h, delta"),
        ({"friction": 0.0}, "friction"),
        ({"tolerance": 1e-12}, "tolerance"),
        ({"tolerance": "high"}, "tolerance"),
        ({"target": "bimodal"}, "target: unknown name"),
        ({"target": None}, "target: must be a name"),
        (
            {"target": uldnum.GaussianMixture([0.5, 0.5], [[0.0], [1.0]], [1.0, 1e-14])},
            "target: must be resolved by a table of at most",
        ),
        ({"integrator": "BAB"}, "integrator: must have noise, got 'BAB'"),
        ({"target": uldnum.UserTarget(lambda x: -x, 1)}, "target: 'user' does not provide its standard deviation"),
    ],
)
def test_bad_arguments_are_named(changes, fault):
    """An error message starts with the name of the argument."""
    with pytest.raises(ValueError, match=f"^{fault}"):
        transfer_operator(**({"integrator": "BAOAB", "target": BIMODAL, "h": 0.1} | changes))


def test_three_rows_are_refused():
    """A recipe with three rows raises an error, because the grid has only two axes."""
    from uldnum.schemes.stage import Affine, Step, first_row

    def recipe(h, friction):
        shape = np.shape(h)
        map = Affine(np.zeros((*shape, 3, 3)), np.ones((*shape, 3)), np.ones((*shape, 3, 1)))
        return Step.on_step(first_row(map.b), map)

    with pytest.raises(ValueError, match=r"^integrator: must have at most two rows, got 3"):
        transfer_operator(uldnum.Integrator("three", recipe), BIMODAL, 0.1)


@pytest.mark.parametrize("name", ["ula", "BAOAB"])
@pytest.mark.parametrize("h", [1e-12, 1e-40])
def test_steps_that_are_lost_in_rounding_are_refused(name, h):
    fault = "a step must be at least 1e-08 standard deviations of the target"
    with pytest.raises(uldnum.exact.ConvergenceError, match=fault):
        uldnum.exact.transfer_operator(name, "bimodal-1d", h)

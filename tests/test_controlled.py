"""PID-controlled Langevin dynamics: its law at frozen coefficients, and through levels against the published loop."""

import numpy as np
import pytest
from helpers.reference import linear

import uldnum
from uldnum import exact
from uldnum.schemes.controlled import Gains, gains_of, pid

LEVELS = uldnum.levels.geometric(5.0, 0.2, 4)


def frozen(past, *gains):
    """Return PIDLD with the coefficients of a step after ``past`` steps in all steps."""
    return uldnum.Integrator("frozen", lambda h, friction: pid(h, Gains(*gains), past), memory=0.0)


@pytest.mark.parametrize(("k_d", "variance"), [(0.0, 1.025641), (0.5, 1.001284), (2.0, 0.935065)])
def test_numbers_at_frozen_coefficients(k_d, variance):
    law = exact.gaussian(frozen(np.inf, 1.0, 0.3, k_d), delta=0.05)
    assert law.position_covariance == pytest.approx(variance, abs=5e-7)


@pytest.mark.parametrize("precision", [0.7, 2.0])
@pytest.mark.parametrize("k_p", [0.5, 2.0])
def test_the_closed_form_at_frozen_coefficients(k_p, precision):
    """With the mean at its limit, Var(x) = (1 - d)/(lambda k_p (1 + d)(1 - a/2 - d)), a = k k_p, d = k k_d."""
    delta = np.array([1e-4, 0.02, 0.1])
    for k_d in (0.0, 0.7, 3.0):
        a, d = delta * precision * k_p, delta * precision * k_d
        closed = (1 - d) / (k_p * (1 + d) * (1 - a / 2 - d)) / precision
        law = exact.gaussian(frozen(np.inf, k_p, 0.4, k_d), delta=delta, precision=precision)
        np.testing.assert_allclose(law.position_covariance, closed, rtol=1e-11)
        assert closed[0] * precision == pytest.approx(1 / k_p, rel=1e-3)  # the temperature is 1/k_p for every k_d


def test_a_mean_that_is_frozen_after_finitely_many_steps_has_another_temperature():
    """The mean then follows the score, and small steps sample with the temperature 1/(k_p + k_i)."""
    law = exact.gaussian(frozen(50, 1.0, 0.5, 0.0), delta=1e-6)
    assert law.position_covariance == pytest.approx(1 / 1.5, rel=1e-3)


def published(plan_gains, sigmas, steps, eps, decays, variance, start):
    """Return the variance of x after each step of the loop of the paper's code, on data N(0, variance)."""
    k_p, k_i, k_d = plan_gains
    covariance, found, total = np.diag([start, 0.0, 0.0]), [], 0
    for sigma in sigmas:
        size = eps * (sigma / sigmas[-1]) ** 2
        for _ in range(steps):

            def step(u, xi, sigma=sigma, size=size, k_i=k_i, k_d=k_d, total=total):
                x, mean, last = u
                grad = -x / (variance + sigma**2)
                mean = (mean * total + grad) / (total + 1)
                moved = size * (k_p * grad + k_i * mean + k_d * (grad - last))
                return x + moved + xi[0] * np.sqrt(2 * size), mean, grad

            M, N = linear(step, 3, 1)
            covariance = M @ covariance @ M.T + N @ N.T
            found.append(covariance[0, 0])
            k_i, k_d, total = k_i * decays[0], k_d * decays[1], total + 1
    return np.array(found)


@pytest.mark.parametrize("decays", [(1.0, 1.0), (0.9, 0.8)])
def test_the_law_through_levels_is_that_of_the_published_loop(decays):
    name = f"pidld(1.5,0.5,2,{decays[0]},{decays[1]})"
    plan = uldnum.plan(name, LEVELS, steps=3, eps=0.004, denoise=False)
    law = exact.plan(plan, data_variance=0.5, start_variance=20.0)
    expected = published((1.5, 0.5, 2.0), LEVELS.sigma, 3, 0.004, decays, 0.5, 20.0)
    np.testing.assert_allclose(law.covariance[:, 0, 0], expected, rtol=1e-12)


def test_a_long_run_reaches_the_closed_form():
    """After n steps, the effect of the mean on Var(x) is of the order of 1/(n delta), here below 1%."""
    level = uldnum.levels.given([1.0])
    plan = uldnum.plan("pidld(2,0.5,4.5)", level, steps=3000, h=0.3, denoise=False)
    a, d = 0.045 / 2 * 2, 0.045 / 2 * 4.5  # the target is N(0, 2)
    closed = 2 * (1 - d) / (2 * (1 + d) * (1 - a / 2 - d))
    found = exact.plan(plan).covariance[-1, 0, 0]
    assert found == pytest.approx(closed, rel=0.01)


def test_sampled_variances_agree():
    """Var(x) at the end of the plan, within 4 standard errors of 20,000 chains, 4%; false alarms once in 16,000."""
    plan = uldnum.plan("pidld(1.5,0.5,2)", LEVELS, steps=3, eps=0.004, temperature=2.0)
    data = uldnum.GaussianMixture([1.0], [[0.0]], [0.5])
    run = uldnum.anneal(data, plan, chains=20_000, seed=2, x0="normal", backend="array", progress=False)
    variance = exact.plan(plan, data_variance=0.5).covariance[-1, 0, 0]
    assert abs(np.mean(run.x**2) - variance) < 4 * variance * np.sqrt(2 / 20_000)


def test_the_preset_has_the_constants_of_the_code():
    plan = uldnum.preset("pidld-cifar10")
    assert (len(plan.phases), plan.nfe, plan.x0) == (101, 101, "uniform")
    assert plan.sigma[0] == 50.0
    assert plan.phases[0].step.stages[0].map.C[0, 0, 0] ** 2 / 2 == pytest.approx(6.2e-6 * 5000**2, rel=1e-12)
    assert plan.phases[0].step.stages[0].map.b[0, 0] == pytest.approx(6.2e-6 * 5000**2 * 7.0, rel=1e-12)


@pytest.mark.parametrize(
    "name", ["pidld", "pidld(1,2)", "pidld(0,1,1)", "pidld(1,-1,1)", "pidld(1,1,1,2)", "pidld(a,1,1)"]
)
def test_bad_gains_are_refused(name):
    with pytest.raises(ValueError, match=r"^method: pidld needs three to five numbers"):
        gains_of(name)


@pytest.mark.parametrize("option", [{"snr": 0.1}, {"friction": 2.0}, {"predictor": "ddim"}, {"momentum": "rescaled"}])
def test_options_of_integrators_are_refused(option):
    with pytest.raises(ValueError, match=f"^{next(iter(option))}: 'PIDLD\\(1,0,1\\)' accepts only levels, steps"):
        uldnum.plan("PIDLD(1,0,1)", LEVELS, h=0.1, **option)


def test_without_integral_and_derivative_it_is_annealed_langevin_dynamics():
    ours, theirs = (uldnum.plan(name, LEVELS, steps=2, h=0.3) for name in ("pidld(1,0,0)", "ula"))
    laws = [exact.plan(plan, start_variance=9.0).covariance for plan in (ours, theirs)]
    np.testing.assert_allclose(laws[0][[1, 3, 5, 7, 8], 0, 0], laws[1][:, 0, 0], rtol=1e-13)

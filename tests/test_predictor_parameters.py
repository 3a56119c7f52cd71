"""Parameters of predictors: the order of the multistep method, and the noise of Karras et al. 2022, Algorithm 2."""

import numpy as np
import pytest
from helpers.reference import linear

import uldnum
from uldnum import exact

VARIANCE = 0.6  # of the data


def multistep_loop(levels, start, factor=2):
    """Return z at each level after the multistep update with three estimates, for data N(0, VARIANCE).

    The formulas are those of the code of Lu et al. 2022, except that its second derivative has the factor 1.
    """
    alpha, sigma = levels.alpha, levels.sigma
    lam = np.log(alpha) - np.log(sigma)
    z, models, found = start, [], []
    for i in range(len(levels) - 1):
        models.append(alpha[i] * VARIANCE / (alpha[i] ** 2 * VARIANCE + sigma[i] ** 2) * z)
        h, d0 = lam[i + 1] - lam[i], models[-1]
        d1 = d2 = 0.0
        if i > 0:
            r0 = (lam[i] - lam[i - 1]) / h
            d1 = first = (models[-1] - models[-2]) / r0
        if i > 1:
            r1 = (lam[i - 1] - lam[i - 2]) / h
            second = (models[-2] - models[-3]) / r1
            d1 = first + r0 / (r0 + r1) * (first - second)
            d2 = factor * (first - second) / (r0 + r1)
        e, a = np.exp(-h), alpha[i + 1]
        z = sigma[i + 1] / sigma[i] * z - a * (e - 1) * d0 + a * ((e - 1) / h + 1) * d1
        z = z - a * ((e - 1 + h) / h**2 - 0.5) * d2
        found.append(z)
    return np.array(found)


@pytest.mark.parametrize("levels", [uldnum.levels.karras(20.0, 0.1, 9), uldnum.levels.vp_sde(9, last=0.05)])
def test_the_multistep_method_of_order_3(levels):
    plan = uldnum.plan("dpm-solver++(3)", levels, denoise=False)
    assert (plan.rows, plan.nfe, plan.name) == (3, 8, "dpm-solver++(3)")
    law = exact.plan(plan, data_variance=VARIANCE, start_variance=4.0)
    np.testing.assert_allclose(law.covariance[:, 0, 0], multistep_loop(levels, 2.0) ** 2, rtol=1e-11)


def exact_end(levels):
    """Return the factor by which the probability flow ODE scales z from the first to the last of VE levels."""
    first, last = VARIANCE + np.square(levels.sigma[[0, -1]])
    return np.sqrt(last / first)


def test_the_factor_of_the_published_code_has_order_2():
    """The factor 2 makes the update exact for a quadratic, and its order 3, if the first levels are almost pure noise.

    The orders are slopes of the relative error between 480 and 960 moves.
    """
    for factor, order in ((1, 2), (2, 3)):
        grids = [uldnum.levels.geometric(1000.0, 0.1, count) for count in (481, 961)]
        errors = [abs(multistep_loop(levels, 1.0, factor)[-1] / exact_end(levels) - 1) for levels in grids]
        assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


def algorithm_2(levels, churn, least, most, inflation, second):
    """Return the variance after each step of Karras et al. 2022, Algorithm 2, on VE levels."""

    def slope(x, t):
        return (x - VARIANCE / (VARIANCE + t**2) * x) / t

    variance, found = 400.0, []
    for t, following in zip(levels.sigma[:-1], levels.sigma[1:], strict=True):
        gamma = churn if least <= t <= most else 0.0
        raised = t + gamma * t

        def step(u, xi, t=t, following=following, raised=raised):
            x = u[0] + np.sqrt(raised**2 - t**2) * inflation * xi[0]
            moved = x + (following - raised) * slope(x, raised)
            if second:
                moved = x + (following - raised) * (slope(x, raised) + slope(moved, following)) / 2
            return (moved,)

        M, N = linear(step, 1, 1)
        variance = (M[0, 0] ** 2) * variance + N[0, 0] ** 2
        found.append(variance)
    return np.array(found)


@pytest.mark.parametrize("numbers", [(0.2, 0.5, 8.0, 1.007), (0.1, 0.0, np.inf, 1.0), (0.0, 0.5, 8.0, 1.1)])
@pytest.mark.parametrize("name", ["heun", "edm-euler"])
def test_the_noise_of_edm(name, numbers):
    levels = uldnum.levels.karras(20.0, 0.1, 9)
    plan = uldnum.plan(f"{name}({','.join(map(str, numbers))})", levels, denoise=False)
    law = exact.plan(plan, data_variance=VARIANCE, start_variance=400.0)
    found = law.covariance[1 if name == "heun" else 0 :: 2 if name == "heun" else 1, 0, 0]
    np.testing.assert_allclose(found, algorithm_2(levels, *numbers, name == "heun"), rtol=1e-12)


def test_names_contain_the_parameters_that_are_not_the_defaults():
    levels = uldnum.levels.karras(20.0, 0.1, 4)
    for given, full in (
        ("heun(0.1)", "heun(0.1)"), ("heun(0,0,inf,1)", "heun"), ("HEUN(0.1,0.5)", "heun(0.1,0.5)"),
        ("edm-euler(0.1,0,inf,1.01)", "edm-euler(0.1,0,inf,1.01)"), ("dpm-solver++(2)", "dpm-solver++"),
    ):  # fmt: skip
        assert uldnum.plan(given, levels).name == full


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("dpm-solver++(2.5)", "order: dpm-solver.. needs 2 or 3, got 2.5"),
        ("dpm-solver++(4)", "order: dpm-solver.. needs 2 <= order <= 3, got 4"),
        ("heun(0.1,0,1,1,1)", "predictor: 'heun' takes at most 4 parameters"),
        ("ancestral(1)", "predictor: 'ancestral' takes no parameter"),
        ("heun(0.1,-1)", "S_tmin: heun needs 0 <= S_tmin <= inf, got -1"),
        ("heun(0.1,5,1)", "S_tmin: must be at most S_tmax, got 5 and 1"),
        ("heun(0.1,0,inf,inf)", "S_noise: heun needs 0 <= S_noise <= 10, got inf"),
        ("heun(0.1,x)", "'x' is not a number"),
    ],
)
def test_bad_parameters_are_refused(name, fault):
    with pytest.raises(ValueError, match=fault):
        uldnum.plan(name, uldnum.levels.karras(20.0, 0.1, 4))


def test_churn_below_a_level_of_pure_noise():
    """A plan that starts at alpha = 0 may have churn at later levels only."""
    levels = uldnum.levels.flow(5)
    with pytest.raises(ValueError, match="churn: must be 0 if the first level has alpha = 0"):
        uldnum.plan("edm-euler(0.1)", levels)
    assert len(uldnum.plan("edm-euler(0.1,0,2)", levels).phases) == len(levels)


def test_a_multistep_predictor_of_order_3_beside_an_integrator():
    """The integrator has its own rows, and the predictor has the last two."""
    levels = uldnum.levels.geometric(20.0, 0.1, 6)
    plan = uldnum.plan("OBABO", levels, h=0.3, predictor="dpm-solver++(3)")
    assert (plan.rows, plan.memory.tolist()) == (4, [1.0, 0.0, 0.0])
    law = exact.plan(plan, data_variance=VARIANCE, start_variance=400.0)
    data = uldnum.GaussianMixture([1.0], [[0.0]], [VARIANCE])
    run = uldnum.anneal(data, plan, chains=20_000, seed=4, x0="target", backend="array", progress=False)
    start = exact.plan(plan, data_variance=VARIANCE, start_variance=VARIANCE + 400.0).covariance[-1, 0, 0]
    assert np.isfinite(law.covariance).all()
    assert abs(np.mean(run.x**2) - start) < 4 * start * np.sqrt(2 / 20_000)

"""Restart sampling: the law of a plan with restarts against the published loop."""

from itertools import pairwise

import numpy as np
import pytest
from helpers.reference import linear

import uldnum
from uldnum import exact

LEVELS, VARIANCE = uldnum.levels.karras(20.0, 0.05, 9), 0.6


def heun_step(x, t, following):
    """Return a step of Heun's method of the ODE with the exact denoiser of N(0, VARIANCE)."""

    def slope(x, t):
        return (x - VARIANCE / (VARIANCE + t**2) * x) / t

    first = slope(x, t)
    moved = x + (following - t) * first
    return x + (following - t) * (first + slope(moved, following)) / 2


def published(restarts):
    """Return the variances of x at the ends of the parts of Xu et al. 2023, Algorithm 1, from the variance 400."""
    levels, variance, found = LEVELS.sigma, 400.0, []
    nearest = {int(np.argmin(np.abs(levels - one[2]))): one for one in restarts}

    def run(variance, times):
        for t, following in pairwise(times):
            M, _ = linear(lambda u, xi, t=t, following=following: (heun_step(u[0], t, following),), 1, 1)
            variance = M[0, 0] ** 2 * variance
        return variance

    for i in range(len(levels) - 1):
        variance = run(variance, levels[i : i + 2])
        found.append(variance)
        if i + 1 in nearest:
            count, repetitions, _, highest = nearest[i + 1]
            for _ in range(repetitions):
                ends = np.array([highest, levels[i + 1]]) ** (1 / 7)
                times = (ends[0] + np.arange(count) / (count - 1) * (ends[1] - ends[0])) ** 7
                variance = run(variance + highest**2 - levels[i + 1] ** 2, times)
                found.append(variance)
    return found


@pytest.mark.parametrize(
    "restarts", [[(3, 2, 0.3, 2.0)], [(2, 1, 5.0, 9.0), (4, 3, 0.3, 1.5)], [(4, 3, 0.3, 1.5), (2, 1, 5.0, 9.0)]]
)
def test_the_law_is_that_of_the_published_loop(restarts):
    plan = uldnum.plan("heun", LEVELS, denoise=False, restarts=restarts)
    assert plan.nfe == 2 * (len(LEVELS) - 1) + sum(2 * (one[0] - 1) * one[1] for one in restarts)
    law = exact.plan(plan, data_variance=VARIANCE, start_variance=400.0)
    ours = law.covariance[1::2, 0, 0]
    expected = published(restarts)
    np.testing.assert_allclose(ours[-1], expected[-1], rtol=1e-12)
    assert all(np.isclose(ours, one, rtol=1e-12, atol=0).any() for one in expected)


def test_sampled_variances_agree():
    """Var(x) at the end, within 4 standard errors of 20,000 chains, 4%; false alarms once in 16,000."""
    plan = uldnum.plan("heun(0.1)", LEVELS, restarts=[(3, 2, 0.3, 2.0)])
    data = uldnum.GaussianMixture([1.0], [[0.0]], [VARIANCE])
    run = uldnum.anneal(data, plan, chains=20_000, seed=2, backend="array", progress=False)
    law = exact.plan(plan, data_variance=VARIANCE, start_variance=VARIANCE + 400.0)
    variance = law.covariance[-1, 0, 0]
    assert abs(np.mean(run.x**2) - variance) < 4 * variance * np.sqrt(2 / 20_000)


def test_the_preset_has_the_evaluations_of_the_paper():
    assert uldnum.preset("restart-cifar10").nfe == 43


def test_the_history_of_a_multistep_predictor_ends_at_a_restart():
    """A plan with restarts is the plans of its parts, one after the other, with noise added between them."""
    plan = uldnum.plan("dpm-solver++(3)", LEVELS, denoise=False, restarts=[(4, 1, 0.3, 2.0)])
    end = int(np.argmin(np.abs(LEVELS.sigma - 0.3)))
    back = uldnum.levels.karras(2.0, LEVELS.sigma[end], 4).sigma
    variance, last = 400.0, None
    for sigma in (LEVELS.sigma[: end + 1], back, LEVELS.sigma[end:]):
        variance += 0 if last is None else sigma[0] ** 2 - last**2
        part = uldnum.plan("dpm-solver++(3)", uldnum.levels.given(sigma), denoise=False)
        variance = exact.plan(part, data_variance=VARIANCE, start_variance=variance).covariance[-1, 0, 0]
        last = sigma[-1]
    law = exact.plan(plan, data_variance=VARIANCE, start_variance=400.0)
    assert law.covariance[-1, 0, 0] == pytest.approx(variance, rel=1e-12)


@pytest.mark.parametrize(
    ("method", "levels", "restarts", "fault"),
    [
        ("ula", LEVELS, [(3, 2, 0.3, 2.0)], "need a predictor as the method"),
        ("heun", uldnum.levels.vp_sde(5), [(3, 2, 0.3, 2.0)], "need VE levels"),
        ("heun", LEVELS, [(3, 2, 0.3, 0.1)], "t_max must be above the level sigma = "),
        ("heun", LEVELS, [(1, 2, 0.3, 2.0)], "N: must be at least 2"),
        ("heun", LEVELS, [(3, 0, 0.3, 2.0)], "K: must be at least 1"),
        ("heun", LEVELS, 3, "must be a sequence of"),
        ("heun", LEVELS, [(3, 2, -1.0, 2.0)], "t_min: must be positive"),
        ("heun", LEVELS, [3, 2, 0.3, 2.0], "must be a sequence of"),
    ],
)
def test_restarts_that_do_not_fit_are_refused(method, levels, restarts, fault):
    with pytest.raises(ValueError, match=f"^restarts: {fault}"):
        uldnum.plan(method, levels, restarts=restarts)

"""Plans with another integrator at each level."""

import numpy as np
import pytest
from helpers.reference import linear

import uldnum
from uldnum import exact

LEVELS = uldnum.levels.geometric(5.0, 0.2, 4)
MOMENTA = (0.1, 0.2, 0.35, 0.6)


def test_mild_with_a_momentum_for_each_level():
    """The law through levels is that of Algorithm 1 of Shetty et al. 2024 with these momenta, line by line."""
    plan = uldnum.plan([f"mild({beta})" for beta in MOMENTA], LEVELS, steps=3, eps=0.004, denoise=False)
    assert plan.name == "mild(0.1) to mild(0.6)"
    covariance, expected = np.diag([9.0, 0.0]), []
    for beta, sigma in zip(MOMENTA, LEVELS.sigma, strict=True):
        alpha, precision = 0.004 * (sigma / LEVELS.sigma[-1]) ** 2, 1 / (0.5 + sigma**2)

        def step(u, xi, beta=beta, alpha=alpha, precision=precision):
            x, v = u
            v = beta * v + alpha * -precision * (x + beta * v)
            return x + v + np.sqrt(2 * alpha) * xi[0], v

        M, N = linear(step, 2, 1)
        for _ in range(3):
            covariance = M @ covariance @ M.T + N @ N.T
        expected.append(covariance)
    law = exact.plan(plan, data_variance=0.5, start_variance=9.0)
    np.testing.assert_allclose(law.covariance, expected, rtol=1e-12, atol=1e-15)


def test_a_list_of_equal_integrators_is_that_integrator():
    ours, theirs = (uldnum.plan(method, LEVELS, steps=2, h=0.4) for method in (["OBABO"] * 4, "OBABO"))
    assert ours.name == theirs.name
    for one, other in zip(ours.phases, theirs.phases, strict=True):
        np.testing.assert_array_equal(one.step.close.C, other.step.close.C)
        np.testing.assert_array_equal(one.step.stages[0].map.dA, other.step.stages[0].map.dA)
    law = exact.plan(uldnum.plan(("OBABO", "KAK", "OBABO", "OBABO"), LEVELS, h=0.4, predictor="ddim"))
    assert np.isfinite(law.covariance).all()


@pytest.mark.parametrize(
    ("methods", "options", "fault"),
    [
        (["ula", "ula"], {}, "must have one integrator for each of the 4 levels, got 2"),
        (["ula", "ula", "ula", "BAOAB"], {}, "the integrators of all levels must have the same momenta"),
        (["UBU", "BUB", "BUB", "BUB"], {}, "must have tables of the same shape"),
        (["ula", "ula", "ula", "mild(0.2)"], {}, "must have the same memory"),
        (["BAOAB", "GJF", "GJF", "GJF"], {"boundary": "shared"}, "needs boundary 'own' and no snr"),
        (["ula", "ula", "ula", "heun"], {}, "'heun' is a predictor"),
    ],
)
def test_lists_that_do_not_fit_are_refused(methods, options, fault):
    with pytest.raises(ValueError, match=f"(method|integrator): .*{fault}"):
        uldnum.plan(methods, LEVELS, h=0.4, **options)


def test_the_noise_of_the_score_is_added_once():
    """An integrator with score noise is the plan with this score noise, for one integrator and for a list."""
    noisy, plain = uldnum.integrator("OBABO").at(score_noise=0.5), uldnum.integrator("OBABO")
    expected = exact.plan(uldnum.plan(plain, LEVELS, h=0.4, score_noise=0.5)).covariance
    for method in (noisy, [noisy] * 4, [uldnum.integrator("OBABO").at(score_noise=0.5) for _ in range(4)]):
        np.testing.assert_allclose(exact.plan(uldnum.plan(method, LEVELS, h=0.4)).covariance, expected, rtol=1e-13)

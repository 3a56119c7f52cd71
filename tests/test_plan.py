"""Laws of runs through noise levels on Gaussian data."""

import numpy as np
import pytest

from uldnum.exact import Leg, gaussian, plan, propagator


def test_ula_through_levels_in_closed_form():
    """ULA is x' = q x + (1 - q) c + h xi: its mean and variance after n steps are geometric sums."""
    legs = [Leg("ula", 0.5, 3, sigma=1.0), Leg("ula", 0.2, 4, alpha=0.5, sigma=0.3)]
    data_mean, data_variance = np.array([2.0, -1.0]), np.array([0.5, 3.0])
    law = plan(legs, data_mean=data_mean, data_variance=data_variance, start_mean=1.0, start_variance=4.0)
    mean, variance = np.array([1.0, 1.0]), np.array([4.0, 4.0])
    for leg, got_mean, got_variance in zip(legs, law.mean[..., 0], law.covariance[..., 0, 0], strict=True):
        centre, target = leg.alpha * data_mean, leg.alpha**2 * data_variance + leg.sigma**2
        q = 1 - leg.h**2 / 2 / target
        mean = centre + q**leg.steps * (mean - centre)
        variance = q ** (2 * leg.steps) * variance + leg.h**2 * (1 - q ** (2 * leg.steps)) / (1 - q**2)
        np.testing.assert_allclose(got_mean, mean, rtol=1e-13)
        np.testing.assert_allclose(got_variance, variance, rtol=1e-13)


@pytest.mark.parametrize("names", [("BAOAB", "OBABO", "UBU"), ("mild(0.5)",) * 3, ("ABAOABA", "baoab-limit", "BAOA")])
def test_legs_are_runs_about_the_mean_of_their_level(names):
    """A translated Gaussian translates the law: each leg is its propagator about alpha times the mean of the data."""
    legs = [Leg(name, 0.3, n, 1 - n / 10, n / 5, 0.8) for n, name in enumerate(names, start=1)]
    law = plan(legs, data_mean=1.5, data_variance=0.7, start_mean=-0.5, start_variance=2.0)
    mean = np.array([-0.5, 0.0])
    covariance = np.diag([2.0, 0.0 if names[0].startswith("mild") else 1.0])
    for leg, got_mean, got_covariance in zip(legs, law.mean, law.covariance, strict=True):
        precision = 1 / (leg.alpha**2 * 0.7 + leg.sigma**2)
        M, Q = propagator(leg.integrator, leg.h, precision=precision, friction=leg.friction, steps=leg.steps)
        centre = np.array([leg.alpha * 1.5, 0.0])
        mean, covariance = centre + M @ (mean - centre), M @ covariance @ M.T + Q
        np.testing.assert_allclose(got_mean, mean, rtol=0, atol=1e-13)
        np.testing.assert_allclose(got_covariance, covariance, rtol=0, atol=1e-13)


def test_a_long_leg_forgets_and_reaches_the_stationary_law():
    law = plan([Leg("OBABO", 0.5, 500, alpha=0.6, sigma=0.8)], data_mean=3.0, data_variance=2.0, start_mean=9.0)
    exact = gaussian("OBABO", 0.5, precision=1 / (0.36 * 2 + 0.64))
    np.testing.assert_allclose(law.mean[0], [1.8, 0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(law.covariance[0, 0, 0], exact.position_covariance, rtol=1e-12)


@pytest.mark.parametrize(
    ("legs", "arguments", "fault"),
    [
        ([], {}, "legs"),
        ([Leg("ula", 0.1, 1), Leg("BAOAB", 0.1, 1)], {}, "legs: need at least one"),
        ([Leg("ula", 0.1, 0)], {}, "legs: steps"),
        ([Leg("ula", 0.1, 1, sigma=-1.0)], {}, "legs: alpha and sigma"),
        ([Leg("ula", 0.1, 2.5)], {}, "legs: steps: must be an integer"),
        ([Leg("ula", 0.1, 1, alpha=0.0)], {}, "legs: alpha and sigma"),
        ([Leg("ula", 0.1, 1, sigma=np.nan)], {}, "legs: alpha and sigma"),
        ([Leg("ula", [0.1, 0.2], 1)], {}, "legs: h must be a number"),
        ([Leg("ula", -0.1, 1)], {}, "h"),
        ([Leg("ula", 0.1, 1)], {"data_mean": np.nan}, "data_mean"),
        ([Leg("ula", 0.1, 1)], {"data_mean": "far"}, "data_mean"),
        ([Leg("ula", 0.1, 1)], {"data_mean": [1.0, 2.0], "start_mean": [1.0, 2.0, 3.0]}, "data_mean, data_variance"),
        ([Leg("ula", 0.1, 1)], {"data_variance": 0.0}, "data_variance"),
    ],
)
def test_bad_plans_are_named(legs, arguments, fault):
    with pytest.raises(ValueError, match=f"^{fault}"):
        plan(legs, **arguments)

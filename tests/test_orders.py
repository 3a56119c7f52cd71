"""Weak and stationary orders of the catalogue, measured with exact answers."""

import numpy as np
import pytest
from helpers.catalogue import CATALOGUE_AT_HALF

import uldnum
from uldnum.exact import measured_orders
from uldnum.exact.orders import quartic_bias, underdamped_error

# The transfer operator takes 10 to 25 s for schemes with several evaluations per step.
COSTLY = ("BCSS-2", "BCSS-3")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in COSTLY)) for name in CATALOGUE_AT_HALF]
)
def test_stated_orders_are_the_measured_ones(name):
    """The measured orders are neither lower nor higher than the stated ones, within 0.1."""
    stated, measured = uldnum.integrator(name).order, measured_orders(name)
    assert measured.weak == pytest.approx(stated[0], abs=0.1)
    assert measured.stationary == pytest.approx(stated[1], abs=0.1)


@pytest.mark.parametrize("name", COSTLY)
def test_orders_of_costly_schemes_on_a_perturbed_gaussian(name):
    """A short version of the test above, which measures the stationary order to first order in a quartic term."""
    scheme = uldnum.integrator(name)
    for order, error, h in zip(scheme.order, (underdamped_error, quartic_bias), (1 / 16, 0.1), strict=True):
        assert np.log2(error(scheme, h) / error(scheme, h / 2)) == pytest.approx(order, abs=0.1)

"""Weak and stationary orders of the catalogue, measured with exact answers."""

import pytest
from helpers.catalogue import CATALOGUE_AT_HALF

import uldnum
from uldnum.exact import measured_orders


@pytest.mark.parametrize("name", CATALOGUE_AT_HALF)
def test_stated_orders_are_the_measured_ones(name):
    """The measured orders are neither lower nor higher than the stated ones, within 0.1."""
    stated, measured = uldnum.integrator(name).order, measured_orders(name)
    assert measured.weak == pytest.approx(stated[0], abs=0.1)
    assert measured.stationary == pytest.approx(stated[1], abs=0.1)

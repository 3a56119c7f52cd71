"""Sampled moments agree with the exact answers, in a short run and in the stored one."""

import numpy as np
import pytest
import xarray as xr

from analysis import agreement

# Limit in standard errors. With new random numbers each time, the 78 comparisons would fail once in 200 times.
LIMIT = 4.0


@pytest.fixture(scope="module")
def stored():
    return xr.load_dataset(agreement.DATA)


@pytest.mark.parametrize("name", agreement.INTEGRATORS)
def test_a_short_run_agrees(stored, name):
    """With 1e6 chain-steps the errors of E[x^2] are about 0.01, while its exact biases are up to 0.6."""
    run = agreement.sampled(name, chains=1000, steps=1000, seed=7)
    exact = stored.exact.sel(integrator=name)
    assert np.abs((run.sampled - exact) / run.error).max() < LIMIT
    assert run.error.sel(moment=2).max() < 0.05


@pytest.mark.parametrize("name", [name for name in agreement.INTEGRATORS if name != "euler-maruyama"])
def test_the_stored_exact_answers_are_what_the_code_gives(stored, name):
    np.testing.assert_allclose(agreement.exact(name), stored.exact.sel(integrator=name), rtol=0, atol=3e-4)


def test_the_stored_run_of_1e9_chain_steps_agrees(stored):
    assert stored.attrs["chains"] * stored.attrs["steps"] == 10**9
    assert stored.sizes == {"integrator": 13, "h": 3, "moment": 2}
    assert np.abs((stored.sampled - stored.exact) / stored.error).max() < LIMIT
    # Most biases exceed the error by far, so that the comparison is significant.
    bias = np.abs(stored.exact - xr.DataArray([0.6, 3.25], dims="moment"))
    assert (bias.sel(moment=2) > 4 * stored.error.sel(moment=2)).sum() >= 34

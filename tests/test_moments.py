"""Moments and their errors on synthetic chains far from the centre, against direct sums and the jackknife."""

import numpy as np
import pytest

from uldnum.kernels.arrays.binding import core
from uldnum.kernels.source.core import MOMENTS
from uldnum.sampling.moments import Moments, standard_error


def made_up():
    """Return forty correlated chains of 30 states in two dimensions, with a mean far from the centre."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 30, 2)) + rng.normal(size=(40, 1, 2))
    x[..., 1] += 0.5 * x[..., 0] + 3
    centre = np.array([-2.0, 1.0])
    gap = x - centre
    second = np.stack([(gap[..., i] * gap[..., j]).mean(axis=1) for i, j in ((0, 0), (1, 0), (1, 1))], axis=1)
    return x, Moments(centre, gap.mean(axis=1), second)


def test_moments_are_those_of_all_states():
    x, moments = made_up()
    flat = x.reshape(-1, 2)
    np.testing.assert_allclose(moments.mean, flat.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(moments.covariance, np.cov(flat.T, bias=True), rtol=1e-12)
    np.testing.assert_allclose(moments.chain_mean, x.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(moments.chain_square, (x**2).mean(axis=1), rtol=1e-12)


def test_errors_are_those_of_the_jackknife():
    """Errors equal the delete-one-chain jackknife to first order in 1/chains, within a few per cent for 40 chains."""
    x, moments = made_up()
    without = [np.delete(x, chain, axis=0).reshape(-1, 2) for chain in range(len(x))]

    def jackknife(values):
        return np.sqrt((len(x) - 1) * np.var(values, axis=0))

    np.testing.assert_allclose(moments.mean_error, jackknife([part.mean(axis=0) for part in without]), rtol=1e-10)
    expected = jackknife([np.cov(part.T, bias=True) for part in without])
    np.testing.assert_allclose(moments.covariance_error, expected, rtol=0.03)


@pytest.mark.parametrize("d", [1, 3, 9])
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("moments", range(1, len(MOMENTS)))
def test_the_core_accumulates_the_chosen_moments(d, moments, rows):
    """Sums over several steps equal those of NumPy."""
    D = rows * d
    z, centre = np.random.default_rng(1).normal(size=(4, D, 5)), np.arange(D)
    gap = z - centre[:, None]
    pairs = [[], [], zip(range(D), range(D), strict=True), zip(*np.tril_indices(D), strict=True)][moments]
    expected = np.array([(gap[:, i] * gap[:, j]).sum(axis=0) for i, j in pairs]).reshape(-1, 5)
    sums, products = np.zeros((D, 5)), np.zeros(expected.shape)
    for step in z.reshape(4, rows, d, 5):
        core(np.dtype(float)).accumulate(sums, products, np.empty((D, 5)), step, centre, d, rows, moments)
    np.testing.assert_allclose(sums, gap.sum(axis=0))
    np.testing.assert_allclose(products, expected)


def test_moments_that_were_not_accumulated_are_refused():
    x, full = made_up()
    variance = Moments(full.centre, full.first, full.square)
    for name in ("mean", "mean_error", "variance", "variance_error", "chain_square"):
        np.testing.assert_array_equal(getattr(variance, name), getattr(full, name))
    np.testing.assert_allclose(full.variance, x.reshape(-1, 2).var(axis=0), rtol=1e-12)
    np.testing.assert_allclose(full.variance, np.diag(full.covariance), rtol=1e-12)
    np.testing.assert_allclose(full.variance_error, np.diag(full.covariance_error), rtol=1e-12)
    for name in ("covariance", "covariance_error"):
        with pytest.raises(ValueError, match="recorded no covariance; pass record='covariance' to sample"):
            getattr(variance, name)
    mean = Moments(full.centre, full.first, full.second[:, :0])
    for name in ("variance", "variance_error", "chain_square", "square"):
        with pytest.raises(ValueError, match="recorded no second moments; pass record='variance' to sample"):
            getattr(mean, name)


def test_one_value_has_no_error():
    assert np.isnan(standard_error(np.ones((1, 2)), axis=0)).all()
    assert standard_error(np.array([0.0, 2.0]), axis=0) == pytest.approx(1.0)

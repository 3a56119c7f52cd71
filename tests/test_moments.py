"""Moments and their errors on synthetic chains far from the centre, against direct sums and the jackknife."""

import numpy as np
import pytest

from uldnum.kernels.arrays.binding import core
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
def test_the_core_accumulates_the_lower_triangle(d):
    """Sums over several steps equal those of NumPy; for d = 9 the triangle has complete and incomplete tiles."""
    gaps = np.random.default_rng(1).normal(size=(4, d, 5))
    sums, products = np.zeros((d, 5)), np.zeros((d * (d + 1) // 2, 5))
    core(np.dtype(float)).accumulate(sums, products, gaps, 4, d)
    np.testing.assert_allclose(sums, gaps.sum(axis=0))
    pairs = zip(*np.tril_indices(d), strict=True)
    np.testing.assert_allclose(products, [(gaps[:, i] * gaps[:, j]).sum(axis=0) for i, j in pairs])


def test_one_value_has_no_error():
    assert np.isnan(standard_error(np.ones((1, 2)), axis=0)).all()
    assert standard_error(np.array([0.0, 2.0]), axis=0) == pytest.approx(1.0)

"""Metrics of images against closed forms and naive formulas, and the coverage of their intervals."""

import numpy as np
import pytest
from scipy import linalg

from uldnum.diagnostics import (
    Moments,
    frechet_between,
    frechet_distance,
    kernel_distance,
)


def features(seed, n, f):
    return np.random.default_rng(seed).normal(size=(n, f))


def test_moments_are_those_of_all_parts():
    x = features(0, 90, 5) * [1, 2, 3, 4, 5] + 1e3
    parts = Moments.of(x[:20]) + (Moments.of(x[20:25]) + Moments.of(x[25:]))
    np.testing.assert_allclose(parts.mean, x.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(parts.covariance, np.cov(x.T), rtol=0, atol=1e-10)


def test_frechet_between_is_the_formula_with_a_matrix_root():
    a, b = features(1, 30, 6), 2 * features(2, 30, 6) + 1
    one, other = np.cov(a.T), np.cov(b.T)
    root = linalg.sqrtm(linalg.sqrtm(one) @ other @ linalg.sqrtm(one)).real
    gap = a.mean(axis=0) - b.mean(axis=0)
    expected = gap @ gap + np.trace(one + other - 2 * root)
    assert frechet_between(a.mean(axis=0), one, b.mean(axis=0), other) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(a, b, extrapolate=False).value == pytest.approx(expected, rel=1e-12)


def naive_kernel_distance(x, y, owner):
    def kernel(a, b):
        return (a @ b / len(a) + 1) ** 3

    n, m = len(x), len(y)
    xx = [kernel(x[i], x[j]) for i in range(n) for j in range(n) if owner[i] != owner[j]]
    yy = [kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j]
    return np.mean(xx) + np.mean(yy) - 2 * np.mean([kernel(a, b) for a in x for b in y])


@pytest.mark.parametrize("owner", [np.arange(24), np.arange(24) % 8])
def test_kernel_distance_is_the_mean_over_pairs_of_different_chains(owner):
    x, y = features(3, 24, 4) + 0.5, features(4, 40, 4)
    assert kernel_distance(x, y, chains=owner).value == pytest.approx(naive_kernel_distance(x, y, owner), rel=1e-12)

"""Calibration of reported errors against the standard deviation over independent repetitions.

Each diagnostic is repeated on samples of a known distribution in two regimes: with a resolved bias, and without bias,
at the floor. Errors must be neither too small nor too large. For several axes, the first one is compared.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

import uldnum
from uldnum.diagnostics import (
    autocorrelation_time,
    hopping_rate,
    kernel_stein_discrepancy,
    kolmogorov,
    maximum_mean_discrepancy,
    mode_weights,
    sliced_wasserstein_2,
    wasserstein_1,
)
from uldnum.diagnostics.bias import Truth, rms_bias
from uldnum.diagnostics.jackknife import other_norm, squared_norm, squared_trace
from uldnum.diagnostics.samples import u_statistic
from uldnum.sampling.moments import Moments

NORMAL, BIMODAL, RING = (uldnum.target(name) for name in ("gaussian", "bimodal-1d", "ring-8"))
PLANE = uldnum.GaussianMixture([1.0], [[0.0, 0.0]], [1.0])
MANY = uldnum.GaussianMixture([1.0], [[0.0] * 8], [1.0])
SKEWED = uldnum.GaussianMixture([0.5, 0.5], BIMODAL.means, BIMODAL.variances)


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def shifted(target, chains, seed, by):
    """Return independent draws of a target, displaced along the first axis."""
    return target.sample(chains, seed) + by * np.eye(target.means.shape[1])[0]


def autoregression(seed, draws, chains, memory=0.8):
    """Return a stationary autoregressive trace of variance 1, shape (draws, chains)."""
    noise = normals(seed, draws, chains)
    x = [noise[0]]
    for one in noise[1:]:
        x.append(memory * x[-1] + np.sqrt(1 - memory**2) * one)
    return np.array(x)


def jumps(seed, draws=200, chains=64, rate=0.05):
    """Return chains that hop between two modes with probability ``rate`` per draw, shape (draws, chains, 1)."""
    turned = np.random.default_rng(seed).random((draws, chains)) < rate
    return np.where(np.cumsum(turned, axis=0) % 2, BIMODAL.means[0, 0], BIMODAL.means[1, 0])[..., None] * 3.0


def of_chains(seed, d, by):
    return rms_bias(normals(seed, 64, d) + by * np.eye(d)[0], Truth(np.zeros(d), np.ones(d)))


def moments(seed):
    x = normals(seed, 64, 10, 2) + 3.0
    row, column = np.tril_indices(2)
    return Moments(np.ones(2), (x - 1).mean(axis=1), ((x - 1)[..., row] * (x - 1)[..., column]).mean(axis=1))


class Case(NamedTuple):
    """A function of a seed that returns (value, error, ...), and the true value, or None for the mean over seeds."""

    estimate: Callable
    truth: float | None = None


RESOLVED = {
    "mean": Case(lambda s: (moments(s).mean[0], moments(s).mean_error[0]), 3.0),
    "covariance": Case(lambda s: (moments(s).covariance[0, 1], moments(s).covariance_error[0, 1]), 0.0),
    "rms_bias": Case(lambda s: of_chains(s, 1, 0.8), 0.8),
    "rms_bias in 8 dimensions": Case(lambda s: of_chains(s, 8, 2.0)),
    "wasserstein_1": Case(lambda s: wasserstein_1(shifted(NORMAL, 256, s, 0.4), NORMAL, np.mean), 0.4),
    "sliced_wasserstein_2": Case(lambda s: sliced_wasserstein_2(shifted(NORMAL, 256, s, 0.6), NORMAL, seed=s + 9999)),
    "maximum_mean_discrepancy": Case(
        lambda s: maximum_mean_discrepancy(shifted(NORMAL, 128, s, 1.0), NORMAL, seed=s + 9999),
        2 * (3**-0.5) * (1 - np.exp(-1 / 6)),
    ),
    "kernel_stein_discrepancy": Case(lambda s: kernel_stein_discrepancy(shifted(PLANE, 128, s, 1.0), PLANE)),
    "mode_weights": Case(lambda s: mode_weights(SKEWED.sample(512, s), BIMODAL)),
    "autocorrelation_time": Case(lambda s: autocorrelation_time(autoregression(s, 600, 32, 0.5)), 3.0),
    "hopping_rate": Case(lambda s: hopping_rate(jumps(s), BIMODAL), 0.05),
}

FLOOR = {
    "rms_bias": Case(lambda s: of_chains(s, 1, 0.0)),
    "rms_bias in 8 dimensions": Case(lambda s: of_chains(s, 8, 0.0)),
    "wasserstein_1": Case(lambda s: wasserstein_1(NORMAL.sample(256, s), NORMAL, np.mean)),
    "wasserstein_1 in 8 dimensions": Case(lambda s: wasserstein_1(MANY.sample(128, s), MANY, np.mean)),
    "sliced_wasserstein_2": Case(lambda s: sliced_wasserstein_2(NORMAL.sample(256, s), NORMAL, seed=s + 9999)),
    "maximum_mean_discrepancy": Case(lambda s: maximum_mean_discrepancy(MANY.sample(96, s), MANY, seed=s + 9999)),
    "maximum_mean_discrepancy of a trace": Case(
        lambda s: maximum_mean_discrepancy(autoregression(s, 4, 64)[..., None], NORMAL, seed=s + 9999)
    ),
    "kernel_stein_discrepancy": Case(lambda s: kernel_stein_discrepancy(MANY.sample(96, s), MANY)),
    "mode_weights": Case(lambda s: mode_weights(BIMODAL.sample(256, s), BIMODAL)),
    "mode_weights of eight": Case(lambda s: mode_weights(RING.sample(256, s), RING)),
    "mode_weights of a trace": Case(
        lambda s: mode_weights(BIMODAL.sample(64, s) + 0.1 * normals(s, 4, 64, 1), BIMODAL)
    ),
}


def check(case, seeds, high, most):
    """Compare errors with the standard deviation of values, and count the values within two errors of the truth."""
    values, errors, *_ = np.array([[np.squeeze(part) for part in case.estimate(seed)] for seed in range(seeds)]).T
    kurtosis = np.mean((values - values.mean()) ** 4) / values.var() ** 2
    noise = 4 * np.sqrt((kurtosis - 1) / (4 * seeds))
    assert 0.93 - noise < errors.mean() / values.std(ddof=1) < high + noise
    hits = np.sum(np.abs(values - (values.mean() if case.truth is None else case.truth)) < 2 * errors)
    assert stats.binom.ppf(1e-4, seeds, 0.92) <= hits <= (seeds if most is None else stats.binom.isf(1e-4, seeds, most))


COSTLY = "wasserstein_1 in 8 dimensions"
SLOW = pytest.mark.slow


@pytest.mark.parametrize("seeds", [100, pytest.param(1500, marks=SLOW)])
@pytest.mark.parametrize("name", RESOLVED)
def test_errors_of_resolved_biases(name, seeds):
    """The mean error equals the standard deviation over seeds within 7% plus 4 standard errors of the latter.

    For normal values, 4 standard errors are 0.28 with 100 seeds and 0.07 with 1500. The coverage of two errors must be
    within binomial limits for 92% and 98%; Student's t with 31 degrees of freedom has 94.6%. The false-fail rates are
    6e-5 for the ratio, if it is one, and 2e-4 for the coverage. Errors that are wrong by a factor of 0.65 or 1.55 (0.85
    or 1.2 with 1500 seeds) fail with a probability of at least one half.
    """
    check(RESOLVED[name], seeds, 1.07, 0.98)


@pytest.mark.parametrize(
    ("name", "seeds"),
    [(name, 100) for name in FLOOR if name != COSTLY] + [pytest.param(name, 1500, marks=SLOW) for name in FLOOR],
)
def test_errors_at_the_floor(name, seeds):
    """At the floor, the mean error is between 7% below and 20% above the standard deviation over seeds, plus noise.

    See `uldnum.diagnostics.jackknife` for the upper limit. A norm is not negative, so its values do not scatter about
    the true value, 0. The coverage is therefore that of the mean over seeds. It has no upper limit, because large
    values of a skewed distribution have large errors; for rms_bias it is 99%. Jackknife errors would be 1.4 to 1.7
    times the standard deviation: the largest, of mode_weights and rms_bias, would fail with 100 seeds, all with 1500.
    """
    check(FLOOR[name], seeds, 1.2, None)


@pytest.mark.parametrize("scale", [1.0, 1.1, 1.25])
@pytest.mark.parametrize("seeds", [40, pytest.param(200, marks=SLOW)])
def test_intervals_of_a_maximum_cover_the_truth(scale, seeds):
    """The Kolmogorov distance of N(0, s^2) has two equal maxima; with 1500 samples, it is 0, 1 and 2.5 floors.

    The number of intervals of 95% that cover the true distance has binomial limits for 93% and a false-fail rate of
    1e-3: at least 31 of 40 and 174 of 200. If the error were the standard deviation of the value, the intervals would
    cover 82% for s = 1.25 and none for s = 1.
    """
    hits, grid = 0, np.linspace(-6, 6, 6001)
    truth = np.abs(stats.norm.cdf(grid) - stats.norm.cdf(grid / scale)).max()
    for seed in range(seeds):
        found = kolmogorov(scale * normals(seed, 1500, 1), NORMAL, np.mean)
        hits += bool(abs(found.value - truth) < stats.t.ppf(0.975, 31) * found.error)
    assert hits >= stats.binom.ppf(1e-3, seeds, 0.93)


@pytest.mark.parametrize("square", [0.0, 2.0])
def test_errors_of_a_u_statistic_of_normal_vectors(square):
    """For scalar products of 32 vectors of N(mu, I) in 8 dimensions, the variance is 4 mu^2/32 + 16/(32 31).

    The mean error of 400 sets has a relative standard error of 1% and must be within 12% of the exact value. Without
    bias, the jackknife error is 1.36 times as large.
    """
    errors = []
    for seed in range(400):
        x = normals(seed, 32, 8) + np.sqrt(square) * np.eye(8)[0]
        errors.append(u_statistic(x @ x.T, np.ones(32)).error)
    assert np.mean(errors) == pytest.approx(np.sqrt(4 * square / 32 + 16 / (32 * 31)), rel=0.12)


def test_the_floor_of_a_u_statistic_with_unequal_batches():
    """For means of 1 or 2 of 40 vectors of N(0, I) in d dimensions, the variance without bias is 2 d/(40^2 pairs).

    ``pairs = 1 - 56/1600`` is the share of pairs from different batches. The mean of 100 squared floors has a relative
    standard error of 0.7% for d = 400 and 3% for d = 5, so the limits are at least 4 of them away. Without the weights,
    the squared floor for d = 400 would be 2.4 times as large.
    """
    sizes = np.repeat([2.0, 1.0], [8, 24])
    for d, limit in ((400, 0.03), (5, 0.13)):
        squares = []
        for seed in range(100):
            sums = normals(seed, 32, d) * np.sqrt(sizes)[:, None]
            squares.append(u_statistic(sums @ sums.T, sizes).floor ** 2)
        assert np.mean(squares) == pytest.approx(2 * d / 1600 / (1 - 56 / 1600), rel=limit)


def test_the_variance_of_a_squared_norm_is_estimated_without_bias():
    """For normal m with mean mu = (40, 0, 0) and C = diag(1, 4, 9)/n, the variance is 4 mu C mu + 2 tr C^2.

    The mean of 2000 estimates has a standard error of 2%. With a limit of 4 standard errors, the false-fail rate is
    6e-5, and an error of 10% is detected. Without the term (tr C)^2/(n - 1), 2 tr C^2 would be 14% too large.
    """
    n, scale = 16, np.array([1.0, 2.0, 3.0])
    found = []
    for seed in range(2000):
        x = normals(seed, n, 3) * scale + np.array([40.0, 0.0, 0.0])
        m = x.mean(axis=0)
        deviations = (x - m) / np.sqrt(n * (n - 1))
        found.append(squared_norm(deviations @ m, squared_trace(deviations @ deviations.T, n)))
    both, alone = np.mean(found, axis=0)
    assert alone == pytest.approx(2 * np.sum(scale**4) / n**2, rel=0.08)
    assert both == pytest.approx(4 * 40.0**2 / n + 2 * np.sum(scale**4) / n**2, rel=0.05)
    assert np.isnan(squared_trace(np.eye(2), 2))


def test_a_folded_normal_variable():
    """In one dimension the error of |m| is sqrt(1 - 2/pi) without bias and 1 far from 0, within 8%; the floor is 1."""
    deviations = np.array([-1.0, 1.0] * 16)[:, None]
    deviations *= np.sqrt(31 / 32 / np.sum(deviations**2))
    for mean, error in ((0.0, np.sqrt(1 - 2 / np.pi)), (20.0, 1.0)):
        bias = other_norm(lambda x: np.abs(x).sum(axis=-1), np.array([mean]), deviations)
        assert bias.value == mean
        assert bias.error == pytest.approx(error, rel=0.08)
        assert bias.floor == pytest.approx(1.0, rel=1e-12)

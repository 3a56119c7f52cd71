"""Distances against closed forms, and the coverage of their intervals."""

import numpy as np
import pytest
from scipy import stats

import uldnum
from uldnum.diagnostics import (
    kernel_stein_discrepancy,
    kolmogorov,
    maximum_mean_discrepancy,
    mean_bias,
    mode_weights,
    second_moment_bias,
    sliced_wasserstein_2,
    wasserstein_1,
)
from uldnum.diagnostics.jackknife import jackknife
from uldnum.exact import gaussian

NORMAL, BIMODAL = uldnum.target("gaussian"), uldnum.target("bimodal-1d")
H = 1.2  # OBABO on N(0, 1) with this step size samples N(0, 1/(1 - 0.36)), standard deviation 1.25
SPREAD = np.sqrt(gaussian("OBABO", H).position_covariance)
SKEWED = uldnum.GaussianMixture([0.5, 0.5], BIMODAL.means, BIMODAL.variances)


def run(seed, chains=256, steps=200):
    return uldnum.sample(
        NORMAL, "OBABO", h=H, steps=steps, chains=chains, burn_in=20, seed=seed, bins=512, progress=False
    )


def of_moments(seed):
    return second_moment_bias(run(seed), NORMAL)


PLANE = uldnum.GaussianMixture([1.0], [[0.0, 0.0]], [1.0])


def traced(seed):
    done = uldnum.sample(NORMAL, "OBABO", h=H, steps=9, chains=200, burn_in=20, seed=seed, thin=3, progress=False)
    return done.trace


def of_mean(seed):
    """Return the bias of the mean for a target displaced by 0.3; on N(0, 1) the mean of every scheme is exact."""
    return mean_bias(run(seed), uldnum.GaussianMixture([1.0], [[0.3]], [1.0]))


def of_histogram(distance):
    def of(seed):
        return distance(run(seed), NORMAL)

    return of


def gaussian_kernel_truth():
    """Return the squared discrepancy of N(0, s^2) and N(0, 1); E exp(-r^2/2) = (1 + v)^(-1/2) if r has variance v."""
    return sum(sign / np.sqrt(1 + v) for sign, v in ((1, 2 * SPREAD**2), (1, 2.0), (-2, 1 + SPREAD**2)))


def stein_truth():
    """Return the squared Stein discrepancy of N(0, s^2) from N(0, 1) by quadrature over pairs, with l^2 = s^2."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    x, w = SPREAD * nodes, weights / weights.sum()
    gap = x[:, None] - x
    base, width = 1 + gap**2 / SPREAD**2, SPREAD**2
    slope, curve = -(base**-1.5) / width, 3 * base**-2.5 / width**2
    kernel = base**-0.5 * np.outer(x, x) + slope * gap * (x[:, None] - x) - slope - curve * gap**2
    return w @ kernel @ w


# Metric: (function of a seed that returns an estimate, true value).
CASES = {
    "mean": (of_mean, 0.3),
    "second_moment": (of_moments, (SPREAD**2 - 1) / np.sqrt(2)),
    "wasserstein_1": (of_histogram(wasserstein_1), (SPREAD - 1) * np.sqrt(2 / np.pi)),
    "kolmogorov": (
        of_histogram(kolmogorov),
        np.abs(stats.norm.cdf(np.linspace(-4, 4, 8001)) - stats.norm.cdf(np.linspace(-4, 4, 8001) / SPREAD)).max(),
    ),
    "maximum_mean_discrepancy": (
        lambda seed: maximum_mean_discrepancy(run(seed, 600, 1).x, NORMAL, seed=seed),
        gaussian_kernel_truth(),
    ),
    "kernel_stein_discrepancy": (lambda seed: kernel_stein_discrepancy(run(seed, 600, 1).x, NORMAL), stein_truth()),
    "sliced_wasserstein_2": (
        lambda seed: sliced_wasserstein_2(run(seed, 2000, 1).x, NORMAL, seed=seed + 1000),
        SPREAD - 1,
    ),
    "sliced_wasserstein_2 in two dimensions": (
        lambda seed: sliced_wasserstein_2(PLANE.sample(1000, seed) + np.array([0.5, 0.0]), PLANE, seed=seed),
        0.5 / np.sqrt(2),
    ),
    "maximum_mean_discrepancy of a trace": (
        lambda seed: maximum_mean_discrepancy(traced(seed), NORMAL, seed=seed),
        gaussian_kernel_truth(),
    ),
    "mode_weights": (
        lambda seed: mode_weights(SKEWED.sample(2000, seed), BIMODAL),
        # mean responsibility of mode 0 under SKEWED, by quadrature, minus its weight 0.7
        abs(
            np.trapezoid(
                BIMODAL.responsibilities(np.linspace(-9, 9, 4001)[:, None])[:, 0]
                * np.exp(SKEWED.log_density(np.linspace(-9, 9, 4001)[:, None])),
                np.linspace(-9, 9, 4001),
            )
            - 0.7
        ),
    ),
}


def covered(metric, seeds):
    estimate, truth = CASES[metric]
    hits = 0
    for seed in range(seeds):
        bias = estimate(seed)
        hits += bool(np.abs(np.squeeze(bias.value) - truth) < stats.t.ppf(0.975, 31) * np.squeeze(bias.error))
    return hits


@pytest.mark.parametrize("metric", CASES)
def test_stated_intervals_cover_the_truth(metric):
    """The number of 40 intervals of 95% that cover the truth is binomial(40, 0.95); below 32 has probability 2e-4.

    Errors that are too small by a third would cover 81% and fail with probability 1/2. The slow test is more sensitive.
    """
    assert covered(metric, 40) >= 32


@pytest.mark.slow
@pytest.mark.parametrize("metric", CASES)
def test_stated_intervals_cover_the_truth_over_200_seeds(metric):
    """The coverage over 200 seeds is within the limits of binomial(200, 0.95) at 1e-3 on either side, 179 and 198.

    The upper limit detects errors that are much too large.
    """
    low, high = stats.binom.ppf([1e-3, 1 - 1e-3], 200, 0.95)
    assert low <= covered(metric, 200) <= high


@pytest.mark.parametrize(
    ("distance", "most"),
    [(sliced_wasserstein_2, 3), (maximum_mean_discrepancy, 4), (kernel_stein_discrepancy, 4), (mode_weights, 3)],
)
def test_exact_draws_show_the_noise_floor(distance, most):
    """The distances of ten sets of exact draws are within three or four floors; a shifted set is far above.

    The false-fail rates of ten sets, from at least 3600 sets, are 1e-4 for the non-negative distances, which are
    1.0 +- 0.3 floors. U-statistics have long tails: the rates are 2e-3 for the maximum mean discrepancy and 5e-2 for
    the Stein discrepancy. One set detects a shift by 0.5, 0.4, 0.1 and 0.8, in the order of the distances.
    """
    ring = uldnum.target("ring-8")
    for seed in range(10):
        bias = distance(ring.sample(512, seed), ring)
        assert abs(bias.value) < most * bias.floor
    shifted = distance(ring.sample(2048, 1) + np.array([1.0, 0.0]), ring)
    assert shifted.value > 5 * shifted.floor > 0
    assert shifted.value > 5 * shifted.error > 0


def test_histogram_floor_is_the_noise_of_the_run():
    """The mean floor equals the mean distance of unbiased runs (BAOAB on N(0, 1)) within 20%.

    Over 1200 seeds the ratio is 1.02. For 60 seeds its standard error is 0.042 (0.047 among 20 such sets), so the
    limits are 4 to 5 standard errors away and the false-fail rate is 6e-5. A floor that is wrong by 25% is detected.
    """
    pairs = []
    for seed in range(60):
        done = uldnum.sample(
            NORMAL, "BAOAB", h=1.0, steps=100, chains=64, burn_in=20, seed=seed, bins=512, progress=False
        )
        bias = wasserstein_1(done, NORMAL)
        pairs.append((bias.value[0], bias.floor[0]))
    value, floor = np.mean(pairs, axis=0)
    assert floor == pytest.approx(value, rel=0.2)


def test_jackknife_of_a_mean_is_its_standard_error():
    x = np.random.default_rng(0).normal(size=50)
    value, error = jackknife(lambda weights: np.asarray(weights @ x / weights.sum()), 50)
    assert value == pytest.approx(x.mean())
    assert error == pytest.approx(x.std(ddof=1) / np.sqrt(50))


def test_a_trace_is_split_by_chains():
    x = np.random.default_rng(0).normal(size=(5, 64, 2))
    ring = uldnum.target("ring-8")
    flat = sliced_wasserstein_2(x.swapaxes(0, 1).reshape(-1, 2), ring)
    assert sliced_wasserstein_2(x, ring).value == pytest.approx(flat.value)


def test_mean_of_a_group_and_axes():
    done = uldnum.sample("ring-8", "ula", h=[0.1, 0.3], steps=20, chains=32, bins=64, progress=False)
    assert mean_bias(done, uldnum.target("ring-8")).value.shape == (2,)
    assert wasserstein_1(done, uldnum.target("ring-8")).value.shape == (2, 2)


@pytest.mark.parametrize(
    "distance",
    [sliced_wasserstein_2, maximum_mean_discrepancy, kernel_stein_discrepancy, mode_weights],
)
def test_correlated_traces_without_bias_stay_near_their_floors(distance):
    """For strongly correlated traces without bias, distances of ten seeds are within four floors.

    BAOAB runs with a small step size. The mean of ten U-statistics must also be within four standard errors of 0,
    computed from the floors. The false-fail rates, from at least 400 seeds, are about 1e-3 (sliced_wasserstein_2), 3e-2
    (mode_weights) and 6e-2 (U-statistics), which have long tails, and 2e-3 for the mean. A mean discrepancy of 0.004,
    an error of 0.16 in the weights, and a distance of 0.9 are detected.
    """
    values, floors = [], []
    for seed in range(10):
        done = uldnum.sample(BIMODAL, "BAOAB", h=0.05, steps=60, chains=128, thin=6, seed=seed, progress=False)
        bias = distance(done.trace, BIMODAL)
        assert abs(bias.value) < 4 * bias.floor
        values.append(bias.value)
        floors.append(bias.floor)
    if distance in (maximum_mean_discrepancy, kernel_stein_discrepancy):
        assert abs(np.mean(values)) < 4 * np.sqrt(np.mean(np.square(floors)) / 10)


def test_stein_discrepancy_in_784_dimensions():
    """For exact samples of N(0, I) in as many dimensions as an image has pixels, it is consistent with 0.

    The number of samples is no multiple of the number of batches. The root mean square of 40 values in units of the
    floor is within 4 standard errors of 1, 0.55 to 1.45, a false-fail rate of 6e-5. It would be 0.3 if batches of
    different sizes were taken as equal. A displacement by 0.1 of every coordinate is found.
    """
    target = uldnum.UserTarget(lambda x: -x, 784)
    draws = [np.random.default_rng(seed).normal(size=(40, 784)) for seed in range(40)]
    found = [kernel_stein_discrepancy(x, target) for x in draws]
    assert 0.55 < np.sqrt(np.mean([(one.value / one.floor) ** 2 for one in found])) < 1.45
    shifted = kernel_stein_discrepancy(np.concatenate(draws[:5]) + 0.1, target)
    assert shifted.value > 8 * shifted.floor
    assert shifted.value > 4 * shifted.error


def test_u_statistics_have_mean_zero_without_bias():
    """The mean of 60 sets of 40 exact draws is 0; pairs of a sample with itself would add 1/40 of the kernel at 0."""
    for distance in (maximum_mean_discrepancy, kernel_stein_discrepancy):
        values = [distance(NORMAL.sample(40, seed), NORMAL).value for seed in range(60)]
        assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(60)


@pytest.mark.parametrize("chains", [2, 40])
def test_numbers_are_floats(chains):
    """Not arrays without axes, which print as array(0.1)."""
    x = np.random.default_rng(0).normal(size=(chains, 1))
    for distance in (sliced_wasserstein_2, mode_weights, maximum_mean_discrepancy, kernel_stein_discrepancy):
        of = distance(x, "bimodal-1d")
        assert [type(part) for part in of] == [np.float64] * 3, distance


def test_distances_of_a_diverged_group_are_nan():
    with pytest.warns(UserWarning, match="diverged"):
        done = uldnum.sample(NORMAL, "ula", h=[0.5, 3.0], steps=200, chains=8, bins=16, progress=False)
    for bias in (wasserstein_1(done, NORMAL), kolmogorov(done, NORMAL), mean_bias(done, NORMAL)):
        assert np.isfinite(bias.value[0]).all()
        assert np.isnan(bias.value[1]).all()


def test_what_a_distance_lacks_is_said():
    unknown = uldnum.UserTarget(lambda x: -x, 1, sampler=lambda n, seed, first: np.zeros((n, 1)))
    done = uldnum.sample(unknown, "ula", h=0.1, steps=3, chains=4, progress=False)
    with pytest.raises(ValueError, match="does not provide its moments"):
        mean_bias(done, unknown)
    with pytest.raises(ValueError, match="does not provide its cdf"):
        wasserstein_1(done, unknown)
    with pytest.raises(ValueError, match="does not provide its standard deviation"):
        maximum_mean_discrepancy(done.x, unknown)
    with pytest.raises(ValueError, match="x: must have shape"):
        kernel_stein_discrepancy(done.x[:1], unknown)


def test_a_target_of_another_shape_is_refused_and_a_name_is_one():
    ring = uldnum.target("ring-8")
    run = uldnum.sample("gaussian", "ula", h=0.1, steps=4, thin=2, chains=8, bins=16, progress=False)
    measures = [mean_bias, uldnum.diagnostics.second_moment_bias, wasserstein_1, uldnum.diagnostics.kolmogorov]
    of_samples = [sliced_wasserstein_2, maximum_mean_discrepancy, mode_weights, wasserstein_1]
    for measure, given in [(one, run) for one in [*measures, uldnum.diagnostics.relaxation]] + [
        (one, run.x) for one in of_samples
    ]:
        with pytest.raises(
            ValueError, match=r"target: must have samples of shape \(1,\), got 'ring-8' with shape \(2,\)"
        ):
            measure(given, ring)
    assert mean_bias(run, "gaussian") == mean_bias(run, uldnum.target("gaussian"))
    assert sliced_wasserstein_2(run.x.tolist(), "gaussian") == sliced_wasserstein_2(run.x, uldnum.target("gaussian"))
    with pytest.raises(ValueError, match="target: 'double-well' does not provide its modes; define its 'modes'"):
        mode_weights(run.x, "double-well")
    several = uldnum.sample("gaussian", "ula", h=[0.1, 0.2], steps=4, chains=8, progress=False)
    with pytest.raises(ValueError, match="run: must have a single step size"):
        uldnum.diagnostics.chain_mean_times(several)


def test_a_run_without_a_trace_is_said_to_have_none():
    for measure in (sliced_wasserstein_2, mode_weights):
        with pytest.raises(ValueError, match="x: must be an array of positions, got None; a run stores"):
            measure(None, uldnum.target("ring-8"))
    with pytest.raises(ValueError, match=r"trace: must have shape \(draws, chains, d\)"):
        uldnum.diagnostics.hopping_rate(None, uldnum.target("ring-8"))

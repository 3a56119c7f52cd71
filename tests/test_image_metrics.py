"""Metrics of images against closed forms and naive formulas, and the coverage of their intervals."""

from functools import partial

import numpy as np
import pytest
from scipy import linalg
from scipy.special import gammaln
from scipy.stats import entropy, sem

from uldnum.diagnostics import (
    Moments,
    class_distribution,
    coverage,
    density,
    effective_classes,
    frechet_between,
    frechet_distance,
    kernel_distance,
    nearest_training,
    precision,
    recall,
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


def naive_neighbourhoods(x, y, k):
    """Return precision, recall, density and coverage by definition, in exact arithmetic for integer features."""

    def distances(a, b):
        return np.sum((a[:, None] - b) ** 2, axis=-1)

    def radii(a):
        return np.sort(distances(a, a), axis=1)[:, k]  # the first is the distance from itself

    of_real, of_samples = distances(x, y) <= radii(y), distances(y, x) <= radii(x)
    return (
        of_real.any(axis=1).mean(),
        of_samples.any(axis=1).mean(),
        of_real.sum() / k / len(x),
        of_real.any(axis=0).mean(),
    )


def test_neighbourhoods_are_those_of_the_definitions_with_exact_ties():
    """Integer features have many equal distances, which lie on the boundary of a ball."""
    x, y = (np.random.default_rng(seed).integers(0, 6, size=(60, 3)).astype(float) for seed in (5, 6))
    found = [metric(x + 1, y, k=3, n=60).value for metric in (precision, recall, density, coverage)]
    np.testing.assert_allclose(found, naive_neighbourhoods(x + 1, y, 3), rtol=1e-12)


def test_periodic_reference_images_do_not_bias_the_extrapolation():
    """Even and odd images have different means. Batches of one parity would raise the error more than tenfold."""
    x, y = features(7, 400, 3), features(8, 400, 3)
    for part in (x, y):
        part[::2] += 3
    distance = frechet_distance(x, y)
    assert abs(distance.value) < 5 * distance.error < 1


NAN = np.where(np.arange(60)[:, None] == 3, np.nan, features(9, 60, 3))


@pytest.mark.parametrize(
    ("metric", "samples", "options", "message"),
    [
        (frechet_distance, NAN, {}, "samples: must be finite"),
        (frechet_distance, features(0, 60, 4), {}, "reference: must have 4 features"),
        (frechet_distance, features(0, 5, 3), {}, "samples: must have at least 8 images"),
        (frechet_distance, features(0, 3, 3), {"extrapolate": False}, "samples: must have at least 4 images"),
        (kernel_distance, features(0, 60, 3), {"chains": np.arange(60) // 7}, "chains: must have the same number"),
        (kernel_distance, features(0, 60, 3), {"chains": np.zeros(60, int)}, "chains: must contain at least 2 chains"),
        (precision, features(0, 60, 3), {"k": 30, "n": 60}, "k: must be at least 1 and at most 29"),
        (precision, features(0, 50, 3), {"n": 60}, "samples: must have at least n = 60 images"),
    ],
)
def test_invalid_arguments_are_refused(metric, samples, options, message):
    with pytest.raises(ValueError, match=message):
        metric(samples, features(1, 60, 3), **options)


def chained(seed, chains, images, shift):
    """Return features of chains of images, where the mean of a chain has the variance of the images about it."""
    means = np.repeat(features(seed, chains, 3), images, axis=0)
    return (means + features(seed + 1, chains * images, 3)) / 2**0.5 + shift, np.repeat(np.arange(chains), images)


METRICS = {
    "frechet": frechet_distance,
    "frechet from moments": lambda x, y, chains: frechet_distance(x, KNOWN, chains=chains),
    "kernel": kernel_distance,
    "precision": partial(precision, k=3, n=128),
    "recall": partial(recall, k=3, n=128),
    "density": partial(density, k=3, n=128),
    "coverage": partial(coverage, k=3, n=128),
    "classes": lambda x, y, chains: class_distribution(classes_of(x), classes_of(y), chains=chains),
    "effective classes": lambda x, y, chains: effective_classes(classes_of(x), chains=chains),
    "nearest training": lambda x, y, chains: nearest_training(x, TRAINING, y, chains=chains),
}
EXACT = {"frechet": 3 * 0.8**2, "frechet from moments": 3 * 0.8**2}
TRAINING = features(3, 64, 3)  # fixed, because errors are those of samples and held-out images
KNOWN = Moments(10**6, np.zeros(3), 1e6 * np.eye(3))


def classes_of(x):
    return np.clip(np.floor(x[:, 0] + 2), 0, 3).astype(int)


def intervals(name, seeds, chains, images):
    """Return the values and errors of a metric over independent samples and references, shape (seeds, 2)."""
    found = []
    for seed in range(seeds):
        x, owner = chained(10 * seed, chains, images, 0.8)
        bias = METRICS[name](x, features(10 * seed + 5, 256, 3), chains=owner if images > 1 else None)
        found.append([float(bias.value), float(bias.error)])
    return np.array(found)


@pytest.mark.parametrize(("chains", "images"), [(128, 1), (32, 8)])
@pytest.mark.parametrize("name", METRICS)
@pytest.mark.slow
def test_intervals_cover_the_expectation(name, chains, images):
    """Of 200 intervals of 2 standard errors, 177 to 200 cover it, or 172 without a closed form.

    An error that is too small by a factor of 1.4 covers 169 on average. Of an exact interval, fewer than 177 cover with
    a probability of 1e-5. Without a closed form, the expectation is the mean of the values. The mean error is within
    25% of the standard deviation of the values, whose own error is 5%.
    """
    found = intervals(name, 200, chains, images)
    expectation = EXACT.get(name, found[:, 0].mean())
    covered = np.sum(np.abs(found[:, 0] - expectation) < 2 * found[:, 1])
    print(name, chains, covered, found.mean(axis=0), found[:, 0].std(ddof=1))
    assert covered >= (177 if name in EXACT else 172)
    assert np.sqrt(np.mean(found[:, 1] ** 2)) == pytest.approx(found[:, 0].std(ddof=1), rel=0.25)


@pytest.mark.parametrize("name", METRICS)
def test_errors_are_the_spread_of_the_values(name):
    """Errors of chains are within 45% of the spread of 40 values, whose own error is 11%: 4 standard errors.

    Errors that ignore the correlation of the images of a chain would be too small by a factor of 2.1 for means.
    """
    found = intervals(name, 40, 32, 8)
    assert np.sqrt(np.mean(found[:, 1] ** 2)) == pytest.approx(found[:, 0].std(ddof=1), rel=0.45)


def test_exact_moments_are_a_reference_without_noise():
    """They give the distance of all pairs of images from the same distribution, here of the images themselves."""
    x, y = features(11, 200, 3), features(12, 100, 3) + 1
    known = frechet_distance(x, Moments.of(y), extrapolate=False)
    means, covariances = (x.mean(0), y.mean(0)), (np.cov(x.T), np.cov(y.T, bias=True))
    assert known.value == pytest.approx(frechet_between(means[0], covariances[0], means[1], covariances[1]), rel=1e-3)
    assert known.error < frechet_distance(x, y, extrapolate=False).error
    with pytest.raises(ValueError, match="reference: must have 3 features"):
        frechet_distance(x, Moments.of(y[:, :2]))


def test_classes_have_the_naive_distance_and_floor():
    rng = np.random.default_rng(13)
    mine, theirs, others = (rng.integers(0, 5, size) for size in (60, 90, 60))

    def naive(a, b):
        return sum(abs(np.mean(a == j) - np.mean(b == j)) for j in range(5)) / 2

    found = class_distribution(mine, theirs, chains=np.arange(60) % 12, held_out_labels=others)
    assert found.value == pytest.approx(naive(mine, theirs), rel=1e-12)
    assert found.floor == pytest.approx(naive(others, theirs), rel=1e-12)
    assert class_distribution([0, 0, 7], [3, 3]).value == pytest.approx(1, rel=1e-12)  # without common classes


def test_effective_classes_are_the_exponential_of_the_entropy():
    """The error is that of the jackknife over chains, of which each is a batch here."""
    labels, owner = np.random.default_rng(14).integers(0, 4, 60) ** 2, np.arange(60) % 12

    def naive(classes):
        return np.exp(entropy(np.unique(classes, return_counts=True)[1]))

    found = effective_classes(labels, chains=owner, held_out_labels=labels[::-1])
    without = [naive(labels[owner != one]) for one in range(12)]
    assert found.value == found.floor == pytest.approx(naive(labels), rel=1e-12)
    assert found.error == pytest.approx(np.sqrt(11 * np.var(without)), rel=1e-12)


def test_nearest_training_is_the_share_of_closer_pairs():
    """Integer features have ties, which count half. The error is that of two independent means, of chains and images.

    A mean that depends on both sets varies with each of them (DeLong et al. 1988).
    """
    x, y, z = (
        np.random.default_rng(seed).integers(0, 5, size=(size, 3)) for seed, size in ((15, 40), (16, 9), (17, 30))
    )
    mine, theirs = (((part[:, None] - y) ** 2).sum(axis=-1).min(axis=1) for part in (x, z))
    pairs = (mine[:, None] < theirs) + (mine[:, None] == theirs) / 2
    of_chains, of_images = pairs.reshape(10, 4, 30).mean(axis=(1, 2)), pairs.mean(axis=0)
    found = nearest_training(x, y, z, chains=np.repeat(np.arange(10), 4))
    assert found.value == pytest.approx(pairs.mean(), rel=1e-12)
    assert found.error == pytest.approx(np.hypot(sem(of_chains), sem(of_images)), rel=1e-12)
    assert nearest_training(y, y, z + 0.5).value == 1


def third_moments(mean, covariance):
    """Return E x_i, E x_i x_j and E x_i x_j x_k of a normal distribution."""
    mixed = np.einsum("i,jk->ijk", mean, covariance)
    cube = np.einsum("i,j,k->ijk", mean, mean, mean)
    return mean, covariance + np.outer(mean, mean), cube + mixed + mixed.transpose(1, 0, 2) + mixed.transpose(2, 1, 0)


@pytest.mark.parametrize("images", [1, 4])
def test_the_kernel_distance_of_normal_distributions_is_not_biased(images):
    """The kernel is a polynomial of degree 3, so the distance has a closed form in the first three moments.

    The mean of 400 values deviates by more than 4 standard errors, 13% or 20% of the distance, with a probability of
    6e-5. Pairs of the same sample would raise the value by 24%, and other pairs of the same chain by 26%.
    """
    mean, root = np.array([0.5, -0.3]), np.array([[1.2, 0.0], [0.4, 0.8]])
    mine, theirs = third_moments(mean, root @ root.T), third_moments(np.zeros(2), np.eye(2))
    gaps = [np.sum((a - b) ** 2) for a, b in zip(mine, theirs, strict=True)]
    exact = 3 * gaps[0] / 2 + 3 * gaps[1] / 4 + gaps[2] / 8
    found = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        of_chain = np.repeat(rng.normal(size=(60 // images, 2)), images, axis=0)
        own = of_chain if images == 1 else (of_chain + rng.normal(size=(60, 2))) / 2**0.5
        x, y = own @ root.T + mean, rng.normal(size=(80, 2))
        found.append(float(kernel_distance(x, y, chains=np.arange(60) // images if images > 1 else None).value))
    assert abs(np.mean(found) - exact) < 4 * sem(found)


def lost(n):
    """Return 1 - E s for the standard deviation s of n standard normal numbers, with the divisor n - 1."""
    return 1 - np.sqrt(2 / (n - 1)) * np.exp(gammaln(n / 2) - gammaln((n - 1) / 2))


def expected_distance(n, m):
    """Return the expected Frechet distance of n from m standard normal numbers: that of means and deviations."""
    return 1 / n + 1 / m + 2 * (lost(n) + lost(m) - lost(n) * lost(m))


def test_the_extrapolation_removes_the_bias():
    """With one feature, the distances of all images and of halves have exact expectations.

    The mean of 400 values deviates by more than 4 standard errors with a probability of 6e-5. They are 24% of
    the bias that is removed.
    """
    pairs = [(features(2 * seed, 64, 1), features(2 * seed + 1, 96, 1)) for seed in range(400)]
    plain, extrapolated = (
        np.array([float(frechet_distance(x, y, extrapolate=whether).value) for x, y in pairs])
        for whether in (False, True)
    )
    expected = expected_distance(64, 96), 2 * expected_distance(64, 96) - expected_distance(32, 48)
    assert abs(plain.mean() - expected[0]) < 4 * sem(plain)
    assert abs(extrapolated.mean() - expected[1]) < 4 * sem(extrapolated)
    assert abs(expected[1]) < 0.03 * expected[0]

"""Empirical distribution of images with noise: score and moments against a Gaussian mixture, draws, use as a target."""

import numpy as np
import pytest

import uldnum
from uldnum.targets import DataMixture, data

EPS = np.finfo(np.float32).eps


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(-1, 1, size=(40, 2, 3, 4)).astype(np.float32)


def exact(images, alpha, sigma):
    """The same distribution as a mixture of 40 Gaussians in 24 dimensions, in float64."""
    flat = images.reshape(len(images), -1).astype(float)
    tiny = np.full(len(images), 1e-300)
    return uldnum.GaussianMixture(np.full(len(images), 1 / len(images)), flat, tiny).noised(alpha, sigma)


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.2), (1.0, 1.0), (1.0, 30.0), (0.6, 0.8), (0.99, 0.1)])
def test_score_is_that_of_the_mixture(images, monkeypatch, alpha, sigma):
    """Score and denoiser equal those of the mixture, in blocks of 7 images.

    The tolerance is a few float32 rounding errors of the exponents.
    """
    monkeypatch.setattr(data, "BLOCK", 7)
    level = DataMixture(images).at(sigma, alpha)
    x = level.sample(9, seed=3).astype(np.float32)
    wanted = exact(images, alpha, sigma).score(x.reshape(9, -1).astype(float)).reshape(x.shape)
    lengths = np.abs(x).max() * np.sqrt(24) * alpha * np.sqrt(24)
    room = EPS * (np.abs(x).max() + 4 * alpha * lengths / sigma**2) / sigma**2
    np.testing.assert_allclose(level.score(x), wanted, rtol=0, atol=room)
    np.testing.assert_allclose(level.denoise(x), (x + sigma**2 * wanted) / alpha, rtol=0, atol=room * sigma**2 / alpha)


def test_moments_and_draws(images):
    level = DataMixture(images).at(0.5, 0.8)
    law = exact(images, 0.8, 0.5)
    np.testing.assert_allclose(level.mean.ravel(), law.mean, atol=1e-6)
    np.testing.assert_allclose(level.standard_deviation.ravel(), law.standard_deviation, rtol=1e-6)
    draws = level.sample(20_000, seed=1)
    # 24 means and 24 variances at 4.5 standard errors: the false-fail rate is about 1 in 3000 runs.
    gaps = (draws.mean(axis=0) - level.mean) / (level.standard_deviation / np.sqrt(20_000))
    assert np.abs(gaps).max() < 4.5
    assert np.abs(draws.std(axis=0) / level.standard_deviation - 1).max() < 4.5 / np.sqrt(2 * 20_000)
    np.testing.assert_array_equal(level.sample(2, seed=1, first=5), draws[5:7])
    assert (
        len(
            {
                level.fingerprint,
                DataMixture(images).at(0.5, 0.9).fingerprint,
                DataMixture(images[1:]).at(0.5).fingerprint,
            }
        )
        == 3
    )


def test_it_is_a_target(images):
    """Runs of `uldnum.sample`: evaluations, divergence, and the difference of two ULA steps by the formula."""
    level = DataMixture(images).at(0.7)
    run = uldnum.sample(level, "noise-denoise(2)", h=2.0, steps=30, chains=8, seed=1, progress=False)
    assert run.nfe == 30
    assert run.diverged == 0
    assert np.abs(level.denoise(run.x)).max() <= 1
    first = uldnum.sample(level, "ula", h=0.5, steps=1, chains=8, seed=1, progress=False)
    x0 = level.sample(8, seed=1).astype(np.float32)
    second = uldnum.sample(level, "ula", h=0.5, steps=1, chains=8, seed=1, x0=x0 + 0.1, progress=False)
    delta = 0.5 * (0.5 * 0.7) ** 2
    drift = 0.1 + delta * (level.score(x0 + np.float32(0.1)) - level.score(x0))
    np.testing.assert_allclose(second.x - first.x, drift, atol=1e-5)


@pytest.mark.parametrize(
    ("images", "fault"),
    [(np.zeros((3, 4)), r"images: must have shape"), (np.zeros((0, 1, 2, 2)), "images: must have shape"),
     (np.full((1, 1, 2, 2), np.nan), "images: must be finite"), ("digits", "images: must be a number or an array")],
)  # fmt: skip
def test_invalid_images_are_refused(images, fault):
    with pytest.raises(ValueError, match=fault):
        DataMixture(images)


def test_bad_noise_levels_are_refused(images):
    with pytest.raises(ValueError, match="sigma: must be positive"):
        DataMixture(images).at(0.0)

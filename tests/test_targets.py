"""Targets own their exact moments and their sampler."""

import numpy as np
import pytest
from scipy import integrate

import uldnum
from uldnum.kernels.drawing import mixture_points
from uldnum.targets import PRESETS


def test_moments_against_quadrature():
    mixture = uldnum.GaussianMixture([0.6, 0.4], [[1.0], [-2.0]], [0.5, 1.5])

    def density(x):
        return np.exp(mixture.log_density(np.array([[x]])))[0]

    for order in range(6):
        expected, _ = integrate.quad(lambda x, n=order: x**n * density(x), -15, 15, epsabs=1e-12, limit=200)
        np.testing.assert_allclose(mixture.moment(order), expected, rtol=1e-9)
    assert mixture.covariance[0, 0] == pytest.approx(mixture.moment(2)[0] - mixture.mean[0] ** 2)


def test_gmm_40_is_the_benchmarks():
    """The first two means of torch.manual_seed(0); (torch.rand(40, 2) - 0.5) * 80, as its users print them."""
    np.testing.assert_allclose(uldnum.target("gmm-40").means[:2], [[-0.2995, 21.4577], [-32.9218, -29.4376]], atol=1e-4)


def test_the_design_states_the_moments_of_bimodal_1d():
    target = uldnum.target("bimodal-1d")
    np.testing.assert_allclose([target.mean[0], target.moment(2)[0]], [0.6, 3.25], rtol=1e-15)


@pytest.mark.parametrize("name", PRESETS)
def test_samples_have_the_moments(name):
    """400 000 draws at 5 standard errors, false-fail rate 6e-7 each; 2% of a variance is caught."""
    target, n = uldnum.target(name), 400_000
    x = target.sample(n, seed=5)
    square = x * x
    for values, exact in ((x, target.mean), (square, target.moment(2)), (square * square, target.moment(4))):
        assert np.all(np.abs(values.mean(axis=0) - exact) < 5 * values.std(axis=0) / np.sqrt(n))
    if isinstance(target, uldnum.GaussianMixture):
        for i in range(min(8, x.shape[1])):
            products = (x[:, i : i + 1] - target.mean[i]) * (x - target.mean)
            assert np.all(np.abs(products.mean(axis=0) - target.covariance[i]) < 5 * products.std(axis=0) / np.sqrt(n))
    places = np.quantile(x[:, 0], [0.1, 0.5, 0.9])
    assert np.all(np.abs(target.cdf(places)[:, 0] - [0.1, 0.5, 0.9]) < 5 * 0.5 / np.sqrt(n))


def test_draws_depend_on_seed_and_number_alone():
    ring = uldnum.target("ring-8")
    np.testing.assert_array_equal(ring.sample(10, seed=2)[4:], ring.sample(6, seed=2, first=4))
    assert np.all(ring.sample(10, seed=3) != ring.sample(10, seed=2))


@pytest.mark.parametrize(("components", "full"), [(1, False), (7, True), (8, False), (300, False)])
def test_points_of_mixtures_are_what_their_numbers_stand_for(components, full):
    """Uniform numbers at the sums of the weights and next to them too, where the component changes.

    Some weights are so small that many components share a cell, and the sum is as far from 1 as may be; eight change
    at edges of cells.
    """
    rng, d = np.random.default_rng(0), 3
    weights = rng.dirichlet(np.full(components, 0.1)) + 1e-12
    weights = np.full(8, 1 / 8) if components == 8 else weights * (1 - 9e-10) / weights.sum()
    means, factors = rng.normal(size=(components, d)), rng.normal(size=(components, d, d if full else 1))
    sums = np.cumsum(weights)[:-1]
    cells = np.arange(4096) / 4096  # where the table of the search has its edges
    near = [cells[1:], np.nextafter(cells[1:], 0), sums, np.nextafter(sums, 0), np.nextafter(sums, 1)]
    u = np.concatenate([rng.random(500), *near, [2.0**-33, 1 - 2.0**-33]])
    z = rng.normal(size=(len(u), d))
    k = (sums < u[:, None]).sum(axis=1)
    expected = means[k] + (np.einsum("nij,nj->ni", factors[k], z) if full else factors[k, :, 0] * z)
    assert max(k) == components - 1
    np.testing.assert_allclose(mixture_points(weights, means, factors, u, z), expected, rtol=1e-14, atol=1e-14)


def test_noised_is_the_law_of_the_noised_variable():
    ring, alpha, sigma = uldnum.target("ring-8"), 0.6, 0.8
    noised = ring.noised(alpha, sigma)
    np.testing.assert_allclose(noised.mean, alpha * ring.mean, atol=1e-15)
    np.testing.assert_allclose(noised.covariance, alpha**2 * ring.covariance + sigma**2 * np.eye(2), atol=1e-15)
    assert uldnum.target("gaussian").noised(alpha, sigma).score([[0.5]]) == pytest.approx(-0.5)


@pytest.mark.parametrize(
    ("weights", "means", "variances", "fault"),
    [
        ([0.5, 0.4], [[0.0], [1.0]], [1.0, 1.0], "weights: must be positive and sum to 1"),
        ([1.5, -0.5], [[0.0], [1.0]], [1.0, 1.0], "weights: must be positive"),
        ([], [[0.0]], [1.0], "weights: must have shape"),
        ([1.0], [0.0], [1.0], "means: must have shape"),
        ([0.5, 0.5], [[0.0]], [1.0], "means: must have shape"),
        ([1.0], [[0.0, 0.0]], [[1.0]], "variances: must have shape"),
        ([1.0], [[0.0]], [0.0], "variances: must be positive"),
        ([1.0], [[np.nan]], [1.0], "means: must be finite"),
    ],
)
def test_bad_mixtures_are_refused(weights, means, variances, fault):
    with pytest.raises(ValueError, match=fault):
        uldnum.GaussianMixture(weights, means, variances)


def test_bad_points_and_names_are_refused():
    with pytest.raises(ValueError, match=r"x: must have shape \(n, 2\)"):
        uldnum.target("ring-8").score([1.0, 2.0])
    with pytest.raises(ValueError, match="nearest is 'ring-8'"):
        uldnum.target("ring8")

"""The page on noisy and wrong scores: its stored data are what the code gives, and its text follows from them."""

import numpy as np
import pytest
import xarray as xr

import uldnum
from analysis import score_error
from uldnum.targets.presets import ring_8


@pytest.fixture(scope="module")
def stored():
    return xr.load_dataset(score_error.DATA)


@pytest.mark.parametrize("name", score_error.INTEGRATORS)
def test_the_stored_values_on_a_gaussian_are_what_the_code_gives(stored, name):
    rows = np.array(score_error.at_equal_cost(name, "gaussian", 1.0))
    one = stored.sel(integrator=name, target="gaussian", friction=1.0)
    for i, part in enumerate(("step", "step_cost", "distance", "second_moment")):
        np.testing.assert_allclose(rows[:, i], one[part], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["ula", "baoab-limit"])
def test_the_stored_values_on_two_modes_are_what_the_code_gives(stored, name):
    """At one noise level, within the tolerance of exact answers; the largest noise changes the distance by 0.14."""
    one = stored.sel(integrator=name, target="bimodal-1d", friction=1.0, tau=1.0)
    scheme = uldnum.integrator(name).at(score_noise=1.0)
    cost, distance, second = score_error.answer(float(np.log(one.step)), scheme, "bimodal-1d", 1.0)
    assert cost == pytest.approx(float(one.step_cost), rel=1e-4)
    assert [distance, second] == pytest.approx([float(one.distance), float(one.second_moment)], abs=2e-4)


def test_noise_adds_the_variance_that_the_page_derives(stored):
    """tau^2/C, at all steps for ULA and at small steps for kinetic schemes; more at friction 0.5."""
    assert np.abs(stored.step_cost / score_error.COST - 1).max() < 1e-3
    added = score_error.added_variance(stored)
    np.testing.assert_allclose(added.sel(integrator="ula"), 1, rtol=1e-3)
    kinetic = added.sel(integrator=["BAOAB", "OBABO", "UBU"])
    np.testing.assert_allclose(kinetic.sel(friction=[1.0, 2.0]), 1, rtol=0.02)
    np.testing.assert_allclose(kinetic.sel(friction=0.5), (1 + 0.5**2) / (2 * 0.5**2), rtol=0.02)


def test_the_gradient_of_the_loss():
    random = np.random.default_rng(1)
    parameters, noised, clean = random.normal(size=20), random.normal(size=(7, 2)), random.normal(size=(7, 2))
    gradient = score_error.loss(parameters, noised, clean)[1]
    for i, one in enumerate(1e-5 * np.eye(20)):
        ends = [score_error.loss(parameters + sign * one, noised, clean)[0] for sign in (1, -1)]
        assert gradient[i] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-7)


def test_the_score_of_the_network_is_the_gradient_of_its_density(stored):
    parameters, x = stored.parameters.values, ring_8().means + 0.3
    score = score_error.network(parameters).score(x)
    for i, one in enumerate(1e-5 * np.eye(2)):
        ends = [score_error.log_density(parameters, x + sign * one) for sign in (1, -1)]
        np.testing.assert_allclose(score[:, i], (ends[0] - ends[1]) / 2e-5, rtol=1e-6, atol=1e-6)


def test_the_bias_of_the_network(stored):
    """By quadrature as stored, and by sampling: BAOAB with the smallest step has it within 4 standard errors.

    Without the error of the network the bias would be 10 standard errors smaller.
    """
    biases, error = score_error.own_bias(stored.parameters.values)
    np.testing.assert_allclose(biases, stored.own_bias, rtol=1e-6)
    assert error == pytest.approx(stored.score_error, rel=1e-6)
    sampled = stored.sel(integrator="BAOAB").isel(network_h=0)
    assert (np.abs(sampled.network_bias - sampled.own_bias) < 4 * sampled.network_error).all()
    assert (sampled.own_bias > 10 * sampled.network_error).all()


def test_training_reduces_the_error_to_that_of_the_exact_denoiser(monkeypatch):
    """After fifteen iterations on 1000 points, nine tenths of the excess error of a network of zeros are gone."""
    monkeypatch.setattr(score_error, "POINTS", 1000)
    monkeypatch.setattr(score_error, "ITERATIONS", 15)
    ring, random = ring_8(), np.random.default_rng(2)
    clean = ring.means[random.integers(8, size=4000)]
    noised = clean + score_error.SIGMA * random.normal(size=clean.shape)
    exact = np.mean(np.sum((noised + score_error.SIGMA**2 * ring.score(noised) - clean) ** 2, axis=1))
    first = score_error.loss(np.zeros(4 * score_error.UNITS), noised, clean)[0]
    trained = score_error.loss(score_error.train().ravel(), noised, clean)[0]
    assert exact < trained < exact + (first - exact) / 10


def test_the_page_follows_from_the_stored_data(monkeypatch, tmp_path, stored):
    written = score_error.PAGE.read_text()
    monkeypatch.setattr(score_error, "PAGE", tmp_path / "page.md")
    score_error.write_page()
    assert (tmp_path / "page.md").read_text() == written
    # What the text says without a number from the data.
    plane = stored.sel(metric="wasserstein_1")
    mild = plane.sel(integrator="mild(0.5)").exact_bias
    assert (mild.dropna("h") > plane.own_bias).all()
    without_noise = stored.second_moment.sel(target="gaussian", tau=0)
    assert (without_noise.sel(integrator=["UBU", "mild(0.5)"]) < 0).all()


def test_the_figure_is_drawn_from_the_stored_data(monkeypatch, tmp_path):
    monkeypatch.setattr(score_error, "FIGURES", (tmp_path / "figure.svg",))
    score_error.draw()
    assert "density of the network" in (tmp_path / "figure.svg").read_text()

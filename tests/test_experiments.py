"""The stored numbers of the experiments on images give the page and the figures, and a cell gives the stored images."""

import numpy as np
import pytest
import xarray as xr

from analysis import quality, quality_numbers, quality_runs


@pytest.fixture(scope="module")
def stored():
    return xr.load_dataset(quality.DATA)


def test_the_page_is_that_of_the_stored_numbers(stored):
    assert quality.page(stored) == quality.PAGE.read_text()


def test_every_number_has_an_error(stored):
    known = stored.value.notnull()
    assert np.isfinite(stored.value.values[known]).all()
    assert (stored.error.values[known] >= 0).all()
    assert set(np.unique(stored.experiment)) >= {"gain", "cost", "level", "final", "eta", "floor", "floor at one level"}


def test_the_figures_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "pictures", lambda name: (tmp_path / f"{name}.png",))
    quality.draw()
    assert len(list(tmp_path.iterdir())) == 6


def test_a_cell_gives_the_stored_images(stored):
    """Two chains on the network; a runtime for networks that rounds differently may change a byte by one or two."""
    sampler, nfe = "BAOAB-limit", quality_runs.COSTS["network"][1]
    sizes = dict(zip(stored.langevin.values.tolist(), stored.chosen_h.values.tolist(), strict=True))
    cell = next(cell for cell in quality_runs.cost("network", sizes, nfe) if cell.sampler == sampler)
    images, cost = cell.sampled(quality_runs.law_of("network"), 2, 0, cell.seed)
    found = quality_runs.to_bytes(images)[0].astype(int)
    assert cost == nfe
    assert np.abs(found - stored.nearest_network[0, :2].values).max() <= 2


def test_the_moments_of_a_population_are_not_those_of_a_sample():
    vectors = np.random.default_rng(0).normal(size=(20, 3))
    moments = quality_numbers.population(vectors)
    np.testing.assert_allclose(moments.covariance, np.cov(vectors.T, bias=True), rtol=0, atol=1e-14)

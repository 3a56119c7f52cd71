"""The stored kinetic temperatures of the catalogue, and the figure drawn from them."""

import numpy as np
import pytest
import xarray as xr

from analysis import kinetic


@pytest.fixture(scope="module")
def stored():
    return xr.load_dataset(kinetic.DATA)


def test_every_integrator_with_momenta_is_stored(stored):
    assert dict(zip(stored.integrator.values, stored.family.values, strict=True)) == kinetic.schemes()


def test_exact_values_are_those_of_closed_forms(stored):
    """On N(0, 1), BAOAB has 1 - h^2/4 on the step and 1 at the half step, and ABOBA 1/(1 - h^2/4)."""
    found, h = stored.exact.sel(target="gaussian"), stored.h.values
    np.testing.assert_allclose(found.sel(integrator="BAOAB", reading="step"), 1 - h**2 / 4, rtol=1e-12)
    np.testing.assert_allclose(found.sel(integrator="BAOAB", reading="half"), 1, rtol=1e-12)
    np.testing.assert_allclose(found.sel(integrator="ABOBA", reading="step"), 1 / (1 - h**2 / 4), rtol=1e-12)
    np.testing.assert_allclose(found.sel(integrator="BBK", reading="step"), 1 / (1 + h / 2), rtol=1e-12)


@pytest.mark.parametrize("name", ["OBABO", "UBU"])
def test_exact_values_are_reproduced(stored, name, monkeypatch):
    """With a tolerance that is ten times as large, which takes less time."""
    monkeypatch.setattr(kinetic, "TOLERANCE", 1e-4)
    one = stored.sel(integrator=name, target="bimodal-1d", h=1.0)
    for scheme, reading in zip(kinetic.readings(name), kinetic.READINGS, strict=True):
        if scheme is None:
            assert np.isnan(one.exact.sel(reading=reading))
        else:
            temperature, divergence = kinetic.exact(scheme, "bimodal-1d", 1.0)
            np.testing.assert_allclose(one.exact.sel(reading=reading), temperature, rtol=1e-4)
            np.testing.assert_allclose(one.kl.sel(reading=reading), divergence, atol=1e-5)


def test_sampled_values_agree_with_exact_ones(stored):
    """The largest of about 200 differences is below 4.5 standard errors (false-fail rate 1.4e-3)."""
    gaps = np.abs((stored.sampled - stored.exact) / stored.error).values
    assert np.nanmax(gaps) < 4.5
    assert np.isfinite(gaps).sum() > 190


def test_the_figure_is_drawn_from_the_data(monkeypatch, tmp_path):
    monkeypatch.setattr(kinetic, "FIGURES", [tmp_path / "kinetic.png"])
    kinetic.draw()
    assert (tmp_path / "kinetic.png").stat().st_size > 10_000


def test_the_page_is_written_from_the_data(monkeypatch, tmp_path):
    monkeypatch.setattr(kinetic, "PAGE", tmp_path / "kinetic.md")
    written = kinetic.Path(kinetic.__file__).with_suffix(".md").read_text(encoding="utf-8")
    kinetic.write_page()
    assert kinetic.PAGE.read_text(encoding="utf-8") == written

"""The figure of the whole catalogue and its stored data."""

import numpy as np
import pytest
import xarray as xr

import uldnum
from analysis import zoo


@pytest.fixture(scope="module")
def stored():
    return xr.load_dataset(zoo.DATA)


def test_the_whole_catalogue_is_stored(stored):
    known = [entry.name for entry in uldnum.integrators() if not entry.metropolised]
    assert [name.split("(")[0] for name in stored.integrator.values] == known


@pytest.mark.parametrize("name", ["ula", "GJ-IV", "QUICSORT", "SRK"])
def test_the_stored_numbers_are_what_the_code_gives(stored, name):
    for key, values in zoo.numbers(uldnum.integrator(name)).items():
        np.testing.assert_allclose(stored[key].sel(integrator=name), values, rtol=1e-9, atol=1e-12)


def test_known_numbers(stored):
    """Var(x) = 1/(1 - h^2/4) for ULA and OBABO, and Var(p) = 1/(1 + h/2) for BBK."""
    bias = 1 / (1 - np.square(zoo.TIMES) / 4) - 1
    for name in ("ula", "OBABO"):
        np.testing.assert_allclose(stored.x.sel(integrator=name), bias, rtol=1e-9)
    np.testing.assert_allclose(stored.p.sel(integrator="BBK"), 1 / (1 + zoo.TIMES / 2) - 1, rtol=1e-9)


def test_the_figure_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "FIGURES", [tmp_path / "zoo.png"])
    zoo.draw()
    assert (tmp_path / "zoo.png").stat().st_size > 10_000

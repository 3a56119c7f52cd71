"""The page and the figures of joint and marginal laws, and their stored data."""

import numpy as np
import pytest
import xarray as xr

from analysis import joint_laws


@pytest.fixture(scope="module")
def stored():
    return xr.load_dataset(joint_laws.DATA)


def test_the_stored_divergences_are_what_the_code_gives(stored):
    target, h, _ = joint_laws.wells()["quartic"]
    (law,) = joint_laws.laws(target, h[-1:], "VRORV", joint_laws.FRICTION, joint_laws.TOLERANCES[-1:])
    one = stored.exact.sel(target="quartic", word="VRORV").isel(step=-1)
    np.testing.assert_allclose(one, [law.kl, law.phase_space.kl], rtol=1e-6)


def test_the_order_of_the_words(stored):
    """VRORV has the smallest divergence of x at every step; all divergences grow with the step."""
    of_x = stored.exact.sel(of="x")
    assert (of_x.argmin("word") == 0).all()
    assert (stored.exact.diff("step") > 0).all()


def test_estimates_for_positions_and_momenta_agree(stored):
    """The interval of 4.5 standard errors has a false-fail rate of 2e-4 for all estimates together."""
    exact = stored.exact.isel(step=slice(joint_laws.FIRST, None)).rename(step="large")
    gap = np.abs(stored.estimate - exact) / stored.error
    assert (gap.sel(of="(x, p)") < 4.5).sum() >= 22  # chains diverge at a few points of the largest steps
    assert not (gap.sel(of="(x, p)") > 4.5).any()


def test_the_page_and_the_figures_are_written(stored, tmp_path, monkeypatch):
    for name, path in (("FIGURES", "laws.png"), ("WORK", "work.png")):
        monkeypatch.setattr(joint_laws, name, [tmp_path / path])
    monkeypatch.setattr(joint_laws, "PAGE", tmp_path / "page.md")
    joint_laws.draw()
    joint_laws.write_page()
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == (joint_laws.HERE / "joint_laws.md").read_text("utf-8")
    assert min(path.stat().st_size for path in tmp_path.iterdir()) > 2_000

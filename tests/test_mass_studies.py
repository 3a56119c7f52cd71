"""Studies with a mass: measured and exact values, default steps, limits of stability, labels, and the shell."""

import sys

import numpy as np
import pytest
import xarray as xr

import uldnum
from uldnum import diagnostics, exact, studies
from uldnum.cli import app
from uldnum.studies.common import StepGrid, place_of
from uldnum.studies.configuration import BiasConfiguration
from uldnum.studies.points import Exact

PRECISION = np.array([[1.0, 0.4], [0.4, 0.8]])
COVARIANCE = np.linalg.inv(PRECISION)
MATRIX = [[2.0, 0.5], [0.5, 1.0]]
NORMAL = uldnum.GaussianMixture([1.0], [[0.0, 0.0]], covariances=[COVARIANCE])
OPTIONS = {"friction": 1.0, "progress": False}


@pytest.mark.parametrize(
    "mass", [4.0, [0.5, 3.0], MATRIX, "inverse-covariance"], ids=["m", "vector", "matrix", "known"]
)
def test_exact_biases_are_those_of_the_law(mass):
    """The bias of the second moment, in standard deviations of x^2, which are sqrt(2) variances."""
    found = studies.exact_bias(NORMAL, "OBABO", [0.4, 0.9], mass=mass, **OPTIONS)
    law = exact.gaussian("OBABO", [0.4, 0.9], precision=PRECISION, mass=mass)
    bias = np.diagonal(law.position_bias, axis1=-2, axis2=-1) / np.diag(COVARIANCE) / 2**0.5
    known = found.exact_signed.sel(moment="second_moment").squeeze("integrator")
    np.testing.assert_allclose(known.transpose("h", "axis"), bias, rtol=1e-11)


def test_measured_biases_agree():
    """Each within 4 errors, once in 1,000 runs not; unit mass would differ by 30 errors."""
    given = {"chains": 512, "nfe": 400, "burn_in": 50, "exact": True, "backend": "array"}
    found = studies.frontier(NORMAL, "ula", [1.0], mass=MATRIX, **given, **OPTIONS)
    unit = studies.exact_bias(NORMAL, "ula", [1.0], **OPTIONS)
    parts = (
        one.sel(moment="second_moment").squeeze() for one in (found.signed_bias, found.exact_signed, unit.exact_signed)
    )
    value, known, other = parts
    error = found.signed_error.sel(moment="second_moment").squeeze()
    assert (abs(value - known) < 4 * error).all()
    assert (abs(value - other) > 8 * error).any()
    assert abs(float((found.cost - found.exact_cost).squeeze())) < 4 * float(found.cost_error.squeeze())
    bimodal = studies.frontier("bimodal-1d", "ula", [0.8], mass=2.0, **given, **OPTIONS)
    np.testing.assert_array_less(abs(bimodal.signed_bias - bimodal.exact_signed), 4 * bimodal.signed_error)


def test_default_steps_are_those_of_the_other_coordinates():
    wide = uldnum.target("ill-conditioned")
    grid = StepGrid.of(BiasConfiguration(wide, ["ula"], mass="inverse-covariance"))
    plain = StepGrid.of(BiasConfiguration("gaussian", ["ula"]))
    np.testing.assert_allclose(grid.h, plain.h, rtol=1e-14)
    np.testing.assert_allclose(grid.frictions, plain.frictions, rtol=1e-14)
    user = uldnum.UserTarget(lambda x: -x * np.array([1.0, 0.25]), 2, standard_deviation=[1.0, 2.0])
    given = {"reference": np.random.default_rng(0).normal(size=(64, 2)), "mass": [1.0, 9.0]}
    np.testing.assert_allclose(StepGrid.of(BiasConfiguration(user, ["ula"], **given)).h, plain.h, rtol=1e-14)


def test_stability_is_that_of_the_other_coordinates():
    """ULA is stable up to h = 2 in the coordinates of unit variance, and up to 0.02 with unit mass."""
    given = {"chains": 8, "nfe": 4, "burn_in": 0, "exact": False, "backend": "array"}
    found = studies.bias("ill-conditioned", "ula", [0.5, 1.9], mass="inverse-covariance", **given, **OPTIONS)
    assert not found.unstable.any()
    with pytest.warns(UserWarning, match="no stationary distribution"):
        found = studies.bias("ill-conditioned", "ula", [1.9, 2.1], mass="inverse-covariance", **given, **OPTIONS)
    assert found.unstable.squeeze().values.tolist() == [False, True]


def test_stored_points_and_datasets_state_the_mass(tmp_path):
    points = [
        Exact(NORMAL, uldnum.integrator("ula"), 0.5, 1.0, 1e-4, True, mass=mass) for mass in (1.0, 2.0, (2.0, 2.0))
    ]
    assert len({point.key for point in points}) == 3
    options = OPTIONS | {"store": tmp_path / "points"}
    for mass, text in ((2.0, "with mass 2"), ([2.0, 3.0], "with a mass vector"), (MATRIX, "with a mass matrix")):
        found, again = (studies.exact_bias(NORMAL, "ula", [0.5], mass=mass, **options) for _ in range(2))
        xr.testing.assert_identical(found, again)
        found.to_netcdf(tmp_path / "study.nc")
        assert place_of(xr.load_dataset(tmp_path / "study.nc")) == f"{NORMAL.name} {text}"
    assert len(list((tmp_path / "points").iterdir())) == 3
    assert place_of(studies.exact_bias(NORMAL, "ula", [0.5], **OPTIONS)) == NORMAL.name


def test_the_shell_knows_the_mass(monkeypatch, capsys, tmp_path):
    def call(mass):
        arguments = f"bias --exact-only --target ill-conditioned --integrators OBABO --h 0.5 --friction 1 --mass {mass}"
        monkeypatch.setattr(sys, "argv", ["uldnum", *arguments.split(), "--out", str(tmp_path)])
        with pytest.raises(SystemExit) as end:
            app.main()
        return end.value.code

    assert not call("inverse-covariance")
    bias = xr.load_dataset(tmp_path / "bias.nc").exact.sel(metric="second_moment").squeeze()
    assert float(bias) == pytest.approx((1 / (1 - 0.5**2 / 4) - 1) / 2**0.5, rel=1e-9)
    assert not call(10000)
    assert "on ill-conditioned with mass 10000, in" in capsys.readouterr().out
    assert call("1,2,x")
    assert "mass: must be a number, numbers separated by commas, or inverse-covariance" in capsys.readouterr().err
    assert call("1,2,3")
    assert "mass: must be a number, a vector, a matrix" in capsys.readouterr().err


def test_refused_masses():
    user = uldnum.UserTarget(lambda x: -x, 2)
    samples = np.random.default_rng(0).normal(size=(64, 2))
    with pytest.raises(ValueError, match=r"^mass: the covariance of the target is not known"):
        studies.bias(user, "ula", [0.2], reference=samples, mass="inverse-covariance")
    with pytest.raises(ValueError, match=r"^score_noise: must be 0 if the mass is a matrix"):
        studies.exact_bias(NORMAL, "ula", [0.2], mass=[[1.0, 0.5], [0.5, 1.0]], score_noise=0.5)
    with pytest.raises(ValueError, match=r"^mass: must be positive"):
        studies.exact_bias(NORMAL, "ula", [0.2], mass=-1.0)


# --------------------------------------------------------------------------------------------- diagnostics, temperature


def test_the_temperature_changes_x_and_p_but_not_with_the_mass():
    """OBABO has the exact Var(p) = T M, and Var(x) -> T Sigma for any mass as h -> 0; entries within 4 errors."""
    options = {"h": 0.5, "friction": 1.0, "mass": MATRIX, "temperature": 3.0}
    law = exact.gaussian("OBABO", precision=PRECISION, **options)
    np.testing.assert_allclose(law.momentum_covariance, 3 * np.array(MATRIX), rtol=1e-13)
    small = exact.gaussian("OBABO", precision=PRECISION, **options | {"h": 1e-4})
    np.testing.assert_allclose(small.position_covariance, 3 * COVARIANCE, rtol=1e-8)
    options |= {"steps": 400, "burn_in": 50, "chains": 1000, "seed": 5, "backend": "array", "progress": False}
    run = uldnum.sample(NORMAL, "OBABO", **options)
    assert np.all(abs(run.covariance - law.position_covariance) < 4 * run.covariance_error)
    assert np.all(run.covariance_error < 0.2)
    v = law.momentum_covariance
    error = np.sqrt((v**2 + np.outer(np.diag(v), np.diag(v))) / 1000)
    assert np.all(abs(np.cov(run.p.T) - v) < 4 * error)
    bias = diagnostics.second_moment_bias(run, NORMAL)
    expected = abs(np.diag(law.position_bias) / np.diag(3 * COVARIANCE)).max() / 2**0.5
    assert abs(bias.value - expected) < 4 * bias.error + bias.floor

"""Kinetic temperatures of runs against exact answers, on the step and at the half step."""

import numpy as np
import pytest

import uldnum
from uldnum.diagnostics import kinetic_temperature
from uldnum.exact import gaussian, transfer_operator

GIVEN = {"chains": 100_000, "progress": False, "backend": "numba"}
BAOAB = uldnum.integrator("BAOAB")


def check(found, exact):
    """With 100,000 chains, an error of 2% is found; the false-fail rate of each comparison is 6e-5."""
    gap = np.abs(np.asarray(found.value) - exact)
    assert np.all(gap < 4 * found.error)
    assert np.all(found.error < 0.005 * exact)


@pytest.mark.parametrize(
    ("scheme", "exact"), [("BAOAB", 3 / 4), ("ABOBA", 4 / 3), ("OBABO", 1.0), (BAOAB.at_half_step(), 1.0)]
)
def test_on_a_gaussian(scheme, exact):
    assert gaussian(scheme, 1.0).kinetic_temperature == pytest.approx(exact, rel=1e-12)
    check(kinetic_temperature(uldnum.sample("gaussian", scheme, h=1.0, friction=1.0, steps=30, **GIVEN)), exact)


@pytest.mark.parametrize("scheme", ["BAOAB", "OBABO"])
def test_on_a_mixture(scheme):
    """On the mixture, the momenta of OBABO are too hot by 1%, and those of BAOAB too cold by 15%."""
    exact = transfer_operator(scheme, "bimodal-1d", 1.0, friction=1.0, tolerance=1e-4).phase_space.kinetic_temperature
    run = uldnum.sample("bimodal-1d", scheme, h=1.0, friction=1.0, steps=200, **GIVEN)
    check(kinetic_temperature(run), exact)


@pytest.mark.parametrize("mass", [4.0, [1.0, 4.0], [[2.0, 0.5], [0.5, 1.0]]])
def test_with_mass_temperature_and_several_steps(mass):
    precision, h = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([0.5, 0.9])
    target = uldnum.GaussianMixture([1.0], [[0.0, 0.0]], covariances=[np.linalg.inv(precision)])
    run = uldnum.sample(
        target, "UBU", h=h, friction=1.0, steps=60, mass=mass, temperature=2.0, **GIVEN | {"chains": 50_000}
    )
    check(
        kinetic_temperature(run),
        gaussian("UBU", h, precision=precision, mass=mass, temperature=2.0).kinetic_temperature,
    )


@pytest.mark.filterwarnings("ignore:.* diverged")
def test_runs_without_a_temperature():
    with pytest.raises(ValueError, match="run: must be one of an integrator with momenta, got 'baoab-limit'"):
        kinetic_temperature(uldnum.sample("gaussian", "baoab-limit", h=0.5, steps=2, chains=4, backend="array"))
    with pytest.raises(ValueError, match="run: must be a Run"):
        kinetic_temperature("run")
    one = kinetic_temperature(uldnum.sample("gaussian", "BAOAB", h=0.5, steps=2, chains=1, backend="array"))
    assert np.isfinite(one.value)
    assert np.isnan(one.error)
    run = uldnum.sample("gaussian", "BAOAB", h=[0.5, 3.0], steps=2000, chains=4, backend="array")
    assert np.isnan(kinetic_temperature(run)).tolist() == [[False, True]] * 2

"""Moments of momenta and kinetic temperatures of runs against exact answers, on the step and at the half step."""

import numpy as np
import pytest

import uldnum
from uldnum.diagnostics import kinetic_temperature
from uldnum.exact import gaussian, transfer_operator
from uldnum.targets.mass import Mass

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


# -------------------------------------------------------------------------------------------------- recorded momenta

VARIANCE, COVARIANCE = "phase-space-variance", "phase-space-covariance"
MASSES = {"unit": 1.0, "vector": [0.5, 2.0, 3.0], "matrix": [[2.0, 0.5, 0.1], [0.5, 1.0, 0.0], [0.1, 0.0, 1.5]]}
STATISTICS = ("momentum_mean", "momentum_covariance", "position_momentum_covariance", "kinetic_temperature")


def states(target, scheme, steps, **options):
    """Return x and p at the end of each step, of runs of 1, 2, ... steps; shape (steps, 2, chains, d)."""
    runs = [uldnum.sample(target, scheme, steps=n + 1, **options) for n in range(steps)]
    return np.array([(run.x, run.p) for run in runs])


@pytest.mark.parametrize("mass", MASSES.values(), ids=list(MASSES))
@pytest.mark.parametrize(
    ("scheme", "backend"),
    [("BAOAB", "numba"), ("OBABO", "array"), ("UBU", "numba"), ("UBU", "array"), ("O {BAB} O", "array")],
)
def test_moments_are_those_of_every_second_step(scheme, mass, backend):
    target = uldnum.GaussianMixture([0.5, 0.5], [[0.0, 1.0, 0.0], [1.0, 0.0, 2.0]], [1.0, 0.7])
    given = {"h": 0.4, "chains": 7, "seed": 3, "mass": mass, "backend": backend, "progress": False}
    x, p = states(target, scheme, 7, **given)[2::2].swapaxes(0, 1)
    given |= {"steps": 5, "burn_in": 2, "record_every": 2, "thin": 1, "bins": 4}
    run, own, old = (
        uldnum.sample(target, scheme, record=name, **given) for name in (COVARIANCE, VARIANCE, "covariance")
    )
    z = np.concatenate([x, p], axis=-1)
    full = np.cov(z.reshape(-1, 6).T, bias=True)
    np.testing.assert_allclose(run.momentum_mean, p.mean(axis=(0, 1)), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(run.momentum_covariance, full[3:, 3:], rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(run.position_momentum_covariance, full[:3, 3:], rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(run.momentum_variance, np.diag(full)[3:], rtol=1e-11)
    inverse = np.linalg.inv(mass * np.eye(3) if np.ndim(mass) < 2 else mass)
    each = np.einsum("scj,jk,sck->c", p, inverse, p) / 9
    for found in (run, own):
        np.testing.assert_allclose(found.kinetic_temperature, each.mean(), rtol=1e-11)
        np.testing.assert_allclose(found.kinetic_temperature_error, each.std(ddof=1) / 7**0.5, rtol=1e-11)
        np.testing.assert_allclose(found.momentum_mean_error, p.mean(axis=0).std(axis=0, ddof=1) / 7**0.5, rtol=1e-11)
        assert kinetic_temperature(found) == (found.kinetic_temperature, found.kinetic_temperature_error)
    # What the chains do, and the moments of x, do not depend on what is recorded.
    np.testing.assert_array_equal(run.covariance, old.covariance)
    np.testing.assert_array_equal(own.variance, old.variance)
    for name in ("u", "phase_space", "counts", "nfe"):
        np.testing.assert_array_equal(getattr(run.state, name), getattr(old.state, name))
    np.testing.assert_array_equal(run.trace, old.trace)
    if np.ndim(mass) < 2:
        np.testing.assert_allclose(own.momentum_variance, run.momentum_variance, rtol=1e-13)
        np.testing.assert_allclose(own.momentum_variance_error, run.momentum_variance_error, rtol=1e-11)
    else:
        with pytest.raises(ValueError, match="no second moments; pass record='phase-space-covariance' to sample"):
            _ = own.momentum_variance
    with pytest.raises(ValueError, match="no covariance; pass record='phase-space-covariance' to sample"):
        _ = own.momentum_covariance


def test_errors_with_a_matrix_are_those_of_chains():
    """The error of a linear statistic of chains with known centre is the deviation between chains."""
    given = {"h": 0.4, "steps": 6, "chains": 9, "mass": MASSES["matrix"], "backend": "array", "progress": False}
    target = uldnum.GaussianMixture([1.0], [np.zeros(3)], [1.0])
    run, mass = uldnum.sample(target, "BAOAB", record=COVARIANCE, **given), Mass.of(MASSES["matrix"], (3,))
    q = run.accumulated
    second = mass.momenta(mass.momenta(q.matrix(q.second)[..., 3:, 3:]).swapaxes(-1, -2))
    first = mass.momenta(q.first[..., 3:])
    m = first.mean(axis=0)
    influence = second - m[:, None] * first[:, None, :] - first[..., None] * m
    expected = influence.std(axis=0, ddof=1) / 3
    np.testing.assert_allclose(run.momentum_covariance_error, expected, rtol=1e-11)
    np.testing.assert_allclose(run.momentum_variance_error, np.diag(expected), rtol=1e-11)


@pytest.mark.parametrize("friction", [0.3, 3.0])
@pytest.mark.parametrize(
    ("scheme", "exact"),
    [("BAOAB", 3 / 4), ("ABOBA", 4 / 3), ("OBABO", 1.0), (BAOAB.at_half_step(), 1.0), ("O {BAB} O", 1.0)],
)
def test_averages_over_steps_on_a_gaussian(scheme, exact, friction):
    """An error of 2% is found; the false-fail rate of each comparison is 6e-5."""
    given = GIVEN | {"chains": 4000, "h": 1.0, "friction": friction, "steps": 150, "burn_in": 40}
    run = uldnum.sample("gaussian", scheme, record=COVARIANCE, **given)
    check(kinetic_temperature(run), exact)
    assert np.abs(run.momentum_covariance[0, 0] - exact) < 4 * run.momentum_covariance_error[0, 0]


@pytest.mark.parametrize("mass", [[0.5, 2.0, 3.0], MASSES["matrix"]], ids=["vector", "matrix"])
@pytest.mark.parametrize("scheme", ["UBU", BAOAB.at_half_step()])
def test_the_whole_covariance_in_three_dimensions(scheme, mass):
    """The false-fail rate of all 24 entries is 1.5e-3; an error of 0.02 of an entry is found."""
    precision = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 1.5]])
    target = uldnum.GaussianMixture([1.0], [[1.0, 0.0, -2.0]], covariances=[np.linalg.inv(precision)])
    given = GIVEN | {"chains": 8000, "h": 0.7, "steps": 100, "burn_in": 40, "record_every": 1}
    run = uldnum.sample(target, scheme, mass=mass, temperature=1.5, record=COVARIANCE, **given)
    law = gaussian(scheme, 0.7, precision=precision, mass=mass, temperature=1.5)
    exact = {"momentum_covariance": law.momentum_covariance}
    exact |= {"position_momentum_covariance": law.cross_covariance}
    for name, known in exact.items():
        error = getattr(run, f"{name}_error")
        assert np.all(np.abs(getattr(run, name) - known) < 4 * error)
        assert error.max() < 0.02


@pytest.mark.parametrize("scheme", ["BAOAB", "OBABO", BAOAB.at_half_step()])
def test_joint_moments_on_a_mixture(scheme):
    """Var(p) and E[x p] of the joint transfer operator, to 4 standard errors (false-fail rate 6e-5 each)."""
    law = transfer_operator(scheme, "bimodal-1d", 1.0, friction=1.0, tolerance=1e-5).phase_space
    given = GIVEN | {"chains": 4000, "h": 1.0, "friction": 1.0, "steps": 400, "burn_in": 20, "record": COVARIANCE}
    run = uldnum.sample("bimodal-1d", scheme, **given)
    product = law.expectation(lambda x, p: x * p) - law.expectation(lambda x, p: x) * law.expectation(lambda x, p: p)
    for name, exact in (("momentum_covariance", law.momentum_variance), ("position_momentum_covariance", product)):
        error = getattr(run, f"{name}_error").item()
        assert abs(getattr(run, name).item() - exact) < 4 * error + 1e-5
        assert error < 0.005


@pytest.mark.parametrize("record", [VARIANCE, COVARIANCE])
@pytest.mark.parametrize("backend", ["numba", "array"])
def test_resumed_and_stored_runs_have_the_same_bits(record, backend, tmp_path):
    given = {"h": [0.4, 0.6], "chains": 30, "record": record, "backend": backend, "progress": False, "burn_in": 3}
    whole = uldnum.sample("ring-8", "OBABO", steps=11, **given)
    uldnum.sample("ring-8", "OBABO", steps=4, **given).save(tmp_path / "run.nc")
    run = uldnum.sample("ring-8", "OBABO", steps=11, resume=tmp_path / "run.nc", **given)
    second = uldnum.sample("ring-8", "OBABO", steps=11, **given | {"first_chain": 10, "chains": 20})
    for name in ("u", "phase_space", "sums", "products"):
        np.testing.assert_array_equal(getattr(run.state, name), getattr(whole.state, name))
        part = getattr(whole.state, name)[:, 10:] if name in ("sums", "products") else None
        if part is not None:
            np.testing.assert_array_equal(second.state.sums if name == "sums" else second.state.products, part)
    run.save(tmp_path / "whole.nc")
    data, loaded = run.to_xarray(), uldnum.Run.load(tmp_path / "whole.nc")
    names = [name for name in (*STATISTICS, "momentum_variance") if name in data]
    assert "position_momentum_covariance" in names or record == VARIANCE
    for name in names:
        for of in (name, f"{name}_error"):
            np.testing.assert_array_equal(data[of], getattr(whole, of))
            np.testing.assert_array_equal(getattr(loaded, of), getattr(whole, of))
    assert data["kinetic_temperature"].dims == ("h",)
    assert data["momentum_mean"].dims == ("h", "dim")
    assert "kinetic temperature" in repr(run)
    with pytest.raises(ValueError, match=f"record is 'covariance', was '{record}'"):
        uldnum.sample("ring-8", "OBABO", steps=11, resume=loaded, **given | {"record": "covariance"})


@pytest.mark.parametrize("record", [VARIANCE, COVARIANCE])
def test_arrays_of_another_library_record_the_same(record):
    torch = pytest.importorskip("torch")
    given = {"h": 0.5, "steps": 5, "chains": 4, "record": record, "x0": "normal", "seed": 2, "progress": False}
    plain, other = (
        uldnum.sample(uldnum.UserTarget(lambda x: -x, 3, standard_deviation=np.ones(3), like=like), "OBABO", **given)
        for like in (None, torch.zeros(1, dtype=torch.float64))
    )
    np.testing.assert_allclose(other.state.sums, plain.state.sums, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(other.state.products, plain.state.products, rtol=1e-12, atol=1e-13)


@pytest.mark.filterwarnings("ignore:.* diverged")
def test_runs_of_diverged_chains_have_no_temperature():
    run = uldnum.sample("gaussian", "BAOAB", h=[0.5, 3.0], steps=2000, chains=4, backend="array", record=VARIANCE)
    assert (
        np.isnan(run.kinetic_temperature).tolist() == np.isnan(kinetic_temperature(run).error).tolist() == [False, True]
    )


@pytest.mark.parametrize(
    ("scheme", "what"),
    [
        ("ula", "'ula', whose state holds positions only"),
        ("mild(0.5)", "'mild.0.5.', whose second row holds no momenta"),
    ],
)
def test_schemes_without_momenta_do_not_record_them(scheme, what):
    with pytest.raises(
        ValueError, match=f"record: 'phase-space-variance' needs an integrator with momenta, got {what}"
    ):
        uldnum.sample("gaussian", scheme, h=0.1, steps=2, chains=4, record=VARIANCE)
    run = uldnum.sample("gaussian", "BAOAB", h=0.1, steps=2, chains=4, backend="array")
    assert not any(hasattr(run, name) for name in (*STATISTICS, "momentum_variance", "kinetic_temperature_error"))
    with pytest.raises(ValueError, match="the run has no momenta: ula has none"):
        _ = uldnum.sample("gaussian", "ula", h=0.1, steps=2, chains=4, backend="array").kinetic_temperature
    with pytest.raises(ValueError, match="recorded no momenta; pass record='phase-space-variance' to sample"):
        _ = run.kinetic_temperature


# -------------------------------------------------------------------------------------------------------- in studies


@pytest.mark.parametrize("target", ["gaussian", "bimodal-1d"])
def test_a_study_measures_the_error_of_the_temperature(target):
    """Sampled and exact errors agree to 4 standard errors (false-fail rate 6e-5 each), at two temperatures.

    An error of 0.01 of the temperature is found.
    """
    schemes = ["BAOAB", "ABOBA", "ula", "ghmc"]
    given = {"nfe": 1500, "burn_in": 150, "chains": 256, "exact": True, "progress": False}
    for temperature in (1.0, 2.0) if target == "gaussian" else (1.0,):
        found = uldnum.studies.bias(
            target, schemes[: 3 if temperature > 1 else 4], [1.0], temperature=temperature, **given
        )
        one = found.sel(metric="kinetic_temperature", h=1.0)
        none = one.sel(integrator="ula")
        assert np.isnan([none.bias, none.error, none.floor, none.exact]).all()
        wrong = one.sel(integrator=["BAOAB", "ABOBA"])
        np.testing.assert_allclose(wrong.bias, wrong.exact, rtol=0, atol=0.01)
        assert np.all(np.abs(wrong.bias - wrong.exact) < 4 * wrong.error)
        assert wrong.resolved.all()
        if target == "gaussian":
            np.testing.assert_allclose(wrong.exact, [1 / 4, 1 / 3], rtol=1e-12)
        if temperature == 1:
            metropolised = one.sel(integrator="ghmc")
            assert metropolised.exact == 0
            assert metropolised.bias < 4 * metropolised.floor


def test_a_study_without_momenta_has_no_temperature():
    for study in (
        uldnum.studies.bias("gaussian", ["ula", "mild(0.5)"], [0.5], nfe=50, burn_in=5, chains=8, backend="array"),
        uldnum.studies.exact_bias("gaussian", ["ula", "mild(0.5)"], [0.5]),
    ):
        assert "kinetic_temperature" not in study.metric
        assert "virial" in study.metric


def test_exact_errors_of_temperatures():
    """On a Gaussian with a mass matrix, also at the half step and for a scheme of three rows."""
    target = uldnum.GaussianMixture([1.0], [[0.0, 1.0]], covariances=[[[1.0, 0.3], [0.3, 2.0]]])
    precision, mass = np.linalg.inv([[1.0, 0.3], [0.3, 2.0]]), [[2.0, 0.5], [0.5, 1.0]]
    schemes = ["OABAO", BAOAB.at_half_step(), "ABOBA", "QUICSORT"]
    found = uldnum.studies.exact_bias(target, schemes, [0.8], mass=mass, friction=1.0)
    known = [gaussian(scheme, 0.8, precision=precision, mass=mass).kinetic_temperature - 1 for scheme in schemes]
    np.testing.assert_allclose(found.exact.sel(metric="kinetic_temperature", h=0.8), np.abs(known), atol=1e-13)

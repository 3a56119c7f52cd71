"""A mass is a change of coordinates: chains run with unit mass in y = F^-1 x, and all results are those of x."""

import os
import signal
from functools import partial
from types import SimpleNamespace

import numba
import numpy as np
import pytest
import xarray as xr

import uldnum
from uldnum.sampling._sample import estimated_mass
from uldnum.targets.mass import Mass

# A matrix whose eigenvectors are rotated against the axes, and a mixture with full covariances.
MATRIX = np.array([[2.0, 0.5], [0.5, 1.0]])
FULL = uldnum.GaussianMixture(
    [0.3, 0.7], [[0.5, -0.3], [1.0, 2.0]], covariances=[[[2.0, 0.7], [0.7, 1.0]], [[1.0, -0.2], [-0.2, 0.5]]]
)
DIAGONAL = uldnum.GaussianMixture([0.25, 0.75], [[0.5, -0.3], [1.0, 2.0]], [[1.0, 0.3], [0.7, 2.0]])
OPTIONS = {"h": 0.3, "steps": 20, "chains": 12, "seed": 3, "thin": 5, "progress": False}


def correlated(x):
    """The score of N(0, Sigma) with the precision [[1, .4], [.4, .8]], as an array function."""
    return -x @ np.array([[1.0, 0.4], [0.4, 0.8]], x.dtype)


@numba.njit
def compiled_correlated(x, out, a):
    out[0] = -x[0] - a * x[1]
    out[1] = -a * x[0] - 0.8 * x[1]


@numba.njit
def branching(x, out, a):
    """The same score, with a branch that does not run on vectors."""
    if x[0] > 100:
        out[0] = np.nan
    out[0] = -x[0] - a * x[1]
    out[1] = -a * x[0] - 0.8 * x[1]


def start(chains, seed, first):
    return uldnum.target("ring-8").sample(chains, seed, first)


KINDS = {
    "array": uldnum.UserTarget(correlated, 2, standard_deviation=[1.2, 1.3]),
    "compiled": uldnum.UserTarget(compiled_correlated, 2, standard_deviation=[1.2, 1.3], args=(0.4,)),
    "chain by chain": uldnum.UserTarget(branching, 2, standard_deviation=[1.2, 1.3], args=(0.4,)),
}


def in_user_axes(mass, run):
    """Return the results in the axes of x of a run in the coordinates y."""
    F, mean = mass.outward, mass.outward(run.mean)
    covariance = F(F(run.covariance).swapaxes(-1, -2))
    return F(run.x), mass.momenta(run.p), F(run.trace), mean, covariance


def results(run):
    return run.x, run.p, run.trace, run.mean, run.covariance


# ------------------------------------------------------------------------------------------------ change of coordinates


@pytest.mark.parametrize("mass", [3.0, [0.5, 7.0], MATRIX.tolist()], ids=["number", "vector", "matrix"])
def test_factor(mass):
    found = Mass.of(mass, (2,))
    F = np.diag(found.factor[:, 0]) if found.factor.shape[1] == 1 else found.factor
    M = np.diag(np.broadcast_to(mass, 2)) if np.ndim(mass) < 2 else np.array(mass)
    np.testing.assert_allclose(F @ F.T @ M, np.eye(2), atol=1e-15)
    x = np.random.default_rng(0).normal(size=(3, 2))
    np.testing.assert_allclose(found.outward(found.inward(x)), x, atol=1e-15)
    np.testing.assert_allclose(found.forces(found.momenta(x)), x, atol=1e-15)
    np.testing.assert_allclose(found.momenta(x) @ F, x, atol=1e-15)
    assert not np.triu(F, 1).any()


@pytest.mark.parametrize("target", [FULL, DIAGONAL, *KINDS.values()], ids=["full", "diagonal", *KINDS])
@pytest.mark.parametrize("mass", [3.0, [0.5, 7.0], MATRIX.tolist()], ids=["number", "vector", "matrix"])
def test_scores_are_transformed(target, mass):
    mass = Mass.of(mass, (2,))
    x = np.random.default_rng(0).normal(size=(5, 2))
    score = target.transformed(mass).score(mass.inward(x))
    np.testing.assert_allclose(score, mass.forces(target.score(x)), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("backend", ["numba", "array"])
@pytest.mark.parametrize("scheme", ["BAOAB", "UBU", "ula"])
@pytest.mark.parametrize("mass", [4.0, [0.25, 16.0], [[4.0, 0.0], [0.0, 0.25]]], ids=["number", "vector", "matrix"])
def test_powers_of_four_change_no_bit(mass, scheme, backend):
    """Every number of the run equals that of a run on the scaled mixture, times a power of two."""
    own = Mass.of(mass, (2,))
    scales = np.diag(own.factor) if own.factor.shape[1] > 1 else own.factor[:, 0]
    given = DIAGONAL.weights, DIAGONAL.means / scales
    scaled = (
        uldnum.GaussianMixture(*given, DIAGONAL.variances / scales**2)
        if np.ndim(mass) < 2
        else uldnum.GaussianMixture(*given, covariances=[np.diag(v / scales**2) for v in DIAGONAL.variances])
    )
    options = OPTIONS | {"backend": backend}
    run = uldnum.sample(DIAGONAL, scheme, mass=mass, bins=16, **options)
    other = uldnum.sample(scaled, scheme, x0=DIAGONAL.sample(12, 3) / scales, bins=16, **options)
    np.testing.assert_array_equal(run.x, other.x * scales)
    np.testing.assert_array_equal(run.trace, other.trace * scales)
    np.testing.assert_array_equal(run.trace[-1], run.x)
    if run.settings.momenta:
        np.testing.assert_array_equal(run.p, other.p / scales)
    # The means of the mixtures, about which moments are accumulated, differ by rounding.
    np.testing.assert_allclose(run.covariance, other.covariance * np.outer(scales, scales), rtol=1e-13)
    np.testing.assert_array_equal(run.histogram, other.histogram)
    assert run.nfe == other.nfe


@pytest.mark.parametrize("backend", ["numba", "array"])
def test_a_matrix_is_a_rotated_run(backend):
    """With a rotated matrix, results are those of the run in y, mapped to x; histograms count F y."""
    mass, options = Mass.of(MATRIX, (2,)), OPTIONS | {"backend": backend, "steps": 40, "thin": 1, "record_every": 4}
    run = uldnum.sample(FULL, "BAOAB", mass=MATRIX, bins=16, **options)
    inner = FULL.transformed(mass)
    other = uldnum.sample(inner, "BAOAB", x0=mass.inward(FULL.sample(12, 3)), **options)
    for found, known in zip(results(run), in_user_axes(mass, other), strict=True):
        np.testing.assert_allclose(found, known, rtol=1e-12, atol=1e-12)
    counted = run.trace[::4].reshape(-1, 2)
    np.testing.assert_array_equal(run.histogram.sum(axis=0)[0, 1:-1], np.histogram(counted[:, 0], run.edges[0])[0])
    np.testing.assert_array_equal(run.histogram.sum(axis=0)[1, 1:-1], np.histogram(counted[:, 1], run.edges[1])[0])
    np.testing.assert_allclose(run.covariance, np.cov(counted.T, ddof=0), rtol=1e-12)
    np.testing.assert_array_equal(run.trace[-1], run.x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_scores_of_users(kind, dtype):
    """They agree with the mixture of the same score, on every executor; rounding grows over 20 steps."""
    known = uldnum.GaussianMixture([1.0], [[0.0, 0.0]], covariances=[np.linalg.inv([[1.0, 0.4], [0.4, 0.8]])])
    options = OPTIONS | {"x0": start, "mass": MATRIX, "dtype": dtype}
    found, expected = (uldnum.sample(target, "BAOAB", **options) for target in (KINDS[kind], known))
    assert (found.info.get("score", "on vectors") == "on vectors") == (kind != "chain by chain")
    for a, b in zip(results(found), results(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12 if dtype == "float64" else 1e-4)


def test_arrays_of_other_libraries():
    torch = pytest.importorskip("torch")
    pytest.importorskip("array_api_compat")
    matrix = torch.tensor([[1.0, 0.4], [0.4, 0.8]], dtype=torch.float64)
    target = uldnum.UserTarget(lambda x: -x @ matrix.to(x.dtype), 2, like=matrix, standard_deviation=[1.2, 1.3])
    for mass in (4.0, MATRIX):
        runs = [uldnum.sample(one, "UBU", x0=start, mass=mass, **OPTIONS) for one in (target, KINDS["array"])]
        for a, b in zip(*map(results, runs), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-13)


def test_a_number_is_another_step_size_and_friction():
    """Mass m equals unit mass with h/sqrt(m) and sqrt(m) friction, with momenta times sqrt(m)."""
    run = uldnum.sample("ring-8", "BAOAB", mass=4.0, friction=1.5, score_noise=0.5, **OPTIONS)
    other = uldnum.sample("ring-8", "BAOAB", friction=3.0, score_noise=0.5, **OPTIONS | {"h": 0.15})
    np.testing.assert_allclose(run.trace, other.trace, atol=1e-12)
    np.testing.assert_allclose(run.p, 2 * other.p, atol=1e-12)


# ----------------------------------------------------------------------------------------- starts, resuming and storage


def test_unit_mass_is_the_default():
    plain, one = (uldnum.sample("ring-8", "BAOAB", mass=mass, **OPTIONS) for mass in (None, 1))
    np.testing.assert_array_equal(plain.x, one.x)
    assert plain.settings == one.settings
    assert plain.settings.mass == 1.0


def test_momenta_have_the_covariance_of_the_mass():
    """In 20000 draws, the standard error of each entry is at most 2%; the test allows five (false-fail below 1e-5)."""
    run = uldnum.sample(FULL, "BAOAB", mass=MATRIX, **OPTIONS | {"h": 1e-9, "steps": 1, "thin": None, "chains": 20000})
    np.testing.assert_allclose(np.cov(run.p.T), MATRIX, atol=0.1)
    np.testing.assert_allclose(run.x, FULL.sample(20000, 3), atol=1e-7)


def test_continued_runs_keep_positions_and_momenta():
    """A run can continue another one with another mass: positions and momenta are those of x."""
    first = uldnum.sample(FULL, "BAOAB", mass=MATRIX, **OPTIONS)
    options = OPTIONS | {"h": 1e-9, "steps": 1, "seed": None, "thin": None}
    for mass in (None, [2.0, 3.0], MATRIX):
        again = uldnum.sample(FULL, "BAOAB", x0=first, mass=mass, friction=1e-9, **options)
        np.testing.assert_allclose(again.x, first.x, atol=1e-7)
        np.testing.assert_allclose(again.p, first.p, atol=1e-7)


@pytest.mark.parametrize("mass", [[0.5, 3.0], MATRIX.tolist()], ids=["vector", "matrix"])
def test_resumed_runs_keep_their_bits(mass, tmp_path):
    options = OPTIONS | {"mass": mass, "bins": 8}
    whole, part = (uldnum.sample(FULL, "UBU", **options | {"steps": n}) for n in (20, 7))
    part.save(tmp_path / "part.nc")
    resumed = uldnum.sample(FULL, "UBU", resume=tmp_path / "part.nc", **options)
    for a, b in zip(results(resumed), results(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(resumed.histogram, whole.histogram)
    complete = uldnum.sample(FULL, "UBU", resume=whole, **options)  # takes no step
    np.testing.assert_array_equal(complete.p, whole.p)
    loaded = uldnum.Run.load(tmp_path / "part.nc")
    np.testing.assert_array_equal(loaded.p, part.p)
    assert np.array_equal(loaded.settings.mass, mass)
    assert xr.open_dataset(tmp_path / "part.nc").mass == str(mass)
    assert f"with a mass {'vector' if np.ndim(mass) == 1 else 'matrix'} on mixture" in str(loaded)
    with pytest.raises(ValueError, match="the masses differ"):
        uldnum.sample(FULL, "UBU", resume=part, **options | {"mass": None})


def test_a_run_that_was_stopped_before_its_first_step_holds_its_start(monkeypatch):
    monkeypatch.setattr("uldnum.sampling.launch.take_steps", lambda *_: [])
    with pytest.warns(UserWarning, match="stopped after 0"):
        stopped = uldnum.sample(FULL, "BAOAB", mass=MATRIX, **OPTIONS)
    monkeypatch.undo()
    np.testing.assert_array_equal(stopped.x, FULL.sample(12, 3))
    resumed, whole = (uldnum.sample(FULL, "BAOAB", mass=MATRIX, resume=run, **OPTIONS) for run in (stopped, None))
    np.testing.assert_array_equal(resumed.x, whole.x)


# -------------------------------------------------------------------------------------------------- divergence bounds


def test_divergence_bounds():
    """They are those of x if M is diagonal, else 1000 standard deviations of y, or an upper bound of these."""
    mean, deviation = FULL.mean, FULL.standard_deviation
    mass = Mass.of([0.5, 3.0], (2,))
    centre, scale = mass.scale(FULL)
    np.testing.assert_allclose(mass.outward(centre + 1e3 * scale), mean + 1e3 * deviation, rtol=1e-14)
    mass = Mass.of(MATRIX, (2,))
    centre, scale = mass.scale(FULL)
    inner = FULL.transformed(mass)
    np.testing.assert_allclose(centre, inner.mean, rtol=1e-13)
    np.testing.assert_allclose(scale, inner.standard_deviation, rtol=1e-13)
    _, bound = mass.scale(uldnum.UserTarget(correlated, 2, mean=mean, standard_deviation=deviation))
    np.testing.assert_allclose(bound, np.abs(np.linalg.inv(mass.factor)) @ deviation, rtol=1e-13)
    assert np.all(bound >= scale)


def test_chains_beyond_the_bounds_diverge():
    with pytest.warns(UserWarning, match="diverged"):
        run = uldnum.sample(FULL, "BAOAB", mass=MATRIX, **OPTIONS | {"h": 20.0, "thin": None})
    assert run.diverged == 12
    line = uldnum.GaussianMixture([1.0], [[0.0, 0.0]], covariances=[[[1.0, 0.9999], [0.9999, 1.0]]])
    far = np.tile([900.0, -900.0], (12, 1))
    with pytest.raises(
        ValueError, match=r"^x0: must be within 1000 standard deviations .* coordinates in which the mass"
    ):
        uldnum.sample(line, "BAOAB", x0=far, mass="inverse-covariance", **OPTIONS)


# -------------------------------------------------------------------------------------------------- inverse covariance


def test_inverse_covariance_of_a_known_target():
    run = uldnum.sample(FULL, "BAOAB", mass="inverse-covariance", **OPTIONS)
    np.testing.assert_allclose(run.settings.mass, np.linalg.inv(FULL.covariance), rtol=1e-12)
    wide = uldnum.sample("ill-conditioned", "BAOAB", mass="inverse-covariance", **OPTIONS)
    np.testing.assert_allclose(wide.settings.mass, 1 / uldnum.target("ill-conditioned").variances[0], rtol=1e-15)
    well = uldnum.target("double-well")
    one = uldnum.sample(well, "BAOAB", mass="inverse-covariance", **OPTIONS)
    np.testing.assert_allclose(one.settings.mass, 1 / well.standard_deviation**2, rtol=1e-12)


def test_inverse_covariance_is_estimated_in_the_burn_in(tmp_path):
    """The covariance of 64 chains and 250 steps has errors below 5%; the test allows 30%."""
    target = KINDS["array"]
    options = OPTIONS | {"mass": "inverse-covariance", "burn_in": 1000, "chains": 64, "x0": "normal", "h": 0.7}
    run = uldnum.sample(target, "BAOAB", **options)
    np.testing.assert_allclose(run.settings.mass, [[1.0, 0.4], [0.4, 0.8]], rtol=0.3)
    pilot = uldnum.sample(
        target, "BAOAB", h=0.7, steps=250, burn_in=250, chains=64, seed=3, x0="normal", record_every=1, progress=False
    )  # fmt: skip
    np.testing.assert_allclose(run.settings.mass, np.linalg.inv(pilot.covariance), rtol=1e-12)
    assert run.nfe == 1000 + 20 + 2
    assert run.settings.burn_in == 500
    rest = uldnum.sample(
        target, "BAOAB", h=0.7, steps=20, burn_in=500, x0=pilot, mass=run.settings.mass, thin=5, progress=False
    )  # fmt: skip
    np.testing.assert_array_equal(rest.trace, run.trace)
    part = uldnum.sample(target, "BAOAB", **options | {"steps": 8})
    part.save(tmp_path / "part.nc")
    resumed = uldnum.sample(target, "BAOAB", resume=tmp_path / "part.nc", **options)
    np.testing.assert_array_equal(resumed.trace, run.trace)
    assert resumed.settings == run.settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"burn_in": 0}, "^burn_in: an estimate of the mass needs at least 10 states for each of 2 dimensions"),
        ({"h": [0.1, 0.2]}, "^h: must be a number if the mass is estimated"),
        ({"h": 30.0}, "^h: chains diverged with unit mass"),
        ({"score_noise": 0.5}, "^score_noise: must be 0 if the mass is a matrix"),
    ],
)
def test_refused_estimates(changes, message):
    options = OPTIONS | {"mass": "inverse-covariance", "burn_in": 100, "x0": "normal"}
    with pytest.raises(ValueError, match=message):
        uldnum.sample(KINDS["array"], "BAOAB", **options | changes)


def test_an_interrupt_of_an_estimate_leaves_no_run():
    """The run that is stopped is not one that can be resumed, so there is no warning that offers this."""

    calls = []

    def interrupted(x):
        calls.append(len(x))
        if calls.count(12) == 1:  # the second Ctrl-C would end the call at once
            os.kill(os.getpid(), signal.SIGINT)
        return -x

    options = OPTIONS | {"mass": "inverse-covariance", "burn_in": 100, "x0": "normal"}
    with pytest.raises(KeyboardInterrupt):
        uldnum.sample(uldnum.UserTarget(interrupted, 2), "ula", **options)


def test_an_estimate_that_is_not_positive_definite_is_refused():
    settings = SimpleNamespace(temperature=1.0)
    pilot = SimpleNamespace(diverged=0, settings=settings, covariance=np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"^burn_in: the estimate of the covariance is not positive definite"):
        estimated_mass(pilot)


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("mass", "message"),
    [
        (0.0, "must be positive"),
        (-1.0, "must be positive"),
        (np.nan, "must be finite"),
        ([1.0, np.inf], "must be finite"),
        ([1.0, -2.0], "must be positive"),
        ([1.0, 2.0, 3.0], r"of shape \(2,\) or \(2, 2\), got shape \(3,\)"),
        ([[1.0, 0.5], [0.0, 1.0]], "the matrix must be symmetric"),
        ([[1.0, 2.0], [2.0, 1.0]], "the matrix must be positive definite, got a smallest eigenvalue of -1"),
        ([[1.0, 1.0], [1.0, 1.0]], "the matrix must be positive definite"),
        ("covariance", 'must be a number, a vector, a matrix or "inverse-covariance", got'),
        (object(), "must be a number"),
    ],
)
def test_refused_masses(mass, message):
    with pytest.raises(ValueError, match=f"^mass: .*{message}"):
        uldnum.sample(FULL, "BAOAB", mass=mass, **OPTIONS)


def test_images_have_no_mass():
    level = uldnum.targets.DataMixture(np.zeros((1, 1, 2, 2))).noised(1.0, 0.5)
    for mass in (2.0, "inverse-covariance"):
        with pytest.raises(ValueError, match=r"^mass: needs samples of shape \(d,\), .* step size h/sqrt\(m\)"):
            uldnum.sample(level, "BAOAB", mass=mass, **OPTIONS)


def test_large_matrices_are_refused():
    wide = uldnum.UserTarget(lambda x: -x, 513)
    sample = partial(uldnum.sample, wide, "BAOAB", x0="normal", **OPTIONS)
    for mass in ("inverse-covariance", np.eye(513)):
        with pytest.raises(ValueError, match=r"^mass: a matrix .* at most 512 dimensions, got 513; pass a vector"):
            sample(mass=mass)


def test_noise_of_the_score_needs_a_diagonal_mass():
    """One coordinate has one mass in every form, and the error of the score is that of the number."""
    well = uldnum.target("double-well")
    number, *others = (
        uldnum.sample(well, "BAOAB", mass=mass, score_noise=0.5, **OPTIONS | {"h": 0.1, "backend": "array"})
        for mass in (4.0, [4.0], [[4.0]])
    )
    for run in others:
        np.testing.assert_allclose(run.trace, number.trace, rtol=1e-12)
    with pytest.raises(ValueError, match=r"^score_noise: must be 0 if the mass is a matrix"):
        uldnum.sample(FULL, "BAOAB", mass=MATRIX, score_noise=0.5, **OPTIONS)

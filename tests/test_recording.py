"""What a run records, at every how many steps, and what that costs."""

import time

import numpy as np
import pytest

import uldnum
from uldnum.kernels.arrays.executor import ArrayExecutor
from uldnum.kernels.numba.drawing import chain_normals
from uldnum.kernels.source.core import DYNAMICS, lay_out
from uldnum.kernels.state import State
from uldnum.sampling._sample import one_phase
from uldnum.sampling.launch import recorded_moments, recording_of
from uldnum.sampling.moments import Moments

OPTIONS = {"h": 0.5, "chains": 70, "first_chain": 3, "seed": 5, "progress": False}


def mixture(d):
    rng = np.random.default_rng(d)
    return uldnum.GaussianMixture([0.5, 0.3, 0.2], rng.normal(size=(3, d)), rng.uniform(0.5, 2, size=(3, d)))


@pytest.mark.parametrize("backend", ["numba", "array"])
@pytest.mark.parametrize("record", ["mean", "variance", "covariance"])
def test_moments_are_those_of_every_nth_step_of_the_trace(record, backend):
    """The first recorded step and every third one after it; burn-in is not counted, and ``thin`` is independent."""
    run = uldnum.sample(
        mixture(5), "BAOAB", steps=11, burn_in=4, thin=1, bins=8, record=record, record_every=3, backend=backend,
        **OPTIONS,
    )  # fmt: skip
    seen = run.trace[::3].astype(float)
    assert len(run.trace) == 11
    assert run.accumulated_steps == len(seen) == 4
    flat = seen.reshape(-1, 5)
    np.testing.assert_allclose(run.mean, flat.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(run.mean_error, seen.mean(axis=0).std(axis=0, ddof=1) / 70**0.5, rtol=1e-12)
    if record != "mean":
        np.testing.assert_allclose(run.variance, flat.var(axis=0), rtol=1e-12)
        np.testing.assert_allclose(run.moments.chain_square, (seen**2).mean(axis=0), rtol=1e-12)
    if record == "covariance":
        np.testing.assert_allclose(run.covariance, np.cov(flat.T, bias=True), rtol=1e-12)
    # Histograms count every sixth step, the smallest multiple of 3 that is at least 4.
    counts = [np.histogram(run.trace[::6, :, i], run.edges[i])[0] for i in range(5)]
    np.testing.assert_array_equal(run.histogram.sum(axis=0)[:, 1:-1], counts)


def test_default_moments_depend_on_dimension_and_type():
    def chosen(d, dtype=float, record=None):
        return recorded_moments(record, None, 100, (d,), np.dtype(dtype))

    assert [chosen(d) for d in (1, 4, 5, 8, 32, 33)] == [
        ("covariance", 1), ("covariance", 1), ("covariance", 2), ("covariance", 4), ("covariance", 16), ("variance", 2)
    ]  # fmt: skip
    assert [chosen(d, np.float32) for d in (1, 4, 5, 32)] == [
        ("covariance", 2), ("covariance", 2), ("covariance", 2), ("covariance", 16)
    ]  # fmt: skip
    assert chosen(100, record="covariance") == ("covariance", 50)
    assert [chosen(16, record=f"phase-space-{name}") for name in ("variance", "covariance")] == [
        ("phase-space-variance", 2), ("phase-space-covariance", 8)
    ]  # fmt: skip
    assert recorded_moments("mean", 7, 7, (100,), np.dtype(float)) == ("mean", 7)
    assert recorded_moments(None, None, 1, (1, 8, 8), np.dtype(float)) == (None, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"record": "all"}, "record: must be one of mean, variance, covariance, phase-space-variance, .*, got 'all'"),
        ({"record_every": 0}, "record_every: must be at least 1"),
        ({"record_every": 10**6}, "record_every: must be at"),
        ({"record": "mean", "dimension": (1, 2, 2)}, r"record: needs samples of shape \(d,\), got \(1, 2, 2\)"),
        ({"record_every": 2, "dimension": (1, 2, 2)}, "record_every: needs samples of shape"),
    ],
)
def test_wrong_choices_are_refused(options, message):
    target = uldnum.UserTarget(lambda x: -x, options.pop("dimension", 2))
    with pytest.raises(ValueError, match=message):
        uldnum.sample(target, "ula", steps=2, x0="normal", **options, **OPTIONS)


def test_a_run_states_what_it_recorded(tmp_path):
    run = uldnum.sample(mixture(5), "BAOAB", steps=8, record="variance", **OPTIONS)
    assert (run.settings.record, run.settings.record_every) == ("variance", 2)
    assert "variance recorded every 2 steps" in repr(run)
    data = run.to_xarray()
    assert (data.record, data.record_every) == ("variance", 2)
    assert data["variance"].dims == data["variance_error"].dims == ("dim",)
    assert "covariance" not in data
    np.testing.assert_array_equal(data["variance"], run.variance)
    with pytest.raises(ValueError, match="pass record='covariance' to sample"):
        _ = run.covariance
    mean = uldnum.sample(mixture(5), "BAOAB", steps=8, record="mean", **OPTIONS)
    mean.save(tmp_path / "run.nc")
    mean = uldnum.Run.load(tmp_path / "run.nc")
    assert "variance" not in mean.to_xarray()
    np.testing.assert_array_equal(mean.mean, run.mean)
    with pytest.raises(ValueError, match="pass record='variance' to sample"):
        uldnum.diagnostics.second_moment_bias(mean, mixture(5))


def test_a_run_has_only_the_attributes_that_it_recorded():
    names = ["covariance", "covariance_error", "variance", "mean", "histogram", "edges", "recorded"]
    full = uldnum.sample(mixture(5), "BAOAB", steps=8, record="covariance", bins=8, thin=4, **OPTIONS)
    mean = uldnum.sample(mixture(5), "BAOAB", steps=8, record="mean", **OPTIONS)
    assert [name for name in names if hasattr(full, name)] == names
    assert [name for name in names if hasattr(mean, name)] == ["mean"]


@pytest.mark.parametrize("backend", ["numba", "array"])
def test_a_resumed_run_accumulates_at_the_same_steps(backend, tmp_path):
    """Runs stopped between two accumulated steps continue with the same bits."""
    options = OPTIONS | {"burn_in": 3, "record_every": 3, "backend": backend, "bins": 8}
    whole = uldnum.sample(mixture(5), "OBABO", steps=13, **options)
    part = uldnum.sample(mixture(5), "OBABO", steps=5, **options)
    part.save(tmp_path / "run.nc")
    for earlier in (part, tmp_path / "run.nc"):
        run = uldnum.sample(mixture(5), "OBABO", steps=13, resume=earlier, **options)
        for name in ("u", "phase_space", "sums", "products", "counts"):
            np.testing.assert_array_equal(getattr(run.state, name), getattr(whole.state, name))
        np.testing.assert_array_equal(run.covariance, whole.covariance)
    with pytest.raises(ValueError, match="record_every is 2, was 3"):
        uldnum.sample(mixture(5), "OBABO", steps=13, resume=part, **options | {"record_every": 2})


def test_blocks_of_chains_do_not_matter(monkeypatch):
    """An array score gives the same bits for blocks of any size."""
    target = uldnum.UserTarget(lambda x: -x, dimension=6)
    options = OPTIONS | {"steps": 9, "thin": 2, "x0": "normal", "record": "covariance", "record_every": 2}
    whole = uldnum.sample(target, "BAOAB", **options)
    monkeypatch.setattr("uldnum.kernels.arrays.executor.BLOCK", 100)
    parts = uldnum.sample(target, "BAOAB", **options)
    for name in ("u", "phase_space", "sums", "products", "escape_step", "nfe"):
        np.testing.assert_array_equal(getattr(parts.state, name), getattr(whole.state, name))
    np.testing.assert_array_equal(parts.trace, whole.trace)


def test_stated_errors_of_strided_moments_cover():
    """Intervals of 1.96 errors contain the exact moments of BAOAB in at least 176 of 200 independent runs of 64 chains.

    With 64 chains, Student's t gives a coverage of 94.6%, or 189 of 200 with a standard deviation of 3.2. Each of the
    three checks fails falsely with probability 2e-4, and finds errors that are 1.3 times too small.
    """
    variances = np.array([0.5, 1.0, 1.0, 2.0, 1.0, 1.5])
    target = uldnum.GaussianMixture([1.0], np.zeros((1, 6)), variances[None])
    options = OPTIONS | {"h": 0.7, "chains": 12_800}
    run = uldnum.sample(target, "BAOAB", steps=30, **options)
    assert (run.settings.record, run.settings.record_every) == ("covariance", 3)
    sums, products = (part.reshape(200, 64, -1) for part in (run.moments.sums, run.moments.products))
    parts = Moments(run.centre, sums, products, run.moments.weight)
    for gap, error in (
        (parts.mean[:, 0], parts.mean_error[:, 0]),
        (parts.variance[:, 3] - variances[3], parts.variance_error[:, 3]),
        (parts.covariance[:, 4, 1], parts.covariance_error[:, 4, 1]),
    ):
        assert np.sum(np.abs(gap) < 1.96 * error) >= 176
    assert np.linalg.eigvalsh(parts.covariance).min() > 0


def hand_written(x, p, precision, h, every):
    """Return a function of a number of steps that runs BAOAB in NumPy with the same normals and sums of x and x^2."""
    map = uldnum.integrator("BAOAB").stages(h, friction=1.0).stages[0].map
    sums, squares, own = np.zeros_like(x), np.zeros_like(x), np.empty_like(x)
    taken = 0

    def run(steps):
        nonlocal taken
        for _ in range(steps):
            if taken % every == 0:
                np.add(sums, x, out=sums)
                np.add(squares, np.multiply(x, x, out=own), out=squares)
            s = -precision * x
            xi = chain_normals(x.shape[1] * taken, x.shape[1], 0, len(x), DYNAMICS, 1, x.dtype)
            x[...] += np.multiply(p, map.dA[0, 1], out=own)
            x[...] += np.multiply(s, map.b[0], out=own)
            x[...] += np.multiply(xi, map.C[0, 0], out=own)
            p[...] += np.multiply(p, map.dA[1, 1], out=own)
            p[...] += np.multiply(s, map.b[1], out=s)
            p[...] += np.multiply(xi, map.C[1, 0], out=xi)
            taken += 1

    return run


@pytest.mark.slow
def test_an_array_score_is_as_fast_as_a_loop_in_numpy():
    """A linear score in 784 dimensions takes at most 1.5 times the CPU time of a loop (median of interleaved runs).

    The ratio was 1.1 on a busy machine with two cores.
    """
    d, chains, steps, h = 784, 5000, 4, 0.5
    precision = np.linspace(0.5, 2, d)
    target = uldnum.UserTarget(lambda x: -precision * x, d, standard_deviation=precision**-0.5)
    every = recorded_moments("variance", None, 100, (d,), np.dtype(float))[1]
    recording, *_ = recording_of(target, "variance", every, 0, 0, None)
    tables = lay_out([uldnum.integrator("BAOAB").stages(np.array([h]), friction=1.0)], np.dtype(float))
    executor = ArrayExecutor(one_phase(target, tables, 2**60, recording, 1))
    start = np.random.default_rng(0).normal(size=(1, chains, 2, d))
    state = State.start(start.copy(), record="variance")
    loop = hand_written(start[0, :, 0].copy(), start[0, :, 1].copy(), precision, h, every)

    def seconds(function, *arguments):
        begun = time.process_time()
        function(*arguments)
        return time.process_time() - begun

    loop(1)
    executor.advance(state, 1)
    ratios = [seconds(executor.advance, state, state.step + steps) / seconds(loop, steps) for _ in range(5)]
    assert np.median(ratios) < 1.5

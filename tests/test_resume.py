"""Stopped, stored, resumed and split runs have bit-identical states."""

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from helpers.runs import parts_of, stored

import uldnum
from uldnum._util import files
from uldnum._util.interrupt import interruptible
from uldnum.kernels.arrays.executor import ArrayExecutor
from uldnum.kernels.numba.executor import NumbaExecutor
from uldnum.sampling import _sample as sampling
from uldnum.sampling.run import Run

RING = uldnum.target("ring-8")


def run(steps=60, **changes):
    arguments = {"h": [0.2, 0.4], "burn_in": 10, "chains": 9, "seed": 3, "bins": 40, "thin": 7, "progress": False}
    return uldnum.sample(changes.pop("target", RING), changes.pop("name", "OBABO"), steps=steps, **arguments | changes)


def assert_equal(a, b):
    for part, value in vars(a.state).items():
        np.testing.assert_array_equal(value, getattr(b.state, part))
    np.testing.assert_array_equal(a.trace, b.trace)
    np.testing.assert_array_equal(a.mean_error, b.mean_error)
    np.testing.assert_array_equal(a.histogram, b.histogram)


def test_a_run_without_a_known_scale_is_resumed_without_warnings():
    """The standard deviation is infinite, and so are the ends of the histograms that resuming compares."""
    target = uldnum.UserTarget(lambda x: -x, 1)
    arguments = {"h": 0.1, "chains": 4, "x0": np.zeros((4, 1)), "progress": False}
    part = uldnum.sample(target, "BAOAB", steps=3, **arguments)
    whole = uldnum.sample(target, "BAOAB", steps=5, **arguments)
    resumed = uldnum.sample(target, "BAOAB", steps=5, **arguments | {"x0": None, "resume": part})
    np.testing.assert_array_equal(resumed.x, whole.x)


@pytest.mark.parametrize("backend", ["numba", "array"])
@pytest.mark.parametrize("name", ["OBABO", "ula", "ABAOABA"])
def test_resumed_equals_uninterrupted(tmp_path, name, backend):
    whole = run(name=name, backend=backend)
    part = run(name=name, backend=backend, steps=25)
    assert_equal(whole, run(name=name, backend=backend, resume=part))
    part.save(tmp_path / "part.nc")
    assert_equal(whole, run(name=name, backend=backend, resume=tmp_path / "part.nc"))
    assert part.recorded_steps == 25  # resuming does not change the earlier run
    assert_equal(part, Run.load(tmp_path / "part.nc"))


def test_threads_do_not_matter():
    assert_equal(run(threads=1), run(threads=2))


def test_a_saved_run_is_complete_or_absent(tmp_path):
    done = run()
    done.save(tmp_path / "run.nc")
    again = Run.load(tmp_path / "run.nc")
    assert again.settings == done.settings
    assert again.complete
    assert [path.name for path in tmp_path.iterdir()] == ["run.nc"]
    with pytest.raises(ValueError, match=r"path: cannot write '/proc/run.nc'"):
        done.save("/proc/run.nc")


@pytest.mark.parametrize("executor", [NumbaExecutor, ArrayExecutor])
def test_ctrl_c_returns_what_was_done(monkeypatch, executor):
    """After a real SIGINT during the run, it returns incomplete; resuming it gives the states of a whole run."""
    advance, backend = executor.advance, {NumbaExecutor: "numba", ArrayExecutor: "array"}[executor]

    def interrupting(self, state, last):
        kept = advance(self, state, last)
        if 5 <= state.step < 40:
            os.kill(os.getpid(), signal.SIGINT)
        return kept

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(executor, "advance", interrupting)
    monkeypatch.setattr(
        executor, "first_launch", lambda self, state: 1
    )  # else all 60 steps would be in the first launch
    with pytest.warns(UserWarning, match=r"stopped after \d+ of 60 recorded steps"):
        stopped = run(backend=backend)
    assert signal.getsignal(signal.SIGINT) is handler
    assert not stopped.complete
    assert 0 <= stopped.recorded_steps < 60
    monkeypatch.setattr(executor, "advance", advance)
    assert_equal(run(backend=backend), run(backend=backend, resume=stopped))


def test_a_run_off_the_main_thread_leaves_signals_alone():
    results = []
    worker = threading.Thread(target=lambda: results.append(run()))
    worker.start()
    worker.join()
    assert_equal(results[0], run())


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"target": uldnum.target("grid-25")}, "target is 'grid-25', was 'ring-8'"),
        (
            {"target": uldnum.GaussianMixture(RING.weights, RING.means, 2 * RING.variances, name="ring-8")},
            "the target or its options differ",
        ),
        ({"seed": 4}, "seed is 4, was 3"),
        ({"h": [0.2, 0.5]}, "h is"),
        ({"name": "BAOAB"}, "integrator is 'BAOAB'"),
        ({"dtype": "float32"}, "dtype"),
        ({"bins": 0}, "bins"),
        ({"steps": 20}, "already has 25 recorded steps, more than 20"),
    ],
)
def test_resuming_another_run_is_refused(changes, fault):
    with pytest.raises(ValueError, match=f"^resume: .*{fault}"):
        run(**{"resume": run(steps=25)} | changes)


def test_another_score_or_scale_of_a_users_target_is_refused():
    def target(slope, spread):
        def score(x):
            return -slope * x - 4 * np.where(np.abs(x) > 20, x, 0) * (slope - 1)

        def start(n, seed, first):
            return np.zeros((n, 1))

        return uldnum.UserTarget(score, 1, sampler=start, mean=[0.0], standard_deviation=[spread])

    part = run(target=target(1.0, 1.0), steps=25)
    assert run(target=target(1.0, 1.0), steps=26, resume=part).recorded_steps == 26
    for other in (target(1.1, 1.0), target(1.0, 4.0)):
        with pytest.raises(ValueError, match=r"^resume: .*the target or its options differ"):
            run(target=other, resume=part)


def test_full_covariances_are_part_of_the_fingerprint():
    def target(correlation):
        return uldnum.GaussianMixture([1.0], [[0.0, 0.0]], covariances=[[[1.0, correlation], [correlation, 1.0]]])

    assert target(0.1).fingerprint != target(0.2).fingerprint
    assert target(0.1).fingerprint == target(0.1).fingerprint


def test_a_resumed_run_takes_no_x0():
    with pytest.raises(ValueError, match="x0: must be omitted with resume"):
        run(x0=np.zeros((9, 2)), resume=run(steps=25))


def test_another_version_is_refused(tmp_path):
    results, resume = parts_of(run(steps=25))
    older = resume.attrs["settings"].replace(uldnum.__version__, "0.0.1")
    stored(tmp_path / "old.nc", results, resume.assign_attrs(settings=older))
    with pytest.raises(ValueError, match=r"^resume: .*version is '\d.*', was '0.0.1'"):
        run(resume=tmp_path / "old.nc")


def test_a_stored_run_stays_where_the_next_one_cannot_be_written(monkeypatch, tmp_path):
    path, first = tmp_path / "run.zarr", run(steps=20)
    first.save(path)
    rename = Path.rename

    def full(self, target):
        if target == path and self != files.aside(path):
            raise OSError("no space")
        return rename(self, target)

    monkeypatch.setattr(files, "swap", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="no space"):
        run(steps=25).save(path)
    assert_equal(Run.load(path), first)
    assert [other.name for other in tmp_path.iterdir()] == ["run.zarr"]


def test_files_are_as_open_as_others(tmp_path):
    run(steps=20).save(tmp_path / "run.nc")
    (tmp_path / "other").touch()
    assert (tmp_path / "run.nc").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_file_that_is_no_run_is_refused(tmp_path):
    (tmp_path / "junk.nc").write_bytes(b"junk")
    xr.Dataset({"a": 1}).to_netcdf(tmp_path / "other.nc")
    for name in ("junk.nc", "other.nc", "none.nc"):
        with pytest.raises(ValueError, match=rf"^resume: .*{name}' is not a saved run"):
            run(resume=tmp_path / name)


def test_x0_may_be_a_function():
    def start(chains, seed, first):
        return np.full((chains, 2), 0.1 * first + seed)

    given = run(x0=start, first_chain=2, h=1e-6, steps=1, burn_in=0, thin=None)
    np.testing.assert_allclose(given.x, 3.2, atol=1e-4)


def test_arviz_reads_the_trace_and_agrees():
    """ULA at delta = 1/2 on N(0, 1) has the correlation 2^-lag, so N draws have an effective sample size of N/3.

    The estimate of uldnum is (standard deviation/standard error of the mean)^2 from 400 chains. Its relative error is
    (2/400)^(1/2) = 7%, and the tolerance of 30% is 4 of these. The error of ArviZ, which uses the correlations of all
    draws, is a few per cent. R-hat is 1.
    """
    stats = pytest.importorskip("arviz_stats")
    done = uldnum.sample("gaussian", "ula", h=1.0, steps=400, burn_in=20, chains=400, thin=1, progress=False)
    tree = done.to_arviz()
    assert isinstance(tree, xr.DataTree)
    assert dict(tree["posterior"].sizes) == {"chain": 400, "draw": 400, "x_dim_0": 1}
    exact = 400 * 400 / 3
    assert float(stats.rhat(tree)["x"].squeeze()) < 1.01
    assert float(stats.ess(tree, method="mean")["x"].squeeze()) == pytest.approx(exact, rel=0.1)
    assert done.covariance[0, 0] / done.mean_error[0] ** 2 == pytest.approx(exact, rel=0.3)
    with pytest.raises(ValueError, match="must have a single step size"):
        run().to_arviz()


def test_a_stop_is_told_to_what_is_around():
    """In nested contexts, the first Ctrl-C sets both flags, and the second raises KeyboardInterrupt."""
    usual = signal.getsignal(signal.SIGINT)
    with interruptible() as outer:
        with interruptible() as inner:
            assert not inner()
            os.kill(os.getpid(), signal.SIGINT)
            assert inner()
        assert outer()
        assert signal.getsignal(signal.SIGINT) is usual
    with interruptible() as outer:
        with interruptible():
            pass
        os.kill(os.getpid(), signal.SIGINT)
        assert outer()
    assert signal.getsignal(signal.SIGINT) is usual


def test_a_study_stops_also_where_a_run_was_complete(monkeypatch):
    report = sampling.report

    def interrupting(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        report(*arguments)

    monkeypatch.setattr(sampling, "report", interrupting)
    with pytest.raises(KeyboardInterrupt):
        uldnum.studies.bias("gaussian", ["ula"], [0.5, 0.6], nfe=50, burn_in=0, chains=8, progress=False)

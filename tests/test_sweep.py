"""Sweeps: stored results, resumption after a kill, shared folders, and executors of processes and clusters."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from helpers.sweeps import Square, Visible, diary_of, study

import uldnum
from uldnum.sampling.backends import device_numbers
from uldnum.studies import gpus, scheduler, sweep
from uldnum.studies._gpus import visible
from uldnum.studies.common import coarse_to_fine
from uldnum.studies.points import Sampled


@pytest.fixture(scope="module")
def whole():
    """The study, computed without a store."""
    return study()


@pytest.fixture(scope="module")
def processes():
    """Two processes that import the package."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield pool


def test_results_are_in_order_and_computed_once(tmp_path):
    diary = str(tmp_path / "diary")
    tasks = [Square(n, diary) for n in (3, 1, 2, 1)]
    found = sweep(tasks, store=tmp_path / "store", progress=False)
    assert [one["square"] for one in found] == [9, 1, 4, 1]
    assert sorted(diary_of(diary)) == [1, 2, 3]
    again = sweep([*tasks, Square(7, diary)], store=tmp_path / "store", progress=False)
    assert again == [*found, {"square": 49, "third": 7 / 3}]
    assert len(diary_of(diary)) == 4
    assert sweep(tasks, progress=False) == found
    stored = json.loads((tmp_path / "store" / "square-3.json").read_text(encoding="utf-8"))
    content = {"key": "square-3", "parameters": {"number": 3}, "result": {"square": 9, "third": 1.0}}
    assert stored == content | {"sha256": hashlib.sha256(json.dumps(content).encode()).hexdigest()}


def test_a_failed_task_keeps_the_results_before_it(tmp_path):
    diary = str(tmp_path / "diary")
    with pytest.raises(TypeError):
        sweep([Square(1, diary), Square("x", diary)], store=tmp_path / "store", progress=False)
    assert not (tmp_path / "store" / "square-x.json").exists()
    assert not [path for path in (tmp_path / "store").iterdir() if path.name.startswith(".")]
    assert sweep([Square(1, diary)], store=tmp_path / "store", progress=False)[0]["square"] == 1


BEGUN = threading.Barrier(3)


class Begun(Square):
    """A task that waits until all three tasks have started; the first one then fails."""

    def result(self):
        BEGUN.wait(60)
        if not self.number:
            raise RuntimeError("a fault of its own")
        return super().result()


def test_a_failed_task_in_a_pool_keeps_the_results_of_running_tasks(tmp_path):
    diary = str(tmp_path / "diary")
    tasks = [Begun(0, diary), Begun(1, diary, 0.2), Begun(2, diary, 0.2)]
    with ThreadPoolExecutor(3) as pool, pytest.raises(RuntimeError, match="a fault of its own"):
        sweep(tasks, store=tmp_path / "store", executor=pool, progress=False)
    assert len(points(tmp_path / "store")) == 2


KILLED = """
import sys
import uldnum
from helpers.sweeps import study
study(store=sys.argv[1], chains=64, nfe=10_000)
"""


def test_a_killed_sweep_resumes_with_identical_results(tmp_path):
    """After a kill -9 during a study all stored results are valid, and the resumed study is identical bit for bit."""
    store = tmp_path / "store"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(store)], env=environment)
    deadline = time.monotonic() + 120
    while len(points(store)) < 4 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {path.name: path.stat().st_mtime_ns for path in points(store)}
    assert 4 <= len(before) < 15  # 15 points: 3 schemes, 3 step sizes, 2 frictions, of which ula needs only one
    for path in points(store):
        assert json.loads(path.read_text(encoding="utf-8"))["result"]
    resumed = study(store=store, nfe=10_000)
    after = {path.name: path.stat().st_mtime_ns for path in points(store)}
    assert len(after) == 15
    assert {name: after[name] for name in before} == before  # nothing was computed twice
    xr.testing.assert_identical(resumed, study(nfe=10_000))


def points(store):
    return [path for path in store.glob("*.json") if not path.name.startswith(".")] if store.exists() else []


def test_hops_are_counted_only_for_studies_that_report_them():
    """Hops need a run of their own. Without them, the other values are the same, and the point has another key."""
    given = 0.3, 0.5, 100, 10, 16, 0, None
    points_of = [
        Sampled(uldnum.target("ring-8"), uldnum.integrator("BAOAB"), *given, hopping=hopping)
        for hopping in (True, False)
    ]
    (with_hops, rate), (without, missing) = ((found, found.pop("hops")) for found in (p.result() for p in points_of))
    assert with_hops == without
    assert np.isfinite(rate).all()
    assert np.isnan(missing).all()
    assert points_of[0].key != points_of[1].key


def test_limited_time_is_spread_over_the_step_sizes():
    """Of 12 places, 0 and 8 come first, then 4, then 2, 6 and 10, then the odd ones."""
    order = sorted(range(12), key=coarse_to_fine)
    assert order == [0, 8, 4, 2, 6, 10, 1, 3, 5, 7, 9, 11]


def test_any_change_of_parameters_changes_the_key(tmp_path):
    small = {"store": tmp_path, "h": [0.3]}
    one = study(**small)
    count = len(points(tmp_path))
    for change in ({"seed": 1}, {"chains": 65}, {"nfe": 301}, {"burn_in": 21}, {"h": [0.31]}):
        study(**small | change)
        assert len(points(tmp_path)) > count, change
        count = len(points(tmp_path))
    xr.testing.assert_identical(study(**small), one)
    target, scheme = uldnum.target("ring-8"), uldnum.integrator("BAOAB")
    given = 300, 20, 64, 0, None
    base = Sampled(target, scheme, 0.3, 0.5, *given)
    moved = uldnum.GaussianMixture(target.weights, target.means + 1e-12, target.variances, name=target.name)
    assert Sampled(moved, scheme, 0.3, 0.5, *given).key != base.key
    assert Sampled(target, uldnum.integrator("OBABO"), 0.3, 0.5, *given).key != base.key
    assert Sampled(target, scheme, 0.3, 0.6, *given).key != base.key
    # The key depends on the coefficients, not on the name.
    assert Sampled(target, uldnum.integrator("baoab"), 0.3, 0.5, *given).key == base.key
    user = {"mean": [0.0], "standard_deviation": [1.0], "name": "user"}
    mine = uldnum.UserTarget(minus, 1, sampler=zeros, **user)
    keys = {
        Sampled(uldnum.UserTarget(minus, 1, **user | changes), scheme, 0.3, 0.5, *given).key
        for changes in (
            {"sampler": zeros},
            {"sampler": ones},
            {"sampler": zeros, "log_density": parabola},
            {"mean": [1.0]},
        )
    }
    assert len(keys) == 4
    assert Sampled(mine, scheme, 0.3, 0.5, *given).key in keys
    ula = uldnum.integrator("ula")
    assert Sampled(target, ula, 0.3, 0.5, *given).key == Sampled(target, ula, 0.3, 2.0, *given).key


def minus(x):
    return -x


def parabola(x):
    return -(x[:, 0] ** 2) / 2


def zeros(n, seed, first):
    return np.zeros((n, 1))


def ones(n, seed, first):
    return np.ones((n, 1))


SHARED = """
import sys
from helpers.sweeps import Square
from uldnum.studies import sweep
print(sum(one["square"] for one in sweep([Square(n, sys.argv[2], 0.02) for n in range(60)], store=sys.argv[1])))
"""


def test_two_processes_share_a_store(tmp_path):
    """Both processes return every result. They compute the same task only if both start it at about the same time."""
    store, diaries = tmp_path / "store", [tmp_path / "one", tmp_path / "other"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SHARED, str(store), str(diary)], env=environment, stdout=subprocess.PIPE
        )
        for diary in diaries
    ]
    assert [int(process.communicate()[0]) for process in processes] == [sum(n**2 for n in range(60))] * 2
    counts = [len(diary_of(diary)) for diary in diaries]
    assert 60 <= sum(counts) < 120
    assert len(points(store)) == 60
    assert sorted({n for diary in diaries for n in diary_of(diary)}) == list(range(60))


def test_pools_of_processes_give_the_same_numbers(whole, processes):
    xr.testing.assert_identical(study(executor=processes), whole)


def test_pools_of_threads_give_the_same_numbers(whole, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        xr.testing.assert_identical(study(executor=pool, store=tmp_path), whole)
    assert len(points(tmp_path)) == 15


def test_every_gpu_has_a_process(monkeypatch, tmp_path):
    from uldnum.kernels.cuda import device

    monkeypatch.setattr(device, "device_count", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, GPU-5,6")
    with gpus([2, 1]) as executor:
        found = sweep([Visible(n, str(tmp_path)) for n in range(2)], executor=executor, progress=False)
    assert sorted(one["gpu"] for one in found) == ["6", "GPU-5"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4, GPU-5,6"


def image_score(x):
    return -x * (1 + x**2)


def chains_from(first):
    """Return states of three chains on images, and the GPU that this process sees."""
    target = uldnum.UserTarget(image_score, (1, 2, 2))
    options = {"steps": 5, "chains": 3, "first_chain": first, "seed": 1, "x0": "normal", "progress": False}
    return uldnum.sample(target, "BAOAB", h=0.2, **options).x, os.environ["CUDA_VISIBLE_DEVICES"]


def test_processes_of_gpus_share_the_chains_of_a_run(monkeypatch):
    """The remedy for scores that cannot be copied to other GPUs: the chains have the same bits as in one run."""
    from uldnum.kernels.cuda import device

    monkeypatch.setattr(device, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with gpus([0, 1]) as executor:
        parts, numbers = zip(*executor.map(chains_from, [0, 3, 6]), strict=True)
    assert set(numbers) <= {"0", "1"}
    target = uldnum.UserTarget(image_score, (1, 2, 2))
    whole = uldnum.sample(target, "BAOAB", h=0.2, steps=5, chains=9, seed=1, x0="normal", progress=False)
    np.testing.assert_array_equal(np.concatenate(parts), whole.x)


def test_gpus_of_a_process(monkeypatch):
    from uldnum.kernels.cuda import device

    monkeypatch.setattr(device, "device_count", lambda: 2)
    assert device_numbers(None) == (0, 1)
    assert visible([1, 0], None) == visible([1, 0], "") == ["1", "0"]
    with pytest.raises(ValueError, match="devices: must be less than 2"), gpus([2]):
        pass
    monkeypatch.setattr(device, "device_count", lambda: 0)
    with pytest.raises(RuntimeError, match="backend: 'cuda' needs an NVIDIA GPU, and this process has none"), gpus():
        pass


@pytest.mark.filterwarnings("ignore")  # Dask warns when a worker dies
def test_a_cluster_that_loses_a_worker_gives_the_same_numbers(whole, tmp_path):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        scheduler(cluster.scheduler_address) as executor,
    ):
        killed = []

        class Killing:
            """An executor that kills a worker of the cluster when a third of the points has been submitted."""

            def submit(self, *task):
                future = executor.submit(*task)
                killed.append(0)
                if len(killed) == 5:
                    os.kill(cluster.workers[0].pid, signal.SIGKILL)
                return future

        xr.testing.assert_identical(study(executor=Killing(), store=tmp_path), whole)
    assert len(killed) == 15
    assert len(points(tmp_path)) == 15


@pytest.mark.parametrize(
    ("given", "message"),
    [({"store": 3}, "store: must be a path, got 3"), ({"executor": "pool"}, "executor: must be None or a")],
)
def test_invalid_stores_and_executors_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        study(**given)


@pytest.mark.parametrize(
    ("address", "why"),
    [("tcp://127.0.0.1:9", "Timed out"), ("tcp://127.0.0.1", "missing port"), ("foo://a:1", "unknown address scheme")],
)
def test_an_unreachable_scheduler_raises(address, why):
    pytest.importorskip("distributed")
    message = f"scheduler: no Dask scheduler answers at {address!r}: {why}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"), scheduler(address):
        pass


def test_user_targets_and_integrators_are_pickled(processes):
    mixture = uldnum.GaussianMixture([1.0], [[0.0, 1.0]], [2.0], name="mine")
    scheme = uldnum.splitting("OABBAO")
    given = {"h": [0.4], "nfe": 200, "chains": 32, "progress": False}
    here = uldnum.studies.bias(mixture, scheme, **given)
    xr.testing.assert_identical(uldnum.studies.bias(mixture, scheme, executor=processes, **given), here)
    assert np.isfinite(here.exact).all()
    # The score of the double well is a local function.
    study = uldnum.studies.exact_bias("double-well", "ula", 0.05, executor=processes, progress=False)
    assert np.isfinite(study.exact).all()
    moment, cdf = (lambda order: np.ones(1)), partial(np.clip, a_min=0.0, a_max=1.0)
    unnamed = uldnum.UserTarget(
        lambda x: -x, 1, sampler=uldnum.target("gaussian").sample, standard_deviation=[1.0], moment=moment, cdf=cdf
    )
    with pytest.raises(ValueError, match=r"^executor: a task cannot be sent to another process"):
        uldnum.studies.bias(unnamed, scheme, executor=processes, **given)


class Failing(Square):
    """A task that fails when it is computed, or when it is pickled."""

    def result(self):
        raise OSError(f"no file named {self.diary}")


class Unsendable(Failing):
    def __reduce__(self):
        raise RuntimeError("this class holds a connection")


def test_only_errors_of_pickling_are_explained(processes):
    """Tasks that fail have their own error, also if it speaks of a pickle; with threads nothing is pickled."""
    with pytest.raises(OSError, match="no file named weights"):
        sweep([Failing(1, "weights.pickle")], executor=processes, progress=False)
    with pytest.raises(ValueError, match=r"^executor: a task cannot be sent .* \(this class holds a connection\)"):
        sweep([Unsendable(1, "")], executor=processes, progress=False)
    with ThreadPoolExecutor(1) as threads, pytest.raises(OSError, match="no file named weights"):
        sweep([Unsendable(1, "weights.pickle")], executor=threads, progress=False)

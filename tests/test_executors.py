"""The array and Numba executors agree with each other and with matrices, for any threads, launches and batches."""

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numba
import numpy as np
import pytest
from helpers.catalogue import SHAPES
from helpers.normals import normals

import uldnum
from uldnum.kernels.arrays.executor import ArrayExecutor
from uldnum.kernels.numba import executor as cpu
from uldnum.kernels.numba.executor import NumbaExecutor, edges, pool, run_on_threads
from uldnum.kernels.source.core import COVARIANCE, DYNAMICS, READOUT, Recording, lay_out
from uldnum.kernels.state import State
from uldnum.sampling._sample import one_phase
from uldnum.schemes.catalogue import Integrator
from uldnum.schemes.stage import Affine, Step, first_row, table

SCHEMES = [*SHAPES, "ABAOABA"]
SEED = 0xDEADBEEF12345


def mixture(d):
    rng = np.random.default_rng(d)
    weights = np.array([0.5, 0.3, 0.2])
    return uldnum.GaussianMixture(weights, rng.normal(size=(3, d)), rng.uniform(0.5, 2, size=(3, d)))


def program(target, scheme, h, dtype=np.float64, friction=1.0, first=0, record=1, every=1, bins=10, reach=None, rows=1):
    """Return a program; histograms span two standard deviations, so that both overflow bins are used."""
    mean, scale = target.mean.copy(), target.standard_deviation  # a read-only centre would need another compilation
    tables = lay_out([scheme.stages(np.array(h), friction=friction)], np.dtype(dtype))
    recording = Recording(
        COVARIANCE, rows, record, every, 2 * every, 3, mean, mean - 2 * scale, bins / (4 * scale),
        np.empty((len(mean), 0)),
    )  # fmt: skip
    made = one_phase(target, tables, 2**60, recording, SEED, first)
    bounds = {} if reach is None else {"least": np.full_like(made.targets.least, -reach)}
    bounds |= {} if reach is None else {"most": np.full_like(made.targets.most, reach)}
    return replace(made, targets=replace(made.targets, **bounds))


def run(make, name, d, dtype=np.float64, h=(0.1, 0.5), chains=6, launches=(9, 25), first=0, record=4, rows=1):
    dtype, target, scheme = np.dtype(dtype), mixture(d), uldnum.integrator(name)
    everyone = np.random.default_rng(0).normal(size=(first + chains, scheme.rows, d))
    start = np.repeat(everyone[None, first:], len(h), axis=0).astype(dtype)
    state = State.start(start, record="phase-space-covariance" if rows > 1 else "covariance", bins=10)
    executor = make(program(target, scheme, h, dtype, 0.8, first, record, rows=rows))
    state.kept = np.concatenate([executor.advance(state, last) for last in launches])
    return state


def assert_same(a, b, exact=True, rtol=0.0):
    for part in ("u", "phase_space", "sums", "products", "counts", "escape_step", "nfe", "kept"):
        x, y = getattr(a, part), getattr(b, part)
        if exact:
            np.testing.assert_array_equal(x, y)
        else:
            np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol * max(1, np.abs(y).max()))


@pytest.mark.parametrize("d", [1, 2, 3, 5])
@pytest.mark.parametrize("name", SCHEMES)
def test_array_equals_numba(name, d):
    """They agree up to rounding over 25 steps, 1e-13 and 2e-5; elementary functions differ in the last bit."""
    for dtype, rtol in ((np.float64, 1e-13), (np.float32, 2e-5)):
        a, b = (run(make, name, d, dtype) for make in (ArrayExecutor, NumbaExecutor))
        assert_same(a, b, exact=False, rtol=rtol)


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("name", ["BAOAB", "OBABO", "UBU", "ABAOABA"])
def test_momenta_are_recorded_beside_positions(name, d):
    """The executors agree, results do not depend on launches and threads, and the moments of x keep their bits."""
    for dtype, rtol in ((np.float64, 1e-13), (np.float32, 2e-5)):
        array, whole = (run(make, name, d, dtype, rows=2) for make in (ArrayExecutor, NumbaExecutor))
        assert_same(array, whole, exact=False, rtol=rtol)
    assert_same(whole, run(lambda program: NumbaExecutor(program, 3), name, d, dtype, launches=[1, 3, 25], rows=2))
    alone, pairs = run(NumbaExecutor, name, d, dtype), d * (d + 1) // 2
    whole.sums, whole.products = whole.sums[..., :d], whole.products[..., :pairs]
    assert_same(whole, alone)


@pytest.mark.parametrize("make", [ArrayExecutor, NumbaExecutor])
@pytest.mark.parametrize("name", ["OBABO", "UBU", "ula"])
def test_result_depends_only_on_seed_chain_and_step(make, name):
    whole = run(make, name, 2)
    assert_same(whole, run(make, name, 2, launches=[1, 3, 25]))  # other launches
    for h, group in ((0.1, 0), (0.5, 1)):  # a group equals the run of its step size
        alone = run(make, name, 2, h=[h])
        np.testing.assert_array_equal(alone.phase_space[0], whole.phase_space[group])
        np.testing.assert_array_equal(alone.products[0], whole.products[group])
    part = run(make, name, 2, chains=2, first=3)  # a batch may be split
    np.testing.assert_array_equal(part.phase_space, whole.phase_space[:, 3:5])
    np.testing.assert_array_equal(part.sums, whole.sums[:, 3:5])


@pytest.mark.parametrize(
    ("d", "dtype", "lanes"),
    [
        (1, np.float64, 32),  # a kernel that other tests compile, too
        pytest.param(2, np.float64, 8, marks=pytest.mark.slow),
        pytest.param(2, np.float32, 16, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", ["OBABO", "mild(0.5)"])
def test_lanes_do_not_matter(name, d, dtype, lanes):
    """Full and partial blocks of other sizes, as wide as in higher dimensions or as one vector register."""
    whole = run(NumbaExecutor, name, d, dtype, chains=70)
    assert_same(whole, run(partial(NumbaExecutor, lanes=lanes), name, d, dtype, chains=70))


HASHED = """
import uldnum, hashlib
run = uldnum.sample("ring-8", "OBABO", h=0.5, steps=50, chains=40, bins=8, seed=3, progress=False)
parts = [part.tobytes() for part in (run.state.u, run.state.phase_space, run.state.sums, run.state.counts)]
print(hashlib.sha256(b"".join(parts)).hexdigest())
"""


FUNCTIONS = """
import hashlib
import numpy as np
from helpers.lanes import on_arrays

sha = hashlib.sha256()
for dtype, word in (("float64", np.uint64), ("float32", np.uint32)):
    words = np.random.default_rng(1).integers(0, 2**(8 * word().itemsize), (2, 4096), word)
    sha.update(on_arrays(lambda core: core.box_muller, dtype, 2, 2)(*words).tobytes())
    x = np.random.default_rng(2).uniform(-20, 20, 4096).astype(dtype)
    for name in ("exp2", "tanh"):
        sha.update(on_arrays(lambda core: getattr(core.functions, name), dtype)(x).tobytes())
print(sha.hexdigest())
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names x86 processors")
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(FUNCTIONS, id="functions"),
        pytest.param(HASHED, id="run", marks=pytest.mark.slow),  # compiles a kernel
    ],
)
def test_the_processor_does_not_matter(tmp_path, capsys, script):
    """Code for this processor and for one of 2008, without AVX and fused multiply-add, gives the same bits."""
    exec(script, {})
    processor = {"NUMBA_CPU_NAME": "nehalem", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    processor["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=os.environ | processor, capture_output=True, text=True, check=True)
    assert done.stdout == capsys.readouterr().out != ""


COUNTED = """
import numba, sys, uldnum
from numba.core import event
sys.stderr.isatty = lambda: True
narrow = uldnum.GaussianMixture([1.0], [[0.0, 0.0]], [[1.0, 0.5]])
for name, numba.config.CACHE_DIR in zip(sys.argv[1::2], sys.argv[2::2]):
    target = narrow if name == "narrow" else name
    with event.install_recorder("numba:compile") as recorder:
        run = uldnum.sample(target, "UBU", h=0.5, steps=5, chains=4)
    print(len(recorder.buffer), run.x.tobytes().hex())
"""


def test_a_kernel_is_compiled_once_and_for_all(tmp_path):
    """A second process finds the kernel of this one on disk, compiles nothing, and prints no message.

    The third process first compiles another kernel with as many lanes. The kernel from the disk must not be linked with
    code of that kernel.
    """

    def process(*targets):
        command = [sys.executable, "-c", COUNTED, *targets]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        compiled, positions = zip(*(line.split() for line in done.stdout.splitlines()), strict=True)
        return [int(count) for count in compiled], positions[-1], done.stderr

    kept = ("ring-8", numba.config.CACHE_DIR)
    first = uldnum.sample("ring-8", "UBU", h=0.5, steps=5, chains=4).x
    compiled, second, said = process(*kept)
    assert compiled == [0]
    assert "compiling" not in said
    compiled, third, said = process("narrow", str(tmp_path), *kept)
    assert compiled[0] > 1
    assert compiled[1] == 0
    assert said.count("compiling the kernel") == 1
    assert first.tobytes().hex() == second == third
    expected = uldnum.sample("ring-8", "UBU", h=0.5, steps=5, chains=4, backend="array").x
    np.testing.assert_allclose(first, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("chains", "lanes", "threads", "tile"), [(1, 32, 2, 16), (100_000, 32, 2, 16), (2001, 8, 5, 1)]
)
def test_ranges_of_chains_are_whole_tiles_and_end_short(chains, lanes, threads, tile):
    cuts = edges(chains, lanes, threads, tile)
    sizes = np.diff(cuts)
    assert cuts[0] == 0
    assert cuts[-1] == chains
    assert np.all(sizes > 0)
    assert np.all(sizes <= np.maximum(lanes, (chains - cuts[:-1]) / threads))
    assert np.all(sizes[sizes > tile * lanes] % (tile * lanes) == 0)
    assert np.all(sizes[:-1] % lanes == 0)
    assert sizes[-1] <= lanes
    assert sizes[0] >= min(chains, chains / (2 * threads) - tile * lanes)
    assert len(sizes) <= 20 * threads


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_part_is_done_once_on_all_threads(threads):
    together, done = threading.Barrier(threads, timeout=20), []

    def kernel(part):
        if part < threads:
            together.wait()
        done.append(part)

    run_on_threads(threads, kernel, [(part,) for part in range(40)])
    assert sorted(done) == list(range(40))
    run_on_threads(threads, done.append, [])
    assert len(done) == 40


def test_parts_are_waited_for_however_long_they_take(monkeypatch):
    monkeypatch.setattr(cpu, "POLL_INTERVAL", 0.001)
    done = []

    def kernel(part):
        time.sleep(0.02)
        done.append(part)

    run_on_threads(2, kernel, [(part,) for part in range(6)])
    assert sorted(done) == list(range(6))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_after_an_error_no_call_continues_or_starts(threads):
    """Until the error is raised, each other thread may run one more call."""
    raising, begun, ended = threading.Event(), [], []

    def kernel(part):
        begun.append(part)
        if part == 7:
            raising.set()
            raise MemoryError(part)
        if part > 7:
            raising.wait(20)
            time.sleep(0.05)
        ended.append(part)

    with pytest.raises(MemoryError, match="7"):
        run_on_threads(threads, kernel, [(part,) for part in range(200)])
    so_far = len(begun)
    assert sorted(ended) == sorted(set(begun) - {7})
    assert so_far <= 8 + threads
    time.sleep(0.02)
    assert len(begun) == so_far


def test_an_interrupt_does_not_wait_for_running_calls():
    freed, begun, ended = threading.Event(), [], []

    def kernel(part):
        begun.append(part)
        if part == 0:
            os.kill(os.getpid(), signal.SIGINT)
        freed.wait(20)
        ended.append(part)

    with pytest.raises(KeyboardInterrupt):
        run_on_threads(2, kernel, [(part,) for part in range(9)])
    assert not ended
    freed.set()
    pool(2, os.getpid()).submit(int).result()
    assert len(begun) <= 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("can't start new thread")])
def test_no_call_starts_after_an_error_while_tasks_are_submitted(monkeypatch, error):
    """The error occurs when one thread runs and another has no task yet; only after Ctrl-C are calls not waited for."""
    freed, first, begun, ended, tasks = threading.Event(), threading.Event(), [], [], []

    def kernel(part):
        begun.append(part)
        first.set()
        freed.wait(20)
        ended.append(part)

    with ThreadPoolExecutor(1) as threads:

        def submit(work):
            if tasks and first.wait(20):
                if error is not KeyboardInterrupt:
                    threading.Timer(0.05, freed.set).start()
                raise error
            tasks.append(threads.submit(work))
            return tasks[0]

        monkeypatch.setattr(cpu, "pool", lambda *_: SimpleNamespace(submit=submit))
        with pytest.raises(BaseException, match=r"can't|^$"):
            run_on_threads(2, kernel, [(part,) for part in range(9)])
        assert ended == ([] if error is KeyboardInterrupt else [0])
        freed.set()
    assert begun == [0]


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_threads_do_not_matter(threads):
    one = run(lambda program: NumbaExecutor(program, threads), "BAOAB", 3, chains=31)
    assert_same(one, run(lambda program: NumbaExecutor(program, 2), "BAOAB", 3, chains=31))


@pytest.mark.parametrize("make", [ArrayExecutor, NumbaExecutor])
@pytest.mark.parametrize("name", ["BAOAB", "OBABO", "UBU", "ABAOABA", "ula", "mild(0.5)", "baoab-limit"])
def test_same_normals_through_matrices(make, name):
    """On a Gaussian target a run is a product of affine maps; checks tables, offsets of normals, open and close."""
    d, chains, steps, h = 3, 4, 5, 0.5
    target = uldnum.GaussianMixture([1.0], [np.zeros(d)], [[0.5, 1.0, 2.0]])
    scheme = uldnum.integrator(name)
    executor = make(program(target, scheme, [h]))
    xp = np.random.default_rng(0).normal(size=(1, chains, scheme.rows, d))
    state = State.start(xp.copy())
    executor.advance(state, steps)

    step = scheme.stages(h)
    numbers = iter(range(10**9))
    precision = 1 / target.variances[0]

    def move(map, G, u, extra=None):
        m = map.normals if extra is None else map.normals - extra.shape[-1]
        first = [next(numbers) for _ in range(d * m)]
        z = draw(first[0] if first else 0, m, DYNAMICS)
        return affine(map, G, u, z, extra), z

    def draw(first, m, stream):
        z = normals(first, d * m, np.arange(chains), stream, SEED, np.dtype(float))
        return z.T.reshape(chains, d, m)

    def affine(map, G, u, z, extra=None):
        s = -precision * np.einsum("k,nkd->nd", G, u)
        z = z if extra is None else np.concatenate([z, extra], axis=-1)
        change = np.einsum("kl,nld->nkd", map.dA, u) + map.b[:, None] * s[:, None]
        return u + change + np.einsum("km,ndm->nkd", map.C, z)

    position = np.eye(scheme.rows)[0]
    u, _ = move(step.open, position, xp[0])
    total = np.zeros((chains, d))
    for n in range(1, steps + 1):
        for stage in step.stages:
            before = u
            u, z = move(stage.map, stage.G, before)
        eta = draw(n * d * step.readout_normals, step.readout_normals, READOUT)
        read = affine(step.close, step.stages[-1].G, before, z, eta)
        total += read[:, 0]
    np.testing.assert_allclose(state.phase_space[0], read, atol=1e-13)
    np.testing.assert_allclose(state.u[0], u, atol=1e-13)
    np.testing.assert_allclose(state.sums[0], total, atol=1e-13)
    assert state.nfe[0, 0] == steps * len(step.stages) + step.open_uses_score


@pytest.mark.parametrize("make", [ArrayExecutor, NumbaExecutor])
def test_escape_is_found_at_its_step(make):
    """ULA at delta lambda = 4 multiplies x by -3 in each step: from 1, almost without noise, |x| > 1e3 at step 7."""
    tiny = 1e-8
    target = uldnum.GaussianMixture([1.0], [[0.0]], [tiny])
    state = State.start(np.ones((2, 3, 1, 1)))
    executor = make(program(target, uldnum.integrator("ula"), np.sqrt([8 * tiny, 0.2 * tiny]), reach=1e3))
    executor.advance(state, 4)
    executor.advance(state, 20)
    assert np.all(state.escape_step[0] == 7)
    assert np.all(state.escape_step[1] > 20)


@pytest.mark.parametrize("make", [ArrayExecutor, NumbaExecutor])
def test_escape_is_seen_on_every_axis(make):
    tiny = 1e-8
    target = uldnum.GaussianMixture([1.0], [[0.0, 0.0]], [[1.0, tiny]])
    state = State.start(np.ones((1, 3, 1, 2)))
    executor = make(program(target, uldnum.integrator("ula"), [np.sqrt(8 * tiny)], reach=1e3))
    executor.advance(state, 10)
    assert np.all(state.escape_step == 7)


@pytest.mark.parametrize("make", [ArrayExecutor, NumbaExecutor])
def test_float32_keeps_a_drift_far_below_its_rounding(make):
    """At x = 1, delta s = -5e-9 and the noise is 1e-4, so (x + delta s) + h xi would lose the drift altogether.

    The test compares chains with the same normals, at precision 1 and almost without force. Over n steps their mean
    distance grows by n h^2/2. The rounding of x adds a random walk of about n^(1/2) 6e-8/3 to each chain, which is 0.2%
    of the drift for n = 2e5 and 64 chains (Numba), and 0.4% for n = 2500 and 1024 chains (arrays).
    """
    h, (steps, chains) = 1e-4, (200_000, 64) if make is NumbaExecutor else (2_500, 1024)
    apart = []
    for precision in (1.0, 1e-12):
        target = uldnum.GaussianMixture([1.0], [[0.0]], [1 / precision])
        state = State.start(np.ones((1, chains, 1, 1), np.float32))
        executor = make(program(target, uldnum.integrator("ula"), [h], np.float32))
        executor.advance(state, steps)
        apart.append(state.phase_space[0, :, 0, 0].astype(float))
    drift = steps * h**2 / 2
    assert (apart[1] - apart[0]).mean() == pytest.approx(drift, rel=0.05)


def three_rows(h, friction):
    """An artificial stable scheme that stores two normals besides x and uses them in the next step."""
    dA = table(h, [[0, h / 4, h / 8], [0, -1, 0], [0, 0.5, -0.5]])
    map = Affine(dA, table(h, [h**2 / 2, 0, 0]), table(h, [[h / 2, 0], [1, 0], [0, 0.7]]))
    return Step.on_step(first_row(map.b), map)


def test_too_many_rows_are_refused():
    def recipe(h, friction):
        map = Affine(table(h, np.zeros((9, 9)).tolist()), table(h, [0.0] * 9), table(h, [[1.0]] * 9))
        return Step.on_step(first_row(map.b), map)

    with pytest.raises(
        ValueError, match="backend: 'numba' supports schemes of at most 8 rows, not 9; use backend 'array'"
    ):
        uldnum.sample("gaussian", Integrator("nine", recipe), h=0.1, steps=1, chains=2, backend="numba")
    plan = uldnum.plan(Integrator("nine", recipe), uldnum.levels.geometric(1.0, 0.5, 2), h=0.1)
    with pytest.raises(ValueError, match="at most 8 rows, not 9"):
        uldnum.anneal("gaussian", plan, chains=2, backend="numba")


@pytest.mark.parametrize("backend", ["array", "numba"])
def test_three_rows_of_memory(backend):
    """Var(x) of a scheme with k = 3 equals the exact value within 4 standard errors: false-fail rate 6e-5 each.

    The smallest detectable error of the variance is 1.3% with Numba, and 3.6% with arrays, which run fewer chains.
    """
    scheme = Integrator("three", three_rows)
    n = 4096 if backend == "numba" else 512
    run = uldnum.sample("gaussian", scheme, h=0.8, steps=200, burn_in=40, chains=n, backend=backend, progress=False)
    exact = uldnum.exact.gaussian(scheme, 0.8).position_covariance
    assert abs(run.covariance[0, 0] - exact) < 4 * run.covariance_error[0, 0]
    assert run.covariance_error[0, 0] < (0.004 if backend == "numba" else 0.012) * exact


@pytest.mark.parametrize(("d", "groups", "chains"), [(1, 1000, 1), (1, 1, 10_000), (2000, 1, 32), (64, 2, 100)])
def test_a_first_launch_is_short(d, groups, chains):
    """It runs at most 3e8 multiply-adds of scores and moments (some tenths of a second), or one step."""
    target = uldnum.GaussianMixture([1.0], [np.zeros(d)], [1.0])
    executor = NumbaExecutor(program(target, uldnum.integrator("ula"), np.full(groups, 0.1)))
    state = State.start(np.zeros((groups, chains, 1, d)))
    steps = executor.first_launch(state)
    each = d * (d + 1) / 2 + 2 * d
    assert steps == 1 or steps * groups * max(chains, executor.lanes) * each < 3e8

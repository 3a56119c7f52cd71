"""The GPU kernels without a GPU: they are compiled and assembled, and run by Numba's simulator."""

import inspect
import math
import os
import re
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass
from itertools import pairwise
from types import SimpleNamespace

import numba
import numpy as np
import pytest
from helpers.scores import LIFTED, WITH_DENSITY, rosenbrock
from helpers.simulation import (
    CASES,
    CONDITIONS,
    DENSITIES,
    ERRORS,
    IMAGE_CASES,
    IMAGES,
    KNOWN_ANSWERS,
    MASSES,
    MOMENTA,
    NOISY,
    NORMS,
    SPLIT,
    TARGETS,
    TESTED,
    TOLERANCE,
    USERS,
    anneal_user,
    results,
    sample,
    sample_density,
    sample_images,
    sample_tested,
    sample_user,
    sample_with_errors,
    scores_of_norms,
    stopped_adaptive_plan,
)

import uldnum
from analysis.gpu_check import Images, NoisedImages
from uldnum.kernels.cuda.binding import Kernel
from uldnum.kernels.cuda.split import cuts
from uldnum.kernels.numba.drawing import chain_normals
from uldnum.kernels.source.core import DYNAMICS, lay_out, phase
from uldnum.kernels.state import State
from uldnum.schemes.stage import Affine, Step, first_row, table


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    path = tmp_path_factory.mktemp("simulated") / "results.npz"
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-W", "ignore", "-m", "helpers.simulation", path], env=environment, check=True)
    return np.load(path)


@pytest.mark.parametrize("n", range(len(KNOWN_ANSWERS)))
def test_known_answers(simulated, n):
    assert " ".join(f"{word:08x}" for word in simulated[f"philox {n}"]) == KNOWN_ANSWERS[n][2]


def compare(simulated, name, expected, dtype):
    """Compare results; tolerances are relative to the largest number of each array."""
    for i, part in enumerate(expected):
        scale = TOLERANCE[dtype] * np.abs(part).max(initial=0) if part.dtype.kind == "f" else 0
        np.testing.assert_allclose(simulated[f"{name} {i}"], part, rtol=0, atol=scale)


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_simulated_gpu_equals_cpu(simulated, case):
    """They agree up to rounding, because the simulator has no fused multiply-add."""
    compare(simulated, CASES.index(case), results(sample(case, "numba")), case[2])


def test_simulated_temperature_and_score_noise_equal_cpu(simulated):
    compare(simulated, "conditions", results(sample(NOISY, "numba", **CONDITIONS)), NOISY[2])


@pytest.mark.parametrize("case", ERRORS, ids=" ".join)
def test_simulated_score_noise_of_each_coordinate_equals_cpu(simulated, case):
    compare(simulated, f"errors {ERRORS.index(case)}", results(sample_with_errors(case, "numba")), case[2])


@pytest.mark.parametrize("n", range(len(MASSES)))
def test_simulated_masses_equal_cpu(simulated, n):
    case, mass = MASSES[n]
    compare(simulated, f"mass {n}", results(sample(case, "numba", mass=mass)), case[2])


@pytest.mark.parametrize("case", TESTED, ids=" ".join)
def test_simulated_metropolis_tests_equal_cpu(simulated, case):
    """Also the numbers of accepted steps: no change of the energy is within rounding of its threshold.

    The log density in float32 is the logarithm of a sum of terms in float32.
    """
    run = sample_tested(case, "array")
    assert 0 < run.state.accepted.sum() < run.state.accepted.size * 7
    compare(simulated, f"tested {TESTED.index(case)}", results(run), case[2])


@pytest.mark.parametrize("n", range(len(DENSITIES)))
def test_simulated_log_densities_of_users_equal_cpu(simulated, n):
    run = sample_density(DENSITIES[n], "array")
    assert 0 < run.state.accepted.sum() < run.state.accepted.size * 9
    compare(simulated, f"density {n}", results(run), DENSITIES[n][-1])


def test_resumed_metropolis_tests_have_the_same_bits(simulated):
    for i in range(11):
        np.testing.assert_array_equal(simulated[f"tested resumed {i}"], simulated[f"tested 0 {i}"])
    run = sample_tested(TESTED[0], "array")
    np.testing.assert_allclose(simulated["acceptance"], [run.acceptance, run.acceptance_error], rtol=1e-12)


@pytest.mark.parametrize("n", range(len(USERS)), ids=lambda n: f"{USERS[n][0].__name__} {USERS[n][1]} {USERS[n][3]}")
def test_simulated_scores_of_users_equal_cpu(simulated, n):
    """The backend "array" calls the same functions, compiled for the CPU, for one chain at a time."""
    compare(simulated, f"user {n}", results(sample_user(USERS[n], "array")), USERS[n][3])


def test_a_resumed_run_with_the_score_of_a_user_has_the_same_bits(simulated):
    for i in range(8):
        np.testing.assert_array_equal(simulated[f"user resumed {i}"], simulated[f"user 0 {i}"])


def test_simulated_levels_with_scores_of_users_equal_cpu(simulated):
    np.testing.assert_allclose(simulated["user levels"], anneal_user("array").x, rtol=1e-12)


@pytest.mark.parametrize("n", range(len(MOMENTA)))
def test_simulated_momenta_equal_cpu(simulated, n):
    case, record = MOMENTA[n]
    compare(simulated, f"momenta {n}", results(sample(case, "numba", record=record)), case[2])


@pytest.mark.parametrize("case", IMAGE_CASES, ids=lambda case: f"{case[0]} {case[1].shape} {case[2]}")
def test_simulated_images_equal_cpu(simulated, case):
    """With five coordinates, the first normal of a chain may have any position within a block of four."""
    run = sample_images(case, "array")
    assert run.diverged.any() == (case[0] == "ULA")
    compare(simulated, f"image {IMAGE_CASES.index(case)}", results(run), case[2])


def test_the_gpu_check_passes_in_the_simulator(simulated):
    """`analysis.gpu_check` runs the part of its checks that needs no GPU."""
    assert len(simulated["checked"]) == 6
    assert simulated["checked"].max() < 1e-12
    assert len(simulated["checked further"]) == 2
    assert simulated["checked further"].max() < 1e-12
    assert not simulated["varies"].size
    assert simulated["images"].max() < 1e-13


def test_simulated_plans_equal_cpu(simulated):
    """Ten plans in both dtypes; errors are relative to the tolerance."""
    assert len(simulated["plans"]) == 20
    assert simulated["plans"].max() < 1
    assert simulated["plans count"].all()


@pytest.mark.parametrize("n", range(4))
def test_plans_that_differ_from_the_common_case_equal_cpu(simulated, n):
    """The plans are those of `unlike_cpu`. For diverging chains only escape steps and evaluations are compared."""
    left, cpu_left, nfe, cpu_nfe = simulated[f"left {n}"]
    np.testing.assert_array_equal(left, cpu_left)
    np.testing.assert_array_equal(nfe, cpu_nfe)
    assert (left.min() < 31) == (n == 3)
    if n < 3:
        ours, theirs = simulated[f"gpu {n}"], simulated[f"cpu {n}"]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11 * np.abs(theirs).max())


def test_a_plan_stopped_on_a_gpu_goes_on(simulated):
    whole = simulated["stopped 0"]
    assert whole.std() > 0
    for i in (1, 2, 3, 5, 6):
        np.testing.assert_array_equal(simulated[f"stopped {i}"], whole)
    np.testing.assert_array_equal(simulated["stopped 4"], whole[0, :, 0])


def test_simulated_adaptive_steps_of_images_equal_cpu(simulated):
    """Six plans, two shapes, both dtypes; errors are relative to the tolerance. All chains of the last two diverge."""
    assert len(simulated["adaptive"]) == 24
    assert simulated["adaptive"].max() < 1
    assert simulated["adaptive count"].all()
    np.testing.assert_array_equal(simulated["adaptive diverged"], np.repeat([0, 7], [16, 8]))


def test_an_adaptive_plan_of_images_stopped_on_a_gpu_goes_on(simulated, tmp_path):
    whole, longer = simulated["adaptive stopped"]
    np.testing.assert_array_equal(longer, whole)
    np.testing.assert_allclose(whole, stopped_adaptive_plan(tmp_path / "run.nc", "array")[0], rtol=1e-12)


@pytest.mark.parametrize("n", range(len(SPLIT) + 2 + 8))
def test_two_gpus_compute_the_same_bits_as_one(simulated, n):
    """Runs with and without histograms, a run begun on two GPUs and resumed on one, and a plan that keeps positions.

    A run and three plans on a PyTorch module and on an ONNX model follow.
    """
    for i in range(8):
        np.testing.assert_array_equal(simulated[f"two {n} {i}"], simulated[f"one {n} {i}"])
    assert simulated[f"one {n} 2"].std() > 0  # the trace


def test_two_gpus_share_the_launches(simulated):
    assert simulated["launches"].min() > 0
    assert len(set(simulated["launches"])) == 1


@pytest.mark.parametrize("chains", [1, 7, 31, 32, 36, 100, 1000, 1001])
@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_ranges_of_chains_for_gpus(chains, parts):
    """The batches of every range are batches of all chains; ranges are about equal."""
    if chains >= parts:
        assert cuts(chains, parts, counted=False) == [part * chains // parts for part in range(parts + 1)]
    if chains > 64 * (parts - 1):
        edges = cuts(chains, parts, counted=False, chunk=64)
        assert (edges[0], edges[-1]) == (0, chains)
        assert not any(edge % 64 for edge in edges[:-1])
        assert min(map(np.ptp, pairwise(edges))) > 0
    whole = State.start(np.zeros((2, chains, 1, 1)), bins=4)
    periods = math.gcd(chains, whole.counts.shape[1])
    if periods < parts:
        with pytest.raises(ValueError, match="chains: must be a multiple of 32, for histograms on"):
            cuts(chains, parts, counted=True)
        return
    edges = cuts(chains, parts, counted=True)
    assert max(map(np.ptp, pairwise(edges))) - min(map(np.ptp, pairwise(edges))) <= chains // periods
    found = [lo + whole.part(lo, hi).batches()[:-1] for lo, hi in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(found), whole.batches()[:-1])
    assert sum(whole.part(lo, hi).counts.shape[1] for lo, hi in pairwise(edges)) == whole.counts.shape[1]


def test_norms_on_a_gpu(simulated):
    """Sums of squares of normals and scores, which do not depend on the other chains of a launch."""
    size, m, first = NORMS["size"], NORMS["m"], NORMS["first"]
    xi = chain_normals(first, size * m, 0, NORMS["chains"], DYNAMICS, NORMS["seed"], np.dtype(float))
    expected = [np.square(xi).sum(axis=1), np.square(scores_of_norms()).sum(axis=1)]
    np.testing.assert_allclose(simulated["norms"], expected, rtol=1e-13)
    np.testing.assert_array_equal(simulated["norms alone"], simulated["norms"])


def test_tables_of_each_chain(simulated):
    np.testing.assert_array_equal(simulated["apart"], 0)


@pytest.mark.parametrize(("dtype", "moved"), [("float32", "v4.f32"), ("float64", "v2.f64")])
def test_images_move_four_numbers_at_once(dtype, moved):
    from analysis import registers
    from uldnum.kernels.cuda.binding import ptx

    text = ptx(registers.Case("update", 2, 2, 0, dtype).kernel(), (9, 0))  # other tests compile this kernel, too
    assert f"ld.global.{moved}" in text
    assert f"st.global.{moved}" in text


def test_launches_do_not_matter(simulated):
    n = CASES.index(("UBU", "3 diagonal", "float64"))
    for i in range(8):
        np.testing.assert_array_equal(simulated[f"resumed {i}"], simulated[f"{n} {i}"])


# ------------------------------------------------------------------------------------------------------------ compiled


def check_registers(case, counts):
    """No register is spilled, and no instruction may be contracted by an assembler or deviates from IEEE arithmetic."""
    for count in counts:
        assert count.spilled == 0, case
        assert count.loose == 0, case
        assert count.registers <= 255, case


def short(case):
    """Whether a case uses the scheme that takes the most registers (`analysis/registers.md`), in a few kernels.

    Together these cases compile every function that any kernel uses.
    """
    from analysis import registers

    pair, kind = registers.SCHEMES.get((case.k, case.m)), (case.name, case.d, case.dtype)
    return pair == "UBU" and kind in {
        ("chains", 4, "float64"),  # every register is taken
        ("chains", 2, "float32"), ("levels", 2, "float64"), ("update", 0, "float32"), ("update", 0, "float64"),
    }  # fmt: skip


def test_kernels_fit_into_registers():
    """A subset of the kernels, compiled in this process, which reuses the core of other tests."""
    from analysis import registers

    chosen = [case for case in registers.cases() if short(case)]
    assert len(chosen) == 5
    for case in chosen:
        check_registers(case, registers.counts([(9, 0)], case))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_norms_fit_into_registers(dtype):
    from analysis import registers
    from uldnum.kernels.cuda.norms import NormForm, sum_kernel, total_kernel

    for kernel in (sum_kernel(NormForm(dtype, False, 2, 0, True)), total_kernel()):
        check_registers(kernel.name, [registers.assemble(kernel, (9, 0))])


@pytest.mark.slow
def test_everything_fits_into_registers():
    from analysis import registers

    for case, counts in registers.count_all(registers.cases()):
        check_registers(case, counts)


def user_kernel(score, d, args=(), dtype="float64", scheme="BAOAB", **known):
    """Return the kernel of an integrator on a target with a user's score, which records all moments."""
    from analysis import registers

    return registers.kernel_of(uldnum.UserTarget(score, d, args=args, **known), scheme, np.dtype(dtype))


# The sizes and types of a list are known to Numba's target for CPUs only.
ON_GPU = [case[:3] for case in LIFTED if case[0].__name__ != "listing"]


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        pytest.param(case, dtype, marks=[] if case[0] is rosenbrock and dtype == "float64" else pytest.mark.slow)
        for case in ON_GPU
        for dtype in ("float64", "float32")
    ],
    ids=lambda part: part if isinstance(part, str) else part[0].__name__,
)
def test_scores_of_users_fit_into_registers(case, dtype):
    from analysis import registers

    kernel = user_kernel(*case, dtype)
    assert not kernel.stored
    check_registers(case, [registers.assemble(kernel, (9, 0))])


@pytest.mark.parametrize("dtype", [pytest.param("float64", marks=pytest.mark.slow), "float32"])
@pytest.mark.parametrize("case", [WITH_DENSITY[0], WITH_DENSITY[2]], ids=["two functions", "one function"])
def test_log_densities_of_users_fit_into_registers(case, dtype):
    from analysis import registers

    score, density, d, args = case
    own = {"log_density": density, "returns_log_density": density is None}
    check_registers(case, [registers.assemble(user_kernel(score, d, args, dtype, "ghmc", **own), (9, 0))])


def test_kernels_of_users_differ_by_function_and_types():
    """Closures of one function, and arguments of other types, have kernels of their own; equal ones are reused."""

    def made(factor):
        @numba.njit
        def score(x, out, *args):
            out[0] = -factor * x[0]

        return score

    one, other = made(1.0), made(2.0)
    assert user_kernel(one, 1) is user_kernel(one, 1)
    keys = [
        user_kernel(one, 1).key, user_kernel(other, 1).key, user_kernel(one, 1, (1,)).key,
        user_kernel(one, 1, (1.0,)).key, user_kernel(one, 1, (np.ones(2),)).key, user_kernel(one, 1, ((1, 2.0),)).key,
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)


def test_the_functions_of_a_user_are_those_of_the_core():
    """A score calls the polynomials of the core, also by functions and modules that it calls, and not a library."""
    from uldnum.kernels.cuda.binding import ptx

    @numba.njit
    def inner(y):
        return math.tanh(y) + np.exp(y) * np.where(y > 1, np.sqrt(y), 2) + math.sin(2)

    @numba.njit
    def score(x, out):
        out[0] = -inner(x[0]) + np.log(np.abs(x[0]) + np.pi)

    text = ptx(user_kernel(score, 1), (9, 0))
    assert "__nv_" not in text
    # Those of CUDA have tables in constant memory, or calls.
    assert ".const" not in text


@pytest.mark.parametrize("word", ["BAB", pytest.param("AB", marks=pytest.mark.slow)])
def test_words_without_noise_compile(word):
    """Numba does not compile arrays of length 0, which the simulator accepts."""
    from uldnum.kernels.cuda.binding import ptx
    from uldnum.kernels.cuda.chains import chain_kernel
    from uldnum.kernels.cuda.form import ChainForm, MixtureForm

    with pytest.warns(UserWarning, match="no noise"):
        scheme = uldnum.integrator(word)
    tables = phase(lay_out([scheme.stages(np.array([0.1]))], np.dtype(np.float32)), 0, 0)
    form = ChainForm.of(tables, MixtureForm.of(TARGETS["1"].kernel_data(np.dtype(np.float32))), False, 0, True)
    assert ".entry" in ptx(chain_kernel(form), (9, 0))


def test_schemes_of_many_rows_are_refused():
    def nine(h, friction):
        map = Affine(table(h, np.zeros((9, 9)).tolist()), table(h, [0.0] * 9), table(h, [[1.0]] * 9))
        return Step.on_step(first_row(map.b), map)

    scheme = uldnum.Integrator("nine", nine)
    with pytest.raises(ValueError, match="'cuda' supports schemes of at most 8 rows, not 9"):
        uldnum.sample(TARGETS["1"], scheme, h=0.1, steps=1, chains=1, backend="cuda", progress=False)


@numba.njit
def mixed(x, out, whole, real, single, flag, table, pair):
    out[0] = -x[0] * (whole + real + single + flag + table[1, 0] + pair[0] + pair[1])


@pytest.mark.parametrize("name", ["chains", "levels", "user"])
def test_a_launch_has_the_parameters_of_its_kernel(name):
    """Of kernels for one part of a phase, and for many; `test_kernels_fit_into_registers` compiles them, too.

    The score of a user has arguments of all types.
    """
    from analysis import registers
    from uldnum.kernels.cuda.binding import ptx
    from uldnum.kernels.cuda.device import arguments

    if name == "user":
        kernel = user_kernel(mixed, 1, (1, 2.0, np.float32(3), True, np.ones((2, 2)), (np.int32(4), 5.0)), "float32")
    else:
        kernel = registers.Case(name, 2, 2, 4 if name == "chains" else 2, "float64").kernel()

    def example(kind):
        if hasattr(kind, "types"):
            return getattr(kind, "instance_class", lambda *parts: parts)(*map(example, kind.types))
        return np.zeros((2,) * kind.ndim, kind.dtype.name) if hasattr(kind, "ndim") else 1

    values = {name: example(kind) for name, kind in kernel.parameters.items()}
    widths = [np.dtype(np.uint64) if value.ndim else value.dtype for value in arguments(kernel, values)]
    declared = re.findall(r"\.param \.(\w)(\d+)", ptx(kernel, (9, 0)).partition("{")[0])
    assert [8 * width.itemsize for width in widths] == [int(bits) for _, bits in declared]


def test_kernels_are_kept_on_disk(tmp_path, monkeypatch):
    from uldnum.kernels.cuda import device
    from uldnum.kernels.cuda.stages import StageForm, stage_kernel

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernel = stage_kernel(StageForm("float32", True, 1, 1, 1, 0, 0, 0, False))
    path = device.code(kernel, (8, 0))
    text = path.read_text()
    assert "sm_80" in text
    assert text.startswith("// sha256 ")  # a comment
    monkeypatch.setattr(device, "ptx", lambda *_: ".entry again")
    assert device.code(kernel, (8, 0)).read_text() == text
    assert device.code(kernel, (9, 0)) != path
    for damaged in (text[:-100], "", ".entry other", text.replace("sm_80", "sm_70")):
        path.write_text(damaged)
        with pytest.warns(UserWarning, match=f"{path}' cannot be used: the file is damaged; it is compiled again"):
            assert device.code(kernel, (8, 0)).read_text().endswith(".entry again")
    assert device.code(kernel, (8, 0)) == path


def test_kernels_that_cannot_be_kept_are_used(tmp_path, monkeypatch):
    from uldnum.jit import cache
    from uldnum.kernels.cuda import device
    from uldnum.kernels.cuda.stages import StageForm, stage_kernel

    (tmp_path / "uldnum").touch()  # in place of the cache folder
    cache.reasons.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(device, "ptx", lambda *_: ".entry here")
    kernel = stage_kernel(StageForm("float32", True, 1, 1, 1, 0, 0, 0, False))
    with pytest.warns(UserWarning, match="cannot be stored in .*Not a directory|cannot be stored in .*File exists"):
        path = device.code(kernel, (8, 0))
    assert path.read_text() == ".entry here"
    cache.reasons.cache_clear()


def constants(form):
    """Return the values of all fields of a form, also those in tuples."""
    if is_dataclass(form):
        return constants(tuple(getattr(form, field.name) for field in fields(form)))
    return [one for part in form for one in constants(part)] if isinstance(form, tuple) else [form]


def test_kernels_of_image_and_plan_launches_compile(monkeypatch):
    """The simulator accepts what Numba does not, such as NumPy integers as compile-time constants."""
    from uldnum.kernels.cuda import device, executor, images
    from uldnum.kernels.cuda.binding import ptx

    class Recorder(device.Simulator):
        def launch(self, kernel, threads, values):
            launched.append(kernel)

    launched = []
    for module in (images, executor):
        monkeypatch.setattr(module, "device", Recorder)
    sample_images(("UBU", IMAGES[1], "float32"), "cuda")
    levels = uldnum.levels.geometric(2.0, 0.5, 3)
    plan = uldnum.plan("BAOAB", levels, h=0.5, momentum="refreshed")
    uldnum.anneal(TARGETS["2 of 40"], plan, chains=3, backend="cuda", progress=False)
    images_law = NoisedImages((1, 5), np.zeros(1))
    with pytest.warns(UserWarning, match="biases the samples"):
        uldnum.anneal(images_law, uldnum.plan("ula", levels, snr=0.16), chains=3, x0="target", backend="cuda")
    assert {type(value) for kernel in launched for value in constants(kernel.key)} == {str, bool, int}
    first = {kernel.name: kernel for kernel in reversed(launched)}
    assert set(first) == {"update", "advance", "squares", "totals"}
    for kernel in first.values():
        assert ".entry" in ptx(kernel, (9, 0))


def events_of(monkeypatch, module, run):
    """Return the transfers and launches of a run without kernels: "launch", or direction and number of bytes."""
    from uldnum.kernels.cuda import device

    events = []

    class Counter(device.Simulator):
        def array(self, values):
            events.append(("in", values.nbytes))
            return super().array(values)

        def host(self, values):
            events.append(("out", values.nbytes))
            return super().host(values)

        def launch(self, kernel, threads, values):
            events.append("launch")

    monkeypatch.setattr(module, "device", Counter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        run()
    return events


def during(events):
    """Return the transfers between the first launch and the last one."""
    last = len(events) - 1 - events[::-1].index("launch")
    return [event for event in events[events.index("launch") : last] if event != "launch"]


CHAINS, PIXELS, REAL = 3, 12, 8  # of the runs below, and the bytes of a number


@pytest.mark.parametrize("method", ["BAOAB", "heun"])
def test_levels_of_a_launch_transfer_nothing(monkeypatch, method):
    """Tables and bounds of all levels are copied before the first launch, the final state after the last one."""
    from uldnum.kernels.cuda import images

    law = NoisedImages((3, 2, 2), np.zeros(1))
    plan = uldnum.plan(method, uldnum.levels.geometric(2.0, 0.5, 5), **({} if method == "heun" else {"h": 0.5}))
    options = {"chains": CHAINS, "x0": "target", "dtype": "float64", "backend": "cuda", "progress": False}
    monkeypatch.setattr(images.ImageExecutor, "first_launch", lambda executor, state: plan.steps)
    events = events_of(monkeypatch, images, lambda: uldnum.anneal(law, plan, **options))
    assert events.count("launch") >= 5
    assert not during(events)
    monkeypatch.setattr("uldnum.kernels.cuda.images.MAX_COEFFICIENTS", 2 * 2 * PIXELS)  # two levels at once
    events = events_of(monkeypatch, images, lambda: uldnum.anneal(law, plan, **options))
    assert len(during(events)) == -(-len(plan.phases) // 2) - 1
    kept = events_of(monkeypatch, images, lambda: uldnum.anneal(law, plan, keep=True, **options))
    assert kept.count(("out", CHAINS * PIXELS * REAL)) >= len(plan.phases)
    rows = ("out", plan.rows * CHAINS * PIXELS * REAL)
    assert kept.count(rows) == (2 if plan.rows > 1 else len(plan.phases) + 2)  # u and (x, p), once


def test_adaptive_steps_copy_two_numbers_a_chain_and_the_tables(monkeypatch):
    from uldnum.kernels.cuda import images

    law, plan = NoisedImages((3, 2, 2), np.zeros(1)), uldnum.plan("ula", uldnum.levels.given([1.0]), steps=6, snr=0.1)
    options = {"chains": CHAINS, "x0": "target", "dtype": "float64", "backend": "cuda", "progress": False}
    monkeypatch.setattr(images.ImageExecutor, "first_launch", lambda executor, state: plan.steps)
    events = events_of(monkeypatch, images, lambda: uldnum.anneal(law, plan, **options))
    assert {event for event in during(events) if event[0] == "out"} == {("out", 2 * CHAINS * REAL)}
    assert {event for event in during(events) if event[0] == "in"} == {("in", 3 * CHAINS * REAL)}  # dA, b and C


def test_images_are_copied_at_their_stride(monkeypatch):
    from uldnum.kernels.cuda import images

    options = {"h": 0.2, "steps": 12, "burn_in": 3, "chains": CHAINS, "thin": 4, "backend": "cuda", "progress": False}
    target = Images((3, 2, 2), np.zeros(1))
    events = events_of(monkeypatch, images, lambda: uldnum.sample(target, "BAOAB", dtype="float64", **options))
    assert during(events) == [("out", CHAINS * PIXELS * REAL)] * 2  # the third one follows the last launch


# ------------------------------------------------------------------------------------------------------------ messages


def test_refusals():
    with pytest.raises(ValueError, match="'cuda-fast' needs float32, got float64"):
        sample(("BAOAB", "2", "float64"), "cuda-fast")
    for like in (None, np.zeros(1)):  # vectors, for any array library
        target = uldnum.UserTarget(lambda x: -x, 1, like=like)
        with pytest.raises(ValueError, match="'cuda' runs mixtures, compiled scores, and images"):
            uldnum.sample(target, "BAOAB", h=0.1, steps=1, chains=1, backend="cuda")
    plan = uldnum.plan("ula", uldnum.levels.given([1.0]), snr=0.16)
    with pytest.raises(ValueError, match=r"\(snr\) need 'array', or 'cuda' for images, got 'cuda'"):
        uldnum.anneal(TARGETS["2"], plan, chains=1, backend="cuda")


@numba.njit
def sorting(x, out):
    out[0] = 0.0
    out[0] = np.sort(x)[0]


@numba.njit
def array_making(x, out):
    out[:] = -x


@numba.njit
def sign(x, out):
    out[0] = -np.sign(x[0])


@pytest.mark.parametrize(
    ("score", "line", "why"),
    [
        (sorting, "out[0] = np.sort(x)[0]", "No implementation of function"), (array_making, "out[:] = -x", ""),
        (sign, "out[0] = -np.sign(x[0])", "sign"),
    ],
)  # fmt: skip
def test_the_line_that_does_not_compile_is_named(score, line, why, monkeypatch):
    from uldnum.kernels.cuda import device, executor

    monkeypatch.setattr(executor, "device", device.Simulator)
    target = uldnum.UserTarget(score, 1)
    start, lines = score.py_func.__code__.co_firstlineno, inspect.getsource(score.py_func).splitlines()
    number = start + next(i for i, text in enumerate(lines) if line in text)
    with pytest.raises(ValueError, match=re.escape(f"{__file__}:{number}: '{line}': ") + f".*{why}"):
        uldnum.sample(target, "BAOAB", h=0.1, steps=1, chains=1, x0=[[0.0]], backend="cuda", progress=False)


def test_arguments_of_other_types_are_refused(monkeypatch):
    from uldnum.kernels.cuda import device, executor

    @numba.njit
    def score(x, out, name):
        out[0] = -x[0]

    monkeypatch.setattr(executor, "device", device.Simulator)
    for wrong in ("name", 1j, np.array(1.0)):
        target = uldnum.UserTarget(score, 1, args=(wrong,))
        with pytest.raises(ValueError, match=r"^args: must be real numbers and arrays of them for backend 'cuda', got"):
            uldnum.sample(target, "BAOAB", h=0.1, steps=1, chains=1, x0=[[0.0]], backend="cuda", progress=False)


def test_devices_are_checked(monkeypatch):
    from uldnum.kernels.cuda import device

    monkeypatch.setattr(device, "device_count", lambda: 2)
    for devices, message in [
        (1, "must be a list of numbers of GPUs, got 1"), ([], r"must be a list of numbers of GPUs, got \[\]"),
        ([0.5], "must be an integer, got 0.5"), ([-1], "must be at least 0"),
        ([0, 0], r"must be different, got \[0, 0\]"),
        ([0, 2], "must be less than 2, the number of GPUs of this process, got 2"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=f"devices: {message}"):
            sample(("BAOAB", "2", "float64"), "cuda", devices=devices)
    with pytest.raises(ValueError, match="devices: needs backend 'cuda' or 'cuda-fast', got 'numba'"):
        sample(("BAOAB", "2", "float64"), "numba", devices=[0])
    with pytest.raises(ValueError, match=r"devices: needs a network that is an ONNX model .* by first_chain="):
        uldnum.sample(IMAGES[0], "ULA", h=0.1, steps=1, chains=2, backend="cuda", devices=[0, 1])
    monkeypatch.setattr("uldnum.kernels.cuda.executor.device", device.Simulator)
    with pytest.raises(ValueError, match="chains: must be at least 2, got 1; or give fewer devices"):
        sample(("BAOAB", "2", "float64"), "cuda", chains=1, bins=0, devices=[0, 1])


@pytest.mark.parametrize("module", ["cupy", "numba_cuda"])
def test_a_missing_package_is_named(module, monkeypatch):
    from uldnum.kernels.cuda import device

    device.numbered.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'uldnum\[cuda\]'"):
        sample(("BAOAB", "2", "float64"), "cuda")


class NoDriverError(Exception):
    pass


def no_driver(missing):
    """Return a stand-in for CuPy without a driver, or with an old GPU."""

    def device(number=0):
        if missing:
            raise NoDriverError("cudaErrorInsufficientDriver")
        return SimpleNamespace(id=0, compute_capability="52")

    properties = {"name": b"Tesla M40"}
    runtime = SimpleNamespace(CUDARuntimeError=NoDriverError, getDeviceProperties=lambda number: properties)
    return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime, Device=device))


@pytest.mark.parametrize(("missing", "message"), [(True, "needs an NVIDIA GPU and its driver"), (False, "has 5.2")])
def test_an_unusable_gpu_is_named(missing, message, monkeypatch):
    from uldnum.kernels.cuda import device

    device.numbered.cache_clear()
    monkeypatch.setitem(sys.modules, "cupy", no_driver(missing))
    with pytest.raises(RuntimeError, match=message):
        sample(("BAOAB", "2", "float64"), "cuda")


def test_a_gpu_is_the_current_one_of_its_calls(monkeypatch):
    """A stand-in for CuPy notes which GPU is the current one when memory is allocated, copied or waited for."""
    from uldnum.kernels.cuda import device

    current, seen = [0], []

    class Device:
        compute_capability = "90"

        def __init__(self, number=None):
            self.id = current[-1] if number is None else number

        def __enter__(self):
            current.append(self.id)

        def __exit__(self, *_):
            current.pop()

    def noted(result=None):
        return lambda *_, **__: (seen.append(current[-1]), result)[1]

    runtime = SimpleNamespace(
        CUDARuntimeError=NoDriverError, getDeviceProperties=lambda number: {"name": b"H200"}, memGetInfo=noted((8, 9)),
        getDeviceCount=lambda: 3,
    )  # fmt: skip
    cuda = SimpleNamespace(
        runtime=runtime, Device=Device, get_current_stream=lambda: SimpleNamespace(synchronize=noted())
    )  # fmt: skip
    array = SimpleNamespace(set=noted())
    cupy = SimpleNamespace(
        cuda=cuda, empty=noted(array), asnumpy=noted(np.zeros(1)), ascontiguousarray=noted(),
        get_default_memory_pool=lambda: SimpleNamespace(free_bytes=lambda: 0),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    device.numbered.cache_clear()
    assert device.device_count() == 3
    with device.on_device(2):
        here = device.device()
    assert current == [0]
    assert (here.number, device.device().number, device.device() is here) == (2, 0, False)
    monkeypatch.setattr(here, "function", lambda kernel: noted())
    for call in (here.like, here.empty):
        call(array, float)
    for call in (here.wait, here.free):
        call()
    here.array(np.zeros(1))  # allocates and copies
    here.host(array)
    here.launch(Kernel(noted(), {}, "nothing"), (1, 1), {})
    assert seen == [2] * 8
    assert current == [0]
    device.numbered.cache_clear()


def test_threads_compile_one_kernel_at_a_time(monkeypatch):
    from uldnum.kernels.cuda import device

    running, most = [], []

    def load(here, kernel):
        running.append(kernel)
        time.sleep(0.05)
        most.append(len(running))
        running.remove(kernel)
        return kernel.name

    monkeypatch.setattr(device.CuPy, "load", load)
    gpus = [device.CuPy.__new__(device.CuPy) for _ in range(2)]
    for gpu in gpus:
        gpu.loaded = {}
    kernels = [SimpleNamespace(key=n, name=f"kernel {n}") for n in range(2)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda gpu: [gpu.function(kernel) for kernel in [*kernels, *kernels]], gpus))
    assert found == [["kernel 0", "kernel 1"] * 2] * 2
    assert most == [1] * 4


def test_too_many_chains_are_refused(monkeypatch):
    from uldnum.kernels.cuda import device, executor

    little = device.Simulator()
    monkeypatch.setattr(little, "free", lambda: 100_000)
    monkeypatch.setattr(executor, "device", lambda: little)
    with pytest.raises(ValueError, match=r"chains: 10000 chains need .* GiB are available; use at most \d+ chains"):
        sample(("BAOAB", "2", "float64"), "cuda", chains=10_000)

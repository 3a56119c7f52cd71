"""The GPU kernels without a GPU: compiled and assembled, and run by Numba's simulator.

Run as a script, in a process of its own, this file samples in the simulator: whether Numba simulates is decided once.
"""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_integrators import CATALOGUE

import uldnum
from analysis.gpu_check import Images
from uldnum.kernels.source.core import lay_out, phase
from uldnum.schemes.stage import Affine, Step, first_row, table

DTYPES = ("float64", "float32")
TOLERANCE = {"float64": 1e-13, "float32": 5e-6}
SCHEMES = [*CATALOGUE, "ABAOABA"]
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def mixture(d, kind="isotropic", components=3):
    rng = np.random.default_rng(d)
    weights, means = np.full(components, 1 / components), rng.normal(size=(components, d))
    if kind == "isotropic":
        return uldnum.GaussianMixture(weights, means, rng.uniform(0.5, 2, size=components))
    if kind == "diagonal":
        return uldnum.GaussianMixture(weights, means, rng.uniform(0.5, 2, size=(components, d)))
    roots = np.eye(d) + 0.3 * np.tril(rng.normal(size=(components, d, d)))
    return uldnum.GaussianMixture(weights, means, covariances=roots @ roots.swapaxes(1, 2))


# In registers; mostly in registers; in global memory; mixtures in registers and in global memory.
TARGETS = {
    "1": mixture(1),
    "2": mixture(2),
    "3 diagonal": mixture(3, "diagonal"),
    "2 full": mixture(2, "full"),
    "2 of 40": mixture(2, components=40),
    "5": mixture(5),
    "9 full": mixture(9, "full"),
}
CASES = [(scheme, "2", dtype) for scheme in SCHEMES for dtype in DTYPES]
CASES += [(scheme, name, dtype) for scheme in ("BAOAB", "UBU") for name in TARGETS if name != "2" for dtype in DTYPES]


def sample(case, backend, steps=7, **changes):
    scheme, name, dtype = case
    arguments = {"h": [0.2, 0.4], "burn_in": 2, "chains": 3, "first_chain": 4, "seed": 2**40 + 5, "thin": 3}
    options = {"bins": 0 if name == "5" else 8, "dtype": dtype, "backend": backend, "steps": steps, "progress": False}
    return uldnum.sample(TARGETS[name], scheme, **arguments | options | changes)


IMAGES = Images((3, 2, 2), np.zeros(1)), Images((1, 5), np.zeros(1))
IMAGE_CASES = [
    (scheme, images, dtype)
    for scheme in ("BAOAB", "OBABO", "UBU", "mild(0.5)", "ABAOABA", "ULA")
    for images in IMAGES
    for dtype in DTYPES
]


def sample_images(case, backend):
    """With ULA the second step size is far from stable."""
    scheme, images, dtype = case
    h = [0.2, 60.0] if scheme == "ULA" else [0.2, 0.4]
    options = {"h": h, "steps": 5, "burn_in": 1, "chains": 3, "first_chain": 4, "seed": 2**40 + 5, "thin": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return uldnum.sample(images, scheme, dtype=dtype, backend=backend, progress=False, **options)


def results(run):
    state = run.state
    own = (state.sums, state.products, state.counts, state.escape_step, state.nfe)
    parts = (state.u, state.phase_space, run.trace, *own)
    return [np.asarray(part) for part in parts]


def update(u, s, coefficients, apart, first_chain):
    """Launch one map on u (rows, chains, size), with tables of each chain or one for all."""
    from uldnum.kernels.cuda.device import device
    from uldnum.kernels.cuda.stages import Batch, MapTable, Numbers, StageForm, stage_kernel
    from uldnum.kernels.source.core import NEVER

    k, chains, size = u.shape
    dA, b, C = (part.ravel() for part in coefficients)
    flat, bound = u.reshape(-1), np.full(size, 1e9)
    values = {
        "images": Batch(flat, flat, s.ravel(), -bound, bound, np.full(chains, NEVER)),
        "of": MapTable(dA, b, C, apart),
        "numbers": Numbers(chains, size, first_chain, 6, 0, np.uint64(1), np.uint64(2), 3),
    }
    kernel = stage_kernel(StageForm("float64", False, k, k, 1, 0, 2, 0, False))
    device().launch(kernel, (chains * -(-size // 4), 1), values)


def tables_of_each_chain():
    """Difference between one launch with tables of its own for each chain, and a launch for each chain."""
    rng = np.random.default_rng(0)
    k, chains, size = 2, 3, 5
    u, s = rng.normal(size=(k, chains, size)), rng.normal(size=(chains, size))
    coefficients = [rng.normal(size=(chains, *shape)) for shape in ((k, k), (k,), (k, 1))]
    together = u.copy()
    update(together, s, coefficients, 1, 0)
    for c in range(chains):
        alone = u[:, c : c + 1].copy()
        update(alone, s[c : c + 1], [part[c] for part in coefficients], 0, c)
        u[:, c : c + 1] = alone
    return np.abs(together - u)


def stopped_plans(path):
    """Ends of a plan with phases of two forms, run whole, and stopped and resumed: between phases, and in one."""
    from test_plan import stop_and_go_on

    from uldnum.kernels.cuda.executor import CudaExecutor

    levels = uldnum.levels.geometric(2.0, 0.5, 3)
    plan = uldnum.plan("UBU", levels, steps=3, h=0.5, predictor="ancestral", momentum="refreshed")
    options = {"chains": 3, "first_chain": 4, "seed": 5, "backend": "cuda"}
    ends = []
    with pytest.MonkeyPatch.context() as patch:
        for launch, checks, keep in ((1, 3, False), (1, 3, True), (1, 5, False)):
            patch.setattr(CudaExecutor, "first_launch", lambda executor, state, launch=launch: launch)
            whole, stopped, longer = stop_and_go_on(
                patch, path, checks, TARGETS["3 diagonal"], plan, keep=keep, **options
            )
            assert stopped.state.step == checks
            ends += [whole.state.phase_space, longer.state.phase_space, *(longer.trace[-1:] if keep else ())]
    return ends


def unlike_cpu():
    """Runs of plans on the GPU and on the CPU that take other ways than most.

    Phases of several forms; chains in global memory, of two forms; levels that do not fit into one launch;
    chains that diverge.
    """

    def both(target, plan):
        options = {"chains": 4, "first_chain": 9, "seed": 5, "progress": False}
        return [uldnum.anneal(target, plan, backend=backend, **options).state for backend in ("cuda", "numba")]

    levels = uldnum.levels.geometric(2.0, 0.5, 4)
    plan = uldnum.plan("UBU", levels, steps=3, h=0.5, predictor="ancestral", momentum="refreshed")
    yield both(TARGETS["3 diagonal"], plan)
    yield both(TARGETS["9 full"], plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uldnum.kernels.cuda.executor.MOST", 400)
        yield both(TARGETS["2 of 40"], uldnum.plan("ula", uldnum.levels.geometric(5.0, 0.1, 7), h=0.5))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", UserWarning)
        wild = uldnum.plan("ula", uldnum.levels.given([1.0, 0.9, 0.8]), steps=10, h=2.6)
        yield both("ring-8", wild)


def simulate(path):
    """Sample every case in the simulator, and one in two pieces; draw the known answers."""
    from analysis import gpu_check
    from uldnum.kernels.cuda.binding import SIMULATED, ops
    from uldnum.kernels.cuda.device import device
    from uldnum.kernels.source.core import make_core

    assert SIMULATED
    saved = {}
    with np.errstate(over="ignore"):
        philox = make_core(ops(np.dtype(float), False)).philox
        for n, (counter, key, _) in enumerate(KNOWN_ANSWERS):
            words = philox(*map(np.uint64, counter), *map(np.uint64, key))
            saved[f"philox {n}"] = np.array([int(word) & 0xFFFFFFFF for word in words])
    for n, case in enumerate(CASES):
        saved |= {f"{n} {i}": part for i, part in enumerate(results(sample(case, "cuda")))}
    for n, case in enumerate(IMAGE_CASES):
        saved |= {f"image {n} {i}": part for i, part in enumerate(results(sample_images(case, "cuda")))}
    gpu_check.CHAINS, gpu_check.STEPS, gpu_check.SCHEMES = 2, 10, ("BAOAB",)
    saved["checked"] = np.array([row["relative, 20 steps"] for row in gpu_check.bits() if row["dtype"] == "float64"])
    saved["varies"] = np.array([name for found in gpu_check.invariance(device()).values() for name in found])
    saved["images"] = np.array([row["relative"] for row in gpu_check.image_chains(device())])
    gpu_check.PLAN_LEVELS = 3
    plans = gpu_check.plans()
    saved["plans"] = np.array([row["relative"] / TOLERANCE[row["dtype"]] for row in plans])
    saved["plans count"] = np.array([row["left and nfe equal"] for row in plans])
    for n, (gpu, cpu) in enumerate(unlike_cpu()):
        saved |= {
            f"gpu {n}": gpu.phase_space,
            f"cpu {n}": cpu.phase_space,
            f"left {n}": np.array([gpu.escape_step, cpu.escape_step, gpu.nfe, cpu.nfe]),
        }
    saved |= {f"stopped {i}": part for i, part in enumerate(stopped_plans(path.with_name("plan.nc")))}
    saved["apart"] = tables_of_each_chain()
    first = sample(("UBU", "3 diagonal", "float64"), "cuda", steps=4)
    whole = sample(("UBU", "3 diagonal", "float64"), "cuda", steps=7, resume=first)
    saved |= {f"resumed {i}": part for i, part in enumerate(results(whole))}
    np.savez(path, **saved)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    path = tmp_path_factory.mktemp("simulated") / "results.npz"
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    subprocess.run([sys.executable, "-W", "ignore", __file__, path], env=environment, check=True)
    return np.load(path)


@pytest.mark.parametrize("n", range(len(KNOWN_ANSWERS)))
def test_known_answers(simulated, n):
    assert " ".join(f"{word:08x}" for word in simulated[f"philox {n}"]) == KNOWN_ANSWERS[n][2]


def compare(simulated, name, expected, dtype):
    """Relative to the largest number of what is compared."""
    for i, part in enumerate(expected):
        scale = TOLERANCE[dtype] * np.abs(part).max(initial=0) if part.dtype.kind == "f" else 0
        np.testing.assert_allclose(simulated[f"{name} {i}"], part, rtol=0, atol=scale)


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_simulated_gpu_equals_cpu(simulated, case):
    """The simulator has no fused multiply-add, which is why the bits are not the same here."""
    compare(simulated, CASES.index(case), results(sample(case, "numba")), case[2])


@pytest.mark.parametrize("case", IMAGE_CASES, ids=lambda case: f"{case[0]} {case[1].shape} {case[2]}")
def test_simulated_images_equal_cpu(simulated, case):
    """Three chains; with five coordinates a chain's normals begin anywhere in a block."""
    run = sample_images(case, "array")
    assert run.diverged.any() == (case[0] == "ULA")
    compare(simulated, f"image {IMAGE_CASES.index(case)}", results(run), case[2])


def test_what_a_gpu_will_be_asked(simulated):
    """`analysis.gpu_check` runs, as far as it can here."""
    assert len(simulated["checked"]) == 6
    assert simulated["checked"].max() < 1e-12
    assert not simulated["varies"].size
    assert simulated["images"].max() < 1e-13


def test_simulated_plans_equal_cpu(simulated):
    """Ten plans in either type, relative to what is allowed."""
    assert len(simulated["plans"]) == 20
    assert simulated["plans"].max() < 1
    assert simulated["plans count"].all()


@pytest.mark.parametrize("n", range(4))
def test_ways_of_plans_on_a_gpu(simulated, n):
    """`unlike_cpu` says which; of chains that diverged the numbers say nothing."""
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


def test_tables_of_each_chain(simulated):
    np.testing.assert_array_equal(simulated["apart"], 0)


def test_images_move_four_numbers_at_once():
    from uldnum.kernels.cuda.binding import ptx
    from uldnum.kernels.cuda.stages import StageForm, stage_kernel

    for dtype, moved in (("float32", "v4.f32"), ("float64", "v2.f64")):
        text = ptx(stage_kernel(StageForm(dtype, False, 2, 2, 1, 0, 0, 0, True)), (9, 0))
        assert f"ld.global.{moved}" in text
        assert f"st.global.{moved}" in text


def test_launches_do_not_matter(simulated):
    n = CASES.index(("UBU", "3 diagonal", "float64"))
    for i in range(8):
        np.testing.assert_array_equal(simulated[f"resumed {i}"], simulated[f"{n} {i}"])


# ------------------------------------------------------------------------------------------------------------ compiled


def check_registers(case, counts):
    """No register is spilled; nothing is left that an assembler may contract, nothing that is not IEEE's."""
    for count in counts:
        assert count.spilled == 0, case
        assert count.loose == 0, case
        assert count.registers <= 255, case


def short(case):
    """The pairs of the catalogue that take the most registers, by `analysis/registers.md`, and ULA, the fewest.

    All that any kernel is compiled from is compiled for these.
    """
    from analysis import registers

    pair, kind = registers.SCHEMES.get((case.k, case.m)), (case.name, case.d, case.dtype)
    if kind == ("chains", 4, "float64"):  # where every register is taken
        return pair in ("BAOAB", "UBU")
    if kind == ("chains", 2, "float32"):
        return pair in ("ULA", "UBU")
    return pair == "UBU" and kind in {
        ("chains", 2, "float64"), ("levels", 2, "float64"), ("update", 0, "float32"), ("update", 0, "float64"),
    }  # fmt: skip


def test_kernels_fit_into_registers():
    """In this process, whose other tests compile the same core; the slow test sees every kernel."""
    from analysis import registers

    chosen = [case for case in registers.cases() if short(case)]
    assert len(chosen) == 8
    for case in chosen:
        check_registers(case, registers.counts([(9, 0)], case))


@pytest.mark.slow
def test_everything_fits_into_registers():
    from analysis import registers

    for case, counts in registers.count_all(registers.cases()):
        check_registers(case, counts)


@pytest.mark.parametrize("word", ["AB", "BAB"])
def test_words_without_noise_compile(word):
    """Numba has no arrays of no numbers; the simulator has."""
    from uldnum.kernels.cuda.binding import ptx
    from uldnum.kernels.cuda.chains import chain_kernel
    from uldnum.kernels.cuda.form import ChainForm

    with pytest.warns(UserWarning, match="no noise"):
        scheme = uldnum.integrator(word)
    tables = phase(lay_out([scheme.stages(np.array([0.1]))], np.dtype(np.float32)), 0, 0)
    form = ChainForm.of(tables, TARGETS["1"].kernel_data(np.dtype(np.float32)), False, False, True)
    assert ".entry" in ptx(chain_kernel(form), (9, 0))


def test_schemes_of_many_rows_are_refused():
    def nine(h, friction):
        map = Affine(table(h, np.zeros((9, 9)).tolist()), table(h, [0.0] * 9), table(h, [[1.0]] * 9))
        return Step.on_step(first_row(map.b), map)

    scheme = uldnum.Integrator("nine", nine)
    with pytest.raises(ValueError, match="'cuda' runs schemes of at most 8 rows, not 9"):
        uldnum.sample(TARGETS["1"], scheme, h=0.1, steps=1, chains=1, backend="cuda", progress=False)


def test_a_launch_has_the_parameters_of_its_kernel():
    from uldnum.kernels.cuda.binding import ptx
    from uldnum.kernels.cuda.chains import chain_kernel
    from uldnum.kernels.cuda.device import arguments
    from uldnum.kernels.cuda.form import ChainForm

    target = TARGETS["9 full"]
    tables = phase(lay_out([uldnum.integrator("UBU").stages(np.array([0.1]))], np.dtype(np.float32)), 0, 0)
    kernel = chain_kernel(ChainForm.of(tables, target.kernel_data(np.dtype(np.float32)), True, True, True))

    def example(kind):
        if hasattr(kind, "types"):
            return getattr(kind, "instance_class", lambda *parts: parts)(*map(example, kind.types))
        return np.zeros((2,) * kind.ndim, kind.dtype.name) if hasattr(kind, "ndim") else 1

    values = {name: example(kind) for name, kind in kernel.parameters.items()}
    widths = [np.dtype(np.uint64) if value.ndim else value.dtype for value in arguments(kernel, values)]
    declared = re.findall(r"\.param \.(\w)(\d+)", ptx(kernel, (8, 0)).partition("{")[0])
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
        with pytest.warns(UserWarning, match=f"{path}' cannot be used: it is damaged; it is compiled again"):
            assert device.code(kernel, (8, 0)).read_text().endswith(".entry again")
    assert device.code(kernel, (8, 0)) == path


def test_kernels_that_cannot_be_kept_are_used(tmp_path, monkeypatch):
    from uldnum.jit import cache
    from uldnum.kernels.cuda import device
    from uldnum.kernels.cuda.stages import StageForm, stage_kernel

    (tmp_path / "uldnum").touch()  # in place of the cache folder
    cache.warned.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(device, "ptx", lambda *_: ".entry here")
    kernel = stage_kernel(StageForm("float32", True, 1, 1, 1, 0, 0, 0, False))
    with pytest.warns(UserWarning, match="cannot be kept in .*Not a directory|cannot be kept in .*File exists"):
        path = device.code(kernel, (8, 0))
    assert path.read_text() == ".entry here"
    cache.warned.cache_clear()


def test_what_is_launched_compiles(monkeypatch):
    """The simulator takes what Numba does not, such as NumPy's numbers where it wants its own."""
    from uldnum.kernels.cuda import device, executor, images
    from uldnum.kernels.cuda.binding import ptx

    class Recorder(device.Simulator):
        def launch(self, kernel, threads, values):
            launched[kernel.name, kernel.key] = kernel

    launched: dict[object, object] = {}
    for module in (images, executor):
        monkeypatch.setattr(module, "device", Recorder)
    sample_images(("UBU", IMAGES[1], "float32"), "cuda")
    plan = uldnum.plan("BAOAB", uldnum.levels.geometric(2.0, 0.5, 3), h=0.5, momentum="refreshed")
    uldnum.anneal(TARGETS["2 of 40"], plan, chains=3, backend="cuda", progress=False)
    assert {name for name, _ in launched} == {"update", "advance"}
    for kernel in launched.values():
        assert ".entry" in ptx(kernel, (9, 0))


# ------------------------------------------------------------------------------------------------------------ messages


def test_refusals():
    with pytest.raises(ValueError, match="'cuda-fast' runs float32, not float64"):
        sample(("BAOAB", "2", "float64"), "cuda-fast")
    for like in (None, np.zeros(1)):  # vectors, whatever their arrays
        target = uldnum.UserTarget(lambda x: -x, 1, like=like)
        with pytest.raises(ValueError, match="'cuda' runs mixtures, and images"):
            uldnum.sample(target, "BAOAB", h=0.1, steps=1, chains=1, backend="cuda")


@pytest.mark.parametrize("module", ["cupy", "numba_cuda"])
def test_what_is_missing_is_named(module, monkeypatch):
    from uldnum.kernels.cuda import device

    device.device.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'uldnum\[cuda\]'"):
        sample(("BAOAB", "2", "float64"), "cuda")


class NoDriverError(Exception):
    pass


def no_driver(missing):
    """CuPy where there is no driver, or an old GPU."""

    def device():
        if missing:
            raise NoDriverError("cudaErrorInsufficientDriver")
        return SimpleNamespace(id=0, compute_capability="52")

    properties = {"name": b"Tesla M40"}
    runtime = SimpleNamespace(CUDARuntimeError=NoDriverError, getDeviceProperties=lambda number: properties)
    return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime, Device=device))


@pytest.mark.parametrize(("missing", "message"), [(True, "needs an NVIDIA GPU and its driver"), (False, "has 5.2")])
def test_what_does_not_work_is_named(missing, message, monkeypatch):
    from uldnum.kernels.cuda import device

    device.device.cache_clear()
    monkeypatch.setitem(sys.modules, "cupy", no_driver(missing))
    with pytest.raises(RuntimeError, match=message):
        sample(("BAOAB", "2", "float64"), "cuda")


def test_too_many_chains_are_counted(monkeypatch):
    from uldnum.kernels.cuda import device, executor

    little = device.Simulator()
    monkeypatch.setattr(little, "free", lambda: 100_000)
    monkeypatch.setattr(executor, "device", lambda: little)
    with pytest.raises(ValueError, match=r"chains: 10000 need .* GiB can be had; at most \d+ fit"):
        sample(("BAOAB", "2", "float64"), "cuda", chains=10_000)


if __name__ == "__main__":
    simulate(Path(sys.argv[1]))

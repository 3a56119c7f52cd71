"""Checks and benchmarks on a GPU: ``python -m analysis.gpu_check [FOLDER]`` (some minutes).

The script needs the extras ``cuda``, ``onnx-gpu``, ``torch`` and ``bench``. It checks that results agree bit for bit
with those of the CPU, and that the fast mode is accurate. It measures the time per step beside CuPy, JAX and PyTorch,
and beside an estimate of the hardware limit. It writes ``gpu-<device>-<date>.json`` after every part, and finally a
figure, to FOLDER (default: ``data`` beside this script).
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import pairwise, product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

import uldnum
from analysis import TWO_COLUMNS, gpu_peers, paper, peers
from analysis.registers import lattice
from analysis.throughput import built, duration, two_fastest
from uldnum._util.extras import MissingExtraError, installed, require
from uldnum._util.files import atomic, writable_folder
from uldnum._util.typing import Array
from uldnum.kernels.cuda.chains import chain_kernel
from uldnum.kernels.cuda.device import CuPy, Simulator, code, device
from uldnum.kernels.cuda.executor import score_form
from uldnum.kernels.cuda.form import ChainForm, MixtureForm
from uldnum.kernels.cuda.stages import Batch, MapTable, Numbers, StageForm, stage_kernel
from uldnum.kernels.source.core import COVARIANCE, NEVER, lay_out, phase
from uldnum.networks import network
from uldnum.plotting import save
from uldnum.plotting.style import plain_ticks
from uldnum.sampling._anneal import tables_of
from uldnum.sampling.run import Run
from uldnum.targets import Law, Target

FOLDER = Path(__file__).parent / "data"
SCHEMES = ("ula", "baoab-limit", "BAOAB", "OBABO", "UBU")
KINDS = ("float64", "float32")
EVERYTHING = (
    "u", "phase_space", "sums", "products", "counts", "escape_step", "nfe", "score", "log_density", "accepted",
)  # fmt: skip
CHAINS, STEPS, REPEATS = 256, 1000, 5
PLAN_LEVELS = 20

# Dimensions of users' scores, and steps with Metropolis tests and their targets. Chains are held in registers, partly
# in registers, and in global memory.
USER_DIMENSIONS = (1, 2, 4, 6, 12)
TESTED, TESTED_ON = ("mala", "hmc(3)", "ghmc"), ("ring-8", "8-D", "16-D")

# Estimated least time of a step of ULA in float32, with 1e6 chains on 8 components in 2-D, on an H100: 190 instructions
# at 0.93e12 warp instructions per second, which corresponds to 1.76 GHz.
FLOOR = 6.4e-6

# Two batches of latents: the first one fits in the second-level cache together with its score, the second does not.
IMAGES = ((256, 3 * 32 * 32), (4096, 3 * 32 * 32))


def targets() -> dict[str, Any]:
    """Return mixtures that together use every branch of the kernels."""
    rng = np.random.default_rng(0)
    roots = np.eye(2) + 0.3 * np.tril(rng.normal(size=(3, 2, 2)))
    third = np.full(3, 1 / 3)
    return {
        "bimodal-1d": uldnum.target("bimodal-1d"),
        "ring-8": uldnum.target("ring-8"),
        "3-D, diagonal": uldnum.GaussianMixture(third, rng.normal(size=(3, 3)), rng.uniform(0.5, 2, size=(3, 3))),
        "2-D, full": uldnum.GaussianMixture(third, rng.normal(size=(3, 2)), covariances=roots @ roots.swapaxes(1, 2)),
        "8-D": uldnum.GaussianMixture(third, rng.normal(size=(3, 8)), np.ones(3)),
        "16-D": uldnum.GaussianMixture(third, rng.normal(size=(3, 16)), np.ones(3)),
    }


def sample(name: str, scheme: str, dtype: str, backend: str, **changes: Any) -> Run:
    """Return a run with a small step size and all recorded quantities."""
    options: dict[str, Any] = {"h": 0.1, "steps": STEPS, "chains": CHAINS, "seed": 7, "bins": 8, "thin": 3}
    return uldnum.sample(targets()[name], scheme, dtype=dtype, backend=backend, progress=False, **options | changes)


def different(a: Run, b: Run) -> list[str]:
    """Return the names of the results that differ in any bit between two runs."""
    parts = {name: (getattr(a.state, name), getattr(b.state, name)) for name in EVERYTHING} | {
        "trace": (a.trace, b.trace)
    }
    return [name for name, (one, other) in parts.items() if not np.array_equal(one, other)]


# ---------------------------------------------------------------------------------------------------------- correctness


def build(job: tuple[str, str, str, bool, tuple[int, int]]) -> None:
    """Compile the kernels of a case into the cache on disk."""
    name, scheme, dtype, fast, cc = job
    asked = peers.program(targets()[name], np.dtype(dtype).type, scheme)
    form = ChainForm.of(phase(asked.tables, 0, 0), score_form(asked, 0), fast, moments=COVARIANCE, records=True)
    for opening in (False, True)[: 1 + form.single_part]:
        code(chain_kernel(form, opening), cc)


def build_plan(job: tuple[str, str, tuple[int, int]]) -> None:
    """Compile the kernels of a plan into the cache on disk."""
    name, dtype, cc = job
    mixture: Any = uldnum.target("gmm-40")
    tables, _ = tables_of(plan_of(name))
    tables, score = tables._replace(b=tables.b.astype(dtype)), MixtureForm.of(mixture.kernel_data(np.dtype(dtype)))
    phases = (phase(tables, 0, number) for number in range(len(tables.per_step)))
    for form in {ChainForm.of(t, score, fast=False, moments=0, records=False) for t in phases}:
        code(chain_kernel(form), cc)


def build_all(cc: tuple[int, int]) -> None:
    """Compile all kernels on all cores."""
    jobs = [(name, scheme, kind, False, cc) for name, scheme, kind in product(targets(), SCHEMES, KINDS)]
    jobs += [("ring-8", scheme, "float32", True, cc) for scheme in SCHEMES]
    jobs += [(name, word, kind, False, cc) for name, word, kind in product(TESTED_ON, TESTED, KINDS)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(tqdm(pool.map(build, jobs), total=len(jobs), desc="compiling"))
        plan_jobs = [(name, kind, cc) for name, kind in product(PLANS, KINDS)]
        list(tqdm(pool.map(build_plan, plan_jobs), total=len(plan_jobs), desc="compiling plans"))


def compared(run: Callable[..., Run]) -> dict[str, Any]:
    """Compare a run with that of the CPU: chains whose final state differs in any bit, and the differences."""
    runs, short = ([run(backend=backend, steps=steps) for backend in ("cuda", "numba")] for steps in (STEPS, 20))
    states = [np.concatenate([one.state.u, one.state.phase_space], axis=2)[0] for one in runs]
    gap = np.abs(short[0].x - short[1].x).max() / np.abs(short[1].x).max()
    return {
        "chains": CHAINS, "steps": STEPS, "chains that differ": int(np.any(states[0] != states[1], axis=(1, 2)).sum()),
        "different": different(*runs), "relative, 20 steps": float(gap),
    }  # fmt: skip


def bits() -> list[dict[str, Any]]:
    """Compare trajectories on mixtures with those of the CPU."""
    return [
        {"target": name, "scheme": scheme, "dtype": dtype} | compared(partial(sample, name, scheme, dtype))
        for name, scheme, dtype in tqdm(list(product(targets(), SCHEMES, KINDS)), desc="bits")
    ]


def tested_bits() -> list[dict[str, Any]]:
    """Compare steps with Metropolis tests with those of the CPU; the decisions are part of the state."""
    return [
        {"target": name, "scheme": word, "dtype": dtype} | compared(partial(sample, name, word, dtype, h=0.5))
        for name, word, dtype in tqdm(list(product(TESTED_ON, TESTED, KINDS)), desc="Metropolis tests")
    ]


def normals(n: int, seed: int, first: int, d: int) -> Array:
    """Return initial states for a user's score."""
    return np.random.default_rng(seed).normal(size=(n, d))


def user_target(d: int) -> uldnum.UserTarget:
    """Return a target with a user's score of d dimensions."""
    return uldnum.UserTarget(lattice, d, args=(0.5,), sampler=partial(normals, d=d), standard_deviation=np.ones(d))


def user_bits() -> list[dict[str, Any]]:
    """Compare trajectories on a user's score with those of the CPU; in float32 they differ in the last bits.

    In float32 a GPU computes with the numbers in the source of the score in double precision, and vectors do not.
    """
    options: dict[str, Any] = {"h": 0.1, "chains": CHAINS, "seed": 7, "thin": 3, "progress": False}
    return [
        {"d": d, "scheme": "BAOAB", "dtype": dtype}
        | compared(partial(uldnum.sample, user_target(d), "BAOAB", dtype=dtype, **options))
        for d, dtype in tqdm(list(product(USER_DIMENSIONS, KINDS)), desc="users' scores")
    ]


def fast_mode() -> list[dict[str, Any]]:
    """Compare the fast mode with the accurate one: trajectories of 20 steps, and variances of a long run."""
    found = []
    for scheme in tqdm(SCHEMES, desc="fast mode"):
        near = [sample("ring-8", scheme, "float32", backend, steps=20) for backend in ("cuda-fast", "cuda")]
        gaps = np.abs(near[0].x - near[1].x).ravel()
        # With different seeds the runs are independent, so that the standard error of the difference is known.
        runs = [
            sample("ring-8", scheme, "float32", backend, steps=2_000, burn_in=200, chains=100_000, seed=seed)
            for seed, backend in enumerate(("cuda-fast", "cuda"))
        ]
        difference = np.diagonal(runs[0].covariance - runs[1].covariance)
        error = np.sqrt(sum(np.diagonal(run.covariance_error) ** 2 for run in runs))
        found.append(
            {"scheme": scheme, "median": float(np.median(gaps)), "99th percentile": float(np.percentile(gaps, 99)),
             "variances, in standard errors": (difference / error).tolist(), "relative error": float(error.max())}
        )  # fmt: skip
    return found


def invariance(here: CuPy | Simulator) -> dict[str, list[str]]:
    """Return the results that change with the block size, with a resumed run, and in a group of step sizes.

    None should change. In one dimension normals are drawn for four steps at once; the resumed run starts within such a
    window.
    """
    found = {}
    for scheme in ("ula", "BAOAB", "UBU"):
        usual = sample("bimodal-1d", scheme, "float64", "cuda")
        for block in (32, 64, 256):
            here.block, before = block, here.block
            found[f"{scheme}, blocks of {block}"] = different(sample("bimodal-1d", scheme, "float64", "cuda"), usual)
            here.block = before
        part = sample("bimodal-1d", scheme, "float64", "cuda", steps=STEPS // 3)
        whole = sample("bimodal-1d", scheme, "float64", "cuda", resume=part)
        found[f"{scheme}, resumed"] = different(whole, usual)
        group = sample("bimodal-1d", scheme, "float64", "cuda", h=[0.05, 0.1])
        found[f"{scheme}, in a group"] = [] if np.array_equal(group.x[1], usual.x) else ["x"]
    return found


@dataclass(frozen=True)
class Images(Target):
    """A Gaussian on images, whose score works on arrays of any library."""

    shape: tuple[int, ...]
    like: Any = None
    strength: float = 2.0
    name = "images"
    fingerprint = ""

    @property
    def standard_deviation(self) -> Array:
        """Scale of the initial distribution."""
        return np.ones(self.shape)

    def score(self, x: Any) -> Any:
        """Return the gradient of the log density."""
        return -self.strength * x

    def sample(self, n: int, seed: int = 0, first: int = 0) -> Array:
        """Return initial states."""
        return np.random.default_rng(first).normal(size=(n, *self.shape))


@dataclass(frozen=True)
class NoisedImages(Law):
    """The noised images of a Gaussian, for plans."""

    shape: tuple[int, ...]
    like: Any = None
    name = "images"

    def noised(self, alpha: float, sigma: float) -> Images:
        """Return the Gaussian at a noise level."""
        return Images(self.shape, self.like, 1 / (alpha**2 / 2 + sigma**2))


def image_chains(here: CuPy | Simulator) -> list[dict[str, Any]]:
    """Compare chains of images with those of NumPy, which has no fused multiply-add; with ULA some chains diverge."""
    found = []
    for scheme in ("ula", "OBABO", "UBU", "mild(0.5)"):
        for shape in ((3, 2, 2), (1, 5)):
            h = [0.2, 60.0] if scheme == "ula" else [0.2, 0.4]
            options: dict[str, Any] = {"h": h, "steps": 12, "chains": 7, "seed": 3, "thin": 2, "progress": False}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                ours = uldnum.sample(Images(shape, here.empty((1,), np.float64)), scheme, backend="cuda", **options)
                theirs = uldnum.sample(Images(shape, None), scheme, backend="array", **options)
            gap = np.abs(ours.state.u - theirs.state.u).max() / np.abs(theirs.state.u).max()
            same = np.array_equal(ours.state.escape_step, theirs.state.escape_step) and ours.nfe == theirs.nfe
            found.append({"scheme": scheme, "shape": shape, "relative": float(gap), "left and nfe equal": same})
    return found


def adaptive_chains(here: CuPy | Simulator) -> list[dict[str, Any]]:
    """Compare plans of images with adaptive step sizes with those of NumPy; with the larger ratio chains diverge."""
    found = []
    cases = [
        ("ula", 0.16, False), ("BAOAB", 0.16, True), ("OBABO", 0.16, False), ("mild(0.3)", 0.16, False),
        ("ula", 20.0, False), ("BAOAB", 20.0, False),
    ]  # fmt: skip
    for (scheme, snr, coupled), shape, dtype in product(cases, ((3, 2, 2), (1, 5)), KINDS):
        levels = uldnum.levels.geometric(2.0, 0.5, 3)
        options: dict[str, Any] = {"chains": 7, "x0": "target", "seed": 3, "dtype": dtype, "progress": False}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            plan = uldnum.plan(scheme, levels, steps=4, snr=snr, coupled=coupled, predictor="ancestral")
            ours = uldnum.anneal(NoisedImages(shape, here.empty((1,), np.float64)), plan, backend="cuda", **options)
            theirs = uldnum.anneal(NoisedImages(shape, None), plan, backend="array", **options)
        stays = theirs.state.escape_step[0] == NEVER
        gap = np.abs(ours.x - theirs.x)[stays].max(initial=0) / np.abs(theirs.x[stays]).max(initial=1)
        same = np.array_equal(ours.state.escape_step, theirs.state.escape_step) and ours.nfe == theirs.nfe
        found.append(
            {"scheme": scheme, "snr": snr, "shape": shape, "dtype": dtype, "diverged": int((~stays).sum()),
             "relative": float(gap), "left and nfe equal": same}
        )  # fmt: skip
    return found


# Plans of all kinds: integrators with and without a score evaluation at the start, shared boundaries, and predictors
# with one and two evaluations, deterministic and stochastic.
PLANS: dict[str, tuple[str, dict[str, Any]]] = {
    "ALD": ("ula", {"h": 0.7, "steps": 2}),
    "MILD(0.38)": ("mild(0.38)", {"h": 0.7}),
    "baoab-limit": ("baoab-limit", {"h": 0.7, "steps": 2}),
    "BAOAB, refreshed": ("BAOAB", {"h": 0.7, "momentum": "refreshed"}),
    "OBABO, shared": ("OBABO", {"h": 0.7, "boundary": "shared"}),
    "UBU and DDIM": ("UBU", {"h": 0.7, "predictor": "ddim"}),
    "ancestral": ("ancestral", {}),
    "EDM Euler with churn": ("edm-euler(0.4)", {}),
    "Heun": ("heun", {}),
    "DPM-Solver++(2M)": ("dpm-solver++", {}),
}


def plan_of(name: str) -> uldnum.Plan:
    """Return one of the plans."""
    method, options = PLANS[name]
    return uldnum.plan(method, uldnum.levels.geometric(50.0, 0.1, PLAN_LEVELS), **options)


def plans() -> list[dict[str, Any]]:
    """Compare plans on `gmm-40` with the CPU: chains whose final state differs in any bit, and score evaluations."""
    found = []
    for name in tqdm(PLANS, desc="plans"):
        for dtype in KINDS:
            plan = plan_of(name)
            gpu, cpu = (
                uldnum.anneal("gmm-40", plan, chains=CHAINS, seed=3, dtype=dtype, backend=backend, progress=False)
                for backend in ("cuda", "numba")
            )
            one, other = gpu.state, cpu.state
            found.append(
                {"plan": name, "dtype": dtype, "levels": PLAN_LEVELS, "chains": CHAINS,
                 "chains that differ": int(np.any(one.phase_space != other.phase_space, axis=(0, 2, 3)).sum()),
                 "left and nfe equal": np.array_equal(one.escape_step, other.escape_step) and gpu.nfe == cpu.nfe,
                 "relative": float(np.abs(gpu.x - cpu.x).max() / np.abs(cpu.x).max())}
            )  # fmt: skip
    return found


# ---------------------------------------------------------------------------------------------------------------- speed


def throughput() -> list[dict[str, Any]]:
    """Return interleaved timings of a step of 1e6 chains on ring-8; peers that fail have an error message instead."""
    peers.CHAINS = 1_000_000
    case: Any = uldnum.target("ring-8")
    rows: list[dict[str, Any]] = []
    for kind, dtype in (("float32", np.float32), ("float64", np.float64)):
        makers: dict[str, peers.Peer] = {
            "uldnum, ULA": gpu_peers.ours("ula"), "uldnum, BAOA": gpu_peers.ours("BAOA"),
            "uldnum, BAOA, moments": gpu_peers.ours("BAOA", recorded=True),
            "CuPy, BAOA": gpu_peers.cupy_peer, "PyTorch compiled, BAOA": gpu_peers.torch_peer,
        }  # fmt: skip
        if kind == "float32":
            makers |= {
                "uldnum fast, ULA": gpu_peers.ours("ula", fast=True),
                "uldnum fast, BAOA": gpu_peers.ours("BAOA", fast=True),
            }
        runs = {}
        for name, make in tqdm(makers.items(), desc=f"compiling, {kind}"):
            try:
                runs[name] = built(make, case, dtype)
            except Exception as error:  # record the failure of a peer and continue
                rows.append({"peer": name, "dtype": kind, "failed": f"{type(error).__name__}: {error}"[:300]})
        try:
            jax = require("jax", "bench")
            jax.config.update("jax_enable_x64", kind == "float64")
            if jax.default_backend() != "gpu":
                raise RuntimeError(f"JAX must run on the GPU, got {jax.default_backend()}")
            runs |= two_fastest(peers.jax_variants(1), case, dtype)
        except (MissingExtraError, RuntimeError) as error:
            rows.append({"peer": "JAX", "dtype": kind, "failed": str(error)})
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(REPEATS):
            for name, (run, steps) in runs.items():
                times[name].append(duration(run, steps) / steps)
        rows += [{"peer": name, "dtype": kind, "seconds a step": values} for name, values in times.items()]
    return rows


def step_times() -> list[dict[str, Any]]:
    """Return timings of a step of 1e6 chains: with Metropolis tests and without, and on users' scores."""
    peers.CHAINS = 1_000_000
    ring: Any = uldnum.target("ring-8")
    chosen: list[tuple[str, Any, str]] = [("ring-8", ring, scheme) for scheme in ("ula", "mala", "OBABO", "ghmc")]
    chosen += [(f"user's score, d = {d}", user_target(d), "BAOAB") for d in USER_DIMENSIONS]
    rows = []
    for name, target, scheme in tqdm(chosen, desc="times of steps"):
        for dtype in KINDS:
            run, steps = built(gpu_peers.ours(scheme), target, np.dtype(dtype).type)
            times = [duration(run, steps) / steps for _ in range(REPEATS)]
            rows.append({"target": name, "scheme": scheme, "dtype": dtype, "seconds a step": times})
    return rows


def plan_times() -> list[dict[str, Any]]:
    """Return times of plans of 1e5 chains through 232 levels of `gmm-40` on GPU and CPU, without the first run."""
    levels = uldnum.levels.geometric(50.0, 0.01, 232)
    timed = [
        uldnum.plan("ula", levels, h=1.0), uldnum.plan("BAOAB", levels, h=1.0, steps=5), uldnum.plan("heun", levels)
    ]  # fmt: skip

    def run(plan: uldnum.Plan, backend: str, chains: int) -> Run:
        return uldnum.anneal("gmm-40", plan, chains=chains, backend=backend, progress=False)

    return [
        {"plan": plan.name, "steps": plan.steps, "backend": backend,
         "seconds": [duration(partial(run, plan, backend), 100_000) for _ in range(REPEATS + 1)][1:]}
        for plan, backend in product(timed, ("cuda", "numba"))
    ]  # fmt: skip


def images(here: CuPy) -> list[dict[str, Any]]:
    """Return times of the update of a batch of latents and of a copy of equal size, back to back and in a graph."""
    cupy, found = here.cupy, []
    launches = 200

    def seconds(stream: Any, run: Callable[[], object]) -> float:
        """Return the median time per launch by the device's clock, without the first repeat."""
        taken = []
        for _ in range(REPEATS + 1):
            begin, end = cupy.cuda.Event(), cupy.cuda.Event()
            begin.record(stream)
            run()
            end.record(stream)
            end.synchronize()
            taken.append(cupy.cuda.get_elapsed_time(begin, end) / 1e3 / launches)
        return float(np.median(taken[1:]))

    def timed(launch: Callable[[], object]) -> float:
        """Return the time per launch when the launches are issued back to back."""
        return seconds(cupy.cuda.get_current_stream(), lambda: [launch() for _ in range(launches)])

    def graphed(launch: Callable[[], object]) -> float | None:
        """Return the time per launch when the launches are captured in a graph, or None if capture fails."""
        stream = cupy.cuda.Stream(non_blocking=True)
        try:
            with stream:
                stream.begin_capture()
                for _ in range(launches):
                    launch()
                graph = stream.end_capture()
                return seconds(stream, lambda: graph.launch(stream))
        except Exception:  # the back-to-back time remains available, whatever prevents the capture
            return None

    for (chains, size), (k, scheme) in product(IMAGES, ((1, "ula"), (2, "BAOAB"))):
        tables = lay_out([uldnum.integrator(scheme).stages(np.array([0.1]))], np.dtype(np.float32))
        u, s = cupy.zeros((k, chains, size), np.float32), cupy.zeros((chains, size), np.float32)
        m = int(tables.normals[0])
        dA, b, C = (here.array(part).ravel() for part in (tables.dA[0, 0], tables.b[0, 0], tables.C[0, 0, :, :m]))
        bound = cupy.full(size, 1e18, np.float32)
        values = {
            "images": Batch(u, u, s, -bound, bound, cupy.full(chains, NEVER, np.int64)),
            "of": MapTable(dA, b, C, 0),
            "numbers": Numbers(chains, size, 0, 0, 0, 1, 2, NEVER),
        }
        moved = (2 * k + 1) * s.nbytes
        source = cupy.zeros(moved // 2 // 4, np.float32)
        sink = cupy.empty_like(source)
        row: dict[str, Any] = {"chains": chains, "rows": k, "bytes": moved}

        def copy(sink: Any = sink, source: Any = source) -> None:
            cupy.copyto(sink, source)

        row |= {"copy": timed(copy), "copy in a graph": graphed(copy)}
        for fast in (False, True):
            kernel = stage_kernel(StageForm("float32", fast, k, k, m, 0, 0, 0, True))

            def launch(kernel: Any = kernel, values: dict[str, Any] = values, threads: int = u[0].size // 4) -> None:
                here.launch(kernel, (threads, 1), values)

            label = "fast" if fast else "accurate"
            row |= {label: timed(launch), f"{label} in a graph": graphed(launch)}
        found.append(row)
    return found


# --------------------------------------------------------------------------------------------------------------- output


def stamp(here: CuPy) -> dict[str, Any]:
    """Return the device, the versions and the date."""
    versions = {
        name: installed(name)
        for name in ("uldnum", "numba-cuda", "nvidia-nvvm", "cupy-cuda13x", "onnxruntime-gpu", "jax", "torch", "numpy")
    }
    driver = here.cupy.cuda.runtime.driverGetVersion()
    return {"device": here.name, "capability": here.cc, "driver's CUDA": driver, "versions": versions,
            "date": date.today().isoformat()}  # fmt: skip


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw the time of a step of all peers, and the memory rate of the update and of a copy, in PNG and SVG."""
    from matplotlib.figure import Figure

    with paper():
        figure = Figure(figsize=(TWO_COLUMNS, 2.7), layout="constrained")
        left, right = figure.subplots(1, 2)
        draw_times(left, found["throughput"])
        draw_rates(right, found["images"])
        figure.suptitle(f"{found['device']}, {found['date']}", fontsize="medium")
        save(figure, path, path.with_suffix(".svg"))


def draw_times(axes: Any, measured: list[dict[str, Any]]) -> None:
    """Draw times as factors of the estimated lower bound for ULA, where the axis begins."""
    rows = [row for row in measured if row["dtype"] == "float32" and "failed" not in row]
    jax_rows = [row for row in rows if row["peer"].startswith("JAX")]
    best = min(jax_rows, key=lambda row: float(np.median(row["seconds a step"])), default=None)
    shown = [row for row in rows if row not in jax_rows] + ([best | {"peer": "JAX, BAOA"}] if best else [])
    shown.sort(key=lambda row: -float(np.median(row["seconds a step"])))
    times = np.array([np.median(row["seconds a step"]) for row in shown])
    colours = ["#0072B2" if "uldnum" in row["peer"] else "0.6" for row in shown]
    bars = axes.barh([row["peer"] for row in shown], times / FLOOR - 1, left=1, color=colours)
    axes.bar_label(bars, [f" {1e6 * time:.3g} µs" for time in times])
    axes.set(xscale="log", xlim=(1, 4 * times.max() / FLOOR))
    axes.set_xlabel(f"time per step / lower bound for ULA on an H100 ({1e6 * FLOOR:.2g} µs)")
    plain_ticks(axes, axes.xaxis)
    axes.set_title("1e6 chains on ring-8, float32")


def draw_rates(axes: Any, measured: list[dict[str, Any]]) -> None:
    """Draw the memory rates of updates of images and of a copy of the same size."""
    names = ["copy in a graph", "accurate in a graph", "fast in a graph"]
    rows = [row for row in measured if all(row[name] for name in names)]
    for n, (row, colour) in enumerate(zip(rows, ("#0072B2", "#56B4E9", "#D55E00", "#E69F00"), strict=False)):
        rates = [row["bytes"] / row[name] / 1e12 for name in names]
        label = f"{row['chains']}, k = {row['rows']}: {row['bytes'] / 1e6:.0f} MB"
        axes.bar(np.arange(3) + 0.2 * n - 0.3, rates, 0.18, label=label, color=colour)
    axes.set_title("images of 3 x 32 x 32 in a CUDA graph")
    axes.set(xticks=range(3), xticklabels=["copy", "update", "update, fast"], ylabel="bandwidth (TB/s)")
    if rows:
        axes.set_ylim(top=1.35 * axes.get_ylim()[1])
        axes.legend(frameon=False, ncols=2, loc="upper center", handlelength=1, columnspacing=1)


def shipped_network() -> list[dict[str, Any]]:
    """Compare the score of the network in the package with that on the CPU, without TensorFloat-32; time its chains."""
    here, there = network(), network(device="cuda")
    cupy = require("cupy", "cuda")
    found = []
    for sigma in (0.05, 0.5, 5.0):
        ours, theirs = there.at(sigma), here.at(sigma)
        x = theirs.sample(64, seed=1).astype(np.float32)
        wanted = theirs.score(x)
        gap = np.linalg.norm(cupy.asnumpy(ours.score(cupy.asarray(x))) - wanted) / np.linalg.norm(wanted)
        found.append({"sigma": sigma, "relative gap of the score": float(gap)})
    for chains in (64, 512):
        options: dict[str, Any] = {"h": 2.0, "chains": chains, "backend": "cuda", "progress": False}
        level = network(device="cuda", chunk=chains).at()
        uldnum.sample(level, "baoab-limit", steps=5, **options)
        before, begun = level.network.model.seconds, time.perf_counter()
        uldnum.sample(level, "baoab-limit", steps=200, **options)
        seconds, inside = time.perf_counter() - begun, level.network.model.seconds - before
        found.append({"chains": chains, "images a second": 200 * chains / seconds, "in the network": inside / seconds})
    return found


def pytorch_network(where: str = "cuda", chains: int = 256, width: int = 192) -> list[dict[str, Any]]:
    """Compare chains on a PyTorch network of 3 x 32 x 32 images with the same chains on the CPU, and time its calls."""
    torch = require("torch", "torch")
    torch.manual_seed(0)
    layers = [
        layer
        for a, b in pairwise([3, *[width] * 6, 3])
        for layer in (torch.nn.Conv2d(a, b, 3, padding=1), torch.nn.SiLU())
    ]
    module = torch.nn.Sequential(*layers[:-1]).eval()
    card = {"parameterisation": "denoiser", "scaling": "ve", "condition": "sigma", "shape": [3, 32, 32]}

    def chains_of(there: str, steps: int, count: int) -> Run:
        like, backend = torch.zeros(1, device=there), "array" if there == "cpu" else "cuda"
        level = network(lambda z, s: module(z), card, like=like, chunk=count).at()
        options: dict[str, Any] = {"h": 0.5, "seed": 1, "backend": backend, "progress": False}
        return uldnum.sample(level, "baoab-limit", steps=steps, chains=count, **options)

    def calls(steps: int) -> None:
        z = torch.zeros((chains, 3, 32, 32), device=where)
        with torch.no_grad():
            for _ in range(steps):
                module(z)

    def seconds(run: Callable[[], Any]) -> float:
        wait = (lambda: None) if where == "cpu" else torch.cuda.synchronize
        wait()
        begun = time.perf_counter()
        run()
        wait()
        return time.perf_counter() - begun

    here = chains_of("cpu", 3, 4).x
    module.to(where)
    there = chains_of(where, 3, 4).x
    chains_of(where, 3, chains)  # compile and allocate
    calls(3)
    times: dict[str, list[float]] = {"100 steps": [], "200 steps": [], "100 calls": []}
    for _ in range(REPEATS):
        for count in (100, 200):
            times[f"{count} steps"].append(seconds(partial(chains_of, where, count, chains)))
        times["100 calls"].append(seconds(partial(calls, 100)))
    return [
        {"chains": chains, "relative gap of chains": float(np.abs(there - here).max() / np.abs(here).max())} | times
    ]


def main() -> None:
    """Run all checks and measurements, store the results after every part, and draw the figure."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave GPU memory to the other libraries
    folder = writable_folder(Path(sys.argv[1])) if len(sys.argv) > 1 else FOLDER
    here = device()
    if not isinstance(here, CuPy):
        raise RuntimeError("gpu_check: needs a GPU, got the simulator")
    begun = time.perf_counter()
    found = stamp(here)
    path = folder / f"gpu-{re.sub(r'[^a-z0-9]+', '-', here.name.lower())}-{found['date']}.json"
    build_all(here.cc)
    parts: dict[str, Callable[[], Any]] = {
        "PyTorch network": pytorch_network, "network": shipped_network, "user bits": user_bits,
        "tested bits": tested_bits, "adaptive chains": partial(adaptive_chains, here),
        "image chains": partial(image_chains, here), "plans": plans, "bits": bits,
        "invariance": partial(invariance, here), "times of steps": step_times,
        "fast mode": fast_mode, "images": partial(images, here), "times of plans": plan_times, "throughput": throughput,
    }  # fmt: skip
    for name, part in parts.items():
        try:
            found[name] = part()
        except Exception as error:  # record the failure of a part and continue
            found[name] = []
            found[f"{name}: failed"] = f"{type(error).__name__}: {error}"
        found["seconds"] = time.perf_counter() - begun
        with atomic(path) as file:
            file.write_text(json.dumps(found, indent=1, default=str) + "\n")
        print(f"{name}: {found.get(f'{name}: failed', 'done')}, {found['seconds']:.0f} s")
    for name in ("bits", "tested bits", "user bits"):
        rows = found[name]
        print(f"{name}: {sum(bool(row['different']) for row in rows)} of {len(rows)} cases differ from the CPU")
    print(json.dumps({name: found[name] for name in ("invariance", "images", "network")}, indent=1))
    draw(found, path.with_suffix(".png"))


if __name__ == "__main__":
    main()

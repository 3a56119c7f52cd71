"""What only a GPU can show: ``python -m analysis.gpu_check`` (extras ``cuda``, ``bench``; below eight minutes).

Are its bits those of the CPU? Is the fast mode right? How fast is it, beside the same work in CuPy, JAX and PyTorch,
and beside what the hardware could do? Writes ``data/gpu-<device>-<date>.json`` and a figure.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

import uldnum
from analysis import gpu_peers, peers
from analysis.throughput import calibrated, duration
from uldnum.extras import MissingExtraError, require
from uldnum.files import atomic
from uldnum.kernels import Problem
from uldnum.kernels.core import NEVER, make_tables
from uldnum.kernels.cuda.chains import Form, chain_kernels
from uldnum.kernels.cuda.device import CuPy, code, device
from uldnum.kernels.cuda.stages import StageForm, stage_kernel
from uldnum.run import Run
from uldnum.sampling import watch_of

FOLDER = Path(__file__).parent / "data"
SCHEMES = ("ula", "baoab-limit", "BAOAB", "OBABO", "UBU")
KINDS, SUMS = ("float64", "float32"), ("sums", "squares")
CHAINS, STEPS, REPEATS = 256, 1000, 5

# ULA, float32, 1e6 chains, 8 components in 2-D on an H100: 190 instructions at 0.93e12 warp-instructions a second.
FLOOR = 6.4e-6

# A batch of latents.
IMAGES = (256, 3 * 32 * 32)


def targets() -> dict[str, Any]:
    """Return mixtures that take every way through the kernels."""
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
    """Sample with a small step."""
    options: dict[str, Any] = {"h": 0.1, "steps": STEPS, "chains": CHAINS, "seed": 7, "progress": False}
    return uldnum.sample(targets()[name], scheme, dtype=dtype, backend=backend, **options | changes)


# ------------------------------------------------------------------------------------------------------- right or wrong


def build(job: tuple[str, str, str, bool, tuple[int, int]]) -> None:
    """Compile the kernels of a case to the cache on disk."""
    name, scheme, dtype, fast, cc = job
    target, kind = targets()[name], np.dtype(dtype)
    tables = make_tables(uldnum.integrator(scheme).stages(np.array([0.1])), kind)
    watch, *_ = watch_of(target, 0, 0, None, kind)
    form = Form.of(Problem(tables, target, 7, 0, watch), kind, fast, moments=True)
    for kernel, function in chain_kernels(form).items():
        code(function, kernel, cc)


def build_all(cc: tuple[int, int]) -> None:
    """Compile everything, on all cores."""
    jobs = [(name, scheme, kind, False, cc) for name, scheme, kind in product(targets(), SCHEMES, KINDS)]
    jobs += [("ring-8", scheme, "float32", True, cc) for scheme in SCHEMES]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(tqdm(pool.map(build, jobs), total=len(jobs), desc="compiling"))


def bits() -> list[dict[str, Any]]:
    """Compare trajectories with the CPU's: chains whose last state differs in a bit, and how far off they are."""
    found = []
    for name in tqdm(targets(), desc="bits"):
        for scheme in SCHEMES:
            for dtype in KINDS:
                runs = [sample(name, scheme, dtype, backend) for backend in ("cuda", "numba")]
                short = [sample(name, scheme, dtype, backend, steps=20) for backend in ("cuda", "numba")]
                states = [np.concatenate([run.state.u, run.state.xp], axis=2)[0] for run in runs]
                differ = np.any(states[0] != states[1], axis=(1, 2))
                gap = np.abs(short[0].x - short[1].x).max() / np.abs(short[1].x).max()
                same = all(np.array_equal(getattr(runs[0].state, part), getattr(runs[1].state, part)) for part in SUMS)
                found.append(
                    {"target": name, "scheme": scheme, "dtype": dtype, "chains": CHAINS, "steps": STEPS,
                     "chains that differ": int(differ.sum()), "moments equal": same, "relative, 20 steps": float(gap)}
                )  # fmt: skip
    return found


def fast_mode() -> list[dict[str, Any]]:
    """Compare the fast mode with the accurate one: trajectories of 20 steps, and the law of a long run."""
    found = []
    for scheme in tqdm(SCHEMES, desc="fast mode"):
        near = [sample("ring-8", scheme, "float32", backend, steps=20) for backend in ("cuda-fast", "cuda")]
        gaps = np.abs(near[0].x - near[1].x).ravel()
        # Different seeds: independent, so that the difference has a known error.
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


def invariance(here: CuPy) -> dict[str, bool]:
    """Run in blocks of other sizes, in pieces, and in groups: the bits must be the same."""
    usual = sample("ring-8", "UBU", "float64", "cuda").x
    same = {}
    for block in (32, 64, 256):
        here.block, before = block, here.block
        same[f"blocks of {block}"] = np.array_equal(sample("ring-8", "UBU", "float64", "cuda").x, usual)
        here.block = before
    part = sample("ring-8", "UBU", "float64", "cuda", steps=333)
    same["resumed"] = np.array_equal(sample("ring-8", "UBU", "float64", "cuda", resume=part).x, usual)
    same["thinned"] = np.array_equal(sample("ring-8", "UBU", "float64", "cuda", thin=7).x, usual)
    group = sample("ring-8", "UBU", "float64", "cuda", h=[0.05, 0.1])
    same["in a group"] = np.array_equal(group.x[1], usual)
    return same


# ------------------------------------------------------------------------------------------------------------- how fast


def throughput() -> list[dict[str, Any]]:
    """Time a step of 1e6 chains on ring-8, interleaved; what is not installed or fails is named."""
    peers.CHAINS = 1_000_000
    case = uldnum.target("ring-8")
    rows: list[dict[str, Any]] = []
    for kind, dtype in (("float32", np.float32), ("float64", np.float64)):
        makers: dict[str, peers.Peer] = {
            "uldnum, ULA": gpu_peers.ours("ula"), "uldnum, BAOA": gpu_peers.ours("BAOA"),
            "uldnum, BAOA, moments": gpu_peers.ours("BAOA", moments=True),
            "CuPy, BAOA": gpu_peers.cupy_peer, "PyTorch compiled, BAOA": gpu_peers.torch_peer,
        }  # fmt: skip
        if kind == "float32":
            makers |= {
                "uldnum fast, ULA": gpu_peers.ours("ula", fast=True),
                "uldnum fast, BAOA": gpu_peers.ours("BAOA", fast=True),
            }
        try:
            require("jax", "bench").config.update("jax_enable_x64", kind == "float64")
            makers |= peers.jax_variants(1)
        except MissingExtraError as error:
            rows.append({"peer": "JAX", "dtype": kind, "failed": str(error)})
        runs = {}
        for name, make in tqdm(makers.items(), desc=f"compiling, {kind}"):
            try:
                run = make(case, dtype)
                runs[name] = run, calibrated(run)
            except Exception as error:  # a peer that is missing or fails is a result, not an end
                rows.append({"peer": name, "dtype": kind, "failed": f"{type(error).__name__}: {error}"[:300]})
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(REPEATS):
            for name, (run, steps) in runs.items():
                times[name].append(duration(run, steps) / steps)
        rows += [{"peer": name, "dtype": kind, "seconds a step": values} for name, values in times.items()]
    return rows


def images(here: CuPy) -> list[dict[str, Any]]:
    """Time the update of a batch of latents, back to back and in a graph, beside copies of as many bytes."""
    cupy, found = here.cupy, []
    chains, size = IMAGES
    launches = 200

    def timed(launch: Callable[[], object]) -> float:
        """Median seconds of one launch among many, by the device's clock."""
        taken = []
        for _ in range(REPEATS + 1):
            begin, end = cupy.cuda.Event(), cupy.cuda.Event()
            begin.record()
            for _ in range(launches):
                launch()
            end.record()
            end.synchronize()
            taken.append(cupy.cuda.get_elapsed_time(begin, end) / 1e3 / launches)
        return float(np.median(taken[1:]))

    def graphed(launch: Callable[[], object]) -> float | None:
        """The same launches recorded once and replayed; None where recording is not possible."""
        stream = cupy.cuda.Stream(non_blocking=True)
        try:
            with stream:
                stream.begin_capture()
                for _ in range(launches):
                    launch()
                graph = stream.end_capture()
                taken = []
                for _ in range(REPEATS + 1):
                    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
                    begin.record(stream)
                    graph.launch(stream)
                    end.record(stream)
                    end.synchronize()
                    taken.append(cupy.cuda.get_elapsed_time(begin, end) / 1e3 / launches)
            return float(np.median(taken[1:]))
        except Exception:  # whatever forbids it, the back-to-back launches stand
            return None

    for k, scheme in ((1, "ula"), (2, "BAOAB")):
        tables = make_tables(uldnum.integrator(scheme).stages(np.array([0.1])), np.dtype(np.float32))
        u, s = cupy.zeros((k, chains, size), np.float32), cupy.zeros((chains, size), np.float32)
        m = int(tables.normals[0])
        dA, b, C = (here.array(part).ravel() for part in (tables.dA[0, 0], tables.b[0, 0], tables.C[0, 0, :, :m]))
        bound = cupy.full(size, 1e18, np.float32)
        values = {
            "new": u, "u": u, "s": s, "dA_of": dA, "b_of": b, "C_of": C, "apart": 0, "chains": chains, "size": size,
            "first_chain": 0, "first": 0, "first_read": 0, "k0": 1, "k1": 2, "least": -bound, "most": bound,
            "now": NEVER, "left": cupy.full(chains, NEVER, np.int64),
        }  # fmt: skip
        moved = (2 * k + 1) * s.nbytes
        source = cupy.zeros(moved // 2 // 4, np.float32)
        sink = cupy.empty_like(source)
        row: dict[str, Any] = {"rows": k, "bytes": moved}

        def copy(sink: Any = sink, source: Any = source) -> None:
            cupy.copyto(sink, source)

        row |= {"copy": timed(copy), "copy in a graph": graphed(copy)}
        for fast in (False, True):
            kernel = stage_kernel(StageForm("float32", fast, k, k, m, 0, 0, 0))

            def launch(kernel: Any = kernel, values: dict[str, Any] = values) -> None:
                here.launch(kernel, "update", (chains * size // 4, 1), values)

            label = "fast" if fast else "accurate"
            row |= {label: timed(launch), f"{label} in a graph": graphed(launch)}
        found.append(row)
    return found


# --------------------------------------------------------------------------------------------------------------- output


def stamp(here: CuPy) -> dict[str, Any]:
    """Return the device, the versions and the date."""
    versions = {}
    for name in ("uldnum", "numba-cuda", "cupy-cuda12x", "cupy-cuda13x", "jax", "torch", "numpy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "missing"
    driver = here.cupy.cuda.runtime.driverGetVersion()
    return {"device": here.name, "capability": here.cc, "driver's CUDA": driver, "versions": versions,
            "date": date.today().isoformat()}  # fmt: skip


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw the time of a step beside the peers', and the rate of the update beside that of a copy."""
    require("matplotlib", "plot")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    rows = [row for row in found["throughput"] if row["dtype"] == "float32" and "failed" not in row]
    jax_rows = [row for row in rows if row["peer"].startswith("JAX")]
    best = min(jax_rows, key=lambda row: float(np.median(row["seconds a step"])), default=None)
    shown = [row for row in rows if row not in jax_rows] + ([best | {"peer": "JAX, BAOA"}] if best else [])
    shown.sort(key=lambda row: -float(np.median(row["seconds a step"])))
    times = np.array([np.median(row["seconds a step"]) for row in shown]) * 1e6
    left.barh([row["peer"] for row in shown], times, color=["C0" if "uldnum" in row["peer"] else "C7" for row in shown])
    left.bar_label(left.containers[0], fmt=" %.3g", fontsize=8)
    left.axvline(FLOOR * 1e6, color="k", ls=":", lw=1)
    left.set(
        xscale="log", xlim=(FLOOR * 5e5, 2 * times.max()), xlabel="microseconds a step of 1e6 chains, ring-8, float32"
    )
    left.set_title("dotted: floor of ULA on an H100", fontsize=9)
    names = ["copy in a graph", "accurate in a graph", "fast in a graph"]
    for n, row in enumerate(found["images"]):
        values = [row["bytes"] / (row[name] or row[name.split(" in")[0]]) / 1e12 for name in names]
        right.bar(np.arange(3) + 0.4 * n - 0.2, values, 0.36, label=f"k = {row['rows']}, {row['bytes'] / 1e6:.1f} MB")
    right.set_title(f"update of {IMAGES[0]} x {IMAGES[1]} latents", fontsize=9)
    right.set(xticks=range(3), xticklabels=["copy", "update", "update, fast"], ylabel="TB/s")
    right.legend(frameon=False)
    figure.suptitle(f"{found['device']}, {found['date']}")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Check, measure, store, draw."""
    here = device()
    if not isinstance(here, CuPy):
        raise RuntimeError("gpu_check needs a GPU, not the simulator")
    begun = time.perf_counter()
    build_all(here.cc)
    found = stamp(here) | {
        "bits": bits(), "fast mode": fast_mode(), "invariance": invariance(here), "images": images(here),
        "throughput": throughput(),
    }  # fmt: skip
    found["seconds"] = time.perf_counter() - begun
    slug = re.sub(r"\W+", "-", here.name).lower()
    path = FOLDER / f"gpu-{slug}-{found['date']}.json"
    with atomic(path) as file:
        file.write_text(json.dumps(found, indent=1) + "\n")
    draw(found, path.with_suffix(".png"))
    print(json.dumps({key: found[key] for key in ("device", "invariance", "images", "seconds")}, indent=1))
    print(f"bits differ in {sum(row['chains that differ'] > 0 for row in found['bits'])} of {len(found['bits'])} cases")


if __name__ == "__main__":
    main()

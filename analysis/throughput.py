"""Figure: time per step of this package and of others on the same chains (``python -m analysis throughput``).

There is one process for each number of threads, in which the repeats of all peers are interleaved. The times of all
repeats are stored in ``data/throughput.json``, with the machine, the versions and the date.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numba
import numpy as np
from tqdm.auto import tqdm

import uldnum
from analysis import TWO_COLUMNS, paper, peers, pictures
from analysis.limit import limit
from uldnum._util.extras import installed, require
from uldnum._util.files import atomic
from uldnum._util.typing import Array
from uldnum.plotting import save
from uldnum.plotting.style import plain_ticks

REPEATS, SECONDS = 5, 0.3
DATA = Path(__file__).parent / "data" / "throughput.json"
FIGURES = pictures("throughput")
DTYPES = {"float64": np.float64, "float32": np.float32}


def duration(run: Callable[[int], object], steps: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the duration of a run in seconds."""
    begun = clock()
    run(steps)
    return clock() - begun


def calibrated(run: Callable[[int], object], seconds: float = SECONDS) -> int:
    """Return the number of steps that takes about ``seconds``; the first runs compile."""
    steps = 10
    while True:
        run(steps)
        taken = duration(run, steps)
        if taken > seconds / 3:
            steps = max(10, int(steps * seconds / taken))
            run(steps)  # some peers compile again for a new number of steps
            return steps
        steps = int(steps * min(20.0, 1.2 * seconds / max(taken, 1e-4)))


def built(make: peers.Peer, case: uldnum.GaussianMixture, dtype: type) -> tuple[Callable[[int], object], int]:
    """Return a compiled peer and the number of steps to time."""
    run = make(case, dtype)
    return run, calibrated(run)


def two_fastest(
    variants: dict[str, peers.Peer], case: uldnum.GaussianMixture, dtype: type
) -> dict[str, tuple[Callable[[int], object], int]]:
    """Return the two variants of a peer that are fastest in a single run; the full measurement decides between them."""
    trials = {name: built(make, case, dtype) for name, make in variants.items()}
    first = {name: duration(run, steps) / steps for name, (run, steps) in trials.items()}
    return {name: trials[name] for name in sorted(first, key=lambda name: first[name])[:2]}


def measure(threads: int) -> list[dict[str, Any]]:
    """Return the nanoseconds per step and chain of every peer on every target, in both types."""
    jax = require("jax", "bench")
    numba.set_num_threads(threads)
    rows = []
    for kind, dtype in DTYPES.items():
        jax.config.update("jax_enable_x64", kind == "float64")
        for column, case in peers.cases().items():
            makers = {
                "uldnum": peers.ours, "uldnum, recording": peers.with_moments, "uldnum, ULA": peers.our_ula,
                "NumPy": peers.numpy_peer, "Numba, plain prange": peers.numba_peer, "diffrax ALIGN": peers.diffrax_peer,
                "blackjax sgld (ULA)": peers.blackjax_peer,
            }  # fmt: skip
            runs = {name: built(make, case, dtype) for name, make in makers.items()}
            runs |= two_fastest(peers.jax_variants(threads), case, dtype)
            times: dict[str, list[float]] = {name: [] for name in runs}
            for _ in tqdm(range(REPEATS), desc=f"{threads} threads, {kind}, {column}"):
                for name, (run, steps) in runs.items():
                    times[name].append(duration(run, steps) / steps / peers.CHAINS * 1e9)
            common = {"threads": threads, "dtype": kind, "column": column}
            rows += [common | {"peer": name, "nanoseconds": values} for name, values in times.items()]
            rows += [common | {"peer": "limit", "nanoseconds": [limit(case, dtype) / threads]}]
    return rows


def worker(threads: int, module: str = __name__) -> list[dict[str, Any]]:
    """Return what ``measure`` of a module returns in a new process that is bound to ``threads`` cores."""
    program = f"import json; from {module} import measure; print(json.dumps(measure({threads})))"
    devices = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={threads}"}
    cores = sorted(os.sched_getaffinity(0))[:threads]
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | devices, stdout=subprocess.PIPE, text=True, check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )  # fmt: skip
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def processor() -> str:
    """Return the name of the processor, and the compiler's name of its architecture."""
    from llvmlite.binding import get_host_cpu_name

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{model} ({get_host_cpu_name()})"


def stamp(*others: str) -> dict[str, Any]:
    """Return the machine, the versions of libraries and the date."""
    versions = {name: installed(name) for name in ("uldnum", "numpy", "numba", "llvmlite", *others)}
    return {
        "processor": processor(), "cores": os.cpu_count(), "python": platform.python_version(),
        "versions": versions, "date": date.today().isoformat(),
    }  # fmt: skip


def main() -> None:
    """Measure with one thread and with two, store the times, and draw them."""
    rows = [row for threads in (1, 2) for row in worker(threads)]
    found = stamp("jax", "jaxlib", "diffrax", "blackjax") | {"chains": peers.CHAINS, "repeats": REPEATS}
    with atomic(DATA) as file:
        file.write_text(json.dumps(found | {"results": rows}, indent=1) + "\n")
    draw()


def grouped(rows: list[dict[str, Any]]) -> dict[tuple[str, str, int], dict[str, Array]]:
    """Return the nanoseconds of all repeats by (dtype, column, threads) and peer, for JAX those of the best variant."""
    table: dict[tuple[str, str, int], dict[str, Array]] = {}
    for row in rows:
        group = table.setdefault((row["dtype"], row["column"], row["threads"]), {})
        name, times = row["peer"].split(",")[0] if row["peer"].startswith("JAX") else row["peer"], row["nanoseconds"]
        if name not in group or np.median(times) < np.median(group[name]):
            group[name] = np.array(times)
    return table


def ratios(group: dict[str, Array]) -> dict[str, Array]:
    """Return the time of each peer over that of this package in every repeat; blackjax is compared with our ULA."""
    peers_of = {"blackjax sgld (ULA)": "uldnum, ULA"}
    skipped = ("uldnum", "uldnum, ULA", "limit")
    return {name: times / group[peers_of.get(name, "uldnum")] for name, times in group.items() if name not in skipped}


def report() -> str:
    """Return the medians and their ranges as text, one line for each type, column and number of threads."""
    stored = json.loads(DATA.read_text())
    lines = []
    for (kind, column, threads), group in grouped(stored["results"]).items():
        own = np.median(group["uldnum"])
        share = group["limit"][0] / own
        found = ", ".join(
            f"{name} {np.median(r):.3g}x ({r.min():.3g} to {r.max():.3g})" for name, r in ratios(group).items()
        )
        lines.append(f"{kind}, {column}, {threads} threads: {own:.3g} ns, {share:.0%} of the limit; {found}")
    return "\n".join(lines)


def draw() -> None:
    """Draw the ratios on two threads, and print all ratios."""
    with paper():
        draw_ratios()
    print(report())


def draw_ratios() -> None:
    """Draw the ratios on two threads. The axis begins at 1, the time of uldnum."""
    from matplotlib.figure import Figure

    stored = json.loads(DATA.read_text())
    table = grouped(stored["results"])
    names = ["JAX", "diffrax ALIGN", "blackjax sgld (ULA)", "NumPy", "Numba, plain prange"]
    colours = "#0072B2", "#E69F00", "#009E73", "#D55E00", "0.6"
    figure = Figure(figsize=(TWO_COLUMNS, 2.9), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, kind in zip(axes, DTYPES, strict=True):
        groups = {column: ratios(group) for (k, column, threads), group in table.items() if k == kind and threads == 2}
        for j, name in enumerate(names):
            places = np.arange(len(groups)) + (j - 2) * 0.16
            medians = np.array([np.median(group[name]) for group in groups.values()])
            spread = np.abs([[group[name].min(), group[name].max()] for group in groups.values()] - medians[:, None])
            axis.bar(places, medians, 0.15, yerr=spread.T, color=colours[j], label=name, error_kw={"elinewidth": 0.8})
            for place, median, above in zip(places, medians, spread[:, 1], strict=True):
                axis.text(place, 1.06 * (median + above), f"{median:.0f}", ha="center", fontsize="x-small")
        own = [np.median(table[kind, column, 2]["uldnum"]) for column in groups]
        labels = [f"{column}\n{time:.2g} ns" for column, time in zip(groups, own, strict=True)]
        axis.set(xticks=range(len(groups)), xticklabels=labels, yscale="log", title=kind, ylim=(1, 400))
        axis.axhline(1, color="k", lw=0.8)
    axes[0].set_ylabel("time relative to uldnum")
    plain_ticks(axes[0], axes[0].yaxis)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    settings = f"{stored['chains']} chains, two threads, {stored['processor']}"
    figure.suptitle(f"Time per step and chain: {settings}", fontsize="medium")
    save(figure, *FIGURES)

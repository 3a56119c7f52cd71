"""Tables of the guide: CPU times of what a run may do besides its steps (``python -m analysis costs``).

These are Metropolis tests, recorded moments, recorded momenta, shadow work, and the compilation of kernels. The runs of
a comparison are repeated in turn, in a process with one thread. A ratio is that of two runs of the same repeat. All
times are stored in ``data/costs.json``, with the machine, the versions and the date. ``python -m analysis draw costs``
writes the tables of the stored times to the pages.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numba
import numpy as np
from tqdm.auto import tqdm

import uldnum
from analysis import peers
from analysis.throughput import DTYPES, calibrated, duration, stamp, worker
from uldnum._util.files import atomic
from uldnum._util.typing import Array
from uldnum.targets.presets import bimodal_1d, ring_8

DATA, GUIDE = Path(__file__).parent / "data" / "costs.json", Path(__file__).parent / "guide"
CHAINS, H = 2000, 0.6
REPEATS, SECONDS, PROCESSES = 11, 0.15, 3

# The page of each table, and the names of the columns that identify a row.
TABLES = {
    "Metropolis tests": ("exact.md", "mixture | recorded"),
    "shadow work": ("exact.md", "mixture"),
    "recorded moments": ("speed.md", "mixture | type"),
    "recorded momenta": ("speed.md", "mixture | `record_every`"),
    "first run": ("speed.md", "first run of a process"),
}

# The first run of a process with a kernel, which is compiled or loaded from disk.
FIRST_RUN = """
import time, uldnum
begun = time.process_time()
uldnum.sample("ring-8", "BAOAB", h=0.5, steps=1, chains=1, progress=False)
print(time.process_time() - begun)
"""


class Comparison(NamedTuple):
    """Runs that are repeated in turn.

    Attributes
    ----------
    table : str
        One of `TABLES`.
    row : str
        The first cells of the row of the table.
    runs : dict of str to callable
        Functions of the number of steps by the names of their columns. The first one is what the others are compared
        with, and has no column.
    """

    table: str
    row: str
    runs: dict[str, Callable[[int], object]]


def mixtures() -> dict[str, uldnum.GaussianMixture]:
    """Return the targets by their names in the tables."""
    rng = np.random.default_rng(0)
    presets = {"`bimodal-1d`": bimodal_1d(), "`ring-8`": ring_8()}
    return presets | {f"{d} dimensions, 8 components": peers.equal(8, d, rng) for d in (4, 16, 64)}


def kernel(
    case: uldnum.GaussianMixture, kind: str, integrator: str, recorded: bool, **options: Any
) -> Callable[[int], object]:
    """Return the kernel of `uldnum.sample`, with recorded moments or without them."""
    return peers.kernel(case, DTYPES[kind], integrator, recorded, h=H, **options)


def comparisons() -> Iterator[Comparison]:
    """Yield all comparisons."""
    cases = mixtures()
    small = {name: case for name, case in cases.items() if case.shape[0] <= 16}
    for name in ("`bimodal-1d`", "`ring-8`"):
        for recorded, what in ((True, "moments"), (False, "nothing")):
            for kind in DTYPES:
                word, test = (kernel(cases[name], kind, integrator, recorded) for integrator in ("OBABO", "ghmc"))
                yield Comparison("Metropolis tests", f"{name} | {what}", {"OBABO": word, kind: test})
    for name, case in cases.items():
        for kind in DTYPES:
            for integrator in ("ULA", "BAOAB", "OBABO"):
                without, moments = (kernel(case, kind, integrator, recorded) for recorded in (False, True))
                yield Comparison("recorded moments", f"{name} | {kind}", {"nothing": without, integrator: moments})
    for name, case in small.items():
        for every in (1,) if case.shape[0] < 16 else (1, 8):
            runs = {
                record: kernel(case, "float64", "BAOAB", True, record=record, record_every=every)
                for record in ("covariance", "phase-space-variance", "phase-space-covariance")
            }
            yield Comparison("recorded momenta", f"{name} | {every}", runs)
    for name, case in small.items():
        sample, work = kernel(case, "float64", "BAOAB", True), partial(shadow_work, case)
        yield Comparison("shadow work", name, {"sample": sample, "`shadow_work`": work})


def shadow_work(case: uldnum.GaussianMixture, steps: int) -> Array:
    """Return the shadow work of BAOAB."""
    return uldnum.diagnostics.shadow_work(case, "BAOAB", h=H, steps=steps, chains=CHAINS)


def measure(threads: int) -> list[dict[str, Any]]:
    """Return the CPU time per step and chain of all runs of all comparisons, in nanoseconds."""
    peers.CHAINS = CHAINS
    numba.set_num_threads(threads)
    rows = []
    for table, row, runs in tqdm(comparisons()):
        steps = {name: calibrated(run, SECONDS) for name, run in runs.items()}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(REPEATS):
            for name, run in runs.items():
                taken = duration(run, steps[name], time.process_time)
                times[name].append(taken / steps[name] / CHAINS * 1e9)
        rows.append({"table": table, "row": row, "nanoseconds": times})
    return rows


def first_runs() -> dict[str, list[float]]:
    """Return the CPU seconds of the first run of a process, without and with stored kernels."""
    times: dict[str, list[float]] = {"without stored kernels": [], "with stored kernels": []}
    for _ in range(PROCESSES):
        with TemporaryDirectory() as folder:
            for values in times.values():
                done = subprocess.run(
                    [sys.executable, "-c", FIRST_RUN], env=os.environ | {"NUMBA_CACHE_DIR": folder},
                    stdout=subprocess.PIPE, text=True, check=True,
                )  # fmt: skip
                values.append(float(done.stdout))
    return times


def main() -> None:
    """Measure all costs, store the times, and write the tables."""
    first = {"table": "first run", "row": "BAOAB on `ring-8`", "seconds": first_runs()}
    found = stamp() | {"chains": CHAINS, "h": H, "repeats": REPEATS, "results": [first, *worker(1, __name__)]}
    with atomic(DATA) as file:
        file.write_text(json.dumps(found, indent=1) + "\n")
    draw()


def tables() -> dict[str, str]:
    """Return the tables of the stored times in Markdown, by name."""
    rows: dict[str, dict[str, dict[str, str]]] = {name: {} for name in TABLES}
    for entry in json.loads(DATA.read_text())["results"]:
        rows[entry["table"]].setdefault(entry["row"], {}).update(cells(entry))
    return {name: table(head, rows[name]) for name, (_, head) in TABLES.items()}


def cells(entry: dict[str, Any]) -> dict[str, str]:
    """Return the text of cells by column: the median of times, or the median and the quartiles of ratios."""
    if "seconds" in entry:
        return {name: f"{np.median(times):.2g} s" for name, times in entry["seconds"].items()}
    (_, base), *others = ((name, np.array(times)) for name, times in entry["nanoseconds"].items())
    quartiles = {name: np.percentile(times / base, [25, 50, 75]) for name, times in others}
    return {name: f"{middle:.2f} ({low:.2f} to {high:.2f})" for name, (low, middle, high) in quartiles.items()}


def table(head: str, rows: dict[str, dict[str, str]]) -> str:
    """Return a table in Markdown."""
    titles = [*head.split(" | "), *next(iter(rows.values()))]
    lines = [" | ".join(titles), *(" | ".join([row, *texts.values()]) for row, texts in rows.items())]
    first, *others = (f"| {line} |" for line in lines)
    return "\n".join([first, f"|{'---|' * len(titles)}", *others])


def draw() -> None:
    """Write the tables of the stored times to the pages, in place of those with the same first line, and print them."""
    for name, text in tables().items():
        page = GUIDE / TABLES[name][0]
        before, first, rest = page.read_text(encoding="utf-8").partition(text.splitlines()[0])
        after = rest[rest.index("\n\n") :] if first else ""
        if not after:
            raise ValueError(f"{page.name}: has no table with the first line {text.splitlines()[0]!r}")
        with atomic(page) as file:
            file.write_text(before + text + after, encoding="utf-8")
        print(f"{name}\n\n{text}\n")

"""Page: fraction of the time of a plan that is spent outside the compiled kernel (``python -m analysis overhead``).

The compiled kernel is timed on every thread while plans run. It computes the scores, random numbers and updates. The
remaining time is that of drawing initial states, building the tables of the levels, starting threads and waiting for
the last one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numba
import numpy as np
from tqdm import tqdm

import uldnum
from analysis.throughput import processor
from uldnum._util.files import atomic
from uldnum.kernels.numba import executor as cpu
from uldnum.kernels.numba.blocks import mixture_kernel

PAGE = Path(__file__).parent / "overhead.md"

LEVELS = 232
CHAINS = (2000, 20_000, 100_000)
METHODS = {"ALD": "ula", "MILD(0.38)": "mild(0.38)", "baoab-limit": "baoab-limit", "BAOAB": "BAOAB"}
REPEATS = 15

TEXT = """# Overhead of plans outside the compiled kernel

*Written by `python -m analysis overhead` with {threads} threads on {processor}.*

The plans sample forty Gaussians in the plane (`gmm-40`, float64) through {levels} noise levels from 50 to 0.01. The
compiled kernel computes scores, random numbers and updates. A cell shows the fraction of the time of `uldnum.anneal`
that is spent outside this kernel: the median of {repeats} runs and, in parentheses, the quartiles. The last number of
a cell is the median duration of a run.

The time outside the kernel is needed to draw and check positions and momenta, to build the tables of the levels, and
to wait for the slowest thread, which other programs may delay. About 1 to 2.5 ms of it do not depend on the
number of chains. They are most of the overhead of the shortest runs.

| plan | steps per level | {chains} |
|---|---|{rule}
{lines}
"""


class Timed:
    """A factory of kernels that measures their total time over all threads."""

    def __init__(self) -> None:
        self.milliseconds, self.lock = 0.0, threading.Lock()

    def __call__(self, *arguments: Any) -> Callable[..., None]:
        """Return the kernel with a timer around it."""
        kernel = mixture_kernel(*arguments)

        def timed(*arguments: Any) -> None:
            taken = milliseconds(lambda: kernel(*arguments))
            with self.lock:
                self.milliseconds += taken

        return timed


def measured(plan: uldnum.Plan, mixture: Any, chains: int, seed: int) -> tuple[float, float]:
    """Return the percentage of a run's time outside the kernel, and the duration of the run in milliseconds."""
    clock = Timed()
    with patch.object(cpu, "mixture_kernel", clock):
        taken = milliseconds(lambda: uldnum.anneal(mixture, plan, chains=chains, seed=seed, progress=False))
    return 100 - 100 * clock.milliseconds / numba.get_num_threads() / taken, taken


def milliseconds(work: Callable[[], Any]) -> float:
    """Return the duration of a call in milliseconds."""
    begun = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - begun)


def cell(runs: list[tuple[float, float]]) -> str:
    """Return the text of one cell, from all runs except the first, which may include compilation."""
    (low, middle, high), (_, duration, _) = np.percentile(runs[1:], [25, 50, 75], axis=0).T
    return f"{middle:.1f}% ({low:.1f} to {high:.1f}), {duration:.0f} ms"


def main() -> None:
    """Run all plans in turn, repeatedly, and write the page."""
    at = uldnum.levels.geometric(50.0, 0.01, LEVELS)
    mixture: Any = uldnum.target("gmm-40")
    plans = {
        (name, steps): uldnum.plan(method, at, steps=steps, h=1.0)
        for name, method in METHODS.items()
        for steps in (1, 5)
    } | {("DDIM", 1): uldnum.plan("ddim", at)}
    found: dict[Any, list[tuple[float, float]]] = {(*key, chains): [] for key in plans for chains in CHAINS}
    for repeat in tqdm(range(REPEATS + 1)):
        for name, steps, chains in found:
            found[name, steps, chains].append(measured(plans[name, steps], mixture, chains, repeat))
    lines = (
        f"| {name} | {steps} | {' | '.join(cell(found[name, steps, chains]) for chains in CHAINS)} |"
        for name, steps in plans
    )
    text = TEXT.format(
        threads=numba.get_num_threads(), processor=processor(), levels=LEVELS, repeats=REPEATS, lines="\n".join(lines),
        chains=" | ".join(f"{chains} chains" for chains in CHAINS), rule="---|" * len(CHAINS),
    )  # fmt: skip
    with atomic(PAGE) as file:
        file.write_text(text, encoding="utf-8")

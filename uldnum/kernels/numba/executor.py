"""The Numba executor: a pool of threads that runs compiled kernels on ranges of chains."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from numba.core import event
from tqdm.auto import tqdm

from uldnum._util.typing import Array
from uldnum.kernels.numba.blocks import lanes_of, mixture_kernel, room, user_kernel
from uldnum.kernels.program import MAX_COEFFICIENTS, Executor, Part, Program
from uldnum.kernels.source.chain import Carried, Chains, Launch
from uldnum.kernels.source.mixture import MixtureData
from uldnum.kernels.state import State

__all__ = ["NumbaExecutor"]

# FIRST_TERMS is the maximum number of score terms in the first launch, which then takes a few hundredths of a second.
# STEP_COST is the cost of a step without its score, and USER_SCORE_COST is the cost of a user's score. Both are per
# dimension and in units of one score term.
FIRST_TERMS, STEP_COST, USER_SCORE_COST = 200_000_000, 8, 200

# Number of blocks of chains that finish a phase before the next phase starts. Many blocks share the cost of looking up
# the tables of a phase, which takes as long as several steps. All blocks together should fit into the cache.
TILE = 16

# A thread that asks for work receives 1/(SHARES threads) of the remaining chains.
SHARES = 2

# Seconds between checks for Ctrl-C. A signal that arrives just before the wait does not end it, hence the timeout.
POLL_INTERVAL = 0.1


@cache
def pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Return a pool of threads that lives as long as the process.

    The process ID is an argument because a forked process inherits the cache but not the threads.
    """
    return ThreadPoolExecutor(threads)


class Announcement(event.Listener):
    """Listener that prints a message in a terminal when Numba compiles for the first time."""

    said = False

    def on_start(self, event: Any) -> None:
        """Print the message, unless it was printed before."""
        if not self.said and sys.stderr.isatty():
            tqdm.write("uldnum: compiling the kernel for this processor, about ten seconds ...", file=sys.stderr)
        self.said = True

    def on_end(self, event: Any) -> None:
        """Do nothing."""


def announced(announce: bool) -> Any:
    """Return a factory of context managers, which announce compilation if ``announce`` is True."""
    return partial(event.install_listener, "numba:compile", Announcement()) if announce else nullcontext


def edges(chains: int, lanes: int, threads: int, tile: int) -> Array:
    """Return the edges of ranges of chains, each of which is the work that a thread takes at once.

    Each range, except the last ones, consists of whole tiles of blocks. Later ranges are shorter, so that threads of
    different speed finish at about the same time (guided self-scheduling, Polychronopoulos & Kuck 1987).
    """
    blocks, cuts = -(-chains // lanes), [0]
    while cuts[-1] < blocks:
        share = -(-(blocks - cuts[-1]) // (SHARES * threads))
        cuts.append(cuts[-1] + share - share % min(tile, share))
    return np.minimum(np.array(cuts) * lanes, chains)


def run_on_threads(threads: int, kernel: Callable[..., None], parts: list[tuple[Any, ...]]) -> None:
    """Call a kernel with each tuple of arguments; each thread repeatedly takes the next remaining tuple.

    Running calls write to the state. The function therefore returns, or raises the error of a call, only after all
    calls have ended. Ctrl-C is the exception: it ends the function at once, while running calls continue to their end.
    The calling thread runs no kernel, so that it can receive the signal.
    """
    left = deque(parts)

    def work() -> None:
        while True:
            try:
                arguments = left.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                kernel(*arguments)
            except BaseException:
                left.clear()
                raise

    workers = pool(threads, os.getpid())
    tasks: list[Future[None]] = []
    try:  # Ctrl-C may arrive when some threads already run and others have no task yet
        while len(tasks) < min(threads, len(parts)):
            tasks.append(workers.submit(work))
        while wait(tasks, timeout=POLL_INTERVAL).not_done:
            pass
    except BaseException as error:
        left.clear()
        if not isinstance(error, KeyboardInterrupt):  # for example, no further thread can be started
            wait(tasks)
        raise
    for task in tasks:
        task.result()


class NumbaExecutor(Executor):
    """Executor of compiled kernels, which runs one block of chains at a time on each thread.

    A short phase may take less time than a kernel call. The tables of all phases are therefore laid out once, and each
    range of chains runs through all phases of a launch without waiting for other ranges.

    Parameters
    ----------
    program : Program
        Program whose targets are mixtures, or have a score that Numba compiles.
    threads : int, optional
        Number of threads. Results do not depend on it. Default: ``numba.get_num_threads()``.
    announce : bool
        Whether to print a message in a terminal when a kernel is compiled.
    lanes : int, optional
        Number of chains in a block. Results do not depend on it. Default: `lanes_of`.
    """

    def __init__(
        self, program: Program, threads: int | None = None, announce: bool = False, lanes: int | None = None
    ) -> None:
        program.check_compiled("numba")
        self.program, self.dtype, self.d = program, program.dtype, program.shape[0]
        self.threads = threads or numba.get_num_threads()
        self.announcement = announced(announce)
        self.lanes = lanes or lanes_of(self.dtype, self.d)
        self.info = {"threads": str(self.threads)}
        _, data, faults = self.kernel_of(0, 1)
        if isinstance(data, MixtureData):
            numbers = sum(part.size for part in data)
            terms, self.phases, self.scratch = data.terms, max(1, MAX_COEFFICIENTS // numbers), data.scratch
        else:
            for name, fault in faults.items():
                self.info[name] = (
                    f"called chain by chain because it does not run on vectors: {fault}" if fault else "on vectors"
                )
            # The scratch memory holds two rows of scalars.
            terms, self.phases, self.scratch = USER_SCORE_COST * self.d, 1, 2 * self.d // self.lanes + 1
            if program.targets.target(0).frame is not None:
                self.scratch += self.d  # for F y
        self.work = terms + STEP_COST * self.d

    def kernel_of(self, first: int, last: int) -> tuple[Any, Any, dict[str, str]]:
        """Return the kernel for phases first ... last - 1, the data that it reads, and the faults of `user_kernel`.

        With a user's score, a launch has a single phase.
        """
        mixture = self.program.targets.mixtures(first, last)
        if mixture is not None:
            columns = min(mixture.roots.shape[-1], 2)
            return mixture_kernel(self.dtype, self.lanes, columns, self.program.metropolised), mixture, {}
        target = self.program.targets.target(first)
        framed, density = target.frame is not None, target.compiled_log_density if self.program.metropolised else None
        # A log density is computed in float64.
        of_score, of_density = (target.score_arguments(dtype) for dtype in (self.dtype, np.dtype(float)))
        kinds, density_kinds = (tuple(map(numba.typeof, arguments)) for arguments in (of_score, of_density))
        kernel, faults = user_kernel(
            self.dtype, self.lanes, target.compiled_score, kinds, framed, density, density_kinds
        )
        data = of_score if density is None else (of_score, of_density)
        return kernel, (target.frame.astype(self.dtype), data) if framed else data, faults

    def first_launch(self, state: State) -> int:
        """Return a number of steps that takes a few hundredths of a second. Unused lanes cost as much as chains."""
        H, n = state.escape_step.shape
        work = self.work + state.products.shape[2] // self.program.recording.every
        return max(1, FIRST_TERMS // (H * max(n, self.lanes) * work))

    def advance(self, state: State, until: int) -> Array:
        """Run up to step ``until``; see `uldnum.kernels.program.Executor.advance`."""
        kept, trace = state.trace(self.program.recording, until)
        parts = list(self.program.parts(state.step, until))
        for begin in range(0, len(parts), self.phases):
            self.launch(state, parts[begin : begin + self.phases], trace, kept)
        state.step = until
        return trace

    def launch(self, state: State, parts: list[Part], trace: Array, kept: int) -> None:
        """Run parts of consecutive phases, with one kernel call for each group and range of chains."""
        program, (H, n) = self.program, state.escape_step.shape
        phase, end, tile = parts[0].phase, parts[-1].phase + 1, TILE if len(parts) > 1 else 1
        _, first, last, before = np.ascontiguousarray(np.array(parts).T)
        kernel, data, _ = self.kernel_of(phase, end)
        launch = Launch(
            program.tables, phase, data, *program.targets.bounds(phase, end),
            program.keys[phase:end], first, last, first, before, program.recording, program.first_chain,
        )  # fmt: skip
        chains = Chains(
            state.u.reshape(H, n, -1), state.phase_space.reshape(H, n, -1), state.sums, state.products, state.counts,
            state.escape_step[..., None], state.nfe, Carried(state.score, state.log_density, state.accepted), trace,
            kept,
        )  # fmt: skip
        needed = room(program.tables, self.d, self.scratch, int((last - first).max()) + 1)
        # If histograms are recorded, the ranges are the batches, so that no two threads write to the same histogram.
        counted = state.counts.size > 0
        ranges = list(pairwise(state.batches() if counted else edges(n, self.lanes, self.threads, tile)))
        calls = [
            (g, lo, hi, batch * counted, tile, launch, needed, chains)
            for g in range(H)
            for batch, (lo, hi) in enumerate(ranges)
        ]
        with self.announcement():
            run_on_threads(self.threads, kernel, calls)

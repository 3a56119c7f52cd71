"""The Numba executor: compiled code on threads, which go over ranges of chains."""

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
from uldnum.kernels.program import MOST, Part, Program
from uldnum.kernels.source.chain import Chains, Launch
from uldnum.kernels.source.mixture import MixtureData
from uldnum.kernels.state import State

__all__ = ["NumbaExecutor"]

# Most terms of scores in the first launch, some hundredths of a second. In units of a term: the cost of the rest of a
# step, and of a step with a user's score, in each dimension.
FIRST, OTHER, UNKNOWN = 200_000_000, 8, 200

# Blocks of chains that go through a phase before the next one begins: to look up its tables takes as long as some of
# their steps, and all of them together should stay in the cache.
TILE = 16

# The next range of chains is 1/(SHARES threads) of those that are left.
SHARES = 2

# Seconds between checks for Ctrl-C while waiting: a signal that comes just before does not wake the thread.
HEARING = 0.1


@cache
def pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Return so many threads of a process, which wait for work from launch to launch; a forked one has none of them."""
    return ThreadPoolExecutor(threads)


class Announcement(event.Listener):
    """Says that Numba compiles, once, where someone may be waiting: in a terminal."""

    said = False

    def on_start(self, event: Any) -> None:
        """Say it."""
        if not self.said and sys.stderr.isatty():
            tqdm.write("uldnum: compiling the kernel for this processor, some ten seconds ...", file=sys.stderr)
        self.said = True

    def on_end(self, event: Any) -> None:
        """Say nothing."""


def announced(announce: bool) -> Any:
    """Return what makes a context that reports compilation, or one that does nothing."""
    return partial(event.install_listener, "numba:compile", Announcement()) if announce else nullcontext


def edges(chains: int, lanes: int, threads: int, tile: int) -> Array:
    """Return the edges of ranges of chains, of whole tiles of blocks each, but for the last ones, which are shorter.

    Ranges grow shorter, so that threads of different speed end together (guided self-scheduling, Polychronopoulos &
    Kuck 1987).
    """
    blocks, cuts = -(-chains // lanes), [0]
    while cuts[-1] < blocks:
        share = -(-(blocks - cuts[-1]) // (SHARES * threads))
        cuts.append(cuts[-1] + share - share % min(tile, share))
    return np.minimum(np.array(cuts) * lanes, chains)


def shared(threads: int, kernel: Callable[..., None], parts: list[tuple[Any, ...]]) -> None:
    """Call a kernel with each of these arguments, on threads that take the next ones left.

    All calls have ended when this returns, or raises the error of one: none may go on in the state's memory. This
    thread only waits, so that Ctrl-C is heard; calls that have begun by then go on to their end.
    """
    left = deque(parts)

    def work() -> None:
        while True:
            try:
                arguments = left.popleft()
            except IndexError:  # another thread took the last
                return
            try:
                kernel(*arguments)
            except BaseException:
                left.clear()
                raise

    workers = pool(threads, os.getpid())
    tasks: list[Future[None]] = []
    try:  # Ctrl-C may come when the first thread works already and the last one has no task yet
        while len(tasks) < min(threads, len(parts)):
            tasks.append(workers.submit(work))
        while wait(tasks, timeout=HEARING).not_done:
            pass
    except BaseException as error:
        left.clear()
        if not isinstance(error, KeyboardInterrupt):  # no thread can be started, say
            wait(tasks)
        raise
    for task in tasks:
        task.result()


class NumbaExecutor:
    """Runs a program with compiled code, a vector of chains after the other on each thread.

    A phase alone may take less time than to hand its tables to a kernel. So the tables of all phases are laid out once,
    and ranges of chains go through as many phases as a launch has without waiting for each other.

    Parameters
    ----------
    program : Program
        Its targets are mixtures, or have a score compiled by Numba.
    threads : int, optional
        Default: the cores that this process may use. Results do not depend on it.
    announce : bool
        Say in a terminal that something is compiled.
    lanes : int, optional
        Chains in a block. Results do not depend on it.
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
        _, data, fault = self.kernel_of(0, 1)
        if isinstance(data, MixtureData):
            numbers = sum(part.size for part in data)
            terms, self.phases, self.scratch = data.terms, max(1, MOST // numbers), data.scratch
        else:
            self.info["score"] = (
                f"called chain by chain, it does not run on vectors: {fault}" if fault else "on vectors"
            )
            terms, self.phases, self.scratch = UNKNOWN * self.d, 1, 2 * self.d // self.lanes + 1  # two rows of numbers
        products = self.d * (self.d + 1) // 2 if program.recording.moments else 0
        self.work = terms + OTHER * self.d + products

    def kernel_of(self, first: int, last: int) -> tuple[Any, Any, str]:
        """Return the kernel of phases first ... last - 1, what it reads of their targets, and its fault.

        The fault says why a user's score does not run on vectors. Such a score is that of one phase.
        """
        mixture = self.program.targets.mixtures(first, last)
        if mixture is not None:
            return mixture_kernel(self.dtype, self.lanes, min(mixture.roots.shape[-1], 2)), mixture, ""
        target = self.program.targets.target(first)
        arguments = target.score_arguments(self.dtype)
        kernel, fault = user_kernel(self.dtype, self.lanes, target.compiled_score, tuple(map(numba.typeof, arguments)))
        return kernel, arguments, fault

    def first_launch(self, state: State) -> int:
        """Return the steps that take some hundredths of a second; fewer chains than lanes take as long as these."""
        H, n = state.escape_step.shape
        return max(1, FIRST // (H * max(n, self.lanes) * self.work))

    def advance(self, state: State, until: int) -> Array:
        """Go on to step ``until``, record, and read the last state; returns the positions kept."""
        kept, trace = state.trace(self.program.recording, until)
        parts = list(self.program.parts(state.step, until))
        for begin in range(0, len(parts), self.phases):
            self.launch(state, parts[begin : begin + self.phases], trace, kept)
        state.step = until
        return trace

    def sync(self, state: State) -> None:
        """Do nothing: the state is changed in place."""

    def launch(self, state: State, parts: list[Part], trace: Array, kept: int) -> None:
        """Call the kernel on ranges of chains of every group, on the threads."""
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
            state.escape_step[..., None], state.nfe, trace, kept,
        )  # fmt: skip
        needed = room(program.tables, self.d, self.scratch, int((last - first).max()) + 1)
        # Histograms are counted by batches.
        counted = state.counts.size > 0
        ranges = list(pairwise(state.batches() if counted else edges(n, self.lanes, self.threads, tile)))
        calls = [
            (g, lo, hi, batch * counted, tile, launch, needed, chains)
            for g in range(H)
            for batch, (lo, hi) in enumerate(ranges)
        ]
        with self.announcement():
            shared(self.threads, kernel, calls)

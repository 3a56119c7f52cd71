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

from uldnum.kernels import BATCHES, Problem, State, check_rows, split_seed
from uldnum.kernels.blocks import Launch, lanes_of, mixture_kernel, room, user_kernel
from uldnum.typing import Array

__all__ = ["NumbaExecutor"]

# Numbers that the first launch of a run draws at most: some milliseconds.
FIRST = 1_000_000

# What is left of a launch is shared among so many times the threads, and the next range of chains is one share.
SHARES = 2

# Seconds after which a thread that waits looks up: a signal that comes just before it waits does not wake it.
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
    """Return what makes a context in which it is said, where it is to be, that something is compiled."""
    return partial(event.install_listener, "numba:compile", Announcement()) if announce else nullcontext


def edges(chains: int, lanes: int, threads: int, tile: int = 1) -> Array:
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
    """Runs a problem with compiled code, a vector of chains after the other on each thread.

    Parameters
    ----------
    problem : Problem
        Its target is a mixture, or has a score compiled by Numba.
    dtype : dtype
        float32 or float64.
    threads : int, optional
        Default: the cores that this process may use. Results do not depend on it.
    announce : bool
        Say in a terminal that something is compiled.
    lanes : int, optional
        Chains in a block. Results do not depend on it.
    """

    def __init__(
        self,
        problem: Problem,
        dtype: np.dtype[Any],
        threads: int | None = None,
        announce: bool = False,
        lanes: int | None = None,
    ) -> None:
        self.problem = problem
        self.threads = threads or numba.get_num_threads()
        self.announcement = announced(announce)
        d = problem.target.shape[0]
        self.lanes = lanes = lanes or lanes_of(dtype, d)
        check_rows(problem.tables, "numba")
        self.info = {"threads": str(self.threads)}
        mixture = problem.kernel_data(dtype)
        self.target: Any = problem.target.score_arguments(dtype) if mixture is None else mixture
        if mixture is not None:
            self.width = mixture.scratch
            self.kernel = mixture_kernel(dtype, lanes, min(mixture.roots.shape[2], 2))
        else:
            types = tuple(numba.typeof(argument) for argument in self.target)
            self.kernel, fault = user_kernel(dtype, lanes, problem.target.compiled_score, types)
            self.info["score"] = (
                f"called chain by chain, it does not run on vectors: {fault}" if fault else "on vectors"
            )
            self.width = 2 * d // lanes + 1  # two rows of numbers

    def first_launch(self, state: State) -> int:
        """Steps that take some milliseconds."""
        return max(1, FIRST // (state.u[..., 0, :].size))

    def enter(self, state: State) -> None:
        """Do nothing: the first steps open the recurrence themselves, which saves a launch."""

    def advance(self, state: State, last: int) -> Array:
        """Go on to step ``last``, record what is watched, and read the last state; returns the positions kept."""
        trace = self.run(state, state.step == 0, last)
        state.step = last
        return trace

    def settle(self, state: State) -> None:
        """Do nothing: the state is changed in place."""

    def run(self, state: State, begin: bool, last: int) -> Array:
        """Call the kernel on ranges of chains of every group, on the threads."""
        H, n = state.left.shape
        problem = self.problem
        kept, trace = state.trace(problem.watch, last)
        u, xp, left = state.u.reshape(H, n, -1), state.xp.reshape(H, n, -1), state.left[..., None]
        launch = Launch(problem.tables, self.target, problem.watch, *split_seed(problem.seed), state.step + 1, last)
        sizes = room(problem.tables, state.xp.shape[3], self.width, last - state.step)
        before: tuple[Any, ...] = (
            0, 1, 1, begin, launch, sizes, problem.first_chain,
            u, xp, state.nfe, state.sums, state.squares, left,
        )  # fmt: skip
        # Histograms are counted by batches.
        cuts = state.batches() if state.counts.size else edges(n, self.lanes, self.threads)
        ranges = list(enumerate(pairwise(cuts)))
        parts = [
            (g, lo, hi, *before, state.counts[g, b % BATCHES], trace, kept) for g in range(H) for b, (lo, hi) in ranges
        ]
        with self.announcement():
            shared(self.threads, self.kernel, parts)
        return trace

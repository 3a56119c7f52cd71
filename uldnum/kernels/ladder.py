"""Many noise levels of a mixture in one launch of compiled code.

A level alone may take less time than to hand its tables to a kernel. So the tables of all phases of a plan are laid out
once, and ranges of chains go through as many phases as a launch has without waiting for each other.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numba
import numpy as np

from uldnum.kernels import Passage, State, check_rows
from uldnum.kernels.blocks import lanes_of, mixture_kernel, room
from uldnum.kernels.core import Tables, Watch, phase
from uldnum.kernels.cpu import announced, edges, shared
from uldnum.kernels.lanes import jit
from uldnum.kernels.mixture import MixtureData
from uldnum.kernels.values import borrowed
from uldnum.typing import Array

__all__ = ["NumbaLadder"]

# Blocks of chains that go through a phase before the next one begins: to look up its tables takes as long as some of
# their steps, and all of them together should stay in the cache.
TILE = 16

# Terms of the score that the first launch of a run takes at most: some tenths of a second.
FIRST = 1_000_000_000

# Numbers that a phase draws, beyond which it is not taken together with others: about a second.
LONG = 50_000_000


class Rungs(NamedTuple):
    """What each phase is made of, as the kernel reads it: arrays with an axis over P phases."""

    tables: Tables  # as `lay_out` returns them
    stages: Array  # (P + 1,), where the stages of each phase begin in the tables
    keys: Array  # (P, 2), of the random numbers
    counts: Array  # (P,), time steps
    before: Array  # (P,), time steps of all phases before
    nothing: Array  # (d,), zeros
    least: Array  # (P, d), where chains diverge
    most: Array  # (P, d)
    target: MixtureData  # at the noise levels of the phases of a launch
    begin: int  # the first of them


phase_of = jit(phase)


def rung(problem: Rungs, g: int, p: int) -> tuple[Any, ...]:
    """Return phase p as the kernel takes it: it counts its steps from 1, and records nothing."""
    m, i = problem.target, p - problem.begin
    target = MixtureData(
        borrowed(m.log2_weights[i]), borrowed(m.precisions[i]), borrowed(m.roots[i]), borrowed(m.shifts[i])
    )
    steps, nothing = problem.counts[p], problem.nothing
    watch = Watch(steps + 1, 1, 0, nothing, problem.least[p], problem.most[p], nothing, nothing)
    tables = phase_of(problem.tables, problem.stages, p)
    return tables, target, watch, (problem.keys[p, 0], problem.keys[p, 1]), (1, steps), problem.before[p]


class NumbaLadder:
    """Runs phases with compiled code, in place.

    Parameters
    ----------
    passage : Passage
        The phases.
    threads : int, optional
        Default: the cores that this process may use.
    announce : bool
        Say in a terminal that something is compiled.
    """

    def __init__(self, passage: Passage, threads: int | None, announce: bool) -> None:
        self.passage, layout = passage, passage.layout
        check_rows(layout.tables, "numba")
        self.threads = threads or numba.get_num_threads()
        self.info = {"threads": str(self.threads)}
        self.announcement = announced(announce)
        self.lanes = lanes_of(passage.dtype, passage.mixture.shape[0])
        self.rungs = partial(
            Rungs, layout.tables, layout.stages, passage.keys, layout.counts, layout.before,
            np.zeros(passage.mixture.shape), passage.least, passage.most,
        )  # fmt: skip

    def longest(self, state: State) -> float:
        """Steps of a phase that take about a second."""
        return self.passage.longest(state, self.lanes, LONG)

    def first_launch(self, state: State) -> int:
        """Phases that take some tenths of a second."""
        return self.passage.first_launch(state, self.lanes, FIRST)

    def climb(self, state: State, first: int, last: int) -> None:
        """Take every chain through phases first ... last - 1."""
        for begin, end in self.passage.pieces(first, last):
            self.launch(state, begin, end)

    def launch(self, state: State, first: int, last: int) -> None:
        """Do so in one launch."""
        n, d = state.left.shape[1], state.xp.shape[3]
        passage, layout = self.passage, self.passage.layout
        target = passage.mixtures(first, last)
        kernel = mixture_kernel(passage.dtype, self.lanes, min(target.roots.shape[-1], 2), rung)
        sizes = room(layout.tables, d, target.scratch, int(layout.counts[first:last].max()))
        arguments: tuple[Any, ...] = (
            first, last, TILE, True, self.rungs(target, first), sizes, passage.first_chain,
            state.u.reshape(1, n, -1), state.xp.reshape(1, n, -1), state.nfe, state.sums, state.squares,
            state.left[..., None], state.counts[0, 0], np.empty((0, 1, n, d), state.xp.dtype), 0,
        )  # fmt: skip
        cuts = edges(n, self.lanes, self.threads, TILE)
        with self.announcement():
            shared(self.threads, kernel, [(0, lo, hi, *arguments) for lo, hi in pairwise(cuts)])
        state.step = int(layout.ends[last - 1])

    def settle(self, state: State) -> None:
        """Do nothing: the state is up to date."""

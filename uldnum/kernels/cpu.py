"""The Numba executor: the core compiled for vectors of chains, threads over batches of chains.

A block of chains, one in each lane, runs on its own in scratch memory that fits the first-level cache.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from functools import cache, lru_cache, partial
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from numba.core import event
from numba.core.caching import FunctionCache
from tqdm.auto import tqdm

from uldnum.kernels import BATCHES, SOURCES, Problem, State, check_rows, split_seed, values, vectors
from uldnum.kernels.chain import make_chain
from uldnum.kernels.core import group
from uldnum.kernels.lanes import core, jit, ops
from uldnum.kernels.lift import lift
from uldnum.typing import Array

__all__ = ["NumbaExecutor"]

# Numbers that the first launch of a run draws at most: some milliseconds.
FIRST = 1_000_000

# Ranges of chains for each thread of a launch: what a thread is late with, the others can take over.
SHARES = 4

# Normals of a chain that are drawn at once, at least.
NORMALS = 64


def lanes_of(dtype: np.dtype[Any], d: int) -> int:
    """Chains in a block, by measurement: several registers, so that one instruction need not wait for the one before.

    In one dimension there is little else in the cache, and twice as many are faster still.
    """
    return 64 if d == 1 or dtype == np.float32 else 32


@cache
def pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Return so many threads of a process, which wait for work from launch to launch; a forked one has none of them."""
    return ThreadPoolExecutor(threads)


class KernelCache(FunctionCache):
    """Numba's cache on disk for a kernel that is a closure: its key is its name and the source of all kernels."""

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return sig, codegen.magic_tuple(), SOURCES


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


def make_kernel(dtype: np.dtype[Any], lanes: int, score: Callable[..., Any], target: str) -> Any:
    """Return the kernel: the core's steps, in a loop over blocks of chains; ``target`` tells apart those of scores."""
    variant = f"{dtype}-{lanes}-{target}"
    inlined = partial(jit, variant=variant)
    apart = partial(inlined, forceinline=False)  # what is called now and then need not be compiled where it is called
    machine, bound = ops(dtype, lanes), core(dtype, lanes)
    words, box_muller, affine, bin_of = bound.words, bound.box_muller, bound.affine, bound.bin_of
    bits, from_bits, tail = machine.bits, machine.from_bits, machine.tail
    view, iota = values.view(lanes), vectors.iota(lanes)
    line = 64  # bytes of a line of the cache: vectors that straddle two cost twice

    def draw(xi, first, count, chain, stream, k0, k1):  # type: ignore[no-untyped-def]
        # Two loops: a chain of dependent operations as long as both would leave too few of them in flight.
        begin, blocks = first // 4, (first % 4 + count + 3) // 4 if count > 0 else 0
        for b in range(blocks):
            w0, w1, w2, w3 = words(np.uint64(begin + b), chain, stream, k0, k1)
            xi[4 * b], xi[4 * b + 1] = from_bits(w0), from_bits(w1)
            xi[4 * b + 2], xi[4 * b + 3] = from_bits(w2), from_bits(w3)
        for pair in range(2 * blocks):
            xi[2 * pair], xi[2 * pair + 1] = box_muller(bits(xi[2 * pair]), bits(xi[2 * pair + 1]))
        return tail(xi, first - 4 * begin)

    def move(u, s, xi, t, j, d):  # type: ignore[no-untyped-def]
        # Constants where loops are short: the compiler then unrolls them.
        k, m = t.b.shape[1], t.normals[j]
        if k == 1 and m == 1:
            affine(u, u, s, xi, xi, t, j, d, 1, 1, 1, 0)
        elif k == 2 and m == 1:
            affine(u, u, s, xi, xi, t, j, d, 2, 2, 1, 0)
        elif k == 2 and m == 2:
            affine(u, u, s, xi, xi, t, j, d, 2, 2, 2, 0)
        else:
            affine(u, u, s, xi, xi, t, j, d, k, k, m, 0)

    def read(new, u, s, xi, eta, t, j, d, rows):  # type: ignore[no-untyped-def]
        k, m, e = t.b.shape[1], t.normals[j], t.readout[j]
        if k == 2 and m == 1 and rows == 1:
            affine(new, u, s, xi, eta, t, j, d, 1, 2, 1, e)
        else:
            affine(new, u, s, xi, eta, t, j, d, rows, k, m, e)

    def record(records, n, x, watch):  # type: ignore[no-untyped-def]
        counts, trace, first, numbers, indices, active = records
        if counts.shape[0] > 0 and n % watch.bin_every == 0:
            for i in range(counts.shape[0]):
                view(indices, 0, 1)[0] = bin_of(x[0, i], watch.low[i], watch.per_unit[i], counts.shape[1] - 2.0)
                for c in range(active):
                    counts[i, indices[c]] += 1
        if watch.thin > 0 and (n + 1) % watch.thin == 0:
            for c in range(active):
                for i in range(trace.shape[2]):
                    trace[(n + 1) // watch.thin - 1 - first[0], first[1] + c, i] = numbers[i * lanes + c]

    named = machine._replace(jit=inlined)
    chain = make_chain(named, bound, score, apart(draw), inlined(move), apart(read), apart(record))
    enter_chain, advance_chain, group_of = chain.enter, chain.advance, jit(group)

    @inlined
    def scratch(count, like):  # type: ignore[no-untyped-def]
        """Aligned memory for a number of vectors."""
        memory = np.zeros(count * lanes + line, like.dtype)
        return memory[(line - memory.ctypes.data % line) % line // like.itemsize :]

    @apart
    def take(numbers, table, lo, hi):  # type: ignore[no-untyped-def]
        """Copy chains lo ... hi - 1 of (chains, n) into vectors; idle lanes repeat the last one."""
        for c in range(lanes):
            for i in range(table.shape[1]):
                numbers[i * lanes + c] = table[min(lo + c, hi - 1), i]

    @apart
    def give(numbers, table, lo, hi):  # type: ignore[no-untyped-def]
        """Copy vectors into chains lo ... hi - 1 of (chains, n)."""
        for c in range(lo, hi):
            for i in range(table.shape[1]):
                table[c, i] = numbers[i * lanes + c - lo]

    def advance(  # type: ignore[no-untyped-def]
        g, lo, hi, begin, u_of, xp_of, nfe, target, width, tables, first_chain, k0, k1,
        step, last, watch, sums_of, products_of, left_of, counts, trace, kept,
    ):  # fmt: skip
        """Run chains lo ... hi - 1 of group g from step to last, after entering the recurrence if it is to begin."""
        t = group_of(tables, g)
        k = t.b.shape[1]
        d = u_of.shape[2] // k
        extra = t.readout[t.readout.shape[0] - 1]
        chunk = max(1, NORMALS // max(1, d * t.per_step))
        normals = max(chunk * t.per_step, t.normals.max())
        n_xi, n_eta = 4 * (d * normals // 4 + 2), 4 * (d * extra * chunk // 4 + 2)
        axes, pairs = sums_of.shape[2], products_of.shape[2]
        recording = axes > 0 and last >= watch.record_from
        # Views do not keep memory: these three arrays do, for they are used to the end.
        place = 2 * k * d
        reals, doubles = (
            scratch(place + 2 * d + width + n_xi + n_eta, u_of),
            scratch((chunk + 1) * axes + pairs, sums_of),
        )
        indices = scratch(1, left_of)
        u, xp, y, s = view(reals, 0, d), view(reals, k * d, d), view(reals, place, d), view(reals, place + d, d)
        q, xi = view(reals, place + 2 * d, 1), view(reals, place + 2 * d + width, 1)
        eta = view(reals, place + 2 * d + width + n_xi, 1)
        sums, products, gaps = view(doubles, 0, axes), view(doubles, axes, pairs), view(doubles, axes + pairs, axes)
        x_memory, product_memory = reals[k * d * lanes :], doubles[axes * lanes :]
        for first in range(lo, hi, lanes):
            end = min(first + lanes, hi)
            chains = iota() + np.uint64(first_chain + first)
            take(reals, u_of[g], first, end)
            take(x_memory, xp_of[g], first, end)
            if recording:
                take(doubles, sums_of[g], first, end)
                take(product_memory, products_of[g], first, end)
            take(indices, left_of[g], first, end)
            evaluations = 0
            if begin:
                evaluations = enter_chain(u, xp, s, q, xi, target, t, d, k, chains, k0, k1)
            left = view(indices, 0, 1)[0]
            records = (counts, trace[:, g], (kept, first), x_memory, indices, end - first)
            taken, left = advance_chain(
                u, xp, y, s, q, xi, eta, gaps, target, t, d, k, chains, k0, k1,
                step, last, step, chunk, watch, recording, sums, products, records, left,
            )  # fmt: skip
            view(indices, 0, 1)[0] = left
            for c in range(first, end):
                nfe[g, c] += evaluations + taken
            give(reals, u_of[g], first, end)
            give(x_memory, xp_of[g], first, end)
            if recording:
                give(doubles, sums_of[g], first, end)
                give(product_memory, products_of[g], first, end)
            give(indices, left_of[g], first, end)

    advance.__qualname__ += f"-{variant}"
    return numba.njit(advance, nogil=True, error_model="numpy")


@cache
def mixture_kernel(dtype: np.dtype[Any], lanes: int, columns: int) -> Any:
    """Return the kernel for mixtures whose matrices have so many columns: 0, 1, or 2 for any other number."""
    mixture_score = core(dtype, lanes).mixture_score

    @partial(jit, variant=f"{dtype}-{lanes}-{columns}")
    def score(s, q, y, target, d):  # type: ignore[no-untyped-def]
        mixture_score(s, q, y, target, d, columns if columns < 2 else d)

    kernel = make_kernel(dtype, lanes, score, f"mixture-{columns}")
    kernel._cache = KernelCache(kernel.py_func)
    return kernel


@lru_cache(16)
def user_kernel(dtype: np.dtype[Any], lanes: int, user_score: Any, arguments: tuple[Any, ...]) -> tuple[Any, str]:
    """Return the kernel for a user's score with arguments of given types, and why it does not run on vectors."""
    score, fault = lift(user_score, dtype, lanes, arguments)
    return make_kernel(dtype, lanes, score, "user"), fault


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
        self.announcement = (
            partial(event.install_listener, "numba:compile", Announcement()) if announce else nullcontext
        )
        self.target = problem.target.kernel_data(dtype)
        d = problem.target.shape[0]
        self.lanes = lanes = lanes or lanes_of(dtype, d)
        check_rows(problem, "numba")
        user_score = getattr(problem.target, "score_function", None)
        self.info = {"threads": str(self.threads)}
        if user_score is None:
            self.width = self.target.scratch
            self.kernel = mixture_kernel(dtype, lanes, min(self.target.roots.shape[2], 2))
        else:
            types = tuple(numba.typeof(argument) for argument in self.target)
            self.kernel, fault = user_kernel(dtype, lanes, user_score, types)
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

    def edges(self, state: State) -> Array:
        """Edges of the ranges of chains that go to threads: the batches of the histograms, else whole blocks."""
        if state.counts.size:
            return state.batches()
        chains = state.left.shape[1]
        blocks = -(-chains // self.lanes)
        ranges = min(blocks, SHARES * self.threads)
        return np.minimum(np.arange(ranges + 1) * blocks // ranges * self.lanes, chains)

    def run(self, state: State, begin: bool, last: int) -> Array:
        """Call the kernel on ranges of chains of every group, on the threads."""
        H, n = state.left.shape
        problem = self.problem
        kept, trace = state.trace(problem.watch, last)
        u, xp, left = state.u.reshape(H, n, -1), state.xp.reshape(H, n, -1), state.left[..., None]
        before: tuple[Any, ...] = (
            begin, u, xp, state.nfe, self.target, self.width, problem.tables, problem.first_chain,
            *split_seed(problem.seed), state.step + 1, last, problem.watch, state.sums, state.squares, left,
        )  # fmt: skip
        ranges = list(enumerate(pairwise(self.edges(state))))
        with self.announcement():
            submit = pool(self.threads, os.getpid()).submit
            futures = [
                submit(self.kernel, *(g, lo, hi, *before, state.counts[g, b % BATCHES], trace, kept))
                for g in range(H)
                for b, (lo, hi) in ranges
            ]
            wait(futures)  # also if one fails: none may go on in the state's memory
            for future in futures:
                future.result()
        return trace

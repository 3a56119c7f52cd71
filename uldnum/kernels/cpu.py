"""The Numba executor: the core compiled for one chain, threads over chains."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np

from uldnum.kernels import Problem, State, split_seed
from uldnum.kernels.core import Ops, group, make_chain, make_core

__all__ = ["NumbaExecutor", "core"]

# Chains of a group are handed to threads in pieces: enough of them to balance, each long enough to be worth a task.
PIECES_PER_THREAD = 4


def jit(function: Any) -> Any:
    """Compile with IEEE arithmetic, without the interpreter lock; inlining spares copies of the tables at each call."""
    return numba.njit(function, nogil=True, error_model="numpy", forceinline=True)


@cache
def ops(dtype: np.dtype[Any]) -> Ops:
    """Return the operations of the core on numbers of a floating-point type."""
    real = dtype.type
    pi = real(np.pi)
    double, int32 = np.float64, np.int32
    return Ops(
        jit=jit,
        real=real,
        as_real=jit(lambda value: real(value)),
        as_double=jit(lambda value: double(value)),
        signed=jit(lambda word: int32(word)),
        log=math.log,
        exp=math.exp,
        sqrt=math.sqrt,
        cospi=jit(lambda turn: math.cos(pi * turn)),
        sinpi=jit(lambda turn: math.sin(pi * turn)),
        maximum=max,
        minimum=min,
        where=jit(lambda condition, yes, no: yes if condition else no),
    )


@cache
def core(dtype: np.dtype[Any]) -> SimpleNamespace:
    """Return the core compiled for a floating-point type."""
    return make_core(ops(dtype))


@cache
def mixture_kernels(dtype: np.dtype[Any]) -> SimpleNamespace:
    """Return the kernels for mixtures: loops over a range of chains around the core's steps of one."""
    bound = core(dtype)
    normals, mixture_score = bound.normals, bound.mixture_score

    @jit
    def draw(xi, first, count, chain, stream, k0, k1):  # type: ignore[no-untyped-def]
        for pair in range(first // 2, (first + count + 1) // 2):
            even, odd = normals(np.uint64(pair), chain, stream, k0, k1)
            j = 2 * pair - first
            if j >= 0:
                xi[j] = even
            if j + 1 < count:
                xi[j + 1] = odd

    @jit
    def score(s, q, y, target):  # type: ignore[no-untyped-def]
        mixture_score(s, q, y, target.log_weights, target.means, target.precisions)

    chain = make_chain(ops(dtype), bound, score, draw)
    enter_chain, advance_chain, group_of = chain.enter, chain.advance, jit(group)

    @jit
    def scratch(U, t, target):  # type: ignore[no-untyped-def]
        k, d = U.shape[2:]
        normals = d * max(t.normals.max(), t.readout.max())
        vector, noise = np.empty((2, d), U.dtype), np.empty((2, normals), U.dtype)
        q = np.empty(target.log_weights.shape[0], U.dtype)
        return np.empty((k, d), U.dtype), vector[0], vector[1], q, noise[0], noise[1]

    @jit
    def enter(lo, hi, U, XP, nfe, target, t, first_chain, k0, k1):  # type: ignore[no-untyped-def]
        n, d = U.shape[1], U.shape[3]
        _, y, s, q, xi, eta = scratch(U, t, target)
        for w in range(lo, hi):
            g, c = divmod(w, n)
            nfe[g, c] += enter_chain(
                U[g, c], XP[g, c], y, s, q, xi, eta, target, group_of(t, g), d, np.uint64(first_chain + c), k0, k1
            )

    @jit
    def advance(  # type: ignore[no-untyped-def]
        lo, hi, U, XP, nfe, target, t, first_chain, k0, k1,
        step, last, record_from, sums, squares, left, centre, limit,
    ):  # fmt: skip
        n, d = U.shape[1], U.shape[3]
        v, y, s, q, xi, eta = scratch(U, t, target)
        for w in range(lo, hi):
            g, c = divmod(w, n)
            evaluations, left[g, c] = advance_chain(
                U[g, c], v, XP[g, c], y, s, q, xi, eta, target, group_of(t, g), d, np.uint64(first_chain + c), k0, k1,
                step, last, record_from, sums[g, c], squares[g, c], left[g, c], centre, limit,
            )  # fmt: skip
            nfe[g, c] += evaluations

    return SimpleNamespace(enter=enter, advance=advance)


class NumbaExecutor:
    """Runs a problem on a mixture with compiled code, one chain after the other on each thread.

    Parameters
    ----------
    problem : Problem
        Its target has ``kernel_data(dtype)``.
    dtype : dtype
        float32 or float64.
    threads : int, optional
        Default: the cores that this process may use. Results do not depend on it.
    """

    def __init__(self, problem: Problem, dtype: np.dtype[Any], threads: int | None = None) -> None:
        self.problem = problem
        self.threads = threads or numba.get_num_threads()
        self.kernels = mixture_kernels(dtype)
        self.target = problem.target.kernel_data(dtype)

    def spread(self, kernel: Any, state: State, *arguments: Any) -> None:
        """Call a kernel on all chains, in pieces, on the threads."""
        chains = state.left.size
        pieces = min(chains, self.threads * PIECES_PER_THREAD)
        edges = np.linspace(0, chains, pieces + 1).astype(int)
        common: tuple[Any, ...] = (
            state.u, state.xp, state.nfe, self.target, self.problem.tables, self.problem.first_chain,
            *split_seed(self.problem.seed),
        )  # fmt: skip
        with ThreadPoolExecutor(self.threads) as pool:
            futures = [pool.submit(kernel, lo, hi, *common, *arguments) for lo, hi in pairwise(edges)]
        for future in futures:
            future.result()

    def enter(self, state: State) -> None:
        """Open the recurrence from ``state.xp``."""
        self.spread(self.kernels.enter, state)

    def advance(self, state: State, step: int, last: int, record_from: int) -> None:
        """Take steps step ... last, adding to the moments from step ``record_from`` on, and read the last."""
        self.spread(
            self.kernels.advance, state, step, last, record_from,
            state.sums, state.squares, state.left, self.problem.centre, self.problem.limit,
        )  # fmt: skip

"""The Numba executor: the core compiled for one chain, threads over chains."""

from __future__ import annotations

import math
from collections.abc import Callable
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


def jit(function: Any) -> Any:
    """Compile with IEEE arithmetic, without the interpreter lock; inlining spares copies of the tables at each call."""
    return numba.njit(function, nogil=True, error_model="numpy", forceinline=True)


@cache
def ops(dtype: np.dtype[Any]) -> Ops:
    """Return the operations of the core on numbers of a floating-point type."""
    real = dtype.type
    pi = real(np.pi)
    double, int32, int64 = np.float64, np.int32, np.int64
    return Ops(
        jit=jit,
        real=real,
        as_real=jit(lambda value: real(value)),
        as_double=jit(lambda value: double(value)),
        as_index=jit(lambda value: int64(value)),
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
def kernels(dtype: np.dtype[Any], user_score: Callable[..., Any] | None) -> SimpleNamespace:
    """Return the kernels for mixtures, or for a user's score: loops over a range of chains around the core's steps."""
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
    def of_mixture(s, q, y, target):  # type: ignore[no-untyped-def]
        mixture_score(s, q, y, target.log_weights, target.means, target.precisions)

    @jit
    def of_user(s, q, y, target):  # type: ignore[no-untyped-def]
        user_score(y, s)  # type: ignore[misc]

    @jit
    def tally(counts, i, bin):  # type: ignore[no-untyped-def]
        counts[i, bin] += 1

    chain = make_chain(ops(dtype), bound, of_user if user_score else of_mixture, draw, tally)
    enter_chain, advance_chain, group_of = chain.enter, chain.advance, jit(group)

    @jit
    def scratch(U, t, width):  # type: ignore[no-untyped-def]
        k, d = U.shape[2:]
        normals = d * max(t.normals.max(), t.readout.max())
        vector, noise = np.empty((2, d), U.dtype), np.empty((2, normals), U.dtype)
        return np.empty((k, d), U.dtype), vector[0], vector[1], np.empty(width, U.dtype), noise[0], noise[1]

    @jit
    def enter(g, lo, hi, U, XP, nfe, target, width, tables, first_chain, k0, k1):  # type: ignore[no-untyped-def]
        t, d = group_of(tables, g), U.shape[3]
        _, y, s, q, xi, eta = scratch(U, t, width)
        for c in range(lo, hi):
            chain = np.uint64(first_chain + c)
            nfe[g, c] += enter_chain(U[g, c], XP[g, c], y, s, q, xi, eta, target, t, d, chain, k0, k1)

    @jit
    def advance(  # type: ignore[no-untyped-def]
        g, lo, hi, U, XP, nfe, target, width, tables, first_chain, k0, k1,
        step, last, watch, sums, squares, left, counts,
    ):  # fmt: skip
        t, d = group_of(tables, g), U.shape[3]
        v, y, s, q, xi, eta = scratch(U, t, width)
        for c in range(lo, hi):
            evaluations, left[g, c] = advance_chain(
                U[g, c], v, XP[g, c], y, s, q, xi, eta, target, t, d, np.uint64(first_chain + c), k0, k1,
                step, last, watch, sums[g, c], squares[g, c], counts, left[g, c],
            )  # fmt: skip
            nfe[g, c] += evaluations

    return SimpleNamespace(enter=enter, advance=advance)


class NumbaExecutor:
    """Runs a problem with compiled code, one chain after the other on each thread.

    Parameters
    ----------
    problem : Problem
        Its target is a mixture, or has a score compiled by Numba.
    dtype : dtype
        float32 or float64.
    threads : int, optional
        Default: the cores that this process may use. Results do not depend on it.
    """

    def __init__(self, problem: Problem, dtype: np.dtype[Any], threads: int | None = None) -> None:
        self.problem = problem
        self.threads = threads or numba.get_num_threads()
        target = problem.target
        self.kernels = kernels(dtype, getattr(target, "score_function", None))
        self.target = target.kernel_data(dtype)
        self.width = len(self.target[0]) if self.target else 0  # scratch of the mixture score

    def spread(self, kernel: Any, state: State, *arguments: Any, counts: bool = False) -> None:
        """Call a kernel on every batch of every group, on the threads."""
        common: tuple[Any, ...] = (
            state.u, state.xp, state.nfe, self.target, self.width, self.problem.tables, self.problem.first_chain,
            *split_seed(self.problem.seed), *arguments,
        )  # fmt: skip
        with ThreadPoolExecutor(self.threads) as pool:
            futures = [
                pool.submit(kernel, g, lo, hi, *common, *([state.counts[g, b]] if counts else []))
                for g in range(len(state.u))
                for b, (lo, hi) in enumerate(pairwise(state.batches()))
            ]
        for future in futures:
            future.result()

    def enter(self, state: State) -> None:
        """Open the recurrence from ``state.xp``."""
        self.spread(self.kernels.enter, state)

    def advance(self, state: State, last: int) -> None:
        """Go on to step ``last``, record what is watched, and read the last state."""
        self.spread(
            self.kernels.advance, state, state.step + 1, last, self.problem.watch,
            state.sums, state.squares, state.left, counts=True,
        )  # fmt: skip
        state.step = last

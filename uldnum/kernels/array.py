"""The reference executor: the core on NumPy arrays, all chains of a group at once.

It is also the path for targets whose score is a function of whole arrays, networks above all. PyTorch lacks unsigned
shifts in places, so the random words are computed by NumPy here whatever computes the score.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from uldnum.kernels import Problem, State, split_seed
from uldnum.kernels.chain import make_chain
from uldnum.kernels.core import INITIAL, Tables, Watch, group, make_core
from uldnum.kernels.functions import FORMATS, Ops
from uldnum.typing import Array

__all__ = ["ArrayExecutor", "core", "initial_normals", "initial_uniform", "normals"]


@cache
def ops(dtype: np.dtype[Any]) -> Ops:
    """Return the operations of the core on NumPy arrays of a floating-point type."""
    word = FORMATS[dtype.type].word
    integer = np.dtype(f"i{dtype.itemsize}")
    return Ops(
        jit=lambda function: function,
        real=dtype.type,
        fma=lambda x, y, z: x * y + z,
        sqrt=np.sqrt,
        where=np.where,
        as_real=lambda value: value.astype(dtype),
        as_double=lambda value: np.asarray(value, dtype=np.float64),
        as_index=lambda value: np.asarray(value).astype(np.int64),
        as_word=lambda value: value.astype(word),
        bits=lambda value: value.view(word),
        signed=lambda value: value.view(integer),
        from_bits=lambda value: value.view(dtype),
        row=lambda table, r: table[r],
        tail=lambda values, j: values[j:],
        local=lambda count: [dtype.type(0)] * count,
        local_double=lambda count: [0.0] * count,
    )


@cache
def core(dtype: np.dtype[Any]) -> SimpleNamespace:
    """Return the core bound to NumPy arrays of a floating-point type."""
    return make_core(ops(dtype))


def normals(first: int, count: int, chains: Array, stream: np.uint64, seed: int, dtype: np.dtype[Any]) -> Array:
    """Return normals first ... first + count - 1 of each chain's stream, shape (count, len(chains))."""
    bound = core(dtype)
    block = np.arange(first // 4, (first + count + 3) // 4, dtype=np.uint64)
    w0, w1, w2, w3 = bound.words(block[:, None], chains[None, :], stream, *split_seed(seed))
    four = (*bound.box_muller(w0, w1), *bound.box_muller(w2, w3))
    return np.stack(four, axis=1).reshape(-1, len(chains))[first % 4 :][:count]


def chain_numbers(first: int, n: int) -> Array:
    """Return the numbers of chains first ... first + n - 1."""
    return np.arange(first, first + n, dtype=np.uint64)


def initial_uniform(n: int, seed: int, first: int) -> Array:
    """Return one uniform number for each of chains first ... first + n - 1: word 0 of its stream of initial states."""
    bound = core(np.dtype(float))
    word, *_ = bound.words(np.uint64(0), chain_numbers(first, n), INITIAL, *split_seed(seed))
    return np.asarray(bound.uniform(word))


def initial_normals(n: int, seed: int, first: int, begin: int, count: int) -> Array:
    """Return normals begin ... begin + count - 1 for the initial state of each chain, float64, shape (n, count).

    They start in the second block of the stream of initial states: the words of the first are for choices.
    """
    return normals(4 + begin, count, chain_numbers(first, n), INITIAL, seed, np.dtype(float)).T


class Records(NamedTuple):
    """Where the positions of a group are recorded."""

    counts: Array  # histograms of the batches
    batch: Array  # the batch of each chain
    trace: Array  # room for the positions that are kept
    kept: int  # positions kept before


def record(records: Records, n: int, x: Array, watch: Watch) -> None:
    """Keep what is asked for of the positions at recorded step n."""
    counts, batch, trace, kept = records
    if counts.shape[1] and n % watch.bin_every == 0:
        for i, value in enumerate(x[0]):
            bins = core(value.dtype).bin_of(value, watch.low[i], watch.per_unit[i], counts.shape[-1] - 2.0)
            np.add.at(counts[:, i], (batch, bins), 1)
    if watch.thin and (n + 1) % watch.thin == 0:
        trace[(n + 1) // watch.thin - 1 - kept] = x[0, 0] if x.ndim == 4 else x[0].T


class ArrayExecutor:
    """Runs a problem on NumPy arrays.

    A value of the core is an array over chains. The coordinates of an image are independent of each other but for the
    score, so they too are folded into the value: the core then sees one coordinate, whose value has shape (chains, d).
    """

    def __init__(self, problem: Problem, dtype: np.dtype[Any]) -> None:
        self.problem = problem
        self.dtype = dtype
        self.info: dict[str, str] = {}
        self.fold = len(problem.target.shape) > 1
        watch = problem.watch
        self.watch = watch._replace(least=watch.least[None], most=watch.most[None]) if self.fold else watch
        score = self.image_score if self.fold else self.vector_score
        self.size = int(np.prod(problem.target.shape)) if self.fold else 1  # coordinates in a value
        machine = ops(dtype)._replace(tail=self.tail)
        self.chain = make_chain(machine, core(dtype), score, self.draw, self.move, self.read, record)

    def vector_score(self, s: Array, q: None, y: Array, target: Any, d: int) -> None:
        """Score of all chains, coordinates first."""
        s[...] = target.score(y.T).T

    def image_score(self, s: Array, q: None, y: Array, target: Any, d: int) -> None:
        """Score of all chains, coordinates folded."""
        s[0] = target.score(y[0].reshape(-1, *target.shape)).reshape(y[0].shape)

    def draw(self, xi: None, first: int, count: int, chain: Array, stream: np.uint64, *key: np.uint64) -> Array:
        """Return normals of all chains, shape (count, chains); of an image ``size`` times as many."""
        return normals(self.size * int(first), self.size * int(count), chain, stream, self.problem.seed, self.dtype)

    def tail(self, values: Array | None, j: int) -> Array | None:
        """Normals from number j of a coordinate on."""
        return None if values is None else values[self.size * j :]

    def folded(self, values: Array | None, count: int) -> Array | None:
        """Fold the coordinates of so many normals to each, which come one coordinate after the other."""
        if values is None or not self.fold:
            return values
        return values[: self.size * count].reshape(self.size, count, values.shape[1]).transpose(1, 2, 0)

    def move(self, u: Array, s: Array, xi: Array, t: Tables, j: int, d: int) -> None:
        """Stage j in place."""
        self.read(u, u, s, xi, None, t, j, d, len(u))

    def read(
        self, new: Array, u: Array, s: Array, xi: Array, eta: Array | None, t: Tables, j: int, d: int, rows: int
    ) -> None:
        """Map j, its first rows."""
        m, e = t.normals[j], t.readout[j]
        z = self.folded(xi, m), self.folded(eta, e)
        core(self.dtype).affine(new, u, s, *z, t, j, d, rows, len(u), m, e)

    def values(self, state: Array) -> Array:
        """View (n, k, d) as rows and coordinates of values."""
        return state.transpose(1, 0, 2)[:, None] if self.fold else state.transpose(1, 2, 0)

    def first_launch(self, state: State) -> int:
        """One step: how long a score takes is not known."""
        return 1

    def enter(self, state: State) -> None:
        """Open the recurrence from ``state.xp``."""
        for g in range(len(state.u)):
            u, xp, d, k, chain, key = self.arguments(state, g)
            t = group(self.problem.tables, g)
            s = np.empty_like(xp[0])
            state.nfe[g] += self.chain.enter(u, xp, s, None, None, self.problem.target, t, d, k, chain, *key)

    def advance(self, state: State, last: int) -> Array:
        """Go on to step ``last``, record what is watched, and read the last state; returns the positions kept."""
        batch = np.searchsorted(state.batches(), np.arange(state.left.shape[1]), side="right") - 1
        kept, trace = state.trace(self.watch, last)
        for g in range(len(state.u)):
            u, xp, d, k, chain, key = self.arguments(state, g)
            t = group(self.problem.tables, g)
            y, s = np.empty_like(xp[0]), np.empty_like(xp[0])
            gaps = np.empty((1, *s.shape))
            left = state.left[g][:, None] if self.fold else state.left[g]
            records = Records(state.counts[g], batch, trace[:, g], kept)
            with np.errstate(all="ignore"):  # a diverging chain is found and reported, not warned of
                evaluations, left = self.chain.advance(
                    u, xp, y, s, None, None, None, gaps, self.problem.target, t, d, k, chain, *key,
                    state.step + 1, last, state.step + 1, 1, self.watch, state.sums.size > 0,
                    state.sums[g].T, state.squares[g].T, records, left,
                )  # fmt: skip
            state.nfe[g] += evaluations
            state.left[g] = left.min(axis=1) if self.fold else left
        state.step = last
        return trace

    def settle(self, state: State) -> None:
        """Do nothing: the state is changed in place."""

    def arguments(self, state: State, g: int) -> tuple[Any, ...]:
        """Return the memory and (x, p) of a group, the numbers of coordinates and rows, the chains and the key."""
        u, xp = self.values(state.u[g]), self.values(state.xp[g])
        chain = chain_numbers(self.problem.first_chain, state.left.shape[1])
        return u, xp, u.shape[1], len(u), chain, split_seed(self.problem.seed)

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
from uldnum.kernels.core import INITIAL, Ops, group, make_chain, make_core
from uldnum.typing import Array

__all__ = ["ArrayExecutor", "core", "initial_normals", "initial_uniform", "normals"]


@cache
def ops(dtype: np.dtype[Any]) -> Ops:
    """Return the operations of the core on NumPy arrays of a floating-point type."""
    pi = dtype.type(np.pi)
    return Ops(
        jit=lambda function: function,
        real=dtype.type,
        as_real=lambda value: np.asarray(value).astype(dtype),
        as_double=lambda value: np.asarray(value, dtype=np.float64),
        as_index=lambda value: np.asarray(value).astype(np.int64),
        signed=lambda word: np.asarray(word).astype(np.uint32).view(np.int32),
        log=np.log,
        exp=np.exp,
        sqrt=np.sqrt,
        cospi=lambda turn: np.cos(pi * turn),
        sinpi=lambda turn: np.sin(pi * turn),
        maximum=np.maximum,
        minimum=np.minimum,
        where=np.where,
    )


@cache
def core(dtype: np.dtype[Any]) -> SimpleNamespace:
    """Return the core bound to NumPy arrays of a floating-point type."""
    return make_core(ops(dtype))


def normals(first: int, count: int, chains: Array, stream: np.uint64, seed: int, dtype: np.dtype[Any]) -> Array:
    """Return normals first ... first + count - 1 of each chain's stream, shape (count, len(chains))."""
    pair = np.arange(first // 2, (first + count + 1) // 2, dtype=np.uint64)
    both = core(dtype).normals(pair[:, None], chains[None, :], stream, *split_seed(seed))
    return np.stack(both, axis=1).reshape(-1, len(chains))[first % 2 :][:count]


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


class Counts(NamedTuple):
    """Histograms of the batches of a group, and the batch of each chain."""

    table: Array
    batch: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the table."""
        return self.table.shape


def tally(counts: Counts, i: int, bins: Array) -> None:
    """Add one to the counts of axis i for every chain."""
    np.add.at(counts.table[:, i], (counts.batch, bins), 1)


class ArrayExecutor:
    """Runs a problem on NumPy arrays.

    A value of the core is an array over chains. The coordinates of an image are independent of each other but for the
    score, so they too are folded into the value: the core then sees one coordinate, whose value has shape (chains, d).
    """

    def __init__(self, problem: Problem, dtype: np.dtype[Any]) -> None:
        self.problem = problem
        self.dtype = dtype
        self.fold = len(problem.target.shape) > 1
        watch = problem.watch
        self.watch = watch._replace(centre=watch.centre[None], limit=watch.limit[None]) if self.fold else watch
        score = self.image_score if self.fold else self.vector_score
        self.chain = make_chain(ops(dtype), core(dtype), score, self.draw, tally)

    def vector_score(self, s: Array, q: None, y: Array, target: Any) -> None:
        """Score of all chains, coordinates first."""
        s[...] = target.score(y.T).T

    def image_score(self, s: Array, q: None, y: Array, target: Any) -> None:
        """Score of all chains, coordinates folded."""
        s[0] = target.score(y[0].reshape(-1, *target.shape)).reshape(y[0].shape)

    def draw(self, xi: Array, first: int, count: int, chain: Array, stream: np.uint64, *key: np.uint64) -> None:
        """Write the normals of all chains to xi, one value each."""
        z = normals(int(first), int(count), chain, stream, self.problem.seed, self.dtype)
        if self.fold:
            d = int(np.prod(self.problem.target.shape))
            xi[: count // d] = z.reshape(d, -1, len(chain)).transpose(1, 2, 0)
        else:
            xi[:count] = z

    def values(self, state: Array) -> Array:
        """View (n, k, d) as rows and coordinates of values."""
        return state.transpose(1, 0, 2)[:, None] if self.fold else state.transpose(1, 2, 0)

    def enter(self, state: State) -> None:
        """Open the recurrence from ``state.xp``."""
        for g in range(len(state.u)):
            u = self.values(state.u[g])
            common = self.arguments(state, g)
            state.nfe[g] += self.chain.enter(u, *common)

    def advance(self, state: State, last: int) -> None:
        """Go on to step ``last``, record what is watched, and read the last state."""
        batch = np.searchsorted(state.batches(), np.arange(state.left.shape[1]), side="right") - 1
        for g in range(len(state.u)):
            u = self.values(state.u[g])
            left = state.left[g][:, None] if self.fold else state.left[g]
            counts = Counts(state.counts[g], batch)
            with np.errstate(all="ignore"):  # a diverging chain is found and reported, not warned of
                evaluations, left = self.chain.advance(
                    u, np.empty_like(u), *self.arguments(state, g), state.step + 1, last, self.watch,
                    state.sums[g].T, state.squares[g].T, counts, left,
                )  # fmt: skip
            state.nfe[g] += evaluations
            state.left[g] = left.min(axis=1) if self.fold else left
        state.step = last

    def arguments(self, state: State, g: int) -> tuple[Any, ...]:
        """Return what `enter` and `advance` of the core share, from xp to the key."""
        t, target = self.problem.tables, self.problem.target
        _, n, _, d = state.u.shape
        xp = self.values(state.xp[g])
        y, s = np.empty_like(xp[0]), np.empty_like(xp[0])
        per_chain = max(t.normals.max(), t.readout.max())
        shape = (per_chain, n, d) if self.fold else (per_chain * d, n)
        xi, eta = np.empty(shape, self.dtype), np.empty(shape, self.dtype)
        chain = chain_numbers(self.problem.first_chain, n)
        return (xp, y, s, None, xi, eta, target, group(t, g), d, chain, *split_seed(self.problem.seed))

"""The reference executor: the core on arrays, all chains of a group at once.

It is also the path for targets whose score is a function of whole arrays, networks above all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from uldnum.kernels import Problem, State, split_seed
from uldnum.kernels.array import chain_numbers, core, normals
from uldnum.kernels.chain import make_chain
from uldnum.kernels.core import Tables, Watch, group
from uldnum.kernels.space import NUMPY, Space, host
from uldnum.typing import Array

__all__ = ["ArrayExecutor"]


class Table:
    """Values in rows: ``u[r, i]`` is one of them, ``u[r]`` the list of a row."""

    def __init__(self, rows: Iterable[Iterable[Any]]) -> None:
        self.rows = [list(row) for row in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index[0]][index[1]] if isinstance(index, tuple) else self.rows[index]

    def __setitem__(self, index: tuple[int, int], value: Any) -> None:
        self.rows[index[0]][index[1]] = value


class Records(NamedTuple):
    """Where the positions of a group are recorded."""

    counts: Array  # histograms of the batches
    batch: Array  # the batch of each chain
    trace: Array  # room for the positions that are kept
    kept: int  # positions kept before


class ArrayExecutor:
    """Runs a problem on arrays: NumPy's, or those of another library.

    A value of the core is an array over chains. The coordinates of an image are independent of each other but for the
    score, so they too are folded into the value: the core then sees one coordinate, whose value has shape (chains, d).
    """

    def __init__(self, problem: Problem, dtype: np.dtype[Any], space: Space = NUMPY) -> None:
        self.problem, self.dtype, self.space = problem, dtype, space
        self.info = {"arrays": f"{space.name}, {space.device}"} if space.foreign else {}
        self.fold = len(problem.target.shape) > 1
        watch = problem.watch
        self.watch = space.coefficients(watch)
        if self.fold:
            self.watch = watch._replace(least=[space.array(watch.least)], most=[space.array(watch.most)])
        self.size = int(np.prod(problem.target.shape)) if self.fold else 1  # coordinates in a value
        self.target, self.scratch = problem.target, 0
        score: Callable[..., None] = self.image_score if self.fold else self.vector_score
        data = problem.kernel_data(dtype)
        if data is not None:
            self.target, score, self.scratch = space.coefficients(data), self.mixture_score, data.scratch
        machine = space.ops(dtype)._replace(tail=self.tail)
        self.core = space.core(dtype)
        self.chain = make_chain(machine, self.core, score, self.draw, self.move, self.read, self.record)

    def mixture_score(self, s: list[Any], q: list[Any], y: list[Any], data: Any, d: int) -> None:
        """Score of all chains by the core's own formula."""
        self.core.mixture_score(s, q, y, data, d, data.roots.shape[2])

    def vector_score(self, s: list[Any], q: list[Any], y: list[Any], target: Any, d: int) -> None:
        """Score of all chains, by a function of arrays (chains, d)."""
        answer = self.scored(self.space.namespace.stack(y, axis=1))
        s[:] = [answer[:, i] for i in range(d)]

    def image_score(self, s: list[Any], q: list[Any], y: list[Any], target: Any, d: int) -> None:
        """Score of all chains, coordinates folded."""
        reshape = self.space.namespace.reshape
        s[0] = reshape(self.scored(reshape(y[0], (-1, *target.shape))), y[0].shape)

    def scored(self, x: Any) -> Any:
        """Score at x in the type of the run, whatever type the target answers in."""
        answer = self.target.score(x)
        if tuple(answer.shape) != tuple(x.shape):
            raise ValueError(f"score: must return the shape of its argument, {x.shape}, got {answer.shape}")
        return self.space.cast(answer, self.dtype)

    def draw(self, xi: None, first: int, count: int, chain: Array, stream: np.uint64, *key: np.uint64) -> Array:
        """Return normals of all chains, shape (count, chains); of an image ``size`` times as many."""
        first, count, seed = self.size * int(first), self.size * int(count), self.problem.seed
        if not self.fold:
            return normals(first, count, chain, stream, seed, self.dtype)
        # Compiled: beside a network's time, that of NumPy's normals would be seen.
        from uldnum.kernels.drawing import chain_normals

        return chain_normals(first, count, int(chain[0]), len(chain), stream, seed, self.dtype).T

    def tail(self, values: Array, j: int) -> Array:
        """Normals from number j of a coordinate on."""
        return values[self.size * j :]

    def given(self, values: Array, count: int, d: int) -> list[Any]:
        """Return so many normals to each coordinate as values; they come one coordinate after the other."""
        used = values[: self.size * count * d]
        if self.fold:
            used = used.reshape(self.size, count, values.shape[1]).transpose(1, 2, 0)
        there = self.space.array(used) if self.space.foreign else used
        return [there[i, ...] for i in range(len(used))]

    def move(self, u: Table, s: list[Any], xi: Array, t: Tables, j: int, d: int) -> None:
        """Stage j in place."""
        m = t.normals[j]
        self.core.affine(u, u, s, self.given(xi, m, d), [], t, j, d, len(u), len(u), m, 0)

    def read(
        self, new: Table, u: Table, s: list[Any], xi: Array, eta: Array, t: Tables, j: int, d: int, rows: int
    ) -> None:
        """Map j, its first rows."""
        m, e = t.normals[j], t.readout[j]
        self.core.affine(new, u, s, self.given(xi, m, d), self.given(eta, e, d), t, j, d, rows, len(u), m, e)

    def record(self, records: Records, n: int, x: Table, watch: Watch) -> None:
        """Keep what is asked for of the positions at recorded step n."""
        counts, batch, trace, kept = records
        counted = counts.shape[1] and n % watch.bin_every == 0
        traced = watch.thin and (n + 1) % watch.thin == 0
        if not counted and not traced:
            return
        positions = [host(value) for value in x[0]]
        if counted:
            for i, value in enumerate(positions):
                bins = core(value.dtype).bin_of(value, watch.low[i], watch.per_unit[i], counts.shape[-1] - 2.0)
                np.add.at(counts[:, i], (batch, bins), 1)
        if traced:
            trace[(n + 1) // watch.thin - 1 - kept] = positions[0] if self.fold else np.stack(positions, axis=1)

    def first_launch(self, state: State) -> int:
        """One step: how long a score takes is not known."""
        return 1

    def enter(self, state: State) -> None:
        """Open the recurrence from ``state.xp``."""
        for g in range(len(state.u)):
            u, xp, s, common = self.arguments(state, g)
            state.nfe[g] += self.chain.enter(u, xp, s, [None] * self.scratch, None, *common)
            self.store(state.u[g], u)

    def advance(self, state: State, last: int) -> Array:
        """Go on to step ``last``, record what is watched, and read the last state; returns the positions kept."""
        batch = np.searchsorted(state.batches(), np.arange(state.left.shape[1]), side="right") - 1
        kept, trace = state.trace(self.watch, last)
        moments = state.sums.size > 0
        for g in range(len(state.u)):
            u, xp, s, common = self.arguments(state, g)
            d = len(s)
            gaps = Table([[None] * d])
            sums, squares = ([self.space.array(row) for row in part[g].T] for part in (state.sums, state.squares))
            left = np.repeat(state.left[g][:, None], self.size, axis=1) if self.fold else state.left[g]
            records = Records(state.counts[g], batch, trace[:, g], kept)
            with np.errstate(all="ignore"):  # a diverging chain is found and reported, not warned of
                evaluations, left = self.chain.advance(
                    u, xp, [None] * d, s, [None] * self.scratch, None, None, gaps, *common,
                    state.step + 1, last, state.step + 1, 1, self.watch, moments,
                    sums, squares, records, self.space.array(left),
                )  # fmt: skip
            state.nfe[g] += evaluations
            found = host(left)
            state.left[g] = found.min(axis=1) if self.fold else found
            self.store(state.u[g], u)
            self.store(state.xp[g], xp)
            for part, rows in ((state.sums, sums), (state.squares, squares)):
                for i, row in enumerate(rows):
                    part[g, :, i] = host(row)
        state.step = last
        return trace

    def settle(self, state: State) -> None:
        """Do nothing: `advance` brings the state back."""

    def arguments(self, state: State, g: int) -> tuple[Table, Table, list[Any], tuple[Any, ...]]:
        """Return the memory, (x, p) and room for the score of a group, and what every call takes besides."""
        u, xp = self.load(state.u[g]), self.load(state.xp[g])
        chain = chain_numbers(self.problem.first_chain, state.left.shape[1])
        t = self.space.coefficients(group(self.problem.tables, g))
        d = len(u[0])
        return u, xp, [0.0] * d, (self.target, t, d, len(u), chain, *split_seed(self.problem.seed))

    def load(self, state: Array) -> Table:
        """Return (n, k, d) as rows of values."""
        rows = state.transpose(1, 0, 2)[:, None] if self.fold else state.transpose(1, 2, 0)
        return Table([[self.space.array(value) for value in row] for row in rows])

    def store(self, state: Array, table: Table) -> None:
        """Write rows of values to (n, k, d)."""
        for r in range(len(table)):
            values = [host(value) for value in table[r]]
            state[:, r] = values[0] if self.fold else np.stack(values, axis=1)

"""The array executor, which advances all chains of a group at once.

It serves targets whose score is a function of arrays, such as networks. A value of the source is an array over chains;
`ArrayExecutor.take` binds one part of a phase to the functions ``enter`` and ``advance`` of `source.chain.make_chain`.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from uldnum._util.arraylib import Space, host
from uldnum._util.typing import Array
from uldnum.kernels.arrays.adaptive import AdaptiveSteps
from uldnum.kernels.arrays.binding import chain_numbers, core, foreign_ops, normals, ops
from uldnum.kernels.program import Executor, Part, Program
from uldnum.kernels.source.chain import Bounds, Chain, Scratch, Span, Stream, make_chain
from uldnum.kernels.source.core import Recording, Tables, make_core, phase, split_seed
from uldnum.kernels.source.mixture import MixtureData
from uldnum.kernels.state import State

__all__ = ["ArrayExecutor"]


class Records(NamedTuple):
    """Arrays in which the positions of a group are recorded."""

    counts: Array  # histograms of the batches
    batch: Array  # batch of each chain
    trace: Array  # array for the stored positions
    kept: int  # number of positions stored before this launch


class ArrayExecutor(Executor):
    """Executor on arrays of NumPy or of another library.

    A value of the source is an array over chains. For images, the coordinates are independent of each other except in
    the score. They are therefore folded into the value: the source then sees a single coordinate, whose value has shape
    (chains, d).

    Parameters
    ----------
    program : Program
        Its targets are mixtures, or have scores that accept arrays of one library.
    """

    def __init__(self, program: Program) -> None:
        space = Space.of(program.targets.target(0).like)
        self.program, self.dtype, self.space = program, program.dtype, space
        self.info = {"arrays": f"{space.name}, {space.device}"} if space.foreign else {}
        self.fold = len(program.shape) > 1
        self.size = int(np.prod(program.shape)) if self.fold else 1  # number of coordinates in a value
        self.recording = space.coefficients(program.recording)
        self.mixtures = not self.fold and program.targets.mixtures(0, 1) is not None
        own = foreign_ops(space, self.dtype) if space.foreign else ops(self.dtype)
        self.core = make_core(own) if space.foreign else core(self.dtype)
        self.machine = own._replace(tail=self.tail)
        self.score = self.mixture_score if self.mixtures else self.image_score if self.fold else self.vector_score
        self.chain = self.steps(self.move, self.read)
        self.adaptive: dict[int, AdaptiveSteps] = {}  # by group, in the current phase

    def steps(self, move: Any, read: Any, **instead: Any) -> Any:
        """Return the time steps of `make_chain`, with the given functions ``move`` and ``read``.

        Keyword arguments replace functions of the core.
        """
        core = SimpleNamespace(**vars(self.core) | instead)
        return make_chain(self.machine, core, self.score, self.draw, move, read, self.count, self.keep)

    def mixture_score(self, s: list[Any], q: list[Any], y: list[Any], data: Any, d: int) -> None:
        """Evaluate the score of all chains by the mixture score of the core."""
        self.core.mixture_score(s, q, y, data, d, data.roots.shape[2])

    def vector_score(self, s: list[Any], q: list[Any], y: list[Any], target: Any, d: int) -> None:
        """Evaluate the score of all chains by a function of arrays of shape (chains, d)."""
        answer = self.scored(target, self.space.namespace.stack(y, axis=1))
        s[:] = [answer[:, i] for i in range(d)]

    def image_score(self, s: list[Any], q: list[Any], y: list[Any], target: Any, d: int) -> None:
        """Evaluate the score of all chains by a function of images, for folded coordinates."""
        reshape = self.space.namespace.reshape
        s[0] = reshape(self.scored(target, reshape(y[0], (-1, *target.shape))), y[0].shape)

    def scored(self, target: Any, x: Any) -> Any:
        """Return the score at x, cast to the dtype of the run."""
        answer = target.score(x)
        if tuple(answer.shape) != tuple(x.shape):
            raise ValueError(f"score: must return the shape of its argument, {x.shape}, got {answer.shape}")
        return self.space.cast(answer, self.dtype)

    def draw(self, xi: None, first: int, count: int, kind: np.uint64, stream: Stream) -> Array:
        """Return normals of all chains, shape (count, chains); for folded coordinates ``size`` times as many."""
        first, count, chain = self.size * int(first), self.size * int(count), stream.chain
        seed = int(stream.k1) << 32 | int(stream.k0)
        if not self.fold:
            return normals(first, count, chain, kind, seed, self.dtype)
        # Drawing by NumPy would take a noticeable part of the time of a network, so a compiled function draws.
        from uldnum.kernels.numba.drawing import chain_normals

        return chain_normals(first, count, int(chain[0]), len(chain), kind, seed, self.dtype).T

    def tail(self, values: Array, j: int) -> Array:
        """Return the normals from number j on, counted per coordinate of the source."""
        return values[self.size * j :]

    def given(self, values: Array, count: int, d: int) -> list[Any]:
        """Return the first ``count`` normals of each coordinate as values; they are ordered by coordinate."""
        used = values[: self.size * count * d]
        if self.fold:
            used = used.reshape(self.size, count, values.shape[1]).transpose(1, 2, 0)
        there = self.space.array(used) if self.space.foreign else used
        return [there[i, ...] for i in range(len(used))]

    def move(self, u: Array, s: list[Any], xi: Array, t: Tables, j: int, d: int) -> None:
        """Apply the map of stage j in place."""
        self.read(u, u, s, xi, xi, t, j, d, len(u))

    def read(
        self, new: Array, u: Array, s: list[Any], xi: Array, eta: Array, t: Tables, j: int, d: int, rows: int
    ) -> None:
        """Apply map j to u and write the first rows of the result to ``new``."""
        m, e = t.normals[j], t.readout[j]
        self.core.affine(new, u, s, self.given(xi, m, d), self.given(eta, e, d), t, j, d, rows, len(u), m, e)

    def count(self, records: Records, x: Array, recording: Recording) -> None:
        """Add positions to the histograms, if there are any."""
        counts, batch, _, _ = records
        for i in range(counts.shape[1]):
            value = host(x[0, i])
            bins = core(value.dtype).bin_of(value, recording.low[i], recording.per_unit[i], counts.shape[-1] - 2.0)
            np.add.at(counts[:, i], (batch, bins), 1)

    def keep(self, records: Records, x: Array, number: int) -> None:
        """Store the positions of all chains."""
        positions = [host(value) for value in x[0]]
        records.trace[number - records.kept] = positions[0] if self.fold else np.stack(positions, axis=1)

    def advance(self, state: State, until: int) -> Array:
        """Run up to step ``until``; see `uldnum.kernels.program.Executor.advance`."""
        kept, trace = state.trace(self.recording, until)
        batch = np.searchsorted(state.batches(), np.arange(state.escape_step.shape[1]), side="right") - 1
        for part in self.program.parts(state.step, until):
            for g in range(len(state.u)):
                with np.errstate(all="ignore"):  # diverging chains are detected and reported by other means
                    self.take(state, g, part, Records(state.counts[g], batch, trace[:, g], kept))
            state.step = part.before + part.last
        return trace

    def take(self, state: State, g: int, part: Part, records: Records) -> None:
        """Advance the chains of group g through one part of a phase."""
        program, number, array = self.program, part.phase, self.space.array
        mixture = program.targets.mixtures(number, number + 1) if self.mixtures else None
        if mixture is None:
            target, scratch = program.targets.target(number), 0
        else:
            target, scratch = self.space.coefficients(MixtureData(*(of[0] for of in mixture))), mixture.scratch
        numbers = chain_numbers(program.first_chain, state.escape_step.shape[1])
        stream = Stream(numbers, *split_seed(program.seeds[number]))
        sums, products = ([array(row) for row in of[g].T] for of in (state.sums, state.products))
        chain = Chain(self.load(state.u[g]), self.load(state.phase_space[g]), sums, products)
        d, k = len(chain.u[0]), len(chain.u)
        room = Scratch([None] * d, [0.0] * d, [None] * scratch, None, None, np.empty((1, d), object))
        steps, t, entered = self.steps_of(g, part)
        if not entered:
            evaluations = steps.enter(chain, room, target, t, d, k, stream)
            state.nfe[g] += evaluations if part.first == 1 else 0
        least, most = (bound[0] for bound in program.targets.bounds(number, number + 1))
        bounds = Bounds([array(least)], [array(most)]) if self.fold else self.space.coefficients(Bounds(least, most))
        recording = self.recording._replace(record_from=self.recording.record_from - part.before)
        escape_step = state.escape_step[g] - part.before
        if self.fold:
            escape_step = np.repeat(escape_step[:, None], self.size, axis=1)
        evaluations, escape_step = steps.advance(
            chain, room, target, t, d, k, stream, Span(part.first, part.last, part.first, 1), bounds, recording,
            records, array(escape_step),
        )  # fmt: skip
        state.nfe[g] += evaluations
        found = host(escape_step)
        state.escape_step[g] = (found.min(axis=1) if self.fold else found) + part.before
        self.store(state.u[g], chain.u)
        self.store(state.phase_space[g], chain.phase_space)
        for of, rows in ((state.sums, sums), (state.products, products)):
            for i, row in enumerate(rows):
                of[g, :, i] = host(row)

    def steps_of(self, g: int, part: Part) -> tuple[Any, Tables, bool]:
        """Return the time steps and the tables for a part of a phase, and whether the recurrence is already open."""
        rule, here = self.program.rules[part.phase], part.first > 1
        if rule is None:
            return self.chain, self.space.coefficients(phase(self.program.tables, g, part.phase)), here
        here = here and g in self.adaptive and self.adaptive[g].phase == part.phase
        if not here:
            self.adaptive[g] = AdaptiveSteps(self, rule, part)
        return self.adaptive[g].steps, self.adaptive[g].layout, here

    def load(self, state: Array) -> Array:
        """Convert an array of shape (n, k, d) to a table of values."""
        return self.table(state.transpose(1, 0, 2)[:, None] if self.fold else state.transpose(1, 2, 0), 2)

    def table(self, numbers: Array, axes: int) -> Array:
        """Return an object array of values, which are the items of ``numbers`` along its first axes."""
        values = np.empty(numbers.shape[:axes], object)
        for index in np.ndindex(values.shape):
            values[index] = self.space.array(numbers[index])
        return values

    def store(self, state: Array, table: Array) -> None:
        """Write a table of values to an array of shape (n, k, d)."""
        for r in range(len(table)):
            values = [host(value) for value in table[r]]
            state[:, r] = values[0] if self.fold else np.stack(values, axis=1)

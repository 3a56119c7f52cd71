"""The array executor, which advances many chains at once.

It serves targets whose score is a function of arrays, such as networks. Where the kernel source has a number, this
executor has an array over chains and coordinates. `ArrayExecutor.take` runs one part of a phase with the functions
``enter`` and ``advance`` of `source.chain.make_chain`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from uldnum._util.arraylib import Space, host
from uldnum._util.typing import Array
from uldnum.arithmetic.dense import product, total
from uldnum.kernels.arrays.adaptive import AdaptiveSteps, steps_of
from uldnum.kernels.arrays.binding import core, foreign_ops, ops
from uldnum.kernels.program import Executor, Part, Program
from uldnum.kernels.source.chain import Bounds, Carried, Chain, Scratch, Span, Stream, make_chain
from uldnum.kernels.source.core import COVARIANCE, METROPOLIS, VARIANCE, Recording, Tables, make_core, split_seed
from uldnum.kernels.source.mixture import MixtureData
from uldnum.kernels.state import State
from uldnum.schemes.stage import Affine

__all__ = ["ArrayExecutor"]

# Number of coordinates of the chains that NumPy advances together. Their arrays then stay in the cache of a core.
BLOCK = 2**16


class Records(NamedTuple):
    """Arrays in which the positions of a group are recorded."""

    counts: Array  # histograms of the batches
    batch: Array  # batch of each chain
    trace: Array  # array for the stored positions
    kept: int  # number of positions stored before this launch


class ArrayExecutor(Executor):
    """Executor on arrays of NumPy or of another library.

    A step treats the coordinates of a sample independently, except in the score and in sums of products. The source
    therefore sees a single coordinate, whose value is an array of shape (chains, size), where ``size`` is the number of
    numbers in a sample. With NumPy, blocks of chains are advanced one after the other. All chains are advanced together
    if the score may be a network, which evaluates many of them in a call, and if step sizes depend on all chains.

    Parameters
    ----------
    program : Program
        Its targets are mixtures, or have scores that accept arrays of one library.
    """

    def __init__(self, program: Program) -> None:
        space = Space.of(program.targets.target(0).like)
        self.program, self.dtype, self.space = program, program.dtype, space
        self.info = {"arrays": f"{space.name}, {space.device}"} if space.foreign else {}
        self.size = int(np.prod(program.shape))
        centre, frame = [space.array(program.recording.centre)], space.array(program.recording.frame)
        self.recording = program.recording._replace(centre=centre, frame=frame)
        self.tau = space.array(program.tables.tau)
        own = foreign_ops(space, self.dtype) if space.foreign else ops(self.dtype)
        self.core = make_core(own) if space.foreign else core(self.dtype)
        self.machine = own._replace(tail=self.tail)
        self.mixtures = len(program.shape) == 1 and program.targets.mixtures(0, 1) is not None
        self.score = self.mixture_score if self.mixtures else self.array_score
        self.answer = self.mixture_score if self.mixtures else self.array_answer
        density = self.mixture_density if self.mixtures else self.array_density
        self.chain = self.steps(self.answer, self.move, self.read, density if program.metropolised else None)
        self.adaptive: dict[int, AdaptiveSteps] = {}  # by group, in the current phase
        network = len(program.shape) > 1 or program.targets.target(0).form is not None
        whole = space.foreign or network or any(rule is not None for rule in program.rules)
        self.block = None if whole else max(1, BLOCK // self.size)  # number of chains in a block; None for all chains

    def steps(self, score: Any, move: Any, read: Any, evaluate: Any = None, **instead: Any) -> Any:
        """Return the time steps of `make_chain`, with the given functions ``score``, ``move``, ``read``, ``evaluate``.

        Keyword arguments replace functions of the core.
        """
        own = {
            "disturb": self.disturb, "accumulate": self.accumulate, "first_escape": self.first_escape,
            "kinetic_change": self.kinetic_change, "refreshed": self.refreshed,
        }  # fmt: skip
        core = SimpleNamespace(**vars(self.core) | own | instead)
        return make_chain(self.machine, core, score, self.draw, move, read, self.place, self.count, self.keep, evaluate)

    def mixture_score(self, s: list[Any], q: None, y: list[Any], data: MixtureData, d: int) -> tuple[Any, Any]:
        """Evaluate the score of all chains by the mixture score of the core, which sees each coordinate as a value.

        Return the two arrays from which the log density follows.
        """
        columns, result = [y[0][:, i] for i in range(self.size)], [None] * self.size
        shares = self.core.mixture_score(
            result, [None] * data.scratch, columns, data, self.size, data.roots.shape[2], data.apart
        )
        s[0] = self.space.namespace.stack(result, axis=1)
        return shares

    def mixture_density(self, s: list[Any], q: None, y: list[Any], data: MixtureData, d: int, needed: bool) -> Any:
        """Evaluate the score of all chains, and return their log density, shape (chains, 1)."""
        return self.core.mixture_log_density(*self.mixture_score(s, q, y, data, d))[:, None]

    def array_density(self, s: list[Any], q: None, y: list[Any], target: Any, d: int, needed: bool) -> Any:
        """Evaluate the score of all chains, and return their log density if it is needed, shape (chains, 1)."""
        if not needed:
            self.array_score(s, q, y, target, d)
            return None
        x = self.space.namespace.reshape(y[0], (-1, *target.shape))
        score, log_density = target.score_and_log_density(x)
        found = np.asarray(log_density, float)
        if found.shape != x.shape[:1]:
            raise ValueError(f"log_density: must return an array of shape {x.shape[:1]}, got {found.shape}")
        self.store(score, s, x)
        return self.space.array(found[:, None])

    def array_score(self, s: list[Any], q: None, y: list[Any], target: Any, d: int) -> None:
        """Evaluate the score of all chains by a function of arrays."""
        self.evaluate(target.score, s, y, target.shape)

    def array_answer(self, s: list[Any], q: None, y: list[Any], target: Any, d: int) -> None:
        """Evaluate the answer of the target, in terms of which the tables are, by a function of arrays."""
        self.evaluate(target.answer, s, y, target.shape)

    def evaluate(self, function: Any, s: list[Any], y: list[Any], shape: tuple[int, ...]) -> None:
        """Evaluate a function of arrays for all chains."""
        x = self.space.namespace.reshape(y[0], (-1, *shape))
        self.store(function(x), s, x)

    def store(self, found: Any, s: list[Any], x: Any) -> None:
        """Write the score at x, which has the shape of x, to s, shape (chains, size)."""
        if tuple(found.shape) != tuple(x.shape):
            raise ValueError(f"score: must return the shape of its argument, {x.shape}, got {found.shape}")
        s[0] = self.space.namespace.reshape(self.space.cast(found, self.dtype), (-1, self.size))

    def draw(self, xi: None, first: int, count: int, kind: np.uint64, stream: Stream) -> Any:
        """Return normals of all chains, shape (chains, size count), or logarithms of uniform numbers, as one value."""
        # Drawing by NumPy would take longer than many scores, so a compiled function draws.
        from uldnum.kernels.numba.drawing import chain_normals, chain_uniforms

        (chain, n), seed = stream.chain, int(stream.k1) << 32 | int(stream.k0)
        if kind == METROPOLIS:
            uniform = chain_uniforms(int(first), int(count), chain, n, kind, seed, self.dtype)
            return [self.space.array(core(self.dtype).functions.log(uniform))]
        return chain_normals(self.size * int(first), self.size * int(count), chain, n, kind, seed, self.dtype)

    def tail(self, values: Array, j: int) -> Array:
        """Return the normals from number j on, counted per coordinate of the source."""
        return values[:, self.size * j :] if j else values

    def given(self, values: Array, count: int) -> list[Any]:
        """Return the first ``count`` normals of each coordinate as values; they are ordered by coordinate."""
        used = values[:, : self.size * count].reshape(len(values), self.size, count)
        return [self.space.array(used[..., i]) if self.space.foreign else used[..., i] for i in range(count)]

    def disturb(self, s: list[Any], xi: Array, t: Tables, j: int, d: int) -> None:
        """Add the errors of the score for map j, if the coordinates have different ones."""
        if self.tau.shape[0]:
            s[0] = self.machine.fma(self.given(xi, t.normals[j])[-1], self.tau, s[0])

    def move(self, u: Array, s: list[Any], xi: Array, t: Tables, j: int, d: int) -> None:
        """Apply the map of stage j in place."""
        self.read(u, u, s, xi, xi, t, j, d, len(u))

    def read(
        self, new: Array, u: Array, s: list[Any], xi: Array, eta: Array, t: Tables, j: int, d: int, rows: int
    ) -> None:
        """Apply map j to u and write the first rows of the result to ``new``."""
        m, e = t.normals[j], self.core.readout_normals(t, j, rows)
        self.core.affine(new, u, s, self.given(xi, m), self.given(eta, e), t, j, d, rows, len(u), m, e)

    def refreshed(self, p: list[Any], xi: Array, t: Tables, j: int, i: int) -> Any:
        """Return the momenta after map j, in which they depend only on themselves and on one normal."""
        return self.core.refreshed(p, self.given(xi, 1), t, j, i)

    def place(self, x: Array, recording: Recording, d: int) -> None:
        """Replace the positions by F x, if the recording has a frame F."""
        frame, y = recording.frame, x[0, 0]
        if frame.shape[1] == 1:
            x[0, 0] = y * frame[:, 0]
        elif frame.shape[1]:
            x[0, 0] = self.space.namespace.matmul(y, frame.T) if self.space.foreign else product(y, frame.T)

    def accumulate(
        self, sums: list[Any], products: list[Any], gap: None, phase_space: Array, centre: list[Any], d: int, rows: int,
        moments: int,
    ) -> None:  # fmt: skip
        """Add deviations from the centre to ``sums``, and their squares or outer products, if any, to ``products``."""
        space, size = self.space.namespace, rows * self.size
        z = phase_space[0, 0]
        if rows > 1:
            z = space.reshape(space.stack(list(phase_space[:rows, 0]), axis=1), (-1, size))
        own = self.machine.as_double(z) - centre[0]
        sums[0] += own
        if moments == VARIANCE:
            own *= own
            products[0] += own
        if moments == COVARIANCE:
            row, column = np.tril_indices(size)
            flat = space.reshape(space.matmul(own[:, :, None], own[:, None, :]), (-1, size**2))
            products[0] += space.take(flat, self.space.array(row * size + column), axis=1)

    def kinetic_change(self, p: list[Any], before: list[Any], d: int) -> Any:
        """Return the changes of the kinetic energies of all chains, shape (chains, 1)."""
        new, old = self.machine.as_double(p[0]), self.machine.as_double(before[0])
        return 0.5 * self.space.namespace.sum((new - old) * (new + old), axis=1, keepdims=True)

    def first_escape(self, escape_step: Any, step: Any, u: Any, least: list[Any], most: list[Any], d: int) -> Any:
        """Return the first step at which the position of each chain was not within its bounds."""
        inside = self.space.namespace.all((u[0, 0] >= least[0]) & (u[0, 0] <= most[0]), axis=1)
        return self.machine.where(inside | (escape_step < step), escape_step, step)

    def count(self, records: Records, x: Array, recording: Recording) -> None:
        """Add positions to the histograms, if there are any."""
        counts, batch, _, _ = records
        if counts.size:
            position = host(x[0, 0])
            bins = core(position.dtype).bin_of(position, recording.low, recording.per_unit, counts.shape[-1] - 2.0)
            np.add.at(counts, (batch[:, None], np.arange(self.size), bins), 1)

    def keep(self, records: Records, x: Array, number: int) -> None:
        """Store the positions of all chains."""
        records.trace[number - records.kept] = host(x[0, 0])

    def advance(self, state: State, until: int) -> Array:
        """Run up to step ``until``; see `uldnum.kernels.program.Executor.advance`."""
        kept, trace = state.trace(self.recording, until)
        n = state.escape_step.shape[1]
        batch = np.searchsorted(state.batches(), np.arange(n), side="right") - 1
        edges = [*range(0, n, self.block or n), n]
        for part in self.program.parts(state.step, until):
            for g in range(len(state.u)):
                for lo, hi in pairwise(edges):
                    records = Records(state.counts[g], batch[lo:hi], trace[:, g, lo:hi], kept)
                    with np.errstate(all="ignore"):  # diverging chains are detected and reported by other means
                        self.take(state, g, slice(lo, hi), part, records)
            state.step = part.before + part.last
        return trace

    def take(self, state: State, g: int, here: slice, part: Part, records: Records) -> None:
        """Advance a block of chains of group g through one part of a phase."""
        program, number, array = self.program, part.phase, self.space.array
        first, chains = program.first_chain + here.start, here.stop - here.start
        target: Any = program.targets.target(number).of_chains(first, chains)
        mixture = program.targets.mixtures(number, number + 1) if self.mixtures else None
        if mixture is not None:
            target = self.space.coefficients(MixtureData(*(of[0] for of in mixture)))
        stream = Stream((first, chains), *split_seed(program.seeds[number]))
        u, phase_space, sums, products = (
            of[g, here] for of in (state.u, state.phase_space, state.sums, state.products)
        )
        kept = Carried(state.score[g, here], state.log_density[g, here], state.accepted[g, here])
        carried = Carried(*([array(of)] for of in kept))
        chain = Chain(self.load(u), self.load(phase_space), [array(sums)], [array(products)], carried)
        k, room = len(chain.u), Scratch([None], [None], None, None, None, None, None)
        steps, t, entered = steps_of(self, g, part)
        if not entered:
            evaluations = steps.enter(chain, room, target, t, 1, k, stream)
            state.nfe[g, here] += evaluations if part.first == 1 else 0
        bounds = Bounds(*([array(bound[0])] for bound in program.targets.bounds(number, number + 1)))
        recording = self.recording._replace(record_from=self.recording.record_from - part.before)
        evaluations, escape_step = steps.advance(
            chain, room, target, t, 1, k, stream, Span(part.first, part.last, part.first, 1), bounds, recording,
            records, array(state.escape_step[g, here] - part.before),
        )  # fmt: skip
        state.nfe[g, here] += evaluations
        state.escape_step[g, here] = host(escape_step) + part.before
        for of, table in ((u, chain.u), (phase_space, chain.phase_space)):
            for r in range(k):
                of[:, r] = host(table[r, 0])
        sums[...], products[...] = host(chain.sums[0]), host(chain.products[0])
        for of, values in zip(kept, carried, strict=True):
            of[...] = host(values[0])

    def coefficients(self, t: Tables) -> Tables:
        """Return tables of a phase, with coefficients that multiply arrays of the library."""
        return self.space.coefficients(t)

    def squares(self, s: list[Any], xi: Array, m: int) -> tuple[Array, Array]:
        """Return the sums of squares of the first m normals of each coordinate and of the score, shape (chains,).

        Other libraries than NumPy add the squares of the score where it is.
        """
        normals = np.asarray(xi[:, : self.size * m], float).reshape(len(xi), self.size, m).transpose(0, 2, 1)
        score = self.machine.as_double(s[0])
        squares = host(self.space.namespace.sum(score * score, axis=1)) if self.space.foreign else total(score * score)
        return total(np.square(normals).reshape(len(xi), -1)), squares

    def bind(self, maps: Sequence[Affine]) -> list[Affine]:
        """Return maps, whose parts have a leading axis over chains, with coefficients that are values."""

        def along(part: Array) -> Array:
            return self.table(np.moveaxis(part, 0, -1)[None].astype(self.dtype)[..., None], part.ndim)

        return [Affine(along(map.dA), along(map.b), along(map.C)) for map in maps]

    def apply(self, new: Any, u: Any, s: list[Any], xi: Array, map: Affine, m: int, rows: int, ends: bool) -> None:
        """Apply a map that `bind` returned to u and write the first rows of the result to ``new``."""
        self.core.affine(new, u, s, self.given(xi, m), [], map, 0, 1, rows, len(u), m, 0)

    def end(self, u: Array) -> Array:
        """Return x; the array of values changes, but not the values."""
        return u[:1].copy()

    def load(self, state: Array) -> Array:
        """Convert an array of shape (n, k, size) to a table of values."""
        return self.table(state.swapaxes(0, 1)[:, None], 2)

    def table(self, numbers: Array, axes: int) -> Array:
        """Return an object array of values, which are the items of ``numbers`` along its first axes."""
        values = np.empty(numbers.shape[:axes], object)
        for index in np.ndindex(values.shape):
            values[index] = self.space.array(numbers[index])
        return values

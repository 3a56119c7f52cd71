"""The CUDA executor of images: the target computes the score on the GPU, and one kernel does the rest of each stage."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from uldnum._util.arraylib import Space
from uldnum._util.typing import Array
from uldnum.kernels.arrays.adaptive import AdaptiveSteps, steps_of
from uldnum.kernels.arrays.binding import core, ops
from uldnum.kernels.cuda.device import device, require_room
from uldnum.kernels.cuda.norms import LANES, NormForm, Sources, sum_kernel, total_kernel
from uldnum.kernels.cuda.stages import Batch, MapTable, Numbers, StageForm, stage_kernel
from uldnum.kernels.program import MAX_COEFFICIENTS, Executor, Part, Program
from uldnum.kernels.source.chain import Bounds, Chain, Scratch, Span, Stream, make_chain
from uldnum.kernels.source.core import NEVER, Recording, Tables, phase, split_seed
from uldnum.kernels.state import State
from uldnum.schemes.stage import Affine

__all__ = ["ImageExecutor"]


class ImageExecutor(Executor):
    """Executor of an image target whose score accepts arrays on the GPU.

    The time steps of `make_chain` run in Python. The coordinates of an image are independent of each other except in
    the score. The time steps therefore treat the images of all chains as a single coordinate, whose value is an array
    of shape (chains, size). The kernel draws the normals; `draw` only returns the index of the first one.

    Parameters
    ----------
    program : Program
        Its targets have shapes of several axes, scores that accept CuPy arrays, and a CuPy array as ``like``.
    fast : bool
        Whether the hardware computes sine and cosine (float32 only).
    """

    def __init__(self, program: Program, fast: bool = False) -> None:
        program.check_rows("cuda")
        self.program, self.dtype, self.fast = program, program.dtype, fast
        self.device = device()
        self.device.require(Space.of(program.targets.target(0).like))
        self.info = {"device": self.device.name}
        self.size = int(np.prod(program.shape))
        self.core = core(self.dtype)
        self.chain = self.steps(self.answer, self.move, self.read)
        self.adaptive: dict[int, AdaptiveSteps] = {}  # by group, in the current phase
        self.groups: list[tuple[Any, Any, Any]] = []  # u and (x, p), both (k, 1, chains, size), and escape steps
        self.uploaded = lru_cache(1)(self.upload)  # a run of one phase has many launches with the same tables
        # Arguments of the kernel for the current part of a phase and the current group.
        self.maps: list[list[Any]] = []
        self.bounds, self.escape_step, self.key = (None, None), None, (0, 0)
        self.now = 0  # current step of the program

    def steps(self, score: Any, move: Any, read: Any, **instead: Any) -> SimpleNamespace:
        """Return the time steps of `make_chain` with these functions. ``instead`` replaces functions of the core."""
        machine = ops(self.dtype)._replace(tail=self.tail)
        parts = SimpleNamespace(**vars(self.core) | {"first_escape": self.first_escape} | instead)
        return make_chain(
            machine, parts, score, self.draw, move, read, lambda x, *_: None, self.count, self.keep
        )  # fmt: skip

    def first_escape(self, escape_step: Any, *_: Any) -> Any:
        """Do nothing: the kernel of the last stage checks the divergence bounds."""
        return escape_step

    def upload(self, begin: int, end: int) -> list[list[tuple[Any, Any, list[list[Any]]]]]:
        """Copy the divergence bounds and maps of phases ``begin`` ... ``end - 1`` to the GPU in one transfer.

        Return the bounds and the arrays dA, b and C of each map, by phase and by group. In the transfer the bounds come
        first, so that the four bounds that a thread loads together are aligned.
        """
        least, most = self.program.targets.bounds(begin, end)
        arrays, counts, groups = [*least, *most], [], range(len(self.program.tables.b))
        for number in range(begin, end):
            for g in groups:
                t = phase(self.program.tables, g, number)
                used = t.normals + t.readout
                arrays += [part for j, m in enumerate(used) for part in (t.dA[j], t.b[j], t.C[j, :, :m])]
            counts.append(len(used))
        there = iter(self.together(arrays))
        bounds = [[next(there) for _ in range(begin, end)] for _ in (least, most)]
        return [
            [(low, high, [[next(there) for _ in range(3)] for _ in range(maps)]) for _ in groups]
            for maps, low, high in zip(counts, *bounds, strict=True)
        ]

    def score(self, s: list[Any], q: None, y: Any, target: Any, d: int) -> None:
        """Evaluate the score of all chains."""
        self.evaluate(target.score, s, y, target.shape)

    def answer(self, s: list[Any], q: None, y: Any, target: Any, d: int) -> None:
        """Evaluate the answer of the target, which the tables multiply, for all chains."""
        self.evaluate(target.answer, s, y, target.shape)

    def evaluate(self, function: Any, s: list[Any], y: Any, shape: tuple[int, ...]) -> None:
        """Evaluate a function for all chains. The result is contiguous and in the dtype of the run."""
        found = function(y[0].reshape(-1, *shape))
        if found.size != y[0].size:
            raise ValueError(f"score: must return {y[0].size} numbers, got an array of shape {found.shape}")
        s[0] = self.device.like(found, self.dtype)

    def draw(self, xi: None, first: int, count: int, kind: np.uint64, stream: Stream) -> int:
        """Return the index of the first normal."""
        return self.size * int(first)

    def tail(self, first: int, j: int) -> int:
        """Return the index of normal j of the first coordinate."""
        return first + self.size * int(j)

    def move(self, u: Any, s: list[Any], xi: int, t: Tables, j: int, d: int) -> None:
        """Apply the map of stage j in place."""
        last = j == len(t.score_at_x) - 1
        self.now += last
        self.read(u, u, s, xi, 0, t, j, d, len(u), self.now if last else NEVER)

    def read(
        self, new: Any, u: Any, s: list[Any], xi: int, eta: int, t: Tables, j: int, d: int, rows: int, now: Any = NEVER
    ) -> None:
        """Apply map j to u and write the first rows to ``new``. Chains out of bounds get the escape step ``now``."""
        dA, b, C = self.maps[j]
        m, e = int(t.normals[j]), int(self.core.readout_normals(t, j, rows))
        self.update(new, u, s, int(xi), int(eta), MapTable(dA, b, C, 0), m, e, rows, now)

    def apply(self, new: Any, u: Any, s: list[Any], xi: int, map: MapTable, m: int, rows: int, ends: bool) -> None:
        """Apply a map that `bind` returned. The bounds are checked if a step ``ends`` here."""
        self.now += ends
        self.update(new, u, s, xi, 0, map, m, 0, rows, self.now if ends else NEVER)

    def update(
        self, new: Any, u: Any, s: list[Any], xi: int, eta: int, of: MapTable, m: int, e: int, rows: int, now: Any
    ) -> None:
        """Launch the kernel of a map with m normals of the stream `DYNAMICS` and e of `READOUT` per coordinate.

        The module `uldnum.kernels.source.core` defines these streams of random numbers. The numbers in ``form`` are
        compile-time constants, which Numba requires to be Python integers.
        """
        k, _, chains, size = u.shape
        form = StageForm(self.dtype.name, self.fast, k, rows, m, e, xi % 4, eta % 4, size % 4 == 0)
        score = s[0].reshape(-1) if np.ndim(s[0]) else u.reshape(-1)  # if there is no score, its coefficient is 0
        values = {
            "images": Batch(new.reshape(-1), u.reshape(-1), score, *self.bounds, self.escape_step),
            "of": of,
            "numbers": Numbers(chains, size, self.program.first_chain, xi, eta, *self.key, now),
        }
        self.device.launch(stage_kernel(form), (chains * -(-size // 4), 1), values)

    def coefficients(self, t: Tables) -> Tables:
        """Return the tables unchanged, because the time steps read only their numbers of normals and their G."""
        return t

    def squares(self, s: list[Any], xi: int, m: int) -> tuple[Array, Array]:
        """Return the sums of squares of the normals of a map and of the score, from the GPU, shape (chains,) each.

        A chain has a fixed number of partial sums, which are then added in a fixed order, so that the results depend
        neither on the launch nor on the other chains.
        """
        score, size, empty = s[0].reshape(-1), self.size, self.device.empty
        chains, quads = score.size // size, -(-size // 4)
        lanes, whole = min(LANES, quads), size % 4 == 0
        parts, sums = empty((lanes * 2 * chains,), float), empty((2 * chains,), float)
        sources = Sources(score, chains, size, self.program.first_chain, xi, *self.key)
        form = NormForm(self.dtype.name, self.fast, m, xi % 4, whole)
        self.device.launch(sum_kernel(form), (lanes * chains, 1), {"sources": sources, "lanes": lanes, "parts": parts})
        self.device.launch(total_kernel(), (2 * chains, 1), {"parts": parts, "lanes": lanes, "sums": sums})
        normals, scores = self.device.host(sums).reshape(2, chains)
        return normals, scores

    def bind(self, maps: Sequence[Affine]) -> list[MapTable]:
        """Copy maps to the GPU. Their parts have a leading axis over chains."""
        parts = self.together([part.astype(self.dtype) for map in maps for part in (map.dA, map.b, map.C)])
        return [MapTable(dA, b, C, 1) for dA, b, C in zip(*[iter(parts)] * 3, strict=True)]

    def together(self, arrays: Sequence[Array]) -> list[Any]:
        """Copy arrays of one dtype to the GPU in one transfer, and return their flat parts there."""
        ends = np.cumsum([part.size for part in arrays])
        there = self.device.array(np.concatenate([part.ravel() for part in arrays]))
        return [there[end - part.size : end] for part, end in zip(arrays, ends.tolist(), strict=True)]

    def end(self, u: Any) -> None:
        """Return None: `apply` has checked the bounds at the end of a step."""

    def count(self, records: tuple[Array, int], x: Any, recording: Recording) -> None:
        """Do nothing: images have no histograms."""

    def keep(self, records: tuple[Array, int], x: Any, number: int) -> None:
        """Store the positions of all chains."""
        trace, kept = records
        trace[number - kept] = self.device.host(x[0, 0])

    def load(self, state: State) -> None:
        """Copy the state to the GPU at the first call, rows first, so that the positions are one batch of images."""
        if not self.groups:
            chains = state.escape_step.shape[1]
            scores = 3 * self.size * self.dtype.itemsize  # the score, its input, and positions that are copied back
            require_room(self.device, chains, (state.u.nbytes + state.phase_space.nbytes) // chains + scores, 0)
        for g in range(len(self.groups), len(state.u)):
            u, phase_space = (self.device.array(a[g].transpose(1, 0, 2)[:, None]) for a in (state.u, state.phase_space))
            self.groups.append((u, phase_space, self.device.array(state.escape_step[g])))

    def advance(self, state: State, until: int) -> Array:
        """Run up to step ``until``; see `uldnum.kernels.program.Executor.advance`."""
        self.load(state)
        kept, trace = state.trace(self.program.recording, until)
        parts = list(self.program.parts(state.step, until))
        most = max(1, MAX_COEFFICIENTS // (2 * self.size))
        for begin in range(0, len(parts), most):
            self.launch(state, parts[begin : begin + most], (trace, kept))
        self.device.wait()
        return trace

    def launch(self, state: State, parts: Sequence[Part], records: tuple[Array, int]) -> None:
        """Run parts of consecutive phases.

        After the first kernel, only stored positions and what adaptive steps need are copied between host and GPU.
        """
        trace, kept = records
        constants = self.uploaded(parts[0].phase, parts[-1].phase + 1)
        for part, of in zip(parts, constants, strict=True):
            for g in range(len(self.groups)):
                state.nfe[g] += self.take(g, part, of[g], (trace[:, g], kept))
            state.step = part.before + part.last

    def take(self, g: int, part: Part, constants: tuple[Any, Any, list[list[Any]]], records: tuple[Array, int]) -> int:
        """Advance the chains of group g through one part of a phase. Return the number of score evaluations.

        ``constants`` are the divergence bounds and the maps of the group.
        """
        program, (u, phase_space, escape_step) = self.program, self.groups[g]
        target = program.targets.target(part.phase).of_chains(program.first_chain, u.shape[2])
        steps, t, entered = steps_of(self, g, part)
        k0, k1 = split_seed(program.seeds[part.phase])
        least, most, maps = constants
        self.maps, self.bounds, self.escape_step, self.key = maps, (least, most), escape_step, (k0, k1)
        self.now = part.before + part.first - 1
        chain, scratch = Chain(u, phase_space, None, None, None), Scratch([None], [0], None, None, None, None, None)
        stream, span = Stream(None, k0, k1), Span(part.first, part.last, part.first, 1)
        recording = program.recording._replace(record_from=program.recording.record_from - part.before)
        evaluations = 0 if entered else steps.enter(chain, scratch, target, t, 1, len(u), stream)
        taken, _ = steps.advance(
            chain, scratch, target, t, 1, len(u), stream, span, Bounds(least, most), recording, records, escape_step
        )
        return int(taken + (evaluations if part.first == 1 else 0))

    def positions(self, state: State) -> Array:
        """Copy the positions at the end of the last step from the GPU."""
        return np.stack([self.device.host(phase_space[0, 0]) for _, phase_space, _ in self.groups])

    def sync(self, state: State) -> None:
        """Copy the state back from the GPU."""
        self.load(state)
        for g, (u, phase_space, escape_step) in enumerate(self.groups):
            for there, here in ((u, state.u[g]), (phase_space, state.phase_space[g])):
                here[...] = self.device.host(there)[:, 0].transpose(1, 0, 2)
            state.escape_step[g] = self.device.host(escape_step)

"""Steps whose sizes follow the score: tables of each chain and step, for the executor of arrays."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from uldnum._util.arraylib import host
from uldnum._util.typing import Array
from uldnum.kernels.program import Part
from uldnum.kernels.source.chain import Chain, Scratch, Stream
from uldnum.kernels.source.core import DYNAMICS, Tables
from uldnum.schemes.adaptive import Adaptive
from uldnum.schemes.stage import first_row

if TYPE_CHECKING:
    from uldnum.kernels.arrays.executor import ArrayExecutor

__all__ = ["AdaptiveSteps"]

# A step size that moves nothing, where the score gives none; the maps of a step of one stage.
TINY = 1e-30
STAGE, OPEN, CLOSE = range(3)


class AdaptiveSteps:
    """The maps of a phase in which a rule chooses the step sizes of each chain: their tables have an axis over chains.

    A scheme that opens with a score takes `close` of one step and `open` of the next in one stage, as it does with a
    fixed step size. The size of the next step follows from that score and from the normals of its `open`. All normals
    are those of the dynamics. A run that was stopped within a phase opens it again from (x, p), to the same sizes.
    """

    def __init__(self, executor: ArrayExecutor, rule: Adaptive, part: Part) -> None:
        self.executor, self.rule, self.phase, self.begin = executor, rule, part.phase, part.first
        unit = rule.scheme.unit
        self.opens = unit.open_uses_score
        self.maps = {STAGE: unit.stages[0].map, OPEN: unit.open, CLOSE: unit.close}
        normals = [self.maps[j].normals for j in (STAGE, OPEN, CLOSE)]
        if self.opens:
            normals[STAGE] = normals[OPEN] + normals[CLOSE]
        G = unit.stages[0].G.astype(executor.dtype)
        own = Tables(
            G[None], None, None, None, tuple(normals), (0, 0, 0), (0, 0, normals[STAGE]), normals[STAGE], self.opens,
            (bool((first_row(unit.open.b) == G).all()),), self.opens, (0, 1),
        )  # fmt: skip
        self.layout = executor.space.coefficients(own)
        self.closed: Any = None  # x at the end of the step under way
        advance = executor.steps(self.move, self.read, first_escape=self.first_escape).advance
        self.steps = SimpleNamespace(enter=self.enter, advance=advance)

    def enter(self, chain: Chain, scratch: Scratch, target: Any, t: Tables, d: int, k: int, stream: Stream) -> int:
        """Open the first step that is taken here from (x, p); returns the number of score evaluations."""
        if not self.opens:
            self.executor.core.copy(chain.u, chain.phase_space, d, k)
            return 0
        self.executor.score(scratch.s, scratch.q, chain.phase_space[0], target, d)
        xi = self.executor.draw(None, d * (self.begin - 1) * t.per_step, d * t.normals[OPEN], DYNAMICS, stream)
        self.choose_and_apply(chain.u, chain.phase_space, scratch.s, xi, OPEN, d)
        return 1

    def move(self, u: Any, s: list[Any], xi: Array, t: Tables, j: int, d: int) -> None:
        """Close a step and open the next, or take one that neither opens nor closes with a score."""
        if self.opens:
            self.apply(u, u, s, xi, CLOSE, d, len(u))
            self.closed = list(u[0])
            xi = self.executor.tail(xi, d * t.normals[CLOSE])
        self.choose_and_apply(u, u, s, xi, OPEN if self.opens else STAGE, d)

    def read(self, new: Any, u: Any, s: list[Any], xi: Array, eta: Array, t: Tables, j: int, d: int, rows: int) -> None:
        """Read the end of a step."""
        self.apply(new, u, s, xi, CLOSE, d, rows)

    def first_escape(self, escape_step: Any, step: Any, u: Any, least: Any, most: Any, d: int) -> Any:
        """Look at the end of the step, not at the beginning of the next, which may never be taken."""
        x = u if self.closed is None else {(0, i): self.closed[i] for i in range(d)}
        return self.executor.core.first_escape(escape_step, step, x, least, most, d)

    def choose_and_apply(self, new: Any, u: Any, s: list[Any], xi: Array, j: int, d: int) -> None:
        """Choose the sizes of the next step by the normals of map j, and apply the map."""
        size, m = self.executor.size * d, self.maps[j].normals
        normals = np.asarray(xi[: size * m], float).reshape(size, m, xi.shape[1]).transpose(2, 1, 0)
        scores = np.stack([host(value) for value in s], axis=1).reshape(-1, size).astype(float)
        h = self.rule.size(normals, scores)
        # Where there is no score, or it is not finite, the chain stays, or is found outside.
        step = self.rule.scheme.stages(np.where((h > 0) & (h < np.inf), h, TINY), friction=self.rule.friction)
        self.maps = {STAGE: step.stages[0].map, OPEN: step.open, CLOSE: step.close}
        self.apply(new, u, s, xi, j, d, len(u))

    def apply(self, new: Any, u: Any, s: list[Any], xi: Array, j: int, d: int, rows: int) -> None:
        """Apply a map of the step under way."""
        map, executor = self.maps[j], self.executor

        def along(part: Array) -> Array:
            """Return an entry of all chains, as a value of the core, in the place of each number."""
            entries = np.empty((1, *part.shape[1:]), object)
            for index in np.ndindex(part.shape[1:]):
                values = part[(slice(None), *index)].astype(executor.dtype)
                entries[(0, *index)] = executor.space.array(values[:, None] if executor.fold else values)
            return entries

        t = self.layout._replace(dA=along(map.dA), b=along(map.b), C=along(map.C))
        executor.core.affine(
            new, u, s, executor.given(xi, map.normals, d), [], t, 0, d, rows, len(u), map.normals, 0
        )  # fmt: skip

"""Phases whose step sizes depend on the score: each chain has its own tables in each step (array executor only)."""

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

# Step size at which nothing moves; used where the rule gives no valid step size.
TINY = 1e-30
# Maps of a step of one stage.
STAGE, OPEN, CLOSE = range(3)


class AdaptiveSteps:
    """The maps of a phase in which a rule chooses the step size of each chain; tables have an axis over chains.

    In a scheme that opens with a score, one stage applies `close` of one step and `open` of the next, as with a fixed
    step size. The size of the next step depends on that score and on the normals of its `open`. All normals are
    dynamics normals. A run that was stopped within a phase opens the phase again from (x, p) and obtains the same step
    sizes.
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
            (), 0.0,
        )  # fmt: skip
        self.layout = executor.space.coefficients(own)
        self.closed: Any = None  # x at the end of the current step
        advance = executor.steps(executor.score, self.move, self.read, first_escape=self.first_escape).advance
        self.steps = SimpleNamespace(enter=self.enter, advance=advance)

    def enter(self, chain: Chain, scratch: Scratch, target: Any, t: Tables, d: int, k: int, stream: Stream) -> int:
        """Open the first step of this part from (x, p). Return the number of score evaluations."""
        if not self.opens:
            self.executor.core.copy(chain.u, chain.phase_space, d, k)
            return 0
        self.executor.score(scratch.s, scratch.q, chain.phase_space[0], target, d)
        xi = self.executor.draw(None, d * (self.begin - 1) * t.per_step, d * t.normals[OPEN], DYNAMICS, stream)
        self.choose_and_apply(chain.u, chain.phase_space, scratch.s, xi, OPEN, d)
        return 1

    def move(self, u: Any, s: list[Any], xi: Array, t: Tables, j: int, d: int) -> None:
        """Close a step and open the next, or take a step of a scheme that does not open with a score."""
        if self.opens:
            self.apply(u, u, s, xi, CLOSE, d, len(u))
            self.closed = u[:1].copy()
            xi = self.executor.tail(xi, d * t.normals[CLOSE])
        self.choose_and_apply(u, u, s, xi, OPEN if self.opens else STAGE, d)

    def read(self, new: Any, u: Any, s: list[Any], xi: Array, eta: Array, t: Tables, j: int, d: int, rows: int) -> None:
        """Compute (x, p) at the end of a step."""
        self.apply(new, u, s, xi, CLOSE, d, rows)

    def first_escape(self, escape_step: Any, step: Any, u: Any, least: Any, most: Any, d: int) -> Any:
        """Check the divergence bounds at the end of the step.

        The default would check u, which already contains the start of the next step; that step may never be taken.
        """
        x = u if self.closed is None else self.closed
        return self.executor.first_escape(escape_step, step, x, least, most, d)

    def choose_and_apply(self, new: Any, u: Any, s: list[Any], xi: Array, j: int, d: int) -> None:
        """Choose the sizes of the next step from the score and the normals of map j, and apply the map."""
        size, m = self.executor.size, self.maps[j].normals
        normals = np.asarray(xi[:, : size * m], float).reshape(len(xi), size, m).transpose(0, 2, 1)
        h = self.rule.size(normals, host(s[0]).astype(float))
        # Chains without a finite score, or with a score of zero, do not move; `first_escape` finds the non-finite ones.
        step = self.rule.scheme.stages(np.where((h > 0) & (h < np.inf), h, TINY), friction=self.rule.friction)
        self.maps = {STAGE: step.stages[0].map, OPEN: step.open, CLOSE: step.close}
        self.apply(new, u, s, xi, j, d, len(u))

    def apply(self, new: Any, u: Any, s: list[Any], xi: Array, j: int, d: int, rows: int) -> None:
        """Apply map j of the current step."""
        map, executor = self.maps[j], self.executor

        def along(part: Array) -> Array:
            """Replace each coefficient, given for all chains, by a value of the core."""
            entries = np.moveaxis(part, 0, -1)[None].astype(executor.dtype)
            return executor.table(entries[..., None], part.ndim)

        t = self.layout._replace(dA=along(map.dA), b=along(map.b), C=along(map.C))
        executor.core.affine(
            new, u, s, executor.given(xi, map.normals), [], t, 0, d, rows, len(u), map.normals, 0
        )  # fmt: skip

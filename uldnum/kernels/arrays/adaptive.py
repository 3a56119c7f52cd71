"""Phases whose step sizes depend on the score: each chain has its own tables in each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np

from uldnum._util.typing import Array
from uldnum.kernels.program import Part, Program
from uldnum.kernels.source.chain import Chain, Scratch, Stream
from uldnum.kernels.source.core import DYNAMICS, Tables, phase
from uldnum.schemes.adaptive import Adaptive
from uldnum.schemes.stage import Affine, first_row

__all__ = ["AdaptiveSteps", "Machine", "steps_of"]

# Step size at which nothing moves; used where the rule gives no valid step size.
TINY = 1e-30
# Maps of a step of one stage.
STAGE, OPEN, CLOSE = range(3)


class Machine(Protocol):
    """What adaptive steps need of an executor whose values are arrays over all chains.

    ``core`` contains the functions of `make_core`, ``chain`` the time steps of phases without a rule, and ``adaptive``
    the time steps of each group in the current phase with a rule.
    """

    program: Program
    dtype: np.dtype[Any]
    core: SimpleNamespace
    chain: SimpleNamespace
    adaptive: dict[int, AdaptiveSteps]

    def steps(self, score: Any, move: Any, read: Any, **instead: Any) -> SimpleNamespace:
        """Return the time steps of `make_chain` with these functions, and others instead of those of the core."""

    @property
    def score(self) -> Callable[..., Any]:
        """Function ``score(s, q, y, target, d)`` that writes the score of all chains at y to s[0]."""

    def draw(self, xi: None, first: int, count: int, kind: np.uint64, stream: Stream) -> Any:
        """Return normals of all chains."""

    def tail(self, xi: Any, j: int) -> Any:
        """Return the normals from number j of each coordinate on."""

    def coefficients(self, t: Tables) -> Tables:
        """Return tables of a phase as the time steps require."""

    def squares(self, s: list[Any], xi: Any, m: int) -> tuple[Array, Array]:
        """Return the sums of squares of the first m normals of each coordinate and of the score, float64 on the host.

        Both have shape (chains,).
        """

    def bind(self, maps: Sequence[Affine]) -> list[Any]:
        """Return maps, whose parts have a leading axis over chains, as `apply` requires."""

    def apply(self, new: Any, u: Any, s: list[Any], xi: Any, map: Any, m: int, rows: int, ends: bool) -> None:
        """Apply a map of m normals to u and write the first rows to ``new``; ``ends`` means that a step ends here."""

    def end(self, u: Any) -> Any:
        """Return x at the end of a step as `first_escape` requires; u will change before."""

    def first_escape(self, escape_step: Any, step: Any, u: Any, least: Any, most: Any, d: int) -> Any:
        """Return the first step at which the position of each chain was not within its bounds."""


def steps_of(machine: Machine, g: int, part: Part) -> tuple[Any, Tables, bool]:
    """Return the time steps and the tables of group g for a part, and whether the recurrence is already open."""
    program, here = machine.program, part.first > 1
    rule = program.rules[part.phase]
    if rule is None:
        return machine.chain, machine.coefficients(phase(program.tables, g, part.phase)), here
    here = here and g in machine.adaptive and machine.adaptive[g].phase == part.phase
    if not here:
        machine.adaptive[g] = AdaptiveSteps(machine, rule, part)
    return machine.adaptive[g].steps, machine.adaptive[g].layout, here


class AdaptiveSteps:
    """The maps of a phase in which a rule chooses the step size of each chain; tables have an axis over chains.

    In a scheme that opens with a score, one stage applies `close` of one step and `open` of the next, as with a fixed
    step size. The size of the next step depends on that score and on the normals of its `open`. All normals are
    dynamics normals. A run that was stopped within a phase opens the phase again from (x, p) and obtains the same step
    sizes.

    The rule and the recipe of the scheme are evaluated by NumPy in float64, for all executors. An executor whose arrays
    are elsewhere copies two sums per chain to the host and the tables of the step back.
    """

    def __init__(self, machine: Machine, rule: Adaptive, part: Part) -> None:
        self.machine, self.rule, self.phase, self.begin = machine, rule, part.phase, part.first
        unit = rule.scheme.unit
        self.opens = unit.open_uses_score
        self.normals = unit.stages[0].map.normals, unit.open.normals, unit.close.normals  # of the three maps
        own = self.normals[OPEN] + self.normals[CLOSE] if self.opens else self.normals[STAGE]
        G = unit.stages[0].G.astype(machine.dtype)
        self.layout = machine.coefficients(
            Tables(
                G[None], None, None, None, (own, *self.normals[OPEN:]), (0, 0, 0), (0, 0, own), own, self.opens,
                (bool((first_row(unit.open.b) == G).all()),), self.opens, (0, 1), np.empty(0), 0.0, False,
            )
        )  # fmt: skip
        self.maps: dict[int, Any] = {}  # those of the current step
        self.closed: Any = None  # x at the end of the current step
        advance = machine.steps(machine.score, self.move, self.read, first_escape=self.first_escape).advance
        self.steps = SimpleNamespace(enter=self.enter, advance=advance)

    def enter(self, chain: Chain, scratch: Scratch, target: Any, t: Tables, d: int, k: int, stream: Stream) -> int:
        """Open the first step of this part from (x, p). Return the number of score evaluations."""
        machine = self.machine
        if not self.opens:
            machine.core.copy(chain.u, chain.phase_space, d, k)
            return 0
        machine.score(scratch.s, scratch.q, chain.phase_space[0], target, d)
        xi = machine.draw(None, d * (self.begin - 1) * t.per_step, d * t.normals[OPEN], DYNAMICS, stream)
        self.choose(scratch.s, xi, OPEN)
        self.apply(chain.u, chain.phase_space, scratch.s, xi, OPEN, k)
        return 1

    def move(self, u: Any, s: list[Any], xi: Any, t: Tables, j: int, d: int) -> None:
        """Close a step and open the next, or take a step of a scheme that does not open with a score."""
        if self.opens:
            self.apply(u, u, s, xi, CLOSE, len(u), ends=True)
            self.closed = self.machine.end(u)
            xi = self.machine.tail(xi, d * t.normals[CLOSE])
        map = OPEN if self.opens else STAGE
        self.choose(s, xi, map)
        self.apply(u, u, s, xi, map, len(u), ends=not self.opens)

    def read(self, new: Any, u: Any, s: list[Any], xi: Any, eta: Any, t: Tables, j: int, d: int, rows: int) -> None:
        """Compute (x, p) at the end of a step."""
        self.apply(new, u, s, xi, CLOSE, rows)

    def first_escape(self, escape_step: Any, step: Any, u: Any, least: Any, most: Any, d: int) -> Any:
        """Check the divergence bounds at the end of the step.

        The default would check u, which already contains the start of the next step; that step may never be taken.
        """
        return self.machine.first_escape(escape_step, step, self.closed if self.opens else u, least, most, d)

    def choose(self, s: list[Any], xi: Any, j: int) -> None:
        """Choose the sizes of the next step from the score and the normals of map j, and compute its maps."""
        m = self.normals[j]
        with np.errstate(all="ignore"):  # diverging chains are detected and reported by other means
            h = self.rule.size(*self.machine.squares(s, xi, m), m)
            # Chains whose score is zero or non-finite do not move; `first_escape` finds the non-finite ones.
            step = self.rule.scheme.stages(np.where((h > 0) & (h < np.inf), h, TINY), friction=self.rule.friction)
        maps = {OPEN: step.open, CLOSE: step.close} if self.opens else {STAGE: step.stages[0].map}
        self.maps = dict(zip(maps, self.machine.bind([*maps.values()]), strict=True))

    def apply(self, new: Any, u: Any, s: list[Any], xi: Any, j: int, rows: int, ends: bool = False) -> None:
        """Apply map j of the current step."""
        self.machine.apply(new, u, s, xi, self.maps[j], self.normals[j], rows, ends)

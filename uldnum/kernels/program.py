"""What runs, on whatever machine: a program of phases, and the protocol of what executes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from uldnum._util.typing import Array
from uldnum.kernels.source.core import LOCAL, Recording, Tables, split_seed
from uldnum.kernels.source.mixture import MixtureData
from uldnum.kernels.state import State
from uldnum.schemes.adaptive import Adaptive

__all__ = ["MOST", "Executor", "Part", "Program", "Targets"]


# Numbers that the mixtures of all levels of a launch have, at most: 64 MiB in float64.
MOST = 8 * 2**20


class Targets(Protocol):
    """The targets of a program: one for each phase."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""

    def target(self, number: int) -> Any:
        """Return the target of a phase, as `uldnum.targets.Target` describes it."""

    def mixtures(self, first: int, last: int) -> MixtureData | None:
        """Return the mixtures of phases first ... last - 1, arrays with a leading axis over them.

        None where the targets are no mixtures: executors then call their scores.
        """

    def bounds(self, first: int, last: int) -> tuple[Array, Array]:
        """Return the lower and upper divergence bounds of phases first ... last - 1, in the type of the run.

        Both have shape (last - first, d).
        """


class Part(NamedTuple):
    """Steps ``first`` ... ``last`` of a phase, which count from 1; ``before`` steps precede the phase."""

    phase: int
    first: int
    last: int
    before: int


@dataclass(frozen=True, eq=False)
class Program:
    """What an executor runs.

    `uldnum.sample` runs a program of one phase, for H step sizes; `uldnum.anneal` one of many phases, for one.

    Parameters
    ----------
    tables : Tables
        Coefficients of the steps of P phases, in the type of the run.
    counts : int64 array, shape (P,)
        Time steps of each phase.
    seeds : uint64 array, shape (P,)
        Keys of their random numbers.
    targets : Targets
        Their targets.
    recording : Recording
        What is recorded; steps count through all phases.
    first_chain : int
        Number of the first chain of each group.
    rules : sequence of Adaptive or None, length P
        What chooses the step sizes of each chain in a phase; None where the tables do.
    """

    tables: Tables
    counts: Array
    seeds: Array
    targets: Targets
    recording: Recording
    first_chain: int
    rules: Sequence[Adaptive | None]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the run."""
        return self.tables.b.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.targets.shape

    @cached_property
    def ends(self) -> Array:
        """Time steps from the start of the program to the end of each phase, shape (P,)."""
        return np.cumsum(self.counts)

    @cached_property
    def keys(self) -> Array:
        """The two words of the key of each phase, shape (P, 2)."""
        return np.stack(split_seed(self.seeds), axis=1)

    def parts(self, step: int, until: int) -> Iterator[Part]:
        """Split steps step + 1 ... until into parts of one phase each."""
        number = int(np.searchsorted(self.ends, step, side="right"))
        while step < until:
            last, before = min(until, int(self.ends[number])), int(self.ends[number] - self.counts[number])
            yield Part(number, step + 1 - before, last - before, before)
            step, number = last, number + 1

    def check_compiled(self, backend: str) -> None:
        """Raise if compiled kernels cannot run the program: all chains share a table, of at most `LOCAL` rows."""
        if any(rule is not None for rule in self.rules):
            raise ValueError(f"backend: {backend!r} runs no step sizes that follow the score; 'array' does")
        rows = self.tables.b.shape[2]
        if rows > LOCAL:
            raise ValueError(f"backend: {backend!r} runs schemes of at most {LOCAL} rows, not {rows}; 'array' runs any")


class Executor(Protocol):
    """Runs a program on a machine; ``info`` says what a user may want to know of how."""

    info: dict[str, str]

    def first_launch(self, state: State) -> int:
        """Return a number of steps that surely takes little time."""

    def advance(self, state: State, until: int) -> Array:
        """Go on to step ``until``, which counts through all phases; record, and read the last state.

        A phase begins with the opening of its recurrence from (x, p) at the end of the last.

        Returns the positions kept on the way, shape (kept, H, n, d).
        """

    def sync(self, state: State) -> None:
        """Bring the arrays of the state up to date; until then the executor may hold them elsewhere."""

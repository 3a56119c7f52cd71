"""The program that an executor runs, and the executor protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from uldnum._util.typing import Array
from uldnum.kernels.source.core import LOCAL, Recording, Tables, split_seed
from uldnum.kernels.source.mixture import MixtureData
from uldnum.kernels.state import State
from uldnum.schemes.adaptive import Adaptive

__all__ = ["MAX_COEFFICIENTS", "ChangedTargets", "Executor", "Part", "Program", "Targets"]


# Largest number of mixture coefficients in a launch, summed over its phases: 64 MiB in float64.
MAX_COEFFICIENTS = 8 * 2**20


class Targets(Protocol):
    """Targets of a program, one per phase."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""

    def target(self, number: int) -> Any:
        """Return the target of phase ``number``, an object with the interface of `uldnum.targets.Target`."""

    def mixtures(self, first: int, last: int) -> MixtureData | None:
        """Return the mixtures of phases first ... last - 1 as arrays with a leading axis over phases.

        The result is None if the targets are not mixtures. Executors then call the scores of the targets.
        """

    def bounds(self, first: int, last: int) -> tuple[Array, Array]:
        """Return the lower and upper divergence bounds of phases first ... last - 1, in the dtype of the run.

        Both arrays have shape (last - first, d).
        """


@dataclass(frozen=True, eq=False)
class ChangedTargets:
    """Targets of a program that replace others with the same mixtures, shape and bounds.

    Attributes
    ----------
    before : Targets
        The other targets.
    change : callable
        Function that returns a target, given the one that it replaces.
    """

    before: Targets
    change: Callable[[Any], Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.before.shape

    def target(self, number: int) -> Any:
        """Return the target of a phase."""
        return self.change(self.before.target(number))

    def mixtures(self, first: int, last: int) -> MixtureData | None:
        """Return the mixtures."""
        return self.before.mixtures(first, last)

    def bounds(self, first: int, last: int) -> tuple[Array, Array]:
        """Return the divergence bounds."""
        return self.before.bounds(first, last)


class Part(NamedTuple):
    """Steps ``first`` ... ``last`` of one phase, counted from 1; ``before`` is the number of steps before the phase."""

    phase: int
    first: int
    last: int
    before: int


@dataclass(frozen=True, eq=False)
class Program:
    """A sequence of phases, with everything that an executor needs to run it.

    `uldnum.sample` builds a program of one phase for H step sizes. `uldnum.anneal` builds a program of many phases for
    one step size per phase.

    Parameters
    ----------
    tables : Tables
        Coefficients of the time steps of all P phases, in the dtype of the run. They multiply the answer of the target
        (`uldnum.targets.Target.answer`), which is the score if the target has no form (`uldnum.schemes.form`). In
        phases with a rule they multiply the score.
    counts : int64 array, shape (P,)
        Number of time steps of each phase.
    seeds : uint64 array, shape (P,)
        64-bit random number key of each phase.
    targets : Targets
        Target of each phase.
    recording : Recording
        Recorded quantities. Its step numbers count the steps of all phases.
    first_chain : int
        Index of the first chain of each group.
    rules : sequence of Adaptive or None, length P
        Rule that chooses the step size of each chain and step of a phase; None if the tables fix the step size.
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
        """Dtype of the run."""
        return self.tables.b.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.targets.shape

    @property
    def metropolised(self) -> bool:
        """Whether the steps have Metropolis tests."""
        return bool(self.tables.temperature.any())

    @cached_property
    def ends(self) -> Array:
        """Cumulative number of time steps at the end of each phase, shape (P,)."""
        return np.cumsum(self.counts)

    @cached_property
    def keys(self) -> Array:
        """Low and high 32-bit words of the key of each phase, shape (P, 2)."""
        return np.stack(split_seed(self.seeds), axis=1)

    def parts(self, step: int, until: int) -> Iterator[Part]:
        """Split the steps from ``step + 1`` to ``until`` into parts that each lie within one phase."""
        number = int(np.searchsorted(self.ends, step, side="right"))
        while step < until:
            last, before = min(until, int(self.ends[number])), int(self.ends[number] - self.counts[number])
            yield Part(number, step + 1 - before, last - before, before)
            step, number = last, number + 1

    def check_compiled(self, backend: str) -> None:
        """Raise `ValueError` if compiled kernels cannot run the program.

        They cannot run adaptive step sizes, because all chains share the tables of a phase.
        """
        if any(rule is not None for rule in self.rules):
            raise ValueError(
                f"backend: {backend!r} does not support step sizes that depend on the score; use backend 'array'"
            )
        self.check_rows(backend)

    def check_rows(self, backend: str) -> None:
        """Raise `ValueError` if the tables have more than `LOCAL` rows, which compiled maps do not support."""
        rows = self.tables.b.shape[2]
        if rows > LOCAL:
            raise ValueError(
                f"backend: {backend!r} supports schemes of at most {LOCAL} rows, not {rows}; use backend 'array'"
            )


class Executor(Protocol):
    """Object that runs a program on one backend.

    ``info`` describes how the program is run (device, number of threads), for display to the user.
    """

    info: dict[str, str]

    def first_launch(self, state: State) -> int:
        """Return a number of steps for the first launch that takes little time on any hardware.

        It is 1 where the cost of a score evaluation is unknown.
        """
        return 1

    def advance(self, state: State, until: int) -> Array:
        """Run up to step ``until``, record the requested quantities, and compute (x, p) at the last step.

        Steps are counted over all phases. Each phase starts with the map ``open``, applied to the (x, p) at the end of
        the previous phase.

        Returns
        -------
        array, shape (kept, H, n, d)
            Stored positions.
        """

    def positions(self, state: State) -> Array:
        """Return a copy of the positions at the end of the last step, shape (H, n, d)."""
        return state.phase_space[:, :, 0].copy()

    def sync(self, state: State) -> None:
        """Copy the state back into the arrays of ``state``, if the executor holds it elsewhere."""
        return

"""Executors: the one source in `core`, bound to a machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from uldnum.kernels.core import NEVER, Tables, Watch, phase
from uldnum.kernels.mixture import MixtureData
from uldnum.typing import Array

__all__ = [
    "BATCHES",
    "LOCAL",
    "SOURCES",
    "Executor",
    "Ladder",
    "Layout",
    "Passage",
    "Problem",
    "State",
    "check_rows",
    "digest_of",
    "split_seed",
    "statistics_shapes",
]


def digest_of(folder: Path, *others: Path) -> str:
    """Return a hash of the sources in a folder, and of others."""
    return sha256(b"".join(path.read_bytes() for path in (*sorted(folder.glob("*.py")), *others))).hexdigest()


# Of what compiled kernels are made, as it was when this process began: a file that changes later is not what runs here.
SOURCES = digest_of(Path(__file__).parent)


# Values that the scratch of compiled kernels holds, and so the rows of a scheme that they run.
LOCAL = 8


@dataclass(frozen=True)
class Problem:
    """What an executor runs: the tables, the target, the random stream, and what is watched.

    Parameters
    ----------
    tables : Tables
        Coefficients of H step sizes.
    target : object
        As `uldnum.targets.Target` describes it. Compiled kernels need its ``kernel_data`` or its ``compiled_score``.
    seed, first_chain : int
        Key of the random numbers, and the number of the first chain of each group.
    watch : Watch
        What is recorded.
    stored : MixtureData, optional
        The mixture as an earlier part of the run read it.
    """

    tables: Tables
    target: Any
    seed: int
    first_chain: int
    watch: Watch
    stored: MixtureData | None = None

    def kernel_data(self, dtype: np.dtype[Any]) -> MixtureData | None:
        """Return the mixture that the target is as the kernels read it, or None if it is none."""
        if self.stored is not None or self.target.kernel_data is None:
            return self.stored
        return self.target.kernel_data(dtype)


@dataclass(frozen=True, eq=False)
class Layout:
    """The phases of a plan as arrays, whose axis goes over P phases.

    Attributes
    ----------
    tables : Tables
        Of the steps of all phases, in float64, as `core.lay_out` returns them.
    stages : array, shape (P + 1,)
        Where the stages of each phase begin in them.
    counts : array, shape (P,)
        Time steps of each phase.
    alpha, sigma : arrays, shape (P,)
        The noise level of each phase.
    """

    tables: Tables
    stages: Array
    counts: Array
    alpha: Array
    sigma: Array

    @cached_property
    def ends(self) -> Array:
        """Time steps from the start of the plan to the end of each phase, shape (P,)."""
        return np.cumsum(self.counts)

    @cached_property
    def before(self) -> Array:
        """Time steps of all phases before, shape (P,)."""
        return np.asarray(self.ends - self.counts)

    def step(self, number: int, dtype: np.dtype[Any]) -> Tables:
        """Return the tables of a phase as those of one step size, in the type of the run."""
        t = phase(self.tables, self.stages, number)
        reals = {name: getattr(t, name)[None].astype(dtype) for name in ("G", "dA", "b", "C")}
        return t._replace(
            **reals,
            per_step=int(t.per_step),
            open_uses_score=bool(t.open_uses_score),
            marked=bool(t.marked),
        )


# Numbers that the mixtures of all levels of a launch have, at most: 64 MiB in float64.
MOST = 8 * 2**20


@dataclass(frozen=True, eq=False)
class Passage:
    """What a ladder runs: a mixture through the phases of a plan.

    Attributes
    ----------
    mixture : target
        Without noise, with ``kernel_levels``.
    layout : Layout
        The phases, whose tables are in the type of the run.
    keys : uint64 array, shape (P, 2)
        Of their random numbers.
    first_chain : int
        Number of the first chain.
    least, most : arrays, shape (P, d)
        A chain diverges when it leaves them.
    """

    mixture: Any
    layout: Layout
    keys: Array
    first_chain: int
    least: Array
    most: Array

    @classmethod
    def of(
        cls,
        mixture: Any,
        layout: Layout,
        seeds: Array,
        first_chain: int,
        bounds: tuple[Array, Array],
        dtype: np.dtype[Any],
    ) -> Passage:
        """Return the passage of a run in a type, from a layout in float64."""
        t = layout.tables
        tables = t._replace(**{part: getattr(t, part).astype(dtype) for part in ("G", "dA", "b", "C")})
        least, most = (np.ascontiguousarray(bound, dtype=dtype) for bound in bounds)
        keys = np.stack(split_seed(seeds), axis=1)
        return cls(mixture, replace(layout, tables=tables), keys, first_chain, least, most)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the run."""
        return self.least.dtype

    @cached_property
    def numbers(self) -> int:
        """Numbers that the mixture of a level has."""
        return sum(part.size for part in self.mixtures(0, 1))

    def first_launch(self, state: State, fewest: int, terms: int) -> int:
        """Return in how many phases about so many terms of the score are taken, one at least.

        Fewer chains than ``fewest`` take as long.
        """
        chains = max(state.left.size, fewest)
        return max(1, int(terms / (chains * self.numbers * self.layout.counts.mean())))

    def longest(self, state: State, fewest: int, numbers: int) -> float:
        """Return the steps of a phase that draw so many numbers; fewer chains than ``fewest`` take as long."""
        return numbers / (max(state.left.size, fewest) * state.xp.shape[3])

    def pieces(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Split phases into those whose mixtures a launch takes."""
        most = max(1, MOST // self.numbers)
        for begin in range(first, last, most):
            yield begin, min(begin + most, last)

    def mixtures(self, first: int, last: int) -> Any:
        """Return the mixture at the noise levels of phases, as the kernels read it."""
        layout = self.layout
        return self.mixture.kernel_levels(layout.alpha[first:last], layout.sigma[first:last], self.dtype)


# Chains of a group are counted, and handed to threads, in this many batches at most.
BATCHES = 32


def statistics_shapes(H: int, n: int, d: int, moments: bool, bins: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what is recorded of H groups of n chains: the arrays of `State` of these names."""
    axes = d if moments else 0
    return {
        "sums": (H, n, axes),
        "squares": (H, n, axes * (axes + 1) // 2),
        "counts": (H, min(n, BATCHES), d if bins else 0, bins + 2),
    }


@dataclass
class State:
    """The chains of a run: H groups of n, k rows of d coordinates. Executors change the arrays in place.

    Attributes
    ----------
    u : array, shape (H, n, k, d)
        What a chain remembers.
    xp : array, shape (H, n, k, d)
        Positions and momenta at the end of the last step that was read.
    sums, squares : float64 arrays, shapes (H, n, d) and (H, n, d (d + 1)/2)
        Sums over recorded steps of x - centre, and of the lower triangle of its products.
    counts : int64 array, shape (H, batches, d, bins + 2)
        Histograms of each axis, for batches of chains: first below, then the bins, last above.
    left : int64 array, shape (H, n)
        The step at which a chain diverged, `NEVER` if it did not.
    nfe : int64 array, shape (H, n)
        Score evaluations.
    step : int
        Time steps taken, burn-in included.
    """

    u: Array
    xp: Array
    sums: Array
    squares: Array
    counts: Array
    left: Array
    nfe: Array
    step: int = 0

    @classmethod
    def start(cls, xp: Array, moments: bool = True, bins: int = 0) -> State:
        """Return the state of a run that begins at xp; arrays of what is not recorded are empty."""
        H, n, _, d = xp.shape
        shapes = statistics_shapes(H, n, d, moments, bins)
        return cls(
            u=np.empty(xp.shape, xp.dtype),
            xp=np.ascontiguousarray(xp),  # executors see rows and coordinates as one axis, which must not take a copy
            sums=np.zeros(shapes["sums"]),
            squares=np.zeros(shapes["squares"]),
            counts=np.zeros(shapes["counts"], dtype=np.int64),
            left=np.full((H, n), NEVER),
            nfe=np.zeros((H, n), dtype=np.int64),
        )

    def trace(self, watch: Watch, last: int) -> tuple[int, Array]:
        """Return how many positions were kept before, and room for those of the steps up to ``last``.

        The room has shape (kept, H, n, d).
        """
        H, n, _, d = self.xp.shape
        thin = watch.thin or int(NEVER)
        before, after = (max(0, step + 1 - watch.record_from) // thin for step in (self.step, last))
        return before, np.empty((after - before, H, n, d), self.xp.dtype)

    def batches(self) -> Array:
        """Edges of the batches: batch b holds chains edges[b] ... edges[b + 1] - 1."""
        chains, batches = self.left.shape[1], self.counts.shape[1]
        return np.arange(batches + 1) * chains // batches


class Executor(Protocol):
    """Runs a problem on a machine, from one state; ``info`` says what a user may want to know of how."""

    info: dict[str, str]

    def first_launch(self, state: State) -> int:
        """Steps that surely take little time."""

    def enter(self, state: State) -> None:
        """Open the recurrence from ``state.xp``."""

    def advance(self, state: State, last: int) -> Array:
        """Go on to step ``last``, record what is watched, and read the last state.

        Returns the positions kept on the way, shape (kept, H, n, d).
        """

    def settle(self, state: State) -> None:
        """Bring the state up to date; until then its arrays may be elsewhere."""


class Ladder(Protocol):
    """Runs phases of a plan together; ``info`` says what a user may want to know of how."""

    info: dict[str, str]

    def longest(self, state: State) -> float:
        """Steps of a phase beyond which someone may want to stop in the middle: it is not run by a ladder."""

    def first_launch(self, state: State) -> int:
        """Phases that surely take little time."""

    def climb(self, state: State, first: int, last: int) -> None:
        """Take every chain through phases first ... last - 1."""

    def settle(self, state: State) -> None:
        """Bring the state up to date; until then its arrays may be elsewhere. Then others may take it further."""


def check_rows(t: Tables, backend: str) -> None:
    """Raise if a scheme has more rows than compiled kernels have room for."""
    rows = t.b.shape[2]
    if rows > LOCAL:
        raise ValueError(f"backend: {backend!r} runs schemes of at most {LOCAL} rows, not {rows}; 'array' runs any")


def split_seed(seed: Any) -> tuple[Any, Any]:
    """Return the two words of a 64-bit key, or of an array of keys."""
    return np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)

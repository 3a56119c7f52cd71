"""The forms for which the kernels of chains are compiled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from uldnum.kernels.source.core import Tables
from uldnum.kernels.source.mixture import MixtureData
from uldnum.kernels.state import products_of

__all__ = ["ChainForm", "MixtureForm", "UserForm"]

# Maximum number of coordinates of a chain that is held in registers; larger chains are in global memory.
REGISTERS = 8

# Maximum number of coordinates for which the last state, the moments and the tables are also held in registers.
ALL_IN_REGISTERS = 4

# Maximum number of normals that are stored at indices known to the compiler, and therefore in registers.
WHERE_KNOWN = 12

# Maximum number of coefficients of a mixture that is held in registers.
FEW = 32


@dataclass(frozen=True)
class MixtureForm:
    """Everything of a mixture for which a kernel is compiled.

    ``columns`` is the number of columns of its matrices: 0, 1, or 2 for any larger number. ``precisions`` is 1 if the
    components have equal precisions, else the number of components.
    """

    d: int
    components: int
    columns: int
    precisions: int

    @classmethod
    def of(cls, mixture: MixtureData) -> MixtureForm:
        """Return the form of a mixture; its arrays may have leading axes."""
        K, d, columns = mixture.roots.shape[-3:]
        return cls(d, K, min(2, columns), mixture.precisions.shape[-1])

    @property
    def scratch(self) -> int:
        """Number of scratch values of the score."""
        return self.components * (self.d + 1 if self.columns > 1 else 1)

    @property
    def few(self) -> bool:
        """Whether the mixture is held in registers."""
        return self.columns < 2 and self.components * (self.d + 1 + self.d * self.columns) + self.precisions <= FEW


@dataclass(frozen=True)
class UserForm:
    """Everything of a user's score for which a kernel is compiled.

    ``function`` is the Numba function, ``kinds`` are the Numba types of its arguments, and ``columns`` is the number of
    columns of the frame of the target: 0, 1, or 2 for any larger number. For steps with Metropolis tests, ``density``
    is the Numba function of the log density, which may be ``function`` itself, and ``density_kinds`` are the types of
    its arguments.
    """

    d: int
    function: Any
    kinds: tuple[Any, ...]
    columns: int
    density: Any = None
    density_kinds: tuple[Any, ...] = ()

    @property
    def scratch(self) -> int:
        """Number of scratch values of the score: the position that the function receives."""
        return self.d


@dataclass(frozen=True)
class ChainForm:
    """Everything for which a kernel of chains is compiled; other quantities are arguments of the kernel.

    ``moments`` is an index of `MOMENTS`, and ``recorded_rows`` the number of rows of (x, p) of which moments are taken.
    ``records`` states whether histograms are counted or positions are stored. ``frame`` is the number of columns of the
    frame of the recording: 0, 1, or 2 for any larger number. ``errors`` states whether coordinates have different score
    noise, and ``tested`` whether the steps have Metropolis tests. The other fields are described in `Tables`.
    """

    dtype: str
    fast: bool
    score: MixtureForm | UserForm
    rows: int
    moments: int
    recorded_rows: int
    records: bool
    frame: int
    normals: tuple[int, ...]
    readout: tuple[int, ...]
    offset: tuple[int, ...]
    per_step: int
    open_uses_score: bool
    score_at_x: tuple[bool, ...]
    separate_readout: bool
    x_has_readout: bool
    errors: bool
    tested: bool

    @classmethod
    def of(
        cls, t: Tables, score: MixtureForm | UserForm, fast: bool, moments: int, records: bool, frame: int = 0,
        recorded_rows: int = 1,
    ) -> ChainForm:  # fmt: skip
        """Return the form for a phase and the score of its target."""
        numbers = {name: tuple(getattr(t, name).tolist()) for name in ("normals", "readout", "offset", "score_at_x")}
        return cls(
            t.b.dtype.name, fast, score, t.b.shape[-1], moments, recorded_rows, records, min(2, frame),
            per_step=int(t.per_step), open_uses_score=bool(t.open_uses_score),
            separate_readout=bool(t.separate_readout), x_has_readout=bool(t.x_has_readout), errors=len(t.tau) > 0,
            tested=bool(t.temperature), **numbers,
        )  # fmt: skip

    @property
    def d(self) -> int:
        """Number of coordinates."""
        return self.score.d

    @property
    def user(self) -> bool:
        """Whether the score is a user's function."""
        return isinstance(self.score, UserForm)

    @property
    def small(self) -> bool:
        """Whether a chain is held in registers. With Metropolis tests it holds a score, too."""
        return self.d <= (ALL_IN_REGISTERS if self.tested else REGISTERS)

    @property
    def near(self) -> bool:
        """Whether the last state, the moments and the tables are held in registers, too."""
        return self.recorded <= ALL_IN_REGISTERS

    @property
    def single_part(self) -> bool:
        """Whether each launch runs a single part of a phase.

        The steps of the part are then scalars, and a separate launch opens the recurrence. Without this, chains with
        Metropolis tests, and chains that record and are held entirely in registers, would spill registers. The
        arguments of a user's score are those of one phase.
        """
        return self.user or self.tested or (self.near and (self.moments > 0 or self.records))

    @property
    def known(self) -> bool:
        """Whether the indices of normals are known to the compiler."""
        return self.small and self.drawn[0] <= WHERE_KNOWN

    @property
    def drawn(self) -> tuple[int, int]:
        """Numbers of dynamics and readout normals for which a chain has memory."""
        return 4 * max(1, *self.blocks[:2]), 4 * max(1, self.blocks[2])

    @property
    def far(self) -> int:
        """Number of scratch values of a chain in global memory: y, s, q, xi, eta, log_u."""
        return 2 * self.d + self.score.scratch + sum(self.drawn) + self.window

    @property
    def recorded(self) -> int:
        """Number of coordinates of which moments are taken."""
        return self.recorded_rows * self.d

    @property
    def pairs(self) -> int:
        """Number of sums of products."""
        return products_of(self.moments, self.recorded)

    @property
    def window(self) -> int:
        """Number of steps whose normals are drawn together.

        In registers, indices must be known to the compiler, so a window consists of whole blocks of four normals.
        """
        drawn = (self.d * self.per_step, self.d * self.readout[-1])
        return max(4 // math.gcd(4, count) for count in drawn) if self.small else 1

    @property
    def phase(self) -> int:
        """Step at which the first window starts, chosen so that its normals start a block where possible."""
        return 0 if self.normals[-2] == self.per_step else 1

    def begin(self, step: int) -> int:
        """Return the first step of the window that contains a step."""
        return step - (step - self.phase) % self.window

    @property
    def first(self) -> tuple[int, int, int]:
        """Number, modulo 4, of the first normal of open, of a dynamics window, and of a readout window."""
        dynamics = self.normals[-2] + (self.phase - 1) * self.per_step
        return 0, self.d * dynamics % 4, self.d * self.phase * self.readout[-1] % 4

    @property
    def blocks(self) -> tuple[int, int, int]:
        """Number of blocks of four normals for open, for a dynamics window, and for a readout window."""
        counts = self.normals[-2], self.window * self.per_step, self.window * self.readout[-1]
        spare = 0 if self.small else 3  # the position of the first normal within its block is not fixed
        open_, dynamics, reading = (
            (first + spare + self.d * count + 3) // 4 for first, count in zip(self.first, counts, strict=True)
        )
        return open_, dynamics, reading

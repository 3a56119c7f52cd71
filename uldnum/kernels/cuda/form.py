"""What the kernels of chains are compiled for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from uldnum.kernels.source.core import Tables
from uldnum.kernels.source.mixture import MixtureData

__all__ = ["ChainForm"]

# A chain of at most so many coordinates lives in registers, any other in global memory; ptxas finds room for that.
REGISTERS = 8

# ... of at most so many with everything that belongs to it: its last state, its moments, the tables.
ALL_IN_REGISTERS = 4

# So many normals are kept at places known when the kernel is compiled, in registers; more take too many of them.
WHERE_KNOWN = 12

# A mixture of at most so many numbers is held in registers.
FEW = 32


@dataclass(frozen=True)
class ChainForm:
    """What a kernel of chains is compiled for; all that is not in it is an argument.

    ``columns`` are those of the mixture's matrices: 0, 1, or 2 for any other number. ``records`` says whether there are
    histograms or positions that are kept. The rest is named in `Tables`.
    """

    dtype: str
    fast: bool
    d: int
    rows: int
    components: int
    columns: int
    moments: bool
    records: bool
    normals: tuple[int, ...]
    readout: tuple[int, ...]
    offset: tuple[int, ...]
    per_step: int
    open_uses_score: bool
    score_at_x: tuple[bool, ...]
    separate_readout: bool

    @classmethod
    def of(cls, t: Tables, mixture: MixtureData, fast: bool, moments: bool, records: bool) -> ChainForm:
        """Return the form of chains of a phase on a mixture, whose arrays may have axes before those of components."""
        numbers = {name: tuple(getattr(t, name).tolist()) for name in ("normals", "readout", "offset", "score_at_x")}
        K, d, columns = mixture.roots.shape[-3:]
        return cls(
            mixture.shifts.dtype.name, fast, d, t.b.shape[-1], K, min(2, columns), moments, records,
            per_step=int(t.per_step), open_uses_score=bool(t.open_uses_score),
            separate_readout=bool(t.separate_readout), **numbers,
        )  # fmt: skip

    @property
    def small(self) -> bool:
        """Whether a chain lives in registers."""
        return self.d <= REGISTERS

    @property
    def near(self) -> bool:
        """Whether everything that belongs to it does."""
        return self.d <= ALL_IN_REGISTERS

    @property
    def alone(self) -> bool:
        """Whether a launch takes one part of a phase, whose steps are then numbers, and another launch opens it.

        Chains that record and live in registers altogether would spill else.
        """
        return self.near and (self.moments or self.records)

    @property
    def known(self) -> bool:
        """Whether normals are at places that are known when the kernel is compiled."""
        return self.small and self.drawn[0] <= WHERE_KNOWN

    @property
    def few(self) -> bool:
        """Whether the mixture lives in registers."""
        return self.columns < 2 and self.components * (self.d + 2 + self.d * self.columns) <= FEW

    @property
    def drawn(self) -> tuple[int, int]:
        """Normals for which a chain has room: of the dynamics, of the reading."""
        return 4 * max(1, *self.blocks[:2]), 4 * max(1, self.blocks[2])

    @property
    def far(self) -> int:
        """Values of a chain that lives in global memory, besides its state: y, s, q, xi, eta."""
        return 2 * self.d + self.scratch + sum(self.drawn)

    @property
    def pairs(self) -> int:
        """Entries of the lower triangle of a covariance."""
        return self.d * (self.d + 1) // 2

    @property
    def scratch(self) -> int:
        """Values that the score needs besides its result."""
        return self.components * (self.d + 1 if self.columns > 1 else 1)

    @property
    def window(self) -> int:
        """Steps whose normals are drawn at once: in registers they must be at known places, so whole blocks of four."""
        drawn = (self.d * self.per_step, self.d * self.readout[-1])
        return max(4 // math.gcd(4, count) for count in drawn) if self.small else 1

    @property
    def phase(self) -> int:
        """Step at which the first window begins, so that its normals begin a block if that is possible."""
        return 0 if self.normals[-2] == self.per_step else 1

    def begin(self, step: int) -> int:
        """Return the first step of the window that holds a step."""
        return step - (step - self.phase) % self.window

    @property
    def first(self) -> tuple[int, int, int]:
        """Number of the first normal of a window, modulo 4: of open, the dynamics, the reading."""
        dynamics = self.normals[-2] + (self.phase - 1) * self.per_step
        return 0, self.d * dynamics % 4, self.d * self.phase * self.readout[-1] % 4

    @property
    def blocks(self) -> tuple[int, int, int]:
        """Blocks of four normals that are drawn for open, a window of the dynamics, a window of the reading."""
        counts = self.normals[-2], self.window * self.per_step, self.window * self.readout[-1]
        spare = 0 if self.small else 3  # the first normal may be anywhere in a block
        open_, dynamics, reading = (
            (first + spare + self.d * count + 3) // 4 for first, count in zip(self.first, counts, strict=True)
        )
        return open_, dynamics, reading

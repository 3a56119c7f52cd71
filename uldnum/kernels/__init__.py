"""Executors: the one source in `core`, bound to a machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from uldnum.kernels.core import NEVER, Tables
from uldnum.typing import Array

__all__ = ["Executor", "Problem", "State", "split_seed"]


@dataclass(frozen=True)
class Problem:
    """What an executor runs: the tables, the target and the random stream.

    Parameters
    ----------
    tables : Tables
        Coefficients of H step sizes.
    target : object
        Has ``score(x)`` on arrays; the Numba executor also needs its ``kernel_data(dtype)``.
    seed, first_chain : int
        Key of the random numbers, and the number of the first chain of each group.
    centre, limit : arrays, shape (d,)
        A chain diverges when ``|x - centre| > limit``; moments are taken about ``centre``.
    """

    tables: Tables
    target: Any
    seed: int
    first_chain: int
    centre: Array
    limit: Array


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
    left : int64 array, shape (H, n)
        The step at which a chain diverged, `NEVER` if it did not.
    nfe : int64 array, shape (H, n)
        Score evaluations.
    """

    u: Array
    xp: Array
    sums: Array
    squares: Array
    left: Array
    nfe: Array

    @classmethod
    def start(cls, xp: Array, moments: bool = True) -> State:
        """Return the state of a run that begins at xp; without moments, those arrays are empty."""
        H, n, _, d = xp.shape
        d = d if moments else 0
        return cls(
            u=np.empty_like(xp),
            xp=xp,
            sums=np.zeros((H, n, d)),
            squares=np.zeros((H, n, d * (d + 1) // 2)),
            left=np.full((H, n), NEVER),
            nfe=np.zeros((H, n), dtype=np.int64),
        )


class Executor(Protocol):
    """Runs a problem on a machine."""

    def enter(self, state: State) -> None:
        """Open the recurrence from ``state.xp``."""

    def advance(self, state: State, step: int, last: int, record_from: int) -> None:
        """Take steps step ... last, adding to the moments from step ``record_from`` on, and read the last."""


def split_seed(seed: int) -> tuple[np.uint64, np.uint64]:
    """Return the two words of the 64-bit key."""
    return np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)

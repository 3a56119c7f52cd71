"""The chains of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uldnum._util.typing import Array
from uldnum.kernels.source.core import NEVER, Recording

__all__ = ["BATCHES", "State", "statistics_shapes"]

# Chains of a group are counted, and handed to threads, in this many batches at most.
BATCHES = 32


def statistics_shapes(H: int, n: int, d: int, moments: bool, bins: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what is recorded of H groups of n chains: the arrays of `State` of these names."""
    axes = d if moments else 0
    return {
        "sums": (H, n, axes),
        "products": (H, n, axes * (axes + 1) // 2),
        "counts": (H, min(n, BATCHES), d if bins else 0, bins + 2),
    }


@dataclass
class State:
    """The chains of a run: H groups of n, k rows of d coordinates. Executors change the arrays in place.

    Attributes
    ----------
    u : array, shape (H, n, k, d)
        What a chain remembers.
    phase_space : array, shape (H, n, k, d)
        Positions and momenta at the end of the last step that was read.
    sums, products : float64 arrays, shapes (H, n, d) and (H, n, d (d + 1)/2)
        Sums over recorded steps of x - centre, and of the lower triangle of its products.
    counts : int64 array, shape (H, batches, d, bins + 2)
        Histograms of each axis, for batches of chains: first below, then the bins, last above.
    escape_step : int64 array, shape (H, n)
        The step at which a chain diverged, `NEVER` if it did not.
    nfe : int64 array, shape (H, n)
        Score evaluations.
    step : int
        Time steps taken, burn-in included.
    """

    u: Array
    phase_space: Array
    sums: Array
    products: Array
    counts: Array
    escape_step: Array
    nfe: Array
    step: int = 0

    @classmethod
    def start(cls, phase_space: Array, moments: bool = True, bins: int = 0) -> State:
        """Return the state of a run that begins at (x, p); arrays of what is not recorded are empty.

        They are contiguous: executors see rows and coordinates as one axis, which must not take a copy.
        """
        H, n, _, d = phase_space.shape
        shapes = statistics_shapes(H, n, d, moments, bins)
        return cls(
            u=np.empty(phase_space.shape, phase_space.dtype),
            phase_space=np.ascontiguousarray(phase_space),
            sums=np.zeros(shapes["sums"]),
            products=np.zeros(shapes["products"]),
            counts=np.zeros(shapes["counts"], dtype=np.int64),
            escape_step=np.full((H, n), NEVER),
            nfe=np.zeros((H, n), dtype=np.int64),
        )

    def trace(self, recording: Recording, until: int) -> tuple[int, Array]:
        """Return how many positions were kept before, and room for those of the steps up to ``until``.

        The room has shape (kept, H, n, d).
        """
        H, n, _, d = self.phase_space.shape
        thin = recording.thin or int(NEVER)
        before, after = (max(0, step + 1 - recording.record_from) // thin for step in (self.step, until))
        return before, np.empty((after - before, H, n, d), self.phase_space.dtype)

    def batches(self) -> Array:
        """Edges of the batches: batch b holds chains edges[b] ... edges[b + 1] - 1."""
        chains, batches = self.escape_step.shape[1], self.counts.shape[1]
        return np.arange(batches + 1) * chains // batches

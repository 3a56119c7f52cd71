"""The state of the chains of a run."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from uldnum._util.typing import Array
from uldnum.kernels.source.core import NEVER, RECORDS, Recording

__all__ = ["BATCHES", "State", "carried_shapes", "products_of", "statistics_shapes"]

# Maximum number of batches into which the chains of a group are divided. Each batch has histograms of its own, so
# different threads can run different batches.
BATCHES = 32


def products_of(moments: int, d: int) -> int:
    """Return the number of sums of products in d dimensions, given an index of `MOMENTS`."""
    return (0, 0, d, d * (d + 1) // 2)[moments]


def statistics_shapes(H: int, n: int, d: int, record: str | None, bins: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the statistics of H groups of n chains; the keys are names of arrays of `State`.

    ``record`` is one of `RECORDS`.
    """
    moments, rows = RECORDS[record]
    return {
        "sums": (H, n, rows * d if moments else 0),
        "products": (H, n, products_of(moments, rows * d)),
        "counts": (H, min(n, BATCHES), d if bins else 0, bins + 2),
    }


def carried_shapes(H: int, n: int, d: int, metropolised: bool) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays `Carried` of H groups of n chains; they are empty without Metropolis tests."""
    one = int(metropolised)
    return {"score": (H, n, d * one), "log_density": (H, n, one), "accepted": (H, n, one)}


@dataclass
class State:
    """State of H groups of n chains with k rows of d coordinates. Executors update the arrays in place.

    Attributes
    ----------
    u : array, shape (H, n, k, d)
        Memory of the recurrence; row 0 is the position.
    phase_space : array, shape (H, n, k, d)
        Positions and momenta at the end of the last step at which they were read.
    sums : float64 array, shape (H, n, D) or (H, n, 0)
        Sums of z - centre over the recorded steps at which moments are accumulated, where z is x (D = d) or (x, p) (D =
        2 d). With a mass, p is the momentum in the coordinates in which the mass is 1.
    products : float64 array, shape (H, n, pairs)
        Sums over the same steps of nothing (pairs = 0), of the squares of z - centre (pairs = D), or of the lower
        triangle of its outer product with itself (pairs = D (D + 1)/2).
    counts : int64 array, shape (H, batches, d, bins + 2)
        Histogram of each axis for each batch of chains: underflow, the bins, overflow.
    escape_step : int64 array, shape (H, n)
        Step at which each chain diverged, `NEVER` if it did not.
    nfe : int64 array, shape (H, n)
        Number of score evaluations of each chain.
    score : array, shape (H, n, d) or (H, n, 0)
        Score at the position, for a scheme with Metropolis tests.
    log_density : float64 array, shape (H, n, 1) or (H, n, 0)
        Log density at the position, up to a constant, for a scheme with Metropolis tests.
    accepted : int64 array, shape (H, n, 1) or (H, n, 0)
        Number of accepted recorded steps of each chain, for a scheme with Metropolis tests.
    step : int
        Number of time steps taken, including burn-in.
    """

    u: Array
    phase_space: Array
    sums: Array
    products: Array
    counts: Array
    escape_step: Array
    nfe: Array
    score: Array
    log_density: Array
    accepted: Array
    step: int = 0

    @classmethod
    def start(
        cls, phase_space: Array, record: str | None = "covariance", bins: int = 0, metropolised: bool = False
    ) -> State:
        """Return the initial state for given (x, p); arrays of statistics that are not recorded are empty.

        All arrays are contiguous, so that executors can merge the axes of rows and coordinates without a copy.
        """
        H, n, _, d = phase_space.shape
        shapes = statistics_shapes(H, n, d, record, bins) | carried_shapes(H, n, d, metropolised)
        return cls(
            u=np.empty(phase_space.shape, phase_space.dtype),
            phase_space=np.ascontiguousarray(phase_space),
            sums=np.zeros(shapes["sums"]),
            products=np.zeros(shapes["products"]),
            counts=np.zeros(shapes["counts"], dtype=np.int64),
            escape_step=np.full((H, n), NEVER),
            nfe=np.zeros((H, n), dtype=np.int64),
            score=np.zeros(shapes["score"], phase_space.dtype),
            log_density=np.zeros(shapes["log_density"]),
            accepted=np.zeros(shapes["accepted"], dtype=np.int64),
        )

    def part(self, lo: int, hi: int) -> State:
        """Return the state of chains lo ... hi - 1 of each group, whose arrays are parts of those of this state.

        With histograms, both must be edges of batches, at which the batches of the part begin and end.
        """
        edges = {array.name: (lo, hi) for array in fields(self) if array.name != "step"}
        edges["counts"] = tuple(chain * self.counts.shape[1] // self.escape_step.shape[1] for chain in (lo, hi))
        return replace(self, **{name: getattr(self, name)[:, slice(*ends)] for name, ends in edges.items()})

    def trace(self, recording: Recording, until: int) -> tuple[int, Array]:
        """Return the number of positions stored so far, and an empty array for those of the steps up to ``until``.

        The array has shape (kept, H, n, d).
        """
        H, n, _, d = self.phase_space.shape
        thin = recording.thin or int(NEVER)
        before, after = (max(0, step + 1 - recording.record_from) // thin for step in (self.step, until))
        return before, np.empty((after - before, H, n, d), self.phase_space.dtype)

    def batches(self) -> Array:
        """Return the edges of the batches: batch b consists of chains edges[b] ... edges[b + 1] - 1."""
        chains, batches = self.escape_step.shape[1], self.counts.shape[1]
        return np.arange(batches + 1) * chains // batches

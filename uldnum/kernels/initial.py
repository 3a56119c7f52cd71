"""Random numbers for the initial states of chains; they depend only on the seed and on the index of the chain."""

from __future__ import annotations

import numpy as np

from uldnum._util.arguments import whole_number
from uldnum._util.typing import Array
from uldnum.kernels.source.core import INITIAL

__all__ = ["initial_normals", "initial_uniform", "initial_uniforms"]


def initial_uniform(n: int, seed: int, first: int) -> Array:
    """Return a uniform number for each of chains first ... first + n - 1: word 0 of its stream for initial states."""
    return initial("uniform", n, seed, first, 0, 1)[:, 0]


def initial_normals(n: int, seed: int, first: int, begin: int, count: int) -> Array:
    """Return normals begin ... begin + count - 1 for the initial state of each chain, float64, shape (n, count).

    The normals start in the second block of the stream for initial states. The words of the first block are reserved
    for discrete choices, such as the mixture component of an exact draw.
    """
    return initial("normal", n, seed, first, 4 + begin, count)


def initial_uniforms(n: int, seed: int, first: int, begin: int, count: int) -> Array:
    """Return uniform numbers for the initial state of each chain, float64, shape (n, count).

    They start at word 2^34 of the stream for initial states, beyond the words that the normals use.
    """
    return initial("uniform", n, seed, first, 2**34 + begin, count)


def initial(law: str, n: int, seed: int, first: int, begin: int, count: int) -> Array:
    """Return numbers begin ... begin + count - 1 of the chains' streams for initial states."""
    from uldnum.kernels.numba.drawing import drawn  # importing Numba takes half a second

    n, seed = whole_number("n", n, 0, 2**32), whole_number("seed", seed, 0, 2**64 - 1)
    first = whole_number("first", first, 0, 2**32 - n)
    return drawn(law, begin, count, first, n, INITIAL, seed, np.dtype(float))

"""Random numbers of the initial states of chains: those of a chain follow from the seed and its number alone."""

from __future__ import annotations

import numpy as np

from uldnum._util.arguments import whole_number
from uldnum._util.typing import Array
from uldnum.kernels.source.core import INITIAL

__all__ = ["initial_normals", "initial_uniform", "initial_uniforms"]


def initial_uniform(n: int, seed: int, first: int) -> Array:
    """Return one uniform number for each of chains first ... first + n - 1: word 0 of its stream of initial states."""
    return initial("uniform", n, seed, first, 0, 1)[:, 0]


def initial_normals(n: int, seed: int, first: int, begin: int, count: int) -> Array:
    """Return normals begin ... begin + count - 1 for the initial state of each chain, float64, shape (n, count).

    They start in the second block of the stream of initial states: the words of the first are for choices.
    """
    return initial("normal", n, seed, first, 4 + begin, count)


def initial_uniforms(n: int, seed: int, first: int, begin: int, count: int) -> Array:
    """Return uniform numbers for the initial state of each chain, float64, shape (n, count).

    They start at word 2^34 of the stream of initial states, which no normal reaches.
    """
    return initial("uniform", n, seed, first, 2**34 + begin, count)


def initial(law: str, n: int, seed: int, first: int, begin: int, count: int) -> Array:
    """Return numbers begin ... begin + count - 1 of the chains' streams of initial states."""
    from uldnum.kernels.numba.drawing import drawn  # Numba is imported where numbers are drawn, no sooner

    n, seed = whole_number("n", n, 0, 2**32), whole_number("seed", seed, 0, 2**64 - 1)
    first = whole_number("first", first, 0, 2**32 - n)
    return drawn(law, begin, count, first, n, INITIAL, seed, np.dtype(float))

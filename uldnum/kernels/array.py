"""The core bound to NumPy arrays, and the random numbers of chains as arrays."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from uldnum.arguments import whole_number
from uldnum.kernels.core import INITIAL, make_core, split_seed
from uldnum.kernels.functions import FORMATS, Ops
from uldnum.typing import Array

__all__ = ["chain_numbers", "core", "initial_normals", "initial_uniform", "initial_uniforms", "normals", "ops"]


@cache
def ops(dtype: np.dtype[Any]) -> Ops:
    """Return the operations of the core on NumPy arrays of a floating-point type."""
    word = FORMATS[dtype.type].word
    integer = np.dtype(f"i{dtype.itemsize}")
    return Ops(
        jit=lambda function: function,
        real=dtype.type,
        constant=dtype.type,
        fma=lambda x, y, z: x * y + z,
        sqrt=np.sqrt,
        where=np.where,
        as_real=lambda value: value.astype(dtype),
        as_double=lambda value: np.asarray(value, dtype=np.float64),
        as_index=lambda value: np.asarray(value).astype(np.int64),
        as_word=lambda value: value.astype(word),
        bits=lambda value: value.view(word),
        signed=lambda value: value.view(integer),
        from_bits=lambda value: value.view(dtype),
        row=lambda table, r: table[r],
        tail=lambda values, j: values[j:],
        local=lambda count: [dtype.type(0)] * count,
        local_double=lambda count: [0.0] * count,
    )


@cache
def core(dtype: np.dtype[Any]) -> SimpleNamespace:
    """Return the core bound to NumPy arrays of a floating-point type."""
    return make_core(ops(dtype))


def normals(first: int, count: int, chains: Array, stream: np.uint64, seed: int, dtype: np.dtype[Any]) -> Array:
    """Return normals first ... first + count - 1 of each chain's stream, shape (count, len(chains))."""
    bound = core(dtype)
    block = np.arange(first // 4, (first + count + 3) // 4, dtype=np.uint64)
    four = bound.four_normals(block[:, None], chains[None, :], stream, *split_seed(seed))
    return np.stack(four, axis=1).reshape(-1, len(chains))[first % 4 :][:count]


def chain_numbers(first: int, n: int) -> Array:
    """Return the numbers of chains first ... first + n - 1."""
    return np.arange(first, first + n, dtype=np.uint64)


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
    from uldnum.kernels.drawing import drawn  # Numba is imported where numbers are drawn, no sooner

    n, seed = whole_number("n", n, 0, 2**32), whole_number("seed", seed, 0, 2**64 - 1)
    first = whole_number("first", first, 0, 2**32 - n)
    return drawn(law, begin, count, first, n, INITIAL, seed, np.dtype(float))

"""The kernel source bound to arrays of NumPy and of other libraries, and the normals of chains as arrays."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from uldnum._util.arraylib import Space
from uldnum._util.typing import Array
from uldnum.arithmetic.elementary import LN2
from uldnum.kernels.source.core import make_core, split_seed
from uldnum.kernels.source.functions import FORMATS, Ops

__all__ = ["chain_numbers", "core", "foreign_ops", "normals", "ops"]


@cache
def ops(dtype: np.dtype[Any]) -> Ops:
    """Return the operations of the source on NumPy arrays of a floating-point dtype."""
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


def foreign_ops(space: Space, dtype: np.dtype[Any]) -> Ops:
    """Return the operations of the source on arrays of another library.

    Other libraries lack operations on the bits of numbers, so exp2 is computed by the exp of the library.
    """
    xp, one_bit = space.namespace, LN2

    def where(condition: Any, yes: Any, no: Any) -> Any:
        like = yes if hasattr(yes, "dtype") else no
        full = (value if hasattr(value, "dtype") else xp.full_like(like, value) for value in (yes, no))
        return xp.where(condition, *full)

    return ops(dtype)._replace(
        constant=float,
        sqrt=xp.sqrt,
        where=where,
        as_double=lambda value: xp.astype(value, xp.float64),
        as_index=lambda value: xp.astype(value, xp.int64),
        local=lambda count: [0.0] * count,
        instead={"exp2": lambda x: xp.exp(x * one_bit)},
    )


@cache
def core(dtype: np.dtype[Any]) -> SimpleNamespace:
    """Return the core bound to NumPy arrays of a floating-point dtype."""
    return make_core(ops(dtype))


def normals(first: int, count: int, chains: Array, stream: np.uint64, seed: int, dtype: np.dtype[Any]) -> Array:
    """Return normals first ... first + count - 1 of each chain's stream, shape (count, len(chains))."""
    bound = core(dtype)
    block = np.arange(first // 4, (first + count + 3) // 4, dtype=np.uint64)
    four = bound.four_normals(block[:, None], chains[None, :], stream, *split_seed(seed))
    return np.stack(four, axis=1).reshape(-1, len(chains))[first % 4 :][:count]


def chain_numbers(first: int, n: int) -> Array:
    """Return the chain indices first ... first + n - 1 as a uint64 array."""
    return np.arange(first, first + n, dtype=np.uint64)

"""The kernel source bound to arrays of NumPy and of other libraries."""

from __future__ import annotations

import operator
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from uldnum._util.arraylib import Space
from uldnum.arithmetic.elementary import LN2
from uldnum.kernels.source.core import make_core
from uldnum.kernels.source.functions import FORMATS, Ops

__all__ = ["core", "foreign_ops", "ops"]

LOW = np.uint64(0xFFFFFFFF)


def fma(x: Any, y: Any, z: Any) -> Any:
    """Return x y + z, with two roundings, in the memory of the product; many coefficients y are zero."""
    if isinstance(y, np.floating) and y == 0:
        return z
    product = x * y
    return np.add(product, z, out=product) if isinstance(product, np.ndarray) else product + z


@cache
def ops(dtype: np.dtype[Any]) -> Ops:
    """Return the operations of the source on NumPy arrays of a floating-point dtype."""
    word = FORMATS[dtype.type].word
    integer = np.dtype(f"i{dtype.itemsize}")
    return Ops(
        jit=lambda function: function,
        inline=lambda function: function,
        real=dtype.type,
        constant=dtype.type,
        fma=fma,
        sqrt=np.sqrt,
        quotient=operator.truediv,
        root=np.sqrt,
        where=np.where,
        larger=lambda x, y: np.where(x > y, x, y),
        as_real=lambda value: value.astype(dtype),
        as_double=lambda value: np.asarray(value, dtype=np.float64),
        as_index=lambda value: np.asarray(value).astype(np.int64),
        as_word=lambda value: value.astype(word),
        bits=lambda value: value.view(word),
        signed=lambda value: value.view(integer),
        from_bits=lambda value: value.view(dtype),
        wide=lambda x, y: x * (y & LOW),
        row=lambda table, r: table[r],
        tail=lambda values, j: values[j:],
        local=lambda count: [dtype.type(0)] * count,
    )


def foreign_ops(space: Space, dtype: np.dtype[Any]) -> Ops:
    """Return the operations of the source on arrays of another library.

    Other libraries lack operations on the bits of numbers, so exp2 and log are computed by the library.
    """
    xp, one_bit = space.namespace, LN2

    def where(condition: Any, yes: Any, no: Any) -> Any:
        like = yes if hasattr(yes, "dtype") else no
        full = (value if hasattr(value, "dtype") else xp.full_like(like, value) for value in (yes, no))
        return xp.where(condition, *full)

    return ops(dtype)._replace(
        constant=float,
        sqrt=xp.sqrt,
        root=xp.sqrt,
        where=where,
        larger=lambda x, y: where(x > y, x, y),
        as_double=lambda value: xp.astype(value, xp.float64),
        as_index=lambda value: xp.astype(value, xp.int64),
        local=lambda count: [0.0] * count,
        instead={"exp2": lambda x: xp.exp(x * one_bit), "log": xp.log},
    )


@cache
def core(dtype: np.dtype[Any]) -> SimpleNamespace:
    """Return the core bound to NumPy arrays of a floating-point dtype."""
    return make_core(ops(dtype))

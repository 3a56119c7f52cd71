"""The source bound to vectors, which have one lane per chain."""

from __future__ import annotations

from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
from numba import types

from uldnum.jit import values, vectors
from uldnum.jit.compiling import jit
from uldnum.kernels.source.core import LOCAL, make_core
from uldnum.kernels.source.functions import FORMATS, Ops

__all__ = ["core", "ops"]

LOW = np.uint64(0xFFFFFFFF)


@cache
def ops(dtype: np.dtype[Any], lanes: int) -> Ops:
    """Return the operations of the source on vectors of ``lanes`` numbers."""
    real, inline, where = numba.from_dtype(dtype), partial(jit, inline="always"), vectors.where
    word = numba.from_dtype(np.dtype(FORMATS[dtype.type].word))
    return Ops(
        jit=partial(jit, variant=f"{dtype}-{lanes}"),
        inline=inline,
        real=dtype.type,
        constant=dtype.type,
        fma=vectors.fma,
        sqrt=vectors.sqrt,
        quotient=inline(lambda x, y: x / y),
        root=vectors.sqrt,
        where=where,
        larger=inline(lambda x, y: where(x > y, x, y)),
        as_real=vectors.convert(real),
        as_double=vectors.convert(types.float64),
        as_index=vectors.convert(types.int64),
        as_word=vectors.convert(word),
        bits=vectors.reinterpret(word),
        signed=vectors.reinterpret(types.Integer.from_bitwidth(word.bitwidth, signed=True)),
        from_bits=vectors.reinterpret(real),
        wide=inline(lambda x, y: x * (y & LOW)),
        row=values.row,
        tail=values.tail,
        local=values.local(real, lanes, LOCAL),
    )


@cache
def core(dtype: np.dtype[Any], lanes: int) -> SimpleNamespace:
    """Return the core compiled for vectors of ``lanes`` numbers."""
    return make_core(ops(dtype, lanes))

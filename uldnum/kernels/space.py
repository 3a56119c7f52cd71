"""Array libraries: the core bound to the arrays of any library that follows the array API standard."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from uldnum.extras import require
from uldnum.kernels import array
from uldnum.kernels.core import make_core
from uldnum.kernels.functions import Ops
from uldnum.typing import Array

__all__ = ["NUMPY", "Space"]


@dataclass(frozen=True)
class Space:
    """Where arrays live: a namespace of the array API standard, and one of its devices.

    NumPy's arrays are computed with as they are. Of any other library only what the standard guarantees is used:
    coefficients are plain numbers, no array is changed in place, and the random numbers come from NumPy, because the
    standard has no reinterpretation of bits.
    """

    namespace: Any
    device: Any = None

    @classmethod
    def of(cls, x: Any) -> Space:
        """Return where an array lives; lists and numbers live in NumPy.

        Raises
        ------
        MissingExtraError
            If it is another library's array and the extra ``arrays`` is not installed.
        """
        if isinstance(x, np.ndarray) or not hasattr(x, "__dlpack__"):
            return NUMPY
        compat = require("array_api_compat", "arrays")
        return cls(compat.array_namespace(x), compat.device(x))

    @property
    def foreign(self) -> bool:
        """Whether arrays are not NumPy's."""
        return self.namespace is not np

    def array(self, values: Array) -> Any:
        """Copy from NumPy."""
        return self.namespace.asarray(values, device=self.device, copy=True) if self.foreign else np.array(values)

    def host(self, values: Any) -> Array:
        """Return as NumPy array."""
        return np.asarray(np.from_dlpack(values, device="cpu") if self.foreign else values)

    def coefficients(self, table: Any) -> Any:
        """Return a named tuple with its arrays of reals ready to be multiplied with arrays that live here.

        Every library agrees on what an array times a plain number is; not on a NumPy number.
        """
        if not self.foreign:
            return table
        real = (np.float32, np.float64)
        return type(table)(*(part.astype(object) if getattr(part, "dtype", None) in real else part for part in table))

    def ops(self, dtype: np.dtype[Any]) -> Ops:
        """Return the operations of the core on arrays of a floating-point type."""
        return foreign_ops(self, dtype) if self.foreign else array.ops(dtype)

    def core(self, dtype: np.dtype[Any]) -> SimpleNamespace:
        """Return the core bound to arrays of a floating-point type."""
        return foreign_core(self, dtype) if self.foreign else array.core(dtype)


NUMPY = Space(np)


@cache
def foreign_core(space: Space, dtype: np.dtype[Any]) -> SimpleNamespace:
    """Return the core bound to arrays of another library; it has no random numbers."""
    return make_core(foreign_ops(space, dtype))


def foreign_ops(space: Space, dtype: np.dtype[Any]) -> Ops:
    """Return the operations of the core on arrays of another library."""
    xp = space.namespace
    one_bit = math.log(2)

    def where(condition: Any, yes: Any, no: Any) -> Any:
        like = yes if hasattr(yes, "dtype") else no
        full = (value if hasattr(value, "dtype") else xp.full_like(like, value) for value in (yes, no))
        return xp.where(condition, *full)

    return array.ops(dtype)._replace(
        constant=float,
        sqrt=xp.sqrt,
        where=where,
        as_double=lambda value: xp.astype(value, xp.float64),
        as_index=lambda value: xp.astype(value, xp.int64),
        local=lambda count: [0.0] * count,
        instead={"exp2": lambda x: xp.exp(x * one_bit)},
    )

"""Array libraries: the core bound to the arrays of any library that follows the array API standard."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from uldnum.elementary import LN2
from uldnum.extras import require
from uldnum.kernels import array
from uldnum.kernels.core import make_core
from uldnum.kernels.functions import Ops
from uldnum.typing import Array

__all__ = ["NUMPY", "Space", "host"]


@dataclass(frozen=True)
class Space:
    """Where arrays live: the name of a library, its namespace of the array API standard, and one of its devices.

    NumPy's arrays are computed with as they are. Of any other library only what the standard guarantees is used:
    coefficients are plain numbers, no array is changed in place, and the random numbers come from NumPy, because the
    standard has no reinterpretation of bits.
    """

    name: str
    namespace: Any
    device: Any = None

    @classmethod
    def of(cls, like: Any) -> Space:
        """Return where an array lives; None lives in NumPy.

        Raises
        ------
        MissingExtraError
            If it is another library's array and the extra ``arrays`` is not installed.
        """
        if like is None or isinstance(like, np.ndarray):
            return NUMPY
        compat = require("array_api_compat", "arrays")
        return cls(type(like).__module__.partition(".")[0], compat.array_namespace(like), compat.device(like))

    @property
    def foreign(self) -> bool:
        """Whether arrays are not NumPy's."""
        return self.namespace is not np

    def array(self, values: Array) -> Any:
        """Copy from NumPy, in the same type, or raise if there is no such type here."""
        if not self.foreign:
            return np.array(values)
        found = self.namespace.asarray(values, device=self.device, copy=True)
        if found.dtype != getattr(self.namespace, values.dtype.name):
            raise ValueError(
                f"dtype: {self.name} makes {found.dtype} of {values.dtype}; allow it, or take another type"
            )
        return found

    def cast(self, values: Any, dtype: np.dtype[Any]) -> Any:
        """Convert an array that lives here to a floating-point type."""
        if not self.foreign:
            return np.asarray(values, dtype)
        return self.namespace.astype(values, getattr(self.namespace, dtype.name), copy=False)

    def coefficients(self, table: Any) -> Any:
        """Return a named tuple with its arrays of reals ready to be multiplied with arrays that live here.

        Every library agrees on what an array times a plain number is; not on a NumPy number.
        """
        if not self.foreign:
            return table
        real = (np.float32, np.float64)
        return type(table)(*(part.astype(object) if getattr(part, "dtype", None) in real else part for part in table))

    def ops(self, dtype: np.dtype[Any]) -> Ops:
        """Return the operations of the core on arrays of a floating-point type; another library's have no words."""
        if not self.foreign:
            return array.ops(dtype)
        xp, one_bit = self.namespace, LN2

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

    def core(self, dtype: np.dtype[Any]) -> SimpleNamespace:
        """Return the core bound to arrays of a floating-point type."""
        return make_core(self.ops(dtype)) if self.foreign else array.core(dtype)


NUMPY = Space("numpy", np)


def host(values: Any) -> Any:
    """Return another library's array as NumPy's, whatever device it is on; anything else as it is."""
    if isinstance(values, np.ndarray | type) or not hasattr(values, "__dlpack__"):
        return values
    return np.from_dlpack(values, device="cpu")

"""Arrays of any library that follows the array API standard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from uldnum._util.extras import require
from uldnum._util.typing import Array

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


NUMPY = Space("numpy", np)


def host(values: Any) -> Any:
    """Return another library's array as NumPy's, whatever device it is on; anything else as it is."""
    if isinstance(values, np.ndarray | type) or not hasattr(values, "__dlpack__"):
        return values
    return np.from_dlpack(values, device="cpu")

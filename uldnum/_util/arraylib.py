"""Arrays of any library that implements the array API standard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from uldnum._util.extras import require
from uldnum._util.typing import Array

__all__ = ["NUMPY", "Space", "host"]


@dataclass(frozen=True)
class Space:
    """Array library and device: the name of the library, its array API namespace, and one of its devices.

    For libraries other than NumPy, the code uses only features of the array API standard. Coefficients are Python
    numbers, no array changes in place, and random numbers are computed on the CPU, because the standard cannot
    reinterpret bits.
    """

    name: str
    namespace: Any
    device: Any = None

    @classmethod
    def of(cls, like: Any) -> Space:
        """Return the library and device of an array; None selects NumPy.

        Raises
        ------
        MissingExtraError
            If the array is not a NumPy array and the extra ``arrays`` is not installed.
        """
        if like is None or isinstance(like, np.ndarray):
            return NUMPY
        compat = require("array_api_compat", "arrays")
        return cls(type(like).__module__.partition(".")[0], compat.array_namespace(like), compat.device(like))

    @property
    def foreign(self) -> bool:
        """Whether the library is not NumPy."""
        return self.namespace is not np

    def array(self, values: Array) -> Any:
        """Copy a NumPy array to this library and device, or raise if its dtype changes."""
        if not self.foreign:
            return np.array(values)
        found = self.namespace.asarray(values, device=self.device, copy=True)
        if found.dtype != getattr(self.namespace, values.dtype.name):
            raise ValueError(
                f"dtype: {self.name} must support {values.dtype}, got {found.dtype}; enable it, or use another dtype"
            )
        return found

    def cast(self, values: Any, dtype: np.dtype[Any]) -> Any:
        """Convert an array of this library to a floating-point type."""
        if not self.foreign:
            return np.asarray(values, dtype)
        return self.namespace.astype(values, getattr(self.namespace, dtype.name), copy=False)

    def coefficients(self, table: Any) -> Any:
        """Return a named tuple whose floating-point arrays are converted to arrays of Python numbers.

        All libraries multiply their arrays by Python numbers in the same way, but not by NumPy scalars.
        """
        if not self.foreign:
            return table
        real = (np.float32, np.float64)
        return type(table)(*(part.astype(object) if getattr(part, "dtype", None) in real else part for part in table))


NUMPY = Space("numpy", np)


def host(values: Any) -> Any:
    """Return an array of another library, on any device, as a NumPy array; return other values unchanged.

    The type bfloat16, which NumPy lacks, becomes float32.
    """
    if isinstance(values, np.ndarray | type) or not hasattr(values, "__dlpack__"):
        return values
    if "bfloat16" in str(values.dtype):
        values = Space.of(values).cast(values, np.dtype(np.float32))
    return np.from_dlpack(values, device="cpu")

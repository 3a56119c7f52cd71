"""Type aliases for arrays."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

__all__ = ["Array", "ArrayLike"]

Array = NDArray[Any]

"""What targets of vectors share."""

from __future__ import annotations

from uldnum.names import named

__all__ = ["Vectors"]


class Vectors:
    """A target of vectors."""

    time_unit = 1.0
    """Unit in which step sizes are given: they are absolute."""

    dtype = "float64"
    """Floating-point type of a run, unless another is asked for."""

    __repr__ = named

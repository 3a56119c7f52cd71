"""What targets of vectors share."""

from __future__ import annotations

__all__ = ["Vectors"]


class Vectors:
    """A target of vectors."""

    time_unit = 1.0
    """Unit in which step sizes are given: they are absolute."""

    dtype = "float64"
    """Floating-point type of a run, unless another is asked for."""

"""Plans: sequences of phases through noise levels, as data."""

from uldnum.plans import levels

__all__ = ["levels"]

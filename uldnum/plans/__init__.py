"""Plans, which are runs through sequences of noise levels, and the noise levels themselves."""

from uldnum.plans import levels

__all__ = ["levels"]

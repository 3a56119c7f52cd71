"""Figures of studies, drawn from stored data."""

from uldnum.plotting.bias import draw_bias
from uldnum.plotting.frontier import draw_frontier
from uldnum.plotting.mixing import draw_mixing
from uldnum.plotting.style import colour, save

__all__ = ["colour", "draw_bias", "draw_frontier", "draw_mixing", "save"]

"""Figures of studies, in new figures or in given axes.

`draw_bias`, `draw_mixing` and `draw_frontier` draw studies of `uldnum.studies`, from datasets or stored files, one or
several in a figure. An integrator has the same colour and marker everywhere (`look`). Figures are Matplotlib's:
``figure.savefig`` writes them, and `save` writes them reproducibly. The extra ``plot`` is needed.
"""

from uldnum.plotting.bias import draw_bias
from uldnum.plotting.frontier import draw_frontier
from uldnum.plotting.mixing import draw_mixing
from uldnum.plotting.style import Look, look, save

__all__ = ["Look", "draw_bias", "draw_frontier", "draw_mixing", "look", "save"]

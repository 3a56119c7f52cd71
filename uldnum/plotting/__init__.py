"""Figures of studies, in new figures or in given axes.

`draw_bias`, `draw_mixing`, `draw_frontier` and `draw_quality` draw studies of `uldnum.studies`, from datasets or stored
files. An integrator has the same colour and marker in all studies of it (`look`). Figures are Matplotlib's:
``figure.savefig`` writes them, and `save` writes them reproducibly. The extra ``plot`` is needed.
"""

from uldnum.plotting.bias import draw_bias
from uldnum.plotting.frontier import draw_frontier
from uldnum.plotting.mixing import draw_mixing
from uldnum.plotting.quality import draw_quality
from uldnum.plotting.style import Look, look, save

__all__ = ["Look", "draw_bias", "draw_frontier", "draw_mixing", "draw_quality", "look", "save"]

"""Scripts that compute the figures and numbers of the README.

Each module runs a study, stores its data in ``analysis/data``, and draws a figure or writes a page from them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uldnum._util.extras import require

__all__ = ["ONE_COLUMN", "TWO_COLUMNS", "paper", "pictures"]

# Widths of figures of one and of two columns of a journal, in inches.
ONE_COLUMN, TWO_COLUMNS = 3.4, 7.0

# Settings of Matplotlib at these widths. Three panels of `uldnum.plotting` are then as wide as a page.
PAPER = {
    "font.size": 7.2, "axes.titlesize": "medium", "axes.linewidth": 0.6,
    "lines.linewidth": 1.2, "lines.markersize": 4.5,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.minor.width": 0.4, "ytick.minor.width": 0.4,
    "xtick.major.size": 2.5, "ytick.major.size": 2.5, "xtick.minor.size": 1.5, "ytick.minor.size": 1.5,
    "pdf.fonttype": 42, "svg.fonttype": "path",
}  # fmt: skip


@contextmanager
def paper() -> Iterator[None]:
    """Draw figures in the style of this repository, at their final size."""
    with require("matplotlib", "plot").rc_context(PAPER):
        yield


def pictures(name: str) -> tuple[Path, Path]:
    """Return the paths of a line figure in PNG and SVG."""
    folder = Path(__file__).parents[1] / "figures"
    return folder / f"{name}.png", folder / f"{name}.svg"

"""Scripts that compute the figures and numbers of the README.

Each module runs a study, stores its data in ``analysis/data``, and draws a figure or writes a page from them.
"""

from pathlib import Path

__all__ = ["pictures"]


def pictures(name: str) -> tuple[Path, Path]:
    """Return the paths of a line figure in PNG and SVG."""
    folder = Path(__file__).parents[1] / "figures"
    return folder / f"{name}.png", folder / f"{name}.svg"

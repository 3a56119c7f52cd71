"""Figures and numbers of the README: each module runs a study, stores its data, and draws what is stored."""

from pathlib import Path

__all__ = ["pictures"]


def pictures(name: str) -> tuple[Path, Path]:
    """Return where a figure of lines is drawn to: PNG and SVG."""
    folder = Path(__file__).parents[1] / "figures"
    return folder / f"{name}.png", folder / f"{name}.svg"

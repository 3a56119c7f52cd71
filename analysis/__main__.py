"""Rebuild the figures: ``python -m analysis NAME`` or ``python -m analysis all``."""

from __future__ import annotations

import sys

from analysis import agreement, bias, galaxies

FIGURES = {"agreement": agreement.main, "bias": bias.main, "galaxies": galaxies.main}


def main() -> None:
    """Rebuild the figures that the command line names."""
    names = sys.argv[1:]
    chosen = list(FIGURES) if names == ["all"] else names
    if not chosen or not set(chosen) <= set(FIGURES):
        sys.exit(f"usage: python -m analysis all | {' | '.join(FIGURES)} ...")
    for name in chosen:
        FIGURES[name]()


if __name__ == "__main__":
    main()

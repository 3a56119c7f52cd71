"""Rebuild figures and pages: ``python -m analysis NAME ...``, or ``all`` for the figures of the README.

``python -m analysis draw NAME ...`` draws the figures from the stored data without computing anything, and
``python -m analysis draw all`` every figure that has stored data.
"""

from __future__ import annotations

import sys
from importlib import import_module

FIGURES = (
    "acceptance", "annealing", "bias", "chains", "densities", "frontier", "grids", "joint_laws", "kinetic", "mixing",
    "orders", "quality", "score_error", "temperature", "trajectories", "zoo",
)  # fmt: skip
# Modules that take long or need further packages; "all" does not include them.
LONG = ("agreement", "costs", "denoising", "overhead", "reference", "registers", "throughput")
# Modules that write pages or a picture without storing data.
WHOLE = ("agreement", "chains", "grids", "orders", "overhead", "reference", "registers")


def main() -> None:
    """Rebuild the figures and pages named on the command line."""
    stored = sys.argv[1:2] == ["draw"]
    names, known = sys.argv[1 + stored :], sorted({*FIGURES, *LONG} - set(WHOLE if stored else ()))
    every = known if stored else FIGURES
    chosen = list(every) if names == ["all"] else names
    if not chosen or not set(chosen) <= set(known):
        sys.exit(f"usage: python -m analysis [draw] all | {' | '.join(known)} ...")
    for name in chosen:
        module = import_module(f"analysis.{name}")
        module.draw() if stored else module.main()


if __name__ == "__main__":
    main()

"""Rebuild figures and pages: ``python -m analysis NAME ...`` or ``all``; after ``draw``, only draw what is stored."""

from __future__ import annotations

import sys
from importlib import import_module

FIGURES = (
    "annealing", "bias", "chains", "densities", "frontier", "grids", "mixing", "orders", "temperature", "trajectories",
)  # fmt: skip
# What takes longer than one would wait for, or needs more installed: by its own name only.
LONG = ("agreement", "denoising", "overhead", "registers", "throughput")
# Pages and images: there are no data between the computation and them.
WHOLE = ("agreement", "chains", "grids", "orders", "overhead", "registers")


def main() -> None:
    """Rebuild what the command line names."""
    stored = sys.argv[1:2] == ["draw"]
    names, known = sys.argv[1 + stored :], sorted({*FIGURES, *LONG} - set(WHOLE if stored else ()))
    chosen = [name for name in FIGURES if name in known] if names == ["all"] else names
    if not chosen or not set(chosen) <= set(known):
        sys.exit(f"usage: python -m analysis [draw] all | {' | '.join(known)} ...")
    for name in chosen:
        module = import_module(f"analysis.{name}")
        module.draw() if stored else module.main()


if __name__ == "__main__":
    main()

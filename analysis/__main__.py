"""Rebuild figures and pages: ``python -m analysis NAME`` or ``python -m analysis all``."""

from __future__ import annotations

import sys
from importlib import import_module

FIGURES = (
    "annealing", "bias", "chains", "densities", "frontier", "grids", "mixing", "orders", "temperature", "trajectories",
)  # fmt: skip
# What takes longer than one would wait for, or needs more installed: by its own name only.
LONG = ("agreement", "denoising", "overhead", "registers", "throughput")


def main() -> None:
    """Rebuild what the command line names."""
    names = sys.argv[1:]
    chosen = FIGURES if names == ["all"] else names
    known = FIGURES + LONG
    if not chosen or not set(chosen) <= set(known):
        sys.exit(f"usage: python -m analysis all | {' | '.join(known)} ...")
    for name in chosen:
        import_module(f"analysis.{name}").main()


if __name__ == "__main__":
    main()

"""Rebuild figures and pages: ``python -m analysis NAME`` or ``python -m analysis all``."""

from __future__ import annotations

import sys

from analysis import agreement, bias, galaxies, orders, registers, temperature, throughput

FIGURES = {"bias": bias.main, "galaxies": galaxies.main, "orders": orders.main, "temperature": temperature.main}
# What takes longer than one would wait for: by its own name only.
LONG = {"agreement": agreement.main, "registers": registers.main, "throughput": throughput.main}


def main() -> None:
    """Rebuild what the command line names."""
    names = sys.argv[1:]
    chosen = list(FIGURES) if names == ["all"] else names
    known = FIGURES | LONG
    if not chosen or not set(chosen) <= set(known):
        sys.exit(f"usage: python -m analysis all | {' | '.join(known)} ...")
    for name in chosen:
        known[name]()


if __name__ == "__main__":
    main()

"""Figure: chains of galaxies at one noise level. The network is fetched; nothing of it, nor its states, is stored."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from uldnum import cli

FIGURE = Path(__file__).parents[1] / "figures" / "galaxies.png"


def main() -> None:
    """Run the command that users run, and keep its picture."""
    with tempfile.TemporaryDirectory() as folder:
        strip = Path(folder) / "galaxies.png"
        cli.sample(chains=4, out=strip)
        shutil.copy(strip, FIGURE)

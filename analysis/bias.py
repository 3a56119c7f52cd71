"""Figure: bias of the stationary distribution on a mixture, as a function of the step size."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import uldnum
from analysis import pictures
from uldnum._util.files import store
from uldnum.plotting import draw_bias, save

INTEGRATORS = ["ula", "OBABO", "UBU", "BAOAB", "baoab-limit", "noise-denoise(1)", "mild(0.5)"]
DATA = Path(__file__).parent / "data" / "bias.nc"
FIGURES = pictures("bias")


def draw() -> None:
    """Draw the stored data."""
    save(draw_bias(DATA), *FIGURES)


def main() -> None:
    """Run the study, store it, and draw the stored data."""
    study = uldnum.studies.bias(
        uldnum.target("bimodal-1d"),
        INTEGRATORS,
        np.geomspace(0.2, 1.5, 11),
        nfe=5_000,
        burn_in=3_000,
        chains=4096,
        exact=True,
    )
    DATA.parent.mkdir(exist_ok=True)
    store(study, DATA)
    draw()

"""Figure: bias of the stationary distribution on a mixture, as a function of the step size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

import uldnum
from analysis import paper, pictures
from uldnum._util.files import store
from uldnum.plotting import draw_bias, save

INTEGRATORS = ["ula", "OBABO", "UBU", "BAOAB", "baoab-limit", "noise-denoise(1)", "mild(0.5)"]
PANELS = ["second_moment", "mean", "wasserstein_1", "kolmogorov"]
TARGET, STEPS = "bimodal-1d", (0.2, 1.5)
HERE = Path(__file__).parent / "data"
DATA, EXACT = HERE / "bias.nc", HERE / "bias-exact.nc"
FIGURES = pictures("bias")


def draw() -> None:
    """Draw the stored data."""
    with paper():
        save(draw_bias(xr.load_dataset(DATA).sel(metric=PANELS), exact=EXACT), *FIGURES)


def main() -> None:
    """Run the study, store it, and draw the stored data."""
    study = uldnum.studies.bias(
        TARGET, INTEGRATORS, np.geomspace(*STEPS, 11), nfe=5_000, burn_in=3_000, chains=4096, exact=True
    )
    DATA.parent.mkdir(exist_ok=True)
    store(study, DATA)
    store(curves(), EXACT)
    draw()


def curves() -> xr.Dataset:
    """Return the exact biases at many step sizes, for lines without corners."""
    # The bias of the second moment of BAOAB-limit at the smallest step size is below the default tolerance.
    return uldnum.studies.exact_bias(TARGET, INTEGRATORS, np.geomspace(*STEPS, 61), tolerance=1e-7)

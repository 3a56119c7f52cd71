"""Figure: score evaluations per independent sample, as a function of step size and friction.

Kinetic schemes are cheaper at small steps, where their cost grows as 1/h and that of overdamped schemes as 1/h^2.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import xarray as xr

import uldnum
from analysis import paper, pictures
from uldnum._util.files import store
from uldnum.plotting import draw_mixing, save

INTEGRATORS = ["ula", "baoab-limit", "mild(0.5)", "BAOAB", "OBABO", "UBU"]
FRICTIONS = (0.5, 1.0, 2.0)
H = np.geomspace(0.1, 1.3, 10)  # at larger steps and low friction, the exact times converge slowly or not at all
HERE = Path(__file__).parent
DATA = HERE / "data" / "mixing.nc"
FIGURES = pictures("mixing")


def deviation(study: xr.Dataset) -> float:
    """Return the largest deviation of resolved times from the exact ones, in standard errors."""
    gaps = abs(study.time - study.exact_time) / study.time_error
    return float(gaps.where(study.resolved).max())


def draw() -> None:
    """Draw the stored data."""
    with paper():
        save(draw_mixing(DATA), *FIGURES)


def main() -> None:
    """Run the study, store it, and draw the stored data."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "no exact bias")  # the figure shows where a curve ends
        study = uldnum.studies.mixing(
            "bimodal-1d", INTEGRATORS, H, friction=FRICTIONS, nfe=20_000, chains=4096, exact=True
        )
    store(study, DATA)
    print(f"mixing: resolved times lie within {deviation(study):.1f} standard errors of the exact ones")
    draw()

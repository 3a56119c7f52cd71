"""Figure: what an independent sample costs in score evaluations, as a function of step size and friction.

Momentum pays at small steps, where the cost of overdamped schemes grows as 1/h^2 and that of kinetic ones as 1/h.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import xarray as xr

import uldnum
from analysis import pictures
from uldnum._util.files import store
from uldnum.plotting import draw_mixing

INTEGRATORS = ["ula", "baoab-limit", "mild(0.5)", "BAOAB", "OBABO", "UBU"]
FRICTIONS = (0.5, 1.0, 2.0)
H = np.geomspace(0.1, 1.3, 10)  # beyond it the exact times at low friction are slow, and may not settle
HERE = Path(__file__).parent
DATA = HERE / "data" / "mixing.nc"
FIGURES = pictures("mixing")


def deviation(study: xr.Dataset) -> float:
    """Return the largest distance of resolved times from the exact ones, in standard errors."""
    gaps = abs(study.time - study.exact_time) / study.time_error
    return float(gaps.where(study.resolved).max())


def draw() -> None:
    """Draw the stored data."""
    draw_mixing(DATA, *FIGURES)


def main() -> None:
    """Run the study, store it, and draw the stored data."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "no exact bias")  # a curve that ends says so
        study = uldnum.studies.mixing("bimodal-1d", INTEGRATORS, H, friction=FRICTIONS, nfe=20_000, chains=4096)
    store(study, DATA)
    print(f"mixing: resolved times lie within {deviation(study):.1f} standard errors of the exact ones")
    draw()

"""Figure: cost of an independent sample against bias, and the cheapest integrator for a given bias."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import uldnum
from analysis import paper, pictures
from uldnum._util.files import store
from uldnum.plotting import draw_frontier, save
from uldnum.targets import GaussianMixture, Target

INTEGRATORS = ["ula", "baoab-limit", "mild(0.5)", "BAOAB", "OBABO", "UBU"]
CONDITION = GaussianMixture([1.0], [np.zeros(10)], [np.geomspace(0.01, 1, 10)], name="condition-100")
# Options that are not given are the defaults of the study, which `uldnum advise` uses too. The default frictions of the
# third target are those that suit its smallest standard deviation.
TARGETS: dict[str, tuple[Target, dict[str, Any]]] = {
    "bimodal-1d": (uldnum.target("bimodal-1d"), {"exact": True, "nfe": 10_000, "chains": 4096}),
    "ring-8": (uldnum.target("ring-8"), {"exact": False, "nfe": 10_000, "chains": 4096}),
    CONDITION.name: (CONDITION, {"exact": True, "nfe": 10_000, "chains": 512, "friction": [0.5, 1.0, 2.0]}),
}
HERE = Path(__file__).parent
DATA = {name: HERE / "data" / f"frontier-{name}.nc" for name in TARGETS}
FIGURES = pictures("frontier")


def deviations(study: xr.Dataset) -> tuple[float, float]:
    """Return the largest deviations of biases and of costs from the exact ones, in standard errors.

    Biases are those of the two moments of each coordinate, with their signs, because magnitudes have a noise floor.
    Only points with resolved costs count: elsewhere the chains have not forgotten their start from draws of the target.
    All points share their random numbers, so that their deviations are not independent.
    """
    bias = abs(study.signed_bias - study.exact_signed) / study.signed_error
    cost = abs(study.cost - study.exact_cost) / study.cost_error
    return float(bias.where(study.cost_resolved).max()), float(cost.where(study.cost_resolved).max())


def draw() -> None:
    """Draw the stored data for a distance of distributions, which has no accidental zeros."""
    with paper():
        save(draw_frontier(DATA, metric="wasserstein_1"), *FIGURES)


def main() -> None:
    """Run the studies, store them, and draw the stored data."""
    for name, (target, options) in TARGETS.items():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "no exact bias")  # the figure shows where a curve ends
            study = uldnum.studies.frontier(target, INTEGRATORS, **options)
        store(study, DATA[name])
        if bool(study.exact_cost.notnull().any()):
            bias, cost = deviations(study)
            print(f"{name}: biases lie within {bias:.1f} standard errors of the exact ones, costs within {cost:.1f}")
    draw()

"""Figure: cost of an independent sample against bias, and the cheapest integrator for a given bias.

On `gmm-40` no integrator mixes at a single noise level, which a short run is enough to show. Annealing through noise
levels samples this target (`analysis.annealing`).
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import xarray as xr

import uldnum
from analysis import paper, pictures
from uldnum._util.files import store
from uldnum.plotting import draw_frontier, save

INTEGRATORS = ["ula", "baoab-limit", "mild(0.5)", "BAOAB", "OBABO", "UBU"]
# Step sizes and frictions are the defaults of the study, which `uldnum advise` uses too.
TARGETS: dict[str, dict[str, Any]] = {
    "bimodal-1d": {"nfe": 10_000, "chains": 4096},
    "ring-8": {"nfe": 10_000, "chains": 4096},
    "gmm-40": {"nfe": 5_000, "chains": 512},
}
HERE = Path(__file__).parent
DATA = {name: HERE / "data" / f"frontier-{name}.nc" for name in TARGETS}
FIGURES = pictures("frontier")


def deviations(study: xr.Dataset) -> tuple[float, float]:
    """Return the largest deviations of biases and of costs from the exact ones, in standard errors.

    Biases are those of the two moments, because the sampled value of a distance of distributions has a noise floor.
    Only points with resolved costs count: elsewhere the chains have not forgotten their start from draws of the target.
    All points share their random numbers, so that their deviations are not independent.
    """
    moments = study.sel(metric=["second_moment", "mean"])
    bias = abs(moments.bias - moments.exact) / moments.error
    cost = abs(study.cost - study.exact_cost) / study.cost_error
    return float(bias.where(study.cost_resolved).max()), float(cost.where(study.cost_resolved).max())


def draw() -> None:
    """Draw the stored data for a distance of distributions, which has no accidental zeros."""
    with paper():
        save(draw_frontier(DATA, metric="wasserstein_1"), *FIGURES)


def main() -> None:
    """Run the studies, store them, and draw the stored data."""
    for name, budget in TARGETS.items():
        target = uldnum.target(name)
        exact = target.shape == (1,)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "no exact bias")  # the figure shows where a curve ends
            study = uldnum.studies.frontier(target, INTEGRATORS, exact=exact, **budget)
        store(study, DATA[name])
        if bool(study.exact_cost.notnull().any()):
            bias, cost = deviations(study)
            print(f"{name}: biases lie within {bias:.1f} standard errors of the exact ones, costs within {cost:.1f}")
    draw()

"""Figure: error of annealed sampling plans against their cost.

The data distribution is a mixture of forty Gaussians in the plane (`gmm-40`). Its score is known exactly at every noise
level, so that the error is only that of the plan. Plans are compared at equal numbers of score evaluations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from tqdm import tqdm

import uldnum
from analysis import pictures
from uldnum._util.extras import require
from uldnum._util.files import store
from uldnum._util.typing import Array
from uldnum.diagnostics import mode_weights, sliced_wasserstein_2
from uldnum.plotting import look, save
from uldnum.targets.presets import gmm_40

DATA = Path(__file__).parent / "data" / "annealing.nc"
FIGURES = pictures("annealing")

CHAINS = 20_000
FIRST, LAST = 60.0, 0.2  # noise levels: wider than the data, and much narrower than a mode (1.31)
NFE = (16, 32, 64, 128, 256, 512)
DRAWS = 16  # sets of CHAINS exact samples each
MEASURES = {
    "distance": "sliced Wasserstein-2 distance",
    "weights": "total variation distance of mode weights",
    "variance": "relative variance within modes",
}

H = 0.7  # step size in units of sigma
# Label in the figure -> method, its options, and its score evaluations per level.
PLANS: dict[str, tuple[str, dict[str, Any], float]] = {
    "ALD": ("ula", {"h": H}, 1),
    "MILD(0.1)": ("mild(0.1)", {"h": H}, 1),
    "MILD(0.22)": ("mild(0.22)", {"h": H}, 1),
    "MILD(0.38)": ("mild(0.38)", {"h": H}, 1),
    "MILD(0.6)": ("mild(0.6)", {"h": H}, 1),
    "annealed baoab-limit": ("baoab-limit", {"h": H}, 1),
    "annealed OBABO": ("OBABO", {"h": H, "boundary": "shared"}, 1),
    "ALD and DDIM": ("ula", {"h": H, "predictor": "ddim"}, 2),
    "DDIM": ("ddim", {}, 1),
    "ancestral": ("ancestral", {}, 1),
    "Heun": ("heun", {}, 2),
    "DPM-Solver++(2M)": ("dpm-solver++", {}, 1),
}
COLOURS = {
    "ALD": look("ula").colour, "annealed baoab-limit": look("baoab-limit").colour,
    "annealed OBABO": look("OBABO").colour, "ALD and DDIM": "#D55E00", "DDIM": "#0072B2",
    "ancestral": "#6A51A3", "Heun": "#000000", "DPM-Solver++(2M)": "#8B4513",
}  # fmt: skip


def study() -> xr.Dataset:
    """Run every plan at every cost, and return the errors."""
    mixture = gmm_40()
    shape = (len(PLANS), len(NFE))
    found = {name: np.full(shape, np.nan) for name in ("nfe", "error", *MEASURES)}
    for i, (method, options, cost) in enumerate(tqdm(PLANS.values())):
        for j, nfe in enumerate(NFE):
            plan = uldnum.plan(method, uldnum.levels.geometric(FIRST, LAST, max(2, round((nfe - 1) / cost))), **options)
            run = uldnum.anneal(mixture, plan, chains=CHAINS, seed=1, progress=False)
            found["nfe"][i, j] = run.nfe
            for name, value in measured(run.x, mixture).items():
                found[name][i, j] = value
    data: dict[str, Any] = {name: (("plan", "cost"), values) for name, values in found.items()}
    draws = [measured(mixture.sample(CHAINS, seed=99 + i), mixture) for i in range(DRAWS)]
    data |= {f"exact_{name}": ("draw", [one[name] for one in draws]) for name in MEASURES}
    return xr.Dataset(data, {"plan": list(PLANS), "cost": list(NFE)}, {"chains": CHAINS, "h": H})


def measured(x: Array, mixture: uldnum.GaussianMixture) -> dict[str, float]:
    """Return the error measures of samples, and the standard error of the distance.

    The variance within modes is a median over samples, relative to the variance of a component.
    """
    distance, weights = sliced_wasserstein_2(x, mixture), mode_weights(x, mixture)
    gaps = x - mixture.means[((x[:, None] - mixture.means) ** 2).sum(axis=2).argmin(axis=1)]
    variance = np.median(gaps**2) * mixture.largest_precision
    return {
        "distance": float(distance.value), "error": float(distance.error), "weights": float(weights.value),
        "variance": float(variance),
    }  # fmt: skip


def draw() -> None:
    """Draw the stored results."""
    require("matplotlib", "plot")
    found = xr.load_dataset(DATA)
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    greys = iter(colormaps["RdPu"](np.linspace(0.35, 0.95, 4)))
    colours = {name: COLOURS.get(name) or next(greys) for name in map(str, found.plan.values)}
    for axes, (name, title) in zip(figure.subplots(1, 3), MEASURES.items(), strict=True):
        exact = found[f"exact_{name}"]
        unit = exact.mean() if name == "variance" else 1.0
        for plan, colour in colours.items():
            one = found.sel(plan=plan)
            axes.plot(one.nfe, one[name] / unit, color=colour, marker="o", markersize=3, linewidth=1.2, label=plan)
        low, high = float(exact.min() / unit), float(exact.max() / unit)
        axes.axhspan(low, high, color="0.85", zorder=0, label=f"exact samples, {exact.size} sets")
        axes.set(xscale="log", yscale="log", xlabel="score evaluations (NFE)", title=title)
        axes.title.set_fontsize(10)
        axes.set_xticks(found.cost.values, [str(nfe) for nfe in found.cost.values], fontsize=8)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.25, which="both", linewidth=0.5)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=7, frameon=False, fontsize=8)
    figure.suptitle(
        f"Errors of plans through noise levels from {FIRST:g} to {LAST:g} on gmm-40: one step per level, "
        f"h = {found.attrs['h']:g} sigma, {found.attrs['chains']} chains", fontsize=10,
    )  # fmt: skip
    save(figure, *FIGURES)


def main() -> None:
    """Run the study, store it, and draw the stored data."""
    store(study(), DATA)
    draw()

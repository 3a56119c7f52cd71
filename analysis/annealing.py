"""Figure: error of annealed sampling plans against their cost.

The data distribution is a mixture of forty Gaussians in the plane (`gmm-40`). Its score is known exactly at every noise
level, so that the error is only that of the plan. Plans are compared at equal numbers of score evaluations.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from tqdm import tqdm

import uldnum
from analysis import TWO_COLUMNS, paper, pictures
from uldnum._util.files import store
from uldnum._util.typing import Array
from uldnum.diagnostics import mode_weights, sliced_wasserstein_2
from uldnum.plotting import save
from uldnum.plotting.style import plain_ticks
from uldnum.targets.presets import gmm_40

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
EXACT = "exact samples, ± 2 standard deviations"
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
# Label -> colour, marker and line. Lines of MILD are dashed, and those of predictors dotted.
LOOKS = {
    "ALD": ("#E69F00", "o", "-"), "annealed baoab-limit": ("#009E73", "p", "-"),
    "annealed OBABO": ("#56B4E9", "D", "-"), "ALD and DDIM": ("#D55E00", "v", "-"),
    "MILD(0.1)": ("#F0A6D0", "o", "--"), "MILD(0.22)": ("#CC5AA7", "s", "--"), "MILD(0.38)": ("#8E2A73", "d", "--"),
    "MILD(0.6)": ("#4A0D3F", ">", "--"),
    "DDIM": ("#0072B2", "s", ":"), "ancestral": ("#8B4513", "<", ":"), "Heun": ("#000000", "^", ":"),
    "DPM-Solver++(2M)": ("#7F7F7F", "h", ":"),
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
    with paper():
        save(figure_of(xr.load_dataset(DATA)), *FIGURES)


def figure_of(found: xr.Dataset) -> Figure:
    """Return the figure: one panel for each measure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(TWO_COLUMNS, 3.5), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, 3), MEASURES.items(), strict=True):
        exact = found[f"exact_{name}"]
        unit = float(exact.mean()) if name == "variance" else 1.0
        middle, spread = float(exact.mean()) / unit, 2 * float(exact.std(ddof=1)) / unit
        axes.axhspan(middle - spread, middle + spread, color="0.87", linewidth=0, zorder=0, label=EXACT)
        axes.axhline(middle, color="0.6", linewidth=0.8, zorder=0)
        for plan, (colour, marker, line) in LOOKS.items():
            one = found.sel(plan=plan)
            if name == "distance":
                bars = {"linestyle": "", "elinewidth": 0.6, "ecolor": colour, "alpha": 0.4, "marker": ""}
                axes.errorbar(one.nfe, one[name], 2 * one.error, **bars)
            edge = {"markeredgecolor": "white", "markeredgewidth": 0.4}
            axes.plot(one.nfe, one[name] / unit, label=plan, color=colour, marker=marker, linestyle=line, **edge)
        axes.set(xscale="log", yscale="log", xlabel="score evaluations (NFE)", title=title)
        axes.set_xticks(found.cost.values, [str(nfe) for nfe in found.cost.values])
        axes.minorticks_off()
        axes.set_ylim(bottom=min(middle - spread, float(found[name].min()) / unit) / 1.1)
        plain_ticks(axes, axes.yaxis)
        axes.grid(alpha=0.25, linewidth=0.5)
    handles, labels = axes.get_legend_handles_labels()
    # The band is the last entry.
    figure.legend(
        [*handles[1:], handles[0]], [*labels[1:], labels[0]], loc="outside lower center", ncols=4, frameon=False,
        labelspacing=0.3, handlelength=2.4,
    )  # fmt: skip
    settings = f"one step per level, h = {found.attrs['h']:g} sigma, {found.attrs['chains']} chains"
    figure.suptitle(f"Plans through noise levels from {FIRST:g} to {LAST:g} on gmm-40: {settings}", fontsize="medium")
    return figure


def main() -> None:
    """Run the study, store it, and draw the stored data."""
    store(study(), DATA)
    draw()

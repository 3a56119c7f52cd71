"""Figure: exact and sampled stationary densities of each scheme at a large step size, beside the target.

At h = 1.5 on a mixture with two modes, the total variation distance to the target is 0.025 for BAOAB-limit, 0.036 for
BAOAB, and 0.14 for ULA, OBABO and MILD(0.5), at equal cost. The sampled points agree with the exact densities of the
schemes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

import uldnum
from analysis import TWO_COLUMNS, paper, pictures
from uldnum._util.files import store
from uldnum._util.typing import Array
from uldnum.exact import max_stable_h, transfer_operator
from uldnum.plotting import look, save
from uldnum.targets import GaussianMixture
from uldnum.targets.presets import bimodal_1d

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# BAOA is omitted because its stationary distribution of x is that of BAOAB.
INTEGRATORS = (
    "OABAO",
    "ula",
    "BUB",
    "OBABO",
    "UBU",
    "ABOBA",
    "BAOAB",
    "baoab-limit",
    "mild(0.5)",
    "noise-denoise(1)",
)
H, FRICTION = 1.5, 1.0  # a large step shows the bias clearly; the stability limit of mild is sqrt(3)
STEPS, BURN_IN, CHAINS, SEED = 1_000, 100, 256, 1  # relaxation times are below ten evaluations
BINS = 96  # over 16 standard deviations of the target, so that a bin has the width 0.28
TOLERANCE = 1e-5  # of the exact densities, far below the width of a line
X = np.linspace(-6.0, 6.0, 151)
TICKS = np.arange(-4, 5, 2)
ROWS, COLUMNS = 2, 5
HERE = Path(__file__).parent
DATA = HERE / "data" / "densities.nc"
FIGURES = pictures("densities")


def sampled(name: str, target: GaussianMixture) -> tuple[Array, Array, Array, int]:
    """Return the bin edges, the fractions of samples in the bins, their standard errors, and the score evaluations."""
    run = uldnum.sample(
        target, name, h=H, friction=FRICTION, steps=STEPS, burn_in=BURN_IN, chains=CHAINS, bins=BINS, seed=SEED
    )
    counts = run.histogram[:, 0]
    shares = counts / counts.sum(axis=-1, keepdims=True)
    # The standard error uses batches of chains, which are independent; the steps of a chain are not.
    error = shares.std(axis=0, ddof=1) / np.sqrt(len(shares))
    return run.edges[0], shares.mean(axis=0)[1:-1], error[1:-1], run.nfe


def study() -> xr.Dataset:
    """Return the data of the figure: density of the target, exact and sampled densities of every scheme."""
    target = bimodal_1d()
    limits = [max_stable_h(name, precision=target.largest_precision, friction=FRICTION) for name in INTEGRATORS]
    laws = [transfer_operator(name, target, H, friction=FRICTION, tolerance=TOLERANCE) for name in INTEGRATORS]
    runs = [sampled(name, target) for name in INTEGRATORS]
    edges = runs[0][0]
    width = float(edges[1] - edges[0])
    each = ("integrator", "bin")
    density = {"units": "1/length"}
    data: dict[str, Any] = {
        "target": ("x", np.exp(target.log_density(X[:, None])), density | {"long_name": "density of the target"}),
        "target_binned": (
            "bin",
            np.diff(target.cdf(edges[:, None])[:, 0]) / width,
            density | {"long_name": "density of the target, averaged over a bin"},
        ),
        "exact": (
            ("integrator", "x"),
            np.stack([law.density(X) for law in laws]),
            density | {"long_name": "exact stationary density of the scheme"},
        ),
        "exact_binned": (
            each,
            np.stack([np.diff(law.cdf(edges)) for law in laws]) / width,
            density | {"long_name": "exact stationary density of the scheme, averaged over a bin"},
        ),
        "sampled": (each, np.stack([run[1] for run in runs]) / width, density | {"long_name": "sampled density"}),
        "error": (
            each,
            np.stack([run[2] for run in runs]) / width,
            density | {"long_name": "standard error of the sampled density"},
        ),
        "total_variation": (
            "integrator",
            [law.total_variation for law in laws],
            {"units": "1", "long_name": "total variation distance of the exact law to the target"},
        ),
        "relaxation_time": (
            "integrator",
            [law.relaxation_time for law in laws],
            {"units": "score evaluations", "long_name": "exact relaxation time"},
        ),
        "max_stable_h": (
            "integrator",
            limits,
            {"units": "time", "long_name": "largest stable step on the narrowest component"},
        ),
        "nfe": (
            "integrator",
            [run[3] for run in runs],
            {"units": "1", "long_name": "score evaluations per chain, burn-in included"},
        ),
    }
    coordinates: dict[str, Any] = {
        "integrator": ("integrator", list(INTEGRATORS), {"long_name": "integrator"}),
        "x": ("x", X, {"units": "length", "long_name": "position"}),
        "bin": ("bin", (edges[1:] + edges[:-1]) / 2, {"units": "length", "long_name": "centre of a bin"}),
    }
    settings = {"h": H, "friction": FRICTION, "steps": STEPS, "burn_in": BURN_IN, "chains": CHAINS, "seed": SEED}
    named = {"target": target.name, "tolerance": TOLERANCE, "uldnum": uldnum.__version__}
    return xr.Dataset(data, coordinates, settings | named)


def draw_densities(axes: Axes, data: xr.Dataset, one: xr.Dataset, tone: str) -> None:
    """Draw the target density, and the exact and the sampled density of one scheme."""
    axes.fill(data.x, data.target, facecolor="0.86", edgecolor="0.6", linewidth=0.5)
    axes.plot(data.x, one.exact, color=tone)
    axes.plot(one.bin, one.sampled, **dots(tone))
    name, distance = str(one.integrator.values), float(one.total_variation)
    axes.set_title(name, fontweight="bold", color=tone, loc="left", pad=3)
    axes.text(0.03, 0.9, f"TV = {distance:.3f}", transform=axes.transAxes, fontsize="small")
    axes.tick_params(labelbottom=False)


def draw_differences(axes: Axes, data: xr.Dataset, one: xr.Dataset, tone: str) -> None:
    """Draw the differences of the exact and of the sampled density from the target."""
    difference = one.exact - data.target
    axes.axhline(0, color="0.6", linewidth=0.5)
    axes.fill_between(data.x, difference, color=tone, alpha=0.18, linewidth=0)
    axes.plot(data.x, difference, color=tone, linewidth=0.9)
    # Correct for the width of the bins, which would otherwise look like a deviation of the samples from the curve.
    inside = one.exact_binned - one.exact.interp(x=one.bin)
    axes.errorbar(
        one.bin,
        one.sampled - inside - data.target.interp(x=one.bin),
        yerr=2 * one.error,
        elinewidth=0.7,
        **dots(tone) | {"markersize": 1.6},
    )


def dots(tone: str) -> dict[str, Any]:
    """Return the style of sampled points."""
    return {
        "color": tone,
        "marker": "o",
        "linestyle": "",
        "markersize": 2.0,
        "markerfacecolor": "white",
        "markeredgewidth": 0.6,
        "zorder": 3,
    }


def legend(figure: Figure) -> None:
    """Add the legend of lines, areas and points."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(facecolor="0.86", edgecolor="0.6", label="target"),
        Line2D([], [], color="0.25", label="exact stationary density of the scheme"),
        Line2D([], [], **dots("0.25"), label="sampled (lower panels: ± 2 standard errors)"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)


@paper()
def draw() -> None:
    """Draw the stored data, with the schemes in the order of their distance from the target."""
    from matplotlib.figure import Figure

    data = xr.load_dataset(DATA)
    data = data.sortby("total_variation")
    shown = data.sel(bin=slice(float(X[0]), float(X[-1])))
    figure = Figure(figsize=(TWO_COLUMNS, 4.6), layout="constrained")
    grid = figure.subplots(
        2 * ROWS, COLUMNS, sharex=True, sharey="row", squeeze=False, gridspec_kw={"height_ratios": [2, 1] * ROWS}
    )
    top, reach = 1.08 * float(data.exact.max()), 1.12 * float(abs(data.exact - data.target).max())
    for rank, name in enumerate(map(str, data.integrator.values)):
        row, column = divmod(rank, COLUMNS)
        upper, lower = grid[2 * row, column], grid[2 * row + 1, column]
        one, tone = shown.sel(integrator=name), look(name).colour
        draw_densities(upper, data, one, tone)
        draw_differences(lower, data, one, tone)
        upper.set(xlim=(X[0], X[-1]), ylim=(0, top), xticks=TICKS)
        lower.set(ylim=(-reach, reach))
        for axes in (upper, lower):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.2, linewidth=0.5)
        lower.tick_params(labelbottom=row == ROWS - 1)
        if column == 0:
            upper.set_ylabel("density (1/length)")
            lower.set_ylabel("minus target\n(1/length)")
        if row == ROWS - 1:
            lower.set_xlabel("x (length)")
    legend(figure)
    a = data.attrs
    figure.suptitle(
        f"Stationary densities on {a['target']} at h = {a['h']:g} and friction {a['friction']:g}. Sampled: "
        f"{a['chains']:,} chains of {a['steps']:,} score evaluations, after {a['burn_in']:,} of burn-in\n"
        "TV: exact total variation distance to the target, in ascending order. Lower panels: density minus target",
        fontsize="medium",
    )
    save(figure, *FIGURES)


def main() -> None:
    """Compute the data, store them, and draw the stored data."""
    store(study(), DATA)
    draw()

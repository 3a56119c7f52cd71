"""Figure: all integrators of the catalogue on N(0, 1), exactly and at equal cost.

A kinetic scheme with n evaluations per step has a step of n times the time per evaluation. For overdamped schemes the
same holds for delta = h^2/2, so that their step size is sqrt(n) times the step size of ULA, which equals this time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

import uldnum
from analysis import TWO_COLUMNS, paper, pictures
from uldnum._util.extras import require
from uldnum._util.files import store
from uldnum.exact._gaussian import Spectrum, stationary_law
from uldnum.plotting import save
from uldnum.schemes.catalogue import FAMILIES, Integrator

# Time per score evaluation, and friction.
TIMES, FRICTION = np.array([0.25, 0.5, 1.0]), 1.0
COLOURS = {0.25: "#56B4E9", 0.5: "#0072B2", 1.0: "#000000"}
MARKERS = {0.25: "o", 0.5: "s", 1.0: "D"}
# Relative errors of variances below this number are drawn at it. They are zero but for rounding.
ZERO = 1e-7
HERE = Path(__file__).parent
DATA, FIGURES = HERE / "data" / "zoo.nc", pictures("zoo")


def numbers(scheme: Integrator) -> dict[str, np.ndarray]:
    """Return the exact results of an integrator at all times per evaluation; NaN where it is unstable."""
    scale = scheme.nfe_per_step if scheme.momenta else np.sqrt(scheme.nfe_per_step)
    sizes = TIMES * scale
    law = stationary_law(scheme, sizes, np.full(sizes.shape, FRICTION), Spectrum.of(1.0))
    momenta = np.asarray(law.momentum_covariance) if scheme.momenta else np.full(sizes.shape, np.nan)
    return {
        "x": np.asarray(law.position_bias),
        "p": momenta - 1,
        "cost": np.asarray(law.autocorrelation_time("x^2")),
        "limit": np.array(uldnum.exact.max_stable_h(scheme, friction=FRICTION) / scale),
    }


def study() -> xr.Dataset:
    """Return the exact results of all integrators."""
    names = {
        f"{entry.name}(0.5)" if entry.parameter else entry.name: family
        for family, entries in FAMILIES.items()
        for entry in entries
        if not entry.metropolised
    }
    found = [numbers(uldnum.integrator(name)) for name in names]
    dims = ("integrator", "time")
    described = {
        "x": (dims, "Var(x) - 1"),
        "p": (dims, "Var(p) - 1, NaN if row 1 holds no momenta"),
        "cost": (dims, "score evaluations per independent sample of x^2"),
        "limit": (dims[:1], "largest stable time per evaluation"),
    }
    data = {key: (axes, [one[key] for one in found], {"long_name": text}) for key, (axes, text) in described.items()}
    coordinates = {"integrator": list(names), "time": TIMES, "family": ("integrator", list(names.values()))}
    return xr.Dataset(data, coordinates, {"friction": FRICTION, "uldnum": uldnum.__version__})


@paper()
def draw() -> None:
    """Draw the stored results."""
    require("matplotlib", "plot")
    found = xr.load_dataset(DATA)
    from matplotlib.figure import Figure

    names, families = found.integrator.values.tolist(), found.family.values.tolist()
    # Rows from top to bottom, with a gap between families.
    rows = -np.cumsum([1 + 0.8 * (i > 0 and families[i] != families[i - 1]) for i in range(len(names))])
    figure = Figure(figsize=(TWO_COLUMNS, 5.6), layout="constrained")
    panels = figure.subplots(1, 4, sharey=True)
    titles = {
        "x": "relative error of Var(x)",
        "p": "relative error of Var(p)",
        "limit": "largest stable time\nper evaluation",
        "cost": "evaluations per\nindependent sample",
    }
    for axes, (key, title) in zip(panels, titles.items(), strict=True):
        axes.set_title(title)
        axes.grid(alpha=0.25, linewidth=0.5)
        axes.tick_params(axis="y", length=0)
        if key == "limit":
            axes.plot(found.limit, rows, "o", color="0.3")
            axes.set_xlim(0, None)
            continue
        axes.set_xscale("log")
        for time in found.time.values.tolist():
            values = np.abs(found[key].sel(time=time).values)
            look = {"color": COLOURS[time], "marker": MARKERS[time], "linestyle": ""}
            axes.plot(np.where(values < ZERO, ZERO, values) if key != "cost" else values, rows, **look)
        if key != "cost":
            axes.set_xlim(ZERO / 2, 3)
            axes.set_xticks([ZERO, 1e-5, 1e-3, 1e-1], ["0", "10⁻⁵", "10⁻³", "0.1"])
            axes.minorticks_off()
    panels[0].set_yticks(rows, names)
    panels[0].set_ylim(rows[-1] - 1, rows[0] + 1)
    for time in TIMES.tolist():
        label = f"time {time:g} per evaluation"
        panels[0].plot([], [], color=COLOURS[time], marker=MARKERS[time], linestyle="", label=label)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"All integrators on N(0, 1), exactly, at friction {found.attrs['friction']:g}", fontsize="medium")
    save(figure, *FIGURES)


def main() -> None:
    """Compute the results, store them, and draw them."""
    store(study(), DATA)
    draw()

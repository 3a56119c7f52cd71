"""Figure: paths of overdamped and kinetic schemes through a mixture in two dimensions.

In 400 score evaluations a chain of ULA or BAOAB-limit diffuses and visits 6 or 7 of 25 modes. A kinetic chain moves in
arcs within a mode and along straight lines between modes. It visits 12 modes at friction 1, and 10 at friction 0.1,
where it orbits for a long time in one mode. At friction 10, BAOAB nearly follows BAOAB-limit. All schemes use the same
step size h, which is not the best one for each.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

import uldnum
from analysis import TWO_COLUMNS, paper, pictures
from uldnum._util.files import store
from uldnum._util.typing import Array
from uldnum.plotting import look, save
from uldnum.targets import GaussianMixture
from uldnum.targets.presets import grid_25

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Integrator and friction; NaN for overdamped schemes, which have no friction.
OVERDAMPED = (
    ("baoab-limit", np.nan),
    ("ula", np.nan),
    ("noise-denoise(1)", np.nan),
    ("mild(0.5)", np.nan),
)
KINETIC = (
    ("BAOAB", 10.0),
    ("BAOAB", 1.0),
    ("BAOAB", 0.1),
    ("OBABO", 1.0),
)
# The period of an orbit within a mode of variance 1/4 is pi, which is 13 steps and enough for smooth arcs.
H, STEPS, CHAINS, SEED = 0.25, 400, 1024, 1
START = (0.0, 0.0)  # the mean of a component
NEAR = 0.5  # a chain visits a mode if its distance from the mean falls below this, one standard deviation
EXTENT, NODES = 5.6, 141  # half width and number of nodes of the density map
LEVELS = (0.02, 0.2, 0.5, 0.8, 1.01)  # contours, as fractions of the largest density
GREYS = ("0.95", "0.90", "0.85", "0.80")
SHADES = 32  # number of shades along a path
TICKS = (-4, -2, 0, 2, 4)
HERE = Path(__file__).parent
DATA = HERE / "data" / "trajectories.nc"
FIGURES = pictures("trajectories")


def settings(name: str, friction: float) -> dict[str, Any]:
    """Return the common arguments of all runs of one scheme."""
    friction = 1.0 if np.isnan(friction) else friction
    return {"integrator": name, "h": H, "friction": friction, "thin": 1, "seed": SEED, "progress": False}


def positions(target: GaussianMixture, name: str, friction: float) -> Array:
    """Return the positions of all chains including the initial ones, shape (STEPS + 1, CHAINS, 2)."""
    start = np.tile(START, (CHAINS, 1))
    run = uldnum.sample(target, **settings(name, friction), steps=STEPS, chains=CHAINS, x0=start)
    return np.concatenate([start[None], run.recorded])


def momenta(target: GaussianMixture, name: str, friction: float, chain: int) -> tuple[Array, Array]:
    """Return the momenta of one chain (NaN if the scheme has none) and the cumulative score evaluations at each step.

    A run returns only the final momenta. The chain is therefore resumed after every step.
    """
    common = settings(name, friction) | {"chains": 1, "first_chain": chain}
    run = uldnum.sample(target, **common, steps=1, x0=np.array([START]))
    p, nfe = [], []
    for steps in range(1, STEPS + 1):
        if steps > 1:
            run = uldnum.sample(target, **common, steps=steps, resume=run)
        p.append(np.full(2, np.nan) if run.p is None else run.p[0])
        nfe.append(run.nfe)
    return np.array(p), np.array(nfe)


def modes_seen(path: Array, means: Array) -> Array:
    """Return the number of modes that each chain visits, for a path of shape (steps, chains, 2)."""
    distance = np.linalg.norm(path[:, :, None] - means, axis=-1)
    return (distance < NEAR).any(axis=0).sum(axis=-1)


def typical(seen: Array) -> int:
    """Return the chain whose numbers of visited modes (schemes, chains) are closest to the means over chains.

    Chains share their random numbers across schemes, so that one chain number serves all schemes.
    """
    deviations = (seen - seen.mean(axis=1, keepdims=True)) / seen.std(axis=1, keepdims=True)
    return int(np.argmin((deviations**2).sum(axis=0)))


def study() -> xr.Dataset:
    """Return the data of the figure: one path of every scheme, and the numbers of visited modes."""
    target, schemes = grid_25(), OVERDAMPED + KINETIC
    paths = [positions(target, *scheme) for scheme in schemes]
    seen = np.stack([modes_seen(path, target.means) for path in paths])
    chain = typical(seen)
    ends = [momenta(target, *scheme, chain) for scheme in schemes]
    axis = np.linspace(-EXTENT, EXTENT, NODES)
    plane = np.stack(np.meshgrid(axis, axis), axis=-1)
    data: dict[str, Any] = {
        "name": ("scheme", [name for name, _ in schemes], {"long_name": "integrator"}),
        "friction": (
            "scheme",
            [friction for _, friction in schemes],
            {"units": "1/time", "long_name": "friction; NaN for overdamped schemes"},
        ),
        "path": (
            ("scheme", "step", "axis"),
            np.stack([path[:, chain] for path in paths]),
            {"units": "length", "long_name": "position of the chain shown"},
        ),
        "momentum": (
            ("scheme", "later_step", "axis"),
            np.stack([p for p, _ in ends]),
            {"units": "length/time", "long_name": "momentum of the chain shown, or what a scheme keeps in its place"},
        ),
        "nfe": (
            ("scheme", "later_step"),
            np.stack([nfe for _, nfe in ends]),
            {"units": "1", "long_name": "score evaluations so far"},
        ),
        "modes_seen": (
            "scheme",
            seen[:, chain],
            {"units": "1", "long_name": f"modes to within {NEAR:g} of which the chain shown came"},
        ),
        "mean_modes_seen": (
            "scheme",
            seen.mean(axis=1),
            {"units": "1", "long_name": f"modes to within {NEAR:g} of which a chain came, mean over chains"},
        ),
        "mean_modes_seen_error": (
            "scheme",
            seen.std(axis=1, ddof=1) / np.sqrt(CHAINS),
            {"units": "1", "long_name": "standard error of mean_modes_seen"},
        ),
        "density": (
            ("x_2", "x_1"),
            np.exp(target.log_density(plane.reshape(-1, 2))).reshape(NODES, NODES),
            {"units": "1/length^2", "long_name": "density of the target"},
        ),
    }
    coordinates: dict[str, Any] = {
        "step": ("step", np.arange(STEPS + 1), {"units": "1", "long_name": "time step"}),
        "later_step": ("later_step", np.arange(1, STEPS + 1), {"units": "1", "long_name": "time step"}),
        "axis": ("axis", [1, 2], {"long_name": "coordinate"}),
        "x_1": ("x_1", axis, {"units": "length", "long_name": "first coordinate"}),
        "x_2": ("x_2", axis, {"units": "length", "long_name": "second coordinate"}),
    }
    attributes = {
        "target": target.name,
        "h": H,
        "steps": STEPS,
        "chains": CHAINS,
        "seed": SEED,
        "start": START,
        "chain": chain,
        "modes": len(target.means),
    }
    return xr.Dataset(data, coordinates, attributes | {"uldnum": uldnum.__version__})


def shades(tone: str) -> Array:
    """Return colours from a lighter to a darker version of a tone, shape (SHADES, 3)."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    middle = np.array(to_rgb(tone))
    light, dark = 0.55 + 0.45 * middle, 0.45 * middle
    return LinearSegmentedColormap.from_list("time", [light, middle, dark])(np.linspace(0, 1, SHADES))[:, :3]


def draw_line(axes: Axes, x: Array, y: Array, tone: str, width: float = 0.6) -> None:
    """Draw a path from light to dark in pieces of one shade each, which keeps vector images small."""
    from matplotlib.collections import LineCollection

    cuts = np.linspace(0, len(x) - 1, SHADES + 1).astype(int)
    pieces = [np.stack([x, y], axis=-1)[a : b + 1] for a, b in pairwise(cuts)]
    axes.add_collection(LineCollection(pieces, colors=shades(tone), linewidths=width, capstyle="round"))


def mark_start(axes: Axes, x: float, y: float) -> None:
    """Mark the start of a path."""
    axes.plot(x, y, "o", color="black", markerfacecolor="white", markersize=3, markeredgewidth=0.7, zorder=5)


def title(one: xr.Dataset) -> str:
    """Return the name of a scheme, with its friction if it has one."""
    friction = float(one.friction)
    return str(one.name.values) if np.isnan(friction) else f"{one.name.values}, friction {friction:g}"


def draw_path(axes: Axes, data: xr.Dataset, one: xr.Dataset, modes: int, tone: str) -> None:
    """Draw the contours of the density, and a path on top of them."""
    levels = float(data.density.max()) * np.array(LEVELS)
    # The contours are rasterised because eight copies would dominate the size of a vector image.
    axes.contourf(data.x_1, data.x_2, data.density, levels=levels, colors=GREYS, rasterized=True)
    x, y = one.path.values.T
    draw_line(axes, x, y, tone)
    mark_start(axes, x[0], y[0])
    axes.set(xlim=(-EXTENT, EXTENT), ylim=(-EXTENT, EXTENT), aspect="equal", xticks=TICKS, yticks=TICKS)
    axes.set_title(title(one), fontweight="bold", color=tone, pad=18)
    seen = f"visits {int(one.modes_seen)} of {modes} modes\nmean over chains {float(one.mean_modes_seen):.1f}"
    axes.text(0.5, 1.03, seen, transform=axes.transAxes, ha="center", fontsize="small")


def draw_strip(axes: Axes, one: xr.Dataset, tone: str) -> None:
    """Draw the first coordinate against score evaluations."""
    draw_line(axes, np.append(0, one.nfe.values), one.path.sel(axis=1).values, tone)
    mark_start(axes, 0, float(one.path[0, 0]))
    axes.set(xlim=(-8, float(one.nfe.max()) + 8), ylim=(-EXTENT, EXTENT), yticks=TICKS, xlabel="score evaluations")


def draw_phase(axes: Axes, one: xr.Dataset, tone: str) -> None:
    """Draw momentum against position, both along the first axis."""
    draw_line(axes, one.path.sel(axis=1).values[1:], one.momentum.sel(axis=1).values, tone)
    axes.set(xlim=(-EXTENT, EXTENT), ylim=(-3.6, 3.6), xticks=TICKS, yticks=(-2, 0, 2), xlabel="$x_1$ (length)")


@paper()
def draw() -> None:
    """Draw the stored data."""
    from matplotlib.figure import Figure

    data = xr.load_dataset(DATA)
    columns = len(KINETIC)
    figure = Figure(figsize=(TWO_COLUMNS, 6.8), layout="constrained")
    # An empty row separates the two halves.
    rows = figure.add_gridspec(5, columns, height_ratios=[3, 1.1, 0.02, 3, 1.6])
    grid = np.array([[figure.add_subplot(rows[row, column]) for column in range(columns)] for row in (0, 1, 3, 4)])
    for rank in range(2 * columns):
        one = data.isel(scheme=rank)
        row, column = divmod(rank, columns)
        tone = look(str(one.name.values)).colour
        draw_path(grid[2 * row, column], data, one, data.attrs["modes"], tone)
        (draw_phase if row else draw_strip)(grid[2 * row + 1, column], one, tone)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2, linewidth=0.5)
    for row, label in enumerate(("$x_2$ (length)", "$x_1$ (length)", "$x_2$ (length)", "$p_1$ (length/time)")):
        grid[row, 0].set_ylabel(label)
    for axes in grid[[0, 2]].flat:
        axes.set_xlabel("$x_1$ (length)")
    a = data.attrs
    figure.suptitle(
        f"Trajectories on {a['target']}: {a['steps']} steps of h = {a['h']:g}, one score evaluation per step, common "
        "random numbers\nCircle: start. Light to dark: time. Upper half: overdamped schemes, and $x_1$ against score "
        "evaluations\nLower half: kinetic schemes, and the same trajectory in phase space",
        fontsize="medium",
    )
    save(figure, *FIGURES)


def main() -> None:
    """Compute the data, store them, and draw the stored data."""
    store(study(), DATA)
    draw()

"""Page and figures: the quality of images of samplers, from the numbers that `analysis.quality_numbers` stores."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analysis import TWO_COLUMNS, paper, pictures
from analysis.quality_numbers import COMPARED, DATA, NEAR, QUALITY, VISITS
from analysis.quality_runs import (
    ALONE,
    ANNEALED,
    CHOSEN_AT,
    COSTS,
    ENDING,
    FIRST,
    FIXED,
    LANGEVIN,
    LAST,
    LEVELS,
    PAPER,
    PREDICTORS,
    REFINED,
    SCORES,
    SIGMA,
    STEPS,
    TRAINING,
    TRIALS,
    TRIED,
)
from uldnum._util.files import atomic
from uldnum.plotting import look, save

PAGE = Path(__file__).parent / "quality.md"
TITLES = {"exact": f"exact score of {TRAINING} digits", "network": "network"}

FRECHET = "Frechet distance"
SHORT = {
    "frechet": "FD",
    "frechet_nearest": "FD of nearest training digits",
    "kernel": "KD",
    "precision": "precision",
    "recall": "recall",
    "classes": "classes",
    "nearest_training": "closer",
    "changes": "changes",
    "visited": "visited",
}

# Corners of the two-by-two, and their markers and colours.
CORNERS = {
    "ALD": ("o", "#E69F00"),
    "longer step": ("s", "#0072B2"),
    "cold": ("v", "#56B4E9"),
    "longer and cold": ("D", "#009E73"),
    "MILD": ("d", "#9A4A79"),
}

# Colours and lines of the samplers of the first figure.
LINES = {
    "ALD, T = 1": ("#E69F00", "-", "o"),
    "ALD, T = 2": ("#E69F00", "--", "s"),
    "ALD, T = 3": ("#E69F00", "-.", "v"),
    "ALD, T = 5": ("#E69F00", ":", "D"),
    "ALD, 5 levels": ("#8B4513", "-", "P"),
    "MILD(0.38), T = 1": ("#9A4A79", "-", "o"),
    "MILD(0.38), T = 3": ("#9A4A79", "-.", "v"),
    "MILD(0.1), T = 5": ("#CC79A7", ":", "D"),
    "MILD(0.22), 5 levels": ("#5E1F43", "-", "P"),
    "BAOAB-limit": ("#009E73", "-", "p"),
    "BAOAB": ("#0072B2", "-", "s"),
    "OBABO": ("#56B4E9", "-", "D"),
    "ALD and DDIM": ("#D55E00", "-", "X"),
    "DDIM": ("0.0", "-", "<"),
    "Heun": ("0.3", "--", ">"),
    "DPM-Solver++(2M)": ("0.5", "-.", "^"),
}


def numbers_of(data: xr.Dataset, experiment: str, score: str) -> xr.Dataset:
    """Return the cells of an experiment on a score."""
    return data.isel(cell=np.flatnonzero((data.experiment == experiment) & (data.score == score)))


def shown(value: Any, error: Any) -> str:
    """Return a value with its standard error in two digits."""
    value, error = float(value), float(error)
    if np.isnan(value):
        return "-"
    if not np.isfinite(error):
        return f"{value:.3g}"
    digits = min(3, max(0, 1 - int(np.floor(np.log10(error))))) if error > 0 else 3
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def metric(one: xr.Dataset, name: str) -> str:
    """Return a metric of a cell as text."""
    return shown(one.value.sel(metric=name), one.error.sel(metric=name))


def distance_at_one_level(scheme: str, h: float) -> str:
    """Return the Frechet distance of a scheme at the single level of the network as text, empty if it is not stored."""
    part = numbers_of(xr.load_dataset(DATA), "level", "network")
    for one in cells_of(part):
        if FIXED.get(one.sampler.item()) == scheme and np.isclose(one.setting, h):
            return f"FD {metric(one, 'frechet')}"
    return ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def cells_of(part: xr.Dataset) -> list[xr.Dataset]:
    """Return the cells one by one."""
    return [part.isel(cell=i) for i in range(part.sizes["cell"])]


def floor_rows(data: xr.Dataset, score: str, names: Sequence[str], one_level: bool, blank: int) -> list[list[str]]:
    """Return the rows of the real images."""
    found = cells_of(numbers_of(data, "floor at one level" if one_level else "floor", score))
    return [[f"*{one.sampler.item()}*", *[""] * blank, *(metric(one, name) for name in names)] for one in found]


def cost_table(data: xr.Dataset, score: str) -> str:
    """Return Frechet distances against costs, and the other metrics at the cost of the second column."""
    part, rows = numbers_of(data, "cost", score), []
    costs, rest = COSTS[score], [name for name in QUALITY if score == "exact" or name != "frechet_nearest"][1:]
    for name in (*LANGEVIN, *PREDICTORS):
        mine = part.isel(cell=np.flatnonzero(part.sampler == name))
        if mine.sizes["cell"]:
            by_cost = {one.setting.item(): one for one in cells_of(mine)}
            h = f"{data.chosen_h.sel(langevin=name).item():g}" if name in LANGEVIN else ""
            row = [metric(by_cost[cost], "frechet") if cost in by_cost else "-" for cost in costs]
            middle = by_cost.get(costs[1])
            rows.append([name, h, *row, *("-" if middle is None else metric(middle, other) for other in rest)])
    for real in cells_of(numbers_of(data, "floor", score)):
        values = [metric(real, name) for name in rest]
        rows.append([f"*{real.sampler.item()}*", "", *[metric(real, "frechet")] * len(costs), *values])
    head = ["sampler", "h", *(f"FD, {cost}" for cost in costs), *(f"{SHORT[name]}, {costs[1]}" for name in rest)]
    return table(head, rows)


def groups_of(data: xr.Dataset, score: str) -> dict[str, dict[str, xr.Dataset]]:
    """Return the cells of the two-by-two: group -> corner -> cell."""
    found: dict[str, dict[str, xr.Dataset]] = {}
    for one in cells_of(numbers_of(data, "gain", score)):
        corner, _, group = one.sampler.item().partition(", ")
        found.setdefault(group, {})[corner] = one
    return found


def gain_table(data: xr.Dataset, score: str, name: str) -> str:
    """Return a metric of the corners of the two-by-two."""
    rows = []
    for group, cells in groups_of(data, score).items():
        rows.append([group, *(metric(cells[corner], name) if corner in cells else "-" for corner in CORNERS)])
    return table(["steps T, size h, momentum beta", *CORNERS], rows)


def effects(cells: dict[str, xr.Dataset], name: str) -> list[tuple[float, float]]:
    """Return the reductions of a metric by a longer step, by cold after it, by momentum after both, and in all."""
    values = {corner: (float(c.value.sel(metric=name)), float(c.error.sel(metric=name))) for corner, c in cells.items()}
    pairs = [("ALD", "longer step"), ("ALD", "cold"), ("longer step", "longer and cold"), ("longer and cold", "MILD")]
    pairs.append(("ALD", "MILD"))
    return [(values[a][0] - values[b][0], float(np.hypot(values[a][1], values[b][1]))) for a, b in pairs]


EFFECTS = ("longer step", "cold", "cold after longer step", "momentum after both", "all: MILD")


def effect_table(data: xr.Dataset, score: str) -> str:
    """Return the reductions of the Frechet distance between corners of the two-by-two."""
    rows = []
    for group, cells in groups_of(data, score).items():
        if len(cells) == len(CORNERS):
            rows.append([group, *(shown(*pair) for pair in effects(cells, "frechet"))])
    return table(["steps T, size h, momentum beta", *EFFECTS], rows)


LEVEL_METRICS = ("frechet", "kernel", "precision", "recall", "classes", "changes", "visited")


def best(part: xr.Dataset, name: str) -> xr.Dataset:
    """Return the cell of a sampler with the least Frechet distance."""
    mine = part.isel(cell=np.flatnonzero(part.sampler == name))
    return mine.isel(cell=int(np.argmin(mine.value.sel(metric="frechet").values)))


def level_table(data: xr.Dataset, score: str) -> str:
    """Return the numbers of schemes at one level, each at its best step size."""
    part = numbers_of(data, "level", score)
    rows = []
    for name in dict.fromkeys(part.sampler.values.tolist()):
        one = best(part, name)
        rows.append([name, f"{one.setting.item():g}", *(metric(one, other) for other in LEVEL_METRICS)])
    rows += floor_rows(data, score, LEVEL_METRICS, one_level=True, blank=1)
    return table(["scheme", "h/sigma", *(SHORT[name] for name in LEVEL_METRICS)], rows)


FINAL_METRICS = ("frechet", "kernel", "precision", "recall", "classes", "nearest_training")


def final_table(data: xr.Dataset, score: str) -> str:
    """Return the numbers of images after refinement and after all levels."""
    rows = [
        [one.sampler.item(), f"{one.nfe.item():g}", *(metric(one, name) for name in FINAL_METRICS)]
        for one in cells_of(numbers_of(data, "final", score))
    ]
    rows += floor_rows(data, score, FINAL_METRICS, one_level=False, blank=1)
    return table(["sampler", "NFE", *(SHORT[name] for name in FINAL_METRICS)], rows)


def eta_table(data: xr.Dataset, score: str) -> str:
    """Return the numbers of noise-denoise for every eta."""
    rows = [
        [f"{one.setting.item():g}", *(metric(one, name) for name in LEVEL_METRICS)]
        for one in cells_of(numbers_of(data, "eta", score))
    ]
    rows += floor_rows(data, score, LEVEL_METRICS, one_level=True, blank=0)
    return table(["eta", *(SHORT[name] for name in LEVEL_METRICS)], rows)


def band(axes: Any, data: xr.Dataset, score: str, experiment: str, name: str, across: bool = True) -> None:
    """Mark the values of real images within two standard errors: dark exact draws, light held-out digits."""
    draw_span, draw_line = (axes.axhspan, axes.axhline) if across else (axes.axvspan, axes.axvline)
    for one in cells_of(numbers_of(data, experiment, score)):
        value, error = (float(part.sel(metric=name)) for part in (one.value, one.error))
        style = "-" if one.sampler.item() == "held-out digits" else ":"
        draw_span(value - 2 * error, value + 2 * error, color="0.5", alpha=0.15, linewidth=0, zorder=0)
        draw_line(value, color="0.4", linestyle=style, linewidth=0.9, zorder=0)


def draw_cost(data: xr.Dataset) -> None:
    """Draw Frechet distances against costs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(TWO_COLUMNS, 3.4), layout="constrained")
    for axes, score in zip(figure.subplots(1, 2), SCORES, strict=True):
        part = numbers_of(data, "cost", score)
        for name, (colour, line, marker) in LINES.items():
            mine = part.isel(cell=np.flatnonzero(part.sampler == name)).sortby("nfe")
            if mine.sizes["cell"]:
                value, error = (x.sel(metric="frechet") for x in (mine.value, mine.error))
                axes.errorbar(mine.nfe, value, 2 * error, color=colour, linestyle=line, marker=marker,
                              elinewidth=0.6, label=name)  # fmt: skip
        band(axes, data, score, "floor", "frechet")
        axes.set(xscale="log", xlabel="score evaluations per image")
        axes.set_yscale("symlog", linthresh=1, linscale=0.8)
        axes.set_ylim(-0.7, 2 * axes.dataLim.y1)
        axes.set_xticks(COSTS[score], [str(cost) for cost in COSTS[score]], minor=False)
        axes.minorticks_off()
        axes.set_title(f"{TITLES[score]}, {ANNEALED[score]} images")
        axes.grid(alpha=0.25, linewidth=0.5)
    figure.axes[0].set_ylabel("Frechet distance, extrapolated")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(
        "± 2 standard errors. Grey: real images; solid held-out digits, dotted exact draws", fontsize="medium"
    )
    save(figure, *pictures("quality-cost"))


def draw_gain(data: xr.Dataset) -> None:
    """Draw the two-by-two of step and temperature."""
    from matplotlib.figure import Figure

    panels = [("exact", "frechet"), ("exact", "frechet_nearest"), ("network", "frechet")]
    figure = Figure(figsize=(TWO_COLUMNS, 3), layout="constrained")
    for axes, (score, name) in zip(figure.subplots(1, 3), panels, strict=True):
        groups = groups_of(data, score)
        for place, cells in enumerate(groups.values()):
            for i, (corner, (marker, colour)) in enumerate(CORNERS.items()):
                if corner in cells:
                    value, error = (float(x.sel(metric=name)) for x in (cells[corner].value, cells[corner].error))
                    axes.errorbar(value, place + 0.14 * (i - 2), xerr=2 * error, color=colour, marker=marker,
                                  linestyle="", label=corner if place == 0 else None)  # fmt: skip
        band(axes, data, score, "floor", name, across=False)
        axes.set_xscale("symlog", linthresh=1, linscale=0.6)
        axes.set_xlim(-0.7, 2 * axes.dataLim.x1)
        labels = [group.replace(", beta = ", ",\nbeta = ") for group in groups]
        # The first two panels have the same groups.
        axes.set_yticks(range(len(groups)), labels if name == "frechet" else [])
        axes.invert_yaxis()
        of = ":\nnearest training digits" if name != "frechet" else ":\nimages"
        axes.set_title(TITLES[score] + of)
        axes.set_xlabel("Frechet distance, extrapolated")
        axes.grid(alpha=0.25, linewidth=0.5)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle(f"{LEVELS} levels of T steps, ± 2 standard errors. Grey: real images", fontsize="medium")
    save(figure, *pictures("quality-gain"))


def draw_level(data: xr.Dataset) -> None:
    """Draw the quality at one level against the step size."""
    from matplotlib.figure import Figure

    colours = {name: look({"overdamped (ULA)": "ula", "naive": "noise-denoise(1)", "BAOAB-limit": "baoab-limit"}
                          .get(name, name)) for name in FIXED}  # fmt: skip
    figure = Figure(figsize=(TWO_COLUMNS, 4.2), layout="constrained")
    grid = figure.subplots(2, 4, sharex=True)
    for row, score in zip(grid, SCORES, strict=True):
        part = numbers_of(data, "level", score)
        for axes, name in zip(row, ("frechet", "precision", "recall", "changes"), strict=True):
            for sampler in dict.fromkeys(part.sampler.values.tolist()):
                mine = part.isel(cell=np.flatnonzero(part.sampler == sampler)).sortby("setting")
                one, adaptive = colours[sampler.removesuffix(", adaptive")], sampler.endswith("adaptive")
                value, error = (x.sel(metric=name) for x in (mine.value, mine.error))
                axes.errorbar(mine.setting, value, 2 * error, color=one.colour, marker=one.marker, markersize=4,
                              linestyle="--" if adaptive else "-", linewidth=1.1, elinewidth=0.8, label=sampler,
                              fillstyle="none" if adaptive else "full")  # fmt: skip
            if name != "changes":
                band(axes, data, score, "floor at one level", name)
            n = f"\n(k = 5, n = {COMPARED[score]})" if name in ("precision", "recall") else ""
            axes.set_title({"changes": "changes of class per\n1000 evaluations"}.get(name, SHORT[name] + n))
            axes.grid(alpha=0.25, linewidth=0.5)
            if name == "changes":
                axes.set_ylim(bottom=0)
            if name == "frechet":
                axes.set_yscale("symlog", linthresh=2, linscale=1)
        row[0].set_ylabel(f"{TITLES[score]},\nsigma = {SIGMA[score]:g}")
    for axes in grid[-1]:
        axes.set_xlabel("step size h/sigma")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle("One noise level, ± 2 standard errors. Grey: real images, noised and denoised; solid held-out "
                    "digits, dotted exact draws", fontsize="medium")  # fmt: skip
    save(figure, *pictures("quality-level"))


def draw_pictures(data: xr.Dataset, score: str) -> None:
    """Draw the last images of chains for every eta, with numbers under each column."""
    from matplotlib.figure import Figure

    cells, images = cells_of(numbers_of(data, "eta", score)), data[f"eta_{score}"].values
    figure = Figure(figsize=(TWO_COLUMNS, 6.3), layout="compressed")
    for axes, one, column in zip(figure.subplots(1, len(cells)), cells, images, strict=True):
        axes.imshow(column.reshape(-1, column.shape[-1]), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(f"eta = {one.setting.item():g}")
        lines = [f"{SHORT[name]}\n{metric(one, name)}" for name in ("frechet", "precision", "recall", "changes")]
        axes.set_xlabel("\n".join(lines))
        axes.set(xticks=[], yticks=[])
    real = " and ".join(
        f"{one.sampler.item()} {metric(one, 'frechet')}"
        for one in cells_of(numbers_of(data, "floor at one level", score))
    )
    figure.suptitle(
        f"{TITLES[score]}, sigma = {SIGMA[score]:g}, noise-denoise(eta). FD of {real}.\nChanges of class per 1000 "
        "evaluations", fontsize="medium",
    )  # fmt: skip
    with atomic(pictures(f"quality-eta-{score}")[0]) as file:
        figure.savefig(file, dpi=200)


def draw_nearest(data: xr.Dataset) -> None:
    """Draw samples above their nearest training images."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(TWO_COLUMNS, 2.9), layout="constrained")
    for axes, score in zip(figure.subplots(2, 1), SCORES, strict=True):
        pair = data[f"nearest_{score}"].values
        axes.imshow(np.concatenate([np.concatenate(list(row), axis=1) for row in pair]), cmap="gray", vmin=0, vmax=255)
        axes.set_axis_off()
        axes.set_title(f"{TITLES[score]}: samples, and the nearest training image below each")
    with atomic(pictures("quality-nearest")[0]) as file:
        figure.savefig(file, dpi=200)


@paper()
def draw() -> None:
    """Draw the stored data."""
    data = xr.load_dataset(DATA)
    draw_cost(data)
    draw_gain(data)
    draw_level(data)
    for score in SCORES:
        draw_pictures(data, score)
    draw_nearest(data)


def page(data: xr.Dataset) -> str:
    """Return the page."""
    tables: dict[str, str] = {}
    for score in SCORES:
        tables |= {
            f"cost_{score}": cost_table(data, score),
            f"gain_{score}": gain_table(data, score, "frechet"),
            f"nearest_{score}": gain_table(data, score, "frechet_nearest"),
            f"effects_{score}": effect_table(data, score),
            f"level_{score}": level_table(data, score),
            f"final_{score}": final_table(data, score),
            f"eta_{score}": eta_table(data, score),
        }
    return wrapped(TEXT.format(**tables, **settings(), v=values(data)))


def wrapped(text: str) -> str:
    """Return text with paragraphs and items of lists in lines of at most 120 characters."""
    found: list[str] = []
    for block in text.strip().split("\n\n"):
        if block[0] in "|!#`":
            found.append(block)
            continue
        items = block.replace("\n* ", "\0* ").split("\0")
        lines = [
            textwrap.fill(
                " ".join(item.split()), 120, subsequent_indent="  " * item.startswith("* "), break_on_hyphens=False
            )
            for item in items
        ]
        found.append("\n".join(lines))
    return "\n\n".join(found) + "\n"


def values(data: xr.Dataset) -> dict[str, str]:
    """Return the numbers of the text: of every cell, and the reductions of the two-by-two."""
    found: dict[str, str] = {}
    for one in cells_of(data):
        words = (*(one[name].item() for name in ("experiment", "score", "sampler")), f"{one.setting.item():g}")
        found |= {"|".join((*words, name)): metric(one, name) for name in SHORT}
    for score in SCORES:
        for group, cells in groups_of(data, score).items():
            if len(cells) == len(CORNERS):
                parts = zip(EFFECTS, effects(cells, "frechet"), strict=True)
                found |= {f"effect|{score}|{group}|{name}": shown(*pair) for name, pair in parts}
    return found


def settings() -> dict[str, Any]:
    """Return the settings of the runs that the text states."""
    tables: dict[str, dict[str, Any]] = {"annealed": ANNEALED, "alone": ALONE, "sigma": SIGMA, "n": COMPARED}
    tables["steps"] = STEPS
    found: dict[str, Any] = {f"{name}_{score}": tables[name][score] for name in tables for score in SCORES}
    found |= {"first": FIRST, "last": LAST, "training": TRAINING, "levels": LEVELS, "paper": PAPER}
    found |= {"near": NEAR, "chosen_at": CHOSEN_AT, "trials": TRIALS, "tried": ", ".join(f"{h:g}" for h in TRIED)}
    return found | {"visits": VISITS, "ending": ENDING, "refined": REFINED, "rest": ENDING - REFINED}


def main() -> None:
    """Write the page and draw the figures from the stored data."""
    with atomic(PAGE) as file:
        file.write_text(page(xr.load_dataset(DATA)), encoding="utf-8")
    draw()


TEXT = """# Quality of images: claims of two papers, measured on digits

*Written by `python -m analysis quality`; the numbers are those of `data/quality.nc`.*

**MILD** (Shetty et al. 2024) is said to need 2 to 5 times fewer evaluations than annealed Langevin dynamics (ALD)
for the same FID.

* At equal cost MILD is better where ALD takes too few or too small steps. With 32 levels of 3 steps at h = 0.5, the
  Frechet distance (FD) of MILD is {v[gain|exact|MILD, T = 3, h = 0.5, beta = 0.38|0|frechet]} instead of
  {v[gain|exact|ALD, T = 3, h = 0.5, beta = 0.38|0|frechet]} on the exact score, and
  {v[gain|network|MILD, T = 3, h = 0.5, beta = 0.38|0|frechet]} instead of
  {v[gain|network|ALD, T = 3, h = 0.5, beta = 0.38|0|frechet]} on the network. With one step a level, each with its
  best step size on the exact score, MILD has {v[cost|exact|MILD(0.38), T = 1|48|frechet]} at 48 evaluations, which
  ALD does not reach at 144 ({v[cost|exact|ALD, T = 1|144|frechet]}). At 16 evaluations ALD is better
  ({v[cost|exact|ALD, T = 1|16|frechet]} and {v[cost|exact|MILD(0.38), T = 1|16|frechet]}).
* The gain comes from a longer step and from a lower temperature, and not from momentum. ALD with the step and the
  temperature of MILD has an FD of {v[gain|exact|longer and cold, T = 3, h = 0.5, beta = 0.38|0|frechet]} on the
  exact score and {v[gain|network|longer and cold, T = 3, h = 0.5, beta = 0.38|0|frechet]} on the network; the
  longer step alone has {v[gain|exact|longer step, T = 3, h = 0.5, beta = 0.38|0|frechet]} and
  {v[gain|network|longer step, T = 3, h = 0.5, beta = 0.38|0|frechet]}, and the temperature alone
  {v[gain|exact|cold, T = 3, h = 0.5, beta = 0.38|0|frechet]} and
  {v[gain|network|cold, T = 3, h = 0.5, beta = 0.38|0|frechet]}.
* Where the steps of ALD suffice there is no gain. With 3 steps of size h = 1 at each level, the FD on the exact
  score is {v[gain|exact|ALD, T = 3, h = 1, beta = 0.38|0|frechet]} for ALD and
  {v[gain|exact|MILD, T = 3, h = 1, beta = 0.38|0|frechet]} for MILD (exact draws
  {v[floor|exact|exact draws|0|frechet]}). On the network, ALD with 1 step of this size has
  {v[gain|network|ALD, T = 1, h = 1, beta = 0.38|0|frechet]}, ALD at the lower temperature
  {v[gain|network|cold, T = 1, h = 1, beta = 0.38|0|frechet]}, and MILD
  {v[gain|network|MILD, T = 1, h = 1, beta = 0.38|0|frechet]}. At 48 evaluations ALD has
  {v[cost|network|ALD, T = 1|48|frechet]} and BAOAB, at the right temperature, {v[cost|network|BAOAB|48|frechet]}.
  Held-out digits have {v[floor|network|held-out digits|0|frechet]}.

**Jain & Poole** (2022) report that overdamped Langevin and noise-denoise sampling at a single noise level give poor
images, that splitting schemes of underdamped Langevin dynamics perform well, that one chain shows many images, and
that a multiscale sampler improves them.

* For noise-denoise the claim holds. The least FD of naive sampling over five step sizes is
  {v[level|exact|naive|2|frechet]} on the exact score (exact draws
  {v[floor at one level|exact|exact draws|0|frechet]}). On the network its FD is not resolved
  ({v[level|network|naive|1.3|frechet]}), but its recall is at most {v[level|network|naive|2|recall]}, against
  {v[floor at one level|network|held-out digits|0|recall]} for real images. The overdamped scheme is poor at large
  steps only. At h = 0.5 its FD is {v[level|exact|overdamped (ULA)|0.5|frechet]} and
  {v[level|network|overdamped (ULA)|0.5|frechet]}, and at h = 1.3 {v[level|exact|overdamped (ULA)|1.3|frechet]} and
  {v[level|network|overdamped (ULA)|1.3|frechet]}.
* For splitting schemes the claim holds for BAOAB and BAOAB-limit. Up to h = 1.3 their FD on the exact score is at
  most {v[level|exact|BAOAB|0.5|frechet]} and {v[level|exact|BAOAB-limit|0.5|frechet]}, and at h = 1.7 it is
  {v[level|exact|BAOAB|1.7|frechet]} and {v[level|exact|BAOAB-limit|1.7|frechet]}. OBABO has
  {v[level|exact|OBABO|0.5|frechet]} at h = 0.5, but {v[level|exact|OBABO|1.3|frechet]} at h = 1.3, like the
  overdamped scheme.
* Chains of BAOAB at h = 1.3 change their class {v[level|exact|BAOAB|1.3|changes]} times per 1000 evaluations on the
  exact score, and {v[level|network|BAOAB|1.3|changes]} times on the network; the overdamped scheme at h = 0.5
  changes {v[level|exact|overdamped (ULA)|0.5|changes]} and {v[level|network|overdamped (ULA)|0.5|changes]} times.
  DDIM afterwards makes images sharp but keeps the bias: naive sampling remains at
  {v[final|exact|naive, then DDIM|2|frechet]}, against {v[final|exact|overdamped (ULA), then DDIM|0.9|frechet]}
  after the overdamped scheme at h = 0.9, {v[final|exact|BAOAB-limit, then DDIM|1.3|frechet]} after BAOAB-limit at h
  = 1.3, and {v[final|exact|BAOAB-limit, annealed|1|frechet]} through all levels at equal cost.

## What is measured

* **Two scores.** The *network* is the included network of digits. The *exact score* is that of the uniform
  distribution on the first {training} training digits. It memorises by construction, because its only images are
  these digits. It has no error of training, so any difference from these digits is an error of the sampler.
* **The last step.** Plans run through noise levels from {first:g} to {last:g}. On the network they end with a
  denoising step. On the exact score this step would replace every state, however noisy, by the nearest training
  digit. It is left out, so that the FD contains the noise that is left. A second number, the FD of the nearest
  training digits, is what the step would give. It shows whether the digits are chosen with the right frequencies.
* **FD** is the Frechet distance of the 64 features of the included classifier of digits, extrapolated to an
  infinite number of images (Chong & Forsyth 2020). It is not an FID, and it may be negative by chance. **KD** is
  the kernel distance. **Precision** and **recall** have k = 5 and n = {n_exact} (exact score) or n = {n_network}
  (network), and can be compared with equal n only. **Classes** is the total variation distance between the
  distributions over the ten digits, which is positive at finite n. **Closer** is the probability that a sample is
  closer to a training digit than a held-out digit is. It is 0.5 for new digits and 1 for copies. On the network,
  the nearest of {near} random training digits counts.
* **Real images** stand beside the samples. *Held-out digits* are digits of other writers. *Exact draws* come from
  the distribution that is sampled; on the exact score they have the noise of the last level. A sampler is better
  than exact draws only by chance, or by an error that the number rewards.
* **Errors** are standard errors. For chains at one level they come from whole chains. Cells have different random
  numbers, so the errors of differences add up in squares. Every cell was run once.

![Samples and their nearest training images](../figures/quality-nearest.png)

## 1. Frechet distance against evaluations

Every Langevin sampler has the step size h, in units of sigma, with the least distance among {tried} at {chosen_at}
evaluations on the exact score, for {trials} images and without extrapolation. The same h is used at all costs and
on the network, where it need not be the best. T is the number of steps at a level, and the number of levels follows
from the cost.

![Frechet distance against evaluations](../figures/quality-cost.png)

The exact score, {annealed_exact} images:

{cost_exact}

The network, {annealed_network} images:

{cost_network}

On the exact score the FD of BAOAB, DDIM, Heun and DPM-Solver++ is within two standard errors of exact draws from 48
evaluations on. At 48 evaluations it is {v[cost|exact|ALD, T = 1|48|frechet]} for ALD and
{v[cost|exact|MILD(0.38), T = 1|48|frechet]} for MILD with T = 1, and at 144 evaluations
{v[cost|exact|ALD, T = 1|144|frechet]} and {v[cost|exact|MILD(0.38), T = 1|144|frechet]}. With T = 5 it is
{v[cost|exact|ALD, T = 5|48|frechet]} and {v[cost|exact|MILD(0.1), T = 5|48|frechet]}, and
{v[cost|exact|ALD, T = 5|144|frechet]} and {v[cost|exact|MILD(0.1), T = 5|144|frechet]}. On the network, MILD with T
= 1 at 48 evaluations has {v[cost|network|MILD(0.38), T = 1|48|frechet]}, ALD with T = 1
{v[cost|network|ALD, T = 1|48|frechet]}, and at 16 evaluations MILD {v[cost|network|MILD(0.38), T = 1|16|frechet]}
and ALD {v[cost|network|ALD, T = 1|16|frechet]}.

## 2. What the gain of MILD is

Apart from its momentum, MILD with step delta and momentum beta is overdamped Langevin dynamics with step delta/(1 -
beta) at the temperature 1 - beta ([derivation](temperature.md)). The table separates the three: ALD with the longer
step, with the lower temperature, with both, and MILD. All have {levels} levels and equal cost. h = {paper:g} is the
step of the presets of the papers.

![The two-by-two of step and temperature](../figures/quality-gain.png)

FD on the exact score, and FD of the nearest training digits:

{gain_exact}

{nearest_exact}

FD on the network:

{gain_network}

By how much the FD falls, on the exact score and on the network. *Cold* is the fall from ALD, and *cold after longer
step* that from ALD with the longer step:

{effects_exact}

{effects_network}

A longer step and a lower temperature both lower the FD in most groups, and which of them is more important depends
on the step and on the score. Momentum changes the FD by more than two standard errors in two of ten groups: by
{v[effect|exact|T = 1, h = 0.352, beta = 0.38|momentum after both]} where all five fail, and by
{v[effect|network|T = 1, h = 1, beta = 0.38|momentum after both]}, an increase, on the network at h = 1. In the
first group it changes it by {v[effect|exact|T = 3, h = 0.5, beta = 0.38|momentum after both]} and
{v[effect|network|T = 3, h = 0.5, beta = 0.38|momentum after both]}. A lower temperature is no gain in itself: at h
= 1 and T = 3 on the exact score, the FD falls by {v[effect|exact|T = 3, h = 1, beta = 0.38|cold]}. This agrees with
the explanation that it compensates for noise that too few steps leave, and for the variance of overdamped Langevin
steps, which is too large at large steps.

## 3. One noise level

Chains start from noise at the level sigma = {sigma_exact:g} (exact score) or {sigma_network:g} (network, the level
of its card). {alone_exact} chains take {steps_exact} steps, or {alone_network} chains {steps_network}. Every tenth
state of the second half is denoised. Real images are noised and denoised in the same way. In the tables each scheme
has the step size with the least FD, which makes this FD smaller by chance. *Naive* is noise-denoise(1), and its own
step is h = 2 sigma. *Changes* are changes of class per 1000 evaluations, and *visited* is the share of the ten
classes that a chain shows in {visits} evaluations.

![Quality at one noise level against the step size](../figures/quality-level.png)

The exact score:

{level_exact}

The network:

{level_network}

Images without noise at {ending} evaluations, {rest} of them at one level and {refined} of DDIM, or the same cost
through all levels. The exact score and the network:

{final_exact}

{final_network}

## 4. eta from 0.25 to 2

The chains are those of noise-denoise(eta) at its own step h = 2 sigma. eta = 1 is naive sampling, at half the
temperature. eta = 2 is BAOAB-limit.

![Chains on the exact score for eight eta](../figures/quality-eta-exact.png)
![Chains on the network for eight eta](../figures/quality-eta-network.png)

The exact score:

{eta_exact}

The network:

{eta_network}

On the exact score the FD is smallest for eta = 1.25 to 1.75 ({v[eta|exact|noise-denoise|1.75|frechet]} at 1.75),
and larger at eta = 1 ({v[eta|exact|noise-denoise|1|frechet]}) and at eta = 2
({v[eta|exact|noise-denoise|2|frechet]}). At eta = 2 it is the step that is too long: BAOAB-limit at h = 1.7 has
{v[level|exact|BAOAB-limit|1.7|frechet]}. On the network, FDs have errors of up to 3. The recall rises from
{v[eta|network|noise-denoise|0.25|recall]} at eta = 0.25 to {v[eta|network|noise-denoise|2|recall]} at eta = 2, and
real images have {v[floor at one level|network|held-out digits|0|recall]}.

## What was not done

* The network has {annealed_network} images a cell and {alone_network} chains at one level, a quarter and an eighth
  of those of the exact score, and no cells at 144 evaluations. A GPU would make
  1024 images of each, and step sizes chosen on the network.
* No FID was measured, and no other data: the claims of the papers concern CIFAR-10 and CelebA. Classes and features
  are those of one classifier of digits.
* The equilibrium of chains at one level was not tested. The half of each trace that is left out suffices for BAOAB
  on the exact score, whose FD at h = 0.9 agrees with that of exact draws.

The following command runs the cells that FOLDER does not contain and computes the numbers. A second argument is the
number of batches of chains of each cell, which is 1 by default:

```sh
python -m analysis.quality_numbers FOLDER
```
"""

"""The figure of a frontier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from uldnum.extras import require
from uldnum.plotting.style import MARKERS, colour, plain_ticks, save
from uldnum.typing import Array

__all__ = ["draw_frontier"]

METRIC = "second_moment"


def draw_frontier(data: Path | Sequence[Path], *out: Path) -> None:
    """Draw the cost of an independent sample against the bias, from stored frontiers.

    Parameters
    ----------
    data : Path, or sequence of them
        NetCDF files of `uldnum.studies.frontier`, a panel for each.
    *out : Path
        Images to write; suffixes decide the formats.
    """
    require("matplotlib", "plot")
    from matplotlib.figure import Figure

    studies = [xr.load_dataset(one) for one in ([data] if isinstance(data, Path) else data)]
    names = list(dict.fromkeys(str(name) for study in studies for name in study.integrator.values))
    figure = Figure(figsize=(3.2 + 4.2 * len(studies), 5), layout="constrained")
    for axes, study in zip(np.atleast_1d(figure.subplots(1, len(studies))), studies, strict=True):
        axes.set(xscale="log", yscale="log")
        one = study.sel(metric=METRIC)
        floor = float(np.maximum(one.floor, one.error).median())
        for rank, name in enumerate(names):
            if name in study.integrator.values:
                tone, marker = colour(name, rank), MARKERS[rank % len(MARKERS)]
                curves(axes, one.sel(integrator=name), tone, marker, floor)
        axes.axvspan(axes.get_xlim()[0], floor, color="0.5", alpha=0.12, linewidth=0)
        axes.set_xlim(left=floor / 3)
        plain_ticks(axes)
        axes.grid(alpha=0.25, which="both", linewidth=0.5)
        axes.set(xlabel="bias of the second moment (standard deviations of x²)", title=study.attrs["target"])
        axes.set_ylabel("score evaluations for an independent sample")
    figure.legend(handles=handles(names, studies), loc="outside right center", frameon=False, fontsize=8.5)
    figure.suptitle("What accuracy costs, as step size and friction vary: lower left is best", fontsize=10)
    save(figure, *out)


def curves(axes: Any, one: xr.Dataset, tone: str, marker: str, floor: float) -> None:
    """Draw an integrator: a curve in h for each friction, and its lower envelope."""
    for friction in one.friction.values:
        at = one.sel(friction=friction)
        axes.plot(np.maximum(at.exact, floor / 3), at.exact_cost, color=tone, linewidth=0.8, alpha=0.5)
        good = (at.cost_resolved & (at.diverged == 0)).values
        axes.plot(np.maximum(at.bias, floor / 3)[good], at.cost[good], marker, color=tone, markersize=3.2, alpha=0.5)
        bound = (~at.cost_resolved & (at.diverged == 0)).values
        axes.plot(
            np.maximum(at.bias, floor / 3)[bound], at.cost[bound], "^", color=tone, markersize=4.5,
            markerfacecolor="white",
        )  # fmt: skip
    axes.plot(*envelope(one, floor), color=tone, linewidth=2, drawstyle="steps-post")


def envelope(one: xr.Dataset, floor: float) -> tuple[Array, Array]:
    """Return the least cost of what has at most a bias, as that grows; a sampled one below the floor may be there."""
    use = (one.cost_resolved & (one.diverged == 0)).values.ravel()
    shown = np.where(one.exact.notnull(), np.maximum(one.exact, floor / 3), np.maximum(one.bias, floor))
    bias = shown.ravel()[use]
    cost = one.cost.values.ravel()[use]
    order = np.argsort(bias)
    least = np.minimum.accumulate(cost[order])
    kept = np.flatnonzero(np.diff(least, prepend=np.inf) < 0)
    return bias[order][kept], least[kept]


def handles(names: Sequence[str], studies: Sequence[xr.Dataset]) -> list[Any]:
    """Name the integrators, and what lines and marks mean."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    named: list[Any] = [
        Line2D([], [], color=colour(name, rank), marker=MARKERS[rank % len(MARKERS)], markersize=4.5, label=name)
        for rank, name in enumerate(names)
    ]
    named.append(Line2D([], [], color="0.3", marker="o", linestyle="", markersize=3.2, label="sampled"))
    if any(bool(study.exact_cost.notnull().any()) for study in studies):
        named.append(Line2D([], [], color="0.3", linewidth=0.8, label="thin: exact, one friction"))
    named.append(Line2D([], [], color="0.3", linewidth=2, label="thick: least cost up to a bias"))
    if not all(bool(study.cost_resolved.all()) for study in studies):
        style: dict[str, Any] = {"marker": "^", "linestyle": "", "markerfacecolor": "white", "markersize": 4.5}
        named.append(Line2D([], [], color="0.3", label="a lower bound of the cost", **style))
    named.append(Patch(color="0.5", alpha=0.12, label="below the noise"))
    return named

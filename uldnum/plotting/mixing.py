"""The figure of a mixing study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from uldnum.diagnostics.metrics import COST
from uldnum.plotting.style import (
    curve,
    image_paths,
    integrator_handles,
    literal_text,
    look,
    mark_divergence,
    plain_ticks,
    save,
    stored_study,
)

__all__ = ["draw_mixing"]


@literal_text()
def draw_mixing(data: Path, *out: Path) -> None:
    """Draw autocorrelation times against step size from a stored mixing study, with one panel for each friction.

    Parameters
    ----------
    data : Path or str
        NetCDF file with a dataset of `uldnum.studies.mixing`.
    *out : Path or str
        Image files to write; their suffixes determine the formats.

    Raises
    ------
    ValueError
        If the file is not a stored mixing study, or Matplotlib does not support a suffix.
    MissingExtraError
        If the extra ``plot`` is not installed.
    """
    from matplotlib.figure import Figure

    study, out = stored_study(data, ("mixing",)).sortby("h"), tuple(image_paths(out))
    frictions = study.friction.values
    figure = Figure(figsize=(max(7.0, 4.1 * len(frictions)), 5.8), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(frictions), sharex=True, sharey=True))
    for axes, friction in zip(panels, frictions, strict=True):
        axes.set(xscale="log", yscale="log")
        for rank, name in enumerate(map(str, study.integrator.values)):
            one = study.sel(integrator=name, friction=friction)
            times(axes, one, *look(name, rank), rank)
        plain_ticks(axes)
        axes.set_title(f"friction {friction:.3g}", fontsize=11, fontweight="bold")
        axes.grid(alpha=0.25, which="both", linewidth=0.5)
    panels[len(panels) // 2].set_xlabel("step size h  (delta = h²/2)", fontsize=11)
    panels[0].set_ylabel(COST.label, fontsize=11)
    columns = 4 if len(panels) < 3 else 5
    figure.legend(handles=handles(study), loc="outside lower center", ncols=columns, frameon=False, fontsize=9.5)
    a = study.attrs
    figure.suptitle(
        f"How fast chains mix on {a['target']}, however biased: autocorrelation time, the longer of x's and x²'s\n"
        f"{a['chains']:,} chains of {a['nfe_recorded']:,} score evaluations",
        fontsize=12 if len(panels) > 2 else 9,
    )
    save(figure, *out)


def times(axes: Any, one: xr.Dataset, tone: str, marker: str, rank: int) -> None:
    """Draw the times of one integrator: exact curve, points, lower bounds and divergence."""
    curve(axes, one.h, one.exact_cost, color=tone, linewidth=1.5)
    time, error, sure = one.cost, one.cost_error, one.cost_resolved.values
    if not one.exact_cost.notnull().any():
        axes.plot(one.h, time, color=tone, linewidth=0.8, alpha=0.6)
    # White edges separate overlapping markers.
    axes.errorbar(
        one.h[sure], time[sure], yerr=2 * error[sure], fmt=marker, color=tone, markersize=5.5, elinewidth=1,
        markeredgecolor="white", markeredgewidth=0.6,
    )  # fmt: skip
    axes.plot(one.h[~sure], time[~sure], "^", color=tone, markersize=5, markerfacecolor="white")
    mark_divergence(axes, one, tone, rank)


def handles(study: xr.Dataset) -> list[Any]:
    """Return the legend entries: integrators and markers."""
    from matplotlib.lines import Line2D

    named = integrator_handles(study.integrator.values, markersize=4.5)
    if bool(study.exact_cost.notnull().any()):
        named.append(Line2D([], [], color="0.3", linewidth=1.3, label="line: exact"))
    named.append(Line2D([], [], color="0.3", marker="o", linestyle="", markersize=4.5, label="sampled, ± 2 errors"))
    if bool(study.lost.any()):
        named.append(Line2D([], [], color="0.3", marker="x", linestyle="", label="diverged or unstable"))
    if bool((~study.cost_resolved & study.cost.notnull()).any()):
        style: dict[str, Any] = {"marker": "^", "linestyle": "", "markerfacecolor": "white", "markersize": 5}
        named.append(Line2D([], [], color="0.3", label="a lower bound", **style))
    return named

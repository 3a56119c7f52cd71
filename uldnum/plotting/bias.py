"""The figure of a bias study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from uldnum.plotting.style import (
    SEEN,
    curve,
    image_paths,
    integrator_handles,
    literal_text,
    look,
    mark_divergence,
    plain_ticks,
    save,
    stored_study,
    title_of,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_bias"]


@literal_text()
def draw_bias(data: Path, *out: Path) -> None:
    """Draw bias against step size from a stored bias study.

    Parameters
    ----------
    data : Path or str
        NetCDF file with a dataset of `uldnum.studies.bias` or `uldnum.studies.exact_bias`.
    *out : Path or str
        Image files to write; their suffixes determine the formats.

    Raises
    ------
    ValueError
        If the file is not a stored bias study, or Matplotlib does not support a suffix.
    MissingExtraError
        If the extra ``plot`` is not installed.
    """
    from matplotlib.figure import Figure

    study, out = one_axis(stored_study(data, ("bias",)).sortby("h")), tuple(image_paths(out))
    metrics = [str(name) for name in study.metric.values]
    rows = -(-len(metrics) // 2)
    figure = Figure(figsize=(11, 3.5 * rows), layout="constrained")
    panels = list(figure.subplots(rows, 2, sharex=True, squeeze=False).flat)
    for axes in panels[len(metrics) :]:
        axes.set_axis_off()
    for axes, metric in zip(panels[: len(metrics)], metrics, strict=True):
        panel = study.sel(metric=metric)
        axes.set(xscale="log", yscale="log")
        low, high = limits(panel)
        if np.isfinite(low) and low > 0:
            axes.set_ylim(low, max(high, 30 * low))
        for rank, name in enumerate(map(str, study.integrator.values)):
            one, style = panel.sel(integrator=name), look(name, rank)
            exact_curve(axes, one, *style, alone="bias" not in study)
            if "bias" in study:
                sampled_points(axes, one, *style, rank)
        axes.set_xlim(float(study.h.min()) / 1.08, float(study.h.max()) * 1.08)
        plain_ticks(axes)
        axes.set_title(title_of(metric), fontsize=10)
        axes.grid(alpha=0.25, which="both", linewidth=0.5)
    figure.supxlabel("step size h  (delta = h²/2)", fontsize=10)
    figure.supylabel("bias (magnitude)", fontsize=10)
    legend(figure, study)
    save(figure, *out)


def one_axis(study: xr.Dataset) -> xr.Dataset:
    """Return a study of several frictions with one curve, and one name, for each integrator and friction."""
    if "friction" not in study.dims:
        return study.assign_attrs(title=f"friction {study.attrs['friction']:g}")
    curves = [
        study.sel(integrator=[name], friction=friction, drop=True).assign_coords(
            integrator=[f"{name} (friction {friction:.3g})"]
        )
        for name in study.integrator.values
        for friction in study.friction.values
    ]
    return xr.concat(curves, "integrator").assign_attrs(title=f"{len(study.friction)} frictions")


def limits(panel: xr.Dataset) -> tuple[float, float]:
    """Return the range of the bias axis of a panel. It starts below the noise floor or the smallest resolved bias."""
    if "bias" in panel:
        return float(panel.floor.min()) / 3, 2 * float(panel.bias.max())
    return max(float(panel.exact.where(panel.exact > 0).min()) / 2, panel.tolerance), 2 * float(panel.exact.max())


def exact_curve(axes: Any, one: xr.Dataset, tone: str, marker: str, alone: bool) -> None:
    """Draw the exact bias of one integrator, with markers at the step sizes if the study has no sampled points."""
    known = one.exact.where(one.exact > 0)
    if alone:
        axes.plot(one.h, known, color=tone, linewidth=1.3, marker=marker, markersize=4)
    else:
        curve(axes, one.h, known, color=tone, linewidth=1.3)


def sampled_points(axes: Any, one: xr.Dataset, tone: str, marker: str, rank: int) -> None:
    """Draw the sampled results of one integrator: noise floor, points (hollow if they may be noise), divergence."""
    bottom = axes.get_ylim()[0]
    curve(axes, one.h, one.floor, color=tone, linewidth=0.8, linestyle=":")
    seen = (one.bias > SEEN * one.floor).values
    if not one.exact.notnull().any():
        axes.plot(one.h, one.bias.where(seen), color=tone, linewidth=0.8, alpha=0.6)
    axes.errorbar(
        one.h[seen], one.bias[seen], yerr=2 * one.error[seen], fmt=marker, color=tone, markersize=4.5, elinewidth=1
    )  # fmt: skip
    hollow = np.maximum(one.bias[~seen], 1.1 * bottom)  # draw points below the panel at its lower edge
    axes.plot(one.h[~seen], hollow, marker, color=tone, markersize=4, markerfacecolor="white", alpha=0.5)
    mark_divergence(axes, one, tone, rank)


def legend(figure: Figure, study: xr.Dataset) -> None:
    """Add the legend, and a title with the settings of the study."""
    from matplotlib.lines import Line2D

    handles = integrator_handles(study.integrator.values, markersize=4.5)
    if "bias" not in study:
        figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8.5)
        a = study.attrs
        figure.suptitle(f"Exact discretisation bias on {a['target']}, without sampling; {a['title']}", fontsize=10)
        return
    if bool(study.lost.any()):
        handles.append(Line2D([], [], color="0.3", marker="x", linestyle="", label="diverged or unstable"))
    if bool(study.exact.notnull().any()):
        handles.append(Line2D([], [], color="0.3", linewidth=1.3, label="line: exact bias of the scheme"))
    handles += [
        Line2D([], [], color="0.3", marker="o", linestyle="", markersize=4.5, label="sampled, ± 2 standard errors"),
        Line2D([], [], color="0.3", marker="o", linestyle="", markerfacecolor="white", markersize=4.5,
               label="sampled, below 4 noise floors"),
        Line2D([], [], color="0.3", linewidth=0.8, linestyle=":", label="noise floor: what it would show without bias"),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8.5)
    a = study.attrs
    figure.suptitle(
        f"Discretisation bias on {a['target']}, at equal cost: {a['nfe_recorded']} score evaluations per chain, "
        f"{a['chains']} chains, {a['title']}",
        fontsize=10,
    )

"""The figure of a frontier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from uldnum._util.typing import Array
from uldnum.diagnostics.metrics import COST, study_metric
from uldnum.plotting.style import (
    SEEN,
    image_paths,
    integrator_handles,
    literal_text,
    look,
    plain_ticks,
    save,
    stored_study,
    title_of,
)
from uldnum.studies._frontier import at_most, of_metric

__all__ = ["draw_frontier"]

# Height of the strip that names the cheapest integrator, as a fraction of the panel height.
STRIP = 0.055

Steps = dict[str, tuple[Array, Array]]


@literal_text()
def draw_frontier(data: Path | Sequence[Path], *out: Path, metric: str = "second_moment") -> None:
    """Draw the cost of an independent sample against the bias, from stored frontier studies.

    Parameters
    ----------
    data : Path, str, or sequence of them
        NetCDF files with datasets of `uldnum.studies.frontier`; each gets one panel.
    *out : Path or str
        Image files to write; their suffixes determine the formats.
    metric : str
        Metric of the bias. Default: "second_moment".

    Raises
    ------
    ValueError
        If a file is not a stored frontier study, the metric is unknown, or Matplotlib does not support a suffix.
    MissingExtraError
        If the extra ``plot`` is not installed.

    Notes
    -----
    The bias of a moment may change its sign as a function of the step size, and then passes through zero. A distance of
    distributions, such as "wasserstein_1", has no such accidental zeros.
    """
    from matplotlib.figure import Figure

    study_metric(metric)
    given = [data] if isinstance(data, str | Path) or not isinstance(data, Sequence) else data
    studies, out = [stored_study(one, ("frontier",)) for one in given], tuple(image_paths(out))
    if not studies:
        raise ValueError("data: must be at least one file, got none")
    names = list(dict.fromkeys(str(name) for study in studies for name in study.integrator.values))
    styles = {name: look(name, rank) for rank, name in enumerate(names)}
    figure = Figure(figsize=(max(7.0, 4.1 * len(studies)), 6), layout="constrained")
    panels = figure.subplots(1, len(studies), sharey=True, squeeze=False)[0]
    for axes, study in zip(panels, studies, strict=True):
        draw_panel(axes, study, of_metric(study, metric), styles)
    costs = [study[name] for study in studies for name in ("cost", "exact_cost")]
    # Leave room for the strip at the bottom.
    seen = np.concatenate([cost.values[np.isfinite(cost.values)] for cost in costs])
    if len(seen):
        panels[0].set_ylim(seen.min() / 2.5, 1.5 * seen.max())
    for axes in panels:
        plain_ticks(axes)
    panels[0].set_ylabel(COST.label, fontsize=11)
    panels[len(panels) // 2].set_xlabel("bias: " + title_of(metric), fontsize=11)
    columns = 4 if len(studies) < 3 else 6
    figure.legend(
        handles=handles(styles, studies), loc="outside lower center", ncols=columns, frameon=False, fontsize=9.5
    )
    figure.suptitle("What accuracy costs, at the best step size and friction: lower left is best", fontsize=12)
    save(figure, *out)


def draw_panel(axes: Any, study: xr.Dataset, one: xr.Dataset, styles: Mapping[str, tuple[str, str]]) -> None:
    """Draw one study: points, exact curves, the least cost of each integrator, and the strip of the cheapest."""
    axes.set(xscale="log", yscale="log")
    axes.set_title(study.attrs["target"], fontsize=11, fontweight="bold")
    axes.grid(alpha=0.25, which="both", linewidth=0.5)
    names = [name for name in styles if name in study.integrator.values]
    left, right = limits(one)
    steps: Steps = {}
    for name in names:
        curves(axes, one.sel(integrator=name), *styles[name], left)
        bias, least = steps[name] = least_costs(one.sel(integrator=name))
        if len(bias):
            ends = np.append(np.maximum(bias, left), right), np.append(least, least[-1])
            axes.plot(*ends, color=styles[name][0], linewidth=2.4, drawstyle="steps-post", zorder=3)
    axes.set_xlim(left, right)
    if any(len(bias) for bias, _ in steps.values()):
        strip(axes, steps, {name: tone for name, (tone, _) in styles.items()})
    else:
        lost = "Chains diverge everywhere:\ntake smaller steps."
        stuck = (
            f"Every cost is a lower bound:\n{study.attrs['nfe_recorded']:,} score evaluations are too few\n"
            "for chains to forget where they started.\nNo integrator is cheapest: record more,\n"
            "or go through noise levels instead."
        )
        axes.text(
            0.5, 0.4, lost if bool(study.lost.all()) else stuck,
            transform=axes.transAxes, ha="center", va="center", fontsize=10.5, linespacing=1.5,
            bbox={"facecolor": "white", "edgecolor": "0.8", "boxstyle": "round,pad=0.6"},
        )  # fmt: skip


def limits(one: xr.Dataset) -> tuple[float, float]:
    """Return the range of the bias axis of a panel, from the smallest resolved bias to the largest bias."""
    known = bool(exactly_known(one).any())
    least = max(float(one.tolerance), float(one.exact.min())) if known else float(one.floor.median()) / 2
    least = least if np.isfinite(least) else 1e-3  # all points diverged
    return least, float(np.nanmax([1.3 * float(one.bias.max()), 10 * least]))


def exactly_known(one: xr.Dataset) -> xr.DataArray:
    """Return a mask of the points at which both bias and cost are known exactly."""
    return one.exact.notnull() & one.exact_cost.notnull()


def curves(axes: Any, one: xr.Dataset, tone: str, marker: str, left: float) -> None:
    """Draw the results of one integrator: an exact curve in h for each friction, and the sampled points."""
    for friction in one.friction.values:
        at = one.sel(friction=friction)
        axes.plot(at.exact, at.exact_cost, color=tone, linewidth=0.9, alpha=0.45)
    whole = one.where(~one.lost)
    seen, resolved, sampled_only = whole.bias > SEEN * whole.floor, one.cost_resolved, ~exactly_known(one)
    small: dict[str, Any] = {"color": tone, "linestyle": "", "markersize": 3.4, "alpha": 0.55}
    hollow = small | {"markerfacecolor": "white", "markersize": 4.5, "alpha": 0.8}
    flat = {
        marker: (whole.bias.where(seen & resolved), small),
        # Bounds are drawn only where there is no exact curve.
        "<": (at_most(whole).where(~seen & resolved & sampled_only), hollow),
        "^": (np.maximum(whole.bias.where(~resolved & sampled_only), 1.05 * left), hollow),
    }
    for shape, (bias, style) in flat.items():
        axes.plot(bias.values.ravel(), whole.cost.values.ravel(), shape, **style)


def least_costs(one: xr.Dataset) -> tuple[Array, Array]:
    """Return the steps of the least cost against the bias bound: the bounds at which it falls, and the cost."""
    cost = one.exact_cost.where(exactly_known(one), one.cost)
    use = ((one.cost_resolved | exactly_known(one)) & ~one.lost & cost.notnull()).values.ravel()
    bias, price = at_most(one).values.ravel()[use], cost.values.ravel()[use]
    order = np.argsort(bias)
    least = np.minimum.accumulate(price[order])
    kept = np.flatnonzero(np.diff(least, prepend=np.inf) < 0)
    return bias[order][kept], least[kept]


def cheapest(steps: Steps) -> list[tuple[float, str]]:
    """Return pairs (bound, integrator) in ascending order: from that bias bound on, the integrator is cheapest."""
    starts = np.unique(np.concatenate([bias for bias, _ in steps.values()]))
    # Below the bound of its first step, an integrator does not reach the bias at any cost.
    costs = [np.append(np.inf, least)[np.searchsorted(bias, starts, side="right")] for bias, least in steps.values()]
    winners = np.argmin(costs, axis=0)
    changes = np.flatnonzero(np.diff(winners, prepend=-1))
    return [(float(starts[i]), list(steps)[winners[i]]) for i in changes]


def strip(axes: Any, steps: Steps, tones: Mapping[str, str]) -> None:
    """Colour the bottom of a panel by the integrator that is cheapest at each bias bound, and name it."""
    left, right = axes.get_xlim()
    found = cheapest(steps)
    ends = [start for start, _ in found[1:]] + [right]
    for (start, name), end in zip(found, ends, strict=True):
        start = max(start, left)
        if end <= start:
            continue
        axes.axvspan(start, end, 0, STRIP, color=tones[name], linewidth=0, zorder=4)
        if np.log(end / start) > 0.024 * len(name) * np.log(right / left):
            axes.text(
                np.sqrt(start * end), STRIP / 2, name, transform=axes.get_xaxis_transform(), ha="center", va="center",
                color="white", fontsize=8.5, fontweight="bold", zorder=5,
            )  # fmt: skip
    axes.text(0.01, STRIP + 0.008, "cheapest:", transform=axes.transAxes, fontsize=9, color="0.25")


def handles(styles: Mapping[str, tuple[str, str]], studies: Sequence[xr.Dataset]) -> list[Any]:
    """Return the legend entries: integrators, lines and markers."""
    from matplotlib.lines import Line2D

    named = integrator_handles(styles, markersize=4, linewidth=2.4)
    hollow: dict[str, Any] = {"color": "0.3", "linestyle": "", "markerfacecolor": "white", "markersize": 4.5}
    named.append(Line2D([], [], color="0.3", linewidth=2.4, label="least cost up to a bias"))
    if any(bool(exactly_known(study).any()) for study in studies):
        named.append(Line2D([], [], color="0.3", linewidth=0.9, label="exact, one friction"))
    named.append(Line2D([], [], color="0.3", marker="o", linestyle="", markersize=3.4, label="sampled"))
    if not all(bool(exactly_known(study).all()) for study in studies):
        named.append(Line2D([], [], marker="<", label="bias at most this", **hollow))
    if any(bool((~study.cost_resolved & study.cost.notnull() & ~exactly_known(study)).any()) for study in studies):
        named.append(Line2D([], [], marker="^", label="cost at least this", **hollow))
    return named

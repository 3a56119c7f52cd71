"""The figure of a frontier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from uldnum._util.typing import Array
from uldnum.plotting.panels import Shown, annotate, axes_of, known_metric, name_entries, read_studies
from uldnum.plotting.style import COST_LABEL, GREY, Style, bias_label, entry, literal_text, plain_ticks
from uldnum.studies._frontier import at_most
from uldnum.studies.common import RESOLVED, place_of

__all__ = ["draw_frontier"]

COLUMNS = 3  # panels in a row of a figure

# Height of the strip that names the cheapest integrator, as a fraction of the panel height.
STRIP = 0.055

Steps = dict[str, tuple[Array, Array]]


@literal_text()
def draw_frontier(
    study: xr.Dataset | str | Path | Mapping[str, xr.Dataset | str | Path],
    ax: Any = None,
    *,
    metric: str = "second_moment",
    colours: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Any:
    """Draw the cost of an independent sample against the magnitude of the bias.

    The step function of an integrator is its lower envelope: the least cost at which its bias does not exceed a bound.
    Thin curves are exact results, one curve for each friction. Points are sampled, with error bars of 2 standard errors
    in both directions. Triangles are bounds: an upper bound of a bias below 4 noise floors, and a lower bound of a cost
    if chains were shorter than 20 autocorrelation times. If a panel shows one study, a strip at its bottom shows the
    cheapest integrator at each bias, by its name or, in short segments, by its marker.

    Parameters
    ----------
    study : xarray.Dataset, path, or mapping of str to them
        Study returned by `uldnum.studies.frontier`, or its NetCDF file. The studies of a mapping have one panel each.
        In a single Axes, each of them has a line style and a marker fill, which the legend names.
    ax : matplotlib.axes.Axes, array of Axes, matplotlib.figure.Figure or matplotlib.figure.SubFigure, optional
        Place to draw. A single Axes shows all studies. An array of axes, or a figure, has one panel for each study.
        Axes get no legend; ``ax.legend()`` draws it. Default: a new figure.
    metric : str
        Metric of the bias. Default: "second_moment".
    colours : mapping of str to colour, optional
        Matplotlib colours by name of integrator, in place of those of `look`.
    labels : mapping of str to str, optional
        Legend labels by name of integrator. Default: the names.

    Returns
    -------
    matplotlib.figure.Figure or type of ``ax``
        The new figure, or ``ax``.

    Raises
    ------
    ValueError
        If ``study`` is not a frontier study, a study does not have the metric, a name is unknown, or ``ax`` does not
        hold as many axes as there are studies.
    MissingExtraError
        If the extra ``plot`` is not installed.

    Notes
    -----
    The bias of a moment is zero at a step size at which its sign changes. A distance between distributions, such as
    "wasserstein_1", has no such accidental zeros.

    Fonts, line widths and marker sizes follow ``matplotlib.rcParams``, which the function does not change. Text is
    drawn without TeX.

    Examples
    --------
    >>> from uldnum import plotting, studies
    >>> found = studies.frontier("gaussian", ["ULA", "OBABO"], [0.25, 0.5], friction=1.0, nfe=50, burn_in=20,
    ...                          chains=16, backend="array")
    >>> (axes,) = plotting.draw_frontier(found, metric="mean").axes
    >>> print(axes.get_xlabel())
    bias: mean
    (standard deviations of x)
    >>> print(axes.get_ylabel())
    cost of an independent sample
    (score evaluations)
    """
    from matplotlib.axes import Axes

    studies = read_studies(study, "frontier", colours, labels)
    for one in studies:
        known_metric(metric, one.data.metric.values)
    titles = [one.name or place_of(one.data) for one in studies]
    groups = [studies] if isinstance(ax, Axes) else [[one.alone()] for one in studies]
    figure, panels = axes_of(ax, titles[: len(groups)], COLUMNS, sharex=False, sharey=True)
    entries = []
    for axes, group, title in zip(panels, groups, titles, strict=False):
        entries += draw_panel(axes, group, metric)
        if not isinstance(ax, Axes):
            axes.set_title(title)
    costs = [one.data[name].values for one in studies for name in ("cost", "exact_cost")]
    seen = np.concatenate([cost[np.isfinite(cost)] for cost in costs])
    for axes in panels:
        if len(seen):
            # Leave room for the strip at the bottom.
            axes.set_ylim(seen.min() / 2.5, 1.5 * seen.max())
        plain_ticks(axes)
    if figure is not None:
        title = "Cost of an independent sample against bias,\nwith lower envelopes over step sizes and frictions"
        annotate(figure, panels, entries, title)
    return figure if ax is None else ax


def draw_panel(axes: Any, studies: Sequence[Shown], metric: str) -> list[Any]:
    """Draw studies in one panel, and return the legend entries."""
    axes.set(xscale="log", yscale="log", xlabel=bias_label(metric), ylabel=COST_LABEL)
    axes.grid(alpha=0.25, which="both", linewidth=0.5)
    parts = [(study, study.data.sel(metric=metric)) for study in studies]
    ends = np.array([limits(part) for _, part in parts])
    left, right = ends[:, 0].min(), ends[:, 1].max()
    axes.set_xlim(left, right)
    for study, part in parts:
        steps: Steps = {}
        for name, style in study.styles.items():
            draw_results(axes, part.sel(integrator=name), style, left)
            bias, least = steps[name] = least_costs(part.sel(integrator=name))
            if len(bias):
                corners = np.append(np.maximum(bias, left), right), np.append(least, least[-1])
                axes.plot(*corners, **style.lines(1.6, drawstyle="steps-post", zorder=3))
        if len(studies) == 1:
            found = any(len(bias) for bias, _ in steps.values())
            strip(axes, steps, study.styles) if found else explain(axes, study.data)
    return name_entries(axes, studies, width=1.6) + mark_entries(axes, [study.data for study in studies])


def explain(axes: Any, study: xr.Dataset) -> None:
    """Write in a panel why no integrator is cheapest, and what to change."""
    lost = "Chains diverge at all points:\nuse smaller step sizes."
    stuck = (
        f"All costs are lower bounds:\n{study.attrs['nfe_recorded']:,} score evaluations\nare fewer than {RESOLVED}\n"
        "autocorrelation times.\nUse longer chains, or\na plan through noise levels."
    )
    axes.text(
        0.5, 0.4, lost if bool(study.lost.all()) else stuck, transform=axes.transAxes, ha="center", va="center",
        linespacing=1.4, bbox={"facecolor": "white", "edgecolor": "0.8", "boxstyle": "round,pad=0.6"},
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


def draw_results(axes: Any, one: xr.Dataset, style: Style, left: float) -> None:
    """Draw the results of one integrator: an exact curve in h for each friction, and the sampled points."""
    for friction in one.friction.values:
        at = one.sel(friction=friction)
        axes.plot(at.exact, at.exact_cost, **style.lines(0.6, alpha=0.45))
    whole = one.where(~one.lost)
    seen, resolved, sampled_only = one.bias_resolved, one.cost_resolved, ~exactly_known(one)
    small, hollow = style.points(0.85, alpha=0.8), style.hollow(0.75, alpha=0.8)
    thin = {"elinewidth": style.lines(0.5)["linewidth"]}
    axes.errorbar(
        *(part.where(seen & resolved).values.ravel() for part in (whole.bias, whole.cost)),
        xerr=2 * whole.error.values.ravel(), yerr=2 * whole.cost_error.values.ravel(), **small | thin,
    )  # fmt: skip
    # Bounds are drawn only where there is no exact curve.
    bounds = {
        "<": at_most(whole).where(~seen & resolved & sampled_only),
        "^": np.maximum(whole.bias.where(~resolved & sampled_only), 1.05 * left),
    }
    for shape, bias in bounds.items():
        axes.plot(bias.values.ravel(), whole.cost.values.ravel(), **hollow | {"marker": shape})


def least_costs(one: xr.Dataset) -> tuple[Array, Array]:
    """Return the bias bounds at which the least cost of an integrator falls, and its value from each of them on."""
    cost = one.exact_cost.where(exactly_known(one), one.cost)
    use = ((one.cost_resolved | exactly_known(one)) & ~one.lost & cost.notnull()).values.ravel()
    bias, price = at_most(one).values.ravel()[use], cost.values.ravel()[use]
    order = np.argsort(bias)
    least = np.minimum.accumulate(price[order])
    kept = np.flatnonzero(np.diff(least, prepend=np.inf) < 0)
    return bias[order][kept], least[kept]


def cheapest(steps: Steps) -> list[tuple[float, str]]:
    """Return pairs (bound, integrator) in ascending order. The integrator is cheapest from this bound to the next."""
    starts = np.unique(np.concatenate([bias for bias, _ in steps.values()]))
    # Below the bound of its first step, an integrator does not reach the bias at any cost.
    costs = [np.append(np.inf, least)[np.searchsorted(bias, starts, side="right")] for bias, least in steps.values()]
    winners = np.argmin(costs, axis=0)
    changes = np.flatnonzero(np.diff(winners, prepend=-1))
    return [(float(starts[i]), list(steps)[winners[i]]) for i in changes]


def strip(axes: Any, steps: Steps, styles: Mapping[str, Style]) -> None:
    """Colour the bottom of a panel by the integrator that is cheapest at each bias bound, and name it.

    Names stand in their segments. Above a segment that is too narrow stands the marker of the integrator.
    """
    from matplotlib.font_manager import FontProperties

    left, right = axes.get_xlim()
    found = [(max(start, left), name) for start, name in cheapest(steps)]
    ends = [start for start, _ in found[1:]] + [right]
    # Size of a bold letter and of a line, as fractions of the panel width.
    points = FontProperties(size="small").get_size_in_points() * axes.figure.dpi / 72 / axes.bbox.width
    text: dict[str, Any] = {"transform": axes.transAxes, "va": "center", "ha": "center", "fontweight": "bold"}
    last = -np.inf
    for (start, name), end in zip(found, ends, strict=True):
        if end <= start:
            continue
        colour = styles[name].look.colour
        axes.axvspan(start, end, 0, STRIP, color=colour, linewidth=0, zorder=4)
        width, middle = np.log([end / start, np.sqrt(start * end) / left]) / np.log(right / left)
        if width > 0.8 * points * len(name):
            axes.text(middle, STRIP / 2, name, color="white", fontsize="small", zorder=5, **text)
        elif middle - last > 0.6 * points:  # not over the marker of another narrow segment
            axes.plot(middle, 1.6 * STRIP, transform=axes.transAxes, zorder=5, **styles[name].points())
            last = middle
    axes.text(0.01, 2.2 * STRIP, "cheapest:", transform=axes.transAxes, fontsize="small", color="0.25")


def mark_entries(axes: Any, studies: Sequence[xr.Dataset]) -> list[Any]:
    """Add the legend entries of lines and markers, and return them."""
    found = {"lower envelope": GREY.lines(1.6)}
    if any(bool(exactly_known(study).any()) for study in studies):
        found["exact, fixed friction"] = GREY.lines(0.6)
    found["sampled, ± 2 standard errors"] = GREY.points(0.85)
    if not all(bool(exactly_known(study).all()) for study in studies):
        found["upper bound of the bias"] = GREY.hollow(0.75, marker="<")
    if any(bool((~study.cost_resolved & study.cost.notnull() & ~exactly_known(study)).any()) for study in studies):
        found["lower bound of the cost"] = GREY.hollow(0.75, marker="^")
    return [entry(axes, label, style) for label, style in found.items()]

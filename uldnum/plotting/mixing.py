"""The figure of a mixing study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from uldnum._util.arguments import positive_number
from uldnum.plotting.panels import Shown, annotate, axes_of, common, name_entries, read_studies
from uldnum.plotting.style import (
    COST_LABEL,
    GREY,
    STEP,
    Style,
    curve,
    entry,
    literal_text,
    mark_divergence,
    plain_ticks,
)
from uldnum.studies.common import place_of

__all__ = ["draw_mixing"]

COLUMNS = 3  # panels in a row of a figure


@literal_text()
def draw_mixing(
    study: xr.Dataset | str | Path | Mapping[str, xr.Dataset | str | Path],
    ax: Any = None,
    *,
    friction: float | None = None,
    colours: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Any:
    """Draw the cost of an independent sample against the step size, with one panel for each friction.

    If there are several frictions, the first panel shows the integrators whose cost does not depend on the friction.

    The cost is the longer of the autocorrelation times of x and x², in score evaluations. Lines are exact. Points are
    sampled, with error bars of 2 standard errors. Triangles are lower bounds, from chains that were shorter than 20
    autocorrelation times. Crosses at the top mark step sizes at which chains diverged or the scheme has no stationary
    distribution.

    Parameters
    ----------
    study : xarray.Dataset, path, or mapping of str to them
        Study returned by `uldnum.studies.mixing`, or its NetCDF file. The studies of a mapping are drawn in the same
        panels, with a line style and a marker fill for each, and named in the legend.
    ax : matplotlib.axes.Axes, array of Axes, matplotlib.figure.Figure or matplotlib.figure.SubFigure, optional
        Place to draw. A single Axes shows all integrators at one friction. An array of axes, or a figure, has one panel
        for the integrators without friction, if there are any, and one for each friction. Axes get no legend;
        ``ax.legend()`` draws it. Default: a new figure.
    friction : float, optional
        Friction to draw, in units of 1/time. Default: all frictions of the studies, or the first one if ``ax`` is a
        single Axes.
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
        If ``study`` is not a mixing study, a name or the friction is unknown, or ``ax`` does not hold as many axes as
        there are panels.
    MissingExtraError
        If the extra ``plot`` is not installed.

    Notes
    -----
    Fonts, line widths and marker sizes follow ``matplotlib.rcParams``, which the function does not change. Text is
    drawn without TeX.

    Examples
    --------
    >>> from uldnum import plotting, studies
    >>> found = studies.mixing("gaussian", ["ULA", "BAOAB"], [0.25, 0.5], friction=1.0, nfe=50, burn_in=20, chains=16,
    ...                        backend="array")
    >>> print(plotting.draw_mixing(found).axes[0].get_ylabel())
    cost of an independent sample
    (score evaluations)
    """
    from matplotlib.axes import Axes

    studies = read_studies(study, "mixing", colours, labels)
    known = sorted({float(one) for study in studies for one in study.data.friction.values})
    frictions = known[: 1 if isinstance(ax, Axes) else None]
    if friction is not None:
        frictions = [one for one in known if np.isclose(one, positive_number("friction", friction), rtol=1e-9, atol=0)]
        if not frictions:
            raise ValueError(f"friction: the studies have {', '.join(map(str, known))}, got {friction}")
    names = list(dict.fromkeys(name for study in studies for name in study.styles))
    free = [name for name in names if len(frictions) > 1 and all(without_friction(one, name) for one in studies)]
    rest = [name for name in names if name not in free]
    parts = [(f"friction {one:.3g}", one, rest) for one in frictions] if rest else []
    if free:
        parts.insert(0, ("any friction" if rest else "", frictions[0], free))
    figure, panels = axes_of(ax, [title for title, *_ in parts], 2 if len(parts) == 4 else COLUMNS, sharey=True)
    entries = []
    for axes, (title, one, shown) in zip(panels, parts, strict=True):
        kept = [part for study in studies if (part := study.only(shown)).styles]
        entries += draw_panel(axes, kept, one)
        if len(known) > 1:
            axes.set_title(title)
    if figure is not None:
        named = {label for study in studies for label in study.labels.values()}
        entries.sort(key=lambda one: one.get_label() not in named)  # integrators before lines and markers
        annotate(figure, panels, entries, common(map(title_of, studies), "Cost of an independent sample"))
    return figure if ax is None else ax


def without_friction(study: Shown, name: str) -> bool:
    """Return whether the costs of an integrator are equal at all frictions of a study, or are not in it."""
    if name not in study.styles:
        return True
    one = study.data[["exact_cost", "cost"]].sel(integrator=name)
    first, *others = (one.sel(friction=friction, drop=True) for friction in one.friction)
    return all(first.equals(other) for other in others)


def title_of(study: Shown) -> str:
    """Return the settings of a study."""
    a = study.data.attrs
    return (
        f"Cost of an independent sample on {place_of(study.data)}:\n"
        f"{a['chains']:,} chains of {a['nfe_recorded']:,} score evaluations"
    )


def draw_panel(axes: Any, studies: Sequence[Shown], friction: float) -> list[Any]:
    """Draw the studies that have a friction, and return the legend entries."""
    shown = [one for one in studies if friction in one.data.friction.values]
    axes.set(xscale="log", yscale="log", xlabel=STEP, ylabel=COST_LABEL)
    for study in shown:
        for name, style in study.styles.items():
            draw_times(axes, study.data.sel(integrator=name, friction=friction), style)
    plain_ticks(axes)
    axes.grid(alpha=0.25, which="both", linewidth=0.5)
    return name_entries(axes, shown) + mark_entries(axes, [one.data for one in shown])


def draw_times(axes: Any, one: xr.Dataset, style: Style) -> None:
    """Draw the times of one integrator: exact curve, points, lower bounds and divergence."""
    curve(axes, one.h, one.exact_cost, **style.lines())
    time, error, sure = one.cost, one.cost_error, one.cost_resolved.values
    if not one.exact_cost.notnull().any():
        axes.plot(one.h, time, **style.lines(0.5, alpha=0.6))
    # Hollow markers of decreasing size leave those below visible where integrators have the same cost.
    size = max(0.75, 1.25 - 0.1 * style.rank)
    bars = style.points(size) | {"elinewidth": style.lines(0.7)["linewidth"]}
    axes.errorbar(one.h[sure], time[sure], yerr=2 * error[sure], **bars)
    axes.plot(one.h[~sure], time[~sure], **style.hollow(0.9, marker="^"))
    mark_divergence(axes, one, style)


def mark_entries(axes: Any, studies: Sequence[xr.Dataset]) -> list[Any]:
    """Add the legend entries of lines and markers, and return them."""
    found = {"sampled, ± 2 standard errors": GREY.points(0.8)}
    if any(bool(one.exact_cost.notnull().any()) for one in studies):
        found = {"exact": GREY.lines()} | found
    if any(bool((~one.cost_resolved & one.cost.notnull()).any()) for one in studies):
        found["lower bound of the cost"] = GREY.hollow(0.9, marker="^")
    if any(bool(one.lost.any()) for one in studies):
        found["diverged or unstable"] = GREY.cross()
    return [entry(axes, label, style) for label, style in found.items()]

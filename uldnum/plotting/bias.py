"""The figure of a bias study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from uldnum._util.arguments import shown
from uldnum._util.typing import Array
from uldnum.plotting.panels import (
    Shown,
    annotate,
    axes_of,
    common,
    known_metric,
    name_entries,
    read_studies,
    read_study,
)
from uldnum.plotting.style import (
    GREY,
    SEEN,
    STEP,
    Style,
    bias_label,
    curve,
    entry,
    literal_text,
    mark_divergence,
    plain_ticks,
)
from uldnum.studies.common import place_of

__all__ = ["draw_bias"]

# Distances from a zero at which its cusp is drawn, as fractions of the distance of the next step size.
TOWARDS_ZERO = 10.0 ** -np.arange(0.25, 6.0, 0.25)

# Properties of the band of noise floors.
BAND = {"color": "0.87", "linewidth": 0, "zorder": 0}

COLUMNS, MANY = 2, 4  # panels in a row of a figure, and number of panels above which a row has one more


@literal_text()
def draw_bias(
    study: xr.Dataset | str | Path | Mapping[str, xr.Dataset | str | Path],
    ax: Any = None,
    *,
    metric: str | None = None,
    exact: xr.Dataset | str | Path | None = None,
    colours: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Any:
    """Draw the magnitude of the bias against the step size.

    Lines are exact. The line of a moment whose bias changes its sign falls to zero, which is below the panel. Points
    are sampled, with error bars of 2 standard errors. Points below 4 noise floors are hollow. The grey band spans the
    noise floors of the integrators, which are the values that unbiased runs would show. Crosses at the top mark step
    sizes at which chains diverged or the scheme has no stationary distribution.

    Parameters
    ----------
    study : xarray.Dataset, path, or mapping of str to them
        Study returned by `uldnum.studies.bias` or `uldnum.studies.exact_bias`, or its NetCDF file. The studies of a
        mapping are drawn in the same panels, with a line style and a marker fill for each, and named in the legend.
    ax : matplotlib.axes.Axes, array of Axes, matplotlib.figure.Figure or matplotlib.figure.SubFigure, optional
        Place to draw. A single Axes shows one metric. An array of axes, or a figure, has one panel for each metric.
        Axes get no legend; ``ax.legend()`` draws it. Default: a new figure.
    metric : str, optional
        Metric to draw. Default: all metrics of the studies, or the first one if ``ax`` is a single Axes.
    exact : xarray.Dataset or path, optional
        Study returned by `uldnum.studies.exact_bias` for the same target at the same settings, usually at more step
        sizes. Its values replace the lines of ``study``, which must be a single study.
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
        If ``study`` is not a bias study, a name is unknown, ``exact`` is of another target or of other settings, or
        ``ax`` does not hold as many axes as there are metrics.
    MissingExtraError
        If the extra ``plot`` is not installed.

    Notes
    -----
    Fonts, line widths and marker sizes follow ``matplotlib.rcParams``, which the function does not change. Text is
    drawn without TeX.

    Examples
    --------
    >>> from uldnum import plotting, studies
    >>> found = studies.exact_bias("gaussian", ["BAOAB", "OBABO"], h=[0.5, 1.0])
    >>> figure = plotting.draw_bias(found, metric="second_moment")
    >>> figure.axes[0].get_xlabel()
    'step size h (time; delta = h²/2)'
    """
    from matplotlib.axes import Axes

    studies = read_studies(study, "bias", colours, labels)
    if isinstance(metric, list | tuple):
        raise ValueError(
            f"metric: must be the name of one metric, got {shown(metric)}; to draw several metrics, give "
            "study.sel(metric=[...]) and leave out this argument"
        )
    known = list(dict.fromkeys(str(name) for one in studies for name in one.data.metric.values))
    metrics = known[: 1 if isinstance(ax, Axes) else None] if metric is None else [known_metric(metric, known)]
    curves = None if exact is None else exact_study(exact, studies)
    figure, panels = axes_of(ax, metrics, COLUMNS + (len(metrics) > MANY))
    entries = []
    for axes, name in zip(panels, metrics, strict=True):
        entries += draw_panel(axes, studies, name, curves)
    if figure is not None:
        annotate(figure, panels, entries, common(map(title_of, studies), "Magnitude of the discretisation bias"))
    return figure if ax is None else ax


def exact_study(given: Any, studies: Sequence[Shown]) -> xr.Dataset:
    """Return the study of exact values whose lines are drawn, or raise if it does not belong to the other study."""
    found = read_study(given, "bias")
    if len(studies) > 1:
        raise ValueError(f"exact: must be given with a single study, got {len(studies)} studies")
    usual = {"temperature": 1.0, "score_noise": 0.0, "mass": 1.0}  # early files state none of these
    for name in ("target_fingerprint", "friction", *usual):
        one, other = (data.attrs.get(name, usual.get(name, "not stated")) for data in (studies[0].data, found))
        if not np.array_equal(one, other):
            named = name.removesuffix("_fingerprint")
            raise ValueError(f"exact: must have the {named} of study, {shown(one)}, got {shown(other)}")
    return found


def title_of(study: Shown) -> str:
    """Return the settings of a study."""
    a, place = study.data.attrs, place_of(study.data)
    friction = f"friction {', '.join(f'{value:.3g}' for value in np.atleast_1d(a['friction']))}"
    if "bias" not in study.data:
        return f"Exact discretisation bias on {place},\nwithout sampling; {friction}"
    reference = ", against reference samples" if a.get("reference") else ""
    return (
        f"Discretisation bias on {place}, {friction}, at equal cost:\n"
        f"{a['chains']:,} chains of {a['nfe_recorded']:,} score evaluations{reference}"
    )


def draw_panel(axes: Any, studies: Sequence[Shown], metric: str, curves: xr.Dataset | None) -> list[Any]:
    """Draw one metric of the studies that have it, with lines of ``curves`` if given, and return the legend entries."""
    parts = [(one, one.data.sel(metric=metric)) for one in studies if metric in one.data.metric.values]
    axes.set(xscale="log", yscale="log", xlabel=STEP, ylabel=bias_label(metric))
    ends = np.array([limits(part) for _, part in parts])
    ends = ends[np.all(np.isfinite(ends) & (ends > 0), axis=1)]
    if len(ends):
        low, high = ends[:, 0].min(), ends[:, 1].max()
        axes.set_ylim(low, max(high, 30 * low))
    for one, part in parts:
        if "bias" in part:
            floors(axes, part)
        for name, style in one.styles.items():
            source = part
            if curves is not None and name in curves.integrator and metric in curves.metric:
                source = curves.sel(metric=metric)
            exact_curve(axes, source.sel(integrator=name), style, alone="bias" not in part)
            if "bias" in part:
                sampled_points(axes, part.sel(integrator=name), style)
    steps = np.concatenate([part.h.values for _, part in parts])
    axes.set_xlim(steps.min() / 1.08, steps.max() * 1.08)
    plain_ticks(axes)
    axes.grid(alpha=0.25, which="both", linewidth=0.5)
    return name_entries(axes, [one for one, _ in parts]) + mark_entries(axes, [part for _, part in parts])


def limits(panel: xr.Dataset) -> tuple[float, float]:
    """Return the range of the bias axis of a panel. It starts below the noise floor or the smallest resolved bias."""
    if "bias" in panel:
        return float(panel.floor.min()) / 3, 2 * float(panel.bias.max())
    return max(float(panel.exact.where(panel.exact > 0).min()) / 2, panel.tolerance), 2 * float(panel.exact.max())


def exact_curve(axes: Any, one: xr.Dataset, style: Style, alone: bool) -> None:
    """Draw the exact bias of one integrator, with markers at the step sizes if the study has no sampled points."""
    known = one.exact.where(one.exact > 0).dropna("h")  # the line also joins values between which some are missing
    if alone:
        axes.plot(known.h.values, known.values, **style.joined(0.9, 0.7))
    elif known.size:
        curve(axes, *with_zeros(one.sel(h=known.h), known), **style.lines(0.9))


def with_zeros(one: xr.Dataset, bias: xr.DataArray) -> tuple[Array, Array]:
    """Return step sizes and exact biases, with points towards the zero where the bias of a moment changes its sign.

    There the bias is taken as linear in h between two step sizes, which is a cusp on a logarithmic axis.
    """
    h, metric = bias.h.values, str(one.metric.values)
    if "exact_signed" not in one or metric not in one.moment or one.sizes["axis"] > 1:
        return h, bias.values
    signed = one.exact_signed.sel(moment=metric).values[:, 0]
    steps, values = [h], [bias.values]
    for place in np.flatnonzero(signed[1:] * signed[:-1] < 0):
        slope = (signed[place + 1] - signed[place]) / (h[place + 1] - h[place])
        zero = h[place] - signed[place] / slope
        for side in (place, place + 1):
            steps.append(zero + TOWARDS_ZERO * (h[side] - zero))
            values.append(TOWARDS_ZERO * bias.values[side])
    order = np.argsort(np.concatenate(steps))
    return np.concatenate(steps)[order], np.concatenate(values)[order]


def floors(axes: Any, part: xr.Dataset) -> None:
    """Draw the range of the noise floors of a study."""
    low, high = part.floor.min("integrator").values, part.floor.max("integrator").values
    if len(part.h) > 1:
        axes.fill_between(part.h.values, low, high, **BAND)
    else:
        axes.axhspan(low[0], high[0], **BAND)


def sampled_points(axes: Any, one: xr.Dataset, style: Style) -> None:
    """Draw the sampled results of one integrator: points (hollow if they may be noise), and divergence."""
    bottom = axes.get_ylim()[0]
    seen = one.resolved.values
    if not one.exact.notnull().any():
        axes.plot(one.h, one.bias.where(seen), **style.lines(0.5, alpha=0.6))
    bars = style.points(0.95) | {"elinewidth": style.lines(0.7)["linewidth"]}
    axes.errorbar(one.h[seen], one.bias[seen], yerr=2 * one.error[seen], **bars)
    hollow = np.maximum(one.bias[~seen], 1.1 * bottom)  # draw points below the panel at its lower edge
    axes.plot(one.h[~seen], hollow, **style.hollow(0.5, alpha=0.5))
    mark_divergence(axes, one, style)


def mark_entries(axes: Any, parts: Sequence[xr.Dataset]) -> list[Any]:
    """Add the legend entries of lines and markers, and return them."""
    sampled = [part for part in parts if "bias" in part]
    if not sampled:
        return []
    found = {"sampled, ± 2 standard errors": GREY.points(0.95)}
    if any(bool((part.exact > 0).any()) for part in parts):  # 0 is below the panel
        found = {"exact": GREY.lines(0.9)} | found
    found |= {
        f"sampled, below {SEEN:g} noise floors": GREY.hollow(0.5),
    }
    if any(bool(part.lost.any()) for part in sampled):
        found["diverged or unstable"] = GREY.cross()
    entries = [entry(axes, label, style) for label, style in found.items()]
    return [*entries, axes.fill([], [], label="noise floors", **BAND)[0]]

"""The figure of a study of the quality of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from uldnum._util.names import checked_name, split_name
from uldnum.plotting.panels import LEAST, MARGIN, PANEL, annotate, as_colour, axes_of, known_metric, opened
from uldnum.plotting.pictures import coloured, mosaic
from uldnum.plotting.style import GREY, LOOKS, MARKERS, Look, Style, entry, literal_text, names_of, plain_ticks
from uldnum.targets import Display

__all__ = ["draw_quality"]

COLUMNS = 2  # panels in a row of a figure

# Metrics that are drawn by default, if the study has them.
USUAL = ("frechet", "kernel", "precision", "recall")

# Metrics that extend over orders of magnitude and may be negative.
DISTANCES = ("frechet", "kernel")

# Colours of samplers that are not in the catalogue, in the order of the study: those of Okabe and Ito that the usual
# integrators do not have in a figure of samplers, and others.
PALETTE = "#D55E00", "#332288", "#CC79A7", "#009E73", "#E69F00", "#56B4E9", "#8B4513", "#000000", "#999933", "#882255"

# Height of a row of images with its title, in inches for a font size of 10 points.
ROW = 0.62

LABEL = "score evaluations per image"


@literal_text()
def draw_quality(
    study: xr.Dataset | str | Path,
    ax: Any = None,
    *,
    metrics: str | Sequence[str] | None = None,
    colours: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Any:
    """Draw metrics of images against the number of score evaluations.

    Points have error bars of 2 standard errors. The grey band is the floor, the value of as many real images, with 2
    standard errors on both sides. The axis of a distance is linear near zero and logarithmic elsewhere. A new figure
    also has a row of images of each sampler, at its largest number of evaluations.

    Parameters
    ----------
    study : xarray.Dataset or path
        Study returned by `uldnum.studies.quality`, or its NetCDF file.
    ax : matplotlib.axes.Axes, array of Axes, matplotlib.figure.Figure or matplotlib.figure.SubFigure, optional
        Place to draw. A single Axes shows the first metric. An array of axes, or a figure, has one panel for each
        metric. Axes get no legend; ``ax.legend()`` draws it. Default: a new figure.
    metrics : str or sequence of str, optional
        Metrics to draw. Default: Frechet distance, kernel distance, precision and recall, as far as the study has them.
    colours : mapping of str to colour, optional
        Matplotlib colours by name of sampler.
    labels : mapping of str to str, optional
        Legend labels by name of sampler. Default: the names.

    Returns
    -------
    matplotlib.figure.Figure or type of ``ax``
        The new figure, or ``ax``.

    Raises
    ------
    ValueError
        If ``study`` is not a study of quality, a name is unknown, or ``ax`` does not hold as many axes as there are
        metrics.
    MissingExtraError
        If the extra ``plot`` is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import uldnum
    >>> images = np.random.default_rng(0).uniform(-1, 1, (200, 1, 2, 2))
    >>> data = uldnum.targets.DataMixture(images)
    >>> found = uldnum.studies.quality(data, ["ddim", "heun"], [3, 10], reference=images, features="pixels", images=64)
    >>> figure = uldnum.plotting.draw_quality(found)
    >>> figure.axes[2].get_ylabel()
    'precision (k = 5, n = 64)'
    """
    from matplotlib.axes import Axes

    data = opened(study, "quality")
    data = data.expand_dims([name for name in ("metric", "nfe", "sampler") if name not in data.dims])
    known = [str(name) for name in data.metric.values]
    styles, texts = styles_of(data, colours, labels)
    given = [metrics] if isinstance(metrics, str) else metrics
    usual = [name for name in USUAL if name in known] or known
    names = [known_metric(name, known) for name in (usual if given is None else given)]
    names = names[: 1 if isinstance(ax, Axes) else None]
    upper, lower = new_figure(names, len(styles)) if ax is None else (ax, None)
    figure, panels = axes_of(upper, names, COLUMNS)
    entries = []
    for axes, name in zip(panels, names, strict=True):
        entries += draw_panel(axes, data.sel(metric=name), styles, texts)
    if figure is not None:
        annotate(figure, panels, entries, title_of(data))
    if lower is None:
        return ax
    draw_rows(lower, data, styles, texts)
    return lower.figure


def styles_of(
    data: xr.Dataset, colours: Mapping[str, Any] | None, labels: Mapping[str, str] | None
) -> tuple[dict[str, Style], dict[str, str]]:
    """Return the style and the label of each sampler; samplers of the catalogue have the colours of other figures."""
    names = [str(name) for name in data.sampler.values]
    given = {name: as_colour(one) for name, one in names_of("colours", colours, names).items()}
    texts = {name: name for name in names}
    texts |= {name: checked_name("labels", one) for name, one in names_of("labels", labels, names).items()}
    usual = {name: LOOKS[stem].colour for name in names if (stem := stem_of(name)) in LOOKS}
    free = cycle([colour for colour in PALETTE if colour not in usual.values()] or PALETTE)
    found = {name: given.get(name) or usual.get(name) or next(free) for name in names}
    marks = zip(names, cycle(MARKERS), range(len(names)), strict=False)
    return {name: Style(Look(found[name], mark), "-", "full", rank) for name, mark, rank in marks}, texts


def stem_of(name: str) -> str:
    """Return the name of the integrator of a sampler, without its noise level and, unless it has a look, parameters."""
    method = name.partition("@")[0]
    return method if method in LOOKS else split_name(method)[0]


def new_figure(metrics: Sequence[str], samplers: int) -> tuple[Any, Any]:
    """Return the upper part of a new figure, for panels, and the lower part, for rows of images."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    columns = min(len(metrics), COLUMNS)
    size = np.maximum(np.array(PANEL) * (columns, -(-len(metrics) // columns)) + MARGIN, LEAST)
    images = ROW * -(-samplers // COLUMNS)
    width, height = size * rcParams["font.size"] / 10
    figure = Figure(figsize=(width, height + images), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[height, images])
    return parts[0], parts[1]


def title_of(data: xr.Dataset) -> str:
    """Return what was measured."""
    a = data.attrs
    return (
        f"Quality of {a['chains']:,} images of each sampler on {a['network']};\n"
        f"features: {a['features']}, reference: {a['reference']}"
    )


def draw_panel(axes: Any, data: xr.Dataset, styles: Mapping[str, Style], texts: Mapping[str, str]) -> list[Any]:
    """Draw one metric, and return the legend entries."""
    unit = str(data.unit.values)
    axes.set(xscale="log", xlabel=LABEL, ylabel="\n".join([str(data.label.values), *[f"({unit})"] * bool(unit)]))
    real = data.evaluations.values > 0
    steps = data.evaluations.values[real]
    low, high = steps.min() / 1.15, steps.max() * 1.15
    floor, error = (float(data[name].values[real][0]) for name in ("floor", "floor_error"))
    axes.axhspan(floor - 2 * error, floor + 2 * error, color="0.85", linewidth=0, zorder=0)
    axes.axhline(floor, **GREY.lines(0.6, zorder=0))
    for name, style in styles.items():
        one = data.sel(sampler=name)
        one = one.isel(nfe=one.evaluations.values > 0)
        bars = style.joined(0.8, 0.75) | {"elinewidth": style.lines(0.7)["linewidth"]}
        axes.errorbar(one.evaluations, one.value, yerr=2 * one.error, **bars)
    if str(data.metric.values) in DISTANCES:
        linear = 10 ** np.ceil(np.log10(max(2 * error, 1e-12)))
        if np.abs(axes.get_ylim()).max() > linear:  # otherwise the logarithmic axis has ticks only at its ends
            axes.set_yscale("symlog", linthresh=linear)
            axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlim(low, high)
    plain_ticks(axes, axes.xaxis)
    axes.grid(alpha=0.25, which="both", linewidth=0.5)
    named = [entry(axes, texts[name], style.joined(0.8, 0.75)) for name, style in styles.items()]
    return [*named, entry(axes, f"{data.floor_source}, ± 2 standard errors", GREY.lines(0.6))]


def draw_rows(figure: Any, data: xr.Dataset, styles: Mapping[str, Style], texts: Mapping[str, str]) -> None:
    """Draw a row of images of each sampler, at its largest number of evaluations."""
    columns = min(len(styles), COLUMNS)
    grid = figure.subplots(-(-len(styles) // columns), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    display = Display(*(data.attrs[name] for name in ("display", "gamma", "colours")))
    for axes, (name, style) in zip(grid.flat, styles.items(), strict=False):
        one = data.sel(sampler=name)
        last = one.isel(nfe=int(np.argmax(one.evaluations.values)))
        images = last.images.dropna("image").values
        if len(images):
            axes.imshow(mosaic(coloured(images, display), len(images)), interpolation="nearest")
        count = int(last.evaluations)
        axes.set_title(f"{texts[name]}, {count} evaluations", fontsize="small", color=style.look.colour)

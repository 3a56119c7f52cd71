"""The studies and the axes of a figure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from uldnum._util.arguments import file_path, shown
from uldnum._util.names import checked_name, printable, unknown
from uldnum.plotting.style import Look, Style, entry, looks, names_of
from uldnum.studies.common import AXES, without_law

__all__ = [
    "Shown",
    "annotate",
    "axes_of",
    "common",
    "integrators_of",
    "known_metric",
    "name_entries",
    "opened",
    "read_studies",
    "read_study",
]

# Line styles and fill styles of the first, second, ... study of a figure. They repeat after 20 studies.
LINES = "-", "--", "-.", (0, (5, 1, 1, 1, 1, 1))
FILLS = "full", "left", "bottom", "right", "top"

# Width and height of a panel of a new figure, of the space for labels and legend, and of the smallest figure, in inches
# for a font size of 10 points. New figures grow with the font size.
PANEL, MARGIN, LEAST = (2.95, 3.1), (0.6, 1.5), (5.5, 5.0)


@dataclass(frozen=True)
class Shown:
    """A study in a figure.

    Attributes
    ----------
    name : str
        Name in the legend; empty if the figure has a single study without a name.
    data : xarray.Dataset
        The study, in ascending order of h, with magnitudes of biases. Points without a stationary distribution are
        marked in the variable ``lost``, and their bias and cost are NaN.
    styles : dict
        Style of each integrator of the study, by name.
    labels : dict
        Legend label of each integrator of the study, by name.
    """

    name: str
    data: xr.Dataset
    styles: dict[str, Style]
    labels: dict[str, str]

    def only(self, names: Sequence[str]) -> Shown:
        """Return the study with some of its integrators."""
        kept = [name for name in self.styles if name in names]
        styles = {name: self.styles[name] for name in kept}
        labels = {name: self.labels[name] for name in kept}
        return replace(self, data=self.data.sel(integrator=kept), styles=styles, labels=labels)

    def alone(self) -> Shown:
        """Return the study as it is drawn in a panel of its own: without a name, and in the style of a first study."""
        return replace(self, name="", styles={name: plain(style) for name, style in self.styles.items()})


def plain(style: Style) -> Style:
    """Return the style of the same integrator in the first study of a figure."""
    return replace(style, line=LINES[0], fill=FILLS[0])


def read_studies(
    study: Any, kind: str, colours: Mapping[str, Any] | None, labels: Mapping[str, str] | None
) -> list[Shown]:
    """Return the studies of a figure, from a dataset, a path, or a mapping from names to them; or raise."""
    several = isinstance(study, Mapping) and not isinstance(study, xr.Dataset)
    given = {checked_name("study", name): one for name, one in study.items()} if several else {"": study}
    if not given:
        raise ValueError("study: must hold at least one study, got none")
    found = {name: read_study(one, kind) for name, one in given.items()}
    names = list(dict.fromkeys(str(name) for one in found.values() for name in one.integrator.values))
    styles = looks(names, {name: as_colour(one) for name, one in names_of("colours", colours, names).items()})
    texts = {name: name for name in names}
    texts |= {name: checked_name("labels", one) for name, one in names_of("labels", labels, names).items()}
    shown_studies = []
    for rank, (name, data) in enumerate(found.items()):
        line, fill = LINES[rank % len(LINES)], FILLS[rank % len(FILLS)]
        own = [other for other in names if other in data.integrator.values]
        places = {other: rank * len(names) + names.index(other) for other in own}
        style = {other: Style(styles[other], line, fill, places[other]) for other in own}
        shown_studies.append(Shown(name, data, style, {other: texts[other] for other in own}))
    return shown_studies


def opened(given: Any, kind: str) -> xr.Dataset:
    """Return a dataset, given as such or as a NetCDF file, or raise an error if it is not a study of the given kind."""
    if isinstance(given, xr.Dataset):
        study, where = given, "the dataset"
    elif isinstance(given, str | Path):
        path = file_path("study", given)
        where = shown(str(path))
        try:
            study = xr.load_dataset(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"study: {where} cannot be read as NetCDF: {printable(str(error))}") from None
    else:
        raise ValueError(f"study: must be a dataset, a path, or a mapping from names to them, got {shown(given)}")
    if study.attrs.get("study") != kind:
        raise ValueError(f"study: {where} must contain a study of {kind}")
    return study


def read_study(given: Any, kind: str) -> xr.Dataset:
    """Return one study, or raise an error if it is not a study of the given kind; see `Shown.data`."""
    study = opened(given, kind)
    # A selection of a single coordinate, such as study.sel(metric="mean"), has lost the dimension.
    study = study.expand_dims([axis for axis in (*AXES, "metric") if axis in study.coords and axis not in study.dims])
    study = study.sortby("h")
    if kind == "bias":
        study = one_friction(study)
    study = study.assign({name: abs(study[name]) for name in ("bias", "exact") if name in study})
    if "diverged" not in study:  # an exact study without sampling
        return study
    lost = without_law(study)
    return study.assign({name: study[name].where(~lost) for name in ("bias", "cost") if name in study} | {"lost": lost})


def one_friction(study: xr.Dataset) -> xr.Dataset:
    """Return a study without the dimension friction. If it has several frictions, names of integrators state them."""
    if "friction" not in study.dims:
        return study
    frictions = study.friction.values
    if len(frictions) == 1:
        return study.isel(friction=0, drop=True).assign_attrs(friction=float(frictions[0]))
    curves = [
        study.sel(integrator=[name], friction=friction, drop=True).assign_coords(
            integrator=[f"{name} (friction {friction:.3g})"]
        )
        for name in study.integrator.values
        for friction in frictions
    ]
    return xr.concat(curves, "integrator").assign_attrs(friction=frictions)


def known_metric(metric: Any, study: Iterable[Any]) -> str:
    """Return a metric, or raise if it is not among those of a study."""
    known = [str(name) for name in study]
    if not isinstance(metric, str) or metric not in known:
        raise unknown("metric", metric, known, f"The study has {', '.join(known)}")
    return metric


def as_colour(given: Any) -> str:
    """Return a Matplotlib colour as a string, or raise."""
    from matplotlib.colors import to_hex

    try:
        return to_hex(given, keep_alpha=True)
    except (TypeError, ValueError):
        raise ValueError(f"colours: must be Matplotlib colours, got {shown(given)}") from None


def axes_of(
    ax: Any, panels: Sequence[str], most_columns: int, *, sharex: bool = True, sharey: bool = False
) -> tuple[Any, list[Any]]:
    """Return the figure that gets a title and a legend (None if axes were given), and a list of axes, one per panel.

    Parameters
    ----------
    ax : None, matplotlib.axes.Axes, array of them, matplotlib.figure.Figure or matplotlib.figure.SubFigure
        Place of the panels. None makes a new figure.
    panels : sequence of str
        Names of the panels, for errors.
    most_columns : int
        Largest number of panels in a row of a figure.
    sharex, sharey : bool
        Whether the panels of a figure share their horizontal and vertical axes.
    """
    from matplotlib import rcParams
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

    columns = min(len(panels), most_columns)
    rows = -(-len(panels) // columns)
    if ax is None:
        size = np.maximum(np.array(PANEL) * (columns, rows) + MARGIN, LEAST) * rcParams["font.size"] / 10
        ax = Figure(figsize=(size[0], size[1]), layout="constrained")
    if isinstance(ax, FigureBase):
        grid = list(ax.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False).flat)
        for spare in grid[len(panels) :]:
            spare.remove()
        return ax, grid[: len(panels)]
    found = list(np.array(ax, dtype=object).flat) if isinstance(ax, Axes | Sequence | np.ndarray) else []
    if not found or not all(isinstance(one, Axes) for one in found):
        raise ValueError(f"ax: must be axes, an array of axes, a Figure or a SubFigure, got {shown(ax)}")
    if len(found) != len(panels):
        raise ValueError(f"ax: must be {len(panels)} axes, one each for {', '.join(panels)}, got {len(found)}")
    return None, found


def integrators_of(studies: Sequence[Shown]) -> dict[str, Style]:
    """Return the style of each integrator of several studies, by name, in the order of the figure."""
    styles = {name: style for study in reversed(studies) for name, style in study.styles.items()}
    return dict(sorted(styles.items(), key=lambda item: item[1].rank))


def name_entries(axes: Any, studies: Sequence[Shown], width: float = 1.0) -> list[Any]:
    """Add legend entries of the integrators, and of the studies if they have names, and return them."""
    labels = {name: label for study in studies for name, label in study.labels.items()}
    named = [(labels[name], plain(style)) for name, style in integrators_of(studies).items()]
    grey = Look("0.3", "o")
    named += [(one.name, replace(next(iter(one.styles.values())), look=grey)) for one in studies if one.name]
    return [entry(axes, label, style.joined(width, 0.8)) for label, style in named]


def common(texts: Iterable[str], general: str) -> str:
    """Return the common text if all texts are equal, and the general one otherwise."""
    found = set(texts)
    return found.pop() if len(found) == 1 else general


def annotate(figure: Any, panels: Sequence[Any], entries: Sequence[Any], title: str) -> None:
    """Give a figure its title, and a legend below the panels that is not wider than the figure.

    All panels have the same x label. Only the lowest panel of each column keeps it, or only that of the middle column
    if there are three full columns. If all panels also have the same y label, only the first panel of each row keeps
    it.
    """
    columns = panels[0].get_subplotspec().get_gridspec().ncols
    middle = columns == 3 and len(panels) % 3 == 0
    shared = len({axes.get_ylabel() for axes in panels}) == 1
    for place, axes in enumerate(panels):
        lowest = place + columns >= len(panels)
        if not lowest or (middle and place % columns != 1):
            axes.set_xlabel("")
        if lowest:
            axes.tick_params(labelbottom=True)
        if shared and place % columns:
            axes.set_ylabel("")
    wrap(figure.suptitle(title, fontsize="medium"), 0.98 * figure.bbox.width)
    for axes in panels:
        wrap(axes.title, 0.9 * figure.bbox.width / columns)
    found: dict[str, Any] = {}
    for one in entries:
        found.setdefault(one.get_label(), one)
    handles = list(found.values())
    for rows in range(1, len(handles) + 1):
        ncols = -(-len(handles) // rows)
        legend = figure.legend(
            handles=handles, loc="outside lower center", ncols=ncols, frameon=False, fontsize="medium",
            handlelength=1.8, handletextpad=0.5, columnspacing=1.2, labelspacing=0.3, borderpad=0.2,
        )  # fmt: skip
        if legend.get_window_extent().width <= 0.98 * figure.bbox.width or ncols == 1:
            return
        legend.remove()


def wrap(text: Any, width: float) -> None:
    """Break the lines of a text that are longer than a width in pixels.

    Matplotlib's own wrapping would parse names that look like formulas.
    """
    lines, most = text.get_text().splitlines(), 100
    while text.get_window_extent().width > width and most > 10:
        most = most * 4 // 5
        text.set_text("\n".join(textwrap.fill(line, most) for line in lines))

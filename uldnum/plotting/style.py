"""Common elements of figures: colours of integrators, legends, ticks, and input and output files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uldnum._util.arguments import file_path, shown
from uldnum._util.extras import require
from uldnum._util.files import atomic
from uldnum._util.names import printable
from uldnum.diagnostics.metrics import METRICS

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

__all__ = [
    "SEEN",
    "colour",
    "curve",
    "image_paths",
    "integrator_handles",
    "literal_text",
    "look",
    "mark_divergence",
    "plain_ticks",
    "save",
    "stored_study",
    "title_of",
]

# A bias counts as seen if it is larger than this number of noise floors.
SEEN = 4.0

# An integrator has the same colour in every figure. The colours are the palette of Okabe and Ito without yellow, and
# brown, indigo, olive and dark teal; colour-blind readers can distinguish all of them.
COLOURS = {
    "ula": "#E69F00",
    "BAOAB": "#0072B2",
    "OBABO": "#56B4E9",
    "baoab-limit": "#009E73",
    "mild": "#CC79A7",
    "UBU": "#D55E00",
    "noise-denoise": "#8B4513",
    "ABOBA": "#332288",
    "OABAO": "#000000",
    "BUB": "#999933",
    "BAOA": "#005F50",
}
# The triangles that mark bounds are not among them.
MARKERS = "osDvp*dhPX"


def colour(name: str, rank: int) -> str:
    """Return the colour of an integrator in all figures.

    Parameters
    ----------
    name : str
        Name of the integrator; parameters in parentheses are ignored.
    rank : int
        Index of the integrator in the figure, which selects a grey if the integrator has no colour.

    Returns
    -------
    str
        A Matplotlib colour.

    Examples
    --------
    >>> from uldnum.plotting import colour
    >>> colour("BAOAB", 0), colour("my-integrator", 1)
    ('#0072B2', '0.3')
    """
    return COLOURS.get(name.split("(")[0].strip(), str(0.15 + 0.15 * (rank % 5)))


@contextmanager
def literal_text() -> Iterator[None]:
    """Draw all text literally, whatever the user's settings; a dollar sign in a name does not start a formula."""
    with require("matplotlib", "plot").rc_context({"text.parse_math": False, "text.usetex": False}):
        yield


def stored_study(data: Any, kinds: Sequence[str]) -> xr.Dataset:
    """Return the study in a file, or raise an error if it is not a study of one of the given kinds.

    Points without a stationary distribution are marked in the variable ``lost``, and their bias and cost are NaN.
    """
    import xarray as xr

    from uldnum.studies.common import without_law

    path = file_path("data", data)
    try:
        study = xr.load_dataset(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"data: {shown(str(path))} cannot be read as NetCDF: {printable(str(error))}") from None
    if study.attrs.get("study") not in kinds:
        raise ValueError(f"data: {shown(str(path))} must contain a study of {' or '.join(kinds)}")
    if "diverged" not in study:  # an exact study without sampling
        return study
    lost = without_law(study)
    return study.assign({name: study[name].where(~lost) for name in ("bias", "cost") if name in study} | {"lost": lost})


def image_paths(out: Sequence[Any]) -> list[Path]:
    """Return the paths of a figure, or raise an error if Matplotlib does not support a suffix."""
    from matplotlib.figure import Figure

    paths, formats = [file_path("out", one) for one in out], Figure().canvas.get_supported_filetypes()
    for path in paths:
        if path.suffix[1:].lower() not in formats:
            raise ValueError(f"out: the suffix must be one of {', '.join(formats)}, got {shown(str(path))}")
    return paths


def title_of(metric: str) -> str:
    """Return the axis label of a metric, or its name if the metric is not in the catalogue."""
    return METRICS[metric].title if metric in METRICS else metric


def look(name: str, rank: int) -> tuple[str, str]:
    """Return the colour and the marker of an integrator."""
    return colour(name, rank), MARKERS[rank % len(MARKERS)]


def integrator_handles(names: Iterable[Any], **style: Any) -> list[Any]:
    """Return the legend entries of integrators."""
    from matplotlib.lines import Line2D

    looks = {str(name): look(str(name), rank) for rank, name in enumerate(names)}
    return [Line2D([], [], color=tone, marker=mark, label=name, **style) for name, (tone, mark) in looks.items()]


def mark_divergence(axes: Any, one: xr.Dataset, tone: str, rank: int) -> None:
    """Mark, at the top of a panel, the step sizes at which an integrator diverged or has no stationary distribution."""
    lost = one.h[one.lost.values]
    axes.plot(lost, np.full(len(lost), 0.97 - 0.03 * rank), "x", color=tone, transform=axes.get_xaxis_transform())


def plain_ticks(axes: Any) -> None:
    """Label the ticks of logarithmic axes in decimal notation, not as powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))


def curve(axes: Any, x: Any, y: Any, **style: Any) -> None:
    """Draw a curve, or a horizontal line across the panel if there is only one point."""
    if len(x) > 1:
        axes.plot(x, y, **style)
    else:
        axes.axhline(float(y[0]), **style)


def save(figure: Figure, *out: Path) -> None:
    """Write a figure to files, reproducibly and atomically.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    *out : Path
        Files to write; their suffixes determine the formats. SVG files contain no date and no random identifiers.
    """
    import matplotlib

    for path in out:
        given: dict[str, Any] = {"metadata": {"Date": None}} if path.suffix == ".svg" else {}
        with atomic(path) as file, matplotlib.rc_context({"svg.hashsalt": path.stem}):
            figure.savefig(file, dpi=160, **given)

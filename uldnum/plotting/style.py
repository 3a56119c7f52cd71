"""What figures share: a colour for each integrator, ticks, and how they are saved."""

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

# Biases of less than so many noise floors may be noise.
SEEN = 4.0

# Okabe and Ito's palette but for its yellow, and brown, indigo, olive and dark teal, which the colour-blind, too, can
# tell from each other and from the rest: an integrator has one colour in every figure.
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
# Not the triangles that mark bounds.
MARKERS = "osDvp*dhPX"


def colour(name: str, rank: int) -> str:
    """Return the colour of an integrator; those without one of their own take greys in turn."""
    return COLOURS.get(name.split("(")[0], str(0.15 + 0.15 * (rank % 5)))


@contextmanager
def literal_text() -> Iterator[None]:
    """Draw all text as it is written, whatever the user's settings: a name with a dollar sign is no formula."""
    with require("matplotlib", "plot").rc_context({"text.parse_math": False, "text.usetex": False}):
        yield


def stored_study(data: Any, kinds: Sequence[str]) -> xr.Dataset:
    """Read a study of one of these kinds, or raise if the file holds none.

    Points without a stationary law are marked ``lost``, and have neither bias nor cost.
    """
    import xarray as xr

    from uldnum.studies.common import without_law

    path = file_path("data", data)
    try:
        study = xr.load_dataset(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"data: {shown(str(path))} cannot be read as NetCDF: {printable(str(error))}") from None
    if study.attrs.get("study") not in kinds:
        raise ValueError(f"data: {shown(str(path))} must hold a study of {' or '.join(kinds)}")
    if "diverged" not in study:  # nothing was sampled
        return study
    lost = without_law(study)
    return study.assign({name: study[name].where(~lost) for name in ("bias", "cost") if name in study} | {"lost": lost})


def image_paths(out: Sequence[Any]) -> list[Path]:
    """Return where a figure is to be written, or raise if a suffix is no format of Matplotlib's."""
    from matplotlib.figure import Figure

    paths, formats = [file_path("out", one) for one in out], Figure().canvas.get_supported_filetypes()
    for path in paths:
        if path.suffix[1:].lower() not in formats:
            raise ValueError(f"out: the suffix must be one of {', '.join(formats)}, got {shown(str(path))}")
    return paths


def title_of(metric: str) -> str:
    """Return what an axis says of a metric; of one that only the file knows, its name."""
    return METRICS[metric].title if metric in METRICS else metric


def look(name: str, rank: int) -> tuple[str, str]:
    """Return the colour and the mark of an integrator."""
    return colour(name, rank), MARKERS[rank % len(MARKERS)]


def integrator_handles(names: Iterable[Any], **style: Any) -> list[Any]:
    """Return the entries of a legend that name integrators."""
    from matplotlib.lines import Line2D

    looks = {str(name): look(str(name), rank) for rank, name in enumerate(names)}
    return [Line2D([], [], color=tone, marker=mark, label=name, **style) for name, (tone, mark) in looks.items()]


def mark_divergence(axes: Any, one: xr.Dataset, tone: str, rank: int) -> None:
    """Mark the steps at which chains of an integrator diverged or have no stationary law, at the top of a panel."""
    lost = one.h[one.lost.values]
    axes.plot(lost, np.full(len(lost), 0.97 - 0.03 * rank), "x", color=tone, transform=axes.get_xaxis_transform())


def plain_ticks(axes: Any) -> None:
    """Label logarithmic axes with numbers as people write them."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))


def curve(axes: Any, x: Any, y: Any, **style: Any) -> None:
    """Draw a curve; of one point, a line across the panel."""
    if len(x) > 1:
        axes.plot(x, y, **style)
    else:
        axes.axhline(float(y[0]), **style)


def save(figure: Figure, *out: Path) -> None:
    """Write a figure, atomically, in the formats that the suffixes say; the same figure gives the same file."""
    import matplotlib

    for path in out:
        given: dict[str, Any] = {"metadata": {"Date": None}} if path.suffix == ".svg" else {}
        with atomic(path) as file, matplotlib.rc_context({"svg.hashsalt": path.stem}):
            figure.savefig(file, dpi=160, **given)

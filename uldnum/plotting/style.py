"""Common elements of figures: looks of integrators and studies, labels, ticks, and image files."""

from __future__ import annotations

import textwrap
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uldnum._util.arguments import file_path, shown
from uldnum._util.extras import require
from uldnum._util.files import atomic
from uldnum._util.names import checked_name, split_name, unknown
from uldnum.diagnostics.jackknife import SEEN
from uldnum.diagnostics.metrics import COST, METRICS

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

__all__ = [
    "COST_LABEL",
    "GREY",
    "SEEN",
    "STEP",
    "Look",
    "Style",
    "bias_label",
    "curve",
    "entry",
    "literal_text",
    "look",
    "looks",
    "mark_divergence",
    "names_of",
    "plain_ticks",
    "save",
]

# Labels of the axes of step sizes and of costs.
STEP = "step size h (time; delta = h²/2)"
COST_LABEL = f"cost of an independent sample\n({COST.unit})"

# Largest number of characters in a line of a label of biases.
LABEL = 30


@dataclass(frozen=True)
class Look:
    """Colour and marker of an integrator.

    Attributes
    ----------
    colour : str
        A Matplotlib colour.
    marker : str
        A Matplotlib marker.

    Examples
    --------
    >>> from uldnum.plotting import look
    >>> look("ula").marker
    'o'
    """

    colour: str
    marker: str


# An integrator has the same look in every figure. The colours are the palette of Okabe and Ito without yellow, with
# brown, indigo, olive, dark teal, wine and purple. "^" and "<" mark bounds, and are not among the markers.
LOOKS = {
    "ula": Look("#E69F00", "o"),
    "BAOAB": Look("#0072B2", "s"),
    "OBABO": Look("#56B4E9", "D"),
    "baoab-limit": Look("#009E73", "p"),
    "mild": Look("#CC79A7", "d"),
    "mild(0.22)": Look("#5E1F43", "d"),
    "mild(0.38)": Look("#9A4A79", "d"),
    "mild(0.5)": Look("#CC79A7", "d"),
    "UBU": Look("#D55E00", "v"),
    "noise-denoise": Look("#8B4513", "P"),
    "noise-denoise(1)": Look("#8B4513", "P"),
    "ABOBA": Look("#332288", "h"),
    "OABAO": Look("#000000", "X"),
    "BUB": Look("#999933", "*"),
    "BAOA": Look("#005F50", ">"),
    "euler-maruyama": Look("#882255", "8"),
    "exponential-euler": Look("#AA4499", "H"),
}
GREYS, MARKERS = ("0.15", "0.3", "0.45", "0.6"), "osDvp*dhPX"


def look(name: str) -> Look:
    """Return the colour and the marker of an integrator, which are the same in all figures.

    Integrators of the catalogue have their own colours and markers. With other parameters, an integrator keeps its
    colour, and its name determines the marker. The name of any other integrator determines a grey and a marker.

    Parameters
    ----------
    name : str
        Name of the integrator, as in ``study.integrator``.

    Returns
    -------
    Look
        The attributes ``colour`` and ``marker``, in the notation of Matplotlib.

    Raises
    ------
    ValueError
        If the name is not a printable string of 1 to 200 characters.

    Examples
    --------
    >>> from uldnum import plotting
    >>> plotting.look("BAOAB")
    Look(colour='#0072B2', marker='s')
    >>> plotting.look("mild(0.7)").colour == plotting.look("mild").colour
    True
    """
    if checked_name("name", name) in LOOKS:
        return LOOKS[name]
    shade, shape = divmod(zlib.crc32(name.encode(errors="replace")), len(MARKERS))
    stem = split_name(name)[0]
    return Look(LOOKS[stem].colour if stem in LOOKS else GREYS[shade % len(GREYS)], MARKERS[shape])


def looks(names: Iterable[str], colours: Mapping[str, str]) -> dict[str, Look]:
    """Return the looks of integrators, with given colours. A look that is in use gets another marker."""
    found: dict[str, Look] = {}
    for name in names:
        one = look(name)
        one = replace(one, colour=colours.get(name, one.colour))
        others = (replace(one, marker=marker) for marker in MARKERS)
        found[name] = next((other for other in (one, *others) if other not in found.values()), one)
    return found


def names_of(argument: str, given: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return a mapping of integrators to colours or labels, or raise if one of them is not in the studies."""
    known = list(names)
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ValueError(f"{argument}: must be a mapping from names of integrators, got {shown(given)}")
    for name in given:
        if name not in known:
            raise unknown(argument, name, known, f"The studies have {', '.join(known)}")
    return dict(given)


@dataclass(frozen=True)
class Style:
    """How the results of an integrator in a study are drawn.

    Attributes
    ----------
    look : Look
        Colour and marker, which tell integrators apart.
    line : str or tuple
        Matplotlib line style, which tells studies apart.
    fill : str
        Matplotlib fill style of markers, which tells studies apart.
    rank : int
        Index of the integrator and study in the figure.
    """

    look: Look
    line: Any
    fill: str
    rank: int

    def lines(self, width: float = 1.0, **others: Any) -> dict[str, Any]:
        """Return properties of lines; the width is relative to the setting of Matplotlib."""
        from matplotlib import rcParams

        common = {"color": self.look.colour, "linestyle": self.line, "marker": ""}
        return common | {"linewidth": width * rcParams["lines.linewidth"]} | others

    def points(self, size: float = 1.0, **others: Any) -> dict[str, Any]:
        """Return properties of markers without a line; the size is relative to the setting of Matplotlib."""
        from matplotlib import rcParams

        common = {"color": self.look.colour, "linestyle": "", "marker": self.look.marker, "fillstyle": self.fill}
        shape = {"markersize": size * rcParams["lines.markersize"], "markerfacecoloralt": "white"}
        # A white edge separates markers that overlap.
        edge = {"markeredgecolor": "white", "markeredgewidth": 0.5} if self.fill == "full" else {}
        return common | shape | edge | others

    def joined(self, width: float = 1.0, size: float = 1.0) -> dict[str, Any]:
        """Return properties of markers on a line."""
        return self.points(size) | self.lines(width, marker=self.look.marker)

    def hollow(self, size: float = 1.0, **others: Any) -> dict[str, Any]:
        """Return properties of markers that are white inside."""
        return replace(self, fill="").points(size, fillstyle="full", markerfacecolor="white") | others

    def cross(self, size: float = 0.9) -> dict[str, Any]:
        """Return properties of crosses, which have no face and no edge."""
        return replace(self, fill="").points(size, marker="x", fillstyle="full")


# Legend entries that stand for all integrators and studies.
GREY = Style(Look("0.3", "o"), "-", "full", 0)


@contextmanager
def literal_text() -> Iterator[None]:
    """Draw all text literally, whatever the user's settings; a dollar sign in a name does not start a formula."""
    with require("matplotlib", "plot").rc_context({"text.parse_math": False, "text.usetex": False}):
        yield


def bias_label(metric: str) -> str:
    """Return the label of an axis of biases in lines that are no longer than a panel, with the unit in the last one."""
    if metric not in METRICS:
        return f"bias: {metric}\n(standard deviations)"  # an observable of the user
    one = METRICS[metric]
    return "\n".join(textwrap.wrap(f"bias: {one.label}", LABEL) + [f"({one.unit})"] * bool(one.unit))


def entry(axes: Any, label: str, style: Mapping[str, Any]) -> Any:
    """Add a legend entry to axes without drawing anything, and return it."""
    return axes.plot([], [], label=label, **style)[0]


def mark_divergence(axes: Any, one: xr.Dataset, style: Style) -> None:
    """Mark, at the top of a panel, the step sizes at which an integrator diverged or has no stationary distribution."""
    lost = one.h[one.lost.values]
    height = np.full(len(lost), 0.97 - 0.03 * style.rank)
    axes.plot(lost, height, transform=axes.get_xaxis_transform(), **style.cross())


def plain_ticks(axes: Any, *chosen: Any) -> None:
    """Label the ticks of logarithmic axes, by default both, in decimal notation, not as powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for axis in chosen or (axes.xaxis, axes.yaxis):
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


# Metadata entry that would hold the time of writing, by suffix.
DATES = {".svg": "Date", ".svgz": "Date", ".pdf": "CreationDate", ".eps": "CreationDate", ".ps": "CreationDate"}


def save(figure: Figure, *out: Path | str) -> None:
    """Write a figure to files, reproducibly and atomically.

    Equal figures give equal files: they contain no date and no random identifiers. ``figure.savefig`` has more options.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    *out : Path or str
        Files to write; their suffixes determine the formats.

    Raises
    ------
    ValueError
        If Matplotlib does not support a suffix. No file is written then.
    OSError
        If a file cannot be written.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from uldnum import plotting
    >>> plotting.save(Figure(), "empty.svg", "empty.png")
    """
    import matplotlib

    paths, formats = [file_path("out", one) for one in out], figure.canvas.get_supported_filetypes()
    for path in paths:
        if path.suffix[1:].lower() not in formats:
            raise ValueError(f"out: the suffix must be one of {', '.join(formats)}, got {shown(str(path))}")
    for path in paths:
        date = DATES.get(path.suffix.lower())
        given: dict[str, Any] = {"metadata": {date: None}} if date else {}
        with atomic(path) as file, matplotlib.rc_context({"svg.hashsalt": path.stem}):
            figure.savefig(file, dpi=200, **given)

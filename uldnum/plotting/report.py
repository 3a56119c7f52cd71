"""The interactive report: one HTML file of the results in a folder, which needs no network.

The file contains the library that draws its figures (plotly.js), the data, and `report.js`, which draws the page. Its
content security policy forbids the browser to load anything else.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from uldnum._util.extras import require
from uldnum._util.files import atomic
from uldnum._util.typing import Array
from uldnum.diagnostics.metrics import METRICS
from uldnum.plotting import bias as bias_panels
from uldnum.plotting import frontier as frontier_panels
from uldnum.plotting.panels import Shown, one_friction, opened, read_studies
from uldnum.plotting.pictures import coloured, mosaic
from uldnum.plotting.quality import DISTANCES, styles_of, title_of
from uldnum.plotting.quality import LABEL as EVALUATIONS
from uldnum.plotting.style import COST_LABEL, STEP, Style, bias_label
from uldnum.studies.common import AXES, place_of
from uldnum.targets import Display
from uldnum.version import VERSION

__all__ = ["write_report"]

# Markers of Matplotlib -> symbols of Plotly.
SYMBOLS = {
    "o": "circle", "s": "square", "D": "diamond", "d": "diamond-tall", "p": "pentagon", "v": "triangle-down",
    "P": "cross", "h": "hexagon", "H": "hexagon2", "X": "x", "*": "star", ">": "triangle-right", "8": "octagon",
}  # fmt: skip

# Most chains, and most states along a chain, that are shown as pictures.
CHAINS, STATES = 16, 60

Trace = dict[str, Any]
Part = dict[str, Any]


def write_report(folder: Path) -> Path:
    """Write the report of the results in a folder to ``report.html`` in that folder, and return its path.

    Parameters
    ----------
    folder : Path
        Folder with files that ``uldnum bias``, ``mixing``, ``frontier``, ``quality``, ``sample`` or ``anneal`` wrote.

    Returns
    -------
    Path
        The HTML file.

    Raises
    ------
    ValueError
        If the folder has none of these files, or one of them is not what its name says.
    MissingExtraError
        If the extra ``report`` is not installed.
    OSError
        If the file cannot be written.
    """
    require("plotly", "report")
    from plotly.offline import get_plotlyjs

    found = [(folder / name, make) for name, make in PARTS.items() if (folder / name).is_file()]
    if not found:
        raise ValueError(f"out: must be a folder with one of {', '.join(PARTS)}, got {str(folder)!r}")
    parts = [{**EMPTY, "id": path.stem, **make(path), "provenance": provenance(path)} for path, make in found]
    here = Path(__file__)
    values = {
        "title": escape(f"uldnum: results in {folder.resolve().name}"), "library": get_plotlyjs(),
        "data": json.dumps(parts, allow_nan=False).replace("<", "\\u003c"),
        "script": here.with_suffix(".js").read_text(encoding="utf-8"),
    }  # fmt: skip
    head, *rest = here.with_suffix(".html").read_text(encoding="utf-8").split("{{")
    pieces = [head]
    for piece in rest:
        name, _, text = piece.partition("}}")
        pieces += values[name], text
    out = folder / "report.html"
    with atomic(out) as file:
        file.write_text("".join(pieces), encoding="utf-8")
    return out


# What a part of the report has: its title and caption, the names that can be switched off, the column of the table that
# holds them, figures, pictures, strips of states along chains, and a table.
EMPTY: Part = {"names": [], "key": "", "figures": [], "pictures": [], "strips": None, "table": None}


def provenance(path: Path) -> list[list[str]]:
    """Return the name and the hash of a file, its attributes, and the version of this package."""
    with xr.open_dataset(path) as data:
        attributes = [[str(name), str(value)] for name, value in data.attrs.items()]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return [["file", path.name], ["sha256", digest], *attributes, ["report", f"uldnum {VERSION}"]]


# ------------------------------------------------------------------------------------------------------------- studies


def bias_part(path: Path) -> Part:
    """Return the part of a study of bias: one figure for each metric."""
    (study,) = read_studies(path, "bias", None, None)
    figures = []
    for metric in map(str, study.data.metric.values):
        ends = bias_panels.limits(study.data.sel(metric=metric))
        traces = [
            trace for name, style in study.styles.items() for trace in bias_traces(study, metric, name, style, ends[1])
        ]
        figures.append(figure(metric, traces, STEP, bias_label(metric), y_range=ends))
    return study_part(study, path, "Bias", figures)


def bias_traces(study: Shown, metric: str, name: str, style: Style, top: float) -> Iterator[Trace]:
    """Yield the exact curve, the noise floor, the sampled points and, where chains diverged, crosses at the top."""
    one = study.data.sel(metric=metric, integrator=name)
    yield curve(name, style, one.h, one.exact, "exact bias")
    if "bias" in one:
        yield curve(name, style, one.h, one.floor, "noise floor", dash="dot", width=1)
        yield points(name, style, one.h, one.bias, one.resolved, yerr=2 * one.error, what="bias")
        if one.lost.any():
            yield crosses(name, style, one.h[one.lost.values], top * 0.9 ** (1 + style.rank))


def mixing_part(path: Path) -> Part:
    """Return the part of a study of mixing: one figure for each friction."""
    (study,) = read_studies(path, "mixing", None, None)
    figures = []
    for friction in study.data.friction.values:
        traces = []
        for name, style in study.styles.items():
            one = study.data.sel(friction=friction, integrator=name)
            traces.append(curve(name, style, one.h, one.exact_cost, "exact cost"))
            error = 2 * one.cost_error.where(one.cost_resolved)
            traces.append(points(name, style, one.h, one.cost, one.cost_resolved, yerr=error, what="cost"))
        figures.append(figure(f"friction {friction:.3g}", traces, STEP, COST_LABEL))
    return study_part(study, path, "Cost of an independent sample", figures)


def frontier_part(path: Path) -> Part:
    """Return the part of a frontier: one figure for each metric, with lower envelopes."""
    (study,) = read_studies(path, "frontier", None, None)
    figures = []
    for metric in map(str, study.data.metric.values):
        whole, traces = study.data.sel(metric=metric), []
        left, right = frontier_panels.limits(whole)
        for name, style in study.styles.items():
            one = whole.sel(integrator=name)
            for friction in one.friction.values:
                at = one.sel(friction=friction)
                traces.append(curve(name, style, at.exact, at.exact_cost, f"exact, friction {friction:.3g}", width=1))
                errors = {"xerr": 2 * at.error, "yerr": 2 * at.cost_error.where(at.cost_resolved)}
                sure = at.bias_resolved & at.cost_resolved
                hints = [f"friction {friction:.3g}, h = {h:.4g}" for h in at.h.values]
                traces.append(points(name, style, at.bias, at.cost, sure, what="cost", hints=hints, **errors))
            bias, least = frontier_panels.least_costs(one)
            if len(bias):
                ends = np.append(np.maximum(bias, left), right), np.append(least, least[-1])
                traces.append(curve(name, style, *ends, "lower envelope", width=3, shape="hv"))
        figures.append(figure(metric, traces, bias_label(metric), COST_LABEL, x_range=(left, right)))
    return study_part(study, path, "Cost against bias", figures)


def study_part(study: Shown, path: Path, title: str, figures: list[Part]) -> Part:
    """Return the part of a study of integrators."""
    data = opened(path, str(study.data.attrs["study"]))
    data = one_friction(data) if data.attrs["study"] == "bias" else data  # as its figure
    sampled = data.attrs["study"] == "bias" and "bias" in data
    floors = ", and dotted lines are noise floors" if sampled else ""
    lost = " Crosses at the top mark step sizes at which chains diverged or the scheme is unstable." if sampled else ""
    return {
        "title": f"{title}: {place_of(data)}", "key": "integrator",
        "caption": f"Lines are exact{floors}. Points are sampled, with error bars of 2 standard errors. Points that "
        f"are not resolved from noise, and bounds, are hollow.{lost}",
        "names": names_of(study.styles, study.labels), "figures": figures,
        "table": table(data, (*AXES, "metric"), path.stem),
    }  # fmt: skip


def quality_part(path: Path) -> Part:
    """Return the part of a study of the quality of images: one figure for each metric, and images of each sampler."""
    data = opened(path, "quality")
    styles, labels = styles_of(data, None, None)
    display = display_of(data)
    figures, pictures = [], []
    for metric in map(str, data.metric.values):
        one = data.sel(metric=metric)
        traces = []
        for name, style in styles.items():
            at = one.sel(sampler=name).where(one.sel(sampler=name).evaluations > 0, drop=True)
            trace = points(name, style, at.evaluations, at.value, at.value.notnull(), yerr=2 * at.error, what="value")
            traces.append(trace | {"mode": "lines+markers"})
        floor = one.floor.where(one.evaluations > 0).max(skipna=True)
        label = str(one.label.values) + (f"\n({one.unit.values})" if str(one.unit.values) else "")
        drawn = figure(metric, traces, EVALUATIONS, label, log_y=metric in DISTANCES and bool((one.value > 0).all()))
        drawn["layout"]["shapes"] = [horizontal(float(floor))] if np.isfinite(floor) else []
        figures.append(drawn)
    for name in styles:
        last = data.sel(sampler=name).isel(nfe=int(np.argmax(data.sel(sampler=name).evaluations.values)))
        images = last.images.dropna("image").values
        if len(images):
            caption = f"{labels[name]}, {int(last.evaluations)} evaluations"
            source = picture(mosaic(coloured(images, display), len(images)))
            pictures.append({"source": source, "caption": caption, "name": name, "whole": False})
    return {
        "title": "Quality of images", "key": "sampler", "names": names_of(styles, labels), "figures": figures,
        "caption": f"{title_of(data)}. Error bars are 2 standard errors. The dashed line is the value of real images.",
        "pictures": pictures, "table": table(data, ("sampler", "nfe", "metric"), path.stem),
    }  # fmt: skip


def names_of(styles: dict[str, Style], labels: dict[str, str]) -> list[Part]:
    """Return the names that can be switched off, with labels and colours."""
    return [{"name": name, "label": labels[name], "colour": colour_of(style)} for name, style in styles.items()]


def table(data: xr.Dataset, axes: Sequence[str], stem: str) -> Part:
    """Return one row for each point of a study, with the variables that have no other axes."""
    data = data.expand_dims([name for name in axes if name in data.coords and name not in data.dims])
    data = data.drop_dims([str(name) for name in data.dims if name not in axes]).drop_vars("label", errors="ignore")
    if "metric" in data.dims and "unit" not in data.coords:
        units = [METRICS[name].unit if name in METRICS else "" for name in map(str, data.metric.values)]
        data = data.assign_coords(unit=("metric", units))
    frame = data.to_dataframe(dim_order=[str(name) for name in axes if name in data.dims]).reset_index()
    return {"columns": list(map(str, frame.columns)), "rows": plain(frame.to_numpy(object)), "file": f"{stem}.csv"}


# ---------------------------------------------------------------------------------------------------------------- runs


def run_part(path: Path) -> Part:
    """Return the part of a run of ``uldnum sample``: states along chains of images, or points."""
    data = xr.load_dataset(path)
    states = data.get("denoised", data.get("trace"))
    last = data.x.expand_dims(draw=[int(data.attrs["recorded_steps"])])
    states = last if states is None or not states.sizes["draw"] else states
    names = ", ".join(f"{name} = {data.attrs[name]:.4g}" for name in ("h", "friction") if name in data.attrs)
    found = {
        "title": f"{states.sizes['chain']} chains of {data.attrs['integrator']} on {data.attrs['target']}",
        "caption": f"{names}; {int(data.nfe)} score evaluations of each chain",
    }
    if states.ndim < 5:
        return found | points_of(states.values, states.draw.values, path.stem)
    kept = np.unique(np.linspace(0, states.sizes["draw"] - 1, STATES).round().astype(int))
    values, steps = states.values, states.draw.values
    strips = [picture(mosaic(coloured(chain, display_of(data, values)), len(kept))) for chain in columns(values[kept])]
    (height, width), change = values.shape[-2:], np.full(values.shape[:2], np.nan)
    change[1:] = np.sqrt(np.mean((values[1:] - values[:-1]) ** 2, axis=(2, 3, 4)))
    rows = [
        [int(step), chain, *plain(np.array([one.mean(), one.std(), change[i, chain]], np.float64))]
        for i, step in enumerate(steps)
        for chain, one in enumerate(values[i])
    ]
    labels = ["step", "chain", "mean of pixels", "standard deviation of pixels", "root mean square change"]
    return found | {
        "strips": {"steps": steps[kept].tolist(), "chains": strips, "height": height, "width": width},
        "table": {"columns": labels, "rows": rows, "file": f"{path.stem}.csv"},
    }


def columns(states: Array) -> Iterator[Array]:
    """Yield the states of the first chains, shape (draws, channels, height, width) each."""
    for chain in range(min(CHAINS, states.shape[1])):
        yield states[:, chain]


def anneal_part(path: Path) -> Part:
    """Return the part of a run of ``uldnum anneal``: the picture of its final images, or points."""
    data = xr.load_dataset(path)
    found = {
        "title": f"{data.sizes['chain']} chains of {data.attrs['integrator']} on {data.attrs['target']}",
        "caption": f"{int(data.nfe)} score evaluations of each chain; final states",
    }
    if data.x.ndim < 4:
        return found | points_of(data.x.values[None], np.array([data.attrs["recorded_steps"]]), path.stem)
    drawn = path.with_suffix(".png")
    uri = "data:image/png;base64," + base64.b64encode(drawn.read_bytes()).decode() if drawn.is_file() else ""
    pictures = [{"source": uri, "caption": drawn.name, "name": "", "whole": True}] if uri else []
    return found | {"pictures": pictures}


def points_of(states: Array, steps: Array, stem: str) -> Part:
    """Return the figure and the table of chains of vectors, shape (draws, chains, d)."""
    d = states.shape[2]
    x = states[-1]
    labels = [f"x{i + 1}" for i in range(d)]
    hints = [f"chain {i}" for i in range(len(x))]
    trace: Trace = {"type": "histogram", "x": plain(x[:, 0])}
    if d > 1:
        marker = {"size": 5, "opacity": 0.6}
        trace = {"type": "scatter", "mode": "markers", "x": plain(x[:, 0]), "y": plain(x[:, 1]), "text": hints}
        trace |= {"marker": marker, "hovertemplate": "%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>"}
    drawn = figure("final states", [trace], "x1", labels[1] if d > 1 else "chains", log_x=False, log_y=False)
    rows = [
        [int(step), chain, *plain(one)]
        for step, state in zip(steps, states, strict=True)
        for chain, one in enumerate(state)
    ]
    return {
        "figures": [drawn],
        "table": {"columns": ["step", "chain", *labels], "rows": rows, "file": f"{stem}.csv"},
    }


def display_of(data: xr.Dataset, images: Array | None = None) -> Display:
    """Return how the images of a dataset are drawn; files of earlier versions do not state it."""
    if "display" in data.attrs or images is None:
        return Display(*(data.attrs[name] for name in ("display", "gamma", "colours")))
    return Display((float(np.nanmin(images)), float(np.nanmax(images))))


def picture(image: Array) -> str:
    """Return an RGB image with values between 0 and 1 as the address of a PNG file that it contains."""
    from matplotlib.image import imsave

    file = BytesIO()
    imsave(file, np.ascontiguousarray(image), format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


# ------------------------------------------------------------------------------------------------------------- figures


def figure(
    title: str, traces: list[Trace], x: str, y: str, *, log_x: bool = True, log_y: bool = True, x_range: Any = None,
    y_range: Any = None,
) -> Part:  # fmt: skip
    """Return the traces and the layout of a figure. Ranges are those of the data, not of their logarithms."""
    layout = {
        "title": {"text": escape(title), "font": {"size": 13}}, "showlegend": False, "plot_bgcolor": "white",
        "margin": {"l": 70, "r": 15, "t": 35, "b": 60}, "hovermode": "closest", "font": {"family": "system-ui"},
        "xaxis": axis(escape(x).replace("\n", " "), log_x, x_range, ends_of(traces, "x")),
        "yaxis": axis(escape(y).replace("\n", "<br>"), log_y, y_range, ends_of(traces, "y")),
    }  # fmt: skip
    return {"data": traces, "layout": layout}


def ends_of(traces: Sequence[Trace], axis: str) -> tuple[float, float]:
    """Return the least and the largest positive number of traces on an axis."""
    seen = [one for trace in traces for one in trace.get(axis, ()) if isinstance(one, int | float) and one > 0]
    return min(seen, default=1.0), max(seen, default=1.0)


def axis(label: str, log: bool, given: Any, seen: tuple[float, float]) -> Part:
    """Return the layout of an axis; the ticks of a logarithmic axis are labelled in decimal notation."""
    found: Part = {"title": {"text": label, "font": {"size": 12}, "standoff": 8}, "type": "log" if log else "linear"}
    found |= {"gridcolor": "#e5e5e5", "linecolor": "#999", "ticks": "outside", "zeroline": False, "automargin": True}
    if not log:
        return found
    low, high = seen
    if given is not None and np.all(np.isfinite(given)) and min(given) > 0:
        low, high = given
        found["range"] = np.log10([low, high]).tolist()
    factors = (1, 2, 5) if high < 100 * low else (1,)
    ticks = [factor * 10.0**power for power in range(-15, 16) for factor in factors]
    return found | {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def curve(
    name: str, style: Style, x: Any, y: Any, what: str, *, dash: str = "solid", width: float = 2, shape: str = "linear"
) -> Trace:
    """Return the trace of a line."""
    template = f"{escape(name)}<br>{what}: %{{y:.3g}}<br>at %{{x:.4g}}<extra></extra>"
    return {
        "type": "scatter", "mode": "lines", "meta": name, "x": plain(np.asarray(x)), "y": plain(np.asarray(y)),
        "line": {"color": colour_of(style), "dash": dash, "width": width, "shape": shape}, "hovertemplate": template,
        "connectgaps": True,
    }  # fmt: skip


def points(
    name: str, style: Style, x: Any, y: Any, sure: Any, *, what: str, yerr: Any, xerr: Any = None,
    hints: Sequence[str] = (),
) -> Trace:  # fmt: skip
    """Return the trace of sampled points. Points that are not ``sure`` are hollow and have no error bars."""
    colour, sure = colour_of(style), np.asarray(sure)
    symbol = SYMBOLS[style.look.marker]
    lines = [f"{escape(name)}"] + ["%{text}"] * bool(len(hints)) + [f"{what}: %{{y:.4g}}", "at %{x:.4g}"]
    trace: Trace = {
        "type": "scatter", "mode": "markers", "meta": name, "x": plain(np.asarray(x)), "y": plain(np.asarray(y)),
        "marker": {
            "color": colour, "size": 8, "symbol": [symbol if one else f"{symbol}-open" for one in sure],
        },
        "line": {"color": colour}, "hovertemplate": "<br>".join(lines) + "<extra></extra>", "text": list(hints) or None,
    }  # fmt: skip
    for axis, error in {"error_x": xerr, "error_y": yerr}.items():
        if error is not None:
            shown = np.where(sure, np.asarray(error), np.nan)
            trace[axis] = {"type": "data", "array": plain(shown), "color": colour, "thickness": 1, "width": 0}
    return trace


def crosses(name: str, style: Style, x: Any, y: float) -> Trace:
    """Return the trace of crosses at step sizes at which an integrator diverged or has no stationary distribution."""
    line = {"color": colour_of(style), "width": 1.5}
    return {
        "type": "scatter", "mode": "markers", "meta": name, "x": plain(np.asarray(x)), "y": plain(np.full(len(x), y)),
        "marker": {"symbol": "x-thin", "size": 8, "line": line},
        "hovertemplate": f"{escape(name)}<br>diverged or unstable<br>at %{{x:.4g}}<extra></extra>",
    }  # fmt: skip


def horizontal(y: float) -> Part:
    """Return the shape of a dashed grey line across a panel."""
    line = {"color": "#777", "dash": "dash", "width": 1}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line}


def colour_of(style: Style) -> str:
    """Return the colour of a style in the notation of HTML."""
    from matplotlib.colors import to_hex

    return str(to_hex(style.look.colour))


def plain(values: Array) -> list[Any]:
    """Return an array as nested lists for JSON, with None for numbers that are not finite."""
    if values.ndim > 1:
        return [plain(row) for row in values]
    return [None if isinstance(one, float) and not np.isfinite(one) else one for one in values.tolist()]


PARTS: dict[str, Callable[[Path], Part]] = {
    "bias.nc": bias_part,
    "mixing.nc": mixing_part,
    "frontier.nc": frontier_part,
    "quality.nc": quality_part,
    "run.nc": run_part,
    "anneal.nc": anneal_part,
}

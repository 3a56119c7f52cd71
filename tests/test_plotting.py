"""Figures of studies: places, studies, looks, settings of Matplotlib, and files.

The studies are exact, or of eight chains on arrays, so that nothing is compiled.
"""

import re
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import uldnum
from analysis import ONE_COLUMN, TWO_COLUMNS, paper
from uldnum import plotting, studies
from uldnum.cli.bias import cell
from uldnum.diagnostics.jackknife import SEEN
from uldnum.plotting.frontier import strip
from uldnum.plotting.style import LOOKS, MARKERS, Style, looks

FIGURES = Path(__file__).parents[1] / "figures"
SHORT = {"nfe": 64, "burn_in": 8, "chains": 8, "backend": "array", "progress": False}
DRAW = {"bias": plotting.draw_bias, "mixing": plotting.draw_mixing, "frontier": plotting.draw_frontier}


@pytest.fixture(scope="module")
def given():
    """One small study of each kind."""
    names, h = ["ula", "BAOAB", "OBABO"], [0.25, 0.5, 1.0]
    return {
        "bias": studies.bias("gaussian", names, h, **SHORT),
        "mixing": studies.mixing("gaussian", names, h, friction=[0.5, 1.0, 2.0], **SHORT),
        "frontier": studies.frontier("gaussian", names, h, friction=[1.0, 2.0], **SHORT),
    }


def labels_of(axes):
    return axes.get_legend_handles_labels()[1]


def drawn_lines(axes):
    """Return the lines that are no legend entries."""
    return [line for line in axes.lines if len(line.get_xdata())]


@pytest.mark.parametrize("kind", DRAW)
def test_given_axes_are_drawn_into_and_returned(given, kind, tmp_path):
    """Axes, arrays of axes, figures and subfigures; a study in memory is drawn as its file is."""
    draw, study = DRAW[kind], given[kind]
    panels = {"bias": 8, "mixing": 4, "frontier": 1}[kind]  # that of mixing without friction, and three frictions
    axes = Figure().subplots()
    assert draw(study, axes) is axes
    assert axes.get_legend() is None
    assert labels_of(axes)[:3] == ["ula", "BAOAB", "OBABO"]
    several = Figure().subplots(1, panels)
    assert draw(study, several) is several
    assert [one.get_xscale() for one in np.ravel(several)] == ["log"] * panels
    figure = Figure(layout="constrained")
    left, right = figure.subfigures(1, 2)
    assert draw(study, left) is left
    assert len(left.axes) == panels
    assert not right.axes
    made = draw(study)
    assert isinstance(made, Figure)
    assert len(made.axes) == panels
    study.to_netcdf(tmp_path / "study.nc")
    stored = draw(tmp_path / "study.nc", Figure().subplots())
    for one, other in zip(stored.lines, axes.lines, strict=True):
        np.testing.assert_array_equal(one.get_xydata(), other.get_xydata())


def test_axes_say_what_they_show_with_units(given):
    """The frontier has the bias on the horizontal and the cost on the vertical axis."""
    axes = plotting.draw_frontier(given["frontier"], Figure().subplots(), metric="mean")
    assert axes.get_xlabel() == "bias: mean\n(standard deviations of x)"
    assert axes.get_ylabel() == "cost of an independent sample\n(score evaluations)"
    part = given["frontier"].sel(metric="mean", integrator="BAOAB")
    exact = next(line for line in drawn_lines(axes) if line.get_color() == plotting.look("BAOAB").colour)
    np.testing.assert_array_equal(exact.get_xdata(), part.exact.isel(friction=0))
    np.testing.assert_array_equal(exact.get_ydata(), part.exact_cost.isel(friction=0))
    with pytest.raises(ValueError, match=r"metric: must be the name of one metric, got \['mean'\]; .* study\.sel\("):
        plotting.draw_bias(given["bias"], metric=["mean"])
    axes = plotting.draw_bias(given["bias"], Figure().subplots(), metric="mean")
    assert axes.get_xlabel() == "step size h (time; delta = h²/2)"
    assert axes.get_ylabel() == "bias: mean\n(standard deviations of x)"
    axes = plotting.draw_mixing(given["mixing"], Figure().subplots(), friction=2.0)
    assert axes.get_title() == "friction 2"


def test_costs_without_friction_are_drawn_once(given):
    """ULA has a panel of its own; the others have one for each friction."""
    figure = plotting.draw_mixing(given["mixing"])
    assert [one.get_title() for one in figure.axes] == ["any friction", "friction 0.5", "friction 1", "friction 2"]
    colours = [{line.get_color() for line in drawn_lines(one)} for one in figure.axes]
    own = {name: plotting.look(name).colour for name in ("ula", "BAOAB", "OBABO")}
    assert colours == [{own["ula"]}, *[{own["BAOAB"], own["OBABO"]}] * 3]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[:3] == ["ula", "BAOAB", "OBABO"]
    alone = plotting.draw_mixing(given["mixing"].sel(friction=[1.0]))
    assert len(alone.axes) == 1


def test_lines_of_a_finer_exact_study(given):
    """They replace those of the study, whose points stay."""
    study, names = given["bias"].sel(metric=["second_moment"]), ["ula", "BAOAB", "OBABO"]
    fine = studies.exact_bias("gaussian", names, np.geomspace(0.25, 1.0, 9))
    axes = plotting.draw_bias(study, Figure().subplots(), exact=fine)
    exact = [line for line in drawn_lines(axes) if line.get_linestyle() == "-"]
    assert exact
    for line in exact:
        np.testing.assert_array_equal(line.get_xdata(), fine.h)
    for other, message in (
        (studies.exact_bias("bimodal-1d", ["ula"], [0.5], tolerance=1e-2), "exact: must have the target of study"),
        (studies.exact_bias("gaussian", names, [0.5], friction=2.0), "exact: must have the friction of study, 1.0"),
    ):
        with pytest.raises(ValueError, match="^" + message):
            plotting.draw_bias(study, exact=other)
    with pytest.raises(ValueError, match=r"^exact: must be given with a single study"):
        plotting.draw_bias({"one": study, "two": study}, exact=fine)


def test_a_bias_that_changes_its_sign_falls_to_zero(given):
    """Signed biases of 0.1, -0.3 and -0.2: the line has a cusp at a quarter of the first interval."""
    one = given["bias"].sel(integrator=["ula"], metric=["mean"])
    signed = one.exact_signed.copy(data=np.broadcast_to([0.1, -0.3, -0.2], (1, 2, 1, 3)).transpose(0, 3, 1, 2))
    one = one.assign(exact_signed=signed, exact=abs(signed).sel(moment="mean").isel(axis=0).expand_dims("metric", -1))
    lines = [line for line in drawn_lines(plotting.draw_bias(one, Figure().subplots())) if line.get_linestyle() == "-"]
    h, bias = lines[0].get_xydata().T
    assert h[bias.argmin()] == pytest.approx(0.25 + 0.25 / 4, rel=1e-4)
    assert bias.min() < 1e-5
    np.testing.assert_allclose(np.interp([0.25, 0.5, 1.0], h, bias), [0.1, 0.3, 0.2])


def test_every_segment_of_the_strip_is_named():
    """By its name, or above a short segment by its marker; BAOAB is cheapest between 0.0100 and 0.0105 only."""
    steps = {"ula": (np.array([0.001, 0.0105]), np.array([9.0, 1.0])), "BAOAB": (np.array([0.01]), np.array([5.0]))}
    axes = Figure().subplots()
    axes.set(xscale="log", xlim=(0.001, 0.1))
    strip(axes, steps, {name: Style(plotting.look(name), "-", "full", 0) for name in steps})
    assert [text.get_text() for text in axes.texts] == ["ula", "ula", "cheapest:"]
    assert [line.get_marker() for line in axes.lines] == [plotting.look("BAOAB").marker]
    assert axes.lines[0].get_xdata()[0] == pytest.approx(0.505, abs=0.01)


@pytest.mark.parametrize("kind", DRAW)
@pytest.mark.parametrize("width", [ONE_COLUMN, TWO_COLUMNS])
def test_figures_fit_a_column_and_a_page(given, kind, width):
    """At the size of type of a journal, all text lies within the figure, and no label of an axis covers another."""
    with paper():
        figure = Figure(figsize=(width, 3.2), layout="constrained")
        options = {"metric": "mean"} if kind != "mixing" else {"friction": 1.0}
        axes = DRAW[kind](given[kind], figure.subplots(), **options)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")
        figure.draw_without_rendering()
    box = figure.get_tightbbox()
    assert min(box.x0, box.y0) > -0.02
    assert box.x1 < width + 0.02
    ends = sorted(
        (one.x0, one.x1)
        for text in axes.get_xticklabels()
        if text.get_text() and axes.get_xlim()[0] <= text.get_position()[0] <= axes.get_xlim()[1]
        for one in [text.get_window_extent()]
    )
    assert all(end < start for (_, end), (start, _) in pairwise(ends))


def test_stored_figures_are_as_wide_as_a_page():
    """All figures are drawn at their final size."""
    for path in FIGURES.glob("*.svg"):
        head = path.read_text(encoding="utf-8")[:2000]
        assert float(re.search(r'width="([\d.]+)pt"', head)[1]) <= 72 * TWO_COLUMNS + 1


def test_the_frontier_shows_errors_in_both_directions(given):
    """The bars of a point that is seen and resolved end 2 standard errors from it."""
    study = given["frontier"].sel(integrator=["ula"], h=[1.0], friction=[1.0], metric=["mean"]).copy(deep=True)
    study = study.assign(
        bias=0.5 + 0 * study.bias, error=0.1 + 0 * study.error, floor=0.01 + 0 * study.floor, cost=20 + 0 * study.cost,
        cost_error=2 + 0 * study.cost_error, cost_resolved=study.cost_resolved | True,
        bias_resolved=study.bias_resolved | True,
    )  # fmt: skip
    axes = plotting.draw_frontier(study, Figure().subplots(), metric="mean")
    ends = [segment.tolist() for bars in axes.collections for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, [[[0.3, 20], [0.7, 20]], [[0.5, 16], [0.5, 24]]])


def test_the_table_is_grey_where_the_figure_is_hollow(given):
    """Both show which biases are larger than 4 noise floors; one bias here is 2 floors, and another one 5."""
    one = given["bias"].sel(integrator=["ula"], metric=["mean"])
    resolved = one.bias > SEEN * one.floor
    np.testing.assert_array_equal(one.resolved, resolved)
    bias = one.floor * xr.DataArray([0.5, 2.0, 5.0], dims="h")
    one = one.assign(bias=bias, resolved=bias > SEEN * one.floor)
    axes = plotting.draw_bias(one, Figure().subplots(), metric="mean")
    hollow = [line for line in drawn_lines(axes) if line.get_markerfacecolor() == "white"]
    np.testing.assert_array_equal(np.concatenate([line.get_xdata() for line in hollow]), one.h[:2])
    cells = [cell(one.isel(h=i, integrator=0, metric=0)) for i in range(3)]
    assert ["\x1b[" in text for text in cells] == [True, True, False]


@pytest.mark.parametrize("kind", DRAW)
def test_several_studies_share_axes(given, kind):
    """Studies differ in line style and marker fill, integrators in colour and marker; the legend names both."""
    two = {"first": given[kind], "second": given[kind].sel(integrator=["OBABO"])}
    axes = DRAW[kind](two, Figure().subplots())
    assert labels_of(axes)[:5] == ["ula", "BAOAB", "OBABO", "first", "second"]
    entries = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    assert [entries[name].get_linestyle() for name in two] == ["-", "--"]
    assert [entries[name].get_fillstyle() for name in two] == ["full", "left"]
    assert entries["OBABO"].get_marker() == plotting.look("OBABO").marker
    own = [line for line in drawn_lines(axes) if line.get_color() == plotting.look("OBABO").colour]
    assert {"-", "--"} <= {line.get_linestyle() for line in own}
    with_panels = DRAW[kind](two)
    if kind == "frontier":
        assert [one.get_title() for one in with_panels.axes] == ["first", "second"]
    texts = [text.get_text() for text in with_panels.legends[0].get_texts()]
    assert ("second" in texts) == (kind != "frontier")


def test_a_single_point_of_a_study_is_drawn(given):
    """A selection that has lost dimensions is a study, and studies may have different metrics and step sizes."""
    one = given["bias"].sel(integrator="BAOAB", metric="mean", h=0.5)
    figure = plotting.draw_bias({"all": given["bias"], "one": one})
    assert len(figure.axes) == 8
    assert len(plotting.draw_bias(one).axes) == 1
    assert len(plotting.draw_mixing(given["mixing"].sel(friction=1.0, integrator="ula")).axes) == 1


@pytest.mark.parametrize("kind", DRAW)
@pytest.mark.parametrize(("count", "size"), [(1, 12), (2, 10), (4, 8)])
def test_nothing_runs_over_the_edge(given, kind, count, size):
    """All text lies within the figure, also of two panels, with long names and large letters."""
    long = given[kind].assign_attrs(target="a target with a rather long name, as users give them, " * 2)
    many = long if count == 1 else {f"study number {rank} of {count}": long for rank in range(count)}
    with matplotlib.rc_context({"font.size": size}):
        figure = DRAW[kind](many)
        figure.draw_without_rendering()
    box = figure.get_tightbbox()
    assert min(box.x0, box.y0) > -0.02
    assert box.x1 < figure.get_figwidth() + 0.02
    assert box.y1 < figure.get_figheight() + 0.02


def test_settings_of_matplotlib_hold_and_do_not_change(given):
    before = dict(matplotlib.rcParams)
    axes = plotting.draw_bias(given["bias"], Figure().subplots(), metric="mean")
    assert dict(matplotlib.rcParams) == before
    with matplotlib.rc_context({"lines.linewidth": 6.0, "lines.markersize": 18.0, "axes.labelsize": 5.0}):
        large = plotting.draw_bias(given["bias"], Figure().subplots(), metric="mean")
    for one, other in zip(axes.lines, large.lines, strict=True):
        assert other.get_linewidth() in (pytest.approx(4 * one.get_linewidth()), 6.0)
        assert other.get_markersize() in (pytest.approx(3 * one.get_markersize()), 18.0)
    assert large.xaxis.label.get_size() == 5.0


def test_one_integrator_has_one_colour_and_one_marker(given):
    """Those of figures differ from each other; other names have a look of their own in any company."""
    catalogue = [scheme.name for scheme in uldnum.integrators() if scheme.name in LOOKS]
    assert len(catalogue) >= 13
    assert len({LOOKS[name] for name in catalogue}) == len(catalogue)
    assert len({LOOKS[name].colour for name in catalogue}) == len(catalogue)
    for names in (catalogue, catalogue[::-1], ["BAOAB"]):
        assert looks(names, {})["BAOAB"] == plotting.look("BAOAB")
    assert plotting.look("mild(0.9)").colour == plotting.look("mild").colour
    assert len({plotting.look(f"mild({beta})") for beta in (0.22, 0.38, 0.5)}) == 3
    many = [f"my integrator {number}" for number in range(len(MARKERS))]
    assert len(set(looks(many, {}).values())) == len(many)
    assert looks(many, dict.fromkeys(many, "red"))[many[0]].colour == "red"
    assert len(set(looks(many, dict.fromkeys(many, "red")).values())) == len(many)
    with pytest.raises(ValueError, match=r"^name: must be a string"):
        plotting.look(None)
    axes = [DRAW[kind](given[kind], Figure().subplots()) for kind in DRAW]
    handles = [dict(zip(*one.get_legend_handles_labels()[::-1], strict=True))["OBABO"] for one in axes]
    assert {(one.get_color(), one.get_marker()) for one in handles} == {("#56B4E9", "D")}


def test_colours_and_labels_are_arguments(given):
    own = {"colours": {"ula": (1.0, 0.0, 0.0)}, "labels": {"ula": "ULA", "BAOAB": "BAOAB (1)"}}
    for kind, draw in DRAW.items():
        axes = draw(given[kind], Figure().subplots(), **own)
        handles, labels = axes.get_legend_handles_labels()
        assert labels[:3] == ["ULA", "BAOAB (1)", "OBABO"]
        assert matplotlib.colors.to_rgb(handles[0].get_color()) == (1, 0, 0)


def test_arguments_are_checked(given):
    bias, mixing, frontier = given.values()
    for call, message in (
        (lambda: plotting.draw_bias(bias, metric="Mean"), "metric: unknown name 'Mean'; the nearest is 'mean'"),
        (lambda: plotting.draw_frontier(frontier, metric="none"), "metric: unknown name 'none'"),
        (lambda: plotting.draw_bias(bias, colours={"ULA": "k"}), "colours: unknown name 'ULA'; the nearest is 'ula'"),
        (lambda: plotting.draw_bias(bias, colours={"ula": "kk"}), "colours: must be Matplotlib colours, got 'kk'"),
        (lambda: plotting.draw_bias(bias, labels={"ula": 1}), "labels: must be a string"),
        (lambda: plotting.draw_bias(bias, labels="ULA"), "labels: must be a mapping"),
        (lambda: plotting.draw_mixing(mixing, friction=3), "friction: the studies have 0.5, 1.0, 2.0, got 3"),
        (lambda: plotting.draw_bias(frontier), "study: the dataset must contain a study of bias"),
        (lambda: plotting.draw_bias([bias]), "study: must be a dataset, a path, or a mapping"),
        (lambda: plotting.draw_bias(bias, "axes"), "ax: must be axes, an array of axes, a Figure or a SubFigure"),
        (
            lambda: plotting.draw_bias(bias, Figure().subplots(1, 2)),
            "ax: must be 8 axes, one each for second_moment, mean, wasserstein_1, kolmogorov, total_variation, kl, "
            "virial, kinetic_temperature, got 2",
        ),
    ):
        with pytest.raises(ValueError, match="^" + re.escape(message)):
            call()


def test_exact_values_are_joined_where_some_are_missing(given):
    """Exact values that were left out for lack of time are NaN."""
    study = given["bias"].sel(integrator=["OBABO"], metric=["second_moment"]).copy()
    study["exact"] = study.exact.where(study.h != 0.5)
    lines = [
        line for line in drawn_lines(plotting.draw_bias(study, Figure().subplots())) if line.get_linestyle() == "-"
    ]
    assert any(np.isin([0.25, 1.0], line.get_xdata()).all() and np.isfinite(line.get_ydata()).all() for line in lines)


def test_signed_biases_are_drawn_by_magnitude(given):
    study = given["bias"]
    axes, other = (
        plotting.draw_bias(one, Figure().subplots(), metric="mean")
        for one in (study, study.assign(bias=-study.bias, exact=-study.exact))
    )
    for line, same in zip(axes.lines, other.lines, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), same.get_xydata())


def test_a_study_with_a_reference_says_so_and_fits():
    """Thirteen metrics are in rows of three, no label is longer than its panel, and the title names the reference."""
    draws = np.random.default_rng(0).normal(size=(200, 1))
    target = uldnum.UserTarget(lambda x: -x, 1, name="normal")
    study = studies.bias(target, ["ula", "BAOAB"], [0.3, 0.9], reference=draws, observables={"r": np.abs}, **SHORT)
    figure = plotting.draw_bias(study)
    assert [axes.get_subplotspec().get_gridspec().ncols for axes in figure.axes] == [3] * 13
    assert "against reference samples" in figure.get_suptitle()
    figure.draw_without_rendering()
    for axes in figure.axes:
        assert axes.yaxis.label.get_window_extent().height < 1.15 * axes.get_window_extent().height


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_files_are_deterministic(given, tmp_path, suffix):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        plotting.save(plotting.draw_frontier(given["frontier"]), tmp_path / folder / f"figure.{suffix}")
    one, two = (tmp_path / folder / f"figure.{suffix}" for folder in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    with pytest.raises(ValueError, match=r"^out: the suffix must be one of"):
        plotting.save(Figure(), tmp_path / "first.svg", tmp_path / "second.doc")
    assert not (tmp_path / "first.svg").exists()

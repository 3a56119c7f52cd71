"""The interactive report: its content, and what it does in a browser."""

import base64
import csv
import io
import json
import re
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import uldnum
from uldnum import studies
from uldnum._util.extras import MissingExtraError
from uldnum.cli.app import app
from uldnum.plotting.pictures import coloured
from uldnum.targets import Display

pytest.importorskip("plotly")
from uldnum.plotting.report import PARTS, SYMBOLS, write_report
from uldnum.plotting.style import LOOKS, MARKERS

SHORT = {"nfe": 64, "burn_in": 8, "chains": 8, "backend": "array", "progress": False}
NAMES, STEPS = ["ula", "BAOAB", "OBABO"], [0.25, 0.5, 1.0]
DISPLAY = Display((0.0, 2.0), 0.5, "magma")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A folder with one small result of each kind."""
    folder = tmp_path_factory.mktemp("results")
    studies.bias("gaussian", NAMES, STEPS, friction=[0.5, 1.0], **SHORT).to_netcdf(folder / "bias.nc")
    studies.mixing("gaussian", NAMES, STEPS, friction=[0.5, 1.0], **SHORT).to_netcdf(folder / "mixing.nc")
    studies.frontier("gaussian", NAMES, STEPS, friction=[0.5, 1.0], **SHORT).to_netcdf(folder / "frontier.nc")
    images = np.random.default_rng(0).uniform(-1, 1, (200, 1, 2, 2))
    data = uldnum.targets.DataMixture(images)
    options = {"reference": images, "features": "pixels", "images": 64, "progress": False}
    studies.quality(data, ["ddim", "heun"], [3, 10], **options).to_netcdf(folder / "quality.nc")
    shown = {"display": list(DISPLAY.limits), "gamma": DISPLAY.gamma, "colours": DISPLAY.colours}
    run = uldnum.sample(data.at(1.0), "baoab-limit", h=1.0, steps=6, thin=2, chains=3, backend="array", progress=False)
    run.to_xarray().assign_attrs(shown).to_netcdf(folder / "run.nc")
    plan = uldnum.plan("ddim", uldnum.levels.geometric(10.0, 0.1, 5))
    uldnum.anneal("gmm-40", plan, chains=5, backend="array", progress=False).to_xarray().to_netcdf(folder / "anneal.nc")
    return folder


@pytest.fixture(scope="module")
def page(results):
    return write_report(results).read_text(encoding="utf-8")


def parts_of(page):
    """The data of a page, by part."""
    text = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL).group(1)
    return {part["id"]: part for part in json.loads(text)}


def test_every_result_has_a_part(page):
    assert [f"{name}.nc" for name in parts_of(page)] == list(PARTS)


def test_every_marker_has_a_symbol():
    assert {one.marker for one in LOOKS.values()} | set(MARKERS) <= set(SYMBOLS)


def test_the_file_is_self_contained(page):
    """Nothing is loaded: there is no address in an attribute, and the policy of the page forbids requests."""
    own = page.replace(re.search(r"<script>/\*\*.*?</script>", page, re.DOTALL).group(0), "")  # without plotly.js
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?:https?:)?//""", own)
    assert "default-src 'none'" in own
    assert page.count("<script") - own.count("<script") == 1


@pytest.mark.parametrize("kind", ["mixing", "frontier"])
def test_the_table_has_every_number(page, results, kind):
    """All points with all digits."""
    table = parts_of(page)[kind]["table"]
    study = xr.load_dataset(results / f"{kind}.nc")
    cost = {(r[0], r[1], r[2]): r[table["columns"].index("cost")] for r in table["rows"]}
    assert len(table["rows"]) == 18 * study.sizes.get("metric", 1)
    for (name, friction, h), value in cost.items():
        assert value == float(study.cost.sel(integrator=name, friction=friction, h=h))


def test_a_figure_shows_the_values_with_two_standard_errors(page, results):
    study = xr.load_dataset(results / "bias.nc").sel(metric="mean", integrator="BAOAB", friction=0.5)
    part = parts_of(page)["bias"]
    figure = next(one for one in part["figures"] if one["layout"]["title"]["text"] == "mean")
    assert "(standard deviations of x)" in figure["layout"]["yaxis"]["title"]["text"]
    traces = [one for one in figure["data"] if one["meta"] == "BAOAB (friction 0.5)"]
    exact, floor, sampled = (one["y"] for one in traces)
    np.testing.assert_array_equal(exact, abs(study.exact))
    np.testing.assert_array_equal(floor, study.floor)
    np.testing.assert_array_equal(sampled, abs(study.bias))
    error = np.array(traces[2]["error_y"]["array"], float)
    np.testing.assert_array_equal(error, (2 * study.error).where(study.resolved))
    hollow = [symbol.endswith("-open") for symbol in traces[2]["marker"]["symbol"]]
    np.testing.assert_array_equal(hollow, ~study.resolved)
    assert {row[part["table"]["columns"].index("integrator")] for row in part["table"]["rows"]} == {
        one["name"] for one in part["names"]
    }


def test_crosses_mark_where_chains_diverge(tmp_path):
    with pytest.warns(UserWarning, match=r"(diverged|yet) at h = 2\.5"):
        studies.bias("gaussian", ["ula", "BAOA"], [0.5, 2.5], **SHORT).to_netcdf(tmp_path / "bias.nc")
    part = parts_of(write_report(tmp_path).read_text(encoding="utf-8"))["bias"]
    for figure in part["figures"]:
        marks = [one for one in figure["data"] if "diverged" in one["hovertemplate"]]
        assert [(one["meta"], one["x"]) for one in marks] == [("ula", [2.5]), ("BAOA", [2.5])]
    assert "diverged" in part["caption"]


def test_strips_show_the_states_of_each_chain(page, results):
    """The pixels are those of the states, in the colours of the network."""
    from matplotlib.image import imread

    run, strips = xr.load_dataset(results / "run.nc"), parts_of(page)["run"]["strips"]
    assert strips["steps"] == [2, 4, 6]
    for chain, source in enumerate(strips["chains"]):
        image = imread(io.BytesIO(base64.b64decode(source.partition(",")[2])))[..., :3]
        states = coloured(run.trace.values[:, chain], DISPLAY)
        np.testing.assert_allclose(image, np.concatenate(list(states), axis=1), atol=1 / 255)


def test_the_provenance_states_the_file_and_its_attributes(page, results):
    found = dict(parts_of(page)["frontier"]["provenance"])
    attributes = xr.load_dataset(results / "frontier.nc").attrs
    assert found.items() >= {name: str(value) for name, value in attributes.items()}.items()
    assert len(found["sha256"]) == 64


def test_text_of_results_cannot_become_markup(results, tmp_path):
    """A name may end a script, or start a tag."""
    study = xr.load_dataset(results / "bias.nc").assign_attrs(target="</script><img src=x>")
    study.assign_coords(integrator=["<b>a</b>", "BAOAB", "OBABO"]).to_netcdf(tmp_path / "bias.nc")
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert text.count("</script>") == 3
    assert "<img" not in text.split('id="data"')[1].split("</script>")[0]
    part = parts_of(text)["bias"]
    assert part["title"] == "Bias: </script><img src=x>"  # which the page writes as text
    assert "&lt;b&gt;a&lt;/b&gt;" in part["figures"][0]["data"][0]["hovertemplate"]


def test_equal_results_have_equal_reports(results, page):
    assert write_report(results).read_text(encoding="utf-8") == page


def test_folders_without_results_and_broken_files(results, tmp_path, monkeypatch):
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 2
    assert "out: must be a folder with one of bias.nc, mixing.nc" in done.output
    shutil.copy(results / "mixing.nc", tmp_path / "bias.nc")
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert "must contain a study of bias" in done.output
    assert not (tmp_path / "report.html").exists()
    done = CliRunner().invoke(app, ["report", str(results)])
    assert done.output == f"report: {results / 'report.html'}\n"
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'uldnum[report]'")):
        write_report(results)


# --------------------------------------------------------------------------------------------------- in a real browser

COMMAND = "pip install playwright && playwright install chromium"


@contextmanager
def chromium():
    """Start a headless Chromium: one of the system, or else that of Playwright."""
    sync_api = pytest.importorskip("playwright.sync_api", reason=f"needs a browser: {COMMAND}")
    with sync_api.sync_playwright() as tool:
        known = ("chromium", "chromium-browser", "google-chrome", "chrome")
        path = next(filter(None, map(shutil.which, known)), tool.chromium.executable_path)
        if not Path(path).is_file():
            pytest.skip(f"needs a browser: {COMMAND}")
        browser = tool.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.slow
def test_the_page_in_a_browser(results, page):
    """Hover, switches, sorting, filters, the download and the slider; nothing is requested, and nothing fails."""
    with chromium() as browser:
        view, faults = browser.new_page(viewport={"width": 1300, "height": 900}), []
        view.on("pageerror", lambda error: faults.append(str(error)))
        view.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        requests = []
        view.on("request", lambda request: requests.append(request.url))
        address = (results / "report.html").as_uri()
        view.goto(address)
        count = view.evaluate("document.querySelectorAll('.figure .main-svg').length")
        assert count >= sum(len(part["figures"]) for part in parts_of(page).values())

        # Hover: the label of the point that is under the pointer.
        part = view.locator("section#mixing")
        figure = part.locator(".figure").first
        figure.scroll_into_view_if_needed()
        box = figure.locator(".scatterlayer .points path").first.bounding_box()
        view.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        figure.locator(".hoverlayer text").first.wait_for()
        assert "ula" in figure.locator(".hoverlayer").text_content()

        # A switch removes an integrator from the figures and from the table.
        rows = part.locator(".scroll tbody tr")
        assert rows.count() == 18
        lines = figure.locator(".scatterlayer .trace")
        before = lines.count()
        part.locator("input[type=checkbox][name=ula]").uncheck()
        assert rows.count() == 12
        assert 0 < lines.count() < before
        assert "ula" not in part.locator(".scroll tbody").inner_text()

        # Sorting by cost, in both directions; filters by number and by text.
        column = parts_of(page)["mixing"]["table"]["columns"].index("cost")
        costs = lambda: [float(row.locator("td").nth(column).inner_text()) for row in rows.all()]  # noqa: E731
        part.locator("th button").nth(column).click()
        assert costs() == sorted(costs())
        part.locator("th button").nth(column).click()
        assert costs() == sorted(costs(), reverse=True)
        part.locator("th input").nth(2).fill(">= 0.5")
        assert rows.count() == 8
        part.locator("th input").nth(0).fill("obab")
        assert rows.count() == 4

        # The download has the rows that are shown, with all digits.
        with view.expect_download() as event:
            part.get_by_text("Download these rows as CSV").click()
        assert event.value.suggested_filename == "mixing.csv"
        found = list(csv.DictReader(io.StringIO(Path(event.value.path()).read_text(encoding="utf-8"))))
        study = xr.load_dataset(results / "mixing.nc")
        assert len(found) == 4
        for row in found:
            at = {"integrator": row["integrator"], "friction": float(row["friction"]), "h": float(row["h"])}
            assert float(row["cost"]) == float(study.cost.sel(at))

        # The slider shows another state of each chain.
        part = view.locator("section#run")
        pixels = "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 2, 2).data)"
        states = xr.load_dataset(results / "run.nc").trace.values[:, 0]
        for place, step in enumerate([2, 4, 6]):
            part.locator("input[type=range]").fill(str(place))
            assert part.locator("output").inner_text() == f"step {step}"
            shown = np.array(part.locator("canvas").first.evaluate(pixels)).reshape(2, 2, 4)[..., :3] / 255
            np.testing.assert_allclose(shown, coloured(states[place : place + 1], DISPLAY)[0], atol=2 / 255)
        assert not faults
        assert [one for one in requests if not one.startswith(("data:", "blob:"))] == [address]

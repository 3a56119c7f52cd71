"""The tutorials: stored with outputs in the order of their cells, small, and executed again with equal numbers."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "analysis" / "tutorials").glob("*.ipynb"))


def cells_of(notebook):
    """The code cells of a notebook."""
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]


def printed(cells):
    """What the cells of a notebook print to the standard output."""
    outputs = [output for cell in cells for output in cell["outputs"]]
    return "".join("".join(output["text"]) for output in outputs if output.get("name") == "stdout")


def numbers(text):
    """The numbers in a text, and the text without them."""
    pattern = r"-?\d+\.?\d*(?:e-?\d+)?"
    return np.array(re.findall(pattern, text), float), re.sub(pattern, "", text)


def test_all_tutorials_are_listed():
    page = (NOTEBOOKS[0].parent / "README.md").read_text()
    assert {notebook.name for notebook in NOTEBOOKS} == set(re.findall(r"\((\w+\.ipynb)\)", page))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_tutorial_is_stored_as_executed(notebook):
    cells = cells_of(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) > 0
    assert not any(output["output_type"] == "error" or output.get("name") == "stderr" for output in outputs)
    assert notebook.stat().st_size < 600_000


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_links_of_a_tutorial_hold(notebook):
    for link in re.findall(r"\]\(([^)\s#]+)", notebook.read_text()):
        assert link.startswith("http") or (notebook.parent / link).exists(), link


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_tutorial_prints_the_stored_numbers(notebook, tmp_path):
    """Within 2% or 2e-4, and 0.2 for distances of images, because networks and libraries round differently."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    again = nbformat.read(notebook, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(again, timeout=900, kernel_name="python3", resources=resources).execute()
    expected, words = numbers(printed(cells_of(notebook)))
    found, found_words = numbers(printed([cell for cell in again.cells if cell.cell_type == "code"]))
    assert found_words == words
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.2 if notebook.stem == "images" else 2e-4)

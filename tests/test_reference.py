"""The API reference, which pdoc makes from the docstrings."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.reference import MODULES

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages, made in a process of their own in which warnings are errors."""
    pytest.importorskip("pdoc")
    folder = tmp_path_factory.mktemp("reference")
    code = f"from pathlib import Path; from analysis.reference import build; build(Path({str(folder)!r}))"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=ROOT)
    return {name: (folder / f"{name.replace('.', '/')}.html").read_text(encoding="utf-8") for name in MODULES}


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_on_its_page(pages, name):
    module = importlib.import_module(name)
    found = set(re.findall(r'<section id="([\w.]+)">', pages[name]))
    assert {other for other in module.__all__ if not hasattr(getattr(module, other), "__path__")} - found <= {"levels"}


def test_formulas_are_mathml(pages):
    """No LaTeX is left, and every kind of formula is found."""
    text = "\n".join(pages.values())
    assert 'display="block"' in text
    assert 'display="inline"' in text
    assert not re.search(r"\$\$|\\\(|\\frac|:math:|\.\. math::", text)


def test_pages_need_no_network(pages):
    for name, text in pages.items():
        assert not re.findall(r'(?:src|<link[^>]*href)="(https?:[^"]*)"', text), name

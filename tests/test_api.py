"""The public face: what is exported exists, and the README's code runs."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import uldnum

MODULES = [module.name for module in pkgutil.walk_packages(uldnum.__path__, "uldnum.")]
README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.parametrize("name", ["uldnum", *MODULES])
def test_all_names_exist(name):
    module = importlib.import_module(name)
    for exported in module.__all__:
        assert getattr(module, exported) is not None
    assert len(set(module.__all__)) == len(module.__all__)


def test_readme_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    namespace = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)


def test_readme_links_exist():
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (Path(__file__).parents[1] / path).exists(), path

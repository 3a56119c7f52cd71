"""The public face: what is exported exists, and the README's code runs."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import uldnum

MODULES = [module.name for module in pkgutil.walk_packages(uldnum.__path__, "uldnum.")]
TESTS = Path(__file__).parent
README = (TESTS.parent / "README.md").read_text()


@pytest.mark.parametrize("name", ["uldnum", *MODULES])
def test_all_names_exist(name):
    module = importlib.import_module(name)
    for exported in module.__all__:
        assert getattr(module, exported) is not None
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("name", ["uldnum", *MODULES])
def test_no_public_function_hides_a_module(name):
    """`uldnum.exact.plan` is the function: the module in which it is defined has another name."""
    module = importlib.import_module(name)
    inner = {one.name for one in pkgutil.iter_modules(getattr(module, "__path__", []))}
    hidden = [other for other in inner.intersection(module.__all__) if not inspect.ismodule(getattr(module, other))]
    assert not hidden


def test_the_root_is_grouped():
    """It holds packages, and the version alone."""
    assert {one.name for one in pkgutil.iter_modules(uldnum.__path__) if not one.ispkg} == {"version"}


def test_tests_do_not_import_each_other():
    """They share what is in `helpers`."""
    for path in TESTS.rglob("*.py"):
        found = re.findall(r"^\s*(?:from|import) (test_\w+|conftest)", path.read_text(), re.M)
        assert not found, path


def test_readme_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    namespace = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)


def test_readme_links_exist():
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (TESTS.parent / path).exists(), path

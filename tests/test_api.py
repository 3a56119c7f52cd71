"""The public names and the structure of the package, and the examples of docstrings."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import uldnum
from analysis.reference import MODULES as PUBLIC

MODULES = [module.name for module in pkgutil.walk_packages(uldnum.__path__, "uldnum.")]
TESTS = Path(__file__).parent


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


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_an_example(name):
    """Functions and classes; constants have no docstrings."""
    module = importlib.import_module(name)
    public = {other: getattr(module, other) for other in module.__all__}
    assert not [other for other, one in public.items() if callable(one) and ">>>" not in (one.__doc__ or "")]


@pytest.mark.parametrize("name", ["uldnum", *MODULES])
def test_examples_of_docstrings(name, tmp_path, monkeypatch):
    """They run as they stand, and print what they say."""
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert not failed

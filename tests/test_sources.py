"""Hashes of the source code that a stored result depends on, from the imports of the package."""

import ast
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import uldnum
from uldnum._util import sources
from uldnum._util.sources import dependencies, digest_of_sources
from uldnum.studies import points
from uldnum.studies.points import Exact

ROOT = Path(uldnum.__file__).parents[1]
FILES = sorted((ROOT / "uldnum").rglob("*.py"))
POINTS = "uldnum.studies.points"


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(tree):
    """Return the modules of the package that a syntax tree imports, except under TYPE_CHECKING."""
    found, waiting = set(), [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names} & MODULES
    return {name for name in found if name.split(".")[0] == "uldnum"}


MODULES = {name_of(path) for path in FILES}


def test_imports_are_those_of_the_syntax_tree():
    for path in FILES:
        assert set(sources.source(name_of(path))[1]) == imports_of(ast.parse(path.read_text())), path


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ("from uldnum.exact import (\n    linear as l,  # a comment (with brackets)\n    UnstableError,\n)\n",
         {"uldnum.exact.linear", "uldnum.exact"}),
        ("def f():\n    from uldnum._util import names as n\n", {"uldnum._util", "uldnum._util.names"}),
        ("import uldnum.sampling.run\nimport numpy\nfrom numpy import uldnum\n", {"uldnum.sampling.run"}),
        ("from uldnum._util.typing import *\n", {"uldnum._util.typing"}),
        (">>> from uldnum.sampling.run import Run\n# from uldnum.sampling.run import Run\n", set()),
        ("if TYPE_CHECKING:\n    from uldnum import exact\n\n    x: int\n\nfrom uldnum._util.names import digest\n",
         {"uldnum._util.names"}),
    ],
)  # fmt: skip
def test_imports_of_unusual_sources(tmp_path, monkeypatch, text, modules):
    """Parentheses, comments, aliases, functions, star imports, and text that is not executed."""
    (tmp_path / "module.py").write_text(text)
    known = sources.path_of
    monkeypatch.setattr(sources, "path_of", lambda name: tmp_path / "module.py" if name == "mine" else known(name))
    assert set(sources.source.__wrapped__("mine")[1]) == modules


@pytest.fixture
def copy(tmp_path):
    """A copy of the package."""
    shutil.copytree(ROOT / "uldnum", tmp_path / "uldnum", ignore=shutil.ignore_patterns("__pycache__", "*.onnx"))
    return tmp_path


def digest_in(folder):
    """Return the hash of the dependencies of points from the sources in a folder, in a separate process."""
    script = f"from uldnum._util import sources; print(sources.__file__, sources.digest_of_sources({POINTS!r}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    path, digest = done.stdout.split()
    assert Path(path).is_relative_to(folder)
    return digest


def edit(path):
    path.write_text(path.read_text() + "\n# edited\n")


def test_hashes_change_with_what_results_depend_on(copy):
    """A change of an indirect dependency changes the hash; a change of plotting or the command line does not."""
    before = digest_in(copy)
    assert before == digest_of_sources(POINTS)  # in every process and folder
    for other in ("plotting/bias.py", "plotting/style.py", "cli/common.py", "cli/studies.py", "studies/_frontier.py",
                  "sampling/_anneal.py"):  # fmt: skip
        edit(copy / "uldnum" / other)
    assert digest_in(copy) == before
    for needed in ("arithmetic/elementary.py", "schemes/words.py", "targets/user.py"):
        edit(copy / "uldnum" / needed)
        assert digest_in(copy) != before, needed
        before = digest_in(copy)


def test_keys_of_points_hold_the_hash(monkeypatch):
    def key():
        return Exact(uldnum.target("gaussian"), uldnum.integrator("ula"), 0.5, 1.0, 1e-4, True).key

    before = key()
    assert [digest_of_sources(POINTS)] == points.CODE
    monkeypatch.setattr(points, "CODE", ["other"])
    assert key() != before


def test_what_a_point_depends_on():
    """A point depends on sampling, exact answers and metrics on all backends, but not on plotting or the CLI."""
    found = dependencies(POINTS)
    assert found >= {
        POINTS, "uldnum.sampling._sample", "uldnum.diagnostics.bias", "uldnum.diagnostics.jackknife",
        "uldnum.exact.transfer", "uldnum.kernels.source.core", "uldnum.kernels.numba.executor",
        "uldnum.kernels.cuda.chains", "uldnum.targets.mixture", "uldnum.schemes.catalogue",
        "uldnum.arithmetic.elementary", "uldnum.sampling.moments",
    }  # fmt: skip
    assert not [name for name in found if re.match(r"uldnum\.(cli|plotting)", name)]


def test_hashes_take_no_time():
    """Hashing all sources takes 15 ms of processor time without a cache; the best of three must be below 50 ms."""

    def seconds():
        for cached in (sources.source, sources.path_of, dependencies):
            cached.cache_clear()
        begun = time.process_time()
        digest_of_sources(POINTS)
        return time.process_time() - begun

    assert min(seconds() for _ in range(3)) < 0.05


def test_modules_of_users_count_too(tmp_path, monkeypatch):
    """The hash of a module outside the package is that of its source, or of its name if it has no source."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "a_users_module.py").write_text("from uldnum._util.names import digest\n")
    assert dependencies("a_users_module") >= {"a_users_module", "uldnum._util.names"}
    assert digest_of_sources("no_such_module") != digest_of_sources("another_such_module")

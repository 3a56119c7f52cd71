"""The pages: every code block runs, every command is valid and most run, every link leads somewhere."""

import ast
import re
import shlex
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import typer.main
from typer.testing import CliRunner

import uldnum
from analysis.__main__ import FIGURES, LONG, WHOLE
from uldnum.cli.app import app

ROOT = Path(__file__).parents[1]
FOLDERS = ("", ".github", "analysis", "analysis/guide", "analysis/tutorials", "figures", "tests", "uldnum")
PAGES = sorted(page for folder in FOLDERS for page in (ROOT / folder).glob("*.md"))
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
COMMANDS = typer.main.get_command(app)

# Options that make a command of a page short; an option that is given twice has its last value.
STUDY = ("--burn-in", "0", "--chains", "32", "--h", "0.5,0.8", "--tolerance", "1e-3")
QUICK = {
    "bias": (*STUDY, "--nfe", "20"),
    "mixing": (*STUDY, "--nfe", "20", "--integrators", "ULA,BAOAB"),
    "frontier": (*STUDY, "--nfe", "20"),
    "advise": (*STUDY, "--nfe", "4000", "--max-bias", "1"),
    "sample": ("--steps", "2", "--every", "1", "--chains", "2"),
    "anneal": ("--chains", "2"),
    "quality": ("--samplers", "ddim", "--nfe", "2", "--images", "130", "--reference", "digits.npz"),
}

# What a command names that no test machine has: a GPU, and files that users download or own.
ABSENT = ("cuda", "galaxygrad-", "model.onnx", "my-stable-diffusion/", "mnist-images")


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def lines():
    """The commands of all pages, those in code blocks and those in cells of tables, with the name of their page."""
    for page, name in zip(PAGES, NAMES, strict=True):
        cells = "\n".join(re.findall(r"^\|.*\| `(uldnum [^`]*)` \|$", page.read_text(), re.MULTILINE))
        for block in [*blocks(page, "sh"), cells]:
            for line in block.replace("\\\n", " ").splitlines():
                for command in line.split("&&"):
                    words = shlex.split(command, comments=True)
                    if words:
                        yield name, [words[0].removeprefix(".venv/bin/"), *words[1:]]


LINES = list(lines())
OURS = sorted({tuple(words[1:]) for _, words in LINES if words[0] == "uldnum"})  # each once


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_code_runs(page, tmp_path, monkeypatch):
    """The blocks of a page in order, with one namespace."""
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in blocks(page, "python"):
        run_block(block, page.name, namespace)


def run_block(block, name, namespace):
    """Run a block. Numbers with a decimal point in the comment of an expression must be values of the expression."""
    for statement in ast.parse(block).body:
        if isinstance(statement, ast.Expr):
            value = eval(compile(ast.Expression(statement.value), name, "eval"), namespace)
            line = block.splitlines()[statement.end_lineno - 1]
            for stated in re.findall(r"-?\d+\.\d+", line[statement.end_col_offset :].partition("#")[2]):
                half = 0.5000001 * 10.0 ** -len(stated.partition(".")[2])
                assert any(abs(found - float(stated)) < half for found in numbers(value)), (stated, line, value)
        else:
            exec(compile(ast.Module([statement], []), name, "exec"), namespace)


def numbers(value):
    """All numbers of a result of an expression."""
    if isinstance(value, (tuple, list)):
        return [number for part in value for number in numbers(part)]
    return np.asarray(value, dtype=float).ravel()


@pytest.mark.parametrize("words", OURS, ids=" ".join)
def test_commands_of_the_package(words, tmp_path, monkeypatch):
    """Every command is parsed; those that this machine can run are run, with fewer steps and chains."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(256, size=(300, 1, 28, 28), dtype=np.uint8)
    np.savez("digits.npz", train=pixels)  # reference images of the command quality
    Path("out").mkdir()
    uldnum.studies.exact_bias("gaussian", ["ULA"], [0.5]).to_netcdf("out/bias.nc")  # results for the command report
    name, *options = words
    command = COMMANDS.commands[name]
    command.make_context(name, list(options))
    if name != "fetch" and not any(absent in " ".join(words) for absent in ABSENT):
        short = () if "--exact-only" in options else QUICK.get(name, ())
        done = CliRunner().invoke(app, [name, *options, *short])
        assert done.exit_code == 0, done.output


def test_other_commands():
    """Scripts and tests exist, extras are declared, and no other program is called than those that are known here."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    scripts = {*FIGURES, *LONG}
    for page, words in LINES:
        text = f"{page}: {' '.join(words)}"
        if words[:3] == ["python", "-m", "analysis"]:
            drawn = words[3] == "draw"
            known = scripts - set(WHOLE) if drawn else scripts
            assert set(words[3 + drawn :]) <= {*known, "all"}, text
        elif words[:2] == ["python", "-m"]:
            module = words[2].replace(".", "/")
            assert words[2] == "pytest" or (ROOT / f"{module}.py").is_file(), text
            assert all((ROOT / word).is_file() for word in words[3:] if word.startswith("tests/")), text
        elif words[0] == "pip":
            assert {extra for group in re.findall(r"\.\[(.*?)\]", text) for extra in group.split(",")} <= {*extras}, (
                text
            )
        else:
            assert words[0] in {"uldnum", "python3", ".ci/run", "pre-commit", "mypy", "lint-imports"}, text
    assert len(OURS) > 10


def anchors(page):
    """The anchors that GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_hold(page):
    """Files and anchors; addresses on the web are not looked up."""
    text = page.read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:href|src)="([^"]+)"', text)
    for link in links:
        if not link.startswith("http"):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


@pytest.mark.skipif(sys.platform == "win32", reason="the command is a shell script")
def test_ci_runs_the_command_of_the_readme():
    """`.ci/run` takes the test command from the README."""
    found = re.findall(r"^python3 -m venv .*pytest.*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(found) == 1


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_references_of_links_are_defined(page):
    """Links of the form [text][name], which Markdown shows as text if the name is not defined."""
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
    defined = set(re.findall(r"^\[([\w-]+)\]: \S+$", text, re.MULTILINE))
    assert set(re.findall(r"\]\[([\w-]+)\]", text)) == defined

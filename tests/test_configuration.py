"""Configurations of studies: one declaration for functions, their documentation and the command line."""

import ast
import inspect
from dataclasses import FrozenInstanceError, dataclass, field, fields
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import uldnum
from uldnum import studies
from uldnum.cli import app as commands
from uldnum.cli.networks import network_options
from uldnum.cli.options import with_options_of
from uldnum.studies.configuration import (
    BiasConfiguration,
    ExactBiasConfiguration,
    FrontierConfiguration,
    QualityConfiguration,
    SamplingConfiguration,
    Whole,
    configured_by,
    option,
    option_of,
)

CALLS = {
    "bias": BiasConfiguration, "exact_bias": ExactBiasConfiguration, "mixing": SamplingConfiguration,
    "frontier": FrontierConfiguration, "quality": QualityConfiguration,
}  # fmt: skip
COMMANDS = {
    "bias": BiasConfiguration, "mixing": SamplingConfiguration, "frontier": FrontierConfiguration,
    "advise": FrontierConfiguration, "quality": QualityConfiguration,
}  # fmt: skip

# The first arguments of a study, and those that have a default only in the shell.
FIRST = {
    name: ["network", "samplers", "nfe"] if name == "quality" else ["target", "integrators", "h"] for name in CALLS
}
REQUIRED = {"target", "integrators", "network", "samplers", "reference"}


@pytest.mark.parametrize("name", CALLS)
def test_calls_take_the_fields_of_a_configuration(name):
    """Arguments have the names, kinds, defaults and documentation of the fields."""
    call, form = getattr(studies, name), inspect.signature(CALLS[name])
    assert inspect.signature(call).parameters == form.parameters
    assert list(form.parameters)[:3] == FIRST[name]
    text = " ".join(inspect.getdoc(call).split())
    for part in fields(CALLS[name]):
        about = option_of(CALLS[name], part.name)
        assert f"{part.name} : {about.kind} {about.text}" in text
    assert inspect.getdoc(call).index("Parameters\n") < inspect.getdoc(call).index("Returns\n")


def test_defaults():
    """A friction of None is in units of the target's narrowest standard deviation, in all studies."""
    found = {
        name: {one.name: one.default for one in inspect.signature(getattr(studies, name)).parameters.values()}
        for name in CALLS
    }
    exact = {"h": None, "delta": None, "store": None, "executor": None, "progress": True}
    exact |= {"temperature": None, "score_noise": None, "mass": None}
    sampling = exact | {
        "nfe": 5000,
        "burn_in": 1000,
        "chains": 1024,
        "seed": 0,
        "backend": None,
        "exact": "auto",
        "exact_seconds": None,
        "reference": None,
    }
    measuring = sampling | {"observables": None}
    required = dict.fromkeys(("target", "integrators"), inspect.Parameter.empty)
    assert found == {
        "exact_bias": required | exact | {"friction": None, "tolerance": 1e-5},
        "bias": required | measuring | {"friction": None, "tolerance": 1e-5, "nfe": 2000},
        "mixing": required | sampling | {"friction": None, "tolerance": 1e-4},
        "frontier": required | measuring | {"friction": None, "tolerance": 1e-4, "chains": 4096},
        "quality": dict.fromkeys(("network", "samplers", "reference"), inspect.Parameter.empty) | {
            "nfe": (5, 10, 20), "features": "digits", "data_range": None, "metrics": None, "images": 400, "batch": 100,
            "levels": "karras:20:0.02:COUNT", "steps": 1, "h": 1.4, "seed": 0, "backend": None, "store": None,
            "executor": None, "progress": True,
        },
    }  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_unknown_and_missing_arguments_are_named(name):
    call = getattr(studies, name)
    with pytest.raises(TypeError, match=rf"^{name}: unknown argument 'step'; known are {', '.join(FIRST[name])}"):
        call("gaussian", "ula", step=0.1)
    with pytest.raises(TypeError, match=rf"^{name}: missing a required argument: '{FIRST[name][1]}'"):
        call("gaussian")
    with pytest.raises(TypeError, match=rf"^{name}: too many positional arguments"):
        call("gaussian", "ula", 0.1, 0.2)


def test_exact_studies_have_no_options_of_sampling():
    with pytest.raises(TypeError, match=r"^exact_bias: unknown argument 'nfe'"):
        studies.exact_bias("gaussian", "ula", 0.1, nfe=100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nfe": 0}, "nfe: must be at least 1"), ({"burn_in": -1}, "burn_in: must be at least 0"),
        ({"chains": 7}, "chains: must be at least 8"), ({"seed": 2**64}, "seed: must be at least 0 and at most"),
        ({"seed": 0.5}, "seed: must be an integer"), ({"progress": 1}, "progress: must be True or False"),
        ({"friction": -1.0}, "friction: must be positive"), ({"friction": [1.0, -2.0]}, "friction: must be positive"),
    ],
)  # fmt: skip
def test_a_configuration_is_checked_when_it_is_made(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        BiasConfiguration("gaussian", "ula", **options)


def test_a_configuration_is_frozen_and_normalised():
    made = BiasConfiguration("gaussian", "ula", friction=2)
    assert made.friction.dtype == float
    with pytest.raises(FrozenInstanceError):
        made.nfe = 3


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_take_the_fields_of_a_configuration(name):
    """Options have the names, help texts, bounds and defaults of the fields, except for the two required ones."""
    command = next(one.callback for one in commands.app.registered_commands if one.callback.__name__ == name)
    found = dict(inspect.signature(command).parameters)
    for part in fields(COMMANDS[name]):
        about = option_of(COMMANDS[name], part.name)
        if about.shell is None:
            assert part.name not in found
            continue
        one = found.pop(part.name)
        (info,) = one.annotation.__metadata__
        assert info.help == about.shell
        assert (info.parser is None) == (not isinstance(about.check, Whole))
        if isinstance(about.check, Whole):
            assert info.parser(about.check.least) == about.check.least
            with pytest.raises(typer.BadParameter, match=f"must be at least {about.check.least} "):
                info.parser(about.check.least - 1)
        if part.name == "nfe" and name == "quality":
            assert one.default == "5,10,20"
        elif part.name not in REQUIRED:  # a flag that is not given leaves the default
            assert one.default == (None if part.name == "exact" else part.default)
    own = {"scheduler", "out", "as_json", "exact_only", "max_bias", "metric"}
    assert set(found) <= own | (set(inspect.signature(network_options).parameters) if name == "quality" else set())


def test_an_option_takes_one_declaration():
    """One declared field yields an argument of the function, its documentation and check, and a command-line option."""

    @dataclass(frozen=True, eq=False, kw_only=True)
    class Wider(SamplingConfiguration):
        width: int = field(default=3, metadata=option("int", "Width of it.", check=Whole(2, 9)))

    @configured_by(Wider)
    def toy(study: Wider) -> int:
        """Return the width.

        Returns
        -------
        int
            The width.
        """
        return study.width

    assert toy("gaussian", "ula") == 3
    assert toy("gaussian", "ula", width=4) == 4
    assert "width : int\n    Width of it.\n" in inspect.getdoc(toy)
    with pytest.raises(ValueError, match=r"^width: must be at least 2"):
        toy("gaussian", "ula", width=1)
    app = typer.Typer(add_completion=False)

    @app.command()
    @with_options_of(Wider, target="gaussian", integrators="ULA")
    def command(given: dict, more: str = "!") -> None:
        print(given["width"], given["chains"], given["integrators"], more)

    run = CliRunner()
    assert run.invoke(app, ["--width", "5", "--more", "?"]).output == "5 1024 ULA ?\n"
    assert "Width of it." in run.invoke(app, ["--help"]).output
    assert run.invoke(app, ["--width", "1"]).exit_code == 2


# Commands that are not studies.
EXEMPT = {"cli/sample.py": {"sample"}, "cli/anneal.py": {"anneal"}}


def test_no_function_takes_many_parameters():
    """Functions take at most twelve parameters, except for public functions and commands."""
    root = Path(uldnum.__file__).parent
    public = EXEMPT | {
        "sampling/_sample.py": {"sample"}, "sampling/_anneal.py": {"anneal"}, "plans/_plan.py": {"plan"},
        "networks/score.py": {"__init__"},
    }  # fmt: skip
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                given = node.args
                count = len(given.posonlyargs + given.args + given.kwonlyargs)
                exempt = getattr(node, "name", "") in public.get(path.relative_to(root).as_posix(), ())
                assert count <= 12 or exempt, f"{path}:{node.lineno} takes {count} parameters"


def test_options_are_listed_once():
    """No function of studies or commands repeats the options of sampling as its own parameters."""
    root = Path(uldnum.__file__).parent
    own = {part.name for part in fields(SamplingConfiguration)} - {"target", "h", "friction", "tolerance"}
    allowed = {"studies/_sweep.py": {"sweep", "collected", "computed"}} | EXEMPT
    for path in [*(root / "studies").glob("*.py"), *(root / "cli").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name not in allowed.get(
                f"{path.parent.name}/{path.name}", ()
            ):
                names = {one.arg for one in node.args.args + node.args.kwonlyargs}
                assert len(names & own) < 3, f"{path}:{node.lineno} lists {names & own}"

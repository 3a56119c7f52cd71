"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from uldnum._util.parsing import whole
from uldnum.studies.configuration import Checked, SamplingConfiguration, Whole, option_of

__all__ = [
    "AsJson",
    "Out",
    "Scheduler",
    "ScoreNoise",
    "Seed",
    "Temperature",
    "count",
    "in_flags",
    "with_options",
    "with_options_of",
]


def count(help: str | None, check: Callable[[str, Any], Any] | None = None, panel: str | None = None) -> Any:
    """Return an option for a whole number, which may be written as 1e4; by default it must be at least 1.

    ``panel`` is the heading of the option in the help text.
    """
    checked = check or Whole(1, 2**48)

    def parse(text: Any) -> int:
        try:
            return int(checked("value", whole(str(text))))
        except ValueError as error:
            raise typer.BadParameter(str(error).removeprefix("value: ")) from None

    return typer.Option(help=help, parser=parse, metavar="INTEGER", rich_help_panel=panel)


SEED = option_of(SamplingConfiguration, "seed")
Seed = Annotated[int, count(SEED.shell, SEED.check)]
Temperature = Annotated[
    float,
    typer.Option(help="Temperature T of the integrator: all of its noise is multiplied by sqrt(T), the score is not."),
]
ScoreNoise = Annotated[
    float,
    typer.Option(
        help="Standard deviation of the error of the score, in units of 1/sigma; each evaluation and coordinate has "
        "its own error."
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        help="Address of a Dask scheduler, tcp://HOST:PORT, whose workers compute the points; needs the extra "
        "'cluster'. Default: this process.",
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        help="Folder for the results; it is created if absent. Its subfolder 'points' stores every finished point, so "
        "that the same command resumes a stopped study."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the results as JSON instead of a table.")]

# Types of options that are one number or a flag, by the name of the field's type; all other options are strings.
# A flag that is not given leaves the default of the configuration.
FLAG: Any = bool | None
NUMBERS: dict[Any, Any] = {"int": int, "float": float, "float | None": float | None, "bool | str": FLAG}


def with_options_of(configuration: type[Checked], **usual: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options of a study's configuration to a command, which receives their values in a dictionary ``given``.

    Parameters
    ----------
    configuration : class
        Its fields define names, types, defaults and help texts. Array fields become string options.
    **usual : str
        Defaults of the options that have none in the configuration.
    """
    shared = {}
    for part in fields(configuration):
        about = option_of(configuration, part.name)
        if about.shell is not None:
            kind: Any = NUMBERS.get(getattr(part.type, "__name__", part.type), str | None)
            option = count(about.shell, about.check) if kind is int else typer.Option(help=about.shell)
            default = None if kind == FLAG else usual.get(part.name, part.default)
            shared[part.name] = Parameter(
                part.name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
            )

    flags = [name for name, one in shared.items() if one.annotation.__origin__ == FLAG]

    def given(**options: Any) -> dict[str, Any]:
        return {name: value for name, value in options.items() if not (name in flags and value is None)}

    return with_options("given", shared, given)


def with_options(
    argument: str, shared: Mapping[str, Parameter], collect: Callable[..., Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds options to a command, and passes ``collect(**values)`` as one argument.

    Parameters
    ----------
    argument : str
        Name of the argument of the command.
    shared : mapping
        Parameters of the options by name. They precede those of the command in the help text.
    collect : callable
        Function of the values of the options by name.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        form = signature(command, eval_str=True)
        own = {name: one for name, one in form.parameters.items() if name != argument}

        @wraps(command)
        def run(**options: Any) -> None:
            values = {name: options.pop(name) for name in shared}
            command(**{argument: collect(**values)}, **options)

        parameters = [one.replace(kind=Parameter.KEYWORD_ONLY) for one in {**shared, **own}.values()]
        run.__signature__ = form.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def in_flags(text: str, options: Iterable[Any]) -> str:
    """Return a message in which the options of a command are called by their flags instead of by their Python names.

    Names before a colon, at the start of the text or after another colon, become flags: ``h, delta: give one`` becomes
    ``--h, --delta: give one``, and ``inputs: ...`` becomes ``--input: ...``, the flag of that parameter. Values after
    ``name=`` are written as in the shell: ``exact=True`` becomes ``--exact``, and ``data_range=(0, 1)`` becomes
    ``--data-range=0,1``.
    """
    options = list(options)
    known = {flag[2:].replace("-", "_"): one for one in options for flag in one.opts if flag.startswith("--")}
    parameters = {one.name: one for one in options if any(flag.startswith("--") for flag in one.opts)}

    def flag(name: str) -> str:
        found = (parameters | known).get(name.replace("-", "_"))
        return name if found is None else next(one for one in found.opts if one.startswith("--"))

    def names(match: re.Match[str]) -> str:
        return re.sub(r"(?!and\b)[\w-]+", lambda name: flag(name[0]), match[0])

    def setting(match: re.Match[str]) -> str:
        name, pair, word = match.groups()
        if name not in known:
            return match[0]
        if getattr(known[name], "is_flag", False):
            return next(iter(known[name].secondary_opts), match[0]) if word == "False" else flag(name)
        return f"{flag(name)}={word or pair.replace(', ', ',')}"

    text = re.sub(r"(?:^|(?<=: ))[\w-]+(?:(?:, | and )[\w-]+)*(?=: )", names, text)
    return re.sub(r"(?<![^\s(])(\w+)=(?:\(([^()]*)\)|([^\s,;)]+))", setting, text)

"""The configuration of a study: every option of it, declared once.

The calls of `uldnum.studies` take the fields of a configuration as their arguments (`configured_by`), and commands take
them as their options. Names, types, defaults, checks and documentation come from here.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import KW_ONLY, dataclass, field, fields
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from uldnum._util.arguments import flag, positive_number, whole_number
from uldnum._util.typing import ArrayLike

if TYPE_CHECKING:
    from uldnum.schemes.catalogue import Integrator
    from uldnum.targets import Target

__all__ = [
    "BiasConfiguration",
    "Configuration",
    "ExactBiasConfiguration",
    "FrontierConfiguration",
    "Option",
    "SamplingConfiguration",
    "Whole",
    "configured_by",
    "option_of",
]

USUAL_STEPS = "Default: 12, from 0.1 to 1.6 of the target's narrowest standard deviations."
USUAL_FRICTIONS = "Default: 0.5, 1 and 2 over the narrowest standard deviation."

P = ParamSpec("P")
C = TypeVar("C")
R = TypeVar("R")


@dataclass(frozen=True)
class Whole:
    """A check: an integer between two bounds."""

    least: int
    most: int

    def __call__(self, name: str, value: Any) -> int:
        """Return the value as an int, or raise."""
        return whole_number(name, value, self.least, self.most)


@dataclass(frozen=True)
class Option:
    """What belongs to an option beside its name, type and default.

    Attributes
    ----------
    kind : str
        What it may be, as a docstring says it.
    text : str
        What it means.
    shell : str or None
        What the command line says of it: the same, unless something else is given; None where it has no such option.
    check : callable, optional
        ``check(name, value)`` returns the value, or raises.
    """

    kind: str
    text: str
    shell: str | None
    check: Callable[[str, Any], Any] | None


def option(
    kind: str, text: str, *, shell: str | None = "", check: Callable[[str, Any], Any] | None = None
) -> dict[str, Option]:
    """Return the metadata of a field that is an option."""
    return {"option": Option(kind, text, text if shell == "" else shell, check)}


@dataclass(frozen=True, eq=False)
class Configuration:
    """What a study is of, how exact it is, and where it is computed."""

    target: Target | str = field(metadata=option(
        "str, GaussianMixture or UserTarget",
        "What is sampled; it must know its standard deviation, and for biases its moments and its cdf.",
        shell="A target of 'uldnum list', or a TOML file.",
    ))  # fmt: skip
    integrators: str | Integrator | Sequence[str | Integrator] = field(metadata=option(
        "str, Integrator, or sequence of them",
        "The schemes, all different.",
        shell="Comma-separated names or splitting words; quote brackets: 'ULA,mild(0.5)'.",
    ))  # fmt: skip
    h: ArrayLike | None = field(default=None, metadata=option(
        "array, shape (H,)",
        f"Step sizes, all different. {USUAL_STEPS}",
        shell=f"Step sizes: first:last:count (geometric), or a list. {USUAL_STEPS}",
    ))  # fmt: skip
    _: KW_ONLY
    delta: ArrayLike | None = field(default=None, metadata=option(
        "array, shape (H,)", "The step sizes as delta = h^2/2 instead.",
    ))  # fmt: skip
    friction: ArrayLike | None = field(default=None, metadata=option(
        "float or array, shape (F,)",
        f"Frictions, all different; overdamped schemes ignore them. {USUAL_FRICTIONS}",
        shell=f"Frictions, as step sizes; overdamped schemes ignore them. {USUAL_FRICTIONS}",
    ))  # fmt: skip
    tolerance: float = field(default=1e-4, metadata=option(
        "float",
        "Accuracy of exact answers, as for `uldnum.exact.transfer_operator`.",
        shell="Accuracy of exact answers.",
    ))  # fmt: skip
    store: str | Path | None = field(default=None, metadata=option(
        "path, optional",
        "Folder that keeps every point, so that a study that was stopped goes on, as for `uldnum.studies.sweep`.",
        shell=None,
    ))  # fmt: skip
    executor: Executor | None = field(default=None, metadata=option(
        "concurrent.futures.Executor, optional",
        "Where points are computed, as for `uldnum.studies.sweep`.",
        shell=None,
    ))  # fmt: skip
    progress: bool = field(default=True, metadata=option(
        "bool", "Show progress in a terminal.", shell=None, check=flag,
    ))  # fmt: skip

    def __post_init__(self) -> None:
        for part in fields(self):
            check = option_of(type(self), part.name).check
            if check is not None:
                object.__setattr__(self, part.name, check(part.name, getattr(self, part.name)))


@dataclass(frozen=True, eq=False, kw_only=True)
class SamplingConfiguration(Configuration):
    """The configuration of a study that samples; errors come from the spread of chains, hence 8 at least."""

    nfe: int = field(default=5_000, metadata=option(
        "int", "Recorded score evaluations per chain, for every point.", check=Whole(1, 2**48),
    ))  # fmt: skip
    burn_in: int = field(default=1_000, metadata=option(
        "int", "Score evaluations before them, which are not recorded.", check=Whole(0, 2**48),
    ))  # fmt: skip
    chains: int = field(default=1024, metadata=option(
        "int", "Independent chains for each point, at least 8.", check=Whole(8, 2**32),
    ))  # fmt: skip
    seed: int = field(default=0, metadata=option(
        "int", "64-bit key of all random numbers.", check=Whole(0, 2**64 - 1),
    ))  # fmt: skip
    backend: str | None = field(default=None, metadata=option(
        "str, optional",
        "Where to sample, as for `uldnum.sample`.",
        shell="Where to sample: numba, array, cuda or cuda-fast. Default: numba if it can.",
    ))  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class ExactBiasConfiguration(Configuration):
    """The configuration of a study of one friction, without sampling."""

    friction: float = field(default=1.0, metadata=option(
        "float", "Friction; overdamped schemes ignore it.", check=positive_number,
    ))  # fmt: skip
    tolerance: float = 1e-5


@dataclass(frozen=True, eq=False, kw_only=True)
class BiasConfiguration(ExactBiasConfiguration, SamplingConfiguration):
    """The configuration of a study of one friction."""


@dataclass(frozen=True, eq=False, kw_only=True)
class FrontierConfiguration(SamplingConfiguration):
    """The configuration of a frontier, for which costs must be known well: more chains."""

    chains: int = 4096


def option_of(configuration: type[Configuration], name: str) -> Option:
    """Return what was declared of an option; a class that only changes its default inherits the rest."""
    known = [vars(base)["__dataclass_fields__"] for base in configuration.__mro__[:-1]]
    declared = (own[name].metadata for own in known if name in own)
    return next(found["option"] for found in declared if found)


def configured_by(configuration: Callable[P, C]) -> Callable[[Callable[[C], R]], Callable[P, R]]:
    """Make of a function of a configuration one that takes the fields of the configuration as its arguments.

    Its signature, and the section of its docstring on parameters, are those of the configuration.
    """
    form = signature(configuration)

    def decorate(function: Callable[[C], R]) -> Callable[P, R]:
        name = function.__name__

        @wraps(function)
        def call(*arguments: P.args, **options: P.kwargs) -> R:
            unknown = [option for option in options if option not in form.parameters]
            if unknown:
                raise TypeError(f"{name}: unknown argument {unknown[0]!r}; known are {', '.join(form.parameters)}")
            try:
                form.bind(*arguments, **options)
            except TypeError as error:
                raise TypeError(f"{name}: {error}") from None
            return function(configuration(*arguments, **options))

        call.__signature__ = form.replace(  # type: ignore[attr-defined]
            return_annotation=signature(function).return_annotation
        )
        before, returns, after = (function.__doc__ or "").partition("    Returns\n")
        call.__doc__ = before + parameters_section(configuration) + returns + after
        return call

    return decorate


def parameters_section(configuration: Any) -> str:
    """Return the section of a docstring on the options of a configuration."""
    lines = ["Parameters", "----------"]
    for name in signature(configuration).parameters:
        about = option_of(configuration, name)
        lines += [f"{name} : {about.kind}", *textwrap.wrap(about.text, 108, initial_indent="    ",
                                                           subsequent_indent="    ")]  # fmt: skip
    return textwrap.indent("\n".join(lines) + "\n\n", "    ")

"""The options of every study, each declared once.

The fields of a configuration are the arguments of the functions in `uldnum.studies` (`configured_by`) and the options
of the commands in the shell. This module defines their names, types, defaults, checks and documentation.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import KW_ONLY, dataclass, field, fields
from functools import wraps
from inspect import getdoc, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar

import numpy as np

from uldnum._util.arguments import flag, interval, non_negative, positive, positive_number, shown, whole_number
from uldnum._util.names import checked_name
from uldnum._util.typing import Array, ArrayLike
from uldnum.diagnostics.metrics import METRICS

if TYPE_CHECKING:
    from uldnum.plans.levels import Levels
    from uldnum.schemes.catalogue import Integrator
    from uldnum.targets import Target

__all__ = [
    "LEAST_SECONDS",
    "BiasConfiguration",
    "Checked",
    "Configuration",
    "ExactBiasConfiguration",
    "FrontierConfiguration",
    "MeasuringConfiguration",
    "Option",
    "QualityConfiguration",
    "SamplingConfiguration",
    "Whole",
    "configured_by",
    "option_of",
]

# Smallest time limit of exact values in seconds. The default limit is the time that sampling took, if that is longer.
LEAST_SECONDS = 1.0

NARROWEST = (
    "the narrowest scale of the target. This scale is the smallest standard deviation; for a mixture, that of its "
    "components; and for another target with draws, 1 divided by the largest standard deviation of a coordinate of the "
    "score"
)
USUAL_STEPS = f"Default: 12 step sizes, geometrically spaced, from 0.1 to 1.6 times {NARROWEST}."
USUAL_FRICTIONS = f"Default: 0.5, 1 and 2 divided by {NARROWEST}."
USUAL_SCALES = "Default step sizes and frictions use standard deviations in the coordinates in which the mass is 1."
USUAL_FRICTION = f"Default: 1 divided by {NARROWEST}."

P = ParamSpec("P")
C = TypeVar("C")
R = TypeVar("R")


@dataclass(frozen=True)
class Whole:
    """A callable check that a value is an integer between two bounds."""

    least: int
    most: int

    def __call__(self, name: str, value: Any) -> int:
        """Return the value as an int, or raise."""
        return whole_number(name, value, self.least, self.most)


def optional_number(name: str, value: Any) -> float | None:
    """Return a positive number, or None, or raise."""
    return None if value is None else positive_number(name, value)


def optional_non_negative(name: str, value: Any) -> float | None:
    """Return a non-negative number, or None, or raise."""
    return None if value is None else non_negative(name, value)


def optional_positive(name: str, value: Any) -> Array | None:
    """Return positive numbers as an array, or None, or raise."""
    return None if value is None else positive(name, value)


def all_some_or_none(name: str, value: Any) -> bool | str:
    """Return True, False or "auto", or raise."""
    if value is not True and value is not False and value != "auto":
        raise ValueError(f'{name}: must be True, False or "auto", got {shown(value)}')
    return value


def whole_numbers(name: str, value: Any) -> tuple[int, ...]:
    """Return one or more different positive integers in ascending order, or raise."""
    given = [value] if isinstance(value, int | np.integer) else value
    if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray) or len(given) == 0:
        raise ValueError(f"{name}: must be an integer or a sequence of integers, got {shown(value)}")
    found = sorted(whole_number(name, one, 1, 2**48) for one in given)
    if len(set(found)) < len(found):
        raise ValueError(f"{name}: must be different numbers, got {shown(value)}")
    return tuple(found)


def functions(name: str, value: Any) -> Mapping[str, Callable[..., Any]]:
    """Return a dictionary of functions by name, which is empty for None, or raise."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(callable(one) for one in value.values()):
        raise ValueError(f"{name}: must be a dictionary of functions by name, got {shown(value)}")
    for key in value:
        checked_name(name, key)
        if key in METRICS:
            raise ValueError(f"{name}: must have names other than the metrics {', '.join(METRICS)}, got {key!r}")
    return dict(value)


@dataclass(frozen=True)
class Option:
    """Properties of an option other than its name, type and default.

    Attributes
    ----------
    kind : str
        Type of the option in a docstring.
    text : str
        Description of the option in a docstring.
    shell : str or None
        Help text of the option on the command line; None if the command line does not have the option.
    check : callable or None
        ``check(name, value)`` returns the validated value, or raises.
    """

    kind: str
    text: str
    shell: str | None
    check: Callable[[str, Any], Any] | None


def option(
    kind: str, text: str, *, shell: str | None = "", check: Callable[[str, Any], Any] | None = None
) -> dict[str, Option]:
    """Return the metadata of a field that is an option. By default ``shell`` equals ``text``."""
    return {"option": Option(kind, text, text if shell == "" else shell, check)}


def friction_option(usual: str) -> dict[str, Option]:
    """Return the metadata of the frictions of a study, given a sentence on their default."""
    rest = f"overdamped schemes ignore them. {usual}"
    return option(
        "float or array, shape (F,)", f"Frictions in units of 1/time, all different; {rest}",
        shell=f"Frictions, in the format of step sizes; {rest}", check=optional_positive,
    )  # fmt: skip


# Options of all studies, and of all studies that sample.
STORE = option(
    "path, optional",
    "Folder in which every point is stored, so that an interrupted study resumes, as in `uldnum.studies.sweep`.",
    shell=None,
)
EXECUTOR = option(
    "concurrent.futures.Executor, optional",
    "Executor that computes the points, as in `uldnum.studies.sweep`.",
    shell=None,
)
PROGRESS = option("bool", "Whether to show a progress bar in a terminal.", shell=None, check=flag)
SEED = option("int", "Seed of all random numbers, from 0 to 2^64 - 1.", check=Whole(0, 2**64 - 1))


@dataclass(frozen=True, eq=False)
class Checked:
    """Base class of configurations, whose fields are options that are checked."""

    def __post_init__(self) -> None:
        for part in fields(self):
            check = option_of(type(self), part.name).check
            if check is not None:
                object.__setattr__(self, part.name, check(part.name, getattr(self, part.name)))


@dataclass(frozen=True, eq=False)
class Configuration(Checked):
    """The options of every study: target, integrators, step sizes, frictions, accuracy, storage and executor.

    Attributes
    ----------
    usual_frictions : tuple of float
        Default frictions in units of 1 divided by the narrowest scale of the target.
    """

    usual_frictions: ClassVar[tuple[float, ...]] = (0.5, 1.0, 2.0)

    target: Target | str = field(metadata=option(
        "str, GaussianMixture or UserTarget",
        "Target. Without a reference, it needs a standard deviation, exact draws and, for biases, moments or a cdf.",
        shell="Name of a target from 'uldnum list', or path of a TOML file.",
    ))  # fmt: skip
    integrators: str | Integrator | Sequence[str | Integrator] = field(metadata=option(
        "str, Integrator, or sequence of them",
        "Integrators, all different.",
        shell="Comma-separated names or splitting words; in the shell, quote parentheses: 'ULA,mild(0.5)'.",
    ))  # fmt: skip
    h: ArrayLike | None = field(default=None, metadata=option(
        "array, shape (H,)",
        f"Step sizes in units of time, all different. {USUAL_STEPS}",
        shell=f"Step sizes: first:last:count (geometric), or a comma-separated list. {USUAL_STEPS}",
    ))  # fmt: skip
    _: KW_ONLY
    delta: ArrayLike | None = field(default=None, metadata=option(
        "array, shape (H,)", "Step sizes as delta = h^2/2. At most one of h and delta may be given.",
    ))  # fmt: skip
    friction: ArrayLike | None = field(default=None, metadata=friction_option(USUAL_FRICTIONS))
    temperature: float | None = field(default=None, metadata=option(
        "float, optional",
        "Temperature T of the integrators, relative to that of the target, not in kelvin. Biases are measured against "
        "the target density to the power 1/T. It is known on Gaussians and in one dimension. On other targets, pass "
        "samples of it as reference. Default: 1.",
        check=optional_number,
    ))  # fmt: skip
    score_noise: float | None = field(default=None, metadata=option(
        "float, optional",
        "Standard deviation of the error of the score, in units of 1/x: integrators use ``s + score_noise zeta`` with "
        "independent standard normals zeta for each evaluation and coordinate. Default: 0.",
        shell="Standard deviation of the error of the score, which is independent for each evaluation and coordinate. "
        "Default: 0.",
        check=optional_non_negative,
    ))  # fmt: skip
    mass: str | ArrayLike | None = field(default=None, metadata=option(
        'float, array of shape (d,) or (d, d), or "inverse-covariance", optional',
        "Mass as in `uldnum.sample`, in units of time^2/x^2. \"inverse-covariance\" needs a target whose covariance is "
        f"known. Results are those of x. {USUAL_SCALES} Default: 1.",
        shell="Mass, in units of time^2/x^2: a number, a comma-separated list with one number for each coordinate, or "
        f"inverse-covariance, which needs a target whose covariance is known. {USUAL_SCALES} Default: 1.",
    ))  # fmt: skip
    tolerance: float = field(default=1e-4, metadata=option(
        "float",
        "Accuracy of exact answers, as in `uldnum.exact.transfer_operator`.",
        shell="Accuracy of exact answers.",
    ))  # fmt: skip
    store: str | Path | None = field(default=None, metadata=STORE)
    executor: Executor | None = field(default=None, metadata=EXECUTOR)
    progress: bool = field(default=True, metadata=PROGRESS)


@dataclass(frozen=True, eq=False, kw_only=True)
class SamplingConfiguration(Configuration):
    """The options of a study that samples.

    Standard errors are estimated from the differences between chains, which requires at least 8 chains.
    """

    nfe: int = field(default=5_000, metadata=option(
        "int", "Recorded score evaluations per chain at every point.", check=Whole(1, 2**48),
    ))  # fmt: skip
    burn_in: int = field(default=1_000, metadata=option(
        "int", "Unrecorded score evaluations per chain at the start of a run.", check=Whole(0, 2**48),
    ))  # fmt: skip
    chains: int = field(default=1024, metadata=option(
        "int", "Independent chains at every point, at least 8.", check=Whole(8, 2**32),
    ))  # fmt: skip
    seed: int = field(default=0, metadata=SEED)
    backend: str | None = field(default=None, metadata=option(
        "str, optional",
        "Backend that runs the chains, as in `uldnum.sample`.",
        shell="Backend: numba, array, cuda or cuda-fast. Default: numba if it supports the target, otherwise "
        "array.",
    ))  # fmt: skip
    exact: bool | str = field(default="auto", metadata=option(
        'bool or "auto"',
        'Whether exact values are computed, after sampling, on Gaussians and in one dimension. With "auto", those that '
        "are not computed within ``exact_seconds`` are left out.",
        shell="Compute all exact values, or none. Default: compute exact values after sampling until --exact-seconds "
        "have passed.",
        check=all_some_or_none,
    ))  # fmt: skip
    exact_seconds: float | None = field(default=None, metadata=option(
        "float, optional",
        'Time limit for all exact values together, in seconds, with ``exact="auto"``. Default: the time that sampling '
        f"took, but at least {LEAST_SECONDS:g} s.",
        shell="Time limit for all exact values together, in seconds. Default: the time that sampling took, but at "
        f"least {LEAST_SECONDS:g} s.",
        check=optional_number,
    ))  # fmt: skip
    reference: Any = field(default=None, metadata=option(
        "array, Run, str, Path, callable or Reference, optional",
        "Samples of the target, as in `uldnum.diagnostics.Reference.of`. They replace the moments, the cdf and the "
        "draws of the target. Biases are measured against them, and chains start from them. \"long\" takes the samples "
        "of a long run, as in `uldnum.diagnostics.Reference.long`, and \"metropolised\" those of a run with a "
        "Metropolis test, as in `uldnum.diagnostics.Reference.metropolised`.",
        shell="Samples that replace the moments, the cdf and the draws of the target: a saved run, a .npy file, or "
        "'long' for the samples of a long run, whose standard error and bias are below 0.005 standard deviations, or "
        "'metropolised' for those of a run with a Metropolis test, which has no bias.",
    ))  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class MeasuringConfiguration(SamplingConfiguration):
    """The options of a study that measures biases by sampling."""

    observables: Mapping[str, Callable[..., Any]] | None = field(default=None, metadata=option(
        "dict of str to callable, optional",
        "Functions of positions, (n, *shape) -> (n,) or (n, k), by name. The biases of their means and of the means of "
        "their squares are measured, too, as metrics ``name`` and ``name^2``. Without a reference, their expectations "
        "are averages over exact draws of the target, whose noise enters error and floor.",
        shell=None, check=functions,
    ))  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class ExactBiasConfiguration(Configuration):
    """The options of a study of the bias without sampling, by default at a single friction."""

    usual_frictions: ClassVar[tuple[float, ...]] = (1.0,)

    friction: ArrayLike | None = field(default=None, metadata=friction_option(USUAL_FRICTION))
    tolerance: float = 1e-5


@dataclass(frozen=True, eq=False, kw_only=True)
class BiasConfiguration(ExactBiasConfiguration, MeasuringConfiguration):
    """The options of a study of the bias with sampling.

    Its default number of evaluations is smaller, because biases need shorter runs than autocorrelation times.
    """

    nfe: int = 2_000


@dataclass(frozen=True, eq=False, kw_only=True)
class FrontierConfiguration(MeasuringConfiguration):
    """The options of a frontier. Its default number of chains is larger, because costs must be measured precisely."""

    chains: int = 4096


@dataclass(frozen=True, eq=False)
class QualityConfiguration(Checked):
    """The options of a study of the quality of images."""

    network: Any = field(metadata=option(
        "Network, DataMixture, str, Path, or another object with a method ``noised``",
        "Distribution of images with scores at noise levels, as in `uldnum.anneal`.",
        shell="Network: a name in 'uldnum list', an ONNX file, or a diffusers folder with ONNX models.",
    ))  # fmt: skip
    samplers: Any = field(metadata=option(
        "dict, or sequence of str",
        "Samplers by name. A sampler is a `uldnum.Plan`, which has its own number of evaluations; a function that "
        "returns a plan of at most ``nfe`` evaluations; or a tuple ``(integrator, ratio, options)``, which stands for "
        "chains at the noise level sigma/alpha = ratio that are measured after ``nfe`` evaluations. The options are "
        "``h`` or ``delta`` (in units of sigma), ``friction``, ``temperature``, ``score_noise``, ``x0`` (a name), all "
        "as in `uldnum.sample`, and ``denoise=False``, which measures the states instead of the denoised states. A "
        "sampler may also be a string, as in the shell: the name of a preset plan; the name of a predictor or an "
        "integrator, of which a plan is made with as many ``levels`` as ``nfe`` permits; or ``NAME@RATIO``, which "
        "stands for ``(NAME, RATIO, {'h': h})``. A sequence of strings is a dictionary of these strings.",
        shell="Samplers, separated by commas: a predictor or an integrator, of which a plan is made with as many "
        "--levels as each --nfe permits; NAME@SIGMA, such as BAOAB@0.5, for chains of an integrator at the noise level "
        "sigma/alpha = SIGMA, which are denoised and measured after each --nfe; or a plan of the literature, which has "
        "its own levels and number of evaluations.",
    ))  # fmt: skip
    nfe: int | Sequence[int] = field(default=(5, 10, 20), metadata=option(
        "int or sequence of int",
        "Numbers of score evaluations per image. Plans use the largest number that does not exceed them.",
        shell="Numbers of score evaluations per image, separated by commas. Plans use the largest number that does not "
        "exceed them.",
        check=whole_numbers,
    ))  # fmt: skip
    _: KW_ONLY
    reference: Any = field(metadata=option(
        "str, Path, array or ReferenceImages",
        "Images to compare with, as in `uldnum.networks.reference_images`: \"mnist-images\", a folder of images, an "
        ".npz or .npy file, or an array. Samples are compared with the training images. The floor is the value of the "
        "held-out images, or that of one half of the images against the other if there are no held-out images.",
        shell="Images to compare with: mnist-images, a folder of images, or an .npz or .npy file.",
    ))  # fmt: skip
    features: Any = field(default="digits", metadata=option(
        "str, Path, callable or Features",
        "Features of images, as in `uldnum.networks.features`: \"digits\" (the classifier of digits in the package), "
        "\"pixels\", \"projections\", an ONNX file, or a function of images that returns an array (n, f).",
        shell="Features of images: digits (the classifier of digits in the package), pixels, projections, or an ONNX "
        "file.",
    ))  # fmt: skip
    data_range: tuple[float, float] | None = field(default=None, metadata=option(
        "(float, float), optional",
        "Values of black and white of the images, to which images of samplers are clipped. Default: ``data_range`` of "
        "the network's card, or (-1, 1) if the network has no card.",
        shell="Values of black and white of the images, as LOW,HIGH, if the network's card does not state them.",
        check=lambda name, value: None if value is None else interval(name, value),
    ))  # fmt: skip
    metrics: str | Sequence[str] | None = field(default=None, metadata=option(
        "str or sequence of str, optional",
        "Metrics, names in `uldnum.diagnostics.IMAGE_METRICS`. Default: all that the features permit.",
        shell="Metrics, separated by commas. Default: all that the features permit.",
    ))  # fmt: skip
    images: int = field(default=400, metadata=option(
        "int", "Images of each sampler, at least 2 (f + 1) for f features.", check=Whole(2, 2**32),
    ))  # fmt: skip
    batch: int = field(default=100, metadata=option(
        "int",
        "Images that are sampled and stored together. The images do not depend on it.",
        check=Whole(1, 2**32),
    ))  # fmt: skip
    levels: str | Callable[[int], Levels] = field(default="karras:20:0.02:COUNT", metadata=option(
        "str or callable",
        "Noise levels of the plans of samplers that are given by name: a notation of `uldnum.levels.parse`, in which "
        'the word COUNT stands for the number of levels; "own:COUNT" for the schedule of the network; or a function '
        "that returns `uldnum.levels.Levels` for a number of levels.",
        shell="Noise levels of plans. In all notations the word COUNT stands for the number of levels: "
        "geometric:FIRST:LAST:COUNT or karras:FIRST:LAST:COUNT, where FIRST and LAST are values of sigma/alpha; "
        "linear:COUNT, scaled-linear:COUNT, cosine:COUNT or vp-sde:COUNT for a variance-preserving schedule; "
        "flow:COUNT:SHIFT for flow matching; or own:COUNT for the schedule of the network. If the network supports "
        "only integer timesteps, the levels are moved to the nearest timesteps.",
    ))  # fmt: skip
    steps: int = field(default=1, metadata=option(
        "int", "Steps at each noise level of integrators that are given by name.", check=Whole(1, 2**48),
    ))  # fmt: skip
    h: float = field(default=1.4, metadata=option(
        "float", "Step size of integrators that are given by name, in units of sigma.", check=positive_number,
    ))  # fmt: skip
    seed: int = field(default=0, metadata=SEED)
    backend: str | None = field(default=None, metadata=option(
        "str, optional",
        "Backend that runs the chains, as in `uldnum.anneal`.",
        shell="Backend: array (on the CPU), cuda or cuda-fast. Default: array.",
    ))  # fmt: skip
    store: str | Path | None = field(default=None, metadata=STORE)
    executor: Executor | None = field(default=None, metadata=EXECUTOR)
    progress: bool = field(default=True, metadata=PROGRESS)


def option_of(configuration: type[Checked], name: str) -> Option:
    """Return the declaration of an option. A class that changes only the default inherits the declaration."""
    known = [vars(base)["__dataclass_fields__"] for base in configuration.__mro__[:-1]]
    declared = (own[name].metadata for own in known if name in own)
    return next(found["option"] for found in declared if found)


def configured_by(configuration: Callable[P, C]) -> Callable[[Callable[[C], R]], Callable[P, R]]:
    """Return a decorator that makes the fields of a configuration the arguments of a function.

    The function receives a configuration. The decorated function has the signature of the configuration and a docstring
    with its options as the section Parameters. Its attribute ``configuration`` is the configuration class.
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

        call.configuration = configuration  # type: ignore[attr-defined]
        call.__signature__ = form.replace(  # type: ignore[attr-defined]
            return_annotation=signature(function).return_annotation
        )
        before, returns, after = (getdoc(function) or "").partition("Returns\n-------\n")
        call.__doc__ = before + parameters_section(configuration) + returns + after
        return call

    return decorate


def parameters_section(configuration: Any) -> str:
    """Return the section Parameters of a docstring for the options of a configuration."""
    lines = ["Parameters", "----------"]
    for name in signature(configuration).parameters:
        about = option_of(configuration, name)
        lines += [f"{name} : {about.kind}", *textwrap.wrap(about.text, 108, initial_indent="    ",
                                                           subsequent_indent="    ")]  # fmt: skip
    return "\n".join(lines) + "\n\n"

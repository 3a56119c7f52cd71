"""Cards: the metadata that turn a network into a score function.

A card states what the network predicts, how its input is scaled, how it receives the noise level, and how its images
are displayed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from uldnum._util.arguments import number, positive_number, shown
from uldnum._util.names import checked_name, checked_text, nearest, unknown
from uldnum._util.parsing import parse_toml, read_toml
from uldnum._util.summary import Described, Summary
from uldnum._util.typing import Array
from uldnum.networks.forms import (
    CONDITIONS,
    NEEDS,
    OF_NOISE,
    PARAMETERISATIONS,
    SCALINGS,
    TIMED,
    WHOLE,
    WITH_NOISE,
    alpha_and_sigma,
    alpha_of,
    form,
    input_scale,
)
from uldnum.networks.spacings import SPACINGS, times_of
from uldnum.networks.words import example, line, translated
from uldnum.plans.schedules import SCHEDULES, Schedule, schedule
from uldnum.schemes.form import START, Form
from uldnum.schemes.predictors import NoiseLevel

__all__ = ["Card", "Level", "card_of", "checked_card", "keys_of", "parse_value", "read_card"]


@dataclass(frozen=True)
class Level:
    """A noise level of a network.

    Attributes
    ----------
    alpha, sigma : float
        Coefficients of the noised image z = alpha x + sigma eps.
    form : Form
        Affine maps from z and the network's output to the image, the noise and the score.
    scale : float
        Factor c by which z is multiplied before it enters the network.
    condition : float
        Value of the network's noise-level input.
    """

    alpha: float
    sigma: float
    form: Form
    scale: float
    condition: float

    def rescaled(self, alpha: float, sigma: float) -> Level:
        """Return the same noise level for z with other coefficients alpha and sigma, of the same ratio."""
        factor = sigma / self.sigma
        return Level(alpha, sigma, self.form.rescaled(factor, sigma), self.scale / factor, self.condition)


@dataclass(frozen=True, repr=False)
class Card(Described):
    r"""Metadata of a network.

    A card is a TOML file beside the model with the same stem, or a set of keys in the metadata of the model. In the
    metadata every key below has the prefix ``uldnum.``.

    Parameters
    ----------
    parameterisation : str
        What the network predicts: "score", "epsilon" (the noise eps), "noise" (sigma eps), "denoiser" (the image x),
        "v" (alpha eps - sigma x), "velocity" (eps - x, of flow matching), "negative-velocity" (x - eps), "edm" (F of
        EDM's preconditioning) or "negative-edm" (-F).
    scaling : str
        Scaling of the network's input: "ve" (x + sigma eps), "vp" (alpha x + sigma eps with alpha^2 + sigma^2 = 1),
        "sub-vp" (alpha x + sigma eps with alpha^2 + sigma = 1), "flow" (alpha x + sigma eps with alpha + sigma = 1) or
        "edm" ((x + sigma eps)/sqrt(sigma^2 + sigma_data^2)).
    condition : str
        Quantity that the network receives as its noise level: "sigma", "sigma-squared", "log-sigma", "log-snr"
        (log(alpha^2/sigma^2)), "alpha-bar" (alpha^2), "t", "timestep", "interpolated-timestep", "index" or "none".
    condition_scale : float
        Factor by which that quantity is multiplied, not 0. Default: 1.
    schedule : mapping
        Relation between noise level and time t: ``kind`` and the parameters of that kind (`uldnum.plans.schedules`).
        The conditions "t", "timestep", "interpolated-timestep" and "index" require it. The kind "functions" takes the
        Python functions ``sigma`` and ``alpha`` of t.
    spacing : mapping
        Spacing of the default noise levels of the network: ``kind`` and the parameters of that kind
        (`uldnum.networks.spacings`). Default: evenly spaced in t, from sigma/alpha = 30 at most if the network predicts
        the score, epsilon or the noise.
    sigma_data : float
        Standard deviation of the data in the scaling "edm". Default: 0.5.
    sigma_min, sigma_max : float
        Range of sigma for which the network was trained. Levels of the schedule outside this range are not supported.
        Default: 0 and infinity.
    shape : tuple of int
        Shape of one image: channels, height and width, or (d,) for vectors. It is required for a function, and for a
        model in which these axes are dynamic.
    channels_last : bool
        Whether the model takes images with the channels as the last axis. Default: False. It is not needed for a model
        whose axes have fixed sizes.
    learned_variance : bool
        Whether the output has twice as many channels as the image, of which the second half describes the variance of a
        step of the sampler. Only the first half is used. Default: False.
    image_input, condition_input, output : str
        Names of the model's inputs and output, for a model in which they are ambiguous.
    data_range : (float, float)
        Smallest and largest value of a clean image. Chains start around its centre, and clipping uses its bounds.
        Default: -1 and 1.
    sigma : float
        Default noise level of a chain. Default: 0.5.
    h : float
        Default step size of a chain, in units of sigma. Default: 2.
    display : (float, float), optional
        Values that are drawn with the darkest and the brightest colour. Default: ``data_range``.
    gamma : float
        Exponent of the displayed brightness. Default: 1.
    colours : str
        Matplotlib colour map for images with one channel. Default: "gray".
    name, source, licence, citation : str
        Name, origin, licence and citation of the network.
    unit : str
        Unit of the values of an image.
    sha256 : str
        Hash of the model file, which is verified when it is given.

    Raises
    ------
    ValueError
        If a value is unknown or out of range, or two values contradict each other; the message names the key.

    Notes
    -----
    The noised image is :math:`z = \alpha x + \sigma \varepsilon`, with :math:`\alpha = 1` in the scalings "ve" and
    "edm", :math:`\alpha^2 + \sigma^2 = 1` in the scaling "vp", and :math:`\alpha + \sigma = 1` in the scaling "flow".
    All values of sigma are in units of the image.

    In flow matching, t is sigma. The condition is "t" with the schedule ``{"kind": "flow"}``. If time runs from noise
    to data, the schedule is ``{"kind": "flow", "reverse": True}``. If times are multiplied by 1000, ``condition_scale``
    is 1000.

    Keys and values of a scheduler of diffusers are accepted too: ``prediction_type``, ``beta_schedule``,
    ``num_train_timesteps``, ``beta_start``, ``beta_end``, ``trained_betas``, ``rescale_betas_zero_snr``,
    ``timestep_spacing`` and ``steps_offset`` in a TOML file or in ``card=``, and values such as "v_prediction" and
    "scaled_linear" in the arguments of this class.

    References
    ----------
    Karras, Aittala, Aila & Laine (2022), "Elucidating the design space of diffusion-based generative models", table 1:
    the scaling and parameterisation "edm". Salimans & Ho (2022), "Progressive distillation for fast sampling of
    diffusion models", appendix D: the parameterisation "v". Lipman, Chen, Ben-Hamu, Nickel & Le (2023), "Flow matching
    for generative modeling": the parameterisation "velocity".

    Examples
    --------
    >>> from uldnum.networks import Card
    >>> card = Card("epsilon", "vp", "timestep", schedule={"kind": "cosine", "timesteps": 1000})
    >>> level = card.level(sigma=0.6)
    >>> level.condition
    404.0
    >>> round(level.sigma, 3), round(level.alpha, 3)
    (0.6, 0.8)
    >>> card
    Card of a network
      predicts     the noise eps, s = -eps/sigma
      input        alpha x + sigma eps with alpha^2 + sigma^2 = 1 (variance preserving)
      noise level  timestep of the schedule cosine, sigma from 0.006425 to 1
      chains       by default at sigma = 0.5 with h = 2 sigma
      images       values from -1 to 1
    """

    parameterisation: str
    scaling: str
    condition: str
    condition_scale: float = 1.0
    schedule: Mapping[str, Any] = field(default_factory=dict)
    spacing: Mapping[str, Any] = field(default_factory=dict)
    sigma_data: float = 0.5
    sigma_min: float = 0.0
    sigma_max: float = math.inf
    shape: tuple[int, ...] = ()
    channels_last: bool = False
    learned_variance: bool = False
    image_input: str = ""
    condition_input: str = ""
    output: str = ""
    data_range: tuple[float, float] = (-1.0, 1.0)
    sigma: float = 0.5
    h: float = 2.0
    display: tuple[float, float] | None = None
    gamma: float = 1.0
    colours: str = "gray"
    name: str = ""
    source: str = ""
    licence: str = ""
    citation: str = ""
    unit: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        own = translated({key: getattr(self, key) for key in (*REQUIRED, "schedule", "spacing")})
        for key, value in own.items():
            object.__setattr__(self, key, value)
        for key, names in CHOICES.items():
            if (value := getattr(self, key)) not in names:
                remedy = line(key, nearest(value, names) or next(iter(names)))
                raise ValueError(f"{key}: must be one of {', '.join(names)}, got {shown(value)}; for example {remedy}")
        needed = NEEDS.get(self.parameterisation, self.scaling)
        if self.scaling != needed:
            raise ValueError(
                f"scaling: parameterisation {self.parameterisation!r} needs {needed!r}, got {self.scaling!r}; "
                f"give {line('scaling', needed)}"
            )
        for key in ("sigma_data", "sigma", "h", "gamma"):
            positive_number(key, getattr(self, key))
        if not (math.isfinite(number("condition_scale", self.condition_scale)) and self.condition_scale):
            raise ValueError(f"condition_scale: must be finite and not 0, got {self.condition_scale}")
        if self.name:
            checked_name("name", self.name)
        for key in TEXTS:
            checked_text(key, getattr(self, key))
        if not 0 <= number("sigma_min", self.sigma_min) < number("sigma_max", self.sigma_max):
            raise ValueError(
                f"sigma_min: must lie between 0 and sigma_max = {self.sigma_max:g}, got {self.sigma_min:g}"
            )
        self.check_schedule()
        if self.condition == "alpha-bar" and self.scaling not in WITH_NOISE:
            raise ValueError(
                f"condition: 'alpha-bar' needs a scaling in which alpha depends on the noise level "
                f"({', '.join(WITH_NOISE)}), got the scaling {self.scaling!r}"
            )
        if self.spacing:
            if not self.schedule:
                raise ValueError(
                    f"spacing: needs a schedule from t to the noise level, such as {example(self.scaling)}"
                )
            try:
                self.spaced(2, self.shape or (1, 64, 64))
            except ValueError as error:
                kind = nearest(str(self.spacing.get("kind", "")), SPACINGS) or "even"
                raise ValueError(f"{error}; a valid line is {line('spacing', {'kind': kind})}") from None

    def check_schedule(self) -> None:
        """Raise an error, with a line that mends it, if the schedule is invalid or does not fit the condition."""
        asked = f"schedule: condition {self.condition!r} needs a schedule"
        if not self.schedule:
            if self.condition in TIMED:
                raise ValueError(f"{asked} from t to the noise level, such as {example(self.scaling)}")
            return
        try:
            found = schedule(self.schedule)
        except ValueError as error:
            kind = str(self.schedule.get("kind", ""))
            remedy = example(self.scaling, kind if kind in SCHEDULES else nearest(kind, SCHEDULES) or "")
            raise ValueError(f"{error}; a valid line is {remedy}") from None
        if "timestep" in self.condition and not found.discrete:
            raise ValueError(
                f"{asked} with timesteps; if the network receives real times, give {line('condition', 't')}"
            )
        if self.condition == "index" and found.steps is None:
            raise ValueError(f"{asked} with timesteps or a table, such as {example('', 'table')}")

    @property
    def summary(self) -> Summary:
        """Table of the output, the input, the noise level, the default chain, the images and the origin."""
        timed = f" of the schedule {self.schedule['kind']}" if self.schedule else ""
        low, high = self.limits
        size = f"{' x '.join(map(str, self.shape))}, " if self.shape else ""
        rows = [
            ("predicts", PARAMETERISATIONS[self.parameterisation][0]),
            ("input", SCALINGS[self.scaling]),
            ("noise level", f"{self.condition}{timed}, sigma from {low:.4g} to {high:.4g}"),
            ("chains", f"by default at sigma = {self.sigma:g} with h = {self.h:g} sigma"),
            ("images", f"{size}values from {self.data_range[0]:g} to {self.data_range[1]:g}"),
            *((key, getattr(self, key)) for key in ("unit", "source", "licence", "citation") if getattr(self, key)),
        ]
        return Summary(f"Card of {self.name or 'a network'}", [], rows)

    @cached_property
    def times(self) -> Schedule:
        """Map between the time t and the noise level."""
        return schedule(self.schedule)

    @property
    def whole(self) -> bool:
        """Whether the network receives its noise level as an integer."""
        return self.condition in WHOLE

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of an output of the network, for an image of a given shape."""
        return (2 * shape[0], *shape[1:]) if self.learned_variance else shape

    @property
    def limits(self) -> tuple[float, float]:
        """Smallest and largest sigma that the network supports."""
        if not self.schedule:
            return self.sigma_min, min(self.sigma_max, 1.0 if self.scaling in WITH_NOISE else math.inf)
        low, high = (alpha_and_sigma(self.scaling, ratio)[1] for ratio in self.times.limits)
        return max(low, self.sigma_min), min(high, self.sigma_max)

    def spaced(self, count: int, shape: tuple[int, ...]) -> Array:
        """Return the times of ``count`` default noise levels for images of a given shape, float64, shape (count,)."""
        largest = math.inf if self.sigma_max >= (1.0 if self.scaling in WITH_NOISE else math.inf) else self.sigma_max
        low, high = (self.ratio_of("sigma", one) if 0 < one < math.inf else one for one in (self.sigma_min, largest))
        if self.parameterisation in OF_NOISE:
            high = min(high, START)
        elif self.condition == "log-snr" and math.isinf(self.times.limits[1]):
            high = min(high, NOISIEST)
        return self.snapped(times_of(self.spacing, count, self.times, shape, (low, high)))

    def snapped(self, t: Any) -> Array:
        """Return the nearest steps of the schedule to given times, or the times if the network receives no integer."""
        if not self.whole:
            return np.asarray(t)
        return np.asarray(np.asarray(self.times.steps)[self.times.on_steps(t)])

    def ratio_of(self, name: str, value: float) -> float:
        """Return sigma/alpha of a noise level given as "sigma", "sigma-ratio" or "t". It is infinite at alpha = 0.

        Parameters
        ----------
        name : "sigma", "sigma-ratio" or "t"
            Kind of the value.
        value : float
            Sigma, sigma/alpha, or time of the schedule.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If the value is out of range, or the card has no schedule for t.
        """
        if name == "t":
            if not self.schedule:
                raise ValueError("t: the network has no schedule; give sigma")
            first, last = self.times.start, self.times.end
            if not (first <= value <= last and self.times.ratio(value) > 0):
                raise ValueError(f"t: must lie between {first:g} and {last:g}, at a positive noise level, got {value}")
            return float(self.times.ratio(value))
        if not (0 < value < math.inf or (name, value) == ("sigma-ratio", math.inf)):
            raise ValueError(f"{name}: must be positive and finite, got {value}")
        if name == "sigma" and self.scaling in WITH_NOISE:
            if value > 1:
                raise ValueError(f"sigma: must lie between 0 and 1, as the scaling is {self.scaling!r}, got {value}")
            return float(NoiseLevel(alpha_of(self.scaling, value), value).r)
        return value

    def check_noise(self, name: str, wanted: str = "a level with alpha > 0") -> None:
        """Raise an error, in terms of the argument ``name``, unless the network has a level with alpha = 0.

        This is the level where z is pure noise. The denoised image must follow from the output of the network there.
        ``wanted`` describes the levels that the network has.
        """
        owner = self.name or "the network"
        if self.parameterisation in OF_NOISE:
            what = PARAMETERISATIONS[self.parameterisation][0]
            remedy = "use net.levels(n)" if self.schedule else f"start at a finite sigma/alpha, such as {START:g}"
            raise ValueError(
                f"{name}: must be {wanted}, because {owner} predicts {what}, from which the image does not follow at "
                f"alpha = 0; {remedy}"
            )
        if self.scaling not in WITH_NOISE:
            raise ValueError(
                f"{name}: must be a level with alpha > 0, because the scaling {self.scaling!r} has alpha = 1"
            )
        if self.schedule and math.isfinite(self.times.limits[1]):
            raise ValueError(
                f"{name}: must be a level with alpha > 0, because the schedule of {owner} ends at sigma/alpha = "
                f"{self.times.limits[1]:.4g}"
            )

    def level(self, sigma: float | None = None, ratio: float | None = None, t: float | None = None) -> Level:
        """Return the noise level at a given sigma, sigma/alpha or t.

        Parameters
        ----------
        sigma : float, optional
            Sigma of z = alpha x + sigma eps. If ``ratio`` and ``t`` are absent too, the default is ``sigma`` of the
            card.
        ratio : float, optional
            The ratio sigma/alpha.
        t : float, optional
            Time of the schedule.

        Returns
        -------
        Level
            The noise level. With the condition "timestep" or "index" this is the level of the nearest timestep.

        Raises
        ------
        ValueError
            If more than one argument is given, the value is not positive, the network was not trained for this noise
            level, or alpha = 0 and the image does not follow from the network's output there or the condition is
            infinite.
        """
        given = [(name, v) for name, v in (("sigma", sigma), ("sigma-ratio", ratio), ("t", t)) if v is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(name for name, _ in given)}: give only one of them")
        ((name, value),) = [(name, number(name, v)) for name, v in given] or [("sigma", self.sigma)]
        found = self.ratio_of(name, value)
        if math.isinf(found):
            self.check_noise(name)
        (low, high), asked = self.limits, alpha_and_sigma(self.scaling, found)[1]
        if not low * (1 - 1e-9) <= asked <= high * (1 + 1e-9):
            owner = self.name or "the network"
            raise ValueError(
                f"{name}: {owner} was trained for sigma from {low:.4g} to {high:.4g}, got sigma = {asked:.4g}"
            )
        time = float(self.times.time(found)) if self.schedule else 0.0
        if self.whole:
            index = int(self.times.on_steps(time))
            step = float(np.asarray(self.times.steps)[index])
            found, time = float(self.times.ratio(step)), float(index) if self.condition == "index" else step
            if math.isinf(found):
                self.check_noise(name, "a level whose nearest timestep has alpha > 0")
        alpha, there = alpha_and_sigma(self.scaling, found)
        sigma = value if name == "sigma" and not self.whole else there  # a given sigma is not rounded
        condition = float(CONDITIONS[self.condition][1](alpha, sigma, time))
        if not math.isfinite(condition):
            raise ValueError(
                f"{name}: must be a level with alpha > 0, because the condition {self.condition!r} is infinite there"
            )
        maps = form(self.parameterisation, alpha, sigma, self.sigma_data)
        scale = input_scale(self.scaling, sigma, self.sigma_data)
        return Level(alpha, sigma, maps, scale, self.condition_scale * condition)


# Largest sigma/alpha of the default levels if the condition is infinite at alpha = 0: t = 0.999 of flow matching.
NOISIEST = 999.0

REQUIRED = ("parameterisation", "scaling", "condition")

# Names of each required key.
CHOICES: dict[str, Mapping[str, Any]] = dict(zip(REQUIRED, (PARAMETERISATIONS, SCALINGS, CONDITIONS), strict=True))

# String-valued keys, which are printed or looked up in a model.
TEXTS = tuple(one.name for one in fields(Card) if one.type == "str")

# Maximum number of values of an image: 2048 x 2048 pixels with four channels.
LARGEST = 2**24

# Maximum magnitude of the values of images; their squares are finite in float32.
BRIGHTEST = 1e15


def checked_card(card: Any) -> dict[str, Any]:
    """Return the keys of a card argument in the words of this package, or raise an error if it is not a mapping."""
    if isinstance(card, Card):
        return {
            one.name: value for one in fields(Card) if (value := getattr(card, one.name)) != one.default and value != {}
        }
    if not (card is None or isinstance(card, Mapping)):
        raise ValueError(f"card: must be a mapping of keys and values, got {shown(card)}")
    return plain(translated(card or {}))


def plain(value: Any) -> Any:
    """Return a value whose numbers and arrays of NumPy are replaced by numbers and lists of Python, also in tables."""
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def card_of(given: Mapping[str, Any], where: str) -> Card:
    """Return a card from its keys.

    Parameters
    ----------
    given : mapping
        Keys, and values of TOML types.
    where : str
        Name of the model, for error messages.

    Raises
    ------
    ValueError
        If a key is unknown, missing or has an invalid value; the message names the key and the model.
    """
    values = keys_of(given, where, Card)
    missing = [key for key in REQUIRED if key not in given]
    if missing:
        names = [f"{key} ({', '.join(CHOICES[key])})" for key in missing]
        lines = [
            line(key, {"parameterisation": "epsilon", "scaling": "vp", "condition": "sigma"}[key]) for key in missing
        ]
        raise ValueError(
            f"card of {where}: must have {' and '.join(names)}; write a card beside the model, or give, for example, "
            f"{' and '.join(lines)}"
        )
    try:
        return Card(**values)
    except ValueError as error:
        raise ValueError(f"card of {where}: {error}") from None


def keys_of(given: Mapping[str, Any], where: str, card: Any) -> dict[str, Any]:
    """Return the keys of a card with values of the types of its fields.

    Parameters
    ----------
    given : mapping
        Keys, and values of TOML types.
    where : str
        Name of the model, for error messages.
    card : type
        Dataclass of the card.

    Raises
    ------
    ValueError
        If a key is unknown or has a value of another type; the message names the key and the model.
    """
    kinds = {one.name: one.type for one in fields(card)}
    for key, value in given.items():
        if key not in kinds or not isinstance(key, str):
            near = nearest(key, kinds)
            remedy = f"; write {line(near, value)}" if near and isinstance(value, int | float | str) else ""
            listed = f"uldnum.networks.{card.__name__} documents all keys{remedy}"
            raise unknown(f"card of {where}", key, kinds, listed, "key")
        if kinds[key] != "str" or not isinstance(value, int | float):  # TOML reads a name such as 7 as a number
            check_kind(f"card of {where}: {key}", value, str(kinds[key]))
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return values | {
        key: value if isinstance(value, str) else shown(value) for key, value in given.items() if kinds[key] == "str"
    }


def check_kind(name: str, value: Any, kind: str) -> None:
    """Raise an error unless a value has the type of its field in `Card`."""

    def number(value: Any, kinds: Any = (int, float)) -> bool:
        return isinstance(value, kinds) and not isinstance(value, bool)

    if kind == "str":
        fits, wanted = isinstance(value, str), "a string"
    elif kind == "float":
        fits, wanted = number(value), "a number"
    elif kind == "bool":
        fits, wanted = isinstance(value, bool), "true or false"
    elif kind.startswith("Mapping"):
        fits, wanted = isinstance(value, Mapping), "a table"
    elif kind == "tuple[int, ...]":
        fits = isinstance(value, list | tuple) and 0 < len(value) < 8 and all(number(v, int) and v > 0 for v in value)
        fits = fits and math.prod(value) <= LARGEST
        wanted = (
            f"channels, height and width, such as [3, 32, 32], or [d] for vectors, with a product of at most {LARGEST}"
        )
    else:
        fits = isinstance(value, list | tuple) and len(value) == 2 and all(map(number, value))
        fits = fits and -BRIGHTEST < value[0] < value[1] < BRIGHTEST
        wanted = f"two numbers, the smaller first, of magnitude below {BRIGHTEST:g}"
    if not fits:
        raise ValueError(f"{name}: must be {wanted}, got {shown(value)}")


def parse_value(text: str) -> Any:
    """Return the value of a string in TOML notation, or the string itself if it is not valid TOML.

    Parameters
    ----------
    text : str
        For example ``"0.5"``, ``"[3, 32, 32]"`` or ``"epsilon"``.

    Returns
    -------
    object
        A number, boolean, string, list or dict.

    Raises
    ------
    ValueError
        If the argument is not a string.

    Examples
    --------
    >>> from uldnum.networks import parse_value
    >>> parse_value("[3, 32, 32]"), parse_value("epsilon")
    ([3, 32, 32], 'epsilon')
    """
    if not isinstance(text, str):
        raise ValueError(f"text: must be a string, got {shown(text)}")
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text


def read_card(model: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the keys of a model's card, from its metadata and from the TOML file beside it.

    The TOML file takes precedence.

    Raises
    ------
    ValueError
        If the file is not valid TOML.
    """
    keys = {
        key.removeprefix("uldnum."): parse_value(text) for key, text in metadata.items() if key.startswith("uldnum.")
    }
    beside = model.with_suffix(".toml")
    return translated(keys) | translated(read_toml("card", beside) if beside.is_file() else {})

"""Cards: what one must know of a network to use it as a score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from uldnum._util.arguments import number, positive_number, shown
from uldnum._util.names import checked_name, checked_text, unknown
from uldnum._util.parsing import parse_toml, read_toml
from uldnum.arithmetic.elementary import log
from uldnum.networks.forms import CONDITIONS, NEEDS, PARAMETERISATIONS, SCALINGS, Form, alpha_and_sigma, form
from uldnum.plans.schedules import Schedule, schedule

__all__ = ["Card", "Level", "card_of", "checked_card", "parse_value", "read_card"]


@dataclass(frozen=True)
class Level:
    """A noise level of a network.

    Attributes
    ----------
    alpha, sigma : float
        Of z = alpha x + sigma eps.
    form : Form
        How the score follows from what the network answers.
    condition : float
        The number that tells the network the noise level.
    """

    alpha: float
    sigma: float
    form: Form
    condition: float


@dataclass(frozen=True)
class Card:
    """What is known of a network.

    A card is written as a TOML file beside the model, with the same stem, or as metadata of the model, whose keys are
    those below with ``uldnum.`` before them.

    Attributes
    ----------
    parameterisation : str
        What it answers: a name in `PARAMETERISATIONS`.
    scaling : str
        What it is fed with: "ve", "vp" or "edm".
    condition : str
        By which number it knows the noise level: a name in `CONDITIONS`.
    condition_scale : float
        ... multiplied with this.
    schedule : table
        Which noise level is which t: ``kind``, and what that kind takes (`uldnum.plans.schedules`).
    sigma_data : float
        Scale of the data, of the scaling "edm".
    sigma_min, sigma_max : float
        Noise levels for which it was made, where the schedule does not say.
    shape : list of int
        Channels, height and width, where the model leaves them open.
    image_input, condition_input, output : str
        Names in the model, where its inputs and outputs do not explain themselves.
    data_range : (float, float)
        Values that an image has: chains start about their middle, and clipping goes to them.
    sigma, h : float
        Noise level of a chain, and its step size in units of sigma, unless others are asked for.
    display : (float, float)
        Values that are drawn darkest and brightest; default: the range of the data.
    gamma, colours : float, str
        What is drawn is the value between darkest and brightest to the power gamma, of one channel in Matplotlib's
        colours of that name.
    name, source, licence, citation, unit, sha256 : str
        What it is called, where it comes from, what its authors say of its use, how it is cited, what one unit of an
        image means, and the hash of the model's file.
    """

    parameterisation: str
    scaling: str
    condition: str
    condition_scale: float = 1.0
    schedule: Mapping[str, Any] = field(default_factory=dict)
    sigma_data: float = 0.5
    sigma_min: float = 0.0
    sigma_max: float = math.inf
    shape: tuple[int, ...] = ()
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
        for key, names in (("parameterisation", PARAMETERISATIONS), ("scaling", SCALINGS), ("condition", CONDITIONS)):
            if getattr(self, key) not in names:
                raise ValueError(f"{key}: must be one of {', '.join(names)}, got {shown(getattr(self, key))}")
        needed = NEEDS.get(self.parameterisation, self.scaling)
        if self.scaling != needed:
            raise ValueError(
                f"scaling: parameterisation {self.parameterisation!r} needs {needed!r}, got {self.scaling!r}"
            )
        for key in ("condition_scale", "sigma_data", "sigma", "h", "gamma"):
            positive_number(key, getattr(self, key))
        if self.name:
            checked_name("name", self.name)
        for key in TEXTS:
            checked_text(key, getattr(self, key))
        if not 0 <= number("sigma_min", self.sigma_min) < number("sigma_max", self.sigma_max):
            raise ValueError(
                f"sigma_min: must lie between 0 and sigma_max = {self.sigma_max:g}, got {self.sigma_min:g}"
            )
        timed = self.condition in ("t", "timestep", "interpolated-timestep")
        if timed and not self.schedule:
            raise ValueError(f"schedule: condition {self.condition!r} needs one, to know which noise level is which t")
        if timed and self.condition != "t" and not self.times.discrete:
            raise ValueError(f"schedule: condition {self.condition!r} needs one with timesteps")

    @cached_property
    def times(self) -> Schedule:
        """The schedule."""
        return schedule(self.schedule)

    @property
    def limits(self) -> tuple[float, float]:
        """Smallest and largest sigma."""
        if not self.schedule:
            return self.sigma_min, min(self.sigma_max, 1.0 if self.scaling == "vp" else math.inf)
        low, high = (alpha_and_sigma(self.scaling, ratio)[1] for ratio in self.times.limits)
        return max(low, self.sigma_min), min(high, self.sigma_max)

    def ratio_of(self, name: str, value: float) -> float:
        """Return sigma/alpha of a noise level given as "sigma", "sigma-ratio" or "t", or raise."""
        if name == "t":
            if not self.schedule:
                raise ValueError("t: the network has no schedule; give sigma")
            if not (0 <= value <= self.times.end and self.times.ratio(value) > 0):
                raise ValueError(f"t: must lie between 0 and {self.times.end:g}, and where there is noise, got {value}")
            return float(self.times.ratio(value))
        if not 0 < value < math.inf:
            raise ValueError(f"{name}: must be positive and finite, got {value}")
        if name == "sigma" and self.scaling == "vp":
            if value >= 1:
                raise ValueError(f"sigma: must lie between 0 and 1 (alpha^2 + sigma^2 = 1), got {value}")
            return value / math.sqrt(1 - value * value)
        return value

    def level(self, sigma: float | None = None, ratio: float | None = None, t: float | None = None) -> Level:
        """Return a noise level by sigma, by sigma/alpha or by the schedule's t; by the card's own if none is given.

        Raises
        ------
        ValueError
            If more than one is given, it is no positive number, or the network was not made for it.
        """
        given = [(name, v) for name, v in (("sigma", sigma), ("sigma-ratio", ratio), ("t", t)) if v is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(name for name, _ in given)}: give one of them")
        ((name, value),) = [(name, number(name, v)) for name, v in given] or [("sigma", self.sigma)]
        found = self.ratio_of(name, value)
        (low, high), asked = self.limits, alpha_and_sigma(self.scaling, found)[1]
        if not low * (1 - 1e-9) <= asked <= high * (1 + 1e-9):
            who = self.name or "the network"
            raise ValueError(f"{name}: {who} was made for sigma from {low:.4g} to {high:.4g}, got sigma = {asked:.4g}")
        time = float(self.times.time(found)) if self.schedule else 0.0
        if self.condition == "timestep":
            time = float(round(time))
            found = float(self.times.ratio(time))
        alpha, there = alpha_and_sigma(self.scaling, found)
        sigma = value if name == "sigma" and self.condition != "timestep" else there  # as given, to the last bit
        told = {"sigma": sigma, "log-sigma": float(log(sigma))}.get(self.condition, time)
        numbers = form(self.parameterisation, self.scaling, alpha, sigma, self.sigma_data)
        return Level(alpha, sigma, numbers, self.condition_scale * told)


REQUIRED = ("parameterisation", "scaling", "condition")

# Keys that are shown to people, or looked up in a model.
TEXTS = tuple(one.name for one in fields(Card) if one.type == "str")

# Values of an image, at most: 2048 x 2048 pixels of four channels.
LARGEST = 2**24

# Magnitude of the values of images, at most: their squares are finite in float32.
BRIGHTEST = 1e15


def checked_card(card: Any) -> dict[str, Any]:
    """Return the keys of a card that was given as an argument, or raise if it is no mapping."""
    if not (card is None or isinstance(card, Mapping)):
        raise ValueError(f"card: must be a mapping of keys and values, got {shown(card)}")
    return dict(card or {})


def card_of(given: Mapping[str, Any], where: str) -> Card:
    """Return a card from its keys, or raise an error that says which key is wrong, and where.

    Parameters
    ----------
    given : mapping
        Keys and values, as TOML has them.
    where : str
        What the card belongs to, for the errors.
    """
    kinds = {one.name: one.type for one in fields(Card)}
    for key, value in given.items():
        if key not in kinds or not isinstance(key, str):
            raise unknown(f"card of {where}", key, kinds, "uldnum.networks.Card describes all keys")
        if kinds[key] != "str" or not isinstance(value, int | float):  # a name may be a number
            check_kind(f"card of {where}: {key}", value, str(kinds[key]))
    missing = [key for key in REQUIRED if key not in given]
    if missing:
        choices: tuple[Mapping[str, Any], ...] = (PARAMETERISATIONS, SCALINGS, CONDITIONS)
        names = [f"{key} ({', '.join(c)})" for key, c in zip(REQUIRED, choices, strict=True) if key in missing]
        raise ValueError(
            f"card of {where}: it does not say {' and '.join(names)}; write a card beside the model, or give "
            f"--set {missing[0]}=... (in Python card={{'{missing[0]}': ...}})"
        )
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    values |= {
        key: value if isinstance(value, str) else shown(value) for key, value in given.items() if kinds[key] == "str"
    }
    try:
        return Card(**values)
    except ValueError as error:
        raise ValueError(f"card of {where}: {error}") from None


def check_kind(name: str, value: Any, kind: str) -> None:
    """Raise unless a value is of the kind that a field of a card has."""

    def number(value: Any, kinds: Any = (int, float)) -> bool:
        return isinstance(value, kinds) and not isinstance(value, bool)

    if kind == "str":
        fits, wanted = isinstance(value, str), "a text"
    elif kind == "float":
        fits, wanted = number(value), "a number"
    elif kind.startswith("Mapping"):
        fits, wanted = isinstance(value, Mapping), "a table"
    elif kind == "tuple[int, ...]":
        fits = isinstance(value, list | tuple) and len(value) == 3 and all(number(v, int) and v > 0 for v in value)
        fits = fits and math.prod(value) <= LARGEST
        wanted = f"channels, height and width, such as [3, 32, 32], with a product of at most {LARGEST}"
    else:
        fits = isinstance(value, list | tuple) and len(value) == 2 and all(map(number, value))
        fits = fits and -BRIGHTEST < value[0] < value[1] < BRIGHTEST
        wanted = f"two numbers, the smaller first, of magnitude below {BRIGHTEST:g}"
    if not fits:
        raise ValueError(f"{name}: must be {wanted}, got {shown(value)}")


def parse_value(text: str) -> Any:
    """Return a value in TOML's notation; what is none is a text."""
    if not isinstance(text, str):
        raise ValueError(f"text: must be a string, got {shown(text)}")
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text


def read_card(model: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the keys of the card of a model: its metadata, and over them the TOML file beside it.

    Raises
    ------
    ValueError
        If the file is not TOML.
    """
    keys = {
        key.removeprefix("uldnum."): parse_value(text) for key, text in metadata.items() if key.startswith("uldnum.")
    }
    beside = model.with_suffix(".toml")
    if not beside.is_file():
        return keys
    return keys | read_toml("card", beside)

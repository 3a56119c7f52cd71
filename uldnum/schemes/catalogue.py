"""The catalogue: every integrator is a recipe from a step size and a friction to a table of stages.

The underdamped Langevin equation is ``dx = p dt, dp = s(x) dt - gamma p dt + sqrt(2 gamma) dW`` (unit mass and
temperature, s the gradient of the log density); the overdamped one, in its own time, ``dx = s dt + sqrt(2) dW``. A step
``h`` of the former corresponds to ``delta = h^2/2`` of the latter: ULA is ``x + (h^2/2) s + h xi``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from uldnum._util.arguments import broadcast, function, non_negative, number, positive, shown, step_size
from uldnum._util.names import NAME, checked_name, checked_text, digest, split_name, unknown
from uldnum._util.typing import Array, ArrayLike
from uldnum.schemes.stage import Affine, Step, first_row, table
from uldnum.schemes.words import LETTERS, compile_word, frozen_score, validate_word, weak_order

__all__ = ["CatalogueEntry", "Integrator", "integrator", "integrators", "splitting"]

Recipe = Callable[[Array, Array], Step]
Order = tuple[float | None, float | None]

# Letters of a splitting word, at most: none that is in use has twenty.
LONGEST = 100

LEIMKUHLER = "Leimkuhler & Matthews 2013, Appl. Math. Res. Express 2013:34"
JAIN = "Jain & Poole 2022, Journey to the BAOAB-limit"
CHADA = "Chada, Leimkuhler, Paulin & Whalley 2023, Unbiased kinetic Langevin Monte Carlo with inexact gradients"
SHETTY = "Shetty, Bandla, Neema, Asokan & Seelamantula 2024, Momentum-imbued Langevin dynamics (MILD)"
CHENG = "Cheng, Chatterji, Bartlett & Jordan 2018, Underdamped Langevin MCMC"


@dataclass(frozen=True)
class Integrator:
    """A method of sampling, as data.

    Parameters
    ----------
    name : str
        What it is called in output.
    recipe : callable
        ``recipe(h, friction) -> Step`` with float64 arrays h and friction of one shape; the tables carry that shape as
        leading axes.
    order : (weak, stationary)
        Orders in powers of h: of the law after a fixed time, and of the bias of the stationary law of x. None: unknown.
    source : str
        Where the method is defined.
    memory : float
        Standard deviation of the second row at the start of a run: 1 for momenta and remembered normals.
    momenta : bool
        Whether the second row holds momenta, with which a run of another such integrator can go on.
    """

    name: str
    recipe: Recipe
    order: Order = (None, None)
    source: str = "user"
    memory: float = 1.0
    momenta: bool = False

    def __post_init__(self) -> None:
        checked_name("name", self.name)
        function("recipe", self.recipe)
        checked_text("source", self.source)
        non_negative("memory", self.memory)
        if not isinstance(self.order, tuple) or len(self.order) != 2:
            raise ValueError(f"order: must be two numbers or None, got {shown(self.order)}")

    def stages(self, h: ArrayLike | None = None, *, delta: ArrayLike | None = None, friction: ArrayLike = 1.0) -> Step:
        """Return the coefficient tables of one time step.

        Parameters
        ----------
        h : float or array
            Step size, in units of time.
        delta : float or array
            The step size as ``h^2/2``, in units of overdamped time, instead.
        friction : float or array
            Friction, in units of 1/time; it broadcasts against the step size. Overdamped schemes ignore it.

        Returns
        -------
        Step
            Tables in float64, whose leading axes are the broadcast shape.

        Raises
        ------
        ValueError
            If a step size or friction is not positive and finite, their shapes do not broadcast, or both or neither of
            h and delta are given.
        """
        size, gamma = broadcast(h=step_size(h, delta), friction=positive("friction", friction))
        with np.errstate(over="ignore", invalid="ignore"):  # of steps so large, chains diverge at once
            step = self.recipe(size, gamma)
        step.check(self.name, size.shape)
        return step

    @cached_property
    def unit(self) -> Step:
        """Tables of a step of size 1 at friction 1: how the scheme is built, at any step size."""
        return self.stages(1.0)

    @property
    def nfe_per_step(self) -> int:
        """Score evaluations per time step."""
        return len(self.unit.stages)

    @property
    def rows(self) -> int:
        """Rows that a chain remembers: 1 for the position alone, 2 with a momentum or a remembered normal."""
        return self.unit.rows


# ---------------------------------------------------------------------------------------------------------- recipes


def ula(h: Array, friction: Array) -> Step:
    """x' = x + delta s + sqrt(2 delta) xi."""
    map = Affine(table(h, [[0]]), table(h, [np.square(h) / 2]), table(h, [[h]]))
    return Step.on_step(first_row(map.b), map)


def noise_denoise(h: Array, friction: Array, eta: float) -> Step:
    """x' = x + eta sigma^2 s + (eta - 1) sigma p + sigma xi, p' = xi, sigma = h/2.

    Jain & Poole 2022, eq. 3, written for the noised variable: their x_i is our ``x - sigma p``. eta = 2 is their
    eq. 10, the limit of BAOAB for infinite friction.
    """
    sigma = h / 2
    map = Affine(
        table(h, [[0, (eta - 1) * sigma], [0, -1]]), table(h, [eta * np.square(sigma), 0]), table(h, [[sigma], [1]])
    )
    return Step.on_step(first_row(map.b), map)


def mild(h: Array, friction: Array, momentum: float) -> Step:
    """y = x + beta v, v' = beta v + delta s(y), x' = x + v' + sqrt(2 delta) xi; row 1 holds v."""
    delta, beta = np.square(h) / 2, momentum
    map = Affine(table(h, [[0, beta], [0, beta - 1]]), table(h, [delta, delta]), table(h, [[h], [0]]))
    return Step.on_step(table(h, [1, beta]), map)


def euler_maruyama(h: Array, friction: Array) -> Step:
    """x' = x + h p, p' = p + h s - gamma h p + sqrt(2 gamma h) xi."""
    map = Affine(table(h, [[0, h], [0, -friction * h]]), table(h, [0, h]), table(h, [[0], [np.sqrt(2 * friction * h)]]))
    return Step.on_step(first_row(map.b), map)


def exponential_euler(h: Array, friction: Array) -> Step:
    """Exact over the step with the score frozen at its start."""
    map = frozen_score(h, friction)
    return Step.on_step(first_row(map.b), map)


# -------------------------------------------------------------------------------------------------------- catalogue


@dataclass(frozen=True)
class Parameter:
    """The one number that an entry of the catalogue may take, with its domain in words and as a check."""

    name: str
    domain: str
    valid: Callable[[float], bool]


@dataclass(frozen=True)
class CatalogueEntry:
    """A line of the catalogue: an integrator, or a family of them with one parameter.

    Parameters
    ----------
    name : str
        Name without the parameter.
    recipe : callable
        As in `Integrator`; with a parameter, it takes that as a further keyword.
    order : (weak, stationary)
        As in `Integrator`, for the generic value of the parameter.
    source : str
        Where the method is defined.
    memory, momenta
        As in `Integrator`.
    parameter : Parameter, optional
        What the entry takes.
    """

    name: str
    recipe: Callable[..., Step]
    order: Order
    source: str
    memory: float = 1.0
    momenta: bool = False
    parameter: Parameter | None = None

    @property
    def signature(self) -> str:
        """How the entry is written, e.g. ``mild(momentum)``."""
        return f"{self.name}({self.parameter.name})" if self.parameter else self.name

    def build(self, *values: float, **named: float) -> Integrator:
        """Return the integrator, given its parameter by position or by name."""
        if self.parameter is None:
            if values or named:
                got = f", got {', '.join(named)}" if named else ""
                raise ValueError(f"integrator: {self.name!r} takes no parameter{got}")
            return Integrator(self.name, self.recipe, self.order, self.source, self.memory, self.momenta)
        given = [*values, *named.values()]
        if len(given) != 1 or not set(named) <= {self.parameter.name}:
            raise ValueError(
                f"integrator: {self.name!r} takes one parameter, {self.parameter.domain}; "
                f"write '{self.signature}' with a number, or integrator({self.name!r}, {self.parameter.name}=...)"
            )
        value = number(self.parameter.name, given[0])
        if not self.parameter.valid(value):
            raise ValueError(f"{self.parameter.name}: {self.name} needs {self.parameter.domain}, got {value:g}")
        recipe = partial(self.recipe, **{self.parameter.name: value})
        return Integrator(f"{self.name}({value:g})", recipe, self.order, self.source, self.memory, self.momenta)


def splitting(word: str, fractions: Sequence[float] | None = None) -> Integrator:
    """Return the integrator of a splitting word.

    Parameters
    ----------
    word : str
        Letters A, B, O, U in the order of time (see `uldnum.schemes.words`); case is ignored.
    fractions : sequence of float, optional
        How much of the time step each letter lasts; those of equal letters sum to 1, and those of O and U are positive.
        Default: equal shares.

    Returns
    -------
    Integrator
        Named after the word and its fractions. Without fractions a word of the catalogue has the order and the source
        stated there; of any other the weak order follows from its conditions (`uldnum.schemes.words.weak_order`),
        and the stationary one is None, unknown.

    Raises
    ------
    ValueError
        If the word or the fractions are broken; the message names the fault.

    Warns
    -----
    UserWarning
        If the word has neither O nor U: no noise, no thermostat.
    """
    if not isinstance(word, str):
        raise ValueError(f"word: must be a string of the letters A, B, O, U, got {shown(word)}")
    if len(word) > LONGEST:
        raise ValueError(f"word: must have at most {LONGEST} letters, got {len(word)}")
    word = word.upper()
    shares = validate_word(word, fractions)
    entry = BY_NAME.get(word.lower()) if fractions is None else None
    order, source = (entry.order, entry.source) if entry else ((weak_order(word, shares), None), "splitting word")
    name = word if fractions is None else f"{word}[{','.join(f'{share:g}' for share in shares)}]"
    if len(name) > NAME:
        name = f"{word}[{digest(np.array(shares))}]"
    return Integrator(name, partial(compile_word, word, shares), order, source, momenta=True)


def word_entry(word: str, order: Order, source: str) -> CatalogueEntry:
    """Return the catalogue's line for a well-known splitting word."""
    return CatalogueEntry(word, partial(compile_word, word, validate_word(word)), order, source, momenta=True)


ENTRIES = (
    CatalogueEntry("ula", ula, (2, 2), f"overdamped Langevin, Euler-Maruyama: {JAIN}, eq. 5"),
    CatalogueEntry("baoab-limit", partial(noise_denoise, eta=2.0), (2, 4), f"{LEIMKUHLER}; {JAIN}, eq. 10"),
    CatalogueEntry(
        "noise-denoise",
        noise_denoise,
        (0, 0),  # at fixed eta it follows no Langevin equation in the time of h; eta = 2 is baoab-limit
        f"{JAIN}, eq. 3",
        parameter=Parameter("eta", "0 < eta < inf", lambda eta: 0 < eta < np.inf),
    ),
    CatalogueEntry(
        "mild",
        mild,
        (0, 0),  # at fixed momentum its time runs faster and its temperature is lower
        f"{SHETTY}, Algorithm 1",
        memory=0.0,  # the algorithm starts at rest
        parameter=Parameter("momentum", "0 <= momentum < 1", lambda momentum: 0 <= momentum < 1),
    ),
    word_entry("BAOAB", (2, 2), LEIMKUHLER),
    word_entry("BAOA", (1, 2), f"{JAIN}, eq. 9"),
    word_entry("OBABO", (2, 2), "Bussi & Parrinello 2007, Phys. Rev. E 75, 056707"),
    word_entry("ABOBA", (2, 2), LEIMKUHLER),
    word_entry("OABAO", (2, 2), LEIMKUHLER),
    word_entry("UBU", (2, 2), f"Sanz-Serna & Zygalakis 2021, J. Mach. Learn. Res. 22:242; {CHADA}"),
    word_entry("BUB", (2, 2), CHADA),
    CatalogueEntry(
        "euler-maruyama", euler_maruyama, (1, 1), "textbook: Euler-Maruyama for the underdamped equation", momenta=True
    ),
    CatalogueEntry("exponential-euler", exponential_euler, (1, 1), CHENG, momenta=True),
)
BY_NAME = {entry.name.lower(): entry for entry in ENTRIES}


def integrators() -> tuple[CatalogueEntry, ...]:
    """Return the catalogue. Beyond it, any splitting word is the name of an integrator."""
    return ENTRIES


def integrator(name: str | Integrator, **parameters: float) -> Integrator:
    """Return an integrator by name.

    Parameters
    ----------
    name : str
        An entry of the catalogue (`integrators`), with its parameter in brackets where it takes one (``"mild(0.5)"``),
        or any splitting word (``"BAOAB"``). Case is ignored. An `Integrator` is returned as it is.
    **parameters : float
        The parameter by name instead: ``integrator("mild", momentum=0.5)``.

    Returns
    -------
    Integrator
        Its name holds the parameter.

    Raises
    ------
    ValueError
        If there is no such integrator (the message offers the nearest), its parameter is missing or out of range, or
        one is given that it does not take.

    Warns
    -----
    UserWarning
        If a splitting word has neither O nor U: no noise, no thermostat.
    """
    if isinstance(name, Integrator):
        if parameters:
            raise ValueError(f"integrator: {name.name!r} is built already, it takes no {', '.join(parameters)}")
        return name
    if not isinstance(name, str):
        raise ValueError(f"integrator: must be a name or an Integrator, got {shown(name)}")
    stem, argument = split_name(name)
    if stem.lower() in BY_NAME:
        return BY_NAME[stem.lower()].build(*read_numbers(name, argument), **parameters)
    if stem and set(stem.upper()) <= set(LETTERS) and argument is None:
        if parameters:
            raise ValueError(f"integrator: the word {shown(stem)} takes no parameter, got {', '.join(parameters)}")
        return splitting(stem)
    raise unknown("integrator", name, [entry.signature for entry in ENTRIES])


def read_numbers(name: str, argument: str | None) -> list[float]:
    """Read what stands between the brackets of a name."""
    if argument is None:
        return []
    try:
        return [float(part) for part in argument.split(",")]
    except ValueError:
        raise ValueError(f"integrator: {shown(name)}: {shown(argument)} is not a number") from None

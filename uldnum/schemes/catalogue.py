"""Catalogue of Langevin integrators. Each is a recipe that computes coefficient tables from step size and friction.

The mass is 1, recipes are written for temperature 1, and the score s is the gradient of the log density. The
underdamped Langevin equation is ``dx = p dt, dp = s(x) dt - gamma p dt + sqrt(2 gamma) dW``. The overdamped equation,
with its own unit of time, is ``dx = s(x) dt + sqrt(2) dW``. A step ``h`` of the underdamped equation corresponds to a
step ``delta = h^2/2`` of the overdamped equation: ULA is ``x' = x + (h^2/2) s + h xi``. At temperature T, all noise is
multiplied by sqrt(T). With score noise tau, every evaluation returns ``s + tau zeta``, where the standard normals zeta
are independent for each evaluation.
"""

from __future__ import annotations

import inspect
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from uldnum._util.arguments import (
    broadcast,
    function,
    non_negative,
    number,
    number_between,
    positive,
    reals,
    shown,
    step_size,
)
from uldnum._util.names import NAME, UnknownNameError, checked_name, checked_text, digest, split_name, unknown
from uldnum._util.summary import Described, Summary, counted
from uldnum._util.typing import Array, ArrayLike
from uldnum.schemes.braces import BRACES, check_fractions, compile_braces, described_braces, hmc, letters_of, parts_of
from uldnum.schemes.controlled import PIDLD
from uldnum.schemes.molecular import brunger_brooks_karplus, ciccotti_21, ciccotti_23, gronbech_jensen
from uldnum.schemes.predictors import PREDICTORS
from uldnum.schemes.runge_kutta import align, quicsort, should, srk
from uldnum.schemes.stage import Affine, Step, first_row, table
from uldnum.schemes.words import (
    ALPHABET,
    LETTERS,
    compile_word,
    described,
    frozen_score,
    spelled,
    validate_word,
    weak_order,
)

__all__ = [
    "CatalogueEntry",
    "Integrator",
    "common_score_noise",
    "conditions",
    "integrator",
    "integrators",
    "splitting",
    "unknown_integrator",
]

Recipe = Callable[[Array, Array], Step]
Order = tuple[float | None, float | None]

# Temperatures are between 1/LARGEST and LARGEST, and score noise is at most LARGEST. Variances on Gaussians are then in
# the range of float64.
LARGEST = 1e50

# Number of characters of a line of the update in a summary.
WIDTH = 90

# Largest number of letters of a splitting word. Words in the literature have fewer than twenty.
LONGEST = 100

LEIMKUHLER = "Leimkuhler & Matthews 2013, Appl. Math. Res. Express 2013:34"
JAIN = "Jain & Poole 2022, Journey to the BAOAB-limit"
CHADA = "Chada, Leimkuhler, Paulin & Whalley 2023, Unbiased kinetic Langevin Monte Carlo with inexact gradients"
SHETTY = "Shetty, Bandla, Neema, Asokan & Seelamantula 2024, Momentum-imbued Langevin dynamics (MILD)"
FOSTER = "Foster, Lyons & Oberhauser 2021, The shifted ODE method for underdamped Langevin MCMC"
SCOTT = "Scott, O'Kane, Jelincic & Foster 2025, Underdamped Langevin MCMC with third order convergence"
MELCHIONNA = "Melchionna 2007, J. Chem. Phys. 127, 044108"
CICCOTTI = "Vanden-Eijnden & Ciccotti 2006, Chem. Phys. Lett. 429, 310"
GRONBECH_JENSEN = "Gronbech-Jensen 2020, Mol. Phys. 118, e1662506"
BCSS = "Blanes, Casas & Sanz-Serna 2014, SIAM J. Sci. Comput. 36, A1556"
CHENG = "Cheng, Chatterji, Bartlett & Jordan 2018, Underdamped Langevin MCMC"
ROBERTS = "Metropolis-adjusted Langevin algorithm: Roberts & Tweedie 1996, Bernoulli 2, 341"
DUANE = "hybrid (Hamiltonian) Monte Carlo: Duane, Kennedy, Pendleton & Roweth 1987, Phys. Lett. B 195, 216"
HOROWITZ = "generalised hybrid Monte Carlo: Horowitz 1991, Phys. Lett. B 268, 247"


# Fractions of the first kick, and of the first drift, of the compositions with the smallest error of their energies.
TWO = (3 - math.sqrt(3)) / 6
THREE = 0.11888010966548, 0.29619504261126


def summary_of(name: str, recipe: Recipe, order: Order, source: str) -> Summary:
    """Return the summary of a method."""
    weak, stationary = ("unknown" if one is None else shown(one) for one in order)
    orders = f"{weak} for expectations after a fixed time, {stationary} for the stationary distribution of x"
    lines = textwrap.wrap(update_of(recipe), WIDTH)
    update = list(zip(("update", *[""] * len(lines)), lines, strict=False))
    return Summary(f"Integrator {name}", [], [*update, ("order in h", orders), ("source", source)])


def update_of(recipe: Recipe) -> str:
    """Return the update of a recipe in words: the flows of a splitting word, or the docstring of a function."""
    function, arguments = (recipe.func, recipe.args) if isinstance(recipe, partial) else (recipe, ())
    if function is compile_word:
        return described(*arguments)
    if function is compile_braces:
        return f"{arguments[0]} {described_braces(arguments[0])}"
    text = " ".join((inspect.getdoc(function) or "").replace("``", "").split())
    given = recipe.keywords if isinstance(recipe, partial) else {}
    return text.removeprefix("Return ") + "".join(f" Here {name} = {plain(value)}." for name, value in given.items())


def plain(value: Any) -> str:
    """Return a parameter of a recipe as text: a number without a decimal point if it is whole."""
    return f"{value:g}" if isinstance(value, float) else f"{value}"


def conditions(temperature: float, score_noise: Any, mass: Any = 1.0) -> str:
    """Return temperature, score noise and mass as text after the name of an integrator. Defaults are omitted.

    The score noise is a number or a vector. The mass is a number, or has the shape of a vector or a matrix.
    """
    heat = "" if temperature == 1 else f" at temperature {temperature:g}"
    if np.ndim(score_noise):
        heat += " with a score noise vector"
    else:
        heat += "" if score_noise == 0 else f" with score noise {score_noise:g}"
    if np.ndim(mass):
        return f"{heat} with a mass {'vector' if np.ndim(mass) == 1 else 'matrix'}"
    return heat if mass == 1 else f"{heat} with mass {mass:g}"


def checked_score_noise(value: Any) -> float | tuple[float, ...]:
    """Return the standard deviation of the error of a score, or raise.

    The result is a tuple if the coordinates have different standard deviations.
    """
    found = np.asarray(reals("score_noise", value, "a number or one number for each coordinate"), dtype=float)
    if found.ndim > 1 or not found.size:
        raise ValueError(f"score_noise: must be a number or have shape (d,), got shape {found.shape}")
    taus = tuple(number_between("score_noise", tau, 0.0, LARGEST) for tau in np.atleast_1d(found))
    return taus if len(set(taus)) > 1 else taus[0]


def common_score_noise(value: Any) -> float:
    """Return the standard deviation of the error of a score if it is the same for all coordinates, or raise."""
    wanted = "one number for all coordinates, or in uldnum.plan a function of alpha and sigma"
    return number_between("score_noise", number("score_noise", value, wanted), 0.0, LARGEST)


@dataclass(frozen=True, repr=False)
class Integrator(Described):
    """A sampling method, defined by a recipe for its coefficient tables.

    `uldnum.integrator` and `uldnum.splitting` return the integrators of the catalogue. Construct this class directly to
    define a new one.

    Parameters
    ----------
    name : str
        Name in output and in stored results.
    recipe : callable
        ``recipe(h, friction) -> Step``. Both arguments are float64 arrays of the same shape. The tables of the returned
        `uldnum.schemes.stage.Step` have that shape as leading axes.
    order : tuple of (float or None), default (None, None)
        The weak order and the stationary order, both in powers of h. The weak order is that of the error of
        expectations after a fixed time. The stationary order is that of the bias of the stationary distribution of x.
        None means unknown.
    source : str, default "user"
        Reference that defines the method.
    memory : float, default 1.0
        Standard deviation of the second row of the state at the start of a run, at temperature 1. It is 1 for momenta
        and for stored normals.
    momenta : bool, default False
        Whether the second row holds momenta. If it does, a run of another integrator with momenta can start from the
        final momenta of a run of this one (``x0=run``).
    temperature : float, default 1.0
        Temperature T. All noise of the tables, and the second row at the start of a run, are multiplied by sqrt(T).
    score_noise : float or array_like of shape (d,), default 0.0
        Standard deviation tau of the error of each score evaluation, in the unit of the score: one for all coordinates,
        or one for each coordinate. The attribute is a tuple if they differ, else a float.

    Raises
    ------
    ValueError
        If an argument has the wrong type, if memory is negative or not finite, if the temperature is not between 1e-50
        and 1e50, or if the score noise is not between 0 and 1e50.

    Notes
    -----
    A step must be affine in the state, the score and independent normals, with coefficients that depend only on the
    step size and the friction. It may contain a Metropolis test (`uldnum.schemes.stage.Step.metropolis`). Steps whose
    coefficients are random or depend on the state, such as clipping and randomised midpoints, cannot be integrators.
    `uldnum.plan` has step sizes that adapt to the score.

    Orders are powers of h. ULA is of order 1 in its own time step ``delta = h^2/2``, and therefore of order 2 in h. A
    step with a Metropolis test has the stationary order inf, because its stationary distribution is exact.

    Examples
    --------
    Define the Euler-Maruyama scheme of the overdamped equation with twice the time step:

    >>> import uldnum
    >>> from uldnum.schemes.stage import Affine, Step, first_row, table
    >>> def recipe(h, friction):
    ...     map = Affine(dA=table(h, [[0]]), b=table(h, [h**2]), C=table(h, [[2**0.5 * h]]))
    ...     return Step.on_step(first_row(map.b), map)
    >>> scheme = uldnum.Integrator("ula-doubled", recipe, order=(2, 2))
    >>> scheme.stages(0.5).stages[0].map.b.tolist()
    [0.25]
    >>> scheme
    Integrator ula-doubled
      order in h  2 for expectations after a fixed time, 2 for the stationary distribution of x
      source      user
      one step    1 score evaluation, 1 row, 1 normal
    """

    name: str
    recipe: Recipe
    order: Order = (None, None)
    source: str = "user"
    memory: float = 1.0
    momenta: bool = False
    temperature: float = 1.0
    score_noise: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        checked_name("name", self.name)
        function("recipe", self.recipe)
        checked_text("source", self.source)
        non_negative("memory", self.memory)
        number_between("temperature", self.temperature, 1 / LARGEST, LARGEST)
        object.__setattr__(self, "score_noise", checked_score_noise(self.score_noise))
        if not isinstance(self.order, tuple) or len(self.order) != 2:
            raise ValueError(f"order: must be a tuple of two items, numbers or None, got {shown(self.order)}")

    def at(self, *, temperature: float | None = None, score_noise: ArrayLike | None = None) -> Integrator:
        """Return this integrator at another temperature, or with a noisy score.

        Every function that accepts an integrator accepts the result. The arguments ``temperature`` and ``score_noise``
        of functions such as `uldnum.sample` call this method.

        Parameters
        ----------
        temperature : float, optional
            Temperature T. The default is that of this integrator, which is 1 in the catalogue.
        score_noise : float or array_like of shape (d,), optional
            Standard deviation tau of the error of the score, one for all coordinates or one for each coordinate. The
            default is that of this integrator, which is 0 in the catalogue.

        Returns
        -------
        Integrator
            The integrator, with the same name.

        Raises
        ------
        ValueError
            If the temperature is not between 1e-50 and 1e50, or the score noise is not between 0 and 1e50.

        Notes
        -----
        All noise of a scheme and its initial momenta are multiplied by sqrt(T), and the score is not scaled. The
        underdamped Langevin equation becomes ``dp = s dt - gamma p dt + sqrt(2 gamma T) dW``, whose stationary
        distribution is ``density^(1/T)`` with momenta of variance T.

        A scheme at temperature T with step size h and friction gamma on a target equals the scheme at temperature 1
        with step size ``sqrt(T) h`` and friction ``gamma/sqrt(T)`` on ``density^(1/T)``, with momenta divided by
        sqrt(T).

        With score noise, an integrator uses ``s + tau zeta`` instead of s, as stochastic gradients do. The standard
        normals zeta are independent for each coordinate and each evaluation. Two kicks that share an evaluation, such
        as the last one of a step of BAOAB and the first one of the next step, share its zeta. The temperature does not
        scale this noise.

        Examples
        --------
        On a Gaussian, every covariance is multiplied by the temperature:

        >>> import uldnum
        >>> hot = uldnum.integrator("OBABO").at(temperature=3.0)
        >>> round(float(uldnum.exact.gaussian(hot, h=1.0).position_covariance), 6)
        4.0

        On N(0, 1), the variance of ULA with a noisy score is ``(1 + delta tau^2/2)/(1 - delta/2)``:

        >>> noisy = uldnum.integrator("ula").at(score_noise=1.0)
        >>> round(float(uldnum.exact.gaussian(noisy, h=1.0).position_covariance), 6)
        1.666667
        """
        kept = self.temperature if temperature is None else number("temperature", temperature)
        noise: Any = self.score_noise if score_noise is None else score_noise
        return replace(self, temperature=kept, score_noise=noise)

    def at_half_step(self) -> Integrator:
        """Return this splitting scheme with time steps that end after the last A of its word.

        The momenta at the end of these steps are the half-step momenta: those with which the last A moves the
        positions. The positions are those at the end of the steps of the word itself, because only B and O follow.

        Returns
        -------
        Integrator
            The scheme of the rotated word, at the same temperature and score noise. It is this integrator if its word
            ends with A.

        Raises
        ------
        ValueError
            If the integrator is not a splitting word, or if its word has no A.

        Notes
        -----
        Consecutive steps repeat a word, so a word describes the same chain wherever its steps begin. The half-step
        momenta of BAOAB are those between its two A, after O. They are the momenta of BAOA, the word of OpenMM's
        LangevinMiddleIntegrator (Zhang et al. 2019, J. Phys. Chem. A 123, 6056), on its step. In OBABO they are the
        momenta between its two B.

        Examples
        --------
        >>> import uldnum
        >>> uldnum.integrator("BAOAB").at_half_step().name
        'BBAOA'
        """
        word, shares = self.word
        if "A" not in word:
            raise ValueError(f"integrator: must be a splitting word with an A to have a half step, got {self.name!r}")
        end = word.rindex("A") + 1
        if end == len(word):
            return self
        rotated, own = word[end:] + word[:end], shares[end:] + shares[:end]
        equal = own == tuple(1 / word.count(letter) for letter in rotated)
        return splitting(rotated, None if equal else own).at(temperature=self.temperature, score_noise=self.score_noise)

    @property
    def word(self) -> tuple[str, tuple[float, ...]]:
        """Letters of a splitting word without braces, and their fractions of the time step; empty for other recipes."""
        recipe = self.recipe
        return recipe.args if isinstance(recipe, partial) and recipe.func is compile_word else ("", ())

    @property
    def label(self) -> str:
        """Name, temperature and score noise, for output."""
        return self.name + conditions(self.temperature, self.score_noise)

    @property
    def errors(self) -> tuple[float, ...]:
        """Score noise of each coordinate if the coordinates have different score noise, else an empty tuple."""
        return self.score_noise if isinstance(self.score_noise, tuple) else ()

    def check_errors(self, shape: tuple[int, ...]) -> None:
        """Raise unless the score noise is one number, or one number for each coordinate of samples of a shape."""
        if self.errors and shape != (len(self.errors),):
            wanted = f"a number or have shape {shape}" if len(shape) == 1 else "one number for all coordinates"
            raise ValueError(f"score_noise: must be {wanted}, got shape ({len(self.errors)},)")

    @property
    def start_deviation(self) -> float:
        """Standard deviation of the second row of the state at the start of a run."""
        return float(np.sqrt(self.temperature)) * self.memory

    def adjusted(self, step: Step, h: Array) -> Step:
        """Return a step of the recipe, of size h, at the temperature and with the score noise of this integrator.

        The entries of ``step`` and ``h`` are float64, or numbers with fifty digits where exact answers need them. If
        the coordinates have different score noise, the step contains only the normals for the errors, and the kernel
        scales them for each coordinate (`Step.with_normals_for_errors`).
        """
        if step.metropolised and self.score_noise:
            raise ValueError(
                f"score_noise: must be 0 for {self.name!r}, because a Metropolis test needs the exact score and density"
            )
        own = step.at_temperature(self.temperature + 0 * h)
        if self.errors:
            return own.with_normals_for_errors()
        return own.with_score_noise(np.full(h.shape, self.score_noise))

    def stages(self, h: ArrayLike | None = None, *, delta: ArrayLike | None = None, friction: ArrayLike = 1.0) -> Step:
        """Return the coefficient tables of one time step.

        Give exactly one of ``h`` and ``delta``.

        Parameters
        ----------
        h : float or array, optional
            Step size, in units of time.
        delta : float or array, optional
            Step size as ``delta = h^2/2``, in units of time of overdamped Langevin dynamics.
        friction : float or array, default 1.0
            Friction gamma, in units of 1/time. It broadcasts against the step size. Overdamped schemes ignore it.

        Returns
        -------
        Step
            Tables in float64. Their leading axes are the broadcast shape of step size and friction.

        Raises
        ------
        ValueError
            If a step size or friction is not positive and finite, if their shapes do not broadcast, or if both or
            neither of h and delta are given.

        Examples
        --------
        >>> import uldnum
        >>> (stage,) = uldnum.integrator("ula").stages(0.5).stages
        >>> stage.map.b.tolist(), stage.map.C.tolist()
        ([0.125], [[0.5]])
        """
        size, gamma = broadcast(h=step_size(h, delta), friction=positive("friction", friction))
        # The tables of extremely large steps may overflow. Chains then diverge in the first step.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            step = self.recipe(size, gamma)
        if not isinstance(step, Step):
            raise ValueError(
                f"recipe: must return a uldnum.schemes.stage.Step, such as Step.on_step(first_row(map.b), map), got "
                f"{shown(step)} for {self.name!r}{'; does the function return its result?' if step is None else ''}"
            )
        step.check(self.name, size.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            return self.adjusted(step, size)

    @property
    def summary(self) -> Summary:
        """Update, orders, source, and the cost of a step."""
        found = summary_of(self.name, self.recipe, self.order, self.source)
        try:
            parts = {"score evaluation": self.nfe_per_step, "row": self.rows, "normal": self.normals_per_step}
            size = ", ".join(counted(count, name) for name, count in parts.items())
        except Exception as error:  # a user-defined recipe may raise any exception
            size = f"the recipe failed with {type(error).__name__}"
        usual = {"temperature": 1.0, "score_noise": 0.0}
        own = [(name, shown(getattr(self, name))) for name, value in usual.items() if getattr(self, name) != value]
        return replace(found, rows=[*found.rows, ("one step", size), *own])

    @cached_property
    def unit(self) -> Step:
        """Tables of a step of size 1 at friction 1, for properties that do not depend on the step size."""
        return self.stages(1.0)

    @property
    def nfe_per_step(self) -> int:
        """Number of score evaluations per time step."""
        return self.unit.evaluations

    @property
    def metropolised(self) -> bool:
        """Whether a step has a Metropolis test, so that the stationary distribution is exactly that of the target."""
        return self.unit.metropolised

    @property
    def normals_per_step(self) -> int:
        """Number of standard normals per coordinate and time step, without those of readouts."""
        return sum(stage.map.normals for stage in self.unit.stages)

    @property
    def rows(self) -> int:
        """Number of rows of the state of a chain: 1 for position only, 2 with a momentum or a stored normal."""
        return self.unit.rows


# ---------------------------------------------------------------------------------------------------------- recipes


def ula(h: Array, friction: Array) -> Step:
    """Return the step x' = x + delta s + sqrt(2 delta) xi, with delta = h^2/2."""
    map = Affine(table(h, [[0]]), table(h, [np.square(h) / 2]), table(h, [[h]]))
    return Step.on_step(first_row(map.b), map)


def noise_denoise(h: Array, friction: Array, eta: float) -> Step:
    """Return the step x' = x + eta sigma^2 s + (eta - 1) sigma p + sigma xi, p' = xi, with sigma = h/2.

    The step is eq. 3 of Jain & Poole 2022, written for the noised variable x; their x_i is ``x - sigma p``. With
    eta = 2 it is their eq. 10, the limit of BAOAB for infinite friction. The second row p is the normal of the last
    step.
    """
    sigma = h / 2
    map = Affine(
        table(h, [[0, (eta - 1) * sigma], [0, -1]]), table(h, [eta * np.square(sigma), 0]), table(h, [[sigma], [1]])
    )
    return Step.on_step(first_row(map.b), map)


def mild(h: Array, friction: Array, momentum: float) -> Step:
    """Return the step y = x + beta v, v' = beta v + delta s(y), x' = x + v' + sqrt(2 delta) xi.

    Here beta is the momentum, delta = h^2/2, and row 1 holds v (Shetty et al. 2024, Algorithm 1).
    """
    delta, beta = np.square(h) / 2, momentum
    map = Affine(table(h, [[0, beta], [0, beta - 1]]), table(h, [delta, delta]), table(h, [[h], [0]]))
    return Step.on_step(table(h, [1, beta]), map)


def euler_maruyama(h: Array, friction: Array) -> Step:
    """Return the step x' = x + h p, p' = p + h s - gamma h p + sqrt(2 gamma h) xi."""
    map = Affine(table(h, [[0, h], [0, -friction * h]]), table(h, [0, h]), table(h, [[0], [np.sqrt(2 * friction * h)]]))
    return Step.on_step(first_row(map.b), map)


def exponential_euler(h: Array, friction: Array) -> Step:
    """Return the exact solution over one step with the score held at its value at the start (Cheng et al. 2018)."""
    map = frozen_score(h, friction)
    return Step.on_step(first_row(map.b), map)


# -------------------------------------------------------------------------------------------------------- catalogue


@dataclass(frozen=True)
class Parameter:
    """Parameter of a family of integrators.

    Attributes
    ----------
    name : str
        Name of the parameter, which is also the keyword of the recipe.
    domain : str
        Permitted values, for error messages.
    valid : callable
        ``valid(value)`` returns whether the value is permitted.
    """

    name: str
    domain: str
    valid: Callable[[float], bool]


@dataclass(frozen=True, repr=False)
class CatalogueEntry(Described):
    """Entry of the catalogue: an integrator, or a family of integrators with one parameter.

    Parameters
    ----------
    name : str
        Name without the parameter.
    recipe : callable
        As in `Integrator`. The recipe of a family has the parameter as a further keyword.
    order : tuple of (float or None)
        Weak and stationary order, as in `Integrator`, for a generic value of the parameter.
    source : str
        Reference that defines the method.
    memory : float, default 1.0
        As in `Integrator`.
    momenta : bool, default False
        As in `Integrator`.
    parameter : Parameter, optional
        Parameter of a family; None for a single integrator.
    aliases : tuple of str, default ()
        Other names of the method in the literature, which `integrator` accepts as well.
    """

    name: str
    recipe: Callable[..., Step]
    order: Order
    source: str
    memory: float = 1.0
    momenta: bool = False
    parameter: Parameter | None = None
    aliases: tuple[str, ...] = ()

    @property
    def metropolised(self) -> bool:
        """Whether a step has a Metropolis test. Only these integrators have an exact stationary distribution."""
        return self.order[1] == np.inf

    @property
    def summary(self) -> Summary:
        """Update, orders and source."""
        return summary_of(self.signature, self.recipe, self.order, self.source)

    @property
    def signature(self) -> str:
        """Name of the entry with its parameter, for example ``mild(momentum)``."""
        return f"{self.name}({self.parameter.name})" if self.parameter else self.name

    def build(self, *values: float, **named: float) -> Integrator:
        """Return the integrator for a value of the parameter, given by position or by name.

        Parameters
        ----------
        *values : float
            The parameter by position.
        **named : float
            The parameter by name.

        Returns
        -------
        Integrator
            The name of a member of a family contains the value of the parameter.

        Raises
        ------
        ValueError
            If the parameter is missing or out of range, or if the entry does not have the given parameter.
        """
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
        Letters in the order of time: A (drift), B (kick), O (exact Ornstein-Uhlenbeck thermostat), U (A and O
        together, exactly) and K (B and O together, exactly). Case and spaces are ignored, and R and V, the letters of
        openmmtools, stand for A and B. Braces around a palindrome of A and B stand for a Metropolis test, as in
        ``"O {BAB} O"``; then only O may stand outside. `uldnum.schemes.words` and `uldnum.schemes.braces` describe
        words.
    fractions : sequence of float, optional
        Duration of each letter as a fraction of the time step. The fractions of all occurrences of a letter sum to 1,
        and those of O, U and K are positive. Default: all occurrences of a letter have equal fractions.

    Returns
    -------
    Integrator
        The name is the word, followed by the fractions if given. A word of the catalogue without fractions has the
        order and the source of its entry. For all other words the weak order follows from the order conditions
        (`uldnum.schemes.words.weak_order`), the stationary order is None, and the source describes the word. With
        braces, the weak order is None and the stationary order is inf.

    Raises
    ------
    ValueError
        If the word or the fractions are invalid. The message names the fault.

    Warns
    -----
    UserWarning
        If the word has neither O nor U nor K, so that the scheme has no noise and no thermostat.

    References
    ----------
    Leimkuhler & Matthews 2013, Appl. Math. Res. Express 2013:34.

    Examples
    --------
    >>> import uldnum
    >>> scheme = uldnum.splitting("ABAOABA")
    >>> scheme.nfe_per_step, scheme.order
    (2, (2, None))
    >>> uldnum.splitting("OBABO", [0.25, 0.5, 1, 0.5, 0.75]).name
    'OBABO[0.25,0.5,1,0.5,0.75]'
    >>> uldnum.splitting("V R O R V").name
    'BAOAB'
    >>> uldnum.splitting("O {BABAB} O").nfe_per_step
    2
    """
    if not isinstance(word, str):
        raise ValueError(f"word: must be a string of the letters A, B, O, U, K, got {shown(word)}")
    word = spelled(word)
    if len(word) > LONGEST:
        raise ValueError(f"word: must have at most {LONGEST} letters, got {len(word)}")
    braces, letters = bool(set(word) & set(BRACES)), letters_of(word)
    if braces:
        parts_of(word)  # raises if a test cannot correct the letters between the braces
    shares = validate_word(letters, fractions)
    if braces:
        check_fractions(word, shares)
    entry = BY_NAME.get(word.lower()) if fractions is None else None
    order, source = (
        (entry.order, entry.source)
        if entry
        else ((None, np.inf), f"splitting word {word} {described_braces(word)}")
        if braces
        else ((weak_order(word, shares), None), f"splitting word {described(word, shares)}")
    )
    name = word if fractions is None else f"{word}[{','.join(f'{share:g}' for share in shares)}]"
    if len(name) > NAME:
        name = f"{word}[{digest(np.array(shares))}]"
    compiler = compile_braces if braces else compile_word
    return Integrator(name, partial(compiler, word, shares), order, source, momenta=True)


def named_word(
    name: str, word: str, fractions: Sequence[float] | None, order: Order, source: str, *aliases: str
) -> CatalogueEntry:
    """Return the catalogue entry of a splitting word with a name of its own."""
    recipe = partial(compile_word, word, validate_word(word, fractions))
    return CatalogueEntry(name, recipe, order, source, momenta=True, aliases=aliases)


def word_entry(word: str, order: Order, source: str, *aliases: str) -> CatalogueEntry:
    """Return the catalogue entry of a well-known splitting word."""
    return named_word(word, word, None, order, source, *aliases)


def gj_entry(name: str, member: str, order: Order, source: str = "", *aliases: str) -> CatalogueEntry:
    """Return the catalogue entry of a member of the GJ set."""
    recipe = partial(gronbech_jensen, member=member)
    whole = "; ".join(part for part in (source, f"{GRONBECH_JENSEN}, GJ-{member}") if part)
    return CatalogueEntry(name, recipe, order, whole, momenta=True, aliases=aliases)


# Families of the catalogue, by title.
FAMILIES: dict[str, tuple[CatalogueEntry, ...]] = {
    "Overdamped Langevin and diffusion models": (
        CatalogueEntry(
            "ula",
            ula,
            (2, 2),
            f"overdamped Langevin, Euler-Maruyama: {JAIN}, eq. 5",
            # Langevin Monte Carlo, SGLD and annealed Langevin dynamics differ from ULA in the score, not in the step.
            aliases=("lmc", "sgld", "ald"),
        ),
        CatalogueEntry("baoab-limit", partial(noise_denoise, eta=2.0), (2, 4), f"{LEIMKUHLER}; {JAIN}, eq. 10"),
        CatalogueEntry(
            "noise-denoise",
            noise_denoise,
            (0, 0),  # for a fixed eta other than 2 (baoab-limit), the limit h -> 0 has another temperature
            f"{JAIN}, eq. 3",
            parameter=Parameter("eta", "0 < eta < inf", lambda eta: 0 < eta < np.inf),
        ),
        CatalogueEntry(
            "mild",
            mild,
            (0, 0),  # for a fixed momentum, the limit h -> 0 has a faster time scale and a lower temperature
            f"{SHETTY}, Algorithm 1",
            memory=0.0,  # the algorithm starts with v = 0
            parameter=Parameter("momentum", "0 <= momentum < 1", lambda momentum: 0 <= momentum < 1),
        ),
    ),
    "Splitting words": (
        word_entry("BAOAB", (2, 2), LEIMKUHLER),
        word_entry("BAOA", (1, 2), f"{JAIN}, eq. 9", "lfmiddle", "LangevinMiddleIntegrator"),
        word_entry("OBABO", (2, 2), "Bussi & Parrinello 2007, Phys. Rev. E 75, 056707"),
        word_entry("ABOBA", (2, 2), LEIMKUHLER),
        word_entry("OABAO", (2, 2), LEIMKUHLER),
        word_entry("UBU", (2, 2), f"Sanz-Serna & Zygalakis 2021, J. Mach. Learn. Res. 22:242; {CHADA}"),
        word_entry("BUB", (2, 2), f"Skeel & Izaguirre 2002, Mol. Phys. 100, 3885; {CHADA}", "langevin-impulse"),
        word_entry("AKA", (2, 2), f"stochastic position Verlet: {MELCHIONNA}", "spv"),
        word_entry("KAK", (2, 2), f"stochastic velocity Verlet: {MELCHIONNA}", "svv"),
        named_word("BCSS-2", "OBABABO", (0.5, TWO, 0.5, 1 - 2 * TWO, 0.5, TWO, 0.5), (2, 2), f"{BCSS}, eq. 6.4"),
        named_word(
            "BCSS-3",
            "OBABABABO",
            (0.5, THREE[0], THREE[1], 0.5 - THREE[0], 1 - 2 * THREE[1], 0.5 - THREE[0], THREE[1], THREE[0], 0.5),
            (2, 2),
            f"{BCSS}, eq. 6.7",
        ),
    ),
    "Molecular dynamics": (
        CatalogueEntry(
            "BBK",
            brunger_brooks_karplus,
            (1, 2),  # the error of the momenta on the step is of order 1, that of the positions of order 2
            "Brunger, Brooks & Karplus 1984, Chem. Phys. Lett. 105, 495",
            momenta=True,
        ),
        gj_entry("GJF", "I", (2, 2), "Gronbech-Jensen & Farago 2013, Mol. Phys. 111, 983", "gj-i"),
        gj_entry("GJ-II", "II", (2, 2)),
        gj_entry("GJ-III", "III", (1, 2)),
        gj_entry("GJ-IV", "IV", (1, 2)),
        gj_entry("GJ-V", "V", (1, 2)),
        gj_entry("GJ-VI", "VI", (1, 2)),
        gj_entry("GJ-VIII", "VIII", (2, 2)),
        CatalogueEntry("VEC-21", ciccotti_21, (2, 2), f"{CICCOTTI}, eq. 21", momenta=True),
        CatalogueEntry("VEC-23", ciccotti_23, (2, 2), f"{CICCOTTI}, eq. 23", momenta=True, aliases=("vec",)),
    ),
    "Numerics of stochastic differential equations": (
        CatalogueEntry(
            "euler-maruyama",
            euler_maruyama,
            (1, 1),
            "textbook: Euler-Maruyama for the underdamped equation",
            momenta=True,
        ),
        CatalogueEntry("exponential-euler", exponential_euler, (1, 1), CHENG, momenta=True),
        CatalogueEntry("ALIGN", align, (2, 2), f"modified from {FOSTER}, Def. 4.2; as in diffrax", momenta=True),
        CatalogueEntry("ShOULD", should, (3, 3), f"{FOSTER}, Def. 7.1; as in diffrax", momenta=True),
        CatalogueEntry("QUICSORT", quicsort, (3, 3), f"{SCOTT}; as in diffrax", momenta=True),
        CatalogueEntry(
            "SRK",
            srk,
            (4, 4),
            "overdamped: Li, Wu, Mackey & Erdogdu 2019, Stochastic Runge-Kutta accelerates Langevin Monte Carlo",
            memory=0.0,
            aliases=("srk-ld",),
        ),
    ),
    "Metropolised": (
        CatalogueEntry("mala", partial(hmc, steps=1.0), (None, np.inf), ROBERTS, momenta=True),
        CatalogueEntry(
            "hmc",
            hmc,
            (None, np.inf),
            DUANE,
            momenta=True,
            parameter=Parameter(
                "steps", "a whole number of leapfrog steps from 1 to 1000", lambda n: n in range(1, 1001)
            ),
        ),
        CatalogueEntry(
            "ghmc",
            partial(compile_braces, "O{BAB}O", validate_word("OBABO")),
            (None, np.inf),
            HOROWITZ,
            momenta=True,
            aliases=("O{BAB}O",),
        ),
    ),
}
ENTRIES = tuple(entry for entries in FAMILIES.values() for entry in entries)
BY_NAME = {name.lower(): entry for entry in ENTRIES for name in (entry.name, *entry.aliases)}


# Schemes that have other names in openmmtools. VVVR would be a word of three kicks and a drift.
OF_OPENMMTOOLS = {"vvvr": "OBABO", "vvvrintegrator": "OBABO", "baoabintegrator": "BAOAB"}


def integrators() -> tuple[CatalogueEntry, ...]:
    """Return all entries of the catalogue of integrators.

    Any other splitting word is also a valid name for `uldnum.integrator`.

    Returns
    -------
    tuple of CatalogueEntry
        Entries with name, order, source, aliases and, for a family, its parameter.

    See Also
    --------
    Integrator : A new integrator.

    Notes
    -----
    An integrator is a step that is affine in the state, the score and independent normals, with coefficients that
    depend only on the step size and the friction. It may contain a Metropolis test. Steps whose coefficients are random
    or depend on the state, such as clipping and randomised midpoints, cannot be integrators. If a fraction of the step
    were drawn once for all chains, the chains would not be independent, and standard errors from their spread would be
    wrong.

    Orders are powers of h. ULA is of order 1 in its own time step ``delta = h^2/2``, and therefore of order 2 in h. The
    stationary order inf stands for an exact stationary distribution, which a Metropolis test ensures.

    Examples
    --------
    >>> import uldnum
    >>> [entry.signature for entry in uldnum.integrators()][:4]
    ['ula', 'baoab-limit', 'noise-denoise(eta)', 'mild(momentum)']
    """
    return ENTRIES


def integrator(name: str | Integrator, **parameters: float) -> Integrator:
    """Return an integrator by name.

    Parameters
    ----------
    name : str or Integrator
        Name or alias of an entry of the catalogue (`uldnum.integrators`), with the parameter of a family in parentheses
        (``"mild(0.5)"``), or any splitting word (``"BAOAB"``, ``"V R O R V"``), as `uldnum.splitting` reads it. Case is
        ignored. An `Integrator` is returned unchanged.
    **parameters : float
        The parameter of a family by name: ``integrator("mild", momentum=0.5)`` equals ``integrator("mild(0.5)")``.

    Returns
    -------
    Integrator
        The name of a member of a family contains the value of the parameter.

    Raises
    ------
    ValueError
        If there is no such integrator (the message suggests a similar name), if the parameter is missing or out of
        range, or if the integrator does not have a given parameter.

    Warns
    -----
    UserWarning
        If a splitting word has neither O nor U nor K, so that the scheme has no noise and no thermostat.

    Examples
    --------
    >>> import uldnum
    >>> scheme = uldnum.integrator("baoab")
    >>> scheme.name, scheme.order, scheme.nfe_per_step
    ('BAOAB', (2, 2), 1)
    >>> uldnum.integrator("mild", momentum=0.5).name
    'mild(0.5)'
    >>> uldnum.integrator("sgld").name
    'ula'
    """
    if isinstance(name, Integrator):
        if parameters:
            raise ValueError(
                f"integrator: an Integrator takes no further parameters, got {', '.join(parameters)} for {name.name!r}"
            )
        return name
    if not isinstance(name, str):
        raise ValueError(f"integrator: must be a name or an Integrator, got {shown(name)}")
    stem, argument = split_name(name)
    if stem.lower() in BY_NAME:
        return BY_NAME[stem.lower()].build(*read_numbers(name, argument), **parameters)
    if stem.lower() in OF_OPENMMTOOLS:
        raise UnknownNameError(
            f"integrator: {shown(name)} is a name of openmmtools; here the scheme is {OF_OPENMMTOOLS[stem.lower()]!r}"
        )
    if stem and set(spelled(stem)) <= {*LETTERS, *BRACES} and argument is None:
        if parameters:
            raise ValueError(f"integrator: the word {shown(stem)} takes no parameter, got {', '.join(parameters)}")
        return splitting(stem)
    if stem.lower() in PREDICTORS:
        raise ValueError(
            f"integrator: {shown(name)} is a predictor, which moves samples between noise levels; pass it to "
            "uldnum.plan"
        )
    if stem.lower() == PIDLD:
        raise ValueError(
            f"integrator: {shown(name)} is a plan, because its coefficients depend on the number of past steps; pass "
            f"'{PIDLD}(k_p,k_i,k_d)' to uldnum.plan"
        )
    raise unknown_integrator("integrator", name)


def unknown_integrator(kind: str, name: str, others: Iterable[str] = ()) -> UnknownNameError:
    """Return the error for a name that is neither in the catalogue, nor a splitting word, nor one of ``others``."""
    names = [known for entry in ENTRIES for known in (entry.signature, *entry.aliases)]
    wrong = "".join(sorted(set(spelled(name[:LONGEST])) - set(LETTERS)))
    where = f"'uldnum list' shows all of them. The letters of splitting words are {ALPHABET}"
    return unknown(kind, name, [*names, *others], f"{where}, not {shown(wrong)}" if name.isalpha() else where)


def read_numbers(name: str, argument: str | None) -> list[float]:
    """Return the comma-separated numbers between the parentheses of a name."""
    if argument is None:
        return []
    try:
        return [float(part) for part in argument.split(",")]
    except ValueError:
        raise ValueError(f"integrator: {shown(name)}: {shown(argument)} is not a number") from None

r"""Predictors as coefficient tables. A predictor maps a sample at one noise level to the next level.

At a noise level, the sample is ``x = a x0 + s eps``, where x0 are the data and eps is standard normal noise. The
formulas below write a for alpha, s for sigma and r = s/a for the noise-to-signal ratio. Symbols without a prime belong
to the level at which the predictor starts, and symbols with a prime to the next level. The score is that of the
starting level, and xi is standard normal noise that is drawn in the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from uldnum._util.arguments import shown
from uldnum._util.names import split_name, unknown
from uldnum.arithmetic.elementary import log
from uldnum.schemes.stage import Affine, Step, first_row

__all__ = ["PREDICTORS", "Move", "NoiseLevel", "Predictor", "denoising", "embedded", "predictor"]

SONG = "Song, Sohl-Dickstein, Kingma, Kumar, Ermon & Poole 2021"
KARRAS = "Karras, Aittala, Aila & Laine 2022"


class NoiseLevel(NamedTuple):
    """A noise level of ``x = a x0 + s eps``, or arrays of noise levels.

    Attributes
    ----------
    a : float or array
        Scale alpha of the data.
    s : float or array
        Standard deviation sigma of the noise.
    """

    a: Any
    s: Any

    @property
    def r(self) -> Any:
        """Noise-to-signal ratio s/a."""
        return self.s / self.a


class Move(NamedTuple):
    """One score evaluation of a predictor and the affine map that uses it.

    The map is ``u' = A u + b score(row 0) + C xi``. Coefficients are numbers, or arrays with one entry per level at
    which the predictor starts.

    Attributes
    ----------
    A : nested list, shape (k, k)
        Transition matrix.
    b : list, shape (k,)
        Coefficients of the score.
    C : list, shape (k,)
        Coefficients of the standard normal.
    place : NoiseLevel
        Noise level of the score.
    before : float or array, default 0.0
        Standard deviation of noise that is added to row 0 before the score is evaluated.
    """

    A: list[list[Any]]
    b: list[Any]
    C: list[Any]
    place: NoiseLevel
    before: Any = 0.0


# The arguments are the levels at which the moves start, the next levels, and the previous levels, each as arrays. The
# first of the previous levels has infinite noise.
Predictor = Callable[[NoiseLevel, NoiseLevel, NoiseLevel], list[Move]]


def ddim(here: NoiseLevel, there: NoiseLevel, last: NoiseLevel, eta: float) -> list[Move]:
    r"""Return the move x' = a' x0 + (s'^2 - v^2)^{1/2} eps + v xi, with v = eta s' (1 - r'^2/r^2)^{1/2}.

    Here x0 = (x + s^2 score)/a and eps = -s score are the estimates of data and noise (Song, Meng & Ermon 2021, eq. 12
    and 16). With eta = 0 the move is an Euler step of the probability flow ODE d(x/a) = eps dr.
    """
    v = eta * there.s * np.sqrt(1 - np.square(there.r / here.r))
    kept = np.sqrt(np.square(there.s) - np.square(v))
    return [Move([[there.a / here.a]], [here.s * (there.a * here.r - kept)], [v], here)]


def reverse_diffusion(here: NoiseLevel, there: NoiseLevel, last: NoiseLevel) -> list[Move]:
    """Return the move x' = (2 - k) x + g^2 score + g xi, where the forward process is x = k x' + g xi.

    The coefficients are k = a/a' and g^2 = s^2 - k^2 s'^2 (Song et al. 2021, eq. 46).
    """
    k = here.a / there.a
    variance = np.square(here.s) - np.square(k * there.s)
    return [Move([[2 - k]], [variance], [np.sqrt(variance)], here)]


def churned(here: NoiseLevel, churn: float) -> tuple[NoiseLevel, Any]:
    """Return the level with ratio r (1 + churn), and the standard deviation of the noise that is added to reach it.

    ``churn`` is gamma_i in Karras et al. 2022, Algorithm 2. All levels have the same churn, while Algorithm 2 restricts
    it to a range of levels. S_noise is 1. The denoising step at the end of a plan has no churn.
    """
    more = NoiseLevel(here.a, here.s * (1 + churn))
    return more, np.sqrt(np.square(more.s) - np.square(here.s))


def edm_euler(here: NoiseLevel, there: NoiseLevel, last: NoiseLevel, churn: float) -> list[Move]:
    """Return the move that adds noise up to the ratio r (1 + churn) and takes an Euler step of the ODE to r'."""
    start, noise = churned(here, churn)
    (move,) = ddim(start, there, last, 0.0)
    return [move._replace(before=noise)]


def heun(here: NoiseLevel, there: NoiseLevel, last: NoiseLevel, churn: float) -> list[Move]:
    """Return two moves that add noise up to the ratio r (1 + churn) and take a step of Heun's method to r'.

    The method solves the probability flow ODE. The first move writes an Euler step to row 0, and the same step with
    half of the slope to row 1. The second move evaluates the slope at row 0 and r'. It writes row 1 plus half of that
    slope to row 0.
    """
    start, noise = churned(here, churn)
    slope = there.a * (start.r - there.r) * start.s  # coefficient of the score, as d(x/a) = -s score dr
    carry = there.a / start.a
    first = Move([[carry, 0], [carry, 0]], [slope, slope / 2], [0, 0], start, noise)
    half = there.a * (start.r - there.r) * there.s / 2
    return [first, Move([[0, 1], [0, 1]], [half, 0], [0, 0], there)]


def dpm_solver(here: NoiseLevel, there: NoiseLevel, last: NoiseLevel) -> list[Move]:
    """Return the move x' = (s'/s) x + a' (1 - r'/r) ((1 + c) x0 - c x0_last), with c = log(r/r')/(2 log(r_last/r)).

    Here x0 = (x + s^2 score)/a is the estimate of the data, x0_last is that of the previous move, and r_last is the
    ratio of the previous level (Lu et al. 2022, Algorithm 2). Row 1 stores x0 for the next move. In the first move
    r_last is infinite, so c = 0.
    """
    c = log(here.r / there.r) / (2 * log(last.r / here.r))
    weight = there.a * (1 - there.r / here.r)
    new = weight * (1 + c) / here.a
    A = [[there.s / here.s + new, -weight * c], [1 / here.a, 0]]
    return [Move(A, [new * np.square(here.s), np.square(here.s) / here.a], [0, 0], here)]


def ancestral(here: NoiseLevel, there: NoiseLevel, last: NoiseLevel) -> list[Move]:
    """Return the move of ancestral sampling, which is that of DDIM with eta = 1.

    On VE levels it is the sampler of Song et al. 2021, app. F. On VP levels it is the sampler of Ho et al. 2020 with
    the variance beta tilde.
    """
    return ddim(here, there, last, 1.0)


class PredictorEntry(NamedTuple):
    """Entry of the table of predictors.

    Attributes
    ----------
    moves : callable
        Function that returns a list of `Move`. Its arguments are three `NoiseLevel` and the parameter, if there is one.
    parameter : str
        Name of the parameter, or "" if there is none.
    default : float
        Default of the parameter.
    domain : (float, float)
        Smallest and largest value of the parameter.
    source : str
        Reference that defines the predictor.
    """

    moves: Callable[..., list[Move]]
    parameter: str
    default: float
    domain: tuple[float, float]
    source: str


PREDICTORS = {
    "ddim": PredictorEntry(ddim, "eta", 0.0, (0.0, 1.0), "Song, Meng & Ermon 2021, eq. 12 and 16"),
    "ancestral": PredictorEntry(ancestral, "", 0.0, (0, 0), f"{SONG}, app. F (VE); Ho, Jain & Abbeel 2020, eq. 7 (VP)"),
    "reverse-diffusion": PredictorEntry(reverse_diffusion, "", 0.0, (0, 0), f"{SONG}, eq. 46"),
    "edm-euler": PredictorEntry(
        edm_euler, "churn", 0.0, (0.0, math.sqrt(2) - 1), f"{KARRAS}, Algorithm 2, without lines 9 to 11"
    ),
    "heun": PredictorEntry(heun, "churn", 0.0, (0.0, math.sqrt(2) - 1), f"{KARRAS}, Algorithms 1 and 2"),
    "dpm-solver++": PredictorEntry(dpm_solver, "", 0.0, (0, 0), "Lu, Zhou, Bao, Chen, Li & Zhu 2022, Algorithm 2 (2M)"),
}


def predictor(name: str) -> tuple[str, Predictor, str]:
    """Return the full name, the function and the reference of a predictor, given a name such as ``ddim(0.5)``.

    Parameters
    ----------
    name : str
        A name in `PREDICTORS`, with its parameter in parentheses if it has one. Case is ignored.

    Returns
    -------
    tuple of (str, callable, str)
        The name, the function that returns the moves, and the reference. The name includes the value of the parameter
        if it is not the default.

    Raises
    ------
    ValueError
        If there is no such predictor, or if the parameter is invalid. For an unknown name, the message suggests a
        similar one.
    """
    if not isinstance(name, str):
        raise ValueError(f"predictor: must be a name, got {shown(name)}")
    given, argument = split_name(name)
    stem = given.lower()
    if stem not in PREDICTORS:
        raise unknown("predictor", name, PREDICTORS, f"The predictors are {', '.join(PREDICTORS)}")
    entry = PREDICTORS[stem]
    if not entry.parameter:
        if argument is not None:
            raise ValueError(f"predictor: {stem!r} takes no parameter")
        return stem, entry.moves, entry.source
    try:
        value = entry.default if argument is None else float(argument)
    except ValueError:
        raise ValueError(f"predictor: {shown(name)}: {shown(argument)} is not a number") from None
    low, high = entry.domain
    if not low <= value <= high:
        raise ValueError(f"{entry.parameter}: {stem} needs {low:g} <= {entry.parameter} <= {high:.3g}, got {value:g}")

    def moves(*places: NoiseLevel) -> list[Move]:
        return entry.moves(*places, value)

    return stem if value == entry.default else f"{stem}({value:g})", moves, entry.source


def embedded(move: Move, k: int) -> Step:
    """Return the step of a move for chains with k rows, with a leading axis of levels.

    The second row of a predictor, if there is one, is the last row of the chain.
    """
    own, count = [0, k - 1][: len(move.b)], len(move.place.s)
    dA, b, C = np.zeros((count, k, k)), np.zeros((count, k)), np.zeros((count, k, 1))
    for i, row in enumerate(own):
        for j, column in enumerate(own):
            dA[:, row, column] = move.A[i][j]
        dA[:, row, row] -= 1
        b[:, row], C[:, row, 0] = move.b[i], move.C[i]
    step = Step.on_step(first_row(b), Affine(dA, b, C if C.any() else C[..., :0]))
    if not np.any(move.before):
        return step
    noise = np.zeros((count, k, 1))
    noise[:, 0, 0] = move.before
    return replace(step, open=Affine(np.zeros((count, k, k)), np.zeros((count, k)), noise))


def denoising(place: NoiseLevel, k: int) -> Step:
    """Return the step x' = (x + s^2 score)/a, the mean of the data given x (Tweedie's formula)."""
    return embedded(Move([[1 / place.a]], [np.square(place.s) / place.a], [0], place), k)

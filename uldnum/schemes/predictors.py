r"""Predictors: maps from one noise level to a lower one, as data.

Noise levels are written a for alpha and s for sigma, r = s/a; unprimed is where a predictor starts, primed where it
goes.
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
    """A noise level, or arrays of them."""

    a: Any
    s: Any

    @property
    def r(self) -> Any:
        """Noise to signal."""
        return self.s / self.a


class Move(NamedTuple):
    """One evaluation of a predictor: an affine map of its rows, the place of its score, and noise put on before.

    ``b`` multiplies the score of row 0, ``C`` one normal; ``before`` is what row 0 gets of a normal of its own first.
    The coefficients are numbers, or arrays over the levels from which the predictor starts.
    """

    A: list[list[Any]]
    b: list[Any]
    C: list[Any]
    place: NoiseLevel
    before: Any = 0.0


# From arrays of levels, of those after them, and of those before, the first of which has infinite noise.
Predictor = Callable[[NoiseLevel, NoiseLevel, NoiseLevel], list[Move]]


def ddim(here: NoiseLevel, there: NoiseLevel, last: NoiseLevel, eta: float) -> list[Move]:
    r"""x' = a' x0 + (s'^2 - v^2)^{1/2} eps + v xi, v = eta s' (1 - r'^2/r^2)^{1/2}.

    With x0 = (x + s^2 score)/a and eps = -s score. eta = 0 is the Euler step of the probability flow, dx/a = eps dr.
    """
    v = eta * there.s * np.sqrt(1 - np.square(there.r / here.r))
    kept = np.sqrt(np.square(there.s) - np.square(v))
    return [Move([[there.a / here.a]], [here.s * (there.a * here.r - kept)], [v], here)]


def reverse_diffusion(here: NoiseLevel, there: NoiseLevel, last: NoiseLevel) -> list[Move]:
    """x' = (2 - k) x + g^2 score + g xi, where noising goes the other way: x = k x' + g xi."""
    k = here.a / there.a
    variance = np.square(here.s) - np.square(k * there.s)
    return [Move([[2 - k]], [variance], [np.sqrt(variance)], here)]


def churned(here: NoiseLevel, churn: float) -> tuple[NoiseLevel, Any]:
    """Return a noisier place, r (1 + churn), and what a normal must be multiplied with to get there.

    The same from every level to the next, with S_noise = 1; Karras et al. also say at which levels. The mean of the
    data given x, with which plans end, is taken without.
    """
    more = NoiseLevel(here.a, here.s * (1 + churn))
    return more, np.sqrt(np.square(more.s) - np.square(here.s))


def edm_euler(here: NoiseLevel, there: NoiseLevel, last: NoiseLevel, churn: float) -> list[Move]:
    """Noise up to r (1 + churn), then Euler's step of the probability flow down."""
    start, noise = churned(here, churn)
    (move,) = ddim(start, there, last, 0.0)
    return [move._replace(before=noise)]


def heun(here: NoiseLevel, there: NoiseLevel, last: NoiseLevel, churn: float) -> list[Move]:
    """Noise up to r (1 + churn), Euler's step there, then half of its slope replaced by half of that at its end.

    Row 1 remembers x' with half of the first slope.
    """
    start, noise = churned(here, churn)
    slope = there.a * (start.r - there.r) * start.s  # of the score: d(x/a) = -s score dr
    carry = there.a / start.a
    first = Move([[carry, 0], [carry, 0]], [slope, slope / 2], [0, 0], start, noise)
    half = there.a * (start.r - there.r) * there.s / 2
    return [first, Move([[0, 1], [0, 1]], [half, 0], [0, 0], there)]


def dpm_solver(here: NoiseLevel, there: NoiseLevel, last: NoiseLevel) -> list[Move]:
    """x' = (s'/s) x + a' (1 - r'/r) ((1 + c) x0 - c x0_last), c = log(r/r')/(2 log(r_last/r)); row 1 remembers x0."""
    c = log(here.r / there.r) / (2 * log(last.r / here.r))
    weight = there.a * (1 - there.r / here.r)
    new = weight * (1 + c) / here.a
    A = [[there.s / here.s + new, -weight * c], [1 / here.a, 0]]
    return [Move(A, [new * np.square(here.s), np.square(here.s) / here.a], [0, 0], here)]


def ancestral(here: NoiseLevel, there: NoiseLevel, last: NoiseLevel) -> list[Move]:
    """DDIM with eta = 1: on VE levels Song et al.'s sampler, on VP levels that of Ho et al. with their beta tilde."""
    return ddim(here, there, last, 1.0)


class PredictorEntry(NamedTuple):
    """A predictor: its moves, which take its parameter last, that parameter with default and domain, and its source."""

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
    """Return the full name, the moves and the source of a predictor by name, such as ``ddim(0.5)``."""
    if not isinstance(name, str):
        raise ValueError(f"predictor: must be a name, got {shown(name)}")
    given, argument = split_name(name)
    stem = given.lower()
    if stem not in PREDICTORS:
        raise unknown("predictor", name, PREDICTORS, f"Known are {', '.join(PREDICTORS)}")
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

    return f"{stem}({value:g})", moves, entry.source


def embedded(move: Move, k: int) -> Step:
    """Return a predictor's map as a step of chains with k rows, with an axis of levels.

    Its own second row is the last.
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
    """x' = (x + s^2 score)/a: the mean of the data given x (Tweedie's formula)."""
    return embedded(Move([[1 / place.a]], [np.square(place.s) / place.a], [0], place), k)

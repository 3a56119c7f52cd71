"""Splitting words: BAOAB and its like, compiled to stages.

A word is read left to right as operations in the order of time. Each letter is the exact flow of one part of the
underdamped Langevin equation ``dx = p dt, dp = s(x) dt - gamma p dt + sqrt(2 gamma) dW``:

====== ============================================================================================
letter flow for time t
====== ============================================================================================
A      x += t p
B      p += t s(x)
O      p = e^{-gamma t} p + sqrt(1 - e^{-2 gamma t}) xi
U      A and O together, exactly: x and p move with their joint 2 x 2 noise covariance
====== ============================================================================================

A letter lasts the time step divided by how often it occurs in the word, unless fractions are given.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import combinations, pairwise

import numpy as np

from uldnum._util.arguments import numbers
from uldnum._util.typing import Array
from uldnum.arithmetic.dense import total
from uldnum.arithmetic.elementary import expm1, tanh
from uldnum.schemes.stage import Affine, Stage, Step, first_row, table

__all__ = ["LETTERS", "compile_word", "frozen_score", "tanh_gap", "validate_word", "weak_order"]

LETTERS = "ABOU"


def tanh_gap(z: Array) -> Array:
    """Return z - tanh(z) for z >= 0, without cancellation (about z^3/3 for small z), to a few units of rounding.

    Below 1 it is ``z w / (1 + w)``, where ``tanh z = z / (1 + w)`` and w is the tail of Lambert's continued fraction
    ``z^2/(3 + z^2/(5 + z^2/(7 + ...)))``: positive terms only.
    """
    small = np.minimum(z, 1)
    w = reduce(lambda tail, odd: np.square(small) / (odd + tail), range(25, 1, -2), 0 * small)
    return np.where(z < 1, small * w / (1 + w), z - tanh(z))


def drift(t: Array, friction: Array) -> Affine:
    """A: x += t p."""
    return Affine(table(t, [[0, t], [0, 0]]), table(t, [0, 0]), table(t, [[], []]))


def kick(t: Array, friction: Array) -> Affine:
    """B: p += t s."""
    return Affine(table(t, [[0, 0], [0, 0]]), table(t, [0, t]), table(t, [[], []]))


def thermostat(t: Array, friction: Array) -> Affine:
    """O: p = c p + sqrt(1 - c^2) xi with c = exp(-gamma t)."""
    a = friction * t
    return Affine(
        dA=table(t, [[0, 0], [0, expm1(-a)]]),
        b=table(t, [0, 0]),
        C=table(t, [[0], [np.sqrt(-expm1(-2 * a))]]),
    )


def free_flight(t: Array, friction: Array) -> Affine:
    """U: A and O together, exactly.

    The noise of x given that of p is Gaussian with mean ``tanh(a/2)/gamma xi_p`` and variance
    ``4 (a/2 - tanh(a/2))/gamma^2``, a = gamma t: the 2 x 2 covariance of Chada et al. 2023, factored by hand so that
    nothing cancels.
    """
    a = friction * t
    p_noise = np.sqrt(-expm1(-2 * a))
    return Affine(
        dA=table(t, [[0, -expm1(-a) / friction], [0, expm1(-a)]]),
        b=table(t, [0, 0]),
        C=table(t, [[tanh(a / 2) / friction * p_noise, 2 * np.sqrt(tanh_gap(a / 2)) / friction], [p_noise, 0]]),
    )


def frozen_score(t: Array, friction: Array) -> Affine:
    """U with the score held constant: the exact solution of ``dp = s dt - gamma p dt + sqrt(2 gamma) dW``.

    The score moves p by ``(1 - e^{-a})/gamma`` and x by ``(a - 1 + e^{-a})/gamma^2``, a = gamma t, here in terms of
    T = tanh(a/2) with positive terms only.
    """
    a = friction * t
    T = tanh(a / 2)
    x_kick = 2 * (tanh_gap(a / 2) + a / 2 * T) / (1 + T) / np.square(friction)
    free = free_flight(t, friction)
    return Affine(free.dA, table(t, [x_kick, -expm1(-a) / friction]), free.C)


FLOWS: dict[str, Callable[[Array, Array], Affine]] = {"A": drift, "B": kick, "O": thermostat, "U": free_flight}


def validate_word(word: str, fractions: Sequence[float] | None = None) -> tuple[float, ...]:
    """Check a splitting word and return the fraction of the time step that each of its letters lasts.

    Parameters
    ----------
    word : str
        Upper-case letters of `LETTERS`.
    fractions : sequence of float, optional
        One per letter; those of equal letters sum to 1. Default: equal shares.

    Raises
    ------
    ValueError
        If the word or the fractions are broken; the message names the fault.
    """
    if not word:
        raise ValueError("word: empty; a splitting word is a string of the letters A, B, O, U, such as 'BAOAB'")
    unknown = sorted(set(word) - set(LETTERS))
    if unknown:
        raise ValueError(f"word: {word!r} contains {', '.join(map(repr, unknown))}; the letters are A, B, O and U")
    if "B" not in word:
        raise ValueError(f"word: {word!r} has no B, so the score is never used")
    if "A" not in word and "U" not in word:
        raise ValueError(f"word: {word!r} has neither A nor U, so the position never moves")
    if "U" in word and ("A" in word or "O" in word):
        raise ValueError(f"word: {word!r} mixes U with A or O; U is A and O together, so one of them would act twice")
    if "O" not in word and "U" not in word:
        warnings.warn(f"word: {word!r} has neither O nor U: no noise, no thermostat", stacklevel=3)
    if fractions is None:
        return tuple(1 / word.count(letter) for letter in word)
    shares = numbers("fractions", fractions)
    if shares.shape != (len(word),):
        raise ValueError(f"fractions: {word!r} needs {len(word)} numbers, one per letter, got shape {shares.shape}")
    for letter in sorted(set(word)):
        own = shares[[i for i, other in enumerate(word) if other == letter]]
        if abs(total(own) - 1) > 1e-12:
            raise ValueError(f"fractions: those of {letter} in {word!r} must sum to 1, they sum to {total(own):.15g}")
        if letter in "OU" and np.any(own <= 0):
            raise ValueError(f"fractions: those of {letter} must be positive, noise cannot run backwards; got {own}")
    return tuple(float(share) for share in shares)


def weak_order(word: str, fractions: Sequence[float]) -> int:
    """Weak order of a validated word, in powers of h.

    A word is a product of exponentials of generators, ``exp(h x_1 L_1) exp(h x_2 L_2) ...``. By the formula of Baker,
    Campbell and Hausdorff its error of second order is, for each pair of letters, their commutator times
    ``h^2 (sum_{i<j} x_i y_j - 1/2)``, x and y the fractions of either. The commutators of A, B and O are linearly
    independent, so the order is 2 where all of these vanish, and else 1. It is at most 2, for a higher order
    takes negative fractions of every letter (Goldman & Kaper 1996, SIAM J. Numer. Anal. 33, 349) and noise cannot run
    backwards; and 0 without a thermostat, which the Langevin equation has.
    """
    if not set(word) & set("OU"):
        return 0
    letters = tuple(zip(word, fractions, strict=True))

    def product(first: str, second: str) -> float:
        return sum(x * y for (a, x), (b, y) in combinations(letters, 2) if (a, b) == (first, second))

    pairs = combinations(sorted(set(word)), 2)
    return 2 if all(abs(product(*pair) - 0.5) < 1e-12 for pair in pairs) else 1


def stage_starts(word: str) -> list[int]:
    """Where the stages of the cyclic word start: at each B that finds the position moved since the B before it."""
    starts, moved = [], False
    for i, letter in enumerate(2 * word):  # the second round knows what came before the first letter
        if letter in "AU":
            moved = True
        elif letter == "B":
            if moved and i >= len(word):
                starts.append(i - len(word))
            moved = False
    return starts


def compile_word(word: str, fractions: Sequence[float], h: Array, friction: Array) -> Step:
    """Compile a validated word to stages with the fewest score evaluations.

    The word is cyclic: it is rotated so that a stage starts where a score is evaluated, what shares an evaluation is
    merged, and the end of the time step is marked inside the last stage.
    """
    flows = [FLOWS[letter](fraction * h, friction) for letter, fraction in zip(word, fractions, strict=True)]
    nothing = Affine.identity(h, 2)

    def between(start: int, stop: int) -> Affine:
        return reduce(Affine.then, flows[start:stop], nothing)

    starts = stage_starts(word)
    whole = (between(start, stop).compressed() for start, stop in pairwise(starts))
    stages = tuple(Stage(first_row(map.b), map) for map in whole)
    before, after = between(starts[-1], len(word)), between(0, starts[0])
    return Step.inside_stage(stages, before, after, open_uses_score="B" in word[: starts[0]])

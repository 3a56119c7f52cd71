"""Splitting schemes, such as BAOAB, as words of letters that compile to stages.

A word is read from left to right, in the order of time. Each letter is the exact flow of one part of the underdamped
Langevin equation ``dx = p dt, dp = s(x) dt - gamma p dt + sqrt(2 gamma) dW``:

====== ============================================================================================
letter flow for time t
====== ============================================================================================
A      x += t p
B      p += t s(x)
O      p = e^{-gamma t} p + sqrt(1 - e^{-2 gamma t}) xi
U      A and O together, exactly: dx = p dt, dp = -gamma p dt + sqrt(2 gamma) dW
K      B and O together, exactly, at a fixed x: dp = s(x) dt - gamma p dt + sqrt(2 gamma) dW
====== ============================================================================================

All occurrences of a letter share the time step h equally, unless fractions are given: in BAOAB, each A and each B lasts
h/2, and O lasts h. Case and spaces are ignored. The letters R and V of openmmtools stand for A and B: ``V R O R V`` is
BAOAB. `uldnum.schemes.braces` describes words with braces, such as ``O {BAB} O``.

References
----------
Leimkuhler & Matthews 2013, Appl. Math. Res. Express 2013:34 (words of A, B and O).
Chada, Leimkuhler, Paulin & Whalley 2023, Unbiased kinetic Langevin Monte Carlo with inexact gradients (U).
Melchionna 2007, J. Chem. Phys. 127, 044108 (K).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import reduce
from itertools import combinations, groupby, pairwise

import numpy as np

from uldnum._util.arguments import numbers
from uldnum._util.typing import Array
from uldnum.arithmetic.dense import total
from uldnum.arithmetic.elementary import expm1, tanh
from uldnum.schemes.stage import Affine, Stage, Step, first_row, table

__all__ = [
    "ALPHABET",
    "LETTERS",
    "compile_word",
    "described",
    "frozen_score",
    "spelled",
    "tanh_gap",
    "tanh_second_gap",
    "validate_word",
    "weak_order",
]

LETTERS = {
    "A": "drift",
    "B": "kick",
    "O": "thermostat",
    "U": "drift and thermostat together",
    "K": "kick and thermostat together",
}
# Letters that use the score, that move the position, and that contain noise.
SCORED, MOVING, NOISY = "BK", "AU", "OUK"
ALPHABET = ", ".join(f"{letter} ({flow})" for letter, flow in LETTERS.items())

# The letters of openmmtools for the flows of A and B; O is the same in both.
OPENMMTOOLS = str.maketrans("RV", "AB")


def lambert_tails(z: Array) -> tuple[Array, Array]:
    """Return the tails v and w of Lambert's continued fraction of tanh(z), for 0 <= z < 1.

    They are defined by ``tanh z = z/(1 + w)``, ``w = z^2/(3 + v)`` and ``v = z^2/(5 + z^2/(7 + ...))``. All terms are
    positive.
    """
    v = reduce(lambda tail, odd: np.square(z) / (odd + tail), range(25, 3, -2), 0 * z)
    return v, np.square(z) / (3 + v)


def tanh_gap(z: Array) -> Array:
    """Return z - tanh(z) for z >= 0, without cancellation, accurate to a few units in the last place.

    For small z the result is about z^3/3. For z < 1 it is ``z w/(1 + w)``, as in `lambert_tails`.
    """
    small = np.minimum(z, 1)
    _, w = lambert_tails(small)
    return np.where(z < 1, small * w / (1 + w), z - tanh(z))


def tanh_second_gap(z: Array) -> Array:
    """Return (z^2 + 3) tanh(z) - 3 z for z >= 0, without cancellation at small z, where it is about z^5/15.

    For z < 1 it is ``z w v/(1 + w)``, as in `lambert_tails`.
    """
    small = np.minimum(z, 1)
    v, w = lambert_tails(small)
    return np.where(z < 1, small * w * v / (1 + w), (np.square(z) + 3) * tanh(z) - 3 * z)


def drift(t: Array, friction: Array) -> Affine:
    """Return the flow of A: x += t p."""
    return Affine(table(t, [[0, t], [0, 0]]), table(t, [0, 0]), table(t, [[], []]))


def kick(t: Array, friction: Array) -> Affine:
    """Return the flow of B: p += t s."""
    return Affine(table(t, [[0, 0], [0, 0]]), table(t, [0, t]), table(t, [[], []]))


def thermostat(t: Array, friction: Array) -> Affine:
    """Return the flow of O: p = c p + sqrt(1 - c^2) xi with c = exp(-gamma t)."""
    a = friction * t
    return Affine(
        dA=table(t, [[0, 0], [0, expm1(-a)]]),
        b=table(t, [0, 0]),
        C=table(t, [[0], [np.sqrt(-expm1(-2 * a))]]),
    )


def free_flight(t: Array, friction: Array) -> Affine:
    """Return the flow of U: A and O together, exactly.

    With a = gamma t, ``x += (1 - e^{-a}) p/gamma + xi_x`` and ``p = e^{-a} p + xi_p``. The noise ``xi_p`` has variance
    ``1 - e^{-2a}``. Given ``xi_p``, the noise ``xi_x`` is Gaussian with mean ``tanh(a/2) xi_p/gamma`` and variance
    ``4 (a/2 - tanh(a/2))/gamma^2``. This is the 2 x 2 covariance of Chada et al. 2023 in a factored form without
    cancellation.
    """
    a = friction * t
    p_noise = np.sqrt(-expm1(-2 * a))
    return Affine(
        dA=table(t, [[0, -expm1(-a) / friction], [0, expm1(-a)]]),
        b=table(t, [0, 0]),
        C=table(t, [[tanh(a / 2) / friction * p_noise, 2 * np.sqrt(tanh_gap(a / 2)) / friction], [p_noise, 0]]),
    )


def thermostatted_kick(t: Array, friction: Array) -> Affine:
    """Return the flow of K: p = c p + (1 - c) s/gamma + sqrt(1 - c^2) xi with c = exp(-gamma t)."""
    free = thermostat(t, friction)
    return replace(free, b=table(t, [0, -expm1(-friction * t) / friction]))


def frozen_score(t: Array, friction: Array) -> Affine:
    """Return the exact flow of ``dx = p dt, dp = s dt - gamma p dt + sqrt(2 gamma) dW`` with a constant score s.

    It is the flow of U, plus ``(1 - e^{-a}) s/gamma`` in p and ``(a - 1 + e^{-a}) s/gamma^2`` in x, with a = gamma t.
    The latter is written in terms of T = tanh(a/2) with positive terms only, so that nothing cancels.
    """
    a = friction * t
    T = tanh(a / 2)
    x_kick = 2 * (tanh_gap(a / 2) + a / 2 * T) / (1 + T) / np.square(friction)
    free = free_flight(t, friction)
    return Affine(free.dA, table(t, [x_kick, -expm1(-a) / friction]), free.C)


def spelled(word: str) -> str:
    """Return a word in the letters of this package: in upper case, without spaces, with A and B for R and V."""
    return "".join(word.split()).upper().translate(OPENMMTOOLS)


FLOWS: dict[str, Callable[[Array, Array], Affine]] = {
    "A": drift,
    "B": kick,
    "O": thermostat,
    "U": free_flight,
    "K": thermostatted_kick,
}


def validate_word(word: str, fractions: Sequence[float] | None = None) -> tuple[float, ...]:
    """Check a splitting word and return the duration of each letter as a fraction of the time step.

    Parameters
    ----------
    word : str
        Word of the upper-case letters in `LETTERS`, as `spelled` returns it.
    fractions : sequence of float, optional
        One fraction per letter of the word. The fractions of all occurrences of a letter sum to 1. Default: equal
        fractions.

    Returns
    -------
    tuple of float
        One fraction per letter of the word.

    Raises
    ------
    ValueError
        If the word or the fractions are invalid. The message names the fault.

    Warns
    -----
    UserWarning
        If the word has neither O nor U nor K, so that the scheme has no noise and no thermostat.
    """
    if not word:
        raise ValueError("word: must be a string of the letters A, B, O, U and K, such as 'BAOAB', got an empty string")
    unknown = sorted(set(word) - set(LETTERS))
    if unknown:
        raise ValueError(f"word: {word!r} contains {', '.join(map(repr, unknown))}; the letters are {ALPHABET}")
    if not set(word) & set(SCORED):
        raise ValueError(f"word: {word!r} has neither B nor K, so the score is never used")
    if not set(word) & set(MOVING):
        raise ValueError(f"word: {word!r} has neither A nor U, so the position never moves")
    for both, first, second in (("U", "A", "O"), ("K", "B", "O")):
        if both in word and (first in word or second in word):
            raise ValueError(
                f"word: {word!r} mixes {both} with {first} or {second}; {both} contains both flows, so {first} or "
                f"{second} would act twice"
            )
    if "U" in word and "K" in word:
        raise ValueError(f"word: {word!r} mixes U and K; both contain the flow of O, which would act twice")
    if not set(word) & set(NOISY):
        warnings.warn(f"word: {word!r} has neither O nor U nor K, so it has no noise and no thermostat", stacklevel=3)
    if fractions is None:
        return tuple(1 / word.count(letter) for letter in word)
    shares = numbers("fractions", fractions)
    if shares.shape != (len(word),):
        raise ValueError(f"fractions: {word!r} needs {len(word)} numbers, one per letter, got shape {shares.shape}")
    for letter in sorted(set(word)):
        own = shares[[i for i, other in enumerate(word) if other == letter]]
        if abs(total(own) - 1) > 1e-12:
            raise ValueError(
                f"fractions: must sum to 1 for each letter, got a sum of {total(own):.15g} for {letter} in {word!r}"
            )
        if letter in NOISY and np.any(own <= 0):
            raise ValueError(f"fractions: must be positive for O, U and K, got {own} for {letter}")
    return tuple(float(share) for share in shares)


def weak_order(word: str, fractions: Sequence[float]) -> int:
    """Return the weak order of a validated word: 1 or 2, or 0 if the word has neither O nor U nor K.

    A word is a product of exponentials of generators, ``exp(h x_1 L_1) exp(h x_2 L_2) ...``, where x_i is the fraction
    of letter i. By the Baker-Campbell-Hausdorff formula, the second-order error is a sum over pairs of distinct
    letters. Each pair contributes its commutator times ``h^2 (sum_{i<j} x_i y_j - 1/2)``, where i and j are positions
    in the word, and x and y are the fractions of the two letters. The commutators of A, B and O are linearly
    independent, so the order is 2 if all these coefficients vanish, and 1 otherwise.

    Order 3 would need at least one negative fraction for every letter (Goldman & Kaper 1996, SIAM J. Numer. Anal. 33,
    349), but O, U and K cannot run backwards in time. A word without them does not converge to the Langevin equation,
    so its order is 0.
    """
    if not set(word) & set(NOISY):
        return 0
    letters = tuple(zip(word, fractions, strict=True))

    def product(first: str, second: str) -> float:
        return sum(x * y for (a, x), (b, y) in combinations(letters, 2) if (a, b) == (first, second))

    pairs = combinations(sorted(set(word)), 2)
    return 2 if all(abs(product(*pair) - 0.5) < 1e-12 for pair in pairs) else 1


def described(word: str, fractions: Sequence[float]) -> str:
    """Describe a validated word: its flows in the order of time, its weak order and its score evaluations per step."""
    runs = groupby(zip(word, fractions, strict=True), lambda pair: pair[0])  # adjacent equal letters act as one flow
    flows = ", ".join(f"{letter} for {duration(sum(share for _, share in run))}" for letter, run in runs)
    meaning = ", ".join(f"{letter}: {flow}" for letter, flow in LETTERS.items() if letter in word)
    evaluations = len(stage_starts(word))
    return (
        f"{flows} ({meaning}); weak order {weak_order(word, fractions)}, "
        f"{evaluations} score evaluation{'s' if evaluations > 1 else ''} per step"
    )


def duration(share: float) -> str:
    """Return a fraction of the time step as text, such as ``h/2``."""
    ratio = Fraction(share).limit_denominator(100)
    if abs(ratio - share) > 1e-12:
        return f"{share:.4g} h"
    above, below = ratio.numerator, ratio.denominator
    return f"{above if above != 1 else ''}h{f'/{below}' if below > 1 else ''}"


def stage_starts(word: str) -> list[int]:
    """Return the index of each B or K that starts a stage of the cyclic word: x has moved since the previous one."""
    starts, moved = [], False
    for i, letter in enumerate(2 * word):  # the first pass only finds whether x moves before the first kick
        if letter in MOVING:
            moved = True
        elif letter in SCORED:
            if moved and i >= len(word):
                starts.append(i - len(word))
            moved = False
    return starts


def compile_word(word: str, fractions: Sequence[float], h: Array, friction: Array) -> Step:
    """Compile a validated word to a step with the fewest score evaluations.

    Consecutive time steps repeat the word, so the word is treated as cyclic. Each stage starts at a B or K that needs a
    new score evaluation and contains all letters up to the next such letter. The end of the time step lies inside the
    last stage.
    """
    flows = [FLOWS[letter](fraction * h, friction) for letter, fraction in zip(word, fractions, strict=True)]
    nothing = Affine.identity(h, 2)

    def between(start: int, stop: int) -> Affine:
        return reduce(Affine.then, flows[start:stop], nothing)

    starts = stage_starts(word)
    whole = (between(start, stop).compressed() for start, stop in pairwise(starts))
    stages = tuple(Stage(first_row(map.b), map) for map in whole)
    before, after = between(starts[-1], len(word)), between(0, starts[0])
    uses_score = any(letter in SCORED for letter in word[: starts[0]])
    return Step.inside_stage(stages, before, after, open_uses_score=uses_score)

"""Splitting words with braces: steps with a Metropolis test.

As in openmmtools, the letters between braces are accepted or rejected together. In ``O {BAB} O``, the state after BAB
is accepted with probability min(1, exp(-dH/T)), where dH is the change of the energy ``H = p^2/2 - log density(x)`` in
BAB, and T is the temperature. If it is rejected, the chain returns to the state before BAB, and the momentum is
reversed. The letters between the braces are a palindrome of A and B, so that their flow preserves volume and is
reversible. Only O, which preserves the distribution with density exp(-H/T), may stand outside.

References
----------
Horowitz 1991, Phys. Lett. B 268, 247 (Metropolis test with partial refreshment of the momenta).
Duane, Kennedy, Pendleton & Roweth 1987, Phys. Lett. B 195, 216 (full refreshment).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import reduce
from itertools import pairwise

from uldnum._util.typing import Array
from uldnum.schemes.stage import Affine, Stage, Step, first_row, table
from uldnum.schemes.words import FLOWS

__all__ = ["BRACES", "check_fractions", "compile_braces", "described_braces", "hmc", "letters_of", "parts_of"]

BRACES = "{}"


def letters_of(word: str) -> str:
    """Return a word without its braces."""
    return word.translate(dict.fromkeys(map(ord, BRACES)))


def parts_of(word: str) -> tuple[str, str, str]:
    """Return the letters before, between and after the braces of a word, or raise if a test cannot correct them."""
    match = re.fullmatch(r"([^{}]*)\{([^{}]*)\}([^{}]*)", word)
    if match is None:
        raise ValueError(f"word: {word!r} must have one pair of braces, as in 'O {{BAB}} O'")
    before, inside, after = match.groups()
    if set(inside) != {"A", "B"} or inside != inside[::-1]:
        raise ValueError(
            f"word: {word!r} must have a palindrome of A and B between the braces, such as BAB, so that the step is "
            f"reversible, got {inside!r}"
        )
    wrong = sorted(set(before + after) - {"O"})
    if wrong:
        raise ValueError(
            f"word: {word!r} has {', '.join(wrong)} outside the braces, where only O may stand, because a Metropolis "
            "test corrects only the letters between the braces"
        )
    return before, inside, after


def check_fractions(word: str, fractions: Sequence[float]) -> None:
    """Raise unless the fractions between the braces of a word are a palindrome; there are none for braces."""
    before, inside, _ = parts_of(word)
    own = list(fractions[len(before) : len(before) + len(inside)])
    if own != own[::-1]:
        raise ValueError(f"fractions: must be a palindrome between the braces of {word!r}, got {own}")


def described_braces(word: str) -> str:
    """Describe a word with braces by the letters that are tested, and its score evaluations per step."""
    _, inside, _ = parts_of(word)
    count = len(starts_of(inside)) - 1
    return (
        f"with a Metropolis test of {inside}; stationary distribution exact, "
        f"{count} score evaluation{'s' if count > 1 else ''} per step"
    )


def starts_of(letters: str) -> list[int]:
    """Return the index of each letter that starts a stage of a proposal; the first stage starts at 0.

    Another stage starts at each B that needs a new score. If the last letter is A, the last stage is empty: it
    evaluates the density at the proposed position.
    """
    starts, moved = [0], False
    for i, letter in enumerate(letters):
        if letter == "B" and moved:
            starts.append(i)
        moved = letter == "A"
    return [*starts, len(letters)] if moved else starts


def proposal(letters: str, fractions: Sequence[float], h: Array, friction: Array) -> tuple[Stage, ...]:
    """Return the stages of a proposal, given its letters A and B and their durations in units of h."""
    flows = [FLOWS[letter](fraction * h, friction) for letter, fraction in zip(letters, fractions, strict=True)]
    nothing, starts = Affine.identity(h, 2), starts_of(letters)
    maps = (reduce(Affine.then, flows[start:stop], nothing) for start, stop in pairwise([*starts, len(letters)]))
    return tuple(Stage(first_row(map.b), map) for map in maps)


def compile_braces(word: str, fractions: Sequence[float], h: Array, friction: Array) -> Step:
    """Compile a word with braces to a step with a Metropolis test, with the letters O of neighbouring steps merged."""
    before, inside, _ = parts_of(word)
    begin, end = len(before), len(before) + len(inside)

    def outside(shares: Sequence[float]) -> Affine:
        return reduce(Affine.then, (FLOWS["O"](share * h, friction) for share in shares), Affine.identity(h, 2))

    stages = proposal(inside, fractions[begin:end], h, friction)
    return Step.metropolis(stages, outside(fractions[:begin]), outside(fractions[end:]))


def hmc(h: Array, friction: Array, steps: float = 1.0) -> Step:
    """Return the step p <- xi, a number of leapfrog steps BAB of size h, and a Metropolis test.

    With steps = 1 it is MALA: x' = x + (h^2/2) s + h xi is accepted with the probability of Metropolis and Hastings,
    because the kinetic energies before and after the leapfrog step are, up to a constant, minus the log densities of
    the proposals.
    """
    n = int(steps)
    refreshment = Affine(table(h, [[0, 0], [0, -1]]), table(h, [0, 0]), table(h, [[0], [1]]))
    return Step.metropolis(proposal("BAB" * n, [0.5, 1.0, 0.5] * n, h, friction), refreshment, Affine.identity(h, 2))

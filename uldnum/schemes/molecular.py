"""Integrators of molecular dynamics that are not products of exact flows, as coefficient tables.

The notation is that of `uldnum.schemes.catalogue`: unit mass, ``g = gamma h``, and s and s' for the scores at the
start and at the end of a step. In each of these schemes, two consecutive steps share a score evaluation, at the
position where one ends and the next one starts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np

from uldnum._util.typing import Array
from uldnum.arithmetic.elementary import expm1
from uldnum.schemes.stage import Affine, Stage, Step, first_row, table
from uldnum.schemes.words import drift, kick

__all__ = ["GJ", "brunger_brooks_karplus", "ciccotti_21", "ciccotti_23", "gronbech_jensen"]


def brunger_brooks_karplus(h: Array, friction: Array) -> Step:
    """Return the step v = p + (h/2)(s - gamma p) + r xi, x' = x + h v, p' = v + (h/2)(s' - gamma p') + r xi'.

    Here ``r = sqrt(gamma h/2)``. The normal xi' of the closing half kick is also that of the opening half kick of the
    next step. With independent normals it is another scheme.
    """
    half = friction * h / 2
    damped, r = 1 / (1 + half), np.sqrt(half)
    close = Affine(
        table(h, [[0, 0], [0, -half * damped]]), table(h, [0, damped * h / 2]), table(h, [[0], [damped * r]])
    )
    slow = (1 - half) * damped
    # v of the next step is (1 - g/2) p' + (h/2) s' + r xi', and x moves by h v.
    kicked, noise = (1 + slow) * h / 2, (1 + slow) * r
    whole = Affine(
        table(h, [[0, h * slow], [0, -2 * half * damped]]),
        table(h, [h * kicked, kicked]),
        table(h, [[h * noise], [noise]]),
    )
    begin = Affine(table(h, [[0, h * (1 - half)], [0, -half]]), table(h, [h * h / 2, h / 2]), table(h, [[h * r], [r]]))
    return Step((Stage(first_row(whole.b), whole),), begin, close, open_uses_score=True)


# c3 as a function of g for the members of the set. c2 is 1 - g c3.
GJ: dict[str, Callable[[Array], Array]] = {
    "I": lambda g: 1 / (1 + g / 2),
    "II": lambda g: -expm1(-g) / g,
    "III": lambda g: 1 + 0 * g,
    "IV": lambda g: np.square(2 / (1 + np.sqrt(1 + 4 * g))),
    "V": lambda g: 1 / (1 + g),
    "VI": lambda g: (1 + g / 4) / np.square(1 + g / 2),
    "VIII": lambda g: 2 / (1 + g + np.sqrt(1 + np.square(g))),
}


def gronbech_jensen(h: Array, friction: Array, member: str) -> Step:
    """Return the step of BAOAB with the times of A and B scaled by ``sqrt(c3/c1)``, and c2 instead of ``exp(-g)`` in O.

    The member of the set defines c2, which tends to 1 - g for small g; ``c1 = (1 + c2)/2`` and ``c3 = (1 - c2)/g``.
    The half-step velocity ``(x' - x)/(sqrt(c3) h)`` has the exact variance on a Gaussian, whereas p has not.
    """
    g = friction * h
    c3 = GJ[member](g)
    lost = g * c3  # 1 - c2
    t = h * np.sqrt(c3 / (1 - lost / 2)) / 2
    thermostat = Affine(table(h, [[0, 0], [0, -lost]]), table(h, [0, 0]), table(h, [[0], [np.sqrt(lost * (2 - lost))]]))
    B, A = kick(t, friction), drift(t, friction)
    return Step.inside_stage((), B, reduce(Affine.then, (B, A, thermostat, A)), open_uses_score=True)


def ciccotti_21(h: Array, friction: Array) -> Step:
    """Return the step x' = x + h p + a, p' = p + (h/2)(s + s') - g p + r xi - gamma a.

    Here ``a = (h^2/2)(s - gamma p) + h r (xi/2 + eta/(2 sqrt 3))`` and ``r = sqrt(2 g)``.
    """
    g = friction * h
    r, third = np.sqrt(2 * g), np.sqrt(1 / (3 + 0 * h)) / 2
    after = Affine(
        table(h, [[0, h * (1 - g / 2)], [0, -g * (1 - g / 2)]]),
        table(h, [h * h / 2, h / 2 * (1 - g)]),
        table(h, [[h * r / 2, h * r * third], [r * (1 - g / 2), -g * r * third]]),
    )
    return Step.inside_stage((), kick(h / 2, friction), after, open_uses_score=True)


def ciccotti_23(h: Array, friction: Array) -> Step:
    """Return the step v = H(p, s), x' = x + h v + h r eta/(2 sqrt 3), p' = H(v, s'), with r = sqrt(2 g).

    Here ``H(p, s) = p + (1 - g/4)(h/2)(s - gamma p) + r (1/2 - g/8) xi - r g eta/(4 sqrt 3)``. Both half steps use the
    same normals.
    """
    g = friction * h
    r, third = np.sqrt(2 * g), np.sqrt(1 / (3 + 0 * h)) / 2
    lost, kicked = g / 2 * (1 - g / 4), h / 2 * (1 - g / 4)
    kept, xi, eta = 1 - lost, r * (1 - g / 4) / 2, -r * g * third / 2
    after = Affine(
        table(h, [[0, h * kept], [0, -lost * (1 + kept)]]),
        table(h, [h * kicked, kept * kicked]),
        table(h, [[h * xi, h * (eta + r * third)], [(1 + kept) * xi, (1 + kept) * eta]]),
    )
    return Step.inside_stage((), kick(kicked, friction), after, open_uses_score=True)

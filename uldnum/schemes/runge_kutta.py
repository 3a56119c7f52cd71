"""Stochastic Runge-Kutta schemes for Langevin equations, as coefficient tables.

The schemes of Foster and co-workers use integrals of the Brownian path W of a step. With ``w = W(h)`` and three
independent standard normals, ``w = h^{1/2} xi_1``, the space-time Levy area is ``H = (h/12)^{1/2} xi_2``, and the
space-time-time Levy area is ``K = (h/720)^{1/2} xi_3``. H is the mean of ``W(t) - (t/h) w`` over the step, and K is the
mean of ``(1/2 - t/h) (W(t) - (t/h) w)``. In the formulas, s(y) is the score, ``r = (2 gamma)^{1/2}``, and

    c_t = e^{-gamma t}    a_t = (1 - c_t)/gamma    b_t = (gamma t - 1 + c_t)/(gamma^2 h)

are the weights of p, of a constant noise and of a constant score over a time t.

References
----------
Foster, Lyons & Oberhauser 2021, The shifted ODE method for underdamped Langevin MCMC, arXiv:2101.03446.
Scott, O'Kane, Jelincic & Foster 2025, Underdamped Langevin MCMC with third order convergence, arXiv:2508.16485.
Li, Wu, Mackey & Erdogdu 2019, Stochastic Runge-Kutta accelerates Langevin Monte Carlo and beyond, NeurIPS.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from uldnum._util.typing import Array
from uldnum.arithmetic.elementary import expm1, tanh
from uldnum.schemes.stage import Affine, Stage, Step, first_row, table, triangular
from uldnum.schemes.words import frozen_score, kick, tanh_gap, tanh_second_gap

__all__ = ["align", "quicsort", "should", "srk"]

# Change of three rows that sets row 2 to zero.
EMPTY = [[0, 0, 0], [0, 0, 0], [0, 0, -1]]


class Weights(NamedTuple):
    """Weights of a time t within a step of size h.

    Attributes
    ----------
    lost : array
        c_t - 1.
    a, b : array
        a_t and b_t.
    """

    lost: Array
    a: Array
    b: Array


def weights(t: Array, h: Array, friction: Array) -> Weights:
    """Return the weights of a time t within a step of size h."""
    held = frozen_score(t, friction)
    return Weights(held.dA[..., 1, 1], held.dA[..., 0, 1], held.b[..., 0] / h)


def path(h: Array, friction: Array) -> tuple[Array, Array, Array]:
    """Return r w, r H and r K, each as the coefficients of the three normals in a last axis."""
    r = np.sqrt(2 * friction * h)
    scales = r, r / np.sqrt(12 + 0 * h), r / np.sqrt(720 + 0 * h)
    w, area, second = (table(h, [scale if i == j else 0 for j in range(3)]) for i, scale in enumerate(scales))
    return w, area, second


def levy_areas(h: Array, friction: Array) -> tuple[Array, Array]:
    """Return the weights of H and K in x.

    With ``g = gamma h`` and ``c = e^{-g}`` they are ``6 (c (g + 2) + g - 2)/(g^2 gamma)`` and
    ``60 (c (g^2 + 6 g + 12) - g^2 + 6 g - 12)/(g^3 gamma)``. They are written in terms of tanh(g/2), so that nothing
    cancels. The weights in p are those in x times -gamma.
    """
    g = friction * h
    unit = (1 + tanh(g / 2)) * np.square(g) * friction
    return 24 * tanh_gap(g / 2) / unit, -480 * tanh_second_gap(g / 2) / (g * unit)


def align(h: Array, friction: Array) -> Step:
    """Return the step x' = x + a p + b h s + r (b w + e H), p' = c p + (a - b) s + b s' + r (a w/h - gamma e H).

    The weights c, a and b are those of the whole step, and e is the weight of H.
    """
    one, (e, _) = weights(h, h, friction), levy_areas(h, friction)
    w, area, _ = path(h, friction)
    x = scaled(one.b, w) + scaled(e, area)
    p = scaled(one.a / h, w) - scaled(friction * e, area)
    after = Affine(
        table(h, [[0, one.a], [0, one.lost]]), table(h, [one.b * h, one.a - one.b]), np.stack([x, p], axis=-2)[..., :2]
    )
    return Step.inside_stage((), kick(one.b, friction), after, open_uses_score=True)


def should(h: Array, friction: Array) -> Step:
    """Return a step of ShOULD, with the scores s at x, s_y at y and s' at x'.

    The formulas are ``y = x + a_{h/2} (p + r (H + 6 K)) + b_{h/2} (h s + r (w - 12 K))``,
    ``x' = x + a p + b h (s + 2 s_y)/3 + r (b w + e H + e' K)`` and
    ``p' = c p + (h/6) (c s + 4 c_{h/2} s_y + s') + r (a w/h - gamma (e H + e' K))``. Here e and e' are the weights of H
    and K. Row 2 holds y minus the part of x' without s_y, and is zero at the end of a step.
    """
    one, half = weights(h, h, friction), weights(h / 2, h, friction)
    areas = levy_areas(h, friction)
    w, first, second = path(h, friction)
    both = scaled(areas[0], first) + scaled(areas[1], second)
    x = scaled(one.b, w) + both
    p = scaled(one.a / h, w) - scaled(friction, both)
    y = scaled(half.a, first + 6 * second) + scaled(half.b, w - 12 * second)
    after = Affine(
        table(h, [[0, one.a, 0], [0, one.lost, 0], [0, half.a - one.a, -1]]),
        table(h, [one.b * h / 3, (1 + one.lost) * h / 6, h * (half.b - one.b / 3)]),
        np.stack([x, p, y - x], axis=-2),
    )
    kicked = table(h, [2 * one.b * h / 3, 2 * (1 + half.lost) * h / 3, 0])
    middle = Affine(table(h, EMPTY), kicked, after.C[..., :0])
    return Step.inside_stage((Stage(table(h, [1, 0, 1]), middle),), ending(h, 0 * h, h / 6), after, True)


def quicsort(h: Array, friction: Array) -> Step:
    """Return a step of QUICSORT, with two scores s_l and s_r at y_l and y_r, where l and r are (3 -+ sqrt 3) h/6.

    The formulas are ``y_l = x + a_l v + b_l k``, ``y_r = x + a_r v + b_r k + a_{h/3} h s_l``,
    ``x' = x + a v + b k + (h/2) (a_r s_l + a_l s_r)`` and
    ``p' = c v + a k/h - r (H - 6 K) + (h/2) (c_r s_l + c_l s_r)``, with ``v = p + r (H + 6 K)`` and
    ``k = r (w - 12 K)``. Row 2 holds the normal in y_l until s_l is known, and then the difference of y_r from
    the part of x' without s_r. It is zero at the end of a step.
    """
    apart = np.sqrt(3 + 0 * h) / 6
    left, right = (weights((0.5 + sign * apart) * h, h, friction) for sign in (-1, 1))
    one, third = weights(h, h, friction), -expm1(-friction * h / 3) / friction
    w, first, second = path(h, friction)
    v, k = first + 6 * second, w - 12 * second
    noise = [scaled(part.a, v) + scaled(part.b, k) for part in (left, one, right)]
    p = scaled(1 + one.lost, v) + scaled(one.a / h, k) - (first - 6 * second)
    # The rows are those of y_l, x', p' and y_r - x'. The first normal is the one in y_l.
    factor, _ = triangular(np.stack([noise[0], noise[1], p, noise[2] - noise[1]], axis=-2))
    turn = table(h, [[0, one.a], [0, one.lost], [0, right.a - one.a]])
    moves = np.concatenate([turn, (factor[..., 1:, 0] - table(h, [0, 0, 1]))[..., None]], axis=-1)
    kicked = table(h, [h * right.a / 2, h * (1 + right.lost) / 2, third * h - h * right.a / 2])
    middle = Affine(moves, kicked, factor[..., 1:, 1:])
    drawn = Affine(table(h, EMPTY), table(h, [0, 0, 0]), table(h, [[0], [0], [1]]))
    G = np.stack([1 + 0 * h, left.a, factor[..., 0, 0]], axis=-1)
    last = ending(h, h * left.a / 2, h * (1 + left.lost) / 2)
    step = Step.inside_stage((Stage(G, middle),), last, drawn, open_uses_score=False)
    first_stage, last_stage = step.stages
    return replace(step, stages=(first_stage, replace(last_stage, G=table(h, [1, 0, 1]))))


def srk(h: Array, friction: Array) -> Step:
    """Return the step x' = x + (delta/2) (s(y) + s(z)) + h xi, with delta = h^2/2.

    Here ``y = x + h ((1/2 + 1/sqrt 6) xi + eta/sqrt 12)`` and
    ``z = x + delta s(x) + h ((1/2 - 1/sqrt 6) xi + eta/sqrt 12)``. Rows 1 and 2 hold the differences of y and z from
    the value of x at which their scores are evaluated; they are zero at the end of a step.
    """
    delta, root, side = np.square(h) / 2, h / np.sqrt(6 + 0 * h), h / np.sqrt(12 + 0 * h)
    noise = table(h, [[h, 0], [root - h / 2, side], [-root - h / 2, side]])
    drawn = Affine(table(h, [[0, 0, 0], [0, -1, 0], [0, 0, -1]]), table(h, [0, 0, delta]), noise)
    first = Affine(table(h, [[0, 0, 0]] * 3), table(h, [delta / 2, 0, -delta / 2]), table(h, [[], [], []]))
    second = Affine(drawn.dA, table(h, [delta / 2, 0, 0]), first.C)
    stages = Stage(first_row(drawn.b), drawn), Stage(table(h, [1, 1, 0]), first), Stage(table(h, [1, 0, 1]), second)
    return Step(stages, Affine.identity(h, 3), second)


def scaled(weight: Array, noise: Array) -> Array:
    """Return the coefficients of a weight times a noise."""
    return np.asarray(weight)[..., None] * noise


def ending(h: Array, x: Array, p: Array) -> Affine:
    """Return the map that adds ``x s`` to row 0 and ``p s`` to row 1, and sets row 2 to zero."""
    return Affine(table(h, EMPTY), table(h, [x, p, 0]), table(h, [[], [], []]))

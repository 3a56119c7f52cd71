"""The smallest step size at which a scheme becomes unstable on a Gaussian target.

The stability margins of the scheme (`uldnum.exact.linear.Linear.margins`) are computed in float64 at increasing step
sizes. Fifty digits are used where float64 cannot decide. At low friction a margin can be as small as the product of
friction and step size. Close to a resonance, where a margin is small only on a short interval, it can be as small as
the square of that product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from uldnum._util.typing import Array, ArrayLike
from uldnum.exact.linear import RESOLVED, LinearStep, determinant, linear_step, positive_margins
from uldnum.exact.precise import lift
from uldnum.schemes.catalogue import Integrator

__all__ = ["first_instability", "precise_step", "unstable"]

# Where friction damps the effect of the score on x to less than this fraction, rounding errors in the tables exceed
# that effect. The first number holds in float64, the second with fifty digits.
LOST, LOST_PRECISELY = 1e-12, 1e-40
# A margin that is larger than this at all of several finely spaced step sizes has no zero between them.
SAFE = 1e-8
# Number of points at which an interval that float64 cannot resolve is checked with fifty digits.
CHECKS = 32


def precise_step(
    scheme: Integrator, h: Array, friction: Array, precision: Array, noise: ArrayLike = 0.0
) -> LinearStep | None:
    """Return time steps with fifty digits, or None if a user-defined recipe does not support such numbers.

    ``noise`` is the score noise at each point, in addition to that of the scheme.
    """
    try:
        size = lift(h)
        step = scheme.adjusted(scheme.recipe(size, lift(friction)), size).with_score_noise(np.asarray(noise))
        return linear_step(step, lift(precision))
    except (ArithmeticError, AttributeError, TypeError, ValueError):
        return None


def force_is_lost(step: LinearStep, h: Array, precision: Array | float, tiny: float) -> Array:
    """Return whether friction damps the momentum, and the effect of the score on x, to less than a fraction ``tiny``.

    Let M be the matrix of a time step. Some schemes, such as the word OAB, apply the thermostat between a kick and the
    next move of x. For these, ``det(I - M)`` is proportional to ``e^(-friction h)``. For other schemes the determinant
    is of the order of ``precision h^2``. It is computed from the rounded entries of M - I, so rounding errors determine
    its sign where it is too small.
    """
    D = step.cycle.D
    if D.shape[-1] != 2:
        return np.zeros(D.shape[:-2], bool)
    with np.errstate(all="ignore"):
        forgotten = np.abs(determinant(np.eye(2) + D, -1)) < tiny
        return np.asarray(forgotten & (np.abs(determinant(D, -1)) < tiny * precision * h * h), bool)


@dataclass(frozen=True)
class Family:
    """The time steps of a scheme on N(0, 1/precision), as a function of the step size."""

    scheme: Integrator
    precision: float
    friction: float

    def margins(self, h: Array) -> Array:
        """Return the stability margins at each step size in float64, shape (len(h), 3)."""
        with np.errstate(all="ignore"):
            step = linear_step(self.scheme.stages(h, friction=self.friction), np.full(len(h), self.precision))
            lost = force_is_lost(step, h, self.precision, LOST)
        return np.where(lost[:, None], 0, step.cycle.margins)

    def precise_margins(self, h: Array) -> Array:
        """Return the stability margins with fifty digits, or in float64 if the recipe does not support such numbers.

        A step in which friction damps the effect of the score on x below the rounding error counts as stable, because
        its margin decreases as ``e^(-friction h)`` and has no zero.
        """
        step = precise_step(self.scheme, h, np.full(len(h), self.friction), np.full(len(h), self.precision))
        if step is None:
            return self.margins(h.astype(float))
        lost = force_is_lost(step, h, self.precision, LOST_PRECISELY)
        return np.where(lost[:, None], lift(np.ones(1)), step.cycle.margins)

    def stable(self, h: Array) -> Array:
        """Return whether each step size is stable, that is whether all its `precise_margins` are positive."""
        return positive_margins(self.precise_margins(h))


def first_instability(scheme: Integrator, precision: float, friction: float, below: float = np.inf) -> float:
    """Return the step size up to which a scheme is stable on N(0, 1/precision), at most ``below``.

    Parameters
    ----------
    scheme : Integrator
        The integrator.
    precision : float
        Inverse variance of the target.
    friction : float
        Friction in units of 1/time.
    below : float, default infinity
        Upper end of the search.

    Returns
    -------
    float
        Step size with a relative accuracy of 1e-12. It is ``below`` if no instability is found, and 0 if the smallest
        step size of the search is unstable.
    """
    if not below:
        return 0.0
    family = Family(scheme, precision, friction)
    h, margins = scan(family, below)
    unstable = np.flatnonzero((margins < -RESOLVED).any(axis=-1))
    end = int(unstable[0]) if len(unstable) else len(h)
    bracket = (float(h[end - 1]), float(h[end])) if 0 < end < len(h) else None
    if end == 0 or not family.stable(h[:1])[0]:
        return 0.0
    for low, high in (*unresolved(family, h[:end], margins[:end]), *resonances(family, h, margins, end)):
        if bracket is None or low < bracket[0]:
            bracket = low, high
    if bracket is None:
        return below
    low, high = narrowed(family, *bracket)
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if family.stable(np.array([middle]))[0] else (low, middle)
    return low


def unstable(scheme: Integrator, h: Array, precision: float, friction: float) -> Array:
    """Return whether step sizes, shape (H,), are unstable or exactly at the limit of stability on N(0, 1/precision).

    A step size that needs fifty digits counts as stable if a user-defined recipe does not support such numbers. With a
    Metropolis test, every step size is stable.
    """
    if scheme.metropolised:
        return np.zeros(len(h), bool)
    family = Family(scheme, precision, friction)
    margins = family.margins(h)
    found = np.asarray((margins < -RESOLVED).any(axis=-1))
    doubtful = ~(found | (margins > RESOLVED).all(axis=-1))
    if doubtful.any():
        precise = family.precise_margins(h[doubtful])
        found[doubtful] = ~positive_margins(precise) if precise.dtype == object else False
    return found


def narrowed(family: Family, low: float, high: float) -> tuple[float, float]:
    """Narrow an interval between a stable and an unstable step size as far as float64 can decide stability."""
    for _ in range(10):
        h = np.linspace(low, high, 17)
        margins = family.margins(h)
        doubtful = np.flatnonzero(~(margins > RESOLVED).all(axis=-1))
        unstable = np.flatnonzero((margins < -RESOLVED).any(axis=-1))
        if len(doubtful) and doubtful[0] > 0:
            low = float(h[doubtful[0] - 1])
        if len(unstable) and unstable[0] > 0:
            high = float(h[unstable[0]])
    return low, high


def scan(family: Family, below: float) -> tuple[Array, Array]:
    """Return ascending step sizes and their margins, at least up to the first that is unstable in float64."""
    unit = family.precision**-0.5
    damping = float(np.clip(family.friction * unit, 1e-100, 1e100))
    smallest = min(1e-3 * unit * min(1, damping, 1 / damping), below / 10)
    largest = min(1e4 * unit * max(1, damping), below)
    # A step of n score evaluations has up to n resonances at h < 2 n unit. The last two are about 2.5 unit/n apart.
    fine = min(0.01, 0.1 / family.scheme.nfe_per_step**2)
    decades = max(1, int(np.ceil(np.log10(largest / smallest))))
    steps: list[Array] = []
    margins: list[Array] = []
    for low, high in pairwise(np.geomspace(smallest, largest, decades + 1)):
        ratio = fine if high > unit / 10 else 0.01
        steps.append(np.geomspace(low, high, 1 + int(np.ceil(np.log(high / low) / ratio)))[bool(steps) :])
        margins.append(family.margins(steps[-1]))
        if np.any(margins[-1] < -RESOLVED) or np.any(np.isnan(margins[-1])):
            break
    return np.concatenate(steps), np.concatenate(margins)


def unresolved(family: Family, h: Array, margins: Array) -> Iterator[tuple[float, float]]:
    """Yield the first interval with an unstable upper end, among the step sizes at which float64 cannot decide."""
    doubtful = np.flatnonzero(~(margins > RESOLVED).all(axis=-1))
    runs = np.split(doubtful, np.flatnonzero(np.diff(doubtful) > 1) + 1)
    for run in (run for run in runs if len(run)):
        checked = run[np.unique(np.linspace(0, len(run) - 1, CHECKS).astype(int))]
        bad = np.flatnonzero(~family.stable(h[checked]))
        if len(bad):
            before = checked[bad[0] - 1] if bad[0] else checked[0] - 1
            yield float(h[before]), float(h[checked[bad[0]]])
            return


def resonances(family: Family, h: Array, margins: Array, end: int) -> Iterator[tuple[float, float]]:
    """Yield the first interval whose upper end is an unstable minimum of a margin.

    The minimum lies between two scanned step sizes, so that the scan alone does not find it.
    """
    with np.errstate(invalid="ignore"):
        left, middle, right = margins[:-2], margins[1:-1], margins[2:]
        bend = left - 2 * middle + right
        # The parabola through the three values has a zero only if the middle value is below an eighth of their second
        # difference. The condition used here is weaker by a factor of eight.
        low = (middle <= left) & (middle <= right) & (middle < bend) & (np.maximum(left, right) > RESOLVED)
    for row, column in np.argwhere(low):
        if row + 1 < end:
            found = lowest(family, h[row], h[row + 2], int(column))
            if found is not None:
                yield float(h[row]), found
                return


def lowest(family: Family, low: float, high: float, column: int) -> float | None:
    """Return the step size at the minimum of a margin in an interval if it is unstable there, else None."""
    for _ in range(3):
        h = np.linspace(low, high, 33)
        margins = family.margins(h)[:, column]
        i = int(np.clip(np.argmin(margins), 1, 31))
        low, high = h[i - 1], h[i + 1]
    if margins[i] < -RESOLVED:
        return float(h[i])
    if margins[i] > SAFE:
        return None
    # Move to the vertex of the parabola through three points, and repeat with closer points. Each iteration squares the
    # error.
    centre = lift(h[i : i + 1])
    for width in h[i] * np.array([1e-6, 1e-12, 1e-20]):
        a, b, c = family.precise_margins(np.concatenate([centre - width, centre, centre + width]))[:, column]
        if a - 2 * b + c > 0:
            centre = np.clip(centre + width / 2 * (a - c) / (a - 2 * b + c), low, high)
    return None if family.stable(centre)[0] else float(centre[0])

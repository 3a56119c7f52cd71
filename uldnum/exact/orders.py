"""Orders of convergence of an integrator, measured without sampling error."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from uldnum._util.typing import Array
from uldnum.exact._gaussian import propagator
from uldnum.exact.flow import overdamped_flow, underdamped_flow
from uldnum.exact.linear import Linear, affine, linear_stage
from uldnum.exact.transfer import transfer_operator
from uldnum.schemes.catalogue import Integrator
from uldnum.schemes.catalogue import integrator as find_integrator
from uldnum.targets.presets import bimodal_1d

__all__ = ["Orders", "measured_orders"]

# Precision and friction of the Gaussian on which the weak error after unit time is measured.
PRECISION, FRICTION = 1.3, 0.9
# Larger step size of each slope. The smaller one is half of it.
WEAK_H, STATIONARY_H = 1 / 16, 0.1
# Tolerances of the stationary distribution. A smaller one takes up to ten times as long, and few biases need it.
TOLERANCES = (1e-6, 1e-7, 1e-8)


class Orders(NamedTuple):
    """Orders of convergence of an integrator, as measured exponents of h.

    Attributes
    ----------
    weak : float
        Weak order: exponent of the error of the distribution after a fixed time.
    stationary : float
        Stationary order: exponent of the bias of the stationary distribution.

    See Also
    --------
    measured_orders : Function that returns this object.

    Examples
    --------
    >>> from uldnum.exact import measured_orders
    >>> round(measured_orders("OBABO").stationary, 1)
    2.0
    """

    weak: float
    stationary: float


def measured_orders(integrator: str | Integrator) -> Orders:
    """Measure the weak and the stationary order of an integrator as slopes between a step size and its half.

    Parameters
    ----------
    integrator : str or Integrator
        Name of an integrator or splitting word, or an `Integrator`.

    Returns
    -------
    Orders
        The exponents of h, which deviate slightly from integers because the step sizes are finite.

    Raises
    ------
    ValueError
        If the integrator is unknown.
    ConvergenceError
        If the stationary distribution cannot be resolved.

    Notes
    -----
    The weak error is that of the distribution after unit time on a Gaussian target, with ``open`` before the first step
    and ``close`` at the end of the last one. It is measured against both the underdamped and the overdamped Langevin
    equation, and the larger of the two orders is returned; it is 0 if the integrator approximates neither.

    The stationary error is the bias of E[x^2] on the mixture ``bimodal-1d``, since some schemes have no bias on a
    Gaussian. `transfer_operator` does not support schemes with more than two rows. Their stationary order is that of
    the bias on the density ``exp(-lambda x^2/2 - epsilon x^4/4)``, to first order in epsilon. The true order may be
    lower if the first order in epsilon does not contain the leading error, as for BAOAB.

    References
    ----------
    B. Leimkuhler, C. Matthews and G. Stoltz 2016, The computation of averages from equilibrium and nonequilibrium
    Langevin molecular dynamics, IMA J. Numer. Anal. 36, 13-79.

    Examples
    --------
    In powers of h, with ``delta = h^2/2``, ULA has order 2 in both senses:

    >>> from uldnum import exact
    >>> [round(order) for order in exact.measured_orders("ULA")]
    [2, 2]
    """
    # The orders are the same at every temperature. A noisy score would change them.
    scheme = affine(find_integrator(integrator)).at(temperature=1.0, score_noise=0.0)
    errors = [(underdamped_error(scheme, h), overdamped_error(scheme, h)) for h in (WEAK_H, WEAK_H / 2)]
    bias = stationary_bias if scheme.rows <= 2 else quartic_bias
    biases = [bias(scheme, h) for h in (STATIONARY_H, STATIONARY_H / 2)]
    return Orders(float(np.nanmax(slope(*np.array(errors)))), float(slope(*np.array(biases))))


def slope(coarse: Array, fine: Array) -> Array:
    """Return the exponent of an error, given the errors at a step size and at its half."""
    return np.log2(coarse / fine)


def underdamped_error(scheme: Integrator, h: float) -> float:
    """Return the largest error after unit time of M and Q, as in `propagator`; NaN for schemes with one row."""
    if scheme.rows == 1:
        return np.nan
    got = propagator(scheme, h, precision=PRECISION, friction=FRICTION, steps=round(1 / h))
    exact = underdamped_flow(1.0, PRECISION, FRICTION)
    return max(float(np.abs(a[:2, :2] - b).max()) for a, b in zip(got, exact, strict=True))


def overdamped_error(scheme: Integrator, h: float) -> float:
    """Return the largest error of the mean and the variance of x after unit time, from the initial N(2, 3)."""
    M, Q = propagator(scheme, h, precision=PRECISION, friction=FRICTION, steps=round(2 / h**2))
    start = np.diag([3.0] + [scheme.memory**2] * (scheme.rows - 1))
    flow, noise = overdamped_flow(1.0, PRECISION)
    return max(abs(2 * (M[0, 0] - flow)), abs((M @ start @ M.T + Q)[0, 0] - (3 * flow**2 + noise)))


def stationary_bias(scheme: Integrator, h: float) -> float:
    """Return the absolute bias of E[x^2] on the mixture, to a relative error of 1/50 or to the smallest tolerance."""
    target, bias = bimodal_1d(), np.nan
    for tolerance in TOLERANCES:
        law = transfer_operator(scheme, target, h, friction=FRICTION, tolerance=tolerance)
        bias = abs(law.expectation(np.square) - target.moment(2)[0])
        if bias > 50 * tolerance:
            break
    return bias


def quartic_bias(scheme: Integrator, h: float) -> float:
    """Return the largest bias of E[x^2] on the density exp(-lambda x^2/2 - epsilon x^4/4), to first order in epsilon.

    The biases are that at epsilon = 0, and the derivative of the bias with respect to epsilon. A stage with the score
    ``-lambda y - epsilon y^3`` changes u' by ``-epsilon b y^3``. In equilibrium at epsilon = 0, all y and u are jointly
    Gaussian, so that ``E[v y^3] = 3 Var(y) Cov(v, y)`` for every v (Stein's lemma). The derivative of the covariance of
    u therefore satisfies the Lyapunov equation of u, with these terms in place of the covariance of the noise.
    """
    step, precision = scheme.stages(h, friction=FRICTION), np.array(PRECISION)
    *others, last = step.stages
    stages = [last, *others]  # from before the last stage of a step to before that of the next one
    maps = [linear_stage(stage.map, stage.G, precision) for stage in stages]
    read = linear_stage(step.close, last.G, precision)
    eye = np.eye(step.rows)

    def response(b: Array, G: Array, before: Array, after: Array) -> Array:
        """Return the derivative of the covariance of v = after u, where b and G are those of the stage before v."""
        moved = np.outer(b, after @ before @ G)
        return -3 * (G @ before @ G) * (moved + moved.T)

    cycle = maps[0]
    for one in maps[1:]:
        cycle = cycle.then(one)
    now = start = cycle.stationary()
    change = np.zeros_like(eye)
    for i, (stage, one) in enumerate(zip(stages, maps, strict=True)):
        rest = eye  # from after this stage to the end of the cycle
        for other in maps[i + 1 :]:
            rest = rest + other.D @ rest
        change = change + response(rest @ stage.map.b, stage.G, now, rest @ (eye + one.D))
        now = one.push(now)
    derivative = Linear(cycle.D, change, cycle.terms).stationary()
    matrix = eye + read.D
    found = matrix @ derivative @ matrix.T + response(step.close.b, last.G, start, matrix)
    biases = read.push(start)[0, 0] - 1 / PRECISION, found[0, 0] + 3 / PRECISION**3
    return float(max(abs(bias) for bias in biases))

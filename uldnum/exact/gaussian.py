"""The exact law of any integrator on a Gaussian target.

For the target N(0, 1/lambda) the score is ``-lambda y``, so a stage is a linear map ``M = I + dA - lambda b G`` with
noise covariance ``C C^T``. The stationary covariance solves a discrete Lyapunov equation; the law after n steps is a
product of such maps. The same tables drive the kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from uldnum.integrators import Integrator, integrator, positive, step_size
from uldnum.stage import Affine, Step, first_row
from uldnum.typing import Array, ArrayLike

__all__ = ["GaussianLaw", "gaussian", "max_stable_h", "propagator"]


@dataclass(frozen=True)
class Linear:
    """The random map ``u -> u + D u + noise`` with noise covariance Q; arrays of shape (..., k, k).

    It holds D = M - I, as the tables do: at small steps M is the identity to rounding, and the law would be lost.
    """

    D: Array
    Q: Array

    def then(self, after: Linear) -> Linear:
        """First this map, then ``after``, with independent noise."""
        return Linear(self.D + after.D + after.D @ self.D, after.push(self.Q))

    def push(self, covariance: Array) -> Array:
        """Covariance after the map, given the covariance before it."""
        moved = self.D @ covariance
        return covariance + moved + moved.swapaxes(-1, -2) + moved @ self.D.swapaxes(-1, -2) + self.Q

    def stationary(self) -> Array:
        """Solve ``D S + S D^T + D S D^T + Q = 0``, for each leading index; NaN where the map is not stable."""
        k = self.D.shape[-1]
        stable = self.stable()[..., None, None]
        D, eye = np.where(stable, self.D, -np.eye(k)), np.eye(k)
        kron = sum(np.einsum("...ij,...kl->...ikjl", *pair) for pair in ((D, eye), (eye, D), (D, D)))
        system = np.reshape(kron, (*D.shape[:-2], k * k, k * k))
        solution = np.linalg.solve(-system, self.Q.reshape(*self.Q.shape[:-2], k * k, 1)).reshape(self.Q.shape)
        return np.where(stable, solution, np.nan)

    def eigenvalues(self) -> Array:
        """Eigenvalues of D; infinite where D is."""
        finite = np.asarray(np.isfinite(self.D).all(axis=(-1, -2)))[..., None]
        return np.where(finite, np.linalg.eigvals(np.where(finite[..., None], self.D, 0)), np.inf)

    def stable(self) -> Array:
        """Whether every eigenvalue 1 + e of M has modulus below 1: 2 Re e + |e|^2 < 0, beyond rounding."""
        e = self.eigenvalues()
        return np.asarray((2 * e.real + np.abs(e) ** 2 < -1e-12 * np.abs(e) ** 2).all(axis=-1))

    def spectral_radius(self) -> Array:
        """Largest modulus of an eigenvalue of M."""
        return np.asarray(np.abs(1 + self.eigenvalues()).max(axis=-1))


@dataclass(frozen=True)
class GaussianLaw:
    """The stationary law of an integrator on N(0, 1/lambda), at the end of a time step.

    All arrays have the common shape of h, precision and friction. Covariances are NaN where the scheme is unstable.

    Attributes
    ----------
    position_covariance : array
        Var(x).
    momentum_covariance : array
        Var(p), of whatever the scheme keeps in its second row; NaN for schemes that keep nothing.
    cross_covariance : array
        Cov(x, p).
    spectral_radius : array
        Largest modulus of an eigenvalue of one time step; the scheme is stable below 1, and forgets at this rate.
    """

    position_covariance: Array
    momentum_covariance: Array
    cross_covariance: Array
    spectral_radius: Array


def linear_stage(map: Affine, G: Array, precision: Array) -> Linear:
    """Put the score ``-lambda G u`` into an affine map."""
    kick = precision[..., None, None] * map.b[..., :, None] * G[..., None, :]
    return Linear(map.dA - kick, map.C @ map.C.swapaxes(-1, -2))


def linear_step(step: Step, precision: Array) -> tuple[Linear, Linear, Linear, Linear]:
    """Return open, the stages before the last, the last stage and close, as linear maps."""
    enter = linear_stage(step.open, first_row(step.open.b), precision)
    stages = [linear_stage(stage.map, stage.G, precision) for stage in step.stages]
    nothing = linear_stage(Affine.identity(precision, step.rows), first_row(step.open.b), precision)
    read = linear_stage(step.close, step.stages[-1].G, precision)
    return enter, reduce(Linear.then, stages[:-1], nothing), stages[-1], read


def tables(
    name: str | Integrator, h: ArrayLike | None, delta: ArrayLike | None, precision: ArrayLike, friction: ArrayLike
) -> tuple[Step, Array]:
    """Return the tables of the integrator and the precision, with the same leading axes."""
    parts = step_size(h, delta), positive("precision", precision), positive("friction", friction)
    h, precision, friction = np.broadcast_arrays(*parts)
    return integrator(name).stages(h, friction=friction), precision


def gaussian(
    name: str | Integrator,
    h: ArrayLike | None = None,
    *,
    delta: ArrayLike | None = None,
    precision: ArrayLike = 1.0,
    friction: ArrayLike = 1.0,
) -> GaussianLaw:
    """Return the exact stationary law of an integrator on the Gaussian N(0, 1/precision).

    Parameters
    ----------
    name : str or Integrator
        The integrator.
    h : float or array
        Step size.
    delta : float or array
        The step size as ``h^2/2`` instead.
    precision : float or array
        lambda, the reciprocal of the target's variance; an array is many one-dimensional targets, not a matrix.
    friction : float or array
        Friction. It broadcasts against the step size and the precision.

    Returns
    -------
    GaussianLaw
        Arrays of the broadcast shape.

    Raises
    ------
    ValueError
        If an argument is not positive and finite, there is no such integrator, or both or neither of h and delta are
        given.
    """
    step, precision = tables(name, h, delta, precision, friction)
    _, first, last, read = linear_step(step, precision)
    cycle = last.then(first)  # from just before the last stage, where the state is read, once round
    covariance = read.push(cycle.stationary())
    unread = np.full(precision.shape, np.nan)
    return GaussianLaw(
        position_covariance=covariance[..., 0, 0],
        momentum_covariance=covariance[..., 1, 1] if step.rows > 1 else unread,
        cross_covariance=covariance[..., 0, 1] if step.rows > 1 else unread,
        spectral_radius=cycle.spectral_radius(),
    )


def max_stable_h(name: str | Integrator, *, precision: ArrayLike = 1.0, friction: float = 1.0) -> float:
    """Return the largest step size up to which an integrator is stable on a Gaussian.

    Parameters
    ----------
    name : str or Integrator
        The integrator.
    precision : float or array
        lambda, the reciprocal variances of the target; all must be stable.
    friction : float
        Friction.

    Returns
    -------
    float
        Relative accuracy 1e-12; infinity if the scheme is stable at every step tried, up to 1e4/sqrt(lambda).
    """
    stiff = np.ravel(positive("precision", precision))
    unit = 1 / np.sqrt(stiff.max())

    def stable(h: ArrayLike) -> Array:
        law = gaussian(name, np.ravel(h)[:, None], precision=stiff, friction=friction)
        return np.asarray(np.isfinite(law.position_covariance).all(axis=-1))

    steps = unit * np.geomspace(1e-3, 1e4, 2000)
    if stable(steps).all():
        return float("inf")
    first = int(np.argmin(stable(steps)))
    low, high = (0.0 if first == 0 else steps[first - 1]), steps[first]
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if stable(middle)[0] else (low, middle)
    return float(low)


def propagator(
    name: str | Integrator,
    h: ArrayLike | None = None,
    *,
    delta: ArrayLike | None = None,
    precision: ArrayLike = 1.0,
    friction: ArrayLike = 1.0,
    steps: int = 1,
) -> tuple[Array, Array]:
    """Return M and Q of a run of ``steps`` time steps, from its ``open`` to its ``close``.

    The state (x, p) at the end of the run, given that at its start, is Gaussian with mean ``M (x, p)`` and covariance
    Q. Parameters as for `gaussian`.

    Returns
    -------
    M, Q : arrays, shape (..., k, k)
    """
    step, precision = tables(name, h, delta, precision, friction)
    enter, first, last, read = linear_step(step, precision)
    whole = reduce(Linear.then, [last.then(first)] * (steps - 1), enter.then(first)).then(read)
    return np.eye(step.rows) + whole.D, whole.Q

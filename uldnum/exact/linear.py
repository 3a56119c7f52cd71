"""A scheme on a Gaussian target: its stages as linear maps with Gaussian noise.

On N(0, 1/lambda) the score is ``-lambda y``, so a stage is a linear map ``M = I + dA - lambda b G`` with noise
covariance ``C C^T``. All arrays may carry leading axes, and may hold float64 or the numbers of `uldnum.exact.precise`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np

from uldnum.exact import precise
from uldnum.stage import Affine, Step, first_row
from uldnum.typing import Array

__all__ = ["Linear", "LinearStep", "kron", "linear_step"]


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

    def power(self, n: int) -> Linear:
        """Return n of these maps in turn, n >= 1, by repeated squaring."""
        if n == 1:
            return self
        half = self.power(n // 2)
        return half.then(half).then(self) if n % 2 else half.then(half)

    def push(self, covariance: Array) -> Array:
        """Covariance after the map, given the covariance before it."""
        moved = self.D @ covariance
        return covariance + moved + moved.swapaxes(-1, -2) + moved @ self.D.swapaxes(-1, -2) + self.Q

    def stationary(self) -> Array:
        """Solve ``D S + S D^T + D S D^T + Q = 0``, for each leading index; NaN where the map is not stable."""
        k = self.D.shape[-1]
        stable = self.stable[..., None, None]
        D, eye = np.where(stable, self.D, -np.eye(k)), np.eye(k)
        system = kron(D, eye) + kron(eye, D) + kron(D, D)
        solve = precise.solve if D.dtype == object else np.linalg.solve
        solution = solve(-system, self.Q.reshape(*self.Q.shape[:-2], k * k, 1)).reshape(self.Q.shape)
        return np.where(stable, solution, np.nan)

    @cached_property
    def eigenvalues(self) -> Array:
        """Eigenvalues of D, in float64; infinite where D is."""
        D = self.D.astype(float)
        finite = np.asarray(np.isfinite(D).all(axis=(-1, -2)))[..., None]
        return np.where(finite, np.linalg.eigvals(np.where(finite[..., None], D, 0)), np.inf)

    @cached_property
    def stable(self) -> Array:
        """Whether every eigenvalue 1 + e of M has modulus below 1: 2 Re e + |e|^2 < 0, beyond rounding."""
        e = self.eigenvalues
        size = np.abs(e)
        return np.asarray((2 * e.real + size**2 < -(1e-14 + 1e-12 * size) * size).all(axis=-1))


def kron(A: Array, B: Array) -> Array:
    """Kronecker product of the last two axes of both."""
    product = A[..., :, None, :, None] * B[..., None, :, None, :]
    return product.reshape(*product.shape[:-4], A.shape[-2] * B.shape[-2], A.shape[-1] * B.shape[-1])


def linear_stage(map: Affine, G: Array, precision: Array) -> Linear:
    """Put the score ``-precision G u`` into an affine map."""
    kick = precision[..., None, None] * map.b[..., :, None] * G[..., None, :]
    return Linear(map.dA - kick, map.C @ map.C.swapaxes(-1, -2))


def homogeneous(map: Affine) -> Affine:
    """Add a row to u that is always 1."""
    row = [(0, 1)]
    rows = [(0, 0)] * (map.b.ndim - 1) + row
    return Affine(np.pad(map.dA, rows + row), np.pad(map.b, rows), np.pad(map.C, [*rows, (0, 0)]))


@dataclass(frozen=True)
class LinearStep:
    """One time step on a Gaussian target.

    Attributes
    ----------
    enter : Linear
        ``open``, with the score at the position.
    first, last : Linear
        The stages before the last (the identity if there are none), and the last.
    read : Linear
        ``close``.
    shared : array, shape (..., k, k)
        Covariance of the noise of ``last`` with that of ``read``, which share the normals of the stage.
    """

    enter: Linear
    first: Linear
    last: Linear
    read: Linear
    shared: Array

    @cached_property
    def cycle(self) -> Linear:
        """One time step from just before the last stage, where the state is read."""
        return self.last.then(self.first)

    def run(self, steps: int) -> Linear:
        """Map from the state at the start of a run of ``steps`` time steps to the state at its end."""
        begin = self.enter.then(self.first)
        return (begin if steps == 1 else begin.then(self.cycle.power(steps - 1))).then(self.read)


def linear_step(step: Step, precision: Array, centre: Array | None = None) -> LinearStep:
    """Return a time step on N(centre, 1/precision); both broadcast against the leading axes of the tables.

    With a centre, u gains a last row that is always 1, and the score is evaluated at ``G u - centre``.
    """

    def stage(map: Affine, G: Array) -> Linear:
        if centre is not None:
            leading = np.broadcast_shapes(centre.shape, G.shape[:-1])
            G = np.concatenate(
                [np.broadcast_to(G, (*leading, G.shape[-1])), np.broadcast_to(-centre, leading)[..., None]], -1
            )
            map = homogeneous(map)
        return linear_stage(map, G, precision)

    G, last = first_row(step.open.b), step.stages[-1]
    nothing = stage(Affine.identity(G[..., 0], step.rows), G)
    noise, reading = last.map.C, step.close.C
    return LinearStep(
        enter=stage(step.open, G),
        first=reduce(Linear.then, (stage(one.map, one.G) for one in step.stages[:-1]), nothing),
        last=stage(last.map, last.G),
        read=stage(step.close, last.G),
        shared=noise @ reading[..., : noise.shape[-1]].swapaxes(-1, -2),
    )

"""Time steps of a scheme on a Gaussian target, as linear maps with Gaussian noise.

On N(0, 1/lambda) the score is ``-lambda y``, so a stage is a linear map with matrix ``M = I + dA - lambda b G`` and
noise covariance ``C C^T``. All arrays may have leading axes, over which functions broadcast. They hold float64 numbers
or the fifty-digit numbers of `uldnum.exact.precise`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import numpy as np

from uldnum._util.typing import Array
from uldnum.schemes.stage import Affine, Step, first_row

__all__ = ["RESOLVED", "Linear", "LinearStep", "kron", "kron_change", "linear_step", "positive_margins", "solve"]


# A margin that float64 resolves as positive is larger than this; the rounding errors of a margin are far smaller.
RESOLVED = 1e-12
# The same for margins that are computed with fifty digits.
RESOLVED_PRECISELY = 1e-40
# Where all margins are larger than this, float64 suffices for an accurate stationary covariance.
ACCURATE = 1e-5


@dataclass(frozen=True)
class Linear:
    """The random linear map ``u -> u + D u + noise``, where the noise has covariance Q.

    The map holds ``D = M - I``, as the tables do: at small steps M equals the identity to rounding, and D would be
    lost.

    Attributes
    ----------
    D : array, shape (..., k, k)
        Matrix of the map minus the identity.
    Q : array, shape (..., k, k)
        Covariance of the noise.
    terms : array, shape (..., k, k)
        Sum of the magnitudes of the terms that add up to D. The rounding error of D is of the order of the rounding
        error of ``terms``.
    """

    D: Array
    Q: Array
    terms: Array

    def then(self, after: Linear) -> Linear:
        """Return the composition of this map and then ``after``, with independent noise."""
        return Linear(
            self.D + after.D + after.D @ self.D,
            after.push(self.Q),
            self.terms + after.terms + after.terms @ self.terms,
        )

    def power(self, n: int) -> Linear:
        """Return the composition of n copies of this map, n >= 1, by repeated squaring."""
        if n == 1:
            return self
        half = self.power(n // 2)
        return half.then(half).then(self) if n % 2 else half.then(half)

    def push(self, covariance: Array) -> Array:
        """Return the covariance after the map, given the covariance before it."""
        moved = self.D @ covariance
        return covariance + moved + moved.swapaxes(-1, -2) + moved @ self.D.swapaxes(-1, -2) + self.Q

    def stationary(self) -> Array:
        """Return the solution S of ``D S + S D^T + D S D^T + Q = 0``; NaN where the map is not stable."""
        k = self.D.shape[-1]
        stable = self.stable[..., None, None]
        D = np.where(stable, self.D, -np.eye(k))
        covariance = solve(-kron_change(D, D), self.Q.reshape(*self.Q.shape[:-2], k * k, 1)).reshape(self.Q.shape)
        return np.where(stable, covariance, np.nan)

    @cached_property
    def margins(self) -> Array:
        """Three stability margins, each relative to the terms that it is the sum of; shape (..., 3).

        The margins are the determinants of ``I - M^M``, ``I - M`` and ``I + M``, where M^M is the second compound
        matrix of M; its eigenvalues are the products of two different eigenvalues of M. When the first eigenvalues of a
        stable map reach the unit circle, one of the determinants vanishes: the first for a complex pair, the second for
        the eigenvalue 1, the third for -1. For k = 2 the determinants are ``1 - det M``, ``1 - tr M + det M`` and ``1 +
        tr M + det M``, and all are positive if and only if M is stable. Where D is infinite they are NaN.
        """
        with np.errstate(all="ignore"):
            return conditions(self.D, -1) / conditions(self.terms, 1)

    @cached_property
    def growth(self) -> Array:
        """Square of the spectral radius of M, minus 1, as float64; computed without cancellation for k <= 2."""
        k = self.D.shape[-1]
        with np.errstate(all="ignore"):
            if k == 1:
                growth = self.D[..., 0, 0] * (2 + self.D[..., 0, 0])
            elif k == 2:
                half, product = (self.D[..., 0, 0] + self.D[..., 1, 1]) / 2, determinant(self.D, -1)
                root = np.maximum(half * half - product, 0) ** 0.5
                far = half + np.where(half > 0, root, -root)
                near = product / far
                real = np.maximum(far * (2 + far), near * (2 + near))
                growth = np.where(half * half < product, 2 * half + product, real)
            else:
                e = self.eigenvalues
                growth = (2 * e.real + np.abs(e) ** 2).max(axis=-1)
        growth = np.asarray(growth, float)
        return np.where(np.isnan(growth), np.inf, growth)

    @property
    def eigenvalues(self) -> Array:
        """Eigenvalues of D in float64; infinite where D is infinite."""
        D = self.D.astype(float)
        finite = np.asarray(np.isfinite(D).all(axis=(-1, -2)))[..., None]
        return np.where(finite, np.linalg.eigvals(np.where(finite[..., None], D, 0)), np.inf)

    @cached_property
    def stable(self) -> Array:
        """Whether every eigenvalue of M has a modulus below 1 by more than the rounding error."""
        stable = positive_margins(self.margins)
        # For k > 2 the margins are also positive if an even number of eigenvalues lies outside the unit circle.
        return stable if self.D.shape[-1] <= 2 else stable & (self.growth < 1e-6)

    @cached_property
    def unstable(self) -> Array:
        """Whether M is unstable by more than the rounding error."""
        return np.asarray((self.margins < -RESOLVED).any(axis=-1) | ~np.isfinite(self.D).all(axis=(-1, -2)))

    @property
    def resolved(self) -> Array:
        """Whether M is stable or unstable by more than the rounding error."""
        return self.stable | self.unstable

    @property
    def doubtful(self) -> Array:
        """Whether float64 does not suffice for a covariance with a relative accuracy of about 1e-11."""
        return np.asarray(~(self.unstable | (self.margins > ACCURATE).all(axis=-1)))


def positive_margins(margins: Array) -> Array:
    """Return whether all margins, shape (..., 3), are positive by more than the rounding error."""
    resolved = RESOLVED_PRECISELY if margins.dtype == object else RESOLVED
    return np.asarray((margins > resolved).all(axis=-1), bool)


def conditions(D: Array, sign: int) -> Array:
    """Return the determinants of `Linear.margins` if the sign is -1, or bounds of their terms if it is 1."""
    k = D.shape[-1]
    i, j = np.triu_indices(k, 1)
    eye = np.eye(k)

    def products(p: Array, q: Array) -> Array:
        """Return the entries in rows (i, j) and columns (p, q) of ``kron_change(D, D)``."""
        A, B = D[..., i[:, None], p], D[..., j[:, None], q]
        return A * eye[j[:, None], q] + eye[i[:, None], p] * B + A * B

    compound = products(i, j) + sign * products(j, i)
    return np.stack([determinant(part, sign) for part in (sign * compound, sign * D, 2 * eye + D)], axis=-1)


def determinant(A: Array, sign: int) -> Array:
    """Return the determinant of small matrices if the sign is -1, or the permanent if it is 1."""
    n = A.shape[-1]
    if n == 0:
        return np.ones(A.shape[:-2])
    minors = (determinant(np.delete(A[..., 1:, :], column, axis=-1), sign) for column in range(n))
    return sum(sign**column * A[..., 0, column] * minor for column, minor in enumerate(minors))


def kron_change(A: Array, B: Array) -> Array:
    """Return the Kronecker product of ``I + A`` and ``I + B``, minus the identity."""
    eye = np.eye(A.shape[-1])
    return kron(A, eye) + kron(eye, B) + kron(A, B)


def kron(A: Array, B: Array) -> Array:
    """Return the Kronecker product over the last two axes of both arrays."""
    product = A[..., :, None, :, None] * B[..., None, :, None, :]
    return product.reshape(*product.shape[:-4], A.shape[-2] * B.shape[-2], A.shape[-1] * B.shape[-1])


def solve(systems: Array, right: Array) -> Array:
    """Solve small linear systems, shape (..., n, n), for columns (..., n, m); not finite where a system is singular.

    The method is Gauss-Jordan elimination with row pivoting, in the arithmetic of the arrays.
    """
    n = systems.shape[-1]
    leading = np.broadcast_shapes(systems.shape[:-2], right.shape[:-2])
    parts = (np.broadcast_to(part, (*leading, *part.shape[-2:])) for part in (systems, right))
    rows = np.concatenate(list(parts), axis=-1)
    rows = rows.reshape(math.prod(leading), *rows.shape[-2:])
    every = np.arange(len(rows))
    with np.errstate(all="ignore"):
        for column in range(n):
            left = rows[:, :, column:]  # the columns on the left already are those of the identity
            pivot = column + np.argmax(np.abs(left[:, column:, 0]), axis=-1)
            lead = left[every, pivot]
            left[every, pivot] = left[:, column]
            lead /= lead[:, :1].copy()
            left[:, column] = 0
            left -= left[:, :, :1] * lead[:, None]
            left[:, column] = lead
    return rows[:, :, n:].reshape(*leading, n, right.shape[-1])


def linear_stage(map: Affine, G: Array, precision: Array) -> Linear:
    """Return an affine map with the score ``-precision G u`` inserted, as a linear map."""
    kick = precision[..., None, None] * map.b[..., :, None] * G[..., None, :]
    return Linear(map.dA - kick, map.C @ map.C.swapaxes(-1, -2), np.abs(map.dA) + np.abs(kick))


def homogeneous(map: Affine) -> Affine:
    """Return an affine map with an additional row of u that is always 1."""
    row = [(0, 1)]
    rows = [(0, 0)] * (map.b.ndim - 1) + row
    return Affine(np.pad(map.dA, rows + row), np.pad(map.b, rows), np.pad(map.C, [*rows, (0, 0)]))


@dataclass(frozen=True)
class LinearStep:
    """One time step on a Gaussian target, as linear maps.

    Attributes
    ----------
    enter : Linear
        The map ``open``, whose score is evaluated at the position.
    first : Linear
        Composition of all stages before the last; the identity if there is only one stage.
    last : Linear
        The last stage.
    read : Linear
        The map ``close``.
    shared : array, shape (..., k, k)
        Covariance of the noise of ``last`` with the noise of ``read``, since both use the normals of the last stage.
    """

    enter: Linear
    first: Linear
    last: Linear
    read: Linear
    shared: Array

    @cached_property
    def cycle(self) -> Linear:
        """The time step that starts just before the last stage, where the state is read."""
        return self.last.then(self.first)

    def without(self, lost: Array) -> LinearStep:
        """Return the step with NaN as the matrix of the last stage where the mask ``lost`` is true."""
        last = replace(self.last, D=np.where(lost[..., None, None], np.nan, self.last.D))
        return replace(self, last=last)

    def run(self, steps: int) -> Linear:
        """Return the map from the state at the start of a run of ``steps`` time steps to the state at its end."""
        with np.errstate(all="ignore"):  # unstable runs overflow
            begin = self.enter.then(self.first)
            return (begin if steps == 1 else begin.then(self.cycle.power(steps - 1))).then(self.read)


def linear_step(step: Step, precision: Array, centre: Array | None = None) -> LinearStep:
    """Return a time step on N(centre, 1/precision) as linear maps.

    The centre and the precision broadcast against the leading axes of the tables. If a centre is given, u has an
    additional last row that is always 1, and the score is evaluated at ``G u - centre``.
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

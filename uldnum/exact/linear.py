"""Time steps of a scheme on a Gaussian target, as linear maps with Gaussian noise.

On N(0, 1/lambda) the score is ``-lambda y``. A stage is therefore the linear map

    u' = M u + C xi,    M = I + dA - lambda b G,

and its noise has the covariance ``C C^T``. All arrays may have leading axes, over which functions broadcast. The
entries are float64 numbers or the fifty-digit numbers of `uldnum.exact.precise`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import numpy as np

from uldnum._util.typing import Array
from uldnum.schemes.catalogue import Integrator
from uldnum.schemes.stage import Affine, Step, first_row

__all__ = [
    "RESOLVED",
    "Linear",
    "LinearStep",
    "affine",
    "check_affine",
    "kron",
    "kron_change",
    "linear_stage",
    "linear_step",
    "positive_margins",
    "solve",
]


# A margin in float64 counts as positive above this bound. The rounding errors of margins are far smaller.
RESOLVED = 1e-12
# The same bound for margins that are computed with fifty digits.
RESOLVED_PRECISELY = 1e-40
# Float64 suffices for an accurate stationary covariance if all margins exceed this bound.
ACCURATE = 1e-5


@dataclass(frozen=True)
class Linear:
    """Random linear map ``u -> u + D u + noise``, where the noise has the covariance Q.

    The map stores ``D = M - I``. At small steps M equals the identity to rounding, and its difference from the identity
    would be lost.

    Attributes
    ----------
    D : array, shape (..., k, k)
        Matrix M of the map minus the identity.
    Q : array, shape (..., k, k)
        Covariance of the noise.
    terms : array, shape (..., k, k)
        Sum of the magnitudes of the terms whose sum is D. The rounding error of D is of the order of the rounding error
        of ``terms``.
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
        # With the transpose of D S in place of S D^T, many steps amplify the asymmetry of S that is due to rounding.
        moved, turned = self.D @ covariance, self.D.swapaxes(-1, -2)
        return covariance + moved + covariance @ turned + moved @ turned + self.Q

    def stationary(self) -> Array:
        """Return the stationary covariance, or NaN where the map is not stable.

        It is the solution S of the discrete Lyapunov equation ``S = M S M^T + Q``, that is of
        ``D S + S D^T + D S D^T + Q = 0``.
        """
        k = self.D.shape[-1]
        stable = self.stable[..., None, None]
        D = np.where(stable, self.D, -np.eye(k))
        covariance = solve(-kron_change(D, D), self.Q.reshape(*self.Q.shape[:-2], k * k, 1)).reshape(self.Q.shape)
        return np.where(stable, covariance, np.nan)

    @cached_property
    def margins(self) -> Array:
        """Three stability margins, each divided by the sum of the magnitudes of its terms, shape (..., 3).

        The margins are the determinants of ``I - M^M``, ``I - M`` and ``I + M``, where M^M is the second compound
        matrix of M. Its eigenvalues are the products of two different eigenvalues of M. When the first eigenvalues of a
        stable map reach the unit circle, one of the determinants vanishes: the first for a complex pair, the second for
        the eigenvalue 1, and the third for the eigenvalue -1. For k = 2 the determinants are ``1 - det M``, ``1 - tr M
        + det M`` and ``1 + tr M + det M``, and M is stable if and only if all are positive. The margins are NaN where D
        is infinite.
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
        """Eigenvalues of D, computed in float64 arithmetic; infinite where D has a non-finite entry."""
        D = self.D.astype(float)
        finite = np.asarray(np.isfinite(D).all(axis=(-1, -2)))[..., None]
        return np.where(finite, np.linalg.eigvals(np.where(finite[..., None], D, 0)), np.inf)

    @cached_property
    def stable(self) -> Array:
        """Whether all eigenvalues of M are inside the unit circle by more than the rounding error."""
        stable = positive_margins(self.margins)
        # For k > 2 the margins can also be positive if an even number of eigenvalues is outside the unit circle.
        return stable if self.D.shape[-1] <= 2 else stable & (self.growth < 1e-6)

    @cached_property
    def unstable(self) -> Array:
        """Whether M is unstable by more than the rounding error, or has a non-finite entry."""
        return np.asarray((self.margins < -RESOLVED).any(axis=-1) | ~np.isfinite(self.D).all(axis=(-1, -2)))

    @property
    def resolved(self) -> Array:
        """Whether float64 arithmetic can decide that M is stable or unstable."""
        return self.stable | self.unstable

    @property
    def doubtful(self) -> Array:
        """Whether float64 may not suffice for a stationary covariance with a relative accuracy of about 1e-11."""
        return np.asarray(~(self.unstable | (self.margins > ACCURATE).all(axis=-1)))


def positive_margins(margins: Array) -> Array:
    """Return whether all margins, shape (..., 3), are positive by more than the rounding error."""
    resolved = RESOLVED_PRECISELY if margins.dtype == object else RESOLVED
    return np.asarray((margins > resolved).all(axis=-1), bool)


def conditions(D: Array, sign: int) -> Array:
    """Return the determinants of `Linear.margins` for the sign -1, or the sums of the magnitudes of their terms for 1.

    For the sign 1, the argument ``D`` must be `Linear.terms`.
    """
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
    """Return the determinant of small matrices for the sign -1, or the permanent for the sign 1."""
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
    """Return the solutions of small linear systems, which have non-finite entries where a system is singular.

    The method is Gauss-Jordan elimination with row pivoting, in the arithmetic of the arrays.

    Parameters
    ----------
    systems : array, shape (..., n, n)
        Matrices.
    right : array, shape (..., n, m)
        Right-hand sides.

    Returns
    -------
    array, shape (..., n, m)
        Solutions.
    """
    n = systems.shape[-1]
    leading = np.broadcast_shapes(systems.shape[:-2], right.shape[:-2])
    parts = (np.broadcast_to(part, (*leading, *part.shape[-2:])) for part in (systems, right))
    rows = np.concatenate(list(parts), axis=-1)
    rows = rows.reshape(math.prod(leading), *rows.shape[-2:])
    every = np.arange(len(rows))
    with np.errstate(all="ignore"):
        for column in range(n):
            left = rows[:, :, column:]  # the earlier columns are those of the identity
            pivot = column + np.argmax(np.abs(left[:, column:, 0]), axis=-1)
            lead = left[every, pivot]
            left[every, pivot] = left[:, column]
            lead /= lead[:, :1].copy()
            left[:, column] = 0
            left -= left[:, :, :1] * lead[:, None]
            left[:, column] = lead
    return rows[:, :, n:].reshape(*leading, n, right.shape[-1])


def linear_stage(map: Affine, G: Array, precision: Array) -> Linear:
    """Return an affine map as a linear map, with the score ``-precision G u`` inserted."""
    kick = precision[..., None, None] * map.b[..., :, None] * G[..., None, :]
    return Linear(map.dA - kick, map.C @ map.C.swapaxes(-1, -2), np.abs(map.dA) + np.abs(kick))


def homogeneous(map: Affine) -> Affine:
    """Return an affine map with an additional last row of u that is always 1."""
    row = [(0, 1)]
    rows = [(0, 0)] * (map.b.ndim - 1) + row
    return Affine(np.pad(map.dA, rows + row), np.pad(map.b, rows), np.pad(map.C, [*rows, (0, 0)]))


@dataclass(frozen=True)
class LinearStep:
    """One time step on a Gaussian target, as linear maps.

    Attributes
    ----------
    enter : Linear
        The map ``open``, with the score at the position.
    first : Linear
        Composition of all stages before the last one; the identity if there is only one stage.
    last : Linear
        The last stage.
    read : Linear
        The map ``close``.
    shared : array, shape (..., k, k)
        Covariance of the noise of ``last`` with the noise of ``read``; both use the normals of the last stage.
    """

    enter: Linear
    first: Linear
    last: Linear
    read: Linear
    shared: Array

    @cached_property
    def cycle(self) -> Linear:
        """One time step from before the last stage to before the next last stage, as one linear map."""
        return self.last.then(self.first)

    def without(self, lost: Array) -> LinearStep:
        """Return the time step with NaN as the matrix of the last stage where the mask ``lost`` is True."""
        last = replace(self.last, D=np.where(lost[..., None, None], np.nan, self.last.D))
        return replace(self, last=last)

    def run(self, steps: int) -> Linear:
        """Return the map from the initial state (x, p) to the state (x, p) after ``steps`` time steps."""
        with np.errstate(all="ignore"):  # unstable schemes overflow
            begin = self.enter.then(self.first)
            return (begin if steps == 1 else begin.then(self.cycle.power(steps - 1))).then(self.read)


def affine(scheme: Integrator) -> Integrator:
    """Return an integrator, or raise if it has a Metropolis test, whose steps are not affine."""
    check_affine(scheme.unit, scheme.name)
    return scheme


def check_affine(step: Step, name: str) -> None:
    """Raise if a step of an integrator of a given name has a Metropolis test."""
    if step.metropolised:
        raise ValueError(
            f"integrator: {name!r} has a Metropolis test, so that its stationary distribution is that of the target; "
            "of steps with a test, uldnum.exact computes only the acceptance"
        )


def linear_step(step: Step, precision: Array, centre: Array | None = None) -> LinearStep:
    """Return a time step on N(centre, 1/precision) as linear maps.

    Parameters
    ----------
    step : Step
        Tables of the time step.
    precision : array
        Precision lambda of the target. It broadcasts against the leading axes of the tables.
    centre : array, optional
        Mean of the target, which broadcasts likewise. If it is given, u has an additional last row that is always 1,
        and the score is ``-precision (G u - centre)``. Without it, the mean is 0.
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

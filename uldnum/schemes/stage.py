"""Stages: what happens between two score evaluations, as small tables of coefficients.

Every sampler in this package is, between two score evaluations, one affine recurrence that acts on each coordinate
alone. A chain remembers ``k`` numbers per coordinate, ``u`` (row 0 is the position), and

    y  = G u                       where the score is evaluated
    s  = score(y)
    u' = u + dA u + b s + C xi     xi: independent standard normals

The table holds ``dA = A - I`` rather than ``A``: for small steps the change of ``u`` is computed without cancellation.
All arrays may carry leading axes (one table per step size).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from uldnum._util.typing import Array
from uldnum.arithmetic.dense import product, total

__all__ = ["Affine", "Stage", "Step", "first_row", "table", "triangular"]


@dataclass(frozen=True)
class Affine:
    """The map ``u -> u + dA u + b s + C xi`` at a fixed score ``s``.

    Parameters
    ----------
    dA : array, shape (..., k, k)
        Transition matrix minus the identity.
    b : array, shape (..., k)
        Weight of the score.
    C : array, shape (..., k, m)
        Weights of the ``m`` standard normals.
    """

    dA: Array
    b: Array
    C: Array

    @property
    def rows(self) -> int:
        """Number k of rows."""
        return int(self.b.shape[-1])

    @property
    def normals(self) -> int:
        """Number m of standard normals per coordinate."""
        return int(self.C.shape[-1])

    def then(self, after: Affine) -> Affine:
        """Compose: first this map, then ``after``, both with the same score, each with its own normals."""
        return Affine(
            dA=self.dA + after.dA + product(after.dA, self.dA),
            b=self.b + after.b + product(after.dA, self.b[..., None])[..., 0],
            C=np.concatenate([self.C + product(after.dA, self.C), after.C], axis=-1),
        )

    def compressed(self) -> Affine:
        """Return the same map in law, with at most k normals per coordinate."""
        # Momentum first: the position hears of noise only through it, so most words need one normal, not two.
        factor, _ = triangular(self.C[..., ::-1, :])
        return replace(self, C=factor[..., ::-1, :])

    def at(self, index: slice) -> Affine:
        """Return the maps at these places of the first leading axis."""
        return Affine(self.dA[index], self.b[index], self.C[index])

    @classmethod
    def identity(cls, like: Array, k: int) -> Affine:
        """Return the map that changes nothing, with the leading axes of the step size ``like``."""
        shape = np.shape(like)
        return cls(np.zeros((*shape, k, k)), np.zeros((*shape, k)), np.zeros((*shape, k, 0)))


@dataclass(frozen=True)
class Stage:
    """One score evaluation, at ``y = G u``, and the affine map that uses it.

    Parameters
    ----------
    G : array, shape (..., k)
        Where the score is evaluated.
    map : Affine
        What is done with it.
    """

    G: Array
    map: Affine


@dataclass(frozen=True)
class Step:
    """One time step: its stages in order, and how to enter and read the recurrence.

    A time step ends somewhere inside its last stage. That stage is therefore two maps with one score: ``close``, from
    ``u`` to the state (x, p) at the end of the step, and ``open``, from (x, p) to the next ``u``. A run begins with
    ``open``, goes on with whole stages, and reads the state with ``close``, which does not disturb ``u``.

    Parameters
    ----------
    stages : tuple of Stage
        The last one contains the end of the time step.
    open : Affine
        From (x, p) to u, with the score at x if it uses one, and its own normals.
    close : Affine
        From u to (x, p), at the score of the last stage. The first columns of its ``C`` multiply the normals of that
        stage; the others multiply normals that only this reading needs.
    open_uses_score : bool
        Whether entering the recurrence costs a score evaluation (once a run).
    """

    stages: tuple[Stage, ...]
    open: Affine
    close: Affine
    open_uses_score: bool = False

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise unless every array of a recipe's tables has the axes of the step size in front, then its own."""
        k = self.rows
        stages = ((f"stage {j}", stage.map) for j, stage in enumerate(self.stages))
        for where, map in (*stages, ("open", self.open), ("close", self.close)):
            wanted = {"dA": (*shape, k, k), "b": (*shape, k), "C": (*shape, k, map.normals)}
            for part, expected in wanted.items():
                got = np.shape(getattr(map, part))
                if got != expected:
                    raise ValueError(
                        f"recipe: {part} of {where} of {name!r} has shape {got}, must have {expected}: the axes of h, "
                        "then k rows (uldnum.schemes.stage.table stacks numbers and arrays of h's shape)"
                    )
        for j, stage in enumerate(self.stages):
            if np.shape(stage.G) != (*shape, k):
                raise ValueError(
                    f"recipe: G of stage {j} of {name!r} must have shape {(*shape, k)}, got {stage.G.shape}"
                )

    @property
    def rows(self) -> int:
        """Number k of rows that a chain remembers per coordinate."""
        return self.open.rows

    @property
    def readout_normals(self) -> int:
        """Normals per coordinate that only a reading of the state needs."""
        return self.close.normals - self.stages[-1].map.normals

    def at(self, index: slice) -> Step:
        """Return the tables at these places of the first leading axis."""
        stages = tuple(Stage(stage.G[index], stage.map.at(index)) for stage in self.stages)
        return Step(stages, self.open.at(index), self.close.at(index), self.open_uses_score)

    def split(self) -> list[Step]:
        """Return the tables along the leading axis one by one, each with a leading axis of length 1."""
        return [self.at(slice(i, i + 1)) for i in range(len(self.open.b))]

    @classmethod
    def on_step(cls, G: Array, map: Affine) -> Step:
        """One stage that begins and ends on the time step: ``open`` does nothing, ``close`` is the stage itself."""
        return cls((Stage(G, map),), Affine.identity(map.b[..., 0], map.rows), map)

    @classmethod
    def inside_stage(cls, stages: tuple[Stage, ...], before: Affine, after: Affine, open_uses_score: bool) -> Step:
        """A step whose last stage is ``before``, the end of the time step, and then ``after``, at one score of row 0.

        The noise of that stage and the noise of the reading ``before`` are jointly Gaussian. One orthogonal change of
        normals makes the former depend on as few of them as it can, at most k, and leaves the rest to the reading.
        """
        whole = before.then(after)
        k = whole.rows
        silent = np.zeros((*after.C.shape[:-1], after.normals))
        reading = np.concatenate([before.C, silent], axis=-1)
        factor, pivots = triangular(np.concatenate([whole.C[..., ::-1, :], reading], axis=-2))
        m = sum(pivot < k for pivot in pivots)
        last = Stage(first_row(whole.b), replace(whole, C=factor[..., k - 1 :: -1, :m]))
        return cls((*stages, last), after.compressed(), replace(before, C=factor[..., k:, :]), open_uses_score)


def table(h: Array, rows: Any) -> Array:
    """Stack numbers and arrays shaped like ``h`` (nested lists of them) into one array with h's axes in front."""
    if not isinstance(rows, list):
        return np.broadcast_to(rows, np.shape(h))
    entries = [table(h, row) for row in rows]
    return np.stack(entries, axis=np.ndim(h)) if entries else np.zeros((*np.shape(h), 0))


def first_row(like: Array) -> Array:
    """Return G = (1, 0, ...): the score is evaluated at the position."""
    return np.broadcast_to(np.eye(like.shape[-1])[0], like.shape)


def triangular(noise: Array) -> tuple[Array, list[int]]:
    """Factor F, shape (..., r, n'), with the covariance ``F F^T`` of ``noise``, shape (..., r, n), and fewest columns.

    Modified Gram-Schmidt over the rows, that is, a QR factorisation of the transpose. Unlike Cholesky of the covariance
    it neither squares the condition number nor needs full rank. A row that is a combination of the rows before it adds
    no column; ``pivots`` names the rows that did.
    """
    rest = noise
    columns, pivots = [], []
    for r in range(noise.shape[-2]):
        square = total(np.square(rest[..., r, :]))
        # A dependent row leaves rounding (1e-16), an independent one a fraction of order one at any h.
        if not np.any(square > 1e-16 * total(np.square(noise[..., r, :]))):
            continue
        direction = rest[..., r, :] / np.sqrt(np.where(square > 0, square, square + 1))[..., None]
        column = product(rest, direction[..., None])[..., 0]
        column = np.where(np.arange(noise.shape[-2]) < r, 0, column)
        rest = rest - column[..., None] * direction[..., None, :]
        columns.append(column)
        pivots.append(r)
    if not columns:
        return np.zeros((*noise.shape[:-1], 0)), pivots
    return np.stack(columns, axis=-1), pivots

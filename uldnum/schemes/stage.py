"""Coefficient tables of one time step: affine maps, stages and steps.

Between two score evaluations, every sampler in this package applies one affine map to each coordinate independently.
The chain stores ``u``, an array with ``k`` rows per coordinate. Row 0 is the position. Row 1 of a kinetic scheme is the
momentum; in other schemes it holds what the scheme needs from earlier steps. A stage is

    y  = G u                       the point at which the score is evaluated
    s  = score(y)
    u' = u + dA u + b s + C xi     xi: m independent standard normals per coordinate

The table holds ``dA = A - I`` instead of the transition matrix ``A``. The small terms are summed before they are added
to ``u``. Otherwise rounding would remove the drift at small steps. All arrays may have leading axes, over which the
step size varies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from uldnum._util.typing import Array
from uldnum.arithmetic.dense import product, total
from uldnum.schemes.form import Form

__all__ = ["Affine", "Stage", "Step", "first_row", "table", "triangular"]


@dataclass(frozen=True)
class Affine:
    """The map ``u -> u + dA u + b s + C xi`` at a fixed score ``s``.

    Parameters
    ----------
    dA : array, shape (..., k, k)
        Transition matrix minus the identity.
    b : array, shape (..., k)
        Coefficients of the score.
    C : array, shape (..., k, m)
        Coefficients of the ``m`` standard normals.
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

    @property
    def moves_x(self) -> bool:
        """Whether the map changes the position."""
        return any(bool(part[..., 0, :].any()) for part in (self.dA, self.b[..., None], self.C))

    def then(self, after: Affine) -> Affine:
        """Return the composition of this map and then ``after``, with the same score and independent normals."""
        return Affine(
            dA=self.dA + after.dA + product(after.dA, self.dA),
            b=self.b + after.b + product(after.dA, self.b[..., None])[..., 0],
            C=np.concatenate([self.C + product(after.dA, self.C), after.C], axis=-1),
        )

    def answered(self, G: Array, form: Form) -> Affine:
        """Return the map whose ``s`` is the answer N of a form at ``y = G u``, where the score is ``a y + b N``."""
        if not self.b.any():
            return self
        a, b = form.score
        return replace(self, dA=self.dA + a * self.b[..., :, None] * G[..., None, :], b=b * self.b)

    def compressed(self) -> Affine:
        """Return a map with the same distribution of ``u'`` that uses at most k normals per coordinate."""
        # The rows are factored in reverse order, so that the momentum comes first. In most words the noise reaches the
        # position only through the momentum, and then this order needs one normal instead of two.
        factor, _ = triangular(self.C[..., ::-1, :])
        return replace(self, C=factor[..., ::-1, :])

    def at(self, index: slice) -> Affine:
        """Return the maps at the given indices of the first leading axis."""
        return Affine(self.dA[index], self.b[index], self.C[index])

    @classmethod
    def identity(cls, like: Array, k: int) -> Affine:
        """Return the identity map on k rows, with the shape of ``like`` as leading axes."""
        shape = np.shape(like)
        return cls(np.zeros((*shape, k, k)), np.zeros((*shape, k)), np.zeros((*shape, k, 0)))


@dataclass(frozen=True)
class Stage:
    """One score evaluation at ``y = G u``, and the affine map that uses the score.

    Parameters
    ----------
    G : array, shape (..., k)
        Coefficients of the point at which the score is evaluated.
    map : Affine
        Map from ``u`` to ``u'``, given the score at ``y``.
    """

    G: Array
    map: Affine


@dataclass(frozen=True)
class Step:
    """One time step: its stages in order, and the maps between the state (x, p) and the rows ``u``.

    The time step ends inside its last stage. That stage is therefore the composition of two maps that share one score:
    ``close`` maps ``u`` to the state (x, p) at the end of the step, and ``open`` maps (x, p) to the next ``u``. A run
    applies ``open`` once and then whole stages. It reads the state with ``close``, which leaves ``u`` unchanged.

    Parameters
    ----------
    stages : tuple of Stage
        The stages in order. The last one contains the end of the time step.
    open : Affine
        Map from (x, p) to ``u``. It has normals of its own, and uses the score at x if ``open_uses_score`` is True.
    close : Affine
        Map from ``u`` to (x, p), with the score of the last stage. The first columns of its ``C`` multiply the normals
        of that stage; the remaining columns multiply normals that only the readout uses.
    open_uses_score : bool, default False
        Whether ``open`` needs a score evaluation, once per run.
    temperature : array, optional
        Temperature T of the Metropolis test of the step, with the shape of the step size. None means no test.

    Notes
    -----
    A step with a Metropolis test (`metropolised`) makes the test before the map of its last stage. The other stages,
    its `proposal`, propose a new state; the score of the first one is known from the previous step, and the last one
    evaluates the score at the proposed position. The test accepts the new state or returns to the old u with the
    momentum reversed. The map of the last stage then changes only the momentum, and uses no score.
    """

    stages: tuple[Stage, ...]
    open: Affine
    close: Affine
    open_uses_score: bool = False
    temperature: Array | None = None

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise a ValueError unless every table has the correct shape.

        The correct shape is ``shape``, that of the step size, followed by the axes of the table itself.
        """
        k = self.rows
        stages = ((f"stage {j}", stage.map) for j, stage in enumerate(self.stages))
        for where, map in (*stages, ("open", self.open), ("close", self.close)):
            wanted = {"dA": (*shape, k, k), "b": (*shape, k), "C": (*shape, k, map.normals)}
            for part, expected in wanted.items():
                got = np.shape(getattr(map, part))
                if got != expected:
                    raise ValueError(
                        f"recipe: {part} of {where} of {name!r} must have shape {expected}, where the axes of h come "
                        f"first, got {got}; uldnum.schemes.stage.table builds such arrays from nested lists"
                    )
        for j, stage in enumerate(self.stages):
            if np.shape(stage.G) != (*shape, k):
                raise ValueError(
                    f"recipe: G of stage {j} of {name!r} must have shape {(*shape, k)}, got {stage.G.shape}"
                )
        if self.metropolised and not self.testable:
            raise ValueError(
                f"recipe: {name!r} has a Metropolis test, so it must have two rows, (x, p), stages without noise that "
                "evaluate the score at x, the last one at the x that is tested, and a refreshment of p by at most one "
                "normal, as uldnum.schemes.stage.Step.metropolis returns it"
            )

    @property
    def metropolised(self) -> bool:
        """Whether the step has a Metropolis test."""
        return self.temperature is not None

    @property
    def testable(self) -> bool:
        """Whether kernels support the tables of a step with a Metropolis test."""
        if self.rows != 2 or len(self.stages) < 3:
            return False
        *_, proposed, last = self.stages
        ends = (last.map, self.open, self.close)
        return (
            all(not stage.map.normals and (first_row(stage.G) == stage.G).all() for stage in self.proposal)
            and last.map.normals == 1
            and max(self.open.normals, self.readout_normals) <= 1
            and not proposed.map.dA.any()
            and not any(map.moves_x for map in (proposed.map, *ends))
            and not any(map.b.any() or map.dA[..., 1, 0].any() for map in ends)
        )

    @property
    def proposal(self) -> tuple[Stage, ...]:
        """Stages between two tests of a step with a Metropolis test."""
        return self.stages[:-1]

    @property
    def evaluations(self) -> int:
        """Number of score evaluations of the step."""
        return len(self.proposal) - 1 if self.metropolised else len(self.stages)

    @property
    def rows(self) -> int:
        """Number k of rows of the state per coordinate."""
        return self.open.rows

    @property
    def readout_normals(self) -> int:
        """Number of normals per coordinate that only the readout of (x, p) uses."""
        return self.close.normals - self.stages[-1].map.normals

    def at(self, index: slice) -> Step:
        """Return the tables at the given indices of the first leading axis."""
        stages = tuple(Stage(stage.G[index], stage.map.at(index)) for stage in self.stages)
        heat = None if self.temperature is None else self.temperature[index]
        return Step(stages, self.open.at(index), self.close.at(index), self.open_uses_score, heat)

    def each(self, change: Callable[[Affine], Affine]) -> Step:
        """Return the step with a function applied to each of its maps."""
        stages = tuple(Stage(stage.G, change(stage.map)) for stage in self.stages)
        return replace(self, stages=stages, open=change(self.open), close=change(self.close))

    def answered(self, form: Form) -> Step:
        """Return the step in terms of the answers of a form instead of scores.

        The answers of the stages are at their own ``G u``. That of ``close`` is the last one of them, and that of
        ``open`` is at the position.
        """
        stages = tuple(Stage(stage.G, stage.map.answered(stage.G, form)) for stage in self.stages)
        open = self.open.answered(first_row(self.open.b), form)
        return replace(self, stages=stages, open=open, close=self.close.answered(self.stages[-1].G, form))

    def each_end(self, change: Callable[[Affine], Affine]) -> Step:
        """Return a step of one stage with a function applied to the map of the stage and to ``close``."""
        (stage,) = self.stages
        return replace(self, stages=(Stage(stage.G, change(stage.map)),), close=change(self.close))

    def at_temperature(self, temperature: Array) -> Step:
        """Return the step with all noise scaled by the square root of the temperature; the score is not scaled.

        ``temperature`` has the shape of the leading axes of the tables. The stationary distribution of an exact scheme
        becomes ``density^(1/temperature)``.
        """
        root = np.sqrt(temperature)[..., None, None]
        step = self.each(lambda one: replace(one, C=root * one.C))
        return replace(step, temperature=temperature * self.temperature) if step.metropolised else step

    def with_score_noise(self, deviation: Array) -> Step:
        """Return the step with the score ``s + deviation zeta``, where zeta are independent standard normals.

        Every score evaluation has its own zeta for each coordinate. The last stage and ``close`` share an evaluation,
        and therefore its zeta. ``open`` uses another evaluation, at the start of a run. ``deviation`` has the shape of
        the leading axes of the tables.
        """
        if not np.any(deviation):
            return self

        def noisy(one: Affine) -> Affine:
            return replace(one, C=np.concatenate([one.C, (deviation[..., None] * one.b)[..., None]], axis=-1))

        *others, last = self.stages
        stages = [Stage(stage.G, noisy(stage.map).compressed()) for stage in others]
        if self.ends_with_stage:
            whole = close = noisy(last.map).compressed()
        else:
            silent = np.zeros((*last.map.C.shape[:-1], self.readout_normals))
            padded = replace(last.map, C=np.concatenate([last.map.C, silent], axis=-1))
            noise, reading = joint(noisy(padded).C, noisy(self.close).C)
            whole, close = replace(last.map, C=noise), replace(self.close, C=reading)
        return replace(self, stages=(*stages, Stage(last.G, whole)), open=noisy(self.open).compressed(), close=close)

    def with_normals_for_errors(self) -> Step:
        """Return the step with one more normal in each map that uses a score, for the error of that score.

        The coefficients of these normals, the last columns of C, are zero. Kernels add the error ``tau_i zeta`` to the
        score of coordinate i, where zeta is this normal and tau_i may be another number for each coordinate.
        """

        def longer(one: Affine, m: int) -> Affine:
            return replace(one, C=np.insert(one.C, m, 0.0, axis=-1))

        stages = tuple(Stage(stage.G, longer(stage.map, stage.map.normals)) for stage in self.stages)
        begin = longer(self.open, self.open.normals) if self.open_uses_score else self.open
        end = longer(self.close, self.stages[-1].map.normals)
        return replace(self, stages=stages, open=begin, close=end)

    def in_coordinates(self, factor: float) -> Step:
        """Return the step of positions ``x = factor y``, given this step of y, whose score is ``factor s(x)``.

        Rows other than the position are unchanged.
        """
        units = np.array([factor, *np.ones(self.rows - 1)])

        def changed(one: Affine) -> Affine:
            return Affine(one.dA * units[:, None] / units, one.b * units * factor, one.C * units[:, None])

        step = self.each(changed)
        return replace(step, stages=tuple(Stage(stage.G * factor / units, stage.map) for stage in step.stages))

    @property
    def ends_with_stage(self) -> bool:
        """Whether the end of the step coincides with the end of its last stage."""
        whole = self.stages[-1].map
        return all(np.array_equal(getattr(self.close, part), getattr(whole, part)) for part in ("dA", "b", "C"))

    def split(self) -> list[Step]:
        """Return one step for each index of the leading axis. Each has a leading axis of length 1."""
        return [self.at(slice(i, i + 1)) for i in range(len(self.open.b))]

    @classmethod
    def joined(cls, steps: Sequence[Step]) -> Step:
        """Return the tables of several steps along the leading axis, or raise unless they have the same shapes."""

        def shape(step: Step) -> tuple[object, ...]:
            maps = (step.open, *(stage.map for stage in step.stages), step.close)
            return step.rows, step.open_uses_score, *(map.normals for map in maps)

        def along(maps: Sequence[Affine]) -> Affine:
            dA, b, C = (np.concatenate(parts) for parts in zip(*((map.dA, map.b, map.C) for map in maps), strict=True))
            return Affine(dA, b, C)

        if len({shape(step) for step in steps}) > 1:
            raise ValueError("method: integrators at different levels must have tables of the same shape")
        stages = tuple(
            Stage(np.concatenate([stage.G for stage in group]), along([stage.map for stage in group]))
            for group in zip(*(step.stages for step in steps), strict=True)
        )
        open, close = along([step.open for step in steps]), along([step.close for step in steps])
        return cls(stages, open, close, steps[0].open_uses_score)

    @classmethod
    def on_step(cls, G: Array, map: Affine) -> Step:
        """Return a step of one stage whose ``u`` is (x, p): ``open`` is the identity and ``close`` is the stage."""
        return cls((Stage(G, map),), Affine.identity(map.b[..., 0], map.rows), map)

    @classmethod
    def inside_stage(cls, stages: tuple[Stage, ...], before: Affine, after: Affine, open_uses_score: bool) -> Step:
        """Return a step whose last stage is ``before`` followed by ``after``, with one score at the position.

        The time step ends between the two maps, so ``before`` is also the readout. The noise of the whole stage and the
        noise of the readout are jointly Gaussian. An orthogonal transformation of the normals minimises the number of
        normals in the stage, which is then at most k. Only the readout uses the remaining normals.
        """
        whole = before.then(after)
        silent = np.zeros((*after.C.shape[:-1], after.normals))
        noise, reading = joint(whole.C, np.concatenate([before.C, silent], axis=-1))
        last = Stage(first_row(whole.b), replace(whole, C=noise))
        return cls((*stages, last), after.compressed(), replace(before, C=reading), open_uses_score)

    @classmethod
    def metropolis(cls, stages: tuple[Stage, ...], before: Affine, after: Affine) -> Step:
        """Return a step that applies ``before``, proposes a state by its stages, tests it, and applies ``after``.

        The first stage uses the score at the present position. The last one must evaluate the score at the proposed
        position. The map of all stages must preserve volume and be reversed by a reversal of the momentum. The time
        step ends between ``after`` and ``before``, which are one map, as in `inside_stage`.
        """
        step = cls.inside_stage(stages, after, before, open_uses_score=True)
        last = step.stages[-1]
        if not last.map.normals:  # kernels use one normal in each step
            silent = np.zeros((*last.map.b.shape, 1))
            step = replace(
                step, stages=(*stages, Stage(last.G, replace(last.map, C=silent))), close=replace(step.close, C=silent)
            )
        return replace(step, temperature=np.ones(before.b.shape[:-1]))


def table(h: Array, rows: Any) -> Array:
    """Stack nested lists of numbers and of arrays shaped like ``h`` to one array with the axes of ``h`` first.

    Parameters
    ----------
    h : array
        Step size; only its shape is used.
    rows : number, array, or nested list of these
        The entries of the table.

    Returns
    -------
    array, shape (*h.shape, ...)
        The table. After the axes of ``h`` it has one axis per level of nesting.

    Examples
    --------
    >>> import numpy as np
    >>> h = np.array([0.1, 0.2])
    >>> table(h, [[0, h], [0, -1]]).shape
    (2, 2, 2)
    """
    if not isinstance(rows, list):
        return np.broadcast_to(rows, np.shape(h))
    entries = [table(h, row) for row in rows]
    return np.stack(entries, axis=np.ndim(h)) if entries else np.zeros((*np.shape(h), 0))


def first_row(like: Array) -> Array:
    """Return ``G = (1, 0, ...)`` with the shape of ``like``: the score is evaluated at the position."""
    return np.broadcast_to(np.eye(like.shape[-1])[0], like.shape)


def joint(stage: Array, reading: Array) -> tuple[Array, Array]:
    """Return coefficients of the noise of a stage and of its readout for the smallest number of normals.

    The arguments are coefficients of the same normals, shape (..., k, n). The result has the same joint distribution.
    In the result, the stage uses at most k normals. The first columns of the readout multiply these normals, and its
    other columns multiply further normals.
    """
    k = stage.shape[-2]
    factor, pivots = triangular(np.concatenate([stage[..., ::-1, :], reading], axis=-2))
    m = sum(pivot < k for pivot in pivots)
    return factor[..., k - 1 :: -1, :m], factor[..., k:, :]


def triangular(noise: Array) -> tuple[Array, list[int]]:
    """Return a factor F with ``F F^T = noise noise^T`` and the fewest columns, and the rows of its pivots.

    The rows are orthogonalised by modified Gram-Schmidt, which is a QR factorisation of the transpose. Unlike the
    Cholesky factorisation of the covariance, it does not square the condition number and does not need full rank.
    ``noise`` has shape (..., r, n) and F has shape (..., r, len(pivots)). A row that is a linear combination of the
    rows before it adds no column.
    """
    rest = noise
    columns, pivots = [], []
    for r in range(noise.shape[-2]):
        square = total(np.square(rest[..., r, :]))
        # The residual of a dependent row is a rounding error, about 1e-16 times the norm of the row. The residual of an
        # independent row is of the order of that norm at any h.
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

r"""Plans: runs through noise levels, as data.

A plan is a sequence of phases. A phase is a number of time steps at one noise level, each a
`uldnum.schemes.stage.Step`; between phases the chain hands over (x, p), the position and whatever else it remembers.
Annealed Langevin dynamics, MILD, predictor-corrector sampling, DDIM and Heun's method differ in their tables alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from uldnum._util.arguments import flag, positive_number, shown, step_size, whole_number
from uldnum._util.names import UnknownNameError, checked_text, split_name, unknown
from uldnum._util.typing import Array
from uldnum.plans.levels import Levels
from uldnum.plans.presets import PRESETS
from uldnum.schemes.adaptive import Adaptive
from uldnum.schemes.catalogue import Integrator, integrators
from uldnum.schemes.catalogue import integrator as find_integrator
from uldnum.schemes.predictors import PREDICTORS, Move, NoiseLevel, Predictor, denoising, embedded
from uldnum.schemes.predictors import predictor as find_moves
from uldnum.schemes.stage import Affine, Stage, Step, first_row

__all__ = ["Phase", "Plan", "plan", "preset"]


@dataclass(frozen=True)
class Phase:
    """Time steps at one noise level.

    Attributes
    ----------
    step : Step
        The tables of one step, with a leading axis of length 1.
    count : int
        How many.
    alpha, sigma : float
        The level: the score is that of ``z = alpha x + sigma eps``.
    rule : Adaptive, optional
        Chooses the step size at every step; then ``step`` is that of size 1.
    """

    step: Step
    count: int
    alpha: float
    sigma: float
    rule: Adaptive | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """A run through noise levels.

    Attributes
    ----------
    name : str
        What it is called in output.
    start : (float, float)
        alpha and sigma of the level at which it begins.
    phases : sequence of Phase
        In the order of time; all remember the same number of rows.
    memory : array, shape (k - 1,)
        Standard deviations of the rows after the first at the start.
    source : str
        Where it is defined.
    x0 : str
        From what chains start, unless they are given something else: "target", the law of the first level, or "normal".
    momenta : bool
        Whether row 1 holds momenta.
    on_step : bool
        Whether phases hand over (x, p) on the step; with shared boundaries they hand over what lies between steps.
    """

    name: str
    start: tuple[float, float]
    phases: Sequence[Phase]
    memory: Array
    source: str
    x0: str = "target"
    momenta: bool = False
    on_step: bool = True

    def __post_init__(self) -> None:
        checked_text("name", self.name)

    def __repr__(self) -> str:
        """Say what it is, not all its tables."""
        return f"Plan({self.name}, {len(self.phases)} phases, {self.steps} steps)"

    @property
    def rows(self) -> int:
        """Rows that a chain remembers."""
        return 1 + len(self.memory)

    @cached_property
    def counts(self) -> Array:
        """Time steps of each phase, int64, shape (phases,)."""
        return np.array([phase.count for phase in self.phases])

    @cached_property
    def alpha(self) -> Array:
        """alpha of the level of each phase, shape (phases,)."""
        return np.array([phase.alpha for phase in self.phases])

    @cached_property
    def sigma(self) -> Array:
        """sigma of the level of each phase, shape (phases,)."""
        return np.array([phase.sigma for phase in self.phases])

    @property
    def steps(self) -> int:
        """Steps of all phases: of integrators, of predictors, and where boundaries are shared the parts of those."""
        return sum(self.counts.tolist())

    @cached_property
    def adaptive(self) -> bool:
        """Whether some phase chooses its step sizes itself."""
        return any(phase.rule is not None for phase in self.phases)


def widened(step: Step, k: int) -> Step:
    """Return a step of chains with k rows that leaves those alone that it does not know."""
    more = k - step.rows

    def wide(map: Affine) -> Affine:
        rows = ((0, 0), (0, more))
        return Affine(np.pad(map.dA, (*rows, (0, more))), np.pad(map.b, rows), np.pad(map.C, (*rows, (0, 0))))

    stages = tuple(Stage(np.pad(stage.G, ((0, 0), (0, more))), wide(stage.map)) for stage in step.stages)
    return Step(stages, wide(step.open), wide(step.close), step.open_uses_score)


def handed_over(k: int, own: int, momentum: str, memory: float, ratio: Array) -> Affine | None:
    """Return what happens to rows 1 ... own - 1 between levels with these ratios of sigma; None if nothing does."""
    if momentum == "kept" or own < 2:
        return None
    count, rows = len(ratio), np.arange(1, own)
    dA, C = np.zeros((count, k, k)), np.zeros((count, k, own - 1))
    if momentum == "refreshed":
        dA[:, rows, rows], C[:, rows, rows - 1] = -1, memory
    else:
        dA[:, rows, rows] = ratio[:, None] - 1
    return Affine(dA, np.zeros((count, k)), C if C.any() else C[..., :0])


MOMENTA = ("kept", "rescaled", "refreshed")
BOUNDARIES = ("own", "shared")


def preset(name: str) -> Plan:
    """Return a plan of the literature, with the levels, steps and constants of its source.

    Parameters
    ----------
    name : str
        A name in `PRESETS`, which ``uldnum list`` shows; case is ignored.

    Returns
    -------
    Plan
        What `plan` makes of these constants, with the name, the source and the start (``x0``) of the preset.

    Raises
    ------
    ValueError
        If there is no such plan; the message offers the nearest.
    """
    if not isinstance(name, str) or name.lower() not in PRESETS:
        raise unknown("plan", name, PRESETS, f"Known are {', '.join(PRESETS)}")
    chosen = PRESETS[name.lower()]
    built = plan(chosen.method, chosen.levels(), **chosen.options)
    return replace(built, name=name.lower(), source=chosen.source, x0=chosen.x0)


def plan(
    method: str | Integrator,
    levels: Levels,
    *,
    steps: int = 1,
    h: float | None = None,
    eps: float | None = None,
    snr: float | None = None,
    coupled: bool = False,
    friction: float = 1.0,
    predictor: str | None = None,
    momentum: str = "kept",
    boundary: str = "own",
    denoise: bool = True,
) -> Plan:
    r"""Build a plan: some steps of an integrator at every level, or steps of a predictor from level to level, or both.

    Parameters
    ----------
    method : str or Integrator
        An integrator (`uldnum.integrators`), or a predictor (`PREDICTORS`), which takes no step size.
    levels : Levels
        The noise levels (`uldnum.levels`).
    steps : int
        Steps of the integrator at each level.
    h : float
        Step size in units of sigma_i.
    eps : float
        The step size as the epsilon of annealed Langevin dynamics instead: ``h_i^2/2 = eps (sigma_i/sigma_L)^2``
        (Song & Ermon 2020, Algorithm 1, where it is alpha_i).
    snr : float
        Instead of a step size the signal-to-noise ratio of a rule that chooses it at every step from the score of the
        chain (`uldnum.schemes.adaptive`): 0.16 for CIFAR-10 in Song et al. 2021 (``preset("pc-cifar10")``).
    coupled : bool
        The rule takes means over all chains, as the original code does.
    friction : float
        Friction, in units of 1/sigma_i.
    predictor : str, optional
        A predictor that goes from each level to the next, after the integrator's steps (predictor-corrector, Song et
        al. 2021, Algorithm 1).
    momentum : "kept", "rescaled" or "refreshed"
        What becomes of row 1 from level to level. Momenta have unit variance at every level, so that keeping them
        changes nothing in equilibrium; "rescaled" multiplies with sigma_{i+1}/sigma_i, for rows that are displacements,
        as MILD's; "refreshed" draws it anew, which forgets the direction.
    boundary : "own" or "shared"
        Where a scheme closes a level with a score and opens the next with one: each with the score of its own level, or
        both with that of the new one, which saves an evaluation a level.
    denoise : bool
        End with the mean of the data given x, one more evaluation.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        If an argument is unknown, missing or out of range; the message names it.
    """
    if not isinstance(levels, Levels):
        raise ValueError(f"levels: must come from uldnum.levels, got {shown(levels)}")
    denoise, coupled = flag("denoise", denoise), flag("coupled", coupled)
    if not isinstance(momentum, str) or momentum not in MOMENTA:
        raise ValueError(f"momentum: must be one of {', '.join(MOMENTA)}, got {shown(momentum)}")
    if not isinstance(boundary, str) or boundary not in BOUNDARIES:
        raise ValueError(f"boundary: must be one of {', '.join(BOUNDARIES)}, got {shown(boundary)}")
    if is_predictor(method):
        options = {
            "steps": not is_one(steps), "h": h is not None, "eps": eps is not None, "snr": snr is not None,
            "coupled": coupled, "friction": not is_one(friction), "predictor": predictor is not None,
            "momentum": momentum != "kept", "boundary": boundary != "own",
        }  # fmt: skip
        given = ", ".join(name for name, unusual in options.items() if unusual)
        if given:
            raise ValueError(f"{given}: {method!r} is a predictor, which takes levels and denoise alone")
        return predictions(str(method), levels, denoise)
    scheme, count = find_method(method), whole_number("steps", steps, 1, 2**48)
    sizes = step_sizes(levels, h, eps, snr)
    gamma = positive_number("friction", friction)
    named, moves, source = (
        (scheme.name, None, scheme.source) if predictor is None else find_predictor(predictor, scheme)
    )
    between = moves_between(levels, moves)
    width = max((len(move.b) for move in between), default=1)
    k = scheme.rows + (width > 1)
    if coupled and snr is None:
        raise ValueError("coupled: says how snr chooses steps; give snr")
    if snr is not None and (boundary == "shared" or momentum != "kept" or width > 1):
        raise ValueError("snr: goes with boundary 'own', momentum 'kept', and predictors of one evaluation")
    chosen = rules(scheme, levels, snr, gamma, coupled)
    own = widened(scheme.stages(sizes, friction=gamma / levels.sigma), k)
    phases = corrected(scheme, own, levels, count, momentum, boundary, between, chosen)
    if denoise:
        phases += last_phases(levels, k)
    memory = np.array([scheme.memory] * (scheme.rows - 1) + [0.0] * (width > 1))
    apart = boundary == "own" or not own.open_uses_score
    return Plan(named, places_of(levels)[0], tuple(phases), memory, source, momenta=scheme.momenta, on_step=apart)


def is_one(value: Any) -> bool:
    """Whether an argument is the number 1."""
    return isinstance(value, int | float) and value == 1


def is_predictor(method: Any) -> bool:
    """Whether a name is that of a predictor."""
    return isinstance(method, str) and split_name(method)[0].lower() in PREDICTORS


def find_method(method: str | Integrator) -> Integrator:
    """Return an integrator, or raise with the nearest name of all that there are for plans."""
    if not isinstance(method, str | Integrator):
        raise ValueError(f"method: must be a name or an Integrator, got {shown(method)}")
    try:
        return find_integrator(method)
    except UnknownNameError:
        if str(method).lower() in PRESETS:
            raise ValueError(f"method: {method!r} is a whole plan; take uldnum.preset({method!r})") from None
        names = [*(entry.signature for entry in integrators()), *PREDICTORS, *PRESETS]
        raise unknown("method", method, names) from None


def find_predictor(name: str, scheme: Integrator) -> tuple[str, Predictor, str]:
    """Return the name, the moves and the sources of a predictor with a corrector."""
    full, moves, source = find_moves(name)
    return f"{full} with {scheme.name}", moves, f"{source}; {scheme.source}"


def moves_between(levels: Levels, moves: Predictor | None) -> list[Move]:
    """Return the moves from every level to the next, whose coefficients are arrays over the levels but the last."""
    if moves is None or len(levels) == 1:
        return []
    a, s = levels.alpha, levels.sigma
    before = NoiseLevel(np.append(a[0], a[:-2]), np.append(np.inf, s[:-2]))
    return moves(NoiseLevel(a[:-1], s[:-1]), NoiseLevel(a[1:], s[1:]), before)


def places_of(levels: Levels | NoiseLevel) -> list[tuple[float, float]]:
    """Return alpha and sigma of levels, one by one."""
    a, s = (levels.alpha, levels.sigma) if isinstance(levels, Levels) else levels
    return list(zip(a.tolist(), s.tolist(), strict=True))


def predicted(moves: Sequence[Move], k: int) -> list[tuple[Phase, ...]]:
    """Return the phases that go from every level to the next."""
    phases = [
        [Phase(step, 1, *place) for step, place in zip(embedded(move, k).split(), places_of(move.place), strict=True)]
        for move in moves
    ]
    return list(zip(*phases, strict=True))


def last_phases(levels: Levels, k: int) -> list[Phase]:
    """Return the phase that ends a plan with the mean of the data given x."""
    last = NoiseLevel(levels.alpha[-1:], levels.sigma[-1:])
    return [Phase(denoising(last, k), 1, *places_of(last)[0])]


def step_sizes(levels: Levels, h: float | None, eps: float | None, snr: float | None) -> Array:
    """Return the step size at every level, absolute; 1 where a rule chooses it."""
    if sum(option is not None for option in (h, eps, snr)) != 1:
        raise ValueError("h, eps, snr: give exactly one of them; eps is h^2/2 at the last level, absolute")
    if snr is not None:
        return np.ones(len(levels))
    if eps is not None:
        return step_size(None, positive_number("eps", eps)) * levels.sigma / levels.sigma[-1]
    return positive_number("h", h) * levels.sigma


def predictions(name: str, levels: Levels, denoise: bool) -> Plan:
    """Return the plan of a predictor alone."""
    full, moves, source = find_moves(name)
    between = moves_between(levels, moves)
    k = max((len(move.b) for move in between), default=1)
    phases = [phase for pair in predicted(between, k) for phase in pair]
    if denoise:
        phases += last_phases(levels, k)
    if not phases:
        raise ValueError("levels: a predictor goes from level to level, and there is one only")
    return Plan(full, places_of(levels)[0], tuple(phases), np.zeros(k - 1), source)


def corrected(
    scheme: Integrator,
    own: Step,
    levels: Levels,
    count: int,
    momentum: str,
    boundary: str,
    moves: Sequence[Move],
    chosen: Sequence[Adaptive | None],
) -> list[Phase]:
    """Return the phases of an integrator's steps at every level, with those of a predictor between levels.

    The tables ``own`` have an axis of levels.
    """
    k = own.rows
    change = handed_over(k, scheme.rows, momentum, scheme.memory, levels.sigma[1:] / levels.sigma[:-1])
    if boundary == "shared" and own.open_uses_score:
        if moves:
            raise ValueError("boundary: a predictor between two levels leaves them no evaluation to share")
        return shared(own, levels, count, change)
    first, others = own.at(slice(1)), own.at(slice(1, None))
    if change is not None:
        others = replace(others, open=change.then(others.open))
    phases = []
    steps, after = [first, *others.split()], [*(predicted(moves, k) or [()] * (len(levels) - 1)), ()]
    for step, place, rule, between in zip(steps, places_of(levels), chosen, after, strict=True):
        phases += [Phase(step, count, *place, rule), *between]
    return phases


def rules(
    scheme: Integrator, levels: Levels, snr: float | None, friction: float, coupled: bool
) -> list[Adaptive | None]:
    """Return what chooses the step size at each level, if anything does."""
    if snr is None:
        return [None] * len(levels)
    ratio = positive_number("snr", snr)
    # 1 - beta_i is (alpha_i/alpha_{i+1})^2, which is 1 for VE levels; the last level takes that of the one before.
    falls = np.square(levels.alpha[:-1] / levels.alpha[1:])
    scales = np.append(falls, falls[-1:] if len(falls) else 1.0)
    return [
        Adaptive(scheme, friction / sigma, ratio, scale, coupled)
        for sigma, scale in zip(levels.sigma.tolist(), scales.tolist(), strict=True)
    ]


def shared(own: Step, levels: Levels, count: int, change: Affine | None) -> list[Phase]:
    """Return phases that close each level and open the next with one score, that of the next.

    They hand over what the recurrence remembers instead of (x, p), but for the last. ``change`` is what happens between
    two levels; its tables, and those of the steps, have an axis of levels.
    """
    places = places_of(levels)

    def boundaries(map: Affine, where: Sequence[tuple[float, float]]) -> list[Phase]:
        steps = Step.on_step(first_row(map.b), map.compressed()).split()
        return [Phase(step, 1, *place) for step, place in zip(steps, where, strict=True)]

    closed = own.close.at(slice(-1)) if change is None else own.close.at(slice(-1)).then(change)
    crossed = closed.then(own.open.at(slice(1, None)))
    after = boundaries(crossed, places[1:]) + boundaries(own.close.at(slice(-1, None)), places[-1:])
    phases, nothing = boundaries(own.open.at(slice(1)), places[:1]), Affine.identity(np.ones(1), own.rows)
    for step, place, boundary in zip(own.split(), places, after, strict=True):
        for part, times in ((step.stages, count - 1), (step.stages[:-1], 1)):
            if part and times:
                phases.append(Phase(Step(part, nothing, part[-1].map), times, *place))
        phases.append(boundary)
    return phases

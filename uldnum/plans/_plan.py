r"""Plans: runs through a sequence of noise levels, as coefficient tables.

At a noise level the score is that of ``z = alpha x + sigma eps``, where x are the data and eps is standard normal
noise. A plan is a sequence of phases. A phase is a number of equal time steps (`uldnum.schemes.stage.Step`) at one
noise level. The state that one phase passes to the next is (x, p), where x is the position and p is the momentum or the
other rows of the scheme; plans with shared boundaries are an exception (`Plan.on_step`). Annealed Langevin dynamics,
MILD, predictor-corrector sampling, DDIM and Heun's method differ only in the tables of their phases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from uldnum._util.arguments import answer_of, flag, positive_number, shown, step_size, whole_number
from uldnum._util.names import UnknownNameError, checked_text, split_name, unknown
from uldnum._util.summary import Described, Summary, counted, selected, shown_of
from uldnum._util.typing import Array
from uldnum.plans import schedules
from uldnum.plans.levels import Levels, spaced
from uldnum.plans.presets import PRESETS
from uldnum.schemes.adaptive import Adaptive
from uldnum.schemes.catalogue import Integrator, common_score_noise, conditions, unknown_integrator
from uldnum.schemes.catalogue import integrator as find_integrator
from uldnum.schemes.controlled import PIDLD, SOURCE, gains_of, pid
from uldnum.schemes.form import START, Form
from uldnum.schemes.predictors import PREDICTORS, Combination, Move, NoiseLevel, Predictor, denoising, embedded
from uldnum.schemes.predictors import predictor as find_moves
from uldnum.schemes.stage import Affine, Stage, Step, first_row

__all__ = ["Phase", "Plan", "plan", "preset"]


@dataclass(frozen=True)
class Phase:
    """Time steps at one noise level.

    Attributes
    ----------
    step : Step
        Tables of one step, with a leading axis of length 1.
    count : int
        Number of steps.
    alpha, sigma : float
        Noise level: the score is that of ``z = alpha x + sigma eps``.
    rule : Adaptive, optional
        Rule that chooses the step size in every step; ``step`` then holds the tables of step size 1.
    combination : Combination, optional
        The step of a predictor in terms of data and noise instead of the score.
    """

    step: Step
    count: int
    alpha: float
    sigma: float
    rule: Adaptive | None = None
    combination: Combination | None = None

    def answered(self, form: Form | None) -> Step:
        """Return the tables of one step in terms of the answers of a form, or of scores if it is None.

        Raises
        ------
        ValueError
            If a predictor starts at alpha = 0 and there is no form.
        """
        if self.combination is None:
            return self.step if form is None else self.step.answered(form)
        if form is not None:
            dA, b = self.combination.answered(form)
            return self.step.each_end(lambda one: replace(one, dA=dA, b=b))
        if self.alpha == 0:
            raise ValueError(
                "levels: must have alpha > 0, because the score of pure noise does not depend on the data; only a "
                "network that predicts the image, v or the velocity, or a DataMixture, supports a start at alpha = 0; "
                f"start at a finite sigma/alpha, such as {START:g}"
            )
        return self.step


@dataclass(frozen=True, eq=False, repr=False)
class Plan(Described):
    """A run through a sequence of noise levels.

    `uldnum.plan` and `uldnum.preset` return plans, and `uldnum.anneal` runs them.

    Attributes
    ----------
    name : str
        Name in output and in stored results.
    start : tuple of (float, float)
        alpha and sigma of the first level.
    phases : sequence of Phase
        The phases in order of time. All have the same number k of rows.
    memory : float64 array, shape (k - 1,)
        Standard deviations of the initial values of rows 1 to k - 1.
    source : str
        Reference that defines the plan.
    x0 : str, default "target"
        Default initial states: "target" for draws from the distribution at the first level, "normal" for N(0, I).
    momenta : bool, default False
        Whether row 1 holds momenta.
    on_step : bool, default True
        Whether the state between phases is (x, p) at the end of a time step. It is False if ``boundary="shared"`` of
        `uldnum.plan` has an effect; the state between phases then lies inside a time step.
    temperature : float, default 1.0
        Temperature of the integrator.
    score_noise : float, default 0.0
        Standard deviation of the error of the score in units of 1/sigma, the largest one of all phases.

    Examples
    --------
    >>> import uldnum
    >>> plan = uldnum.plan("ddim", uldnum.levels.geometric(10.0, 0.1, 3), denoise=False)
    >>> plan.name, plan.start, len(plan.phases)
    ('ddim', (1.0, 10.0), 2)
    """

    name: str
    start: tuple[float, float]
    phases: Sequence[Phase]
    memory: Array
    source: str
    x0: str = "target"
    momenta: bool = False
    on_step: bool = True
    temperature: float = 1.0
    score_noise: float = 0.0

    def __post_init__(self) -> None:
        checked_text("name", self.name)

    @property
    def summary(self) -> Summary:
        """Table of noise level, number of steps and evaluations per step, for at most eight of the phases."""
        phases = counted(len(self.phases), "phase")
        rows = [
            [
                str(i + 1),
                *(f"{number:.4g}" for number in (self.alpha[i], self.sigma[i])),
                str(self.counts[i]),
                str(len(self.phases[i].step.stages)),
            ]
            for i in selected(len(self.phases))
        ]
        name = self.name + conditions(self.temperature, self.score_noise)
        title = f"Plan {name}: {phases}, {counted(self.steps, 'step')}"
        part = shown_of(len(rows), len(self.phases), "phase")
        header = ["phase", "alpha", "sigma", "steps", "evaluations per step"]
        return Summary(title + part, header, rows)

    @property
    def rows(self) -> int:
        """Number k of rows of the state of a chain."""
        return 1 + len(self.memory)

    @cached_property
    def counts(self) -> Array:
        """Number of time steps of each phase, int64, shape (phases,)."""
        return np.array([phase.count for phase in self.phases])

    @cached_property
    def alpha(self) -> Array:
        """alpha of each phase, float64, shape (phases,)."""
        return np.array([phase.alpha for phase in self.phases])

    @cached_property
    def sigma(self) -> Array:
        """sigma of each phase, float64, shape (phases,)."""
        return np.array([phase.sigma for phase in self.phases])

    @property
    def steps(self) -> int:
        """Total number of steps of all phases.

        A step is a time step of an integrator, one evaluation of a predictor, or the denoising step. With shared
        boundaries, each part of a time step that is a phase of its own counts as a step.
        """
        return sum(self.counts.tolist())

    @property
    def nfe(self) -> int:
        """Number of score evaluations per chain."""
        return sum(phase.count * len(phase.step.stages) + phase.step.open_uses_score for phase in self.phases)

    @cached_property
    def adaptive(self) -> bool:
        """Whether at least one phase has adaptive step sizes."""
        return any(phase.rule is not None for phase in self.phases)


def widened(step: Step, k: int) -> Step:
    """Return the same step for chains with k rows. The step leaves the additional rows unchanged."""
    more = k - step.rows

    def wide(map: Affine) -> Affine:
        rows = ((0, 0), (0, more))
        return Affine(np.pad(map.dA, (*rows, (0, more))), np.pad(map.b, rows), np.pad(map.C, (*rows, (0, 0))))

    stages = tuple(Stage(np.pad(stage.G, ((0, 0), (0, more))), wide(stage.map)) for stage in step.stages)
    return Step(stages, wide(step.open), wide(step.close), step.open_uses_score)


def momentum_map(k: int, own: int, momentum: str, memory: float, ratio: Array) -> Affine | None:
    """Return the map that changes the momentum between levels, or None if it is the identity.

    It acts on rows 1 to own - 1, where ``own`` is the number of rows of the integrator. The ratios are
    sigma_{i+1}/sigma_i, one per pair of neighbouring levels.
    """
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
        Name of the preset. ``uldnum list`` prints all names. Case is ignored.

    Returns
    -------
    Plan
        Result of `uldnum.plan` for these constants, with the name, source and initial states (``x0``) of the preset.

    Raises
    ------
    ValueError
        If there is no such preset. The message suggests a similar name.

    Examples
    --------
    >>> import uldnum
    >>> uldnum.preset("ald-cifar10")
    Plan ald-cifar10: 233 phases, 1161 steps, 8 of 233 phases shown
    ...
    """
    if not isinstance(name, str) or name.lower() not in PRESETS:
        raise unknown("plan", name, PRESETS, f"The presets are {', '.join(PRESETS)}")
    chosen = PRESETS[name.lower()]
    built = plan(chosen.method, chosen.levels(), **chosen.options)
    return replace(built, name=name.lower(), source=chosen.source, x0=chosen.x0)


def plan(
    method: str | Integrator | Sequence[str | Integrator],
    levels: Levels,
    *,
    steps: int = 1,
    h: float | None = None,
    eps: float | None = None,
    snr: float | None = None,
    coupled: bool = False,
    friction: float = 1.0,
    temperature: float | None = None,
    score_noise: float | Callable[[float, float], float] | None = None,
    predictor: str | None = None,
    momentum: str = "kept",
    boundary: str = "own",
    denoise: bool = True,
    restarts: Sequence[tuple[int, int, float, float]] = (),
) -> Plan:
    r"""Build a plan of an integrator at every noise level, of a predictor between the levels, or of both.

    With an integrator as the method, the plan runs ``steps`` steps at each level, in order of decreasing noise. Give
    exactly one of ``h``, ``eps`` and ``snr``. With a predictor as the method, the plan maps each level to the next, and
    only ``levels``, ``score_noise``, ``denoise`` and ``restarts`` are permitted.

    Parameters
    ----------
    method : str or Integrator
        An integrator (see `uldnum.integrators`), ``pidld(k_p,k_i,k_d)`` for PID-controlled Langevin dynamics with two
        optional decay rates (`uldnum.schemes.controlled`), or the name of a predictor: ``ddim(eta)``, ``ancestral``,
        ``reverse-diffusion``, ``edm-euler(churn,S_tmin,S_tmax,S_noise)``, ``heun`` with the same parameters, or
        ``dpm-solver++(order)``. The defaults are eta = 0 (it is from 0 to 1), churn = 0 (from 0 to sqrt(2) - 1) at all
        noise-to-signal ratios from S_tmin = 0 to S_tmax = inf, S_noise = 1 and order = 2 (2 or 3).
        `uldnum.schemes.predictors` states the formulas. A list of integrators, one for each level, is permitted if
        their tables have the same shape, for example MILD with another momentum at each level.
    levels : Levels
        Noise levels alpha_i, sigma_i with i = 1 ... L, from `uldnum.levels`.
    steps : int, default 1
        Number of steps of the integrator at each level.
    h : float, optional
        Step size in units of sigma_i: the step size at level i is ``h sigma_i``.
    eps : float, optional
        Step size parameter epsilon of annealed Langevin dynamics, in absolute units. The step size at level i satisfies
        ``h_i^2/2 = eps (sigma_i/sigma_L)^2``. Song & Ermon 2020, Algorithm 1, call ``h_i^2/2`` the step size alpha_i.
    snr : float, optional
        Signal-to-noise ratio r of the adaptive step size ``h^2/2 = 2 c_i (r |xi|/|s|)^2``, where xi are the normals and
        s is the score of the chain in the same step (`uldnum.schemes.adaptive`). The factor c_i is 1 for VE levels and
        1 - beta_i = (alpha_i/alpha_{i+1})^2 for VP levels. Song et al. 2021 use r = 0.16 for CIFAR-10.
    coupled : bool, default False
        Whether the adaptive step size averages both norms over all chains, as the code of Song et al. 2021 does. The
        option requires ``snr``.
    friction : float, default 1.0
        Friction in units of 1/sigma_i.
    temperature : float, optional
        Temperature T of the integrator. All of its noise is multiplied by sqrt(T); the score, predictors and the
        denoising step are not scaled. The default is that of the integrator, which is 1 in the catalogue.
    score_noise : float or callable, optional
        Standard deviation tau of the error of the score, in units of 1/sigma_i, or a function ``score_noise(alpha,
        sigma)`` that returns it at a noise level. All steps of the plan, also those of predictors and the denoising
        step, use ``s + tau zeta/sigma_i`` in place of s. The standard normals zeta are new in every evaluation and
        independent of the noise of the integrator. The default is that of the integrator, which is 0 in the catalogue.
    predictor : str, optional
        Predictor that maps each level to the next, after the steps of the integrator (predictor-corrector sampling,
        Song et al. 2021, Algorithm 1).
    momentum : {"kept", "rescaled", "refreshed"}, default "kept"
        Treatment of row 1 of the state between levels. Row 1 holds the momentum of a kinetic integrator or the
        displacement v of MILD. "kept" leaves it unchanged. Momenta have the same variance at every level, so they stay
        in equilibrium. "rescaled" multiplies the row by sigma_{i+1}/sigma_i, which suits displacements. "refreshed"
        replaces the row by a new draw.
    boundary : {"own", "shared"}, default "own"
        Scores at the boundary of two levels. The option affects only schemes that end a step and start the next one
        with the same score, such as BAOAB. With "own", the last step of a level ends with the score of that level, and
        the first step of the next level evaluates another score. With "shared", both use the score of the next level,
        which saves one evaluation at each boundary.
    denoise : bool, default True
        Whether the plan ends with a denoising step, which replaces the state by the mean of the data given the state at
        the last level (Tweedie's formula). It costs one evaluation.
    restarts : sequence of (int, int, float, float), default ()
        Restarts of a predictor on VE levels (Xu et al. 2023, Algorithm 1), each as (N, K, t_min, t_max). After the
        level that is closest to sigma = t_min, the plan K times raises the noise to sigma = t_max by adding noise, and
        returns on N levels, which are spaced as in `uldnum.levels.karras` with rho = 7.

    Returns
    -------
    Plan
        The plan.

    Raises
    ------
    ValueError
        If an argument is unknown, missing or out of range. The message names the argument.

    Warns
    -----
    UserWarning
        If a splitting word has neither O nor U nor K, so that the scheme has no noise and no thermostat.

    References
    ----------
    Song & Ermon 2020 (NCSNv2), Algorithm 1: annealed Langevin dynamics.
    Song, Sohl-Dickstein, Kingma, Kumar, Ermon & Poole 2021, Algorithms 1 to 5: predictor-corrector sampling.
    Xu, Deng, Cheng, Tian, Liu & Jaakkola 2023, Restart sampling for improving generative processes, Algorithm 1.

    Examples
    --------
    >>> import uldnum
    >>> levels = uldnum.levels.geometric(10.0, 0.1, 5)
    >>> uldnum.plan("BAOAB", levels, steps=3, h=0.5)
    Plan BAOAB: 6 phases, 16 steps
      phase  alpha  sigma   steps  evaluations per step
      1      1      10      3      1
      2      1      3.162   3      1
      3      1      1       3      1
      4      1      0.3162  3      1
      5      1      0.1     3      1
      6      1      0.1     1      1
    >>> uldnum.plan("ula", levels, h=0.3, predictor="reverse-diffusion")
    Plan reverse-diffusion with ula: 10 phases, 10 steps, 8 of 10 phases shown
    ...
    >>> uldnum.plan("heun", levels, denoise=False)
    Plan heun: 8 phases, 8 steps
    ...
    """
    if not isinstance(levels, Levels):
        raise ValueError(f"levels: must come from uldnum.levels, got {shown(levels)}")
    denoise, coupled = flag("denoise", denoise), flag("coupled", coupled)
    if not isinstance(momentum, str) or momentum not in MOMENTA:
        raise ValueError(f"momentum: must be one of {', '.join(MOMENTA)}, got {shown(momentum)}")
    if not isinstance(boundary, str) or boundary not in BOUNDARIES:
        raise ValueError(f"boundary: must be one of {', '.join(BOUNDARIES)}, got {shown(boundary)}")
    returns = checked_restarts(restarts)
    if is_predictor(method):
        options = {
            "steps": not is_one(steps), "h": h is not None, "eps": eps is not None, "snr": snr is not None,
            "coupled": coupled, "friction": not is_one(friction), "temperature": temperature not in (None, 1),
            "predictor": predictor is not None, "momentum": momentum != "kept", "boundary": boundary != "own",
        }  # fmt: skip
        given = ", ".join(name for name, unusual in options.items() if unusual)
        if given:
            raise ValueError(
                f"{given}: {method!r} is a predictor, which accepts only levels, score_noise, denoise and restarts"
            )
        built = predictions(str(method), segments(levels, returns), denoise)
        return with_noisy_scores(built, 0.0 if score_noise is None else score_noise)
    if returns:
        raise ValueError("restarts: need a predictor as the method, such as heun")
    if is_controlled(method):
        options = {
            "snr": snr is not None, "coupled": coupled, "friction": not is_one(friction),
            "predictor": predictor is not None, "momentum": momentum != "kept", "boundary": boundary != "own",
        }  # fmt: skip
        given = ", ".join(name for name, unusual in options.items() if unusual)
        if given:
            raise ValueError(
                f"{given}: {method!r} accepts only levels, steps, h, eps, temperature, score_noise and denoise"
            )
        each = whole_number("steps", steps, 1, 2**48)
        built = controlled(str(method), levels, each, step_sizes(levels, h, eps, None), temperature, denoise)
        return with_noisy_scores(built, 0.0 if score_noise is None else score_noise)
    given_methods, count = methods(method, len(levels), temperature), whole_number("steps", steps, 1, 2**48)
    noise = given_methods[0].score_noise if score_noise is None else score_noise
    silent = {id(one): one.at(score_noise=0.0) for one in given_methods}
    schemes = [silent[id(one)] for one in given_methods]  # one object if the method is a single integrator
    scheme = schemes[0]
    sizes = step_sizes(levels, h, eps, snr)
    gamma = positive_number("friction", friction)
    named, moves, source = (
        (name_of(schemes), None, scheme.source)
        if predictor is None
        else find_predictor(predictor, name_of(schemes), scheme.source)
    )
    between = moves_between(levels, moves)
    width = max((len(move.C) for move in between), default=1)
    k = scheme.rows + width - 1
    if coupled and snr is None:
        raise ValueError("coupled: is an option of adaptive step sizes; give snr")
    if snr is not None and (boundary == "shared" or momentum != "kept" or width > 1):
        raise ValueError(
            "snr: needs boundary 'own' and momentum 'kept', and does not support the predictors heun and dpm-solver++"
        )
    if snr is not None and noise != 0:
        raise ValueError("score_noise: must be 0 with snr, because these step sizes depend on the score")
    if len(silent) > 1 and (snr is not None or boundary == "shared"):
        raise ValueError("method: a list of different integrators needs boundary 'own' and no snr")
    chosen = rules(scheme, levels, snr, gamma, coupled)
    own = widened(steps_of(schemes, sizes, gamma / levels.sigma), k)
    phases = corrected(scheme, own, levels, count, momentum, boundary, between, chosen)
    if denoise:
        phases += last_phases(levels, k)
    memory = np.array([scheme.start_deviation] * (scheme.rows - 1) + [0.0] * (width - 1))
    on_step = boundary == "own" or not own.open_uses_score
    whole = Plan(
        named, places_of(levels)[0], tuple(phases), memory, source, momenta=scheme.momenta, on_step=on_step,
        temperature=scheme.temperature,
    )  # fmt: skip
    return with_noisy_scores(whole, noise)


def with_noisy_scores(plan: Plan, score_noise: Any) -> Plan:
    """Return a plan whose scores have errors.

    ``score_noise`` is the standard deviation of the errors, or a function of alpha and sigma that returns it. The noise
    is added to the tables of the phases, whose stages have one evaluation each. A stage that contains the end of one
    level and the start of the next therefore has a single error.
    """

    def deviation(phase: Phase) -> float:
        if callable(score_noise):
            return common_score_noise(answer_of("score_noise", score_noise, phase.alpha, phase.sigma))
        return common_score_noise(score_noise)

    deviations = [deviation(phase) for phase in plan.phases]
    if any(tau > 0 and phase.alpha == 0 for tau, phase in zip(deviations, plan.phases, strict=True)):
        raise ValueError(
            "score_noise: must be 0 at a level with alpha = 0, where the image does not follow from the score"
        )
    phases = tuple(
        replace(phase, step=phase.step.with_score_noise(np.array([tau / phase.sigma])))
        for phase, tau in zip(plan.phases, deviations, strict=True)
    )
    return replace(plan, phases=phases, score_noise=max(deviations))


def is_one(value: Any) -> bool:
    """Return whether an argument is the number 1."""
    return isinstance(value, int | float) and value == 1


def is_predictor(method: Any) -> bool:
    """Return whether a value is the name of a predictor."""
    return isinstance(method, str) and split_name(method)[0].lower() in PREDICTORS


def is_controlled(method: Any) -> bool:
    """Return whether a value is the name of PID-controlled Langevin dynamics."""
    return isinstance(method, str) and split_name(method)[0].lower() == PIDLD


def find_method(method: str | Integrator) -> Integrator:
    """Return an integrator, or raise an error that suggests an integrator, a predictor or a preset."""
    if not isinstance(method, str | Integrator):
        raise ValueError(f"method: must be a name or an Integrator, got {shown(method)}")
    try:
        scheme = find_integrator(method)
    except UnknownNameError:
        if str(method).lower() in PRESETS:
            raise ValueError(f"method: {method!r} is a preset plan; use uldnum.preset({method!r})") from None
        raise unknown_integrator("method", str(method), [*PREDICTORS, PIDLD, *PRESETS]) from None
    if scheme.metropolised:
        raise ValueError(
            f"method: {scheme.name!r} has a Metropolis test, which plans do not support; uldnum.sample does"
        )
    return scheme


def find_predictor(name: str, corrector: str, reference: str) -> tuple[str, Predictor, str]:
    """Return the name, the function and the references of a predictor with an integrator as its corrector."""
    full, moves, source = find_moves(name)
    return f"{full} with {corrector}", moves, f"{source}; {reference}"


def methods(method: Any, levels: int, temperature: float | None) -> list[Integrator]:
    """Return the integrator at every level at a temperature, given one integrator or one for each level."""
    if not isinstance(method, list | tuple):
        return [find_method(method).at(temperature=temperature)] * levels
    found = [find_method(one).at(temperature=temperature) for one in method]
    if len(found) != levels:
        raise ValueError(f"method: must have one integrator for each of the {levels} levels, got {len(found)}")
    for name in ("memory", "momenta", "temperature", "score_noise"):
        if len({getattr(one, name) for one in found}) > 1:
            raise ValueError(f"method: the integrators of all levels must have the same {name}")
    return found


def name_of(schemes: Sequence[Integrator]) -> str:
    """Return the name of one integrator, or those of the first and the last level."""
    names = list(dict.fromkeys(scheme.name for scheme in schemes))
    return names[0] if len(names) == 1 else f"{schemes[0].name} to {schemes[-1].name}"


def steps_of(schemes: Sequence[Integrator], sizes: Array, frictions: Array) -> Step:
    """Return the tables at every level, along the leading axis."""
    if all(scheme is schemes[0] for scheme in schemes):
        return schemes[0].stages(sizes, friction=frictions)
    each = zip(schemes, sizes, frictions, strict=True)
    return Step.joined([scheme.stages(size[None], friction=friction[None]) for scheme, size, friction in each])


def moves_between(levels: Levels, moves: Predictor | None) -> list[Move]:
    """Return the moves from each level to the next; their coefficients have one entry per level except the last."""
    if moves is None or len(levels) == 1:
        return []
    a, s = levels.alpha, levels.sigma
    before = NoiseLevel(np.append(a[0], a[:-2]), np.append(np.inf, s[:-2]))
    return moves(NoiseLevel(a[:-1], s[:-1]), NoiseLevel(a[1:], s[1:]), before)


def places_of(levels: Levels | NoiseLevel) -> list[tuple[float, float]]:
    """Return a list of pairs (alpha, sigma), one per level."""
    a, s = (levels.alpha, levels.sigma) if isinstance(levels, Levels) else levels
    return list(zip(a.tolist(), s.tolist(), strict=True))


def predicted(moves: Sequence[Move], k: int) -> list[tuple[Phase, ...]]:
    """Return, for each level except the last, the phases that map it to the next level."""
    return list(zip(*(phases_of(embedded(move, k), move.place) for move in moves), strict=True))


def phases_of(tables: tuple[Step, Combination], places: NoiseLevel) -> list[Phase]:
    """Return one phase for each level of a move."""
    step, combination = tables
    each = zip(step.split(), places_of(places), combination.split(), strict=True)
    return [Phase(step, 1, *place, combination=part) for step, place, part in each]


def last_phases(levels: Levels, k: int) -> list[Phase]:
    """Return a list with the denoising phase that ends a plan."""
    last = NoiseLevel(levels.alpha[-1:], levels.sigma[-1:])
    return phases_of(denoising(last, k), last)


def step_sizes(levels: Levels, h: float | None, eps: float | None, snr: float | None) -> Array:
    """Return the step size at every level, in units of time, or 1 if the step sizes are adaptive."""
    if sum(option is not None for option in (h, eps, snr)) != 1:
        raise ValueError(
            "h, eps, snr: give exactly one of them; h is in units of sigma, and eps is h^2/2 at the last level in "
            "absolute units"
        )
    if snr is not None:
        return np.ones(len(levels))
    if eps is not None:
        return step_size(None, positive_number("eps", eps)) * levels.sigma / levels.sigma[-1]
    return positive_number("h", h) * levels.sigma


def checked_restarts(restarts: Any) -> list[tuple[int, int, float, float]]:
    """Return restarts, or raise unless each consists of two whole and two positive numbers."""
    wanted = "restarts: must be a sequence of (N, K, t_min, t_max), got"
    if not isinstance(restarts, list | tuple):
        raise ValueError(f"{wanted} {shown(restarts)}")
    found = []
    for one in restarts:
        if not isinstance(one, list | tuple) or len(one) != 4:
            raise ValueError(f"{wanted} {shown(one)} in it")
        count, repetitions = (whole_number(f"restarts: {name}", one[i], 2 - i, 2**20) for i, name in enumerate("NK"))
        lowest, highest = (positive_number(f"restarts: {name}", one[i]) for i, name in ((2, "t_min"), (3, "t_max")))
        found.append((count, repetitions, lowest, highest))
    return found


def segments(levels: Levels, restarts: Sequence[tuple[int, int, float, float]]) -> list[Levels]:
    """Return the levels of a plan in parts: those between restarts, and those of each repetition of a restart."""
    if restarts and not np.all(levels.alpha == 1):
        raise ValueError("restarts: need VE levels, with alpha = 1")
    parts, first, sigma, family = [], 0, levels.sigma, partial(schedules.karras, rho=7.0)
    ends = [(int(np.argmin(np.abs(sigma - lowest))), i) for i, (_, _, lowest, _) in enumerate(restarts)]
    for end, i in sorted(ends):
        count, repetitions, _, highest = restarts[i]
        if highest <= sigma[end]:
            raise ValueError(f"restarts: t_max must be above the level sigma = {sigma[end]:.4g}, got {highest:.4g}")
        parts.append(Levels(levels.alpha[first : end + 1], sigma[first : end + 1]))
        parts += [spaced(family, highest, float(sigma[end]), count)] * repetitions
        first = end
    return [*parts, Levels(levels.alpha[first:], sigma[first:])]


def risen(phase: Phase, deviation: float) -> Phase:
    """Return a phase that first adds noise of a standard deviation to the position."""
    k = phase.step.rows
    C = np.zeros((1, k, 1))
    C[:, 0] = deviation
    rise = Affine(np.zeros((1, k, k)), np.zeros((1, k)), C)
    return replace(phase, step=replace(phase.step, open=rise.then(phase.step.open).compressed()))


def predictions(name: str, parts: Sequence[Levels], denoise: bool) -> Plan:
    """Return the plan of a predictor without an integrator, given levels in parts with noise added between them."""
    full, moves, source = find_moves(name)
    between = [moves_between(levels, moves) for levels in parts]
    k = max((len(move.C) for one in between for move in one), default=1)
    phases: list[Phase] = []
    for i, (levels, own) in enumerate(zip(parts, between, strict=True)):
        found = [phase for pair in predicted(own, k) for phase in pair]
        above = np.square(levels.sigma[0]) - np.square(parts[i - 1].sigma[-1]) if i else 0.0
        phases += [risen(found[0], math.sqrt(above)), *found[1:]] if above > 0 else found
    if denoise:
        phases += last_phases(parts[-1], k)
    if not phases:
        raise ValueError("levels: a predictor needs at least 2 levels, or denoise=True, got 1 level")
    return Plan(full, places_of(parts[0])[0], tuple(phases), np.zeros(k - 1), source)


def controlled(name: str, levels: Levels, count: int, sizes: Array, temperature: float | None, denoise: bool) -> Plan:
    """Return the plan of PIDLD, with ``count`` steps at each level. Each step is a phase, because its tables differ."""
    gains, past, phases = gains_of(name), 0, []
    heat = positive_number("temperature", 1.0 if temperature is None else temperature)
    for size, place in zip(sizes, places_of(levels), strict=True):
        for _ in range(count):
            step = pid(np.array([size]), gains, past).at_temperature(np.array([heat]))
            phases.append(Phase(step, 1, *place))
            gains, past = gains.decayed(), past + 1
    if denoise:
        phases += last_phases(levels, 3)
    return Plan(name.lower(), places_of(levels)[0], tuple(phases), np.zeros(2), SOURCE, temperature=heat)


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
    """Return the phases of an integrator at every level, with the phases of a predictor between the levels.

    The tables ``own`` have a leading axis of levels.
    """
    k = own.rows
    change = momentum_map(k, scheme.rows, momentum, scheme.start_deviation, levels.sigma[1:] / levels.sigma[:-1])
    if boundary == "shared" and own.open_uses_score:
        if moves:
            raise ValueError("boundary: must be 'own' with a predictor, which moves the state between the two levels")
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
    """Return the rule of the adaptive step size at each level, or None for each level if step sizes are fixed."""
    if snr is None:
        return [None] * len(levels)
    ratio = positive_number("snr", snr)
    if levels.alpha[0] == 0:
        raise ValueError("snr: needs levels with alpha > 0, because these step sizes are 0 at alpha = 0")
    # 1 - beta_i is (alpha_i/alpha_{i+1})^2, which is 1 for VE levels. The last level uses the value of the one before.
    falls = np.square(levels.alpha[:-1] / levels.alpha[1:])
    scales = np.append(falls, falls[-1:] if len(falls) else 1.0)
    return [
        Adaptive(scheme, friction / sigma, ratio, scale, coupled)
        for sigma, scale in zip(levels.sigma.tolist(), scales.tolist(), strict=True)
    ]


def shared(own: Step, levels: Levels, count: int, change: Affine | None) -> list[Phase]:
    """Return phases that end each level and start the next one with a single score, that of the next level.

    Every phase except the last passes on the rows u of the recurrence instead of (x, p). ``change`` is the map between
    two levels. The tables of ``change`` and ``own`` have a leading axis of levels.
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

"""Samplers of images: plans, and chains at one noise level, with the score evaluations after which they are measured.

A sampler is given as a plan, as a function that returns a plan for a number of score evaluations, as an integrator at
one noise level, or by a name (`samplers_of`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from uldnum._util.arguments import answer_of, flag, positive_number, shown, step_size
from uldnum._util.arraylib import Space, host
from uldnum._util.names import checked_name, digest, unknown
from uldnum._util.typing import Array
from uldnum.kernels.source.core import hashed_parts, lay_out
from uldnum.plans import levels as families
from uldnum.plans._plan import Plan, is_predictor, plan, preset
from uldnum.plans.levels import Levels
from uldnum.plans.presets import PRESETS
from uldnum.sampling._anneal import anneal, fault_of_start, hash_of, share_outside
from uldnum.sampling._sample import sample
from uldnum.sampling.lookup import find_levels
from uldnum.sampling.run import Run
from uldnum.schemes.catalogue import Integrator
from uldnum.schemes.catalogue import integrator as find_integrator
from uldnum.targets import Law, level_of

__all__ = ["Annealed", "AtOneLevel", "Sampler", "samplers_of"]

# Options of an integrator at one noise level.
OPTIONS = ("h", "delta", "friction", "temperature", "score_noise", "x0", "denoise")

# Names of initial states at one noise level.
STARTS = ("target", "normal", "uniform")


@dataclass(frozen=True, eq=False)
class Annealed:
    """A plan, whose final states are the images.

    Attributes
    ----------
    plan : Plan
        The plan.
    asked : tuple of int
        The number of score evaluations that was asked for.
    """

    plan: Plan
    asked: tuple[int, ...]

    @property
    def evaluations(self) -> tuple[int, ...]:
        """Number of score evaluations per image."""
        return (self.plan.nfe,)

    @property
    def places(self) -> list[tuple[float, float]]:
        """The different noise levels (alpha, sigma) of the plan."""
        return list(dict.fromkeys(zip(self.plan.alpha.tolist(), self.plan.sigma.tolist(), strict=True)))

    def identity(self, law: Law) -> list[Any]:
        """Return everything that the images depend on, apart from the network and the random numbers."""
        return [hash_of(self.plan, law), self.plan.x0, self.plan.momenta]

    def runs(self, law: Law, **options: Any) -> Iterator[tuple[Run, Array]]:
        """Yield the run of the plan and its images; ``options`` are those of `uldnum.anneal`."""
        run = anneal(law, self.plan, **options)
        yield run, run.x

    def warning(self, law: Law) -> str:
        """Return a warning of the first step of the plan, or an empty string."""
        return fault_of_start(level_of(law, *self.plan.start), self.plan)

    def outside(self, run: Run, law: Law) -> float:
        """Return the share of the values of the images that are far outside the range of the data."""
        return share_outside(run, law, self.plan)


@dataclass(frozen=True, eq=False)
class AtOneLevel:
    """Chains of an integrator at one noise level, which are measured after several numbers of evaluations.

    Attributes
    ----------
    scheme : Integrator
        The integrator.
    ratio : float
        Noise level sigma/alpha.
    h, friction : float
        Step size in units of sigma, and friction in units of 1/sigma.
    x0 : str
        Initial states, as in `uldnum.sample`.
    denoise : bool
        Whether the images are the denoised states, which costs one evaluation.
    asked : tuple of int
        Numbers of score evaluations that were asked for, in ascending order.
    """

    scheme: Integrator
    ratio: float
    h: float
    friction: float
    x0: str
    denoise: bool
    asked: tuple[int, ...]

    @property
    def extra(self) -> int:
        """Number of evaluations in addition to those of the steps: at the start of the first step, and to denoise."""
        return bool(self.scheme.stages(self.h, friction=self.friction).open_uses_score) + self.denoise

    @property
    def steps(self) -> tuple[int, ...]:
        """Number of steps after which the chains are measured: the largest with at most the evaluations asked for."""
        return tuple((nfe - self.extra) // self.scheme.nfe_per_step for nfe in self.asked)

    @property
    def evaluations(self) -> tuple[int, ...]:
        """Numbers of score evaluations per image."""
        return tuple(steps * self.scheme.nfe_per_step + self.extra for steps in self.steps)

    @property
    def places(self) -> list[tuple[float, float]]:
        """The noise level (alpha, sigma)."""
        return [(1.0, self.ratio)]

    def identity(self, law: Law) -> list[Any]:
        """Return everything that the images depend on, apart from the network and the random numbers."""
        tables = lay_out([self.scheme.stages(np.array([self.h]), friction=self.friction)], np.dtype(float))
        starts = self.scheme.start_deviation, self.scheme.momenta, self.x0
        return [digest(*hashed_parts(tables)), *starts, self.ratio, self.denoise, self.steps]

    def runs(self, law: Law, **options: Any) -> Iterator[tuple[Run, Array]]:
        """Yield the run after each number of steps, and its images; ``options`` are those of `uldnum.sample`."""
        level: Any = level_of(law, 1.0, self.ratio)
        space, run = Space.of(level.like), None
        for steps in self.steps:
            run = sample(
                level, self.scheme, h=self.h, friction=self.friction, steps=steps, x0=self.x0, resume=run, **options
            )
            own = level.of_chains(run.settings.first_chain, run.settings.chains)
            yield run, host(own.denoise(space.array(run.x))) if self.denoise else run.x

    def warning(self, law: Law) -> str:
        """Return an empty string."""
        return ""

    def outside(self, run: Run, law: Law) -> float:
        """Return 0, because chains are not measured at the end of a plan."""
        return 0.0


Sampler = Annealed | AtOneLevel


def samplers_of(
    given: Any, nfe: Sequence[int], levels: str | Callable[[int], Levels], steps: int, h: float, law: Law
) -> dict[str, list[Sampler]]:
    """Return the samplers of a study by name, or raise if one of them is not valid.

    Parameters
    ----------
    given : mapping, sequence of str or str
        Samplers by name, or names.
    nfe : sequence of int
        Numbers of score evaluations, in ascending order.
    levels : str or callable
        Notation of noise levels with the word COUNT, or function of their number.
    steps, h : int, float
        Steps at each level and step size of the integrators that are given by name.
    law : Law
        Distribution of the images, which may have a schedule of its own.
    """
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Sequence) and all(isinstance(one, str) for one in given) and len(set(given)) == len(given):
        given = dict(zip(given, given, strict=True))
    if not isinstance(given, Mapping) or not given:
        raise ValueError(
            "samplers: must be a dictionary of samplers by name, or different names of integrators, predictors or "
            f"plans, got {shown(given)}"
        )
    make = partial(levels_of, levels, law)
    found = {}
    for name, one in given.items():
        checked_name("samplers", name)
        try:
            found[name] = one_sampler(of_name(one, make, steps, h) if isinstance(one, str) else one, tuple(nfe), law)
        except ValueError as error:
            raise ValueError(f"samplers: {name!r}: {error}") from None
    return found


def levels_of(levels: str | Callable[[int], Levels], law: Law, count: int) -> Levels:
    """Return ``count`` noise levels."""
    if callable(levels):
        return answer_of("levels", levels, count)
    if "COUNT" not in levels:
        raise ValueError(f"levels: must contain the word COUNT, as in karras:20:0.02:COUNT, got {shown(levels)}")
    return find_levels(levels.replace("COUNT", str(count)), law)


def of_name(name: str, levels: Callable[[int], Levels], steps: int, h: float) -> Any:
    """Return what a name stands for: a plan, a function that returns plans, or an integrator at one noise level."""
    method, at, level = name.partition("@")
    if at:
        try:
            ratio = float(level)
        except ValueError:
            ratio = np.nan
        if not ratio > 0 or not method or is_predictor(method) or method.lower() in PRESETS:
            raise ValueError(
                "for chains at one noise level the name must be NAME@SIGMA with an integrator NAME and a positive "
                f"number SIGMA, got {shown(name)}"
            )
        return method, ratio, {"h": h}
    if method.lower() in PRESETS:
        return preset(method)
    options: dict[str, Any] = {} if is_predictor(method) else {"steps": steps, "h": h}
    return partial(plan_within, lambda count: plan(method, levels(count), **options))


def plan_within(of: Callable[[int], Plan], nfe: int) -> Plan:
    """Return the plan with the most levels and at most ``nfe`` evaluations; each level costs the same."""
    least, more = of(2).nfe, of(3).nfe
    if nfe < least:
        raise ValueError(f"nfe: must be at least {least}, which a plan with two noise levels needs, got {nfe}")
    return of(2 + (nfe - least) // (more - least))


def one_sampler(given: Any, nfe: tuple[int, ...], law: Law) -> list[Sampler]:
    """Return a sampler for all numbers of evaluations: one object for each plan, or one for chains at one level."""
    if isinstance(given, Plan):
        return [Annealed(given, (given.nfe,))]
    if isinstance(given, tuple):
        return [at_one_level(*given, nfe=nfe, law=law) if len(given) == 3 else raise_for(given)]
    if not callable(given):
        raise_for(given)
    found: list[Sampler] = []
    for number in nfe:
        made = given(number)
        if not isinstance(made, Plan) or made.nfe > number:
            evaluations = f"{made.nfe} evaluations" if isinstance(made, Plan) else shown(made)
            raise ValueError(f"the function must return a plan of at most {number} evaluations, got {evaluations}")
        found.append(Annealed(made, (number,)))
    return found


def raise_for(given: Any) -> Any:
    """Raise the error for an object that is not a sampler."""
    raise ValueError(
        "must be a plan, a function of the number of evaluations that returns a plan, a name, or a tuple (integrator, "
        f"sigma/alpha, options), got {shown(given)}"
    )


def at_one_level(integrator: Any, ratio: Any, options: Any, *, nfe: tuple[int, ...], law: Law) -> AtOneLevel:
    """Return an integrator at the noise level nearest to a ratio, or raise if an option is unknown or out of range."""
    if not isinstance(options, Mapping):
        raise ValueError(f"options must be a dictionary of options of uldnum.sample, got {shown(options)}")
    for name in options:
        if name not in OPTIONS:
            raise unknown("options", name, OPTIONS, f"The options are {', '.join(OPTIONS)}", "option")
    start = options.get("x0", "target")
    if not isinstance(start, str) or start not in STARTS:
        raise ValueError(f"x0: must be one of {', '.join(STARTS)}, got {shown(start)}")
    level = families.given([positive_number("sigma/alpha", ratio)])
    found = AtOneLevel(
        find_integrator(integrator).at(**{name: options.get(name) for name in ("temperature", "score_noise")}),
        float((level if law.nearest is None else law.nearest(level)).ratio[0]),
        positive_number("h", float(step_size(options.get("h"), options.get("delta")))),
        positive_number("friction", options.get("friction", 1.0)),
        start,
        flag("denoise", options.get("denoise", True)),
        nfe,
    )
    least = found.extra + found.scheme.nfe_per_step
    if nfe and nfe[0] < least:
        raise ValueError(f"nfe: must be at least {least}, which one step needs, got {nfe[0]}")
    return found

"""anneal(): run chains of a plan through noise levels."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from tqdm.auto import tqdm

from uldnum.adaptive import FEWEST
from uldnum.arguments import flag, shown, title
from uldnum.backends import BACKENDS, LADDERS, Options, choose_backend
from uldnum.data import find_data
from uldnum.elementary import hypot
from uldnum.kernels import Ladder, Layout, Passage, Problem, State
from uldnum.kernels.core import NEVER, Watch, lay_out
from uldnum.launch import (
    bounds,
    check_numbers,
    floating_type,
    keeping,
    next_launch,
    require_memory,
    resumed,
    take_steps,
    warn_of_a_stop,
    watch_of,
    watched,
)
from uldnum.names import checked_text, digest
from uldnum.plans import Plan
from uldnum.run import Run
from uldnum.settings import Settings
from uldnum.start import earlier_run, find_start, initial_state, number_of_chains, register_ends, resumed_start
from uldnum.targets import Target, level_of
from uldnum.typing import Array
from uldnum.version import VERSION

__all__ = ["anneal"]


def anneal(
    data: Any,
    plan: Plan,
    *,
    chains: int | None = None,
    seed: int | None = None,
    x0: Any = None,
    keep: bool = False,
    first_chain: int | None = None,
    dtype: DTypeLike | None = None,
    backend: str | None = None,
    threads: int | None = None,
    resume: Run | str | Path | None = None,
    progress: bool | str = True,
) -> Run:
    """Run independent chains of a plan.

    A result depends on (seed, number of the chain, number of the phase, step in it) alone; of steps that follow the
    score, ``coupled=True``, on all chains. For integrators of the catalogue and splitting words, on mixtures, no bit
    depends on the make of the CPU; networks, a `DataMixture` and recipes of the user may depend on it.

    Parameters
    ----------
    data : GaussianMixture, DataMixture, Network, or the name or file of a mixture or network
        The law of what is sampled, without noise.
    plan : Plan
        From `uldnum.plan`.
    chains, seed, first_chain, dtype, backend, threads, progress
        As in `uldnum.sample`.
    x0 : "target", "normal", "uniform", array of shape (chains, *shape), callable or Run
        Initial positions, as in `uldnum.sample`; "target" is the law of the first level. Default: what the plan says.
    keep : bool
        Keep the positions after every phase, as the run's trace.
    resume : Run or path, optional
        A stopped run with the same arguments, to go on from; leave out ``x0``, or give the name it had.

    Returns
    -------
    Run
        Its ``x`` are the positions at the end, its ``nfe`` the evaluations that were counted. It keeps no moments, and
        its ``h`` is 0: a plan has its own.

    Raises
    ------
    ValueError
        If an argument is out of range or of the wrong kind; the message names it.

    Warns
    -----
    UserWarning
        If chains diverged, or the run was stopped.
    """
    if isinstance(data, str | Path):
        data = find_data(data)
    if not isinstance(plan, Plan):
        raise ValueError(f"plan: must come from uldnum.plan, got {shown(plan)}")
    check_numbers(chains, first_chain, seed, threads)
    keep, progress = flag("keep", keep), title("progress", progress)
    if keep and not plan.on_step:
        raise ValueError("keep: with shared boundaries a plan has positions on the step at its end alone")
    earlier = None if resume is None else earlier_run(resume, x0)
    law = level_of(data, *plan.start)
    kind = floating_type(law.dtype if dtype is None else dtype)
    backend = choose_backend(law, backend, kind)
    if plan.adaptive:
        check_adaptive(law, plan, backend)
    layout, hash_of_plan = layout_of(plan)
    positions = number_of_chains(chains, earlier, x0) * math.prod(law.shape) * kind.itemsize
    require_memory(chains=2 * plan.rows * positions, keep=positions * keep * len(plan.phases))
    start = (
        find_start(law, plan.x0 if x0 is None else x0, chains, first_chain, seed)
        if earlier is None
        else resumed_start(earlier, chains, first_chain, seed, x0)
    )
    settings = Settings(
        version=VERSION, target=checked_text("data", data.name), fingerprint=law.fingerprint, shape=tuple(law.shape),
        integrator=plan.name, tables=hash_of_plan, backend=backend, dtype=kind.name, h=(0.0,), friction=0.0,
        grouped=False, burn_in=0, chains=start.chains, first_chain=start.first_chain, seed=start.seed,
        generation=start.generation, thin=None, bins=0, x0=start.name, momenta=plan.momenta,
    )  # fmt: skip
    nothing = np.zeros(math.prod(settings.shape))
    if earlier is None:
        state = State.start(initial_state(start, plan.memory, plan.momenta, 1, kind), moments=False)
        run = Run(settings, plan.steps, state, [], nothing, nothing, nothing, layout.tables, None, {})
    else:
        run = resumed(earlier, settings, plan.steps, layout.tables, None, (nothing, nothing, nothing))
        layout = replace(layout, tables=run.tables)
    state = run.state
    complete = int(np.searchsorted(layout.ends, state.step, side="right"))
    if len(run.states) != (complete if keep else 0):
        raise ValueError(
            f"keep: the run that is resumed kept the positions after {len(run.states)} of {complete} phases"
        )
    work = Work.of(data, plan, layout, run, kind, Options(threads, bool(progress)))
    with watched(progress, plan.name, plan.steps, state.step) as (bar, stopped):
        launch = 1 if keep or work.ladder is None else work.ladder.first_launch(state)
        while state.step < plan.steps and not stopped():
            before, begun_at = work.phase, time.perf_counter()
            work.take(launch, bar, stopped)
            taken = work.phase - before
            if keep and taken:
                work.settle()
                run.states.append(state.xp[:, :, 0].copy())
            launch = 1 if keep else next_launch(max(1, taken), time.perf_counter() - begun_at)
        work.settle()
    with keeping(run):
        register_ends(run)
        report(run)
    return run


def check_adaptive(start: Target, plan: Plan, backend: str) -> None:
    """Raise or warn where step sizes that follow the score do not run, or are known to be wrong."""
    if backend.startswith("cuda"):
        raise ValueError("backend: step sizes that follow the score run on NumPy's arrays alone")
    d = math.prod(start.shape)
    if d < FEWEST:
        warnings.warn(
            f"{plan.name}: a step that depends on its own noise is no sampler in {d} dimensions; {FEWEST} hide it",
            stacklevel=3,
        )


def phase_seeds(seed: int, count: int) -> Array:
    """Keys of the normals of phases: words that NumPy makes of the seed, each by its number alone."""
    return np.random.SeedSequence(seed).generate_state(count, np.uint64)


@dataclass(frozen=True, eq=False)
class Work:
    """The phases of a run: takes them, in place.

    Attributes
    ----------
    data, plan, layout, run, kind, options
        What is run, in which type, and how.
    seeds : uint64 array, shape (phases,)
        Keys of their normals.
    ladder : Ladder or None
        Takes many short phases in one launch, where they can be compiled together.
    levels : dict
        (alpha, sigma) -> target; without a ladder of all phases.
    """

    data: Any
    plan: Plan
    layout: Layout
    run: Run
    kind: np.dtype[Any]
    options: Options
    seeds: Array
    ladder: Ladder | None
    levels: dict[tuple[float, float], Target]

    @classmethod
    def of(cls, data: Any, plan: Plan, layout: Layout, run: Run, kind: np.dtype[Any], options: Options) -> Work:
        """Return the work of a run."""
        seeds = phase_seeds(run.settings.key, len(plan.phases))
        together = run.settings.backend in LADDERS and data.kernel_levels is not None and not plan.adaptive
        ladder = make_ladder(data, layout, seeds, run, kind, options) if together else None
        places = {(phase.alpha, phase.sigma) for phase in plan.phases if not together}
        levels = {place: known_level(data, plan, *place) for place in places}
        return cls(data, plan, layout, run, kind, options, seeds, ladder, levels)

    @property
    def phase(self) -> int:
        """Number of the phase that comes next, or is not complete."""
        return int(np.searchsorted(self.layout.ends, self.run.state.step, side="right"))

    def take(self, most: int, bar: tqdm[Any], stopped: Callable[[], bool]) -> None:
        """Take up to so many phases together, or one, in launches short enough to show progress and to stop."""
        number, state, ends, counts = self.phase, self.run.state, self.layout.ends, self.layout.counts
        start = int(ends[number] - counts[number])
        # Of phases that take long, someone may want to stop in the middle.
        long = counts[number : number + most] > (0 if self.ladder is None else self.ladder.longest(state))
        if self.ladder is None or long[0] or state.step > start:
            self.settle()
            self.take_one(number, start, bar, stopped)
            return
        last = number + (int(long.argmax()) if long.any() else len(long))
        self.ladder.climb(state, number, last)
        bar.update(int(ends[last - 1]) - start)

    def settle(self) -> None:
        """Bring the state of the run up to date."""
        if self.ladder is not None:
            self.ladder.settle(self.run.state)

    def take_one(self, number: int, start: int, bar: tqdm[Any], stopped: Callable[[], bool]) -> None:
        """Take the steps of a phase that are left, or fewer if it is stopped."""
        phase, state, first = self.plan.phases[number], self.run.state, self.run.settings.first_chain
        own = replace(state, left=np.full_like(state.left, NEVER), step=state.step - start)
        target, seed, watch = self.level(number), int(self.seeds[number]), self.watch(number)
        if phase.rule is not None:
            from uldnum.kernels.adaptive import take_adaptive_steps

            for _ in take_adaptive_steps(target, phase.rule, phase.count, own, seed, first, watch):
                bar.update()
                if stopped():
                    break
        else:
            make_executor, _ = BACKENDS[self.run.settings.backend]
            problem = Problem(self.layout.step(number, self.kind), target, seed, first, watch)
            executor = make_executor(problem, self.kind, self.options)
            evaluations = state.nfe.copy()
            if not own.step:
                executor.enter(own)
            for _ in take_steps(executor, own, phase.count, bar, stopped):
                pass
            executor.settle(own)
            if not own.step:  # stopped while it entered, which is done again by whoever goes on
                state.nfe[...] = evaluations
            self.run.info.update(executor.info)
        # Diverged at a step of the phase; counted from the start of the plan.
        if own.left.min() < NEVER:
            state.left[...] = np.where((state.left == NEVER) & (own.left < NEVER), start + own.left, state.left)
        state.step = start + own.step

    def level(self, number: int) -> Target:
        """Return the target of a phase."""
        place = self.plan.phases[number].alpha, self.plan.phases[number].sigma
        if place not in self.levels:
            self.levels[place] = known_level(self.data, self.plan, *place)
        return self.levels[place]

    def watch(self, number: int) -> Watch:
        """Return what is watched in a phase."""
        phases = self.plan.phases
        levels = [self.level(i) for i in range(number, min(number + 2, len(phases)))]
        centre, scale = (
            np.array([np.ravel(part) for part in parts], float)
            for parts in zip(*((level.mean, level.standard_deviation) for level in levels), strict=True)
        )
        least, most = reach(centre, scale, self.layout.alpha[number : number + 2], self.kind)
        watch, *_ = watch_of(levels[0], 0, phases[number].count, None, self.kind)
        return watch._replace(least=least[0], most=most[0])


def known_level(data: Any, plan: Plan, alpha: float, sigma: float) -> Target:
    """Return the target of a phase of a plan, or raise; what lies above the first level was not asked for by name."""
    try:
        return level_of(data, alpha, sigma)
    except ValueError as error:
        first = plan.start[1] / plan.start[0]
        if sigma / alpha <= first * (1 + 1e-9):
            raise
        raise ValueError(f"{error}; churn of {plan.name} goes up to it from the first level, {first:g}") from None


def reach(centre: Array, scale: Array, alpha: Array, kind: np.dtype[Any]) -> tuple[Array, Array]:
    """Return beyond what chains of phases have diverged: where neither a level belongs nor the next, or last the data.

    ``centre`` and ``scale``, shape (P, d), are those of the levels, ``alpha``, shape (P,), what data are scaled with.
    """
    along = np.append(centre, centre[-1:] / alpha[-1], 0), np.append(scale, scale[-1:] / alpha[-1], 0)
    least, most = (bound.astype(kind) for bound in bounds(*along, kind))
    return np.minimum(least[:-1], least[1:]), np.maximum(most[:-1], most[1:])


def make_ladder(mixture: Any, layout: Layout, seeds: Array, run: Run, kind: np.dtype[Any], options: Options) -> Ladder:
    """Return what takes phases of a mixture together."""
    alpha, sigma = layout.alpha[:, None], layout.sigma[:, None]
    centre, scale = alpha * mixture.mean, hypot(alpha * mixture.standard_deviation, sigma)
    limits = reach(centre, scale, layout.alpha, kind)
    passage = Passage.of(mixture, layout, seeds, run.settings.first_chain, limits, kind)
    ladder = LADDERS[run.settings.backend](passage, options)
    run.info.update(ladder.info)
    return ladder


@lru_cache(64)
def layout_of(plan: Plan) -> tuple[Layout, str]:
    """Return the phases of a plan as arrays, and a hash of everything that it does.

    They are kept, for studies run a plan many times, and for few chains this takes as long as some of the levels.
    """
    tables = lay_out([phase.step for phase in plan.phases], np.dtype(float))
    stages = np.cumsum([0] + [len(phase.step.stages) for phase in plan.phases])
    counts, alpha, sigma = (
        np.array([getattr(phase, part) for phase in plan.phases]) for part in ("count", "alpha", "sigma")
    )
    rules = [
        [-1.0] * 4 if rule is None else [rule.snr, rule.scale, rule.friction, rule.coupled]
        for rule in (phase.rule for phase in plan.phases)
    ]
    layout = Layout(tables, stages, counts, alpha, sigma)
    return layout, digest(plan.memory, counts, alpha, sigma, np.array(rules), *map(np.asarray, tables))


def report(run: Run) -> None:
    """Warn of chains that diverged, and of a run that was stopped."""
    if run.diverged:
        warnings.warn(
            f"{run.settings.integrator} diverged in {run.diverged} of {run.settings.chains} chains, first at step "
            f"{run.diverged_at}; take smaller steps or more levels",
            stacklevel=3,
        )
    warn_of_a_stop(run, "steps")

"""anneal(): run chains of a plan through noise levels."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from tqdm.auto import tqdm

from uldnum.adaptive import FEWEST, take_adaptive_steps
from uldnum.backends import BACKENDS, Options, choose_backend
from uldnum.integrators import whole_number
from uldnum.interrupt import interruptible
from uldnum.kernels import Problem, State
from uldnum.kernels.array import initial_normals
from uldnum.kernels.core import NEVER, Tables, lay_out, make_tables
from uldnum.names import digest, unknown
from uldnum.plans import Phase, Plan
from uldnum.run import Run, Settings
from uldnum.sampling import Target, bounds, floating_type, initial_state, next_launch, resumed, watch_of
from uldnum.targets import PRESETS, GaussianMixture
from uldnum.targets import target as find_target
from uldnum.targets.noised import NoisedImages
from uldnum.typing import Array
from uldnum.version import VERSION

__all__ = ["anneal", "find_data", "level_of"]


def find_data(name: str | Path, device: str = "cpu") -> Any:
    """Return a mixture or a network by name, or from a file; a network on a device.

    Raises
    ------
    ValueError
        If there is none of this name; the message offers the nearest.
    """
    from uldnum.networks import NETWORKS, network

    text = str(name)
    if text.lower() in PRESETS or text.endswith(".toml"):
        return find_target(text)
    if text.lower() in NETWORKS or text.lower().endswith(".onnx") or Path(text).exists():
        return network(text, device=device)
    raise unknown("data", text, [*PRESETS, *NETWORKS])


def level_of(data: Any, alpha: float, sigma: float) -> Target:
    """Return the law of ``z = alpha x + sigma eps`` of data as a target.

    Parameters
    ----------
    data : GaussianMixture, DataMixture or Network
        The law of x.
    alpha, sigma : float
        The noise level.

    Raises
    ------
    ValueError
        If it is none of them, or a network that does not know this level.
    """
    if hasattr(data, "noised"):
        return data.noised(alpha, sigma)
    if not hasattr(data, "at"):
        raise ValueError(
            f"data: must be a GaussianMixture, a DataMixture or a network, whose law with noise is known, got {data!r}"
        )
    if not hasattr(data, "card"):
        return data.at(sigma, alpha)
    level = data.at(ratio=sigma / alpha)
    if not math.isclose(level.sigma / level.alpha, sigma / alpha, rel_tol=1e-6):
        raise ValueError(
            f"levels: {data.name} knows whole timesteps only, the nearest to sigma/alpha = {sigma / alpha:.6g} is at "
            f"{level.sigma / level.alpha:.6g}; give it card={{'condition': 'interpolated-timestep'}}, or its own levels"
        )
    return level if math.isclose(level.sigma, sigma, rel_tol=1e-9) else Rescaled.of(level, alpha, sigma)


@dataclass(frozen=True, eq=False, repr=False)
class Rescaled(NoisedImages):
    """A network's level in another scale: the law of c z, whose score at x is that of z at x/c, divided by c."""

    level: Any
    c: float

    @classmethod
    def of(cls, level: Any, alpha: float, sigma: float) -> Rescaled:
        """Return a level, known at the same sigma/alpha, at this alpha and sigma."""
        fingerprint = f"{level.fingerprint}-{sigma!r}"
        return cls(level.name, fingerprint, level.shape, alpha, sigma, level, sigma / level.sigma)

    @property
    def like(self) -> Any:
        """One of the arrays that the score takes."""
        return self.level.like

    @property
    def mean(self) -> Array:
        """Centre of where chains belong."""
        return self.c * self.level.mean

    @property
    def standard_deviation(self) -> Array:
        """Scale of where chains belong."""
        return self.c * self.level.standard_deviation

    def score(self, x: Any) -> Any:
        """Gradient of the log density."""
        return self.level.score(x / self.c) / self.c


def anneal(
    data: Any,
    plan: Plan,
    *,
    chains: int,
    seed: int = 0,
    x0: Any = None,
    keep: bool = False,
    first_chain: int = 0,
    dtype: DTypeLike | None = None,
    backend: str | None = None,
    threads: int | None = None,
    resume: Run | str | Path | None = None,
    progress: bool | str = True,
) -> Run:
    """Run independent chains of a plan.

    A result depends on (seed, number of the chain, number of the phase, step in it) alone.

    Parameters
    ----------
    data : GaussianMixture, DataMixture, Network, or the name or file of a mixture or network
        The law of what is sampled, without noise.
    plan : Plan
        From `uldnum.plan`.
    chains, seed, first_chain, dtype, backend, threads, progress
        As in `uldnum.sample`.
    x0 : "target", "normal", "uniform", array of shape (chains, *shape), or callable
        Initial positions: draws of the first level's law (networks: Gaussian, as wide as z), N(0, 1), U(0, 1), given
        ones, or those that ``x0(chains, seed, first_chain)`` returns. Default: what the plan says.
    keep : bool
        Keep the positions after every phase, as the run's trace.
    resume : Run or path, optional
        A stopped run with the same arguments, to go on from.

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
        raise ValueError(f"plan: must come from uldnum.plan, got {plan!r}")
    chains = whole_number("chains", chains, 1, 2**32)
    first_chain = whole_number("first_chain", first_chain, 0, 2**32 - chains)
    seed = whole_number("seed", seed, 0, 2**64 - 1)
    if keep and not plan.on_step:
        raise ValueError("keep: with shared boundaries a plan has positions on the step at its end alone")
    if resume is not None and x0 is not None:
        raise ValueError("x0: a resumed run goes on from its own states; leave it out")
    threads = None if threads is None else whole_number("threads", threads, 1, 2**16)
    start = level_of(data, *plan.start)
    kind = floating_type(start.dtype if dtype is None else dtype)
    backend = choose_backend(start, backend, kind)
    if any(phase.rule for phase in plan.phases):
        check_adaptive(start, plan, backend)
    tables, hash_of_plan = laid_out(plan)
    settings = Settings(
        version=VERSION, target=str(data.name), fingerprint=start.fingerprint, shape=tuple(start.shape),
        integrator=plan.name, tables=hash_of_plan, backend=backend, dtype=kind.name, h=(0.0,),
        friction=0.0, grouped=False, burn_in=0, chains=chains, seed=seed, first_chain=first_chain, thin=None, bins=0,
    )  # fmt: skip
    run = resumed(resume, settings, plan.steps) if resume is not None else begun(start, plan, settings, x0, kind)
    state, options = run.state, Options(threads, bool(progress))
    if state.step and keep != bool(run.states):
        raise ValueError(f"keep: the run that is resumed kept {'its' if run.states else 'no'} positions")
    take, launch = taker(data, plan, tables, run, backend, kind, options)
    with (
        interruptible() as stopped,
        tqdm(
            desc=progress if isinstance(progress, str) else plan.name, total=plan.steps, initial=state.step,
            unit="step", delay=1.0, disable=None if progress else True,
        ) as bar,
    ):  # fmt: skip
        ends = np.cumsum([phase.count for phase in plan.phases])
        done = int(np.searchsorted(ends, state.step, side="right"))
        while done < len(ends) and not stopped():
            last, before, begun_at = min(done + (1 if keep else launch), len(ends)), state.step, time.perf_counter()
            take(done, last)
            launch = next_launch(last - done, time.perf_counter() - begun_at)
            bar.update(state.step - before)
            done = last
            if keep:
                run.states.append(state.xp[:, :, 0].copy())
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
    """Keys of the normals of phases: the seed itself for the first, then words that NumPy makes of it.

    Word i depends on the seed and on i alone, not on how many are made.
    """
    keys = np.random.SeedSequence(seed).generate_state(count, np.uint64)
    keys[0] = seed
    return keys


def taker(
    data: Any, plan: Plan, tables: Tables, run: Run, backend: str, kind: np.dtype[Any], options: Options
) -> tuple[Callable[[int, int], None], int]:
    """Return the function of first and last that takes phases first ... last - 1 of a run, and counts their steps.

    Also return how many phases surely take little time.
    """
    alpha, sigma = (np.array([getattr(phase, name) for phase in plan.phases]) for name in ("alpha", "sigma"))
    seeds = phase_seeds(run.settings.seed, len(plan.phases))
    if backend == "numba" and isinstance(data, GaussianMixture) and not any(phase.rule for phase in plan.phases):
        return climber(data, plan, tables, alpha, sigma, seeds, run, kind, options)
    levels = {place: level_of(data, *place) for place in zip(alpha.tolist(), sigma.tolist(), strict=True)}

    def take(first: int, last: int) -> None:
        for number in range(first, last):
            phase = plan.phases[number]
            take_phase(levels[phase.alpha, phase.sigma], phase, int(seeds[number]), run, backend, kind, options)
            run.state.step += phase.count

    return take, 1


def climber(
    mixture: GaussianMixture,
    plan: Plan,
    tables: Tables,
    alpha: Array,
    sigma: Array,
    seeds: Array,
    run: Run,
    kind: np.dtype[Any],
    options: Options,
) -> tuple[Callable[[int, int], None], int]:
    """Return the same for compiled code, which takes many phases in one launch."""
    from uldnum.kernels.ladder import Ladder

    centre, scale = alpha[:, None] * mixture.mean, np.hypot(alpha[:, None] * mixture.standard_deviation, sigma[:, None])
    counts = np.array([phase.count for phase in plan.phases])
    stages = np.cumsum([0] + [len(phase.step.stages) for phase in plan.phases])
    reach = bounds(centre, scale, kind)
    ladder = Ladder(
        mixture, tables, stages, counts, alpha, sigma, seeds, run.settings.first_chain, reach, kind, options.threads,
        options.announce,
    )  # fmt: skip
    run.info["threads"] = str(ladder.threads)
    return partial(ladder.climb, run.state), ladder.first_launch(run.state)


def take_phase(
    target: Target, phase: Phase, seed: int, run: Run, backend: str, kind: np.dtype[Any], options: Options
) -> None:
    """Take the steps of a phase, in place."""
    state, settings = run.state, run.settings
    watch, _, _ = watch_of(target, 0, phase.count, None, kind)
    first = settings.first_chain
    own = replace(state, left=np.full_like(state.left, NEVER), step=0)
    if phase.rule is not None:
        take_adaptive_steps(target, phase.rule, phase.count, own, seed, first, watch)
    else:
        make_executor, _ = BACKENDS[backend]
        executor = make_executor(Problem(make_tables(phase.step, kind), target, seed, first, watch), kind, options)
        executor.enter(own)
        executor.advance(own, phase.count)
        executor.settle(own)
        run.info.update(executor.info)
    # Diverged at a step of the phase; counted from the start of the plan.
    if own.left.min() < NEVER:
        state.left[...] = np.where((state.left == NEVER) & (own.left < NEVER), state.step + own.left, state.left)


def begun(start: Target, plan: Plan, settings: Settings, x0: Any, kind: np.dtype[Any]) -> Run:
    """Return a run that has not taken a step."""
    chains, seed, first = settings.chains, settings.seed, settings.first_chain
    d = math.prod(settings.shape)
    x0 = plan.x0 if x0 is None else x0
    if isinstance(x0, str) and x0 in ("normal", "uniform"):
        z = initial_normals(chains, seed, first, 0, d).reshape(chains, *settings.shape)
        x0 = z if x0 == "normal" else np.vectorize(lambda value: 0.5 * math.erfc(-value / math.sqrt(2)))(z)
    state = State.start(initial_state(start, plan.memory, settings, x0)[None].astype(kind), moments=False)
    nothing = np.zeros(d)
    return Run(settings, plan.steps, state, [], nothing, nothing, nothing, {})


@lru_cache(8)
def laid_out(plan: Plan) -> tuple[Tables, str]:
    """Return the tables of all phases of a plan, and a hash of everything that it does.

    They are kept, for studies run a plan many times, and for few chains this takes as long as some of the levels.
    """
    tables = lay_out([phase.step for phase in plan.phases], np.dtype(float))
    phases = np.array([(phase.count, phase.alpha, phase.sigma) for phase in plan.phases])
    rules = [
        [-1.0] * 4 if rule is None else [rule.snr, rule.scale, rule.friction, rule.coupled]
        for rule in (phase.rule for phase in plan.phases)
    ]
    return tables, digest(plan.memory, phases, np.array(rules), *map(np.asarray, tables))


def report(run: Run) -> None:
    """Warn of chains that diverged, and of a run that was stopped."""
    if run.diverged:
        warnings.warn(
            f"{run.settings.integrator} diverged in {run.diverged} of {run.settings.chains} chains, first at step "
            f"{run.diverged_at}; take smaller steps or more levels",
            stacklevel=3,
        )
    if not run.complete:
        warnings.warn(f"stopped after {run.recorded_steps} of {run.steps} steps; pass resume= to go on", stacklevel=3)

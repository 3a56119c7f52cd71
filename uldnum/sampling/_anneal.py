"""anneal(): run chains of a plan through noise levels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from uldnum._util.arguments import flag, shown, title
from uldnum._util.names import checked_text, digest
from uldnum._util.typing import Array
from uldnum.arithmetic.elementary import hypot
from uldnum.kernels.program import Program
from uldnum.kernels.source.core import Recording, Tables, lay_out
from uldnum.kernels.source.mixture import MixtureData
from uldnum.kernels.state import State
from uldnum.plans._plan import Plan
from uldnum.sampling.backends import choose_backend
from uldnum.sampling.launch import (
    bounds,
    centre_and_scale,
    check_numbers,
    execute,
    floating_type,
    keeping,
    require_memory,
    resumed,
    warn_of_a_stop,
)
from uldnum.sampling.lookup import find_data
from uldnum.sampling.run import Run
from uldnum.sampling.settings import Settings
from uldnum.sampling.start import earlier_run, find_start, initial_state, number_of_chains, register_ends, resumed_start
from uldnum.schemes.adaptive import FEWEST
from uldnum.targets import Target, level_of
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
        As in `uldnum.sample`. Plans whose step sizes follow the score (``snr``) need, and have, backend "array".
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
    backend = choose_backend(law, "array" if plan.adaptive and backend is None else backend, kind)
    if plan.adaptive:
        check_adaptive(law, plan, backend)
    tables, hash_of_plan = tables_of(plan)
    positions = number_of_chains(chains, earlier, x0) * math.prod(law.shape) * kind.itemsize
    require_memory(chains=2 * plan.rows * positions, keep=positions * keep * len(plan.phases))
    start = (
        find_start(law, plan.x0 if x0 is None else x0, chains, first_chain, seed)
        if earlier is None
        else resumed_start(earlier, chains, first_chain, seed, x0)
    )
    settings = Settings(
        version=VERSION, target=checked_text("data", data.name), fingerprint=law.fingerprint, shape=tuple(law.shape),
        integrator=plan.name, coefficients=hash_of_plan, backend=backend, dtype=kind.name, h=(0.0,), friction=0.0,
        grouped=False, burn_in=0, chains=start.chains, first_chain=start.first_chain, seed=start.seed,
        generation=start.generation, thin=None, bins=0, x0=start.name, momenta=plan.momenta,
    )  # fmt: skip
    nothing = np.zeros(math.prod(settings.shape))
    if earlier is None:
        state = State.start(initial_state(start, plan.memory, plan.momenta, 1, kind), moments=False)
        run = Run(settings, plan.steps, state, [], nothing, nothing, nothing, tables, None, {})
    else:
        run = resumed(earlier, settings, plan.steps, tables, None, (nothing, nothing, nothing))
    program = program_of(data, plan, run, kind)
    complete = int(np.searchsorted(program.ends, run.state.step, side="right"))
    if len(run.kept) != (complete if keep else 0):
        raise ValueError(f"keep: the run that is resumed kept the positions after {len(run.kept)} of {complete} phases")
    run = execute(program, run, threads, progress, keep=keep)
    with keeping(run):
        register_ends(run)
        report(run)
    return run


def check_adaptive(start: Target, plan: Plan, backend: str) -> None:
    """Raise or warn where step sizes that follow the score do not run, or are known to be wrong."""
    if backend != "array":
        raise ValueError(f"backend: step sizes that follow the score need 'array', not {backend!r}")
    d = math.prod(start.shape)
    if d < FEWEST:
        warnings.warn(
            f"{plan.name}: a step that depends on its own noise is no sampler in {d} dimensions; {FEWEST} hide it",
            stacklevel=3,
        )


def program_of(data: Any, plan: Plan, run: Run, kind: np.dtype[Any]) -> Program:
    """Return the program of a plan, with the coefficients that the run holds."""
    targets = NoisedTargets(data, plan, kind, run.settings.shape)
    if data.kernel_levels is None:
        for number in range(len(plan.phases)):  # a level that is not known is refused before any work
            targets.target(number)
    nothing = np.zeros(math.prod(run.settings.shape))
    reals = {part: getattr(run.tables, part).astype(kind) for part in ("G", "dA", "b", "C")}
    return Program(
        tables=run.tables._replace(**reals),
        counts=plan.counts,
        seeds=phase_seeds(run.settings.key, len(plan.phases)),
        targets=targets,
        recording=Recording(False, plan.steps + 1, 1, 0, nothing, nothing, nothing),
        first_chain=run.settings.first_chain,
        rules=[phase.rule for phase in plan.phases],
    )


def phase_seeds(seed: int, count: int) -> Array:
    """Keys of the normals of phases: words that NumPy makes of the seed, each by its number alone."""
    return np.random.SeedSequence(seed).generate_state(count, np.uint64)


@dataclass(frozen=True, eq=False)
class NoisedTargets:
    """The targets of the phases of a plan: a law at noise levels.

    Attributes
    ----------
    data : Any
        The law without noise.
    plan : Plan
        The plan.
    dtype : dtype
        Type of the run.
    shape : tuple
        Shape of one sample.
    """

    data: Any
    plan: Plan
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def target(self, number: int) -> Target:
        """Return the target of a phase."""
        phase = self.plan.phases[number]
        return self.known(phase.alpha, phase.sigma)

    @cached_property
    def known(self) -> Callable[[float, float], Target]:
        """The target at a noise level; each is made once."""
        return cache(partial(known_level, self.data, self.plan))

    def mixtures(self, first: int, last: int) -> MixtureData | None:
        """Return the mixtures of phases first ... last - 1; None where one of them is none."""
        if self.data.kernel_levels is not None:
            return self.data.kernel_levels(self.plan.alpha[first:last], self.plan.sigma[first:last], self.dtype)
        levels = [self.target(number).kernel_data for number in range(first, last)]
        if None in levels:
            return None
        return MixtureData(*map(np.stack, zip(*(level(self.dtype) for level in levels if level), strict=True)))

    def bounds(self, first: int, last: int) -> tuple[Array, Array]:
        """Return divergence bounds: they hold what a level and the next one need, after the last level the data."""
        alpha, sigma = (part[first : last + 1] for part in (self.plan.alpha, self.plan.sigma))
        if self.data.kernel_levels is not None:
            centre = alpha[:, None] * self.data.mean
            scale = hypot(alpha[:, None] * self.data.standard_deviation, sigma[:, None])
        else:
            levels = [centre_and_scale(self.target(number)) for number in range(first, first + len(alpha))]
            centre, scale = (np.array(parts) for parts in zip(*levels, strict=True))
        if last == len(self.plan.phases):
            centre, scale = (np.append(part, part[-1:] / alpha[-1], 0) for part in (centre, scale))
        least, most = bounds(centre, scale, self.dtype)
        return np.minimum(least[:-1], least[1:]), np.maximum(most[:-1], most[1:])


def known_level(data: Any, plan: Plan, alpha: float, sigma: float) -> Target:
    """Return the target of a phase of a plan, or raise; what lies above the first level was not asked for by name."""
    try:
        return level_of(data, alpha, sigma)
    except ValueError as error:
        first = plan.start[1] / plan.start[0]
        if sigma / alpha <= first * (1 + 1e-9):
            raise
        raise ValueError(f"{error}; churn of {plan.name} goes up to it from the first level, {first:g}") from None


@lru_cache(64)
def tables_of(plan: Plan) -> tuple[Tables, str]:
    """Return the tables of all phases of a plan in float64, and a hash of everything that it does.

    They are kept, for studies run a plan many times, and for few chains this takes as long as some of the levels.
    """
    tables = lay_out([phase.step for phase in plan.phases], np.dtype(float))
    rules = [
        [-1.0] * 4 if rule is None else [rule.snr, rule.scale, rule.friction, rule.coupled]
        for rule in (phase.rule for phase in plan.phases)
    ]
    return tables, digest(
        plan.memory, plan.counts, plan.alpha, plan.sigma, np.array(rules), *map(np.asarray, tables[:-1])
    )


def report(run: Run) -> None:
    """Warn of chains that diverged, and of a run that was stopped."""
    if run.diverged:
        warnings.warn(
            f"{run.settings.integrator} diverged in {run.diverged} of {run.settings.chains} chains, first at step "
            f"{run.diverged_at}; take smaller steps or more levels",
            stacklevel=3,
        )
    warn_of_a_stop(run, "steps")

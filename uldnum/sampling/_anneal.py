"""The function `uldnum.anneal`: run chains of a plan through a sequence of noise levels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
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
from uldnum.kernels.source.core import NEVER, Recording, Tables, hashed_parts, lay_out
from uldnum.kernels.source.mixture import MixtureData
from uldnum.kernels.state import State
from uldnum.plans._plan import Plan
from uldnum.sampling.backends import choose_backend, chosen_devices
from uldnum.sampling.launch import (
    attach_run_to_errors,
    bounds,
    centre_and_scale,
    check_numbers,
    execute,
    floating_type,
    require_memory,
    resumed,
    warn_of_a_stop,
)
from uldnum.sampling.lookup import find_data
from uldnum.sampling.run import Run
from uldnum.sampling.settings import Settings
from uldnum.sampling.start import earlier_run, find_start, initial_state, number_of_chains, register_ends, resumed_start
from uldnum.schemes.adaptive import FEWEST
from uldnum.schemes.form import START, Form
from uldnum.schemes.predictors import NoiseLevel
from uldnum.targets import Law, Target, law_of, level_of
from uldnum.version import VERSION

__all__ = ["anneal"]

# Largest share of the values of final states that may be far outside the range of the data. Images of working networks
# have almost no such values, and in images of bright galaxies they are less than a tenth.
OUTSIDE = 0.1


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
    devices: Sequence[int] | None = None,
    resume: Run | str | Path | None = None,
    progress: bool | str = True,
) -> Run:
    """Run independent chains through the noise levels of a plan.

    Parameters
    ----------
    data : str, Path, GaussianMixture, DataMixture, UserTarget, Network, or another object with a method ``noised``
        Distribution to sample, without noise. It must provide the scores of its noised distributions:
        ``noised(alpha, sigma)`` returns the distribution of ``alpha x + sigma eps``, a `uldnum.targets.Target`. A
        string is the name of a preset or network, or the path of a TOML or ONNX file.
    plan : Plan
        Sequence of phases, from `uldnum.plan` or `uldnum.preset`.
    chains : int
        Number of chains. It is optional if ``x0`` or ``resume`` is a run.
    seed : int, optional
        Seed of all random numbers, from 0 to 2^64 - 1. If ``x0`` or ``resume`` is a run, the default is the seed of
        that run. If ``x0`` gives positions, the default is a hash of the positions. Otherwise it is 0.
    x0 : {"target", "normal", "uniform"}, array_like of shape (chains, *shape), callable or Run, optional
        Initial positions, as in `uldnum.sample`. "target" stands for draws of the noised data at the first level of the
        plan. The default is ``plan.x0``.
    keep : bool, default False
        Whether to store the positions after every phase in `Run.trace`. Plans with ``boundary="shared"``
        (`uldnum.plan`) do not support it if their phases end inside a time step.
    first_chain : int, optional
        Index of the first chain. The default is 0, or the index in the earlier run if ``x0`` or ``resume`` is a run.
    dtype : {"float64", "float32"}, optional
        Floating-point type of the state. The default is float64, or float32 for a network or `DataMixture`.
    backend : {"numba", "array", "cuda", "cuda-fast"}, optional
        Implementation that runs the steps. The default is "numba" for mixtures and compiled scores, and "array" for
        all other data. Plans with adaptive step sizes (``snr``) run on "array", which is then the default. For images
        they also run on the CUDA backends.
    threads : int, optional
        Number of threads of the Numba backend. The default is ``numba.get_num_threads()``. Unless Numba is configured
        otherwise, this is the number of cores that the process may use.
    devices : list of int, optional
        Indices of the GPUs that share the chains, for the backends "cuda" and "cuda-fast". Results have the same bits
        for any list of GPUs of one model. A network must be an ONNX model or a PyTorch module, which is copied to every
        GPU, and ``chains`` should be a multiple of its ``chunk``. Adaptive step sizes with ``coupled=True``
        (`uldnum.plan`) run on one GPU only. The default is CuPy's current GPU.
    resume : Run, str or Path, optional
        Stopped run to resume, or the path of a saved one. All arguments must equal those of that run, except
        ``threads``, ``devices`` and ``progress``. ``chains``, ``first_chain`` and ``seed`` may be omitted. ``x0`` must
        be omitted unless it is a name.
    progress : bool or str, default True
        Whether to show a progress bar in a terminal if the run lasts more than a second. A string is its label.

    Returns
    -------
    Run
        ``x`` holds the final positions, ``nfe`` the number of score evaluations per chain, and ``trace`` the positions
        after every phase if ``keep`` is True. The run has no moments, and its ``h`` is 0.

    Raises
    ------
    ValueError
        If an argument is out of range or of the wrong type, if the data have no score at a level of the plan, or if the
        run does not fit into memory. The message names the argument.
    MissingExtraError
        If an optional dependency of the backend is not installed.

    Warns
    -----
    UserWarning
        In any of these cases:

        * A chain diverged, or the run was stopped.
        * The step sizes are adaptive in fewer than 64 dimensions.
        * The network predicts the score or the noise, and the move from the first level multiplies errors of the
          predicted noise (-sigma times the score) by more than 30.
        * More than a tenth of the values of the final images lie outside the range of the data by more than half of its
          width plus four times sigma/alpha of the last level.

    See Also
    --------
    uldnum.plan : Build a plan from an integrator or predictor and noise levels.
    uldnum.sample : Run chains at a single noise level.

    Notes
    -----
    In phase n, each chain takes ``plan.counts[n]`` steps. The target of these steps is the distribution of
    ``z = alpha_n x + sigma_n eps``. The step size and friction are part of the plan. There is no argument ``mass``,
    because a mass is a change of coordinates, and a predictor gives other samples in other coordinates.

    The random numbers of a chain depend only on the seed, the index of the chain, the index of the phase and the step
    within the phase. The states of a chain therefore do not depend on the other chains, except with coupled adaptive
    step sizes (``coupled=True``). On mixtures, the results of catalogue integrators and splitting words are
    bit-identical on all CPUs. Networks, a `DataMixture`, and user-defined integrators may round differently on another
    CPU.

    Examples
    --------
    >>> import uldnum
    >>> target = uldnum.GaussianMixture(weights=[0.8, 0.2], means=[[3.0], [-3.0]], variances=[0.1, 0.1])
    >>> plan = uldnum.plan("BAOAB", uldnum.levels.geometric(10.0, 0.1, 20), h=0.5, steps=5)
    >>> run = uldnum.anneal(target, plan, chains=2000, seed=1, backend="array")
    >>> run.x.shape, run.nfe
    ((2000, 1), 121)
    >>> round(float((run.x > 0).mean()), 1)
    0.8
    """
    if isinstance(data, str | Path):
        data = find_data(data)
    data = law_of(data)
    if not isinstance(plan, Plan):
        raise ValueError(f"plan: must come from uldnum.plan, got {shown(plan)}")
    check_numbers(chains, first_chain, seed, threads)
    keep, progress = flag("keep", keep), title("progress", progress)
    if keep and not plan.on_step:
        raise ValueError(
            "keep: must be False for a plan with shared boundaries, whose phases do not end at the end of a time step"
        )
    earlier = None if resume is None else earlier_run(resume, x0)
    law = level_of(data, *plan.start)
    if fault := fault_of_start(law, plan):
        warnings.warn(fault, stacklevel=2)
    kind = floating_type(law.dtype if dtype is None else dtype)
    backend = choose_backend(law, "array" if plan.adaptive and backend is None else backend, kind)
    devices = chosen_devices(devices, backend, law)
    if plan.adaptive:
        check_adaptive(law, plan, backend)
    law.check_dtype(kind)
    targets = NoisedTargets(data, plan, kind, tuple(law.shape))
    tables, hash_of_plan = tables_of(plan, targets.forms)
    positions = number_of_chains(chains, earlier, x0) * math.prod(law.shape) * kind.itemsize
    require_memory(chains=2 * plan.rows * positions, keep=positions * keep * len(plan.phases))
    start = (
        find_start(law, plan.x0 if x0 is None else x0, chains, first_chain, seed, temperature=plan.temperature)
        if earlier is None
        else resumed_start(earlier, chains, first_chain, seed, x0)
    )
    settings = Settings(
        version=VERSION, target=checked_text("data", data.name), fingerprint=law.fingerprint, shape=tuple(law.shape),
        integrator=plan.name, coefficients=hash_of_plan, backend=backend, dtype=kind.name, h=(0.0,), friction=0.0,
        temperature=plan.temperature, score_noise=plan.score_noise, mass=1.0, grouped=False, burn_in=0,
        chains=start.chains, first_chain=start.first_chain, seed=start.seed, generation=start.generation, thin=None,
        record=None, record_every=1, bins=0, x0=start.name, momenta=plan.momenta, time_unit=1.0, metropolised=False,
    )  # fmt: skip
    nothing = np.zeros(math.prod(settings.shape))
    if earlier is None:
        state = State.start(initial_state(start, plan.memory, plan.momenta, 1, kind), record=None)
        run = Run(settings, plan.steps, state, [], nothing, nothing, nothing, tables, None, {})
    else:
        run = resumed(earlier, settings, plan.steps, tables, None, (nothing, nothing, nothing))
    program = program_of(targets, run)
    complete = int(np.searchsorted(program.ends, run.state.step, side="right"))
    if len(run.kept) != (complete if keep else 0):
        raise ValueError(f"keep: the run to be resumed stored the positions after {len(run.kept)} of {complete} phases")
    run = execute(program, run, threads, devices, progress, keep=keep)
    with attach_run_to_errors(run):
        register_ends(run)
        report(run)
        if fault := fault_of_values(share_outside(run, data, plan), data):
            warnings.warn(f"{plan.name}: {fault}", stacklevel=2)
    return run


def fault_of_start(law: Target, plan: Plan) -> str:
    """Return a warning if errors of the network are amplified in the move from the first level of the plan to the next.

    If the network predicts the noise or the score, an error of the predicted noise is multiplied by r = sigma/alpha in
    the denoised image. For other networks the factor is at most 1 (`Form.amplification`). After a move to a level with
    the ratio r', the error of z, in units of the noise of that level, is about r/r' times that of the predicted noise.
    The warning states r/r', or r if r' is below 1.
    """
    if law.form is None:
        return ""
    start, ratios = NoiseLevel(*plan.start).r, NoiseLevel(plan.alpha, plan.sigma).r
    factor = law.form.amplification(plan.start[1]) / ratios[ratios < start * (1 - 1e-9)].max(initial=1.0)
    if factor <= START * (1 + 1e-6):
        return ""
    return (
        f"{plan.name}: starts at sigma/alpha = {start:.4g}, and the move to the next level multiplies errors of the "
        f"noise that the network predicts by about {factor:.4g}, so that samples may be wrong; start at sigma/alpha "
        f"of {START:g} or less"
    )


def share_outside(run: Run, data: Law, plan: Plan) -> float:
    """Return the share of the values of the final states that are far outside the range of the data, if it is known.

    A value is far outside if it exceeds the range by more than half of its width plus four times sigma/alpha of the
    last level, because some plans do not remove the noise of this level. Chains that diverged are not counted.
    """
    if data.support is None or not run.complete:
        return 0.0
    (low, high), noise = data.support, NoiseLevel(plan.alpha[-1], plan.sigma[-1]).r
    room = (high - low) / 2 + 4 * float(noise)
    x = run.x[run.state.escape_step[0] == NEVER]
    return np.count_nonzero((x < low - room) | (x > high + room)) / max(1, x.size)


def fault_of_values(share: float, data: Law) -> str:
    """Return a warning if a large share of the values of the final states is far outside the range of the data.

    Such values indicate that the samples are wrong.
    """
    if data.support is None or share <= OUTSIDE:
        return ""
    low, high = data.support
    return (
        f"{share:.0%} of the values of the final states are far outside the range of the data of {data.name}, {low:g} "
        f"to {high:g}, so that the samples are probably wrong; use more levels, a start at less noise or smaller "
        "steps, or correct the key data_range of the card"
    )


def check_adaptive(start: Target, plan: Plan, backend: str) -> None:
    """Raise if the backend does not support adaptive step sizes; warn if they bias the result in a low dimension."""
    if not (backend == "array" or (backend.startswith("cuda") and len(start.shape) > 1)):
        raise ValueError(f"backend: adaptive step sizes (snr) need 'array', or 'cuda' for images, got {backend!r}")
    d = math.prod(start.shape)
    if d < FEWEST:
        warnings.warn(
            f"{plan.name}: an adaptive step size depends on the noise of the same step, which biases the samples in "
            f"fewer than {FEWEST} dimensions, got {d}",
            stacklevel=3,
        )


def program_of(targets: NoisedTargets, run: Run) -> Program:
    """Return the program of a plan, with the coefficients stored in the run."""
    plan, kind = targets.plan, targets.dtype
    if targets.data.kernel_levels is None and len({kind_of(level, kind) for level in targets.levels}) > 1:
        raise ValueError(
            "noised: must return targets of one shape and one kind at all levels: mixtures of the same number of "
            "components, compiled scores, or array scores"
        )
    nothing = np.zeros(math.prod(run.settings.shape))
    reals = {part: getattr(run.tables, part).astype(kind) for part in ("G", "dA", "b", "C", "tau")}
    return Program(
        tables=run.tables._replace(**reals),
        counts=plan.counts,
        seeds=phase_seeds(run.settings.key, len(plan.phases)),
        targets=targets,
        recording=Recording(
            0, 1, plan.steps + 1, 1, 1, 0, nothing, nothing, nothing, np.empty((len(nothing), 0), kind)
        ),
        first_chain=run.settings.first_chain,
        rules=[phase.rule for phase in plan.phases],
    )


def kind_of(level: Target, kind: np.dtype[Any]) -> tuple[Any, ...]:
    """Return the shape of a target and the form in which executors read its score. They must be equal at all levels."""
    parts = () if level.kernel_data is None else [np.shape(part) for part in level.kernel_data(kind)]
    return tuple(level.shape), tuple(parts), level.compiled_score is None


def phase_seeds(seed: int, count: int) -> Array:
    """Return the random number key of each phase, which depends only on the seed and the index of the phase."""
    return np.random.SeedSequence(seed).generate_state(count, np.uint64)


@dataclass(frozen=True, eq=False)
class NoisedTargets:
    """The targets of the phases of a plan: the data at the noise level of each phase.

    Attributes
    ----------
    data : Law
        Distribution without noise, with a method ``noised``.
    plan : Plan
        The plan.
    dtype : dtype
        Floating-point type of the run.
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
        """Function that returns the target at a noise level, with a cache."""
        return cache(partial(known_level, self.data, self.plan))

    @cached_property
    def levels(self) -> list[Target]:
        """Targets of all phases. This raises an error if the data lack a level."""
        return [self.target(number) for number in range(len(self.plan.phases))]

    @property
    def forms(self) -> tuple[Form | None, ...] | None:
        """Forms of the targets of all phases, or None for data with `Law.kernel_levels`, whose targets have no form.

        The tables of a phase multiply the answer N of its form (`uldnum.schemes.form`). Without a form they multiply
        the score. Phases with adaptive step sizes have no form.
        """
        if self.data.kernel_levels is not None:
            return None
        pairs = zip(self.levels, self.plan.phases, strict=True)
        return tuple(level.form if phase.rule is None else None for level, phase in pairs)

    def mixtures(self, first: int, last: int) -> MixtureData | None:
        """Return the mixtures of phases first ... last - 1, or None if the target of one of them is not a mixture."""
        if self.data.kernel_levels is not None:
            return self.data.kernel_levels(self.plan.alpha[first:last], self.plan.sigma[first:last], self.dtype)
        levels = [self.target(number).kernel_data for number in range(first, last)]
        if None in levels:
            return None
        return MixtureData(*map(np.stack, zip(*(level(self.dtype) for level in levels if level), strict=True)))

    def bounds(self, first: int, last: int) -> tuple[Array, Array]:
        """Return divergence bounds for phases first ... last - 1.

        The bounds of a phase contain those of its own level and of the next one. After the last phase, the next level
        is the data without noise.
        """
        alpha, sigma = (part[first : last + 1] for part in (self.plan.alpha, self.plan.sigma))
        if self.data.kernel_levels is not None:
            centre = alpha[:, None] * self.data.mean
            scale = hypot(alpha[:, None] * self.data.standard_deviation, sigma[:, None])
        else:
            levels = [centre_and_scale(self.target(number)) for number in range(first, first + len(alpha))]
            centre, scale = (np.array(parts) for parts in zip(*levels, strict=True))
        if last == len(self.plan.phases):
            # A level with alpha = 0 contains no information on the data.
            data = (
                (centre[-1:] / alpha[-1], scale[-1:] / alpha[-1])
                if alpha[-1]
                else (0 * centre[-1:], np.inf * scale[-1:])
            )
            centre, scale = (np.append(part, more, 0) for part, more in zip((centre, scale), data, strict=True))
        least, most = bounds(centre, scale, self.dtype, self.plan.temperature)
        return np.minimum(least[:-1], least[1:]), np.maximum(most[:-1], most[1:])


def known_level(data: Law, plan: Plan, alpha: float, sigma: float) -> Target:
    """Return the target of a phase, or raise. The error names churn if churn raises the noise too far."""
    try:
        return level_of(data, alpha, sigma)
    except ValueError as error:
        first = float(NoiseLevel(*plan.start).r)
        if NoiseLevel(alpha, sigma).r <= first * (1 + 1e-9):
            raise
        raise ValueError(
            f"{error}; the churn of {plan.name} raises the noise to this level, above that of the first level of the "
            f"plan, sigma/alpha = {first:g}"
        ) from None


@lru_cache(64)
def tables_of(plan: Plan, forms: tuple[Form | None, ...] | None = None) -> tuple[Tables, str]:
    """Return the tables of all phases of a plan in float64, and a hash of the plan.

    ``forms`` has one entry per phase. The tables of a phase multiply the answer of its form, or the score if the entry
    is None.

    The result is cached, because studies run a plan many times. Building the tables takes as long as running several
    phases with few chains.
    """
    each = zip(plan.phases, forms or [None] * len(plan.phases), strict=True)
    tables = lay_out([phase.answered(form) for phase, form in each], np.dtype(float))
    rules = [
        [-1.0] * 4 if rule is None else [rule.snr, rule.scale, rule.friction, rule.coupled]
        for rule in (phase.rule for phase in plan.phases)
    ]
    return tables, digest(plan.memory, plan.counts, plan.alpha, plan.sigma, np.array(rules), *hashed_parts(tables))


def hash_of(plan: Plan, data: Law) -> str:
    """Return the hash of a plan on data. It depends on the data, because their forms determine the tables."""
    return tables_of(plan, NoisedTargets(data, plan, np.dtype(float), ()).forms)[1]


def report(run: Run) -> None:
    """Warn if chains diverged or the run was stopped."""
    if run.diverged:
        warnings.warn(
            f"{run.settings.integrator} diverged in {run.diverged} of {run.settings.chains} chains, first at step "
            f"{run.diverged_at}; use smaller steps or more levels",
            stacklevel=3,
        )
    warn_of_a_stop(run, "steps")

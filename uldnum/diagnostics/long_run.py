"""Samples of a long run whose standard error and bias are below a given number, or whose bias is 0."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from uldnum._util.arguments import numbers, whole_number
from uldnum._util.arraylib import Space, host
from uldnum._util.typing import Array, ArrayLike
from uldnum.kernels.initial import initial_normals
from uldnum.sampling._sample import sample
from uldnum.sampling.run import Run
from uldnum.schemes.catalogue import Integrator, integrator
from uldnum.targets import Target, lacking

__all__ = ["COORDINATES", "Evidence", "long_samples", "metropolised_samples"]

# Largest number of coordinates that the samples have in total.
COORDINATES = 2**24

# The integrator without and with a Metropolis test, and the integrator that approaches the target from given positions.
LONG, TESTED, APPROACH = "baoab-limit", "ghmc", "mala"
# Friction of the steps with a test, in units of 1/width, and the smallest fraction of accepted steps. They were chosen
# by measurement. For a given error, MALA takes 0.9 times as many score evaluations on a ring of Gaussians, 1.4 and 2
# times as many on a mixture and on a Gaussian in ten dimensions, and 2.8 times as many on a banana.
FRICTION, ACCEPTED = 0.2, 0.9
# Fractions of accepted steps of MALA below which its step size is divided by 8 and by 2, and above which it is
# multiplied by 4, while it approaches the target.
FEW, FEWER, MANY = 0.2, 0.574, 0.95
# First step size in units of the narrowest scale, and the largest number of times that it is halved.
STEP, HALVINGS = 0.5, 6
# Intended number of independent samples of each chain. Chains of this length forget their initial positions.
LASTING = 32
# Largest number of stored positions of each chain, and of recorded steps.
DRAWS, STEPS = 64, 2**17
# Number of rounds, and of steps in each of them, in which chains approach the target from their initial positions.
ROUNDS, ROUND = 8, 128


@dataclass(frozen=True)
class Evidence:
    """Accuracy and cost of a long run.

    Attributes
    ----------
    h : float
        Step size.
    noise : float
        Largest standard error of the means of x and x^2 over all coordinates, in standard deviations of x and x^2.
    bias : float
        Upper limit of the bias of these means, in the same units; 0 with a Metropolis test.
    evaluations : int
        Total number of score evaluations of all runs and chains, without the runs at step sizes at which chains
        diverged.

    Examples
    --------
    >>> from uldnum.diagnostics import Evidence
    >>> Evidence(h=0.1, noise=0.01, bias=0.002, evaluations=1_000_000).noise
    0.01
    """

    h: float
    noise: float
    bias: float
    evaluations: int


def long_samples(target: Target, noise: float, seed: int, temperature: float) -> tuple[Array, str, Evidence]:
    """Return samples, shape (draws, chains, *shape), their description and their evidence; see `Reference.long`."""
    seed = whole_number("seed", seed, 0, 2**64 - 1 - ROUNDS)
    scheme = integrator(LONG).at(temperature=temperature)
    chains = chains_for(noise)
    start, width, evaluations = settled(target, chains, seed, scheme.temperature)
    order = scheme.order[1] or 0.0
    wide: LongRun | None = None
    for halvings in range(HALVINGS + 1):
        h = STEP * width / 2**halvings
        fine = long_run(target, scheme, start, h, noise, seed + ROUNDS)
        evaluations += 0 if fine is None else fine.evaluations
        if fine is not None and wide is not None:
            gaps = np.abs(fine.mean - wide.mean) + 2 * np.hypot(fine.error, wide.error)
            bias = float(np.max(gaps / fine.scale)) / (2**order - 1)
            if bias < noise:
                known = Evidence(h, float(np.max(fine.error / fine.scale)), bias, evaluations)
                count = fine.trace.shape[0] * fine.trace.shape[1]
                origin = (
                    f"{count} samples of a long run of {scheme.label} on {target.name} with h = {h:.3g} and "
                    f"{evaluations:.2g} score evaluations, noise {known.noise:.1g} and bias below {bias:.1g} standard "
                    "deviations by comparison with 2h"
                )
                return fine.trace, origin, known
        wide = fine
    raise ValueError(
        f"reference: 'long' found no step size on {target.name!r} with a bias below {noise:g} standard deviations, "
        f"down to h = {h:.3g}; pass samples"
    )


def metropolised_samples(
    target: Target, noise: float, seed: int, temperature: float, x0: ArrayLike | None
) -> tuple[Array, str, Evidence]:
    """Return samples as `long_samples` does, of a run with a Metropolis test; see `Reference.metropolised`."""
    seed = whole_number("seed", seed, 0, 2**64 - 1 - ROUNDS)
    scheme = integrator(TESTED).at(temperature=temperature)
    if target.log_density is None:
        raise lacking(target, "the density that a Metropolis test compares", "log_density")
    chains = chains_for(noise)
    if x0 is None:
        start, width, evaluations = settled(target, chains, seed, scheme.temperature)
    else:
        start, width, evaluations = approached(target, given_positions(target, x0, chains), seed, scheme.temperature)
    friction = FRICTION / width
    for halvings in range(2 * HALVINGS + 1):
        h = 2 * width / 2 ** (halvings / 2)
        trial = quiet_run(target, scheme, x0=start, h=h, friction=friction, steps=ROUND, seed=seed + ROUNDS)
        evaluations += trial.nfe * chains
        if trial.acceptance >= ACCEPTED:
            break
    else:
        raise ValueError(
            f"reference: 'metropolised' accepted only {float(trial.acceptance):.2g} of the steps on {target.name!r}, "
            f"down to h = {h:.3g}; is the score the gradient of log_density?"
        )
    found = long_run(target, scheme, start, h, noise, seed + ROUNDS, friction)
    if found is None:
        raise ValueError(f"reference: 'metropolised' left the bounds of {target.name!r}; pass samples")
    evaluations += found.evaluations
    known = Evidence(h, float(np.max(found.error / found.scale)), 0.0, evaluations)
    count = found.trace.shape[0] * found.trace.shape[1]
    origin = (
        f"{count} samples of a run of {scheme.label} on {target.name} with h = {h:.3g} and {evaluations:.2g} score "
        f"evaluations, noise {known.noise:.1g} standard deviations"
    )
    return found.trace, origin, known


def chains_for(noise: float) -> int:
    """Return the number of chains of a long run."""
    return 32 * max(1, math.ceil(1 / (LASTING * noise**2) / 32))


@dataclass(frozen=True, eq=False)
class LongRun:
    """Trace of a run, and means, standard errors and standard deviations of x and x^2, shape (2d,) each."""

    trace: Array
    mean: Array
    error: Array
    scale: Array
    evaluations: int


def settled(target: Target, chains: int, seed: int, temperature: float) -> tuple[Array, float, int]:
    """Return positions after runs towards the target, its narrowest scale, and the number of score evaluations."""
    scheme = integrator("BAOAB").at(temperature=temperature)
    d, evaluations = math.prod(target.shape), 0
    if target.draws is None:
        scale = np.where(np.isfinite(target.standard_deviation), target.standard_deviation, 1.0)
        x = np.asarray(target.mean + scale * initial_normals(chains, seed, 0, 0, d).reshape(chains, *target.shape))
    else:
        x = target.draws(chains, seed, 0)
    for number in range(ROUNDS):
        width = scale_at(target, x, temperature)
        run = quiet_run(target, scheme, x0=x, h=STEP * width, friction=1 / width, steps=ROUND, seed=seed + number)
        evaluations += run.nfe * chains
        if not run.diverged:
            x = np.asarray(run.x, dtype=float)
    return x, width, evaluations


def scale_at(target: Target, x: Array, temperature: float) -> float:
    """Return the narrowest scale of a target in units of the step size, given positions of chains.

    The scale of coordinate i is sqrt(temperature) divided by the standard deviation of the score s_i, which is the
    standard deviation at temperature 1 of a Gaussian.
    """
    score = np.asarray(host(target.score(Space.of(target.like).array(x))), dtype=float).reshape(len(x), -1)
    return math.sqrt(temperature) / (float(np.max(score.std(axis=0))) * target.time_unit)


def given_positions(target: Target, x0: ArrayLike, chains: int) -> Array:
    """Return initial positions of chains, which repeat the given ones, shape (*shape) or (n, *shape), or raise."""
    x = numbers("x0", x0)
    if x.shape[-len(target.shape) :] != target.shape or x.ndim > len(target.shape) + 1 or not x.size:
        each = ", ".join(map(str, target.shape))
        raise ValueError(f"x0: must have shape ({each}) or (n, {each}), got {x.shape}")
    return x.reshape(-1, *target.shape)[np.arange(chains) % (x.size // math.prod(target.shape))]


def approached(target: Target, x: Array, seed: int, temperature: float) -> tuple[Array, float, int]:
    """Return what `settled` returns after runs from given positions, which may be equal, with a Metropolis test.

    The step size is adapted to the acceptance, so that no run leaves the neighbourhood of the density.
    """
    scheme = integrator(APPROACH).at(temperature=temperature)
    h = float(np.min(np.where(np.isfinite(target.standard_deviation), target.standard_deviation, 1.0)))
    h, evaluations = h / target.time_unit, 0
    for number in range(ROUNDS):
        run = quiet_run(target, scheme, x0=x, h=h, steps=4 * ROUND, seed=seed + number)
        x, evaluations = np.asarray(run.x, dtype=float), evaluations + run.nfe * len(x)
        h *= 1 / 8 if run.acceptance < FEW else 1 / 2 if run.acceptance < FEWER else 4 if run.acceptance > MANY else 1
    return x, scale_at(target, x, temperature), evaluations


def long_run(
    target: Target, scheme: Integrator, start: Array, h: float, noise: float, seed: int, friction: float = 1.0
) -> LongRun | None:
    """Return a run that is long enough for standard errors of at most ``noise``, or None if chains diverge."""
    chains, steps, evaluations = len(start), 4 * DRAWS, 0
    draws = max(1, min(DRAWS, COORDINATES // start.size))
    while steps <= STEPS:
        run = quiet_run(
            target, scheme, x0=start, h=h, friction=friction, steps=steps, burn_in=steps, thin=-(-steps // draws),
            seed=seed,
        )  # fmt: skip
        evaluations += run.nfe * chains
        if run.diverged or run.trace is None:
            return None
        x = run.trace.reshape(len(run.trace), chains, -1).astype(float)
        values = np.concatenate([x, x**2], axis=2)
        each = values.mean(axis=0)
        found = LongRun(
            run.trace, each.mean(axis=0), each.std(axis=0, ddof=1) / math.sqrt(chains), values.std(axis=(0, 1)),
            evaluations,
        )  # fmt: skip
        excess = float(np.max(found.error / found.scale)) / noise
        if excess <= 1:
            return found
        steps = math.ceil(steps * max(1.5, 1.2 * excess**2))
    kind = "metropolised" if scheme.metropolised else "long"
    raise ValueError(
        f"reference: {kind!r} did not reach a noise of {noise:g} standard deviations on {target.name!r} in {STEPS} "
        f"steps of h = {h:.3g}: its chains mix too slowly; pass samples{or_scale(target)}"
    )


def or_scale(target: Target) -> str:
    """Return a remedy for a target whose scale is not stated: the chains of long runs may start too far away."""
    if target.draws is not None or np.all(np.isfinite(target.standard_deviation)):
        return ""
    return ", or state the mean and standard_deviation of the target approximately (its chains start from N(mean, 1))"


def quiet_run(target: Target, scheme: Integrator, **options: Any) -> Run:
    """Run chains without warnings of divergence, or raise if the run was interrupted."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* diverged")
        warnings.filterwarnings("ignore", "stopped after")
        run = sample(target, scheme, chains=len(options["x0"]), progress=False, **options)
    if not run.complete:
        raise KeyboardInterrupt
    return run

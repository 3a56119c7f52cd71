"""sample(): run chains of an integrator on a target."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from uldnum._util.arguments import positive_number, step_size, title, whole_number
from uldnum._util.names import checked_text, digest
from uldnum._util.typing import Array, ArrayLike
from uldnum.exact._gaussian import LARGEST, max_stable_h
from uldnum.exact.stability import unstable
from uldnum.kernels.program import Program
from uldnum.kernels.source.core import Recording, Tables, lay_out
from uldnum.kernels.source.mixture import MixtureData
from uldnum.kernels.state import State, statistics_shapes
from uldnum.sampling.backends import choose_backend
from uldnum.sampling.launch import (
    bounds,
    centre_and_scale,
    check_numbers,
    execute,
    floating_type,
    keeping,
    recording_of,
    require_memory,
    resumed,
    warn_of_a_stop,
)
from uldnum.sampling.run import Run
from uldnum.sampling.settings import Settings
from uldnum.sampling.start import earlier_run, find_start, initial_state, number_of_chains, register_ends, resumed_start
from uldnum.schemes.catalogue import Integrator
from uldnum.schemes.catalogue import integrator as find_integrator
from uldnum.targets import Target, find_target
from uldnum.version import VERSION

__all__ = ["one_phase", "sample"]


def sample(
    target: Target | str | Path,
    integrator: str | Integrator,
    *,
    h: ArrayLike | None = None,
    delta: ArrayLike | None = None,
    friction: float = 1.0,
    steps: int,
    burn_in: int = 0,
    chains: int | None = None,
    seed: int | None = None,
    x0: str | ArrayLike | Callable[[int, int, int], ArrayLike] | Run | None = None,
    thin: int | None = None,
    bins: int = 0,
    first_chain: int | None = None,
    dtype: DTypeLike | None = None,
    backend: str | None = None,
    threads: int | None = None,
    resume: Run | str | Path | None = None,
    progress: bool | str = True,
) -> Run:
    """Run independent chains of an integrator on a target.

    A result depends on (seed, number of the chain, step) alone: not on the number of chains or threads, on h's
    neighbours in a group, or on where a run was stopped and resumed (with a network: up to its own rounding). Ctrl-C
    returns what was done so far, as an incomplete run that can be resumed. For integrators of the catalogue and
    splitting words, on mixtures and named targets, no bit depends on the make of the CPU; networks, a `DataMixture`,
    scores and recipes of the user may depend on it.

    Parameters
    ----------
    target : str, GaussianMixture, UserTarget, a network or a DataMixture at a noise level, or another Target
        What is sampled; a string is the name of a preset or of a TOML file. `uldnum.targets.Target` says what it needs.
    integrator : str or Integrator
        A name (`uldnum.integrators`, or any splitting word), or an `Integrator`.
    h : float or array, shape (H,)
        Step size; several run as groups of ``chains`` chains each, with common random numbers. In units of sigma for a
        network, absolute otherwise.
    delta : float or array, shape (H,)
        The step size as ``h^2/2`` instead.
    friction : float
        Friction, in the reciprocal unit.
    steps : int
        Recorded steps.
    burn_in : int
        Steps before them, not recorded.
    chains : int
        Chains of each group. It may be left out where ``x0`` or ``resume`` is a run.
    seed : int, optional
        64-bit seed of all random numbers. Default: 0 where chains start from a law, a hash of the positions where they
        start from given ones, so that a run from the ends of another one never draws its normals again. With a seed,
        runs from different positions have common random numbers; positions at which a run of this process with the
        same seed has ended are refused.
    x0 : "target", "normal", "uniform", array of shape (chains, *shape), callable or Run
        Initial positions: exact draws of the target (networks: Gaussian, as wide as z), N(0, 1), U(0, 1), given ones,
        those that ``x0(chains, seed, first_chain)`` returns, or the ends of a run; arrays of any library. A run hands
        on its positions, and its momenta where both integrators have them, else the second row is drawn; the new run
        has the same chains, and a key that is derived from the seed and the generation. It is another realisation than
        one long run; ``resume`` continues a run to the same bits. Default: "target".
    thin : int, optional
        Store the positions every ``thin`` recorded steps.
    bins : int
        Bins of the histogram of each axis, over 8 standard deviations to either side of the mean; 0 for none. Every
        fourth recorded step is counted.
    first_chain : int, optional
        Number of the first chain, so that a batch can be split. Default: 0, or that of the run that ``x0`` is.
    dtype : "float64" or "float32", optional
        Type of the state. Default: float64 (networks: float32). Moments are always float64.
    backend : str, optional
        One of `BACKENDS`. Default: "numba" for mixtures and compiled scores, "array" for anything else.
    threads : int, optional
        Threads of the Numba backend. Default: all cores.
    resume : Run or path, optional
        A run with the same arguments, apart from ``steps`` and ``threads``, to go on from to the same bits; leave out
        ``x0``. ``chains``, ``first_chain`` and ``seed`` may be left out.
    progress : bool or str
        Show a progress bar in a terminal when the run lasts more than a second; a string is what to call it.

    Returns
    -------
    Run

    Raises
    ------
    ValueError
        If an argument is out of range, unknown or of the wrong shape, or the run would not fit into memory; the message
        names it.

    Warns
    -----
    UserWarning
        If chains diverged: left a thousand standard deviations of the target, or the finite numbers. If the target is
        one Gaussian on which the scheme is not stable, also where no chain has diverged yet.
    """
    target = find_target(target)
    scheme = find_integrator(integrator)
    given = step_size(h, delta)
    if given.ndim > 1 or given.size == 0:
        raise ValueError(f"{'h' if delta is None else 'delta'}: must be a number or have shape (H,), got {given.shape}")
    gamma = positive_number("friction", friction)
    check_numbers(chains, first_chain, seed, threads)
    steps, burn_in = whole_number("steps", steps, 1, 2**48), whole_number("burn_in", burn_in, 0, 2**48)
    bins = whole_number("bins", bins, 0, 2**24)
    thin = None if thin is None else whole_number("thin", thin, 1, steps)
    kind = floating_type(target.dtype if dtype is None else dtype)
    backend = choose_backend(target, backend, kind)
    target.check_dtype(kind)
    vector, progress = len(target.shape) == 1, title("progress", progress)
    if bins and not (vector and np.all(np.isfinite(target.standard_deviation))):
        raise ValueError("bins: histograms need a target of vectors with a known standard deviation")

    h_absolute = np.atleast_1d(given) * target.time_unit
    tables = lay_out([scheme.stages(h_absolute, friction=gamma / target.time_unit)], kind)
    mixture = None if target.kernel_data is None else target.kernel_data(kind)
    earlier = None if resume is None else earlier_run(resume, x0)
    number = number_of_chains(chains, earlier, x0)
    positions = given.size * number * math.prod(target.shape) * kind.itemsize
    shapes = statistics_shapes(given.size, number, math.prod(target.shape), vector, bins)
    require_memory(
        chains=2 * scheme.rows * positions + 8 * (math.prod(shapes["sums"]) + math.prod(shapes["products"])),
        bins=8 * math.prod(shapes["counts"]),
        thin=positions * (steps // thin if thin else 0),
    )
    start = (
        find_start(target, "target" if x0 is None else x0, chains, first_chain, seed, given.size)
        if earlier is None
        else resumed_start(earlier, chains, first_chain, seed, x0)
    )
    settings = Settings(
        version=VERSION,
        target=checked_text("target", target.name),
        fingerprint=target.fingerprint,
        shape=tuple(target.shape),
        integrator=scheme.name,
        coefficients=digest(*tables[:7], tables.score_at_x),
        backend=backend,
        dtype=kind.name,
        h=tuple(np.atleast_1d(given).tolist()),
        grouped=given.ndim == 1,
        friction=gamma,
        burn_in=burn_in,
        chains=start.chains,
        first_chain=start.first_chain,
        seed=start.seed,
        generation=start.generation,
        thin=thin,
        bins=bins,
        x0=start.name,
        momenta=scheme.momenta,
    )
    recording, low, high = recording_of(target, vector, bins, burn_in, thin)
    if earlier is None:
        phase_space = initial_state(start, np.full(scheme.rows - 1, scheme.memory), scheme.momenta, given.size, kind)
        state = State.start(phase_space, moments=vector, bins=bins)
        run = Run(settings, steps, state, [], recording.centre, low, high, tables, mixture, {})
    else:
        run = resumed(earlier, settings, steps, tables, mixture, (recording.centre, low, high))
        recording = recording._replace(centre=run.centre, low=run.low, per_unit=bins / (run.high - run.low))
    program = one_phase(target, run.tables, burn_in + steps, recording, settings.key, start.first_chain, run.mixture)
    unit, scale = ("step", False) if vector else ("image", len(h_absolute) * start.chains)
    run = execute(program, run, threads, progress, unit, scale)
    with keeping(run):
        register_ends(run)
        report(run, target, scheme)
    return run


@dataclass(frozen=True)
class OneTarget:
    """The target of a program of one phase.

    Attributes
    ----------
    only : Target
        The target.
    mixture : MixtureData or None
        What kernels read of it, with a leading axis of length 1; None if it is no mixture.
    least, most : arrays, shape (1, d)
        Divergence bounds, in the type of the run.
    """

    only: Target
    mixture: MixtureData | None
    least: Array
    most: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.only.shape

    def target(self, number: int) -> Target:
        """Return the target."""
        return self.only

    def mixtures(self, first: int, last: int) -> MixtureData | None:
        """Return the mixture."""
        return self.mixture

    def bounds(self, first: int, last: int) -> tuple[Array, Array]:
        """Return the divergence bounds."""
        return self.least, self.most


def one_phase(
    target: Target,
    tables: Tables,
    steps: int,
    recording: Recording,
    seed: int,
    first_chain: int = 0,
    mixture: MixtureData | None = None,
) -> Program:
    """Return the program of an integrator on a target, or on the mixture as which a run read it before."""
    dtype = tables.b.dtype
    least, most = bounds(*centre_and_scale(target), dtype)
    if mixture is None and target.kernel_data is not None:
        mixture = target.kernel_data(dtype)
    stacked = None if mixture is None else MixtureData(*(part[None] for part in mixture))
    targets, seeds = OneTarget(target, stacked, least[None], most[None]), np.array([seed], np.uint64)
    return Program(tables, np.array([steps]), seeds, targets, recording, first_chain, [None])


def report(run: Run, target: Target, scheme: Integrator) -> None:
    """Warn of step sizes at which chains diverged or must do so, and of a run that was stopped."""
    settings = run.settings
    rows = zip(settings.h, np.atleast_1d(run.diverged), np.atleast_1d(run.diverged_at), strict=True)
    bad = [f"h = {h:g} ({count} of {settings.chains} chains, the first at step {at})" for h, count, at in rows if count]
    alone = target.precision is not None
    precision = largest_precision(target) if bad or alone else None
    growing = [f"h = {h:g}" for h in growing_steps(run, scheme, precision)] if alone and precision else []
    limit = "take a smaller step"
    if precision and (bad or growing):
        with suppress(ValueError):  # of scales that differ beyond what can be resolved
            stable = max_stable_h(scheme, precision=precision, friction=settings.friction)
            limit = f"on its narrowest Gaussian the scheme is stable up to h = {stable:.4g} (uldnum.exact.max_stable_h)"
    if bad:
        warnings.warn(
            f"{settings.integrator} diverged at {', '.join(bad)}; the statistics there are NaN; {limit}", stacklevel=4
        )
    if growing:
        warnings.warn(
            f"{settings.integrator} has not diverged yet at {', '.join(growing)}, but has no stationary law there, and "
            f"the statistics depend on the number of steps; {limit}",
            stacklevel=4,
        )
    warn_of_a_stop(run, "recorded steps")


def largest_precision(target: Target) -> float | None:
    """Return the largest precision of a target; None where no limit of stability is known."""
    precision = target.largest_precision
    return None if precision is None or not 1 / LARGEST <= precision <= LARGEST else precision


def growing_steps(run: Run, scheme: Integrator, precision: float) -> Array:
    """Return the step sizes without diverged chains at which a scheme has no stationary law on a Gaussian."""
    h = np.array(run.settings.h)[np.atleast_1d(run.diverged) == 0]
    return h[unstable(scheme, h, precision, run.settings.friction)]

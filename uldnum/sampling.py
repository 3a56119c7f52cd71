"""sample(): run chains of an integrator on a target."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from uldnum.arguments import positive_number, step_size, whole_number
from uldnum.backends import BACKENDS, Options, choose_backend
from uldnum.exact import max_stable_h
from uldnum.integrators import Integrator
from uldnum.integrators import integrator as find_integrator
from uldnum.kernels import Problem, State
from uldnum.kernels.core import make_tables
from uldnum.launch import (
    Target,
    floating_type,
    initial_state,
    numbers_of_chains,
    resumed,
    start_name,
    take_steps,
    warn_of_a_stop,
    watch_of,
    watched,
)
from uldnum.names import digest
from uldnum.run import Run, Settings
from uldnum.targets import GaussianMixture, UserTarget
from uldnum.targets import target as find_target
from uldnum.typing import ArrayLike
from uldnum.version import VERSION

__all__ = ["sample"]


def sample(
    target: Target | str | Path,
    integrator: str | Integrator,
    *,
    h: ArrayLike | None = None,
    delta: ArrayLike | None = None,
    friction: float = 1.0,
    steps: int,
    burn_in: int = 0,
    chains: int,
    seed: int = 0,
    x0: ArrayLike | Callable[[int, int, int], ArrayLike] = "target",
    thin: int | None = None,
    bins: int = 0,
    first_chain: int = 0,
    dtype: DTypeLike | None = None,
    backend: str | None = None,
    threads: int | None = None,
    resume: Run | str | Path | None = None,
    progress: bool | str = True,
) -> Run:
    """Run independent chains of an integrator on a target.

    A result depends on (seed, number of the chain, step) alone: not on the number of chains or threads, on h's
    neighbours in a group, or on where a run was stopped and resumed (with a network: up to its own rounding). Ctrl-C
    returns what was done so far, as an incomplete run that can be resumed.

    Parameters
    ----------
    target : str, GaussianMixture, UserTarget, or a network or a DataMixture at a noise level
        What is sampled; a string is the name of a preset or of a TOML file.
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
        Chains of each group.
    seed : int
        64-bit key of all random numbers.
    x0 : "target", array of shape (chains, *shape), or callable
        Initial positions: exact draws of the target (networks: Gaussian, as wide as z), given ones, or those that
        ``x0(chains, seed, first_chain)`` returns; arrays of any library.
    thin : int, optional
        Store the positions every ``thin`` recorded steps.
    bins : int
        Bins of the histogram of each axis, over 8 standard deviations to either side of the mean; 0 for none. Every
        fourth recorded step is counted.
    first_chain : int
        Number of the first chain, so that a batch can be split.
    dtype : "float64" or "float32", optional
        Type of the state. Default: float64 (networks: float32). Moments are always float64.
    backend : str, optional
        One of `BACKENDS`. Default: "numba" for mixtures and compiled scores, "array" for anything else.
    threads : int, optional
        Threads of the Numba backend. Default: all cores.
    resume : Run or path, optional
        A run with the same arguments, apart from ``steps`` and ``threads``, to go on from; leave out ``x0``.
    progress : bool or str
        Show a progress bar in a terminal when the run lasts more than a second; a string is what to call it.

    Returns
    -------
    Run

    Raises
    ------
    ValueError
        If an argument is out of range, unknown or of the wrong shape; the message names it.

    Warns
    -----
    UserWarning
        If chains diverged: left a thousand standard deviations of the target, or the finite numbers.
    """
    if isinstance(target, str | Path):
        target = find_target(target)
    if not hasattr(target, "score") or not hasattr(target, "time_unit"):
        raise ValueError(
            "target: must be a name, a GaussianMixture, a UserTarget, or a network or DataMixture at a noise level, "
            f"got {target!r}"
        )
    scheme = find_integrator(integrator)
    given = step_size(h, delta)
    if given.ndim > 1 or given.size == 0:
        raise ValueError(f"h: must be a number or have shape (H,), got shape {given.shape}")
    gamma = positive_number("friction", friction)
    chains, first_chain, seed, threads = numbers_of_chains(chains, first_chain, seed, threads)
    steps, burn_in = whole_number("steps", steps, 1, 2**48), whole_number("burn_in", burn_in, 0, 2**48)
    bins = whole_number("bins", bins, 0, 2**24)
    thin = None if thin is None else whole_number("thin", thin, 1, steps)
    kind = floating_type(target.dtype if dtype is None else dtype)
    backend = choose_backend(target, backend, kind)
    if isinstance(target, UserTarget):
        target.score(np.asarray(target.mean, kind)[None])  # it may fail in the type of the run
    vector = len(target.shape) == 1
    if bins and not (vector and np.all(np.isfinite(target.standard_deviation))):
        raise ValueError("bins: histograms need a target of vectors with a known standard deviation")

    h_absolute = np.atleast_1d(given) * target.time_unit
    tables = make_tables(scheme.stages(h_absolute, friction=gamma / target.time_unit), kind)
    settings = Settings(
        version=VERSION,
        target=target.name,
        fingerprint=target.fingerprint,
        shape=tuple(target.shape),
        integrator=scheme.name,
        tables=digest(*(part for part in tables if isinstance(part, np.ndarray))),
        backend=backend,
        dtype=kind.name,
        h=tuple(np.atleast_1d(given).tolist()),
        grouped=given.ndim == 1,
        friction=gamma,
        burn_in=burn_in,
        chains=chains,
        seed=seed,
        first_chain=first_chain,
        thin=thin,
        bins=bins,
        x0=start_name(x0 if resume is None else None),
    )
    watch, low, high = watch_of(target, bins, burn_in, thin, kind)
    problem = Problem(tables, target, settings.seed, settings.first_chain, watch)
    make_executor, _ = BACKENDS[backend]
    executor = make_executor(problem, kind, Options(threads, bool(progress)))

    if resume is None:
        xp = initial_state(target, np.full(scheme.rows - 1, scheme.memory), settings, x0)
        state = State.start(xp, moments=vector, bins=bins)
        run = Run(settings, steps, state, [], watch.centre, low, high, executor.info)
        executor.enter(state)
    else:
        if not isinstance(x0, str):
            raise ValueError("x0: a resumed run goes on from its own states; leave it out")
        run = replace(resumed(resume, settings, steps), info=executor.info)
    unit, scale = ("step", False) if vector else ("image", len(h_absolute) * chains)
    with watched(progress, scheme.name, burn_in + steps, run.state.step, unit, scale) as (bar, stopped):
        for kept in take_steps(executor, run.state, burn_in + steps, bar, stopped):
            run.states.extend(kept)
    executor.settle(run.state)
    report(run, target, scheme)
    return run


def report(run: Run, target: Target, scheme: Integrator) -> None:
    """Warn of step sizes at which chains diverged, and of a run that was stopped."""
    settings = run.settings
    rows = zip(settings.h, np.atleast_1d(run.diverged), np.atleast_1d(run.diverged_at), strict=True)
    bad = [f"h = {h:g} ({count} of {settings.chains} chains, the first at step {at})" for h, count, at in rows if count]
    if bad:
        limit = "take a smaller step"
        if isinstance(target, GaussianMixture):
            stable = max_stable_h(scheme, precision=target.largest_precision, friction=settings.friction)
            limit = f"on its narrowest Gaussian the scheme is stable up to h = {stable:.4g} (uldnum.exact.max_stable_h)"
        warnings.warn(
            f"{settings.integrator} diverged at {', '.join(bad)}; the statistics there are NaN; {limit}", stacklevel=3
        )
    warn_of_a_stop(run, "recorded steps")

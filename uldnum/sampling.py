"""sample(): run chains of an integrator on a target."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike
from tqdm.auto import tqdm

from uldnum.arguments import positive_number, step_size, whole_number
from uldnum.backends import BACKENDS, Options, choose_backend
from uldnum.exact import max_stable_h
from uldnum.integrators import Integrator
from uldnum.integrators import integrator as find_integrator
from uldnum.interrupt import interruptible
from uldnum.kernels import Executor, Problem, State
from uldnum.kernels.array import initial_normals
from uldnum.kernels.core import Watch, make_tables
from uldnum.kernels.space import host
from uldnum.names import digest
from uldnum.run import Run, Settings
from uldnum.targets import GaussianMixture, UserTarget
from uldnum.targets import target as find_target
from uldnum.typing import Array, ArrayLike
from uldnum.version import VERSION

__all__ = ["Run", "Target", "sample"]

# Seconds between looks at the progress bar and at Ctrl-C.
PATIENCE = 0.2

# Histograms reach this many standard deviations of the target to either side of its mean.
REACH = 8

# A chain diverges when it is this many standard deviations of the target away from its mean.
ESCAPE = 1e3

# ... and in any case here, where its square is still finite.
HORIZON = {np.dtype(np.float64): 1e100, np.dtype(np.float32): 1e18}

# Histograms count every so many recorded steps: neighbouring steps are correlated, and a count costs more than a step.
BIN_EVERY = 4


class Target(Protocol):
    """What `sample` needs of a target.

    A mixture is a target; so is a network at one noise level. A target whose score takes arrays of another library than
    NumPy also has an attribute ``like``, one of its arrays: the score is called with arrays of that library, on that
    device. On CuPy's arrays, targets of images run with backend "cuda", whose kernels do the rest of a step.
    """

    @property
    def name(self) -> str:
        """What it is called in output."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""

    @property
    def time_unit(self) -> float:
        """Unit of the step size, and of the reciprocal of the friction."""

    @property
    def dtype(self) -> str:
        """Floating-point type of a run, unless another is asked for."""

    @property
    def mean(self) -> Array:
        """Mean, or the centre of where chains belong."""

    @property
    def standard_deviation(self) -> Array:
        """Scale of the target on each axis: a chain diverges at a thousand times this distance from the mean."""

    @property
    def compiled(self) -> bool:
        """Whether the Numba kernels can run it; if not, the array executor calls `score`."""

    @property
    def fingerprint(self) -> str:
        """Hash of the target, by which a saved run knows it again."""

    def score(self, x: Array) -> Array:
        """Gradient of the log density, (n, *shape) -> (n, *shape)."""

    def sample(self, n: int, seed: int, first: int) -> Array:
        """Return initial states first ... first + n - 1, shape (n, *shape)."""


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
    target : str, GaussianMixture, UserTarget, or a network at a noise level
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
            f"target: must be a name, a GaussianMixture, a UserTarget or a network at a noise level, got {target!r}"
        )
    scheme = find_integrator(integrator)
    given = step_size(h, delta)
    if given.ndim > 1 or given.size == 0:
        raise ValueError(f"h: must be a number or have shape (H,), got shape {given.shape}")
    gamma = positive_number("friction", friction)
    chains = whole_number("chains", chains, 1, 2**32)
    first_chain = whole_number("first_chain", first_chain, 0, 2**32 - chains)  # one word of the random counter
    steps, burn_in = whole_number("steps", steps, 1, 2**48), whole_number("burn_in", burn_in, 0, 2**48)
    seed, bins = whole_number("seed", seed, 0, 2**64 - 1), whole_number("bins", bins, 0, 2**24)
    thin = None if thin is None else whole_number("thin", thin, 1, steps)
    threads = None if threads is None else whole_number("threads", threads, 1, 2**16)
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
    )
    watch, low, high = watch_of(target, bins, burn_in, thin, kind)
    problem = Problem(tables, target, settings.seed, settings.first_chain, watch)
    make_executor, _ = BACKENDS[backend]
    executor = make_executor(problem, kind, Options(threads, bool(progress)))

    if resume is None:
        xp = initial_state(target, np.full(scheme.rows - 1, scheme.memory), settings, x0)
        state = State.start(np.repeat(xp[None], len(h_absolute), axis=0).astype(kind), moments=vector, bins=bins)
        run = Run(settings, steps, state, [], watch.centre, low, high, executor.info)
        executor.enter(state)
    else:
        if not isinstance(x0, str):
            raise ValueError("x0: a resumed run goes on from its own states; leave it out")
        run = replace(resumed(resume, settings, steps), info=executor.info)
    with (
        interruptible() as stopped,
        tqdm(
            desc=progress if isinstance(progress, str) else scheme.name, total=burn_in + steps, initial=run.state.step,
            unit="step" if vector else "image", unit_scale=False if vector else len(h_absolute) * chains, delay=1.0,
            disable=None if progress else True,
        ) as bar,
    ):  # fmt: skip
        for kept in take_steps(executor, run.state, burn_in + steps, bar, stopped):
            run.states.extend(kept)
    executor.settle(run.state)
    report(run, target, scheme)
    return run


def floating_type(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the type of the run, or raise."""
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = np.dtype(object)
    if kind not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype: must be float32 or float64, got {dtype!r}")
    return kind


def bounds(centre: Array, scale: Array, kind: np.dtype[Any]) -> tuple[Array, Array]:
    """Return beyond what a chain has diverged."""
    reach = np.minimum(ESCAPE * scale, HORIZON[kind])
    return centre - reach, centre + reach


def watch_of(
    target: Target, bins: int, burn_in: int, thin: int | None, kind: np.dtype[Any]
) -> tuple[Watch, Array, Array]:
    """Return what is watched, and the range of the histograms of each axis."""
    centre, scale = (np.ravel(a).astype(float) for a in (target.mean, target.standard_deviation))
    low, high = centre - REACH * scale, centre + REACH * scale
    least, most = (bound.astype(kind) for bound in bounds(centre, scale, kind))
    return Watch(burn_in + 1, BIN_EVERY, thin or 0, centre, least, most, low, bins / (high - low)), low, high


def initial_state(target: Target, deviations: Array, settings: Settings, x0: Any) -> Array:
    """Return (x, p) of every chain, shape (chains, k, d), in float64; ``deviations`` are those of rows 1 ... k - 1.

    The first d initial normals of a chain belong to the target's own draws; the memory takes the next (k - 1) d.
    """
    chains, seed, first = settings.chains, settings.seed, settings.first_chain
    x = positions_of(target, x0, chains, seed, first).reshape(chains, 1, -1)
    d, rows = x.shape[2], len(deviations)
    xp = np.empty((chains, 1 + rows, d))
    xp[:, :1] = x
    memory = initial_normals(chains, seed, first, d, rows * d).reshape(chains, rows, d)
    np.multiply(deviations[:, None], memory, out=xp[:, 1:])
    return xp


def positions_of(target: Target, x0: Any, chains: int, seed: int, first: int) -> Array:
    """Return initial positions, shape (chains, *shape), in float64, or raise if they are none."""
    if isinstance(x0, str) and x0 == "target":
        x0 = target.sample(chains, seed, first)
    elif callable(x0):
        x0 = x0(chains, seed, first)
    try:
        x = np.asarray(host(x0), dtype=float)
    except (TypeError, ValueError, BufferError):
        raise ValueError(f"x0: must be 'target', an array of numbers, or a function, got {x0!r}") from None
    if x.shape != (chains, *target.shape):
        raise ValueError(f"x0: must have shape {(chains, *target.shape)}, got {x.shape}")
    far = np.abs(x - target.mean) > ESCAPE * np.asarray(target.standard_deviation)
    if not np.all(np.isfinite(x)) or far.any():
        raise ValueError(f"x0: must be finite and within {ESCAPE:g} standard deviations of the target's mean")
    return x


def resumed(source: Run | str | Path, settings: Settings, steps: int) -> Run:
    """Return a copy of an earlier run, to go on from, or raise if it is not one of these settings."""
    earlier = source if isinstance(source, Run) else Run.load(source)
    differences = earlier.settings.differences(settings)
    if differences:
        raise ValueError(f"resume: the run was made with other settings: {'; '.join(differences)}")
    if earlier.recorded_steps > steps:
        raise ValueError(f"resume: the run has {earlier.recorded_steps} recorded steps already, more than {steps}")
    # Executors change the state in place, and the earlier run is to stay as it is.
    return replace(
        earlier, settings=settings, steps=steps, state=deepcopy(earlier.state), states=list(earlier.states)
    )  # fmt: skip


def take_steps(
    executor: Executor, state: State, end: int, bar: tqdm[Any], stopped: Callable[[], bool]
) -> Iterator[Array]:
    """Go on to step ``end`` in launches short enough to show progress and to stop; yields the positions kept."""
    launch = executor.first_launch(state)
    while state.step < end and not stopped():
        last = min(state.step + launch, end)
        taken = last - state.step
        begun = time.perf_counter()
        yield executor.advance(state, last)
        elapsed = time.perf_counter() - begun
        if not bar.disable and bar.n == bar.initial:
            bar.unpause()  # the first launch compiles: its time says nothing of the rest
        bar.update(taken)
        launch = next_launch(taken, elapsed)


def next_launch(taken: int, elapsed: float) -> int:
    """Return how much to do before the next look at the progress bar, given what was done in so many seconds."""
    return max(1, min(4 * taken, int(taken * PATIENCE / elapsed)))


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
    if not run.complete:
        warnings.warn(
            f"stopped after {run.recorded_steps} of {run.steps} recorded steps; pass resume= to go on", stacklevel=3
        )

"""sample(): run chains of an integrator on a target."""

from __future__ import annotations

import operator
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike
from tqdm.auto import tqdm

from uldnum.integrators import Integrator, positive, step_size
from uldnum.integrators import integrator as find_integrator
from uldnum.kernels import Executor, Problem, State
from uldnum.kernels.array import ArrayExecutor, normals
from uldnum.kernels.core import INITIAL, NEVER, make_tables
from uldnum.moments import Moments
from uldnum.names import unknown
from uldnum.typing import Array, ArrayLike

__all__ = ["BACKENDS", "Run", "Target", "sample"]

# Seconds between looks at the progress bar and at Ctrl-C.
PATIENCE = 0.2


class Target(Protocol):
    """What `sample` needs of a target.

    A mixture is a target; so is a network at one noise level.
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

    def score(self, x: Array) -> Array:
        """Gradient of the log density, (n, *shape) -> (n, *shape)."""

    def sample(self, n: int, seed: int, first: int) -> Array:
        """Return initial states first ... first + n - 1, shape (n, *shape)."""


@dataclass(frozen=True, eq=False)
class Run:
    """What `sample` returns. With h of shape (H,) every array has a leading axis H.

    Attributes
    ----------
    target, integrator, backend, dtype : str
        What was run, and on what.
    h, friction : float64 arrays
        Step size and friction, absolute.
    steps, burn_in, chains, seed : int
        As given.
    x : array, shape (chains, *shape)
        Positions at the end of the last step.
    p : array or None
        Momenta, or whatever the scheme keeps in its second row, at the same time; None if it keeps nothing.
    trace : array or None, shape (recorded, chains, *shape)
        Positions every ``thin`` steps, if asked for.
    nfe : int
        Score evaluations per chain, burn-in included.
    diverged : int array
        Number of chains that left a thousand standard deviations of the target, or the finite numbers. Where it is not
        0 the statistics are NaN.
    moments : Moments or None
        Of vectors; None for images.
    """

    target: str
    integrator: str
    backend: str
    dtype: str
    h: Array
    friction: Array
    steps: int
    burn_in: int
    chains: int
    seed: int
    x: Array
    p: Array | None
    trace: Array | None
    nfe: int
    diverged: Array
    moments: Moments | None

    @property
    def statistics(self) -> Moments:
        """The moments, or an error in words where there are none."""
        if self.moments is None:
            raise ValueError(f"the run on {self.target!r} keeps no moments: its samples are images; use run.x")
        return self.moments

    @property
    def recorded(self) -> Array:
        """The trace, or an error in words where none was asked for."""
        if self.trace is None:
            raise ValueError("the run recorded no trace: pass thin to sample(), at most steps")
        return self.trace

    @property
    def mean(self) -> Array:
        """Mean over chains and steps after burn-in, shape (d,)."""
        return self.statistics.mean

    @property
    def mean_error(self) -> Array:
        """Standard error of `mean`, from the spread over chains."""
        return self.statistics.mean_error

    @property
    def covariance(self) -> Array:
        """Covariance over chains and steps after burn-in, shape (d, d)."""
        return self.statistics.covariance

    @property
    def covariance_error(self) -> Array:
        """Standard error of `covariance`, from the spread over chains."""
        return self.statistics.covariance_error


def numba_executor(problem: Problem, dtype: np.dtype[Any], threads: int | None) -> Executor:
    """Return the executor of compiled code; importing Numba costs half a second, so only here."""
    from uldnum.kernels.cpu import NumbaExecutor

    return NumbaExecutor(problem, dtype, threads)


BACKENDS: dict[str, tuple[Callable[[Problem, np.dtype[Any], int | None], Executor], str]] = {
    "numba": (numba_executor, "compiled for this processor, threads over chains; the default for mixtures"),
    "array": (
        lambda problem, dtype, threads: ArrayExecutor(problem, dtype),
        "NumPy arrays, any target; the reference, and the default for networks",
    ),
}


def sample(
    target: Target,
    integrator: str | Integrator,
    *,
    h: ArrayLike | None = None,
    delta: ArrayLike | None = None,
    friction: float = 1.0,
    steps: int,
    burn_in: int = 0,
    chains: int,
    seed: int = 0,
    x0: ArrayLike | None = None,
    thin: int | None = None,
    first_chain: int = 0,
    dtype: DTypeLike | None = None,
    backend: str | None = None,
    threads: int | None = None,
    progress: bool = True,
) -> Run:
    """Run independent chains of an integrator on a target.

    A result depends on (seed, number of the chain, step) alone: not on the number of chains or threads, nor on h's
    neighbours in a group.

    Parameters
    ----------
    target : GaussianMixture, or a network at a noise level
        What is sampled.
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
    x0 : array, shape (chains, *shape), optional
        Initial positions. Default: exact draws from the target (networks: N(0, alpha^2 + sigma^2)).
    thin : int, optional
        Store the positions every ``thin`` recorded steps.
    first_chain : int
        Number of the first chain, so that a batch can be split.
    dtype : "float64" or "float32", optional
        Type of the state. Default: float64 (networks: float32). Moments are always float64.
    backend : str, optional
        One of `BACKENDS`. Default: "numba" for mixtures, "array" for anything else.
    threads : int, optional
        Threads of the Numba backend. Default: all cores.
    progress : bool
        Show a progress bar in a terminal when the run lasts more than a second.

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
        If chains diverged.
    """
    scheme = find_integrator(integrator)
    given = step_size(h, delta)
    if given.ndim > 1 or given.size == 0:
        raise ValueError(f"h: must be a number or have shape (H,), got shape {given.shape}")
    if positive("friction", friction).ndim:
        raise ValueError(f"friction: must be a number, got shape {np.shape(friction)}")
    for name, value, least, most in (
        ("steps", steps, 1, 2**48),
        ("burn_in", burn_in, 0, 2**48),
        ("chains", chains, 1, 2**32),
        ("first_chain", first_chain, 0, 2**32 - chains),  # a chain's number is one word of the random counter
        ("seed", seed, 0, 2**64 - 1),
        ("thin", 1 if thin is None else thin, 1, 2**48),
        ("threads", 1 if threads is None else threads, 1, 2**16),
    ):
        whole_number(name, value, least, most)
    kind = floating_type(target.dtype if dtype is None else dtype)
    backend = choose_backend(target, backend)

    steps_of_time = np.atleast_1d(given) * target.time_unit
    tables = make_tables(scheme.stages(steps_of_time, friction=friction / target.time_unit), kind)
    centre, scale = (np.ravel(a).astype(float) for a in (target.mean, target.standard_deviation))
    problem = Problem(tables, target, seed, first_chain, centre, 1e3 * scale)
    make_executor, _ = BACKENDS[backend]
    executor = make_executor(problem, kind, threads)

    xp = initial_state(target, scheme, chains, seed, first_chain, x0)
    state = State.start(np.repeat(xp[None], len(steps_of_time), axis=0).astype(kind), moments=len(target.shape) == 1)
    with tqdm(
        desc=scheme.name, total=burn_in + steps, unit="step", delay=1.0, disable=None if progress else True
    ) as bar:
        trace = [state.xp[:, :, 0].copy() for _ in take_steps(executor, state, burn_in, steps, thin, bar)]

    diverged = (state.left < NEVER).sum(axis=1)
    report_divergence(scheme.name, np.atleast_1d(given), diverged, chains)
    squeeze: Callable[[Array], Array] = (lambda array: array[0]) if given.ndim == 0 else (lambda array: array)

    def positions(flat: Array) -> Array:
        return squeeze(flat.reshape(*flat.shape[:-1], *target.shape))

    moments = None
    if len(target.shape) == 1:
        state.sums[diverged > 0] = np.nan
        state.squares[diverged > 0] = np.nan
        moments = Moments.from_sums(centre, squeeze(state.sums), squeeze(state.squares), steps)
    return Run(
        target=target.name,
        integrator=scheme.name,
        backend=backend,
        dtype=kind.name,
        h=given,
        friction=np.asarray(friction, dtype=float),
        steps=steps,
        burn_in=burn_in,
        chains=chains,
        seed=seed,
        x=positions(state.xp[:, :, 0]),
        p=positions(state.xp[:, :, 1]) if scheme.rows > 1 else None,
        trace=positions(np.stack(trace, axis=1)) if trace else None,
        nfe=int(state.nfe.max()),
        diverged=squeeze(diverged),
        moments=moments,
    )


def whole_number(name: str, value: Any, least: int, most: int) -> None:
    """Raise unless value is an integer between ``least`` and ``most``."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name}: must be an integer, got {value!r}") from None
    if not least <= number <= most:
        raise ValueError(f"{name}: must be at least {least} and at most {most}, got {number}")


def floating_type(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the type of the run, or raise."""
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = np.dtype(object)
    if kind not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype: must be float32 or float64, got {dtype!r}")
    return kind


def choose_backend(target: Target, backend: str | None) -> str:
    """Return the name of the backend, or raise if there is none or it cannot run the target."""
    compiled = hasattr(target, "kernel_data")
    if backend is None:
        return "numba" if compiled else "array"
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    if backend == "numba" and not compiled:
        raise ValueError(f"backend: 'numba' runs mixtures; {target.name!r} needs 'array'")
    return backend


def initial_state(
    target: Target, scheme: Integrator, chains: int, seed: int, first_chain: int, x0: ArrayLike | None
) -> Array:
    """Return (x, p) of every chain, shape (chains, k, d), in float64.

    Normals 4 ... 4 + d - 1 of the stream of initial states belong to the target's own draws; the next d are the memory.
    """
    x = np.asarray(target.sample(chains, seed, first_chain) if x0 is None else x0, dtype=float)
    if x.shape != (chains, *target.shape):
        raise ValueError(f"x0: must have shape {(chains, *target.shape)}, got {x.shape}")
    if not np.all(np.isfinite(x)):
        raise ValueError("x0: must be finite")
    x = x.reshape(chains, -1)
    if scheme.rows == 1:
        return x[:, None]
    d = x.shape[1]
    numbers = np.arange(first_chain, first_chain + chains, dtype=np.uint64)
    p = normals(4 + d, d, numbers, INITIAL, seed, np.dtype(float)).T
    return np.stack([x, scheme.memory * p], axis=1)


def take_steps(
    executor: Executor, state: State, burn_in: int, steps: int, thin: int | None, bar: tqdm[Any]
) -> Iterator[None]:
    """Run burn-in and recorded steps in launches short enough to show progress; pause at each state of the trace."""
    end = burn_in + steps
    record_from = burn_in + 1 if state.sums.size else end + 1
    executor.enter(state)
    step, launch = 1, 1
    while step <= end:
        recorded = max(step - burn_in, 1)
        stop = end if thin is None else burn_in + thin * -(-recorded // thin)
        last = min(step + launch - 1, stop, end)
        begun = time.perf_counter()
        executor.advance(state, step, last, record_from)
        elapsed = time.perf_counter() - begun
        taken = last - step + 1
        bar.update(taken)
        launch = max(1, min(4 * taken, int(taken * PATIENCE / elapsed)))
        if last == stop and thin is not None:
            yield
        step = last + 1


def report_divergence(scheme: str, h: Array, diverged: Array, chains: int) -> None:
    """Warn of step sizes at which chains left a thousand standard deviations of the target."""
    for size, count in zip(h, diverged, strict=True):
        if count:
            warnings.warn(
                f"{scheme} at h = {size:g}: {count} of {chains} chains diverged; the statistics of this h are NaN. "
                "Take a smaller step",
                stacklevel=3,
            )

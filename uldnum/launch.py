"""What sample() and anneal() share: checks, where chains start and where they diverge, launches that can be stopped."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike
from tqdm.auto import tqdm

from uldnum.arguments import whole_number
from uldnum.interrupt import interruptible
from uldnum.kernels import Executor, State
from uldnum.kernels.array import initial_normals
from uldnum.kernels.core import Watch
from uldnum.kernels.space import host
from uldnum.run import Run, Settings
from uldnum.typing import Array

__all__ = [
    "REACH",
    "Target",
    "bounds",
    "floating_type",
    "initial_state",
    "next_launch",
    "numbers_of_chains",
    "resumed",
    "start_name",
    "take_steps",
    "warn_of_a_stop",
    "watch_of",
    "watched",
]

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


def numbers_of_chains(
    chains: int, first_chain: int, seed: int, threads: int | None
) -> tuple[int, int, int, int | None]:
    """Return these arguments, or raise if one is out of range: a chain's number is one word of the random counter."""
    chains = whole_number("chains", chains, 1, 2**32)
    first_chain = whole_number("first_chain", first_chain, 0, 2**32 - chains)
    seed = whole_number("seed", seed, 0, 2**64 - 1)
    return chains, first_chain, seed, None if threads is None else whole_number("threads", threads, 1, 2**16)


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
    """Return (x, p) of every chain, shape (H, chains, k, d); ``deviations`` are those of rows 1 ... k - 1.

    The first d initial normals of a chain belong to the target's own draws; the memory takes the next (k - 1) d.
    """
    chains, seed, first = settings.chains, settings.seed, settings.first_chain
    x = positions_of(target, x0, chains, seed, first).reshape(chains, -1)
    d, rows = x.shape[1], len(deviations)
    xp = np.empty((len(settings.h), chains, 1 + rows, d), settings.dtype)
    xp[:, :, 0] = x
    memory = initial_normals(chains, seed, first, d, rows * d).reshape(chains, rows, d)
    np.multiply(deviations[:, None], memory, out=xp[:, :, 1:])
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
        named = "'target' (of plans also 'normal' or 'uniform')"
        raise ValueError(f"x0: must be {named}, an array of numbers, or a function, got {x0!r}") from None
    if x.shape != (chains, *target.shape):
        raise ValueError(f"x0: must have shape {(chains, *target.shape)}, got {x.shape}")
    centre, reach = np.asarray(target.mean, float), ESCAPE * np.asarray(target.standard_deviation, float)
    if not np.isfinite(x).all() or ((x < centre - reach) | (x > centre + reach)).any():
        raise ValueError(f"x0: must be finite and within {ESCAPE:g} standard deviations of the target's mean")
    return x


def start_name(x0: Any) -> str:
    """Return how settings name where chains start; None leaves it to the run that is resumed."""
    return "" if x0 is None else x0 if isinstance(x0, str) else "given"


def resumed(source: Run | str | Path, settings: Settings, steps: int) -> Run:
    """Return a copy of an earlier run, to go on from, or raise if it is not one of these settings.

    Settings that do not say where chains start take it from the run.
    """
    earlier = source if isinstance(source, Run) else Run.load(source, "resume")
    settings = settings if settings.x0 else replace(settings, x0=earlier.settings.x0)
    differences = earlier.settings.differences(settings)
    if differences:
        raise ValueError(f"resume: the run was made with other settings: {'; '.join(differences)}")
    if earlier.recorded_steps > steps:
        raise ValueError(f"resume: the run has {earlier.recorded_steps} recorded steps already, more than {steps}")
    # Executors change the state in place, and the earlier run is to stay as it is.
    return replace(
        earlier, settings=settings, steps=steps, state=deepcopy(earlier.state), states=list(earlier.states)
    )  # fmt: skip


@contextmanager
def watched(
    progress: bool | str, name: str, total: int, done: int, unit: str = "step", scale: int | bool = False
) -> Iterator[tuple[tqdm[Any], Callable[[], bool]]]:
    """Return a progress bar, and whether someone wants to stop; the bar has the name unless ``progress`` is another."""
    label = progress if isinstance(progress, str) else name
    hidden = None if progress else True
    with (
        interruptible() as stopped,
        tqdm(desc=label, total=total, initial=done, unit=unit, unit_scale=scale, delay=1.0, disable=hidden) as bar,
    ):
        yield bar, stopped


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


def warn_of_a_stop(run: Run, steps: str) -> None:
    """Warn if a run was stopped, on behalf of what reports to the user."""
    if not run.complete:
        warnings.warn(f"stopped after {run.recorded_steps} of {run.steps} {steps}; it can be resumed", stacklevel=4)

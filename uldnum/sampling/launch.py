"""Functions that `sample` and `anneal` share: argument checks, divergence bounds and the interruptible main loop."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from tqdm.auto import tqdm

from uldnum._util.arguments import shown, whole_number
from uldnum._util.interrupt import interruptible
from uldnum._util.memory import available_memory
from uldnum._util.typing import Array
from uldnum.kernels.program import Executor, Program
from uldnum.kernels.source.core import COVARIANCE, RECORDS, Recording, Tables
from uldnum.kernels.source.mixture import MixtureData
from uldnum.kernels.state import State
from uldnum.sampling.backends import BACKENDS, Options
from uldnum.sampling.run import Run
from uldnum.sampling.settings import Settings
from uldnum.targets import Target
from uldnum.targets.mass import Mass

__all__ = [
    "ESCAPE", "REACH", "attach_run_to_errors", "bounds", "centre_and_scale", "check_numbers", "escape_distance",
    "execute", "floating_type", "in_coordinates", "quiet", "recorded_moments", "recording_of", "require_memory",
    "resumed", "warn_of_a_stop",
]  # fmt: skip

# Intended duration of a launch in seconds. After each launch the progress bar is updated and Ctrl-C is checked.
PATIENCE = 0.2

# Smallest intended ratio of the time of all steps of a launch to the fixed time of the launch (see `Pace`).
STEPS_OVER_FIXED = 9

# Histograms extend this many standard deviations of the target to either side of its mean.
REACH = 8

# A chain has diverged when it is more than this many standard deviations away from the mean of the target
# (`escape_distance`).
ESCAPE = 1e3

# Upper limit of the distance between the mean and the divergence bounds, for each dtype. Its square is finite.
HORIZON = {np.dtype(np.float64): 1e100, np.dtype(np.float32): 1e18}

# Largest dimension in which the covariance is recorded by default.
COVARIANCE_UP_TO = 32

# Histograms count at most one of this many recorded steps, because adjacent steps are correlated and a count costs more
# than a step.
BIN_EVERY = 4


def check_numbers(chains: int | None, first_chain: int | None, seed: int | None, threads: int | None) -> None:
    """Raise if one of these arguments is out of range.

    The index of a chain must fit in 32 bits, because it is one word of the counter of the random numbers.
    """
    n = 1 if chains is None else whole_number("chains", chains, 1, 2**32)
    for name, value, least, most in (
        ("first_chain", first_chain, 0, 2**32 - n), ("seed", seed, 0, 2**64 - 1), ("threads", threads, 1, 2**16),
    ):  # fmt: skip
        if value is not None:
            whole_number(name, value, least, most)


def floating_type(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the floating-point type of the run, or raise if it is neither float32 nor float64."""
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = np.dtype(object)
    if kind not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype: must be float32 or float64, got {shown(dtype)}")
    return kind


def escape_distance(scale: Array, temperature: float = 1.0) -> Array:
    """Return the distances from the mean beyond which chains have diverged.

    They are `ESCAPE` standard deviations of the target or of ``density^(1/temperature)``, whichever is wider. The
    latter are estimated by sqrt(temperature) times those of the target, which is exact on Gaussians. ``temperature`` is
    the ratio of the temperature of the chains to the one at which ``scale`` holds. A low temperature does not narrow
    the bounds, because chains may start from the target itself.
    """
    return np.asarray(ESCAPE * math.sqrt(max(temperature, 1.0)) * scale)


def bounds(centre: Array, scale: Array, kind: np.dtype[Any], temperature: float = 1.0) -> tuple[Array, Array]:
    """Return the lower and upper divergence bounds of chains, in the given dtype."""
    reach = np.minimum(escape_distance(scale, temperature), HORIZON[kind])
    return (centre - reach).astype(kind), (centre + reach).astype(kind)


def centre_and_scale(target: Target) -> tuple[Array, Array]:
    """Return the centre and scale of the divergence bounds of a target, float64, shape (d,) each."""
    centre, scale = (np.ravel(part).astype(float) for part in (target.mean, target.standard_deviation))
    return centre, scale


@contextmanager
def in_coordinates(state: State, mass: Mass | None, momenta: bool) -> Iterator[None]:
    """Convert ``state.phase_space`` for a run with a mass, before and after the run.

    Outside of this context, the rows hold x and, if ``momenta`` is true, the momenta of x. Executors run in the
    coordinates y: before the first step they read y and its momenta, and at the end they write x = F y and the momenta
    of y. Rows that are neither positions nor momenta belong to y and are not converted.
    """
    begun, before = state.step, state.phase_space.copy() if mass and not state.step else None
    if mass and before is not None:
        state.phase_space[:, :, 0] = mass.inward(before[:, :, 0])
        if momenta:
            state.phase_space[:, :, 1] = mass.forces(before[:, :, 1])
    yield
    if before is not None and not state.step:
        state.phase_space[...] = before
    elif mass and momenta and state.step > begun:
        with np.errstate(all="ignore"):  # those of diverged chains may overflow
            state.phase_space[:, :, 1] = mass.momenta(state.phase_space[:, :, 1])


def recorded_moments(
    record: str | None, every: int | None, steps: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[str | None, int]:
    """Return ``record`` and ``record_every`` with defaults for samples of a shape, or raise if they are invalid.

    The defaults do not depend on the backend, so that a run has the same statistics on all of them.
    """
    if record not in list(RECORDS):
        raise ValueError(f"record: must be one of {', '.join(filter(None, RECORDS))}, got {shown(record)}")
    if every is not None:
        every = whole_number("record_every", every, 1, steps)
    if len(shape) > 1:
        given = "record" if record else "record_every" if every else ""
        if given:
            raise ValueError(f"{given}: needs samples of shape (d,), got {shape}; runs on images have no moments")
        return None, 1
    record = record or ("covariance" if shape[0] <= COVARIANCE_UP_TO else "variance")
    return record, every or default_every(record, shape[0], dtype)


def default_every(record: str, d: int, dtype: np.dtype[Any]) -> int:
    """Return the default of ``record_every``, which was chosen by measurement.

    ``python -m analysis costs`` measures the time of recording with these defaults. The cost of a step grows as d, and
    in float32 it is half that in float64. The cost of recording a covariance grows as d^2, and it is the same in
    float32 and float64.
    """
    if d <= 4:
        return 1 if dtype == np.float64 else 2
    return d // 2 if RECORDS[record][0] == COVARIANCE else 2


def recording_of(
    target: Target, record: str | None, every: int, bins: int, burn_in: int, thin: int | None, temperature: float = 1.0
) -> tuple[Recording, Array, Array]:
    """Return the recording of a run, and the lower and upper end of the histogram of each axis."""
    centre, scale = centre_and_scale(target)
    reach = REACH * math.sqrt(temperature / target.temperature_of_expectations) * scale
    low, high = centre - reach, centre + reach
    bin_every = -(-BIN_EVERY // every) * every
    axes = centre, low, bins / (high - low), np.empty((len(centre), 0))
    return Recording(*RECORDS[record], burn_in + 1, every, bin_every, thin or 0, *axes), low, high


def resumed(
    earlier: Run,
    settings: Settings,
    steps: int,
    tables: Tables,
    mixture: MixtureData | None,
    axes: tuple[Array, Array, Array],
) -> Run:
    """Return a copy of an earlier run to resume, or raise if its settings differ.

    The copy keeps the stored coefficients and axes (centre, lower and upper end), because those of a
    user-defined integrator or target may differ by rounding on another platform.
    """
    pairs = (earlier.tables, tables), (earlier.mixture, mixture), ((earlier.centre, earlier.low, earlier.high), axes)
    fits = all(alike(*pair) for pair in pairs) and earlier.state.u.shape[2] == tables.b.shape[2]
    wanted = replace(settings, coefficients=earlier.settings.coefficients) if fits else settings
    differences = earlier.settings.differences(wanted)
    if not (fits or differences):
        differences = ["the stored coefficients do not match its settings"]
    if differences:
        raise ValueError(f"resume: the run was made with other settings: {'; '.join(differences)}")
    if earlier.recorded_steps > steps:
        raise ValueError(f"resume: the run already has {earlier.recorded_steps} recorded steps, more than {steps}")
    # Executors change the state in place, but the earlier run must not change.
    return replace(earlier, steps=steps, state=deepcopy(earlier.state), kept=list(earlier.kept))


def alike(one: Any, other: Any) -> bool:
    """Return whether coefficients are equal; floating-point numbers may differ by 1e-9 of the largest one."""
    if one is None or other is None:
        return one is other
    for a, b in zip(map(np.asarray, one), map(np.asarray, other), strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        reach = 1e-9 * np.abs(b).max(initial=0) if a.dtype.kind == "f" else 0
        with np.errstate(invalid="ignore"):  # differences of infinities; `a == b` compares them
            if not np.all((a == b) | (np.abs(a.astype(float) - b) <= reach)):
                return False
    return True


def execute(
    program: Program, run: Run, threads: int | None, devices: tuple[int, ...] | None, progress: bool | str,
    unit: str = "step", scale: int | bool = False, keep: bool = False,
) -> Run:  # fmt: skip
    """Take the remaining steps of a program, or fewer if Ctrl-C interrupts it, and return the run.

    Parameters
    ----------
    program : Program
        Program to run.
    run : Run
        Run to advance. Its state and its list of stored positions change in place.
    threads, devices, progress
        Arguments of `uldnum.sample`.
    unit, scale
        Arguments ``unit`` and ``unit_scale`` of tqdm.
    keep : bool
        Whether to store the positions after every phase.
    """
    make_executor, _ = BACKENDS[run.settings.backend]
    options = Options(threads, devices, run.settings.chains, bool(progress))
    executor, state, total = make_executor(program, options), run.state, int(program.ends[-1])
    run = replace(run, info=executor.info)
    label = progress if isinstance(progress, str) else run.settings.integrator
    hidden = None if progress else True
    with (
        interruptible() as stopped,
        tqdm(
            desc=label, total=total, initial=state.step, unit=unit, unit_scale=scale, delay=1.0, disable=hidden
        ) as bar,
    ):
        for end in program.ends[program.ends > state.step].tolist() if keep else [total]:
            for kept in take_steps(executor, state, end, bar, stopped):
                run.kept.extend(kept)
            if keep and state.step == end:
                run.kept.append(executor.positions(state))
    executor.sync(state)
    return run


def take_steps(
    executor: Executor, state: State, end: int, bar: tqdm[Any], stopped: Callable[[], bool]
) -> Iterator[Array]:
    """Advance to step ``end`` in launches of a length that `Pace` chooses; yield the positions that each one stored."""
    pace = Pace(executor.first_launch(state))
    while state.step < end and not stopped():
        last = min(state.step + pace.launch, end)
        taken = last - state.step
        begun = time.perf_counter()
        yield executor.advance(state, last)
        elapsed = max(time.perf_counter() - begun, 1e-9)
        if not bar.disable and bar.n == bar.initial:
            bar.unpause()  # the first launch may include compilation, so its time does not predict the rest
        bar.update(taken)
        pace = pace.after(taken, elapsed)


@dataclass(frozen=True)
class Pace:
    """Number of steps of the next launch, chosen from the durations of earlier launches.

    The duration of a launch of n steps is modelled as ``t = fixed + n per_step``. The fixed time does not depend on n;
    for example, it is needed to copy the state. The fixed time is known when launches of sufficiently different lengths
    have been timed: a least-squares fit then minimises the relative errors of t.

    Attributes
    ----------
    launch : int
        Number of steps of the next launch.
    sums : tuple of five floats, or None
        Sums over launches of 1/t, n/t, 1/t^2, n/t^2 and n^2/t^2; None before the first launch. The first launch is
        not included in the sums, because it may include compilation.
    """

    launch: int
    sums: tuple[float, ...] | None = None

    @property
    def fixed(self) -> float | None:
        """Fixed time of a launch in seconds; None if the launches so far do not determine it."""
        if self.sums is None:
            return None
        a, b, aa, ab, bb = self.sums
        determinant = aa * bb - ab * ab
        return max(0.0, (a * bb - b * ab) / determinant) if determinant > 1e-2 * aa * bb else None

    def after(self, taken: int, elapsed: float) -> Pace:
        """Return the pace after a launch of ``taken`` steps in ``elapsed`` seconds."""
        if self.sums is None:
            return Pace(next_launch(taken, elapsed, 0.0), (0.0,) * 5)
        a, b = 1 / elapsed, taken / elapsed
        found = Pace(0, tuple(x + y for x, y in zip(self.sums, (a, b, a * a, a * b, b * b), strict=True)))
        return replace(found, launch=next_launch(taken, elapsed, found.fixed))


def next_launch(taken: int, elapsed: float, fixed: float | None) -> int:
    """Return the number of steps of the next launch, given the steps and seconds of the last one.

    The intended time of all steps of the launch is `PATIENCE` minus the fixed time, or `STEPS_OVER_FIXED` times the
    fixed time if that is longer. A launch has at most four times as many steps as the last one. If the fixed time is
    unknown, it has at least twice as many, because launches of different lengths determine the fixed time.
    """
    known = fixed or 0.0
    wanted, steps = max(PATIENCE - known, STEPS_OVER_FIXED * known), max(elapsed - known, 0.0)
    launch = 4 * taken if wanted >= 4 * steps else int(taken * wanted / steps)
    return max(1, launch, 2 * taken if fixed is None else 0)


@contextmanager
def attach_run_to_errors(run: Run) -> Iterator[None]:
    """Attach a run to any exception raised after its last step, including a warning that is turned into an error."""
    try:
        yield
    except BaseException as error:
        error.run = run  # type: ignore[attr-defined]
        error.add_note("uldnum: no step was lost; this exception holds the run in its attribute `run`")
        raise


def require_memory(**needs: int) -> None:
    """Raise if a run needs more memory than is available; ``needs`` maps each argument to the bytes it requires."""
    total, available = sum(needs.values()), available_memory()
    if total > available:
        argument = max(needs, key=needs.__getitem__)
        raise ValueError(
            f"{argument}: the run needs {total / 2**30:.3g} GiB of memory, of which {argument} takes "
            f"{needs[argument] / 2**30:.3g} GiB, but only {available / 2**30:.3g} GiB are available; reduce {argument}"
        )


def warn_of_a_stop(run: Run, steps: str) -> None:
    """Warn if a run was stopped; the warning points at the caller of the public function."""
    if not run.complete:
        warnings.warn(
            f"stopped after {run.recorded_steps} of {run.steps} {steps}; resume it with resume=run", stacklevel=4
        )


@contextmanager
def quiet() -> Iterator[Callable[[], bool]]:
    """Run chains without warnings of divergence and stops; after Ctrl-C raise KeyboardInterrupt at the end.

    It yields a function that returns whether Ctrl-C was pressed. The exception is raised even if the run was complete
    by then, because the run may be only a part of the work, the rest of which is not done.
    """
    with warnings.catch_warnings(), interruptible() as stopped:
        warnings.filterwarnings("ignore", ".* diverged")
        warnings.filterwarnings("ignore", "stopped after")
        yield stopped
    if stopped():
        raise KeyboardInterrupt

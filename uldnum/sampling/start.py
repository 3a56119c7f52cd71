"""Initial states of chains, and the key of their random numbers.

A chain has one sequence of normals for each key. If a chain continued from its own end point with the same key, it
would draw the same normals that led it there, and its samples would be biased. The key therefore depends on the start:

* If chains start from a named distribution, the key is the seed.
* If chains start from given positions without a seed, the key is a hash of the positions.
* If chains continue from another run, the key is derived from the seed and the generation. The default seed is that of
  the other run. The generation is the number of earlier runs that led to the new one.

If both positions and a seed are given, the key is the seed, so that runs from different positions can have common
random numbers. End points of an earlier run of this process with the same seed are then refused.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from uldnum._util.arguments import answer_of, converted, shown
from uldnum._util.arraylib import host
from uldnum._util.typing import Array
from uldnum.kernels.initial import initial_normals, initial_uniforms
from uldnum.sampling.launch import ESCAPE, centre_and_scale, escape_distance
from uldnum.sampling.run import Run
from uldnum.sampling.settings import key_of
from uldnum.targets import Target
from uldnum.targets.mass import Mass

__all__ = [
    "Start", "check_coordinates", "earlier_run", "find_start", "initial_state", "number_of_chains", "register_ends",
    "resumed_start",
]  # fmt: skip

# Largest number of position hashes that are stored for `refuse_ends`. Those of the latest run are stored in any case.
KEPT = 2**20

# Initial positions are refused if at least this fraction of them are end points of earlier runs.
SUSPICIOUS = 0.5


@dataclass(frozen=True, eq=False)
class Start:
    """Initial positions of the chains of a run, and what determines their random numbers.

    Attributes
    ----------
    name : str
        The name of a distribution, "given" for an array, or "run" for the end of another run.
    chains, first_chain : int
        Number of chains per group, and index of the first one. The chains with one step size are a group.
    seed, generation : int
        Arguments of `uldnum.sampling.settings.key_of`.
    x : array, shape (groups or 1, chains, d)
        Initial positions.
    p : array of the same shape, or None
        Initial momenta; None if they are drawn.
    """

    name: str
    chains: int
    first_chain: int
    seed: int
    generation: int
    x: Array
    p: Array | None = None


def find_start(
    target: Target, x0: Any, chains: int | None, first_chain: int | None, seed: int | None, groups: int = 1,
    temperature: float = 1.0,
) -> Start:  # fmt: skip
    """Return the start of chains, or raise if ``x0`` does not fit the other arguments.

    Parameters
    ----------
    target : Target
        Target of the run.
    x0 : str, array, callable or Run
        Initial positions, as in `uldnum.sample`.
    chains, first_chain : int or None
        Number of chains per group and index of the first one. None selects those of the run ``x0``. If ``x0`` is not a
        run, ``chains`` is required, and None selects 0 for ``first_chain``.
    seed : int or None
        Seed. None selects 0 if ``x0`` is a name, the seed of the run if ``x0`` is a run, and otherwise a hash of the
        positions.
    groups : int, default 1
        Number of step sizes.
    temperature : float, default 1.0
        Temperature of the integrator. Momenta of the run ``x0`` are scaled from its temperature to this one.

    Raises
    ------
    ValueError
        If an argument is out of range. The message names it.
    """
    if isinstance(x0, Run):
        return continued(target, x0, chains, first_chain, seed, groups, temperature)
    chains, first = number_of_chains(chains), first_chain or 0
    if isinstance(x0, str):
        key = seed or 0
        x = drawn(target, x0, chains, key, first)
        return Start(x0, chains, first, key, 0, checked(target, x, chains, temperature))
    if callable(x0):
        x0 = answer_of("x0", x0, chains, seed or 0, first)
    x = checked(target, x0, chains, temperature)
    if seed is None:
        seed = int.from_bytes(hashlib.sha256(x.tobytes()).digest()[:8], "little")
    else:
        refuse_ends(seed, range(first, first + chains), x)
    return Start("given", chains, first, seed, 0, x)


def earlier_run(resume: Run | str | Path, x0: Any) -> Run:
    """Return the run to be resumed, or raise if initial positions are also given."""
    if not (x0 is None or isinstance(x0, str)):
        raise ValueError("x0: must be omitted with resume, because a resumed run continues from its own states")
    if not isinstance(resume, Run | str | Path):
        raise ValueError(f"resume: must be a Run or the path of a saved one, got {shown(resume)}")
    return resume if isinstance(resume, Run) else Run.load(resume, "resume")


def number_of_chains(chains: int | None, *sources: Any) -> int:
    """Return the given number of chains or that of a run among the sources; raise if there is neither."""
    runs = [source.settings.chains for source in sources if isinstance(source, Run)]
    if chains is None and not runs:
        raise ValueError("chains: must be given unless x0 or resume is a run")
    return runs[0] if chains is None else chains


def resumed_start(run: Run, chains: int | None, first_chain: int | None, seed: int | None, x0: Any) -> Start:
    """Return the start of a resumed run; arguments that are None take the values of the run."""
    s, nothing = run.settings, np.empty((1, 0, 0))
    given = (chains, s.chains), (first_chain, s.first_chain), (seed, s.seed)
    n, first, key = (own if value is None else value for value, own in given)
    return Start(x0 or s.x0, n, first, key, s.generation, nothing)


def drawn(target: Target, law: str, chains: int, key: int, first: int) -> Array:
    """Return initial positions drawn from a named distribution."""
    if law == "target":
        return target.sample(chains, key, first)
    if law not in LAWS:
        names = ", ".join(map(repr, ("target", *LAWS)))
        raise ValueError(f"x0: must be one of {names}, an array, a function or a Run, got {shown(law)}")
    return LAWS[law](chains, key, first, 0, int(np.prod(target.shape))).reshape(chains, *target.shape)


# Named distributions of initial positions.
LAWS: dict[str, Callable[[int, int, int, int, int], Array]] = {"normal": initial_normals, "uniform": initial_uniforms}


def checked(target: Target, x0: Any, chains: int, temperature: float) -> Array:
    """Return positions in float64, shape (1, chains, d), or raise."""
    try:
        x = converted("x0", host(x0))
    except (TypeError, ValueError, BufferError):
        raise ValueError(f"x0: must be a name, an array of numbers, a function or a Run, got {shown(x0)}") from None
    if x.shape != (chains, *target.shape):
        raise ValueError(f"x0: must have shape {(chains, *target.shape)}, got {x.shape}")
    return within_bounds(target, x.reshape(1, chains, -1), temperature)


def within_bounds(target: Target, x: Array, temperature: float) -> Array:
    """Return positions, or raise if some are non-finite or beyond the divergence bounds."""
    centre, scale = centre_and_scale(target)
    distance = escape_distance(scale, temperature / target.temperature_of_expectations)
    if not np.isfinite(x).all() or (np.abs(x - centre) > distance).any():
        raise ValueError(f"x0: must be finite and within {ESCAPE:g} standard deviations of the target's mean")
    return x


def check_coordinates(target: Target, mass: Mass, x: Array, temperature: float) -> None:
    """Raise if positions are beyond the divergence bounds in mass-weighted coordinates, in which the mass is 1."""
    centre, scale = mass.scale(target)
    distance = escape_distance(scale, temperature / target.temperature_of_expectations)
    if (np.abs(mass.inward(x) - centre) > distance).any():
        raise ValueError(
            f"x0: must be within {ESCAPE:g} standard deviations of the target's mean in the coordinates in which the "
            "mass is 1"
        )


def continued(
    target: Target, run: Run, chains: int | None, first_chain: int | None, seed: int | None, groups: int,
    temperature: float,
) -> Start:  # fmt: skip
    """Return the end of a run as a start."""
    s = run.settings
    if s.shape != tuple(target.shape):
        raise ValueError(
            f"x0: the run has samples of shape {s.shape}, but those of the target have shape {tuple(target.shape)}"
        )
    for name, given, own in (("chains", chains, s.chains), ("first_chain", first_chain, s.first_chain)):
        if given not in (None, own):
            raise ValueError(f"{name}: must equal that of the run x0, {own}, got {given}; omit it")
    if len(s.h) not in (1, groups):
        raise ValueError(f"x0: the run has {len(s.h)} step sizes, but h has {groups}; give the same number")
    if np.any(run.diverged):
        raise ValueError("x0: must be a run without diverged chains; use a smaller step size in that run")
    state = run.state.phase_space.astype(float)
    x = within_bounds(target, state[:, :, 0], temperature)
    p = math.sqrt(temperature / s.temperature) * state[:, :, 1] if s.momenta else None
    own_seed = s.seed if seed is None else seed
    return Start("run", s.chains, s.first_chain, own_seed, s.generation + 1, x, p)


def initial_state(
    start: Start, deviations: Array, momenta: bool, groups: int, dtype: Any, mass: Mass | None = None
) -> Array:
    """Return the initial state (x, p) of every chain, shape (groups, chains, k, d), in the dtype of the run.

    The first d initial normals of a chain are reserved for the draw of its position. Rows 1 ... k - 1 are the next
    (k - 1) d normals, multiplied by ``deviations``. If row 1 holds momenta and ``start`` has momenta, row 1 is a copy
    of them. Momenta that are drawn have the covariance that ``mass`` implies, if a mass is given.
    """
    _, n, d = start.x.shape
    rows = len(deviations)
    phase_space = np.empty((groups, n, 1 + rows, d), dtype)
    phase_space[:, :, 0] = start.x
    memory = initial_normals(n, key_of(start.seed, start.generation), start.first_chain, d, rows * d)
    np.multiply(deviations[:, None], memory.reshape(n, rows, d), out=phase_space[:, :, 1:])
    if momenta and start.p is not None:
        phase_space[:, :, 1] = start.p
    elif momenta and mass is not None:
        phase_space[:, :, 1] = mass.momenta(deviations[0] * memory.reshape(n, rows, d)[:, 0])
    return phase_space


# ------------------------------------------------------------------------------------------------------ ends of runs

# For each run of this process: its seed, the indices of its chains, and hashes of its final positions.
ENDS: deque[tuple[int, range, Array]] = deque()
ENDS_LOCK = Lock()  # studies run in threads


def register_ends(run: Run) -> None:
    """Store hashes of the final positions of a run."""
    s = run.settings
    ends = s.seed, range(s.first_chain, s.first_chain + s.chains), hashes(run.state.phase_space[:, :, 0])
    with ENDS_LOCK:
        ENDS.append(ends)
        while len(ENDS) > 1 and sum(len(kept) for *_, kept in ENDS) > KEPT:
            ENDS.popleft()


def refuse_ends(seed: int, chains: range, x: Array) -> None:
    """Raise if positions are end points of an earlier run with the same seed and at least one common chain index.

    Positions are compared in float32, so that end points are recognised after a cast. In one dimension a few of many
    positions coincide by chance, hence the threshold `SUSPICIOUS`.
    """
    given = hashes(x)
    with ENDS_LOCK:
        shared = [kept for own, numbers, kept in ENDS if own == seed and overlap(numbers, chains)]
    count = int(np.isin(given, np.concatenate(shared)).sum()) if shared else 0
    if shared and count >= SUSPICIOUS * len(given):
        raise ValueError(
            f"x0: must not hold end points of an earlier run with the same seed, whose random numbers would be reused, "
            f"got {count} such positions with seed {seed}; pass the run itself, x0=run, or another seed"
        )


def overlap(one: range, other: range) -> bool:
    """Whether two ranges have a common element."""
    return max(one.start, other.start) < min(one.stop, other.stop)


def hashes(x: Array) -> Array:
    """Return a 64-bit hash of each position in float32, shape (..., d) -> (n,)."""
    with np.errstate(over="ignore"):  # positions of diverged chains may overflow float32
        values = np.asarray(x, np.float32).astype(float)
    words = values.reshape(-1, x.shape[-1]).view(np.uint64)
    # Powers of an odd number are odd, so the product loses no bit of a word.
    factors = np.cumprod(np.full(words.shape[1], 0x9E3779B97F4A7C15, np.uint64))
    return np.asarray(((words ^ (words >> np.uint64(29))) * factors).sum(axis=1, dtype=np.uint64))

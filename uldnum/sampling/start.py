"""Where chains start, and the key of their random numbers.

A chain owns one sequence of normals for each key. Chains that went on from their own ends with the same key would draw
again the normals that led them there, and the law of what they sample would be wrong. The key therefore follows from
the start:

* It is the seed where chains start from a law.
* It is a hash of the positions where chains start from given positions and no seed is given.
* It is derived from the seed and the generation where chains go on from another run.

A given seed with given positions stays the key, because common random numbers from several starts are a method.
Positions at which a run of this process with the same seed has ended are then refused.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uldnum._util.arguments import answer_of, converted, shown
from uldnum._util.arraylib import host
from uldnum._util.typing import Array
from uldnum.kernels.initial import initial_normals, initial_uniforms
from uldnum.sampling.launch import ESCAPE
from uldnum.sampling.run import Run
from uldnum.sampling.settings import key_of
from uldnum.targets import Target

__all__ = ["Start", "earlier_run", "find_start", "initial_state", "number_of_chains", "register_ends", "resumed_start"]

# Positions whose hashes are kept for `refuse_ends`, at most; those of the latest run are kept in any case.
KEPT = 2**20

# Share of positions that must be ends of an earlier run to be refused.
SUSPICIOUS = 0.5


@dataclass(frozen=True, eq=False)
class Start:
    """Where the chains of a run start.

    Attributes
    ----------
    name : str
        The name of a law, "given" for positions, "run" for the ends of another run.
    chains, first_chain : int
        Number of chains of a group, and number of the first one.
    seed, generation : int
        What the key follows from (`uldnum.sampling.settings.key_of`).
    x : array, shape (groups or 1, chains, d)
        Initial positions.
    p : array of the same shape, or None
        Initial momenta; None where they are drawn.
    """

    name: str
    chains: int
    first_chain: int
    seed: int
    generation: int
    x: Array
    p: Array | None = None


def find_start(
    target: Target, x0: Any, chains: int | None, first_chain: int | None, seed: int | None, groups: int = 1
) -> Start:
    """Return where chains start, or raise if ``x0`` does not fit.

    Parameters
    ----------
    target : Target
        What is sampled.
    x0 : str, array, callable or Run
        As for `uldnum.sample`.
    chains, first_chain : int or None
        None stands for those of the run that ``x0`` is.
    seed : int or None
        None stands for 0, for the seed of the run that ``x0`` is, or for a hash of given positions.
    groups : int
        Number of step sizes.

    Raises
    ------
    ValueError
        If an argument is out of range; the message names it.
    """
    if isinstance(x0, Run):
        return continued(target, x0, chains, first_chain, seed, groups)
    chains, first = number_of_chains(chains), first_chain or 0
    if isinstance(x0, str):
        key = seed or 0
        x = drawn(target, x0, chains, key, first)
        return Start(x0, chains, first, key, 0, checked(target, x, chains))
    if callable(x0):
        x0 = answer_of("x0", x0, chains, seed or 0, first)
    x = checked(target, x0, chains)
    if seed is None:
        seed = int.from_bytes(hashlib.sha256(x.tobytes()).digest()[:8], "little")
    else:
        refuse_ends(seed, range(first, first + chains), x)
    return Start("given", chains, first, seed, 0, x)


def earlier_run(resume: Run | str | Path, x0: Any) -> Run:
    """Return the run that is to be resumed, or raise if positions are given too."""
    if not (x0 is None or isinstance(x0, str)):
        raise ValueError("x0: a resumed run goes on from its own states; leave it out")
    if not isinstance(resume, Run | str | Path):
        raise ValueError(f"resume: must be a run or the path of a saved one, got {shown(resume)}")
    return resume if isinstance(resume, Run) else Run.load(resume, "resume")


def number_of_chains(chains: int | None, *sources: Any) -> int:
    """Return the number of chains, or raise if neither it is given nor one of the sources is a run."""
    runs = [source.settings.chains for source in sources if isinstance(source, Run)]
    if chains is None and not runs:
        raise ValueError("chains: must be given, unless x0 or resume is a run")
    return runs[0] if chains is None else chains


def resumed_start(run: Run, chains: int | None, first_chain: int | None, seed: int | None, x0: Any) -> Start:
    """Return the start of a run that is resumed, with the arguments that are given again; None is the run's own."""
    s, nothing = run.settings, np.empty((1, 0, 0))
    given = (chains, s.chains), (first_chain, s.first_chain), (seed, s.seed)
    n, first, key = (own if value is None else value for value, own in given)
    return Start(x0 or s.x0, n, first, key, s.generation, nothing)


def drawn(target: Target, law: str, chains: int, key: int, first: int) -> Array:
    """Return initial positions of a law that has a name."""
    if law == "target":
        return target.sample(chains, key, first)
    if law not in LAWS:
        names = ", ".join(map(repr, ("target", *LAWS)))
        raise ValueError(f"x0: must be one of {names}, an array, a function or a run, got {shown(law)}")
    return LAWS[law](chains, key, first, 0, int(np.prod(target.shape))).reshape(chains, *target.shape)


# Laws of initial positions by name.
LAWS: dict[str, Callable[[int, int, int, int, int], Array]] = {"normal": initial_normals, "uniform": initial_uniforms}


def checked(target: Target, x0: Any, chains: int) -> Array:
    """Return positions in float64, shape (1, chains, d), or raise."""
    try:
        x = converted("x0", host(x0))
    except (TypeError, ValueError, BufferError):
        raise ValueError(f"x0: must be a name, an array of numbers, a function or a run, got {shown(x0)}") from None
    if x.shape != (chains, *target.shape):
        raise ValueError(f"x0: must have shape {(chains, *target.shape)}, got {x.shape}")
    return near(target, x.reshape(1, chains, -1))


def near(target: Target, x: Array) -> Array:
    """Return positions, or raise if chains would have diverged there."""
    centre, scale = (np.ravel(part).astype(float) for part in (target.mean, target.standard_deviation))
    if not np.isfinite(x).all() or (np.abs(x - centre) > ESCAPE * scale).any():
        raise ValueError(f"x0: must be finite and within {ESCAPE:g} standard deviations of the target's mean")
    return x


def continued(
    target: Target, run: Run, chains: int | None, first_chain: int | None, seed: int | None, groups: int
) -> Start:
    """Return the ends of a run as a start."""
    s = run.settings
    if s.shape != tuple(target.shape):
        raise ValueError(f"x0: the run has positions of shape {s.shape}, the target of shape {tuple(target.shape)}")
    for name, given, own in (("chains", chains, s.chains), ("first_chain", first_chain, s.first_chain)):
        if given not in (None, own):
            raise ValueError(f"{name}: the run that x0 is has {own}, got {given}; leave it out")
    if len(s.h) not in (1, groups):
        raise ValueError(f"x0: the run has {len(s.h)} step sizes, h has {groups}; give as many")
    if np.any(run.diverged):
        raise ValueError("x0: chains of the run diverged; take a smaller step there")
    state = run.state.phase_space.astype(float)
    p = state[:, :, 1] if s.momenta else None
    own_seed = s.seed if seed is None else seed
    return Start("run", s.chains, s.first_chain, own_seed, s.generation + 1, near(target, state[:, :, 0]), p)


def initial_state(start: Start, deviations: Array, momenta: bool, groups: int, dtype: Any) -> Array:
    """Return (x, p) of every chain, shape (groups, chains, k, d), in the type of the run.

    The first d initial normals of a chain belong to the target's own draws; rows 1 ... k - 1, of standard deviations
    ``deviations``, take the next (k - 1) d. Row 1 goes on from given momenta if it holds momenta itself.
    """
    _, n, d = start.x.shape
    rows = len(deviations)
    phase_space = np.empty((groups, n, 1 + rows, d), dtype)
    phase_space[:, :, 0] = start.x
    memory = initial_normals(n, key_of(start.seed, start.generation), start.first_chain, d, rows * d)
    np.multiply(deviations[:, None], memory.reshape(n, rows, d), out=phase_space[:, :, 1:])
    if momenta and start.p is not None:
        phase_space[:, :, 1] = start.p
    return phase_space


# ------------------------------------------------------------------------------------------------------ ends of runs

# Seeds of the runs of this process, the numbers of their chains, and hashes of their final positions.
ENDS: deque[tuple[int, range, Array]] = deque()


def register_ends(run: Run) -> None:
    """Remember where the chains of a run ended."""
    s = run.settings
    ENDS.append((s.seed, range(s.first_chain, s.first_chain + s.chains), hashes(run.state.phase_space[:, :, 0])))
    while len(ENDS) > 1 and sum(len(kept) for *_, kept in ENDS) > KEPT:
        ENDS.popleft()


def refuse_ends(seed: int, chains: range, x: Array) -> None:
    """Raise if positions are ends of an earlier run with the same seed, some of whose chains have the same numbers.

    Positions are compared in float32, so that a cast hides nothing. In one dimension some of many positions coincide by
    chance.
    """
    given = hashes(x)
    shared = [kept for own, numbers, kept in ENDS if own == seed and overlap(numbers, chains)]
    count = int(np.isin(given, np.concatenate(shared)).sum()) if shared else 0
    if shared and count >= SUSPICIOUS * len(given):
        raise ValueError(
            f"x0: {count} of the positions are ends of an earlier run with seed {seed}, whose random numbers would be "
            "used again; pass the run itself, x0=run, or another seed"
        )


def overlap(one: range, other: range) -> bool:
    """Whether two ranges have a number in common."""
    return max(one.start, other.start) < min(one.stop, other.stop)


def hashes(x: Array) -> Array:
    """Return a 64-bit hash of each position, shape (..., d) -> (n,)."""
    with np.errstate(over="ignore"):  # of chains that diverged
        values = np.asarray(x, np.float32).astype(float)
    words = values.reshape(-1, x.shape[-1]).view(np.uint64)
    factors = np.cumprod(np.full(words.shape[1], 0x9E3779B97F4A7C15, np.uint64))  # odd, so no bit of a word is lost
    return np.asarray(((words ^ (words >> np.uint64(29))) * factors).sum(axis=1, dtype=np.uint64))

"""What determines a run, and the key of its random numbers."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields

import numpy as np

from uldnum._util.arguments import whole_number

__all__ = ["Settings", "key_of"]


def key_of(seed: int, generation: int) -> int:
    """Return the 64-bit key of the random numbers of a run.

    It is the seed itself, or for a later generation a word that `numpy.random.SeedSequence` derives from both.
    """
    if not generation:
        return seed
    return int(np.random.SeedSequence(seed, spawn_key=(generation,)).generate_state(1, np.uint64)[0])


@dataclass(frozen=True)
class Settings:
    """What determines a run, apart from how long it lasts.

    Attributes
    ----------
    version : str
        Version of uldnum.
    target, fingerprint : str
        Name of the target, and a hash of it.
    shape : tuple of int
        Shape of one sample.
    integrator : str
        Name of the integrator.
    coefficients : str
        Hash of its coefficients.
    backend, dtype : str
        Where the run was made.
    h : tuple of float
        Step sizes, in the unit of the target; 0 for a plan.
    grouped : bool
        Whether results carry a leading axis over them.
    friction : float
        Friction, in the reciprocal unit; 0 for a plan.
    burn_in, chains, first_chain : int
        As given to `uldnum.sample`.
    seed, generation : int
        What the key of the random numbers follows from: a seed, and how often the chains have gone on from an earlier
        run.
    thin : int or None
        Recorded steps between states of the trace.
    bins : int
        Bins of the histograms, 0 for none.
    x0 : str
        Where chains began: the name of a law, "given" for positions, "run" for the ends of another run.
    momenta : bool
        Whether the second row of a chain holds momenta.
    """

    version: str
    target: str
    fingerprint: str
    shape: tuple[int, ...]
    integrator: str
    coefficients: str
    backend: str
    dtype: str
    h: tuple[float, ...]
    grouped: bool
    friction: float
    burn_in: int
    chains: int
    first_chain: int
    seed: int
    generation: int
    thin: int | None
    bins: int
    x0: str
    momenta: bool

    @property
    def key(self) -> int:
        """64-bit key of all random numbers of the run."""
        return key_of(self.seed, self.generation)

    def differences(self, other: Settings) -> list[str]:
        """Say in words what differs in another run's settings."""
        pairs = [(field.name, getattr(self, field.name), getattr(other, field.name)) for field in fields(self)]
        hashes = {
            "coefficients": "the coefficients are others: those of another method, step size, level or option",
            "fingerprint": "the target is another, or runs with other options",
        }
        return [
            hashes.get(name, f"{name} is {theirs!r}, was {ours!r}") for name, ours, theirs in pairs if ours != theirs
        ]

    def to_json(self) -> str:
        """Return the settings as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Return settings that `to_json` wrote, or raise ValueError if a value has another type or is out of range."""
        given = json.loads(text)
        if not isinstance(given, dict) or set(given) != {field.name for field in fields(cls)}:
            raise ValueError("settings: must have the names of this version's settings")
        for name in ("version", "target", "fingerprint", "integrator", "coefficients", "backend", "dtype", "x0"):
            check(name, isinstance(given[name], str))
        for name in ("grouped", "momenta"):
            check(name, isinstance(given[name], bool))
        for name in ("h", "shape"):
            check(name, isinstance(given[name], list) and 0 < len(given[name]) < 2**20)
        for name, numbers in (("h", given["h"]), ("friction", [given["friction"]])):
            check(name, all(type(x) is float and 0 <= x < math.inf for x in numbers))
        check("dtype", given["dtype"] in ("float32", "float64"))
        whole = {name: given[name] for name in ("burn_in", "chains", "first_chain", "seed", "generation", "bins")}
        whole |= {f"shape {i}": size for i, size in enumerate(given["shape"])}
        whole["thin"] = 0 if given["thin"] is None else given["thin"]
        for name, value in whole.items():
            check(name, type(value) is int)
            whole_number(f"settings: {name}", value, name == "chains" or name.startswith("shape"), 2**64 - 1)
        return cls(**given | {name: tuple(given[name]) for name in ("h", "shape")})


def check(name: str, fits: bool) -> None:
    """Raise if a stored setting does not fit."""
    if not fits:
        raise ValueError(f"settings: {name} has the wrong type or is out of range")

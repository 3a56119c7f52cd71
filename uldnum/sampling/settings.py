"""Settings that determine a run, and the key of its random numbers."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from uldnum._util.arguments import whole_number
from uldnum.kernels.source.core import RECORDS
from uldnum.schemes.catalogue import conditions
from uldnum.targets.mass import Mass

__all__ = ["Settings", "key_of"]


def key_of(seed: int, generation: int) -> int:
    """Return the 64-bit key of the random numbers of a run.

    The key of generation 0 is the seed. The key of a later generation is derived from the seed and the generation by
    `numpy.random.SeedSequence`.
    """
    if not generation:
        return seed
    return int(np.random.SeedSequence(seed, spawn_key=(generation,)).generate_state(1, np.uint64)[0])


@dataclass(frozen=True)
class Settings:
    """Settings that determine a run, apart from its number of steps.

    Attributes
    ----------
    version : str
        Version of uldnum.
    target : str
        Name of the target.
    fingerprint : str
        Hash of the target.
    shape : tuple of int
        Shape of one sample.
    integrator : str
        Name of the integrator or plan.
    coefficients : str
        Hash of the coefficients of the integrator or plan.
    backend : str
        Name of the backend.
    dtype : str
        Floating-point type of the state, "float32" or "float64".
    h : tuple of float
        Step sizes in units of time (networks: in units of sigma); (0.0,) for a plan.
    grouped : bool
        Whether the results have a leading axis of step sizes.
    friction : float
        Friction in the reciprocal unit of h; 0 for a plan.
    temperature : float
        Temperature of the integrator.
    score_noise : float or tuple of float
        Standard deviation of the error of the score, in the unit of the score (networks and plans: in units of
        1/sigma), or that of each coordinate; for a plan, the largest one of all phases.
    mass : float, tuple of float, or tuple of tuples of float
        Mass: one for all coordinates, one for each coordinate, or a matrix; 1 for a plan.
    burn_in, chains, first_chain : int
        Arguments of `uldnum.sample`.
    seed : int
        Seed of the random numbers.
    generation : int
        How many times the chains have continued from the end of an earlier run.
    thin : int or None
        Number of recorded steps between two positions of the trace.
    record : {"mean", "variance", "covariance", "phase-space-variance", "phase-space-covariance"} or None
        Accumulated moments; None for images and plans, which have none.
    record_every : int
        Moments are accumulated at every ``record_every``-th recorded step, starting with the first.
    bins : int
        Number of histogram bins; 0 for no histogram.
    x0 : str
        Initial positions: the name of a distribution, "given" for an array, or "run" for the end of another run.
    momenta : bool
        Whether the second row of the memory holds momenta.
    time_unit : float
        Unit of h: sigma of the noise level for a network, else 1.
    metropolised : bool
        Whether the steps have Metropolis tests.
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
    temperature: float
    score_noise: float | tuple[float, ...]
    mass: Any
    burn_in: int
    chains: int
    first_chain: int
    seed: int
    generation: int
    thin: int | None
    record: str | None
    record_every: int
    bins: int
    x0: str
    momenta: bool
    time_unit: float
    metropolised: bool

    @property
    def conditions(self) -> str:
        """Temperature, score noise and mass as text that follows the name; empty if they have their usual values."""
        return conditions(self.temperature, self.score_noise, self.mass)

    @property
    def unit_of_time(self) -> str:
        """Unit of h as text."""
        return "time" if self.time_unit == 1 else "sigma"

    @property
    def units(self) -> str:
        """Units of h and of the friction as text."""
        value = "" if self.time_unit == 1 else f", sigma = {self.time_unit:g}"
        return f"h in units of {self.unit_of_time}, friction in units of 1/{self.unit_of_time}{value}"

    @property
    def key(self) -> int:
        """64-bit key of the random numbers of the run."""
        return key_of(self.seed, self.generation)

    def differences(self, other: Settings) -> list[str]:
        """Return a description of each setting that differs from that of another run."""
        pairs = [(field.name, getattr(self, field.name), getattr(other, field.name)) for field in fields(self)]
        hashes = {
            "coefficients": "the coefficients differ: another method, step size, noise level or option",
            "fingerprint": "the target or its options differ",
        }
        if np.ndim(self.mass) or np.ndim(other.mass):
            hashes["mass"] = "the masses differ"
        if np.ndim(self.score_noise) or np.ndim(other.score_noise):
            hashes["score_noise"] = "the standard deviations of the errors of the score differ"
        return [
            hashes.get(name, f"{name} is {theirs!r}, was {ours!r}") for name, ours, theirs in pairs if ours != theirs
        ]

    def to_json(self) -> str:
        """Return the settings as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Return settings that `to_json` wrote, or raise a ValueError if a value has a wrong type or range."""
        given = json.loads(text)
        if not isinstance(given, dict) or set(given) != {field.name for field in fields(cls)}:
            raise ValueError("settings: must have the fields of this version of uldnum")
        for name in ("version", "target", "fingerprint", "integrator", "coefficients", "backend", "dtype", "x0"):
            check(name, isinstance(given[name], str))
        for name in ("grouped", "momenta", "metropolised"):
            check(name, isinstance(given[name], bool))
        for name in ("h", "shape"):
            check(name, isinstance(given[name], list) and 0 < len(given[name]) < 2**20)
        errors = given["score_noise"] if isinstance(given["score_noise"], list) else []
        check("score_noise", not errors or [len(errors)] == given["shape"])
        for name, numbers in (
            ("h", given["h"]),
            ("friction", [given["friction"]]),
            ("temperature", [given["temperature"]]),
            ("score_noise", errors or [given["score_noise"]]),
            ("time_unit", [given["time_unit"]]),
        ):
            check(name, all(type(x) is float and 0 <= x < math.inf for x in numbers))
        check("grouped", given["grouped"] or len(given["h"]) == 1)
        check("dtype", given["dtype"] in ("float32", "float64"))
        check("record", given["record"] in list(RECORDS) and given["momenta"] >= (RECORDS[given["record"]][1] > 1))
        names = ("burn_in", "chains", "first_chain", "seed", "generation", "record_every", "bins")
        whole = {name: given[name] for name in names}
        whole |= {f"shape {i}": size for i, size in enumerate(given["shape"])}
        whole["thin"] = 0 if given["thin"] is None else given["thin"]
        for name, value in whole.items():
            check(name, type(value) is int)
            least = int(name in ("chains", "record_every") or name.startswith("shape"))
            whole_number(f"settings: {name}", value, least, 2**64 - 1)
        try:
            mass = Mass.of(given["mass"], tuple(given["shape"]))
        except ValueError as error:
            raise ValueError(f"settings: {error}") from None
        tuples = {name: tuple(given[name]) for name in ("h", "shape", *(["score_noise"] if errors else []))}
        return cls(**given | tuples | {"mass": 1.0 if mass is None else mass.setting})


def check(name: str, fits: bool) -> None:
    """Raise a ValueError if the check of a stored setting failed."""
    if not fits:
        raise ValueError(f"settings: {name} has the wrong type or is out of range")

"""Batches of images of a sampler, as tasks of a sweep. Each stores the features of its images."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

from uldnum._util.names import digest
from uldnum._util.sources import digest_of_sources
from uldnum._util.typing import Array
from uldnum.kernels.source.core import NEVER
from uldnum.networks import Features
from uldnum.sampling.launch import quiet
from uldnum.sampling.run import Run
from uldnum.studies.samplers import Sampler
from uldnum.targets import Law, level_of
from uldnum.version import VERSION

__all__ = ["Batch", "Images", "joined", "survivors"]

# Hash of the sources that determine a result, computed when this process started.
CODE = digest_of_sources(__name__)


class Images(NamedTuple):
    """What is known of the images of a sampler after a number of score evaluations.

    Attributes
    ----------
    features : float64 array, shape (n, f)
        Features of the images.
    classes : int array, shape (n,), or None
        Classes of the images; None if the features have no classes.
    chains : int array, shape (n,)
        Indices of the chains of the images.
    shown : float32 array, shape (k, channels, height, width)
        The first images.
    diverged : int
        Number of chains that diverged, which have no image.
    seconds : float
        Time that the sampler took for these images.
    outside : float
        Share of the values that are far outside the range of the data; 0 if the range is unknown.
    """

    features: Array
    classes: Array | None
    chains: Array
    shown: Array
    diverged: int
    seconds: float
    outside: float


@dataclass(frozen=True, eq=False)
class Batch:
    """The images of some chains of a sampler, as a task of `uldnum.studies.sweep`.

    Attributes
    ----------
    law : Law
        Network, or another distribution of images with scores at noise levels.
    name : str
        Name of the sampler.
    sampler : Sampler
        The sampler.
    features : Features
        Features that are stored.
    data_range : (float, float)
        Range of pixels of the reference images, to which the images are clipped.
    first, count : int
        Index of the first chain, and number of chains.
    shown : int
        Number of images that are stored.
    seed, backend
        As in `uldnum.anneal`.
    """

    law: Law
    name: str
    sampler: Sampler
    features: Features
    data_range: tuple[float, float]
    first: int
    count: int
    shown: int
    seed: int
    backend: str | None

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters by name."""
        return {
            "kind": "Batch", "network": self.law.name, "sampler": self.name, "nfe": self.sampler.evaluations,
            "features": self.features.name, "first": self.first, "count": self.count, "seed": self.seed,
        }  # fmt: skip

    @cached_property
    def key(self) -> str:
        """Hash of everything that the result depends on."""
        shape, images = identity(self.law, self.sampler)
        own = self.data_range, self.first, self.count, self.shown, self.seed, self.backend
        whole = [VERSION, CODE, images, self.features.fingerprint(shape), own]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def evaluations(self) -> int:
        """Number of evaluations of images by the network."""
        return self.count * self.sampler.evaluations[-1]

    def result(self) -> dict[str, Any]:
        """Run the chains, and return the features of their images after each number of evaluations."""
        options = {"chains": self.count, "first_chain": self.first, "seed": self.seed, "backend": self.backend}
        parts, seconds, begun = [], 0.0, time.perf_counter()
        with quiet() as stopped:
            for known in (".* far outside the range of the data", ".* so that samples may be wrong"):
                warnings.filterwarnings("ignore", known)  # the study warns once for all batches
            for run, states in self.sampler.runs(self.law, progress=False, **options):
                images = self.law.decode(states)
                seconds += time.perf_counter() - begun
                whole = survivors(run, images)
                kept = images[whole].clip(*self.data_range)
                parts.append(self.described(kept) | {
                    "chains": (self.first + np.flatnonzero(whole)).tolist(), "diverged": int(np.sum(~whole)),
                    "seconds": seconds, "outside": self.sampler.outside(run, self.law),
                })  # fmt: skip
                if stopped():
                    break
                begun = time.perf_counter()
        return {"images": parts}

    def described(self, images: Array) -> dict[str, Any]:
        """Return the features and classes of images, and the first images, in a form that JSON stores."""
        if len(images):
            features, classes = self.features.features_and_classes(images)
        else:
            features, classes = np.empty((0, self.features.size(images.shape[1:]))), np.empty(0, int)
        return {
            "features": encoded(features), "classes": None if classes is None else classes.tolist(),
            "shown": encoded(images[: self.shown]),
        }  # fmt: skip


def survivors(run: Run, images: Array) -> Array:
    """Return whether each chain of a run has not diverged and its image is finite."""
    return (run.state.escape_step[0] == NEVER) & np.isfinite(images).all(axis=(1, 2, 3))


@lru_cache(64)
def identity(law: Law, sampler: Sampler) -> tuple[tuple[int, ...], list[Any]]:
    """Return the shape of images, and data that identify a sampler and a network at its noise levels."""
    levels = [level_of(law, *place) for place in sampler.places]
    at_zero = law.decode(np.zeros((1, *levels[0].shape), np.float32))
    return at_zero.shape[1:], [[level.fingerprint for level in levels], digest(at_zero), sampler.identity(law)]


def encoded(array: Array) -> dict[str, Any]:
    """Return an array as a shape and its values in float32, little-endian and in base64."""
    return {"shape": array.shape, "float32": base64.b64encode(np.asarray(array, "<f4").tobytes()).decode()}


def decoded(stored: dict[str, Any]) -> Array:
    """Return an array from the result of `encoded`."""
    return np.frombuffer(base64.b64decode(stored["float32"]), "<f4").reshape(stored["shape"])


def joined(parts: Sequence[dict[str, Any]]) -> Images:
    """Return the images of several batches, from the parts of their results that belong to one point."""
    features, shown = (np.concatenate([decoded(part[name]) for part in parts]) for name in ("features", "shown"))
    chains = np.concatenate([part["chains"] for part in parts]).astype(int)
    known = [part["classes"] for part in parts]
    classes = None if None in known else np.concatenate(known).astype(int)
    diverged, seconds = (sum(part[name] for part in parts) for name in ("diverged", "seconds"))
    counts = [max(1, len(part["chains"])) for part in parts]
    outside = float(np.average([part["outside"] for part in parts], weights=counts))
    return Images(features.astype(float), classes, chains, shown, diverged, seconds, outside)

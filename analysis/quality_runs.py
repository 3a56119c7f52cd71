"""Samplers of the experiments of `analysis.quality`, and the images that they make.

The two scores are that of the network in the package, and the exact score of `TRAINING` training digits. The latter
memorises by construction: its samples are these digits. A cell is a sampler with one setting on one score. It stores
one file of images for each batch of chains. Images are rounded to bytes, as pictures are.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

import uldnum
from uldnum._util.files import atomic
from uldnum._util.typing import Array
from uldnum.networks import network, reference_images
from uldnum.plans._plan import Plan
from uldnum.plans.levels import Levels
from uldnum.targets import DataMixture

FIRST, LAST = 20.0, 0.02  # noise levels, the range of the network
TRAINING = 1024  # number of training digits of the exact score

SCORES = ("exact", "network")
# Number of chains in a batch: annealed chains end in one image each, and chains at one level show many.
ANNEALED = {"exact": 1024, "network": 256}
LAST_CHAINS = {"exact": 1024, "network": 160}
ALONE = {"exact": 256, "network": 32}

# The single noise level: that of the card of the network, and one at which chains on the exact score change their class
# equally often. At 1.6, they hardly leave the training digit where they started.
SIGMA = {"exact": 2.5, "network": 1.6}
STEPS, THIN = {"exact": 400, "network": 200}, 10  # steps of chains at one level, and steps between images

# The two-by-two: number of steps at each of LEVELS levels, h in units of sigma, and momentum of MILD. h = 0.352 is the
# step of the presets of the papers on CIFAR-10, eps = 6.2e-6 at sigma = 0.01.
LEVELS = 32
PAPER = 0.352
GROUPS = (
    (3, 0.5, 0.38), (1, PAPER, 0.38), (1, 1.0, 0.38), (3, 1.0, 0.38), (1, 0.5, 0.38), (3, PAPER, 0.38), (5, PAPER, 0.1),
)  # fmt: skip
GROUPS_ON_NETWORK = GROUPS[:3]

# Figure 1: costs, and step sizes from which each Langevin sampler chooses one at the cost CHOSEN_AT on the exact score.
COSTS, CHOSEN_AT, TRIALS = {"exact": (16, 48, 144), "network": (16, 48)}, 48, 512
TRIED = (0.35, 0.5, 0.7, 1.0, 1.4)

# Figure 3: step sizes at one noise level, in units of sigma. Adaptive steps have this size where |s| = |xi|/sigma.
AT_ONE_LEVEL = (0.5, 0.9, 1.3, 1.7, 2.0)
ADAPTED = (0.5, 0.9, 1.3)
REFINED, ENDING = 12, 100  # DDIM steps from the single level to LAST, and evaluations of these samplers

ETAS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)


class Langevin(NamedTuple):
    """A sampler of figure 1 with a step size: integrator, steps per level or number of levels, further options."""

    method: str
    steps: int = 1
    levels: int | None = None
    options: Mapping[str, Any] = MappingProxyType({})

    def plan(self, score: str, nfe: int, h: float) -> Plan:
        """Return the plan that costs about ``nfe`` evaluations, including a last denoising step."""
        each = 2 if "predictor" in self.options else 1
        levels = self.levels or max(2, round((nfe - 1) / (self.steps * each)))
        steps = max(1, round((nfe - 1) / (levels * each))) if self.levels else self.steps
        return planned(score, self.method, levels, steps=steps, h=h, **self.options)


LANGEVIN = {
    "ALD, T = 1": Langevin("ula"),
    "ALD, T = 2": Langevin("ula", 2),
    "ALD, T = 3": Langevin("ula", 3),
    "ALD, T = 5": Langevin("ula", 5),
    "ALD, 5 levels": Langevin("ula", levels=5),
    "MILD(0.38), T = 1": Langevin("mild(0.38)"),
    "MILD(0.38), T = 3": Langevin("mild(0.38)", 3),
    "MILD(0.1), T = 5": Langevin("mild(0.1)", 5),
    "MILD(0.22), 5 levels": Langevin("mild(0.22)", levels=5),
    "BAOAB-limit": Langevin("baoab-limit"),
    "BAOAB": Langevin("BAOAB", options={"boundary": "shared"}),
    "OBABO": Langevin("OBABO", options={"boundary": "shared"}),
    "ALD and DDIM": Langevin("ula", options={"predictor": "ddim"}),
}
# Deterministic samplers: predictor and evaluations per level.
PREDICTORS = {"DDIM": ("ddim", 1), "Heun": ("heun", 2), "DPM-Solver++(2M)": ("dpm-solver++", 1)}
# Samplers of figure 1 that do not run on the network.
ONLY_EXACT = ("ALD, T = 2", "MILD(0.38), T = 3")

FIXED = {
    "naive": "noise-denoise(1)", "overdamped (ULA)": "ula", "BAOAB": "BAOAB", "BAOAB-limit": "baoab-limit",
    "OBABO": "OBABO",
}  # fmt: skip


def geometric(count: int) -> Levels:
    """Return noise levels over the range of the network."""
    return uldnum.levels.geometric(FIRST, LAST, count)


def planned(score: str, method: str, levels: int, **options: Any) -> Plan:
    """Return a plan over the range of the network, which ends with a denoising step on the network.

    On the exact score this step would replace any state by the nearest training digit, and hide how far from it the
    state is.
    """
    return uldnum.plan(method, geometric(levels), denoise=score == "network", **options)


class Images(NamedTuple):
    """Images of chains, bytes of shape (draws, chains, height, width), their cost, and the seconds that they took."""

    images: Array
    nfe: float
    seconds: float


@dataclass(frozen=True)
class Cell:
    """A sampler with one setting on one score, which runs in batches of chains.

    Attributes
    ----------
    experiment : str
        "gain", "choice", "cost", "level" or "eta".
    score : str
        "exact" or "network".
    sampler : str
        Label of the sampler.
    setting : float
        Number of evaluations in "cost", step size in "level" and "choice", eta in "eta", 0 in "gain".
    chains : int
        Number of chains in a batch.
    sampled : callable
        ``sampled(law, chains, first_chain, seed)`` returns images, shape (draws, chains, 1, 28, 28), and their cost.
    """

    experiment: str
    score: str
    sampler: str
    setting: float
    chains: int
    sampled: Callable[..., tuple[Array, float]] = field(compare=False)

    @property
    def key(self) -> str:
        """Name of the files of the cell."""
        words = f"{self.experiment} {self.score} {self.sampler} {self.setting:g}"
        return "".join(c if c.isalnum() or c in ".-" else "_" for c in words)

    @property
    def seed(self) -> int:
        """Seed of the cell. Cells have different seeds, so that the errors of their differences add up in squares."""
        return int.from_bytes(hashlib.sha256(self.key.encode()).digest()[:6])

    def path(self, folder: Path, batch: int) -> Path:
        """Return the path of the images of a batch."""
        return folder / f"{self.key}-{batch}.npz"

    def images(self, folder: Path, batch: int = 0) -> Images:
        """Return the images of a batch, from the folder if they are there."""
        path = self.path(folder, batch)
        if not path.is_file():
            started = time.process_time()
            found, nfe = self.sampled(law_of(self.score), self.chains, batch * self.chains, self.seed)
            seconds = time.process_time() - started
            with atomic(path) as file:
                np.savez_compressed(file, images=to_bytes(found), nfe=nfe, seconds=seconds)
            print(f"{path.name}: {found.shape[1] * nfe / seconds:.0f} evaluations per CPU second", flush=True)
        with np.load(path) as parts:
            return Images(parts["images"], float(parts["nfe"]), float(parts["seconds"]))


@cache
def law_of(score: str) -> Any:
    """Return the distribution of a score."""
    if score == "network":
        return network(threads=1)
    return DataMixture(digits().train[:TRAINING], f"{TRAINING} digits")


@cache
def digits() -> Any:
    """Return the images of MNIST."""
    return reference_images("mnist-images")


def to_bytes(images: Array) -> Array:
    """Return images with values from -1 to 1 as bytes, without the axis of channels."""
    return np.rint(np.clip((images[..., 0, :, :] + 1) / 2, 0, 1) * 255).astype(np.uint8)


def from_bytes(images: Array) -> Array:
    """Return bytes as images, float32, (..., height, width) -> (n, 1, height, width)."""
    return (images.reshape(-1, 1, *images.shape[-2:]) * np.float32(2 / 255) - 1).astype(np.float32)


def annealed(plan: Plan) -> Callable[..., tuple[Array, float]]:
    """Return the function that runs a plan."""

    def sampled(law: Any, chains: int, first: int, seed: int) -> tuple[Array, float]:
        run = uldnum.anneal(law, plan, chains=chains, first_chain=first, seed=seed, progress=False)
        return run.x[None], run.nfe

    return sampled


def from_noise(level: Any) -> Callable[[int, int, int], Array]:
    """Return the function that draws initial states: Gaussian, with the mean and the variance of each pixel."""
    return lambda n, seed, first: np.asarray(level.mean + level.standard_deviation * level.noise(n, seed, first))


def alone(score: str, scheme: str, h: float) -> Callable[..., tuple[Array, float]]:
    """Return the function that runs chains at one level from noise, and denoises every THIN-th state."""

    def sampled(law: Any, chains: int, first: int, seed: int) -> tuple[Array, float]:
        level = law.at(SIGMA[score])
        run = uldnum.sample(level, scheme, h=h, steps=STEPS[score], thin=THIN, chains=chains, first_chain=first,
                            seed=seed, x0=from_noise(level), progress=False)  # fmt: skip
        return denoised(level, run.recorded), run.nfe

    return sampled


def adaptive(score: str, scheme: str, h: float) -> Callable[..., tuple[Array, float]]:
    """Return the function that runs chains at one level with step sizes that follow the score.

    A plan stores states between levels only, so the level is repeated with relative differences of 1e-9.
    """
    levels = uldnum.levels.given(SIGMA[score] * (1 - 1e-9 * np.arange(STEPS[score] // THIN)))
    plan = uldnum.plan(scheme, levels, steps=THIN, snr=h / 2, denoise=False)

    def sampled(law: Any, chains: int, first: int, seed: int) -> tuple[Array, float]:
        level = law.at(SIGMA[score])
        run = uldnum.anneal(law, plan, chains=chains, first_chain=first, seed=seed, x0=from_noise(level), keep=True,
                            progress=False)  # fmt: skip
        return denoised(level, run.recorded), run.nfe

    return sampled


def refined(score: str, scheme: str, h: float) -> Callable[..., tuple[Array, float]]:
    """Return the function that runs chains at one level, and DDIM from their last states to images."""
    down = uldnum.plan("ddim", uldnum.levels.geometric(SIGMA[score], LAST, REFINED), denoise=score == "network")

    def sampled(law: Any, chains: int, first: int, seed: int) -> tuple[Array, float]:
        level = law.at(SIGMA[score])
        run = uldnum.sample(level, scheme, h=h, steps=ENDING - REFINED, chains=chains, first_chain=first, seed=seed,
                            x0=from_noise(level), progress=False)  # fmt: skip
        end = uldnum.anneal(law, down, chains=chains, first_chain=first, seed=seed + 1, x0=run.x, progress=False)
        return end.x[None], run.nfe + end.nfe

    return sampled


def denoised(level: Any, trace: Array) -> Array:
    """Return the denoised states of a trace, (draws, chains, ...) -> the same shape."""
    return np.array([level.denoise(states) for states in trace])


def gain(score: str) -> Iterator[Cell]:
    """Yield the cells of the two-by-two of step and temperature, and MILD."""
    for steps, h, beta in GROUPS if score == "exact" else GROUPS_ON_NETWORK:
        longer, cold = h / (1 - beta) ** 0.5, 1 - beta
        plans = {
            "ALD": ("ula", h, 1.0),
            "longer step": ("ula", longer, 1.0),
            "cold": ("ula", h, cold),
            "longer and cold": ("ula", longer, cold),
            "MILD": (f"mild({beta})", h, 1.0),
        }
        for name, (method, size, temperature) in plans.items():
            plan = planned(score, method, LEVELS, steps=steps, h=size, temperature=temperature)
            label = f"{name}, T = {steps}, h = {h:g}, beta = {beta:g}"
            yield Cell("gain", score, label, 0.0, ANNEALED[score], annealed(plan))


def choice() -> Iterator[Cell]:
    """Yield the cells that choose the step sizes of figure 1, on the exact score."""
    for name, sampler in LANGEVIN.items():
        for h in TRIED:
            yield Cell("choice", "exact", name, h, TRIALS, annealed(sampler.plan("exact", CHOSEN_AT, h)))


def cost(score: str, sizes: dict[str, float], nfe: int) -> Iterator[Cell]:
    """Yield the cells of figure 1 at one cost, with the step size of each Langevin sampler."""
    for name, sampler in LANGEVIN.items():
        if score == "exact" or name not in ONLY_EXACT:
            yield Cell("cost", score, name, nfe, ANNEALED[score], annealed(sampler.plan(score, nfe, sizes[name])))
    for name, (method, each) in PREDICTORS.items():
        plan = planned(score, method, max(2, round((nfe - 1) / each) + (each > 1)))
        yield Cell("cost", score, name, nfe, ANNEALED[score], annealed(plan))


def level(score: str) -> Iterator[Cell]:
    """Yield the cells of figure 3: schemes at one level, with fixed and with adaptive steps."""
    for name, scheme in FIXED.items():
        for h in AT_ONE_LEVEL:
            if h < 2 or "noise" in scheme or "limit" in scheme:  # the others are unstable at h = 2 sigma
                yield Cell("level", score, name, h, ALONE[score], alone(score, scheme, h))
    for name in ("overdamped (ULA)", "BAOAB", "BAOAB-limit", "OBABO"):
        for h in ADAPTED if score == "exact" else ADAPTED[1:2]:
            yield Cell("level", score, f"{name}, adaptive", h, ALONE[score], adaptive(score, FIXED[name], h))


def final(score: str) -> Iterator[Cell]:
    """Yield the cells of figure 3 that end in images without noise: DDIM after a level, and all levels."""
    for name, h in {"naive": 2.0, "overdamped (ULA)": 0.9, "BAOAB-limit": 1.3}.items():
        yield Cell("final", score, f"{name}, then DDIM", h, LAST_CHAINS[score], refined(score, FIXED[name], h))
    plan = planned(score, "baoab-limit", ENDING - 1, h=1.0)
    yield Cell("final", score, "BAOAB-limit, annealed", 1.0, LAST_CHAINS[score], annealed(plan))


def eta(score: str) -> Iterator[Cell]:
    """Yield the cells of figure 2: noise-denoise with eta from 0.25 to 2."""
    for value in ETAS:
        yield Cell("eta", score, "noise-denoise", value, ALONE[score], alone(score, f"noise-denoise({value:g})", 2.0))

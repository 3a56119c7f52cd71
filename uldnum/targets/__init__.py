"""Targets: densities with a score, exact moments and exact samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from uldnum.names import unknown
from uldnum.targets.mixture import GaussianMixture

__all__ = ["PRESETS", "GaussianMixture", "Preset", "target"]


def gaussian() -> GaussianMixture:
    """Return the standard normal distribution in one dimension."""
    return GaussianMixture([1.0], [[0.0]], [1.0], "gaussian")


def bimodal_1d() -> GaussianMixture:
    """Return 0.7 N(1.5, 1) + 0.3 N(-1.5, 1)."""
    return GaussianMixture([0.7, 0.3], [[1.5], [-1.5]], [1.0, 1.0], "bimodal-1d")


def ring_8() -> GaussianMixture:
    """Return eight equal components of variance 0.25 on a circle of radius 2."""
    angle = np.arange(8) * np.pi / 4
    return GaussianMixture(
        np.full(8, 1 / 8), 2 * np.stack([np.cos(angle), np.sin(angle)], 1), np.full(8, 0.25), "ring-8"
    )


class Preset(NamedTuple):
    """A named target and what it is."""

    make: Callable[[], GaussianMixture]
    source: str


PRESETS = {
    "gaussian": Preset(gaussian, "N(0, 1): every integrator's bias is known exactly"),
    "bimodal-1d": Preset(bimodal_1d, "0.7 N(1.5, 1) + 0.3 N(-1.5, 1): two overlapping modes of unequal weight"),
    "ring-8": Preset(ring_8, "8 equal Gaussians of variance 0.25 on a circle of radius 2"),
}


def target(name: str) -> GaussianMixture:
    """Return a preset by name; an unknown one answers with the nearest."""
    if name.lower() in PRESETS:
        return PRESETS[name.lower()].make()
    raise unknown("target", name, PRESETS)

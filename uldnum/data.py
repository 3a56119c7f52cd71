"""What plans run on: the law of data without noise, and the targets that it is at noise levels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uldnum.arguments import file_path, shown
from uldnum.launch import Target
from uldnum.names import unknown
from uldnum.targets import PRESETS
from uldnum.targets import target as find_target
from uldnum.targets.noised import NoisedImages
from uldnum.typing import Array

__all__ = ["find_data", "level_of"]


def find_data(name: str | Path, device: str = "cpu") -> Any:
    """Return a mixture or a network by name, or from a file; a network on a device.

    Raises
    ------
    ValueError
        If there is none of this name; the message offers the nearest.
    """
    from uldnum.networks import NETWORKS, network

    text = str(file_path("data", name))
    if text.lower() in PRESETS or text.endswith(".toml"):
        return find_target(text)
    if text.lower() in NETWORKS or text.lower().endswith(".onnx") or Path(text).exists():
        return network(text, device=device)
    raise unknown("data", text, [*PRESETS, *NETWORKS])


def level_of(data: Any, alpha: float, sigma: float) -> Target:
    """Return the law of ``z = alpha x + sigma eps`` of data as a target.

    Parameters
    ----------
    data : GaussianMixture, DataMixture or Network
        The law of x.
    alpha, sigma : float
        The noise level.

    Raises
    ------
    ValueError
        If it is none of them, or a network that does not know this level.
    """
    if hasattr(data, "noised"):
        return data.noised(alpha, sigma)
    if not hasattr(data, "at"):
        raise ValueError(
            "data: must be a GaussianMixture, a DataMixture or a network, whose law with noise is known, got "
            f"{shown(data)}"
        )
    if not hasattr(data, "card"):
        return data.at(sigma, alpha)
    try:
        level = data.at(ratio=sigma / alpha)
    except ValueError as error:
        raise ValueError(f"levels: at sigma/alpha = {sigma / alpha:.6g}: {error}") from None
    if not math.isclose(level.sigma / level.alpha, sigma / alpha, rel_tol=1e-6):
        raise ValueError(
            f"levels: {data.name} knows whole timesteps only, the nearest to sigma/alpha = {sigma / alpha:.6g} is at "
            f"{level.sigma / level.alpha:.6g}; give it card={{'condition': 'interpolated-timestep'}}, or its own levels"
        )
    return level if math.isclose(level.sigma, sigma, rel_tol=1e-9) else Rescaled.of(level, alpha, sigma)


@dataclass(frozen=True, eq=False, repr=False)
class Rescaled(NoisedImages):
    """A network's level in another scale: the law of c z, whose score at x is that of z at x/c, divided by c."""

    level: Any
    c: float

    @classmethod
    def of(cls, level: Any, alpha: float, sigma: float) -> Rescaled:
        """Return a level, known at the same sigma/alpha, at this alpha and sigma."""
        fingerprint = f"{level.fingerprint}-{sigma!r}"
        return cls(level.name, fingerprint, level.shape, alpha, sigma, level, sigma / level.sigma)

    @property
    def like(self) -> Any:
        """One of the arrays that the score takes."""
        return self.level.like

    @property
    def mean(self) -> Array:
        """Centre of where chains belong."""
        return self.c * self.level.mean

    @property
    def standard_deviation(self) -> Array:
        """Scale of where chains belong."""
        return self.c * self.level.standard_deviation

    def score(self, x: Any) -> Any:
        """Gradient of the log density."""
        return self.level.score(x / self.c) / self.c

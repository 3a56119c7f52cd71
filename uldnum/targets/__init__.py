"""Targets: densities with a score and, where they are known, exact moments and exact samples."""

from __future__ import annotations

from pathlib import Path

from uldnum.names import unknown
from uldnum.targets.files import read_toml
from uldnum.targets.mixture import GaussianMixture
from uldnum.targets.presets import PRESETS, Preset
from uldnum.targets.user import UserTarget

__all__ = ["PRESETS", "GaussianMixture", "Preset", "UserTarget", "VectorTarget", "read_toml", "target"]

VectorTarget = GaussianMixture | UserTarget


def target(name: str | Path) -> VectorTarget:
    """Return a preset by name, or the mixture in a TOML file (a name that ends in ``.toml``).

    Raises
    ------
    ValueError
        If there is no such preset (the message offers the nearest), or the file is broken.
    """
    if str(name).endswith(".toml"):
        return read_toml(Path(name))
    if str(name).lower() in PRESETS:
        return PRESETS[str(name).lower()].make()
    raise unknown("target", str(name), PRESETS)

"""Targets: densities with a score and, where they are known, exact moments and exact samples."""

from __future__ import annotations

from pathlib import Path

from uldnum.arguments import file_path, shown
from uldnum.names import unknown
from uldnum.targets.data import DataLevel, DataMixture
from uldnum.targets.files import read_toml
from uldnum.targets.mixture import GaussianMixture
from uldnum.targets.presets import PRESETS, Preset
from uldnum.targets.user import UserTarget

__all__ = [
    "PRESETS",
    "DataLevel",
    "DataMixture",
    "GaussianMixture",
    "Preset",
    "UserTarget",
    "VectorTarget",
    "has_draws",
    "read_toml",
    "target",
    "vector_target",
]

VectorTarget = GaussianMixture | UserTarget


def target(name: str | Path) -> VectorTarget:
    """Return a preset by name, or the mixture in a TOML file.

    Parameters
    ----------
    name : str or Path
        A name in `PRESETS`, which ``uldnum list`` shows; case is ignored. Or the path of a file, which ends in
        ``.toml``, with the keys ``weights``, ``means``, ``variances`` or ``covariances``, and perhaps ``name``.

    Returns
    -------
    GaussianMixture or UserTarget
        A new one at each call; of a file, and of every preset but double-well, a mixture.

    Raises
    ------
    ValueError
        If there is no such preset (the message offers the nearest), or the file cannot be read or is broken.
    """
    if not isinstance(name, str | Path):
        raise ValueError(f"target: must be a name or the path of a TOML file, got {shown(name)}")
    if str(name).endswith(".toml"):
        return read_toml(file_path("target", name))
    if str(name).lower() in PRESETS:
        return PRESETS[str(name).lower()].make()
    raise unknown("target", str(name), PRESETS)


def has_draws(target: VectorTarget) -> bool:
    """Whether a target has exact draws."""
    return isinstance(target, GaussianMixture) or target.sampler is not None


def vector_target(given: VectorTarget | str | Path) -> VectorTarget:
    """Return a target as it is, or the one of that name, or raise if it is neither."""
    found = target(given) if isinstance(given, str | Path) else given
    if not isinstance(found, VectorTarget):
        raise ValueError(f"target: must be a name, a GaussianMixture or a UserTarget, got {shown(given)}")
    return found

"""Targets: densities with a score and whatever else is known of them, as `Target` describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uldnum._util.arguments import file_path, shown
from uldnum._util.names import unknown
from uldnum.targets.data import DataLevel, DataMixture
from uldnum.targets.files import read_toml
from uldnum.targets.mixture import GaussianMixture
from uldnum.targets.presets import PRESETS, TargetPreset
from uldnum.targets.protocol import Components, Law, Modes, Target, lacking, level_of
from uldnum.targets.user import UserTarget

__all__ = [
    "PRESETS",
    "Components",
    "DataLevel",
    "DataMixture",
    "GaussianMixture",
    "Law",
    "Modes",
    "Target",
    "TargetPreset",
    "UserTarget",
    "find_target",
    "lacking",
    "level_of",
    "read_toml",
    "target",
    "vector_target",
]


def target(name: str | Path) -> GaussianMixture | UserTarget:
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


def find_target(given: Any) -> Target:
    """Return a target as it is, or the one of that name, or raise if it is neither."""
    found = target(given) if isinstance(given, str | Path) else given
    if not isinstance(found, Target):
        raise ValueError(
            "target: must be a name, a GaussianMixture, a UserTarget, a network or DataMixture at a noise level, or "
            f"another uldnum.targets.Target, got {shown(given)}"
        )
    return found


def vector_target(given: Target | str | Path) -> Target:
    """Return a target of vectors as it is, or the one of that name, or raise if it is neither."""
    found = find_target(given)
    if len(found.shape) != 1:
        raise ValueError(f"target: must be a target of vectors, samples of {found.name!r} have shape {found.shape}")
    return found

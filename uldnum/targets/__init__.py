"""Target distributions: mixtures, user-defined scores, data sets with noise, presets and their base class `Target`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uldnum._util.arguments import file_path, shown
from uldnum._util.names import unknown
from uldnum.targets.data import DataLevel, DataMixture
from uldnum.targets.files import read_toml
from uldnum.targets.mixture import GaussianMixture
from uldnum.targets.presets import PRESETS, TargetPreset
from uldnum.targets.protocol import Components, Display, Law, Modes, Target, lacking, law_of, level_of
from uldnum.targets.user import UserTarget

__all__ = [
    "PRESETS",
    "Components",
    "DataLevel",
    "DataMixture",
    "Display",
    "GaussianMixture",
    "Law",
    "Modes",
    "Target",
    "TargetPreset",
    "UserTarget",
    "find_target",
    "lacking",
    "law_of",
    "level_of",
    "read_toml",
    "target",
    "vector_target",
]


def target(name: str | Path) -> GaussianMixture | UserTarget:
    """Return a preset target by name, or read a Gaussian mixture from a TOML file.

    Parameters
    ----------
    name : str or Path
        Name of a preset, case ignored (``uldnum list`` prints all names), or the path of a file that ends in ``.toml``.
        The keys of the file are ``weights``, ``means``, either ``variances`` or ``covariances``, and optionally
        ``name``; they are the arguments of `GaussianMixture`.

    Returns
    -------
    GaussianMixture or UserTarget
        A new target at each call. Files and all presets except double-well are mixtures.

    Raises
    ------
    ValueError
        If there is no such preset (the message suggests a similar name), or the file cannot be read or is invalid.

    Examples
    --------
    >>> import uldnum
    >>> target = uldnum.target("ring-8")
    >>> target.shape, len(target.weights), target.largest_precision
    ((2,), 8, 4.0)
    """
    if not isinstance(name, str | Path):
        raise ValueError(f"target: must be a name or the path of a TOML file, got {shown(name)}")
    if str(name).endswith(".toml"):
        return read_toml(file_path("target", name))
    if str(name).lower() in PRESETS:
        return PRESETS[str(name).lower()].make()
    raise unknown("target", str(name), PRESETS)


def find_target(given: Any) -> Target:
    """Return the target itself, or the target with the given name.

    Parameters
    ----------
    given : Target, str or Path
        A target, the name of a preset, or the path of a TOML file.

    Returns
    -------
    Target
        The target.

    Raises
    ------
    ValueError
        If ``given`` is neither a target nor the name of one.

    Examples
    --------
    >>> from uldnum.targets import find_target
    >>> find_target("ring-8").shape
    (2,)
    """
    found = target(given) if isinstance(given, str | Path) else given
    if not isinstance(found, Target):
        level = "; choose a noise level by its method at(sigma)" if callable(getattr(found, "at", None)) else ""
        raise ValueError(
            "target: must be a name, a GaussianMixture, a UserTarget, a network or DataMixture at a noise level, or "
            f"another uldnum.targets.Target, got {shown(given)}{level}"
        )
    return found


def vector_target(given: Target | str | Path) -> Target:
    """Return a target of vectors, like `find_target`.

    Parameters
    ----------
    given : Target, str or Path
        A target, the name of a preset, or the path of a TOML file.

    Returns
    -------
    Target
        A target whose samples have shape (d,).

    Raises
    ------
    ValueError
        If ``given`` is neither a target nor the name of one, or its samples are not vectors.

    Examples
    --------
    >>> from uldnum.targets import vector_target
    >>> vector_target("gaussian").shape
    (1,)
    """
    found = find_target(given)
    if len(found.shape) != 1:
        raise ValueError(f"target: must have samples of shape (d,), got shape {found.shape} for {found.name!r}")
    return found

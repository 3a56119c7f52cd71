"""A Gaussian mixture in a TOML file."""

from __future__ import annotations

from pathlib import Path

from uldnum._util.arguments import shown
from uldnum._util.names import nearest, printable
from uldnum._util.parsing import read_toml as read_table
from uldnum.targets.mixture import GaussianMixture

__all__ = ["read_toml"]

# Bytes of a file, at most: a million numbers or so.
LARGEST = 2**24

REQUIRED, CHOICE, OPTIONAL = ("weights", "means"), ("variances", "covariances"), ("name",)


def read_toml(path: Path) -> GaussianMixture:
    """Read a mixture: keys ``weights``, ``means``, one of ``variances`` and ``covariances``, and perhaps ``name``.

    ::

        weights = [0.7, 0.3]
        means = [[1.5], [-1.5]]
        variances = [1.0, 1.0]

    Raises
    ------
    ValueError
        If the file cannot be read, is no TOML, or a key is missing, unknown or has a bad value.
    """
    table = read_table("target", path, LARGEST)
    known = (*REQUIRED, *CHOICE, *OPTIONAL)
    for key in table:
        if key not in known:
            near = nearest(key, known)
            raise ValueError(f"target: {str(path)!r} has an unknown key {shown(key)}; the nearest is {near!r}")
    for key in REQUIRED:
        if key not in table:
            raise ValueError(f"target: {str(path)!r} lacks the key {key!r}")
    try:
        return GaussianMixture(**{"name": printable(path.stem)} | table)
    except ValueError as error:
        raise ValueError(f"target: {str(path)!r}: {error}") from None

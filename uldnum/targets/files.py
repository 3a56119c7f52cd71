"""A Gaussian mixture in a TOML file."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path

from uldnum.targets.mixture import GaussianMixture

__all__ = ["read_toml"]

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
    try:
        with path.open("rb") as stream:
            table = tomllib.load(stream)
    except OSError as error:
        raise ValueError(f"target: cannot read {str(path)!r}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"target: {str(path)!r} is not a TOML file: {error}") from None
    known = (*REQUIRED, *CHOICE, *OPTIONAL)
    for key in table:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0)[0]
            raise ValueError(f"target: {str(path)!r} has an unknown key {key!r}; the nearest is {nearest!r}")
    for key in REQUIRED:
        if key not in table:
            raise ValueError(f"target: {str(path)!r} lacks the key {key!r}")
    try:
        return GaussianMixture(**{"name": path.stem} | table)
    except ValueError as error:
        raise ValueError(f"target: {str(path)!r}: {error}") from None

"""Gaussian mixtures from TOML files."""

from __future__ import annotations

from pathlib import Path

from uldnum._util.names import printable, unknown
from uldnum._util.parsing import read_toml as read_table
from uldnum.targets.mixture import GaussianMixture

__all__ = ["read_toml"]

# Largest size of a file in bytes, enough for about a million numbers.
LARGEST = 2**24

REQUIRED, CHOICE, OPTIONAL = ("weights", "means"), ("variances", "covariances"), ("name",)


def read_toml(path: Path) -> GaussianMixture:
    """Read a Gaussian mixture from a TOML file.

    Parameters
    ----------
    path : Path
        Path of the file. Its keys are the arguments of `GaussianMixture`: ``weights``, ``means``, either ``variances``
        or ``covariances``, and optionally ``name``.

    Returns
    -------
    GaussianMixture
        The mixture. Without the key ``name``, its name is the file name without ``.toml``.

    Raises
    ------
    ValueError
        If the file cannot be read or is not valid TOML, or a key is missing, unknown or has an invalid value.

    Notes
    -----
    A file contains, for example::

        weights = [0.7, 0.3]
        means = [[1.5], [-1.5]]
        variances = [1.0, 1.0]

    Examples
    --------
    >>> from pathlib import Path
    >>> from uldnum.targets import read_toml
    >>> path = Path("pair.toml")
    >>> with path.open("w") as file:
    ...     print("weights = [0.7, 0.3]", "means = [[1.5], [-1.5]]", "variances = [1.0, 1.0]", sep=chr(10), file=file)
    >>> read_toml(path).name
    'pair'
    """
    table = read_table("target", path, LARGEST)
    known = (*REQUIRED, *CHOICE, *OPTIONAL)
    for key in table:
        if key not in known:
            raise unknown(f"target: {str(path)!r}", key, known, f"The keys are {', '.join(known)}", "key")
    for key in REQUIRED:
        if key not in table:
            raise ValueError(f"target: {str(path)!r} must have the key {key!r}")
    try:
        return GaussianMixture(**{"name": printable(path.stem)} | table)
    except ValueError as error:
        raise ValueError(f"target: {str(path)!r}: {error}") from None

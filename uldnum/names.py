"""Names: looking things up by them, with help for the mistaken, and fingerprints of what has none."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from uldnum.typing import Array

__all__ = ["UnknownNameError", "digest", "named", "split_name", "unknown"]


class UnknownNameError(ValueError):
    """A name that does not exist."""


def unknown(
    kind: str, name: Any, names: Iterable[str], where: str = "'uldnum list' shows all of them"
) -> UnknownNameError:
    """Return the error for a name that does not exist: it offers the nearest one that does, and says where all are."""
    by_lower = {other.lower(): other for other in names}
    nearest = by_lower[difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0)[0]]
    return UnknownNameError(f"{kind}: unknown name {name!r}; the nearest is {nearest!r}. {where}")


def named(thing: Any) -> str:
    """Show a thing by its name and shape: its arrays would fill a screen."""
    return f"{type(thing).__name__}({thing.name!r}, shape={tuple(thing.shape)})"


def split_name(name: str) -> tuple[str, str | None]:
    """Split ``stem(argument)`` into its parts; without brackets, or with others, all is the stem."""
    match = re.fullmatch(r"([^()]+)(?:\(([^()]*)\))?", name.strip())
    return (match[1].strip(), match[2]) if match else (name, None)


def digest(*arrays: Array) -> str:
    """Return a hash of the values of arrays."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(str(array.shape).encode())
        sha.update(np.ascontiguousarray(array, dtype=float).tobytes())
    return sha.hexdigest()[:16]

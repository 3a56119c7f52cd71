"""Looking things up by name, with help for the mistaken."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["unknown"]


def unknown(kind: str, name: str, names: Iterable[str]) -> ValueError:
    """Return the error for a name that does not exist: it offers the nearest one that does."""
    by_lower = {other.lower(): other for other in names}
    nearest = by_lower[difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0)[0]]
    return ValueError(f"{kind}: unknown name {name!r}; the nearest is {nearest!r}. 'uldnum list' shows all of them")

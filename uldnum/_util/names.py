"""Names: what may be one, looking things up by them with help for the mistaken, and fingerprints of what has none."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from uldnum._util.arguments import shown
from uldnum._util.typing import Array

__all__ = [
    "NAME",
    "UnknownNameError",
    "checked_name",
    "checked_text",
    "digest",
    "named",
    "nearest",
    "printable",
    "split_name",
    "unknown",
]

# Letters of a name, and of a text such as a citation, at most.
NAME, TEXT = 200, 10_000


class UnknownNameError(ValueError):
    """A name that does not exist."""


def checked_name(argument: str, name: Any) -> str:
    """Return a name, or raise unless it can be shown in any terminal, file and figure: printable, of 1 to 200 letters.

    Names are checked where they enter, so that nothing that was computed is lost to one in the end.
    """
    if not checked_text(argument, name, NAME, breaks="").strip():
        raise ValueError(f"{argument}: must not be empty")
    return str(name)


def checked_text(argument: str, text: Any, most: int = TEXT, breaks: str = "\n\t") -> str:
    """Return a text, or raise unless it is a string of at most so many letters, printable but for breaks."""
    if not isinstance(text, str):
        raise ValueError(f"{argument}: must be a string, got {shown(text)}")
    if len(text) > most:
        raise ValueError(f"{argument}: must have at most {most} characters, got {len(text)}")
    if not all(letter.isprintable() or letter in breaks for letter in text):
        raise ValueError(f"{argument}: must be printable, without control characters, got {shown(text)}")
    return text


def printable(text: str, most: int = NAME) -> str:
    """Return a text as a terminal can show it: escapes stand for control characters, and it is cut where it is long."""
    plain = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return plain if len(plain) <= most else f"{plain[: most - 4]} ..."


def unknown(
    kind: str, name: Any, names: Iterable[str], where: str = "'uldnum list' shows all of them"
) -> UnknownNameError:
    """Return the error for a name that does not exist: it offers the nearest one that does, and says where all are."""
    return UnknownNameError(f"{kind}: unknown name {shown(name)}; the nearest is {nearest(name, names)!r}. {where}")


def nearest(name: Any, names: Iterable[str]) -> str:
    """Return the name that is most like what was given, by no more than its first 200 letters."""
    by_lower = {other.lower(): other for other in names}
    text = name[:NAME] if isinstance(name, str) else shown(name)
    return by_lower[difflib.get_close_matches(text.lower(), by_lower, n=1, cutoff=0)[0]]


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

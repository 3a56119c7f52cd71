"""Validation of names, suggestions for unknown names, and hashes of arrays."""

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

# Largest number of characters of a name, and of a text such as a citation.
NAME, TEXT = 200, 10_000


class UnknownNameError(ValueError):
    """Error for an unknown name."""


def checked_name(argument: str, name: Any) -> str:
    """Return a name, or raise if it is not a printable string of 1 to 200 characters.

    Names are checked on input, so that a result cannot fail to be shown or stored after it has been computed.
    """
    if not checked_text(argument, name, NAME, breaks="").strip():
        raise ValueError(f"{argument}: must not be empty")
    return str(name)


def checked_text(argument: str, text: Any, most: int = TEXT, breaks: str = "\n\t") -> str:
    """Return a text. Raise if it is no string, is too long, or has unprintable characters other than ``breaks``."""
    if not isinstance(text, str):
        raise ValueError(f"{argument}: must be a string, got {shown(text)}")
    if len(text) > most:
        raise ValueError(f"{argument}: must have at most {most} characters, got {len(text)}")
    if not all(letter.isprintable() or letter in breaks for letter in text):
        raise ValueError(f"{argument}: must be printable, without control characters, got {shown(text)}")
    return text


def printable(text: str, most: int = NAME) -> str:
    """Return a text with control characters escaped, truncated to ``most`` characters."""
    plain = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return plain if len(plain) <= most else f"{plain[: most - 4]} ..."


def unknown(
    kind: str, name: Any, names: Iterable[str], where: str = "'uldnum list' shows all of them", what: str = "name"
) -> UnknownNameError:
    """Return the error for an unknown name.

    Parameters
    ----------
    kind : str
        Start of the message, which states what the name stands for.
    name : object
        Unknown name.
    names : iterable of str
        Known names. The message suggests the nearest one if it is similar.
    where : str
        Sentence that states where all names are listed.
    what : str
        Word for a name in the message, such as "key".
    """
    near = nearest(name, names)
    hint = "" if near is None else f"; the nearest is {near!r}"
    return UnknownNameError(f"{kind}: unknown {what} {shown(name)}{hint}. {where}")


def nearest(name: Any, names: Iterable[str]) -> str | None:
    """Return the known name that is most similar to the first 200 characters of a given one, or None.

    Similar names are those above the default cutoff of `difflib`, and those that begin with the given name.
    """
    by_lower = {other.lower(): other for other in names}
    text = (name[:NAME] if isinstance(name, str) else shown(name)).lower()
    longer = [other for other in by_lower if text and other.startswith(text)]
    found = difflib.get_close_matches(text, by_lower, n=1) or difflib.get_close_matches(text, longer, n=1, cutoff=0)
    return by_lower[found[0]] if found else None


def named(thing: Any) -> str:
    """Return a short representation of an object with its name and shape, without its arrays."""
    return f"{type(thing).__name__}({thing.name!r}, shape={tuple(thing.shape)})"


def split_name(name: str) -> tuple[str, str | None]:
    """Split ``stem(argument)`` into stem and argument; a name of another form is a stem with the argument None."""
    match = re.fullmatch(r"([^()]+)(?:\(([^()]*)\))?", name.strip())
    return (match[1].strip(), match[2]) if match else (name, None)


def digest(*arrays: Array) -> str:
    """Return a hash of the shapes and values of arrays."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(str(array.shape).encode())
        sha.update(np.ascontiguousarray(array, dtype=float).tobytes())
    return sha.hexdigest()[:16]

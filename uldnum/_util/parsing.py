"""Reading of whole numbers, and of untrusted TOML and JSON files, with bounds on size, depth and time."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from uldnum._util.arguments import shown

__all__ = ["parse_toml", "read_json", "read_text", "read_toml", "toml_text", "whole"]

# Largest size of a card or a configuration, in bytes.
SMALL = 2**20

# A dotted key of more than 100 parts. The time that tomllib takes grows at least as the square of the number of parts.
LONG_KEY = re.compile(
    r"""(?<![\w-]) (?: (?: [\w-]++ | "(?:[^"\\\n]|\\.)*+" | '[^'\n]*+' ) [ \t]*+ \. [ \t]*+ ){100}""", re.VERBOSE
)


def whole(text: str) -> int:
    """Return the integer that a text denotes, also in scientific notation, such as 1e4; raise ValueError if none."""
    try:
        number = Decimal(text)
        if -(2**64) <= number <= 2**64 and number == int(number):
            return int(number)
    except (InvalidOperation, ValueError):  # not a number, or NaN
        pass
    raise ValueError(f"must be a whole number, such as 10000 or 1e4, got {shown(text)}")


def parse_toml(text: str) -> dict[str, Any]:
    """Return the table of a TOML text, or raise a ValueError."""
    if LONG_KEY.search(text):
        raise ValueError("a key has more than 100 parts")
    return shallow(tomllib.loads, text)


def toml_text(table: Mapping[str, Any]) -> str:
    """Return the TOML text of a table of strings, numbers, booleans, lists and tables."""
    return "".join(f"{json.dumps(key, ensure_ascii=False)} = {toml_value(value)}\n" for key, value in table.items())


def toml_value(value: Any) -> str:
    """Return a value in TOML notation."""
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(key, ensure_ascii=False)} = {toml_value(part)}" for key, part in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, float):
        return repr(float(value))
    return json.dumps(value, ensure_ascii=False)


def shallow(parse: Callable[[str], Any], text: str) -> Any:
    """Return the result of a parser, or raise a ValueError if tables or arrays are nested too deeply."""
    try:
        return parse(text)
    except RecursionError:
        raise ValueError("its tables or arrays are nested too deeply") from None


def read_toml(argument: str, path: Path, most: int = SMALL) -> dict[str, Any]:
    """Return the table in a TOML file of at most ``most`` bytes, or raise an error that names argument and file."""
    try:
        return parse_toml(content_of(path, most))
    except ValueError as error:
        raise named_fault(argument, path, "TOML", error) from None


def read_json(argument: str, path: Path, most: int = SMALL, *, optional: bool = False) -> dict[str, Any]:
    """Return the object in a JSON file of at most ``most`` bytes, or raise an error that names argument and file.

    An optional file that does not exist is an empty object.
    """
    if optional and not path.is_file():
        return {}
    try:
        found = shallow(json.loads, content_of(path, most))
        if not isinstance(found, dict):
            raise ValueError("it must hold an object")
    except ValueError as error:
        raise named_fault(argument, path, "JSON", error) from None
    return found


def read_text(argument: str, path: Path, most: int) -> str:
    """Return the text of a file of at most ``most`` bytes, or raise an error that names argument and file."""
    try:
        return content_of(path, most)
    except ValueError as error:
        raise named_fault(argument, path, "text", error) from None


def content_of(path: Path, most: int) -> str:
    """Return the text of a file, or raise if it cannot be read or has more than ``most`` bytes."""
    try:
        with path.open("rb") as stream:
            content = stream.read(most + 1)
    except FileNotFoundError:
        raise ValueError("it is missing") from None
    except OSError as error:
        raise ValueError(error.strerror) from None
    if len(content) > most:
        raise ValueError(f"it has more than {most} bytes")
    return content.decode()


def named_fault(argument: str, path: Path, kind: str, error: ValueError) -> ValueError:
    """Return the error for a file that cannot be read."""
    return ValueError(f"{argument}: {shown(str(path))} cannot be read as {kind}: {error}")

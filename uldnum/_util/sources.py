"""Hashes of the source code that a result depends on.

A module depends on every module of this package that it imports, at its top level or inside a function, and on the
dependencies of those modules. The graph is read from the source files, so it is always up to date and the same in every
process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

__all__ = ["dependencies", "digest_of_sources"]

PACKAGE = __name__.partition(".")[0]

# Statements that import from this package: `from A import b, c`, with or without parentheses, and `import A`. The
# regular expression is 100 times faster than the parser of Python; a test compares the two.
IMPORTS = re.compile(
    rf"^[ \t]*(?:from[ \t]+({PACKAGE}[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)|import[ \t]+({PACKAGE}[\w.]*))", re.M
)

# Source text to ignore: comments, which may occur between imported names, and imports only for type checkers.
NOT_RUN = re.compile(r"#[^\n]*|^if TYPE_CHECKING:\n(?:[ \t]+[^\n]*\n|\n)+", re.M)


def digest_of_sources(*modules: str) -> str:
    """Return a hash of the sources of modules and of their dependencies within this package.

    Parameters
    ----------
    *modules : str
        Full names of modules. For a module without a source file, such as that of a notebook, only the name is hashed.

    Notes
    -----
    Each source file is read once per process, because later changes to it do not affect the imported module.
    """
    parts = [f"{module} {source(module)[0]}" for module in sorted(dependencies(*modules))]
    return sha256("\n".join(parts).encode()).hexdigest()


@cache
def dependencies(*modules: str) -> frozenset[str]:
    """Return the names of modules and of all modules of this package that they import, directly or indirectly."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting.extend(source(module)[1])
    return frozenset(found)


@cache
def source(module: str) -> tuple[str, tuple[str, ...]]:
    """Return a hash of the source of a module and the modules of this package that it imports."""
    path = path_of(module)
    content = b"" if path is None else path.read_bytes()
    text = NOT_RUN.sub("", content.decode())
    return sha256(content).hexdigest(), tuple(imported(text))


def imported(text: str) -> Iterator[str]:
    """Yield the modules of this package that a source text imports."""
    for package, names, module in IMPORTS.findall(text):
        yield package or module
        for part in filter(str.strip, names.strip("()").split(",")):
            inner = f"{package}.{part.split()[0]}"
            if path_of(inner) is not None:
                yield inner


@cache
def path_of(module: str) -> Path | None:
    """Return the source file of a module; None if the module does not exist or has no source file."""
    if module.partition(".")[0] == PACKAGE:  # `find_spec` would import the parent packages
        base = Path(__file__).parents[2].joinpath(*module.split("."))
        return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return None
    return None if spec is None or not spec.has_location or spec.origin is None else Path(spec.origin)

"""Disk cache of compiled kernels: an unusable file counts as a miss, and a failure to write only gives a warning."""

from __future__ import annotations

import pickle
import warnings
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.caching import FunctionCache
from numba.core.serialize import dumps

from uldnum._util.files import atomic, remove_leftovers
from uldnum._util.sources import digest_of_sources

__all__ = ["KernelCache", "read", "store", "warn_not_stored"]


def source_hash(function: Any) -> bytes:
    """Return a hash of the kernel sources and compiler versions, on which the compiled code of a function depends."""
    versions = numba.__version__, llvmlite.__version__
    return sha256(repr((digest_of_sources(function.__module__), versions)).encode()).digest()


def sealed(name: str, content: bytes) -> bytes:
    """Return a line with a hash of the name and content of a file, then the content; the line is a comment in PTX."""
    return b"// sha256 " + sha256(name.encode() + content).hexdigest().encode() + b"\n" + content


def read(path: Path) -> bytes | None:
    """Return the content of a file of the cache, or None if it is missing or, with a warning, if it is unusable."""
    try:
        found = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        warn_unusable(path, error.strerror)
        return None
    content = found.partition(b"\n")[2]
    if found == sealed(path.name, content):
        return content
    warn_unusable(path, "the file is damaged")
    return None


def store(path: Path, content: bytes) -> bool:
    """Write a file of the cache atomically; return whether this succeeded, and warn otherwise."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        with atomic(path) as file:
            file.write_bytes(sealed(path.name, content))
    except (OSError, ValueError) as error:
        warn_not_stored(str(path.parent), error)
        return False
    return True


def warn_unusable(path: Path, why: object) -> None:
    """Warn that a file of the cache is unusable."""
    warnings.warn(f"the compiled kernel {str(path)!r} cannot be used: {why}; it is compiled again", stacklevel=2)


@cache
def reasons() -> list[str]:
    """Return the list of reasons for which kernels could not be stored in this process."""
    return []


def warn_not_stored(place: str, why: object) -> None:
    """Warn, once per process, that kernels are not stored, so that later processes have to compile them again."""
    if not reasons():
        warnings.warn(
            f"compiled kernels cannot be stored in {place}: {why}; every process compiles them again", stacklevel=2
        )
    reasons().append(str(why))


class KernelCache(FunctionCache):
    """Numba's cache, adapted to kernels that are closures, whose compiled code depends on more than their function.

    Numba stores an index of files and trusts both. This class uses one file per signature and processor, which contains
    a hash of its content and a hash of the kernel sources.
    """

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self.source_hash = source_hash(function)

    def place(self, sig: Any, codegen: Any) -> Path:
        """Return the file for a signature and a processor."""
        name = sha256(repr((sig, codegen.magic_tuple())).encode()).hexdigest()[:16]
        return Path(self.cache_path) / f"{self._impl.filename_base}.{name}.nbc"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled kernel, or None if the cache has no usable file."""
        target_context.refresh()
        path = self.place(sig, target_context.codegen())
        content = read(path)
        if content is None or not content.startswith(self.source_hash):
            return None
        try:
            return self._impl.rebuild(target_context, pickle.loads(content[len(self.source_hash) :]))
        except Exception as error:  # unpickling runs code of several libraries, which raise various errors
            warn_unusable(path, error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store a compiled kernel."""
        if self._impl.check_cachable(data):
            store(self.place(sig, data.codegen), self.source_hash + dumps(self._impl.reduce(data)))

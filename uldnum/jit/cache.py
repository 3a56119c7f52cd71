"""Compiled kernels on the disk: a file that cannot be used is a miss, and what cannot be written is not kept."""

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

__all__ = ["KernelCache", "kept", "read", "warn_unkept"]


def made_of(function: Any) -> bytes:
    """Return a hash of what makes a compiled kernel, apart from what its file is named after."""
    versions = numba.__version__, llvmlite.__version__
    return sha256(repr((digest_of_sources(function.__module__), versions)).encode()).digest()


def sealed(name: str, content: bytes) -> bytes:
    """Return the content of a file of this name, after a line, a comment in PTX, with a hash of both."""
    return b"// sha256 " + sha256(name.encode() + content).hexdigest().encode() + b"\n" + content


def read(path: Path) -> bytes | None:
    """Return the content of a file of the cache; None if there is none, or, with a warning, if it is damaged."""
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
    warn_unusable(path, "it is damaged")
    return None


def kept(path: Path, content: bytes) -> bool:
    """Write a file of the cache, atomically; returns whether that was possible, and warns if not."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        with atomic(path) as file:
            file.write_bytes(sealed(path.name, content))
    except (OSError, ValueError) as error:
        warn_unkept(str(path.parent), error)
        return False
    return True


def warn_unusable(path: Path, why: object) -> None:
    """Warn of a file that is as good as none."""
    warnings.warn(f"the compiled kernel {str(path)!r} cannot be used: {why}; it is compiled again", stacklevel=2)


@cache
def warned() -> list[str]:
    """Return the reasons why kernels could not be kept in this process."""
    return []


def warn_unkept(place: str, why: object) -> None:
    """Warn, once in a process, that kernels will be compiled again by the next one."""
    if not warned():
        warnings.warn(f"compiled kernels cannot be kept in {place}: {why}; every process compiles anew", stacklevel=2)
    warned().append(str(why))


class KernelCache(FunctionCache):
    """Numba's cache for a kernel that is a closure, whose Python function does not tell all that it is made of.

    Numba keeps an index of files and trusts both. Here each signature and processor has a file of its own, with hashes
    of the content and of the sources that the kernel is made of.
    """

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self.made_of = made_of(function)

    def place(self, sig: Any, codegen: Any) -> Path:
        """Return the file of a signature."""
        name = sha256(repr((sig, codegen.magic_tuple())).encode()).hexdigest()[:16]
        return Path(self.cache_path) / f"{self._impl.filename_base}.{name}.nbc"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled kernel, or None."""
        target_context.refresh()
        path = self.place(sig, target_context.codegen())
        content = read(path)
        if content is None or not content.startswith(self.made_of):
            return None
        try:
            return self._impl.rebuild(target_context, pickle.loads(content[len(self.made_of) :]))
        except Exception as error:  # unpickling runs code of several libraries
            warn_unusable(path, error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel."""
        if self._impl.check_cachable(data):
            kept(self.place(sig, data.codegen), self.made_of + dumps(self._impl.reduce(data)))

"""Writing files so that nothing half-written is ever seen under its final name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic", "writable_folder"]


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; rename it to ``path`` when all went well."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    except OSError as error:
        raise ValueError(f"path: cannot write {str(path)!r}: {error.strerror}") from None
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, 0o644)  # mkstemp makes files that nobody else may read
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def writable_folder(folder: Path) -> Path:
    """Make a folder if need be and check that files can be written to it, before any work is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"out: cannot write to {str(folder)!r}: {error.strerror}") from None
    return folder

"""Executors: the one source in `core` and `chain`, bound to a machine."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

__all__ = ["SOURCES", "digest_of"]


def digest_of(folder: Path, *others: Path) -> str:
    """Return a hash of the sources in a folder, and of others."""
    return sha256(b"".join(path.read_bytes() for path in (*sorted(folder.glob("*.py")), *others))).hexdigest()


# Hash of the kernel sources when this process began: a file that changes later is not what runs here.
SOURCES = digest_of(Path(__file__).parent)

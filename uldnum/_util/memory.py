"""The memory that this process can still take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

__all__ = ["available_memory"]

# Where Linux says to which control groups this process belongs, and where it shows the groups.
MEMBERSHIP, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")

# Names in a group of version 1 and of version 2: of the limit, of the memory in use, and, in ``memory.stat``, of the
# file cache in it that the kernel frees when memory is wanted.
VERSION_1 = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
VERSION_2 = "memory.max", "memory.current", "inactive_file"


def available_memory() -> int:
    """Return the bytes that this process can still take: of the machine, or of a control group if that allows less."""
    return min([psutil.virtual_memory().available, *allowed_by_groups()])


def allowed_by_groups() -> Iterator[int]:
    """Yield what each control group of this process allows, and each group above it."""
    try:
        lines = MEMBERSHIP.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            roots, names = [GROUPS / "memory"], VERSION_1
        elif number == "0":
            roots, names = [GROUPS, GROUPS / "unified"], VERSION_2
        else:
            continue
        # In a container the path may be that of the host: what is not there is passed over.
        for root in roots:
            own = root / path.lstrip("/")
            for group in (own, *own.parents):
                if group.is_relative_to(root) and (allowed := allowed_by(group, *names)) is not None:
                    yield allowed


def allowed_by(group: Path, limit: str, usage: str, cache: str) -> int | None:
    """Return what one control group allows; None if it sets no limit, or does not say."""
    try:
        most, used = int((group / limit).read_text()), int((group / usage).read_text())
        entries = dict(line.split(maxsplit=1) for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such group, or the limit "max"
        return None
    return max(0, most - used + int(entries.get(cache, 0)))

"""Memory that is available to this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

__all__ = ["available_memory"]

# Linux: the file that lists the control groups of this process, and the folder of all control groups.
MEMBERSHIP, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")

# Names in control groups of version 1 and version 2: the files of the limit and of the memory in use, and the entry of
# ``memory.stat`` for the part of it that is file cache, which the kernel frees on demand.
VERSION_1 = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
VERSION_2 = "memory.max", "memory.current", "inactive_file"


def available_memory() -> int:
    """Return the bytes that this process can still allocate, on the machine and within its control groups."""
    return min([psutil.virtual_memory().available, *allowed_by_groups()])


def allowed_by_groups() -> Iterator[int]:
    """Yield the bytes available in each control group of this process and in each of its ancestors."""
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
        # In a container the path may be that on the host; groups that do not exist are skipped.
        for root in roots:
            own = root / path.lstrip("/")
            for group in (own, *own.parents):
                if group.is_relative_to(root) and (allowed := allowed_by(group, *names)) is not None:
                    yield allowed


def allowed_by(group: Path, limit: str, usage: str, cache: str) -> int | None:
    """Return the bytes available in a control group; None if its limit is unset or unreadable."""
    try:
        most, used = int((group / limit).read_text()), int((group / usage).read_text())
        entries = dict(line.split(maxsplit=1) for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such group, or the limit "max"
        return None
    return max(0, most - used + int(entries.get(cache, 0)))

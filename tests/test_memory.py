"""The available memory is that of the machine, or less if a control group (version 1 or 2) has a lower limit."""

from types import SimpleNamespace

import pytest

from uldnum._util import memory

GIB = 2**30


@pytest.fixture
def groups(monkeypatch, tmp_path):
    """A machine with 8 GiB of available memory, and a folder in which tests write control groups."""
    monkeypatch.setattr("uldnum._util.memory.psutil.virtual_memory", lambda: SimpleNamespace(available=8 * GIB))
    monkeypatch.setattr(memory, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "groups")
    return tmp_path / "groups"


def belong(lines):
    memory.MEMBERSHIP.write_text(lines)


def write(folder, names, limit, used, cache=0):
    """Write the files by which the kernel describes a group."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, used, cache), strict=True):
        if name.startswith("memory"):
            (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(f"anon 123\n{names[2]} {cache}\nfile 5\n")


def test_without_groups_the_memory_of_the_machine_is_available(groups):
    assert memory.available_memory() == 8 * GIB
    belong("0::/user.slice\n")
    assert memory.available_memory() == 8 * GIB


@pytest.mark.parametrize(
    ("line", "root", "names"),
    [
        ("0::/a/b", "", memory.VERSION_2),
        ("0::/a/b", "unified", memory.VERSION_2),
        ("4:cpu,memory:/a/b", "memory", memory.VERSION_1),
    ],
)
def test_the_strictest_group_counts(groups, line, root, names):
    """First only the parent of the process's group has a limit, then the root, and then the group itself."""
    belong(f"7:pids:/elsewhere\n{line}\n")
    unlimited = "max" if names is memory.VERSION_2 else 2**63 - 4096
    write(groups / root / "a" / "b", names, unlimited, GIB)
    write(groups / root / "elsewhere", names, GIB, GIB)
    assert memory.available_memory() == 8 * GIB
    write(groups / root / "a", names, 4 * GIB, GIB)
    assert memory.available_memory() == 3 * GIB
    write(groups / root, names, 3 * GIB, 2 * GIB)
    assert memory.available_memory() == GIB
    write(groups / root / "a" / "b", names, 3 * GIB, 3 * GIB, cache=GIB // 2)  # the kernel frees caches
    assert memory.available_memory() == GIB // 2
    write(groups / root / "a" / "b", names, GIB, 2 * GIB)  # the limit was lowered below the usage
    assert memory.available_memory() == 0


@pytest.mark.parametrize(
    ("line", "root", "names"),
    [("0::/docker/12", "", memory.VERSION_2), ("4:memory:/docker/12", "memory", memory.VERSION_1)],
)
def test_the_root_group_counts_in_a_container_with_the_path_of_the_host(groups, line, root, names):
    belong(line)
    write(groups / root, names, 2 * GIB, GIB)
    assert memory.available_memory() == GIB


def test_this_machine_has_available_memory():
    assert memory.available_memory() > 0

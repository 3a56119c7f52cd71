"""The disk cache of compiled kernels, with damaged files, files of other sources, and a full disk."""

import os
import warnings

import numba
import numpy as np
import pytest
from numba.core import caching

from uldnum.jit import cache, compiling


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """An empty cache folder, in a process that has not issued a warning."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    cache.reasons.cache_clear()
    yield tmp_path
    cache.reasons.cache_clear()


def kernel():
    """Return a small kernel that this process has not compiled."""

    def add(x):
        return x + 1.5

    return compiling.compiled(add)


def hits(compiled):
    return sum(compiled.stats.cache_hits.values())


def only_file(folder):
    (path,) = folder.rglob("*.nbc")
    return path


def test_kernels_are_stored(folder):
    first, second = kernel(), kernel()
    assert first(1.0) == 2.5
    assert (hits(first), second(1.0), hits(second)) == (0, 2.5, 1)
    assert second(np.float32(1)) == 2.5
    assert len(list(folder.rglob("*"))) == 3  # a folder, and one file per signature


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGE = {
    "empty": lambda name, content: b"",
    "line": lambda name, content: content[:40],
    "cut": lambda name, content: content[: len(content) // 2],
    "last byte": lambda name, content: content[:-1],
    "garbage": lambda name, content: np.random.default_rng(0).bytes(5000),
    "pickle": lambda name, content: b"\x80\x04K\x01.",
    "flipped hash": lambda name, content: flipped(content, 20),
    "flipped sources": lambda name, content: flipped(content, 80),
    "flipped code": lambda name, content: flipped(content, len(content) // 2),
    "sealed garbage": lambda name, content: cache.sealed(
        name, cache.source_hash(kernel().py_func) + b"\x80\x04garbage"
    ),
    "sealed number": lambda name, content: cache.sealed(name, cache.source_hash(kernel().py_func) + b"\x80\x04K\x01."),
    "another kernel": lambda name, content: cache.sealed(f"other-{name}", content.partition(b"\n")[2]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_a_miss_with_one_warning(folder, damage):
    kernel()(1.0)
    path = only_file(folder)
    content = path.read_bytes()
    path.write_bytes(DAMAGE[damage](path.name, content))
    with pytest.warns(UserWarning, match="cannot be used: .*; it is compiled again") as said:
        assert kernel()(1.0) == 2.5
    assert len(said) == 1
    assert str(path) in str(said[0].message)
    again = kernel()
    assert (again(1.0), hits(again)) == (2.5, 1)


def test_a_folder_in_place_of_a_file(folder):
    kernel()(1.0)
    path = only_file(folder)
    path.unlink()
    path.mkdir()
    with pytest.warns(
        UserWarning, match=r"cannot be used: Is a directory|cannot be stored in .*: Is a directory"
    ) as said:
        assert kernel()(1.0) == 2.5
    assert len(said) == 2


def test_kernels_of_other_sources_are_compiled_without_a_word(folder):
    kernel()(1.0)
    path = only_file(folder)
    path.write_bytes(cache.sealed(path.name, b"0" * 32 + b"no pickle"))
    again = kernel()
    assert (again(1.0), hits(again)) == (2.5, 0)
    assert only_file(folder) == path  # written over: old code does not pile up
    again = kernel()
    assert (again(1.0), hits(again)) == (2.5, 1)


def test_a_full_disk_is_said_once(monkeypatch, folder):
    def no_room(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(folder), "write_bytes", no_room)
    with pytest.warns(UserWarning, match=rf"cannot be stored in {folder}.*: No space left on device") as said:
        assert [kernel()(1.0), kernel()(2.0)] == [2.5, 3.5]
    assert len(said) == 1


def test_without_a_folder_kernels_are_compiled(monkeypatch):
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    with pytest.warns(UserWarning, match="cannot be stored in any folder: .*no locator") as said:
        assert [kernel()(1.0), kernel()(2.0)] == [2.5, 3.5]
    assert len(said) == 1


def test_temporary_files_of_killed_processes_are_removed(folder):
    kernel()(1.0)
    left = only_file(folder).with_name(f".kernel-uldnum-{'0af1' * 8}.nbc")
    left.touch()
    kernel()(1)
    assert left.exists()
    os.utime(left, (0, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kernel()(np.float32(1))
    assert not left.exists()

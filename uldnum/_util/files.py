"""Reading and writing files: nothing half-written is ever seen under its final name, and nothing stored is lost."""

from __future__ import annotations

import ctypes
import math
import os
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np

from uldnum._util.extras import require
from uldnum._util.interrupt import uninterrupted
from uldnum._util.memory import available_memory

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["atomic", "check_room", "check_store", "load", "remove_leftovers", "store", "writable_folder"]

# What temporary files are called; those that nobody has written to for so many seconds were left by killed processes.
TEMPORARY, LEFT = re.compile(r"\..*-uldnum-[0-9a-f]{32}(\.\w+)?"), 3600.0

# A dataset may declare this many times the bytes that it takes on the disk, which no compression of numbers reaches, or
# a number of bytes that does no harm.
RATIO, HARMLESS = 1000, 2**28

# After an error, threads of Zarr still write to a folder for less than so many seconds; then it can be removed.
SETTLED = 0.5

# Of renameat2(2): paths are relative to the working directory; the two names are swapped.
AT_FDCWD, RENAME_EXCHANGE = -100, 2


def beside(path: Path) -> Path:
    """Return a path in the same folder that nobody else has, and that is hidden."""
    return path.with_name(f".{path.stem}-uldnum-{uuid4().hex}{path.suffix}")


def not_written(path: Path, error: Exception) -> OSError:
    """Return the error that names the path and the reason."""
    return OSError(f"cannot write {str(path)!r}: {getattr(error, 'strerror', None) or error}")


@contextmanager
def atomic(path: Path, folder: bool = False) -> Iterator[Path]:
    """Give a temporary file, or folder, beside ``path`` to write to; rename it to ``path`` when all went well.

    Raises
    ------
    ValueError
        If nothing can be made there.
    OSError
        If it cannot be written; the message names the path and the reason.
    """
    new = beside(path)
    try:
        new.mkdir() if folder else new.touch(exist_ok=False)  # tempfile's are closed to all others
    except OSError as error:
        raise ValueError(f"path: {not_written(path, error)}") from None
    try:
        yield new
        put_folder(new, path) if folder else new.replace(path)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        remove(new)


def put_folder(new: Path, path: Path) -> None:
    """Rename a folder to ``path``, where another may be, so that after death at any moment `recover` finds one of them.

    A folder cannot be renamed onto another. Their names are swapped where the system can do that, else the old one
    steps aside first.
    """
    if path.exists() and swap(new, path):
        return
    recover(path)
    try:
        if path.exists():
            path.rename(aside(path))
        new.rename(path)
    finally:
        recover(path)


def aside(path: Path) -> Path:
    """Return the hidden name under which the old folder waits until the new one is in its place."""
    return path.with_name(f".{path.stem}-uldnum-old{path.suffix}")


def recover(path: Path) -> None:
    """Put a folder back in its place if a process died when it had stepped aside; remove it if the new one came."""
    old = aside(path)
    if old.exists() and path.exists():
        remove(old)
    elif old.exists():
        old.rename(path)


def swap(one: Path, other: Path) -> bool:
    """Swap the names of two folders in one step; returns whether the system and the file system could."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    paths = os.fsencode(one), os.fsencode(other)
    return rename is not None and rename(AT_FDCWD, paths[0], AT_FDCWD, paths[1], RENAME_EXCHANGE) == 0


def writable_folder(folder: Path, argument: str = "out") -> Path:
    """Make a folder if need be and check that files can be written to it, before any work is done.

    What killed processes left in it is removed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"{argument}: cannot write to {str(folder)!r}: {error.strerror}") from None
    remove_leftovers(folder)
    return folder


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that processes left when they were killed: what nobody has written to for an hour.

    The age is by the clock of the file system, which processes on other machines share.
    """
    with suppress(OSError):  # what cannot be removed does no harm
        with tempfile.TemporaryFile(dir=folder) as file:
            now = os.fstat(file.fileno()).st_mtime
        for path in folder.iterdir():
            if TEMPORARY.fullmatch(path.name) and now - last_change(path) > LEFT:
                remove(path)


def last_change(path: Path) -> float:
    """Return when a file, or anything in a folder, was written last; infinity if it is no longer there."""
    try:
        return max(part.lstat().st_mtime for part in (path, *path.rglob("*")))
    except OSError:
        return math.inf


def remove(path: Path) -> None:
    """Remove a file or a folder, where that is possible."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------------------ datasets


def check_store(path: Path) -> Path:
    """Raise early if a dataset could not be stored under this name: its suffix is .nc (NetCDF) or .zarr."""
    if path.suffix not in (".nc", ".zarr"):
        raise ValueError(f"path: the name of a dataset ends in .nc (NetCDF) or .zarr, got {str(path)!r}")
    if path.suffix == ".zarr":
        require("zarr", "zarr")
    recover(path)
    if path.exists() and path.is_dir() != (path.suffix == ".zarr"):
        raise ValueError(f"path: {str(path)!r} is there already, and is no {path.suffix} dataset")
    return path


def check_room(path: Path, needed: int, argument: str = "out") -> None:
    """Raise if so many bytes do not fit on the disk of a NetCDF file; Zarr compresses, so for it nothing is known."""
    free = shutil.disk_usage(path.parent).free
    if path.suffix == ".nc" and needed > free:
        raise ValueError(f"{argument}: {str(path)!r} will take {size(needed)}, and {size(free)} are free there")


def size(count: float) -> str:
    """Return a number of bytes as text."""
    power = min(4, int(math.log2(max(1, count)) // 10))
    value, unit = count / 1024**power, ("bytes", "KiB", "MiB", "GiB", "TiB")[power]
    return f"{value:.{3 if value < 999.5 else 4}g} {unit}"


def store(dataset: xr.Dataset, path: Path) -> None:
    """Write a dataset, atomically, in the format that the suffix says; Ctrl-C waits until it is written.

    Raises
    ------
    ValueError
        If the name is not one of a dataset, or nothing can be made there.
    OSError
        If it cannot be written; the message names the path and the reason. What was stored there before remains.
    """
    check_store(path)
    remove_leftovers(path.parent)
    with uninterrupted(), atomic(path, folder=path.suffix == ".zarr") as new:
        free = shutil.disk_usage(path.parent).free
        if path.suffix == ".zarr":
            try:
                dataset.to_zarr(new, mode="w", consolidated=False)
            except OSError:
                time.sleep(SETTLED)
                raise
            return
        try:
            dataset.to_netcdf(new, engine="netcdf4")
        except RuntimeError as error:  # the library does not say the reason
            raise OSError(f"{error}; the data take {size(dataset.nbytes)}, and {size(free)} are free there") from error


def load(path: Path) -> xr.Dataset:
    """Read a dataset that `store` wrote.

    Raises
    ------
    OSError, ValueError
        If there is no dataset, or it is damaged, or declares more than it can hold or than fits into the memory.
    """
    import xarray

    options = {"engine": "netcdf4"} if path.suffix != ".zarr" else {"engine": "zarr", "consolidated": False}
    if path.suffix == ".zarr":
        require("zarr", "zarr")
    recover(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # of Zarr, about parts that it does not recognise
            check_declared(path)
            return xarray.load_dataset(path, **options)
    except (OSError, ValueError):
        raise
    except Exception as error:  # of a damaged file, the libraries that read it say many things
        raise ValueError(f"{str(path)!r} is not a dataset: {error or type(error).__name__}") from None


def check_declared(path: Path) -> None:
    """Raise if a dataset declares more bytes than what is stored can hold, or than fit into the memory.

    They are counted before anything is read: a file of some KiB can declare any number.
    """
    declared = declared_by_zarr(path) if path.suffix == ".zarr" else declared_by_netcdf(path)
    stored = sum(part.lstat().st_size for part in (path, *path.rglob("*")))
    if declared > max(HARMLESS, RATIO * stored):
        raise ValueError(f"{str(path)!r} declares {size(declared)} of data, but is a file of {size(stored)}")
    if declared > (free := available_memory()):
        raise ValueError(f"{str(path)!r} has {size(declared)} of data, and {size(free)} of memory are free")


def declared_by_netcdf(path: Path) -> int:
    """Return the bytes that the variables of a NetCDF file will take, or the largest chunk of each if that is more."""
    import netCDF4

    with netCDF4.Dataset(path) as file:
        parts = [(variable, variable.chunking()) for variable in file.variables.values()]
        return sum(
            extent(variable.shape, chunks if isinstance(chunks, list) else [], variable.dtype)
            for variable, chunks in parts
        )


def declared_by_zarr(path: Path) -> int:
    """Return the bytes that the arrays of a folder of Zarr will take, or a chunk of each if that is more."""
    group = require("zarr", "zarr").open_group(path, mode="r", use_consolidated=False)
    return sum(extent(array.shape, array.shards or array.chunks, array.dtype) for _, array in group.arrays())


def extent(shape: tuple[int, ...], chunks: tuple[int, ...] | list[int], dtype: object) -> int:
    """Return the bytes of an array, or of one chunk if that is larger; a string has at least 8."""
    itemsize = max(8, np.dtype(dtype).itemsize)  # type: ignore[call-overload]
    return itemsize * max(math.prod(map(int, shape)), math.prod(map(int, chunks)) if chunks else 0)

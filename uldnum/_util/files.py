"""Atomic reading and writing of files: a file under its final name is always complete, and no stored file is lost."""

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

# Name pattern of temporary files, and the seconds without a write after which a temporary file counts as abandoned.
TEMPORARY, LEFT = re.compile(r"\..*-uldnum-[0-9a-f]{32}(\.\w+)?"), 3600.0

# Largest ratio of the declared size of a dataset to its size on disk; no compression of numbers reaches it. Datasets
# whose declared size is at most HARMLESS bytes are always accepted.
RATIO, HARMLESS = 1000, 2**28

# After an error, threads of Zarr may write to a folder for up to this many seconds. The folder can be removed
# afterwards.
SETTLED = 0.5

# Constants of renameat2(2): paths relative to the working directory, and exchange of the two names.
AT_FDCWD, RENAME_EXCHANGE = -100, 2


def beside(path: Path) -> Path:
    """Return a unique hidden path in the same folder."""
    return path.with_name(f".{path.stem}-uldnum-{uuid4().hex}{path.suffix}")


def not_written(path: Path, error: Exception) -> OSError:
    """Return an error that names the path and the reason."""
    return OSError(f"cannot write {str(path)!r}: {getattr(error, 'strerror', None) or error}")


@contextmanager
def atomic(path: Path, folder: bool = False) -> Iterator[Path]:
    """Yield a temporary file or folder in the folder of ``path``, and rename it to ``path`` if the block succeeds.

    Raises
    ------
    ValueError
        If no file can be created there.
    OSError
        If the file cannot be written. The message names the path and the reason.
    """
    new = beside(path)
    try:
        new.mkdir() if folder else new.touch(exist_ok=False)  # not by `tempfile`, whose files only the user can read
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
    """Rename a folder to ``path``, replacing a folder that exists there.

    A folder cannot be renamed onto another one. If the system supports it, the two names are exchanged. Otherwise the
    old folder is first renamed to `aside`. If the process is killed at any time, `recover` restores one of the two.
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
    """Return the hidden name of the old folder while the new one replaces it."""
    return path.with_name(f".{path.stem}-uldnum-old{path.suffix}")


def recover(path: Path) -> None:
    """Restore the old folder if a killed process had renamed it, or remove it if the new one is in place."""
    old = aside(path)
    if old.exists() and path.exists():
        remove(old)
    elif old.exists():
        old.rename(path)


def swap(one: Path, other: Path) -> bool:
    """Exchange the names of two folders atomically, and return whether the system supports it."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    paths = os.fsencode(one), os.fsencode(other)
    return rename is not None and rename(AT_FDCWD, paths[0], AT_FDCWD, paths[1], RENAME_EXCHANGE) == 0


def writable_folder(folder: Path, argument: str = "out") -> Path:
    """Create a folder if it does not exist, and raise if files cannot be written to it.

    Temporary files of killed processes in it are removed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"{argument}: must be a writable folder, got {str(folder)!r}: {error.strerror}") from None
    remove_leftovers(folder)
    return folder


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of killed processes: those without a write for an hour.

    The age is measured by the clock of the file system, which processes on other machines share.
    """
    with suppress(OSError):  # a temporary file that cannot be removed does no harm
        with tempfile.TemporaryFile(dir=folder) as file:
            now = os.fstat(file.fileno()).st_mtime
        for path in folder.iterdir():
            if TEMPORARY.fullmatch(path.name) and now - last_change(path) > LEFT:
                remove(path)


def last_change(path: Path) -> float:
    """Return the time of the last write to a file or anything in a folder; infinity if it does not exist."""
    try:
        return max(part.lstat().st_mtime for part in (path, *path.rglob("*")))
    except OSError:
        return math.inf


def remove(path: Path) -> None:
    """Remove a file or a folder, if possible."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------------------ datasets


def check_store(path: Path) -> Path:
    """Return a path, or raise if a dataset cannot be stored there; the suffix must be .nc (NetCDF) or .zarr."""
    if path.suffix not in (".nc", ".zarr"):
        raise ValueError(f"path: must end in .nc (NetCDF) or .zarr, got {str(path)!r}")
    if path.suffix == ".zarr":
        require("zarr", "zarr")
    recover(path)
    if path.exists() and path.is_dir() != (path.suffix == ".zarr"):
        raise ValueError(f"path: must be a file if it ends in .nc and a folder if it ends in .zarr, got {str(path)!r}")
    return path


def check_room(path: Path, needed: int, argument: str = "out") -> None:
    """Raise if a NetCDF file does not fit on its disk; the size of a compressed Zarr folder is unknown."""
    free = shutil.disk_usage(path.parent).free
    if path.suffix == ".nc" and needed > free:
        raise ValueError(f"{argument}: {str(path)!r} needs {size(needed)}, but only {size(free)} are free on its disk")


def size(count: float) -> str:
    """Return a number of bytes as text, such as "1.5 GiB"."""
    power = min(4, int(math.log2(max(1, count)) // 10))
    value, unit = count / 1024**power, ("bytes", "KiB", "MiB", "GiB", "TiB")[power]
    return f"{value:.{3 if value < 999.5 else 4}g} {unit}"


def store(dataset: xr.Dataset, path: Path, **groups: xr.Dataset) -> None:
    """Write a dataset atomically, in the format of the suffix; Ctrl-C takes effect after it is written.

    Parameters
    ----------
    dataset : Dataset
        Content of the root group, which `xarray.open_dataset` reads.
    path : Path
        File (NetCDF) or folder (Zarr).
    **groups : Dataset
        Contents of further groups, by name.

    Raises
    ------
    ValueError
        If the suffix is unknown, or no file can be created there.
    OSError
        If the dataset cannot be written. The message names the path and the reason. An existing file is unchanged.
    """
    check_store(path)
    remove_leftovers(path.parent)
    with uninterrupted(), atomic(path, folder=path.suffix == ".zarr") as new:
        free = shutil.disk_usage(path.parent).free
        if path.suffix == ".zarr":
            try:
                write_zarr(dataset, groups, new)
            except OSError:
                time.sleep(SETTLED)
                raise
            return
        try:
            dataset.to_netcdf(new, engine="netcdf4")
            for name, group in groups.items():
                group.to_netcdf(new, engine="netcdf4", group=name, mode="a")
        except RuntimeError as error:  # the message of the library does not state the reason
            needed = sum(part.nbytes for part in (dataset, *groups.values()))
            raise OSError(f"{error}; the data need {size(needed)}, and {size(free)} are free on the disk") from error


def write_zarr(dataset: xr.Dataset, groups: dict[str, xr.Dataset], path: Path) -> None:
    """Write a dataset and its groups to an empty folder, with consolidated metadata.

    xarray reads consolidated metadata by default and warns if there are none; Zarr warns of writing them, because they
    are not yet part of version 3 of its format.
    """
    for name, group in groups.items():
        group.to_zarr(path, group=name, mode="w", consolidated=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
        dataset.to_zarr(path, mode="a", consolidated=True)


def load(path: Path, group: str | None = None) -> xr.Dataset:
    """Read a dataset that `store` wrote: the root group, or another one.

    Raises
    ------
    OSError, ValueError
        If the dataset is missing or damaged, or if it declares more data than it can hold or than fit into memory.
    """
    import xarray

    options = {"engine": "netcdf4"} if path.suffix != ".zarr" else {"engine": "zarr", "consolidated": False}
    if path.suffix == ".zarr":
        require("zarr", "zarr")
    recover(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Zarr warns of parts that it does not recognise
            check_declared(path, group)
            return xarray.load_dataset(path, group=group, **options)
    except (OSError, ValueError):
        raise
    except Exception as error:  # libraries raise exceptions of any class for a damaged file
        raise ValueError(f"{str(path)!r} is not a dataset: {error or type(error).__name__}") from None


def check_declared(path: Path, group: str | None) -> None:
    """Raise if a group of a dataset declares more bytes than its file can hold, or than fit into memory.

    The check precedes reading, because a file of a few KiB can declare arrays of any size.
    """
    declared = (declared_by_zarr if path.suffix == ".zarr" else declared_by_netcdf)(path, group)
    stored = sum(part.lstat().st_size for part in (path, *path.rglob("*")))
    if declared > max(HARMLESS, RATIO * stored):
        raise ValueError(f"{str(path)!r} declares {size(declared)} of data, but has a size of {size(stored)}")
    if declared > (free := available_memory()):
        raise ValueError(f"{str(path)!r} has {size(declared)} of data, but only {size(free)} of memory are free")


def declared_by_netcdf(path: Path, group: str | None) -> int:
    """Return the number of bytes in memory of the variables of a NetCDF group, each at least the size of a chunk."""
    import netCDF4

    with netCDF4.Dataset(path) as file:
        found = file if group is None else file[group]
        parts = [(variable, variable.chunking()) for variable in found.variables.values()]
        return sum(
            extent(variable.shape, chunks if isinstance(chunks, list) else [], variable.dtype)
            for variable, chunks in parts
        )


def declared_by_zarr(path: Path, group: str | None) -> int:
    """Return the number of bytes in memory of the arrays of a Zarr group, each at least the size of a chunk."""
    found = require("zarr", "zarr").open_group(path, mode="r", path=group, use_consolidated=False)
    return sum(extent(array.shape, array.shards or array.chunks, array.dtype) for _, array in found.arrays())


def extent(shape: tuple[int, ...], chunks: tuple[int, ...] | list[int], dtype: object) -> int:
    """Return the number of bytes of an array, or of a chunk if that is larger. An element counts at least 8 bytes."""
    itemsize = max(8, np.dtype(dtype).itemsize)  # type: ignore[call-overload]
    return itemsize * max(math.prod(map(int, shape)), math.prod(map(int, chunks)) if chunks else 0)

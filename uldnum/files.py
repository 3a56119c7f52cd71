"""Writing files so that nothing half-written is ever seen under its final name."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from uldnum.extras import require

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["atomic", "check_store", "load", "store", "writable_folder"]


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


def writable_folder(folder: Path, argument: str = "out") -> Path:
    """Make a folder if need be and check that files can be written to it, before any work is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"{argument}: cannot write to {str(folder)!r}: {error.strerror}") from None
    return folder


def check_store(path: Path) -> Path:
    """Raise early if a dataset could not be stored under this name: its suffix is .nc (NetCDF) or .zarr."""
    if path.suffix not in (".nc", ".zarr"):
        raise ValueError(f"path: the name of a dataset ends in .nc (NetCDF) or .zarr, got {str(path)!r}")
    if path.suffix == ".zarr":
        require("zarr", "zarr")
    if path.exists() and path.is_dir() != (path.suffix == ".zarr"):
        raise ValueError(f"path: {str(path)!r} is there already, and is no {path.suffix} dataset")
    return path


def store(dataset: xr.Dataset, path: Path) -> None:
    """Write a dataset, atomically, in the format that the suffix says."""
    check_store(path)
    if path.suffix == ".nc":
        with atomic(path) as file:
            dataset.to_netcdf(file)
        return
    # A folder cannot be renamed onto another: the old one steps aside first.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
        new, old = Path(folder) / "new.zarr", Path(folder) / "old.zarr"
        dataset.to_zarr(new, consolidated=False)
        if path.exists():
            shutil.move(path, old)
        shutil.move(new, path)


def load(path: Path) -> xr.Dataset:
    """Read a dataset that `store` wrote."""
    import xarray

    if path.suffix != ".zarr":
        return xarray.load_dataset(path)
    require("zarr", "zarr")
    return xarray.load_dataset(path, engine="zarr", consolidated=False)

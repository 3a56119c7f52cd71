"""Writing files so that nothing half-written is ever seen under its final name."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from uldnum.extras import require

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["atomic", "check_store", "load", "store", "writable_folder"]


def beside(path: Path) -> Path:
    """Return a path in the same folder that nobody else has, and that is hidden."""
    return path.with_name(f".{path.stem}-{uuid4().hex}{path.suffix}")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; rename it to ``path`` when all went well."""
    new = beside(path)
    try:
        new.touch(exist_ok=False)  # tempfile's are closed to all others
    except OSError as error:
        raise ValueError(f"path: cannot write {str(path)!r}: {error.strerror}") from None
    try:
        yield new
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


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
    # A folder cannot be renamed onto another: the old one steps aside, beside it, and back if the new one cannot come.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
        new, old = Path(folder) / "new.zarr", beside(path)
        dataset.to_zarr(new, consolidated=False)
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except BaseException:
            if old.exists():
                old.rename(path)
            raise
    shutil.rmtree(old, ignore_errors=True)


def load(path: Path) -> xr.Dataset:
    """Read a dataset that `store` wrote."""
    import xarray

    if path.suffix != ".zarr":
        return xarray.load_dataset(path, engine="netcdf4")
    require("zarr", "zarr")
    return xarray.load_dataset(path, engine="zarr", consolidated=False)

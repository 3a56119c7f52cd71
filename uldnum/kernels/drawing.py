"""Random numbers of chains as arrays, compiled: those of initial states, and of images."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numba
import numpy as np

from uldnum.kernels import split_seed, values
from uldnum.kernels.blocks import KernelCache
from uldnum.kernels.lanes import core, jit
from uldnum.typing import Array

__all__ = ["chain_normals", "chain_uniforms"]

LANES = 32


@cache
def filler(dtype: np.dtype[Any], law: str) -> Any:
    """Return the kernel that fills rows of chains with their numbers, normal or uniform, four from each block."""
    bound = core(dtype, LANES)
    words, uniform = bound.words, bound.uniform
    view = values.view(LANES)

    @partial(jit, variant=f"{dtype}-{LANES}")
    def uniforms(w0, w1):  # type: ignore[no-untyped-def]
        return uniform(w0), uniform(w1)

    pair = bound.box_muller if law == "normal" else uniforms

    def fill(rows, block, chain, stream, k0, k1):  # type: ignore[no-untyped-def]
        # A lane for a block: a chain may have many of them, or only one.
        blocks, flat = rows.shape[1] // 4, rows.reshape(-1)
        memory, numbers = np.empty(4 * LANES, rows.dtype), np.empty(2 * LANES, np.uint64)
        four, places = view(memory, 0, 1), view(numbers, 0, 1)
        c, b = 0, 0
        for first in range(0, rows.shape[0] * blocks, LANES):
            for lane in range(LANES):
                numbers[lane], numbers[LANES + lane] = block + b, chain + c
                b += 1
                if b == blocks:
                    c, b = c + 1, 0
            w0, w1, w2, w3 = words(places[0], places[1], stream, k0, k1)
            four[0], four[1] = pair(w0, w1)
            four[2], four[3] = pair(w2, w3)
            for lane in range(min(LANES, rows.shape[0] * blocks - first)):
                for i in range(4):
                    flat[4 * (first + lane) + i] = memory[i * LANES + lane]

    fill.__qualname__ += f"-{law}-{dtype}-{LANES}"
    kernel = numba.njit(fill, nogil=True, error_model="numpy")
    kernel._cache = KernelCache(kernel.py_func)
    return kernel


def drawn(
    law: str, first: int, count: int, chain: int, n: int, stream: np.uint64, seed: int, dtype: np.dtype[Any]
) -> Array:
    """Return numbers first ... first + count - 1 of the streams of chains chain ... chain + n - 1, shape (n, count)."""
    begin = first // 4
    rows = np.empty((n, 4 * ((first + count + 3) // 4 - begin)), dtype)
    filler(dtype, law)(rows, begin, chain, stream, *split_seed(seed))
    return rows[:, first - 4 * begin :][:, :count]


chain_normals = partial(drawn, "normal")
chain_uniforms = partial(drawn, "uniform")

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

__all__ = ["chain_normals", "drawn"]

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
        # A lane for a block, of which a chain may have many or only one, and then for the block LANES further on.
        flat, memory = rows.reshape(-1), np.empty(4 * LANES, rows.dtype)
        total, blocks = len(flat) // 4, np.uint64(max(1, rows.shape[1] // 4))
        lane = np.arange(LANES).astype(np.uint64)
        b, c, b_step, c_step = lane % blocks, lane // blocks, np.uint64(LANES) % blocks, np.uint64(LANES) // blocks
        four, b_lanes, c_lanes = view(memory, 0, 1), view(b, 0, 1), view(c, 0, 1)
        for first in range(0, total, LANES):
            w0, w1, w2, w3 = words(b_lanes[0] + np.uint64(block), c_lanes[0] + np.uint64(chain), stream, k0, k1)
            four[0], four[1] = pair(w0, w1)
            four[2], four[3] = pair(w2, w3)
            for i in range(LANES):
                b[i] += b_step
                over = np.uint64(b[i] >= blocks)
                b[i] -= over * blocks
                c[i] += over + c_step
            for i in range(min(LANES, total - first)):
                for j in range(4):
                    flat[4 * (first + i) + j] = memory[j * LANES + i]

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

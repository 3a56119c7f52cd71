"""Compiled functions that return random numbers of chains as arrays, for initial states and the array executor."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np

from uldnum._util.typing import Array
from uldnum.jit import values
from uldnum.jit.compiling import compiled
from uldnum.kernels.numba.binding import core
from uldnum.kernels.source.core import split_seed

__all__ = ["chain_normals", "chain_uniforms", "drawn"]

LANES = 32


@cache
def filler(dtype: np.dtype[Any], law: str) -> Any:
    """Return the kernel that fills the rows of an array, one per chain, with normals or uniform numbers."""
    bound = core(dtype, LANES)
    numbers = bound.four_normals if law == "normal" else bound.four_uniforms
    view = values.view(LANES)

    def fill(rows, first, chain, stream, k0, k1):  # type: ignore[no-untyped-def]
        # Each lane computes one block of four numbers, then moves on by LANES blocks; a chain has ``each`` blocks.
        (n, count), flat, memory = rows.shape, rows.reshape(-1), np.empty(4 * LANES, rows.dtype)
        block, skipped = first // 4, first % 4
        each = (skipped + count + 3) // 4 if count > 0 else 0
        whole = skipped == 0 and count % 4 == 0
        total, blocks, lane = n * each, np.uint64(max(1, each)), np.arange(LANES).astype(np.uint64)
        b, c, b_step, c_step = lane % blocks, lane // blocks, np.uint64(LANES) % blocks, np.uint64(LANES) // blocks
        four, b_lanes, c_lanes = view(memory, 0, 1), view(b, 0, 1), view(c, 0, 1)
        for begin in range(0, total, LANES):
            four[0], four[1], four[2], four[3] = numbers(
                b_lanes[0] + np.uint64(block), c_lanes[0] + np.uint64(chain), stream, k0, k1
            )
            for i in range(min(LANES, total - begin)):
                at = 4 * np.int64(b[i]) - skipped
                for j in range(4):
                    if whole:
                        flat[4 * (begin + i) + j] = memory[j * LANES + i]
                    elif 0 <= at + j < count:
                        rows[c[i], at + j] = memory[j * LANES + i]
            for i in range(LANES):
                b[i] += b_step
                over = np.uint64(b[i] >= blocks)
                b[i] -= over * blocks
                c[i] += over + c_step

    fill.__qualname__ += f"-{law}-{dtype}-{LANES}"
    return compiled(fill)


def drawn(
    law: str, first: int, count: int, chain: int, n: int, stream: np.uint64, seed: int, dtype: np.dtype[Any]
) -> Array:
    """Return numbers first ... first + count - 1 of the streams of n chains, shape (n, count).

    The index of the first chain is ``chain``.
    """
    rows = np.empty((n, count), dtype)
    filler(dtype, law)(rows, first, chain, stream, *split_seed(seed))
    return rows


chain_normals = partial(drawn, "normal")
chain_uniforms = partial(drawn, "uniform")

"""Kernels that sum the squares of the normals and of the score of each chain, from which step sizes are chosen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import cuda, types

from uldnum.kernels.cuda.binding import Kernel, core, normals_from, number, ops, transfers
from uldnum.kernels.source.core import DYNAMICS

__all__ = ["LANES", "NormForm", "Sources", "sum_kernel", "total_kernel"]

# Maximum number of threads, and of partial sums, of a chain.
LANES = 128


class Sources(NamedTuple):
    """Scores of all chains on the GPU, and what determines their normals."""

    s: Any  # flat; item c size + i is chain c, coordinate i
    chains: int
    size: int
    first_chain: int
    first: int  # index of the first normal
    k0: Any
    k1: Any


@dataclass(frozen=True)
class NormForm:
    """Everything for which the kernel of partial sums is compiled.

    There are m normals per coordinate. ``shift`` is the position of the first one within a block of four, and ``whole``
    states whether the size of an image is a multiple of four.
    """

    dtype: str
    fast: bool
    m: int
    shift: int
    whole: bool


@cache
def sum_kernel(form: NormForm) -> Kernel:
    """Return the kernel of partial sums of squares in float64.

    Lane l of a chain adds blocks l, l + lanes, ... of four coordinates. Item 2 l chains + c of ``parts`` is the sum
    over the normals of chain c, and item (2 l + 1) chains + c is the sum over its score.
    """
    dtype = np.dtype(form.dtype)
    machine, real = ops(dtype, form.fast), dtype.type
    fill, as_double, fma = normals_from(core(dtype, form.fast)), machine.as_double, ops(np.dtype(float), False).fma
    load, _ = transfers(form.whole)
    m, shift = form.m, form.shift
    blocks = (shift + 4 * m + 3) // 4
    room = 4 * max(1, blocks)

    def squares(sources, lanes, parts):  # type: ignore[no-untyped-def]
        chains, size = sources.chains, sources.size
        thread = np.int64(cuda.grid(1))
        c, lane = thread // lanes, thread % lanes
        if c < chains:
            xi, s4 = cuda.local.array(room, real), cuda.local.array(4, real)
            chain = np.uint64(sources.first_chain + c)
            normals, scores = 0.0, 0.0
            for quad in range(lane, (size + 3) // 4, lanes):
                i = 4 * quad
                count = size - i
                load(s4, sources.s, c * size + i, count)
                fill(xi, (sources.first + i * m) // 4, blocks, chain, DYNAMICS, sources.k0, sources.k1)
                for j in range(4):
                    if j < count:
                        value = as_double(s4[j])
                        scores = fma(value, value, scores)
                        for n in range(m):
                            value = as_double(xi[shift + j * m + n])
                            normals = fma(value, value, normals)
            parts[2 * lane * chains + c] = normals
            parts[(2 * lane + 1) * chains + c] = scores

    whole, word, doubles = types.int64, types.uint64, types.Array(types.float64, 1, "C")
    kinds = {
        "sources": types.NamedTuple((types.CPointer(number(dtype)), *[whole] * 4, word, word), Sources),
        "lanes": whole,
        "parts": doubles,
    }
    return Kernel(squares, kinds, form)


@cache
def total_kernel() -> Kernel:
    """Return the kernel that adds the partial sums of all lanes in order."""

    def totals(parts, lanes, sums):  # type: ignore[no-untyped-def]
        n, count = cuda.grid(1), sums.shape[0]
        if n < count:
            total = 0.0
            for lane in range(lanes):
                total += parts[lane * count + n]
            sums[n] = total

    doubles = types.Array(types.float64, 1, "C")
    return Kernel(totals, {"parts": doubles, "lanes": types.int64, "sums": doubles}, "totals")

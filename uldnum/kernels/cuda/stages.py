"""The kernel that applies one map to images: one thread updates four coordinates of one chain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import cuda, types

from uldnum.kernels.cuda.binding import Kernel, core, normals_from, number, ops, transfers
from uldnum.kernels.source.core import DYNAMICS, READOUT, Tables

__all__ = ["Batch", "MapTable", "Numbers", "StageForm", "stage_kernel"]


class Batch(NamedTuple):
    """Arrays on the GPU that a map reads and writes; a chain diverges if row 0 leaves [least, most]."""

    new: Any  # flat; item (r chains + c) size + i is row r, chain c, coordinate i
    u: Any  # flat, in the same order
    s: Any  # flat; item c size + i is chain c, coordinate i
    least: Any  # (size,)
    most: Any  # (size,)
    escape_step: Any  # (chains,)


class MapTable(NamedTuple):
    """Coefficients of the maps of all chains, concatenated; if ``apart`` is 0, of one map for all chains."""

    dA: Any
    b: Any
    C: Any
    apart: int


class Numbers(NamedTuple):
    """Numbers of chains, coordinates and normals, the key, and the step to record for chains that diverge."""

    chains: int
    size: int
    first_chain: int
    first: int  # index of the first dynamics normal
    first_read: int  # index of the first readout normal
    k0: Any
    k1: Any
    now: Any


@dataclass(frozen=True)
class StageForm:
    """Everything for which the kernel of one map is compiled.

    The map reads k rows and writes ``rows`` of them, with m dynamics and e readout normals per coordinate. ``shift``
    and ``shift_read`` are the positions of a chain's first dynamics and readout normal within a block of four.
    ``whole`` states whether the size of an image is a multiple of four. A thread then transfers its four numbers
    together.
    """

    dtype: str
    fast: bool
    k: int
    rows: int
    m: int
    e: int
    shift: int
    shift_read: int
    whole: bool


@cache
def stage_kernel(form: StageForm) -> Kernel:
    """Return the kernel that draws the normals of four coordinates of one chain and applies a map to them."""
    dtype = np.dtype(form.dtype)
    machine, real = ops(dtype, form.fast), dtype.type
    bound = core(dtype, form.fast)
    affine, fill, row, tail = bound.affine, normals_from(bound), machine.row, machine.tail
    load, store = transfers(form.whole)
    k, rows, m, e, shift, shift_read = form.k, form.rows, form.m, form.e, form.shift, form.shift_read
    blocks, blocks_read = (shift + 4 * m + 3) // 4, (shift_read + 4 * e + 3) // 4
    n_xi, n_eta, most_normals = 4 * max(1, blocks), 4 * max(1, blocks_read), max(1, m + e)
    normals, readout = (m,), (e,)

    def update(images, of, numbers):  # type: ignore[no-untyped-def]
        chains, size = numbers.chains, numbers.size
        quads = np.uint32((size + 3) // 4)
        thread = np.uint32(cuda.grid(1))
        c, i = np.int64(thread // quads), np.int64(4 * (thread % quads))
        if c < chains:
            v, s4 = cuda.local.array((k, 4), real), cuda.local.array(4, real)
            low, high = cuda.local.array(4, real), cuda.local.array(4, real)
            xi, eta = cuda.local.array(n_xi, real), cuda.local.array(n_eta, real)
            dA, b = cuda.local.array((1, k, k), real), cuda.local.array((1, k), real)
            C = cuda.local.array((1, k, most_normals), real)
            begin = c * of.apart * k
            for r in range(k):
                b[0, r] = of.b[begin + r]
                for p in range(k):
                    dA[0, r, p] = of.dA[(begin + r) * k + p]
                for p in range(m + e):
                    C[0, r, p] = of.C[(begin + r) * (m + e) + p]
            count = size - i
            load(s4, images.s, c * size + i, count)
            load(low, images.least, i, count)
            load(high, images.most, i, count)
            for r in range(k):
                load(row(v, r), images.u, (r * chains + c) * size + i, count)
            chain = np.uint64(numbers.first_chain + c)
            fill(xi, (numbers.first + i * m) // 4, blocks, chain, DYNAMICS, numbers.k0, numbers.k1)
            fill(eta, (numbers.first_read + i * e) // 4, blocks_read, chain, READOUT, numbers.k0, numbers.k1)
            t = Tables(b, dA, b, C, normals, readout, normals, m, False, (True,), False, 0, 0, 0, False)
            affine(v, v, s4, tail(xi, shift), tail(eta, shift_read), t, 0, 4, rows, k, m, e)
            inside = True
            for j in range(4):
                inside = inside and (j >= count or low[j] <= v[0, j] <= high[j])
            for r in range(rows):
                store(images.new, (r * chains + c) * size + i, row(v, r), count)
            if not inside:
                cuda.atomic.min(images.escape_step, c, numbers.now)

    pointer, whole, word = types.CPointer(number(dtype)), types.int64, types.uint64
    kinds = {
        "images": types.NamedTuple((*[pointer] * 5, types.Array(types.int64, 1, "C")), Batch),
        "of": types.NamedTuple((pointer, pointer, pointer, whole), MapTable),
        "numbers": types.NamedTuple((*[whole] * 5, word, word, whole), Numbers),
    }
    return Kernel(update, kinds, form)

"""The kernel of one map of an image target: one thread updates four coordinates of one chain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numba import cuda, types

from uldnum.kernels.core import DYNAMICS, READOUT, Tables
from uldnum.kernels.cuda.binding import Kernel, core, normals_from, number, ops, transfers

__all__ = ["StageForm", "stage_kernel"]


@dataclass(frozen=True)
class StageForm:
    """What the kernel of one map of an image target is compiled for.

    It reads k rows and writes ``rows`` of them, with m normals of the dynamics and e of the reading per coordinate. The
    first normal of a chain comes at place ``shift`` in a block of four, the first of the reading at ``shift_read``. An
    image is ``whole`` if its size is a multiple of four: then a thread's numbers are moved four at once.
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
    """Return the kernel that applies a map to four coordinates of one chain: draws their normals, updates in place.

    Row r, chain c, coordinate i of u and new is number (r chains + c) size + i; of s, c size + i. Tables are those of
    chain c or, where ``apart`` is 0, of all. ``left`` is the first step ``now`` at which row 0 of a chain was outside
    [least, most].
    """
    dtype = np.dtype(form.dtype)
    machine, real = ops(dtype, form.fast), dtype.type
    bound = core(dtype, form.fast)
    affine, fill, row, tail = bound.affine, normals_from(bound), machine.row, machine.tail
    load, store = transfers(form.whole)
    k, rows, m, e, shift, shift_read = form.k, form.rows, form.m, form.e, form.shift, form.shift_read
    blocks, blocks_read = (shift + 4 * m + 3) // 4, (shift_read + 4 * e + 3) // 4
    n_xi, n_eta, most_normals = 4 * max(1, blocks), 4 * max(1, blocks_read), max(1, m + e)
    normals, readout = (m,), (e,)

    def update(  # type: ignore[no-untyped-def]
        new, u, s, dA_of, b_of, C_of, apart, chains, size, first_chain, first, first_read, k0, k1,
        least, most, now, left,
    ):  # fmt: skip
        quads = np.uint32((size + 3) // 4)
        thread = np.uint32(cuda.grid(1))
        c, i = np.int64(thread // quads), np.int64(4 * (thread % quads))
        if c < chains:
            v, s4 = cuda.local.array((k, 4), real), cuda.local.array(4, real)
            low, high = cuda.local.array(4, real), cuda.local.array(4, real)
            xi, eta = cuda.local.array(n_xi, real), cuda.local.array(n_eta, real)
            dA, b = cuda.local.array((1, k, k), real), cuda.local.array((1, k), real)
            C = cuda.local.array((1, k, most_normals), real)
            for r in range(k):
                b[0, r] = b_of[c * apart * k + r]
                for p in range(k):
                    dA[0, r, p] = dA_of[(c * apart * k + r) * k + p]
                for p in range(m + e):
                    C[0, r, p] = C_of[(c * apart * k + r) * (m + e) + p]
            count = size - i
            load(s4, s, c * size + i, count)
            load(low, least, i, count)
            load(high, most, i, count)
            for r in range(k):
                load(row(v, r), u, (r * chains + c) * size + i, count)
            chain = np.uint64(first_chain + c)
            fill(xi, (first + i * m) // 4, blocks, chain, DYNAMICS, k0, k1)
            fill(eta, (first_read + i * e) // 4, blocks_read, chain, READOUT, k0, k1)
            t = Tables(b, dA, b, C, normals, readout, normals, m, False, (True,), False, 0)
            affine(v, v, s4, tail(xi, shift), tail(eta, shift_read), t, 0, 4, rows, k, m, e)
            inside = True
            for j in range(4):
                inside = inside and (j >= count or low[j] <= v[0, j] <= high[j])
            for r in range(rows):
                store(new, (r * chains + c) * size + i, row(v, r), count)
            if not inside:
                cuda.atomic.min(left, c, now)

    pointers = dict.fromkeys(("new", "u", "s", "dA_of", "b_of", "C_of", "least", "most"), types.CPointer(number(dtype)))
    kinds = pointers | {"k0": types.uint64, "k1": types.uint64, "left": types.Array(types.int64, 1, "C")}
    names = update.__code__.co_varnames[: update.__code__.co_argcount]
    return Kernel(update, {name: kinds.get(name, types.int64) for name in names}, form)

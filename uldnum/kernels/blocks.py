"""Compiled code for vectors of chains: the core's steps, in loops over blocks of chains.

A block of chains, one in each lane, runs on its own in scratch memory that fits the first-level cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import numba
import numpy as np

from uldnum.kernels import values, vectors
from uldnum.kernels.cache import KernelCache, warn_unkept
from uldnum.kernels.chain import make_chain
from uldnum.kernels.core import Tables, Watch, group
from uldnum.kernels.lanes import core, jit, ops
from uldnum.kernels.lift import lift
from uldnum.kernels.values import borrowed

__all__ = ["Launch", "compiled", "lanes_of", "make_kernel", "mixture_kernel", "room", "user_kernel"]

# Normals of a chain that are drawn at once, at least, if there are so many; and the steps for which they are, at least:
# the moments of all of them are added together, and to go over these takes long in many dimensions.
NORMALS, STEPS = 64, 4


def room(t: Tables, d: int, width: int, longest: int) -> tuple[int, int, int, int, int]:
    """Return for what kernels make room: rows, steps whose normals are drawn at once, these, those of a reading.

    Last comes the scratch of the score. No part of the problem has more steps than the longest.
    """
    per_step, most, extra = (int(np.max(part)) for part in (t.per_step, t.normals, t.readout))
    chunk = max(1, min(longest, max(STEPS, NORMALS // max(1, d * per_step))))
    return t.b.shape[2], chunk, max(chunk * per_step, most), extra, width


def lanes_of(dtype: np.dtype[Any], d: int) -> int:
    """Chains in a block, by measurement: several registers, so that one instruction need not wait for the one before.

    In one dimension there is little else in the cache, and twice as many are faster still.
    """
    return 64 if d == 1 or dtype == np.float32 else 32


def compiled(function: Callable[..., Any], keep: bool = True) -> Any:
    """Return a kernel that Python calls, without the interpreter lock; kept on the disk, if its source is all ours."""
    kernel = numba.njit(function, nogil=True, error_model="numpy")
    if keep:
        try:
            kernel._cache = KernelCache(kernel.py_func)
        except (RuntimeError, OSError) as error:  # no folder can be written to
            warn_unkept("any folder", error)
    return kernel


group_of = jit(group)


@jit
def lent(t: Tables, w: Watch) -> tuple[Tables, Watch]:
    """Return tables and watch without counts of references."""
    tables = Tables(
        borrowed(t.G), borrowed(t.dA), borrowed(t.b), borrowed(t.C), borrowed(t.normals), borrowed(t.readout),
        borrowed(t.offset), t.per_step, t.open_uses_score, borrowed(t.plain), t.marked,
    )  # fmt: skip
    arrays = borrowed(w.centre), borrowed(w.least), borrowed(w.most), borrowed(w.low), borrowed(w.per_unit)
    return tables, Watch(w.record_from, w.bin_every, w.thin, *arrays)


def make_kernel(
    dtype: np.dtype[Any], lanes: int, score: Callable[..., Any], part_of: Callable[..., Any], variant: str
) -> Any:
    """Return the kernel for a score, to be compiled; the variant tells its name apart from those of others.

    ``part_of(problem, g, p)`` returns part p of a problem for group g: tables, target, watch, the two words of the key,
    the first and the last step, and how many steps all parts before have.
    """
    inlined = partial(jit, variant=variant)
    apart = partial(inlined, forceinline=False)  # what is called now and then need not be compiled where it is called
    machine, bound = ops(dtype, lanes), core(dtype, lanes)
    words, box_muller, affine, bin_of = bound.words, bound.box_muller, bound.affine, bound.bin_of
    bits, from_bits, tail = machine.bits, machine.from_bits, machine.tail
    view, iota = values.view(lanes), vectors.iota(lanes)
    line = 64  # bytes of a line of the cache: vectors that straddle two cost twice

    def draw(xi, first, count, chain, stream, k0, k1):  # type: ignore[no-untyped-def]
        # Two loops: a chain of dependent operations as long as both would leave too few of them in flight.
        begin, blocks = first // 4, (first % 4 + count + 3) // 4 if count > 0 else 0
        for b in range(blocks):
            w0, w1, w2, w3 = words(np.uint64(begin + b), chain, stream, k0, k1)
            xi[4 * b], xi[4 * b + 1] = from_bits(w0), from_bits(w1)
            xi[4 * b + 2], xi[4 * b + 3] = from_bits(w2), from_bits(w3)
        for pair in range(2 * blocks):
            xi[2 * pair], xi[2 * pair + 1] = box_muller(bits(xi[2 * pair]), bits(xi[2 * pair + 1]))
        return tail(xi, first - 4 * begin)

    def move(u, s, xi, t, j, d):  # type: ignore[no-untyped-def]
        # Constants where loops are short: the compiler then unrolls them.
        k, m = t.b.shape[1], t.normals[j]
        if k == 1 and m == 1:
            affine(u, u, s, xi, xi, t, j, d, 1, 1, 1, 0)
        elif k == 2 and m == 1:
            affine(u, u, s, xi, xi, t, j, d, 2, 2, 1, 0)
        elif k == 2 and m == 2:
            affine(u, u, s, xi, xi, t, j, d, 2, 2, 2, 0)
        else:
            affine(u, u, s, xi, xi, t, j, d, k, k, m, 0)

    def read(new, u, s, xi, eta, t, j, d, rows):  # type: ignore[no-untyped-def]
        k, m, e = t.b.shape[1], t.normals[j], t.readout[j]
        if k == 2 and m == 1 and rows == 1:
            affine(new, u, s, xi, eta, t, j, d, 1, 2, 1, e)
        else:
            affine(new, u, s, xi, eta, t, j, d, rows, k, m, e)

    def record(records, n, x, watch):  # type: ignore[no-untyped-def]
        (counts, trace, numbers, bins), kept, chain, active, place, spare = records
        if counts.shape[0] > 0 and n % watch.bin_every == 0:
            for i in range(counts.shape[0]):
                view(bins, spare // lanes, 1)[0] = bin_of(
                    x[0, i], watch.low[i], watch.per_unit[i], counts.shape[1] - 2.0
                )
                for c in range(active):
                    counts[i, bins[spare + c]] += 1
        if watch.thin > 0 and (n + 1) % watch.thin == 0:
            for c in range(active):
                for i in range(trace.shape[2]):
                    trace[(n + 1) // watch.thin - 1 - kept, chain + c, i] = numbers[place + i * lanes + c]

    named = machine._replace(jit=inlined)
    chain = make_chain(named, bound, score, apart(draw), inlined(move), apart(read), apart(record))
    enter_chain, advance_chain, part = chain.enter, chain.advance, jit(part_of)

    @inlined
    def scratch(count, like):  # type: ignore[no-untyped-def]
        """Aligned memory for a number of vectors."""
        memory = np.zeros(count * lanes + line, like.dtype)
        return memory[(line - memory.ctypes.data % line) % line // like.itemsize :]

    @apart
    def take(numbers, table, lo, hi):  # type: ignore[no-untyped-def]
        """Copy chains lo ... hi - 1 of (chains, n) into vectors; idle lanes repeat the last one."""
        for c in range(lanes):
            for i in range(table.shape[1]):
                numbers[i * lanes + c] = table[min(lo + c, hi - 1), i]

    @apart
    def give(numbers, table, lo, hi):  # type: ignore[no-untyped-def]
        """Copy vectors into chains lo ... hi - 1 of (chains, n)."""
        for c in range(lo, hi):
            for i in range(table.shape[1]):
                table[c, i] = numbers[i * lanes + c - lo]

    def advance(  # type: ignore[no-untyped-def]
        g, lo, hi, first, last, tile, begin, problem, room, first_chain,
        u_of, xp_of, nfe, sums_of, products_of, left_of, counts, trace, kept,
    ):  # fmt: skip
        """Take chains lo ... hi - 1 of group g through parts first ... last - 1, entering the recurrence if to begin.

        So many blocks, a tile, go through a part before the next one begins.
        """
        k, chunk, normals, extra, width = room
        d = u_of.shape[2] // k
        n_xi, n_eta = 4 * (d * normals // 4 + 2), 4 * (d * extra * chunk // 4 + 2)
        axes, pairs = sums_of.shape[2], products_of.shape[2]
        # Views do not keep memory: these arrays do, for they are used to the end.
        rows, place = k * d, 2 * k * d * tile
        reals = scratch(place + 2 * d + width + n_xi + n_eta, u_of)
        doubles = scratch((axes + pairs) * tile + chunk * axes, sums_of)
        indices = scratch(tile + 1, left_of)
        books = borrowed(counts), borrowed(trace[:, g]), borrowed(reals), borrowed(indices)
        y, s = view(reals, place, d), view(reals, place + d, d)
        q, xi = view(reals, place + 2 * d, 1), view(reals, place + 2 * d + width, 1)
        eta = view(reals, place + 2 * d + width + n_xi, 1)
        gaps, left = view(doubles, (axes + pairs) * tile, axes), view(indices, 0, 1)
        for start in range(lo, hi, lanes * tile):
            blocks = min(tile, (hi - start + lanes - 1) // lanes)
            for b in range(blocks):
                low, high = start + b * lanes, min(start + (b + 1) * lanes, hi)
                take(reals[2 * rows * b * lanes :], u_of[g], low, high)
                take(reals[(2 * b + 1) * rows * lanes :], xp_of[g], low, high)
                take(doubles[(axes + pairs) * b * lanes :], sums_of[g], low, high)
                take(doubles[((axes + pairs) * b + axes) * lanes :], products_of[g], low, high)
                take(indices[b * lanes :], left_of[g], low, high)
            evaluations = 0
            for p in range(first, last):
                t, target, watch, (k0, k1), (step, end), before = part(problem, g, p)
                t, watch = lent(t, watch)
                recording = axes > 0 and end >= watch.record_from
                entered, taken = 0, 0
                for b in range(blocks):
                    low, high = start + b * lanes, min(start + (b + 1) * lanes, hi)
                    chains = iota() + np.uint64(first_chain + low)
                    u, xp = view(reals, 2 * rows * b, d), view(reals, (2 * b + 1) * rows, d)
                    sums = view(doubles, (axes + pairs) * b, axes)
                    products = view(doubles, (axes + pairs) * b + axes, pairs)
                    if begin:
                        entered = enter_chain(u, xp, s, q, xi, target, t, d, k, chains, k0, k1)
                    records = (books, kept, low, high - low, (2 * b + 1) * rows * lanes, tile * lanes)
                    taken, escaped = advance_chain(
                        u, xp, y, s, q, xi, eta, gaps, target, t, d, k, chains, k0, k1,
                        step, end, step, chunk, watch, recording, sums, products, records, left[b] - before,
                    )  # fmt: skip
                    left[b] = escaped + before
                evaluations += entered + taken
            for b in range(blocks):
                low, high = start + b * lanes, min(start + (b + 1) * lanes, hi)
                give(reals[2 * rows * b * lanes :], u_of[g], low, high)
                give(reals[(2 * b + 1) * rows * lanes :], xp_of[g], low, high)
                give(doubles[(axes + pairs) * b * lanes :], sums_of[g], low, high)
                give(doubles[((axes + pairs) * b + axes) * lanes :], products_of[g], low, high)
                give(indices[b * lanes :], left_of[g], low, high)
                for c in range(low, high):
                    nfe[g, c] += evaluations

    advance.__qualname__ += f"-{variant}"
    return advance


class Launch(NamedTuple):
    """Steps of one scheme on one target."""

    tables: Tables
    target: Any
    watch: Watch
    k0: np.uint64
    k1: np.uint64
    step: int
    last: int


def whole(problem: Launch, g: int, p: int) -> tuple[Any, ...]:
    """Return the one part of a launch, with the tables of group g."""
    key, steps = (problem.k0, problem.k1), (problem.step, problem.last)
    return group_of(problem.tables, g), problem.target, problem.watch, key, steps, 0


@cache
def mixture_kernel(dtype: np.dtype[Any], lanes: int, columns: int, part: Callable[..., Any] = whole) -> Any:
    """Return the kernel for mixtures whose matrices have so many columns: 0, 1, or 2 for any other number."""
    mixture_score = core(dtype, lanes).mixture_score

    @partial(jit, variant=f"{dtype}-{lanes}-{columns}")
    def score(s, q, y, target, d):  # type: ignore[no-untyped-def]
        mixture_score(s, q, y, target, d, columns if columns < 2 else d)

    return compiled(make_kernel(dtype, lanes, score, part, f"{dtype}-{lanes}-mixture-{columns}-{part.__name__}"))


@lru_cache(16)
def user_kernel(dtype: np.dtype[Any], lanes: int, user_score: Any, arguments: tuple[Any, ...]) -> tuple[Any, str]:
    """Return the kernel for a user's score with arguments of given types, and why it does not run on vectors."""
    score, fault = lift(user_score, dtype, lanes, arguments)
    return compiled(make_kernel(dtype, lanes, score, whole, f"{dtype}-{lanes}-user"), keep=False), fault

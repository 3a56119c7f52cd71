"""Compiled kernels of the Numba executor, which apply the time steps of `source.chain` to blocks of chains.

A block contains one chain per lane. It advances in scratch memory that fits into the first-level cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from uldnum.jit import values, vectors
from uldnum.jit.compiling import compiled, jit
from uldnum.jit.values import borrowed
from uldnum.kernels.numba.binding import core, ops
from uldnum.kernels.numba.lift import lift, lift_density
from uldnum.kernels.source.chain import Bounds, Carried, Chain, Scratch, Span, Stream, make_chain
from uldnum.kernels.source.core import METROPOLIS, Recording, Tables, phase
from uldnum.kernels.source.mixture import MixtureData

__all__ = ["Room", "lanes_of", "mixture_kernel", "room", "user_kernel"]

# Largest number of normals of each chain that are drawn together, unless one step needs more. The steps that use them
# are a window.
NORMALS = 64


class Room(NamedTuple):
    """Sizes of the scratch memory of a kernel."""

    rows: int
    window: int  # number of steps whose normals are drawn together
    normals: int  # number of dynamics normals per coordinate in a window
    extra: int  # number of readout normals per coordinate and step
    scratch: int  # number of scratch values of the score


def room(t: Tables, d: int, scratch: int, longest: int) -> Room:
    """Return the sizes of the scratch memory.

    A launch runs one part of each of one or several phases. ``longest`` is the largest number of steps of a part.
    """
    per_step, most, extra = (int(np.max(part)) for part in (t.per_step, t.normals, t.readout))
    window = max(1, min(longest, NORMALS // max(1, d * per_step)))
    return Room(t.b.shape[2], window, max(window * per_step, most), extra, scratch)


def lanes_of(dtype: np.dtype[Any], d: int) -> int:
    """Return the number of chains in a block, which was chosen by measurement.

    A block fills several registers, so that consecutive instructions are independent. In one dimension a block needs
    little of the cache, and in float64 twice as many lanes are faster still.
    """
    return 64 if d == 1 or dtype == np.float32 else 32


phase_of = jit(phase)


@jit
def part_of(launch, g, p):  # type: ignore[no-untyped-def]
    """Return the tables, the recording and the divergence bounds of part p for group g, the chains of step size g."""
    t, w = phase_of(launch.tables, g, launch.phase + p), launch.recording
    record_from = w.record_from - launch.before[p]
    recording = Recording(
        w.moments, w.rows, record_from, w.every, w.bin_every, w.thin, w.centre, w.low, w.per_unit, w.frame
    )
    return borrowed((t, recording, Bounds(launch.least[p], launch.most[p])))


@jit
def mixture_at(mixture, p):  # type: ignore[no-untyped-def]
    """Return the mixture of part p."""
    return borrowed(MixtureData(mixture.log2_weights[p], mixture.precisions[p], mixture.roots[p], mixture.shifts[p]))


@jit
def user_arguments(arguments, p):  # type: ignore[no-untyped-def]
    """Return the arguments of a user's score; a launch with such a score has a single part."""
    return arguments


def make_kernel(
    dtype: np.dtype[Any], lanes: int, score: Callable[..., Any], target_of: Callable[..., Any], variant: str,
    evaluate: Callable[..., Any] | None = None,
) -> Any:  # fmt: skip
    """Return the uncompiled kernel for a score; ``variant`` makes its name unique among all kernels.

    ``target_of(targets, p)`` returns the data that the score reads in part p of a launch. ``evaluate`` is that of
    `make_chain`.
    """
    inlined = partial(jit, variant=variant)
    apart = partial(inlined, forceinline=False)  # for functions that are called rarely; inlining slows compilation
    machine, bound = ops(dtype, lanes), core(dtype, lanes)
    words, box_muller, affine, bin_of = bound.words, bound.box_muller, bound.affine, bound.bin_of
    uniform, log = bound.uniform, bound.functions.log
    outward, row = bound.outward, machine.row
    bits, from_bits, tail = machine.bits, machine.from_bits, machine.tail
    view, iota = values.view(lanes), vectors.iota(lanes)
    line = 64  # bytes of a cache line: access to a vector that straddles two lines takes twice as long

    def draw(xi, first, count, kind, stream):  # type: ignore[no-untyped-def]
        # One loop computes the random words, another the normals. In a single loop, each iteration would have so many
        # dependent operations that the processor could not overlap iterations.
        begin, blocks = first // 4, (first % 4 + count + 3) // 4 if count > 0 else 0
        for b in range(blocks):
            w0, w1, w2, w3 = words(np.uint64(begin + b), stream.chain, kind, stream.k0, stream.k1)
            xi[4 * b], xi[4 * b + 1] = from_bits(w0), from_bits(w1)
            xi[4 * b + 2], xi[4 * b + 3] = from_bits(w2), from_bits(w3)
        for pair in range(2 * blocks):
            xi[2 * pair], xi[2 * pair + 1] = box_muller(bits(xi[2 * pair]), bits(xi[2 * pair + 1]))
        return tail(xi, first - 4 * begin)

    draw_apart = apart(draw)

    @apart
    def log_uniforms(xi, first, count, stream):  # type: ignore[no-untyped-def]
        begin = first // 4
        for b in range((first % 4 + count + 3) // 4):
            w0, w1, w2, w3 = words(np.uint64(begin + b), stream.chain, METROPOLIS, stream.k0, stream.k1)
            xi[4 * b], xi[4 * b + 1], xi[4 * b + 2], xi[4 * b + 3] = uniform(w0), uniform(w1), uniform(w2), uniform(w3)
            for j in range(4 * b, 4 * b + 4):
                xi[j] = log(xi[j])
        return tail(xi, first - 4 * begin)

    def draw_either(xi, first, count, kind, stream):  # type: ignore[no-untyped-def]
        if kind == METROPOLIS:
            return log_uniforms(xi, first, count, stream)
        return draw_apart(xi, first, count, kind, stream)

    def move(u, s, xi, t, j, d):  # type: ignore[no-untyped-def]
        # The common cases use constants, so that the compiler unrolls the loops.
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
        # Readout normals that are not drawn, because the first rows do not need them, are multiplied by 0.
        k, m, e = t.b.shape[1], t.normals[j], t.readout[j]
        if k == 2 and m == 1 and rows == 1:
            affine(new, u, s, xi, eta, t, j, d, 1, 2, 1, e)
        elif k == 2 and m == 1:
            affine(new, u, s, xi, eta, t, j, d, 2, 2, 1, e)
        else:
            affine(new, u, s, xi, eta, t, j, d, rows, k, m, e)

    def place(x, recording, d):  # type: ignore[no-untyped-def]
        if recording.frame.shape[1] > 0:
            outward(row(x, 0), recording.frame, d, recording.frame.shape[1])

    def count(records, x, recording):  # type: ignore[no-untyped-def]
        (counts, _, _, bins), _, _, active, _, spare = records
        for i in range(counts.shape[0]):
            view(bins, spare // lanes, 1)[0] = bin_of(
                x[0, i], recording.low[i], recording.per_unit[i], counts.shape[1] - 2.0
            )
            for c in range(active):
                counts[i, bins[spare + c]] += 1

    def keep(records, x, number):  # type: ignore[no-untyped-def]
        (_, trace, numbers, _), kept, chain, active, place, _ = records
        for c in range(active):
            for i in range(trace.shape[2]):
                trace[number - kept, chain + c, i] = numbers[place + i * lanes + c]

    named = machine._replace(jit=inlined)
    tested = evaluate is not None
    steps = make_chain(
        named, bound, score, inlined(draw_either) if tested else draw_apart, inlined(move),
        apart(read), apart(place), apart(count), apart(keep), evaluate,
    )  # fmt: skip
    enter_chain, advance_chain = steps.enter, steps.advance

    @inlined
    def scratch(count, like):  # type: ignore[no-untyped-def]
        """Return memory for a number of vectors, aligned to cache lines."""
        memory = np.zeros(count * lanes + line, like.dtype)
        return memory[(line - memory.ctypes.data % line) % line // like.itemsize :]

    @apart
    def take(numbers, table, lo, hi):  # type: ignore[no-untyped-def]
        """Copy chains lo ... hi - 1 of a (chains, n) array into vectors; unused lanes repeat the last chain."""
        for c in range(lanes):
            for i in range(table.shape[1]):
                numbers[i * lanes + c] = table[min(lo + c, hi - 1), i]

    @apart
    def give(numbers, table, lo, hi):  # type: ignore[no-untyped-def]
        """Copy vectors into chains lo ... hi - 1 of a (chains, n) array."""
        for c in range(lo, hi):
            for i in range(table.shape[1]):
                table[c, i] = numbers[i * lanes + c - lo]

    def advance(g, lo, hi, batch, tile, launch, room, chains):  # type: ignore[no-untyped-def]
        """Advance chains lo ... hi - 1 of group g through all parts of a launch.

        Histograms are counted in batch ``batch``. ``tile`` consecutive blocks finish a part before any of
        them starts the next part.
        """
        k, window, normals, extra, width = room
        d = chains.u.shape[2] // k
        n_xi, n_eta, n_log_u = 4 * (d * normals // 4 + 2), 4 * (d * extra * window // 4 + 2), 4 * (window // 4 + 2)
        axes, pairs = chains.sums.shape[2], chains.products.shape[2]
        # A chain with Metropolis tests carries a score, a log density (one) and a count of accepted steps (one).
        carried, one = chains.carried.score.shape[2], chains.carried.accepted.shape[2]
        # Views do not own memory. The arrays below are used until the end of the function, so they stay allocated.
        rows, place = k * d, 2 * k * d * tile
        scores = place + 2 * d + width + n_xi + n_eta + n_log_u
        densities = (axes + pairs) * tile + axes
        reals = scratch(scores + carried * tile, chains.u)
        doubles = scratch(densities + one * tile, chains.sums)
        indices = scratch((1 + one) * tile + 1, chains.escape_step)
        books = borrowed(chains.counts[g, batch]), borrowed(chains.trace[:, g]), borrowed(reals), borrowed(indices)
        scratch_of_chain = Scratch(
            view(reals, place, d), view(reals, place + d, d), view(reals, place + 2 * d, 1),
            view(reals, place + 2 * d + width, 1), view(reals, place + 2 * d + width + n_xi, 1),
            view(reals, scores - n_log_u, 1), view(doubles, (axes + pairs) * tile, axes),
        )  # fmt: skip
        escape_step = view(indices, 0, 1)
        for start in range(lo, hi, lanes * tile):
            blocks = min(tile, (hi - start + lanes - 1) // lanes)
            for b in range(blocks):
                low, high = start + b * lanes, min(start + (b + 1) * lanes, hi)
                take(reals[2 * rows * b * lanes :], chains.u[g], low, high)
                take(reals[(2 * b + 1) * rows * lanes :], chains.phase_space[g], low, high)
                take(doubles[(axes + pairs) * b * lanes :], chains.sums[g], low, high)
                take(doubles[((axes + pairs) * b + axes) * lanes :], chains.products[g], low, high)
                take(indices[b * lanes :], chains.escape_step[g], low, high)
                if tested:
                    take(reals[(scores + carried * b) * lanes :], chains.carried.score[g], low, high)
                    take(doubles[(densities + b) * lanes :], chains.carried.log_density[g], low, high)
                    take(indices[(tile + 1 + b) * lanes :], chains.carried.accepted[g], low, high)
            evaluations = 0
            for p in range(len(launch.first)):
                t, recording, bounds = part_of(launch, g, p)
                target, k0, k1 = target_of(launch.target, p), launch.keys[p, 0], launch.keys[p, 1]
                step, before = launch.first[p], launch.before[p]
                span = Span(step, launch.last[p], launch.begin[p], window)
                entered, taken = 0, 0
                for b in range(blocks):
                    low, high = start + b * lanes, min(start + (b + 1) * lanes, hi)
                    stream = Stream(iota() + np.uint64(launch.first_chain + low), k0, k1)
                    chain = Chain(
                        view(reals, 2 * rows * b, d), view(reals, (2 * b + 1) * rows, d),
                        view(doubles, (axes + pairs) * b, axes), view(doubles, (axes + pairs) * b + axes, pairs),
                        Carried(
                            view(reals, scores + carried * b, d), view(doubles, densities + b, 1),
                            view(indices, tile + 1 + b, 1),
                        ),
                    )  # fmt: skip
                    if step == 1:
                        entered = enter_chain(chain, scratch_of_chain, target, t, d, k, stream)
                    records = (books, chains.kept, low, high - low, (2 * b + 1) * rows * lanes, tile * lanes)
                    taken, escaped = advance_chain(
                        chain, scratch_of_chain, target, t, d, k, stream, span, bounds, recording, records,
                        escape_step[b] - before,
                    )  # fmt: skip
                    escape_step[b] = escaped + before
                evaluations += entered + taken
            for b in range(blocks):
                low, high = start + b * lanes, min(start + (b + 1) * lanes, hi)
                give(reals[2 * rows * b * lanes :], chains.u[g], low, high)
                give(reals[(2 * b + 1) * rows * lanes :], chains.phase_space[g], low, high)
                give(doubles[(axes + pairs) * b * lanes :], chains.sums[g], low, high)
                give(doubles[((axes + pairs) * b + axes) * lanes :], chains.products[g], low, high)
                give(indices[b * lanes :], chains.escape_step[g], low, high)
                if tested:
                    give(reals[(scores + carried * b) * lanes :], chains.carried.score[g], low, high)
                    give(doubles[(densities + b) * lanes :], chains.carried.log_density[g], low, high)
                    give(indices[(tile + 1 + b) * lanes :], chains.carried.accepted[g], low, high)
                for c in range(low, high):
                    chains.nfe[g, c] += evaluations

    advance.__qualname__ += f"-{variant}"
    return advance


@cache
def mixture_kernel(dtype: np.dtype[Any], lanes: int, columns: int, metropolised: bool = False) -> Any:
    """Return the kernel for mixtures whose matrices R have 0, 1 or more columns (``columns`` is 0, 1 or 2)."""
    mixture_score, mixture_log_density = core(dtype, lanes).mixture_score, core(dtype, lanes).mixture_log_density

    @partial(jit, variant=f"{dtype}-{lanes}-{columns}")
    def score(s, q, y, target, d):  # type: ignore[no-untyped-def]
        mixture_score(s, q, y, target, d, columns if columns < 2 else d, len(target.precisions) > 1)

    @partial(jit, variant=f"{dtype}-{lanes}-{columns}")
    def density(s, q, y, target, d, needed):  # type: ignore[no-untyped-def]
        top, total = mixture_score(s, q, y, target, d, columns if columns < 2 else d, len(target.precisions) > 1)
        return mixture_log_density(top, total)

    variant = f"{dtype}-{lanes}-mixture-{columns}"
    if metropolised:
        return compiled(make_kernel(dtype, lanes, score, mixture_at, f"{variant}-metropolis", density))
    return compiled(make_kernel(dtype, lanes, score, mixture_at, variant))


def in_frame(score: Callable[..., Any], dtype: np.dtype[Any], lanes: int) -> Callable[..., Any]:
    """Return the function that evaluates a score at F y and multiplies it by F^T; q holds F y before its own memory.

    Further arguments and the result are those of ``score``.
    """
    outward, inward, tail = core(dtype, lanes).outward, core(dtype, lanes).inward, ops(dtype, lanes).tail

    @jit
    def framed(s, q, y, target, d, *further):  # type: ignore[no-untyped-def]
        frame, arguments = target
        for i in range(d):
            q[i] = y[i]
        outward(q, frame, d, frame.shape[1])
        result = score(s, tail(q, d), q, arguments, d, *further)
        inward(s, frame, d, frame.shape[1])
        return result

    return framed


@lru_cache(16)
def user_kernel(
    dtype: np.dtype[Any], lanes: int, user_score: Any, kinds: tuple[Any, ...], framed: bool,
    user_density: Any = None, density_kinds: tuple[Any, ...] = (),
) -> tuple[Any, dict[str, str]]:  # fmt: skip
    """Return the kernel for a user's score, and why the functions of the user do not run on vectors.

    The second value has an empty string for each function that runs on vectors. The kernel reads the arguments of the
    score, whose types are ``kinds``. If ``framed`` is true, it reads the frame of the target
    (`uldnum.targets.Target.frame`) and the arguments.

    With a log density, the kernel is that of steps with Metropolis tests, and reads the pair of the arguments of both
    functions in place of the arguments of the score. If the log density is the score function itself, one call returns
    both.
    """
    combined = user_density is user_score
    score, fault = lift(user_score, dtype, lanes, kinds, combined)
    faults, variant = {"score": fault}, f"{dtype}-{lanes}-user"
    evaluate: Any = None
    if user_density is not None:
        variant = f"{variant}-metropolis"
        if not combined:
            log_density, faults["log density"] = lift_density(user_density, dtype, lanes, density_kinds)

        @jit
        def both(s, q, y, target, d, needed):  # type: ignore[no-untyped-def]
            found = score(s, q, y, target[0], d)
            if combined:
                return found
            return log_density(q, y, target[1], d) if needed else 0.0

        evaluate = both

    parts = [part and in_frame(part, dtype, lanes) if framed else part for part in (score, evaluate)]
    kernel = make_kernel(dtype, lanes, parts[0], user_arguments, variant, parts[1])
    return compiled(kernel, keep=False), faults

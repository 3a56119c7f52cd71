"""The kernels of chains on mixtures: one thread runs one chain, many steps at once."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import cuda, types

from uldnum.kernels.chain import make_chain
from uldnum.kernels.core import READOUT, Tables, Watch
from uldnum.kernels.cuda.binding import Kernel, core, inline, jit, normals_from, number, ops
from uldnum.kernels.cuda.form import Form
from uldnum.kernels.mixture import MixtureData

__all__ = ["chain_kernels"]


@cache
def chain_parts(form: Form) -> SimpleNamespace:
    """Return the parts of the kernels: the steps of a chain, and where its tables, its mixture and its memory are."""
    dtype = np.dtype(form.dtype)
    machine, real = ops(dtype, form.fast), dtype.type
    bound = core(dtype, form.fast)
    affine, bin_of, mixture_score = bound.affine, bound.bin_of, bound.mixture_score
    fill, tail = normals_from(bound), machine.tail
    d, k, K, window, moments = form.d, form.rows, form.components, form.window, form.moments
    near, small, known = form.near, form.small, form.known
    columns = form.columns if form.columns < 2 else d
    width = max(columns, 1)
    pairs, scratch, maps, stages = form.pairs, form.scratch, len(form.normals), len(form.plain)
    most = max(m + e for m, e in zip(form.normals, form.readout, strict=True))
    room = max(1, most)  # an array of no numbers is none to Numba
    normals, readout, offset, plain = form.normals, form.readout, form.offset, form.plain
    per_step, open_uses_score, marked = form.per_step, form.open_uses_score, form.marked
    n_xi, n_eta = form.drawn

    def drawer(dynamics: int) -> Any:
        """Return the function that draws normals; ``dynamics`` says which of `Form.blocks` are not the reading's."""
        shifts, counts = form.first, form.blocks
        shift, count, shift_read, count_read = shifts[dynamics], counts[dynamics], shifts[2], counts[2]

        @inline
        def draw(xi, first, needed, chain, stream, k0, k1):  # type: ignore[no-untyped-def]
            blocks, begin = (count_read, shift_read) if stream == READOUT else (count, shift)
            if not known:
                begin = first % 4
                blocks = (begin + needed + 3) // 4
            if needed > 0:
                fill(xi, first // 4, blocks, chain, stream, k0, k1)
            return tail(xi, begin)

        return draw

    @jit
    def score(s, q, y, target, d):  # type: ignore[no-untyped-def]
        mixture_score(s, q, y, target, d, columns)

    @jit
    def move(u, s, xi, t, j, d):  # type: ignore[no-untyped-def]
        affine(u, u, s, xi, xi, t, j, d, k, k, t.normals[j], 0)

    @jit
    def read(new, u, s, xi, eta, t, j, d, rows):  # type: ignore[no-untyped-def]
        # Constant numbers of rows: places in registers must be known.
        if rows == 1:
            affine(new, u, s, xi, eta, t, j, d, 1, k, t.normals[j], t.readout[j])
        else:
            affine(new, u, s, xi, eta, t, j, d, k, k, t.normals[j], t.readout[j])

    @jit
    def record(records, n, x, watch):  # type: ignore[no-untyped-def]
        counts, trace, kept, g, batch, c = records
        if counts.shape[2] > 0 and n % watch.bin_every == 0:
            for i in range(d):
                bin = bin_of(x[0, i], watch.low[i], watch.per_unit[i], counts.shape[3] - 2.0)
                cuda.atomic.add(counts, (g, batch, i, bin), 1)
        if watch.thin > 0 and (n + 1) % watch.thin == 0:
            for i in range(d):
                trace[(n + 1) // watch.thin - 1 - kept, g, c, i] = x[0, i]

    @jit
    def forget(records, n, x, watch):  # type: ignore[no-untyped-def]
        pass

    def steps(dynamics: int, record: Any) -> SimpleNamespace:
        return make_chain(machine, bound, score, drawer(dynamics), move, read, record)

    @inline
    def tables_near(g, G_of, dA_of, b_of, C_of):  # type: ignore[no-untyped-def]
        """The tables of step size or phase g, in registers."""
        G, dA = cuda.local.array((stages, k), real), cuda.local.array((maps, k, k), real)
        b, C = cuda.local.array((maps, k), real), cuda.local.array((maps, k, room), real)
        for r in range(k):
            for j in range(stages):
                G[j, r] = G_of[g, j, r]
            for j in range(maps):
                b[j, r] = b_of[g, j, r]
                for p in range(k):
                    dA[j, r, p] = dA_of[g, j, r, p]
                for p in range(most):
                    C[j, r, p] = C_of[g, j, r, p]
        return Tables(G, dA, b, C, normals, readout, offset, per_step, open_uses_score, plain, marked)

    @inline
    def tables_far(g, G_of, dA_of, b_of, C_of):  # type: ignore[no-untyped-def]
        return Tables(
            G_of[g], dA_of[g], b_of[g], C_of[g], normals, readout, offset, per_step, open_uses_score, plain, marked
        )

    @inline
    def mixture_near(p, log2_weights, precisions, roots, shifts):  # type: ignore[no-untyped-def]
        """The mixture of phase p, in registers."""
        w, P = cuda.local.array(K, real), cuda.local.array(K, real)
        R, m = cuda.local.array((K, d, width), real), cuda.local.array((K, d), real)
        for j in range(K):
            w[j], P[j] = log2_weights[p, j], precisions[p, j]
            for i in range(d):
                m[j, i] = shifts[p, j, i]
                for e in range(columns):
                    R[j, i, e] = roots[p, j, i, e]
        return MixtureData(w, P, R, m)

    @inline
    def mixture_far(p, log2_weights, precisions, roots, shifts):  # type: ignore[no-untyped-def]
        return MixtureData(log2_weights[p], precisions[p], roots[p], shifts[p])

    @inline
    def workspace():  # type: ignore[no-untyped-def]
        """Room for y, s, q, xi, eta and gaps, in registers."""
        y, s, q = cuda.local.array(d, real), cuda.local.array(d, real), cuda.local.array(scratch, real)
        xi, eta = cuda.local.array(n_xi, real), cuda.local.array(n_eta, real)
        gaps = cuda.local.array((window, d), np.float64)
        return y, s, q, xi, eta, gaps

    @inline
    def chain_near(g, c, u_of, xp_of, sums_of, squares_of, reals, gaps_of):  # type: ignore[no-untyped-def]
        """The memory of a chain, all in registers."""
        u, xp = cuda.local.array((k, d), real), cuda.local.array((k, d), real)
        y, s, q, xi, eta, gaps = workspace()
        sums, squares = cuda.local.array(d, np.float64), cuda.local.array(pairs, np.float64)
        for i in range(d):
            for r in range(k):
                u[r, i], xp[r, i] = u_of[g, r, i, c], xp_of[g, r, i, c]
        if moments:
            for i in range(d):
                sums[i] = sums_of[g, i, c]
            for i in range(pairs):
                squares[i] = squares_of[g, i, c]
        return u, xp, y, s, q, xi, eta, gaps, sums, squares

    @inline
    def chain_middle(g, c, u_of, xp_of, sums_of, squares_of, reals, gaps_of):  # type: ignore[no-untyped-def]
        """The memory of a chain, in registers but for its last state and its moments."""
        u = cuda.local.array((k, d), real)
        y, s, q, xi, eta, gaps = workspace()
        for i in range(d):
            for r in range(k):
                u[r, i] = u_of[g, r, i, c]
        return u, xp_of[g, :, :, c], y, s, q, xi, eta, gaps, sums_of[g, :, c], squares_of[g, :, c]

    @inline
    def chain_far(g, c, u_of, xp_of, sums_of, squares_of, reals, gaps_of):  # type: ignore[no-untyped-def]
        """The memory of a chain, in global memory: neighbouring threads use neighbouring numbers."""
        y, s, q = reals[g, :d, c], reals[g, d : 2 * d, c], reals[g, 2 * d : 2 * d + scratch, c]
        xi = reals[g, 2 * d + scratch : 2 * d + scratch + n_xi, c]
        eta = reals[g, 2 * d + scratch + n_xi :, c]
        gaps = gaps_of[g, :, :, c]
        return u_of[g, :, :, c], xp_of[g, :, :, c], y, s, q, xi, eta, gaps, sums_of[g, :, c], squares_of[g, :, c]

    @inline
    def keep(g, c, u, xp, sums, squares, u_of, xp_of, sums_of, squares_of):  # type: ignore[no-untyped-def]
        """Write to memory what lives in registers."""
        if small:
            for i in range(d):
                for r in range(k):
                    u_of[g, r, i, c] = u[r, i]
        if near:
            for i in range(d):
                for r in range(k):
                    xp_of[g, r, i, c] = xp[r, i]
        if near and moments:
            for i in range(d):
                sums_of[g, i, c] = sums[i]
            for i in range(pairs):
                squares_of[g, i, c] = squares[i]

    return SimpleNamespace(
        tables=tables_near if near else tables_far,
        mixture=mixture_near if form.few else mixture_far,
        chain=chain_near if near else chain_middle if small else chain_far,
        keep=keep,
        enter=steps(0, record).enter,
        advance=steps(1, record).advance,
        pass_through=steps(1, forget).advance,
    )


@cache
def chain_kernels(form: Form) -> dict[str, Kernel]:
    """Return the kernels of chains.

    "enter" opens the recurrence and "advance" takes steps, of every group of chains with its own tables. "climb" takes
    the one group through phases of a plan, each with its tables, its mixture and its random numbers.
    """
    parts = chain_parts(form)
    tables, mixture, chain, keep, enter_chain = parts.tables, parts.mixture, parts.chain, parts.keep, parts.enter
    advance_chain, pass_through = parts.advance, parts.pass_through
    d, k, window, moments, first_window = form.d, form.rows, form.window, form.moments, form.begin(1)

    def enter(  # type: ignore[no-untyped-def]
        u_of, xp_of, sums_of, squares_of, reals, gaps_of, nfe, G, dA, b, C, log2_weights, precisions, roots, shifts,
        first_chain, k0, k1,
    ):  # fmt: skip
        c, g = cuda.grid(1), cuda.blockIdx.y
        if c < nfe.shape[1]:
            t, target = tables(g, G, dA, b, C), mixture(0, log2_weights, precisions, roots, shifts)
            u, xp, _, s, q, xi, _, _, sums, squares = chain(g, c, u_of, xp_of, sums_of, squares_of, reals, gaps_of)
            nfe[g, c] += enter_chain(u, xp, s, q, xi, target, t, d, k, np.uint64(first_chain + c), k0, k1)
            keep(g, c, u, xp, sums, squares, u_of, xp_of, sums_of, squares_of)

    def advance(  # type: ignore[no-untyped-def]
        u_of, xp_of, sums_of, squares_of, reals, gaps_of, nfe, G, dA, b, C, log2_weights, precisions, roots, shifts,
        first_chain, k0, k1,
        step, last, begin, record_from, bin_every, thin, centre, least, most, low, per_unit, left, counts, trace, kept,
    ):  # fmt: skip
        c, g = cuda.grid(1), cuda.blockIdx.y
        if c < nfe.shape[1]:
            t, target = tables(g, G, dA, b, C), mixture(0, log2_weights, precisions, roots, shifts)
            u, xp, y, s, q, xi, eta, gaps, sums, squares = chain(g, c, u_of, xp_of, sums_of, squares_of, reals, gaps_of)
            watch = Watch(record_from, bin_every, thin, centre, least[0], most[0], low, per_unit)
            batch = ((c + 1) * counts.shape[1] - 1) // nfe.shape[1]
            records = (counts, trace, kept, g, batch, c)
            taken, escaped = advance_chain(
                u, xp, y, s, q, xi, eta, gaps, target, t, d, k, np.uint64(first_chain + c), k0, k1,
                step, last, begin, window, watch, moments, sums, squares, records, left[g, c],
            )  # fmt: skip
            nfe[g, c] += taken
            left[g, c] = escaped
            keep(g, c, u, xp, sums, squares, u_of, xp_of, sums_of, squares_of)

    def climb(  # type: ignore[no-untyped-def]
        u_of, xp_of, sums_of, squares_of, reals, gaps_of, nfe, G, dA, b, C, log2_weights, precisions, roots, shifts,
        first_chain, keys, steps, before, centre, least, most, left,
    ):  # fmt: skip
        c = cuda.grid(1)
        if c < nfe.shape[1]:
            u, xp, y, s, q, xi, eta, gaps, sums, squares = chain(0, c, u_of, xp_of, sums_of, squares_of, reals, gaps_of)
            number, taken, escaped = np.uint64(first_chain + c), 0, left[0, c]
            for p in range(steps.shape[0]):
                t, target = tables(p, G, dA, b, C), mixture(p, log2_weights, precisions, roots, shifts)
                k0, k1 = keys[p, 0], keys[p, 1]
                taken += enter_chain(u, xp, s, q, xi, target, t, d, k, number, k0, k1)
                watch = Watch(steps[p] + 1, 1, 0, centre, least[p], most[p], centre, centre)
                more, escaped_here = pass_through(
                    u, xp, y, s, q, xi, eta, gaps, target, t, d, k, number, k0, k1,
                    1, steps[p], first_window, window, watch, False, sums, squares, 0, escaped - before[p],
                )  # fmt: skip
                taken += more
                escaped = escaped_here + before[p]
            nfe[0, c] += taken
            left[0, c] = escaped
            keep(0, c, u, xp, sums, squares, u_of, xp_of, sums_of, squares_of)

    kinds = parameter_kinds(np.dtype(form.dtype))
    return {kernel.__name__: Kernel.of(kernel, kinds, form) for kernel in (enter, advance, climb)}


def parameter_kinds(dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return the Numba types of the parameters of the kernels of chains that are no integers of 64 bits."""
    kind = number(dtype)
    reals = {
        "u_of": 4, "xp_of": 4, "reals": 3, "G": 3, "dA": 4, "b": 3, "C": 4, "log2_weights": 2, "precisions": 2,
        "roots": 4, "shifts": 3, "least": 2, "most": 2, "trace": 4,
    }  # fmt: skip
    doubles = {"sums_of": 3, "squares_of": 3, "gaps_of": 4, "centre": 1, "low": 1, "per_unit": 1}
    integers = {"nfe": 2, "left": 2, "counts": 4, "steps": 1, "before": 1}
    return (
        {name: types.Array(kind, n, "C") for name, n in reals.items()}
        | {name: types.Array(types.float64, n, "C") for name, n in doubles.items()}
        | {name: types.Array(types.int64, n, "C") for name, n in integers.items()}
        | {"k0": types.uint64, "k1": types.uint64, "keys": types.Array(types.uint64, 2, "C")}
    )

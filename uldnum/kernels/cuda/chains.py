"""The kernel of the CUDA executor of vectors: one thread runs one chain for many steps."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numba import cuda, types

from uldnum._util.typing import Array
from uldnum.kernels.cuda.binding import Kernel, core, inline, jit, normals_from, number, ops
from uldnum.kernels.cuda.form import ChainForm, MixtureForm, UserForm
from uldnum.kernels.cuda.users import UserData, device_function
from uldnum.kernels.source.chain import Bounds, Carried, Chain, Chains, Launch, Scratch, Span, Stream, make_chain
from uldnum.kernels.source.core import METROPOLIS, READOUT, Recording, Tables
from uldnum.kernels.source.mixture import MixtureData

__all__ = ["Coefficients", "Far", "chain_kernel"]


class Coefficients(NamedTuple):
    """The coefficients in `Tables`; the leading axis runs over step sizes and, within each, over parts of a launch."""

    G: Array
    dA: Array
    b: Array
    C: Array
    tau: Array
    temperature: Array


class Far(NamedTuple):
    """Scratch in global memory, for chains that do not fit into registers.

    For H step sizes and n chains, ``reals`` has shape (H, scratch numbers of a chain, n), and ``gaps`` (H, D, n) for D
    coordinates of which moments are taken.
    """

    reals: Array
    gaps: Array


def mixture_parts(bound: SimpleNamespace, dtype: np.dtype[Any], form: MixtureForm) -> SimpleNamespace:
    """Return the score and log density of a mixture, and the function that places the mixture of a part in memory."""
    real, d, K, precisions = dtype.type, form.d, form.components, form.precisions
    mixture_score, mixture_log_density = bound.mixture_score, bound.mixture_log_density
    columns = form.columns if form.columns < 2 else d
    width, apart = max(columns, 1), precisions > 1

    @jit
    def score(s, q, y, target, d):  # type: ignore[no-untyped-def]
        mixture_score(s, q, y, target, d, columns, apart)

    @jit
    def density(s, q, y, target, d, needed):  # type: ignore[no-untyped-def]
        top, total = mixture_score(s, q, y, target, d, columns, apart)
        return mixture_log_density(top, total)

    @inline
    def near(of, p):  # type: ignore[no-untyped-def]
        """Copy the mixture of part p into registers."""
        w, P = cuda.local.array(K, real), cuda.local.array(precisions, real)
        R, m = cuda.local.array((K, d, width), real), cuda.local.array((K, d), real)
        for j in range(K):
            w[j] = of.log2_weights[p, j]
            if j < precisions:
                P[j] = of.precisions[p, j]
            for i in range(d):
                m[j, i] = of.shifts[p, j, i]
                for e in range(columns):
                    R[j, i, e] = of.roots[p, j, i, e]
        return MixtureData(w, P, R, m)

    @inline
    def far(of, p):  # type: ignore[no-untyped-def]
        return MixtureData(of.log2_weights[p], of.precisions[p], of.roots[p], of.shifts[p])

    return SimpleNamespace(score=score, density=density, target=near if form.few else far)


def user_parts(bound: SimpleNamespace, dtype: np.dtype[Any], form: UserForm) -> SimpleNamespace:
    """Return the score and log density of a user, and the function that returns their data.

    A launch with a user's score has one part, so these are the data of the launch.
    """
    function, columns = device_function(form.function), form.columns if form.columns < 2 else form.d
    outward, inward, size = bound.outward, bound.inward, form.d

    @jit
    def place(q, y, target, d):  # type: ignore[no-untyped-def]
        """Copy the position, because a function of a user may write to its argument."""
        for i in range(d):
            q[i] = y[i]
        if columns > 0:
            outward(q, target.frame, d, columns)

    @jit
    def score(s, q, y, target, d):  # type: ignore[no-untyped-def]
        place(q, y, target, d)
        found = function(q, s, *target.arguments)
        if columns > 0:
            inward(s, target.frame, d, columns)
        return found

    @jit
    def both(s, q, y, target, d, needed):  # type: ignore[no-untyped-def]
        return np.float64(score(s, q, y, target, d))

    log_density: Any = device_function(form.density) if form.density else None

    @jit
    def one_by_one(s, q, y, target, d, needed):  # type: ignore[no-untyped-def]
        score(s, q, y, target, d)
        if not needed:
            return 0.0
        place(q, y, target, d)
        x = cuda.local.array(size, np.float64)
        for i in range(d):
            x[i] = q[i]
        return np.float64(log_density(x, *target.doubles))

    @inline
    def target(of, p):  # type: ignore[no-untyped-def]
        return of

    return SimpleNamespace(score=score, density=both if form.density is form.function else one_by_one, target=target)


@cache
def chain_parts(form: ChainForm) -> SimpleNamespace:
    """Return the parts of the kernel: time steps, and functions that place tables, target and chain in memory."""
    dtype = np.dtype(form.dtype)
    machine, real = ops(dtype, form.fast), dtype.type
    bound = core(dtype, form.fast)
    affine, bin_of = bound.affine, bound.bin_of
    if isinstance(form.score, UserForm):
        own = user_parts(bound, dtype, form.score)
    else:
        own = mixture_parts(bound, dtype, form.score)
    fill, tail, row, outward = normals_from(bound), machine.tail, machine.row, bound.outward
    d, k, moments, recorded = form.d, form.rows, form.moments, form.recorded
    near, small, known, records_too = form.near, form.small, form.known, form.records
    errors, add_errors = form.errors, bound.disturb
    frame_columns = form.frame if form.frame < 2 else d
    pairs, scratch, maps, stages = form.pairs, form.score.scratch, len(form.normals), len(form.score_at_x)
    most = max(m + e for m, e in zip(form.normals, form.readout, strict=True))
    room, held = max(1, most), max(1, pairs)  # Numba has no local arrays of length 0
    normals, readout, offset, score_at_x = form.normals, form.readout, form.offset, form.score_at_x
    per_step, open_uses_score, separate_readout = form.per_step, form.open_uses_score, form.separate_readout
    x_has_readout, readout_normals = form.x_has_readout, bound.readout_normals
    n_xi, n_eta = form.drawn
    four_uniforms, log, where = bound.four_uniforms, bound.functions.log, machine.where
    window, tested = form.window, form.tested

    @inline
    def log_uniforms(log_u, first, stream):  # type: ignore[no-untyped-def]
        """Return the logarithms of the uniform numbers of the steps of a window."""
        for n in range(window):
            u0, u1, u2, u3 = four_uniforms(np.uint64((first + n) // 4), stream.chain, METROPOLIS, stream.k0, stream.k1)
            place = (first + n) % 4
            log_u[n] = log(where(place < 2, where(place < 1, u0, u1), where(place < 3, u2, u3)))
        return log_u

    def drawer(dynamics: int) -> Any:
        """Return the function that draws normals: for the map open (dynamics = 0), or for the time steps (1)."""
        shifts, counts = form.first, form.blocks
        shift, count, shift_read, count_read = shifts[dynamics], counts[dynamics], shifts[2], counts[2]

        @inline
        def draw(xi, first, needed, kind, stream):  # type: ignore[no-untyped-def]
            blocks, begin = (count_read, shift_read) if kind == READOUT else (count, shift)
            if not known:
                begin = first % 4
                blocks = (begin + needed + 3) // 4
            if needed > 0:
                fill(xi, first >> 2, blocks, stream.chain, kind, stream.k0, stream.k1)
            return tail(xi, begin)

        @inline
        def draw_either(xi, first, needed, kind, stream):  # type: ignore[no-untyped-def]
            if kind == METROPOLIS:
                return log_uniforms(xi, first, stream)
            return draw(xi, first, needed, kind, stream)

        return draw_either if tested else draw

    @jit
    def disturb(s, xi, t, j, d):  # type: ignore[no-untyped-def]
        if errors:
            add_errors(s, xi, t, j, d)

    @jit
    def move(u, s, xi, t, j, d):  # type: ignore[no-untyped-def]
        affine(u, u, s, xi, xi, t, j, d, k, k, t.normals[j], 0)

    @jit
    def read(new, u, s, xi, eta, t, j, d, rows):  # type: ignore[no-untyped-def]
        # The number of rows is a constant, because indices of arrays in registers must be known to the compiler.
        if rows == 1:
            affine(new, u, s, xi, eta, t, j, d, 1, k, t.normals[j], readout_normals(t, j, 1))
        else:
            affine(new, u, s, xi, eta, t, j, d, k, k, t.normals[j], readout_normals(t, j, k))

    @jit
    def place(x, recording, d):  # type: ignore[no-untyped-def]
        if frame_columns > 0:
            outward(row(x, 0), recording.frame, d, frame_columns)

    @jit
    def count(records, x, recording):  # type: ignore[no-untyped-def]
        counts, _, _, g, batch, _ = records
        if records_too and counts.shape[2] > 0:
            for i in range(d):
                bin = bin_of(x[0, i], recording.low[i], recording.per_unit[i], counts.shape[3] - 2.0)
                cuda.atomic.add(counts, (g, batch, i, bin), 1)

    @jit
    def keep(records, x, number):  # type: ignore[no-untyped-def]
        _, trace, kept, g, _, c = records
        if records_too:
            for i in range(d):
                trace[number - kept, g, c, i] = x[0, i]

    def steps(dynamics: int) -> SimpleNamespace:
        disturbed = SimpleNamespace(**vars(bound) | {"disturb": disturb})
        evaluate = own.density if tested else None
        return make_chain(
            machine, disturbed, own.score, drawer(dynamics), move, read, place, count, keep, evaluate
        )  # fmt: skip

    @inline
    def tables_near(of, g):  # type: ignore[no-untyped-def]
        """Copy tables number g into registers."""
        G, dA = cuda.local.array((stages, k), real), cuda.local.array((maps, k, k), real)
        b, C = cuda.local.array((maps, k), real), cuda.local.array((maps, k, room), real)
        for r in range(k):
            for j in range(stages):
                G[j, r] = of.G[g, j, r]
            for j in range(maps):
                b[j, r] = of.b[g, j, r]
                for p in range(k):
                    dA[j, r, p] = of.dA[g, j, r, p]
                for p in range(most):
                    C[j, r, p] = of.C[g, j, r, p]
        return Tables(
            G, dA, b, C, normals, readout, offset, per_step, open_uses_score, score_at_x, separate_readout, 0,
            of.tau[g], of.temperature[g], x_has_readout,
        )  # fmt: skip

    @inline
    def tables_far(of, g):  # type: ignore[no-untyped-def]
        return Tables(
            of.G[g], of.dA[g], of.b[g], of.C[g], normals, readout, offset, per_step, open_uses_score, score_at_x,
            separate_readout, 0, of.tau[g], of.temperature[g], x_has_readout,
        )  # fmt: skip

    @inline
    def bounds_near(launch, p):  # type: ignore[no-untyped-def]
        """Copy the divergence bounds of part p into registers."""
        least, most = cuda.local.array(d, real), cuda.local.array(d, real)
        for i in range(d):
            least[i], most[i] = launch.least[p, i], launch.most[p, i]
        return Bounds(least, most)

    @inline
    def bounds_far(launch, p):  # type: ignore[no-untyped-def]
        return Bounds(launch.least[p], launch.most[p])

    @inline
    def scratch_near():  # type: ignore[no-untyped-def]
        """Return scratch memory in registers."""
        y, s, q = cuda.local.array(d, real), cuda.local.array(d, real), cuda.local.array(scratch, real)
        xi, eta = cuda.local.array(n_xi, real), cuda.local.array(n_eta, real)
        log_u, gap = cuda.local.array(window, real), cuda.local.array(recorded, np.float64)
        return Scratch(y, s, q, xi, eta, log_u, gap)

    @inline
    def carried_none(of, g, c):  # type: ignore[no-untyped-def]
        return 0

    @inline
    def carried_near(of, g, c):  # type: ignore[no-untyped-def]
        """Copy what a chain with Metropolis tests carries into registers."""
        s, log_density = cuda.local.array(d, real), cuda.local.array(1, np.float64)
        accepted = cuda.local.array(1, np.int64)
        for i in range(d):
            s[i] = of.carried.score[g, i, c]
        log_density[0], accepted[0] = of.carried.log_density[g, 0, c], of.carried.accepted[g, 0, c]
        return Carried(s, log_density, accepted)

    @inline
    def carried_far(of, g, c):  # type: ignore[no-untyped-def]
        carried = of.carried
        return Carried(carried.score[g, :, c], carried.log_density[g, :, c], carried.accepted[g, :, c])

    carried_of = (carried_near if small else carried_far) if tested else carried_none

    @inline
    def chain_near(of, far, g, c):  # type: ignore[no-untyped-def]
        """Return a chain and its scratch memory, all in registers."""
        u, phase_space = cuda.local.array((k, d), real), cuda.local.array((k, d), real)
        sums, products = cuda.local.array(recorded, np.float64), cuda.local.array(held, np.float64)
        for i in range(d):
            for r in range(k):
                u[r, i], phase_space[r, i] = of.u[g, r, i, c], of.phase_space[g, r, i, c]
        if moments:
            for i in range(recorded):
                sums[i] = of.sums[g, i, c]
            for i in range(pairs):
                products[i] = of.products[g, i, c]
        return Chain(u, phase_space, sums, products, carried_of(of, g, c)), scratch_near()

    @inline
    def chain_middle(of, far, g, c):  # type: ignore[no-untyped-def]
        """Return a chain with u and scratch memory in registers, and its (x, p) and moments in global memory."""
        u = cuda.local.array((k, d), real)
        for i in range(d):
            for r in range(k):
                u[r, i] = of.u[g, r, i, c]
        phase_space, sums, products = of.phase_space[g, :, :, c], of.sums[g, :, c], of.products[g, :, c]
        return Chain(u, phase_space, sums, products, carried_of(of, g, c)), scratch_near()

    @inline
    def chain_far(of, far, g, c):  # type: ignore[no-untyped-def]
        """Return a chain in global memory, where neighbouring threads access neighbouring numbers."""
        y, s, q = far.reals[g, :d, c], far.reals[g, d : 2 * d, c], far.reals[g, 2 * d : 2 * d + scratch, c]
        drawn = far.reals[g, 2 * d + scratch :, c]
        xi, eta, log_u = drawn[:n_xi], drawn[n_xi : n_xi + n_eta], drawn[n_xi + n_eta :]
        phase_space, sums, products = of.phase_space[g, :, :, c], of.sums[g, :, c], of.products[g, :, c]
        chain = Chain(of.u[g, :, :, c], phase_space, sums, products, carried_of(of, g, c))
        return chain, Scratch(y, s, q, xi, eta, log_u, far.gaps[g, :, c])

    @inline
    def store(of, g, c, chain):  # type: ignore[no-untyped-def]
        """Write a chain from registers to global memory."""
        if small:
            for i in range(d):
                for r in range(k):
                    of.u[g, r, i, c] = chain.u[r, i]
        if near:
            for i in range(d):
                for r in range(k):
                    of.phase_space[g, r, i, c] = chain.phase_space[r, i]
        if near and moments:
            for i in range(recorded):
                of.sums[g, i, c] = chain.sums[i]
            for i in range(pairs):
                of.products[g, i, c] = chain.products[i]

    @inline
    def store_tested(of, g, c, chain):  # type: ignore[no-untyped-def]
        """Write a chain with Metropolis tests from registers to global memory."""
        store(of, g, c, chain)
        if small:
            there, here = of.carried, chain.carried
            for i in range(d):
                there.score[g, i, c] = here.score[i]
            there.log_density[g, 0, c], there.accepted[g, 0, c] = here.log_density[0], here.accepted[0]

    return SimpleNamespace(
        tables=tables_near if near else tables_far,
        target=own.target,
        bounds=bounds_near if near and real is np.float32 else bounds_far,
        chain=chain_near if near else chain_middle if small else chain_far,
        store=store_tested if tested else store,
        enter=steps(0).enter,
        advance=steps(1).advance,
    )


@cache
def chain_kernel(form: ChainForm, opening: bool = False) -> Kernel:
    """Return the kernel that advances every group of chains, with its own tables, through all parts of a launch.

    If the form is ``single_part``, there are two kernels: the one with ``opening`` computes the first u from (x, p),
    and the other one takes the steps.
    """
    parts = chain_parts(form)
    tables, target_of, bounds_of, chain_of = parts.tables, parts.target, parts.bounds, parts.chain
    store, enter_chain, advance_chain = parts.store, parts.enter, parts.advance
    d, k, window, single_part = form.d, form.rows, form.window, form.single_part
    moments, recorded_rows = form.moments, form.recorded_rows
    records_too = form.records  # if False, thin is 0, and this constant saves registers

    @inline
    def one(launch, p):  # type: ignore[no-untyped-def]
        return launch.first, launch.last, launch.begin, launch.before, launch.keys[0], launch.keys[1]

    @inline
    def one_of_several(launch, p):  # type: ignore[no-untyped-def]
        return launch.first[p], launch.last[p], launch.begin[p], launch.before[p], launch.keys[p, 0], launch.keys[p, 1]

    part = one if single_part else one_of_several

    def advance(chains, far, launch):  # type: ignore[no-untyped-def]
        c, g = cuda.grid(1), cuda.blockIdx.y
        n, several = chains.nfe.shape[1], launch.least.shape[0]
        if c < n:
            chain, scratch = chain_of(chains, far, g, c)
            w, evaluations, escaped = launch.recording, 0, chains.escape_step[g, c]
            records = (chains.counts, chains.trace, chains.kept, g, ((c + 1) * chains.counts.shape[1] - 1) // n, c)
            for p in range(1 if single_part else several):
                t, target = tables(launch.tables, g * several + p), target_of(launch.target, p)
                bounds = bounds_of(launch, p)
                first, last, begin, before, k0, k1 = part(launch, p)
                stream = Stream(np.uint64(launch.first_chain + c), k0, k1)
                if opening or (not single_part and first == 1):
                    evaluations += enter_chain(chain, scratch, target, t, d, k, stream)
                if not opening:
                    thin = w.thin if records_too else 0
                    recording = Recording(
                        moments, recorded_rows, w.record_from - before, w.every, w.bin_every, thin, w.centre, w.low,
                        w.per_unit, w.frame,
                    )  # fmt: skip
                    taken, escaped_here = advance_chain(
                        chain, scratch, target, t, d, k, stream, Span(first, last, begin, window),
                        bounds, recording, records, escaped - before,
                    )  # fmt: skip
                    evaluations += taken
                    escaped = escaped_here + before
            chains.nfe[g, c] += evaluations
            chains.escape_step[g, c] = escaped
            store(chains, g, c, chain)

    return Kernel(advance, parameter_kinds(form), (form, opening), stored=not form.user)


def parameter_kinds(form: ChainForm) -> dict[str, Any]:
    """Return the Numba types of the parameters of the kernel, by name."""
    dtype, single_part = np.dtype(form.dtype), form.single_part
    axes = [
        (number(dtype), {"G": 3, "dA": 4, "b": 3, "C": 4, "least": 2, "most": 2, "u": 4, "phase_space": 4, "trace": 4}),
        (number(dtype), {"log2_weights": 2, "precisions": 2, "roots": 4, "shifts": 3, "reals": 3}),
        (number(dtype), {"frame": 2, "tau": 2, "score": 3}),
        (types.float64, {"centre": 1, "low": 1, "per_unit": 1, "sums": 3, "products": 3, "gaps": 3}),
        (types.float64, {"temperature": 1, "log_density": 3}),
        (types.int64, {"counts": 4, "escape_step": 2, "nfe": 2, "accepted": 3}),
    ]
    if not single_part:
        axes += [(types.int64, {"first": 1, "last": 1, "begin": 1, "before": 1}), (types.uint64, {"keys": 2})]
    arrays = {name: types.Array(kind, n, "C") for kind, names in axes for name, n in names.items()}
    arrays |= {"keys": types.UniTuple(types.uint64, 2)} if single_part else {}

    def struct(kind: Any, **structs: Any) -> Any:
        """Return the type of a named tuple, whose fields are arrays, structs or integers."""
        return types.NamedTuple(tuple((arrays | structs).get(name, types.int64) for name in kind._fields), kind)

    if isinstance(form.score, UserForm):
        kinds, double_kinds = map(types.BaseTuple.from_types, (form.score.kinds, form.score.density_kinds))
        target = struct(UserData, arguments=kinds, doubles=double_kinds)
    else:
        target = struct(MixtureData)
    launch = struct(Launch, tables=struct(Coefficients), target=target, recording=struct(Recording))
    chains = struct(Chains, carried=struct(Carried)) if form.tested else struct(Chains)
    return {"chains": chains, "far": struct(Far), "launch": launch}

"""The kernels of chains on mixtures: one thread runs one chain, many steps at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import cuda, types

from uldnum.kernels import Problem
from uldnum.kernels.chain import make_chain
from uldnum.kernels.core import READOUT, Tables, Watch, make_core
from uldnum.kernels.cuda.binding import Kernel, inline, jit, normals_from, number, ops
from uldnum.targets.mixture import MixtureData

__all__ = ["Form", "chain_kernels"]

# A chain of at most so many coordinates lives in registers, any other in global memory; ptxas finds room for that.
REGISTERS = 8

# ... of at most so many with everything that belongs to it: its last state, its moments, the tables.
ALL_IN_REGISTERS = 4

# So many normals are kept at places known when the kernel is compiled, in registers; more take too many of them.
WHERE_KNOWN = 12

# A mixture of at most so many numbers is held in registers.
FEW = 32


@dataclass(frozen=True)
class Form:
    """What the kernels of a problem are compiled for; all that is not in it is an argument.

    ``columns`` are those of the mixture's matrices: 0, 1, or 2 for any other number. The rest is named in `Tables`.
    """

    dtype: str
    fast: bool
    d: int
    rows: int
    components: int
    columns: int
    moments: bool
    normals: tuple[int, ...]
    readout: tuple[int, ...]
    offset: tuple[int, ...]
    per_step: int
    open_uses_score: bool
    plain: tuple[bool, ...]
    marked: bool

    @classmethod
    def of(cls, problem: Problem, dtype: np.dtype[Any], fast: bool, moments: bool) -> Form:
        """Return the form of a problem whose target is a mixture."""
        t, data = problem.tables, problem.target.kernel_data(dtype)
        numbers = {name: tuple(getattr(t, name).tolist()) for name in ("normals", "readout", "offset", "plain")}
        return cls(
            dtype=dtype.name,
            fast=fast,
            d=problem.target.shape[0],
            rows=t.b.shape[2],
            components=len(data.log2_weights),
            columns=min(2, data.roots.shape[2]),
            moments=moments,
            per_step=int(t.per_step),
            open_uses_score=bool(t.open_uses_score),
            marked=bool(t.marked),
            **numbers,
        )

    @property
    def small(self) -> bool:
        """Whether a chain lives in registers."""
        return self.d <= REGISTERS

    @property
    def drawn(self) -> tuple[int, int]:
        """Normals for which a chain has room: of the dynamics, of the reading."""
        return 4 * max(1, *self.blocks[:2]), 4 * max(1, self.blocks[2])

    @property
    def far(self) -> int:
        """Values of a chain that lives in global memory, besides its state: y, s, q, xi, eta."""
        return 2 * self.d + self.scratch + sum(self.drawn)

    @property
    def pairs(self) -> int:
        """Entries of the lower triangle of a covariance."""
        return self.d * (self.d + 1) // 2

    @property
    def scratch(self) -> int:
        """Values that the score needs besides its result."""
        return self.components * (self.d + 1 if self.columns > 1 else 1)

    @property
    def window(self) -> int:
        """Steps whose normals are drawn at once: in registers they must be at known places, so whole blocks of four."""
        drawn = (self.d * self.per_step, self.d * self.readout[-1])
        return max(4 // math.gcd(4, count) for count in drawn) if self.small else 1

    @property
    def phase(self) -> int:
        """Step at which the first window begins, so that its normals begin a block if that is possible."""
        return 0 if self.normals[-2] == self.per_step else 1

    def begin(self, step: int) -> int:
        """Return the first step of the window that holds a step."""
        return step - (step - self.phase) % self.window

    @property
    def first(self) -> tuple[int, int, int]:
        """Number of the first normal of a window, modulo 4: of open, the dynamics, the reading."""
        dynamics = self.normals[-2] + (self.phase - 1) * self.per_step
        return 0, self.d * dynamics % 4, self.d * self.phase * self.readout[-1] % 4

    @property
    def blocks(self) -> tuple[int, int, int]:
        """Blocks of four normals that are drawn for open, a window of the dynamics, a window of the reading."""
        counts = self.normals[-2], self.window * self.per_step, self.window * self.readout[-1]
        spare = 0 if self.small else 3  # the first normal may be anywhere in a block
        open_, dynamics, reading = (
            (first + spare + self.d * count + 3) // 4 for first, count in zip(self.first, counts, strict=True)
        )
        return open_, dynamics, reading


@cache
def chain_kernels(form: Form) -> dict[str, Kernel]:
    """Return the kernels that open the recurrence ("enter") and take steps ("advance")."""
    dtype = np.dtype(form.dtype)
    machine, real = ops(dtype, form.fast), dtype.type
    core = make_core(machine)
    affine, bin_of, mixture_score = core.affine, core.bin_of, core.mixture_score
    fill, tail = normals_from(core), machine.tail
    d, k, K, window, moments, small = form.d, form.rows, form.components, form.window, form.moments, form.small
    near = d <= ALL_IN_REGISTERS
    columns = form.columns if form.columns < 2 else d
    width = max(columns, 1)
    pairs, scratch, maps, stages = form.pairs, form.scratch, len(form.normals), len(form.plain)
    most = max(m + e for m, e in zip(form.normals, form.readout, strict=True))
    room = max(1, most)  # an array of no numbers is none to Numba
    normals, readout, offset, plain = form.normals, form.readout, form.offset, form.plain
    per_step, open_uses_score, marked = form.per_step, form.open_uses_score, form.marked
    n_xi, n_eta = form.drawn
    known = small and n_xi <= WHERE_KNOWN
    few = K * (d + 2 + (d if columns == 1 else 0)) <= FEW and columns < 2

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

    def steps(dynamics: int) -> SimpleNamespace:
        return make_chain(machine, core, score, drawer(dynamics), move, read, record)

    enter_chain, advance_chain = steps(0).enter, steps(1).advance

    @inline
    def tables_near(g, G_of, dA_of, b_of, C_of):  # type: ignore[no-untyped-def]
        """The tables of step size g, in registers."""
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

    tables = tables_near if near else tables_far

    @inline
    def mixture_near(log2_weights, precisions, roots, shifts):  # type: ignore[no-untyped-def]
        """The mixture, in registers."""
        w, P = cuda.local.array(K, real), cuda.local.array(K, real)
        R, m = cuda.local.array((K, d, width), real), cuda.local.array((K, d), real)
        for j in range(K):
            w[j], P[j] = log2_weights[j], precisions[j]
            for i in range(d):
                m[j, i] = shifts[j, i]
                for p in range(columns):
                    R[j, i, p] = roots[j, i, p]
        return MixtureData(w, P, R, m)

    @inline
    def mixture_far(log2_weights, precisions, roots, shifts):  # type: ignore[no-untyped-def]
        return MixtureData(log2_weights, precisions, roots, shifts)

    mixture = mixture_near if few else mixture_far

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

    chain = chain_near if near else chain_middle if small else chain_far

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

    def enter(  # type: ignore[no-untyped-def]
        u_of, xp_of, sums_of, squares_of, reals, gaps_of, nfe, G, dA, b, C, log2_weights, precisions, roots, shifts,
        first_chain, k0, k1,
    ):  # fmt: skip
        c, g = cuda.grid(1), cuda.blockIdx.y
        if c < nfe.shape[1]:
            t, target = tables(g, G, dA, b, C), mixture(log2_weights, precisions, roots, shifts)
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
            t, target = tables(g, G, dA, b, C), mixture(log2_weights, precisions, roots, shifts)
            u, xp, y, s, q, xi, eta, gaps, sums, squares = chain(g, c, u_of, xp_of, sums_of, squares_of, reals, gaps_of)
            watch = Watch(record_from, bin_every, thin, centre, least, most, low, per_unit)
            batch = ((c + 1) * counts.shape[1] - 1) // nfe.shape[1]
            records = (counts, trace, kept, g, batch, c)
            taken, escaped = advance_chain(
                u, xp, y, s, q, xi, eta, gaps, target, t, d, k, np.uint64(first_chain + c), k0, k1,
                step, last, begin, window, watch, moments, sums, squares, records, left[g, c],
            )  # fmt: skip
            nfe[g, c] += taken
            left[g, c] = escaped
            keep(g, c, u, xp, sums, squares, u_of, xp_of, sums_of, squares_of)

    kinds = parameter_kinds(dtype)
    return {"enter": Kernel.of(enter, kinds, form), "advance": Kernel.of(advance, kinds, form)}


def parameter_kinds(dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return the Numba types of the parameters of the kernels of chains that are no integers of 64 bits."""
    kind = number(dtype)
    reals = {
        "u_of": 4, "xp_of": 4, "reals": 3, "G": 3, "dA": 4, "b": 3, "C": 4, "log2_weights": 1, "precisions": 1,
        "roots": 3, "shifts": 2, "least": 1, "most": 1, "trace": 4,
    }  # fmt: skip
    doubles = {"sums_of": 3, "squares_of": 3, "gaps_of": 4, "centre": 1, "low": 1, "per_unit": 1}
    integers = {"nfe": 2, "left": 2, "counts": 4}
    return (
        {name: types.Array(kind, n, "C") for name, n in reals.items()}
        | {name: types.Array(types.float64, n, "C") for name, n in doubles.items()}
        | {name: types.Array(types.int64, n, "C") for name, n in integers.items()}
        | {"k0": types.uint64, "k1": types.uint64}
    )

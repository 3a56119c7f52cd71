"""Random numbers, the affine update, the mixture score and the statistics, written once for all backends.

`make_core`, like `make_chain` in `chain` and `make_functions` in `functions`, is plain Python. The argument ``ops``
(see `Ops`) contains the operations that differ between backends. A *value* is what these operations act on: an array
over chains in the array executor, a vector with one lane per chain in the Numba executor, and a scalar in the CUDA
executor.

Indexed objects contain values. In ``u[r, i]`` the row is r and the coordinate is i; in ``xi[j]`` the index of
the normal is j. In each stage ``affine`` replaces u by ``u + (dA u + b s + C xi)``, where
``s = score(G u)`` and ``gather`` computes G u.

Random numbers are those of Philox4x32-10 (Salmon, Moraes, Dror & Shaw, 2011). The key is the 64-bit seed. The counter
is (block low, block high, chain, stream). The Box-Muller transform converts each block of four 32-bit words to four
normals.

The names of the coefficients of a mixture are those of `uldnum.kernels.source.mixture.MixtureData`. For component j,
``z = R_j (y - mu_j)``, P_j is its entry of ``precisions``, and its score is ``-P_j R_j^T z``.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from uldnum._util.typing import Array
from uldnum.arithmetic.elementary import LN2
from uldnum.kernels.source.functions import FORMATS, Ops, make_functions
from uldnum.schemes.stage import Step, first_row

__all__ = [
    "DYNAMICS", "INITIAL", "LOCAL", "METROPOLIS", "MOMENTS", "NEVER", "READOUT", "RECORDS", "Recording", "Tables",
    "hashed_parts", "lay_out", "make_core", "phase", "split_seed",
]  # fmt: skip

# Streams of the random numbers of a chain: time steps, initial states, the readout, and Metropolis tests. The readout
# is the map ``close``, which computes (x, p) at the end of a step and may need more normals than the time step. The
# test of step n uses the uniform number n of its stream.
DYNAMICS, INITIAL, READOUT, METROPOLIS = (np.uint64(i) for i in range(4))

# Value of the escape step of a chain that has not diverged.
NEVER = np.int64(2**62)

# Moments that a run may record. A run that records one of them also records those before it. A recording holds an
# index of this list.
MOMENTS = (None, "mean", "variance", "covariance")
VARIANCE, COVARIANCE = 2, 3

# What a run may record: an index of `MOMENTS`, and the number of rows of (x, p) of which the moments are taken.
RECORDS: dict[str | None, tuple[int, int]] = {name: (index, 1) for index, name in enumerate(MOMENTS)}
RECORDS |= {"phase-space-variance": (VARIANCE, 2), "phase-space-covariance": (COVARIANCE, 2)}

# Capacity of the scratch arrays of compiled kernels, and therefore the largest number of rows of a scheme.
LOCAL = 8


def split_seed(seed: Any) -> tuple[Any, Any]:
    """Split a 64-bit key, or an array of keys, into its low and high 32-bit words."""
    return np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)


class Recording(NamedTuple):
    """Recorded quantities. Arrays have shape (d,) and dtype float64, except for ``centre`` and ``frame``.

    Recording starts with step ``record_from``. Moments of the first ``rows`` rows of (x, p) are accumulated at this
    step and at every ``every``-th step after it. They are moments about ``centre``, which has shape (rows d,) and is 0
    for p. Histograms count this step and every ``bin_every``-th step after it, where
    ``bin_every`` is a multiple of ``every``. The histograms begin at the positions ``low`` and have ``per_unit`` bins
    per unit of length. Positions are stored after every ``thin`` steps from ``record_from`` on; 0 means never.

    The recorded positions are F x, where the matrix F is ``frame``, with the dtype of the run and shape (d, columns).
    If there are no columns, F is 1. If there is one column, F is diagonal, otherwise it is lower triangular. Momenta
    are recorded as they are.
    """

    moments: Any  # index of `MOMENTS`; without moments there are no histograms
    rows: Any  # 1 or 2; a compile-time constant on a GPU
    record_from: Any
    every: Any
    bin_every: Any
    thin: Any
    centre: Any
    low: Any
    per_unit: Any
    frame: Any


class Tables(NamedTuple):
    """Coefficients of the time steps of all phases; `phase` extracts one phase for one of the H step sizes.

    The maps of a step are ordered as follows: maps 0 ... stages - 1 belong to the stages, and ``open`` and ``close``
    follow. Map j uses ``normals[j]`` normals of the stream `DYNAMICS` and then ``readout[j]`` normals of the stream
    `READOUT` per coordinate; C is padded with zeros. Within a step, the normals of stage j start at ``offset[j]``. If
    ``score_at_x[j]`` holds, stage j evaluates the score at x, and G is not needed. If ``separate_readout`` holds, the
    step ends inside its last stage, and (x, p) is computed by the map ``close``; otherwise (x, p) equals u after the
    step. If ``tau`` is not empty, ``tau_i xi_i`` is added to the score of coordinate i, where xi is the last dynamics
    normal of the map. If ``x_has_readout`` does not hold, only rows of (x, p) after x use readout normals.
    """

    G: Any  # (H, stages, k)
    dA: Any  # (H, maps, k, k)
    b: Any  # (H, maps, k)
    C: Any  # (H, maps, k, most normals)
    normals: Any  # (maps,); compile-time constants on a GPU
    readout: Any  # (maps,)
    offset: Any  # (maps,)
    per_step: Any  # (phases,), dynamics normals of a step; an int for one phase
    open_uses_score: Any  # (phases,); a bool for one phase
    score_at_x: Any  # (stages,)
    separate_readout: Any  # (phases,); a bool for one phase
    stages: Any  # (phases + 1,), index of the first stage of each phase
    tau: Any  # (d,) or (0,), see `uldnum.schemes.stage.Step.with_normals_for_errors`
    temperature: Any  # (H, phases), float64, of Metropolis tests; 0 without tests; a number for one phase
    x_has_readout: Any  # (phases,); a bool for one phase


def phase(t: Tables, g: int, p: int) -> Tables:
    """Return the tables of phase p for step size number g, without the axis H."""
    first, last = t.stages[p], t.stages[p + 1]
    begin, end = first + 2 * p, last + 2 * p + 2  # each phase has two more maps than stages: open and close
    return Tables(
        t.G[g][first:last], t.dA[g][begin:end], t.b[g][begin:end], t.C[g][begin:end], t.normals[begin:end],
        t.readout[begin:end], t.offset[begin:end], t.per_step[p], t.open_uses_score[p], t.score_at_x[first:last],
        t.separate_readout[p], t.stages[p : p + 2], t.tau, t.temperature[g, p], t.x_has_readout[p],
    )  # fmt: skip


def lay_out(steps: Sequence[Step], dtype: np.dtype[Any], tau: Sequence[float] = ()) -> Tables:
    """Concatenate the coefficients of the steps of all phases; the leading axis H runs over step sizes."""
    maps = [map for step in steps for map in (*(stage.map for stage in step.stages), step.open, step.close)]
    stages = [stage for step in steps for stage in step.stages]
    ends = np.cumsum([len(step.stages) + 2 for step in steps])
    begins, close, last = np.append(0, ends[:-1]), ends - 1, ends - 3
    normals, readout = np.array([map.normals for map in maps]), np.zeros(len(maps), dtype=np.int64)
    normals[close], readout[close] = normals[last], [step.readout_normals for step in steps]
    before = np.cumsum(normals) - normals
    offset = before - np.repeat(before[begins], np.diff(ends, prepend=0))
    C = np.zeros((len(maps[0].b), len(maps), maps[0].rows, max(map.normals for map in maps)))
    for j, map in enumerate(maps):
        C[:, j, :, : map.normals] = map.C
    G = np.stack([stage.G for stage in stages], axis=1)
    dA, b = np.stack([map.dA for map in maps], axis=1), np.stack([map.b for map in maps], axis=1)
    separate = [np.any(part[:, close] != part[:, last], axis=(0, *range(2, part.ndim))) for part in (dA, b, C)]

    def cast(array: Array) -> Array:
        with np.errstate(over="ignore"):  # for steps so large that the cast overflows, chains diverge at once
            return np.ascontiguousarray(array, dtype=dtype)

    return Tables(
        G=cast(G),
        dA=cast(dA),
        b=cast(b),
        C=cast(C),
        normals=normals,
        readout=readout,
        offset=offset,
        per_step=before[ends - 2] - before[begins],
        open_uses_score=np.array([step.open_uses_score for step in steps]),
        score_at_x=np.all(first_row(G) == G, axis=(0, 2)),
        separate_readout=np.any(separate, axis=0),
        stages=np.cumsum([0] + [len(step.stages) for step in steps]),
        tau=cast(np.asarray(tau, float)),
        temperature=np.stack(
            [np.zeros(len(C)) if step.temperature is None else step.temperature for step in steps], axis=1
        ),
        x_has_readout=np.array([step.close.C[..., 0, step.stages[-1].map.normals :].any() for step in steps]),
    )


def hashed_parts(t: Tables) -> list[Array]:
    """Return the arrays of tables that state what the steps of all phases compute, for hashes."""
    return [np.asarray(part) for part in t[: Tables._fields.index("stages")]]


def make_core(ops: Ops) -> SimpleNamespace:
    """Return the functions of this module bound to the operations of a backend."""
    functions = make_functions(ops)
    log, exp2, direction = functions.log, functions.exp2, functions.direction
    fma, quotient, root, where, larger, local = ops.fma, ops.quotient, ops.root, ops.where, ops.larger, ops.local
    wide = ops.wide
    as_real, as_double, as_index, as_word = ops.as_real, ops.as_double, ops.as_index, ops.as_word

    word = FORMATS[ops.real].word
    # 32-bit words are stored in 64-bit integers; only the low halves are meaningful.
    M0, M1, W0, W1 = (np.uint64(v) for v in (0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85))
    LOW, HALF_WORD = np.uint64(0xFFFFFFFF), np.uint64(32)
    WORD_UNIT, HALF_UNIT, LOW_WORD = ops.real(2.0**-32), ops.real(2.0**-33), word(0xFFFFFFFF)
    ZERO, MINUS_ONE, MINUS_TWO, MINUS_HALF_LOG2_E = (ops.constant(v) for v in (0, -1, -2, -0.5 / LN2))
    # Number of sums that are held in registers together while a loop runs over the terms that they share.
    TILE = 4

    @ops.jit
    def philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
        """Return four random 32-bit words for a counter and a key; only their low halves are meaningful."""
        for _ in range(10):
            p0, p1 = wide(M0, c0), wide(M1, c2)
            c0, c1, c2, c3 = (p1 >> HALF_WORD) ^ c1 ^ k0, p1, (p0 >> HALF_WORD) ^ c3 ^ k1, p0
            k0, k1 = k0 + W0, k1 + W1
        return c0, c1, c2, c3

    @ops.jit
    def words(block, chain, stream, k0, k1):  # type: ignore[no-untyped-def]
        """Return words 4 block ... 4 block + 3 of a chain's stream; integers may be wider than 32 bits."""
        w0, w1, w2, w3 = philox(block & LOW, block >> HALF_WORD, chain, stream, k0, k1)
        return as_word(w0), as_word(w1), as_word(w2), as_word(w3)

    @ops.jit
    def uniform(w):  # type: ignore[no-untyped-def]
        """Return a uniform number in (0, 1] from a 32-bit word.

        On a GPU, `&` returns a 64-bit integer, whose conversion to a real is slow; `as_word` narrows it first.
        """
        return fma(as_real(as_word(w & LOW_WORD)), WORD_UNIT, HALF_UNIT)

    @ops.jit
    def box_muller(w0, w1):  # type: ignore[no-untyped-def]
        """Return two independent standard normals; w0 determines the radius and w1 the angle.

        Their absolute values are at most (66 log 2)^(1/2) = 6.76.
        """
        r = root(MINUS_TWO * log(uniform(w0)))
        c, s = direction(w1)
        return r * c, r * s

    @ops.jit
    def four_normals(block, chain, stream, k0, k1):  # type: ignore[no-untyped-def]
        """Return normals 4 block ... 4 block + 3 of a chain's stream."""
        w0, w1, w2, w3 = words(block, chain, stream, k0, k1)
        z0, z1 = box_muller(w0, w1)
        z2, z3 = box_muller(w2, w3)
        return z0, z1, z2, z3

    @ops.jit
    def four_uniforms(block, chain, stream, k0, k1):  # type: ignore[no-untyped-def]
        """Return uniform numbers 4 block ... 4 block + 3 of a chain's stream."""
        w0, w1, w2, w3 = words(block, chain, stream, k0, k1)
        return uniform(w0), uniform(w1), uniform(w2), uniform(w3)

    @ops.jit
    def affine(new, u, s, xi, eta, t, j, d, rows, k, m, e):  # type: ignore[no-untyped-def]
        """Set new = u + (dA u + b s + C [xi, eta]) in the first ``rows`` rows, with map j of the tables t.

        The map uses m dynamics normals xi and e readout normals eta per coordinate. ``new`` may be u itself. The
        increment is summed before it is added to u; adding it term by term would lose small terms to rounding.
        """
        moved = local(k)
        for i in range(d):
            for r in range(rows):
                change = t.b[j, r] * s[i]
                for q in range(k):
                    change = fma(u[q, i], t.dA[j, r, q], change)
                for c in range(m):
                    change = fma(xi[i * m + c], t.C[j, r, c], change)
                for c in range(e):
                    change = fma(eta[i * e + c], t.C[j, r, m + c], change)
                moved[r] = u[r, i] + change
            for r in range(rows):
                new[r, i] = moved[r]

    @ops.jit
    def kicked(p, s, t, j, i):  # type: ignore[no-untyped-def]
        """Return momentum i after map j, whose only nonzero coefficient is b of the momentum."""
        return fma(s[i], t.b[j, 1], p[i])

    @ops.jit
    def refreshed(p, xi, t, j, i):  # type: ignore[no-untyped-def]
        """Return momentum i after map j, in which it depends only on itself and on one normal."""
        return p[i] + fma(xi[i], t.C[j, 1, 0], p[i] * t.dA[j, 1, 1])

    @ops.jit
    def readout_normals(t, j, rows):  # type: ignore[no-untyped-def]
        """Return the number of readout normals per coordinate that the first rows of map j need."""
        return t.readout[j] if rows > 1 or t.x_has_readout else 0

    @ops.jit
    def disturb(s, xi, t, j, d):  # type: ignore[no-untyped-def]
        """Add the errors of the score for map j, if the coordinates have different ones."""
        if t.tau.shape[0] > 0:
            m = t.normals[j]
            for i in range(d):
                s[i] = fma(xi[i * m + m - 1], t.tau[i], s[i])

    @ops.jit
    def gather(y, u, t, j, d, k):  # type: ignore[no-untyped-def]
        """Set y = G u for stage j, the point at which the score is evaluated."""
        for i in range(d):
            y[i] = t.G[j, 0] * u[0, i]
            for r in range(1, k):
                y[i] = fma(u[r, i], t.G[j, r], y[i])

    @ops.jit
    def copy(u, v, d, rows):  # type: ignore[no-untyped-def]
        """Set u = v in the first ``rows`` rows."""
        for r in range(rows):
            for i in range(d):
                u[r, i] = v[r, i]

    @ops.jit
    def deviation(y, mixture, j, i, columns):  # type: ignore[no-untyped-def]
        """Return entry i of z; if columns is 0, R_j is 1; if columns is 1, R_j is diagonal; else it is triangular."""
        if columns == 0:
            return y[i] + mixture.shifts[j, i]
        if columns == 1:
            return fma(y[i], mixture.roots[j, i, 0], mixture.shifts[j, i])
        total = mixture.shifts[j, i]
        for p in range(i + 1):
            total = fma(y[p], mixture.roots[j, i, p], total)
        return total

    @ops.jit
    def squares(q, y, mixture, j, several, d, columns, apart):  # type: ignore[no-untyped-def]
        """Set q[j] to log2 of the term of component j, for ``several`` components from j on; store z if columns > 1.

        The term is ``2^log2_weights[j] exp(-P_j |z|^2/2)``.
        """
        components = mixture.log2_weights.shape[0]
        total = local(several)
        for c in range(several):
            total[c] = ZERO
        for i in range(d):
            for c in range(several):
                z = deviation(y, mixture, j + c, i, columns)
                total[c] = fma(z, z, total[c])
                if columns > 1:
                    q[components + (j + c) * d + i] = z
        for c in range(several):
            precision = mixture.precisions[j + c if apart else 0]
            q[j + c] = fma(total[c], MINUS_HALF_LOG2_E * precision, mixture.log2_weights[j + c])

    @ops.jit
    def mixture_log2_weights(q, y, mixture, d, columns, apart):  # type: ignore[no-untyped-def]
        """Set q[j] = log2 of the density of component j at y, up to a common constant; return the largest q[j]."""
        components = mixture.log2_weights.shape[0]
        tiled, paired = components - components % TILE, components - components % 2
        for j in range(0, tiled, TILE):
            squares(q, y, mixture, j, TILE, d, columns, apart)
        for j in range(tiled, paired, 2):
            squares(q, y, mixture, j, 2, d, columns, apart)
        for j in range(paired, components):
            squares(q, y, mixture, j, 1, d, columns, apart)
        top = q[0]
        for j in range(1, components):
            top = larger(q[j], top)
        return top

    @ops.jit
    def pull(q, y, mixture, j, i, d, columns, total):  # type: ignore[no-untyped-def]
        """Return total + q[j] (R_j^T z)_i.

        If R_j is 1, return total - q[j] mu_ji instead; `forces` starts the sum with the term in y.
        """
        if columns == 0:
            return fma(q[j], mixture.shifts[j, i], total)
        if columns == 1:
            return fma(q[j], mixture.roots[j, i, 0] * deviation(y, mixture, j, i, columns), total)
        begin = mixture.log2_weights.shape[0] + j * d
        entry = ZERO
        for p in range(i, d):
            entry = fma(q[begin + p], mixture.roots[j, p, i], entry)
        return fma(q[j], entry, total)

    @ops.jit
    def forces(s, q, y, mixture, strength, scale, i, several, d, columns):  # type: ignore[no-untyped-def]
        """Set s[i] = scale sum_j q[j] (R_j^T z)_i for ``several`` coordinates from i on; strength = sum_j q[j]."""
        total = local(several)
        for c in range(several):
            total[c] = strength * y[i + c] if columns == 0 else ZERO
        for j in range(mixture.log2_weights.shape[0]):
            for c in range(several):
                total[c] = pull(q, y, mixture, j, i + c, d, columns, total[c])
        for c in range(several):
            s[i + c] = total[c] * scale

    @ops.jit
    def mixture_score(s, q, y, mixture, d, columns, apart):  # type: ignore[no-untyped-def]
        """Set s to the gradient of log sum_j w_j N(y; mu_j, Sigma_j), the weighted mean of the component scores.

        q is scratch memory with one value per component, and d more per component if the covariances are full. Return
        the two numbers that `mixture_log_density` needs.
        """
        top = mixture_log2_weights(q, y, mixture, d, columns, apart)
        total = strength = ZERO
        for j in range(mixture.log2_weights.shape[0]):
            q[j] = exp2(q[j] - top)
            total = total + q[j]
            if apart:
                q[j] = q[j] * mixture.precisions[j]
                strength = strength + q[j]
        scale = quotient(MINUS_ONE, total)
        if not apart:  # multiply by the common precision once
            strength, scale = total, scale * mixture.precisions[0]
        tiled, paired = d - d % TILE, d - d % 2
        for i in range(0, tiled, TILE):
            forces(s, q, y, mixture, strength, scale, i, TILE, d, columns)
        for i in range(tiled, paired, 2):
            forces(s, q, y, mixture, strength, scale, i, 2, d, columns)
        for i in range(paired, d):
            forces(s, q, y, mixture, strength, scale, i, 1, d, columns)
        return top, total

    @ops.jit
    def mixture_log_density(top, total):  # type: ignore[no-untyped-def]
        """Return the log density in float64, up to a constant: log2 is ``top`` plus log2 of ``total`` (1 to K)."""
        return as_double(top) * LN2 + as_double(log(total))

    @ops.jit
    def kinetic_change(p, before, d):  # type: ignore[no-untyped-def]
        """Return (p^2 - before^2)/2 as float64, a sum of products of small relative error in the dtype of the run."""
        total = (p[0] - before[0]) * (p[0] + before[0])
        for i in range(1, d):
            total = fma(p[i] - before[i], p[i] + before[i], total)
        return 0.5 * as_double(total)

    @ops.jit
    def outward(x, frame, d, columns):  # type: ignore[no-untyped-def]
        """Replace x by F x, where F is diagonal if ``frame`` has one column, and lower triangular if it has more."""
        for n in range(d):
            i = d - 1 - n
            if columns == 1:
                x[i] = x[i] * frame[i, 0]
            else:
                total = x[i] * frame[i, i]
                for p in range(i):
                    total = fma(x[p], frame[i, p], total)
                x[i] = total

    @ops.jit
    def inward(s, frame, d, columns):  # type: ignore[no-untyped-def]
        """Replace s by F^T s, for F as in `outward`."""
        for i in range(d):
            if columns == 1:
                s[i] = s[i] * frame[i, 0]
            else:
                total = s[i] * frame[i, i]
                for p in range(i + 1, d):
                    total = fma(s[p], frame[p, i], total)
                s[i] = total

    @ops.jit
    def accumulate(sums, products, gap, phase_space, centre, d, rows, moments):  # type: ignore[no-untyped-def]
        """Add z - centre to the sums, and its squares, or the lower triangle of its outer product, to the products.

        z consists of the first ``rows`` rows of (x, p), so the moments of x come first. ``moments`` is an index of
        `MOMENTS`, and gap is scratch memory.
        """
        for r in range(rows):
            for c in range(d):
                i = r * d + c
                own = as_double(phase_space[r, c]) - centre[i]
                sums[i] = sums[i] + own
                if moments == VARIANCE:
                    products[i] = fma(own, own, products[i])
                if moments == COVARIANCE:
                    gap[i], begin = own, i * (i + 1) // 2
                    for j in range(i):
                        products[begin + j] = fma(own, gap[j], products[begin + j])
                    products[begin + i] = fma(own, own, products[begin + i])

    @ops.jit
    def bin_of(x, low, per_unit, bins):  # type: ignore[no-untyped-def]
        """Return the bin number of x: 1 ... bins inside, 0 below or for NaN, bins + 1 above; bins is a real number."""
        place = (as_double(x) - low) * per_unit
        return as_index(where(place >= 0.0, where(place < bins, place, bins), -1.0)) + 1

    @ops.jit
    def first_escape(escape_step, step, u, least, most, d):  # type: ignore[no-untyped-def]
        """Return the first step at which u[0] was not within [least, most].

        ``escape_step`` is the result for the earlier steps. NaN is not within the bounds. u[0] may already contain a
        part of the next step.
        """
        inside = (u[0, 0] >= least[0]) & (u[0, 0] <= most[0])
        for i in range(1, d):
            inside = inside & (u[0, i] >= least[i]) & (u[0, i] <= most[i])
        return where(inside | (escape_step < step), escape_step, step)

    return SimpleNamespace(
        functions=functions,
        philox=philox,
        words=words,
        uniform=uniform,
        box_muller=box_muller,
        four_normals=four_normals,
        four_uniforms=four_uniforms,
        kicked=kicked,
        refreshed=refreshed,
        affine=affine,
        readout_normals=readout_normals,
        disturb=disturb,
        gather=gather,
        copy=copy,
        mixture_log2_weights=mixture_log2_weights,
        mixture_score=mixture_score,
        mixture_log_density=mixture_log_density,
        kinetic_change=kinetic_change,
        outward=outward,
        inward=inward,
        accumulate=accumulate,
        bin_of=bin_of,
        first_escape=first_escape,
    )

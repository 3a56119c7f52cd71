"""The one source of the kernels: random numbers, normals, the affine update, the mixture score, what is recorded.

`make_core`, like `make_chain` in `chain` and `make_functions` in `functions`, is plain Python. What differs between
machines is in ``ops`` (see `Ops`): bound to NumPy the functions below are the array executor, and every value is an
array over chains; compiled by Numba a value is a vector, one lane for each of a few chains. What is indexed (``u[r,
i]``, ``xi[j]``) holds such values: r counts rows of memory, i coordinates, j normals.
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
    "DYNAMICS", "INITIAL", "LOCAL", "NEVER", "READOUT", "Recording", "Tables", "lay_out", "make_core", "phase",
    "split_seed",
]  # fmt: skip

# Streams of a chain's random numbers.
DYNAMICS, INITIAL, READOUT = (np.uint64(i) for i in range(3))

# The step of escape of a chain that never leaves.
NEVER = np.int64(2**62)


# Values that the scratch of compiled kernels holds, and so the rows of a scheme that they run.
LOCAL = 8


def split_seed(seed: Any) -> tuple[Any, Any]:
    """Return the two words of a 64-bit key, or of an array of keys."""
    return np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)


class Recording(NamedTuple):
    """What is recorded of each coordinate; arrays have shape (d,), in float64.

    Recording begins with step ``record_from``. Moments are taken about ``centre``. Every ``bin_every`` recorded steps,
    the first included, histograms count from ``low`` on, with ``per_unit`` bins in a unit of length; after every
    ``thin`` recorded steps the positions are kept (0: never).
    """

    moments: Any  # bool
    record_from: Any
    bin_every: Any
    thin: Any
    centre: Any
    low: Any
    per_unit: Any


class Tables(NamedTuple):
    """The tables of the steps of all phases; `phase` takes those of one phase and one of H step sizes.

    Maps 0 ... stages - 1 of a step are its stages, then come ``open`` and ``close``. Map j uses ``normals[j]`` normals
    per coordinate of the dynamics, then ``readout[j]`` of the reading; C is padded with zeros. The normals of stage j
    begin at ``offset[j]`` within a step. Some stages evaluate the score at x itself. A step whose end lies inside its
    last stage has a separate readout: a map of its own reads the state.
    """

    G: Any  # (H, stages, k)
    dA: Any  # (H, maps, k, k)
    b: Any  # (H, maps, k)
    C: Any  # (H, maps, k, most normals)
    normals: Any  # (maps,); on a GPU these are constants
    readout: Any  # (maps,)
    offset: Any  # (maps,)
    per_step: Any  # (phases,); of one phase an int
    open_uses_score: Any  # (phases,); of one phase a bool
    score_at_x: Any  # (stages,)
    separate_readout: Any  # (phases,); of one phase a bool
    stages: Any  # (phases + 1,), where the stages of each phase begin


def phase(t: Tables, g: int, p: int) -> Tables:
    """Return the tables of phase p for step size g, without the axis H."""
    first, last = t.stages[p], t.stages[p + 1]
    begin, end = first + 2 * p, last + 2 * p + 2  # of maps: to open and to close a step takes two more
    return Tables(
        t.G[g][first:last], t.dA[g][begin:end], t.b[g][begin:end], t.C[g][begin:end], t.normals[begin:end],
        t.readout[begin:end], t.offset[begin:end], t.per_step[p], t.open_uses_score[p], t.score_at_x[first:last],
        t.separate_readout[p], t.stages[p : p + 2],
    )  # fmt: skip


def lay_out(steps: Sequence[Step], dtype: np.dtype[Any]) -> Tables:
    """Lay out the tables of the steps of phases one after the other; their leading axis H runs over step sizes."""
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
        with np.errstate(over="ignore"):  # of steps so large, chains diverge at once
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
    )


def make_core(ops: Ops) -> SimpleNamespace:
    """Bind random numbers, the affine update and the mixture score to a machine."""
    functions = make_functions(ops)
    log, exp2, direction = functions.log, functions.exp2, functions.direction
    fma, sqrt, where, local, local_double = ops.fma, ops.sqrt, ops.where, ops.local, ops.local_double
    as_real, as_double, as_index, as_word = ops.as_real, ops.as_double, ops.as_index, ops.as_word

    word = FORMATS[ops.real].word
    # Philox4x32-10 (Salmon et al. 2011). 32-bit words live in 64-bit integers; only their low halves count.
    M0, M1, W0, W1 = (np.uint64(v) for v in (0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85))
    LOW, HALF_WORD = np.uint64(0xFFFFFFFF), np.uint64(32)
    WORD_UNIT, HALF_UNIT, LOW_WORD = ops.real(2.0**-32), ops.real(2.0**-33), word(0xFFFFFFFF)
    ZERO, MINUS_ONE, MINUS_TWO, MINUS_HALF_LOG2_E = (ops.constant(v) for v in (0, -1, -2, -0.5 / LN2))
    # So many sums are kept at once, in registers, while a loop runs over their common terms.
    TILE = 4

    @ops.jit
    def philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
        """Four random 32-bit words from a counter and a key; of the results only the low halves count."""
        for _ in range(10):
            p0, p1 = M0 * (c0 & LOW), M1 * (c2 & LOW)
            c0, c1, c2, c3 = (p1 >> HALF_WORD) ^ c1 ^ k0, p1, (p0 >> HALF_WORD) ^ c3 ^ k1, p0
            k0, k1 = k0 + W0, k1 + W1
        return c0, c1, c2, c3

    @ops.jit
    def words(block, chain, stream, k0, k1):  # type: ignore[no-untyped-def]
        """Words 4 block ... 4 block + 3 of a chain's stream, in the low halves of what may be wider integers."""
        w0, w1, w2, w3 = philox(block & LOW, block >> HALF_WORD, chain, stream, k0, k1)
        return as_word(w0), as_word(w1), as_word(w2), as_word(w3)

    @ops.jit
    def uniform(w):  # type: ignore[no-untyped-def]
        """Uniform number in (0, 1] from a word; on a GPU `&` widens what it is given, and a wide conversion is slow."""
        return fma(as_real(as_word(w & LOW_WORD)), WORD_UNIT, HALF_UNIT)

    @ops.jit
    def box_muller(w0, w1):  # type: ignore[no-untyped-def]
        """Two independent standard normals from two words: radius from w0, angle from w1.

        None exceeds (66 log 2)^(1/2) = 6.76.
        """
        r = sqrt(MINUS_TWO * log(uniform(w0)))
        c, s = direction(w1)
        return r * c, r * s

    @ops.jit
    def four_normals(block, chain, stream, k0, k1):  # type: ignore[no-untyped-def]
        """Normals 4 block ... 4 block + 3 of a chain's stream."""
        w0, w1, w2, w3 = words(block, chain, stream, k0, k1)
        z0, z1 = box_muller(w0, w1)
        z2, z3 = box_muller(w2, w3)
        return z0, z1, z2, z3

    @ops.jit
    def four_uniforms(block, chain, stream, k0, k1):  # type: ignore[no-untyped-def]
        """Uniform numbers 4 block ... 4 block + 3 of a chain's stream."""
        w0, w1, w2, w3 = words(block, chain, stream, k0, k1)
        return uniform(w0), uniform(w1), uniform(w2), uniform(w3)

    @ops.jit
    def affine(new, u, s, xi, eta, t, j, d, rows, k, m, e):  # type: ignore[no-untyped-def]
        """new = u + (dA u + b s + C [xi, eta]) for every coordinate and the first rows, with map j of the tables t.

        The map uses m normals of the dynamics and e of the reading per coordinate; new may be u itself. The change is
        summed before it is added, so that a small one is not lost to rounding term by term.
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
    def gather(y, u, t, j, d, k):  # type: ignore[no-untyped-def]
        """y = G u."""
        for i in range(d):
            y[i] = t.G[j, 0] * u[0, i]
            for r in range(1, k):
                y[i] = fma(u[r, i], t.G[j, r], y[i])

    @ops.jit
    def copy(u, v, d, rows):  # type: ignore[no-untyped-def]
        """u = v in the first rows."""
        for r in range(rows):
            for i in range(d):
                u[r, i] = v[r, i]

    @ops.jit
    def deviation(y, mixture, j, i, columns):  # type: ignore[no-untyped-def]
        """Entry i of z = R_j (y - mu_j); R_j is 1 if it has no columns, diagonal if one, else lower triangular."""
        if columns == 0:
            return y[i] + mixture.shifts[j, i]
        if columns == 1:
            return fma(y[i], mixture.roots[j, i, 0], mixture.shifts[j, i])
        total = mixture.shifts[j, i]
        for p in range(i + 1):
            total = fma(y[p], mixture.roots[j, i, p], total)
        return total

    @ops.jit
    def squares(q, y, mixture, j, several, d, columns):  # type: ignore[no-untyped-def]
        """q[j] = log2(w_j e^(-P_j |z|^2/2)) for j ... j + several - 1; keeps z where R_j is a full matrix."""
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
            q[j + c] = fma(total[c], MINUS_HALF_LOG2_E * mixture.precisions[j + c], mixture.log2_weights[j + c])

    @ops.jit
    def mixture_log2_weights(q, y, mixture, d, columns):  # type: ignore[no-untyped-def]
        """q[j] = log2 of component j's share of the density at y, up to a constant; returns the largest."""
        components = mixture.log2_weights.shape[0]
        tiled, paired = components - components % TILE, components - components % 2
        for j in range(0, tiled, TILE):
            squares(q, y, mixture, j, TILE, d, columns)
        for j in range(tiled, paired, 2):
            squares(q, y, mixture, j, 2, d, columns)
        for j in range(paired, components):
            squares(q, y, mixture, j, 1, d, columns)
        top = q[0]
        for j in range(1, components):
            top = where(q[j] > top, q[j], top)
        return top

    @ops.jit
    def pull(q, y, mixture, j, i, d, columns, total):  # type: ignore[no-untyped-def]
        """Add q[j] (R_j^T z)_i to the total; where R_j is 1 only -q[j] mu_ji: `forces` begins with the rest."""
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
        """s[i] = scale sum_j q[j] (R_j^T z)_i for coordinates i ... i + several - 1; strength = sum_j q[j]."""
        total = local(several)
        for c in range(several):
            total[c] = strength * y[i + c] if columns == 0 else ZERO
        for j in range(mixture.log2_weights.shape[0]):
            for c in range(several):
                total[c] = pull(q, y, mixture, j, i + c, d, columns, total[c])
        for c in range(several):
            s[i + c] = total[c] * scale

    @ops.jit
    def mixture_score(s, q, y, mixture, d, columns):  # type: ignore[no-untyped-def]
        """s = gradient of log sum_j w_j N(y; mu_j, Sigma_j): the components' forces, weighted by their shares.

        q is scratch: a value for each component, and d more where the covariances are full.
        """
        top = mixture_log2_weights(q, y, mixture, d, columns)
        total, strength = ZERO, ZERO
        for j in range(mixture.log2_weights.shape[0]):
            share = exp2(q[j] - top)
            total = total + share
            q[j] = share * mixture.precisions[j]
            strength = strength + q[j]
        scale = MINUS_ONE / total
        tiled, paired = d - d % TILE, d - d % 2
        for i in range(0, tiled, TILE):
            forces(s, q, y, mixture, strength, scale, i, TILE, d, columns)
        for i in range(tiled, paired, 2):
            forces(s, q, y, mixture, strength, scale, i, 2, d, columns)
        for i in range(paired, d):
            forces(s, q, y, mixture, strength, scale, i, 1, d, columns)

    @ops.jit
    def add_products(products, q, gaps, count, i, j, several):  # type: ignore[no-untyped-def]
        """Add the products of coordinates i and j ... j + several - 1 of the gaps to products q, q + 1, ..."""
        total = local_double(several)
        for c in range(several):
            total[c] = products[q + c]
        for n in range(count):
            for c in range(several):
                total[c] = fma(gaps[n, i], gaps[n, j + c], total[c])
        for c in range(several):
            products[q + c] = total[c]

    @ops.jit
    def accumulate(sums, products, gaps, count, d):  # type: ignore[no-untyped-def]
        """Add gaps[n], n < count, and the lower triangle of their products, one after the other."""
        for i in range(d):
            total = sums[i]
            for n in range(count):
                total = total + gaps[n, i]
            sums[i] = total
            before, tiled = i * (i + 1) // 2, i + 1 - (i + 1) % TILE
            for j in range(0, tiled, TILE):
                add_products(products, before + j, gaps, count, i, j, TILE)
            for j in range(tiled, i + 1):
                add_products(products, before + j, gaps, count, i, j, 1)

    @ops.jit
    def bin_of(x, low, per_unit, bins):  # type: ignore[no-untyped-def]
        """Number of the bin that holds x: 1 ... bins (a real number), 0 below (or not a number), bins + 1 above."""
        place = (as_double(x) - low) * per_unit
        return as_index(where(place >= 0.0, where(place < bins, place, bins), -1.0)) + 1

    @ops.jit
    def first_escape(escape_step, step, u, least, most, d):  # type: ignore[no-untyped-def]
        """Return the first step after which least <= u[0] <= most failed (NaN fails): this one or an earlier one.

        Row 0 may be ahead of the position on the step, by a part of the next one.
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
        affine=affine,
        gather=gather,
        copy=copy,
        mixture_log2_weights=mixture_log2_weights,
        mixture_score=mixture_score,
        accumulate=accumulate,
        bin_of=bin_of,
        first_escape=first_escape,
    )

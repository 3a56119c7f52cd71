"""The one source of the kernels: random numbers, normals, the affine update, the mixture score, the steps of a chain.

`make_core` and `make_chain` are plain Python. What differs between machines is in ``ops`` (see `Ops`): bound to NumPy
the functions below are the reference executor, and every value is an array over chains; compiled by Numba they run one
chain, and every value is a number. Arrays that are indexed (``u[r, i]``, ``xi[j]``) hold such values: r counts rows of
memory, i coordinates, j normals.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from uldnum.stage import Step
from uldnum.typing import Array

__all__ = [
    "DYNAMICS",
    "INITIAL",
    "NEVER",
    "READOUT",
    "Ops",
    "Tables",
    "group",
    "make_chain",
    "make_core",
    "make_tables",
]

# Streams of a chain's random numbers.
DYNAMICS, INITIAL, READOUT = (np.uint64(i) for i in range(3))

# The step at which a chain that stays finite diverges.
NEVER = np.int64(2**62)


class Ops(NamedTuple):
    """What a kernel needs from a machine; each acts on values (numbers or arrays)."""

    jit: Callable[..., Any]  # compiles a function, or returns it
    real: Callable[..., Any]  # the floating-point type of the state
    as_real: Callable[..., Any]  # integer or float value -> real
    as_double: Callable[..., Any]  # real -> float64
    as_index: Callable[..., Any]  # float64 value -> int64, towards zero
    signed: Callable[..., Any]  # 32-bit word in a uint64 -> the int32 with the same bits
    log: Callable[..., Any]
    exp: Callable[..., Any]
    sqrt: Callable[..., Any]
    cospi: Callable[..., Any]
    sinpi: Callable[..., Any]
    maximum: Callable[..., Any]
    minimum: Callable[..., Any]
    where: Callable[..., Any]


class Watch(NamedTuple):
    """What is watched of each coordinate, in float64, shape (d,) each.

    Recording begins with step ``record_from``. Moments are taken about ``centre``; a chain diverges when it is farther
    than ``limit`` from it; histograms count from ``low`` on, with ``per_unit`` bins in a unit of length.
    """

    record_from: int
    centre: Array
    limit: Array
    low: Array
    per_unit: Array


class Tables(NamedTuple):
    """The tables of a step as the kernels read them; `group` takes those of one step size out of H.

    Maps 0 ... stages - 1 are the stages, then come ``open`` and ``close``. Map j uses ``normals[j]`` normals per
    coordinate of the dynamics, then ``readout[j]`` of the reading; C is padded with zeros. The normals of stage j begin
    at ``offset[j]`` within a step.
    """

    G: Array  # (H, stages, k)
    dA: Array  # (H, maps, k, k)
    b: Array  # (H, maps, k)
    C: Array  # (H, maps, k, most normals)
    normals: Array  # (maps,)
    readout: Array  # (maps,)
    offset: Array  # (maps,)
    per_step: int
    open_uses_score: bool


def group(t: Tables, g: int) -> Tables:
    """Return the tables of step size g, without the leading axis."""
    return Tables(
        t.G[g], t.dA[g], t.b[g], t.C[g], t.normals, t.readout, t.offset, t.per_step, t.open_uses_score
    )  # fmt: skip


def make_tables(step: Step, dtype: np.dtype[Any]) -> Tables:
    """Lay out the tables of a step, whose leading axis runs over step sizes, in the type of the run."""
    maps = [*(stage.map for stage in step.stages), step.open, step.close]
    normals = np.array([map.normals for map in maps[:-1]] + [step.stages[-1].map.normals])
    readout = np.array([0] * (len(maps) - 1) + [step.readout_normals])
    in_step = normals[: len(step.stages)]
    C = np.zeros((*maps[0].b.shape, max(map.normals for map in maps), len(maps)))
    for j, map in enumerate(maps):
        C[..., : map.normals, j] = map.C

    def cast(array: Array) -> Array:
        return np.ascontiguousarray(array, dtype=dtype)

    return Tables(
        G=cast(np.stack([stage.G for stage in step.stages], axis=1)),
        dA=cast(np.stack([map.dA for map in maps], axis=1)),
        b=cast(np.stack([map.b for map in maps], axis=1)),
        C=cast(np.moveaxis(C, -1, 1)),
        normals=normals,
        readout=readout,
        offset=np.cumsum(normals) - normals,
        per_step=int(in_step.sum()),
        open_uses_score=step.open_uses_score,
    )


def make_core(ops: Ops) -> SimpleNamespace:
    """Bind random numbers, the affine update and the mixture score to a machine."""
    as_real, as_double, as_index, signed = ops.as_real, ops.as_double, ops.as_index, ops.signed
    log, exp, sqrt, cospi, sinpi = ops.log, ops.exp, ops.sqrt, ops.cospi, ops.sinpi
    maximum, minimum, where = ops.maximum, ops.minimum, ops.where

    # Philox4x32-10 (Salmon et al. 2011). 32-bit words live in 64-bit integers: nothing overflows, nothing is cast.
    M0, M1, W0, W1 = (np.uint64(v) for v in (0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85))
    LOW, HALF_WORD, BIT = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(1)
    ULP, HALF_ULP, HALF_TURN = (ops.real(2.0**e) for e in (-32, -33, -31))
    ZERO, ONE, MINUS_HALF, MINUS_TWO = (ops.real(v) for v in (0, 1, -0.5, -2))

    @ops.jit
    def philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
        """Four random 32-bit words from a counter and a key."""
        for _ in range(10):
            p0, p1 = M0 * c0, M1 * c2
            c0, c1, c2, c3 = (p1 >> HALF_WORD) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF_WORD) ^ c3 ^ k1, p0 & LOW
            k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
        return c0, c1, c2, c3

    @ops.jit
    def uniform(word):  # type: ignore[no-untyped-def]
        """Uniform number in (0, 1] from a word."""
        return as_real(word) * ULP + HALF_ULP

    @ops.jit
    def box_muller(w0, w1):  # type: ignore[no-untyped-def]
        """Two independent standard normals from two words."""
        r = sqrt(MINUS_TWO * log(uniform(w0)))
        angle = as_real(signed(w1)) * HALF_TURN
        return r * cospi(angle), r * sinpi(angle)

    @ops.jit
    def words(block, chain, stream, k0, k1):  # type: ignore[no-untyped-def]
        """Words 4 block ... 4 block + 3 of a chain's stream."""
        return philox(block & LOW, block >> HALF_WORD, chain, stream, k0, k1)

    @ops.jit
    def normals(pair, chain, stream, k0, k1):  # type: ignore[no-untyped-def]
        """Normals 2 pair and 2 pair + 1 of a chain's stream, from the words of the same numbers."""
        w0, w1, w2, w3 = words(pair >> BIT, chain, stream, k0, k1)
        even = (pair & BIT) != BIT
        return box_muller(where(even, w0, w2), where(even, w1, w3))

    @ops.jit
    def affine(new, u, s, xi, eta, t, j):  # type: ignore[no-untyped-def]
        """new = u + (dA u + b s + C [xi, eta]) for every coordinate, with map j of the tables t.

        The change is summed before it is added, so that a small one is not lost to rounding term by term.
        """
        k, d = u.shape[:2]
        m, e = t.normals[j], t.readout[j]
        for i in range(d):
            for r in range(k):
                change = t.b[j, r] * s[i]
                for q in range(k):
                    change = change + t.dA[j, r, q] * u[q, i]
                for c in range(m):
                    change = change + t.C[j, r, c] * xi[i * m + c]
                for c in range(e):
                    change = change + t.C[j, r, m + c] * eta[i * e + c]
                new[r, i] = u[r, i] + change

    @ops.jit
    def copy(u, v):  # type: ignore[no-untyped-def]
        """u = v, value by value: Numba's slice assignment first asks whether the two overlap."""
        for r in range(u.shape[0]):
            for i in range(u.shape[1]):
                u[r, i] = v[r, i]

    @ops.jit
    def gather(y, u, t, j):  # type: ignore[no-untyped-def]
        """y = G u."""
        k, d = u.shape[:2]
        for i in range(d):
            y[i] = t.G[j, 0] * u[0, i]
            for r in range(1, k):
                y[i] = y[i] + t.G[j, r] * u[r, i]

    @ops.jit
    def pull(y, j, i, means, precisions):  # type: ignore[no-untyped-def]
        """Row i of P_j (mu_j - y), the force of component j; a diagonal P_j is stored as one column."""
        if precisions.shape[2] == 1:
            return precisions[j, i, 0] * (means[j, i] - y[i])
        force = ZERO
        for q in range(means.shape[1]):
            force = force + precisions[j, i, q] * (means[j, q] - y[q])
        return force

    @ops.jit
    def mixture_log_weights(q, y, log_weights, means, precisions):  # type: ignore[no-untyped-def]
        """q[j] = log of component j's share of the density at y, up to a constant; returns the largest."""
        for j in range(means.shape[0]):
            square = ZERO
            for i in range(means.shape[1]):
                square = square + pull(y, j, i, means, precisions) * (means[j, i] - y[i])
            q[j] = log_weights[j] + MINUS_HALF * square
        top = q[0]
        for j in range(1, means.shape[0]):
            top = maximum(top, q[j])
        return top

    @ops.jit
    def mixture_score(s, q, y, log_weights, means, precisions):  # type: ignore[no-untyped-def]
        """s = gradient of log sum_j w_j N(y; mu_j, P_j^-1), the forces weighted by their shares; q is scratch."""
        top = mixture_log_weights(q, y, log_weights, means, precisions)
        total = ZERO
        for i in range(means.shape[1]):
            s[i] = ZERO
        for j in range(means.shape[0]):
            share = exp(q[j] - top)
            total = total + share
            for i in range(means.shape[1]):
                s[i] = s[i] + share * pull(y, j, i, means, precisions)
        for i in range(means.shape[1]):
            s[i] = s[i] * (ONE / total)

    @ops.jit
    def accumulate(sums, squares, u, centre):  # type: ignore[no-untyped-def]
        """Add x - centre, and the lower triangle of its products, in float64; x is row 0 of u."""
        q = 0
        for i in range(sums.shape[0]):
            gap = as_double(u[0, i]) - centre[i]
            sums[i] = sums[i] + gap
            for j in range(i + 1):
                squares[q] = squares[q] + gap * (as_double(u[0, j]) - centre[j])
                q += 1

    @ops.jit
    def bin_of(x, low, per_unit, bins):  # type: ignore[no-untyped-def]
        """Number of the bin that holds x: 1 ... bins, 0 below them (or not a number), bins + 1 above."""
        place = (as_double(x) - low) * per_unit
        return as_index(where(place >= 0.0, where(place < bins, place, bins), -1.0)) + 1

    @ops.jit
    def first_escape(left, step, u, centre, limit):  # type: ignore[no-untyped-def]
        """Return the first step at which |x - centre| <= limit failed (NaN fails), or `left` if it was earlier."""
        for i in range(u.shape[1]):
            gap = abs(as_double(u[0, i]) - centre[i])
            left = minimum(left, where(gap <= limit[i], NEVER, step))
        return left

    return SimpleNamespace(
        philox=philox,
        uniform=uniform,
        words=words,
        normals=normals,
        affine=affine,
        copy=copy,
        gather=gather,
        mixture_log_weights=mixture_log_weights,
        mixture_score=mixture_score,
        accumulate=accumulate,
        bin_of=bin_of,
        first_escape=first_escape,
    )


def make_chain(
    ops: Ops, core: SimpleNamespace, score: Callable[..., Any], draw: Callable[..., Any], tally: Callable[..., Any]
) -> SimpleNamespace:
    """Bind the steps of a chain to a machine, its score and its random numbers.

    ``score(s, q, y, target)`` writes the score at y to s and may use the scratch q; ``draw(xi, first, count, chain,
    stream, k0, k1)`` writes normals first ... first + count - 1; ``tally(counts, i, bin)`` adds one to a count.
    """
    gather, affine, copy = core.gather, core.affine, core.copy
    accumulate, bin_of, first_escape = core.accumulate, core.bin_of, core.first_escape
    no_score, first_normal = ops.real(0), np.int64(0)

    @ops.jit
    def enter(u, xp, y, s, q, xi, eta, target, t, d, chain, k0, k1):  # type: ignore[no-untyped-def]
        """Open the recurrence: u from (x, p); returns the number of score evaluations."""
        opening = t.normals.shape[0] - 2
        evaluations = 0
        for i in range(xp.shape[1]):
            y[i] = xp[0, i]
            s[i] = no_score
        if t.open_uses_score:
            score(s, q, y, target)
            evaluations = 1
        draw(xi, first_normal, d * t.normals[opening], chain, DYNAMICS, k0, k1)
        affine(u, xp, s, xi, eta, t, opening)
        return evaluations

    @ops.jit
    def advance(  # type: ignore[no-untyped-def]
        u, v, xp, y, s, q, xi, eta, target, t, d, chain, k0, k1,
        step, last, watch, sums, squares, counts, left,
    ):  # fmt: skip
        """Take steps step ... last, recording what is watched; v is scratch.

        Returns the number of score evaluations and the step of escape.
        """
        closing = t.normals.shape[0] - 1
        opening, last_stage = closing - 1, closing - 2
        evaluations = 0
        while step <= last:
            begun = t.normals[opening] + (step - 1) * t.per_step
            for j in range(last_stage + 1):
                gather(y, u, t, j)
                score(s, q, y, target)
                evaluations += 1
                draw(xi, d * (begun + t.offset[j]), d * t.normals[j], chain, DYNAMICS, k0, k1)
                if j == last_stage and (step >= watch.record_from or step == last):
                    draw(eta, d * step * t.readout[closing], d * t.readout[closing], chain, READOUT, k0, k1)
                    affine(xp, u, s, xi, eta, t, closing)
                    if step >= watch.record_from:
                        accumulate(sums, squares, xp, watch.centre)
                        for i in range(counts.shape[-2]):
                            tally(counts, i, bin_of(xp[0, i], watch.low[i], watch.per_unit[i], counts.shape[-1] - 2.0))
                affine(v, u, s, xi, eta, t, j)
                copy(u, v)
            left = first_escape(left, step, u, watch.centre, watch.limit)
            step += 1
        return evaluations, left

    return SimpleNamespace(enter=enter, advance=advance)

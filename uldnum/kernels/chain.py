"""The steps of a chain, whatever computes them: enter the recurrence, go on, record, read the state."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from uldnum.kernels.core import DYNAMICS, READOUT
from uldnum.kernels.functions import Ops

__all__ = ["make_chain"]


def make_chain(
    ops: Ops,
    core: SimpleNamespace,
    score: Callable[..., Any],
    draw: Callable[..., Any],
    move: Callable[..., Any],
    read: Callable[..., Any],
    record: Callable[..., Any],
) -> SimpleNamespace:
    """Bind the steps of a chain to a machine, its score, its random numbers and its records.

    ``score(s, q, y, target, d)`` writes the score at y to s and may use the scratch q. ``draw(xi, first, count, chain,
    stream, k0, k1)`` returns normals first ... first + count - 1, for which xi is scratch. ``move(u, s, xi, t, j, d)``
    is `affine` in place for stage j, ``read(new, u, s, xi, eta, t, j, d, rows)`` for open and close. ``record(records,
    n, x, watch)`` keeps what is asked for of the positions at recorded step n = 0, 1, ...
    """
    gather, copy, accumulate, first_escape = core.gather, core.copy, core.accumulate, core.first_escape
    as_double, row, tail = ops.as_double, ops.row, ops.tail
    no_score = ops.constant(0)

    @ops.jit
    def enter(u, xp, s, q, xi, target, t, d, k, chain, k0, k1):  # type: ignore[no-untyped-def]
        """Open the recurrence: u from (x, p); returns the number of score evaluations."""
        opening = len(t.normals) - 2
        for i in range(d):
            s[i] = no_score  # the map multiplies it by 0, which must not find what is no number
        if t.open_uses_score:
            score(s, q, row(xp, 0), target, d)
        z = draw(xi, 0, d * t.normals[opening], chain, DYNAMICS, k0, k1)
        read(u, xp, s, z, z, t, opening, d, k)  # to open needs no normals of the reading
        return 1 if t.open_uses_score else 0

    @ops.jit
    def advance(  # type: ignore[no-untyped-def]
        u, xp, y, s, q, xi, eta, gaps, target, t, d, k, chain, k0, k1,
        step, last, window, chunk, watch, moments, sums, products, records, left,
    ):  # fmt: skip
        """Take steps step ... last, recording what is watched.

        Steps count from 1. The normals of step n follow those of open and of steps 1 ... n - 1; those of its reading
        begin at n times their number. Those of ``chunk`` steps, a window, are drawn at once; the first window begins
        at step ``window``, at ``step`` or before. To record needs x alone, to stop the whole state.

        Returns the number of score evaluations and the step of escape.
        """
        closing = len(t.normals) - 1
        opening, last_stage, extra = closing - 1, closing - 2, t.readout[closing]
        evaluations = 0
        for begin in range(window, last + 1, chunk):
            count = min(chunk, last + 1 - begin)
            z = draw(
                xi, d * (t.normals[opening] + (begin - 1) * t.per_step), d * count * t.per_step, chain, DYNAMICS, k0, k1
            )
            recording = begin + count > watch.record_from
            read_normals = d * count * extra if recording or begin + count > last else 0
            reading = draw(eta, d * begin * extra, read_normals, chain, READOUT, k0, k1)
            if moments and (count < chunk or begin < max(step, watch.record_from)):
                for n in range(chunk):
                    for i in range(d):
                        gaps[n, i] = 0.0  # what is not recorded adds nothing
            for n in range(chunk):
                now = begin + n
                if step <= now <= last:
                    recorded = now >= watch.record_from
                    rows = k if now == last else 1
                    for j in range(last_stage + 1):
                        z_j = tail(z, d * (n * t.per_step + t.offset[j]))
                        at = row(u, 0)
                        if not t.plain[j]:
                            gather(y, u, t, j, d, k)
                            at = y
                        score(s, q, at, target, d)
                        evaluations += 1
                        # The reading shares u, the score and the normals with the stage that it precedes.
                        if j == last_stage and t.marked and (recorded or now == last):
                            read(xp, u, s, z_j, tail(reading, d * n * extra), t, closing, d, rows)
                        move(u, s, z_j, t, j, d)
                    if not t.marked and (recorded or now == last):
                        copy(xp, u, d, k)
                    if recorded:
                        if moments:
                            for i in range(d):
                                gaps[n, i] = as_double(xp[0, i]) - watch.centre[i]
                        record(records, now - watch.record_from, xp, watch)
                    left = first_escape(left, now, u, watch.least, watch.most, d)
            if moments and recording:
                accumulate(sums, products, gaps, chunk, d)
        return evaluations, left

    return SimpleNamespace(enter=enter, advance=advance)

"""The steps of a chain, whatever computes them: enter the recurrence, go on, record, read the state.

A time step ends inside its last stage (`uldnum.schemes.stage.Step`). ``read`` writes (x, p) at the end of the step,
``move`` goes on from u to the next u.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

from uldnum._util.typing import Array
from uldnum.kernels.source.core import DYNAMICS, READOUT, Recording
from uldnum.kernels.source.functions import Ops

__all__ = ["Bounds", "Chain", "Chains", "Launch", "Scratch", "Span", "Stream", "make_chain"]


class Chain(NamedTuple):
    """The memory of a chain: what it remembers, its last state, and sums over its recorded steps."""

    u: Any  # [k, d]
    phase_space: Any  # [k, d], (x, p) at the end of the last step that was read
    sums: Any  # [d]
    products: Any  # [d (d + 1)/2]


class Scratch(NamedTuple):
    """Scratch memory that is overwritten in every window of steps."""

    y: Any  # [d], where the score is evaluated
    s: Any  # [d], the score
    q: Any  # of the score
    xi: Any  # normals of the dynamics
    eta: Any  # normals of the reading
    gaps: Any  # [window, d], x - centre at recorded steps


class Stream(NamedTuple):
    """A chain's number, and the two words of the key of its random numbers."""

    chain: Any
    k0: Any
    k1: Any


class Span(NamedTuple):
    """Steps ``step`` ... ``last`` of a phase, whose steps count from 1.

    Normals of ``window`` steps are drawn at once; the first window begins at step ``begin``, at ``step`` or before.
    """

    step: Any
    last: Any
    begin: Any
    window: Any


class Bounds(NamedTuple):
    """A chain diverges when its position leaves [least, most], arrays of shape (d,) in the type of the run."""

    least: Any
    most: Any


class Launch(NamedTuple):
    """What a launch runs: parts of phases that follow each other, over which arrays have an axis."""

    tables: Any  # the coefficients of all phases, or of those of the parts
    phase: int  # of the first part, in the tables
    target: Any  # of the phases of the parts
    least: Array  # (parts, d), divergence bounds
    most: Array
    keys: Any  # (parts, 2); on a GPU these five are numbers where a launch has one part
    first: Any  # (parts,), the first step of each part, from 1
    last: Any
    begin: Any  # where the first window of normals begins
    before: Any  # (parts,), steps that precede each phase
    recording: Recording  # whose steps count through all phases
    first_chain: int


class Chains(NamedTuple):
    """The arrays of the state, laid out for a machine, and room for the positions that are kept."""

    u: Array
    phase_space: Array
    sums: Array
    products: Array
    counts: Array
    escape_step: Array
    nfe: Array
    trace: Array
    kept: int  # positions that were kept before


def make_chain(
    ops: Ops,
    core: SimpleNamespace,
    score: Callable[..., Any],
    draw: Callable[..., Any],
    move: Callable[..., Any],
    read: Callable[..., Any],
    count: Callable[..., Any],
    keep: Callable[..., Any],
) -> SimpleNamespace:
    """Bind the steps of a chain to a machine, its score, its random numbers and its records.

    ``score(s, q, y, target, d)`` writes the score at y to s and may use the scratch q. ``draw(xi, first, count, kind,
    stream)`` returns normals first ... first + count - 1 of a kind, for which xi is scratch. ``move(u, s, xi, t, j,
    d)`` is `affine` in place for stage j, ``read(new, u, s, xi, eta, t, j, d, rows)`` for open and close.
    ``count(records, x, recording)`` counts positions in the histograms, if there are any. ``keep(records, x, number)``
    keeps them as those of this number, counted from the start of the recording.
    """
    gather, copy, accumulate, first_escape = core.gather, core.copy, core.accumulate, core.first_escape
    as_double, row, tail = ops.as_double, ops.row, ops.tail
    no_score = ops.constant(0)

    @ops.jit
    def enter(chain, scratch, target, t, d, k, stream):  # type: ignore[no-untyped-def]
        """Open the recurrence: u from (x, p); returns the number of score evaluations."""
        opening = len(t.normals) - 2
        for i in range(d):
            scratch.s[i] = no_score  # the map multiplies it by 0, which must not find a non-finite number
        if t.open_uses_score:
            score(scratch.s, scratch.q, row(chain.phase_space, 0), target, d)
        xi = draw(scratch.xi, 0, d * t.normals[opening], DYNAMICS, stream)
        read(chain.u, chain.phase_space, scratch.s, xi, xi, t, opening, d, k)  # opening draws no normals of the reading
        return 1 if t.open_uses_score else 0

    @ops.jit
    def advance(chain, scratch, target, t, d, k, stream, span, bounds, recording, records, escape_step):  # type: ignore[no-untyped-def]
        """Take the steps of a span and record them.

        The normals of step n follow those of open and of steps 1 ... n - 1; those of its reading begin at n times their
        number. Recording reads x alone; the last step of a span reads all rows.

        Returns the number of score evaluations and the step of escape.
        """
        u, phase_space, s, gaps = chain.u, chain.phase_space, scratch.s, scratch.gaps
        step, last, window = span.step, span.last, span.window
        closing = len(t.normals) - 1
        opening, last_stage, extra = closing - 1, closing - 2, t.readout[closing]
        evaluations = 0
        for begin in range(span.begin, last + 1, window):
            steps = min(window, last + 1 - begin)
            first = d * (t.normals[opening] + (begin - 1) * t.per_step)
            normals = draw(scratch.xi, first, d * steps * t.per_step, DYNAMICS, stream)
            recorded_window = begin + steps > recording.record_from
            read_normals = d * steps * extra if recorded_window or begin + steps > last else 0
            reading = draw(scratch.eta, d * begin * extra, read_normals, READOUT, stream)
            if recording.moments and (steps < window or begin < max(step, recording.record_from)):
                for n in range(window):
                    for i in range(d):
                        gaps[n, i] = 0.0  # what is not recorded adds nothing
            for n in range(window):
                now = begin + n
                if step <= now <= last:
                    recorded = now >= recording.record_from
                    rows = k if now == last else 1
                    for j in range(last_stage + 1):
                        xi = tail(normals, d * (n * t.per_step + t.offset[j]))
                        at = row(u, 0)
                        if not t.score_at_x[j]:
                            gather(scratch.y, u, t, j, d, k)
                            at = scratch.y
                        score(s, scratch.q, at, target, d)
                        evaluations += 1
                        # The reading shares u, the score and the normals with the stage that it precedes.
                        if j == last_stage and t.separate_readout and (recorded or now == last):
                            read(phase_space, u, s, xi, tail(reading, d * n * extra), t, closing, d, rows)
                        move(u, s, xi, t, j, d)
                    if not t.separate_readout and (recorded or now == last):
                        copy(phase_space, u, d, k)
                    if recorded:
                        if recording.moments:
                            for i in range(d):
                                gaps[n, i] = as_double(phase_space[0, i]) - recording.centre[i]
                        done = now - recording.record_from
                        if done % recording.bin_every == 0:
                            count(records, phase_space, recording)
                        if recording.thin > 0 and (done + 1) % recording.thin == 0:
                            keep(records, phase_space, (done + 1) // recording.thin - 1)
                    escape_step = first_escape(escape_step, now, u, bounds.least, bounds.most, d)
            if recording.moments and recorded_window:
                accumulate(chain.sums, chain.products, gaps, window, d)
        return evaluations, escape_step

    return SimpleNamespace(enter=enter, advance=advance)

"""The time steps of a chain: open the recurrence, advance it, read the state, and record.

A time step ends inside its last stage (`uldnum.schemes.stage.Step`). Therefore two maps use the last score of a step:
``move`` replaces u by the next u, and ``read`` computes (x, p) at the end of the step without changing u. The functions
that `make_chain` returns are the only sampling loop of the package; every executor binds them to its backend.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

from uldnum._util.typing import Array
from uldnum.kernels.source.core import DYNAMICS, METROPOLIS, READOUT, Recording
from uldnum.kernels.source.functions import Ops
from uldnum.kernels.source.metropolis import make_metropolis

__all__ = ["Bounds", "Carried", "Chain", "Chains", "Launch", "Scratch", "Span", "Stream", "make_chain"]


class Carried(NamedTuple):
    """Further arrays of a chain with Metropolis tests; for all chains of a state, with leading axes."""

    score: Any  # [d], score at x
    log_density: Any  # [1], float64, log density at x, up to a constant
    accepted: Any  # [1], number of recorded steps that were accepted


class Chain(NamedTuple):
    """Arrays of a chain: the rows u of the recurrence, the last state (x, p), and sums over the recorded steps."""

    u: Any  # [k, d]
    phase_space: Any  # [k, d], (x, p) at the end of the last step at which it was read
    sums: Any  # [D], where D = rows d counts the recorded rows (`Recording`)
    products: Any  # [0], [D] or [D (D + 1)/2], squares of z - centre or the lower triangle of its outer product
    carried: Any  # `Carried`; not used by chains without Metropolis tests


class Scratch(NamedTuple):
    """Scratch memory, which is overwritten in every window of steps."""

    y: Any  # [d], point at which the score is evaluated
    s: Any  # [d], score
    q: Any  # scratch memory of the score function
    xi: Any  # dynamics normals of a window
    eta: Any  # readout normals of a window
    log_u: Any  # logarithms of the uniform numbers of a window, for Metropolis tests
    gap: Any  # [D], z - centre, for sums of products


class Stream(NamedTuple):
    """Index of a chain, and the two 32-bit words of the key of its random numbers."""

    chain: Any
    k0: Any
    k1: Any


class Span(NamedTuple):
    """Steps ``step`` ... ``last`` of a phase, counted from 1.

    The normals of ``window`` steps are drawn together. The first window starts at step ``begin``, which is at most
    ``step``.
    """

    step: Any
    last: Any
    begin: Any
    window: Any


class Bounds(NamedTuple):
    """Divergence bounds. A chain whose position leaves [least, most] in any coordinate has diverged.

    Both are arrays of shape (d,) in the dtype of the run.
    """

    least: Any
    most: Any


class Launch(NamedTuple):
    """Arguments of a launch, which runs consecutive parts of phases. Arrays have a leading axis over parts."""

    tables: Any  # coefficients of all phases, or only of the phases of the parts
    phase: int  # index of the first part's phase in the tables
    target: Any  # data of the targets of the parts
    least: Array  # (parts, d), lower divergence bounds
    most: Array  # (parts, d), upper divergence bounds
    keys: Any  # (parts, 2); this and the next four are scalars on a GPU if the launch has one part
    first: Any  # (parts,), first step of each part, counted from 1
    last: Any  # (parts,), last step
    begin: Any  # (parts,), step at which the first window of normals starts
    before: Any  # (parts,), number of steps before the phase of each part
    recording: Recording  # step numbers are counted over all phases
    first_chain: int


class Chains(NamedTuple):
    """Arrays of the state in the layout of a backend, and an array for the stored positions."""

    u: Array
    phase_space: Array
    sums: Array
    products: Array
    counts: Array
    escape_step: Array
    nfe: Array
    carried: Any  # `Carried`, with arrays that are empty without Metropolis tests
    trace: Array
    kept: int  # number of positions stored before this launch


def make_chain(
    ops: Ops,
    core: SimpleNamespace,
    score: Callable[..., Any],
    draw: Callable[..., Any],
    move: Callable[..., Any],
    read: Callable[..., Any],
    place: Callable[..., Any],
    count: Callable[..., Any],
    keep: Callable[..., Any],
    evaluate: Callable[..., Any] | None = None,
) -> SimpleNamespace:
    """Return the functions ``enter`` and ``advance``, bound to a backend.

    Parameters
    ----------
    ops : Ops
        Operations of the backend.
    core : namespace
        Functions of `make_core` for this backend.
    score : callable
        ``score(s, q, y, target, d)`` writes the score at y to s. q is scratch memory.
    draw : callable
        ``draw(xi, first, count, kind, stream)`` returns ``count`` normals of the stream ``kind`` (`DYNAMICS` or
        `READOUT`), starting at index ``first``. xi is scratch memory. For `METROPOLIS` it returns logarithms of uniform
        numbers instead.
    move : callable
        ``move(u, s, xi, t, j, d)`` applies the map of stage j to u in place.
    read : callable
        ``read(new, u, s, xi, eta, t, j, d, rows)`` applies the map ``open`` or ``close`` to u and writes the first
        rows of the result to ``new``.
    place : callable
        ``place(x, recording, d)`` replaces the position, row 0 of x, by F x, if the recording has a frame F.
    count : callable
        ``count(records, x, recording)`` adds positions to the histograms.
    keep : callable
        ``keep(records, x, number)`` stores positions. ``number`` is the number of positions stored before, counted from
        the start of the recording.
    evaluate : callable, optional
        Score with the log density, for steps with Metropolis tests (`make_metropolis`). None means no tests.
    """
    gather, copy, accumulate, first_escape = core.gather, core.copy, core.accumulate, core.first_escape
    row, tail, disturb = ops.row, ops.tail, core.disturb
    no_score = ops.constant(0)
    tested = evaluate is not None
    known = 2 * tested  # number of stages that evaluate no score: the first and the last one of a step with a test

    @ops.jit
    def enter(chain, scratch, target, t, d, k, stream):  # type: ignore[no-untyped-def]
        """Open the recurrence: compute u from (x, p). Return the number of score evaluations."""
        opening = len(t.normals) - 2
        for i in range(d):
            scratch.s[i] = no_score  # if the score is not used, the map multiplies s by 0, so s must be finite
        if t.open_uses_score:
            score(scratch.s, scratch.q, row(chain.phase_space, 0), target, d)
        xi = draw(scratch.xi, 0, d * t.normals[opening], DYNAMICS, stream)
        if t.open_uses_score:
            disturb(scratch.s, xi, t, opening, d)
        read(chain.u, chain.phase_space, scratch.s, xi, xi, t, opening, d, k)  # open uses no readout normals
        return 1 if t.open_uses_score else 0

    @ops.inline
    def take(chain, scratch, target, t, d, k, xi, eta, log_u, rows, wanted, recorded):  # type: ignore[no-untyped-def]
        """Take a time step, and compute the first rows of (x, p) if they are wanted."""
        u, phase_space, s = chain.u, chain.phase_space, scratch.s
        closing = len(t.normals) - 1
        last_stage = closing - 2
        for j in range(last_stage + 1):
            here, at = tail(xi, d * t.offset[j]), row(u, 0)
            if not t.score_at_x[j]:
                gather(scratch.y, u, t, j, d, k)
                at = scratch.y
            score(s, scratch.q, at, target, d)
            disturb(s, here, t, j, d)
            # The readout uses u before the stage, and shares the score and the normals of the stage.
            if j == last_stage and t.separate_readout and wanted:
                read(phase_space, u, s, here, eta, t, closing, d, rows)
            move(u, s, here, t, j, d)
        if not t.separate_readout and wanted:
            copy(phase_space, u, d, k)

    if evaluate is not None:
        tests = make_metropolis(ops, core, draw, read, evaluate)
        enter, take = tests.enter, tests.take

    @ops.jit
    def advance(chain, scratch, target, t, d, k, stream, span, bounds, recording, records, escape_step):  # type: ignore[no-untyped-def]
        """Take the steps of a span and record them. Return the number of score evaluations and the escape step.

        In the stream of dynamics normals, those of step n follow those of ``open`` and of steps 1 ... n - 1. In the
        stream of readout normals, those of step n start at index n times their number per step; they are drawn only
        where they are used. At the last step of the span, and at steps at which moments of p are accumulated, all rows
        of (x, p) are read. At any other step that is accumulated or stored, only x is read. The frame of the recording
        applies to x when it is read, and not to the other rows. The Metropolis test of step n uses the uniform number n
        of its stream.
        """
        u, phase_space = chain.u, chain.phase_space
        step, last, window = span.step, span.last, span.window
        closing = len(t.normals) - 1
        opening, evaluations = closing - 1, closing - 1 - known
        extra = d * t.readout[closing]
        reading = recording.record_from if t.x_has_readout or recording.rows > 1 else last
        due = recording.record_from  # step at which moments are accumulated next
        if step > due:
            due += (step - due + recording.every - 1) // recording.every * recording.every
        begin = span.begin
        while begin <= last:  # a range would take two more registers on a GPU
            steps = min(window, last + 1 - begin)
            first = d * (t.normals[opening] + (begin - 1) * t.per_step)
            normals = draw(scratch.xi, first, d * steps * t.per_step, DYNAMICS, stream)
            needed = steps * extra if begin + steps > min(last, reading) else 0
            others = draw(scratch.eta, begin * extra, needed, READOUT, stream)
            chances = draw(scratch.log_u, begin, steps, METROPOLIS, stream) if tested else others
            for n in range(window):
                now = begin + n
                if step <= now <= last:
                    summed = now == due
                    rows = k if now == last or (summed and recording.rows > 1) else 1
                    wanted = now == last or summed or (recording.thin > 0 and now >= recording.record_from)
                    xi, eta = tail(normals, d * n * t.per_step), tail(others, n * extra)
                    log_u, recorded = tail(chances, n) if tested else eta, now >= recording.record_from
                    take(chain, scratch, target, t, d, k, xi, eta, log_u, rows, wanted, recorded)
                    if wanted:
                        place(phase_space, recording, d)
                    done = now - recording.record_from
                    if recording.moments > 0 and summed:
                        accumulate(
                            chain.sums, chain.products, scratch.gap, phase_space, recording.centre, d, recording.rows,
                            recording.moments,
                        )  # fmt: skip
                        if done % recording.bin_every == 0:
                            count(records, phase_space, recording)
                        due += recording.every
                    if recording.thin > 0 and done >= 0 and (done + 1) % recording.thin == 0:
                        keep(records, phase_space, (done + 1) // recording.thin - 1)
                    escape_step = first_escape(escape_step, now, u, bounds.least, bounds.most, d)
            begin += window
        return (last + 1 - step) * evaluations, escape_step

    return SimpleNamespace(enter=enter, advance=advance)

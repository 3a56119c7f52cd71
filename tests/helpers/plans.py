"""Helper that interrupts and resumes a plan."""

from contextlib import contextmanager

import pytest

import uldnum
from uldnum.kernels.numba.executor import NumbaExecutor
from uldnum.sampling import launch


def stop_and_go_on(monkeypatch, path, checks, *arguments, **options):
    """Run a plan without and with an interrupt after a number of checks, and resume it; return all three runs."""
    whole = uldnum.anneal(*arguments, **options, progress=False)

    @contextmanager
    def interruptible():
        asked = iter([False] * checks)
        yield lambda: next(asked, True)

    with monkeypatch.context() as patch:
        patch.setattr(launch, "interruptible", interruptible)
        patch.setattr(launch, "next_launch", lambda *_: 1)
        patch.setattr(NumbaExecutor, "first_launch", lambda executor, state: 1)
        with pytest.warns(UserWarning, match="stopped after"):
            stopped = uldnum.anneal(*arguments, **options, progress=False)
    assert not stopped.complete
    stopped.save(path)
    return whole, stopped, uldnum.anneal(*arguments, **options, resume=path, progress=False)

"""Deadlines of computations that can be abandoned."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["OutOfTimeError", "check_deadline", "deadline"]

MOMENT = ContextVar("MOMENT", default=float("inf"))


class OutOfTimeError(RuntimeError):
    """A computation was abandoned because its deadline has passed."""


@contextmanager
def deadline(moment: float) -> Iterator[None]:
    """Return a context in which `check_deadline` raises an error after a moment of `time.monotonic`."""
    token = MOMENT.set(moment)
    try:
        check_deadline()
        yield
    finally:
        MOMENT.reset(token)


def check_deadline() -> None:
    """Raise an error if the deadline has passed; long computations call this function from time to time."""
    if time.monotonic() > MOMENT.get():
        raise OutOfTimeError("the deadline has passed")

"""Handling of Ctrl-C: interruption between units of work instead of inside one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["interruptible", "uninterrupted"]


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C was pressed; the second Ctrl-C raises KeyboardInterrupt.

    Contexts can be nested. The first Ctrl-C then sets the flag of all of them.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    usual = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, usual)
        if getattr(usual, "asks", False):
            usual(number, frame)  # type: ignore[operator, misc]

    note.asks = True  # type: ignore[attr-defined]
    signal.signal(signal.SIGINT, note)
    try:
        yield asked.is_set
    finally:
        if signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, usual)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay a Ctrl-C until the end of the block.

    If the block raises an exception, that exception is raised and the Ctrl-C is dropped.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = threading.Event()
    usual = signal.signal(signal.SIGINT, lambda number, frame: came.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if came.is_set():
        signal.raise_signal(signal.SIGINT)

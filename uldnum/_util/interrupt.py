"""Stopping long work between its pieces instead of in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["interruptible", "uninterrupted"]


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a question that can be asked between launches; the second one interrupts.

    Where one is within another, both are told: work that was done by then may be a part of more.
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
    """Finish what is within; a Ctrl-C that comes meanwhile takes effect afterwards.

    Where an error ends the block, it is what is raised.
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

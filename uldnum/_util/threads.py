"""Threads of the linear algebra libraries."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["OneThread", "one_thread"]


@cache
def controller() -> ThreadpoolController:
    """Return the controller of the libraries that are loaded at the first call."""
    import scipy.linalg  # noqa: F401  (loads its own OpenBLAS)

    return ThreadpoolController()


class OneThread:
    """Context in which BLAS and LAPACK use one thread; it can be nested and shared by threads.

    On matrices of a few hundred rows, threads that wait for each other cost up to ten times the work. The setting
    belongs to the process, so the first thread to enter changes it and the last one to leave restores it.
    """

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0
        self.limit: Any = None

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.limit = controller().limit(limits=1, user_api="blas")
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.limit.restore_original_limits()


one_thread = OneThread()

"""Entry point of the command ``uldnum``.

This module and the package itself import little, so that the handler of Ctrl-C is in place before the slow
imports.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # importing signal takes long enough to be interrupted
import atexit
import gc
import os
import sys
from types import FrameType

__all__ = ["main"]


def main() -> None:
    """Run the command line; Ctrl-C ends it with a one-line message at any time."""
    # Otherwise the interpreter would search all objects of the libraries for cycles when it exits, for half a second.
    atexit.register(gc.freeze)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not in background jobs, which ignore it
        signal.signal(signal.SIGINT, interrupt)
    try:
        from uldnum.cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Exit if an import is in progress, otherwise raise KeyboardInterrupt.

    During an import, other code may catch a KeyboardInterrupt, or print and ignore it.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib."):
            os.write(2, b"interrupted\n")
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt

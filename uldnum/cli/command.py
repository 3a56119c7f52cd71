"""Entry point of the command ``uldnum``.

It imports little, and so does the package itself: Ctrl-C is handled before the imports that take a second.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # what signal adds takes long enough to be interrupted
import os
import sys
from types import FrameType

__all__ = ["main"]


def main() -> None:
    """Run the command line; Ctrl-C ends it in one line at any time."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it may be ignored, as in background jobs
        signal.signal(signal.SIGINT, interrupt)
    try:
        from uldnum.cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


def interrupt(number: int, frame: FrameType | None) -> None:
    """End the process if something is being imported, else raise KeyboardInterrupt.

    Code that runs during an import may catch the exception, or print it and go on.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib."):
            os.write(2, b"interrupted\n")
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt

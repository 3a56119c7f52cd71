"""How the test processes run: one thread of linear algebra, the order of the files, and Ctrl-C."""

import os
import signal

import pytest

pytest.register_assert_rewrite("helpers")

# There are as many test processes as cores; threads of BLAS that wait for each other would take most of their time. It
# counts its threads when NumPy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Files begin in an order in which the processes to which they are handed out (-n) end together. First come those that
# take the longest, half a minute to some minutes, by their time without any kernel compiled before. The first one
# compiles most kernels for this processor; files that would compile the same ones follow when these are on the disk.
LONGEST = (
    "test_cuda", "test_transfer", "test_orders", "test_user_targets", "test_executors", "test_bits", "test_fuzz",
    "test_plan", "test_distances", "test_sweep", "test_mixing", "test_cli", "test_api",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


def pytest_configure():
    """Handle SIGINT as in a terminal: in the background jobs of a shell it is ignored, and so it is in all children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

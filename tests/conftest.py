"""How the test processes run: one thread of linear algebra, the order of the files, and Ctrl-C."""

import os
import signal

import pytest

pytest.register_assert_rewrite("helpers")

# There are as many test processes as cores; threads of BLAS or OpenMP that wait for each other would take most of their
# time. The libraries count their threads when they are loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Files begin in an order in which the processes to which they are handed out (-n) end together. The first one compiles
# most kernels for this processor. Meanwhile, another process runs files that compile hardly any, so that no kernel is
# compiled twice. When the kernels are on the disk, the files follow that take the longest.
LONGEST = (
    "test_cuda", "test_transfer", "test_gaussian", "test_functions", "test_orders", "test_calibration",
    "test_user_targets", "test_executors", "test_bits", "test_cli", "test_pages", "test_fuzz", "test_sweep",
    "test_run_files", "test_plan", "test_mixing", "test_plotting", "test_processes", "test_references",
    "test_arguments", "test_targets", "test_distances", "test_bias", "test_agreement",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


def pytest_configure():
    """Handle SIGINT as in a terminal: in the background jobs of a shell it is ignored, and so it is in all children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def time_for_exact_values(monkeypatch):
    """Let studies compute all exact values; on a busy machine, a test would otherwise depend on the time it takes."""
    monkeypatch.setattr("uldnum.studies.common.LEAST_SECONDS", 600.0)

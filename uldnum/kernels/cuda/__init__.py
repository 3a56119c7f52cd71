"""The core on NVIDIA GPUs."""

from pathlib import Path

from uldnum.extras import require
from uldnum.kernels import SOURCES as BASE
from uldnum.kernels import digest_of

__all__ = ["SOURCES"]

require("numba_cuda", "cuda")

# Of what the GPU's kernels are made.
SOURCES = BASE + digest_of(Path(__file__).parent)

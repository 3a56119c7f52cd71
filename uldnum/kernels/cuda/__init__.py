"""The core on NVIDIA GPUs."""

from uldnum.extras import require

require("numba_cuda", "cuda")

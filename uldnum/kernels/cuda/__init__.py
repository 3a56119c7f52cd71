"""The core on NVIDIA GPUs."""

from uldnum._util.extras import require

__all__: list[str] = []

require("numba_cuda", "cuda")

"""Executors on NVIDIA GPUs: the source bound to scalars, because one thread runs one chain."""

from uldnum._util.extras import require

__all__: list[str] = []

require("numba_cuda", "cuda")

"""Executors on NVIDIA GPUs.

* `binding`: the source bound to scalars, because one thread runs one chain, and the compilation of kernels to PTX.
* `device`: the GPU, through CuPy, or Numba's simulator; loading and launching kernels.
* `form`, `chains` and `executor`: mixtures. `form` lists the properties for which a kernel is compiled. In the kernel
  (`chains`) one thread runs one chain for many steps; `executor` launches it.
* `stages` and `images`: image targets. The time steps run in Python (`images`). The score runs on the GPU, and one
  kernel (`stages`) applies each map, with four coordinates per thread.
"""

from uldnum._util.extras import require

__all__: list[str] = []

require("numba_cuda", "cuda")

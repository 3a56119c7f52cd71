"""Executors on NVIDIA GPUs.

* `binding`: the source bound to scalars, because one thread runs one chain, and the compilation of kernels to PTX.
* `device`: the GPU, through CuPy, or Numba's simulator; loading and launching kernels.
* `form`, `chains` and `executor`: mixtures and users' scores. `form` lists the properties for which a kernel is
  compiled. In the kernel (`chains`) one thread runs one chain for many steps; `executor` launches it.
* `users`: users' scores as device functions.
* `split`: the executor that divides the chains of a run among several GPUs.
* `stages` and `images`: image targets. The time steps run in Python (`images`). The score runs on the GPU, and one
  kernel (`stages`) applies each map, with four coordinates per thread. The kernels of `norms` compute the norms from
  which adaptive step sizes follow.
"""

import importlib
import warnings
from unittest.mock import patch

import numpy as np
from numba.core import config

from uldnum._util.extras import require

__all__: list[str] = []

require("numba_cuda", "cuda")
if not config.ENABLE_CUDASIM:
    # numba-cuda 0.30, the last series, compiles np.row_stack, which NumPy 2.5 removed (NVIDIA/numba-cuda#907), and uses
    # a deprecated conversion.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with patch.object(np, "row_stack", np.vstack, create=True):
            importlib.import_module("numba.cuda.np.arrayobj")

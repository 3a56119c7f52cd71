"""Random normals of chains by the kernel source bound to NumPy, for comparison with those of compiled functions."""

import numpy as np

from uldnum.kernels.arrays.binding import core
from uldnum.kernels.source.core import split_seed


def normals(first, count, chains, stream, seed, dtype):
    """Return normals first ... first + count - 1 of the stream of each of the given chains, shape (count, chains)."""
    block = np.arange(first // 4, (first + count + 3) // 4, dtype=np.uint64)
    chains = np.asarray(chains, dtype=np.uint64)
    four = core(dtype).four_normals(block[:, None], chains[None, :], stream, *split_seed(seed))
    return np.stack(four, axis=1).reshape(-1, len(chains))[first % 4 :][:count]

"""Functions of the core on vectors, wrapped as functions of arrays."""

import numba
import numpy as np

from uldnum.jit import values
from uldnum.kernels.numba.binding import core


def on_arrays(pick, dtype, arguments=1, results=1, lanes=8):
    """Return ``pick(core)``, a function on vectors with the given numbers of arguments and results, for arrays.

    The length of the arrays must be a multiple of ``lanes``.
    """
    function, view = pick(core(np.dtype(dtype), lanes)), values.view(lanes)

    @numba.njit(error_model="numpy")
    def one_to_one(x, out):
        for b in range(len(x[0]) // lanes):
            view(out[0], b, 1)[0] = function(view(x[0], b, 1)[0])

    @numba.njit(error_model="numpy")
    def two_to_two(x, out):
        for b in range(len(x[0]) // lanes):
            view(out[0], b, 1)[0], view(out[1], b, 1)[0] = function(view(x[0], b, 1)[0], view(x[1], b, 1)[0])

    @numba.njit(error_model="numpy")
    def one_to_two(x, out):
        for b in range(len(x[0]) // lanes):
            view(out[0], b, 1)[0], view(out[1], b, 1)[0] = function(view(x[0], b, 1)[0])

    loop = {(1, 1): one_to_one, (1, 2): one_to_two, (2, 2): two_to_two}[arguments, results]

    def call(*x):
        out = np.empty((results, len(x[0])), dtype)
        loop(np.ascontiguousarray(x), out)
        return out[0] if results == 1 else out

    return call

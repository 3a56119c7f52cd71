"""Compiled draws from Gaussian mixtures."""

from __future__ import annotations

import numpy as np

from uldnum._util.typing import Array
from uldnum.jit.compiling import compiled

__all__ = ["mixture_points"]

# Smallest number of cells of the guide table per component.
GUIDE = 4


def mixture_points(weights: Array, means: Array, factors: Array, u: Array, z: Array) -> Array:
    """Return draws from a mixture, given uniform and normal random numbers.

    The component k of a draw is found by inversion: u lies between the cumulative weights of components k - 1 and k. A
    guide table (Chen & Asau 1974) gives the start of the search. A binary search would dominate the run time, because
    its branches cannot be predicted.

    Parameters
    ----------
    weights : array, shape (K,)
        Weights of the components.
    means : array, shape (K, d)
        Means of the components.
    factors : array, shape (K, d, 1) or (K, d, d)
        Standard deviations of the components, or Cholesky factors of their covariances.
    u : array, shape (n,)
        Uniform random numbers below 1, which select the components.
    z : array, shape (n, d)
        Standard normal random numbers.

    Returns
    -------
    float64 array, shape (n, d)
        The draws.
    """
    sums, cells = np.cumsum(weights)[:-1], GUIDE << len(weights).bit_length()  # a power of two, so u * cells is exact
    x, guide = np.empty((len(u), means.shape[1])), np.searchsorted(sums, np.arange(cells) / cells)
    place(x, sums, guide, means, factors, u, z)
    return x


@compiled
def place(x, sums, guide, means, factors, u, z):  # type: ignore[no-untyped-def]
    """Write the draws to x; ``sums`` are the cumulative weights and ``guide`` is the guide table."""
    n, d = x.shape
    columns = factors.shape[2]
    for i in range(n):
        k = guide[int(u[i] * len(guide))]
        while k < len(sums) and sums[k] < u[i]:
            k += 1
        for a in range(d):
            x[i, a] = means[k, a]
            for q in range(columns):
                x[i, a] += factors[k, a, q] * z[i, q if columns > 1 else a]

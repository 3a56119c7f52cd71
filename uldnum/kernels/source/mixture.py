"""Gaussian mixtures as the kernels read them."""

from __future__ import annotations

from typing import NamedTuple

from uldnum._util.typing import Array

__all__ = ["MixtureData"]


class MixtureData(NamedTuple):
    """A mixture as the kernels read it; of one at several noise levels, arrays have a leading axis over them.

    Up to a factor common to all, component j has the weight ``2^log2_weights exp(-precisions |z|^2/2)`` at y, with
    z = R (y - mu), and the force ``-precisions R^T z``. Where R is a multiple of the identity, ``precisions`` holds its
    square and R, now 1, has no columns; else ``precisions`` is 1. A diagonal R is stored as one column, any other as
    the lower triangle that it is.
    """

    log2_weights: Array  # (K,), log2(w_j det(Sigma_j)^(-1/2)): a power of 2 costs less than one of e
    precisions: Array  # (K,)
    roots: Array  # (K, d, columns), R
    shifts: Array  # (K, d), -R mu

    @property
    def scratch(self) -> int:
        """Values that the score needs besides its result: a log weight for each component, z where R is a matrix."""
        K, d, columns = self.roots.shape[-3:]
        return K * (d + 1) if columns > 1 else K

    @property
    def terms(self) -> int:
        """Terms of a score: coordinates of all components, or entries of their matrices."""
        K, d, columns = self.roots.shape[-3:]
        return int(K * d * max(1, columns))

"""Layout of the coefficients of a Gaussian mixture for the kernels."""

from __future__ import annotations

from typing import NamedTuple

from uldnum._util.typing import Array

__all__ = ["MixtureData"]


class MixtureData(NamedTuple):
    """Coefficients of a Gaussian mixture for the kernels; for several noise levels, arrays have a leading axis.

    Component j contributes ``2^log2_weights[j] exp(-precisions[j] |z|^2/2)`` to the density at y, up to a factor that
    is common to all components, where z = R (y - mu). Its score is ``-precisions[j] R^T z``.

    If R is a multiple of the identity, ``precisions`` holds the square of the multiple, R is replaced by 1, and
    ``roots`` has no columns. Otherwise the precisions are 1. A diagonal R is stored as one column, any other R as a
    lower triangular matrix. If the precisions are equal, only one of them is stored.
    """

    log2_weights: Array  # (K,), log2(w_j det(Sigma_j)^(-1/2)); base 2 because exp2 is cheaper than exp
    precisions: Array  # (K,) or (1,)
    roots: Array  # (K, d, columns), R
    shifts: Array  # (K, d), -R mu

    @property
    def apart(self) -> bool:
        """Whether there is a precision for each component."""
        return self.precisions.shape[-1] > 1

    @property
    def scratch(self) -> int:
        """Number of scratch values of the score: a log weight per component, and z if R is a matrix."""
        K, d, columns = self.roots.shape[-3:]
        return K * (d + 1) if columns > 1 else K

    @property
    def terms(self) -> int:
        """Number of terms in a score: coordinates of all components, or entries of all their matrices."""
        K, d, columns = self.roots.shape[-3:]
        return int(K * d * max(1, columns))

"""Targets in other coordinates: the distribution of ``y = F^-1 x``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from uldnum._util.arraylib import Space
from uldnum._util.typing import Array
from uldnum.targets.mass import Mass
from uldnum.targets.protocol import Target

__all__ = ["Transformed"]


@dataclass(frozen=True, eq=False, repr=False)
class Transformed(Target):
    """The score of ``y = F^-1 x``, which is ``F^T s(F y)``, for any target of vectors.

    A Numba score is not changed: compiled kernels read `frame`, evaluate the score of x at F y, and multiply the result
    by F^T.

    Parameters
    ----------
    inner : Target
        The target of x.
    mass : Mass
        The mass, which defines F.
    """

    inner: Target
    mass: Mass

    @property
    def name(self) -> str:
        """Name of the wrapped target."""
        return self.inner.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, (d,)."""
        return self.inner.shape

    @property
    def like(self) -> Any:
        """Example array of the library that the score requires."""
        return self.inner.like

    def of_chains(self, first: int, count: int) -> Transformed:
        """Return the target of some of the chains of a run."""
        return replace(self, inner=self.inner.of_chains(first, count))

    @property
    def compiled_score(self) -> Any:
        """The compiled score of x."""
        return self.inner.compiled_score

    @property
    def compiled_log_density(self) -> Any:
        """The compiled log density of x, which is that of y up to a constant."""
        return self.inner.compiled_log_density

    def score_arguments(self, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Return the arguments of the compiled functions."""
        return self.inner.score_arguments(dtype)

    @property
    def frame(self) -> Array:
        """The matrix F."""
        return self.mass.factor

    @property
    def log_density(self) -> Any:
        """Log density of y up to a constant, if that of x is known."""
        return None if self.inner.log_density is None else self.log_density_of

    def log_density_of(self, y: Array) -> Array:
        """Return the log density of y, (n, d) -> (n,)."""
        return self.inner.log_density(self.mass.outward(y))  # type: ignore[misc]

    def score(self, x: Any) -> Any:
        """Return the score of y, (n, d) -> (n, d), in the library and dtype of its argument."""
        return self.inward(self.inner.score(self.outward(x)), x.dtype)

    def score_and_log_density(self, x: Any) -> tuple[Any, Array]:
        """Return the score and the log density of y."""
        score, log_density = self.inner.score_and_log_density(self.outward(x))
        return self.inward(score, x.dtype), log_density

    def outward(self, y: Any) -> Any:
        """Return F y, in the library and dtype of y."""
        space = Space.of(self.like)
        if not space.foreign:
            return self.mass.outward(y).astype(y.dtype)
        return space.namespace.matmul(y, self.factor(space, y.dtype).T)

    def inward(self, score: Any, dtype: Any) -> Any:
        """Return F^T s, in the library of s."""
        space = Space.of(self.like)
        if not space.foreign:
            return self.mass.forces(score).astype(dtype)
        return space.namespace.matmul(score, self.factor(space, dtype))

    def factor(self, space: Space, dtype: Any) -> Any:
        """Return F as an array of a library and one of its dtypes."""
        factor = np.diag(self.frame[:, 0]) if self.frame.shape[1] == 1 else self.frame
        return space.namespace.astype(space.array(factor), dtype)

"""Checks of what diagnostics are given."""

from __future__ import annotations

from typing import Any

import numpy as np

from uldnum.targets import VectorTarget, vector_target
from uldnum.typing import Array

__all__ = ["matching", "positions"]


def matching(target: VectorTarget | str, shape: tuple[int, ...]) -> VectorTarget:
    """Return a target, or the one of that name, or raise if its samples do not have this shape."""
    found = vector_target(target)
    if tuple(shape) != found.shape:
        raise ValueError(f"target: samples of {found.name!r} have shape {found.shape}, those given {tuple(shape)}")
    return found


def positions(x: Any) -> Array:
    """Return samples of at least two chains, shape (chains, d) or (draws, chains, d), or raise if they are none."""
    if x is None:
        raise ValueError("x: there are no positions; a run keeps some where sample() is given thin")
    found = np.asarray(x)
    if found.ndim not in (2, 3) or found.shape[-2] < 2:
        raise ValueError(
            f"x: must have shape (chains, d) or (draws, chains, d) with at least 2 chains, got {found.shape}"
        )
    return found

"""Checks of what diagnostics are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uldnum.arguments import reals, shown
from uldnum.run import Run
from uldnum.targets import GaussianMixture, VectorTarget, vector_target
from uldnum.typing import Array

__all__ = ["checked_run", "matching", "mixture_of", "positions", "scored"]


def checked_run(run: Any) -> Run:
    """Return a run, or raise if it is none."""
    if not isinstance(run, Run):
        raise ValueError(f"run: must be a Run, as uldnum.sample returns it, got {shown(run)}")
    return run


def matching(target: VectorTarget | str | Path, shape: tuple[int, ...]) -> VectorTarget:
    """Return a target, or the one of that name, or raise if its samples do not have this shape."""
    found = vector_target(target)
    if tuple(shape) != found.shape:
        raise ValueError(f"target: samples of {found.name!r} have shape {found.shape}, those given {tuple(shape)}")
    return found


def mixture_of(target: VectorTarget | str | Path, shape: tuple[int, ...]) -> GaussianMixture:
    """Return a mixture, or the one of that name, or raise if it is none or its samples do not have this shape."""
    found = matching(target, shape)
    if not isinstance(found, GaussianMixture):
        raise ValueError(f"target: modes are the components of a GaussianMixture, {found.name!r} is none")
    return found


def scored(target: Any, shape: tuple[int, ...]) -> Any:
    """Return a target, or the one of that name, or any object with a score of samples of this shape, or raise."""
    if callable(getattr(target, "score", None)) and not isinstance(target, VectorTarget):
        return target
    return matching(target, shape)


def positions(x: Any) -> Array:
    """Return samples of at least two chains, shape (chains, d) or (draws, chains, d), or raise if they are none."""
    if x is None:
        raise ValueError("x: there are no positions; a run keeps some where sample() is given thin")
    found = reals("x", x)
    if found.ndim not in (2, 3) or found.shape[-2] < 2 or not found.size:
        raise ValueError(
            f"x: must have shape (chains, d) or (draws, chains, d) with at least 2 chains, got {found.shape}"
        )
    return found

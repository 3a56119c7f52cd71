"""Checks of what diagnostics are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uldnum._util.arguments import reals, shown
from uldnum._util.typing import Array
from uldnum.sampling.run import Run
from uldnum.targets import Modes, Target, lacking, vector_target

__all__ = ["checked_run", "matching", "modes_of", "positions", "scored"]


def checked_run(run: Any) -> Run:
    """Return a run, or raise if it is none."""
    if not isinstance(run, Run):
        raise ValueError(f"run: must be a Run, as uldnum.sample returns it, got {shown(run)}")
    return run


def matching(target: Target | str | Path, shape: tuple[int, ...]) -> Target:
    """Return a target, or the one of that name, or raise if its samples do not have this shape."""
    return fitting(vector_target(target), shape)


def fitting(target: Target, shape: tuple[int, ...]) -> Target:
    """Return a target, or raise if its samples do not have this shape."""
    if tuple(shape) != target.shape:
        raise ValueError(f"target: samples of {target.name!r} have shape {target.shape}, those given {tuple(shape)}")
    return target


def modes_of(target: Target | str | Path, shape: tuple[int, ...]) -> Modes:
    """Return the modes of a target, or of that name, or raise if it has none or its samples do not have this shape."""
    found = matching(target, shape)
    if found.modes is None:
        raise lacking(found, "its modes", "modes")
    return found.modes


def scored(target: Any, shape: tuple[int, ...]) -> Any:
    """Return a target, or the one of that name, or any object with a score of samples of this shape, or raise."""
    if not callable(getattr(target, "score", None)):
        return matching(target, shape)
    return fitting(target, shape) if len(getattr(target, "shape", ())) == 1 else target


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

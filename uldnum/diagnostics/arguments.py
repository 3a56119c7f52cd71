"""Checks of the arguments of diagnostics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uldnum._util.arguments import reals, shown
from uldnum._util.typing import Array
from uldnum.sampling.run import Run
from uldnum.targets import Modes, Target, lacking, vector_target

__all__ = ["checked_run", "matching", "modes_of", "positions", "scored"]


def checked_run(run: Any) -> Run:
    """Return a run, or raise if the argument is not a `Run`."""
    if not isinstance(run, Run):
        raise ValueError(f"run: must be a Run, such as uldnum.sample returns, got {shown(run)}")
    return run


def matching(target: Target | str | Path, shape: tuple[int, ...]) -> Target:
    """Return a target, given as such or by name, or raise if its samples have another shape."""
    return fitting(vector_target(target), shape)


def fitting(target: Target, shape: tuple[int, ...]) -> Target:
    """Return a target, or raise if its samples have another shape."""
    if tuple(shape) != target.shape:
        raise ValueError(
            f"target: must have samples of shape {tuple(shape)}, got {target.name!r} with shape {target.shape}"
        )
    return target


def modes_of(target: Target | str | Path, shape: tuple[int, ...]) -> Modes:
    """Return the modes of a target, given as such or by name, or raise if they are unknown or the shape differs."""
    found = matching(target, shape)
    if found.modes is None:
        raise lacking(found, "its modes", "modes")
    return found.modes


def scored(target: Any, shape: tuple[int, ...]) -> Any:
    """Return a target, given by name or as an object with a method ``score``; raise if the shape differs."""
    if not callable(getattr(target, "score", None)):
        return matching(target, shape)
    return fitting(target, shape) if len(getattr(target, "shape", ())) == 1 else target


def positions(x: Any) -> Array:
    """Return samples of at least two chains, shape (chains, d) or (draws, chains, d), or raise."""
    if x is None:
        raise ValueError(
            "x: must be an array of positions, got None; a run stores a trace if thin is passed to sample()"
        )
    found = reals("x", x)
    if found.ndim not in (2, 3) or found.shape[-2] < 2 or not found.size:
        raise ValueError(
            f"x: must have shape (chains, d) or (draws, chains, d) with at least 2 chains, got {found.shape}"
        )
    return found

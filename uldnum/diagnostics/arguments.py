"""Checks of the arguments of diagnostics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uldnum._util.arguments import reals, shown
from uldnum._util.typing import Array
from uldnum.sampling.run import Run
from uldnum.targets import Modes, Target, find_target, lacking

__all__ = [
    "checked_run",
    "flattened",
    "matching",
    "modes_of",
    "positions",
    "scored",
    "stored_positions",
    "temperature_of",
]


def checked_run(run: Any) -> Run:
    """Return a run, or raise if the argument is not a `Run`."""
    if not isinstance(run, Run):
        raise ValueError(f"run: must be a Run, such as uldnum.sample returns, got {shown(run)}")
    return run


def matching(target: Target | str | Path, shape: tuple[int, ...]) -> Target:
    """Return a target, given as such or by name, or raise if its samples have another shape."""
    return fitting(find_target(target), shape)


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


def scored(target: Any) -> Any:
    """Return a target, given by name or as an object with a method ``score``."""
    return target if callable(getattr(target, "score", None)) else find_target(target)


def temperature_of(target: Any) -> float:
    """Return the temperature of the expectations of a target, or of any object with a method ``score``."""
    return float(getattr(target, "temperature_of_expectations", 1.0))


def positions(x: Any, target: Any, name: str = "x") -> Array:
    """Return samples of at least two chains, shape (chains, *shape) or (draws, chains, *shape), or raise.

    The samples of a target without a ``shape`` are vectors of any length.
    """
    if x is None:
        raise ValueError(
            f"{name}: must be an array of positions, got None; a run stores a trace if thin is passed to sample()"
        )
    found, axes = reals(name, x), len(getattr(target, "shape", (0,)))
    if found.ndim - axes not in (1, 2) or found.shape[-axes - 1] < 2 or not found.size:
        each = "d" if axes == 1 else f"{axes} axes of an image"
        raise ValueError(
            f"{name}: must have shape (chains, {each}) or (draws, chains, {each}) with at least 2 chains, "
            f"got {found.shape}"
        )
    if hasattr(target, "shape"):
        fitting(target, found.shape[-axes:])
    return found


def stored_positions(run: Run) -> Array:
    """Return the trace of a run, or its final positions if it has no trace."""
    return run.x if run.trace is None else run.trace


def flattened(x: Array, shape: tuple[int, ...]) -> Array:
    """Return samples of a given shape as vectors, (..., *shape) -> (..., d)."""
    return x if len(shape) == 1 else x.reshape(*x.shape[: x.ndim - len(shape)], -1)

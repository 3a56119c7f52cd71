"""Log densities of user targets as functions of arrays, and the test that a score is the gradient of a log density."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from uldnum._util.arraylib import host
from uldnum._util.typing import Array, ArrayLike

if TYPE_CHECKING:
    from uldnum.targets.user import UserTarget

__all__ = ["LogDensity", "check_gradient", "first_line"]


def first_line(error: Exception) -> str:
    """Return the first line of the message of an exception, or the name of its class."""
    return str(error).strip().split("\n")[0] or type(error).__name__


@dataclass(frozen=True, eq=False)
class LogDensity:
    """Log density of a user target, up to a constant, as a function of arrays in float64.

    Parameters
    ----------
    target : UserTarget
        The target.
    function : callable or None
        Array function ``log_density(x, *args)``, or Numba function of one position. None means that the score function
        of the target returns the log density, too.
    """

    target: UserTarget
    function: Callable[..., Any] | None

    @property
    def compiled(self) -> Callable[..., Any] | None:
        """The Numba function that returns the log density of one position, or None."""
        function = self.target.score_function if self.function is None else self.function
        return function if hasattr(function, "py_func") else None

    def __call__(self, x: ArrayLike) -> Array:
        """Return the log density, (n, d) -> (n,)."""
        points = self.target.points(x).astype(float)
        if self.function is None:
            return self.target.score_and_log_density(points)[1]
        arguments, by_rows = self.target.score_arguments(points.dtype), self.compiled is not None
        try:
            found = [self.function(row, *arguments) for row in points] if by_rows else self.function(points, *arguments)
            numbers = np.asarray(host(found), float)
        except Exception as error:  # a user-defined function may raise any exception
            shape = points.shape[1:] if by_rows else points.shape
            raise ValueError(f"log_density: failed on an array of shape {shape}: {first_line(error)}") from error
        if numbers.shape != points.shape[:1]:
            raise ValueError(
                f"log_density: must return one number for each of {len(points)} positions, got an array of shape "
                f"{numbers.shape}"
            )
        return numbers


# Where the gradient is tested: number of places, in standard deviations from the mean, and steps of differences.
PLACES, FAR, STEPS = 3, 1.5, (1e-2, 1e-3)
# Largest error of a difference that counts as accurate, and smallest error of a score that counts as wrong; relative.
ACCURATE, WRONG = 0.01, 0.05
# Relative rounding error of a function that may compute in float32.
ROUNDING = 1e-7


def check_gradient(target: UserTarget, log_density: LogDensity) -> None:
    """Raise unless the log density is finite at the mean, and the score is its gradient.

    The derivative of the log density is measured at three places, along a direction to which each coordinate
    contributes. Differences with two steps tell how accurate it is. An error of 5% of the derivative is found, unless
    rounding, a kink or a singularity makes the differences inaccurate.
    """
    scale = np.where(np.isfinite(target.standard_deviation), target.standard_deviation, 1.0)
    with np.errstate(all="ignore"):
        at_mean = log_density(np.stack([target.mean, target.mean]))
        if not np.isfinite(at_mean).all():
            raise ValueError(f"log_density: must be finite at the mean, got {at_mean[0]}")
        for place in range(PLACES):
            z = FAR * np.cos(1 + 2.4 * (place * scale.size + np.arange(scale.size))).reshape(scale.shape)
            x = np.asarray(target.mean + scale * z)
            score = np.asarray(target.score(x[None])[0], float)
            direction = scale * np.abs(z) * np.where(score < 0, -1, 1)
            logs = log_density(np.stack([x + step * direction for one in STEPS for step in (one, -one)]))
            wide, narrow = ((logs[2 * i] - logs[2 * i + 1]) / (2 * step) for i, step in enumerate(STEPS))
            slope = float((score * direction).sum())
            size = max(abs(narrow), abs(slope))
            error = abs(wide - narrow) + ROUNDING * np.abs(logs).max() / STEPS[-1]
            if error < ACCURATE * size and abs(narrow - slope) > WRONG * size:
                raise ValueError(
                    f"log_density: its gradient must be the score, but at x = {shortened(x)} its derivative along "
                    f"{shortened(direction)} is {narrow:.4g} by finite differences and {slope:.4g} by the score"
                )


def shortened(x: Array) -> str:
    """Return the first numbers of an array in brackets."""
    few = ", ".join(f"{value:.4g}" for value in x.ravel()[:4])
    return f"[{few}, ...]" if x.size > 4 else f"[{few}]"

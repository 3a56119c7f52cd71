"""A user's own target: a score, and whatever else is known of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from uldnum._util.arguments import converted, function, numbers, reals, shown, whole_number
from uldnum._util.arraylib import Space, host
from uldnum._util.names import checked_name
from uldnum._util.typing import Array, ArrayLike
from uldnum.arithmetic.dense import total
from uldnum.arithmetic.elementary import exp, interp
from uldnum.kernels.initial import initial_uniform
from uldnum.targets.protocol import Target

__all__ = ["UserTarget", "quadrature_target"]


@dataclass(frozen=True, eq=False, repr=False)
class UserTarget(Target):
    """A target given by its score.

    Parameters
    ----------
    score_function : callable
        Either a Numba function ``score(x, out, *args)`` of one row, compiled with ``@numba.njit``: it writes the
        gradient of the log density at ``x`` to ``out``, both of shape (d,), and is compiled into the kernel. There it
        runs on vectors of chains if it is made of arithmetic, whole powers, exp, log, sqrt, sin and cos (of arguments
        up to 1e5, float32 1e3), tanh, abs, min, max and numpy.where on the entries of x; with anything else that
        depends on x, a branch for instance, chain by chain (see ``Run.info``). There a division by zero gives inf. Or
        an array function ``score(x, *args)``, (n, d) -> (n, d), which the array executor calls.
    dimension : int
        d.
    log_density : callable, optional
        Log density up to a constant, (n, d) -> (n,).
    sampler : callable, optional
        ``sampler(n, seed, first)`` returns exact draws first ... first + n - 1, (n, d). Without it, `uldnum.sample`
        needs x0.
    mean, standard_deviation : arrays, shape (d,), optional
        Where chains belong: moments are taken about the mean (default 0), and a chain diverges a thousand standard
        deviations away from it (default: only when it leaves the finite numbers).
    moment : callable, optional
        ``moment(order)`` returns E[x_i^order], shape (d,).
    cdf : callable, optional
        Cumulative distribution function of each axis, (n, d) -> (n, d).
    name : str
        What it is called in output.
    args : tuple of numbers and arrays
        What the score takes besides the position.
    like : array, optional
        An array of the library, and on the device, whose arrays an array function takes: PyTorch, CuPy, or any other
        that follows the array API standard (extra ``arrays``). Default: NumPy's.

    Raises
    ------
    ValueError
        If the score cannot be called with a row (compiled) or an array, or its answer has the wrong shape or is not
        finite at the mean.
    """

    score_function: Callable[..., Any]
    dimension: int
    log_density: Callable[[Array], Array] | None = None
    sampler: Callable[[int, int, int], Array] | None = None
    mean: Any = None
    standard_deviation: Any = None
    moment: Callable[[int], Array] | None = None
    cdf: Callable[[ArrayLike], Array] | None = None
    name: str = "user"
    args: tuple[Any, ...] = ()
    like: Any = None

    def __post_init__(self) -> None:
        d = whole_number("dimension", self.dimension, 1, 2**24)
        object.__setattr__(self, "dimension", d)
        checked_name("name", self.name)
        function("score_function", self.score_function)
        for name in ("log_density", "sampler", "moment", "cdf"):
            if getattr(self, name) is not None:
                function(name, getattr(self, name))
        if not isinstance(self.args, tuple):
            raise ValueError(f"args: must be a tuple, got {shown(self.args)}")
        for name, default in (("mean", 0.0), ("standard_deviation", math.inf)):
            given = getattr(self, name)
            value = np.full(d, default) if given is None else numbers(name, given)
            if value.shape != (d,):
                raise ValueError(f"{name}: must have shape {(d,)}, got {value.shape}")
            object.__setattr__(self, name, value)
        if np.any(self.standard_deviation <= 0):
            raise ValueError(f"standard_deviation: must be positive, got {shown(self.standard_deviation)}")
        if self.compiled and self.like is not None:
            raise ValueError("like: a Numba score takes NumPy arrays; leave it out")
        try:
            Space.of(self.like)
        except TypeError:
            raise ValueError(f"like: must be an array, got {shown(self.like)}") from None
        at_mean = self.score(self.mean[None])
        if not np.all(np.isfinite(at_mean)):
            raise ValueError(f"score: must write finite numbers to every entry at the mean, got {at_mean[0]}")

    @property
    def compiled_score(self) -> Callable[..., None] | None:
        """The score if it is a Numba function, which runs inside the kernel."""
        return self.score_function if hasattr(self.score_function, "py_func") else None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, (d,)."""
        return (self.dimension,)

    @property
    def draws(self) -> Callable[[int, int, int], Array] | None:
        """The sampler."""
        return self.sampler

    def check_dtype(self, dtype: np.dtype[Any]) -> None:
        """Raise if the score cannot be computed in this type: that of the user may be compiled for another one."""
        self.score(np.asarray(self.mean, dtype)[None])

    def score_arguments(self, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Return what the score takes besides the position, arrays of real numbers in the type of the run."""

        def cast(value: Any) -> Any:
            real = isinstance(value, np.ndarray) and value.dtype.kind == "f"
            return np.asarray(value, dtype, order="C") if real else value

        return tuple(cast(value) for value in self.args)

    def score(self, x: ArrayLike) -> Array:
        """Gradient of the log density, (n, d) -> (n, d); float32 is kept, anything else becomes float64.

        Of an array of the library of ``like`` the answer is another one, else a NumPy array.
        """
        if self.like is not None and type(x) is type(self.like) and not isinstance(x, np.ndarray):
            return self.answer(x)
        points = np.array(reals("x", x), order="C")  # a copy: a score that writes to x must not change what was given
        if points.ndim != 2 or points.shape[1] != self.dimension:
            raise ValueError(f"x: must have shape (n, {self.dimension}), got {points.shape}")
        if not self.compiled:
            space = Space.of(self.like)
            return np.asarray(host(self.answer(space.array(points) if space.foreign else points)))
        arguments = self.score_arguments(points.dtype)
        out = np.full_like(points, np.nan)  # so that an entry that is read or left unwritten shows
        for row, gradient in zip(points, out, strict=True):
            try:
                self.score_function(row, gradient, *arguments)
            except Exception as error:  # Numba raises a class of its own for each fault of a function
                kind = f"two rows of shape (d,) and type {points.dtype}"
                raise ValueError(f"score: failed as score(x, out) with {kind}: {first_line(error)}") from error
        return out

    def answer(self, points: Any) -> Any:
        """Call an array function, and check what it returns."""
        try:
            answer = self.score_function(points, *self.args)
            answer = np.asarray(answer) if isinstance(points, np.ndarray) else answer
            shape = tuple(answer.shape)
        except Exception as error:
            raise ValueError(f"score: failed on an array of shape {points.shape}: {first_line(error)}") from error
        if shape != tuple(points.shape):
            raise ValueError(f"score: must return the shape of its argument, {tuple(points.shape)}, got {shape}")
        return answer


def first_line(error: Exception) -> str:
    """Return what an error says first."""
    return str(error).strip().split("\n")[0] or type(error).__name__


@dataclass(frozen=True, eq=False)
class Quadrature:
    """What is known of a one-dimensional density: log density on a grid, and its integral up to each node.

    Its methods are what `UserTarget` wants; unlike functions made on the spot they can be sent to other processes.
    """

    log_density: Callable[[Array], Array]
    grid: Array
    density: Array
    cumulative: Array

    def log(self, x: Array) -> Array:
        """Log density, (n, 1) -> (n,)."""
        points = converted("x", x)
        if points.ndim != 2 or points.shape[1] != 1:
            raise ValueError(f"x: must have shape (n, 1), got {points.shape}")
        return self.log_density(points[:, 0])

    def moment(self, order: int) -> Array:
        """E[x^order], shape (1,)."""
        powers = reduce(np.multiply, [self.grid] * whole_number("order", order, 0, 1000), self.density)
        return np.array([total(powers) / total(self.density)])

    def cdf(self, x: ArrayLike) -> Array:
        """Cumulative distribution function, (n,) or (n, 1) -> (n, 1)."""
        return interp(np.reshape(converted("x", x), (-1, 1)), self.grid, self.cumulative)

    def sample(self, n: int, seed: int, first: int) -> Array:
        """Draws first ... first + n - 1, shape (n, 1)."""
        return interp(initial_uniform(n, seed, first), self.cumulative, self.grid)[:, None]


def quadrature_target(
    score: Callable[..., Any], log_density: Callable[[Array], Array], low: float, high: float, name: str
) -> UserTarget:
    """Return a one-dimensional target, its moments, cdf and samples by quadrature of its log density.

    The trapezoidal rule on a smooth density that vanishes at both ends gives moments to rounding; the cdf between its
    nodes is good to the square of their distance, (high - low)/4000.
    """
    grid = np.linspace(low, high, 4001)
    density = exp(log_density(grid))
    steps = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    known = Quadrature(log_density, grid, density, steps / steps[-1])
    mean, second = known.moment(1), known.moment(2)
    return UserTarget(
        score, 1, known.log, known.sample, mean, np.sqrt(second - np.square(mean)), known.moment, known.cdf, name
    )  # fmt: skip

"""Targets that are defined by a score function and, optionally, by known moments, distribution functions and draws."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import numpy as np

from uldnum._util.arguments import converted, flag, function, numbers, reals, shown, whole_number
from uldnum._util.arraylib import Space, host
from uldnum._util.names import checked_name
from uldnum._util.typing import Array, ArrayLike
from uldnum.arithmetic.dense import total
from uldnum.arithmetic.elementary import exp, interp
from uldnum.kernels.initial import initial_uniform
from uldnum.targets.densities import LogDensity, check_gradient, first_line
from uldnum.targets.protocol import Target

__all__ = ["UserTarget", "quadrature_target"]


# What a user who wrote an array function for one position has to change.
FOR_ONE_POSITION = (
    "the function seems to be written for one position, but is called with many chains at once, x of shape (n, d): "
    "write x[:, 0] for x[0], and sums over the last axis, such as np.sum(x**2, axis=1, keepdims=True)"
)


@dataclass(frozen=True, eq=False, repr=False)
class UserTarget(Target):
    """A target given by a function that computes its score.

    Parameters
    ----------
    score_function : callable
        Function that computes the gradient of the log density. It is either an array function ``score(x, *args)`` or a
        Numba function ``score(x, out, *args)`` compiled with ``@numba.njit``. See Notes.
    dimension : int or tuple of int
        Number of dimensions d, or the shape of a sample, such as (channels, height, width). Below, (d,) stands for the
        shape. A Numba function requires an int.
    log_density : callable, optional
        Function that computes the log density up to a constant. It is either an array function
        ``log_density(x, *args)``, (n, d) -> (n,), or a Numba function ``log_density(x, *args)`` that returns the number
        for one position of shape (d,). The attribute ``target.log_density`` is a function of arrays in both cases.
    sampler : callable, optional
        ``sampler(n, seed, first)`` returns n exact draws, shape (n, d). Their indices are ``first`` to
        ``first + n - 1``, and draw i must depend only on seed and i. Without a sampler, `uldnum.sample` needs ``x0``.
    mean : float or array, shape (d,), optional
        Mean, or an approximate centre. Runs accumulate moments about this point. Default: 0.
    standard_deviation : float or array, shape (d,), optional
        Standard deviation of each coordinate, or an approximate scale. A chain counts as diverged if its distance from
        the mean exceeds 1000 standard deviations in any coordinate, multiplied by sqrt(T) at temperatures T above 1.
        Default: infinite. A chain then counts as diverged only if its position is not finite. The runs that make a
        reference ``"long"`` or ``"metropolised"`` start at this scale, or at 1 if it is infinite.
    moment : callable, optional
        ``moment(order)`` returns the raw moments E[x_i^order], shape (d,).
    cdf : callable, optional
        ``cdf(x)`` returns the marginal cumulative distribution functions, (n, d) -> (n, d).
    name : str, default "user"
        Name in output and in stored results.
    args : tuple of numbers and arrays, default ()
        Further arguments of the functions that compute the score and the log density. NumPy arrays of floating-point
        numbers are converted to the type of the run.
    like : array, optional
        Example of the arrays that an array function accepts. It determines their library and device. The library may be
        PyTorch, CuPy, or any other that follows the array API standard (needs the extra ``arrays``). Default: NumPy.
    noised : callable, optional
        ``noised(alpha, sigma)`` returns the distribution of ``alpha x + sigma eps`` as a target, where eps is standard
        normal noise: another `UserTarget`, a `GaussianMixture`, or any `uldnum.targets.Target`. With it,
        `uldnum.anneal` runs plans on this target.
    returns_log_density : bool, default False
        Whether the score function computes the log density, too. An array function then returns the pair
        ``(score, log density)``, and a Numba function returns the log density. ``log_density`` must be omitted.

    Raises
    ------
    ValueError
        If an argument is invalid, or if the functions of the score and of the log density fail, return a wrong shape,
        are not finite at the mean, or if the score is not the gradient of the log density. The gradient is tested by
        finite differences at three points, where an error of 5% is found.

    Notes
    -----
    An array function ``score(x, *args)`` maps positions of shape (n, d) to scores of shape (n, d). In each score
    evaluation it is called once with all chains, or once for each block of them if there are many (only with NumPy).

    A Numba function ``score(x, out, *args)`` writes the score at the position x to ``out``; both have shape (d,). The
    function is compiled into the kernel. It runs on vectors of chains if its only operations on entries of x are
    arithmetic, integer powers, exp, log, sqrt, sin, cos, tanh, abs, min, max and `numpy.where`. The magnitude of
    arguments of sin and cos must then not exceed 1e5, or 1e3 in float32. With any other operation that depends on x,
    such as a branch, the function runs for one chain at a time. ``Run.info`` reports which of the two applies. In the
    kernel, a division by zero gives inf and does not raise an exception.

    Steps with a Metropolis test compare log densities. On the backend "numba", both the score and the log density must
    be Numba functions, or the score function must return the log density. The log density is computed in float64 at
    positions of either type; only a function that computes both works in the type of the run. A log density runs on
    vectors of chains under the same conditions as a score.

    An array function of PyTorch must not record gradients: decorate it with ``@torch.no_grad()``, or return
    ``result.detach()`` if it uses automatic differentiation.

    Examples
    --------
    A quartic target with density proportional to ``exp(-x^4/4)``:

    >>> import uldnum
    >>> target = uldnum.UserTarget(lambda x: -(x**3), dimension=1, name="quartic")
    >>> target.score([[2.0]]).tolist()
    [[-8.0]]
    >>> run = uldnum.sample(target, "BAOAB", h=0.1, steps=10, chains=4, x0=[[0.0]] * 4, progress=False)
    >>> run.x.shape
    (4, 1)

    The same target with compiled functions, for steps with a Metropolis test:

    >>> import numba
    >>> @numba.njit
    ... def score_and_log_density(x, out):
    ...     out[0] = -(x[0] ** 3)
    ...     return -(x[0] ** 4) / 4
    >>> target = uldnum.UserTarget(score_and_log_density, dimension=1, returns_log_density=True)
    >>> target.log_density([[2.0]]).tolist()
    [-4.0]

    A normal distribution with the scores of its noised distributions, for `uldnum.anneal`:

    >>> def noised(alpha, sigma):
    ...     return uldnum.UserTarget(lambda z: -z / (4 * alpha**2 + sigma**2), dimension=1)
    >>> target = uldnum.UserTarget(lambda x: -x / 4, dimension=1, noised=noised)
    >>> plan = uldnum.plan("ddim", uldnum.levels.geometric(20.0, 0.1, 50))
    >>> run = uldnum.anneal(target, plan, chains=2, x0=[[-20.0], [20.0]], progress=False)
    >>> run.x.round(1).tolist()
    [[-1.9], [1.9]]
    """

    score_function: Callable[..., Any]
    dimension: int | tuple[int, ...]
    log_density: Callable[..., Any] | None = None
    sampler: Callable[[int, int, int], Array] | None = None
    mean: Any = None
    standard_deviation: Any = None
    moment: Callable[[int], Array] | None = None
    cdf: Callable[[ArrayLike], Array] | None = None
    name: str = "user"
    args: tuple[Any, ...] = ()
    like: Any = None
    noised: Callable[[float, float], Target] | None = None
    returns_log_density: bool = False

    def __post_init__(self) -> None:
        axes = self.dimension if isinstance(self.dimension, tuple | list) else (self.dimension,)
        shape = tuple(whole_number("dimension", one, 1, 2**24) for one in axes)
        if not shape or math.prod(shape) > 2**24:
            raise ValueError(f"dimension: must be a number or the shape of a sample, at most 2^24, got {shape}")
        object.__setattr__(self, "dimension", shape if len(shape) > 1 else shape[0])
        checked_name("name", self.name)
        function("score_function", self.score_function)
        for name in ("log_density", "sampler", "moment", "cdf", "noised"):
            if getattr(self, name) is not None:
                function(name, getattr(self, name))
        if not isinstance(self.args, tuple):
            raise ValueError(f"args: must be a tuple, got {shown(self.args)}")
        for name, default in (("mean", 0.0), ("standard_deviation", math.inf)):
            given = getattr(self, name)
            value = np.full(shape, default) if given is None else numbers(name, given)
            if value.shape not in ((), shape):
                raise ValueError(f"{name}: must be a number or have shape {shape}, got {value.shape}")
            value = np.full(shape, value) if value.ndim == 0 else value
            object.__setattr__(self, name, value)
        if np.any(self.standard_deviation <= 0):
            raise ValueError(f"standard_deviation: must be positive, got {shown(self.standard_deviation)}")
        if self.compiled and len(shape) > 1:
            raise ValueError(f"dimension: must be a number for a Numba score, got {shape}")
        if self.compiled and self.like is not None:
            raise ValueError("like: a Numba score accepts only NumPy arrays; omit it")
        try:
            Space.of(self.like)
        except TypeError:
            raise ValueError(f"like: must be an array, got {shown(self.like)}") from None
        combined = flag("returns_log_density", self.returns_log_density)
        given = self.log_density.function if isinstance(self.log_density, LogDensity) else self.log_density
        if combined and given is not None:
            raise ValueError("log_density: must be omitted if returns_log_density is True")
        at_mean = self.score(self.mean[None])
        if not np.all(np.isfinite(at_mean)):
            raise ValueError(
                f"score: must be finite at the mean, in every entry that it returns or writes, got {at_mean[0]}"
            )
        if not self.compiled and self.mixes_chains():
            raise ValueError(f"score: the result for a chain depends on the other chains; {FOR_ONE_POSITION}")
        if combined or given is not None:
            log_density = LogDensity(self, given)
            check_gradient(self, log_density)
            object.__setattr__(self, "log_density", log_density)

    @property
    def compiled_score(self) -> Callable[..., Any] | None:
        """The score function if it is a Numba function, else None. Compiled kernels call it."""
        return self.score_function if hasattr(self.score_function, "py_func") else None

    @property
    def compiled_log_density(self) -> Callable[..., Any] | None:
        """The Numba function that returns the log density, else None. It may be the score function."""
        return self.log_density.compiled if isinstance(self.log_density, LogDensity) else None

    @property
    def log_density_in_float64(self) -> bool:
        """Whether a run in float32 computes the log density in float64; not if the score function computes it."""
        return not self.returns_log_density

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, (d,) or the given shape."""
        return self.dimension if isinstance(self.dimension, tuple) else (self.dimension,)

    @property
    def draws(self) -> Callable[[int, int, int], Array] | None:
        """Function ``sampler(n, seed, first)`` that returns exact draws, or None."""
        return self.sampler

    def check_dtype(self, dtype: np.dtype[Any]) -> None:
        """Raise ValueError if the score cannot be computed in the given dtype; warn if its result is wider.

        A Numba function with an explicit signature supports only the types of that signature.
        """
        found = self.score(np.asarray(self.mean, dtype)[None]).dtype
        if dtype == np.float32 and found == np.float64:
            warnings.warn(
                "score: returns float64 for positions in float32, which is slower than float32; pass arrays of "
                "constants by args, or convert them with np.asarray(constants, x.dtype)",
                stacklevel=3,
            )

    def score_arguments(self, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Return ``args`` of the score function, with floating-point arrays converted to the given dtype."""

        def cast(value: Any) -> Any:
            real = isinstance(value, np.ndarray) and value.dtype.kind == "f"
            return np.asarray(value, dtype, order="C") if real else value

        return tuple(cast(value) for value in self.args)

    def score(self, x: ArrayLike) -> Array:
        """Return the gradient of the log density.

        Parameters
        ----------
        x : array, shape (n, d)
            Positions. Float32 arrays are used as they are; all other types are converted to float64.

        Returns
        -------
        array, shape (n, d)
            Score at x. It is an array of the library of ``like`` if x is such an array, else a NumPy array.

        Raises
        ------
        ValueError
            If x has the wrong shape, or the score function fails or returns a wrong shape.
        """
        return self.evaluate(x)[0]

    def score_and_log_density(self, x: ArrayLike) -> tuple[Array, Array]:
        """Return the gradient of the log density, (n, d) -> (n, d), and the log density, (n, d) -> (n,)."""
        score, log_density = self.evaluate(x)
        return score, self.log_density(host(x)) if log_density is None else log_density  # type: ignore[misc]

    def points(self, x: ArrayLike) -> Array:
        """Return a copy of positions, shape (n, d), in float32 or float64, or raise if their shape is wrong."""
        points = np.array(reals("x", x), order="C")  # the functions of the user may write to x
        if points.ndim != len(self.shape) + 1 or points.shape[1:] != self.shape:
            raise ValueError(f"x: must have shape (n, {', '.join(map(str, self.shape))}), got {points.shape}")
        return points

    def evaluate(self, x: ArrayLike) -> tuple[Any, Array | None]:
        """Return the score, and the log density in float64 if the score function computes it."""
        if self.like is not None and type(x) is type(self.like) and not isinstance(x, np.ndarray):
            return self.checked_call(x)
        points = self.points(x)
        if not self.compiled:
            space = Space.of(self.like)
            score, log_density = self.checked_call(space.array(points) if space.foreign else points)
            return np.asarray(host(score)), log_density
        arguments = self.score_arguments(points.dtype)
        out = np.full_like(points, np.nan)  # an entry stays NaN if the function does not write it, or reads it first
        found = []
        for row, gradient in zip(points, out, strict=True):
            try:
                found.append(self.score_function(row, gradient, *arguments))
            except Exception as error:  # Numba raises many classes of exceptions
                kind = f"two arrays of shape (d,) and dtype {points.dtype}"
                raise ValueError(f"score: failed as score(x, out) with {kind}: {first_line(error)}") from error
        if not self.returns_log_density:
            return out, None
        if not all(isinstance(value, int | float) for value in found):
            raise ValueError(
                f"score: must return the log density, a number, because returns_log_density is True, got {found[0]}"
            )
        return out, np.array(found, float)

    def checked_call(self, points: Any) -> tuple[Any, Array | None]:
        """Return the score of an array function, and its log density if it computes both, after a check of shapes."""
        wanted, of_numpy = tuple(points.shape), isinstance(points, np.ndarray)
        try:
            answer, log_density = self.call(points)
            shape = tuple(np.shape(answer) if of_numpy else answer.shape)
        except Exception as error:
            fault = f"score: failed on an array of shape {wanted}: {first_line(error)}"
            raise ValueError(fault + self.remedy(points)) from error
        if getattr(answer, "requires_grad", False) or getattr(log_density, "requires_grad", False):
            raise ValueError(
                "score: returns a tensor that records gradients, so that the steps of the whole run would be kept in "
                "memory; decorate the function with @torch.no_grad(), or return result.detach()"
            )
        if shape != wanted:
            raise ValueError(
                f"score: must return the shape of its argument, {wanted}, got {shape}{self.remedy(points)}"
            )
        if self.returns_log_density:
            log_density = np.asarray(host(log_density), float)
            if log_density.shape != wanted[:1]:
                raise ValueError(
                    f"score: must return log densities of shape {wanted[:1]} as its second result, got "
                    f"{log_density.shape}"
                )
        return np.asarray(answer) if of_numpy else answer, log_density

    def call(self, points: Any) -> tuple[Any, Any]:
        """Call an array function. Return the score, and the log density or None."""
        of_numpy = isinstance(points, np.ndarray)
        answer = self.score_function(points, *(self.score_arguments(points.dtype) if of_numpy else self.args))
        if not self.returns_log_density:
            return answer, None
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise TypeError("must return the pair (score, log density), because returns_log_density is True")
        return answer[0], answer[1]

    def remedy(self, points: Any) -> str:
        """Return what the user can change in an array function that fails on positions, or an empty string."""
        with suppress(Exception), np.errstate(all="ignore"):
            if np.shape(host(self.call(points[0, ...])[0])) == tuple(points.shape[1:]):
                return f"; {FOR_ONE_POSITION}"
        with suppress(Exception), np.errstate(all="ignore"):
            space = Space.of(self.like)
            if np.shape(host(self.call(space.cast(points, np.dtype("float32")))[0])) == tuple(points.shape):
                return (
                    "; it accepts only float32, but is also called with float64: convert its argument, for example "
                    "with x.astype('float32') in NumPy or x.float() in PyTorch"
                )
        return ""

    def mixes_chains(self) -> bool:
        """Return whether an array function is written for one position, but accepts several and mixes them.

        An example is ``-x / (1 + np.sum(x**2))``. Such a function returns the same score for one position and for an
        array of one position, but other scores for an array of two positions.
        """
        space, scale = Space.of(self.like), np.where(np.isfinite(self.standard_deviation), self.standard_deviation, 1.0)
        points = np.stack([self.mean - scale / 2, self.mean + scale])
        both = space.array(points) if space.foreign else points
        with suppress(Exception), np.errstate(all="ignore"):
            rows = [host(self.call(both[i, ...])[0]) for i in range(2)]
            alone = [host(self.call(both[i : i + 1, ...])[0])[0] for i in range(2)]
            together = host(self.call(both)[0])
            close = partial(np.allclose, rtol=1e-4, atol=1e-6, equal_nan=True)
            return close(rows, alone) and not close(together, alone)
        return False


@dataclass(frozen=True, eq=False)
class Quadrature:
    """Moments, distribution function and draws of a one-dimensional density by quadrature on a grid.

    The methods are passed as arguments to `UserTarget`. Unlike closures, they can be pickled and sent to other
    processes.

    Attributes
    ----------
    log_density : callable
        Log density up to a constant, (n,) -> (n,).
    grid : float64 array
        Equidistant nodes.
    density : float64 array
        Density at the nodes, up to a constant.
    cumulative : float64 array
        Cumulative distribution function at the nodes.
    """

    log_density: Callable[[Array], Array]
    grid: Array
    density: Array
    cumulative: Array

    def log(self, x: Array) -> Array:
        """Return the log density, (n, 1) -> (n,)."""
        points = converted("x", x)
        if points.ndim != 2 or points.shape[1] != 1:
            raise ValueError(f"x: must have shape (n, 1), got {points.shape}")
        return self.log_density(points[:, 0])

    def moment(self, order: int) -> Array:
        """Return the raw moment E[x^order], shape (1,)."""
        powers = reduce(np.multiply, [self.grid] * whole_number("order", order, 0, 1000), self.density)
        return np.array([total(powers) / total(self.density)])

    def cdf(self, x: ArrayLike) -> Array:
        """Return the cumulative distribution function, (n,) or (n, 1) -> (n, 1)."""
        return interp(np.reshape(converted("x", x), (-1, 1)), self.grid, self.cumulative)

    def sample(self, n: int, seed: int, first: int) -> Array:
        """Return draws first ... first + n - 1, shape (n, 1), by inversion of the distribution function."""
        return interp(initial_uniform(n, seed, first), self.cumulative, self.grid)[:, None]


def quadrature_target(
    score: Callable[..., Any], log_density: Callable[[Array], Array], low: float, high: float, name: str
) -> UserTarget:
    """Return a one-dimensional target whose moments, cdf and draws are computed by quadrature of its log density.

    Parameters
    ----------
    score : callable
        Score function, as in `UserTarget`.
    log_density : callable
        Log density up to a constant, (n,) -> (n,).
    low, high : float
        Ends of the interval outside which the density is negligible.
    name : str
        Name of the target.

    Returns
    -------
    UserTarget
        The target, with a log density, sampler, mean, standard deviation, moments and cdf.

    Notes
    -----
    For a smooth density that vanishes at both ends, the trapezoidal rule gives moments to rounding error. Between
    nodes, the error of the cdf is of the order of the square of the node spacing, which is (high - low)/4000.
    """
    grid = np.linspace(low, high, 4001)
    density = exp(log_density(grid))
    steps = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    known = Quadrature(log_density, grid, density, steps / steps[-1])
    mean, second = known.moment(1), known.moment(2)
    return UserTarget(
        score, 1, known.log, known.sample, mean, np.sqrt(second - np.square(mean)), known.moment, known.cdf, name
    )  # fmt: skip

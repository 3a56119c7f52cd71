"""Base classes of targets, and their optional abilities.

A target is an instance of a class derived from `Target`. A name, a shape and a score are required. Everything else is
an optional ability: an attribute, property or method that is None, or has a default, unless the class defines it. Code
outside `uldnum.targets` tests for abilities (``target.cdf is None``), never for classes, so a new kind of target is one
new class:

>>> import numpy as np
>>> import uldnum
>>> from uldnum.kernels.initial import initial_uniform
>>> class Laplace(uldnum.targets.Target):
...     name, shape = "laplace", (1,)
...
...     def score(self, x):
...         return -np.sign(x)
...
...     def draws(self, n, seed=0, first=0):
...         u = initial_uniform(n, seed, first)[:, None] - 0.5
...         return -np.sign(u) * np.log1p(-2 * np.abs(u))
>>> uldnum.sample(Laplace(), "BAOAB", h=0.3, steps=10, chains=4, progress=False).x.shape
(4, 1)

Arrays of samples have the shape ``(n, *shape)``, where ``shape`` is the shape of one sample: ``(d,)`` for vectors,
``(channels, height, width)`` for images.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from uldnum._util.arguments import shown
from uldnum._util.arraylib import Space, host
from uldnum._util.names import digest, named
from uldnum._util.typing import Array
from uldnum.kernels.initial import initial_normals
from uldnum.kernels.source.mixture import MixtureData
from uldnum.schemes.form import Form

if TYPE_CHECKING:
    from uldnum.plans.levels import Levels
    from uldnum.targets.mass import Mass

__all__ = ["Components", "Law", "Modes", "Target", "lacking", "law_of", "level_of"]


class Components(NamedTuple):
    """Components of a Gaussian mixture.

    Attributes
    ----------
    weights : float64 array, shape (K,)
        Weights of the components; they sum to 1.
    means : float64 array, shape (K, d)
        Means of the components.
    variances : float64 array, shape (K, d)
        Variances of the coordinates in each component.
    covariances : float64 array, shape (K, d, d), or None
        Covariances of the components; None if the coordinates of each component are independent.

    Examples
    --------
    >>> import uldnum
    >>> parts = uldnum.target("bimodal-1d").components
    >>> parts.weights.shape, parts.means.shape, parts.covariances is None
    ((2,), (2, 1), True)
    """

    weights: Array
    means: Array
    variances: Array
    covariances: Array | None


class Modes(NamedTuple):
    """Modes of a distribution.

    Attributes
    ----------
    weights : float64 array, shape (K,)
        Probabilities of the modes.
    responsibilities : callable
        Function that returns the probability of each mode given x, (n, d) -> (n, K).

    Examples
    --------
    >>> import numpy as np
    >>> import uldnum
    >>> modes = uldnum.target("bimodal-1d").modes
    >>> modes.responsibilities(np.array([[5.0]])).round(6).tolist()
    [[1.0, 0.0]]
    """

    weights: Array
    responsibilities: Callable[[Array], Array]


class Display(NamedTuple):
    """How images are drawn.

    Attributes
    ----------
    limits : (float, float)
        Values that are drawn with the darkest and the brightest colour.
    gamma : float
        Exponent of the brightness.
    colours : str
        Matplotlib colour map for images with one channel.

    Examples
    --------
    >>> from uldnum.targets import Display
    >>> Display((-1.0, 1.0))
    Display(limits=(-1.0, 1.0), gamma=1.0, colours='gray')
    """

    limits: tuple[float, float]
    gamma: float = 1.0
    colours: str = "gray"


class Law:
    """Base class of distributions.

    `uldnum.anneal` runs on any `Law` with the ability `noised`. ``name`` and ``shape`` are required. The properties
    below are optional abilities, which are None by default. A class defines an ability by an attribute, a property or a
    method of that name.

    Examples
    --------
    >>> import uldnum
    >>> class Normal(uldnum.targets.Law):
    ...     name, shape = "N(3, 1)", (1,)
    ...
    ...     def noised(self, alpha, sigma):
    ...         return uldnum.GaussianMixture([1.0], [[3 * alpha]], [[alpha**2 + sigma**2]])
    >>> plan = uldnum.plan("ddim", uldnum.levels.geometric(50.0, 0.01, 200))
    >>> uldnum.exact.plan(plan, data=Normal(), start_mean=3.0, start_variance=50.0**2).mean[-1].round(6).tolist()
    [[3.0]]
    """

    # These properties are declared only for type checkers. In a derived dataclass, an attribute of the base class would
    # become the default of the field with the same name.
    if TYPE_CHECKING:

        @property
        def name(self) -> str:
            """Name in output and in stored results."""

        @property
        def shape(self) -> tuple[int, ...]:
            """Shape of one sample."""

    __repr__ = named

    @property
    def noised(self) -> Callable[[float, float], Target] | None:
        """``noised(alpha, sigma)`` returns the distribution of ``z = alpha x + sigma eps`` as a target. Default: None.

        eps is standard normal noise, independent of x.
        """
        return None

    @property
    def kernel_levels(self) -> Callable[[Array, Array, np.dtype[Any]], MixtureData] | None:
        """``kernel_levels(alpha, sigma, dtype)`` returns `Target.kernel_data` at many noise levels. Default: None.

        ``alpha`` and ``sigma`` have shape (L,). The returned arrays have a leading axis of length L.
        """
        return None

    @property
    def levels(self) -> Callable[[int], Levels] | None:
        """``levels(count)`` returns noise levels for this distribution, in order of decreasing noise. Default: None."""
        return None

    @property
    def nearest(self) -> Callable[[Levels], Levels] | None:
        """``nearest(levels)`` returns the nearest noise levels at which the score is known. Default: None, all are."""
        return None

    @property
    def time(self) -> Callable[[float], float] | None:
        """``time(ratio)`` returns the time t of the own schedule at the noise level sigma/alpha = ratio.

        Default: None, which means that there is no schedule.
        """
        return None

    @property
    def data_range(self) -> tuple[float, float] | None:
        """Values of black and white of images. Default: None, which means unknown."""
        return None

    @property
    def extremes(self) -> tuple[float, float] | None:
        """Smallest and largest value of x, without noise. Default: None, which means unknown."""
        return None

    @property
    def support(self) -> tuple[float, float] | None:
        """Range of the values of samples, which wrong samples leave. Default: None, which means unknown."""
        return None

    @property
    def display(self) -> Display | None:
        """How samples are drawn that are images. Default: None, which means unknown."""
        return None

    def decode(self, x: Array) -> Array:
        """Return the images of samples without noise. Default: the samples themselves.

        Parameters
        ----------
        x : array, shape (n, *shape)
            Samples.

        Returns
        -------
        array, shape (n, channels, height, width)
        """
        return x


class Target(Law, ABC):
    """Base class of targets: distributions with a score, which chains can sample.

    ``name``, ``shape`` and `score` are required. All other properties and methods, and those of `Law`, are optional
    abilities. Each docstring states the default. In a derived dataclass, a field without a default must not have the
    name of a property of this class.

    See Also
    --------
    uldnum.UserTarget : Target given by a function, without a new class.

    Examples
    --------
    >>> import numpy as np
    >>> import uldnum
    >>> class Logistic(uldnum.targets.Target):
    ...     name, shape = "logistic", (1,)
    ...
    ...     def score(self, x):
    ...         return -np.tanh(x / 2)
    >>> run = uldnum.sample(Logistic(), "BAOAB", h=0.5, steps=10, chains=4, x0=np.zeros((4, 1)), progress=False)
    >>> run.nfe
    11
    """

    # ------------------------------------------------------------------------------------------------------ the score

    @abstractmethod
    def score(self, x: Any) -> Any:
        """Return the gradient of the log density, (n, *shape) -> (n, *shape).

        Parameters
        ----------
        x : array, shape (n, *shape)
            Positions, as a NumPy array with the dtype of the run, or as an array of the library of `like`.

        Returns
        -------
        array, shape (n, *shape)
            Score at x, an array of the same library and dtype.
        """

    @property
    def form(self) -> Form | None:
        """Affine maps from z and `answer` to the denoised image, the noise and the score. Default: None.

        A target that computes the score from another quantity, such as a network that predicts the noise, may return
        that quantity as its `answer`. The tables of a run are then in terms of the answer, and chains call `answer`
        instead of `score`. Such a target is the distribution of a noised image ``z = alpha x + sigma eps``.
        """
        return None

    def answer(self, x: Any) -> Any:
        """Return the quantity that chains use, (n, *shape) -> (n, *shape). Default: `score`, if there is no `form`."""
        return self.score(x)

    @property
    def log_density_in_float64(self) -> bool:
        """Whether a run in float32 computes the log density in float64. Default: True, except for mixtures."""
        return self.kernel_data is None

    def score_and_log_density(self, x: Any) -> tuple[Any, Array]:
        """Return the score and the log density at x, (n, *shape) -> (n, *shape) and (n,), as arrays call them.

        Default: `score`, and `log_density` of a NumPy array in float64.
        """
        return self.score(x), self.log_density(np.asarray(host(x), float))  # type: ignore[misc]

    @property
    def like(self) -> Any:
        """Example array of the library and device that `score` requires. Default: None, which means NumPy.

        If it is a CuPy array and the samples are images, the backend "cuda" supports the target: it calls `score` and
        computes all other operations of a step in one kernel.
        """
        return None

    @property
    def on_gpu(self) -> Callable[[int, dict[Any, Any]], Target] | None:
        """``on_gpu(number, copies)`` returns the target with its score on a GPU, for images. Default: None.

        It is called while that GPU is CuPy's current one, for every launch. ``copies`` is a dictionary in which the
        copies of a run on this GPU are kept.
        """
        return None

    @property
    def chunk(self) -> int:
        """Largest number of samples whose scores are computed together, with rounding that depends on it. Default: 1.

        GPUs that share the chains of a run compute whole chunks of them.
        """
        return 1

    def of_chains(self, first: int, count: int) -> Target:
        """Return the target of chains first ... first + count - 1 of a run. Default: the target itself.

        It differs for a network whose inputs differ between chains. Row j of an argument ``x`` is chain first + j.
        """
        return self

    @property
    def kernel_data(self) -> Callable[[np.dtype[Any]], MixtureData] | None:
        """``kernel_data(dtype)`` returns the parameters of a mixture for the compiled kernels. Default: None."""
        return None

    @property
    def compiled_score(self) -> Callable[..., Any] | None:
        """``compiled_score(x, out, *args)`` is a Numba function that compiled kernels call. Default: None.

        It writes the score at ``x``, one sample of shape (d,), to ``out``.
        """
        return None

    @property
    def compiled_log_density(self) -> Callable[..., Any] | None:
        """``compiled_log_density(x, *args)`` is a Numba function for steps with a Metropolis test. Default: None.

        It returns the log density at ``x``, one sample of shape (d,) in float64, up to a constant. If it is
        `compiled_score` itself, that function returns the log density, too.
        """
        return None

    def score_arguments(self, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Return the ``args`` of the compiled functions in a run of the given dtype. Default: an empty tuple."""
        return ()

    @property
    def compiled(self) -> bool:
        """Whether compiled kernels compute the score. If not, `score` is called with arrays in every step."""
        return self.kernel_data is not None or self.compiled_score is not None

    def check_dtype(self, dtype: np.dtype[Any]) -> None:
        """Raise ValueError if the score cannot be computed in the given dtype. Default: every dtype is supported."""

    @property
    def frame(self) -> Array | None:
        """Matrix F, shape (d, 1) if it is diagonal, else (d, d) and lower triangular. Default: None.

        Where it is given, compiled kernels evaluate `compiled_score` at F y and multiply the result by F^T, and
        evaluate `compiled_log_density` at F y.
        """
        return None

    def transformed(self, mass: Mass) -> Target:
        """Return the target of the coordinates ``y = F^-1 x`` in which a mass is 1.

        Only its score, and where it is known its largest precision, are used. Default: a target that calls the score of
        this one.
        """
        from uldnum.targets.transformed import Transformed

        return Transformed(self, mass)

    # ------------------------------------------------------------------------------------------------- units and scales

    @property
    def time_unit(self) -> float:
        """Unit of the step size; the unit of the friction is its reciprocal. Default: 1."""
        return 1.0

    @property
    def temperature_of_expectations(self) -> float:
        """Temperature T for which expectations and draws hold: they are those of ``density^(1/T)``. Default: 1.

        Score and log density are always those at temperature 1, which `uldnum.sample` uses at every temperature.
        """
        return 1.0

    @property
    def dtype(self) -> str:
        """Default floating-point type of a run. Default: "float64"."""
        return "float64"

    @property
    def mean(self) -> Array:
        """Mean, or an approximate centre of the distribution, with shape ``shape``. Default: 0."""
        return np.zeros(self.shape)

    @property
    def standard_deviation(self) -> Array:
        """Standard deviation of each coordinate, or an approximate scale, with shape ``shape``. Default: inf (unknown).

        A chain counts as diverged if its distance from the mean exceeds 1000 standard deviations in any coordinate. At
        temperatures T above 1, the limit is multiplied by sqrt(T).
        """
        return np.full(self.shape, np.inf)

    @property
    def largest_precision(self) -> float | None:
        """Largest curvature of ``-log density``, which limits the step size. Default: None.

        For a mixture it is the largest eigenvalue of the inverse covariance of a component.
        """
        return None

    @cached_property
    def fingerprint(self) -> str:
        """Hash that identifies the distribution when a stored run is resumed.

        Default: a hash of the mean, the standard deviation, and the score at fixed points near and far from the mean.
        """
        z = initial_normals(16, 0, 0, 0, math.prod(self.shape)).reshape(16, *self.shape)
        scale = np.where(np.isfinite(self.standard_deviation), self.standard_deviation, 1.0)
        space, places = Space.of(self.like), [self.mean + reach * scale * z for reach in (1, 8, 100)]
        scores = [host(self.score(space.array(x) if space.foreign else x)) for x in places]
        return digest(self.mean, self.standard_deviation, *scores)

    # --------------------------------------------------------------------------------------- optional exact knowledge

    @property
    def log_density(self) -> Callable[[Array], Array] | None:
        """``log_density(x)`` returns the log density up to a constant, (n, d) -> (n,). Default: None."""
        return None

    @property
    def draws(self) -> Callable[[int, int, int], Array] | None:
        """``draws(n, seed, first)`` returns exact independent draws, (n, *shape). Default: None.

        These are draws ``first`` to ``first + n - 1``. Draw i depends only on (seed, i).
        """
        return None

    @property
    def moment(self) -> Callable[[int], Array] | None:
        """``moment(order)`` returns the raw moments E[x_i^order], shape (d,). Default: None.

        Diagnostics use the orders 1, 2 and 4.
        """
        return None

    @property
    def covariance(self) -> Array | None:
        """Covariance, shape (d, d). Default: None."""
        return None

    @property
    def cdf(self) -> Callable[[Any], Array] | None:
        """``cdf(x)`` returns the marginal cumulative distribution functions, (n, d) -> (n, d). Default: None."""
        return None

    @property
    def components(self) -> Components | None:
        """Components of a Gaussian mixture, which determine the distribution. Default: None."""
        return None

    @property
    def precision(self) -> Array | None:
        """Precision of a single Gaussian: shape (d,) if its coordinates are independent, else (d, d). Default: None."""
        return None

    @property
    def reference(self) -> Any:
        """Samples from which expectations are estimated, a `uldnum.diagnostics.Reference`. Default: None.

        The standard errors that diagnostics return include the sampling error of these samples.
        """
        return None

    @property
    def modes(self) -> Modes | None:
        """Modes of the distribution, for mode weights and hopping rates. Default: None."""
        return None

    # --------------------------------------------------------------------------------------------------- initial states

    def sample(self, n: int, seed: int = 0, first: int = 0) -> Array:
        """Return initial states of chains. Default: `draws`.

        Parameters
        ----------
        n : int
            Number of chains.
        seed : int, default 0
            Seed of the random numbers.
        first : int, default 0
            Index of the first chain.

        Returns
        -------
        array, shape (n, *shape)
            Initial states of chains first ... first + n - 1. State i depends only on (seed, i).

        Raises
        ------
        ValueError
            If the target has no `draws`.
        """
        if self.draws is None:
            raise ValueError(f"x0: must be given, because the target {self.name!r} has no exact draws")
        return self.draws(n, seed, first)


def level_of(data: Any, alpha: float, sigma: float) -> Target:
    """Return the distribution of ``z = alpha x + sigma eps``, with eps ~ N(0, I), as a target.

    Parameters
    ----------
    data : Law, or object with a method ``noised(alpha, sigma)``
        Distribution of x, with the ability `Law.noised`: a `GaussianMixture`, a `DataMixture`, a network, or a
        `UserTarget` with the argument ``noised``.
    alpha, sigma : float
        Scale of the data and standard deviation of the noise.

    Returns
    -------
    Target
        Distribution of z.

    Raises
    ------
    ValueError
        If the data lack the ability `Law.noised`, do not support this noise level, or return no target.

    Examples
    --------
    >>> import uldnum
    >>> level = uldnum.targets.level_of(uldnum.target("bimodal-1d"), alpha=0.6, sigma=0.8)
    >>> level.mean.round(2).tolist(), level.standard_deviation.round(3).tolist()
    ([0.36], [1.296])
    """
    level = law_of(data).noised(alpha, sigma)  # type: ignore[misc]  # law_of has checked that it is not None
    if not isinstance(level, Target):
        raise ValueError(
            f"noised: must return a uldnum.targets.Target, such as a UserTarget, got {shown(level)} at alpha = "
            f"{alpha:g}, sigma = {sigma:g}"
        )
    return level


@dataclass(frozen=True, eq=False, repr=False)
class NoisedLaw(Law):
    """A distribution of which only the noised distributions are known.

    Attributes
    ----------
    name : str
        Name in output and in stored results.
    noised : callable
        ``noised(alpha, sigma)`` returns the distribution at a noise level, a `Target`.
    """

    name: str
    noised: Any = None


def law_of(data: Any) -> Law:
    """Return an object with the ability ``noised`` as a `Law`, or raise an error if it does not have it.

    Examples
    --------
    >>> import uldnum
    >>> uldnum.targets.law_of(uldnum.target("gaussian")).name
    'gaussian'
    """
    noised = getattr(data, "noised", None)
    if not callable(noised):
        raise ValueError(
            "data: must be a GaussianMixture, a DataMixture, a network (without a noise level), or another object "
            f"with a function noised(alpha, sigma), such as UserTarget(..., noised=f), got {shown(data)}"
        )
    return data if isinstance(data, Law) else NoisedLaw(getattr(data, "name", type(data).__name__), noised)


def lacking(target: Law, what: str, *abilities: str) -> ValueError:
    """Return the ValueError for a target that lacks abilities.

    Parameters
    ----------
    target : Law
        The target.
    what : str
        Description of the missing quantities, such as "its moments".
    *abilities : str
        Names of the missing attributes.

    Returns
    -------
    ValueError
        The error, for the caller to raise.

    Examples
    --------
    >>> import uldnum
    >>> target = uldnum.UserTarget(lambda x: -x, dimension=1)
    >>> print(uldnum.targets.lacking(target, "its moments", "moments"))
    target: 'user' does not provide its moments; define its 'moments', as uldnum.targets.Target describes
    """
    names = " and ".join(map(repr, abilities))
    return ValueError(
        f"target: {target.name!r} does not provide {what}; define its {names}, as uldnum.targets.Target describes"
    )

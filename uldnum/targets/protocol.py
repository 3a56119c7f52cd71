"""What a target can do.

A target is an object of a class derived from `Target`. Only a name, a shape and a score are required; everything else
is an ability, which is None, or has a default, where a class does not define it. Code outside `uldnum.targets` asks for
an ability (``target.cdf is None``), never for a class, so that a new kind of target is one new class:

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
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from uldnum._util.arguments import shown
from uldnum._util.arraylib import Space, host
from uldnum._util.names import digest, named
from uldnum._util.typing import Array
from uldnum.kernels.initial import initial_normals
from uldnum.kernels.source.mixture import MixtureData

if TYPE_CHECKING:
    from uldnum.plans.levels import Levels

__all__ = ["Components", "Law", "Modes", "Target", "lacking", "level_of"]


class Components(NamedTuple):
    """The Gaussians that a law is a mixture of."""

    weights: Array  # (K,)
    means: Array  # (K, d)
    variances: Array  # (K, d), of the axes
    covariances: Array | None  # (K, d, d); None where the axes of each component are independent


class Modes(NamedTuple):
    """The modes of a law."""

    weights: Array  # (K,), their probabilities
    responsibilities: Callable[[Array], Array]  # probability of each mode given x, (n, d) -> (n, K)


class Law:
    """A law, which may be known at noise levels, too: what `uldnum.anneal` runs on.

    Required are ``name`` and ``shape``, the shape of one sample. The properties below are abilities. A class defines
    one by an attribute, a property or a method of its name.
    """

    if TYPE_CHECKING:  # at run time an attribute here would be taken for the default of a field of a dataclass

        @property
        def name(self) -> str:
            """What it is called in output."""

        @property
        def shape(self) -> tuple[int, ...]:
            """Shape of one sample."""

    __repr__ = named

    @property
    def noised(self) -> Callable[[float, float], Target] | None:
        """``noised(alpha, sigma)``, the law of ``z = alpha x + sigma eps`` with eps ~ N(0, I) as a target."""
        return None

    @property
    def kernel_levels(self) -> Callable[[Array, Array, np.dtype[Any]], MixtureData] | None:
        """``kernel_levels(alpha, sigma, dtype)``, its `Target.kernel_data` at many noise levels.

        ``alpha`` and ``sigma`` have shape (levels,), the arrays that are returned a leading axis over levels.
        """
        return None

    @property
    def levels(self) -> Callable[[int], Levels] | None:
        """``levels(count)``, noise levels of its own, the noisiest first."""
        return None


class Target(Law, ABC):
    """A law that chains can sample: it has a score.

    Required are ``name``, ``shape`` and `score`. The other properties and methods, and those of `Law`, are abilities,
    with their defaults. In a dataclass a field without a default must not have the name of a property.
    """

    # ------------------------------------------------------------------------------------------------------ the score

    @abstractmethod
    def score(self, x: Any) -> Any:
        """Gradient of the log density, (n, *shape) -> (n, *shape).

        It takes and returns NumPy arrays of the type of the run, or arrays of the library of `like`.
        """

    @property
    def like(self) -> Any:
        """An array of the library, and on the device, whose arrays `score` takes. Default: None, for NumPy's.

        The score of images may take CuPy's arrays; backend "cuda" does the rest of a step.
        """
        return None

    @property
    def kernel_data(self) -> Callable[[np.dtype[Any]], MixtureData] | None:
        """``kernel_data(dtype)``, the parameters of a Gaussian mixture, whose score is part of compiled kernels."""
        return None

    @property
    def compiled_score(self) -> Callable[..., None] | None:
        """``compiled_score(x, out, *args)``, a Numba function of one row, which is compiled into the kernel."""
        return None

    def score_arguments(self, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Return the ``args`` of `compiled_score` in a run of this type. Default: none."""
        return ()

    @property
    def compiled(self) -> bool:
        """Whether compiled kernels run it; if not, `score` is called with arrays."""
        return self.kernel_data is not None or self.compiled_score is not None

    def check_dtype(self, dtype: np.dtype[Any]) -> None:
        """Raise if the score cannot be computed in this type. Default: it can be in any."""

    # ------------------------------------------------------------------------------------------------- units and scales

    @property
    def time_unit(self) -> float:
        """Unit of the step size, and of the reciprocal of the friction. Default: 1."""
        return 1.0

    @property
    def dtype(self) -> str:
        """Floating-point type of a run, unless another is asked for. Default: "float64"."""
        return "float64"

    @property
    def mean(self) -> Array:
        """Mean, or the centre of where chains belong, of shape ``shape``. Default: 0."""
        return np.zeros(self.shape)

    @property
    def standard_deviation(self) -> Array:
        """Standard deviation of each coordinate, or the scale of where chains belong. Default: infinite, not known.

        A chain diverges at a thousand times this distance from the mean.
        """
        return np.full(self.shape, np.inf)

    @property
    def largest_precision(self) -> float | None:
        """Largest curvature of ``-log density``, which limits the step size: of a mixture, that of a component."""
        return None

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the law, by which a saved run knows it again.

        Default: a hash of mean, scale and the score at fixed points near and far.
        """
        z = initial_normals(16, 0, 0, 0, math.prod(self.shape)).reshape(16, *self.shape)
        scale = np.where(np.isfinite(self.standard_deviation), self.standard_deviation, 1.0)
        space, places = Space.of(self.like), [self.mean + reach * scale * z for reach in (1, 8, 100)]
        scores = [host(self.score(space.array(x) if space.foreign else x)) for x in places]
        return digest(self.mean, self.standard_deviation, *scores)

    # ---------------------------------------------------------------------------------------------- what is known of it

    @property
    def log_density(self) -> Callable[[Array], Array] | None:
        """``log_density(x)``, log density up to a constant, (n, d) -> (n,)."""
        return None

    @property
    def draws(self) -> Callable[[int, int, int], Array] | None:
        """``draws(n, seed, first)``, exact independent draws first ... first + n - 1, (n, *shape)."""
        return None

    @property
    def moment(self) -> Callable[[int], Array] | None:
        """``moment(order)``, the raw moments E[x_i^order], (d,); diagnostics ask for orders 1, 2 and 4."""
        return None

    @property
    def covariance(self) -> Array | None:
        """Covariance, (d, d)."""
        return None

    @property
    def cdf(self) -> Callable[[Any], Array] | None:
        """``cdf(x)``, cumulative distribution function of each axis, (n, d) -> (n, d)."""
        return None

    @property
    def components(self) -> Components | None:
        """The Gaussians that it is a mixture of; together with the shape they determine the law."""
        return None

    @property
    def precision(self) -> Array | None:
        """Precision of a law that is one Gaussian: (d,) where its axes are independent, else (d, d)."""
        return None

    @property
    def modes(self) -> Modes | None:
        """Its modes."""
        return None

    # -------------------------------------------------------------------------------------------------- where it starts

    def sample(self, n: int, seed: int = 0, first: int = 0) -> Array:
        """Return initial states first ... first + n - 1 of chains, (n, *shape). Default: `draws`.

        Initial state i depends on (seed, first + i) alone.

        Raises
        ------
        ValueError
            If there are no draws.
        """
        if self.draws is None:
            raise ValueError(f"x0: the target {self.name!r} has no sampler to start from; give x0")
        return self.draws(n, seed, first)


def level_of(data: Any, alpha: float, sigma: float) -> Target:
    """Return the law of ``z = alpha x + sigma eps`` of data as a target.

    Parameters
    ----------
    data : Law
        The law of x.
    alpha, sigma : float
        The noise level.

    Raises
    ------
    ValueError
        If its law with noise is not known, or not at this level.
    """
    if not isinstance(data, Law) or data.noised is None:
        raise ValueError(
            "data: must be a GaussianMixture, a DataMixture or a network, whose law with noise is known, got "
            f"{shown(data)}"
        )
    return data.noised(alpha, sigma)


def lacking(target: Law, what: str, *abilities: str) -> ValueError:
    """Return the error for a target that lacks abilities; it says in words what is not known."""
    names = " and ".join(map(repr, abilities))
    return ValueError(
        f"target: {target.name!r} does not know {what}; define its {names}, as uldnum.targets.Target describes"
    )

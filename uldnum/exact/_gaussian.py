"""The exact law of any integrator on a Gaussian target, of any dimension.

Every scheme of this package acts on each coordinate alone and commutes with rotations, so on N(0, Lambda^-1) it is as
many independent one-dimensional chains as Lambda has eigenvalues. For each, the stationary covariance solves a discrete
Lyapunov equation, the mixing rate is a spectral radius, an autocorrelation time a geometric series.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from uldnum._util.arguments import broadcast, converted, flag, positive, shown, step_size, whole_number
from uldnum._util.typing import Array, ArrayLike
from uldnum.exact.linear import ACCURATE, LinearStep, kron, kron_change, linear_step, solve
from uldnum.exact.precise import lift
from uldnum.exact.stability import FORGOTTEN_PRECISELY, first_instability, forgetful, precise_step
from uldnum.schemes.catalogue import Integrator
from uldnum.schemes.catalogue import integrator as find_integrator

__all__ = ["GaussianLaw", "gaussian", "max_stable_h", "propagator"]

# Precisions at most, and the inverse of the least.
LARGEST = 1e100

# Largest ratio of friction to sqrt(precision), or its inverse, for which fifty digits decide stability.
RESOLVABLE = 1e22


@dataclass(frozen=True)
class Spectrum:
    """The precision of a Gaussian target, as given: a number, the eigenvalues, or a matrix.

    Attributes
    ----------
    values : array, shape (E,)
        Eigenvalues of the precision.
    axes : array, shape (d, E), or None
        Eigenvectors, where the precision was a matrix.
    scalar : bool
        Whether it was a number.
    """

    values: Array
    axes: Array | None
    scalar: bool

    def __post_init__(self) -> None:
        least, most = self.values.min(), self.values.max()
        if least < 1 / LARGEST or most > LARGEST:
            raise ValueError(f"precision: must be between {1 / LARGEST:g} and {LARGEST:g}, got {least:g} to {most:g}")

    @classmethod
    def of(cls, precision: ArrayLike) -> Spectrum:
        """Decompose a precision, or raise if it is not positive."""
        given = converted("precision", precision)
        if not given.size:
            raise ValueError("precision: must not be empty")
        if given.ndim < 2:
            return cls(np.atleast_1d(positive("precision", given)), None, given.ndim == 0)
        if given.ndim > 2 or given.shape[0] != given.shape[1]:
            raise ValueError(
                f"precision: must be a number, a vector of eigenvalues or a square matrix, got shape {given.shape}"
            )
        if not np.all(np.isfinite(given)) or np.abs(given - given.T).max() > 1e-10 * np.abs(given).max():
            raise ValueError("precision: the matrix must be finite and symmetric")
        values, axes = np.linalg.eigh((given + given.T) / 2)
        if values[0] <= 0:
            raise ValueError(f"precision: the matrix must be positive definite, its least eigenvalue is {values[0]:g}")
        return cls(values, axes, False)

    def spread(self, values: Array) -> Array:
        """Return numbers of each eigenvalue, shape (..., E), in the form in which the precision was given."""
        if self.scalar:
            return np.asarray(values[..., 0])
        return values if self.axes is None else (self.axes * values[..., None, :]) @ self.axes.T

    def weights(self, observable: str | ArrayLike) -> tuple[Array, bool]:
        """Squared coefficients of an observable: of each eigenvector, or of each pair of them if it is quadratic.

        Returns
        -------
        array, shape (n, E) or (n, E, E)
            For n observables.
        bool
            Whether they are one for each coordinate, rather than a single one.
        """
        axes = np.eye(len(self.values)) if self.axes is None else self.axes
        if isinstance(observable, str):
            linear = axes**2
            if observable not in ("x", "x^2"):
                raise ValueError(f"observable: must be 'x', 'x^2', a vector or a matrix, got {shown(observable)}")
            return (linear if observable == "x" else linear[:, :, None] * linear[:, None, :]), not self.scalar
        d = len(axes)
        wanted = f"observable: must be 'x', 'x^2' or a finite array of shape {(d,)} or {(d, d)} that is no zero form"
        form = converted("observable", observable)
        if form.shape not in ((d,), (d, d)) or not np.all(np.isfinite(form)):
            raise ValueError(wanted)
        turned = axes.T @ form if form.ndim == 1 else axes.T @ (form + form.T) @ axes / 2
        if not np.any(turned):
            raise ValueError(wanted)
        return turned[None] ** 2, False


@dataclass(frozen=True)
class GaussianLaw:
    """The stationary law of an integrator on a Gaussian target, at the end of a time step.

    Covariances have the shape of h in front; then nothing for a target given by a number, ``(d,)`` for one given by
    eigenvalues (the variance along each eigenvector), ``(d, d)`` for one given by a matrix. They are NaN where the
    scheme is unstable, on the limit of stability, or slower than 1e40 steps. Times are in score evaluations, and have
    the shape of h.

    Attributes
    ----------
    spectrum : Spectrum
        The target.
    step : LinearStep
        The time step along each eigenvector, as linear maps.
    covariance : array, shape (..., E, k, k)
        Covariance of what is read at the end of a step, along each eigenvector.
    bias : array, shape (..., E)
        What Var(x) is too large by.
    nfe_per_step : int
        Score evaluations per time step.
    doubtful : array of bool, shape (..., E)
        Where float64 does not suffice: close to a limit of stability, with very low friction, or where fifty digits
        were asked for.
    sharp : LinearStep or None
        The time step there in numbers of fifty digits, along one axis; None if there is no such place.
    """

    spectrum: Spectrum
    step: LinearStep
    covariance: Array
    bias: Array
    nfe_per_step: int
    doubtful: Array
    sharp: LinearStep | None

    @property
    def position_covariance(self) -> Array:
        """Covariance of x."""
        return self.spectrum.spread(self.covariance[..., 0, 0])

    @property
    def position_bias(self) -> Array:
        """Covariance of x minus that of the target."""
        return self.spectrum.spread(self.bias)

    @property
    def momentum_covariance(self) -> Array:
        """Covariance of p, or of whatever the scheme keeps in its second row; NaN for schemes that keep nothing."""
        return self.spectrum.spread(self.memory(1))

    @property
    def cross_covariance(self) -> Array:
        """Cov(x, p)."""
        return self.spectrum.spread(self.memory(0))

    def memory(self, row: int) -> Array:
        """Covariance of the second row with ``row``."""
        unread = np.full(self.bias.shape, np.nan)
        return self.covariance[..., row, 1] if self.covariance.shape[-1] > 1 else unread

    def each(self, result: Callable[[LinearStep], Array]) -> Array:
        """Return a result along each eigenvector, of fifty digits where float64 does not suffice."""
        values = np.asarray(result(self.step), float)
        if self.sharp is not None:
            values[self.doubtful] = result(self.sharp)
        return values

    @cached_property
    def growth(self) -> Array:
        """Square of the spectral radius, minus 1."""
        return self.each(lambda step: step.cycle.growth).max(axis=-1)

    @property
    def spectral_radius(self) -> Array:
        """Largest modulus of an eigenvalue of one time step: below 1 the scheme is stable."""
        return np.asarray(np.sqrt(1 + self.growth))

    @property
    @np.errstate(all="ignore")
    def relaxation_time(self) -> Array:
        """Score evaluations in which the slowest mode decays by e: ``-nfe_per_step/log(spectral_radius)``."""
        stable = self.each(lambda step: step.cycle.stable).all(axis=-1)
        decays = stable & (self.growth > -1)
        time = -2 * self.nfe_per_step / np.log1p(np.where(decays, self.growth, -0.5))
        return np.where(decays, time, np.where(stable, 0.0, np.nan))

    @np.errstate(all="ignore")
    def autocorrelation_time(self, observable: str | ArrayLike = "x") -> Array:
        """Integrated autocorrelation time ``1 + 2 sum_n rho(n)`` of a chain in equilibrium, summed exactly.

        N score evaluations are worth N/time independent draws, for the average of the observable.

        Parameters
        ----------
        observable : "x", "x^2", or array of shape (d,) or (d, d)
            Each coordinate (or eigenvector, for a target given by eigenvalues), its square, the linear function
            ``w.x`` of a vector w, or the quadratic form ``x.W x`` of a matrix W.

        Returns
        -------
        array
            In score evaluations; of the shape of h, with an axis of length d behind it for "x" and "x^2" unless the
            target was given by a number. NaN where the scheme is unstable.

        Raises
        ------
        ValueError
            If the observable is none of these.
        """
        weights, each = self.spectrum.weights(observable)
        now, R, D, E = self.lags
        if weights.ndim == 3:  # Cov(x_e x_f, x_e' x_f') of a Gaussian is a product, so the maps are Kronecker products
            now = now[..., :, None] * now[..., None, :]
            (R, R2), (E, E2) = ((part[..., :, None, :, :], part[..., None, :, :, :]) for part in (R, E))
            R, D, E = kron(R, R2), kron_change(D[..., :, None, :, :], D[..., None, :, :, :]), kron(E, E2)
        later = -(R @ solve(D, E))[..., 0, 0]
        over = list(range(1 - weights.ndim, 0)), list(range(1, weights.ndim))
        ratio = np.tensordot(later, weights, over) / np.tensordot(now, weights, over)
        times = np.asarray(self.nfe_per_step * (1 + 2 * ratio), float)
        return times if each else times[..., 0]

    @cached_property
    def lags(self) -> tuple[Array, ...]:
        """C, R, D and E along each eigenvector: ``Cov(x_0) = C``, ``Cov(x_n, x_0) = R (I + D)^(n-1) E`` for n >= 1."""
        parts = lags(self.step)
        if self.sharp is None:
            return parts
        parts = tuple(lift(part) for part in parts)
        for part, sharp in zip(parts, lags(self.sharp), strict=True):
            part[self.doubtful] = sharp
        return parts


@np.errstate(over="ignore", invalid="ignore")  # steps so large that tables overflow have no law: NaN
def gaussian(
    integrator: str | Integrator,
    h: ArrayLike | None = None,
    *,
    delta: ArrayLike | None = None,
    precision: ArrayLike = 1.0,
    friction: ArrayLike = 1.0,
    precise: bool = False,
) -> GaussianLaw:
    """Return the exact stationary law of an integrator on the Gaussian N(0, precision^-1).

    The error of a variance is about 1e-11 of itself or of that of the target, whichever is larger. It is computed in
    float64, and with fifty digits where float64 does not suffice: close to the limit of stability and with very low
    friction.

    Parameters
    ----------
    integrator : str or Integrator
        The integrator.
    h : float or array
        Step size.
    delta : float or array
        The step size as ``h^2/2`` instead.
    precision : float, or array of shape (d,) or (d, d)
        Inverse covariance of the target: a number, its eigenvalues, or a symmetric matrix.
    friction : float or array
        Friction; it broadcasts against the step size.
    precise : bool
        Evaluate the recipes with fifty digits everywhere: the covariances are then right to all digits of float64, and
        so is ``position_bias``, which cancels: at h = 1e-6 a bias of second order is 1e-13.

    Returns
    -------
    GaussianLaw
        Arrays whose leading axes are those of h and friction.

    Raises
    ------
    ValueError
        If an argument is not positive and finite, the shapes of h and friction do not broadcast, there is no such
        integrator, both or neither of h and delta are given, or ``precise`` is asked for and the recipe of a user's
        integrator does not take numbers of fifty digits.

    Warns
    -----
    UserWarning
        If float64 cannot tell whether the scheme is stable, and a user's recipe does not take numbers of fifty digits.
    """
    scheme, spectrum, precise = find_integrator(integrator), Spectrum.of(precision), flag("precise", precise)
    size, gamma = broadcast(h=step_size(h, delta), friction=positive("friction", friction))
    size, gamma = size[..., None], gamma[..., None]  # behind them the axis of the eigenvalues
    with np.errstate(all="ignore"):  # of absurd steps
        tables = scheme.stages(size, friction=gamma)
        step = linear_step(tables, spectrum.values)
        covariance = stationary(step)
        bias = covariance[..., 0, 0] - 1 / spectrum.values
    damped = forgetful(step, size, spectrum.values, ACCURATE)
    doubtful = np.ones(bias.shape, bool) if precise else step.cycle.doubtful | damped
    points = [np.broadcast_to(part, bias.shape)[doubtful] for part in (size, gamma, spectrum.values)]
    sharp = precise_step(scheme, *points) if np.any(doubtful) else None
    if sharp is not None:
        sharp = sharp.without(forgetful(sharp, points[0], points[-1], FORGOTTEN_PRECISELY))
        exact = stationary(sharp)
        covariance[doubtful], bias[doubtful] = exact, exact[..., 0, 0] - 1 / lift(points[-1])
    elif precise and np.any(doubtful):
        raise ValueError(f"precise: the recipe of {scheme.name!r} does not take the numbers of fifty digits")
    elif np.any(lost := ~step.cycle.resolved):
        points = [np.broadcast_to(part, lost.shape)[lost] for part in (size, gamma, spectrum.values)]
        warn_of_limit(scheme, *(float(part[0]) for part in points))
    return GaussianLaw(spectrum, step, covariance, bias, len(tables.stages), doubtful, sharp)


def warn_of_limit(scheme: Integrator, h: float, friction: float, precision: float) -> None:
    """Warn of a step whose stability float64 cannot tell."""
    limit = first_instability(scheme, precision, friction)
    warnings.warn(
        f"{scheme.name} at h = {h:g}, friction {friction:g}, precision {precision:g} is too close to the limit of "
        f"stability, h = {limit:.15g}, for float64, and its recipe does not take the numbers of fifty digits; the "
        "law there is NaN",
        stacklevel=3,
    )


@np.errstate(all="ignore")
def stationary(step: LinearStep) -> Array:
    """Covariance of what is read at the end of a step, in equilibrium."""
    return step.read.push(step.cycle.stationary())


@np.errstate(all="ignore")
def lags(step: LinearStep) -> tuple[Array, ...]:
    """Return what `GaussianLaw.lags` describes."""
    before, eye = step.cycle.stationary(), np.eye(step.cycle.D.shape[-1])
    read = eye + step.read.D
    met = (eye + step.last.D) @ before @ read.swapaxes(-1, -2) + step.shared
    D = np.where(step.cycle.stable[..., None, None], step.cycle.D, -eye)
    return step.read.push(before)[..., 0, 0], read[..., :1, :], D, ((eye + step.first.D) @ met)[..., :1]


def max_stable_h(integrator: str | Integrator, *, precision: ArrayLike = 1.0, friction: float = 1.0) -> float:
    """Return the largest step size up to which an integrator is stable on a Gaussian.

    The scheme is stable at all smaller steps; where it becomes unstable over a short interval only, or at a single step
    at which an eigenvalue has modulus 1, larger steps may be stable again. For every eigenvalue lambda of the precision
    steps up to ``1e4 max(1, friction/sqrt(lambda))/sqrt(lambda)`` are looked at; what float64 cannot tell is decided
    with fifty digits.

    Parameters
    ----------
    integrator : str or Integrator
        The integrator.
    precision : float, or array of shape (d,) or (d, d)
        As for `gaussian`.
    friction : float
        Friction.

    Returns
    -------
    float
        Relative accuracy 1e-12; infinity if no instability is found, 0 if the scheme is unstable at the smallest step.

    Raises
    ------
    ValueError
        If a precision or the friction is not positive and finite, the friction is not one number, friction/sqrt(lambda)
        is not between 1e-22 and 1e22, which fifty digits could not resolve, or there is no such integrator.
    """
    scheme, values = find_integrator(integrator), Spectrum.of(precision).values
    if positive("friction", friction).ndim:
        raise ValueError("friction: must be a number; call once for each of several")
    ratios = float(friction) / np.sqrt(values)
    if ratios.min() < 1 / RESOLVABLE or ratios.max() > RESOLVABLE:
        raise ValueError(
            f"precision, friction: friction/sqrt(precision) must be between {1 / RESOLVABLE:g} and {RESOLVABLE:g}, got "
            f"{ratios.min():g} to {ratios.max():g}"
        )
    limit = np.inf
    for value in np.unique(values)[::-1]:
        limit = first_instability(scheme, float(value), float(friction), limit)
    return limit


@np.errstate(over="ignore", invalid="ignore")  # what grows beyond float64 is infinite or NaN
def propagator(
    integrator: str | Integrator,
    h: ArrayLike | None = None,
    *,
    delta: ArrayLike | None = None,
    precision: ArrayLike = 1.0,
    friction: ArrayLike = 1.0,
    steps: int = 1,
) -> tuple[Array, Array]:
    """Return M and Q of a run of ``steps`` time steps on N(0, 1/precision), from its ``open`` to its ``close``.

    The state (x, p) at the end of the run, given that at its start, is Gaussian with mean ``M (x, p)`` and covariance
    Q.

    Parameters
    ----------
    integrator : str or Integrator
        The integrator.
    h : float or array
        Step size.
    delta : float or array
        The step size as ``h^2/2`` instead.
    precision : float or array
        Inverse variance of the target; an array is many targets of one dimension, not the matrix of one.
    friction : float or array
        Friction. Step size, precision and friction broadcast.
    steps : int
        Number of time steps, from 1 to 2^48.

    Returns
    -------
    M, Q : float64 arrays, shape (..., k, k)
        Behind the broadcast shape; k is the number of rows of the scheme, 1 or 2 of those in the catalogue. Where the
        scheme is unstable they grow with the steps, and may be infinite or NaN.

    Raises
    ------
    ValueError
        If an argument is not positive and finite, the shapes do not broadcast, steps is not an integer in its range,
        there is no such integrator, or both or neither of h and delta are given.
    """
    steps = whole_number("steps", steps, 1, 2**48)
    h, precision, friction = broadcast(
        h=step_size(h, delta), precision=positive("precision", precision), friction=positive("friction", friction)
    )
    scheme = find_integrator(integrator)
    with np.errstate(all="ignore"):  # of absurd steps
        whole = linear_step(scheme.stages(h, friction=friction), precision).run(steps)
    return np.eye(scheme.rows) + whole.D, whole.Q

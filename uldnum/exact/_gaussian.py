"""The exact stationary distribution of any integrator on a Gaussian target of any dimension.

Every scheme of this package acts on each coordinate separately and commutes with rotations. On N(0, Lambda^-1) a chain
is therefore a set of independent one-dimensional chains, one for each eigenvalue of Lambda. For each of these the
stationary covariance solves a discrete Lyapunov equation, the rate of convergence is a spectral radius, and an
integrated autocorrelation time is the sum of a geometric series of matrices.

With a mass M and ``M^-1 = F F^T``, the same holds for the coordinates ``y = F^-1 x``, whose precision is
``F^T Lambda F``. Covariances of y and of their momenta are then transformed to those of x and p.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from uldnum._util.arguments import broadcast, converted, flag, positive, shown, step_size, whole_number
from uldnum._util.summary import Described, Summary, counted, entries, selected, shown_of
from uldnum._util.typing import Array, ArrayLike
from uldnum.exact.linear import ACCURATE, LinearStep, affine, check_affine, kron, kron_change, linear_step, solve
from uldnum.exact.precise import lift
from uldnum.exact.stability import LOST_PRECISELY, first_instability, force_is_lost, precise_step
from uldnum.schemes.catalogue import Integrator, conditions
from uldnum.schemes.catalogue import integrator as find_integrator
from uldnum.targets.mass import ESTIMATED, Mass

__all__ = ["GaussianLaw", "Spectrum", "gaussian", "max_stable_h", "propagator", "stationary_law"]

# Largest precision, and inverse of the smallest precision, that are accepted.
LARGEST = 1e100

# Fifty digits suffice to decide stability if friction/sqrt(precision) is between 1/RESOLVABLE and RESOLVABLE.
RESOLVABLE = 1e22


@dataclass(frozen=True)
class Spectrum:
    """The precision of a Gaussian target in the coordinates y in which the mass is 1, and the axes of x and p.

    Attributes
    ----------
    values : array, shape (E,)
        Eigenvalues of the precision of y.
    axes : array, shape (d, E) or (E,)
        Eigenvectors of the precision of y as columns, or ones if the eigenvectors are the coordinates.
    scalar : bool
        Whether the precision was given as a number.
    mass : Mass or None
        Mass of the coordinates x; None if it is 1.
    """

    values: Array
    axes: Array
    scalar: bool
    mass: Mass | None

    def __post_init__(self) -> None:
        least, most = self.values.min(), self.values.max()
        if least < 1 / LARGEST or most > LARGEST:
            raise ValueError(f"precision: must be between {1 / LARGEST:g} and {LARGEST:g}, got {least:g} to {most:g}")

    @classmethod
    def of(cls, precision: ArrayLike, mass: Any = None) -> Spectrum:
        """Return the spectrum of a precision and a mass, or raise if one of them is not positive definite."""
        given = converted("precision", precision)
        if not given.size:
            raise ValueError("precision: must not be empty")
        if given.ndim < 2:
            given = positive("precision", given)
        elif given.ndim > 2 or given.shape[0] != given.shape[1]:
            raise ValueError(
                f"precision: must be a number, a vector of eigenvalues or a square matrix, got shape {given.shape}"
            )
        elif not np.all(np.isfinite(given)) or np.abs(given - given.T).max() > 1e-10 * np.abs(given).max():
            raise ValueError("precision: the matrix must be finite and symmetric")
        else:
            given = (given + given.T) / 2
            values, axes = np.linalg.eigh(given)
            if values[0] <= 0:
                raise ValueError(
                    f"precision: the matrix must be positive definite, got a least eigenvalue of {values[0]:g}"
                )
        known = given if isinstance(mass, str) and mass == ESTIMATED else mass
        weight, scalar = Mass.of(known, (len(np.atleast_1d(given)),)), given.ndim == 0
        if given.ndim < 2:
            values, axes = np.atleast_1d(given), np.ones(given.size)
        if weight is None:
            return cls(values, axes, scalar, None)
        if axes.ndim == 1 and weight.factor.shape[1] == 1:
            return cls(values * np.square(weight.factor[:, 0]), axes, scalar, weight)
        matrix = given if given.ndim == 2 else np.diag(values)
        matrix = weight.forces(weight.forces(matrix).T)  # F^T Lambda F
        return cls(*np.linalg.eigh((matrix + matrix.T) / 2), scalar, weight)

    @cached_property
    def positions(self) -> Array:
        """Vectors of x along which the coordinates of x vary independently, in the form of `axes`."""
        return self.axes if self.mass is None else self.mass.outward(self.axes.T).T

    @cached_property
    def momenta(self) -> Array:
        """Vectors of p along which the momenta vary independently, in the form of `axes`."""
        return self.axes if self.mass is None else self.mass.momenta(self.axes.T).T

    def spread(self, values: Array, left: Array, right: Array | None = None) -> Array:
        """Return the covariance ``left diag(values) right^T``, given one value per eigenvalue, shape (..., E).

        ``left`` and ``right``, by default ``left``, have the form of `axes`. The result is a number, a vector or a
        matrix for each point.
        """
        right = left if right is None else right
        if self.axes.ndim == 1:
            spread = left * values * right
            return np.asarray(spread[..., 0]) if self.scalar else spread
        spread = (left * values[..., None, :]) @ right.T
        return spread[..., 0, 0] if self.scalar else spread

    def per_coordinate(self, values: Array) -> Array:
        """Reshape a result of `spread` to one row per point and one column per coordinate. Only diagonals are kept."""
        if self.axes.ndim == 2 and not self.scalar:
            values = np.diagonal(values, axis1=-2, axis2=-1)
        return values.reshape(-1, 1 if self.scalar else len(self.values))

    def weights(self, observable: str | ArrayLike) -> tuple[Array, bool]:
        """Return the squared coefficients of an observable in the eigenbasis of the precision.

        Returns
        -------
        array, shape (n, E) or (n, E, E)
            Squared coefficients of each of n observables: one for each eigenvector if the observable is linear, one for
            each pair of eigenvectors if it is quadratic. Observables are functions of x.
        bool
            Whether there is one observable per coordinate. It is False for a single observable.
        """
        axes = np.diag(self.positions) if self.axes.ndim == 1 else self.positions
        if isinstance(observable, str):
            linear = axes**2
            if observable not in ("x", "x^2"):
                raise ValueError(f"observable: must be 'x', 'x^2', a vector or a matrix, got {shown(observable)}")
            return (linear if observable == "x" else linear[:, :, None] * linear[:, None, :]), not self.scalar
        d = len(axes)
        wanted = f"observable: must be 'x', 'x^2' or a finite, nonzero array of shape {(d,)} or {(d, d)}"
        form = converted("observable", observable)
        if form.shape not in ((d,), (d, d)) or not np.all(np.isfinite(form)):
            raise ValueError(wanted)
        turned = axes.T @ form if form.ndim == 1 else axes.T @ (form + form.T) @ axes / 2
        if not np.any(turned):
            raise ValueError(wanted)
        return turned[None] ** 2, False


@dataclass(frozen=True, repr=False)
class GaussianLaw(Described):
    r"""The stationary distribution of an integrator on a Gaussian target, at the end of a time step.

    The leading axes of every array are those of the step size and the friction, broadcast against each other. The
    covariance properties have no further axes if the precision was given as a number. They have one axis of length d if
    it was given as eigenvalues (variances along the eigenvectors), and two axes of length d if it was given as a
    matrix, or if the mass was. Covariances are NaN where the scheme is unstable or at the limit of stability, and where
    it needs more than about 1e40 steps to converge. Times are in score evaluations.

    Attributes
    ----------
    spectrum : Spectrum
        Precision of the target.
    step : LinearStep
        One time step along each eigenvector, as linear maps.
    covariance : float64 array, shape (..., E, k, k)
        Covariance of the k rows of the state along each of the E eigenvectors, at the end of a step; row 0 is x. With
        a mass, these are the rows of the coordinates in which the mass is 1.
    bias : float64 array, shape (..., E)
        Variance of row 0 minus that of the target at the temperature of the integrator, along each eigenvector.
    nfe_per_step : int
        Score evaluations per time step.
    doubtful : bool array, shape (..., E)
        Whether fifty digits are needed. This is true where float64 does not suffice, such as close to a limit of
        stability and at very low friction, and everywhere if ``precise`` was true.
    sharp : LinearStep or None
        The time step with fifty digits at the entries where ``doubtful`` is true, along one leading axis. None if there
        are no such entries, or if the recipe of a user-defined integrator does not support numbers of fifty digits.
    name : str
        Name of the integrator, with its temperature, its score noise and the mass.
    h, friction : float64 arrays, shape (...)
        Step size and friction, broadcast against each other.
    momenta : bool
        Whether the second row of the state holds momenta.
    temperature : float
        Temperature T of the integrator.

    See Also
    --------
    gaussian : Function that returns this object.

    Notes
    -----
    The Kullback-Leibler divergence of N(m, S) from N(m, P) is

    .. math:: \tfrac{1}{2} (\mathrm{tr} D - \log\det(I + D)), \qquad D = P^{-1/2} S P^{-1/2} - I

    It is the sum of ``(mu - log(1 + mu))/2`` over the eigenvalues mu of D. For x, P is
    the covariance T Lambda^-1 of the target with the precision Lambda at temperature T. For (x, p), P is the covariance
    of the Langevin equation, ``diag(T Lambda^-1, T M)``. The relative error is about 1e-11 (1e-16 if ``precise`` was
    true) divided by the largest |mu|. If the precision was given as a number, there is one coordinate.

    Examples
    --------
    >>> import uldnum
    >>> law = uldnum.exact.gaussian("ULA", delta=0.5)
    >>> round(float(law.position_covariance), 12), round(float(law.spectral_radius), 12)
    (1.333333333333, 0.5)
    """

    spectrum: Spectrum
    step: LinearStep
    covariance: Array
    bias: Array
    nfe_per_step: int
    doubtful: Array
    sharp: LinearStep | None
    name: str
    h: Array
    friction: Array
    momenta: bool
    temperature: float

    @property
    def summary(self) -> Summary:
        """Variances, biases and relaxation times at some of the step sizes and frictions."""
        columns = {"Var(x)": self.position_covariance, "bias of Var(x)": self.position_bias}
        if self.covariance.shape[-1] > 1:
            columns["Var(p)"] = self.momentum_covariance
        points = [self.spectrum.per_coordinate(values) for values in columns.values()]
        numbers = np.broadcast_arrays(self.h, self.friction, self.growth > 0, self.relaxation_time)
        h, friction, grows, times = (np.ravel(part) for part in numbers)
        rows = [
            [f"{h[i]:g}", f"{friction[i]:g}"]
            + (["unstable"] + [""] * len(points) if grows[i] else [*(entries(p[i]) for p in points), f"{times[i]:.4g}"])
            for i in selected(h.size)
        ]
        per_step = counted(self.nfe_per_step, "evaluation")
        title = f"Stationary distribution of {self.name} on a Gaussian, {per_step} per step"
        shown = shown_of(len(rows), h.size, "point")
        return Summary(title + shown, ["h", "friction", *columns, "relaxation time (evaluations)"], rows)

    @property
    def position_covariance(self) -> Array:
        """Stationary covariance of x."""
        return self.spectrum.spread(self.covariance[..., 0, 0], self.spectrum.positions)

    @property
    def position_bias(self) -> Array:
        """Stationary covariance of x minus the covariance of the target."""
        return self.spectrum.spread(self.bias, self.spectrum.positions)

    @property
    def momentum_covariance(self) -> Array:
        """Stationary covariance of p, or of the second row of the state; NaN for schemes with only one row.

        A second row that holds no momenta is that of the coordinates in which the mass is 1.
        """
        return self.spectrum.spread(self.memory(1), self.second)

    @property
    def cross_covariance(self) -> Array:
        """Stationary covariance of x with p, or with the second row of the state; NaN for schemes with only one row."""
        return self.spectrum.spread(self.memory(0), self.spectrum.positions, self.second)

    @property
    def kinetic_temperature(self) -> Array:
        """Kinetic temperature ``E[p.M^-1 p]/d`` at the end of a time step; NaN for schemes without momenta.

        It has no axes besides those of step size and friction. `Integrator.at_half_step` returns the scheme whose
        momenta are those of the half step.
        """
        return self.with_momenta(self.memory(1)).mean(axis=-1)

    @property
    def position_kl(self) -> Array:
        """Kullback-Leibler divergence of the stationary distribution of x from the target, in nats."""
        return log1p_gap(self.position_excess).sum(axis=-1) / 2

    @property
    def phase_space_kl(self) -> Array:
        """Kullback-Leibler divergence of the stationary distribution of (x, p) from that of the Langevin equation.

        It is in nats, and NaN for schemes without momenta.
        """
        temperature = self.temperature
        x, p = self.position_excess, self.with_momenta(self.memory(1) / temperature - 1)
        across = self.memory(0) * np.sqrt(self.spectrum.values) / temperature
        middle, radius = (x + p) / 2, np.hypot((x - p) / 2, across)
        return (log1p_gap(middle + radius) + log1p_gap(middle - radius)).sum(axis=-1) / 2

    @property
    def position_excess(self) -> Array:
        """Variance of row 0 divided by that of the target, minus 1, along each eigenvector, shape (..., E)."""
        return self.bias * self.spectrum.values / self.temperature

    def with_momenta(self, values: Array) -> Array:
        """Return values of the second row of the state, or NaN if it does not hold momenta."""
        return values if self.momenta else np.full_like(values, np.nan)

    @property
    def second(self) -> Array:
        """Vectors along which the second row of the state varies independently."""
        return self.spectrum.momenta if self.momenta else self.spectrum.axes

    def memory(self, row: int) -> Array:
        """Return the covariance of the second row of the state with row ``row``; NaN for schemes with only one row."""
        unread = np.full(self.bias.shape, np.nan)
        return self.covariance[..., row, 1] if self.covariance.shape[-1] > 1 else unread

    def each(self, result: Callable[[LinearStep], Array]) -> Array:
        """Return a result along each eigenvector, computed with fifty digits where float64 does not suffice."""
        values = np.asarray(result(self.step), float)
        if self.sharp is not None:
            values[self.doubtful] = result(self.sharp)
        return values

    @cached_property
    def growth(self) -> Array:
        """Square of the spectral radius of one time step, minus 1."""
        return self.each(lambda step: step.cycle.growth).max(axis=-1)

    @property
    def spectral_radius(self) -> Array:
        """Largest modulus of the eigenvalues of one time step; the scheme is stable where it is below 1."""
        return np.asarray(np.sqrt(1 + self.growth))

    @property
    @np.errstate(all="ignore")
    def relaxation_time(self) -> Array:
        """Score evaluations in which the slowest mode decays by a factor e; NaN where the scheme is unstable.

        The time is ``-nfe_per_step / log(spectral_radius)``.
        """
        stable = self.each(lambda step: step.cycle.stable).all(axis=-1)
        decays = stable & (self.growth > -1)
        time = -2 * self.nfe_per_step / np.log1p(np.where(decays, self.growth, -0.5))
        return np.where(decays, time, np.where(stable, 0.0, np.nan))

    @np.errstate(all="ignore")
    def autocorrelation_time(self, observable: str | ArrayLike = "x") -> Array:
        """Return the integrated autocorrelation time of an observable in equilibrium.

        The time is ``nfe_per_step (1 + 2 sum_{n>=1} rho(n))``, where rho(n) is the autocorrelation of the observable
        after n time steps. The sum over all lags is a geometric series of matrices and is evaluated in closed form. An
        average of the observable over N score evaluations has the variance of an average over N/time independent draws.

        Parameters
        ----------
        observable : {"x", "x^2"}, or array of shape (d,) or (d, d), default "x"
            "x" stands for each coordinate and "x^2" for the square of each coordinate. If the precision was given as
            eigenvalues, the coordinates are those along the eigenvectors. A vector w stands for the linear function
            ``w.x``, and a matrix W for the quadratic form ``x.W x``.

        Returns
        -------
        float64 array
            Times in score evaluations, with the broadcast shape of step size and friction. For "x" and "x^2" a last
            axis of length d follows, unless the precision was given as a number. Times are NaN where the scheme is
            unstable.

        Raises
        ------
        ValueError
            If ``observable`` is an unknown string, or an array that has another shape, is not finite, or is zero.

        References
        ----------
        A. D. Sokal 1997, Monte Carlo methods in statistical mechanics: foundations and new algorithms, in Functional
        Integration, Springer.

        Examples
        --------
        On N(0, 1) a chain of ULA is ``x' = (1 - delta) x + noise``, so the time of x is ``(2 - delta)/delta``:

        >>> from uldnum import exact
        >>> round(float(exact.gaussian("ULA", delta=0.1).autocorrelation_time("x")), 6)
        19.0
        """
        weights, each = self.spectrum.weights(observable)
        now, R, D, E = self.lags
        if weights.ndim == 3:
            # Cov(x_e x_f, x_e' x_f') of a Gaussian is a product of covariances, so the maps are Kronecker products.
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
        """Matrices C, R, D, E along each eigenvector.

        They give ``Cov(x_0) = C``, and ``Cov(x_n, x_0) = R (I + D)^(n-1) E`` for n >= 1.
        """
        parts = lags(self.step)
        if self.sharp is None:
            return parts
        parts = tuple(lift(part) for part in parts)
        for part, sharp in zip(parts, lags(self.sharp), strict=True):
            part[self.doubtful] = sharp
        return parts


def gaussian(
    integrator: str | Integrator,
    h: ArrayLike | None = None,
    *,
    delta: ArrayLike | None = None,
    precision: ArrayLike = 1.0,
    friction: ArrayLike = 1.0,
    temperature: float | None = None,
    score_noise: ArrayLike | None = None,
    mass: str | ArrayLike | None = None,
    precise: bool = False,
) -> GaussianLaw:
    r"""Return the exact stationary distribution of an integrator on the Gaussian target N(0, precision^-1).

    At temperature T, the target is ``N(0, T precision^-1)``, whose density is the T-th root of that at temperature 1.
    The error of a variance is about 1e-11 times the variance itself or that of the target, whichever is larger.
    Variances are computed in float64. Where float64 does not suffice, such as close to the limit of stability and at
    very low friction, they are computed with fifty digits.

    Parameters
    ----------
    integrator : str or Integrator
        Name of an integrator or splitting word, or an `Integrator`.
    h : float or array, optional
        Step size in units of time. Exactly one of ``h`` and ``delta`` must be given.
    delta : float or array, optional
        Step size as ``delta = h^2/2``, in units of time of overdamped Langevin dynamics.
    precision : float, or array of shape (d,) or (d, d), default 1.0
        Inverse covariance of the target: a number, its eigenvalues, or a symmetric positive definite matrix.
    friction : float or array, default 1.0
        Friction in units of 1/time. It broadcasts against the step size.
    temperature : float, optional
        Temperature T. All noise is multiplied by sqrt(T), and the score is not scaled. The default is that of the
        integrator, which is 1 in the catalogue.
    score_noise : float or array_like of shape (d,), optional
        Standard deviation tau of the error of the score, in units of 1/x: the integrator uses ``s + tau zeta``, where
        the standard normals zeta are independent for each coordinate and evaluation. A vector holds one standard
        deviation for each coordinate, and needs a precision of shape (d,). The default is that of the integrator, which
        is 0 in the catalogue.
    mass : float, array_like of shape (d,) or (d, d), or "inverse-covariance", optional
        Mass M as in `uldnum.sample`: one for all coordinates, one for each coordinate, or a symmetric positive definite
        matrix (in at most 512 dimensions). "inverse-covariance" stands for ``precision``. The default is 1. All results
        are those of x and of its momenta p, whose covariance is T M in the exact stationary distribution.
    precise : bool, default False
        Whether to compute with fifty digits everywhere. Covariances and ``position_bias`` are then correct to all
        digits of float64. Otherwise ``position_bias``, which is a difference, suffers from cancellation at small steps.
        For example, a bias of second order is about 1e-13 at h = 1e-6, which is less than the error of a variance.

    Returns
    -------
    GaussianLaw
        The stationary covariances and mixing times. The leading axes are those of step size and friction.

    Raises
    ------
    ValueError
        If an argument is not positive and finite, if the shapes of step size and friction do not broadcast, if the mass
        does not fit the precision, if the errors of a noisy score are dependent along the axes of the precision in the
        coordinates in which the mass is 1, if the integrator is unknown, if both or neither of ``h`` and ``delta`` are
        given, or if ``precise`` is true and the recipe of a user-defined integrator does not support numbers of fifty
        digits.

    Warns
    -----
    UserWarning
        If the scheme is unstable at a step size, where covariances are NaN; the warning states the limit of stability.
        Also if float64 cannot decide whether the scheme is stable, and the recipe of a user-defined integrator does not
        support numbers of fifty digits.

    See Also
    --------
    propagator : Distribution after a given number of steps.
    max_stable_h : Limit of stability.
    transfer_operator : Stationary distribution on any one-dimensional target.

    Notes
    -----
    On N(0, 1/lambda) the score is ``-lambda x``, so a time step is a linear map ``u' = M u + noise`` with noise
    covariance Q. The stationary covariance S is the solution of the discrete Lyapunov equation

    .. math:: S = M S M^T + Q

    The spectral radius of M determines stability and the relaxation time.

    With a mass, the coordinates ``y = F^-1 x`` with ``F F^T`` the inverse of the mass have unit mass and the precision
    ``F^T Lambda F``. If S is the covariance of y and V that of its momenta, the results are ``F S F^T`` and
    ``F^-T V F^-1``. A number m has the same effect as the step size ``h/sqrt(m)`` with the friction
    ``sqrt(m) friction``.

    References
    ----------
    B. Leimkuhler and C. Matthews 2013, Rational construction of stochastic numerical methods for molecular sampling,
    Appl. Math. Res. Express 2013, 34-56.

    B. Leimkuhler and C. Matthews 2015, Molecular Dynamics: With Deterministic and Stochastic Numerical Methods,
    Springer.

    Examples
    --------
    On N(0, 1), OBABO has ``Var(x) = 1/(1 - h^2/4)``, and BAOAB samples x without bias:

    >>> import uldnum
    >>> from uldnum import exact
    >>> round(float(exact.gaussian("OBABO", h=1.0).position_covariance), 6)
    1.333333
    >>> baoab = exact.gaussian("BAOAB", h=1.0, precision=[1.0, 2.0])
    >>> baoab.position_covariance.round(6).tolist()
    [1.0, 0.5]
    >>> baoab.momentum_covariance.round(6).tolist()
    [0.75, 0.5]

    Its positions have the law of the target, and its momenta are too cold on the step. At the half step, the momenta
    are right as well:

    >>> law = exact.gaussian("BAOAB", h=1.0)
    >>> round(float(law.position_kl), 6), round(float(law.phase_space_kl), 6), round(float(law.kinetic_temperature), 6)
    (0.0, 0.018841, 0.75)
    >>> half = uldnum.integrator("BAOAB").at_half_step()
    >>> half.name, round(float(exact.gaussian(half, h=1.0).kinetic_temperature), 6)
    ('BBAOA', 1.0)

    With the inverse covariance as mass, all coordinates need the same number of evaluations for an independent sample:

    >>> law = exact.gaussian("BAOAB", h=1.0, precision=[1.0, 100.0], mass="inverse-covariance")
    >>> law.autocorrelation_time("x^2").round(6).tolist()
    [2.006211, 2.006211]
    """
    scheme = find_integrator(integrator).at(temperature=temperature, score_noise=score_noise)
    spectrum, precise = Spectrum.of(precision, mass), flag("precise", precise)
    with np.errstate(over="ignore"):  # the largest values of delta overflow to h = inf, which `stages` rejects
        size, gamma = broadcast(h=step_size(h, delta), friction=positive("friction", friction))
    law = stationary_law(scheme, size, gamma, spectrum, precise)
    warn_of_instability(scheme, law, size, gamma)
    return law


@np.errstate(over="ignore", invalid="ignore")  # the tables of very large steps overflow, and the result is NaN
def stationary_law(
    scheme: Integrator, size: Array, gamma: Array, spectrum: Spectrum, precise: bool = False
) -> GaussianLaw:
    """Return the result of `gaussian`, without a warning where the scheme is unstable."""
    name, mass = scheme.label, spectrum.mass
    if mass is not None:
        name = scheme.name + conditions(scheme.temperature, scheme.score_noise, mass.value)
    scheme.check_errors(spectrum.values.shape)
    noisy = scheme if mass is None else scheme.at(score_noise=mass.noise(scheme.score_noise))
    if noisy.errors and spectrum.axes.ndim == 2:
        raise ValueError("score_noise: with a precision matrix, must be one number, and 0 with a mass vector")
    # The last axis is that of the eigenvalues.
    size, gamma, tau = np.broadcast_arrays(size[..., None], gamma[..., None], noisy.score_noise)
    scheme = scheme.at(score_noise=0.0)
    with np.errstate(all="ignore"):  # very large steps overflow
        tables = scheme.stages(size, friction=gamma)
        check_affine(tables, scheme.name)
        step = linear_step(tables.with_score_noise(tau), spectrum.values)
        covariance = stationary(step)
        bias = covariance[..., 0, 0] - scheme.temperature / spectrum.values
    damped = force_is_lost(step, size, spectrum.values, ACCURATE)
    doubtful = np.ones(bias.shape, bool) if precise else step.cycle.doubtful | damped
    points = [np.broadcast_to(part, bias.shape)[doubtful] for part in (size, gamma, spectrum.values, tau)]
    sharp = precise_step(scheme, *points) if np.any(doubtful) else None
    if sharp is not None:
        sharp = sharp.without(force_is_lost(sharp, points[0], points[2], LOST_PRECISELY))
        exact = stationary(sharp)
        covariance[doubtful], bias[doubtful] = exact, exact[..., 0, 0] - scheme.temperature / lift(points[2])
    elif precise and np.any(doubtful):
        raise ValueError(
            f"precise: must be False for {scheme.name!r}, whose recipe does not support numbers of fifty digits"
        )
    elif np.any(lost := ~step.cycle.resolved):
        points = [np.broadcast_to(part, lost.shape)[lost] for part in (size, gamma, spectrum.values)]
        warn_of_limit(scheme, *(float(part[0]) for part in points))
    return GaussianLaw(
        spectrum, step, covariance, bias, len(tables.stages), doubtful, sharp, name, size[..., 0], gamma[..., 0],
        scheme.momenta, scheme.temperature,
    )  # fmt: skip


def warn_of_instability(scheme: Integrator, law: GaussianLaw, size: Array, gamma: Array) -> None:
    """Warn of the step sizes at which the covariance is NaN, with the limit of stability at the first of them."""
    decided = law.doubtful if law.sharp is not None else law.step.cycle.resolved
    found = (np.isnan(law.bias) & (decided | law.step.cycle.resolved)).any(axis=-1)
    if not found.any():
        return
    friction = float(gamma[found][0])
    sizes = [f"{h:.6g}" for h in np.unique(size[found & (gamma == friction)])]
    more = f" and {len(sizes) - 3} more" if len(sizes) > 3 else ""
    limit = "the scheme is unstable there"
    with suppress(ValueError):  # friction/sqrt(precision) is outside the range of `max_stable_h`
        stable = max_stable_h(scheme, precision=law.spectrum.values, friction=friction)
        limit = f"the scheme is stable below h = {stable:.6g} (max_stable_h)" if stable else "no step size is stable"
    warnings.warn(
        f"{scheme.name} has no stationary distribution at h = {', '.join(sizes[:3])}{more} and friction {friction:g}, "
        f"where the covariance is NaN: {limit}",
        stacklevel=3,
    )


def warn_of_limit(scheme: Integrator, h: float, friction: float, precision: float) -> None:
    """Warn of a step at which float64 cannot decide whether the scheme is stable."""
    limit = first_instability(scheme, precision, friction)
    warnings.warn(
        f"{scheme.name} at h = {h:g}, friction {friction:g}, precision {precision:g}: the covariance is NaN, "
        f"because float64 cannot decide stability so close to the limit of stability, h = {limit:.15g}, and the recipe "
        "does not support numbers of fifty digits",
        stacklevel=4,
    )


@np.errstate(all="ignore")
def log1p_gap(mu: Array) -> Array:
    """Return ``mu - log(1 + mu)`` for mu > -1, without cancellation at small mu.

    With ``z = mu/(2 + mu)``, ``log(1 + mu) = 2 (z + z^3/3 + z^5/5 + ...)``, so the result for |mu| < 1/2 is
    ``mu z - 2 (z^3/3 + z^5/5 + ...)``, where |z| < 1/3.
    """
    z = np.where(np.abs(mu) < 0.5, mu, 0.0) / (2 + mu)
    tail = sum(2 * z**odd / odd for odd in range(37, 1, -2))
    return np.where(np.abs(mu) < 0.5, mu * z - tail, mu - np.log1p(mu))


@np.errstate(all="ignore")
def stationary(step: LinearStep) -> Array:
    """Return the stationary covariance of the state at the end of a step."""
    return step.read.push(step.cycle.stationary())


@np.errstate(all="ignore")
def lags(step: LinearStep) -> tuple[Array, ...]:
    """Return the matrices C, R, D, E of one `LinearStep`, as in `GaussianLaw.lags`."""
    before, eye = step.cycle.stationary(), np.eye(step.cycle.D.shape[-1])
    read = eye + step.read.D
    met = (eye + step.last.D) @ before @ read.swapaxes(-1, -2) + step.shared
    D = np.where(step.cycle.stable[..., None, None], step.cycle.D, -eye)
    return step.read.push(before)[..., 0, 0], read[..., :1, :], D, ((eye + step.first.D) @ met)[..., :1]


def max_stable_h(
    integrator: str | Integrator,
    *,
    precision: ArrayLike = 1.0,
    friction: float = 1.0,
    mass: str | ArrayLike | None = None,
) -> float:
    """Return the largest step size up to which an integrator is stable on a Gaussian target.

    The scheme is stable at every smaller step size. Larger step sizes may be stable again if the scheme is unstable
    only on a short interval, or only at a single step size at which an eigenvalue has modulus 1.

    Parameters
    ----------
    integrator : str or Integrator
        Name of an integrator or splitting word, or an `Integrator`.
    precision : float, or array of shape (d,) or (d, d), default 1.0
        Inverse covariance of the target: a number, its eigenvalues, or a symmetric positive definite matrix.
    friction : float, default 1.0
        Friction in units of 1/time.
    mass : float, array_like of shape (d,) or (d, d), or "inverse-covariance", optional
        Mass as in `gaussian`. The default is 1.

    Returns
    -------
    float
        Step size in units of time, with a relative accuracy of 1e-12. It is infinite if no instability is found, and 0
        if the scheme is unstable at the smallest step size of the search.

    Raises
    ------
    ValueError
        If the precision, the friction or the mass is not positive and finite, if the friction is not a single number,
        if the integrator is unknown, or if ``friction/sqrt(lambda)`` is not between 1e-22 and 1e22 for every eigenvalue
        lambda of the precision. Outside this range fifty digits do not suffice to decide stability.

    Notes
    -----
    For every eigenvalue lambda of the precision, let ``r = friction/sqrt(lambda)``. The search covers step sizes from
    at most ``1e-3 min(r, 1/r)/sqrt(lambda)`` up to ``1e4 max(1, r)/sqrt(lambda)``. Stability is computed in float64,
    and with fifty digits where float64 cannot decide. With a mass, lambda are the eigenvalues in the coordinates in
    which the mass is 1.

    Examples
    --------
    BAOAB is stable up to ``h = 2/sqrt(precision)``, the limit of leapfrog. ULA is stable up to ``delta = 2/precision``,
    which is the same ``h``:

    >>> from uldnum import exact
    >>> round(exact.max_stable_h("BAOAB"), 9)
    2.0
    >>> round(exact.max_stable_h("ULA", precision=4.0), 9)
    1.0
    """
    scheme, values = affine(find_integrator(integrator)), Spectrum.of(precision, mass).values
    if positive("friction", friction).ndim:
        raise ValueError(
            f"friction: must be a number, got shape {np.shape(friction)}; call the function once per value"
        )
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


@np.errstate(over="ignore", invalid="ignore")  # values beyond the range of float64 become infinite or NaN
def propagator(
    integrator: str | Integrator,
    h: ArrayLike | None = None,
    *,
    delta: ArrayLike | None = None,
    precision: ArrayLike = 1.0,
    friction: ArrayLike = 1.0,
    temperature: float | None = None,
    score_noise: float | None = None,
    steps: int = 1,
) -> tuple[Array, Array]:
    """Return the distribution of an integrator on a Gaussian target after a number of time steps.

    Given the state (x, p) at the start of the first step, the state at the end of the last step is Gaussian with mean
    ``M (x, p)`` and covariance Q. The steps are those of `uldnum.sample`.

    Parameters
    ----------
    integrator : str or Integrator
        Name of an integrator or splitting word, or an `Integrator`.
    h : float or array, optional
        Step size in units of time. Exactly one of ``h`` and ``delta`` must be given.
    delta : float or array, optional
        Step size as ``delta = h^2/2``, in units of time of overdamped Langevin dynamics.
    precision : float or array, default 1.0
        Inverse variance of a one-dimensional target. The elements of an array are separate one-dimensional targets; a
        two-dimensional array is not a precision matrix.
    friction : float or array, default 1.0
        Friction in units of 1/time. Step size, precision and friction broadcast against each other.
    temperature : float, optional
        Temperature T. All noise is multiplied by sqrt(T), and the score is not scaled. The default is that of the
        integrator, which is 1 in the catalogue.
    score_noise : float, optional
        Standard deviation tau of the error of the score, in units of 1/x: the integrator uses ``s + tau zeta``, where
        the standard normals zeta are independent for each coordinate and evaluation. The default is that of the
        integrator, which is 0 in the catalogue.
    steps : int, default 1
        Number of time steps, between 1 and 2^48.

    Returns
    -------
    M, Q : float64 arrays, shape (..., k, k)
        The matrix of the mean, and the covariance of the noise. The leading axes are those of the broadcast arguments,
        and k is the number of rows of the scheme, 1 or 2 for the catalogue. Where the scheme is unstable, both grow
        with the number of steps and may be infinite or NaN.

    Raises
    ------
    ValueError
        If an argument is not positive and finite, if the shapes do not broadcast, if ``steps`` is not an integer in its
        range, if the integrator is unknown, or if both or neither of ``h`` and ``delta`` are given.

    See Also
    --------
    underdamped_flow, overdamped_flow : Exact distribution of the Langevin equations after a given time.

    Examples
    --------
    Ten steps of ULA multiply the mean by ``(1 - delta)^10``:

    >>> from uldnum import exact
    >>> M, Q = exact.propagator("ULA", delta=0.1, steps=10)
    >>> round(float(M[0, 0]), 6), round(float(Q[0, 0]), 6)
    (0.348678, 0.924656)
    """
    steps = whole_number("steps", steps, 1, 2**48)
    h, precision, friction = broadcast(
        h=step_size(h, delta), precision=positive("precision", precision), friction=positive("friction", friction)
    )
    scheme = affine(find_integrator(integrator)).at(temperature=temperature, score_noise=score_noise)
    scheme.check_errors(())
    with np.errstate(all="ignore"):  # very large steps overflow
        whole = linear_step(scheme.stages(h, friction=friction), precision).run(steps)
    return np.eye(scheme.rows) + whole.D, whole.Q

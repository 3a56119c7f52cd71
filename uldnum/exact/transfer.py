"""Exact stationary distribution of an integrator on a one-dimensional target, from its transfer operator.

The transfer operator of a scheme maps a function f of the state of a chain to its expectation after one time step,
``(P f)(u) = E[f(u') | u]``. Its adjoint maps the distribution at one time step to the distribution at the next, and has
the stationary distribution as its fixed point. The *memory* of a scheme is the second row of its state, for example the
momentum. `uldnum.exact.grid` discretises the operator on a grid of position and memory. `uldnum.exact.stationary`
refines the grid until the results change by less than the tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from uldnum._util.arguments import converted, function, number, positive, result_of, step_size
from uldnum._util.summary import Described, Summary
from uldnum._util.threads import one_thread
from uldnum._util.typing import Array, ArrayLike
from uldnum.exact import poisson
from uldnum.exact.density import TargetDensity, relative_entropy, tabulate
from uldnum.exact.linear import affine
from uldnum.exact.phase_space import PhaseSpaceLaw
from uldnum.exact.stationary import Budget, ConvergenceError, Problem, Solution
from uldnum.schemes.catalogue import Integrator, conditions
from uldnum.schemes.catalogue import integrator as find_integrator
from uldnum.schemes.stage import Step
from uldnum.targets import Target, vector_target
from uldnum.targets.mass import Mass, known_covariance

__all__ = ["TransferOperator", "transfer_operator"]

# Smallest step size in standard deviations of the target.
SMALLEST = 1e-8


@dataclass(frozen=True, repr=False)
class TransferOperator(Described):
    r"""Stationary distribution of x at the end of a time step, and leading eigenvalues of one time step.

    Attributes
    ----------
    law : Solution
        Weights of the stationary distribution and eigenvalues on the finest grid.
    target : TargetDensity
        Tabulated density and cdf of the target at the temperature of the integrator.
    nfe_per_step : int
        Score evaluations per time step.
    change : float
        Largest change of the quantities that the tolerance bounds at the last refinement of an axis.
    problem : Problem
        The scheme on the target.
    mass : float or None
        Mass of x; None if the scheme has no momenta.

    See Also
    --------
    transfer_operator : Function that returns this object.

    Notes
    -----
    Let F and rho be the cdf and the density of x in the stationary distribution, and let ``lambda_2`` be the second
    eigenvalue of one time step. The distances to the target are

    * Wasserstein-1 distance, :math:`\int |F - F_\mathrm{target}| \, dx`;
    * Kolmogorov distance, :math:`\max |F - F_\mathrm{target}|`;
    * total variation distance, :math:`\frac{1}{2} \int |\rho - \rho_\mathrm{target}| \, dx`;
    * Kullback-Leibler divergence from the target, :math:`\int \rho \log(\rho/\rho_\mathrm{target}) \, dx`.

    The spectral gap is :math:`1 - |\lambda_2|`, and the relaxation time in score evaluations is
    ``-nfe_per_step / log |lambda_2|``.

    Examples
    --------
    >>> import uldnum
    >>> law = uldnum.exact.transfer_operator("ULA", "gaussian", delta=0.5, tolerance=1e-6)
    >>> round(law.relaxation_time, 3), round(law.expectation(lambda x: x**2), 3)
    (1.443, 1.333)
    """

    law: Solution
    target: TargetDensity
    nfe_per_step: int
    change: float
    problem: Problem
    mass: float | None

    @property
    def summary(self) -> Summary:
        """Moments of the scheme and of the target, distances between them, and times."""
        mean = self.expectation(lambda x: x)
        variance = self.expectation(lambda x: (x - mean) ** 2)
        rows = [
            ("mean", f"{mean:.6g}", f"{self.target.mean:.6g}"),
            ("variance", f"{variance:.6g}", f"{self.target.deviation**2:.6g}"),
            ("Wasserstein-1 distance", f"{self.wasserstein_1:.4g}", ""),
            ("Kolmogorov distance", f"{self.kolmogorov:.4g}", ""),
            ("total variation distance", f"{self.total_variation:.4g}", ""),
            ("relaxation time", f"{self.relaxation_time:.4g} evaluations", ""),
        ]
        nodes = " x ".join(str(count) for count in self.resolution)
        title = f"Stationary distribution of {self.problem.title}, on {nodes} nodes"
        return Summary(title, ["", "scheme", "target"], rows)

    @property
    def resolution(self) -> tuple[int, int]:
        """Numbers of nodes in position and in memory."""
        return self.law.grid.x.n, self.law.grid.memory.n

    @property
    def eigenvalues(self) -> Array:
        """Eigenvalues of one time step in descending order of modulus: 1 and at most five more, a complex array.

        An eigenvalue is omitted if it changes by more than a hundredth of ``|1 - lambda|`` at the last refinement of
        the grid. The list ends before the first eigenvalue that is found on the first grid but not on the last one.
        """
        return self.law.eigenvalues

    def expectation(self, f: Callable[[Array], Array]) -> float:
        """Return the expectation of a function of x in the stationary distribution.

        Parameters
        ----------
        f : callable
            Array function of x, (n,) -> (n,). It must be smooth on the scale of the distance between the nodes of the
            grid. Use `cdf` for the probability of an interval.

        Returns
        -------
        float
            The expectation.

        Raises
        ------
        ValueError
            If f is not a function, or if it does not return an array with the shape of its argument.
        """
        values = result_of("f", f, self.law.grid.x.nodes)
        if values.shape not in ((), self.law.weights.shape):
            raise ValueError(f"f: must return the shape of its argument, {self.law.weights.shape}, got {values.shape}")
        return float(self.law.weights @ np.broadcast_to(values, self.law.weights.shape))

    def density(self, x: ArrayLike) -> Array:
        """Return the density of x in the stationary distribution.

        Parameters
        ----------
        x : float or array
            Positions.

        Returns
        -------
        float64 array
            Density in units of 1/x, with the shape of x. It is 0 outside the interval of the grid, where the
            probability is of the order of the tolerance.
        """
        return self.law.density(converted("x", x))

    def cdf(self, x: ArrayLike) -> Array:
        """Return the cumulative distribution function of x in the stationary distribution.

        Parameters
        ----------
        x : float or array
            Positions.

        Returns
        -------
        float64 array
            Probabilities between 0 and 1, with the shape of x.
        """
        return self.law.cdf(converted("x", x))

    @property
    def wasserstein_1(self) -> float:
        """Wasserstein-1 distance to the target, ``int |F - F_target| dx``, in the units of x."""
        return self.target.integral(np.abs(self.cdf(self.target.x) - self.target.cdf))

    @property
    def kolmogorov(self) -> float:
        """Kolmogorov distance to the target, ``max |F - F_target|``."""
        return float(np.abs(self.cdf(self.target.x) - self.target.cdf).max())

    @property
    def total_variation(self) -> float:
        """Total variation distance to the target, ``1/2 int |rho - rho_target| dx``."""
        return self.target.integral(np.abs(self.density(self.target.x) - self.target.density)) / 2

    @property
    def kl(self) -> float:
        """Kullback-Leibler divergence from the target in nats, ``int rho log(rho/rho_target) dx``.

        Its absolute error is about a tenth of the tolerance. A smaller divergence needs a lower tolerance.
        """
        return self.target.integral(relative_entropy(self.density(self.target.x), self.target.log_density))

    @cached_property
    def phase_space(self) -> PhaseSpaceLaw:
        """Stationary distribution of (x, p) at the end of a time step.

        Raises a ValueError if the integrator has no momenta, and a ConvergenceError if the momenta need too many nodes.
        """
        if self.mass is None:
            raise ValueError(f"integrator: must have momenta for their distribution, got {self.problem.title}")
        with one_thread:
            return PhaseSpaceLaw(*self.problem.read_phase_space(self.law), self.mass, self.target)

    @property
    def spectral_gap(self) -> float:
        """Spectral gap, 1 minus the modulus of the second eigenvalue; NaN if no second eigenvalue is resolved."""
        return self.law.gap

    @property
    def relaxation_time(self) -> float:
        """Score evaluations in which the slowest mode decays by a factor e, ``-nfe_per_step / log(1 - gap)``."""
        return float(-self.nfe_per_step / np.log1p(-self.spectral_gap))

    def autocorrelation_time(self, f: Callable[[Array], Array]) -> float:
        """Return the integrated autocorrelation time of ``f(x_n)`` in equilibrium.

        Let rho(n) be the autocorrelation of f between the ends of two time steps that are n steps apart. The time in
        score evaluations is

            tau = nfe_per_step (1 + 2 sum_{n>=1} rho(n)).

        An average of f over N score evaluations of a chain has the variance of an average over N/tau independent draws.

        Parameters
        ----------
        f : callable
            Smooth array function of x, (n,) -> (n,).

        Returns
        -------
        float
            Time in score evaluations.

        Raises
        ------
        ValueError
            If f is not finite or is constant on the interval.
        ConvergenceError
            If the time cannot be resolved, for example near the stability limit or at low friction.

        Notes
        -----
        The sum over all lags follows from the solution of a linear system, Poisson's equation. The grid is refined
        until the time changes by less than a hundred times the tolerance, relative to the time or to one time step,
        whichever is longer. The time of a function that grows, such as x^2, also depends on the ends of the interval.
        The probability outside them is of the order of the tolerance.

        Examples
        --------
        Positions of ULA on a standard normal have the autocorrelation ``rho(n) = (1 - delta)^n``:

        >>> from uldnum import exact
        >>> ula = exact.transfer_operator("ULA", "gaussian", delta=0.5)
        >>> round(ula.autocorrelation_time(lambda x: x), 4)
        3.0
        """
        return float(self.autocorrelation_times([f])[0])

    def autocorrelation_times(self, functions: Sequence[Callable[[Array], Array]]) -> Array:
        """Return the integrated autocorrelation times of several functions, in about the computing time of one.

        Parameters
        ----------
        functions : sequence of callable
            Functions as in `autocorrelation_time`.

        Returns
        -------
        array, shape (n,)
            Times in score evaluations; NaN where a time cannot be resolved.

        Raises
        ------
        ValueError
            If a function is not finite or is constant on the interval.
        ConvergenceError
            If none of the times can be resolved.
        """
        for f in functions:
            function("f", f)
        problem = replace(self.problem, budget=Budget())
        with one_thread:
            return self.nfe_per_step * poisson.autocorrelation_times(problem, self.law.grid, functions)


def check_tolerance(tolerance: Any) -> float:
    """Return the tolerance of an exact answer as a float, or raise a ValueError."""
    value = number("tolerance", tolerance)
    if not 1e-9 <= value < 1:
        raise ValueError(f"tolerance: must be at least 1e-9 and less than 1, got {value:g}")
    return value


def in_position(scheme: Integrator, h: Array, friction: Array, mass: Mass | None) -> Step:
    """Return the step of a scheme with a mass of one coordinate, for its position x."""
    if mass is None:
        return scheme.stages(h, friction=friction)
    own = scheme.at(score_noise=mass.noise(scheme.score_noise))
    return own.stages(h, friction=friction).in_coordinates(mass.factor[0, 0])


def transfer_operator(
    integrator: str | Integrator,
    target: Target | str,
    h: float | None = None,
    *,
    delta: float | None = None,
    friction: float = 1.0,
    temperature: float | None = None,
    score_noise: float | None = None,
    mass: str | ArrayLike | None = None,
    tolerance: float = 1e-6,
) -> TransferOperator:
    """Return the exact stationary distribution and mixing rate of an integrator on a one-dimensional target.

    At temperature T, the target with which the distribution is compared has the density of ``target`` to the power 1/T.

    Parameters
    ----------
    integrator : str or Integrator
        Name of an integrator or splitting word, or an `Integrator`. It must have noise and at most two rows.
    target : str or Target
        One-dimensional target with a mean and a standard deviation: the name of a preset, the path of a TOML file, a
        `GaussianMixture`, a `UserTarget` or another `Target`.
    h : float, optional
        Step size in units of time. Exactly one of ``h`` and ``delta`` must be given.
    delta : float, optional
        Step size as ``delta = h^2/2``, in units of time of overdamped Langevin dynamics.
    friction : float, default 1.0
        Friction in units of 1/time.
    temperature : float, optional
        Temperature T. All noise is multiplied by sqrt(T), and the score is not scaled. The default is that of the
        integrator, which is 1 in the catalogue.
    score_noise : float, optional
        Standard deviation tau of the error of the score, in units of 1/x: the integrator uses ``s + tau zeta``, where
        the standard normals zeta are independent for each coordinate and evaluation. The default is that of the
        integrator, which is 0 in the catalogue.
    mass : float or "inverse-covariance", optional
        Mass m as in `uldnum.sample`. The default is 1. "inverse-covariance" is 1 divided by the variance of the target
        at temperature 1, which must be known.
    tolerance : float, default 1e-6
        Accuracy of the results, at least 1e-9 and less than 1. It bounds the error of the mean and of the variance (in
        units of the target's standard deviation and variance), of the cdf and of the second eigenvalue, and the
        relative error of the spectral gap.

    Returns
    -------
    TransferOperator
        Expectations, density, cdf, distances to the target, eigenvalues and autocorrelation times.

    Raises
    ------
    ValueError
        If an argument is out of range or unknown.
    UnstableError
        If the scheme is unstable in the tails of a Gaussian mixture.
    ConvergenceError
        If the tolerance cannot be reached within the limits on nodes and operations, which correspond to about ten
        seconds of computing, or if a step is below 1e-8 standard deviations of the target. `UnstableError` is a
        subclass.

    See Also
    --------
    gaussian : Exact answers on Gaussian targets of any dimension.

    Notes
    -----
    The grid in position and memory is refined until mean, variance, cdf, second eigenvalue and spectral gap change by
    less than the tolerance. It is widened until the probability outside it is negligible.

    The position and the memory are confined to intervals: a step that leaves an interval stops at its end. The ends of
    the interval of x are the attributes ``law.grid.x.low`` and ``law.grid.x.high`` of the result. The interval is first
    the smallest one that contains all points where the density of the target exceeds ``exp(-r^2/2)`` times its maximum.
    Here r is the product of two numbers. The first is ``0.5 + sqrt(-2 ln(tolerance))``, which is 5.8 at 1e-6. The
    second is the ratio of the standard deviations of scheme and target on a Gaussian, maximised over all
    components and clipped to [0.5, 3]. An end then moves outwards until the smallest probability of the three nodes
    next to it is below 2% of the tolerance, or of the spectral gap if that is smaller.

    If the score grows faster than linearly, an explicit scheme diverges from initial positions far from the mean. It
    then has no stationary distribution on the whole line. The result is the stationary distribution of the confined
    chain, which describes chains until they diverge.

    With a mass m, the operator is that of the scheme with unit mass for the coordinate ``y = sqrt(m) x``, whose score
    is ``s(x)/sqrt(m)``, with the same step size and friction. For the integrators of the catalogue, this is the scheme
    with unit mass for x, with the step size ``h/sqrt(m)`` and the friction ``sqrt(m) friction``.

    Examples
    --------
    ULA at h = 0.2 on a mixture of two Gaussians with E[x^2] = 3.25:

    >>> from uldnum import exact
    >>> ula = exact.transfer_operator("ULA", "bimodal-1d", h=0.2)
    >>> round(ula.expectation(lambda x: x**2), 4)
    3.2545
    >>> round(ula.total_variation, 5), round(ula.relaxation_time, 1)
    (0.00291, 180.6)

    The positions of BAOAB at h = 1 are almost those of the target, but its momenta at the end of a step are too cold:

    >>> baoab = exact.transfer_operator("BAOAB", "bimodal-1d", h=1.0)
    >>> round(baoab.kl, 5), round(baoab.phase_space.kl, 4), round(baoab.phase_space.kinetic_temperature, 4)
    (0.00045, 0.0145, 0.8542)
    """
    scheme = affine(find_integrator(integrator)).at(temperature=temperature, score_noise=score_noise)
    scheme.check_errors((1,))
    size, gamma = step_size(h, delta), positive("friction", friction)
    if size.ndim or gamma.ndim:
        raise ValueError(
            f"h, friction: must be numbers, got shapes {size.shape} and {gamma.shape}; "
            "call the function once for each pair of numbers"
        )
    tolerance = check_tolerance(tolerance)
    target = vector_target(target)
    if target.shape != (1,):
        raise ValueError(f"target: must be one-dimensional, got {target.shape[0]} dimensions for {target.name!r}")
    if scheme.rows > 2:
        raise ValueError(f"integrator: must have at most two rows, got {scheme.rows} rows for {scheme.name!r}")
    weight = Mass.of(mass, target.shape, known_covariance(target) if isinstance(mass, str) else None)
    step = in_position(scheme, size, gamma, weight)
    if not any(np.any(stage.map.C) for stage in step.stages):
        raise ValueError(f"integrator: must have noise, got {scheme.name!r}, which is deterministic")
    held = "" if weight is None else conditions(1.0, 0.0, float(np.squeeze(weight.value)))
    title = f"{scheme.label}{held} at h = {size:g} on {target.name!r}"
    density = tabulate(target, scheme.temperature)
    if size < SMALLEST * np.min(target.standard_deviation):
        raise ConvergenceError(
            f"{title}: a step must be at least {SMALLEST:g} standard deviations of the target; the probabilities of "
            "smaller moves are lost in rounding"
        )

    def score(y: Array) -> Array:
        return target.score(y[:, None])[:, 0]

    problem = Problem(title, step, score, density, tolerance)
    with one_thread:
        law, change = problem.resolved()
    unit = 1.0 if weight is None else float(np.squeeze(weight.value))
    return TransferOperator(law, density, scheme.nfe_per_step, change, problem, unit if scheme.momenta else None)

"""The function `uldnum.sample`: run chains of an integrator on a target."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from uldnum._util.arguments import positive_number, step_size, title, whole_number
from uldnum._util.names import checked_text, digest
from uldnum._util.typing import Array, ArrayLike
from uldnum.exact._gaussian import LARGEST, max_stable_h
from uldnum.exact.stability import unstable
from uldnum.kernels.program import Program
from uldnum.kernels.source.core import RECORDS, Recording, Tables, lay_out
from uldnum.kernels.source.mixture import MixtureData
from uldnum.kernels.state import State, statistics_shapes
from uldnum.sampling.backends import choose_backend, chosen_devices
from uldnum.sampling.launch import (
    attach_run_to_errors,
    bounds,
    centre_and_scale,
    check_numbers,
    execute,
    floating_type,
    in_coordinates,
    quiet,
    recorded_moments,
    recording_of,
    require_memory,
    resumed,
    warn_of_a_stop,
)
from uldnum.sampling.run import Run
from uldnum.sampling.settings import Settings
from uldnum.sampling.start import (
    check_coordinates,
    earlier_run,
    find_start,
    initial_state,
    number_of_chains,
    register_ends,
    resumed_start,
)
from uldnum.schemes.catalogue import Integrator
from uldnum.schemes.catalogue import integrator as find_integrator
from uldnum.targets import Target, find_target
from uldnum.targets.mass import ESTIMATED, Mass, inverse_of, known_covariance
from uldnum.version import VERSION

__all__ = ["one_phase", "sample"]

# Largest relative rounding error of a density without a warning, for Metropolis tests.
DENSITY_ERROR = 1e-3

# Largest difference of the log densities of a resumed run from those of the target, in units of 1 + |log density|. It
# is above their rounding errors in float32.
SAME_DENSITY = 1e-3

# Smallest number of states, for each dimension, from which a mass is estimated.
STATES_PER_DIMENSION = 10


def sample(
    target: Target | str | Path,
    integrator: str | Integrator,
    *,
    h: ArrayLike | None = None,
    delta: ArrayLike | None = None,
    friction: float = 1.0,
    temperature: float | None = None,
    score_noise: ArrayLike | None = None,
    mass: str | ArrayLike | None = None,
    steps: int,
    burn_in: int = 0,
    chains: int | None = None,
    seed: int | None = None,
    x0: str | ArrayLike | Callable[[int, int, int], ArrayLike] | Run | None = None,
    thin: int | None = None,
    record: str | None = None,
    record_every: int | None = None,
    bins: int = 0,
    first_chain: int | None = None,
    dtype: DTypeLike | None = None,
    backend: str | None = None,
    threads: int | None = None,
    devices: Sequence[int] | None = None,
    resume: Run | str | Path | None = None,
    progress: bool | str = True,
) -> Run:
    r"""Run independent chains of an integrator on a target.

    Parameters
    ----------
    target : str, Path or Target
        Distribution to sample: a `GaussianMixture`, a `UserTarget`, a network or a `DataMixture` at one noise level, or
        any other `uldnum.targets.Target`. A string is the name of a preset or the path of a TOML file.
    integrator : str or Integrator
        Name of a catalogue entry (see `uldnum.integrators`), a splitting word such as "BAOAB" or "O {BAB} O", or an
        `Integrator`.
    h : float or array_like, shape (H,)
        Step size in units of time (for a network, in units of sigma). Give exactly one of ``h`` and ``delta``. An array
        runs H groups of ``chains`` chains each, with common random numbers across the groups.
    delta : float or array_like, shape (H,)
        Step size as ``delta = h^2/2``, the time step of overdamped Langevin dynamics.
    friction : float, default 1.0
        Friction in units of 1/time (for a network, in units of 1/sigma). It must be positive.
    temperature : float, optional
        Temperature T. All noise is multiplied by sqrt(T), and the score is not scaled. The chains then sample
        ``density^(1/T)``, and momenta have the variance T. The default is the temperature of the integrator, which is 1
        in the catalogue.
    score_noise : float or array_like of shape (d,), optional
        Standard deviation tau of the error of the score, in units of 1/x (for a network, in units of 1/sigma). The
        integrator uses ``s + tau zeta`` with independent standard normals zeta for each coordinate and evaluation. A
        vector holds one standard deviation for each coordinate; with a mass matrix, tau must be 0. The default is the
        score noise of the integrator, which is 0 in the catalogue.
    mass : float, array_like of shape (d,) or (d, d), or "inverse-covariance", optional
        Mass M: one for all coordinates, one for each coordinate, or a symmetric positive definite matrix (in at most
        512 dimensions). The default is 1. "inverse-covariance" is the inverse covariance of the target where that is
        known, and otherwise an estimate; see Notes. All results, ``x0`` and ``bins`` are in the coordinates x of the
        target, and `Run.p` holds the momenta of x, whose variance is M at temperature 1. Images have no mass.
    steps : int
        Number of recorded steps.
    burn_in : int, default 0
        Number of steps before the first recorded step.
    chains : int
        Number of chains per group. It is optional if ``x0`` or ``resume`` is a run.
    seed : int, optional
        Seed of all random numbers, from 0 to 2^64 - 1. If ``x0`` or ``resume`` is a run, the default is the seed of
        that run. If ``x0`` gives positions, the default is a hash of the positions. Otherwise it is 0.
    x0 : {"target", "normal", "uniform"}, array_like, callable or Run, default "target"
        Initial positions:

        * "target": exact draws of the target (for a network, Gaussian draws with the variance of its noised data), at
          temperature 1.
        * "normal", "uniform": independent draws of N(0, 1) or U(0, 1) in each coordinate.
        * array of shape (chains, *shape), of NumPy or any library with DLPack: these positions.
        * callable: ``x0(chains, seed, first_chain)`` returns such an array.
        * `Run`: the final positions of that run, and its final momenta if both integrators have momenta. If the
          temperatures differ, the momenta are multiplied by the square root of their ratio, so that momenta in
          equilibrium at the temperature of that run are in equilibrium at ``temperature``.
    thin : int, optional
        Store the positions after every ``thin``-th recorded step in `Run.trace`. By default no positions are stored.
    record : str, optional
        Moments that the run accumulates: "mean", "variance" (the mean and the variances of x), "covariance" (the mean
        and the covariance of x), "phase-space-variance" (the means and the variances of x and p), or
        "phase-space-covariance" (the means and the covariance of (x, p)). The last two need an integrator with momenta,
        whose kinetic temperature is then `Run.kinetic_temperature`. The default is "covariance" in at most 32
        dimensions and "variance" in more. Images have no moments.
    record_every : int, optional
        Accumulate moments at the first recorded step and at every ``record_every``-th step after it. In at most 4
        dimensions, the default is 1 (float32: 2). In more, it is 2, or d/2 (rounded down) for a covariance. ``thin``
        does not depend on it.
    bins : int, default 0
        Number of histogram bins per axis. The bins extend from 8 standard deviations of the target, times the square
        root of the temperature, below its mean to 8 above. Positions are counted at every n-th recorded step, where n
        is the smallest multiple of ``record_every`` that is at least 4. With 0 bins there is no histogram.
    first_chain : int, optional
        Index of the first chain, so that a large ensemble can be split into several runs. The default is 0, or the
        index in the earlier run if ``x0`` or ``resume`` is a run.
    dtype : {"float64", "float32"}, optional
        Floating-point type of the state. The default is float64, or float32 for a network or `DataMixture`.
        Moments are always float64.
    backend : {"numba", "array", "cuda", "cuda-fast"}, optional
        Implementation that runs the steps. The default is "numba" for mixtures and compiled scores and "array" for all
        other targets. "cuda-fast" needs float32. With a Metropolis test, compiled backends need a compiled log density
        of a target that is not a mixture.
    threads : int, optional
        Number of threads of the Numba backend. The default is ``numba.get_num_threads()``, the number of cores that the
        process may use unless Numba is configured otherwise.
    devices : list of int, optional
        Numbers of the GPUs that share the chains of each group, for backends "cuda" and "cuda-fast". Results have the
        same bits for any list of GPUs of one model. With ``bins``, ``chains`` should be a multiple of 32, the number of
        batches that histograms have. A network must be an ONNX model or a PyTorch module, which is copied to every GPU,
        and ``chains`` should be a multiple of its ``chunk``. The default is CuPy's current GPU.
    resume : Run, str or Path, optional
        Run to resume, or the path of a saved run. All arguments must equal those of that run, except ``steps``,
        ``threads``, ``devices`` and ``progress``. ``chains``, ``first_chain`` and ``seed`` may be omitted. ``x0`` must
        be omitted unless it is a string. ``steps`` is the total number of recorded steps, with those already taken.
    progress : bool or str, default True
        Whether to show a progress bar in a terminal if the run lasts more than a second. A string is its label.

    Returns
    -------
    Run
        Final states, statistics and settings. If ``h`` is an array, all results have a leading axis of length H.

    Raises
    ------
    ValueError
        If an argument is out of range, unknown or of the wrong shape, or if the run does not fit into memory. The
        message names the argument.
    MissingExtraError
        If an optional dependency of the backend is not installed.

    Warns
    -----
    UserWarning
        If a chain diverged, if the target is a single Gaussian on which the integrator is unstable at a step size, or
        if the run was stopped. A chain diverges if a coordinate becomes non-finite or is more than 1000 standard
        deviations away from the mean of the target; at temperatures above 1, the standard deviations are multiplied by
        sqrt(T). With a Metropolis test, also if float32 is too inaccurate for the log densities of the target.

    See Also
    --------
    uldnum.anneal : Run chains through a sequence of noise levels.
    uldnum.step : Take one time step of an integrator on NumPy arrays.

    Notes
    -----
    One stage of an integrator evaluates the score once and applies an affine map to the state u of the chain:

    .. math:: u' = A u + b \, s(G u) + C \xi, \qquad \xi \sim N(0, I)

    **Mass.** The momenta obey ``dx = M^-1 p dt, dp = s dt - friction p dt + sqrt(2 friction T) M^(1/2) dW``. Chains run
    with unit mass in the coordinates ``y = F^-1 x`` with ``M^-1 = F F^T``, where F is diagonal or lower triangular, and
    where the score is ``F^T s(F y)``. For overdamped integrators, M^-1 is the preconditioner of the gradient. A chain
    diverges if a coordinate of y is more than 1000 of its standard deviations away from its mean. If M is a number or a
    vector, these are the bounds of x. If M is a matrix and the target has no `covariance`, the standard deviation of
    y_j is replaced by its upper bound ``sum_i |F^-1_ji| sigma_i``.

    If the covariance of the target is unknown, ``mass="inverse-covariance"`` uses the first half of ``burn_in`` with
    unit mass. The covariance C of all chains in the second half of these steps gives ``M = T C^-1``, which is then
    fixed. The chains continue from there with the rest of ``burn_in``, and ``settings.burn_in`` counts only that rest.
    `Run.nfe` counts all evaluations, and ``settings.mass`` holds the estimate, which a resumed run keeps. The step size
    must be stable with unit mass, too.

    **Metropolis test.** Integrators such as "mala", "hmc(3)", "ghmc" and "O {BAB} O" accept the state that they propose
    with probability min(1, exp(-dH/T)), where dH is the change of the energy ``H = p^2/2 - log density(x)``. Otherwise
    the position stays and the momentum is reversed. The stationary distribution is then exactly ``density^(1/T)`` at
    any step size. The target must have a `log_density`. `Run.acceptance` is the fraction of accepted recorded steps. A
    chain keeps the score and the log density at its position, so that a step of "ghmc" takes one evaluation of each.
    `Run.nfe` counts scores, and `Run.density_evaluations` log densities, one per step and one at the start. A step of
    "O {ABA} O" takes two scores, because the one at its end comes with the log density.

    **Reproducibility.** Random numbers come from Philox4x32-10 [1]_ with a counter for each chain. They depend only on
    the seed, the index of the chain and the step. The states of a chain therefore do not depend on the number of chains
    or threads, on the other step sizes of an array ``h``, or on where the run was interrupted and resumed. For a
    network, these statements hold up to the rounding errors of the network. For integrators of the catalogue and
    splitting words, on mixtures and named targets, results are also bit-identical on all CPUs. Networks, a
    `DataMixture`, and scores and integrators defined by the user may round differently on another CPU.

    **Seeds.** A chain that continues from its own end point must not draw the same normals again. If ``x0`` is a run,
    the new key is therefore derived from the seed and the number of earlier runs that led to the new one. If ``x0`` is
    an array and ``seed`` is given, the positions must not be end points of an earlier run of this process with that
    seed. Runs that start from different arrays with the same seed have common random numbers.

    **Interruption.** After Ctrl-C the function returns an incomplete run. A run that was resumed with ``resume`` has
    the same bits as an uninterrupted run. A run with ``x0=run``, in contrast, uses new random numbers.

    References
    ----------
    .. [1] J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3",
       Proceedings of SC11 (2011).

    Examples
    --------
    On N(0, 1), the stationary variance of ULA is 1/(1 - delta/2), and that of BAOAB is 1:

    >>> import uldnum
    >>> normal = uldnum.GaussianMixture(weights=[1.0], means=[[0.0]], variances=[1.0])
    >>> options = dict(delta=0.5, steps=100, burn_in=20, chains=2000, seed=1, backend="array")
    >>> for name in ("ula", "BAOAB"):
    ...     run = uldnum.sample(normal, name, **options)
    ...     print(run.settings.integrator, run.nfe, round(float(run.covariance[0, 0]), 2))
    ula 120 1.33
    BAOAB 121 1.0
    """
    target = find_target(target)
    scheme = find_integrator(integrator).at(temperature=temperature, score_noise=score_noise)
    scheme.check_errors(target.shape)
    given = step_size(h, delta)
    if given.ndim > 1 or given.size == 0:
        raise ValueError(f"{'h' if delta is None else 'delta'}: must be a number or have shape (H,), got {given.shape}")
    gamma = positive_number("friction", friction)
    check_numbers(chains, first_chain, seed, threads)
    steps, burn_in = whole_number("steps", steps, 1, 2**48), whole_number("burn_in", burn_in, 0, 2**48)
    bins = whole_number("bins", bins, 0, 2**24)
    earlier = None if resume is None else earlier_run(resume, x0)
    thin = None if thin is None else whole_number("thin", thin, 1, steps)
    kind = floating_type(target.dtype if dtype is None else dtype)
    devices = chosen_devices(devices, choose_backend(target, backend, kind, scheme.metropolised), target)
    target.check_dtype(kind)
    moments, every = recorded_moments(record, record_every, steps, target.shape, kind)
    if RECORDS[moments][1] > 1 and not scheme.momenta:
        rest = "whose state holds positions only" if scheme.rows == 1 else "whose second row holds no momenta"
        raise ValueError(f"record: {moments!r} needs an integrator with momenta, got {scheme.name!r}, {rest}")
    progress = title("progress", progress)
    if bins and not (moments and np.all(np.isfinite(target.standard_deviation))):
        raise ValueError("bins: histograms need a target of vectors with a known standard deviation")

    pilot = None
    if is_estimated(mass, target):
        learning = learning_steps(target, scheme, given, burn_in, number_of_chains(chains, earlier, x0))
        if earlier is not None:
            mass = earlier.settings.mass
        else:
            with quiet():
                pilot = sample(
                    target, scheme, h=given, friction=gamma, steps=learning - learning // 2, burn_in=learning // 2,
                    chains=chains, seed=seed, x0=x0, record="covariance", record_every=1, first_chain=first_chain,
                    dtype=kind, backend=backend, threads=threads, devices=devices, progress=progress,
                )  # fmt: skip
            mass = estimated_mass(pilot)
        burn_in -= learning
    weight = Mass.of(mass, target.shape, known_covariance(target) if isinstance(mass, str) else None)
    known = target if weight is None else target.transformed(weight)
    backend = choose_backend(known, backend, kind, scheme.metropolised)
    noise = scheme.score_noise if weight is None else weight.noise(scheme.score_noise)

    h_absolute = np.atleast_1d(given) * target.time_unit
    absolute = scheme.at(score_noise=np.divide(noise, target.time_unit))
    step = absolute.stages(h_absolute, friction=gamma / target.time_unit)
    errors = absolute.errors
    if known.form is not None:
        step, errors = step.answered(known.form), tuple(tau / known.form.score[1] for tau in errors)
    tables = lay_out([step], kind, errors)
    mixture = None if known.kernel_data is None else known.kernel_data(kind)
    number = number_of_chains(chains, earlier, x0)
    positions = given.size * number * math.prod(target.shape) * kind.itemsize
    shapes = statistics_shapes(given.size, number, math.prod(target.shape), moments, bins)
    require_memory(
        chains=2 * scheme.rows * positions + 8 * (math.prod(shapes["sums"]) + math.prod(shapes["products"])),
        bins=8 * math.prod(shapes["counts"]),
        thin=positions * (steps // thin if thin else 0),
    )
    if earlier is not None:
        start = resumed_start(earlier, chains, first_chain, seed, x0)
    elif pilot is not None:
        start = find_start(target, pilot, chains, first_chain, pilot.settings.seed, temperature=scheme.temperature)
        start = replace(start, name=pilot.settings.x0)
    else:
        x0 = "target" if x0 is None else x0
        start = find_start(target, x0, chains, first_chain, seed, given.size, scheme.temperature)
    if weight is not None and earlier is None:
        check_coordinates(target, weight, start.x, scheme.temperature)
    if scheme.metropolised and earlier is None:
        check_densities(target, start.x, kind)
    settings = Settings(
        version=VERSION,
        target=checked_text("target", target.name),
        fingerprint=target.fingerprint,
        shape=tuple(target.shape),
        integrator=scheme.name,
        coefficients=digest(*tables[:7], tables.score_at_x),
        backend=backend,
        dtype=kind.name,
        h=tuple(np.atleast_1d(given).tolist()),
        grouped=given.ndim == 1,
        friction=gamma,
        temperature=scheme.temperature,
        score_noise=scheme.score_noise,
        mass=1.0 if weight is None else weight.setting,
        burn_in=burn_in,
        chains=start.chains,
        first_chain=start.first_chain,
        seed=start.seed,
        generation=start.generation,
        thin=thin,
        record=moments,
        record_every=every,
        bins=bins,
        x0=start.name,
        momenta=scheme.momenta,
        time_unit=float(target.time_unit),
        metropolised=scheme.metropolised,
    )
    recording, low, high = recording_of(target, moments, every, bins, burn_in, thin, scheme.temperature)
    if earlier is None:
        deviations = np.full(scheme.rows - 1, scheme.start_deviation)
        phase_space = initial_state(start, deviations, scheme.momenta, given.size, kind, weight)
        state = State.start(phase_space, record=moments, bins=bins, metropolised=scheme.metropolised)
        if pilot is not None:
            state.nfe += pilot.state.nfe
        run = Run(settings, steps, state, [], recording.centre, low, high, tables, mixture, {})
    else:
        run = resumed(earlier, settings, steps, tables, mixture, (recording.centre, low, high))
        if scheme.metropolised:
            check_same_density(target, run.state)
        recording = recording._replace(centre=run.centre, low=run.low, per_unit=bins / (run.high - run.low))
    program = one_phase(
        target, run.tables, burn_in + steps, recording, settings.key, start.first_chain, run.mixture, weight,
        scheme.temperature,
    )  # fmt: skip
    unit, scale = ("step", False) if moments else ("image", len(h_absolute) * start.chains)
    with in_coordinates(run.state, weight, scheme.momenta):
        run = execute(program, run, threads, devices, progress, unit, scale)
    with attach_run_to_errors(run):
        register_ends(run)
        report(run, known, scheme)
    return run


def check_same_density(target: Target, state: State) -> None:
    """Raise if the log densities that chains carry are not those of the target, for example up to a constant.

    The fingerprint of a target depends on its score only, but that of a mixture also on its density.
    """
    if target.kernel_data is not None or not state.step:
        return
    x = state.phase_space[:, :, 0].reshape(-1, *target.shape)
    found, carried = np.asarray(target.log_density(x), float), state.log_density.ravel()  # type: ignore[misc]
    change = np.abs(found - carried)
    if not (change <= SAME_DENSITY * (1 + np.abs(carried))).all():
        raise ValueError(
            f"resume: must be a run with the same log density, which now differs by {change.max():.3g}; its constant "
            "must not change"
        )


def check_densities(target: Target, x: Array, kind: np.dtype[Any]) -> None:
    """Raise unless log densities at initial positions are finite; warn if they are too large for the dtype of a run.

    A chain samples the density that it computes. The relative error of the density is the rounding error of its
    logarithm.
    """
    found = np.asarray(target.log_density(x.reshape(-1, *target.shape)), float)  # type: ignore[misc]
    if not np.isfinite(found).all():
        raise ValueError("x0: must have a finite log density, which a Metropolis test compares with the next one")
    precision: np.dtype[Any] = np.dtype(float) if target.log_density_in_float64 else kind
    error = np.abs(found).max() * np.finfo(precision).eps
    if error > DENSITY_ERROR:
        remedy = "subtract a constant from them" if precision == np.float64 else "use float64"
        warnings.warn(
            f"dtype: {precision} rounds log densities of the target by up to {error:.2g}, so that the density that the "
            f"chains sample has this relative error; {remedy}",
            stacklevel=3,
        )


def is_estimated(mass: Any, target: Target) -> bool:
    """Return whether a mass has to be estimated, because the covariance of the target is unknown."""
    return isinstance(mass, str) and mass == ESTIMATED and known_covariance(target) is None


def learning_steps(target: Target, scheme: Integrator, h: Array, burn_in: int, chains: int) -> int:
    """Return the number of steps of burn-in from which the mass is estimated, or raise if they do not suffice."""
    (d,), learning = target.shape, burn_in // 2
    if h.ndim:
        raise ValueError(
            "h: must be a number if the mass is estimated; estimate it at one step size, and pass "
            "mass=run.settings.mass for the others"
        )
    Mass.of(np.eye(d), target.shape).noise(scheme.score_noise)  # type: ignore[union-attr]
    states = (learning - learning // 2) * chains
    if states < STATES_PER_DIMENSION * d:
        raise ValueError(
            f"burn_in: an estimate of the mass needs at least {STATES_PER_DIMENSION} states for each of {d} dimensions "
            f"in a quarter of burn_in, got {states} (steps times chains); increase burn_in or chains"
        )
    return learning


def estimated_mass(pilot: Run) -> Array:
    """Return the inverse covariance of a run with unit mass, for temperature 1, or raise if it is not known well."""
    if pilot.diverged:
        raise ValueError(
            "h: chains diverged with unit mass, while the mass was estimated; take a smaller step, or pass a mass"
        )
    try:
        return pilot.settings.temperature * inverse_of(pilot.covariance)
    except ValueError:
        raise ValueError(
            "burn_in: the estimate of the covariance is not positive definite; increase burn_in or chains, or pass a "
            "mass"
        ) from None


@dataclass(frozen=True)
class OneTarget:
    """The target of a program with one phase.

    Attributes
    ----------
    only : Target
        The target.
    mixture : MixtureData or None
        Parameters of the mixture for the kernels, with a leading axis of length 1; None if the target is not a mixture.
    least, most : arrays, shape (1, d)
        Lower and upper divergence bounds, in the dtype of the run.
    """

    only: Target
    mixture: MixtureData | None
    least: Array
    most: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.only.shape

    def target(self, number: int) -> Target:
        """Return the target."""
        return self.only

    def mixtures(self, first: int, last: int) -> MixtureData | None:
        """Return the mixture."""
        return self.mixture

    def bounds(self, first: int, last: int) -> tuple[Array, Array]:
        """Return the divergence bounds."""
        return self.least, self.most


def one_phase(
    target: Target,
    tables: Tables,
    steps: int,
    recording: Recording,
    seed: int,
    first_chain: int = 0,
    mixture: MixtureData | None = None,
    mass: Mass | None = None,
    temperature: float = 1.0,
) -> Program:
    """Return the program of an integrator on a target.

    ``mixture``, if given, replaces the kernel data of the target. With a mass, chains run in the coordinates y in which
    the mass is 1, and record the positions x and the momenta of y. The centre of ``recording`` is that of x.
    """
    dtype = tables.b.dtype
    relative = temperature / target.temperature_of_expectations
    least, most = bounds(*(centre_and_scale(target) if mass is None else mass.scale(target)), dtype, relative)
    frame, known = (recording.frame, target) if mass is None else (mass.factor, target.transformed(mass))
    centre = np.concatenate([recording.centre, np.zeros((recording.rows - 1) * len(recording.centre))])
    recording = recording._replace(centre=centre, frame=frame.astype(dtype))
    if mixture is None and known.kernel_data is not None:
        mixture = known.kernel_data(dtype)
    stacked = None if mixture is None else MixtureData(*(part[None] for part in mixture))
    targets, seeds = OneTarget(known, stacked, least[None], most[None]), np.array([seed], np.uint64)
    return Program(tables, np.array([steps]), seeds, targets, recording, first_chain, [None])


def report(run: Run, target: Target, scheme: Integrator) -> None:
    """Warn of step sizes at which chains diverged or the scheme is unstable, and of a run that was stopped."""
    settings = run.settings
    rows = zip(settings.h, np.atleast_1d(run.diverged), np.atleast_1d(run.diverged_at), strict=True)
    bad = [f"h = {h:g} ({count} of {settings.chains} chains, the first at step {at})" for h, count, at in rows if count]
    alone = target.precision is not None
    precision = largest_precision(target) if bad or alone else None
    growing = [f"h = {h:g}" for h in growing_steps(run, scheme, precision)] if alone and precision else []
    limit = "take a smaller step"
    if precision and (bad or growing):
        with suppress(ValueError):  # friction/sqrt(precision) is outside the range of `max_stable_h`
            stable = max_stable_h(scheme, precision=precision, friction=settings.friction)
            limit = (
                f"on the narrowest Gaussian of the target, the scheme is stable up to h = {stable:.4g} "
                "(uldnum.exact.max_stable_h)"
            )
    if bad:
        warnings.warn(
            f"{settings.integrator} diverged at {', '.join(bad)}; its statistics are NaN at these step sizes; {limit}",
            stacklevel=4,
        )
    if growing:
        warnings.warn(
            f"{settings.integrator} has not diverged yet at {', '.join(growing)}, but is unstable there and has no "
            f"stationary distribution: the statistics depend on the number of steps; {limit}",
            stacklevel=4,
        )
    warn_of_a_stop(run, "recorded steps")


def largest_precision(target: Target) -> float | None:
    """Return the largest precision of a target; None if it is unknown or out of range for `max_stable_h`."""
    precision = target.largest_precision
    return None if precision is None or not 1 / LARGEST <= precision <= LARGEST else precision


def growing_steps(run: Run, scheme: Integrator, precision: float) -> Array:
    """Return the step sizes without diverged chains at which a scheme is unstable on a Gaussian target."""
    h = np.array(run.settings.h)[np.atleast_1d(run.diverged) == 0]
    return h[unstable(scheme, h, precision, run.settings.friction)]

"""Reference samples, against which runs are measured if a target provides only its score."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from uldnum._util.arguments import answer_of, file_path, positive_number, reals, shown, whole_number
from uldnum._util.arraylib import Space, host
from uldnum._util.names import digest
from uldnum._util.typing import Array
from uldnum.diagnostics.jackknife import split
from uldnum.exact.density import TargetDensity, tabulate
from uldnum.kernels.initial import initial_normals, initial_uniform
from uldnum.sampling._sample import sample
from uldnum.sampling.run import Run
from uldnum.schemes.catalogue import integrator
from uldnum.targets import GaussianMixture, Modes, Target, find_target, lacking

__all__ = ["Evidence", "Reference", "Referenced", "against", "with_draws"]

# Number of samples that are drawn from a sampler, and largest number of coordinates that they have in total.
DRAWN, COORDINATES = 2**16, 2**24

# Seed of exact draws that serve as a reference; it differs from the seeds of runs by default.
EXACT_DRAWS = 1 << 63

# Smallest number of independent samples; errors are estimated from the spread of batches of them.
LEAST = 8

# Long runs: the integrator; the first step size in units of the narrowest scale; independent samples in each chain, so
# that chains forget where they started; largest numbers of stored draws, of steps and of halvings of the step size; and
# rounds of steps in which chains approach the target from their initial positions.
LONG, STEP, LASTING, DRAWS, STEPS, HALVINGS, ROUNDS, ROUND = "baoab-limit", 0.5, 32, 64, 2**17, 6, 8, 128


@dataclass(frozen=True)
class Evidence:
    """What a long run knows about itself.

    Attributes
    ----------
    h : float
        Step size.
    noise : float
        Largest standard error of the means of x and x^2 over all coordinates, in standard deviations of x and x^2.
    bias : float
        Upper limit of their bias, in the same units.
    evaluations : int
        Number of score evaluations of all chains, of the runs at both step sizes and of those that led to them.
    """

    h: float
    noise: float
    bias: float
    evaluations: int


@dataclass(frozen=True, eq=False, repr=False)
class Reference:
    """Samples of a distribution, against which runs are measured.

    `Reference.of` makes one from an array, a run, a file or a function. Diagnostics and studies accept the same objects
    as their argument ``reference``. Errors that they return include the noise of the reference.

    Parameters
    ----------
    samples : array, shape (draws, chains, *shape)
        Samples. Chains are independent of each other; the draws of one chain may be correlated.
    origin : str
        Description of the samples.
    evidence : Evidence, optional
        Step size, noise, bias and cost of a long run.

    Examples
    --------
    >>> import numpy as np
    >>> import uldnum
    >>> draws = np.random.default_rng(0).normal(size=(10_000, 2))
    >>> reference = uldnum.diagnostics.Reference.of(draws, (2,))
    >>> reference
    Reference(array of 10000 samples, shape=(2,))
    >>> target = uldnum.UserTarget(lambda x: -x, dimension=2)
    >>> bias = uldnum.diagnostics.sliced_wasserstein_2(draws[:500] + 1, target, reference=reference)
    >>> bool(abs(bias.value - 1) < 4 * bias.error)
    True
    """

    samples: Array
    origin: str
    evidence: Evidence | None = None

    @classmethod
    def long(cls, target: Target | str, noise: float = 0.005, seed: int = 1 << 62) -> Reference:
        """Return the samples of a run whose bias is shown to be smaller than its noise.

        ``reference="long"`` calls this method with its defaults.

        Parameters
        ----------
        target : str, UserTarget or another Target
            Target, or its name. Only its score is used. Chains start from its exact draws if it has them, otherwise
            from a normal distribution with its mean and standard deviation (0 and 1 if they are unknown).
        noise : float, default 0.005
            Largest standard error of the means of x and x^2, in standard deviations of x and x^2.
        seed : int, default 2^62
            Seed of the runs, from 0 to 2^64 - 1.

        Returns
        -------
        Reference
            The samples, whose ``origin`` and ``evidence`` state the step size, the noise, the bias and the cost.

        Raises
        ------
        ValueError
            If the noise is not reached in 2^17 steps, or if the bias exceeds the noise at all of six step sizes.

        Notes
        -----
        The integrator is baoab-limit, whose stationary bias is of order h^4. Runs with the step sizes 2h and h differ
        by D, with the standard error e. The bias at h is at most ``(|D| + 2 e)/15`` for each moment. The step size is
        halved until the largest of these limits is below the noise.

        The number of chains is such that each chain holds at least 32 independent samples if the noise is reached, and
        the burn-in is as long as the recorded run. A run cannot detect a mode that none of its chains visits.

        Examples
        --------
        >>> import uldnum
        >>> reference = uldnum.diagnostics.Reference.long("gaussian", noise=0.05)
        >>> reference.evidence.bias < reference.evidence.noise < 0.05
        True
        """
        return long_reference(find_target(target), positive_number("noise", noise), seed)

    @classmethod
    def of(cls, given: Any, shape: tuple[int, ...], seed: int = 0) -> Reference:
        """Return a reference.

        Parameters
        ----------
        given : Reference, array, Run, str, Path or callable
            Samples. The argument ``reference`` of diagnostics and studies may also be ``"long"``; see `long`.

            * array of shape (n, *shape): independent samples.
            * array of shape (draws, chains, *shape): samples of independent chains; the draws of a chain may be
              correlated.
            * `Run`: its trace, or its final positions if it has no trace. The chains of a run are independent of each
              other, so the errors include the autocorrelation within each chain.
            * str or Path: a file of a saved run, or of an array that `numpy.save` wrote (``.npy``).
            * callable: ``sampler(n, seed)`` returns independent samples of shape (n, *shape). It is called with n =
              65536, or fewer if the samples would have more than 2^24 coordinates in total.
        shape : tuple of int
            Shape of one sample.
        seed : int, default 0
            Seed for a sampler.

        Returns
        -------
        Reference
            The reference.

        Raises
        ------
        ValueError
            If the samples have another shape or are not finite, if fewer than 8 of them are independent, or if a run
            has several step sizes or diverged chains.
        """
        shape = tuple(shape)
        if isinstance(given, Reference):
            return cls(shaped(given.samples, shape), given.origin, given.evidence)
        if isinstance(given, str | Path):
            path = file_path("reference", given)
            if path.suffix != ".npy":
                return cls.of(Run.load(path, "reference"), shape)
            try:
                return cls(shaped(np.load(path), shape), f"array in {path.name}")
            except (OSError, EOFError) as error:
                raise ValueError(f"reference: {shown(str(path))} cannot be read: {error}") from None
        if isinstance(given, Run):
            return cls(*of_run(given, shape))
        if callable(given):
            n = max(LEAST, min(DRAWN, COORDINATES // math.prod(shape)))
            found = shaped(answer_of("reference", given, n, seed), shape)
            return cls(found, f"{found.shape[0] * found.shape[1]} samples of a sampler with seed {seed}")
        found = shaped(given, shape)
        return cls(found, f"array of {found.shape[0] * found.shape[1]} samples")

    def __repr__(self) -> str:
        """Return the origin and the shape of a sample."""
        return f"Reference({self.origin}, shape={self.shape})"

    def __len__(self) -> int:
        return self.samples.shape[0] * self.samples.shape[1]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.samples.shape[2:]

    @property
    def chains(self) -> int:
        """Number of independent chains."""
        return int(self.samples.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the samples."""
        sha = hashlib.sha256(f"{self.samples.shape} {self.samples.dtype}".encode())
        sha.update(np.ascontiguousarray(self.samples).data)
        return sha.hexdigest()[:16]

    @cached_property
    def mean(self) -> Array:
        """Mean of the samples, shape ``shape``."""
        return np.asarray(self.samples.mean(axis=(0, 1), dtype=float))

    @cached_property
    def standard_deviation(self) -> Array:
        """Standard deviation of each coordinate, shape ``shape``."""
        return np.asarray(self.samples.std(axis=(0, 1), dtype=float))

    def batches(self, count: int) -> list[Array]:
        """Return the samples in batches of whole chains, shape (n, d) each; images are flattened."""
        return split(self.samples.reshape(*self.samples.shape[:2], -1), count)

    def expectations(self, function: Callable[[Array], Array], count: int) -> tuple[Array, Array, Array]:
        """Return mean and variance of a function, and the noise of both.

        Parameters
        ----------
        function : callable
            Function of samples, (n, d) -> (n, k).
        count : int
            Number B of batches.

        Returns
        -------
        mean, variance : arrays, shape (k,)
            Mean and variance of the function.
        noise : array, shape (2, B, k)
            Contribution of each batch to the deviations of mean and variance from their expected values. The
            contributions of all batches sum to 0.
        """
        values = [function(batch) for batch in self.batches(count)]
        sizes = np.array([len(part) for part in values], dtype=float)[:, None]
        centre = values[0].mean(axis=0)  # avoids cancellation
        sums = np.array([[(part - centre).sum(axis=0), ((part - centre) ** 2).sum(axis=0)] for part in values])
        first, second = sums.sum(axis=0) / len(self)
        of_first, of_second = ((sums[:, i] - sizes * part) / len(self) for i, part in enumerate((first, second)))
        return centre + first, second - first**2, np.array([of_first, of_second - 2 * first * of_first])


def of_run(run: Run, shape: tuple[int, ...]) -> tuple[Array, str]:
    """Return the positions of a run that can serve as a reference, and their origin, or raise."""
    run.check_one_step_size()
    if run.diverged:
        raise ValueError(f"reference: must be a run without diverged chains, got {int(run.diverged)} diverged chains")
    # The trace of a plan leads from noise to data, and its draws have different distributions.
    trace = run.trace if any(run.settings.h) else None
    found = shaped(run.x if trace is None else trace, shape)
    what = "final positions" if trace is None else "trace"
    count, s = found.shape[0] * found.shape[1], run.settings
    return found, f"{what} of a run of {s.integrator} on {s.target}, {count} samples"


def shaped(given: Any, shape: tuple[int, ...]) -> Array:
    """Return samples with shape (draws, chains, *shape), or raise."""
    samples = reals("reference", host(given))
    if samples.ndim == len(shape) + 1:
        samples = samples[None]
    if samples.ndim != len(shape) + 2 or samples.shape[2:] != shape:
        each = ", ".join(map(str, shape))
        raise ValueError(f"reference: must have shape (n, {each}) or (draws, chains, {each}), got {np.shape(given)}")
    if samples.shape[1] < LEAST or not len(samples):
        raise ValueError(f"reference: must have at least {LEAST} independent samples, got {samples.shape[1]}")
    if not np.isfinite(samples).all():
        raise ValueError("reference: must be finite")
    return samples


def of_part(part: str, name: str) -> Any:
    """Return a property with the value of a part of the object."""
    return property(lambda self: getattr(getattr(self, part), name), doc=f"`{name}` of `{part}`.")


@dataclass(frozen=True, eq=False, repr=False)
class Restated(Target):
    """A target with other expectations and draws than its own; score, units and modes are those of the wrapped one.

    Parameters
    ----------
    inner : Target
        The wrapped target.
    temperature_of_expectations : float, default 1.0
        Temperature for which expectations and draws hold.
    """

    inner: Target
    temperature_of_expectations: float = field(default=1.0, kw_only=True)

    name, shape, like = (of_part("inner", name) for name in ("name", "shape", "like"))
    kernel_data, compiled_score = (of_part("inner", name) for name in ("kernel_data", "compiled_score"))
    time_unit, dtype = (of_part("inner", name) for name in ("time_unit", "dtype"))
    largest_precision, precision, modes = (
        of_part("inner", name) for name in ("largest_precision", "precision", "modes")
    )

    def score(self, x: Any) -> Any:
        """Return the score of the wrapped target."""
        return self.inner.score(x)

    def score_arguments(self, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Return the arguments of the compiled score."""
        return self.inner.score_arguments(dtype)

    def check_dtype(self, dtype: np.dtype[Any]) -> None:
        """Raise if the score cannot be computed in the given dtype."""
        self.inner.check_dtype(dtype)


@dataclass(frozen=True, eq=False, repr=False)
class Referenced(Restated):
    """A target whose expectations are those of reference samples, whether or not the target provides its own.

    Parameters
    ----------
    samples : Reference
        The reference.
    """

    samples: Reference

    def __post_init__(self) -> None:
        if not np.all(self.reference.standard_deviation > 0):
            raise ValueError("reference: must have a positive variance in every coordinate")

    @property
    def reference(self) -> Reference:
        """The reference."""
        return self.samples

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the target and of the samples."""
        return f"{self.inner.fingerprint}-{self.reference.fingerprint}"

    @property
    def mean(self) -> Array:
        """Mean of the reference."""
        return self.reference.mean

    @property
    def standard_deviation(self) -> Array:
        """Standard deviation of the reference."""
        return self.reference.standard_deviation

    def moment(self, order: int) -> Array:
        """Return the raw moments of the reference, shape ``shape``."""
        return np.asarray((self.reference.samples.astype(float) ** order).mean(axis=(0, 1)))

    def cdf(self, x: Any) -> Array:
        """Return the empirical cumulative distribution functions of the reference, (n, d) -> (n, d)."""
        every = np.sort(np.concatenate(self.reference.batches(1)), axis=0)
        points = np.reshape(np.asarray(x), (-1, every.shape[1]))
        ranks = [np.searchsorted(axis, at, side="right") for axis, at in zip(every.T, points.T, strict=True)]
        return np.array(ranks).T / len(every)

    def draws(self, n: int, seed: int = 0, first: int = 0) -> Array:
        """Return samples of the reference in a random order, each of them once before one is repeated.

        Chains that start from the same sample are not independent.
        """
        order = np.argsort(initial_uniform(len(self.reference), seed, 0), kind="stable")
        chosen = order[(first + np.arange(n)) % len(order)]
        return self.reference.samples.reshape(-1, *self.shape)[chosen].astype(float)


@dataclass(frozen=True)
class TabulatedLaw:
    """Expectations and draws of a one-dimensional distribution, by quadrature and inversion of its table.

    Attributes
    ----------
    table : TargetDensity
        Density and cdf.
    """

    table: TargetDensity

    def expectation(self, function: Callable[[Array], Array]) -> Array:
        """Return the mean of a function of positions, (n, 1) -> (n, k), shape (k,)."""
        values = function(self.table.x[:, None])
        return np.array([self.table.integral(column * self.table.density) for column in values.T])

    @property
    def mean(self) -> Array:
        """Mean, shape (1,)."""
        return np.array([self.table.mean])

    @property
    def standard_deviation(self) -> Array:
        """Standard deviation, shape (1,)."""
        return np.array([self.table.deviation])

    def moment(self, order: int) -> Array:
        """Return the raw moment of an order, shape (1,)."""
        return self.expectation(lambda x: x**order)

    def cdf(self, x: Any) -> Array:
        """Return the cumulative distribution function, (n, 1) -> (n, 1)."""
        return np.interp(np.reshape(np.asarray(x, dtype=float), (-1, 1)), self.table.x, self.table.cdf)

    def draws(self, n: int, seed: int = 0, first: int = 0) -> Array:
        """Return independent draws, shape (n, 1)."""
        return np.interp(initial_uniform(n, seed, first)[:, None], self.table.cdf, self.table.x)


@dataclass(frozen=True, eq=False, repr=False)
class Tempered(Restated):
    """A target with the expectations and draws of ``density^(1/T)`` at a temperature T.

    Parameters
    ----------
    law : GaussianMixture or TabulatedLaw
        The distribution at temperature T.
    """

    law: GaussianMixture | TabulatedLaw

    mean, standard_deviation = (of_part("law", name) for name in ("mean", "standard_deviation"))
    moment, cdf, draws = (of_part("law", name) for name in ("moment", "cdf", "draws"))

    @cached_property
    def modes(self) -> Modes | None:
        """The modes of the wrapped target, with their weights at temperature T."""
        modes = self.inner.modes
        if modes is None or len(modes.weights) == 1:
            return modes
        return modes._replace(weights=self.law.expectation(modes.responsibilities))  # type: ignore[union-attr]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the target and of the temperature."""
        return f"{self.inner.fingerprint}-{digest(np.array(self.temperature_of_expectations))}"


def against(target: Target, reference: Any, temperature: float | None = None) -> Target:
    """Return a target with the expectations of a reference, or with its own at a temperature.

    At another temperature T than that of the target, expectations are those of ``density^(1/T)``. They are known on
    Gaussians and in one dimension; otherwise a ValueError is raised unless there is a reference. None stands for the
    temperature of the target.
    """
    own = target.temperature_of_expectations
    temperature = own if temperature is None else temperature
    if isinstance(reference, str) and reference == "long":
        if temperature != 1:
            raise ValueError(f"reference: 'long' samples at temperature 1; pass samples at temperature {temperature:g}")
        reference = Reference.long(target)
    if reference is not None:
        return Referenced(target, Reference.of(reference, target.shape), temperature_of_expectations=temperature)
    if temperature == own:
        return target
    if target.precision is not None:
        return Tempered(target, heated(target, temperature), temperature_of_expectations=temperature)
    if target.shape != (1,):
        raise ValueError(
            f"temperature: at {temperature:g}, expectations are known on Gaussians and in one dimension, but not for "
            f"{target.name!r}; pass reference=samples at that temperature"
        )
    return Tempered(target, TabulatedLaw(tabulate(target, temperature)), temperature_of_expectations=temperature)


def heated(target: Target, temperature: float) -> GaussianMixture:
    """Return a Gaussian with a covariance that is ``temperature`` times as large."""
    precision = np.asarray(target.precision)
    if precision.ndim == 1:
        return GaussianMixture([1.0], [target.mean], [temperature / precision])
    return GaussianMixture([1.0], [target.mean], covariances=[temperature * np.linalg.inv(precision)])


@lru_cache(4)  # all points of a study have one target
def with_draws(target: Target) -> Target:
    """Return a target with a reference: its own, or exact draws, with which other expectations are estimated."""
    if target.reference is not None:
        return target
    if target.draws is None:
        raise lacking(target, "the expectation of observables; pass reference=, such as samples,", "draws")
    return against(target, lambda n, seed: target.sample(n, seed ^ EXACT_DRAWS))


def long_reference(target: Target, noise: float, seed: int) -> Reference:
    """Return `Reference.long`."""
    seed = whole_number("seed", seed, 0, 2**64 - 1 - ROUNDS)
    chains = 32 * max(1, math.ceil(1 / (LASTING * noise**2) / 32))
    start, width, evaluations = settled(target, chains, seed)
    order = integrator(LONG).order[1] or 0.0
    wide: LongRun | None = None
    for halvings in range(HALVINGS + 1):
        h = STEP * width / 2**halvings
        fine = long_run(target, start, h, noise, seed + ROUNDS)
        evaluations += 0 if fine is None else fine.evaluations
        if fine is not None and wide is not None:
            gaps = np.abs(fine.mean - wide.mean) + 2 * np.hypot(fine.error, wide.error)
            bias = float(np.max(gaps / fine.scale)) / (2**order - 1)
            if bias < noise:
                known = Evidence(h, float(np.max(fine.error / fine.scale)), bias, evaluations)
                count = fine.trace.shape[0] * fine.trace.shape[1]
                return Reference(shaped(fine.trace, target.shape), (
                    f"{count} samples of a long run of {LONG} on {target.name} with h = {h:.3g} and {evaluations:.2g} "
                    f"score evaluations, noise {known.noise:.1g} and bias below {bias:.1g} standard deviations by "
                    "comparison with 2h"
                ), known)  # fmt: skip
        wide = fine
    raise ValueError(
        f"reference: 'long' found no step size on {target.name!r} with a bias below {noise:g} standard deviations, "
        f"down to h = {h:.3g}; pass samples"
    )


@dataclass(frozen=True, eq=False)
class LongRun:
    """Trace of a run of a given noise, and means, errors and standard deviations of x and x^2, shape (2d,) each."""

    trace: Array
    mean: Array
    error: Array
    scale: Array
    evaluations: int


def settled(target: Target, chains: int, seed: int) -> tuple[Array, float, int]:
    """Return positions near the target, its narrowest scale in its unit of time, and the number of score evaluations.

    The scale of coordinate i is 1 divided by the standard deviation of the score s_i, as for a Gaussian.
    """
    d, evaluations = math.prod(target.shape), 0
    if target.draws is None:
        scale = np.where(np.isfinite(target.standard_deviation), target.standard_deviation, 1.0)
        x = np.asarray(target.mean + scale * initial_normals(chains, seed, 0, 0, d).reshape(chains, *target.shape))
    else:
        x = target.draws(chains, seed, 0)
    for number in range(ROUNDS):
        score = np.asarray(host(target.score(Space.of(target.like).array(x))), dtype=float).reshape(chains, -1)
        width = 1 / (float(np.max(score.std(axis=0))) * target.time_unit)
        run = quiet_run(target, "BAOAB", x0=x, h=STEP * width, friction=1 / width, steps=ROUND, seed=seed + number)
        evaluations += run.nfe * chains
        if not run.diverged:
            x = np.asarray(run.x, dtype=float)
    return x, width, evaluations


def long_run(target: Target, start: Array, h: float, noise: float, seed: int) -> LongRun | None:
    """Return a run long enough for a given noise, or None if chains diverge."""
    chains, steps, evaluations = len(start), 4 * DRAWS, 0
    draws = max(1, min(DRAWS, COORDINATES // start.size))
    while steps <= STEPS:
        run = quiet_run(target, LONG, x0=start, h=h, steps=steps, burn_in=steps, thin=-(-steps // draws), seed=seed)
        evaluations += run.nfe * chains
        if run.diverged or run.trace is None:
            return None
        x = run.trace.reshape(len(run.trace), chains, -1).astype(float)
        values = np.concatenate([x, x**2], axis=2)
        each = values.mean(axis=0)
        found = LongRun(
            run.trace, each.mean(axis=0), each.std(axis=0, ddof=1) / math.sqrt(chains), values.std(axis=(0, 1)),
            evaluations,
        )  # fmt: skip
        excess = float(np.max(found.error / found.scale)) / noise
        if excess <= 1:
            return found
        steps = math.ceil(steps * max(1.5, 1.2 * excess**2))
    raise ValueError(
        f"reference: 'long' did not reach a noise of {noise:g} standard deviations on {target.name!r} in {STEPS} steps "
        f"of h = {h:.3g}: its chains mix too slowly; pass samples"
    )


def quiet_run(target: Target, scheme: str, **options: Any) -> Run:
    """Run chains without warnings of divergence, or raise if the run was interrupted."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* diverged")
        warnings.filterwarnings("ignore", "stopped after")
        run = sample(target, scheme, chains=len(options["x0"]), progress=False, **options)
    if not run.complete:
        raise KeyboardInterrupt
    return run

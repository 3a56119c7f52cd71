"""Reference samples, against which runs are measured if a target provides only its score."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from uldnum._util.arguments import answer_of, file_path, positive_number, reals, shown
from uldnum._util.arraylib import host
from uldnum._util.typing import Array, ArrayLike
from uldnum.diagnostics.jackknife import split
from uldnum.diagnostics.long_run import COORDINATES, Evidence, long_samples, metropolised_samples
from uldnum.sampling.run import Run
from uldnum.targets import Target, find_target

__all__ = ["Reference"]

# Largest number of samples that are drawn from a sampler.
DRAWN = 2**16

# Smallest number of independent samples; errors are estimated from the spread of batches of them.
LEAST = 8


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
        Step size, noise, bias and cost of the run that `long` or `metropolised` made; None for other samples.
    temperature : float, optional
        Temperature of the run that the samples are from; None if it is unknown.

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
    temperature: float | None = None

    @classmethod
    def long(
        cls, target: Target | str, noise: float = 0.005, seed: int = 1 << 62, temperature: float = 1.0
    ) -> Reference:
        """Return the samples of a long run whose standard error and bias are below a given number.

        ``reference="long"`` calls this method with its defaults, and with the temperature of what is measured.

        Parameters
        ----------
        target : str, UserTarget or another Target
            Target, or its name. Chains start from its exact draws if it has them, otherwise from a normal distribution
            with its mean and standard deviation (0 and 1 if they are unknown). Apart from that, the samples depend only
            on its score.
        noise : float, default 0.005
            Upper limit of the standard errors and of the biases of the means of x and x^2, in standard deviations of x
            and x^2.
        seed : int, default 2^62
            Seed of the runs, from 0 to 2^64 - 9.
        temperature : float, default 1.0
            Temperature T of the runs. The samples are then from ``density^(1/T)``.

        Returns
        -------
        Reference
            The samples, whose ``origin`` and ``evidence`` state the step size, the noise, the bias and the cost.

        Raises
        ------
        ValueError
            If an argument is out of range, if the standard errors do not reach ``noise`` in 2^17 recorded steps, or if
            the limit of the bias is not below ``noise`` at any of the step sizes, the smallest of which is 1/64 of the
            first.

        Notes
        -----
        The integrator is baoab-limit, whose stationary bias is of order h^4. Let D be the difference between the
        moments of runs with the step sizes 2h and h, and e its standard error. The limit of the bias of each moment at
        h is ``(|D| + 2 e)/15``. The step size is halved until the largest of these limits is below ``noise``.

        The number of chains is at least 32, and such that about 32 independent samples of each chain are enough for the
        given noise. The burn-in is as long as the recorded run. A run cannot detect a mode that none of its chains
        visits.

        Examples
        --------
        >>> import uldnum
        >>> reference = uldnum.diagnostics.Reference.long("gaussian", noise=0.05)
        >>> reference.evidence.bias < reference.evidence.noise < 0.05
        True
        """
        target = find_target(target)
        trace, origin, evidence = long_samples(target, positive_number("noise", noise), seed, temperature)
        return cls(shaped(trace, target.shape), origin, evidence, temperature)

    @classmethod
    def metropolised(
        cls,
        target: Target | str,
        noise: float = 0.005,
        seed: int = 1 << 62,
        temperature: float = 1.0,
        x0: ArrayLike | None = None,
    ) -> Reference:
        """Return the samples of a run with a Metropolis test, which has no bias, with a given standard error.

        ``reference="metropolised"`` calls this method with its defaults, and with the temperature of what is measured.

        Parameters
        ----------
        target : str, UserTarget or another Target
            Target with a `log_density`, or its name.
        noise : float, default 0.005
            Upper limit of the standard errors of the means of x and x^2, in standard deviations of x and x^2.
        seed : int, default 2^62
            Seed of the runs, from 0 to 2^64 - 9.
        temperature : float, default 1.0
            Temperature T of the runs. The samples are then from ``density^(1/T)``.
        x0 : array_like of shape (*shape) or (n, *shape), optional
            Positions from which chains approach the target, repeated as often as necessary. By default chains start as
            those of `long`.

        Returns
        -------
        Reference
            The samples, whose ``origin`` and ``evidence`` state the step size, the noise and the cost. The bias is 0.

        Raises
        ------
        ValueError
            If an argument is out of range, if the target has no log density, if too few steps are accepted at all step
            sizes, or if the standard errors do not reach ``noise`` in 2^17 recorded steps.

        Notes
        -----
        The integrator is "ghmc" with the friction 0.2/w, where w is the narrowest scale of the target. The first step
        size is 2 w. It is reduced by factors of sqrt(2) until at least 90% of the steps are accepted. From ``x0``,
        chains approach the target by 4096 steps of "mala" with a step size that is adapted to its acceptance. The
        number of chains and the burn-in are those of `long`. A run cannot detect a mode that none of its chains visits.

        Examples
        --------
        >>> import uldnum
        >>> reference = uldnum.diagnostics.Reference.metropolised("gaussian", noise=0.05)
        >>> reference.evidence.noise < 0.05, reference.evidence.bias
        (True, 0.0)
        """
        target = find_target(target)
        trace, origin, evidence = metropolised_samples(target, positive_number("noise", noise), seed, temperature, x0)
        return cls(shaped(trace, target.shape), origin, evidence, temperature)

    @classmethod
    def of(cls, given: Any, shape: tuple[int, ...], seed: int = 0) -> Reference:
        """Return a reference.

        Parameters
        ----------
        given : Reference, array, Run, str, Path or callable
            Samples. The argument ``reference`` of diagnostics and studies may also be ``"long"`` or
            ``"metropolised"``; see `long` and `metropolised`.

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
            return replace(given, samples=shaped(given.samples, shape))
        if isinstance(given, str | Path):
            path = file_path("reference", given)
            if path.suffix != ".npy":
                return cls.of(Run.load(path, "reference"), shape)
            try:
                return cls(shaped(np.load(path), shape), f"array in {path.name}")
            except (OSError, EOFError) as error:
                raise ValueError(f"reference: {shown(str(path))} cannot be read: {error}") from None
        if isinstance(given, Run):
            return of_run(given, shape)
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


def of_run(run: Run, shape: tuple[int, ...]) -> Reference:
    """Return the positions of a run as a reference, or raise."""
    run.check_one_step_size()
    if run.diverged:
        raise ValueError(f"reference: must be a run without diverged chains, got {int(run.diverged)} diverged chains")
    # The trace of a plan leads from noise to data, and its draws have different distributions.
    trace = run.trace if any(run.settings.h) else None
    found = shaped(run.x if trace is None else trace, shape)
    what = "final positions" if trace is None else "trace"
    count, s = found.shape[0] * found.shape[1], run.settings
    origin = f"{what} of a run of {s.integrator}{s.conditions} on {s.target}, {count} samples"
    return Reference(found, origin, temperature=s.temperature)


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

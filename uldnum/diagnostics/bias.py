"""Bias of the moments of a run, with standard error and noise floor.

The bias of an observable f is the root mean square, over the axes i, of the error of its mean in units of its standard
deviation: ``b^2 = mean_i (E[f(x_i)]_run - E[f(x_i)])^2 / Var[f(x_i)]``, as in Robnik & Seljak, MicroCanonicalHMC.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from uldnum._util.arguments import result_of, shown
from uldnum._util.typing import Array
from uldnum.diagnostics.arguments import flattened
from uldnum.diagnostics.expectations import target_of, with_draws
from uldnum.diagnostics.jackknife import BATCHES, Bias, contributions, euclidean_norm
from uldnum.diagnostics.mixing import Estimate
from uldnum.sampling.run import Run
from uldnum.targets import Target, lacking

__all__ = [
    "collected",
    "deviation",
    "known_moment",
    "mean_bias",
    "observable_bias",
    "rms_bias",
    "second_moment_bias",
    "signed_bias",
]

# Function of positions of shape (n, *shape), with values of shape (n,) or (n, k).
Observable = Callable[[Array], Array]

POWERS = {"x": 1, "x^2": 2}


class Truth(NamedTuple):
    """Expectation of an observable with k components, and the unit of its bias.

    Attributes
    ----------
    mean : array, shape (k,)
        Expectation.
    scale : array, shape (k,)
        Standard deviation of the observable, the unit of the bias.
    noise : array, shape (2, B, k), or None
        Contributions of B batches of reference samples to the deviations of the expectation and of ``scale**2``; None
        if both are exact.
    """

    mean: Array
    scale: Array
    noise: Array | None = None


def signed_gaps(values: Array, truth: Truth) -> tuple[Array, Array]:
    """Return ``(E[values] - mean)/scale`` on each axis, and its independent deviations.

    Parameters
    ----------
    values : array, shape (..., chains, k)
        Independent estimates, one per chain.
    truth : Truth
        Expectation and unit.

    Returns
    -------
    gaps : array, shape (..., k)
        Signed biases.
    deviations : array, shape (..., n, k)
        Deviations v_i of n chains, or of n batches if there is a reference; ``sum_i v_i v_i^T`` estimates the
        covariance of the gaps. They are NaN for a single chain.

    Notes
    -----
    Batches of chains are paired with batches of the reference. As both are independent, the covariance of a pair is the
    sum of theirs. The noise of the scale enters to first order.
    """
    chains, mean, scale, noise = values.shape[-2], *truth
    gaps = (values - mean) / scale
    average = gaps.mean(axis=-2)
    if noise is None:
        with np.errstate(divide="ignore", invalid="ignore"):
            return average, (gaps - average[..., None, :]) / np.sqrt(np.float64(chains * (chains - 1)))
    batches = noise.shape[1]
    of_scale = average[..., None, :] * noise[1] / (2 * scale**2)
    deviations = contributions(gaps, batches) - noise[0] / scale - of_scale
    return average, deviations * np.sqrt(batches / (batches - 1))


def collected(each: list[Bias], run: Run | Array, lost: Array) -> Bias:
    """Return the measures of each step size as one `Bias`; those of lost step sizes are NaN."""

    def masked(part: tuple[Array, ...]) -> Array:
        stacked = np.stack(part).astype(float)
        stacked[lost] = np.nan
        return run.each(stacked) if isinstance(run, Run) else stacked[0]

    value, error, floor = (masked(part) for part in zip(*each, strict=True))
    return Bias(value, error, floor)


def rms_bias(values: Array, truth: Truth) -> Bias:
    """Return the root mean square over axes of `signed_gaps`, as arrays of shape (...)."""
    mean, deviations = (part / np.sqrt(values.shape[-1]) for part in signed_gaps(values, truth))
    samples, d = deviations.shape[-2:]
    projections = (deviations @ mean[..., None])[..., 0]
    across = deviations.swapaxes(-2, -1)
    products = across @ deviations if d < samples else deviations @ across
    return euclidean_norm(np.sum(mean**2, axis=-1), projections, products, samples)


def signed(values: Array, truth: Truth) -> Estimate:
    """Return `signed_gaps` with standard errors, as arrays of shape (..., k)."""
    gaps, deviations = signed_gaps(values, truth)
    return Estimate(gaps, np.sqrt(np.sum(deviations**2, axis=-2)))


def moment_of(run: Run, target: Target, order: int) -> tuple[Array, Truth]:
    """Return the means of x^order over the steps of each chain, shape (..., chains, d), and their expectation."""
    if run.settings.record is not None:
        values = run.moments.chain_mean if order == 1 else run.moments.chain_square
    else:
        values = chain_averages(run, lambda x: x**order)
    if target.reference is None:
        first, second = (np.ravel(known_moment(target, power)) for power in (order, 2 * order))
        return values, Truth(first, np.ravel(deviation(target, first, second)))
    return values, expected(target, lambda x: x**order, values.shape[-2])


def observable_of(run: Run, target: Target, function: Observable) -> tuple[Array, Truth]:
    """Return the means of a function over the stored positions of each chain, and their expectation."""

    def call(x: Array) -> Array:
        found = result_of("observable", function, x.reshape(len(x), *target.shape))
        if found.ndim not in (1, 2) or len(found) != len(x):
            raise ValueError(
                f"observable: must return an array of shape (n,) or (n, k) for positions of shape (n, "
                f"{', '.join(map(str, target.shape))}), got {found.shape} for n = {len(x)}"
            )
        return found.reshape(len(x), -1)

    known, values = with_draws(target), chain_averages(run, call)
    return values, expected(known, call, values.shape[-2])


def chain_averages(run: Run, function: Callable[[Array], Array]) -> Array:
    """Return the means of a function over the trace, or at the final positions, of each chain; NaN if some diverged."""
    run.check_one_step_size()
    trace = flattened(run.x[None] if run.trace is None else run.trace, run.settings.shape)
    if run.diverged:
        return np.full_like(function(np.broadcast_to(run.centre, trace.shape[1:])), np.nan, dtype=float)
    return np.asarray(np.mean([function(np.asarray(draw, dtype=float)) for draw in trace], axis=0))


def expected(target: Target, function: Callable[[Array], Array], chains: int) -> Truth:
    """Return the expectation of a function of reference samples, with its noise in at most ``chains`` batches."""
    batches = min(BATCHES, chains, target.reference.chains)
    mean, variance, noise = target.reference.expectations(function, batches)
    if not np.all(variance > 0):
        raise ValueError(f"reference: must give every observable a positive variance, got {shown(variance)}")
    return Truth(mean, np.sqrt(variance), noise)


def mean_bias(run: Run, target: Target | str, *, reference: Any = None) -> Bias:
    r"""Return the bias of E[x_i] in standard deviations of x_i.

    Parameters
    ----------
    run : Run
        Run of `uldnum.sample`, with one or several step sizes. Runs on images and runs of plans accumulate no moments;
        their stored positions are averaged, or the final ones if there is no trace.
    target : str, GaussianMixture, UserTarget or another Target
        Target, or its name. Without a reference, its moments of orders 1 and 2 must be known.
    reference : array, Run, str, Path, callable or Reference, optional
        Samples whose moments replace those of the target, as in `Reference.of`. Their noise enters error and floor.

    Returns
    -------
    Bias
        Dimensionless; scalars, or arrays of shape (H,) for several step sizes. The value is not negative. All parts are
        NaN where a chain diverged. The error is NaN for fewer than three chains, the floor for a single chain.

    Raises
    ------
    ValueError
        If the moments of the target are unknown and there is no reference, or if samples of target, run and reference
        have different shapes.

    Notes
    -----
    The value b is the root mean square over the d axes:

    .. math:: b^2 = \frac{1}{d} \sum_{i=1}^d \frac{(E[x_i]_\mathrm{run} - E[x_i])^2}{Var[x_i]}

    The floor is the root mean square of the standard errors of the axes, which is the root mean square of b for an
    unbiased run. The error is that of `uldnum.diagnostics.jackknife.euclidean_norm`.

    Examples
    --------
    >>> import uldnum
    >>> normal = uldnum.GaussianMixture(weights=[1.0], means=[[0.0]], variances=[1.0])
    >>> run = uldnum.sample(normal, "BAOAB", h=1.0, steps=100, burn_in=20, chains=2000, backend="array")
    >>> bias = uldnum.diagnostics.mean_bias(run, normal)
    >>> bool(bias.value < 4 * bias.floor)
    True
    """
    return rms_bias(*moment_of(run, target_of(run, target, reference), 1))


def second_moment_bias(run: Run, target: Target | str, *, reference: Any = None) -> Bias:
    r"""Return the bias of E[x_i^2] in standard deviations of x_i^2.

    Parameters
    ----------
    run : Run
        Run of `uldnum.sample`, as in `mean_bias`.
    target : str, GaussianMixture, UserTarget or another Target
        Target, or its name. Without a reference, its moments of orders 2 and 4 must be known.
    reference : array, Run, str, Path, callable or Reference, optional
        Samples whose moments replace those of the target, as in `Reference.of`. Their noise enters error and floor.

    Returns
    -------
    Bias
        Dimensionless; scalars, or arrays of shape (H,) for several step sizes. The value is not negative. All parts are
        NaN where a chain diverged. The error is NaN for fewer than three chains, the floor for a single chain.

    Raises
    ------
    ValueError
        If the moments of the target are unknown and there is no reference, or if samples of target, run and reference
        have different shapes.

    Notes
    -----
    The value b is the root mean square over the d axes, with moments about 0:

    .. math:: b^2 = \frac{1}{d} \sum_{i=1}^d \frac{(E[x_i^2]_\mathrm{run} - E[x_i^2])^2}{Var[x_i^2]}

    Error and floor are those of `mean_bias`. On N(0, 1), ULA has ``b = 1/sqrt(2) (1/(1 - delta/2) - 1)``.

    Examples
    --------
    For delta = 0.5 the bias of ULA is 0.236:

    >>> import uldnum
    >>> normal = uldnum.GaussianMixture(weights=[1.0], means=[[0.0]], variances=[1.0])
    >>> run = uldnum.sample(normal, "ula", delta=0.5, steps=100, burn_in=20, chains=2000, backend="array")
    >>> bias = uldnum.diagnostics.second_moment_bias(run, normal)
    >>> bool(abs(bias.value - 0.236) < 4 * bias.error)
    True
    """
    return rms_bias(*moment_of(run, target_of(run, target, reference), 2))


def observable_bias(run: Run, target: Target | str, observable: Observable, *, reference: Any = None) -> Bias:
    """Return the bias of the mean of a function of x, in standard deviations of the function.

    Parameters
    ----------
    run : Run
        Run of `uldnum.sample` with a single step size. The function is averaged over its trace (``thin``), or over the
        final positions if there is no trace.
    target : str, GaussianMixture, UserTarget or another Target
        Target, or its name.
    observable : callable
        Function of positions, (n, *shape) -> (n,) or (n, k).
    reference : array, Run, str, Path, callable or Reference, optional
        Samples that give the expectation of the function, as in `Reference.of`. Default: 65536 exact draws of the
        target, or fewer if they would have more than 2^24 coordinates in total. Their noise enters error and floor.

    Returns
    -------
    Bias
        Dimensionless scalars; for k components, the root mean square. `signed_bias` returns each with its sign.

    Raises
    ------
    ValueError
        If there are no reference and no exact draws, if shapes differ, or if the function fails or is constant.

    Examples
    --------
    >>> import numpy as np
    >>> import uldnum
    >>> draws = np.random.default_rng(0).normal(size=(10_000, 1))
    >>> target = uldnum.UserTarget(lambda x: -x, dimension=1)
    >>> run = uldnum.sample(target, "ula", delta=0.5, steps=100, burn_in=20, chains=500, thin=10, x0=draws[:500])
    >>> bias = uldnum.diagnostics.observable_bias(run, target, np.abs, reference=draws)
    >>> bool(bias.value > 4 * bias.floor)
    True
    """
    return rms_bias(*observable_of(run, target_of(run, target, reference), observable))


def signed_bias(
    run: Run, target: Target | str, observable: str | Observable = "x", *, reference: Any = None
) -> Estimate:
    """Return the bias of the mean of x, x^2 or another function, with its sign, on each axis.

    Parameters
    ----------
    run : Run
        Run of `uldnum.sample`, as in `mean_bias` and `observable_bias`.
    target : str, GaussianMixture, UserTarget or another Target
        Target, or its name. Without a reference, its moments must be known.
    observable : {"x", "x^2"} or callable, default "x"
        Function of positions, (n, *shape) -> (n,) or (n, k). A callable needs a reference or exact draws.
    reference : array, Run, str, Path, callable or Reference, optional
        Samples that give the expectations, as in `Reference.of`.

    Returns
    -------
    Estimate
        ``(E[f]_run - E[f])/sd(f)`` with its standard error, arrays of shape (d,) or (k,); images are flattened. There
        is a leading axis H for several step sizes.

    Raises
    ------
    ValueError
        If the expectation is unknown and there is no reference, or if shapes differ.

    Examples
    --------
    On N(0, 1), the variance of ULA is too large at h = 1, and that of noise-denoise too small:

    >>> import uldnum
    >>> options = dict(steps=200, burn_in=20, chains=1000, backend="array")
    >>> for name in ("ula", "noise-denoise(1)"):
    ...     run = uldnum.sample("gaussian", name, h=1.0, **options)
    ...     print(name, uldnum.diagnostics.signed_bias(run, "gaussian", "x^2").value.round(1))
    ula [0.2]
    noise-denoise(1) [-0.3]
    """
    target = target_of(run, target, reference)
    if callable(observable):
        return signed(*observable_of(run, target, observable))
    if observable not in POWERS:
        raise ValueError(f"observable: must be 'x', 'x^2' or a function, got {shown(observable)}")
    return signed(*moment_of(run, target, POWERS[observable]))


def deviation(target: Target, mean: Array, square: Array) -> Array:
    """Return the standard deviation of an observable from its mean and mean square, or raise if it is not positive."""
    variance = square - mean**2
    if not np.all(variance > 0):
        raise ValueError(f"target: the moments of {target.name!r} must give positive variances, got {variance}")
    return np.sqrt(variance)


def known_moment(target: Target, order: int) -> Array:
    """Return E[x_i^order] of a target, or raise if it is unknown."""
    if target.moment is None:
        raise lacking(target, "its moments", "moment")
    found = result_of("target: moment", target.moment, order)
    if found.shape != target.shape or not np.all(np.isfinite(found)):
        raise ValueError(f"target: moment({order}) of {target.name!r} must be finite and have shape {target.shape}")
    return found

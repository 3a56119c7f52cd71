"""Distances between samples of a run and its target: sliced Wasserstein, kernel discrepancies and mode weights.

All functions accept samples ``x`` of shape (chains, *shape), such as the final positions of a run with a single step
size, or (draws, chains, *shape), such as its trace. Images are flattened. Chains are independent, so errors are
estimated from batches of chains.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import hadamard

from uldnum._util.arguments import whole_number
from uldnum._util.arraylib import Space, host
from uldnum._util.typing import Array
from uldnum.diagnostics.arguments import flattened, modes_of, positions, scored, stored_positions, temperature_of
from uldnum.diagnostics.bias import Truth, collected, rms_bias
from uldnum.diagnostics.expectations import against
from uldnum.diagnostics.jackknife import BATCHES, Bias, euclidean_norm, other_norm, split, squared_norm
from uldnum.sampling.run import Run
from uldnum.targets import Target, find_target, lacking

__all__ = ["kernel_stein_discrepancy", "maximum_mean_discrepancy", "mode_weights", "sliced_wasserstein_2", "virial"]

# Smallest number of directions of the sliced Wasserstein distance.
DIRECTIONS = 64

# Largest number of samples of a run, and of exact draws or reference samples. SLICED applies to the sliced Wasserstein
# distance, whose cost grows almost linearly with the number. PAIRED applies to the kernel discrepancies, whose cost
# grows as its square.
SLICED, PAIRED = 2**12, 2**11

# The key of the exact draws is the seed with this bit inverted, so the draws differ from the initial states of a run.
REFERENCE = 1 << 63


def sliced_wasserstein_2(x: Array, target: Target | str, *, seed: int = 0, reference: Any = None) -> Bias:
    """Return the sliced Wasserstein-2 distance between samples and exact draws or reference samples.

    Parameters
    ----------
    x : array_like, shape (chains, *shape) or (draws, chains, *shape)
        Samples of at least two chains, such as `Run.x` or `Run.trace`. Of more than 4096 samples, an evenly spaced
        subset of each batch of chains is used.
    target : str, GaussianMixture, UserTarget or another Target
        Target, or its name. Without a reference, it must have exact draws.
    seed : int, default 0
        Seed of the draws and of the directions, from 0 to 2^64 - 1.
    reference : array, Run, str, Path, callable or Reference, optional
        Samples that take the place of the exact draws, as in `Reference.of`.

    Returns
    -------
    Bias
        Scalars in units of x. The value is not negative; for exact draws it is of the order of the floor. All parts are
        NaN if a position is NaN. The error is NaN for fewer than four chains.

    Raises
    ------
    ValueError
        If ``x`` has another shape, another d than the target, or fewer than two chains, or if the target has no exact
        draws.

    Notes
    -----
    The distance along a direction is the root mean square difference of the quantiles of the projections. The value is
    the root mean square over directions (Bonneel et al. 2015). The directions form random orthonormal frames, with 64
    to 128 directions in total (one direction if d = 1).

    The same number of exact draws or reference samples is used, in batches of the same sizes. Error and floor include
    the noise of these samples. Error and floor are computed from balanced half-samples (McCarthy 1969): each of several
    partitions divides the batches of chains into two halves, and the quantiles of the two halves are compared. The
    jackknife is not used, because it fails for quantiles. See `uldnum.diagnostics.jackknife.euclidean_norm`.

    Examples
    --------
    The distance between N(0, I) and the target N(0, 4 I) is 1:

    >>> import numpy as np
    >>> import uldnum
    >>> target = uldnum.GaussianMixture(weights=[1.0], means=[[0.0, 0.0]], variances=[4.0])
    >>> x = np.random.default_rng(0).normal(size=(4000, 2))
    >>> distance = uldnum.diagnostics.sliced_wasserstein_2(x, target)
    >>> bool(abs(distance.value - 1) < 4 * distance.error)
    True
    """
    batches, draws, _ = compared(x, target, reference, seed, SLICED, power_of_two=True)
    d, halvings = batches[0].shape[1], hadamard(len(batches))[1:]
    shape = -(-DIRECTIONS // d) if d > 1 else 1, d, min(d, 2 * DIRECTIONS)
    directions = np.concatenate(list(np.linalg.qr(np.random.default_rng(seed).normal(size=shape)).Q), axis=1).T
    square, projections, products = np.zeros(()), np.zeros(len(halvings)), np.zeros((len(halvings),) * 2)
    for direction in directions:
        gap, halves, deviations = quantile_gaps(
            [one @ direction for one in batches], [one @ direction for one in draws], halvings
        )
        square += np.mean(gap**2)
        projections += deviations @ halves / len(halves)
        products += deviations @ deviations.T / len(halves)
    each = len(directions)
    return euclidean_norm(
        square / each, projections / each / np.sqrt(len(halvings)), products / each / len(halvings), len(batches)
    )


def quantile_gaps(one: list[Array], other: list[Array], halvings: Array) -> tuple[Array, Array, Array]:
    """Return the differences between the quantiles of two samples of size n, and their deviations in half-samples.

    There are three results. The first, of shape (n,), holds the differences between the quantiles of all batches at n
    levels. The second, of shape (n//2,), holds the same differences at n//2 levels. The third, of shape
    (halvings, n//2), has one row for each division of the batches into two halves. The row is half of the difference
    between the quantile differences of the first half and those of the second. Both samples are divided in the same
    way.
    """
    sizes, first = np.array(list(map(len, one))), halvings > 0
    n, owner = sizes.sum(), np.repeat(np.arange(len(one)), sizes)
    sides = []
    for side in map(np.concatenate, (one, other)):
        order = np.argsort(side)
        sides.append((side[order], owner[order]))
    gap = sides[0][0] - sides[1][0]
    levels = (np.arange(n // 2) + 0.5) / (n // 2)

    def at_levels(gaps: Array) -> Array:
        return gaps if len(gaps) == len(levels) else np.interp(levels, (np.arange(len(gaps)) + 0.5) / len(gaps), gaps)

    def gaps(chosen: Array) -> Array:  # of one half for each row of ``chosen``; parts of sorted samples are sorted
        left, right = (values[np.flatnonzero(chosen[:, owners]) % n] for values, owners in sides)
        return np.array([at_levels(part) for part in np.split(left - right, np.cumsum(chosen @ sizes)[:-1])])

    return gap, at_levels(gap), (gaps(first) - gaps(~first)) / 2


def maximum_mean_discrepancy(x: Array, target: Target | str, *, seed: int = 0, reference: Any = None) -> Bias:
    r"""Return the squared maximum mean discrepancy between samples and exact draws or reference samples.

    Parameters
    ----------
    x : array_like, shape (chains, *shape) or (draws, chains, *shape)
        Samples of at least two chains, such as `Run.x` or `Run.trace`. Of more than 2048 samples, an evenly spaced
        subset of each batch of chains is used, because the cost grows as the square of their number.
    target : str, GaussianMixture, UserTarget or another Target
        Target, or its name. Without a reference, it must have exact draws and a known standard deviation.
    seed : int, default 0
        Seed of the draws, from 0 to 2^64 - 1.
    reference : array, Run, str, Path, callable or Reference, optional
        Samples that take the place of the exact draws, as in `Reference.of`.

    Returns
    -------
    Bias
        Dimensionless scalars. The value may be negative. All parts are NaN if a position is NaN. Error and floor are
        NaN for two chains.

    Raises
    ------
    ValueError
        If ``x`` has another shape, another d than the target, or fewer than two chains, or if the target has no exact
        draws or no known standard deviation.

    Notes
    -----
    The number of exact draws or reference samples y is equal to the number of samples x, and the sizes of their batches
    are equal. The squared discrepancy is (Gretton et al. 2012, eq. 3):

    .. math:: E k(x, x') + E k(y, y') - 2 E k(x, y), \qquad k(x, y) = \exp\left(-\frac{|x - y|^2}{2 l^2}\right)

    l^2 is the trace of the covariance of the target or of the reference. Pairs of samples from the same batch of chains
    are omitted, because the autocorrelation of a trace would bias them. The mean of the value for unbiased samples is
    therefore 0. Error and floor are those of `uldnum.diagnostics.samples.u_statistic`.

    Examples
    --------
    >>> import numpy as np
    >>> import uldnum
    >>> x = np.random.default_rng(0).normal(size=(1000, 1))
    >>> exact = uldnum.diagnostics.maximum_mean_discrepancy(x, "gaussian")
    >>> wide = uldnum.diagnostics.maximum_mean_discrepancy(2 * x, "gaussian")
    >>> bool(abs(exact.value) < 4 * exact.floor), bool(wide.value > 4 * wide.floor)
    (True, True)
    """
    batches, draws, known = compared(x, target, reference, seed, PAIRED)
    sizes = sizes_of(batches)
    width = 2 * np.sum(np.asarray(known.standard_deviation) ** 2)
    if not np.isfinite(width):
        raise lacking(known, "its standard deviation", "standard_deviation")

    def kernel(a: Array, b: Array) -> Array:
        square = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1) - 2 * a @ b.T
        return np.exp(-np.maximum(square, 0) / width)

    crossed = pair_sums(kernel, batches, draws)
    sums = own_sums(kernel, batches) + own_sums(kernel, draws) - crossed - crossed.T
    return u_statistic(sums, sizes)


def kernel_stein_discrepancy(x: Array, target: Any) -> Bias:
    r"""Return the squared kernelised Stein discrepancy between samples and a target.

    Only the score of the target is used.

    Parameters
    ----------
    x : array_like, shape (chains, *shape) or (draws, chains, *shape)
        Samples of at least two chains, such as `Run.x` or `Run.trace`. Of more than 2048 samples, an evenly spaced
        subset of each batch of chains is used, because the cost grows as the square of their number.
    target : str, GaussianMixture, UserTarget, or any object with a method ``score``
        Target, or its name. ``score(x)`` maps an array of shape (n, *shape) to the gradients of the log density.

    Returns
    -------
    Bias
        Scalars in units of 1/x^2. The value may be negative. All parts are NaN if a position is NaN. Error and floor
        are NaN for two chains.

    Raises
    ------
    ValueError
        If ``x`` has another shape or fewer than two chains, or if all samples are equal.

    Notes
    -----
    The value is the mean over pairs of samples x and y of

    .. math::

        k \, s_x \cdot s_y + s_x \cdot \nabla_y k + s_y \cdot \nabla_x k + \nabla_x \cdot \nabla_y k,
        \qquad k(x, y) = (1 + |x - y|^2/l^2)^{-1/2}

    where s_x is the score at x and k is the inverse multiquadric kernel (Gorham & Mackey 2017). l^2 is the trace of the
    covariance of the samples. Pairs of samples from the same batch of chains are omitted, so the mean of the value for
    unbiased samples is 0. Error and floor are those of `uldnum.diagnostics.samples.u_statistic`.

    Examples
    --------
    >>> import numpy as np
    >>> import uldnum
    >>> x = np.random.default_rng(0).normal(size=(1000, 1))
    >>> exact = uldnum.diagnostics.kernel_stein_discrepancy(x, "gaussian")
    >>> wide = uldnum.diagnostics.kernel_stein_discrepancy(2 * x, "gaussian")
    >>> bool(abs(exact.value) < 4 * exact.floor), bool(wide.value > 4 * wide.floor)
    (True, True)
    """
    target = scored(target)
    x = positions(x, target)
    shape = getattr(target, "shape", x.shape[-1:])
    every = split(flattened(x, shape), BATCHES)
    batches = [spread(batch, PAIRED // len(every)) for batch in every]
    d, width = batches[0].shape[1], float(np.concatenate(batches).var(axis=0).sum())

    if width == 0:
        raise ValueError("x: must have a positive variance, which is the scale of the kernel, got equal samples")

    def stein(a: Array, b: Array) -> Array:
        xa, sa, xb, sb = a[:, :d], a[:, d:], b[:, :d], b[:, d:]
        square = np.maximum(np.sum(xa**2, axis=1)[:, None] + np.sum(xb**2, axis=1) - 2 * xa @ xb.T, 0)
        k, inverse = 1 / np.sqrt(1 + square / width), 1 / (width + square)
        # With g = x - y: grad_x k = slope g, grad_y k = -slope g, div_x grad_y k = -d slope - curve |g|^2.
        slope = -k * inverse
        curve = -3 * slope * inverse
        along = np.sum(sa * xa, axis=1)[:, None] - sa @ xb.T + np.sum(sb * xb, axis=1) - xa @ sb.T  # (s_x - s_y).g
        return k * (sa @ sb.T) - slope * (along + d) - curve * square

    def with_score(batch: Array) -> Array:
        score = scores_at(batch, target, shape) / temperature_of(target)
        return np.concatenate([batch, score], axis=1, dtype=float)

    return u_statistic(own_sums(stein, [with_score(batch) for batch in batches]), sizes_of(batches))


def scores_at(x: Array, target: Any, shape: tuple[int, ...]) -> Array:
    """Return scores of a target of a given shape, (n, d) -> (n, d)."""
    space, images = Space.of(getattr(target, "like", None)), x.reshape(len(x), *shape)
    scores = host(target.score(space.array(images) if space.foreign else images))
    return np.reshape(scores, x.shape)


def virial(x: Run | Array, target: Any) -> Bias:
    """Return the error of the virial theorem, ``|E[-(x - c).s(x)]/d - 1|``, where c is the mean of the samples.

    Only the score of the target is used, so that score networks are measured like other targets. The expectation is d
    for samples of the target.

    Parameters
    ----------
    x : Run, or array_like of shape (chains, *shape) or (draws, chains, *shape)
        Run, of which the trace or, without a trace, the final positions are used, or samples of at least two chains.
    target : str, GaussianMixture, UserTarget, or any object with a method ``score``
        Target, such as a network at a noise level, or its name. ``score(x)`` maps an array of shape (n, *shape) to the
        gradients of the log density.

    Returns
    -------
    Bias
        Dimensionless scalars, or arrays of shape (H,) for a run with several step sizes. All parts are NaN if a
        position is NaN or a chain of a run diverged. The error is NaN for fewer than three chains.

    Raises
    ------
    ValueError
        If ``x`` has another shape or fewer than two chains.

    Notes
    -----
    By integration by parts, ``E[-(x - c).s(x)] = d`` for any density whose tails decay fast enough and any c. The mean
    has a small variance. At temperature T, s is the score of ``density^(1/T)``; T is that of the run. A bias that does
    not change this expectation is not detected. For a scheme with the covariance S on a Gaussian with the precision
    Lambda, the value is ``|tr(Lambda S)/d - 1|``. Error and floor are those of `uldnum.diagnostics.bias.mean_bias`.

    Examples
    --------
    On N(0, 1), ULA with delta = 0.5 has the variance 4/3:

    >>> import uldnum
    >>> run = uldnum.sample("gaussian", "ula", delta=0.5, steps=200, chains=4000, thin=20, backend="array")
    >>> found = uldnum.diagnostics.virial(run, "gaussian")
    >>> bool(abs(found.value - 1 / 3) < 4 * found.error)
    True
    """
    target = scored(target)
    if not isinstance(x, Run):
        return virial_at(x, target, temperature_of(target))
    if hasattr(target, "of_chains"):
        target = target.of_chains(x.settings.first_chain, x.settings.chains)
    stored, lost = stored_positions(x), np.atleast_1d(x.diverged) > 0
    groups = stored if x.settings.grouped else stored[None]
    with np.errstate(all="ignore"):  # the scores of diverged chains may overflow
        return collected([virial_at(group, target, x.settings.temperature) for group in groups], x, lost)


def virial_at(x: Any, target: Any, temperature: float) -> Bias:
    """Return `virial` of samples at a temperature."""
    x = positions(x, target)
    shape = getattr(target, "shape", x.shape[-1:])
    trace = flattened(x, shape)
    trace = trace if trace.ndim == 3 else trace[None]
    centre = trace.mean(axis=(0, 1), dtype=float)
    parts = [-((draw - centre) * scores_at(draw, target, shape)).mean(axis=-1) for draw in trace]
    return rms_bias(np.mean(parts, axis=0)[:, None] / temperature, Truth(np.ones(1), np.ones(1)))


def u_statistic(sums: Array, sizes: Array) -> Bias:
    """Return the mean of a kernel over all pairs of samples from different batches, as a `Bias`.

    Parameters
    ----------
    sums : array, shape (B, B)
        Sums of the kernel over all pairs of samples from batches b and c.
    sizes : array, shape (B,)
        Number of samples in each batch.

    Notes
    -----
    A kernel is a scalar product of embeddings. Its mean over pairs from different batches is therefore an unbiased
    estimate of the squared norm of the mean embedding. The error is the standard deviation of the value, and the floor
    is the standard deviation that it would have for samples without bias. Both follow from the variances of
    `uldnum.diagnostics.jackknife.squared_norm`, and include the correlation within batches. If the value is below
    sqrt(2) times the floor, the bias is not resolved and the error is set to the floor.

    Let w_b be the share of batch b in all samples, and C the covariance of the mean embedding of all samples. The
    deviation of batch b is w_b times the difference between the mean embedding of the batch and that of all samples.
    The deviations of batches b and c have the covariance ``G_bc C``, where ``G = diag(w) - w w^T``. If they are normal,
    their squared scalar product has the mean ``G_bc^2 (tr C)^2 + (G_bb G_cc + G_bc^2) tr C^2``, which gives ``tr C^2``.
    Only products of different batches are used. Those of a batch with itself are much larger in many dimensions.
    """
    shares = sizes / sizes.sum()
    g, apart = np.diag(shares) - np.outer(shares, shares), 1 - np.eye(len(sizes))
    pairs = np.trace(g)
    value = np.sum(apart * sums) / sizes.sum() ** 2 / pairs
    # Scalar products of weighted batch means with each other and with the mean, then of their deviations.
    products = sums / sizes.sum() ** 2
    with_mean = products.sum(axis=1)
    square = with_mean.sum()
    about = products - np.outer(shares, with_mean) - np.outer(with_mean, shares) + np.outer(shares, shares) * square
    projections = (with_mean - shares * square) / np.sqrt(pairs)
    of_trace = np.sum(apart * g**2) / pairs**2
    degrees = np.sum(apart * np.outer(np.diag(g), np.diag(g))) + of_trace * (pairs**2 - 2 * np.sum(g**2))
    surplus = np.sum(apart * about**2) - of_trace * np.trace(about) ** 2
    second = np.asarray(max(surplus, 0) / degrees if len(sizes) > 2 else np.nan)
    variance, without_bias = squared_norm(projections, second)
    # The trace of C is estimated from the same batches, which adds to the part without bias.
    variance, without_bias = variance + (1 / pairs - 1) * without_bias, without_bias / pairs
    floor = np.sqrt(without_bias)
    return Bias(value, floor if value < np.sqrt(2) * floor else np.sqrt(variance), floor)


def mode_weights(x: Array, target: Target | str) -> Bias:
    """Return the total variation distance between the mode weights of samples and those of the target.

    Parameters
    ----------
    x : array_like, shape (chains, d) or (draws, chains, d)
        Samples of at least two chains, such as `Run.x` or `Run.trace`.
    target : str, GaussianMixture or another Target
        Target with known modes, or its name. The modes of a mixture are its components.

    Returns
    -------
    Bias
        Scalars between 0 and 1. All parts are NaN if a position is NaN.

    Raises
    ------
    ValueError
        If ``x`` has another shape, another d than the target, or fewer than two chains, or if the target has no known
        modes.

    Notes
    -----
    The distance is ``1/2 sum_j |E[r_j(x)] - w_j|``, where w_j is the weight of mode j and r_j(x) its responsibility for
    x, that is, its fraction of the density at x. If x has the distribution of the target, the mean of r_j(x) is w_j.
    Error and floor follow from batches of chains, as in `uldnum.diagnostics.jackknife.other_norm`.

    Examples
    --------
    All samples are in the mode of weight 0.75, so the distance is 0.25:

    >>> import numpy as np
    >>> import uldnum
    >>> target = uldnum.GaussianMixture(weights=[0.75, 0.25], means=[[5.0], [-5.0]], variances=[1.0, 1.0])
    >>> round(float(uldnum.diagnostics.mode_weights(np.full((10, 1), 5.0), target).value), 6)
    0.25
    """
    found = find_target(target)
    x = positions(x, found)
    modes = modes_of(found, found.shape)
    batches = split(flattened(x, found.shape), BATCHES)
    sizes = sizes_of(batches)
    sums = np.array([modes.responsibilities(batch).sum(axis=0) for batch in batches])

    shares = sums.sum(axis=0) / sizes.sum()
    return other_norm(
        lambda gaps: np.abs(gaps).sum(axis=-1) / 2,
        shares - modes.weights,
        (sums - sizes[:, None] * shares) / sizes.sum(),
    )


def compared(
    x: Any, target: Target | str, reference: Any, seed: int, most: int, power_of_two: bool = False
) -> tuple[list[Array], list[Array], Target]:
    """Return the batches of samples, the batches of exact draws or reference samples, and the target.

    Batches with the same index have the same size. There are at most ``most`` samples and at most ``most`` draws.
    """
    known = find_target(target)
    x = positions(x, known)
    seed, known = whole_number("seed", seed, 0, 2**64 - 1), against(known, reference)
    if known.draws is None:
        raise lacking(known, "exact draws", "draws")
    number = min(BATCHES, x.shape[-len(known.shape) - 1])
    if known.reference is not None:
        number = min(number, known.reference.chains)
    if power_of_two:
        number = 2 ** int(np.log2(number))
    batches = [spread(batch, most // number) for batch in split(flattened(x, known.shape), number)]
    if known.reference is None:
        draws = known.draws(sum(map(len, batches)), seed ^ REFERENCE, 0)
        return batches, np.split(draws.reshape(len(draws), -1), np.cumsum(sizes_of(batches))[:-1].astype(int)), known
    other = known.reference.batches(number)
    pairs = [(spread(a, len(b)), spread(b, len(a))) for a, b in zip(batches, other, strict=True)]
    return [a for a, _ in pairs], [b for _, b in pairs], known


def spread(batch: Array, most: int) -> Array:
    """Return at most ``most`` evenly spaced samples of a batch."""
    return batch if len(batch) <= most else batch[np.arange(most) * len(batch) // most]


def sizes_of(batches: list[Array]) -> Array:
    """Return the number of samples in each batch."""
    return np.array([len(batch) for batch in batches], dtype=float)


def pair_sums(kernel: Callable[[Array, Array], Array], a: list[Array], b: list[Array]) -> Array:
    """Return the sums of a kernel over all pairs of samples from batches of a and b, shape (len(a), len(b))."""
    every, firsts = np.concatenate(b), np.cumsum([0, *map(len, b[:-1])])
    return np.array([np.add.reduceat(kernel(left, every).sum(axis=0), firsts) for left in a])


def own_sums(kernel: Callable[[Array, Array], Array], batches: list[Array]) -> Array:
    """Return ``pair_sums(kernel, batches, batches)`` of a symmetric kernel, at half of the cost."""
    sums = np.zeros((len(batches),) * 2)
    for i in range(len(batches)):
        sums[i, i:] = sums[i:, i] = pair_sums(kernel, batches[i : i + 1], batches[i:])[0]
    return sums

"""Distances between the marginal distributions of a run and of its target, from histograms and the exact cdf."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from uldnum._util.arguments import result_of
from uldnum._util.typing import Array
from uldnum.diagnostics.arguments import flattened, positions
from uldnum.diagnostics.expectations import against, target_of
from uldnum.diagnostics.jackknife import BATCHES, Bias, other_norm, split
from uldnum.sampling.launch import REACH
from uldnum.sampling.run import Run
from uldnum.targets import Target, find_target, lacking

__all__ = ["BINS", "kolmogorov", "wasserstein_1"]

Summary = Callable[[Array], Array]

# Number of bins over `REACH` = 8 standard deviations to either side of the mean, 32 per standard deviation.
BINS = 512


def each_axis(distances: Array) -> Array:
    """Return the distance of every axis unchanged."""
    return distances


def wasserstein_1(
    run: Run | Array, target: Target | str, summary: Summary = each_axis, *, reference: Any = None
) -> Bias:
    """Return the Wasserstein-1 distance between the marginals of a run and of its target on each axis.

    Parameters
    ----------
    run : Run, or array of shape (chains, *shape) or (draws, chains, *shape)
        Run with histograms (``bins``), or positions of independent chains, which are counted in 512 bins.
    target : str, GaussianMixture, UserTarget or another Target
        Target, or its name. Without a reference, its cdf must be known and, if ``run`` is an array, its standard
        deviation.
    summary : callable, optional
        Linear function of the array of d distances, such as ``numpy.mean``. The error of the result includes the
        correlation between axes. By default the distances are returned.
    reference : array, Run, str, Path, callable or Reference, optional
        Samples whose distribution replaces that of the target, as in `Reference.of`. They are counted in the same bins,
        and their noise enters error and floor.

    Returns
    -------
    Bias
        In units of x; arrays of shape (d,), or of the shape that ``summary`` returns, with a leading axis H for several
        step sizes. All parts are NaN where a chain diverged. Error and floor are NaN for a single chain.

    Raises
    ------
    ValueError
        If the cdf of the target is unknown and there is no reference, if shapes differ, or if the run has no
        histograms.

    Notes
    -----
    The distance is ``int |F_run(x) - F(x)| dx``, by the trapezoidal rule on the edges of the bins. The tails beyond the
    bins are not included. Error and floor follow from batches of chains, as in
    `uldnum.diagnostics.jackknife.other_norm`.

    Examples
    --------
    On a Gaussian target with standard deviation 1, the Wasserstein-1 distance of N(0, V) is |sqrt(V) - 1| sqrt(2/pi),
    which is 0.123 for ULA with delta = 0.5:

    >>> import uldnum
    >>> normal = uldnum.GaussianMixture(weights=[1.0], means=[[0.0]], variances=[1.0])
    >>> options = dict(burn_in=20, chains=2000, bins=256, backend="array")
    >>> run = uldnum.sample(normal, "ula", delta=0.5, steps=200, **options)
    >>> distance = uldnum.diagnostics.wasserstein_1(run, normal)
    >>> bool(abs(distance.value[0] - 0.123) < 4 * distance.error[0])
    True
    """

    def distance(gap: Array, edges: Array) -> Array:
        middle = (np.abs(gap[..., 1:]) + np.abs(gap[..., :-1])) / 2
        return np.asarray((middle * np.diff(edges, axis=-1)).sum(axis=-1))

    return marginal_distance(distance, summary, run, target, reference)


def kolmogorov(run: Run | Array, target: Target | str, summary: Summary = each_axis, *, reference: Any = None) -> Bias:
    """Return the Kolmogorov distance between the marginals of a run and of its target on each axis.

    Parameters
    ----------
    run : Run, or array of shape (chains, *shape) or (draws, chains, *shape)
        Run with histograms (``bins``), or positions of independent chains, which are counted in 512 bins.
    target : str, GaussianMixture, UserTarget or another Target
        Target, or its name. Without a reference, its cdf must be known and, if ``run`` is an array, its standard
        deviation.
    summary : callable, optional
        Linear function of the array of d distances, such as ``numpy.mean``. The error of the result includes the
        correlation between axes. By default the distances are returned.
    reference : array, Run, str, Path, callable or Reference, optional
        Samples whose distribution replaces that of the target, as in `Reference.of`. They are counted in the same bins,
        and their noise enters error and floor.

    Returns
    -------
    Bias
        Between 0 and 1; arrays of shape (d,), or of the shape that ``summary`` returns, with a leading axis H for
        several step sizes. All parts are NaN where a chain diverged. Error and floor are NaN for a single chain.

    Raises
    ------
    ValueError
        If the cdf of the target is unknown and there is no reference, if shapes differ, or if the run has no
        histograms.

    Notes
    -----
    The distance is ``max |F_run(x) - F(x)|`` over the edges of the bins. It is smaller than the supremum over all x by
    at most the largest probability of a bin under the target. Error and floor follow from batches of chains, as in
    `uldnum.diagnostics.jackknife.other_norm`.

    Noise raises the maximum, most of all if the difference has several nearly equal maxima, as for two Gaussians of
    different variance. The error is therefore the root mean square deviation from the true distance instead of the
    standard deviation of the value. It is too large by up to 40% if there is a single maximum. If the value is below
    two floors, the error is at least the floor.
    """

    def distance(gap: Array, edges: Array) -> Array:
        return np.asarray(np.abs(gap).max(axis=-1))

    return marginal_distance(distance, summary, run, target, reference, with_excess=True)


def marginal_distance(
    distance: Callable[[Array, Array], Array], summary: Summary, run: Run | Array, target: Target | str, reference: Any,
    with_excess: bool = False,
) -> Bias:  # fmt: skip
    """Return a norm of ``F_run - F`` on the edges of the bins as a `Bias`, for every step size."""
    if isinstance(run, Run):
        known, x = target_of(run, target, reference), np.empty(0)
    else:
        known = find_target(target)
        x, known = positions(run, known, "run"), against(known, reference)
    result_of("summary", summary, np.zeros(math.prod(known.shape)))
    if known.cdf is None:
        raise lacking(known, "its cdf", "cdf")
    if isinstance(run, Run):
        groups, edges = run.histogram if run.settings.grouped else run.histogram[None], run.edges
        lost = np.atleast_1d(run.diverged) > 0
    else:
        edges = edges_of(known)
        groups = counted(split(flattened(x, known.shape), BATCHES), edges)[None]
        lost = np.array([not np.isfinite(x).all()])
    if known.reference is None:
        exact: Array | Cumulative = known.cdf(edges.T).T
    else:
        batches = min(groups.shape[1], known.reference.chains)
        exact = cumulative(counted(known.reference.batches(batches), edges))
    of = partial(other_norm, lambda gap: distance(gap, edges), summary=summary, with_excess=with_excess)
    each = [of(*group_gaps(counts, exact)) for counts in groups]

    def masked(part: list[Array]) -> Array:
        stacked = np.stack(part).astype(float)
        stacked[lost] = np.nan
        return run.each(stacked) if isinstance(run, Run) else stacked[0]

    value, error, floor = (masked(list(part)) for part in zip(*each, strict=True))
    return Bias(value, error, floor)


def edges_of(target: Target) -> Array:
    """Return the edges of 512 bins for each axis of a target, shape (d, bins + 1)."""
    centre, scale = np.ravel(target.mean), np.ravel(target.standard_deviation)
    if not np.all(np.isfinite(scale)):
        raise lacking(target, "its standard deviation", "standard_deviation")
    return np.linspace(centre - REACH * scale, centre + REACH * scale, BINS + 1, axis=-1)


def counted(batches: list[Array], edges: Array) -> Array:
    """Return histograms of batches of positions, (n, d) each, in equal bins, shape (batches, d, bins + 2)."""
    d, bins = len(edges), edges.shape[1] - 1
    low, per_unit = edges[:, 0], bins / (edges[:, -1] - edges[:, 0])
    first = np.arange(d) * (bins + 2)

    def counts(x: Array) -> Array:
        place = np.nan_to_num(np.floor((x - low) * per_unit), nan=-1.0)
        index = first + 1 + np.clip(place, -1, bins).astype(int)
        return np.bincount(index.ravel(), minlength=d * (bins + 2)).reshape(d, bins + 2)

    return np.array([counts(x) for x in batches])


class Cumulative(NamedTuple):
    """Cumulative distribution functions at the edges of the bins, and the contributions of batches to their noise."""

    cdf: Array
    noise: Array


def cumulative(counts: Array) -> Cumulative:
    """Return the distribution functions of counts of shape (batches, d, bins + 2)."""
    below = counts.cumsum(axis=-1)[..., :-1].astype(float)
    totals = counts.sum(axis=-1, keepdims=True).astype(float)
    cdf = below.sum(axis=0) / totals.sum(axis=0)
    return Cumulative(cdf, (below - totals * cdf) / totals.sum(axis=0))


def group_gaps(counts: Array, exact: Array | Cumulative) -> tuple[Array, Array]:
    """Return ``F_run - F`` of one group of chains, and the contributions of batches to its noise.

    ``counts`` are the histograms of the batches of chains, shape (batches, d, bins + 2). If there is a reference, they
    are merged into as many batches as the reference has, and are paired with those.
    """
    if not isinstance(exact, Cumulative):
        found = cumulative(counts)
        return found.cdf - exact, found.noise
    firsts = np.arange(len(exact.noise)) * len(counts) // len(exact.noise)
    found = cumulative(np.add.reduceat(counts, firsts, axis=0))
    return found.cdf - exact.cdf, found.noise - exact.noise

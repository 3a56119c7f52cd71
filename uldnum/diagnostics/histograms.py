"""Distances between the marginal distributions of a run and of its target, from histograms and the exact cdf."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from uldnum._util.arguments import reals, result_of
from uldnum._util.typing import Array
from uldnum.diagnostics.arguments import matching
from uldnum.diagnostics.jackknife import BATCHES, Bias, other_norm, split
from uldnum.sampling.launch import REACH
from uldnum.sampling.run import Run
from uldnum.targets import Target, lacking

__all__ = ["BINS", "kolmogorov", "wasserstein_1"]

Summary = Callable[[Array], Array]

# Number of bins over `REACH` = 8 standard deviations to either side of the mean, 32 per standard deviation.
BINS = 512


def each_axis(distances: Array) -> Array:
    """Return the distance of every axis unchanged."""
    return distances


def wasserstein_1(run: Run | Array, target: Target | str, summary: Summary = each_axis) -> Bias:
    """Return the Wasserstein-1 distance between the marginals of a run and of its target on each axis.

    Parameters
    ----------
    run : Run, or array of shape (chains, d)
        Run with histograms (``bins``), or positions of independent chains at one time, from which 512 bins are filled.
    target : str, GaussianMixture, UserTarget or another Target
        Target with a known cdf, or its name. If ``run`` is an array, its standard deviation must also be known.
    summary : callable, optional
        Linear function of the array of d distances, such as ``numpy.mean``. The error of the result includes the
        correlation between axes. By default the distances are returned.

    Returns
    -------
    Bias
        In units of x; arrays of shape (d,), or of the shape that ``summary`` returns, with a leading axis H for several
        step sizes. All parts are NaN where a chain diverged. Error and floor are NaN for a single chain.

    Raises
    ------
    ValueError
        If the cdf of the target is unknown, if its samples have another shape, or if the run has no histograms.

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

    return marginal_distance(distance, summary, run, target)


def kolmogorov(run: Run | Array, target: Target | str, summary: Summary = each_axis) -> Bias:
    """Return the Kolmogorov distance between the marginals of a run and of its target on each axis.

    Parameters
    ----------
    run : Run, or array of shape (chains, d)
        Run with histograms (``bins``), or positions of independent chains at one time, from which 512 bins are filled.
    target : str, GaussianMixture, UserTarget or another Target
        Target with a known cdf, or its name. If ``run`` is an array, its standard deviation must also be known.
    summary : callable, optional
        Linear function of the array of d distances, such as ``numpy.mean``. The error of the result includes the
        correlation between axes. By default the distances are returned.

    Returns
    -------
    Bias
        Between 0 and 1; arrays of shape (d,), or of the shape that ``summary`` returns, with a leading axis H for
        several step sizes. All parts are NaN where a chain diverged. Error and floor are NaN for a single chain.

    Raises
    ------
    ValueError
        If the cdf of the target is unknown, if its samples have another shape, or if the run has no histograms.

    Notes
    -----
    The distance is ``max |F_run(x) - F(x)|`` over the edges of the bins. It is smaller than the supremum over all x by
    at most the largest probability of a bin under the target. Error and floor follow from batches of chains, as in
    `uldnum.diagnostics.jackknife.other_norm`.
    """
    return marginal_distance(lambda gap, edges: np.abs(gap).max(axis=-1), summary, run, target)


def marginal_distance(
    distance: Callable[[Array, Array], Array], summary: Summary, run: Run | Array, target: Target | str
) -> Bias:
    """Return a norm of ``F_run - F`` on the edges of the bins as a `Bias`, for every step size."""
    if not isinstance(run, Run):
        run = reals("run", run)
        if run.ndim != 2 or not run.size:
            raise ValueError(f"run: must be a Run or an array of shape (chains, d), got shape {run.shape}")
    target = matching(target, run.settings.shape if isinstance(run, Run) else run.shape[1:])
    summary = partial(result_of, "summary", summary)
    if target.cdf is None:
        raise lacking(target, "its cdf", "cdf")
    if not isinstance(run, Run):
        if not np.all(np.isfinite(target.standard_deviation)):
            raise lacking(target, "its standard deviation", "standard_deviation")
        counts, edges = counted(run, target)
        found = group_distance(lambda gap: distance(gap, edges), summary, counts, target.cdf(edges.T).T)
        return found if np.isfinite(run).all() else Bias(*(np.full_like(part, np.nan, dtype=float) for part in found))
    groups = run.histogram if run.settings.grouped else run.histogram[None]
    edges, diverged = run.edges, np.atleast_1d(run.diverged) > 0
    exact = target.cdf(edges.T).T
    each = [group_distance(lambda gap: distance(gap, edges), summary, counts, exact) for counts in groups]

    def masked(part: list[Array]) -> Array:
        stacked = np.stack(part).astype(float)
        stacked[diverged] = np.nan
        return run.each(stacked)

    value, error, floor = (masked(list(part)) for part in zip(*each, strict=True))
    return Bias(value, error, floor)


def counted(x: Array, target: Target) -> tuple[Array, Array]:
    """Return histograms of positions, shape (batches, d, bins + 2), and the edges of the bins, shape (d, bins + 1)."""
    centre, reach = np.asarray(target.mean), REACH * np.asarray(target.standard_deviation)
    edges = np.linspace(centre - reach, centre + reach, BINS + 1, axis=-1)
    every = np.concatenate([np.full((len(edges), 1), -np.inf), edges, np.full((len(edges), 1), np.inf)], axis=1)
    batches = split(x, BATCHES)
    counts = [[np.histogram(one, bins)[0] for one, bins in zip(batch.T, every, strict=True)] for batch in batches]
    return np.array(counts), edges


def group_distance(distance: Summary, summary: Summary, counts: Array, exact: Array) -> Bias:
    """Return the distance of one group of chains from its counts, shape (batches, d, bins + 2)."""
    cumulative = counts.cumsum(axis=-1)[..., :-1].astype(float)
    totals = counts.sum(axis=-1, keepdims=True).astype(float)
    cdf = cumulative.sum(axis=0) / totals.sum(axis=0)
    return other_norm(distance, cdf - exact, (cumulative - totals * cdf) / totals.sum(axis=0), summary)

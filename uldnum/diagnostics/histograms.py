"""Distances of the marginals of a run to those of its target, from histograms and the exact cdf."""

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

# Bins of histograms over `REACH` standard deviations to either side: 32 in each.
BINS = 512


def each_axis(distances: Array) -> Array:
    """Keep the distance of every axis."""
    return distances


def wasserstein_1(run: Run | Array, target: Target | str, summary: Summary = each_axis) -> Bias:
    """Wasserstein-1 distance of each axis, ``int |F_run(x) - F(x)| dx``, by the trapezoidal rule on the bins' edges.

    Parameters
    ----------
    run : Run, or array of shape (chains, d)
        With histograms (``bins``), or positions of independent chains at one time, for which they are made. What the
        tails beyond them would add is left out.
    target : str, GaussianMixture, UserTarget or another Target
        With a cdf.
    summary : callable, optional
        Number to make of the d distances, linear in them, such as their mean; its error takes account of the axes'
        correlation.

    Returns
    -------
    Bias
        Arrays of shape (d,), or of the summary, in units of x, behind h's axis if there is one; NaN where chains
        diverged. Error and floor as in `Bias`, from batches of chains; with one chain both are NaN. The formulas are
        those of `uldnum.diagnostics.jackknife.other_norm`.
    """

    def distance(gap: Array, edges: Array) -> Array:
        middle = (np.abs(gap[..., 1:]) + np.abs(gap[..., :-1])) / 2
        return np.asarray((middle * np.diff(edges, axis=-1)).sum(axis=-1))

    return marginal_distance(distance, summary, run, target)


def kolmogorov(run: Run | Array, target: Target | str, summary: Summary = each_axis) -> Bias:
    """Kolmogorov distance of each axis, ``max |F_run(x) - F(x)|`` over the bins' edges.

    It is short of the supremum over all x by no more than the probability of a bin under the target.

    Parameters
    ----------
    run : Run, or array of shape (chains, d)
        With histograms (``bins``), or positions of independent chains at one time, for which they are made.
    target : str, GaussianMixture, UserTarget or another Target
        With a cdf; where histograms are made, with a standard deviation, too.
    summary : callable, optional
        Number to make of the d distances, linear in them, such as their mean; its error takes account of the axes'
        correlation.

    Returns
    -------
    Bias
        Arrays of shape (d,), or of the summary, between 0 and 1, behind h's axis if there is one; NaN where chains
        diverged. Error and floor as in `Bias`, from batches of chains; with one chain both are NaN. The formulas are
        those of `uldnum.diagnostics.jackknife.other_norm`.

    Raises
    ------
    ValueError
        If the target does not know its cdf, its samples have another shape, or the run kept no histograms.
    """
    return marginal_distance(lambda gap, edges: np.abs(gap).max(axis=-1), summary, run, target)


def marginal_distance(
    distance: Callable[[Array, Array], Array], summary: Summary, run: Run | Array, target: Target | str
) -> Bias:
    """Return a norm of ``F_run - F`` on the edges, its error and its floor, for every step size."""
    if not isinstance(run, Run):
        run = reals("run", run)
        if run.ndim != 2 or not run.size:
            raise ValueError(f"run: must be a Run, or positions of shape (chains, d), got shape {run.shape}")
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
    """Return histograms of positions, shape (batches, d, bins + 2), and the edges of their bins, (d, bins + 1)."""
    centre, reach = np.asarray(target.mean), REACH * np.asarray(target.standard_deviation)
    edges = np.linspace(centre - reach, centre + reach, BINS + 1, axis=-1)
    every = np.concatenate([np.full((len(edges), 1), -np.inf), edges, np.full((len(edges), 1), np.inf)], axis=1)
    batches = split(x, BATCHES)
    counts = [[np.histogram(one, bins)[0] for one, bins in zip(batch.T, every, strict=True)] for batch in batches]
    return np.array(counts), edges


def group_distance(distance: Summary, summary: Summary, counts: Array, exact: Array) -> Bias:
    """Return the distance of one group, from its counts, shape (batches, d, bins + 2)."""
    cumulative = counts.cumsum(axis=-1)[..., :-1].astype(float)
    totals = counts.sum(axis=-1, keepdims=True).astype(float)
    cdf = cumulative.sum(axis=0) / totals.sum(axis=0)
    return other_norm(distance, cdf - exact, (cumulative - totals * cdf) / totals.sum(axis=0), summary)

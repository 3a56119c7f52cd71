"""Distances of the marginals of a run to those of its target, from histograms and the exact cdf."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from uldnum.diagnostics.jackknife import Bias, jackknife
from uldnum.targets import VectorTarget
from uldnum.typing import Array

__all__ = ["kolmogorov", "marginal_distance", "wasserstein_1"]


def each_axis(distances: Array) -> Array:
    """Keep the distance of every axis."""
    return distances


def wasserstein_1(
    counts: Array, edges: Array, target: VectorTarget, summary: Callable[[Array], Array] = each_axis
) -> Bias:
    """Wasserstein-1 distance of each axis, ``int |F_run(x) - F(x)| dx``, by the trapezoidal rule on the bins' edges.

    Parameters
    ----------
    counts : int array, shape (batches, d, bins + 2)
        `Run.histogram`.
    edges : array, shape (d, bins + 1)
        `Run.edges`. What the tails beyond them would add is left out.
    target : GaussianMixture or UserTarget
        With a cdf.
    summary : callable, optional
        Number to make of the d distances, such as their mean; its error takes account of the axes' correlation.

    Returns
    -------
    Bias
        Arrays of shape (d,), or of the summary, in units of x. The floor is that of a run with the same autocorrelation
        and no bias: half the difference of two halves of the batches, whose noise is that of their mean.
    """

    def distance(gap: Array) -> Array:
        middle = (np.abs(gap[:, 1:]) + np.abs(gap[:, :-1])) / 2
        return (middle * np.diff(edges, axis=1)).sum(axis=1)

    return marginal_distance(lambda gap: summary(distance(gap)), counts, edges, target)


def kolmogorov(
    counts: Array, edges: Array, target: VectorTarget, summary: Callable[[Array], Array] = each_axis
) -> Bias:
    """Kolmogorov distance of each axis, ``max |F_run(x) - F(x)|`` over the bins' edges; as `wasserstein_1`."""
    return marginal_distance(lambda gap: summary(np.abs(gap).max(axis=1)), counts, edges, target)


def marginal_distance(distance: Callable[[Array], Array], counts: Array, edges: Array, target: VectorTarget) -> Bias:
    """Return a norm of ``F_run - F`` on the edges, its jackknife error, and its floor."""
    if target.cdf is None:
        raise ValueError(f"target: {target.name!r} does not know its cdf; give UserTarget its cdf function")
    exact = np.stack([target.cdf(edges[i])[:, i] for i in range(len(edges))])
    cumulative = counts.cumsum(axis=-1)[..., :-1].astype(float)
    totals = counts.sum(axis=-1).astype(float)

    def cdf(weights: Array) -> Array:
        return np.tensordot(weights, cumulative, 1) / np.tensordot(weights, totals, 1)[:, None]

    batches = len(counts)
    value, error = jackknife(lambda weights: distance(cdf(weights) - exact), batches)
    alternate = np.arange(batches) % 2
    floor = distance((cdf(alternate) - cdf(1 - alternate)) / 2) if batches > 1 else np.full_like(value, np.nan)
    return Bias(value, error, floor)

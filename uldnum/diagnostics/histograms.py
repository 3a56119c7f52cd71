"""Distances and divergences between the marginals of a run and of its target, from histograms and the exact cdf.

Those of joint distributions of two coordinates, or of x and p, are computed from positions and the density.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from uldnum._util.arguments import flag, result_of
from uldnum._util.typing import Array
from uldnum.diagnostics.arguments import flattened, matching, positions, stored_positions
from uldnum.diagnostics.bias import collected
from uldnum.diagnostics.expectations import against, at_temperature, target_of
from uldnum.diagnostics.jackknife import BATCHES, Bias, other_norm, split, squared_norm, squared_trace
from uldnum.diagnostics.planes import Cells, Plane, plane_of_density, plane_of_state, shares
from uldnum.sampling.launch import REACH
from uldnum.sampling.run import Run
from uldnum.targets import Target, find_target, lacking
from uldnum.targets.mass import Mass

__all__ = ["BINS", "kl", "kolmogorov", "total_variation", "wasserstein_1"]

Summary = Callable[[Array], Array]

# Number of bins over `REACH` = 8 standard deviations to either side of the mean, 32 per standard deviation.
BINS = 512

# Largest number of cells of bins between the ends of the histogram, for distances between densities, and least expected
# number of independent positions and least probability of a cell for divergences.
CELLS, OCCUPIED, LEAST = 128, 10, 1e-12


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

    Examples
    --------
    The largest distance between N(0, 1) and N(0.5, 1) is 0.197:

    >>> import numpy as np
    >>> import uldnum
    >>> x = np.random.default_rng(0).normal(0.5, 1.0, size=(10_000, 1))
    >>> distance = uldnum.diagnostics.kolmogorov(x, "gaussian")
    >>> bool(abs(distance.value[0] - 0.197) < 4 * distance.error[0])
    True
    """

    def distance(gap: Array, edges: Array) -> Array:
        return np.asarray(np.abs(gap).max(axis=-1))

    return marginal_distance(distance, summary, run, target, reference, with_excess=True)


def total_variation(
    run: Run | Array, target: Target | str, summary: Summary = each_axis, *, reference: Any = None, joint: bool = False
) -> Bias:
    """Return the total variation distance between the marginals of a run and of its target on each axis.

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
    joint : bool, default False
        Whether to compare the joint distribution of the two coordinates of x instead of the marginals, or that of x and
        p on a one-dimensional target; see `kl`.

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
    The distance is ``1/2 sum_k |P_k - Q_k|``, where P_k and Q_k are the probabilities of cell k for the run and the
    target. The cells are at most 128 groups of adjacent bins, and the two tails. It is at most the distance of the
    densities, which it approaches as the cells become narrow. Error and floor are those of
    `uldnum.diagnostics.jackknife.other_norm`. The floor grows as the square root of the number of cells.

    Examples
    --------
    On N(0, 1), the distance of ULA with delta = 0.5, N(0, 4/3), is 0.069:

    >>> import uldnum
    >>> options = dict(burn_in=20, chains=2000, bins=256, backend="array")
    >>> run = uldnum.sample("gaussian", "ula", delta=0.5, steps=200, **options)
    >>> distance = uldnum.diagnostics.total_variation(run, "gaussian")
    >>> bool(abs(distance.value[0] - 0.0695) < 4 * distance.error[0])
    True
    """

    def distance(gap: Array, edges: Array) -> Array:
        cells = gap[..., cell_edges(edges.shape[-1] - 1)]
        return np.asarray(np.abs(probabilities(cells, 0.0)).sum(axis=-1) / 2)

    if flag("joint", joint):
        return over_cells(lambda found: other_norm(absolute, found.P - found.Q, found.noise), run, target, reference)
    return marginal_distance(distance, summary, run, target, reference)


def kl(run: Run | Array, target: Target | str, *, reference: Any = None, joint: bool = False) -> Bias:
    """Return the mean over axes of the Kullback-Leibler divergence of the marginals of a run from those of its target.

    With ``joint``, return the divergence of a joint distribution in two dimensions.

    Parameters
    ----------
    run : Run, or array of shape (chains, *shape) or (draws, chains, *shape)
        Run with histograms (``bins``), or positions of independent chains, which are counted in 512 bins.
    target : str, GaussianMixture, UserTarget or another Target
        Target, or its name. Without a reference, its cdf must be known and, if ``run`` is an array, its standard
        deviation.
    reference : array, Run, str, Path, callable or Reference, optional
        Samples whose distribution replaces that of the target, as in `Reference.of`. They are counted in the same bins,
        and their noise enters value, error and floor.
    joint : bool, default False
        Whether to compare the joint distribution of the two coordinates of x, or that of x and p on a one-dimensional
        target, which then needs a run. In two dimensions, the log density of the target must be known. The stored
        positions of a run are used, and the final x and p.

    Returns
    -------
    Bias
        In nats; scalars, or arrays of shape (H,) for several step sizes. The value may be negative. All parts are NaN
        where a chain diverged, and for a single chain. Error and floor are NaN for fewer than three chains.

    Raises
    ------
    ValueError
        If the cdf of the target is unknown and there is no reference, if shapes differ, or if the run has no
        histograms. With ``joint``, if there is a reference, or if samples have more than two coordinates.

    Notes
    -----
    Let P_k and Q_k be the probabilities of cell k for the run and the target. The estimate of
    ``sum_k P_k log(P_k/Q_k)`` from a histogram is too large, by (cells - 1)/(2N) for N independent positions (Miller
    1955). Positions of a chain are not independent. The covariance C of the P_k is therefore estimated from batches of
    chains, and the bias ``1/2 sum_k C_kk/P_k`` is subtracted. The value is then 0 on average for an unbiased run. A
    reference contributes ``1/2 sum_k P_k D_kk/Q_k^2``, where D is the covariance of the Q_k.

    Near zero, the divergence is half a squared norm with the components ``(P_k - Q_k)/sqrt(P_k)``. Error and floor are
    those of `uldnum.diagnostics.jackknife.squared_norm`. The floor is the standard deviation of the value for an
    unbiased run. They contain the error of the subtracted bias.

    The cells are at most 128 groups of adjacent bins. Groups in which the target has a probability below ``10/N_e``
    are merged with their neighbours, where ``N_e = sum_k P_k (1 - P_k)/sum_k C_kk`` is an effective number of
    independent positions. The correction is not valid for fewer positions in a cell. The divergence between the
    probabilities of cells is at most that of the densities. For N(0, 4/3) and the target N(0, 1), it is smaller by 9%
    for N_e = 1e3, 2% for 1e4 and 0.6% for 1e5.

    For joint distributions, the cells are rectangles, a few hundred for 1e5 independent positions. They have a
    probability of at most 1/128 under the target and are at most half a standard deviation long, except where the
    target expects fewer than 10 independent positions in a part of a cell. Their probabilities are integrals of the
    density of the target, or products of those of x and of normal momenta with the variance T times the mass. For two
    coordinates with the distribution N(0, 4/3) and the target N(0, 1), the divergence between the cells is smaller by
    15% for N_e = 1e4, 4% for 1e5 and 2% for 1e6.

    References
    ----------
    G. A. Miller 1955, Note on the bias of information estimates, in Information Theory in Psychology, Free Press.

    Examples
    --------
    On N(0, 1), the divergence of ULA with delta = 0.5, N(0, 4/3), is 0.0228:

    >>> import uldnum
    >>> options = dict(burn_in=20, chains=2000, bins=256, backend="array")
    >>> run = uldnum.sample("gaussian", "ula", delta=0.5, steps=200, **options)
    >>> divergence = uldnum.diagnostics.kl(run, "gaussian")
    >>> bool(abs(divergence.value - 0.0228) < 4 * divergence.error + 0.05 * 0.0228)
    True
    """

    def divergence(counts: Array, exact: Array | Cumulative, edges: Array) -> Bias:
        found, known = paired(counts, exact)
        batches, d = found.noise.shape[:2]
        if batches < 2:
            return Bias(*np.full(3, np.nan))
        noise = unbiased(probabilities(found.noise, 0.0))
        P = probabilities(found.cdf, 1.0)
        independent = max((P * (1 - P)).sum(), LEAST)  # it is 0 if all positions are in one cell
        least = max(OCCUPIED * np.square(noise).sum() / independent, LEAST)
        cells = cell_edges(edges.shape[-1] - 1)
        axes = [relative(found.axis(i), known.axis(i), cells, least) for i in range(d)]
        return divergence_of(*(sum(part) / d for part in zip(*axes, strict=True)))

    if flag("joint", joint):
        return over_cells(joint_divergence, run, target, reference)
    return over_groups(divergence, run, target, reference)


def marginal_distance(
    distance: Callable[[Array, Array], Array], summary: Summary, run: Run | Array, target: Target | str, reference: Any,
    with_excess: bool = False,
) -> Bias:  # fmt: skip
    """Return a norm of ``F_run - F`` on the edges of the bins as a `Bias`, for every step size."""

    def norm(counts: Array, exact: Array | Cumulative, edges: Array) -> Bias:
        result_of("summary", summary, np.zeros(counts.shape[1]))
        of = partial(other_norm, lambda gap: distance(gap, edges), summary=summary, with_excess=with_excess)
        return of(*group_gaps(counts, exact))

    return over_groups(norm, run, target, reference)


def over_groups(
    measure: Callable[[Array, Array | Cumulative, Array], Bias], run: Run | Array, target: Target | str, reference: Any
) -> Bias:
    """Return a measure of the histograms of each step size, given the distribution of the target, as a `Bias`.

    The arguments of ``measure`` are counts of shape (batches, d, bins + 2), the cdf of the target or of a reference at
    the edges of the bins, and the edges.
    """
    if isinstance(run, Run):
        known, x = target_of(run, target, reference), np.empty(0)
    else:
        known = find_target(target)
        x, known = positions(run, known, "run"), against(known, reference)
    cdf = distribution(known)
    if isinstance(run, Run):
        groups, edges = run.histogram if run.settings.grouped else run.histogram[None], run.edges
        lost = np.atleast_1d(run.diverged) > 0
    else:
        edges = edges_of(known)
        groups = counted(split(flattened(x, known.shape), BATCHES), edges)[None]
        lost = np.array([not np.isfinite(x).all()])
    if known.reference is None:
        exact: Array | Cumulative = cdf(edges.T).T
    else:
        batches = min(groups.shape[1], known.reference.chains)
        exact = cumulative(counted(known.reference.batches(batches), edges))
    return collected([measure(counts, exact, edges) for counts in groups], run, lost)


def over_cells(measure: Callable[[Cells], Bias], run: Run | Array, target: Target | str, reference: Any) -> Bias:
    """Return a measure of the samples of each step size in the cells of a plane as a `Bias`."""
    if reference is not None:
        raise ValueError("reference: must be None with joint, because the cells are those of the density of the target")
    given = find_target(target)
    if not isinstance(run, Run):
        x = positions(run, given, "run")
        plane, groups, lost = plane_of(given, given, None), x[None], np.array([not np.isfinite(x).all()])
    else:
        known = at_temperature(matching(given, run.settings.shape), run.settings.temperature)
        plane, lost = plane_of(known, given, run), np.atleast_1d(run.diverged) > 0
        x = run.state.phase_space[:, :, :2, 0] if known.shape == (1,) else stored_positions(run)
        groups = x if run.settings.grouped or known.shape == (1,) else x[None]
    return collected([measure(shares(group.astype(float), plane)) for group in groups], run, lost)


def plane_of(known: Target, given: Target, run: Run | None) -> Plane:
    """Return the plane of two coordinates, or of x and p of a run on a one-dimensional target, or raise.

    ``known`` is the target at the temperature of the samples, and ``given`` provides the density at temperature 1.
    """
    edges, temperature = edges_of(known)[:, ::2], known.temperature_of_expectations
    if known.shape == (2,):
        if given.log_density is None:
            raise lacking(given, "its density", "log_density")
        log_density = given.log_density
        return plane_of_density(lambda points: log_density(points) / temperature, edges)
    if known.shape != (1,):
        raise ValueError(f"joint: must be False for samples of shape {known.shape}; joint histograms have two axes")
    if run is None or not run.settings.momenta:
        raise ValueError("run: must be a Run of an integrator with momenta, for the joint distribution of x and p")
    mass = Mass.of(run.settings.mass, known.shape)
    unit = 1.0 if mass is None else float(mass.momenta(np.ones(1))[0])
    return plane_of_state(distribution(known)(edges.T)[:, 0], edges[0], np.sqrt(temperature) * unit)


def distribution(known: Target) -> Callable[[Any], Array]:
    """Return the cdf of a target, or raise."""
    if known.cdf is None:
        raise lacking(known, "its cdf", "cdf")
    return known.cdf


def absolute(gap: Array) -> Array:
    """Return half the sum of the absolute values along the last axis."""
    return np.asarray(np.abs(gap).sum(axis=-1) / 2)


def joint_divergence(found: Cells) -> Bias:
    """Return the divergence of the fractions in cells, without its bias."""
    if len(found.noise) < 2:
        return Bias(*np.full(3, np.nan))
    return divergence_of(*relative_of(found.P, found.Q, unbiased(found.noise), np.zeros_like(found.noise)))


def unbiased(noise: Array) -> Array:
    """Return contributions of B batches, scaled so that the sum of their squares estimates a variance without bias."""
    return np.sqrt(len(noise) / (len(noise) - 1)) * noise


def divergence_of(value: Any, products: Array, projections: Array) -> Bias:
    """Return a divergence as a `Bias`, given what `relative_of` returns."""
    batches = len(products)
    second = squared_trace(products, batches)
    variance, floor = squared_norm(projections, second)
    own = 2 * second / (batches - 1)  # variance of the trace that is subtracted
    return Bias(value, np.sqrt(variance + own) / 2, np.sqrt(floor + own) / 2)


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

    def axis(self, i: int) -> Cumulative:
        """Return the distribution function of one axis, shapes (bins + 1,) and (batches, bins + 1)."""
        return Cumulative(self.cdf[i], self.noise[:, i])


def cumulative(counts: Array) -> Cumulative:
    """Return the distribution functions of counts of shape (batches, d, bins + 2)."""
    below = counts.cumsum(axis=-1)[..., :-1].astype(float)
    totals = counts.sum(axis=-1, keepdims=True).astype(float)
    cdf = below.sum(axis=0) / totals.sum(axis=0)
    return Cumulative(cdf, (below - totals * cdf) / totals.sum(axis=0))


def paired(counts: Array, exact: Array | Cumulative) -> tuple[Cumulative, Cumulative]:
    """Return the distribution functions of one group of chains and of the target, with noise of as many batches.

    ``counts`` are the histograms of the batches of chains, shape (batches, d, bins + 2). If there is a reference, they
    are merged into as many batches as the reference has, and are paired with those.
    """
    if not isinstance(exact, Cumulative):
        found = cumulative(counts)
        return found, Cumulative(exact, np.zeros_like(found.noise))
    firsts = np.arange(len(exact.noise)) * len(counts) // len(exact.noise)
    return cumulative(np.add.reduceat(counts, firsts, axis=0)), exact


def group_gaps(counts: Array, exact: Array | Cumulative) -> tuple[Array, Array]:
    """Return ``F_run - F`` of one group of chains, and the contributions of batches to its noise, as in `paired`."""
    found, known = paired(counts, exact)
    return found.cdf - known.cdf, found.noise - known.noise


def cell_edges(bins: int) -> Array:
    """Return the indices of the edges of bins that are edges of at most `CELLS` cells, from the first to the last."""
    return np.unique(np.append(np.arange(0, bins, -(-bins // CELLS)), bins))


def probabilities(cdf: Array, total: float) -> Array:
    """Return the probabilities below, between and above edges, (..., n) -> (..., n + 1), given the cdf at the edges.

    ``total`` is 1 for a cdf and 0 for a difference of two.
    """
    ends = np.zeros((*cdf.shape[:-1], 1))
    return np.diff(np.concatenate([ends, cdf, ends + total], axis=-1), axis=-1)


def relative(found: Cumulative, known: Cumulative, edges: Array, least: float) -> tuple[Any, Array, Array]:
    """Return the divergence of one axis, and the products and projections of its deviations.

    Parameters
    ----------
    found, known : Cumulative
        Distribution functions of the run and of the target.
    edges : array of int
        Indices of the edges of cells.
    least : float
        Smallest probability of a cell under the target. Cells of a smaller probability are merged.

    Returns
    -------
    value : float
        ``sum_k P_k log(P_k/Q_k)``, without its bias.
    products : array, shape (B, B)
        Scalar products of the deviations ``(dP_k - P_k dQ_k/Q_k)/sqrt(P_k)`` of batches.
    projections : array, shape (B,)
        Deviations of the divergence, to first order.
    """
    kept, last = [], 0.0
    for edge in edges:
        if known.cdf[edge] - last >= least and 1 - known.cdf[edge] >= least:
            kept.append(edge)
            last = known.cdf[edge]
    P, Q = (probabilities(part.cdf[kept], 1.0) for part in (found, known))
    dP, dQ = (unbiased(probabilities(part.noise[:, kept], 0.0)) for part in (found, known))
    return relative_of(P, Q, dP, dQ)


def relative_of(P: Array, Q: Array, dP: Array, dQ: Array) -> tuple[Any, Array, Array]:
    """Return what `relative` does, given the probabilities of cells and the deviations of batches, (B, cells)."""
    some = P > 0
    log = np.log(np.where(some, P, 1.0) / Q)
    scale = np.sqrt(np.where(some, P, Q))
    deviations = (dP - dQ * P / Q) / scale
    bias = np.square(deviations).sum() / 2
    return (P * log).sum() - bias, deviations @ deviations.T, dP @ log - dQ @ (P / Q)

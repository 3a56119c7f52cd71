"""Mixing of chains of images: autocorrelation times of features and classes, changes of class, and burn-in.

Images are given by their features (vectors) and by their classes (integers). The estimators apply to any chains whose
draws have features or classes. Times and rates are in units of score evaluations. Chains are independent, so standard
errors are estimated from the variance between chains.
"""

from __future__ import annotations

import numpy as np

from uldnum._util.arguments import numbers, positive_number, shown, whole_number
from uldnum._util.typing import Array, ArrayLike
from uldnum.diagnostics.mixing import Estimate, autocorrelation_time, time_below
from uldnum.sampling.moments import standard_error

__all__ = ["burn_in_time", "class_change_rate", "class_time", "classes_visited", "feature_times"]

# Number of standard errors within which the mean over chains agrees with the second half of the trace.
AGREE = 4.0

# A principal component is constant if its variance is at most this fraction of the largest one.
CONSTANT = 1e-12


def feature_times(features: ArrayLike, *, components: int = 8, nfe: float = 1.0) -> Estimate:
    """Return the integrated autocorrelation times of the leading principal components of features.

    Parameters
    ----------
    features : array_like, shape (draws, chains, f)
        Features of the images of chains in equilibrium, in the order of time.
    components : int, default 8
        Largest number of principal components, of which there are at most f. They are in order of decreasing variance.
    nfe : float, default 1.0
        Number of score evaluations between two draws.

    Returns
    -------
    Estimate
        Arrays of shape (min(components, f),) in units of score evaluations. The largest of them is the time of the
        slowest component. Both parts are NaN for a component that is constant, or for which the trace is shorter than
        the window of `autocorrelation_time`.

    Raises
    ------
    ValueError
        If an argument has another shape, is not finite or is out of range.

    Notes
    -----
    The principal components are the eigenvectors of the covariance of all draws. The time of each component is that of
    `autocorrelation_time`. The errors do not contain the errors of the eigenvectors.

    Examples
    --------
    The second feature has the smaller variance and the autocorrelation time (1 + 0.5)/(1 - 0.5) = 3:

    >>> import numpy as np
    >>> import uldnum
    >>> features = np.random.default_rng(0).normal(size=(1000, 100, 2)) * [2, 1]
    >>> for n in range(1, 1000):
    ...     features[n, :, 1] = 0.5 * features[n - 1, :, 1] + 0.75**0.5 * features[n, :, 1]
    >>> times = uldnum.diagnostics.feature_times(features)
    >>> times.value.round(1).tolist()
    [1.0, 3.0]
    """
    nfe, projected = positive_number("nfe", nfe), principal_components(trace_of(features), components)
    return Estimate(*np.array([time_of(series, nfe) for series in np.moveaxis(projected, -1, 0)]).T)


def class_time(classes: ArrayLike, *, nfe: float = 1.0) -> Estimate:
    r"""Return the integrated autocorrelation time of the class along chains.

    Parameters
    ----------
    classes : array_like of int, shape (draws, chains)
        Classes of the images of chains in equilibrium, in the order of time, from 0.
    nfe : float, default 1.0
        Number of score evaluations between two draws.

    Returns
    -------
    Estimate
        Scalars in units of score evaluations. Both are NaN if all images have the same class, or if the trace is
        shorter than the window of `autocorrelation_time`.

    Raises
    ------
    ValueError
        If an argument has another shape or type, or is out of range.

    Notes
    -----
    The time is that of the vector of indicators of the classes. With the probabilities :math:`p_k` of the classes, its
    autocorrelation is

    .. math:: \rho(n) = \frac{P(c_t = c_{t+n}) - \sum_k p_k^2}{1 - \sum_k p_k^2}.

    It does not depend on the numbering of the classes.

    Examples
    --------
    In each draw, the class is replaced by a random one with probability 1/2, so that the time is (1 + 0.5)/(1 - 0.5):

    >>> import numpy as np
    >>> import uldnum
    >>> rng = np.random.default_rng(0)
    >>> classes = rng.integers(10, size=(1000, 100))
    >>> for n in range(1, 1000):
    ...     classes[n] = np.where(rng.random(100) < 0.5, classes[n], classes[n - 1])
    >>> time = uldnum.diagnostics.class_time(classes)
    >>> bool(abs(time.value - 3) < 4 * time.error)
    True
    """
    labels = labels_of(classes)
    indicators = labels[:, :, None] == np.unique(labels)
    return time_of(indicators.astype(float), positive_number("nfe", nfe))


def class_change_rate(classes: ArrayLike, *, nfe: float = 1.0) -> Estimate:
    """Return the rate at which the images of chains change their class, per score evaluation.

    Parameters
    ----------
    classes : array_like of int, shape (draws, chains)
        Classes of the images, in the order of time, from 0.
    nfe : float, default 1.0
        Number of score evaluations between two draws.

    Returns
    -------
    Estimate
        Scalars in changes per score evaluation. The error is estimated from the variance between chains, and is NaN for
        a single chain. If there was no change, the error is one change divided by the number of evaluations of all
        chains.

    Raises
    ------
    ValueError
        If an argument has another shape or type, or is out of range.

    See Also
    --------
    uldnum.diagnostics.hopping_rate : Rate of hops between the modes of a target.

    Notes
    -----
    A change is counted when two successive draws of a chain have different classes. A change that is
    reversed before the next draw is not detected. If the class of an image alternates, every change is counted.

    Examples
    --------
    >>> import uldnum
    >>> classes = [[3, 1], [3, 1], [5, 1], [3, 1], [3, 1]]  # two changes in four intervals, and none
    >>> rate, error = uldnum.diagnostics.class_change_rate(classes, nfe=10)
    >>> float(rate), float(error)
    (0.025, 0.025)
    """
    labels, nfe = labels_of(classes), positive_number("nfe", nfe)
    changes = np.mean(labels[1:] != labels[:-1], axis=0) / nfe
    if not changes.any():
        return Estimate(*np.array([0.0, 1 / (nfe * labels[1:].size)]))
    return Estimate(changes.mean(), standard_error(changes, axis=0))


def classes_visited(classes: ArrayLike, evaluations: ArrayLike, *, count: int, nfe: float = 1.0) -> Estimate:
    """Return the share of all classes that a chain visits in a number of score evaluations.

    Parameters
    ----------
    classes : array_like of int, shape (draws, chains)
        Classes of the images of chains in equilibrium, in the order of time, from 0 to ``count - 1``.
    evaluations : float or array_like, shape (...)
        Numbers of score evaluations, at most those of the trace, ``nfe (draws - 1)``.
    count : int
        Number of classes.
    nfe : float, default 1.0
        Number of score evaluations between two draws.

    Returns
    -------
    Estimate
        Arrays of the shape of ``evaluations``, the mean share and its standard error over chains. The error is NaN for
        a single chain.

    Raises
    ------
    ValueError
        If an argument has another shape or type, or is out of range.

    Notes
    -----
    A window of n evaluations contains ``floor(n/nfe) + 1`` draws. The share is the number of different classes in a
    window divided by ``count``, averaged over all windows of the trace. A class is counted as visited only if a draw
    shows it.

    Examples
    --------
    >>> import uldnum
    >>> classes = [[3, 1], [3, 1], [5, 1]]
    >>> uldnum.diagnostics.classes_visited(classes, [0, 2], count=10).value.round(3).tolist()
    [0.1, 0.15]
    """
    labels, nfe = labels_of(classes), positive_number("nfe", nfe)
    if labels.max() >= whole_number("count", count, 1, 2**31):
        raise ValueError(f"classes: must be below count, got {labels.max()} for count {count}")
    wanted, draws = numbers("evaluations", evaluations), len(labels)
    if wanted.size and not (wanted.min() >= 0 and wanted.max() <= nfe * (draws - 1) * (1 + 1e-9)):
        raise ValueError(f"evaluations: must be from 0 to {nfe * (draws - 1):g}, got {shown(wanted.tolist())}")
    sizes = np.floor(wanted / nfe * (1 + 1e-9)).astype(int) + 1
    visited = np.zeros((wanted.size, labels.shape[1]))
    for label in np.unique(labels):
        wait = draws_until(labels == label)
        for share, size in zip(visited, sizes.flat, strict=True):
            share += np.mean(wait[: draws - size + 1] < size, axis=0) / count
    shares = visited.reshape(*wanted.shape, -1)
    return Estimate(shares.mean(axis=-1), standard_error(shares, axis=-1))


def burn_in_time(features: ArrayLike, *, components: int = 8, nfe: float = 1.0) -> float:
    """Return the time after which the mean of features over chains agrees with the second half of the trace.

    Parameters
    ----------
    features : array_like, shape (draws, chains, f)
        Features of the images of chains from their start, in the order of time, with at least 4 draws.
    components : int, default 8
        Largest number of leading principal components that are compared, of which there are at most f.
    nfe : float, default 1.0
        Number of score evaluations between two draws.

    Returns
    -------
    float
        Number of score evaluations since the first draw, linearly interpolated between draws. It is 0 if all draws of
        the first half agree, and infinite if the last of them does not agree.

    Raises
    ------
    ValueError
        If an argument has another shape, is not finite or is out of range.

    See Also
    --------
    uldnum.diagnostics.relaxation : Distances from a target at every stored step.
    uldnum.diagnostics.time_below : Time after which a distance stays below a bound.

    Notes
    -----
    At every draw t of the first half, the deviation of a chain is the difference of its component at t and the mean of
    this component over the second half. A draw agrees if the mean deviation of every component lies within 4 of its
    standard errors over chains. The result is the time after which all draws agree. The test is that of Geweke (1992)
    with the variance between chains in place of a spectral density.

    More chains resolve smaller deviations, so the time grows with the number of chains. Chains in equilibrium fail the
    test at one draw of one component with probability 6e-5. A trace that is not much longer than the slowest component
    agrees with its second half before it is in equilibrium.

    References
    ----------
    J. Geweke, "Evaluating the accuracy of sampling-based approaches to the calculation of posterior moments", Bayesian
    Statistics 4 (1992).

    Examples
    --------
    The mean of this autoregressive process is 5 * 0.5^t. It is below 4 standard errors, 0.4, after 4 draws:

    >>> import numpy as np
    >>> import uldnum
    >>> features = np.random.default_rng(0).normal(size=(100, 100, 1))
    >>> features[0] += 5
    >>> for n in range(1, 100):
    ...     features[n] = 0.5 * features[n - 1] + 0.75**0.5 * features[n]
    >>> 2 < uldnum.diagnostics.burn_in_time(features) < 5
    True
    """
    values, nfe = trace_of(features), positive_number("nfe", nfe)
    half = len(values) // 2
    if half < 2:
        raise ValueError(f"features: must have at least 4 draws, got {len(values)}")
    projected = principal_components(values, components)
    deviations = projected[:half] - projected[half:].mean(axis=0)
    mean, error = np.abs(deviations.mean(axis=1)), standard_error(deviations, axis=1)
    scores = np.divide(mean, error, out=np.zeros_like(mean), where=error > 0)
    return time_below(nfe * np.arange(half), scores.max(axis=1), AGREE)


def principal_components(values: Array, components: int) -> Array:
    """Return the leading principal components, (draws, chains, f) -> (draws, chains, min(components, f)).

    They are the coordinates along the eigenvectors of the covariance of all draws, in order of decreasing variance.
    Components whose variance is zero up to rounding are 0.
    """
    count = whole_number("components", components, 1, 2**16)
    flat = values.reshape(-1, values.shape[-1])
    centred = flat - flat.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred / len(flat))
    directions[:, variances <= CONSTANT * variances[-1]] = 0
    return values @ directions[:, ::-1][:, :count]


def time_of(series: Array, nfe: float) -> Estimate:
    """Return the autocorrelation time of a finite series, or NaN if it is constant or too short."""
    try:
        return autocorrelation_time(series, nfe=nfe)
    except ValueError:
        return Estimate(*np.full(2, np.nan))


def draws_until(present: Array) -> Array:
    """Return the number of draws until a class is next present, or a number beyond the trace; shape (draws, chains)."""
    draws = len(present)
    place = np.arange(draws)[:, None]
    following = np.minimum.accumulate(np.where(present, place, 2 * draws)[::-1], axis=0)[::-1]
    return following - place


def trace_of(features: ArrayLike) -> Array:
    """Return features as a float64 array of shape (draws, chains, f), or raise."""
    values = numbers("features", features)
    if values.ndim != 3 or min(values.shape[:2]) < 2 or not values.size:
        raise ValueError(
            f"features: must have shape (draws, chains, f) with at least 2 draws and 2 chains, got {values.shape}"
        )
    return values


def labels_of(classes: ArrayLike) -> Array:
    """Return classes as an int64 array of shape (draws, chains), or raise."""
    labels = numbers("classes", classes)
    if labels.ndim != 2 or len(labels) < 2 or not labels.size:
        raise ValueError(f"classes: must have shape (draws, chains) with at least 2 draws, got {labels.shape}")
    if np.any(labels != np.floor(labels)) or labels.min() < 0:
        raise ValueError("classes: must be integers from 0")
    return labels.astype(int)

"""Mixing of chains: autocorrelation times, effective sample sizes, and rates of hops between modes.

Autocorrelation times are in units of score evaluations. If the autocorrelation time is tau, an average over N score
evaluations has the variance of an average over N/tau independent draws. Chains are independent, so standard errors are
estimated from the variance between chains.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from uldnum._util.arguments import converted, number, positive_number, reals
from uldnum._util.extras import require
from uldnum._util.typing import Array
from uldnum.diagnostics.arguments import checked_run, modes_of
from uldnum.diagnostics.jackknife import BATCHES, jackknife
from uldnum.sampling.moments import standard_error
from uldnum.sampling.run import Run
from uldnum.targets import Target

__all__ = [
    "Estimate",
    "autocorrelation_time",
    "chain_mean_times",
    "effective_sample_size",
    "hopping_rate",
    "time_below",
]

# Var(x^2) is estimated only if at most this fraction of the positions lies beyond the histogram. For a Gaussian, the
# positions furthest from the mean that make up this fraction contribute 0.2% of Var(x^2).
BEYOND = 1e-5

# Length of Sokal's window in autocorrelation times. If the autocorrelation is exponential, the fraction e^(-2 WINDOW)
# of the sum lies beyond the window.
WINDOW = 5.0

# A chain is in the core of a mode if the mode contributes more than this fraction of the density at its position.
CORE = 0.9


class Estimate(NamedTuple):
    """Estimate with its standard error.

    Attributes
    ----------
    value : float or array
        Estimate.
    error : float or array
        Standard error.

    Examples
    --------
    >>> import numpy as np
    >>> import uldnum
    >>> time = uldnum.diagnostics.autocorrelation_time(np.random.default_rng(0).normal(size=(1000, 100)))
    >>> bool(abs(time.value - 1) < 4 * time.error)
    True
    """

    value: Array
    error: Array


def autocorrelation_time(series: Array, *, nfe: float = 1.0) -> Estimate:
    r"""Return the integrated autocorrelation time of chains in equilibrium.

    Parameters
    ----------
    series : array_like, shape (draws, chains) or (draws, chains, f)
        Values of an observable in the order of time, such as ``run.trace[..., 0]`` for the first coordinate, or of a
        vector of f observables.
    nfe : float, default 1.0
        Number of score evaluations between two draws.

    Returns
    -------
    Estimate
        Scalars in units of score evaluations. The error is the jackknife error over batches of chains; it does not
        include the truncation of the sum.

    Raises
    ------
    ValueError
        If ``series`` has another shape, is constant, has non-finite values, or is shorter than the window.

    Notes
    -----
    The time is

    .. math:: \tau = \mathrm{nfe} \left(1 + 2 \sum_{n=1}^M \rho(n)\right)

    The autocorrelation rho is computed from the autocovariances of the
    chains about their common mean, averaged over the chains and summed over the components of a vector. The window M is
    the smallest lag with

    .. math:: M \ge 5 \left(1 + 2 \sum_{n=1}^M |\rho(n)|\right)

    Sokal (1997, section 3) sums rho instead of its absolute value. The two sums are equal if rho is positive. For
    kinetic integrators rho may oscillate, and its sum may then be small long before rho has decayed. If rho is
    exponential, the truncation removes the fraction e^-10 of the sum.

    Examples
    --------
    An autoregressive process with coefficient 0.5 has the autocorrelation time (1 + 0.5)/(1 - 0.5) = 3:

    >>> import numpy as np
    >>> import uldnum
    >>> series = np.random.default_rng(0).normal(size=(1000, 100))
    >>> for n in range(1, 1000):
    ...     series[n] = 0.5 * series[n - 1] + 0.75**0.5 * series[n]
    >>> time = uldnum.diagnostics.autocorrelation_time(series)
    >>> bool(abs(time.value - 3) < 4 * time.error)
    True
    """
    values, nfe = converted("series", series), positive_number("nfe", nfe)
    if values.ndim not in (2, 3) or min(values.shape[:2]) < 2 or not values.size:
        raise ValueError(
            "series: must have shape (draws, chains) or (draws, chains, f) with at least 2 draws and 2 chains, got "
            f"{values.shape}"
        )
    if not np.all(np.isfinite(values)) or np.all(values == values[0, 0]):
        raise ValueError("series: must be finite and not constant")
    values = values.reshape(*values.shape[:2], -1)
    values = values - values.mean(axis=(0, 1))
    values = values / np.abs(values).max()
    draws = len(values)
    power = np.sum(np.abs(np.fft.rfft(values, 2 * draws, axis=0)) ** 2, axis=2)
    products = np.fft.irfft(power, axis=0)[:draws] / (draws - np.arange(draws))[:, None]
    batches = np.array([part.sum(axis=1) for part in np.array_split(products, min(BATCHES, values.shape[1]), axis=1)])
    sums = 2 * np.cumsum(np.abs(batches.sum(axis=0)) / batches[:, 0].sum()) - 1
    beyond = np.arange(draws) >= WINDOW * sums
    if not beyond.any():
        raise ValueError(
            f"series: must be longer than 5 autocorrelation times, each at least {sums[-1]:.3g} draws, got {draws}"
        )
    window = int(np.argmax(beyond)) + 1

    def time(weights: Array) -> Array:
        covariance = weights @ batches[:, :window]
        return nfe * (2 * covariance.sum() / covariance[0] - 1)

    return Estimate(*jackknife(time, len(batches)))


def chain_mean_times(run: Run) -> dict[str, Estimate]:
    """Return the integrated autocorrelation times of x and x^2 from the chain means of a run.

    Parameters
    ----------
    run : Run
        Run with a single step size and many chains. The time of x^2 needs histograms (``bins``). If the run has no
        moments, the time of x is computed from the positions that it stored.

    Returns
    -------
    dict of str to Estimate
        Key "x" and, if the run has histograms, key "x^2". Values and errors are arrays of shape (d,) in units of score
        evaluations; images are flattened. They are NaN if a chain diverged. The time of x^2 is NaN on an axis on which
        a fraction of more than 1e-5 of the positions lies beyond the histogram (``bins`` of `uldnum.sample`).

    Raises
    ------
    ValueError
        If the run has several step sizes, or recorded the mean without the variance.

    Notes
    -----
    The time of an observable f is estimated by ``N Var(m)/Var(f)``, where m is the mean of f over a chain with N score
    evaluations and Var(m) is the variance of m between chains. The relative variance of the estimate is 2/chains. The
    estimate is too small by the fraction time/(2 N) if the autocorrelation is exponential. N should therefore be much
    larger than the time. `autocorrelation_time` does not have this bias, but needs a trace. If the run accumulated
    moments at every ``record_every``-th step only, the time is that of averages over these steps. It is longer than
    that of averages over all steps, and at least ``record_every`` steps if correlations are positive.

    Examples
    --------
    On N(0, 1) at delta = 0.5, the autocorrelation of ULA decreases by the factor 1 - delta in each step. The time is
    therefore (2 - delta)/delta = 3:

    >>> import uldnum
    >>> run = uldnum.sample("gaussian", "ULA", delta=0.5, steps=200, chains=1000, burn_in=20, backend="array")
    >>> time = uldnum.diagnostics.chain_mean_times(run)["x"]
    >>> bool(abs(time.value[0] - 3) < 4 * time.error[0])
    True
    """
    checked_run(run).check_one_step_size()
    if run.settings.record is None:
        return {"x": time_of_trace(run)}
    if run.diverged:
        nothing = np.full(len(run.centre), np.nan)
        return dict.fromkeys(("x", "x^2") if run.settings.bins else ("x",), Estimate(nothing, nothing))
    moments, per_step = run.moments, run.nfe / run.state.step
    evaluations = per_step * run.accumulated_steps * run.settings.record_every
    times = {"x": time_of_means(moments.chain_mean, moments.variance, evaluations)}
    if run.settings.bins:
        everything = run.histogram.sum(axis=0)
        counts = everything[:, 1:-1]
        square = ((run.edges[:, 1:] + run.edges[:, :-1]) / 2) ** 2
        shares = counts / counts.sum(axis=1, keepdims=True)
        variance = (shares * square**2).sum(axis=1) - (shares * square).sum(axis=1) ** 2
        beyond = 1 - counts.sum(axis=1) / everything.sum(axis=1)
        variance[beyond > BEYOND] = np.nan
        times["x^2"] = time_of_means(moments.chain_square, variance, evaluations)
    return times


def time_of_trace(run: Run) -> Estimate:
    """Return the time of x from the means of chains over their stored positions.

    The time is at least as long as the interval between stored positions.
    """
    trace = run.x[None] if run.trace is None else run.trace
    flat = trace.reshape(*trace.shape[:2], -1).astype(float)
    per_step = run.nfe / run.state.step
    evaluations = per_step * (run.settings.thin * len(flat) if run.settings.thin else run.recorded_steps)
    return time_of_means(flat.mean(axis=0), flat.var(axis=(0, 1)), evaluations)


def time_of_means(means: Array, variance: Array, evaluations: float) -> Estimate:
    """Return ``N Var(means)/variance`` for the means of chains with N score evaluations, shape (chains, d)."""
    chains = len(means)
    squares = (means - means.mean(axis=0)) ** 2 * chains / (chains - 1)
    unit = evaluations / variance
    return Estimate(unit * squares.mean(axis=0), unit * standard_error(squares, axis=0))


def effective_sample_size(run: Run) -> Any:
    """Return rank-normalised effective sample sizes and R-hat of the trace of a run, computed by ArviZ.

    Parameters
    ----------
    run : Run
        Run with a trace (``thin``) and a single step size.

    Returns
    -------
    xarray.Dataset
        The axes of each variable are those of one sample. The variables are:

        * ``bulk``, ``tail``: effective sample sizes of bulk and tail, in draws.
        * ``bulk_per_nfe``: ``bulk`` divided by the number of score evaluations of all chains.
        * ``r_hat``: rank-normalised split R-hat.

    Raises
    ------
    MissingExtraError
        If the extra ``arviz`` is not installed.
    ValueError
        If the run has no trace, or several step sizes.

    References
    ----------
    A. Vehtari, A. Gelman, D. Simpson, B. Carpenter and P.-C. Bürkner, "Rank-normalization, folding, and localization:
    an improved R-hat for assessing convergence of MCMC", Bayesian Analysis 16 (2021).

    Examples
    --------
    >>> import uldnum
    >>> run = uldnum.sample("gaussian", "ULA", delta=0.5, steps=200, chains=4, thin=1, backend="array")
    >>> found = uldnum.diagnostics.effective_sample_size(run)
    >>> sorted(found.data_vars)
    ['bulk', 'bulk_per_nfe', 'r_hat', 'tail']
    """
    stats, posterior = require("arviz_stats", "arviz"), checked_run(run).to_arviz()
    bulk, tail = (stats.ess(posterior, method=method)["x"] for method in ("bulk", "tail"))
    evaluations = run.nfe / run.state.step * run.recorded_steps * run.settings.chains
    found = {"bulk": bulk, "tail": tail, "bulk_per_nfe": bulk / evaluations}
    return bulk.to_dataset(name="bulk").assign(found | {"r_hat": stats.rhat(posterior)["x"]})


def hopping_rate(trace: Array | None, target: Target | str, *, nfe: float = 1.0) -> Estimate:
    """Return the rate at which chains hop between modes, in hops per score evaluation.

    Parameters
    ----------
    trace : array, shape (draws, chains, d)
        Positions in the order of time, such as `Run.trace`.
    target : str, GaussianMixture or another Target
        Target with known modes, or its name. The modes of a mixture are its components.
    nfe : float, default 1.0
        Number of score evaluations between two draws.

    Returns
    -------
    Estimate
        Scalars in hops per score evaluation. The value is the number of hops of all chains divided by their total time.
        The error is estimated from the variance between chains, and is NaN for a single chain that hops. If there was
        no hop, the error is one hop divided by the total time. Both parts are NaN if no chain was in a core before the
        last draw.

    Raises
    ------
    ValueError
        If the trace does not have three axes or has another d than the target, or if the target has no known modes.

    Notes
    -----
    A chain is in the core of a mode if the mode contributes more than 0.9 of the density at its position. A hop is
    counted when a chain enters a core that is not the last one that it visited. Fluctuations across the boundary
    between two modes are therefore not counted.

    The time of a chain starts when it first visits a core. The total time should be much longer than the duration of
    one transition. If a chain hops to another mode and back between two draws, these two hops are not detected.

    Examples
    --------
    A chain that alternates between the two modes at every draw hops once in each of 9 intervals:

    >>> import numpy as np
    >>> import uldnum
    >>> trace = 1.5 * (-1.0) ** np.arange(10).reshape(10, 1, 1)
    >>> pair = uldnum.GaussianMixture(weights=[0.5, 0.5], means=[[1.5], [-1.5]], variances=[0.1, 0.1])
    >>> float(uldnum.diagnostics.hopping_rate(trace, pair).value)
    1.0
    """
    positions = np.empty(0) if trace is None else reals("trace", trace)
    if positions.ndim != 3 or not positions.size:
        raise ValueError("trace: must have shape (draws, chains, d); a run stores one if thin is passed to sample()")
    draws, chains, d = positions.shape
    modes, nfe = modes_of(target, (d,)), positive_number("nfe", nfe)
    shares = modes.responsibilities(positions.reshape(-1, d)).reshape(draws, chains, -1)
    mode = np.where(shares.max(axis=2) > CORE, shares.argmax(axis=2), -1)
    hops, times, last = np.zeros(chains), np.zeros(chains), mode[0]
    for now in mode[1:]:
        times += nfe * (last >= 0)
        hops += (now >= 0) & (last >= 0) & (now != last)
        last = np.where(now >= 0, now, last)
    if not times.any():
        return Estimate(*np.full(2, np.nan))
    rate = hops.sum() / times.sum()
    error = standard_error((hops - rate * times) / times.mean(), axis=0)
    return Estimate(rate, error if rate else 1 / times.sum())


def time_below(times: Array, distances: Array, bound: float) -> float:
    """Return the time after which a distance stays below a bound.

    Parameters
    ----------
    times : array_like, shape (n,)
        Increasing times, in any unit.
    distances : array_like, shape (n,)
        Distance at each time. NaN counts as above the bound.
    bound : float
        Bound, in the unit of the distance.

    Returns
    -------
    float
        Time in the unit of ``times``, linearly interpolated. It is infinite if the last distance is not below the
        bound.

    Raises
    ------
    ValueError
        If ``times`` and ``distances`` are not one-dimensional arrays of equal length.

    Examples
    --------
    >>> from uldnum.diagnostics import time_below
    >>> time_below([0, 1, 2, 3], [1.0, 0.5, 0.1, 0.1], 0.3)
    1.5
    """
    times, distances, bound = converted("times", times), converted("distances", distances), number("bound", bound)
    if times.ndim != 1 or not times.size or distances.shape != times.shape:
        raise ValueError(f"times, distances: must have the same shape (n,), got {times.shape} and {distances.shape}")
    above = np.flatnonzero(~(distances < bound))  # NaN counts as above
    if not len(above):
        return float(times[0])
    last = int(above[-1])
    if last == len(times) - 1:
        return float("inf")
    if not np.isfinite(distances[last]):
        return float(times[last + 1])
    share = (distances[last] - bound) / (distances[last] - distances[last + 1])
    return float(times[last] + share * (times[last + 1] - times[last]))

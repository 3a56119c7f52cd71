"""How fast chains mix: autocorrelation times, effective sample sizes, hops between modes, the way to the target.

Times are in score evaluations: N of them are worth N/time independent draws. Chains are independent, so errors come
from the spread over them.
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

# Share of positions beyond the histograms, of which Var(x^2) knows nothing: of a Gaussian they have 0.003 of it.
BEYOND = 1e-5

# Sokal's window: so many autocorrelation times. Beyond it an exponential has e^(-2 WINDOW) of its sum.
WINDOW = 5.0

# A chain belongs to a mode while the mode has this share of the density where it is.
CORE = 0.9


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: Array
    error: Array


def autocorrelation_time(series: Array, *, nfe: float = 1.0) -> Estimate:
    """Integrated autocorrelation time ``1 + 2 sum_n rho(n)`` of chains in equilibrium, with Sokal's window.

    The autocovariance is the mean over all chains, about their common mean, and its sum ends at the first lag M >= 5
    (1 + 2 sum_{n <= M} |rho(n)|). Sokal (1997, section 3) has rho there, which is the same where it is positive; that
    of kinetic schemes swings, and its sum is short long before it has died away. What is cut off, e^-10 of an
    exponential, is not in the error.

    Parameters
    ----------
    series : array, shape (draws, chains)
        A function of the positions, in the order of time; from `Run.trace`, for example ``run.trace[..., 0]``.
    nfe : float
        Score evaluations between two draws.

    Returns
    -------
    Estimate
        In score evaluations; the error is the jackknife's over batches of chains.

    Raises
    ------
    ValueError
        If the shape is another, or the series is too short for its window.
    """
    values, nfe = converted("series", series), positive_number("nfe", nfe)
    if values.ndim != 2 or min(values.shape) < 2:
        raise ValueError(f"series: must have shape (draws, chains), at least 2 of each, got {values.shape}")
    if not np.all(np.isfinite(values)) or np.all(values == values[0, 0]):
        raise ValueError("series: must be finite, and not constant")
    values = (values - values.mean()) / np.abs(values - values.mean()).max()
    draws = len(values)
    power = np.abs(np.fft.rfft(values, 2 * draws, axis=0)) ** 2
    products = np.fft.irfft(power, axis=0)[:draws] / (draws - np.arange(draws))[:, None]
    batches = np.array([part.sum(axis=1) for part in np.array_split(products, min(BATCHES, values.shape[1]), axis=1)])
    sums = 2 * np.cumsum(np.abs(batches.sum(axis=0)) / batches[:, 0].sum()) - 1
    beyond = np.arange(draws) >= WINDOW * sums
    if not beyond.any():
        raise ValueError(f"series: {draws} draws are fewer than 5 autocorrelation times ({sums[-1]:.3g} at least)")
    window = int(np.argmax(beyond)) + 1

    def time(weights: Array) -> Array:
        covariance = weights @ batches[:, :window]
        return nfe * (2 * covariance.sum() / covariance[0] - 1)

    return Estimate(*jackknife(time, len(batches)))


def chain_mean_times(run: Run) -> dict[str, Estimate]:
    """Integrated autocorrelation times of x and x^2 from what every run keeps, without a trace.

    ``N Var(mean of a chain)/Var(f)``, the variance of the means of N evaluations over chains: it falls short of the
    time by ``2/N sum_n n rho(n)``, for an exponential the fraction time/(2 N) of it, so that N should be
    many times larger. Streaming, with a relative variance of 2/chains, where Sokal's window needs the trace.

    Parameters
    ----------
    run : Run
        At one step size, of many chains, with moments; for "x^2" with histograms (``bins``), which give Var(x^2): NaN
        where more than 1e-5 of the positions lie beyond them, 8 standard deviations of the target from its mean.

    Returns
    -------
    dict
        "x" and, with histograms, "x^2": arrays of shape (d,), in score evaluations. NaN where chains diverged.

    Raises
    ------
    ValueError
        If the run holds several step sizes.
    """
    checked_run(run).check_one_step_size()
    if run.diverged:
        nothing = np.full(len(run.centre), np.nan)
        return dict.fromkeys(("x", "x^2") if run.settings.bins else ("x",), Estimate(nothing, nothing))
    moments, per_step = run.moments, run.nfe / run.state.step
    times = {"x": time_of_means(moments.chain_mean, np.diag(moments.covariance), per_step * run.recorded_steps)}
    if run.settings.bins:
        everything = run.histogram.sum(axis=0)
        counts = everything[:, 1:-1]
        square = ((run.edges[:, 1:] + run.edges[:, :-1]) / 2) ** 2
        shares = counts / counts.sum(axis=1, keepdims=True)
        variance = (shares * square**2).sum(axis=1) - (shares * square).sum(axis=1) ** 2
        beyond = 1 - counts.sum(axis=1) / everything.sum(axis=1)
        variance[beyond > BEYOND] = np.nan
        times["x^2"] = time_of_means(moments.chain_square, variance, per_step * run.recorded_steps)
    return times


def time_of_means(means: Array, variance: Array, evaluations: float) -> Estimate:
    """Return ``N Var(means)/variance`` for means of chains of N evaluations, shape (chains, d)."""
    chains = len(means)
    squares = (means - means.mean(axis=0)) ** 2 * chains / (chains - 1)
    unit = evaluations / variance
    return Estimate(unit * squares.mean(axis=0), unit * standard_error(squares, axis=0))


def effective_sample_size(run: Run) -> Any:
    """Rank-normalised effective sample sizes and R-hat of a run's trace, by ArviZ (Vehtari et al. 2021).

    Parameters
    ----------
    run : Run
        At one step size, with a trace (``thin``).

    Returns
    -------
    xarray.Dataset
        Variables ``bulk``, ``tail`` (draws), ``bulk_per_nfe`` (draws for each score evaluation of all chains) and
        ``r_hat``, with the axes of a sample.

    Raises
    ------
    MissingExtraError
        If the extra ``arviz`` is not installed.
    ValueError
        If the run kept no trace, or holds several step sizes.
    """
    stats, posterior = require("arviz_stats", "arviz"), checked_run(run).to_arviz()
    bulk, tail = (stats.ess(posterior, method=method)["x"] for method in ("bulk", "tail"))
    evaluations = run.nfe / run.state.step * run.recorded_steps * run.settings.chains
    found = {"bulk": bulk, "tail": tail, "bulk_per_nfe": bulk / evaluations}
    return bulk.to_dataset(name="bulk").assign(found | {"r_hat": stats.rhat(posterior)["x"]})


def hopping_rate(trace: Array | None, target: Target | str, *, nfe: float = 1.0) -> Estimate:
    """Rate at which chains go from mode to mode: hops of a chain for each score evaluation.

    A hop is counted when a chain arrives in the core of another mode than that whose core it left, where one mode has
    0.9 of the density: crossing the border to and fro is none. Time counts from a chain's first core on, and should be
    long against the time of a crossing. Hops between two recorded positions are not seen. Where there was none the
    error is one hop in all the time.

    Parameters
    ----------
    trace : array, shape (draws, chains, d)
        Positions, in the order of time.
    target : str, GaussianMixture or another Target
        With modes; those of a mixture are its components.
    nfe : float
        Score evaluations between two draws.

    Returns
    -------
    Estimate
        Hops of all chains over the time of all, numbers in 1/score evaluations; the error is from the spread over
        chains, NaN of one chain that hops. Both are NaN where no chain was in a core before the last draw.

    Raises
    ------
    ValueError
        If the trace does not have three axes, or another d than the target.
    """
    positions = np.empty(0) if trace is None else reals("trace", trace)
    if positions.ndim != 3 or not positions.size:
        raise ValueError("trace: must have shape (draws, chains, d); a run keeps one where sample() is given thin")
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
        return Estimate(np.array(np.nan), np.array(np.nan))
    rate = hops.sum() / times.sum()
    error = standard_error((hops - rate * times) / times.mean(), axis=0)
    return Estimate(rate, error if rate else 1 / times.sum())


def time_below(times: Array, distances: Array, bound: float) -> float:
    """Return the first time from which on a distance stays below a bound, interpolated; infinite if it does not.

    Parameters
    ----------
    times, distances : arrays, shape (n,)
        In the order of time.
    bound : float
        What the distance is to reach.
    """
    times, distances, bound = converted("times", times), converted("distances", distances), number("bound", bound)
    if times.ndim != 1 or not times.size or distances.shape != times.shape:
        raise ValueError(f"times, distances: must have one shape (n,), got {times.shape} and {distances.shape}")
    above = np.flatnonzero(~(distances < bound))  # NaN is above
    if not len(above):
        return float(times[0])
    last = int(above[-1])
    if last == len(times) - 1:
        return float("inf")
    if not np.isfinite(distances[last]):
        return float(times[last + 1])
    share = (distances[last] - bound) / (distances[last] - distances[last + 1])
    return float(times[last] + share * (times[last + 1] - times[last]))

"""Mixing of images against closed forms: autoregressive features and Markov chains of classes."""

import numpy as np
import pytest

from uldnum.diagnostics import (
    autocorrelation_time,
    burn_in_time,
    class_change_rate,
    class_time,
    classes_visited,
    feature_times,
)

# Transition matrix of a reversible and of an irreversible Markov chain over four classes.
LAZY = np.full((4, 4), 0.02) + 0.92 * np.eye(4)
WHEEL = 0.7 * np.eye(4) + 0.3 * np.roll(np.eye(4), 1, axis=1)
UNEQUAL = np.array([[0.9, 0.1, 0.0, 0.0], [0.2, 0.5, 0.3, 0.0], [0.0, 0.1, 0.8, 0.1], [0.05, 0.0, 0.05, 0.9]])


def autoregression(coefficients, draws, chains, start=None, seed=0):
    """Return autoregressive processes of variance 1, in equilibrium or from a start, shape (draws, chains, f)."""
    a = np.asarray(coefficients)
    normals = np.random.default_rng(seed).normal(size=(draws, chains, len(a)))
    states = [normals[0] if start is None else np.broadcast_to(start, (chains, len(a)))]
    for noise in normals[1:]:
        states.append(a * states[-1] + np.sqrt(1 - a**2) * noise)
    return np.array(states)


def stationary(transition):
    values, vectors = np.linalg.eig(transition.T)
    law = vectors[:, np.argmax(values.real)].real
    return law / law.sum()


def markov_chain(transition, draws, chains, seed=0):
    """Return the classes of chains in equilibrium, shape (draws, chains)."""
    random = np.random.default_rng(seed)
    states = [random.choice(len(transition), size=chains, p=stationary(transition))]
    limits = transition.cumsum(axis=1)
    for uniform in random.random((draws - 1, chains)):
        states.append((uniform[:, None] > limits[states[-1]]).sum(axis=1).clip(max=len(transition) - 1))
    return np.array(states)


def test_times_of_principal_components():
    """Four autoregressions with different variances, rotated at random, have the times (1 + a)/(1 - a).

    The four times, and the time of all components together, lie within 4 jackknife errors over 32 batches of chains.
    The false-fail rate is 2e-3, because Student's t has a probability of 4e-4 beyond 4 errors. An error of 10% is
    detected.
    """
    coefficients, variances = np.array([0.8, 0.5, 0.9, 0.0]), np.array([16.0, 4.0, 1.0, 0.25])
    series = autoregression(coefficients, 2000, 320) * np.sqrt(variances)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4))).Q
    rotated = series @ rotation
    exact = 3.0 * (1 + coefficients) / (1 - coefficients)
    times = feature_times(rotated, nfe=3.0)
    assert times.value.shape == (4,)
    assert np.all(np.abs(times.value - exact) < 4 * times.error)
    assert np.all(4 * times.error < 0.1 * times.value)
    together = autocorrelation_time(rotated, nfe=3.0)
    assert abs(together.value - variances @ exact / variances.sum()) < 4 * together.error < 0.05 * together.value
    first = feature_times(rotated, nfe=3.0, components=1)
    assert first.value.tolist() == times.value[:1].tolist()


def test_components_without_a_time_are_nan():
    """A constant component, and a component whose time exceeds the length of the trace, are NaN; the others are not."""
    series = autoregression([0.0, 0.9999], 60, 50) * [3, 1]
    found = feature_times(np.concatenate([series, np.ones((60, 50, 1)), series[..., :1]], axis=2))
    assert np.isfinite(found.value).tolist() == [True, False, False, False]
    assert np.isfinite(found.error).tolist() == [True, False, False, False]


@pytest.mark.parametrize("transition", [LAZY, WHEEL, UNEQUAL], ids=["lazy", "wheel", "unequal"])
def test_a_markov_chain_of_classes(transition):
    """The rate of changes, the time of the class and the shares of visited classes are those of the Markov chain.

    With the stationary law pi, the rate is ``sum_k pi_k (1 - P_kk)`` per draw. The sum of the autocorrelations follows
    from ``sum_n (P^n - 1 pi) = (I - P + 1 pi)^-1 - I``. A class k is not among n + 1 draws with probability
    ``pi' Q^n 1``, where Q and pi' are without k. Five numbers lie within 4 standard errors. The false-fail rate is 7e-4
    for each matrix (time: Student's t with 31 degrees of freedom). An error of 8% of the time, of 3% of the rate and of
    1% of a share is detected.
    """
    nfe, windows = 5.0, np.array([0, 1, 4, 16])
    classes = markov_chain(transition, 1500, 320)
    law, k = stationary(transition), len(transition)
    rate = class_change_rate(classes, nfe=nfe)
    exact = law @ (1 - np.diag(transition)) / nfe
    assert abs(rate.value - exact) < 4 * rate.error < 0.03 * exact
    sums = np.linalg.inv(np.eye(k) - transition + law) - np.eye(k)
    exact = nfe * (1 + 2 * law @ np.diag(sums) / (1 - law @ law))
    time = class_time(classes, nfe=nfe)
    assert abs(time.value - exact) < 4 * time.error < 0.08 * exact
    others = [np.arange(k) != j for j in range(k)]
    avoided = [
        [law[keep] @ np.linalg.matrix_power(transition[np.ix_(keep, keep)], n) @ np.ones(k - 1) for keep in others]
        for n in windows
    ]
    exact = 1 - np.mean(avoided, axis=1)
    shares = classes_visited(classes, nfe * windows, count=k, nfe=nfe)
    assert shares.value[0] == pytest.approx(1 / k, rel=1e-12)
    assert np.all(np.abs(shares.value - exact)[1:] < 4 * shares.error[1:])
    assert np.all(4 * shares.error < 0.01 * shares.value)


def test_the_number_of_a_class_has_no_meaning():
    classes = markov_chain(UNEQUAL, 400, 32)
    renamed = np.array([7, 2, 9, 4])[classes]
    assert class_time(renamed).value == pytest.approx(class_time(classes).value, rel=1e-12)
    assert class_change_rate(renamed) == class_change_rate(classes)
    one, other = (classes_visited(labels, 20, count=10) for labels in (renamed, classes))
    assert one.value == pytest.approx(other.value, rel=1e-12)


def test_visits_by_a_naive_count():
    """The shares equal those of sets of classes in every window, and the error is that over chains."""
    classes = markov_chain(WHEEL, 30, 7, seed=3)
    shares = classes_visited(classes, [[0, 6], [14, 58]], count=6, nfe=2.0)
    for index, n in np.ndenumerate(np.array([[1, 4], [8, 30]])):
        naive = [
            np.mean([len(set(chain[first : first + n].tolist())) / 6 for first in range(30 - n + 1)])
            for chain in classes.T
        ]
        assert shares.value[index] == pytest.approx(np.mean(naive), rel=1e-12)
        assert shares.error[index] == pytest.approx(np.std(naive, ddof=1) / 7**0.5, rel=1e-9, abs=1e-15)


def test_chains_that_keep_their_class():
    classes = np.array([[2, 5]] * 11)
    assert class_change_rate(classes, nfe=4.0) == (0.0, pytest.approx(1 / (4.0 * 20)))
    assert classes_visited(classes, 40, count=10, nfe=4.0).value == pytest.approx(0.1)
    assert np.isnan(class_time(np.zeros((11, 2), int)).value)
    assert np.isnan(class_change_rate([[0], [1]]).error)


def test_burn_in_of_an_autoregression():
    """From a start at 20, the mean is 20 a^t, in units of the standard deviation. It agrees below 4 standard errors.

    The standard error of the mean over 400 chains is at most 0.052. Before the time at which the mean is 8 errors, no
    draw agrees; after the time at which it is a thousandth of an error, all do. Each bound fails with probability at
    most 1e-2: at most 150 draws of 2 components are beyond 4 errors with probability 6e-5 each.
    """
    a = 0.9
    series = autoregression([a, 0.5], 400, 400, start=[20.0, 0.0])
    time = burn_in_time(series, nfe=2.0)
    assert 2 * np.log(20 / (8 * 0.052)) / np.log(1 / a) < time < 2 * np.log(20 / (0.05 / 1000)) / np.log(1 / a)
    assert burn_in_time(autoregression([a, 0.5], 100, 400)) == 0.0
    assert burn_in_time(np.cumsum(np.ones((40, 5, 1)), axis=0) + autoregression([0.0], 40, 5)) == np.inf
    assert burn_in_time(np.ones((40, 5, 2))) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: feature_times(np.ones((9, 9))), r"features: must have shape \(draws, chains, f\) .* got \(9, 9\)$"),
        (lambda: feature_times(np.full((9, 9, 2), np.nan)), "features: must be finite"),
        (lambda: feature_times(np.ones((9, 9, 2)), components=0), "components: must be at least 1"),
        (lambda: burn_in_time(np.ones((3, 9, 2))), "features: must have at least 4 draws, got 3"),
        (lambda: class_time([[0.5, 1], [2, 3]]), "classes: must be integers from 0"),
        (lambda: class_change_rate([[0, -1], [2, 3]]), "classes: must be integers from 0"),
        (lambda: class_change_rate([0, 1]), r"classes: must have shape \(draws, chains\) .* got \(2,\)$"),
        (lambda: classes_visited([[0], [10]], 1, count=10), "classes: must be below count, got 10 for count 10"),
        (lambda: classes_visited([[0], [1]], [1, 3], count=10, nfe=2), "evaluations: must be from 0 to 2"),
        (lambda: class_change_rate([[0], [1]], nfe=0), "nfe: must be positive and finite"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()

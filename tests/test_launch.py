"""Lengths of launches on a fake executor whose launches take a known time, by a clock that only it advances."""

from types import SimpleNamespace

import numpy as np
import pytest
from tqdm.auto import tqdm

from uldnum.sampling import launch


class Fake:
    """An executor whose launches take ``fixed`` seconds, ``each`` seconds for each step, and ``compile`` at first."""

    def __init__(self, fixed, each, first=1, compile=0.0, noise=0.0):
        self.fixed, self.each, self.first, self.now, self.compile = fixed, each, first, 100.0, compile
        self.launches, self.noise, self.rng = [], noise, np.random.default_rng(0)

    def first_launch(self, state):
        return self.first

    def advance(self, state, until):
        taken = until - state.step
        self.now += self.compile + (self.fixed + taken * self.each) * np.exp(self.noise * self.rng.normal())
        self.compile, state.step = 0.0, until
        self.launches.append(taken)
        return np.empty(0)


def lengths(monkeypatch, steps, **times):
    """Return the numbers of steps of all launches of a run."""
    executor, state = Fake(**times), SimpleNamespace(step=0)
    monkeypatch.setattr(launch.time, "perf_counter", lambda: executor.now)
    with tqdm(disable=True) as bar:
        for _ in launch.take_steps(executor, state, steps, bar, lambda: False):
            pass
    assert sum(executor.launches) == steps
    return executor.launches


@pytest.mark.parametrize("fixed", [0.0, 1e-4, 0.01, 0.15, 0.4, 3.0])
@pytest.mark.parametrize("each", [1e-6, 1e-4, 0.02, 1.0])
@pytest.mark.parametrize("first", [1, 1000])
def test_launches_settle_at_a_small_share_of_the_fixed_time(monkeypatch, fixed, each, first):
    """The steps of a launch take the patience less the fixed time, or nine times the fixed time."""
    wanted = max(1, int(max(launch.PATIENCE - fixed, 9 * fixed) / each))
    found = lengths(monkeypatch, 40 * wanted + 4 * first, fixed=fixed, each=each, first=first, compile=5.0)
    assert found[-2] == pytest.approx(wanted, abs=1, rel=0.01)
    total = len(found) * fixed + sum(found) * each
    assert total < 1.3 * sum(found) * each + 5 * (fixed + each)


@pytest.mark.parametrize("each", [0.3, 20.0])
def test_slow_steps_without_a_fixed_time_come_one_by_one(monkeypatch, each):
    """One launch of two steps tells that the step is slow, not the launch."""
    assert lengths(monkeypatch, 12, fixed=0.0, each=each, compile=7.0) == [1, 1, 2, *[1] * 8]


@pytest.mark.parametrize(("fixed", "each"), [(0.0, 1e-4), (0.3, 1e-4)])
def test_launches_recover_from_disturbed_durations(monkeypatch, fixed, each):
    """The median launch is within a factor of 2 of that without noise, and its fixed time is not a large share."""
    found = lengths(monkeypatch, 2_000_000, fixed=fixed, each=each, noise=0.3)
    wanted = max(launch.PATIENCE - fixed, 9 * fixed) / each
    assert wanted / 2 < np.median(found) < 2 * wanted
    assert max(found) < 8 * wanted

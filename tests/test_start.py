"""Initial states: a run that continues from another one never draws the same normals again."""

from collections import deque
from threading import Thread

import numpy as np
import pytest

import uldnum
from uldnum import levels
from uldnum.sampling.run import Run
from uldnum.sampling.start import register_ends

N01 = uldnum.GaussianMixture([1.0], [[0.0]], [1.0])
QUIET = {"progress": False}


@pytest.fixture(scope="module")
def first():
    return uldnum.sample(N01, "BAOAB", h=0.3, steps=2, chains=3, **QUIET)


def variance(name, h):
    return float(uldnum.exact.gaussian(name, h=h).position_covariance)


@pytest.mark.parametrize("name", ["ula", "BAOAB"])
@pytest.mark.parametrize("passed", ["x", "run"])
def test_a_loop_of_runs_of_one_step_keeps_the_law(name, passed):
    """The variance after 300 runs of one step is that of the scheme; with reused normals it would grow to 100.

    The variance of 4000 chains is within 4 standard errors, 0.09, for all but 1 of 16000 seeds.
    """
    chains, start = 4000, np.zeros((4000, 1))
    for _ in range(300):
        run = uldnum.sample(N01, name, h=0.2, steps=1, chains=chains, x0=start, **QUIET)
        start = run.x if passed == "x" else run
    expected = variance(name, 0.2)
    assert abs(run.x.var() - expected) < 4 * expected * np.sqrt(2 / chains)
    assert run.settings.generation == (299 if passed == "run" else 0)


def test_chained_runs_are_not_correlated():
    """ULA decorrelates by (1 - h^2/2)^200 = 2e-10; the correlation of 4000 end points is below 4/4000^(1/2)."""
    first = uldnum.sample(N01, "ula", h=0.45, steps=200, chains=4000, x0=np.zeros((4000, 1)), **QUIET)
    for start in (first, first.x):
        second = uldnum.sample(N01, "ula", h=0.45, steps=200, chains=4000, x0=start, **QUIET)
        assert abs(np.corrcoef(first.x[:, 0], second.x[:, 0])[0, 1]) < 4 / np.sqrt(4000)


def test_noise_levels_taken_by_hand_keep_the_law():
    """The final variance is that of the recurrence, 0.31; with the same normals at all ten levels it would be 3.1.

    The variance of 4000 chains is within 4 standard errors for all but 1 of 16000 seeds.
    """
    data, n = uldnum.GaussianMixture([1.0], [[0.0]], [0.25]), 4000
    x, expected = np.zeros((n, 1)), 0.0
    for sigma in np.geomspace(2, 0.25, 10):
        total = 0.25 + sigma**2
        x = uldnum.sample(data.noised(1.0, sigma), "ula", h=0.5 * sigma, steps=3, chains=n, x0=x, **QUIET).x
        for _ in range(3):  # the recurrence of the variance
            expected = (1 - (0.5 * sigma) ** 2 / 2 / total) ** 2 * expected + (0.5 * sigma) ** 2
    assert abs(x.var() - expected) < 4 * expected * np.sqrt(2 / n)


def test_a_plan_after_a_run_and_a_run_after_a_plan():
    """Each run has the next generation of the seed and starts at the end of the previous one, including momenta."""
    plan = uldnum.plan("BAOAB", levels.given([1.0]), h=1e-7, steps=1, friction=1e-3, denoise=False)
    tiny = {"h": 1e-7, "friction": 1e-3, "steps": 1, **QUIET}
    first = uldnum.sample(N01.noised(1.0, 1.0), "OBABO", h=0.3, steps=20, chains=5, first_chain=3, seed=9, **QUIET)
    second = uldnum.anneal(N01, plan, x0=first, **QUIET)
    third = uldnum.sample(N01, "UBU", x0=second, **tiny)
    for run in (second, third):
        np.testing.assert_allclose(run.x, first.x, atol=1e-5)
        np.testing.assert_allclose(run.p, first.p, atol=1e-4)
    settings = [run.settings for run in (first, second, third)]
    assert [(s.seed, s.generation, s.chains, s.first_chain) for s in settings] == [(9, i, 5, 3) for i in range(3)]
    assert len({s.key for s in settings}) == 3
    assert settings[0].key == 9
    remembered = uldnum.sample(N01, "baoab-limit", x0=third, **tiny)  # its second row does not hold momenta
    drawn = uldnum.sample(N01, "BAOAB", x0=remembered, **tiny)
    for run in (remembered, drawn):
        assert np.abs(run.p - first.p).min() > 1e-3


def test_a_run_with_several_step_sizes_goes_on_in_groups():
    first = uldnum.sample(N01, "BAOAB", h=[0.2, 0.4], steps=5, chains=3, **QUIET)
    second = uldnum.sample(N01, "BAOAB", h=[1e-6, 1e-6], friction=1e-3, steps=1, x0=first, **QUIET)
    np.testing.assert_allclose(second.x, first.x, atol=1e-5)
    one = uldnum.sample(N01, "BAOAB", h=0.3, steps=5, chains=3, **QUIET)
    spread = uldnum.sample(N01, "BAOAB", h=[1e-6, 2e-6], friction=1e-3, steps=1, x0=one, **QUIET)
    np.testing.assert_allclose(spread.x, [one.x, one.x], atol=1e-5)
    with pytest.raises(ValueError, match="x0: the run has 2 step sizes, but h has 3"):
        uldnum.sample(N01, "BAOAB", h=[0.1, 0.2, 0.3], steps=1, x0=first, **QUIET)


def test_ends_with_the_seed_that_led_there_are_refused(tmp_path):
    options = {"h": 0.3, "steps": 5, "chains": 6, **QUIET}
    run = uldnum.sample(N01, "BAOAB", seed=11, dtype="float32", **options)
    fault = "x0: must not hold end points .* got 6 such positions with seed 11; .*x0=run, or another seed"
    with pytest.raises(ValueError, match=fault):
        uldnum.sample(N01, "ula", seed=11, x0=run.x, **options)
    plan = uldnum.plan("BAOAB", levels.given([1.0]), h=0.5)
    with pytest.raises(ValueError, match=fault):
        uldnum.anneal(N01, plan, chains=6, seed=11, x0=run.x[::-1])
    uldnum.sample(N01, "ula", seed=12, x0=run.x, **options)
    uldnum.sample(N01, "ula", seed=11, first_chain=6, x0=run.x, **options)  # chains with other random numbers
    double = uldnum.sample(N01, "ula", seed=13, **options)
    with pytest.raises(ValueError, match=r"x0: must not hold end points .* got 6 such positions with seed 13"):
        uldnum.sample(N01, "ula", seed=13, x0=double.x.astype("float32"), dtype="float32", **options)
    later = uldnum.sample(N01, "ula", x0=run, h=0.3, steps=5, **QUIET)  # a later generation of the seed
    with pytest.raises(ValueError, match=r"x0: must not hold end points .* got 1 such positions"):
        uldnum.sample(N01, "ula", seed=11, x0=[[0.5], later.x[2]], **options | {"chains": 2})


def test_ends_are_stored_by_several_threads(first, monkeypatch):
    """A thread that stores the ends of a run waits while another one counts all stored ends."""
    ends = deque()
    monkeypatch.setattr("uldnum.sampling.start.ENDS", ends)
    other = Thread(target=register_ends, args=(first,))

    class Counted:
        def __len__(self):
            if not other.ident:
                other.start()
                other.join(0.1)
            return 3

    ends.append((0, range(0), Counted()))
    register_ends(first)
    other.join()
    assert [len(kept) for *_, kept in ends] == [3, 3, 3]


def test_starts_with_one_seed_have_common_random_numbers():
    """ULA on a Gaussian contracts the distance between two starts by 1 - h^2/2 per step if the normals are equal."""
    ends = [
        uldnum.sample(N01, "ula", h=0.4, steps=3, chains=4, x0=np.full((4, 1), x), seed=5, **QUIET).x for x in (0, 1)
    ]
    np.testing.assert_allclose(ends[1] - ends[0], (1 - 0.08) ** 3, rtol=1e-12)


def test_the_key_follows_from_given_positions_and_is_stored(tmp_path):
    options = {"h": 0.4, "steps": 5, "chains": 4, **QUIET}
    start = np.linspace(-1, 1, 4)[:, None]
    runs = [uldnum.sample(N01, "ula", x0=x, **options) for x in (start, start, start + 0.1, lambda *_: start)]
    assert len({run.settings.key for run in runs}) == 2
    np.testing.assert_array_equal(runs[0].x, runs[1].x)
    np.testing.assert_array_equal(runs[0].x, runs[3].x)
    again = uldnum.sample(N01, "ula", x0=start, seed=runs[0].settings.key, **options)
    np.testing.assert_array_equal(again.x, runs[0].x)
    runs[0].save(tmp_path / "run.nc")
    longer = uldnum.sample(N01, "ula", h=0.4, steps=9, resume=tmp_path / "run.nc", **QUIET)
    whole = uldnum.sample(N01, "ula", x0=start, **options | {"steps": 9})
    np.testing.assert_array_equal(longer.x, whole.x)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"chains": 4}, "chains: must equal that of the run x0, 3, got 4"),
        ({"first_chain": 1}, "first_chain: must equal that of the run x0, 0, got 1"),
        (
            {"target": uldnum.target("ring-8")},
            r"x0: the run has samples of shape \(1,\), but those of the target have shape \(2,\)",
        ),
        (
            {"x0": "nowhere", "chains": 3},
            "x0: must be one of 'target', 'normal', 'uniform', an array, a",
        ),
        ({"x0": lambda *_: 1 / 0, "chains": 3}, "x0: the function failed with ZeroDivisionError"),
        ({"x0": "target"}, "chains: must be given unless x0 or resume is a run"),
        ({"resume": 3}, "x0: must be omitted with resume"),
        ({"resume": 3, "x0": "target"}, "resume: must be a Run or the path of a saved one, got 3"),
    ],
)
def test_a_start_that_does_not_fit_is_named(first, changes, fault):
    arguments = {"target": N01, "integrator": "BAOAB", "h": 0.3, "steps": 2, "x0": first} | changes
    with pytest.raises(ValueError, match=fault):
        uldnum.sample(**arguments, **QUIET)


def test_a_resumed_run_keeps_its_start(first):
    with pytest.raises(ValueError, match="x0 is 'normal', was 'target'"):
        uldnum.sample(N01, "BAOAB", h=0.3, steps=2, x0="normal", resume=first, **QUIET)


def test_a_run_that_diverged_is_no_start():
    with pytest.warns(UserWarning, match="diverged"):
        first = uldnum.sample(N01, "ula", h=3.0, steps=60, chains=3, **QUIET)
    with pytest.raises(ValueError, match="x0: must be a run without diverged chains"):
        uldnum.sample(N01, "ula", h=0.3, steps=2, x0=first, **QUIET)


def test_names_of_laws_start_chains_there():
    """Means and mean squares of 4000 numbers are exact within 4 standard errors for all but 1 of 4000 seeds."""
    for law, mean, square in (("normal", 0.0, 1.0), ("uniform", 0.5, 1 / 3)):
        x = uldnum.sample(N01, "ula", h=1e-6, steps=1, chains=4000, x0=law, seed=2, **QUIET).x
        for power, expected in ((1, mean), (2, square)):
            values = x**power
            assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(4000)


# -------------------------------------------------------------------------------------------------------------- losses


def test_a_warning_made_an_error_keeps_the_run():
    with pytest.raises(UserWarning, match="diverged") as caught:
        uldnum.sample(N01, "ula", h=3.0, steps=60, chains=3, **QUIET)
    run = caught.value.run
    assert isinstance(run, Run)
    assert run.complete
    assert any("attribute `run`" in note for note in caught.value.__notes__)


def test_a_report_that_fails_keeps_the_run(monkeypatch):
    def broken(*_):
        raise RuntimeError("no report")

    for name, call in (
        ("_sample", lambda: uldnum.sample(N01, "ula", h=0.3, steps=6, chains=3, **QUIET)),
        ("_anneal", lambda: uldnum.anneal(N01, uldnum.plan("ula", levels.given([2.0]), h=0.5), chains=3, **QUIET)),
    ):
        monkeypatch.setattr(f"uldnum.sampling.{name}.report", broken)
        with pytest.raises(RuntimeError, match="no report") as caught:
            call()
        assert caught.value.run.complete


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"steps": 10**9, "thin": 1}, "thin"),
        ({"bins": 2**24, "target": uldnum.target("high-dim")}, "bins"),
        ({"chains": 2**31, "target": uldnum.target("high-dim")}, "chains"),
    ],
)
def test_a_run_that_does_not_fit_into_memory_is_refused(changes, argument):
    arguments = {"target": N01, "integrator": "ula", "h": 0.3, "steps": 10, "chains": 1000} | changes
    with pytest.raises(ValueError, match=rf"{argument}: the run needs .* GiB of memory.* GiB are available"):
        uldnum.sample(**arguments, **QUIET)


def test_a_plan_whose_positions_do_not_fit_is_refused(monkeypatch):
    plan = uldnum.plan("ula", levels.geometric(2.0, 0.1, 1000), h=0.5)
    monkeypatch.setattr("uldnum._util.memory.psutil.virtual_memory", lambda: type("", (), {"available": 2**20}))
    with pytest.raises(ValueError, match=r"keep: the run needs 0.00747 GiB"):
        uldnum.anneal(N01, plan, chains=1000, keep=True)

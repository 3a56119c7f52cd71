"""`uldnum.sample`: statistics against the exact answer of the scheme, result shapes, options, warnings and errors."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

import uldnum
from uldnum.exact import gaussian

BIMODAL = uldnum.target("bimodal-1d")
NORMAL = uldnum.target("gaussian")
RING = uldnum.target("ring-8")


def quick(target=BIMODAL, integrator="BAOAB", **changes):
    arguments = {"h": 0.4, "steps": 20, "chains": 8, "seed": 1, "progress": False} | changes
    return uldnum.sample(target, integrator, **arguments)


# ---------------------------------------------------------------------------------------------- against exact answers


@pytest.mark.parametrize(
    "name",
    ["BAOAB", "ABOBA", "OBABO", "OABAO", "BAOA", "UBU", "BUB", "ula", "baoab-limit", "noise-denoise(1)", "mild(0.5)"],
)
def test_stationary_law_is_the_schemes_own(name):
    """Var(x), Var(p) and Cov(x, p) at h = 1 on N(0, 1) with friction 1 are exact within 4 standard errors.

    The false-fail rate is 6e-5 per comparison, about 2e-3 in total. The test asserts that the standard error is below a
    quarter of a nonzero bias. An error of 1% in Var(x) is detected for every scheme.
    """
    h = 1.0
    exact = gaussian(name, h)
    run = quick(NORMAL, name, h=h, steps=1500, burn_in=50, chains=4096)
    error = run.covariance_error[0, 0]
    bias = abs(exact.position_covariance - 1)
    assert error < 0.0025
    assert error < bias / 4 or bias < 1e-12
    assert abs(run.covariance[0, 0] - exact.position_covariance) < 4 * error
    assert abs(run.mean[0]) < 4 * run.mean_error[0]
    if run.p is not None:  # from the final states of many chains
        many = quick(NORMAL, name, h=h, steps=1, burn_in=60, chains=100_000, seed=2)
        x, p = many.x[:, 0], many.p[:, 0]
        for values, expected in ((p * p, exact.momentum_covariance), (x * p, exact.cross_covariance)):
            assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(len(values))


# Name, delta, bias of the second moment on bimodal-1d by quadrature, and number of steps for which the standard error
# is a quarter of the bias.
MIXTURE_TABLE = [
    ("ula", 0.1, 0.02414, 4000),
    ("ula", 0.2, 0.05223, 2000),
    ("ula", 0.4, 0.12168, 1000),
    ("ula", 0.8, 0.33036, 500),
    ("baoab-limit", 0.4, -0.003872, 40_000),
    ("baoab-limit", 0.8, -0.005202, 12_000),
]


@pytest.mark.parametrize(("name", "delta", "bias", "steps"), MIXTURE_TABLE)
def test_bias_on_a_mixture(name, delta, bias, steps):
    """The second moment, 3.25 for the target, equals the quadrature of the scheme within 4 standard errors.

    A standard error is at most a quarter of the bias, so an unbiased scheme would fail every row. The false-fail rate
    is 6e-5 per row.
    """
    run = quick(BIMODAL, name, h=None, delta=delta, steps=steps, burn_in=200, chains=4096)
    seen = run.moments.chain_square[:, 0]
    error = seen.std() / np.sqrt(len(seen))
    assert error < abs(bias) / 4
    assert abs(seen.mean() - 3.25 - bias) < 4 * error


@pytest.mark.parametrize("friction", [0.5, 2.0])
@pytest.mark.parametrize("name", ["BAOAB", "OBABO", "UBU"])
def test_autocorrelation_follows_the_friction(name, friction):
    """E[x_n x_0] equals M^n S of the exact map within 4 standard errors.

    Stationary covariances do not depend on the friction for some schemes, but correlations in time do. The false-fail
    rate is 6e-5 per case. With 400 000 chains, an error of 0.007 in the correlation, or of 5% in the friction, is
    detected.
    """
    h, lag = 0.3, 5
    M, _ = uldnum.exact.propagator(name, h, friction=friction, steps=lag)
    run = quick(NORMAL, name, h=h, friction=friction, steps=lag, chains=400_000)
    products = NORMAL.sample(400_000, seed=1)[:, 0] * run.x[:, 0]
    assert abs(products.mean() - M[0, 0]) < 4 * products.std() / np.sqrt(len(products))


def test_errors_cover_the_truth():
    """Of 60 seeds, binomial(60, 0.95) are within 1.96 standard errors; fewer than 49 have a probability of 4e-5."""
    runs = [quick(NORMAL, "BAOAB", h=0.5, steps=100, chains=64, seed=seed) for seed in range(60)]
    assert sum(abs(run.mean[0]) < 1.96 * run.mean_error[0] for run in runs) >= 49
    assert sum(abs(run.covariance[0, 0] - 1) < 1.96 * run.covariance_error[0, 0] for run in runs) >= 49


def test_nfe_counts_score_evaluations():
    assert quick(integrator="BAOAB", steps=20, burn_in=5).nfe == 26
    assert quick(integrator="UBU", steps=20, burn_in=5).nfe == 25
    assert quick(integrator="ula", steps=20).nfe == 20
    assert quick(integrator="ABAOABA", steps=20).nfe == 40


# ------------------------------------------------------------------------------------------------- shapes and options


def test_shapes():
    run = quick(RING, chains=8, steps=20, thin=5)
    assert run.x.shape == run.p.shape == (8, 2)
    assert run.mean.shape == run.mean_error.shape == (2,)
    assert run.covariance.shape == run.covariance_error.shape == (2, 2)
    assert run.trace.shape == (4, 8, 2)
    assert run.diverged.shape == ()
    group = quick(RING, h=[0.1, 0.4, 0.5], thin=10)
    assert group.x.shape == (3, 8, 2)
    assert group.mean.shape == (3, 2)
    assert group.covariance_error.shape == (3, 2, 2)
    assert group.trace.shape == (3, 2, 8, 2)
    assert group.diverged.shape == (3,)
    assert quick(integrator="ula").p is None


@pytest.mark.parametrize("burn_in", [0, 3])
def test_trace_holds_the_recorded_states(burn_in):
    run = quick(burn_in=burn_in, steps=11, thin=4)
    assert run.trace.shape == (2, 8, 1)
    for n, state in ((4, run.trace[0]), (8, run.trace[1])):
        np.testing.assert_array_equal(state, quick(burn_in=burn_in, steps=n).x)
    np.testing.assert_array_equal(run.x, quick(burn_in=burn_in, steps=11).x)
    every = quick(burn_in=burn_in, steps=11, thin=1)
    np.testing.assert_allclose(every.trace.mean(axis=(0, 1)), every.mean, rtol=1e-13)
    np.testing.assert_allclose(every.trace.var(), every.covariance[0, 0], rtol=1e-12)


def test_backends_and_splits_agree():
    whole = quick(RING, "UBU", chains=9)
    np.testing.assert_allclose(quick(RING, "UBU", chains=9, backend="array").x, whole.x, rtol=1e-12)
    part = quick(RING, "UBU", chains=4, first_chain=5)
    np.testing.assert_array_equal(part.x, whole.x[5:])
    np.testing.assert_array_equal(part.p, whole.p[5:])


def test_float32():
    run = quick(RING, dtype="float32", chains=64)
    assert run.x.dtype == np.float32
    assert run.mean.dtype == np.float64
    np.testing.assert_allclose(run.x, quick(RING, chains=64).x, atol=1e-3)


def test_start_is_exact_draws_or_what_is_given():
    x0 = np.full((8, 1), 0.3)
    near = quick(x0=x0, h=1e-6, steps=1)
    np.testing.assert_allclose(near.x, x0, atol=1e-4)
    np.testing.assert_allclose(quick(h=1e-6, steps=1).x, BIMODAL.sample(8, seed=1), atol=1e-4)
    assert (
        np.abs(quick(integrator="mild(0.9)", x0=x0, h=1e-6, steps=1).p).max() < 1e-5
    )  # the second row of MILD starts at zero


def test_divergence_is_reported_and_its_group_is_nan():
    with pytest.warns(UserWarning, match=r"ula diverged at h = 3 \(8 of 8 chains, the first at step 6\)"):
        run = quick(integrator="ula", h=[0.5, 3.0], steps=200)
    np.testing.assert_array_equal(run.diverged, [0, 8])
    np.testing.assert_array_equal(run.diverged_at, [-1, 6])
    assert np.isfinite(run.mean[0]).all()
    assert np.isfinite(run.covariance_error[0]).all()
    assert np.isnan(run.mean[1]).all()
    assert np.isnan(run.covariance[1]).all()


def test_a_partly_diverged_group_is_nan():
    """One chain of eight starts where ULA with this step size is unstable in the quartic wall of the double well."""
    x0 = np.zeros((8, 1))
    x0[3] = 5.0
    with pytest.warns(UserWarning, match=r"\(1 of 8 chains"):
        run = quick("double-well", "ula", h=0.3, steps=20, x0=x0)
    assert run.diverged == 1
    assert np.isnan(run.mean).all()
    finite = quick()
    finite.state.escape_step[0, 3] = 5  # a diverged chain with finite values
    assert np.isnan(finite.mean).all()
    assert np.isnan(finite.covariance_error).all()


def test_histograms_count_every_fourth_recorded_state():
    run = quick(RING, steps=30, burn_in=5, chains=7, bins=64)
    assert run.histogram.shape == (7, 2, 66)
    assert np.all(run.histogram.sum(axis=-1) == 8)
    trace = quick(RING, steps=30, burn_in=5, chains=7, thin=1).trace[::4]
    for axis in range(2):
        expected, _ = np.histogram(trace[..., axis], run.edges[axis])
        np.testing.assert_array_equal(run.histogram[:, axis, 1:-1].sum(axis=0), expected)


def test_one_chain_has_no_error():
    assert np.isnan(quick(chains=1).mean_error).all()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"h": None}, "h, delta: exactly one must be given"),
        ({"delta": 0.1}, "h, delta: exactly one must be given"),
        ({"h": 0.0}, "h: must be positive"),
        ({"h": [0.1, np.nan]}, "h: must be positive"),
        ({"h": [[0.1]]}, "h: must be a number or have shape"),
        ({"h": []}, "h: must be a number or have shape"),
        ({"friction": -1}, "friction: must be positive"),
        ({"friction": [1.0, 2.0]}, "friction: must be a number"),
        ({"steps": 0}, "steps: must be at least 1"),
        ({"steps": 1.5}, "steps: must be an integer"),
        ({"burn_in": -1}, "burn_in: must be at least 0"),
        ({"chains": 0}, "chains: must be at least 1"),
        ({"chains": "8"}, "chains: must be an integer"),
        ({"thin": 21}, "thin: must be at least 1 and at most 20"),
        ({"bins": -1}, "bins: must be at least 0"),
        ({"friction": "fast"}, "friction: must be a number"),
        ({"target": 3}, "target: must be a name"),
        ({"target": "gausian"}, "nearest is 'gaussian'"),
        ({"integrator": ["BAOAB"]}, "integrator: must be a name or an Integrator"),
        ({"x0": "origin"}, "x0: must be one of 'target', 'normal', 'uniform'"),
        ({"x0": np.full((8, 1), 1e5)}, "x0: must be finite and within 1000 standard deviations"),
        ({"resume": "nowhere.nc"}, "resume: 'nowhere.nc' is not a saved run"),
        ({"seed": -1}, "seed: must be at least 0"),
        ({"thin": 0}, "thin: must be at least 1"),
        ({"first_chain": 2**32}, "first_chain: .* at most 4294967288"),
        ({"threads": 0}, "threads: must be at least 1"),
        ({"dtype": "float16"}, "dtype: must be float32 or float64"),
        ({"dtype": "nonsense"}, "dtype: must be float32 or float64"),
        ({"backend": "cude"}, "backend: unknown name 'cude'"),
        ({"x0": np.zeros((7, 1))}, r"x0: must have shape \(8, 1\), got \(7, 1\)"),
        ({"x0": np.full((8, 1), np.inf)}, "x0: must be finite"),
        ({"x0": np.full((8, 1), np.nan)}, "x0: must be finite"),
        ({"x0": np.full((8, 1), -1e5)}, "x0: must be finite and within 1000 standard deviations"),
        ({"integrator": "BAOBA_"}, "integrator: unknown name"),
    ],
)
def test_bad_arguments_are_refused(changes, fault):
    with pytest.raises(ValueError, match=fault):
        quick(**changes)


def test_ula_just_above_its_limit_is_diverged_not_a_large_variance():
    """At delta lambda = 2.01 a step multiplies x by -1.01; after 2000 steps x has grown by 4e8 and is still finite.

    The noise of all steps makes the standard deviation grow as 14 * 1.01^n. The largest of 64 chains is about 2.4
    standard deviations from 0 and exceeds 1000 near n = 340.
    """
    with pytest.warns(UserWarning, match=r"ula diverged at h = 2.00499 .* stable up to h = 2 \(uldnum.exact"):
        run = quick(NORMAL, "ula", h=None, delta=2.01, steps=2000, chains=64)
    assert run.diverged == 64
    assert np.isnan(run.covariance).all()
    assert np.abs(run.x).max() < 1e12
    assert 250 < run.diverged_at < 450


def test_a_step_without_a_stationary_law_is_warned_of_before_chains_diverge():
    """At h = 2 on N(0, 1), BAOAB has an eigenvalue of -1, so the variance grows linearly with the number of steps."""
    with pytest.warns(UserWarning, match=r"BAOAB has not diverged yet at h = 2, but .* stable up to h = 2 ") as found:
        run = quick(NORMAL, h=[1.9, 2.0, 1e-9])
    assert len(found) == 1
    assert np.array_equal(run.diverged, [0, 0, 0])


def test_a_component_too_narrow_for_a_step_may_belong_to_a_law():
    """There is no warning if chains leave an unstable component for a wide one on which the scheme is stable."""
    target = uldnum.GaussianMixture([0.1, 0.9], [[0.0], [0.0]], [0.01, 1.0])
    assert quick(target, h=0.5).diverged == 0


def test_a_run_on_a_gaussian_beyond_what_is_exact_is_returned():
    """The stability limit is only computed for precisions up to 1e100."""
    with pytest.warns(UserWarning, match="BAOAB diverged .* take a smaller step"):
        assert quick(uldnum.GaussianMixture([1.0], [[0.0]], [1e-110])).diverged == 8


def test_whole_numbers_of_numpy_do_not_overflow():
    run = quick(steps=np.int16(300), burn_in=np.int8(100), chains=np.int32(8), seed=np.int64(1))
    np.testing.assert_array_equal(run.x, quick(steps=300, burn_in=100).x)
    assert run.recorded_steps == 300


def test_a_run_says_what_it_found():
    """One line for each step size, with the mean of the first three coordinates and its error to two digits."""
    run = quick(h=[0.1, 0.2], burn_in=5)
    title = "Run of BAOAB on bimodal-1d: 8 chains, 20 steps after 5 of burn-in, 26 evaluations per chain, complete"
    means = [f"{run.mean[i, 0]:.2f} ± {run.mean_error[i, 0]:.2f}" for i in range(2)]
    width = max(map(len, means))
    rows = [f"  h    {'mean':{width}}  diverged", f"  0.1  {means[0]:{width}}  0", f"  0.2  {means[1]:{width}}  0"]
    assert repr(run).splitlines() == [title, *rows]
    steps = quick(h=np.linspace(0.1, 0.5, 50))
    assert repr(steps).splitlines()[0].endswith(", complete, 40 of 50 step sizes shown")
    assert [line.split()[0] for line in repr(steps).splitlines()[1:]][::39] == ["h", "0.491837"]
    many = quick(uldnum.GaussianMixture([1.0], [[1.0] * 5], [1.0], name="<b>&"))
    assert repr(many).count(" ± ") == 3
    assert ", ...]" in repr(many)
    html = many._repr_html_()
    assert "<b>" not in html
    assert "<caption>Run of BAOAB on &lt;b&gt;&amp;: 8 chains" in html
    assert html.count("<tr>") == 2


def test_a_run_says_what_is_missing():
    """Diverged chains are counted, and a stopped run says after how many steps."""
    with pytest.warns(UserWarning, match="diverged"):
        run = quick("gaussian", h=[0.5, 5.0])
    lines = repr(run).splitlines()
    assert lines[2].split()[-1] == "0"
    assert lines[3].split() == ["5", "nan", "8"]
    stopped = dataclasses.replace(run, steps=30)
    assert repr(stopped).splitlines()[0].endswith("21 evaluations per chain, stopped after 20 steps")
    images = uldnum.targets.DataMixture(np.zeros((1, 1, 2, 2)))
    run = uldnum.sample(images.at(0.5), "ula", h=0.5, steps=2, chains=3, progress=False)
    assert f"mean {run.x.mean():.3g}, deviation {run.x.std():.3g}" in repr(run)


@pytest.mark.slow
def test_a_million_chains_stay_below_a_gibibyte():
    script = (
        "import resource, uldnum; uldnum.sample('ring-8', 'BAOAB', h=0.2, steps=1000, chains=10**6, bins=256);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2**20  # KiB

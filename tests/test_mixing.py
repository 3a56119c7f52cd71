"""Mixing diagnostics and the mixing study, against exact autocorrelation times."""

import numpy as np
import pytest
import xarray as xr

import uldnum
from uldnum.diagnostics import (
    autocorrelation_time,
    chain_mean_times,
    effective_sample_size,
    hopping_rate,
    kolmogorov,
    relaxation,
    time_below,
    wasserstein_1,
)
from uldnum.plotting import draw_mixing, save

SIX = ["ula", "baoab-limit", "BAOAB", "OBABO", "UBU", "mild(0.5)"]


@pytest.mark.parametrize("precision", [*(pytest.param(p, marks=pytest.mark.slow) for p in (0.1, 1.0)), 10.0])
def test_times_on_gaussians_are_exact(precision):
    """Times of six integrators, three step sizes and two observables, from chain means, equal the exact ones.

    The limit for the 36 numbers from 8192 chains is 4.5 standard errors (false-fail rate 3e-4 for each precision). An
    error of 7% is detected. A run lasts at least 200 autocorrelation times, so the bias of a finite run, 1/400, is a
    sixth of a standard error.
    """
    width = precision**-0.5
    target = uldnum.GaussianMixture([1.0], [[0.0]], [width**2], name="of this precision")
    study = uldnum.studies.mixing(
        target, SIX, np.array([0.4, 0.7, 1.2]) * width, friction=1 / width, nfe=6000, burn_in=300, chains=8192,
        progress=False,
    ).isel(friction=0)  # fmt: skip
    assert bool(study.resolved.all())
    assert float(study.time.max()) < 6000 / 200
    deviations = (study.time - study.exact_time) / study.time_error
    assert float(np.abs(deviations).max()) < 4.5
    assert float((study.time_error / study.time).max()) < 0.017


@pytest.mark.parametrize("h", [[1.2], pytest.param([0.4, 0.8], marks=pytest.mark.slow)])
def test_times_on_the_mixture_are_exact(h):
    """12 times per step size equal those of the transfer operator within 4.5 standard errors."""
    study = uldnum.studies.mixing(
        "bimodal-1d", SIX, h, friction=1.0, nfe=20_000, burn_in=300, chains=4096, exact=True, progress=False
    ).isel(friction=0)
    assert bool(study.resolved.all())
    assert bool(study.exact_time.notnull().all())
    assert float(np.abs((study.time - study.exact_time) / study.time_error).max()) < 4.5
    assert float((study.time_error / study.time).max()) < 0.025


@pytest.mark.parametrize(("name", "h", "friction"), [("ula", 0.5, 1.0), ("BAOAB", 0.6, 0.6), ("UBU", 1.0, 2.0)])
def test_the_window_finds_the_time(name, h, friction):
    """Times of x and x^2 from a trace with Sokal's window are exact within 4.5 standard errors.

    There are six numbers with a false-fail rate of 5e-4. Errors are jackknife errors over 32 batches, so the tails are
    those of Student's t. An error of 7% is detected.
    """
    run = uldnum.sample("gaussian", name, h=h, friction=friction, steps=1500, chains=2048, thin=1, progress=False)
    law = uldnum.exact.gaussian(name, h, friction=friction)
    for power, observable in ((1, "x"), (2, "x^2")):
        time = autocorrelation_time(run.trace[:, :, 0] ** power)
        assert abs(time.value - law.autocorrelation_time(observable)) < 4.5 * time.error
        assert time.error < 0.016 * time.value


def test_the_window_of_a_known_series():
    """An autoregression with coefficient 0.8 has the time (1 + 0.8)/(1 - 0.8) = 9 draws.

    A trace of every third draw has the corresponding time in score evaluations. The limit is 4 jackknife errors over 32
    batches; the false-fail rate is 7e-4, because Student's t has a probability of 4e-4 beyond it. An error of 2.5% is
    detected.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 500))
    steps = [x[0]]
    for noise in rng.normal(size=(8000, 500)):
        steps.append(0.8 * steps[-1] + 0.6 * noise)
    time = autocorrelation_time(np.array(steps))
    assert abs(time.value - 9) < 4 * time.error < 0.3
    thinned = autocorrelation_time(np.array(steps)[::3], nfe=3.0)
    assert abs(thinned.value - 3 * (1 + 0.8**3) / (1 - 0.8**3)) < 4 * thinned.error
    with pytest.raises(
        ValueError, match=r"^series: must be longer than 5 autocorrelation times, each at least .* draws, got 20$"
    ):
        autocorrelation_time(np.array(steps)[:20])
    with pytest.raises(ValueError, match=r"^series: must have shape \(draws, chains\)"):
        autocorrelation_time(np.zeros(5))


def test_chain_means_count_evaluations_not_steps():
    """The unit of times is score evaluations, of which ABAOABA has two per step.

    Two times are exact within 4 standard errors (false-fail rate 1e-4). An error of 9% is detected; in units of steps
    the times would be half as large. The time of x^2 needs histograms.
    """
    run = uldnum.sample("gaussian", "ABAOABA", h=0.8, steps=4000, burn_in=100, chains=4096, bins=256, progress=False)
    times = chain_mean_times(run)
    law = uldnum.exact.gaussian("ABAOABA", 0.8)
    for observable in ("x", "x^2"):
        value, error = times[observable]
        assert abs(value[0] - law.autocorrelation_time(observable)) < 4 * error[0] < 0.1 * value[0]
    bare = uldnum.sample("gaussian", "ABAOABA", h=0.8, steps=40, chains=8, progress=False)
    assert set(chain_mean_times(bare)) == {"x"}


def test_a_gaussian_about_another_mean():
    """For N(2, 1), where x^2 fluctuates with both x and (x - 2)^2, exact and sampled times agree.

    Two times are exact within 4 standard errors (false-fail rate 1e-4). An error of 9% is detected; the time of
    (x - 2)^2 is half that of x^2.
    """
    target = uldnum.GaussianMixture([1.0], [[2.0]], [1.0], name="about 2")
    study = uldnum.studies.mixing(target, "ula", 0.5, nfe=6000, chains=4096, progress=False).isel(friction=0, h=0)
    assert np.all(np.abs(study.time - study.exact_time) < 4 * study.time_error)
    assert np.all(study.time_error < 0.025 * study.time)
    centred = uldnum.exact.gaussian("ula", 0.5)
    exact = float(study.exact_time.sel(observable="x^2").squeeze())
    assert centred.autocorrelation_time("x^2") < exact < centred.autocorrelation_time("x")


def test_effective_sample_sizes_by_arviz():
    run = uldnum.sample("gaussian", "ula", h=0.5, steps=2000, burn_in=50, chains=8, thin=1, progress=False)
    found = effective_sample_size(run)
    exact = uldnum.exact.gaussian("ula", 0.5).autocorrelation_time("x")
    # The noise of ArviZ for 16 000 draws with a time of 15 is below 10%.
    assert float(found.bulk_per_nfe.squeeze()) == pytest.approx(1 / exact, rel=0.25)
    assert 0.99 < float(found.r_hat.squeeze()) < 1.05
    with pytest.raises(ValueError, match="no trace"):
        effective_sample_size(uldnum.sample("gaussian", "ula", h=0.5, steps=5, chains=4, progress=False))


def test_hops_are_counted_from_core_to_core():
    """Two narrow modes are at -5 and 5; 0 is in the core of neither."""
    target = uldnum.GaussianMixture([0.5, 0.5], [[-5.0], [5.0]], [1.0, 1.0])
    path = [-5, 0, -5, 0, 5, 5, 0.0, 5, -5, -5]  # two hops in nine intervals
    still = [5.0] * 10
    rate = hopping_rate(np.array([path, still]).T[:, :, None], target, nfe=2.0)
    assert rate.value == pytest.approx((2 + 0) / 2 / (9 * 2.0))
    assert rate.error == pytest.approx((2 / 18) / 2)
    late = [0.0, 0.0, 0.0, -5, -5, -5, 5, 5, 5, 5]  # time starts with the first core
    assert hopping_rate(np.array([late]).T[:, :, None], target).value == pytest.approx(1 / 6)
    never = hopping_rate(np.array([still, still]).T[:, :, None], target)
    assert never == (0.0, pytest.approx(1 / 18))


def test_distances_fall_from_a_stated_start():
    """If all chains start at 0 on N(0, 1), ULA is Gaussian with a known variance, which gives the exact distances.

    Two distances at five times are exact within 4.5 standard errors or noise floors (false-fail rate 7e-5).
    """
    gaussian, h, n = uldnum.target("gaussian"), 0.3, 8192
    run = uldnum.sample(gaussian, "ula", h=h, steps=60, chains=n, thin=12, x0=np.zeros((n, 1)), progress=False)
    q = (1 - h**2 / 2) ** 2
    times = 12 * np.arange(1, 6)
    variance = h**2 * (1 - q**times) / (1 - q)
    found = []
    for x, v in zip(run.trace, variance, strict=True):
        w, k = wasserstein_1(x, gaussian), kolmogorov(x, gaussian)
        ratio = np.sqrt(v)
        exact = abs(ratio - 1) * np.sqrt(2 / np.pi)
        assert abs(w.value[0] - exact) < 4.5 * max(w.error[0], w.floor[0])
        grid = np.linspace(-4, 4, 2001)
        cdf = gaussian.cdf(grid)
        gap = np.abs(gaussian.cdf(grid / ratio) - cdf).max()
        assert abs(k.value[0] - gap) < 4.5 * max(k.error[0], k.floor[0]) + 0.004  # the edges of the bins
        found.append(w.value[0])
    assert time_below(times, np.array(found), 0.1) < 60


def test_the_way_from_one_mode_to_all():
    """If all chains start in one mode of ring-8, all distances fall to their floors, mode_weights last.

    The final mode_weights are within 2.5 floors. Of 6000 sets of 1024 exact draws, 0.1% are beyond 2.04 floors and none
    beyond 2.25, so the false-fail rate is about 1e-4. An error of 0.08 in the weights is detected.

    The time to reach 0.1 is 150 with a standard deviation of 10 over 150 seeds. It must be within 5 standard deviations
    (false-fail rate 6e-7). An error of a third is detected.
    """
    target, chains = uldnum.target("ring-8"), 1024
    start = np.tile(target.means[0], (chains, 1))
    run = uldnum.sample(target, "ula", h=0.3, steps=1000, chains=chains, x0=start, thin=50, progress=False)
    found = relaxation(run, target)
    assert list(found.distance.values) == ["wasserstein_1", "kolmogorov", "sliced_wasserstein_2", "mode_weights"]
    np.testing.assert_allclose(found.nfe, 50 * np.arange(1, 21))
    assert np.all(found.value.isel(nfe=0) > 4 * found.floor.isel(nfe=0))
    weights = found.sel(distance="mode_weights")
    assert weights.value[-1] < 2.5 * weights.floor[-1]
    assert 100 < time_below(found.nfe.values, weights.value.values, 0.1) < 200


def test_the_time_to_reach_a_distance():
    times, distances = np.array([0.0, 10, 20, 30]), np.array([1.0, 0.4, 0.6, 0.2])
    assert time_below(times, distances, 0.5) == pytest.approx(22.5)  # not 10, because the distance rises again
    assert time_below(times, distances, 2.0) == 0
    assert time_below(times, distances, 0.1) == np.inf
    assert time_below(times, np.array([np.nan, 0.3, 0.2, 0.1]), 0.5) == 10


def test_where_chains_diverged_there_is_no_distance():
    x = np.zeros((64, 1))
    x[3] = np.nan
    gaussian = uldnum.target("gaussian")
    assert all(np.isnan(part).all() for part in (*wasserstein_1(x, gaussian), *kolmogorov(x, gaussian)))


def test_what_lies_beyond_the_histograms_leaves_a_time_unknown():
    """If ULA is three times as wide as the target, 1% of the positions are beyond the histograms: the time is NaN."""
    given = {"friction": 1.0, "nfe": 2000, "chains": 64, "progress": False}
    mixture = uldnum.GaussianMixture([0.5, 0.5], [[-0.5, 0.0], [0.5, 0.0]], [1.0, 1.0])
    study = uldnum.studies.frontier(mixture, "ula", [0.5, 1.9], **given).squeeze()
    assert np.isnan(study.time.sel(observable="x^2").values).tolist() == [False, True]
    assert np.isfinite(study.time.sel(observable="x").values).all()
    assert np.isnan(study.cost.values).tolist() == [False, True]
    assert uldnum.studies.advise(study.expand_dims(["integrator", "friction"]), 10.0).h == 0.5


def test_the_study_marks_lower_bounds_and_is_drawn(tmp_path):
    study = uldnum.studies.mixing("ring-8", ["ula", "BAOAB"], [0.1, 0.5], friction=[1, 3], nfe=400, chains=64)
    assert not bool(study.resolved.sel(integrator="ula", h=0.1).all())
    assert study.exact_time.isnull().all()
    assert float(study.hops.sel(integrator="BAOAB", h=0.5).min()) > 0
    assert dict(study.sizes) == {"integrator": 2, "friction": 2, "h": 2, "observable": 2}
    assert study.time.attrs["units"] == "score evaluations"
    # An overdamped scheme does not depend on the friction.
    ula = study.time.sel(integrator="ula")
    np.testing.assert_array_equal(ula.isel(friction=0), ula.isel(friction=1))
    study.to_netcdf(tmp_path / "mixing.nc")
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "mixing.nc"), study)
    save(draw_mixing(tmp_path / "mixing.nc"), tmp_path / "mixing.png", tmp_path / "mixing.svg")
    assert (tmp_path / "mixing.svg").stat().st_size > 10_000


def test_users_take_part_by_passing_objects():
    """A study accepts a target with only a known standard deviation, and a user-defined integrator."""
    mine = uldnum.UserTarget(
        lambda x: -x, 2, sampler=lambda n, seed, first: np.random.default_rng(seed).normal(size=(n, 2)),
        standard_deviation=np.ones(2), name="mine",
    )  # fmt: skip
    scheme = uldnum.splitting("OBAABO")
    study = uldnum.studies.mixing(mine, scheme, [0.5], nfe=200, chains=64, progress=False)
    assert np.isfinite(study.time).all()
    with pytest.raises(ValueError, match="does not provide its moments"):
        uldnum.studies.frontier(mine, scheme, [0.5])

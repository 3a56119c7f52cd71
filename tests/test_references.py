"""Biases against reference samples: coverage of errors, floors, every kind of reference, vectors and images."""

import numba
import numpy as np
import pytest
from scipy import stats

import uldnum
from uldnum.diagnostics import (
    Reference,
    kernel_stein_discrepancy,
    kolmogorov,
    maximum_mean_discrepancy,
    mean_bias,
    observable_bias,
    relaxation,
    second_moment_bias,
    signed_bias,
    sliced_wasserstein_2,
    wasserstein_1,
)
from uldnum.diagnostics.bias import expected, rms_bias, signed
from uldnum.diagnostics.expectations import against
from uldnum.studies.points import Sampled
from uldnum.targets import DataMixture, UserTarget

B = 0.2
SCORE_ONLY = UserTarget(lambda x: -x, 1, name="score-only")
SPREAD = 1.25
QUICK = {"nfe": 60, "burn_in": 20, "chains": 64, "progress": False}


def residual(x):
    return x[:, 1] + B * (x[:, 0] ** 2 - 1)


def banana_score(x):
    r = residual(x)
    return np.stack([-x[:, 0] - 2 * B * x[:, 0] * r, -r], axis=1)


@numba.njit
def compiled_banana(x, out):
    r = x[1] + B * (x[0] ** 2 - 1)
    out[0], out[1] = -x[0] - 2 * B * x[0] * r, -r


def banana_draws(n, seed):
    z = np.random.default_rng(seed).normal(size=(n, 2))
    return np.stack([z[:, 0], B * (1 - z[:, 0] ** 2) + z[:, 1]], axis=1)


BANANA = UserTarget(banana_score, 2, name="banana")


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def correlated(seed, draws, chains, memory=0.9):
    """Return a stationary autoregressive trace of variance 1, shape (draws, chains, 1)."""
    noise = normals(seed, draws, chains, 1)
    x = [noise[0]]
    for one in noise[1:]:
        x.append(memory * x[-1] + np.sqrt(1 - memory**2) * one)
    return np.array(x)


# ----------------------------------------------------------------------------------------------- coverage and floors


def of_moment(power, shift=0.0, estimate=rms_bias):
    """Return a function of samples and a reference that estimates the bias of E[x^power]."""

    def of(x, reference):
        known = against(SCORE_ONLY, reference)
        return estimate((x + shift) ** power, expected(known, lambda y: y**power, len(x)))

    return of


def of_distance(distance, **options):
    return lambda x, reference: distance(x, SCORE_ONLY, reference=reference, **options)


def of_displacement(x, reference):
    """Return the Kolmogorov distance of N(0.5, 1), whose gap has one maximum. That of N(0, s^2) has two equal ones."""
    return kolmogorov(x / SPREAD + 0.5, SCORE_ONLY, reference=reference)


def widened_truth():
    """Return the Kolmogorov distance of N(0, s^2) and N(0, 1)."""
    x = np.linspace(-4, 4, 8001)
    return np.abs(stats.norm.cdf(x) - stats.norm.cdf(x / SPREAD)).max()


def discrepancy_truth():
    """Return the squared discrepancy of N(0, s^2) and N(0, 1); E exp(-r^2/2) = (1 + v)^(-1/2) if r has variance v."""
    return sum(sign / np.sqrt(1 + v) for sign, v in ((1, 2 * SPREAD**2), (1, 2.0), (-2, 1 + SPREAD**2)))


# Estimates for samples of N(0, s^2) against as many of N(0, 1), whose noise is two fifths of the variance, and truths.
CASES = {
    "mean": (of_moment(1, shift=0.4), 0.4),
    "second_moment": (of_moment(2), (SPREAD**2 - 1) / np.sqrt(2)),
    "signed second_moment": (of_moment(2, estimate=signed), (SPREAD**2 - 1) / np.sqrt(2)),
    "wasserstein_1": (of_distance(wasserstein_1), (SPREAD - 1) * np.sqrt(2 / np.pi)),
    "kolmogorov": (of_distance(kolmogorov), widened_truth()),
    "kolmogorov of a displacement": (of_displacement, 2 * stats.norm.cdf(0.25) - 1),
    "sliced_wasserstein_2": (of_distance(sliced_wasserstein_2), SPREAD - 1),
    "maximum_mean_discrepancy": (of_distance(maximum_mean_discrepancy), discrepancy_truth()),
}


def covered(name, seeds):
    """Return how many intervals of 95% cover the truth."""
    estimate, truth = CASES[name]
    hits = 0
    for seed in range(seeds):
        x, y = SPREAD * normals(seed, 1500, 1), normals(seed + 10**6, 1500, 1)
        found = estimate(x, y)
        hits += bool(abs(np.squeeze(found.value) - truth) < stats.t.ppf(0.975, 31) * np.squeeze(found.error))
    return hits


@pytest.mark.parametrize("name", CASES)
def test_intervals_include_the_noise_of_the_reference(name):
    """The number of 40 intervals of 95% that cover the truth is binomial(40, 0.95); below 32 has probability 2e-4.

    The slow test detects smaller faults.
    """
    assert covered(name, 40) >= 32


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_intervals_include_the_noise_of_the_reference_over_200_seeds(name):
    """The coverage over 200 seeds is within the limits of binomial(200, 0.95) at 1e-3 on either side, 179 and 198.

    Without the noise of the reference, the errors of the mean would be too small by a factor of 0.78 and cover 87%,
    which fails with a probability of 0.8.
    """
    low, high = stats.binom.ppf([1e-3, 1 - 1e-3], 200, 0.95)
    assert low <= covered(name, 200) <= high


def test_a_correlated_reference_has_larger_errors():
    """The variance of the mean of a trace with coefficient 0.9 is 16 times that of independent draws, at 100 draws.

    The exact ratio is (1 + 2 sum_n (1 - n/100) 0.9^n) = 17.2. Each variance is estimated from 31 degrees of freedom, a
    relative standard error of 0.25; the mean over 20 seeds has 0.08 for the ratio, so the limits are 5 of them away.
    """
    ratios = []
    x = normals(1, 10**5, 1)
    for seed in range(20):
        chains = correlated(seed, 100, 320)
        each = [
            of_moment(1, estimate=signed)(x, Reference.of(given, (1,))).error
            for given in (chains, normals(seed + 99, 32_000, 1))
        ]
        ratios.append((each[0] ** 2 - 1e-5) / (each[1] ** 2 - 1e-5))
    assert np.mean(ratios) == pytest.approx(17.2, rel=0.4)


@pytest.mark.parametrize("name", ["second_moment", "wasserstein_1", "sliced_wasserstein_2"])
def test_the_floor_is_that_of_an_unbiased_run_against_this_reference(name):
    """The root mean square of 60 values without bias equals the root mean square floor within 35%.

    The standard error of the ratio is 9% for one degree of freedom, so the limit is 4 of them away. A floor without the
    noise of the reference, which has half as many samples as the run, would be too small by a factor of 0.58.
    """
    estimate, pairs = CASES[name][0], []
    for seed in range(60):
        found = estimate(normals(seed, 600, 1), normals(seed + 10**6, 300, 1))
        pairs.append((np.squeeze(found.value), np.squeeze(found.floor)))
    value, floor = np.sqrt(np.mean(np.square(pairs), axis=0))
    assert value == pytest.approx(floor, rel=0.35)


# ------------------------------------------------------------------------------------------------ kinds of references


def test_every_kind_of_reference_gives_the_same_samples(tmp_path):
    draws = normals(0, 200, 1)
    np.save(tmp_path / "draws.npy", draws)
    run = uldnum.sample(SCORE_ONLY, "BAOAB", h=0.5, steps=20, chains=200, thin=5, x0=draws, progress=False)
    run.save(tmp_path / "run.nc")
    for given in (
        tmp_path / "draws.npy",
        str(tmp_path / "draws.npy"),
        lambda n, seed: draws,
        Reference.of(draws, (1,)),
    ):
        assert Reference.of(given, (1,)).fingerprint == Reference.of(draws, (1,)).fingerprint
    assert Reference.of(run, (1,)).fingerprint == Reference.of(tmp_path / "run.nc", (1,)).fingerprint
    np.testing.assert_array_equal(Reference.of(run, (1,)).samples, run.trace)
    assert Reference.of(run, (1,)).origin == (
        f"trace of a run of {run.settings.integrator} on {run.settings.target}, {run.trace.size} samples"
    )
    short = uldnum.sample(SCORE_ONLY, "BAOAB", h=0.5, steps=3, chains=200, x0=draws, progress=False)
    np.testing.assert_array_equal(Reference.of(short, (1,)).samples[0], short.x)
    asked = []
    Reference.of(lambda n, seed: asked.append((n, seed)) or np.random.default_rng(seed).normal(size=(n, 1)), (1,), 3)
    assert asked == [(2**16, 3)]
    assert "200 samples" in repr(Reference.of(draws, (1,)))


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (np.zeros((9, 2)), r"reference: must have shape \(n, 1\) or \(draws, chains, 1\), got \(9, 2\)"),
        (np.full((9, 1), np.nan), "reference: must be finite"),
        (np.zeros((9, 1)), "reference: must have a positive variance in every coordinate"),
        (np.zeros((7, 1)), "reference: must have at least 8 independent samples, got 7"),
        ("no such file.nc", "reference: .* is not a saved run"),
        ("no such file.npy", "reference: .* cannot be read"),
        (lambda n, seed: 1 / 0, "reference: the function failed with ZeroDivisionError"),
        (
            None,
            "target: 'score-only' does not provide its moments and cdf; .*, or pass reference=samples of the target",
        ),
    ],
)
def test_bad_references_are_refused_before_any_run(given, fault):
    with pytest.raises(ValueError, match=f"^{fault}"):
        uldnum.studies.bias(SCORE_ONLY, "ula", [0.5], reference=given, **QUICK)


def test_runs_that_cannot_be_a_reference():
    several = uldnum.sample("gaussian", "ula", h=[0.1, 0.2], steps=2, chains=8, progress=False)
    with pytest.raises(ValueError, match="run: must have a single step size"):
        Reference.of(several, (1,))
    with pytest.warns(UserWarning, match="diverged"):
        lost = uldnum.sample("gaussian", "ula", h=3.0, steps=200, chains=8, progress=False)
    with pytest.raises(ValueError, match="reference: must be a run without diverged chains, got 8 diverged"):
        Reference.of(lost, (1,))


def test_a_reference_replaces_what_a_target_knows():
    """Samples of N(0.5, 1) as the reference of N(0, 1): unbiased samples have a bias of -0.5 standard deviations."""
    draws = normals(0, 50_000, 1) + 0.5
    run = uldnum.sample("gaussian", "BAOAB", h=0.5, steps=50, thin=10, chains=2000, bins=128, progress=False)
    for found in (
        signed_bias(run, "gaussian", reference=draws),
        signed_bias(run, "gaussian", lambda x: x, reference=draws),
    ):
        assert abs(found.value[0] + 0.5) < 4.5 * found.error[0]
        assert found.error[0] < 0.03
    for bias in (
        mean_bias(run, "gaussian", reference=draws),
        observable_bias(run, "gaussian", lambda x: x[:, 0], reference=draws),
        wasserstein_1(run, "gaussian", reference=draws),
        sliced_wasserstein_2(run.x, "gaussian", reference=draws),
    ):
        assert abs(np.squeeze(bias.value) - 0.5) < 4.5 * np.squeeze(bias.error)
    assert mean_bias(run, "gaussian").value < 4 * mean_bias(run, "gaussian").floor
    late = relaxation(run, SCORE_ONLY, reference=draws)
    assert list(late.distance.values) == ["wasserstein_1", "kolmogorov", "sliced_wasserstein_2"]
    with pytest.raises(ValueError, match="pass reference=samples"):
        relaxation(run, SCORE_ONLY)


def test_chains_start_from_different_samples():
    """Every sample is drawn once before one is repeated, and draw i depends only on the seed and on i."""
    known = against(SCORE_ONLY, np.arange(50.0)[:, None])
    draws = known.draws(60, 3)
    assert sorted(draws[:50, 0]) == list(range(50))
    np.testing.assert_array_equal(draws[50:], draws[:10])
    np.testing.assert_array_equal(known.draws(7, 3, first=48), draws[48:55])
    assert not np.array_equal(known.draws(60, 4), draws)


def test_distances_of_diverged_runs_are_nan():
    """Positions of diverged chains are not compared; the only warning names the step size."""
    with pytest.warns(UserWarning, match="diverged") as said:
        study = uldnum.studies.bias(SCORE_ONLY, "ula", [0.5, 4.0], reference=normals(0, 99, 1), **QUICK | {"nfe": 900})
    assert [str(one.message) for one in said] == ["ula diverged at h = 4; its statistics there are NaN"]
    assert np.isfinite(study.bias.sel(h=0.5)).all()
    assert np.isnan(study.bias.sel(h=4.0)).all()


def test_grouped_runs_are_measured_group_by_group():
    draws = normals(0, 5000, 1)
    run = uldnum.sample("gaussian", "ula", h=[0.2, 1.2], steps=50, chains=400, bins=64, progress=False)
    second = second_moment_bias(run, "gaussian", reference=draws)
    assert second.value.shape == wasserstein_1(run, "gaussian", reference=draws).value[:, 0].shape == (2,)
    assert second.value[1] > 4 * second.floor[1]


# ---------------------------------------------------------------------------------------------------------- long runs


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_long_run_has_the_moments_of_the_target(temperature):
    """Means of x and x^2 are within 4.5 noises and the limit of the bias of the exact ones; false-fail rate 4e-5.

    Between temperatures 1 and 3, the mean of x^2 differs by 30 noises.
    """
    target = uldnum.target("bimodal-1d")
    found = Reference.long(target, noise=0.01, temperature=temperature)
    hot = against(target, None, temperature)
    known, x = found.evidence, found.samples.astype(float)
    assert known.bias < known.noise <= 0.01
    assert known.evaluations > 2 * x.size
    for power in (1, 2):
        first, second = hot.moment(power)[0], hot.moment(2 * power)[0]
        gap = (np.mean(x**power) - first) / np.sqrt(second - first**2)
        assert abs(gap) < known.bias + 4.5 * known.noise
    label = uldnum.integrator("baoab-limit").at(temperature=temperature).label
    assert found.origin.startswith(f"{x.size} samples of a long run of {label} on bimodal-1d with h = {known.h:.3g}")
    assert Reference.of(found, (1,)).evidence == known
    assert Reference.long(target, noise=0.01, temperature=temperature).fingerprint == found.fingerprint
    run = uldnum.sample(target, "ula", h=0.3, steps=64, chains=64, temperature=temperature + 1, progress=False)
    with pytest.raises(ValueError, match=f"at the temperature {temperature + 1:g} of what is measured"):
        mean_bias(run, target, reference=found)


def test_a_long_run_finds_a_target_of_another_scale():
    """Only the score of N(30, 0.2^2) is known; chains start from N(0, 1). The false-fail rate of the mean is 7e-6."""
    found = Reference.long(UserTarget(lambda x: (30 - x) / 0.04, 1, name="displaced"), noise=0.1)
    assert abs(found.mean[0] - 30) < 0.2 * 4.5 * 0.1
    assert found.standard_deviation[0] == pytest.approx(0.2, rel=0.3)


def test_a_long_run_that_cannot_know_says_so(monkeypatch):
    """Chains in two modes that are 40 standard deviations apart never reach the noise; one step size gives no bias."""
    apart = uldnum.GaussianMixture([0.5, 0.5], [[-20.0], [20.0]], [1.0, 1.0], name="apart")
    monkeypatch.setattr("uldnum.diagnostics.long_run.STEPS", 2**12)
    with pytest.raises(
        ValueError, match=r"reference: 'long' did not reach a noise of 0\.1 .* on 'apart' in 4096 steps"
    ):
        Reference.long(apart, noise=0.1)
    narrow = UserTarget(lambda x: -4 * x * (x**2 / 0.05**2 - 1) / 0.05**2, 1, name="in nm")  # starts at up to 1e5 kT
    with pytest.raises(ValueError, match=r"or state the mean and standard_deviation of the target"):
        Reference.long(narrow, noise=0.1)
    monkeypatch.setattr("uldnum.diagnostics.long_run.HALVINGS", 0)
    with pytest.raises(ValueError, match=r"reference: 'long' found no step size on 'gaussian' with a bias below 0\.1"):
        Reference.long("gaussian", noise=0.1)
    with pytest.raises(ValueError, match="noise: must be"):
        Reference.long("gaussian", noise=0.0)


def test_studies_make_a_long_run():
    study = uldnum.studies.bias("bimodal-1d", "ula", [0.8], reference="long", exact=False, **QUICK)
    assert "samples of a long run of baoab-limit on bimodal-1d" in study.attrs["reference"]
    assert study.sizes["metric"] == 11
    with pytest.raises(ValueError, match="integrator: unknown name"):
        uldnum.studies.bias(SCORE_ONLY, "no such scheme", [0.8], reference="long", **QUICK)


# ------------------------------------------------------------------------------------------------------------- studies


def test_the_score_of_the_banana():
    """Central differences of the log density, -(x0^2 + r^2)/2, equal the score; Stein's identity holds for the draws.

    E[s] = 0 and E[x_i s_j] = -delta_ij: 4.5 standard errors, 6 comparisons, false-fail rate 4e-5.
    """
    x, step = banana_draws(1000, 0), 1e-6
    log = lambda x: -(x[:, 0] ** 2 + residual(x) ** 2) / 2  # noqa: E731
    for i in (0, 1):
        e = step * np.eye(2)[i]
        np.testing.assert_allclose((log(x + e) - log(x - e)) / (2 * step), banana_score(x)[:, i], atol=1e-7)
    x = banana_draws(100_000, 1)
    s = banana_score(x)
    for sample in (s, x[:, :1] * s + [1, 0], x[:, 1:] * s + [0, 1]):
        assert np.all(np.abs(sample.mean(axis=0)) < 4.5 * sample.std(axis=0) / np.sqrt(len(x)))


@pytest.mark.parametrize(
    ("compiled", "backend"),
    [(False, "array"), (True, "array"), pytest.param(True, "numba", marks=pytest.mark.slow)],  # compiles a kernel
)
def test_a_score_and_samples_are_enough_for_a_study(compiled, backend):
    """All metrics are measured; ULA at h = 0.9 has too large a second moment and r^2, BAOAB has no resolved bias of r.

    For N(0, 1) the variance of ULA is 1/(1 - h^2/4) = 1.25; the standard error of the bias is about 0.01 here.
    """
    banana = UserTarget(compiled_banana, 2, name="banana") if compiled else BANANA
    options = QUICK | {"nfe": 400, "chains": 512, "backend": backend}
    study = uldnum.studies.bias(
        banana, ["ula", "BAOAB"], [0.3, 0.9], reference=banana_draws(20_000, 0), observables={"r": residual}, **options
    )
    assert list(study.metric.values) == [
        "second_moment", "mean", "wasserstein_1", "kolmogorov", "total_variation", "kl", "virial",
        "kinetic_temperature", "sliced_wasserstein_2", "maximum_mean_discrepancy", "kernel_stein_discrepancy", "r",
        "r^2",
    ]  # fmt: skip
    assert list(study.moment.values) == ["second_moment", "mean", "r", "r^2"]
    unknown = (study.metric == "kinetic_temperature") & (study.integrator == "ula")
    for part in (study.bias, study.error):
        assert (np.isnan(part) == unknown).all()
    assert study.reference == "Reference(array of 20000 samples, shape=(2,))"
    assert study.left_out == ""
    ula = study.sel(integrator="ula", h=0.9)
    assert ula.resolved.sel(metric=["second_moment", "wasserstein_1", "r^2"]).all()
    signed_ = ula.signed_bias
    assert (signed_.sel(moment="second_moment") > 8 * ula.signed_error.sel(moment="second_moment")).all()
    assert np.isnan(signed_.sel(moment="r", axis=1))
    for name in study.moment.values:
        root = np.sqrt((study.signed_bias.sel(moment=name) ** 2).mean("axis"))
        np.testing.assert_allclose(root, study.bias.sel(metric=name), rtol=1e-10)
    np.testing.assert_array_equal(study.resolved, np.abs(study.bias) > 4 * study.floor)
    assert not study.resolved.sel(integrator="BAOAB", metric="r").any()


def test_other_studies_take_a_reference():
    given = QUICK | {"reference": banana_draws(500, 0), "friction": 1.0, "nfe": 1500}
    front = uldnum.studies.frontier(BANANA, "BAOAB", [0.8], observables={"r": residual}, **given)
    assert front.bias.dims == ("integrator", "friction", "h", "metric")
    assert {"bias_resolved", "resolved", "signed_bias"} <= set(front)
    assert uldnum.studies.advise(front, 1.0, metric="r").integrator == "BAOAB"
    with pytest.raises(ValueError, match="metric: unknown name 'q'"):
        uldnum.studies.advise(front, 1.0, metric="q")
    assert np.isfinite(uldnum.studies.mixing(BANANA, "BAOAB", [0.5], **given).time).all()


def test_a_target_that_knows_something_is_measured_by_that():
    """Without a reference, the metrics that the target supplies are measured, and one sentence names the others."""
    some = UserTarget(
        lambda x: -x, 1, sampler=lambda n, seed, first: uldnum.target("gaussian").sample(n, seed, first),
        standard_deviation=[1.0], moment=uldnum.target("gaussian").moment, name="some",
    )  # fmt: skip
    text = (
        "wasserstein_1, kolmogorov, total_variation, kl: left out, because 'some' lacks a cdf ('cdf'); "
        "pass reference=samples"
    )
    with pytest.warns(UserWarning, match="left out") as said:
        study = uldnum.studies.bias(some, "ula", [0.5], **QUICK)
    assert [str(one.message) for one in said] == [study.left_out] == [text]
    assert list(study.metric.values) == ["second_moment", "mean", "virial"]


def test_exact_draws_give_the_expectations_of_observables():
    """On N(0, 1), ULA at h = 1 samples N(0, 4/3): the bias of cos x is e^(-2/3) - e^(-1/2), in units of its deviation.

    The interval of 4.5 standard errors contains the exact value, a false-fail rate of 7e-6, and excludes 0.
    """
    observables, given = {"cos": np.cos}, QUICK | {"nfe": 400, "chains": 512, "exact": False}
    study = uldnum.studies.bias("gaussian", "ula", [1.0], observables=observables, **given).squeeze()
    one = study.sel(metric="cos")
    scale = np.sqrt((1 + np.exp(-2)) / 2 - np.exp(-1))
    truth = (np.exp(-2 / 3) - np.exp(-1 / 2)) / scale
    value, error = (study[name].sel(moment="cos").item() for name in ("signed_bias", "signed_error"))
    assert abs(value - truth) < 4.5 * error < abs(truth)
    assert one.resolved
    assert study.reference == ""
    run = uldnum.sample(SCORE_ONLY, "ula", h=0.1, steps=3, chains=9, x0=normals(0, 9, 1), progress=False)
    with pytest.raises(ValueError, match="'score-only' does not provide the expectation of observables"):
        observable_bias(run, SCORE_ONLY, np.cos)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"r": 3}, "observables: must be a dictionary of functions"),
        ({"mean": np.abs}, "observables: must have names other than the metrics"),
        ({"r": lambda x: x[:3]}, r"observable: must return an array of shape \(n,\) or \(n, k\)"),
        ({"r": lambda x: 0 * x}, "reference: must give every observable a positive variance"),
    ],
)
def test_bad_observables_are_refused(given, fault):
    with pytest.raises(ValueError, match=f"^{fault}"):
        uldnum.studies.bias(SCORE_ONLY, "ula", [0.5], reference=normals(0, 99, 1), observables=given, **QUICK)


def test_keys_contain_the_reference_and_the_observables():
    def key(draws, **observables):
        known = against(SCORE_ONLY, draws)
        return Sampled(known, uldnum.integrator("ula"), 0.5, 1.0, 9, 0, 8, 0, None, observables=observables).key

    draws = normals(0, 99, 1)
    one, other = (lambda x, power=power: np.abs(x) ** power for power in (1, 2))
    assert key(draws) == key(draws.copy())
    assert key(draws, r=one) == key(draws, r=one)
    assert len({key(draws), key(draws + 1e-9), key(draws, r=one), key(draws, q=one), key(draws, r=other)}) == 5


# -------------------------------------------------------------------------------------------------------------- images


def test_images_are_measured():
    """A level of eight random images of 2 x 6 x 6 pixels against its own draws; every metric is a number.

    The chains start from the reference and ULA takes small steps, so no distance is resolved: 10 metrics within 5
    floors. Against images that are displaced by 1.5 in each pixel, all distances are resolved.
    """
    level = DataMixture(np.random.default_rng(0).normal(size=(8, 2, 6, 6))).at(sigma=0.8)
    options = QUICK | {"nfe": 40, "chains": 128}
    draws = level.sample(2000, 5)
    with pytest.raises(ValueError, match=r"does not provide its moments and cdf; .*, or pass reference=target.sample"):
        uldnum.studies.bias(level, "ula", [0.2], **options)
    near = uldnum.studies.bias(level, "ula", [0.2], reference=draws, **options).squeeze()
    assert near.sizes["metric"] == 10
    assert near.sizes["axis"] == 72
    assert np.all(np.isfinite(near.bias) & np.isfinite(near.error) & (near.floor > 0))
    assert np.all(np.abs(near.bias) < 5 * near.floor)
    run = uldnum.sample(level, "ula", h=0.2, steps=8, chains=128, thin=4, progress=False)
    for measure in (sliced_wasserstein_2, maximum_mean_discrepancy):
        far = measure(run.trace, level, reference=draws + 1.5)
        assert far.value > 4 * far.floor
    assert mean_bias(run, level, reference=draws + 1.5).value > 1
    stein = kernel_stein_discrepancy(run.x, level)
    flat = uldnum.UserTarget(lambda x: level.score(x.reshape(-1, 2, 6, 6)).reshape(x.shape), 72)
    assert kernel_stein_discrepancy(run.x.reshape(128, 72), flat).value == pytest.approx(float(stein.value), rel=1e-5)


def test_a_user_target_may_have_a_shape():
    image = UserTarget(lambda x: -x, (1, 3, 4), name="image")
    vector = UserTarget(lambda x: -x, 12, name="vector")
    assert image.shape == (1, 3, 4)
    assert UserTarget(lambda x: -x, (5,)).shape == (5,)
    x0 = normals(0, 16, 12)
    common = {"h": 0.5, "steps": 9, "chains": 16, "seed": 3, "progress": False}
    one = uldnum.sample(image, "BAOAB", x0=x0.reshape(16, 1, 3, 4), **common)
    other = uldnum.sample(vector, "BAOAB", x0=x0, **common)
    np.testing.assert_allclose(one.x.reshape(16, 12), other.x, rtol=0, atol=1e-14)
    for dimension, fault in (
        ((), "at most 2"),
        ((1, 0), "at least 1"),
        ((2**20, 2**20), "at most 2"),
        ("a", "integer"),
    ):
        with pytest.raises(ValueError, match=f"^dimension: .*{fault}"):
            UserTarget(lambda x: -x, dimension)
    with pytest.raises(ValueError, match="dimension: must be a number for a Numba score"):
        UserTarget(compiled_banana, (1, 2))
    with pytest.raises(ValueError, match=r"x: must have shape \(n, 1, 3, 4\), got \(2, 12\)"):
        image.score(np.zeros((2, 12)))

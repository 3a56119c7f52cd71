"""The registry of metrics, which studies, tables and figures read."""

import numpy as np
import pytest
import xarray as xr

import uldnum
from uldnum.cli import app
from uldnum.cli.bias import table
from uldnum.diagnostics import Bias, relaxation
from uldnum.diagnostics.metrics import METRICS, TIMES, Metric, study_metric, study_metrics
from uldnum.exact import gaussian
from uldnum.plotting import draw_frontier
from uldnum.studies.exact import GaussianMarginals, OneDimensionalLaw
from uldnum.studies.points import Exact

GAUSSIAN = uldnum.target("gaussian")


def fourth_moment_of_run(run, target):
    """Return |E[x^4] - 3| from the histogram, without an error."""
    middle = (run.edges[:, 1:] + run.edges[:, :-1]) / 2
    counts = run.histogram.sum(axis=0)[:, 1:-1]
    return Bias(abs((counts * middle**4).sum() / counts.sum() - 3), np.array(0.0), np.array(0.0))


def fourth_moment_of_positions(x, target):
    return Bias(abs(np.mean(x**4) - 3), np.array(0.0), np.array(0.0))


FOURTH = Metric(
    "fourth_moment",
    "fourth moment",
    "units of x⁴",
    of_run=fourth_moment_of_run,
    of_positions=fourth_moment_of_positions,
    exact=lambda law: abs(law.moment_error(4)[0]),
    known=lambda target: target.shape == (1,),
)


@pytest.fixture
def fourth(monkeypatch):
    """Register a metric by a single entry."""
    monkeypatch.setitem(METRICS, FOURTH.name, FOURTH)
    return FOURTH


GIVEN = {"nfe": 500, "burn_in": 50, "chains": 256, "backend": "array", "progress": False}


def test_a_metric_takes_one_declaration(fourth, tmp_path, monkeypatch):
    """A registered metric appears in datasets (sampled and exact), figures, tables and advice."""
    study = uldnum.studies.frontier("gaussian", ["ula", "BAOAB"], [0.5, 0.9], friction=1.0, **GIVEN)
    assert list(study.metric.values) == [*study_metrics()] == [
        "second_moment", "mean", "wasserstein_1", "kolmogorov", "total_variation", "kl", "virial",
        "kinetic_temperature", "fourth_moment",
    ]  # fmt: skip
    one = study.sel(metric="fourth_moment", integrator="ula").squeeze()
    variance = 1 / (1 - np.array([0.5, 0.9]) ** 2 / 4)
    np.testing.assert_allclose(one.exact, 3 * variance**2 - 3, rtol=1e-12)
    # Var(x^4) is 96 on the target. With 256 chains of about 70 independent samples the standard error is 0.07, or 0.11
    # if the variance is 1.25 times as large. At 5 standard errors the false-fail rate is 1e-6; an error of a third of
    # the bias is detected.
    np.testing.assert_allclose(one.bias, one.exact, rtol=0, atol=0.6)
    advice = uldnum.studies.advise(study, 0.3, metric="fourth_moment")
    assert (advice.integrator, advice.h) == ("BAOAB", 0.9)
    study.to_netcdf(tmp_path / "study.nc")
    (axes,) = draw_frontier(tmp_path / "study.nc", metric="fourth_moment").axes
    assert axes.get_xlabel() == "bias: fourth moment\n(units of x⁴)"
    with pytest.raises(
        ValueError, match=r"^metric: the study does not have 'fourth_moment'; it has second_moment, mean"
    ):
        uldnum.studies.advise(study.sel(metric=list(study.metric.values[:4])), 0.3, metric="fourth_moment")


def test_a_metric_is_drawn_and_printed(fourth, tmp_path, monkeypatch, capsys):
    labels = []
    monkeypatch.setattr(
        "uldnum.plotting.save", lambda figure, *_: labels.extend(axes.get_ylabel() for axes in figure.axes)
    )
    command = ("bias", "--exact-only", "--target", "gaussian", "--integrators", "ULA", "--h", "0.5")
    monkeypatch.setattr("sys.argv", ["uldnum", *command, "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        app.main()
    out = capsys.readouterr().out
    assert [" ".join(label.split("\n")) for label in labels] == [
        f"bias: {METRICS[name].title}" for name in study_metrics() if not METRICS[name].momenta
    ]
    assert (
        "also in the data and the figure: mean, Wasserstein-1 distance, Kolmogorov distance, total variation distance, "
        "Kullback-Leibler divergence, error of the virial theorem, fourth moment"
    ) in out
    assert "fourth_moment" in xr.load_dataset(tmp_path / "bias.nc").metric
    one = xr.load_dataset(tmp_path / "bias.nc").sel(metric="fourth_moment")
    assert list(table(one, sampled=False))[2].split() == ["0.5", "4.13e-01"]
    monkeypatch.setattr("sys.argv", ["uldnum", "list"])
    with pytest.raises(SystemExit):
        app.main()
    assert "fourth moment (units of x⁴)" in capsys.readouterr().out


def test_the_way_to_the_target_reads_the_registry(fourth):
    run = uldnum.sample(GAUSSIAN, "ula", h=0.5, steps=20, chains=64, thin=10, backend="array", progress=False)
    found = relaxation(run, GAUSSIAN)
    assert list(found.distance.values) == ["wasserstein_1", "kolmogorov", "sliced_wasserstein_2", "fourth_moment"]
    assert float(found.value.sel(distance="fourth_moment")[-1]) == abs(np.mean(run.x**4) - 3)


def test_what_a_target_does_not_know_is_left_out(fourth):
    """A metric for one dimension is left out in two dimensions, and the other metrics are unaffected."""
    target = uldnum.GaussianMixture([1.0], [[0.0, 0.0]], [1.0], name="two")
    with pytest.warns(UserWarning, match=r"^fourth_moment: left out, because 'two' lacks what they need") as said:
        study = uldnum.studies.bias(target, "ula", [0.5], **GIVEN)
    assert [one.filename for one in said] == [__file__]
    assert "fourth_moment" not in study.metric
    assert study.left_out == str(said[0].message)
    assert np.isfinite(study.bias.sel(metric=["second_moment", "kolmogorov"])).all()


def test_metrics_are_part_of_keys(monkeypatch):
    """The key of a point depends on its metrics and on the modules that define them."""

    def key():
        return Exact(GAUSSIAN, uldnum.integrator("ula"), 0.5, 1.0, 1e-4, True).key

    before = key()
    monkeypatch.setitem(METRICS, FOURTH.name, FOURTH)
    with_fourth = key()
    assert with_fourth != before
    assert key() == with_fourth
    moved = Metric("fourth_moment", "fourth moment", of_run=fourth_moment_of_run, exact=gaussian)
    monkeypatch.setitem(METRICS, "fourth_moment", moved)
    monkeypatch.setattr(fourth_moment_of_run, "__module__", "elsewhere")
    assert key() not in (before, with_fourth)


def test_a_process_that_lacks_a_metric_says_so(monkeypatch):
    """A new process lacks a metric that only the main script registered."""
    monkeypatch.setitem(METRICS, FOURTH.name, FOURTH)
    point = Exact(GAUSSIAN, uldnum.integrator("ula"), 0.5, 1.0, 1e-4, True)
    monkeypatch.delitem(METRICS, FOURTH.name)
    with pytest.raises(ValueError, match=r"^metric: unknown name 'fourth_moment'"):
        point.result()


def test_declarations_are_complete():
    for name, metric in (METRICS | TIMES).items():
        assert metric.name == name
        assert metric.label
        assert metric.of_run or metric.of_positions or metric.of_samples
    for name in study_metrics():
        assert METRICS[name].exact is not None
        assert study_metric(name) is METRICS[name]
    with pytest.raises(ValueError, match=r"^metric: unknown name 'mode'; the nearest is 'mode_weights'"):
        study_metric("mode")


def test_moments_of_exact_laws():
    """For a Gaussian with nonzero mean, moment errors equal those of quadrature and of the transfer operator."""
    target = uldnum.GaussianMixture([1.0], [[0.7]], [1.0])
    law = GaussianMarginals.of(uldnum.integrator("ula"), target, 0.6, 1.0)
    numerical = OneDimensionalLaw.of(uldnum.integrator("ula"), target, 0.6, 1.0, 1e-7)
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    weights = weights / weights.sum()
    wide = 1 / np.sqrt(1 - 0.6**2 / 4)
    for order in range(1, 9):
        gap = weights @ ((0.7 + wide * nodes) ** order - (0.7 + nodes) ** order)
        np.testing.assert_allclose(law.moment_error(order), [gap], rtol=1e-11, atol=1e-13)
    for order in (1, 2):
        np.testing.assert_allclose(numerical.moment_error(order), law.moment_error(order), rtol=0, atol=1e-5)
    for one in ("wasserstein_1", "kolmogorov", "relaxation_time"):
        assert getattr(numerical, one) == pytest.approx(getattr(law, one), rel=1e-4)
    for power in (1, 2):
        assert numerical.autocorrelation_time(power) == pytest.approx(law.autocorrelation_time(power), rel=1e-4)

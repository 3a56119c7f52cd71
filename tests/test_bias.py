"""Bias of moments, and the bias study."""

import json
import time

import numpy as np
import pytest
import xarray as xr

import uldnum
from uldnum._util.deadline import OutOfTimeError, deadline
from uldnum.cli.bias import notes, print_table, table
from uldnum.diagnostics.bias import Truth, rms_bias
from uldnum.exact.stationary import Problem
from uldnum.plotting import draw_bias, save
from uldnum.plotting.panels import read_study
from uldnum.studies.common import narrowest
from uldnum.studies.points import Exact, fingerprint

GAUSSIAN = uldnum.target("gaussian")


def test_rms_bias_of_known_gaps():
    """Errors of 3, 0 and 4 in units of the scales of three axes have the root mean square 5/sqrt(3)."""
    exact, scale = np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 0.5])
    spread = np.repeat([-1.0, 1.0], 5000)[:, None] * np.sqrt(9999 / 1e4)
    bias = rms_bias(exact + scale * (np.array([3.0, 0.0, 4.0]) + spread), Truth(exact, scale))
    assert bias.value == pytest.approx(5 / np.sqrt(3))
    wide = rms_bias(np.array([[0.0, 0.0], [6.0, 8.0]]), Truth(np.zeros(2), np.ones(2)))
    assert wide.floor == pytest.approx(np.sqrt((3**2 + 4**2) / 2))
    # All axes of a chain deviate together by +-1: d value = (3 + 0 + 4)/(3 value). The standard error of +-1 is 0.01.
    assert bias.error == pytest.approx(0.01 * 7 / (3 * bias.value), rel=1e-3)
    assert bias.floor == pytest.approx(0.01)
    assert np.isnan(wide.error)


def test_metrics_scale_and_centre():
    """For two axes with different variances and nonzero means, exact and sampled biases equal closed forms.

    The limit is 4 standard errors. The false-fail rate is 2e-4: 6e-5 each for the second moment and the mean, and 2e-5
    for the distances, which noise increases by 0.6 and 1.2 standard errors. Relative errors of 24% (second moment), 16%
    (wasserstein_1) or 28% (kolmogorov), and an error of 0.022 standard deviations of the mean, are detected.
    """
    target = uldnum.GaussianMixture([1.0], [[2.0, -1.0]], [[0.25, 4.0]])
    h = 0.5
    study = uldnum.studies.bias(target, "ula", h, nfe=500, burn_in=100, chains=2048, progress=False).squeeze()
    v = np.array([0.25, 4.0])
    s = v / (1 - h**2 / 4 / v)
    gap = (s - v) / np.sqrt(2 * v**2 + 4 * np.array([4.0, 1.0]) * v)
    exact = {
        "second_moment": np.sqrt(np.mean(gap**2)),
        "mean": 0,
        "wasserstein_1": np.mean(np.sqrt(s / v) - 1) * np.sqrt(2 / np.pi),
    }
    for metric, value in exact.items():
        np.testing.assert_allclose(study.exact.sel(metric=metric), value, rtol=1e-12, atol=0)
    for metric in ("second_moment", "wasserstein_1", "kolmogorov"):
        one = study.sel(metric=metric)
        assert abs(one.bias - one.exact) < 4 * one.error
        assert one.error < one.exact / 4
    assert study.bias.sel(metric="mean") < 4 * study.floor.sel(metric="mean")


def test_study_agrees_with_the_exact_bias():
    """Sampled biases equal the exact ones within 4.5 standard errors (12 comparisons, false-fail rate 1e-4)."""
    study = uldnum.studies.bias(
        GAUSSIAN, ["ula", "OBABO", "mild(0.5)"], [0.5, 0.8, 1.1, 1.4], nfe=400, burn_in=100, chains=1024, progress=False
    )
    second = study.sel(metric="second_moment")
    assert np.all(np.abs(second.bias - second.exact) < 4.5 * second.error)
    assert np.all(second.exact > 4 * second.error)
    assert np.all(study.sel(metric="mean").exact == 0)
    # The value of an unbiased mean is |N(0, 1)| floors, which exceeds 4.5 with probability 7e-6.
    assert np.all(study.sel(metric="mean").bias < 4.5 * study.sel(metric="mean").floor)
    np.testing.assert_array_equal(study.nfe, [500, 501, 500])


def test_study_is_labelled_and_survives_storage(tmp_path):
    study = uldnum.studies.bias(
        uldnum.target("bimodal-1d"),
        ["BAOAB", "ABAOABA"],
        [0.2, 0.4],
        nfe=20,
        burn_in=4,
        chains=16,
        seed=3,
        exact=True,
        progress=False,
    )
    assert dict(study.sizes) == {"integrator": 2, "h": 2, "metric": 8, "moment": 2, "axis": 1}
    np.testing.assert_array_equal(study.nfe, [25, 24])  # equal cost: half as many steps with two evaluations each
    assert study.attrs["uldnum"] == uldnum.__version__
    assert json.loads(study.attrs["target_parameters"])["weights"] == [0.7, 0.3]
    study.to_netcdf(tmp_path / "bias.nc")
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "bias.nc"), study)


def test_the_exact_bias_of_a_mixture():
    """Exact metrics equal those computed directly from the stationary distribution of the transfer operator."""
    target, h = uldnum.target("bimodal-1d"), [0.3, 0.8]
    study = uldnum.studies.exact_bias(target, ["OBABO", "baoab-limit"], h, tolerance=1e-6, progress=False)
    assert set(study.data_vars) == {"exact", "exact_signed"}
    x = np.linspace(-12, 12, 24_001)
    for name in ("OBABO", "baoab-limit"):
        for step in h:
            law = uldnum.exact.transfer_operator(name, target, step)
            one = study.exact.sel(integrator=name, h=step)
            gap = law.cdf(x) - target.cdf(x[:, None])[:, 0]
            variance = 3.25 - 0.36
            fourth = 0.7 * (1.5**4 + 6 * 1.5**2 + 3) + 0.3 * (1.5**4 + 6 * 1.5**2 + 3)
            expected = {
                "mean": abs(law.expectation(lambda x: x) - 0.6) / np.sqrt(variance),
                "second_moment": abs(law.expectation(lambda x: x**2) - 3.25) / np.sqrt(fourth - 3.25**2),
                "wasserstein_1": np.trapezoid(np.abs(gap), x) / np.sqrt(variance),
                "kolmogorov": np.abs(gap).max(),
            }
            for metric, value in expected.items():
                np.testing.assert_allclose(one.sel(metric=metric), value, rtol=0, atol=2e-6)
            error = study.exact_signed.sel(integrator=name, h=step, moment="mean")
            np.testing.assert_allclose(error, (law.expectation(lambda x: x) - 0.6) / np.sqrt(variance), atol=2e-6)


def test_the_exact_bias_of_a_full_gaussian():
    """For a Gaussian with a full covariance, the marginal distances follow from the stationary covariance."""
    covariance = np.array([[2.0, 0.8], [0.8, 0.5]])
    target = uldnum.GaussianMixture([1.0], [[1.0, -1.0]], covariances=[covariance])
    study = uldnum.studies.exact_bias(target, "OBABO", 0.3, progress=False)
    law = uldnum.exact.gaussian("OBABO", 0.3, precision=np.linalg.inv(covariance)).position_covariance
    v, s = np.diag(covariance), np.diag(law)
    np.testing.assert_allclose(
        study.exact.sel(metric="wasserstein_1").squeeze(), np.mean(np.sqrt(s / v) - 1) * np.sqrt(2 / np.pi), rtol=1e-10
    )


def test_sampled_points_lie_on_the_exact_curve_of_a_mixture():
    """On a mixture, sampled biases equal the exact ones within 4.5 standard errors.

    There are six comparisons with a false-fail rate of 4e-5. The exact biases are 0.008 to 0.095, and an error of 0.011
    is detected.
    """
    study = uldnum.studies.bias(
        "bimodal-1d",
        ["ula", "mild(0.5)", "OABAO"],
        [0.8, 1.1],
        nfe=1000,
        burn_in=100,
        chains=1024,
        progress=False,
        exact=True,
    )
    second = study.sel(metric="second_moment")
    assert np.all(np.abs(second.bias - second.exact) < 4.5 * second.error)
    assert np.all(second.exact.sel(h=0.8) > 8 * second.error.sel(h=0.8))


def test_what_has_no_exact_answer(monkeypatch):
    with pytest.raises(ValueError, match=r"^target: no exact answer on 'ring-8'"):
        uldnum.studies.exact_bias("ring-8", "ula", 0.1)
    unstable = uldnum.studies.exact_bias("bimodal-1d", "ula", [0.5, 2.1], progress=False)
    assert np.isnan(unstable.exact).all("metric").squeeze().values.tolist() == [False, True]
    monkeypatch.setattr("uldnum.exact.stationary.MOST_NODES", 500)
    with pytest.warns(UserWarning, match=r"no exact bias: BAOAB at h = 0.3 .* not resolved"):
        hard = uldnum.studies.exact_bias("bimodal-1d", "BAOAB", 0.3, progress=False)
    assert np.isnan(hard.exact).all()


QUICK = {"nfe": 20, "burn_in": 4, "chains": 8, "progress": False}


def test_exact_values_are_computed_all_some_or_none(monkeypatch, tmp_path):
    """Without time, those of the cheapest schemes are known or none, and one warning counts the others."""
    given = ["BAOAB", "ula"], [0.3, 0.6]
    whole = uldnum.studies.mixing("bimodal-1d", *given, friction=1.0, exact=True, tolerance=1e-3, **QUICK)
    assert whole.exact_time.notnull().all()
    assert whole.attrs["exact_left_out"] == 0
    assert whole.attrs["backend"] == "numba"
    none = uldnum.studies.mixing("bimodal-1d", *given, friction=1.0, exact=False, **QUICK)
    assert none.exact_time.isnull().all()
    xr.testing.assert_identical(none.time, whole.time)
    order = []
    result = Exact.result
    monkeypatch.setattr(Exact, "result", lambda point: order.append((point.scheme.name, point.h)) or result(point))
    with pytest.warns(UserWarning, match=r"^exact: 1e-09 s were not enough for the exact values at 4 of 4") as said:
        uldnum.studies.mixing("bimodal-1d", *given, exact_seconds=1e-9, friction=1.0, **QUICK)
    assert [one.filename for one in said] == [__file__]
    uldnum.studies.exact_bias("bimodal-1d", *given, tolerance=1e-3, store=tmp_path, progress=False)
    assert order == [("ula", 0.3), ("ula", 0.6), ("BAOAB", 0.3), ("BAOAB", 0.6)]


def test_the_law_of_a_point_is_computed_once(monkeypatch):
    """Biases, times and the relaxation time of a point come from one stationary distribution."""
    laws = []
    resolved = Problem.resolved
    monkeypatch.setattr(Problem, "resolved", lambda problem: laws.append(problem) or resolved(problem))
    uldnum.studies.frontier("bimodal-1d", "ula", [0.3, 0.6], exact=True, **QUICK)
    assert len(laws) == 2  # ULA has no friction


def test_a_refusal_is_stored(monkeypatch, tmp_path):
    monkeypatch.setattr("uldnum.exact.stationary.MOST_NODES", 500)
    given = {"h": 0.3, "store": tmp_path, "progress": False}
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"no exact bias: BAOAB at h = 0.3 .* not resolved") as said:
            uldnum.studies.exact_bias("bimodal-1d", "BAOAB", **given)
        assert [one.filename for one in said] == [__file__]
        monkeypatch.setattr(
            Exact, "result", lambda point: pytest.fail("computed again")
        )  # a resumed study does not try again


def test_exact_values_are_abandoned_at_a_deadline():
    with deadline(time.monotonic() + 60):
        uldnum.exact.transfer_operator("ula", "bimodal-1d", 0.5, tolerance=1e-2)
    with pytest.raises(OutOfTimeError), deadline(time.monotonic() - 1):
        pass
    with deadline(time.monotonic() + 0.1):
        time.sleep(0.2)
        with pytest.raises(OutOfTimeError):
            uldnum.exact.transfer_operator("ula", "bimodal-1d", 0.5, tolerance=1e-2)


def test_invalid_choices_of_exact_values_are_refused():
    for changes, fault in (
        ({"exact": "all"}, "exact: must be True, False or \"auto\", got 'all'"),
        ({"exact": 1.0}, 'exact: must be True, False or "auto", got 1.0'),
        ({"exact_seconds": 0}, "exact_seconds: must be positive"),
        ({"target": "ring-8", "exact": True}, "exact: no exact values on 'ring-8'"),
    ):
        with pytest.raises(ValueError, match=f"^{fault}"):
            uldnum.studies.bias(**{"target": GAUSSIAN, "integrators": "ula", "h": 0.1} | changes)


def test_the_default_friction_is_in_units_of_the_target():
    """It is 1 divided by the narrowest standard deviation in a study of one friction, and 0.5, 1, 2 times that else."""
    wide = uldnum.GaussianMixture([1.0], [[0.0, 0.0]], [[4.0, 25.0]], name="wide")
    assert uldnum.studies.exact_bias(wide, "BAOAB", 0.5, progress=False).attrs["friction"] == 0.5
    assert uldnum.studies.bias(wide, "BAOAB", 0.5, **QUICK).attrs["friction"] == 0.5
    assert uldnum.studies.mixing(wide, "BAOAB", 0.5, **QUICK).friction.values.tolist() == [0.25, 0.5, 1.0]


def test_default_steps_follow_the_scores_of_a_target_with_draws():
    """E[s^2] of the double well is that of its second derivative, 8 (3 E[x^2] - 1); 1024 draws know it to 3%."""
    target = uldnum.target("double-well")
    assert narrowest(target) == pytest.approx((8 * (3 * target.moment(2)[0] - 1)) ** -0.5, rel=0.1)


def test_an_exact_study_is_drawn(tmp_path):
    study = uldnum.studies.exact_bias("bimodal-1d", ["ula", "BAOAB"], [0.2, 0.5, 2.1], progress=False)
    study.to_netcdf(tmp_path / "bias.nc")
    save(draw_bias(tmp_path / "bias.nc"), tmp_path / "bias.png")
    assert (tmp_path / "bias.png").stat().st_size > 10_000


def test_a_diverged_step_size_leaves_the_others_and_is_drawn(tmp_path):
    with pytest.warns(UserWarning, match="diverged"):
        study = uldnum.studies.bias(GAUSSIAN, ["ula"], [0.5, 1.0, 2.5], nfe=200, burn_in=0, chains=16, progress=False)
    assert np.isfinite(study.bias.sel(h=[0.5, 1.0])).all()
    assert np.isnan(study.bias.sel(h=2.5)).all()
    assert np.isnan(study.exact.sel(h=2.5)).all()
    assert int(study.diverged.sel(integrator="ula", h=2.5)) == 16
    study.to_netcdf(tmp_path / "bias.nc")
    save(draw_bias(tmp_path / "bias.nc"), tmp_path / "bias.png")
    assert (tmp_path / "bias.png").stat().st_size > 10_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bias.nc", "bias.png"]


def test_bad_studies_are_refused_before_any_run():
    for changes, fault in (
        ({"integrators": []}, "integrators"),
        ({"h": [-1]}, "h"),
        ({"nfe": 0}, "nfe"),
        ({"chains": 7}, "chains: must be at least 8"),
        ({"integrators": None}, "integrators: must be a name, an Integrator"),
        ({"backend": 3}, "backend: unknown name 3"),
        ({"friction": [1.0, 1.0]}, "friction: must be one or more distinct numbers"),
        ({"backend": "nun"}, "backend"),
        ({"integrators": ["ABAOABA"], "nfe": 1}, "nfe"),
    ):
        with pytest.raises(ValueError, match=f"^{fault}"):
            uldnum.studies.bias(**{"target": GAUSSIAN, "integrators": ["ula"], "h": [0.1]} | changes)


def test_a_burn_in_that_is_too_short_is_said():
    """For ULA on two modes, 300 evaluations suffice at delta = 0.5 (time 12), but not at 0.005 (time 1400)."""
    study = uldnum.studies.bias(
        "bimodal-1d", "ula", delta=[0.005, 0.5], nfe=3000, burn_in=300, chains=256, exact=False, progress=False
    )
    assert study.settled.sel(integrator="ula").values.tolist() == [False, True]


STABILITY = {"friction": 1.0, "nfe": 60, "burn_in": 0, "chains": 16, "progress": False}


@pytest.mark.parametrize("name", ["bias", "mixing", "frontier"])
def test_step_sizes_without_a_stationary_law_are_named(name):
    """On N(0, 1), ULA and BAOAB are stable up to h = 2; warnings name larger step sizes.

    A step of ULA maps a variance v to (1 - h^2/2)^2 v + h^2. After 60 steps it is 241 at h = 2, 310 at 2.002 and 1e65
    at 3, so only the last one diverges.
    """
    with pytest.warns(UserWarning, match="h = ") as said:
        study = getattr(uldnum.studies, name)("gaussian", ["ula", "BAOAB"], [1.9, 2.0, 2.002, 3.0], **STABILITY)
    messages = [str(one.message) for one in said]
    assert len(messages) == 4
    for scheme in ("ula", "BAOAB"):
        assert f"{scheme} diverged at h = 3; its statistics there are NaN" in messages
        growing = f"{scheme} has not diverged yet at h = 2, 2.002, but has no stationary distribution there"
        assert f"{growing}, and its statistics depend on the number of steps" in messages
    assert all(one.filename == __file__ for one in said)
    unstable = study.unstable.squeeze()
    assert unstable.sel(integrator="ula").values.tolist() == [False, True, True, True]
    assert unstable.sel(integrator="BAOAB").values.tolist() == [False, True, True, True]


def test_stability_is_told_where_it_is_known(recwarn):
    """Stability is known for each axis of a Gaussian; it is unknown for a mixture, which gives no warning."""
    narrow = uldnum.GaussianMixture([1.0], [[0.0, 0.0]], [[4.0, 0.25]], name="narrow")
    found = uldnum.studies.bias(narrow, "ula", [0.9, 1.0], **STABILITY)
    assert found.unstable.values.tolist() == [[False, True]]
    assert [str(one.message).split(",")[0] for one in recwarn] == ["ula has not diverged yet at h = 1"]
    recwarn.clear()
    assert not uldnum.studies.bias("ring-8", "ula", [1.0], **STABILITY).unstable.any()
    assert not recwarn.list


def test_advice_and_figures_leave_out_what_has_no_stationary_law(tmp_path):
    """Unstable step sizes are marked in tables and figures, and advice ignores them."""
    with pytest.warns(UserWarning, match="has no stationary distribution"):
        study = uldnum.studies.frontier("gaussian", "ula", [1.0, 2.0], **STABILITY | {"nfe": 3000, "chains": 64})
    with pytest.raises(ValueError, match="no scheme has a stationary distribution at any of the step sizes"):
        uldnum.studies.advise(study.sel(h=[2.0]), 10.0)
    assert uldnum.studies.advise(study, 10.0).h == 1.0
    study.to_netcdf(tmp_path / "frontier.nc")
    shown = read_study(tmp_path / "frontier.nc", "frontier").squeeze()
    assert shown.lost.values.tolist() == [False, True]
    assert np.isnan(shown.cost.values).tolist() == [False, True]
    assert np.isnan(shown.bias.sel(metric="second_moment").values).tolist() == [False, True]
    as_bias = study.drop_vars("resolved").rename(bias_resolved="resolved")
    lines = list(table(as_bias.isel(friction=0).sel(metric="second_moment"), sampled=True))
    assert lines[3].split() == ["2", "unstable", "-"]


def test_the_table_shows_exact_values_signs_and_noise():
    """Values that are not resolved are grey, and a change of sign of the exact bias is named."""
    data = {
        "bias": [[0.5, 0.1]], "error": [[0.1, 0.1]], "resolved": [[True, False]], "exact": [[0.45, 0.01]],
        "settled": [[True, False]], "diverged": [[0, 0]], "unstable": [[False, False]],
    }  # fmt: skip
    coordinates = {"integrator": ["ula"], "h": [0.5, 1.0], "metric": "second_moment", "moment": ["second_moment"]}
    one = xr.Dataset({name: (("integrator", "h"), part) for name, part in data.items()}, coordinates, {"exact_to": 0.0})
    one["exact_signed"] = ("integrator", "h", "moment", "axis"), [[[[-0.85, -0.05]], [[0.03, -0.01]]]]
    lines = list(table(one, sampled=True))
    assert [line.split() for line in lines[:2]] == [["ula"], ["h", "(time)", "sampled", "exact"]]
    assert lines[2].split() == ["0.5", "5.0e-01", "±", "1e-01", "-4.50e-01"]
    assert ["\x1b[90m" in line for line in lines] == [False, False, False, True]
    plain = lines[3].replace("\x1b[90m", "").replace("\x1b[0m", "")
    assert plain.split() == ["1", "1.0e-01", "±", "1e-01*", "+1.00e-02"]
    first, second = notes(one, sampled=True)
    assert first.startswith("ula: the bias changes sign between h = 0.5 and 1;")
    assert second.startswith("* chains started from exact draws")
    assert list(table(one, sampled=False))[3].split() == ["1", "+1.00e-02"]


def test_the_table_names_the_reference(capsys, tmp_path):
    study = uldnum.studies.bias(
        "gaussian", "ula", [0.5], reference=uldnum.target("gaussian").sample(99), exact=False, **QUICK
    )
    print_table(study, tmp_path / "bias.nc", tmp_path / "bias.png")
    assert "Measured against Reference(array of 99 samples, shape=(1,)).\n" in capsys.readouterr().out


def test_a_target_without_a_scale_is_identified_without_a_warning(recwarn):
    """Log densities tell targets apart at finite positions, whether or not the standard deviation is known."""
    targets = [uldnum.UserTarget(lambda x: -x, 1, lambda x, k=k: k - x[:, 0] ** 2 / 2) for k in (0.0, 1.0)]
    assert fingerprint(targets[0])[1] != fingerprint(targets[1])[1]
    assert not recwarn.list

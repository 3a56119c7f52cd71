"""The quality of images: samplers and their evaluations, batches, metrics, floors, resumption, figure and commands.

The network is the exact score of 40 images of 2 x 2 pixels, or an ONNX model of four pixels.
"""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from helpers.images import DATA, DIGITS, OPTIONS, SAMPLERS, corners, study
from helpers.networks import vp_linear
from helpers.onnx_models import Graph, Value, save_mixture
from matplotlib.figure import Figure
from typer.testing import CliRunner

import uldnum
from uldnum import plotting
from uldnum.cli.app import app
from uldnum.diagnostics.images import frechet_distance, image_metrics, kernel_distance
from uldnum.networks import reference_images
from uldnum.studies import _sweep, quality
from uldnum.studies.batches import Batch, decoded, encoded
from uldnum.studies.samplers import samplers_of
from uldnum.targets import Display

CARD = """
parameterisation = "epsilon"
scaling = "vp"
condition = "t"
condition_scale = 999.0
schedule = {kind = "vp-sde", beta_start = 0.1, beta_end = 20.0}
"""
LEVELS = "geometric:5:0.1:COUNT"


@pytest.fixture(scope="module")
def found():
    return study()


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The path of an ONNX model of images with four pixels and its card in its metadata."""
    mixture = uldnum.GaussianMixture([0.5, 0.5], [[0.6, -0.6, 0.6, -0.6], [-0.6, 0.6, 0.0, 0.0]], [0.02, 0.02])
    path = tmp_path_factory.mktemp("network") / "tiny.onnx"
    path.with_suffix(".toml").write_text(CARD)
    return save_mixture(path, mixture, (1, 2, 2), "epsilon", vp_linear)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    """The path of reference images with held-out images."""
    path = tmp_path_factory.mktemp("reference") / "squares.npz"
    np.savez(path, train=DIGITS[:100], test=DIGITS[100:])
    return path


# ------------------------------------------------------------------------------------------------------------ samplers


PLANS = [
    ("heun", {}), ("ddim", {}), ("dpm-solver++", {}), ("heun(0.2)", {"denoise": False}), ("baoab-limit", {"h": 1.0}),
    ("BAOAB", {"h": 0.5, "steps": 3}), ("BAOAB", {"h": 0.5, "boundary": "shared", "steps": 2}),
    ("OBABO", {"h": 0.5, "predictor": "heun"}), ("UBU", {"h": 0.3, "momentum": "refreshed"}),
]  # fmt: skip


def test_samplers_by_name_use_the_timesteps_of_a_network(network):
    """Levels of plans, and those of chains at one level, are at the nearest timesteps."""
    schedule = {"kind": "linear", "beta_start": 1e-4, "beta_end": 0.02, "timesteps": 1000}
    net = uldnum.networks.network(network, {"condition": "timestep", "condition_scale": 1.0, "schedule": schedule})
    samplers = samplers_of(["ddim", "BAOAB@0.5"], [8], LEVELS, 1, 1.0, net)
    wanted = net.nearest(uldnum.levels.geometric(5.0, 0.1, 8)).ratio
    np.testing.assert_allclose([sigma for _, sigma in samplers["ddim"][0].places], wanted)
    (chain,) = samplers["BAOAB@0.5"]
    assert chain.ratio == pytest.approx(net.at(ratio=0.5).sigma / net.at(ratio=0.5).alpha)
    assert chain.ratio != 0.5


@pytest.mark.parametrize(("method", "options"), PLANS, ids=str)
def test_a_plan_states_its_evaluations(method, options):
    plan = uldnum.plan(method, uldnum.levels.geometric(5.0, 0.1, 4), **options)
    assert uldnum.anneal(DATA, plan, chains=1, progress=False).nfe == plan.nfe


@pytest.mark.parametrize("name", ["ddim", "heun", "dpm-solver++"])
def test_plans_may_start_from_pure_noise(name, tmp_path):
    """A study of plans that start at alpha = 0, where the score says nothing, has images and stores them."""
    options = OPTIONS | {"levels": "flow:COUNT", "store": tmp_path}
    found = quality(DATA, [name], [4], **options)
    assert found.evaluations.item() == {"heun": 3}.get(name, 4)
    assert np.isfinite(found.value.sel(metric="frechet").item())
    assert quality(DATA, [name], [4], **options).images.equals(found.images)


@pytest.mark.parametrize(("name", "steps", "evaluations"), [
    ("heun", 1, [3, 9, 19]), ("ddim", 1, [4, 10, 20]), ("dpm-solver++", 1, [4, 10, 20]),
    ("baoab-limit", 1, [4, 10, 20]), ("BAOAB", 2, [None, 10, 19]), ("ula", 3, [None, 10, 19]),
])  # fmt: skip
def test_plans_have_as_many_levels_as_the_evaluations_permit(name, steps, evaluations):
    """Another level would cost too much, which the next number of evaluations shows."""
    for nfe, expected in zip([4, 10, 20], evaluations, strict=True):
        if expected is None:
            with pytest.raises(ValueError, match="nfe: must be at least 7"):
                samplers_of([name], [nfe], LEVELS, steps, 1.0, DATA)
        else:
            (sampler,) = samplers_of([name], [nfe], LEVELS, steps, 1.0, DATA)[name]
            assert sampler.evaluations == (expected,)
            assert uldnum.anneal(DATA, sampler.plan, chains=1, progress=False).nfe == expected


def test_chains_at_one_level_are_measured_along_one_run(found):
    """States after 1 and 6 steps of BAOAB, which needs an evaluation to start, and a last one to denoise."""
    (chain,) = samplers_of(SAMPLERS, [3, 8], LEVELS, 1, 1.0, DATA)["chain"]
    assert (chain.steps, chain.evaluations) == ((1, 6), (3, 8))
    level = DATA.at(0.3)
    for steps, (_, images) in zip(chain.steps, chain.runs(DATA, chains=5, seed=3, progress=False), strict=True):
        run = uldnum.sample(level, "BAOAB", h=1.0, steps=steps, chains=5, seed=3, progress=False)
        np.testing.assert_array_equal(images, level.denoise(run.x))
    states = samplers_of({"raw": ("BAOAB", 0.3, {"delta": 0.5, "denoise": False})}, [3], LEVELS, 1, 1.0, DATA)["raw"][0]
    assert (states.steps, states.evaluations, states.h) == ((2,), (3,), 1.0)
    assert found.evaluations.sel(sampler="chain").values.tolist() == [4, 0, 9]


def test_names_stand_for_plans_and_chains():
    named = samplers_of(["BAOAB@0.3", "mild-ncsn"], [20], LEVELS, 1, 0.7, DATA)
    assert (named["BAOAB@0.3"][0].ratio, named["BAOAB@0.3"][0].h) == (0.3, 0.7)
    assert named["mild-ncsn"][0].plan.name == "mild-ncsn"
    assert named["mild-ncsn"][0].asked == (named["mild-ncsn"][0].plan.nfe,)


# --------------------------------------------------------------------------------------------------------------- study


def test_metrics_are_those_of_all_images(found):
    """The images of all batches are those of a single run with the same seed, and the metrics theirs."""
    plan = SAMPLERS["ddim"](9)
    images = uldnum.anneal(DATA, plan, chains=32, seed=0, progress=False).x
    at = found.sel(sampler="ddim", nfe=9)
    np.testing.assert_allclose(at.images, images[:10], rtol=0, atol=1e-6)
    samples, reference = images.reshape(32, 4).clip(-1, 1), DIGITS.reshape(160, 4)
    for name, function in (("frechet", frechet_distance), ("kernel", kernel_distance)):
        expected = function(samples, reference)
        np.testing.assert_allclose(at.value.sel(metric=name), expected.value, rtol=1e-5)
        np.testing.assert_allclose(at.error.sel(metric=name), expected.error, rtol=1e-5)
    assert found.sizes["metric"] == len(image_metrics()) - 3  # without those of classes and of held-out images
    assert str(found.label.sel(metric="recall").values) == "recall (k = 5, n = 32)"


def test_floors_are_values_of_real_images(found, held_out):
    """Without held-out images one half of the images is compared with the other half."""
    order = np.random.default_rng(0).permutation(160)
    first, second = DIGITS.reshape(160, 4)[order[::2]], DIGITS.reshape(160, 4)[order[1::2]]
    expected = frechet_distance(first[:32], second)
    at = found.sel(sampler="ddim", nfe=9, metric="frechet")
    np.testing.assert_allclose([at.floor, at.floor_error], [expected.value, expected.error], rtol=1e-12)
    assert found.floor_source == "one half of the reference images"
    with pytest.warns(UserWarning, match="reference: the floor is the value of 60 images of held-out images, fewer"):
        apart = quality(DATA, ["ddim"], 3, **OPTIONS | {"reference": held_out, "images": 64})
    assert "nearest_training" in apart.metric
    real = DIGITS.reshape(160, 4)
    expected = frechet_distance(real[100:][np.random.default_rng(0).permutation(60)], real[:100])
    at = apart.sel(metric="frechet").isel(sampler=0, nfe=0)
    np.testing.assert_allclose([at.floor, at.floor_error], [expected.value, expected.error], rtol=1e-12)
    assert (apart.floor_images, apart.floor_source) == (60, "held-out images")


def test_points_without_a_plan_are_empty(found):
    """A plan has its own number of evaluations, which becomes a coordinate."""
    assert found.nfe.values.tolist() == [4, 5, 9]
    assert found.evaluations.sel(sampler="fixed").values.tolist() == [0, 5, 0]
    assert found.evaluations.sel(sampler="heun").values.tolist() == [3, 0, 9]
    empty = found.evaluations == 0
    assert bool((found.value.isnull().all("metric") == empty).all())
    assert bool((found.n == 32).where(~empty, True).all())
    assert bool((found.images_per_second > 0).where(~empty, True).all())


def test_images_do_not_depend_on_batches(found):
    whole = study(batch=100)
    for name in ("value", "error", "floor"):
        np.testing.assert_allclose(whole[name], found[name], rtol=1e-4, atol=1e-6)


def test_batches_are_stored_and_shared(tmp_path, found):
    """More images, another sampler or another metric compute only what is new."""
    study(store=tmp_path)
    stored = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert len(stored) == 3 * (2 + 1 + 2 + 1)  # three batches of each plan, and of the chains for both numbers
    again = study(store=tmp_path, metrics="kernel")
    xr.testing.assert_allclose(again.value, found.value.sel(metric=["kernel"]))
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")} == stored
    study(store=tmp_path, images=36)  # the third batch has 12 images instead of 8
    assert len(list(tmp_path.glob("*.json"))) == len(stored) + 6


def test_the_key_names_what_the_features_depend_on(network):
    """Network, sampler, features, range, chains and seed; not the name of the sampler."""
    net = uldnum.networks.network(network)
    features = uldnum.networks.features("pixels")
    sampler, other = (samplers_of([name], [4], LEVELS, 1, 1.0, DATA)[name][0] for name in ("ddim", "heun"))
    base = Batch(DATA, "a", sampler, features, (-1.0, 1.0), 0, 8, 4, 0, None)
    assert replace(base, name="b").key == base.key
    changed = [
        replace(base, **change).key
        for change in (
            {"law": uldnum.targets.DataMixture(DIGITS[:41])}, {"law": net}, {"sampler": other}, {"first": 8},
            {"features": uldnum.networks.features(corners)}, {"data_range": (-2.0, 2.0)}, {"count": 9}, {"shown": 3},
            {"seed": 1}, {"backend": "array"},
        )
    ]  # fmt: skip
    assert len({base.key, *changed}) == 1 + len(changed)


def test_diverged_chains_have_no_image():
    """ULA diverges for delta above 2; half of the images must remain for a value."""
    with pytest.warns(UserWarning, match="wild diverged in 32 chains at nfe = 60"):
        wild = quality(DATA, {"wild": ("ula", 0.3, {"h": 3.0}), "heun": "heun"}, 60, **OPTIONS)
    assert wild.n.values.ravel().tolist() == [0, 32]
    assert wild.diverged.values.ravel().tolist() == [32, 0]
    assert wild.value.sel(sampler="wild").isnull().all()
    assert wild.value.sel(sampler="heun").notnull().all()
    assert wild.images.sel(sampler="wild").isnull().all()


def test_the_classifier_of_digits_gives_classes():
    digits = np.random.default_rng(0).uniform(-1, 1, (280, 1, 28, 28))
    data = uldnum.targets.DataMixture(digits[:8])
    found = quality(data, ["ddim"], 2, reference=digits, images=130, metrics=["classes", "effective_classes"],
                    progress=False)  # fmt: skip
    assert bool(found.value.notnull().all())
    assert found.features == "digits"


def test_arrays_are_stored_in_single_precision():
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_array_equal(decoded(json.loads(json.dumps(encoded(x)))), x)


def test_progress_counts_evaluations_of_images(monkeypatch):
    """So that the rate is that of the network, and the remaining time does not depend on the order of the batches."""
    bars = []

    class Bar(_sweep.tqdm):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.given = options["unit"], options["total"]
            bars.append(self)

        def update(self, n=1):
            self.counted = getattr(self, "counted", 0) + n

    monkeypatch.setattr(_sweep, "tqdm", Bar)
    study(progress=True)
    (bar,) = bars
    assert (*bar.given, bar.counted) == ("image", *2 * (32 * (3 + 9 + 9 + 4 + 9 + 5),))


# ----------------------------------------------------------------------------------------------------------- processes


KILLED = """
import sys
import time
from helpers.images import corners, study
def slow(images):
    time.sleep(0.2)
    return corners(images)
study(store=sys.argv[1], features=slow if sys.argv[2] == "slow" else corners)
"""


def test_an_interrupted_study_resumes(tmp_path, monkeypatch, found):
    """Stored batches are not computed again, and the dataset is that of an uninterrupted study."""
    whole = Batch.result

    def interrupted(batch):
        if len(list(tmp_path.glob("*.json"))) == 5:
            raise KeyboardInterrupt
        return whole(batch)

    with monkeypatch.context() as patch:
        patch.setattr(Batch, "result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            study(store=tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert len(before) == 5
    resumed = study(store=tmp_path)
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert {name: after[name] for name in before} == before
    assert len(after) == 18
    xr.testing.assert_identical(resumed.value, found.value)


@pytest.mark.slow
def test_a_killed_study_resumes(tmp_path):
    """After a kill -9 the stored batches are valid, none is computed twice, and the dataset is the same."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), "slow"], env=environment)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("*.json"))) < 3 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("[!.]*.json")}
    assert 3 <= len(before) < 18
    resumed = study(store=tmp_path, features=corners)
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("[!.]*.json")}
    assert {name: after[name] for name in before} == before
    assert len(after) == 18
    xr.testing.assert_identical(resumed.value, study(features=corners).value)


def test_a_batch_can_be_sent_to_another_process(network):
    """The network and the features are opened again."""
    net, features = uldnum.networks.network(network), uldnum.networks.features(corners)
    sampler = samplers_of(["ddim"], [4], LEVELS, 1, 1.0, net)["ddim"][0]
    batch = Batch(net, "a", sampler, features, (-1.0, 1.0), 0, 8, 4, 0, None)
    sent = pickle.loads(pickle.dumps(batch))
    assert sent.key == batch.key
    (first,), (second,) = batch.result()["images"], sent.result()["images"]
    assert first | {"seconds": 0} == second | {"seconds": 0}


@pytest.mark.slow
def test_processes_share_a_study_of_a_network(network, held_out):
    """The network and the features are opened again in each process."""
    net = uldnum.networks.network(network)
    options = OPTIONS | {"reference": held_out, "levels": LEVELS, "features": corners}
    alone = quality(net, ["ddim"], 5, **options)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        shared = quality(net, ["ddim"], 5, executor=pool, **options)
    xr.testing.assert_allclose(shared.value, alone.value)


# ----------------------------------------------------------------------------------------------------------- bad input


def broken(images):
    raise AssertionError("nothing may be computed")


BAD = {
    "unknown metric": ({"metrics": ["frechet", "recal"]}, "metrics: unknown name 'recal'; the nearest is 'recall'"),
    "no classes": ({"metrics": "classes"}, "metrics: classes needs features with classes"),
    "no held-out images": ({"metrics": "nearest_training"}, "metrics: nearest_training needs a reference with held"),
    "metrics twice": ({"metrics": ["recall", "recall"]}, "metrics: must be one or more different names"),
    "few images": ({"images": 9}, "images: must be at least 12 for 4 features, got 9"),
    "few reference images": ({"reference": DIGITS[:20]}, "reference: one half of the reference images must"),
    "other shape": ({"reference": np.tile(DIGITS, (1, 1, 2, 2))}, "reference: the images array of 160 images have"),
    "other range": (
        {"reference": reference_images((DIGITS + 1) / 2, (0, 1))}, "reference: the images .* have values from 0 to 1, ",
    ),
    "other range of arrays": ({"reference": DIGITS + 1}, r"reference: train: .* data_range=\(low, high\)"),
    "data range": ({"data_range": (1, 1)}, "data_range: must be two finite numbers, the smaller first"),
    "features of another shape": ({"features": "digits"}, "features: the images of digits have shape"),
    "NaN": ({"reference": np.where(DIGITS > 0.9, np.nan, DIGITS)}, "reference: train: must be finite"),
    "few evaluations": ({"nfe": [2, 9]}, "samplers: 'heun': nfe: must be at least 3, which a plan with two"),
    "few evaluations for a step": (
        {"samplers": {"a": ("BAOAB", 0.3, {"h": 1})}, "nfe": 2}, "samplers: 'a': nfe: must be at least 3, which one",
    ),
    "evaluations twice": ({"nfe": [4, 4]}, "nfe: must be different numbers"),
    "evaluations as text": ({"nfe": "4"}, "nfe: must be an integer or a sequence"),
    "a plan that costs more": (
        {"samplers": {"a": lambda nfe: SAMPLERS["ddim"](nfe + 1)}}, "samplers: 'a': the function must return a plan of",
    ),
    "no plan": ({"samplers": {"a": 1}}, "samplers: 'a': must be a plan, a function"),
    "no samplers": ({"samplers": {}}, "samplers: must be a dictionary of samplers by name"),
    "sampler twice": ({"samplers": ["ddim", "ddim"]}, r"different names of .*, got \['ddim', 'ddim'\]"),
    "unknown sampler": ({"samplers": ["dddim"]}, "samplers: 'dddim': method: unknown name"),
    "no level": ({"samplers": ["BAOAB@x"]}, "samplers: 'BAOAB@x': for chains at one noise level"),
    "negative level": ({"samplers": ["BAOAB@-1"]}, "samplers: 'BAOAB@-1': .* a positive number SIGMA"),
    "no integrator": ({"samplers": ["heun@0.5"]}, "samplers: 'heun@0.5': .* NAME@SIGMA with an integrator NAME"),
    "no name": ({"samplers": ["@0.5"]}, "samplers: '@0.5': .* NAME@SIGMA with an integrator NAME"),
    "unknown integrator": ({"samplers": ["BAOXB@0.5"]}, "samplers: 'BAOXB@0.5': integrator: unknown name 'BAOXB'"),
    "unknown option": (
        {"samplers": {"a": ("BAOAB", 0.3, {"step": 1})}}, "samplers: 'a': options: unknown option 'step'",
    ),
    "no step size": ({"samplers": {"a": ("BAOAB", 0.3, {})}}, "samplers: 'a': h, delta: exactly one must be given"),
    "unknown start": (
        {"samplers": {"a": ("BAOAB", 0.3, {"h": 1, "x0": "noise"})}}, "samplers: 'a': x0: must be one of target",
    ),
    "levels without a number": ({"levels": "karras:5:0.1:9"}, "samplers: 'heun': levels: must contain the word COUNT"),
    "no schedule": ({"levels": "own:COUNT"}, "samplers: 'heun': levels: own:COUNT .* schedule.*; use another family"),
    "vectors": ({"network": "gaussian"}, r"network: must have images of shape .*one of images \(n, 1, 1, d\)"),
    "no network": ({"network": 3}, "data: must be a GaussianMixture"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_before_anything_is_computed(case, monkeypatch):
    change, message = BAD[case]
    monkeypatch.setattr(Batch, "result", broken)
    options = {"network": DATA, "samplers": SAMPLERS, "nfe": [4, 9]} | OPTIONS | change
    with pytest.raises(ValueError, match=message) as error:
        quality(**options)
    assert "\n" not in str(error.value)


# -------------------------------------------------------------------------------------------------- figure and commands


def test_the_figure_shows_metrics_floors_and_images(found, tmp_path):
    figure = plotting.draw_quality(found, labels={"heun": "second order"})
    panels = [axes for axes in figure.axes if axes.get_xlabel() or axes.get_ylabel()]
    assert [axes.get_ylabel().split("\n")[0] for axes in panels] == [
        "FD(pixels), extrapolated", "kernel distance", "precision (k = 5, n = 32)", "recall (k = 5, n = 32)",
    ]  # fmt: skip
    rows = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert rows == [f"{name}, {count} evaluations" for name, count in (
        ("second order", 9), ("chain", 9), ("ddim", 9), ("fixed", 5))]  # fmt: skip
    found.to_netcdf(tmp_path / "quality.nc")
    axes = Figure().subplots()
    assert plotting.draw_quality(tmp_path / "quality.nc", axes, metrics="recall") is axes
    points = [line.get_xydata() for line in axes.lines if len(line.get_xdata()) and line.get_marker() == "o"]
    expected = found.sel(metric="recall", sampler="heun", nfe=[4, 9])
    np.testing.assert_allclose(points[0], np.transpose([expected.evaluations, expected.value]))
    several = Figure().subplots(1, 2)
    assert plotting.draw_quality(found, several, metrics=["recall", "density"]) is several
    with pytest.raises(ValueError, match="metric: unknown name 'recal'"):
        plotting.draw_quality(found, metrics="recal")
    with pytest.raises(ValueError, match="study: the dataset must contain a study of quality"):
        plotting.draw_quality(xr.Dataset())


def test_distributions_state_how_their_images_are_drawn(network):
    """In the range of the images of a data set, and as the card of a network states."""
    assert DATA.extremes == pytest.approx((DIGITS[:40].min(), DIGITS[:40].max()), abs=1e-6)
    assert DATA.display == Display(DATA.extremes, 1.0, "gray")
    net = uldnum.networks.network(network, {"display": (0, 2), "gamma": 0.5, "colours": "magma"})
    assert net.display == Display((0, 2), 0.5, "magma")
    assert uldnum.target("gaussian").display is None
    assert uldnum.networks.network(network).display.limits == (-1, 1)


@pytest.mark.parametrize(("card", "limits"), [({}, [-3, 3]), ({"display": (0, 2)}, [0, 2])], ids=["range", "card"])
def test_a_study_draws_images_in_its_range_unless_the_card_states_another(network, card, limits):
    net = uldnum.networks.network(network, card)
    found = quality(net, ["ddim"], [3], **OPTIONS | {"reference": 3 * DIGITS, "data_range": (-3, 3)})
    assert found.attrs["display"] == limits


def test_a_given_range_replaces_that_of_the_card_in_warnings(network, recwarn):
    net = uldnum.networks.network(network, {"data_range": (-0.1, 0.1)})
    options = OPTIONS | {"data_range": (-1, 1), "images": 12}
    quality(net, ["ddim"], [10], **options)
    assert not [one for one in recwarn if "outside the range" in str(one.message)]
    with pytest.warns(UserWarning, match="far outside the range of the data of .*, -0.1 to 0.1"):
        quality(net, ["ddim"], [10], **options | {"data_range": None, "reference": DIGITS / 10})


def test_a_study_warns_once_of_samples_that_are_wrong(network):
    """Once for each sampler of several batches, and once for the first step of a plan."""
    net = uldnum.networks.network(network, {"data_range": (-0.1, 0.1)})
    options = OPTIONS | {"data_range": None, "reference": DIGITS / 10, "images": 12, "batch": 4}
    noisy = uldnum.plan("ddim", uldnum.levels.given([100.0, 1.0]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        quality(net, ["ddim", "heun"], [10], **options)
        quality(net, {"noisy": noisy}, 2, **options)
    texts = [str(one.message) for one in caught]
    assert [text.partition(":")[0] for text in texts if "far outside" in text] == ["ddim", "heun"]
    assert len([text for text in texts if "ddim: starts at sigma/alpha = 100" in text]) == 1
    assert all(one.filename == __file__ for one in caught)


def test_distances_below_the_noise_floor_have_a_linear_axis(found):
    """A symmetric logarithmic axis has ticks at its ends only if all values are in its linear part."""
    small, large = found.copy(deep=True), found.copy(deep=True)
    for name in ("value", "error", "floor"):
        small[name][:] = 0.01
    small["floor_error"][:] = large["floor_error"][:] = 0.04
    large["value"][:] = 7.0
    for data, scale in ((small, "linear"), (large, "symlog")):
        axes = plotting.draw_quality(data, Figure().subplots(), metrics="frechet")
        assert axes.get_yscale() == scale


def run(*words):
    return CliRunner().invoke(app, list(map(str, words)))


def test_the_command_prints_values_and_floors(network, held_out, tmp_path):
    given = ("quality", "--network", network, "--samplers", "ddim,BAOAB@0.5", "--nfe", "4,8", "--images", 32,
             "--reference", held_out, "--features", "pixels", "--levels", LEVELS, "--out", tmp_path)  # fmt: skip
    done = run(*given)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].startswith("32 images of each sampler on tiny, compared with squares in the features pixels")
    assert [line.split()[:2] for line in lines if line.startswith(("ddim", "BAOAB"))] == [
        ["ddim", "4"], ["ddim", "8"], ["BAOAB@0.5", "4"], ["BAOAB@0.5", "8"],
    ]  # fmt: skip
    assert sum(line.startswith("held-out images") for line in lines) == 1
    assert (tmp_path / "quality.png").is_file()
    study = xr.load_dataset(tmp_path / "quality.nc")
    done = run(*given, "--json", "--metrics", "recall")
    (first, *_), text = (content := json.loads(done.output))["results"], content["data"]
    assert text == str(tmp_path / "quality.nc")
    assert first["value"] == pytest.approx(float(study.value.sel(metric="recall", sampler="ddim", nfe=4)))


def test_the_range_of_images_may_be_stated(network, tmp_path):
    """It replaces that of the card of the network, which is [-1, 1] unless a card states another one."""
    np.save(tmp_path / "wide.npy", 3 * DIGITS)
    own = ("quality", "--network", network, "--samplers", "ddim", "--nfe", 4, "--images", 32, "--levels", LEVELS)
    given = (*own, "--reference", tmp_path / "wide.npy", "--features", "pixels", "--out", tmp_path)
    assert "state the range of the images as --data-range=low,high" in run(*given).output
    assert "error: --data-range: must be LOW,HIGH" in run(*given, "--data-range", "3").output
    net = uldnum.networks.network(network)
    options = OPTIONS | {"reference": tmp_path / "wide.npy", "levels": LEVELS, "metrics": "frechet"}
    found = quality(net, ["ddim"], 4, data_range=(-3, 3), **options)
    plan = uldnum.plan("ddim", uldnum.levels.geometric(5.0, 0.1, 4))
    states = uldnum.anneal(net, plan, chains=32, seed=0, progress=False).x
    expected = frechet_distance(states.reshape(32, 4).clip(-3, 3), (3 * DIGITS).reshape(160, 4)).value
    np.testing.assert_allclose(found.value.values.ravel(), expected, rtol=1e-5)
    assert found.data_range == [-3, 3]


def test_unusable_files_are_refused_before_anything_is_computed(network, held_out, tmp_path):
    """An empty folder, and a model of features with two outputs."""
    (tmp_path / "empty").mkdir()
    graph = Graph()
    for name in ("a", "b"):
        graph.node("ReduceMean", Value(graph, "x"), keepdims=0, axes=[2, 3], output=name)
    outputs = dict.fromkeys(("a", "b"), ("float32", ["batch", 1]))
    model = graph.save(tmp_path / "two.onnx", {"x": ("float32", ["batch", 1, 2, 2])}, outputs)
    given = ("quality", "--network", network, "--samplers", "ddim", "--nfe", 4, "--out", tmp_path)
    for options, message in (
        (("--reference", tmp_path / "empty"), "must contain PNG or JPEG files, got none"),
        (("--reference", held_out, "--features", model), "the model must have one output, or the outputs features and"),
    ):  # fmt: skip
        failed = run(*given, *options)
        assert failed.exit_code == 2
        assert message in failed.output
        assert len(failed.output.splitlines()) == 1
    assert not list(tmp_path.glob("points/*"))


@pytest.mark.parametrize("command", ["sample", "anneal"])
def test_final_images_are_compared_with_reference_images(command, network, held_out, tmp_path):
    own = {
        "sample": ("--network", network, "--sigma-ratio", 0.5, "--steps", 4, "--h", 1, "--integrator", "ula"),
        "anneal": ("--data", network, "--method", "ddim", "--levels", "geometric:5:0.1:4"),
    }[command]
    given = (command, *own, "--chains", 32, "--reference", held_out, "--features", "pixels", "--out", tmp_path)
    done = run(*given)
    assert done.exit_code == 0, done.output
    for title in ("FD(pixels), extrapolated", "kernel distance", "precision (k = 5, n = 32)", "recall (k = 5"):
        assert title in done.output
    states = xr.load_dataset(tmp_path / ("run.nc" if command == "sample" else "anneal.nc"))
    images = states.denoised.values[-1] if command == "sample" else states.x.values
    reference = reference_images(held_out)
    value = frechet_distance(images.reshape(32, 4).clip(-1, 1), reference.train.reshape(-1, 4)).value
    printed = next(line for line in done.output.splitlines() if line.startswith("FD(pixels)"))
    assert float(printed.split(": ")[1].split(" ±")[0]) == pytest.approx(float(value), rel=0.1, abs=0.01)
    short = run(*given, "--chains", 9, "--out", tmp_path / "other")
    assert short.exit_code == 2
    assert "images: must be at least 12 for 4 features, got 9" in short.output
    assert not list((tmp_path / "other").glob("*.nc"))

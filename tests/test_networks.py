"""Networks as targets: scores of every parameterisation against closed forms, invalid files and cards, and chains."""

import ast
import hashlib
import re
import shlex
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from helpers.networks import BETAS, EPS, SHAPE, exact_answer, exact_image, levels_of_betas, vp_linear
from helpers.onnx_models import Graph, Value, constant, save_mixture
from onnx import TensorProto, helper

import uldnum
from uldnum._util.extras import MissingExtraError
from uldnum.cli.sample import recorded_images
from uldnum.networks import Card, Network, network, parse_value
from uldnum.networks.forms import NEEDS, OF_NOISE, PARAMETERISATIONS, alpha_and_sigma, form
from uldnum.networks.model import Device
from uldnum.networks.words import EXAMPLES, KEYS, example, translated
from uldnum.plans.schedules import schedule


@pytest.fixture(scope="module")
def mixture():
    rng = np.random.default_rng(0)
    return uldnum.GaussianMixture([0.5, 0.3, 0.2], rng.normal(size=(3, 12)), [0.1, 0.4, 1.0])


def ve_of(function):
    """Return levels with alpha = 1 and sigma a function of the condition."""
    return lambda graph, u: (constant(graph, 1.0) + u * 0.0, function(graph, u))


def karras(graph, u):
    """Return sigma of the schedule of Karras et al. from 80 to 0.002."""
    return (constant(graph, 80 ** (1 / 7)) + u * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7


SCALED = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
BAR = np.cos((np.arange(101) / 100 + 0.008) / 1.008 * np.pi / 2) ** 2
COSINE = np.minimum(1 - BAR[1:] / BAR[:-1], 0.999)
TUTORIAL = {"kind": "functions", "sigma": lambda t: np.sqrt((25 ** (2 * t) - 1) / (2 * np.log(25)))}
NCSN = np.geomspace(10.0, 0.02, 40)


def gathered(values):
    """Return a graph function from an integer to VE levels with the given sigma."""

    def levels(graph, u):
        row = graph.node("Squeeze", graph.node("Cast", u, to=TensorProto.INT64), np.array([1]))
        return constant(graph, 1.0) + u * 0.0, graph.node("Gather", values[:, None], row, axis=0)

    return levels


DDPM = {"kind": "linear", "beta_start": 1e-4, "beta_end": 0.02, "timesteps": 1000}

# Scaling, condition, other keys of the card, alpha and sigma as functions of the condition, values of sigma to test.
CONDITIONED = {
    "sigma": ("ve", "sigma", {}, ve_of(lambda g, u: u), (0.05, 0.7, 30.0)),
    "log sigma": ("ve", "log-sigma", {}, ve_of(lambda g, u: u.exp()), (0.05, 0.7, 30.0)),
    "EDM": ("edm", "log-sigma", {"condition_scale": 0.25}, ve_of(lambda g, u: (u * 4.0).exp()), (0.05, 0.7, 30.0)),
    "VP continuous": ("vp", "t", {
        "schedule": {"kind": "vp-sde", "beta_start": 0.1, "beta_end": 20.0}, "condition_scale": 999.0,
    }, vp_linear, (0.05, 0.5, 0.99)),
    "linear betas": ("vp", "timestep", {"schedule": DDPM}, levels_of_betas(BETAS), (0.02, 0.5, 0.99)),
    "scaled-linear betas": ("vp", "timestep", {
        "schedule": {"kind": "scaled-linear", "beta_start": 0.00085, "beta_end": 0.012, "timesteps": 1000},
    }, levels_of_betas(SCALED), (0.05, 0.5, 0.99)),
    "cosine betas": ("vp", "timestep", {"schedule": {"kind": "cosine", "timesteps": 100}}, levels_of_betas(COSINE),
                     (0.05, 0.5, 0.99)),
    "alphas_cumprod": ("vp", "timestep", {
        "schedule": {"kind": "alphas-cumprod", "alphas_cumprod": np.cumprod(1 - BETAS).tolist()},
    }, levels_of_betas(BETAS), (0.02, 0.5, 0.99)),
    "geometric": ("ve", "t", {"schedule": {"kind": "geometric", "first": 0.01, "last": 50.0}},
                  ve_of(lambda g, u: (u * np.log(5000)).exp() * 0.01), (0.05, 0.7, 30.0)),
    "NCSN": ("ve", "timestep", {"schedule": {"kind": "geometric", "first": 1.0, "last": 0.01, "timesteps": 10}},
             ve_of(lambda g, u: (u / 9.0 * np.log(0.01)).exp()), (0.05, 0.7)),
    "Karras": ("ve", "t", {"schedule": {"kind": "karras", "first": 80.0, "last": 0.002}}, ve_of(karras),
               (0.05, 0.7, 30.0)),
    "flow": ("flow", "t", {"schedule": {"kind": "flow"}, "condition_scale": 1000.0},
             lambda g, u: (1.0 - u / 1000.0, u / 1000.0), (0.05, 0.5, 0.99)),
    "reversed flow": ("flow", "t", {"schedule": {"kind": "flow", "reverse": True}},
                      lambda g, u: (u, 1.0 - u), (0.05, 0.5, 0.99)),
    "sigma of flow": ("flow", "sigma", {}, lambda g, u: (1.0 - u, u), (0.05, 0.5, 0.99)),
    "sub-VP": ("sub-vp", "t", {
        "schedule": {"kind": "sub-vp", "beta_start": 0.1, "beta_end": 20.0}, "condition_scale": 999.0,
    }, lambda g, u: (vp_linear(g, u)[0], 1.0 - vp_linear(g, u)[0] ** 2), (0.05, 0.5, 0.99)),
    "tutorial": ("ve", "t", {"schedule": TUTORIAL}, ve_of(
        lambda g, u: (((u * np.log(625)).exp() - constant(g, 1.0)) / (2 * np.log(25))) ** 0.5), (0.05, 0.7, 9.0)),
    "table": ("ve", "t", {"schedule": {"kind": "table", "t": [0.0, 0.25, 1.0], "ratio": [0.01, 1.0, 10.0]}},
              ve_of(lambda g, u: g.node("Where", g.node("Less", u, np.array(0.25)),
                                        ((u - constant(g, 0.25)) * (np.log(100) / 0.25)).exp(),
                                        ((u - constant(g, 0.25)) * (np.log(10) / 0.75)).exp())), (0.05, 0.7, 9.0)),
    "index": ("ve", "index", {"schedule": {"kind": "table", "ratio": NCSN.tolist()}}, gathered(NCSN), (0.05, 0.7, 9.0)),
    "sigma squared": ("ve", "sigma-squared", {}, ve_of(lambda g, u: u**0.5), (0.05, 0.7, 30.0)),
    "log-SNR": ("vp", "log-snr", {}, lambda g, u: (
        (constant(g, 1.0) / ((u * -1.0).exp() + constant(g, 1.0))) ** 0.5,
        (constant(g, 1.0) / (u.exp() + constant(g, 1.0))) ** 0.5,
    ), (0.05, 0.5, 0.99)),
    "alpha-bar": ("vp", "alpha-bar", {}, lambda g, u: (u**0.5, (1.0 - u) ** 0.5), (0.05, 0.5, 0.99)),
    "none": ("ve", "none", {}, ve_of(lambda g, u: constant(g, 0.6)), (0.6,)),
}  # fmt: skip


# All pairs of a parameterisation and a condition, except parameterisations that require another scaling.
CASES = [
    (what, case) for what in PARAMETERISATIONS for case, (scaling, *_) in CONDITIONED.items()
    if NEEDS.get(what, scaling) == scaling
]  # fmt: skip


@pytest.mark.parametrize(("what", "case"), CASES)
def test_score_is_that_of_the_noised_mixture(tmp_path, mixture, what, case):
    """Scores and denoised images agree with the closed form to 16 float32 roundings of their parts, at all levels.

    The parts are a z and b N of the score, and p z and q N of the image; q is sigma/alpha if the network predicts the
    noise. The levels include the cleanest and the noisiest of the network, where alpha is 0 if the image is known
    there. If time is 1 - sigma, the rounding of the time changes sigma by 1/sigma times as much, and that of alpha^2
    changes it by 1/sigma^2 times as much.
    """
    scaling, condition, keys, levels, sigmas = CONDITIONED[case]
    path = save_mixture(tmp_path / "net.onnx", mixture, SHAPE, what, levels, edm=scaling == "edm")
    card = {"parameterisation": what, "scaling": scaling, "condition": condition, **keys}
    net = Network(path, card | ({"condition_input": "timestep"} if condition != "none" else {}), inputs={
        "timestep": np.zeros(1)} if condition == "none" else None)  # fmt: skip
    assert net.shape == SHAPE
    rng = np.random.default_rng(1)
    low, high = net.card.limits
    ends = (max(low, 1e-3), min(high, 80.0)) if condition != "none" else ()
    known = [sigma for sigma in ends if sigma != 1 or scaling in ("ve", "edm") or what not in OF_NOISE]
    known = [min(sigma, 0.9999) if condition == "log-snr" else sigma for sigma in known]
    growth = {"reversed flow": 1, "alpha-bar": 2}.get(case, 0)
    for sigma in (*sigmas, *known):
        level = net.at(sigma)
        assert level.sigma == pytest.approx(sigma, rel=0.4 if condition in ("timestep", "index") else 1e-12)
        law, size = mixture.noised(level.alpha, level.sigma), sigma**-growth
        x = (law.mean + law.standard_deviation * rng.normal(size=(5, 12))).reshape(5, *SHAPE).astype(np.float32)
        exact, parts = exact_answer(mixture, level, x)
        np.testing.assert_allclose(level.score(x), exact, rtol=0, atol=16 * EPS * size * parts.max())
        image, px = exact_image(mixture, level.alpha, level.sigma, x), level.form.image[0] * x
        room = 16 * EPS * size * (np.abs(px) + np.abs(image - px)).max()
        np.testing.assert_allclose(level.denoise(x), image, rtol=0, atol=room)


def test_alpha_and_sigma_of_sub_vp():
    """Alpha^2 + sigma = 1 at every level, up to pure noise, and sigma is accurate where it is small."""
    card = Card("denoiser", "sub-vp", "sigma")
    for sigma in (1e-9, 0.3, 1.0):
        level = card.level(sigma)
        assert level.alpha == pytest.approx((1 - sigma) ** 0.5, abs=1e-15)
        assert alpha_and_sigma("sub-vp", sigma / level.alpha if level.alpha else np.inf) == pytest.approx(
            (level.alpha, sigma), rel=1e-15)  # fmt: skip


def test_the_log_snr_excludes_pure_noise():
    card = Card("v", "vp", "log-snr", schedule={"kind": "cosine", "timesteps": 100, "zero_terminal_snr": True})
    with pytest.raises(ValueError, match="because the condition 'log-snr' is infinite there"):
        card.level(ratio=np.inf)
    levels = [card.level(t=t) for t in card.spaced(10, SHAPE)]
    assert np.isfinite([level.condition for level in levels]).all()
    assert levels[0].alpha < 0.02


def test_indices_and_times_of_a_table():
    """Index 0 may be the noisiest level; a level with sigma = 0 has an index, but is not a noise level."""
    table = {"kind": "table", "ratio": [8.0, 4.0, 2.0, 0.0], "t": [0.0, 0.1, 0.6, 1.0]}
    card = Card("score", "ve", "index", schedule=table)
    assert [card.level(ratio=ratio).condition for ratio in (8.0, 5.0, 2.2)] == [0.0, 1.0, 2.0]
    assert card.level(ratio=5.0).sigma == pytest.approx(4.0)
    np.testing.assert_allclose(card.spaced(3, SHAPE), [0.0, 0.1, 0.6])
    with pytest.raises(ValueError, match=r"t: must lie between 0 and 0\.6, at a positive noise level, got 1"):
        card.level(t=1.0)
    assert Card("score", "ve", "t", schedule=table).level(t=0.35).sigma == pytest.approx(8**0.5)


@pytest.mark.parametrize("what", PARAMETERISATIONS)
def test_image_and_noise_of_a_form_add_up(what):
    """For every answer, alpha x0 + sigma eps = z."""
    for ratio in (1e-3, 0.7, 40.0):
        alpha, sigma = alpha_and_sigma(NEEDS.get(what, "vp"), ratio)
        found = form(what, alpha, sigma, 0.47)
        sums = alpha * np.array(found.image) + sigma * np.array(found.noise)
        np.testing.assert_allclose(sums, [1, 0], rtol=0, atol=4e-16 * max(1, sigma))


def test_interpolated_timesteps(tmp_path, mixture):
    """The logarithm of the noise level is interpolated between integer timesteps, and exact at integer timesteps."""
    given = schedule(DDPM)
    kept = np.cumprod(1 - BETAS)
    ratios = np.sqrt((1 - kept) / kept)
    assert given.ratio(10) == pytest.approx(ratios[10], rel=1e-14)
    assert given.ratio(10.5) == pytest.approx(np.sqrt(ratios[10] * ratios[11]), rel=1e-14)
    assert given.time(given.ratio(123.4)) == pytest.approx(123.4, rel=1e-12)
    card = {"parameterisation": "epsilon", "scaling": "vp", "condition": "interpolated-timestep", "schedule": DDPM}
    path = save_mixture(tmp_path / "net.onnx", mixture, SHAPE, "epsilon", levels_of_betas(BETAS))
    level = Network(path, card).at(t=10.25)
    assert level.level.condition == pytest.approx(10.25)
    assert level.sigma / level.alpha == pytest.approx(ratios[10] ** 0.75 * ratios[11] ** 0.25, rel=1e-12)
    nearest = Network(path, card | {"condition": "timestep"}).at(ratio=level.sigma / level.alpha)
    assert (nearest.level.condition, nearest.sigma / nearest.alpha) == (10, pytest.approx(ratios[10], rel=1e-12))


def timesteps_of(net, levels):
    """Return the timestep of each level, with its ratio of the schedule as an error bound of 1e-12."""
    t = np.array([net.time(ratio) for ratio in levels.ratio])
    np.testing.assert_allclose(levels.ratio, net.card.times.ratio(t), rtol=1e-12)
    return t


def test_nearest_levels_are_at_timesteps(tmp_path):
    """Levels move to the nearest timestep and keep alpha; two levels at one timestep become one."""
    path = save_nodes(tmp_path / "net.onnx", {"x": IMAGE, "t": NUMBER}, {"score": IMAGE}, [PASS])
    card = {"parameterisation": "score", "scaling": "vp", "condition": "timestep", "schedule": DDPM}
    net = Network(path, card)
    asked = uldnum.levels.karras(20.0, 0.02, 20)
    found = net.nearest(asked)
    times = net.card.times.time(asked.ratio)
    np.testing.assert_array_equal(timesteps_of(net, found), np.rint(times))
    np.testing.assert_array_equal(found.alpha, 1)
    alpha = np.array([0.5, 0.4, 0.3, 0.2])
    found = net.nearest(uldnum.levels.given(alpha * net.card.times.ratio(np.array([500.4, 499.8, 400.0, 10.1])), alpha))
    np.testing.assert_array_equal(timesteps_of(net, found), [500, 400, 10])
    np.testing.assert_array_equal(found.alpha, [0.5, 0.3, 0.2])
    assert net.nearest(found) is found
    with pytest.raises(ValueError, match=r"levels: net was trained for sigma from .*level with sigma/alpha = 200\)"):
        net.nearest(uldnum.levels.karras(200.0, 0.02, 20))
    with pytest.raises(ValueError, match=r"the nearest one to sigma/alpha = 20 has sigma/alpha = 19\.96\d+; use "
                       r"uldnum\.plan\(\.\.\., net\.nearest\(levels\)\)"):  # fmt: skip
        uldnum.anneal(net, uldnum.plan("ddim", asked), chains=2)
    run = uldnum.anneal(net, uldnum.plan("ddim", net.nearest(asked)), chains=2, progress=False)
    assert np.isfinite(run.x).all()
    other = Network(path, card | {"condition": "interpolated-timestep"})
    assert other.nearest(asked) is asked
    assert other.time(other.card.times.ratio(10.25)) == pytest.approx(10.25)
    assert Network(path, gaussian_card()).time is None
    zero = Network(path, card | {"parameterisation": "v", "schedule": DDPM | {"zero_terminal_snr": True}})
    pure = zero.nearest(uldnum.levels.given([3e3, 1.0], [4e-4, 1.0]))
    np.testing.assert_allclose(pure.alpha, [0, 1])
    assert pure.sigma[0] == pytest.approx(3e3)
    assert pure.ratio[0] == np.inf


@pytest.mark.parametrize(
    ("described", "at_zero", "at_end"),
    [
        ({"kind": "vp-sde", "beta_start": 0.1, "beta_end": 20.0}, 0.0, np.sqrt(np.expm1(10.05))),
        ({"kind": "vp-sde", "beta_start": 1.0, "beta_end": 1.0, "end": 10.0}, 0.0, np.sqrt(np.expm1(10.0))),
        ({"kind": "geometric", "first": 1.0, "last": 0.01, "timesteps": 10}, 1.0, 0.01),
        ({"kind": "karras", "first": 80.0, "last": 0.002, "rho": 7}, 80.0, 0.002),
        ({"kind": "sub-vp", "beta_start": 0.1, "beta_end": 20.0}, 0.0, 2 * np.sinh(10.05 / 2)),
        ({"kind": "table", "t": [0.2, 0.3, 2.0], "ratio": [5.0, 4.0, 0.1]}, 5.0, 0.1),
        ({"kind": "table", "ratio": [0.0, 0.1, 5.0, np.inf]}, 0.1, np.inf),
        ({"kind": "table", "ratio": [np.inf, 5.0, 0.1, 0.0]}, np.inf, 0.1),
        ({"kind": "functions", "sigma": np.sin, "alpha": np.cos, "end": 1.5}, 0.0, np.tan(1.5)),
        ({"kind": "functions", "sigma": lambda t: 10 - t, "timesteps": 10}, 10.0, 1.0),
        ({"kind": "functions", "sigma": lambda t: t, "alpha": lambda t: 1 - t}, 0.0, np.inf),
        (TUTORIAL, 0.0, np.sqrt(624 / np.log(625))),
        ({"kind": "betas", "values": [0.1, 0.2]}, np.sqrt(0.1 / 0.9), np.sqrt(0.28 / 0.72)),
    ],
)
def test_schedules_and_their_inverses(described, at_zero, at_end):
    given = schedule(described)
    assert given.ratio(given.start) == pytest.approx(at_zero, rel=1e-12)
    assert given.ratio(given.end) == pytest.approx(at_end, rel=1e-12)
    for t in given.start + np.linspace(0.01, 1, 7) * (given.end - given.start):
        assert given.time(given.ratio(t)) == pytest.approx(t, rel=1e-10)
    assert given.time(np.array([at_zero, at_end])) == pytest.approx([given.start, given.end], abs=1e-12)


@pytest.mark.parametrize(
    ("described", "fault"),
    [
        ({"kind": "linera"}, "nearest is 'linear'"),
        ({"kind": "geometric", "first": 1.0}, "'geometric' cannot be built from"),
        ({"kind": "geometric", "first": 1.0, "last": -1.0}, "different positive noise levels"),
        ({"kind": "alphas-cumprod", "alphas_cumprod": [0.5, 0.9]}, "must be at least 2 decreasing numbers"),
        ({"kind": "linear", "beta_start": 0.5, "beta_end": 2.0, "timesteps": 10}, "at least 2 decreasing numbers"),
        ({"kind": "cosine", "timesteps": "many"}, "'cosine' cannot be built from"),
        ({"kind": "table", "ratio": [1.0, 2.0, 2.0]}, "ratio must be non-negative, and must increase or decrease"),
        ({"kind": "table", "ratio": [1.0, -2.0]}, "ratio must be non-negative"),
        ({"kind": "table", "ratio": [1.0, 2.0], "t": [0.0, 0.5, 1.0]}, "lists of the same length"),
        ({"kind": "table", "ratio": [1.0, 2.0], "t": [0.5, 0.0]}, "t must increase"),
        ({"kind": "table", "ratio": [0.0, 1.0, np.inf]}, "at least 2 levels with positive alpha and sigma"),
        ({"kind": "functions", "sigma": lambda t: t * (1 - t)}, "must increase or decrease"),
        ({"kind": "functions", "sigma": lambda t: t, "end": -1.0}, "end: must be positive"),
        ({"kind": "functions", "sigma": 3.0}, "'functions' cannot be built from"),
    ],
)
def test_bad_schedules_are_refused(described, fault):
    with pytest.raises(ValueError, match=fault):
        schedule(described)


# ------------------------------------------------------------------------------------------------- inputs and outputs

CARD = {"parameterisation": "denoiser", "scaling": "ve", "condition": "sigma"}
WITHOUT_STEPS = {"kind": "geometric", "first": 1.0, "last": 2.0}


@pytest.mark.parametrize(
    ("condition", "opset"),
    [(("float32", []), 17), (("int64", ["batch"]), 18), (("float64", ["batch", 1]), 18), (("float32", [1]), 17)],
)
def test_conditions_of_any_rank_and_type(tmp_path, mixture, condition, opset):
    path = save_mixture(
        tmp_path / "net.onnx", mixture, SHAPE, "epsilon", levels_of_betas(BETAS), condition=condition, opset=opset
    )
    net = Network(path, {"parameterisation": "epsilon", "scaling": "vp", "condition": "timestep", "schedule": DDPM})
    level = net.at(t=500)
    x = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)
    exact, parts = exact_answer(mixture, level, x)
    np.testing.assert_allclose(level.score(x), exact, rtol=0, atol=16 * EPS * parts.max())


def test_external_weights_and_metadata(tmp_path, mixture):
    """Weights may lie beside the model, and the card in its metadata; the TOML file overrides the metadata."""
    metadata = {"uldnum.parameterisation": "denoiser", "uldnum.scaling": "ve", "uldnum.condition": "sigma",
                "uldnum.sigma_max": "20.0", "producer": "someone"}  # fmt: skip
    path = save_mixture(
        tmp_path / "a" / "net.onnx", mixture, SHAPE, "denoiser", ve_of(lambda g, u: u), metadata=metadata, external=True
    )
    assert (tmp_path / "a" / "net.onnx_data").is_file()
    net = network(path)
    assert (net.card.sigma_max, net.name) == (20.0, "net")
    before = net.at(0.5).fingerprint
    path.with_suffix(".toml").write_text(
        f'name = "named"\nsigma_max = 2.0\nsha256 = "{hashlib.sha256(path.read_bytes()).hexdigest()}"\n'
    )
    assert network(path).name == "named"
    with pytest.raises(ValueError, match="named was trained for sigma from 0 to 2"):
        network(path).at(3.0)
    weights = (tmp_path / "a" / "net.onnx_data").read_bytes()
    (tmp_path / "a" / "net.onnx_data").write_bytes(weights[::-1])
    assert network(path).at(0.5).fingerprint != before
    path.with_suffix(".toml").write_text('sha256 = "0"')
    with pytest.raises(ValueError, match="must equal that in its card"):
        network(path)
    path.with_suffix(".toml").write_text("name = ")
    with pytest.raises(ValueError, match=r"net.toml' cannot be read as TOML"):
        network(path)


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({}, r"must have parameterisation \(score.*and scaling.*and condition.*--set parameterisation="),
        (CARD | {"parameterisation": "noize"}, "parameterisation: must be one of score, epsilon"),
        (CARD | {"paramterisation": "noise"}, "unknown key 'paramterisation'; the nearest is 'parameterisation'"),
        (CARD | {"foo": 1}, r"unknown key 'foo'\. uldnum.networks.Card documents all keys"),
        (CARD | {"parameterisation": "v"}, "'v' needs 'vp', got 've'"),
        (CARD | {"condition": "t"}, "condition 't' needs a schedule"),
        (CARD | {"condition": "index", "schedule": WITHOUT_STEPS}, "with timesteps or a table"),
        (CARD | {"condition": "alpha-bar"}, "'alpha-bar' needs a scaling in which alpha depends on the noise level"),
        (
            CARD | {"condition": "timestep", "schedule": WITHOUT_STEPS},
            "with timesteps",
        ),
        (CARD | {"sigma": "1"}, "sigma: must be a number, got '1'"),
        (CARD | {"shape": [3, 0]}, "shape: must be channels, height and width"),
        (CARD | {"shape": [3, 4]}, "the shape of an image must be known and fit the model"),
        (CARD | {"shape": [1, 9, 9]}, "the shape of an image must be known and fit the model"),
        (CARD | {"data_range": [1, 0]}, "data_range: must be two numbers"),
        (CARD | {"image_input": "y"}, r"determine which input is the image, got sample.*--set image_input=NAME"),
        (CARD | {"name": [3]}, "name: must be a string"),
        (CARD | {"sigma_data": -0.5}, "sigma_data: must be positive"),
        (CARD | {"gamma": 0}, "gamma: must be positive"),
        (CARD | {"sigma_min": 2.0, "sigma_max": 1.0}, "sigma_min: must lie between 0 and sigma_max = 1, got 2"),
    ],
)
def test_bad_cards_are_refused(tmp_path, mixture, keys, fault):
    path = save_mixture(tmp_path / "net.onnx", mixture, SHAPE, "denoiser", ve_of(lambda g, u: u))
    with pytest.raises(ValueError, match=fault):
        Network(path, keys)


WORDS = {"prediction_type": "v_prediction", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
         "num_train_timesteps": 100, "rescale_betas_zero_snr": True, "timestep_spacing": "leading",
         "steps_offset": 1, "trained_betas": None}  # fmt: skip
OWN = {"parameterisation": "v", "schedule": {"kind": "scaled-linear", "beta_start": 0.00085, "beta_end": 0.012,
       "timesteps": 100, "zero_terminal_snr": True}, "spacing": {"kind": "leading", "offset": 1}}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "own"),
    [
        (WORDS, OWN),
        (OWN, OWN),
        ({"schedule": {key: WORDS[key] for key in WORDS if key.startswith(("beta", "num", "rescale", "trained"))},
          "spacing": {"timestep_spacing": "leading", "steps_offset": 1}, "parameterisation": "v_prediction"}, OWN),
        ({"schedule": {"kind": "squaredcos_cap_v2", "beta_start": 1.0, "num_train_timesteps": 10}},
         {"schedule": {"kind": "cosine", "timesteps": 10}}),
        ({"trained_betas": [0.1, 0.2], "beta_schedule": "linear", "beta_start": 1.0},
         {"schedule": {"kind": "betas", "values": [0.1, 0.2]}}),
        ({"prediction_type": "sample", "scaling": "sub_vp", "condition": "log_sigma"},
         {"parameterisation": "denoiser", "scaling": "sub-vp", "condition": "log-sigma"}),
        ({"prediction_type": "flow_prediction"}, {"parameterisation": "velocity"}),
        ({"timestep_spacing": "trailing", "steps_offset": 1}, {"spacing": {"kind": "trailing"}}),
    ],
)  # fmt: skip
def test_words_of_diffusers(given, own):
    assert translated(given) == own


def test_words_of_diffusers_in_cards_and_files(tmp_path, mixture):
    """A card in Python, a TOML file and the keys of a card have the same meaning in both vocabularies."""
    own = Card(scaling="vp", condition="timestep", **OWN)
    assert Card("v_prediction", "vp", "timestep", schedule=WORDS_OF_SCHEDULE, spacing=OWN["spacing"]) == own
    path = save_mixture(tmp_path / "net.onnx", mixture, SHAPE, "v", levels_of_betas(BETAS))
    assert Network(path, WORDS | {"scaling": "vp", "condition": "timestep", "name": ""}).card == own
    text = "\n".join(f"{key} = {str(one).lower() if isinstance(one, bool) else repr(one)}"
                     for key, one in WORDS.items() if one is not None)  # fmt: skip
    path.with_suffix(".toml").write_text(f'{text}\nscaling = "vp"\ncondition = "timestep"')
    assert Network(path, {"name": ""}).card == own
    assert Network(path, {"name": "", "prediction_type": "epsilon"}).card.parameterisation == "epsilon"


WORDS_OF_SCHEDULE = {key: WORDS[key] for key in WORDS if KEYS[key][0] == "schedule"}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_lines_in_messages_are_valid(kind):
    """The line for the shell and the one for Python have the same meaning, and the schedule exists."""
    shell, python = re.fullmatch(r"--set (.*) \(in Python card=(.*)\)", example("", kind)).groups()
    (given,) = shlex.split(shell)
    key, _, text = given.partition("=")
    assert {key: parse_value(text)} == ast.literal_eval(python)
    assert schedule(parse_value(text)).end > 0


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({}, "--set parameterisation=epsilon (in Python card={'parameterisation': 'epsilon'}) and --set scaling=vp"),
        (CARD | {"parameterisation": "velocty"}, "--set parameterisation=velocity (in Python"),
        (CARD | {"parameterisation": "velocity"}, "--set scaling=flow (in Python"),
        (CARD | {"conditoin": "t"}, "write --set condition=t (in Python"),
        (
            CARD | {"condition": "t"},
            "--set schedule='{kind = \"geometric\", first = 50.0, last = 0.01, timesteps = 232}'",
        ),
        (CARD | {"scaling": "vp", "condition": "timestep", "schedule": {"kind": "linaer"}}, '{kind = "linear", beta_s'),
        (CARD | {"schedule": {"kind": "cosine"}}, "--set schedule='{kind = \"cosine\", timesteps = 1000}'"),
        (CARD | {"spacing": {"kind": "even"}}, '--set schedule=\'{kind = "geometric"'),
        (CARD | {"spacing": {"kind": "leadin"}, "schedule": DDPM}, "--set spacing='{kind = \"leading\"}' (in Python"),
        (CARD | {"schedule": 3, "beta_start": 0.1}, "schedule: must be a table, got 3"),
        (CARD | {"prediction_type": "epsilon"}, "must be given once, got parameterisation and prediction_type"),
    ],
)
def test_messages_about_cards_show_the_line_that_mends_them(tmp_path, mixture, keys, line):
    path = save_mixture(tmp_path / "net.onnx", mixture, SHAPE, "denoiser", ve_of(lambda g, u: u))
    with pytest.raises(ValueError, match=re.escape(line)):
        Network(path, keys)


def save_nodes(path, inputs, outputs, nodes, opset=17):
    """Write a model with the given nodes without checking it, and return its path."""
    info = [[helper.make_tensor_value_info(n, t, s) for n, (t, s) in part.items()] for part in (inputs, outputs)]
    graph = helper.make_graph(nodes, "test", *info)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


IMAGE = (TensorProto.FLOAT, ["n", 1, 2, 2])
WHOLE, OPEN = (TensorProto.INT64, ["n", 1, 2, 2]), (TensorProto.FLOAT, ["n", 1, "h", "w"])
NUMBER = (TensorProto.FLOAT, ["n"])
PASS = helper.make_node("Neg", ["x"], ["score"])


@pytest.mark.parametrize(
    ("inputs", "outputs", "nodes", "fault"),
    [
        ({"a": IMAGE, "b": IMAGE, "t": NUMBER}, {"score": IMAGE}, [helper.make_node("Add", ["a", "b"], ["score"])],
         r"which input is the image, got a: .*; b: .*--set image_input="),
        ({"x": IMAGE, "p": NUMBER, "q": NUMBER}, {"score": IMAGE}, [PASS],
         r"which input is the noise level, got p: .*; q: .*--set condition_input="),
        ({"x": IMAGE}, {"score": IMAGE}, [PASS], "which input is the noise level, got none"),
        ({"x": IMAGE, "t": NUMBER}, {"p": IMAGE, "q": IMAGE},
         [helper.make_node("Neg", ["x"], ["p"]), helper.make_node("Neg", ["x"], ["q"])],
         r"which output to use, got p: .*; q: .*--set output="),
        ({"x": WHOLE, "t": NUMBER}, {"score": WHOLE}, [PASS],
         r"images must be floating point with an axis of images and at least one more, got x: tensor\(int64\)"),
        ({"x": IMAGE, "t": NUMBER}, {"score": (TensorProto.FLOAT, ["n", 2, 2, 2])},
         [helper.make_node("Concat", ["x", "x"], ["score"], axis=1)], r"its output must have shape \(1, 2, 2\)"),
        ({"x": OPEN, "t": NUMBER}, {"score": OPEN}, [PASS],
         r"shape of an image must be known.*--set shape=\[channels,height,width\]"),
        ({"x": IMAGE, "t": (TensorProto.INT64, ["n"])}, {"score": IMAGE}, [PASS],
         r"must be 'timestep' or 'index' for a model with an integer .* \(t: .*got 'sigma'"),
        ({"x": IMAGE, "t": NUMBER, "text": (TensorProto.FLOAT, ["n", 3])}, {"score": IMAGE}, [PASS],
         r"needs text: tensor\(float\).*missing text \(--input NAME=FILE.npy"),
    ],
)  # fmt: skip
def test_models_with_ambiguous_inputs_or_outputs_are_refused(tmp_path, inputs, outputs, nodes, fault):
    with pytest.raises(ValueError, match=fault):
        Network(save_nodes(tmp_path / "net.onnx", inputs, outputs, nodes), CARD)


def test_files_that_are_not_models_are_refused(tmp_path, mixture):
    good = save_mixture(tmp_path / "good.onnx", mixture, SHAPE, "denoiser", ve_of(lambda g, u: u))
    with pytest.raises(ValueError, match="no such file"):
        Network(tmp_path / "none.onnx", CARD)
    for name, content in (("corrupt", b"not a model"), ("truncated", good.read_bytes()[:-200]), ("empty", b"")):
        (tmp_path / f"{name}.onnx").write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}.onnx cannot be used: \w+"):
            Network(tmp_path / f"{name}.onnx", CARD)


def external(location):
    """Return a serialised model x + w whose weights are in an external file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, 1, 2, 2], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", IMAGE[1]), ("t", ["n"]))]
    out = helper.make_tensor_value_info("score", *IMAGE)
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["score"])], "test", info, [out], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def test_external_weights_stay_in_their_folder(tmp_path):
    """Weight files outside the folder (by path or link), missing ones and short ones are refused."""
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(np.ones(4, np.float32).tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "short.bin").write_bytes(b"1234")
    cases = {"../secret.bin": "escape", str(tmp_path / "secret.bin"): "[Aa]bsolute", "link.bin": "escape",
             "none.bin": "not exist", "short.bin": "out of bounds"}  # fmt: skip
    for location, fault in cases.items():
        (folder / "net.onnx").write_bytes(external(location))
        with pytest.raises(ValueError, match=rf"net.onnx cannot be used: .*{fault}"):
            Network(folder / "net.onnx", CARD)


def test_fingerprints_depend_on_external_weights(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "net.onnx").write_bytes(external("deep/w.bin"))
    found = set()
    for number in (1, 2):
        (tmp_path / "deep" / "w.bin").write_bytes(np.full(4, number, np.float32).tobytes())
        found.add(Network(tmp_path / "net.onnx", CARD).at(0.5).fingerprint)
    assert len(found) == 2


def test_non_finite_outputs_are_an_error(tmp_path):
    nodes = [helper.make_node("Sub", ["x", "x"], ["zero"]), helper.make_node("Div", ["zero", "zero"], ["score"])]
    net = Network(save_nodes(tmp_path / "nan.onnx", {"x": IMAGE, "t": NUMBER}, {"score": IMAGE}, nodes), CARD)
    with pytest.raises(ValueError, match=r"nan returned non-finite values at sigma = 0\.5, for 3 of 3 images"):
        uldnum.sample(net.at(0.5), "ula", h=1.0, steps=2, chains=3, progress=False)


def test_half_precision_and_fixed_batches(tmp_path):
    """A float16 model with batch size 2 evaluates five images in three calls, of which the last is padded."""
    half = (TensorProto.FLOAT16, [2, 1, 2, 2])
    path = save_nodes(tmp_path / "half.onnx", {"x": half, "t": NUMBER}, {"score": half}, [PASS])
    level = Network(path, {"parameterisation": "score", "scaling": "vp", "condition": "sigma"}).at(0.5)
    x = np.random.default_rng(0).normal(size=(5, 1, 2, 2)).astype(np.float32)
    answer = level.score(x)
    assert answer.dtype == np.float32
    np.testing.assert_array_equal(answer, -x.astype(np.float16).astype(np.float32))


# ------------------------------------------------------------------------------------------- conditions and guidance


@pytest.fixture
def labelled(tmp_path):
    """Denoiser x + sum(text) + label, whose output determines every input."""
    inputs = {
        "x": IMAGE,
        "sigma": NUMBER,
        "text": (TensorProto.FLOAT, ["n", 2, 3]),
        "label": (TensorProto.INT64, ["n"]),
    }
    graph = Graph()
    total = graph.node("ReduceSum", Value(graph, "text"), np.array([1, 2]), keepdims=0)
    label = graph.node("Cast", Value(graph, "label"), to=TensorProto.FLOAT)
    shift = graph.node("Reshape", graph.node("Add", total, label), np.array([-1, 1, 1, 1]))
    graph.node("Add", Value(graph, "x"), shift, output="denoised")
    info = [[helper.make_tensor_value_info(n, t, s) for n, (t, s) in part.items()]
            for part in (inputs, {"denoised": IMAGE})]  # fmt: skip
    made = helper.make_graph(graph.nodes, "test", *info, graph.weights)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_conditions_and_guidance_in_one_call(labelled, chunk):
    text = np.arange(30.0).reshape(5, 2, 3)
    given, plain = {"text": text, "label": np.array([7])}, {"text": np.zeros((1, 2, 3)), "label": np.array([10])}
    x = np.random.default_rng(0).normal(size=(5, 1, 2, 2))
    shift = text.sum(axis=(1, 2)) + 7
    level = Network(labelled, CARD, inputs=given, chunk=chunk).at(0.5)
    np.testing.assert_allclose(level.denoise(x), x + shift[:, None, None, None], rtol=1e-6)
    guided = Network(labelled, CARD, inputs=given, unconditional=plain, guidance=2.5, chunk=2 * chunk).at(0.5)
    calls = []
    run = guided.network.model.run
    guided.network.model.run = lambda binding: calls.append(run(binding))
    np.testing.assert_allclose(guided.denoise(x), x + (10 + 2.5 * (shift - 10))[:, None, None, None], rtol=1e-6)
    assert len(calls) == -(-5 // chunk)
    assert guided.fingerprint != level.fingerprint
    with pytest.raises(ValueError, match="text must have at least 1 row and at most 3, one per chain, got 5"):
        level.score(x[:3])


@pytest.mark.parametrize("chunk", [4, 64])
def test_rows_of_conditions_are_repeated_over_the_chains(labelled, chunk):
    """Six chains share three rows of one input and two rows of the other, in turn."""
    text, label = np.arange(18.0).reshape(3, 2, 3), np.array([100, 200])
    plain = {"text": np.zeros((1, 2, 3)), "label": np.array([7, 8, 9])}
    net = Network(labelled, CARD, inputs={"text": text, "label": label}, unconditional=plain, guidance=2.0, chunk=chunk)
    x = np.zeros((6, 1, 2, 2))
    shift = np.tile(text.sum(axis=(1, 2)), 2) + np.tile(label, 3)
    without = np.tile([7, 8, 9], 2)
    np.testing.assert_allclose(net.at(0.5).denoise(x)[:, 0, 0, 0], without + 2.0 * (shift - without), rtol=1e-6)
    with pytest.raises(ValueError, match="at least 1 row and at most 2, one per chain, got 3"):
        net.at(0.5).denoise(x[:2])


@pytest.mark.filterwarnings("ignore:.*far outside the range")
def test_runs_of_disjoint_chains_join_to_one_run(labelled):
    """A chain has the row of its index, also where a run does not start at chain 0 or has fewer chains than rows.

    Calls have the same images.
    """
    net = Network(labelled, CARD, inputs={"text": np.arange(30.0).reshape(5, 2, 3), "label": [100, 200]}, chunk=2)
    plan = uldnum.plan("heun", uldnum.levels.geometric(2.0, 0.5, 3))
    for run in (
        lambda **chains: uldnum.sample(net.at(0.5), "BAOAB", h=0.5, steps=3, thin=1, seed=5, **chains),
        lambda **chains: uldnum.anneal(net, plan, seed=5, keep=True, **chains),
    ):
        before = net.model.images
        whole, *parts = (run(first_chain=a, chains=n, progress=False) for a, n in ((0, 9), (0, 4), (4, 2), (6, 3)))
        np.testing.assert_array_equal(np.concatenate([part.trace for part in parts], axis=1), whole.trace)
        assert net.model.images - before == 2 * 9 * whole.nfe
    level, few = net.at(0.5), uldnum.sample(net.at(0.5), "ula", h=0.5, steps=2, thin=1, chains=4, seed=5)
    denoised = [level.denoise(np.concatenate([x, x[:1]]))[:4] for x in few.trace]  # with as many images as rows
    np.testing.assert_allclose(recorded_images(net, level, few, denoise=True), denoised, rtol=1e-6)
    later = uldnum.sample(level, "ula", h=0.5, steps=2, thin=1, chains=4, first_chain=3, seed=5)
    own = uldnum.diagnostics.virial(later.trace, level.of_chains(3, 4))
    assert uldnum.diagnostics.virial(later, level) == own
    label = Network(labelled, CARD, inputs={"text": 0 * np.ones((1, 2, 3)), "label": [0, 100, 200]}).at(0.5)
    run = uldnum.sample(label, "ula", h=1e-4, steps=1, chains=2, first_chain=1, x0=np.zeros((2, 1, 2, 2)))
    np.testing.assert_allclose(label.of_chains(1, 2).denoise(run.x)[:, 0, 0, 0], [100, 200], atol=0.01)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"text": np.zeros((1, 2, 3))}, r"label: tensor\(int64\).*missing label"),
        ({"text": np.zeros((1, 2, 3)), "label": [1], "lable": [1]}, "unknown lable"),
        ({"text": np.zeros((1, 2, 4)), "label": [1]}, r"the model needs text.*got float64 of shape \(1, 2, 4\)"),
        ({"text": np.zeros((1, 2, 3)), "label": ["one"]}, "inputs: label: must be a number"),
        ({"text": np.zeros((1, 2, 3)), "label": [1.7]}, "label must be integers"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(labelled, given, fault):
    with pytest.raises(ValueError, match=fault):
        Network(labelled, CARD, inputs=given)


def test_the_class_is_the_one_integer_input(labelled, tmp_path):
    """The name "class" stands for it, also without the condition, and a number for one row."""
    text = np.zeros((1, 2, 3))
    x = np.random.default_rng(0).normal(size=(2, 1, 2, 2))
    for given, shift in ((7, [7, 7]), ([7], [7, 7]), ([7, 9], [7, 9])):
        level = Network(labelled, CARD, inputs={"text": text, "class": given}).at(0.5)
        np.testing.assert_allclose(level.denoise(x), x + np.reshape(shift, (2, 1, 1, 1)), rtol=1e-6)
        named = Network(labelled, CARD, inputs={"text": text, "label": np.atleast_1d(given)}).at(0.5)
        assert level.fingerprint == named.fingerprint
    plain = {"text": text, "class": 10}
    level = Network(labelled, CARD, inputs=plain | {"class": 7}, unconditional=plain, guidance=2.5).at(0.5)
    np.testing.assert_allclose(level.denoise(x), x + (10 + 2.5 * (7 - 10)), rtol=1e-6)
    column = {"x": IMAGE, "t": NUMBER, "y": (TensorProto.INT64, ["n", 1]), "ids": (TensorProto.INT64, ["n", "m"])}
    path = save_nodes(tmp_path / "column.onnx", column, {"score": IMAGE}, [PASS])
    given = {"class": [1, 2], "ids": np.ones((1, 3), int)}
    assert Network(path, CARD, inputs=given).conditions.sets[0]["y"].tolist() == [[1], [2]]


@pytest.mark.parametrize(
    ("inputs", "given", "fault"),
    [
        ({}, {"class": 1}, "inputs: class: needs a model with one integer input, .*accepts only image and noise level"),
        ({"y": NUMBER}, {"class": 1}, r"class: needs a model with one integer input.* accepts y: tensor\(float\)"),
        ({name: (TensorProto.INT64, ["n"]) for name in "ab"}, {"class": 1}, "class: needs a model with one integer"),
        ({"y": (TensorProto.INT64, ["n"])}, {"class": 1, "y": 2}, "inputs: class: stands for y; give only one of them"),
        ({"y": (TensorProto.INT64, ["n"])}, {"class": 1.5}, "y must be integers, got"),
    ],
)
def test_a_class_that_the_model_does_not_take_is_refused(tmp_path, inputs, given, fault):
    path = save_nodes(tmp_path / "net.onnx", {"x": IMAGE, "t": NUMBER, **inputs}, {"score": IMAGE}, [PASS])
    with pytest.raises(ValueError, match=fault):
        Network(path, CARD | {"condition_input": "t"}, inputs=given)


def test_invalid_guidance_is_refused(labelled, gaussian):
    given = {"text": np.zeros((1, 2, 3)), "label": np.array([1])}
    longer = {"text": np.zeros((1, 2, 4)), "label": np.array([1])}
    with pytest.raises(ValueError, match="unconditional: needs guidance"):
        Network(labelled, CARD, inputs=given, unconditional=given)
    with pytest.raises(ValueError, match="guidance: must be 1 for a model without a condition"):
        Network(gaussian.model.path, gaussian_card(), guidance=2.0)
    with pytest.raises(ValueError, match=r"unconditional: the model needs text.*got float64 of shape \(1, 2, 4\)"):
        Network(labelled, CARD, inputs=given, unconditional=longer, guidance=2.0)
    with pytest.raises(ValueError, match="guidance: must be a finite number"):
        Network(labelled, CARD, inputs=given, unconditional=given, guidance=np.nan)


def test_conditions_for_all_images(tmp_path):
    """Inputs of rank 0 and inputs with a fixed single row serve all images of a batch."""
    inputs = {"x": IMAGE, "sigma": NUMBER, "a": (TensorProto.FLOAT, []), "b": (TensorProto.FLOAT, [1])}
    nodes = [helper.make_node("Add", ["a", "b"], ["c"]), helper.make_node("Add", ["x", "c"], ["denoised"])]
    path = save_nodes(tmp_path / "net.onnx", inputs, {"denoised": IMAGE}, nodes)
    x = np.random.default_rng(0).normal(size=(3, 1, 2, 2))
    # Several inputs could be the noise level; the card names one.
    card = CARD | {"condition_input": "sigma"}
    level = Network(path, card, inputs={"a": 2.0, "b": [1.0]}).at(0.5)
    np.testing.assert_allclose(level.denoise(x), x + 3, rtol=1e-6)


def test_fingerprints_depend_on_the_chosen_output(tmp_path):
    nodes = [helper.make_node("Neg", ["x"], ["p"]), helper.make_node("Identity", ["x"], ["q"])]
    path = save_nodes(tmp_path / "net.onnx", {"x": IMAGE, "t": NUMBER}, {"p": IMAGE, "q": IMAGE}, nodes)
    assert len({Network(path, CARD | {"output": name}).at(0.5).fingerprint for name in "pq"}) == 2


def test_clipping(labelled):
    """Denoised images are clipped to the range of the data, and the score is consistent with the clipped images."""
    given = {"text": np.zeros((1, 2, 3)), "label": np.array([0])}
    x = np.linspace(-3, 3, 8).reshape(2, 1, 2, 2)
    level = Network(labelled, CARD, inputs=given, clip=True).at(0.5)
    np.testing.assert_allclose(level.denoise(x), np.clip(x, -1, 1), atol=1e-6)
    np.testing.assert_allclose(level.score(x), (np.clip(x, -1, 1) - x) / 0.25, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------- chains


def gaussian_card():
    return {"parameterisation": "score", "scaling": "vp", "condition": "sigma"}


@pytest.fixture
def gaussian(tmp_path):
    """Network with score -x, exact for data N(0, I) at every noise level of a variance-preserving process."""
    path = save_nodes(tmp_path / "gaussian.onnx", {"x": IMAGE, "t": NUMBER}, {"score": IMAGE}, [PASS])
    return Network(path, gaussian_card())


@pytest.mark.parametrize("name", ["baoab-limit", "BAOAB", "OBABO", "UBU", "ula", "mild(0.5)"])
def test_chains_on_a_network_equal_chains_on_a_mixture(gaussian, name):
    """Chains on 2 x 2 images, h in units of sigma, equal chains on vectors of four coordinates with an absolute h."""
    sigma, common = 0.6, {"steps": 12, "chains": 5, "seed": 9, "first_chain": 2, "progress": False, "thin": 4}
    image = uldnum.sample(gaussian.at(sigma), name, h=1.0, friction=0.7, **common)
    vector = uldnum.GaussianMixture([1.0], [np.zeros(4)], [1.0])
    plain = uldnum.sample(vector, name, h=sigma, friction=0.7 / sigma, dtype="float32", **common)
    np.testing.assert_allclose(image.x.reshape(5, 4), plain.x, atol=1e-5)
    np.testing.assert_allclose(image.trace.reshape(3, 5, 4), plain.trace, atol=1e-5)
    assert image.nfe == plain.nfe
    assert image.x.shape == (5, 1, 2, 2)
    with pytest.raises(ValueError, match="images"):
        _ = image.mean


def test_groups_of_step_sizes_on_a_network(gaussian):
    level = gaussian.at(0.5)
    group = uldnum.sample(level, "OBABO", h=[0.5, 1.0], steps=6, chains=3, seed=1)
    alone = uldnum.sample(level, "OBABO", h=1.0, steps=6, chains=3, seed=1)
    np.testing.assert_array_equal(group.x[1], alone.x)


def test_divergence_on_a_network_is_reported(tmp_path):
    nodes = [helper.make_node("Identity", ["x"], ["score"])]
    path = save_nodes(tmp_path / "up.onnx", {"x": IMAGE, "t": NUMBER}, {"score": IMAGE}, nodes)
    growing = Network(path, {"parameterisation": "score", "scaling": "vp", "condition": "sigma"})
    with pytest.warns(UserWarning, match="ula diverged at h = 2 .3 of 3 chains"):
        run = uldnum.sample(growing.at(0.9), "ula", h=2.0, steps=60, chains=3, seed=1)
    assert run.diverged == 3


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_a_run_on_a_network_is_stored_and_resumed(gaussian, tmp_path, suffix):
    """A run that is stored as NetCDF or Zarr and resumed has the same bits as an uninterrupted run."""
    common = {"h": 1.0, "chains": 4, "thin": 3, "seed": 2, "progress": False}
    path = tmp_path / f"run.{suffix}"
    uldnum.sample(gaussian.at(0.5), "UBU", steps=7, **common).save(path)
    uldnum.sample(gaussian.at(0.5), "UBU", steps=9, **common).save(path)  # over the first one
    longer = uldnum.sample(gaussian.at(0.5), "UBU", steps=12, resume=path, **common)
    whole = uldnum.sample(gaussian.at(0.5), "UBU", steps=12, **common)
    np.testing.assert_array_equal(longer.trace, whole.trace)
    np.testing.assert_array_equal(longer.p, whole.p)
    assert [other.name for other in path.parent.iterdir() if other.name.startswith(".")] == []
    with pytest.raises(ValueError, match="the target or its options differ"):
        uldnum.sample(gaussian.at(0.6), "UBU", steps=12, resume=path, **common)
    with pytest.raises(ValueError, match=r"must end in .nc \(NetCDF\) or .zarr"):
        longer.save(tmp_path / "run.txt")


def test_values_far_outside_the_range_of_the_data_warn(gaussian):
    """Final states are N(0, 1), and the last level has sigma = 0.1: values beyond twice the range and 0.4 count."""
    plan = uldnum.plan("ddim", uldnum.levels.geometric(10.0, 0.1, 20))

    def run(half, **change):
        net = Network(gaussian.model.path, gaussian_card() | {"data_range": (-half, half)})
        vars(net).update(change)
        return uldnum.anneal(net, plan, chains=500, seed=3, progress=False)

    def share(run, half):
        return np.mean(np.abs(run.x) > 2 * half + 0.4)

    assert 0.03 < share(run(0.8), 0.8) < 0.1
    with pytest.warns(UserWarning, match="are far outside the range of the data of gaussian, -0.5 to 0.5") as caught:
        found = share(run(0.5), 0.5)
    assert found > 0.11
    assert str(caught[0].message).startswith(f"ddim: {found:.0%} of the values of the final states")
    run(0.5, decoder=print)  # latents have no range

    def score(z, sigma):
        return -z

    vectors = network(score, gaussian_card() | {"shape": [3], "data_range": (-0.1, 0.1)})
    uldnum.anneal(vectors, plan, chains=20, progress=False)


def test_initial_states_and_denoising_of_a_level(gaussian):
    level = gaussian.at(0.6)
    x = level.sample(3, seed=2)
    np.testing.assert_allclose(level.denoise(x), 0.8 * x, rtol=1e-6)  # E[x0 | z] = alpha z for data N(0, I)
    np.testing.assert_array_equal(level.sample(3, seed=2)[1:], level.sample(2, seed=2, first=1))
    assert level.standard_deviation.max() == 1
    same = gaussian.at(ratio=0.75)
    assert (same.alpha, same.sigma) == pytest.approx((0.8, 0.6))
    with pytest.raises(ValueError, match=r"images must have shape \(n, 1, 2, 2\)"):
        level.score(x[:, 0])


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"sigma": 0.0}, "sigma: must be positive"),
        ({"sigma": 1.0}, "sigma: must be a level with alpha > 0, because gaussian predicts the score s"),
        ({"sigma": 1.5}, "sigma: must lie between 0 and 1"),
        ({"sigma": -1.0}, "sigma: must be positive"),
        ({"sigma": np.nan}, "sigma: must be positive"),
        ({"ratio": np.inf}, "sigma-ratio: must be a level with alpha > 0"),
        ({"ratio": -1.0}, "sigma-ratio: must be positive and finite"),
        ({"sigma": 0.5, "ratio": 1.0}, "sigma and sigma-ratio: give only one of them"),
        ({"t": 3.0}, "t: the network has no schedule"),
    ],
)
def test_bad_noise_levels_are_refused(gaussian, given, fault):
    with pytest.raises(ValueError, match=fault):
        gaussian.at(**given)


def test_a_model_is_opened_once_on_another_gpu(gaussian, monkeypatch):
    """A stand-in for CuPy has the current GPU 1, and ONNX Runtime notes the GPU but uses the CPU."""
    opened, cpu, net = [], Device.open, Network(gaussian.model.path, gaussian_card(), threads=2)

    def open_there(device, path, threads):
        opened.append((device.name, device.number, device.tf32, path, threads))
        return cpu(Device(), path, threads)

    cupy = SimpleNamespace(cuda=SimpleNamespace(Device=lambda: SimpleNamespace(id=1)))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(Device, "open", open_there)
    here = Device("cuda", True)
    vars(here)["number"] = 0
    net.device = net.model.device = here
    copies = {}
    assert net.at(0.5).on_gpu(0, copies).network is net
    first, again = (net.at(sigma).on_gpu(1, copies).network for sigma in (0.5, 0.6))
    other = net.at(0.5).on_gpu(1, {}).network  # in another run
    assert opened == [("cuda", 1, True, net.model.path, 2)]
    assert first is again is not other
    assert first.model is other.model is not net.model
    assert first.device.number == 1
    assert (first.card, first.chunk) == (net.card, net.chunk)


def test_missing_devices_are_refused(gaussian):
    with pytest.raises(ValueError, match="device: must be 'cpu' or 'cuda'"):
        Network(gaussian.model.path, CARD, device="tpu")
    with pytest.raises((ValueError, MissingExtraError), match="pip install 'uldnum"):
        Network(gaussian.model.path, CARD, device="cuda")

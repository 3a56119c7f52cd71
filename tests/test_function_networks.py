"""Networks that are functions of arrays of NumPy, PyTorch and other libraries, on images and on vectors."""

import pickle
import sys
import time
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.networks import EPS, exact_answer, exact_image, exact_output
from helpers.onnx_models import Graph, Value, save_mixture

import uldnum
from uldnum.diagnostics.expectations import against
from uldnum.networks import Card, Network, network
from uldnum.networks.forms import CONDITIONS, NEEDS, PARAMETERISATIONS, SCALINGS
from uldnum.networks.function import CUDA, Library
from uldnum.networks.model import Device

RNG = np.random.default_rng(0)
MIXTURE = uldnum.GaussianMixture([0.5, 0.3, 0.2], RNG.normal(size=(3, 12)), [0.1, 0.4, 1.0], name="three")
PLANE = uldnum.GaussianMixture([0.5, 0.3, 0.2], RNG.normal(size=(3, 2)), [0.1, 0.4, 1.0], name="plane")
SPACES = {"images": (MIXTURE, (3, 2, 2)), "vectors": (PLANE, (2,)), "films": (MIXTURE, (1, 2, 3, 2))}

# How a network receives the noise level in each scaling, and alpha and sigma as functions of that.
SCALED = {
    "ve": ({"condition": "sigma"}, lambda u: (1.0, u)),
    "edm": ({"condition": "log-sigma", "condition_scale": 0.25}, lambda u: (1.0, np.exp(4 * u))),
    "vp": ({"condition": "sigma"}, lambda u: (np.sqrt(1 - u * u), u)),
    "flow": ({"condition": "t", "schedule": {"kind": "flow"}}, lambda u: (1 - u, u)),
}
PAIRS = [
    (what, scaling) for what in PARAMETERISATIONS for scaling in SCALED if NEEDS.get(what, scaling) == scaling
]  # fmt: skip
ALL_PAIRS = [
    (what, scaling) for what in PARAMETERISATIONS for scaling in SCALINGS if NEEDS.get(what, scaling) == scaling
]  # fmt: skip
SHORT = [("score", "ve"), ("epsilon", "vp"), ("denoiser", "sub-vp"), ("v", "vp"), ("velocity", "flow"), ("edm", "edm")]
SIGMA_CARD = {"parameterisation": "denoiser", "scaling": "ve", "condition": "sigma"}


def exact_function(space, what, scaling):
    """Return a function of NumPy arrays that is exact for the mixture of a space, and its card."""
    (mixture, shape), (card, levels) = SPACES[space], SCALED[scaling]

    def function(z, condition):
        assert condition.shape == (len(z),)
        assert (condition == condition[0]).all()
        alpha, sigma = levels(float(condition[0]))
        z = z * np.sqrt(sigma**2 + 0.25) if scaling == "edm" else z
        return exact_output(mixture, what, alpha, sigma, z)

    return function, card | {"parameterisation": what, "scaling": scaling, "shape": list(shape)}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(("what", "scaling"), PAIRS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_and_images_are_those_of_the_mixture(space, what, scaling, dtype):
    """They agree to the rounding of the sum of a z and b N, for noise levels from 0.01 to 0.99 of z."""
    function, card = exact_function(space, what, scaling)
    mixture, shape = SPACES[space]
    net = network(function, card, like=np.zeros(1, dtype))
    assert net.shape == shape
    for sigma in (0.01, 0.3, 0.9, 0.99):
        level = net.at(sigma)
        x = np.random.default_rng(1).normal(size=(5, *shape)).astype(dtype)
        exact, parts = exact_answer(mixture, level, x)
        rounding = 32 * np.finfo(np.float32).eps if dtype == np.float32 else 1e-11  # the latter is that of `exact`
        np.testing.assert_allclose(level.score(x), exact, rtol=0, atol=rounding * parts.max())
        image = exact_image(mixture, level.alpha, level.sigma, x)
        bound = rounding * max(1, level.sigma / level.alpha) * np.abs(x).max()
        np.testing.assert_allclose(level.denoise(x), image, rtol=0, atol=bound)


# Levels from sigma/alpha = 30 to 0.02, as the table of a schedule.
RATIOS = np.geomspace(30.0, 0.02, 9)


def conditioned(space, what, scaling, condition, library=np):
    """Return a network of arrays of a library that finds its noise level by its condition, and its levels."""
    mixture, shape = SPACES[space]
    known = {}

    def function(z, given):
        z, value = (np.asarray(part, float) for part in (z, given))
        alpha, sigma = known[min(known, key=lambda one: abs(one - value[0]))]
        z = z * np.sqrt(sigma**2 + 0.25) if scaling == "edm" else z
        return library.asarray(exact_output(mixture, what, alpha, sigma, z))

    card = {"parameterisation": what, "scaling": scaling, "condition": condition, "shape": list(shape),
            "schedule": {"kind": "table", "ratio": RATIOS.tolist()}, "data_range": (-30.0, 30.0)}  # fmt: skip
    net = network(function, card, like=library.zeros(1, dtype=library.float32))
    levels = [net.at(ratio=ratio) for ratio in RATIOS]
    known |= {one.level.condition: (one.alpha, one.sigma) for one in levels}
    assert len(known) == len(levels)
    return net, levels


def check_scores(space, levels):
    """Check the scores at three levels; the bound is the rounding of the sum of a z and b N."""
    mixture, shape = SPACES[space]
    for level in levels[::4]:
        x = np.random.default_rng(1).normal(size=(3, *shape)).astype(np.float32) * (level.alpha + level.sigma)
        exact, parts = exact_answer(mixture, level, x)
        np.testing.assert_allclose(level.score(x), exact, rtol=0, atol=32 * EPS * parts.max())


@pytest.mark.parametrize("condition", [one for one in CONDITIONS if one != "none"])
@pytest.mark.parametrize("space", [pytest.param("images", marks=pytest.mark.slow), "vectors"])
@pytest.mark.parametrize(("what", "scaling"), ALL_PAIRS)
def test_every_condition_selects_the_level(space, what, scaling, condition):
    if condition == "alpha-bar" and scaling in ("ve", "edm"):
        pytest.skip("alpha is 1 at every level")
    check_scores(space, conditioned(space, what, scaling, condition)[1])


METHODS = {
    "ddim": {}, "ddim(0.5)": {}, "ancestral": {}, "reverse-diffusion": {}, "edm-euler": {}, "heun": {},
    "dpm-solver++": {}, "UBU": {"h": 0.5, "predictor": "ddim"}, "baoab-limit": {"h": 0.7, "steps": 2},
}  # fmt: skip


@pytest.mark.parametrize(("what", "scaling"), [
    pytest.param(*pair, marks=[] if pair in SHORT else pytest.mark.slow) for pair in ALL_PAIRS
])  # fmt: skip
def test_plans_on_vectors_equal_the_mixture(what, scaling):
    """Chains in float32 equal chains in float64 on the mixture, to 30 times 16 rounding errors of values up to 4."""
    net, at = conditioned("vectors", what, scaling, "sigma")
    levels = uldnum.levels.given([level.sigma for level in at], [level.alpha for level in at])
    start = np.random.default_rng(1).normal(size=(6, 2)) * levels.sigma[0]
    runs = {"chains": 6, "seed": 5, "x0": start, "backend": "array", "progress": False}
    for name, more in METHODS.items():
        plan = uldnum.plan(name, levels, **more)
        run, exact = (uldnum.anneal(data, plan, **runs) for data in (net, PLANE))
        np.testing.assert_allclose(run.x, exact.x, rtol=0, atol=30 * 16 * 4 * EPS)


@pytest.mark.parametrize(
    ("what", "scaling"), [("velocity", "flow"), ("denoiser", "flow"), ("negative-velocity", "flow")]
)
@pytest.mark.parametrize("space", ["images", "vectors"])
def test_plans_from_pure_noise_equal_a_loop_in_float64(space, what, scaling):
    function, card = exact_function(space, what, scaling)
    mixture, shape = SPACES[space]

    net = network(function, card)
    levels = uldnum.levels.flow(8)
    start = np.random.default_rng(1).normal(size=(6, *shape)).astype(np.float32)
    run = uldnum.anneal(net, uldnum.plan("ddim", levels), chains=6, x0=start, progress=False)
    z = start.astype(float)
    for a, s, b, t in zip(levels.alpha, levels.sigma, levels.alpha[1:], levels.sigma[1:], strict=False):
        image = exact_image(mixture, a, s, z)
        z = b * image + t * (z - a * image) / s
    exact = exact_image(mixture, levels.alpha[-1], levels.sigma[-1], z)
    np.testing.assert_allclose(run.x, exact, rtol=0, atol=1e-4)


def test_chains_on_vectors_have_the_law_of_the_integrator():
    """Var(x) of ULA on N(0, 1 + sigma^2) is that of `exact.gaussian`.

    Each of the three covariances fails by chance with probability 6e-5. A fault of 4% of the variance is found. The
    bias of the integrator is 14%.
    """
    net = network(lambda z, s: -z / (1 + s[:, None] ** 2), SIGMA_CARD | {"parameterisation": "score", "shape": [2]})
    run = uldnum.sample(net.at(1.0), "ula", h=1.0, steps=400, burn_in=50, chains=400, bins=50, seed=3, progress=False)
    exact = uldnum.exact.gaussian("ula", h=1.0, precision=0.5).position_covariance
    assert run.covariance_error.max() < 0.01 * exact
    assert (abs(run.covariance - exact * np.eye(2)) < 4 * run.covariance_error).all()
    assert run.histogram.sum() == 2 * 400 * 100


def test_numpy_outputs_of_all_kinds_are_accepted():
    def image(z, s):
        return z / (1 + s[:, None] ** 2)

    wanted = network(image, SIGMA_CARD | {"shape": [2]}).at(0.7).denoise(np.ones((3, 2)))
    for function, more in (
        (lambda z, s: (image(z, s), 1), {}),
        (lambda z, s: {"image": image(z, s), "more": None}, {}),
        (lambda z, s: {"more": None, "image": image(z, s)}, {"output": "image"}),
        (lambda z, s: np.concatenate([image(z, s), z], axis=1), {"learned_variance": True}),
        (lambda z: z / 1.49, {"condition": "none"}),
    ):
        found = network(function, SIGMA_CARD | {"shape": [2]} | more).at(0.7).denoise(np.ones((3, 2)))
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "card", "options", "fault"),
    [
        (lambda z, s: z, {}, {}, "shape: must be known for a function"),
        (lambda z, s: z[:, :1], {"shape": [2]}, {},
         r"must return a floating-point array of shape \(2, 2\), got numpy array of type float32 and shape \(2, 1\)$"),
        (lambda z, s: z > 0, {"shape": [2]}, {}, "must return a floating-point array.*got numpy array of type bool"),
        (lambda z, s: z * 1j, {"shape": [2]}, {}, "must return a floating-point array.*got numpy array of type comp"),
        (lambda z, s: None, {"shape": [2]}, {}, r"got None; card={'output': 'NAME'} selects an output by its name"),
        (type("Net", (), {}), {"shape": [2]}, {}, "network: must be a function or a module, got the class Net"),
        (lambda z, s: z, {"shape": [2]}, {"like": [1.0]}, r"like: must be an array or a tensor, got \[1\.0\]"),
        (lambda z, s: z, {"shape": [2]}, {"like": np.zeros(2, int)}, "like: must have a floating-point type, got int"),
        (lambda z, s: z, {"shape": [2]}, {"device": "cpu"}, "device: must be left out for a function"),
        (lambda z, s: z, {"shape": [2]}, {"threads": 1}, "threads: must be left out for a function"),
        (lambda z, s: z, {"shape": [2]}, {"tf32": True}, "tf32: must be left out for a function"),
        (lambda z, s: z, {"shape": [2]}, {"guidance": 2.0}, "guidance: must be 1 for a model without a condition"),
        (lambda z, s: {"x0": z}, {"shape": [2], "output": "x"}, {},
         r"output: must be the name of an output of the function \('x0'\), got 'x'"),
        (lambda z, s: z, {"shape": [2], "sha256": "0"}, {}, "sha256: must be absent for a function"),
        (lambda z, s: z, {"shape": [2], "scaling": ""}, {}, "card of lambda: scaling: must be one of"),
        (lambda z, s, y: z, {"shape": [2]}, {"inputs": {"y": ["a"]}}, "inputs: y: must be a number"),
    ],
)  # fmt: skip
def test_invalid_functions_are_refused(function, card, options, fault):
    with pytest.raises(ValueError, match=fault):
        network(function, SIGMA_CARD | card, **options).at(0.5).score(np.ones((2, 2)))
    with pytest.raises(ValueError, match="like: must be None for an ONNX model"):
        network("mnist", like=np.zeros(1))


@pytest.mark.parametrize(("scaling", "family"), [("ve", "karras or geometric"), ("flow", "flow")])
def test_networks_without_a_schedule_name_families_of_levels(scaling, family):
    net = network(lambda z, s: z, SIGMA_CARD | {"scaling": scaling, "shape": [2]})
    with pytest.raises(ValueError, match=rf"levels: lambda has no schedule; use uldnum\.levels\.{family}$"):
        net.levels(4)


def test_errors_of_a_function_reach_the_user():
    """They have a note with the arguments of the call."""

    def fails(z, s, label):
        raise KeyError("weights")

    with pytest.raises(KeyError, match="weights") as error:
        network(fails, SIGMA_CARD, like=np.zeros((1, 2)), inputs={"label": 3}).at(0.5).score(np.ones((2, 2)))
    assert error.value.__notes__ == [
        "network: fails was called with z: numpy array of type float64 and shape (2, 2), condition: numpy array of "
        "type float64 and shape (2,), label: numpy array of type int64 and shape (2,); like sets the library, device "
        "and type"
    ]


def test_cards_of_all_kinds():
    """A card may be a `Card`, have numbers of NumPy, or be the settings of a scheduler of diffusers."""
    beta, at = np.linspace(1e-4, 0.02, 1000), {"like": np.zeros((1, 2))}
    keys = {"parameterisation": "v", "scaling": "vp", "condition": "timestep"}
    keys["schedule"] = {"kind": "linear", "beta_start": 1e-4, "beta_end": 0.02, "timesteps": 1000}
    settings = {"_class_name": "DDIMScheduler", "_diffusers_version": "0.39.0", "variance_type": "fixed_small",
                "prediction_type": "v_prediction", "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02,
                "num_train_timesteps": 1000, "clip_sample": False, "trained_betas": None, "sigma": 0.3}  # fmt: skip
    numbers = keys | {"sigma": np.float32(0.3), "schedule": keys["schedule"] | {"timesteps": np.int64(1000)}}
    for card in (keys, Card(**keys, sigma=0.3), numbers, settings):
        net = network(lambda z, t: z, card, **at)
        np.testing.assert_allclose(net.at(t=500).alpha, np.sqrt(np.cumprod(1 - beta)[500]), rtol=1e-9)
        assert net.at(t=500).form == network(lambda z, t: z, keys, **at).at(t=500).form
        assert net.card.sigma == pytest.approx(0.5 if card is keys else 0.3)
    with pytest.warns(UserWarning, match=r"scheduler DDIMScheduler in diffusers differs: it clips denoised images"):
        network(lambda z, t: z, settings | {"clip_sample": True}, **at)


@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_inputs_guidance_and_chunks(chunk):
    """Every chain has its own row of the inputs, and a number is a row; guidance calls both conditions at once."""
    sizes = []

    def image(z, s, label, scale):
        sizes.append(len(z))
        assert scale.shape == (len(z),)
        return z * scale[:, None] + label[:, None]

    labels, x = np.arange(5), np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    given, plain = {"label": labels, "scale": 2.0}, {"label": 10, "scale": 3.0}
    card = SIGMA_CARD | {"shape": [2]}
    level = network(image, card, inputs=given, chunk=chunk).at(0.5)
    np.testing.assert_allclose(level.denoise(x), 2 * x + labels[:, None], rtol=1e-6)
    guided = network(image, card, inputs=given, unconditional=plain, guidance=2.5, chunk=2 * chunk).at(0.5)
    sizes.clear()
    np.testing.assert_allclose(guided.denoise(x), 3 * x + 10 + 2.5 * (labels[:, None] - 10 - x), rtol=1e-5, atol=1e-5)
    assert sum(sizes) == 10
    assert len(sizes) == -(-5 // chunk)
    assert guided.fingerprint != level.fingerprint
    run = uldnum.sample(guided, "ula", h=0.5, steps=2, chains=5, progress=False)
    assert run.x.shape == (5, 2)


def test_inputs_of_many_chains_on_vectors():
    """All chains advance together, so that each one has its own input."""
    labels, options = np.arange(40_000) / 40_000, {"like": np.zeros((1, 2))}
    net = network(lambda z, s, label: label[:, None] + 0 * z, SIGMA_CARD, inputs={"label": labels}, **options)
    run = uldnum.anneal(net, uldnum.plan("ddim", uldnum.levels.given([1.0, 0.5])), chains=40_000, progress=False)
    np.testing.assert_allclose(run.x[:, 0], labels, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("shape", "most"), [([2], 2**14), ([512], 64), ([1, 32, 32], 64)])
def test_calls_have_more_vectors_than_images(shape, most):
    """By default a call has 64 images, or as many as have 2^15 values."""
    sizes = []

    def image(z, s):
        sizes.append(len(z))
        return z

    level = network(image, SIGMA_CARD | {"shape": shape}).at(0.5)
    level.score(np.zeros((most + 1, *shape), np.float32))
    assert sizes == [most, 1]


def test_integers_and_integer_timesteps():
    """The condition "timestep" is an integer array; a network of integer timesteps may use it as an index."""
    table = np.linspace(0.1, 2.0, 10)
    levels = {"kind": "geometric", "first": 0.1, "last": 2.0, "timesteps": 10}

    def image(z, t):
        assert t.dtype == np.int64
        return z / (1 + table[t][:, None] ** 2)

    card = {
        "parameterisation": "denoiser",
        "scaling": "ve",
        "condition": "timestep",
        "schedule": levels,
        "shape": [2],
    }
    level = network(image, card).at(t=9)
    np.testing.assert_allclose(level.denoise(np.ones((1, 2))), 1 / 5, rtol=1e-6)


def test_the_time_of_a_level_is_a_step_of_the_schedule():
    """Steps of a table need not be integers; a network that receives their index knows no time between them."""
    schedule = {"kind": "table", "t": [0.1, 0.45, 1.0], "ratio": [0.1, 1.0, 10.0]}
    card = SIGMA_CARD | {"schedule": schedule, "shape": [2]}
    assert network(lambda z, t: z, card | {"condition": "index"}).time(2.0) == 0.45
    assert 0.45 < network(lambda z, t: z, card | {"condition": "t"}).time(2.0) < 1.0


def test_fingerprints_distinguish_functions():
    def net(factor):
        return network(lambda z, s: factor * z, SIGMA_CARD | {"shape": [2]})

    one = net(0.5)
    assert one.at(0.5).fingerprint == net(0.5).at(0.5).fingerprint
    assert one.at(0.5).fingerprint != one.at(0.6).fingerprint
    assert one.at(0.5).fingerprint != net(0.6).at(0.5).fingerprint
    elsewhere = network(lambda z, s: np.where(z > 2, 0.6, 0.5) * z, SIGMA_CARD | {"shape": [2]})
    assert one.at(0.5).fingerprint != elsewhere.at(0.5).fingerprint
    assert one.model.images == 0


def test_stopped_runs_are_resumed_and_functions_are_pickled(tmp_path):
    net = network(module_function, SIGMA_CARD | {"shape": [2]})
    plan = uldnum.plan("ula", uldnum.levels.geometric(5.0, 0.1, 4), h=0.5, steps=2)
    run = uldnum.anneal(net, plan, chains=3, seed=1, progress=False)
    again = uldnum.anneal(pickle.loads(pickle.dumps(net)), plan, chains=3, seed=1, progress=False)
    np.testing.assert_array_equal(run.x, again.x)
    run.save(tmp_path / "run.nc")
    assert uldnum.anneal(net, plan, resume=tmp_path / "run.nc", progress=False).nfe == run.nfe


def module_function(z, s):
    return z / (1 + s[:, None] ** 2)


def test_channels_last_functions():
    """The function sees (n, height, width, channels); images of chains have the channels first."""

    def image(z, s):
        assert z.shape == (2, 4, 5, 3)
        return z * np.array([1.0, 2.0, 3.0])

    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    net = network(image, SIGMA_CARD | {"shape": [3, 4, 5], "channels_last": True})
    np.testing.assert_allclose(net.at(0.5).denoise(x), x * np.array([1, 2, 3])[:, None, None], rtol=1e-6)


# --------------------------------------------------------------------------------------------------------- ONNX models


@pytest.mark.parametrize("sizes", [["height", "width", "channels"], [6, 5, 3]])
def test_channels_last_onnx_models(tmp_path, sizes):
    """Fixed sizes show that the channels are last; for dynamic axes the card says so."""
    graph = Graph()
    graph.node("Mul", Value(graph, "x"), np.array([1, 2, 3], np.float32), output="denoised")
    nodes = {"x": ("float32", ["n", *sizes])}, {"denoised": ("float32", ["n", *sizes])}
    path = graph.save(tmp_path / "net.onnx", *nodes)
    dynamic = {"channels_last": True, "shape": [3, 6, 5]} if isinstance(sizes[0], str) else {}
    net = Network(path, SIGMA_CARD | {"condition": "none"} | dynamic)
    assert net.shape == (3, 6, 5)
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 5))
    np.testing.assert_allclose(net.at(0.5).denoise(x), x * np.array([1, 2, 3])[:, None, None], rtol=1e-6)


@pytest.mark.parametrize("fixed", [True, False])
def test_learned_variance_of_an_onnx_model(tmp_path, fixed):
    graph = Graph()
    graph.node("Concat", Value(graph, "x"), np.zeros((1, 2, 2, 2), np.float32), axis=1, output="y")
    shape = [1, 2, 2, 2]
    outputs = {"y": ("float32", [1, 4, 2, 2] if fixed else [1, "channels", 2, 2])}
    path = graph.save(tmp_path / "net.onnx", {"x": ("float32", shape)}, outputs)
    card = SIGMA_CARD | {"condition": "none"}
    if fixed:
        with pytest.raises(
            ValueError, match="if half of its channels describe a variance, give --set learned_variance"
        ):
            Network(path, card)
    level = Network(path, card | {"learned_variance": True}).at(0.5)
    x = np.random.default_rng(0).normal(size=(3, 2, 2, 2)).astype(np.float32)
    np.testing.assert_array_equal(level.denoise(x), x)


# Alpha and sigma of an ONNX model as functions of its noise level u, which is sigma, or log(sigma)/4 for EDM.
GRAPHS = {
    "ve": lambda g, u: (u * 0.0 + 1.0, u),
    "edm": lambda g, u: (u * 0.0 + 1.0, (u * 4.0).exp()),
    "vp": lambda g, u: ((1.0 - u * u) ** 0.5, u),
    "sub-vp": lambda g, u: ((1.0 - u) ** 0.5, u),
    "flow": lambda g, u: (1.0 - u, u),
}


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize(("what", "scaling"), [
    pytest.param(*pair, marks=[] if pair in SHORT else pytest.mark.slow) for pair in ALL_PAIRS
])  # fmt: skip
def test_onnx_models_of_vectors(tmp_path, what, scaling, d, rank):
    """A model on (n, d), with a noise level of shape (n,) or (n, 1)."""
    mixture = uldnum.GaussianMixture([0.6, 0.4], np.arange(2.0 * d).reshape(2, d), [0.2, 0.5])
    condition = ("float32", ["batch", 1][:rank])
    path = save_mixture(tmp_path / "net.onnx", mixture, (d,), what, GRAPHS[scaling], condition=condition,
                        edm=scaling == "edm")  # fmt: skip
    card = {"condition": "log-sigma", "condition_scale": 0.25} if scaling == "edm" else {"condition": "sigma"}
    net = Network(path, card | {"parameterisation": what, "scaling": scaling})
    assert net.shape == (d,)
    for sigma in (0.05, 0.4, 0.9):
        level = net.at(sigma)
        x = np.random.default_rng(1).normal(size=(4, d)).astype(np.float32)
        exact, parts = exact_answer(mixture, level, x)
        np.testing.assert_allclose(level.score(x), exact, rtol=0, atol=16 * EPS * parts.max())
    run = uldnum.sample(level, "BAOAB", h=0.5, steps=4, chains=3, bins=10, progress=False)
    assert run.covariance.shape == (d, d)


# ------------------------------------------------------------------------------------------ PyTorch and other libraries


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def mixture_module(torch, what, levels, dtype=None):
    """Return a PyTorch module that is exact for the mixture `PLANE`."""

    class Exact(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name in ("weights", "means", "variances"):
                setattr(self, name, torch.nn.Parameter(torch.tensor(getattr(PLANE, name), dtype=dtype)))

        def forward(self, z, condition):
            assert not torch.is_grad_enabled()
            assert not torch.is_autocast_enabled("cpu")
            alpha, sigma = (part[:, None] for part in levels(condition))
            v = self.variances[:, 0]
            total = alpha**2 * v + sigma**2
            gaps = z[:, None] - alpha[..., None] * self.means
            logs = self.weights.log() - total.log() - (gaps**2).sum(2) / (2 * total)
            shares, pull = logs.softmax(1), alpha * v / total
            image = (shares[..., None] * (self.means + pull[..., None] * gaps)).sum(1)
            noise = (z - alpha * image) / sigma
            return {"velocity": noise - image, "epsilon": noise, "denoiser": image}[what]

    return Exact().eval()


FLOW = {"scaling": "flow", "condition": "t", "condition_scale": 1000.0, "schedule": {"kind": "flow"}, "shape": [2]}


@pytest.mark.parametrize("space", ["images", "vectors"])
@pytest.mark.parametrize(("what", "scaling"), ALL_PAIRS)
def test_functions_of_pytorch_equal_the_mixture(torch, space, what, scaling):
    check_scores(space, conditioned(space, what, scaling, "sigma", torch)[1])


@pytest.mark.parametrize("what", ["velocity", "epsilon", "denoiser"])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_pytorch_modules_equal_the_mixture(torch, what, compiled):
    module = mixture_module(torch, what, lambda t: (1 - t / 1000, t / 1000), torch.float32)
    function = torch.compile(module, backend="eager") if compiled else module
    level = network(function, FLOW | {"parameterisation": what}).at(0.4)
    assert level.like is None  # chains are NumPy arrays
    x = np.random.default_rng(1).normal(size=(4, 2)).astype(np.float32)
    exact, parts = exact_answer(PLANE, level, x)
    np.testing.assert_allclose(level.score(x), exact, rtol=0, atol=16 * EPS * parts.max())


def test_a_plan_on_a_pytorch_module(torch):
    """From pure noise, DDIM is Euler's method on the velocity; a loop in PyTorch gives the same images."""
    module = mixture_module(torch, "velocity", lambda t: (1 - t / 1000, t / 1000), torch.float64)
    net = network(module, FLOW | {"parameterisation": "velocity"})
    levels = uldnum.levels.flow(10, shift=3.0)
    start = np.random.default_rng(1).normal(size=(6, 2))
    run = uldnum.anneal(net, uldnum.plan("ddim", levels), chains=6, x0=start, dtype="float64", progress=False)
    z = torch.tensor(start)
    with torch.no_grad():
        for t, after in pairwise([*levels.sigma, 0.0]):
            z = z + (after - t) * module(z, torch.full((6,), 1000 * t, dtype=torch.float64))
    assert run.x.dtype == np.float64
    np.testing.assert_allclose(run.x, z.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64"])
def test_types_of_pytorch_modules(torch, kind):
    """A module in half precision sees half precision, also in its further inputs; chains stay in float32.

    The noise level is not rounded to half precision.
    """
    dtype = getattr(torch, kind)
    wide = torch.float64 if kind == "float64" else torch.float32

    def image(z, s, shift, label):
        assert (z.dtype, s.dtype, shift.dtype, label.dtype) == (dtype, wide, dtype, torch.int64)
        torch.testing.assert_close(s, torch.full((5,), 0.503, dtype=wide), rtol=1e-7, atol=0)
        return z / 2 + shift + label[:, None]

    inputs = {"shift": torch.ones(1, 2, dtype=dtype), "label": torch.tensor([1])}
    net = network(image, SIGMA_CARD, like=torch.zeros(1, 2, dtype=dtype), inputs=inputs)
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    found = net.at(0.503).denoise(x)
    assert found.dtype == (np.float64 if kind == "float64" else np.float32)
    np.testing.assert_allclose(found, x.astype(float) / 2 + 2, rtol=0, atol=4 * float(torch.finfo(dtype).eps))


def test_a_module_cannot_change_the_chains(torch):
    """A module that works in place changes its own input alone."""
    net = network(lambda z, s: z.mul_(0.5), SIGMA_CARD, like=torch.zeros(1, 2))
    x = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(net.at(0.5).denoise(x), 0.5)
    np.testing.assert_array_equal(x, 1)


def test_gradients_inside_a_function(torch):
    """A function may compute the gradient of an energy, for which it enables gradients itself."""

    def score(z, s):
        with torch.enable_grad():
            z = z.requires_grad_()
            (gradient,) = torch.autograd.grad(-(z**2).sum() / 2, z, create_graph=True)
        return gradient

    level = network(score, SIGMA_CARD | {"parameterisation": "score"}, like=torch.zeros(1, 2)).at(0.5)
    np.testing.assert_array_equal(level.score(np.ones((3, 2), np.float32)), -1)


def test_the_example_of_a_module_is_a_parameter_a_buffer_or_a_tensor(torch):
    """Modules without floating-point parameters receive tensors, too."""

    class Half(torch.nn.Module):
        def forward(self, z):
            assert isinstance(z, torch.Tensor)
            return z / 2

    for kind, dtype in (("none", torch.float32), ("buffer", torch.float64), ("parameter", torch.float64)):
        module = Half().eval()
        module.register_buffer("count", torch.tensor(1))
        module.register_buffer("stored", torch.ones(1).to(torch.float8_e4m3fn))
        if kind == "buffer":
            module.register_buffer("scale", torch.ones(1, dtype=dtype))
        if kind == "parameter":
            module.scale = torch.nn.Parameter(torch.ones(1, dtype=dtype))
        net = network(module, SIGMA_CARD | {"condition": "none", "shape": [2]})
        assert net.model.library.dtype == dtype
        np.testing.assert_array_equal(net.at(0.5).denoise(np.ones((3, 2), np.float32)), 0.5)


def test_modules_without_values_are_refused(torch):
    module = torch.nn.Linear(2, 2, device="meta").eval()
    with pytest.raises(ValueError, match=r"like: must be on the device.*got an array on the device meta, which"):
        network(module, SIGMA_CARD | {"condition": "none", "shape": [2]})


def test_outputs_of_pytorch_are_arrays_of_any_kind(torch):
    """Views, tensors with gradients and lazily negated tensors have their values; NumPy arrays are accepted."""
    x, like = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32), torch.zeros(1, 2)
    for function in (
        lambda z: z / 2,
        lambda z: (z / 2).requires_grad_(),
        lambda z: (z / 2).T.contiguous().T,
        lambda z: torch.complex(z, -z / 2).conj().imag,
        lambda z: z.numpy() / 2,
        lambda z: z.mul_(0.5),
    ):
        found = network(function, SIGMA_CARD | {"condition": "none"}, like=like).at(0.5).denoise(x)
        np.testing.assert_array_equal(found, x / 2)
    constant = network(lambda z: torch.ones(1, 1).expand(z.shape), SIGMA_CARD | {"condition": "none"}, like=like)
    np.testing.assert_array_equal(constant.at(0.5).denoise(x), 1)
    numpy = network(
        lambda z: torch.from_numpy(z).requires_grad_() / 2, SIGMA_CARD | {"condition": "none", "shape": [2]}
    )
    np.testing.assert_array_equal(numpy.at(0.5).denoise(x), x / 2)


def test_a_module_in_training_mode_warns(torch):
    with pytest.warns(UserWarning, match=r"Dropout is in training mode.*call its method eval\(\) first"):
        network(torch.nn.Dropout(), SIGMA_CARD | {"condition": "none", "shape": [2]})


@pytest.mark.parametrize(("ours", "recorded"), [(7, [7]), (0, [])])
def test_memory_is_kept_until_another_stream_has_read_it(monkeypatch, torch, ours, recorded):
    """A stand-in for a GPU: PyTorch works on stream 0, and the chains on stream ``ours``."""
    streams = []
    cupy = SimpleNamespace(
        ndarray=type("ndarray", (), {}),
        from_dlpack=lambda values: values.numpy(),
        cuda=SimpleNamespace(get_current_stream=lambda: SimpleNamespace(ptr=ours)),
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=0))
    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda pointer: pointer)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda _, stream: streams.append(stream))
    library = replace(Library.of(torch.zeros(1)), kind=CUDA)
    np.testing.assert_array_equal(library.outward(torch.ones(2, dtype=torch.float16)), np.ones(2, np.float32))
    assert streams == recorded


def test_a_module_is_copied_to_another_gpu(monkeypatch, torch):
    """A stand-in for CuPy has the current GPU 1, and the module notes the device to which it is moved."""
    placed = []

    class Module(torch.nn.Linear):
        def to(self, device):
            placed.append(device)
            return self

    module = Module(2, 2).eval()
    net = network(module, SIGMA_CARD, like=torch.zeros(1, 2))
    net.device = net.model.device = Device("cuda")
    vars(net.device)["number"] = 0
    cupy = SimpleNamespace(cuda=SimpleNamespace(Device=lambda: SimpleNamespace(id=1)))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    copies = {}
    there = net.at(0.5).on_gpu(1, copies).network.model
    assert net.at(0.6).on_gpu(1, copies).network.model is there
    assert placed == ["cuda:1"]
    assert (there.device.number, there.library.number, net.model.device.number) == (1, 1, 0)
    assert net.model.function is module is not there.function
    torch.testing.assert_close(there.function.weight, module.weight)
    torch.nn.init.zeros_(module.weight)  # in another run the copy is that of the module as it is then
    assert not net.at(0.5).on_gpu(1, {}).network.model.function.weight.any()


@pytest.mark.parametrize("wrapped", ["mass", "reference"])
def test_chains_on_wrapped_networks_have_their_own_inputs(monkeypatch, wrapped):
    """Chains of vectors are advanced in blocks of four. Labels are so large that they determine the step."""
    labels = np.array([0.0, 1.0, 3.0])
    net = network(
        lambda z, s, label: 1e9 * label[:, None] + 0 * z, SIGMA_CARD | {"shape": [2]}, inputs={"label": labels}
    )
    target, options = net.at(1.0), {"h": 1e-4, "x0": np.zeros((7, 2)), "first_chain": 1, "progress": False}
    if wrapped == "mass":
        options["mass"] = 4.0
    else:
        target = against(target, np.random.default_rng(0).normal(size=(50, 2)))
    monkeypatch.setattr("uldnum.kernels.arrays.executor.BLOCK", 8)
    x = uldnum.sample(target, "ula", steps=1, chains=7, **options).x
    np.testing.assert_allclose(x[:, 0] / x[1].max(), labels[np.arange(1, 8) % 3] / 3, atol=1e-3)


def test_only_modules_are_copied_to_another_gpu(torch):
    level = network(lambda z, s: z, SIGMA_CARD, like=np.zeros((1, 1, 2, 2))).at(0.5)
    assert level.on_gpu is None
    assert network(torch.nn.Identity().eval(), SIGMA_CARD | {"shape": [2]}).at(0.5).on_gpu is not None


@pytest.mark.parametrize("name", ["array_api_strict", "jax"])
def test_functions_of_other_libraries(name):
    library = pytest.importorskip(name)
    xp = pytest.importorskip("jax.numpy") if name == "jax" else library
    levels = {"kind": "geometric", "first": 0.1, "last": 2.0, "timesteps": 10}

    def image(z, t, shift):
        assert isinstance(z, type(like))
        return z / 2 + xp.astype(t, like.dtype)[:, None] + shift

    like = xp.zeros((1, 2), dtype=xp.float32)
    card = SIGMA_CARD | {"condition": "timestep", "schedule": levels}
    level = network(image, card, like=like, inputs={"shift": np.ones((1, 2))}).at(t=3)
    np.testing.assert_allclose(level.denoise(np.ones((3, 2))), 4.5, rtol=1e-6)
    run = uldnum.sample(level, "baoab-limit", h=0.5, steps=3, chains=4, progress=False)
    assert run.x.shape == (4, 2)


@pytest.mark.slow
def test_a_pytorch_network_runs_at_the_speed_of_a_loop(torch):
    """Chains on a network are at most 5% slower than a loop in PyTorch, as the median of interleaved runs.

    A call of the network takes at least twenty times as long as the normals of a step.
    """
    torch.set_num_threads(1)
    layers = [torch.nn.Conv2d(1, 48, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(48, 48, 3, padding=1),
              torch.nn.SiLU(), torch.nn.Conv2d(48, 1, 3, padding=1)]  # fmt: skip
    module, steps, sigma, h = torch.nn.Sequential(*layers).eval(), 10, 0.5, 0.5
    shape = (64, 1, 28, 28)
    level = network(lambda z, s: module(z), SIGMA_CARD, like=torch.zeros(1, 1, 28, 28)).at(sigma)

    def ours():
        uldnum.sample(level, "ula", h=h, steps=steps, chains=64, progress=False)

    def loop():
        x = sigma * torch.randn(shape)
        with torch.no_grad():
            for _ in range(steps):
                score = (module(x) - x) / sigma**2
                x = x + (h * sigma) ** 2 / 2 * score + h * sigma * torch.randn(shape)

    def seconds(call):
        begun = time.process_time()
        call()
        return time.process_time() - begun

    with torch.no_grad():
        normals = np.median([seconds(lambda: torch.randn(shape)) for _ in range(9)])
        call = np.median([seconds(lambda: module(torch.zeros(shape))) for _ in range(5)])
    assert call > 20 * normals
    ours(), loop()
    ratios = [seconds(ours) / seconds(loop) for _ in range(9)]
    assert np.median(ratios) < 1.05


def test_quality_of_images_of_a_function():
    """`studies.quality` accepts a function, here one that returns a constant image at all levels."""
    card = SIGMA_CARD | {"shape": [1, 28, 28], "data_range": [-1.0, 1.0]}
    net = network(lambda z, s: np.full_like(z, -1.0), card)
    images = np.random.default_rng(0).uniform(-1, 1, size=(300, 1, 28, 28)).astype(np.float32)
    study = uldnum.studies.quality(net, "ddim", nfe=3, images=130, batch=130, reference=images, progress=False)
    assert np.isfinite(study.value).all()
    np.testing.assert_allclose(study.images, -1, atol=1e-5)

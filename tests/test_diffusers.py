"""Pipeline folders: hand-made ones against exact scores, and exports of diffusers and Optimum against PyTorch."""

import json

import numpy as np
import onnx
import pytest
from helpers.networks import BETAS, EPS, SHAPE, exact_answer, levels_of_betas
from helpers.onnx_models import Graph, Value, save_mixture

import uldnum
from uldnum.networks import network
from uldnum.networks.card import card_of
from uldnum.networks.diffusers import schedule_card

DDPM = {"_class_name": "DDPMScheduler", "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear",
        "num_train_timesteps": 1000, "clip_sample": False}  # fmt: skip


@pytest.fixture(scope="module")
def mixture():
    rng = np.random.default_rng(0)
    return uldnum.GaussianMixture([0.5, 0.3, 0.2], rng.normal(size=(3, 12)), [0.1, 0.4, 1.0])


def folder_of(path, mixture, what="epsilon", betas=BETAS, index=None, scheduler=None, config=None, **options):
    """Write a pipeline whose network is exact for a mixture, and return its folder."""
    save_mixture(path / "unet" / "model.onnx", mixture, SHAPE, what, levels_of_betas(betas), **options)
    (path / "scheduler").mkdir(exist_ok=True)
    parts = {
        "model_index.json": {"_class_name": "DDPMPipeline"} if index is None else index,
        "scheduler/scheduler_config.json": DDPM if scheduler is None else scheduler,
        "unet/config.json": {"sample_size": [2, 3], "in_channels": 2} if config is None else config,
    }
    for name, content in parts.items():
        (path / name).write_text(json.dumps(content))
    return path


SCALED = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
BAR = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
KINDS = {
    "epsilon": (DDPM, "epsilon", BETAS),
    "sample": (DDPM | {"prediction_type": "sample"}, "denoiser", BETAS),
    "v": (DDPM | {"prediction_type": "v_prediction", "beta_schedule": "scaled_linear", "beta_start": 0.00085,
                  "beta_end": 0.012}, "v", SCALED),
    "cosine": (DDPM | {"beta_schedule": "squaredcos_cap_v2"}, "epsilon", np.minimum(1 - BAR[1:] / BAR[:-1], 0.999)),
    "trained": (DDPM | {"trained_betas": SCALED[::10].tolist()}, "epsilon", SCALED[::10]),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_scores_agree_with_the_mixture_for_every_scheduler(tmp_path, mixture, kind):
    scheduler, what, betas = KINDS[kind]
    net = network(folder_of(tmp_path / "pipeline", mixture, what, betas, scheduler=scheduler))
    assert (net.name, net.shape) == ("pipeline", SHAPE)
    level = net.at(t=len(betas) // 2)
    x = np.random.default_rng(1).normal(size=(4, *SHAPE)).astype(np.float32)
    exact, parts = exact_answer(mixture, level, x)
    np.testing.assert_allclose(level.score(x), exact, rtol=0, atol=16 * EPS * parts.max())


@pytest.mark.parametrize(
    "options",
    [{"condition": ("float32", [])}, {"condition": ("int64", ["batch"]), "opset": 18}, {"external": True}],
    ids=["rank 0", "int64", "external weights"],
)
def test_input_types_and_external_weights_of_exporters(tmp_path, mixture, options):
    level = network(folder_of(tmp_path, mixture, **options)).at(0.3)
    x = np.random.default_rng(1).normal(size=(4, *SHAPE)).astype(np.float32)
    exact, parts = exact_answer(mixture, level, x)
    np.testing.assert_allclose(level.score(x), exact, rtol=0, atol=16 * EPS * parts.max())


def test_a_folder_with_a_learned_variance(tmp_path, mixture):
    """The output has twice the channels of the image; the first half is the noise."""
    folder = folder_of(tmp_path, mixture)
    plain, x = network(folder).at(0.3), np.random.default_rng(1).normal(size=(4, *SHAPE)).astype(np.float32)
    path = folder / "unet" / "model.onnx"
    model = onnx.load(path)
    model.graph.node.append(onnx.helper.make_node("Concat", ["answer", "sample"], ["both"], axis=1))
    model.graph.output[0].name = "both"
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 2 * SHAPE[0]
    onnx.save(model, path)
    config = {"sample_size": [2, 3], "in_channels": 2, "out_channels": 4}
    (folder / "unet" / "config.json").write_text(json.dumps(config))
    np.testing.assert_array_equal(network(folder).at(0.3).score(x), plain.score(x))


FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}


def shifted(t, a):
    return a * t / (1 + (a - 1) * t)


# The settings of a scheduler, and sigma of its levels for 8 steps and an image of 2 x 3 pixels (one patch of 2 x 2).
MU = 0.5 + (1.15 - 0.5) * (1 - 256) / (4096 - 256)
FLOWS = {
    "static": (FLOW, shifted(np.linspace(1, shifted(1e-3, 3.0), 8), 3.0)),
    "no shift": (FLOW | {"shift": 1.0}, np.linspace(1, 1e-3, 8)),
    "dynamic": (FLOW | {"use_dynamic_shifting": True}, shifted(np.linspace(1, 1e-3, 8), np.exp(MU))),
    "linear": (FLOW | {"use_dynamic_shifting": True, "time_shift_type": "linear"},
               shifted(np.linspace(1, 1e-3, 8), MU)),
    "inverted": (FLOW | {"invert_sigmas": True}, shifted(np.linspace(1, shifted(1e-3, 3.0), 8), 3.0)),
}  # fmt: skip
TERMINAL = 1 - (1 - FLOWS["static"][1]) * 0.9 / (1 - FLOWS["static"][1][-1])
FLOWS["terminal"] = FLOW | {"shift_terminal": 0.1}, TERMINAL


@pytest.fixture
def flow_folder(tmp_path, mixture, request):
    """Return a folder with an exact velocity for the mixture, and sigma of its levels."""
    scheduler, sigma = FLOWS[request.param]
    inverted = scheduler.get("invert_sigmas", False)
    folder = folder_of(tmp_path, mixture, index={"transformer": []}, scheduler=scheduler, config={})

    def levels(graph, u):
        t = u / 1000.0
        return (t, 1.0 - t) if inverted else (1.0 - t, t)

    what = "negative-velocity" if inverted else "velocity"
    save_mixture(folder / "transformer" / "model.onnx", mixture, SHAPE, what, levels)
    config = {"sample_size": [2, 3], "in_channels": 2, "patch_size": 2}
    (folder / "transformer" / "config.json").write_text(json.dumps(config))
    return folder, sigma


@pytest.mark.parametrize("flow_folder", FLOWS, indirect=True)
def test_levels_of_flow_matching_schedulers(flow_folder, mixture):
    """The levels have the formulas of the scheduler, and the score is that of the mixture."""
    folder, sigma = flow_folder
    net = network(folder)
    np.testing.assert_allclose(net.levels(8).sigma, sigma, rtol=1e-12)
    level = net.at(0.6)
    x = np.random.default_rng(1).normal(size=(4, *SHAPE)).astype(np.float32)
    exact, parts = exact_answer(mixture, level, x)
    np.testing.assert_allclose(level.score(x), exact, rtol=0, atol=16 * EPS * parts.max())


EULER, SOLVER = {"_class_name": "EulerDiscreteScheduler"}, {"_class_name": "DPMSolverMultistepScheduler"}

# Timesteps of 10 of 1000 and 7 of 1000 levels, from the formulas of the schedulers.
SPACED = {
    "trailing": ({"timestep_spacing": "trailing"}, [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]),
    "leading": ({"_class_name": "DDIMScheduler", "steps_offset": 1}, [901, 801, 701, 601, 501, 401, 301, 201, 101, 1]),
    "default": ({}, [900, 800, 700, 600, 500, 400, 300, 200, 100, 0]),
    "linspace": ({"timestep_spacing": "linspace"}, [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]),
    "seven, trailing": ({"timestep_spacing": "trailing"}, [999, 856, 713, 570, 428, 285, 142]),
    "seven, leading": ({}, [852, 710, 568, 426, 284, 142, 0]),
    "real": (EULER, [999, 832.5, 666, 499.5, 333, 166.5, 0]),
    "real, leading": (EULER | {"timestep_spacing": "leading", "steps_offset": 1}, [751, 501, 251, 1]),
    "one more": (SOLVER, [999, 799, 599, 400, 200]),
    "one more, leading": (SOLVER | {"timestep_spacing": "leading"}, [830, 664, 498, 332, 166]),
    "one more, trailing": (SOLVER | {"timestep_spacing": "trailing"}, [999, 799, 599, 399, 199]),
}  # fmt: skip


@pytest.mark.parametrize("kind", SPACED)
def test_levels_of_schedulers_with_betas(tmp_path, mixture, kind):
    settings, steps = SPACED[kind]
    net = network(folder_of(tmp_path, mixture, scheduler=DDPM | settings))
    levels = net.levels(len(steps))
    logarithms = np.log((1 - np.cumprod(1 - BETAS)) / np.cumprod(1 - BETAS)) / 2
    np.testing.assert_allclose(levels.ratio, np.exp(np.interp(steps, np.arange(1000), logarithms)), rtol=1e-10)
    if "real" in kind:
        return
    with pytest.raises(ValueError, match=r"at most (999|1000)"):
        net.levels(1001)
    assert levels.ratio[0] > 30
    uldnum.anneal(net, uldnum.plan("ddim", levels), chains=1, progress=False)  # sigma/alpha falls slowly: no warning


def levels_of(path, settings, count=10, shape=(4, 8, 8), patch=2):
    """Return the card of a scheduler, and its default levels."""
    card = card_of(schedule_card(path, settings, patch), "test")
    return card, [card.level(t=float(t)) for t in card.spaced(count, shape)]


def test_intermediate_levels_of_karras_and_exponential_schedulers(tmp_path):
    """The first and the last level are those of the timesteps; the others have the formulas of these spacings."""
    kept = np.cumprod(1 - BETAS)
    low, high = (np.sqrt((1 - kept[i]) / kept[i]) for i in (0, 999))
    for settings in (EULER, SOLVER | {"timestep_spacing": "leading"}):
        for key, wanted in (
            ("use_karras_sigmas", np.linspace(high ** (1 / 7), low ** (1 / 7), 10) ** 7),
            ("use_exponential_sigmas", np.geomspace(high, low, 10)),
        ):
            card, levels = levels_of(tmp_path, DDPM | settings | {key: True})
            np.testing.assert_allclose([one.sigma / one.alpha for one in levels], wanted, rtol=1e-9)
            assert card.condition == "interpolated-timestep"
    _, levels = levels_of(tmp_path, FLOW | {"use_karras_sigmas": True})
    last = shifted(shifted(1e-3, 3.0), 3.0)
    wanted = np.linspace(1, last ** (1 / 7), 10) ** 7
    np.testing.assert_allclose([one.sigma for one in levels], wanted, rtol=1e-9)


def test_levels_of_solvers_of_flow_matching(tmp_path):
    """They have one more level, at 0 or 1/1000, which is omitted, and one shift."""
    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
    for kind, ends in (
        ("DPMSolverMultistep", (0.999, 0)),
        ("DEISMultistep", (0.999, 0)),
        ("UniPCMultistep", (1, 1e-3)),
    ):
        card, levels = levels_of(tmp_path, flow | {"_class_name": f"{kind}Scheduler"})
        np.testing.assert_allclose([one.sigma for one in levels], shifted(np.linspace(*ends, 11)[:-1], 3.0), rtol=1e-9)
        assert (card.parameterisation, card.condition, card.condition_scale) == ("velocity", "t", 1000)


def test_a_continuous_scheduler_of_v_receives_the_logarithm_of_sigma(tmp_path):
    """As in Stable Video Diffusion: log(sigma/alpha)/4, at the levels of Karras et al. from 700 to 0.002."""
    settings = DDPM | EULER | {"prediction_type": "v_prediction", "timestep_type": "continuous",
                               "use_karras_sigmas": True, "sigma_min": 0.002, "sigma_max": 700.0}  # fmt: skip
    card, levels = levels_of(tmp_path, settings)
    ratios = np.array([one.sigma / one.alpha for one in levels])
    np.testing.assert_allclose(ratios, np.linspace(700 ** (1 / 7), 0.002 ** (1 / 7), 10) ** 7, rtol=1e-9)
    np.testing.assert_allclose([one.condition for one in levels], np.log(ratios) / 4, rtol=1e-9, atol=1e-12)
    assert (card.parameterisation, card.scaling) == ("v", "vp")
    card, levels = levels_of(tmp_path, settings | {"prediction_type": "epsilon"})
    assert card.condition == "interpolated-timestep"


def test_shapes_of_dynamic_shifts(tmp_path):
    dynamic = FLOW | {"use_dynamic_shifting": True}
    _, images = levels_of(tmp_path, dynamic, shape=(16, 64, 32))
    _, patches = levels_of(tmp_path, dynamic, shape=(512, 64))
    assert [one.sigma for one in images] == [one.sigma for one in patches]
    with pytest.raises(ValueError, match=r"needs images or sequences of patches, got the shape \(12,\)"):
        levels_of(tmp_path, dynamic, shape=(12,))


# Class names of pipelines: sigma of levels, and what the network receives there and predicts.
PIPELINES = {
    "FluxPipeline": (np.linspace(1, 1 / 8, 8), lambda s: s, "velocity"),
    "StableDiffusion3Pipeline": (np.linspace(1, 1e-3, 8), lambda s: 1000 * s, "velocity"),
    "Lumina2Pipeline": (np.linspace(1, 1 / 8, 8), lambda s: 1 - s, "negative-velocity"),
    "HiDreamImagePipeline": (np.linspace(1, 1e-3, 8), lambda s: 1000 * s, "negative-velocity"),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_that_give_other_times_or_levels(tmp_path, mixture, name):
    sigma, received, what = PIPELINES[name]
    index = {"_class_name": name, "transformer": []}
    folder = folder_of(tmp_path, mixture, index=index, scheduler=FLOW | {"shift": 1.0})
    (folder / "unet").rename(folder / "transformer")
    net = network(folder)
    np.testing.assert_allclose(net.levels(8).sigma, sigma, rtol=1e-12)
    assert net.at(0.3).level.condition == pytest.approx(received(0.3))
    assert net.card.parameterisation == what


FIRST_TIMESTEP = r"ends at the smallest noise level, as plan\(\.\.\., denoise=False\)"
DIFFERENCES = {
    "clip": ({"clip_sample": True}, r"it clips denoised images, as clip=True \(--clip\) does here"),
    "range": ({"clip_sample": True, "clip_sample_range": 2.0}, r"\(--clip\) and card={'data_range': \[-2, 2\]} does"),
    "thresholding": ({"thresholding": True}, "bounds denoised images by dynamic thresholding"),
    "alpha": ({"_class_name": "DDIMScheduler", "set_alpha_to_one": False}, FIRST_TIMESTEP),
    "sigmas": (EULER | {"final_sigmas_type": "sigma_min"}, FIRST_TIMESTEP),
    "PNDM": ({"_class_name": "PNDMScheduler"}, f"no predictor takes the steps of PNDMScheduler; .*{FIRST_TIMESTEP}"),
    "unknown": ({"_class_name": "NewScheduler"}, "NewScheduler, and the default levels are those of DDIMScheduler"),
    "LCM": ({"_class_name": "LCMScheduler"}, "'lcm' stands for a distilled network, whose output is not the score"),
    "beta": (EULER | {"use_beta_sigmas": True}, "the default levels ignore use_beta_sigmas = True"),
    "lambda": (SOLVER | {"lambda_min_clipped": -5.1}, "the default levels ignore lambda_min_clipped = -5.1"),
}


@pytest.mark.parametrize("kind", DIFFERENCES)
def test_what_a_pipeline_does_besides_is_named(tmp_path, mixture, kind):
    settings, sentence = DIFFERENCES[kind]
    with pytest.warns(UserWarning, match=rf"scheduler_config\.json in diffusers differs: .*{sentence}"):
        network(folder_of(tmp_path / "pipeline", mixture, scheduler=DDPM | settings))


def test_clipping_is_the_default_of_diffusers(tmp_path, mixture):
    with pytest.warns(UserWarning, match="it clips denoised images"):
        network(folder_of(tmp_path / "pipeline", mixture, scheduler=without("clip_sample")))


def test_names_of_distilled_networks(tmp_path, mixture):
    index = {"_class_name": "StableDiffusionXLPipeline", "_name_or_path": "someone/sdxl-Turbo"}
    with pytest.warns(UserWarning, match="'turbo' stands for a distilled network"):
        network(folder_of(tmp_path / "pipeline", mixture, index=index))


def test_integer_inputs_receive_whole_timesteps(tmp_path, mixture):
    """Also if the scheduler has real timesteps; the levels are at the nearest integers."""
    folder = folder_of(tmp_path, mixture, scheduler=DDPM | EULER, condition=("int64", ["batch"]), opset=18)
    levels = network(folder).levels(7)
    steps = np.rint([999, 832.5, 666, 499.5, 333, 166.5, 0]).astype(int)
    np.testing.assert_allclose(levels.alpha**2, np.cumprod(1 - BETAS)[steps], rtol=1e-10)


def test_zero_terminal_snr(tmp_path, mixture):
    """Alpha is the rescaled one of Lin et al. 2024: the first is kept, and the last is 0."""
    settings = DDPM | {
        "rescale_betas_zero_snr": True,
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
    }
    root = np.sqrt(np.cumprod(1 - BETAS))
    alpha = (root - root[-1]) * root[0] / (root[0] - root[-1])
    rescaled = 1 - np.append(alpha[:1], alpha[1:] / alpha[:-1]) ** 2
    net = network(folder_of(tmp_path, mixture, "v", rescaled, scheduler=settings))
    levels = net.levels(4)
    np.testing.assert_allclose(levels.alpha, alpha[[999, 749, 499, 249]], rtol=1e-10)
    assert (levels.alpha[0], levels.sigma[0]) == (0, 1)
    z = np.random.default_rng(1).normal(size=(4, *SHAPE)).astype(np.float32)
    image = np.broadcast_to(mixture.mean.reshape(SHAPE), z.shape)
    np.testing.assert_allclose(net.at(ratio=np.inf).denoise(z), image, rtol=0, atol=1e-6)
    run = uldnum.anneal(net, uldnum.plan("ddim", levels, denoise=False), chains=4, x0=z, progress=False)
    assert np.isfinite(run.x).all()
    assert run.diverged == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("flow_folder", ["static", "no shift", "inverted", "terminal"], indirect=True)
def test_flow_matching_equals_the_steps_of_diffusers(libraries, flow_folder):
    torch, diffusers = libraries
    folder, _ = flow_folder
    net = network(folder)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
    scheduler.set_timesteps(8)
    start = np.random.default_rng(1).normal(size=(4, *SHAPE)).astype(np.float32)
    z = torch.tensor(start)
    for t in scheduler.timesteps:
        z = scheduler.step(torch.tensor(net.evaluate(z.numpy(), 1.0, float(t))), t, z).prev_sample
    run = uldnum.anneal(net, uldnum.plan("ddim", net.levels(8)), chains=4, x0=start, progress=False)
    assert relative(run.x, z.numpy()) < 1e-5


def without(key):
    return {other: value for other, value in DDPM.items() if other != key}


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        *[({"scheduler": without(key)}, f"scheduler_config.json must have the key '{key}'") for key in
          ("_class_name", "beta_start", "beta_end", "beta_schedule", "num_train_timesteps")],
        ({"scheduler": DDPM | {"beta_schedule": "sigmoid"}}, "beta_schedule must be linear, scaled_linear or sq"),
        ({"scheduler": DDPM | {"prediction_type": "flow"}}, "prediction_type must be epsilon, sample or v_pred"),
        ({"scheduler": DDPM | {"beta_end": "big"}}, "'linear' cannot be built from"),
        ({"scheduler": DDPM | {"timestep_spacing": "even"}}, "timestep_spacing must be linspace, leading or trailing"),
        ({"scheduler": {"_class_name": "FlowMatchLCMScheduler"}}, "FlowMatchLCMScheduler is not"),
        ({"scheduler": FLOW | {"use_karras_sigmas": True, "use_exponential_sigmas": True}}, "only one of use_karras"),
        ({"scheduler": FLOW | {"time_shift_type": "cubic"}}, "time_shift_type must be exponential or linear"),
        ({"scheduler": DDPM | {"use_flow_sigmas": True}}, "prediction_type must be flow_prediction, got 'epsilon'"),
        ({"scheduler": {"_class_name": "EDMDPMSolverMultistepScheduler", "prediction_type": "sample"}},
         "prediction_type must be epsilon or v_prediction, got 'sample'"),
        ({"scheduler": FLOW | {"shift": "3"}}, "shift: must be a number"),
        ({"scheduler": FLOW | {"shift": -3}}, "shift: must be positive"),
        ({"scheduler": FLOW | {"num_train_timesteps": 0}}, "num_train_timesteps: must be positive"),
        ({"scheduler": FLOW | {"use_dynamic_shifting": True, "max_image_seq_len": 256}}, "'dynamic' cannot be built"),
        ({"scheduler": FLOW | {"use_dynamic_shifting": True, "max_shift": 1e5}}, "'dynamic' cannot be built"),
        ({"scheduler": DDPM | {"timestep_type": "real"}}, "timestep_type must be discrete or continuous, got 'real'"),
        ({"scheduler": {"_class_name": "EDMEulerScheduler", "sigma_max": None}}, "sigma_max: must be a number"),
        ({"config": {"sample_size": [1, 2, 3], "in_channels": 4}}, "shape of an image must be known and fit the model"),
        ({"scheduler": [1]}, "must hold an object"),
        ({"config": {"sample_size": 8, "in_channels": 4}}, "shape of an image must be known and fit the model"),
    ],
)  # fmt: skip
def test_broken_folders_are_refused(tmp_path, mixture, parts, fault):
    with pytest.raises(ValueError, match=fault):
        network(folder_of(tmp_path, mixture, **parts))


def test_incomplete_folders_are_refused(tmp_path, mixture):
    with pytest.raises(ValueError, match=r"model_index\.json' cannot be read as JSON: it is missing"):
        network(tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(ValueError, match=r"model_index\.json' cannot be read as JSON"):
        network(tmp_path)
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match=r"must have unet/model\.onnx; export"):
        network(tmp_path)


EDM = {"_class_name": "EDMEulerScheduler", "sigma_data": 0.5, "sigma_min": 0.01, "sigma_max": 50.0}


@pytest.mark.parametrize(
    ("scheduler", "what", "edm"),
    [
        ({"_class_name": "ScoreSdeVeScheduler", "sigma_min": 0.01, "sigma_max": 50.0}, "score", False),
        (EDM, "edm", True),
        (EDM | {"prediction_type": "v_prediction"}, "negative-edm", True),
    ],
)
def test_schedulers_without_betas(tmp_path, mixture, scheduler, what, edm):
    folder = folder_of(tmp_path, mixture, scheduler=scheduler)

    def levels(graph, u):
        return u * 0.0 + 1.0, (u * 4.0).exp() if edm else u

    save_mixture(folder / "unet" / "model.onnx", mixture, SHAPE, what, levels, edm=edm)
    net = network(folder)
    if edm:
        wanted = np.linspace(50 ** (1 / 7), 0.01 ** (1 / 7), 9) ** 7
        np.testing.assert_allclose(net.levels(9).sigma, wanted, rtol=1e-9)
    level = net.at(2.0)
    x = np.random.default_rng(1).normal(size=(4, *SHAPE)).astype(np.float32)
    exact, parts = exact_answer(mixture, level, x)
    np.testing.assert_allclose(level.score(x), exact, rtol=0, atol=16 * EPS * parts.max())


def save_decoder(folder, channels=2, **settings):
    """Write a decoder that returns the sum of the channels of the latents."""
    graph = Graph()
    graph.node("ReduceSum", Value(graph, "latent_sample"), np.array([1]), keepdims=1, output="sample")
    image = {"latent_sample": ("float32", ["n", channels, 2, 3])}, {"sample": ("float32", ["n", 1, 2, 3])}
    graph.save(folder / "vae_decoder" / "model.onnx", *image)
    (folder / "vae_decoder" / "config.json").write_text(json.dumps(settings))


def test_latents_are_decoded(tmp_path, mixture):
    folder = folder_of(tmp_path, mixture)
    save_decoder(folder, scaling_factor=0.5, shift_factor=3.0)
    net = network(folder)
    x = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)
    np.testing.assert_allclose(net.decode(x), (2 * x + 3).sum(axis=1, keepdims=True), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="clip: must be False for a network of latents"):
        network(folder, clip=True)
    for settings, fault in (
        ({"latents_mean": [0.0]}, "latents_mean is not supported"),
        ({"scaling_factor": "1"}, "scaling_factor: must be a number"),
        ({"channels": 3}, "must have one input with 2 channels"),
    ):
        save_decoder(folder, **settings)
        with pytest.raises(ValueError, match=fault):
            network(folder)
    (folder / "vae_decoder" / "model.onnx").write_bytes(b"junk")
    (folder / "vae_decoder" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"vae_decoder/model\.onnx cannot be used"):
        network(folder)


# ------------------------------------------------------------------------------ exported by the libraries themselves


@pytest.fixture(scope="module")
def libraries():
    """PyTorch and diffusers; tests with them allow warnings, which these libraries raise."""
    torch = pytest.importorskip("torch")
    return torch, pytest.importorskip("diffusers")


# google/ddpm-cifar10-32
CIFAR10 = {"act_fn": "silu", "attention_head_dim": None, "block_out_channels": [128, 256, 256, 256],
           "center_input_sample": False, "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D",
           "DownBlock2D"], "downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1, "in_channels": 3,
           "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-6, "norm_num_groups": 32,
           "out_channels": 3, "sample_size": 32, "time_embedding_type": "positional",
           "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"]}  # fmt: skip


# Classes of schedulers and settings. Those with real timesteps interpolate sigma/alpha linearly between integers, and
# this package interpolates its logarithm; the tests allow for the difference.
SCALED_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
CLASSES = [
    (name, {"timestep_spacing": spacing, "steps_offset": 1})
    for name in ("DDIM", "DDPM", "EulerDiscrete", "EulerAncestralDiscrete", "LMSDiscrete", "DPMSolverMultistep",
                 "UniPCMultistep", "DEISMultistep")
    for spacing in ("linspace", "leading", "trailing")
] + [
    ("HeunDiscrete", {}), ("DPMSolverSinglestep", {}),
    *((name, {key: True}) for key in ("use_karras_sigmas", "use_exponential_sigmas")
      for name in ("EulerDiscrete", "LMSDiscrete", "HeunDiscrete", "DPMSolverMultistep", "UniPCMultistep")),
    ("EulerDiscrete", {"use_karras_sigmas": True, "timestep_spacing": "leading", "steps_offset": 1}),
    ("EulerDiscrete", {"use_karras_sigmas": True, "timestep_type": "continuous", "prediction_type": "v_prediction",
                       "sigma_min": 0.002, "sigma_max": 700.0}),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("name", "settings"), CLASSES)
@pytest.mark.parametrize("count", [7, 10])
def test_levels_equal_those_of_diffusers(libraries, tmp_path, name, settings, count):
    """Sigma/alpha and times of all classes, without the repeated timesteps of Heun's method and without the last 0."""
    _, diffusers = libraries
    scheduler = getattr(diffusers, f"{name}Scheduler")(**SCALED_BETAS, **settings)
    scheduler.save_pretrained(tmp_path)
    scheduler.set_timesteps(count)
    card, levels = levels_of(tmp_path, json.loads((tmp_path / "scheduler_config.json").read_text()), count)
    times = np.array([float(t) for t in scheduler.timesteps])
    kept = scheduler.alphas_cumprod.double().numpy()
    ratios = (
        np.sqrt((1 - kept) / kept)[times.astype(int)] if name in ("DDIM", "DDPM") else scheduler.sigmas.numpy()[:-1]
    )
    if name == "HeunDiscrete":
        times, ratios = times[:1].tolist() + times[1::2].tolist(), ratios[:1].tolist() + ratios[1::2].tolist()
    np.testing.assert_allclose([one.sigma / one.alpha for one in levels], ratios, rtol=2e-5)
    # Multistep solvers round the times that the network receives if sigmas are those of Karras et al.
    rounded = name.endswith("Multistep") and card.condition == "interpolated-timestep"
    np.testing.assert_allclose([one.condition for one in levels], times, rtol=1e-4, atol=1 if rounded else 2e-2)


FLOW_CLASSES = [
    ("FlowMatchEulerDiscrete", {"shift": 3.0}), ("FlowMatchHeunDiscrete", {"shift": 3.0}),
    ("FlowMatchEulerDiscrete", {"shift": 3.0, "use_karras_sigmas": True}),
    ("FlowMatchEulerDiscrete", {"shift": 3.0, "use_exponential_sigmas": True}),
    ("FlowMatchEulerDiscrete", {"shift": 3.0, "shift_terminal": 0.1}),
    *((name, {"use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction"})
      for name in ("DPMSolverMultistep", "UniPCMultistep", "DEISMultistep", "DPMSolverSinglestep", "SASolver")),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("name", "settings"), FLOW_CLASSES)
def test_levels_of_flow_matching_equal_those_of_diffusers(libraries, tmp_path, name, settings):
    _, diffusers = libraries
    scheduler = getattr(diffusers, f"{name}Scheduler")(**settings)
    scheduler.save_pretrained(tmp_path)
    scheduler.set_timesteps(10)
    _, levels = levels_of(tmp_path, json.loads((tmp_path / "scheduler_config.json").read_text()))
    sigmas = scheduler.sigmas.numpy()[:-1]
    sigmas = np.append(sigmas[:1], sigmas[1::2]) if "Heun" in name else sigmas
    np.testing.assert_allclose([one.sigma for one in levels], sigmas, rtol=2e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["EDMEuler", "EDMDPMSolverMultistep"])
@pytest.mark.parametrize("rate", ["karras", "exponential"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_edm_schedulers_equal_those_of_diffusers(libraries, tmp_path, name, rate, prediction):
    """Levels, the inputs of the network and its denoised image."""
    torch, diffusers = libraries
    kind = getattr(diffusers, f"{name}Scheduler")
    scheduler = kind(sigma_schedule=rate, prediction_type=prediction, sigma_data=0.7)
    scheduler.save_pretrained(tmp_path)
    scheduler.set_timesteps(10)
    card, levels = levels_of(tmp_path, json.loads((tmp_path / "scheduler_config.json").read_text()))
    np.testing.assert_allclose([one.sigma for one in levels], scheduler.sigmas[:-1], rtol=1e-5)
    np.testing.assert_allclose([one.condition for one in levels], scheduler.timesteps, rtol=1e-4, atol=1e-6)
    level, (z, answer) = card.level(0.4), np.random.default_rng(0).normal(size=(2, 5))
    image = scheduler.precondition_outputs(torch.tensor(z), torch.tensor(answer), 0.4).numpy()
    np.testing.assert_allclose(level.form.image[0] * z + level.form.image[1] * answer, image, rtol=1e-12)
    scaled = scheduler.precondition_inputs(torch.tensor(z), 0.4)
    np.testing.assert_allclose(level.scale * z, scaled, rtol=1e-12)


STEPS = {
    "DDIM": ("ddim", DDPM), "EulerDiscrete": ("ddim", DDPM), "HeunDiscrete": ("heun", DDPM),
    "DPMSolverMultistep": ("dpm-solver++", DDPM), "EDMEuler": ("ddim", EDM),
    "EDMDPMSolverMultistep": ("dpm-solver++", EDM), "FlowMatchHeunDiscrete": ("heun", FLOW),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", STEPS)
def test_predictors_take_the_steps_of_diffusers(libraries, tmp_path, mixture, name):
    """Ten levels, from the same start, with a network that is exact for the mixture."""
    torch, diffusers = libraries
    predictor, settings = STEPS[name]
    folder = folder_of(tmp_path, mixture, scheduler=settings | {"_class_name": f"{name}Scheduler"})
    if settings is not DDPM:
        levels = (lambda g, u: (1.0 - u / 1000.0, u / 1000.0)) if settings is FLOW else (
            lambda g, u: (u * 0.0 + 1.0, (u * 4.0).exp()))  # fmt: skip
        what = "velocity" if settings is FLOW else "edm"
        save_mixture(folder / "unet" / "model.onnx", mixture, SHAPE, what, levels, edm=settings is EDM)
    net = network(folder)
    scheduler = getattr(diffusers, f"{name}Scheduler").from_pretrained(folder / "scheduler")
    scheduler.set_timesteps(10)
    levels = net.levels(10)
    start = np.random.default_rng(1).normal(size=(4, *SHAPE)).astype(np.float32) * levels.sigma[0]
    # Schedulers of k-diffusion have z/alpha as their state.
    z = torch.tensor(start / (levels.alpha[0] if name in ("EulerDiscrete", "HeunDiscrete") else 1.0))
    for t in scheduler.timesteps:
        given = z if settings is FLOW else scheduler.scale_model_input(z, t)
        answer = net.evaluate(given.numpy().astype(np.float32), 1.0, float(t))
        z = scheduler.step(torch.tensor(answer), t, z).prev_sample
    run = uldnum.anneal(net, uldnum.plan(predictor, levels), chains=4, x0=start, progress=False)
    assert relative(run.x, z.numpy()) < 1e-4


def relative(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("dynamo", [False, True], ids=["TorchScript", "torch.export"])
def test_ddpm_cifar10_exported_by_pytorch(libraries, tmp_path, dynamo):
    torch, diffusers = libraries
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(**CIFAR10).eval()
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler(clip_sample=True)).save_pretrained(tmp_path)
    batch = {0: torch.export.Dim("batch")}
    dynamic = {"dynamic_shapes": {"sample": batch, "timestep": batch, "return_dict": None}, "external_data": True}
    traced = {"dynamic_axes": {name: {0: "batch"} for name in ("sample", "timestep", "out_sample")}}
    torch.onnx.export(
        unet, (torch.randn(2, 3, 32, 32), torch.tensor([3, 5])), tmp_path / "unet" / "model.onnx",
        kwargs={"return_dict": False}, input_names=["sample", "timestep"], output_names=["out_sample"], dynamo=dynamo,
        opset_version=18 if dynamo else 17, **(dynamic if dynamo else traced),
    )  # fmt: skip
    level = network(tmp_path).at(t=400)
    x = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        noise = unet(torch.tensor(x), 400).sample.numpy()
    kept = float(diffusers.DDPMScheduler().alphas_cumprod[400])
    assert level.sigma == pytest.approx(np.sqrt(1 - kept), rel=1e-5)
    assert relative(level.score(x), -noise / np.sqrt(1 - kept)) < 1e-4
    run = uldnum.sample(level, "baoab-limit", h=1.0, steps=2, chains=2, progress=False)
    assert run.nfe == 2


def export(torch, module, path, inputs, output):
    """Write a PyTorch module to an ONNX file whose inputs have a dynamic first axis."""
    axes = {name: {0: "batch"} for name in (*inputs, output)}
    torch.onnx.export(
        module.eval(), (), path, kwargs=inputs | {"return_dict": False}, input_names=list(inputs),
        output_names=[output], dynamo=False, opset_version=17, dynamic_axes=axes,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("settings", "options"),
    [({"clip_sample": False}, {}), ({"clip_sample": False, "timestep_spacing": "trailing"}, {}),
     ({"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing",
       "clip_sample": False}, {}),
     ({"clip_sample": True}, {"clip": True})],
    ids=["leading", "trailing", "zero SNR", "clipped"],
)  # fmt: skip
def test_ten_steps_of_ddim_equal_those_of_diffusers(libraries, tmp_path, settings, options):
    """A DDPM with random weights. If images are clipped, the scheduler recomputes the noise from the clipped image."""
    torch, diffusers = libraries
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, block_out_channels=(16, 32), layers_per_block=1,
        norm_num_groups=8, down_block_types=["DownBlock2D"] * 2, up_block_types=["UpBlock2D"] * 2,
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(**settings)
    diffusers.DDIMPipeline(unet, scheduler).save_pretrained(tmp_path)
    inputs = {"sample": torch.randn(2, 3, 8, 8), "timestep": torch.tensor([3.0, 5.0])}
    export(torch, unet, tmp_path / "unet" / "model.onnx", inputs, "out_sample")
    net = network(tmp_path, **options)
    start = np.random.default_rng(0).normal(size=(3, 3, 8, 8)).astype(np.float32)
    scheduler.set_timesteps(10)
    z = torch.tensor(start)
    with torch.no_grad():
        for t in scheduler.timesteps:
            z = scheduler.step(unet(z, t).sample, t, z, use_clipped_model_output=bool(options)).prev_sample
    run = uldnum.anneal(net, uldnum.plan("ddim", net.levels(10)), chains=3, x0=start, progress=False)
    assert relative(run.x, z.numpy()) < 1e-4


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("dynamic", [False, True])
def test_ten_steps_of_stable_diffusion_3_equal_those_of_its_pipeline(libraries, tmp_path, dynamic):
    """A transformer with random weights and the scheduler FlowMatchEulerDiscrete, with guidance."""
    torch, diffusers = libraries
    torch.manual_seed(0)
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=32, caption_projection_dim=32, pooled_projection_dim=16,
        pos_embed_max_size=8,
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=dynamic)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=8, latent_channels=4, down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2, shift_factor=0.1,
    )  # fmt: skip
    texts = dict.fromkeys(f"{kind}{n}" for kind in ("text_encoder", "tokenizer") for n in ("", "_2", "_3"))
    pipeline = diffusers.StableDiffusion3Pipeline(transformer, scheduler, vae, **texts)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(tmp_path)
    rng = np.random.default_rng(0)
    arrays = {"encoder_hidden_states": rng.normal(size=(2, 5, 32)), "pooled_projections": rng.normal(size=(2, 16))}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    inputs = {"hidden_states": torch.randn(2, 4, 8, 8), **tensors, "timestep": torch.tensor([3.0, 5.0])}
    export(torch, transformer, tmp_path / "transformer" / "model.onnx", inputs, "out_sample")
    given = {key: {name: array[i : i + 1] for name, array in arrays.items()}
             for i, key in enumerate(("inputs", "unconditional"))}  # fmt: skip
    net = network(tmp_path, {"image_input": "hidden_states"}, guidance=4.0, **given)
    start = rng.normal(size=(1, 4, 8, 8)).astype(np.float32)
    text, pooled = tensors.values()
    wanted = pipeline(
        prompt_embeds=text[:1], pooled_prompt_embeds=pooled[:1], negative_prompt_embeds=text[1:],
        negative_pooled_prompt_embeds=pooled[1:], guidance_scale=4.0, latents=torch.tensor(start), height=16, width=16,
        num_inference_steps=10, output_type="latent",
    ).images.numpy()  # fmt: skip
    run = uldnum.anneal(net, uldnum.plan("ddim", net.levels(10)), chains=1, x0=start, progress=False)
    assert relative(run.x, wanted) < 1e-4


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_stable_diffusion_exported_by_optimum(libraries, tmp_path):
    """A tiny pipeline with random weights agrees with PyTorch in guided scores, decoded images and ten steps of DDIM.

    As in Stable Diffusion 1.5, the last step ends at timestep 0.
    """
    torch, diffusers = libraries
    transformers, exporters = pytest.importorskip("transformers"), pytest.importorskip("optimum.exporters.onnx")
    torch.manual_seed(0)
    blocks = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8}
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, cross_attention_dim=32, attention_head_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **blocks,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        **blocks,
    )
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "a</w>": 3}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(tmp_path / "vocab.json", tmp_path / "merges.txt", model_max_length=77)
    text = transformers.CLIPTextModel(transformers.CLIPTextConfig(
        vocab_size=4, hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
        bos_token_id=0, eos_token_id=1,
    ))  # fmt: skip
    scheduler = diffusers.DDIMScheduler(
        **SCALED_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading"
    )
    parts = {"vae": vae, "text_encoder": text, "tokenizer": tokenizer, "unet": unet, "scheduler": scheduler}
    pipeline = diffusers.StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipeline.save_pretrained(tmp_path / "pytorch")
    exporters.main_export(str(tmp_path / "pytorch"), tmp_path / "onnx", task="text-to-image")

    rng = np.random.default_rng(0)
    prompt, empty = rng.normal(size=(3, 77, 32)).astype(np.float32), rng.normal(size=(1, 77, 32)).astype(np.float32)
    given = {"inputs": {"encoder_hidden_states": prompt}, "unconditional": {"encoder_hidden_states": empty}}
    with pytest.warns(UserWarning, match="its last step ends at the smallest noise level"):
        net = network(tmp_path / "onnx", guidance=7.5, **given)
    assert net.shape == (4, 8, 8)
    level = net.at(t=321)
    x = rng.normal(size=(3, 4, 8, 8)).astype(np.float32)
    with torch.no_grad():
        with_text = unet.eval()(torch.tensor(x), 321, torch.tensor(prompt)).sample.numpy()
        without = unet(torch.tensor(x), 321, torch.tensor(empty).expand(3, -1, -1)).sample.numpy()
        images = vae.eval().decode(torch.tensor(x) / vae.config.scaling_factor).sample.numpy()
    noise = without + 7.5 * (with_text - without)
    sigma = float(1 - scheduler.alphas_cumprod[321]) ** 0.5
    assert relative(level.score(x), -noise / sigma) < 1e-4
    assert relative(net.decode(x), images) < 1e-4
    run = uldnum.sample(level, "baoab-limit", h=1.0, steps=3, chains=3, progress=False)
    assert np.isfinite(run.x).all()
    pipeline.set_progress_bar_config(disable=True)
    wanted = pipeline(
        prompt_embeds=torch.tensor(prompt), negative_prompt_embeds=torch.tensor(empty).expand(3, -1, -1),
        guidance_scale=7.5, latents=torch.tensor(x), height=16, width=16, num_inference_steps=10, output_type="latent",
    ).images.numpy()  # fmt: skip
    levels, last = net.levels(10), net.at(t=0)
    to_zero = uldnum.levels.given([*levels.sigma, last.sigma], [*levels.alpha, last.alpha])
    run = uldnum.anneal(net, uldnum.plan("ddim", to_zero, denoise=False), chains=3, x0=x, progress=False)
    assert relative(run.x, wanted) < 1e-4

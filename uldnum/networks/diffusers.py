"""Reader of pipeline folders in the format of diffusers and Optimum: model, noise schedule and decoder."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from uldnum._util import parsing
from uldnum._util.arguments import number, positive_number
from uldnum._util.names import printable
from uldnum.networks.card import Card
from uldnum.networks.decoder import Latents
from uldnum.networks.prompts import Texts
from uldnum.networks.words import BETAS, KEYS, translated
from uldnum.plans.schedules import shifted_times

__all__ = ["Pipeline", "read_folder", "with_scheduler"]

# Substrings of the class names of schedulers that do not define the noise schedule of a score network.
OTHERS = ("FlowMatchLCM", "KarrasVe", "CMStochastic", "Consistency", "Unclip", "VQDiffusion")


class Family(NamedTuple):
    """Default levels of a class of schedulers with betas, as a spacing, and its steps.

    Attributes
    ----------
    spacing : str
        Default of ``timestep_spacing``.
    options : mapping
        Options of the spacing "linspace" and, apart from ``rounded``, of "leading".
    predictor : str
        Predictor of this package that takes the same steps, or an empty string.
    """

    spacing: str
    options: dict[str, bool]
    predictor: str = ""


# Timesteps may lie between integers in the families REAL. In the families MORE, levels are those of one more step.
REAL, MORE = {"rounded": False}, {"omit_last": True}
FAMILIES = {
    "DDIM": Family("leading", {}, "ddim"),
    "DDPM": Family("leading", {}, "ancestral"),
    "PNDM": Family("leading", {}),
    "DPMSolverMultistep": Family("linspace", MORE, "dpm-solver++"),
    "DPMSolverSinglestep": Family("linspace", MORE),
    "DEISMultistep": Family("linspace", MORE),
    "UniPCMultistep": Family("linspace", MORE),
    "SASolver": Family("linspace", MORE),
    "EulerDiscrete": Family("linspace", REAL, "ddim"),
    "EulerAncestralDiscrete": Family("linspace", REAL, "ancestral"),
    "HeunDiscrete": Family("linspace", REAL, "heun"),
    "LMSDiscrete": Family("linspace", REAL),
    "KDPM2Discrete": Family("linspace", REAL),
    "KDPM2AncestralDiscrete": Family("linspace", REAL),
    "DPMSolverSDE": Family("linspace", REAL),
}

# Words in the names of schedulers, pipelines and models that stand for distilled networks.
DISTILLED = ("lcm", "tcd", "turbo", "lightning", "schnell", "distill")

# Keys that change the levels of a scheduler and that the default levels do not follow, and their values without effect.
IGNORED = {
    "use_beta_sigmas": (None, False),
    "use_lu_lambdas": (None, False),
    "lambda_min_clipped": (None, -math.inf, "-inf", "-Infinity"),
    "interpolation_type": (None, "linear"),
    "stochastic_sampling": (None, False),
}

# Settings of the scheduler that StableDiffusionPipeline replaces.
STABLE = {"clip_sample": False, "steps_offset": 1}

# Pipelines of flow matching that give the transformer other times than 1000 sigma, or the scheduler other levels than
# its own: by the beginning of their class names, keys of the card and of its spacing.
BY_COUNT = {"last": 0.0, "omit_last": True}  # linspace(1, 1/n, n) for n levels
REVERSED = {
    "parameterisation": "negative-velocity",
    "schedule": {"kind": "flow", "reverse": True},
    "condition_scale": 1,
}
PIPELINES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **dict.fromkeys(("Flux", "Chroma", "QwenImage", "OvisImage"), ({"condition_scale": 1}, BY_COUNT)),
    "Lumina2": (REVERSED, BY_COUNT),
    "Lumina": (REVERSED, {}),
    "HiDreamImage": ({"parameterisation": "negative-velocity"}, {}),
}


class Pipeline(NamedTuple):
    """Contents of a pipeline folder.

    Attributes
    ----------
    model : Path
        ONNX model of the U-Net or transformer.
    card : mapping
        Keys of its card.
    latents : Latents or None
        The decoder of a latent diffusion model.
    texts : Texts
        The text encoders.
    """

    model: Path
    card: dict[str, Any]
    latents: Latents | None
    texts: Texts


def read_folder(folder: Path) -> Pipeline:
    """Read a pipeline folder, which has a file ``model_index.json``.

    Raises
    ------
    ValueError
        If a file is missing or broken, or its noise schedule is not supported; the message names the file and the key.
    """
    try:
        return pipeline_of(folder)
    except ValueError as error:  # the message quotes paths and contents of files, which may not be printable
        raise ValueError(printable(str(error), 1000)) from None


def pipeline_of(folder: Path) -> Pipeline:
    """Return the pipeline that the files of a folder describe."""
    index = read_json(folder / "model_index.json")
    part = "unet" if "unet" in index else "transformer" if "transformer" in index else "unet"
    model = folder / part / "model.onnx"
    if not model.is_file():
        raise ValueError(f"network: {folder} must have {part}/model.onnx; export the pipeline to ONNX first")
    settings = read_optional(folder / part / "config.json")
    path = folder / "scheduler" / "scheduler_config.json"
    kind, name = printable(str(index.get("_class_name", "a pipeline"))), printable(folder.resolve().name)
    scheduler = read_json(path) | (STABLE if kind.removeprefix("ORT") == "StableDiffusionPipeline" else {})
    card = schedule_card(path, scheduler, settings.get("patch_size") or 2)
    if card["scaling"] == "flow":
        keys, spacing = next((both for stem, both in PIPELINES.items() if kind.startswith(stem)), ({}, {}))
        card |= keys | {"spacing": card["spacing"] | spacing}
    names = [name, *(str(one.get("_name_or_path", "")) for one in (index, settings)), str(scheduler["_class_name"])]
    warn_of_differences(f"pipeline of {path}", scheduler, names)
    card |= {"name": name, "source": f"{kind} in {printable(folder.name)}"}
    size, channels = settings.get("sample_size"), settings.get("in_channels")
    if size is not None and channels is not None:
        card["shape"] = (
            [channels, size, size]
            if isinstance(size, int)
            else [channels, *(size if isinstance(size, list) else [size])]
        )
    if channels is not None and settings.get("out_channels") == 2 * channels:
        card["learned_variance"] = True
    return Pipeline(model, card, latents_of(folder / "vae_decoder"), texts_of(folder, index, settings))


def texts_of(folder: Path, index: Mapping[str, Any], settings: Mapping[str, Any]) -> Texts:
    """Return the text encoders of a pipeline, from ``model_index.json`` and the settings of its network."""
    listed = [end for end in ("", "_2", "_3") if index.get(f"text_encoder{end}") not in (None, [None, None])]
    zeros, width = index.get("force_zeros_for_empty_prompt", True), settings.get("joint_attention_dim")
    blocks = read_optional(folder / "vae_decoder" / "config.json").get("block_out_channels")
    return Texts(
        folder, printable(str(index.get("_class_name"))), tuple(listed), bool(zeros),
        2 ** (len(blocks) - 1) if isinstance(blocks, list) else 8, width if isinstance(width, int) else 0,
    )  # fmt: skip


def latents_of(folder: Path) -> Latents | None:
    """Return the decoder of a pipeline, if it has one."""
    if not (folder / "model.onnx").is_file():
        return None
    path = folder / "config.json"
    settings = read_optional(path)
    for key in ("latents_mean", "latents_std"):
        if settings.get(key) is not None:
            raise ValueError(f"network: {path}: {key} is not supported, and images would be wrong without it")
    given = {key: settings.get(key) for key in ("scaling_factor", "shift_factor")}
    # Defaults of diffusers for missing keys.
    scale, shift = (
        default if value is None else number(f"network: {path}: {key}", value)
        for (key, value), default in zip(given.items(), (0.18215, 0.0), strict=True)
    )
    return Latents(folder / "model.onnx", scale, shift)


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file, which must be an object."""
    return parsing.read_json("network", path)


def read_optional(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file, or an empty dictionary if the file does not exist."""
    return parsing.read_json("network", path, optional=True)


def schedule_card(path: Path, settings: Mapping[str, Any], patch: int) -> dict[str, Any]:
    """Return the parameterisation, scaling, condition and schedule that a scheduler's configuration defines.

    ``patch`` is the size of the patches of a transformer, on whose number the levels of flow matching may depend.
    """

    def need(key: str) -> Any:
        if key not in settings:
            raise ValueError(f"network: {path} must have the key {key!r}, which determines the noise levels")
        return settings[key]

    def need_number(key: str) -> float:
        return number(f"network: {path}: {key}", need(key))

    def one_of(key: str, default: str, *names: str) -> str:
        value = str(settings.get(key, default))
        if value not in names:
            raise ValueError(f"network: {path}: {key} must be {alternatives(names)}, got {value!r}")
        return value

    kind = str(need("_class_name"))
    if any(other in kind for other in OTHERS):
        raise ValueError(f"network: {path}: {kind} is not a supported noise schedule of a score network")
    if kind.startswith("FlowMatch"):
        return flow_card(settings, patch, path)
    if kind == "ScoreSdeVeScheduler":  # its U-Nets predict the score and receive sigma
        return {"parameterisation": "score", "scaling": "ve", "condition": "sigma",
                "sigma_min": need_number("sigma_min"), "sigma_max": need_number("sigma_max"),
                "sigma": 0.5, "data_range": [0.0, 1.0]}  # fmt: skip
    if kind.startswith("EDM"):
        # The prediction type only sets the sign of F.
        prediction = one_of("prediction_type", "epsilon", "epsilon", "v_prediction")
        rate = one_of("sigma_schedule", "karras", "karras", "exponential")
        schedule = {"kind": "geometric" if rate == "exponential" else "karras", "first": need_number("sigma_max"),
                    "last": need_number("sigma_min")}  # fmt: skip
        if rate == "karras" and "rho" in settings:
            schedule["rho"] = need_number("rho")
        return {"parameterisation": "edm" if prediction == "epsilon" else "negative-edm", "scaling": "edm",
                "condition": "log-sigma", "condition_scale": 0.25, "sigma_data": need_number("sigma_data"),
                "schedule": schedule}  # fmt: skip
    if settings.get("use_flow_sigmas"):
        one_of("prediction_type", "epsilon", "flow_prediction")
        return flow_card(settings, patch, path)
    # In folders of early versions of diffusers, which lack this key, the network predicts the noise.
    prediction = one_of("prediction_type", "epsilon", "epsilon", "sample", "v_prediction")
    family = family_of(kind)
    spacing = one_of("timestep_spacing", family.spacing, "linspace", "leading", "trailing")
    if settings.get("trained_betas") is None:
        need("beta_schedule")
        if one_of("beta_schedule", "", *BETAS) != "squaredcos_cap_v2":
            need("beta_start"), need("beta_end")
        need("num_train_timesteps")
    known = {key: settings[key] for key in KEYS if settings.get(key) is not None and settings[key] is not False}
    card = translated(known | {"prediction_type": prediction, "timestep_spacing": spacing})
    real, warp = family.options == REAL, warp_of(settings, path)
    if warp and not real:  # from the noisiest to the cleanest timestep
        card["spacing"] = {"kind": "linspace"}
    elif spacing == "linspace" or (spacing == "leading" and not real):
        card["spacing"] |= family.options
    card["spacing"] |= {"warp": warp} if warp else {}
    card |= {"scaling": "vp", "condition": "interpolated-timestep" if real or warp else "timestep"}
    if one_of("timestep_type", "discrete", "discrete", "continuous") == "continuous" and prediction == "v_prediction":
        card |= {"condition": "log-snr", "condition_scale": -0.125}  # log(sigma/alpha)/4
        if warp == "karras" and settings.get("sigma_max") is not None:
            card["schedule"] = {"kind": "karras", "first": need_number("sigma_max"), "last": need_number("sigma_min")}
            del card["spacing"]
    return card


def family_of(kind: str) -> Family:
    """Return the family of a class of schedulers. An unknown class has the levels of DDIM and steps of its own."""
    stem = kind.removesuffix("Scheduler").removesuffix("Parallel").removeprefix("Flax")
    return FAMILIES.get(stem, FAMILIES["DDIM"]._replace(predictor=""))


def warp_of(settings: Mapping[str, Any], path: Path) -> str:
    """Return the spacing of the levels between the first and the last one, or an empty string for that of the times."""
    kinds = {"use_karras_sigmas": "karras", "use_exponential_sigmas": "geometric"}
    chosen = [key for key in kinds if settings.get(key)]
    if len(chosen) > 1:
        raise ValueError(f"network: {path}: only one of {' and '.join(chosen)} may be true")
    return kinds[chosen[0]] if chosen else ""


def flow_card(settings: Mapping[str, Any], patch: int, path: Path) -> dict[str, Any]:
    """Return the card of a scheduler of flow matching. Missing keys have the defaults of diffusers.

    With a static shift, the schedulers FlowMatchEulerDiscrete and FlowMatchHeunDiscrete apply it twice: to the smallest
    sigma, 1/T for T training timesteps, and to all levels between 1 and the result. Other schedulers have the key
    ``use_flow_sigmas`` and apply it once.
    """

    def value(key: str, default: float) -> float:
        given = settings.get(key)
        return default if given is None else number(f"network: {path}: {key}", given)

    def positive(key: str, default: float) -> float:
        return positive_number(f"network: {path}: {key}", value(key, default))

    count, inverted = positive("num_train_timesteps", 1000), bool(settings.get("invert_sigmas"))
    rule = settings.get("time_shift_type", "exponential")
    if rule not in ("exponential", "linear"):
        raise ValueError(f"network: {path}: time_shift_type must be exponential or linear, got {rule!r}")
    solver = bool(settings.get("use_flow_sigmas"))
    spacing: dict[str, Any] = {"last": 1 / count}
    if solver:
        spacing |= {"omit_last": True}
        if not str(settings["_class_name"]).startswith("UniPC"):
            spacing |= {"first": 1 - 1 / count, "last": 0.0}
    if settings.get("use_dynamic_shifting"):
        spacing |= {"kind": "dynamic", "patch": patch, "base_shift": value("base_shift", 0.5),
                    "max_shift": value("max_shift", 1.15), "base_length": value("base_image_seq_len", 256),
                    "max_length": value("max_image_seq_len", 4096), "exponential": rule == "exponential"}  # fmt: skip
    else:
        shift = positive("flow_shift" if solver else "shift", 1.0)
        spacing |= {"kind": "shifted", "shift": shift}
        if not solver:
            spacing["last"] = float(shifted_times(1, shift, 1 / count, 1 / count)[0])
    if settings.get("shift_terminal"):
        spacing["terminal"] = value("shift_terminal", 0.0)
    if warp := warp_of(settings, path):
        spacing["warp"] = warp
    return {"parameterisation": "negative-velocity" if inverted else "velocity", "scaling": "flow", "condition": "t",
            "condition_scale": count, "schedule": {"kind": "flow", "reverse": inverted},
            "spacing": spacing}  # fmt: skip


def with_scheduler(card: Any) -> Any:
    """Return a card in which the settings of a scheduler are replaced by the keys that they define.

    The settings are recognised by the key ``_class_name``, as in ``dict(scheduler.config)``. Keys of a card take
    precedence over them. Any other value is returned unchanged.
    """
    if not (isinstance(card, Mapping) and "_class_name" in card):
        return card
    shared = ("sigma_min", "sigma_max", "sigma_data")  # these are settings of schedulers, too
    own = {one.name: card[one.name] for one in fields(Card) if one.name in card and one.name not in shared}
    kind = str(card["_class_name"])
    warn_of_differences(f"scheduler {kind}", card, [kind])
    return schedule_card(Path("card"), card, 2) | own


def warn_of_differences(subject: str, settings: Mapping[str, Any], names: Sequence[str]) -> None:
    """Warn of what a pipeline of diffusers does and this package does not do by default; see `differences`."""
    if found := differences(settings, names):
        warnings.warn(f"network: the {subject} in diffusers differs: {'; '.join(found)}", stacklevel=4)


def alternatives(names: Sequence[str]) -> str:
    """Return names as alternatives in words."""
    return " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def differences(settings: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return what a pipeline of diffusers does and this package does not do by default.

    ``names`` are those of the scheduler, the pipeline and the model.
    """
    kind, found = str(settings["_class_name"]), []
    stem = kind.removesuffix("Scheduler")
    if words := [word for word in DISTILLED if any(word in name.lower() for name in names)]:
        found.append(f"{words[0]!r} stands for a distilled network, whose output is not the score of noised images")
    elif not (stem.startswith(("FlowMatch", "EDM", "ScoreSdeVe")) or family_of(kind).predictor):
        known = "" if stem in FAMILIES else ", and the default levels are those of DDIMScheduler"
        found.append(f"no predictor takes the steps of {kind}{known}")
    if settings.get("clip_sample", stem in ("DDIM", "DDPM")):
        bound = number("clip_sample_range", settings.get("clip_sample_range", 1.0))
        card = "" if bound == 1 else f" and card={{'data_range': [{-bound:g}, {bound:g}]}}"
        noise = " except that it keeps the predicted noise" if stem == "DDIM" else ""
        found.append(f"it clips denoised images, as clip=True (--clip){card} does here{noise}")
    if settings.get("thresholding"):
        found.append("it bounds denoised images by dynamic thresholding, which this package does not have")
    to_one = settings.get("set_alpha_to_one", stem != "PNDM") and stem != "DEISMultistep"
    if not to_one or settings.get("final_sigmas_type", "zero") != "zero":
        found.append(
            "its last step ends at the smallest noise level, as plan(..., denoise=False) does with a last level there"
        )
    if settings.get("use_flow_sigmas"):
        found.append("it rounds the times that the network receives to integers")
    found += [
        f"the default levels ignore {key} = {settings[key]}"
        for key, inert in IGNORED.items()
        if settings.get(key) not in inert
    ]
    return found

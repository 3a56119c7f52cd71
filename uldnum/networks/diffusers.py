"""Reader of pipeline folders in the format of diffusers and Optimum: model, noise schedule and decoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from uldnum._util import parsing
from uldnum._util.arguments import number, positive_number
from uldnum._util.names import printable
from uldnum.networks.decoder import Latents
from uldnum.networks.prompts import Texts
from uldnum.plans.schedules import shifted_times

__all__ = ["Pipeline", "read_folder"]

# Prediction types and beta schedules: their names in diffusers, and their names in this package.
PREDICTIONS = {"epsilon": "epsilon", "sample": "denoiser", "v_prediction": "v"}
BETAS = {"linear": "linear", "scaled_linear": "scaled-linear", "squaredcos_cap_v2": "cosine"}

# Substrings of the class names of schedulers that do not define the noise schedule of a score network.
OTHERS = ("FlowMatchLCM", "KarrasVe", "CMStochastic", "Consistency", "Unclip", "VQDiffusion")


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
    card = schedule_card(folder / "scheduler" / "scheduler_config.json", settings.get("patch_size") or 2)
    kind, name = printable(str(index.get("_class_name", "a pipeline"))), printable(folder.resolve().name)
    card |= {"name": name, "source": f"{kind} in {printable(folder.name)}"}
    size, channels = settings.get("sample_size"), settings.get("in_channels")
    if size is not None and channels is not None:
        card["shape"] = (
            [channels, size, size]
            if isinstance(size, int)
            else [channels, *(size if isinstance(size, list) else [size])]
        )
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


def schedule_card(path: Path, patch: int) -> dict[str, Any]:
    """Return the parameterisation, scaling, condition and schedule that a scheduler's configuration defines.

    ``patch`` is the size of the patches of a transformer, on whose number the levels of flow matching may depend.
    """
    settings = read_json(path)

    def need(key: str) -> Any:
        if key not in settings:
            raise ValueError(f"network: {path} must have the key {key!r}, which determines the noise levels")
        return settings[key]

    def need_number(key: str) -> float:
        return number(f"network: {path}: {key}", need(key))

    kind = str(need("_class_name"))
    if any(other in kind for other in OTHERS) or settings.get("use_flow_sigmas"):
        raise ValueError(f"network: {path}: {kind} is not a supported noise schedule of a score network")
    if kind.startswith("FlowMatch"):
        return flow_card(settings, patch, path)
    if settings.get("timestep_type", "discrete") != "discrete":
        raise ValueError(f"network: {path}: timestep_type must be 'discrete', got {settings['timestep_type']!r}")
    if kind == "ScoreSdeVeScheduler":  # its U-Nets predict the score and receive sigma
        return {"parameterisation": "score", "scaling": "ve", "condition": "sigma",
                "sigma_min": need_number("sigma_min"), "sigma_max": need_number("sigma_max"),
                "sigma": 0.5, "data_range": [0.0, 1.0]}  # fmt: skip
    if kind.startswith("EDM"):
        if settings.get("prediction_type", "epsilon") != "epsilon":
            raise ValueError(
                f"network: {path}: prediction_type of an EDM scheduler must be 'epsilon', "
                f"got {settings['prediction_type']!r}"
            )
        return {"parameterisation": "edm", "scaling": "edm", "condition": "log-sigma", "condition_scale": 0.25,
                "sigma_data": need_number("sigma_data"), "sigma_min": need_number("sigma_min"),
                "sigma_max": need_number("sigma_max")}  # fmt: skip
    # In folders of early versions of diffusers, which lack this key, the network predicts the noise.
    prediction = str(settings.get("prediction_type", "epsilon"))
    if prediction not in PREDICTIONS:
        raise ValueError(
            f"network: {path}: prediction_type must be one of {', '.join(PREDICTIONS)}, got {prediction!r}"
        )
    schedule = betas_of(settings, need, path)
    if settings.get("rescale_betas_zero_snr"):
        schedule["zero_terminal_snr"] = True
    default = "leading" if kind.startswith(("DDIM", "DDPM", "PNDM")) else "linspace"  # the defaults of diffusers
    spacing: dict[str, Any] = {"kind": str(settings.get("timestep_spacing", default))}
    if spacing["kind"] not in ("linspace", "leading", "trailing"):
        raise ValueError(
            f"network: {path}: timestep_spacing must be linspace, leading or trailing, got {spacing['kind']!r}"
        )
    if spacing["kind"] == "leading" and settings.get("steps_offset"):
        spacing["offset"] = need_number("steps_offset")
    return {"parameterisation": PREDICTIONS[prediction], "scaling": "vp", "condition": "timestep",
            "schedule": schedule, "spacing": spacing}  # fmt: skip


def flow_card(settings: Mapping[str, Any], patch: int, path: Path) -> dict[str, Any]:
    """Return the card of a scheduler of flow matching. Missing keys have the defaults of diffusers.

    With a static shift, `FlowMatchEulerDiscreteScheduler` applies it twice: to the smallest sigma, 1/T for T training
    timesteps, and to all levels between 1 and the result.
    """
    for key in ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"):
        if settings.get(key):
            raise ValueError(f"network: {path}: {key} is not supported; set it to false")

    def value(key: str, default: float) -> float:
        given = settings.get(key)
        return default if given is None else number(f"network: {path}: {key}", given)

    def positive(key: str, default: float) -> float:
        return positive_number(f"network: {path}: {key}", value(key, default))

    count, inverted = positive("num_train_timesteps", 1000), bool(settings.get("invert_sigmas"))
    spacing: dict[str, Any] = {"kind": "dynamic" if settings.get("use_dynamic_shifting") else "shifted"}
    if spacing["kind"] == "dynamic":
        spacing |= {"patch": patch, "base_shift": value("base_shift", 0.5), "max_shift": value("max_shift", 1.15),
                    "base_length": value("base_image_seq_len", 256), "max_length": value("max_image_seq_len", 4096),
                    "exponential": settings.get("time_shift_type", "exponential") == "exponential",
                    "last": 1 / count}  # fmt: skip
    else:
        shift = positive("shift", 1.0)
        spacing |= {"shift": shift, "last": float(shifted_times(1, shift, 1 / count, 1 / count)[0])}
    if settings.get("shift_terminal"):
        spacing["terminal"] = value("shift_terminal", 0.0)
    return {"parameterisation": "negative-velocity" if inverted else "velocity", "scaling": "flow", "condition": "t",
            "condition_scale": count, "schedule": {"kind": "flow", "reverse": inverted},
            "spacing": spacing}  # fmt: skip


def betas_of(settings: Mapping[str, Any], need: Any, path: Path) -> dict[str, Any]:
    """Return the schedule of a scheduler that is defined by betas."""
    if settings.get("trained_betas") is not None:
        return {"kind": "betas", "values": settings["trained_betas"]}
    kind = str(need("beta_schedule"))
    if kind not in BETAS:
        raise ValueError(f"network: {path}: beta_schedule must be one of {', '.join(BETAS)}, got {kind!r}")
    described: dict[str, Any] = {"kind": BETAS[kind], "timesteps": need("num_train_timesteps")}
    if kind != "squaredcos_cap_v2":
        described |= {"beta_start": need("beta_start"), "beta_end": need("beta_end")}
    return described

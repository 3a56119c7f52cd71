"""Folders as diffusers and Optimum write them: which model, which schedule, which decoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from uldnum._util import parsing
from uldnum._util.arguments import number
from uldnum._util.names import printable
from uldnum.networks.decoder import Latents

__all__ = ["Pipeline", "read_folder"]

# diffusers' names of what a U-Net predicts, and of schedules of betas -> ours.
PREDICTIONS = {"epsilon": "epsilon", "sample": "denoiser", "v_prediction": "v"}
BETAS = {"linear": "linear", "scaled_linear": "scaled-linear", "squaredcos_cap_v2": "cosine"}


# Schedulers of other things than noise on an image.
OTHERS = ("FlowMatch", "KarrasVe", "CMStochastic", "Consistency", "Unclip", "VQDiffusion")


class Pipeline(NamedTuple):
    """What a folder holds.

    Attributes
    ----------
    model : Path
        The U-Net.
    card : mapping
        Its card.
    latents : Latents or None
        The decoder, where samples are latents.
    """

    model: Path
    card: dict[str, Any]
    latents: Latents | None


def read_folder(folder: Path) -> Pipeline:
    """Read a folder with ``model_index.json``.

    Raises
    ------
    ValueError
        If something is missing, broken, or not a noise schedule that is known here; the message names file and key.
    """
    try:
        return described(folder)
    except ValueError as error:  # which quotes paths and what files hold
        raise ValueError(printable(str(error), 1000)) from None


def described(folder: Path) -> Pipeline:
    """Return what the files of a folder say."""
    index = read_json(folder / "model_index.json")
    part = "unet" if "unet" in index else "transformer" if "transformer" in index else "unet"
    model = folder / part / "model.onnx"
    if not model.is_file():
        raise ValueError(f"network: {folder} has no {part}/model.onnx; export the pipeline to ONNX first")
    settings = read_optional(folder / part / "config.json")
    card = schedule_card(folder / "scheduler" / "scheduler_config.json")
    kind, name = printable(str(index.get("_class_name", "a pipeline"))), printable(folder.resolve().name)
    card |= {"name": name, "source": f"{kind} in {printable(folder.name)}"}
    size, channels = settings.get("sample_size"), settings.get("in_channels")
    if size is not None and channels is not None:
        card["shape"] = (
            [channels, size, size]
            if isinstance(size, int)
            else [channels, *(size if isinstance(size, list) else [size])]
        )
    return Pipeline(model, card, latents_of(folder / "vae_decoder"))


def latents_of(folder: Path) -> Latents | None:
    """Return the decoder of a pipeline, if it has one."""
    if not (folder / "model.onnx").is_file():
        return None
    path = folder / "config.json"
    settings = read_optional(path)
    for key in ("latents_mean", "latents_std"):
        if settings.get(key) is not None:
            raise ValueError(f"network: {path}: {key} is not known here, and images would be wrong without it")
    given = {key: settings.get(key) for key in ("scaling_factor", "shift_factor")}
    # What diffusers takes where the keys are missing.
    scale, shift = (
        default if value is None else number(f"network: {path}: {key}", value)
        for (key, value), default in zip(given.items(), (0.18215, 0.0), strict=True)
    )
    return Latents(folder / "model.onnx", scale, shift)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds a table."""
    return parsing.read_json("network", path)


def read_optional(path: Path) -> dict[str, Any]:
    """Read a JSON file, if there is one."""
    return read_json(path) if path.is_file() else {}


def schedule_card(path: Path) -> dict[str, Any]:
    """Return parameterisation, scaling, condition and schedule that a scheduler's configuration describes."""
    settings = read_json(path)

    def need(key: str) -> Any:
        if key not in settings:
            raise ValueError(f"network: {path} has no key {key!r}, by which the noise level of a timestep is known")
        return settings[key]

    def need_number(key: str) -> float:
        return number(f"network: {path}: {key}", need(key))

    kind = str(need("_class_name"))
    if any(other in kind for other in OTHERS) or settings.get("use_flow_sigmas"):
        raise ValueError(f"network: {path}: {kind} is not the noise schedule of a score network that is known here")
    if settings.get("timestep_type", "discrete") != "discrete":
        raise ValueError(f"network: {path}: timestep_type {settings['timestep_type']!r} is not known here")
    if kind == "ScoreSdeVeScheduler":  # its U-Nets answer the score, and are told sigma
        return {"parameterisation": "score", "scaling": "ve", "condition": "sigma",
                "sigma_min": need_number("sigma_min"), "sigma_max": need_number("sigma_max"),
                "sigma": 0.5, "data_range": [0.0, 1.0]}  # fmt: skip
    if kind.startswith("EDM"):
        if settings.get("prediction_type", "epsilon") != "epsilon":
            raise ValueError(f"network: {path}: of EDM's schedulers, prediction_type 'epsilon' alone is known here")
        return {"parameterisation": "edm", "scaling": "edm", "condition": "log-sigma", "condition_scale": 0.25,
                "sigma_data": need_number("sigma_data"), "sigma_min": need_number("sigma_min"),
                "sigma_max": need_number("sigma_max")}  # fmt: skip
    # Folders from before diffusers wrote this key hold networks that predict the noise.
    prediction = str(settings.get("prediction_type", "epsilon"))
    if prediction not in PREDICTIONS:
        raise ValueError(
            f"network: {path}: prediction_type must be one of {', '.join(PREDICTIONS)}, got {prediction!r}"
        )
    if settings.get("rescale_betas_zero_snr"):
        raise ValueError(f"network: {path}: rescale_betas_zero_snr ends in pure noise, which has no score of an image")
    return {"parameterisation": PREDICTIONS[prediction], "scaling": "vp", "condition": "timestep",
            "schedule": betas_of(settings, need, path)}  # fmt: skip


def betas_of(settings: Mapping[str, Any], need: Any, path: Path) -> dict[str, Any]:
    """Return the schedule of a scheduler that knows betas."""
    if settings.get("trained_betas") is not None:
        return {"kind": "betas", "values": settings["trained_betas"]}
    kind = str(need("beta_schedule"))
    if kind not in BETAS:
        raise ValueError(f"network: {path}: beta_schedule must be one of {', '.join(BETAS)}, got {kind!r}")
    described: dict[str, Any] = {"kind": BETAS[kind], "timesteps": need("num_train_timesteps")}
    if kind != "squaredcos_cap_v2":
        described |= {"beta_start": need("beta_start"), "beta_end": need("beta_end")}
    return described

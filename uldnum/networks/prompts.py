"""Prompts: the inputs that a pipeline of Stable Diffusion computes from texts with its text encoders."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from uldnum._util.arguments import shown
from uldnum._util.typing import Array
from uldnum.networks.conditions import named_arrays, weight
from uldnum.networks.model import Device, Model
from uldnum.networks.text import Tokenizer

__all__ = ["Texts", "prompted"]

# Number of tokens that the T5 encoder of Stable Diffusion 3 reads (max_sequence_length in diffusers).
T5_LENGTH = 256


class Texts(NamedTuple):
    """The text encoders of a pipeline, and what else determines the inputs that it computes from texts.

    Attributes
    ----------
    folder : Path
        Folder of the pipeline. Its subfolders ``text_encoder``, ``text_encoder_2`` and ``text_encoder_3`` hold the
        models, and ``tokenizer``, ``tokenizer_2`` and ``tokenizer_3`` their tokenizers.
    pipeline : str
        Name of the class of the pipeline in diffusers.
    ends : tuple of str
        Ends of the names of the text encoders of the pipeline: "", "_2", "_3".
    zeros : bool
        Whether a missing negative prompt may have an embedding of zeros (``force_zeros_for_empty_prompt``).
    pixels : int
        Number of pixels of an image for each latent, along an axis.
    width : int
        Number of features of the text of a transformer (``joint_attention_dim``).
    """

    folder: Path
    pipeline: str
    ends: tuple[str, ...]
    zeros: bool
    pixels: int
    width: int


class Reader(NamedTuple):
    """What computes the inputs of a model from texts.

    Attributes
    ----------
    texts : Texts
        The text encoders.
    prompts : sequence of str or None
        The texts, where None stands for an embedding of zeros.
    shape : tuple of int
        Shape of the latents of an image.
    threads : int or None
        Number of threads on the CPU.
    """

    texts: Texts
    prompts: Sequence[str | None]
    shape: tuple[int, ...]
    threads: int | None

    def outputs(self, end: str, names: Sequence[str], length: int | None = None) -> list[Array]:
        """Return outputs of a text encoder, one row for each text.

        Parameters
        ----------
        end : str
            End of the name of the encoder.
        names : sequence of str
            Names of the outputs. "penultimate" stands for the hidden states before the last layer.
        length : int, optional
            Number of tokens. Default: that of the tokenizer.
        """
        tokenizer = Tokenizer.read(self.texts.folder / f"tokenizer{end}", length)
        model = Model(self.texts.folder / f"text_encoder{end}" / "model.onnx", Device(), self.threads)
        if len(model.inputs) != 1 or model.inputs[0].dtype is None:
            found = "; ".join(node.described for node in model.inputs)
            raise ValueError(
                f"network: {shown(str(model.path))} must have one input, the numbers of the tokens, got {found}"
            )
        (node,), wanted = model.inputs, [output_of(model, name) for name in names]
        rows: dict[str | None, list[Array]] = {
            text: model.answers({node.name: tokenizer(text).astype(node.dtype)}, wanted)
            for text in dict.fromkeys(self.prompts)
            if text is not None
        }
        rows[None] = [np.zeros_like(one) for one in next(iter(rows.values()))]
        return [np.concatenate(parts) for parts in zip(*(rows[text] for text in self.prompts), strict=True)]


def output_of(model: Model, name: str) -> str:
    """Return the name of an output of a text encoder, or raise an error if the model does not have it."""
    names = [node.name for node in model.outputs]
    if name == "penultimate":
        numbers = [int(found[1]) for found in (re.fullmatch(r"hidden_states\.(\d+)", one) for one in names) if found]
        name = f"hidden_states.{max(numbers) - 1}" if numbers else "hidden_states.N"
    if name not in names:
        raise ValueError(
            f"network: {shown(str(model.path))} must have the output {name!r}, got "
            f"{'; '.join(node.described for node in model.outputs)}; export the pipeline with Optimum"
        )
    return name


def stable_diffusion(read: Reader) -> dict[str, Array]:
    """Return the input of Stable Diffusion 1 and 2: the normalised hidden states of the last layer.

    The text encoder of a folder of version 2 lacks the last layer of OpenCLIP, which the network does not use.
    """
    (states,) = read.outputs("", ["last_hidden_state"])
    return {"encoder_hidden_states": states}


def stable_diffusion_xl(read: Reader) -> dict[str, Array]:
    """Return the inputs of Stable Diffusion XL: hidden states of both encoders, the text's embedding, and sizes.

    The sizes are the height and width of the original image, the corner at which it was cropped, and the height and
    width of the image that is made.
    """
    if not read.shape:
        raise ValueError(
            "prompt: Stable Diffusion XL needs the size of an image; give --set shape=[channels,height,width] (in "
            "Python card={'shape': ...})"
        )
    *others, last = read.texts.ends
    states = [read.outputs(end, ["penultimate"])[0] for end in others]
    state, embedding = read.outputs(last, ["penultimate", "text_embeds"])
    height, width = (read.texts.pixels * size for size in read.shape[-2:])
    sizes = np.array([[height, width, 0, 0, height, width]] * len(read.prompts))
    return {
        "encoder_hidden_states": np.concatenate([*states, state], axis=-1),
        "text_embeds": embedding,
        "time_ids": sizes,
    }


def stable_diffusion_3(read: Reader) -> dict[str, Array]:
    """Return the inputs of Stable Diffusion 3: the hidden states of two CLIP encoders and of T5, and two embeddings.

    The states of the CLIP encoders are joined along the features and padded with zeros to the width of T5. The states
    of T5 follow them as further tokens. They are zero if the pipeline has no T5.
    """
    first = read.outputs("", ["penultimate", "text_embeds"])
    second = read.outputs("_2", ["penultimate", "text_embeds"], first[0].shape[1])
    states, embeddings = (np.concatenate(parts, axis=-1) for parts in zip(first, second, strict=True))
    t5 = np.zeros((len(states), T5_LENGTH, read.texts.width), states.dtype)
    if "_3" in read.texts.ends:
        (t5,) = read.outputs("_3", ["last_hidden_state"], T5_LENGTH)
    if t5.shape[-1] < states.shape[-1]:
        raise ValueError(
            f"network: {shown(str(read.texts.folder))} must have a joint_attention_dim of at least {states.shape[-1]}, "
            f"got {t5.shape[-1]}"
        )
    padding = [(0, 0), (0, 0), (0, t5.shape[-1] - states.shape[-1])]
    return {
        "encoder_hidden_states": np.concatenate([np.pad(states, padding), t5], axis=1),
        "pooled_projections": embeddings,
    }


class Encoding(NamedTuple):
    """Pipelines that compute the same inputs from texts.

    Attributes
    ----------
    inputs : callable
        Function that returns the inputs by name.
    names : tuple of str
        Names of the inputs.
    guidance : float
        Default weight of guidance.
    zeros : bool
        Whether a missing negative prompt has an embedding of zeros, if `Texts.zeros` is true. Otherwise it is an empty
        text.
    """

    inputs: Callable[[Reader], dict[str, Array]]
    names: tuple[str, ...]
    guidance: float
    zeros: bool


# Pipelines of diffusers by the names of their classes.
ENCODINGS = {
    "StableDiffusionPipeline": Encoding(stable_diffusion, ("encoder_hidden_states",), 7.5, False),
    "StableDiffusionXLPipeline": Encoding(
        stable_diffusion_xl, ("encoder_hidden_states", "text_embeds", "time_ids"), 5.0, True
    ),
    "StableDiffusion3Pipeline": Encoding(
        stable_diffusion_3, ("encoder_hidden_states", "pooled_projections"), 7.0, False
    ),
}


def prompted(
    texts: Texts, shape: tuple[int, ...], prompt: Any, negative_prompt: Any, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the options of a network, with the inputs that a pipeline computes from prompts.

    Parameters
    ----------
    texts : Texts
        The text encoders.
    shape : tuple of int
        Shape of the latents of an image.
    prompt, negative_prompt : str, sequence of str or None
        The prompts; the negative ones are as many, or one for all.
    options : mapping
        Options of the network.

    Raises
    ------
    ValueError
        If the pipeline has no text encoder or is not known, an argument is invalid, or a file is broken.
    MissingExtraError
        If the extra ``text`` is not installed.
    """
    if prompt is None:
        raise ValueError("negative_prompt: needs a prompt")
    prompts, encoding = texts_of("prompt", prompt), encoding_of(texts)
    guidance = weight(options.get("guidance", encoding.guidance))
    negatives: list[str | None] = []
    if negative_prompt is not None:
        negatives += texts_of("negative_prompt", negative_prompt)
        if guidance == 1:
            raise ValueError("negative_prompt: needs guidance; give a weight other than 1 (--guidance)")
        if len(negatives) not in (1, len(prompts)):
            raise ValueError(f"negative_prompt: must be 1 text or {len(prompts)}, as prompt, got {len(negatives)}")
    elif guidance != 1:
        negatives.append(None if encoding.zeros and texts.zeros else "")
    given = {argument: named_arrays(argument, options.get(argument)) for argument in ("inputs", "unconditional")}
    for argument, arrays in given.items():
        if twice := [name for name in encoding.names if name in arrays]:
            raise ValueError(f"{argument}: must not have {', '.join(twice)}, which the prompt determines")
    found = encoding.inputs(Reader(texts, [*prompts, *negatives], shape, options.get("threads")))
    given["inputs"] |= {name: array[: len(prompts)] for name, array in found.items()}
    if negatives:
        given["unconditional"] |= {name: array[len(prompts) :] for name, array in found.items()}
    return {**options, **given, "guidance": guidance}


def encoding_of(texts: Texts) -> Encoding:
    """Return the encoding of a pipeline, or raise an error if its inputs cannot be computed from texts."""
    where, name = shown(texts.folder.name), texts.pipeline.removeprefix("ORT")  # ORT: classes of Optimum
    if name not in ENCODINGS:
        raise ValueError(
            f"prompt: needs {' or '.join(ENCODINGS)}, and {where} is {shown(name)}; give the embedded text as inputs "
            "(--input NAME=FILE.npy)"
        )
    if not texts.ends:
        raise ValueError(f"prompt: needs a text encoder, and model_index.json of {where} lists none")
    return ENCODINGS[name]


def texts_of(argument: str, value: Any) -> list[str]:
    """Return a text or a sequence of texts as a list, or raise an error that names the argument."""
    texts = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else []
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{argument}: must be a string or a list of strings, got {shown(value)}")
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{argument}: must be valid Unicode, got {shown(text)}") from None
    return texts

"""The decoder of a latent diffusion model, which converts latents to images."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from uldnum._util.typing import Array
from uldnum.networks.model import Device, Model

__all__ = ["Decoder", "Latents"]


class Latents(NamedTuple):
    """Description of a decoder: the image of a latent x is ``decoder(x / scale + shift)``.

    Attributes
    ----------
    path : Path
        ONNX model of the decoder.
    scale, shift : float
        Scaling factor and shift of the latents (``scaling_factor`` and ``shift_factor`` in diffusers).
    """

    path: Path
    scale: float
    shift: float


class Decoder:
    """A decoder that runs on the CPU and serves only to display samples."""

    def __init__(self, latents: Latents, channels: int, threads: int | None) -> None:
        self.latents, self.model = latents, Model(latents.path, Device(), threads)
        fits = len(self.model.inputs) == 1 and len(self.model.outputs) == 1
        node = self.model.inputs[0]
        if not (fits and node.real and len(node.shape) == 4 and node.shape[1] in (None, channels)):
            found = "; ".join(node.described for node in (*self.model.inputs, *self.model.outputs))
            raise ValueError(
                f"network: the decoder {latents.path} must have one input with {channels} channels and one output, "
                f"got {found}"
            )

    def __call__(self, x: Array) -> Array:
        """Return the images (n, channels, height, width) of latents, computed one at a time to save memory."""
        (node,) = self.model.inputs
        scaled = np.asarray(x / self.latents.scale + self.latents.shift, node.dtype)
        return np.concatenate([self.model.answers({node.name: one[None]})[0] for one in scaled])

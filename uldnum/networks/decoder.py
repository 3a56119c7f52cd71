"""The decoder of latents: what makes images of samples."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from uldnum._util.typing import Array
from uldnum.networks.model import Device, Model

__all__ = ["Decoder", "Latents"]


class Latents(NamedTuple):
    """How samples become images: ``decoder(x / scale + shift)``.

    Attributes
    ----------
    path : Path
        ONNX model of the decoder.
    scale, shift : float
        Of the latents.
    """

    path: Path
    scale: float
    shift: float


class Decoder:
    """A decoder on the CPU, for viewing."""

    def __init__(self, latents: Latents, channels: int, threads: int | None) -> None:
        self.latents, self.model = latents, Model(latents.path, Device(), threads)
        fits = len(self.model.inputs) == 1 and len(self.model.outputs) == 1
        node = self.model.inputs[0]
        if not (fits and node.real and len(node.shape) == 4 and node.shape[1] in (None, channels)):
            found = "; ".join(node.described for node in (*self.model.inputs, *self.model.outputs))
            raise ValueError(
                f"network: the decoder {latents.path} does not take {channels} channels alone; it has {found}"
            )

    def __call__(self, x: Array) -> Array:
        """Make images (n, channels, height, width) of latents, one at a time: they are large."""
        (node,) = self.model.inputs
        scaled = np.asarray(x / self.latents.scale + self.latents.shift, node.dtype)
        return np.concatenate([self.model.answer({node.name: one[None]}) for one in scaled])

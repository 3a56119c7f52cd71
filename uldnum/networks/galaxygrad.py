r"""Score networks of galaxy images, converted to ONNX from the weights in the PyPI wheel ``galaxygrad``.

Each is the score :math:`s(x, t)` of the variance-preserving diffusion with unit rate,
:math:`x_t = e^{-t/2} x_0 + \sqrt{1 - e^{-t}}\,\varepsilon` for :math:`0 < t \le 10`. Its images are
logarithms of fluxes, :math:`x = 10 \log(f + 1)`. The wheel states no licence. Therefore this package distributes none
of its files: `fetch` downloads the wheel to the user's machine and converts one file.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from uldnum._util.typing import Array
from uldnum.networks.graph import Graph
from uldnum.networks.wheels import Member, converted

if TYPE_CHECKING:
    import onnx

__all__ = ["MEMBERS", "fetch", "read_leaves", "to_onnx"]

# Name of a network in this package -> its file in the wheel.
MEMBERS = {
    f"galaxygrad-{name}": Member("galaxygrad==0.2.1", f"galaxygrad/eqx_{file}.eqx", sha256)
    for name, file, sha256 in (
        ("hsc32", "hsc_ScoreNet32", "cb926562fcdfcbd33952fea8b2394074e75cb652fb7824c4c809a5f89a0a6532"),
        ("hsc64", "hsc_ScoreNet64", "4758114b1b77e4640ca7b834a976202aeb126fd7332ec07842af46d72c6b2e01"),
        ("hsclog32", "hsc_LogNet32", "49873516d95c02506fb21c386419bc3915cc88b90c92d90adc718dd3b7950169"),
        ("hsclog64", "hsc_LogNet64", "6d1e7387ff54a4142e68844acee1a37f42f0d3ec9ad1f1938d5f47c2ee25ee40"),
        ("ztf32", "ZTF_ScoreNet32", "60b29e6b9b7b4baa4ddc84132d083991c9e1e2910f55f3e9ae16e65bf0df8f47"),
        ("ztf64", "ZTF_ScoreNet64", "806cb83de98d8aff924dd13b267bcb157d72ddb819804a541134a06adb391065"),
        ("lsst60", "lsst_ScoreNet60", "93ef40f17a6e7e87e6527c90d5c1d4f2b17c77bbedfc14b08d014c53aa2db0e0"),
        ("quasar72", "quasar_lens72", "b1574b390d2e450521f6234ff3f3288937c53237a76189883d61342c9d293c2f"),
        ("roman120", "roman_Scorenet120", "68a1d78410c877b7b50f466b505cb75d073f1f44e904420ed0fd9fb678201b03"),
    )
}

# Constant epsilon of the layer normalisation, the default of Equinox.
EPSILON = 1e-5
# Number of arrays outside the blocks, and in each block.
LEAVES_AROUND, LEAVES_OF_BLOCK = 7, 12


class Sizes(NamedTuple):
    """Sizes of an MLP-Mixer score network."""

    patch: int
    hidden: int
    patches: int
    patch_width: int
    hidden_width: int
    blocks: int

    @property
    def side(self) -> int:
        """Number of patches along one side of the image."""
        return math.isqrt(self.patches)


def read_leaves(stream: BinaryIO) -> list[Array]:
    """Return the arrays of an Equinox file, which is a concatenation of arrays in NumPy's ``.npy`` format.

    Parameters
    ----------
    stream : BinaryIO
        Stream at the start of the file.

    Returns
    -------
    list of arrays
        The arrays in the order of the file.

    Raises
    ------
    ValueError
        If the file is empty, corrupt or truncated.
    """
    data = stream.read()
    buffer = io.BytesIO(data)
    leaves: list[Array] = []
    while buffer.tell() < len(data):
        start = buffer.tell()
        try:
            leaves.append(np.lib.format.read_array(buffer, allow_pickle=False))
        except (ValueError, TypeError, OverflowError, MemoryError, SyntaxError, TokenError) as error:
            raise ValueError(
                f"the weights file is corrupt or truncated: cannot read array {len(leaves)}, at byte {start} ({error})"
            ) from error
    if not leaves:
        raise ValueError("the weights file is empty")
    return leaves


def to_onnx(leaves: Sequence[Array]) -> onnx.ModelProto:
    """Convert the weights of an MLP-Mixer score network to an ONNX model.

    Parameters
    ----------
    leaves : sequence of arrays
        The arrays of the network, from `read_leaves`. Their shapes determine all sizes.

    Returns
    -------
    onnx.ModelProto
        Model with inputs ``x[batch, 1, S, S]`` and ``t[batch]`` and output ``score[batch, 1, S, S]``, in float32.

    Raises
    ------
    ValueError
        If the shapes are not those of an MLP-Mixer score network.
    """
    sizes = sizes_of(leaves)
    image: list[str | int] = ["batch", 1, sizes.side * sizes.patch, sizes.side * sizes.patch]
    return mixer(leaves, sizes).model("mixer_score", {"x": image, "t": ["batch"]}, {"score": image})


def fetch(name: str, cache: Path) -> Path:
    """Return the path of a converted network, and download and convert it if it is not in the cache.

    Parameters
    ----------
    name : str
        Name of the network, a key of `MEMBERS`.
    cache : Path
        Folder for the converted network; it is created if absent.

    Raises
    ------
    MissingExtraError
        If the extra ``onnx`` is not installed.
    RuntimeError
        If the wheel cannot be downloaded, or the hash of its file is not the expected one.
    """
    return converted(cache / f"{name}.onnx", MEMBERS[name], lambda weights: to_onnx(read_leaves(weights)))


def sizes_of(leaves: Sequence[Array]) -> Sizes:
    """Derive the sizes of the network from the shapes of its arrays, and check all shapes."""
    blocks, rest = divmod(len(leaves) - LEAVES_AROUND, LEAVES_OF_BLOCK)
    if blocks < 1 or rest:
        raise ValueError(f"not a mixer score network: must have 7 arrays and 12 for each block, got {len(leaves)}")
    if leaves[0].ndim != 4 or leaves[4].ndim != 2 or leaves[8].ndim != 2:
        raise ValueError(
            "not a mixer score network: its first convolution, patch mixer and hidden mixer must have 4, 2 and 2 axes, "
            f"got shapes {leaves[0].shape}, {leaves[4].shape} and {leaves[8].shape}"
        )
    hidden, _, patch, _ = leaves[0].shape
    patch_width, patches = leaves[4].shape
    sizes = Sizes(patch, hidden, patches, patch_width, leaves[8].shape[0], blocks)
    check(leaves, sizes)
    return sizes


def check(leaves: Sequence[Array], sizes: Sizes) -> None:
    """Raise an error unless all arrays have the type and the shapes of a network of the given sizes."""
    if sizes.side**2 != sizes.patches:
        raise ValueError(f"not a mixer score network: {sizes.patches} patches do not make a square image")
    for index, (leaf, shape) in enumerate(zip(leaves, shapes(sizes), strict=True)):
        if leaf.shape != shape or leaf.dtype.kind != "f":
            raise ValueError(
                f"not a mixer score network: array {index} must be floating point of shape {shape}, "
                f"got {leaf.dtype} of shape {leaf.shape}"
            )
    if not leaves[-1] > 0:
        raise ValueError(f"not a mixer score network: its largest time must be positive, got {leaves[-1]}")


def shapes(sizes: Sizes) -> list[tuple[int, ...]]:
    """Return the shapes of the arrays of a network in the order of the file."""
    patch, hidden, patches, patch_width, hidden_width, blocks = sizes
    block: list[tuple[int, ...]] = [
        *mlp_shapes(patches, patch_width),
        *mlp_shapes(hidden, hidden_width),
        *[(hidden, patches)] * 2,
        *[(patches, hidden)] * 2,
    ]
    first = [(hidden, 2, patch, patch), (hidden, 1, 1), (1, hidden, patch, patch), (1, 1, 1)]
    return [*first, *block * blocks, *[(hidden, patches)] * 2, ()]


def mlp_shapes(size: int, width: int) -> list[tuple[int, ...]]:
    """Return the shapes of the arrays of a multilayer perceptron with one hidden layer."""
    return [(width, size), (width,), (size, width), (size,)]


def mixer(leaves: Sequence[Array], sizes: Sizes) -> Graph:
    """Build the graph of the network."""
    conv_in, conv_out, *blocks = pairs(leaves[:-1])
    graph = Graph()
    y = tokens(graph, conv_in, np.float32(leaves[-1]), sizes)
    for start in range(0, len(blocks) - 1, 6):
        y = block(graph, y, blocks[start : start + 6])
    image(graph, norm(graph, y, blocks[-1]), conv_out, sizes)
    return graph


Pair = tuple[Array, Array]


def pairs(leaves: Sequence[Array]) -> list[Pair]:
    """Return the arrays as pairs of weight and bias in single precision."""
    arrays = [leaf.astype(np.float32) for leaf in leaves]
    return list(zip(arrays[::2], arrays[1::2], strict=True))


def tokens(graph: Graph, conv: Pair, t1: np.float32, sizes: Sizes) -> str:
    """Append the time as a channel to the image, and return the embedded patches, ``[batch, hidden, patches]``."""
    ratio = graph.node("Div", "t", graph.weight(np.asarray(t1)))
    scalar = graph.node("Reshape", ratio, graph.weight(np.array([-1, 1, 1, 1])))
    y = graph.node("Concat", "x", graph.node("Expand", scalar, graph.node("Shape", "x")), axis=1)
    weight, bias = graph.weight(conv[0]), graph.weight(conv[1].ravel())
    y = graph.node("Conv", y, weight, bias, kernel_shape=[sizes.patch] * 2, strides=[sizes.patch] * 2)
    return graph.node("Reshape", y, graph.weight(np.array([0, sizes.hidden, sizes.patches])))


def image(graph: Graph, y: str, conv: Pair, sizes: Sizes) -> None:
    """Assemble the score of the image from the patches."""
    y = graph.node("Reshape", y, graph.weight(np.array([0, sizes.hidden, sizes.side, sizes.side])))
    # Equinox correlates the kernel with the dilated image, while ONNX convolves them. Both kernel axes are reversed.
    weight = graph.weight(conv[0][:, :, ::-1, ::-1].swapaxes(0, 1))
    bias = graph.weight(conv[1].ravel())
    size = [sizes.patch] * 2
    graph.node("ConvTranspose", y, weight, bias, output="score", kernel_shape=size, strides=size)


def block(graph: Graph, y: str, pairs: Sequence[Pair]) -> str:
    """Mix the patches, then the hidden channels."""
    patch_in, patch_out, hidden_in, hidden_out, norm1, norm2 = pairs
    y = graph.node("Add", y, mlp(graph, norm(graph, y, norm1), patch_in, patch_out))
    y = graph.node("Transpose", y, perm=[0, 2, 1])
    y = graph.node("Add", y, mlp(graph, norm(graph, y, norm2), hidden_in, hidden_out))
    return graph.node("Transpose", y, perm=[0, 2, 1])


def mlp(graph: Graph, y: str, *layers: Pair) -> str:
    """Apply a multilayer perceptron with one hidden layer to the last axis."""
    first, second = layers
    return linear(graph, graph.node("Relu", linear(graph, y, first)), second)


def linear(graph: Graph, y: str, pair: Pair) -> str:
    """Apply an affine map to the last axis."""
    return graph.node("Add", graph.node("MatMul", y, graph.weight(pair[0].T)), graph.weight(pair[1]))


def norm(graph: Graph, y: str, pair: Pair) -> str:
    """Normalise over all axes except the first."""
    scale, shift = pair
    return graph.node("LayerNormalization", y, graph.weight(scale), graph.weight(shift), axis=1, epsilon=EPSILON)

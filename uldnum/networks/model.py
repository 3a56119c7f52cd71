"""ONNX models on ONNX Runtime: roles of their inputs and outputs, devices, and calls without copies."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from uldnum._util.arguments import shown, whole_number
from uldnum._util.extras import require
from uldnum._util.names import printable
from uldnum._util.typing import Array
from uldnum.networks.card import Card, read_card

__all__ = ["Device", "Model", "Node", "Roles"]

TYPES = {
    f"tensor({name})": np.dtype(dtype)
    for name, dtype in (
        ("float16", "f2"), ("float", "f4"), ("double", "f8"), ("int32", "i4"), ("int64", "i8"), ("bool", "?"),
    )
}  # fmt: skip

# Usual names of the image input, the noise-level input and the output in exported models.
IMAGES = ("x", "z", "sample", "image", "latent", "latents", "latent_sample", "noisy_sample")
CONDITIONS = (
    "t",
    "timestep",
    "timesteps",
    "sigma",
    "sigmas",
    "log_sigma",
    "noise_level",
    "noise_labels",
    "c_noise",
    "time",
)
OUTPUTS = ("score", "out_sample", "sample", "output", "denoised", "model_output", "noise_pred", "epsilon")


@dataclass(frozen=True)
class Node:
    """An input or output of a model: name, type and shape, where None stands for a size that each call sets."""

    name: str
    dtype: np.dtype[Any] | None
    shape: tuple[int | None, ...]
    described: str

    @classmethod
    def of(cls, node: Any) -> Node:
        """Return a node from its description in ONNX Runtime."""
        sizes = tuple(size if isinstance(size, int) and size > 0 else None for size in node.shape)
        return cls(node.name, TYPES.get(node.type), sizes, printable(f"{node.name}: {node.type}{node.shape}"))

    @property
    def channels_last(self) -> bool:
        """Whether it is an image whose last axis are the channels, by the sizes of its axes."""
        return len(self.shape) == 4 and self.shape[3] in (1, 3, 4) and (self.shape[1] or 0) > 4

    @property
    def real(self) -> bool:
        """Whether its type is floating point."""
        return self.dtype is not None and self.dtype.kind == "f"


@dataclass(frozen=True)
class Roles:
    """Roles of a model's inputs and outputs: the image, the noise level, other inputs, and the output to use."""

    image: Node
    condition: Node | None
    others: tuple[Node, ...]
    output: Node

    @classmethod
    def of(cls, inputs: list[Node], outputs: list[Node], card: Card) -> Roles:
        """Assign the roles by the card, by the names of the nodes and by their numbers of axes.

        Raises
        ------
        ValueError
            If the roles are ambiguous; the message lists the nodes and names the key of the card that decides.
        """

        def choose(
            key: str, named: str, names: tuple[str, ...], fitting: list[Node], of: list[Node], what: str
        ) -> Node:
            if named:
                chosen = [node for node in of if node.name == named]
            else:
                chosen = [node for node in fitting if node.name in names]
                chosen = chosen if len(chosen) == 1 else fitting
            if len(chosen) != 1:
                found = "; ".join(node.described for node in of) or "none"
                raise ValueError(
                    f"network: cannot determine which {what}, got {found}; name it with --set {key}=NAME "
                    f"(in Python card={{'{key}': 'NAME'}})"
                )
            return chosen[0]

        tensors = [node for node in inputs if len(node.shape) > 1]
        floating = [node for node in tensors if node.real] or tensors
        axes = (*([len(card.shape) + 1] if card.shape else []), 4, 2)  # those of the card, else images, else vectors
        pictures: list[Node] = next((found for n in axes if (found := with_axes(floating, n))), [])
        image = choose("image_input", card.image_input, IMAGES, pictures, inputs, "input is the image")
        if not image.real or len(image.shape) < 2:
            raise ValueError(
                "network: images must be floating point with an axis of images and at least one more, got "
                f"{image.described}"
            )
        rest = [node for node in inputs if node is not image]
        condition = None
        if card.condition != "none":
            numbers = [node for node in rest if all(size in (1, None) for size in node.shape[1:])]
            numbers = [node for node in numbers if node.dtype is not None and node.dtype.kind in "fi"]
            condition = choose(
                "condition_input", card.condition_input, CONDITIONS, numbers, rest, "input is the noise level"
            )
        answers = with_axes([node for node in outputs if node.real], len(image.shape))
        output = choose("output", card.output, OUTPUTS, answers, outputs, "output to use")
        if not output.real or len(output.shape) != len(image.shape):
            raise ValueError(
                f"network: the output must be floating point with the axes of the image, got {output.described}"
            )
        others = tuple(node for node in rest if node is not condition)
        return cls(image, condition, others, output)


def with_axes(nodes: list[Node], count: int) -> list[Node]:
    """Return the nodes with a given number of axes."""
    return [node for node in nodes if len(node.shape) == count]


@dataclass(frozen=True)
class Device:
    """Device of a model: the execution provider of ONNX Runtime, and the array library of its buffers.

    On "cuda" the arrays are CuPy's, and the model runs on CuPy's current stream. TensorFloat-32 is off by default.
    """

    name: str = "cpu"
    tf32: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or self.name not in ("cpu", "cuda"):
            raise ValueError(f"device: must be 'cpu' or 'cuda', got {shown(self.name)}")

    @cached_property
    def namespace(self) -> Any:
        """NumPy or CuPy."""
        return np if self.name == "cpu" else require("cupy", "cuda")

    @cached_property
    def number(self) -> int:
        """Index of the GPU, CuPy's current one at first use."""
        return 0 if self.name == "cpu" else int(self.namespace.cuda.Device().id)

    @cached_property
    def stream(self) -> int:
        """CuPy's current stream at first use."""
        return self.current_stream()

    def current_stream(self) -> int:
        """Return the address of CuPy's current stream, or 0 on the CPU.

        The legacy default stream has two addresses, 0 and 1. The method returns 1, because ONNX Runtime interprets 0 as
        no stream.
        """
        return 0 if self.name == "cpu" else self.namespace.cuda.get_current_stream().ptr or 1

    def address(self, array: Any) -> int:
        """Return the address of the first element of an array."""
        return int(array.ctypes.data if self.name == "cpu" else array.data.ptr)

    def open(self, path: Path, threads: int | None) -> Any:
        """Return an ONNX Runtime session of a model, or raise a one-line error."""
        runtime = require("onnxruntime", "onnx" if self.name == "cpu" else "onnx-gpu")
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # errors are raised, so ONNX Runtime need not print them
        options.intra_op_num_threads = threads or usable_cores()
        if self.name == "cpu":
            return start(runtime, path, options, "CPUExecutionProvider")
        if "CUDAExecutionProvider" not in runtime.get_available_providers():
            raise ValueError(
                "device: the installed ONNX Runtime has no GPU support; run: pip install 'uldnum[onnx-gpu]'"
            )
        runtime.preload_dlls()  # the CUDA libraries may be installed as wheels
        settings = {"device_id": str(self.number), "use_tf32": str(int(self.tf32))}
        provider = "CUDAExecutionProvider", settings | {"user_compute_stream": str(self.stream)}
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            return start(runtime, path, options, provider)
        except ValueError as error:
            # Some operations, such as those on shapes, may run on the CPU. It is an error if the whole model does.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "0")
            session = start(runtime, path, options, provider)
            if session.get_providers()[0] != "CUDAExecutionProvider":
                raise ValueError(
                    "device: ONNX Runtime could not use the GPU and fell back to the CPU; 'uldnum doctor' lists its "
                    "providers"
                ) from error
            warnings.warn(f"device: some operations of {path.name} run on the CPU: {error}", stacklevel=2)
            return session


def start(runtime: ModuleType, path: Path, options: Any, provider: Any) -> Any:
    """Return an ONNX Runtime session of a model, or raise a one-line error."""
    with one_line_errors(path, "cannot be used"):
        return runtime.InferenceSession(str(path), options, providers=[provider])


@contextmanager
def one_line_errors(path: Path, what: str) -> Iterator[None]:
    """Convert any error of ONNX Runtime to a ValueError with a one-line message."""
    try:
        yield
    except Exception as error:  # ONNX Runtime has many error classes without a common base
        raise ValueError(f"network: {printable(str(path))} {what}: {reason_of(error)}") from None


def weight_files(content: bytes) -> list[str]:
    """Return the external weight files of a model, relative to its folder."""
    if b"location" not in content:  # the key of external files, which most models do not have
        return []
    onnx = require("onnx", "onnx")
    tensors = onnx.load_model_from_string(content).graph.initializer
    found = [entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"]
    return sorted(set(found))


def usable_cores() -> int:
    """Return the number of cores available to this process, or 0 (the default of ONNX Runtime) if it is unknown."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0


def reason_of(error: Exception) -> str:
    """Return the message of an ONNX Runtime error without locations in its source code."""
    text = " ".join(str(error).split())
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : |\S*\.(cc|h):\d+ |onnxruntime::[^\[]*\)", "", text)
    return printable(text, 300)


def stoppable(call: Callable[[Any], Any]) -> Any:
    """Return the result of a model call that Ctrl-C can terminate through its run options.

    Python handles signals in the main thread, and only while that thread is not inside ONNX Runtime. The call therefore
    runs in another thread, and the main thread waits for it.
    """
    options = require("onnxruntime", "onnx").RunOptions()
    if threading.current_thread() is not threading.main_thread():
        return call(options)  # this thread receives no signals
    with ThreadPoolExecutor(1) as pool:  # its exit waits for the call, which uses the buffers until then
        try:
            return pool.submit(call, options).result()
        except BaseException:
            options.terminate = True
            raise


class Model:
    """A model with its session and its buffers, which the model reads and writes in place.

    Parameters
    ----------
    path : Path
        An ONNX file; ONNX Runtime finds external weight files beside it.
    device : Device
        Device on which the model runs.
    threads : int, optional
        Number of threads on the CPU. Default: the number of cores available to this process.
    """

    copyable = True  # whether `on_gpu` is available

    def __init__(self, path: Path, device: Device, threads: int | None = None) -> None:
        if not path.is_file():
            raise ValueError(f"network: no such file: {printable(str(path))}")
        threads = None if threads is None else whole_number("threads", threads, 1, 2**16)
        self.path, self.device, self.threads = path, device, threads
        self.session = device.open(path, threads)
        self.inputs = [Node.of(node) for node in self.session.get_inputs()]
        self.outputs = [Node.of(node) for node in self.session.get_outputs()]
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        self.name, self.label = path.stem, shown(path.name)
        self.bindings: dict[tuple[tuple[str, tuple[int, ...]], ...], tuple[Any, dict[str, Any]]] = {}
        self.seconds, self.images = 0.0, 0  # duration of all calls so far, and number of images that they evaluated
        self.copies: dict[int, Model] = {}  # on other GPUs

    def on_gpu(self, number: int) -> Model:
        """Open the model once more, on CuPy's current GPU. Later calls return the same model."""
        if number not in self.copies:
            self.copies[number] = Model(self.path, Device(self.device.name, self.device.tf32), self.threads)
        return self.copies[number]

    @property
    def card(self) -> dict[str, Any]:
        """Keys of the card, from the metadata of the model and from the file beside it."""
        return read_card(self.path, self.metadata)

    def check_hash(self, wanted: str) -> None:
        """Raise an error if a hash is given and is not that of the file."""
        if wanted and wanted.lower() != hashlib.sha256(self.path.read_bytes()).hexdigest():
            raise ValueError(
                f"network: the sha256 of {printable(str(self.path))} must equal that in its card; this is a different "
                "file"
            )

    def roles(self, card: Card, inputs: Mapping[str, Any]) -> Roles:
        """Return the roles of the inputs and outputs."""
        return Roles.of(self.inputs, self.outputs, card)

    @cached_property
    def digest(self) -> str:
        """Hash of the file and of its external weight files."""
        content = self.path.read_bytes()
        sha = hashlib.sha256(content)
        for location in weight_files(content):
            with (self.path.parent / location).open("rb") as file:
                sha.update(hashlib.file_digest(file, "sha256").digest())
        return sha.hexdigest()

    def answers(self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        """Return outputs of the model for NumPy inputs; by default all of them."""
        with one_line_errors(self.path, "failed"):
            return list(stoppable(lambda options: self.session.run(outputs, dict(inputs), options)))

    def buffers(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Any, dict[str, Any]]:
        """Return the binding for calls with the given shapes, and its arrays by name. Both are created once."""
        key = tuple(shapes.items())
        if key not in self.bindings:
            binding, arrays, xp = self.session.io_binding(), {}, self.device.namespace
            for node in (*self.inputs, *self.outputs):
                if node.name not in shapes:
                    continue
                array = arrays[node.name] = xp.zeros(shapes[node.name], node.dtype)
                bind = binding.bind_input if node in self.inputs else binding.bind_output
                bind(
                    node.name,
                    self.device.name,
                    self.device.number,
                    array.dtype.type,
                    array.shape,
                    self.device.address(array),
                )
            self.bindings[key] = binding, arrays
        return self.bindings[key]

    def run(self, binding: Any) -> None:
        """Run the model on the arrays of a binding."""
        if self.device.current_stream() != self.device.stream:
            raise ValueError("device: CuPy's current stream must be the one on which the network was opened")
        begun = time.perf_counter()
        with one_line_errors(self.path, "failed"):
            stoppable(lambda options: self.session.run_with_iobinding(binding, options))
        self.seconds += time.perf_counter() - begun

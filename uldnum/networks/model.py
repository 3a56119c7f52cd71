"""A model in ONNX on ONNX Runtime: which of its inputs is which, and calls without copies."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from uldnum._util.arguments import shown
from uldnum._util.extras import require
from uldnum._util.names import printable
from uldnum._util.typing import Array

__all__ = ["Device", "Model", "Node", "Roles"]

TYPES = {
    f"tensor({name})": np.dtype(dtype)
    for name, dtype in (
        ("float16", "f2"), ("float", "f4"), ("double", "f8"), ("int32", "i4"), ("int64", "i8"), ("bool", "?"),
    )
}  # fmt: skip

# Names that exporters give to what is meant.
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
    """An input or an output: its name, type and shape; sizes that a call decides are None."""

    name: str
    dtype: np.dtype[Any] | None
    shape: tuple[int | None, ...]
    described: str

    @classmethod
    def of(cls, node: Any) -> Node:
        """Return a node as ONNX Runtime describes it."""
        sizes = tuple(size if isinstance(size, int) and size > 0 else None for size in node.shape)
        return cls(node.name, TYPES.get(node.type), sizes, printable(f"{node.name}: {node.type}{node.shape}"))

    @property
    def real(self) -> bool:
        """Whether its numbers are reals."""
        return self.dtype is not None and self.dtype.kind == "f"


@dataclass(frozen=True)
class Roles:
    """Which input of a model is the image, which says the noise level, which are others, and which output counts."""

    image: Node
    condition: Node | None
    others: tuple[Node, ...]
    output: Node

    @classmethod
    def of(cls, inputs: list[Node], outputs: list[Node], card: Any) -> Roles:
        """Tell them apart by what the card says, by their names and by the number of their axes, or raise.

        Raises
        ------
        ValueError
            If they cannot be told apart; it lists them, and says which key of the card decides.
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
                    f"network: cannot tell which {what}; found {found}; name it with --set {key}=NAME "
                    f"(in Python card={{'{key}': 'NAME'}})"
                )
            return chosen[0]

        pictures = [node for node in inputs if len(node.shape) == 4]
        image = choose("image_input", card.image_input, IMAGES, pictures, inputs, "input takes the images")
        rest = [node for node in inputs if node is not image]
        condition = None
        if card.condition != "none":
            numbers = [node for node in rest if all(size in (1, None) for size in node.shape[1:])]
            numbers = [node for node in numbers if node.dtype is not None and node.dtype.kind in "fi"]
            condition = choose(
                "condition_input", card.condition_input, CONDITIONS, numbers, rest, "input takes the noise level"
            )
        answers = [node for node in outputs if len(node.shape) == 4]
        output = choose("output", card.output, OUTPUTS, answers, outputs, "output is meant")
        for node in (image, output):
            if not node.real or len(node.shape) != 4:
                raise ValueError(f"network: images are reals with four axes; the model has {node.described}")
        others = tuple(node for node in rest if node is not condition)
        return cls(image, condition, others, output)


@dataclass(frozen=True)
class Device:
    """Where a model runs: ONNX Runtime's provider, and the library whose arrays it reads and writes in place.

    On "cuda" arrays are CuPy's, and the model runs on CuPy's current stream. TensorFloat-32 is off unless asked for.
    """

    name: str = "cpu"
    tf32: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or self.name not in ("cpu", "cuda"):
            raise ValueError(f"device: must be 'cpu' or 'cuda', got {shown(self.name)}")

    @cached_property
    def namespace(self) -> Any:
        """NumPy, or CuPy."""
        return np if self.name == "cpu" else require("cupy", "cuda")

    @cached_property
    def number(self) -> int:
        """Which GPU: CuPy's current one at first use."""
        return 0 if self.name == "cpu" else int(self.namespace.cuda.Device().id)

    @cached_property
    def stream(self) -> int:
        """CuPy's current stream at first use."""
        return self.current_stream()

    def current_stream(self) -> int:
        """CuPy's current stream; the default one has a name of its own, since 0 would be none to ONNX Runtime."""
        return 0 if self.name == "cpu" else self.namespace.cuda.get_current_stream().ptr or 1

    def address(self, array: Any) -> int:
        """Where the numbers of an array begin."""
        return int(array.ctypes.data if self.name == "cpu" else array.data.ptr)

    def open(self, path: Path, threads: int | None) -> Any:
        """Return a session of a model, or raise an error in one sentence."""
        runtime = require("onnxruntime", "onnx" if self.name == "cpu" else "onnx-gpu")
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # what is wrong is raised, and need not be printed too
        options.intra_op_num_threads = threads or usable_cores()
        if self.name == "cpu":
            return start(runtime, path, options, "CPUExecutionProvider")
        if "CUDAExecutionProvider" not in runtime.get_available_providers():
            raise ValueError("device: this ONNX Runtime cannot use a GPU; run: pip install 'uldnum[onnx-gpu]'")
        runtime.preload_dlls()  # CUDA's libraries may be wheels
        settings = {"device_id": str(self.number), "use_tf32": str(int(self.tf32))}
        provider = "CUDAExecutionProvider", settings | {"user_compute_stream": str(self.stream)}
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            return start(runtime, path, options, provider)
        except ValueError as error:
            # It may want to compute shapes on the CPU, which is no harm; to compute everything there is another thing.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "0")
            session = start(runtime, path, options, provider)
            if session.get_providers()[0] != "CUDAExecutionProvider":
                raise ValueError(
                    "device: ONNX Runtime went back to the CPU; 'uldnum doctor' says what it has"
                ) from error
            warnings.warn(f"device: a part of {path.name} runs on the CPU: {error}", stacklevel=2)
            return session


def start(runtime: ModuleType, path: Path, options: Any, provider: Any) -> Any:
    """Return a session of a model, or raise an error in one sentence."""
    with in_words(path, "cannot be used"):
        return runtime.InferenceSession(str(path), options, providers=[provider])


@contextmanager
def in_words(path: Path, what: str) -> Iterator[None]:
    """Raise what ONNX Runtime raises as one error in one sentence."""
    try:
        yield
    except Exception as error:  # it has a class of its own for each fault of a file
        raise ValueError(f"network: {printable(str(path))} {what}: {reason_of(error)}") from None


def weight_files(content: bytes) -> list[str]:
    """Return the files in which a model keeps weights, relative to its folder."""
    if b"location" not in content:  # the key by which they are named; most models keep their weights themselves
        return []
    onnx = require("onnx", "onnx")
    tensors = onnx.load_model_from_string(content).graph.initializer
    found = [entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"]
    return sorted(set(found))


def usable_cores() -> int:
    """Return the cores that this process may use, where the system says; else 0, which leaves it to ONNX Runtime."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0


def reason_of(error: Exception) -> str:
    """Return what ONNX Runtime says is wrong, without where in its own code it was found."""
    text = " ".join(str(error).split())
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : |\S*\.(cc|h):\d+ |onnxruntime::[^\[]*\)", "", text)
    return printable(text, 300)


def stoppable(call: Callable[[Any], Any]) -> Any:
    """Return what a call of a model returns, given run options by which it is ended when Ctrl-C interrupts the wait.

    Python hears no signal in the thread that is inside ONNX Runtime, so the main thread waits for another one.
    """
    options = require("onnxruntime", "onnx").RunOptions()
    if threading.current_thread() is not threading.main_thread():
        return call(options)  # signals are not heard here
    with ThreadPoolExecutor(1) as pool:  # on leaving it waits for the call, whose buffers are in use until then
        try:
            return pool.submit(call, options).result()
        except BaseException:
            options.terminate = True
            raise


class Model:
    """A model with its session and its buffers, which it reads and writes in place.

    Parameters
    ----------
    path : Path
        An ONNX file; weights beside it are found by ONNX Runtime.
    device : Device
        Where it runs.
    threads : int, optional
        Threads on the CPU. Default: the cores that this process may use.
    """

    def __init__(self, path: Path, device: Device, threads: int | None = None) -> None:
        if not path.is_file():
            raise ValueError(f"network: no such file: {printable(str(path))}")
        self.path, self.device = path, device
        self.session = device.open(path, threads)
        self.inputs = [Node.of(node) for node in self.session.get_inputs()]
        self.outputs = [Node.of(node) for node in self.session.get_outputs()]
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        self.bindings: dict[tuple[tuple[str, tuple[int, ...]], ...], tuple[Any, dict[str, Any]]] = {}
        self.seconds = 0.0

    @cached_property
    def digest(self) -> str:
        """Hash of the file, and of the files with weights that it names."""
        content = self.path.read_bytes()
        sha = hashlib.sha256(content)
        for location in weight_files(content):
            with (self.path.parent / location).open("rb") as file:
                sha.update(hashlib.file_digest(file, "sha256").digest())
        return sha.hexdigest()

    def answer(self, inputs: Mapping[str, Array]) -> Array:
        """Return the model's only answer to arrays of NumPy."""
        with in_words(self.path, "failed"):
            return np.asarray(stoppable(lambda options: self.session.run(None, dict(inputs), options))[0])

    def buffers(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Any, dict[str, Any]]:
        """Return the binding of a call with such shapes, and its arrays by name; they are made once."""
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
        """Call the model on what is bound."""
        if self.device.current_stream() != self.device.stream:
            raise ValueError("device: the network was opened on another of CuPy's streams than the current one")
        begun = time.perf_counter()
        with in_words(self.path, "failed"):
            stoppable(lambda options: self.session.run_with_iobinding(binding, options))
        self.seconds += time.perf_counter() - begun

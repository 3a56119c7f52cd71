"""Networks that are Python functions: PyTorch modules, and functions of arrays of any library.

A `Function` has the interface of `Model`, so that the same code evaluates both.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from uldnum._util.arguments import shown
from uldnum._util.arraylib import Space, host
from uldnum._util.extras import require
from uldnum._util.names import printable
from uldnum._util.typing import ArrayLike
from uldnum.networks.card import Card
from uldnum.networks.conditions import array_of
from uldnum.networks.model import Device, Node, Roles

__all__ = ["Function", "Library"]

# Keys of the image, the noise level and the output among the arrays of a call. The other keys are names of keyword
# arguments, which contain no space.
IMAGE, LEVEL, OUTPUT = "noised image", "noise level", "its output"

# Types of devices in DLPack.
CPU, CUDA = 1, 2


@dataclass(frozen=True)
class Library:
    """Array library, device and floating-point type of a function, and conversions between its arrays and the chains'.

    The arrays of chains are CuPy's if the function runs on an NVIDIA GPU, and NumPy's otherwise. Arrays on the same
    device are exchanged by DLPack, without a copy. DLPack also orders the work on different CUDA streams.

    Attributes
    ----------
    space : Space
        Array library and device.
    dtype : object
        Floating-point type, in terms of the array library.
    kind, number : int
        Type of the device in DLPack, and its index.
    """

    space: Space
    dtype: Any
    kind: int
    number: int

    @classmethod
    def of(cls, like: Any) -> Library:
        """Return the library of an example array.

        Raises
        ------
        ValueError
            If ``like`` is not an array of floating-point numbers.
        """
        if not all(hasattr(like, name) for name in ("__dlpack__", "shape", "dtype")) or isinstance(like, type):
            raise ValueError(f"like: must be an array or a tensor, got {shown(like)}")
        if "float" not in str(like.dtype):
            raise ValueError(f"like: must have a floating-point type, got {printable(str(like.dtype))}")
        try:
            kind, number = map(int, like.__dlpack_device__())
        except ValueError:  # the device "meta" of PyTorch, for example, holds no values
            raise ValueError(
                f"like: must be on the device on which the function runs, got an array on the device "
                f"{printable(str(like.device))}, which has no values"
            ) from None
        return cls(Space.of(like), like.dtype, kind, number)

    @property
    def real(self) -> np.dtype[Any]:
        """Floating-point type of the arrays that enter and leave a call: float64, or float32 for all other types."""
        return np.dtype(np.float64 if str(self.dtype).endswith("float64") else np.float32)

    @cached_property
    def integer(self) -> np.dtype[Any]:
        """Default integer type of the library."""
        return np.dtype(str(self.space.namespace.asarray([0]).dtype).rpartition(".")[2])

    def inward(self, values: Any, exact: bool = False) -> Any:
        """Convert an array of the chains to the library.

        Real numbers get the floating-point type of the function, unless ``exact`` is true.
        """
        if self.space.foreign and self.kind in (CPU, CUDA):
            values = self.space.namespace.from_dlpack(values)
        elif self.space.foreign:
            values = self.space.namespace.asarray(values, device=self.space.device)
        if exact or "float" not in str(values.dtype) or values.dtype == self.dtype:
            return values
        return self.space.namespace.astype(values, self.dtype)

    def outward(self, values: Any) -> Any:
        """Convert an output of the function, an array of any library, to an array of the chains."""
        space = Space.of(values)
        if space.name == "torch":
            values = values.detach().resolve_neg()  # DLPack does not transfer the negative bit of lazy tensors
        values = space.cast(values, self.real)
        if self.kind != CUDA:
            return host(values)
        cupy = require("cupy", "cuda")
        if space.name == "torch":
            torch, own = require("torch", "torch"), cupy.cuda.get_current_stream().ptr
            if torch.cuda.current_stream().cuda_stream != own:
                # PyTorch must not reuse the memory before the work on the other stream has read it.
                values.record_stream(torch.cuda.ExternalStream(own))
        return cupy.from_dlpack(values)

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call a function of arrays of the library. PyTorch records no gradients and does not choose types."""
        with ExitStack() as stack:
            if self.space.name == "torch":
                torch = require("torch", "torch")
                stack.enter_context(torch.no_grad())
                stack.enter_context(torch.autocast(self.space.device.type, enabled=False))
            return function(*arguments, **named)


class Function:
    """A network that is a Python function, with the interface of `Model`.

    Parameters
    ----------
    function : callable
        ``function(z, condition, **inputs)`` returns the output of the network for a batch of noised images. The
        condition is not rounded to half precision, in which times up to 1000 would have errors of up to 2.
    like : array, optional
        Example of the arrays that the function accepts. Default: `example` of the function.

    Raises
    ------
    ValueError
        If the function is a class, or the example is not an array of floating-point numbers.

    Warns
    -----
    UserWarning
        If a PyTorch module is in training mode.
    """

    def __init__(self, function: Callable[..., Any], like: Any) -> None:
        if isinstance(function, type):
            raise ValueError(f"network: must be a function or a module, got the class {printable(function.__name__)}")
        self.function, self.library = function, Library.of(example(function) if like is None else like)
        self.name = self.label = printable(getattr(function, "__name__", type(function).__name__).strip("<>"))
        self.like_shape = () if like is None else tuple(like.shape[1:])
        self.device = Device("cuda" if self.library.kind == CUDA else "cpu")
        if self.library.kind == CUDA and self.library.number != self.device.number:
            raise ValueError(
                f"like: must be on the current device of CuPy, {self.device.number}, got device {self.library.number}"
            )
        if getattr(function, "training", False):
            warnings.warn(
                f"network: {self.name} is in training mode, in which dropout and batch normalisation change its "
                "output; call its method eval() first",
                stacklevel=4,
            )
        self.seconds = 0.0  # duration of all calls so far; on a GPU, calls return before the work is done
        self.images = 0  # number of images that they evaluated

    @property
    def copyable(self) -> bool:
        """Whether it is a PyTorch module. The arrays of other functions are unknown."""
        torch: Any = sys.modules.get("torch")
        return torch is not None and isinstance(self.function, torch.nn.Module)

    def on_gpu(self, number: int) -> Function:
        """Return a function with a copy of the PyTorch module, as it is now, on CuPy's current GPU."""
        found, module, device = copy(self), deepcopy(self.function), Device(self.device.name)
        found.function = module.to(f"{device.name}:{device.number}")  # type: ignore[attr-defined]
        found.device, found.library = device, replace(self.library, number=device.number)
        return found

    @property
    def card(self) -> dict[str, Any]:
        """Keys of the card that the example array determines."""
        return {"shape": list(self.like_shape)} if self.like_shape else {}

    @property
    def digest(self) -> str:
        """Hash of the function, which is empty, because it is not known."""
        return ""

    def check_hash(self, wanted: str) -> None:
        """Raise an error if a hash is given."""
        if wanted:
            raise ValueError("sha256: must be absent for a function, which is not a file")

    def roles(self, card: Card, inputs: Mapping[str, ArrayLike]) -> Roles:
        """Return the roles of the arguments of the function. Arrays of further inputs have one row for each image."""
        if not card.shape:
            raise ValueError(
                "shape: must be known for a function; give card={'shape': [...]}, or an array (n, *shape) as like"
            )
        shape, output = card.shape, card.output_shape(card.shape)
        if card.channels_last:
            shape, output = (*shape[1:], shape[0]), (*output[1:], output[0])
        real, integer = self.library.real, self.library.integer

        def node(name: str, dtype: np.dtype[Any], sizes: tuple[int | None, ...]) -> Node:
            return Node(name, dtype, sizes, f"{printable(name)}: {dtype.name} of shape {sizes}".replace("None", "n"))

        def node_of(name: str, value: ArrayLike) -> Node:
            array = array_of(f"inputs: {printable(name)}", value)
            kind = {"f": real, "i": integer, "u": integer}.get(array.dtype.kind, array.dtype)
            return node(name, kind, (None, *array.shape[1:]))

        roles = Roles(
            image=node(IMAGE, real, (None, *shape)),
            condition=None if card.condition == "none" else node(LEVEL, integer if card.whole else real, (None,)),
            others=tuple(node_of(name, value) for name, value in inputs.items()),
            output=node(OUTPUT, real, (None, *output)),
        )
        self.sizes, self.output = output, card.output
        arguments = (roles.image, *filter(None, [roles.condition]), *roles.others)
        self.types = {one.name: one.dtype for one in arguments}
        return roles

    def buffers(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Any, dict[str, Any]]:
        """Return new arrays with the given shapes for the arguments of a call, by name, as a binding and as arrays."""
        xp = self.device.namespace
        arrays = {name: xp.zeros(shapes[name], dtype) for name, dtype in self.types.items()}
        return arrays, arrays

    def run(self, arrays: dict[str, Any]) -> None:
        """Call the function with the arrays, and add its output to them.

        Raises
        ------
        ValueError
            If the function does not return a floating-point array of the expected shape.

        Notes
        -----
        An error of the function has a note with the arguments of the call.
        """
        begun = time.perf_counter()
        given = {name: self.library.inward(array, exact=name == LEVEL) for name, array in arrays.items()}
        positional = [given.pop(name) for name in (IMAGE, LEVEL) if name in given]
        try:
            answer = self.library.call(self.function, *positional, **given)
        except Exception as error:
            named = [*zip(("z", "condition"), positional, strict=False), *given.items()]
            listed = ", ".join(f"{name}: {described(value)}" for name, value in named)
            error.add_note(f"network: {self.name} was called with {listed}; like sets the library, device and type")
            raise
        answer, wanted = tensor_of(answer, self.output), (len(arrays[IMAGE]), *self.sizes)
        if not hasattr(answer, "__dlpack__") or tuple(answer.shape) != wanted or "float" not in str(answer.dtype):
            remedy = "" if hasattr(answer, "shape") else "; card={'output': 'NAME'} selects an output by its name"
            raise ValueError(
                f"network: {self.name} must return a floating-point array of shape {wanted}, got "
                f"{described(answer)}{remedy}"
            )
        arrays[OUTPUT] = self.library.outward(answer)
        self.seconds += time.perf_counter() - begun


def example(function: Callable[..., Any]) -> Any:
    """Return an array of the library that a function accepts.

    It is the first floating-point parameter or buffer of a PyTorch module, other than those of 8 bits, a type in which
    weights are only stored. If the module has none, it is a float32 tensor on the CPU. For any other function it is a
    float32 array of NumPy.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None or not isinstance(function, torch.nn.Module):
        return np.zeros(1, np.float32)
    tensors = chain(function.parameters(), function.buffers())
    fitting = (one for one in tensors if one.is_floating_point() and one.itemsize > 1)
    return next(fitting, torch.zeros(1, dtype=torch.float32, device="cpu"))


def described(value: Any) -> str:
    """Return the type and the shape of an array for a message, or the value itself if it is not an array."""
    if not (hasattr(value, "shape") and hasattr(value, "dtype")):
        return shown(value)
    library = type(value).__module__.partition(".")[0]
    return printable(f"{library} array of type {value.dtype} and shape {tuple(value.shape)}", 200)


def tensor_of(answer: Any, name: str) -> Any:
    """Return the output with a given name; by default the first one, if the function returns several."""
    if name:
        found = answer.get(name) if isinstance(answer, Mapping) else getattr(answer, name, None)
        if found is None:
            known = f" ({', '.join(map(shown, answer))})" if isinstance(answer, Mapping) else ""
            raise ValueError(f"output: must be the name of an output of the function{known}, got {shown(name)}")
        return found
    if isinstance(answer, Mapping):
        answer = tuple(answer.values())
    return answer[0] if isinstance(answer, tuple | list) and answer else answer

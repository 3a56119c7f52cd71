"""Networks that are Python functions: PyTorch modules, and functions of arrays of any library.

A `Function` has the interface of `Model`, so that the same code evaluates both.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
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
        return cls(Space.of(like), like.dtype, *map(int, like.__dlpack_device__()))

    @property
    def real(self) -> np.dtype[Any]:
        """Floating-point type of the arrays that enter and leave a call: float64, or float32 for all other types."""
        return np.dtype(np.float64 if str(self.dtype).endswith("float64") else np.float32)

    @cached_property
    def integer(self) -> np.dtype[Any]:
        """Default integer type of the library."""
        return np.dtype(str(self.space.namespace.asarray([0]).dtype).rpartition(".")[2])

    def inward(self, values: Any) -> Any:
        """Convert an array of the chains to the library. Real numbers get the floating-point type of the function."""
        if self.space.foreign and self.kind in (CPU, CUDA):
            values = self.space.namespace.from_dlpack(values)
        elif self.space.foreign:
            values = self.space.namespace.asarray(values, device=self.space.device)
        if "float" not in str(values.dtype) or values.dtype == self.dtype:
            return values
        return self.space.namespace.astype(values, self.dtype)

    def outward(self, values: Any) -> Any:
        """Convert an output of the function to an array of the chains."""
        if self.space.name == "torch":
            values = values.detach()
        values = self.space.cast(values, self.real)
        return require("cupy", "cuda").from_dlpack(values) if self.kind == CUDA else host(values)

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
        ``function(z, condition, **inputs)`` returns the output of the network for a batch of noised images.
    like : array, optional
        Example of the arrays that the function accepts. Default: a parameter of a PyTorch module, and a float32 array
        of NumPy for any other function.

    Warns
    -----
    UserWarning
        If a PyTorch module is in training mode.
    """

    def __init__(self, function: Callable[..., Any], like: Any) -> None:
        parameters: Callable[[], Iterable[Any]] = getattr(function, "parameters", tuple)
        default = next(iter(parameters()), np.zeros(1, np.float32))
        self.function, self.library = function, Library.of(default if like is None else like)
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
        """Return the roles of the arguments of the function.

        Arrays of further inputs have one row for each image, unless they are single numbers.
        """
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
            return node(name, kind, (None, *array.shape[1:]) if array.ndim else ())

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
            If the function does not return an array of the expected shape.
        """
        begun = time.perf_counter()
        given = {name: self.library.inward(array) for name, array in arrays.items()}
        positional = [given.pop(name) for name in (IMAGE, LEVEL) if name in given]
        answer = tensor_of(self.library.call(self.function, *positional, **given), self.output)
        wanted = (len(arrays[IMAGE]), *self.sizes)
        if tuple(getattr(answer, "shape", ())) != wanted:
            got = f"shape {tuple(answer.shape)}" if hasattr(answer, "shape") else shown(answer)
            raise ValueError(f"network: {self.name} must return an array of shape {wanted}, got {got}")
        arrays[OUTPUT] = self.library.outward(answer)
        self.seconds += time.perf_counter() - begun


def tensor_of(answer: Any, name: str) -> Any:
    """Return the output with a given name; by default the first one, if the function returns several."""
    if name:
        found = answer.get(name) if isinstance(answer, Mapping) else getattr(answer, name, None)
        if found is None:
            raise ValueError(f"output: must be the name of an output of the function, got {shown(name)}")
        return found
    if isinstance(answer, Mapping):
        answer = tuple(answer.values())
    return answer[0] if isinstance(answer, tuple | list) and answer else answer

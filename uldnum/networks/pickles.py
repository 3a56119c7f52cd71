"""Arrays in pickles, read without running anything that a pickle asks for."""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from typing import Any, BinaryIO

import numpy as np

from uldnum._util.typing import Array

__all__ = ["read_arrays", "read_tensors"]

# What a file of PyTorch before version 1.6 begins with.
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class Numbers:
    """Storage of tensors: announced where a tensor uses it, filled from the end of the file."""

    def __init__(self, size: int) -> None:
        self.size, self.values = size, np.empty(0, np.float32)


class Tensor:
    """A view of numbers, as a pickle describes it."""

    def __init__(self, numbers: Numbers, offset: int, shape: Any, strides: Any, *_: Any) -> None:
        self.numbers, self.offset, self.shape, self.strides = numbers, int(offset), tuple(shape), tuple(strides)

    def array(self) -> Array:
        """Copy of the numbers; only what lies in one block, row after row, is read."""
        size = int(np.prod(self.shape))
        end = self.offset + size
        rows = np.empty(self.shape, np.uint8).strides
        if min(self.offset, *self.shape, 0) < 0 or end > len(self.numbers.values) or (size and self.strides != rows):
            raise ValueError(f"a tensor of shape {self.shape} is no block of its numbers")
        return self.numbers.values[self.offset : end].reshape(self.shape).copy()


# All that a pickle may name, by module and name.
ARRAYS: dict[str, Any] = {
    "numpy.core.multiarray._reconstruct": np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
}
TENSORS: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": Tensor,
    "torch.FloatStorage": "float32",
}


class Reader(pickle.Unpickler):
    """Reads a pickle that names nothing but the given things."""

    def __init__(self, stream: BinaryIO, known: dict[str, Any]) -> None:
        super().__init__(stream, encoding="latin1")  # the numbers of an array that Python 2 wrote are a string
        self.known = known
        self.numbers: dict[str, Numbers] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the known things, or raise."""
        if f"{module}.{name}" not in self.known:
            raise ValueError(f"it asks for {module}.{name}, which has no place among arrays")
        return self.known[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> Numbers:
        """Return the storage that a tensor refers to."""
        kind, dtype, key, _, size, view = pid
        if (kind, dtype, view) != ("storage", "float32", None):
            raise ValueError(f"it refers to {kind} of {dtype}, not to plain numbers in float32")
        return self.numbers.setdefault(key, Numbers(int(size)))


# What reading a broken file can raise.
FAULTS = (pickle.UnpicklingError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, struct.error)


def read_arrays(stream: BinaryIO) -> Any:
    """Read a pickle of containers and NumPy arrays.

    Raises
    ------
    ValueError
        If it is corrupt, or names anything else.
    """
    try:
        return Reader(stream, ARRAYS).load()
    except FAULTS as error:
        raise ValueError(f"the pickle cannot be read: {error}") from error


def read_tensors(stream: BinaryIO) -> dict[str, Array]:
    """Read the float32 tensors by name in a file that PyTorch before version 1.6 wrote (``.pth``).

    Raises
    ------
    ValueError
        If it is corrupt, truncated, of another format, or names anything but tensors.
    """
    try:
        if Reader(stream, {}).load() != MAGIC or Reader(stream, {}).load() != PROTOCOL:
            raise ValueError("it does not begin as such a file does")
        Reader(stream, {}).load()  # sizes of C's types where it was written
        reader = Reader(stream, TENSORS)
        tensors = reader.load()
        for key in Reader(stream, {}).load():
            numbers = reader.numbers[key]
            (count,) = struct.unpack("<q", stream.read(8))
            if count != numbers.size:
                raise ValueError(f"it announces {numbers.size} numbers where it has {count}")
            numbers.values = np.frombuffer(stream.read(4 * count), "<f4", count)
        return {str(name): tensor.array() for name, tensor in tensors.items()}
    except FAULTS as error:
        raise ValueError(f"the file of weights cannot be read: {error}") from error

"""Safe readers of arrays in pickles: only listed classes are created, and no other code in a pickle is run."""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from typing import Any, BinaryIO

import numpy as np

from uldnum._util.typing import Array

__all__ = ["read_arrays", "read_tensors"]

# First two pickles of a file that PyTorch before version 1.6 wrote.
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class Numbers:
    """Storage of tensors. The pickle declares it, and its values follow at the end of the file."""

    def __init__(self, size: int) -> None:
        self.size, self.values = size, np.empty(0, np.float32)


class Tensor:
    """A tensor: a view of a storage, which a pickle describes by offset, shape and strides."""

    def __init__(self, numbers: Numbers, offset: int, shape: Any, strides: Any, *_: Any) -> None:
        self.numbers, self.offset, self.shape, self.strides = numbers, int(offset), tuple(shape), tuple(strides)

    def array(self) -> Array:
        """Return a copy of the tensor, which must be contiguous in row-major order."""
        size = int(np.prod(self.shape))
        end = self.offset + size
        rows = np.empty(self.shape, np.uint8).strides
        if min(self.offset, *self.shape, 0) < 0 or end > len(self.numbers.values) or (size and self.strides != rows):
            raise ValueError(f"a tensor of shape {self.shape} is not a contiguous block of its storage")
        return self.numbers.values[self.offset : end].reshape(self.shape).copy()


# The only classes and functions that a pickle may name.
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
    """Unpickler that accepts only the given classes and functions."""

    def __init__(self, stream: BinaryIO, known: dict[str, Any]) -> None:
        super().__init__(stream, encoding="latin1")  # Python 2 wrote the bytes of an array as a string
        self.known = known
        self.numbers: dict[str, Numbers] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return an accepted class or function, or raise an error."""
        if f"{module}.{name}" not in self.known:
            raise ValueError(f"it contains {module}.{name}, which is not allowed in a file of arrays")
        return self.known[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> Numbers:
        """Return the storage that a tensor refers to."""
        kind, dtype, key, _, size, view = pid
        if (kind, dtype, view) != ("storage", "float32", None):
            raise ValueError(f"tensors must be float32 in a plain storage, got {kind} of {dtype}")
        return self.numbers.setdefault(key, Numbers(int(size)))


# Errors that a corrupt file can cause.
FAULTS = (pickle.UnpicklingError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, struct.error)


def read_arrays(stream: BinaryIO) -> Any:
    """Return the content of a pickle of containers and NumPy arrays.

    Raises
    ------
    ValueError
        If the pickle is corrupt, or contains anything else.
    """
    try:
        return Reader(stream, ARRAYS).load()
    except FAULTS as error:
        raise ValueError(f"the pickle cannot be read: {error}") from error


def read_tensors(stream: BinaryIO) -> dict[str, Array]:
    """Return the float32 tensors by name in a file that PyTorch before version 1.6 wrote (``.pth``).

    Raises
    ------
    ValueError
        If the file is corrupt, truncated or in another format, or contains anything else.
    """
    try:
        if Reader(stream, {}).load() != MAGIC or Reader(stream, {}).load() != PROTOCOL:
            raise ValueError("it does not start with the magic number of this format")
        Reader(stream, {}).load()  # sizes of C types on the machine that wrote the file
        reader = Reader(stream, TENSORS)
        tensors = reader.load()
        for key in Reader(stream, {}).load():
            numbers = reader.numbers[key]
            (count,) = struct.unpack("<q", stream.read(8))
            if count != numbers.size:
                raise ValueError(f"a storage must have its declared size {numbers.size}, got {count}")
            numbers.values = np.frombuffer(stream.read(4 * count), "<f4", count)
        return {str(name): tensor.array() for name, tensor in tensors.items()}
    except FAULTS as error:
        raise ValueError(f"the file of weights cannot be read: {error}") from error

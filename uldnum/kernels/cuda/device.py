"""The device on which CUDA kernels run: a GPU, through CuPy, or Numba's simulator."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import numpy as np
from numba import types

from uldnum._util.arraylib import Space
from uldnum._util.extras import installed, require
from uldnum._util.sources import digest_of_sources
from uldnum._util.typing import Array
from uldnum.jit.cache import read, store
from uldnum.kernels.cuda.binding import OLDEST, SIMULATED, Kernel, ptx

__all__ = [
    "CuPy", "Simulator", "arguments", "cache_folder", "code", "device", "device_count", "on_device", "require_room",
]  # fmt: skip


# Maximum number of groups of chains in a launch (a limit of CUDA).
GROUPS = 65_535

# Numba compiles one kernel at a time, because it is told the compute capability by a global function.
LOADING = Lock()

# Usable share of the free memory. The rest allows for the rounding of allocations and for stored positions.
ROOM = 0.9


def cache_folder() -> Path:
    """Return the folder in which compiled kernels are stored."""
    return Path(require("platformdirs", "cuda").user_cache_path("uldnum") / "kernels")


@cache
def spare_folder() -> TemporaryDirectory[str]:
    """Return a temporary folder that lasts as long as this process."""
    return TemporaryDirectory(prefix="uldnum-", ignore_cleanup_errors=True)


def code(kernel: Kernel, cc: tuple[int, int]) -> Path:
    """Return the file with the PTX of a kernel, after compiling it unless the user's cache contains a valid file.

    The name of the file is a hash of the kernel sources, the form of the kernel, the compute capability and the
    versions of the compilers. If the cache folder is not writable, or the kernel must not be stored, the file is in a
    temporary folder of this process.
    """
    if not kernel.stored:
        return spare_file(kernel, ptx(kernel, cc).encode())
    sources = digest_of_sources(kernel.function.__module__)
    compilers = [installed(name) for name in ("numba", "numba-cuda", "llvmlite", "nvidia-nvvm")]
    key = sha256(repr((sources, kernel.key, kernel.name, cc, compilers)).encode()).hexdigest()[:32]
    path = cache_folder() / f"{kernel.name}-{key}.ptx"
    if read(path) is None:
        text = ptx(kernel, cc).encode()
        if not store(path, text):
            return spare_file(kernel, text)
    return path


def spare_file(kernel: Kernel, text: bytes) -> Path:
    """Write the PTX of a kernel to a file that lasts as long as this process."""
    path = Path(spare_folder().name) / f"{kernel.name}-{sha256(text).hexdigest()[:32]}.ptx"
    path.write_bytes(text)
    return path


def arguments(kernel: Kernel, values: Mapping[str, Any]) -> list[Any]:
    """Return the parameters of a launch as a flat list of pointers and numbers."""
    return [one for name, flat in parameters(kernel) for one in flat(values[name])]


@cache
def parameters(kernel: Kernel) -> list[tuple[str, Callable[[Any], list[Any]]]]:
    """Return the name of each parameter of a kernel, and the function that represents its value by a list."""
    return [(name, flattening(kind)) for name, kind in kernel.parameters.items()]


def flattening(kind: Any) -> Callable[[Any], list[Any]]:
    """Return the function that represents a value of a Numba type by pointers and numbers.

    A named tuple is represented by its fields. An array is represented by two owners (here null), its size, the size of
    an item, its address, its shape and its strides. The type is inspected once per kernel, because that takes longer
    than to convert the values.
    """
    if isinstance(kind, types.BaseTuple):
        fields = [flattening(of) for of in kind.types]
        return lambda value: [one for flat, part in zip(fields, value, strict=True) for one in flat(part)]
    if isinstance(kind, types.Array):
        return array_parameters
    if isinstance(kind, types.CPointer):
        return lambda value: [value]
    number = np.dtype(kind.name).type
    return lambda value: [number(value)]


NULL = np.uint64(0)


def array_parameters(value: Any) -> list[Any]:
    """Return the pointers and numbers that represent an array."""
    sizes = map(np.int64, (value.size, value.dtype.itemsize))
    return [NULL, NULL, *sizes, value, *map(np.int64, (*value.shape, *value.strides))]


def require_room(here: CuPy | Simulator, chains: int, each: int, shared: int) -> None:
    """Raise `ValueError` if chains of ``each`` bytes do not fit into the GPU's memory beside ``shared`` bytes."""
    room = int(ROOM * here.free()) - shared
    if chains * each > room:
        raise ValueError(
            f"chains: {chains} chains need {chains * each / 2**30:.3g} GiB of GPU memory, but only "
            f"{room / 2**30:.3g} GiB are available; use at most {max(0, room // each)} chains"
        )


class CuPy:
    """A GPU: its memory and its kernel launches, all on CuPy's current stream of that GPU.

    Parameters
    ----------
    number : int
        Number of the GPU in this process. Which GPU is the current one of a thread does not matter.

    Attributes
    ----------
    block : int
        Number of threads in a block.

    Raises
    ------
    MissingExtraError
        If CuPy or Numba's CUDA compiler is not installed.
    RuntimeError
        If there is no GPU or no driver, or the compute capability of the GPU is too low.
    """

    block = 128

    def __init__(self, number: int) -> None:
        self.cupy, self.number = cupy_library(), number
        with driver_errors(self.cupy):
            self.cc = divmod(int(self.here().compute_capability), 10)
            properties = self.cupy.cuda.runtime.getDeviceProperties(number)
        self.name = properties["name"].decode()
        if self.cc < OLDEST:
            raise RuntimeError(
                f"backend: 'cuda' needs compute capability {OLDEST[0]}.{OLDEST[1]} or later; "
                f"{self.name} has {self.cc[0]}.{self.cc[1]}"
            )
        self.loaded: dict[tuple[Any, str], Any] = {}

    def here(self) -> Any:
        """Return a context in which this GPU is the current one of the thread; threads do not share contexts."""
        return self.cupy.cuda.Device(self.number)

    def describe(self) -> str:
        """Return a description of the GPU, its free memory, the driver and CuPy."""
        driver = self.cupy.cuda.runtime.driverGetVersion()
        return (
            f"{self.name}, compute capability {self.cc[0]}.{self.cc[1]}, {self.free() / 2**30:.3g} GiB free; driver of "
            f"CUDA {driver // 1000}.{driver % 1000 // 10}, CuPy {self.cupy.__version__}"
        )

    def array(self, values: Array) -> Any:
        """Copy a NumPy array to the GPU in C order; NumPy reorders it, so that no GPU kernel is needed for that."""
        values = np.ascontiguousarray(values)
        with self.here():
            there = self.cupy.empty(values.shape, values.dtype)
            if values.size:
                there.set(values)
        return there

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Allocate memory on the GPU."""
        with self.here():
            return self.cupy.empty(shape, dtype)

    def like(self, values: Any, dtype: np.dtype[Any]) -> Any:
        """Return an array on the GPU that is contiguous and of the given dtype; copy only if necessary."""
        with self.here():
            return self.cupy.ascontiguousarray(values, dtype=dtype)

    def require(self, space: Space) -> None:
        """Raise `ValueError` if the arrays of a library are not CuPy arrays."""
        if space.name != "cupy":
            raise ValueError(
                f"backend: 'cuda' calls scores with CuPy arrays, but ``like`` of this target is of {space.name}"
            )

    def host(self, values: Any) -> Array:
        """Copy an array from the GPU to NumPy, after waiting for the kernels that compute it."""
        with self.here():
            return np.asarray(self.cupy.asnumpy(values))

    def wait(self) -> None:
        """Wait until all launched kernels have finished."""
        with self.here():
            self.cupy.cuda.get_current_stream().synchronize()

    def free(self) -> int:
        """Return the available memory in bytes: free on the GPU, or unused in CuPy's pool."""
        with self.here():
            free, _ = self.cupy.cuda.runtime.memGetInfo()
            return int(free + self.cupy.get_default_memory_pool().free_bytes())

    def function(self, kernel: Kernel) -> Any:
        """Return a kernel, compiled and loaded by the driver."""
        key = (kernel.key, kernel.name)
        if key not in self.loaded:
            with LOADING:
                self.loaded[key] = self.load(kernel)
        return self.loaded[key]

    def load(self, kernel: Kernel) -> Any:
        """Return a kernel after compiling and loading it."""
        path = code(kernel, self.cc)
        found = re.search(r"\.entry\s+(\w+)", path.read_text())
        assert found is not None
        try:
            return self.cupy.RawModule(path=str(path)).get_function(found[1])
        except self.cupy.cuda.driver.CUDADriverError as error:
            written = re.search(r"tools, release ([\d.]+)", path.read_text())
            raise RuntimeError(
                f"backend: the driver cannot load a kernel ({error}); kernels compiled by CUDA "
                f"{written[1] if written else '13.0'} need the driver of that version or a later one: update the driver"
            ) from None

    def launch(self, kernel: Kernel, threads: tuple[int, int], values: Mapping[str, Any]) -> None:
        """Run a kernel with threads[0] threads in x, divided into blocks, and threads[1] threads in y."""
        if threads[1] > GROUPS or threads[0] >= 2**32:
            raise ValueError(
                f"h: a GPU runs at most {GROUPS} step sizes of 2^32 threads in one launch, got {threads[::-1]}"
            )
        grid = (-(-threads[0] // self.block), threads[1])
        with self.here():
            self.function(kernel)(grid, (self.block,), tuple(arguments(kernel, values)))


class Simulator:
    """Numba's simulator, which runs kernels as Python functions on NumPy arrays; a stand-in for `CuPy`."""

    name = "Numba's simulator"
    block = 1
    one_at_a_time = Lock()  # Numba's simulator cannot run kernels in several threads

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def describe(self) -> str:
        """Return the name of the simulator."""
        return self.name

    def array(self, values: Array) -> Array:
        """Return a copy in C order."""
        return np.array(values, order="C")

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Allocate memory."""
        return np.empty(shape, dtype)

    def like(self, values: Array, dtype: np.dtype[Any]) -> Array:
        """Return an array that is contiguous and of the given dtype."""
        return np.ascontiguousarray(values, dtype)

    def require(self, space: Space) -> None:
        """Do nothing: scores are called with NumPy arrays."""

    def host(self, values: Array) -> Array:
        """Return a copy."""
        return values.copy()

    def wait(self) -> None:
        """Do nothing: launches are synchronous."""

    def free(self) -> int:
        """Return a number larger than any request."""
        return 2**62

    def launch(self, kernel: Kernel, threads: tuple[int, int], values: Mapping[str, Any]) -> None:
        """Run a kernel in blocks of one thread."""
        from numba import cuda
        from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

        def shared(value: Any) -> Any:
            """Wrap arrays so that the simulator does not copy them: two parameters may share memory."""
            if isinstance(value, tuple):
                return type(value)(*map(shared, value)) if hasattr(value, "_fields") else value
            return FakeCUDAArray(value) if isinstance(value, np.ndarray) else value

        with self.one_at_a_time:
            cuda.jit(kernel.function)[threads, (1,)](*(shared(values[name]) for name in kernel.parameters))


# Number of stand-ins for GPUs in the simulator, and the current one.
SIMULATED_DEVICES = 2
CURRENT: ContextVar[int] = ContextVar("CURRENT", default=0)


def cupy_library() -> Any:
    """Return CuPy, or raise `MissingExtraError`."""
    return require("cupy", "cuda")


@contextmanager
def driver_errors(cupy: Any) -> Iterator[None]:
    """Explain an error of the driver."""
    try:
        yield
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise RuntimeError(f"backend: 'cuda' needs an NVIDIA GPU and its driver; CuPy reports: {error}") from None


def device_count() -> int:
    """Return the number of GPUs of this process, or of stand-ins if the simulator is enabled."""
    if SIMULATED:
        return SIMULATED_DEVICES
    cupy = cupy_library()
    with driver_errors(cupy):
        return int(cupy.cuda.runtime.getDeviceCount())


@contextmanager
def on_device(number: int) -> Iterator[None]:
    """Make a GPU the current one of this thread."""
    if SIMULATED:
        before = CURRENT.set(number)
        try:
            yield
        finally:
            CURRENT.reset(before)
    else:
        with cupy_library().cuda.Device(number):
            yield


def device() -> CuPy | Simulator:
    """Return the current GPU of this thread, or the simulator if it is enabled."""
    if SIMULATED:
        return numbered(CURRENT.get())
    cupy = cupy_library()
    with driver_errors(cupy):
        number = cupy.cuda.Device().id
    return numbered(number)


@cache
def numbered(number: int) -> CuPy | Simulator:
    """Return the GPU, or the stand-in for one, with a number."""
    return Simulator(number) if SIMULATED else CuPy(number)

"""Registry of backends: each name maps to a function that builds an executor."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from uldnum._util.arguments import shown, whole_number
from uldnum._util.names import unknown
from uldnum.kernels.arrays.executor import ArrayExecutor
from uldnum.kernels.program import Executor, Program

__all__ = ["BACKENDS", "Options", "choose_backend", "chosen_devices", "device_numbers"]


class Options(NamedTuple):
    """Options of a backend that do not change the result of a run."""

    threads: int | None
    devices: tuple[int, ...] | None  # GPUs that share the chains; None for the current one
    chains: int  # chains of each group
    announce: bool  # whether to report compilation in a terminal


def numba(program: Program, options: Options) -> Executor:
    """Return the executor of compiled kernels. The import is local because importing Numba takes half a second."""
    from uldnum.kernels.numba.executor import NumbaExecutor

    return NumbaExecutor(program, options.threads, options.announce)


def array(program: Program, options: Options) -> Executor:
    """Return the executor that uses arrays of the library that the score of the target accepts."""
    return ArrayExecutor(program)


def cuda(program: Program, options: Options, *, fast: bool) -> Executor:
    """Return the executor of a GPU. The imports are local because its libraries are optional."""
    from uldnum.kernels.cuda.executor import CudaExecutor
    from uldnum.kernels.cuda.images import ImageExecutor

    make = partial(CudaExecutor if len(program.shape) == 1 else ImageExecutor, fast=fast)
    if options.devices is not None:
        from uldnum.kernels.cuda.split import SplitExecutor

        return SplitExecutor(make, program, options.devices, options.chains)
    return make(program)


BACKENDS: dict[str, tuple[Callable[[Program, Options], Executor], str]] = {
    "numba": (numba, "compiled for this CPU, with threads over chains; the default for mixtures and compiled scores"),
    "array": (
        array,
        "arrays of NumPy or of the library of the target; runs any target; the default for all other targets",
    ),
    "cuda": (
        partial(cuda, fast=False),
        "NVIDIA GPUs; runs mixtures, compiled scores, and images whose score accepts CuPy arrays",
    ),
    "cuda-fast": (
        partial(cuda, fast=True),
        "the same in float32, with the sine, cosine and exp2 instructions of the GPU",
    ),
}


def chosen_devices(devices: Any, backend: str, target: Any) -> tuple[int, ...] | None:
    """Return the numbers of the GPUs that share the chains of a run, or raise if they are invalid."""
    if devices is None:
        return None
    if not backend.startswith("cuda"):
        raise ValueError(f"devices: needs backend 'cuda' or 'cuda-fast', got {backend!r}")
    if len(target.shape) > 1 and target.on_gpu is None:
        raise ValueError(
            f"devices: needs a network that is an ONNX model or a torch.nn.Module, or another target with the ability "
            f"on_gpu, not {target.name!r}; or run its chains in the processes of uldnum.studies.gpus, by first_chain="
        )
    return device_numbers(devices)


def device_numbers(devices: Any) -> tuple[int, ...]:
    """Return numbers of GPUs, or raise if they do not exist; None stands for all GPUs of this process."""
    if devices is not None and not (isinstance(devices, list | tuple) and devices):
        raise ValueError(f"devices: must be a list of numbers of GPUs, got {shown(devices)}")
    numbers = tuple(whole_number("devices", number, 0, 2**16) for number in devices or ())
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"devices: must be different, got {shown(devices)}")
    from uldnum.kernels.cuda.device import device_count

    found = device_count()
    if not found:
        raise RuntimeError("backend: 'cuda' needs an NVIDIA GPU, and this process has none")
    if max(numbers, default=0) >= found:
        raise ValueError(f"devices: must be less than {found}, the number of GPUs of this process, got {max(numbers)}")
    return numbers or tuple(range(found))


def choose_backend(target: Any, backend: str | None, dtype: np.dtype[Any], metropolised: bool = False) -> str:
    """Return the name of the backend, or raise if it is unknown or cannot run the target.

    ``metropolised`` states whether the steps have Metropolis tests, which need the density of the target.
    """
    if metropolised and target.log_density is None:
        raise ValueError(
            f"target: {target.name!r} must have a log_density, because a Metropolis test compares densities; networks "
            "have none"
        )
    compiled = target.kernel_data is not None or (
        target.compiled_score is not None and (not metropolised or target.compiled_log_density is not None)
    )
    if backend is None:
        return "numba" if compiled else "array"
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    if backend == "numba" and not target.compiled:
        raise ValueError(f"backend: 'numba' runs mixtures and compiled scores; {target.name!r} needs 'array'")
    if metropolised and backend != "array" and not compiled:
        usable = "'array', or a log density that is a Numba function as the score is"
        raise ValueError(f"backend: {backend!r} does not support Metropolis tests on {target.name!r}; use {usable}")
    images = len(target.shape) > 1 and target.like is not None
    if backend.startswith("cuda") and not (images or target.compiled):
        raise ValueError(
            f"backend: {backend!r} runs mixtures, compiled scores, and images whose score accepts CuPy arrays (see "
            f"``like``); {target.name!r} needs 'array'"
        )
    if backend == "cuda-fast" and dtype != np.float32:
        raise ValueError(f"dtype: backend 'cuda-fast' needs float32, got {dtype}; backend 'cuda' runs both types")
    return backend

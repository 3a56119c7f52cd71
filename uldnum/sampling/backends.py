"""Where a run is computed: name -> executor."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from uldnum._util.names import unknown
from uldnum.kernels.arrays.executor import ArrayExecutor
from uldnum.kernels.program import Executor, Program

__all__ = ["BACKENDS", "Options", "choose_backend"]


class Options(NamedTuple):
    """How a run is run, where that does not change its result."""

    threads: int | None
    announce: bool  # say in a terminal that something is compiled


def numba(program: Program, options: Options) -> Executor:
    """Return the executor of compiled code; importing Numba costs half a second, so only here."""
    from uldnum.kernels.numba.executor import NumbaExecutor

    return NumbaExecutor(program, options.threads, options.announce)


def array(program: Program, options: Options) -> Executor:
    """Return the executor of arrays, of the library that the target's score takes."""
    return ArrayExecutor(program)


def cuda(program: Program, options: Options, *, fast: bool) -> Executor:
    """Return the executor of a GPU; here too, what it needs is imported only where it is used."""
    from uldnum.kernels.cuda.executor import CudaExecutor
    from uldnum.kernels.cuda.images import ImageExecutor

    return CudaExecutor(program, fast) if len(program.shape) == 1 else ImageExecutor(program, fast)


BACKENDS: dict[str, tuple[Callable[[Program, Options], Executor], str]] = {
    "numba": (numba, "compiled for this processor, threads over chains; the default for mixtures and compiled scores"),
    "array": (array, "arrays of NumPy, or of the target's library; any target; the default for anything else"),
    "cuda": (partial(cuda, fast=False), "NVIDIA GPUs: mixtures, and images whose score takes CuPy arrays"),
    "cuda-fast": (partial(cuda, fast=True), "... in float32, with the hardware's sine, cosine and power of 2"),
}


def choose_backend(target: Any, backend: str | None, dtype: np.dtype[Any]) -> str:
    """Return the name of the backend, or raise if there is none or it cannot run the target."""
    if backend is None:
        return "numba" if target.compiled else "array"
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    if backend == "numba" and not target.compiled:
        raise ValueError(f"backend: 'numba' runs mixtures and compiled scores; {target.name!r} needs 'array'")
    images = len(target.shape) > 1 and target.like is not None
    if backend.startswith("cuda") and not (images or target.kernel_data is not None):
        raise ValueError(
            f"backend: {backend!r} runs mixtures, and images whose score takes CuPy arrays (their ``like`` is one); "
            f"{target.name!r} needs {'numba' if target.compiled else 'array'!r}"
        )
    if backend == "cuda-fast" and dtype != np.float32:
        raise ValueError(f"dtype: backend 'cuda-fast' runs float32, not {dtype}; 'cuda' runs both")
    return backend

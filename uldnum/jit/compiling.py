"""How functions are compiled: as a part of what calls them, or as kernels that Python calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from uldnum.jit.cache import KernelCache, warn_unkept

__all__ = ["compiled", "jit"]


def jit(function: Any, variant: str = "", **options: Any) -> Any:
    """Compile with IEEE arithmetic, without the interpreter lock, as a part of what calls it.

    What a closure closes over is no part of the name by which compiled code is linked, and code from the disk is linked
    with what this process compiled: so the name of a closure says which variant of it this is.
    """
    if variant:
        function.__qualname__ += f"-{variant}"
    defaults = {
        "nogil": True,
        "error_model": "numpy",
        "forceinline": True,
        "no_cpython_wrapper": True,
        "no_cfunc_wrapper": True,
    }
    return numba.njit(function, **defaults | options)


def compiled(function: Callable[..., Any], keep: bool = True) -> Any:
    """Return a kernel that Python calls, without the interpreter lock; kept on the disk, if its source is all ours."""
    kernel = numba.njit(function, nogil=True, error_model="numpy")
    if keep:
        try:
            kernel._cache = KernelCache(kernel.py_func)
        except (RuntimeError, OSError) as error:  # no folder can be written to
            warn_unkept("any folder", error)
    return kernel

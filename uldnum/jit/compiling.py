"""Compilation of functions, either inlined into their callers or as kernels that Python calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from uldnum.jit.cache import KernelCache, warn_not_stored

__all__ = ["compiled", "jit", "reason"]


def jit(function: Any, variant: str = "", **options: Any) -> Any:
    """Compile a function with IEEE arithmetic and without the interpreter lock, inlined into its callers.

    Compiled code is linked by the name of a function, which does not depend on the variables of a closure. Code that is
    loaded from the disk is linked with code that this process compiled. Therefore the name of a closure must contain a
    ``variant`` that identifies the values of its variables.
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
    """Return a kernel that Python calls and that runs without the interpreter lock.

    If ``keep``, the compiled kernel is stored on the disk. This requires that its source code is part of the package.
    """
    kernel = numba.njit(function, nogil=True, error_model="numpy")
    if keep:
        try:
            kernel._cache = KernelCache(kernel.py_func)
        except (RuntimeError, OSError) as error:  # no cache folder is writable
            warn_not_stored("any folder", error)
    return kernel


def reason(error: Exception) -> str:
    """Return the line of Numba's error message that says why a function does not compile."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[lines[0].startswith("Failed in") and len(lines) > 1]

"""Users' functions on a GPU: the types of their arguments, and the functions of NumPy and `math` that they call.

Numba compiles a score again as a device function. Its target CUDA lacks `numpy.exp` and others, and the functions that
it has differ from those of the CPU in the last bits. Therefore a copy of the score is compiled, in which the functions
of `source.functions.make_total_functions` replace those of the modules ``numpy`` and ``math``. Vectors of chains on a
CPU use the same functions. The Numba functions that a score calls are treated likewise.
"""

from __future__ import annotations

import linecache
import math
import re
import traceback
from collections.abc import Callable
from functools import cache, lru_cache
from types import CellType, FunctionType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types

from uldnum._util.arguments import shown
from uldnum._util.typing import Array
from uldnum.jit.compiling import reason
from uldnum.kernels.cuda.binding import OLDEST, SIMULATED, compute_capability, core, jit, number, ops
from uldnum.kernels.cuda.form import UserForm
from uldnum.kernels.source.functions import make_total_functions

if not SIMULATED:
    from numba.cuda.extending import overload

__all__ = ["UserData", "check_compiles", "device_function", "kind_of"]


class UserData(NamedTuple):
    """What a user's functions read: the frame of the target (`uldnum.targets.Target.frame`), and their arguments."""

    frame: Array  # (d, columns) in the dtype of the run; no columns if there is no frame
    arguments: tuple[Any, ...]
    doubles: tuple[Any, ...]  # arguments of the log density, which is computed in float64


def kind_of(value: Any) -> Any:
    """Return the Numba type of an argument of a score on the GPU, where arrays are contiguous."""
    if isinstance(value, tuple):
        return types.BaseTuple.from_types(tuple(map(kind_of, value)))
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and value.ndim:
        return types.Array(numba.from_dtype(value.dtype), value.ndim, "C")
    if isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating):
        return numba.typeof(value)
    raise ValueError(f"args: must be real numbers and arrays of them for backend 'cuda', got {shown(value)}")


@cache
def total(dtype: np.dtype[Any]) -> SimpleNamespace:
    """Return the elementary functions on scalars of a type."""
    return make_total_functions(ops(dtype, False), core(dtype, False).functions)


def stand_in(name: str) -> Callable[..., Any]:
    """Return a function of a real number or an integer that calls the elementary function of the type."""

    def function(x: Any) -> Any:
        dtype = np.result_type(x)
        kind = dtype if dtype.kind == "f" else np.dtype(float)
        return getattr(total(kind), name)(kind.type(x))

    if not SIMULATED:

        @overload(function, strict=False)
        def definition(x: Any) -> Any:
            if not isinstance(x, types.Float | types.Integer | types.Boolean):
                return None
            kind = np.dtype(x.name if isinstance(x, types.Float) else float)
            own, real = getattr(total(kind), name), kind.type
            return lambda x: own(real(x))

    return function


def choice(condition: Any, yes: Any, no: Any) -> Any:
    """Return one of two numbers."""
    return yes if condition else no


@cache
def replacements() -> dict[int, Any]:
    """Return what replaces functions and modules, by their ids: elementary functions, and modules with them."""
    pairs: list[tuple[Any, Any]] = [(np.where, jit(choice))]
    for name in ("exp", "log", "cos", "sin", "tanh", "sqrt"):
        function = stand_in(name)
        pairs += [(getattr(math, name), function), (getattr(np, name), function)]
    function = stand_in("absolute")
    pairs += [(math.fabs, function), (np.abs, function)]
    found = {id(original): function for original, function in pairs}
    for module in (np, math):
        other = ModuleType(module.__name__)
        other.__dict__.update({name: found.get(id(value), value) for name, value in vars(module).items()})
        found[id(module)] = other
    return found


def bound(function: Any, known: dict[Any, Any]) -> Any:
    """Return a Numba function as a device function; ``known`` contains those of functions that call each other."""
    if function not in known:
        python = function.py_func
        names, cells = dict(python.__globals__), tuple(CellType() for _ in python.__closure__ or ())
        copy = FunctionType(python.__code__, names, python.__name__, python.__defaults__, cells)
        copy.__qualname__, copy.__module__ = python.__qualname__, python.__module__
        known[function] = jit(copy)

        def replaced(value: Any) -> Any:
            return bound(value, known) if hasattr(value, "py_func") else replacements().get(id(value), value)

        for name in set(python.__code__.co_names) & set(names):
            names[name] = replaced(names[name])
        for cell, original in zip(cells, python.__closure__ or (), strict=True):
            cell.cell_contents = replaced(original.cell_contents)
    return known[function]


@lru_cache(64)
def device_function(function: Any) -> Any:
    """Return a user's Numba function as a device function."""
    return bound(function, {})


def check_compiles(form: UserForm, dtype: np.dtype[Any], contiguous: bool) -> None:
    """Raise `ValueError` that names the line of a user's score or log density that does not compile for GPUs.

    ``contiguous`` states whether positions are contiguous in memory.
    """
    if SIMULATED:
        return
    x = types.Array(number(dtype), 1, "C" if contiguous else "A")
    compile_for_device("score", form.function, (x, x, *form.kinds))
    if form.density not in (None, form.function):
        compile_for_device("log density", form.density, (types.Array(types.float64, 1, "C"), *form.density_kinds))


def compile_for_device(name: str, function: Any, kinds: tuple[Any, ...]) -> None:
    """Compile a user's function for arguments of the given types, or raise `ValueError`."""
    try:
        with compute_capability(OLDEST):
            device_function(function).compile_device(kinds)
    except Exception as error:  # Numba raises many classes of errors
        file, line = function.py_func.__code__.co_filename, line_of(error, function.py_func.__code__)
        raise ValueError(
            f"backend: 'cuda' cannot compile the {name}: {file}:{line}: {linecache.getline(file, line).strip()!r}: "
            f"{reason(error)}; functions on a GPU cannot make arrays or lists; backend 'numba' runs it"
        ) from error


def line_of(error: BaseException, code: Any) -> int:
    """Return the line of a function at which its compilation failed, or its first line if Numba does not know."""
    frames = [frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__)]
    places: list[Any] = [getattr(names.get(key), "loc", names.get(key)) for names in frames for key in ("loc", "inst")]
    lines = [place.line for place in places if getattr(place, "filename", None) == code.co_filename]
    written = re.findall(rf"{re.escape(code.co_filename)} \((\d+)\)", str(error))
    return int([*lines, *written, code.co_firstlineno][0])

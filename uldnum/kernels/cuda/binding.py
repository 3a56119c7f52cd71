"""The source bound to CUDA, where a value is a scalar, and the compilation of kernels to PTX.

Numba compiles the kernels, which requires neither a GPU nor a driver. If the environment variable
``NUMBA_ENABLE_CUDASIM`` is 1, kernels run in Numba's simulator, on NumPy scalars.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import cuda, types
from numba.core import config

from uldnum.kernels.arrays.binding import ops as array_ops
from uldnum.kernels.source.core import LOCAL, make_core
from uldnum.kernels.source.functions import FORMATS, Ops, make_newton

__all__ = [
    "OLDEST", "SIMULATED", "Kernel", "compute_capability", "core", "inline", "jit", "normals_from", "number", "ops",
    "ptx", "transfers",
]  # fmt: skip

# The oldest compute capability for which CUDA 13 compiles.
OLDEST = (7, 5)

# Alignment in bytes of groups of four numbers; the hardware moves that many bytes in one instruction.
ALIGNED = 16

# Whether kernels run in the simulator.
SIMULATED = bool(config.ENABLE_CUDASIM)

if not SIMULATED:
    from llvmlite import ir
    from numba.cuda import dispatcher, libdevice
    from numba.cuda.compiler import _compile_pyfunc_with_fixup
    from numba.cuda.extending import intrinsic
else:

    def intrinsic(function: Any) -> Any:
        """Return the function unchanged: the simulator does not use intrinsics."""
        return function


def jit(function: Any, **options: Any) -> Any:
    """Compile a device function, to be inlined by the compiler into its callers."""
    return function if SIMULATED else cuda.jit(device=True, **options or {"forceinline": True})(function)


def inline(function: Any) -> Any:
    """Copy a function into its callers before compilation, which Numba requires of functions that return new arrays."""
    return jit(function, inline="always")


def assembly(text: str, constraints: str) -> Any:
    """Return the function with which an intrinsic builds one instruction of PTX."""

    def build(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        kind = ir.FunctionType(context.get_value_type(sig.return_type), [value.type for value in values])
        return builder.call(ir.InlineAsm(kind, text, constraints), values)

    return build


@intrinsic
def product_of_words(context: Any, x: Any, y: Any) -> Any:
    """Return the 64-bit product of 32-bit words. A product of 64-bit integers takes three more instructions."""
    return types.uint64(types.uint32, types.uint32), assembly("mul.wide.u32 $0, $1, $2;", "=l,r,r")


@intrinsic
def reciprocal(context: Any, x: Any) -> Any:
    """Return an approximation of 1/x."""
    return types.float32(types.float32), assembly("rcp.approx.ftz.f32 $0, $1;", "=f,f")


@intrinsic
def reciprocal_root(context: Any, x: Any) -> Any:
    """Return an approximation of x^(-1/2)."""
    return types.float32(types.float32), assembly("rsqrt.approx.ftz.f32 $0, $1;", "=f,f")


@cache
def ops(dtype: np.dtype[Any], fast: bool) -> Ops:
    """Return the operations of the source on scalars.

    If ``fast`` (float32 only), the hardware computes sine, cosine and powers of 2, with errors in the last bits.
    """
    real, word = dtype.type, FORMATS[dtype.type].word
    if SIMULATED:
        return array_ops(dtype)._replace(
            where=lambda condition, yes, no: yes if condition else no, larger=max, as_double=np.float64, as_index=int
        )  # fmt: skip
    integer, as_integer, as_float = {
        np.float64: (np.int64, libdevice.double_as_longlong, libdevice.longlong_as_double),
        np.float32: (np.int32, libdevice.float_as_int, libdevice.int_as_float),
    }[real]
    radians = real(np.pi * 2.0**-31)
    fma, larger = jit(lambda x, y, z: cuda.fma(x, y, z)), jit(lambda x, y: max(x, y))
    quotient, root = jit(lambda x, y: x / y), jit(lambda x: math.sqrt(x))
    if dtype == np.float32:
        quotient, root = make_newton(jit, fma, larger, reciprocal, reciprocal_root)

    @jit
    def direction(w):  # type: ignore[no-untyped-def]
        angle = real(np.int32(w)) * radians
        return libdevice.fast_cosf(angle), libdevice.fast_sinf(angle)

    return Ops(
        jit=jit,
        inline=inline,
        real=real,
        constant=real,
        fma=fma,
        sqrt=jit(lambda x: math.sqrt(x)),
        quotient=quotient,
        root=root,
        where=jit(lambda condition, yes, no: cuda.selp(condition, yes, no)),
        larger=larger,
        as_real=jit(lambda value: real(value)),
        as_double=jit(lambda value: np.float64(value)),
        as_index=jit(lambda value: np.int64(value)),
        as_word=jit(lambda value: word(value)),
        bits=jit(lambda value: word(as_integer(value))),
        signed=jit(lambda value: integer(value)),
        from_bits=jit(lambda value: as_float(integer(value))),
        wide=jit(lambda x, y: product_of_words(np.uint32(x), np.uint32(y))),
        row=inline(lambda table, r: table[r]),
        tail=inline(lambda values, j: values[j:]),
        local=inline(lambda count: cuda.local.array(LOCAL, real)),
        instead={"direction": direction, "exp2": jit(lambda x: libdevice.exp2f(x))} if fast else {},
    )


@cache
def core(dtype: np.dtype[Any], fast: bool) -> SimpleNamespace:
    """Return the core on scalars; its functions are compiled once per process for all kernels."""
    return make_core(ops(dtype, fast))


@intrinsic
def load_four(context: Any, source: Any, at: Any) -> Any:
    """Read four consecutive numbers in as few instructions as possible; the first must be aligned to `ALIGNED`."""

    def build(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        vector = ir.VectorType(values[0].type.pointee, 4)
        place = builder.bitcast(builder.gep(values[0], [values[1]]), vector.as_pointer())
        four = builder.load(place, align=ALIGNED)
        numbers = [builder.extract_element(four, ir.IntType(32)(i)) for i in range(4)]
        return context.make_tuple(builder, sig.return_type, numbers)

    return types.UniTuple(source.dtype, 4)(source, types.int64), build


@intrinsic
def store_four(context: Any, target: Any, at: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Write four consecutive numbers in as few instructions as possible; the first must be aligned to `ALIGNED`."""

    def build(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        vector = ir.VectorType(values[0].type.pointee, 4)
        four = ir.Constant(vector, ir.Undefined)
        for i, value in enumerate(values[2:]):
            four = builder.insert_element(four, value, ir.IntType(32)(i))
        place = builder.bitcast(builder.gep(values[0], [values[1]]), vector.as_pointer())
        builder.store(four, place, align=ALIGNED)
        return context.get_dummy_value()

    return types.none(target, types.int64, *[target.dtype] * 4), build


def transfers(whole: bool) -> tuple[Any, Any]:
    """Return functions that read and write ``count`` <= 4 consecutive numbers.

    If ``whole``, they always transfer four numbers, which must be aligned.
    """

    @inline
    def load_whole(four, source, at, count):  # type: ignore[no-untyped-def]
        four[0], four[1], four[2], four[3] = load_four(source, at)

    @inline
    def store_whole(target, at, four, count):  # type: ignore[no-untyped-def]
        store_four(target, at, four[0], four[1], four[2], four[3])

    @inline
    def load(four, source, at, count):  # type: ignore[no-untyped-def]
        for j in range(4):
            if j < count:
                four[j] = source[at + j]

    @inline
    def store(target, at, four, count):  # type: ignore[no-untyped-def]
        for j in range(4):
            if j < count:
                target[at + j] = four[j]

    return (load_whole, store_whole) if whole and not SIMULATED else (load, store)


def normals_from(core: SimpleNamespace) -> Any:
    """Return the function that fills xi with the normals of ``blocks`` blocks of a chain's stream."""
    four_normals = core.four_normals

    @inline
    def fill(xi, block, blocks, chain, stream, k0, k1):  # type: ignore[no-untyped-def]
        for b in range(blocks):
            xi[4 * b], xi[4 * b + 1], xi[4 * b + 2], xi[4 * b + 3] = four_normals(
                np.uint64(block + b), chain, stream, k0, k1
            )

    return fill


@dataclass(frozen=True, eq=False)
class Kernel:
    """A kernel: its Python function, the Numba types of its parameters by name, and a key that identifies its form.

    ``stored`` states whether the compiled kernel may be stored on the disk. It must not be if its code depends on a
    function of a user, whose code may depend on anything.
    """

    function: Callable[..., None]
    parameters: dict[str, Any]
    key: Any
    stored: bool = True

    @property
    def name(self) -> str:
        """Name of the Python function."""
        return self.function.__name__


def number(dtype: np.dtype[Any]) -> Any:
    """Return the Numba type of a floating-point dtype."""
    return types.float32 if dtype == np.float32 else types.float64


@contextmanager
def compute_capability(cc: tuple[int, int]) -> Iterator[None]:
    """Set the compute capability that Numba compiles device functions for, so that it does not look for a device."""
    ask = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=cc)
    try:
        yield
    finally:
        dispatcher.get_current_device = ask


@cache
def library(kernel: Kernel) -> Any:
    """Compile a kernel to NVVM's intermediate representation, which does not depend on the GPU.

    `numba.cuda.compile_ptx` contracts multiplications and additions to fused ones and has no option to prevent it.
    Therefore this function calls the internal functions of Numba.
    """
    signature = types.void(*kernel.parameters.values())
    with compute_capability(OLDEST):
        found, _ = _compile_pyfunc_with_fixup(kernel.function, signature, device=False, abi="numba", cc=OLDEST)
    found._nvvm_options["fma"] = 0
    return found


def ptx(kernel: Kernel, cc: tuple[int, int]) -> str:
    """Compile a kernel to PTX for a compute capability. No GPU is needed."""
    return str(library(kernel).get_asm_str(cc=cc))

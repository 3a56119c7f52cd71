"""A Numba type for vectors of numbers, with one lane per chain.

``Vector(number, lanes)`` is the LLVM type ``<lanes x number>``. LLVM splits it into registers of the width that the
processor has, so the same code runs on AVX-512, AVX2 and NEON. Arithmetic is that of IEEE 754 in each lane, and nothing
is contracted or reassociated; the number of lanes therefore does not change any bit of a result. Operations on a vector
and a number broadcast the number.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typeconv import Conversion
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, lower_cast, models, register_model

__all__ = ["Vector", "convert", "fma", "iota", "llvm", "reinterpret", "sqrt", "where"]


class Vector(types.Type):
    """Type of a vector of numbers."""

    def __init__(self, number: Any, lanes: int) -> None:
        self.number, self.lanes = number, lanes
        super().__init__(f"Vector({number}, {lanes})")

    @property
    def real(self) -> bool:
        """Whether the lanes hold floating-point numbers."""
        return isinstance(self.number, types.Float)

    def can_convert_from(self, context: Any, other: Any) -> Any:
        """Allow a number to be converted to a vector, for example ``total = 0.0`` to which a vector is added."""
        return Conversion.safe if isinstance(other, types.Number) else None

    def unify(self, context: Any, other: Any) -> Any:
        """Unify a number and a vector to a vector."""
        return self if isinstance(other, types.Number) else None


def llvm(kind: Any) -> Any:
    """Return the LLVM type of a number or a vector; booleans have one bit per lane."""
    if isinstance(kind, Vector):
        return ir.VectorType(llvm(kind.number), kind.lanes)
    named = {types.float64: ir.DoubleType(), types.float32: ir.FloatType(), types.boolean: ir.IntType(1)}
    return named.get(kind) or ir.IntType(kind.bitwidth)


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """Memory model of a vector."""

    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, llvm(kind))

    def get_data_type(self) -> Any:
        """Return an array type, because the memory of a list is not aligned for vectors."""
        return ir.ArrayType(self.get_value_type().element, self.get_value_type().count)

    def as_data(self, builder: Any, value: Any) -> Any:
        """Convert a vector to an array."""
        data = ir.Constant(self.get_data_type(), ir.Undefined)
        for i in range(data.type.count):
            data = builder.insert_value(data, builder.extract_element(value, ir.IntType(32)(i)), i)
        return data

    def from_data(self, builder: Any, data: Any) -> Any:
        """Convert an array to a vector."""
        value = ir.Constant(self.get_value_type(), ir.Undefined)
        for i in range(data.type.count):
            value = builder.insert_element(value, builder.extract_value(data, i), ir.IntType(32)(i))
        return value


def broadcast(builder: Any, number: Any, lanes: int) -> Any:
    """Copy a number into every lane."""
    kind = ir.VectorType(number.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.IntType(32)(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))


def spread(builder: Any, kinds: Any, values: Any, lanes: int) -> list[Any]:
    """Broadcast the numbers among the arguments."""
    pairs = zip(kinds, values, strict=True)
    return [value if isinstance(kind, Vector) else broadcast(builder, value, lanes) for kind, value in pairs]


@lower_cast(types.Number, Vector)
def number_to_vector(context: Any, builder: Any, given: Any, wanted: Vector, value: Any) -> Any:
    """Broadcast a number where a vector is expected."""
    return broadcast(builder, context.cast(builder, value, given, wanted.number), wanted.lanes)


# ------------------------------------------------------------------------------------------------------------ operators

# LLVM instructions for reals, unsigned integers and signed integers; "" if there is none.
BINARY = {
    operator.add: ("fadd", "add", "add"),
    operator.sub: ("fsub", "sub", "sub"),
    operator.mul: ("fmul", "mul", "mul"),
    operator.truediv: ("fdiv", "", ""),
    operator.and_: ("", "and_", "and_"),
    operator.or_: ("", "or_", "or_"),
    operator.xor: ("", "xor", "xor"),
    operator.lshift: ("", "shl", "shl"),
    operator.rshift: ("", "lshr", "ashr"),
}
# Operators that are defined for the results of comparisons.
LOGICAL = {operator.and_, operator.or_, operator.xor, operator.iand, operator.ior, operator.ixor}
COMPARISONS = {
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.eq: "==",
    operator.ne: "!=",
}


def vector_among(arguments: tuple[Any, ...]) -> Vector | None:
    """Return the common type of the vectors among the arguments; None if they differ or an argument does not fit."""
    vectors = {kind for kind in arguments if isinstance(kind, Vector)}
    if len(vectors) != 1:
        return None
    vector = vectors.pop()
    scalar = types.Boolean if vector.number == types.boolean else types.Number
    return vector if all(isinstance(kind, (Vector, scalar)) for kind in arguments) else None


def define(key: Any, arity: int, result: Callable[[Vector], Any], build: Callable[..., Any]) -> None:
    """Define an operator by the type of its result, which is None if it is undefined, and by its LLVM instruction."""

    class Operator(AbstractTemplate):
        def generic(self, arguments: tuple[Any, ...], keywords: Any) -> Any:
            vector = vector_among(arguments)
            if len(arguments) != arity or vector is None or result(vector) is None:
                return None
            return signature(result(vector), *(a if isinstance(a, Vector) else vector.number for a in arguments))

    Operator.key = key
    infer_global(key)(Operator)

    def lower(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        vector = vector_among(sig.args)
        assert vector is not None
        return build(builder, vector, *spread(builder, sig.args, values, vector.lanes))

    for pattern in ([Vector],) if arity == 1 else ([Vector, Vector], [Vector, types.Any], [types.Any, Vector]):
        lower_builtin(key, *pattern)(lower)


def define_binary(key: Any, names: tuple[str, str, str]) -> None:
    """Define an arithmetic operator."""

    def name(vector: Vector) -> str:
        if vector.number == types.boolean and key not in LOGICAL:
            return ""
        return names[0 if vector.real else 1 + getattr(vector.number, "signed", False)]

    def build(builder: Any, vector: Vector, a: Any, b: Any) -> Any:
        return getattr(builder, name(vector))(a, b)

    define(key, 2, lambda vector: vector if name(vector) else None, build)


def define_comparison(key: Any, symbol: str) -> None:
    """Define a comparison. If an operand is NaN, ``!=`` is true and all other comparisons are false."""

    def build(builder: Any, vector: Vector, a: Any, b: Any) -> Any:
        if not vector.real:
            return (builder.icmp_signed if vector.number.signed else builder.icmp_unsigned)(symbol, a, b)
        return (builder.fcmp_unordered if symbol == "!=" else builder.fcmp_ordered)(symbol, a, b)

    define(key, 2, lambda vector: Vector(types.boolean, vector.lanes), build)


for key, names in BINARY.items():
    define_binary(key, names)
    in_place = getattr(operator, f"i{key.__name__.strip('_')}")
    define_binary(in_place, names)
for key, symbol in COMPARISONS.items():
    define_comparison(key, symbol)
define(operator.neg, 1, lambda v: v if v.real else None, lambda builder, v, a: builder.fneg(a))
define(operator.pos, 1, lambda v: v, lambda builder, v, a: a)
define(operator.invert, 1, lambda v: None if v.real else v, lambda builder, v, a: builder.not_(a))


# ------------------------------------------------------------------------------------------------------------ functions


def call(builder: Any, name: str, kind: Vector, values: list[Any]) -> Any:
    """Call an intrinsic function of LLVM on real vectors."""
    shape = ir.FunctionType(llvm(kind), [llvm(kind)] * len(values))
    full = f"llvm.{name}.v{kind.lanes}f{kind.number.bitwidth}"
    return builder.call(cgutils.get_or_insert_function(builder.module, shape, full), values)


@intrinsic
def fma(context: Any, x: Any, y: Any, z: Any) -> Any:
    """Return x y + z with a single rounding."""
    kind = vector_among((x, y, z))
    if kind is None or not kind.real:
        return None

    def build(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return call(builder, "fma", kind, spread(builder, sig.args, values, kind.lanes))

    return kind(*(a if isinstance(a, Vector) else kind.number for a in (x, y, z))), build


@intrinsic
def sqrt(context: Any, x: Any) -> Any:
    """Return the square root."""
    if not isinstance(x, Vector) or not x.real:
        return None
    return x(x), lambda context, builder, sig, values: call(builder, "sqrt", x, list(values))


@intrinsic
def where(context: Any, condition: Any, yes: Any, no: Any) -> Any:
    """Return ``yes`` where the condition holds and ``no`` elsewhere."""
    if not isinstance(condition, Vector):
        return None
    kind = vector_among((yes, no)) or Vector(types.float64, condition.lanes)
    if condition != Vector(types.boolean, kind.lanes):
        return None

    def build(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return builder.select(values[0], *spread(builder, sig.args[1:], values[1:], kind.lanes))

    return kind(condition, *(a if isinstance(a, Vector) else kind.number for a in (yes, no))), build


def reinterpret(number: Any) -> Any:
    """Return a function that reinterprets the bits of a vector as another type of the same width."""

    @intrinsic
    def reinterpreted(context: Any, x: Any) -> Any:
        kind = Vector(number, x.lanes)
        return kind(x), lambda context, builder, sig, values: builder.bitcast(values[0], llvm(kind))

    return reinterpreted


def convert(number: Any) -> Any:
    """Return a function that converts vectors to another type; conversion to integers rounds towards zero."""

    @intrinsic
    def converted(context: Any, x: Any) -> Any:
        kind, given = Vector(number, x.lanes), x.number
        real, was_real = isinstance(number, types.Float), isinstance(given, types.Float)
        longer = number.bitwidth > given.bitwidth
        signed = (number if was_real else given).signed if not (real and was_real) else True

        def build(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            if number == given or (not real and not was_real and number.bitwidth == given.bitwidth):
                return values[0]
            name = {
                (True, True): "fpext" if longer else "fptrunc",
                (False, True): "sitofp" if signed else "uitofp",
                (True, False): "fptosi" if signed else "fptoui",
                (False, False): ("sext" if signed else "zext") if longer else "trunc",
            }[was_real, real]
            return getattr(builder, name)(values[0], llvm(kind))

        return kind(x), build

    return converted


def iota(lanes: int) -> Any:
    """Return a function that returns the vector (0, 1, 2, ...) of 64-bit unsigned integers."""
    kind = Vector(types.uint64, lanes)

    @intrinsic
    def numbered(context: Any) -> Any:
        return kind(), lambda context, builder, sig, values: ir.Constant(llvm(kind), list(range(lanes)))

    return numbered

"""A Numba type for vectors of numbers, one lane for each chain, and views of memory that hold such vectors.

``Vector(number, lanes)`` is LLVM's ``<lanes x number>``: LLVM splits it into registers of whatever width the processor
has, so the same code runs on AVX-512, AVX2 and NEON. Arithmetic is IEEE's, lane by lane, and nothing is contracted or
reassociated, so the number of lanes does not change a bit of a result. Numbers mix with vectors and are broadcast.

``Values(number, lanes)`` is a view of memory, row after row of vectors; ``u[r, i]`` is the vector in row r, column i.
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

__all__ = [
    "LOCAL",
    "Row",
    "Values",
    "Vector",
    "convert",
    "fma",
    "iota",
    "length",
    "local",
    "numbers",
    "reinterpret",
    "row",
    "sqrt",
    "tail",
    "user_row",
    "view",
    "where",
]

# Vectors that `local` scratch holds.
LOCAL = 8


class Vector(types.Type):
    """Vector of numbers."""

    def __init__(self, number: Any, lanes: int) -> None:
        self.number, self.lanes = number, lanes
        super().__init__(f"Vector({number}, {lanes})")

    @property
    def real(self) -> bool:
        """Whether the lanes hold floating-point numbers."""
        return isinstance(self.number, types.Float)

    def can_convert_from(self, context: Any, other: Any) -> Any:
        """Let ``total = 0.0`` become a vector when one is added to it."""
        return Conversion.safe if isinstance(other, types.Number) else None

    def unify(self, context: Any, other: Any) -> Any:
        """A number and a vector make a vector."""
        return self if isinstance(other, types.Number) else None


def llvm(kind: Any) -> Any:
    """LLVM type of a number or a vector; a comparison gives one bit a lane."""
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
        """In a list a vector is an array of numbers: memory there is not aligned for vectors."""
        return ir.ArrayType(self.get_value_type().element, self.get_value_type().count)

    def as_data(self, builder: Any, value: Any) -> Any:
        """Vector to array."""
        data = ir.Constant(self.get_data_type(), ir.Undefined)
        for i in range(data.type.count):
            data = builder.insert_value(data, builder.extract_element(value, ir.IntType(32)(i)), i)
        return data

    def from_data(self, builder: Any, data: Any) -> Any:
        """Array to vector."""
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

# LLVM's instructions, for reals, unsigned and signed integers; "" where there is none.
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
# What there is for the results of comparisons.
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
    """Return the type of the vectors among the arguments if the operation has any, and they agree."""
    vectors = {kind for kind in arguments if isinstance(kind, Vector)}
    if len(vectors) != 1:
        return None
    vector = vectors.pop()
    scalar = types.Boolean if vector.number == types.boolean else types.Number
    return vector if all(isinstance(kind, (Vector, scalar)) for kind in arguments) else None


def define(key: Any, arity: int, result: Callable[[Vector], Any], build: Callable[..., Any]) -> None:
    """Define an operator: the type of its result, if it has one, and the instruction that computes it."""

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
    """Define a comparison; with NaN every one but != is false, as everywhere."""

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
    """Call one of LLVM's functions on real vectors."""
    shape = ir.FunctionType(llvm(kind), [llvm(kind)] * len(values))
    full = f"llvm.{name}.v{kind.lanes}f{kind.number.bitwidth}"
    return builder.call(cgutils.get_or_insert_function(builder.module, shape, full), values)


@intrinsic
def fma(context: Any, x: Any, y: Any, z: Any) -> Any:
    """x y + z, rounded once."""
    kind = vector_among((x, y, z))
    if kind is None or not kind.real:
        return None

    def build(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return call(builder, "fma", kind, spread(builder, sig.args, values, kind.lanes))

    return kind(*(a if isinstance(a, Vector) else kind.number for a in (x, y, z))), build


@intrinsic
def sqrt(context: Any, x: Any) -> Any:
    """Square root."""
    if not isinstance(x, Vector) or not x.real:
        return None
    return x(x), lambda context, builder, sig, values: call(builder, "sqrt", x, list(values))


@intrinsic
def where(context: Any, condition: Any, yes: Any, no: Any) -> Any:
    """Yes where the condition holds, no elsewhere."""
    if not isinstance(condition, Vector):
        return None
    kind = vector_among((yes, no)) or Vector(types.float64, condition.lanes)
    if condition != Vector(types.boolean, kind.lanes):
        return None

    def build(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return builder.select(values[0], *spread(builder, sig.args[1:], values[1:], kind.lanes))

    return kind(condition, *(a if isinstance(a, Vector) else kind.number for a in (yes, no))), build


def reinterpret(number: Any) -> Any:
    """Return the function that gives the bits of a vector another type of the same width."""

    @intrinsic
    def reinterpreted(context: Any, x: Any) -> Any:
        kind = Vector(number, x.lanes)
        return kind(x), lambda context, builder, sig, values: builder.bitcast(values[0], llvm(kind))

    return reinterpreted


def convert(number: Any) -> Any:
    """Return the function that converts numbers to another type: to the nearest real, or an integer towards zero."""

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
    """Return the function that gives (0, 1, 2, ...) as unsigned integers of 64 bits."""
    kind = Vector(types.uint64, lanes)

    @intrinsic
    def numbered(context: Any) -> Any:
        return kind(), lambda context, builder, sig, values: ir.Constant(llvm(kind), list(range(lanes)))

    return numbered


# --------------------------------------------------------------------------------------------------------------- memory


class Values(types.Type):
    """View of memory that holds vectors; whoever makes it keeps the memory."""

    def __init__(self, number: Any, lanes: int) -> None:
        self.vector = Vector(number, lanes)
        super().__init__(f"{type(self).__name__}({number}, {lanes})")


class Row(Values):
    """A row of values as a user's function sees it: like an array of shape (d,), a number's place taken by a vector."""

    def __init__(self, number: Any, lanes: int, writable: bool) -> None:
        self.writable = writable
        super().__init__(number, lanes)
        self.name += " to write" if writable else " to read"


@register_model(Row)
@register_model(Values)
class ValuesModel(models.StructModel):
    """A pointer to the first vector, and the number of vectors in a row."""

    def __init__(self, manager: Any, kind: Values) -> None:
        members = [("data", types.CPointer(kind.vector.number)), ("columns", types.intp)]
        super().__init__(manager, kind, members)


def struct(context: Any, builder: Any, kind: Values, value: Any = None) -> Any:
    """Access to the members of a view."""
    return cgutils.create_struct_proxy(kind)(context, builder, value)


def vector_pointer(context: Any, builder: Any, kind: Values, value: Any, index: Any) -> Any:
    """Address of vector number ``index`` of a view."""
    first = builder.gep(struct(context, builder, kind, value).data, [builder.mul(index, index.type(kind.vector.lanes))])
    return builder.bitcast(first, llvm(kind.vector).as_pointer())


def place(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    """Address of the vector at an index i, or (r, i)."""
    index = values[1]
    columns = struct(context, builder, sig.args[0], values[0]).columns
    if isinstance(sig.args[1], types.BaseTuple):
        r, i = cgutils.unpack_tuple(builder, index, 2)
        index = builder.add(builder.mul(r, columns), i)
    elif isinstance(sig.args[0], Row):
        from_end = builder.icmp_signed("<", index, index.type(0))
        index = builder.select(from_end, builder.add(index, columns), index)
    return vector_pointer(context, builder, sig.args[0], values[0], index)


def index_type(index: Any) -> Any:
    """Type to which an index is cast: i or (r, i); None if it is neither."""
    if isinstance(index, types.Integer):
        return types.intp
    pair = isinstance(index, types.BaseTuple) and len(index) == 2 and all(isinstance(i, types.Integer) for i in index)
    return types.UniTuple(types.intp, 2) if pair else None


@infer_global(operator.getitem)
class GetVector(AbstractTemplate):
    """Type of ``view[i]`` and ``view[r, i]``."""

    def generic(self, arguments: tuple[Any, ...], keywords: Any) -> Any:
        """Return a vector."""
        kind, index = arguments
        if isinstance(kind, Values) and index_type(index):
            return signature(kind.vector, kind, index_type(index))
        return None


@infer_global(operator.setitem)
class SetVector(AbstractTemplate):
    """Type of ``view[i] = x`` and ``view[r, i] = x``."""

    def generic(self, arguments: tuple[Any, ...], keywords: Any) -> Any:
        """Return nothing; numbers are broadcast."""
        kind, index, _ = arguments
        if isinstance(kind, Values) and index_type(index) and getattr(kind, "writable", True):
            return signature(types.none, kind, index_type(index), kind.vector)
        return None


@lower_builtin(operator.getitem, Values, types.Any)
def load(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    """Read a vector."""
    return builder.load(place(context, builder, sig, values), align=sig.args[0].vector.number.bitwidth // 8)


@lower_builtin(operator.setitem, Values, types.Any, types.Any)
def store(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    """Write a vector."""
    align = sig.args[0].vector.number.bitwidth // 8
    builder.store(values[2], place(context, builder, sig, values), align=align)
    return context.get_dummy_value()


def local(number: Any, lanes: int) -> Any:
    """Return the function that gives scratch for up to `LOCAL` vectors, in registers wherever the compiler can."""
    kind = Values(number, lanes)

    @intrinsic
    def scratch(context: Any, count: Any) -> Any:
        def build(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            made = struct(context, builder, kind)
            memory = cgutils.alloca_once(builder, ir.ArrayType(llvm(kind.vector), LOCAL))
            made.data = builder.bitcast(memory, llvm(number).as_pointer())
            made.columns = values[0]
            return made._getvalue()

        return kind(types.intp), build

    return scratch


def view(lanes: int) -> Any:
    """Return the function that views a contiguous array, from vector number ``first`` on, as rows of vectors."""

    @intrinsic
    def viewed(context: Any, array: Any, first: Any, columns: Any) -> Any:
        kind = Values(array.dtype, lanes)

        def build(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            made = struct(context, builder, kind)
            memory = context.make_array(array)(context, builder, values[0])
            made.data = builder.gep(memory.data, [builder.mul(values[1], values[1].type(lanes))])
            made.columns = values[2]
            return made._getvalue()

        return kind(array, types.intp, types.intp), build

    return viewed


@intrinsic
def numbers(context: Any, values: Any) -> Any:
    """Pointer to the numbers of a view, lane by lane."""
    if not isinstance(values, Values):
        return None

    def build(context: Any, builder: Any, sig: Any, given: Any) -> Any:
        return struct(context, builder, values, given[0]).data

    return types.CPointer(values.vector.number)(values), build


def user_row(writable: bool) -> Any:
    """Return the function that views the first d vectors as a user's function sees them."""

    @intrinsic
    def rows(context: Any, values: Any, d: Any) -> Any:
        kind = Row(values.vector.number, values.vector.lanes, writable)

        def build(context: Any, builder: Any, sig: Any, given: Any) -> Any:
            made = struct(context, builder, kind)
            made.data, made.columns = struct(context, builder, values, given[0]).data, given[1]
            return made._getvalue()

        return kind(values, types.intp), build

    return rows


@intrinsic
def length(context: Any, row: Any) -> Any:
    """Number of vectors in a row."""

    def build(context: Any, builder: Any, sig: Any, given: Any) -> Any:
        return struct(context, builder, row, given[0]).columns

    return types.intp(row), build


def moved(context: Any, builder: Any, kind: Values, value: Any, index: Any) -> Any:
    """View that begins with vector number ``index``."""
    made = struct(context, builder, kind)
    old = struct(context, builder, kind, value)
    made.data = builder.gep(old.data, [builder.mul(index, index.type(kind.vector.lanes))])
    made.columns = old.columns
    return made._getvalue()


@intrinsic
def tail(context: Any, values: Any, first: Any) -> Any:
    """View of the vectors from number ``first`` on."""
    if not isinstance(values, Values):
        return None

    def build(context: Any, builder: Any, sig: Any, given: Any) -> Any:
        return moved(context, builder, values, given[0], given[1])

    return values(values, types.intp), build


@intrinsic
def row(context: Any, values: Any, r: Any) -> Any:
    """View of row r."""
    if not isinstance(values, Values):
        return None

    def build(context: Any, builder: Any, sig: Any, given: Any) -> Any:
        columns = struct(context, builder, values, given[0]).columns
        return moved(context, builder, values, given[0], builder.mul(given[1], columns))

    return values(values, types.intp), build

"""Numba types for views of memory that holds vectors, and for the arguments of a user's score on vectors.

``Values(number, lanes)`` is a view of memory as rows of vectors; ``u[r, i]`` is the vector in row r and column i.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from uldnum.jit.vectors import Vector, llvm

__all__ = ["Row", "Values", "borrowed", "length", "local", "numbers", "row", "tail", "user_row", "view"]


class Values(types.Type):
    """Type of a view of memory that holds vectors. A view does not own the memory."""

    def __init__(self, number: Any, lanes: int) -> None:
        self.vector = self.result = Vector(number, lanes)
        super().__init__(f"{type(self).__name__}({number}, {lanes})")


class Row(Values):
    """Type of the argument of a user's function: like an array of shape (d,), with a vector in place of each number.

    If ``double``, the numbers are converted to float64 when they are read.
    """

    def __init__(self, number: Any, lanes: int, writable: bool, double: bool = False) -> None:
        self.writable = writable
        super().__init__(number, lanes)
        self.result = Vector(types.float64, lanes) if double else self.vector
        self.name += (" to write" if writable else " to read") + (" as float64" if double else "")


@register_model(Row)
@register_model(Values)
class ValuesModel(models.StructModel):
    """Memory model of a view: a pointer to the first vector, and the number of vectors in a row."""

    def __init__(self, manager: Any, kind: Values) -> None:
        members = [("data", types.CPointer(kind.vector.number)), ("columns", types.intp)]
        super().__init__(manager, kind, members)


def struct(context: Any, builder: Any, kind: Values, value: Any = None) -> Any:
    """Return a proxy with access to the members of a view."""
    return cgutils.create_struct_proxy(kind)(context, builder, value)


def address(builder: Any, data: Any, index: Any, lanes: int) -> Any:
    """Return the address of the first number of vector number ``index``."""
    return builder.gep(data, [builder.mul(index, index.type(lanes))])


def place(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    """Return the address of the vector at an index i or (r, i)."""
    index, vector = values[1], sig.args[0].vector
    view = struct(context, builder, sig.args[0], values[0])
    data, columns = view.data, view.columns
    if isinstance(sig.args[1], types.BaseTuple):
        r, i = cgutils.unpack_tuple(builder, index, 2)
        index = builder.add(builder.mul(r, columns), i)
    elif isinstance(sig.args[0], Row):
        from_end = builder.icmp_signed("<", index, index.type(0))
        index = builder.select(from_end, builder.add(index, columns), index)
    return builder.bitcast(address(builder, data, index, vector.lanes), llvm(vector).as_pointer())


def index_type(index: Any) -> Any:
    """Return the type to which an index i or (r, i) is cast, or None for any other index."""
    if isinstance(index, types.Integer):
        return types.intp
    pair = isinstance(index, types.BaseTuple) and len(index) == 2 and all(isinstance(i, types.Integer) for i in index)
    return types.UniTuple(types.intp, 2) if pair else None


@infer_global(operator.getitem)
class GetVector(AbstractTemplate):
    """Typing of ``view[i]`` and ``view[r, i]``."""

    def generic(self, arguments: tuple[Any, ...], keywords: Any) -> Any:
        """Return the signature, whose result is a vector."""
        kind, index = arguments
        if isinstance(kind, Values) and index_type(index):
            return signature(kind.result, kind, index_type(index))
        return None


@infer_global(operator.setitem)
class SetVector(AbstractTemplate):
    """Typing of ``view[i] = x`` and ``view[r, i] = x``."""

    def generic(self, arguments: tuple[Any, ...], keywords: Any) -> Any:
        """Return the signature, in which x is a vector; Numba broadcasts numbers."""
        kind, index, _ = arguments
        if isinstance(kind, Values) and index_type(index) and getattr(kind, "writable", True):
            return signature(types.none, kind, index_type(index), kind.vector)
        return None


@lower_builtin(operator.getitem, Values, types.Any)
def load(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    """Read a vector."""
    kind = sig.args[0]
    vector = builder.load(place(context, builder, sig, values), align=kind.vector.number.bitwidth // 8)
    return vector if kind.result == kind.vector else builder.fpext(vector, llvm(kind.result))


@lower_builtin(operator.setitem, Values, types.Any, types.Any)
def store(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    """Write a vector."""
    align = sig.args[0].vector.number.bitwidth // 8
    builder.store(values[2], place(context, builder, sig, values), align=align)
    return context.get_dummy_value()


def local(number: Any, lanes: int, most: int) -> Any:
    """Return a function that allocates scratch for at most ``most`` vectors, in registers where possible."""
    kind = Values(number, lanes)

    @intrinsic
    def scratch(context: Any, count: Any) -> Any:
        def build(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            made = struct(context, builder, kind)
            memory = cgutils.alloca_once(builder, ir.ArrayType(llvm(kind.vector), most))
            made.data = builder.bitcast(memory, llvm(number).as_pointer())
            made.columns = values[0]
            return made._getvalue()

        return kind(types.intp), build

    return scratch


def view(lanes: int) -> Any:
    """Return a function that views a contiguous array as rows of vectors, starting at vector number ``first``."""

    @intrinsic
    def viewed(context: Any, array: Any, first: Any, columns: Any) -> Any:
        kind = Values(array.dtype, lanes)

        def build(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            made = struct(context, builder, kind)
            memory = context.make_array(array)(context, builder, values[0])
            made.data = address(builder, memory.data, values[1], lanes)
            made.columns = values[2]
            return made._getvalue()

        return kind(array, types.intp, types.intp), build

    return viewed


def without_owner(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Return an array, or a tuple and the arrays in it, without reference counts."""
    if isinstance(kind, types.BaseTuple):
        parts = cgutils.unpack_tuple(builder, value, len(kind))
        return context.make_tuple(
            builder, kind, [without_owner(context, builder, *part) for part in zip(kind.types, parts, strict=True)]
        )
    if not isinstance(kind, types.Array):
        return value
    made = context.make_array(kind)(context, builder, value)
    made.meminfo = cgutils.get_null_value(made.meminfo.type)
    made.parent = cgutils.get_null_value(made.parent.type)
    return made._getvalue()


@intrinsic
def borrowed(context: Any, value: Any) -> Any:
    """Return an array, or a tuple of arrays, without its reference counts; the caller keeps the arrays alive.

    Counting references would cost as much as a time step.
    """
    return value(value), lambda context, builder, sig, given: without_owner(context, builder, value, given[0])


@intrinsic
def numbers(context: Any, values: Any) -> Any:
    """Return a pointer to the numbers of a view; the numbers of a vector are adjacent."""
    if not isinstance(values, Values):
        return None

    def build(context: Any, builder: Any, sig: Any, given: Any) -> Any:
        return struct(context, builder, values, given[0]).data

    return types.CPointer(values.vector.number)(values), build


def user_row(writable: bool, double: bool = False) -> Any:
    """Return a function that views the first d vectors as the argument of a user's function (`Row`)."""

    @intrinsic
    def rows(context: Any, values: Any, d: Any) -> Any:
        kind = Row(values.vector.number, values.vector.lanes, writable, double)

        def build(context: Any, builder: Any, sig: Any, given: Any) -> Any:
            made = struct(context, builder, kind)
            made.data, made.columns = struct(context, builder, values, given[0]).data, given[1]
            return made._getvalue()

        return kind(values, types.intp), build

    return rows


@intrinsic
def length(context: Any, row: Any) -> Any:
    """Return the number of vectors in a row."""

    def build(context: Any, builder: Any, sig: Any, given: Any) -> Any:
        return struct(context, builder, row, given[0]).columns

    return types.intp(row), build


def moved(context: Any, builder: Any, kind: Values, value: Any, index: Any) -> Any:
    """Return a view that starts at vector number ``index``."""
    made = struct(context, builder, kind)
    old = struct(context, builder, kind, value)
    made.data = address(builder, old.data, index, kind.vector.lanes)
    made.columns = old.columns
    return made._getvalue()


@intrinsic
def tail(context: Any, values: Any, first: Any) -> Any:
    """Return a view that starts at vector number ``first``."""
    if not isinstance(values, Values):
        return None

    def build(context: Any, builder: Any, sig: Any, given: Any) -> Any:
        return moved(context, builder, values, given[0], given[1])

    return values(values, types.intp), build


@intrinsic
def row(context: Any, values: Any, r: Any) -> Any:
    """Return a view of row r."""
    if not isinstance(values, Values):
        return None

    def build(context: Any, builder: Any, sig: Any, given: Any) -> Any:
        columns = struct(context, builder, values, given[0]).columns
        return moved(context, builder, values, given[0], builder.mul(given[1], columns))

    return values(values, types.intp), build

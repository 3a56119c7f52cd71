"""Estimate of the least time per step that the processor allows.

The operations of a step are counted by running the kernel source on objects that count. The estimate assumes that

* multiplications run at the measured rate of fused multiply-adds;
* all operations together run at the measured rate of a mixture of multiply-adds and additions, and the slower of these
  two rates determines the time;
* divisions and square roots add their measured times;
* loads and stores take no time.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numba
import numpy as np

import uldnum
from uldnum._util.typing import Array
from uldnum.jit import values, vectors
from uldnum.kernels.source.core import lay_out, make_core, phase
from uldnum.kernels.source.functions import Ops

__all__ = ["limit"]


class Tally:
    """A value of a given size that counts, by kind of operation, the bytes on which operations act."""

    __array_ufunc__ = None
    bytes: dict[str, int]

    def __init__(self, size: int, bytes: dict[str, int]) -> None:
        self.size, self.bytes = size, bytes

    def count(self, kind: str = "simple", size: int | None = None) -> Tally:
        """Count an operation and return its result."""
        self.bytes[kind] = self.bytes.get(kind, 0) + self.size
        return Tally(size or self.size, self.bytes)

    def simple(self, *_: Any) -> Tally:
        """Count an operation other than a multiplication or division, and return its result."""
        return self.count()

    def __mul__(self, other: Any) -> Tally:
        return self.count("product")

    __rmul__ = __mul__
    __add__ = __radd__ = __sub__ = __rsub__ = __neg__ = simple
    __and__ = __rand__ = __or__ = __xor__ = __rxor__ = __lshift__ = __rshift__ = simple
    __lt__ = __le__ = __gt__ = __ge__ = simple

    def __eq__(self, other: object) -> Any:
        return self.count()

    def __ne__(self, other: object) -> Any:
        return self.count()

    def __truediv__(self, other: Any) -> Tally:
        return self.count("division")

    __rtruediv__ = __truediv__


def counting(dtype: type) -> Ops:
    """Return the elementary operations of the kernel source in a version that counts."""
    size = np.dtype(dtype).itemsize

    def first(*values: Any) -> Tally:
        return next(value for value in values if isinstance(value, Tally))

    def same(value: Tally) -> Tally:
        return value

    return Ops(
        jit=lambda function: function,
        inline=lambda function: function,
        real=dtype,
        constant=dtype,
        fma=lambda x, y, z: first(x, y, z).count("product"),
        sqrt=lambda x: x.count("root"),
        quotient=lambda x, y: first(x, y).count("division"),
        root=lambda x: x.count("root"),
        where=lambda condition, yes, no: first(condition, yes, no).count(),
        larger=lambda x, y: first(x, y).count(),
        as_real=lambda value: value.count(size=size),
        as_double=lambda value: value.count(size=8),
        as_index=lambda value: value.count(),
        as_word=lambda value: value if value.size == size else value.count(size=size),
        bits=same,
        signed=same,
        from_bits=same,
        wide=lambda x, y: y.count().count("product"),
        row=lambda table, r: table[r],
        tail=lambda values, j: values[j:],
        local=lambda count: [dtype(0)] * count,
    )


def operations(case: uldnum.GaussianMixture, dtype: type) -> dict[str, float]:
    """Return the bytes per chain and step of BAOA on which each kind of operation acts."""
    kind, d = np.dtype(dtype), case.shape[0]
    core, step = make_core(counting(dtype)), uldnum.integrator("BAOA").stages(np.array([0.1]))
    size, t = kind.itemsize, phase(lay_out([step], kind), 0, 0)

    def values(n: int, total: dict[str, int]) -> list[Tally]:
        return [Tally(size, total) for _ in range(n)]

    noise: dict[str, int] = {}
    zero, key = np.uint64(0), np.uint64(1)
    words = core.words(zero, Tally(8, noise), zero, key, key)
    for w0, w1 in (words[:2], words[2:]):
        core.box_muller(w0, w1)
    rest: dict[str, int] = {}
    data = case.kernel_data(kind)
    u = {(r, i): Tally(size, rest) for r in range(2) for i in range(d)}
    y, s, q, xi = values(d, rest), values(d, rest), values(len(data.log2_weights), rest), values(d, rest)
    core.mixture_score(s, q, y, data, d, data.roots.shape[2], data.apart)
    core.affine(u, u, s, xi, xi, t, 0, d, 2, 2, 1, 0)
    return {name: noise.get(name, 0) * d / 4 + rest.get(name, 0) for name in noise | rest}


@cache
def seconds_per_byte(kind: str, dtype: type) -> float:
    """Return the measured time in seconds per byte of a vector operation on one thread."""
    lanes, chains, one = 512 // np.dtype(dtype).itemsize, 2, dtype(1)
    view = values.view(lanes)

    @numba.njit(error_model="numpy")
    def repeat(memory, times):  # type: ignore[no-untyped-def]
        a, b = view(memory, 0, 1)[0], view(memory, 1, 1)[0]
        for _ in range(times):
            if kind == "product":
                a, b = vectors.fma(a, a, a), vectors.fma(b, b, b)
            elif kind == "simple":
                a, b = vectors.fma(a, a, a), b + one
            elif kind == "division":
                a, b = one / a, one / b
            else:
                a, b = vectors.sqrt(a), vectors.sqrt(b)
        view(memory, 0, 1)[0], view(memory, 1, 1)[0] = a, b

    memory: Array = np.ones(chains * lanes, dtype)
    times = 200_000
    repeat(memory, 1)
    taken = []
    for _ in range(5):
        begun = time.perf_counter()
        repeat(memory, times)
        taken.append(time.perf_counter() - begun)
    return min(taken) / times / memory.nbytes


def limit(case: uldnum.GaussianMixture, dtype: type) -> float:
    """Return the estimated least time of one step of one chain on one thread, in nanoseconds."""
    counted = operations(case, dtype)
    cost = {kind: count * seconds_per_byte(kind, dtype) for kind, count in counted.items()}
    every = (counted["product"] + counted["simple"]) * seconds_per_byte("simple", dtype)
    return 1e9 * (max(cost["product"], every) + cost["division"] + cost["root"])

"""Elementary functions whose float64 results do not depend on the processor.

NumPy and the C library compute exponentials and logarithms by different methods on different processors, so their last
bits differ. The functions below use only additions, subtractions, multiplications, divisions and square roots, which
IEEE 754 defines exactly, in a fixed order. They compute everything on which a chain depends.

Intermediate results are unevaluated sums ``high + low`` of two float64 numbers (Dekker 1971; Knuth, TAOCP 2, sec.
4.2.2). Rounded results have errors of at most 0.5000002 units in the last place (ulp), or 0.501 ulp for `power`; they
are therefore correctly rounded except near ties. Subnormal results have errors of at most 1 ulp.

Arguments are numbers or arrays. For arrays of objects, such as numbers of higher precision (`uldnum.exact.precise`),
the functions call the methods of the elements, as NumPy does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, reduce, wraps
from typing import Any, NamedTuple

import numpy as np

from uldnum._util.typing import Array, ArrayLike

__all__ = ["LN2", "cos", "exp", "expm1", "geomspace", "hypot", "interp", "log", "log1p", "log2", "power", "sin", "tanh"]


class Pair(NamedTuple):
    """The unevaluated sum of two float64 arrays; |low| is at most half a unit in the last place of high."""

    high: Any
    low: Any


# ------------------------------------------------------------------------------------------- arithmetic with pairs


def ordered(a: Any, b: Any) -> Pair:
    """Return a + b without rounding error, for |a| >= |b| or a = 0."""
    total = a + b
    return Pair(total, b - (total - a))


def exact_sum(a: Any, b: Any) -> Pair:
    """Return a + b without rounding error."""
    total = a + b
    part = total - a
    return Pair(total, (a - (total - part)) + (b - part))


def halves(a: Any) -> tuple[Any, Any]:
    """Split a number into two parts of at most 26 bits each."""
    big = 134217729.0 * a  # 2^27 + 1
    high = big - (big - a)
    return high, a - high


def exact_product(a: Any, b: Any) -> Pair:
    """Return a b without rounding error, unless it overflows or underflows."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = halves(a), halves(b)
    return Pair(product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low)


def plus(a: Pair, b: Pair) -> Pair:
    """Return a + b; the sum must not cancel."""
    total = exact_sum(a.high, b.high)
    return ordered(total.high, total.low + (a.low + b.low))


def times(a: Pair, b: Pair) -> Pair:
    """Return the product a b."""
    product = exact_product(a.high, b.high)
    return ordered(product.high, product.low + (a.high * b.low + a.low * b.high))


def over(a: Pair, b: Pair) -> Pair:
    """Return the quotient a/b."""
    quotient = a.high / b.high
    back = exact_product(quotient, b.high)
    return ordered(quotient, ((a.high - back.high) - back.low + a.low - quotient * b.low) / b.high)


def polynomial(x: Any, coefficients: list[float]) -> Any:
    """Evaluate a polynomial by Horner's rule; coefficients start at power 0."""
    return reduce(lambda total, coefficient: total * x + coefficient, reversed(coefficients[:-1]), coefficients[-1])


# ------------------------------------------------------------------------------------------------------- constants

# Constants are integers in units of 2^-LONG for the reduction of angles up to 2^1024, and of 2^-SHORT otherwise.
LONG, SHORT = 1300, 200

# Number of intervals into which the tables divide a factor of 2.
STEPS = 1024


def inverse_tangents(x: int, sign: int, bits: int) -> int:
    """Return the sum of sign^k x^-(2k+1)/(2k+1) over k, which is artanh(1/x) for sign 1 and arctan(1/x) for -1."""
    total, k, term, factor = 0, 0, (1 << bits) // x, 1
    while term:
        total += factor * (term // (2 * k + 1))
        k, term, factor = k + 1, term // (x * x), factor * sign
    return total


def in_pieces(fixed: int, bits: int, *sizes: int) -> list[float]:
    """Split a constant into floating-point numbers of the given numbers of bits, and the remainder."""
    pieces = []
    for size in sizes:
        drop = max(0, fixed.bit_length() - size)
        piece = fixed >> drop << drop
        pieces.append(piece / (1 << bits))
        fixed -= piece
    return [*pieces, fixed / (1 << bits)]


LN2_FIXED = 2 * inverse_tangents(3, 1, SHORT)
HALF_PI_FIXED = 2 * (4 * inverse_tangents(5, -1, LONG) - inverse_tangents(239, -1, LONG))  # Machin's formula
LN2 = LN2_FIXED / (1 << SHORT)
INVERSE_LN2 = Pair(*in_pieces((1 << 2 * SHORT) // LN2_FIXED, SHORT, 53))
# Exponents have at most 11 bits and numbers of intervals at most 21, so their products with these pieces are exact.
LN2_PIECES = in_pieces(LN2_FIXED, SHORT, 40, 40)
STEP_PIECES = in_pieces(LN2_FIXED // STEPS, SHORT, 31, 31)


def table(values: list[int]) -> Pair:
    """Convert fixed-point constants to a pair of arrays."""
    high, low = np.array([in_pieces(value, SHORT, 53) for value in values]).T
    return Pair(high, low)


@cache
def powers() -> Pair:
    """Return the table of 2^(j/STEPS) for j = 0 ... STEPS - 1."""
    root = 2 << SHORT
    for _ in range(STEPS.bit_length() - 1):
        root = math.isqrt(root << SHORT)
    values = [1 << SHORT]
    while len(values) < STEPS:
        values.append(values[-1] * root >> SHORT)
    return table(values)


# Smallest and largest index in the table of logarithms: STEPS/2^(1/2) and STEPS 2^(1/2), rounded.
FIRST, LAST = 724, 1448


@cache
def logarithms() -> Pair:
    """Return the table of log(i/STEPS) for i = FIRST ... LAST."""
    values = [0]
    for i in range(FIRST, LAST):
        values.append(values[-1] + 2 * inverse_tangents(2 * i + 1, 1, SHORT))  # log((i + 1)/i)
    return table([value - values[STEPS - FIRST] for value in values])


# ------------------------------------------------------------------------------------------------------- functions


def elementary(function: Callable[..., Any]) -> Callable[..., Any]:
    """Extend a function of float64 arrays to all arguments that NumPy's function of the same name accepts."""

    @wraps(function)
    def general(*arguments: Any) -> Any:
        arrays = [np.asarray(argument) for argument in arguments]
        if any(array.dtype == object for array in arrays):
            return getattr(np, function.__name__)(*arguments)
        with np.errstate(all="ignore"):  # both branches of `numpy.where` are computed
            value = function(*(array.astype(np.float64)[()] for array in arrays))  # scalars are faster than 0-d arrays
        return np.asarray(value)[()]

    return general


def bounded(x: Any) -> Any:
    """Clip x to [-800, 800], beyond which exp underflows or overflows, and replace NaN by 0."""
    return np.where(np.isnan(x), 0.0, np.minimum(np.maximum(x, -800.0), 800.0))


def reduced_exp(x: Any, low: Any = 0.0) -> tuple[Any, Pair, Pair]:
    """Return n, t and p of ``exp(x + low) = 2^n t (1 + p)``, for |x| <= 800.

    For |x| < 2^-12, n = 0 and t = 1, so that p is exp(x + low) - 1 with a relative error of 2^-77.
    """
    steps = np.rint(x * (STEPS * INVERSE_LN2.high))
    # x is 2^n t = 2^(steps/STEPS) times exp(r), |r| < 2^-11.
    first = exact_sum(x, -steps * STEP_PIECES[0])
    second = exact_sum(first.high, -steps * STEP_PIECES[1])
    r = ordered(second.high, second.low + (first.low - steps * STEP_PIECES[2] + low))
    square = exact_product(r.high, r.high)
    tail = r.high * square.high * polynomial(r.high, [1 / 6, 1 / 24, 1 / 120, 1 / 720])
    begin = ordered(r.high, square.high / 2)
    p = ordered(begin.high, begin.low + (r.low + square.low / 2 + r.high * r.low + tail))
    whole = np.asarray(steps, np.int64)
    entry, known = whole % STEPS, powers()
    return whole // STEPS, Pair(known.high[entry], known.low[entry]), p


def exp_pair(x: Any, low: Any = 0.0) -> tuple[Any, Pair]:
    """Return n and m of ``exp(x + low) = 2^n m`` with 1/2 < m < 4."""
    n, t, p = reduced_exp(x, low)
    return n, plus(t, times(t, p))


def expm1_pair(x: Any) -> Pair:
    """Return exp(x) - 1 as a pair."""
    n, t, p = reduced_exp(x)
    m = plus(t, times(t, p))
    less = exact_sum(np.ldexp(m.high, n), -1.0)
    less = ordered(less.high, less.low + np.ldexp(m.low, n))
    small = (n == 0) & (t.high == 1)
    high = np.where(n > 150, np.ldexp(m.high, n), less.high)  # where ``less`` may have overflowed
    return Pair(np.where(small, p.high, high), np.where(small, p.low, less.low))


# For smaller |x|, exp(x) - 1, log(1 + x) and tanh(x) round to x.
TINY = 1e-17


@elementary
def exp(x: Any) -> Any:
    """Return e^x."""
    n, m = exp_pair(bounded(x))
    return np.where(np.isnan(x), x, np.ldexp(m.high, n))


@elementary
def expm1(x: Any) -> Any:
    """Return e^x - 1 without cancellation for small x."""
    return np.where(np.isnan(x) | (np.abs(x) < TINY), x, expm1_pair(bounded(x)).high)


@elementary
def tanh(x: Any) -> Any:
    """Return the hyperbolic tangent."""
    change = expm1_pair(-2 * np.minimum(np.abs(bounded(x)), 50.0))
    value = -over(change, plus(Pair(2.0, 0.0), change)).high
    return np.where(np.isnan(x) | (np.abs(x) < TINY), x, np.copysign(value, x))


def regular(x: Any) -> Any:
    """Return x, with 1 in place of values that are not positive and finite."""
    return np.where((x > 0) & (x < np.inf), x, 1.0)


def logarithm(x: Any, value: Any) -> Any:
    """Return ``value`` where x is positive and finite, and the result of NumPy's logarithm elsewhere."""
    special = np.where(x == 0, -np.inf, np.where(x == np.inf, np.inf, np.nan))
    return np.where((x > 0) & (x < np.inf), value, special)


def reduced_log(x: Any, low: Any = 0.0) -> tuple[Any, Pair]:
    """Return n and l of ``log(x + low) = n log 2 + l`` with |l| <= log(2)/2, for positive, finite x."""
    m, n = np.frexp(x)
    m, n = np.where(m < math.sqrt(0.5), 2 * m, m), n - (m < math.sqrt(0.5))
    index = np.rint(m * STEPS)
    # m is index/STEPS times 1 + f, |f| < 2^-10.
    above = ordered(m * STEPS - index, np.ldexp(low, -n) * STEPS)
    f = over(above, Pair(index, 0.0))
    square = exact_product(f.high, f.high)
    tail = f.high * square.high * polynomial(f.high, [1 / 3, -1 / 4, 1 / 5, -1 / 6, 1 / 7, -1 / 8])
    begin = ordered(f.high, -square.high / 2)
    log1p_f = ordered(begin.high, begin.low + (f.low - square.low / 2 - f.high * f.low + tail))
    entry, known = np.asarray(index, np.int64) - FIRST, logarithms()
    return n, plus(Pair(known.high[entry], known.low[entry]), log1p_f)


def log_pair(x: Any, low: Any = 0.0) -> Pair:
    """Return log(x + low) as a pair, for positive, finite x."""
    n, rest = reduced_log(x, low)
    multiple = exact_sum(n * LN2_PIECES[0], n * LN2_PIECES[1])
    return plus(ordered(multiple.high, multiple.low + n * LN2_PIECES[2]), rest)


@elementary
def log(x: Any) -> Any:
    """Return the natural logarithm."""
    return logarithm(x, log_pair(regular(x)).high)


@elementary
def log2(x: Any) -> Any:
    """Return the logarithm to base 2, which is exact for powers of 2."""
    n, rest = reduced_log(regular(x))
    return logarithm(x, plus(Pair(n * 1.0, 0.0), times(rest, INVERSE_LN2)).high)


@elementary
def log1p(x: Any) -> Any:
    """Return log(1 + x) without cancellation for small x."""
    whole = exact_sum(1.0, np.where((x > -1) & (x < np.inf), x, 0.0))
    return np.where(np.abs(x) < TINY, x, logarithm(1 + x, log_pair(whole.high, whole.low).high))


@elementary
def power(x: Any, y: Any) -> Any:
    """Return x^y for x >= 0."""
    # Logarithms lie between 1e-16 and 745. With y clipped, products are finite, and exp still under- or overflows.
    product = times(log_pair(regular(x)), Pair(np.minimum(np.maximum(y, -1e290), 1e290), 0.0))
    n, m = exp_pair(bounded(product.high), np.where(np.abs(product.high) < 800, product.low, 0.0))
    at_end = np.where((x == 0) == (y > 0), 0.0, np.inf)
    value = np.where((x == 0) | (x == np.inf), at_end, np.ldexp(m.high, n))
    value = np.where((x >= 0) & ~np.isnan(y), value, np.nan)
    return np.where((y == 0) | (x == 1), 1.0, value)


def reduced_angle(x: float) -> tuple[int, float, float]:
    """Return q and a pair r with ``x = q pi/2 + r``, |r| <= pi/4."""
    if not math.isfinite(x):
        return 0, math.nan, math.nan
    numerator, denominator = x.as_integer_ratio()
    quarters, rest = divmod((numerator << LONG) // denominator + HALF_PI_FIXED // 2, HALF_PI_FIXED)
    high, low = in_pieces(rest - HALF_PI_FIXED // 2, LONG, 53)
    return quarters % 4, high, low


def alternating(z: Pair, first: int) -> Pair:
    """Return the sum of (-z)^k/(2k + first)! over k, for z < 1."""
    terms = [in_pieces(-(1 << SHORT) // math.factorial(n), SHORT, 53) for n in range(first, first + 26, 2)]
    signed = [Pair(*(part if k % 2 else -part for part in term)) for k, term in enumerate(terms)]
    return reduce(lambda total, term: plus(term, times(z, total)), reversed(signed[:-1]), signed[-1])


def turned(x: Any, quarters: int) -> Any:
    """Return the sine of x plus a number of quarter turns."""
    parts = np.array([reduced_angle(float(angle)) for angle in np.ravel(x)]).reshape(-1, 3)
    quadrant, r = (parts[:, 0] + quarters) % 4, Pair(parts[:, 1], parts[:, 2])
    z = times(r, r)
    value = np.where(quadrant % 2, alternating(z, 0).high, times(r, alternating(z, 1)).high)
    return np.where(quadrant >= 2, -value, value).reshape(np.shape(x))


@elementary
def sin(x: Any) -> Any:
    """Return the sine."""
    return np.where(x == 0, x, turned(x, 0))


@elementary
def cos(x: Any) -> Any:
    """Return the cosine."""
    return turned(x, 1)


# ------------------------------------------------------------------------------------ composed of the functions above


@elementary
def hypot(x: Any, y: Any) -> Any:
    """Return (x^2 + y^2)^(1/2) within 1 ulp, without overflow or underflow of the squares."""
    _, n = np.frexp(np.maximum(np.abs(x), np.abs(y)))
    return np.ldexp(np.sqrt(np.square(np.ldexp(x, -n)) + np.square(np.ldexp(y, -n))), n)


def geomspace(first: float, last: float, count: int) -> Array:
    """Return ``count`` numbers from first to last, inclusive, with a constant ratio; both must be positive."""
    inner = first * power(last / first, np.arange(1, count - 1) / (count - 1))
    return np.array([first, *inner, last][:count])


def interp(x: ArrayLike, places: Array, values: Array) -> Any:
    """Interpolate linearly between values at increasing places; the result is constant outside of them."""
    at = np.asarray(x, dtype=float)
    i = np.clip(np.searchsorted(places, at, side="right") - 1, 0, len(places) - 2)
    with np.errstate(all="ignore"):
        share = (at - places[i]) / (places[i + 1] - places[i])
        inside = values[i] + share * (values[i + 1] - values[i])
    return np.where(at <= places[0], values[0], np.where(at >= places[-1], values[-1], inside))[()]

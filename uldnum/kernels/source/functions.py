"""Elementary functions as polynomials with an explicit order of fused multiply-adds, identical on all backends.

The polynomials interpolate at Chebyshev points; their coefficients were computed with 60 digits. Error bounds are given
in units in the last place (ulp) and are tested against mpmath at a million random points (`tests/test_functions.py`).
The array executor has no fused multiply-add, so its results differ in the last bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from uldnum.arithmetic import elementary

__all__ = ["FORMATS", "Ops", "make_functions", "make_newton", "make_total_functions"]


class Ops(NamedTuple):
    """Operations that the source needs from a backend; they act on values (arrays, vectors or scalars)."""

    jit: Callable[..., Any]  # compiles a function, or returns it unchanged
    inline: Callable[..., Any]  # copies a function into its callers before they are compiled, or returns it unchanged
    real: Any  # NumPy floating-point type of the state
    constant: Callable[..., Any]  # converts a number to a constant of that type
    fma: Callable[..., Any]  # x y + z, with one rounding where the hardware has the instruction
    sqrt: Callable[..., Any]
    quotient: Callable[..., Any]  # x / y for 1 <= y <= 2^100, where x / y is 0 or a normal number
    root: Callable[..., Any]  # square root of 0, or of a number from 2^-100 to 2^100
    where: Callable[..., Any]
    larger: Callable[..., Any]  # the larger of two numbers; either of them if one is NaN
    as_real: Callable[..., Any]  # integer -> real
    as_double: Callable[..., Any]  # real -> float64
    as_index: Callable[..., Any]  # float64 -> int64, rounded towards zero
    as_word: Callable[..., Any]  # uint64 -> unsigned integer of the width of a real
    bits: Callable[..., Any]  # real -> unsigned integer with the same bits
    signed: Callable[..., Any]  # unsigned integer -> signed integer with the same bits
    from_bits: Callable[..., Any]  # unsigned integer -> real with the same bits
    wide: Callable[..., Any]  # product of the low 32 bits of two 64-bit integers
    row: Callable[..., Any]  # row r of a table of values
    tail: Callable[..., Any]  # values from index j on
    local: Callable[..., Any]  # scratch memory for a few reals
    # Functions of this module that the backend replaces by its own.
    instead: Mapping[str, Callable[..., Any]] = MappingProxyType({})


class Format(NamedTuple):
    """A floating-point format, and the constants of the elementary functions in that format."""

    word: Any  # unsigned integer of the same width
    mantissa: int  # number of mantissa bits
    width: int  # number of bits
    least: float  # smallest argument for which exp is a normal number
    least_power: float  # smallest argument of exp2, large enough that products with the result are normal numbers
    ln2: tuple[float, float]  # ln 2 in two parts; the product of the first with an exponent is exact
    half_pi: tuple[float, float, float]  # pi/2 in three parts; products of the first two with a turn count are exact
    sin: tuple[float, ...]  # (sin(r)/r - 1)/r^2 in powers of r^2, |r| <= pi/4
    cos: tuple[float, ...]  # ((cos(r) - 1)/r^2 + 1/2)/r^2
    log: tuple[float, ...]  # 2 (artanh(s)/s - 1)/s^2 in powers of s^2, |s| <= 3 - 2 sqrt(2)
    exp: tuple[float, ...]  # (exp(r) - 1 - r)/r^2 in powers of r, |r| <= ln(2)/2
    exp2: tuple[float, ...]  # (2^r - 1)/r in powers of r, |r| <= 1/2


# fmt: off
FORMATS = {
    np.float64: Format(
        word=np.uint64, mantissa=52, width=64, least=-708.0, least_power=-900.0,
        ln2=(0.6931471803691238, 1.9082149292705877e-10),
        half_pi=(1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21),
        sin=(-0.16666666666666666, 0.008333333333330948, -0.00019841269836758574, 2.755731610255244e-06,
             -2.5051131845003624e-08, 1.5918129294866608e-10),
        cos=(0.041666666666666664, -0.0013888888888887398, 2.480158729876569e-05, -2.7557317271729793e-07,
             2.08761462684032e-09, -1.1382632425521717e-11),
        log=(0.666666666666667, 0.39999999999899505, 0.28571428625975487, 0.2222221113479508, 0.18182889125261723,
             0.15331721600556042, 0.14616449685043406),
        exp=(0.5000000000000001, 0.16666666666666669, 0.04166666666662413, 0.008333333333330062, 0.0013888888917213717,
             0.00019841269863053618, 2.4801521295954376e-05, 2.7557268459997064e-06, 2.7620088445409746e-07,
             2.510038549551032e-08),
        exp2=(0.6931471805599453, 0.24022650695910097, 0.0555041086648216, 0.009618129107606854, 0.0013333558146416916,
              0.00015403530441794136, 1.525273382986708e-05, 1.3215442552522291e-06, 1.0178062426976924e-07,
              7.072593027878997e-09, 4.4549643712692967e-10),
    ),
    np.float32: Format(
        word=np.uint32, mantissa=23, width=32, least=-87.0, least_power=-100.0,
        ln2=(0.693359375, -2.12194440e-4),
        half_pi=(1.5703125, 4.8375129699707031e-4, 7.5497899548918821e-8),
        sin=(-0.16666664, 0.008332748, -0.0001958789),
        cos=(0.041666664, -0.0013888302, 2.4547942e-05),
        log=(0.66666686, 0.3998878, 0.2957995),
        exp=(0.5, 0.16666576, 0.041666556, 0.008363179, 0.0013926184),
        exp2=(0.6931472, 0.2402265, 0.05550357, 0.009618082, 0.0013390887, 0.00015453182),
    ),
}
# fmt: on


def make_functions(ops: Ops) -> SimpleNamespace:
    """Return the elementary functions bound to the operations of a backend."""
    real, fma, quotient, where, as_real = ops.real, ops.fma, ops.quotient, ops.where, ops.as_real
    bits, from_bits, signed = ops.bits, ops.from_bits, ops.signed
    form = FORMATS[real]
    word = form.word

    ONE, TWO, MINUS_HALF, ZERO = (real(v) for v in (1, 2, -0.5, 0))
    LN2, LN2_HIGH, LN2_LOW = real(elementary.LN2), real(-form.ln2[0]), real(-form.ln2[1])
    LOG2_E, TWO_OVER_PI = real(1 / elementary.LN2), real(2 / np.pi)
    TURN_HIGH, TURN_MIDDLE, TURN_LOW = (real(-part) for part in form.half_pi)
    LEAST, LEAST_POWER = real(form.least), real(form.least_power)
    # Adding this number rounds to an integer and places that integer in the low bits of the mantissa.
    ROUND = real(math.ldexp(1.5, form.mantissa))
    MANTISSA, TOP_TWO = word(form.mantissa), word(form.width - 2)
    SHIFT = word(form.mantissa).astype(np.int64 if real is np.float64 else np.int32)
    ROOT_HALF = real(np.sqrt(0.5)).view(word)
    EXPONENT = ~word((1 << form.mantissa) - 1)
    BIT_0, BIT_1, NONE, UNIT = word(1), word(2), word(0), ONE.view(word)
    RADIANS = real(np.pi * 2.0**-31)
    EIGHTH, QUARTER_MASK, QUARTER = word(1 << 29), word((1 << 30) - 1), word(30)

    def polynomial(coefficients: tuple[float, ...]) -> Callable[..., Any]:
        """Return a function that evaluates a polynomial by Horner's rule; coefficients start at power 0."""
        first = real(coefficients[0])
        if len(coefficients) == 2:
            second = real(coefficients[1])
            return ops.jit(lambda z: fma(z, second, first))
        rest = polynomial(coefficients[1:])
        return ops.jit(lambda z: fma(z, rest(z), first))

    sin_part, cos_part, log_part = polynomial(form.sin), polynomial(form.cos), polynomial(form.log)
    exp_part, exp2_part = polynomial(form.exp), polynomial(form.exp2)

    @ops.jit
    def log(x):  # type: ignore[no-untyped-def]
        """Return the natural logarithm of a positive normal number, within 2.1 ulp.

        With x = 2^e m, log x = e log 2 + 2 artanh((m - 1)/(m + 1)).
        """
        above = bits(x) - ROOT_HALF
        e = as_real(signed(above) >> SHIFT)
        m = from_bits(bits(x) - (above & EXPONENT))
        s = quotient(m - ONE, m + ONE)
        z = s * s
        return fma(e, LN2, fma(s * z, log_part(z), s + s))

    @ops.jit
    def reduced(x):  # type: ignore[no-untyped-def]
        """Decompose x = n ln 2 + r; return r, (exp(r) - 1 - r)/r^2, and a word that holds n in its low bits.

        The high bits of the word are arbitrary. They are lost when the word is shifted to the position of the exponent.
        """
        x = where(x < LEAST, LEAST, x)
        t = fma(x, LOG2_E, ROUND)
        n = t - ROUND
        r = fma(n, LN2_LOW, fma(n, LN2_HIGH, x))
        return r, exp_part(r), bits(t)

    @ops.jit
    def exp(x):  # type: ignore[no-untyped-def]
        """Return exp(x) within 1 ulp for x <= 709 (float32: 88); arguments below -708 (float32: -87) are clipped."""
        r, rest, n = reduced(x)
        return from_bits(bits(fma(r, fma(r, rest, ONE), ONE)) + (n << MANTISSA))

    @ops.jit
    def exp2(x):  # type: ignore[no-untyped-def]
        """Return 2^x within 1 ulp for x <= 1023 (float32: 127); arguments below -900 (float32: -100) are clipped.

        The bound of the argument keeps products with the result from becoming subnormal, which is slow on CPUs.
        """
        x = where(x < LEAST_POWER, LEAST_POWER, x)
        t = x + ROUND
        r = x - (t - ROUND)
        return from_bits(bits(fma(r, exp2_part(r), ONE)) + (bits(t) << MANTISSA))

    @ops.jit
    def tanh(x):  # type: ignore[no-untyped-def]
        """Return the hyperbolic tangent within 3 ulp, as -g/(2 + g) with g = expm1(-2 |x|) and the sign of x."""
        r, rest, n = reduced(-TWO * where(x < ZERO, -x, x))
        scale = from_bits(UNIT + (n << MANTISSA))
        g = fma(scale, fma(r * r, rest, r), scale - ONE)
        size = -g / (TWO + g)
        return where(x < ZERO, -size, size)

    @ops.jit
    def turned(c, s, quadrant):  # type: ignore[no-untyped-def]
        """Rotate (cosine, sine) by n quarter turns; n modulo 4 is in the low two bits of ``quadrant``."""
        odd = (quadrant & BIT_0) != NONE
        c_sign, s_sign = ((quadrant + BIT_0) & BIT_1) << TOP_TWO, (quadrant & BIT_1) << TOP_TWO
        return from_bits(bits(where(odd, s, c)) ^ c_sign), from_bits(bits(where(odd, c, s)) ^ s_sign)

    @ops.jit
    def cos_sin(r, quadrant):  # type: ignore[no-untyped-def]
        """Return cosine and sine of r plus a number of quarter turns, for |r| <= pi/4."""
        z = r * r
        c = fma(z, fma(z, cos_part(z), MINUS_HALF), ONE)
        s = fma(r * z, sin_part(z), r)
        return turned(c, s, quadrant)

    @ops.jit
    def cos_sin_of(x):  # type: ignore[no-untyped-def]
        """Return cosine and sine of x for |x| < 1e5 (float32: 1e3).

        The absolute error is at most 1.5 times the ulp of numbers in [1/2, 1).
        """
        t = fma(x, TWO_OVER_PI, ROUND)
        n = t - ROUND
        r = fma(n, TURN_LOW, fma(n, TURN_MIDDLE, fma(n, TURN_HIGH, x)))
        return cos_sin(r, bits(t))

    @ops.jit
    def direction(w):  # type: ignore[no-untyped-def]
        """Return cosine and sine of the angle int32(w) 2^-31 pi, where w is a 32-bit word."""
        eighth_ahead = w + EIGHTH
        rest = as_real(signed((eighth_ahead & QUARTER_MASK) - EIGHTH)) * RADIANS
        return cos_sin(rest, eighth_ahead >> QUARTER)

    own = {"log": log, "exp": exp, "exp2": exp2, "tanh": tanh, "cos_sin_of": cos_sin_of, "direction": direction}
    return SimpleNamespace(**own | dict(ops.instead))


def make_total_functions(ops: Ops, functions: SimpleNamespace) -> SimpleNamespace:
    """Return elementary functions for every argument, which users' scores call; see `make_functions`.

    exp clips its argument to [-708, 709] (float32: [-87, 88]). cos and sin are NaN for |x| >= 1e5 (float32: 1e3), where
    they would be inaccurate. log is -inf at 0 and NaN below 0.
    """
    where, constant, double = ops.where, ops.constant, ops.real is np.float64
    ZERO, INFINITY, NAN = constant(0), constant(np.inf), constant(np.nan)
    MOST, FAR = constant(709 if double else 88), constant(1e5 if double else 1e3)
    exp_of, log_of, tanh_of, cos_sin_of, sqrt_of = (
        functions.exp, functions.log, functions.tanh, functions.cos_sin_of, ops.sqrt
    )  # fmt: skip

    @ops.jit
    def exp(x):  # type: ignore[no-untyped-def]
        return exp_of(where(x > MOST, MOST, x))

    @ops.jit
    def log(x):  # type: ignore[no-untyped-def]
        special = where(x < ZERO, x * NAN, where(x == ZERO, x - INFINITY, x))
        return where((x > ZERO) & (x < INFINITY), log_of(x), special)

    @ops.jit
    def cos(x):  # type: ignore[no-untyped-def]
        return where((x < FAR) & (x > -FAR), cos_sin_of(x)[0], x * NAN)

    @ops.jit
    def sin(x):  # type: ignore[no-untyped-def]
        return where((x < FAR) & (x > -FAR), cos_sin_of(x)[1], x * NAN)

    @ops.jit
    def tanh(x):  # type: ignore[no-untyped-def]
        return tanh_of(x)

    @ops.jit
    def sqrt(x):  # type: ignore[no-untyped-def]
        return sqrt_of(x)

    @ops.jit
    def absolute(x):  # type: ignore[no-untyped-def]
        return where(x < ZERO, -x, x)

    return SimpleNamespace(exp=exp, log=log, cos=cos, sin=sin, tanh=tanh, sqrt=sqrt, absolute=absolute)


def make_newton(
    jit: Callable[..., Any], fma: Callable[..., Any], larger: Callable[..., Any], reciprocal: Callable[..., Any],
    reciprocal_root: Callable[..., Any],
) -> tuple[Callable[..., Any], Callable[..., Any]]:  # fmt: skip
    """Return `Ops.quotient` and `Ops.root` in float32, from functions that approximate 1/x and x^(-1/2).

    For the arguments that `Ops` allows, NVIDIA's compiler translates a division and a square root that round as IEEE
    754 requires to the same instructions. It adds tests and branches for other arguments.
    """
    ONE, HALF, LEAST = np.float32(1), np.float32(0.5), np.float32(2.0**-100)

    @jit
    def quotient(x, y):  # type: ignore[no-untyped-def]
        r = reciprocal(y)
        r = fma(r, fma(-y, r, ONE), r)
        q = x * r
        return fma(r, fma(-y, q, x), q)

    @jit
    def root(x):  # type: ignore[no-untyped-def]
        r = reciprocal_root(larger(x, LEAST))  # finite for x = 0
        q = x * r
        return fma(fma(-q, q, x), HALF * r, q)

    return quotient, root

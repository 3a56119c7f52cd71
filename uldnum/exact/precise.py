"""Numbers with fifty decimal digits in NumPy object arrays, to which the recipes of integrators apply unchanged.

NumPy evaluates an elementary function of an object array by calling the method of the same name of each element.
`Number` therefore has a method for every elementary function that recipes use. Its arithmetic is that of the standard
module ``decimal`` with all traps disabled: an overflow returns infinity, and an undefined operation returns NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from numbers import Real
from typing import Any

import numpy as np

from uldnum._util.typing import Array

__all__ = ["DIGITS", "Number", "lift"]

DIGITS = 50


def context(digits: int) -> Context:
    """Return a decimal context with a precision of ``digits`` digits that never raises an exception."""
    return Context(prec=digits, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])


EXACT, HALF = context(DIGITS), Decimal("0.5")


def decimal(x: Any) -> Decimal:
    """Return the exact decimal value of a `Number` or of another real number."""
    return x.value if isinstance(x, Number) else Decimal(x if isinstance(x, int) else float(x))


def binary(operate: Callable[[Decimal, Decimal], Any], swapped: bool = False) -> Callable[[Any, Any], Any]:
    """Return a method that applies a binary operation to a `Number` and another `Number` or real number."""

    def method(self: Number, other: Any) -> Any:
        if not isinstance(other, REAL):  # NumPy then applies the operation to each element
            return NotImplemented
        left, right = self.value, decimal(other)
        return operate(right, left) if swapped else operate(left, right)

    return method


def arithmetic(operate: Callable[[Decimal, Decimal], Decimal], swapped: bool = False) -> Callable[[Any, Any], Any]:
    """Return a method like that of `binary` whose result is a `Number`."""
    return binary(lambda left, right: Number(operate(left, right)), swapped)


class Number:
    """A real number with fifty decimal digits that can be combined with integers and floats.

    Parameters
    ----------
    value : Number, Decimal, int or float
        Value of the number.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value if type(value) is Decimal else decimal(value)

    __add__ = __radd__ = arithmetic(EXACT.add)
    __mul__ = __rmul__ = arithmetic(EXACT.multiply)
    __sub__, __rsub__ = arithmetic(EXACT.subtract), arithmetic(EXACT.subtract, swapped=True)
    __truediv__, __rtruediv__ = arithmetic(EXACT.divide), arithmetic(EXACT.divide, swapped=True)
    __pow__ = arithmetic(lambda base, n: EXACT.sqrt(base) if n == HALF else EXACT.power(base, n))
    # Context.compare returns NaN if an operand is NaN, so every comparison with NaN is False.
    __lt__ = binary(lambda left, right: EXACT.compare(left, right) == -1)
    __gt__ = binary(lambda left, right: EXACT.compare(left, right) == 1)
    __le__ = binary(lambda left, right: EXACT.compare(left, right) in (-1, 0))
    __ge__ = binary(lambda left, right: EXACT.compare(left, right) in (0, 1))

    def __neg__(self) -> Number:
        return Number(EXACT.minus(self.value))

    def __abs__(self) -> Number:
        return Number(EXACT.abs(self.value))

    def __float__(self) -> float:
        return float(self.value)

    def __repr__(self) -> str:
        return str(self.value)

    def exp(self) -> Number:
        """Return the exponential of the number."""
        return Number(EXACT.exp(self.value))

    def expm1(self) -> Number:
        """Return ``exp(x) - 1``, computed with as many additional digits as the subtraction cancels."""
        wide = context(DIGITS + 3 + max(0, -self.value.adjusted() if self.value else 0))
        return Number(EXACT.plus(wide.subtract(wide.exp(self.value), 1)))

    def log(self) -> Number:
        """Return the natural logarithm of the number."""
        return Number(EXACT.ln(self.value))

    def sqrt(self) -> Number:
        """Return the square root of the number."""
        return Number(EXACT.sqrt(self.value))

    def tanh(self) -> Number:
        """Return the hyperbolic tangent of the number."""
        e = (-2 * abs(self)).expm1()
        return (-e if self.value >= 0 else e) / (e + 2)


def lift(values: Array) -> Array:
    """Return an array of real numbers as an object array of `Number`."""
    return np.asarray(np.vectorize(Number, otypes=[object])(values))


REAL = (Number, float, int, Real)

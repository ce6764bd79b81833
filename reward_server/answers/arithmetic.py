r"""Numbers that are exact while they are rational, and else have as many digits as they need.

Whatever is asked costs milliseconds: sizes and precision have limits (`TooLarge`), which an answer
cannot raise. A sum that comes out far smaller than rounding allows is exactly 0. Without
`is_complex` nothing leaves the real numbers: the root of -2 has no value.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

MAX_BITS = 32_000  # of an exact number
MAX_MAGNITUDE = 40_000  # binary digits before or behind the point

Value = Any
"""A Fraction, or a real or complex number of mpmath."""


class NoValue(ArithmeticError):
    """There is no value here: a pole, a root of a negative number, half a factorial."""


class TooLarge(ArithmeticError):
    """To find the value would cost more than it is worth."""


@functools.cache
def context() -> Any:
    """A context of mpmath for this package alone, so that nobody else's precision is changed."""
    import mpmath

    return mpmath.ctx_mp.MPContext()


def inexact(found: Value) -> Value:
    """A number of mpmath in the place of a fraction."""
    return context().mpf(found.numerator) / found.denominator if _is_exact(found) else found


class Arithmetic:
    """Rules and precision for numbers of which the largest is 10^`span` times the smallest.

    Attributes:
        mp: The context that numbers which are not rational belong to.
        is_complex: Whether negative numbers have roots.
        is_exact: Whether all results were rational so far.
        effort: What a step costs, one of eighty digits being 1.
    """

    def __init__(self, span: int, *, is_complex: bool) -> None:
        self.mp = context()
        self.mp.dps = 60 + 2 * span
        self.is_complex = is_complex
        self.is_exact = True
        self.effort = (self.mp.dps / 80) ** 1.2
        self._least = self.mp.mpf(10) ** -(span + 25)  # what is smaller beside 1 is rounding
        self._low = self._high = 0

    @property
    def span(self) -> int:
        """How many decimal digits the numbers that were `seen` are apart."""
        return int((self._high - self._low) * math.log10(2)) + 1

    def kept(self, found: Value) -> Value:
        """Hold a result to the limits; what is complex by rounding alone becomes real.

        Raises:
            NoValue: It is infinite, or not real where it has to be.
        """
        if isinstance(found, int):
            return Fraction(found)
        if _is_exact(found):
            bits = max(found.numerator.bit_length(), found.denominator.bit_length())
            if bits <= MAX_BITS:
                return found
            found = inexact(found)
        self.is_exact = False
        if not self.mp.isfinite(found):
            raise NoValue("not finite")
        if isinstance(found, self.mp.mpc):
            least = abs(found) * self._least
            if abs(found.imag) <= least:
                return found.real
            if not self.is_complex:
                raise NoValue("not real")
            if abs(found.real) <= least:
                return self.mp.mpc(0, found.imag)
        return found

    def seen(self, found: Value) -> Value:
        """Note how large a number is. The sums of numbers that cancel do not pass here.

        Raises:
            TooLarge: It is too large, or too near to zero.
        """
        if found:
            magnitude = self.magnitude(found)
            if abs(magnitude) > MAX_MAGNITUDE:
                raise TooLarge("a number too large or too near to zero")
            self._low, self._high = min(self._low, magnitude), max(self._high, magnitude)
        return found

    def magnitude(self, found: Value) -> int:
        """Binary digits before the point of a number that is not zero, negative behind it."""
        if _is_exact(found):
            return int(found.numerator.bit_length() - found.denominator.bit_length())
        return int(self.mp.mag(found))

    def is_rounding(self, found: Value, beside: Value) -> bool:
        """Whether a result is nothing but rounding.

        Args:
            found: The result.
            beside: The largest number that it was made of.
        """
        return bool(abs(found) <= abs(beside) * self._least)

    def total(self, terms: Sequence[Value]) -> Value:
        """The sum; exactly zero where it is rounding."""
        if all(map(_is_exact, terms)):
            return sum(terms, Fraction(0))
        numbers = [inexact(term) for term in terms]
        found = self.mp.fsum(numbers)
        return Fraction(0) if self.is_rounding(found, max(map(abs, numbers))) else found

    def product(self, factors: Sequence[Value]) -> Value:
        """The product; exact if all factors are."""
        found: Value = Fraction(1)
        for factor in factors:
            if _is_exact(found) and _is_exact(factor):
                found = self.kept(found * factor)
            else:
                found = self.kept(inexact(found) * inexact(factor))
            self.seen(found)
        return found

    def whole(self, found: Value) -> int:
        """An integer, where a number is one as far as its digits go.

        Raises:
            NoValue: It is none.
        """
        if _is_exact(found) and found.denominator == 1:
            return int(found.numerator)
        if not _is_exact(found) and self.is_real(found) and self.magnitude(found) < MAX_BITS:
            near = int(self.mp.nint(found))
            if not self.total((found, Fraction(-near))):
                return near
        raise NoValue("not a whole number")

    def is_real(self, found: Value) -> bool:
        """Whether a number can be compared with others by size."""
        return not isinstance(found, self.mp.mpc)


def _is_exact(found: Value) -> bool:
    return isinstance(found, Fraction)

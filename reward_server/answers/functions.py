r"""What the heads of a tree do to values: `RULES`, head to (arithmetic, values) to value.

Each rule holds its own cost down (`TooLarge`) before it starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from reward_server.answers.arithmetic import (
    MAX_BITS,
    MAX_MAGNITUDE,
    Arithmetic,
    NoValue,
    TooLarge,
    Value,
    inexact,
)

MAX_FACTORIAL = 1000
MAX_DEGREE = 1000
MAX_SPECIAL_DIGITS = 200  # of the functions that cost seconds at a thousand

Rule = Callable[..., Value]


def _power(by: Arithmetic, base: Value, exponent: Value) -> Value:
    """Raise to a power; a broken one of a negative number is complex."""
    if not base:
        if not by.is_real(exponent) or exponent <= 0:
            raise NoValue("zero to a power that is not positive")
        return Fraction(0)
    bits = abs(by.mp.log(abs(inexact(base)), 2)) + 1
    if abs(inexact(exponent)) * bits > MAX_MAGNITUDE:
        raise TooLarge("a power too large or too near to zero")
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        if isinstance(base, Fraction) and abs(exponent) * _bits(base) <= MAX_BITS:
            return base**exponent.numerator
        return inexact(base) ** exponent.numerator
    if exponent == Fraction(1, 2):
        return _root(by, Fraction(2), base)
    return by.mp.power(inexact(base), inexact(exponent))


def _root(by: Arithmetic, degree: Value, radicand: Value) -> Value:
    """Take the real root where there is one, so that the cube root of -8 is -2."""
    index = by.whole(degree)
    if not 0 < index <= MAX_DEGREE:
        raise NoValue("a root of no degree")
    if isinstance(radicand, Fraction) and radicand >= 0 and index == 2:
        found = Fraction(math.isqrt(radicand.numerator), math.isqrt(radicand.denominator) or 1)
        if found * found == radicand:
            return found
    if by.is_real(radicand) and radicand < 0 and index % 2:
        return -by.mp.root(inexact(-radicand), index)
    return by.mp.root(inexact(radicand), index)


def _logarithm(by: Arithmetic, base: Value, argument: Value) -> Value:
    """Take the logarithm to a base; of a negative number it is complex."""
    if not argument or not base or base == 1:
        raise NoValue("a logarithm of zero, or to the base 0 or 1")
    return by.mp.log(inexact(argument)) / by.mp.log(inexact(base))


def _quotient(by: Arithmetic, top: Value, bottom: Value) -> Value:
    """Divide."""
    if not bottom:
        raise NoValue("division by zero")
    if isinstance(top, Fraction) and isinstance(bottom, Fraction):
        return top / bottom
    return inexact(top) / inexact(bottom)


def _factorial(by: Arithmetic, argument: Value, step: int = 1) -> Value:
    """Multiply down to 1 in steps; of 0, and of -1 in steps of two, it is 1."""
    number = by.whole(argument)
    if number > MAX_FACTORIAL:
        raise TooLarge(f"a factorial of more than {MAX_FACTORIAL}")
    if number < 0:
        raise NoValue("a factorial of a negative number")
    return Fraction(math.prod(range(number, 0, -step)))


def _chosen(by: Arithmetic, number: Value, taken: Value, *, in_order: bool = False) -> Value:
    """Count the ways to take some of a number of things."""
    of, some = by.whole(number), by.whole(taken)
    if of > MAX_FACTORIAL:
        raise TooLarge(f"ways to choose from more than {MAX_FACTORIAL}")
    if of < 0 or some < 0:
        raise NoValue("ways to choose of negative numbers")
    return Fraction(math.perm(of, some) if in_order else math.comb(of, some))


def _rest(by: Arithmetic, number: Value, modulus: Value) -> Value:
    """What division leaves."""
    divisor = by.whole(modulus)
    if not divisor:
        raise NoValue("modulo zero")
    return Fraction(by.whole(number) % divisor)


def _rounded(by: Arithmetic, number: Value, *, up: bool) -> Value:
    """The next integer below or above; what is one by all its digits stays it."""
    try:
        return Fraction(by.whole(number))
    except NoValue:
        if not by.is_real(number) or (number and by.magnitude(number) > MAX_BITS):
            raise
    if isinstance(number, Fraction):
        return Fraction(math.ceil(number) if up else math.floor(number))
    return Fraction(int(by.mp.ceil(number) if up else by.mp.floor(number)))


def _gamma(by: Arithmetic, argument: Value) -> Value:
    """The gamma function."""
    if not by.is_real(argument) or abs(argument) > MAX_FACTORIAL:
        raise TooLarge("the gamma function far out")
    if isinstance(argument, Fraction) and argument.denominator == 1:
        return _factorial(by, argument - 1)
    _few_digits(by)
    return by.mp.gamma(inexact(argument))


def _zeta(by: Arithmetic, argument: Value) -> Value:
    """Riemann's zeta function at an integer above 1."""
    number = by.whole(argument)
    if not 1 < number <= MAX_FACTORIAL:
        raise NoValue("the zeta function elsewhere")
    _few_digits(by)
    return by.mp.zeta(number)


def _extreme(by: Arithmetic, *numbers: Value, largest: bool) -> Value:
    """The largest or the smallest; of real numbers only."""
    if not all(map(by.is_real, numbers)):
        raise NoValue("complex numbers have no order")
    return max(numbers, key=inexact) if largest else min(numbers, key=inexact)


def _few_digits(by: Arithmetic) -> None:
    if by.mp.dps > MAX_SPECIAL_DIGITS:
        raise TooLarge(f"a special function to {by.mp.dps} digits")


def _of(name: str) -> Rule:
    """A function of mpmath, from zero as far as rounding tells."""

    def rule(by: Arithmetic, argument: Value) -> Value:
        if argument and by.magnitude(argument) > MAX_BITS:
            raise TooLarge(f"{name} far out")
        try:
            found = getattr(by.mp, name)(inexact(argument))
        except (ValueError, ZeroDivisionError) as error:
            raise NoValue(f"{name} has a pole here") from error
        return Fraction(0) if by.is_rounding(found, 1) else found

    return rule


def _ratio(top: str, bottom: str) -> Rule:
    """A quotient of two functions: a pole is where the lower one is zero."""
    over, under = (_of(name) if name else lambda by, _: Fraction(1) for name in (top, bottom))
    return lambda by, argument: _quotient(by, over(by, argument), under(by, argument))


def _hyperbolic(name: str) -> Rule:
    bare = _of(name)

    def rule(by: Arithmetic, argument: Value) -> Value:
        if abs(inexact(argument)) > MAX_MAGNITUDE / 2:
            raise TooLarge(f"{name} far out")
        return bare(by, argument)

    return rule


def _bits(number: Fraction) -> int:
    return max(number.numerator.bit_length(), number.denominator.bit_length())


RULES: dict[str, Rule] = {
    "+": lambda by, *terms: by.total(terms),
    "*": lambda by, *factors: by.product(factors),
    "/": _quotient,
    "^": _power,
    "root": _root,
    "log": _logarithm,
    "abs": lambda by, number: abs(number),
    "floor": lambda by, number: _rounded(by, number, up=False),
    "ceil": lambda by, number: _rounded(by, number, up=True),
    "!": _factorial,
    "!!": lambda by, number: _factorial(by, number, 2),
    "binomial": _chosen,
    "permutations": lambda by, number, taken: _chosen(by, number, taken, in_order=True),
    "gcd": lambda by, *numbers: Fraction(math.gcd(*map(by.whole, numbers))),
    "lcm": lambda by, *numbers: Fraction(math.lcm(*map(by.whole, numbers))),
    "max": lambda by, *numbers: _extreme(by, *numbers, largest=True),
    "min": lambda by, *numbers: _extreme(by, *numbers, largest=False),
    "mod": _rest,
    r"\Gamma": _gamma,
    r"\zeta": _zeta,
    "sin": _of("sin"),
    "cos": _of("cos"),
    "tan": _ratio("sin", "cos"),
    "cot": _ratio("cos", "sin"),
    "sec": _ratio("", "cos"),
    "csc": _ratio("", "sin"),
    "sinh": _hyperbolic("sinh"),
    "cosh": _hyperbolic("cosh"),
    "tanh": _of("tanh"),
    "arcsin": _of("asin"),
    "arccos": _of("acos"),
    "arctan": _of("atan"),
    "arccot": _of("acot"),
}
"""Every head that has a value of its own; any other stands for an unknown function."""

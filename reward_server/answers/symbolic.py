r"""Single expressions and equations compared by what they mean: math-verify, mended where it errs.

math-verify 0.9 reads every letter in lower case, `i` as one more real variable, dx/dt as 0, and
takes two equations for equal when it can solve neither. So its symbols are made alike, equations
are compared by the ratio of their sides' differences, and what differs at a point is refused before
anything is proved. Each step stands under an alarm of its own, in the process's main thread.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
Answer = tuple[bool | None, str]
"""Whether two answers are the same, None where time ran out, and by which rule."""

ALARM_S = 2  # alarms count whole seconds
TIMED_OUT = "math-verify ran out of time"
ROUNDING = 12  # digits; its default of 6 takes 0.0000003 for 0.0000004
DIGITS, CLEAR_DIGITS = 15, 9  # of a value at a point; those that make a difference clear
_POINTS = ((3, 5, 7, 11, 13, 17, 19, 23), (13, 3, 17, 5, 7, 23, 11, 19))


def same(answer: str, gold: str) -> Answer:
    """Tell whether two cleaned texts mean the same, and who says so.

    Args:
        answer: The response's, as `notation.read` spells it.
        gold: The reference's, spelled so too.
    """
    left, right = _parsed(answer), _parsed(gold)
    if left and right:
        import sympy

        pair = left[0], right[0]
        try:
            if all(isinstance(one, sympy.Expr) for one in pair) and _differ(*pair):
                return False, "other values"
            if all(isinstance(one, sympy.Eq) for one in pair):
                return _within_alarm(lambda: _same_equation(*pair)), "ratio of equations"
        except _OutOfTime:
            return None, TIMED_OUT
    return math_verify_says(answer, gold)


def math_verify_says(answer: str, gold: str) -> Answer:
    """Give math-verify's own verdict, gold first.

    It swallows its own alarms, so that a comparison that took so long is known by its time.

    Args:
        answer: The response's, as `notation.read` spells it.
        gold: The reference's, spelled so too.

    Source: the package math-verify, version 0.9, `math_verify.verify`.
    """
    import math_verify

    started = time.monotonic()
    is_right = math_verify.verify(
        _parsed(gold),
        _parsed(answer),
        float_rounding=ROUNDING,
        allow_set_relation_comp=True,
        timeout_seconds=ALARM_S,
    )
    if not is_right and time.monotonic() - started >= ALARM_S:
        return None, TIMED_OUT
    return is_right, "math-verify"


def _differ(left: Any, right: Any) -> bool:
    """Whether two expressions have clearly different values where their variables are 3, 5, 7...

    Far cheaper than to fail at proving them equal, and safe: at whole numbers both exist.
    """
    if any(one.has(*_unlike_functions()) for one in (left, right)):
        return False
    values = _values(left, right, _POINTS[0])
    if values is None:
        return False
    return abs(values[0] - values[1]) > max(map(abs, values)) * 10**-CLEAR_DIGITS


def _same_equation(left: Any, right: Any) -> bool:
    """Whether the differences of their sides, without denominators, are multiples of each other."""
    import sympy

    tops = [sympy.fraction(sympy.together(one.lhs - one.rhs))[0] for one in (left, right)]
    ratios = []
    for point in _POINTS:
        values = _values(tops[0], tops[1], point)
        if values and values[1]:
            ratios.append(values[0] / values[1])
    if len(ratios) == len(_POINTS) and abs(ratios[0] - ratios[1]) > abs(ratios[0]) * 1e-9:
        return False
    ratio = sympy.simplify(tops[0] / tops[1])
    return bool(ratio.is_number and ratio.is_finite and not ratio.is_zero)


def _values(left: Any, right: Any, point: tuple[int, ...]) -> tuple[complex, complex] | None:
    """Both at a point, variables in alphabetical order; None where one has no value."""
    symbols = sorted(left.free_symbols | right.free_symbols, key=lambda symbol: symbol.name)
    if len(symbols) > len(point):
        return None
    at = dict(zip(symbols, point, strict=False))
    try:
        return _within_alarm(
            lambda: (complex(left.evalf(DIGITS, at)), complex(right.evalf(DIGITS, at)))
        )
    except (ArithmeticError, TypeError, ValueError, AttributeError):
        return None  # a pole, a set, a relation


@functools.cache
def _unlike_functions() -> tuple[Any, ...]:
    """What is not evaluated at whole numbers as its symbols would have it."""
    import sympy

    return (sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit)


class _Unparsed(Exception):
    """Keeps what could not be parsed, perhaps for lack of time, out of the cache."""


class _OutOfTime(Exception):
    """An alarm of ours went off."""


def _within_alarm(run: Callable[[], T]) -> T:
    from math_verify.errors import TimeoutException
    from math_verify.utils import timeout

    try:
        return timeout(ALARM_S)(run)()
    except TimeoutException as error:
        raise _OutOfTime from error


def _parsed(text: str) -> list[Any]:
    try:
        return _parse(text)
    except _Unparsed:
        return []


@functools.lru_cache(maxsize=64)  # the rollouts of a group have one reference, and often one answer
def _parse(text: str) -> list[Any]:
    import math_verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it repeats the whole answer
    found = math_verify.parse(
        rf"\boxed{{{text}}}",
        extraction_config=[math_verify.LatexExtractionConfig()],
        parsing_timeout=ALARM_S,
    )
    if not found:
        raise _Unparsed
    return [_mended(one) for one in found]


def _mended(found: Any) -> Any:
    """Variables of one name made one, `i` the root of -1, derivatives names of their own."""
    import sympy

    if not isinstance(found, sympy.Basic):
        return found
    names = {one: sympy.Symbol(str(one), real=True) for one in found.atoms(sympy.Derivative)}
    for one in found.free_symbols:
        if isinstance(one, sympy.Symbol):
            names[one] = sympy.I if one.name == "i" else sympy.Symbol(one.name, real=True)
    return found.xreplace(names) if names else found

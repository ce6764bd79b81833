"""Whether an output or a value is the expected one: as contests compare, on plain data.

Lines are compared without trailing blanks, and the text without trailing empty lines; failing that,
token by token, numbers exactly (1.0 is 1) or within the tolerance that the problem states. NaN
equals nothing, and order always counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, DecimalException
from typing import Any

MAX_NUMBER = 400  # characters; longer tokens are compared as text
_NUMERAL = re.compile(r"[+-]?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,4})?")


def same_output(
    got: str, expected: str, tolerance: float = 0.0, *, ignores_case: bool = False
) -> bool:
    """Tell whether a program printed what it should.

    Args:
        got: What it printed.
        expected: What the test expects.
        tolerance: Absolute or relative error allowed in numbers; 0 compares them exactly.
        ignores_case: Letters may be printed in any case.
    """
    if ignores_case:
        got, expected = got.casefold(), expected.casefold()
    lines, wanted = _lines(got), _lines(expected)
    if lines == wanted:
        return True
    tokens, wanted_tokens = got.split(), expected.split()
    if len(tokens) != len(wanted_tokens):
        return False
    return all(
        left == right or _same_number(left, right, tolerance)
        for left, right in zip(tokens, wanted_tokens, strict=True)
    )


def same_value(got: Any, expected: Any, tolerance: float = 0.0) -> bool:
    """Tell whether a function returned what it should.

    Args:
        got: What it returned, as JSON has it.
        expected: What the test expects, as JSON has it.
        tolerance: Absolute or relative error allowed in numbers; 0 compares them exactly.
    """
    if isinstance(expected, list):
        return (
            isinstance(got, list)
            and len(got) == len(expected)
            and all(same_value(g, e, tolerance) for g, e in zip(got, expected, strict=True))
        )
    if isinstance(expected, dict):
        return (
            isinstance(got, dict)
            and got.keys() == expected.keys()
            and all(same_value(got[key], expected[key], tolerance) for key in expected)
        )
    if isinstance(expected, int | float) and isinstance(got, int | float):
        return got == expected or _close(Decimal(got), Decimal(expected), tolerance)
    return type(got) is type(expected) and got == expected


def any_value(got: Any, readings: Sequence[Any], tolerance: float = 0.0) -> bool:
    """Tell whether a function returned what it should, where that may be read in several ways.

    Args:
        got: What it returned, as JSON has it.
        readings: What the test may expect, as JSON has it.
        tolerance: As for `same_value`.
    """
    return any(same_value(got, expected, tolerance) for expected in readings)


def _lines(text: str) -> Sequence[str]:
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _same_number(left: str, right: str, tolerance: float) -> bool:
    numbers = _number(left), _number(right)
    if numbers[0] is None or numbers[1] is None:
        return False
    return numbers[0] == numbers[1] or _close(numbers[0], numbers[1], tolerance)


def _number(text: str) -> Decimal | None:
    """The value of a numeral; a word of digits that begins with a zero (0011) is none."""
    if len(text) > MAX_NUMBER or not _NUMERAL.fullmatch(text):
        return None
    return Decimal(text)


def _close(left: Decimal, right: Decimal, tolerance: float) -> bool:
    """Within the absolute or the relative error, the expected one being `right`."""
    if not tolerance or not left.is_finite() or not right.is_finite():
        return False
    try:
        return abs(left - right) <= Decimal(str(tolerance)) * max(Decimal(1), abs(right))
    except DecimalException:  # out of range
        return False

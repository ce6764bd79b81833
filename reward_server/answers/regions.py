r"""Sets of real numbers: `(-\infty,0)\cup(0,\infty)`, `\mathbb{R}\setminus\{0\}` and `x \ne 0`.

Two are the same if the ends of both, and what lies between these, are in both or in neither.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cmp_to_key
from itertools import pairwise

from reward_server.answers import reader, structures, values
from reward_server.answers.arithmetic import NoValue, TooLarge, Value, inexact
from reward_server.answers.tokens import Unread
from reward_server.answers.trees import INFINITY, Tree, negative

_SIGN = re.compile(r"\\(?:cup|cap|setminus|emptyset|mathbb|ne)(?![a-zA-Z])")
_REALS = re.compile(r"\\mathbb ?(?:R|\{ ?R ?\})")
_EXCEPT = re.compile(r"[a-zA-Z] ?\\ne(?![a-zA-Z]) ?(.+)")
_OPERATIONS: dict[str, Callable[[bool, bool], bool]] = {
    r"\cup": lambda left, right: left or right,
    r"\cap": lambda left, right: left and right,
    r"\setminus": lambda left, right: left and not right,
}
_NEAR = Fraction(1, 10**40)  # ends that are apart by less, and are no fractions, are one


@dataclass(frozen=True)
class Region:
    """A set of real numbers.

    Attributes:
        ends: The finite ends of its intervals, and its points.
    """

    contains: Callable[[Value], bool]
    ends: tuple[Value, ...] = ()


def same(left: str, right: str) -> bool | None:
    """Tell whether two cleaned texts are the same set.

    Args:
        left: A text.
        right: Another.

    Returns:
        None where one is no such set, or neither has a sign that only sets have.
    """
    if not any(map(_SIGN.search, (left, right))):
        return None
    try:
        regions = [read(text) for text in (left, right)]
    except (Unread, NoValue, TooLarge):
        return None
    every = sorted((end for region in regions for end in region.ends), key=cmp_to_key(_order))
    ends = [end for end, after in pairwise([*every, None]) if after is None or _order(end, after)]
    between = [_sum(low, high) / 2 for low, high in pairwise(ends)]
    beyond = [ends[0] - 1, ends[-1] + 1] if ends else [Fraction(0)]
    return all(
        regions[0].contains(probe) == regions[1].contains(probe)
        for probe in (*ends, *between, *beyond)
    )


def read(text: str) -> Region:
    """Read unions, intersections and differences, from left to right, of intervals and points.

    Raises:
        Unread: It is something else.
        NoValue: An end has no value, or is no real number.
        TooLarge: An end costs too much.
    """
    text = structures.solution(text.strip())
    if match := _EXCEPT.fullmatch(text):
        hole = _points([match[1]])
        return Region(lambda number: not hole.contains(number), hole.ends)
    pieces = structures.operands(text, tuple(_OPERATIONS))
    found = _single(pieces[0])
    for sign, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        found = _joined(found, _OPERATIONS[sign], _single(piece))
    return found


def _joined(left: Region, operation: Callable[[bool, bool], bool], right: Region) -> Region:
    return Region(
        lambda number: operation(left.contains(number), right.contains(number)),
        left.ends + right.ends,
    )


def _single(text: str) -> Region:
    text = text.strip()
    if _REALS.fullmatch(text):
        return Region(lambda number: True)
    if text == r"\emptyset":
        return Region(lambda number: False)
    found = structures.read(text)
    if found.kind == "set":
        return _points(found.items)
    if found.kind == "bracketed" and len(found.items) == 2:
        return _interval(*found.items, closed=[side in "[]" for side in map(str, found.shape)])
    if text[:1] == "(" and text[-1:] == ")" and structures.is_balanced(text[1:-1]):
        return read(text[1:-1])
    raise Unread(f"{text} is no set of numbers")


def _points(items: Sequence[str]) -> Region:
    points = tuple(values.value_of(reader.read(item)) for item in items)
    return Region(lambda number: any(not _order(number, point) for point in points), points)


def _interval(low: str, high: str, *, closed: Sequence[bool]) -> Region:
    bottom, top = _end(low, negative(INFINITY)), _end(high, INFINITY)
    if bottom is not None and top is not None and _order(bottom, top) >= 0:
        raise Unread("an interval with nothing in it")

    def contains(number: Value) -> bool:
        above = 1 if bottom is None else _order(number, bottom)
        below = 1 if top is None else _order(top, number)
        return (above > 0 or (closed[0] and not above)) and (below > 0 or (closed[1] and not below))

    return Region(contains, tuple(end for end in (bottom, top) if end is not None))


def _end(text: str, infinite: Tree) -> Value | None:
    """None at the infinity of its side."""
    tree = reader.read(text)
    return None if tree == infinite else values.value_of(tree)


def _order(one: Value, other: Value) -> int:
    """The sign of the difference; 0 of what rounding alone may hold apart."""
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return (one > other) - (one < other)
    left, right = map(inexact, (one, other))
    if abs(left - right) <= inexact(_NEAR) * max(abs(left), abs(right)):
        return 0
    return 1 if left > right else -1


def _sum(one: Value, other: Value) -> Value:
    is_exact = isinstance(one, Fraction) and isinstance(other, Fraction)
    return one + other if is_exact else inexact(one) + inexact(other)

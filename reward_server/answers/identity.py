r"""Whether expressions are equal, or multiples of each other, tried at points.

Two that have equal values wherever both have one are taken for the same: at twelve points of
twenty-four, drawn by the names in them, so that no answer can be made for them. Fractions of either
sign and integers take turns; complex values only count where there are no others.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from reward_server.answers import values
from reward_server.answers.arithmetic import NoValue, TooLarge
from reward_server.answers.trees import (
    INFINITY,
    Apply,
    Number,
    Tree,
    difference,
    free_names,
    substituted,
    walk,
)

TRIED, ENOUGH, LEAST = 24, 12, 3
MAX_TOO_LARGE = 3  # points that may cost too much before it is enough
_INTEGERS = ((2, 1, 8), (2, 2, 8), (3, 3, 8), (6, 6, 6), (1, 1, 32), (1, 10, 8))
"""Per turn the step between the integers, the first, and how many: odd ones, even ones, ..."""
CONSTANTS = frozenset({"e", r"\pi", "i"})

Point = dict[str, Fraction]


def are_equal(left: Tree, right: Tree) -> bool:
    """Tell whether two expressions have equal values wherever both have one.

    Args:
        left: An expression.
        right: Another.

    Raises:
        TooLarge: It would cost too much to say.
    """
    if INFINITY in (*walk(left), *walk(right)):
        return left == right
    apart = difference(left, right)
    return _holds(apart, _points(apart), values.Budget())


def are_multiples(left: Tree, right: Tree, *, positive: bool) -> bool:
    """Tell whether one expression is a number, not zero, times another.

    Args:
        left: An expression.
        right: Another.
        positive: The number has to be greater than zero.

    Raises:
        TooLarge: It would cost too much to say.
    """
    budget = values.Budget()
    both = Apply("*", (left, right))
    names = free_names(both)
    for first in _points(both):
        here = {name: Number(value) for name, value in first.items()}
        try:
            if values.is_zero(both, first, budget, is_complex="i" in names):
                continue
        except (NoValue, TooLarge):
            continue
        factors = substituted(left, here), substituted(right, here)
        if positive:
            sizes = Apply("abs", factors[:1]), Apply("abs", factors[1:])
            if not _holds(_crossed(factors, sizes), iter([first]), budget):
                return False
        others = (point for point in _points(both) if point != first or not point)
        return _holds(_crossed((left, right), factors), others, budget)
    return False


def _crossed(left: tuple[Tree, Tree], right: tuple[Tree, Tree]) -> Tree:
    return difference(Apply("*", (left[0], right[1])), Apply("*", (left[1], right[0])))


def _holds(tree: Tree, points: Iterator[Point], budget: values.Budget) -> bool:
    """Whether an expression is zero at all points where it has a value, and these are enough."""
    tried = list(points)
    for is_complex in (False, True)["i" in free_names(tree) :]:
        told = too_large = 0
        for at in tried:
            try:
                if not values.is_zero(tree, at, budget, is_complex=is_complex):
                    return False
            except NoValue:
                continue
            except TooLarge:
                too_large += 1
                if too_large == min(MAX_TOO_LARGE, len(tried)):
                    raise
                continue
            told += 1
            if told == ENOUGH:
                return True
        if told >= min(LEAST, len(tried)):
            return True
    return False


def _points(tree: Tree) -> Iterator[Point]:
    names = sorted(free_names(tree) - CONSTANTS)
    for turn in range(TRIED if names else 1):
        yield {name: _coordinate(name, index, turn) for index, name in enumerate(names)}


def _coordinate(name: str, index: int, turn: int) -> Fraction:
    """Integers at odd turns; else fractions, at every second one of these of either sign."""
    kind = turn // 2 % 6
    if turn % 2:
        step, first, several = _INTEGERS[kind]
        return Fraction(first + step * (values.drawn(f"{name} {turn}", 4).numerator % several))
    is_negative = turn == 2 or (turn % 4 == 2 and (index + turn // 4) % 2)
    return (-1 if is_negative else 1) * values.drawn(f"{name} {turn}") * (1, 1, 5, 5, 40, 3)[kind]

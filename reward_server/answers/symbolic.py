r"""Single expressions and relations compared by what they mean.

Both are read as trees (`answers.reader`); expressions are the same if they have the same values
(`answers.identity`), equations if their sides' differences, without denominators, are multiples of
each other, sets of real numbers if they hold the same ones (`answers.regions`). What is not read is
the same only if it is spelled alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TypeGuard

from reward_server.answers import identity, reader, regions, tokens
from reward_server.answers.arithmetic import TooLarge
from reward_server.answers.trees import (
    RELATIONS,
    Apply,
    Name,
    Number,
    Tree,
    as_fraction,
    difference,
    substituted,
)

Answer = tuple[bool | None, str]
"""Whether two answers are the same, None where time ran out, and by which rule."""


def same(answer: str, gold: str) -> Answer:
    """Tell whether two cleaned texts mean the same, and who says so.

    Args:
        answer: The response's, as `notation.read` spells it.
        gold: The reference's, spelled so too.
    """
    is_same_set = regions.same(answer, gold)
    if is_same_set is not None:
        return is_same_set, "sets of numbers"
    try:
        left, right = reader.read(answer), reader.read(gold)
    except reader.Unread as why:
        return _spelled_alike(answer, gold), f"spelling, as {why}"
    left, right = _as_congruence(left, right), _as_congruence(right, left)
    if left == right:
        return True, "the same tree"
    try:
        if _is_relation(left) and _is_relation(right):
            return _same_relation(left, right), "ratio of relations"
        if _is_relation(left) or _is_relation(right):
            return False, "a relation against none"
        return identity.are_equal(left, right), "values"
    except TooLarge as why:
        return False, f"{why}"


def _is_relation(tree: Tree) -> TypeGuard[Apply]:
    return isinstance(tree, Apply) and tree.head in RELATIONS


def _spelled_alike(answer: str, gold: str) -> bool:
    try:
        left, right = (tokens.joined(tokens.cut(text)) for text in (answer, gold))
    except tokens.Unread:
        return False
    return left == right


def _same_relation(left: Apply, right: Apply) -> bool:
    """Side by side in chains; else by the differences of the sides."""
    if left.head == right.head == "equiv":
        return _congruent(left.parts, right.parts)
    if left.head != right.head or len(left.parts) != len(right.parts):
        return False
    if len(left.parts) > 2:
        return all(identity.are_equal(*pair) for pair in zip(left.parts, right.parts, strict=True))
    one, other = (difference(*sides) for sides in _with_names(left, right))
    if left.head in ("<", "<="):
        return identity.are_multiples(one, other, positive=True)
    return identity.are_multiples(as_fraction(one)[0], as_fraction(other)[0], positive=False)


def _with_names(*relations: Apply) -> Iterator[tuple[Tree, ...]]:
    """The sides, constants that stand alone on a left one being variables: `e = 1/2`, `I = 2x`."""
    alone = {side.parts[0] for side in relations}
    by = {name: Name(rf"\name{name}") for name in identity.CONSTANTS if Name(name) in alone}
    for relation in relations:
        yield tuple(substituted(side, by) for side in relation.parts)


def _as_congruence(tree: Tree, other: Tree) -> Tree:
    """`2 mod 5` as a class of residues, where the other is one."""
    if isinstance(tree, Apply) and tree.head == "mod":
        is_class = isinstance(other, Apply) and other.head == "equiv"
        return Apply("equiv", tree.parts) if is_class else tree
    return tree


def _congruent(left: tuple[Tree, ...], right: tuple[Tree, ...]) -> bool:
    """Equal moduli, and residues that are equal or differ by a multiple of them."""
    *sides, modulus = left
    *others, divisor = right
    if len(sides) != len(others):  # x = 1 (mod 3) is 1 (mod 3)
        sides, others = map(_unnamed, (sides, others))
    if len(sides) != len(others) or not identity.are_equal(modulus, divisor):
        return False
    return all(
        identity.are_equal(one, other)
        or identity.are_equal(Apply("mod", (difference(one, other), modulus)), Number(Fraction(0)))
        for one, other in zip(sides, others, strict=True)
    )


def _unnamed(sides: list[Tree]) -> list[Tree]:
    return [side for side in sides if not isinstance(side, Name)]

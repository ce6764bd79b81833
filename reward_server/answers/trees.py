r"""What a mathematical expression is made of, once it is read: numbers, names, and what joins them.

`Apply("+", ...)` and its like have a value; a head that no table of `answers.values` knows stands
for a function of which nothing is known but that equal arguments give equal results. The `BINDERS`
have a bound name first and their body last: `sum` (k, 1, n, k^2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

BINDERS = frozenset({"sum", "product", "integral", "limit"})
RELATIONS = frozenset({"=", "<", "<=", "!=", "equiv"})


@dataclass(frozen=True, slots=True)
class Number:
    """A numeral, exactly."""

    value: Fraction


@dataclass(frozen=True, slots=True)
class Name:
    r"""A variable or a constant, with its marks and its subscript: `x_1`, `\vec{v}`, `y''`, `e`."""

    text: str


@dataclass(frozen=True, slots=True)
class Apply:
    """An operation, a function or a relation and what it is applied to."""

    head: str
    parts: tuple[Tree, ...]


Tree = Number | Name | Apply

MINUS_ONE = Number(Fraction(-1))
EULER, INFINITY = Name("e"), Name(r"\infty")


def negative(tree: Tree) -> Tree:
    """Turn a tree's sign; a numeral stays one."""
    return Number(-tree.value) if isinstance(tree, Number) else Apply("*", (MINUS_ONE, tree))


def difference(left: Tree, right: Tree) -> Tree:
    """Give `left - right`.

    Args:
        left: What is reduced.
        right: By what.
    """
    return Apply("+", (left, negative(right)))


def walk(tree: Tree) -> Iterator[Tree]:
    """The tree and everything in it."""
    yield tree
    if isinstance(tree, Apply):
        for part in tree.parts:
            yield from walk(part)


def free_names(tree: Tree) -> frozenset[str]:
    """The names that nothing binds."""
    if isinstance(tree, Name):
        return frozenset({tree.text})
    if isinstance(tree, Number):
        return frozenset()
    if tree.head in BINDERS:
        bound, *bounds, body = tree.parts
        within = free_names(body) - free_names(bound)
        return within.union(*map(free_names, bounds))
    return frozenset().union(*map(free_names, tree.parts))


def substituted(tree: Tree, by: Mapping[str, Tree]) -> Tree:
    """Put trees in the place of free names.

    Args:
        tree: Where.
        by: Name to what replaces it.
    """
    if isinstance(tree, Name):
        return by.get(tree.text, tree)
    if isinstance(tree, Number):
        return tree
    if tree.head in BINDERS:
        bound, *bounds, body = tree.parts
        within = {name: one for name, one in by.items() if name not in free_names(bound)}
        outside = (substituted(bound, by) for bound in bounds)
        return Apply(tree.head, (bound, *outside, substituted(body, within)))
    return Apply(tree.head, tuple(substituted(part, by) for part in tree.parts))


def as_fraction(tree: Tree) -> tuple[Tree, tuple[Tree, ...]]:
    """Numerator, and the factors of the denominator, of sums, products, quotients, powers."""
    if isinstance(tree, Apply):
        if tree.head == "/":
            (top, over), (bottom, under) = map(as_fraction, tree.parts)
            return _product((top, *under)), (*over, bottom)
        if tree.head == "*":
            pairs = [as_fraction(part) for part in tree.parts]
            below = tuple(factor for _, factors in pairs for factor in factors)
            return _product(tuple(top for top, _ in pairs)), below
        if tree.head == "+":
            pairs = [as_fraction(part) for part in tree.parts]
            below = tuple(dict.fromkeys(factor for _, factors in pairs for factor in factors))
            terms = tuple(
                _product((top, *(one for one in below if one not in factors)))
                for top, factors in pairs
            )
            return Apply("+", terms), below
        if tree.head == "^" and isinstance(tree.parts[1], Number) and tree.parts[1].value < 0:
            return Number(Fraction(1)), (Apply("^", (tree.parts[0], negative(tree.parts[1]))),)
    return tree, ()


def _product(factors: tuple[Tree, ...]) -> Tree:
    return factors[0] if len(factors) == 1 else Apply("*", factors)

"""Whether an expression is zero, at given values of its names.

Functions of which nothing is known are numbers that follow from their names and arguments alone;
so are integrals, limits and endless sums, of which the body is tried at two values of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from hashlib import blake2b

from reward_server.answers.arithmetic import Arithmetic, NoValue, TooLarge, Value, inexact
from reward_server.answers.functions import RULES
from reward_server.answers.trees import BINDERS, INFINITY, Apply, Name, Number, Tree, negative

FIRST_SPAN, MAX_SPAN = 10, 1000
MAX_TERMS = 1000
MAX_STEPS = 20_000
OPAQUE_DIGITS = 25


class Budget:
    """What a comparison may cost: so many steps of eighty digits; more digits cost more."""

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self.steps = float(steps)

    def spend(self, by: Arithmetic) -> None:
        """Pay for a step.

        Raises:
            TooLarge: Nothing is left.
        """
        self.steps -= by.effort
        if self.steps < 0:
            raise TooLarge("more steps than a comparison may take")


def is_zero(
    tree: Tree, at: Mapping[str, Fraction], budget: Budget, *, is_complex: bool = False
) -> bool:
    """Tell whether an expression is zero, with as many digits as its numbers are apart.

    Args:
        tree: The expression.
        at: The values of its free names.
        budget: What is left for it.
        is_complex: Whether `i` is the root of -1, and negative numbers have roots.

    Raises:
        NoValue: It has none there.
        TooLarge: It would cost too much.
    """
    span = FIRST_SPAN
    while span <= MAX_SPAN:
        evaluation = _Evaluation(Arithmetic(span, is_complex=is_complex), at, budget)
        found = evaluation.value(tree)
        if evaluation.by.is_exact or evaluation.by.span <= span:
            return not found
        span = evaluation.by.span + FIRST_SPAN
    raise TooLarge(f"numbers {span} digits apart")


def value_of(tree: Tree) -> Value:
    """The value of a real expression without variables, to sixty digits if it is not rational.

    Raises:
        NoValue: It has none.
        TooLarge: It would cost too much.
    """
    return _Evaluation(Arithmetic(FIRST_SPAN, is_complex=False), {}, Budget()).value(tree)


def drawn(key: str, digest_bytes: int = 1) -> Fraction:
    """Draw a number between 1/2 and 1 that nobody tells beforehand, and that is always the same.

    Args:
        key: What it is drawn for.
        digest_bytes: How many bytes of it are drawn.
    """
    bits = int.from_bytes(blake2b(key.encode(), digest_size=digest_bytes).digest())
    return Fraction(256**digest_bytes + bits, 2 * 256**digest_bytes)


class _Evaluation:
    def __init__(self, by: Arithmetic, at: Mapping[str, Fraction], budget: Budget) -> None:
        self.by = by
        self._names: dict[str, Value] = dict(at)
        self._budget = budget

    def value(self, tree: Tree) -> Value:
        self._budget.spend(self.by)
        if isinstance(tree, Number):
            return self.by.seen(tree.value)
        if isinstance(tree, Name):
            return self._named(tree.text)
        if tree.head in BINDERS:
            return self._bound(tree)
        rule = RULES.get(tree.head)
        if rule is None:
            return self._opaque(tree.head, tree.parts)
        found = self.by.kept(rule(self.by, *map(self.value, tree.parts)))
        return found if tree.head == "+" else self.by.seen(found)

    def _named(self, text: str) -> Value:
        if text in self._names:
            return self.by.seen(self._names[text])
        if text == "e":
            return self.by.kept(+self.by.mp.e)
        if text == r"\pi":
            return self.by.kept(+self.by.mp.pi)
        if text == "i" and self.by.is_complex:
            return self.by.kept(self.by.mp.mpc(0, 1))
        raise NoValue(f"{text} has no value")

    def _bound(self, tree: Apply) -> Value:
        name, *bounds, body = tree.parts
        if tree.head not in ("sum", "product") or INFINITY in bounds:
            probes = [self._within(name, body, drawn(f"{tree.head} {k}")) for k in (1, 2)]
            return self._opaque(tree.head, tuple(bounds), probes)
        low, high = (self.by.whole(self.value(bound)) for bound in bounds)
        if high - low >= MAX_TERMS:
            raise TooLarge(f"more than {MAX_TERMS} terms")
        found = [self._within(name, body, Fraction(at)) for at in range(low, high + 1)]
        return self.by.kept(self.by.total(found) if tree.head == "sum" else self.by.product(found))

    def _within(self, name: Tree, body: Tree, value: Fraction) -> Value:
        assert isinstance(name, Name)
        outside, self._names = self._names, {**self._names, name.text: value}
        try:
            return self.value(body)
        finally:
            self._names = outside

    def _opaque(self, head: str, parts: tuple[Tree, ...], more: list[Value] | None = None) -> Value:
        keys = [head]
        for part in parts:
            if part in (INFINITY, negative(INFINITY)):
                keys.append(repr(part))
            else:
                keys.append(self._key(self.value(part)))
        return drawn("|".join([*keys, *map(self._key, more or ())]), digest_bytes=8)

    def _key(self, value: Value) -> str:
        return str(self.by.mp.nstr(inexact(value), OPAQUE_DIGITS))

r"""A cleaned answer as a tree: all of it, or nothing.

What is not known here is refused (`Unread`) and never skipped: a mark, a bound or a command that a
reader drops makes different answers equal. So are numerals side by side (`2 3`), letters with a
figure behind (`x2`), words, and functions of which it is not plain how far they reach
(`\ln x / 2`). Juxtaposition binds tighter than a slash: `1/2x` is one over `2x`.
"""

from __future__ import annotations

import re
from fractions import Fraction

from reward_server.answers import commands, names, tokens
from reward_server.answers.commands import FUNCTIONS, OF_SEVERAL
from reward_server.answers.tokens import Cursor, Unread
from reward_server.answers.trees import EULER, Apply, Name, Number, Tree, negative, walk

MAX_DEPTH = 60
_TEN = Number(Fraction(10))
_LOGARITHMS: dict[str, Tree] = {"ln": EULER, "lg": _TEN, "log": _TEN}
_SPECIAL = (r"\zeta", r"\Gamma")
"""Functions of numbers, which never stand without an argument: a letter that does is a variable."""
_APPLIED = re.compile(r"(?:[fgFGP]|\\(?:zeta|Gamma|Phi|phi|psi|Psi))(?:_\S+)?|.*'")


def read(text: str) -> Tree:
    """Read a cleaned answer: an expression, or a relation between some.

    Args:
        text: As `notation.read` spells it.

    Raises:
        Unread: It has anything that is not known to have one meaning.
    """
    reader = _Reader(tokens.cut(text))
    tree = reader.relation()
    if reader.now:
        raise Unread(f"{reader.now} has no meaning here")
    return tree


class _Reader(Cursor):
    """Recursive descent; each method takes what its name says."""

    def __init__(self, found: list[str]) -> None:
        super().__init__(found)
        self.depth = 0
        self.bars = ""
        self.variables = {
            name
            for name, after in zip(found, [*found[1:], ""], strict=False)
            if name in _SPECIAL and after not in ("(", "^", "_", "'")
        }

    def relation(self) -> Tree:
        sides, signs = [self.expression()], []
        while self.now in commands.RELATION:
            signs.append(commands.RELATION[self.next()])
            sides.append(self.expression())
        if self.take(r"\pmod"):
            return Apply("equiv", (*sides, self.argument()))
        if not signs:
            return sides[0]
        if len(set(signs)) > 1:
            raise Unread("relations of two kinds")
        if signs[0] == "equiv":
            last = sides.pop()
            if not (isinstance(last, Apply) and last.head == "mod"):
                raise Unread("a congruence without its modulus")
            return Apply("equiv", (*sides, *last.parts))
        head = commands.TURNED.get(signs[0])
        return Apply(head, tuple(sides[::-1])) if head else Apply(signs[0], tuple(sides))

    def expression(self) -> Tree:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unread("nested too deeply")
        terms = [self.signed()]
        while self.now in ("+", "-"):
            terms.append(self.signed())
        if self.take(r"\bmod"):
            if len(terms) > 1:
                raise Unread("a sum before mod")
            terms = [Apply("mod", (terms[0], self.term()))]
        self.depth -= 1
        return terms[0] if len(terms) == 1 else Apply("+", tuple(terms))

    def signed(self) -> Tree:
        is_negative = False
        while self.now in ("+", "-"):
            is_negative ^= self.next() == "-"
        term = self.term()
        return negative(term) if is_negative else term

    def term(self) -> Tree:
        tree = self.product()
        while self.now in (*commands.TIMES, *commands.OVER, r"\cross"):
            sign = self.next()
            head = "cross" if sign == r"\cross" else "*" if sign in commands.TIMES else "/"
            factor = negative(self.product()) if self.take("-") else self.product()
            tree = Apply(head, (tree, factor))
        return tree

    def product(self) -> Tree:
        factors = [self.factor()]
        while self.starts_factor():
            if self.before.isalpha() and tokens.number_of(self.now):
                raise Unread("a figure behind a letter")
            last = factors[-1]
            if isinstance(last, Number) and self.before != ")":
                if self.now == "{" or tokens.number_of(self.now):
                    raise Unread("numerals side by side")
                if self.now == r"\frac":
                    factors[-1:] = _mixed(last, self.factor())
                    continue
            factors.append(self.factor())
        return factors[0] if len(factors) == 1 else Apply("*", tuple(factors))

    def starts_factor(self) -> bool:
        if self.now in ("|", r"\Vert"):
            return self.now != self.bars
        is_number = tokens.number_of(self.now) is not None
        return is_number or names.starts(self.now) or self.now in commands.STARTING

    def factor(self) -> Tree:
        tree = self.atom()
        while self.now in ("!", "!!", "^"):
            if self.now != "^":
                tree = Apply(self.next(), (tree,))
                continue
            mark = names.raised_mark(self, may_be_matrix=_is_matrix(tree))
            tree = Apply(mark, (tree,)) if mark else Apply("^", (tree, self.exponent()))
            if self.now == "^":
                raise Unread("a power of a power")
        return tree

    def exponent(self) -> Tree:
        self.need("^")
        return negative(self.atom()) if self.take("-") else self.atom()

    def atom(self) -> Tree:
        token = self.now
        number = tokens.number_of(token)
        if number is not None:
            self.next()
            return Number(number.value)
        if token in commands.CLOSED_BY or token in commands.ENCLOSED:
            return self.enclosed()
        if token in FUNCTIONS:
            return self.function()
        if names.starts(token):
            return self.named()
        self.next()
        if token == r"\frac":
            return self.fraction()
        if token == r"\sqrt":
            index: Tree = Number(Fraction(2))
            if self.now == "[":
                index = self.enclosed()
            return Apply("root", (index, self.argument()))
        if token in commands.OF_TWO:
            return Apply(commands.OF_TWO[token], (self.argument(), self.argument()))
        if token in OF_SEVERAL:
            return Apply(OF_SEVERAL[token], self.items())
        if token in commands.OPERATORS:
            return self.operator(commands.OPERATORS[token])
        raise Unread(f"{token or 'nothing'} where a number or a name should be")

    def enclosed(self) -> Tree:
        opening = self.next()
        closing, head = commands.ENCLOSED.get(opening, (commands.CLOSED_BY.get(opening, ""), ""))
        outside, self.bars = self.bars, opening
        inner = self.expression()
        if opening == "{" and self.take(r"\choose"):
            inner = Apply("binomial", (inner, self.expression()))
        self.need(closing)
        if opening == "|" and self.now == "_":
            raise Unread("a bar with a value below")
        self.bars = outside
        return Apply(head, (inner,)) if head else inner

    def argument(self) -> Tree:
        """Of a command: a group, or one token; of several figures it is not plain how many."""
        if len(self.now) > 1 and tokens.number_of(self.now):
            raise Unread("figures without braces")
        return self.atom()

    def items(self) -> tuple[Tree, ...]:
        opening = self.next()
        closing = {"(": ")", "[": "]", r"\{": r"\}", "{": "}"}.get(opening)
        if closing is None:
            raise Unread(f"{opening} where brackets should be")
        outside, self.bars = self.bars, ""
        found = [self.expression()]
        while self.take(",", ";"):
            found.append(self.expression())
        self.need(closing)
        self.bars = outside
        return tuple(found)

    def named(self) -> Tree:
        text = names.read(self)
        is_applied = _APPLIED.fullmatch(text) is not None and text not in self.variables
        start = self.at
        if is_applied and self.now == "^" and "(" in self.tokens[start:]:
            exponent = self.exponent()
            if self.now == "(":
                if exponent != Number(Fraction(-1)):
                    raise Unread("a power of a function")
                return Apply(f"{text}^-1", self.items())
            self.at = start
        if self.now == "(":
            found = self.items() if is_applied or self.is_called() else ()
            if found:
                return Apply(text, found)
        return Name(text)

    def is_called(self) -> bool:
        """Whether the parentheses hold several arguments, or a numeral: `I(0)`."""
        inside = Cursor(self.tokens)
        inside.at = self.at + 1
        end = inside.find(lambda index: self.tokens[index] in (",", ")"))
        is_numeral = end == inside.at + 1 and tokens.number_of(inside.now) is not None
        return is_numeral or (end is not None and self.tokens[end] == ",")

    def fraction(self) -> Tree:
        start = self.at
        derivative = names.derivative(self.group(), self.group())
        if derivative:
            return Name(derivative)
        self.at = start
        return Apply("/", (self.argument(), self.argument()))

    def function(self) -> Tree:
        name = FUNCTIONS[self.next()]
        base: Tree | None = _LOGARITHMS.get(name)
        if name == "log" and self.take("_"):
            base = self.argument() if self.now == "{" else self.atom()
        exponent = self.exponent() if self.now == "^" else None
        if exponent == Number(Fraction(-1)) and name in ("sin", "cos", "tan", "cot"):
            name, exponent = f"arc{name}", None
        inner = self.function_argument(is_angle=base is None)
        if base is not None:
            tree = Apply("log", (base, inner))
        elif name == "exp":
            tree = Apply("^", (EULER, inner))
        else:
            tree = Apply(name, (inner,))
        return Apply("^", (tree, exponent)) if exponent else tree

    def function_argument(self, *, is_angle: bool) -> Tree:
        if self.now in commands.CLOSED_BY or self.now in commands.ENCLOSED:
            inner = self.enclosed()
            if self.now in ("^", "!", "!!"):
                raise Unread("a power of an argument, or of a function")
            return inner
        if self.now in FUNCTIONS:
            return self.function()
        factors = [self.factor()]
        while self.starts_factor() and self.now not in (*FUNCTIONS, *commands.OPERATORS):
            if self.now in ("(", "[", "{"):
                raise Unread("a function whose argument has no plain end")
            factors.append(self.factor())
        inner = factors[0] if len(factors) == 1 else Apply("*", tuple(factors))
        if self.take(*commands.OVER):
            if not (is_angle and Name(r"\pi") in walk(inner) and tokens.number_of(self.now)):
                raise Unread("a function whose argument has no plain end")
            inner = Apply("/", (inner, self.atom()))
        return inner

    def operator(self, head: str) -> Tree:
        name, bounds = self.bounds()
        if head == "integral":
            is_end = self.find(self.is_differential)
            if is_end is None:
                raise Unread("an integral without its variable")
            inner = _Reader(self.tokens[self.at : is_end])
            body: Tree = inner.expression() if inner.now else Number(Fraction(1))
            if inner.now:
                raise Unread(f"{inner.now} has no meaning here")
            self.at = is_end + 1
            name = Name(names.read(self))
        else:
            body = self.term()
        if name is None or len(bounds) != (1 if head == "limit" else 2):
            raise Unread(f"a {head} without its bounds")
        below = re.compile(rf"_.*(?<![a-zA-Z]){re.escape(name.text)}(?![a-zA-Z])")
        if any(isinstance(one, Name) and below.search(one.text) for one in walk(body)):
            raise Unread("a subscript that runs")
        return Apply(head, (name, *bounds, body))

    def bounds(self) -> tuple[Name | None, tuple[Tree, ...]]:
        name, low, high = None, None, None
        while self.now in ("_", "^"):
            if self.now == "^":
                high = self.exponent()
                continue
            self.next()
            start = self.at
            if self.take("{") and names.starts(self.now):
                name = Name(names.read(self))
                if self.take("=", r"\to", r"\rightarrow"):
                    low = self.expression()
                    self.need("}")
                    continue
            self.at, name = start, None
            low = self.atom()
        return name, tuple(bound for bound in (low, high) if bound is not None)

    def is_differential(self, index: int) -> bool:
        return self.tokens[index] == "d" and names.starts((*self.tokens, "")[index + 1])


def _mixed(whole: Number, fraction: Tree) -> tuple[Tree, ...]:
    """`2\\frac{1}{3}` as one number; a product where the fraction is not of two numerals."""
    if isinstance(fraction, Apply) and all(isinstance(part, Number) for part in fraction.parts):
        top, bottom = (part.value for part in fraction.parts if isinstance(part, Number))
        if whole.value.denominator > 1 or not 0 < top < bottom:
            raise Unread("a numeral beside a fraction")
        return (Number(whole.value + top / bottom),)
    return whole, fraction


def _is_matrix(tree: Tree) -> bool:
    """Whether a raised `T` transposes: it stands on capitals only."""
    return all(isinstance(one, Apply) or _is_capital(one) for one in walk(tree))


def _is_capital(tree: Tree) -> bool:
    return isinstance(tree, Name) and (tree.text[0].isupper() or tree.text[0] == "\\")

r"""Names as they are read: a letter or a symbol with every mark on it (`\vec{v}_1'`, `A^\top`).

Marks are part of the name, so that `y'` is another one than `y''`, and `\bar{x}` than `x`.
Derivatives are names too: `\frac{dy}{dx}` is known to be nothing else.
"""

from __future__ import annotations

import re

from reward_server.answers.tokens import Cursor, Unread, joined, number_of

_SMALL = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda",
    "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
)  # fmt: skip
_CAPITAL = (
    "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega",
)  # fmt: skip
_OTHER = ("ell", "hbar", "aleph", "imath", "jmath", "infty")
_MARK = (
    "vec", "bar", "hat", "tilde", "dot", "ddot", "dddot", "check", "breve", "acute", "grave",
    "mathring", "underline", "mathbb", "mathcal", "mathscr", "mathfrak", "overleftrightarrow",
    "angle", "triangle",
)  # fmt: skip
SYMBOLS = frozenset(rf"\{name}" for name in (*_SMALL, *_CAPITAL, *_OTHER))
MARKS = frozenset(rf"\{name}" for name in _MARK)
_OF_POINTS = {r"\angle", r"\triangle"}
_RAISED = {"*", r"\dagger", r"\top", "+", "-", r"\perp", r"\parallel"}
_ORDER = re.compile(r"\( (?:\d|n) \)")  # of a derivative
_TOP = re.compile(r"(d|\\partial)(?: \^ (?:\d|n))?(?: (?:{ )?\\?[a-zA-Z][\w ]*(?: })?)?")
_BOTTOM = re.compile(
    r"(d|\\partial) \\?[a-zA-Z]+(?: \^ (?:\d|n))?(?: (?:d|\\partial) \\?[a-zA-Z]+)*"
)


def starts(token: str) -> bool:
    """Whether a name begins with this token."""
    return token in SYMBOLS or token in MARKS or (token.isalpha() and token.isascii())


def read(cursor: Cursor) -> str:
    """Take a name with its subscript, its primes and what is raised on it without being a power.

    Raises:
        Unread: No name stands there, or one that is marked in two ways at once.
    """
    text = _base(cursor)
    below = primes = raised = ""
    while cursor.now in ("_", "^") or cursor.now.startswith("'"):
        if cursor.now == "^":
            mark = raised_mark(cursor, may_be_matrix=text[:1].isupper() or text[:1] == "\\")
            if mark is None:
                break
            raised += mark
        elif cursor.take("_"):
            below += "_" + joined(cursor.group())
        else:
            primes += cursor.next()
    return text + below + primes + raised


def raised_mark(cursor: Cursor, *, may_be_matrix: bool) -> str | None:
    r"""Take `^*`, `^\dagger`, `^\top` and their like; None where a power stands.

    Args:
        cursor: At the `^`.
        may_be_matrix: A raised `T` transposes.
    """
    start = cursor.at
    cursor.next()
    mark = joined(cursor.group())
    if mark == "T" and may_be_matrix:
        mark = r"\top"
    is_sign = mark in ("+", "-") and _starts_power(cursor)
    if (mark in _RAISED and not is_sign) or _ORDER.fullmatch(mark):
        return f"^{mark}"
    cursor.at = start
    return None


def derivative(top: list[str], bottom: list[str]) -> str | None:
    """The name of a derivative that is written as a fraction; None where it is a fraction.

    Args:
        top: Tokens of the numerator.
        bottom: Tokens of the denominator.
    """
    over, under = joined(top), joined(bottom)
    left, right = _TOP.fullmatch(over), _BOTTOM.fullmatch(under)
    return f"{over} / {under}" if left and right and left[1] == right[1] else None


def _starts_power(cursor: Cursor) -> bool:
    """Whether a sign that was taken belongs to a numeral or a name behind it: `x^-1`."""
    return cursor.before != "}" and (number_of(cursor.now) is not None or starts(cursor.now))


def _base(cursor: Cursor) -> str:
    token = cursor.next()
    if token == r"\Delta" and starts(cursor.now):  # a difference, else a letter
        return f"{token} {_base(cursor)}"
    if token in _OF_POINTS:
        return f"{token} {_points(cursor)}"
    if token not in MARKS:
        if not starts(token):
            raise Unread(f"{token} is no name")
        return token
    marked = cursor.group()
    if not marked[0] or number_of(marked[0]):
        raise Unread(f"{token} over no name")
    if marked[0] in MARKS and len(marked) == 1:
        cursor.at -= 1
        marked = [_base(cursor)]
    return f"{token} {joined(marked)}"


def _points(cursor: Cursor) -> str:
    found = ""
    while cursor.now.isalpha() and (cursor.now.isupper() or not found):
        found += cursor.next()
    return found or _base(cursor)

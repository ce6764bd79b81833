r"""How a cleaned answer is put together: lists, tuples, sets, intervals, unions, matrices.

Only brackets and separators are read; the items are left to whoever compares them. Solutions that
are written as relations or with a set-builder become intervals (`x > 2`: `(2,\infty)`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["single", "list", "set", "union", "bracketed", "matrix"]

_OPENING, _CLOSING = "([{", ")]}"
_WORD = re.compile(r"(?<![a-zA-Z\\])(?:or|and)(?![a-zA-Z])")
_GROUPED = re.compile(r"(?<![\d.])(?<!\d,)[1-9]\d{0,2}(?:,\d{3})+(?!\d|,\d)")
_CUP = re.compile(r"\\cup(?![a-zA-Z])")
_EITHER = re.compile(r"(?<![a-zA-Z\\])or(?![a-zA-Z])|\\(?:cup|lor|vee)(?![a-zA-Z])")
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![a-zA-Z])")
_MATRIX = re.compile(
    r"[(\[]? ?\\begin ?\{((?:[pbB]|small)?matrix|array)\}(?: ?\{[lcr| ]*\})?"
    r"(.*?)\\end ?\{\1\} ?[)\]]?"
)
_VARIABLE = r"(?:[a-zA-Z]|\\[a-zA-Z]+)"
_BUILDER = re.compile(
    rf"\\\{{ ?({_VARIABLE})(?: ?\\in ?\\mathbb ?\{{?R\}}?)? ?(?:\\mid|\\vert|\||:) ?(.+)\\\}}"
)
_MEMBER = re.compile(rf"{_VARIABLE} ?\\in(?![a-zA-Z]) ?(.+)")
_RELATION = re.compile(r"(<|>|\\[lg]e(?![a-zA-Z]))")
_LETTERS = re.compile(r"(?<![a-zA-Z\\])[a-zA-Z]|,|=|\\(?!(?:infty|pi|sqrt|frac)(?![a-zA-Z]))")


@dataclass(frozen=True, slots=True)
class Structure:
    """Items and what holds them together.

    Attributes:
        kind: single has one item, the text itself.
        items: Their texts; of a matrix row by row.
        shape: Of `bracketed` its two brackets, of `matrix` the lengths of its rows.
    """

    kind: Kind
    items: tuple[str, ...]
    shape: tuple[str | int, ...] = ()


def read(text: str) -> Structure:
    """The outermost structure of a cleaned text."""
    if match := _MATRIX.fullmatch(text):
        rows = [row.split("&") for row in re.split(r"\\\\", match[2]) if row.strip()]
        cells = tuple(cell.strip() for row in rows for cell in row)
        return Structure("matrix", cells, tuple(len(row) for row in rows))
    union = _split(_CUP.sub("\0", text), "\0")
    if len(union) > 1:
        return Structure("union", tuple(union))
    items = _expanded(parts(text))
    if len(items) > 1:
        return Structure("list", tuple(items))
    for opening, closing in ((r"\{", r"\}"), ("{", "}")):
        inner = text[len(opening) : -len(closing)]
        if text.startswith(opening) and text.endswith(closing) and is_balanced(inner):
            items = _expanded(parts(inner))
            if opening == r"\{" or len(items) > 1:
                return Structure("set", tuple(items))
    inner = text[1:-1]
    if text[:1] in "([" and text[-1:] in ")]" and is_balanced(inner):
        items = parts(inner)
        if len(items) > 1:
            return Structure("bracketed", tuple(items), (text[0], text[-1]))
    if match := re.fullmatch(r"\\langle(?![a-zA-Z]) ?(.*?) ?\\rangle", text):
        return Structure("bracketed", tuple(parts(match[1])), ("(", ")"))
    return Structure("single", (text,))


def parts(text: str) -> list[str]:
    """Top-level items of a list written with commas, semicolons, `or` and `and`.

    The commas of one number in groups of three do not part it.
    """
    text = _GROUPED.sub(lambda match: match.group().replace(",", "\0"), _WORD.sub(";", text))
    return [item.replace("\0", ",").strip() for item in _split(text, ",;") if item.strip()]


def ungrouped(text: str) -> Structure:
    """Read `100,200,300` as a list, for comparison with one."""
    return Structure("list", tuple(item.strip() for item in text.split(",")))


def is_grouped(text: str) -> bool:
    """Whether a text is one number with its digits in groups of three: `100,200,300`."""
    return _GROUPED.fullmatch(text) is not None


def operands(text: str, commands: Sequence[str]) -> list[str]:
    r"""What stands beside commands that are in no brackets, and these, by turns.

    Args:
        text: A cleaned text.
        commands: `\cup` and its like.
    """
    for number, command in enumerate(commands):
        text = re.sub(re.escape(command) + "(?![a-zA-Z])", chr(number), text)
    found = _cut(text, "".join(map(chr, range(len(commands)))))
    found[1::2] = [commands[ord(sign)] for sign in found[1::2]]
    return found


def solution(text: str) -> str:
    """A solution set as an interval or a union of them, where it is written in another way."""
    if match := _BUILDER.fullmatch(text):
        text = match[2].strip()
    elif match := _MEMBER.fullmatch(text):
        return match[1].strip()
    found = [_interval(piece.strip()) for piece in _EITHER.split(text)]
    if any(one is None for one in found) or len({one[0] for one in found if one}) > 1:
        return text
    return r" \cup ".join(one[1] for one in found if one)


def depth(text: str) -> int:
    """Deepest nesting of brackets."""
    level = deepest = 0
    for character in text:
        if character in _OPENING:
            level += 1
            deepest = max(deepest, level)
        elif character in _CLOSING:
            level -= 1
    return deepest


def is_balanced(text: str) -> bool:
    """Whether no bracket closes one that was opened before the text."""
    level = 0
    for character in text:
        level += (character in _OPENING) - (character in _CLOSING)
        if level < 0:
            return False
    return level == 0


def _split(text: str, separators: str) -> list[str]:
    return _cut(text, separators)[::2]


def _cut(text: str, separators: str) -> list[str]:
    """Items and separators by turns, of those separators that stand in no brackets."""
    found, level, start = [], 0, 0
    for index, character in enumerate(text):
        if character in _OPENING:
            level += 1
        elif character in _CLOSING:
            level -= 1
        elif character in separators and level == 0:
            found += [text[start:index], character]
            start = index + 1
    return [*found, text[start:]]


def _expanded(items: list[str]) -> list[str]:
    """Each item with one plus-minus as the two that it stands for."""
    found = []
    for item in items:
        if len(_PLUS_MINUS.findall(item)) == 1:
            for sign in "+-":
                found.append(_PLUS_MINUS.sub(sign, item).replace("= +", "= ").lstrip("+ "))
        else:
            found.append(item)
    return found


def _interval(text: str) -> tuple[str, str] | None:
    """Variable and interval of a relation between one variable and constants."""
    pieces = [piece.strip() for piece in _RELATION.split(text)]
    bounds, signs = pieces[::2], pieces[1::2]
    if len(signs) == 1 and not re.fullmatch(_VARIABLE, bounds[0]):
        bounds, signs = bounds[::-1], [_flipped(signs[0])]
    if len(signs) == 1:
        variable, bound = bounds
        if signs[0] in ("<", r"\le"):
            shown = rf"(-\infty,{bound}" + (")" if signs[0] == "<" else "]")
        else:
            shown = ("(" if signs[0] == ">" else "[") + rf"{bound},\infty)"
        ends = [bound]
    elif len(signs) == 2:
        if signs[0] in (">", r"\ge"):
            bounds, signs = bounds[::-1], [_flipped(sign) for sign in signs[::-1]]
        if not all(sign in ("<", r"\le") for sign in signs):
            return None
        low, variable, high = bounds
        ends = [low, high]
        shown = f"{'(' if signs[0] == '<' else '['}{low},{high}{')' if signs[1] == '<' else ']'}"
    else:
        return None
    is_constant = all(end and not _LETTERS.search(end) for end in ends)
    return (variable, shown) if is_constant and re.fullmatch(_VARIABLE, variable) else None


def _flipped(sign: str) -> str:
    return {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}[sign]

r"""Equations around an answer: `x = 5` for `5`, but never `2x = 5`.

Only an equals sign outside of brackets makes an equation; that of a bound (`\sum_{k=1}^n`) or of a
subscript does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reward_server.answers import numerals, reader, structures, symbolic
from reward_server.answers.functions import RULES
from reward_server.answers.identity import CONSTANTS
from reward_server.answers.trees import BINDERS, RELATIONS, Apply, Name, free_names

MAX_CONDITION = 60

_EQUALS = re.compile(r"(?<![<>!:=\\])=(?!=)")
_GREEK = r"\\(?:theta|alpha|beta|gamma|delta|(?:var)?phi|psi|omega|lambda|mu|Phi|Gamma)(?![a-zA-Z])"
_FUNCTION = r"(?:(?:arc)?(?:sin|cos|tan)h?|sqrt|floor|ceil(?:ing)?)(?![a-z])"
_ANGLE = rf"(?:(?:\\angle ?)?[A-Z]{{1,3}}(?![a-zA-Z])|{_GREEK})"
_BELOW = r"(?:_(?:\{[^{}]*\}|\w))?"
_WITHIN = r"\([^()]*(?:\([^()]*\)[^()]*)*\)"
_SIMPLE = r"(?:[a-zA-Z]|\d+)"
_NAMES = (
    r"[A-Z]{1,4}",
    rf"(?:[A-Za-z]+ )*(?!{_FUNCTION})[A-Za-z]{{4,}}(?: [A-Za-z]+)* ?(?:{_WITHIN})?",  # Area of ABC
    rf"\\?[A-Z][a-z]+ ?{_WITHIN}",  # Var(X)
    rf"\\(?:det|dim|deg|tr|rank|arg|Area) ?(?:[A-Za-z]|{_WITHIN})",
    r"p[A-Z][a-zA-Z]?",  # pH
    rf"(?:[a-zA-Z]|{_GREEK}){_BELOW} ?\({_SIMPLE}(?: ?, ?{_SIMPLE})*\)",  # a(5), S(n)
    r"[a-zA-Z]_\{[^{}]*\}",
    rf"[fghpqFGHPE]{_BELOW}'*(?:\^ ?\{{? ?-1 ?\}}?)? ?(?:{_WITHIN}|\[[^\[\]]*\])",  # P(X>2)
    r"\| ?(?:\\\w+ ?\{? ?)?[A-Z]+ ?\}? ?\|",  # |AB|
    r"\[(?:\\triangle ?)?[A-Z][^\[\]]*\]",  # [ABC]
    r"\([a-zA-Z](?: ?, ?[a-zA-Z])+\)",  # (x,y)
    rf"\([a-zA-Z] ?\\circ ?[a-zA-Z]\) ?{_WITHIN}",
    r"\\(?:lim|i{1,3}nt|oint)(?![a-zA-Z])[^+=]*",
    rf"(?:m ?)?\\(?:angle|triangle|widehat|overline|Delta) ?\{{? ?[a-zA-Z]+ ?\}}?{_BELOW}",
    rf"\\(?:sin|cos|tan|cot|sec|csc)(?:\^ ?\{{? ?2 ?\}}?)? ?\(? ?{_ANGLE} ?\)?",
)
"""What an answer may be said of. Any other name that `reader` reads is one as well."""
_NAME = re.compile("|".join(_NAMES))
_CONDITION = re.compile(
    r" ?(?:,|;|\(| ) ?(?:(?:where|for|with)(?: (?:any|all|some|every|each))?)? ?"
    r"(?:(?:an )?integers? )?(?P<name>[a-zA-Z]) ?"
    r"(?:\\in ?(?:\\mathbb ?\{? ?(?P<set>[ZN]) ?\}?|Z)|(?:is|being) (?:an|any) integer)? ?\)?$"
)


def sides(text: str) -> list[str]:
    """What stands beside the equals signs that are in no brackets; the text itself without one."""
    found, start, level = [], 0, 0
    marks = {match.start() for match in _EQUALS.finditer(text)}
    for index, character in enumerate(text):
        level += (character in "([{") - (character in ")]}")
        if level == 0 and index in marks:
            found.append(text[start:index].strip())
            start = index + 1
    return [*found, text[start:].strip()]


def bare(text: str, other: str) -> str | None:
    r"""What an answer says a name is: `5` of `x = 5`, `5 = x`, `2 + 3 = 5`, `S = 2 + 3 = 5`.

    Solutions as relations become intervals, and of `1/3 \approx 0.33` the first is taken.

    Args:
        text: A cleaned answer or reference.
        other: The one it is compared with; an equation keeps its sides against another.

    Returns:
        None for an equation that is not solved, or wrong.
    """
    text = structures.solution(text)
    found = [side for side in sides(text) if side]
    if len(found) < 2 or len(sides(other)) > 1 or not sides(text)[-1]:
        exact = [side.strip() for side in text.split(r"\approx") if side.strip()]
        return exact[0] if exact and r"\approx" not in other else text
    if len(structures.parts(text)) > 1:
        return text
    if is_name(found[-1]) and not is_name(found[0]):
        found.reverse()  # 5 = x
    plain = [side for side in found if numerals.number(side)]
    value = plain[-1] if plain and not is_name(found[0]) else found[-1]
    is_told = is_name(found[0])
    checked = [side for side in found[1:] if _is_closed(side)] if is_told else found
    if all(_is_same(side, value) for side in checked):
        return value
    return None


def solved(text: str) -> tuple[str, str] | None:
    """The two sides of one equation, a name first; None for anything else."""
    found = sides(text)
    if len(found) != 2 or len(structures.parts(text)) > 1:
        return None
    left, right = found
    return (right, left) if is_name(right) and not is_name(left) else (left, right)


def without_parameters(answer: str, gold: str) -> tuple[str, str] | None:
    r"""Take off a condition like `, k \in \mathbb{Z}` at the end, which may be left unsaid.

    Args:
        answer: Cleaned.
        gold: The reference, cleaned.

    Returns:
        Both without it, with one name for their parameters; None where these are not alike.
    """
    left, right = _parameter(answer), _parameter(gold)
    if left is None and right is None:
        return answer, gold
    sets = {one.of for one in (left, right) if one}
    if len(sets) > 1 or not ((left and right) or sets == {"Z"}):
        return None
    said, wanted = left.head if left else answer, right.head if right else gold
    return _renamed(said, left.name, right.name) if left and right else said, wanted


def is_name(text: str) -> bool:
    r"""Whether a side stands for what is asked: `x`, `f(2)`, `\angle A`, `\frac{dy}{dx}`."""
    if _NAME.fullmatch(text):
        return True
    try:
        tree = reader.read(text)
    except reader.Unread:
        return False
    if isinstance(tree, Apply):
        return tree.head not in RULES and tree.head not in BINDERS | RELATIONS
    return isinstance(tree, Name)


def by_coordinates(text: str) -> str:
    """`a=1, b=2` for `(a,b)=(1,2)`; any other text as it is."""
    found = [structures.read(side) for side in sides(text)]
    if len(found) != 2 or any(side.kind != "bracketed" for side in found):
        return text
    left, right = (side.items for side in found)
    if len(left) != len(right):
        return text
    return ", ".join(f"{one}={other}" for one, other in zip(left, right, strict=True))


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A text before a condition, the integer that the condition is about, and of what kind it is.

    Attributes:
        of: `Z` or `N`.
    """

    head: str
    name: str
    of: str


def _parameter(text: str) -> _Parameter | None:
    """Only a name that the text before uses, and that is not what it solves for, is a parameter."""
    start = max(0, len(text) - MAX_CONDITION)
    match = _CONDITION.search(text, start)
    if not match or not re.search(r"\\in(?![a-zA-Z])|integer", match.group()):
        return None
    head = text[: match.start()].strip()
    used = sides(head)[-1]
    is_plain = not re.search(r"[<>]|\\(?:[lg]e|ne|in)(?![a-zA-Z])|\\[{}]", head)
    if not is_plain or used == match["name"] or not _standing(match["name"]).search(used):
        return None
    return _Parameter(head, match["name"], match["set"] or "Z")


def _renamed(text: str, name: str, other: str) -> str:
    return text if _standing(other).search(text) else _standing(name).sub(other, text)


def _standing(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![a-zA-Z\\]){name}(?![a-zA-Z])")


def _is_closed(text: str) -> bool:
    try:
        return free_names(reader.read(text)) <= CONSTANTS
    except reader.Unread:
        return False


def _is_same(side: str, value: str) -> bool:
    if side == value:
        return True
    left, right = numerals.number(side), numerals.number(value)
    if left and right:
        return left.equals(right)
    return bool(symbolic.same(side, value)[0])

r"""Whether two mathematical answers are the same: exact rules first, then what both mean.

The rules answer what is a matter of spelling or of exact arithmetic (integers cost 0.03 ms), take
lists, tuples, sets, intervals, matrices and solved equations apart and compare them item by item,
and refuse what pays a guesser (a list against one reference, work left undone). Single expressions
that are left are compared by their values (`answers.symbolic`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from reward_server.answers import equations, notation, numerals, reader, structures, symbolic
from reward_server.answers.notation import Spelled
from reward_server.answers.symbolic import Answer
from reward_server.answers.tokens import Unread
from reward_server.answers.trees import BINDERS, Apply, walk

MAX_LENGTH = 1000
MAX_DEPTH = 25


# Work left undone, unless the reference has its like.
_REFUSED = {
    "a factorial, binomial or product": (
        r"!(?!=)|\\prod(?![a-zA-Z])|\\[dt]?binom(?![a-zA-Z])|\\choose"
    ),
    "an integral": r"\\i{1,3}nt(?![a-zA-Z])|\\oint",
    "a sum": r"\\sum(?![a-zA-Z])",
    "a limit": r"\\lim(?![a-zA-Z])",
    "a plus-minus": r"\\[pm]{2}(?![a-zA-Z])",
}
_BASED = re.compile(r"\(?([0-9A-Za-z]+)\)? ?_ ?\{? ?(\d+|[a-z]+) ?\}?")
_BASES = {
    "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8",
    "nine": "9", "ten": "10", "eleven": "11", "twelve": "12", "sixteen": "16",
}  # fmt: skip
_IN_BASE = re.compile(r"(?=.*\d)[0-9A-Za-z]+")
_WORDS = re.compile(r"[(\[]?[A-Za-z][A-Za-z' \-]*[)\].:]?")
_ARITHMETIC = re.compile(r"(?:[\d\s.,+\-*/^(){}]|\\(?:cdot|times|div|frac|sqrt)(?![a-zA-Z]))+")
_OPERATION = re.compile(r"[+*]|\\(?:cdot|times|div)|(?<=[\d)}]) ?[-(]")
_UNDONE = frozenset(
    {"abs", "floor", "ceil", "!", "!!", "binomial", "permutations", "gcd", "lcm", "max", "min"}
    | {"mod", r"\Gamma", r"\zeta"}
    | BINDERS
)
"""What an answer does not leave to be worked out where the reference is a number."""


def warm() -> None:
    """Import what is imported late and fill the tables and caches, before the first answer."""
    same(r"\frac{\sqrt{2}}{2} \text{ m}", r"\frac{1}{\sqrt{2}} \text{ m}")
    same(r"\sin x+\ln\pi", r"\sqrt{x}")


def same(answer: str, gold: str) -> Answer:
    """Tell whether an answer is the reference, and by which rule.

    Args:
        answer: What the response gave as its answer, as it was written.
        gold: The reference, as it was written.
    """
    if len(answer) > max(MAX_LENGTH, 4 * len(gold)):
        return False, f"{len(answer)} characters long"
    if structures.depth(answer) > max(MAX_DEPTH, structures.depth(gold)):
        return False, "nested too deeply"
    said, wanted = notation.read_both(answer, gold)
    texts = equations.without_parameters(said.text, wanted.text)
    if texts is None:
        return False, "another parameter"
    if texts != (said.text, wanted.text):
        return _same(*map(notation.read, texts))
    return _same(said, wanted)


def is_text_alone(gold: str) -> bool:
    """Whether a reference says nothing to these rules but its spelling: words, or what is not read.

    Args:
        gold: The reference, as it was written.
    """
    if len(gold) > MAX_LENGTH or structures.depth(gold) > MAX_DEPTH:
        return True
    spelled = notation.read(gold)
    if spelled.is_quoted or _is_words(spelled.text):
        return True
    if any(rule(spelled, spelled) is not None for rule in (_by_base, _by_ratio)):
        return False
    return not _is_read(spelled.text)


def _is_read(text: str) -> bool:
    held = structures.read(text.strip())
    if held.kind != "single":
        return all(map(_is_read, held.items))
    spelled = notation.read(text)
    if numerals.number(spelled.text) or notation.choice(spelled.text):
        return True
    try:
        reader.read(spelled.text)
    except Unread:
        return False
    return True


def by_number(answer: Spelled, gold: Spelled) -> bool | None:
    """Compare the exact values of two numerals; units are brought to each other if both have one.

    Args:
        answer: What the response gave, in one spelling.
        gold: The reference, in one spelling.

    Returns:
        None where one is no numeral.
    """
    left, right = numerals.number(answer.text), numerals.number(gold.text)
    if answer.unit and gold.unit and answer.unit != gold.unit:
        if not answer.unit.fits(gold.unit) or not left or not right:
            return False
        return left.value * answer.unit.factor == right.value * gold.unit.factor
    return left.equals(right) if left and right else None


def by_text(answer: Spelled, gold: Spelled) -> bool | None:
    """Compare spellings; words and choice letters are compared as text and by nothing else.

    Args:
        answer: What the response gave, in one spelling.
        gold: The reference, in one spelling.

    Returns:
        None where both are mathematics, so that other spellings may mean the same.
    """
    if notation.compact(answer.text) == notation.compact(gold.text):
        return True
    wanted = notation.choice(gold.text)
    if wanted and gold.text.strip("().:").isupper() and (said := notation.choice(answer.text)):
        return said == wanted
    if any(spelled.is_quoted or _is_words(spelled.text) for spelled in (answer, gold)):
        return _folded(answer.text) == _folded(gold.text)
    return None


def _same(answer: Spelled, gold: Spelled) -> Answer:
    if not answer.text:
        return False, "empty"
    for rule in (by_number, by_text, _by_base, _by_ratio):
        verdict = rule(answer, gold)
        if verdict is not None:
            return verdict, rule.__name__.strip("_")
    left, right = (
        equations.bare(answer.text, gold.text),
        equations.bare(gold.text, answer.text),
    )
    if left is None or right is None:
        return False, "an equation that is not solved, or wrong"
    if (left, right) != (answer.text, gold.text):
        return _same(notation.read(left), notation.read(right))
    return _by_sides(left, right) or _by_structure(left, right) or _symbolic(left, right)


def _by_sides(answer: str, gold: str) -> Answer | None:
    """Two equations of tuples by coordinates, and of one left side by their right sides.

    None where they may still be the same as wholes.
    """
    left, right = equations.by_coordinates(answer), equations.by_coordinates(gold)
    if (left, right) != (answer, gold):
        return _in_any_order(structures.parts(left), structures.parts(right))
    one, other = equations.solved(answer), equations.solved(gold)
    if not one or not other or notation.compact(one[0]) != notation.compact(other[0]):
        return None
    verdict = _same(notation.read(one[1]), notation.read(other[1]))
    is_plain = structures.read(one[1]).kind == structures.read(other[1]).kind == "single"
    return None if is_plain and not verdict[0] else verdict


def _by_base(answer: Spelled, gold: Spelled) -> bool | None:
    """Numerals with a base written under them: same digits, and same base if both name one."""
    left, right = _BASED.fullmatch(answer.text), _BASED.fullmatch(gold.text)
    if not right or not _IN_BASE.fullmatch(right[1]):
        return None
    if not left and not answer.text.isalnum():
        return None
    if left and _BASES.get(left[2], left[2]) != _BASES.get(right[2], right[2]):
        return False
    return (left[1] if left else answer.text).upper() == right[1].upper()


def _by_ratio(answer: Spelled, gold: Spelled) -> bool | None:
    """`a:b:c` term by term."""
    left, right = answer.text.split(":"), gold.text.split(":")
    if len(left) == 1 or len(right) == 1 or "{" in answer.text + gold.text:
        return None
    return _in_order(left, right)[0]


def _by_structure(answer: str, gold: str) -> Answer | None:
    """Item by item; None where neither has items, or a symbolic comparison may still see more."""
    left, right = structures.read(answer), structures.read(gold)
    if left.kind == right.kind == "single":
        return None
    if left.kind == "list" and structures.is_grouped(gold):
        right = structures.ungrouped(gold)
    elif right.kind == "list" and structures.is_grouped(answer):
        left = structures.ungrouped(answer)
    kinds = {left.kind, right.kind}
    if kinds == {"set"} or kinds == {"list"} or kinds == {"set", "list"}:
        return _in_any_order(left.items, right.items)
    if kinds == {"matrix"} or kinds == {"bracketed"}:
        if left.shape != right.shape:
            return False, "other brackets or another shape"
        return _in_order(left.items, right.items)
    if kinds == {"bracketed", "list"}:
        held = left if left.kind == "bracketed" else right
        return _in_order(left.items, right.items) if held.shape == ("(", ")") else (False, "a list")
    if kinds == {"single", "list"} or kinds == {"single", "set"}:
        if len(left.items) == len(right.items) and "\\" not in left.items[0] + right.items[0]:
            return _in_order(left.items, right.items)
        several = left if left.kind != "single" else right
        return (False, "a list against a single answer") if len(several.items) > 1 else None
    if kinds == {"set", "bracketed"}:
        return False, "other brackets"
    if kinds == {"single", "bracketed"}:
        alone = left if left.kind == "single" else right
        return (False, "one has brackets") if "," in alone.items[0] else None
    if kinds == {"union"}:
        verdict = _in_any_order(left.items, right.items)
        return verdict if verdict[0] else None  # [0,1] and [1,2] together are [0,2]
    return None


def _in_order(answers: Sequence[str], golds: Sequence[str]) -> Answer:
    if len(answers) != len(golds):
        return False, f"{len(answers)} items for {len(golds)}"
    for answer, gold in zip(answers, golds, strict=True):
        verdict = _same(notation.read(answer), notation.read(gold))
        if not verdict[0]:
            return verdict
    return True, "item by item"


def _in_any_order(answers: Sequence[str], golds: Sequence[str]) -> Answer:
    """Each reference has an answer of its own; those spelled alike are paired first."""
    if len(answers) != len(golds):
        return False, f"{len(answers)} items for {len(golds)}"
    left = {index: notation.read(answer) for index, answer in enumerate(answers)}
    right = [notation.read(gold) for gold in golds]
    for rule in (_alike, _same):
        unpaired = []
        for gold in right:
            why = ""
            for index, answer in left.items():
                is_same, why = rule(answer, gold)
                if is_same:
                    del left[index]
                    break
                if is_same is None:
                    return None, why
            else:
                unpaired.append(gold)
        right = unpaired
    return (False, f"no item for {right[0].text[:40]}") if right else (True, "items in any order")


def _alike(answer: Spelled, gold: Spelled) -> Answer:
    return answer == gold or bool(by_number(answer, gold)), "alike"


def _is_words(text: str) -> bool:
    return bool(_WORDS.fullmatch(text)) and any(len(w) > 3 for w in re.split(r"[^A-Za-z]", text))


def _folded(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", text.casefold()).strip()


def _symbolic(answer: str, gold: str) -> Answer:
    refusal = _refusal(answer, gold)
    return (False, refusal) if refusal else symbolic.same(answer, gold)


def _refusal(answer: str, gold: str) -> str:
    """Why an answer is not worth evaluating; empty if it is."""
    for name, pattern in _REFUSED.items():
        if re.search(pattern, answer) and not re.search(pattern, gold):
            return f"{name}, which the reference has not"
    if numerals.number(gold):
        if _ARITHMETIC.fullmatch(answer) and _OPERATION.search(answer.lstrip("-")):
            return "arithmetic left undone"
        if undone := _heads(answer) & _UNDONE:
            return f"work left undone: {min(undone)}"
    return ""


def _heads(text: str) -> set[str]:
    try:
        tree = reader.read(text)
    except reader.Unread:
        return set()
    return {one.head for one in walk(tree) if isinstance(one, Apply)}

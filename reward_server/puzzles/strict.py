"""The stricter score: full marks of the library's scorer, and a right answer besides.

Some scorers give full marks to wrong answers (`tasks.csv`): any text, the negative, a hedge, signs
that they skip. Each has a rule here that an answer must keep too. Where a puzzle has one answer it
is that answer; where it has several, the rule only says what an answer is written in.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

Entry = Mapping[str, Any]
FULL = 1.0
_HEDGE = re.compile(r"\b(?:or|maybe|either)\b", re.IGNORECASE)


def is_right(task: str, answer: str, entry: Entry, score: float) -> bool:
    """Tell whether an answer is right, and nothing else.

    Args:
        task: reasoning-gym's name of it.
        answer: As it was given.
        entry: The puzzle.
        score: What the library's scorer gave.
    """
    if score < FULL:
        return False
    is_hedge = _HEDGE.search(answer) and not _HEDGE.search(str(entry.get("answer") or ""))
    rule = RULES.get(task)
    return not is_hedge and (rule is None or rule(answer, entry))


def _is_own(answer: str, entry: Entry) -> bool:
    """The puzzle's own answer: the same words, or the same number."""
    own = str(entry["answer"])
    if _words(answer) == _words(own):
        return True
    number = _number(answer)
    return number is not None and number == _number(own)


def _has_the_same_words(answer: str, entry: Entry) -> bool:
    """Those of the puzzle's own answer, in another order perhaps: the scorer reads the order."""
    said, own = (
        Counter(re.findall(r"\w+", text.casefold())) for text in (answer, str(entry["answer"]))
    )
    return said == own


def _uses_the_numbers(answer: str, entry: Entry) -> bool:
    """Each of the puzzle's numbers once, and no others."""
    given = Counter(map(int, entry["metadata"]["numbers"]))
    return Counter(map(int, re.findall(r"\d+", answer))) == given


def _written_in(signs: str) -> Callable[[str, Entry], bool]:
    """Nothing but these signs (a character class) and space."""
    pattern = re.compile(rf"[\s{signs}]*", re.IGNORECASE)
    return lambda answer, entry: bool(pattern.fullmatch(answer))


def _words(text: str) -> str:
    return " ".join(text.casefold().split())


def _number(text: str) -> Fraction | None:
    try:
        return Fraction(text.replace(",", "").replace("$", "").strip())
    except (ValueError, ZeroDivisionError):
        return None


RULES: Mapping[str, Callable[[str, Entry], bool]] = {
    **dict.fromkeys(
        ("coin_flip", "game_of_life_halting", "gsm_symbolic", "letter_jumble"), _is_own
    ),
    "knights_knaves": _has_the_same_words,
    "puzzle24": _uses_the_numbers,
    "sokoban": _written_in("UDLR,"),
    "quantum_lock": _written_in("ABC→,>-"),
    "kakurasu": _written_in(r"01,\[\]"),
    "time_intervals": _written_in(r"0-9:.,days"),
}

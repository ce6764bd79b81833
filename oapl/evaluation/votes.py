r"""What a response votes for, and which vote wins.

A vote is the text of the last \boxed{...}, else of the last <answer>, else the last line, with its
white space made one blank: equal texts are equal votes, and nothing is computed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

BOXED = r"\boxed{"
TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def majority(votes: Sequence[str]) -> str | None:
    """The most frequent vote, the earliest one among equals; empty votes abstain."""
    counts = Counter(vote for vote in votes if vote)
    return max(counts, key=counts.__getitem__) if counts else None


def extract_answer(text: str) -> str:
    r"""What a response votes for: its last \boxed{...}, else last <answer>, else last line."""
    if BOXED in text:
        return _normal(_braced(text[text.rindex(BOXED) + len(BOXED) :]))
    if tagged := TAGGED.findall(text):
        return _normal(tagged[-1])
    lines = [line for line in text.splitlines() if line.strip()]
    return _normal(lines[-1]) if lines else ""


def _braced(text: str) -> str:
    """Up to the brace that closes one opened before `text`; all of it when none does."""
    depth = 1
    for index, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            return text[:index]
    return text


def _normal(answer: str) -> str:
    return " ".join(answer.split())

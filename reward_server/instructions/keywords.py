"""Words that must or must not occur. They are taken literally (the original: as patterns)."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import StringConstraints

from reward_server.instructions.base import Count, Phrase, Relation, Words, occurrences, satisfies

Letter = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1)]


def existence(text: str, *, keywords: Words) -> bool:
    """All of them occur, if only inside other words."""
    return all(occurrences(word, text) for word in keywords)


def frequency(text: str, *, keyword: Phrase, frequency: Count, relation: Relation) -> bool:
    return satisfies(occurrences(keyword, text), relation, frequency)


def forbidden_words(text: str, *, forbidden_words: Words) -> bool:
    """None of them occurs as a word of its own."""
    return not any(
        re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in forbidden_words
    )


def letter_frequency(
    text: str, *, letter: Letter, let_frequency: Count, let_relation: Relation
) -> bool:
    """Any character will do (the original draws a letter at random in place of `#` or `!`)."""
    return satisfies(text.lower().count(letter.lower()), let_relation, let_frequency)

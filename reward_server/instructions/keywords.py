"""Words that must or must not occur. They are taken literally (the original: as patterns)."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import StringConstraints

from reward_server.instructions.base import (
    Count,
    Phrase,
    Relation,
    Words,
    bordered,
    occurrences,
    satisfies,
)

Letter = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1)]


def existence(text: str, *, keywords: Words) -> bool:
    """Tell whether all keywords occur, if only inside other words.

    Args:
        text: The response.
        keywords: Taken literally, in any case.
    """
    return all(occurrences(word, text) for word in keywords)


def frequency(text: str, *, keyword: Phrase, frequency: Count, relation: Relation) -> bool:
    """Tell whether a keyword occurs so often, inside other words too.

    Args:
        text: The response.
        keyword: Taken literally, in any case.
        frequency: The bound, in occurrences.
        relation: On which side of it the count must be.
    """
    return satisfies(occurrences(keyword, text), relation, frequency)


def forbidden_words(text: str, *, forbidden_words: Words) -> bool:
    """Tell whether none of the words occurs as a word of its own.

    Args:
        text: The response.
        forbidden_words: Taken literally, in any case.
    """
    return not any(re.search(bordered(word), text, re.IGNORECASE) for word in forbidden_words)


def letter_frequency(
    text: str, *, letter: Letter, let_frequency: Count, let_relation: Relation
) -> bool:
    """Tell whether a letter occurs so often, in any case.

    Args:
        text: The response.
        letter: Any character will do (the original draws a letter in place of `#` or `!`).
        let_frequency: The bound, in occurrences.
        let_relation: On which side of it the count must be.
    """
    return satisfies(text.lower().count(letter.lower()), let_relation, let_frequency)

"""Upper and lower case. A text of which no language can be told counts as English, as in the
original."""

from __future__ import annotations

import itertools

from reward_server.instructions import _linguistics
from reward_server.instructions.base import Count, Relation, satisfies


def capital_word_frequency(
    text: str, *, capital_frequency: Count, capital_relation: Relation
) -> bool:
    """Tell whether so many words are all in capitals; they are counted no further than the bound.

    Args:
        text: The response.
        capital_frequency: The bound, in words.
        capital_relation: On which side of it the count must be.
    """
    capitals = itertools.islice(_linguistics.capitals(text), capital_frequency)
    return satisfies(sum(1 for _ in capitals), capital_relation, capital_frequency)


def english_capital(text: str) -> bool:
    """Tell whether the text is English, and all in capitals."""
    return text.isupper() and _linguistics.language(text) in ("en", None)


def english_lowercase(text: str) -> bool:
    """Tell whether the text is English, and has no capitals."""
    return text.islower() and _linguistics.language(text) in ("en", None)

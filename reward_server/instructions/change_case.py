"""Upper and lower case. A text of which no language can be told counts as English, as in the
original."""

from __future__ import annotations

import itertools

from reward_server.instructions import _linguistics
from reward_server.instructions.base import Count, Relation, satisfies


def capital_word_frequency(
    text: str, *, capital_frequency: Count, capital_relation: Relation
) -> bool:
    """Words all in capitals, counted no further than the bound."""
    capitals = itertools.islice(_linguistics.capitals(text), capital_frequency)
    return satisfies(sum(1 for _ in capitals), capital_relation, capital_frequency)


def english_capital(text: str) -> bool:
    return text.isupper() and _linguistics.language(text) in ("en", None)


def english_lowercase(text: str) -> bool:
    return text.islower() and _linguistics.language(text) in ("en", None)

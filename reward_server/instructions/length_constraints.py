"""Numbers of sentences, paragraphs and words."""

from __future__ import annotations

import itertools
import re

from reward_server.instructions import _linguistics
from reward_server.instructions.base import Count, Phrase, Relation, satisfies


def number_sentences(text: str, *, num_sentences: Count, relation: Relation) -> bool:
    """Counted no further than the bound."""
    sentences = itertools.islice(_linguistics.sentences(text), num_sentences)
    return satisfies(sum(1 for _ in sentences), relation, num_sentences)


def number_words(text: str, *, num_words: Count, relation: Relation) -> bool:
    return satisfies(sum(1 for _ in re.finditer(r"\w+", text)), relation, num_words)


def number_paragraphs(text: str, *, num_paragraphs: Count) -> bool:
    """Paragraphs between `***`; an empty one may stand first and last only."""
    parts = [bool(part.strip()) for part in text.split("***")]
    return all(parts[1:-1]) and sum(parts) == num_paragraphs


def nth_paragraph_first_word(
    text: str, *, num_paragraphs: Count, nth_paragraph: Count, first_word: Phrase
) -> bool:
    """Paragraphs between blank lines, so many that are not empty; the nth, empty ones counted in
    its place, begins with the word."""
    paragraphs = text.split("\n\n")
    count = sum(1 for paragraph in paragraphs if paragraph.strip())
    if count != num_paragraphs or nth_paragraph > count:
        return False
    words = paragraphs[nth_paragraph - 1].split(maxsplit=1)
    if not words:
        return False
    word = words[0].lstrip("'").lstrip('"')
    return re.split("[.,?!'\"]", word)[0].lower() == first_word.lower()

"""Numbers of sentences, paragraphs and words."""

from __future__ import annotations

import itertools
import re

from reward_server.instructions import _linguistics
from reward_server.instructions.base import Count, Phrase, Relation, satisfies


def number_sentences(text: str, *, num_sentences: Count, relation: Relation) -> bool:
    """Tell whether there are so many sentences; they are counted no further than the bound.

    Args:
        text: The response.
        num_sentences: The bound.
        relation: On which side of it the count must be.
    """
    sentences = itertools.islice(_linguistics.sentences(text), num_sentences)
    return satisfies(sum(1 for _ in sentences), relation, num_sentences)


def number_words(text: str, *, num_words: Count, relation: Relation) -> bool:
    """Tell whether there are so many words: runs of letters, digits and underscores.

    Args:
        text: The response.
        num_words: The bound.
        relation: On which side of it the count must be.
    """
    return satisfies(sum(1 for _ in re.finditer(r"\w+", text)), relation, num_words)


def number_paragraphs(text: str, *, num_paragraphs: Count) -> bool:
    """Tell whether there are exactly so many paragraphs between `***`.

    Args:
        text: The response; an empty paragraph may stand first and last only.
        num_paragraphs: How many, empty ones not counted.
    """
    parts = [bool(part.strip()) for part in text.split("***")]
    return all(parts[1:-1]) and sum(parts) == num_paragraphs


def nth_paragraph_first_word(
    text: str, *, num_paragraphs: Count, nth_paragraph: Count, first_word: Phrase
) -> bool:
    """Tell whether the nth of so many paragraphs, with blank lines between, begins with a word.

    Args:
        text: The response.
        num_paragraphs: How many paragraphs are not empty.
        nth_paragraph: Which one, from 1; empty ones are counted in its place.
        first_word: In any case, and taken literally; quotation marks before it do not count, and it
            ends where the text, a blank or a mark of punctuation does.
    """
    paragraphs = text.split("\n\n")
    count = sum(1 for paragraph in paragraphs if paragraph.strip())
    if count != num_paragraphs or nth_paragraph > count:
        return False
    paragraph = paragraphs[nth_paragraph - 1].strip().lower()
    word = re.escape(first_word.lower())
    return bool(re.match(rf"(?:'*\"*)??{word}(?:[\s.,?!'\"]|\Z)", paragraph))

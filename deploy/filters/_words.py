"""Words and word n-grams of a text, as filters compare them.

Like the usual filters of training data (datatrove's, GPT-3's appendix C): small letters, no
accents, punctuation and mathematical signs as spaces, words split at white space. Numbers stay what
they are unless told otherwise: to a sum they are what makes it another.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

import xxhash

Numbers = Literal["kept", "alike"]
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
_BETWEEN = re.compile(r"[\W_]+")


def words_of(text: str, numbers: Numbers = "kept") -> list[str]:
    """Split a text into the words that are compared.

    Args:
        text: Any.
        numbers: `alike` writes every number as 0, as datatrove does.
    """
    text = text.lower()
    if numbers == "alike":
        text = _NUMBER.sub("0", text)
    decomposed = unicodedata.normalize("NFD", text)
    text = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
    return _BETWEEN.sub(" ", text).split()


def runs(words: list[str], size: int) -> list[str]:
    """Give each run of `size` words, joined by spaces; the one at place i begins with word i.

    Args:
        words: Of a text.
        size: Words of a run; a text with fewer has none.
    """
    return [" ".join(words[at : at + size]) for at in range(len(words) - size + 1)]


def ngrams(words: list[str], size: int) -> list[int]:
    """Hash each of the `runs`, 64 bits.

    Args:
        words: Of a text.
        size: Words of a run.
    """
    return [xxhash.xxh3_64_intdigest(run.encode()) for run in runs(words, size)]


def marks(text: str, size: int, numbers: Numbers = "kept") -> list[int]:
    """Give what a text is told by: its n-grams, or a text with fewer words as a whole.

    Args:
        text: Any.
        size: Words of a run.
        numbers: As in `words_of`.
    """
    words = words_of(text, numbers)
    return ngrams(words, size) or (ngrams(words, len(words)) if words else [])

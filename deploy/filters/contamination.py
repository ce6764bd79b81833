"""Drops questions that share a run of words with a question of an evaluation set.

Of every evaluation question all runs of `words` words are known; a question that has one of them is
reported with the longest run that both have, and dropped unless `drop` is false. An evaluation
question with fewer words matches where it is the whole question. Memory: 150 bytes or so for each
run of the evaluation sets; the stored groups pass by.

Source: GPT-3 (Brown et al. 2020, appendix C: 13 words) and its followers; 8 words find more, and
more that is chance. Departure: the questions are compared, not the answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from actors.data.sources import read_problems
from deploy.filters._words import Numbers, marks, ngrams, words_of
from deploy.filters.base import Choice, Filter, text_of, whole
from oapl.config.fields import Count, Flag, section
from oapl.config.sections import DataSource
from oapl.config.toml import load_config
from oapl.errors import InputError
from oapl.groups_file import StoredGroup


@section
class Config:
    """Options of `contamination`."""

    recipe: str = ""
    """A recipe, whose `eval.sources` are the evaluation sets."""
    sources: tuple[DataSource, ...] = ()
    """Evaluation sets, written like `eval.sources`."""
    words: Count = 13
    """Words of a run that counts as a match."""
    numbers: Numbers = "kept"
    """Whether numbers are compared, or all count as alike."""
    drop: Flag = True
    """Drop what matches; false reports it alone."""


def build(config: Config, threshold: float) -> Filter:
    """See `deploy.filters.base.FilterFile`.

    Raises:
        InputError: No evaluation set is named, or one cannot be read.
    """
    named = load_config(Path(config.recipe)).eval.sources if config.recipe else ()
    sources = (*named, *config.sources)
    if not sources:
        found = f"{config.recipe} has no eval.sources" if config.recipe else "recipe is not set"
        raise InputError(
            f"contamination: there are no evaluation sets to compare with ({found}); set recipe to "
            "one with eval.sources, or sources to a list of them"
        )
    return _Contamination(config, sources)


@dataclass(frozen=True, slots=True)
class _Question:
    """One of an evaluation set, and where it stands there."""

    set: str
    place: str


class _Contamination:
    def __init__(self, config: Config, sources: tuple[DataSource, ...]) -> None:
        self._config = config
        self._runs: dict[int, _Question] = {}
        for source in sources:
            for problem in read_problems(source):
                question = _Question(source.name, problem.place)
                # A short question counts as a whole, told by its own length beside the words.
                for run in marks(problem.question, config.words, config.numbers):
                    self._runs.setdefault(run, question)

    def choose(self, group: StoredGroup) -> Choice:
        words = words_of(text_of(group), self._config.numbers)
        runs, size = ngrams(words, self._config.words), self._config.words
        if not runs:
            runs, size = _whole(words), len(words)
        found = [at for at, run in enumerate(runs) if run in self._runs]
        if not found:
            return whole(group, True)
        first, last = _longest(found)
        question = self._runs[runs[first]]
        finding = {
            "id": group.prompt.id,
            "set": question.set,
            "place": question.place,
            "match": " ".join(words[first : last + size]),
            "question": text_of(group),
        }
        return whole(group, not self._config.drop, finding)


def _whole(words: list[str]) -> list[int]:
    return ngrams(words, len(words)) if words else []


def _longest(places: list[int]) -> tuple[int, int]:
    """First and last of the longest stretch of places that follow one another, the first such."""
    stretches = list(_stretches(places))
    return max(stretches, key=lambda stretch: stretch[1] - stretch[0])


def _stretches(places: list[int]) -> Iterator[tuple[int, int]]:
    first = last = places[0]
    for place in places[1:]:
        if place != last + 1:
            yield first, last
            first = place
        last = place
    yield first, last

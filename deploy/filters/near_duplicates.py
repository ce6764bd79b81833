"""Keeps the first of questions that are nearly the same words, as MinHash estimates it.

Two questions are as similar as their sets of runs of `words` words: the runs in both, divided by
those in either (Jaccard). The estimate of 128 hashes is off by 0.04 or so; pairs are looked for by
32 bands of them, which find practically all pairs of similarity 0.8, and seven in eight of 0.5.
Sums that differ in a number may well be similar: look at the findings. Memory: a kilobyte or two
for each question that stays.

Source: Broder 1997; the library is rensa (R-MinHash), which need not be installed for the others.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from deploy.filters._words import runs, words_of
from deploy.filters.base import Choice, Filter, text_of, whole
from oapl.config.fields import Count, Probability, section
from oapl.errors import InputError
from oapl.groups_file import StoredGroup

HASHES, BANDS, SEED = 128, 32, 1


@section
class Config:
    """Options of `near_duplicates`."""

    similarity: Probability = 0.8
    """Estimated similarity from which on two questions are nearly the same; 1 is equal."""
    words: Count = 3
    """Words of a run; a question with fewer is one run."""


def build(config: Config, threshold: float) -> Filter:
    """See `deploy.filters.base.FilterFile`.

    Raises:
        InputError: rensa is not installed.
    """
    if importlib.util.find_spec("rensa") is None:
        raise InputError(
            "near_duplicates needs the package rensa: pip install 'oapl[data]', or pip install "
            "rensa; exact_duplicates needs none"
        )
    return _NearDuplicates(config)


class _NearDuplicates:
    def __init__(self, config: Config) -> None:
        from rensa import RMinHashLSH

        self._config = config
        self._bands = RMinHashLSH(threshold=config.similarity, num_perm=HASHES, num_bands=BANDS)
        self._kept: list[tuple[str, Any]] = []

    def choose(self, group: StoredGroup) -> Choice:
        ours = self._hashes(text_of(group))
        near = [(ours.jaccard(self._kept[at][1]), -at) for at in self._bands.query(ours)]
        similarity, place = max(near, default=(0.0, 0))
        if similarity >= self._config.similarity:
            of, question = self._kept[-place][0], text_of(group)
            finding = {"id": group.prompt.id, "of": of, "similarity": similarity}
            return whole(group, False, {**finding, "question": question})
        self._bands.insert(len(self._kept), ours)
        self._kept.append((group.prompt.id, ours))
        return whole(group, True)

    def _hashes(self, text: str) -> Any:
        from rensa import RMinHash

        words = words_of(text)
        made = RMinHash(num_perm=HASHES, seed=SEED)
        made.update(runs(words, min(self._config.words, max(len(words), 1))))
        return made

"""Why two filters disagree about a question: by what the words of each are, and by nothing else.

Seen, datatrove 0.10.1 with spaCy 3.8.18: spaCy makes two words of `cannot`, `gonna`, `5mm` and `0g`
(so that a run of 8 has fewer letters there), and signs that are not in datatrove's list of
punctuation (`≥`, `×`, `°`, `∠`, `·`) stay words or parts of words there, and are spaces here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SHORT = "an evaluation question of fewer words counts as a whole here"
SPLIT = "words are split otherwise"
UNKNOWN = "no known cause"

Words = Sequence[str]


@dataclass(frozen=True, slots=True)
class Exam:
    """The evaluation questions as one filter splits them.

    Attributes:
        size: Words of a run.
        runs: All runs of so many.
        wholes: The questions.
    """

    size: int
    runs: frozenset[str]
    wholes: frozenset[str]

    @staticmethod
    def of(size: int, texts: Sequence[Words]) -> Exam:
        """Take them in."""
        found = (run for words in texts for run in _runs(size, words))
        return Exam(size, frozenset(found), frozenset(" ".join(words) for words in texts))

    def shares(self, words: Words) -> bool:
        """Whether a run of these words is one of the exam."""
        return any(run in self.runs for run in _runs(self.size, words))


def cause(ours: Words, theirs: Words, our_exam: Exam, their_exam: Exam, *, is_ours: bool) -> str:
    """Explain a difference.

    Args:
        ours, theirs: The question's words, as each filter splits it.
        our_exam, their_exam: The evaluation questions, likewise.
        is_ours: We alone found it.

    Returns:
        `SHORT`; `SPLIT` where the verdict follows from each one's words; else `UNKNOWN`.
    """
    by_ours, by_theirs = our_exam.shares(ours), their_exam.shares(theirs)
    if is_ours and not by_ours and " ".join(ours) in our_exam.wholes:
        return SHORT
    return SPLIT if (by_ours, by_theirs) == (is_ours, not is_ours) else UNKNOWN


def _runs(size: int, words: Words) -> list[str]:
    return [" ".join(words[at : at + size]) for at in range(len(words) - size + 1)]

"""`make decontamination`: our contamination filter beside datatrove's, question by question.

    python -m tests.decontamination

Installs datatrove in an environment of its own (build/datatrove), asks both about written questions
and, where they are at hand, about real ones of training and evaluation sets, with 8 and 13 words,
numbers compared and not. `record.json` holds datatrove's version and settings, its verdicts on the
written questions, and of the real sets how many verdicts are equal. The exit code is 1 where the
two differ for a cause that is not known.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from deploy.filters._words import Numbers, words_of
from tests.decontamination import cases, ours
from tests.decontamination.causes import UNKNOWN, Exam, cause
from tests.support import real_data
from tests.support.peers import Peer

HERE = Path(__file__).parent
RECORD, PINS = HERE / "record.json", HERE / "requirements.txt"
NUMBERS: tuple[Numbers, ...] = ("kept", "alike")
DATATROVE = Peer(place=Path("build/datatrove"), pins=PINS, script=HERE / "theirs.py")
SETTINGS: list[tuple[int, Numbers]] = [(words, numbers) for words in (8, 13) for numbers in NUMBERS]
REAL = (
    ("math_train", ("math500", "aime24", "aime25", "amc23_83")),
    ("deepscaler_aime_train", ("math500", "aime24", "aime25", "amc23_83")),
    ("orz_sample", ("math500", "olympiadbench", "minerva")),
    ("leetcode_train", ("leetcode_test", "humaneval")),
    ("gsm8k_train", ("gsm8k_test",)),
)
"""Training set and evaluation sets."""
SHOWN, WRITTEN = 3, "written"
Pair = tuple[str, str | None, str | None]
"""A question, our match, theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Questions, and an exam that they may be part of."""

    name: str
    exam: Sequence[str]
    questions: Sequence[str]
    words: int
    numbers: Numbers

    def as_json(self, split: Sequence[str] = ()) -> dict[str, Any]:
        """What datatrove is asked; `split` are texts whose words are wanted."""
        return {
            "exam": [*self.exam],
            "questions": [*self.questions],
            "words": self.words,
            "numbers": self.numbers,
            "split": [*split],
        }


def main() -> int:
    DATATROVE.install()
    written = [_asked(WRITTEN, cases.EXAM, list(cases.cases().values()), *s) for s in SETTINGS]
    real = list(_real())
    answers = DATATROVE.ask([one.as_json() for one in (*written, *real)])
    found = answers["found"]
    told, unknown = [], 0
    for one, theirs in zip((*written, *real), found, strict=True):
        row, odd = compare(one, theirs["matches"])
        unknown += odd
        told.append({**row, "matches": theirs["matches"]} if one.name == WRITTEN else row)
    record = {
        "versions": answers["versions"],
        "settings": answers["settings"],
        WRITTEN: told[: len(written)],
        "real": told[len(written) :],
    }
    RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(f"recorded in {RECORD}")
    return int(unknown > 0)


def _asked(
    name: str, exam: Sequence[str], questions: Sequence[str], words: int, numbers: Numbers
) -> Asked:
    return Asked(name=name, exam=exam, questions=questions, words=words, numbers=numbers)


def _real() -> Iterator[Asked]:
    for train, exams in REAL:
        try:
            questions = [row["prompt"] for row in real_data.rows(train)]
            exam = [row["prompt"] for name in exams for row in real_data.rows(name)]
        except real_data.Absent as error:
            print(f"{train}: not compared: {error}")
            continue
        for setting in SETTINGS:
            yield _asked(f"{train} in {', '.join(exams)}", exam, questions, *setting)


def compare(asked: Asked, theirs: Sequence[str | None]) -> tuple[dict[str, Any], int]:
    """Count equal verdicts, and explain the others.

    Args:
        asked: What both were asked.
        theirs: Their matches.

    Returns:
        What is told, and how many differences have no known cause.
    """
    mine = ours.matches(asked.exam, asked.questions, asked.words, asked.numbers)
    pairs = list(zip(asked.questions, mine, theirs, strict=True))
    differ = [pair for pair in pairs if (pair[1] is None) != (pair[2] is None)]
    why = list(_causes(asked, differ)) if differ else []
    causes = Counter(why)
    told = {
        "sets": asked.name,
        "words": asked.words,
        "numbers": asked.numbers,
        "questions": len(pairs),
        "both": sum(own is not None and other is not None for _, own, other in pairs),
        "ours alone": sum(own is not None and other is None for _, own, other in pairs),
        "theirs alone": sum(own is None and other is not None for _, own, other in pairs),
        "causes": dict(causes.most_common()),
    }
    if asked.name == WRITTEN:
        name_of = {text: name for name, text in cases.cases().items()}
        told["differ"] = {
            name_of[question]: one for (question, *_), one in zip(differ, why, strict=True)
        }
    print(json.dumps(told, ensure_ascii=False))
    for question, own, other in differ[:SHOWN]:
        print(f"    ours {own!r}, theirs {other!r}: {question[:160]!r}")
    return told, causes[UNKNOWN]


def _causes(asked: Asked, differ: Sequence[Pair]) -> Iterator[str]:
    texts = [question for question, *_ in differ]
    asking = replace(asked, questions=()).as_json([*texts, *asked.exam])
    split = DATATROVE.ask([asking])["found"][0]["words"]
    ours_of = partial(words_of, numbers=asked.numbers)
    our_exam = Exam.of(asked.words, [ours_of(text) for text in asked.exam])
    their_exam = Exam.of(asked.words, split[len(texts) :])
    for (question, own, _), theirs in zip(differ, split, strict=False):
        yield cause(ours_of(question), theirs, our_exam, their_exam, is_ours=own is not None)


if __name__ == "__main__":
    sys.exit(main())

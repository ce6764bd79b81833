"""The contamination filter beside datatrove's verdicts, by the record of `make decontamination`."""

import json
from pathlib import Path

import pytest

from tests.decontamination import cases, ours
from tests.decontamination.causes import SHORT, SPLIT, UNKNOWN, Exam, cause

RECORD = json.loads(
    (Path(__file__).parents[2] / "decontamination" / "record.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize(
    "recorded", RECORD["written"], ids=lambda one: f"{one['words']} {one['numbers']}"
)
def test_verdicts_are_datatroves_but_for_those_that_are_explained(recorded):
    asked = cases.cases()
    questions = [*asked.values()]
    found = ours.matches(cases.EXAM, questions, recorded["words"], recorded["numbers"])
    differ = {
        name
        for name, own, other in zip(asked, found, recorded["matches"], strict=True)
        if (own is None) != (other is None)
    }
    assert differ == set(recorded["differ"]), "each with its cause"
    assert set(recorded["differ"].values()) <= {SHORT, SPLIT}
    assert sum(match is not None for match in found) > 0.15 * len(found)
    assert sum(match is None for match in found) > 0.15 * len(found)


def test_on_real_sets_no_difference_is_without_a_cause():
    for told in RECORD["real"]:
        assert sum(told["causes"].values()) == told["ours alone"] + told["theirs alone"]
        assert not told["causes"].get(UNKNOWN)


def test_a_difference_is_explained_by_the_words_of_each_or_not_at_all():
    exam = Exam.of(3, [["a", "b", "c", "d"], ["x", "y"]])

    def of(ours: str, theirs: str, is_ours: bool) -> str:
        return cause(ours.split(), theirs.split(), exam, exam, is_ours=is_ours)

    assert of("x y", "x y", True) == SHORT
    assert of("b c d", "b cd", True) == SPLIT
    assert of("b cd", "b c d", False) == SPLIT
    assert of("b c d", "b c d", True) == UNKNOWN
    assert of("x y", "x y", False) == UNKNOWN

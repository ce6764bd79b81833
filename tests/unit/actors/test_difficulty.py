"""Pass rates of problems: labels, intervals, easy ones first."""

import json
from pathlib import Path

import numpy as np
import pytest

from actors.data.ordering import Drawing
from actors.data.prompts import PromptStream
from actors.data.sources import read_problems
from oapl.config.sections import DataSource
from oapl.errors import CheckpointError, InputError
from oapl.groups_file import pass_rates
from oapl.records import Prompt
from tests.support.storing import stored, write

RATES = (0.5, 0.0, 1.0, 0.25, 0.5, 0.75)


def rows(tmp_path: Path, rates=RATES, key: str = "pass_rate") -> str:
    path = tmp_path / "rows.jsonl"
    made = [{"prompt": f"{n}?", "answer": "1", key: rate} for n, rate in enumerate(rates)]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return str(path)


def labels(tmp_path: Path, rights: dict[str, int]) -> str:
    """Of each question so many of four answers were right."""
    groups = [stored(q, [1.0] * n + [0.0] * (4 - n)) for q, n in rights.items()]
    return str(pass_rates.write(write(tmp_path / "set", groups), threshold=1.0))


def read(**source) -> list[int]:
    return [problem.index for problem in read_problems(DataSource(name="s", **source))]


def test_an_interval_chooses_rows_with_their_numbers(tmp_path):
    path = rows(tmp_path)
    assert read(path=path, pass_rate=(0.25, 0.5)) == [0, 3, 4]
    assert read(path=path, pass_rate=(0.0, 0.0)) == [1]
    assert read(path=path) == list(range(6))
    assert len(read(path=path, pass_rate=(0.25, 0.75), sample=2)) == 2


def test_a_column_may_have_another_name_and_hold_text(tmp_path):
    path = rows(tmp_path, ["0.5", "", None, float("nan"), "1"], key="solve_rate")
    columns = {"pass_rate": "solve_rate"}
    assert read(path=path, columns=columns, pass_rate=(0.1, 1.0)) == [0, 4]
    assert read(path=path, columns=columns, easy_first=True) == [0, 4]


def test_labels_are_joined_by_question_whatever_else_the_rows_are(tmp_path):
    path, file = rows(tmp_path, [None] * 4), labels(tmp_path, {"3?": 1, "0?": 4, "1?": 2, "9?": 0})
    assert read(path=path, labels=file, pass_rate=(0.5, 1.0)) == [0, 1]
    problems = read_problems(DataSource(name="s", path=path, labels=file))
    assert [p.reference["pass_rate"] for p in problems] == [1.0, 0.5, None, 0.25]


def test_generated_puzzles_are_labelled_too(tmp_path):
    puzzle = {"task": "chain_sum", "size": 3}
    questions = [problem.question for problem in read_problems(DataSource(name="s", **puzzle))]
    file = labels(tmp_path, {questions[0]: 4, questions[2]: 1})
    assert read(**puzzle, labels=file, pass_rate=(0.0, 0.9)) == [2]


@pytest.mark.parametrize(
    ("rates", "settings", "words"),
    [
        (RATES, {"pass_rate": (0.8, 0.9)}, r"none of its 6 rows .* from 0 to 1"),
        ([None, None], {"easy_first": True}, "none of its 2 rows has a pass rate"),
        ([0.5, 37.5], {"easy_first": True}, "line 2: pass_rate is 37.5; a pass rate is a number"),
        ([True], {"easy_first": True}, "pass_rate is True"),
        (["hard"], {"easy_first": True}, "pass_rate is 'hard'"),
    ],
)
def test_what_is_no_pass_rate_is_refused(tmp_path, rates, settings, words):
    with pytest.raises(InputError, match=words):
        read(path=rows(tmp_path, rates), **settings)


def test_labels_of_other_questions_are_refused(tmp_path):
    with pytest.raises(InputError, match="knows none of its 6 questions"):
        read(path=rows(tmp_path), labels=labels(tmp_path, {"elsewhere": 1}))


# --- easy first


def prompt(name: str, index: int, rate: float) -> Prompt:
    return Prompt(
        id=f"{name}:{index}",
        text="",
        token_ids=np.array([index], np.int32),
        verifiers={},
        reference={"pass_rate": rate},
        source=name,
    )


def stream(rates=RATES, **more) -> PromptStream:
    made = [prompt("e", index, rate) for index, rate in enumerate(rates)]
    made += [prompt("o", index, 0.5) for index in range(6)]
    return PromptStream(made, Drawing(seed=3, easy_first=frozenset("e"), **more))


def ids(drawn: PromptStream, count: int) -> list[str]:
    return [made.id for _ in range(count) if (made := drawn.next())]


def of(name: str, drawn: list[str], start: int, end: int) -> list[int]:
    own = [one for one in drawn if one[0] == name]
    return [int(one[2:].partition("@")[0]) for one in own][start:end]


@pytest.mark.parametrize("weights", [{}, {"e": 2.0, "o": 1.0}])
@pytest.mark.parametrize("shuffle", [True, False])
def test_easy_rows_come_first_in_each_pass_and_the_other_source_is_mixed_in(weights, shuffle):
    drawn = ids(stream(weights=weights, shuffle=shuffle), 120)
    for turn in range(10):
        own = of("e", drawn, 6 * turn, 6 * turn + 6)
        assert [RATES[row] for row in own] == sorted(RATES, reverse=True)
    first = drawn[: 9 if weights else 12]
    assert {one[0] for one in first} == {"e", "o"}
    if shuffle:
        assert len({tuple(of("e", drawn, 6 * t, 6 * t + 6)) for t in range(10)}) == 2, "0.5 twice"
        assert of("o", drawn, 0, 6) != list(range(6)), "the other source is shuffled"
    assert len(set(drawn)) == 120


def test_the_order_is_the_seed_s_and_goes_on_from_its_cursor():
    assert ids(stream(), 60) == ids(stream(), 60)
    for drawn in (0, 7, 12, 31):
        first, second = stream(), stream()
        ids(first, drawn)
        second.restore(first.state())
        assert ids(second, 50) == ids(first, 50)


def test_other_labels_are_other_data():
    with pytest.raises(CheckpointError, match="labels"):
        stream((*RATES[:5], 0.8)).restore(stream().state())
    plain = PromptStream(list(stream()), Drawing(seed=3))
    with pytest.raises(CheckpointError, match="labels"):
        stream().restore(plain.state())

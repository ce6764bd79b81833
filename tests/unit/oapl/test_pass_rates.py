"""Pass rates of questions, told by the groups that answered them."""

import json
from pathlib import Path

import pytest

from oapl.errors import InputError
from oapl.groups_file import pass_rates
from tests.support.storing import stored, write


def test_a_question_s_rate_is_over_all_its_groups_as_they_were_generated(tmp_path: Path):
    filtered = stored("b", (1.0, 1.0, 0.5, -1.0)).keeping([True, False, False, False])
    groups = [stored("a", (1.0, 0.0, 1.0)), filtered, stored("a", (0.0,)), stored("c", (0.5,))]
    file = pass_rates.write(write(tmp_path, groups), threshold=1.0)
    lines = list(map(json.loads, file.read_text().splitlines()))
    assert [(line["id"], line["pass_rate"], line["samples"]) for line in lines] == [
        ("s:a", 0.5, 4),
        ("s:b", 0.5, 4),
        ("s:c", 0.0, 1),
    ]
    assert lines[1]["mean_reward"] == pytest.approx(0.375)
    rates = {"a": 0.5, "b": 0.5, "c": 0.0}
    assert pass_rates.read(file) == {pass_rates.digest(q): rate for q, rate in rates.items()}


def test_what_counts_as_right_is_said(tmp_path: Path):
    file = pass_rates.write(write(tmp_path, [stored("c", (0.5, 0.25))]), threshold=0.5)
    assert pass_rates.read(file) == {pass_rates.digest("c"): 0.5}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"question": "x"}\n', "pass_rate"),
        ('{"question": "x", "pass_rate": 37.5}\n', "line 1 has a pass rate of 37.5"),
        ('{"question": "x", "pass_rate": NaN}\n', "pass rate of nan"),
        ("[1]\n", "no file of pass rates"),
        ("prompt\n", "no file of pass rates"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text, words):
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(InputError, match=words) as refused:
        pass_rates.read(tmp_path / "x.jsonl")
    assert "oapl eval or oapl generate wrote" in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be read"):
        pass_rates.read(tmp_path / "none")

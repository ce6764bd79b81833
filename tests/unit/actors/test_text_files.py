"""Answers of data sets in JSON and CSV files stay what was written, whatever they look like."""

import copy
import csv
import datetime
import gzip
import json
import pickle
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from actors.data.sources import read_problems
from oapl.config.sections import DataSource
from oapl.errors import InputError

LOOKS = {
    "dates": ["2021-05-03", "1999-12-31"],
    "times": ["2021-05-03T10:00:00", "2021-05-03 10:00:00"],
    "leading zeros": ["007", "012"],
    "trailing zeros": ["1.50", "2.0"],
    "booleans": ["true", "False"],
    "exponents": ["1e3", "12e-2"],
    "large": ["12345678901234567890", "1"],
    "missing": ["NA", "null"],
    "lines": ["a\nb", 'say "x", y'],
}


def write(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["prompt", "answer"])
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def answers(dataset: Path, split: str = "train") -> list:
    problems = read_problems(DataSource(name="a", dataset=str(dataset), split=split))
    return [problem.reference["answer"] for problem in problems]


@pytest.mark.parametrize("name", ["train.jsonl", "train.json", "train.jsonl.gz", "train.csv"])
@pytest.mark.parametrize("look", LOOKS)
def test_an_answer_stays_the_text_that_it_is(tmp_path: Path, name: str, look: str):
    file = write(tmp_path / name, [{"prompt": "x?", "answer": text} for text in LOOKS[look]])
    assert answers(file) == answers(tmp_path) == LOOKS[look]


def test_numbers_and_booleans_of_json_do_not_change_one_another(tmp_path: Path):
    rows = [{"prompt": "x?", "answer": value} for value in (1.5, 2, 12345678901234567890, True)]
    assert answers(write(tmp_path / "a.jsonl", rows)) == [
        "1.5",
        "2",
        "12345678901234567890",
        "true",
    ]


NUMBERS = ["1.50", "2.0", "1e3", "12E-2", "-0.0", "0.1000000000000000055", "10000000000000000.5"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz"])
def test_a_number_of_json_becomes_the_text_that_it_is(tmp_path: Path, name: str):
    lines = [f'{{"prompt": "x?", "answer": {text}, "level": {text}}}' for text in NUMBERS]
    text = f"[{', '.join(lines)}]" if name == "a.json" else "\n".join(lines)
    raw = gzip.compress(text.encode()) if name.endswith(".gz") else text.encode()
    (tmp_path / name).write_bytes(raw)
    assert answers(tmp_path / name) == NUMBERS
    if name != "a.json":  # read as `path`, too
        source = DataSource(name="a", path=str(tmp_path / name))
        problems = read_problems(source)
        assert [problem.reference["answer"] for problem in problems] == NUMBERS
        levels = [problem.reference["level"] for problem in problems]
        assert levels == list(map(float, NUMBERS)), "another column stays a number"
        sent = pickle.loads(pickle.dumps(levels))
        assert {type(level) for level in sent} == {float}
        assert copy.deepcopy(levels) == levels
        assert json.dumps(levels[0]) == "1.5"


def test_a_number_inside_a_column_is_the_text_that_it_is(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"prompt": "x?", "reward_model": {"ground_truth": 1.50}}')
    key = "reward_model.ground_truth"
    source = DataSource(name="a", path=str(tmp_path / "a.jsonl"), answer_key=key)
    (problem,) = read_problems(source)
    assert problem.reference["answer"] == "1.50"


def test_columns_of_types_become_text(tmp_path: Path):
    rows = [{"prompt": "x?", "answer": datetime.date(2021, 5, 3)}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    (problem,) = read_problems(DataSource(name="a", path=str(tmp_path / "a.parquet")))
    assert problem.reference["answer"] == "2021-05-03"
    assert answers(tmp_path / "a.parquet") == ["2021-05-03"]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "disk")
    assert answers(tmp_path / "disk") == ["2021-05-03"]


@pytest.mark.parametrize(
    ("split", "expected"),
    [("test", "9"), ("train[:2]", "01"), ("train[50%:]", "23"), ("test+train[-1:]", "93")],
)
def test_splits_are_those_of_the_library(tmp_path: Path, split: str, expected: str):
    for name, texts in (("train", "0123"), ("test", "9")):
        write(tmp_path / f"{name}.jsonl", [{"prompt": "x?", "answer": text} for text in texts])
    assert answers(tmp_path, split) == list(expected)


@pytest.mark.parametrize(
    ("text", "split", "says"),
    [
        ('{"prompt": "x"\n', "train", "cannot be loaded"),
        ("[1, 2]", "train", "more than JSON objects"),
        ('{"prompt": "x", "answer": "1"}\n', "validation", "split 'validation', cannot be loaded"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, text: str, split: str, says: str):
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(InputError, match=says):
        answers(tmp_path, split)

"""Public sets by name: what a name stands for, and the real columns where copies are at hand.

A copy's file is read as its makers wrote it (`original/` beside the sets), so that the columns
which a set's file names are those that are there. No hub is asked.
"""

import gzip
import json
import tomllib
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from actors.data.problems import read_row
from actors.data.sources import read_problems
from actors.data.templates import NAMES, wording
from oapl.config import RunConfig, sets
from oapl.config.sections import DataSource
from oapl.config.toml import load_config, to_toml
from oapl.errors import InputError
from oapl.records import Prompt
from reward_server import settings as rewards
from reward_server.verifiers.base import golds
from tests.support import real_data

ORIGINALS = {
    "gsm8k": ("gsm8k_train.openai.jsonl.gz", 7473),
    "gsm8k_test": ("gsm8k_test.openai.minus_heldout.jsonl.gz", 1187),
    "math500": ("math500.simpleRL.minus_heldout.jsonl.gz", 450),
    "aime24": ("aime24.deepscaler.json", 30),
    "amc": ("amc23_83.deepscaler.json", 83),
    "brumo25": ("brumo25.justrl.parquet", 30),
    "deepscaler": ("deepscaler_aime_train.json.gz", 975),
    "orz": ("orz_57k_num_correct_2048_of_4.json.gz", 2048),
    "ifeval": ("ifeval.minus_heldout.jsonl", 487),
    "deepcoder": ("lcb_train_580.json.gz", 580),
}
"""Set: file as its makers wrote it, and rows in it."""


def lines(folder, name: str) -> str:
    """The path of a copy as JSON lines, which is what a `path` may be; Parquet as it is."""
    file = real_data.FOLDER / "original" / name
    if not file.exists():
        pytest.skip(f"{file.name} is not here; set OAPL_DATA to the folder of the sets")
    if file.suffix == ".parquet" or ".jsonl" in file.name:
        return str(file)
    with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as opened:
        rows = json.load(opened)
    # What the hub's reader makes of a list in the place of a row.
    rows = [row if isinstance(row, dict) else dict(zip("01", row, strict=True)) for row in rows]
    path = folder / f"{name.split('.')[0]}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("name", ORIGINALS)
def test_a_set_s_columns_are_those_of_the_makers_file(tmp_path, name):
    file, rows = ORIGINALS[name]
    source = DataSource(set=name, path=lines(tmp_path, file))
    problems = read_problems(source)
    assert len(problems) == rows
    config = RunConfig(model={"path": "m"}, data={"sources": [source]})
    checks = rewards.prompt_checks(config)
    for problem in problems:
        prompt = Prompt(
            id="s:0@0",
            text=problem.question,
            token_ids=np.zeros(1, np.int32),
            verifiers=dict(source.verifiers),
            reference=problem.reference,
            source=name,
            question=problem.question,
        )
        for verifier in source.verifiers:
            checks[verifier](prompt)  # it could judge a response


def test_a_solution_s_last_line_is_the_answer_that_counts(tmp_path):
    source = DataSource(set="gsm8k", path=lines(tmp_path, ORIGINALS["gsm8k"][0]))
    first = read_problems(source)[0]
    assert first.question.startswith("Natalia sold clips")
    assert "#### 72" in first.reference["answer"]
    prompt = Prompt(
        id="x",
        text="",
        token_ids=np.zeros(1, np.int32),
        verifiers={"math": 1.0},
        reference=first.reference,
        source="gsm8k",
        question="",
    )
    assert [gold.strip() for gold in golds(prompt)] == ["72"]


# --- sets of which no copy is at hand: rows of the shape that their files describe

SHAPES = {
    "eurus_code": (
        {
            "ability": "code",
            "prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}],
            "reward_model": {
                "style": "rule",
                "ground_truth": '{"inputs": ["1"], "outputs": ["2"]}',
            },
        },
        {"tests": '{"inputs": ["1"], "outputs": ["2"]}'},
    ),
    "nemotron_math": (
        {
            "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}],
            "metadata": '{"expected_answer": "7", "problem_source": "aops"}',
        },
        {"answer": "7"},
    ),
    "llama_nemotron_if": (
        {
            "input": [{"role": "user", "content": "Q"}],
            "args": {"instruction_id_list": ["punctuation:no_comma"], "instruction_kwargs": [{}]},
        },
        {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    ),
    "math": ({"problem": "Q", "solution": r"So \boxed{3}."}, {"answer": r"So \boxed{3}."}),
    "scp116k": ({"problem": "Q", "matched_solution": "B"}, {"answer": "B"}),
    "olympiadbench": ({"question": "Q", "final_answer": ["2"]}, {"answer": ["2"]}),
    "minerva": ({"question": "Q", "answer": "9.6"}, {"answer": "9.6"}),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_row_of_a_set_s_shape_is_read(name):
    row, expected = SHAPES[name]
    problem = read_row(DataSource(set=name), 0, "row 0", row, with_response=False)
    assert problem.question == "Q"
    assert {key: problem.reference[key] for key in expected} == expected


def test_only_rows_that_where_asks_for_are_read_and_keep_their_numbers(tmp_path):
    path = tmp_path / "rows.jsonl"
    shape = SHAPES["eurus_code"][0]
    rows = [{**shape, "ability": ability} for ability in ("math", "code", "math", "code")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    problems = read_problems(DataSource(set="eurus_code", path=str(path)))
    assert [problem.index for problem in problems] == [1, 3]
    path.write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(InputError, match=r"has no rows with \{'ability': 'code'\}"):
        read_problems(DataSource(set="eurus_code", path=str(path)))
    with pytest.raises(InputError, match=r"line 1: .* no column 'kind'; .* set a key of where"):
        read_problems(DataSource(set="eurus_code", path=str(path), where={"kind": "x"}))


# --- the name


@pytest.mark.parametrize("name", sets.names())
def test_every_file_is_a_source_with_an_origin_and_a_judge(name):
    source = DataSource(set=name)
    assert source.name == name
    assert source.dataset
    assert source.verifiers
    assert not (source.path)
    assert not (source.task)
    assert source.template in ("", *NAMES, *wording.names())
    config = RunConfig(model={"path": "m"}, data={"sources": [source]})
    assert not list(rewards.problems(config))
    text = (resources.files(sets.PACKAGE) / f"{name}.toml").read_text()
    assert text.startswith("# ")
    assert "heck" in text
    assert "name" not in tomllib.loads(text)


def test_what_the_source_says_comes_before_the_set():
    source = DataSource(name="easy", set="gsm8k", split="test", verifiers={"stem": 1.0})
    assert (source.name, source.dataset, source.split) == ("easy", "openai/gsm8k", "test")
    assert source.prompt_key == "question"
    assert source.verifiers == {"stem": 1.0}
    # Said, even where it is what a source without a set has anyway.
    assert DataSource(set="gsm8k", prompt_key="prompt").prompt_key == "prompt"


def test_a_file_of_one_s_own_takes_the_set_s_columns_and_not_its_place():
    source = DataSource(set="gsm8k", path="here.jsonl")
    assert (source.dataset, source.subset, source.prompt_key) == ("", "", "question")


def test_a_written_configuration_reads_back_the_same(tmp_path):
    lines = ["data.sources.0.set=gsm8k", "data.sources.1.set=amc", "data.sources.1.path=x.jsonl"]
    config = load_config(None, lines)
    assert config.data.sources[0].dataset == "openai/gsm8k"
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config))
    assert load_config(path) == config


def test_an_unknown_set_is_refused_with_the_nearest():
    with pytest.raises(ValidationError, match=r"did you mean 'gsm8k'"):
        DataSource(set="gsm8")
    with pytest.raises(InputError, match=r"data.sources.0.*set = 'gsm8'.*did you mean 'gsm8k'"):
        load_config(None, ["data.sources.0.set=gsm8"])


def test_every_file_by_name_is_part_of_the_package():
    root = Path(__file__).parents[3]
    table = tomllib.loads((root / "pyproject.toml").read_text())
    patterns = table["tool"]["setuptools"]["package-data"]["actors"]
    packed = {path for pattern in patterns for path in (root / "actors").glob(pattern)}
    assert set((root / "actors").rglob("*.toml")) == packed


def test_livecodebench_reads_the_rows_that_can_be_solved(tmp_path):
    """Every row of that file carries twelve foreign tests of calls, which `skip` leaves out."""
    path = lines(tmp_path, "lcb_v5_279.minus_heldout.json.gz")
    source = DataSource(set="livecodebench", path=path)
    problems = read_problems(source)
    assert len(problems) == 156
    assert len(read_problems(DataSource(set="livecodebench", path=path, where={}))) == 251
    options = {"code": {"unnamed_calls": "skip"}}
    config = RunConfig(model={"path": "m"}, data={"sources": [source]}, reward={"options": options})
    judge = rewards.prompt_checks(config)["code"]
    for problem in problems:
        judge(prompt_of(problem, source))


def prompt_of(problem, source: DataSource) -> Prompt:
    return Prompt(
        id="s:0@0",
        text=problem.question,
        token_ids=np.zeros(1, np.int32),
        verifiers=dict(source.verifiers),
        reference=problem.reference,
        source=source.name,
        question=problem.question,
    )

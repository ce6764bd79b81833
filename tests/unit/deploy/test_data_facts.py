"""What a dry run says of the training data, counted by hand on a few rows."""

import json
from pathlib import Path

import pytest

from deploy.checks import data_facts
from deploy.checks.preflight import preflight
from oapl.config.toml import load_config
from oapl.errors import InputError
from tests.support.makers import make_model

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("files") / "model")


def write(path: Path, prompts, answer=lambda i: "1") -> str:
    rows = [
        {"prompt": prompt, "answer": answer(i), "response": "y"} for i, prompt in enumerate(prompts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def facts(model: Path, sources: dict[str, str], evaluation: dict[str, str], *more: str, dry=True):
    named = [
        f"{section}.sources.{index}.{key}={value}"
        for section, files in (("data", sources), ("eval", evaluation))
        for index, (name, path) in enumerate(files.items())
        for key, value in (("name", name), ("path", path))
    ]
    base = [f"run.dir={model.parent}", f"model.path={model}", "rollout.max_tokens=412"]
    return preflight(load_config(None, [*base, *named, *more]), is_dry=dry).facts


def test_lengths_are_told_by_quantiles_and_the_share_over_the_room(model, tmp_path):
    path = write(tmp_path / "a.jsonl", ["x" * n for n in (*range(1, 100), 101)])
    found = facts(model, {"a": path}, {})
    # A character is a token; the context of 512 leaves 100, so that the row of 101 is dropped.
    assert found["data a tokens"] == (
        "at most: 50% 50, 90% 90, 99% 99, all 99; 1.0% of the rows are over the room of 100"
    )


def test_doubles_are_those_of_earlier_rows_in_earlier_sources_too(model, tmp_path):
    a = write(tmp_path / "a.jsonl", ["p", "q", "p", "p"])
    b = write(tmp_path / "b.jsonl", ["q", "r", "R"])
    found = facts(model, {"a": a, "b": b}, {})
    assert found["data a doubles"].startswith("2 of 4 questions")
    assert found["data b doubles"].startswith("1 of 3 questions")


def test_overlap_is_told_for_each_evaluation_set(model, tmp_path, monkeypatch):
    few = " ".join(LONG.split()[:12])
    a = write(tmp_path / "a.jsonl", [f"Say {LONG}!", f"{few} only", "short one", "else"])
    sets = {
        "s": write(tmp_path / "s.jsonl", [f"{LONG.upper()} and more"]),
        "t": write(tmp_path / "t.jsonl", ["Short, one.", LONG]),
    }
    found = facts(model, {"a": a}, sets)
    assert found["data a overlap"] == (
        "questions that share 13 words in a row with a set: s 1, t 2"
    )
    monkeypatch.setattr(data_facts, "MOST_COMPARED", 1)
    found = facts(model, {"a": a}, sets)
    assert found["data a overlap"] == (
        "questions of the first 1 that share 13 words in a row with a set: s 1, t 1"
    )


def test_answers_that_only_their_own_text_equals_are_counted(model, tmp_path):
    answers = ["proof", "2", r"\frac{1}{2}", "(1, 2]", '["2"]', "1011_2", "3:4"]
    answers += [r"[-1,0) \cup (0,1]"]
    path = write(tmp_path / "a.jsonl", "abcdefgh", answers.__getitem__)
    assert facts(model, {"a": path}, {})["data a answers"] == (
        "2 of 8 are not read as mathematics, so that only the same text is right: "
        "'proof', '[\"2\"]'"
    )
    plain = write(tmp_path / "b.jsonl", "ab")
    assert "data b answers" not in facts(model, {"b": plain}, {})


def test_weights_are_told_as_shares_and_passes(model, tmp_path):
    a, b = write(tmp_path / "a.jsonl", "abcd"), write(tmp_path / "b.jsonl", "ef")
    heavy = ("data.sources.0.weight=1", "data.sources.1.weight=3")
    found = facts(model, {"a": a, "b": b}, {}, *heavy)
    # An epoch is 6 draws: 1.5 of the 4 rows of a, 4.5 of the 2 of b.
    assert found["data a share"] == "25.0% of the draws, 0.38 passes an epoch"
    assert found["data b share"] == "75.0% of the draws, 2.25 passes an epoch"
    with pytest.raises(InputError, match=r"data.sources: b has no weight, but others do"):
        facts(model, {"a": a, "b": b}, {}, heavy[0])
    with pytest.raises(InputError, match=r"eval.sources.0.weight = 2: an evaluation asks"):
        facts(model, {"a": a}, {"e": b}, "eval.sources.0.weight=2")


def test_imitation_has_no_answers_to_tell_of(model, tmp_path):
    path = write(tmp_path / "a.jsonl", "aab", lambda i: "proof")
    found = facts(model, {"a": path}, {}, "objective.name=sft", "rollout.group_size=1")
    assert found["data a doubles"].startswith("1 of 3")
    assert "data a answers" not in found


def test_a_run_that_starts_does_not_wait_for_it(model, tmp_path):
    path = write(tmp_path / "a.jsonl", "ab")
    assert not [name for name in facts(model, {"a": path}, {}, dry=False) if "doubles" in name]


def test_rows_without_a_column_or_an_answer_are_counted(model, tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"prompt": "p", "answer": "1"}, {"prompt": "q"}, {"question": "r", "answer": "1"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=r"line 2: .* 'answer'.*\(2 of 3 rows are such\)"):
        facts(model, {"a": str(path)}, {})
    nested = write(tmp_path / "b.jsonl", "abc", lambda i: {"value": "1"} if i else "1")
    with pytest.raises(InputError, match=r"line 2: .*could judge no.*\(2 of 3 rows are such\)"):
        facts(model, {"b": nested}, {})

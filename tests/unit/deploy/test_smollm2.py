"""The problems that `make smollm2` writes, and what it refuses. The conversion itself needs the
package, which `make smollm2` installs."""

import json

import pytest

from deploy.recipes.smollm2 import EXAMPLES, convert, write_problems
from oapl.errors import InputError


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("problems")
    write_problems(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["eval.jsonl", "train.jsonl"]
    return {
        name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("train", "eval")
    }


def terms(row) -> frozenset[str]:
    return frozenset(row["entry"]["metadata"]["expression"].split(" + "))


def test_no_sum_is_held_out_and_trained_on_or_shown(rows):
    trained, held_out = ({terms(row) for row in rows[name]} for name in ("train", "eval"))
    assert len(rows["train"]) > 80
    assert len(rows["eval"]) > 20
    assert not trained & held_out
    shown = rows["eval"][0]["prompt"].split("\n")[1:-2:2]
    assert len(shown) == EXAMPLES
    assert not {frozenset(line.split(" = ")[0].split(" + ")) for line in shown} & held_out


def test_a_prompt_shows_worked_examples_and_ends_with_its_question(rows):
    for row in [*rows["train"], *rows["eval"]]:
        assert row["prompt"].count("\\boxed{") == row["prompt"].count("<|im_end|>") == EXAMPLES
        assert row["prompt"].endswith(f"<|im_end|>\n{row['entry']['question']}\n")
        assert eval(row["entry"]["metadata"]["expression"]) == int(row["answer"])


def test_a_folder_without_a_gguf_file_is_refused_and_a_made_model_is_kept(tmp_path):
    with pytest.raises(InputError, match=r"holds 0 GGUF files.*make smollm2"):
        convert(tmp_path, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert convert(tmp_path, tmp_path / "model").is_dir()

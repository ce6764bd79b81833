"""`oapl init`: what it sees in a model and a data file, and that the recipe it writes can run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.checks.preflight import preflight
from deploy.commands._init import choices as choosing
from deploy.commands._init.choices import choices
from deploy.commands._init.looks import Data, Model
from deploy.commands._init.recipe import init
from deploy.commands.quickstart import prepare
from oapl.config.toml import load_config
from oapl.devices.base import DEVICES
from oapl.errors import InputError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a chat template; the quickstart makes it."""
    patch = pytest.MonkeyPatch()
    patch.setattr("deploy.commands.quickstart.SIZES", {"sft": 40, "train": 8, "eval": 4})
    folder = prepare(tmp_path_factory.mktemp("init"), seed=0)
    patch.undo()
    return folder / "model"


def data(tmp_path: Path, *rows: dict[str, object]) -> Path:
    path = tmp_path / "my problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def chosen(path: Path) -> dict[str, object]:
    config = load_config(path)
    (source,) = config.data.sources
    return {
        "prompt": source.prompt_key,
        "answer": source.answer_key,
        "verifiers": config.reward.verifiers,
        "context": config.rollout.context_tokens,
    }


def test_the_recipe_names_the_columns_and_passes_every_check(model: Path, tmp_path: Path):
    rows = [
        {"question": f"Calculate {i} + 4.", "answer": f"{i}+4={i + 4}\n#### {i + 4}", "level": 1}
        for i in range(20)
    ]
    output = tmp_path / "sub" / "mine.toml"
    said = init(str(model), data(tmp_path, *rows), device="cpu", output=output)
    assert said == [f"wrote {output}; next: oapl train {output} --dry-run"]
    assert chosen(output)["prompt"] == "question"
    assert chosen(output)["verifiers"] == {"math": 1.0}
    config = load_config(output)
    assert config.run.name == "mine"
    assert (config.model.dtype, config.learner.precision) == ("float32", "fp32")
    assert config.data.sources[0].name == "my-problems"
    preflight(config)
    text = output.read_text()
    assert "# answers" not in text
    assert "(answers: 100% number)" in text
    assert "# L: learner steps between two publications" in text
    settings = [line for line in text.splitlines() if line and line[0] not in "#["]
    comments = sum(line.startswith("#") for line in text.splitlines())
    assert comments >= len(settings) - 1  # but for objective.name, which needs none


def test_puzzles_are_judged_by_their_own_scorer(model: Path, tmp_path: Path):
    source = model.parent / "train.jsonl"
    init(str(model), source, device="cpu", output=tmp_path / "r.toml")
    assert chosen(tmp_path / "r.toml")["verifiers"] == {"reasoning_gym": 1.0}


def test_prose_answers_are_said_to_be_hard_to_judge(model: Path, tmp_path: Path):
    rows = [{"prompt": "Why 1?", "answer": "because " * 20}] * 3 + [{"prompt": "1?", "answer": 1}]
    said = init(str(model), data(tmp_path, *rows), device="cpu", output=tmp_path / "r.toml")
    assert said[0].startswith("75% of the answers are prose")


def test_a_recipe_is_not_overwritten_unless_asked(model: Path, tmp_path: Path):
    output = tmp_path / "r.toml"
    output.write_text("mine")
    file = data(tmp_path, {"prompt": "1 + 1?", "answer": 2})
    with pytest.raises(InputError, match="exists; choose another name by -o"):
        init(str(model), file, device="cpu", output=output)
    assert output.read_text() == "mine"
    init(str(model), file, device="cpu", output=output, force=True)
    assert "max_tokens" in output.read_text()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "1?", "answer": 2}], "looks like a prompt; there are text, answer; call it"),
        ([{"prompt": "1?", "level": 2}], "looks like a reference answer; there are prompt, level"),
        ([{"prompt": "1?", "answer": 2}, {"prompt": "2?"}], "column that every row has"),
        ([], "has no rows"),
    ],
    ids=["no prompt", "no answer", "answers missing", "empty"],
)
def test_data_that_cannot_be_used_is_refused_and_nothing_is_written(
    model: Path, tmp_path: Path, rows: list[dict[str, object]], message: str
):
    with pytest.raises(InputError, match=message):
        init(str(model), data(tmp_path, *rows), device="cpu", output=tmp_path / "r.toml")
    assert not list(tmp_path.glob("*.toml*"))


def test_a_model_or_device_that_is_not_there_is_refused(model: Path, tmp_path: Path):
    file = data(tmp_path, {"prompt": "1?", "answer": 2})
    with pytest.raises(InputError, match="no tokenizer can be loaded"):
        init("/nowhere", file, device="cpu", output=tmp_path / "r.toml")
    with pytest.raises(InputError, match="--device = 'tpu' is not one of"):
        init(str(model), file, device="tpu", output=tmp_path / "r.toml")
    (model.parent / "bare").mkdir(exist_ok=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (model.parent / "bare" / name).write_bytes((model / name).read_bytes())
    with pytest.raises(InputError, match="has no weights"):
        init(str(model.parent / "bare"), file, device="cpu", output=tmp_path / "r.toml")
    assert not list(tmp_path.glob("*.toml*"))


@pytest.mark.parametrize("device", DEVICES.names())
def test_every_device_gets_a_recipe_that_passes(model: Path, tmp_path: Path, device: str):
    file = data(tmp_path, {"prompt": "1 + 1?", "answer": 2})
    init(str(model), file, device=device, output=tmp_path / "r.toml")
    assert load_config(tmp_path / "r.toml").cluster.device == device


@pytest.mark.parametrize(
    ("parameters", "lr"), [(5e5, 5e-5), (1.35e8, 1e-5), (1.5e9, 2e-6), (3.2e10, 1e-6)]
)
def test_larger_models_learn_more_slowly(parameters: float, lr: float):
    assert choosing._rate(int(parameters)) == lr


def test_the_anchor_weakens_with_length():
    assert choosing._beta2(64) == pytest.approx(0.1)
    assert choosing._beta2(25_000) == pytest.approx(1e-3)


def test_a_response_and_the_longest_prompt_fit_the_context():
    look = Model(path="m", kind="llama", parameters=10**9, context=4096, is_chat=True)
    seen = Data(
        path="d.jsonl", prompt_key="prompt", answer_key="answer", lengths=[9, 1000], answers={}
    )
    values = {choice.key: choice.value for choice in choices(look, seen, "cuda", "r")}
    assert values["rollout.max_tokens"] == 2048
    assert 1000 + 2048 <= values["rollout.context_tokens"] <= 4096
    assert values["learner.activation_checkpointing"] is True

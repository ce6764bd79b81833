"""What a dry run says of a run that can start. What it refuses is in `test_bad_input.py`."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from actors.data import prompts
from actors.data.tokenizer import load_tokenizer
from deploy.checks import preflight as module
from deploy.checks.preflight import preflight
from learner.checkpoints import contents, resuming, snapshots
from oapl.comparison.power import smallest_difference
from oapl.config.objective import source_of
from oapl.config.toml import load_config
from oapl.errors import InputError
from tests.support.makers import make_model
from tests.support.mixing import NAME as MIXING


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    make_model(folder / "model")
    rows = [{"prompt": "x" * n, "answer": "1", "response": "y" * n} for n in (10, 20, 30, 40)]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def report(files: Path, *overrides: str, purpose: str = "train", is_dry: bool = False):
    base = [f"run.dir={files / 'runs'}", f"model.path={files / 'model'}", "rollout.max_tokens=64"]
    return preflight(load_config(None, [*base, *overrides]), purpose=purpose, is_dry=is_dry)


def data(files: Path, section: str = "data") -> list[str]:
    return [f"{section}.sources.0.name=sums", f"{section}.sources.0.path={files / 'data.jsonl'}"]


def test_a_dry_run_prints_a_recipe_with_facts_as_comments(files, tmp_path):
    made = report(files, *data(files), "sync.interval=7")
    (tmp_path / "recipe.toml").write_text(str(made))
    assert load_config(tmp_path / "recipe.toml") == made.config
    assert made.facts["parameters"] == "508,800 in 1 file", "as torch counts them, tied once"
    assert made.facts["model"] == f"{files / 'model'} (llama)"
    assert made.facts["context"] == "512 tokens"
    assert made.facts["template"] == "plain"
    assert made.facts["data sums"] == "4 of 4 prompts, the longest has 40 tokens"
    assert made.facts["run folder"] == f"{files / 'runs' / 'run'}, new"
    assert made.notes == ()
    assert not (files / "runs").exists(), "a dry run makes nothing"


def test_examples_to_imitate_need_no_answer_where_other_problems_are_evaluated(files, tmp_path):
    (tmp_path / "worked.jsonl").write_text('{"prompt": "1+1=", "response": "2"}\n')
    worked = ["data.sources.0.name=worked", f"data.sources.0.path={tmp_path / 'worked.jsonl'}"]
    imitation = ["objective.name=sft", "rollout.group_size=1", "learner.batch_size=1"]
    made = report(files, *worked, *data(files, "eval"), *imitation)
    assert [prompt.source for prompt in made.trials] == ["sums"] * 3


def test_dropped_prompts_and_data_that_ends_early_are_noted(files):
    made = report(
        files,
        *data(files),
        *data(files, "eval"),
        "rollout.context_tokens=94",
        "data.epochs=2",
        "learner.batch_size=16",
    )
    assert made.notes == (
        "data sums: 3 of 4 prompts, 1 dropped as too long, the longest has 30 tokens",
        "the data ends after about 3 of run.max_steps = 1000 (data.epochs = 2)",
        "eval sums: 3 of 4 prompts, 1 dropped as too long, the longest has 30 tokens",
    )
    assert f"# note: {made.notes[0]}" in str(made)


def test_groups_that_are_used_again_need_fewer_prompts(files):
    few = ("learner.batch_size=16", "run.max_steps=400")
    steps = [
        report(files, *data(files), *few, *more).facts["steps"].partition(": ")[2].split()[0]
        for more in (
            (),
            ("replay.max_uses=5",),
            ("learner.updates_per_batch=5",),
            (f"objective.name={MIXING}", "sync.interval=1", "objective.until=100"),
        )
    ]
    # 400 takes of 2 groups of 8, of 4 prompts; of 16 rollouts 8 are fresh, for 99 iterations.
    assert steps == ["200.00", "40.00", "40.00", "175.25"]


def test_data_that_ends_within_a_mixed_run_is_noted(files):
    options = (f"objective.name={MIXING}", "sync.interval=1", "learner.batch_size=16")
    made = report(files, *data(files), *options, "data.epochs=2")
    assert "the data ends after about 7 of run.max_steps = 1000" in made.notes[0]


def test_imitation_counts_examples(files):
    made = report(files, *data(files), "objective.name=sft", "rollout.group_size=1")
    assert made.facts["data sums"] == "4 of 4 prompts, the longest has 40 tokens"
    assert made.facts["steps"].startswith("1000 of 64 groups of 1: 16000.00 epochs")


def test_an_evaluation_needs_no_training_data(files):
    made = report(files, *data(files, "eval"), purpose="evaluate")
    assert "eval sums" in made.facts
    assert "steps" not in made.facts
    with pytest.raises(InputError, match=r"data.sources is empty"):
        report(files, *data(files, "eval"))


def test_an_evaluation_does_not_ask_which_groups_are_trained_on(files):
    made = report(files, *data(files, "eval"), 'replay.source="stored"', purpose="evaluate")
    assert "eval sums" in made.facts


def test_an_evaluation_set_says_how_it_is_answered_and_what_it_can_show(files):
    asked = ["eval.protocol=avg32_t1", "eval.ks=[1]", "eval.num_samples=4", "eval.max_tokens=64"]
    made = report(files, *data(files, "eval"), *asked, purpose="evaluate", is_dry=True)
    assert made.facts["eval sums answers"] == (
        "avg32_t1 but for num_samples, ks, n 4, T 1, top-p 1, top-k off, at most 64 tokens"
    )
    least = 100 * smallest_difference(4, 4)
    assert made.facts["eval sums shows"].startswith(f"differences of {least:.1f} points or more (4")


def test_a_category_that_rows_do_not_have_is_refused(files):
    with pytest.raises(InputError, match=r"no column 'task'.* its columns are answer"):
        report(files, *data(files, "eval"), "eval.sources.0.category=task", purpose="evaluate")
    report(files, *data(files, "eval"), "eval.sources.0.category=answer", purpose="evaluate")


def test_what_a_verifier_warns_of_is_noted(files):
    made = report(
        files,
        *data(files),
        "reward.verifiers.shaping=1.0",
        "reward.options.shaping.length_penalty=0.5",
        "reward.options.shaping.length_limit=40",
    )
    assert "accuracy low" in made.notes[0]


def saved(files: Path, tmp_path: Path, *overrides: str) -> list[str]:
    """Overrides of a run in `tmp_path` that has a checkpoint over the data as it is now."""
    asked = [f"run.dir={tmp_path}", f"data.sources.0.path={tmp_path / 'data.jsonl'}", *overrides]
    shutil.copy(files / "data.jsonl", tmp_path)
    base = [f"model.path={files / 'model'}", "rollout.max_tokens=64"]
    config = load_config(None, [*base, *data(files), *asked])
    tokenizer = load_tokenizer(config.model.path, False)
    part = snapshots.begin(config.folder / "checkpoints", 4)
    contents.write_state(part, {"step": 4})
    if source_of(config) == "examples":
        held = prompts.ExampleQueue(config, tokenizer).order.state()
    else:
        held = {"source": prompts.build(config, tokenizer).state(), "buffer": []}
    contents.write_pickle(part / contents.REPLAY, held)
    snapshots.commit(part, 4)
    return [*data(files), *asked]


@pytest.mark.parametrize("kind", [(), ("objective.name=sft", "rollout.group_size=1")])
def test_a_run_is_not_begun_that_would_go_on_over_other_data(files, tmp_path, kind):
    asked = saved(files, tmp_path, *kind)
    assert report(files, *asked).facts["run folder"].endswith("goes on from step-4")
    rows = (tmp_path / "data.jsonl").read_text().splitlines()
    (tmp_path / "data.jsonl").write_text("\n".join(rows[::-1]))
    with pytest.raises(InputError, match=r"step-4: the data is not that of the checkpoint"):
        report(files, *asked)
    (tmp_path / "data.jsonl").write_text("\n".join(rows))
    report(files, *asked)


@pytest.mark.parametrize("kind", [(), ("objective.name=sft", "rollout.group_size=1")])
def test_a_source_that_came_since_the_checkpoint_is_noted_and_changed_ones_are_refused(
    files, tmp_path, kind
):
    asked = saved(files, tmp_path, *kind)
    new = [f"data.sources.1.path={tmp_path / 'new.jsonl'}", "data.sources.1.name=new"]
    shutil.copy(files / "data.jsonl", tmp_path / "new.jsonl")
    made = report(files, *asked, *new)
    assert "data new: new since the checkpoint; it joins the others here" in made.notes
    rows = (tmp_path / "data.jsonl").read_text().splitlines()
    (tmp_path / "data.jsonl").write_text("\n".join(rows[1:]))
    with pytest.raises(InputError, match=r"step-4: .* further sources may join, behind the others"):
        report(files, *asked, *new)


def test_pass_rates_that_a_source_asks_for_are_told(files, tmp_path):
    path = tmp_path / "rated.jsonl"
    rows = [{"prompt": f"{n}?", "answer": "1", "pass_rate": n / 10} for n in range(11)]
    path.write_text("\n".join(map(json.dumps, rows)))
    asked = [*data(files), f"data.sources.0.path={path}", "data.sources.0.pass_rate=[0.2, 0.9]"]
    made = report(files, *asked, is_dry=True)
    told = "from 0.20 to 0.90; at most: 25% 0.30, 50% 0.50, 75% 0.70"
    assert made.facts["data sums pass rates"] == told
    assert made.facts["data sums"].startswith("8 of 8 prompts, 3 rows of other pass rates, ")
    assert "data sums pass rates" not in report(files, *data(files), is_dry=True).facts


@pytest.mark.parametrize("what", ["large", "damaged", "of an earlier build", "gone"])
def test_what_cannot_be_told_cheaply_is_left_to_replay(files, tmp_path, monkeypatch, what):
    asked = saved(files, tmp_path)
    (tmp_path / "data.jsonl").write_text('{"prompt": "y", "answer": "1"}')
    file = next(tmp_path.glob("run/checkpoints/step-4/replay.pkl"))
    if what == "large":
        monkeypatch.setattr(resuming, "CHEAP_BYTES", 10)
    elif what == "damaged":
        file.write_bytes(file.read_bytes()[:20])
    elif what == "gone":
        file.unlink()
    else:
        contents.write_pickle(file, [1])
    report(files, *asked)


def test_prompts_of_a_run_that_goes_on_tell_the_date_of_its_first_day(files, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(files / "model", model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }} {{ messages[-1]['content'] }}"
    tokenizer.save_pretrained(model)
    chatty = f"model.path={model}"
    asked = saved(files, tmp_path, chatty, 'data.date="2026-01-31"')
    with pytest.raises(InputError, match="not that of the checkpoint"):
        report(files, *asked, 'data.date="2026-02-01"')
    with pytest.raises(InputError, match="not that of the checkpoint"):
        report(files, *asked, "data.date=")
    (tmp_path / "run" / "config.toml").write_text('[data]\ndate = "2026-01-31"\n')
    made = report(files, *asked, "data.date=")
    assert made.config.data.date == "", "a dry run's recipe is not tied to it"


def test_an_evaluation_of_nothing_is_refused_dry_too(files):
    with pytest.raises(InputError, match=r"eval\.sources is empty; name"):
        report(files, purpose="evaluate")


def test_a_hub_that_does_not_answer_is_asked_once(files, monkeypatch):
    asked = []

    def nobody(name, trust_remote_code):
        asked.append(name)
        raise InputError("no answer")

    monkeypatch.setattr(module, "load_model_config", nobody)
    for _ in range(2):
        made = report(files, "model.path=some/model", is_dry=True)
        assert "model.path = 'some/model' is not here" in made.unchecked[0]
    assert asked == ["some/model"]

"""`oapl sft` with evaluations: real DeepSpeed, real vLLM for these alone, reward servers."""

import json
import signal

import pytest

from actors.data.prompts import ExampleQueue
from actors.data.tokenizer import load_tokenizer
from learner.export import GENERATION_FILE
from oapl import groups_file
from oapl.config.toml import load_config
from oapl.groups_file import pass_rates
from tests.support.whole_runs import Run, write_recipe

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

SETTINGS = """
[objective]
name = "sft"
[[eval.sources]]
name = "sums"
path = "{folder}/sums.jsonl"
[eval]
num_samples = 2
ks = [1, 2]
every_syncs = 1
store_groups = true
[checkpoint]
keep = 1
keep_best = true
models = "epochs"
"""
OVERRIDES = ("rollout.group_size=1", "optimizer.lr=3e-3", "run.max_steps=16")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = write_recipe(tmp_path_factory.mktemp("imitation"))
    path.write_text(path.read_text() + SETTINGS.format(folder=path.parent))
    rows = [json.loads(line) for line in (path.parent / "sums.jsonl").open()]
    for row in rows:
        row["response"] = row["answer"]
    write(path.parent / "sums.jsonl", rows)
    write(path.parent / "more.jsonl", [{**row, "prompt": row["prompt"] + " "} for row in rows[:40]])
    return path


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.by_hand
def test_imitation_is_evaluated_and_its_best_and_its_passes_are_kept(recipe):
    run = Run(recipe, "whole", *OVERRIDES, verb="sft")
    code, output = run.end()
    assert code == 0, output
    assert run.steps() == list(range(1, 17))
    scores = dict(evaluations(run))
    assert list(scores) == [0, 4, 8, 12, 16]
    known = json.loads((run.folder / "best.json").read_text())
    assert known["scores"] == {str(step): scores[step] for step in (4, 8, 12, 16)}
    assert known["best"] == known["exported"] == max((4, 8, 12, 16), key=scores.get)
    kept = {path.name for path in (run.folder / "checkpoints").iterdir()}
    assert kept == {"step-16", f"step-{known['best']}"}
    for model in ("best", "models/epoch-1", "models/epoch-2", "model"):
        assert (run.folder / model / "model.safetensors").is_file(), model
        assert (run.folder / model / GENERATION_FILE).is_file(), model
    for step, score in scores.items():
        folder = run.folder / "evaluations" / f"step-{step}" / "sums"
        groups = list(groups_file.read(folder))
        assert [(len(group.rollouts), group.version) for group in groups] == [(2, step)] * 100
        rates = pass_rates.read(folder / pass_rates.FILE)
        assert sum(rates.values()) / 100 == pytest.approx(score)


def evaluations(run):
    for line in map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines()):
        if "eval/sums/mean@2" in line:
            yield line["step"], line["eval/sums/mean@2"]


@pytest.mark.by_hand
def test_a_run_that_was_killed_goes_on_with_a_source_more_and_the_old_draws_as_they_were(recipe):
    plain = ("eval.sources=[]", "checkpoint.keep_best=false", "checkpoint.models=last")
    asked = (*OVERRIDES, *plain, "tracking.store_groups=all")
    run = Run(recipe, "joined", *asked, verb="sft")
    run.wait_for_step(6)
    run.kill(signal.SIGKILL)
    run.end()
    more = ("data.sources.1.name=more", f"data.sources.1.path={recipe.parent / 'more.jsonl'}")
    again = Run(recipe, "joined", *asked, *more, verb="sft")
    code, output = again.end()
    assert code == 0, output
    assert "data more: new since the checkpoint; it joins the others here" in output
    assert again.steps() == list(range(1, 17))
    drawn = [group.prompt.id for group in groups_file.read(run.folder / "rollouts")]
    assert len(drawn) == len(set(drawn)) == 16 * 16
    config = load_config(recipe, asked)
    alone = ExampleQueue(config, load_tokenizer(config.model.path)).draw(1000)
    old = [id for id in drawn if id.startswith("sums:")]
    assert old == [group.id for group in alone][: len(old)]
    saved = min(place for place, id in enumerate(drawn) if id.startswith("more:"))
    assert saved >= 4 * 16, "it joined at the checkpoint"
    share = (len(drawn) - len(old)) / (len(drawn) - saved)
    assert share == pytest.approx(40 / 140, abs=0.08)

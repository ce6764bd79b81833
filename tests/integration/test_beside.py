"""Evaluations beside training on real Ray, vLLM and DeepSpeed, and the same checkpoint outside.

Two engines, one of them set aside. What the run says of its last policy, `oapl eval` says of the
model that it has left: at temperature 0 in fp32 letter by letter, unless the two best tokens are as
good as equal.
"""

import json
import math

import numpy as np
import pytest

from oapl import groups_file
from tests.support.whole_runs import Run, write_recipe

pytestmark = [pytest.mark.integration, pytest.mark.by_hand, pytest.mark.timeout(1800)]

NEAR = 1e-4
"""Nats between the two best tokens, below which either may be taken."""
QUESTIONS, SAMPLES = 30, 16
EXAM = (
    "eval.sources.0.name=exam",
    f"eval.sources.0.sample={QUESTIONS}",
    f"eval.num_samples={SAMPLES}",
    "eval.ks=[1]",
    "eval.store_groups=true",
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("beside"))


@pytest.fixture(scope="module")
def trained(recipe):
    """A run of twelve steps with a point at every third, two of them off a synchronisation."""
    exam = (*EXAM, f"eval.sources.0.path={recipe.parent}/sums.jsonl")
    aside = ("rollout.num_engines=2", "eval.engines=1", "eval.every_steps=3")
    # Judged by its length, so that rewards differ from the first answer on.
    (recipe.parent / "mine.py").write_text(
        "def reward(prompt, response, reference):\n    return len(response) / 100\n"
    )
    judged = (
        "reward.verifiers={ function = 1.0 }",
        f"reward.options.function.function={recipe.parent}/mine.py:reward",
    )
    run = Run(recipe, "trained", *exam, *aside, *judged)
    code, output = run.end(seconds=900)
    assert code == 0, output
    return run, output, (*exam, *judged)


def rows(run):
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def test_the_learner_waits_for_no_evaluation_and_scores_carry_their_step(trained):
    run, output, _ = trained
    assert run.steps()[-1] == 12
    assert "every 3 steps, beside training, on 1 of 2 engines" in output
    lines = [row for row in rows(run) if "time/step_s" in row]
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert sum(line["time/wait_for_evaluation_s"] for line in lines) == 0.0
    told = [row["step"] for row in rows(run) if "eval/exam/mean@16" in row]
    skipped = sum(line["faults/skipped_evaluations"] for line in lines)
    assert len(told) + skipped == 5, "0, 3, 6, 9 and the end"
    assert (told[0], told[-1]) == (0, 12)
    assert told == sorted(told)
    assert {line["weights/version"] for line in lines if "weights/version" in line} == {0, 4, 8}
    assert max(line["weights/probe"] for line in lines if "weights/probe" in line) < 1.001
    assert max(line["replay/lag_max"] for line in lines) == 3
    assert max(line["engine/evaluation_tokens"] for line in lines) > 0
    # Of a point off a synchronisation the answers are of its own version.
    for step in told:
        stored = groups_file.read(run.folder / "evaluations" / f"step-{step}" / "exam")
        assert {group.version for group in stored} == {step}


def test_in_a_share_of_the_running_engine_scores_are_of_one_version_or_skipped(recipe):
    exam = (*EXAM, f"eval.sources.0.path={recipe.parent}/sums.jsonl", "eval.num_samples=4")
    run = Run(recipe, "shared", *exam, "eval.every_steps=4", "eval.slots=0.25")
    code, output = run.end(seconds=600)
    assert code == 0, output
    assert "every 4 steps, beside training, in 25% of what is in flight on the engine" in output
    lines = [row for row in rows(run) if "time/step_s" in row]
    assert sum(line["time/wait_for_evaluation_s"] for line in lines) == 0.0
    told = [row["step"] for row in rows(run) if "eval/exam/mean@4" in row]
    skipped = sum(line["faults/skipped_evaluations"] for line in lines)
    print(f"evaluated in a share: {told}, skipped {skipped:.0f}")
    assert len(told) + skipped == 4, "0, 4, 8 and the end"
    assert told[-1] == 12
    for step in told:
        stored = groups_file.read(run.folder / "evaluations" / f"step-{step}" / "exam")
        assert {group.version for group in stored} == {step}


def test_imitation_is_evaluated_beside_training_and_keeps_the_policy_of_the_best_step(recipe):
    settings = (
        *("objective.name=sft", "rollout.group_size=1", "data.sources.0.answer_key="),
        *(f"data.sources.0.path={recipe.parent}/sft.jsonl", "sync.interval=100"),
        *("eval.engines=1", "eval.every_steps=100", "eval.num_samples=4", "run.max_steps=400"),
        *("checkpoint.keep_best=true", "checkpoint.models=all", "optimizer.lr=1e-3"),
    )
    exam = (*EXAM, f"eval.sources.0.path={recipe.parent}/sums.jsonl")
    run = Run(recipe, "imitates", *exam, *settings, verb="sft")
    code, output = run.end(seconds=600)
    assert code == 0, output
    assert "every 100 steps, beside training, on 1 of 1 engines" in output
    lines = [row for row in rows(run) if "time/step_s" in row]
    assert sum(line["time/wait_for_evaluation_s"] for line in lines) == 0.0
    told = {row["step"]: row["eval/exam/mean@4"] for row in rows(run) if "eval/exam/mean@4" in row}
    print(f"evaluated beside imitation: {told}")
    assert len(told) > 2, "one in mid-run at least"
    best = json.loads((run.folder / "best.json").read_text())
    assert best["scores"] == {str(step): told[step] for step in told if step}
    assert best["exported"] == best["best"]
    kept, there = (
        (run.folder / place / "model.safetensors").read_bytes()
        for place in ("best", f"models/step-{best['best']}")
    )
    assert kept == there, "though the learner had gone on"


def answers(folder, label):
    lines = (folder / "evaluations" / f"{label}.exam.jsonl").read_text().splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def test_inside_and_outside_the_run_a_checkpoint_has_the_same_scores(recipe, trained):
    run, _, exam = trained
    model = run.folder / "model"
    outside = Run(recipe, "outside", *exam, f"model.path={model}", verb="eval")
    code, output = outside.end(seconds=600)
    assert code == 0, output
    ours, theirs = answers(run.folder, "step-12"), answers(outside.folder, "eval")
    assert list(ours) == list(theirs)
    differ = [id for id in ours if ours[id]["greedy"]["text"] != theirs[id]["greedy"]["text"]]
    gaps = [gap_of(model, ours[id], theirs[id]) for id in differ]
    print(f"greedy answers that differ: {len(differ)} of {len(ours)}, gaps {gaps}")
    assert all(gap < NEAR for gap in gaps)
    first, second = rewards(ours), rewards(theirs)
    difference = first.mean() - second.mean()
    error = math.sqrt((first.var(axis=1, ddof=1) + second.var(axis=1, ddof=1)).mean() / first.size)
    print(f"mean@{SAMPLES} {first.mean():.4f} and {second.mean():.4f}, error {error:.4f}")
    assert abs(difference) < 4 * error


def rewards(rows):
    """float64 [problems, samples]."""
    return np.array([[sample["reward"] for sample in row["samples"]] for row in rows.values()])


def gap_of(model, ours, theirs):
    """Nats between the two best tokens where two greedy answers part, by transformers in fp32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    first, second = (tokenizer(row["greedy"]["text"])["input_ids"] for row in (ours, theirs))
    pairs = zip([*first, None], [*second, None], strict=False)
    place = next(number for number, (one, other) in enumerate(pairs) if one != other)
    ids = [*tokenizer(ours["question"])["input_ids"], *first[:place]]
    with torch.no_grad():
        logprobs = policy(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    best = logprobs.topk(2).values
    return float(best[0] - best[1])

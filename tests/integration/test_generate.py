"""Infer once, train many: `oapl generate` killed and continued, and a run from what it has made.

Three starts of the command: real Ray and vLLM, then real DeepSpeed, without engines.
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from oapl import groups_file
from tests.support.run_files import steps
from tests.support.whole_runs import write_recipe

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

QUESTIONS, G, PASSES = 100, 4, 3


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    path = write_recipe(folder)
    # Judged by length, so that rewards differ from the first answer on.
    (folder / "mine.py").write_text(
        "def reward(prompt, response, reference):\n    return len(response) / 100\n"
    )
    with path.open("a") as file:
        file.write(
            "[reward]\nverifiers = { function = 1.0 }\n"
            f'options.function.function = "{folder}/mine.py:reward"\n'
        )
    return path


def begin(verb, recipe, *overrides):
    return subprocess.Popen(
        [sys.executable, "-m", "oapl", verb, recipe, *overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_a_generation_that_was_killed_goes_on_and_its_groups_are_trained_on(recipe):
    # A shard whenever 0.6 s have passed: some are whole when the command is killed.
    asked = ("run.name=made", f"data.epochs={PASSES}", "checkpoint.max_minutes=0.01")
    folder = recipe.parent / "runs" / "made" / "groups"
    first = begin("generate", recipe, *asked)
    deadline = time.monotonic() + 600
    while not list(folder.glob("groups-*.parquet")):
        assert first.poll() is None, first.communicate()[0]
        assert time.monotonic() < deadline, "no shard within 600 s"
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    there = set(groups_file.ids(folder))
    assert 0 < len(there) < QUESTIONS * PASSES, "it was killed in the middle"

    second = begin("generate", recipe, *asked)
    output, _ = second.communicate(timeout=900)
    assert second.returncode == 0, output
    assert f"going on: {len(there)} of 300 groups are there" in output
    assert "tokens a second" in output
    groups = list(groups_file.read(folder))
    found = [group.prompt.id for group in groups]
    every = {f"sums:{row}@{number}" for row in range(QUESTIONS) for number in range(PASSES)}
    assert sorted(found) == sorted(every), "none is lost, none is there twice"
    assert there <= set(found)
    assert {len(group.rollouts) for group in groups} == {G}
    assert {group.version for group in groups} == {0}
    assert all(
        len(rollout.token_ids) == len(rollout.inference_logprobs)
        for group in groups
        for rollout in group.rollouts
    )
    assert any(len(set(group.all_rewards)) > 1 for group in groups)

    settings = ("run.name=trained", "replay.source=stored", f"replay.path={folder}")
    third = begin("train", recipe, *settings, "objective.name=grpo", "learner.batch_size=10")
    output, _ = third.communicate(timeout=900)
    assert third.returncode == 0, output
    run = recipe.parent / "runs" / "trained"
    assert steps(run) == list(range(1, 13))
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    lines = [row for row in rows if "time/step_s" in row]
    assert lines[-1]["data/epoch"] == pytest.approx(30 / 300)
    # At the first step the learner has the very policy that sampled.
    assert lines[0]["policy/prob_ratio"] < 1.001
    assert lines[0]["policy/mismatch_kl"] < 1e-5
    assert [line["replay/lag_max"] for line in lines] == list(range(12))
    assert all(line["policy/grad_norm"] > 0 for line in lines)
    assert (run / "model" / "model.safetensors").is_file()
    logs = {path.name for path in (run / "logs").iterdir()}
    assert not any(name.startswith(("worker", "reward", "replay")) for name in logs), logs

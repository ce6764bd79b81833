"""A run of stages killed in its hand-overs: real Ray, vLLM and DeepSpeed, started anew each time.

By hand (`make stages`): fourteen starts of all processes, seven minutes and more.
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from oapl import groups_file
from tests.support.whole_runs import Run, write_recipe

pytestmark = [pytest.mark.integration, pytest.mark.by_hand, pytest.mark.timeout(1800)]

STAGES = """stages=[
    { name = "first", objective = { name = "grpo", kl_coefficient = 0.1 } },
    { name = "second", like = "first", reset = ["reference"], run = { max_steps = 8 } },
    { name = "made", kind = "generate", data.sources.0.sample = 40, checkpoint.max_minutes = 2e-3 },
    { name = "left", kind = "filter", filters = [{ name = "exact_duplicates" }] },
    { name = "off", like = "first", replay = { source = "stored" }, run = { max_steps = 5 } },
]"""
CRITICS = """stages=[
    { name = "two", run.max_steps = 8 },
    { name = "one", like = "two", learner = { num_ranks = 1, zero_stage = 0 } },
    { name = "mixed", objective = { name = "remix", until = 0 }, reset = ["data"] },
    { name = "again", like = "mixed", reset = [] },
]"""
"""Of iterations of two learner steps. The critic of `two` goes over to one rank; remix, on two
again, begins with another."""
SETTINGS = (" ".join(STAGES.split()), "run.max_steps=4", "checkpoint.every_syncs=1")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("staged")
    path = write_recipe(folder)
    (folder / "mine.py").write_text(
        "def reward(prompt, response, reference):\n    return len(response) / 100\n"
    )
    path.write_text(
        path.read_text()
        + "[reward]\nverifiers = { function = 1.0 }\n"
        + f'options.function.function = "{folder}/mine.py:reward"\n'
    )
    return path


def ended(folder):
    try:
        return [one["name"] for one in json.loads((folder / "stages.json").read_text())]
    except FileNotFoundError:
        return []


def kill_when(run, is_reached, seconds=600):
    """Kill -9 the command at once when something has come about."""
    deadline = time.monotonic() + seconds
    while not is_reached():
        assert run._process.poll() is None, run.end()[1]
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.001)
    run.kill(signal.SIGKILL)
    run.end()


def test_a_run_of_stages_that_is_killed_in_its_hand_overs_loses_and_doubles_nothing(recipe):
    def start():
        return Run(recipe, "staged", *SETTINGS)

    run = start()
    folder = run.folder
    kill_when(run, (folder / "checkpoints" / "step-4").is_dir)
    assert ended(folder) == [], "the checkpoint is there, and nobody has noted the end"
    kill_when(start(), lambda: ended(folder) == ["first"])
    kill_when(start(), lambda: ended(folder) == ["first", "second"])
    kill_when(start(), lambda: list((folder / "stages/made/groups").glob("groups-*.parquet")))
    kill_when(start(), lambda: "left" in ended(folder))
    last = start()
    code, output = last.end()
    assert code == 0, output
    assert ended(folder) == ["first", "second", "made", "left", "off"]
    assert last.steps() == list(range(1, 18)), "learner steps count on"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    marks = [(line["step"], line["stage/number"]) for line in lines if "stage/number" in line]
    assert marks == [(0, 1), (4, 2), (12, 3), (12, 4), (12, 5)], "each begins once"
    lags = [line["replay/lag_max"] for line in lines if "replay/lag_max" in line]
    assert lags[:12] == [0, 1, 2, 3] * 3, "periods count from the stage's beginning"
    kl = {line["step"]: line["policy/reference_kl"] for line in lines if "time/step_s" in line}
    assert kl[1] < 1e-9, "the reference is the model that the run began with"
    assert kl[5] < 1e-9, "and was begun anew in the second stage"
    assert kl[13] > 0, "which hands it over to the last"
    groups = list(groups_file.read(folder / "stages" / "made" / "groups"))
    assert len({group.prompt.id for group in groups}) == len(groups) == 40
    assert [line for line in lines if "time/step_s" in line][-1]["policy/prob_ratio"] > 0
    assert max(last.metrics("weights/probe")) < 1.001
    assert os.readlink(folder / "model") == "stages/off/model"
    told = (folder / "messages.log").read_text()
    assert "taking over optimizer, data from" in told
    again = start()
    code, output = again.end()
    assert (code, "nothing to do" in output) == (0, True)


def test_a_critic_goes_from_two_ranks_to_one_though_hand_overs_are_killed(recipe):
    settings = ("objective.name=ppo", "run.max_steps=8", "critic.lr=1e-2", "learner.num_ranks=2")
    shape = ("learner.zero_stage=2", "learner.updates_per_batch=2", "sync.interval=2")

    def start():
        return Run(recipe, "critics", " ".join(CRITICS.split()), *settings, *shape)

    run = start()
    folder = run.folder
    kill_when(run, lambda: ended(folder) == ["two"])
    kill_when(start(), lambda: ended(folder) == ["two", "one", "mixed"])
    last = start()
    code, output = last.end()
    assert code == 0, output
    assert last.steps() == list(range(1, 33))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    made = {line["step"]: line for line in lines if "time/step_s" in line}
    values = {step: made[step]["critic/value_std"] for step in (1, 9, 17, 25)}
    assert values[1] == values[17] == 0, "a head of zeros; remix begins with one of its own"
    assert values[9] > 0 < values[25], "the critic of the stage before"
    history = [made[step]["remix/history_rate"] for step in range(17, 33)]
    assert history == 2 * [0, 0, *[0.5] * 6], "it is of the stage's own iterations"
    assert max(last.metrics("weights/probe")) < 1.001


def test_a_stage_is_ended_by_hand_and_another_by_what_evaluations_say(recipe):
    exam = f"eval = {{ sources = [{{ name = 'sums', path = '{recipe.parent}/sums.jsonl', "
    exam += "sample = 4 }], every_syncs = 1, num_samples = 2, ks = [1] }"
    stages = (
        "stages=[{ name = 'first', run.max_steps = 4000 }, { name = 'second', patience = 1, "
        f"run.max_steps = 4000, optimizer.lr = 1e-9, {exam} }}]"
    )
    run = Run(recipe, "by-hand", stages)
    run.wait_for_step(6)
    asked = subprocess.run([sys.executable, "-m", "oapl", "next", run.folder], timeout=300)
    assert asked.returncode == 0
    code, output = run.end()
    assert code == 0, output
    first, second = json.loads((run.folder / "stages.json").read_text())
    assert first["cause"] == "asked for by hand"
    assert second["cause"].startswith("1 evaluations no better than")
    assert second["made"] % 4 == 0, "at a publication"
    assert run.steps() == list(range(1, second["step"] + 1))
    assert not (run.folder / "next-stage").exists()

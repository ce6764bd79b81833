"""A whole run through the command line: real Ray, vLLM, DeepSpeed, killed and resumed."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.mixing import NAME as MIXING
from tests.support.run_files import lines
from tests.support.whole_runs import Run, write_recipe

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("program"))


@dataclass(frozen=True)
class Life:
    """From a start of the command to its end."""

    exit_code: int
    output: str
    last_step: int
    checkpoints: tuple[str, ...]
    phase: str
    left: list[str]


@pytest.fixture(scope="module")
def lives(recipe) -> tuple[Run, list[Life]]:
    """One run, each group used twice, that is stopped by SIGINT to its process group, as a terminal
    sends it, and in its next life loses its worker and its reward server. (`make chaos` sends
    SIGTERM, as a batch system does.)"""
    ended = []

    def live(*kills):
        run = Run(recipe, "lives", "run.max_steps=80", "sync.interval=16", "replay.max_uses=2")
        for step, number, name in kills:
            run.wait_for_step(step)
            run.kill(number, name)
        code, output = run.end()
        saved = tuple(os.listdir(run.folder / "checkpoints"))
        ended.append(Life(code, output, run.steps()[-1], saved, run.phase(), run.left()))
        return run

    live((5, signal.SIGINT, "group"))
    done = ended[-1].last_step
    kills = ((done + 3, signal.SIGKILL, "worker-0.0"), (done + 20, signal.SIGKILL, "reward-0"))
    return live(*kills), ended


def test_a_run_survives_the_death_of_its_worker_and_of_its_reward_server(lives):
    run, (*_, last) = lives
    assert last.exit_code == 0, last.output
    assert run.steps() == list(range(1, 81))
    assert sum(run.metrics("faults/worker_restarts")) == 1
    assert max(run.metrics("weights/probe")) < 1.001
    assert Path(run.folder / "model" / "model.safetensors").is_file()


def test_a_stopped_run_saves_and_the_same_command_goes_on(lives):
    run, (first, last) = lives
    assert [life.exit_code for life in (first, last)] == [130, 0], first.output
    assert first.last_step < last.last_step
    assert [life.phase for life in (first, last)] == ["stopped", "done"]
    assert [life.left for life in (first, last)] == [[], []]
    assert f"step-{first.last_step}" in first.checkpoints
    assert "stopping after this step" in first.output
    assert run.steps() == list(range(1, 81))
    lags = run.metrics("replay/lag_max")
    assert lags == [step % 16 for step in range(80)], "periods go on where they stopped"


def test_groups_come_again_as_often_as_they_shall_across_stops(lives):
    run, _ = lives
    assert sum(run.metrics("replay/reused")) == 80 // 2 * 4, "each take of two is of used groups"
    assert max(run.metrics("replay/reused")) == 4


@pytest.mark.by_hand
def test_history_goes_on_across_a_stop(recipe):
    """Of a take of 16 rollouts 8 are fresh, from the second iteration to the sixth."""
    settings = (f"objective.name={MIXING}", "objective.until=6", "sync.interval=1")
    run = Run(recipe, "history", *settings)
    run.wait_for_step(3)
    run.kill(signal.SIGINT)
    code, before = run.end()
    assert code == 130, before
    again = Run(recipe, "history", *settings)
    code, output = again.end()
    assert code == 0, output
    assert again.steps() == list(range(1, 13))
    assert sum(again.metrics("replay/history")) == 5 * 2
    assert again.metrics("reference/resets") == [1.0]
    told = "the reference is set anew (reincarnation after 6 iterations)"
    assert (before + output).count(told) == 1


def test_a_run_killed_without_grace_resumes_from_its_last_checkpoint(recipe):
    """With a lead, so that what engines held is older than the learner when it was saved; weights
    go through the run folder."""
    lead = ("sync.max_lead=2", "replay.surplus=0.2")
    settings = ("run.max_steps=24", *lead, "sync.transport=disk")
    run = Run(recipe, "killed", *settings)
    run.wait_for_step(10)
    run.kill(signal.SIGKILL)
    run.end()
    again = Run(recipe, "killed", *settings)
    code, output = again.end()
    assert code == 0, output
    # Ray's agents give the head that died with them 60 s to answer before they end.
    assert run.left(seconds=120) == [], "nothing outlives a command that could not say goodbye"
    assert again.steps() == list(range(1, 25))
    assert "resuming from" in output
    lags = again.metrics("replay/lag_max")
    assert lags[:4] == [0, 1, 2, 3], "the first period begins with its own version"
    assert all(1 <= first <= 2 for first in lags[4::4]), "the others with an earlier one"
    assert lags[4:] == [first + step for first in lags[4::4] for step in range(4)]
    assert max(again.metrics("weights/probe")) < 1.001
    assert_the_last_life_adds_up(again.folder)


def assert_the_last_life_adds_up(folder):
    """On both sides, by the clock of the lines; what was made again is made in vain."""
    rows = [row for row in lines(folder) if "seconds/devices" in row]
    begin = max(i for i, row in enumerate(rows) if row.get("seconds/learner/start"))
    life = rows[begin:]
    passed = life[-1]["time/unix_s"] - life[0]["time/unix_s"]
    for side in ("learner", "engines"):
        begins = f"seconds/{side}/"
        told = sum(v for row in life[1:] for name, v in row.items() if name.startswith(begins))
        assert told == pytest.approx(passed, rel=0.02, abs=0.05), side
    assert 0 < rows[-1]["total/ettr"] < 1


PROGRAM = """
import asyncio
import sys
from pathlib import Path
from oapl import RunConfig
from deploy.run.program import train

folder = Path(sys.argv[1])
config = RunConfig(
    run={"name": "python", "dir": str(folder / "runs"), "max_steps": 6},
    model={"path": str(folder / "model"), "dtype": "float32"},
    data={"sources": [{"name": "sums", "path": str(folder / "sums.jsonl")}]},
    rollout={"group_size": 4, "max_tokens": 12},
    reward={
        "verifiers": {"function": 1.0},
        "options": {"function": {"function": str(folder / "mine.py") + ":reward"}},
    },
    learner={"batch_size": 16, "precision": "fp32"},
    sync={"interval": 3, "transport": "local"},
    cluster={"mode": "local"},
    tracking={"console": "off", "wandb": "off"},
)

async def notebook():
    return train(config)

outcome = asyncio.run(notebook())
print(outcome.step, outcome.folder)
"""


def test_train_is_a_python_function_and_takes_a_reward_function(recipe):
    """In one process, without Ray: the other launcher, the other transport. In a notebook, too,
    where an event loop runs already."""
    folder = recipe.parent
    (folder / "mine.py").write_text(
        "def reward(prompt, response, reference):\n    return len(response) / 100\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM, folder], capture_output=True, text=True, timeout=600
    )
    assert answer.returncode == 0, answer.stderr
    rows = lines(folder / "runs" / "python")
    assert [row["step"] for row in rows if "time/step_s" in row] == [1, 2, 3, 4, 5, 6]
    rewards = [row["reward/mean"] for row in rows if "reward/mean" in row]
    assert rewards
    assert all(0 < reward < 1 for reward in rewards)

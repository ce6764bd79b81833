"""A whole run through the command line: real Ray, vLLM, DeepSpeed, killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

from oapl.tracking import rollouts
from tests.support.makers import make_model
from tests.support.mixing import NAME as MIXING
from tests.support.run_files import steps

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

RECIPE = """
[run]
name = "small"
dir = "{folder}/runs"
max_steps = 12
[model]
path = "{folder}/model"
dtype = "float32"
[[data.sources]]
name = "sums"
path = "{folder}/sums.jsonl"
[rollout]
group_size = 4
max_tokens = 12
[optimizer]
lr = 1e-4
[learner]
batch_size = 16
precision = "fp32"
micro_batch_tokens = 1024
row_tokens = 1
[sync]
interval = 4
timeout_s = 600
[tracking]
console = "plain"
wandb = "off"
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("program")
    make_model(folder / "model")
    rows = [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(10) for b in range(10)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(folder=folder))
    return path


class Run:
    """`oapl train` in a process group of its own, as a shell or GNU `timeout` starts it."""

    def __init__(self, recipe, name, *overrides):
        self.folder = recipe.parent / "runs" / name
        self._mark = f"OAPL_TEST_RUN={uuid.uuid4().hex}"
        key, _, value = self._mark.partition("=")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "oapl", "train", recipe, f"run.name={name}", *overrides],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, key: value},
            start_new_session=True,
        )

    def steps(self):
        return steps(self.folder)

    def wait_for_step(self, step, seconds=600):
        deadline = time.monotonic() + seconds
        while not any(s >= step for s in self.steps()):
            assert self._process.poll() is None, self._process.communicate()[0]
            assert time.monotonic() < deadline, f"no step {step} within {seconds} s"
            time.sleep(0.1)

    def kill(self, number, name=None):
        """Send a signal to the command, to one of the run's processes, or to the whole `group`."""
        pid = self._process.pid
        if name == "group":
            os.killpg(pid, number)
            return
        if name is not None:
            pid = json.loads((self.folder / "processes.json").read_text())[name]
        os.kill(pid, number)

    def left(self, seconds=30):
        """Commands of what the run has started and is still there after so long."""
        deadline = time.monotonic() + seconds
        while (found := marked(self._mark)) and time.monotonic() < deadline:
            time.sleep(0.2)
        return found

    def phase(self):
        return json.loads((self.folder / "status.json").read_text())["phase"]

    def end(self, seconds=600):
        output, _ = self._process.communicate(timeout=seconds)
        (self.folder / "output.log").write_text(output)
        return self._process.returncode, output

    def metrics(self, name):
        lines = map(json.loads, (self.folder / "metrics.jsonl").read_text().splitlines())
        return [line[name] for line in lines if name in line]


def marked(variable):
    """Commands of the processes that have a variable in their environment; zombies have none."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if variable.encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # gone meanwhile, or not ours to look at
            continue
    return found


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
    """One run, each group used twice, that is stopped by SIGINT, then by SIGTERM to its process
    group, as GNU `timeout` and a batch system send it, and in its last life loses its worker and
    its reward server."""
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

    live((5, signal.SIGINT, None))
    live((20, signal.SIGTERM, "group"))
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
    run, (first, second, last) = lives
    assert [life.exit_code for life in (first, second, last)] == [130, 143, 0], second.output
    assert first.last_step < second.last_step < last.last_step
    assert [life.phase for life in (first, second, last)] == ["stopped", "stopped", "done"]
    assert [life.left for life in (first, second, last)] == [[], [], []]
    for life in (first, second):
        assert f"step-{life.last_step}" in life.checkpoints
        assert "stopping after this step" in life.output
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
    assert run.left() == [], "nothing outlives a command that could not say goodbye"
    again = Run(recipe, "killed", *settings)
    code, output = again.end()
    assert code == 0, output
    assert again.steps() == list(range(1, 25))
    assert "resuming from" in output
    lags = again.metrics("replay/lag_max")
    assert lags[:4] == [0, 1, 2, 3], "the first period begins with its own version"
    assert all(1 <= first <= 2 for first in lags[4::4]), "the others with an earlier one"
    assert lags[4:] == [first + step for first in lags[4::4] for step in range(4)]
    assert max(again.metrics("weights/probe")) < 1.001


def test_two_ranks_go_on_after_the_death_of_one_or_fail_naming_it(recipe):
    two = ("learner.num_ranks=2", "learner.zero_stage=3", "tracking.store_groups=all")
    run = Run(recipe, "ranks", *two, "run.max_steps=14", "run.max_restarts=1")
    run.wait_for_step(6)
    run.kill(signal.SIGKILL, "trainer-1")
    code, output = run.end()
    assert code == 0, output
    assert "learner rank 1 of 2 died" in output
    assert "starting all processes again from step-" in output
    assert run.steps() == list(range(1, 15))
    assert sum(run.metrics("faults/learner_restarts")) == 1
    assert max(run.metrics("weights/probe")) < 1.001
    trained = read_rollouts(run.folder)
    assert len(trained) == 14 * 4 * 4
    assert len(set(trained)) == 14 * 4, "every draw was trained on once"

    # The deadline of a learner step is longer than the test may take.
    run = Run(recipe, "ranks", *two, "run.max_steps=400", "sync.timeout_s=7200")
    run.wait_for_step(18)
    run.kill(signal.SIGKILL, "trainer-0")
    code, output = run.end()
    assert code == 1, output
    assert "failed: RankError: learner rank 0 of 2 died" in output
    assert "Traceback" not in output


def read_rollouts(folder):
    """Prompt ids of the rollouts that the run kept, in the order of steps."""
    return [row["id"] for row in rollouts.read(folder)]


def test_a_second_engine_just_works(recipe):
    """And takes the weights by broadcast, with the first or in a round of its own. Both drain."""
    two = ("rollout.num_engines=2", "sync.transport=collective", "rollout.max_tokens=48")
    kept = ("replay.max_versions=2", "replay.surplus=1.0", "rollout.max_groups_in_flight=4")
    run = Run(recipe, "two", *two, *kept, "sync.in_flight=drain", "run.max_steps=16")
    code, output = run.end()
    assert code == 0, output
    assert run.steps() == list(range(1, 17))
    assert (run.folder / "logs" / "worker-1.0.log").is_file()
    for wasted in ("rollout/aborted_groups", "replay/cleared_groups", "replay/wasted_tokens"):
        assert not any(run.metrics(wasted)), wasted
    assert not any(run.metrics("rollout/aborted") + run.metrics("faults/cut_drains"))
    lags = run.metrics("replay/lag_max")
    assert lags[:4] == [0, 1, 2, 3]
    assert 4 <= max(lags) <= 7, "groups of the version before were trained on, none older"
    assert max(run.metrics("weights/probe")) < 1.001


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
    lines = (folder / "runs" / "python" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    rewards = [row["reward/mean"] for row in rows if "reward/mean" in row]
    assert rewards
    assert all(0 < reward < 1 for reward in rewards)

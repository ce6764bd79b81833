"""A whole run through the command line, in a process group of its own, and what it left.

`write_recipe` makes a tiny model and a hundred sums; `Run` starts `oapl train` on them.
"""

import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

from tests.support.makers import make_model
from tests.support.run_files import steps

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


def write_recipe(folder: Path) -> Path:
    """A recipe of twelve steps with model and data beside it, `sft.jsonl` to imitate; its path."""
    make_model(folder / "model")
    sums = [(f"{a}+{b}=", str(a + b)) for a in range(10) for b in range(10)]
    for name, key in (("sums", "answer"), ("sft", "response")):
        rows = [json.dumps({"prompt": question, key: answer}) for question, answer in sums]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(folder=folder))
    return path


class Run:
    """`oapl VERB` in a process group of its own, as a shell or GNU `timeout` starts it."""

    def __init__(self, recipe, name, *overrides, verb="train"):
        self.folder = recipe.parent / "runs" / name
        self.mark = f"OAPL_TEST_RUN={uuid.uuid4().hex}"
        key, _, value = self.mark.partition("=")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "oapl", verb, recipe, f"run.name={name}", *overrides],
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
        while (found := marked(self.mark)) and time.monotonic() < deadline:
            time.sleep(0.2)
        return found

    def phase(self):
        return json.loads((self.folder / "status.json").read_text())["phase"]

    def end(self, seconds=600):
        output, _ = self._process.communicate(timeout=seconds)
        if self.folder.is_dir():  # not where it was refused
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

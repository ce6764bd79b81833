"""The toy twin of a published recipe for a few steps, as the one cell of a sweep: one real start.

From an untrained model; `make recipes` runs every twin to its end, from one that has learned.
"""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.recipes import toys

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
TWIN = "deploy/recipes/perplexity_grpo_toy.toml"
STEPS = 3


def test_a_twin_runs_as_the_cell_of_a_sweep_which_does_it_once(tmp_path):
    made = toys.make(tmp_path / "toys")
    words = [
        *(f"run.dir={tmp_path}", "run.name=twin", f"run.max_steps={STEPS}"),
        *(f"model.path={made}/model", f"data.sources.0.path={made}/orz.jsonl"),
        f"eval.sources.0.path={made}/math500.jsonl",
        *("--case", "untrained", "learner.batch_size=16"),
    ]

    def sweep() -> str:
        command = [sys.executable, "-m", "oapl", "sweep", TWIN, *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert f"step {STEPS}/{STEPS}" in sweep()
    with (tmp_path / "twin-sweep" / "sweep.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["case"], row["outcome"], row["steps"]) == ("untrained", "done", str(STEPS))
    assert 0 <= float(row["final eval/math500/mean@8"]) < 0.5
    assert "cell 1 of 1, case=untrained: done before" in sweep()

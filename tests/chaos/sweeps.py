"""`make chaos`: a sweep of three real runs, of which one fails, is killed in the third and goes on.

    python -m tests.chaos.sweeps            two minutes on two cores

What is done is not done again, what failed is tried again and told, what was killed goes on from
its checkpoint with no line of metrics lost or written twice, and its run ends with the sweep.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.run_files import steps
from tests.support.whole_runs import write_recipe

SETTINGS = (
    *("run.name=mine", "run.max_steps=60", "objective.name=sft"),
    *("rollout.group_size=1", "sync.interval=10"),
)
RATES = ("1e-3", "1e30", "3e-3")
"""Of the cells; the second one's losses are not finite."""
PATIENCE_S = 600.0


def begin(work: Path) -> subprocess.Popen[str]:
    data, rates = f"data.sources.0.path={work}/sft.jsonl", f"optimizer.lr={','.join(RATES)}"
    words = ["sweep", f"{work}/recipe.toml", *SETTINGS, data, rates]
    command = [sys.executable, "-m", "oapl", *words]
    log = (work / "log").open("a+")
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True)


def killed(work: Path) -> None:
    """Kill the sweep in its third cell, once that has a checkpoint."""
    process, third = begin(work), work / "runs" / "mine-sweep" / f"lr-{RATES[2]}"
    began = time.monotonic()
    while max(steps(third), default=0) < 25:
        assert process.poll() is None, (work / "log").read_text()
        assert time.monotonic() - began < PATIENCE_S, (work / "log").read_text()
        time.sleep(0.02)
    process.kill()
    process.wait()
    made = max(steps(third))
    time.sleep(3.0)
    assert max(steps(third)) <= made + 1, "its run went on without it"
    print(f"killed at step {made} of the third cell")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="oapl-sweep-") as folder:
        work = Path(folder)
        write_recipe(work)
        killed(work)
        (work / "log").rename(work / "first.log")
        code = begin(work).wait(PATIENCE_S)
        said, sweep = (work / "log").read_text(), work / "runs" / "mine-sweep"
        print(said[said.index("mine-sweep: 3 cells") - 60 :])
        assert code == 1, said
        assert f"lr={RATES[0]}: done before" in said, said
        assert f"lr={RATES[1]}: failed: " in said, said
        assert f"resuming from {sweep}/lr-{RATES[2]}/checkpoints/step-" in said, said
        assert "Traceback" not in said, said
        assert steps(sweep / f"lr-{RATES[2]}") == list(range(1, 61))
        with (sweep / "sweep.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["outcome"] for row in rows] == ["done", "failed", "done"], rows
        assert rows[2]["steps"] == "60", rows
    return 0


if __name__ == "__main__":
    sys.exit(main())

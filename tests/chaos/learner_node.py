"""`make chaos`: the node of the learner is killed while a run trains, and comes back.

    python -m tests.chaos.learner_node            four minutes on two cores

A Ray cluster of three nodes on this machine: its head, one for engines, and one that alone has a
place for the learner. That is ended with SIGKILL and started again later; the run must go back to
its last checkpoint by itself, wait for the node, and make all its steps, each once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.remains import below
from tests.support.clusters import Cluster, make_project
from tests.support.run_files import steps

STEPS, LOST_AT = 60, 9
AWAY_S = 20.0
LIMIT_S = 1000.0
PLACE = "far"
"""A resource that the learner's node alone has."""


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="oapl-node-", dir="/tmp") as folder, Cluster() as up:
        project = make_project(Path(folder) / "project")
        run = project / "runs" / "node"
        up.start(f"--address={up.address}", resources={PLACE: 1})
        there = (f"cluster.address={up.address}", f"cluster.learner_resources={{{PLACE}=1.0}}")
        often = ("sync.interval=4", "checkpoint.every_syncs=1", "restarts.rank.max_restarts=3")
        words = ("run.name=node", f"run.max_steps={STEPS}", "data.epochs=0", *there, *often)
        command = up.oapl(project, "train", "recipe.toml", *words)
        try:
            command.wait_for_step(run, LOST_AT)
            kill(up.nodes[-1].pid)
            at = max(steps(run))
            time.sleep(AWAY_S)
            assert command.process.poll() is None, command.process.communicate()[0]
            up.start(f"--address={up.address}", resources={PLACE: 1})
            code, output = command.end(LIMIT_S)
        finally:
            command.process.kill()
        made = steps(run)
    assert code == 0, output
    told = [line for line in output.splitlines() if "starting all processes again from" in line]
    assert told, output
    assert "learner rank 0 of 1 died" in told[0], told
    assert "Traceback" not in output, output
    assert made == [*range(1, STEPS + 1)], made
    print(f"the learner's node was killed after step {at}; each step once; {told[0]}")
    return 0


def kill(pid: int) -> None:
    """End a node, and all that runs on it, as a machine ends."""
    for one in (*below(pid), pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())

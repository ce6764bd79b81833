"""`make chaos`: the prompt queue of an `oapl generate` is killed in the middle; it goes on alone.

    python -m tests.chaos.generations            two minutes on two cores

The command ends with exit code 0, and each draw of the data is in its shards once.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from oapl import groups_file
from tests.support.whole_runs import Run, write_recipe

PASSES, QUESTIONS = 8, 100
LIMIT_S = 900.0
LINE = "starting all processes again, 2 restarts left (restarts.replay.max_restarts)"


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="oapl-generations-") as folder:
        recipe = write_recipe(Path(folder))
        # A shard whenever 0.6 s have passed: some are whole when the queue is killed.
        asked = (f"data.epochs={PASSES}", "checkpoint.max_minutes=0.01")
        run = Run(recipe, "made", *asked, verb="generate")
        groups, deadline = run.folder / "groups", time.monotonic() + LIMIT_S
        while not list(groups.glob("groups-*.parquet")):
            assert time.monotonic() < deadline, f"no shard within {LIMIT_S:g} s"
            time.sleep(0.02)
        run.kill(signal.SIGKILL, "replay")
        there = len(set(groups_file.ids(groups)))
        assert there < PASSES * QUESTIONS, "it was killed in the middle"
        code, output = run.end(LIMIT_S)
        assert code == 0, output
        told = [line for line in output.splitlines() if LINE in line]
        assert len(told) == 1, output
        assert "Traceback" not in output, output
        found = Counter(group.prompt.id for group in groups_file.read(groups))
        every = {f"sums:{row}@{number}" for row in range(QUESTIONS) for number in range(PASSES)}
        assert found == Counter(every), found.most_common(3)
        assert not (left := run.left(60)), left
    print(f"killed with {there} of {len(every)} groups there; all are there once; {told[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

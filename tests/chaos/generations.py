"""`make chaos`: something is done to an `oapl generate`: no draw is lost, or there twice.

    python -m tests.chaos.generations [CASE]         a minute or two on two cores; queue

Cases: queue, worker, reward, twice, disk. Where the command ends, the same one goes on.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from oapl import groups_file
from tests.support.disks import file_system
from tests.support.whole_runs import Run, write_recipe

PASSES, QUESTIONS = 8, 100
LIMIT_S = 900.0
DISK_BYTES = 64 * 2**20
ASKED = (f"data.epochs={PASSES}", "checkpoint.max_minutes=0.01")
"""A shard whenever 0.6 s have passed: some are whole when it is struck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is done, and what comes of it.

    Attributes:
        act: Does it to a command that has stored some groups.
        reads: In the one line that tells of it.
        code: The command's exit code; of another than 0 the same command goes on.
        small_disk: The run folder is a file system of its own.
    """

    act: Callable[[Run], None]
    reads: str
    code: int = 0
    small_disk: bool = False


def kill(name: str) -> Callable[[Run], None]:
    """Kill one of the run's processes."""
    return lambda run: run.kill(signal.SIGKILL, name)


def ask_twice(run: Run) -> None:
    """Ask it to stop, and at once again."""
    run.kill(signal.SIGTERM)
    time.sleep(0.1)
    run.kill(signal.SIGTERM)


def fill(run: Run) -> None:
    """Leave no room on its disk."""
    with (run.folder / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"0" * 4096)


AGAIN = "starting all processes again, 2 restarts left (restarts.replay.max_restarts)"
FAULTS = {
    "queue": Fault(act=kill("replay"), reads=AGAIN),
    "worker": Fault(act=kill("worker-0.0"), reads="worker 0.0 died ("),
    "reward": Fault(act=kill("reward-0"), reads="reward-0 is down ("),
    "twice": Fault(act=ask_twice, reads="SIGTERM again: ending at once", code=143),
    "disk": Fault(
        act=fill, reads="failed: StorageError: no space left in", code=1, small_disk=True
    ),
}


def main(case: str) -> int:
    fault = FAULTS[case]
    with tempfile.TemporaryDirectory(prefix="oapl-generations-") as folder:
        recipe = write_recipe(Path(folder))
        place = Path(folder) / "runs" / "made"
        with file_system(place, DISK_BYTES) if fault.small_disk else contextlib.nullcontext():
            there, told = _struck(fault, recipe)
    every = PASSES * QUESTIONS
    print(f"struck with {there} of {every} groups stored; all are there once; {told}")
    return 0


def _struck(fault: Fault, recipe: Path) -> tuple[int, str]:
    """Do it; groups that were stored then, and the line that told of it."""
    run = Run(recipe, "made", *ASKED, verb="generate")
    groups, deadline = run.folder / "groups", time.monotonic() + LIMIT_S
    while not list(groups.glob("groups-*.parquet")):
        assert time.monotonic() < deadline, f"no shard within {LIMIT_S:g} s"
        time.sleep(0.02)
    fault.act(run)
    there = len(set(groups_file.ids(groups)))
    assert there < PASSES * QUESTIONS, "it was struck in the middle"
    code, output = run.end(LIMIT_S)
    assert code == fault.code, output
    assert "Traceback" not in output, output
    lines = [line for line in output.splitlines() if fault.reads in line]
    told = [
        *{line[line.index(fault.reads) :] for line in lines}
    ]  # a failure is told with its time, too
    assert len(told) == 1, output
    assert not (left := run.left(60)), left
    if code:
        (run.folder / "filler").unlink(missing_ok=True)
        code, output = Run(recipe, "made", *ASKED, verb="generate").end(LIMIT_S)
        assert code == 0, output
    found = Counter(group.prompt.id for group in groups_file.read(groups))
    every = {f"sums:{row}@{number}" for row in range(QUESTIONS) for number in range(PASSES)}
    assert found == Counter(every), found.most_common(3)
    return there, told[0]


if __name__ == "__main__":
    sys.exit(main(*(sys.argv[1:] or ["queue"])))

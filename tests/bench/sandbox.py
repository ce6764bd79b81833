"""(i) Programs per second in the sandbox, beside as many started bare: `python -I -S`.

    python -m tests.bench.sandbox

The same small programs, read from standard input and printed, at the same concurrency: one sandbox
per core, beside as many callers that start an interpreter each time, with no protection at all.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from reward_server.sandbox.levels import LAYERS_OF_LEVEL
from reward_server.sandbox.measure import strongest
from reward_server.sandbox.runner import Sandbox
from tests.bench import table

CONCURRENCY, ROUNDS, NUM_PROGRAMS = 2, 3, 300
PROGRAMS = (
    "a, b = map(int, input().split())\nprint(a + b)\n",
    "import sys\nprint(sum(map(int, sys.stdin.read().split())))\n",
    "from collections import Counter\nprint(sum(Counter(map(int, input().split())).elements()))\n",
    "import heapq, math\nx = list(map(int, input().split()))\nheapq.heapify(x)\nprint(sum(x))\n",
)
STDIN, EXPECTED = b"3 4\n", b"7\n"


def measure(model: Path, name: str) -> list[table.Row]:
    level = strongest().level
    ours, theirs, parts = rates(level)
    return [
        table.Row(
            what=f"(i) programs in the sandbox ({level}) over bare interpreters",
            model="python",
            ours=ours,
            theirs=theirs,
            unit="programs/s",
            ratio=ours / theirs,
            bar=2.0,
            parts=parts,
        )
    ]


def rates(level: str) -> tuple[float, float, dict[str, float]]:
    """Best rates of a few rounds, in turn: sandboxed and bare; and what else there is to say."""
    boxes = [Sandbox(LAYERS_OF_LEVEL[level]) for _ in range(CONCURRENCY)]
    started = time.monotonic()
    for box in boxes:
        box.start()
    start_s = (time.monotonic() - started) / CONCURRENCY
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))

    def boxed(box: Sandbox, source: str) -> bytes:
        deadline = time.monotonic() + 10
        return box.script(source, STDIN, deadline=deadline, max_output=1000).output

    def bare(_: Sandbox, source: str) -> bytes:
        command = [python, "-I", "-S", "-c", source]
        return subprocess.run(command, input=STDIN, capture_output=True, timeout=10).stdout

    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(_rate(boxed, boxes))
        theirs.append(_rate(bare, boxes))
    parts = {"start ms": 1000 * start_s, "MiB of a warm zygote": _own_mib(boxes[0])}
    for box in boxes:
        box.close()
    return max(ours), max(theirs), parts


def _rate(act: Callable[[Sandbox, str], bytes], boxes: Sequence[Sandbox]) -> float:
    """Programs per second, over all callers."""
    wrong: list[bytes] = []

    def caller(box: Sandbox) -> None:
        for index in range(NUM_PROGRAMS):
            output = act(box, PROGRAMS[index % len(PROGRAMS)])
            if output != EXPECTED:
                wrong.append(output)

    callers = [threading.Thread(target=caller, args=(box,)) for box in boxes]
    started = time.monotonic()
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    seconds = time.monotonic() - started
    assert not wrong, wrong[:3]
    return NUM_PROGRAMS * len(boxes) / seconds


def _own_mib(box: Sandbox) -> float:
    """Proportional memory of the jail: bubblewrap's processes and the zygote."""
    pids, total = [box.pid], 0
    while pids:
        pid = pids.pop()
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        pids += [int(child) for child in children]
    return total / 1024


if __name__ == "__main__":
    table.main(measure)

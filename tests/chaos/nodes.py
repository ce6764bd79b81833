"""`make chaos`: a rollout node is killed while a run trains, and comes back.

One Ray head and two rollout nodes on this machine, one engine of its own speed on each; engines and
trainer only wait. One node is ended with SIGKILL and started again later. Training must go on
without it, and use it again; exit code 1 when one of these fails.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from oapl.config import RunConfig
from oapl.records import StepMetrics
from tests.overlap.run import run

STEP_S = 0.1
LOST_AT, BACK_AT, STEPS = 30, 60, 120
"""Learner steps at which the node is killed and started again, and of the whole run."""
DEADLINE_S = 120.0


class Watcher:
    """A tracker that notes when each step was made, and lets others wait for one."""

    def __init__(self) -> None:
        self.times: dict[int, float] = {0: time.monotonic()}
        self.rows: dict[int, dict[str, float]] = {}
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def log(self, metrics: StepMetrics) -> None:
        self.times[metrics.step] = time.monotonic()
        self.rows.setdefault(metrics.step, {}).update(metrics.values)
        task = asyncio.get_running_loop().create_task(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def reach(self, step: int) -> None:
        async with asyncio.timeout(DEADLINE_S), self._changed:
            await self._changed.wait_for(lambda: max(self.times) >= step)

    def rollouts(self, rows: Sequence[Mapping[str, Any]]) -> None: ...

    def phase(self, name: str) -> None: ...

    def alert(self, title: str, text: str) -> None: ...

    def saved(self, checkpoint: Path, step: int) -> None: ...
    def made(self, groups: int, total: int) -> None: ...

    def message(self, text: str) -> None:
        print(f"step {max(self.times):3}: {text}", flush=True)

    def close(self) -> None:
        pass

    def longest_pause(self) -> float:
        times = [self.times[step] for step in sorted(self.times)][1:]
        return max(later - earlier for earlier, later in itertools.pairwise(times))


async def lose_a_node(cluster: Any, watcher: Watcher) -> list[str]:
    """Run, kill, start again; what was found wrong."""
    config = RunConfig(
        run={"name": "nodes", "dir": tempfile.mkdtemp(prefix="oapl-chaos-"), "max_steps": STEPS},
        rollout={
            "group_size": 1,
            "num_engines": 2,
            "max_groups_in_flight": 16,
            "engine_options": {
                "step_s": STEP_S,
                "mean": 1.0,
                "slots": 16,
                "speeds": {"0": 0.9, "1": 1.5},
            },
        },
        learner={"batch_size": 16},
        replay={"surplus": 0.1},
        sync={"interval": 10, "max_lead": 5, "timeout_s": 60},
        restarts={"worker": {"max_restarts": 2}},
    )
    config.folder.mkdir()
    import ray

    async def chaos() -> None:
        await watcher.reach(LOST_AT)
        node = nodes[1]
        watcher.message("killing a rollout node")
        await asyncio.to_thread(cluster.remove_node, node, allow_graceful=False)
        await watcher.reach(BACK_AT)
        watcher.message("starting it again")
        add_node(cluster)

    nodes = [add_node(cluster) for _ in range(2)]
    trouble = asyncio.create_task(chaos())
    counts = await asyncio.wait_for(
        run(
            ray,
            config,
            watcher,
            asyncio.Event(),
            worker_options={"num_cpus": 0, "resources": {"rollout": 1}},
            start_s=3.0,
        ),
        DEADLINE_S,
    )
    await trouble
    return check(watcher, counts)


def add_node(cluster: Any) -> Any:
    """Blocks for some seconds: Ray registers signal handlers here, which is the main thread's."""
    return cluster.add_node(num_cpus=1, resources={"rollout": 1}, object_store_memory=80 * 2**20)


def check(watcher: Watcher, counts: dict[str, int]) -> list[str]:
    """Sentences about what should not be."""
    rows = watcher.rows
    before, without, after = (
        [at_work((rows[step] for step in steps), worker) for worker in (0, 1)]
        for steps in (range(10, LOST_AT), range(LOST_AT + 10, BACK_AT), range(STEPS - 20, STEPS))
    )
    pause = watcher.longest_pause()
    for name, slots in (("before", before), ("without", without), ("after", after)):
        print(f"slots at work {name}: {slots[0]:.1f} and {slots[1]:.1f} of 16")
    print(f"longest time between two learner steps: {pause:.1f} s; {counts}")
    wrong = []
    if counts["trained"] != 16 * STEPS:
        wrong.append(f"{counts['trained']} groups were trained, not {16 * STEPS}")
    if counts["failed"]:
        wrong.append(f"{counts['failed']} draws failed with the node")
    if pause > 10:
        wrong.append(f"training stood still for {pause:.1f} s")
    if not any(row.get("faults/worker_restarts") for row in rows.values()):
        wrong.append("no worker was started again")
    lost = min((0, 1), key=lambda worker: without[worker])  # either may be on the killed node
    if without[lost] > 0.1 or before[lost] < 1:
        wrong.append("no worker was lost with the node")
    if after[lost] < 0.5 * before[lost]:
        wrong.append("the returned node is not used as before")
    return wrong


def at_work(rows: Iterable[dict[str, float]], worker: int) -> float:
    """Slots of a worker's engine that were busy, on average."""
    rows = list(rows)
    busy_s = sum(row.get(f"engine/slot_s/{worker}", 0.0) for row in rows)
    return busy_s / sum(row["time/step_s"] for row in rows)


def main() -> int:
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 2,
            "include_dashboard": False,
            "object_store_memory": 80 * 2**20,
        },
    )
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        watcher = Watcher()
        wrong = asyncio.run(lose_a_node(cluster, watcher))
    finally:
        ray.shutdown()
        cluster.shutdown()
    print("\n".join(wrong) or "training went on, and the node is used again")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""(g) Groups per second through the replay buffer, over what a thousand GPUs would make.

    python -m tests.bench.replay_rate

One replay buffer in a Ray actor; 64 producers, in two more actors, ask for a draw and put a group
of real size; one consumer takes and closes them. What 1,000 GPUs make is an estimate: a 7B model
at 2,500 tokens/s a GPU, G = 8: 78 groups/s with responses of 4,000 tokens, 20 with 16,000.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from deploy.processes.handles import AsyncHost, RayHandle
from deploy.processes.ray_cluster import start_local_ray
from oapl.config import RunConfig
from oapl.interfaces import Replay
from oapl.records import WorkerId
from tests.bench import table
from tests.support.makers import make_group

GROUP_SIZE = 8
BARS = {4000: 6.0, 16_000: 1.5}
"""By length of a response in tokens."""
GPUS, TOKENS_PER_S = 1000, 2500
HOSTS, PRODUCERS, SECONDS = 2, 64, 15.0


def measure(model: Path, name: str) -> list[table.Row]:
    ray = start_local_ray(num_cpus=2)
    return [_row(ray, tokens) for tokens in BARS]


def _row(ray: Any, tokens: int) -> table.Row:
    rate, estimate = asyncio.run(_rate(ray, tokens)), GPUS * TOKENS_PER_S / (GROUP_SIZE * tokens)
    return table.Row(
        what="(g) replay groups over what 1,000 GPUs make",
        model=f"{GROUP_SIZE} x {tokens} tokens",
        ours=rate,
        theirs=estimate,
        unit="groups/s",
        ratio=rate / estimate,
        bar=BARS[tokens],
    )


async def _rate(ray: Any, tokens: int) -> float:
    config = RunConfig(
        run={"max_steps": 10**6},
        rollout={"group_size": GROUP_SIZE},
        learner={"batch_size": 64 * GROUP_SIZE},
        sync={"interval": 10**6},
        replay={"capacity": 1024},
    )
    replay = _start(ray, config, "tests.support.sleepers:build_replay", "replay")
    await replay.advance(0)
    build = "tests.bench.replay_rate:build_producers"
    hosts = [
        _start(ray, config, build, f"hosts-{i}", replay=replay, tokens=tokens) for i in range(HOSTS)
    ]
    runs = [asyncio.ensure_future(host.run(index)) for index, host in enumerate(hosts)]
    started, step, count = time.monotonic(), 0, 0
    while (now := time.monotonic()) < started + SECONDS:
        groups = await replay.take(config.groups_per_step, 60.0)
        step += 1
        await replay.trained([group.id for group in groups], step)
        count += len(groups)
        if step == 1:
            started, count = time.monotonic(), 0  # all are up
    rate = count / (now - started)
    await replay.finish()
    await asyncio.gather(*runs)
    return rate


def _start(ray: Any, config: RunConfig, build: str, name: str, **handles: Any) -> Any:
    actor = ray.remote(AsyncHost).options(num_cpus=0.1)
    log = str(Path(os.environ["OAPL_BENCH_FOLDER"]) / name)
    return RayHandle(actor.remote(build, config, log, handles))


class Producers:
    """The replay buffer's workers, without engines: every draw becomes the same rollouts."""

    def __init__(self, replay: Replay, tokens: int) -> None:
        self._replay = replay
        self._scored = make_group([tokens] * GROUP_SIZE, prompt_length=200)

    async def run(self, index: int) -> None:
        share = PRODUCERS // HOSTS
        await asyncio.gather(*(self._produce(index * share + i) for i in range(share)))

    async def _produce(self, number: int) -> None:
        worker = WorkerId(index=number, incarnation=0)
        while (prompts := await self._replay.next_prompts(worker, 0, 1, 5.0)) is not None:
            for prompt in prompts:
                group = replace(self._scored.group, prompt=prompt)
                await self._replay.put(worker, [replace(self._scored, group=group)])


def build_producers(config: RunConfig, *, replay: Replay, tokens: int) -> Producers:
    return Producers(replay, tokens)


if __name__ == "__main__":
    table.main(measure)

"""(e) Rewards per second of the pool, beside as many plain processes that run the same verifier.

    python -m tests.bench.rewards

The pool is a reward server in a Ray actor with two workers, fed by 16 callers as rollout workers
feed it; plain is two processes that call `verify` on their half. Answers are such as
the exact layer decides in 0.03 ms (easy: the ratio is that of any transport to none), and such as
math-verify decides in 4 ms (hard: roots and fractions).
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from deploy.processes import connect, start_local_ray
from oapl.config import RunConfig
from oapl.records import Prompt, Rollout
from reward_server.verifiers import math
from tests.bench import table

WORKERS, CALLERS, ROUNDS = 2, 16, 3
CALL = 10
"""Rollouts a call: what a worker of the quickstart sends."""
ITEMS = {"easy": 8000, "hard": 1200}
GOLDS = {
    "easy": ("{n}", "{n}"),
    "hard": (r"\frac{{{n}}}{{7}}+\sqrt{{{n}}}", r"\sqrt{{{n}}}+\frac{{{n}}}{{7}}"),
}

Item = tuple[Prompt, Rollout]


def measure(model: Path, name: str) -> list[table.Row]:
    config = RunConfig(
        run={"dir": os.environ["OAPL_BENCH_FOLDER"], "name": "rewards"},
        reward={"workers": WORKERS, "deadline_s": 20.0},
    )
    config.folder.mkdir()
    start_local_ray(num_cpus=2)
    rows = []
    for kind in ITEMS:
        pool, plain = asyncio.run(both(config, items(kind)))
        rows.append(
            table.Row(
                what=f"(e) rewards of the pool over plain processes, {kind} answers",
                model="math",
                ours=pool,
                theirs=plain,
                unit="rewards/s",
                ratio=pool / plain,
                bar=0.90 if kind == "hard" else None,
            )
        )
    return rows


async def both(config: RunConfig, work: Sequence[Item]) -> tuple[float, float]:
    """Best rates of a few rounds, in turn."""
    processes = connect(config)
    reward = (await processes.start("reward", "reward-0")).handle
    await _through_pool(reward, work[: CALLERS * CALL])
    pool, plain = [], []
    for _ in range(ROUNDS):
        started = time.monotonic()
        await _through_pool(reward, work)
        pool.append(len(work) / (time.monotonic() - started))
        plain.append(len(work) / await asyncio.to_thread(_through_processes, work))
    await processes.close()
    return max(pool), max(plain)


async def _through_pool(reward, work: Sequence[Item]) -> None:
    calls = [work[start : start + CALL] for start in range(0, len(work), CALL)]

    async def caller(index: int) -> None:
        for call in calls[index::CALLERS]:
            for judgement in await reward.score(call):
                assert judgement.reward == 1.0, judgement

    await asyncio.gather(*(caller(index) for index in range(CALLERS)))


def _through_processes(work: Sequence[Item]) -> float:
    """Seconds from the moment at which all are warm."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(WORKERS + 1)
    workers = [
        context.Process(target=_judge, args=(work[index::WORKERS], barrier))
        for index in range(WORKERS)
    ]
    for process in workers:
        process.start()
    barrier.wait(60)
    started = time.monotonic()
    barrier.wait(600)
    seconds = time.monotonic() - started
    for process in workers:
        process.join(60)
    return seconds


def _judge(work: Sequence[Item], barrier) -> None:
    verifier = math.build({})
    for prompt, rollout in work[:4]:
        verifier.verify(prompt, rollout)
    barrier.wait(60)
    for prompt, rollout in work:
        assert verifier.verify(prompt, rollout).reward == 1.0
    barrier.wait(600)


def items(kind: str) -> list[Item]:
    gold, answer = GOLDS[kind]
    return [
        _item(index, gold.format(n=index), answer.format(n=index)) for index in range(ITEMS[kind])
    ]


def _item(index: int, gold: str, answer: str) -> Item:
    prompt = Prompt(
        id=f"bench:{index}@0",
        text="How much is it?",
        token_ids=np.arange(8, dtype=np.int32),
        verifiers={"math": 1.0},
        reference={"answer": gold},
        source="bench",
    )
    rollout = Rollout(
        token_ids=np.arange(64, dtype=np.int32),
        inference_logprobs=np.zeros(64, np.float32),
        finish_reason="stop",
        text=f"It follows that \\boxed{{{answer}}}",
        first_version=0,
        last_version=0,
    )
    return prompt, rollout


if __name__ == "__main__":
    table.main(measure)

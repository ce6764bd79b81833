"""An engine and a trainer that only wait, to see what the loops and Ray add to given durations.

The engine ends one batch of groups every `BATCH_S` and the trainer takes `BATCH_S` for a step, so a
run that overlaps them perfectly lasts as long as either alone.
"""

from __future__ import annotations

import asyncio

import numpy as np

from oapl import loops
from oapl.config import RunConfig
from oapl.interfaces import Replay
from oapl.records import (
    Credit,
    Judgement,
    Metrics,
    Prompt,
    Rollout,
    Sampling,
    ScoredGroup,
    State,
    Verdict,
    WorkerId,
)
from oapl.replay import ReplayBuffer

BATCH_S = 0.25


class CountingSource:
    """Endless prompts `p0, p1, ...`."""

    def __init__(self) -> None:
        self._next = 0

    def next(self) -> Prompt:
        self._next += 1
        return Prompt(
            id=f"p{self._next}",
            text="",
            token_ids=np.array([1], np.int32),
            verifiers={},
            reference={},
            source="count",
        )

    def state(self) -> State:
        return {"next": self._next}

    def restore(self, state: State) -> None:
        self._next = state["next"]


class SleepingEngine:
    """Every rollout takes `BATCH_S`; a batch's rollouts fit side by side."""

    def __init__(self, slots: int) -> None:
        self.version = -1
        self._slots = asyncio.Semaphore(slots)

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Rollout:
        async with self._slots:
            version = self.version
            await asyncio.sleep(BATCH_S)
        return Rollout(
            token_ids=np.array([2], np.int32),
            inference_logprobs=np.zeros(1, np.float32),
            finish_reason="stop",
            text="",
            first_version=version,
            last_version=version,
        )


class YesScorer:
    async def score(self, tasks: list[tuple[Prompt, Rollout]]) -> list[Judgement]:
        verdict = {"yes": Verdict(kind="accepted", reward=1.0)}
        return [Judgement(reward=1.0, verdicts=verdict) for _ in tasks]


class SleepingWorker:
    def __init__(self, config: RunConfig, replay: Replay) -> None:
        self._config = config
        self._replay = replay
        self._engine = SleepingEngine(config.learner.batch_size)
        self._stop = asyncio.Event()
        self._loaded = asyncio.Event()

    async def load(self, version: int) -> None:
        self._engine.version = version
        self._loaded.set()

    async def run(self) -> None:
        while not self._stop.is_set():
            await self._loaded.wait()
            self._loaded.clear()
            await loops.collect(
                WorkerId(index=0),
                engine=self._engine,  # type: ignore[arg-type]
                scorer=YesScorer(),  # type: ignore[arg-type]
                replay=self._replay,
                sampling=Sampling(),
                group_size=self._config.rollout.group_size,
                max_groups_in_flight=2 * self._config.groups_per_step,
                stop=self._stop,
            )

    async def stop(self) -> None:
        self._stop.set()
        self._loaded.set()


class SleepingTrainer:
    async def update(self, step: int) -> Metrics:
        await asyncio.sleep(BATCH_S)
        return {}


def build_worker(config: RunConfig, *, replay: Replay) -> SleepingWorker:
    return SleepingWorker(config, replay)


def build_trainer(config: RunConfig) -> SleepingTrainer:
    return SleepingTrainer()


def keep(group: ScoredGroup) -> Credit:
    return Credit(values=np.zeros(len(group.rewards), np.float32))


def build_replay(config: RunConfig) -> ReplayBuffer:
    return ReplayBuffer(
        CountingSource(),
        keep,
        groups_per_step=config.groups_per_step,
        interval=config.sync.interval,
        max_steps=config.run.max_steps,
        capacity=config.replay.capacity,
        group_size=config.rollout.group_size,
    )

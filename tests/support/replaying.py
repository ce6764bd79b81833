"""A ledger with a source that counts, and groups for it: what the tests of replay drive."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from oapl.records import (
    Credit,
    Fate,
    Group,
    Prompt,
    Rollout,
    Sampling,
    ScoredGroup,
    State,
    WorkerId,
)
from oapl.replay.buffer import ReplayBuffer
from oapl.replay.ledger import Ledger
from oapl.replay.periods import PeriodNeeds

ANN, BOB = WorkerId(index=0), WorkerId(index=1)
G = 2


class Counting:
    """A prompt source that counts: `p:0`, `p:1`, ...; exhausted after `size`."""

    def __init__(self, size: int | None = None) -> None:
        self.size, self.cursor = size, 0

    def next(self) -> Prompt | None:
        if self.cursor == self.size:
            return None
        self.cursor += 1
        return Prompt(
            id=f"p:{self.cursor - 1}",
            text="",
            token_ids=np.array([1], np.int32),
            verifiers={},
            reference={},
            source="p",
        )

    def state(self) -> State:
        return {"cursor": self.cursor}

    def restore(self, state: State) -> None:
        self.cursor = state["cursor"]


def rollout(version: int, length: int = 3, finish_reason: str = "stop") -> Rollout:
    return Rollout(
        token_ids=np.arange(length, dtype=np.int32),
        inference_logprobs=np.zeros(length, np.float32),
        finish_reason=finish_reason,  # type: ignore[arg-type]
        text="",
        first_version=version,
        last_version=version,
    )


def scored(
    prompt: Prompt, version: int = 0, rewards: tuple[float, ...] = (0.0, 1.0), **options: object
) -> ScoredGroup:
    rollouts = tuple(rollout(version, **options) for _ in rewards)  # type: ignore[arg-type]
    group = Group(prompt=prompt, rollouts=rollouts, version=version, sampling=Sampling())
    return ScoredGroup(
        group=group, rewards=np.array(rewards, np.float32), verdicts=tuple({} for _ in rewards)
    )


def keep_all(group: ScoredGroup) -> Credit:
    mean = float(group.rewards.mean())
    return Credit(values=group.rewards - mean, metrics={"test/value": mean, "test/spread_*": mean})


def drop_uniform(group: ScoredGroup) -> Credit:
    uniform = float(np.ptp(group.rewards)) == 0
    return Credit(values=group.rewards, dropped="uniform" if uniform else None)


PERIODS = {
    "groups_per_step": 2,
    "interval": 3,
    "max_steps": 9,
    "capacity": 100,
    "group_size": G,
    "surplus": 0.0,
    "max_deaths": 3,
}


def needs(**changes: Any) -> PeriodNeeds:
    return PeriodNeeds(**(PERIODS | changes))


def ledger(
    size: int | None = None,
    credit: Callable[[ScoredGroup], Credit] = keep_all,
    fates: list[Fate] | None = None,
    seed: int = 0,
    **periods: Any,
) -> Ledger:
    on_fate = None if fates is None else fates.append
    return Ledger(Counting(size), credit, needs(**periods), on_fate, seed)


def buffer(size: int | None = None, **periods: Any) -> ReplayBuffer:
    return ReplayBuffer(Counting(size), keep_all, needs(**periods))


def ids(things: object) -> list[str]:
    return [thing.id for thing in things]  # type: ignore[attr-defined]


def fill(rules: Ledger) -> list[str]:
    """Generate all that is needed now."""
    rewards = tuple(float(index % 2) for index in range(rules.periods.group_size))
    prompts = rules.draw(ANN, rules.version, 10**6)
    for prompt in prompts:
        assert rules.put(ANN, scored(prompt, rules.version, rewards)) == "kept"
    return ids(prompts)


def saved(rules: Ledger, seed: int = 0, **changes: Any) -> Ledger:
    """Another ledger that goes on from a snapshot, with other periods where so asked."""
    again = Ledger(Counting(), keep_all, replace(rules.periods, **changes), seed=seed)
    again.restore(pickle.loads(pickle.dumps(rules.snapshot())))
    return again


def train(rules: Ledger, step: int) -> None:
    """One learner step: generate what is missing, take, train."""
    fill(rules)
    groups = rules.take(rules.periods.groups_per_step)
    assert groups
    rules.trained(ids(groups), step)

"""The line of metrics of a learner step, from the wait for its batch until it is written.

Invariants: what every owner counted is collected once a step; what no step will report is in the
line that closes the run, or the attempt.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Any

from learner.books import Books
from learner.publication import EVALUATION_WAIT, Publications
from learner.scores import Scores
from learner.surroundings import Surroundings
from oapl.config import RunConfig
from oapl.records import CreditedGroup, Metrics, ScoredGroup
from oapl.remote.waiting import both

STATES_OF_ENGINES = ("engine/busy_s", "engine/idle_s")
"""Counters that are told as `seconds/engines/STATE` and as `idle/engines`."""
WAIT = "time/wait_for_batch_s"


class Line:
    """Makes up one line after the other.

    Args:
        config: The run's.
        books: Close each of them.
        around: Whom to ask for counters.
        publications, scores: Have counters too.
    """

    def __init__(
        self,
        config: RunConfig,
        books: Books,
        around: Surroundings,
        publications: Publications,
        scores: Scores,
    ) -> None:
        self._num_collecting = config.num_collecting
        self._books = books
        self._replay = around.replay
        self._engines = around.engines
        self._rewards = around.rewards
        self._publications = publications
        self._scores = scores
        self._values: Metrics = {}
        self._late: Metrics = {}  # counters that no step will report
        self._since = time.monotonic()
        self._counting: asyncio.Task[None] | None = None

    def note(self, metrics: Metrics) -> None:
        """Add metrics to the line that is written next."""
        self._values |= metrics

    def has_batch(self) -> float:
        """Note that the step's batch is there; returns the seconds that it was awaited."""
        return self._values.setdefault(WAIT, time.monotonic() - self._since)

    def trained_on(self, groups: Sequence[CreditedGroup]) -> None:
        """Note the mean reward of what the step was made of, where it was judged."""
        rewards = [reward for group in groups for reward in _rewards(group.scored)]
        if rewards:
            self._values["reward/trained_mean"] = sum(rewards) / len(rewards)

    def count_engines(self, waited: float, took: float, storing: Awaitable[None]) -> None:
        """Ask the engines for their counters, beside the closing of the leases.

        Args:
            waited: Seconds that the learner had waited for the batch.
            took: And computed.
            storing: Awaited with them: what else is done of the step meanwhile.
        """
        counting = self._count_engines(waited, took)
        self._counting = asyncio.create_task(_together(counting, storing))

    async def count_late(self) -> None:
        """Keep the engines' counters for the line that closes the run."""
        if self._engines is not None:
            self._late = await self._engines.stats()

    async def completed(self, total: int, first: int) -> Metrics:
        """Collect what is still to come, close the line, and begin the next.

        Args:
            total: Learner steps of the run.
            first: Of them, those before this stage.
        """
        replay, rewards = await asyncio.gather(self._replay.stats(), self._reward_stats())
        if self._counting is not None:
            await self._counting
            self._counting = None
        values = {**self._values, **self._publications.stats(), **replay, **rewards}
        if "weights/version" in values:
            values["weights/version"] += first
        now = time.monotonic()
        step_s, self._since = now - self._since, now
        values["time/step_s"] = step_s
        values["idle/learner"] = min(values[WAIT] / step_s, 1.0)
        if self._scores.are_beside:
            values.setdefault(EVALUATION_WAIT, 0.0)
        self._books.close(values, total, now)
        _derive_engine_rates(values, self._num_collecting, step_s)
        self._values = {}
        return values

    def last(self, total: int) -> Metrics:
        """Where the time went since the last line, however the run ends."""
        values = self._late
        self._books.close(values, total, time.monotonic())
        for name in STATES_OF_ENGINES:
            values.pop(name, None)
        return values

    async def close(self) -> None:
        """Leave nothing running."""
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.gather(self._counting, return_exceptions=True)

    async def _reward_stats(self) -> Metrics:
        return {} if self._rewards is None else await self._rewards.stats()

    async def _count_engines(self, waited: float, took: float) -> None:
        """The engines' counters; what they were busy beyond the wait is, at least, the overlap."""
        aside = await self._scores.stats()
        counters = {} if self._engines is None else await self._engines.stats()
        self._values |= counters
        self._values |= {name: counters.get(name, 0.0) + value for name, value in aside.items()}
        if self._engines is not None:
            both = counters.get("engine/busy_s", 0.0) - waited
            self._values["time/both_working_s"] = min(max(both, 0.0), took)


async def _together(first: Awaitable[None], second: Awaitable[None]) -> None:
    await both(first, second)


def _rewards(scored: ScoredGroup) -> list[float]:
    """Of the rollouts that were judged: an example to imitate has no verdict."""
    judged = zip(scored.rewards, scored.verdicts, strict=True)
    return [float(reward) for reward, verdicts in judged if verdicts]


def _derive_engine_rates(values: dict[str, Any], num_engines: int, step_s: float) -> None:
    busy, _ = (values.pop(name, None) for name in STATES_OF_ENGINES)
    if busy is not None:
        values["idle/engines"] = max(0.0, 1.0 - busy / (num_engines * step_s))
        values["rollout/tokens_per_s"] = values.get("rollout/tokens", 0.0) / step_s

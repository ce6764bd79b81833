"""The worker's way to the reward servers: joins, spreads, retries.

Invariants: each task is answered once; rollouts that end at about the same time share one remote
call (a call costs more than judging a short answer); a server that dies is our fault, so its tasks
are tried again and then answered with `Judgement.failure`, never with a silent reward of 0.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from oapl.config import RunConfig
from oapl.counters import Counters
from oapl.interfaces import Scorer
from oapl.records import Judgement, Metrics, Prompt, Rollout
from oapl.remote.batched_calls import BatchedCalls
from oapl.remote.waiting import within

RESTART_S = 3.0
"""Pause before the same server is asked again: it is being restarted."""
GRACE_S = 300.0
"""What a call may take beyond waiting and one deadline: a verifier may have a longer one."""

Task = tuple[Prompt, Rollout]


def build(config: RunConfig, servers: Sequence[Scorer]) -> BatchedScorer:
    """Make a worker's scorer.

    Args:
        config: Says how long a call may take, and how often it is tried again.
        servers: Handles of the reward servers.
    """
    return BatchedScorer(
        servers,
        limit_s=config.reward.max_wait_s + config.reward.deadline_s + GRACE_S,
        retries=config.reward.retries,
    )


@dataclass(slots=True, eq=False)
class _Server:
    handle: Scorer
    outstanding: int = 0


class BatchedScorer:
    """A `Scorer` over one or more remote ones.

    Args:
        servers: Handles; a call goes to the one with the fewest tasks outstanding.
        limit_s: Longest a call may take: a server that needs longer hangs.
        retries: Further tries after a server failed under a call.
        restart_s: Pause before a server that failed is asked again, when there is no other; twice
            as long before the second time, and so on.

    Raises:
        ValueError: There is no server.
    """

    def __init__(
        self,
        servers: Sequence[Scorer],
        *,
        limit_s: float,
        retries: int = 1,
        restart_s: float = RESTART_S,
    ) -> None:
        if not servers:
            raise ValueError("a worker needs at least one reward server")
        self._servers = [_Server(handle) for handle in servers]
        self._limit_s = limit_s
        self._retries = retries
        self._restart_s = restart_s
        self._calls = BatchedCalls(self._judge)
        self._awaited: dict[object, tuple[int, float]] = {}  # rollouts of a call, and since when
        self._counters = Counters()

    async def score(self, tasks: Sequence[Task]) -> list[Judgement]:
        """Give one judgement per task, in order; `failure` is set where no server gave one."""
        return await self._calls([_slim(task) for task in tasks])

    async def stats(self) -> Metrics:
        """Report our own counters: calls, tasks, and what failed on the way. Not the servers'."""
        return self._counters.take()

    def awaited(self) -> tuple[int, float]:
        """Rollouts without a verdict, and for how many seconds the oldest has had none."""
        calls = self._awaited.values()
        oldest = min((since for _, since in calls), default=math.inf)
        return sum(count for count, _ in calls), max(0.0, time.monotonic() - oldest)

    async def _judge(self, tasks: list[Task]) -> Sequence[Judgement]:
        """One call, tried again where a server fails."""
        mark = object()
        self._awaited[mark] = len(tasks), time.monotonic()
        try:
            return await self._tried(tasks)
        finally:
            del self._awaited[mark]

    async def _tried(self, tasks: list[Task]) -> Sequence[Judgement]:
        server = min(self._servers, key=lambda server: server.outstanding)
        server.outstanding += len(tasks)  # at once, so that the next call sees it
        failed = server
        for attempt in range(self._retries + 1):
            if attempt:
                server = await self._another(failed, attempt)
                server.outstanding += len(tasks)
            try:
                return await self._ask(server, tasks)
            except Exception as error:  # noqa: BLE001 - a dead server raises what Ray likes
                failed, reason = server, f"{type(error).__name__}: {error}"
                self._counters.add({"faults/reward_calls": 1})
            finally:
                server.outstanding -= len(tasks)
        self._counters.add({"faults/reward_tasks": len(tasks)})
        failure = f"no reward server answered in {self._retries + 1} tries; last: {reason}"
        return [Judgement(reward=0.0, verdicts={}, failure=failure) for _ in tasks]

    async def _ask(self, server: _Server, tasks: list[Task]) -> Sequence[Judgement]:
        what = f"a reward server to judge {len(tasks)} rollouts"
        judgements = await within(self._limit_s, server.handle.score(tasks), what)
        if len(judgements) != len(tasks):
            raise RuntimeError(f"{len(judgements)} judgements came for {len(tasks)} rollouts")
        self._counters.add({"reward/calls": 1, "reward/tasks": len(tasks)})
        return judgements

    async def _another(self, failed: _Server, attempt: int) -> _Server:
        """The least busy other server, or the same one after a pause in which it may restart."""
        others = [server for server in self._servers if server is not failed]
        if others:
            return min(others, key=lambda server: server.outstanding)
        await asyncio.sleep(self._restart_s * attempt)
        return failed


def _slim(task: Task) -> Task:
    """Verifiers have no use for log-probs: 128 kB for a response of 32k tokens."""
    prompt, rollout = task
    return prompt, replace(rollout, inference_logprobs=None)

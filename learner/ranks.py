"""The trainer ranks as one: all are asked together, and of those that fail the culprit is named.

Invariants: no wait is longer than `sync.timeout_s` and a farewell; when ranks failed because
another died, the dead one is blamed; nothing that was asked is left running.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from oapl.config import RunConfig
from oapl.errors import DiedError, OaplError, RankError, first_line, original
from oapl.interfaces import Trainer
from oapl.remote.open_waits import OPEN

T = TypeVar("T")

FAREWELL_S = 10.0
"""When one rank has failed, how long the others have to say that they died: a rank that lost its
peer in a collective often speaks first."""


class Ranks:
    """Asks all trainer ranks together.

    Attributes:
        trainers: In the order of the ranks.
    """

    def __init__(self, config: RunConfig, trainers: Sequence[Trainer]) -> None:
        self._timeout_s = config.sync.timeout_s
        self._logs = config.folder / "logs"
        self.trainers = trainers

    async def gather(self, calls: Sequence[Awaitable[T]], what: str, step: int) -> list[T]:
        """Wait for every rank's answer to one call.

        Args:
            calls: One per rank, in their order.
            what: Was asked for; named in errors.
            step: Learner steps made; named in errors.

        Raises:
            RankError: One died, did not answer in time, or failed unforeseen.
            OaplError: What a living rank raised on purpose.
        """
        tasks = [asyncio.ensure_future(call) for call in calls]

        async def who() -> str:
            late = [str(rank) for rank, task in enumerate(tasks) if not task.done()]
            return f"rank {', '.join(late)} of {len(tasks)}, asked for {what}, after step {step}"

        limit_s, asked = self._timeout_s, f"learner ranks, asked for {what}"
        try:
            with OPEN.awaiting(asked, limit_s, who="learner", describe=who) as wait:
                await asyncio.wait(tasks, timeout=limit_s, return_when=asyncio.FIRST_EXCEPTION)
                if not all(task.done() and task.exception() is None for task in tasks):
                    await _hear_all(tasks)
                    raise self._failure(tasks, what, step, wait.hint)
            return [task.result() for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _failure(
        self, tasks: Sequence[asyncio.Future[Any]], what: str, step: int, hint: str
    ) -> Exception:
        """Names the rank to blame, when several failed because of it."""
        errors = {rank: error for rank, task in enumerate(tasks) if (error := _error(task))}
        dead = [rank for rank, error in errors.items() if isinstance(error, DiedError)]
        for error in errors.values():
            if isinstance(error, OaplError) and not dead:
                return error
        if dead:
            ranks, how, cause = dead, "died", errors[dead[0]]
        elif errors:
            cause = next(iter(errors.values()))
            met = original(cause)
            ranks, how = list(errors), f"failed ({type(met).__name__}: {first_line(met)})"
        else:
            ranks = [rank for rank, task in enumerate(tasks) if not task.done()]
            how = f"did not answer within {self._timeout_s:g} s (sync.timeout_s)"
            cause = None
        who = ", ".join(map(str, ranks))
        failure = RankError(
            f"learner rank {who} of {len(tasks)} {how} after step {step}, asked for {what}; "
            f"see {self._logs}/trainer-{ranks[0]}.log{hint}"
        )
        failure.__cause__ = cause
        return failure


async def _hear_all(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Wait, once one has failed, until one is known to have died or all have spoken."""
    deadline = time.monotonic() + FAREWELL_S
    waiting = {task for task in tasks if not task.done()}
    while waiting and any(map(_error, tasks)):
        if any(isinstance(_error(task), DiedError) for task in tasks):
            return
        left = deadline - time.monotonic()
        done, waiting = await asyncio.wait(
            waiting, timeout=max(left, 0), return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            return


def _error(task: asyncio.Future[Any]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None

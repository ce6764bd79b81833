"""Who holds the places of rollout workers, and what those say on whom the learner waits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from deploy.processes.base import Process
from oapl.errors import original
from oapl.interfaces import Replay, Worker
from oapl.records import Metrics, WorkerId

SAYS_S = 3.0
"""For a worker to say what it is at."""
MOST_NAMED = 4
"""Workers, when it is told who is late."""
LONGEST_NOTE = 400
"""Letters of an error's first line."""


@dataclass(slots=True)
class Member:
    """The worker that holds a place now.

    Attributes:
        index: The place.
        incarnation: How many workers held it before.
        process: Where it runs.
        version: What it has loaded; -1 before its first weights.
        counters: Its answer to the last question for counters, until that was counted.
        asked_at: When that was asked, by the monotonic clock.
    """

    index: int
    incarnation: int
    process: Process[Worker]
    version: int = -1
    counters: asyncio.Future[Metrics] | None = None
    asked_at: float = 0.0

    @property
    def id(self) -> WorkerId:
        """How replay and messages call it."""
        return WorkerId(index=self.index, incarnation=self.incarnation)

    async def says(self) -> str:
        """What it is at, in words; that it does not tell is told, too."""
        try:
            async with asyncio.timeout(SAYS_S):
                return await self.process.handle.says()
        except TimeoutError:
            return "and does not answer"
        except Exception as error:  # noqa: BLE001  a dying worker, which its keeper deals with
            return f"and cannot be asked ({type(error).__name__})"


async def lateness(replay: Replay, members: Mapping[int, Member]) -> str:
    """Say what the learner waits for, and what those workers say who have it.

    Args:
        replay: Knows who has it.
        members: By their places.
    """
    late = await replay.lateness()
    versions = " or ".join(map(str, late.versions))
    text = f"{late.missing} groups of version {versions}"
    if not late.holders:
        return f"{text}; no worker has any, {late.needed} are still to be handed out"
    named = sorted(late.holders, key=lambda worker: -late.holders[worker])[:MOST_NAMED]
    words = await asyncio.gather(*(_said(members, worker) for worker in named))
    lines = [
        f"{worker} has {late.holders[worker]} of them, {said}"
        for worker, said in zip(named, words, strict=True)
    ]
    more = len(late.holders) - len(named)
    return "; ".join([text, *lines, *([f"{more} more workers have some"] if more else [])])


async def _said(members: Mapping[int, Member], worker: WorkerId) -> str:
    member = members.get(worker.index)
    if member is None or member.id != worker:
        return "and is gone"
    return await member.says()


def one_line(error: BaseException) -> str:
    """An error of a worker, for a line of a run."""
    error = original(error)
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:LONGEST_NOTE]}" if text else type(error).__name__

"""What waits to be judged: the items of each call, in one bounded queue per verifier.

Invariants: an item has one outcome, and gets it once; a call ends when its last item has one;
callers are let in in their order, and wait while the queue is full, but not for ever.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from oapl.records import Prompt, Rollout, Verdict
from reward_server.pool.handle import PoolError

Item = tuple[Prompt, Rollout]
Outcome = Verdict | PoolError


class Call:
    """The items of one call.

    Attributes:
        outcomes: Per item, in order; complete when `done` is.
        latencies_s: Per item, from the call to its outcome.
        started: When the call came, in the event loop's time.
    """

    def __init__(self, count: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._left = count
        self.started = self._loop.time()
        self.outcomes: list[Outcome | None] = [None] * count
        self.latencies_s = [0.0] * count
        self.done: asyncio.Future[None] = self._loop.create_future()
        if not count:
            self.done.set_result(None)

    def settle(self, index: int, outcome: Outcome, now: float) -> None:
        """Give one item its outcome; only the first counts, and the last one ends the call.

        Args:
            index: Which item of the call.
            outcome: Its verdict, or why there is none.
            now: The event loop's time.
        """
        if self.outcomes[index] is not None:
            return
        self.outcomes[index] = outcome
        self.latencies_s[index] = now - self.started
        self._left -= 1
        if not self._left and not self.done.done():
            self.done.set_result(None)


@dataclass(slots=True, eq=False)
class Job:
    """An item on its way.

    Attributes:
        num_deaths: Workers that died while they judged it.
        num_losses: Times it was lost with a worker through no fault of its own.
    """

    call: Call
    index: int
    item: Item
    num_deaths: int = 0
    num_losses: int = 0

    def settle(self, outcome: Outcome, now: float | None = None) -> None:
        """Give the item its outcome; only the first counts.

        Args:
            outcome: Its verdict, or why there is none.
            now: The event loop's time, where it is known.
        """
        if now is None:
            now = asyncio.get_running_loop().time()
        self.call.settle(self.index, outcome, now)


@dataclass(eq=False)
class Backlog:
    """The queue of one verifier.

    Attributes:
        name: The verifier's, for errors.
        capacity: Most items that wait; what is given back may exceed it.
        wait_s: Longest time from the call to the moment at which an item is taken.
        peak: Most items that waited at a time since the last look.
    """

    name: str
    capacity: int
    wait_s: float
    peak: int = 0
    _jobs: deque[Job] = field(default_factory=deque)
    _suspects: deque[Job] = field(default_factory=deque)
    _adding: asyncio.Lock = field(default_factory=asyncio.Lock)
    _work: asyncio.Event = field(default_factory=asyncio.Event)
    _room: asyncio.Event = field(default_factory=asyncio.Event)

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def has_suspects(self) -> bool:
        """Whether an item waits under which a worker died."""
        return bool(self._suspects)

    async def put(self, items: Sequence[Item]) -> Call:
        """Queue a call's items, waiting for room; those that found none in time have failed."""
        call = Call(len(items))
        jobs = deque(Job(call, index, item) for index, item in enumerate(items))
        try:
            async with asyncio.timeout_at(call.started + self.wait_s), self._adding:
                while jobs:
                    await self._wait_for_room()
                    self._add(jobs)
        except TimeoutError:
            self._expire(jobs)
        return call

    async def wait(self) -> None:
        """Wait until there is something to judge, however long nobody brings it."""
        while not self._jobs and not self._suspects:
            self._work.clear()
            await self._work.wait()

    def take(self, count: int, characters: int) -> list[Job]:
        """Take the next items; those that waited too long fail instead.

        Args:
            count: Most items.
            characters: Most text of their responses together; the item that exceeds it is the last.
        """
        taken: list[Job] = []
        oldest = asyncio.get_running_loop().time() - self.wait_s
        while self._jobs and len(taken) < count and characters > 0:
            job = self._jobs.popleft()
            call = job.call
            if call.done.done():  # whoever asked has left
                continue
            if call.started < oldest:
                self._expire([job])
                continue
            taken.append(job)
            characters -= len(job.item[1].text)
        if len(self._jobs) <= self.capacity // 2:
            self._room.set()
        return taken

    def take_suspect(self) -> Job | None:
        """Take an item under which a worker died: it is to be judged alone, in a fresh one."""
        return self._suspects.popleft() if self._suspects else None

    def suspect(self, job: Job) -> None:
        """Put aside an item under which a worker died, for `take_suspect`."""
        self._suspects.append(job)
        self._work.set()

    def give_back(self, jobs: Sequence[Job]) -> None:
        """Put items back to the front, in their order."""
        self._jobs.extendleft(reversed(jobs))
        self._work.set()

    def fail(self, error: PoolError) -> None:
        """Fail all that waits."""
        for job in (*self._suspects, *self._jobs):
            job.settle(error)
        self._suspects.clear()
        self._jobs.clear()
        self._room.set()

    async def _wait_for_room(self) -> None:
        while len(self._jobs) >= self.capacity:
            self._room.clear()
            await self._room.wait()

    def _add(self, jobs: deque[Job]) -> None:
        for _ in range(min(len(jobs), self.capacity - len(self._jobs))):
            self._jobs.append(jobs.popleft())
        self.peak = max(self.peak, len(self._jobs))
        self._work.set()

    def _expire(self, jobs: Iterable[Job]) -> None:
        error = PoolError(
            f"waited {self.wait_s:g} s (reward.max_wait_s) for a worker process of {self.name}; "
            "raise reward.workers or reward.servers, or generate less at a time"
        )
        for job in jobs:
            job.settle(error)

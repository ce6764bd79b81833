"""A lane: the queue of one verifier and the worker processes that empty it.

Invariants: every item of a call ends in exactly one outcome, in order: a verdict, or a `PoolError`
where the fault is ours. See `backlog` for the queue, `slot` for what becomes of workers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from reward_server.pool.backlog import Backlog, Call, Item
from reward_server.pool.forks import Forks
from reward_server.pool.handle import PoolError
from reward_server.pool.loading import Loading
from reward_server.pool.slot import Slot
from reward_server.verifiers.base import Limits


class Lane:
    """Judges items of one verifier in up to `num_workers` processes, started when first needed.

    Args:
        name: The verifier's name.
        forks: Where workers come from.
        num_workers: Most processes.
        deadline_s: Hard limit for one item.
        limits: Of the verifier's processes.
        capacity: Most items that wait; callers beyond wait for room.
        wait_s: Longest time an item may wait.
        retries: How often what we broke is tried again.

    Attributes:
        events: Mishaps so far by name: `lost_workers`, `failed_starts`, `forged`, `leaks`.
    """

    def __init__(
        self,
        name: str,
        forks: Forks,
        *,
        num_workers: int,
        deadline_s: float,
        limits: Limits,
        capacity: int,
        wait_s: float,
        retries: int,
    ) -> None:
        self.events: Counter[str] = Counter()
        self._backlog = Backlog(name, capacity, wait_s)
        loading = Loading(limits.first_s, deadline_s)
        self._slots = [
            Slot(
                forks,
                self._backlog,
                share=num_workers,
                deadline_s=deadline_s,
                loading=loading,
                start_s=limits.start_s,
                retries=retries,
                events=self.events,
            )
            for _ in range(num_workers)
        ]
        self._running: list[asyncio.Task[None]] = []
        self._is_closed = False

    @property
    def pids(self) -> list[int]:
        """Process ids of the present workers."""
        return [slot.worker.pid for slot in self._slots if slot.worker is not None]

    def take_peak(self) -> int:
        """The most items that waited at a time since the last call."""
        peak, self._backlog.peak = self._backlog.peak, len(self._backlog)
        return peak

    async def judge(self, items: Sequence[Item]) -> Call:
        """Judge some items, and give them back with all their outcomes.

        Raises:
            RuntimeError: It is called from another event loop than the first time.
        """
        loop = asyncio.get_running_loop()
        if not self._running:
            self._running = [loop.create_task(slot.run()) for slot in self._slots]
        if self._running[0].get_loop() is not loop:
            raise RuntimeError("a reward server belongs to the event loop that first called it")
        call = await self._backlog.put(items)
        if self._is_closed:
            self._backlog.fail(_closed())
        await call.done
        return call

    async def close(self) -> None:
        """Kill the workers; what was not judged fails."""
        self._is_closed = True
        for running in self._running:
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._backlog.fail(_closed())


def _closed() -> PoolError:
    return PoolError("the reward server was closed")

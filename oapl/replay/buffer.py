"""ReplayBuffer: the prompt queue, the draws in flight and the buffer, behind one lock.

Invariants: the rules are the ledger's, and every change of state is one call of it, so that any
two observers see the same cut; whoever waits is woken by the change it waits for, or answered when
its own deadline passes; no draw is handed to a caller whose wait has already ended.

Runs in one process (an asynchronous Ray actor, or the driver's event loop); nothing here blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from oapl.errors import DeadlineError, DrawsError
from oapl.interfaces import PromptSource
from oapl.records import (
    Credit,
    CreditedGroup,
    Fate,
    Lateness,
    Metrics,
    Prompt,
    ScoredGroup,
    State,
    Unfinished,
    WorkerId,
)
from oapl.replay.ledger import Ledger
from oapl.replay.periods import PeriodNeeds


class ReplayBuffer:
    """The ledger behind a lock, with waits that end.

    See `oapl.interfaces.Replay` for what workers call, `oapl.interfaces.Batches` for the learner.

    Args:
        source: Where new draws come from; its cursor is part of the snapshot.
        credit: The objective's `credit`, asked once per accepted group.
        periods: How many groups the run asks for, and when.
        on_fate: Told of every fate as it falls; must not block.
        seed: The run's.
        version: Served first.
    """

    def __init__(
        self,
        source: PromptSource,
        credit: Callable[[ScoredGroup], Credit],
        periods: PeriodNeeds,
        on_fate: Callable[[Fate], None] | None = None,
        seed: int = 0,
        version: int = 0,
    ) -> None:
        self._ledger = Ledger(source, credit, periods, on_fate, seed, version)
        self._changed = asyncio.Condition()
        self._asked = 0  # groups that the learner waits for now

    # For workers

    async def next_prompts(
        self, worker: WorkerId, version: int, limit: int, timeout_s: float
    ) -> Sequence[Prompt | Unfinished] | None:
        """Hand out draws as soon as there is one. See `oapl.interfaces.Replay.next_prompts`.

        Returns:
            An empty list when nothing was needed for `timeout_s`; None, at once, when `version` is
            not (or no longer) the served one, or the run has finished.

        Raises:
            StaleError: The worker was released.
        """
        draws: list[Prompt | Unfinished] = []

        def is_answered() -> bool:
            was_over = self._ledger.is_over()
            draws.extend(self._ledger.draw(worker, version, limit))
            if self._ledger.is_over() and not was_over:  # seen only by asking the source
                self._changed.notify_all()
            return bool(draws) or not self._ledger.serves(worker, version)

        async with self._changed:
            await self._wait(is_answered, timeout_s)
            return draws if draws or self._ledger.serves(worker, version) else None

    async def put(self, worker: WorkerId, groups: Sequence[ScoredGroup]) -> list[str]:
        """Take finished groups, each as `Ledger.put` does. See `oapl.interfaces.Replay.put`.

        Returns:
            Per group `kept`, `dropped:FILTER` or `refused:WHY`.

        Raises:
            StaleError: The worker was released.
        """
        async with self._changed:
            answers = [self._ledger.put(worker, group) for group in groups]
            self._changed.notify_all()
            return answers

    async def give_back(
        self, worker: WorkerId, prompt: Prompt, cause: str, num_tokens: int
    ) -> None:
        """Return a draw to the front of the queue. See `oapl.interfaces.Replay.give_back`."""
        await self._change(self._ledger.give_back, worker, prompt, cause, num_tokens)

    async def hand_over(self, worker: WorkerId, unfinished: Unfinished) -> None:
        """Take a group that a load cut off. See `oapl.interfaces.Replay.hand_over`."""
        await self._change(self._ledger.hand_over, worker, unfinished)

    async def stay_behind(self, worker: WorkerId, timeout_s: float) -> None:
        """Wait until a worker may load. See `oapl.interfaces.Replay.stay_behind`."""
        async with self._changed:
            await self._wait(lambda: not self._ledger.stays(worker), timeout_s)
            self._ledger.leave(worker)
            self._changed.notify_all()

    async def fail(self, worker: WorkerId, prompt: Prompt, cause: str, num_tokens: int) -> None:
        """End a draw as `failed`. See `oapl.interfaces.Replay.fail`."""
        await self._change(self._ledger.fail, worker, prompt, cause, num_tokens)

    async def release(self, worker: WorkerId) -> None:
        """Take a dead worker's draws back; later calls of this incarnation are refused."""
        await self._change(self._ledger.release, worker)

    # For the learner

    async def take(
        self, count: int, timeout_s: float, ahead: int = 0
    ) -> Sequence[CreditedGroup] | None:
        """Lease the `count` oldest groups. See `oapl.interfaces.Batches.take`.

        Returns:
            Fewer than `count` only at the end of the data, and after that None; none where the
            next version may be served first, ahead of the period that begins at `ahead`.

        Raises:
            DeadlineError: They were not there within `timeout_s`.
            DrawsError: Every draw fails, so they never will be.
        """
        ledger = self._ledger
        async with self._changed:
            self._asked = count
            try:
                came = await self._wait(
                    lambda: (
                        ledger.can_take(count)
                        or ledger.is_hopeless()
                        or (ahead > 0 and ledger.may_lead(ahead))
                    ),
                    timeout_s,
                )
            finally:
                self._asked = 0
            if not came:
                raise DeadlineError(self._overdue(count, timeout_s))
            if ledger.is_hopeless():
                raise DrawsError.since(ledger.first_failure)
            if not ledger.can_take(count):
                return []
            groups = self._ledger.take(count)
            self._changed.notify_all()
            return groups

    async def trained(self, ids: Sequence[str], step: int) -> None:
        """Close leases of groups trained on. See `oapl.interfaces.Batches.trained`."""
        await self._change(self._ledger.trained, ids, step)

    async def drop(self, ids: Sequence[str], reason: str, step: int) -> None:
        """Close leases whose step was skipped. See `oapl.interfaces.Batches.drop`."""
        await self._change(self._ledger.drop, ids, reason, step)

    async def advance(self, step: int) -> None:
        """Serve version `step`: clear what is too old, take back what engines will abort."""
        await self._change(self._ledger.advance, step)

    async def lead(self, step: int, begin: int) -> bool:
        """Serve a version ahead of its period. See `oapl.interfaces.Batches.lead`."""
        async with self._changed:
            leads = self._ledger.lead(step, begin)
            self._changed.notify_all()
            return leads

    async def finish(self) -> None:
        """End the run: what has no fate is `unfinished`. A snapshot is taken before, not after."""
        await self._change(self._ledger.finish)

    # Accounts

    async def snapshot(self) -> State:
        """Everything that decides what happens next, picklable."""
        return self._ledger.snapshot()

    async def restore(self, state: State) -> None:
        """Go on from a snapshot, with new workers, in a buffer that was not used yet."""
        await self._change(self._ledger.restore, state)

    async def take_over(self, state: State) -> bool:
        """Go on in the data after an ended stage. See `oapl.interfaces.Batches.take_over`."""
        return self._ledger.take_over(state)

    async def stats(self) -> Metrics:
        """What happened since the last call, under the names of `oapl.tracking.names`."""
        return self._ledger.stats()

    async def counts(self) -> dict[str, int]:
        """Draws by fate and by place; `drawn` is the sum of the others."""
        return self._ledger.counts()

    async def lateness(self) -> Lateness:
        """What the learner waits for, and who has it; nothing changes."""
        counts = self._ledger.counts()
        return Lateness(
            missing=self._ledger.missing(self._asked),
            versions=self._ledger.usable,
            holders=self._ledger.in_flight_by_worker(),
            queued=counts["queued"],
            needed=self._ledger.need(),
        )

    async def first_failure(self) -> str:
        """Cause of the first draw that failed; empty while none has."""
        return self._ledger.first_failure

    async def fates(self) -> dict[str, int]:
        """Fates with filter or cause, over the whole run."""
        return self._ledger.fates()

    async def _change(self, act: Callable[..., None], *arguments: object) -> None:
        async with self._changed:
            act(*arguments)
            self._changed.notify_all()

    async def _wait(self, predicate: Callable[[], bool], timeout_s: float) -> bool:
        """Whether the predicate came true in time. Nothing is awaited after it did."""
        if predicate():
            return True
        came_true = False
        try:
            async with asyncio.timeout(timeout_s):
                while not came_true:
                    await self._changed.wait()
                    came_true = predicate()
        except TimeoutError:
            # The deadline may strike in the very turn in which the predicate came true.
            return came_true
        return True

    def _overdue(self, count: int, timeout_s: float) -> str:
        ledger, counts = self._ledger, self._ledger.counts()
        flying = ledger.in_flight_by_worker()
        awaited = ", ".join(f"{worker} has {flying[worker]}" for worker in sorted(flying, key=str))
        return (
            f"the learner waited {timeout_s:g} s for {count} groups of version "
            f"{' or '.join(map(str, ledger.usable))} "
            f"after step {ledger.step}: {counts['buffered']} buffered, {counts['in_flight']} in "
            f"flight ({awaited or 'no worker has any'}), {counts['queued']} queued, "
            f"{counts['leased']} leased, {ledger.need()} still to hand out, source "
            f"{'exhausted' if ledger.exhausted else 'not exhausted'}{self._failures()}; if "
            "generation is only slow, raise sync.timeout_s"
        )

    def _failures(self) -> str:
        count, cause = self._ledger.counts()["failed"], self._ledger.first_failure
        return f", {count} failed (the first: {cause})" if cause else ""

"""A slot: one worker's place in a lane, its life and its successors'.

Invariants: each item has a hard deadline of its own, beyond which its process is killed and the
item alone is to blame; the others sent with it go on elsewhere, before that if it takes long. An
item under which a worker died runs once more, alone, in a fresh worker: a second death is its own
doing. What died with the fork server, or before it was started, is our fault: tried again, then
failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from oapl.records import VerdictKind
from reward_server.pool import frames
from reward_server.pool.backlog import Backlog, Job
from reward_server.pool.forks import Forks
from reward_server.pool.handle import PoolError, PoolWorker
from reward_server.pool.loading import Loading

CHUNK_S = 0.05
"""Work to send at a time, by the clock, which runs on while others have the core; as much again is
under way, so that no worker waits for its server."""
MAX_CHUNK = 512
MAX_CHUNK_CHARACTERS = 4_000_000
STALL_S = 0.25
"""A worker silent for so long gives up what it has not started, if there are others."""
FIRST_GUESS_S = 0.02
"""An item's time before any was judged."""
MAX_JUDGED = 50_000
MAX_GROWTH_BYTES = 512 * 2**20
"""A worker that has judged so many, or grown so much since its first items, is replaced."""
LOOK_S = 0.25
"""Between two looks at a worker's memory."""
MAX_DEATHS = 2
MAX_KILLS = 20
"""Starts that may be killed from outside before we give up."""

log = logging.getLogger(__name__)


class Slot:
    """Keeps one worker process busy with a backlog, and replaces it.

    Args:
        forks: Where workers come from.
        backlog: The verifier's queue.
        share: Slots that empty the same queue: one takes no more than its part of it.
        deadline_s: Hard limit for one item.
        loading: What the first item of a process may take.
        start_s: Hard limit for the start of a process.
        retries: How often what we broke is tried again.
        events: Where mishaps are counted: `lost_workers`, `failed_starts`, `forged`, `leaks`.
    """

    def __init__(
        self,
        forks: Forks,
        backlog: Backlog,
        *,
        share: int,
        deadline_s: float,
        loading: Loading,
        start_s: float,
        retries: int,
        events: Counter[str],
    ) -> None:
        self._forks = forks
        self._backlog = backlog
        self._share = share
        self._deadline_s = deadline_s
        self._loading = loading
        self._start_s = start_s
        self._retries = retries
        self._events = events
        self._seconds = min(FIRST_GUESS_S, deadline_s)  # an item's, on average
        self._held: deque[Job] = deque()  # sent, in order, and not answered
        self._first = 0  # number of the first of them
        self._since = 0.0  # when the first of them could have been started
        self._is_spent = False
        self._resident_bytes = 0
        self._looked = 0.0
        self.worker: PoolWorker | None = None

    async def run(self) -> None:
        """Judge for ever; when cancelled, the worker is killed and what it held has failed."""
        try:
            while True:
                try:
                    await self._turn()
                except Exception as error:  # nobody else would ever answer these items
                    log.exception("the reward pool of %s failed", self._backlog.name)
                    self._fail(PoolError(f"the reward pool of {self._backlog.name}: {error!r}"))
        finally:
            self._fail(PoolError("the reward server was closed"))

    async def _turn(self) -> None:
        """Send what is due, take in what comes."""
        if not self._held:
            await self._backlog.wait()
            if not self._is_fit() and not await self._start():
                return
        assert self.worker is not None
        self._feed(self.worker)
        if not self._held:  # another slot was quicker
            return
        try:
            frame = await self._frame(self.worker)
        except TimeoutError:
            self._late(self.worker)
            return
        if frame is None:
            await self._discard(self.worker)
        elif not self._take(frame):
            log.warning("a %s worker answered out of turn; it is replaced", self._backlog.name)
            self._events["forged"] += 1
            self._blame(self._current(self.worker), "sandbox_violation", "an answer out of turn")

    def _is_fit(self) -> bool:
        """Whether the present worker may judge what comes next; suspects need a fresh one."""
        worker = self.worker
        if worker is None or worker.is_gone or self._is_spent:
            return False
        return not (self._backlog.has_suspects and worker.num_sent)

    async def _start(self) -> bool:
        """A fresh worker; False when it cannot be had, and then all that waits has failed."""
        self._dismiss()
        failures = kills = 0
        while True:
            try:
                self.worker = await self._forks.fork(self._backlog.name, self._start_s)
                break
            except PoolError as error:
                self._events["failed_starts"] += 1
                kills += error.is_killed
                failures += not error.is_killed
                if failures > self._retries or kills > MAX_KILLS:
                    self._backlog.fail(error)
                    return False
        self._first = 0
        self._is_spent = False
        self._resident_bytes = 0
        return True

    @property
    def _is_loading(self) -> bool:
        """Whether the worker's next answer is its first, and that one has a limit of its own."""
        return not self._first and self._loading.limit_s > self._deadline_s

    @property
    def _limit_s(self) -> float:
        """Hard limit for the item that the worker is at."""
        return self._loading.limit_s if self._is_loading else self._deadline_s

    def _feed(self, worker: PoolWorker) -> None:
        """Send a chunk when no more than one is under way, and none is under suspicion."""
        now = asyncio.get_running_loop().time()
        self._look(worker, now)
        size = min(max(int(CHUNK_S / self._seconds), 1), MAX_CHUNK)
        ahead = size if self._seconds < STALL_S / 4 else 0
        if self._is_loading:  # the others would wait for what the first one loads
            size, ahead = 1, 0
        if self._is_spent or len(self._held) > ahead or (self._held and self._held[0].num_deaths):
            return
        suspect = None if worker.num_sent else self._backlog.take_suspect()
        if suspect is not None:
            jobs = [suspect]
        else:
            share = math.ceil(len(self._backlog) / self._share)
            jobs = self._backlog.take(min(size, share), MAX_CHUNK_CHARACTERS)
        if jobs:
            worker.submit([job.item for job in jobs])
            if not self._held:
                self._since = now
            self._held.extend(jobs)

    def _look(self, worker: PoolWorker, now: float) -> None:
        """Mark a worker that has judged enough or leaks."""
        if worker.num_sent >= MAX_JUDGED:
            self._is_spent = True
        if worker.num_sent and now - self._looked >= LOOK_S:
            self._looked = now
            resident = worker.resident_bytes()
            self._resident_bytes = self._resident_bytes or resident
            if resident - self._resident_bytes > MAX_GROWTH_BYTES:
                self._events["leaks"] += 1
                self._is_spent = True

    async def _frame(self, worker: PoolWorker) -> dict[str, Any] | None:
        """The next answers, by the deadline of the item that the worker is at.

        Raises:
            TimeoutError: None came.
        """
        loop = asyncio.get_running_loop()
        if len(self._held) > 1 and self._share > 1:
            with contextlib.suppress(TimeoutError):
                patience_s = min(STALL_S, self._deadline_s)
                return await worker.frame(self._since + patience_s - loop.time())
            self._give_back(worker)
        return await worker.frame(self._since + self._limit_s - loop.time())

    def _current(self, worker: PoolWorker) -> int:
        """Where among the held items the worker is, by its own account."""
        return min(max(worker.num_started - 1 - self._first, 0), len(self._held) - 1)

    def _give_back(self, worker: PoolWorker) -> None:
        """It is slow or hangs: what it has not started goes elsewhere, and it is replaced."""
        last = self._current(worker)
        rest = [self._held.pop() for _ in range(len(self._held) - 1 - last)]
        self._backlog.give_back(rest[::-1])
        self._is_spent = self._is_spent or bool(rest)

    def _take(self, frame: dict[str, Any]) -> bool:
        """Settle what was answered; False if it was not its turn, or no answer."""
        if frame.get("first") != self._first:
            return False
        now = asyncio.get_running_loop().time()
        was_loading = self._is_loading
        count, seconds = 0, 0.0
        try:
            for outcome in frames.outcomes(frame):
                if not self._held:
                    return self._is_spent  # it had been given back, and was judged all the same
                job = self._held.popleft()
                self._first += 1
                if isinstance(outcome, str):
                    job.settle(PoolError(outcome), now)
                else:
                    job.settle(outcome, now)
                    count += 1
                    seconds += outcome.seconds
        except frames.Malformed:
            return False
        if count and was_loading:
            self._loading.took(now - self._since)
        elif count:
            mean = min(max(seconds / count, 1e-6), self._deadline_s)
            self._seconds += 0.2 * (mean - self._seconds)
        self._since = now
        return True

    def _late(self, worker: PoolWorker) -> None:
        index = self._current(worker)
        seconds, is_first = self._limit_s, self._is_loading
        job = self._held[index]
        del self._held[index]
        self._drop_worker()
        why = f"killed after {seconds:g} s" + (", the first of its process" if is_first else "")
        job.settle(frames.without_reward("timeout", why, seconds))

    async def _discard(self, worker: PoolWorker) -> None:
        """The worker died; find out why, and who is to blame."""
        code = await self._forks.exit_code(worker.pid)
        index = self._current(worker)
        self._events["lost_workers"] += 1
        if code is not None and worker.num_started > self._first:
            self._blame(index, _kind(code), f"worker ended twice, by {_cause(code)}")
            return
        job = self._held[index]
        job.num_losses += 1
        if job.num_losses > self._retries:
            del self._held[index]
            why = f"worker processes of {self._backlog.name} died {job.num_losses} times under it"
            job.settle(PoolError(f"{why}, with their fork server or before they started it"))
        self._drop_worker()

    def _blame(self, index: int, kind: VerdictKind, detail: str) -> None:
        """An item under which its worker died or misbehaved: a second time is its own doing."""
        job = self._held[index]
        del self._held[index]
        self._drop_worker()
        job.num_deaths += 1
        if job.num_deaths < MAX_DEATHS:
            self._backlog.suspect(job)
        else:
            job.settle(frames.without_reward(kind, detail))

    def _drop_worker(self) -> None:
        """Kill it; what else it held goes on elsewhere."""
        self._dismiss()
        self._backlog.give_back(list(self._held))
        self._held.clear()

    def _dismiss(self) -> None:
        if self.worker is not None:
            self.worker.kill()
            self.worker = None

    def _fail(self, error: PoolError) -> None:
        self._dismiss()
        jobs: Sequence[Job] = list(self._held)
        self._held.clear()
        for job in jobs:
            job.settle(error)


def _kind(code: int) -> VerdictKind:
    """The kind of verdict on an answer under which a process ended so."""
    kinds: dict[int, VerdictKind] = {
        -signal.SIGKILL: "resource_limit",  # what the kernel does when memory is out
        -signal.SIGXCPU: "resource_limit",
        -signal.SIGSYS: "sandbox_violation",
    }
    return kinds.get(code, "runtime_error")


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"

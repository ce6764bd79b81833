"""A lane: the queue of one verifier and the worker processes that empty it.

Invariants: every item ends in exactly one verdict or one `PoolError`; each has a deadline of its
own, beyond which its process is killed; what an answer did to a process is blamed on that answer
alone, the items sent with it go on elsewhere; what happened to a process from outside (SIGKILL,
a dead template) is tried once more before anybody is blamed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from oapl.records import Prompt, Rollout, Verdict, VerdictKind
from reward_server import wire
from reward_server.handle import PoolError, Worker
from reward_server.processes import Template

MAX_CHUNK = 16  # items per send: half the cost of one by one; the rest of a killed chunk waits
MAX_JUDGED = 2000  # a worker is replaced after so many: sympy's caches grow
MAX_ATTEMPTS = 2

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Job:
    """An item on its way: how often it was tried, and where its verdict goes."""

    prompt: Prompt
    rollout: Rollout
    verdict: asyncio.Future[Verdict]
    num_attempts: int = 0

    def finish(self, verdict: Verdict) -> None:
        if not self.verdict.done():
            self.verdict.set_result(verdict)

    def fail(self, error: PoolError) -> None:
        if not self.verdict.done():
            self.verdict.set_exception(error)


class Lane:
    """Judges items of one verifier in up to `num_workers` processes, hired when first needed.

    Args:
        name: The verifier's name.
        template: Where workers come from.
        num_workers: Most processes.
        deadline_s: Hard limit for one item.
    """

    def __init__(
        self, name: str, template: Template, *, num_workers: int, deadline_s: float
    ) -> None:
        self._name = name
        self._template = template
        self._num_workers = num_workers
        self._deadline_s = deadline_s
        self._queue: deque[Job] = deque()
        self._work = asyncio.Event()
        self._slots: list[asyncio.Task[None]] = []
        self._workers: set[Worker] = set()
        self.events: Counter[str] = Counter()

    @property
    def pids(self) -> list[int]:
        """Process ids of the present workers."""
        return [worker.pid for worker in self._workers]

    def submit(self, items: Sequence[tuple[Prompt, Rollout]]) -> list[asyncio.Future[Verdict]]:
        """One future verdict per item; it raises PoolError where the fault is ours."""
        loop = asyncio.get_running_loop()
        if not self._slots:
            self._slots = [loop.create_task(self._slot()) for _ in range(self._num_workers)]
        jobs = [Job(prompt, rollout, loop.create_future()) for prompt, rollout in items]
        self._queue.extend(jobs)
        self._work.set()
        return [job.verdict for job in jobs]

    async def close(self) -> None:
        """Kill the workers; what was not judged fails."""
        for slot in self._slots:
            slot.cancel()
        await asyncio.gather(*self._slots, return_exceptions=True)
        self._fail(self._queue, PoolError("the reward server was closed"))

    async def _slot(self) -> None:
        """One worker's life, and its successors'."""
        worker: Worker | None = None
        chunk: list[Job] = []
        try:
            while True:
                chunk = await self._chunk()
                try:
                    if worker is None or worker.is_gone or worker.num_sent >= MAX_JUDGED:
                        worker = await self._replace(worker, chunk)
                    if worker is not None:
                        await self._judge(worker, chunk)
                except Exception as error:  # nobody else would ever answer these items
                    log.exception("the reward pool of %s failed", self._name)
                    self._dismiss(worker)
                    self._fail(chunk, PoolError(f"the reward pool of {self._name}: {error!r}"))
        finally:
            self._dismiss(worker)
            self._fail(chunk, PoolError("the reward server was closed"))

    async def _chunk(self) -> list[Job]:
        """The next items: this slot's share of the queue, so that all slots end together."""
        while not self._queue:
            self._work.clear()
            await self._work.wait()
        share = math.ceil(len(self._queue) / self._num_workers)
        chunk = [self._queue.popleft() for _ in range(min(share, MAX_CHUNK))]
        return [job for job in chunk if not job.verdict.done()]

    async def _replace(self, old: Worker | None, chunk: list[Job]) -> Worker | None:
        """A fresh worker; None when two tries failed, and then all that waits has failed."""
        self._dismiss(old)
        for attempt in range(MAX_ATTEMPTS):
            try:
                worker = await self._template.fork(self._name)
            except PoolError as error:
                self.events["hire"] += 1
                if attempt + 1 == MAX_ATTEMPTS:
                    self._fail([*chunk, *self._queue], error)
                    self._queue.clear()
                continue
            self._workers.add(worker)
            return worker
        return None

    async def _judge(self, worker: Worker, chunk: list[Job]) -> None:
        """Send the chunk; take answers one by one, each under its own deadline."""
        if not chunk:
            return
        first = worker.num_sent
        worker.submit([(job.prompt, job.rollout) for job in chunk])
        for index, job in enumerate(chunk):
            try:
                answer = await worker.answer(self._deadline_s)
            except TimeoutError:
                self._dismiss(worker)
                self._late(job)
                self._again(chunk[index + 1 :])
                return
            if answer is not None and answer.get("number") != first + index:
                self._forged(worker, chunk[index:], is_first=index == 0)
                return
            if answer is None:
                await self._bury(worker, chunk[index:])
                return
            self._take(job, answer)

    def _late(self, job: Job) -> None:
        seconds = self._deadline_s
        detail = f"killed after {seconds:g} s"
        job.finish(wire.unpaid("timeout", detail, seconds))

    def _forged(self, worker: Worker, left: list[Job], *, is_first: bool) -> None:
        """An answer out of turn: an item before wrote one of its own. These go on elsewhere."""
        self._dismiss(worker)
        self.events["forged"] += 1
        if is_first:
            left[0].finish(wire.unpaid("sandbox_violation", "an answer out of turn"))
        self._again(left[is_first:])

    def _take(self, job: Job, answer: dict[str, Any]) -> None:
        if "failure" in answer:
            job.fail(PoolError(str(answer["failure"])))
            return
        job.finish(wire.verdict(answer))

    async def _bury(self, worker: Worker, left: list[Job]) -> None:
        """The worker died while it judged `left[0]`; find out why, and go on with the rest."""
        code = await self._template.exit_code(worker.pid)
        self._dismiss(worker)
        job = left[0]
        job.num_attempts += 1
        is_from_outside = code is None or code == -signal.SIGKILL
        if is_from_outside and job.num_attempts < MAX_ATTEMPTS:
            self.events["lost"] += 1
            self._again(left)
            return
        if code is None:
            job.fail(PoolError(f"the template died twice under the verifier {self._name}"))
        else:
            job.finish(wire.unpaid(_blame(code), f"worker ended by {_cause(code)}"))
        self._again(left[1:])

    def _again(self, jobs: Sequence[Job]) -> None:
        self._queue.extendleft(reversed(jobs))
        if self._queue:
            self._work.set()

    def _dismiss(self, worker: Worker | None) -> None:
        if worker is not None:
            worker.kill()
            self._workers.discard(worker)

    @staticmethod
    def _fail(jobs: Sequence[Job] | deque[Job], error: PoolError) -> None:
        for job in jobs:
            job.fail(error)


def _blame(code: int) -> VerdictKind:
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

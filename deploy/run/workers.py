"""The rollout workers of a run: started, given weights, watched, started again when they die.

Invariants: a worker collects only after it has loaded the published weights that are current when
it asks; what a dead one had in flight goes back to replay before its successor starts; the run
goes on while one worker lives, or another comes in its place: what the learner waits for outlasts a
worker's silence and the start of its successor; a worker whose node has left is started again as
soon as there is a place for it; nobody waits long for the counters of a silent one.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from actors.worker import PING_S
from deploy.processes.base import Processes
from deploy.run.answering import Answering
from deploy.run.members import Member, lateness, one_line
from deploy.run.pulse import SILENCE_S, Pulse
from deploy.run.restarts import Failures
from oapl.config import RunConfig
from oapl.errors import (
    DeadlineError,
    DiedError,
    InputError,
    LostError,
    OaplError,
    ProbeError,
    WeightsError,
)
from oapl.evaluation import Protocol
from oapl.interfaces import Replay, Scorer
from oapl.loops import Take
from oapl.records import (
    CreditedGroup,
    EvalAnswers,
    Metrics,
    ProbeReport,
    Prompt,
    WeightsVersion,
    WorkerId,
)
from oapl.remote.open_waits import OPEN
from oapl.remote.waiting import within
from oapl.tracking.restarts import Record, silent

T = TypeVar("T")

STATS_WAIT_S = 2.0
"""How long a learner step may wait for workers' counters; what comes later is counted later."""
STATS_TIMEOUT_S = 30.0
"""A worker that has been silent for so long is killed."""
HEAD_START_S = 5.0
"""Of the worker's own deadline before that of whoever waits for any of them: the one that does not
load is killed first, and its place is known to be empty. Also for a worker to end whose engine is
known to hang."""
OF_ALL_ENGINES = ("engine/load_s", "engine/idle_s")


class Workers:
    """Owns the worker processes.

    Args:
        config: The run.
        processes: Starts and ends them.
        pulse: Knows which of the run's processes answer.
        replay: What they collect for; None where they only evaluate.
        scorers: The reward servers that they ask.
        note: Is given lines for the person who watches.
        record: Takes note of those that are started again.
        step: Learner steps made before; what is sampled differs by it.
        has_own_weights: They collect with the model's own weights; none are given to them.
        places: Their numbers; None: of all `rollout.num_engines`.
        is_aside: They are set aside for evaluations. Nobody goes on from what such a worker holds,
            so that one that is started again waits for the publication that comes next: the one
            before may be gone.

    Attributes:
        failed: Set to an exception when no worker is left, or engine and learner disagree.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        processes: Processes,
        pulse: Pulse,
        replay: Replay | None,
        scorers: Sequence[Scorer],
        note: Callable[[str], None],
        record: Record = silent,
        step: int = 0,
        has_own_weights: bool = False,
        places: range | None = None,
        is_aside: bool = False,
    ) -> None:
        self._config = config
        self._has_own_weights = has_own_weights
        self._indices = range(config.rollout.num_engines) if places is None else places
        self._is_aside, self._is_idle = is_aside, False
        self._step = step
        self._processes = processes
        self._pulse = pulse
        self._replay = replay
        self._scorers = tuple(scorers)
        self._note = note
        self._record = record
        self._members: dict[int, Member] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._weights: WeightsVersion | None = None
        self._report: ProbeReport | None = None
        self._changed = asyncio.Condition()
        self._stopping = False
        self._now = asyncio.get_running_loop().time
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unreported = 0
        self._last_death = ""
        self._places = len(self._indices)
        self._lost_at = self._now()
        self._recovery_s = SILENCE_S + config.cluster.start_timeout_s + config.sync.timeout_s

    def start(self) -> None:
        """Begin to start the workers, which join as they are ready."""
        for index in self._indices:
            self._tasks.append(asyncio.create_task(self._hold_place(index)))

    async def start_idle(self) -> None:
        """Start the workers with the model's own weights, for evaluation alone: no collecting. One
        that dies is not started again."""
        self._is_idle = True
        members = await asyncio.gather(*(self._start_member(index, 0) for index in self._indices))
        self._tasks += [asyncio.create_task(self._live_idle(member)) for member in members]

    async def load(self, weights: WeightsVersion) -> ProbeReport:
        """Give `weights` to every worker, and wait until the first one holds them.

        The others load on their own time and join late; none collects with older weights, because
        replay no longer serves their version.

        Returns:
            What the first one found when it scored the probe.

        Raises:
            DeadlineError: No worker took them within `sync.timeout_s`, the deadline of each, and a
                little more, in which those that did not are killed; see `outlast`.
        """
        self._weights, self._report = weights, None
        for member in self._members.values():
            self._tasks.append(asyncio.create_task(self._load_quietly(member)))
        self._tasks = [task for task in self._tasks if not task.done()]

        async def first() -> ProbeReport:
            async with self._changed:
                await self._changed.wait_for(lambda: self._report or self._has_let_go)
                if self._report is None:
                    raise self._nobody_left()
                return self._report

        what = f"one of {len(self._indices)} workers to load {weights.version}"
        timeout_s = self._config.sync.timeout_s + HEAD_START_S
        return await self.outlast(lambda seconds: within(seconds, first(), what), timeout_s)

    async def outlast(self, wait: Callable[[float], Awaitable[T]], timeout_s: float) -> T:
        """Make a wait for what workers make, and again while one of them is being replaced.

        A worker's silence and its successor's start may take longer than the wait: that is given so
        much more time, and its full time once the successor is there.

        Args:
            wait: For at most so many seconds.
            timeout_s: Of one wait.

        Raises:
            DeadlineError: That of the wait, with the names of who does not answer.
        """
        ends_at = self._now() + timeout_s + self._recovery_s
        while True:
            began = self._now()
            try:
                return await wait(timeout_s)
            except DeadlineError as error:
                silent = await self._pulse.silent()
                if self._now() >= ends_at or not (silent or self._is_recovering(began)):
                    blamed = f"; {', '.join(silent)} did not answer either" if silent else ""
                    raise DeadlineError(f"{error}{blamed}") from None
                who = f"{', '.join(silent)} to answer or to be replaced" if silent else "a worker"
                self._note(f"waited {timeout_s:g} s; going on to wait for {who}")

    async def await_batch(self, take: Take, timeout_s: float) -> Sequence[CreditedGroup] | None:
        """Wait for a batch as `outlast` does; while that lasts, it is known who is late.

        Args:
            take: The wait, for at most so many seconds.
            timeout_s: Of one wait; at least until an engine that hangs is known to.

        Raises:
            DeadlineError: As of `outlast`.
        """
        # An engine that hangs in a worker that answers is that worker's to notice.
        noticed_s = self._config.rollout.engine_silence_s + PING_S + HEAD_START_S
        timeout_s = max(timeout_s, noticed_s)
        with OPEN.awaiting("a batch", timeout_s, who="learner", describe=self.lateness) as wait:
            try:
                return await self.outlast(take, timeout_s)
            except DeadlineError as error:
                raise DeadlineError(f"{error}{wait.hint}") from error.__cause__

    def _is_recovering(self, since: float) -> bool:
        """Whether a worker or reward server was missing at any time since then."""
        ready = sum(member.version >= 0 for member in self._members.values())
        return ready < self._places or max(self._lost_at, self._pulse.replaced_at) > since

    async def evaluate(
        self,
        prompts: Sequence[Prompt],
        protocol: Protocol,
        answered: Callable[[EvalAnswers], None] | None = None,
        slots: int = 0,
    ) -> list[EvalAnswers]:
        """Answer and judge `prompts` on every worker that holds the current version.

        Args:
            prompts: The problems.
            protocol: By which each is answered.
            answered: Is given the answers of each problem as they come.
            slots: As of `oapl.loops.evaluate`.

        Returns:
            One record per prompt, in their order.

        Raises:
            DeadlineError: No worker holds the current version; or see `Answering.answers_to`.
            DiedError, StaleError: See `Answering.answers_to`.
        """
        answering = Answering(
            protocol=protocol,
            members=self._await_current,
            timeout_s=self._config.eval.timeout_s,
            note=self._note,
            answered=answered,
            slots=slots,
        )
        return await answering.answers_to(prompts)

    async def lateness(self) -> str:
        """Say what the learner waits for, and what those workers say who have it."""
        return "a batch" if self._replay is None else await lateness(self._replay, self._members)

    async def stats(self) -> Metrics:
        """Sum the counters of all workers since the last call, of those that answer soon."""
        total: Metrics = {"faults/worker_restarts": float(self._unreported)}
        self._unreported = 0
        members = list(self._members.values())
        for member in members:
            if member.counters is None:
                member.counters = asyncio.ensure_future(member.process.handle.stats())
                member.asked_at = time.monotonic()
        waiting = [member.counters for member in members if member.counters is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=STATS_WAIT_S)
        for member in members:
            for name, value in (await self._counters_of(member)).items():
                total[name] = total.get(name, 0.0) + value
        return _of_evaluations(total) if self._is_aside else total

    async def _counters_of(self, member: Member) -> Metrics:
        """What it has answered, once; nothing while it is silent, and its end when that is long."""
        answer = member.counters
        if answer is None:
            return {}
        if not answer.done():
            silent_s = time.monotonic() - member.asked_at
            if silent_s > STATS_TIMEOUT_S:
                self._note(f"no counters from {member.id} for {silent_s:.0f} s; killing it")
                await self._processes.kill(member.process)
            return {}
        member.counters = None
        if answer.cancelled():  # the worker's life ended meanwhile
            return {}
        try:
            return answer.result()
        except Exception as error:  # noqa: BLE001  a dying worker: _keep_alive deals with it
            self._note(f"no counters from {member.id}: {one_line(error)}")
            return {}

    async def stop(self) -> None:
        """Let every worker end its loop; what is in flight is aborted."""
        self._stopping = True
        await asyncio.gather(
            *(
                within(STATS_TIMEOUT_S, member.process.handle.stop(), f"{member.id} to stop")
                for member in self._members.values()
            ),
            return_exceptions=True,
        )
        await self.close()

    async def close(self) -> None:
        """Watch the workers no longer; whoever owns the processes ends them."""
        self._stopping = True
        counters = [member.counters for member in self._members.values()]
        open_waits: list[asyncio.Future[Any]] = [wait for wait in counters if wait is not None]
        open_waits += self._tasks
        for wait in open_waits:
            wait.cancel()
        await asyncio.gather(*open_waits, return_exceptions=True)

    async def _hold_place(self, index: int) -> None:
        """Keep worker `index` alive; the run fails when every place was given up."""
        try:
            await self._keep_alive(index)
        except Exception as error:  # noqa: BLE001  the run must hear of it, whatever it is
            self._fail(error)
        self._places -= 1
        if self._places == 0 and not self._stopping:
            self._fail(
                OaplError(
                    f"every rollout worker died more than {self._deaths().limit}, the last one of "
                    f"{self._last_death}; see "
                    f"{self._config.folder / 'logs'}"
                )
            )

    async def _keep_alive(self, index: int) -> None:
        """Start worker `index`, and start it again each time it dies or its node leaves.

        Returns when it was told to stop, or died more often in a row than the policy allows.

        Raises:
            ProbeError: It disagrees with the learner.
            LostError: Replay, for which it collects, is lost.
            InputError: It cannot be started at all.
        """
        deaths = self._deaths()
        for incarnation in itertools.count():
            started = time.monotonic()
            try:
                await self._live(index, incarnation)
                return
            except (ProbeError, LostError):
                raise
            except Exception as error:
                if isinstance(error, InputError) and incarnation == 0:
                    raise  # every start would end the same way
                if self._stopping:
                    return
                if isinstance(error, DeadlineError) and index not in self._members:
                    what = "found no place"  # its node has left: no fault of the worker's
                else:
                    what = "died"
                    deaths.add(time.monotonic() - started)
                then = "not started again" if deaths.are_too_many else "restarting"
                self._unreported += 1
                self._last_death = one_line(error)
                self._note(f"worker {index}.{incarnation} {what} ({self._last_death}); {then}")
                if not deaths.are_too_many:
                    self._record(f"worker {index}", f"{what}: {self._last_death}")
                await self._discard(index, incarnation)
                if isinstance(error, WeightsError):
                    await self._let_go()
                if deaths.are_too_many:
                    return
                await asyncio.sleep(deaths.pause_s)

    def _deaths(self) -> Failures:
        return Failures(self._config.restarts.worker, "worker")

    async def _live(self, index: int, incarnation: int) -> None:
        """The life of one worker: it starts, loads, and collects until it is told to stop."""
        member = await self._start_member(index, incarnation)
        await self._watched(member, self._act(member))

    async def _live_idle(self, member: Member) -> None:
        """The life of one that only evaluates: it answers until it is told to stop."""
        try:
            await self._watched(member, member.process.handle.run())
        except Exception as error:  # noqa: BLE001  whatever it is, the worker is of no use
            if self._stopping:
                return
            self._last_death = one_line(error)
            self._note(f"{member.id} died ({self._last_death}); not started again")
            await self._discard(member.index, member.incarnation)
            async with self._changed:
                self._changed.notify_all()

    async def _watched(self, member: Member, act: Awaitable[None]) -> None:
        """Await what a worker does with its life, which ends when it answers no more."""
        acting = asyncio.ensure_future(act)
        listening = asyncio.ensure_future(self._end_if_silent(member))
        try:
            await asyncio.wait({acting, listening}, return_when=asyncio.FIRST_COMPLETED)
            (acting if acting.done() else listening).result()
        finally:
            for task in (acting, listening):
                task.cancel()
            await asyncio.gather(acting, listening, return_exceptions=True)

    async def _end_if_silent(self, member: Member) -> None:
        """Kill a worker that answers no more.

        Raises:
            DiedError: It has been.
        """
        silent_s = await self._pulse.silence_of(member.process)
        self._note(f"{member.id} has not answered for {silent_s:.0f} s; killing it")
        await self._processes.kill(member.process)
        raise DiedError(f"{member.id} did not answer and was killed")

    async def _act(self, member: Member) -> None:
        if self._has_own_weights:
            member.version = 0  # before the first learner step
        else:
            await self._load(member)
        self._lost_at = self._now()
        await member.process.handle.run(self._has_own_weights)

    async def _start_member(self, index: int, incarnation: int) -> Member:
        process = await self._processes.start(
            "worker",
            f"worker-{index}.{incarnation}",
            index=index,
            incarnation=incarnation,
            step=self._step,
            scorers=self._scorers,
            replay=self._replay,
        )
        self._members[index] = Member(index, incarnation, process)
        return self._members[index]

    async def _discard(self, index: int, incarnation: int) -> None:
        """End a worker whose life is over, and give what it had in flight back to replay."""
        self._lost_at = self._now()
        member = self._members.pop(index, None)
        if member is not None and self._weights and member.version == self._weights.version:
            await self._let_go()
        if member is not None:
            await self._processes.kill(member.process)
            if member.counters is not None:
                member.counters.cancel()
                await asyncio.gather(member.counters, return_exceptions=True)
        if self._replay is not None:
            await self._replay.release(WorkerId(index=index, incarnation=incarnation))

    async def _let_go(self) -> None:
        """Where nobody set aside holds the present weights any more, nobody loads them again."""
        if self._is_aside and not self._current():
            async with self._changed:
                self._weights = None
                self._changed.notify_all()

    async def _load(self, member: Member) -> None:
        """Bring a worker to the version that is current when the load ends."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._weights is not None)
        while self._weights is not None and member.version < self._weights.version:
            weights = self._weights
            report = await within(
                self._config.sync.timeout_s,
                member.process.handle.load(weights),
                f"{member.id} to load version {weights.version}",
            )
            async with self._changed:
                member.version = report.version
                if report.version == self._weights.version:
                    self._report = report
                self._changed.notify_all()

    async def _load_quietly(self, member: Member) -> None:
        async with self._changed:
            self._changed.notify_all()  # wakes a worker that waits for the first weights
        if member.version < 0:
            return  # _keep_alive is about to load
        try:
            await self._load(member)
        except ProbeError as error:
            self._fail(error)
        except DiedError:
            return  # _keep_alive tells of it
        except Exception as error:  # noqa: BLE001  a worker without the weights is of no use
            self._note(f"{member.id} did not load: {one_line(error)}; killing it")
            await self._processes.kill(member.process)

    def _current(self) -> list[Member]:
        version = self._weights.version if self._weights else -1
        return [member for member in self._members.values() if member.version == version]

    async def _await_current(self, dead: Sequence[Member]) -> list[Member]:
        """Those that hold the present weights, but for some that have died: nobody may have noticed
        that yet."""

        def living() -> list[Member]:
            return [one for one in self._current() if all(one is not other for other in dead)]

        async def some() -> None:
            async with self._changed:
                await self._changed.wait_for(lambda: living() or self._has_let_go)

        await within(self._config.sync.timeout_s, some(), "a worker with the current weights")
        if self._has_let_go:
            raise self._nobody_left()
        return living()

    def _nobody_left(self) -> DiedError:
        return DiedError(f"no engine is left that holds the weights ({self._last_death})")

    @property
    def _has_let_go(self) -> bool:
        """Whether the last worker that held the present weights is gone, and none will again."""
        if self._is_idle:
            return not self._members
        return self._is_aside and self._weights is None

    def _fail(self, error: Exception) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)


def _of_evaluations(total: Metrics) -> Metrics:
    """Counters of engines set aside: what they make is no rollout."""
    kept = {n: v for n, v in total.items() if n.startswith("faults/") or n in OF_ALL_ENGINES}
    busy = total.get("engine/busy_s", 0.0)
    tokens = total.get("rollout/tokens", 0.0)
    return {**kept, "engine/evaluation_busy_s": busy, "engine/evaluation_tokens": tokens}

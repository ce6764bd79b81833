"""Who still answers: a run's processes are asked again and again, beside whatever they do.

Invariants: a process that has not answered for `SILENCE_S` is noticed within `BEAT_S` more, whether
the learner waits or works; a silent reward server is replaced, a silent worker is its watcher's to
end, and without replay, Ray itself or the run folder this attempt cannot go on, which `failed` says
with the right name.
A server that is down is told once until it answers again, and by nobody else; while it starts anew
it has the time of a start.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from deploy.processes.base import Process, Processes
from deploy.processes.handles import AWAY
from deploy.run import folders, storage
from deploy.run.restarts import Failures
from oapl.config.restarts import RewardServerRestarts
from oapl.errors import DeadlineError, OaplError, ReplayError
from oapl.remote.waiting import in_thread_of_its_own, within
from oapl.tracking.restarts import Record, silent

BEAT_S = 5.0
SILENCE_S = 30.0
"""What does not answer for so long does not run: a call of `ping` takes milliseconds."""
PROBE_S = 5.0
"""For an answer when somebody is to be blamed now."""
REPLACED = "it had ended"
"""State of a reward server that answers, but from another process: it died between two questions.
"""
THERE, SILENT = "there", "silent"
"""States of a process that was asked; of one that has died it is the name of Ray's exception."""


class Pulse:
    """Asks the processes that it is given, and Ray.

    Args:
        processes: Knows how to ask.
        note: Is given lines for the person who watches.
        start_s: How long a process may take to start.
        record: Takes note of reward servers that are started again.
        folder: The run's, which is `folders.locked`; None: of nobody's concern.

    Attributes:
        failed: Set to an exception when what cannot be replaced has ended or is silent, or when
            somebody can be asked no more.
        replaced_at: When a process was last replaced, by the event loop's clock.
    """

    def __init__(
        self,
        processes: Processes,
        note: Callable[[str], None],
        start_s: float,
        record: Record = silent,
        folder: Path | None = None,
    ) -> None:
        self._record = record
        self._folder = folder
        self._processes = processes
        self._note = note
        self._start_s = start_s
        self._watched: dict[str, Process[Any]] = {}
        self._pids: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._policy = RewardServerRestarts()
        self._restarts = 0
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.replaced_at = float("-inf")

    def keep(
        self,
        replay: Process[Any] | None = None,
        rewards: Sequence[Process[Any]] = (),
        policy: RewardServerRestarts | None = None,
    ) -> None:
        """Begin to ask, until `close`: Ray and the folder always.

        Args:
            replay: The buffer, where there is one.
            rewards: The reward servers.
            policy: How often each of those is started again; None: the default.
        """
        self._policy = policy or self._policy
        keepers: list[Callable[[], Awaitable[None]]] = [self._keep_ray]
        if self._folder is not None:
            keepers.append(partial(self._keep_folder, self._folder))
        keepers += [partial(self._keep_reward, server) for server in rewards]
        if replay is not None:
            keepers.append(partial(self._keep_replay, replay))
        self._tasks += [asyncio.create_task(self._kept(keeper)) for keeper in keepers]

    async def silence_of(self, process: Process[Any], first_s: float = SILENCE_S) -> float:
        """Ask a process until it is silent; one that is dead says so to whoever waits for it.

        Args:
            process: Whom to ask.
            first_s: How long the first answer may take: longer, where it is just being started.

        Returns:
            For how many seconds it had been silent.
        """
        limit_s = first_s
        with self._watching(process):
            while await self._state(process, limit_s) != SILENT:
                limit_s = SILENCE_S
                await asyncio.sleep(BEAT_S)
        return limit_s

    async def silent(self) -> list[str]:
        """Ask everybody now; name those that do not answer within `PROBE_S`."""
        asked = [*self._watched.values()]
        states = await asyncio.gather(*(self._state(process, PROBE_S) for process in asked))
        return [
            process.name for process, state in zip(asked, states, strict=True) if state == SILENT
        ]

    def restarts(self) -> float:
        """Reward servers started again since the last call."""
        number, self._restarts = self._restarts, 0
        return float(number)

    async def close(self) -> None:
        """Ask nobody any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextlib.contextmanager
    def _watching(self, process: Process[Any]) -> Iterator[None]:
        self._watched[process.name] = process
        try:
            yield
        finally:
            self._watched.pop(process.name, None)

    async def _state(self, process: Process[Any], seconds: float) -> str:
        """`THERE`; `SILENT`, when it does not answer in time; or what Ray says of a dead one."""
        try:
            what = f"{process.name} to answer"
            self._pids[process.name] = await within(seconds, self._processes.ping(process), what)
        except DeadlineError:
            return SILENT
        except Exception as error:  # noqa: BLE001 - Ray raises what it likes for a dead actor
            return type(error).__name__
        return THERE

    async def _kept(self, keeper: Callable[[], Awaitable[None]]) -> None:
        try:
            await keeper()
        except Exception as error:  # noqa: BLE001 - who is asked no more could be lost unnoticed
            self._fail(error)

    async def _keep_ray(self) -> None:
        while (trouble := await self._processes.trouble()) is None:  # noqa: ASYNC110 - unannounced
            await asyncio.sleep(BEAT_S)
        self._fail(trouble)

    async def _keep_folder(self, folder: Path) -> None:
        """Writers would make it again, and the run would go on without what it was."""
        while await in_thread_of_its_own(partial(folders.is_there, folder)):  # noqa: ASYNC110 - unannounced
            await asyncio.sleep(BEAT_S)
        self._fail(storage.gone(folder))

    async def _keep_replay(self, replay: Process[Any]) -> None:
        with self._watching(replay):
            while (state := await self._state(replay, SILENCE_S)) in (THERE, AWAY):  # noqa: ASYNC110 - unannounced
                await asyncio.sleep(BEAT_S)
        how = f"has ended ({state}); see logs/{replay.name}.log in the run folder"
        if state == SILENT:
            how = f"has not answered for {SILENCE_S:.0f} s: it is stopped, or its machine is"
        who = f"{replay.name} (process {replay.pid}), which holds the buffer,"
        self._fail(ReplayError(f"{who} {how}"))

    async def _keep_reward(self, server: Process[Any]) -> None:
        loop = asyncio.get_running_loop()
        deaths, began = Failures(self._policy, "reward_server", loop.time), loop.time()
        limit_s, is_down, pid = SILENCE_S, False, server.pid
        with self._watching(server):
            while not deaths.are_too_many:
                state = await self._state(server, limit_s)
                is_other = state == THERE and self._pids[server.name] != pid
                if is_other and not is_down:
                    state = REPLACED
                if state in (SILENT, REPLACED) or (state != THERE and not is_down):
                    deaths.add(loop.time() - began)
                    await self._start_again(server, state, limit_s)
                if is_other:
                    pid, began = self._pids[server.name], loop.time()
                is_down = state not in (THERE, REPLACED)
                limit_s = self._start_s if is_down else SILENCE_S
                await asyncio.sleep(BEAT_S)
        log = f"logs/{server.name}.log in the run folder"
        self._fail(OaplError(f"{server.name} died or hung more than {deaths.limit}; see {log}"))

    async def _start_again(self, server: Process[Any], state: str, silent_s: float) -> None:
        """Ray does it by itself where the process has ended."""
        self._restarts += 1
        how = f"no answer for {silent_s:.0f} s" if state == SILENT else state
        self._record(server.name, how)
        if state != SILENT:
            then = "has started it again" if state == REPLACED else "starts it again"
            self._note(f"{server.name} is down ({state}); Ray {then}")
            return
        self._note(f"{server.name} has not answered for {silent_s:.0f} s; replacing it")
        await self._processes.replace(server)
        self.replaced_at = asyncio.get_running_loop().time()

    def _fail(self, why: Exception) -> None:
        if not self.failed.done():
            self.failed.set_exception(why)

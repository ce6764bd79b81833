"""A worker process as the server sees it: items go down, answers come up, a kill always works."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import signal
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

from oapl.errors import OaplError
from oapl.records import Prompt, Rollout
from reward_server.pool import frames

GRACE_S = 0.05
FORGED: dict[str, Any] = {"first": -1}
"""Stands for what was no answer: out of turn, whatever turn it is."""

log = logging.getLogger(__name__)


class PoolError(OaplError, RuntimeError):
    """No worker process could judge: our fault, not the answer's.

    Args:
        message: What failed, and why.
        is_killed: See below.

    Attributes:
        is_killed: A process was killed before it said what is wrong: another may do better.
    """

    def __init__(self, message: str, *, is_killed: bool = False) -> None:
        super().__init__(message)
        self.is_killed = is_killed


class PoolWorker(asyncio.Protocol):
    """A forked process that judges; answers come in the order of the items sent.

    Attributes:
        pid: The operating system's process id.
        num_sent: Items given to it so far.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.pid = 0
        self.num_sent = 0
        self.page = frames.StartedCounter.descriptor()
        self._started = frames.StartedCounter(self.page)
        self._pidfd = -1
        self._transport: asyncio.Transport | None = None
        self._parser = frames.FrameParser()
        self._frames: deque[dict[str, Any]] = deque()
        self._is_gone = False
        self._news = asyncio.Event()

    @property
    def is_gone(self) -> bool:
        """Whether the process has ended or was killed."""
        return self._is_gone

    @property
    def num_started(self) -> int:
        """Items it has started on so far, by its own account."""
        return self._started.count

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`; what is no frame ends the worker."""
        try:
            self._frames.extend(self._parser.feed(data))
        except frames.Malformed as error:
            log.warning("a %s worker sent %s; it is replaced", self.name, error)
            self._frames.append(FORGED)
            self.kill()
        self._news.set()

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._is_gone = True
        self._news.set()

    def adopt(self, pid: int, pidfd: int) -> None:
        """Take charge of the process, once it is forked.

        Args:
            pid: Its process id.
            pidfd: A descriptor that names this very process; closed by `kill`.
        """
        self.pid, self._pidfd = pid, pidfd

    def send(self, body: object) -> None:
        """Send one of our own objects, pickled."""
        assert self._transport is not None
        self._transport.write(frames.pack(pickle.dumps(body, pickle.HIGHEST_PROTOCOL)))

    def submit(self, items: Sequence[tuple[Prompt, Rollout]]) -> None:
        """Send items to be judged, in this order."""
        self.num_sent += len(items)
        self.send(items)

    async def frame(self, timeout_s: float) -> dict[str, Any] | None:
        """Wait for the next frame; None when the process is gone.

        Raises:
            TimeoutError: None came in time. What had arrived while this event loop was busy
                elsewhere is not late: timers may fire before sockets are read, so there is a
                moment of grace to read them.
        """
        for seconds in (max(timeout_s, 0.0), GRACE_S):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while not self._frames and not self._is_gone:
                        self._news.clear()
                        await self._news.wait()
                return self._frames.popleft() if self._frames else None
        raise TimeoutError(f"worker {self.pid} of {self.name} did not answer in {timeout_s:g} s")

    def resident_bytes(self) -> int:
        """Memory in use, pages shared with the fork server included; 0 when the process is gone."""
        try:
            with open(f"/proc/{self.pid}/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return 0

    def close_page(self) -> None:
        """Close the page's descriptor, which is needed for the fork alone; the mapping stays."""
        if self.page >= 0:
            os.close(self.page)
            self.page = -1

    def kill(self) -> None:
        """Send SIGKILL, and forget the process. The fork server reaps it."""
        self._is_gone = True
        self.close_page()
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._transport is not None:
            self._transport.abort()

"""The reward server's side of its processes: a fork server, and workers, each killable at will.

Workers are named by pidfd, so that a kill can hit no other process. When the fork server dies its
workers die with it, and the next start makes another. Waits use `asyncio.timeout`: `wait_for` of
Python 3.11 loses a cancellation that comes together with the result, and closing would wait for
ever.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

from reward_server.pool.fork_server import Setup
from reward_server.pool.handle import PoolError, PoolWorker
from reward_server.verifiers.base import START_TIMEOUT_S

FORK_TIMEOUT_S = 20.0
REPORT_TIMEOUT_S = 1.0
FORGET_AFTER_S = 10.0
SEND_BUFFER_BYTES = 1 << 20
ROOT = Path(__file__).parents[2]
MAIN = "from reward_server.pool.fork_server import main; main()"
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

log = logging.getLogger(__name__)


class Forks:
    """The fork server as the reward server sees it; restarted when it is found dead.

    Args:
        setup: What each fork server is started with; the first starts at once.

    Attributes:
        num_restarts: Fork servers that were started in the place of a dead one.
        level: How far its workers' jail was found to hold, one of `jail.LEVELS`.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pids: deque[asyncio.Future[tuple[int, int]]] = deque()
        self._codes: dict[int, asyncio.Future[int | None]] = {}
        self._starting = asyncio.Lock()
        self._hello: asyncio.Future[dict[str, Any]] | None = None
        self._dead: list[subprocess.Popen[bytes]] = []
        self.num_restarts = 0
        self.level = "none"
        self._control, self._process = self._spawn()

    @property
    def pid(self) -> int:
        """Process id of the present fork server."""
        return self._process.pid

    async def fork(self, name: str, timeout_s: float = START_TIMEOUT_S) -> PoolWorker:
        """Start a worker, and wait until it is locked up.

        Args:
            name: Of its verifier.
            timeout_s: Longest wait for it, once it is forked.

        Raises:
            PoolError: It could not be started; the message says why.
        """
        await self._ready()
        worker = PoolWorker(name)
        try:
            await self._fork(worker, name)
            worker.send(dict(os.environ))
            hello = await worker.frame(timeout_s)
            if hello is None or "ready" not in hello:
                code = None if hello else await self.exit_code(worker.pid)
                why = hello.get("failed", "") if hello else f"its process ended with code {code}"
                raise PoolError(
                    f"a worker for the verifier {name} could not start: {why}",
                    is_killed=not hello and code in (None, -signal.SIGKILL),
                )
        except BaseException as error:
            worker.kill()
            if isinstance(error, TimeoutError) and worker.pid:
                raise PoolError(
                    f"a worker for the verifier {name} was not ready in {timeout_s:g} s"
                ) from error
            if isinstance(error, TimeoutError | OSError):
                raise PoolError(f"a worker for the verifier {name}: {error!r}") from error
            raise
        return worker

    async def exit_code(self, pid: int) -> int | None:
        """Wait a moment for a worker's exit code, negative for a signal; None if it is not told."""
        code = self._codes.get(pid)
        if code is None:
            return None
        try:
            async with asyncio.timeout(REPORT_TIMEOUT_S):
                return await asyncio.shield(code)
        except TimeoutError:
            return None
        finally:
            self._codes.pop(pid, None)

    async def close(self) -> None:
        """End the fork server and wait for it."""
        self._drop_server()
        for process in (self._process, *self._dead):
            await asyncio.to_thread(_end, process)

    def _spawn(self) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        """Start the process (vfork and exec: safe beside threads); its set-up is a file."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        kept = {key: os.environ[key] for key in _KEPT_VARIABLES if key in os.environ}
        environment = {**kept, "PYTHONPATH": str(ROOT), **dict.fromkeys(_ONE_THREAD, "1")}
        with theirs, tempfile.TemporaryFile() as setup:
            pickle.dump(self._setup, setup)
            setup.seek(0)
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", MAIN, str(theirs.fileno())],
                stdin=setup,
                pass_fds=[theirs.fileno()],
                env=environment,
                start_new_session=True,  # a signal that asks the run to stop is not for us
            )
        ours.setblocking(False)
        return ours, process

    async def _ready(self) -> None:
        """Wait for the fork server's first word; start another one if it is dead.

        Raises:
            PoolError: It does not start.
        """
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise RuntimeError("a reward server belongs to the event loop that first called it")
        async with self._starting:
            if self._control.fileno() < 0:
                self.num_restarts += 1
                self._dead = [process for process in self._dead if process.poll() is None]
                self._dead.append(self._process)
                self._control, self._process = await asyncio.to_thread(self._spawn)
            if self._hello is None:
                self._loop, self._hello = loop, loop.create_future()
                loop.add_reader(self._control, self._read)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                hello = await asyncio.shield(self._hello)
        except TimeoutError as error:
            self._drop_server()
            raise PoolError(
                f"the fork server of the reward server was not ready in {START_TIMEOUT_S:.0f} s"
            ) from error
        if "error" in hello:
            raise PoolError(
                f"the fork server of the reward server could not start: {hello['error']}",
                is_killed=hello.get("killed", False),
            )

    async def _fork(self, worker: PoolWorker, name: str) -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        await loop.create_unix_connection(lambda: worker, sock=ours)
        promise: asyncio.Future[tuple[int, int]] = loop.create_future()
        with theirs:
            descriptors = array.array("i", [theirs.fileno(), worker.page])
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
            self._control.sendmsg([json.dumps({"fork": name}).encode()], ancillary)
        self._pids.append(promise)
        worker.close_page()
        async with asyncio.timeout(FORK_TIMEOUT_S):
            worker.adopt(*await promise)

    def _read(self) -> None:
        """Everything that the fork server has said; called by the event loop."""
        while True:
            try:
                text, descriptors, _, _ = socket.recv_fds(self._control, 8192, 1)
            except BlockingIOError:
                return
            except OSError:
                text, descriptors = b"", []
            if not text:
                self._drop_server()
                return
            self._hear(json.loads(text), descriptors)

    def _hear(self, message: dict[str, Any], descriptors: list[int]) -> None:
        assert self._loop is not None
        if "pid" in message:
            self._codes[message["pid"]] = self._loop.create_future()
            promise = self._pids.popleft()
            if promise.done():  # whoever asked has given up
                signal.pidfd_send_signal(descriptors[0], signal.SIGKILL)
                os.close(descriptors[0])
            else:
                promise.set_result((message["pid"], descriptors[0]))
        elif "exit" in message:
            code = self._codes.get(message["exit"])
            if code is not None and not code.done():
                code.set_result(message["code"])
                self._loop.call_later(FORGET_AFTER_S, self._codes.pop, message["exit"], None)
        elif self._hello is not None and not self._hello.done():
            self._hello.set_result(message)
            self.level = message.get("level", "none")
            log.info("%s", message.get("report") or message.get("error"))

    def _drop_server(self) -> None:
        """The fork server is dead, or is to die: kill it; its workers die with it."""
        if self._control.fileno() < 0:
            return
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._control)
        self._control.close()
        if self._process.returncode is None:  # so that the number is its own still
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # with what workers have started
        gone = PoolError("the fork server of the reward server died", is_killed=True)
        for promise in self._pids:
            if not promise.done():
                promise.set_exception(gone)
        self._pids.clear()
        if self._hello is not None and not self._hello.done():
            why = "it ended before it was ready; see the log"
            self._hello.set_result({"error": why, "killed": True})
        self._hello = None
        for code in self._codes.values():
            if not code.done():
                code.set_result(None)
        self._codes.clear()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(timeout=10)

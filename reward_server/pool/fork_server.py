"""The fork server: a plain process with one thread that builds the verifiers and forks workers.

Started by `reward_server.pool.forks`, set-up on standard input. It runs no model's text, answers
in milliseconds, reaps its children, and ends when its control socket closes: kill -9 of the server
leaves nothing behind. Forking from the server itself is never safe (Ray's threads hold locks).
What a worker has started and left behind at its end becomes a child of this process, which ends it.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import pickle
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from oapl.config import plugins
from oapl.interfaces import Verifier
from reward_server.pool import frames, worker
from reward_server.pool.output import WorkerOutput
from reward_server.sandbox import probe
from reward_server.verifiers import base
from reward_server.verifiers.base import VERIFIERS, Limits, Traits, VerifierFile

SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a fork server is started with.

    Attributes:
        path: The server's module search path.
        verifiers: Name to plugin file and options.
        programs: Level of the sandbox for programs, with which unjailed verifiers are started; None
            where no verifier runs any.
    """

    path: list[str]
    verifiers: Mapping[str, tuple[str, Mapping[str, Any]]]
    programs: str | None = None

    def limits(self) -> dict[str, Limits]:
        """What the workers of each verifier are held to."""
        return {name: file.DECLARES.limits(own) for name, file, own in self.files()}

    def files(self) -> Iterator[tuple[str, VerifierFile, Any]]:
        """Name, plugin file and its `Config` of each verifier."""
        for name, (plugin, options) in self.verifiers.items():
            file = VERIFIERS.load(plugin, "reward.verifiers")
            yield name, file, plugins.parse(file.Config, options, f"reward.options.{name}.")


class ForkServer:
    """Builds the verifiers, then forks a worker for each request on its control socket.

    Args:
        control: Socket to the reward server, one message a packet.
        setup: The verifiers, and what the workers are held to.
    """

    def __init__(self, control: socket.socket, setup: Setup) -> None:
        self._control = control
        self._output = WorkerOutput()
        self._workers: set[int] = set()
        self._verifiers: dict[str, tuple[Verifier, Traits]] = {}
        self._limits = setup.limits()
        for name, file, own in setup.files():
            built = base.build(file, own)
            file.DECLARES.warm(built)
            self._verifiers[name] = built, file.DECLARES
        report = probe.probe()
        self._levels = {
            True: report.level,
            False: setup.programs or "none",
        }  # by `is_jailed`
        gc.collect()
        gc.freeze()  # collections in workers must not touch, and so copy, shared pages
        self._say({"ready": True, "level": report.level, "report": str(report)})

    def serve(self) -> None:
        """Fork and reap until the server closes its end; does not return."""
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        wakeup, alarm = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(alarm)
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(wakeup, selectors.EVENT_READ)
            selector.register(self._output.reader, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj == wakeup:
                        os.read(wakeup, 4096)
                        self._reap()
                    elif key.fileobj == self._output.reader:
                        self._output.forward()
                    elif not self._request():
                        self._output.drain()
                        os.killpg(0, signal.SIGKILL)  # workers, what they have started, and this

    def _request(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self._control, 4096, 2)
        if not message:
            return False
        name = json.loads(message)["fork"]
        connection, page = socket.socket(fileno=descriptors[0]), descriptors[1]
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_worker(connection, page, name, parent)
        connection.close()
        os.close(page)
        self._workers.add(pid)
        pidfd = os.pidfd_open(pid)  # before the child can be reaped: it names this very process
        self._say({"pid": pid}, [pidfd])
        os.close(pidfd)
        return True

    def _become_worker(self, connection: socket.socket, page: int, name: str, parent: int) -> None:
        """Never returns: whatever happens, a forked child must not run this loop."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            started = frames.StartedCounter(page)
            self._output.become()
            _close_others(connection.fileno())
            limits = self._limits[name]
            verifier, traits = self._verifiers[name]
            worker.run(
                connection,
                started,
                verifier,
                start=partial(traits.start, verifier),
                limits=limits,
                level=self._levels[limits.is_jailed],
                parent=parent,
            )
            status = 0
        except OSError:  # the server is gone
            status = 0
        except BaseException:  # noqa: BLE001 - the process ends here, with its traceback
            traceback.print_exc()
        finally:
            os._exit(status)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    self._end_left_behind()
                    return
                if pid in self._workers:
                    self._workers.remove(pid)
                    self._say({"exit": pid, "code": os.waitstatus_to_exitcode(status)})

    def _end_left_behind(self) -> None:
        """End children that are no workers: one of those has started them and died."""
        for pid in _children():
            if pid not in self._workers:
                os.kill(pid, signal.SIGKILL)

    def _say(self, message: Mapping[str, Any], descriptors: list[int] | None = None) -> None:
        socket.send_fds(self._control, [json.dumps(message).encode()], descriptors or [])


def _children() -> list[int]:
    """Of this process, whose only thread has started them all, or been given them by the kernel."""
    with suppress(OSError), open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]
    return []  # a kernel without that list


def _close_others(kept: int) -> None:
    os.closerange(3, kept)
    os.closerange(kept + 1, 1024)


def main() -> None:
    """Run the fork server; the control socket's descriptor is the first argument."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    setup: Setup = pickle.load(sys.stdin.buffer)
    sys.path[:] = setup.path
    importlib.invalidate_caches()
    try:
        server = ForkServer(control, setup)
    except Exception as error:  # noqa: BLE001 - told to the server, which makes it a failure
        traceback.print_exc()
        text = f"{type(error).__name__}: {error}"[:2000]
        control.send(json.dumps({"error": text}).encode())
        return
    with suppress(ConnectionError):
        server.serve()

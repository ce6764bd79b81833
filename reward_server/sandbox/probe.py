"""Tries the jail out: what counts is what a jailed child could not do, not what was switched on."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from reward_server.sandbox import jail, landlock

PROBE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class JailReport:
    """What the jail held against.

    Attributes:
        level: One of `jail.LEVELS`.
        abi: Landlock's ABI; 0 where there is none.
        denied: Attempt to whether it was refused.
        error: Why the child could not be jailed at all.
    """

    level: str
    abi: int
    denied: dict[str, bool]
    error: str = ""

    def __str__(self) -> str:
        through = [attempt for attempt, refused in self.denied.items() if not refused]
        text = f"reward sandbox: level {self.level}, Landlock ABI {self.abi}"
        text += f"; not stopped: {', '.join(through)}" if through else ""
        return text + (f"; {self.error}" if self.error else "")


def probe() -> JailReport:
    """Fork a child, jail it, let it try; call it from a process with a single thread."""
    reader, writer = os.pipe()
    with (
        tempfile.TemporaryDirectory(prefix="oapl-probe-") as folder,
        contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener,
    ):
        secret = os.path.join(folder, "secret")
        with open(secret, "w") as file:
            file.write("secret")
        child = os.fork()
        if child == 0:
            _child(writer, secret, listener.getsockname()[1])
        os.close(writer)
        text = _answer(reader, child)
    if not text.startswith("{"):
        return JailReport("none", landlock.abi(), {}, text or "the probe's child died")
    denied = json.loads(text)
    return JailReport(_level(denied), landlock.abi(), denied)


def _level(denied: dict[str, bool]) -> str:
    if not all(denied[attempt] for attempt in ("read", "write", "connect")):
        return "none"
    return "landlock+seccomp" if denied["socket"] and denied["fork"] else "landlock"


def _child(writer: int, secret: str, port: int) -> None:
    try:
        jail.enter()
        attempts: dict[str, Callable[[], object]] = {
            "read": lambda: os.close(os.open(secret, os.O_RDONLY)),
            "write": lambda: os.close(os.open(secret + "2", os.O_WRONLY | os.O_CREAT)),
            "connect": lambda: socket.create_connection(("127.0.0.1", port), 2).close(),
            "socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
            "fork": _fork,
            "signal": lambda: os.kill(os.getppid(), 0),
        }
        text = json.dumps({name: _is_denied(attempt) for name, attempt in attempts.items()})
    except OSError as error:
        text = str(error)
    os.write(writer, text.encode())
    os._exit(0)


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _is_denied(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return True
    return False


def _answer(reader: int, child: int) -> str:
    ready, _, _ = select.select([reader], [], [], PROBE_TIMEOUT_S)
    text = os.read(reader, 65536).decode() if ready else ""
    os.close(reader)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return text

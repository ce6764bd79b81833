"""Runs attacks: in a world with something to steal, beside listeners that must hear nothing."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from reward_server.sandbox.command import ROOT
from reward_server.sandbox.levels import LAYERS_OF_LEVEL, LEVELS, Layers
from reward_server.sandbox.runner import Sandbox, SandboxError
from reward_server.verifiers import code
from tests.attacks.catalogue import SQUARES, Attack, Forgery, Odd
from tests.support.judging import prompt, rollout

TOKEN = "correct horse battery staple"
ENDLESS_S, TIME_S = 1.0, 60.0
LATE_S = ENDLESS_S + 1.5  # the kill, a second of patience, a new jail
MAX_OUTPUT = 1 << 20


class World:
    """What attacks are after; `traces` says what they did to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.chmod(0o777)
        self._sockets = [self._tcp(), self._udp(), *self._local()]
        self._names = {
            "SECRET": str(folder / "secret"),
            "VICTIM": str(folder / "victim"),
            "FOLDER": str(folder),
            "PORT": str(self._sockets[0].getsockname()[1]),
            "UDP": str(self._sockets[1].getsockname()[1]),
            "UNIX": str(folder / "socket"),
            "ABSTRACT": f"oapl-{os.getpid()}",
            "PARENT": str(os.getpid()),
            "HOSTNAME": os.uname().nodename,
            "ROOT": ROOT,
        }
        for name in ("secret", "victim"):
            (folder / name).write_text(TOKEN)
            (folder / name).chmod(0o666)
        (folder / "socket").chmod(0o777)
        self._before = self._state()

    def source(self, attack: Attack) -> str:
        text = attack.source
        for name, value in self._names.items():
            text = text.replace(name, value)
        return text

    def traces(self) -> list[str]:
        """What has changed since the last look; the world is put back as it was."""
        found = []
        if self._state() != self._before:
            found.append("the folder has changed")
            for path in self.folder.iterdir():
                if path.name not in ("secret", "victim", "socket"):
                    path.unlink() if not path.is_dir() or path.is_symlink() else path.rmdir()
            (self.folder / "victim").write_text(TOKEN)
            (self.folder / "victim").chmod(0o666)
            self._before = self._state()
        for listener in self._sockets:
            with contextlib.suppress(BlockingIOError):
                if listener.type == socket.SOCK_STREAM:
                    listener.accept()[0].close()
                else:
                    listener.recv(100)
                found.append("a listener heard something")
        for path in ("/tmp/oapl-attack", "/dev/shm/oapl-attack"):
            if os.path.exists(path):
                os.unlink(path)
                found.append(path)
        return found

    def close(self) -> None:
        for listener in self._sockets:
            listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _state(self) -> list[tuple[object, ...]]:
        names = sorted(self.folder.iterdir())
        stats = [path.lstat() for path in names]
        return [
            (path.name, s.st_mode, s.st_size, s.st_mtime, s.st_nlink)
            for path, s in zip(names, stats, strict=True)
        ]

    def _tcp(self) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        return listener

    def _udp(self) -> socket.socket:
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        return listener

    def _local(self) -> Iterator[socket.socket]:
        name = f"\0oapl-{os.getpid()}"
        for address, kind in (
            (str(self.folder / "socket"), socket.SOCK_STREAM),
            (name, socket.SOCK_STREAM),
            (name + ".dgram", socket.SOCK_DGRAM),
        ):
            listener = socket.socket(socket.AF_UNIX, kind)
            listener.bind(address)
            if kind == socket.SOCK_STREAM:
                listener.listen()
            listener.setblocking(False)
            yield listener


@contextlib.contextmanager
def world() -> Iterator[World]:
    made = World(Path(tempfile.mkdtemp(prefix="oapl-world-")))
    os.environ["OAPL_SECRET"] = TOKEN
    try:
        yield made
    finally:
        del os.environ["OAPL_SECRET"]
        made.close()


def applies(program: Attack | Odd, level: str) -> bool:
    """Whether a level claims to stop an attack, or to run an odd program, on this machine."""
    architecture = program.architecture if isinstance(program, Attack) else ""
    is_at_level = LEVELS.index(level) >= LEVELS.index(program.at_least)
    return is_at_level and architecture in ("", platform.machine())


def succeeds(attack: Attack, sandbox: Sandbox, surroundings: World) -> str:
    """How an attack got through; empty if it did not."""
    sandbox.script("# MARK" + "ER\n", b"", deadline=time.monotonic() + TIME_S, max_output=100)
    started = time.monotonic()
    output = b""
    try:
        output = sandbox.script(
            surroundings.source(attack),
            b"",
            deadline=started + (ENDLESS_S if attack.is_endless else TIME_S),
            max_output=MAX_OUTPUT,
        ).output
    except SandboxError as error:
        return f"the jail: {error}"
    late = time.monotonic() - started
    found = surroundings.traces()
    if b"THROUGH" in output:
        found.append("it said so")
    if TOKEN.encode() in output:
        found.append("it has the secret")
    if attack.is_endless and late > LATE_S:
        found.append(f"it took {late:.1f} s")
    if not _still_works(sandbox):
        found.append("the next program failed")
    return ", ".join(found)


def _still_works(sandbox: Sandbox) -> bool:
    try:
        ending = sandbox.script(
            "print(input())", b"7", deadline=time.monotonic() + TIME_S, max_output=100
        )
    except SandboxError:
        return False
    return ending.output == b"7\n" and ending.status == 0


@contextlib.contextmanager
def sandbox(layers: Layers) -> Iterator[Sandbox]:
    made = Sandbox(layers)
    made.start()
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def verifier(level: str, total_s: float = 2.0) -> Iterator[code.CodeVerifier]:
    """A verifier of programs; `total_s` is for what ends late or never, which costs all of it."""
    made = code.build(code.Config(total_s=total_s))
    made.start(level)
    try:
        yield made
    finally:
        made.close()


def reward_of(forgery: Forgery, judge: code.CodeVerifier) -> float:
    asked = prompt(SQUARES[forgery.tests], {"code": 1.0})
    return judge.verify(asked, rollout(f"```python\n{forgery.source}\n```")).reward


def verdict_on(odd: Odd, judge: code.CodeVerifier):
    asked = prompt({"tests": {"inputs": [odd.stdin], "outputs": [odd.expected]}}, {"code": 1.0})
    return judge.verify(asked, rollout(f"```python\n{odd.source}\n```"))


def without(layer: str) -> Layers:
    """All layers but one."""
    import dataclasses

    off: dict[str, object] = {layer: "" if layer == "seccomp" else False}
    return dataclasses.replace(LAYERS_OF_LEVEL["namespaces"], **off)  # type: ignore[arg-type]


def only(layer: str) -> Layers:
    """No layer but one."""
    nothing = {"namespaces": False, "landlock": False, "seccomp": "", "user": False}
    on: dict[str, object] = {layer: "open" if layer == "seccomp" else True}
    return Layers(**{**nothing, "limits": False, **on})  # type: ignore[arg-type]

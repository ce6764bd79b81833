"""What a run leaves behind: processes, ports and shared memory, told apart from those of others.

A process of a run is known by a variable of its environment, which its children inherit, or, where
they get another environment, by its parent; a file of shared memory by a process of the run that
has it open or mapped; a port by one that listens there.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

SHM = "/dev/shm/"
DELETED = " (deleted)"
LISTENS = "0A"
"""The state of a socket in /proc/net/tcp."""


class Remains:
    """Watches a run's processes.

    Args:
        mark: VARIABLE=VALUE in their environment.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode()
        self._born: dict[int, str] = {}
        self._files: set[str] = set()
        self._sockets: set[str] = set()

    def processes(self) -> dict[int, str]:
        """Those that live, with their commands; what has ended and is not collected is none."""
        found: dict[int, str] = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # gone meanwhile
                pid = int(process.name)
                is_marked = self._mark in (process / "environ").read_bytes().split(b"\0")
                if is_marked or (pid in self._born and self._born[pid] == born(pid)):
                    command = (process / "cmdline").read_text().replace("\0", " ").strip()
                    if command:  # a zombie has none
                        found[pid] = command
        return found

    def look(self) -> None:
        """Note the shared memory and the ports that they have now."""
        for pid in self.processes():
            for child in (pid, *below(pid)):
                with contextlib.suppress(OSError):
                    self._born[child] = born(child)
        for pid in self._born:
            self._files |= set(_shared(pid))
            self._sockets |= _sockets(pid)

    def left(self, seconds: float) -> list[str]:
        """What is still there after so long; empty as soon as nothing is."""
        deadline = time.monotonic() + seconds
        while (found := self._left()) and time.monotonic() < deadline:
            time.sleep(0.5)
        return found

    def _left(self) -> list[str]:
        processes = [f"process {pid}: {name}" for pid, name in self.processes().items()]
        files = [file for file in sorted(self._files) if os.path.exists(file)]
        ports = [
            f"port {port}" for inode, port in _listening().items() if inode in self._sockets
        ]  # the very socket: another run may listen at the same port since
        return processes + files + ports


def below(pid: int) -> list[int]:
    """The processes below one."""
    found = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, thread.read_text().split()):
                found += [child, *below(child)]
    return found


def is_alive(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def born(pid: int) -> str:
    """When it began: another process may get its number."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def _shared(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if SHM in line and not line.endswith(DELETED):
                yield line[line.index(SHM) :]
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = os.readlink(descriptor)
                if target.startswith(SHM) and not target.endswith(DELETED):
                    yield target


def _listening() -> dict[str, int]:
    """Ports by the inode of the socket that listens there."""
    found: dict[str, int] = {}
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                parts = line.split()
                if parts[3] == LISTENS:
                    found[parts[9]] = int(parts[1].rpartition(":")[2], 16)
    return found


def _sockets(pid: int) -> set[str]:
    """Inodes of those that a process has."""
    mine = set()
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = os.readlink(descriptor)
                if target.startswith("socket:["):
                    mine.add(target[8:-1])
    return mine

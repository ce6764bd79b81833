"""What each process of a run holds, read from /proc every few seconds by a thread of its own."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tests.chaos.chain import Chain
from tests.chaos.remains import below, born
from tests.soak.slopes import Sample

BEAT_S = 5.0
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
SERVERS = {"gcs_server": "GCS", "raylet": "raylet", "wandb-core": "W&B"}
"""Roles of programs that the command starts."""


class Sampler:
    """Writes samples into a file, a line each, until it is closed.

    Args:
        chain: Whose processes.
        file: Is added to.
    """

    def __init__(self, chain: Chain, file: Path) -> None:
        self._chain, self._file = chain, file
        self._began = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Sample no more."""
        self._over.set()
        self._thread.join(4 * BEAT_S)

    def _run(self) -> None:
        while not self._over.wait(BEAT_S):
            at_s = time.monotonic() - self._began
            found = [sample for pid, role in roles(self._chain) for sample in _of(pid, role, at_s)]
            with self._file.open("a") as file:
                file.writelines(f"{json.dumps(asdict(sample))}\n" for sample in found)


def read(file: Path) -> list[Sample]:
    """Read what a sampler wrote; a line that a kill has torn is none."""
    found = []
    for line in file.read_text().splitlines() if file.exists() else ():
        with contextlib.suppress(ValueError):
            found.append(Sample(**json.loads(line)))
    return found


def roles(chain: Chain) -> Iterator[tuple[int, str]]:
    """The run's processes that live, each with what it is."""
    if not chain.is_alive or chain.process is None:
        return
    named = {chain.process.pid: "the command"}
    with contextlib.suppress(OSError, ValueError):
        named |= {pid: role_of(name) for name, pid in chain.pids().items()}
    for pid in below(chain.process.pid):
        program = Path(_command(pid).partition(" ")[0]).name
        named.setdefault(pid, SERVERS.get(program, "other"))
    for pid, role in [*named.items()]:
        if role == "reward server":
            for child in below(pid):
                is_first = "fork_server" in _command(child) and pid == _parent(child)
                named[child] = "fork server" if is_first else "judging process"
    yield from named.items()


def role_of(name: str) -> str:
    """Of a process by its name in `processes.json`: its number and incarnation left out."""
    role = name.partition("-")[0]
    known = {"worker": "rollout worker", "trainer": "learner rank", "reward": "reward server"}
    return known.get(role, role)


def _of(pid: int, role: str, at_s: float) -> Iterator[Sample]:
    with contextlib.suppress(OSError, IndexError, ValueError):  # it has ended meanwhile
        process = Path(f"/proc/{pid}")
        pages = (process / "statm").read_text().split()
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        start = born(pid)
        uptime_s = float(Path("/proc/uptime").read_text().split()[0])
        yield Sample(
            at_s=round(at_s, 2),
            role=role,
            life=f"{pid}@{start}",
            age_s=round(uptime_s - int(start) / TICKS, 2),
            rss=int(pages[1]) * PAGE,
            descriptors=len(os.listdir(process / "fd")),
            threads=int(status["Threads"]),
            shm=int(status.get("RssShmem", "0 kB").split()[0]) * 1024,
        )


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""

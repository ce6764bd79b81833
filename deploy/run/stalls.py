"""Waits that last: told before their deadline, with who is awaited and what they last said.

    learner: 40 s for 3 groups of version 120; worker 1 has 2 of them, last token 38 s ago

Invariants: a wait is told when it has been silent for `sync.stall_s`, or for half of what it may
last, but not before it has lasted some times as long as any of its kind that ended well; then each
time its silence has doubled. When `NEARLY` all of its time is gone, the stacks of all processes are
written, and the error that ends it names the file. While nothing is stuck this reads a short list
every `BEAT_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import IO

from deploy.processes import stacks
from deploy.processes.base import Processes
from oapl.remote.open_waits import OPEN, OpenWait, OpenWaits

BEAT_S = 1.0
NEARLY = 0.9
UNUSUAL = 3.0
"""A wait that lasts so many times as long as any before it is told."""
SHORTEST_S = 10.0
"""Waits that may last no longer are not looked at."""
DESCRIBE_S = 5.0
"""For those who are awaited to say what they are at."""
CLOSE_S = 10.0
"""For stacks to be written when the run has ended meanwhile."""
STANDSTILL_S = 60.0
"""When the run's own event loop has stood still for so long, its stacks are written too."""
STANDSTILL = "standstill.txt"


class Stalls:
    """Looks at the waits of the run's own process.

    Args:
        stall_s: `sync.stall_s`.
        folder: The run's.
        note: Is given lines for the person who watches.
        write: Writes everybody's stacks into a file, and why.
        waits: Those of this process.
    """

    def __init__(
        self,
        stall_s: float,
        folder: Path,
        note: Callable[[str], None],
        write: Callable[[Path, str], Awaitable[None]],
        waits: OpenWaits = OPEN,
    ) -> None:
        self._stall_s = stall_s
        self._folder = folder
        self._note = note
        self._write = write
        self._waits = waits
        self._writing: asyncio.Task[None] | None = None
        self._path = folder

    async def look(self) -> None:
        """Look once at all waits."""
        for wait in self._waits:
            if wait.limit_s > SHORTEST_S:
                await self._look_at(wait)

    async def _look_at(self, wait: OpenWait) -> None:
        now = asyncio.get_running_loop().time()
        silent_s, lasted_s = now - wait.heard_at, now - wait.began
        if wait.told_at < wait.heard_at:
            is_due = silent_s >= self._patience_s(wait)
        else:
            is_due = silent_s >= 2 * (wait.told_at - wait.heard_at)
        if is_due:
            wait.told_at = now
            self._note(await self._line(wait))
        if lasted_s >= NEARLY * wait.limit_s and wait.stacks is None:
            self._write_stacks(wait, lasted_s)

    def _patience_s(self, wait: OpenWait) -> float:
        usual_s = UNUSUAL * self._waits.usual_s.get(wait.kind, 0.0)
        return max(min(self._stall_s, wait.limit_s / 2), min(usual_s, NEARLY * wait.limit_s))

    async def _line(self, wait: OpenWait) -> str:
        text = wait.what
        if wait.describe is not None:
            try:
                async with asyncio.timeout(DESCRIBE_S):
                    text = await wait.describe()
            except Exception as error:  # noqa: BLE001 - who cannot be asked is told as such
                text = f"{wait.what}, and nobody says why ({type(error).__name__})"
        lasted_s = asyncio.get_running_loop().time() - wait.began
        return f"{wait.who}: {lasted_s:.0f} s for {text} (at most {wait.limit_s:g} s)"

    def _write_stacks(self, wait: OpenWait, lasted_s: float) -> None:
        """Begin to: the wait's own error may come sooner than the last stack, and names the file.
        Of waits that come to their end together the first one has them written."""
        path = stacks.new_file(self._folder)
        if self._writing is None or self._writing.done():
            why = f"{wait.who}: {lasted_s:.0f} s of {wait.limit_s:g} s for {wait.what}"
            self._writing = asyncio.create_task(self._written(path, why))
            self._path = path
        wait.stacks = str(self._path)

    async def _written(self, path: Path, why: str) -> None:
        try:
            await self._write(path, why)
        except OSError as error:
            self._note(f"{why}; their stacks cannot be written ({error})")
        else:
            self._note(f"{why}; the stacks of all processes are in {path}")

    async def close(self) -> None:
        """Wait, not for long, for stacks that are being written."""
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=CLOSE_S)
            self._writing.cancel()


@contextlib.asynccontextmanager
async def told(
    stall_s: float, folder: Path, note: Callable[[str], None], processes: Processes
) -> AsyncIterator[None]:
    """Look at waits while the block runs, and at this process's event loop.

    Args:
        stall_s, folder, note: As `Stalls` takes them.
        processes: Whose stacks are written.
    """
    stalls = Stalls(stall_s, folder, note, processes.write_stacks)
    file = folder / stacks.FOLDER / STANDSTILL
    with _opened(file) as standing:

        async def beat() -> None:
            try:
                while True:
                    faulthandler.dump_traceback_later(STANDSTILL_S, file=standing)
                    await stalls.look()
                    await asyncio.sleep(BEAT_S)
            except Exception as error:
                note(f"waits are looked at no more ({type(error).__name__}: {error})")
                raise
            finally:
                faulthandler.cancel_dump_traceback_later()

        beating = asyncio.create_task(beat())
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.gather(beating, stalls.close(), return_exceptions=True)
            _remove_if_empty(file)


def _opened(file: Path) -> IO[str]:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return file.open("a")  # behind what an attempt before has left
    except OSError:  # a full disk, of which others tell
        return open(os.devnull, "w")


def _remove_if_empty(file: Path) -> None:
    with contextlib.suppress(OSError):  # the folder is gone, or holds the stacks of a wait
        if not file.stat().st_size:
            file.unlink()
            file.parent.rmdir()

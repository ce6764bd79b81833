"""Where `oapl generate` puts groups: they become shards now and then, and at its end.

Invariants: groups that were put are written however the block ends, but for a kill and a disk that
takes nothing; one thread writes, so that no shard is written twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from deploy.run.stored_answers import as_stored
from oapl.groups_file import Header, Writer
from oapl.records import ScoredGroup


class Shelf:
    """Writes beside whatever goes on here.

    Args:
        writer: Of the set.
        held_s: Longest that groups are held back; a killed command makes them again.
    """

    def __init__(self, writer: Writer, held_s: float) -> None:
        self._writer = writer
        self._held_s = held_s
        self._written = time.monotonic()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shelf")

    async def put(self, scored: ScoredGroup) -> None:
        """Put a group there; return when that is done, and written where it is due."""
        await self._do(self._writer.add, as_stored(scored))
        if time.monotonic() - self._written > self._held_s:
            await self._do(self._writer.flush)
            self._written = time.monotonic()

    async def _do(self, act: Callable[..., None], *arguments: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, act, *arguments)

    async def end(self, *, is_whole: bool) -> None:
        """Write what is held, once what is being written is.

        Args:
            is_whole: Nothing went wrong: a set without groups says what it is, too.
        """
        await self._do(self._writer.close if is_whole else self._writer.flush)
        self._thread.shutdown(wait=False)


@contextlib.asynccontextmanager
async def shelf(folder: Path, header: Header, held_s: float) -> AsyncIterator[Shelf]:
    """Make groups a set, or more of one.

    Args:
        folder: The set.
        header: What it says of itself.
        held_s: As `Shelf` takes it.

    Raises:
        InputError: See `Writer`.
    """
    made = Shelf(Writer(folder, header), held_s)
    try:
        yield made
    except BaseException:
        with contextlib.suppress(OSError):  # a full disk may be why it ends, which others tell
            await made.end(is_whole=False)
        raise
    await made.end(is_whole=True)

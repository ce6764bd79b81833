"""What workers print, and what their programs and libraries do: all of it in one pipe, bounded.

Invariant: no more than `MAX_BYTES` of it reach the log of a fork server, whatever a user's reward
function prints per response; a worker never waits for the log, since the rest is read and let go.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

MAX_BYTES = 2**20
PIECE_BYTES = 2**16
_NOTICE = f"\n[what workers print from here on is left out: {MAX_BYTES:,} bytes are the limit]\n"


class WorkerOutput:
    """The pipe, and how much of it is still let through.

    Attributes:
        reader: Its end in the fork server, which never blocks.
    """

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.reader, False)
        self._left = MAX_BYTES

    def become(self) -> None:
        """Make the pipe this process's standard output and error; called in a worker."""
        os.dup2(self._writer, 1)
        os.dup2(self._writer, 2)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]

    def forward(self) -> bool:
        """Pass on one piece of what is there; False when nothing is."""
        try:
            piece = os.read(self.reader, PIECE_BYTES)
        except BlockingIOError:
            return False
        kept, had_room = piece[: self._left], self._left > 0
        self._left -= len(kept)
        if had_room and not self._left:
            kept += _NOTICE.encode()
        with suppress(OSError):  # a full disk is no reason to judge nothing
            while kept:
                kept = kept[os.write(2, kept) :]
        return bool(piece)

    def drain(self) -> None:
        """Pass on what is left when the fork server ends; bounded, for workers may go on."""
        for _ in range(2 * MAX_BYTES // PIECE_BYTES):
            if not self.forward():
                return

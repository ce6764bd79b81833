"""What is handed to a program: pipes to write into, files in memory that nobody can change."""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass, field

MIB = 2**20
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@dataclass(slots=True)
class Pipe:
    """The reading end of a pipe, and what came out of it."""

    reader: int
    cap: int
    data: bytearray = field(default_factory=bytearray)

    def take(self) -> bool:
        """Read what is there; False at the end of it."""
        while len(self.data) <= self.cap:
            try:
                piece = os.read(self.reader, MIB)
            except BlockingIOError:
                return True
            if not piece:
                return False
            self.data += piece
        return False


def make_pipe(opened: contextlib.ExitStack, cap: int) -> tuple[Pipe, int]:
    """Make a pipe whose reading end does not block.

    Args:
        opened: Closes the writing end.
        cap: Bytes beyond which `Pipe.take` reads no further.

    Returns:
        The reading end, and the descriptor of the writing end.
    """
    reader, writer = os.pipe()
    opened.callback(os.close, writer)
    os.set_blocking(reader, False)
    return Pipe(reader, cap), writer


def sealed(opened: contextlib.ExitStack, content: bytes) -> int:
    """Make a file in memory that nobody can change: runs that share it leave each other no notes.

    Args:
        opened: Closes it.
        content: What is in it.
    """
    descriptor = os.memfd_create("program", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    opened.callback(os.close, descriptor)
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor


def null(opened: contextlib.ExitStack) -> int:
    """Open the file that is always empty; `opened` closes it."""
    descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    opened.callback(os.close, descriptor)
    return descriptor

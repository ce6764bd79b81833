"""What passes between the server and its worker processes.

Frames are four bytes of length, then the body. Downwards the body is a pickle of our own records.
Upwards it is JSON and nothing else, and what it says is checked: a worker has run a model's text,
so its words are data, never an object to load. Beside the socket there is one number in shared
memory, `Begun`: cheap verdicts come up several at a time, and this tells at which item a worker is
that hangs or died.
"""

from __future__ import annotations

import fcntl
import json
import math
import mmap
import os
import re
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from oapl.records import KINDS, Verdict, VerdictKind

HEADER = struct.Struct("!I")
MAX_FRAME_BYTES = 2 * 1024 * 1024
MAX_ROWS = 128  # verdicts in a frame: as many as fit at their longest
MAX_DETAIL = 500
MAX_PARTS = 32
LARGEST = 1e300  # larger numbers, and integers of any length, are nobody's reward
FAILURE = "failure"  # stands for a kind of verdict where the prompt cannot be judged
_PART = re.compile(r"[A-Za-z0-9_.:-]{1,60}")  # a part of a metric's name


class Malformed(ValueError):
    """A worker sent something that is no answer."""


class Unjudged(ValueError):
    """The prompt cannot be judged: it lacks what its verifier needs."""


def pack(body: bytes) -> bytes:
    return HEADER.pack(len(body)) + body


def receive(connection: socket.socket) -> bytes | None:
    """The next body, blocking; None when the other end is gone."""
    header = _exactly(connection, HEADER.size)
    return None if header is None else _exactly(connection, HEADER.unpack(header)[0])


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    body = bytearray()
    while len(body) < count:
        piece = connection.recv(min(count - len(body), 1 << 20))
        if not piece:
            return None
        body += piece
    return bytes(body)


class Begun:
    """How many items a worker has begun, in a page of memory that it shares with its server.

    The page is sealed: a worker that shrank it would crash whoever reads it.
    """

    def __init__(self, descriptor: int) -> None:
        self._page = mmap.mmap(descriptor, mmap.PAGESIZE)
        self._count = memoryview(self._page).cast("Q")

    @staticmethod
    def descriptor() -> int:
        """A new page, to be mapped by both and closed."""
        descriptor = os.memfd_create("begun", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, mmap.PAGESIZE)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        return descriptor

    @property
    def count(self) -> int:
        return self._count[0]

    @count.setter
    def count(self, value: int) -> None:
        self._count[0] = value


class Frames:
    """Cuts a stream of bytes into frames of JSON."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The frames that are complete now; those before a malformed one count.

        Raises:
            Malformed: Too long, or no JSON object.
        """
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            (length,) = HEADER.unpack_from(self._buffer)
            if length > MAX_FRAME_BYTES:
                raise Malformed(f"an answer of {length} bytes")
            end = HEADER.size + length
            if len(self._buffer) < end:
                break
            body = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            yield _decoded(body)


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        frame = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed("an answer that is no JSON") from error
    if not isinstance(frame, dict):
        raise Malformed("an answer that is no JSON object")
    return frame


Row = Sequence[Any]
"""A verdict on its way up: kind, reward (None: it has none), detail, seconds, parts."""


def row(verdict: Verdict, seconds: float) -> Row:
    parts = {name: float(part) for name, part in verdict.parts.items()} if verdict.parts else {}
    detail = str(verdict.detail)[:MAX_DETAIL]
    return verdict.kind, float(verdict.reward), detail, seconds, parts


def verdict(row: Row) -> Verdict:
    """A row as a verdict, checked field by field: a payload may have written it.

    Raises:
        Malformed: It has not the form of a row.
        Unjudged: The worker says so.
    """
    try:
        kind, reward, detail, seconds, parts = row
    except (TypeError, ValueError) as error:
        raise Malformed("a verdict of another form") from error
    if not isinstance(detail, str) or not _is_finite(seconds):
        raise Malformed("a verdict of another form")
    if kind == FAILURE:
        raise Unjudged(detail)
    if kind not in KINDS:
        return unpaid("error", f"{kind!r:.60} is no kind of verdict", seconds)
    if reward is None:
        return unpaid(kind, detail, seconds)
    if not _is_finite(reward):
        return unpaid("error", f"the verifier gave the reward {reward!r:.60}", seconds)
    if parts and not _are_parts(parts):
        return unpaid("error", f"the verifier gave unusable parts: {parts!r:.200}", seconds)
    return Verdict(kind=kind, reward=reward, detail=detail, seconds=seconds, parts=parts)


def unpaid(kind: VerdictKind, detail: str, seconds: float = 0.0) -> Verdict:
    """A verdict without a reward of its own: `reward.on_failure` stands for it."""
    return Verdict(kind=kind, reward=math.nan, detail=detail, seconds=seconds)


def _is_finite(number: object) -> TypeGuard[float]:
    return isinstance(number, int | float) and -LARGEST < number < LARGEST


def _are_parts(parts: object) -> TypeGuard[Mapping[str, float]]:
    return (
        isinstance(parts, dict)
        and len(parts) <= MAX_PARTS
        and all(_PART.fullmatch(name) and _is_finite(part) for name, part in parts.items())
    )

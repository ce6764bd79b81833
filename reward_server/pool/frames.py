"""What passes between the server and its worker processes.

Frames are four bytes of length, then the body. Downwards the body is a pickle of our own records.
Upwards it is JSON and nothing else, and what it says is checked: a worker has run a model's text,
so its words are data, never an object to load. Beside the socket there is one number in shared
memory, `StartedCounter`: cheap verdicts come up several at a time, and this tells at which item a
worker is that hangs or died.
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
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from oapl.records import KINDS, Verdict, VerdictKind

HEADER = struct.Struct("!I")
MAX_FRAME_BYTES = 2 * 1024 * 1024
MAX_VERDICTS = 128  # verdicts in a frame: as many as fit at their longest
MAX_DETAIL = 500
MAX_PARTS = 32
LARGEST = 1e300  # larger numbers, and integers of any length, are nobody's reward
NUMBERS = (int, float)  # `int | float` would be made anew at each look
FAILURE = "failure"  # stands for a kind of verdict where the prompt cannot be judged
_PART = re.compile(r"[A-Za-z0-9_.:-]{1,60}")  # a part of a metric's name


class Malformed(ValueError):
    """A worker sent something that is no answer."""


def pack(body: bytes) -> bytes:
    """Put the length in front of a body."""
    return HEADER.pack(len(body)) + body


def receive(connection: socket.socket) -> bytes | None:
    """Wait for the next body; None when the other end is gone."""
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


class StartedCounter:
    """How many items a worker has started on, in a page of memory that it shares with its server.

    The page is sealed: a worker that shrank it would crash whoever reads it.

    Args:
        descriptor: What `StartedCounter.descriptor` made, here or in the process at the other end.
    """

    def __init__(self, descriptor: int) -> None:
        self._page = mmap.mmap(descriptor, mmap.PAGESIZE)
        self._count = memoryview(self._page).cast("Q")

    @staticmethod
    def descriptor() -> int:
        """Make a new page, to be mapped by both and closed."""
        descriptor = os.memfd_create("started", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, mmap.PAGESIZE)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        return descriptor

    @property
    def count(self) -> int:
        """The number of items; the worker sets it, and may set anything."""
        return self._count[0]

    @count.setter
    def count(self, value: int) -> None:
        self._count[0] = value


class FrameParser:
    """Cuts a stream of bytes into frames of JSON."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Give the frames that are complete now; those before a malformed one count.

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


class OutgoingVerdicts:
    """Verdicts on their way up, by column: JSON takes a fifth of the time of a list per verdict."""

    def __init__(self) -> None:
        self._kinds: list[str] = []
        self._rewards: list[float | None] = []
        self._details: list[str] = []
        self._ns: list[int] = []
        self._parts: dict[int, dict[str, float]] = {}

    def __len__(self) -> int:
        return len(self._kinds)

    def add(self, verdict: Verdict, nanoseconds: int) -> None:
        """Append a verdict with its reward.

        Args:
            verdict: What the verifier gave; a reward or part that is no number fails here.
            nanoseconds: What judging took.
        """
        reward = float(verdict.reward)  # what is no number fails here, before a column is touched
        if verdict.parts:
            parts = {name: float(part) for name, part in verdict.parts.items()}
            self._parts[len(self)] = parts
        self._add(verdict.kind, reward, str(verdict.detail), nanoseconds)

    def add_without_reward(self, kind: str, detail: str, nanoseconds: int) -> None:
        """Append a verdict without a reward: the verifier broke, or the prompt cannot be judged.

        Args:
            kind: A kind of verdict, or `FAILURE` where the prompt cannot be judged.
            detail: Why, in one line.
            nanoseconds: What judging took.
        """
        self._parts.pop(len(self), None)
        self._add(kind, None, detail, nanoseconds)

    def _add(self, kind: str, reward: float | None, detail: str, nanoseconds: int) -> None:
        self._kinds.append(kind)
        self._rewards.append(reward)
        self._details.append(detail[:MAX_DETAIL])
        self._ns.append(nanoseconds)

    def frame(self, first: int) -> dict[str, Any]:
        """Make a frame of them all; `first` is the number of the first, by the worker's count."""
        columns = {"kinds": self._kinds, "rewards": self._rewards, "details": self._details}
        return {"first": first, **columns, "ns": self._ns, "parts": self._parts}


def outcomes(frame: Mapping[str, Any]) -> Iterator[Verdict | str]:
    """Read the outcomes in a frame, checked field by field: a payload may have written it.

    Returns:
        Per item its verdict, or why its prompt cannot be judged.

    Raises:
        Malformed: It has another form.
    """
    columns = [frame.get(name) for name in ("kinds", "rewards", "details", "ns")]
    parts = frame.get("parts")
    lengths = {len(column) if isinstance(column, list) else -1 for column in columns}
    if len(lengths) > 1 or -1 in lengths or not isinstance(parts, dict):
        raise Malformed("verdicts of another form")
    kinds, rewards, details, times = columns
    rows = zip(kinds, rewards, details, times, strict=True)  # type: ignore[arg-type]
    for index, (kind, reward, detail, nanoseconds) in enumerate(rows):
        part = parts.get(str(index)) if parts else None
        yield _outcome(kind, reward, detail, nanoseconds, part)


def _outcome(kind: Any, reward: Any, detail: Any, nanoseconds: Any, parts: Any) -> Verdict | str:
    if not isinstance(detail, str) or not _is_finite(nanoseconds):
        raise Malformed("a verdict of another form")
    if kind == FAILURE:
        return detail
    seconds = nanoseconds / 1e9
    if kind not in KINDS:
        return without_reward("error", f"{kind!r:.60} is no kind of verdict", seconds)
    if reward is None:
        return without_reward(kind, detail, seconds)
    if not _is_finite(reward):
        return without_reward("error", f"the verifier gave the reward {reward!r:.60}", seconds)
    if parts is not None and not _are_parts(parts):
        return without_reward("error", f"the verifier gave unusable parts: {parts!r:.200}", seconds)
    return Verdict(kind=kind, reward=reward, detail=detail, seconds=seconds, parts=parts or {})


def without_reward(kind: VerdictKind, detail: str, seconds: float = 0.0) -> Verdict:
    """Make a verdict without a reward of its own (NaN): `reward.on_failure` stands for it.

    Args:
        kind: What became of the answer.
        detail: Why, in one line.
        seconds: What it took.
    """
    return Verdict(kind=kind, reward=math.nan, detail=detail, seconds=seconds)


def _is_finite(number: object) -> TypeGuard[float]:
    return isinstance(number, NUMBERS) and -LARGEST < number < LARGEST


def _are_parts(parts: object) -> TypeGuard[Mapping[str, float]]:
    return (
        isinstance(parts, dict)
        and len(parts) <= MAX_PARTS
        and all(_PART.fullmatch(name) and _is_finite(part) for name, part in parts.items())
    )

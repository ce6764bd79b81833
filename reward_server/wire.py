"""Frames between the server and its worker processes: four bytes of length, then the body.

Downwards the body is a pickle of our own records. Upwards it is JSON and nothing else: a worker
has run a model's text, so what it says is data to check, never an object to load.
"""

from __future__ import annotations

import json
import math
import re
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from oapl.records import KINDS, Verdict, VerdictKind

HEADER = struct.Struct("!I")
MAX_ANSWER_BYTES = 64 * 1024
MAX_PARTS = 32
LARGEST = 1e300  # larger numbers, and integers of any length, are nobody's reward
_PART = re.compile(r"[A-Za-z0-9_.:-]{1,60}")  # a part of a metric's name


class Malformed(ValueError):
    """A worker sent something that is no answer."""


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


class Answers:
    """Cuts a stream of bytes into answers."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The answers that are complete now; those before a malformed one count.

        Raises:
            Malformed: Too long, or no JSON object.
        """
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            (length,) = HEADER.unpack_from(self._buffer)
            if length > MAX_ANSWER_BYTES:
                raise Malformed(f"an answer of {length} bytes")
            end = HEADER.size + length
            if len(self._buffer) < end:
                break
            body = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            yield _decoded(body)


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed("an answer that is no JSON") from error
    if not isinstance(answer, dict):
        raise Malformed("an answer that is no JSON object")
    return answer


def verdict(answer: Mapping[str, Any]) -> Verdict:
    """A worker's answer as a verdict, checked field by field: a payload may have written it."""
    kind, reward, parts = answer.get("kind"), answer.get("reward"), answer.get("parts", {})
    detail, seconds = str(answer.get("detail", "")), answer.get("seconds")
    took = float(seconds) if _is_finite(seconds) else 0.0
    if kind not in KINDS:
        return unpaid("error", f"{kind!r:.60} is no kind of verdict", took)
    if reward is None:
        return unpaid(kind, detail, took)
    if not _is_finite(reward):
        return unpaid("error", f"the verifier gave the reward {reward!r:.60}", took)
    if not _are_parts(parts):
        return unpaid("error", f"the verifier gave unusable parts: {parts!r:.200}", took)
    return Verdict(
        kind=kind,
        reward=float(reward),
        detail=detail,
        seconds=took,
        parts={name: float(part) for name, part in parts.items()},
    )


def unpaid(kind: VerdictKind, detail: str, seconds: float = 0.0) -> Verdict:
    """A verdict without a reward of its own: `reward.on_failure` stands for it."""
    return Verdict(kind=kind, reward=math.nan, detail=detail, seconds=seconds)


def _is_finite(number: object) -> TypeGuard[float]:
    return isinstance(number, int | float) and -LARGEST < number < LARGEST


def _are_parts(parts: object) -> bool:
    return (
        isinstance(parts, dict)
        and len(parts) <= MAX_PARTS
        and all(_PART.fullmatch(name) and _is_finite(part) for name, part in parts.items())
    )

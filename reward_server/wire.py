"""Frames between the server and its worker processes: four bytes of length, then the body.

Downwards the body is a pickle of our own records. Upwards it is JSON and nothing else: a worker
has run a model's text, so what it says is data to check, never an object to load.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

HEADER = struct.Struct("!I")
MAX_ANSWER_BYTES = 64 * 1024


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

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The answers that are complete now.

        Raises:
            Malformed: Too long, or no JSON object.
        """
        self._buffer += data
        complete = []
        while len(self._buffer) >= HEADER.size:
            (length,) = HEADER.unpack_from(self._buffer)
            if length > MAX_ANSWER_BYTES:
                raise Malformed(f"an answer of {length} bytes")
            end = HEADER.size + length
            if len(self._buffer) < end:
                break
            complete.append(_decoded(bytes(self._buffer[HEADER.size : end])))
            del self._buffer[:end]
        return complete


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed("an answer that is no JSON") from error
    if not isinstance(answer, dict):
        raise Malformed("an answer that is no JSON object")
    return answer

"""What a program says of itself: why it failed, what a call gave. Nobody believes it."""

from __future__ import annotations

import json
import os
import types
from collections.abc import Mapping
from typing import Any

REPORT, CHANNEL = 4, 5
"""Descriptors: the report, and the way to whoever calls."""
MAX_ERROR = 300
READ_ONLY = 30  # errno: the root is


def compiled(source: str) -> types.CodeType:
    """Compile a program; one that cannot be compiled is reported, and the process ends."""
    try:
        return compile(source, "<program>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError) as error:
        send({"end": "compile_error", "error": line(error)})
        os._exit(1)


def ending(error: BaseException) -> dict[str, Any]:
    """Make a report of the exception that ended a program or a call."""
    kind = "raised"
    if isinstance(error, MemoryError):
        kind = "memory"
    elif isinstance(error, PermissionError) or getattr(error, "errno", 0) == READ_ONLY:
        kind = "denied"
    return {"end": kind, "error": line(error)}


def line(error: BaseException | None) -> str:
    """Give type and message in one line; the message is the program's own, and may itself raise."""
    name = type(error).__name__
    try:
        text = f"{name}: {error}"
    except BaseException:  # noqa: BLE001 - the program wrote that method
        text = name
    return " ".join(text.split())[:MAX_ERROR]


def send(message: Mapping[str, Any]) -> None:
    """Write into the report, whose first line counts."""
    write(REPORT, message)


def write(descriptor: int, message: Mapping[str, Any]) -> None:
    """Write a line of JSON; where the message cannot be one, an error in its place.

    Args:
        descriptor: The report's, or the channel's.
        message: What is to be said.
    """
    try:
        data = json.dumps(message).encode() + b"\n"
    except (ValueError, RecursionError, TypeError) as error:
        data = json.dumps({"end": "raised", "error": line(error)}).encode() + b"\n"
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]

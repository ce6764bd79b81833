"""Waits that end: every await on another process goes through `within`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from oapl.errors import DeadlineError

T = TypeVar("T")


async def within(seconds: float, what: Awaitable[T], description: str) -> T:
    """Await `what` for at most `seconds`.

    The remote side is not told: where a late answer would matter, the deadline travels to the
    callee as an argument instead.

    Args:
        seconds: Longest wait.
        what: Cancelled here when time is over.
        description: Who is awaited, for what; ends the sentence "waited 5 s for ...".

    Raises:
        DeadlineError: Names `description` and the time.
    """
    try:
        return await asyncio.wait_for(_await(what), seconds)
    except TimeoutError as error:
        if isinstance(error, DeadlineError):
            raise
        raise DeadlineError(f"waited {seconds:g} s for {description}") from error


async def _await(what: Awaitable[T]) -> T:
    return await what

"""A run has an event loop of its own, also where one runs already: in a notebook."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_alone(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end in a loop of its own, on this thread, where signals arrive.

    A loop that runs here stands still meanwhile, as for every call that blocks; asyncio only asks
    not to be told of it.
    """
    try:
        waiting = asyncio.get_running_loop()
    except RuntimeError:  # none, the usual case
        return asyncio.run(work)
    asyncio._set_running_loop(None)
    try:
        return asyncio.run(work)
    finally:
        asyncio._set_running_loop(waiting)
        asyncio.set_event_loop(waiting)

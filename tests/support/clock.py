"""An event loop whose clock leaps: what sleeps takes no time, and no processor is too slow."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

RESTLESS_TURNS = 20_000
"""Turns of the loop in which something always could go on: no act that ends takes so many."""
TURN_S = 1e-3
"""Of each turn after them."""


class LeapingLoop(asyncio.SelectorEventLoop):
    """Its time stands still while anything can go on, and leaps to the next timer when nothing can.

    Work in threads counts as going on. `time.monotonic` is not the loop's. What never rests, like a
    worker that dies as it starts and is started again at once, would keep every deadline from
    coming: after `RESTLESS_TURNS` time goes on beside it.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._num_threads = 0
        super().__init__(_Leaping(self))

    def time(self) -> float:
        return self._now

    def leap(self, seconds: float) -> None:
        self._now += seconds

    @property
    def has_threads(self) -> bool:
        return self._num_threads > 0

    def run_in_executor(
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        future = super().run_in_executor(executor, func, *args)
        self._num_threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, _: asyncio.Future[Any]) -> None:
        self._num_threads -= 1


class _Leaping(selectors.DefaultSelector):
    """Waits in earnest only for threads, or where no timer is set."""

    def __init__(self, loop: LeapingLoop) -> None:
        super().__init__()
        self._loop = loop
        self._restless = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        self._restless = self._restless + 1 if timeout == 0 else 0
        if self._restless > RESTLESS_TURNS:
            self._loop.leap(TURN_S)
        if not timeout:  # something else is ready, or no timer is set
            return super().select(timeout)
        if self._loop.has_threads:
            return super().select(None)
        found = super().select(0)
        if not found:
            self._loop.leap(timeout)
        return found

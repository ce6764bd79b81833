"""Few remote calls instead of many small ones.

A call between processes costs about 2 ms of processor time, both sides together, whatever it
carries. Invariants: each item is sent once and gets its own answer, or the error of the call that
carried it; what comes alone and after a pause waits `GATHER_S` and no longer; of what comes faster,
a call leaves every `PACE_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

GATHER_S = 0.003
"""How long the first item of a call waits for others: what ends in one engine step."""
PACE_S = 0.05
"""Least time between two calls: 20 a second cost less than a twentieth of a core."""
MAX_ITEMS = 64
"""In one call; more would wait for one another's slowest."""


class BatchedCalls(Generic[Item, Answer]):
    """Sends items that several tasks hand over, together.

    Args:
        send: The remote call; one answer per item, in order.
    """

    def __init__(self, send: Callable[[list[Item]], Awaitable[Sequence[Answer]]]) -> None:
        self._send = send
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._calls: set[asyncio.Task[None]] = set()
        self._left_at = float("-inf")

    async def __call__(self, items: Sequence[Item]) -> list[Answer]:
        """Send `items` with what others hand over meanwhile, and wait for their answers.

        Returns:
            One per item, in order.

        Raises:
            Exception: What the call that carried them raised.
        """
        loop = asyncio.get_running_loop()
        mine = [(item, loop.create_future()) for item in items]
        if mine and not self._waiting:
            loop.call_at(max(loop.time() + GATHER_S, self._left_at + PACE_S), self._leave)
        self._waiting += mine
        return await asyncio.gather(*(answer for _, answer in mine))

    def _leave(self) -> None:
        """Send what has gathered, but for items whose owners have left."""
        loop = asyncio.get_running_loop()
        self._left_at = loop.time()
        gathered = [one for one in self._waiting if not one[1].done()]
        self._waiting = []
        for start in range(0, len(gathered), MAX_ITEMS):
            call = loop.create_task(self._call(gathered[start : start + MAX_ITEMS]))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def _call(self, share: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._send([item for item, _ in share])
            pairs = list(zip(share, answers, strict=True))
        except Exception as error:  # noqa: BLE001 - raised again where each item is awaited
            for _, future in share:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in pairs:
            if not future.done():
                future.set_result(answer)

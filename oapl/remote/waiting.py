"""Waits that end: every wait for another process goes through `within`, or is bounded there."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from oapl.errors import DeadlineError
from oapl.remote.open_waits import OPEN

T = TypeVar("T")
U = TypeVar("U")


async def within(
    seconds: float, what: Awaitable[T], description: str, *, is_told: bool = True
) -> T:
    """Await `what` for at most `seconds`; meanwhile the wait stands in `OPEN`.

    The remote side is not told: where a late answer would matter, the deadline travels to the
    callee as an argument instead.

    Args:
        seconds: Longest wait.
        what: Cancelled here when time is over.
        description: Who is awaited, for what; ends the sentence "waited 5 s for ...".
        is_told: False where the other side may hold its answer back: that it lasts is no stall.

    Raises:
        DeadlineError: Names `description` and the time.
    """
    with OPEN.awaiting(description, seconds, is_told=is_told) as wait:
        try:
            async with asyncio.timeout(seconds) as limit:
                return await what
        except TimeoutError as error:
            if not limit.expired():  # the other side's own
                raise
            message = f"waited {seconds:g} s for {description}{wait.hint}"
            raise DeadlineError(message) from error


async def unless(stop: asyncio.Event, what: Awaitable[T]) -> T | None:
    """Await `what`, or until `stop` is set.

    Args:
        stop: Ends the wait; of two that come in the same turn, `what` counts.
        what: Cancelled here, and its end awaited, when `stop` comes first; not begun after it.

    Returns:
        What it brings; None when `stop` came first.
    """
    waiting, stopping = asyncio.ensure_future(what), asyncio.ensure_future(stop.wait())
    try:
        if not stop.is_set():
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else None
    finally:
        waiting.cancel()
        stopping.cancel()
        await asyncio.gather(waiting, stopping, return_exceptions=True)


async def both(first: Awaitable[T], second: Awaitable[U]) -> tuple[T, U]:
    """Await two things at once; when one fails, end the other, and raise what it failed of.

    Args:
        first, second: Cancelled here, and their ends awaited, when the other fails.

    Returns:
        What they bring.
    """
    acting = asyncio.ensure_future(first), asyncio.ensure_future(second)
    try:
        one, other = await asyncio.gather(*acting)
        return one, other
    finally:
        for act in acting:
            act.cancel()
        await asyncio.gather(*acting, return_exceptions=True)


async def in_thread_of_its_own(act: Callable[[], T], *, stays: bool = False) -> T:
    """Call what blocks and may never return: whoever waits can leave, and so can the process.

    A thread of asyncio's pool would keep the process at its end until the call returns.

    Args:
        act: Called once; what it raises is raised here.
        stays: The thread lives on after it: Linux ends processes that ask for it with the thread
            that started them.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def call() -> None:
        try:
            settle = partial(answer.set_result, act())
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            settle = partial(answer.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
            loop.call_soon_threadsafe(lambda: answer.done() or settle())
        if stays:
            threading.Event().wait()

    threading.Thread(target=call, daemon=True).start()
    return await answer


def call_within(seconds: float, act: Callable[[], T], description: str) -> T:
    """Call what blocks and may never return, for at most `seconds`; its thread is then left behind.

    Args:
        seconds: Longest wait.
        act: What it raises is raised here, `SystemExit` too.
        description: As `within` takes it.

    Raises:
        DeadlineError: It did not return in time.
    """
    answer: Future[T] = Future()

    def call() -> None:
        try:
            answer.set_result(act())
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            answer.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError as error:
        if answer.done():
            raise
        raise DeadlineError(f"waited {seconds:g} s for {description}") from error

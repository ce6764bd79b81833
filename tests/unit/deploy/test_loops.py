"""A run inside a loop that runs already, as in a notebook."""

import asyncio
import os
import signal

import pytest

from deploy.run.loops import run_alone


async def four() -> int:
    await asyncio.sleep(0)
    return 2 + 2


async def stopped_by_a_signal() -> str:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    old = signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(stop.set))
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(stop.wait(), 30)
    finally:
        signal.signal(signal.SIGTERM, old)
    return "stopped"


def test_without_a_loop_work_is_run_in_one():
    assert run_alone(four()) == 4


async def test_within_a_loop_work_is_run_in_another_and_the_first_goes_on():
    here = asyncio.get_running_loop()
    beside = asyncio.create_task(four())

    async def where() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert run_alone(where()) is not here
    assert asyncio.get_running_loop() is here is asyncio.get_event_loop()
    assert await beside == 4


async def test_what_work_raises_is_raised_and_the_loop_goes_on():
    async def fails() -> None:
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        run_alone(fails())
    assert await four() == 4


async def test_signals_reach_the_work_within_a_loop():
    assert run_alone(stopped_by_a_signal()) == "stopped"

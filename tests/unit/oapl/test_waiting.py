"""Waits end: by their own deadline, by a request to stop, or with what the other side says."""

import asyncio
import threading

import pytest

from oapl.errors import DeadlineError
from oapl.remote.waiting import call_within, in_thread_of_its_own, unless, within


async def raising(error):
    raise error


async def test_a_wait_that_is_over_names_who_was_awaited():
    with pytest.raises(DeadlineError, match=r"^waited 0\.01 s for the engine$"):
        await within(0.01, asyncio.sleep(60), "the engine")
    assert await within(60, asyncio.sleep(0, "here"), "the engine") == "here"


@pytest.mark.parametrize("error", [TimeoutError("30 s for its weights"), DeadlineError("its own")])
async def test_another_side_s_deadline_is_not_taken_for_ours(error):
    with pytest.raises(type(error)) as caught:
        await within(60, raising(error), "the engine")
    assert caught.value is error


async def test_a_stop_ends_a_wait_and_awaits_its_end():
    stop, ended = asyncio.Event(), []

    async def act():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append(1)

    asyncio.get_running_loop().call_later(0.01, stop.set)
    assert await unless(stop, act()) is None
    assert ended == [1]
    assert await unless(stop, act()) is None, "nothing is begun after it"
    assert ended == [1]
    assert await unless(asyncio.Event(), asyncio.sleep(0, "done")) == "done"
    with pytest.raises(KeyError):
        await unless(asyncio.Event(), raising(KeyError("x")))


async def test_who_waits_for_a_call_that_blocks_can_leave():
    assert await in_thread_of_its_own(lambda: 7) == 7
    with pytest.raises(KeyError):
        await in_thread_of_its_own(lambda: {}["x"])
    with pytest.raises(DeadlineError):
        await within(0.01, in_thread_of_its_own(threading.Event().wait), "nobody")


async def test_a_thread_that_stays_is_there_after_its_call():
    found = []
    await in_thread_of_its_own(lambda: found.append(threading.current_thread()), stays=True)
    await asyncio.sleep(0.05)
    assert found[0].is_alive()
    assert found[0].daemon


def test_a_call_has_its_deadline_without_an_event_loop_too():
    assert call_within(60, lambda: 7, "nobody") == 7
    with pytest.raises(DeadlineError, match=r"waited 0\.01 s for nobody"):
        call_within(0.01, threading.Event().wait, "nobody")
    for error in (SystemExit(1), TimeoutError("its own"), DeadlineError("its own")):
        with pytest.raises(type(error)) as caught:
            call_within(60, lambda error=error: (_ for _ in ()).throw(error), "nobody")
        assert caught.value is error

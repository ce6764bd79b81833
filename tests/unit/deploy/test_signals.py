"""Signals that ask a run to stop."""

import asyncio
import os
import signal

from deploy.run.signals import SIGNALS, Stop


async def test_the_first_signal_asks_to_stop_and_gives_the_next_one_back_to_whom_it_was_before():
    before = [signal.getsignal(number) for number in SIGNALS]
    stop = Stop()
    with stop.on_signals():
        assert [signal.getsignal(number) for number in SIGNALS] != before
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(stop.event.wait(), 30)
        assert stop.signal == signal.SIGTERM
        assert [signal.getsignal(number) for number in SIGNALS] == before
    assert [signal.getsignal(number) for number in SIGNALS] == before


async def test_without_a_signal_nothing_is_asked_and_the_handlers_of_before_are_back():
    before = [signal.getsignal(number) for number in SIGNALS]
    stop = Stop()
    with stop.on_signals():
        pass
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert (stop.signal, stop.event.is_set()) == (0, False)


async def test_in_another_thread_than_the_main_one_the_handlers_stay_their_owner_s():
    before = [signal.getsignal(number) for number in SIGNALS]

    async def visit() -> None:
        with Stop().on_signals():
            assert [signal.getsignal(number) for number in SIGNALS] == before

    await asyncio.to_thread(asyncio.run, visit())

"""Signals that ask a run to stop, and then end it."""

import asyncio
import os
import signal

import pytest

from deploy.run.outcome import RunOutcome
from deploy.run.signals import REARM_S, SIGNALS, Stop, Stopped


@pytest.fixture(autouse=True)
def terminal():
    """A closed one is heard of, also where the tests themselves run under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def handlers():
    return [signal.getsignal(number) for number in SIGNALS]


async def sent(number):
    """The signal, and the turns of the loop that it takes to be heard."""
    os.kill(os.getpid(), number)
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
async def test_the_first_signal_asks_says_so_and_hurries_what_is_no_step(number):
    before, told, hurried = handlers(), [], []
    stop = Stop()
    stop.tell = told.append
    with stop.on_signals(), stop.by(" after this step", lambda: hurried.append(1)):
        await sent(number)
        assert (stop.signal, stop.event.is_set(), stop.asked.is_set()) == (number, True, True)
    assert told == [f"{number.name}: stopping after this step; once more ends at once"]
    assert hurried == [1]
    assert handlers() == before


async def test_the_second_signal_cancels_the_task_and_the_third_is_nobody_s(monkeypatch):
    told = []

    async def run():
        stop = Stop()
        stop.tell = told.append
        try:
            with stop.on_signals():
                await sent(signal.SIGINT)
                assert signal.SIG_DFL not in handlers()
                os.kill(os.getpid(), signal.SIGTERM)
                try:
                    await asyncio.sleep(60)
                finally:
                    assert set(handlers()) == {signal.SIG_DFL}
        except asyncio.CancelledError:
            return stop.ended(RunOutcome(folder=None, step=3, next="resumes"))

    before = handlers()
    outcome = await asyncio.create_task(run())
    assert (outcome.signal, outcome.step, outcome.next) == (signal.SIGINT, 3, "resumes")
    assert told[1] == "SIGTERM again: ending at once"
    assert handlers() == before


async def test_without_a_signal_nothing_is_asked_and_the_handlers_of_before_are_back():
    before, stop = handlers(), Stop()
    with stop.on_signals():
        assert await stop.unless_asked(asyncio.sleep(0, "done")) == "done"
    assert handlers() == before
    assert (stop.signal, stop.event.is_set()) == (0, False)


async def test_a_signal_ends_what_is_awaited_and_what_would_be_begun_after_it():
    stop, acts = Stop(), []

    async def act(name):
        acts.append(name)
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            acts.append(f"{name} ended")

    with stop.on_signals():
        awaited = asyncio.create_task(stop.unless_asked(act("start")))
        await asyncio.sleep(0.01)
        await sent(signal.SIGTERM)
        with pytest.raises(Stopped):
            await asyncio.wait_for(awaited, 30)
        with pytest.raises(Stopped):
            await stop.unless_asked(act("evaluation"))
    assert acts == ["start", "start ended"]


async def test_a_handler_that_a_library_puts_in_place_is_put_away_again():
    stop = Stop()
    with stop.on_signals():
        ours = handlers()
        async with stop.rearmed():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            await asyncio.sleep(2 * REARM_S)
            assert handlers() == ours, "while the library is at it"
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        assert handlers() == ours, "after it"


async def test_after_the_second_signal_the_third_stays_nobody_s():
    stop = Stop()
    task = asyncio.current_task()
    with stop.on_signals():
        try:
            async with stop.rearmed():
                await sent(signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.sleep(60)
        except asyncio.CancelledError:
            task.uncancel()
        assert set(handlers()) == {signal.SIG_DFL}


async def test_the_end_of_a_terminal_that_was_to_be_ignored_is_ignored():
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop().on_signals():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, old)


async def test_in_another_thread_than_the_main_one_the_handlers_stay_their_owner_s():
    before = handlers()

    async def visit():
        with Stop().on_signals():
            assert handlers() == before

    await asyncio.to_thread(asyncio.run, visit())

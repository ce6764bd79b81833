"""Which waits go on is known while they do, and of those inside one another the outermost."""

import asyncio

import pytest

from oapl.errors import DeadlineError
from oapl.remote import open_waits, waiting
from oapl.remote.open_waits import OPEN, OpenWaits
from oapl.remote.waiting import within


async def test_a_wait_stands_in_the_list_as_long_as_it_lasts():
    answer = asyncio.get_running_loop().create_future()
    asking = asyncio.create_task(within(30, answer, "worker 0.0 to load version 3"))
    await asyncio.sleep(0)
    (wait,) = OPEN
    assert (wait.what, wait.limit_s) == ("worker 0.0 to load version 3", 30)
    answer.set_result(None)
    await asking
    assert list(OPEN) == []


async def test_a_wait_that_fails_is_forgotten_and_says_nothing_of_what_is_usual(monkeypatch):
    waits = OpenWaits()
    monkeypatch.setattr(waiting, "OPEN", waits)
    monkeypatch.setattr(open_waits, "SHORT_S", 0.001)
    with pytest.raises(DeadlineError):
        await within(0.001, asyncio.sleep(1), "version 7")
    assert (list(waits), waits.usual_s) == ([], {})
    await within(1, asyncio.sleep(0.002), "version 7")
    await within(1, asyncio.sleep(0), "version 8 of another kind")
    assert list(waits.usual_s) == ["version #"]
    assert waits.usual_s["version #"] >= 0.002


async def test_of_waits_inside_one_another_the_outermost_is_told_and_hints_at_its_stacks():
    waits = OpenWaits()
    with waits.awaiting("a batch", 9, who="learner") as outer:
        with waits.awaiting("replay to answer take", 60) as inner:
            assert list(waits) == [outer]
        assert inner is outer
        outer.stacks = "runs/x/stacks/now.txt"
    assert outer.hint == "; the stacks of all processes are in runs/x/stacks/now.txt"
    with waits.awaiting("the next", 9) as other:
        assert list(waits) == [other]


async def test_a_wait_begun_by_a_task_of_a_wait_that_is_over_is_told():
    waits, go = OpenWaits(), asyncio.Event()

    async def later():
        await go.wait()
        with waits.awaiting("a load", 9):
            assert [wait.what for wait in waits] == ["a load"]

    with waits.awaiting("a start", 9):
        task = asyncio.create_task(later())
        await asyncio.sleep(0)
    go.set()
    await task


async def test_an_answer_that_may_be_held_back_is_no_stall():
    waits = OpenWaits()
    with waits.awaiting("a server's troubles", 30, is_told=False):
        assert list(waits) == []


async def test_the_error_of_a_wait_names_the_file_of_stacks():
    async def look():
        while True:
            for wait in OPEN:
                wait.stacks = "stacks/now.txt"
            await asyncio.sleep(0.001)

    looking = asyncio.create_task(look())
    with pytest.raises(DeadlineError, match=r"for the engine; the stacks .* in stacks/now\.txt$"):
        await within(0.05, asyncio.sleep(9), "the engine")
    looking.cancel()
